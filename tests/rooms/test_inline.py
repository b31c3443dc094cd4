"""inlineCallbacks, and what the Driver owes generators and coroutines alike.

Invariant of the tests that count: what is waited for by `yield` and by `await` is seen in the same order.
"""

from __future__ import annotations

import contextlib
import contextvars
import gc
import re
import sys
import traceback
import weakref

import pytest

from ropewalk.defer import (
    CancelledError,
    Deferred,
    ensureDeferred,
    fail,
    inlineCallbacks,
    maybeDeferred,
    returnValue,
    succeed,
)
from ropewalk.failure import Failure

pytestmark = pytest.mark.usefixtures("nothing_unhandled")

DEEP = 100_000
word = contextvars.ContextVar("word", default="none")


@contextlib.contextmanager
def no_collector():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_generator_is_given_values_and_errors_and_its_return_is_the_result():
    @inlineCallbacks
    def steps(waited, more):
        first = yield waited
        try:
            yield fail(KeyError(1))
        except KeyError as exc:
            return [first, exc.args, more]

    waited = Deferred()
    deferred = steps(waited, more=3)
    assert not deferred.called
    waited.callback(1)
    assert deferred.result == [1, (1,), 3]


def test_the_function_keeps_its_name_and_its_docstring():
    @inlineCallbacks
    def fetch():
        """What it does."""
        yield

    assert (fetch.__name__, fetch.__doc__) == ("fetch", "What it does.")


def test_what_is_no_deferred_is_given_back():
    @inlineCallbacks
    def steps():
        one = yield 1
        none = yield
        try:
            yield Failure(KeyError())
        except KeyError:
            return [one, none, "raised"]

    assert steps().result == [1, None, "raised"]


def test_a_yielded_generator_or_coroutine_is_run_to_its_end():
    def inner(waited):
        return 1 + (yield waited)

    async def native(waited):
        return 2 + await waited

    @inlineCallbacks
    def steps(waited):
        first = yield inner(waited)
        second = yield native(waited)
        return first, second

    waited = Deferred()
    deferred = steps(waited)
    waited.callback(10)
    assert deferred.result == (11, 12)


def test_a_function_that_makes_no_generator_is_refused_when_it_is_called():
    @inlineCallbacks
    def plain():
        return 1

    @inlineCallbacks
    def returns():
        returnValue(1)

    for each in (plain, returns):
        with pytest.raises(TypeError, match="generator"):
            each()


def test_returnValue_ends_the_generator_with_that_value_and_through_except_Exception():
    @inlineCallbacks
    def steps():
        yield succeed(1)
        try:
            returnValue("value")
        except Exception:
            return "caught"

    assert steps().result == "value"


@pytest.mark.parametrize("how", ["inline", "coroutine"])
def test_a_returned_deferred_is_told_to_be_awaited_first(how):
    def generator():
        yield succeed(1)
        return succeed(2)

    async def coroutine():
        return succeed(2)

    deferred = inlineCallbacks(generator)() if how == "inline" else ensureDeferred(coroutine())
    assert "await it first" in str(deferred.result.value)
    deferred.addErrback(lambda f: f.trap(TypeError) and None)


def test_cancelling_raises_where_it_waits_and_it_may_go_on():
    seen = []

    @inlineCallbacks
    def steps(first, second):
        try:
            yield first
        except CancelledError:
            seen.append("cancelled")
        return (yield second)

    called, second = [], Deferred()
    deferred = steps(Deferred(called.append), second)
    deferred.cancel()
    assert (seen, len(called)) == (["cancelled"], 1)
    second.callback("went on")
    assert deferred.result == "went on"


def test_one_context_is_kept_throughout():
    @inlineCallbacks
    def steps(waited):
        seen = [word.get()]
        word.set("its own")
        yield waited
        return [*seen, word.get()]

    word.set("start")
    waited = Deferred()
    deferred = steps(waited)
    word.set("firing")
    waited.callback(1)
    assert deferred.result == ["start", "its own"]
    assert word.get() == "firing"


def test_100_000_yields_of_results_that_are_there_do_not_recurse():
    @inlineCallbacks
    def steps():
        total = 0
        for _ in range(DEEP):
            total += yield succeed(1)
        return total

    assert steps().result == DEEP


