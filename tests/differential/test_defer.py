"""The same program of Deferreds, run on Twisted's and on ours, must log the same events.

Invariant: for every program without the points listed below, the callbacks run in the same order with the same
results, the same calls raise, the end states are equal, and the same errors are reported as unhandled.

Left out of the programs, as we differ on purpose (docs/differences-from-twisted.md):
a Deferred returned by its own callback; `pause` within a callback; contextvars; SystemExit and KeyboardInterrupt;
what is left in a Deferred that was awaited. Also `pause` of a Deferred that waits for another: when that one fires,
Twisted does not run what was added to it afterwards; and an `unpause` too many.
An error left in a paused Deferred is reported by ours only.
"""

from __future__ import annotations

import gc
import logging
from collections import Counter
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk import defer as ours
from ropewalk.failure import Failure

theirs = pytest.importorskip(
    "twisted.internet.defer", reason="Twisted is not installed: pip install 'ropewalk[test]'"
)
twisted_failure = pytest.importorskip("twisted.python.failure")
twisted_logger = pytest.importorskip("twisted.logger")

DEFERREDS = 4
FAILURES = (Failure, twisted_failure.Failure)


class Planned(Exception):
    """Raised by the programs."""


class Reports(logging.Handler):
    """Counts errors reported as unhandled, by the names of their types."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.seen.append(describe(record.exc_info[1]))

    def __call__(self, event: dict[str, Any]) -> None:
        if "log_failure" in event:
            self.seen.append(describe(event["log_failure"].value))


def describe(value: object) -> str:
    """What a result is, in words that do not tell whose it is."""
    if isinstance(value, FAILURES):
        return f"Failure({describe(value.value)})"
    if isinstance(value, Planned):
        return f"Planned{value.args}"
    if isinstance(value, BaseException):
        return type(value).__name__
    if isinstance(value, (ours.Deferred, theirs.Deferred)):
        return "Deferred"
    return repr(value)


class Run:
    """One program on one implementation."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.log: list[str] = []
        self.pauses = [0] * DEFERREDS
        self.each = [module.Deferred(self.canceller(n)) for n in range(DEFERREDS)]

    def canceller(self, number: int) -> Any:
        if number == 0:
            return None

        def cancelled(deferred: Any) -> None:
            self.log.append(f"canceller {number}")
            if number == 1:
                deferred.callback("cancelled to a value")
            elif number == 2:
                deferred.errback(Planned("cancelled"))

        return cancelled

    def step(self, owner: int, name: str, plan: tuple[str, int]) -> Any:
        """A callback that logs, then does as planned."""
        kind, number = plan

        def step(result: Any, *args: Any, **keywords: Any) -> Any:
            self.log.append(f"{name} on {owner} got {describe(result)} {args} {keywords}")
            if kind == "value":
                return number
            if kind == "same":
                return result
            if kind == "raise":
                raise Planned(number)
            if kind == "trap" and isinstance(result, FAILURES):
                result.trap(Planned)
                return "trapped"
            if kind == "wait" and owner < number < DEFERREDS:
                return self.each[number]
            if kind == "fired":
                return self.module.succeed(number)
            if kind == "failed":
                return self.module.fail(Planned(number))
            if kind == "add":
                self.each[owner].addBoth(self.step(owner, f"{name}+", ("same", 0)))
            if kind == "fire":
                self.do(("callback", number % DEFERREDS, ("value", 77), ("same", 0)))
            return "nothing"

        return step

    def do(self, operation: tuple[Any, ...]) -> None:
        kind, number, one, two = operation
        deferred = self.each[number]
        name = f"{kind}{len(self.log)}"
        try:
            if kind == "addCallbacks":
                good, bad = self.step(number, f"{name}c", one), self.step(number, f"{name}e", two)
                deferred.addCallbacks(good, bad, callbackArgs=(1,), errbackKeywords={"key": 2})
            elif kind in ("addCallback", "addErrback", "addBoth"):
                getattr(deferred, kind)(self.step(number, name, one), *two[:1], key=two[1])
            elif kind == "callback":
                deferred.callback(one[1])
            elif kind == "errback":
                deferred.errback(Planned(one[1]))
            elif kind == "cancel":
                deferred.cancel()
            elif kind == "pause" and describe(getattr(deferred, "result", None)) != "Deferred":
                self.pauses[number] += 1
                deferred.pause()
            elif kind == "unpause" and self.pauses[number]:
                self.pauses[number] -= 1
                deferred.unpause()
        except Exception as exc:
            self.log.append(f"{kind} raised {describe(exc)}")

    def ended(self) -> list[str]:
        return [
            f"{number}: called {each.called}, paused {each.paused}, {describe(getattr(each, 'result', 'none'))}"
            for number, each in enumerate(self.each)
        ]


