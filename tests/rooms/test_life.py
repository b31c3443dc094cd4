"""The life of a reactor over a loop that turns as the test says: every way in, and every way out."""

from __future__ import annotations

import signal

import pytest

from ropewalk import Deferred
from ropewalk._loop.life import Life, LifeState
from ropewalk._loop.triggers import SystemEvents
from ropewalk.error import ReactorAlreadyRunning, ReactorNotRunning
from tests.rooms.loop_fakes import small_loop


class Stage:
    def __init__(self):
        self.loop, self.kernel, self.script = small_loop()
        self.told = []
        self.events = SystemEvents(lambda func, args, kw: func(*args, **kw))
        self.life = Life(self.loop, self.events, lambda: self.told.append("disconnect all"), self)

    def when(self, event, phase, func, *args):
        self.events.add(phase, event, func, args, {})

    def run(self):
        self.life.run(install_signal_handlers=False)


@pytest.fixture
def stage():
    return Stage()


def test_it_runs_until_it_is_stopped_and_can_run_again(stage):
    states = []
    for _ in range(2):
        stage.when("startup", "during", lambda: states.append(stage.life.state))
        stage.when("startup", "after", stage.life.stop)
        stage.when("shutdown", "before", lambda: states.append(stage.life.state))
        stage.run()
        states.append(stage.life.state)
    assert states == 2 * [LifeState.RUNNING, LifeState.STOPPING, LifeState.STOPPED]
    assert stage.told == ["disconnect all", "disconnect all"]


def test_who_waits_for_the_loop_is_told_after_the_connections_and_before_the_other_triggers(stage):
    stage.life.call_at_end(lambda: stage.told.append("waits"))
    stage.life.call_at_end(lambda: stage.told.append("never"))()
    stage.when("startup", "after", stage.life.stop)
    stage.when("shutdown", "during", stage.life.call_at_end, lambda: stage.told.append("at once"))
    stage.when("shutdown", "during", stage.told.append, "during")
    stage.run()
    assert stage.told[:4] == ["disconnect all", "waits", "at once", "during"]
    stage.told.clear()
    stage.life.call_at_end(lambda: stage.told.append("late"))
    assert stage.told == ["late"]


def test_who_waits_is_told_too_when_the_run_ends_by_an_exception_and_not_before(stage):
    def leave():
        stage.told.append("leaving")
        stage.loop.user_error(SystemExit(), "")

    stage.life.call_at_end(lambda: stage.told.append("waits"))
    stage.when("startup", "after", leave)
    with pytest.raises(SystemExit):
        stage.run()
    assert stage.told == ["leaving", "waits"]


def test_started_again_it_has_not_ended(stage):
    stage.when("startup", "after", stage.life.stop)
    stage.run()
    stage.when(
        "startup", "during", lambda: stage.life.call_at_end(lambda: stage.told.append(stage.life.state))
    )
    stage.when("startup", "after", stage.life.stop)
    stage.run()
    assert stage.told[:3] == ["disconnect all", "disconnect all", LifeState.ENDING]


def test_connections_are_ended_after_the_before_triggers_and_before_the_others(stage):
    stage.when("startup", "after", stage.life.stop)
    for phase in ("after", "during", "before"):
        stage.when("shutdown", phase, stage.told.append, phase)
    stage.run()
    assert stage.told == ["before", "disconnect all", "during", "after"]


def test_before_startup_is_over_it_is_starting_and_may_be_stopped(stage):
    states = []

    def early():
        states.append(stage.life.state)
        stage.life.stop()

    stage.when("startup", "before", early)
    stage.when("startup", "during", lambda: states.append(stage.life.state))
    stage.run()
    assert states == [LifeState.STARTING, LifeState.STOPPING]
    assert stage.told == ["disconnect all"]


def test_it_turns_on_while_startup_waits_for_a_Deferred(stage):
    waiting = Deferred()
    stage.when("startup", "before", lambda: waiting)
    stage.when("startup", "after", stage.life.stop)
    stage.loop.call_later(3, waiting.callback, None)
    stage.run()
    assert stage.kernel.time == 1003


def test_it_turns_on_while_shutdown_waits_for_a_Deferred(stage):
    waiting = Deferred()
    stage.when("startup", "after", stage.life.stop)
    stage.when("shutdown", "before", lambda: waiting)
    stage.loop.call_later(3, waiting.callback, None)
    stage.run()
    assert stage.kernel.time == 1003
    assert stage.told == ["disconnect all"]


def test_a_reactor_that_runs_cannot_be_run(stage):
    def again():
        with pytest.raises(ReactorAlreadyRunning):
            stage.run()
        stage.told.append("refused")
        stage.life.stop()

    stage.when("startup", "after", again)
    stage.run()
    assert stage.told == ["refused", "disconnect all"]


def test_a_reactor_that_does_not_run_or_is_stopping_cannot_be_stopped(stage):
    with pytest.raises(ReactorNotRunning, match="stopped"):
        stage.life.stop()

    def twice():
        stage.life.stop()
        with pytest.raises(ReactorNotRunning, match="stopping"):
            stage.life.stop()

    stage.when("startup", "after", twice)
    stage.run()
    assert stage.told == ["disconnect all"]


def test_stop_takes_effect_in_the_next_turn(stage):
    def stop():
        stage.life.stop()
        stage.told.append("still here")

    stage.when("startup", "after", stop)
    stage.run()
    assert stage.told == ["still here", "disconnect all"]


