"""Threads: the pool behind callInThread, and what hands work and results between threads. No loop, no time."""

from __future__ import annotations

import contextvars
import logging
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

import ropewalk
from ropewalk import Failure, threads
from ropewalk._loop.threads import DEFAULT_SIZE, ThreadPool

PATIENCE = 20


@pytest.fixture
def pool():
    pool = ThreadPool(2, name="tested")
    yield pool
    pool.stop()


class Door:
    """A job that waits until it is let through."""

    def __init__(self):
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self):
        self.entered.set()
        assert self.open.wait(PATIENCE)


# ---- the pool -------------------------------------------------------------------------------------------------------


def finished(pool, func, *args, **kw):
    """(success, result) of one job."""
    got, done = [], threading.Event()

    def on_result(success, result):
        got.append((success, result, threading.current_thread().name))
        done.set()

    pool.callInThreadWithCallback(on_result, func, *args, **kw)
    assert done.wait(PATIENCE)
    return got[0]


def test_a_result_is_given_in_the_very_thread_of_the_job(pool):
    success, result, name = finished(pool, lambda *args, **kw: (args, kw), 1, two=2)
    assert (success, result) == (True, ((1,), {"two": 2}))
    assert name.startswith("tested")


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_whatever_a_job_raises_is_given_to_who_asked(pool, kind, caplog):
    def bad():
        raise kind("on purpose")

    success, result, _ = finished(pool, bad)
    assert success is False
    assert isinstance(result, kind)
    assert caplog.records == []


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_what_a_job_raises_is_logged_where_nobody_asked(pool, kind, caplog):
    def bad():
        raise kind("on purpose")

    finished = threading.Event()
    pool.callInThread(bad)
    pool.callInThread(finished.set)
    assert finished.wait(PATIENCE)
    pool.stop()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "bad" in record.getMessage()


def test_a_job_has_the_context_of_who_asked(pool):
    variable = contextvars.ContextVar("variable", default="outside")
    token = variable.set("inside")
    got = finished(pool, variable.get)
    variable.reset(token)
    assert got[:2] == (True, "inside")


def test_a_job_that_still_waits_when_the_pool_is_stopped_is_told_so(caplog):
    pool, door, told, begun = ThreadPool(1, name="small"), Door(), [], []
    pool.callInThread(door)
    assert door.entered.wait(PATIENCE)
    pool.callInThreadWithCallback(lambda *result: told.append(result), begun.append, 1)
    pool.callInThread(begun.append, 2)
    threading.Timer(0.05, door.open.set).start()
    pool.stop()
    assert begun == []
    ((success, exc),) = told
    assert success is False
    assert str(exc).startswith("small was stopped before it began <built-in method append")
    (record,) = caplog.records
    assert "stopped before it began" in record.getMessage()


def test_what_is_no_job_is_refused_before_any_thread_is_made(pool):
    with pytest.raises(TypeError, match="must be callable"):
        pool.callInThread("not callable")
    assert pool._executor is None


@pytest.mark.parametrize("size", [0, -1, 2.5, "2", None])
def test_a_size_must_be_a_whole_number_from_1(pool, size):
    with pytest.raises(ValueError, match="1 or more"):
        ThreadPool(size)
    if size is not None:
        with pytest.raises(ValueError, match="1 or more"):
            pool.adjustPoolsize(maxthreads=size)
    assert pool.max == 2


def test_without_being_told_it_has_as_many_threads_as_twisted_s():
    assert ThreadPool().max == DEFAULT_SIZE == 10


def test_it_is_resized_without_disturbing_a_job_that_runs(pool):
    door = Door()
    pool.callInThread(door)
    assert door.entered.wait(PATIENCE)
    pool.adjustPoolsize(0, 5)
    assert pool.max == 5
    assert finished(pool, lambda: "new one")[:2] == (True, "new one")
    door.open.set()


def test_resizing_to_what_it_is_or_to_nothing_changes_nothing(pool):
    finished(pool, list)
    executor = pool._executor
    pool.adjustPoolsize(5)
    pool.adjustPoolsize(1, 2)
    assert pool._executor is executor


def test_it_is_resized_before_its_first_job_too(pool):
    pool.adjustPoolsize(maxthreads=1)
    assert finished(pool, lambda: 1)[:2] == (True, 1)


def test_stopping_drops_the_jobs_that_wait_and_waits_for_those_that_run():
    pool, door, told, done = ThreadPool(1), Door(), [], []
    pool.callInThread(lambda: (door(), done.append("ended")))
    # Told by whoever stops the pool, before that waits.
    pool.callInThreadWithCallback(lambda *_: door.open.set(), told.append, "never")
    assert door.entered.wait(PATIENCE)
    pool.stop()
    assert (told, done) == ([], ["ended"])
    assert not pool._lanes


