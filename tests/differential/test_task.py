"""LoopingCall, Cooperator, deferLater and react: the same program on Twisted's and ours, both on Twisted's Clock.

Invariant: for every program without the points listed below, the same calls are made at the same times, the same Deferreds
fire with the same results, and the same calls raise.

Left out, as we differ on purpose (docs/differences-from-twisted.md): intervals that floats cannot tell exactly; a count over
two runs; `Cooperator.stop` with more than one task; an error of what a stopped task waited for.
Times here are eighths of a second, which floats tell exactly.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk import defer as our_defer
from ropewalk import error as our_error
from ropewalk import task as ours
from tests.differential.test_defer import Planned, Reports
from tests.differential.test_waiting import told

theirs = pytest.importorskip(
    "twisted.internet.task", reason="Twisted is not installed: pip install 'ropewalk[test]'"
)
their_defer = pytest.importorskip("twisted.internet.defer")
their_error = pytest.importorskip("twisted.internet.error")
twisted_logger = pytest.importorskip("twisted.logger")

ENGINES = ((ours, our_defer, our_error), (theirs, their_defer, their_error))


class BothLogs(Reports):
    """Also what goes through twisted.python.log, which has a name of its own for the failure."""

    def __call__(self, event: dict[str, Any]) -> None:
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None:
            self.seen.append(told(failure.value))


def same(run: Any, *args: Any) -> None:
    logs = []
    for module, defer, error in ENGINES:
        log: list[Any] = []
        reports = BothLogs()
        logger = logging.getLogger("ropewalk")
        logger.addHandler(reports)
        twisted_logger.globalLogPublisher.addObserver(reports)
        try:
            run(module, defer, error, log, *args)
        finally:
            logger.removeHandler(reports)
            twisted_logger.globalLogPublisher.removeObserver(reports)
        logs.append((log, reports.seen))
    assert logs[0] == logs[1]
    assert logs[0][0]


# --- LoopingCall ---

WORK = ("value", "value", "value", "later", "later", "raise", "fails", "stops", "resets", "takes long")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.integers(0, 40).map(lambda eighths: eighths / 8)),
        st.tuples(st.sampled_from(["start", "start later", "stop", "reset", "finish", "fail"]), st.just(0)),
    ),
    max_size=20,
)


def looping(
    module: Any,
    defer: Any,
    error: Any,
    log: list[Any],
    counted: bool,
    interval: float,
    now: bool,
    work: Any,
    steps: Any,
) -> None:
    clock = theirs.Clock()
    plan = list(work)
    waits: list[Any] = []
    log.append("begin")

    def call(*count: int) -> Any:
        log.append((clock.seconds(), *count))
        kind = plan.pop(0) if plan else "value"
        if kind == "later":
            waits.append(defer.Deferred())
            return waits[-1]
        if kind == "raise":
            raise Planned("raised")
        if kind == "fails":
            return defer.fail(Planned("failed"))
        if kind == "stops":
            it.stop()
        elif kind == "resets":
            it.reset()
        elif kind == "takes long":
            clock.rightNow += 2.125 * interval
        return kind

    it = module.LoopingCall.withCount(call) if counted else module.LoopingCall(call)
    it.clock = clock

    def start(now: bool) -> None:
        it.start(interval, now=now).addBoth(
            lambda result: log.append("ended" if result is it else told(result))
        )

    start(now)
    for step, value in steps:
        try:
            if step == "advance":
                clock.advance(value)
            elif step.startswith("start"):
                if not counted:
                    start(step == "start")
            elif step in ("stop", "reset"):
                getattr(it, step)()
            elif waits:
                waits.pop().callback(1) if step == "finish" else waits.pop().errback(Planned("late"))
        except (AssertionError, Exception) as exc:
            log.append(f"{step} raised {told(exc)}")
        pending = [call.getTime() for call in clock.getDelayedCalls()]
        log.append((step, value, it.running, it.interval, it.starttime, pending))


@pytest.mark.parametrize("counted", [False, True])
@given(
    st.sampled_from([0, 0.25, 1, 3]),
    st.booleans(),
    st.lists(st.sampled_from(WORK), max_size=8),
    steps.map(lambda steps: steps[:12]),
)
def test_loops_tick_at_the_same_times(counted, interval, now, work, steps):
    if interval == 0:
        # Why: an interval of 0 never lets Twisted's Clock come to the end of one advance.
        steps = [step for step in steps if step[0] != "advance"]
    same(looping, counted, interval, now, work, steps)


# --- Cooperator ---

KINDS = ("nothing", "nothing", "fired", "later", "fails", "raise", "pause self", "stop self", "add")
doings = st.lists(
    st.tuples(
        st.sampled_from(["turn", "turn", "turn", "pause", "resume", "stop", "finish", "add", "whenDone"]),
        st.integers(0, 4),
    ),
    max_size=20,
)


class Schedule:
    """Turns that are taken when told to."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, function: Any) -> Any:
        self.calls.append(function)
        return self

    def cancel(self) -> None:
        self.calls.pop()


