"""LoopingCall, Cooperator, deferLater and sleep, on clocks made here; react and run on real reactors without sockets.

Invariant of the looping tests: a call is made at a multiple of the interval after the start, or not at all.
"""

from __future__ import annotations

import contextvars
import gc
import heapq
import os
import signal
import subprocess
import sys
import threading
import weakref
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk import Reactor, task
from ropewalk.defer import (
    CancelledError,
    Deferred,
    DeferredLock,
    DeferredQueue,
    NotACoroutineError,
    TimeoutError,
    ensureDeferred,
    fail,
    gatherResults,
    inlineCallbacks,
    race,
    succeed,
)
from ropewalk.task import (
    Cooperator,
    LoopingCall,
    NotPaused,
    SchedulerStopped,
    TaskDone,
    TaskFailed,
    TaskFinished,
    TaskStopped,
    currentReactor,
    deferLater,
    react,
    run,
    sleep,
    within,
)
from ropewalk.threads import deferToThread

pytestmark = pytest.mark.usefixtures("nothing_unhandled")

word = contextvars.ContextVar("word", default="none")


class Call:
    def __init__(self, time, order, function, args):
        self.time, self.order, self.function, self.args = time, order, function, args
        self.cancelled = self.called = False

    def __lt__(self, other):
        return (self.time, self.order) < (other.time, other.order)

    def cancel(self):
        assert self.active()
        self.cancelled = True

    def active(self):
        return not self.cancelled and not self.called


class Clock:
    """Time that moves when it is told to, one timer after the other at the time it was set for."""

    def __init__(self):
        self.now = 0.0
        self.heap = []
        self.made = 0

    def seconds(self):
        return self.now

    def callLater(self, delay, function, *args):
        assert delay >= 0
        self.made += 1
        call = Call(self.now + delay, self.made, function, args)
        heapq.heappush(self.heap, call)
        return call

    def pending(self):
        return [call.time for call in sorted(self.heap) if not call.cancelled]

    def advance(self, seconds):
        """As a loop that was busy for so long: the time first, then all that is due."""
        self.now += seconds
        while self.heap and self.heap[0].time <= self.now:
            call = heapq.heappop(self.heap)
            if not call.cancelled:
                call.called = True
                call.function(*call.args)


# --- deferLater, sleep ---


def test_deferLater_gives_what_the_call_returns_or_raises():
    clock = Clock()
    first = deferLater(clock, 1, lambda a, b: (a, b), 1, b=2)
    second = deferLater(clock, 2, int, "no number").addErrback(lambda f: f.type)
    clock.advance(1)
    assert first.result == (1, 2)
    assert not second.called
    clock.advance(1)
    assert second.result is ValueError


def test_deferLater_without_a_call_and_sleep_give_none():
    clock = Clock()
    waits = [deferLater(clock, 1), sleep(1, clock)]
    clock.advance(1)
    assert [each.result for each in waits] == [None, None]
    assert all(each.called for each in waits)
    assert all(str(each._birth()).startswith(__file__) for each in waits)


def test_cancelling_a_wait_cancels_its_timer():
    clock = Clock()
    wait = sleep(1, clock).addErrback(lambda f: f.type)
    wait.cancel()
    assert wait.result is CancelledError
    assert clock.pending() == []


# --- within ---


async def doing(waited):
    return await waited


@pytest.mark.parametrize("kind", ["a Deferred", "a coroutine", "another awaitable"])
def test_within_gives_what_comes_in_time(kind):
    class Other:
        def __await__(self):
            return (yield from waited.__await__())

    clock, waited = Clock(), Deferred()
    given = {"a Deferred": waited, "a coroutine": doing(waited), "another awaitable": Other()}
    if kind != "a coroutine":
        given["a coroutine"].close()
    result = within(5, given[kind], clock)
    clock.advance(4)
    waited.callback("in time")
    assert result.result == "in time"
    assert clock.pending() == []
    assert str(result._birth()).startswith(__file__)


