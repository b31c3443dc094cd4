"""Which seeds are run: a few hundred with every test run, as many as you like by ROPEWALK_SEEDS.

ROPEWALK_SEEDS=5000 make test ARGS='tests/fuzz'          the first 5000
ROPEWALK_SEEDS=1234-1235 make test ARGS='tests/fuzz'     just one: from 1234, up to but not with 1235
"""

from __future__ import annotations

import os


def seeds(usual: int) -> range:
    """The seeds asked for, or the first `usual` ones."""
    asked = os.environ.get("ROPEWALK_SEEDS", "")
    first, dash, last = asked.partition("-")
    if dash:
        return range(int(first), int(last))
    return range(int(asked)) if asked else range(usual)


def chunks(usual: int, size: int = 10) -> list[range]:
    """The seeds in handfuls, one for each test."""
    every = seeds(usual)
    return [every[place : place + size] for place in range(0, len(every), size)]


def shown(chunk: range) -> str:
    return f"seeds {chunk.start} to {chunk.stop - 1}"