def cooperating(
    module: Any, defer: Any, error: Any, log: list[Any], length: int, started: bool, plans: Any, doings: Any
) -> None:
    schedule = Schedule()
    taken = 0

    def is_over() -> bool:
        nonlocal taken
        taken += 1
        return taken % length == 0

    cooperator = module.Cooperator(lambda: is_over, schedule, started)
    tasks: list[Any] = []
    waits: list[Any] = []

    def work(name: int, plan: Any) -> Any:
        for kind in plan:
            log.append(f"{name} {kind}")
            if kind == "fired":
                yield defer.succeed(1)
            elif kind == "later":
                waits.append(defer.Deferred())
                yield waits[-1]
            elif kind == "fails":
                yield defer.fail(Planned(name))
            elif kind == "raise":
                raise Planned(name)
            elif kind == "add":
                add(["nothing"])
                yield
            elif kind != "nothing":
                getattr(tasks[name], kind.split()[0])()
                yield
            else:
                yield

    def add(plan: Any) -> None:
        name = len(tasks)
        tasks.append(None)
        iterator = work(name, plan)
        tasks[name] = cooperator.cooperate(iterator)
        watch(name)

    def watch(name: int) -> None:
        tasks[name].whenDone().addBoth(
            lambda result: log.append(
                f"{name} is done: {told(result) if not hasattr(result, 'send') else 'its iterator'}"
            )
        )

    for plan in plans:
        add(plan)
    log.append(len(schedule.calls))
    for doing, number in doings:
        try:
            if doing == "turn":
                if schedule.calls:
                    schedule.calls.pop(0)()
                else:
                    cooperator.start()
            elif doing == "add":
                add(["nothing"] * number)
            elif doing == "finish":
                if waits:
                    waits.pop(0).callback(1)
            elif tasks and doing == "whenDone":
                watch(number % len(tasks))
            elif tasks:
                getattr(tasks[number % len(tasks)], doing)()
        except Exception as exc:
            log.append(f"{doing} raised {told(exc)}")
        log.append((doing, len(schedule.calls), cooperator.running))


@given(
    st.integers(1, 3),
    st.booleans(),
    st.lists(st.lists(st.sampled_from(KINDS), max_size=4), max_size=3),
    doings,
)
def test_tasks_take_the_same_turns(length, started, plans, doings):
    same(cooperating, length, started, plans, doings)


# --- react ---


class Reactor:
    """What react asks of a reactor, noted; it runs what is asked for, until it is stopped."""

    def __init__(self, log: list[Any], error: Any, stopped: bool) -> None:
        self.log, self.error, self.stopped = log, error, stopped
        self.clock = theirs.Clock()
        self.callLater = self.clock.callLater
        self.triggers: list[Any] = []
        self.when_running: list[Any] = []
        self.running = False

    def addSystemEventTrigger(self, phase: str, event: str, call: Any, *args: Any) -> None:
        self.triggers.append(call)

    def callWhenRunning(self, call: Any, *args: Any) -> None:
        if self.running:
            call(*args)
        else:
            self.when_running.append((call, args))

    def run(self, installSignalHandlers: bool = True) -> None:
        self.log.append("run")
        self.running = True
        for call, args in self.when_running:
            call(*args)
        if self.running:
            self.clock.advance(1)
        if self.running and not self.stopped:
            self.stop()  # as by a signal
        self.log.append("has run")

    def stop(self) -> None:
        self.log.append("stop")
        if self.stopped or not self.running:
            raise self.error.ReactorNotRunning
        self.running = False
        for call in self.triggers:
            call()


MAINS = (
    "value",
    "raises",
    "exits",
    "waits",
    "waits and raises",
    "waits and exits",
    "never ends",
    "deferred",
    "failed",
)


