"""A connected pair of local sockets: what wakes a simulated loop.

What is sent at one end can be read at the other at once, no network in between. The ends hold what the engine's waker
needs: send, recv, close, a bounded buffer. Both may be used by other threads; `deque` makes that safe.

The sending end has no number that the operating system could be given (`fileno` is -1): Python's `signal.set_wakeup_fd`
would write to whatever real descriptor has that number. Safe because: a simulated loop never sleeps, so a signal's handler
runs before the next bytecode and needs no byte to be noticed.
Source: unix(7), socketpair(2).
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from ropewalk.simulation.endpoint import HUP, IN, OUT
from ropewalk.simulation.faults import kernel_error
from ropewalk.simulation.watching import Watched

if TYPE_CHECKING:
    from ropewalk.simulation.host import Host

# Bytes that wait at most. Source: of the size of Linux's default for local sockets, net.core.wmem_default, 212992.
_CAPACITY = 212_992


class PairEnd:
    """One end of a pair."""

    __slots__ = ("_fd", "_host", "_is_hidden", "_peer", "_received", "_size", "watched")

    def __init__(self, host: Host, is_hidden: bool) -> None:
        self._host = host
        self._peer: PairEnd | None = None
        self._received: deque[bytes] = deque()
        self._size = 0
        self._is_hidden = is_hidden
        self._fd = host.descriptors.add(self)
        self.watched = Watched(self._fd)

    def join(self, peer: PairEnd) -> None:
        self._peer = peer
        peer._peer = self

    def fileno(self) -> int:
        return -1 if self._is_hidden else self._fd

    def send(self, data: bytes) -> int:
        if self._fd < 0:
            raise kernel_error(errno.EBADF)
        peer = self._peer
        if peer is None or peer._fd < 0:
            raise kernel_error(errno.EPIPE)
        if peer._size + len(data) > _CAPACITY:
            raise kernel_error(errno.EAGAIN)
        peer._received.append(bytes(data))
        peer._size += len(data)
        peer.watched.changed()
        return len(data)

    def recv(self, size: int) -> bytes:
        if self._fd < 0:
            raise kernel_error(errno.EBADF)
        self.watched.unanswered = 0
        if not self._received:
            if self._peer is None or self._peer._fd < 0:
                return b""
            raise kernel_error(errno.EAGAIN)
        parts = [self._received.popleft()]
        while self._received and sum(map(len, parts)) < size:
            parts.append(self._received.popleft())
        data = b"".join(parts)
        if len(data) > size:
            self._received.appendleft(data[size:])
            data = data[:size]
        self._size -= len(data)
        return data

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if self.watched.leave():
            self._host.misdeeds.append(f"{self.describe()}, {fd}: closed while a poller had it")
        self._host.descriptors.remove(fd)
        if self._peer is not None:
            self._peer.watched.changed()
            self._peer = None

    def vanish(self) -> None:
        self._fd = -1
        self._peer = None
        self._received.clear()

    def readiness(self) -> int:
        bits = OUT if self._peer is not None and self._peer._size < _CAPACITY else 0
        if self._peer is None or self._peer._fd < 0:
            bits |= IN | HUP
        return bits | IN if self._received else bits

    def describe(self) -> str:
        return "local pair"
