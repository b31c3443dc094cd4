"""State machines as data: a table says what is legal, and looking the next state up in it is the only way to change one.

A table maps (state, event) to the next state: `self._state = CONNECTOR[self._state, ConnectorEvent.LOST]`. Everything that
decides legality is in it; a pair that is missing is a fault of the caller, told at once with what kind of object it is, its
state and the event. What does not change legality (pausing, the level of a buffer) is no state.

Strategy: plain dictionaries of `StrEnum` members, so that tests can walk them, diagrams are drawn from them, and a
reader sees a whole machine at one glance. A lookup is no Python call: the walk of a connection stays short.
Rejected: a function `step(table, owner, state, event)`, which could name the very object in its error, for one more call
and one more file on every way through the engine; the traceback names it as well. Rejected: a library, and decorators on
methods; both hide the table.
Source: the idea, from h11's `_state.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class IllegalTransition(RuntimeError):
    """An event that the state an object is in does not allow."""

    def __init__(self, kind: str, state: StrEnum, event: StrEnum) -> None:
        super().__init__(f"{kind}: {event.value!r} cannot happen while {state.value!r}")
        self.kind = kind
        self.state = state
        self.event = event


class Table(dict[tuple[S, E], S]):
    """The transitions of one kind of object.

    Args:   kind: what it is, for the error: "Connector".
    Raises: IllegalTransition naming kind, state and event, when a pair is looked up that is not there.
    """

    def __init__(self, kind: str, transitions: Mapping[tuple[S, E], S]) -> None:
        super().__init__(transitions)
        self.kind = kind

    def __missing__(self, pair: tuple[S, E]) -> S:
        raise IllegalTransition(self.kind, *pair)
