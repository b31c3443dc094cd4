"""RateLimit: bytes pass at a rate, in each direction, smoothly.

Received bytes beyond the rate are held here, the transport is paused meanwhile, and they are handed on in pieces as the bucket
lets them pass; so the peer feels it, by TCP's own window. Written bytes are held likewise. While some are, a Feeder is
registered with the transport as a producer: so everything that has to wait for what was written waits for these too, by the
transport's own rules (closing, half-closing, the peer's half-close). The close deadline is for a peer that takes nothing: it
does not run while only this layer holds bytes, as the transport's `closeTimeout` is None for so long. The protocol's own
producer is fed by the Feeder: it is paused when too much waits here and in the transport together, and resumed when the
transport has run empty and little waits here. For that the transport's own limits are 0 while the Feeder is registered: then
it says each time that it has run empty, also if it was never full.

A close, an abort and a loss end what is held as they end what a transport holds. What has been received and is still held when
a reset comes is lost, as it would be in the kernel of a host whose program reads slowly.

It must never count tokens, nor time; that is bucket.py and lane.py. Source: nginx's limit_rate;
twisted.protocols.policies.ThrottlingFactory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from ropewalk.failure import Failure
from ropewalk.policies.bucket import Bucket
from ropewalk.policies.lane import Lane
from ropewalk.policies.wrapping import ProtocolWrapper, WrappingFactory
from ropewalk.transport import as_bytes, as_pieces, check_producer

__all__ = ["RateLimit", "RateLimitProtocol"]

log = logging.getLogger("ropewalk")

# Bytes that wait above which a producer is paused, and at which it is resumed, for transports that do not tell theirs.
_LIMITS = (65536, 0, None)


class Feeder:
    """What the transport knows as the producer: it stands for what is held, and for the protocol's own producer.

    Args: layer: whose it is.
    """

    __slots__ = ("_is_asked", "_is_paused", "_layer", "is_registered", "producer", "streaming")

    def __init__(self, layer: RateLimitProtocol) -> None:
        self._layer = layer
        self.producer: Any = None
        self.streaming = False
        self.is_registered = False
        self._is_paused = False
        # Whether a pull producer was asked and has not written since.
        self._is_asked = False

    def register(self, producer: Any, streaming: bool) -> None:
        self.producer, self.streaming = producer, streaming
        self._is_paused = self._is_asked = False
        self.settle()
        if not streaming:
            self._is_asked = True
            producer.resumeProducing()
        self.check()

    def unregister(self) -> None:
        self.producer = None
        self.settle()

    def settle(self) -> None:
        """Be registered exactly while something is held, or the protocol has a producer."""
        transport = self._layer.transport
        is_wanted = self.producer is not None or self._layer.held > 0
        if is_wanted and not self.is_registered and transport.connected:
            self.is_registered = True
            transport.setWriteLimits(0, 0)
            transport.registerProducer(self, True)
        elif not is_wanted and self.is_registered:
            self.is_registered = False
            transport.unregisterProducer()
            transport.setWriteLimits(*self._layer.limits)
        self._layer.time_close()

    @property
    def isHolding(self) -> bool:
        """Whether more is to leave of what was written, or asked for, before a half-close."""
        return self._layer.held > 0 or (self.producer is not None and not self.streaming)

    def wrote(self) -> None:
        """The protocol has written."""
        self._is_asked = False
        self.check()

    def check(self) -> None:
        """Pause the producer if too much waits."""
        layer = self._layer
        if self.producer is None or not self.streaming or self._is_paused:
            return
        if layer.bytesBuffered > layer.limits[0]:
            self._is_paused = True
            try:
                self.producer.pauseProducing()
            except Exception:
                # Why not raised: whoever writes is not to blame for its producer.
                log.exception("pauseProducing of %r raised", self.producer)
            except BaseException as exc:
                # Why later: SystemExit leaves the loop, and whoever writes has to end what it has begun.
                layer.clock.callLater(0, _raise, exc)

    def pauseProducing(self) -> None:
        """The transport is not empty."""

    def stopProducing(self) -> None:
        """The transport wants nothing from the producer any more; what is held was written before, and still leaves."""
        self.is_registered = False
        producer, self.producer = self.producer, None
        try:
            if producer is not None:
                producer.stopProducing()
        finally:
            self.settle()

    def resumeProducing(self) -> None:
        """The transport is empty."""
        producer, layer = self.producer, self._layer
        layer.time_close()
        if producer is None:
            return
        if self.streaming:
            if self._is_paused and layer.bytesBuffered <= layer.limits[1]:
                self._is_paused = False
                producer.resumeProducing()
        elif not layer.held and not self._is_asked:
            self._is_asked = True
            producer.resumeProducing()


def _raise(exc: BaseException) -> None:
    raise exc


class RateLimitProtocol(ProtocolWrapper):
    """One connection, both of its directions."""

    def __init__(self, factory: Any, wrappedProtocol: Any) -> None:
        super().__init__(factory, wrappedProtocol)
        self._incoming = b""
        self._outgoing = bytearray()
        # Bytes that had come and were never handed on.
        self._thrown_away = 0
        # What the protocol wants; whether we have paused the transport; whether nothing is to be handed on any more.
        self._is_paused = self._is_holding = self._is_deaf = False
        self._is_handing_on = False
        self._in: Any = None
        self._out: Any = None
        self._feeder: Any = None
        self.limits: Any = _LIMITS
        # The `closeTimeout` to be, while the transport's is None because of us.
        self._close_timeout: float | None = None

    def connectionMade(self) -> None:
        factory, clock = self.factory, self.clock
        self._in = Lane(factory.bucketOf(factory.receive), clock, self._hand_on)
        self._out = Lane(factory.bucketOf(factory.send), clock, self._let_leave)
        self._feeder = Feeder(self)
        self.limits = getattr(self.transport, "writeLimits", _LIMITS)

    def connectionLost(self, reason: Failure) -> None:
        self._in.close()
        self._out.close()
        self._drop()
        try:
            super().connectionLost(reason)
        finally:
            self._feeder = self._in = self._out = None

    # ---- receiving ----------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        self._incoming += data
        # Why directly: the transport is on the stack, and knows what to do with what the protocol raises.
        self._hand_on(lambda callback, piece: callback(piece))

    def _hand_on(self, call: Callable[..., object] | None = None) -> None:
        """Give the protocol what may pass. Args: call: how; None if the transport is not there to see what it raises."""
        if self._is_handing_on:
            return
        self._is_handing_on = True
        try:
            while self._incoming and not (self._is_paused or self._is_deaf):
                count = self._in.allowed(len(self._incoming))
                if not count:
                    break
                piece, self._incoming = self._incoming[:count], self._incoming[count:]
                (call or self.callProtocol)(self.wrappedProtocol.dataReceived, piece)
                if call is None:
                    self.stirInside(0)
        except (SystemExit, KeyboardInterrupt):
            # Why: these leave the loop, which may run again; what is left comes then.
            self.clock.callLater(0, self._resumed)
            raise
        finally:
            self._is_handing_on = False
            self._hold()

    def _hold(self) -> None:
        """The transport is paused exactly while something is held, or the protocol wants it."""
        is_wanted = self._is_paused or bool(self._incoming)
        if is_wanted is not self._is_holding:
            self._is_holding = is_wanted
            if is_wanted:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def pauseProducing(self) -> None:
        self._is_paused = True
        if self._in is not None:
            self._in.rest()
        self._hold()

    def resumeProducing(self) -> None:
        self._is_paused = False
        if self._incoming and not self._is_deaf:
            # Why later: nothing that a protocol asks for calls it back before it has returned.
            self.clock.callLater(0, self._resumed)
        else:
            self._hold()

    def _resumed(self) -> None:
        if self._in is not None:
            self._hand_on()

    # ---- writing ------------------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Bytes written that have not been passed to the transport."""
        return len(self._outgoing)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if type(data) is not bytes:
            data = as_bytes(data)
        transport = self.transport
        if not self._outgoing:
            count = 0 if self._out is None else self._out.allowed(len(data))
            if count == len(data) or not transport.connected:
                transport.write(data)
                if count and self._feeder is not None:
                    self._feeder.wrote()
                return
            if count:
                transport.write(data[:count])
                data = data[count:]
        # Why an empty one: it is what checks the thread.
        transport.write(b"")
        self._outgoing += data
        self._let_leave()
        hard = self.limits[2]
        if hard is not None and self.bytesBuffered > hard:
            # The transport refuses so much by itself, and says why.
            self._pass(len(self._outgoing))
        self._feeder.wrote()
        self.stirInside(len(data))

    def writeSequence(self, data: Iterable[bytes | bytearray | memoryview]) -> None:
        for chunk in as_pieces(data):
            self.write(chunk)

    def _let_leave(self) -> None:
        """Pass on what may leave."""
        while self._outgoing:
            count = self._out.allowed(len(self._outgoing))
            if not count:
                break
            self._pass(count)
        self._feeder.settle()

    def _pass(self, count: int) -> None:
        piece = bytes(self._outgoing[:count])
        del self._outgoing[:count]
        # Why before: the transport begins to watch its peer when it is given something.
        self._run_deadline()
        self.transport.write(piece)

    def time_close(self) -> None:
        """The close deadline stands still exactly while bytes wait here and the transport has none."""
        transport = self.transport
        if self._outgoing and transport.connected and not transport.bytesBuffered:
            seconds = getattr(transport, "closeTimeout", None)
            if seconds is not None:
                self._close_timeout = seconds
                transport.closeTimeout = None
        else:
            self._run_deadline()

    def _run_deadline(self) -> None:
        seconds, self._close_timeout = self._close_timeout, None
        # Why asked: a layer outside may have set another meanwhile.
        if seconds is not None and self.transport.closeTimeout is None:
            self.transport.closeTimeout = seconds

    @property
    def closeTimeout(self) -> float | None:
        """The transport's, which does not run while only this layer holds bytes."""
        return self.transport.closeTimeout if self._close_timeout is None else self._close_timeout

    @closeTimeout.setter
    def closeTimeout(self, seconds: float | None) -> None:
        self.transport.closeTimeout = seconds
        self._close_timeout = None
        self.time_close()

    @property
    def writeLimits(self) -> Any:
        """(high, low, hard), of the transport and of what is held here together."""
        return self.limits

    def setWriteLimits(self, high: int, low: int = 0, hard: Any = ...) -> None:
        """As the transport's; what is held here counts."""
        self.transport.setWriteLimits(high, low, hard)
        self.limits = (high, low, self.limits[2] if hard is ... else hard)
        if self._feeder.is_registered:
            self.transport.setWriteLimits(0, 0)
        self._feeder.check()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        feeder = self._feeder
        check_producer(producer, streaming, None if feeder is None else feeder.producer)
        if feeder is None or not self.transport.connected:
            producer.stopProducing()
        else:
            feeder.register(producer, streaming)

    def unregisterProducer(self) -> None:
        if self._feeder is not None:
            self._feeder.unregister()

    # ---- ending -------------------------------------------------------------------------------------------------

    def loseConnection(self) -> None:
        self._hear_no_more()
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        self._drop()
        self.transport.abortConnection()

    def raised(self) -> None:
        self._drop()
        feeder = self._feeder
        if feeder is not None:
            # Why first: what its producer writes when it is stopped is held again, and the Feeder registered for it.
            producer = feeder.producer
            feeder.unregister()
            try:
                if producer is not None:
                    producer.stopProducing()
            except Exception:
                # Why not raised: the connection is to be closed all the same, for what was raised first.
                log.exception("stopProducing of %r raised", producer)
        self.transport.loseConnection()

    def _drop(self) -> None:
        self._hear_no_more()
        self._outgoing.clear()

    def _hear_no_more(self) -> None:
        self._is_deaf = True
        self._thrown_away += len(self._incoming)
        self._incoming = b""

    # ---- asking -------------------------------------------------------------------------------------------------

    @property
    def heldInside(self) -> int:
        return len(self._outgoing) + super().heldInside

    @property
    def isWaiting(self) -> bool:
        # Why not all that is held: a protocol that has paused, and a peer that takes nothing, are waited for in vain.
        is_handing_on = bool(self._incoming) and not self._is_paused
        return is_handing_on or bool(self._outgoing and not self.transport.bytesBuffered) or super().isWaiting

    @property
    def bytesBuffered(self) -> int:
        """Bytes written that have not left."""
        return len(self._outgoing) + int(self.transport.bytesBuffered)

    @property
    def bytesReceived(self) -> int:
        """Bytes that have been handed on."""
        return int(self.transport.bytesReceived) - len(self._incoming) - self._thrown_away


class RateLimit(WrappingFactory):
    """Let bytes pass at a rate.

    Args:   wrappedFactory: any factory.
            receive, send: bytes per second of each connection in that direction; None for no limit. Or a Bucket, which is
                shared by all connections of this factory, and of every other that is given the same.
    Raises: TypeError, ValueError for what is neither.
    Order:  in any time t, what passes is never more than the bucket's `burst + rate * t`.
    """

    protocol = RateLimitProtocol

    def __init__(
        self,
        wrappedFactory: Any,
        receive: float | Bucket | None = None,
        send: float | Bucket | None = None,
    ) -> None:
        super().__init__(wrappedFactory)
        if receive is None and send is None:
            raise ValueError("a rate limit needs `receive`, `send`, or both")
        self.receive = receive
        self.send = send
        # Why made and let go: a rate that cannot be one is refused here, not with the first connection.
        self.bucketOf(receive)
        self.bucketOf(send)

    def bucketOf(self, rate: float | Bucket | None) -> Bucket | None:
        """A bucket of its own for a number, the shared one itself."""
        return rate if rate is None or isinstance(rate, Bucket) else Bucket(rate)
