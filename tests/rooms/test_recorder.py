"""The recorder: it remembers every connection's steps, and never more than it was allowed to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.event import Event, Step
from ropewalk.observe import Recorder


def tell(recorder, number, *steps, began=0.0, every=1.0):
    """Hand the recorder one event for each (step, details) pair or bare step, `every` seconds apart."""
    for index, each in enumerate(steps):
        step, details = each if isinstance(each, tuple) else (each, {})
        recorder(Event(began + index * every, number, step, details))


def steps_of(recorder, number):
    return [moment.step for moment in recorder.timeline(number).moments]


def test_a_connection_is_remembered_step_by_step_with_times_from_its_first():
    recorder = Recorder()
    tell(recorder, 7, (Step.CONNECTING, {"host": "a", "port": 1}), Step.CONNECTED, Step.CLOSED, began=5000.25)
    timeline = recorder.timeline(7)
    assert [(m.at, m.step) for m in timeline.moments] == [
        (0.0, Step.CONNECTING),
        (1.0, Step.CONNECTED),
        (2.0, Step.CLOSED),
    ]
    assert timeline.subject == "connection 7 to a:1"
    assert timeline.state == "closed"
    assert timeline.notes == ()


def test_connections_told_in_turns_are_kept_apart():
    recorder = Recorder()
    for step in (Step.CONNECTING, Step.CONNECTED, Step.CLOSED):
        tell(recorder, 1, step)
        tell(recorder, 2, step)
    assert steps_of(recorder, 1) == steps_of(recorder, 2) == [Step.CONNECTING, Step.CONNECTED, Step.CLOSED]
    assert list(recorder) == [1, 2]
    assert [t.subject for t in recorder.timelines()] == ["connection 1 to ?:?", "connection 2 to ?:?"]


@pytest.mark.parametrize(
    ("step", "details", "subject"),
    [
        (Step.CONNECTING, {"host": "::1", "port": 80}, "connection 3 to [::1]:80"),
        (Step.ACCEPTED, {"peer": "127.0.0.1:5"}, "connection 3, accepted from 127.0.0.1:5"),
        (Step.LISTENING, {"address": "0.0.0.0:80"}, "port 3 on 0.0.0.0:80"),
        (Step.PAUSED, {}, "connection 3"),
    ],
)
def test_a_timeline_names_what_it_is_about(step, details, subject):
    recorder = Recorder()
    tell(recorder, 3, (step, details))
    assert recorder.timeline(3).subject == subject


def test_pauses_are_one_moment_that_counts_and_sums():
    recorder = Recorder()
    tell(recorder, 1, Step.CONNECTED, *[Step.PAUSED, Step.RESUMED] * 1000, Step.CLOSED, every=0.5)
    moments = recorder.timeline(1).moments
    assert [m.step for m in moments] == [Step.CONNECTED, Step.PAUSED, Step.CLOSED]
    assert moments[1].at == 0.5
    assert moments[1].details == {"times": 1000, "seconds": 500.0, "still": False}


def test_a_pause_that_lasts_says_so_and_ends_with_the_connection():
    recorder = Recorder()
    tell(recorder, 1, Step.CONNECTED, Step.PAUSED)
    assert recorder.timeline(1).moments[1].details == {"times": 1, "seconds": 0.0, "still": True}
    tell(recorder, 1, Step.CLOSED, began=9.0)
    assert recorder.timeline(1).moments[1].details == {"times": 1, "seconds": 8.0, "still": False}


def test_a_full_buffer_is_one_moment_that_keeps_the_highest_level():
    recorder = Recorder()
    full = [(Step.BUFFER_FULL, {"buffered": n}) for n in (70_000, 90_000, 80_000)]
    tell(recorder, 1, Step.CONNECTED, *[each for f in full for each in (f, Step.BUFFER_DRAINED)])
    moment = recorder.timeline(1).moments[1]
    assert moment.step is Step.BUFFER_FULL
    assert moment.details == {"buffered": 90_000, "times": 3, "seconds": 3.0, "still": False}


def test_accepting_paused_again_and_again_is_one_moment_with_the_seconds_in_all():
    recorder = Recorder()
    refused = (Step.ACCEPT_PAUSED, {"error": "Too many open files", "errno": 24, "seconds": 0.25})
    tell(recorder, 1, Step.LISTENING, *[refused] * 8)
    moments = recorder.timeline(1).moments
    assert [m.step for m in moments] == [Step.LISTENING, Step.ACCEPT_PAUSED]
    assert moments[1].details["times"] == 8
    assert moments[1].details["seconds"] == 2.0
    assert moments[1].details["errno"] == 24


def test_a_resume_without_a_pause_is_told_as_it_came():
    recorder = Recorder()
    tell(recorder, 1, Step.CONNECTED, Step.RESUMED)
    assert steps_of(recorder, 1) == [Step.CONNECTED, Step.RESUMED]


def test_the_connection_that_ended_longest_ago_is_forgotten_first():
    recorder = Recorder(limit=3)
    tell(recorder, 1, Step.CONNECTING)  # lives
    tell(recorder, 2, Step.CONNECTING)
    tell(recorder, 3, Step.CONNECTING, Step.CLOSED)
    tell(recorder, 2, Step.FAILED)
    tell(recorder, 4, Step.CONNECTING)
    assert list(recorder) == [1, 2, 4]
    tell(recorder, 5, Step.ACCEPTED)
    assert list(recorder) == [1, 4, 5]
    assert recorder.forgotten == 2


def test_if_all_live_the_oldest_makes_room_for_a_new_one():
    recorder = Recorder(limit=2)
    for number in (1, 2, 3):
        tell(recorder, number, Step.CONNECTING)
    assert list(recorder) == [2, 3]


def test_a_forgotten_connection_that_still_speaks_evicts_nobody():
    recorder = Recorder(limit=2)
    for number in (1, 2, 3):
        tell(recorder, number, Step.CONNECTING)
    tell(recorder, 1, Step.CONNECTED, Step.PAUSED, Step.RESUMED, Step.CLOSED)
    assert list(recorder) == [2, 3]
    assert steps_of(recorder, 2) == [Step.CONNECTING]


def test_a_connection_older_than_the_recorder_is_noted_from_its_next_event_and_says_so():
    recorder = Recorder()
    tell(recorder, 9, Step.PAUSED, Step.CLOSED)
    timeline = recorder.timeline(9)
    assert [m.step for m in timeline.moments] == [Step.PAUSED, Step.CLOSED]
    assert timeline.notes == ("recording began when this connection already was under way",)


def test_the_moments_of_one_connection_are_bounded_and_its_end_is_told_all_the_same():
    recorder = Recorder(eventLimit=10)
    tries = [(Step.ATTEMPT_STARTED, {"address": f"10.0.0.{n}:1"}) for n in range(250)]
    tell(recorder, 1, Step.CONNECTING, *tries, Step.CONNECTED, Step.PROTOCOL_BUILT, Step.PAUSED, Step.CLOSED)
    steps = steps_of(recorder, 1)
    assert steps == [
        Step.CONNECTING,
        *[Step.ATTEMPT_STARTED] * 10,
        Step.CONNECTED,
        Step.PROTOCOL_BUILT,
        Step.CLOSED,
    ]
    assert recorder.timeline(1).notes == (
        "241 more steps were left out: the recorder's eventLimit was reached",
    )


def test_a_timeline_does_not_change_when_more_happens():
    recorder = Recorder()
    tell(recorder, 1, Step.CONNECTED, Step.PAUSED)
    before = recorder.timeline(1)
    told = before.text()
    tell(recorder, 1, Step.RESUMED, Step.PAUSED, Step.RESUMED, Step.CLOSED, began=2.0)
    assert before.text() == told
    assert recorder.timeline(1).text() != told


def test_an_unknown_number_is_a_lookup_error_that_names_it():
    with pytest.raises(LookupError, match="connection 42"):
        Recorder().timeline(42)


def test_cleared_it_knows_nothing():
    recorder = Recorder()
    tell(recorder, 1, Step.CONNECTING)
    tell(recorder, 2, Step.CONNECTING, Step.CLOSED)
    recorder.clear()
    assert len(recorder) == 0
    assert 1 not in recorder


@pytest.mark.parametrize("limits", [{"limit": 0}, {"eventLimit": 0}, {"limit": -1}])
def test_a_recorder_that_may_remember_nothing_is_refused(limits):
    with pytest.raises(ValueError, match="at least 1"):
        Recorder(**limits)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(Step)), max_size=200),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_whatever_happens_it_stays_within_its_bounds_and_tells_what_it_holds(told, limit, event_limit):
    recorder = Recorder(limit=limit, eventLimit=event_limit)
    for time, (number, step) in enumerate(told):
        recorder(Event(float(time), number, step, {}))
        assert len(recorder) <= limit
    summed = {Step.PAUSED, Step.BUFFER_FULL, Step.ACCEPT_PAUSED}
    for timeline in recorder.timelines():
        steps = [m.step for m in timeline.moments]
        assert all(steps.count(step) <= 1 for step in summed)
        assert all(m.at is not None and m.at >= 0 for m in timeline.moments)
        assert timeline.text() and timeline.json() and timeline.mermaid()
