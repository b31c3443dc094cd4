"""Connecting: so many connections in a row, a hundred at a time, each closed as soon as it is made.

A slot is free again when the engine has reported the connection lost. The server is the C one; it listens
on several loopback addresses, which are used in turn (native/echo_server.c says why). They are literal
addresses: no engine looks up a name.

Usage: connect.py ENGINE PORT TOTAL ADDRESSES        prints {"seconds": …, "cpu": …, "count": …}
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from engines import CALLBACK_ENGINES, callback_engine, loop_engine

AT_A_TIME = 100
WARM_UP = 200


def report(started: tuple[float, float], count: int) -> None:
    seconds, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    print(json.dumps({"seconds": seconds, "cpu": cpu, "count": count}), flush=True)


def main_callback(name: str, port: int, total: int, addresses: int) -> None:
    reactor, Protocol, _, ClientFactory = callback_engine(name)

    class Hello(Protocol):  # type: ignore[misc, valid-type]
        def connectionMade(self) -> None:
            self.transport.loseConnection()

    class Hellos(ClientFactory):  # type: ignore[misc, valid-type]
        protocol = Hello
        noisy = False

        def __init__(self, amount: int, then: object) -> None:
            self.asked, self.ended, self.amount, self.then = 0, 0, amount, then

        def start(self) -> None:
            self.started = (time.perf_counter(), time.process_time())
            for _ in range(min(AT_A_TIME, self.amount)):
                self.connect()

        def connect(self) -> None:
            self.asked += 1
            reactor.connectTCP(f"127.0.0.{1 + self.asked % addresses}", port, self)

        def clientConnectionLost(self, connector: object, reason: object) -> None:
            self.ended += 1
            if self.asked < self.amount:
                self.connect()
            elif self.ended == self.amount:
                self.then(self)  # type: ignore[operator]

        def clientConnectionFailed(self, connector: object, reason: object) -> None:
            print("connection failed:", reason, file=sys.stderr)
            reactor.stop()

    def measured(factory: Hellos) -> None:
        report(factory.started, factory.amount)
        reactor.stop()

    def warmed_up(factory: Hellos) -> None:
        Hellos(total, measured).start()

    reactor.callWhenRunning(Hellos(WARM_UP, warmed_up).start)
    reactor.run()


def main_loop(name: str, port: int, total: int, addresses: int) -> None:
    loop = loop_engine(name)

    class Hello(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.lost = loop.create_future()
            transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(None)

    async def slot(numbers: range) -> None:
        for number in numbers:
            _, hello = await loop.create_connection(Hello, f"127.0.0.{1 + number % addresses}", port)
            await hello.lost

    async def all_slots(amount: int) -> None:
        await asyncio.gather(*(slot(range(first, amount, AT_A_TIME)) for first in range(AT_A_TIME)))

    loop.run_until_complete(all_slots(WARM_UP))
    started = (time.perf_counter(), time.process_time())
    loop.run_until_complete(all_slots(total))
    report(started, total)


if __name__ == "__main__":
    start = main_callback if sys.argv[1] in CALLBACK_ENGINES else main_loop
    start(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