@pytest.mark.parametrize("where", ["startup", "running", "shutdown"])
def test_crash_ends_at_once_and_tells_nobody(stage, where):
    stage.when("shutdown", "after", stage.told.append, "after shutdown")
    if where == "startup":
        stage.when("startup", "before", stage.life.crash)
    elif where == "running":
        stage.loop.call_later(3, stage.life.crash)
    else:
        waiting = Deferred()
        stage.when("startup", "after", stage.life.stop)
        stage.when("shutdown", "before", lambda: waiting)
        stage.loop.call_later(3, stage.life.crash)
    stage.run()
    assert stage.life.state is LifeState.STOPPED
    assert stage.told == []


def test_crash_of_what_does_not_run_is_nothing(stage):
    stage.life.crash()
    assert stage.life.state is LifeState.STOPPED
    assert not stage.loop.has_work()


def test_a_shutdown_that_ends_after_a_crash_changes_nothing(stage):
    waiting = Deferred()
    stage.when("startup", "after", stage.life.stop)
    stage.when("shutdown", "before", lambda: waiting)
    stage.loop.call_later(3, stage.life.crash)
    stage.run()
    waiting.callback(None)
    assert stage.life.state is LifeState.STOPPED


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_leaves_the_loop_ends_the_run_as_a_crash_does(stage, kind):
    def leave():
        raise kind("on purpose")

    stage.loop.call_later(1, leave)
    with pytest.raises(kind, match="on purpose"):
        stage.run()
    assert stage.life.state is LifeState.STOPPED
    assert stage.told == []
    stage.when("startup", "after", stage.life.stop)
    stage.run()
    assert stage.told == ["disconnect all"]


def test_what_the_very_last_callback_raised_on_purpose_still_leaves_run(stage):
    stage.when("startup", "after", stage.life.stop)
    stage.when("shutdown", "after", lambda: stage.loop.user_error(SystemExit("last"), "not logged"))
    with pytest.raises(SystemExit, match="last"):
        stage.run()


def test_what_startup_raises_leaves_it_stopped_and_free_for_every_thread(stage):
    def bad():
        raise SystemExit("at once")

    stage.when("startup", "before", bad)
    with pytest.raises(SystemExit):
        stage.run()
    assert stage.life.state is LifeState.STOPPED
    stage.loop.thread = 12345
    with pytest.raises(RuntimeError, match="thread"):
        stage.run()


def test_a_signal_stops_it_in_its_own_turn(stage):
    before = signal.getsignal(signal.SIGTERM)
    # Why: a number that `set_wakeup_fd` refuses would hide what this is about.
    stage.kernel.writer.fd = -1
    stage.loop.call_later(3, lambda: signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None))
    stage.life.run(install_signal_handlers=True)
    assert stage.told == ["disconnect all"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_signal_while_it_stops_changes_nothing(stage):
    waiting = Deferred()
    stage.kernel.writer.fd = -1

    def send():
        signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)

    stage.loop.call_later(1, send)
    stage.loop.call_later(2, send)
    stage.loop.call_later(3, waiting.callback, None)
    stage.when("shutdown", "before", lambda: waiting)
    stage.life.run(install_signal_handlers=True)
    assert stage.kernel.time == 1003
    assert stage.told == ["disconnect all"]


def test_shutdown_fired_by_hand_while_stop_waits_does_not_keep_it_from_stopping(stage):
    waiting = Deferred()
    stage.when("startup", "after", stage.life.stop)
    stage.when("shutdown", "before", lambda: waiting)
    stage.loop.call_later(1, stage.events.fire, "shutdown")
    stage.loop.call_later(2, waiting.callback, None)
    stage.run()
    assert stage.kernel.time == 1002
    assert stage.told == ["disconnect all"]


def test_shutdown_fired_by_hand_ends_the_run(stage):
    stage.loop.call_later(1, stage.events.fire, "shutdown")
    stage.run()
    assert stage.told == ["disconnect all"]


def test_E8_a_child_forked_within_the_run_leaves_it_with_an_error(stage):
    stage.loop.call_later(1, stage.loop.disown)
    with pytest.raises(RuntimeError, match="make a new Reactor"):
        stage.run()
    assert stage.life.state is LifeState.STOPPED
    assert stage.told == []


def test_it_may_be_turned_by_somebody_else(stage):
    stage.life.start()
    assert stage.life.state is LifeState.RUNNING
    stage.life.stop()
    stage.loop.turn(0)
    assert stage.life.state is LifeState.STOPPED


@pytest.mark.parametrize("event", ["startup", "shutdown"])
def test_a_Deferred_that_a_run_waited_for_in_vain_changes_nothing_in_the_next(stage, event):
    late = Deferred()
    stage.when(event, "before", lambda: late)
    soon = stage.loop.call_soon
    soon(
        stage.life.crash if event == "startup" else lambda: (stage.life.stop(), soon(soon, stage.life.crash))
    )
    stage.run()

    def middle():
        late.callback(None)
        stage.told.append(stage.life.state)
        soon(stage.life.stop)

    stage.told.clear()
    stage.when("startup", "after", soon, middle)
    stage.run()
    assert stage.told == [LifeState.RUNNING, "disconnect all"]


def test_a_run_that_was_left_while_its_shutdown_waited_can_be_followed_by_one_that_stops(stage):
    stage.when("shutdown", "before", Deferred)

    def leave():
        raise SystemExit

    soon = stage.loop.call_soon
    soon(lambda: (stage.life.stop(), soon(soon, leave)))
    with pytest.raises(SystemExit):
        stage.run()
    stage.when("startup", "after", stage.life.stop)
    stage.run()
    assert stage.life.state is LifeState.STOPPED
    assert stage.told == ["disconnect all"]
