"""What a type checker must conclude about gathering, locks, generators and tasks; mypy reads this file, nothing runs it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from ropewalk.defer import (
    Deferred,
    DeferredList,
    DeferredLock,
    DeferredQueue,
    DeferredSemaphore,
    gatherResults,
    inlineCallbacks,
    race,
    succeed,
)
from ropewalk.task import (
    CooperativeTask,
    LoopingCall,
    coiterate,
    cooperate,
    deferLater,
    react,
    run,
    sleep,
)

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from typing import assert_type

    from ropewalk import Reactor


@inlineCallbacks
def total(first: Deferred[int], times: int) -> Generator[Deferred[Any], Any, float]:
    number = yield first
    return float(number * times)


async def fetch(reactor: Reactor, name: str, times: int = 1) -> bytes:
    return name.encode() * times


def later(reactor: Reactor) -> Deferred[int]:
    return succeed(1)


def plain(number: int, *, by: int = 1) -> str:
    return str(number * by)


async def native(number: int) -> bytes:
    return bytes(number)


def generators() -> None:
    assert_type(total(succeed(1), 2), Deferred[float])
    total(succeed(1), "2")  # type: ignore[arg-type]
    total(succeed("text"), 2)  # type: ignore[arg-type]


def gathering(numbers: list[Deferred[int]]) -> None:
    assert_type(gatherResults(numbers), Deferred[list[int]])
    assert_type(race(numbers), Deferred[tuple[int, int]])
    assert_type(DeferredList(numbers), DeferredList[list[tuple[bool, int]]])
    assert_type(DeferredList(numbers, consumeErrors=True), DeferredList[list[tuple[bool, int]]])
    assert_type(DeferredList(numbers, fireOnOneCallback=True), DeferredList[tuple[int, int]])
    assert_type(gatherResults(numbers).addCallback(lambda found: found[0]), Deferred[int])


def locks(lock: DeferredLock, semaphore: DeferredSemaphore) -> None:
    assert_type(lock.acquire(), Deferred[DeferredLock])
    assert_type(semaphore.acquire(), Deferred[DeferredSemaphore])
    assert_type(lock.run(plain, 1, by=2), Deferred[str])
    assert_type(lock.run(native, 1), Deferred[bytes])
    assert_type(semaphore.run(total, succeed(1), 2), Deferred[float])
    lock.run(plain, "1")  # type: ignore[call-overload]


async def within(lock: DeferredLock) -> None:
    async with lock as held:
        assert_type(held, DeferredLock)


def queues(queue: DeferredQueue[int]) -> None:
    assert_type(queue.get(), Deferred[int])
    queue.put(1)
    queue.put("1")  # type: ignore[arg-type]


def futures(number: Deferred[int], loop: AbstractEventLoop, future: Future[str]) -> None:
    assert_type(number.asFuture(loop), "Future[int]")
    assert_type(Deferred.fromFuture(future), Deferred[str])


def waits(reactor: Reactor) -> None:
    assert_type(sleep(1), Deferred[None])
    assert_type(sleep(1, reactor), Deferred[None])
    assert_type(deferLater(reactor, 1), Deferred[None])
    assert_type(deferLater(reactor, 1, plain, 2, by=3), Deferred[str])
    assert_type(deferLater(reactor, 1, later, reactor), Deferred[int])


def loops(reactor: Reactor) -> None:
    call = LoopingCall(plain, 1, by=2)
    call.clock = reactor
    assert_type(call.start(1.5), Deferred[LoopingCall])
    assert_type(LoopingCall.withCount(lambda count: count + 1), LoopingCall)


def cooperation(steps: Iterator[int]) -> None:
    assert_type(cooperate(steps), CooperativeTask[Iterator[int]])
    assert_type(cooperate(steps).whenDone(), Deferred[Iterator[int]])
    assert_type(coiterate(steps), Deferred[Iterator[int]])


def running(reactor: Reactor) -> None:
    assert_type(run(fetch, "name", times=2), bytes)
    assert_type(run(fetch(reactor, "name")), bytes)
    assert_type(run(later), int)
    assert_type(run(succeed(1.5)), float)
    run(fetch, 5)  # type: ignore[call-overload]


def script() -> None:
    react(fetch, ("name",))
