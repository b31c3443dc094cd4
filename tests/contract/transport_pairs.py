"""Makers of transport pairs for the suite: TCP over the real kernel, and over the simulated one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from ropewalk import ClientFactory, Reactor, TCPOptions
from ropewalk.simulation import Simulation

HERE = "127.0.0.1"
# Seconds of waiting in one step, and seconds until something is given up: only an upper bound.
STEP = 0.001
PATIENCE = 20.0
# The same in virtual seconds.
VIRTUAL_STEP = 0.02
VIRTUAL_STEPS = 15_000
PORT = 7


class Given(ClientFactory):
    """A factory of one protocol that is there already; let go, as a layer would hold its factory, and that the protocol."""

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> Any:
        protocol, self._protocol = self._protocol, None
        return protocol


def are_there(left: Any, right: Any, connector: Any) -> bool:
    """Whether both are connected; or the right one has aborted before the left one had noticed."""
    left_is_settled = left.transport is not None or connector.state == "disconnected"
    return left_is_settled and right.transport is not None


class RealPair:
    """Two ends of one real TCP connection; the left one has connected."""

    def __init__(self, reactor: Reactor, left: Any, right: Any) -> None:
        self._reactor = reactor
        port = reactor.listenTCP(0, Given(right), interface=HERE)
        connector = reactor.connectTCP(HERE, port.getHost().port, Given(left))
        self.runUntil(lambda: are_there(left, right, connector))
        port.stopListening()
        self.left, self.right = left.transport, right.transport

    def runUntil(self, condition: Callable[[], bool]) -> bool:
        limit = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > limit:
                return False
            self._reactor.iterate(STEP)
        return True

    def close(self) -> None:
        self._reactor.close()


def over_poller(name: str) -> Callable[[Any, Any], RealPair]:
    """A maker of pairs over the real kernel, with that poller."""
    return lambda left, right: RealPair(Reactor(poller=name), left, right)


class SimulatedPair:
    """Two ends of one connection between two simulated hosts, perhaps with a layer at each; the left one has connected."""

    steps = VIRTUAL_STEPS

    def __init__(
        self,
        sim: Simulation,
        left: Any,
        right: Any,
        options: TCPOptions,
        layer: Callable[[Any], Any] = lambda factory: factory,
    ) -> None:
        self._sim = sim
        server, client = sim.host("server"), sim.host("client")
        self._port = server.reactor.listenTCP(PORT, layer(Given(right)), options=options)
        connector = client.reactor.connectTCP("server", PORT, layer(Given(left)), options=options)
        self.runUntil(lambda: are_there(left, right, connector))
        self._port.stopListening()
        self.left, self.right = left.transport, right.transport

    def runUntil(self, condition: Callable[[], bool]) -> bool:
        for _ in range(self.steps):
            if condition():
                return True
            self._sim.advance(VIRTUAL_STEP)
        return condition()

    def close(self) -> None:
        self._sim.close()
        self._sim.runUntilIdle()
        self._sim.checkAtRest()


class Weather:
    """What a seed's network and kernels are like; a maker of pairs that live in it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        chance = random.Random(f"weather {seed}")
        self._pairs = 0
        self.latency = chance.choice([0.0, 0.0005, 0.005, 0.03])
        self.jitter = chance.choice([0.0, 0.001, 0.02])
        self.loss = chance.choice([0.0, 0.0, 0.02, 0.1])
        # Most bytes of a call, for how many calls; single bytes for a while only, or it takes for ever.
        self.short = chance.choice([(None, None), (1, 300), (700, 1000), (5000, None)])
        self.buffer = chance.choice([None, 5000, 20_000])
        # Why less where little goes at once: each piece takes a round trip, and a second's work says it all.
        self.bulk = 3_000_000 if self.buffer is None and self.short[0] is None else 300_000

    def __call__(self, left: Any, right: Any) -> SimulatedPair:
        self._pairs += 1
        sim = Simulation(f"{self.seed} {self._pairs}")
        server, client = sim.host("server"), sim.host("client")
        sim.latency(server, client, self.latency, self.jitter)
        sim.loss(server, client, self.loss)
        for host in (server, client):
            most, times = self.short
            if most is not None:
                for call in ("send", "sendmsg", "recv"):
                    host.faults.short(call, most, times)
        options = TCPOptions(sendBuffer=self.buffer, receiveBuffer=self.buffer)
        return SimulatedPair(sim, left, right, options)

    def __repr__(self) -> str:
        facts = f"latency {self.latency} jitter {self.jitter} loss {self.loss}"
        return f"{self.seed}: {facts} short {self.short} buffer {self.buffer} bulk {self.bulk}"
