"""Real threads: calls into the reactor, work out of it, and the check for the wrong thread."""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time

import pytest

from ropewalk import ClientFactory, Deferred, Failure, Protocol, Reactor, ServerFactory
from ropewalk.error import ReactorAlreadyRunning
from ropewalk.threads import blockingCallFromThread, deferToThreadPool
from tests.real.counterparts import LIMIT, run, run_python

CALLS = 100_000


def start_threads(*works):
    threads = [threading.Thread(target=work) for work in works]
    for each in threads:
        each.start()
    return threads


def join(threads):
    for each in threads:
        each.join(LIMIT)
        assert not each.is_alive()


# ---- callFromThread -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("poller", ["epoll", "poll", "select"])
def test_E4_calls_of_two_threads_come_all_and_in_the_order_of_each(poller):
    with Reactor(poller=poller) as reactor:
        came = []

        def call_often(name):
            for number in range(CALLS):
                reactor.callFromThread(came.append, (name, number))
            reactor.callFromThread(ended, name)

        def ended(name):
            left.discard(name)
            if not left:
                reactor.stop()

        left = {"one", "other"}
        threads = start_threads(*(lambda name=name: call_often(name) for name in list(left)))
        run(reactor)
        join(threads)
    assert len(came) == 2 * CALLS
    for name in ("one", "other"):
        assert [number for who, number in came if who == name] == list(range(CALLS))


def test_E4_a_call_wakes_a_reactor_that_has_nothing_to_wait_for(reactor):
    """Ping-pong: each call comes while the reactor sleeps without a time-out; one that was lost would end in a hang."""
    turns = 2000
    come = threading.Semaphore(0)
    thread_ids = set()

    def answer():
        thread_ids.add(threading.get_ident())
        come.release()

    def ask():
        for _ in range(turns):
            reactor.callFromThread(answer)
            assert come.acquire(timeout=LIMIT)
        reactor.callFromThread(reactor.stop)

    (thread,) = start_threads(ask)
    # Why not `run` of counterparts: its time-out would be something to wait for. pytest's own limit guards this one.
    reactor.run(installSignalHandlers=False)
    join([thread])
    assert thread_ids == {threading.get_ident()}


def test_calls_left_before_the_reactor_runs_are_made_when_it_does(reactor):
    came = []
    join(start_threads(lambda: [reactor.callFromThread(came.append, number) for number in range(3)]))
    assert came == []
    reactor.callFromThread(reactor.stop)
    run(reactor)
    assert came == [0, 1, 2]


def test_arguments_arrive_and_an_error_stops_no_other_call(reactor, caplog):
    came = []

    def call():
        reactor.callFromThread(lambda *args, **kw: came.append((args, kw)), 1, two=2)
        reactor.callFromThread(lambda: 1 / 0)
        reactor.callFromThread(came.append, "after")
        reactor.callFromThread(reactor.stop)

    (thread,) = start_threads(call)
    with caplog.at_level(logging.ERROR, "ropewalk"):
        run(reactor)
    join([thread])
    assert came == [((1,), {"two": 2}), "after"]
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


def test_system_exit_in_a_call_from_a_thread_leaves_run(reactor):
    def leave():
        raise SystemExit(3)

    (thread,) = start_threads(lambda: reactor.callFromThread(leave))
    with pytest.raises(SystemExit) as leaving:
        run(reactor)
    join([thread])
    assert leaving.value.code == 3
    reactor.callFromThread(reactor.stop)
    run(reactor)


def test_E3_J8_descriptors_and_timers_wait_for_a_bounded_number_of_calls(reactor):
    """However many calls threads have left: 100 000 are there when the byte and the time have come."""
    reading, writing = os.pipe()
    os.write(writing, b"x")
    made = []

    class Reader:
        def fileno(self):
            return reading

        def logPrefix(self):
            return "reader"

        def doRead(self):
            waited.append(len(made))
            reactor.removeReader(self)

        def connectionLost(self, reason):
            raise AssertionError(reason)

    waited = []
    reactor.addReader(Reader())
    reactor.callLater(0, lambda: waited.append(len(made)))
    join(start_threads(lambda: [reactor.callFromThread(made.append, number) for number in range(CALLS)]))
    reactor.callFromThread(reactor.stop)
    run(reactor)
    os.close(reading)
    os.close(writing)
    assert made == list(range(CALLS))
    assert len(waited) == 2
    assert max(waited) <= 20_000


