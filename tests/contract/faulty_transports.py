"""A thin layer between the engine's transport and the suite's protocol, honest by itself, and one subclass for each fault.

A Layer is both: the protocol that the engine calls and the transport that the suite's actor asks. So a fault is one
overridden method, and `CLAIM` is the claim of the suite that must find it.
"""

from __future__ import annotations

import logging
from typing import Any

from ropewalk import Failure, TCPOptions
from ropewalk.error import ConnectionDone, ConnectionLost
from ropewalk.simulation import Simulation
from tests.contract.transport_pairs import SimulatedPair

log = logging.getLogger("ropewalk")


class Layer:
    """Passes everything on, both ways."""

    CLAIM = ""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.stream: Any = None
        self.peer: Any = None

    # ---- up: what the engine calls

    @property
    def transport(self) -> Any:
        """What a maker of pairs waits for."""
        return self.stream

    def makeConnection(self, stream: Any) -> None:
        self.stream = stream
        self.actor.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        self.actor.dataReceived(data)

    def connectionLost(self, reason: Any) -> None:
        # Why let go first: a layer and its protocol would hold each other for ever.
        actor, self.actor, self.peer = self.actor, None, None
        actor.connectionLost(reason)

    # ---- down: what the protocol asks

    def write(self, data: Any) -> None:
        self.stream.write(data)

    @property
    def closeTimeout(self) -> Any:
        return self.stream.closeTimeout

    @closeTimeout.setter
    def closeTimeout(self, seconds: Any) -> None:
        self.stream.closeTimeout = seconds

    def __getattr__(self, name: str) -> Any:
        if name in ("readConnectionLost", "writeConnectionLost"):
            return getattr(self.actor, name)
        return getattr(self.stream, name)


class LayeredPair(SimulatedPair):
    """A simulated pair seen through two layers."""

    # Why so few: nothing here takes long, and what is missing is waited for to the end.
    steps = 300

    def __init__(self, kind: type[Layer], left: Any, right: Any) -> None:
        layers = (kind(left), kind(right))
        layers[0].peer, layers[1].peer = layers[1], layers[0]
        super().__init__(Simulation("faulty"), *layers, TCPOptions())
        self.left, self.right = layers

    def close(self) -> None:
        self._sim.close()


# ---- bytes --------------------------------------------------------------------------------------------------------


class DropsTheTail(Layer):
    CLAIM = "writes of odd sizes arrive whole, in order, once"

    def write(self, data):
        self.stream.write(data[:-1] if len(data) > 1000 else data)


class DoublesAChunk(Layer):
    CLAIM = "one very large write arrives whole"

    def dataReceived(self, data):
        super().dataReceived(data)
        if len(data) > 1000 and self.actor is not None:
            super().dataReceived(data)


class Reorders(Layer):
    CLAIM = "write and writeSequence of one handler keep their order"

    def writeSequence(self, data):
        self.stream.writeSequence(list(data)[::-1])


class DeliversInline(Layer):
    CLAIM = "write delivers nothing and calls nobody before it returns"

    def write(self, data):
        if self.peer is not None and self.peer.actor is not None and self.peer.stream is not None:
            self.peer.actor.dataReceived(bytes(data))


class AcceptsText(Layer):
    CLAIM = "write of anything else is a TypeError, and sends nothing"

    def write(self, data):
        self.stream.write(data.encode() if isinstance(data, str) else data)


class TakesBytesOnly(Layer):
    CLAIM = "write and writeSequence take anything bytes-like"

    def write(self, data):
        if not isinstance(data, bytes) and not isinstance(data, bytearray):
            raise TypeError(f"bytes-like, please, not {data!r}")
        self.stream.write(data)


class KeepsWhatIsMutable(Layer):
    CLAIM = "what is mutable is copied when it is written"

    def write(self, data):
        if isinstance(data, bytearray):
            self.stream.reactor.callLater(0, self.stream.write, data)
        else:
            self.stream.write(data)


class DropsGenerators(Layer):
    CLAIM = "writeSequence takes any iterable"

    def writeSequence(self, data):
        items = list(data)
        self.stream.writeSequence(list(data) if items else items)


class DeliversNothing(Layer):
    CLAIM = "an empty write is nothing"

    def write(self, data):
        if len(data):
            self.stream.write(data)
        elif self.peer is not None:
            self.peer.stream.reactor.callLater(0, self.peer.dataReceived, b"")


class DeliversByteArrays(Layer):
    CLAIM = "one byte arrives by itself"

    def dataReceived(self, data):
        super().dataReceived(bytearray(data))


class CountsNothing(Layer):
    CLAIM = "bytes are counted: sent, received, and those that wait"
    bytesSent = 0


# ---- telling ------------------------------------------------------------------------------------------------------


