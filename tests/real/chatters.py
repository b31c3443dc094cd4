"""Very many guests of examples/chat_server.py in one process: the program that tests/real/test_example_chat.py runs.

    chatters.py PORT GUESTS LINES

All enter; when each has heard that it is there, each says its lines, and waits until it has heard those of all. Prints one JSON
object. What was heard and should not have been, or was not and should have been, ends it with an AssertionError.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from ropewalk import ClientFactory, Protocol, Reactor

# What the process has open besides.
SPARE = 50
# Attempts under way at once; the kernel's queue of connections not yet accepted is somaxconn long.
AT_ONCE = 256
# Once in each line that is said, and nowhere else.
MARK = b"!"


class Guest(Protocol):
    factory: Guests
    name: bytes
    is_in = False

    def connectionMade(self) -> None:
        self.heard = bytearray()
        self.missing = self.factory.expected
        self.factory.connected(self)

    def dataReceived(self, data: bytes) -> None:
        # Why not line by line: a million would measure this process, not the server.
        self.heard += data
        self.missing -= data.count(MARK)
        if not self.is_in and b"\n* %s is here\n" % self.name in self.heard:
            self.is_in = True
            self.factory.entered()
        elif not self.missing:
            self.factory.has_all()


class Guests(ClientFactory[Guest]):
    noisy = False
    protocol = Guest

    def __init__(self, reactor: Reactor, port: int, count: int, lines: int) -> None:
        self.reactor, self.port, self.count, self.lines = reactor, port, count, lines
        self.expected = count * lines
        self.guests: list[Guest] = []
        self.asked = self.inside = self.complete = 0

    def connect(self) -> None:
        while self.asked < self.count and self.asked - len(self.guests) < AT_ONCE:
            self.asked += 1
            self.reactor.connectTCP("127.0.0.1", self.port, self)

    def connected(self, guest: Guest) -> None:
        guest.name = b"guest%d" % len(self.guests)
        guest.transport.write(guest.name + b"\n")
        self.guests.append(guest)
        self.connect()

    def entered(self) -> None:
        self.inside += 1
        if self.inside == self.count:
            self.began = time.monotonic()
            for guest in self.guests:
                guest.transport.write(b"".join(b"line %d%s\n" % (each, MARK) for each in range(self.lines)))

    def has_all(self) -> None:
        self.complete += 1
        if self.complete == self.count:
            self.seconds = time.monotonic() - self.began
            self.reactor.stop()

    def check(self) -> None:
        """All have heard the same, and in that is every line once, in its speaker's order."""
        heard, *others = (bytes(guest.heard).rpartition(b" is here\n")[2] for guest in self.guests)
        assert all(each == heard for each in others)
        following = {guest.name: 0 for guest in self.guests}
        for line in heard.splitlines():
            name, _, text = line.partition(b": ")
            assert text == b"line %d%s" % (following[name], MARK)
            following[name] += 1
        assert set(following.values()) == {self.lines}


def main(port: int, count: int, lines: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + SPARE, hard), hard))
    with Reactor() as reactor:
        guests = Guests(reactor, port, count, lines)
        reactor.callWhenRunning(guests.connect)
        reactor.run()
    guests.check()
    sys.stdout.write(json.dumps({"lines": count * count * lines, "seconds": guests.seconds}) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