def run(module: ModuleType, program: list[tuple[Any, ...]]) -> tuple[list[str], list[str], Counter[str]]:
    """What the program logged, what it left, and which errors were reported as unhandled."""
    reports = Reports()
    logger = logging.getLogger("ropewalk")
    logger.addHandler(reports)
    twisted_logger.globalLogPublisher.addObserver(reports)
    try:
        one = Run(module)
        for operation in program:
            one.do(operation)
        log, ended = one.log, one.ended()
        del one, operation
        gc.collect()
    finally:
        logger.removeHandler(reports)
        twisted_logger.globalLogPublisher.removeObserver(reports)
    return log, ended, Counter(reports.seen)


plans = st.tuples(
    st.sampled_from(["value", "same", "raise", "trap", "wait", "wait", "fired", "failed", "add", "fire"]),
    st.integers(0, 5),
)
operations = st.tuples(
    st.sampled_from(
        ["addCallbacks", "addCallback", "addErrback", "addBoth"] * 3
        + ["callback", "callback", "errback", "cancel", "pause", "unpause"]
    ),
    st.integers(0, DEFERREDS - 1),
    plans,
    plans,
)


@pytest.fixture(scope="module")
def few_objects():
    """Why: each program ends with a garbage collection, which need not look at what was there before."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def same(program: list[tuple[Any, ...]]) -> None:
    log, ended, reported = run(ours, program)
    their_log, their_ended, their_reported = run(theirs, program)
    assert log == their_log
    assert ended == their_ended
    if all("paused 0" in each for each in ended):
        assert reported == their_reported
    else:
        assert reported >= their_reported


@given(st.lists(operations, min_size=1, max_size=30))
def test_any_program_logs_the_same_events(few_objects, program):
    same(program)


# --- single scenarios, each run on both modules ---


class Clock:
    """Calls later when told to."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def callLater(self, delay: float, function: Any) -> Any:
        call = ClockCall(delay, function)
        self.calls.append(call)
        return call


class ClockCall:
    def __init__(self, delay: float, function: Any) -> None:
        self.delay, self.function, self.state = delay, function, "active"

    def active(self) -> bool:
        return self.state == "active"

    def cancel(self) -> None:
        assert self.active()
        self.state = "cancelled"

    def run(self) -> None:
        self.state = "ran"
        self.function()


def timed_out(module, log):
    clock = Clock()
    deferred = module.Deferred(lambda d: log.append("cancelled"))
    deferred.addTimeout(3, clock).addBoth(lambda r: log.append((r.type.__name__, r.value.args)))
    clock.calls[0].run()
    log.append(clock.calls[0].state)


def in_time(module, log):
    clock = Clock()
    deferred = module.Deferred().addTimeout(3, clock).addBoth(log.append)
    deferred.callback("value")
    log.append((clock.calls[0].delay, clock.calls[0].state))


def failed_in_time(module, log):
    clock = Clock()
    module.fail(Planned(1)).addTimeout(3, clock).addBoth(lambda r: log.append(describe(r)))
    log.append(clock.calls[0].state)


def timed_out_with_a_value(module, log):
    clock = Clock()
    deferred = module.Deferred(lambda d: d.callback("late value"))
    deferred.addTimeout(3, clock).addBoth(log.append)
    clock.calls[0].run()


def timed_out_with_another_error(module, log):
    clock = Clock()
    deferred = module.Deferred(lambda d: d.errback(Planned(2)))
    deferred.addTimeout(3, clock).addBoth(lambda r: log.append(describe(r)))
    clock.calls[0].run()


def own_word_for_a_timeout(module, log):
    clock = Clock()
    deferred = module.Deferred()
    deferred.addTimeout(3, clock, lambda r, seconds: (describe(r), seconds)).addBoth(log.append)
    clock.calls[0].run()


def cancelled_before_its_timeout(module, log):
    clock = Clock()
    deferred = module.Deferred().addTimeout(3, clock).addBoth(lambda r: log.append(describe(r)))
    deferred.cancel()
    log.append(clock.calls[0].state)


def awaited_value_and_error(module, log):
    async def steps(first, second):
        log.append(await first)
        try:
            await second
        except Planned as exc:
            log.append(describe(exc))
        return "end"

    first, second = module.Deferred(), module.Deferred()
    module.Deferred.fromCoroutine(steps(first, second)).addBoth(log.append)
    log.append("started")
    first.callback(1)
    second.errback(Planned(3))


def awaited_twice(module, log):
    async def steps(value, error):
        log.append(await value)
        log.append(await value)
        for _ in range(2):
            try:
                await error
            except Planned as exc:
                log.append(describe(exc))

    module.ensureDeferred(steps(module.succeed(1), module.fail(Planned(4)))).addBoth(log.append)


def coroutine_that_raises(module, log):
    async def steps():
        raise Planned(5)

    module.maybeDeferred(steps).addBoth(lambda r: log.append(describe(r)))


def coroutine_cancelled(module, log):
    async def steps(waited):
        try:
            await waited
        except module.CancelledError:
            log.append("seen")
            raise

    waited = module.Deferred(lambda d: log.append("canceller"))
    deferred = module.ensureDeferred(steps(waited)).addBoth(lambda r: log.append(describe(r)))
    deferred.cancel()