class IsLostTwice(Layer):
    CLAIM = "connectionMade comes first, then data, then connectionLost, each side once"

    def connectionLost(self, reason):
        actor = self.actor
        super().connectionLost(reason)
        actor.connectionLost(reason)


class IsLostInline(Layer):
    CLAIM = "a request to end calls nobody before it returns"

    def loseConnection(self):
        self.stream.loseConnection()
        if self.actor is not None:
            super().connectionLost(Failure(ConnectionDone()))

    def connectionLost(self, reason):
        if self.actor is not None:
            super().connectionLost(reason)


class TellsTheEndOnly(Layer):
    CLAIM = "when both sides close at once, each is told once, of a clean end"

    def connectionLost(self, reason):
        if not self.stream.disconnecting:
            super().connectionLost(reason)


class ReceivesTooEarly(Layer):
    CLAIM = "what both sides write in connectionMade arrives"

    def makeConnection(self, stream):
        self.stream = stream
        self.actor.transport = self
        self.actor.dataReceived(b"good")
        self.actor.makeConnection(self)


class RaisesAfterTheEnd(Layer):
    CLAIM = "after the end every request does nothing"

    def write(self, data):
        if self.stream.disconnected:
            raise RuntimeError("not connected")
        self.stream.write(data)


class SwallowsExceptions(Layer):
    CLAIM = "an exception in dataReceived ends the connection, is its reason, and is logged once"

    def dataReceived(self, data):
        try:
            super().dataReceived(data)
        except Exception as exc:
            self.swallowed = exc


class LogsTwice(Layer):
    CLAIM = "an exception in connectionMade ends the connection, is its reason, and is logged once"

    def makeConnection(self, stream):
        try:
            super().makeConnection(stream)
        except Exception:
            log.exception("connectionMade raised")
            raise


class LogsNothing(Layer):
    CLAIM = "an exception in connectionLost stays inside, is logged once, and the peer is told of the end"

    def connectionLost(self, reason):
        try:
            super().connectionLost(reason)
        except Exception as exc:
            self.swallowed = exc


class LogsNoise(Layer):
    CLAIM = "one byte arrives by itself"

    def dataReceived(self, data):
        log.error("some bytes came")
        super().dataReceived(data)


# ---- ending -------------------------------------------------------------------------------------------------------


class FlushesNothing(Layer):
    CLAIM = "loseConnection sends what was written first, all of it"

    def loseConnection(self):
        self.stream.abortConnection()


class ClosesOverUnreadData(Layer):
    CLAIM = "loseConnection with unread data does not destroy what was sent before it"
    is_paused = False

    def pauseProducing(self):
        self.is_paused = True
        self.stream.pauseProducing()

    def loseConnection(self):
        if self.is_paused:
            # What a bare close does when the kernel holds unread data: a reset.
            self.stream.reactor.callLater(0.1, self.stream.abortConnection)
        else:
            self.stream.loseConnection()


class IsNeverLost(Layer):
    CLAIM = "loseConnection ends both sides with ConnectionDone"

    def connectionLost(self, reason):
        self.actor = self.peer = None


class LosesTheReason(Layer):
    CLAIM = "abortConnection ends the peer with ConnectionLost"

    def connectionLost(self, reason):
        super().connectionLost(Failure(ConnectionDone()))


class ForgetsTheAbort(Layer):
    CLAIM = "abortConnection ends its own side with ConnectionAborted"

    def connectionLost(self, reason):
        if self.stream.ended.by == "us aborted":
            reason = Failure(ConnectionLost(ended=self.stream.ended))
        super().connectionLost(reason)


class SharesItsReason(Layer):
    CLAIM = "each side has a reason of its own"
    SHARED = Failure(ConnectionDone())

    def connectionLost(self, reason):
        super().connectionLost(self.SHARED if reason.check(ConnectionDone) else reason)


class DoesNotSayWho(Layer):
    CLAIM = "a reason tells who ended it, after how long, and how many bytes"

    def connectionLost(self, reason):
        reason.value.ended = reason.value.ended._replace(received=0)
        super().connectionLost(reason)


class NeverSaysThatItCloses(Layer):
    CLAIM = "disconnecting tells that loseConnection was called, connected that the connection is there"
    disconnecting = False


class HasNoDeadline(Layer):
    CLAIM = "loseConnection ends within closeTimeout if the peer takes nothing"

    @property
    def closeTimeout(self):
        return None

    @closeTimeout.setter
    def closeTimeout(self, seconds):
        pass


