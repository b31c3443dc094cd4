"""A TCP proxy as a factory: each connection that comes in is joined with one that goes out.

    proxy = Proxy(balancer, limit=1000)
    proxy.listens(reactor.listenTCP(8080, proxy))

Where they go to is an endpoint: one server, or a Balancer of many (balancing.py). Until that has answered, the client's side is
paused, so not a byte is taken in that might have to be given to somebody else.

Each of the two directions is held back by its own reader. What the kernel does not take of one read waits in the transport's
buffer, and while anything waits there, nothing more is read. So a client makes the proxy hold two reads at most. Each
direction ends by itself, and its end is handed on as an end; a connection that is lost is handed on as a reset: a client must
not take half of an answer for all of it.

At the limit nothing is accepted: who comes then waits in the kernel's queue, as serving.py has it.

It must never know who is chosen, nor look at what is carried. Rejected: each transport being registered as the other's producer
all the time, which is simpler: a transport that has one takes the slow way at each write, and a message cost half as much again.
Source: HAProxy and nginx's stream module for what a proxy has to do.
"""

from __future__ import annotations

import logging
from typing import Any

from ropewalk.address import display
from ropewalk.defer import Deferred
from ropewalk.error import ConnectError, ConnectionDone
from ropewalk.event import Drained
from ropewalk.failure import Failure
from ropewalk.protocol import Factory, Protocol

__all__ = ["Proxy"]

_FOR_EVER = float("inf")
_log = logging.getLogger("ropewalk")


