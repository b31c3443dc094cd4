"""Sending files: a chunk whenever what was written before has left.

`FileSender` sends a file to any consumer, through a function if one is given. `sendFile` sends a part of a file over a
transport, and answers for the order: nothing else gets into the middle of it unnoticed.

Both are pull producers: the transport asks for the next chunk when the last one has left, so of the largest file there is one
chunk in memory, and none where the transport sends a file by itself (`writeFile`, on sendfile(2)). Reading a file blocks; from a
local disk that is shorter than a turn of the loop.
This room must never know sockets or the loop. The transport tells how much was written (`bytesSent`, `bytesBuffered`), and a
producer that is stopped knows that the connection is lost.

Rule: what the file or the transform raises is the Deferred's, not the engine's: the connection is not to blame.
Sources: twisted.protocols.basic.FileSender; IPullProducer; sendfile(2) for offset and count.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from functools import partial
from operator import index
from typing import IO, Any

from ropewalk.defer import Deferred
from ropewalk.failure import Failure

__all__ = ["FileSender", "InterleavedWriteError", "TransferStopped", "sendFile"]

# Bytes read and written at a time by sendFile. Source: a stream's high-water mark; what waits in it is no more than usual.
CHUNK = 65536
# Bytes that a transport sends by itself, in one piece; it holds none of them. Why so many: CPU per MiB from the page cache to the
# loopback was 680 µs read in chunks; 520 µs in pieces of 64 KiB, 280 of 256 KiB, 215 of 1 MiB (medians of three, same machine).
PART = 1 << 20


class TransferStopped(Exception):
    """The connection was lost, or closed by its own side, before the whole file was written.

    Args:   bytesWritten: how much of it was.
    """

    def __init__(self, bytesWritten: int) -> None:
        super().__init__(bytesWritten)
        self.bytesWritten = bytesWritten

    def __str__(self) -> str:
        return f"the consumer stopped the transfer after {self.bytesWritten} bytes"


class InterleavedWriteError(RuntimeError):
    """Something was written to a transport while a file was being sent over it, and is in the middle of the file now."""


class FileSender:
    """Sends a file, to its end, to a consumer.

    `CHUNK_SIZE` is how many bytes are read at a time. What others write to the consumer meanwhile gets between the chunks:
    some protocols want it so. `sendFile` is for those that do not.

    Source: twisted.protocols.basic.FileSender. Ours differs: docs/differences-from-twisted.md, "Framing".
    """

    CHUNK_SIZE: int = 2**14
    file: IO[bytes] | None = None
    consumer: Any = None
    transform: Callable[[bytes], bytes] | None = None
    deferred: Deferred[bytes] | None = None
    # The last byte that was written.
    lastSent: bytes = b""
    _written = 0

    def beginFileTransfer(
        self, file: IO[bytes], consumer: Any, transform: Callable[[bytes], bytes] | None = None
    ) -> Deferred[bytes]:
        """Send from where the file stands to its end.

        Args:    file: what has `read(size)`; it is not closed.
                 consumer: what has registerProducer, unregisterProducer and write: a transport.
                 transform: applied to each chunk; None sends it as it is.
        Returns: a Deferred with the last byte that was written, b"" for none. Cancelling it ends the transfer.
        Raises:  RuntimeError if the consumer has a producer already.
        Fails:   TransferStopped if the connection is lost; what file or transform raised.
        Order:   the first chunk is written before this returns.
        """
        self.file = file
        self.consumer = consumer
        self.transform = transform
        self._written = 0
        self.lastSent = b""
        deferred = self.deferred = Deferred(self._cancelled)
        try:
            consumer.registerProducer(self, False)
        except BaseException:
            self._let_go()
            raise
        return deferred

    def resumeProducing(self) -> None:
        """Write the next chunk; the consumer asks for it."""
        if self.deferred is None:
            return
        try:
            chunk = self._next_chunk()
        except Exception as exc:
            self._end(Failure(exc))
            return
        if not chunk:
            self._end(self.lastSent)
            return
        self._written += len(chunk)
        self.lastSent = chunk[-1:]
        self.consumer.write(chunk)

    def _next_chunk(self) -> bytes:
        assert self.file is not None
        # Why a loop: a transform may keep a chunk for later, and a consumer that was given nothing would not ask again.
        while chunk := self.file.read(self.CHUNK_SIZE):
            if self.transform is not None:
                chunk = self.transform(chunk)
            if chunk:
                return chunk
        return b""

    def pauseProducing(self) -> None:
        """Nothing: a chunk is only written when it is asked for."""

    def stopProducing(self) -> None:
        """The consumer has ended."""
        deferred = self._let_go()
        if deferred is not None:
            deferred.errback(TransferStopped(self._written))

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        consumer = self.consumer
        self._let_go()
        consumer.unregisterProducer()

    def _end(self, result: bytes | Failure) -> None:
        consumer = self.consumer
        deferred = self._let_go()
        # Why first: the callback may register the next producer.
        consumer.unregisterProducer()
        if deferred is not None:
            deferred.callback(result)

    def _let_go(self) -> Deferred[bytes] | None:
        deferred = self.deferred
        self.file = self.consumer = self.transform = self.deferred = None
        return deferred


def sendFile(transport: Any, file: IO[bytes], offset: int = 0, count: int | None = None) -> Deferred[int]:
    """Send a part of a file.

    What was written before goes out before it. Write what is to come behind it when the Deferred has fired: anything that is
    written before would be in the middle of the file, so it ends the transfer, and the connection is aborted.
    `loseConnection` may be called at once; it waits for the file.

    Args:    transport: a connection.
             file: open for reading bytes. If it can be positioned, it is before each read, so that one file may be sent over
                 many connections at a time. It is not closed. A regular file as `open(name, "rb")` gives it is not read at
                 all where the transport has `writeFile`: the kernel copies it.
             offset: where in the file to begin; from where it stands, if it cannot be positioned.
             count: how many bytes; None is to the end.
    Returns: a Deferred with the number of bytes sent, fired when the last has left for the kernel. Cancelling it ends the
             transfer in the middle, and leaves the connection to you.
    Raises:  TypeError for what is no whole number; ValueError for offset or count below 0, or an offset in a file that cannot be positioned; RuntimeError if the
             transport has a producer already.
    Fails:   TransferStopped if the connection is lost; EOFError if the file ends before `count` bytes;
             InterleavedWriteError; what reading raised.
    Order:   the first chunk is written before this returns: 1 MiB or less of a file that the kernel copies, which no hard limit
             counts; else 64 KiB or less, for which a hard limit must leave room.
    Source:  sendfile(2) for the meaning of offset and count. Twisted has no such function.
    """
    offset, count = index(offset), None if count is None else index(count)
    if offset < 0 or (count is not None and count < 0):
        raise ValueError(f"offset and count are 0 or more, not offset={offset!r}, count={count!r}")
    is_positioned = file.seekable()
    if offset and not is_positioned:
        raise ValueError(f"{file!r} cannot be positioned at {offset}")
    transfer = _Transfer(transport, file, offset if is_positioned else None, count)
    deferred = transfer.deferred
    try:
        transport.registerProducer(transfer, False)
    except BaseException:
        transfer.disown()
        raise
    return deferred


class _Transfer:
    """One part of a file on its way: the transport's producer until it has left."""

    __slots__ = (
        "_before",
        "_count",
        "_file",
        "_handed_over",
        "_is_over",
        "_offset",
        "_part",
        "_transport",
        "_was_asked",
        "_write_file",
        "_written",
        "deferred",
    )

    def __init__(self, transport: Any, file: IO[bytes], offset: int | None, count: int | None) -> None:
        self._transport = transport
        self._file = file
        self._offset = offset
        self._count = count
        self._written = 0
        self._is_over = self._was_asked = False
        # The part that the transport was given last, and how long it was then.
        self._part: Any = None
        self._handed_over = 0
        # Has the transport send a part of the file by itself; None where it, or the file, is not made for that.
        self._write_file = getattr(transport, "writeFile", None) if _is_regular(file) else None
        # What had been written to the transport when the transfer began.
        self._before = self._seen()
        self.deferred: Deferred[int] = Deferred(self._cancelled)

    def resumeProducing(self) -> None:
        self._was_asked = True
        if self._is_over:
            return
        if self._part is not None:
            # The file may have become shorter since its part was handed over.
            self._written -= self._handed_over - self._part.size
            self._part = None
        strange = self._seen() - self._before - self._written
        try:
            size, write = self._next()
            if not size and self._count not in (None, self._written):
                raise EOFError(f"{self._file!r} ended after {self._written} of {self._count} bytes")
        except Exception as exc:
            self._end(Failure(exc))
            return
        if not size:
            # Safe because: what others have written since the last chunk is behind it.
            self._end(self._written)
            return
        if strange:
            self._transport.abortConnection()
            error = f"{strange} bytes were written while a file was being sent, and are in the middle of it"
            self._end(Failure(InterleavedWriteError(error)))
            return
        try:
            part = write()
        except OSError:
            if self._write_file is None:
                raise
            # No descriptor to spare: the file is read.
            self._write_file = None
            self.resumeProducing()
            return
        if self._write_file is not None:
            self._part, self._handed_over = part, size
        if self._seen() != self._before + self._written + size:
            # Its own direction has ended, or it is being aborted: what is written is dropped, and it will not ask again.
            self._end(Failure(TransferStopped(self._written)))
        else:
            self._written += size

    def _seen(self) -> int:
        """Bytes that the transport was given so far."""
        return int(self._transport.bytesSent + self._transport.bytesBuffered)

    def _next(self) -> tuple[int, Callable[[], object]]:
        """How many bytes come next, 0 at the end, and what writes them."""
        file, transport = self._file, self._transport
        left = PART if self._count is None else self._count - self._written
        if self._write_file is not None and self._offset is not None:
            place = self._offset + self._written
            size = max(0, min(left, PART, os.fstat(file.fileno()).st_size - place))
            return size, partial(self._write_file, file, place, size)
        if self._offset is not None:
            file.seek(self._offset + self._written)
        chunk = file.read(min(left, CHUNK)) if left else b""
        if not isinstance(chunk, bytes):
            raise TypeError(f"{file!r} gives {type(chunk).__name__}, not bytes: open it in binary mode")
        return len(chunk), partial(transport.write, chunk)

    def disown(self) -> None:
        """It could not begin; who wanted it is told by an exception."""
        if self._was_asked:
            # Else it was not registered, and another one is.
            self._transport.unregisterProducer()
        self._is_over = True
        # Why: the two know each other until the Deferred is fired, and it never will be.
        self.deferred = Deferred()

    def stopProducing(self) -> None:
        if not self._is_over:
            self._is_over = True
            self.deferred.errback(TransferStopped(self._written))

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        self._is_over = True
        self._transport.unregisterProducer()

    def _end(self, result: int | Failure) -> None:
        self._is_over = True
        # Why first: the callback may send the next file.
        self._transport.unregisterProducer()
        self.deferred.callback(result)


def _is_regular(file: object) -> bool:
    """Whether the file's descriptor has just the bytes that reading gives.

    Why by exact type: a file of gzip's has a descriptor too, with other bytes behind it. Why not an empty one: the kernel's
    own files (/proc) say 0 and are read all the same.
    """
    if type(file) not in (io.BufferedReader, io.FileIO):
        return False
    status = os.fstat(file.fileno())  # type: ignore[attr-defined]
    return stat.S_ISREG(status.st_mode) and status.st_size > 0