def test_who_raises_when_told_that_his_job_was_dropped_keeps_nobody_from_being_told(caplog):
    pool, door, told = ThreadPool(1), Door(), []

    def bad(success, result):
        raise ValueError("on purpose")

    pool.callInThread(door)
    assert door.entered.wait(PATIENCE)
    pool.callInThreadWithCallback(bad, int)
    pool.callInThreadWithCallback(lambda *result: (told.append(result), door.open.set()), int)
    pool.stop()
    assert len(told) == 1
    (record,) = caplog.records
    assert record.exc_info[0] is ValueError


def test_what_raises_when_it_is_given_a_result_is_logged_and_the_pool_goes_on(pool, caplog):
    def bad(success, result):
        raise ValueError("on purpose")

    pool.adjustPoolsize(maxthreads=1)
    pool.callInThreadWithCallback(bad, int)
    assert finished(pool, lambda: "served")[:2] == (True, "served")
    (record,) = caplog.records
    assert record.exc_info[0] is ValueError


class Crowd:
    """Jobs that wait until they are let through, and how many were inside at once."""

    def __init__(self):
        self.inside = self.most = self.done = 0
        self.changed = threading.Condition()
        self.may_go = 0

    def __call__(self):
        with self.changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.may_go, PATIENCE)
            self.may_go -= 1
            self.inside -= 1
            self.done += 1
            self.changed.notify_all()

    def let_go(self, count):
        with self.changed:
            self.may_go += count
            self.changed.notify_all()

    def wait_until(self, **wanted):
        with self.changed:
            assert self.changed.wait_for(
                lambda: all(getattr(self, name) == value for name, value in wanted.items()), PATIENCE
            )


def test_a_pool_made_smaller_never_runs_more_than_it_may_once_those_that_ran_have_ended():
    pool, first, second = ThreadPool(4), Crowd(), Crowd()
    for _ in range(4):
        pool.callInThread(first)
    first.wait_until(inside=4)
    pool.adjustPoolsize(maxthreads=2)
    for _ in range(4):
        pool.callInThread(second)
    first.let_go(2)
    first.wait_until(done=2)
    first.let_go(2)
    second.wait_until(inside=2)
    second.let_go(4)
    second.wait_until(done=4)
    pool.stop()
    assert second.most == 2


def test_a_pool_made_smaller_and_larger_again_runs_as_many_as_it_may():
    pool, crowd = ThreadPool(3), Crowd()
    for size in (1, 5, 2, 4):
        pool.adjustPoolsize(maxthreads=size)
    for _ in range(9):
        pool.callInThread(crowd)
    crowd.wait_until(inside=4)
    pool.adjustPoolsize(maxthreads=6)
    crowd.wait_until(inside=6)
    crowd.let_go(9)
    crowd.wait_until(done=9)
    pool.stop()
    assert crowd.most == 6


def test_jobs_that_waited_before_the_pool_was_resized_are_told_too_when_it_is_stopped():
    pool, door, told = ThreadPool(1), Door(), []
    pool.callInThread(door)
    assert door.entered.wait(PATIENCE)
    for number in range(3):
        pool.callInThreadWithCallback(lambda success, _, number=number: told.append((number, success)), int)
    pool.adjustPoolsize(maxthreads=2)
    pool.adjustPoolsize(maxthreads=1)
    pool.callInThreadWithCallback(lambda *_: door.open.set(), int)
    pool.stop()
    assert all(success in (True, False) for _, success in told)
    assert sorted(number for number, _ in told) == [0, 1, 2]


