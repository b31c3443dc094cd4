"""Names of the simulated world: what a look-up answers, and when.

One directory for all hosts: each host's own name, "localhost", and the records that a test writes. A record may have
several addresses of both families, a delay, an error instead of addresses, or stay silent for ever. Answers come as
happenings in virtual time, never from within the asking call, as from a resolver's thread.

It must never know sockets. Sources: getaddrinfo(3) for rows and errors; RFC 6761 for "localhost"; glibc gives the loopback
addresses of "localhost" IPv6 first, as RFC 6724 sorts them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

from ropewalk.simulation.addresses import canonical, family_of
from ropewalk.simulation.world import World

# Seconds. Source: an answer from the cache of a resolver nearby takes about a millisecond.
_DELAY = 0.001
# Source: Linux, /etc/services.
_SERVICES = {
    "echo": 7, "discard": 9, "daytime": 13, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "http": 80,
    "pop3": 110, "ntp": 123, "imap": 143, "https": 443, "imaps": 993, "mysql": 3306, "postgresql": 5432, "redis": 6379,
}  # fmt: skip

# Why a default: not every C library tells "no address of that family" from "no such name".
_EAI_NODATA = getattr(socket, "EAI_NODATA", socket.EAI_NONAME)

Answer = list[tuple[Any, ...]] | BaseException


class Record:
    """What one name answers."""

    __slots__ = ("addresses", "delay", "error", "is_silent")

    def __init__(
        self,
        addresses: Iterable[str] = (),
        delay: float = _DELAY,
        error: int | BaseException | None = None,
        is_silent: bool = False,
    ) -> None:
        self.addresses = [_checked(address) for address in addresses]
        self.delay = delay
        self.error = error
        self.is_silent = is_silent


class Directory:
    """All names, and all services."""

    __slots__ = ("_records", "_world", "outage", "services")

    def __init__(self, world: World) -> None:
        self._world = world
        self._records: dict[str, Record] = {"localhost": Record(["::1", "127.0.0.1"], 0.0)}
        self.services = dict(_SERVICES)
        # The error of getaddrinfo that every look-up gives at the moment, but those that ask nobody; None for none.
        self.outage: int | None = None

    def write(self, name: str, record: Record) -> None:
        self._records[_folded(name)] = record

    def look_up(
        self, name: str, port: int | str, family: int, kind: int, done: Callable[[Any], object]
    ) -> float | None:
        """Let `done` be called with the answer, later; after how many seconds, or None if never."""
        record = _literal(name) or self._records.get(_folded(name)) or Record(error=socket.EAI_NONAME)
        if self.outage is not None and record.delay:
            record = Record(error=self.outage)
        if record.is_silent:
            return None
        self._world.after(record.delay, done, self._answer(record, port, family, kind))
        return record.delay

    def _answer(self, record: Record, port: int | str, family: int, kind: int) -> Answer:
        error = record.error
        if isinstance(error, BaseException):
            return error
        if error is not None:
            return socket.gaierror(error, _TEXTS.get(error, "the look-up failed"))
        number = self.services.get(port, 0) if isinstance(port, str) else int(port or 0)
        rows: list[tuple[Any, ...]] = []
        for address in record.addresses:
            here = family_of(address)
            if family in (socket.AF_UNSPEC, here):
                rows.append(
                    (socket.AddressFamily(here), kind, socket.IPPROTO_TCP, "", _sockaddr(address, number))
                )
        if not rows:
            return socket.gaierror(_EAI_NODATA, _TEXTS[_EAI_NODATA])
        return rows

    def service_port(self, name: str, protocol: str) -> int:
        """Raises: OSError for a service that nobody knows, in the words of getservbyname."""
        try:
            return self.services[name]
        except KeyError:
            raise OSError(f"service/proto not found: {name}/{protocol}") from None


_TEXTS = {
    _EAI_NODATA: "No address associated with hostname",
    socket.EAI_NONAME: "Name or service not known",
    socket.EAI_AGAIN: "Temporary failure in name resolution",
    socket.EAI_FAIL: "Non-recoverable failure in name resolution",
}


def _folded(name: str) -> str:
    return name.rstrip(".").lower()


def _checked(address: str) -> str:
    found = canonical(address)
    if found is None:
        raise ValueError(f"a name has IPv4 and IPv6 addresses, not {address!r}")
    return found


def _literal(name: str) -> Record | None:
    address = canonical(name)
    return None if address is None else Record([address], 0.0)


def _sockaddr(address: str, port: int) -> tuple[Any, ...]:
    return (address, port, 0, 0) if ":" in address else (address, port)
