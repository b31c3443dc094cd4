"""What a policy's protocol sees is a transport like any other: every claim of the suite holds through every layer."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from ropewalk import TCPOptions
from ropewalk.policies import Budget, Idle, Lifetime, Limit, RateLimit, Shed, TrafficLog, WrappingFactory
from ropewalk.simulation import Simulation
from ropewalk.testing import checkTransport, transportClaims
from tests.contract.transport_pairs import SimulatedPair

LAYERS: dict[str, Callable[[Any], Any]] = {
    "WrappingFactory": WrappingFactory,
    "Idle": lambda factory: Idle(factory, 10_000),
    "Lifetime": lambda factory: Lifetime(factory, 10_000),
    "Limit": lambda factory: Limit(factory, 10, perPeer=10),
    "Shed": lambda factory: Shed(factory, Budget(1_000_000_000)),
    "TrafficLog": lambda factory: TrafficLog(factory, io.StringIO()),
    "RateLimit, wide": lambda factory: RateLimit(factory, 1e9, 1e9),
    # Why so: each claim's bulk takes seconds, in small pieces, and everything waits for something.
    "RateLimit, narrow": lambda factory: RateLimit(factory, 200_000, 150_000),
    "all": lambda factory: Limit(
        Idle(Shed(TrafficLog(RateLimit(factory, 1e7, 1e7), io.StringIO()), 10**9), 10_000), 10
    ),
}


def layered(layer: Callable[[Any], Any], left: Any, right: Any) -> SimulatedPair:
    """Two ends of a simulated connection, a layer at each."""
    sim = Simulation(1)
    sim.latency(sim.host("server"), sim.host("client"), 0.0)
    return SimulatedPair(sim, left, right, TCPOptions(), layer)


@pytest.mark.parametrize("name", LAYERS)
def test_every_claim_holds_through_a_layer(name: str) -> None:
    # Why without: those claims take what waits behind a rate for what a full kernel does not take.
    can: Any = {"backPressure": False} if name == "RateLimit, narrow" else {}
    report = checkTransport(lambda left, right: layered(LAYERS[name], left, right), bulk=300_000, **can)
    assert len(report.held) == len(transportClaims()) - len(report.leftOut)
    assert {ability for _, ability in report.leftOut} == set(can)
