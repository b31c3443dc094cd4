"""One connect that somebody waits for: the factory between a connector and the factory of the user.

It tells one Deferred how the connect went, once: the protocol when its `connectionMade` has returned, or the connector's own
reason; and cancelling that Deferred, at any moment, gives everything back.

After the connection is made it is out of the way. The transport is given a `HandOver` for a protocol, which puts the user's own
in its place before it is connected: what the transport calls from then on is the user's protocol, with nothing in between.
Rejected: a protocol around the user's, that passes everything on. It costs a call for each read, and every method that a
transport may look for (half-close, log prefix) has to be passed on too.

It must never know what kind of transport it is. Source: twisted.internet.endpoints, IStreamClientEndpoint.connect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ropewalk.defer import Deferred, fail
from ropewalk.error import ConnectingCancelledError, NoProtocol
from ropewalk.failure import Failure
from ropewalk.protocol import ClientFactory

if TYPE_CHECKING:
    from ropewalk.interfaces import IConnector

__all__ = ["Connecting"]

P = TypeVar("P")


class Connecting(ClientFactory[Any], Generic[P]):
    """The factory that the connector knows: it uses the user's, and tells one Deferred how it went.

    Args: factory: the user's.
    """

    noisy = False

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        # Let go with the result. Why: it has this for its factory, and nothing of a connection may stay behind it.
        self.connector: Any = None
        # Let go when it has fired. Why: it holds this factory, to be cancelled by.
        self._result: Deferred[P] | None = Deferred(self._cancelled)

    def start(self, connect: Callable[[Connecting[P]], object]) -> Deferred[P]:
        """Ask for the connection.

        Args:    connect: given this factory, starts to connect, as `reactor.connectTCP` does.
        Returns: the Deferred; what `connect` raises is its failure.
        """
        result = self._result
        assert result is not None
        try:
            connect(self)
        except Exception as exc:
            return fail(exc)
        return result

    def doStart(self) -> None:
        self.factory.doStart()

    def doStop(self) -> None:
        self.factory.doStop()

    def startedConnecting(self, connector: IConnector) -> None:
        self.connector = connector

    def buildProtocol(self, addr: Any) -> Any:
        try:
            protocol = self.factory.buildProtocol(addr)
        except Exception:
            # Why not let it out: the Deferred tells it, and then it need not be logged.
            self._tell(Failure())
            return None
        if protocol is None:
            self._tell(Failure(NoProtocol(f"{self.factory!r} built no protocol for {addr!r}")))
            return None
        return HandOver(self, protocol)

    def made(self, protocol: P) -> None:
        """`connectionMade` has returned."""
        result, self._result = self._result, None
        self.connector = None
        if result is not None:
            result.callback(protocol)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._tell(reason)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        # Before it was made: connectionMade has raised, or closed the connection and turned the loop.
        self._tell(reason)

    def _tell(self, reason: Failure) -> None:
        result, self._result = self._result, None
        self.connector = None
        if result is not None:
            result.errback(reason)

    def _cancelled(self, result: Deferred[P]) -> None:
        connector, self.connector, self._result = self.connector, None, None
        result.errback(ConnectingCancelledError(connector.getDestination()))
        if connector.state == "connecting":
            connector.stopConnecting()
        elif connector.transport is not None:
            # It is in buildProtocol or connectionMade just now.
            connector.transport.abortConnection()


class HandOver:
    """What the transport gets for a protocol: it puts the user's own in its place, then tells that it is made."""

    __slots__ = ("_connecting", "_protocol")

    def __init__(self, connecting: Connecting[Any], protocol: Any) -> None:
        self._connecting = connecting
        self._protocol = protocol

    def makeConnection(self, transport: Any) -> None:
        transport.protocol = self._protocol
        self._protocol.makeConnection(transport)
        self._connecting.made(self._protocol)

    def __repr__(self) -> str:
        return repr(self._protocol)
