"""A transport that only writes down what is done to it, for tests of a protocol by itself.

    transport = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(b"ping")
    assert transport.value() == b"pong"

It has no peer, no buffer to fill and no time. Nothing happens but what the test does: `loseConnection` sets a flag, a
producer is remembered and never asked. That is what tests written for Twisted's class of this name rely on, and with the
import swapped they pass unchanged; what differs is what differs between the engines (D18, D19: what may be written).

Rejected: a real Stream over a simulated socket. The engine sends after the handler has returned, tells the protocol of its
end by itself, and asks a pull producer at once; each of these is behind the back of a test that expects to do it by hand.
For such a test there is `MemoryReactor.acceptClient`, where protocol, stream and connector are the engine's.
Source: twisted.internet.testing.StringTransport; compared in tests/differential/test_testing.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from types import EllipsisType
from typing import Any

from ropewalk.address import IPv4Address
from ropewalk.error import ConnectionDone
from ropewalk.event import Ended
from ropewalk.failure import Failure
from ropewalk.transport import as_bytes, as_pieces

_HOST = IPv4Address("TCP", "10.0.0.1", 12345)
_PEER = IPv4Address("TCP", "192.168.1.1", 54321)


class StringTransport:
    """A transport that keeps what is written.

    Args: hostAddress, peerAddress: what getHost and getPeer give; None for made-up ones.
          lenient: whether pausing and resuming after `loseConnection` is let pass.

    For the test: `value()`, `clear()`, `connected`, `disconnecting` (loseConnection was called), `aborting` and
    `disconnected` (abortConnection was called), `producer`, `streaming`, and `producerState`, which is what the protocol
    asked of the transport: "producing", "paused" or "stopped". Of what Ropewalk's transports have beyond Twisted's:
    `writeDisconnecting` (loseWriteConnection was called), `writeLimits`, `bytesSent`; and `number`, `reactor`, `ended`,
    `bytesReceived` and `bytesBuffered`, which are as the test sets them.
    """

    disconnecting = False
    disconnected = False
    aborting = False
    producer: Any = None
    streaming: bool | None = None
    hostAddr: Any = None
    peerAddr: Any = None
    producerState = "producing"
    io: BytesIO
    writeDisconnecting = False
    writeLimits: tuple[int, int, int | None] | None = None
    bytesSent = 0
    bytesReceived = 0
    bytesBuffered = 0
    number = 0
    reactor: Any = None
    ended: Ended | None = None

    def __init__(self, hostAddress: Any = None, peerAddress: Any = None, lenient: bool = False) -> None:
        self.clear()
        # Why only then: a subclass may have addresses as class attributes.
        if hostAddress is not None:
            self.hostAddr = hostAddress
        if peerAddress is not None:
            self.peerAddr = peerAddress
        self.connected = True
        self._lenient = lenient

    # ---- for the test -----------------------------------------------------------------------------------------

    def value(self) -> bytes:
        """All that was written since the beginning, or since `clear`."""
        return self.io.getvalue()

    def clear(self) -> None:
        """Forget what was written."""
        self.io = BytesIO()

    # ---- for the protocol -------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it, also after `loseConnection`. Raises: TypeError unless it is bytes-like."""
        self._keep(as_bytes(data))

    def writeSequence(self, data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Keep each of any iterable. Raises: TypeError unless all are bytes-like; then none was kept."""
        self._keep(b"".join(as_pieces(data)))

    def _keep(self, data: bytes) -> None:
        self.io.write(data)
        self.bytesSent += len(data)

    @property
    def state(self) -> str:
        """In a connection's words: "connected", "half-closed by us", "closing", "aborting", "closed"."""
        if not self.connected:
            return "closed"
        if self.aborting:
            return "aborting"
        if self.disconnecting:
            return "closing"
        return "half-closed by us" if self.writeDisconnecting else "connected"

    def loseConnection(self) -> None:
        """Set `disconnecting`, and no more: the test ends the connection, by `protocol.connectionLost(reason)`."""
        self.disconnecting = True

    def abortConnection(self) -> None:
        """Set `aborting` and `disconnected`, then as `loseConnection`."""
        self.aborting = self.disconnected = True
        self.loseConnection()

    def loseWriteConnection(self) -> None:
        """Set `writeDisconnecting`, and no more."""
        self.writeDisconnecting = True

    def setWriteLimits(self, high: int, low: int = 0, hard: int | EllipsisType | None = ...) -> None:
        """Write them down in `writeLimits`."""
        before = self.writeLimits[2] if self.writeLimits is not None else None
        self.writeLimits = (high, low, before if hard is ... else hard)

    def getHost(self) -> Any:
        """The address given for this end, or 10.0.0.1:12345."""
        return _HOST if self.hostAddr is None else self.hostAddr

    def getPeer(self) -> Any:
        """The address given for the other end, or 192.168.1.1:54321."""
        return _PEER if self.peerAddr is None else self.peerAddr

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Remember it; it is never asked for anything. Raises: RuntimeError if there is one already."""
        if self.producer is not None:
            raise RuntimeError(f"cannot register producer {producer!r}: {self.producer!r} is registered")
        self.producer = producer
        self.streaming = streaming

    def unregisterProducer(self) -> None:
        """Forget the producer. Raises: RuntimeError if there is none, unlike a connection."""
        if self.producer is None:
            raise RuntimeError("cannot unregister a producer: none is registered")
        self.producer = self.streaming = None

    def pauseProducing(self) -> None:
        """Set `producerState`. Raises: RuntimeError after stopProducing, or after loseConnection unless lenient."""
        self._check_producing("pauseProducing")
        self.producerState = "paused"

    def resumeProducing(self) -> None:
        """Set `producerState`. Raises: RuntimeError as `pauseProducing`."""
        self._check_producing("resumeProducing")
        self.producerState = "producing"

    def stopProducing(self) -> None:
        """Set `producerState`."""
        self.producerState = "stopped"

    def _check_producing(self, asked: str) -> None:
        if self.disconnecting and not self._lenient:
            raise RuntimeError(f"{asked} after loseConnection: nobody will produce any more")
        if self.producerState == "stopped":
            raise RuntimeError(f"{asked} after stopProducing")


class StringTransportWithDisconnection(StringTransport):
    """A StringTransport that tells its protocol at once, once, when the connection is closed.

    The test sets `protocol`. A real transport never calls back on the stack of `loseConnection`; this one does, so that
    the test need not do it by hand. It does not set `disconnecting`.
    """

    protocol: Any

    def loseConnection(self) -> None:
        """`protocol.connectionLost(Failure(ConnectionDone))`, unless that was done."""
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(ConnectionDone()))