def test_100_000_that_wait_for_each_other_do_not_recurse():
    @inlineCallbacks
    def one_more(waited):
        return 1 + (yield waited)

    first = last = Deferred()
    for _ in range(DEEP):
        last = one_more(last)
    first.callback(0)
    assert last.result == DEEP


def test_an_error_through_10_000_that_wait_for_each_other_arrives():
    @inlineCallbacks
    def passes(waited):
        yield waited

    first = last = Deferred()
    for _ in range(10_000):
        last = passes(last)
    first.errback(KeyError())
    assert last.result.type is KeyError
    last.addErrback(lambda f: f.cleanFailure())


def test_a_callback_that_the_coroutine_adds_to_what_it_awaited_comes_after_it_waits_again():
    for more in (False, True):
        seen = []

        async def steps(first, second, seen=seen):
            await first
            first.addCallback(lambda r: seen.append("added"))
            seen.append("runs on")
            await second

        first, second = Deferred(), Deferred()
        deferred = ensureDeferred(steps(first, second))
        if more:
            first.addCallback(lambda r, seen=seen: seen.append("there"))
        first.callback(1)
        assert seen == ["runs on", *(["there"] if more else []), "added"]
        second.callback(1)
        assert deferred.called


def test_a_coroutine_that_pauses_what_it_awaited_holds_the_callbacks_it_adds():
    seen = []

    async def steps(waited):
        await waited
        waited.pause()
        waited.addCallback(seen.append)

    waited = Deferred()
    assert not ensureDeferred(steps(waited)).called
    waited.callback(1)
    assert seen == []
    waited.unpause()
    assert seen == [1]


# --- tracebacks ---


def names_in(text):
    return re.findall(r", in (\w+)$", text, re.MULTILINE)


def test_a_traceback_shows_the_whole_chain_that_awaits():
    def boom(result):
        raise ValueError(result)

    async def innermost(waited):
        await waited

    @inlineCallbacks
    def middle(waited):
        yield ensureDeferred(innermost(waited))

    async def outer(waited):
        await middle(waited)

    waited = Deferred().addCallback(boom)
    deferred = ensureDeferred(outer(waited))
    waited.callback(1)
    text = "".join(traceback.format_exception(deferred.result.value))
    shown = [name for name in names_in(text) if not name.startswith("_")]
    assert shown == ["outer", "middle", "innermost", "boom"]
    deferred.addErrback(lambda f: None)


@pytest.mark.parametrize("fired", ["before", "after"])
def test_an_awaited_error_that_was_never_raised_tells_where_its_deferred_was_made(fired):
    async def steps(waited):
        await waited

    waited = Deferred()
    line = waited._birth()
    if fired == "before":
        waited.errback(KeyError())
        deferred = ensureDeferred(steps(waited))
    else:
        deferred = ensureDeferred(steps(waited))
        waited.errback(KeyError())
    text = "".join(traceback.format_exception(deferred.result.value))
    assert f"The Deferred that was awaited was made at {line}" in text
    assert f"{__file__}:" in str(line)
    deferred.addErrback(lambda f: None)


def test_many_who_await_one_error_note_its_birth_once():
    async def steps(waited):
        await waited

    waited = Deferred()
    ends = [ensureDeferred(steps(waited)).addErrback(lambda f: f.value) for _ in range(3)]
    waited.errback(KeyError())
    assert len(ends[0].result.__notes__) == 1


def test_a_cancelled_wait_tells_what_was_waited_for():
    async def steps():
        await Deferred()

    deferred = ensureDeferred(steps())
    deferred.cancel()
    assert "in test_a_cancelled_wait_tells_what_was_waited_for" in deferred.result.value.__notes__[0]
    deferred.addErrback(lambda f: None)


# --- reports ---


def drop_a_coroutine():
    async def steps():
        await Deferred()

    ensureDeferred(steps())
    return "steps"


def drop_a_generator():
    @inlineCallbacks
    def generator():
        yield Deferred()

    generator()
    return "generator"


def drop_both_that_wait_for_each_other():
    async def outer(waited):
        await waited

    outer_deferred = Deferred()
    ensureDeferred(outer(outer_deferred))
    return "outer"


DROPS = [drop_a_coroutine, drop_a_generator, drop_both_that_wait_for_each_other]


