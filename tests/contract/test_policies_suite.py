"""What a policy's protocol sees is a transport like any other: every claim of the suite holds through every layer."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import pytest

from ropewalk import ClientFactory, TCPOptions
from ropewalk.policies import Budget, Idle, Lifetime, Limit, RateLimit, Shed, TrafficLog, WrappingFactory
from ropewalk.simulation import Simulation
from ropewalk.testing import checkTransport, transportClaims
from tests.contract.transport_pairs import PORT, VIRTUAL_STEP, are_there

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


class Given(ClientFactory):
    """A factory of one protocol, which it lets go: a layer holds its factory, and that would hold the protocol for ever."""

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> Any:
        protocol, self._protocol = self._protocol, None
        return protocol


class LayeredPair:
    """Two ends of a simulated connection, a layer at each."""

    def __init__(self, layer: Callable[[Any], Any], left: Any, right: Any) -> None:
        chance = random.Random(1)
        self._sim = sim = Simulation(1)
        server, client = sim.host("server"), sim.host("client")
        sim.latency(server, client, chance.choice([0.0, 0.005]))
        self._port = server.reactor.listenTCP(PORT, layer(Given(right)), options=TCPOptions())
        connector = client.reactor.connectTCP("server", PORT, layer(Given(left)))
        self.runUntil(lambda: are_there(left, right, connector))
        self._port.stopListening()
        self.left, self.right = left.transport, right.transport

    def runUntil(self, condition: Callable[[], bool]) -> bool:
        for _ in range(15_000):
            if condition():
                return True
            self._sim.advance(VIRTUAL_STEP)
        return condition()

    def close(self) -> None:
        self._sim.close()
        self._sim.runUntilIdle()
        self._sim.checkAtRest()


@pytest.mark.parametrize("name", LAYERS)
def test_every_claim_holds_through_a_layer(name: str) -> None:
    # Why without: those claims take what waits behind a rate for what a full kernel does not take.
    can: Any = {"backPressure": False} if name == "RateLimit, narrow" else {}
    report = checkTransport(lambda left, right: LayeredPair(LAYERS[name], left, right), bulk=300_000, **can)
    assert len(report.held) == len(transportClaims()) - len(report.leftOut)
    assert {ability for _, ability in report.leftOut} == set(can)