def test_within_cancels_what_comes_too_late_and_says_so():
    clock = Clock()
    seen = []

    async def slow():
        try:
            await Deferred()
        except CancelledError:
            seen.append("cancelled")
            raise

    late = within(5, slow(), clock)
    clock.advance(5)
    assert seen == ["cancelled"]
    assert late.result.check(TimeoutError)
    assert "5" in late.result.getErrorMessage()
    late.addErrback(lambda failure: None)


def test_within_takes_no_number_that_is_no_time():
    for seconds in (-1, float("nan"), float("inf"), 10**400):
        with pytest.raises(ValueError, match=f"not {seconds}"):
            within(seconds, Deferred(), Clock())
        with pytest.raises(ValueError, match=f"not {seconds}"):
            within(seconds, doing(Deferred()), Clock())
    with pytest.raises(TypeError, match="awaitable, not 5"):
        within(1, 5, Clock())


# --- LoopingCall ---


def looping(clock, function, counted=False):
    call = LoopingCall.withCount(function) if counted else LoopingCall(function)
    call.clock = clock
    return call


def test_it_is_called_at_once_and_then_at_every_tick_until_stopped():
    clock, seen = Clock(), []
    call = LoopingCall(lambda a, b: seen.append((clock.now, a, b)), 1, b=2)
    call.clock = clock
    ended = call.start(0.5)
    for _ in range(3):
        clock.advance(0.5)
    assert seen == [(0, 1, 2), (0.5, 1, 2), (1, 1, 2), (1.5, 1, 2)]
    assert (call.running, call.interval, call.starttime, call.deferred is ended) == (True, 0.5, 0.0, True)
    call.stop()
    assert ended.result is call
    assert (call.running, call.deferred, clock.pending()) == (False, None, [])


def test_without_now_the_first_call_comes_after_an_interval():
    clock, seen = Clock(), []
    looping(clock, lambda: seen.append(clock.now)).start(2, now=False)
    clock.advance(1)
    assert seen == []
    clock.advance(1)
    assert seen == [2]


def test_a_late_call_is_made_once_and_the_rhythm_is_kept():
    clock, seen = Clock(), []
    looping(clock, lambda: seen.append(clock.now)).start(1)
    clock.advance(3.25)
    assert seen == [0, 3.25]
    assert clock.pending() == [4]


def test_the_count_tells_the_ticks_that_were_missed():
    clock, seen = Clock(), []
    call = looping(clock, lambda count: seen.append((clock.now, count)), counted=True)
    call.start(1)
    for seconds in (1, 2.5, 0.5, 1):
        clock.advance(seconds)
    assert seen == [(0, 1), (1, 1), (3.5, 2), (4, 1), (5, 1)]


def test_the_count_of_a_second_run_does_not_tell_of_the_time_between():
    clock, seen = Clock(), []
    call = looping(clock, seen.append, counted=True)
    call.start(1)
    call.stop()
    clock.advance(10)
    call.start(1)
    clock.advance(1)
    assert seen == [1, 1, 1]


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("interval", [0.1, 0.7, 1e-3, 1 / 3])
def test_a_clock_that_jumps_from_timer_to_timer_meets_each_tick_once_though_floats_round(interval, counted):
    clock, seen = Clock(), []
    clock.now = 1_700_000_000.1
    call = looping(clock, lambda *count: seen.append((clock.now, *count)), counted=counted)
    call.start(interval)
    for _ in range(3000):
        clock.now = clock.pending()[0]
        clock.advance(0)
    assert len(seen) == 3001
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(seen)]
    assert max(gaps) < interval + 1e-6
    assert min(gaps) > interval - 1e-6
    assert {each[1:] for each in seen} == {(1,) if counted else ()}


