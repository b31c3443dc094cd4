"""The machines that `ropewalk explain` draws are the engine's own tables, none left out."""

import importlib
import pkgutil
from enum import StrEnum

import pytest

import ropewalk._loop
import ropewalk._net
from ropewalk._net.sides import JOINT
from ropewalk.cli.tables import Machine, machines, subjects


def every_machine():
    return [machine for subject in subjects for machine in machines(subject)]


def tables_of_the_engine():
    """Every module-level table {(state, event): state} of the engine, by name."""
    for package in (ropewalk._net, ropewalk._loop):
        for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            for name, value in vars(importlib.import_module(found.name)).items():
                if isinstance(value, dict) and value and all(is_row(row) for row in value.items()):
                    yield f"{found.name}.{name}", value


def is_row(row):
    key, after = row
    return (
        isinstance(key, tuple) and len(key) == 2 and all(isinstance(each, StrEnum) for each in (*key, after))
    )


def test_no_state_table_of_the_engine_is_left_out():
    drawn = [machine.table for machine in every_machine()]
    left_out = [name for name, table in tables_of_the_engine() if not any(table is each for each in drawn)]
    assert not left_out


@pytest.mark.parametrize("machine", every_machine(), ids=lambda machine: machine.title)
def test_every_state_of_a_machine_can_be_reached(machine: Machine):
    reached = {machine.initial}
    while True:
        more = {after for (before, _), after in machine.table.items() if before in reached} - reached
        if not more:
            break
        reached |= more
    assert reached == {each for (before, _), after in machine.table.items() for each in (before, after)}


def test_both_sides_of_a_stream_make_one_machine_in_which_half_close_can_be_seen():
    joint = machines("stream")[-1]
    assert {each.value for key, after in joint.table.items() for each in (key[0], after)} == set(
        JOINT.values()
    )
    arrows = {(before.value, event.value): after.value for (before, event), after in joint.table.items()}
    assert arrows["connected", "peer sent FIN"] == "half-closed by the peer"
    assert arrows["half-closed by us", "peer sent FIN"] == "both sides ended"
    assert not any(before == "both sides ended" for before, _ in arrows)


@pytest.mark.parametrize("form", ["text", "mermaid"])
def test_a_machine_is_drawn_under_its_title(form):
    for machine in every_machine():
        assert machine.title in machine.drawn(form)


def test_a_subject_that_has_no_machines_is_a_key_error():
    with pytest.raises(KeyError):
        machines("nothing")
