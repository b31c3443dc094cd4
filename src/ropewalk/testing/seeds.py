"""Many seeds for one test: run it in many simulated worlds, and tell all about the shortest that failed.

    @simulate(seeds=200)
    def test_every_message_arrives(simulation):
        ...

The decorator only writes down what is wanted; the function stays what it was and can be called with a `Simulation` of one's
own. Who runs it: the pytest plugin (plugin.py), or `ropewalk simulate FILE`. Both come here.

A seed fails if the test raises, or if something was logged as an error, until its world is closed and gone: a callback that raised
is a failure also where the engine has dealt with it and gone on, and so is a Deferred's failure that nobody took. Of the seeds that failed, the shortest (fewest turns of loops) is run once more, now
with a recorder at each reactor, and that is what the report shows: the seed, the misfortunes, the timeline of every
connection. Why once more: recording costs, and failures are rare; and a second run that differs from the first proves that
the program asks something else than its seed (a real clock, a global `random`, the order of a set), which is told.

It must never know pytest, nor the command line.
"""

from __future__ import annotations

import gc
import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from ropewalk.defer import Deferred
from ropewalk.event import Event
from ropewalk.failure import Failure
from ropewalk.observe import Recorder
from ropewalk.simulation import Host, Simulation
from ropewalk.task.later import resultOf

__all__ = ["Settings", "Trial", "Verdict", "run_seeds", "seed_of", "settings_of", "simulate"]

Seed = int | str
F = TypeVar("F", bound=Callable[..., object])

_ATTRIBUTE = "__simulated__"
# How many worlds a test is run in unless told otherwise. Why: at some thousand turns each they take about a second.
SEEDS = 100
# After so many seeds that failed, no more are tried: the shortest of them is short enough.
MOST_FAILURES = 20
_log = logging.getLogger("ropewalk")


class LoggedErrors(AssertionError):
    """Something was logged as an error: a callback that raised, a Deferred's failure that nobody handled."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `simulate` was told.

    Args:   seeds: which worlds.
            at_rest: whether nothing may be left open at the end.
            allow: exceptions that may be logged.
    """

    seeds: Sequence[Seed] = range(SEEDS)
    at_rest: bool = False
    allow: tuple[type[BaseException], ...] = ()


@dataclass(slots=True)
class Trial:
    """What became of a test in one world.

    Args:   error: how it failed, as a traceback; "" if it did not.
            turns: of loops, in all; virtual_seconds: how long that took there.
            trace_hash: what happened, in hex; equal hashes are equal runs.
            told: the timelines and what was logged, if it was observed.
            exception: the error itself, in the process in which it was raised.
    """

    seed: Seed
    error: str = ""
    turns: int = 0
    virtual_seconds: float = 0.0
    trace_hash: str = ""
    told: str = ""
    exception: BaseException | None = field(default=None, compare=False)


@dataclass(slots=True)
class Verdict:
    """What became of a test in many worlds: how many it ran in, and those in which it failed."""

    ran: int = 0
    turns: int = 0
    failed: list[Trial] = field(default_factory=list)
    # Why the test has skipped itself, if it has.
    skipped: str = ""
    # The shortest of those, run once more and told in full; None if none failed.
    shown: Trial | None = None
    repeats: bool = True

    def shortest(self) -> Trial | None:
        """The failure with the fewest turns; of equal ones the first."""
        return min(self.failed, key=lambda trial: trial.turns, default=None)

    def summary(self) -> str:
        """One or two lines: how many failed, and which seed is the shortest."""
        shown = self.shown
        if self.skipped:
            return f"skipped: {self.skipped}"
        if shown is None:
            return f"{self.ran} seeds, none failed"
        others = [str(each.seed) for each in self.failed if each.seed != shown.seed]
        also = f" (also {', '.join(others[:10])}{' …' if len(others) > 10 else ''})" if others else ""
        shortest = f"{shown.turns} turns, {shown.virtual_seconds:.6g} virtual seconds"
        failed = f"{len(self.failed)} of {self.ran} seeds failed"
        lines = [f"{failed}; the shortest is seed {shown.seed}{also}: {shortest}"]
        if not self.repeats:
            lines.append(
                "Run once more with the same seed it went otherwise: something in it does not depend on the seed "
                "(a real clock, the module random, the order of a set, an object left over from the last run)"
            )
        return "\n".join(lines)


