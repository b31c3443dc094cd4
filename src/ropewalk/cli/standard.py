"""Standard input and output as things a reactor watches, so that neither ever blocks the loop.

`Input` hands over what it reads and can be paused: it is a push producer. `Output` takes bytes, writes them as
the other end takes them, and says when it holds too much and when that is over.

Why descriptors stay in blocking mode: the flag belongs to the open file, not to us; a shell or another process
of the pipeline that shares the terminal would find its reads failing. So we read and write only when the poller
says so, and write no more at a time than can never block.
Source: pipe(7): a pipe that polls writable takes PIPE_BUF bytes at once.

Rejected: threads that copy. They cannot be paused, and end only when the other side does.
"""

import errno
import os
import stat
from collections.abc import Callable
from select import PIPE_BUF
from typing import Any

from ropewalk import Reactor

__all__ = ["Input", "Output"]

READ_SIZE = 65536  # bytes; what the engine reads from a socket at a time
HIGH_WATER = 65536  # bytes; more than that waiting for stdout pauses the connection
FILE_CHUNK = 1 << 20  # bytes; a regular file takes all it is given, so this only bounds one turn of the loop


class Input:
    """Reads a descriptor to its end.

    Args:   reactor: who watches it.
            fd: the descriptor, 0 for standard input.
            received: called with the bytes of each read.
            ended: called once, at the end of the input; not if `stop` came first.
    """

    def __init__(
        self, reactor: Reactor, fd: int, received: Callable[[bytes], None], ended: Callable[[], None]
    ) -> None:
        self.reactor = reactor
        self.fd = fd
        self.received = received
        self.ended = ended
        self.over = False

    def start(self) -> None:
        """Begin to read. A descriptor that is closed already (`<&-`) counts as empty."""
        try:
            os.fstat(self.fd)
        except OSError:
            self._end()
        else:
            self.resumeProducing()

    def resumeProducing(self) -> None:
        if not self.over:
            self.reactor.addReader(self)

    def pauseProducing(self) -> None:
        if not self.over:
            self.reactor.removeReader(self)

    def stopProducing(self) -> None:
        """Read no more; `ended` will not be called."""
        self.pauseProducing()
        self.over = True

    def _end(self) -> None:
        if not self.over:
            self.stopProducing()
            self.ended()

    # --- what the reactor asks of a descriptor ---

    def fileno(self) -> int:
        return self.fd

    def logPrefix(self) -> str:
        return "standard input"

    def doRead(self) -> None:
        try:
            data = os.read(self.fd, READ_SIZE)
        except BlockingIOError:
            return  # Safe because: whoever shares the descriptor read first; readiness comes again.
        except OSError:
            data = b""  # Why: a terminal that went away gives EIO, and that is the end of what it types.
        if data:
            self.received(data)
        else:
            self._end()

    def doWrite(self) -> None:
        raise AssertionError("standard input is never written to")

    def connectionLost(self, reason: Any) -> None:
        self._end()


class Output:
    """Writes to a descriptor whatever it is given, in order, as fast as the other end takes it.

    Args:   reactor: who watches it.
            fd: the descriptor, 1 for standard output.
            broken: called once with the error if nobody will read what is written; what waits is dropped.
    """

    def __init__(self, reactor: Reactor, fd: int, broken: Callable[[OSError], None]) -> None:
        self.reactor = reactor
        self.fd = fd
        self.broken = broken
        self.waiting = bytearray()
        self.is_broken = False
        self.producer: Any = None
        self.producer_is_paused = False
        self.done: Callable[[], None] | None = None
        self.chunk = PIPE_BUF

    def start(self, producer: Any) -> None:
        """Pause and resume `producer` as the bytes that wait become many and few."""
        self.producer = producer
        try:
            if stat.S_ISREG(os.fstat(self.fd).st_mode):
                self.chunk = FILE_CHUNK
        except OSError as exc:
            self._break(exc)

    def write(self, data: bytes) -> None:
        if self.is_broken:
            return
        if not self.waiting:
            self.reactor.addWriter(self)
        self.waiting += data
        if len(self.waiting) > HIGH_WATER and not self.producer_is_paused:
            self.producer_is_paused = True
            self.producer.pauseProducing()

    def finish(self, done: Callable[[], None]) -> None:
        """Call `done` as soon as nothing waits any more, now if that is so."""
        if self.waiting:
            self.done = done
        else:
            done()

    def _break(self, exc: OSError) -> None:
        self.is_broken = True
        self.waiting.clear()
        self.reactor.removeWriter(self)
        self.broken(exc)
        self._emptied()

    def _emptied(self) -> None:
        if self.producer_is_paused:
            self.producer_is_paused = False
            self.producer.resumeProducing()
        if self.done is not None:
            done, self.done = self.done, None
            done()

    # --- what the reactor asks of a descriptor ---

    def fileno(self) -> int:
        return self.fd

    def logPrefix(self) -> str:
        return "standard output"

    def doRead(self) -> None:
        raise AssertionError("standard output is never read")

    def doWrite(self) -> None:
        waiting = self.waiting
        try:
            taken = os.write(self.fd, waiting[: self.chunk])
        except BlockingIOError:
            return  # Safe because: somebody else filled it first; readiness comes again.
        except OSError as exc:
            self._break(exc)
            return
        del waiting[:taken]  # Why a bytearray: this moves a pointer, not the bytes.
        if not waiting:
            self.reactor.removeWriter(self)
            self._emptied()

    def connectionLost(self, reason: Any) -> None:
        if not self.is_broken:
            self._break(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
