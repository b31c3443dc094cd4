"""System events: three phases in order, Deferreds waited for, triggers that raise or come and go meanwhile."""

from __future__ import annotations

import pytest

from ropewalk import Deferred
from ropewalk._loop.triggers import PHASES, SystemEvents, Trigger


class Stage:
    def __init__(self):
        self.told = []
        self.raised = []
        self.events = SystemEvents(self.call)

    def call(self, func, args, kw):
        try:
            return func(*args, **kw)
        except Exception as exc:
            self.raised.append(exc)
            return None

    def add(self, phase, func, *args, event="shutdown", **kw):
        return self.events.add(phase, event, func, args, kw)

    def note(self, phase, what, event="shutdown"):
        return self.add(phase, self.told.append, what, event=event)

    def fire(self, event="shutdown"):
        self.events.fire(event, lambda: self.told.append("done"))


@pytest.fixture
def stage():
    return Stage()


def test_phases_run_in_order_and_triggers_in_the_order_in_which_they_were_added(stage):
    for phase in reversed(PHASES):
        stage.note(phase, f"{phase} 1")
        stage.note(phase, f"{phase} 2")
    stage.fire()
    assert stage.told == [f"{phase} {number}" for phase in PHASES for number in (1, 2)] + ["done"]


def test_the_engine_s_own_part_comes_first_in_during_each_time(stage):
    stage.events.set_heart("shutdown", lambda: stage.told.append("heart"))
    stage.note("during", "during")
    stage.note("before", "before")
    stage.fire()
    stage.fire()
    assert stage.told == ["before", "heart", "during", "done", "heart", "done"]


def test_arguments_and_keywords_are_passed(stage):
    stage.add("during", lambda *args, **kw: stage.told.append((args, kw)), 1, key=2)
    stage.fire()
    assert stage.told[0] == ((1,), {"key": 2})


def test_every_Deferred_of_a_before_trigger_is_waited_for(stage):
    first, second = Deferred(), Deferred()
    stage.add("before", lambda: first)
    stage.add("before", lambda: second)
    stage.note("during", "during")
    stage.fire()
    first.callback(None)
    assert stage.told == []
    second.callback(None)
    assert stage.told == ["during", "done"]


def test_a_Deferred_that_has_fired_already_starts_nothing_too_early(stage):
    fired = Deferred()
    fired.callback(None)
    stage.add("before", lambda: fired)
    stage.note("before", "second before")
    stage.note("during", "during")
    stage.fire()
    assert stage.told == ["second before", "during", "done"]


def test_a_Deferred_s_result_and_failure_stay_its_own(stage):
    good, bad = Deferred(), Deferred()
    stage.add("before", lambda: good)
    stage.add("before", lambda: bad)
    stage.fire()
    good.callback("mine")
    bad.errback(ValueError("mine too"))
    assert stage.told == ["done"]
    got = []
    good.addCallback(got.append)
    bad.addErrback(lambda failure: got.append(str(failure.value)))
    assert got == ["mine", "mine too"]


def test_a_Deferred_of_a_later_phase_is_not_waited_for(stage):
    stage.add("during", Deferred)
    stage.add("after", Deferred)
    stage.fire()
    assert stage.told == ["done"]


@pytest.mark.parametrize("phase", PHASES)
def test_a_trigger_that_raises_stops_no_other(stage, phase):
    def bad():
        raise ValueError("on purpose")

    stage.add(phase, bad)
    for each in PHASES:
        stage.note(each, each)
    stage.fire()
    assert stage.told == [*PHASES, "done"]
    assert len(stage.raised) == 1


@pytest.mark.parametrize("phase", PHASES)
def test_a_trigger_added_while_the_event_fires_runs_with_its_phase(stage, phase):
    stage.add(phase, lambda: stage.note(phase, "late"))
    stage.fire()
    assert stage.told == ["late", "done"]


def test_a_trigger_added_for_a_phase_that_is_over_waits_for_the_next_firing(stage):
    stage.add("after", lambda: stage.note("before", "late"))
    stage.fire()
    assert stage.told == ["done"]
    stage.fire()
    assert stage.told == ["done", "late", "done"]


def test_a_trigger_may_remove_another_while_the_event_fires(stage):
    stage.add("before", lambda: stage.events.remove(later))
    later = stage.note("during", "removed")
    stage.fire()
    assert stage.told == ["done"]


def test_after_firing_an_event_is_empty_and_can_be_used_again(stage):
    stage.note("during", "once")
    stage.fire()
    stage.fire()
    stage.note("during", "again")
    stage.fire()
    assert stage.told == ["once", "done", "done", "again", "done"]


def test_a_firing_that_comes_while_one_waits_joins_it(stage):
    waiting = Deferred()
    stage.add("before", lambda: waiting)
    stage.note("during", "during")
    stage.fire()
    stage.note("before", "second before")
    stage.events.fire("shutdown")
    stage.fire()
    assert stage.told == ["second before"]
    waiting.callback(None)
    assert stage.told == ["second before", "during", "done", "done"]
    stage.fire()
    assert stage.told[4:] == ["done"]


def test_a_trigger_may_fire_the_event_again(stage):
    stage.add("during", stage.fire)
    stage.note("after", "after")
    stage.fire()
    assert stage.told == ["after", "done", "done"]


def test_events_do_not_know_each_other(stage):
    stage.note("during", "mine", event="mine")
    stage.fire("shutdown")
    assert stage.told == ["done"]
    stage.fire("mine")
    assert stage.told == ["done", "mine", "done"]


def test_nobody_needs_to_be_told_when_it_is_done(stage):
    stage.note("during", "during")
    stage.events.fire("shutdown")
    assert stage.told == ["during"]


def test_of_two_triggers_with_the_same_callable_the_one_asked_for_is_removed(stage):
    first = stage.note("during", "same")
    stage.note("during", "between")
    second = stage.note("during", "same")
    stage.events.remove(second)
    stage.fire()
    assert stage.told == ["same", "between", "done"]
    with pytest.raises(ValueError, match="has run or was removed"):
        stage.events.remove(first)


def test_a_trigger_is_removed_once(stage):
    trigger = stage.note("before", "removed")
    assert isinstance(trigger, Trigger)
    stage.events.remove(trigger)
    with pytest.raises(ValueError, match="no such 'before' trigger"):
        stage.events.remove(trigger)


@pytest.mark.parametrize("wrong", [None, 7, ("shutdown", "before", list)])
def test_what_is_no_trigger_cannot_be_removed(stage, wrong):
    with pytest.raises(ValueError, match="not what addSystemEventTrigger returned"):
        stage.events.remove(wrong)


def test_an_unknown_phase_names_the_known_ones(stage):
    with pytest.raises(KeyError, match="before, during, after"):
        stage.note("whenever", "x")


def test_a_trigger_must_be_callable(stage):
    with pytest.raises(TypeError, match="must be callable"):
        stage.add("during", "not callable")
