"""`import ropewalk` opens nothing, starts nothing, and asks for less than `import asyncio` does.

Each claim is made in a fresh interpreter. Cost is counted in modules and in bytes, not in time: two runs agree.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

SCRIPT = """
import json, os, sys, threading
before_fds, before = set(os.listdir("/proc/self/fd")), set(sys.modules)
{statement}
after_fds = set(os.listdir("/proc/self/fd"))
files = [getattr(sys.modules[each], "__file__", None) for each in set(sys.modules) - before]
print(json.dumps(dict(
    opened=len(after_fds) - len(before_fds),
    threads=threading.active_count(),
    modules=sorted(set(sys.modules) - before),
    size=sum(os.path.getsize(each) for each in files if each and os.path.exists(each)),
)))
"""


@cache
def imported(statement: str) -> dict[str, Any]:
    # Why -S: what an editable install or a coverage hook has loaded before must not be counted for one of the two.
    from tests.house.source import PACKAGE

    run = subprocess.run(
        [sys.executable, "-S", "-c", SCRIPT.format(statement=statement)],
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_import_opens_no_descriptor_and_starts_no_thread() -> None:
    assert imported("import ropewalk")["opened"] == 0
    assert imported("import ropewalk")["threads"] == 1


def test_a_star_import_opens_nothing_either() -> None:
    assert imported("from ropewalk import *")["opened"] == 0


def test_import_loads_neither_twisted_nor_asyncio_nor_the_tools_on_top() -> None:
    loaded = set(imported("import ropewalk")["modules"])
    assert not {each for each in loaded if each.split(".")[0] in ("twisted", "asyncio", "uvloop", "zope")}
    assert not {
        each
        for each in loaded
        if each.startswith(("ropewalk.cli", "ropewalk.simulation", "ropewalk.observe"))
    }


def test_import_costs_no_more_than_asyncio() -> None:
    ours, theirs = imported("import ropewalk"), imported("import asyncio")
    extra = sorted(set(ours["modules"]) - set(theirs["modules"]))
    assert len(ours["modules"]) <= len(theirs["modules"]), extra
    assert ours["size"] <= theirs["size"], extra