@overload
def simulate(function: F, /) -> F: ...
@overload
def simulate(
    *,
    seeds: int | Iterable[Seed] = SEEDS,
    atRest: bool = False,
    allow: type[BaseException] | tuple[type[BaseException], ...] = (),
) -> Callable[[F], F]: ...
def simulate(
    function: Any = None,
    /,
    *,
    seeds: int | Iterable[Seed] = SEEDS,
    atRest: bool = False,
    allow: type[BaseException] | tuple[type[BaseException], ...] = (),
) -> Any:
    """Run a test in many simulated worlds.

    Args:    function: takes `simulation`, a new Simulation for each seed, besides fixtures of pytest, which are the same for
                 all seeds. If it returns an awaitable, the world goes on until that has its result.
             seeds: how many (0, 1, 2 …), or which: numbers and texts.
             atRest: whether the test fails if anything is still open when it returns (`Simulation.checkAtRest`).
             allow: exceptions that callbacks may raise; any other that is logged makes the seed fail.
    Returns: the function itself.
    Raises:  ValueError for no seeds; TypeError for seeds that are neither numbers nor texts, for `allow` that names no exceptions,
             for a function without the parameter `simulation`, and for a generator, whose body would not be run.
    """
    settings = Settings(_checked_seeds(seeds), atRest, _checked_exceptions(allow))

    def mark(function: F) -> F:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function!r} is a generator: it has a yield in it, and would not be run")
        if "simulation" not in inspect.signature(function).parameters:
            raise TypeError(f"{function!r} needs a parameter named simulation")
        setattr(function, _ATTRIBUTE, settings)
        return function

    return mark if function is None else mark(function)


def _checked_seeds(seeds: int | Iterable[Seed]) -> Sequence[Seed]:
    if isinstance(seeds, (str, bytes, bool)):
        raise TypeError(f"seeds is a number of seeds, or the seeds themselves, not {seeds!r}")
    chosen: Sequence[Seed] = range(seeds) if isinstance(seeds, int) else tuple(seeds)
    if not chosen:
        raise ValueError(f"a test needs one seed at least, not seeds={seeds!r}")
    for seed in chosen if isinstance(chosen, tuple) else ():
        if not isinstance(seed, (int, str)) or isinstance(seed, bool):
            raise TypeError(f"a seed is a whole number or a text, not {seed!r}")
    return chosen


def _checked_exceptions(allow: object) -> tuple[type[BaseException], ...]:
    every = allow if isinstance(allow, tuple) else (allow,)
    for each in every:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"allow is an exception class or a tuple of them, not {allow!r}")
    return every


def settings_of(function: object) -> Settings | None:
    """What `simulate` was told about a function; None if it was not decorated."""
    found = getattr(function, _ATTRIBUTE, None)
    return found if isinstance(found, Settings) else None


def seed_of(text: str) -> Seed:
    """The seed that a command line names: a number if it is written as one, else a text."""
    try:
        return int(text) if str(int(text)) == text else text
    except ValueError:
        return text


def run_seeds(
    function: Callable[..., object],
    settings: Settings,
    arguments: Mapping[str, Any] | None = None,
    passing: tuple[type[BaseException], ...] = (),
) -> Verdict:
    """Run a test with each seed. What failed is told by `show`, once there are no more seeds.

    Args:   arguments: what the test is called with besides `simulation`.
            passing: exceptions that are no failures, and leave; KeyboardInterrupt always does.
    """
    verdict = Verdict()
    # Why: what was there before, a whole test run perhaps, need not be looked at again for each world.
    gc.collect()
    gc.freeze()
    try:
        for seed in settings.seeds:
            trial = run_seed(function, seed, settings, arguments or {}, passing)
            if _is_skip(trial.exception):
                verdict.skipped = str(trial.exception) or "no reason was given"
                break
            # Why forgotten: it holds the frames of its world, and the one that is shown is run again.
            trial.exception = None
            verdict.ran += 1
            verdict.turns += trial.turns
            if trial.error:
                verdict.failed.append(trial)
                if len(verdict.failed) >= MOST_FAILURES:
                    break
    finally:
        gc.unfreeze()
    return verdict


def show(
    verdict: Verdict,
    function: Callable[..., object],
    settings: Settings,
    arguments: Mapping[str, Any] | None = None,
    passing: tuple[type[BaseException], ...] = (),
) -> None:
    """Run the shortest failure of a verdict once more, observed."""
    shortest = verdict.shortest()
    if shortest is not None:
        again = run_seed(function, shortest.seed, settings, arguments or {}, passing, is_observed=True)
        verdict.repeats = bool(again.error) and again.trace_hash == shortest.trace_hash
        verdict.shown = again if again.error else shortest


