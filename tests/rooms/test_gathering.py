"""DeferredList, gatherResults, race: several results as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    FailureGroup,
    FirstError,
    ensureDeferred,
    fail,
    gatherResults,
    race,
    succeed,
)
from ropewalk.failure import Failure

pytestmark = pytest.mark.usefixtures("nothing_unhandled")


def test_a_list_has_what_each_came_to_in_their_order():
    first, second = Deferred(), Deferred()
    gathered = DeferredList([first, second], consumeErrors=True)
    second.errback(KeyError(2))
    assert not gathered.called
    assert gathered.finishedCount == 1
    first.callback(1)
    (ok, value), (failed, failure) = gathered.result
    assert (ok, value, failed, failure.type) == (True, 1, False, KeyError)


def test_a_list_of_none_has_fired_and_one_that_waits_for_the_first_has_not():
    assert DeferredList([]).result == []
    assert gatherResults([]).result == []
    assert not DeferredList([], fireOnOneCallback=True).called


def test_a_list_fires_with_the_first_value_and_its_index_if_asked():
    deferreds = [Deferred() for _ in range(3)]
    gathered = DeferredList(deferreds, fireOnOneCallback=True, consumeErrors=True)
    deferreds[0].errback(KeyError())
    deferreds[2].callback("two")
    deferreds[1].callback("one")
    assert gathered.result == ("two", 2)


def test_a_list_fails_with_the_first_error_if_asked():
    deferreds = [Deferred() for _ in range(3)]
    gathered = DeferredList(deferreds, fireOnOneErrback=True, consumeErrors=True)
    deferreds[0].callback(0)
    deferreds[2].errback(KeyError(2))
    error = gathered.result.value
    assert isinstance(error, FirstError)
    assert (error.index, error.subFailure.value.args) == (2, (2,))
    assert repr(error) == "FirstError[#2, KeyError(2)]"
    assert str(error).startswith("FirstError[#2, [Failure instance: ")
    gathered.addErrback(lambda f: None)
    deferreds[1].callback(1)


def test_results_stay_in_their_deferreds_and_errors_unless_consumed():
    value, error, consumed = succeed(1), fail(KeyError()), fail(KeyError())
    DeferredList([value, error])
    DeferredList([consumed], consumeErrors=True)
    assert value.result == 1
    assert error.result.type is KeyError
    assert consumed.result is None
    error.addErrback(lambda f: None)


def test_an_error_that_was_only_listed_is_reported_by_its_own_deferred(reported):
    error = fail(KeyError())
    listed = DeferredList([error])
    del error, listed
    assert len(reported()) == 1


def test_first_errors_are_equal_if_they_tell_of_the_same():
    failure = Failure(KeyError())
    assert FirstError(failure, 1) == FirstError(failure, 1)
    assert FirstError(failure, 1) != FirstError(failure, 2)
    assert FirstError(failure, 1) != KeyError()
    assert len({FirstError(failure, 1)}) == 1


def test_gathering_gives_the_values_in_order():
    deferreds = [Deferred() for _ in range(3)]
    gathered = gatherResults(deferreds)
    for each in (2, 0, 1):
        deferreds[each].callback(each)
    assert gathered.result == [0, 1, 2]
    assert [each.result for each in deferreds] == [0, 1, 2]


@pytest.mark.parametrize("gather", [DeferredList, lambda each: gatherResults(each, consumeErrors=True), race])
def test_cancelling_cancels_every_one_that_has_not_fired(gather):
    called = []
    deferreds = [Deferred(called.append), Deferred(called.append)]
    gathered = gather(deferreds)
    gathered.cancel()
    assert called == deferreds
    assert gathered.called
    gathered.addErrback(lambda f: None)
    for each in deferreds:
        each.addErrback(lambda f: None)


def test_cancelling_what_waits_for_a_list_cancels_its_deferreds():
    called = []

    async def awaits(gathered):
        await gathered

    for wait in (
        lambda gathered: succeed(0).addCallback(lambda r: gathered),
        lambda gathered: ensureDeferred(awaits(gathered)),
    ):
        inner = Deferred(called.append)
        wait(gatherResults([inner], consumeErrors=True)).addErrback(lambda f: None).cancel()
        assert called.pop() is inner


def test_cancelling_a_list_that_has_fired_reaches_what_its_callbacks_wait_for():
    called = []
    inner = Deferred(called.append)
    gathered = gatherResults([succeed(1)]).addCallback(lambda r: inner).addErrback(lambda f: f.type)
    gathered.cancel()
    assert called == [inner]
    assert gathered.result is CancelledError


def test_a_canceller_that_raises_is_logged_and_keeps_the_others_from_nothing(reported):
    def bad(deferred):
        raise KeyError("canceller")

    called = []
    gathered = DeferredList([Deferred(bad), Deferred(called.append)], consumeErrors=True)
    gathered.cancel()
    assert len(called) == 1
    assert reported() == ["A canceller raised while a list of Deferreds was cancelled"]


def test_a_canceller_that_exits_leaves_after_the_others_were_cancelled():
    def leave(deferred):
        raise SystemExit(3)

    called = []
    gathered = DeferredList([Deferred(leave), Deferred(called.append)], consumeErrors=True)
    with pytest.raises(SystemExit):
        gathered.cancel()
    assert len(called) == 1


def test_the_first_of_a_race_wins_and_the_others_are_cancelled_before_it_is_told():
    order = []
    deferreds = [Deferred(lambda d, n=n: order.append(f"cancel {n}")) for n in range(3)]
    race(deferreds).addCallback(order.append)
    deferreds[1].callback("won")
    assert order == ["cancel 0", "cancel 2", (1, "won")]
    assert all(each.called for each in deferreds)


def test_a_race_goes_on_after_errors_until_all_have_failed():
    deferreds = [Deferred() for _ in range(2)]
    first, second = (Deferred() for _ in range(2))
    won, lost = race([*deferreds]), race([first, second])
    deferreds[0].errback(KeyError())
    deferreds[1].callback("won")
    assert won.result == (1, "won")
    second.errback(ValueError(2))
    first.errback(KeyError(1))
    group = lost.result.value
    assert isinstance(group, FailureGroup)
    assert [failure.type for failure in group.failures] == [KeyError, ValueError]
    assert str(group) == "KeyError(1); ValueError(2)"
    lost.addErrback(lambda f: None)


def test_one_that_answers_its_cancellation_with_a_value_wins_nothing():
    deferreds = [Deferred(lambda d: d.callback("late")), Deferred()]
    won = race(deferreds)
    deferreds[1].callback("won")
    assert won.result == (1, "won")


def test_a_late_winner_of_a_cancelled_race_troubles_nobody():
    async def stubborn(waited, other):
        try:
            await waited
        except CancelledError:
            return await other

    other = Deferred()
    runner = ensureDeferred(stubborn(Deferred(), other))
    raced = race([runner]).addErrback(lambda f: f.type)
    raced.cancel()
    assert raced.result is CancelledError
    other.callback("late")
    assert runner.called


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=8), st.randoms(use_true_random=False))
def test_gathering_comes_to_what_the_order_of_firing_says(outcomes, random):
    deferreds = [Deferred() for _ in outcomes]
    gathered = gatherResults(deferreds, consumeErrors=True)
    raced = race([Deferred() for _ in outcomes]) if not outcomes else None
    order = list(range(len(outcomes)))
    random.shuffle(order)
    for index in order:
        ok, value = outcomes[index]
        deferreds[index].callback(value if ok else Failure(KeyError(value)))
    failed = [index for index in order if not outcomes[index][0]]
    if failed:
        error = gathered.result.value
        assert (error.index, error.subFailure.value.args) == (failed[0], (outcomes[failed[0]][1],))
        gathered.addErrback(lambda f: None)
    else:
        assert gathered.result == [value for _, value in outcomes]
    assert raced is None or not raced.called