def test_an_interval_of_0_is_once_for_each_turn():
    clock, seen = Clock(), []
    call = looping(clock, seen.append, counted=True)
    call.start(0)
    for _ in range(3):
        assert clock.pending() == [clock.now]
        call.stop() if len(seen) == 3 else heapq.heappop(clock.heap).function()
    assert seen == [1, 1, 1]


@pytest.mark.parametrize("kind", ["deferred", "coroutine"])
def test_the_next_call_waits_for_the_end_of_this_one(kind):
    async def coroutine():
        await waits[-1]

    def work():
        waits.append(Deferred())
        return waits[-1] if kind == "deferred" else coroutine()

    clock, waits = Clock(), []
    call = looping(clock, work)
    ended = call.start(1)
    clock.advance(2.5)
    assert (len(waits), clock.pending(), call.call) == (1, [], None)
    waits[0].callback("ignored")
    assert clock.pending() == [3]
    clock.advance(0.5)
    call.stop()
    assert not ended.called
    waits[1].callback(None)
    assert ended.result is call


@pytest.mark.parametrize("fail_how", ["raises", "fails"])
def test_a_failure_ends_it_and_is_told(fail_how):
    def work():
        if fail_how == "raises":
            raise KeyError("planned")
        return fail(KeyError("planned"))

    clock = Clock()
    call = looping(clock, work)
    ended = call.start(1).addErrback(lambda f: f.type)
    assert (ended.result, call.running, call.deferred, clock.pending()) == (KeyError, False, None, [])
    assert call.start(1).addErrback(lambda f: "again").result == "again"


def test_it_may_stop_itself():
    clock, seen = Clock(), []
    call = looping(clock, lambda: (seen.append(clock.now), call.stop() if len(seen) == 2 else None))
    ended = call.start(1)
    clock.advance(1)
    clock.advance(5)
    assert seen == [0, 1]
    assert ended.result is call


def test_reset_counts_from_now():
    clock, seen = Clock(), []
    call = looping(clock, lambda: seen.append(clock.now))
    call.start(1)
    clock.advance(0.75)
    call.reset()
    clock.advance(0.75)
    assert seen == [0]
    clock.advance(0.25)
    clock.advance(1)
    assert seen == [0, 1.75, 2.75]


def test_reset_while_a_call_is_under_way_changes_nothing():
    clock, waited = Clock(), Deferred()
    call = looping(clock, lambda: waited)
    call.start(1)
    clock.advance(0.5)
    call.reset()
    waited.callback(None)
    assert clock.pending() == [1]


def test_what_is_not_running_can_be_neither_stopped_nor_reset_and_what_is_not_started_again():
    call = looping(Clock(), lambda: None)
    for ask in (call.stop, call.reset):
        with pytest.raises(AssertionError, match="not running"):
            ask()
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"the interval must be 0 or more seconds, not {wrong!r}"):
            call.start(wrong)
    call.start(1)
    with pytest.raises(AssertionError, match="running already"):
        call.start(1)


@pytest.mark.parametrize("leaving", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_an_exit_ends_it_and_leaves(leaving):
    def leave():
        raise leaving

    clock, told = Clock(), []
    call = looping(clock, leave)
    call.start(1, now=False).addErrback(lambda f: told.append(f.value) or f)
    with pytest.raises(type(leaving)):
        clock.advance(1)
    assert (told, call.running) == ([leaving], False)


def test_repr_tells_interval_function_and_arguments():
    assert repr(LoopingCall(len, "x")) == "LoopingCall<None>(len, *('x',), **{})"


def test_making_one_opens_no_reactor():
    program = "import ropewalk\nfrom ropewalk.task import LoopingCall\nLoopingCall(print)\nassert 'reactor' not in vars(ropewalk)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@given(
    st.sampled_from([0.25, 0.5, 1.0, 3.0]),
    st.booleans(),
    st.lists(st.integers(1, 40).map(lambda eighths: eighths / 8), max_size=20),
)
def test_calls_come_at_ticks_and_counts_add_up(interval, now, steps):
    clock, seen = Clock(), []
    call = looping(clock, lambda count: seen.append((clock.now, count)), counted=True)
    call.start(interval, now=now)
    for seconds in steps:
        clock.advance(seconds)
    due = int(clock.now / interval) + now
    assert sum(count for _, count in seen) == due
    (following,) = clock.pending()
    assert following == (int(clock.now / interval) + 1) * interval


