"""A clock that begins at 0.0, as a MemoryReactor's does: a dial that began then took it for "not begun"."""

from __future__ import annotations

from ropewalk.simulation import Simulation
from tests.rooms.simulated_programs import Calls, Log


def test_the_phases_of_an_attempt_that_began_at_zero_are_told_as_they_were() -> None:
    sim = Simulation()
    host = sim.host()
    host.world.now = 0.0
    sim.route("192.0.2.1", lost=True)
    sim.name("example.com", ["192.0.2.1"], delay=0.5)
    calls = Calls(Log(sim))
    host.reactor.connectTCP("example.com", 7, calls)
    sim.runUntilIdle()
    assert calls.failure.elapsed == {"resolving": 0.5, "connecting": 29.5}
