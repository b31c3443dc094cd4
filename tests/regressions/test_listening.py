"""Listening: bugs that were found by the swarm (tests/fuzz), each as small as it could be made.

swarm 3    A listenTCP that failed left a circle: the error, its traceback, the frame, and the frame's name for the error.
"""

from __future__ import annotations

import gc

import pytest

from ropewalk import Factory, Protocol
from ropewalk._net.listen import Port
from ropewalk.error import CannotListenError
from ropewalk.simulation import Simulation


def test_swarm_3_a_listenTCP_that_fails_leaves_nothing_to_the_garbage_collector():
    sim = Simulation()
    reactor = sim.host().reactor
    reactor.listenTCP(7, Factory.forProtocol(Protocol))
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(CannotListenError) as raised:
            reactor.listenTCP(7, Factory.forProtocol(Protocol))
        raised.value.__traceback__ = None
        del raised
        ports = [each for each in gc.get_objects() if isinstance(each, Port)]
    finally:
        gc.enable()
    assert [port.connected for port in ports if port.reactor is reactor] == [True]
