"""Very many connections at once in one process: the program that tests/real/test_many.py runs, twice.

    crowd.py server COUNT          listens; echoes; tells when COUNT are connected, when each has had its echo, and
                                   when the last is gone; then ends
    crowd.py client COUNT PORT     connects COUNT times, says something else on each, and compares what comes back;
                                   when all have theirs, ends all

Each prints one JSON object per line. Two processes, because one connection whose two ends are in the same process takes
two descriptors, and the hard limit of many machines (20 000 and less) cannot be raised even by root in a container.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
from typing import Any

from ropewalk import ClientFactory, Protocol, Reactor, ServerFactory, TCPOptions

# What the process has open besides.
SPARE = 50
# Attempts under way at once; the kernel's queue of connections not yet accepted is somxaconn long.
AT_ONCE = 256


def tell(what: str, **more: Any) -> None:
    line = {"what": what, "rss": resident(), "descriptors": descriptors(), **more}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def left(kind: type) -> int:
    """Protocols still alive, though the garbage collector did not run."""
    return sum(type(each) is kind for each in gc.get_objects())


class Crowd:
    """What one side knows of all its connections."""

    def __init__(self, reactor: Reactor, count: int) -> None:
        self.reactor = reactor
        self.count = count
        self.connected = self.served = self.lost = 0
        self.reasons: dict[str, int] = {}

    def came(self) -> None:
        self.connected += 1
        if self.connected == self.count:
            gc.collect()
            gc.disable()
            tell("connected")

    def was_served(self) -> None:
        self.served += 1
        if self.served == self.count:
            tell("served")

    def went(self, reason: Any) -> None:
        self.lost += 1
        name = reason.type.__name__
        self.reasons[name] = self.reasons.get(name, 0) + 1
        if self.lost == self.count:
            self.reactor.callLater(0, self.reactor.stop)


class Served(Protocol):
    crowd: Crowd

    def connectionMade(self) -> None:
        self.crowd.came()

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)
        self.crowd.was_served()

    def connectionLost(self, reason: Any) -> None:
        self.crowd.went(reason)


class Speaks(Protocol):
    crowd: Crowd
    factory: Speakers

    def connectionMade(self) -> None:
        self.factory.speakers.append(self)
        self.crowd.came()
        self.factory.go_on()

    def speak(self, number: int) -> None:
        self.said = b"%d says hello" % number
        self.heard = b""
        self.transport.write(self.said)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self.heard == self.said:
            self.crowd.was_served()
            if self.crowd.served == self.crowd.count:
                self.factory.end()

    def connectionLost(self, reason: Any) -> None:
        self.crowd.went(reason)


class Speakers(ClientFactory[Speaks]):
    noisy = False
    protocol = Speaks

    def __init__(self, crowd: Crowd, port: int) -> None:
        self.crowd = crowd
        self.port = port
        self.asked = 0
        self.speakers: list[Speaks] = []

    def go_on(self) -> None:
        crowd = self.crowd
        while self.asked < crowd.count and self.asked - crowd.connected < AT_ONCE:
            self.asked += 1
            crowd.reactor.connectTCP("127.0.0.1", self.port, self, options=TCPOptions(noDelay=True))
        if crowd.connected == crowd.count:
            for number, each in enumerate(self.speakers):
                each.speak(number)

    def end(self) -> None:
        for each in self.speakers:
            each.transport.loseConnection()
        self.speakers.clear()

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        tell("failed", why=str(reason.value))
        self.crowd.reactor.stop()


def main(role: str, count: int, port: int = 0) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + SPARE, hard), hard))
    before = descriptors()
    reactor = Reactor()
    crowd = Crowd(reactor, count)
    if role == "server":
        Served.crowd = crowd
        listening = reactor.listenTCP(0, ServerFactory.forProtocol(Served), interface="127.0.0.1")
        tell("listening", port=listening.getHost().port)
    else:
        Speaks.crowd = crowd
        factory = Speakers(crowd, port)
        tell("begins")
        reactor.callWhenRunning(factory.go_on)
    reactor.run()
    reactor.close()
    protocols = left(Served if role == "server" else Speaks)
    tell("ended", before=before, protocols=protocols, reasons=crowd.reasons, lost=crowd.lost)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
