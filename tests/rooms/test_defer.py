"""defer/deferred.py and making.py alone: no reactor, a clock made here. tests/differential runs random programs beside Twisted's.

Invariant of the chain tests: what comes out is what plain function calls and try/except would have given.
"""

from __future__ import annotations

import contextlib
import contextvars
import gc
import pickle
import subprocess
import sys
import weakref
from functools import reduce
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk import defer
from ropewalk.defer import (
    AlreadyCalledError,
    CancelledError,
    Deferred,
    NotACoroutineError,
    TimeoutError,
    ensureDeferred,
    execute,
    fail,
    maybeDeferred,
    succeed,
)
from ropewalk.failure import Failure, NoCurrentExceptionError

pytestmark = pytest.mark.usefixtures("nothing_unhandled")

DEEP = 100_000
word = contextvars.ContextVar("word", default="none")


def boom(result):
    raise ValueError(result)


@contextlib.contextmanager
def no_collector():
    """Only reference counts free anything inside."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Call:
    def __init__(self, seconds, function):
        self.seconds = seconds
        self.function = function

    def active(self):
        return self.function is not None

    def cancel(self):
        assert self.active()
        self.function = None

    def run(self):
        function, self.function = self.function, None
        function()


class Clock:
    def __init__(self):
        self.calls = []

    def callLater(self, seconds, function):
        self.calls.append(Call(seconds, function))
        return self.calls[-1]


# --- chains ---


def test_each_callback_is_given_what_the_one_before_returned():
    seen = []
    deferred = (
        Deferred().addCallback(lambda r: r + 1).addCallback(lambda r, by, plus=0: r * by + plus, 10, plus=3)
    )
    deferred.addCallback(seen.append)
    deferred.callback(1)
    assert seen == [23]


def test_callbacks_added_after_the_result_run_at_once():
    seen = []
    succeed(1).addCallback(lambda r: r + 1).addCallback(seen.append)
    assert seen == [2]


def test_an_exception_goes_to_the_next_errback_and_its_value_on():
    seen = []
    deferred = Deferred().addCallback(boom).addCallback(seen.append)
    deferred.addErrback(lambda f, more: (f.type, f.value.args, more), "more").addCallback(seen.append)
    deferred.callback(1)
    assert seen == [(ValueError, (1,), "more")]


def test_a_pair_handles_either_but_not_its_own_error():
    seen = []
    fail(KeyError()).addCallbacks(
        seen.append, lambda f, a, k: (a, k), None, None, (1,), {"k": 2}
    ).addCallback(seen.append)
    succeed(3).addCallbacks(lambda r, a: (r, a), seen.append, (4,)).addCallback(seen.append)
    succeed(5).addCallbacks(boom, lambda f: seen.append("not this one")).addErrback(
        lambda f: seen.append("this one")
    )
    assert seen == [(1, 2), (3, 4), "this one"]


def test_an_errback_that_returns_its_failure_passes_it_on():
    seen = []
    failure = Failure(ValueError())
    fail(failure).addErrback(lambda f: f).addErrback(seen.append)
    assert seen == [failure]


def test_an_errback_that_traps_something_else_passes_the_very_failure_on():
    seen = []
    failure = Failure(ValueError())
    fail(failure).addErrback(lambda f: f.trap(KeyError)).addErrback(seen.append)
    assert seen == [failure]


def test_a_failure_given_as_value_is_an_error():
    seen = []
    deferred = Deferred().addErrback(seen.append)
    deferred.callback(Failure(ValueError()))
    assert seen[0].type is ValueError


def test_errback_without_an_argument_takes_the_exception_being_handled():
    seen = []
    for waiting in (Deferred().addErrback(seen.append), None):
        try:
            boom(1)
        except ValueError:
            if waiting is None:
                fail().addErrback(seen.append)
            else:
                waiting.errback()
    assert [failure.value.args for failure in seen] == [(1,), (1,)]
    for call in (Deferred().errback, fail):
        with pytest.raises(NoCurrentExceptionError):
            call()


def test_a_callback_added_while_callbacks_run_waits_its_turn():
    seen = []
    deferred = Deferred()

    def add(result):
        deferred.addCallback(lambda r: seen.append(("added", r)))
        seen.append("adding")
        return "first"

    deferred.addCallback(add).addCallback(lambda r: seen.append(("next", r)) or "second")
    deferred.callback(None)
    assert seen == ["adding", ("next", "first"), ("added", "second")]


def test_a_result_can_be_used_again_and_again():
    deferred = succeed(1)
    for _ in range(3):
        deferred.addCallback(lambda r: r + 1)
    assert deferred.result == 4


steps = st.sampled_from(["value", "raise", "trap", "pass", "fired", "failed", "later", "later fails"])


@given(
    st.lists(st.tuples(steps, st.sampled_from(["addCallback", "addErrback", "addBoth"])), max_size=12),
    st.booleans(),
)
def test_a_chain_comes_to_what_plain_calls_would(plan, early):
    waiting = []

    def real(result, kind):
        if kind == "raise":
            raise ValueError(kind)
        if kind == "trap" and isinstance(result, Failure):
            result.trap(KeyError)
        if kind == "fired":
            return succeed("fired")
        if kind == "failed":
            return fail(KeyError(kind))
        if kind.startswith("later"):
            waiting.append((Deferred(), kind))
            return waiting[-1][0]
        return result if kind == "pass" else kind

    def plain(result, kind):
        """(is it an error, what it is) after the step."""
        failed, value = result
        if kind == "raise":
            return True, "ValueError"
        if kind == "trap" and failed and value != "KeyError":
            return result
        if kind in ("failed", "later fails"):
            return True, "KeyError"
        return result if kind == "pass" else (False, kind)

    def apply(result, each):
        kind, how = each
        runs = {"addCallback": not result[0], "addErrback": result[0], "addBoth": True}[how]
        return plain(result, kind) if runs else result

    deferred = Deferred()
    if early:
        deferred.callback("start")
    for kind, how in plan:
        getattr(deferred, how)(real, kind)
    if not early:
        deferred.callback("start")
    while waiting:
        other, kind = waiting.pop()
        if kind == "later":
            other.callback("later")
        else:
            other.errback(KeyError(kind))
    result = deferred.result
    came = (True, result.type.__name__) if isinstance(result, Failure) else (False, result)
    deferred.addErrback(lambda f: None)
    assert came == reduce(apply, plan, (False, "start"))


# --- waiting for another Deferred ---


def test_a_chain_waits_for_the_deferred_a_callback_returned():
    seen = []
    inner = Deferred()
    outer = succeed(0).addCallback(lambda r: inner).addCallback(seen.append)
    assert seen == []
    assert outer.paused
    inner.callback("through")
    assert seen == ["through"]
    assert inner.result is None


def test_the_one_who_waits_is_served_before_later_callbacks_of_the_other():
    seen = []
    inner = Deferred()
    succeed(0).addCallback(lambda r: inner).addCallback(lambda r: seen.append(("outer", r)))
    inner.addCallback(lambda r: seen.append(("inner", r)))
    inner.callback(1)
    assert seen == [("outer", 1), ("inner", None)]


def test_what_was_added_to_the_other_runs_though_the_one_who_waits_is_paused():
    seen = []
    inner = Deferred()
    outer = succeed(0).addCallback(lambda r: inner).addCallback(lambda r: seen.append(("outer", r)))
    outer.pause()
    inner.addCallback(lambda r: seen.append(("inner", r)))
    inner.callback(1)
    assert seen == [("inner", None)]
    outer.unpause()
    assert seen[1:] == [("outer", 1)]


def test_an_error_of_the_other_is_taken_by_the_one_who_waits():
    seen = []
    succeed(0).addCallback(lambda r: fail(KeyError())).addErrback(seen.append)
    inner = Deferred()
    succeed(0).addCallback(lambda r: inner).addErrback(seen.append)
    inner.errback(ValueError())
    assert [each.type for each in seen] == [KeyError, ValueError]


def test_a_deferred_fired_with_a_deferred_is_unpacked_by_who_waits():
    seen = []
    inside = Deferred()
    succeed(0).addCallback(lambda r: succeed(inside)).addCallback(seen.append)
    inside.callback("inside")
    assert seen == ["inside"]


def test_a_callback_that_returns_its_own_deferred_fails_at_once():
    seen = []
    deferred = Deferred()
    deferred.addCallback(lambda r: deferred).addErrback(lambda f: seen.append(f.type))
    deferred.callback(1)
    assert seen == [RuntimeError]


def test_a_subclass_is_waited_for():
    class Named(Deferred):
        pass

    seen = []
    inner = Named()
    succeed(0).addCallback(lambda r: inner).addCallback(seen.append)
    inner.callback(1)
    assert seen == [1]


def row_of_waiting():
    """Each waits for the next; only the last is not fired."""
    row = [Deferred() for _ in range(DEEP)]
    for one, other in pairwise(row):
        one.addCallback(lambda r, other=other: other)
    for one in row[:-1]:
        one.callback(None)
    return row


def test_a_row_of_100_000_that_wait_for_each_other_does_not_recurse():
    seen = []
    row = row_of_waiting()
    row[0].addCallback(seen.append)
    row[-1].callback("end")
    assert seen == ["end"]


def test_a_row_of_100_000_fired_from_the_far_end_does_not_recurse():
    row = [Deferred() for _ in range(DEEP)]
    for one, other in pairwise(row):
        one.addCallback(lambda r, other=other: other)
    for one in reversed(row):
        one.callback("end")
    assert row[0].result == "end"


def test_cancelling_the_first_of_a_row_of_100_000_reaches_the_last():
    seen = []
    row = row_of_waiting()
    row[0].addErrback(lambda f: seen.append(f.type))
    row[0].cancel()
    assert seen == [CancelledError]
    assert row[-1].called


def test_a_row_of_100_000_that_wait_can_be_dropped():
    row = row_of_waiting()
    watched = weakref.ref(row[0])
    del row
    gc.collect()
    assert watched() is None


def test_100_000_coroutines_that_wait_for_each_other_do_not_recurse():
    async def one_more(waited):
        return 1 + await waited

    first = last = Deferred()
    for _ in range(DEEP):
        last = Deferred.fromCoroutine(one_more(last))
    first.callback(0)
    assert last.result == DEEP


def test_100_000_callbacks_of_one_deferred_run_in_order():
    deferred = Deferred()
    for _ in range(DEEP):
        deferred.addCallback(lambda r: r + 1)
    deferred.callback(0)
    assert deferred.result == DEEP


# --- firing twice, pausing, cancelling ---


@pytest.mark.parametrize("again", [lambda d: d.callback(2), lambda d: d.errback(ValueError())])
def test_firing_twice_raises_and_tells_where_it_was_made(again):
    deferred = Deferred()
    deferred.callback(1)
    with pytest.raises(AlreadyCalledError, match=r"test_defer\.py:\d+, in test_firing_twice"):
        again(deferred)
    assert deferred.result == 1


def test_paused_and_unpaused_before_it_fires_it_is_as_before():
    seen = []
    deferred = Deferred().addCallback(seen.append)
    deferred.pause()
    deferred.unpause()
    assert (seen, deferred.called) == ([], False)
    deferred.callback(1)
    assert seen == [1]


def test_a_paused_deferred_runs_nothing_until_unpaused_as_often():
    seen = []
    deferred = Deferred().addCallback(seen.append)
    deferred.pause()
    deferred.pause()
    deferred.callback(1)
    deferred.unpause()
    assert seen == []
    deferred.unpause()
    assert seen == [1]


def test_pausing_inside_a_callback_holds_the_next_one():
    seen = []
    deferred = Deferred()
    deferred.addCallback(lambda r: deferred.pause()).addCallback(lambda r: seen.append("next"))
    deferred.callback(1)
    assert seen == []
    deferred.unpause()
    assert seen == ["next"]


def test_unpausing_inside_a_callback_runs_nothing_out_of_turn():
    seen = []
    deferred = Deferred()

    def hold(result):
        deferred.pause()
        deferred.unpause()
        seen.append("held")

    deferred.addCallback(hold).addCallback(lambda r: seen.append("next"))
    deferred.callback(1)
    assert seen == ["held", "next"]


def test_cancelling_fails_with_cancelled_error():
    seen = []
    deferred = Deferred().addErrback(lambda f: seen.append(f.type))
    deferred.cancel()
    assert seen == [CancelledError]


def test_after_a_cancel_without_canceller_one_late_result_is_dropped():
    deferred = Deferred().addErrback(lambda f: "cancelled")
    deferred.cancel()
    deferred.callback("late")
    assert deferred.result == "cancelled"
    with pytest.raises(AlreadyCalledError):
        deferred.callback("later")


@pytest.mark.parametrize(
    ("canceller", "result"),
    [
        (lambda d: d.callback("own"), "own"),
        (lambda d: d.errback(KeyError("own")), KeyError),
        (lambda d: None, CancelledError),
    ],
)
def test_a_canceller_may_fire_what_it_wants(canceller, result):
    deferred = Deferred(canceller).addErrback(lambda f: f.type)
    deferred.cancel()
    assert deferred.result == result
    with pytest.raises(AlreadyCalledError):
        deferred.callback("late")


def test_cancelling_what_was_fired_changes_nothing():
    called = []
    deferred = Deferred(called.append)
    deferred.callback(1)
    deferred.cancel()
    assert (deferred.result, called) == (1, [])


def test_cancelling_goes_to_the_deferred_that_is_waited_for():
    called = []
    inner = Deferred(called.append)
    outer = succeed(0).addCallback(lambda r: inner).addErrback(lambda f: f.type)
    outer.cancel()
    assert called == [inner]
    assert outer.result is CancelledError


# --- time-outs ---


def test_a_timeout_fails_and_cancels():
    cancelled, clock = [], Clock()
    deferred = Deferred(cancelled.append).addTimeout(2.5, clock).addErrback(lambda f: f.value)
    assert clock.calls[0].seconds == 2.5
    clock.calls[0].run()
    assert cancelled == [deferred]
    assert isinstance(deferred.result, TimeoutError)
    assert str(deferred.result) == "Deferred had no result within 2.5 seconds"


@pytest.mark.parametrize(
    "fire", [lambda d: d.callback(1), lambda d: d.errback(KeyError()), lambda d: d.cancel()]
)
def test_a_result_in_time_stops_the_clock(fire):
    clock = Clock()
    deferred = Deferred().addTimeout(1, clock).addErrback(lambda f: f.type)
    fire(deferred)
    assert not clock.calls[0].active()
    assert deferred.result in (1, KeyError, CancelledError)


def test_a_timeout_covers_what_was_added_before_it_and_nothing_after():
    clock = Clock()
    inner = Deferred()
    deferred = succeed(1).addCallback(lambda r: inner).addTimeout(1, clock)
    deferred.addErrback(lambda f: Deferred())
    clock.calls[0].run()
    assert inner.called
    assert deferred.paused


def test_the_users_word_for_a_timeout_is_used():
    clock = Clock()
    deferred = Deferred().addTimeout(1, clock, lambda result, seconds: (result.type, seconds))
    clock.calls[0].run()
    assert deferred.result == (CancelledError, 1)


def test_a_timeout_is_the_builtin_too_and_copies():
    exc = TimeoutError(3.0, "Deferred")
    assert isinstance(exc, OSError)
    assert exc.errno is None
    copied = pickle.loads(pickle.dumps(exc))
    assert (copied.args, str(copied)) == (exc.args, str(exc))


# --- coroutines ---


def test_a_coroutine_is_given_values_and_errors():
    seen = []

    async def steps(value, error):
        seen.append(await value)
        try:
            await error
        except KeyError as exc:
            seen.append(exc.args)
        return "end"

    value, error = Deferred(), Deferred()
    deferred = Deferred.fromCoroutine(steps(value, error))
    value.callback(1)
    error.errback(KeyError(2))
    assert seen == [1, (2,)]
    assert deferred.result == "end"


def test_what_is_there_already_is_not_waited_for():
    async def steps():
        return await succeed(1) + await succeed(2)

    assert ensureDeferred(steps()).result == 3


def test_awaiting_leaves_the_result_for_the_next_one():
    async def once(waited):
        return await waited

    async def twice(waited):
        return [await waited, await waited]

    for pending in (True, False):
        value = Deferred() if pending else succeed(1)
        ends = [Deferred.fromCoroutine(once(value)), Deferred.fromCoroutine(twice(value))]
        if pending:
            value.callback(1)
        assert [end.result for end in ends] == [1, [1, 1]]
        assert value.result == 1


def test_two_that_await_one_error_both_see_it():
    async def steps(waited):
        try:
            await waited
        except KeyError as exc:
            return exc

    waited = Deferred()
    ends = [Deferred.fromCoroutine(steps(waited)) for _ in range(2)]
    error = KeyError()
    waited.errback(error)
    ends.append(Deferred.fromCoroutine(steps(waited)))
    assert [end.result for end in ends] == [error] * 3


def test_the_traceback_of_an_awaited_error_shows_the_coroutines():
    async def inner(waited):
        await waited

    async def outer(waited):
        await inner(waited)

    waited = Deferred().addCallback(boom)
    deferred = Deferred.fromCoroutine(outer(waited))
    waited.callback(1)
    names = [place.rsplit(":", 1)[1] for place in deferred.result.getBriefTraceback().splitlines()[1:]]
    assert [name for name in names if name in ("outer", "inner", "boom")] == ["outer", "inner", "boom"]
    assert names[0] == "outer"
    deferred.addErrback(lambda f: None)


def test_a_chain_can_wait_for_a_coroutine():
    async def steps(waited):
        return 1 + await waited

    waited = Deferred()
    deferred = succeed(0).addCallback(lambda r: ensureDeferred(steps(waited)))
    waited.callback(1)
    assert deferred.result == 2


def test_a_generator_is_driven_like_a_coroutine():
    def steps(waited):
        first = yield waited
        second = yield succeed(2)
        third = yield from succeed(3)
        try:
            yield fail(KeyError(4))
        except KeyError as exc:
            return [first, second, third, exc.args[0]]

    waited = Deferred()
    deferred = Deferred.fromCoroutine(steps(waited))
    waited.callback(1)
    assert deferred.result == [1, 2, 3, 4]


def test_awaiting_something_foreign_is_a_type_error_in_the_coroutine():
    class Foreign:
        def __await__(self):
            yield "foreign"

    async def steps():
        try:
            await Foreign()
        except TypeError as exc:
            return str(exc)

    assert "'foreign'" in ensureDeferred(steps()).result


def test_cancelling_reaches_what_the_coroutine_waits_for():
    called = []

    async def steps(waited):
        await waited

    waited = Deferred(called.append)
    deferred = ensureDeferred(steps(waited)).addErrback(lambda f: f.type)
    deferred.cancel()
    assert called == [waited]
    assert deferred.result is CancelledError


def test_a_coroutine_may_take_its_cancellation_and_go_on():
    async def steps(waited, other):
        try:
            await waited
        except CancelledError:
            return await other

    other = Deferred()
    deferred = ensureDeferred(steps(Deferred(), other))
    deferred.cancel()
    assert not deferred.called
    other.callback("went on")
    assert deferred.result == "went on"


def test_a_coroutine_that_cancels_itself_while_it_runs_runs_on():
    async def steps(waited):
        await waited
        deferred.cancel()
        return "end"

    waited = Deferred()
    deferred = ensureDeferred(steps(waited))
    waited.callback(1)
    assert deferred.result == "end"


def test_a_coroutine_whose_deferred_was_fired_in_its_stead_ends_quietly():
    async def steps(waited):
        return await waited

    waited = Deferred()
    deferred = ensureDeferred(steps(waited))
    deferred.callback("instead")
    waited.callback("its own")
    assert deferred.result == "instead"


def test_only_coroutines_and_deferreds_are_taken():
    deferred = Deferred()
    assert ensureDeferred(deferred) is deferred
    for call in (ensureDeferred, Deferred.fromCoroutine):
        with pytest.raises(NotACoroutineError):
            call(5)


def test_anything_can_be_made_a_deferred():
    async def steps():
        return "coroutine"

    def result(deferred):
        return deferred.addErrback(lambda f: (f.type, f.tb and f.tb.tb_frame.f_code.co_name)).result

    inner = Deferred()
    assert maybeDeferred(lambda: inner) is inner
    assert result(maybeDeferred(lambda a, b: a + b, 1, b=2)) == 3
    assert result(maybeDeferred(steps)) == "coroutine"
    assert result(maybeDeferred(lambda: Failure(KeyError()))) == (KeyError, None)
    assert result(maybeDeferred(boom, 1)) == (ValueError, "boom")
    assert result(execute(boom, 1)) == (ValueError, "boom")
    assert result(execute(int, "5")) == 5


# --- contextvars ---


def test_a_callback_runs_in_the_context_in_which_it_was_added():
    seen = []
    deferred = Deferred()
    for name in ("first", "second"):
        word.set(name)
        deferred.addBoth(lambda r: seen.append(word.get()))
    word.set("firing")
    deferred.callback(1)
    deferred.addBoth(lambda r: seen.append(word.get()))
    assert seen == ["first", "second", "firing"]


def test_a_context_is_kept_through_chains_and_pauses():
    seen = []
    word.set("added")
    inner = Deferred()
    outer = succeed(0).addCallback(lambda r: inner).addCallback(lambda r: seen.append(word.get()))
    paused = succeed(0)
    paused.pause()
    paused.addCallback(lambda r: seen.append(word.get()))
    word.set("firing")
    inner.callback(1)
    paused.unpause()
    assert seen == ["added", "added"]
    assert outer.called


def test_what_a_callback_sets_stays_inside():
    word.set("outside")
    deferred = Deferred().addCallback(lambda r: word.set("inside"))
    deferred.callback(1)
    assert word.get() == "outside"


def test_a_coroutine_keeps_one_context_throughout():
    async def steps(waited):
        seen = [word.get()]
        word.set("its own")
        await waited
        return [*seen, word.get()]

    word.set("start")
    waited = Deferred()
    deferred = ensureDeferred(steps(waited))
    assert word.get() == "start"
    word.set("firing")
    waited.callback(1)
    assert deferred.result == ["start", "its own"]


# --- what leaves ---


LEAVING = pytest.mark.parametrize(
    "leaving", [SystemExit(3), KeyboardInterrupt()], ids=lambda exc: type(exc).__name__
)


@LEAVING
def test_leaving_exceptions_leave_after_the_chain_has_run(leaving):
    def leave(result):
        raise leaving

    seen = []
    deferred = Deferred().addCallback(leave).addBoth(lambda r: seen.append(r.value)).addBoth(seen.append)
    with pytest.raises(type(leaving)) as raised:
        deferred.callback(1)
    assert raised.value is leaving
    assert seen == [leaving, None]
    deferred.addCallback(seen.append)
    assert len(seen) == 3


@LEAVING
def test_leaving_exceptions_leave_through_chains_and_coroutines(leaving):
    async def steps(waited):
        await waited
        raise leaving

    def leave(result):
        raise leaving

    inner = Deferred()
    outer = succeed(0).addCallback(lambda r: inner).addCallback(leave)
    with pytest.raises(type(leaving)):
        inner.callback(1)
    assert outer.called
    waited = Deferred()
    deferred = ensureDeferred(steps(waited))
    with pytest.raises(type(leaving)):
        waited.callback(1)
    assert deferred.called
    with pytest.raises(type(leaving)):
        ensureDeferred(steps(succeed(1)))


@LEAVING
def test_leaving_exceptions_leave_calls_made_at_once(leaving):
    def leave():
        raise leaving

    for call in (execute, maybeDeferred):
        with pytest.raises(type(leaving)):
            call(leave)


def test_an_exception_that_left_is_not_reported_too(reported):
    def leave(result):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        Deferred().addCallback(leave).callback(1)
    assert reported() == []


# --- errors nobody took ---


def line_of_next():
    """The number of the line after the caller's."""
    return sys._getframe(1).f_lineno + 1


