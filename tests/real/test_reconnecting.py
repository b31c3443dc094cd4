"""ReconnectingClientFactory on a real reactor and real loopback connections."""

from __future__ import annotations

import pytest

from ropewalk import Protocol, ReconnectingClientFactory, ServerFactory


class HangsUp(Protocol):
    def connectionMade(self):
        self.transport.loseConnection()


class Quick(ReconnectingClientFactory):
    protocol = Protocol
    noisy = False
    jitter = 0
    initialDelay = 0.001
    maxDelay = 0.001

    def __init__(self):
        self.told = []

    def startFactory(self):
        self.told.append("start")

    def stopFactory(self):
        self.told.append("stop")

    def clientConnectionLost(self, connector, reason):
        self.told.append("lost")
        super().clientConnectionLost(connector, reason)

    def clientConnectionFailed(self, connector, reason):
        self.told.append("failed")
        super().clientConnectionFailed(connector, reason)


@pytest.fixture
def address(reactor):
    """Where a server hangs up on everybody, until the reactor stops."""
    listening = reactor.listenTCP(0, ServerFactory.forProtocol(HangsUp), interface="127.0.0.1")
    return "127.0.0.1", listening.getHost().port


def test_it_comes_back_until_it_is_told_to_stop_and_starts_and_stops_once(reactor, address):
    class Thrice(Quick):
        def clientConnectionLost(self, connector, reason):
            super().clientConnectionLost(connector, reason)
            if self.told.count("lost") == 3:
                self.stopTrying()
                reactor.callLater(0, reactor.stop)

    factory = Thrice()
    reactor.connectTCP(*address, factory)
    reactor.run(installSignalHandlers=False)
    assert factory.told == ["start", "lost", "lost", "lost", "stop"]
    assert factory.numPorts == 0


def test_shutdown_while_it_waits_ends_the_wait_and_stops_the_factory(reactor, address):
    class Stops(Quick):
        initialDelay = maxDelay = 3600.0

        def clientConnectionLost(self, connector, reason):
            super().clientConnectionLost(connector, reason)
            reactor.callLater(0, reactor.stop)

    factory = Stops()
    reactor.connectTCP(*address, factory)
    reactor.run(installSignalHandlers=False)
    assert factory.told == ["start", "lost", "stop"]
    assert not reactor.getDelayedCalls()


def test_a_connection_lost_by_the_shutdown_itself_is_not_waited_for(reactor):
    class Connected(Protocol):
        def connectionMade(self):
            reactor.stop()

    class Kept(Quick):
        protocol = Connected

    listening = reactor.listenTCP(0, ServerFactory.forProtocol(Protocol), interface="127.0.0.1")
    factory = Kept()
    reactor.connectTCP("127.0.0.1", listening.getHost().port, factory)
    reactor.run(installSignalHandlers=False)
    assert factory.told == ["start", "lost", "stop"]
    assert not reactor.getDelayedCalls()


def test_a_refused_attempt_is_made_again_when_the_server_is_back(reactor):
    probe = reactor.listenTCP(0, ServerFactory.forProtocol(HangsUp), interface="127.0.0.1")
    port = probe.getHost().port
    probe.stopListening()
    reactor.iterate()
    factory = Quick()

    def refused_twice():
        if factory.told.count("failed") < 2:
            reactor.callLater(0.001, refused_twice)
        else:
            reactor.listenTCP(port, ServerFactory.forProtocol(HangsUp), interface="127.0.0.1")
            reactor.callLater(0.001, reached)

    def reached():
        if "lost" in factory.told:
            factory.stopTrying()
            reactor.stop()
        else:
            reactor.callLater(0.001, reached)

    reactor.connectTCP("127.0.0.1", port, factory)
    reactor.callLater(0, refused_twice)
    reactor.run(installSignalHandlers=False)
    assert factory.told[0] == "start"
    assert factory.told[-1] == "stop"
    assert factory.told.count("start") == factory.told.count("stop") == 1