def test_it_keeps_the_context_of_its_start():
    clock, seen = Clock(), []
    clock.callLater = lambda delay, function, *args, plain=clock.callLater: plain(
        delay, contextvars.copy_context().run, function, *args
    )
    word.set("start")
    looping(clock, lambda: seen.append(word.get())).start(1)
    word.set("later")
    for _ in range(2):
        clock.advance(1)
    assert seen == ["start"] * 3
    word.set("none")


# --- Cooperator ---


class Soon:
    """A scheduler that waits to be told."""

    def __init__(self):
        self.calls = []

    def __call__(self, function):
        self.calls.append(function)
        return self

    def cancel(self):
        self.calls.pop()

    def turn(self):
        self.calls.pop(0)()


def one_step_each():
    soon = Soon()
    return Cooperator(lambda: lambda: True, soon), soon


def test_tasks_take_turns_until_their_ends():
    cooperator, soon = one_step_each()
    seen, done = [], []

    def work(name, steps):
        for number in range(steps):
            seen.append(f"{name}{number}")
            yield

    first = work("a", 2)
    cooperator.cooperate(first).whenDone().addCallback(lambda got: done.append(got is first))
    cooperator.coiterate(work("b", 3)).addCallback(lambda got: done.append("b"))
    while soon.calls:
        soon.turn()
    assert seen == ["a0", "b0", "a1", "b1", "b2"]
    assert done == [True, "b"]


def test_a_turn_lasts_as_long_as_the_predicate_says():
    steps, seen = [], []

    def predicate():
        steps.append("turn")
        return lambda: len(seen) % 3 == 0

    soon = Soon()
    Cooperator(predicate, soon).cooperate(iter(lambda: seen.append(1), "never"))
    soon.turn()
    assert (len(seen), steps) == (3, ["turn"])
    soon.turn()
    assert (len(seen), steps) == (6, ["turn", "turn"])


def test_the_default_turn_ends_by_itself():
    soon = Soon()
    Cooperator(scheduler=soon).cooperate(iter(int, 1))
    soon.turn()
    assert len(soon.calls) == 1


def test_a_yielded_deferred_is_waited_for_and_its_error_ends_the_task():
    cooperator, soon = one_step_each()
    value, error = Deferred(), Deferred()
    done = cooperator.cooperate(iter([value, error])).whenDone().addErrback(lambda f: f.type)
    soon.turn()
    assert soon.calls == []
    value.callback(None)
    soon.turn()
    error.errback(KeyError())
    assert done.result is KeyError
    assert error.result is None


def test_an_exception_ends_the_task():
    def work():
        yield
        raise KeyError

    cooperator, soon = one_step_each()
    started = cooperator.cooperate(work())
    ends = [started.whenDone().addErrback(lambda f: f.type)]
    soon.turn()
    soon.turn()
    ends.append(started.whenDone().addErrback(lambda f: f.type))
    assert [each.result for each in ends] == [KeyError, KeyError]
    with pytest.raises(TaskFailed):
        started.stop()


def test_a_task_rests_until_it_was_resumed_as_often_as_paused():
    cooperator, soon = one_step_each()
    seen = []
    started = cooperator.cooperate(iter(lambda: seen.append(1), "never"))
    with pytest.raises(NotPaused):
        started.resume()
    started.pause()
    started.pause()
    assert soon.calls == []
    started.resume()
    assert soon.calls == []
    started.resume()
    soon.turn()
    assert seen == [1]


