"""A pool: who asks first is served first and once, never above its size, and nothing is open after close."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from ropewalk import Deferred
from ropewalk.defer import CancelledError, succeed
from ropewalk.error import ConnectionRefusedError, TimeoutError
from ropewalk.pool import Pool, PoolClosedError
from ropewalk.simulation import Simulation
from ropewalk.task import currentReactor, run
from ropewalk.testing import simulate
from tests.rooms.staying import Client, Scene, outcome


def pool_of(scene: Scene, **how: Any) -> Pool:
    return Pool(scene.endpoint, scene.clients, **how)


def acquired(scene: Scene, pool: Pool, many: int = 1) -> list[Any]:
    got = [outcome(pool.acquire()) for _ in range(many)]
    scene.go(1)
    assert [len(each) for each in got] == [1] * many
    return [each[0] for each in got]


def ended(scene: Scene, pool: Pool) -> None:
    """Closed, with nothing left open."""
    closed = outcome(pool.close())
    scene.go(5)
    assert closed == [None]
    assert scene.peers.live == []
    scene.leave()


def test_a_connection_is_the_users_own_protocol_and_is_used_again() -> None:
    scene = Scene()
    pool = pool_of(scene)
    (first,) = acquired(scene, pool)
    assert type(first) is Client
    pool.release(first)
    assert outcome(pool.acquire()) == [first]
    pool.release(first)
    assert scene.peers.made == 1
    ended(scene, pool)


def test_at_most_size_are_open_and_who_waits_is_served_in_order() -> None:
    scene = Scene()
    pool = pool_of(scene, size=2)
    one, other = acquired(scene, pool, 2)
    waiting = [outcome(pool.acquire()) for _ in range(3)]
    scene.go(5)
    assert (waiting, scene.peers.made) == ([[], [], []], 2)
    pool.release(other)
    assert waiting == [[other], [], []]
    pool.release(one)
    assert waiting == [[other], [one], []]
    pool.release(other)
    assert waiting == [[other], [one], [other]]
    pool.release(one)
    pool.release(other)
    ended(scene, pool)


def test_a_waiter_that_is_cancelled_loses_nothing_to_the_others() -> None:
    scene = Scene()
    pool = pool_of(scene, size=1)
    (only,) = acquired(scene, pool)
    first, second = pool.acquire(), pool.acquire()
    told = [outcome(first), outcome(second)]
    first.cancel()
    pool.release(only)
    assert [type(told[0][0]), told[1]] == [CancelledError, [only]]
    pool.release(only)
    ended(scene, pool)


def test_a_connection_whose_waiter_was_cancelled_is_idle_for_the_next() -> None:
    scene = Scene()
    pool = pool_of(scene)
    waiting = pool.acquire()
    told = outcome(waiting)
    waiting.cancel()
    scene.go(1)
    assert type(told[0]) is CancelledError
    assert outcome(pool.acquire()) == scene.clients.built
    pool.release(scene.clients.built[0])
    ended(scene, pool)


def test_a_failed_connect_is_told_to_the_one_whose_turn_it_is_alone() -> None:
    scene = Scene()
    pool = pool_of(scene, size=1)
    scene.port.stopListening()
    scene.go(1)
    first, second = outcome(pool.acquire()), outcome(pool.acquire())
    scene.sim.run(until=lambda: bool(first))
    scene.listen()
    scene.go(1)
    assert [type(each) for each in first] == [ConnectionRefusedError]
    assert second == scene.clients.built
    pool.release(second[0])
    ended(scene, pool)


def test_each_of_many_waiters_is_told_one_failure() -> None:
    scene = Scene(listens=False)
    pool = pool_of(scene, size=3)
    told = [outcome(pool.acquire()) for _ in range(10)]
    scene.go(5)
    assert [[type(each) for each in waiter] for waiter in told] == [[ConnectionRefusedError]] * 10
    ended(scene, pool)


def test_an_endpoint_that_raises_fails_the_waiter_at_once() -> None:
    class Broken:
        def connect(self, factory: Any) -> Any:
            raise ZeroDivisionError

    scene = Scene()
    pool = Pool(Broken(), scene.clients, 1, clock=scene.client.reactor)
    told = [outcome(pool.acquire()) for _ in range(3)]
    assert [type(each[0]) for each in told] == [ZeroDivisionError] * 3
    ended(scene, pool)


def test_a_thousand_waiters_that_fail_at_once_are_told_without_recursion() -> None:
    class Once:
        """Connects once, then fails before it returns."""

        def __init__(self, endpoint: Any) -> None:
            self.left = [endpoint]

        def connect(self, factory: Any) -> Any:
            return self.left.pop().connect(factory)

    scene = Scene()
    pool = Pool(Once(scene.endpoint), scene.clients, 1, clock=scene.client.reactor)
    (only,) = acquired(scene, pool)
    told = [outcome(pool.acquire()) for _ in range(1000)]
    pool.discard(only)
    scene.go(1)
    assert [[type(each) for each in waiter] for waiter in told] == [[IndexError]] * 1000
    ended(scene, pool)


def test_an_idle_one_that_is_lost_is_replaced() -> None:
    scene = Scene()
    pool = pool_of(scene, size=1)
    (first,) = acquired(scene, pool)
    pool.release(first)
    scene.peers.live[0].transport.abortConnection()
    scene.go(1)
    (second,) = acquired(scene, pool)
    assert second is not first
    pool.release(second)
    ended(scene, pool)


def test_one_that_is_lost_in_use_frees_its_place_at_once_and_is_still_released() -> None:
    scene = Scene()
    pool = pool_of(scene, size=1)
    (first,) = acquired(scene, pool)
    waiting = outcome(pool.acquire())
    scene.peers.live[0].transport.abortConnection()
    scene.go(1)
    assert waiting == [scene.clients.built[1]]
    pool.release(first)
    with pytest.raises(ValueError, match="released already"):
        pool.release(first)
    pool.release(waiting[0])
    ended(scene, pool)


@pytest.mark.parametrize("how", ["released", "discarded", "idle"])
def test_one_that_is_about_to_be_told_of_its_loss_is_given_to_nobody(how: str) -> None:
    """Whoever awaits an answer goes on within connectionLost, before the pool knows; and gives back, or asks, at once."""
    scene = Scene()
    pool = pool_of(scene, size=1)
    (first,) = acquired(scene, pool)
    if how == "idle":
        pool.release(first)
    asked: list[list[Any]] = []

    def lost() -> None:
        if how != "idle":
            pool.release(first) if how == "released" else pool.discard(first)
        asked.append(outcome(pool.acquire()))

    first.whenLost = lost
    scene.peers.live[0].transport.abortConnection()
    scene.go(1)
    assert asked == [[scene.clients.built[1]]]
    pool.release(asked[0][0])
    ended(scene, pool)


def test_an_idle_one_is_closed_after_its_time_and_not_before() -> None:
    scene = Scene()
    pool = pool_of(scene, idle=10)
    one, other = acquired(scene, pool, 2)
    pool.release(one)
    scene.go(6)
    pool.release(other)
    scene.go(3.9)
    assert len(scene.peers.live) == 2
    scene.go(0.2)
    assert len(scene.peers.live) == 1
    assert (one.reason is None, other.reason is None) == (False, True)
    assert acquired(scene, pool) == [other]
    scene.go(20)
    assert other.reason is None
    pool.release(other)
    ended(scene, pool)


@pytest.mark.parametrize("how", ["bool", "coroutine", "deferred", "raises", "fails"])
def test_one_that_health_refuses_is_replaced(how: str) -> None:
    scene = Scene()
    asked: list[Any] = []

    async def later() -> bool:
        waited: Deferred[bool] = Deferred()
        scene.client.reactor.callLater(0.1, waited.callback, False)
        return await waited

    async def fails() -> bool:
        raise KeyError

    def health(protocol: Any) -> Any:
        asked.append(protocol)
        if how == "raises":
            raise ZeroDivisionError
        answers: dict[str, Any] = {
            "bool": lambda: False,
            "coroutine": later,
            "deferred": Deferred,
            "fails": fails,
        }
        answer = answers[how]()
        if how == "deferred":
            scene.client.reactor.callLater(0.1, answer.callback, False)
        return answer

    pool = pool_of(scene, size=1, health=health)
    (first,) = acquired(scene, pool)
    assert asked == []
    pool.release(first)
    (second,) = acquired(scene, pool)
    assert (asked, second is first) == ([first], False)
    assert first.reason is not None
    pool.release(second)
    ended(scene, pool)


def test_one_that_is_healthy_is_used_again() -> None:
    scene = Scene()

    async def health(protocol: Any) -> bool:
        return True

    pool = pool_of(scene, health=health)
    (first,) = acquired(scene, pool)
    pool.release(first)
    assert acquired(scene, pool) == [first]
    pool.release(first)
    ended(scene, pool)


@pytest.mark.parametrize("how", ["silent", "stubborn", "chained"])
def test_one_whose_health_gives_no_answer_in_time_is_replaced(how: str) -> None:
    scene = Scene()
    called_off: list[str] = []

    async def stubborn() -> bool:
        for _ in range(2):
            try:
                await Deferred()
            except CancelledError:
                called_off.append(how)
        return True

    def silent() -> Deferred[bool]:
        return Deferred(lambda _: called_off.append(how))

    def chained() -> Deferred[bool]:
        return succeed(None).addCallback(lambda _: silent())

    kinds: dict[str, Any] = {"silent": silent, "stubborn": stubborn, "chained": chained}
    pool = pool_of(scene, size=1, health=lambda protocol: kinds[how]())
    (first,) = acquired(scene, pool)
    pool.release(first)
    waiting = outcome(pool.acquire())
    scene.go(29.9)
    assert (waiting, called_off, first.reason) == ([], [], None)
    scene.go(1)
    assert (waiting, called_off) == ([scene.clients.built[1]], [how])
    assert first.reason is not None
    pool.release(waiting[0])
    ended(scene, pool)


def test_a_check_that_answers_in_time_leaves_no_timer() -> None:
    scene = Scene()
    asked: list[Deferred[bool]] = []

    def health(protocol: Any) -> Deferred[bool]:
        asked.append(Deferred())
        return asked[-1]

    pool = pool_of(scene, size=1, idle=None, health=health)
    (first,) = acquired(scene, pool)
    pool.release(first)
    waiting = outcome(pool.acquire())
    scene.go(29)
    asked[0].callback(True)
    assert waiting == [first]
    scene.go(60)
    assert first.reason is None
    pool.release(first)
    ended(scene, pool)


@pytest.mark.parametrize("what", ["lost", "closed"])
def test_one_that_ends_while_health_is_asked_leaves_no_waiter_behind(what: str) -> None:
    scene = Scene()
    pool = pool_of(scene, size=1, health=lambda protocol: Deferred())
    (first,) = acquired(scene, pool)
    pool.release(first)
    waiting = outcome(pool.acquire())
    scene.go(1)
    assert waiting == []
    if what == "lost":
        scene.peers.live[0].transport.abortConnection()
        scene.go(1)
        assert waiting == [scene.clients.built[1]]
        pool.release(waiting[0])
    else:
        pool.close()
        assert type(waiting[0]) is PoolClosedError
    ended(scene, pool)


def test_close_fails_the_waiters_and_closes_the_used_ones_when_they_are_released() -> None:
    scene = Scene()
    pool = pool_of(scene, size=2)
    used, idle = acquired(scene, pool, 2)
    waiting = outcome(pool.acquire())
    pool.release(idle)
    assert waiting == [idle]
    late = outcome(pool.acquire())
    pool.release(idle)
    assert late == [idle]
    pool.release(idle)
    closed = outcome(pool.close())
    scene.go(5)
    assert (closed, idle.reason is None, used.reason is None) == ([], False, True)
    assert type(outcome(pool.acquire())[0]) is PoolClosedError
    pool.release(used)
    scene.go(5)
    assert (closed, used.reason is None) == ([None], False)
    ended(scene, pool)


def test_close_while_connecting_tells_the_waiter_that_it_is_closed() -> None:
    scene = Scene()
    pool = pool_of(scene)
    waiting = [pool.acquire(), pool.acquire()]
    told = [outcome(waiting[0]), outcome(waiting[1])]
    waiting[0].addErrback(lambda _: None)
    assert outcome(pool.close()) == [None]
    assert [type(each[0]) for each in told] == [PoolClosedError] * 2
    assert "closed while this waited" in str(told[0][0])
    ended(scene, pool)


def test_a_waiter_that_cancels_another_when_the_pool_closes_does_no_harm() -> None:
    scene = Scene(listens=False)
    pool = pool_of(scene, size=1)
    first, second, third = (pool.acquire() for _ in range(3))
    first.addErrback(lambda _: second.cancel())
    told = outcome(second), outcome(third)
    pool.close()
    assert [type(each[0]) for each in told] == [CancelledError, PoolClosedError]
    ended(scene, pool)


def test_what_was_not_acquired_or_is_released_already_is_a_ValueError() -> None:
    scene = Scene()
    pool = pool_of(scene)
    (first,) = acquired(scene, pool)
    with pytest.raises(ValueError, match="not acquired"):
        pool.release(Client())
    pool.release(first)
    for wrong in (pool.release, pool.discard):
        with pytest.raises(ValueError, match="released already"):
            wrong(first)
    ended(scene, pool)


@pytest.mark.parametrize(
    ("name", "wrong", "kind"),
    [
        ("size", 0, ValueError),
        ("size", -1, ValueError),
        ("size", 1.5, TypeError),
        ("size", True, TypeError),
        ("size", None, TypeError),
        ("idle", 0, ValueError),
        ("idle", -1, ValueError),
        ("idle", float("nan"), ValueError),
        ("idle", float("inf"), ValueError),
        ("idle", "x", TypeError),
        ("idle", True, TypeError),
        ("health", "x", TypeError),
        ("health", 0, TypeError),
    ],
)
def test_an_argument_that_makes_no_pool_is_refused_by_its_name(name: str, wrong: Any, kind: Any) -> None:
    with pytest.raises(kind, match=f"{name} must be .*not {wrong!r}"):
        pool_of(Scene(), **{name: wrong})


def test_an_async_with_releases_and_after_an_exception_discards() -> None:
    scene = Scene()
    pool = pool_of(scene, size=1)

    async def use(fails: bool) -> Any:
        async with pool.connection() as protocol:
            if fails:
                raise ZeroDivisionError
        return protocol

    first = outcome(Deferred.fromCoroutine(use(False)))
    scene.go(1)
    assert first == outcome(Deferred.fromCoroutine(use(False)))
    assert [type(each) for each in outcome(Deferred.fromCoroutine(use(True)))] == [ZeroDivisionError]
    again = outcome(Deferred.fromCoroutine(use(False)))
    scene.go(1)
    assert again == [scene.clients.built[1]]
    assert first[0].reason is not None
    ended(scene, pool)


def test_an_async_with_that_is_cancelled_while_it_waits_takes_no_connection() -> None:
    scene = Scene()
    pool = pool_of(scene, size=1)
    (only,) = acquired(scene, pool)

    async def use() -> None:
        async with pool.connection():
            raise AssertionError("it has a connection")

    using = Deferred.fromCoroutine(use())
    told = outcome(using)
    using.cancel()
    assert type(told[0]) is CancelledError
    pool.release(only)
    assert outcome(pool.acquire()) == [only]
    pool.release(only)
    ended(scene, pool)


def test_what_is_over_is_freed_without_the_garbage_collector() -> None:
    scene = Scene()
    pool = pool_of(scene)
    (first,) = acquired(scene, pool)
    pool.release(first)
    seen: list[weakref.ref[Any]] = [weakref.ref(first), weakref.ref(pool)]
    del first
    gc.collect()
    gc.disable()
    try:
        pool.close()
        scene.go(1)
        scene.clients.built.clear()
        del pool
        assert [each() for each in seen] == [None, None]
    finally:
        gc.enable()
    scene.leave()


@simulate(seeds=40)
def test_in_a_storm_every_waiter_is_served_or_told_exactly_once(simulation: Simulation) -> None:
    scene = Scene(simulation, listens=False)
    scene.server.onStart(lambda reactor: reactor.listenTCP(7, scene.peers))
    chance = simulation.random
    pool = pool_of(scene, size=3, idle=5.0, health=lambda protocol: chance.random() < 0.9)
    told: list[list[Any]] = []
    in_use: list[Any] = []
    reactor = scene.client.reactor

    def take(protocol: Any) -> Any:
        assert all(protocol is not each for each in in_use)
        in_use.append(protocol)
        assert sum(each.reason is None for each in in_use) <= 3
        reactor.callLater(chance.uniform(0, 3), give, protocol)
        return protocol

    def give(protocol: Any) -> None:
        in_use.remove(protocol)
        (pool.release if chance.random() < 0.9 else pool.discard)(protocol)

    def ask() -> None:
        waiting = pool.acquire().addCallback(take)
        told.append(outcome(waiting))
        if chance.random() < 0.2:
            reactor.callLater(chance.uniform(0, 1), waiting.cancel)

    storm = simulation.storm(40)
    for _ in range(60):
        reactor.callLater(chance.uniform(0, 60), ask)
    simulation.run(until=storm.ends + 200)
    assert [len(each) for each in told] == [1] * 60
    after = outcome(pool.acquire())
    scene.go(15)
    assert type(after[0]) in (Client, TimeoutError)
    if type(after[0]) is Client:
        pool.release(after[0])
    closed = outcome(pool.close())
    scene.go(70)
    assert (closed, in_use) == ([None], [])
    assert all(each.reason is not None for each in scene.clients.built if each.transport is not None)
    assert not scene.client.delayed_calls()


def test_without_a_clock_it_keeps_time_by_the_reactor_of_run() -> None:
    seen: list[tuple[Any, Any]] = []

    class Nowhere:
        """An endpoint that names no reactor."""

        def connect(self, factory: Any) -> Any:
            return Deferred()

    async def main() -> None:
        pool = Pool(Nowhere(), None)
        seen.append((pool._reactor(), currentReactor()))

    run(main())
    [(used, current)] = seen
    assert used is current
