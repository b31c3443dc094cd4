"""Serving with coroutines: one for each connection, so many at once at most, each cancelled at the end.

    server = await serve(handler, "tcp:8007")
    ...
    await server.stop()

A handler is given a ByteStream (streams.py). When it returns, the connection is closed in order; when it raises, that is logged
with the connection's timeline and the connection is aborted: the peer must not take half of an answer for all of it.

While its port drains, a handler that waits for its client may go: `stream.whenDraining()` says when.

At the limit nothing is accepted; who connects then waits in the kernel's queue, and when that is full outside. Rejected:
accepting and letting them wait here. Each would hold a descriptor and memory, and believe that it is served.
Source: FAULTS section 3, 4; asyncio.start_server and Trio's serve_tcp, which have no limit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from itertools import chain
from typing import Any

from ropewalk.defer import CancelledError, Deferred
from ropewalk.endpoints import IStreamServerEndpoint, checked_endpoint, serverFromString
from ropewalk.failure import Failure
from ropewalk.protocol import Factory
from ropewalk.streams import BUFFER, ByteStream, Pipe, check, or_default

__all__ = ["Server", "serve"]

# Handlers at once. Value: some thousand connections fit in the usual 1024 to 524288 descriptors of a process.
HANDLERS = 1000

Handler = Callable[[ByteStream], Coroutine[Any, Any, object]]

_log = logging.getLogger("ropewalk")
# In a handler, and in what it has begun: its stream.
_handled: ContextVar[ByteStream | None] = ContextVar("ropewalk.serving.handled", default=None)


class Server(Factory[Any]):
    """What `serve` returns: it accepts connections and runs the handler for each.

    Args:   handler: a coroutine function of one ByteStream. limit: how many run at once.
    Raises: TypeError for a handler that cannot be called.
    """

    noisy = False

    def __init__(self, handler: Handler, limit: int = HANDLERS, buffer: int = BUFFER) -> None:
        if not callable(handler):
            raise TypeError(f"a handler is a coroutine function of one stream, not {handler!r}")
        self._handler = handler
        self._limit = limit
        self._size = buffer
        # The handlers that run, each with its stream.
        self._running: dict[Deferred[object], ByteStream] = {}
        self._is_cancelled: set[Deferred[object]] = set()
        # The connections that are open; also those whose handler has ended, and which have still something to send.
        self._open: set[ByteStream] = set()
        # Who waits until all have ended, each with the stream whose handler asks, for which it does not wait.
        self._stopping: list[tuple[Deferred[None], ByteStream | None]] = []
        self.port: Any = None
        self._trigger: Any = None

    def listens(self, port: Any) -> None:
        """It has a port now; when the reactor of that stops, the handlers are cancelled."""
        self.port = port
        self._trigger = port.reactor.addSystemEventTrigger("before", "shutdown", self._shut_down)

    def _shut_down(self) -> None:
        # Why forgotten: the trigger has run, so it cannot be removed; who stops this in the same shutdown may be told later.
        self._trigger = None
        self.cancelAll()

    @property
    def connections(self) -> int:
        """How many handlers run."""
        return len(self._running)

    def buildProtocol(self, addr: object) -> Pipe:
        if self.port is None:
            raise RuntimeError("a Server has to be told its port by `listens`, as `serve` does")
        return Pipe(self._start, self._size, self._lost)

    def _start(self, stream: ByteStream) -> None:
        self._open.add(stream)
        token = _handled.set(stream)
        try:
            running: Deferred[object] = Deferred.fromCoroutine(self._handler(stream))
        finally:
            _handled.reset(token)
        self._running[running] = stream
        if len(self._running) >= self._limit:
            self.port.pauseProducing()
        running.addBoth(self._finished, running)

    def _finished(self, result: object, running: Deferred[object]) -> None:
        stream = self._running.pop(running)
        was_cancelled = running in self._is_cancelled
        self._is_cancelled.discard(running)
        if isinstance(result, Failure):
            # Why not if it is the connection's own reason: that belongs to the connection, and is no fault of the handler.
            is_asked = was_cancelled and result.check(CancelledError)
            if not is_asked and not stream.has_raised(result.value):
                self._tell(stream, result)
            stream.abort()
        else:
            stream.transport.loseConnection()
        if len(self._running) < self._limit and self.port.connected:
            self.port.resumeProducing()
        self._tell_who_stops()

    def _lost(self, stream: ByteStream) -> None:
        self._open.discard(stream)
        self._tell_who_stops()

    def _tell_who_stops(self) -> None:
        for each in [each for each in self._stopping if self._has_ended_but_for(each[1])]:
            self._stopping.remove(each)
            each[0].callback(None)

    def _has_ended_but_for(self, own: ByteStream | None) -> bool:
        return all(stream is own for stream in chain(self._running.values(), self._open))

    def _tell(self, stream: ByteStream, result: Failure) -> None:
        """Log what a handler raised."""
        from ropewalk.observe import explain

        _log.error("the handler of %r raised\n%s", stream, explain(stream.transport), exc_info=result.value)

    def cancelAll(self) -> None:
        """Cancel every handler that runs; each connection is aborted when its handler has ended."""
        self._cancel_all_but(None)

    def _cancel_all_but(self, own: ByteStream | None) -> None:
        for running, stream in list(self._running.items()):
            if stream is not own:
                self._is_cancelled.add(running)
                running.cancel()

    async def stop(self) -> None:
        """Accept no more, cancel every handler, and wait until all have ended and every connection is closed.

        What a handler has left to be sent is sent; a peer that takes nothing of it is given up after the transport's
        `closeTimeout`. A handler may await this: it is not cancelled, and goes on when all others have ended.
        """
        own = _handled.get()
        trigger, self._trigger = self._trigger, None
        if trigger is not None:
            self.port.reactor.removeSystemEventTrigger(trigger)
        await self.port.stopListening()
        self._cancel_all_but(own)
        if not self._has_ended_but_for(own):
            waiting: Deferred[None] = Deferred()
            self._stopping.append((waiting, own))
            await waiting


async def serve(
    handler: Handler,
    endpoint: str | IStreamServerEndpoint,
    reactor: Any = None,
    limit: int = HANDLERS,
    buffer: int = BUFFER,
) -> Server:
    """Listen, and run a coroutine for each connection.

    Args:    handler: called with a ByteStream. When it returns, the connection is closed in order; when it raises, that is
                 logged with the connection's timeline, and the connection is aborted.
             endpoint: a description, as serverFromString takes it, or an endpoint.
             reactor: for a description; None for that of `task.run` or `task.react`, else the default one.
             limit: how many handlers run at once; at the limit nothing is accepted.
             buffer: bytes of each connection that wait to be read, above which the peer has to wait.
    Returns: the Server, listening; `await server.stop()` ends it. At the reactor's shutdown each handler is cancelled.
    Raises:  ValueError; TypeError for what is no endpoint; CannotListenError.
    """
    check("limit", limit)
    check("buffer", buffer)
    where: Any = endpoint
    if isinstance(endpoint, str):
        where = serverFromString(or_default(reactor), endpoint)
    checked_endpoint(where, "listen", "tcp:80")
    server = Server(handler, limit, buffer)
    server.listens(await where.listen(server))
    return server