def made_plainly():
    line = line_of_next()
    deferred = Deferred().addCallback(boom)
    deferred.callback(1)
    return line


def made_failed():
    line = line_of_next()
    fail(ValueError(1))
    return line


def made_of_a_call():
    line = line_of_next()
    maybeDeferred(boom, 1)
    return line


def made_of_an_execution():
    line = line_of_next()
    execute(boom, 1)
    return line


def made_of_a_coroutine():
    async def steps():
        boom(1)

    line = line_of_next()
    Deferred.fromCoroutine(steps())
    return line


def made_by_waiting():
    line = line_of_next()
    outer = Deferred()
    inner = Deferred()
    outer.addCallback(lambda r: inner)
    outer.callback(0)
    inner.errback(ValueError(1))
    return line


def left_while_paused():
    line = line_of_next()
    deferred = Deferred()
    deferred.pause()
    deferred.errback(ValueError(1))
    return line


def left_waiting_while_paused():
    line = line_of_next()
    outer = Deferred()
    inner = Deferred()
    outer.addCallback(lambda r: inner).callback(0)
    outer.pause()
    inner.errback(ValueError(1))
    return line


def left_after_the_await_by_a_later_callback():
    async def steps(waited):
        with contextlib.suppress(ValueError):
            await waited

    line = line_of_next()
    waited = Deferred()
    ensureDeferred(steps(waited))
    waited.errback(ValueError(1))
    waited.addCallback(lambda r: None)
    return line


