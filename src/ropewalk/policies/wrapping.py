"""A layer between a transport and a protocol: WrappingFactory makes a ProtocolWrapper for each connection.

To its transport a wrapper is the protocol, to its protocol it is the transport. What a policy does not care about passes
through: half-close, producers, options, counters, how it ended. So layers compose, in any order and over any factory:

    reactor.listenTCP(8007, Limit(Idle(factory, 60), 1000))

A wrapper has the callbacks that not every protocol has (half-close, draining) exactly if its protocol has them: transports
find out by asking for them. When a policy ends a connection, the reason that the protocol is told says so, and so does
`transport.ended`; a client's factory gets the transport's own reason.

Policies subclass the two classes here, and nothing below that. They must never know what kind of transport is under them, nor
which other layers there are. Rejected: a wrapper that is given a list of policies. Layers nest by themselves, and a connection
pays for those that it has.
Source: twisted.protocols.policies for names and for what passes through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ropewalk.event import EndedBy
from ropewalk.failure import Failure

if TYPE_CHECKING:
    from ropewalk.interfaces import IConnector

__all__ = ["ProtocolWrapper", "WrappingFactory"]

log = logging.getLogger("ropewalk")

# Callbacks that a protocol may have or not.
_OPTIONAL = frozenset({"readConnectionLost", "writeConnectionLost", "connectionDraining"})
# How a connection ends that was asked to.
_OURS = (EndedBy.US, EndedBy.US_ABORTED)


class ProtocolWrapper:
    """One connection's layer: override what a policy wants to see, and call the method overridden.

    Args:   factory: the WrappingFactory.
            wrappedProtocol: the protocol inside.
    Source: twisted.protocols.policies.ProtocolWrapper.
    """

    transport: Any = None
    # Why the policy has ended the connection, in words, or what the protocol has raised when the layer called it.
    _why: str | Exception | None = None

    def __init__(self, factory: Any, wrappedProtocol: Any) -> None:
        self.factory = factory
        self.wrappedProtocol = wrappedProtocol

    # ---- as the protocol of the transport -----------------------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        """The transport is there: `connectionMade` of the layer, then that of the protocol."""
        self.transport = transport
        self.factory.registerProtocol(self)
        self.connectionMade()
        self.wrappedProtocol.makeConnection(self)

    def connectionMade(self) -> None:
        """For the layer itself, before its protocol is told."""

    def dataReceived(self, data: bytes) -> None:
        """Pass it on."""
        self.wrappedProtocol.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:
        """Pass it on, with the policy's own words if it was the policy; then let the protocol go."""
        self.factory.unregisterProtocol(self)
        protocol, self.wrappedProtocol = self.wrappedProtocol, None
        protocol.connectionLost(self._explained(reason))

    def logPrefix(self) -> str:
        """How log messages name it: by the protocol and the layer."""
        return _prefix(self.wrappedProtocol, self)

    @property
    def protocol(self) -> Any:
        """The protocol inside; whoever hands a connection over puts another in its place."""
        return self.wrappedProtocol

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self.wrappedProtocol = protocol

    # ---- as the transport of the protocol -----------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes: handed to the transport below."""
        self.transport.write(data)

    def writeSequence(self, data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several pieces, as `write` does."""
        self.transport.writeSequence(data)

    def loseConnection(self) -> None:
        """Send what was written, then close: asked of the transport below."""
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close now: asked of the transport below."""
        self.transport.abortConnection()

    def loseWriteConnection(self) -> None:
        """Send what was written, then end this direction: asked of the transport below."""
        self.transport.loseWriteConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let a producer be paused and resumed by the transport below."""
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """The producer has done."""
        self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        """Let no data come for now."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Let data come again."""
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Let no data come any more: close."""
        self.loseConnection()

    @property
    def closeTimeout(self) -> float | None:
        """The transport's."""
        seconds: float | None = self.transport.closeTimeout
        return seconds

    @closeTimeout.setter
    def closeTimeout(self, seconds: float | None) -> None:
        self.transport.closeTimeout = seconds

    @property
    def ended(self) -> Any:
        """The transport's, with the policy's own words if it was the policy."""
        ended, why = self.transport.ended, self._why
        if ended is None or why is None or ended.by not in _OURS:
            return ended
        if isinstance(why, Exception):
            return ended._replace(by=EndedBy.EXCEPTION, error=str(why) or type(why).__name__)
        return ended._replace(error=why)

    def __getattr__(self, name: str) -> Any:
        # What is not named above: of the callbacks that the protocol has or not, else of the transport.
        if name == "writeFile":
            # Why: what a kernel copies by itself passes no layer. Who sends a file reads it where there is no such method.
            raise AttributeError(f"{type(self).__name__} sends no files by itself", name=name, obj=self)
        return getattr(self.wrappedProtocol if name in _OPTIONAL else self.transport, name)

    @property
    def clock(self) -> Any:
        """What has the time: the factory's `clock`, else the transport's reactor."""
        clock = self.factory.clock
        return self.transport.reactor if clock is None else clock

    # ---- for policies -------------------------------------------------------------------------------------------

    def loseFor(self, why: str) -> None:
        """Close in order, for a reason that the protocol will be told."""
        self._why = why
        self.loseConnection()

    def abortFor(self, why: str) -> None:
        """Abort, for a reason that the protocol will be told."""
        self._why = why
        self.abortConnection()

    def callProtocol(self, callback: Callable[..., object], *args: Any) -> None:
        """Call the protocol, or its producer, from a timer: what it raises is logged and closes the connection, as ever."""
        try:
            callback(*args)
        except Exception as exc:
            name = getattr(callback, "__name__", "callback")
            log.error("%s of %r raised; its connection is closed", name, self.wrappedProtocol, exc_info=exc)
            self._why = exc
            self.raised()

    def raised(self) -> None:
        """The protocol has raised in `callProtocol`: close."""
        self.transport.loseConnection()

    @property
    def heldInside(self) -> int:
        """Bytes written that wait in this layer and in those inside it, so that `bytesBuffered` does not count them yet."""
        inside = self.wrappedProtocol
        return inside.heldInside if isinstance(inside, ProtocolWrapper) else 0

    @property
    def isWaiting(self) -> bool:
        """Whether this layer or one inside it holds bytes that will pass by themselves when it is time."""
        inside = self.wrappedProtocol
        return isinstance(inside, ProtocolWrapper) and inside.isWaiting

    def stirInside(self, held: int) -> None:
        """A layer inside has handed something on, or holds so many bytes more: told to every layer outside it."""
        if isinstance(self.transport, ProtocolWrapper):
            self.transport.stirInside(held)

    def _explained(self, reason: Failure) -> Failure:
        why = self._why
        value: Any = getattr(reason, "value", None)
        ended = getattr(value, "ended", None)
        if why is None or ended is None or ended.by not in _OURS:
            return reason  # Safe because: what it asked for has not come about, something else was sooner.
        if isinstance(why, Exception):
            return Failure(why)
        return Failure(type(value)(why, ended=self.ended))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.wrappedProtocol!r}>"