def test_a_stopped_task_is_over_and_told():
    cooperator, soon = one_step_each()
    started = cooperator.cooperate(iter([1]))
    done = started.whenDone().addErrback(lambda f: f.type)
    started.stop()
    assert (done.result, soon.calls) == (TaskStopped, [])
    for ask in (started.stop, started.pause):
        with pytest.raises(TaskStopped):
            ask()
    finished = cooperator.cooperate(iter([]))
    soon.turn()
    with pytest.raises(TaskDone):
        finished.stop()
    assert issubclass(TaskDone, TaskFinished)


def test_an_error_of_what_a_stopped_task_waited_for_is_not_lost(reported):
    cooperator, soon = one_step_each()
    waited = Deferred()
    left = [waited]
    started = cooperator.cooperate(iter(left.pop, None))
    soon.turn()
    started.stop()
    waited.errback(KeyError())
    del waited
    assert started.whenDone().addErrback(lambda f: f.type).result is TaskStopped
    assert len(reported()) == 1


def test_stopping_the_cooperator_tells_every_task():
    cooperator, soon = one_step_each()
    ends = [cooperator.cooperate(iter([1])).whenDone().addErrback(lambda f: f.type) for _ in range(5)]
    assert cooperator.running
    cooperator.stop()
    assert not cooperator.running
    ends.append(cooperator.coiterate(iter([1])).addErrback(lambda f: f.type))
    assert [each.result for each in ends] == [SchedulerStopped] * 6
    assert soon.calls == []


def test_a_cooperator_can_be_started_later_and_again():
    seen, soon = [], Soon()
    cooperator = Cooperator(lambda: lambda: True, soon, started=False)
    cooperator.cooperate(iter(lambda: seen.append(1), "never"))
    assert (cooperator.running, soon.calls) == (False, [])
    cooperator.start()
    soon.turn()
    cooperator.stop()
    cooperator.start()
    cooperator.cooperate(iter(lambda: seen.append(2), "never"))
    soon.turn()
    assert seen == [1, 2]


def test_an_exit_of_a_task_leaves_and_the_others_go_on():
    def leave():
        raise SystemExit(3)
        yield

    cooperator, soon = one_step_each()
    seen = []
    done = cooperator.cooperate(leave()).whenDone().addErrback(lambda f: f.type)
    cooperator.cooperate(iter(lambda: seen.append(1), "never"))
    with pytest.raises(SystemExit):
        soon.turn()
    soon.turn()
    assert (done.result, seen) == (SystemExit, [1])


def test_the_shared_cooperator_is_that_of_the_reactor_it_is_used_under():
    async def main(reactor):
        await task.coiterate(iter(range(3)))
        return await task.cooperate(iter([sleep(0)])).whenDone()

    for _ in range(2):
        assert next(run(main), "at its end") == "at its end"


# --- run ---


def test_run_gives_the_result_and_the_reactor_back():
    seen = []

    async def main(reactor, a, b):
        seen.append((reactor.running, currentReactor() is reactor, weakref.ref(reactor)))
        await sleep(0.001)
        return a + b

    assert run(main, 1, b=2) == 3
    running, current, reactor = seen[0]
    assert (running, current) == (True, True)
    gc.collect()
    assert reactor() is None


def test_run_raises_what_main_raises_with_its_own_lines():
    async def main(reactor):
        await sleep(0)
        raise KeyError("planned")

    with pytest.raises(KeyError, match="planned") as raised:
        run(main)
    assert raised.traceback[-1].name == "main"


def test_run_takes_a_coroutine_a_deferred_and_a_plain_function():
    async def coroutine():
        await sleep(0)
        return "coroutine"

    assert run(coroutine()) == "coroutine"
    assert run(succeed("deferred")) == "deferred"
    assert run(lambda reactor: "plain") == "plain"
    assert run(lambda reactor: sleep(0, reactor)) is None


