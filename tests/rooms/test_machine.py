"""State tables: what is in them is legal, what is not is told with kind, state and event."""

from __future__ import annotations

import pickle
from enum import StrEnum

import pytest

from ropewalk.machine import IllegalTransition, Table


class Light(StrEnum):
    RED = "red"
    GREEN = "green"


class Change(StrEnum):
    GO = "go"
    STOP = "stop"


LIGHT: Table[Light, Change] = Table(
    "Light", {(Light.RED, Change.GO): Light.GREEN, (Light.GREEN, Change.STOP): Light.RED}
)


def test_what_is_in_the_table_is_the_next_state():
    assert LIGHT[Light.RED, Change.GO] is Light.GREEN
    assert LIGHT[Light.GREEN, Change.STOP] is Light.RED


def test_what_is_missing_names_kind_event_and_state():
    with pytest.raises(IllegalTransition, match=r"^Light: 'go' cannot happen while 'green'$") as raised:
        LIGHT[Light.GREEN, Change.GO]
    assert (raised.value.kind, raised.value.state, raised.value.event) == ("Light", Light.GREEN, Change.GO)
    assert isinstance(raised.value, RuntimeError)


def test_asking_does_not_add():
    before = dict(LIGHT)
    with pytest.raises(IllegalTransition):
        LIGHT[Light.RED, Change.STOP]
    assert before == LIGHT
    assert (Light.RED, Change.STOP) not in LIGHT
    assert LIGHT.get((Light.RED, Change.STOP)) is None


def test_a_table_can_be_walked_like_any_dictionary():
    assert {state for state, _ in LIGHT} == set(Light)
    assert pickle.loads(pickle.dumps(dict(LIGHT))) == LIGHT
