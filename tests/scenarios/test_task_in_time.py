"""LoopingCall, sleep, time-outs and coroutines on simulated hosts: virtual time, machines that stand still, storms.

Invariant: a loop's calls come at ticks of its start, or as soon as its machine has time again; the counts that it was told add
up to the ticks that have passed; what is waited for with a time-out ends in exactly one way.
"""

from __future__ import annotations

import gc
import logging
from collections import Counter

import pytest

from ropewalk import ClientFactory, Factory, Protocol
from ropewalk.defer import (
    CancelledError,
    Deferred,
    DeferredQueue,
    DeferredSemaphore,
    TimeoutError,
    ensureDeferred,
    gatherResults,
    inlineCallbacks,
    race,
)
from ropewalk.simulation import Simulation
from ropewalk.task import Cooperator, LoopingCall, deferLater, sleep
from ropewalk.testing import simulate


@pytest.fixture(autouse=True)
def nothing_unhandled(caplog):
    yield
    gc.collect()
    records = [*caplog.get_records("call"), *caplog.records]
    assert [record.getMessage() for record in records if record.levelno >= logging.ERROR] == []


def counting(reactor, seen):
    loop = LoopingCall.withCount(lambda count: seen.append((reactor.seconds(), count)))
    loop.clock = reactor
    return loop


@pytest.mark.parametrize("interval", [0.1, 1 / 3, 0.7])
def test_a_loop_of_an_hour_has_every_tick_once_and_does_not_drift(interval):
    simulation = Simulation(1)
    reactor, seen = simulation.host().reactor, []
    loop = counting(reactor, seen)
    started = reactor.seconds()
    loop.start(interval)
    simulation.run(until=simulation.now + 3600)
    assert {count for _, count in seen} == {1}
    assert len(seen) == int(3600 / interval + 1e-6) + 1
    assert max(abs(time - started - number * interval) for number, (time, _) in enumerate(seen)) < 1e-6
    loop.stop()
    simulation.checkAtRest()


def test_a_machine_that_stands_still_misses_ticks_is_told_how_many_and_keeps_the_rhythm():
    simulation = Simulation(1)
    host, seen = simulation.host(), []
    started = host.reactor.seconds()
    loop = counting(host.reactor, seen)
    loop.start(1)
    simulation.at(simulation.now + 2.5, host.pause)
    simulation.at(simulation.now + 6.25, host.resume)
    simulation.run(until=simulation.now + 8.5)
    assert [(round(time - started, 6), count) for time, count in seen] == [
        (0, 1),
        (1, 1),
        (2, 1),
        (6.25, 4),
        (7, 1),
        (8, 1),
    ]
    loop.stop()


def test_a_sleep_ends_when_its_machine_has_time_again():
    simulation = Simulation(1)
    host = simulation.host()
    began = simulation.now
    woke = sleep(1, host.reactor).addCallback(lambda _: simulation.now - began)
    simulation.at(began + 0.5, host.pause)
    simulation.at(began + 4.5, host.resume)
    simulation.run(until=began + 6)
    assert woke.result == 4.5


def test_after_standing_still_a_timeout_and_a_result_that_both_are_due_end_it_once_in_their_order():
    for seconds, ends in ((1.0, "result"), (3.0, TimeoutError)):
        simulation = Simulation(1)
        host = simulation.host()
        reactor = host.reactor
        waited = (
            deferLater(reactor, seconds, lambda: "result").addTimeout(2, reactor).addErrback(lambda f: f.type)
        )
        simulation.at(simulation.now + 0.5, host.pause)
        simulation.at(simulation.now + 9, host.resume)
        simulation.run(until=simulation.now + 10)
        assert waited.result == ends
        simulation.checkAtRest()


def test_a_loop_whose_call_waits_longer_than_the_interval_takes_the_next_tick():
    simulation = Simulation(1)
    reactor, seen = simulation.host().reactor, []
    started = reactor.seconds()

    async def work():
        seen.append(round(reactor.seconds() - started, 6))
        await sleep(2.5, reactor)

    loop = LoopingCall(work)
    loop.clock = reactor
    ended = loop.start(1)
    simulation.run(until=simulation.now + 7)
    assert seen == [0, 3, 6]
    loop.stop()
    assert not ended.called
    simulation.run(until=simulation.now + 3)
    assert ended.result is loop
    simulation.checkAtRest()


