"""kqueue, the poller of macOS and the BSDs.

It must never know who watches a descriptor. kqueue thinks in filters, not in masks: reading and writing are
two registrations, each with an event of its own; here they become one row for each descriptor.

IN is EVFILT_READ, OUT is EVFILT_WRITE, both level-triggered. An end shows as EV_EOF, and `fflags` then holds
the socket's error: none for a FIN (which is IN: the read that follows says so), one for a reset (ERR and HUP,
as epoll would say). HUP alone, both directions shut, is when both filters report an end.

Mask 0 is EVFILT_READ with EV_CLEAR: one event per change instead of a level, so data or a FIN that nobody
wants wakes the loop once (and gives no row) and never makes it spin. An end with an error becomes ERR and
HUP, once: whoever is told acts, as the contract says of every ERR. What is not noticed at mask 0 is an
orderly end of both directions; epoll reports HUP there, here it shows when reading is wished for again.

EV_CLEAR cannot be changed on a filter that is there (FreeBSD keeps the old flag), so READ is deleted and
added anew when a mask becomes 0 or ceases to be. Changes go to the kernel at once, one call each. Rejected:
handing them over with the next wait; it saves calls, but a refusal would come when the caller is gone.

Regular files are refused, as epoll does: EVFILT_READ falls silent at their end, while the contract's "always
ready" is the loop's business. A descriptor closed behind our back vanishes from the queue without a word.

Written against a module passed in, since few who work on this have a BSD at hand: the tests run it on a
kqueue that is built over epoll.

Sources: kqueue(2) of FreeBSD and macOS; CPython, Modules/selectmodule.c; FAULTS.md B2, B3, B10, B11.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from typing import TYPE_CHECKING, Protocol, cast

from ropewalk._loop.poller import ERR, HUP, IN, OUT

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORGOTTEN = (errno.EBADF, errno.ENOENT)
_UNFIT = (errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP, errno.EPERM)
# Why: what the various kernels answer for a device that has no filter of this kind (/dev/null on macOS).


class KernelEvent(Protocol):
    """The part of `select.kevent` used here."""

    ident: int
    filter: int
    flags: int
    fflags: int


class KernelQueue(Protocol):
    """The part of `select.kqueue` used here."""

    def control(
        self, changes: Sequence[KernelEvent] | None, max_events: int, timeout: float | None, /
    ) -> list[KernelEvent]: ...
    def close(self) -> None: ...


class KqueueModule(Protocol):
    """The part of the module `select` used here, also where the type checker's platform has none."""

    KQ_FILTER_READ: int
    KQ_FILTER_WRITE: int
    KQ_EV_ADD: int
    KQ_EV_DELETE: int
    KQ_EV_CLEAR: int
    KQ_EV_EOF: int
    KQ_EV_ERROR: int

    def kqueue(self) -> KernelQueue: ...
    def kevent(self, ident: int, filter: int, flags: int, /) -> KernelEvent: ...


class Kqueue:
    """The poller over kqueue(2); see `Poller` for what each method promises."""

    __slots__ = ("_kernel", "_masks", "_queue", "_wishes", "close")

    name = "kqueue"
    notices_reset_at_mask_zero = True

    def __init__(self, kernel: KqueueModule | None = None) -> None:
        self._kernel = kernel = cast("KqueueModule", select) if kernel is None else kernel
        self._queue = kernel.kqueue()
        self._masks: dict[int, int] = {}
        read, write, add = kernel.KQ_FILTER_READ, kernel.KQ_FILTER_WRITE, kernel.KQ_EV_ADD
        self._wishes: dict[int, dict[int, int]] = {
            0: {read: add | kernel.KQ_EV_CLEAR},
            IN: {read: add},
            OUT: {write: add},
            IN | OUT: {read: add, write: add},
        }
        self.close = self._queue.close

    def register(self, fd: int, mask: int, /) -> None:
        self.unregister(fd)
        if _is_regular(fd):
            raise PermissionError(errno.EPERM, f"descriptor {fd} is a regular file, always ready")
        try:
            self._change(fd, {}, self._wishes[mask])
        except OSError as refusal:
            self._forget(fd, self._wishes[mask])
            if refusal.errno in _UNFIT:
                raise PermissionError(errno.EPERM, f"kqueue cannot watch descriptor {fd}") from refusal
            raise
        self._masks[fd] = mask

    def modify(self, fd: int, mask: int, /) -> None:
        if fd not in self._masks:
            raise FileNotFoundError(errno.ENOENT, f"descriptor {fd} is not registered")
        self._change(fd, self._wishes[self._masks[fd]], self._wishes[mask])
        self._masks[fd] = mask

    def unregister(self, fd: int, /) -> None:
        if fd in self._masks:
            self._forget(fd, self._wishes[self._masks.pop(fd)])

    def _change(self, fd: int, before: dict[int, int], after: dict[int, int]) -> None:
        self._forget(fd, {kind: flags for kind, flags in before.items() if after.get(kind) != flags})
        for kind, flags in after.items():
            if before.get(kind) != flags:
                self._queue.control([self._kernel.kevent(fd, kind, flags)], 0, 0)

    def _forget(self, fd: int, wishes: dict[int, int]) -> None:
        for kind in wishes:
            try:
                self._queue.control([self._kernel.kevent(fd, kind, self._kernel.KQ_EV_DELETE)], 0, 0)
            except OSError as refusal:
                if refusal.errno not in _FORGOTTEN:
                    raise

    def poll(self, timeout: float | None, limit: int, /) -> list[tuple[int, int]]:
        rows: dict[int, int] = {}
        ended: set[int] = set()
        for event in self._queue.control(None, limit, timeout):
            fd = event.ident
            mask = self._masks.get(fd)
            if mask is None:
                continue
            bits = rows.get(fd, 0) | self._bits(event, fd in ended) & (mask | ERR | HUP)
            if event.flags & self._kernel.KQ_EV_EOF:
                ended.add(fd)
            if bits:
                rows[fd] = bits
        return list(rows.items())

    def _bits(self, event: KernelEvent, other_side_ended: bool) -> int:
        kernel = self._kernel
        if event.flags & kernel.KQ_EV_ERROR:
            return ERR | HUP
        bits = IN if event.filter == kernel.KQ_FILTER_READ else OUT
        if event.flags & kernel.KQ_EV_EOF:
            if event.fflags:
                bits |= ERR | HUP
            elif other_side_ended:
                bits |= HUP
        return bits


def _is_regular(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        return False  # Why: it is not open, which the kernel itself is about to say.
