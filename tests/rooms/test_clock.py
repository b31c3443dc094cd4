"""Clock: time that a test turns by hand.

Compared with Twisted's on random programs in tests/differential/test_testing.py; here is what is ours, and the surface.
"""

from __future__ import annotations

import contextvars

import pytest

from ropewalk.error import AlreadyCalled, AlreadyCancelled
from ropewalk.testing import Clock


def test_time_begins_at_0_and_moves_only_when_told():
    clock = Clock()
    assert clock.seconds() == clock.rightNow == 0.0
    clock.advance(1.5)
    clock.advance(0)
    assert clock.seconds() == clock.rightNow == 1.5


def test_a_call_is_made_when_its_time_has_come_and_not_before():
    clock = Clock()
    made = []
    call = clock.callLater(2, made.append, "call")
    assert (call.getTime(), call.active()) == (2, True)
    clock.advance(1.999)
    assert made == []
    clock.advance(0.001)
    assert (made, call.active(), call.called) == (["call"], False, True)


def test_arguments_and_keywords_are_passed_on():
    clock = Clock()
    made = []
    clock.callLater(0, lambda *args, **kw: made.append((args, kw)), 1, two=2)
    clock.advance(0)
    assert made == [((1,), {"two": 2})]


def test_every_call_of_one_advance_sees_the_time_it_was_advanced_to():
    clock = Clock()
    seen = []
    for delay in (3, 1, 2):
        clock.callLater(delay, lambda delay=delay: seen.append((delay, clock.seconds())))
    clock.advance(10)
    assert seen == [(1, 10.0), (2, 10.0), (3, 10.0)]


def test_what_a_call_asks_for_counts_from_the_time_that_was_advanced_to():
    clock = Clock()
    made = []
    clock.callLater(
        1, lambda: [clock.callLater(0, made.append, "at once"), clock.callLater(1, made.append, "later")]
    )
    clock.advance(5)
    assert made == ["at once"]
    assert [call.getTime() for call in clock.getDelayedCalls()] == [6.0]


def test_a_call_that_is_due_at_once_comes_after_those_that_were_due_before_it():
    clock = Clock()
    made = []
    clock.callLater(1, lambda: clock.callLater(0, made.append, "asked for meanwhile"))
    clock.callLater(2, made.append, "second")
    clock.advance(3)
    assert made == ["second", "asked for meanwhile"]


def test_an_exception_leaves_advance_and_the_others_wait_for_the_next():
    clock = Clock()
    made = []
    clock.callLater(1, lambda: 1 / 0)
    clock.callLater(2, made.append, "second")
    with pytest.raises(ZeroDivisionError):
        clock.advance(2)
    assert made == []
    clock.advance(0)
    assert made == ["second"]


def test_SystemExit_leaves_advance_too():
    clock = Clock()
    clock.callLater(1, lambda: exit(3))
    with pytest.raises(SystemExit):
        clock.advance(1)


def test_pump_advances_step_by_step():
    clock = Clock()
    seen = []
    clock.callLater(1, lambda: seen.append(clock.seconds()))
    clock.callLater(2, lambda: seen.append(clock.seconds()))
    clock.pump([0.5, 0.75, 1])
    assert (seen, clock.seconds()) == ([1.25, 2.25], 2.25)


def test_delayed_calls_are_listed_in_the_order_of_their_times():
    clock = Clock()
    late, soon, moved = (clock.callLater(delay, print) for delay in (3, 1, 0.5))
    moved.reset(2)
    gone = clock.callLater(1, print)
    gone.cancel()
    assert clock.getDelayedCalls() == clock.calls == [soon, moved, late]


def test_changing_the_list_of_calls_changes_nothing():
    clock = Clock()
    clock.callLater(1, print)
    clock.calls.clear()
    assert len(clock.calls) == 1


def test_a_call_that_is_over_refuses_as_a_reactor_s_does():
    clock = Clock()
    made, gone = clock.callLater(1, lambda: None), clock.callLater(1, lambda: None)
    gone.cancel()
    clock.advance(1)
    for ask in (made.cancel, lambda: made.reset(1), lambda: made.delay(1)):
        with pytest.raises(AlreadyCalled):
            ask()
    for ask in (gone.cancel, lambda: gone.reset(1), lambda: gone.delay(1)):
        with pytest.raises(AlreadyCancelled):
            ask()


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf")])
def test_a_delay_that_is_no_finite_number_from_0_up_is_refused(delay):
    clock = Clock()
    with pytest.raises(ValueError, match="delay"):
        clock.callLater(delay, print)
    with pytest.raises(TypeError, match="callable"):
        clock.callLater(1, None)
    assert clock.calls == []


def test_a_call_keeps_the_context_it_was_asked_for_in():
    request = contextvars.ContextVar("request", default="none")
    clock = Clock()
    seen = []
    token = request.set("first")
    clock.callLater(1, lambda: seen.append(request.get()))
    request.reset(token)
    clock.advance(1)
    assert seen == ["first"]


def test_of_calls_for_one_instant_the_one_that_was_moved_there_comes_last():
    clock = Clock()
    made = []
    moved = clock.callLater(1, made.append, "moved")
    clock.callLater(2, made.append, "asked for")
    moved.reset(2)
    clock.advance(2)
    assert made == ["asked for", "moved"]


def test_setting_the_time_makes_no_call_and_the_next_advance_does():
    clock = Clock()
    made = []
    clock.callLater(5, made.append, "call")
    clock.rightNow = 7.0
    assert (made, clock.seconds()) == ([], 7.0)
    clock.advance(0)
    assert made == ["call"]


def test_a_call_may_advance_the_clock_itself():
    clock = Clock()
    made = []
    clock.callLater(1, lambda: [made.append("outer"), clock.advance(5), made.append("outer again")])
    clock.callLater(2, made.append, "second")
    clock.callLater(6, made.append, "third")
    clock.advance(1)
    assert (made, clock.seconds()) == (["outer", "second", "third", "outer again"], 6.0)


def test_a_subclass_may_have_a_time_of_its_own():
    class Doubled(Clock):
        def seconds(self):
            return self.rightNow * 2

    clock = Doubled()
    made = []
    assert clock.callLater(3, made.append, "call").getTime() == 3
    clock.advance(1)
    assert made == []
    clock.advance(1)
    assert made == ["call"]


def test_it_says_its_time_and_how_many_calls_wait():
    clock = Clock()
    clock.callLater(1, print)
    assert repr(clock) == "<Clock at 0.0, 1 calls>"
