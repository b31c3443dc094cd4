"""What every poller must do, and the choice of the best one here.

A poller asks the kernel which descriptors are ready. It must never know what a descriptor belongs to: it
deals in numbers and bits, the loop in watchers. Each mechanism of an operating system has one file beside
this one.

Strategy: the contract below is epoll's own, since epoll is the hot one and then needs no Python between the
loop and the kernel: rows of (descriptor, bits), the bits being those of poll(2), level-triggered. The others
translate.

Mask 0 is part of the contract, and the reason why this is not the standard library's `selectors`: a
descriptor whose stream is paused or half-closed stays registered with no wishes. It is then silent for data
and for the peer's FIN, but an error or a reset still shows (ERR, HUP), so that a dead peer is noticed and
nothing spins.

Rejected: asking for POLLRDHUP. It is a level too, so a half-closed connection would be ready for ever.
Rejected: edge-triggered epoll. One more state per descriptor, to save a system call that level-triggering
does not make either while a mask stays as it is.
Rejected: holding generations here. Who a row is meant for is the loop's knowledge; a poller only promises
that a row is for a descriptor that is registered at the time of the call.

Sources: epoll(7), epoll_ctl(2), poll(2), select(2), kqueue(2); FAULTS.md, sections 1 and B.
"""

from __future__ import annotations

import errno
import select
from typing import Protocol

IN = 1
OUT = 4
ERR = 8
HUP = 16
# Source: POLLIN, POLLOUT, POLLERR, POLLHUP; the same numbers in poll(2) on Linux, macOS and the BSDs, and in
# epoll_ctl(2).

LONGEST_WAIT = 86_400.0
# Why: epoll and poll count milliseconds in a C int (24.8 days) and raise OverflowError beyond. Whoever calls
# `poll` clips its timeout to one day: easy to remember, and an idle program wakes up once a day for it.

NAMES = ("epoll", "kqueue", "poll", "select")
# Best first: epoll and kqueue cost what is ready, poll and select cost what is registered; select cannot
# count beyond 1023.

_REFUSALS = (errno.ENOSYS, errno.EPERM)
# Why: a kernel without epoll, or a sandbox that forbids it, answers so. Anything else (no descriptor left) is
# the caller's.


class Poller(Protocol):
    """One of the kernel's ways to wait for many descriptors at once.

    Order:  a descriptor is unregistered before it is closed; after `close` nothing but `close` is called.
    Source: epoll(7). The parameters have no names for the caller, so that a C method can stand in for a
            Python one.
    """

    name: str
    """Which of `NAMES` it is."""

    notices_reset_at_mask_zero: bool
    """Whether a reset of a descriptor with mask 0 is reported. Only select() cannot."""

    def register(self, fd: int, mask: int, /) -> None:
        """Watch a descriptor for IN, OUT, both, or (mask 0) for nothing but ERR and HUP.

        A number that is registered already is taken to have been closed and reused behind our back: the new
        wish holds, except that epoll may answer FileExistsError, and then `modify` makes it hold.

        Raises: PermissionError if the kernel cannot poll this kind of file (epoll: regular files), which is
                always ready;
                ValueError if the number is beyond what the mechanism can hold (select);
                OSError (EBADF) if it is not open.
        """

    def modify(self, fd: int, mask: int, /) -> None:
        """Change what a registered descriptor is watched for.

        Raises: OSError (ENOENT, EBADF) if it is not registered, or was closed behind our back and the kernel
                forgot it.
        """

    def unregister(self, fd: int, /) -> None:
        """Watch a descriptor no more. Never raises for one that is not registered, or not open any more."""

    def poll(self, timeout: float | None, limit: int, /) -> list[tuple[int, int]]:
        """Wait until something is ready.

        Args:    timeout: seconds, from 0 to `LONGEST_WAIT`, rounded up to what the kernel counts in; None
                 waits for ever.
                 limit: the most rows wanted, at least 1. Where more are ready, the rest comes first at the
                 next call.
        Returns: (descriptor, bits), at most one row per descriptor, registered ones only. ERR and HUP come
                 unasked, IN and OUT only if asked for. It may be empty before the timeout is over.
        Raises:  what a signal handler raises that ran meanwhile; an interruption alone is waited out (PEP
                 475).
        """

    def close(self) -> None:
        """Give the kernel's object back. Calling it twice is fine."""


def available() -> tuple[str, ...]:
    """The names of the pollers this Python was built with, best first."""
    return tuple(name for name in NAMES if hasattr(select, name))


def choose(kind: str | None) -> Poller:
    """Open the poller of that name, or the best there is.

    Args:    kind: one of `NAMES`; None for the best one that the kernel grants.
    Raises:  ValueError naming the value and what is available; OSError if the kernel refuses the one asked
             for.
    """
    names = available()
    if kind is not None:
        if kind not in names:
            raise ValueError(f"no poller {kind!r} here; available: {', '.join(names)}")
        return _open(kind)
    for name in names[:-1]:
        try:
            return _open(name)
        except OSError as refusal:
            if refusal.errno not in _REFUSALS:
                raise
    return _open(names[-1])


def _open(name: str) -> Poller:
    # Why: imported here, since a mechanism that is not used should cost nothing, and since their files import
    # this one.
    if name == "epoll":
        from ropewalk._loop.epoll import Epoll

        return Epoll()
    if name == "kqueue":
        from ropewalk._loop.kqueue import Kqueue

        return Kqueue()
    if name == "poll":
        from ropewalk._loop.poll import Poll

        return Poll()
    from ropewalk._loop.select import Select

    return Select()


def fair_share(rows: list[tuple[int, int]], limit: int, waiting: dict[int, None]) -> list[tuple[int, int]]:
    """At most `limit` of the rows, those passed over last time first.

    `waiting` holds the descriptors passed over, the longest waiting first, and is brought up to date; for the
    mechanisms that report all that is ready at once, always in the same order.
    """
    if len(rows) <= limit:
        waiting.clear()
        return rows
    bits = dict(rows)
    turns = dict.fromkeys(fd for fd in waiting if fd in bits)
    turns.update(dict.fromkeys(bits))
    # Safe because: updating a dict keeps the place of the keys it had, so those that wait stay in front.
    queue = list(turns)
    waiting.clear()
    waiting.update(dict.fromkeys(queue[limit:]))
    return [(fd, bits[fd]) for fd in queue[:limit]]