def test_run_in_another_thread_needs_no_signals():
    results = []

    async def main(reactor):
        await sleep(0)
        return await deferToThread(threading.get_ident)

    thread = threading.Thread(target=lambda: results.append(run(main)))
    thread.start()
    thread.join()
    assert results[0] != thread.ident


def test_run_within_run_is_refused():
    async def inner():
        await sleep(0)

    async def main(reactor):
        with pytest.raises(RuntimeError, match="stand still"):
            run(inner())
        return "refused"

    assert run(main) == "refused"


def test_a_reactor_that_is_stopped_cancels_main_and_waits_for_its_end():
    seen = []

    async def main(reactor):
        reactor.callLater(0, reactor.stop)
        try:
            await sleep(3600)
        finally:
            await sleep(0.001)
            seen.append("cleaned up")

    with pytest.raises(CancelledError):
        run(main)
    assert seen == ["cleaned up"]


def test_main_may_take_its_cancellation():
    async def main(reactor):
        reactor.stop()
        try:
            await sleep(3600)
        except CancelledError:
            return "stopped in order"

    assert run(main) == "stopped in order"


def test_a_signal_cancels_main():
    async def main(reactor):
        os.kill(os.getpid(), signal.SIGINT)
        await sleep(3600)

    with pytest.raises(CancelledError):
        run(main)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_exit_leaves_run_after_everything_was_told_of_the_end():
    seen = []

    async def waits():
        try:
            await sleep(3600)
        finally:
            seen.append("cancelled")

    def leave():
        raise SystemExit(3)

    async def main(reactor):
        reactor.addSystemEventTrigger("during", "shutdown", seen.append, "shutdown")
        reactor.callLater(0, leave)
        await waits()

    with pytest.raises(SystemExit) as raised:
        run(main)
    assert raised.value.code == 3
    assert seen == ["cancelled", "shutdown"]


def test_a_crash_cancels_main():
    async def main(reactor):
        reactor.callLater(0, reactor.crash)
        await sleep(3600)

    with pytest.raises(CancelledError):
        run(main)


def test_coroutines_left_behind_are_reported(reported):
    async def forgotten():
        await Deferred()

    async def main(reactor):
        ensureDeferred(forgotten())

    run(main)
    assert [text.split(",")[0].split(".")[-1] for text in reported()] == ["forgotten"]


def test_a_vars_value_set_in_main_stays_there():
    async def main(reactor):
        word.set("inside")

    run(main)
    assert word.get() == "none"


# --- react ---


def exits(main, argv=()):
    """The status that it exits with, and what the shutdown was told before."""
    told = []

    def shell(reactor, *args):
        reactor.addSystemEventTrigger("during", "shutdown", told.append, "shutdown")
        return main(reactor, *args)

    with Reactor() as reactor:
        with pytest.raises(SystemExit) as raised:
            react(shell, argv, _reactor=reactor)
    return raised.value.code, told


def test_react_exits_with_0_after_success():
    seen = []

    async def main(reactor, *args):
        seen.append((reactor.running, currentReactor() is reactor, args))
        await sleep(0)

    assert exits(main, ("a", "b")) == (0, ["shutdown"])
    assert seen == [(False, True, ("a", "b"))]
    assert exits(lambda reactor: succeed(None)) == (0, ["shutdown"])


@pytest.mark.parametrize("when", ["at once", "later"])
def test_react_logs_a_failure_and_exits_with_1(when, reported, caplog):
    async def main(reactor):
        if when == "later":
            await sleep(0)
        raise KeyError("planned")

    assert exits(main) == (1, ["shutdown"])
    assert reported() == ["main function encountered error"]
    assert caplog.records[0].exc_info[0] is KeyError