@pytest.mark.parametrize(
    "lose",
    [
        made_plainly,
        made_failed,
        made_of_a_call,
        made_of_an_execution,
        made_of_a_coroutine,
        made_by_waiting,
        left_while_paused,
        left_waiting_while_paused,
        left_after_the_await_by_a_later_callback,
    ],
)
def test_an_error_nobody_took_is_reported_once_with_its_place_of_birth(lose, reported, caplog):
    line = lose()
    assert reported() == [f"Unhandled error in a Deferred made at {__file__}:{line}, in {lose.__name__}"]
    assert caplog.records[0].exc_info[1].args == (1,)


def test_the_birth_is_the_line_of_the_statement_in_a_long_function(reported):
    deferred = None
    for number in range(3):
        if number == 1:
            line = line_of_next()
            deferred = Deferred()
            deferred.errback(ValueError(1))
    del deferred
    assert f":{line}, in " in reported()[0]


def test_an_error_of_no_exception_is_reported_by_its_text(reported):
    Deferred().callback(Failure("text"))
    assert "<class 'str'>: text" in reported()[0]


def test_taken_errors_are_not_reported(reported):
    async def awaits(waited):
        with contextlib.suppress(ValueError):
            await waited

    fail(ValueError()).addErrback(lambda f: None)
    succeed(0).addCallback(lambda r: fail(ValueError())).addErrback(lambda f: None)
    ensureDeferred(awaits(fail(ValueError())))
    waited = Deferred()
    ensureDeferred(awaits(waited))
    waited.errback(ValueError())
    late = fail(ValueError())
    late.addCallback(lambda r: None)
    late.addErrback(lambda f: None)
    del waited, late
    assert reported() == []


