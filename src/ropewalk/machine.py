"""State machines as data: a table says what is legal, `step` is the only way from one state to the next.

A table maps (state, event) to the next state. Everything that decides legality is in it; a pair that is missing is a
fault of the caller, told at once with the object, its state and the event. What does not change legality (pausing, the
level of a buffer) is no state.

Strategy: plain dictionaries of `StrEnum` members, so that tests can walk them, diagrams are drawn from them, and a
reader sees a whole machine at one glance. Rejected: a library, and decorators on methods; both hide the table.
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

    def __init__(self, owner: object, state: StrEnum, event: StrEnum) -> None:
        super().__init__(f"{owner!r} is {state.value!r}, where {event.value!r} cannot happen")
        self.owner = owner
        self.state = state
        self.event = event


def step(table: Mapping[tuple[S, E], S], owner: object, state: S, event: E) -> S:
    """The state after `event`.

    Raises: IllegalTransition naming owner, state and event where the table has no entry.
    """
    try:
        return table[state, event]
    except KeyError:
        raise IllegalTransition(owner, state, event) from None