@pytest.mark.parametrize("when", ["at once", "later"])
@pytest.mark.parametrize("code", [0, 5, None, "a text"])
def test_react_exits_with_the_code_that_main_asks_for(when, code):
    async def main(reactor):
        if when == "later":
            await sleep(0)
        raise SystemExit(code)

    assert exits(main) == (code, ["shutdown"])


def test_react_exits_with_0_if_the_reactor_is_stopped_first_and_tells_nothing_of_main():
    async def main(reactor):
        reactor.callLater(0, reactor.stop)
        await sleep(3600)

    assert exits(main) == (0, ["shutdown"])


def test_a_main_that_ends_during_the_shutdown_still_decides():
    async def main(reactor):
        end = Deferred()
        reactor.addSystemEventTrigger("before", "shutdown", end.callback, None)
        reactor.callLater(0, reactor.stop)
        await end
        raise SystemExit(7)

    assert exits(main)[0] == 7


def test_react_raises_what_the_call_of_main_raises_and_refuses_other_results():
    def bad(reactor):
        raise KeyError("planned")

    with Reactor() as reactor:
        with pytest.raises(KeyError):
            react(bad, _reactor=reactor)
        with pytest.raises(NotACoroutineError):
            react(lambda reactor: 5, _reactor=reactor)


def test_a_keyboard_interrupt_leaves_react():
    async def main(reactor):
        await sleep(0)
        raise KeyboardInterrupt

    with Reactor() as reactor, pytest.raises(KeyboardInterrupt):
        react(main, _reactor=reactor)


def test_a_script_exits_with_reacts_status():
    program = (
        "import sys\nfrom ropewalk.task import react, sleep\n"
        "async def main(reactor, code):\n    await sleep(0)\n    sys.exit(int(code))\n"
        "react(main, sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, "4"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (4, "", "")


# --- contextvars ---


def by_lock(reactor):
    lock = DeferredLock()
    lock.acquire()
    reactor.callLater(0, lock.release)
    return lock.acquire()


def by_queue(reactor):
    queue = DeferredQueue()
    reactor.callLater(0, queue.put, 1)
    return queue.get()


def by_generator(reactor):
    @inlineCallbacks
    def steps():
        yield sleep(0, reactor)

    return steps()


def by_chain(reactor):
    return succeed(0).addCallback(lambda _: sleep(0, reactor))


def by_loop(reactor):
    loop = LoopingCall(lambda: loop.stop() if loop.starttime != reactor.seconds() else None)
    return loop.start(0.001)


WAYS = {
    "sleep": lambda reactor: sleep(0, reactor),
    "lock": by_lock,
    "queue": by_queue,
    "gather": lambda reactor: gatherResults([sleep(0, reactor), sleep(0, reactor)]),
    "race": lambda reactor: race([sleep(0, reactor), Deferred()]),
    "generator": by_generator,
    "chain": by_chain,
    "thread": lambda reactor: deferToThread(word.get),
    "timeout": lambda reactor: Deferred().addTimeout(0, reactor).addErrback(lambda f: f.trap(TimeoutError)),
    "task": lambda reactor: task.coiterate(iter([sleep(0, reactor)])),
    "loop": by_loop,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_the_context_is_kept_through_every_way_of_waiting(way):
    seen = []

    async def native(name, reactor):
        word.set(name)
        await way(reactor)
        seen.append((name, word.get()))

    @inlineCallbacks
    def generator(name, reactor):
        word.set(name)
        yield way(reactor)
        seen.append((name, word.get()))

    def chain(name, reactor):
        def start():
            word.set(name)
            return way(reactor).addCallback(lambda _: seen.append((name, word.get())))

        return contextvars.copy_context().run(start)

    def main(reactor):
        return gatherResults(
            [
                ensureDeferred(native("coroutine", reactor)),
                generator("generator", reactor),
                chain("chain", reactor),
            ]
        )

    run(main)
    assert sorted(seen) == [("chain", "chain"), ("coroutine", "coroutine"), ("generator", "generator")]
    assert word.get() == "none"
