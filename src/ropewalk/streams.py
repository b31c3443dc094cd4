"""Streams: a connection as bytes that are awaited, instead of a protocol that is called.

    stream = await streams.open("tcp:example.org:80")
    async with stream:
        await stream.write(b"hello\\n")
        async for line in stream.lines():
            ...

A `ByteStream` has a buffer of what came and was not read yet, and lets the transport wait when that is full; `write` waits
when the transport has too much to send. So neither side ever holds more than it was told, and a slow reader is felt at the
other end. What arrived before a connection ended is read first; then comes b"" for an end in order, and the connection's own
reason, raised, for any other.

Waiting is a Deferred each, cancelling one loses nothing: bytes leave the buffer only when they are handed over.
Serving is the other room, serving.py. Built on endpoints and protocols, so it works over every transport. It must never know sockets.
Source: the names of asyncio's and Trio's streams; where they differ, the docstrings say what holds here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from copy import copy
from types import TracebackType
from typing import Any, Self

from ropewalk.defer import Deferred
from ropewalk.endpoints import (
    IStreamClientEndpoint,
    checked_endpoint,
    clientFromString,
)
from ropewalk.error import ConnectionClosed, ConnectionDone
from ropewalk.failure import Failure
from ropewalk.protocol import Factory, Protocol
from ropewalk.reading import IncompleteRead, LimitExceeded, Waiter
from ropewalk.task import currentReactor

__all__ = ["ByteStream", "IncompleteRead", "LimitExceeded", "Pipe", "open"]

# Bytes that came and were not read, above which the peer has to wait. Source: the size of one read of the engine; asyncio
# has 64 KiB and pauses at twice that.
BUFFER = 65536
# A line, or whatever `readUntil` reads, at most. Source: Twisted's LineReceiver has 16384, asyncio 65536.
LINE = 65536


class ByteStream:
    """One connection; made by `open` and by `serving.serve`, or by `Pipe` for a protocol of one's own factory.

    Args:   transport: connected.
            buffer: bytes that wait to be read, above which the peer has to wait.
    """

    def __init__(self, transport: Any, buffer: int = BUFFER) -> None:
        self.transport = transport
        self._most = buffer
        self._buffer = bytearray()
        self._has_ended = False
        self._is_paused = False
        self._reason: BaseException | None = None
        self._more = Waiter("a read")
        self._room: list[Deferred[None]] = []
        self._lost: list[Deferred[None]] = []
        self._draining: list[Deferred[None]] = []
        # Whether its port drains: nothing new is to be begun.
        self.isDraining = False
        # Why: then the transport tells when everything has been sent, which is what waiting for room means here.
        self._high = BUFFER
        self._is_registered = False
        transport.setWriteLimits(0, 0)

    # ---- reading ----------------------------------------------------------------------------------------------

    async def read(self, most: int = BUFFER) -> bytes:
        """Some bytes, as soon as there are any.

        Args:    most: bytes.
        Returns: 1 to `most` bytes; b"" when the peer has ended its side.
        Raises:  ValueError for less than 1; the reason of a connection that did not end in order, once all that came
                 before is read; RuntimeError if another read is under way.
        """
        check("most", most)
        while not self._buffer:
            if self._is_over():
                return b""
            await self._more.wait()
        return self._take(min(most, len(self._buffer)))

    async def readExactly(self, count: int) -> bytes:
        """So many bytes.

        Raises: IncompleteRead if the peer ends its side before; as `read`. Given up in any other way, or cancelled, it has
                taken nothing.
        """
        check("count", count, least=0)
        # Why in pieces: what is waited for may be more than the buffer holds.
        parts: list[bytes] = []
        missing = count
        while missing:
            try:
                part = await self.read(missing)
            except GeneratorExit:
                raise  # Why: the coroutine was dropped, perhaps by the collector; nobody reads on, and nothing is to be touched.
            except BaseException:
                self._give_back(b"".join(parts))
                raise
            if not part:
                raise IncompleteRead(b"".join(parts), count)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    async def readUntil(self, separator: bytes = b"\n", limit: int = LINE) -> bytes:
        """All up to a separator, and that.

        Args:   limit: bytes, the separator included.
        Raises: LimitExceeded, and nothing is taken; IncompleteRead if the peer ends its side before; as `read`.
        """
        if not separator:
            raise ValueError("separator must not be empty")
        check("limit", limit)
        searched = 0
        while True:
            place = self._buffer.find(separator, searched)
            if 0 <= place <= limit - len(separator):
                return self._take(place + len(separator))
            if place >= 0 or len(self._buffer) >= limit:
                raise LimitExceeded(limit)
            if self._is_over():
                raise IncompleteRead(self._take(len(self._buffer)), None)
            # Why less than all: the separator may be cut in two. Why remembered: byte by byte must stay linear.
            searched = max(0, len(self._buffer) - len(separator) + 1)
            self._let_come(limit)
            await self._more.wait()

    async def lines(self, separator: bytes = b"\n", limit: int = LINE) -> AsyncIterator[bytes]:
        """Line after line, without their ends, until the peer ends its side. The last one may have no end.

        Raises: as `readUntil`.
        """
        while True:
            try:
                line = await self.readUntil(separator, limit)
            except IncompleteRead as rest:
                if rest.partial:
                    yield rest.partial
                return
            yield line[: -len(separator)]

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        if self._is_paused and len(self._buffer) <= self._most // 2:
            self._is_paused = False
            self.transport.resumeProducing()
        return data

    def _give_back(self, data: bytes) -> None:
        """It was taken, and is not wanted yet."""
        self._buffer[:0] = data
        if len(self._buffer) > self._most and not self._is_paused and not self._has_ended:
            self._is_paused = True
            self.transport.pauseProducing()

    def _let_come(self, limit: int) -> None:
        """What is looked for may be longer than the buffer is to be."""
        if self._is_paused and len(self._buffer) < limit:
            self._is_paused = False
            self.transport.resumeProducing()

    def _is_over(self) -> bool:
        """Whether nothing comes any more. Raises: the reason, unless the connection ended in order."""
        if self._reason is not None and not isinstance(self._reason, ConnectionDone):
            raise _again(self._reason)
        return self._has_ended

    # ---- writing ----------------------------------------------------------------------------------------------

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, and wait while too much waits to be sent.

        Raises: TypeError for what is not bytes-like; the reason, if the connection has ended.
        Order:  the bytes are on their way when it is called; what is waited for is room for more.
        """
        self._check_connected()
        self.transport.write(data)
        if self.transport.bytesBuffered > self._high:
            await self.drain()

    async def drain(self) -> None:
        """Wait until all that was written has been taken by the kernel.

        Raises: the reason, if the connection ends before; RuntimeError while another producer is registered.
        """
        self._check_connected()
        if not self.transport.bytesBuffered:
            return
        waiting = self._wait_in(self._room)
        if not self._is_registered:
            self._is_registered = True
            try:
                self.transport.registerProducer(self, True)
            except BaseException:
                # Another producer is there, such as a file that is sent.
                self._is_registered = False
                self._room.remove(waiting)
                raise
        await waiting
        self._check_connected()

    def _check_connected(self) -> None:
        if self._reason is not None:
            raise _again(self._reason)

    def pauseProducing(self) -> None:
        """The transport's: what was written waits."""

    def resumeProducing(self) -> None:
        """The transport's: all was sent."""
        self._is_registered = False
        self.transport.unregisterProducer()
        self._wake(self._room)

    def stopProducing(self) -> None:
        """The transport's: the connection is over; `connectionLost` says why."""

    def _wait_in(self, waiting: list[Deferred[None]]) -> Deferred[None]:
        """One more of those who wait for the same; who is cancelled waits no more."""

        def leave(cancelled: Deferred[None]) -> None:
            # Why asked: one who is woken may cancel another who is about to be.
            if cancelled in waiting:
                waiting.remove(cancelled)

        waiting.append(Deferred(leave))
        return waiting[-1]

    def _wake(self, waiting: list[Deferred[None]]) -> None:
        woken, waiting[:] = waiting[:], []
        for each in woken:
            if not each.called:
                each.callback(None)

    # ---- ending -----------------------------------------------------------------------------------------------

    def closeWrite(self) -> None:
        """Send what was written, then end our side; the peer's is read on."""
        self.transport.loseWriteConnection()

    async def close(self) -> None:
        """Send what was written, end both sides, and wait until the connection is gone, whatever it ended with."""
        self.transport.loseConnection()
        if self._reason is None:
            await self._wait_in(self._lost)

    def whenDraining(self) -> Deferred[None]:
        """When its port begins to drain, or the connection has ended: finish what is under way, and begin nothing new.

        Returns: a Deferred of its own for each who asks; it has fired if that is so already. Cancel it, or `race` it against
                 a read.
        Source:  Port.drain, which waits until its connections end, and aborts them at its deadline.
        """
        waiting = self._wait_in(self._draining)
        if self.isDraining or self._reason is not None:
            self._wake(self._draining)
        return waiting

    def abort(self) -> None:
        """End it now; what waits is thrown away, and the peer gets a reset."""
        self.transport.abortConnection()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; abort if the block raised, so that the peer does not take half of what was meant for all."""
        if exc is not None:
            self.abort()
        await self.close()

    @property
    def reason(self) -> BaseException | None:
        """Why it ended: ConnectionDone, or another; None while it has not."""
        return self._reason

    def has_raised(self, exc: BaseException) -> bool:
        """Whether it is the reason, as this stream raises it."""
        # Why by `ended`: every reason that is raised again has that of its connection.
        ended = getattr(self._reason, "ended", None)
        return exc is self._reason or (ended is not None and getattr(exc, "ended", None) is ended)

    def __repr__(self) -> str:
        return f"<ByteStream over {self.transport!r}>"

    # ---- from the protocol ------------------------------------------------------------------------------------

    def came(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > self._most and not self._is_paused:
            self._is_paused = True
            self.transport.pauseProducing()
        self._more.wake()

    def ended(self) -> None:
        self._has_ended = True
        self._more.wake()

    def drains(self) -> None:
        self.isDraining = True
        self._wake(self._draining)

    def gone(self, reason: BaseException) -> None:
        self._has_ended = True
        self._reason = reason
        self._more.wake()
        self._wake(self._room)
        self._wake(self._draining)
        self._wake(self._lost)


class Pipe(Protocol):
    """The protocol under a ByteStream: hands on what comes.

    Args: made: called with the stream when it is connected.
          lost: called with the stream when it has ended, after all who wait for something of it.
    """

    def __init__(
        self,
        made: Callable[[ByteStream], object] | None = None,
        buffer: int = BUFFER,
        lost: Callable[[ByteStream], object] | None = None,
    ) -> None:
        self._made = made
        self._size = buffer
        self._lost = lost
        self.stream: ByteStream | None = None

    def connectionMade(self) -> None:
        self.stream = ByteStream(self.transport, self._size)
        if self._made is not None:
            self._made(self.stream)

    def dataReceived(self, data: bytes) -> None:
        assert self.stream is not None
        self.stream.came(data)

    def readConnectionLost(self) -> None:
        """The peer has ended its side: who reads is told so, behind what came before."""
        assert self.stream is not None
        self.stream.ended()

    def writeConnectionLost(self) -> None:
        """Asked for by closeWrite; the other side goes on."""

    def connectionDraining(self) -> None:
        """The port drains: who has asked the stream is told."""
        assert self.stream is not None
        self.stream.drains()

    def connectionLost(self, reason: Failure) -> None:
        # Why let go: the stream has the transport, and the transport had this protocol.
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.gone(reason.value)
            if self._lost is not None:
                self._lost(stream)


def check(name: str, value: int, least: int = 1) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number, {least} or more, not {value!r}")


async def open(
    endpoint: str | IStreamClientEndpoint, reactor: Any = None, buffer: int = BUFFER
) -> ByteStream:
    """Connect.

    Args:    endpoint: a description, as clientFromString takes it, or an endpoint.
             reactor: for a description; None for that of `task.run` or `task.react`, else the default one.
             buffer: bytes that wait to be read, above which the peer has to wait.
    Returns: the stream, connected.
    Raises:  TypeError, ValueError for what is no endpoint, or a description that makes no sense; what the endpoint fails with. Cancelling it gives all back.
    """
    check("buffer", buffer)
    where: Any = endpoint
    if isinstance(endpoint, str):
        where = clientFromString(or_default(reactor), endpoint)
    checked_endpoint(where, "connect", "tcp:example.org:80")
    pipe = await where.connect(Factory.forProtocol(lambda: Pipe(buffer=buffer)))
    stream: ByteStream | None = pipe.stream
    # Lost before anybody could wait for it: the stream that was there is gone with its protocol.
    if stream is None:
        raise ConnectionDone("the connection ended as soon as it was made")
    return stream


def _again(reason: BaseException) -> BaseException:
    """An exception like the one by which a stream ended, to be raised once more.

    Why another: the traceback of the one that is raised knows the frames, and they the stream; if the stream kept it, only the
    garbage collector would free them.
    """
    if not isinstance(reason, ConnectionClosed):
        return reason.with_traceback(None)
    another = copy(reason)
    another.__cause__ = reason.__cause__
    return another


def or_default(reactor: Any) -> Any:
    """The reactor given; of None, that of the `run` or `react` this is done for, else the default one."""
    return currentReactor() if reactor is None else reactor
