"""Invariant: one object that lacks a method, or a call with a wrong value, harms nobody else and is told at once.

Each was found by a careless user: a missing method left `run()`, or kept the reactor from ever stopping.
"""

from __future__ import annotations

import threading

import pytest

from ropewalk import ClientFactory, Factory, Protocol, Reactor, TCPOptions
from ropewalk.simulation import Simulation


class Text(Factory[Protocol]):
    """Builds a str for a protocol."""

    noisy = False

    def buildProtocol(self, addr):
        return "x"


class Quiet(ClientFactory[Protocol]):
    protocol = Protocol
    noisy = False


@pytest.fixture
def sim():
    return Simulation(seed=1)


def test_a_protocol_without_methods_ends_its_own_connection_only(sim, caplog):
    host = sim.host()
    port = host.reactor.listenTCP(7, Text())
    host.reactor.connectTCP("127.0.0.1", 7, Quiet())
    sim.advance(5)
    assert host.reactor.running
    assert port.connected
    assert "'str' object has no attribute 'makeConnection'" in caplog.text
    port.stopListening()
    sim.runUntilIdle()
    sim.checkAtRest()


def test_a_producer_without_methods_is_refused_by_name(sim):
    refused = []

    class Asks(Protocol):
        def connectionMade(self):
            for producer in (None, object()):
                with pytest.raises(
                    TypeError, match="lacks pauseProducing, resumeProducing, stopProducing"
                ) as found:
                    self.transport.registerProducer(producer, True)
                refused.append(found.value)
            self.transport.loseConnection()

    host = sim.host()
    port = host.reactor.listenTCP(7, Factory.forProtocol(Protocol))
    host.reactor.connectTCP("127.0.0.1", 7, ClientFactory.forProtocol(Asks))
    sim.advance(5)
    assert len(refused) == 2
    port.stopListening()
    sim.runUntilIdle()
    sim.checkAtRest()


def test_a_pull_producer_that_raises_ends_its_connection_with_that_exception(sim):
    class Raises:
        asked = 0

        def resumeProducing(self):
            self.asked += 1
            if self.asked > 1:
                raise ValueError("no more")

        def stopProducing(self):
            pass

    reasons = []

    class Asks(Protocol):
        def connectionMade(self):
            self.transport.registerProducer(Raises(), False)
            self.transport.write(b"something")

        def connectionLost(self, reason):
            reasons.append(reason.value)

    host = sim.host()
    port = host.reactor.listenTCP(7, Factory.forProtocol(Protocol))
    host.reactor.connectTCP("127.0.0.1", 7, ClientFactory.forProtocol(Asks))
    sim.advance(5)
    assert [str(reason) for reason in reasons] == ["no more"]
    port.stopListening()
    sim.runUntilIdle()
    sim.checkAtRest()


def test_a_reader_without_connectionLost_does_not_keep_the_reactor_from_stopping(reactor, caplog):
    ours, theirs = reactor._core.system.socket_pair()

    class Reader:
        def fileno(self):
            return ours.fileno()

        def doRead(self):
            return None

    reactor.addReader(Reader())
    reactor.callWhenRunning(reactor.stop)
    reactor.run()
    assert "connectionLost" in caplog.text
    ours.close()
    theirs.close()


@pytest.mark.parametrize("options", [None, {}, TCPOptions])
def test_options_of_another_kind_are_refused_at_once(reactor, options):
    with pytest.raises(TypeError, match="options must be a TCPOptions"):
        reactor.connectTCP("127.0.0.1", 1, Quiet(), options=options)
    with pytest.raises(TypeError, match="options must be a TCPOptions"):
        reactor.listenTCP(0, Quiet(), options=options)


@pytest.mark.parametrize("factory", [None, Quiet, Factory()])
def test_a_factory_that_is_none_is_refused_at_once(reactor, factory):
    with pytest.raises(TypeError, match="factory must be a ClientFactory instance"):
        reactor.connectTCP("127.0.0.1", 1, factory)


@pytest.mark.parametrize("delay", ["1", None, 10**400])
def test_a_delay_that_is_no_number_of_seconds_is_named(reactor, delay):
    with pytest.raises(TypeError, match="a delay must be a number of seconds"):
        reactor.callLater(delay, print)


@pytest.mark.parametrize("timeout", ["5", float("inf"), -1])
def test_a_timeout_that_makes_no_sense_is_named(reactor, timeout):
    with pytest.raises((TypeError, ValueError), match="or None for ever, not"):
        reactor.connectTCP("127.0.0.1", 1, Quiet(), timeout=timeout)


def test_nothing_is_accepted_and_lost_after_close():
    closed = Reactor()
    closed.close()
    closed.close()
    for ask in (
        lambda: closed.callLater(0, print),
        lambda: closed.callFromThread(print),
        lambda: closed.connectTCP("127.0.0.1", 1, Quiet()),
        closed.run,
    ):
        with pytest.raises(RuntimeError, match="this reactor has been closed"):
            ask()


def test_blockingCallFromThread_on_the_reactor_s_own_thread_is_refused(reactor):
    from ropewalk.threads import blockingCallFromThread

    seen = []

    def ask():
        with pytest.raises(RuntimeError, match="own thread"):
            blockingCallFromThread(reactor, print)
        seen.append(threading.current_thread())
        reactor.stop()

    reactor.callWhenRunning(ask)
    reactor.run()
    assert seen == [threading.current_thread()]
