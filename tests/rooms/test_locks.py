"""DeferredLock, DeferredSemaphore, DeferredQueue: turns in the order in which they were asked for.

Invariant of the random walks: never more are in than may be, nobody overtakes, and a turn that ends is not lost.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.defer import (
    CancelledError,
    Deferred,
    DeferredLock,
    DeferredQueue,
    DeferredSemaphore,
    QueueOverflow,
    QueueUnderflow,
    ensureDeferred,
    fail,
    succeed,
)

pytestmark = pytest.mark.usefixtures("nothing_unhandled")

BOTH = pytest.mark.parametrize(
    "make", [DeferredLock, lambda: DeferredSemaphore(1)], ids=["lock", "semaphore"]
)


def test_a_lock_is_had_by_one_at_a_time_in_order():
    lock, seen = DeferredLock(), []
    assert not lock.locked
    for name in "abc":
        lock.acquire().addCallback(lambda got, name=name: seen.append((name, got is lock)))
    assert lock.locked
    assert seen == [("a", True)]
    lock.release()
    lock.release()
    assert seen == [("a", True), ("b", True), ("c", True)]
    lock.release()
    assert not lock.locked


def test_a_semaphore_lets_so_many_in():
    semaphore, seen = DeferredSemaphore(2), []
    for name in "abc":
        semaphore.acquire().addCallback(lambda _, name=name: seen.append(name))
    assert (seen, semaphore.tokens, semaphore.limit) == (["a", "b"], 0, 2)
    semaphore.release()
    assert (seen, semaphore.tokens) == (["a", "b", "c"], 0)


@pytest.mark.parametrize("tokens", [0, -1])
def test_a_semaphore_needs_a_token(tokens):
    with pytest.raises(ValueError, match="one token at least"):
        DeferredSemaphore(tokens)


@BOTH
def test_what_nobody_has_cannot_be_released(make):
    turns = make()
    with pytest.raises(AssertionError, match="more often than it was acquired"):
        turns.release()
    turns.acquire()
    turns.release()
    with pytest.raises(AssertionError, match="more often than it was acquired"):
        turns.release()


@BOTH
def test_one_who_waits_can_give_up_its_place(make):
    turns, seen = make(), []
    turns.acquire()
    gone = turns.acquire().addErrback(lambda f: seen.append(f.type))
    turns.acquire().addCallback(lambda _: seen.append("third"))
    gone.cancel()
    turns.release()
    assert seen == [CancelledError, "third"]


@BOTH
@pytest.mark.parametrize("kind", ["value", "deferred", "coroutine", "raises", "fails"])
def test_run_holds_the_turn_until_the_work_is_done_and_gives_its_outcome(make, kind):
    async def coroutine():
        return await waited

    def work(a, b=0):
        seen.append((a, b))
        if kind == "raises":
            raise KeyError("raised")
        return {
            "value": "value",
            "deferred": waited,
            "coroutine": coroutine() if kind == "coroutine" else None,
            "fails": fail(KeyError("raised")) if kind == "fails" else None,
        }[kind]

    turns, waited, seen = make(), Deferred(), []
    turns.acquire()
    ran = turns.run(work, 1, b=2).addErrback(lambda f: f.value.args[0])
    assert seen == []
    turns.release()
    assert seen == [(1, 2)]
    if kind in ("deferred", "coroutine"):
        assert turns.tokens == 0
        waited.callback("value")
    assert turns.tokens == 1
    assert ran.result == ("raised" if kind in ("raises", "fails") else "value")


@BOTH
def test_work_that_exits_gives_its_turn_back(make):
    def leave():
        raise SystemExit(3)

    turns = make()
    with pytest.raises(SystemExit):
        turns.run(leave)
    assert turns.tokens == 1


@BOTH
def test_async_with_holds_the_turn_and_lets_errors_out(make):
    async def work(waited):
        async with turns as got:
            assert got is turns
            await waited

    turns, first = make(), Deferred()
    ends = [ensureDeferred(work(first)), ensureDeferred(work(fail(KeyError())))]
    assert turns.tokens == 0
    first.callback(None)
    assert ends[0].called
    assert turns.tokens == 1
    ends[1].addErrback(lambda f: f.type)
    assert ends[1].result is KeyError


@BOTH
def test_a_row_of_10_000_whose_work_is_done_at_once_does_not_recurse(make):
    turns, seen = make(), []
    turns.acquire()
    for number in range(10_000):
        turns.run(seen.append, number)
    turns.release()
    assert seen == list(range(10_000))
    assert turns.tokens == 1


@BOTH
def test_nobody_overtakes_the_row_in_the_depth_of_hand_overs(make):
    turns, seen = make(), []

    def work(number):
        seen.append(number)
        if number < 50:
            turns.run(seen.append, f"late {number}")

    turns.acquire()
    for number in range(100):
        turns.run(work, number)
    turns.release()
    assert seen == [*range(100), *(f"late {number}" for number in range(50))]


@given(
    st.integers(1, 3),
    st.lists(st.sampled_from(["acquire", "release", "cancel first", "cancel last"]), max_size=40),
)
def test_any_walk_lets_in_as_many_as_may_be_in_order(limit, walk):
    semaphore, asked, inside, told = DeferredSemaphore(limit), [], 0, []
    waiting: list[int] = []
    for step in walk:
        if step == "acquire":
            number = len(asked)
            asked.append(semaphore.acquire().addCallbacks(lambda _, n=number: told.append(n), lambda f: None))
            waiting.append(number)
        elif step == "release" and inside:
            semaphore.release()
            inside -= 1
        elif step.startswith("cancel") and waiting:
            number = waiting.pop(0 if step == "cancel first" else -1)
            asked[number].cancel()
        while waiting and inside < limit:
            inside += 1
            assert waiting.pop(0) in told
        assert told == sorted(told)
        assert semaphore.tokens == limit - inside
        assert len(semaphore.waiting) == len(waiting)


def test_a_queue_hands_over_in_order_on_both_sides():
    queue, seen = DeferredQueue(), []
    queue.get().addCallback(seen.append)
    queue.get().addCallback(seen.append)
    for thing in "abcd":
        queue.put(thing)
    assert seen == ["a", "b"]
    assert (queue.get().result, queue.get().result) == ("c", "d")


def test_a_queue_has_bounds_on_both_sides():
    queue = DeferredQueue(size=1, backlog=1)
    queue.put(1)
    with pytest.raises(QueueOverflow, match="1 things lie"):
        queue.put(2)
    queue.get()
    queue.get()
    with pytest.raises(QueueUnderflow, match="1 wait"):
        queue.get()
    with pytest.raises(QueueUnderflow):
        DeferredQueue(backlog=0).get()
    with pytest.raises(QueueOverflow):
        DeferredQueue(size=0).put(1)


def test_one_who_waits_for_a_queue_can_give_up_its_place():
    queue, seen = DeferredQueue(), []
    gone = queue.get().addErrback(lambda f: seen.append(f.type))
    queue.get().addCallback(seen.append)
    gone.cancel()
    queue.put("thing")
    assert seen == [CancelledError, "thing"]


def test_a_turn_counts_as_made_where_it_was_asked_for():
    for made in (DeferredLock().acquire(), DeferredQueue().get(), DeferredLock().run(succeed, 1)):
        assert str(made._birth()).startswith(__file__)