@pytest.mark.parametrize("drop", DROPS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("collector", [True, False])
def test_a_coroutine_that_is_dropped_is_reported_once_with_where_it_began_and_what_it_awaits(
    drop, collector, reported
):
    if collector:
        name = drop()
    else:
        with no_collector():
            name = drop()
    (text,) = reported()
    assert re.fullmatch(
        rf"Coroutine {drop.__name__}\.<locals>\.{name}, started at {re.escape(__file__)}:\d+, in {drop.__name__}, was "
        rf"dropped: nobody can fire any more the Deferred that it waits for, made at {re.escape(__file__)}:\d+, in .*",
        text,
    )


def test_a_dropped_coroutine_runs_its_finally(reported):
    seen = []

    async def steps():
        try:
            await Deferred()
        finally:
            seen.append("finally")

    ensureDeferred(steps())
    assert len(reported()) == 1
    assert seen == ["finally"]


def test_coroutines_that_ended_or_still_wait_are_not_reported(reported):
    async def steps(waited):
        await waited

    kept = Deferred()
    ensureDeferred(steps(kept))
    ensureDeferred(steps(succeed(1)))
    ensureDeferred(steps(Deferred())).addErrback(lambda f: None).cancel()
    assert reported() == []
    kept.callback(1)
    assert reported() == []


def raise_in_a_generator():
    @inlineCallbacks
    def steps(waited):
        yield waited
        raise ValueError(1)

    waited = Deferred()
    steps(waited)
    waited.callback(1)


def fail_what_is_awaited():
    async def steps(waited):
        await waited

    waited = Deferred()
    ensureDeferred(steps(waited))
    waited.errback(ValueError(1))


def fail_through_a_chain_of_each_kind():
    async def inner(waited):
        await waited

    @inlineCallbacks
    def outer(waited):
        yield ensureDeferred(inner(waited))

    waited = Deferred()
    succeed(0).addCallback(lambda r: outer(waited))
    waited.errback(ValueError(1))


LOSSES = [raise_in_a_generator, fail_what_is_awaited, fail_through_a_chain_of_each_kind]


@pytest.mark.parametrize("lose", LOSSES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("collector", [True, False])
def test_an_error_nobody_took_is_reported_exactly_once_with_and_without_the_collector(
    lose, collector, reported
):
    if collector:
        lose()
    else:
        with no_collector():
            lose()
    assert len(reported()) == 1
    assert "Unhandled error in a Deferred made at" in reported()[0]


# --- references ---


def ended_inline():
    @inlineCallbacks
    def steps(waited):
        yield waited
        yield succeed(1)

    waited = Deferred()
    deferred = steps(waited)
    waited.callback(1)
    return deferred


def raised_and_handled_inline():
    @inlineCallbacks
    def steps(waited):
        yield waited
        raise ValueError

    waited = Deferred()
    deferred = steps(waited).addErrback(lambda f: None)
    waited.callback(1)
    return deferred


def caught_inside():
    async def steps(waited):
        try:
            await waited
        except ValueError:
            return "caught"

    waited = Deferred()
    deferred = ensureDeferred(steps(waited))
    waited.errback(ValueError())
    waited.addErrback(lambda f: None)
    return deferred


def cancelled():
    # Why not from a variable: what it waited for keeps the error, and the error's traceback the variables of who waited.
    async def steps():
        await Deferred()

    deferred = ensureDeferred(steps()).addErrback(lambda f: None)
    deferred.cancel()
    return deferred


def cancelled_with_it_in_a_variable():
    async def steps(waited):
        await waited

    deferred = ensureDeferred(steps(Deferred())).addErrback(lambda f: None)
    deferred.cancel()
    return deferred


def at_once():
    async def steps():
        return await succeed(1)

    return maybeDeferred(steps)


@pytest.mark.parametrize(
    "scenario",
    [
        ended_inline,
        raised_and_handled_inline,
        caught_inside,
        cancelled,
        pytest.param(
            cancelled_with_it_in_a_variable,
            # Why there: the error's traceback leads to the variables of who waited, and from 3.12 on to who resumed it.
            marks=pytest.mark.xfail(sys.version_info >= (3, 12), reason="a circle of the user's variables"),
        ),
        at_once,
    ],
)
def test_a_finished_one_is_freed_without_the_collector(scenario):
    with no_collector():
        deferred = scenario()
        watched = weakref.ref(deferred)
        del deferred
        assert watched() is None
