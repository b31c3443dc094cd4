"""ReconnectingClientFactory: bugs that were found by the swarm (tests/fuzz) or by readers, each as small as it could be made.

swarm 55103   startFactory raised in retry(), nobody else using the factory: the wait that had not begun stayed, and
              stopTrying raised AttributeError.
lived         How long a connection had lived was asked of the reason. One that user code had raised does not tell, so a
              connection of an hour counted as one more that came to nothing; another connection's told of that one.
"""

from __future__ import annotations

import pytest

from ropewalk import Protocol, ReconnectingClientFactory, ServerFactory
from ropewalk.error import ConnectionDone
from ropewalk.event import Ended, EndedBy
from ropewalk.simulation import Simulation


class Planned(Exception):
    """Raised on purpose."""


class Restarted(ReconnectingClientFactory):
    """Does something in its second startFactory: the one of a retry when nobody uses it."""

    noisy = False
    continueTrying = False

    def __init__(self, act):
        self.act = act
        self.starts = 0

    def startFactory(self):
        self.starts += 1
        if self.starts == 2:
            self.act(self)


def raises(factory):
    raise Planned


def idle_after_a_failure(act):
    sim = Simulation()
    factory = Restarted(act)
    sim.host().reactor.connectTCP("127.0.0.1", 9, factory)
    sim.runUntilIdle()
    factory.continueTrying = True
    return sim, factory


def test_swarm_55103_a_retry_whose_startFactory_raises_leaves_no_wait():
    sim, factory = idle_after_a_failure(raises)
    with pytest.raises(Planned):
        factory.retry()
    factory.stopTrying()
    assert factory.numPorts == 0
    sim.checkAtRest()


def test_swarm_55103_a_retry_whose_startFactory_stops_trying_leaves_no_wait():
    sim, factory = idle_after_a_failure(ReconnectingClientFactory.stopTrying)
    factory.retry()
    assert factory.numPorts == 0
    sim.checkAtRest()


class Ticks(Protocol):
    """A server that says something after so long."""

    def connectionMade(self):
        self.factory.reactor.callLater(self.factory.seconds, self.transport.write, b"tick")


def starts_of_five(reason, seconds, **settings):
    """When a client starts its first attempts, whose every connection ends by what its dataReceived raises."""

    class Raises(Protocol):
        def dataReceived(self, data):
            raise reason()

    class Again(ReconnectingClientFactory):
        noisy = False
        jitter = 0

        def startedConnecting(self, connector):
            super().startedConnecting(connector)
            starts.append(sim.now - begin)
            if len(starts) == 5:
                self.stopTrying()

    starts = []
    sim = Simulation()
    served = ServerFactory.forProtocol(Ticks)
    served.reactor, served.seconds = sim.host("server", ["10.0.0.1"]).reactor, seconds
    served.reactor.listenTCP(7, served)
    factory = Again.forProtocol(Raises)
    vars(factory).update(settings)
    begin = sim.now
    sim.host("client").reactor.connectTCP("10.0.0.1", 7, factory)
    sim.advance(5 * seconds + 200)
    return starts


def test_lived_a_connection_of_an_hour_that_user_code_ends_by_raising_starts_the_waits_anew():
    assert starts_of_five(ValueError, 3600.0, maxRetries=3) == pytest.approx(
        [0, 3601, 7202, 10803, 14404], abs=0.1
    )


def test_lived_a_short_connection_ended_by_the_reason_of_a_long_one_counts_as_short():
    def of_another():
        return ConnectionDone(ended=Ended(EndedBy.PEER, 3600.0, 0, 0))

    waits = [1, 2, 4, 8]
    expected = [sum(waits[:count]) + count for count in range(5)]
    assert starts_of_five(of_another, 1.0, factor=2) == pytest.approx(expected, abs=0.1)
