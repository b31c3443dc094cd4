"""J12: the same seed gives the same trace, also in another process, whatever PYTHONHASHSEED is there.

    python -m tests.fuzz.replays [N]         the swarm's first N seeds (1000), here and in a process of their own

A trace that depends on the order of a set, on an address or on what another world has left over differs in one of the two. The
child is started with another hash seed and lives through the seeds backwards, so that what came before each is different too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.fuzz.swarm import World

ROOT = Path(__file__).resolve().parents[2]


def traces(seeds: Iterable[int]) -> dict[int, str]:
    """The trace's hash of each seed's world."""
    found = {}
    for seed in seeds:
        world = World(seed)
        world.live()
        found[seed] = world.sim.traceHash()
        world.sim.close()
        world.forget()
    return found


def traces_elsewhere(count: int, hash_seed: int) -> dict[int, str]:
    """The same in another process, the last seed first."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.replays", "--tell", str(count)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        check=True,
    )
    pairs = (line.split() for line in done.stdout.splitlines())
    return {int(seed): trace for seed, trace in pairs}


def main(words: list[str]) -> int:
    if words[:1] == ["--tell"]:
        for seed, trace in traces(reversed(range(int(words[1])))).items():
            print(seed, trace)
        return 0
    count = int(words[0]) if words else 1000
    here, there = traces(range(count)), traces_elsewhere(count, hash_seed=1)
    differ = [seed for seed in here if here[seed] != there[seed]]
    print(f"{count - len(differ)} of {count} seeds gave the same trace in both processes", *differ)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
