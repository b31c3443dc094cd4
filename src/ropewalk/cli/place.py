"""HOST:PORT as people write it: names, IPv4, bracketed IPv6, port numbers and service names.

One function each for the two commands that take a place, because they differ in what may be left away: to
connect needs both parts, to listen needs the port only. What cannot be meant is refused here, with a message
that repeats the value and says what would be right; whether a name exists is for the resolver to find out.

This room knows text only: no socket, no click.
Rejected: urllib.parse. It takes "localhost:80" for the scheme "localhost".
"""

import ipaddress
import re
from typing import NamedTuple

__all__ = ["Place", "place_to_connect", "place_to_listen"]


class Place(NamedTuple):
    """Where to connect to or listen on. The port is a number, or the name of a service."""

    host: str
    port: int | str

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def place_to_connect(text: str) -> Place:
    """The place `text` names, e.g. "localhost:80", "[::1]:80", "example.com:https".

    Raises:   ValueError that repeats the text and says what is wrong with it.
    """
    host, port = _parts(text)
    if not host:
        raise ValueError(f"{text!r} names no host: HOST:PORT is needed, for example localhost:{port or 80}")
    number = _port(text, port)
    if number == 0:
        raise ValueError(f"{text!r}: nothing can be reached at port 0")
    return Place(host, number)


def place_to_listen(text: str) -> Place:
    """The place `text` names, e.g. "8007", "localhost:8007", "[::]:8007". No host means every interface.

    Raises:   ValueError that repeats the text and says what is wrong with it.
    """
    host, port = ("", text) if re.fullmatch(r"[\w-]+", text, re.ASCII) else _parts(text)
    return Place("" if host == "*" else host, _port(text, port))


def _parts(text: str) -> tuple[str, str]:
    """Host and port as written, brackets removed."""
    if not text.isprintable() or any(each.isspace() for each in text):
        raise ValueError(f"{text!r} has a space or control character in it: HOST:PORT is needed")
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text)
    if bracketed:
        host, port = bracketed[1], bracketed[2] or ""
        if not _is_ipv6(host):
            raise ValueError(f"{text!r}: {host!r} in the brackets is no IPv6 address")
        return host, port
    if _is_ipv6(text) or text.count(":") > 1:
        raise ValueError(f"{text!r}: an IPv6 address needs brackets before its port, for example [::1]:80")
    host, colon, port = text.partition(":")
    if not colon:
        raise ValueError(f"{text!r} has no port: HOST:PORT is needed, for example {text or 'localhost'}:80")
    return host, port


def _port(text: str, port: str) -> int | str:
    if not port:
        raise ValueError(f"{text!r} has no port after the host")
    if re.fullmatch(r"-?\d+", port, re.ASCII):
        # Why the length: int() refuses thousands of digits with words of its own.
        number = int(port) if len(port) < 9 else -1
        if not 0 <= number <= 65535:
            raise ValueError(f"{text!r}: the port {port[:20]!r} is not between 0 and 65535")
        return number
    # Source: RFC 6335 section 5.1, letters, digits and hyphens; some registered names have "_", "+", "." too.
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", port, re.ASCII):
        raise ValueError(f"{text!r}: the port {port!r} is neither a number nor the name of a service")
    return port


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True