def test_connections_have_their_turn_while_threads_call_without_end(reactor):
    ended = threading.Event()
    heard = []

    def call_on():
        # So many at most wait to be made: what a program does that means to run for long.
        places = threading.Semaphore(30_000)
        while not ended.is_set():
            if places.acquire(timeout=0.1):
                reactor.callFromThread(places.release)

    class Echo(Protocol):
        def dataReceived(self, data):
            self.transport.write(data)

    class Asks(Protocol):
        def connectionMade(self):
            self.transport.write(b"?")

        def dataReceived(self, data):
            heard.append(data)
            if len(heard) == 5:
                reactor.callLater(0.001, reactor.stop)
            else:
                reactor.callLater(0, self.transport.write, b"?")

    port = reactor.listenTCP(0, ServerFactory.forProtocol(Echo), interface="127.0.0.1").getHost().port
    reactor.connectTCP("127.0.0.1", port, ClientFactory.forProtocol(Asks))
    threads = start_threads(call_on, call_on)
    try:
        run(reactor)
    finally:
        ended.set()
        join(threads)
    assert len(heard) == 5


# ---- blockingCallFromThread ---------------------------------------------------------------------------------------


def test_a_thread_waits_for_a_result_an_error_and_a_deferred(reactor):
    told = []

    def later(value, fails=False):
        waiting = Deferred()
        reactor.callLater(0.001, waiting.errback if fails else waiting.callback, value)
        return waiting

    def asks():
        told.append(blockingCallFromThread(reactor, threading.get_ident))
        told.append(blockingCallFromThread(reactor, later, "late"))
        told.append(blockingCallFromThread(reactor, lambda *args, **kw: (args, kw), 1, two=2))
        for call in (lambda: 1 / 0, lambda: later(ZeroDivisionError("late"), fails=True)):
            with pytest.raises(ZeroDivisionError):
                blockingCallFromThread(reactor, call)
            told.append("raised")
        reactor.callFromThread(reactor.stop)

    (thread,) = start_threads(asks)
    run(reactor)
    join([thread])
    assert told == [threading.get_ident(), "late", ((1,), {"two": 2}), "raised", "raised"]


def test_many_threads_wait_for_the_reactor_at_once(reactor):
    answers = []

    def asks(number):
        for turn in range(50):
            answers.append(blockingCallFromThread(reactor, lambda turn=turn: (number, turn)))

    threads = start_threads(*(lambda number=number: asks(number) for number in range(10)))
    start_threads(lambda: (join(threads), reactor.callFromThread(reactor.stop)))
    run(reactor)
    assert sorted(answers) == [(number, turn) for number in range(10) for turn in range(50)]


@pytest.mark.parametrize("asks", ["before the end", "while its pool is waited for", "after the end"])
def test_a_thread_that_waits_for_a_reactor_that_stops_is_told_and_does_not_hold_it_up(reactor, asks):
    told, begun, go_on = [], threading.Event(), threading.Event()

    def work():
        begun.set()
        if asks != "before the end":
            assert go_on.wait(LIMIT)
        try:
            blockingCallFromThread(reactor, Deferred)
        except RuntimeError as exc:
            told.append(str(exc))

    def begin():
        if asks == "after the end":
            threads.extend(start_threads(work))
        else:
            reactor.callInThread(work)
        assert begun.wait(LIMIT)
        reactor.callLater(0.01, reactor.stop)

    threads = []
    reactor.callWhenRunning(begin)
    if asks == "while its pool is waited for":
        reactor.addSystemEventTrigger("during", "shutdown", go_on.set)
    began = time.monotonic()
    run(reactor)
    go_on.set()
    join(threads)
    assert time.monotonic() - began < 5
    assert len(told) == 1
    assert "the reactor has stopped" in told[0]


def test_a_thread_may_stop_the_reactor_and_gets_its_answer(reactor):
    told = []
    reactor.callInThread(lambda: told.append(blockingCallFromThread(reactor, reactor.stop)))
    run(reactor)
    assert told == [None]


def test_a_thread_that_waits_for_a_reactor_which_is_closed_is_told():
    reactor, told = Reactor(), []

    def ask():
        with pytest.raises(RuntimeError, match=r"has stopped|has been closed"):
            blockingCallFromThread(reactor, Deferred)
        told.append("told")

    threads = start_threads(ask)
    while not reactor._loop.has_work():
        time.sleep(0.001)
    reactor.iterate()
    reactor.close()
    join(threads)
    assert told == ["told"]


# ---- the pool -----------------------------------------------------------------------------------------------------


def defer(reactor, func, *args, **kw):
    return deferToThreadPool(reactor, reactor.getThreadPool(), func, *args, **kw)


