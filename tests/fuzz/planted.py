"""The net catches fish: bugs that real engines had, planted one at a time in a copy of ours; swarm or torture must find each.

The bugs are in slips.py and slips_of_policies.py. Each is planted in a copy of
the package, in a folder of its own; a child process (hunt.py) that imports this copy lives through the swarm's seeds 0, 1,
2 … until the judge objects, and through the torture if it never does. Rule: the tree itself is never changed.

    python -m tests.fuzz.planted                         every bug; the table; status 1 if one got away
    python -m tests.fuzz.planted NAME …                  just these: how a row of the table is repeated
    python -m tests.fuzz.planted NAME --first 317 --most 1     only that seed
    python -m tests.fuzz.planted --write                 and write the table into docs/simulation.md

A planted bug that hangs counts as caught by what the simulation says of it (spin, deadlock, a limit of time). Where it can
say nothing, in a loop without end inside one call, a limit of wall-clock time per seed ends it, and is told as such.

Rejected: mutants made by a tool. Most of theirs are vandalism, which any test finds, or change nothing; what is to be known
is whether the *slips* are found that people made in such engines.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.slips import SLIPS, Bug
from tests.fuzz.slips_of_policies import SLIPS_OF_POLICIES

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "ropewalk"
PAGE = ROOT / "docs" / "simulation.md"
MOST_SEEDS = 2000


@dataclass(frozen=True)
class Catch:
    """What became of one bug: by whom it was caught ("" if by nobody), after how many seeds, and what was said first."""

    by: str
    seeds: int
    said: str


BUGS = (*SLIPS, *SLIPS_OF_POLICIES)


# ---- planting -------------------------------------------------------------------------------------------------------


@contextmanager
def planted(bug: Bug) -> Iterator[Path]:
    """A copy of the package with the bug in it, for as long as this lasts; the folder to put into PYTHONPATH."""
    with TemporaryDirectory(prefix="planted-") as folder:
        place = Path(folder)
        # Why without bytecode: a patched file of the same size and second would be taken for the one compiled before.
        shutil.copytree(PACKAGE, place / "ropewalk", ignore=shutil.ignore_patterns("__pycache__"))
        file = place / "ropewalk" / bug.file
        text = file.read_text()
        for taken, put in bug.changes:
            if text.count(taken) != 1:
                raise ValueError(f"{bug.name}: found {text.count(taken)} times in {bug.file}:\n{taken}")
            text = text.replace(taken, put)
        file.write_text(text)
        yield place


def catch(bug: Bug, first: int = 0, most: int = MOST_SEEDS, has_torture: bool = True) -> Catch:
    """Plant one bug, and see who finds it."""
    with planted(bug) as place:
        asked = [str(place), bug.file, str(first), str(most), str(int(has_torture))]
        done = subprocess.run(
            [sys.executable, "-B", "-m", "tests.fuzz.hunt", *asked],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(place), str(ROOT)])},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(f"{bug.name}: the hunt itself failed\n{done.stdout}\n{done.stderr}")
    return Catch(**json.loads(done.stdout.splitlines()[-1]))


# ---- the table ------------------------------------------------------------------------------------------------------

# Where the table is in the page.
_BEGIN, _END = (
    "<!-- planted bugs: written by python -m tests.fuzz.planted --write -->",
    "<!-- end of planted bugs -->",
)
_HEAD = """\
## Planted bugs

Does the simulation find bugs, or only agree with the engine it was written beside? Each row is a slip that a real engine made, or
could have made, planted in a copy of this engine's source. The swarm lives through seeds 0, 1, 2 … until its judge objects;
where it never does within {most}, the torture plays its scenarios, and lets single calls of the kernel fail in them.
`tests/fuzz/slips.py` and `tests/fuzz/slips_of_policies.py` hold the slips,
`tests/fuzz/hunt.py` finds them. One row again: `python -m tests.fuzz.planted NAME`.

{count} bugs, {caught} caught: {swarm} by the swarm, {torture} by the torture.{away}

| bug | like | file | caught by | seeds | what was said first |
|---|---|---|---|--:|---|
"""


def page(catches: dict[str, Catch]) -> str:
    by = [catch.by for catch in catches.values()]
    swarm = sum(each == "swarm" for each in by)
    caught = sum(bool(each) for each in by)
    missed = [name for name, found in catches.items() if not found.by]
    away = f" Not caught: {', '.join(missed)}." if missed else ""
    head = _HEAD.format(
        most=MOST_SEEDS, count=len(by), caught=caught, swarm=swarm, torture=caught - swarm, away=away
    )
    rows = [
        f"| {bug.name} | {_cell(bug.like)} | `{bug.file}` | {_cell(found.by) or '**nobody**'} | {found.seeds} | {_cell(found.said)} |"
        for bug in BUGS
        if (found := catches.get(bug.name))
    ]
    return head + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def rows() -> dict[str, tuple[str, int]]:
    """By whom and after how many seeds each bug is caught, as the page says."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.replace("\\|", "/").strip("|").split(" | ")]
        if len(cells) == 6 and cells[4].isdigit():
            found[cells[0]] = (cells[3], int(cells[4]))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.planted", description="Plant bugs; see who finds them."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which bugs; all if none is named")
    parser.add_argument(
        "--most", type=int, default=MOST_SEEDS, help="seeds of the swarm at most (%(default)s)"
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed (%(default)s)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/simulation.md")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.names) - {bug.name for bug in BUGS}:
        parser.error(f"no such bug: {', '.join(sorted(unknown))}")
    if asked.write and (asked.names or asked.first or asked.most != MOST_SEEDS):
        parser.error("--write is for all bugs and all seeds")
    catches = {}
    print(
        f"{'bug':46} {'caught by':36} {'seeds':>5}  what was said first; again: python -m tests.fuzz.planted BUG"
    )
    chosen = [bug for bug in BUGS if not asked.names or bug.name in asked.names]
    # Why threads: each waits for a process of its own.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for bug, found in zip(
            chosen, pool.map(lambda bug: catch(bug, asked.first, asked.most), chosen), strict=True
        ):
            catches[bug.name] = found
            print(f"{bug.name:46} {found.by or 'NOBODY':36} {found.seeds:5}  {found.said}", flush=True)
    if asked.write:
        before, _, rest = PAGE.read_text().partition(_BEGIN)
        PAGE.write_text(f"{before}{_BEGIN}\n{page(catches)}{_END}{rest.partition(_END)[2]}")
    away = [name for name, found in catches.items() if not found.by]
    print(f"{len(catches)} planted, {len(catches) - len(away)} caught", *away)
    return 1 if away else 0


if __name__ == "__main__":
    sys.exit(main())
