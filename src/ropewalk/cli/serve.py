"""`ropewalk listen`: the other end, for trying things out.

Without `--echo` it is one connection joined with stdin and stdout: the first that comes in; nobody else gets
in after it, and its end is the command's end, with the same exit status as `connect` would give. With `--echo`
everybody gets back what they send, until Ctrl-C, or with `--once` until the first one left.

Where it listens is told on stderr, since stdout is for the data: also useful with port 0, where the system
picks a free one. Ctrl-C is how one stops listening, so it counts as success.
"""

import socket
import sys
from typing import Any

from ropewalk import Factory, Protocol, Reactor
from ropewalk.address import display
from ropewalk.cli.joint import Joint
from ropewalk.cli.outcome import Course, Outcome, outcome_of
from ropewalk.cli.place import Place
from ropewalk.cli.show import trace_to_stderr
from ropewalk.error import CannotListenError

__all__ = ["Echo", "listen", "numeric"]


def listen(place: Place, echo: bool, once: bool, trace: bool) -> Outcome:
    """Listen, serve, and come back when it is over.

    Args:     echo: send everybody's data back, instead of joining the first with stdin and stdout.
              once: with echo, end with the first connection that ends.
              trace: tell every step of every connection on stderr.
    """
    try:
        host, number = numeric(place)
    except OSError as exc:
        return Outcome(1, f"cannot listen on {place}: {exc.strerror}")
    reactor = Reactor()
    if trace:
        trace_to_stderr(reactor)
    course = Course(reactor, Outcome(0))
    serving = EchoFactory(course if once else None) if echo else JoiningFirst(course)
    try:
        port = reactor.listenTCP(number, serving, interface=host)
    except CannotListenError as exc:
        return Outcome(1, str(exc))
    if isinstance(serving, JoiningFirst):
        serving.port = port
    print(f"ropewalk: listening on {display(port.getHost())}", file=sys.stderr, flush=True)
    return course.run()


def numeric(place: Place) -> tuple[str, int]:
    """The place to listen on, as numbers. Why blocking: nothing runs yet that could be held up."""
    found = socket.getaddrinfo(
        place.host or None, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    address = found[0][4]
    return (str(address[0]) if place.host else ""), int(address[1])


class JoiningFirst(Factory):
    """Joins the first connection with stdin and stdout and turns all others away."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self.port: Any = None

    def buildProtocol(self, addr: object) -> Joint | None:
        if self.port is None:
            return None  # Why: several may come in at once, before the port is closed.
        port, self.port = self.port, None
        port.stopListening()
        joint = Joint(self.course.reactor, lambda reason: self.course.end(outcome_of(joint, reason)))
        return joint


class EchoFactory(Factory):
    """Makes an Echo for everybody; with a course, the first that ends is the end of it."""

    def __init__(self, once: Course | None = None) -> None:
        self.once = once

    def buildProtocol(self, addr: object) -> "Echo":
        return Echo(self.once)


class Echo(Protocol):
    """Sends back what comes in, and takes no more while the peer does not read its own."""

    def __init__(self, once: Course | None = None) -> None:
        self.once = once

    def connectionMade(self) -> None:
        # The transport is its own producer: it stops reading while what it wrote waits to be sent.
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def connectionLost(self, reason: Any) -> None:
        if self.once is not None:
            self.once.end(Outcome(0))
