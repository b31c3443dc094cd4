"""A clock, a pair of sockets and a poller that do what a test says: what a Loop needs, and nothing of a kernel.

`Kernel` is the clock and the pair; its time moves only when somebody waits, or when the test moves it. `Script` is the
poller: it gives the rows that were put into it, batch by batch, and notes how it was asked.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from ropewalk._loop.loop import Loop


class End:
    """One end of the waker's pair."""

    def __init__(self, fd: int, capacity: int = 8) -> None:
        self.fd = fd
        self.peer: End
        self.waiting = b""
        self.capacity = capacity
        self.error = 0
        self.is_open = True

    def fileno(self) -> int:
        return self.fd

    def send(self, data: bytes) -> int:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        if len(self.peer.waiting) >= self.capacity:
            raise BlockingIOError(errno.EAGAIN, "full")
        self.peer.waiting += data
        return len(data)

    def recv(self, size: int) -> bytes:
        if not self.waiting:
            raise BlockingIOError(errno.EAGAIN, "empty")
        data, self.waiting = self.waiting[:size], self.waiting[size:]
        return data

    def close(self) -> None:
        self.is_open = False


class Kernel:
    """The clock, the pair and the process."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.process = 77
        # Why -1: no descriptor of this process, into which the interpreter would write its signals.
        self.reader, self.writer = End(3), End(-1)
        self.reader.peer, self.writer.peer = self.writer, self.reader

    def monotonic(self) -> float:
        return self.time

    def socket_pair(self) -> tuple[End, End]:
        return self.reader, self.writer

    def process_id(self) -> int:
        return self.process


class Script:
    """A poller that gives what it was told to give."""

    name = "script"
    notices_reset_at_mask_zero = True

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.batches: deque[list[tuple[int, int]]] = deque()
        self.masks: dict[int, int] = {}
        self.asked: list[tuple[float | None, int]] = []
        self.refusals: dict[int, OSError] = {}
        self.refusals_to_modify: dict[int, OSError] = {}
        self.is_open = True
        # Called while it waits: what another thread, or a signal, does meanwhile.
        self.meanwhile: Callable[[], object] = int

    @property
    def timeouts(self) -> list[float | None]:
        return [timeout for timeout, _ in self.asked]

    def register(self, fd: int, mask: int) -> None:
        if fd in self.refusals:
            raise self.refusals[fd]
        self.masks[fd] = mask

    def modify(self, fd: int, mask: int) -> None:
        if fd in self.refusals_to_modify:
            raise self.refusals_to_modify[fd]
        self.masks[fd] = mask

    def unregister(self, fd: int) -> None:
        del self.masks[fd]

    def poll(self, timeout: float | None, limit: int) -> list[tuple[int, int]]:
        self.asked.append((timeout, limit))
        self.meanwhile()
        if self.batches:
            return self.batches.popleft()
        if timeout:
            self._kernel.time += timeout
        return []

    def close(self) -> None:
        self.is_open = False


class Watching:
    """A watcher that notes its events, and then does what the test wants."""

    def __init__(self, then: Callable[[int], Any] = int) -> None:
        self.events: list[int] = []
        self.then = then

    def ready(self, event: int) -> None:
        self.events.append(event)
        self.then(event)

    def shut_down(self) -> None: ...

    def disown(self) -> None: ...


class Flushing:
    """Something that becomes due: it notes that it was flushed."""

    def __init__(self, note: Callable[[], object]) -> None:
        self.flush = note


def small_loop() -> tuple[Loop, Kernel, Script]:
    kernel = Kernel()
    script = Script(kernel)
    return Loop(kernel, script), kernel, script
