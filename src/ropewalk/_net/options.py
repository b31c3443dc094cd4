"""TCP options in one frozen record, checked when it is made, applied before a socket is used.

Options are per socket and set once: on a socket that is about to connect, or on a listening one, whose accepted sockets
inherit them (Linux) or get them one by one (`stream_options_inherited`). What the stream itself needs (its limits, its
close deadline) rides in the same record, so that a call has one `options=` and not twelve parameters.

Defaults: TCP_NODELAY on, since an event-driven program writes whole messages and the engine already gathers the writes
of one handler; everything else as the kernel has it.
Source: tcp(7), socket(7), ipv6(7).
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

Setting = tuple[int, int, int]
# Source: setsockopt(2) takes a C int; userTimeout is counted in milliseconds.
_MOST = 2**31 - 1
# Source: Linux, include/net/tcp.h: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT.
_KEEP_ALIVE_MOST = (32767, 32767, 127)
# Source: Twisted's bufferSize, 2**16; what users tune their producers to.
HIGH_WATER = 65536
# Seconds without progress after which a connection that is being closed is aborted. Source: CONTRACT section 5.
CLOSE_TIMEOUT = 60.0
# Seconds until the next address is tried beside the first. Source: RFC 8305 section 8, Connection Attempt Delay.
ATTEMPT_DELAY = 0.25
FAMILIES = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}


@dataclass(frozen=True, slots=True, kw_only=True)
class TCPOptions:
    """How a TCP connection, or those of a port, are set up.

    Args:   noDelay: send small segments at once (TCP_NODELAY).
            keepAlive: (idle, interval, count) in seconds (1 to 32767), seconds (the same), probes (1 to 127); None leaves
                it off.
            userTimeout: seconds after which unacknowledged data ends the connection (TCP_USER_TIMEOUT, Linux);
                None leaves it to the kernel.
            receiveBuffer, sendBuffer: bytes (SO_RCVBUF, SO_SNDBUF); None lets the kernel tune them.
            reusePort: let several processes listen on one port (SO_REUSEPORT).
            dualStack: an IPv6 port takes IPv4 connections as well (IPV6_V6ONLY off).
            highWater: bytes waiting above which a producer is paused.
            lowWater: bytes waiting at or below which it is resumed.
            hardLimit: bytes waiting above which the connection is aborted; None for no limit.
            closeTimeout: seconds without progress after which a closing connection is aborted; None waits for ever.
            attemptDelay: seconds until the next address is tried while one is still connecting.
            family: "IPv4" or "IPv6", to connect by that alone; None for both.
    Raises: TypeError, ValueError naming the option, the value and what would be right, or that this system lacks it.
    """

    noDelay: bool = True
    keepAlive: tuple[float, float, int] | None = None
    userTimeout: float | None = None
    receiveBuffer: int | None = None
    sendBuffer: int | None = None
    reusePort: bool = False
    dualStack: bool = False
    highWater: int = HIGH_WATER
    lowWater: int = 0
    hardLimit: int | None = None
    closeTimeout: float | None = CLOSE_TIMEOUT
    attemptDelay: float = ATTEMPT_DELAY
    family: str | None = None
    # What to tell the kernel, each as setsockopt takes it; before connect or listen.
    settings: tuple[Setting, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_limits(self.highWater, self.lowWater, self.hardLimit)
        for name in ("noDelay", "reusePort", "dualStack"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, not {getattr(self, name)!r}")
        for name in ("receiveBuffer", "sendBuffer"):
            value = getattr(self, name)
            if value is not None and not (_is_whole(value) and value > 0):
                raise ValueError(f"{name} must be a whole number above 0, not {value!r}")
            if value is not None and value > _MOST:
                raise ValueError(f"{name} must be at most {_MOST}, not {value!r}")
        for name in ("userTimeout", "closeTimeout"):
            check_seconds(name, getattr(self, name))
        if self.userTimeout is not None and self.userTimeout * 1000 > _MOST:
            raise ValueError(f"userTimeout must be at most {_MOST // 1000} s, not {self.userTimeout!r}")
        if not _is_number(self.attemptDelay):
            raise ValueError(f"attemptDelay must be a number above 0, not {self.attemptDelay!r}")
        if self.family not in (None, *FAMILIES):
            raise ValueError(f"family must be {', '.join(FAMILIES)} or None, not {self.family!r}")
        object.__setattr__(self, "settings", tuple(self._settings()))

    def but(self, **changed: Any) -> TCPOptions:
        """The same with some options changed. Raises: as the constructor."""
        return replace(self, **changed)

    def _settings(self) -> Iterator[Setting]:
        if self.noDelay:
            yield socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        if self.receiveBuffer is not None:
            yield socket.SOL_SOCKET, socket.SO_RCVBUF, self.receiveBuffer
        if self.sendBuffer is not None:
            yield socket.SOL_SOCKET, socket.SO_SNDBUF, self.sendBuffer
        if self.userTimeout is not None:
            yield socket.IPPROTO_TCP, _constant("TCP_USER_TIMEOUT"), int(self.userTimeout * 1000) or 1
        if self.keepAlive is not None:
            yield from keep_alive_settings(self.keepAlive)


def keep_alive_settings(timing: tuple[float, float, int]) -> list[Setting]:
    """(idle s, interval s, probes) as the kernel takes them. Raises: ValueError for what it does not take."""
    if not (
        isinstance(timing, tuple)
        and len(timing) == 3
        and all(
            _is_number(each) and 1 <= each <= most
            for each, most in zip(timing, _KEEP_ALIVE_MOST, strict=True)
        )
    ):
        raise ValueError(
            "keepAlive must be (idle s, interval s, count), each 1 or more and at most "
            f"{_KEEP_ALIVE_MOST}, not {timing!r}"
        )
    idle, interval, probes = timing
    # Source: macOS names TCP_KEEPIDLE TCP_KEEPALIVE.
    idle_option = getattr(socket, "TCP_KEEPIDLE", None) or _constant("TCP_KEEPALIVE")
    return [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, idle_option, int(idle)),
        (socket.IPPROTO_TCP, _constant("TCP_KEEPINTVL"), int(interval)),
        (socket.IPPROTO_TCP, _constant("TCP_KEEPCNT"), int(probes)),
    ]


def check_limits(high: int, low: int, hard: int | None) -> None:
    """Raises: ValueError unless 0 <= low <= high, and high <= hard where there is a hard limit."""
    if not (_is_whole(low) and _is_whole(high) and 0 <= low <= high):
        raise ValueError(f"write limits must be 0 <= low <= high, not low {low!r}, high {high!r}")
    if hard is not None and not (_is_whole(hard) and hard >= high):
        raise ValueError(f"the hard limit must be at least the high-water mark {high}, not {hard!r}")


def check_seconds(name: str, value: float | None) -> None:
    """Raises: ValueError naming the option, unless it is None or a finite number above 0."""
    if value is not None and not _is_number(value):
        raise ValueError(f"{name} must be a number above 0, not {value!r}")


def _constant(name: str) -> int:
    try:
        return int(getattr(socket, name))
    except AttributeError:
        raise ValueError(f"this system has no {name}") from None


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    """A finite number above 0. Why the largest float: an int above it is no number of seconds that can be added up."""
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_one and 0 < value <= sys.float_info.max  # type: ignore[operator]


DEFAULT_OPTIONS = TCPOptions()
