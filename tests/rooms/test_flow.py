"""Back-pressure: one pause for each crossing of the high mark, one resume at the low one, one question for each emptiness."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk._net.flow import Flow

HIGH, LOW = 100, 20


def pushing():
    return Flow(object(), streaming=True)


def pulling():
    return Flow(object(), streaming=False)


@pytest.mark.parametrize(("waiting", "paused"), [(0, False), (100, False), (101, True)])
def test_a_streaming_producer_is_paused_above_the_high_mark_only(waiting, paused):
    assert pushing().wrote(waiting, HIGH) is paused


def test_it_is_paused_once_per_crossing_not_once_per_write():
    flow = pushing()
    assert [flow.wrote(waiting, HIGH) for waiting in (101, 150, 300)] == [True, False, False]
    assert flow.drained(LOW, LOW)
    assert flow.wrote(101, HIGH)


@pytest.mark.parametrize(("waiting", "resumed"), [(99, False), (21, False), (20, True), (0, True)])
def test_it_is_resumed_at_the_low_mark_or_below(waiting, resumed):
    flow = pushing()
    flow.wrote(101, HIGH)
    assert flow.drained(waiting, LOW) is resumed
    assert flow.paused is not resumed


def test_one_that_is_not_paused_is_never_resumed():
    flow = pushing()
    assert not flow.drained(0, LOW)
    flow.wrote(101, HIGH)
    assert flow.drained(0, LOW)
    assert not flow.drained(0, LOW)


def test_a_pull_producer_is_never_paused():
    flow = pulling()
    assert not flow.wrote(10**9, HIGH)
    assert not flow.paused


def test_a_pull_producer_is_asked_when_nothing_waits_and_not_before():
    flow = pulling()
    flow.wrote(50, HIGH)
    assert not flow.drained(1, LOW)
    assert flow.drained(0, LOW)


def test_a_pull_producer_that_has_not_written_since_is_not_asked_again():
    flow = pulling()
    # Why: registering it was the first question.
    assert not flow.drained(0, LOW)
    flow.wrote(50, HIGH)
    assert flow.drained(0, LOW)
    assert not flow.drained(0, LOW)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=60))
def test_pauses_and_resumes_take_turns_whatever_happens(steps):
    flow, told = pushing(), []
    for is_write, waiting in steps:
        if is_write and flow.wrote(waiting, HIGH):
            told.append("pause")
        elif not is_write and flow.drained(waiting, LOW):
            told.append("resume")
        assert flow.paused is (told[-1:] == ["pause"])
    assert all(each == ("pause", "resume")[place % 2] for place, each in enumerate(told))
