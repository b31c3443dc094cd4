"""The contract, once: what crosses the border between the engine and its users, as `typing.Protocol` classes.

The names are Twisted's. Nothing has to declare that it provides one; a class that has the methods does. The docstrings say
who calls whom and when; the classes that implement them say the rest.

Rule: no behaviour here, and nothing of the engine is imported: these are words that both sides may use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ropewalk.event import Ended
    from ropewalk.failure import Failure

# ---- what users write -----------------------------------------------------------------------------------------


class IProtocol(Protocol):
    """One side of one conversation. Called by its transport."""

    def makeConnection(self, transport: Any) -> None:
        """Once, first: here is your transport."""

    def connectionMade(self) -> None:
        """Once, from makeConnection."""

    def dataReceived(self, data: bytes) -> None:
        """Some bytes, in order, cut anywhere."""

    def connectionLost(self, reason: Failure) -> None:
        """Once, last."""


@runtime_checkable
class IHalfCloseableProtocol(Protocol):
    """What a protocol adds that goes on with one direction when the other has ended."""

    def readConnectionLost(self) -> None:
        """The peer will send no more; you still may."""

    def writeConnectionLost(self) -> None:
        """All was sent after `loseWriteConnection`, FIN included; the peer still may send."""


@runtime_checkable
class IDrainableProtocol(Protocol):
    """What a protocol adds that wants to know that its server is about to go: `Port.drain`."""

    def connectionDraining(self) -> None:
        """Finish what is under way, then close; after the deadline you are aborted. Once at most."""


class IProtocolFactory(Protocol):
    """Makes protocols. Called by a port or a connector."""

    def buildProtocol(self, addr: Any) -> Any:
        """A protocol for a new connection with that peer, or None to refuse it."""

    def doStart(self) -> None:
        """A port or connector begins to use it."""

    def doStop(self) -> None:
        """A port or connector has done with it."""


class IClientFactory(IProtocolFactory, Protocol):
    """Makes protocols for connections asked for; told how the asking went."""

    def startedConnecting(self, connector: Any) -> None:
        """An attempt begins."""

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """The attempt ended without a connection."""

    def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
        """The connection ended; its protocol has been told before."""


class IPushProducer(Protocol):
    """Produces by itself until it is paused."""

    def pauseProducing(self) -> None:
        """Stop for now: too much waits to be sent."""

    def resumeProducing(self) -> None:
        """Go on."""

    def stopProducing(self) -> None:
        """Stop for good: the consumer is gone."""


class IPullProducer(Protocol):
    """Produces when asked."""

    def resumeProducing(self) -> None:
        """Produce once."""

    def stopProducing(self) -> None:
        """Stop for good: the consumer is gone."""


class IFileDescriptor(Protocol):
    """Something with a descriptor of its own."""

    def fileno(self) -> int:
        """The descriptor's number."""

    def connectionLost(self, reason: Failure) -> None:
        """It is watched no more, for that reason."""

    def logPrefix(self) -> str:
        """How log lines about it begin."""


class IReadDescriptor(IFileDescriptor, Protocol):
    """What `addReader` takes."""

    def doRead(self) -> BaseException | None:
        """It is readable. An exception returned ends it."""


class IWriteDescriptor(IFileDescriptor, Protocol):
    """What `addWriter` takes."""

    def doWrite(self) -> BaseException | None:
        """It is writable. An exception returned ends it."""


class IHostnameResolver(Protocol):
    """What `installNameResolver` takes."""

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Look up a name; tell the receiver each address, then that it is complete."""


class IResolutionReceiver(Protocol):
    """What a hostname resolver tells its answer to."""

    def resolutionBegan(self, resolution: Any) -> None:
        """First; `resolution.cancel()` ends it."""

    def addressResolved(self, address: Any) -> None:
        """One address."""

    def resolutionComplete(self) -> None:
        """Last; without an address before, the name has none."""


class IResolverSimple(Protocol):
    """What `installResolver` takes."""

    def getHostByName(self, name: str, timeout: Sequence[int] = ...) -> Any:
        """A Deferred with one IPv4 address as text."""


# ---- what users hold ------------------------------------------------------------------------------------------


class IAddress(Protocol):
    """One end of a connection: IPv4Address, IPv6Address, UNIXAddress, HostnameAddress."""


class IDelayedCall(Protocol):
    """A call that was put off."""

    def getTime(self) -> float:
        """When it is due, in seconds of the reactor's clock."""

    def cancel(self) -> None:
        """Make sure that it never happens."""

    def delay(self, secondsLater: float) -> None:
        """Move it by so much."""

    def reset(self, secondsFromNow: float) -> None:
        """Let it happen so much from now."""

    def active(self) -> bool:
        """Whether it is still to come."""


