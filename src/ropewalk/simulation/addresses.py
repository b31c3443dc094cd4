"""Socket addresses as programs write them, and as the kernel shows them.

Inside the simulated kernel an address is its canonical text and a port; an IPv4 address that an IPv6 socket uses
("::ffff:192.0.2.1") is the IPv4 address. At the border it is the tuple that Python's `socket` takes and gives: two parts
for IPv4, four for IPv6.

Errors are Python's own: what `socket` refuses before the kernel is asked is refused here in the same way.
It must never know which addresses exist. Source: the Python library reference, `socket`, "Socket families"; RFC 4291.
"""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache
from typing import Any

from ropewalk.simulation.ports import ANY_IPV4, ANY_IPV6

Name = tuple[str, int]


@lru_cache(maxsize=4096)
def canonical(text: str) -> str | None:
    """The canonical text of an address, without `%scope`; None if it is a name."""
    text = text.partition("%")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def parse(call: str, family: int, sockaddr: Any) -> tuple[Name, int]:
    """The name and the scope in what a program passed.

    Raises: TypeError, OverflowError, socket.gaierror as Python's socket does.
    """
    if not isinstance(sockaddr, tuple):
        raise TypeError(
            f"{call}(): {'AF_INET6' if family == socket.AF_INET6 else 'AF_INET'} address must be tuple"
        )
    if not 2 <= len(sockaddr) <= (4 if family == socket.AF_INET6 else 2):
        raise TypeError(f"{call}(): wrong number of parts: {sockaddr!r}")
    host, port = sockaddr[0], sockaddr[1]
    if not 0 <= port <= 65535:
        raise OverflowError(f"{call}(): port must be 0-65535.")
    if host == "":
        host = ANY_IPV6 if family == socket.AF_INET6 else ANY_IPV4
    address = canonical(host)
    if address is None:
        raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {host!r}; look names up first")
    if (":" in host) is not (family == socket.AF_INET6):
        raise socket.gaierror(
            getattr(socket, "EAI_ADDRFAMILY", socket.EAI_FAMILY), "Address family for hostname not supported"
        )
    scope = sockaddr[3] if len(sockaddr) == 4 else 0
    return (address, port), scope


def show(family: int, name: Name, scope: int = 0) -> tuple[Any, ...]:
    """A name as Python's socket gives it."""
    address, port = name
    if family == socket.AF_INET:
        return address, port
    if ":" not in address:
        # Why: an IPv6 socket shows the IPv4 addresses it deals with as mapped ones; nothing bound yet is "::".
        address = ANY_IPV6 if address == ANY_IPV4 else f"::ffff:{address}"
    return address, port, 0, scope
