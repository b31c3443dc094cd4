"""The simulated kernel's pace: so many connections between two hosts, an echo on each, all in virtual time.

An event is a call on a simulated socket (recv, send, accept, a registration …) or a descriptor reported as ready; the engine
and the programs on both sides are part of the cost, as they are in a test. Only Ropewalk has such a kernel, so the mark is
a number and not a ratio.

Usage: simulated.py ropewalk MESSAGES        prints {"seconds": …, "cpu": …, "count": …}
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from engines import callback_engine

CONNECTIONS = 100
SIZE = 64


def main(messages: int) -> None:
    _, Protocol, Factory, ClientFactory = callback_engine("ropewalk")
    from ropewalk.simulation import Simulation

    class Echo(Protocol):  # type: ignore[misc, valid-type]
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(data)

    class Ping(Protocol):  # type: ignore[misc, valid-type]
        left = messages // CONNECTIONS

        def connectionMade(self) -> None:
            self.transport.write(bytes(SIZE))

        def dataReceived(self, data: bytes) -> None:
            self.left -= 1
            if self.left:
                self.transport.write(data)
            else:
                self.transport.loseConnection()

    def live(keep: bool) -> Any:
        sim = Simulation(1, keepTrace=keep)
        server, client = sim.host("server"), sim.host("client")
        sim.latency(server, client, 0.001, jitter=0.001)
        server.reactor.listenTCP(7, Factory.forProtocol(Echo))
        for _ in range(CONNECTIONS):
            client.reactor.connectTCP("server", 7, ClientFactory.forProtocol(Ping))
        started = time.perf_counter(), time.process_time()
        sim.run(until=sim.now + 1000)
        return sim, time.perf_counter() - started[0], time.process_time() - started[1]

    # Why twice: the same seed does the same, so the events can be counted in one run and the time taken in another.
    counted, _, _ = live(keep=True)
    events = sum(len(row) - 3 if row[2] == "ready" else 1 for row in counted.trace())
    _, seconds, cpu = live(keep=False)
    print(json.dumps({"seconds": seconds, "cpu": cpu, "count": events}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[2]))