def outcome(reactor, coroutine):
    """Run `coroutine` to its end, then stop; gives what it returned."""
    results = []

    def begin():
        # Why not before the run: it may come to its end without waiting for anything.
        Deferred.fromCoroutine(coroutine).addBoth(results.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    run(reactor)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


def test_work_is_done_in_another_thread_and_its_result_comes_back_in_ours(reactor):
    variable = contextvars.ContextVar("variable", default="nothing")
    variable.set("carried")

    async def story():
        name, ident, seen = await defer(
            reactor,
            lambda: (threading.current_thread().name, threading.get_ident(), variable.get()),
        )
        assert name.startswith("ropewalk-pool")
        assert ident != threading.get_ident()
        assert seen == "carried"
        assert await defer(reactor, lambda *args, **kw: (args, kw), 1, two=2) == ((1,), {"two": 2})
        with pytest.raises(ZeroDivisionError) as raised:
            await defer(reactor, lambda: 1 / 0)
        assert "lambda" in str(raised.traceback[-1].frame.code.name)
        return threading.get_ident()

    assert outcome(reactor, story()) == threading.get_ident()


def test_what_a_job_raises_is_logged_where_nobody_waits_for_it(reactor, caplog):
    async def story():
        with caplog.at_level(logging.ERROR, "ropewalk"):
            reactor.callInThread(lambda: 1 / 0)
            while not caplog.records:
                await defer(reactor, lambda: None)

    outcome(reactor, story())
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


class Jobs:
    """Jobs that wait for each other, and how many of them were under way at once."""

    def __init__(self):
        self._changed = threading.Condition()
        self.now = self.most = 0
        self._may_end = False

    def work(self):
        with self._changed:
            self.now += 1
            self.most = max(self.most, self.now)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._may_end, LIMIT)
            self.now -= 1

    def wait_until_there_are(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: self.now == count, LIMIT)

    def end(self):
        with self._changed:
            self._may_end = True
            self._changed.notify_all()


@pytest.mark.parametrize("size", [1, 3, 10, 20])
def test_as_many_jobs_run_at_once_as_the_pool_has_threads(reactor, size):
    reactor.suggestThreadPoolSize(size)
    jobs = Jobs()

    async def story():
        waiting = [defer(reactor, jobs.work) for _ in range(size + 5)]
        jobs.wait_until_there_are(size)
        jobs.end()
        for each in waiting:
            await each

    outcome(reactor, story())
    assert jobs.most == size


@pytest.mark.parametrize(("before", "after"), [(2, 6), (6, 2)])
def test_the_pool_is_resized_while_jobs_run_and_no_job_is_lost(reactor, before, after):
    reactor.suggestThreadPoolSize(before)
    old, new = Jobs(), Jobs()

    async def story():
        waiting = [defer(reactor, old.work) for _ in range(before)]
        old.wait_until_there_are(before)
        reactor.suggestThreadPoolSize(after)
        waiting += [defer(reactor, new.work) for _ in range(after + 3)]
        new.wait_until_there_are(max(0, after - before))
        old.end()
        new.wait_until_there_are(after)
        new.end()
        for each in waiting:
            await each

    outcome(reactor, story())
    assert (old.most, new.most) == (before, after)


def test_the_pool_rejects_a_size_below_one(reactor):
    with pytest.raises(ValueError, match="1 or more"):
        reactor.suggestThreadPoolSize(0)


def test_shutdown_waits_for_the_jobs_that_run_and_drops_those_that_wait(reactor):
    reactor.suggestThreadPoolSize(1)
    done = []
    begun = threading.Event()

    def slow():
        begun.set()
        time.sleep(0.05)
        done.append("slow")

    def go():
        reactor.callInThread(slow)
        reactor.callInThread(done.append, "never")
        assert begun.wait(LIMIT)
        reactor.stop()

    reactor.callWhenRunning(go)
    run(reactor)
    assert done == ["slow"]


def test_E9_a_job_that_does_not_end_keeps_the_pool_from_nothing(reactor, caplog):
    """The wait is bounded: by 10 s at shutdown, here by less."""
    jobs = Jobs()
    pool = reactor.getThreadPool()
    pool.callInThread(jobs.work)
    jobs.wait_until_there_are(1)
    with caplog.at_level(logging.WARNING, "ropewalk"):
        pool.stop(timeout=0.01)
    assert ["1 jobs still run 0.01 s" in record.getMessage() for record in caplog.records] == [True]
    jobs.end()


def test_the_pool_serves_again_when_the_reactor_runs_again(reactor):
    async def story():
        return await defer(reactor, lambda: "served")

    assert [outcome(reactor, story()) for _ in range(3)] == ["served"] * 3
    assert not [each for each in threading.enumerate() if each.name.startswith("ropewalk-pool")]


def test_deferToThread_uses_the_default_reactor():
    said = run_python("""
import threading
from ropewalk import reactor
from ropewalk.threads import callMultipleInThread, deferToThread

def told(result):
    print(result != threading.main_thread().name)
    callMultipleInThread([(print, ("first",), {}), (print, ("second",), {}), (reactor.callFromThread, (reactor.stop,), {})])

deferToThread(lambda: threading.current_thread().name).addCallback(told)
reactor.run()
""")
    assert said.split() == ["True", "first", "second"]


