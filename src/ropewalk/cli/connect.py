"""`ropewalk connect`: one connection from the outside of Python, and an exit status that tells how it went.

    0    connected, and both streams came to their end
    1    could not connect, or the connection was lost
    130  interrupted (Ctrl-C), 143 ended by SIGTERM, as shells have it

Tracing comes in two kinds. `text` is live: a line on stderr for each step. `json` and `mermaid` are the whole
timeline, written to stderr at the end and nothing else there, so that `2> file` gives a file a program reads;
the error message is then in the timeline.
"""

import sys
from typing import Any

from ropewalk import ClientFactory, Reactor
from ropewalk.cli.joint import Joint
from ropewalk.cli.outcome import Course, Outcome, outcome_of
from ropewalk.cli.place import Place
from ropewalk.cli.show import trace_to_stderr
from ropewalk.error import ServiceNameUnknownError
from ropewalk.observe import Recorder, explain

__all__ = ["connect"]


def connect(place: Place, timeout: float, trace: str | None) -> Outcome:
    """Connect, join with stdin and stdout until both streams ended.

    Args:     timeout: seconds for resolving and connecting together.
              trace: "text", "json", "mermaid", or None for no account of the steps.
    """
    reactor = Reactor()
    recorder = Recorder(limit=1)
    reactor.observers.append(recorder)
    if trace == "text":
        trace_to_stderr(reactor)
    course = Course(reactor)
    try:
        connector = reactor.connectTCP(place.host, place.port, Calling(course), timeout=timeout)
    except ServiceNameUnknownError as exc:
        return Outcome(1, str(exc))
    outcome = course.run()
    if trace in ("json", "mermaid"):
        timeline = explain(connector, recorder)
        print(timeline.json(indent=2) if trace == "json" else timeline.mermaid(), file=sys.stderr)
        return Outcome(outcome.status)
    return outcome


class Calling(ClientFactory):
    """Builds the one Joint and ends the course with it, or without it."""

    def __init__(self, course: Course) -> None:
        self.course = course

    def buildProtocol(self, addr: object) -> Joint:
        joint = Joint(self.course.reactor, lambda reason: self.course.end(outcome_of(joint, reason)))
        return joint

    def clientConnectionFailed(self, connector: object, reason: Any) -> None:
        self.course.end(Outcome(1, reason.getErrorMessage()))