def coroutine_that_takes_its_cancellation(module, log):
    async def steps(waited, other):
        try:
            await waited
        except module.CancelledError:
            log.append("seen")
        return await other

    other = module.Deferred()
    deferred = module.ensureDeferred(steps(module.Deferred(), other)).addBoth(
        lambda r: log.append(describe(r))
    )
    deferred.cancel()
    log.append("went on")
    other.callback("value")


def coroutine_cancelled_twice(module, log):
    async def steps(*waited):
        for each in waited:
            try:
                await each
            except module.CancelledError:
                log.append("seen")
        return "end"

    waited = [module.Deferred(), module.Deferred()]
    deferred = module.ensureDeferred(steps(*waited)).addBoth(lambda r: log.append(describe(r)))
    deferred.cancel()
    deferred.cancel()


def generator_driven(module, log):
    def steps(first):
        log.append((yield first))
        log.append((yield module.succeed(2)))
        try:
            yield module.fail(Planned(6))
        except Planned as exc:
            log.append(describe(exc))
        return "end"

    first = module.Deferred()
    module.Deferred.fromCoroutine(steps(first)).addBoth(log.append)
    first.callback(1)


def coroutine_within_a_chain(module, log):
    async def steps(waited):
        return 1 + await waited

    waited = module.Deferred()
    first = module.Deferred()
    first.addCallback(lambda r: module.ensureDeferred(steps(waited))).addBoth(log.append)
    first.callback(None)
    log.append("waits")
    waited.callback(1)


def made_of_anything(module, log):
    for made in (
        module.maybeDeferred(lambda: 1),
        module.maybeDeferred(lambda: module.succeed(2)),
        module.maybeDeferred(lambda: module.fail(Planned(7))),
        module.maybeDeferred(lambda a, b: a + b, 3, b=4),
        module.maybeDeferred(int, "no number"),
        module.execute(int, "5"),
        module.execute(int, "no number"),
    ):
        made.addBoth(lambda r: log.append(describe(r)))


def ensured_deferred_is_itself(module, log):
    deferred = module.Deferred()
    log.append(module.ensureDeferred(deferred) is deferred)


def no_coroutine(module, log):
    for make in (module.ensureDeferred, module.Deferred.fromCoroutine):
        try:
            make(5)
        except module.NotACoroutineError as exc:
            log.append(isinstance(exc, TypeError))


def error_being_handled(module, log):
    deferred = module.Deferred()
    try:
        raise Planned(8)
    except Planned:
        deferred.errback()
        module.fail().addErrback(lambda f: log.append(describe(f)))
    deferred.addErrback(lambda f: log.append(describe(f)))
    for call in (module.Deferred().errback, module.fail):
        try:
            call()
        except Exception as exc:
            log.append(type(exc).__name__)


def failure_as_a_value(module, log):
    failure = (Failure if module is ours else twisted_failure.Failure)(Planned(9))
    deferred = module.Deferred()
    deferred.callback(failure)
    deferred.addErrback(lambda f: log.append(f is failure))
    module.succeed(1).addCallback(lambda r: failure).addErrback(lambda f: log.append(f is failure))


def chained_by_hand(module, log):
    first, second, third = (module.Deferred() for _ in range(3))
    first.addCallback(lambda r: r + 1).chainDeferred(second)
    second.addCallback(log.append)
    first.callback(1)
    first.addCallback(log.append)
    module.fail(Planned(10)).chainDeferred(third)
    third.addErrback(lambda f: log.append(describe(f)))


def subclass_is_chained(module, log):
    class Named(module.Deferred):
        name = "x"

    inner = Named()
    module.succeed(0).addCallback(lambda r: inner).addCallback(log.append)
    inner.callback("through")


def late_result_after_cancel(module, log):
    deferred = module.Deferred().addErrback(lambda f: log.append(describe(f)))
    deferred.cancel()
    deferred.callback("dropped once")
    try:
        deferred.callback("not twice")
    except module.AlreadyCalledError:
        log.append("AlreadyCalledError")


def told_by_repr(module, log):
    def plain(deferred):
        return deferred.replace(hex(id(waiting))[2:], "X").replace(hex(id(inner))[2:], "Y")

    waiting, inner = module.Deferred(), module.Deferred()
    log.append(plain(repr(waiting)))
    waiting.addCallback(lambda r: inner)
    waiting.callback(1)
    log.append(plain(repr(waiting)))
    inner.callback("value")
    log.append(plain(repr(waiting)))


SCENARIOS = [
    each
    for name, each in list(globals().items())
    if callable(each)
    and getattr(each, "__code__", None)
    and each.__code__.co_varnames[:2] == ("module", "log")
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_both_log_the_same_for(scenario):
    our_log: list[Any] = []
    their_log: list[Any] = []
    scenario(ours, our_log)
    scenario(theirs, their_log)
    gc.collect()
    assert our_log == their_log
    assert our_log