# ---- the wrong thread ---------------------------------------------------------------------------------------------


def test_whatever_is_asked_from_a_wrong_thread_raises_and_names_both(reactor):
    """Silent corruption elsewhere; here each asking raises, and the connection goes on as if nothing had happened."""
    told = []
    late = reactor.callLater(1000, int)
    due = late.getTime()

    class Echo(Protocol):
        def dataReceived(self, data):
            self.transport.write(data)

    class Asks(Protocol):
        def connectionMade(self):
            threading.Thread(target=self.ask, name="the wrong one").start()

        def ask(self):
            transport = self.transport
            for call in (
                lambda: transport.write(b"x"),
                lambda: transport.writeSequence([b"x"]),
                transport.loseConnection,
                transport.abortConnection,
                transport.loseWriteConnection,
                transport.pauseProducing,
                transport.resumeProducing,
                lambda: transport.registerProducer(self, True),
                lambda: transport.setTcpNoDelay(True),
                lambda: transport.setTcpKeepAlive(True),
                lambda: reactor.callLater(0, int),
                late.cancel,
                lambda: late.delay(1),
                lambda: late.reset(1),
                lambda: reactor.connectTCP("127.0.0.1", 1, ClientFactory()),
                lambda: reactor.listenTCP(0, ServerFactory()),
                listening.stopListening,
                connector.connect,
                connector.stopConnecting,
                lambda: reactor.addReader(self),
                lambda: reactor.removeAll(),
                reactor.stop,
                reactor.iterate,
                reactor.run,
                reactor.startRunning,
            ):
                try:
                    call()
                except RuntimeError as exc:
                    told.append(str(exc))
                else:
                    told.append(f"{call} was not refused")
            reactor.callFromThread(transport.write, b"still there")

        def dataReceived(self, data):
            told.append(data)
            reactor.stop()

    listening = reactor.listenTCP(0, ServerFactory.forProtocol(Echo), interface="127.0.0.1")
    connector = reactor.connectTCP("127.0.0.1", listening.getHost().port, ClientFactory.forProtocol(Asks))
    run(reactor)
    *refused, heard = told
    assert heard == b"still there"
    assert late.active() and late.getTime() == due
    late.cancel()  # nobody runs it now
    assert len(refused) == 25
    for text in refused:
        assert "'the wrong one'" in text
        assert threading.current_thread().name in text


def test_run_from_a_second_thread_is_refused_while_the_first_runs_it(reactor):
    told = []

    def second():
        try:
            reactor.run(installSignalHandlers=False)
        except RuntimeError as exc:
            told.append(exc)
        reactor.callFromThread(reactor.stop)

    reactor.callWhenRunning(lambda: start_threads(second))
    run(reactor)
    (exc,) = told
    assert isinstance(exc, ReactorAlreadyRunning)
    assert f"the reactor runs in thread {threading.current_thread().name!r}" in str(exc)


def test_threads_that_ask_for_the_pool_at_the_same_time_get_the_same_one_which_is_stopped(reactor):
    start, pools, done = threading.Barrier(8), [], []

    def ask():
        start.wait(LIMIT)
        pools.append(reactor.getThreadPool())
        reactor.callInThread(done.append, threading.get_ident())

    def begin():
        join(start_threads(*[ask] * 8))
        reactor.stop()

    reactor.suggestThreadPoolSize(8)
    reactor.callWhenRunning(begin)
    run(reactor)
    assert len(set(pools)) == 1
    assert len(done) == 8
    assert not [each for each in threading.enumerate() if each.name.startswith("ropewalk-pool")]


def test_a_job_may_give_jobs_to_the_pool_and_what_they_return_comes_back(reactor):
    def outer():
        defer(reactor, lambda: "inner").addCallback(told.append).addCallback(lambda _: reactor.stop())

    told = []
    reactor.callInThread(outer)
    run(reactor)
    assert told == ["inner"]


def test_a_reactor_may_be_made_in_one_thread_and_run_in_another():
    with Reactor() as reactor:
        came = []
        reactor.callLater(0, came.append, threading.get_ident())
        reactor.callLater(0, lambda: came.append(threading.get_ident()))
        reactor.callLater(0, reactor.stop)
        (thread,) = start_threads(lambda: run(reactor))
        join([thread])
    assert came == [threading.get_ident(), thread.ident]


def test_signal_handlers_are_refused_outside_the_main_thread():
    refused = []

    def work():
        with Reactor() as reactor, pytest.raises(ValueError, match="installSignalHandlers=False"):
            reactor.run()
        refused.append(True)

    join(start_threads(work))
    assert refused
