"""A kqueue for Linux, so that the translation in ropewalk/_loop/kqueue.py runs on real sockets here too.

Each filter is an epoll of its own, all three inside a fourth: that gives what kqueue has and poll(2) has not,
namely registrations that vanish with the open file, one event per change for EV_CLEAR (edge-triggered), and
turns among what is ready. Faithful to FreeBSD where it matters to the code under test: adding a filter that
is there does not change its EV_CLEAR; deleting one that is not there fails with ENOENT; EV_EOF comes on READ
after the peer's FIN, on WRITE when nothing can be sent any more, with the socket's error in `fflags`; a
pipe's end has no error; the error is not consumed by being reported.

What epoll cannot imitate is scripted: `script` holds events to be returned instead, `refusals` the errno for
a change. `journal` keeps the changes asked for, `waits` what was asked of each wait.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Why: the type checker must also be content where the platform has no epoll.
kernel: Any = select


@dataclass
class Kevent:
    ident: int
    filter: int = -1
    flags: int = 1
    fflags: int = 0


class FakeKqueueModule:
    """What `select` has on a BSD. Numbers as in FreeBSD's sys/event.h."""

    KQ_FILTER_READ = -1
    KQ_FILTER_WRITE = -2
    KQ_EV_ADD = 0x0001
    KQ_EV_DELETE = 0x0002
    KQ_EV_CLEAR = 0x0020
    KQ_EV_ERROR = 0x4000
    KQ_EV_EOF = 0x8000

    def __init__(self) -> None:
        self.queue = FakeKqueue()

    def kqueue(self) -> FakeKqueue:
        self.queue.open()
        return self.queue

    def kevent(self, ident: int, filter: int, flags: int, /) -> Kevent:
        return Kevent(ident, filter, flags)


class FakeKqueue:
    def __init__(self) -> None:
        self.script: list[Kevent] | None = None
        self.refusals: dict[tuple[int, int], int] = {}
        self.journal: list[tuple[int, int, int]] = []
        self.waits: list[tuple[int, float | None]] = []
        self._turn = 0

    def open(self) -> None:
        self._read, self._edge, self._write, self._any = (kernel.epoll() for _ in range(4))
        self._parts = [self._read, self._edge, self._write]
        self._asked = {
            self._read: kernel.EPOLLIN | kernel.EPOLLRDHUP,
            self._edge: kernel.EPOLLIN | kernel.EPOLLRDHUP | kernel.EPOLLET,
            self._write: kernel.EPOLLOUT,
        }
        for part in self._parts:
            self._any.register(part.fileno(), kernel.EPOLLIN)

    def close(self) -> None:
        for part in (*self._parts, self._any):
            part.close()

    def control(
        self, changes: Sequence[Any] | None, max_events: int, timeout: float | None = None, /
    ) -> list[Any]:
        for change in changes or ():
            self._apply(change)
        if not max_events:
            return []
        self.waits.append((max_events, timeout))
        if self.script is not None:
            return self.script[:max_events]
        self._any.poll(timeout, len(self._parts))
        events: list[Kevent] = []
        self._turn += 1
        for each in range(len(self._parts)):
            part = self._parts[(self._turn + each) % len(self._parts)]
            if len(events) < max_events:
                events += [self._event(part, *row) for row in part.poll(0, max_events - len(events))]
        return events

    def _apply(self, change: Kevent) -> None:
        self.journal.append((change.ident, change.filter, change.flags))
        refusal = self.refusals.get((change.filter, change.flags))
        if refusal is not None:
            raise OSError(refusal, os.strerror(refusal))
        reading = change.filter == FakeKqueueModule.KQ_FILTER_READ
        parts = [self._read, self._edge] if reading else [self._write]
        present = [part for part in parts if self._is_in(part, change.ident)]
        if change.flags & FakeKqueueModule.KQ_EV_DELETE:
            os.fstat(change.ident)  # EBADF, if so
            if not present:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            for part in present:
                part.unregister(change.ident)
        elif not present:
            part = parts[-1] if not reading or change.flags & FakeKqueueModule.KQ_EV_CLEAR else self._read
            try:
                part.register(change.ident, self._asked[part])
            except PermissionError:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None

    def _is_in(self, part: Any, fd: int) -> bool:
        try:
            part.modify(fd, self._asked[part])
        except OSError:
            return False
        return True

    def _event(self, part: Any, fd: int, bits: int) -> Kevent:
        flags, fflags = FakeKqueueModule.KQ_EV_ADD, 0
        if part is self._edge:
            flags |= FakeKqueueModule.KQ_EV_CLEAR
        if bits & (kernel.EPOLLRDHUP | kernel.EPOLLHUP | kernel.EPOLLERR):
            flags |= FakeKqueueModule.KQ_EV_EOF
        if bits & kernel.EPOLLERR and stat.S_ISSOCK(os.fstat(fd).st_mode):
            fflags = errno.ECONNRESET
        filter = FakeKqueueModule.KQ_FILTER_WRITE if part is self._write else FakeKqueueModule.KQ_FILTER_READ
        return Kevent(fd, filter, flags, fflags)
