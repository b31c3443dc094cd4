"""A kernel that does not say who the peer is: a socket that was connected to itself was handed on as a connection."""

from __future__ import annotations

import errno

import pytest

from ropewalk.simulation import Simulation
from tests.rooms.simulated_programs import Calls, Log


@pytest.mark.parametrize("error", [errno.ENOBUFS, errno.ENOTCONN])
def test_what_may_be_connected_to_itself_is_no_connection(error: int) -> None:
    sim = Simulation()
    host = sim.host()
    host.nextEphemeralPorts(40_000)
    host.faults.fail("getpeername", error)
    calls = Calls(Log(sim))
    connector = host.reactor.connectTCP("127.0.0.1", 40_000, calls)
    sim.runUntilIdle()
    assert calls.failure.errno == error
    assert connector.state == "disconnected"
    assert host.ledger().leftovers() == []
