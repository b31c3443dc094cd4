"""Many seeds for one test: run it in many simulated worlds, and tell all about the shortest that failed.

    @simulate(seeds=200)
    def test_every_message_arrives(simulation):
        ...

The decorator only writes down what is wanted; the function stays what it was and can be called with a `Simulation` of one's
own. Who runs it: the pytest plugin (plugin.py), or `ropewalk simulate FILE`. Both come here.

A seed fails if the test raises, or if something was logged as an error: a callback that raised is a failure also where the
engine has dealt with it and gone on. Of the seeds that failed, the shortest (fewest turns of loops) is run once more, now
with a recorder at each reactor, and that is what the report shows: the seed, the misfortunes, the timeline of every
connection. Why once more: recording costs, and failures are rare; and a second run that differs from the first proves that
the program asks something else than its seed (a real clock, a global `random`, the order of a set), which is told.

It must never know pytest, nor the command line.
"""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from ropewalk.defer import Deferred, maybeDeferred
from ropewalk.event import Event
from ropewalk.failure import Failure
from ropewalk.observe import Recorder
from ropewalk.simulation import Host, Simulation

__all__ = ["Outcome", "Settings", "Verdict", "run_seeds", "seed_of", "settings_of", "simulate"]

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
            atRest: whether nothing may be left open at the end.
            allow: exceptions that may be logged.
    """

    seeds: tuple[Seed, ...] = tuple(range(SEEDS))
    atRest: bool = False
    allow: tuple[type[BaseException], ...] = ()


@dataclass(slots=True)
class Outcome:
    """What became of a test in one world.

    Args:   error: how it failed, as a traceback; "" if it did not.
            turns: of loops, in all; virtualSeconds: how long that took there.
            traceHash: what happened, in hex; equal hashes are equal runs.
            told: the timelines and what was logged, if it was observed.
            exception: the error itself, in the process in which it was raised.
    """

    seed: Seed
    error: str = ""
    turns: int = 0
    virtualSeconds: float = 0.0
    traceHash: str = ""
    told: str = ""
    exception: BaseException | None = field(default=None, compare=False)


@dataclass(slots=True)
class Verdict:
    """What became of a test in many worlds: how many it ran in, and those in which it failed."""

    ran: int = 0
    turns: int = 0
    failed: list[Outcome] = field(default_factory=list)
    # The shortest of those, run once more and told in full; None if none failed.
    shown: Outcome | None = None
    repeats: bool = True

    def shortest(self) -> Outcome | None:
        """The failure with the fewest turns; of equal ones the first."""
        return min(self.failed, key=lambda outcome: outcome.turns, default=None)

    def summary(self) -> str:
        """One or two lines: how many failed, and which seed is the shortest."""
        shown = self.shown
        if shown is None:
            return f"{self.ran} seeds, none failed"
        others = [str(each.seed) for each in self.failed if each.seed != shown.seed]
        also = f" (also {', '.join(others[:10])}{' …' if len(others) > 10 else ''})" if others else ""
        shortest = f"{shown.turns} turns, {shown.virtualSeconds:.6g} virtual seconds"
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
    Raises:  ValueError for no seeds, TypeError for a function without the parameter `simulation`.
    """
    chosen: tuple[Seed, ...] = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not chosen:
        raise ValueError(f"a test needs one seed at least, not seeds={seeds!r}")
    settings = Settings(chosen, atRest, allow if isinstance(allow, tuple) else (allow,))

    def mark(function: F) -> F:
        if "simulation" not in inspect.signature(function).parameters:
            raise TypeError(f"{function!r} needs a parameter named simulation")
        setattr(function, _ATTRIBUTE, settings)
        return function

    return mark if function is None else mark(function)


def settings_of(function: object) -> Settings | None:
    """What `simulate` was told about a function; None if it was not decorated."""
    found = getattr(function, _ATTRIBUTE, None)
    return found if isinstance(found, Settings) else None


def seed_of(text: str) -> Seed:
    """The seed that a command line names: a number if it is one, else a text."""
    try:
        return int(text)
    except ValueError:
        return text


def run_seeds(
    function: Callable[..., object],
    settings: Settings,
    arguments: Mapping[str, Any] | None = None,
    failing: tuple[type[BaseException], ...] = (Exception,),
    again: bool = True,
) -> Verdict:
    """Run a test with each seed; with the shortest that failed once more, observed.

    Args:   arguments: what the test is called with besides `simulation`.
            failing: exceptions that are failures; any other leaves.
            again: False leaves `show` to the caller, who has more seeds.
    """
    verdict = Verdict()
    for seed in settings.seeds:
        outcome = run_seed(function, seed, settings, arguments or {}, failing)
        verdict.ran += 1
        verdict.turns += outcome.turns
        if outcome.error:
            # Why forgotten: it holds the frames of its world, and the one that is shown is run again.
            outcome.exception = None
            verdict.failed.append(outcome)
            if len(verdict.failed) >= MOST_FAILURES:
                break
    if again:
        show(verdict, function, settings, arguments or {}, failing)
    return verdict


def show(
    verdict: Verdict,
    function: Callable[..., object],
    settings: Settings,
    arguments: Mapping[str, Any],
    failing: tuple[type[BaseException], ...] = (Exception,),
) -> None:
    """Run the shortest failure of a verdict once more, observed."""
    shortest = verdict.shortest()
    if shortest is not None:
        again = run_seed(function, shortest.seed, settings, arguments, failing, is_observed=True)
        verdict.repeats = bool(again.error) and again.traceHash == shortest.traceHash
        verdict.shown = again if again.error else shortest


def run_seed(
    function: Callable[..., object],
    seed: Seed,
    settings: Settings,
    arguments: Mapping[str, Any],
    failing: tuple[type[BaseException], ...] = (Exception,),
    is_observed: bool = False,
) -> Outcome:
    """Run a test in one world."""
    recordings: list[Recording] = []

    def observe(host: Host) -> Recording:
        recordings.append(Recording(host))
        return recordings[-1]

    outcome = Outcome(seed)
    sim = Simulation(seed, observe=observe if is_observed else None)
    start = sim.now
    with _Listening(_log) as logged:
        try:
            _finish(sim, function(simulation=sim, **arguments))
            logged.check(settings.allow)
            if settings.atRest:
                sim.checkAtRest()
        except failing as exc:
            outcome.exception = exc
            outcome.error = "".join(traceback.format_exception(exc))
        outcome.turns, outcome.virtualSeconds = sim.turns, sim.now - start
        outcome.traceHash = sim.traceHash()
        if is_observed:
            outcome.told = "\n\n".join(_told(sim, start, recordings, logged))
        sim.close()
    return outcome


def _finish(sim: Simulation, result: object) -> None:
    """Let the world go on until an awaitable has its result."""
    if not isinstance(result, (Deferred, Awaitable)):
        return
    results: list[object] = []
    waiting: Deferred[Any] = maybeDeferred(lambda: result)
    waiting.addBoth(results.append)
    sim.run(until=lambda: bool(results))
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


class _Listening(logging.Handler):
    """Keeps what a logger is told as an error, and keeps it from everybody else meanwhile."""

    def __init__(self, log: logging.Logger) -> None:
        super().__init__(logging.ERROR)
        self._log = log
        self._propagates = log.propagate
        self.records: list[logging.LogRecord] = []

    def __enter__(self) -> _Listening:
        self._log.addHandler(self)
        self._log.propagate = False
        return self

    def __exit__(self, *what: object) -> None:
        self._log.removeHandler(self)
        self._log.propagate = self._propagates
        # Why: an exception that was logged holds the frames of a world that has ended.
        self.records.clear()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

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
