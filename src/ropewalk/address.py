"""Addresses: what `buildProtocol` is given and `getHost` and `getPeer` answer.

Four frozen values. They compare, hash and print by their fields, and only with their own class: an
IPv4Address never equals a tuple. Two UNIX addresses that name one file by two paths are equal.

This room must never resolve, parse or touch a socket; `_net/resolve.py` does the first two.

One IP address is made for every accepted connection, so making one has to be cheap. A frozen dataclass
assigns each field through `object.__setattr__`, which looks the name up every time; here the slots' own
setters are fetched once and called directly, which halves the time.
Rejected: NamedTuple, which is as quick, but equals any tuple with the same items and can be unpacked
by accident.
Source: Twisted's twisted.internet.address for names, fields, order of arguments and equality.
"""

import os
from dataclasses import dataclass
from typing import Literal

__all__ = ["HostnameAddress", "IPv4Address", "IPv6Address", "UNIXAddress", "display"]

type_names = ("TCP", "UDP")


def _refuse(given: object) -> None:
    raise ValueError(f"type must be one of {type_names}, not {given!r}")


@dataclass(frozen=True, slots=True, order=True, init=False)
class IPv4Address:
    """One end of an IPv4 socket.

    Args:     type: "TCP" or "UDP".
              host: dotted quad, e.g. "127.0.0.1".
              port: 0 to 65535.
    Raises:   ValueError for another type.
    Source:   IAddress.
    """

    type: Literal["TCP", "UDP"]
    host: str
    port: int

    def __init__(self, type: Literal["TCP", "UDP"], host: str, port: int) -> None:
        # hot: one for each accepted connection (tests/rooms/test_address.py).
        if type not in type_names:
            _refuse(type)
        _set_type4(self, type)
        _set_host4(self, host)
        _set_port4(self, port)


@dataclass(frozen=True, slots=True, order=True, init=False)
class IPv6Address:
    """One end of an IPv6 socket.

    Args:     type: "TCP" or "UDP".
              host: colon-separated hexadecimal, e.g. "::1".
              port: 0 to 65535.
              flowInfo: the flow label; most have no use for it.
              scopeID: the interface a link-local address belongs to, as number or name.
    Raises:   ValueError for another type.
    Source:   IAddress; RFC 4007 section 11 for scopes.
    """

    type: Literal["TCP", "UDP"]
    host: str
    port: int
    flowInfo: int
    scopeID: str | int

    def __init__(
        self, type: Literal["TCP", "UDP"], host: str, port: int, flowInfo: int = 0, scopeID: str | int = 0
    ) -> None:
        # hot: one for each accepted connection (tests/rooms/test_address.py).
        if type not in type_names:
            _refuse(type)
        _set_type6(self, type)
        _set_host6(self, host)
        _set_port6(self, port)
        _set_flow6(self, flowInfo)
        _set_scope6(self, scopeID)


# Safe because: a slot's descriptor writes the field without asking the frozen class's __setattr__, and
# only the two constructors above hold these names.
_set_type4 = IPv4Address.__dict__["type"].__set__
_set_host4 = IPv4Address.__dict__["host"].__set__
_set_port4 = IPv4Address.__dict__["port"].__set__
_set_type6 = IPv6Address.__dict__["type"].__set__
_set_host6 = IPv6Address.__dict__["host"].__set__
_set_port6 = IPv6Address.__dict__["port"].__set__
_set_flow6 = IPv6Address.__dict__["flowInfo"].__set__
_set_scope6 = IPv6Address.__dict__["scopeID"].__set__


@dataclass(frozen=True, slots=True, order=True)
class HostnameAddress:
    """A place by name, not yet looked up.

    Args:     hostname: as bytes, e.g. b"example.com".
              port: 0 to 65535.
    Source:   IAddress.
    """

    hostname: bytes
    port: int


@dataclass(frozen=True, slots=True, eq=False, repr=False, init=False)
class UNIXAddress:
    """One end of a UNIX socket.

    Equal if the names are equal or, failing that, if both name the same file now.

    Args:     name: path, as str, bytes or path object; kept as bytes. b"\\0…" is Linux's abstract
                  name space. None for an end that has no name.
    Source:   IAddress; unix(7).
    """

    name: bytes | None

    def __init__(self, name: str | bytes | os.PathLike[str] | None) -> None:
        object.__setattr__(self, "name", None if name is None else os.fsencode(name))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UNIXAddress):
            return NotImplemented
        if self.name == other.name:
            return True
        mine = _identity(self.name)
        return mine is not None and mine == _identity(other.name)

    def __hash__(self) -> int:
        # Why: two paths to one file are equal, so they must hash alike; that asks the file system.
        return hash(_identity(self.name) or self.name)

    def __repr__(self) -> str:
        return f"UNIXAddress({None if self.name is None else os.fsdecode(self.name)!r})"


def _identity(name: bytes | None) -> tuple[int, int] | None:
    """The file's (inode, device), None if there is no such file to ask about."""
    if not name:
        return None
    try:
        found = os.stat(name)
    except (OSError, ValueError):  # ValueError: an abstract name, it begins with a zero byte
        return None
    return found.st_ino, found.st_dev


def display(address: object) -> str:
    """The address as messages and events show it: "127.0.0.1:80", "[fe80::1%2]:80", "unix:/run/x"."""
    if isinstance(address, IPv6Address):
        scope = f"%{address.scopeID}" if address.scopeID and "%" not in address.host else ""
        return f"[{address.host}{scope}]:{address.port}"
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, HostnameAddress):
        return f"{repr(address.hostname)[2:-1]}:{address.port}"
    if isinstance(address, UNIXAddress):
        # Why repr's inside, here and above: names may hold line ends and zero bytes; logs must not.
        return "unix:" + ("" if address.name is None else repr(os.fsdecode(address.name))[1:-1])
    return repr(address)