class DoesNotSeeResetsWhilePaused(Layer):
    CLAIM = "a reset is noticed while paused"
    is_paused = False
    reason = None

    def pauseProducing(self):
        self.is_paused = True
        self.stream.pauseProducing()

    def resumeProducing(self):
        self.is_paused = False
        self.stream.resumeProducing()
        if self.reason is not None:
            self.stream.reactor.callLater(0, super().connectionLost, self.reason)

    def connectionLost(self, reason):
        if self.is_paused and reason.value.errno:
            self.reason = reason
        else:
            super().connectionLost(reason)


class TakesItselfForThePeer(Layer):
    CLAIM = "getHost and getPeer are each other's, also after the end"

    def getPeer(self):
        return self.stream.getHost()


class IsACycle(Layer):
    CLAIM = "an ended connection that nobody holds is freed without the garbage collector"

    def connectionLost(self, reason):
        self.actor.connectionLost(reason)


# ---- half-close ---------------------------------------------------------------------------------------------------


class TellsNoHalfClose(Layer):
    CLAIM = "loseWriteConnection sends what was written, and then both are told which side ended"

    def readConnectionLost(self):
        pass


class ClosesWhole(Layer):
    CLAIM = "after a half-close the other direction carries on"

    def loseWriteConnection(self):
        self.stream.loseConnection()


class AbortsOnHalfClose(Layer):
    CLAIM = "a half-close ends a protocol that does not handle it, and so both, with ConnectionDone"

    def readConnectionLost(self):
        told = getattr(self.actor, "readConnectionLost", None)
        (told or self.stream.abortConnection)()


class ThrowsAwayOnHalfClose(Layer):
    CLAIM = "a peer that half-closes still gets what was written and not sent yet"

    def readConnectionLost(self):
        told = getattr(self.actor, "readConnectionLost", None)
        (told or (self.stream.abortConnection if self.stream.bytesBuffered else self.stream.loseConnection))()


# ---- flow ---------------------------------------------------------------------------------------------------------


class NeverResumes(Layer):
    CLAIM = "nothing is delivered while paused, everything after resuming"

    def resumeProducing(self):
        pass


class DeliversWhilePaused(Layer):
    CLAIM = "pausing in connectionMade holds"

    def pauseProducing(self):
        pass


class CountsPauses(Layer):
    CLAIM = "one resumeProducing undoes any number of pauseProducing, and needs none"
    pauses = 0

    def pauseProducing(self):
        self.pauses += 1
        self.stream.pauseProducing()

    def resumeProducing(self):
        self.pauses = max(0, self.pauses - 1)
        if not self.pauses:
            self.stream.resumeProducing()


class PausesAtEachWrite(Layer):
    CLAIM = "a push producer is paused once above high water, and resumed once after draining"
    producer = None

    def registerProducer(self, producer, streaming):
        self.stream.registerProducer(producer, streaming)
        self.producer = producer if streaming else None

    def write(self, data):
        was_above = self.stream.bytesBuffered > 65_536
        self.stream.write(data)
        if was_above and self.producer is not None:
            self.producer.pauseProducing()


class ForgetfulProducer:
    """Stands between the engine and a producer, and forgets one kind of call."""

    def __init__(self, producer, forgotten):
        self._producer = producer
        self._forgotten = forgotten

    def __getattr__(self, name):
        return (lambda: None) if name == self._forgotten else getattr(self._producer, name)


class ForgetsToResume(Layer):
    CLAIM = "a push producer never has more waiting than high water and one write"

    def registerProducer(self, producer, streaming):
        self.stream.registerProducer(ForgetfulProducer(producer, "resumeProducing"), streaming)


class ForgetsToStop(Layer):
    CLAIM = "a producer is stopped once when the connection ends"

    def registerProducer(self, producer, streaming):
        self.stream.registerProducer(ForgetfulProducer(producer, "stopProducing"), streaming)


class AsksOnce(Layer):
    CLAIM = "a pull producer is asked for each piece until it unregisters"

    def registerProducer(self, producer, streaming):
        if not streaming:
            producer.resumeProducing()
            producer = ForgetfulProducer(producer, "resumeProducing")
        self.stream.registerProducer(producer, streaming)


class TakesASecondProducer(Layer):
    CLAIM = "a second registerProducer is a RuntimeError, and the first one stays"

    def registerProducer(self, producer, streaming):
        self.stream.unregisterProducer()
        self.stream.registerProducer(producer, streaming)


class DoesNotWaitForItsProducer(Layer):
    CLAIM = "loseConnection waits until the producer has unregistered"

    def loseConnection(self):
        self.stream.unregisterProducer()
        self.stream.loseConnection()


class IgnoresLimits(Layer):
    CLAIM = "a peer that reads nothing is given up above the hard limit"

    def setWriteLimits(self, high, low=0, hard=None):
        pass


FAULTS = [kind for kind in Layer.__subclasses__() if kind.CLAIM]
