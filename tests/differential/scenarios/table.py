"""The scenarios: one story each, played by Twisted and by Ropewalk.

A scenario sets its actors going and returns the condition under which the story is over; then the reactor is stopped,
and what is told at the shutdown belongs to the log as well. One that names no difference must give the same log with
both engines. One that does names the row of docs/differences-from-twisted.md, and tells what each engine alone logs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.differential.bench import Bench

# For one end: what only Twisted logs, and what only Ropewalk logs.
Only = tuple[list[str], list[str]]


class Scenario(NamedTuple):
    play: Callable[[Bench], Any]
    differs: tuple[str, ...]
    only: dict[str, Only]


SCENARIOS: dict[str, Scenario] = {}


def scenario(*differs: str, **only: Only) -> Any:
    """Args: differs: IDs of rows of the document; only: for each end whose log differs, how."""

    def add(play: Callable[[Bench], Any]) -> Callable[[Bench], Any]:
        SCENARIOS[play.__name__.replace("_", " ")] = Scenario(play, differs, only)
        return play

    return add


MADE = ["buildProtocol", "makeConnection", "connectionMade"]
STOPPED = ["doStop", "stopFactory"]


def write(data: bytes) -> Callable[..., Any]:
    return lambda protocol, *_: protocol.transport.write(data)


def lose(protocol: Any, *_: Any) -> None:
    protocol.transport.loseConnection()


def abort(protocol: Any, *_: Any) -> None:
    protocol.transport.abortConnection()


def echo(protocol: Any, data: bytes) -> None:
    protocol.transport.write(data)


def freeze(bench):
    """What comes now is not part of the story."""
    bench.log = {who: list(told) for who, told in bench.log.items()}
    bench.note = lambda *_: None