def test_an_error_passed_from_one_to_the_other_is_reported_by_the_last_alone(reported):
    row = [Deferred() for _ in range(5)]
    for one, other in pairwise(row):
        one.addCallback(lambda r, other=other: other)
        one.callback(0)
    row[-1].errback(ValueError(1))
    del row, one, other
    assert len(reported()) == 1


def test_an_error_left_at_the_interpreters_end_is_still_told():
    program = (
        "from ropewalk.defer import Deferred\n"
        "def boom(result):\n"
        "    raise ValueError('lost at the end')\n"
        "kept = Deferred().addCallback(boom)\n"
        "kept.callback(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.count("Unhandled error in a Deferred made at <string>:4, in <module>") == 1
    assert "lost at the end" in done.stderr
    assert "Logging error" not in done.stderr


@pytest.fixture
def debugging():
    defer.setDebugging(True)
    yield
    defer.setDebugging(False)


def test_debugging_keeps_the_stacks_of_making_and_firing(debugging, reported):
    assert defer.getDebugging()

    def makes():
        return Deferred()

    def fires(deferred):
        deferred.callback(1)

    deferred = makes()
    fires(deferred)
    with pytest.raises(AlreadyCalledError) as raised:
        deferred.callback(2)
    text = str(raised.value)
    assert (
        text.index("made here:") < text.index("in makes") < text.index("fired here:") < text.index("in fires")
    )
    lost = makes().addCallback(boom)
    fires(lost)
    del lost
    assert "in fires" in reported()[0]


# --- references ---


def handled():
    deferred = Deferred().addCallback(boom).addErrback(lambda f: None)
    deferred.callback(1)
    return deferred


def trapped_by_nobody_then_handled():
    deferred = Deferred().addCallback(boom).addErrback(lambda f: f.trap(KeyError)).addErrback(lambda f: None)
    deferred.callback(1)
    return deferred


def replaced_then_handled():
    def replace(failure):
        raise KeyError from failure.value

    deferred = Deferred().addCallback(boom).addErrback(replace).addErrback(lambda f: None)
    deferred.callback(1)
    return deferred


def waited_for_then_handled():
    inner = Deferred().addCallback(boom)
    outer = succeed(0).addCallback(lambda r: inner).addErrback(lambda f: None)
    inner.callback(1)
    return outer


def cancelled():
    deferred = Deferred(lambda d: None).addErrback(lambda f: None)
    deferred.cancel()
    return deferred


def in_time():
    deferred = Deferred().addTimeout(1, Clock())
    deferred.callback(1)
    return deferred


def by_a_coroutine():
    async def steps(waited):
        return await waited

    waited = Deferred()
    deferred = ensureDeferred(steps(waited))
    waited.callback(1)
    return deferred


@pytest.mark.parametrize(
    "scenario",
    [
        handled,
        trapped_by_nobody_then_handled,
        replaced_then_handled,
        waited_for_then_handled,
        cancelled,
        in_time,
        by_a_coroutine,
    ],
)
def test_a_deferred_that_was_dealt_with_leaves_no_cycle(scenario):
    with no_collector():
        deferred = scenario()
        watched = weakref.ref(deferred)
        del deferred
        assert watched() is None


def test_a_traceback_shows_no_frame_of_ours():
    seen = []
    deferred = Deferred().addCallback(boom).addErrback(lambda f: seen.append(f.getBriefTraceback()))
    deferred.callback(1)
    execute(boom, 1).addErrback(lambda f: seen.append(f.getBriefTraceback()))
    # Why whole: a clone's own folder has that name too.
    package = str(Path(defer.__file__).parents[1])
    assert len(seen) == 2
    assert all("boom" in text and package not in text for text in seen)


# --- bad input ---


@pytest.mark.parametrize("add", ["addCallback", "addErrback", "addBoth", "addCallbacks"])
@pytest.mark.parametrize("wrong", [5, "print", object()])
def test_what_cannot_be_called_is_refused_at_once(add, wrong):
    deferred = Deferred()
    with pytest.raises(TypeError, match="a callback must be callable, not "):
        getattr(deferred, add)(wrong)
    with pytest.raises(TypeError, match="a callback must be callable, not "):
        deferred.addCallbacks(print, wrong)
    assert deferred._callbacks is None


# --- repr ---


def test_repr_tells_what_is_known():
    waiting, inner = Deferred(), Deferred()
    assert repr(waiting) == f"<Deferred at {id(waiting):#x}>"
    waiting.addCallback(lambda r: inner)
    waiting.callback(1)
    assert repr(waiting) == f"<Deferred at {id(waiting):#x} waiting on Deferred at {id(inner):#x}>"
    inner.callback("value")
    assert repr(waiting) == f"<Deferred at {id(waiting):#x} current result: 'value'>"


def test_chain_deferred_fires_the_other():
    first, second, third = Deferred(), Deferred(), Deferred()
    first.chainDeferred(second)
    second.addErrback(lambda f: f.type).chainDeferred(third)
    first.errback(ValueError())
    assert third.result is ValueError
    assert first.result is second.result is None


@pytest.mark.parametrize("result", [7, ValueError("at the start")])
@pytest.mark.parametrize("when", ["before", "after"])
def test_100_000_that_are_chained_by_chainDeferred_do_not_recurse(result, when):
    chain = [Deferred() for _ in range(100_000)]
    fire = chain[0].errback if isinstance(result, Exception) else chain[0].callback
    if when == "before":
        chain[0].addErrback(lambda failure: failure)
        fire(result)
    for one, other in pairwise(chain):
        one.chainDeferred(other)
    if when == "after":
        fire(result)
    seen = []
    chain[-1].addCallbacks(seen.append, lambda failure: seen.append(failure.value))
    assert seen == [result]
    assert all(each.result is None for each in chain)


def test_what_was_chained_runs_before_what_was_added_behind_it():
    told = []
    first, second = Deferred(), Deferred()
    second.addCallback(lambda value: told.append(("second", value)))
    first.addCallback(lambda value: value + 1).chainDeferred(second)
    first.addCallback(lambda value: told.append(("first", value)))
    first.callback(1)
    assert told == [("second", 2), ("first", None)]


def test_one_that_was_fired_already_is_an_error_of_the_one_that_was_to_fire_it():
    first, second = Deferred(), succeed("mine")
    first.chainDeferred(second)
    seen = []
    first.addErrback(lambda failure: seen.append(failure.type))
    first.callback("its")
    assert (seen, second.result) == ([AlreadyCalledError], "mine")


def test_one_that_was_cancelled_takes_the_result_that_comes_too_late():
    first, second = Deferred(), Deferred()
    second.addErrback(lambda failure: failure.trap(CancelledError))
    first.chainDeferred(second)
    second.cancel()
    first.callback("too late")
    assert (first.result, second.result) == (None, CancelledError)


def test_a_class_of_its_own_is_fired_by_its_own_callback():
    class Loud(Deferred):
        def callback(self, result):
            super().callback(("loud", result))

    first, second = Deferred(), Loud()
    first.chainDeferred(second)
    first.callback(1)
    assert second.result == ("loud", 1)


def test_an_unhandled_error_of_a_chain_is_told_once_by_its_last(reported):
    first, second = Deferred(), Deferred()
    first.chainDeferred(second)
    first.errback(ValueError("nobody takes it"))
    del first, second
    [told] = reported()
    assert told.startswith(f"Unhandled error in a Deferred made at {__file__}:")
