"""The long run: thousands of worlds of the swarm over all processors, every point of the torture, every pair of re-entrancy.

    python -m tests.fuzz.soak [--seeds 10000] [--jobs 2]        or: make soak

Seeds 0 to N - 1 have every fault; for each ten of those there is one without faults of the kernel (-1, -2 …), where what
the network does is all there is. Each world ends with its faults off and must then come to rest: whatever can finish has to.
What is printed: how many worlds, what befell them by kind, the torture's points, the pairs of callback and call; and each
breach with the seed that shows it. The exit status is 1 if there is one.
"""

from __future__ import annotations

import argparse
import errno
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.faults.test_reentrancy import PAIRS
from tests.fuzz.judge import breaches
from tests.fuzz.plays import SCENARIOS
from tests.fuzz.swarm import World
from tests.fuzz.test_torture import points, wrongs

# Seeds given to a process at once.
HANDFUL = 50
# Files whose tests are as much a part of it: pytest runs them, in their own process.
PAIRS_FILE = "tests/faults/test_reentrancy.py"


@dataclass
class Tally:
    """What a handful of worlds, or of the torture's points, came to."""

    worlds: int = 0
    turns: int = 0
    points: int = 0
    wrong: list[str] = field(default_factory=list)
    # Errors that kernels gave, by call and errno.
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    # What befell hosts and connections.
    befell: Counter[str] = field(default_factory=Counter)
    # What the engine told its observers.
    steps: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        self.worlds += other.worlds
        self.turns += other.turns
        self.points += other.points
        self.wrong += other.wrong
        self.errors += other.errors
        self.befell += other.befell
        self.steps += other.steps


def live(seeds: list[int]) -> Tally:
    """Live the worlds of some seeds."""
    tally = Tally()
    for seed in seeds:
        world = World(seed, has_faults=seed >= 0)
        world.live()
        tally.wrong += [f"seed {seed}: {breach}" for breach in breaches(world)[:5]]
        world.sim.close()
        tally.worlds += 1
        tally.turns += world.sim.turns
        for host in world.hosts:
            for (call, error), times in host.faults.given.items():
                tally.errors[call, errno.errorcode.get(error, str(error))] += times
        tally.befell += world.falls
        if world.layers is not None:
            tally.befell += world.layers.did()
        tally.befell["a connection is reset from outside"] += len(world.reset_ends) // 2
        tally.befell["a player raises"] += len(world.raised)
        tally.befell["SystemExit leaves run()"] += len(world.exits_met)
        tally.befell["a reactor is stopped and runs again"] += sum(map(len, world.stopped.values()))
        tally.steps += Counter(event.step.value for events in world.events.values() for event in events)
        world.forget()
    return tally


def torture(place: int) -> Tally:
    """Every point of one scenario."""
    faults = points(SCENARIOS[place])
    wrong = [each for fault in faults for each in wrongs(SCENARIOS[place], fault)]
    return Tally(points=len(faults), wrong=wrong)


def soak(seeds: int, jobs: int) -> tuple[Tally, float]:
    """All of it; what it came to, and the seconds that the swarm took."""
    with_faults, without = list(range(seeds)), [-1 - seed for seed in range(seeds // 10)]
    every = with_faults + without
    handfuls = [every[place : place + HANDFUL] for place in range(0, len(every), HANDFUL)]
    total = Tally()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(jobs, context) as pool,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        started = time.monotonic()
        task = progress.add_task("swarm", total=len(every))
        for each in as_completed([pool.submit(live, handful) for handful in handfuls]):
            total.add(each.result())
            progress.update(task, completed=total.worlds)
        seconds = time.monotonic() - started
        task = progress.add_task("torture", total=len(SCENARIOS))
        for each in as_completed([pool.submit(torture, place) for place in range(len(SCENARIOS))]):
            total.add(each.result())
            progress.advance(task)
    return total, seconds


def show(total: Tally, seeds: int, seconds: float, jobs: int) -> None:
    say = Console(highlight=False, soft_wrap=True).print
    say(
        f"swarm: {seeds} seeds with faults, {total.worlds - seeds} without, {seconds:.0f} s on {jobs} processes "
        f"({total.worlds / seconds:.0f} worlds/s), {total.turns} turns of loops"
    )
    by_call: dict[str, Counter[str]] = {}
    for (call, error), times in total.errors.items():
        by_call.setdefault(call, Counter())[error] += times
    table = Table("call", "failed", "with", title="calls that kernels refused", title_justify="left")
    for call, errors in sorted(by_call.items()):
        names = ", ".join(f"{name} {times}" for name, times in sorted(errors.items()))
        table.add_row(call, str(errors.total()), names)
    say(table)
    table = Table("what", "times", title="what else befell them", title_justify="left")
    for what, times in sorted(total.befell.items()):
        table.add_row(what, str(times))
    say(table)
    table = Table("step", "times", title="what the engine told of it", title_justify="left")
    for what, times in sorted(total.steps.items()):
        table.add_row(what, str(times))
    say(table)
    say(
        f"torture: {len(SCENARIOS)} scenarios, {total.points} points: a call of a kind, and an errno it may give"
    )


def pairs() -> int:
    """Every call from within every callback; pytest's exit status."""
    print(f"re-entrancy: {len(PAIRS)} pairs of callback and call", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "-q", "--no-header", PAIRS_FILE]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=10_000, help="worlds with faults; 10000")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes; one for each processor"
    )
    options = parser.parse_args()
    if options.seeds < 1 or options.jobs < 1:
        parser.error(f"--seeds and --jobs must be 1 or more, not {options.seeds} and {options.jobs}")
    total, seconds = soak(options.seeds, options.jobs)
    show(total, options.seeds, seconds, options.jobs)
    status = pairs()
    for each in total.wrong:
        print(each)
    print(f"{len(total.wrong)} breaches")
    return int(bool(total.wrong) or status != 0)


if __name__ == "__main__":
    sys.exit(main())
