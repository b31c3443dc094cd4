"""A paused stream whose both sides are shut is out of the poller; a reset that came then was told as an orderly end."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from ropewalk import ClientFactory, Factory, Protocol
from ropewalk.simulation import Simulation


class Half(Protocol):
    def readConnectionLost(self) -> None: ...

    def writeConnectionLost(self) -> None: ...


@pytest.mark.parametrize(
    "then", [["loseConnection"], ["resumeProducing"], ["resumeProducing", "loseConnection"]]
)
@pytest.mark.parametrize("is_reset", [True, False])
def test_how_it_ended_is_told_truly_though_nobody_looked(then: list[str], is_reset: bool) -> None:
    sim = Simulation()
    server, client = sim.host("server"), sim.host("client")
    sim.latency(server, client, 0.1)
    told: list[tuple[str, int | None]] = []

    class Source(Half):
        def connectionMade(self) -> None:
            self.transport.pauseProducing()
            self.transport.loseWriteConnection()
            for request in then:
                server.reactor.callLater(1, getattr(self.transport, request))

        def connectionLost(self, reason: Any) -> None:
            told.append((type(reason.value).__name__, reason.value.errno))

    class Sink(Half):
        def connectionMade(self) -> None:
            self.transport.write(b"x" * 10)
            self.transport.loseWriteConnection()
            if is_reset:
                sim.at(sim.now + 0.15, sim.reset, self.transport)

    server.reactor.listenTCP(7, Factory.forProtocol(Source))
    client.reactor.connectTCP("server", 7, ClientFactory.forProtocol(Sink))
    sim.run(until=sim.now + 5)
    assert told == [("ConnectionLost", errno.ECONNRESET) if is_reset else ("ConnectionDone", None)]