class WrappingFactory:
    """A factory whose protocols are those of another, each in a layer. Subclass it and set `protocol` to the layer.

    Args:   wrappedFactory: any factory, also one of these.
    Source: twisted.protocols.policies.WrappingFactory.
    """

    protocol: Callable[..., ProtocolWrapper] = ProtocolWrapper
    # Has `seconds` and `callLater`; None is each transport's reactor.
    clock: Any = None

    def __init__(self, wrappedFactory: Any) -> None:
        if isinstance(wrappedFactory, type) or not hasattr(wrappedFactory, "buildProtocol"):
            raise TypeError(f"what is wrapped must be a factory, not {wrappedFactory!r}")
        self.wrappedFactory = wrappedFactory
        # The layers of those that are connected, the oldest first.
        self.protocols: dict[ProtocolWrapper, None] = {}

    def doStart(self) -> None:
        """A port or connector begins to use it: handed on to the factory inside."""
        self.wrappedFactory.doStart()

    def doStop(self) -> None:
        """A port or connector has done with it: handed on to the factory inside."""
        self.wrappedFactory.doStop()

    def startedConnecting(self, connector: IConnector) -> None:
        """An attempt begins: handed on to the factory inside."""
        self.wrappedFactory.startedConnecting(connector)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """The attempt came to nothing: handed on to the factory inside."""
        self.wrappedFactory.clientConnectionFailed(connector, reason)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """The connection is gone: handed on to the factory inside."""
        self.wrappedFactory.clientConnectionLost(connector, reason)

    def buildProtocol(self, addr: Any) -> Any:
        """The other factory's protocol in a layer; None if it builds none."""
        protocol = self.wrappedFactory.buildProtocol(addr)
        return None if protocol is None else self.protocol(self, protocol)

    def registerProtocol(self, p: ProtocolWrapper) -> None:
        """A connection is made."""
        self.protocols[p] = None

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        """It has ended."""
        del self.protocols[p]

    def logPrefix(self) -> str:
        """How log messages name it: by the factory and the layer."""
        return _prefix(self.wrappedFactory, self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.wrappedFactory!r}>"


def _prefix(inside: Any, layer: object) -> str:
    own = getattr(inside, "logPrefix", None)
    return f"{type(inside).__name__ if own is None else own()} ({type(layer).__name__})"


def checked_seconds(name: str, seconds: Any) -> float:
    """Raises: TypeError, ValueError unless it is a finite number of seconds above 0."""
    return checked_number(name, seconds, "seconds")


def checked_number(name: str, value: Any, unit: str) -> float:
    """Raises: TypeError, ValueError unless it is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of {unit}, not {value!r}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a finite number of {unit} above 0, not {value!r}")
    return value


def checked_count(name: str, value: Any, unit: str) -> int:
    """Raises: TypeError, ValueError unless it is a whole number, 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number of {unit}, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be 1 of {unit} or more, not {value!r}")
    return value