def test_a_job_that_the_system_has_no_thread_for_is_refused_and_no_other_suffers(pool, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            pool.callInThread(int)
    assert finished(pool, lambda: "served")[:2] == (True, "served")


def test_after_stopping_it_serves_again():
    pool = ThreadPool(1)
    for number in range(2):
        assert finished(pool, lambda number=number: number)[1] == number
        pool.stop()


def test_stopping_what_never_began_is_nothing():
    ThreadPool().stop()


def test_E9_a_job_that_does_not_end_is_logged_and_left(caplog):
    pool, door = ThreadPool(1, name="stuck"), Door()
    pool.callInThread(door)
    assert door.entered.wait(PATIENCE)
    pool.stop(timeout=0.001)
    (record,) = caplog.records
    assert record.getMessage() == "stuck: 1 jobs still run 0.001 s after shutdown was asked for"
    door.open.set()
    pool.stop()


# ---- handing over ---------------------------------------------------------------------------------------------------


class Desk:
    """What the functions below need of a reactor: calls are made when the test says."""

    def __init__(self, pool=None):
        self.calls = []
        self.left = threading.Event()
        self.pool = pool
        self.waiting = []

    def callFromThread(self, func, *args):
        self.calls.append((func, args))
        self.left.set()

    def callInThread(self, func):
        self.pool.callInThread(func)

    def getThreadPool(self):
        return self.pool

    def isReactorThread(self):
        return False

    def callAtEnd(self, tell):
        self.waiting.append(tell)
        return lambda: self.waiting.remove(tell)

    def make_calls(self):
        assert self.left.wait(PATIENCE)
        self.left.clear()
        while self.calls:
            func, args = self.calls.pop(0)
            func(*args)


def test_a_deferred_is_fired_by_the_reactor_and_not_by_the_pool(pool):
    desk, got = Desk(), []
    threads.deferToThreadPool(desk, pool, lambda a, b: a + b, 1, b=2).addCallback(got.append)
    assert desk.left.wait(PATIENCE)
    assert got == []
    desk.make_calls()
    assert got == [3]


def test_a_deferred_carries_what_the_job_raised(pool):
    desk, got = Desk(), []

    def bad():
        raise ValueError("on purpose")

    threads.deferToThreadPool(desk, pool, bad).addErrback(got.append)
    desk.make_calls()
    assert isinstance(got[0], Failure)
    assert isinstance(got[0].value, ValueError)


@pytest.fixture
def default(monkeypatch, pool):
    desk = Desk(pool)
    monkeypatch.setattr(ropewalk, "reactor", desk, raising=False)
    return desk


def test_deferToThread_uses_the_default_reactor_and_its_pool(default):
    got = []
    threads.deferToThread(lambda: threading.current_thread().name).addCallback(got.append)
    default.make_calls()
    assert got[0].startswith("tested")


def test_several_calls_are_made_in_one_thread_one_after_the_other(default):
    told, done = [], threading.Event()

    def note(*args, **kw):
        told.append((args, kw, threading.current_thread().name))

    threads.callMultipleInThread([(note, (1,), {}), (note, (), {"two": 2}), (done.set, (), {})])
    assert done.wait(PATIENCE)
    assert [row[:2] for row in told] == [((1,), {}), ((), {"two": 2})]
    assert told[0][2] == told[1][2]


def blocking(desk, func, *args, **kw):
    """What blockingCallFromThread gives in a thread of its own, the desk being this one."""
    with ThreadPoolExecutor(1) as executor:
        answer = executor.submit(threads.blockingCallFromThread, desk, func, *args, **kw)
        desk.make_calls()
        return answer.result(PATIENCE)


def test_a_thread_gets_the_result_of_what_the_reactor_called():
    assert blocking(Desk(), lambda a, b: a - b, 5, b=3) == 2


def test_on_the_reactor_s_own_thread_it_is_refused_instead_of_waiting_for_itself():
    desk = Desk()
    desk.isReactorThread = lambda: True
    with pytest.raises(RuntimeError, match="it would wait for itself"):
        threads.blockingCallFromThread(desk, list)


def test_SystemExit_reaches_the_reactor_and_the_thread_that_waits():
    desk = Desk()

    def leave():
        raise SystemExit("on purpose")

    with ThreadPoolExecutor(1) as executor:
        answer = executor.submit(threads.blockingCallFromThread, desk, leave)
        with pytest.raises(SystemExit):
            desk.make_calls()
        assert isinstance(answer.exception(PATIENCE), SystemExit)


def no_answer(desk, func, end):
    """What a thread is told that waits for an answer of `func` when `end` has been called."""
    with ThreadPoolExecutor(1) as executor:
        answer = executor.submit(threads.blockingCallFromThread, desk, func)
        assert desk.left.wait(PATIENCE)
        end()
        exc = answer.exception(PATIENCE)
    assert desk.waiting == []
    return exc


def test_a_thread_whose_call_was_not_made_when_the_reactor_ended_is_told_and_it_never_is():
    desk, made = Desk(), []
    exc = no_answer(desk, lambda: made.append(1), lambda: desk.waiting[0]())
    assert type(exc) is RuntimeError
    assert "the reactor has stopped, there will be no result of <function" in str(exc)
    desk.make_calls()
    assert made == []


@pytest.mark.parametrize("late", ["callback", "errback"])
def test_a_thread_that_waits_for_a_Deferred_is_told_when_the_reactor_ends(late):
    deferred = ropewalk.Deferred()
    desk, got = Desk(), []

    def end():
        desk.make_calls()
        desk.waiting[0]()

    exc = no_answer(desk, lambda: deferred, end)
    assert "the reactor has stopped" in str(exc)
    getattr(deferred, late)(ValueError("too late"))
    deferred.addBoth(got.append)
    # A failure that nobody was told of is still the Deferred's.
    assert isinstance(got[0], Failure) is (late == "errback")


def test_a_cancellation_that_is_the_answer_is_given_as_it_is():
    def bad():
        raise CancelledError("its own")

    with pytest.raises(CancelledError, match="its own"):
        blocking(Desk(), bad)


def test_a_thread_gets_the_exception_of_what_the_reactor_called():
    def bad():
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        blocking(Desk(), bad)


def test_a_thread_waits_for_the_Deferred_of_what_the_reactor_called():
    deferred = ropewalk.Deferred()
    desk = Desk()

    def later():
        desk.callFromThread(deferred.callback, "later")
        return deferred

    assert blocking(desk, later) == "later"