class IConsumer(Protocol):
    """Takes what a producer produces."""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let it be paused and resumed from now on."""

    def unregisterProducer(self) -> None:
        """It has done."""

    def write(self, data: bytes) -> None:
        """Some bytes."""


class ITransport(Protocol):
    """The connection, as its protocol sees it."""

    @property
    def connected(self) -> bool:
        """Whether it is still there."""

    @property
    def disconnecting(self) -> bool:
        """Whether it is being closed."""

    @property
    def state(self) -> str:
        """Both in words, half-closing included."""

    @property
    def ended(self) -> Ended | None:
        """How it ended; None while it lives."""

    @property
    def number(self) -> int:
        """The serial number under which lifecycle events tell of it."""

    @property
    def reactor(self) -> Any:
        """The reactor it belongs to."""

    @property
    def bytesReceived(self) -> int:
        """Bytes taken from the kernel so far."""

    @property
    def bytesSent(self) -> int:
        """Bytes the kernel took so far."""

    @property
    def bytesBuffered(self) -> int:
        """Bytes written that the kernel did not take yet."""

    def setWriteLimits(self, high: int, low: int = 0, hard: int | EllipsisType | None = ...) -> None:
        """When a producer is paused and resumed, and when a peer that reads nothing is given up."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes after those written before."""

    def writeSequence(self, data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several."""

    def loseConnection(self) -> None:
        """Send what was written, then close."""

    def abortConnection(self) -> None:
        """Close now."""

    def getPeer(self) -> Any:
        """The other end's address."""

    def getHost(self) -> Any:
        """This end's address."""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See IConsumer."""

    def unregisterProducer(self) -> None:
        """See IConsumer."""

    def pauseProducing(self) -> None:
        """Let no data come for now."""

    def resumeProducing(self) -> None:
        """Let data come again."""

    def stopProducing(self) -> None:
        """Let no data come any more: close."""

    def loseWriteConnection(self) -> None:
        """Send what was written, then end this direction."""


class ITCPTransport(ITransport, Protocol):
    """A transport over TCP."""

    def writeFile(self, file: Any, offset: int, count: int) -> None:
        """Send a part of a regular file, as if it had been written; the kernel copies it."""

    def getTcpNoDelay(self) -> bool:
        """Whether small segments leave at once."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Switch that."""

    def getTcpKeepAlive(self) -> bool:
        """Whether an idle peer is probed."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Switch that."""


class IConnector(Protocol):
    """One factory's connection, from asking to ending."""

    @property
    def state(self) -> str:
        """ "disconnected", "connecting" or "connected"."""

    @property
    def reactor(self) -> Any:
        """The reactor that made it."""

    def connect(self) -> None:
        """Connect (again)."""

    def disconnect(self) -> None:
        """End whatever is under way."""

    def stopConnecting(self) -> None:
        """Give the attempt up."""

    def getDestination(self) -> Any:
        """The address as the user wrote it."""


class IListeningPort(Protocol):
    """A socket that connections are accepted from."""

    def startListening(self) -> None:
        """Listen (again)."""

    def stopListening(self) -> Any:
        """Listen no more; a Deferred tells when it is done."""

    def drain(self, deadline: float | None) -> Any:
        """Listen no more, and let the connections end, within that time; a Deferred tells how many did."""

    def getHost(self) -> Any:
        """The address listened on."""


# ---- the reactor, by topic --------------------------------------------------------------------------------------


class IReactorCore(Protocol):
    """Running and stopping."""

    @property
    def running(self) -> bool:
        """Whether it has started and has not stopped."""

    def run(self, installSignalHandlers: bool = True) -> None:
        """Run until stopped."""

    def stop(self) -> None:
        """Stop, and tell every connection."""

    def crash(self) -> None:
        """Stop, and tell nobody."""

    def drain(self, deadline: float | None) -> Any:
        """Drain every port; a Deferred tells how many connections ended by themselves."""

    def iterate(self, delay: float = 0) -> None:
        """One turn."""

    def callWhenRunning(self, callable: Callable[..., object], *args: Any, **kw: Any) -> Any:
        """Now if it runs, else when it starts."""

    def addSystemEventTrigger(
        self, phase: str, eventType: str, callable: Callable[..., object], *args: Any, **kw: Any
    ) -> Any:
        """Call in that phase of that event."""

    def removeSystemEventTrigger(self, triggerID: Any) -> None:
        """Do not."""

    def fireSystemEvent(self, eventType: str) -> None:
        """Run an event's triggers."""


class IReactorTime(Protocol):
    """Time."""

    def seconds(self) -> float:
        """The clock."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> Any:
        """Call once, later; gives an IDelayedCall."""

    def getDelayedCalls(self) -> Sequence[Any]:
        """All that are to come."""


class IReactorThreads(Protocol):
    """Threads."""

    def callFromThread(self, callable: Callable[..., object], *args: Any, **kw: Any) -> None:
        """Call on the reactor's thread; from any thread."""

    def callInThread(self, callable: Callable[..., object], *args: Any, **kw: Any) -> None:
        """Call in a thread of the pool; from any thread."""

    def getThreadPool(self) -> Any:
        """The pool; from any thread."""

    def suggestThreadPoolSize(self, size: int) -> None:
        """How many threads it may have."""


class IReactorTCP(Protocol):
    """TCP."""

    def connectTCP(
        self,
        host: str,
        port: int | str,
        factory: Any,
        timeout: float | None = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> Any:
        """Connect; gives an IConnector."""

    def listenTCP(
        self, port: int | str, factory: Any, backlog: int | None = None, interface: str = ""
    ) -> Any:
        """Listen; gives an IListeningPort."""


class IReactorFDSet(Protocol):
    """Descriptors that users bring."""

    def addReader(self, reader: IReadDescriptor) -> None:
        """Watch for reading."""

    def addWriter(self, writer: IWriteDescriptor) -> None:
        """Watch for writing."""

    def removeReader(self, reader: Any) -> None:
        """Do not."""

    def removeWriter(self, writer: Any) -> None:
        """Do not."""

    def removeAll(self) -> list[Any]:
        """Watch none; gives what was watched."""

    def getReaders(self) -> list[Any]:
        """Those watched for reading."""

    def getWriters(self) -> list[Any]:
        """Those watched for writing."""
