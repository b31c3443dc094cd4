"""`ropewalk simulate FILE`: its tests under many seeds, over several processes, with a progress bar; no pytest needed.

FILE is a Python file; what runs are its functions decorated with `ropewalk.testing.simulate` (a test module of pytest will
do, if those functions ask for no other fixture). Each is run in handfuls of seeds, spread over the processes; of the seeds
that failed, the shortest is run once more, observed, and told in full. Exit status: 0 if no seed failed, 1 if one did.

Why processes of their own, started afresh: simulated worlds are pure Python, so threads would not make them faster, and a
copy of this process would share what is under way in it. Each process imports FILE once.
"""

import importlib.util
import inspect
import itertools
import multiprocessing
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ropewalk.cli.outcome import Outcome
from ropewalk.testing.seeds import MOST_FAILURES, Seed, Settings, Verdict, run_seeds, settings_of, show

__all__ = ["simulate"]

# Seeds given to a process at once. Why: few enough that the bar moves, many enough that handing them over costs nothing.
_HANDFUL = 10

Test = Callable[..., object]


def simulate(path: Path, seeds: int | None, seed: Seed | None, jobs: int, only: str | None) -> Outcome:
    """Run a file's simulated tests and print what became of each.

    Args:   seeds: how many for each test; None for what each says.
            seed: just this one.
            jobs: processes; 1 runs everything in this one.
            only: the name of one test.
    """
    console = Console(highlight=False, soft_wrap=True)
    try:
        tests = tests_of(load(path), only)
    except ValueError as wrong:
        return Outcome(2, str(wrong))
    failed = 0
    for name, test in tests.items():
        settings = settings_of(test)
        assert settings is not None
        if seed is not None:
            settings = replace(settings, seeds=(seed,))
        elif seeds is not None:
            settings = replace(settings, seeds=range(seeds))
        started = time.monotonic()
        try:
            verdict = _run(path, name, test, settings, jobs)
        except KeyboardInterrupt:
            return Outcome(130, f"interrupted in {name}")
        except BrokenProcessPool:
            return Outcome(
                1,
                f"{name}: a process that ran its seeds has died (os._exit, a crash, no memory); try --jobs 1",
            )
        seconds = time.monotonic() - started
        failed += bool(verdict.failed)
        _tell(console, path, name, verdict, seconds)
    return Outcome(1 if failed else 0)


def load(path: Path) -> ModuleType:
    """Import a file. Its own folder is looked in too, last: a file called queue.py must not stand in for Python's own.

    Raises: ValueError if it cannot be imported, saying why.
    """
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    # Why a name of its own: a file may be called as a module is that others import.
    spec = importlib.util.spec_from_file_location(f"simulated {path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Why: dataclasses look a class's module up by its name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:
        raise ValueError(f"{path} cannot be imported: {type(exc).__name__}: {exc}") from exc
    return module


def tests_of(module: ModuleType, only: str | None = None) -> dict[str, Test]:
    """The decorated functions of a module, in the order in which they stand there.

    Raises: ValueError if there is none, or one that asks for more than `simulation`.
    """
    found = {name: each for name, each in vars(module).items() if settings_of(each) is not None}
    for name, each in vars(module).items():
        methods = vars(each).items() if isinstance(each, type) else ()
        for method, function in methods:
            if settings_of(function) is not None:
                raise ValueError(
                    f"{name}.{method} is a method, which only pytest can call; run it with pytest"
                )
    if only is not None:
        found = {name: each for name, each in found.items() if name == only}
    if not found:
        what = f"no test {only!r}" if only is not None else "nothing"
        raise ValueError(f"{module.__file__}: {what} is decorated with ropewalk.testing.simulate")
    for name, test in found.items():
        more = [
            parameter.name
            for parameter in inspect.signature(test).parameters.values()
            if parameter.name != "simulation" and parameter.default is parameter.empty
        ]
        if more:
            raise ValueError(
                f"{name} asks for {', '.join(more)}, which only pytest can give; run it with pytest"
            )
    return found


def _run(path: Path, name: str, test: Test, settings: Settings, jobs: int) -> Verdict:
    """All seeds of one test."""
    verdict = Verdict()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    # Why not where there is no terminal: rich would leave empty lines there.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=len(settings.seeds))
        for part in _parts(path, name, test, settings, jobs):
            verdict.ran += part.ran
            verdict.turns += part.turns
            verdict.failed += part.failed
            progress.update(task, completed=verdict.ran, description=_title(name, verdict))
            verdict.skipped = verdict.skipped or part.skipped
            if verdict.skipped or len(verdict.failed) >= MOST_FAILURES:
                break
    # Why sorted: which process was first is no property of the test.
    verdict.failed.sort(key=lambda trial: settings.seeds.index(trial.seed))
    show(verdict, test, settings)
    return verdict


def _parts(path: Path, name: str, test: Test, settings: Settings, jobs: int) -> Iterator[Verdict]:
    """The verdicts on handfuls of seeds, as they come."""
    seeds = settings.seeds
    handfuls = (seeds[place : place + _HANDFUL] for place in range(0, len(seeds), _HANDFUL))
    if jobs == 1 or len(seeds) <= _HANDFUL:
        for handful in handfuls:
            yield run_seeds(test, replace(settings, seeds=handful))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context) as pool:
        waiting: set[Future[Verdict]] = set()
        try:
            while True:
                # Why so few at once: when enough have failed, what was not handed out need not be run.
                for handful in itertools.islice(handfuls, 2 * jobs - len(waiting)):
                    waiting.add(pool.submit(_in_another_process, str(path), name, handful))
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for each in done:
                    yield each.result()
        except BaseException:
            # Why ended: a test that spins would be waited for until it is killed.
            for child in multiprocessing.active_children():
                child.terminate()
            # Why waited for, here and by `with`: the pool's own thread would close what the end of Python still writes to.
            pool.shutdown(cancel_futures=True)
            raise


_loaded: dict[str, dict[str, Test]] = {}


def _in_another_process(path: str, name: str, seeds: Sequence[Seed]) -> Verdict:
    # Why its own settings: an exception class of FILE that came from another process would not be the one raised here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if path not in _loaded:
        _loaded[path] = tests_of(load(Path(path)))
    test = _loaded[path][name]
    settings = settings_of(test)
    assert settings is not None
    return run_seeds(test, replace(settings, seeds=seeds))


def _title(name: str, verdict: Verdict) -> str:
    return f"{name}, {len(verdict.failed)} failed" if verdict.failed else name


def _tell(console: Console, path: Path, name: str, verdict: Verdict, seconds: float) -> None:
    def say(text: str, style: str = "") -> None:
        # Why no markup: what a peer sent is shown and not obeyed.
        console.print(text, style=style, markup=False)

    rate = verdict.ran / seconds if seconds else 0.0
    say(f"{name}: {verdict.summary()}, {seconds:.1f} s", "bold red" if verdict.failed else "green")
    shown = verdict.shown
    if verdict.skipped:
        return
    if shown is None:
        say(f"  {rate:.0f} seeds/s, {verdict.turns} turns of loops", "dim")
        return
    words = ["ropewalk", "simulate", str(path), "--only", name, "--seed", str(shown.seed)]
    say(f"Again, just that one: {shlex.join(words)}\n")
    say(shown.told + "\n\n" if shown.told else "")
    say(shown.error)
