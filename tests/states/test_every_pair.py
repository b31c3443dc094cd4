"""Every pair of every table: a state and an event are in the table, or raise IllegalTransition; and no state is dead.

The tables are found, not listed: every Table of the engine's rooms, of the simulated kernel, and of what stays connected. What is listed is where each
machine begins and where it must be able to end; a new table fails here until it is added.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from enum import StrEnum
from typing import Any

import pytest

import ropewalk._loop
import ropewalk._net
import ropewalk.pool
import ropewalk.service
import ropewalk.simulation
from ropewalk._net.sides import JOINT, ReadSide, WriteSide
from ropewalk.machine import IllegalTransition, Table

# Of each kind of object: the state it begins in, and the one it must be able to reach from everywhere.
ENDS = {
    "Reactor": ("stopped", "stopped"),
    "Connector": ("disconnected", "disconnected"),
    "Dial": ("new", "over"),
    "Port": ("closed", "closed"),
    "Stream": ("connected", "closed"),
    "read side of a Stream": ("open", "ended"),
    "write side of a Stream": ("open", "shut"),
    "Endpoint": ("closed", "closed"),
    "ClientService": ("new", "stopped"),
    "pooled connection": ("connecting", "gone"),
}


def all_tables() -> dict[str, Table[Any, Any]]:
    found: dict[str, Table[Any, Any]] = {}
    names = [ropewalk.pool.__name__, ropewalk.service.__name__]
    for package in (ropewalk._loop, ropewalk._net, ropewalk.simulation):
        names += [each.name for each in pkgutil.iter_modules(package.__path__, package.__name__ + ".")]
    for name in names:
        for value in vars(importlib.import_module(name)).values():
            if isinstance(value, Table):
                assert found.get(value.kind, value) is value, f"two tables for {value.kind}"
                found[value.kind] = value
    return found


TABLES = all_tables()
EACH = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


def kinds(table: Table[Any, Any]) -> tuple[type[StrEnum], type[StrEnum]]:
    """The enum of its states, and that of its events."""
    ((states, events),) = {(type(state), type(event)) for state, event in table}
    return states, events


def test_every_machine_has_a_beginning_and_an_end() -> None:
    assert set(TABLES) == set(ENDS)


@EACH
def test_every_pair_is_in_the_table_or_raises(table: Table[Any, Any]) -> None:
    states, events = kinds(table)
    for state, event in itertools.product(states, events):
        if (state, event) in table:
            assert isinstance(table[state, event], states)
        else:
            with pytest.raises(IllegalTransition) as raised:
                table[state, event]
            assert str(raised.value) == f"{table.kind}: {event.value!r} cannot happen while {state.value!r}"


@EACH
def test_every_state_and_every_event_is_used(table: Table[Any, Any]) -> None:
    states, events = kinds(table)
    assert {state for state, _ in table} | set(table.values()) == set(states)
    others = [each for each in TABLES.values() if each is not table and kinds(each)[1] is events]
    assert {event for each in (table, *others) for _, event in each} == set(events)


def reachable(table: Table[Any, Any], start: StrEnum) -> set[StrEnum]:
    found = {start}
    while more := {after for (before, _), after in table.items() if before in found} - found:
        found |= more
    return found


@EACH
def test_no_state_is_dead(table: Table[Any, Any]) -> None:
    states, _ = kinds(table)
    first, last = (states(each) for each in ENDS[table.kind])
    assert reachable(table, first) == set(states)
    for state in states:
        assert last in reachable(table, state), f"{state.value!r} never ends"


def test_the_two_sides_of_a_stream_make_a_state_in_words_whatever_they_are() -> None:
    assert set(JOINT) == set(itertools.product(ReadSide, WriteSide))
    assert len(set(JOINT.values())) == len(JOINT)
