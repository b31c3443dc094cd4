"""FAULTS C16, F1, F2: the engine itself keeps alive what is connected, connecting, listening or parked.

Nobody but the engine holds a reference, the collector runs, and then the peer does something: the protocol must hear of it.
The protocols here tell a plain list of strings, which leads back to nothing.
"""

from __future__ import annotations

import gc
import socket
import weakref

import pytest

from ropewalk import ClientFactory, Factory, Protocol
from tests.faults.scene import LOCALHOST, call, reset, turn_until


class Mute(Protocol):
    """Tells a list, and is held by nobody."""

    told: list

    def connectionMade(self):
        self.told.append("made")
        self.kind_of_life()

    def kind_of_life(self):
        """What makes the connection one that waits for nothing."""

    def dataReceived(self, data):
        self.told.append("data")

    def connectionLost(self, reason):
        self.told.append(type(reason.value).__name__)


class Paused(Mute):
    def kind_of_life(self):
        self.transport.pauseProducing()


class HalfClosed(Mute):
    def readConnectionLost(self):
        self.told.append("read side lost")

    def writeConnectionLost(self):
        self.told.append("write side lost")


class HalfClosedByUs(HalfClosed):
    def kind_of_life(self):
        self.transport.loseWriteConnection()


class Parked(HalfClosed):
    """Both sides are shut and something is unread: not even the poller has it."""

    def kind_of_life(self):
        self.transport.pauseProducing()
        self.transport.loseWriteConnection()
        self.transport._loop.call_later(0.05, self.transport.resumeProducing)


def silent_factory(kind, told):
    """A listening factory whose protocols nobody else holds."""
    factory = Factory.forProtocol(type("Mute", (kind,), {"told": told}))
    factory.noisy = False
    return factory


def stop(reactor, port):
    stopped = []
    port.stopListening().addCallback(stopped.append)
    turn_until(reactor, lambda: stopped)


def live(reactor, kind, prepare, count):
    """So many connections of that kind, each as `prepare` leaves it, and no reference kept; the peers, and what is told."""
    told = []
    port = reactor.listenTCP(0, silent_factory(kind, told), interface=LOCALHOST)
    peers = [call(port) for _ in range(count)]
    turn_until(reactor, lambda: told.count("made") == count)
    for peer in peers:
        prepare(peer)
    for _ in range(10):
        reactor.iterate(0)
    stop(reactor, port)
    del port
    for _ in range(3):
        gc.collect()
    return peers, told


def half_close(peer):
    peer.shutdown(socket.SHUT_WR)


def send_and_half_close(peer):
    peer.sendall(b"unread")
    peer.shutdown(socket.SHUT_WR)


def nothing(peer):
    """It just waits."""


STILL = {
    "F1 half-closed by the peer": (HalfClosed, half_close),
    "F1 half-closed by us": (HalfClosedByUs, nothing),
    "F2 paused": (Paused, nothing),
    "F2 paused, data unread": (Paused, lambda peer: peer.sendall(b"unread")),
    "C16 idle": (Mute, nothing),
}


@pytest.mark.parametrize("still", STILL)
def test_F1_F2_C16_twenty_of_twenty_still_connections_outlive_the_collector(counted, still):
    kind, prepare = STILL[still]
    peers, told = live(counted, kind, prepare, 20)
    assert not [each for each in told if each.startswith("Connection")]
    for peer in peers:
        reset(peer)
    turn_until(counted, lambda: told.count("ConnectionLost") == 20)


def test_F1_a_parked_connection_outlives_the_collector(counted):
    peers, told = live(counted, Parked, send_and_half_close, 20)
    turn_until(counted, lambda: told.count("ConnectionDone") == 20)
    assert told.count("data") == 20
    for peer in peers:
        peer.close()


def test_F2_a_paused_connection_is_told_at_shutdown(counted):
    """Twisted forgets those that are not in its poller."""
    peers, told = live(counted, Paused, nothing, 5)
    counted.callLater(0, counted.stop)
    counted.run(installSignalHandlers=False)
    assert told.count("ConnectionLost") == 5
    for peer in peers:
        peer.close()


def test_C16_a_connector_that_nobody_holds_still_reports(counted):
    told = []

    class Reports(ClientFactory):
        noisy = False

        def clientConnectionFailed(self, connector, reason):
            told.append(type(reason.value).__name__)

    class Never:
        def resolveHostName(self, receiver, *_):
            receiver.resolutionBegan(None)

    counted.installNameResolver(Never())
    counted.connectTCP("name.invalid", 9, Reports(), timeout=0.05)
    counted.iterate(0)
    gc.collect()
    turn_until(counted, lambda: told == ["TimeoutError"])


def test_C16_a_port_that_nobody_holds_still_accepts_also_after_a_rest(counted, system):
    told = []
    number = counted.listenTCP(0, silent_factory(Mute, told), interface=LOCALHOST).getHost().port
    gc.collect()
    system.fail("accept", 5)
    with socket.create_connection((LOCALHOST, number)):
        counted.iterate(0)
        # It rests now, out of the poller.
        gc.collect()
        turn_until(counted, lambda: told == ["made"])
    turn_until(counted, lambda: told == ["made", "ConnectionDone"])
    counted.callLater(0, counted.stop)
    counted.run(installSignalHandlers=False)


def test_C16_an_ended_connection_is_held_by_nobody(counted):
    """The registry lets go: what the user drops is freed, without the collector."""
    kept = []

    class Watched(Mute):
        def connectionMade(self):
            kept.append(weakref.ref(self))
            super().connectionMade()

    peers, told = live(counted, Watched, nothing, 10)
    gc.disable()
    try:
        for peer in peers:
            peer.close()
        turn_until(counted, lambda: told.count("ConnectionDone") == 10)
        assert [each() for each in kept] == [None] * 10
    finally:
        gc.enable()
