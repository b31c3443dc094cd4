"""State tables as diagrams, and how text is made safe inside any Mermaid diagram.

The engine's objects have their states in tables, `{(state, event): next state}`. The diagrams in docs/ and
those of `ropewalk explain` are drawn from these very tables, so a diagram cannot disagree with the code.

Events that lead from one state to the same next one share an arrow. A state that nothing leaves gets an
arrow to the end, a circle with a dot in Mermaid.

`escaped` is here because both kinds of diagram need it: Mermaid has no quoting, it has entity codes. What is
no letter, digit, space or harmless sign becomes `#code;`, so a name like `x;end` stays a name.
Rejected: leaving text alone and trusting Mermaid's lexer. A line end in an error text would begin a new
statement of the diagram, and in a web page Mermaid may render what looks like HTML.
Source: Mermaid's syntax of stateDiagram-v2, section on entity codes of sequenceDiagram.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from ropewalk.observe.phrases import plain

__all__ = ["escaped", "mermaid", "text"]

State = TypeVar("State", bound=StrEnum)
Trigger = TypeVar("Trigger", bound=StrEnum)

_harmless = frozenset(" .,:_()[]/=+-?!'*→·")


def escaped(value: object) -> str:
    """The value as text that Mermaid shows and never reads as its own syntax."""
    return "".join(each if each.isalnum() or each in _harmless else f"#{ord(each)};" for each in plain(value))


def mermaid(table: Mapping[tuple[State, Trigger], State], initial: State) -> str:
    """The table as the source of a Mermaid state diagram.

    Args:     table: from (state, event) to the state after it.
              initial: the state in which the object is made.
    Returns:  lines without a final line end, the same for the same table: its order is kept.
    Raises:   ValueError if no row of the table mentions `initial`.
    """
    states = _states(table, initial)
    names = _names(states)
    lines = ["stateDiagram-v2"]
    lines += [
        f'    state "{escaped(state.value)}" as {names[state]}'
        for state in states
        if names[state] != state.value
    ]
    lines.append(f"    [*] --> {names[initial]}")
    for (before, after), events in _arrows(table).items():
        lines.append(f"    {names[before]} --> {names[after]}: {escaped(', '.join(events))}")
    left = {before for before, _ in table}
    lines += [f"    {names[state]} --> [*]" for state in states if state not in left]
    return "\n".join(lines)


def text(table: Mapping[tuple[State, Trigger], State], initial: State) -> str:
    """The table as lines to read in a terminal: each state, and under it where each event leads.

    Args, Raises: as for `mermaid`.
    """
    states = _states(table, initial)
    arrows = _arrows(table)
    lines = []
    for state in states:
        leaving = {
            plain(", ".join(events)): after for (before, after), events in arrows.items() if before is state
        }
        marks = " (at the beginning)" if state is initial else "" if leaving else " (at the end)"
        lines.append(f"{plain(state.value)}{marks}")
        width = max(map(len, leaving), default=0)
        lines += [
            f"    {events:<{width}} → {plain(after.value) if after is not state else 'itself'}"
            for events, after in leaving.items()
        ]
    return "\n".join(lines)


def _states(table: Mapping[tuple[State, Trigger], State], initial: State) -> list[State]:
    """Every state once, the initial one first, then as the table mentions them."""
    mentioned = dict.fromkeys(each for (before, _), after in table.items() for each in (before, after))
    if initial not in mentioned:
        raise ValueError(f"the table has no state {initial!r}")
    return list(dict.fromkeys((initial, *mentioned)))


def _arrows(table: Mapping[tuple[State, Trigger], State]) -> dict[tuple[State, State], list[str]]:
    """The events of each pair (before, after), in the table's order."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (before, event), after in table.items():
        arrows.setdefault((before, after), []).append(event.value)
    return arrows


def _names(states: list[State]) -> dict[State, str]:
    """An identifier for each state: its own value if Mermaid can take that for a name, else one made of it."""
    names: dict[State, str] = {}
    for index, state in enumerate(states):
        made = re.sub(r"\W", "_", state.value, flags=re.ASCII)
        # Why: "end", "state" or "note" are Mermaid's own words, and two values may shrink to one name.
        reserved = made in {"end", "state", "note", "direction", "as", "default", "class", "classDef", ""}
        names[state] = f"{made}_{index}" if reserved or made in names.values() else made
    return names
