"""poll(2), the poller of every POSIX system that has neither epoll nor kqueue.

It must never know who watches a descriptor. The whole list is handed to the kernel at each call, so a call
costs what is registered, not what is ready; nothing else is against it: no limit on numbers, mask 0 reports
errors and hang-ups as epoll does, regular files are always ready as the standard says.

The bits are the contract's own but for one: POLLNVAL, "this descriptor is not open". The table would take such
a number, so `register` looks for itself. Later it is the only sign that somebody closed a descriptor behind our
back, and it comes at once, at every call, whatever the mask. Rule: it is reported as ERR and HUP, so that the
owner is told as of any lost connection; it is level-triggered like the rest and ends when the owner unregisters.
Rejected: reporting it once and swallowing it then, since the kernel would go on answering at once and the loop
would spin with nothing to do.

The kernel names everything that is ready, in the order of registration. Where that is more than the limit,
`fair_share` lets those passed over come first the next time.

Sources: poll(2), POSIX.1-2017; CPython, Modules/selectmodule.c; FAULTS.md B1, B2, B12.
"""

from __future__ import annotations

import math
import os
import select
from typing import TYPE_CHECKING, Protocol, cast

from ropewalk._loop.poller import ERR, HUP, IN, OUT, fair_share

if TYPE_CHECKING:
    from collections.abc import Callable

_NOT_OPEN = 32  # Source: POLLNVAL, the same number on Linux, macOS and the BSDs.
_ALL = IN | OUT | ERR | HUP


class KernelPoll(Protocol):
    """The part of what `select.poll()` returns used here."""

    def register(self, fd: int, eventmask: int, /) -> None: ...
    def modify(self, fd: int, eventmask: int, /) -> None: ...
    def unregister(self, fd: int, /) -> None: ...
    def poll(self, timeout: float | None, /) -> list[tuple[int, int]]: ...


class PollModule(Protocol):
    """The part of the module `select` used here."""

    def poll(self) -> KernelPoll: ...


class Poll:
    """The poller over poll(2); see `Poller` for what each method promises."""

    __slots__ = ("_add", "_remove", "_wait", "_waiting", "modify")

    name = "poll"
    notices_reset_at_mask_zero = True

    def __init__(self, kernel: PollModule | None = None) -> None:
        table = (cast("PollModule", select) if kernel is None else kernel).poll()
        # Safe because: the table is a dictionary in CPython: a number registered twice has its mask replaced.
        self._add: Callable[[int, int], None] = table.register
        self.modify: Callable[[int, int], None] = table.modify
        self._remove: Callable[[int], None] = table.unregister
        self._wait: Callable[[float | None], list[tuple[int, int]]] = table.poll
        self._waiting: dict[int, None] = {}

    def register(self, fd: int, mask: int, /) -> None:
        if fd >= 0:  # Why: a negative number is the table's to refuse.
            os.fstat(fd)  # Why: it raises EBADF at once, while it is known who is to blame.
        self._add(fd, mask)

    def unregister(self, fd: int, /) -> None:
        try:
            self._remove(fd)
        except KeyError:
            return  # Why: whoever stops watching twice has what was wanted.

    def poll(self, timeout: float | None, limit: int, /) -> list[tuple[int, int]]:
        milliseconds = None if timeout is None else math.ceil(timeout * 1000)
        rows = [
            (fd, bits & _ALL | ERR | HUP if bits & _NOT_OPEN else bits & _ALL)
            for fd, bits in self._wait(milliseconds)
        ]
        return fair_share(rows, limit, self._waiting)

    def close(self) -> None:
        """Nothing to give back: poll(2) keeps nothing in the kernel between two calls."""
        self._waiting.clear()