class Side(Protocol):
    """One of a session's two connections."""

    def __init__(self, session: Session) -> None:
        self.session: Session | None = session
        # The other side's transport, once the two are joined.
        self.to: Any = None
        self.is_held_back = False

    def connectionMade(self) -> None:
        if self.session is not None:
            self.session.made(self)

    def dataReceived(self, data: bytes) -> None:
        # hot: benchmarks/ proxy.
        to = self.to
        if to.bytesBuffered and not self.is_held_back:
            # The other side's reader is behind. Why 0: so that its transport pauses us at once.
            self.is_held_back = True
            to.setWriteLimits(0)
            to.registerProducer(self, True)
        to.write(data)

    def readConnectionLost(self) -> None:
        self.let_go()
        self.to.loseWriteConnection()

    def writeConnectionLost(self) -> None:
        """All that the other side sent is on its way, its end included; the way back is open still."""

    def connectionLost(self, reason: Failure) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.lost(self, reason)

    # ---- as producer of the other side's transport, while that has something to send ---------------------------

    def pauseProducing(self) -> None:
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.let_go()
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The other side is lost; the session hears of it, and ends this one."""

    def let_go(self) -> None:
        if self.is_held_back:
            self.is_held_back = False
            self.to.unregisterProducer()


class Session:
    """One client's way through the proxy: its own connection, and the one that was made for it.

    It is also the factory of the second one.
    """

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.client: Side | None = Side(self)
        self.target: Side | None = None
        self._connecting: Deferred[Any] | None = None

    # ---- the client's side ------------------------------------------------------------------------------------

    def made(self, side: Side) -> None:
        """One side is connected."""
        if side is not self.client:
            self._join(side)
            return
        self._proxy.began(self)
        side.transport.pauseProducing()
        self._connecting = connecting = self._proxy.endpoint.connect(self)
        connecting.addCallbacks(self._connected, self._failed)

    def _connected(self, _: object) -> None:
        self._connecting = None

    def _failed(self, reason: Failure) -> Failure | None:
        self._connecting = None
        if self.client is None:
            return None  # The client has left first, and this was called off.
        transport = self.client.transport
        _log.info("%s is sent away: %s", display(transport.getPeer()), reason.getErrorMessage())
        transport.abortConnection()
        # Why: anything else is no matter of the network, and whoever wrote the endpoint should see it.
        return None if reason.check(ConnectError) else reason

    # ---- the target's side, as its factory --------------------------------------------------------------------

    def doStart(self) -> None:
        """There is nothing to open."""

    def doStop(self) -> None:
        """There is nothing to close."""

    def buildProtocol(self, addr: object) -> Side:
        return Side(self)

    def _join(self, target: Side) -> None:
        client = self.client
        if client is None:
            # The client has left, and its leaving could not be told to the endpoint in time.
            target.session = None
            target.transport.abortConnection()
            return
        self.target = target
        client.to, target.to = target.transport, client.transport
        client.transport.resumeProducing()

    # ---- endings ----------------------------------------------------------------------------------------------

    def lost(self, side: Side, reason: Failure) -> None:
        """One side is gone: the other one ends as it did, and is the last or will be."""
        if side is self.client:
            self.client, other = None, self.target
        else:
            self.target, other = None, self.client
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        if other is None:
            self._proxy.ended(self)
            return
        # Why: who closes in order waits for its producer.
        side.let_go()
        if reason.check(ConnectionDone):
            other.transport.loseConnection()
        else:
            other.transport.abortConnection()


class Proxy(Factory[Side]):
    """Carries each connection that comes in on to an endpoint, and back.

    Args:   endpoint: where to; a Balancer to spread them.
            limit: how many clients at once; at the limit nothing is accepted. None for no limit. It needs `listens`.
    Raises: ValueError for a limit below 1, TypeError for what is no whole number.
    """

    noisy = False

    def __init__(self, endpoint: Any, limit: int | None = None) -> None:
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
            raise TypeError(f"limit must be a whole number of clients, or None for none, not {limit!r}")
        if limit is not None and limit < 1:
            raise ValueError(f"a proxy has one client at least, not limit={limit!r}")
        self.endpoint = endpoint
        self.limit = limit
        self.port: Any = None
        self._sessions: dict[Session, None] = {}
        # From the first who asks for it until it is over.
        self._draining: _Draining | None = None

    def listens(self, port: Any) -> None:
        """Tell it which port it is the factory of, so that it can let that one accept nothing for a while."""
        self.port = port

    @property
    def connections(self) -> int:
        """How many clients there are, those that wait for a target and those whose target still reads included."""
        return len(self._sessions)

    def buildProtocol(self, addr: object) -> Side:
        if self.limit is not None and self.port is None:
            raise RuntimeError(f"a proxy with limit={self.limit} must know its port: call listens(port)")
        side = Session(self).client
        assert side is not None
        return side

    def began(self, session: Session) -> None:
        self._sessions[session] = None
        if self.limit is not None and len(self._sessions) >= self.limit:
            self.port.pauseProducing()

    def ended(self, session: Session) -> None:
        del self._sessions[session]
        if self._draining is not None:
            self._draining.settle()
        if self.limit is not None and len(self._sessions) < self.limit and self.port.connected:
            self.port.resumeProducing()

    def drain(self, deadline: float | None) -> Deferred[Drained]:
        """Accept no more, let what is connected end, and abort what has not at a deadline. As Port.drain, but both sides count.

        Args:    deadline: seconds from now, 0 or more; None waits for ever. Asked again, the earliest deadline holds.
        Returns: a Deferred of `Drained(ended, aborted)`, clients, fired when none is left and all that they sent is with its
                 target. Cancelled, nobody is aborted any more; what has begun stays. All who wait are told the same.
        Raises:  TypeError, ValueError for another deadline; RuntimeError if it does not know its port.
        """
        if self.port is None:
            raise RuntimeError("a proxy that is to be drained must know its port: call listens(port)")
        if self._draining is None or self._draining.is_forgotten:
            self._draining = _Draining(self)
        return self._draining.wait(deadline)


class _Draining:
    """How far a proxy's draining has come; one for all who ask, until it is over, so that all are told the same.

    Its first part is the port's: until no client is connected. In the second, what clients sent is on its way to targets.
    """

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        # Those the port does not know any more.
        self._late = sum(session.client is None for session in proxy._sessions)
        # What the port says, once no client is connected.
        self._clients: Drained | None = None
        # In the second part. A dict, for the order.
        self._aborted: dict[Session, None] = {}
        self._last = _FOR_EVER
        self._timer: Any = None
        # Who waits, and what each waits for at the port.
        self._waiting: dict[Deferred[Drained], Deferred[Drained]] = {}

    @property
    def is_forgotten(self) -> bool:
        """Whether nobody waits, and the port does not count any more either."""
        return not self._waiting and self._proxy.port.draining is None

    def wait(self, deadline: float | None) -> Deferred[Drained]:
        """Once more somebody wants it drained. Of several deadlines the earliest holds."""
        port = self._proxy.port
        asked: Deferred[Drained] = port.drain(deadline)
        if deadline is not None:
            self._last = min(self._last, port.reactor.seconds() + deadline)
        waiting: Deferred[Drained] = Deferred(self._give_up)
        self._waiting[waiting] = asked
        # Why the second: it fails only by being cancelled, which who cancelled knows.
        asked.addCallbacks(self._clients_drained, lambda _: None)
        return waiting

    def settle(self) -> None:
        """A session has ended, or no client is connected any more: it may be over."""
        clients, proxy = self._clients, self._proxy
        if clients is None or proxy._sessions:
            return
        if proxy._draining is self:
            proxy._draining = None
        self._stop_timer()
        count = len(self._aborted)
        result = Drained(clients.ended + self._late - count, clients.aborted + count)
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            each.callback(result)

    def _clients_drained(self, drained: Drained) -> None:
        """No client is connected any more; what they sent may still be on its way."""
        # Why the first counts: who asks in the second part is told of none by the port.
        if self._clients is None:
            self._clients = drained
        self.settle()
        self._stop_timer()
        if self._waiting and self._last < _FOR_EVER:
            reactor = self._proxy.port.reactor
            self._timer = reactor.callLater(max(0.0, self._last - reactor.seconds()), self._abort_rest)

    def _abort_rest(self) -> None:
        self._timer = None
        self._last = _FOR_EVER
        for session in list(self._proxy._sessions):
            if session.client is None and session.target is not None:
                self._aborted[session] = None
                session.target.transport.abortConnection()

    def _give_up(self, waiting: Deferred[Drained]) -> None:
        """One who waited has cancelled. If it was the last, nobody is aborted any more."""
        self._waiting.pop(waiting).cancel()
        if not self._waiting:
            self._last = _FOR_EVER
            self._stop_timer()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
