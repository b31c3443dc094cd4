"""Threads, and calls from them."""

from __future__ import annotations

import threading

from tests.differential.bench import Planned, raises
from tests.differential.scenarios.table import scenario


@scenario()
def calls_from_threads_in_their_order(bench):
    def work():
        for number in range(20):
            bench.reactor.callFromThread(bench.note, "calls", number)

    bench.reactor.callInThread(work)
    return lambda: len(bench.log.get("calls", ())) == 20


@scenario()
def deferToThread_results_and_failures(bench):
    pool = bench.reactor.getThreadPool()
    for work in (lambda: "a result", raises()):
        deferred = bench.threads.deferToThreadPool(bench.reactor, pool, work)
        deferred.addCallbacks(
            lambda result: bench.note("good", result),
            lambda failure: bench.note("bad", failure.type.__name__),
        )
    return lambda: len(bench.log) >= 2


@scenario()
def blockingCallFromThread_both_ways(bench):
    def ask():
        for answer in (lambda: "plain", lambda: bench.defer.succeed("by a Deferred"), raises()):
            try:
                bench.note("thread", bench.threads.blockingCallFromThread(bench.reactor, answer))
            except Planned:
                bench.note("thread", "raised Planned")

    bench.reactor.callInThread(ask)
    return lambda: len(bench.log.get("thread", ())) == 3


@scenario("D33", thread=([], ["raised RuntimeError"]))
def callLater_from_another_thread(bench):
    def ask():
        bench.tried("thread", bench.reactor.callLater, 0, str)
        bench.note("thread", "(asked)")

    bench.soon(bench.reactor.callInThread, ask)
    return lambda: "thread" in bench.log


@scenario("D36", thread=(["while running"], ["before run"]))
def callInThread_before_run(bench):
    done = threading.Event()

    def work():
        bench.note("thread", "while running" if bench.reactor.running else "before run")
        done.set()

    bench.reactor.callInThread(work)
    done.wait(0.3)
    return done.is_set


@scenario()
def callInThread_while_running(bench):
    bench.soon(bench.reactor.callInThread, bench.note, "thread", "runs")
    return lambda: "thread" in bench.log


@scenario()
def calls_made_while_calls_are_made(bench):
    later, from_thread = bench.reactor.callLater, bench.reactor.callFromThread

    def first():
        bench.note("calls", "first")
        from_thread(third)
        raise Planned

    def third():
        bench.note("calls", "third")
        later(0, bench.note, "calls", "last")

    from_thread(first)
    from_thread(bench.note, "calls", "second")
    return lambda: "last" in bench.log.get("calls", ())
