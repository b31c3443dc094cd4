"""inlineCallbacks, coroutines, DeferredList, gatherResults, race, locks and queues: the same program on Twisted's and ours.

Invariant: for every program without the points listed below, each callback is called in the same order with the same
result, and the same calls raise.

Left out, as we differ on purpose (docs/differences-from-twisted.md): a Deferred awaited by two; more than eight hand-overs
of a lock within each other; cancelling a DeferredList that has fired.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk import defer as ours
from tests.differential.test_defer import FAILURES, Planned, Reports, describe, few_objects

theirs = pytest.importorskip(
    "twisted.internet.defer", reason="Twisted is not installed: pip install 'ropewalk[test]'"
)
twisted_logger = pytest.importorskip("twisted.logger")

__all__ = ["few_objects"]

MODULES = (ours, theirs)


def told(value: Any) -> str:
    """What a result is, looking into the lists, pairs and groups that gathering makes."""
    if isinstance(value, FAILURES):
        return f"Failure({told(value.value)})"
    if isinstance(value, (ours.FirstError, theirs.FirstError)):
        return f"FirstError({value.index}, {told(value.subFailure)})"
    if isinstance(value, (ours.FailureGroup, theirs.FailureGroup)):
        return f"FailureGroup({told(value.failures)})"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(map(told, value))})"
    if type(value).__name__ in ("DeferredLock", "DeferredSemaphore"):
        return type(value).__name__
    return describe(value)


def same(run: Any, *args: Any) -> None:
    logs = []
    for module in MODULES:
        log: list[Any] = []
        reports = Reports()
        logger = logging.getLogger("ropewalk")
        logger.addHandler(reports)
        twisted_logger.globalLogPublisher.addObserver(reports)
        try:
            run(module, log, *args)
            gc.collect()
        finally:
            logger.removeHandler(reports)
            twisted_logger.globalLogPublisher.removeObserver(reports)
        logs.append((log, Counter(reports.seen)))
    assert logs[0] == logs[1]
    assert logs[0][0]


# --- generators and coroutines ---

STEPS = ("value", "wait", "wait", "wait and catch", "wait and catch", "fired", "failed", "raise", "return")
scripts = st.lists(st.lists(st.sampled_from(STEPS), max_size=5), min_size=1, max_size=3)
doings = st.lists(
    st.tuples(st.sampled_from(["fire", "fail", "cancel wait", "cancel", "fire early"]), st.integers(0, 5)),
    max_size=15,
)


class Play:
    """Generators that wait for Deferreds of their own, and what is done to both meanwhile."""

    def __init__(self, module: Any, log: list[Any], kind: str) -> None:
        self.module, self.log, self.kind = module, log, kind
        self.waits: list[Any] = []
        self.early = 0

    def waited(self, name: str) -> Any:
        deferred = self.module.Deferred(lambda d: self.log.append(f"canceller of {name}"))
        if self.early:
            self.early -= 1
            deferred.callback("early")
        self.waits.append(deferred)
        return deferred

    def start(self, name: int, script: list[str]) -> Any:
        if self.kind == "coroutine":
            return self.module.ensureDeferred(self.coroutine(name, script))
        return self.module.inlineCallbacks(self.generator)(name, script)

    def generator(self, name: int, script: list[str]) -> Any:
        for number, step in enumerate(script):
            self.log.append(f"{name}.{number} {step}")
            if step == "value":
                self.log.append((yield number))
            elif step == "wait":
                self.log.append(told((yield self.waited(f"{name}.{number}"))))
            elif step == "wait and catch":
                try:
                    self.log.append(told((yield self.waited(f"{name}.{number}"))))
                except Exception as exc:
                    self.log.append(f"caught {told(exc)}")
            elif step == "fired":
                self.log.append((yield self.module.succeed(number)))
            elif step == "failed":
                yield self.module.fail(Planned(number))
            elif step == "raise":
                raise Planned(number)
            else:
                return number
        return "end"

    async def coroutine(self, name: int, script: list[str]) -> Any:
        for number, step in enumerate(script):
            self.log.append(f"{name}.{number} {step}")
            if step == "wait":
                self.log.append(told(await self.waited(f"{name}.{number}")))
            elif step == "wait and catch":
                try:
                    self.log.append(told(await self.waited(f"{name}.{number}")))
                except Exception as exc:
                    self.log.append(f"caught {told(exc)}")
            elif step in ("fired", "value"):
                self.log.append(await self.module.succeed(number))
            elif step == "failed":
                await self.module.fail(Planned(number))
            elif step == "raise":
                raise Planned(number)
            else:
                return number
        return "end"

    def do(self, doing: str, number: int, ends: list[Any]) -> None:
        try:
            if doing == "fire early":
                self.early += 1
            elif doing == "cancel":
                ends[number % len(ends)].cancel()
            elif self.waits:
                waited = self.waits[number % len(self.waits)]
                if doing == "fire":
                    waited.callback(f"value {number}")
                elif doing == "fail":
                    waited.errback(Planned(number))
                else:
                    waited.cancel()
        except Exception as exc:
            self.log.append(f"{doing} raised {told(exc)}")


def waiting(module: Any, log: list[Any], kind: str, plan: Any, doings: Any) -> None:
    play = Play(module, log, kind)
    log.append("begin")
    ends = []
    for name, script in enumerate(plan):
        end = play.start(name, script)
        end.addBoth(lambda result, name=name: log.append(f"{name} ended with {told(result)}"))
        ends.append(end)
    for doing, number in doings:
        play.do(doing, number, ends)
        log.append("next")


@pytest.mark.parametrize("kind", ["generator", "coroutine"])
@given(scripts, doings)
def test_whoever_waits_sees_the_same(few_objects, kind, plan, doings):
    same(waiting, kind, plan, doings)


# --- gathering ---

GATHERS = {
    "list": lambda module, each: module.DeferredList(each),
    "list consuming": lambda module, each: module.DeferredList(each, consumeErrors=True),
    "first value": lambda module, each: module.DeferredList(each, fireOnOneCallback=True),
    "first error": lambda module, each: module.DeferredList(each, fireOnOneErrback=True, consumeErrors=True),
    "either": lambda module, each: module.DeferredList(each, True, True, True),
    "gatherResults": lambda module, each: module.gatherResults(each),
    "gatherResults consuming": lambda module, each: module.gatherResults(each, consumeErrors=True),
    "race": lambda module, each: module.race(each),
}
CANCELLERS = {
    "none": lambda module, log: None,
    "silent": lambda module, log: lambda deferred: log.append("canceller"),
    "fires": lambda module, log: lambda deferred: deferred.callback("cancelled"),
    "fails": lambda module, log: lambda deferred: deferred.errback(Planned("cancelled")),
}
members = st.lists(st.sampled_from(list(CANCELLERS)), max_size=4)
fates = st.lists(st.tuples(st.sampled_from(["fire", "fail", "cancel"]), st.integers(0, 3)), max_size=8)


def gathering(
    module: Any, log: list[Any], kind: str, cancellers: Any, before: Any, after: Any, cancelled: bool
) -> None:
    log.append("begin")
    deferreds = [module.Deferred(CANCELLERS[each](module, log)) for each in cancellers]

    def befall(fates: Any) -> None:
        for fate, number in fates:
            if number < len(deferreds):
                try:
                    if fate == "cancel":
                        deferreds[number].cancel()
                    elif fate == "fire":
                        deferreds[number].callback(number)
                    else:
                        deferreds[number].errback(Planned(number))
                except Exception as exc:
                    log.append(f"{fate} raised {told(exc)}")

    befall(before)
    gathered = GATHERS[kind](module, deferreds)
    gathered.addBoth(lambda result: log.append(told(result)))
    for number, deferred in enumerate(deferreds):
        deferred.addBoth(lambda result, number=number: log.append(f"{number} has {told(result)}"))
    befall(after)
    if cancelled and not gathered.called:
        log.append("cancel")
        gathered.cancel()
    log.append(gathered.called)


@pytest.mark.parametrize("kind", GATHERS)
@given(members, fates, fates, st.booleans())
def test_gathering_comes_to_the_same(few_objects, kind, cancellers, before, after, cancelled):
    same(gathering, kind, cancellers, before, after, cancelled)


# --- locks and queues ---

TURNS = {
    "lock": lambda module: module.DeferredLock(),
    "semaphore of 1": lambda module: module.DeferredSemaphore(1),
    "semaphore of 2": lambda module: module.DeferredSemaphore(2),
}
turn_steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["acquire", "acquire and release", "run", "run later", "with", "release", "finish", "cancel"]
        ),
        st.integers(0, 7),
    ),
    max_size=14,
)


def turns(module: Any, log: list[Any], kind: str, steps: Any) -> None:
    it = TURNS[kind](module)
    log.append("begin")
    asked: list[Any] = []
    jobs: list[Any] = []

    def job(number: int, later: bool) -> Any:
        log.append(f"job {number}")
        if later:
            jobs.append(module.Deferred())
            return jobs[-1]
        if number == 5:
            raise Planned(number)
        return number

    async def inside(number: int) -> Any:
        async with it as got:
            log.append(f"inside {number} {got is it}")
            if number % 2:
                raise Planned(number)
        return number

    for step, number in steps:
        try:
            if step == "acquire":
                asked.append(it.acquire())
            elif step == "acquire and release":
                asked.append(it.acquire().addCallback(lambda got: got.release()))
            elif step.startswith("run"):
                asked.append(it.run(job, number, later=step == "run later"))
            elif step == "with":
                asked.append(module.ensureDeferred(inside(number)))
            elif step == "release":
                it.release()
            elif step == "finish" and jobs:
                jobs.pop(number % len(jobs)).callback("done")
            elif step == "cancel" and asked:
                asked[number % len(asked)].cancel()
        except (AssertionError, Exception) as exc:
            log.append(f"{step} raised {told(exc)}")
        if step not in ("release", "finish", "cancel"):
            name = len(asked)
            asked[-1].addBoth(lambda result, name=name: log.append(f"{name} got {told(result)}"))
        free = not it.locked if kind == "lock" else it.tokens
        log.append((step, int(free), len(it.waiting)))


@pytest.mark.parametrize("kind", TURNS)
@given(turn_steps)
def test_turns_are_had_in_the_same_order(few_objects, kind, steps):
    same(turns, kind, steps)


queue_steps = st.lists(
    st.sampled_from(["put", "put", "get", "get", "get and get", "cancel first", "cancel last"]), max_size=20
)
bounds = st.one_of(st.none(), st.integers(0, 2))


def queueing(module: Any, log: list[Any], size: Any, backlog: Any, steps: Any) -> None:
    queue = module.DeferredQueue(size, backlog)
    log.append((queue.size, queue.backlog))
    asked: list[Any] = []

    def get(again: bool) -> None:
        asked.append(queue.get())
        name = len(asked)

        def got(result: Any) -> None:
            log.append(f"{name} got {told(result)}")
            if again:
                get(False)

        asked[-1].addBoth(got)

    for number, step in enumerate(steps):
        try:
            if step == "put":
                queue.put(number)
            elif step.startswith("get"):
                get(step == "get and get")
            elif asked:
                asked[0 if step == "cancel first" else -1].cancel()
        except Exception as exc:
            log.append(f"{step} raised {told(exc)}")
        log.append((step, len(queue.waiting), list(queue.pending)))


@given(bounds, bounds, queue_steps)
def test_queues_hand_over_in_the_same_order(few_objects, size, backlog, steps):
    same(queueing, size, backlog, steps)


# --- single scenarios ---


def nested_generators(module, log):
    def inner(waited):
        log.append((yield waited))
        return "inner"

    @module.inlineCallbacks
    def outer(waited):
        log.append((yield inner(waited)))
        log.append((yield native(waited)))

    async def native(waited):
        return "native"

    waited = module.Deferred()
    outer(waited).addBoth(lambda r: log.append(told(r)))
    waited.callback("fired")


def a_failure_is_yielded(module, log):
    @module.inlineCallbacks
    def steps():
        failed = module.fail(Planned(1))
        failure = failed.result
        failed.addErrback(lambda f: None)
        try:
            yield failure
        except Planned as exc:
            log.append(exc.args)

    steps()


def no_generator(module, log):
    for returned in (1, None):
        try:
            module.inlineCallbacks(lambda returned=returned: returned)()
        except TypeError:
            log.append("TypeError")


def return_value(module, log):
    @module.inlineCallbacks
    def steps():
        yield module.succeed(1)
        module.returnValue("returned")

    def plain():
        module.returnValue(1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        steps().addBoth(log.append)
        try:
            module.inlineCallbacks(plain)()
        except TypeError:
            log.append("TypeError")


def the_old_timeout(module, log):
    deferred = module.Deferred().addErrback(
        lambda f: log.append((f.type.__name__, str(f.value), f.value.args[:1]))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.timeout(deferred)


def cancelled_generator_waits_in_a_chain(module, log):
    @module.inlineCallbacks
    def steps(waited):
        try:
            yield waited
        finally:
            log.append("finally")

    waited = module.Deferred(lambda d: log.append("canceller"))
    outer = module.succeed(0).addCallback(lambda r: steps(waited)).addBoth(lambda r: log.append(told(r)))
    outer.cancel()


def list_in_a_list(module, log):
    called = [module.Deferred(lambda d, n=n: log.append(f"canceller {n}")) for n in range(2)]
    inner = module.DeferredList(called, consumeErrors=True)
    outer = module.DeferredList([inner, module.succeed(1)])
    outer.addBoth(lambda r: log.append(told(r)))
    outer.cancel()


def list_waited_for_is_cancelled(module, log):
    inner = module.Deferred(lambda d: log.append("canceller"))
    outer = module.succeed(0).addCallback(lambda r: module.gatherResults([inner], consumeErrors=True))
    outer.addBoth(lambda r: log.append(told(r)))
    outer.cancel()


def one_deferred_twice_in_a_race(module, log):
    one = module.Deferred(lambda d: log.append("canceller"))
    module.race([one, one]).addBoth(lambda r: log.append(told(r)))
    one.callback("won")


def constants_and_words(module, log):
    log.append((module.SUCCESS, module.FAILURE))
    failed = module.fail(Planned(1))
    error = module.FirstError(failed.result, 2)
    failed.addErrback(lambda f: None)
    log.append((repr(error), error.index, error == module.FirstError(error.subFailure, 2), error == 2))
    for tokens in (0, -1):
        try:
            module.DeferredSemaphore(tokens)
        except ValueError:
            log.append("ValueError")


def futures(module, log):
    async def main():
        loop = asyncio.get_running_loop()
        value, error, cancelled = module.succeed(1), module.fail(Planned(2)), module.Deferred()
        log.append(await value.asFuture(loop))
        try:
            await error.asFuture(loop)
        except Planned as exc:
            log.append(exc.args)
        future = cancelled.asFuture(loop)
        cancelled.addBoth(lambda r: log.append(("after", told(r))))
        future.cancel()
        await asyncio.sleep(0)
        log.append((value.result, error.result, future.cancelled()))
        for end in ("value", "error", "cancel it", "cancel the future"):
            future = loop.create_future()
            deferred = module.Deferred.fromFuture(future).addBoth(
                lambda r, end=end: log.append((end, told(r)))
            )
            if end == "value":
                future.set_result(3)
            elif end == "error":
                future.set_exception(Planned(4))
            elif end == "cancel it":
                deferred.cancel()
            else:
                future.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(main())


SCENARIOS = [
    each
    for each in list(globals().values())
    if callable(each)
    and getattr(each, "__code__", None)
    and each.__code__.co_varnames[:2] == ("module", "log")
    and each.__code__.co_argcount == 2
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_both_log_the_same_for(scenario):
    same(scenario)