def reacting(module: Any, defer: Any, error: Any, log: list[Any], kind: str, stopped: bool) -> None:
    def wait(reactor: Any) -> Any:
        deferred = defer.Deferred()
        reactor.callLater(0.5, deferred.callback, None)
        return deferred

    async def main(reactor: Any, *args: Any) -> Any:
        log.append(("main", args, reactor.running))
        if kind.startswith("waits"):
            await wait(reactor)
            log.append("waited")
        if "raises" in kind:
            raise Planned("main")
        if kind == "exits":
            raise SystemExit(5)
        if kind == "never ends":
            await waits_for_ever
        return "value"

    def deferred(reactor: Any, *args: Any) -> Any:
        return defer.succeed(1) if kind == "deferred" else defer.fail(SystemExit(6))

    waits_for_ever = defer.Deferred()
    reactor = Reactor(log, error, stopped)
    try:
        module.react(deferred if kind in ("deferred", "failed") else main, ("a", 1), _reactor=reactor)
    except SystemExit as exc:
        log.append(f"exits with {exc.code}")


@pytest.mark.parametrize("stopped", [False, True], ids=["", "though it is not running"])
@pytest.mark.parametrize("kind", [kind for kind in MAINS if kind != "waits and exits"])
def test_react_does_and_exits_the_same(kind, stopped):
    same(reacting, kind, stopped)


SCRIPT = """
import sys
from {task} import react
from {defer} import Deferred
async def main(reactor):
    reactor.callLater(0, print, "ready", flush=True)
    reactor.addSystemEventTrigger("during", "shutdown", print, "shutdown", flush=True)
    await Deferred()
react(main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_script_that_is_told_to_end_by_a_signal_exits_the_same(number):
    ends = []
    for task, defer in (
        ("ropewalk.task", "ropewalk.defer"),
        ("twisted.internet.task", "twisted.internet.defer"),
    ):
        script = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(task=task, defer=defer)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert script.stdout is not None
        assert script.stdout.readline() == "ready\n"
        script.send_signal(number)
        out, said = script.communicate(timeout=30)
        ends.append((script.returncode, out, said))
    assert ends[0] == ends[1] == (0, "shutdown\n", "")


# --- single scenarios ---


def later(module, defer, error, log):
    clock = theirs.Clock()
    module.deferLater(clock, 1, lambda *a, **k: (a, k), 1, b=2).addBoth(
        lambda r: log.append((clock.seconds(), r))
    )
    module.deferLater(clock, 2, int, "no number").addBoth(lambda r: log.append((clock.seconds(), told(r))))
    module.deferLater(clock, 3).addBoth(lambda r: log.append((clock.seconds(), r)))
    module.deferLater(clock, 4, lambda: defer.fail(Planned(1))).addBoth(lambda r: log.append(told(r)))
    for _ in range(4):
        clock.advance(1)


def later_cancelled(module, defer, error, log):
    clock = theirs.Clock()
    waited = module.deferLater(clock, 1, log.append, "called").addErrback(lambda f: log.append(told(f)))
    waited.cancel()
    log.append(clock.getDelayedCalls())
    clock.advance(2)


def attributes_of_a_loop(module, defer, error, log):
    it = module.LoopingCall(divmod, 7, 2)
    it.clock = theirs.Clock()
    log.append((it.f is divmod, it.a, it.kw, it.interval, it.starttime, it.running, it.call, repr(it)))
    ended = it.start(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.append((it.deferred is ended, repr(it)))
    it.stop()
    for wrong in (lambda: it.start(-1), it.stop, it.reset):
        try:
            wrong()
        except (AssertionError, ValueError) as exc:
            log.append(type(exc).__name__)


def a_stopped_cooperator(module, defer, error, log):
    schedule = Schedule()
    cooperator = module.Cooperator(scheduler=schedule)
    cooperator.coiterate(iter([1])).addBoth(lambda r: log.append(told(r)))
    cooperator.stop()
    log.append((cooperator.running, len(schedule.calls)))
    cooperator.coiterate(iter([1])).addBoth(lambda r: log.append(told(r)))
    done = defer.Deferred().addBoth(lambda r: log.append(told(r)))
    log.append(cooperator.coiterate(iter([1]), done) is done)
    cooperator.start()
    cooperator.coiterate(iter([1])).addBoth(lambda r: log.append(type(r).__name__))
    schedule.calls.pop()()


def families_of_errors(module, defer, error, log):
    names = ["SchedulerStopped", "TaskFinished", "TaskDone", "TaskStopped", "TaskFailed", "NotPaused"]
    for name in names:
        each = getattr(module, name)
        log.append(
            (
                name,
                [
                    other
                    for other in ("TaskFinished", "SchedulerError")
                    if issubclass(each, getattr(module, other))
                ],
            )
        )


@pytest.mark.parametrize(
    "scenario",
    [later, later_cancelled, attributes_of_a_loop, a_stopped_cooperator, families_of_errors],
    ids=lambda s: s.__name__,
)
def test_both_log_the_same_for(scenario):
    same(scenario)
