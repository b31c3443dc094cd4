"""ReconnectingClientFactory: bugs that were found by the swarm (tests/fuzz), each as small as it could be made.

swarm 55103   startFactory raised in retry(), nobody else using the factory: the wait that had not begun stayed, and
              stopTrying raised AttributeError.
"""

from __future__ import annotations

import pytest

from ropewalk import ReconnectingClientFactory
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
