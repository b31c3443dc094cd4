"""The child of planted.py: lives through the swarm, then the torture, with whichever engine PYTHONPATH gives; tells who objected.

    python -m tests.fuzz.hunt FOLDER FILE FIRST MOST TORTURE      (what planted.py passes; there is no other use)

It makes sure first that the engine it has imported is the copy in FOLDER. The last line it prints is a Catch, as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from tests.fuzz.judge import breaches
from tests.fuzz.plays import SCENARIOS, Play, faults_of, told
from tests.fuzz.swarm import World

# Wall-clock seconds for one world. Value: the slowest seed of the first 10 000 takes half a second.
MOST_SECONDS = 30
# Of what was said, so much is kept.
_WIDTH = 150


def said(world: World) -> list[str]:
    """What the judge says of a world's life, or what that life broke off with."""
    try:
        world.live()
        found = breaches(world)
        world.sim.close()
    except Exception as exc:
        return [f"{type(exc).__name__}: {exc}"]
    return found


class Hunt:
    """One engine, and whether anything is found in it."""

    def __init__(self) -> None:
        self.by = "swarm"
        self.seeds = 0

    def go(self, first: int, most: int, has_torture: bool) -> None:
        signal.signal(signal.SIGALRM, self._too_long)
        for seed in range(first, first + most):
            self.seeds += 1
            self._look(World(seed))
        for scenario in SCENARIOS if has_torture else ():
            self.by = f"torture, {scenario.name}"
            play = Play(scenario)
            self._look(play)
            for fault in faults_of(play):
                self.by = f"torture, {told(scenario, fault)}"
                self._look(Play(scenario, fault))
        self.by = ""
        self.tell("")

    def _look(self, world: World) -> None:
        signal.alarm(MOST_SECONDS)
        found = said(world)
        signal.alarm(0)
        if found:
            self.tell(found[0])

    def _too_long(self, number: int, frame: Any) -> None:
        # Why from here, and not by an exception: the engine would take that for the user's, log it and go on.
        self.tell(f"wall clock: not over after {MOST_SECONDS} s")

    def tell(self, what: str) -> None:
        """Print the Catch and end, wherever we are."""
        line = re.sub(r"0x[0-9a-f]+", "0x…", what.strip().splitlines()[0] if what else "")
        shown = line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
        print(json.dumps({"by": self.by, "seeds": self.seeds, "said": shown}), flush=True)
        os._exit(0)


def check_imported(folder: str, file: str) -> None:
    """Raises: RuntimeError if the engine is not the one in the folder."""
    dotted = ".".join(["ropewalk", *Path(file).with_suffix("").parts])
    module = importlib.import_module(dotted)
    if not Path(str(module.__file__)).resolve().is_relative_to(Path(folder).resolve()):
        raise RuntimeError(f"{dotted} is that of {module.__file__}, not the planted one in {folder}")


if __name__ == "__main__":
    place, patched, *numbers = sys.argv[1:]
    check_imported(place, patched)
    start, count, torture = map(int, numbers)
    Hunt().go(start, count, bool(torture))
