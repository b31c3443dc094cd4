"""A producer that turns the loop inside resumeProducing, while its stream is in `due` already, left it there for ever:
marked as queued, and in no queue. No write, no close and no "writable" reached the kernel again.
"""

from __future__ import annotations

from typing import Any

import pytest

from ropewalk import ClientFactory, Factory, Protocol
from ropewalk.simulation import Simulation


class Pull:
    """Asked for more, it turns the loop once, at the moment when its stream is queued, and writes later."""

    def __init__(self, transport: Any, iterates: bool) -> None:
        self.transport = transport
        self.iterates = iterates
        self.asked = 0
        self.has_turned = False
        self.is_inside = False

    def stopProducing(self) -> None: ...

    def resumeProducing(self) -> None:
        if self.is_inside:
            return
        self.asked += 1
        reactor = self.transport.reactor
        if self.transport._in_due and self.asked > 1 and not self.has_turned:
            self.has_turned = self.is_inside = True
            if self.iterates:
                reactor.iterate(0)
            self.is_inside = False
            reactor.callLater(0.5, self.transport.write, b"q" * 100)
        elif self.asked < 40:
            self.transport.write(b"p" * 100)


@pytest.mark.parametrize("iterates", [True, False])
def test_it_sends_and_closes_all_the_same(iterates: bool) -> None:
    has_turned = 0
    for seed in range(60):
        has_turned += live(seed, iterates)
    assert has_turned > 10


def live(seed: int, iterates: bool) -> bool:
    """One world; whether the producer has turned the loop."""
    sim = Simulation(seed)
    server, client = sim.host("server"), sim.host("client")
    made: dict[str, Any] = {}
    lost: list[str] = []

    class Source(Protocol):
        def connectionMade(self) -> None:
            made["source"] = self
            self.pull = Pull(self.transport, iterates)
            self.transport.registerProducer(self.pull, False)
            self.transport.write(b"p" * 3_000_000)

        def finish(self) -> None:
            self.transport.unregisterProducer()
            self.transport.write(b"END")
            self.transport.loseConnection()

        def connectionLost(self, reason: Any) -> None:
            lost.append(type(reason.value).__name__)

    class Pokes(Protocol):
        def dataReceived(self, data: bytes) -> None:
            # What puts the source's stream into `due` in the same batch in which it becomes writable.
            made["source"].transport.pauseProducing()
            made["source"].transport.resumeProducing()

    class Sink(Protocol):
        end = b""

        def connectionMade(self) -> None:
            made["sink"] = self
            self.transport.pauseProducing()

        def dataReceived(self, data: bytes) -> None:
            self.end = (self.end + data)[-3:]

    class Poker(Protocol):
        def connectionMade(self) -> None:
            made["poker"] = self

    server.reactor.listenTCP(1, Factory.forProtocol(Source))
    server.reactor.listenTCP(2, Factory.forProtocol(Pokes))
    for port, kind in ((2, Poker), (1, Sink)):
        client.reactor.connectTCP("server", port, ClientFactory.forProtocol(kind))
        sim.advance(1)
    made["sink"].transport.resumeProducing()
    for number in range(300):
        client.reactor.callLater(number * 1e-4, lambda: made["poker"].transport.write(b"x"))
    for number in range(30):
        sim.at(sim.now + number * 1e-3 + 1e-4, server.pause)
        sim.at(sim.now + number * 1e-3 + 9e-4, server.resume)
    server.reactor.callLater(20, made["source"].finish)
    sim.advance(100)
    assert lost == ["ConnectionDone"], f"seed {seed}: {made['source'].transport!r}"
    assert made["sink"].end == b"END"
    return bool(made["source"].pull.has_turned)