def run_seed(
    function: Callable[..., object],
    seed: Seed,
    settings: Settings,
    arguments: Mapping[str, Any],
    passing: tuple[type[BaseException], ...] = (),
    *,
    is_observed: bool = False,
) -> Trial:
    """Run a test in one world."""
    recordings: list[Recording] = []

    def observe(host: Host) -> Recording:
        recordings.append(Recording(host))
        return recordings[-1]

    trial = Trial(seed)
    with _Listening(_log) as logged:
        sim = Simulation(seed, observe=observe if is_observed else None)
        start = sim.now
        try:
            _finish(sim, function(simulation=sim, **arguments))
            logged.check(settings.allow)
            if settings.at_rest:
                sim.checkAtRest()
        except BaseException as exc:
            # Why all others: a test that leaves by SystemExit has not passed.
            if isinstance(exc, (KeyboardInterrupt, *passing)):
                raise
            _failed(trial, exc)
        finally:
            trial.turns, trial.virtual_seconds = sim.turns, sim.now - start
            trial.trace_hash = sim.traceHash()
            if is_observed:
                trial.told = "\n\n".join(_told(sim, start, recordings, logged))
            sim.close()
        if not trial.error:
            # Why once more: callbacks raise at the end too, and a failure that nobody took is told when its Deferred goes.
            del sim
            gc.collect()
            try:
                logged.check(settings.allow)
            except LoggedErrors as exc:
                _failed(trial, exc)
    return trial


def _failed(trial: Trial, exc: BaseException) -> None:
    trial.exception = exc
    trial.error = "".join(traceback.format_exception(exc))


def _is_skip(exc: BaseException | None) -> bool:
    """Whether the test has skipped itself, by pytest's or unittest's means. Why by name: neither need be installed."""
    return type(exc).__name__ in ("Skipped", "SkipTest")


def _finish(sim: Simulation, result: object) -> None:
    """Let the world go on until an awaitable has its result."""
    if not isinstance(result, (Deferred, Awaitable)):
        return
    results: list[object] = []
    waiting = resultOf(lambda: result)
    waiting.addBoth(results.append)

    def the_test_has_its_result() -> bool:
        return bool(results)

    sim.run(until=the_test_has_its_result)
    if isinstance(results[0], Failure):
        results[0].raiseException()


def _told(sim: Simulation, start: float, recordings: list[Recording], logged: _Listening) -> Iterator[str]:
    for storm in sim.storms:
        if storm.log:
            lines = (f"{time - start:10.3f} s  {what}" for time, what in storm.log)
            yield "storm:\n" + "\n".join(lines)
    connections = [each for recording in recordings for each in recording.told()]
    # Why sorted: what happened at the same time on several hosts is read together.
    for began, text in sorted(connections, key=lambda each: each[0]):
        yield f"at {began - start:.3f} s, {text}"
    if logged.records:
        yield "logged:\n" + "\n".join(logged.lines())


class Recording:
    """An observer of one reactor: what became of each of its connections, and when that began."""

    def __init__(self, host: Host) -> None:
        self._name = host.name + (f", boot {host.boots + 1}" if host.boots else "")
        self._recorder = Recorder()
        self._began: dict[int, float] = {}

    def __call__(self, event: Event) -> None:
        self._began.setdefault(event.connection, event.time)
        self._recorder(event)

    def told(self) -> list[tuple[float, str]]:
        return [
            (self._began[number], f"{self._name}: {self._recorder.timeline(number).text()}")
            for number in self._recorder
        ]


class _Listening(logging.Filter):
    """Keeps what a logger is told as an error, and keeps it from everybody else meanwhile.

    Whatever is no error goes on as before. A logger that was switched off is switched on: what is wrong must be seen.
    """

    def __init__(self, log: logging.Logger) -> None:
        super().__init__()
        self._log = log
        self._level = log.level
        self._disabled = logging.root.manager.disable
        self.records: list[logging.LogRecord] = []

    def __enter__(self) -> _Listening:
        self._log.addFilter(self)
        logging.disable(min(self._disabled, logging.ERROR - 1))
        if not self._log.isEnabledFor(logging.ERROR):
            self._log.setLevel(logging.ERROR)
        return self

    def __exit__(self, *what: object) -> None:
        self._log.removeFilter(self)
        self._log.setLevel(self._level)
        logging.disable(self._disabled)
        # Why: an exception that was logged holds the frames of a world that has ended.
        self.records.clear()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            return True
        self.records.append(record)
        return False

    def lines(self) -> list[str]:
        return [self._line(record) for record in self.records]

    def _line(self, record: logging.LogRecord) -> str:
        exc = _exception(record)
        return record.getMessage() + ("" if exc is None else "\n" + "".join(traceback.format_exception(exc)))

    def check(self, allowed: tuple[type[BaseException], ...]) -> None:
        """Raises: LoggedErrors unless all that was logged is allowed."""
        bad = [record for record in self.records if not isinstance(_exception(record), allowed)]
        if bad:
            exc = _exception(bad[0])
            raise LoggedErrors(
                f"{len(bad)} errors were logged:\n" + "\n".join(record.getMessage() for record in bad)
            ) from exc


def _exception(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None