def test_tasks_of_one_step_a_turn_let_timers_through():
    simulation = Simulation(1)
    reactor, steps = simulation.host().reactor, []
    cooperator = Cooperator(lambda: lambda: True, lambda turn: reactor.callLater(0.001, turn))
    endless = cooperator.cooperate(iter(lambda: steps.append(1), "never"))
    seen = sleep(1, reactor).addCallback(lambda _: len(steps))
    simulation.run(until=simulation.now + 2)
    assert 990 <= seen.result <= 1001
    endless.stop()
    simulation.checkAtRest()


@simulate(seeds=40)
def test_loops_on_machines_that_stand_still_count_every_tick(simulation):
    hosts = [simulation.host(name) for name in ("one", "two", "three")]
    loops = []
    for number, host in enumerate(hosts):
        seen: list[tuple[float, int]] = []
        loop = counting(host.reactor, seen)
        loop.start((0.25, 1.0, 0.1)[number])
        loops.append((loop, seen, host.reactor.seconds()))
    storm = simulation.storm(20, every=2, kinds=("pause",))
    simulation.run(until=storm.ends + 2.06)
    for loop, seen, started in loops:
        last = seen[-1][0]
        assert sum(count for _, count in seen) == int((last - started) / loop.interval + 1e-6) + 1
        assert loop.clock.seconds() - last < loop.interval + 1e-6
        loop.stop()


class Ask(Protocol):
    """Sends questions, and gives each answer to who waits for it."""

    def connectionMade(self):
        self.waiting = DeferredQueue()
        self.factory.connected.callback(self)

    def ask(self, byte):
        self.transport.write(byte)
        return self.waiting.get()

    def dataReceived(self, data):
        for number in data:
            self.waiting.put(number)

    def connectionLost(self, reason):
        while self.waiting.waiting:
            self.waiting.put(None)


class Answer(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


@simulate(seeds=60)
def test_whatever_befalls_the_network_everything_that_was_waited_for_ends_in_one_way(simulation):
    server, client = simulation.host("server"), simulation.host("client")
    server.onStart(lambda reactor: reactor.listenTCP(7, Factory.forProtocol(Answer)))
    reactor, ends = client.reactor, Counter()
    semaphore = DeferredSemaphore(3)

    async def connected():
        factory = ClientFactory.forProtocol(Ask)
        factory.connected = Deferred()
        factory.clientConnectionFailed = lambda connector, reason: factory.connected.errback(reason)
        connector = reactor.connectTCP("server", 7, factory, timeout=3)
        try:
            return await factory.connected
        except CancelledError:
            connector.disconnect()
            raise

    @inlineCallbacks
    def exchange(number):
        protocol = yield ensureDeferred(connected())
        try:
            for _ in range(3):
                yield sleep(simulation.random.random() * 2, reactor)
                answer = yield protocol.ask(bytes([number]))
                if answer != number:
                    return "lost"
            return "answered"
        finally:
            protocol.transport.abortConnection()

    def job(number):
        waited = exchange(number).addTimeout(6, reactor)
        return race([waited, sleep(20, reactor)]).addCallbacks(
            lambda won: won[1], lambda failure: failure.value.failures[0].type.__name__
        )

    def count(end):
        ends[end] += 1

    jobs = [semaphore.run(job, number).addCallback(count) for number in range(12)]
    storm = simulation.storm(15, every=1, kinds=("cut", "delay", "loss", "reset", "refuse", "pause"))
    gathered = gatherResults(jobs)
    simulation.run(until=max(storm.ends, simulation.now) + 150)
    assert gathered.called
    assert ends.total() == 12, ends
    assert semaphore.tokens == 3
    # The client's side is at rest; the server may not have heard of an end, if the network has lost it.
    assert client.reactor.getDelayedCalls() == []
    assert len(client.ledger().connections) == 0
