"""From samples to what is published: medians with their spread, ratios of one round, and what was measured on what.

A ratio is taken within each round, where both were measured some seconds apart, and the median of those is what counts.
Why: a shared machine may be half as fast a minute later. The ratio of two medians then compares two of its moods, the
ratio of a round two engines.

A summary is plain data (results/latest.json), so that page and plot can be drawn again without measuring.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
import timeit
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rows import Case, Figures
from targets import OURS

REPOSITORY = Path(__file__).resolve().parents[1]
VERSION = platform.python_version()
Summary = dict[str, Any]


def spread(samples: Sequence[Figures]) -> dict[str, list[float]]:
    """Each metric as [median, lowest, highest]."""
    return {
        name: [statistics.median(values), min(values), max(values)]
        for name in samples[0]
        if (values := [sample[name] for sample in samples])
    }


def ratios(samples: dict[str, list[Figures]]) -> dict[str, dict[str, float]]:
    """Peer → metric → Ropewalk's figure over the peer's: the median over the rounds."""
    ours = samples.get(OURS, [])
    found: dict[str, dict[str, float]] = {}
    for peer, theirs in samples.items():
        if peer == OURS or not ours or not theirs:
            continue
        pairs = list(zip(ours, theirs, strict=True))
        found[peer] = {
            name: statistics.median(mine[name] / other[name] for mine, other in pairs)
            for name in ours[0]
            if all(other.get(name) for _, other in pairs)
        }
    return found


def describe_case(case: Case, samples: dict[str, list[Figures]]) -> dict[str, Any]:
    return {
        "row": case.row,
        "title": case.title,
        "unit": case.unit,
        "metric": case.metric,
        "higher_is_better": case.higher_is_better,
        "rounds": max((len(found) for found in samples.values()), default=0),
        "peers": {peer: spread(found) for peer, found in samples.items() if found},
        "ratios": ratios(samples),
    }


def medians(summary: Summary) -> dict[str, dict[str, dict[str, float]]]:
    """case → peer → metric → median; what targets without a peer are judged by."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for key, case in summary["cases"].items():
        for peer, figures in case["peers"].items():
            middles = {name: values[0] for name, values in figures.items()}
            found.setdefault(key, {})[peer] = middles
    return found


def describe_machine() -> dict[str, str]:
    """What the figures belong to. No name of a machine, no path, no user."""
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {VERSION}, {platform.python_compiler()}, {_empty_call()}",
        "ropewalk": _commit(),
    }
    for package in ("twisted", "uvloop"):
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    facts["asyncio"] = f"of Python {VERSION}"
    for command, option in (
        ("cc", "--version"),
        ("redis-benchmark", "--version"),
        ("wrk", "--version"),
        ("haproxy", "-v"),
    ):
        if version := _first_line(command, option):
            facts[command] = version
    return facts


def _empty_call() -> str:
    """How quick the interpreter is; one that was built without a profile (PGO) is a third slower."""
    seconds = min(timeit.repeat("f()", "def f(): pass", number=20_000, repeat=20)) / 20_000
    return f"an empty call takes {seconds * 1e9:.0f} ns"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _commit() -> str:
    """The commit measured, and whether the tree differs from it under src/."""
    words = _first_line("git", "-C", str(REPOSITORY), "log", "-1", "--format=commit %h")
    changed = _first_line("git", "-C", str(REPOSITORY), "status", "--porcelain", "--", "src")
    return (words or "not under git") + (" with changes" if changed else "")


def _first_line(command: str, *options: str) -> str:
    if shutil.which(command) is None:
        return ""
    done = subprocess.run([command, *options], capture_output=True, text=True, timeout=10, check=False)
    lines = [line.strip() for line in (done.stdout or done.stderr).splitlines() if line.strip()]
    return lines[0] if lines else ""


def available(peer: str) -> str:
    """Why a peer cannot be measured with this interpreter; empty if it can."""
    if peer == "c":
        return "" if shutil.which("cc") else "no C compiler"
    if peer == "haproxy":
        return "" if shutil.which("haproxy") else "not installed (Debian: apt-get install haproxy)"
    check = f"import sys; sys.path.insert(0, sys.argv[1]); import {peer}"
    if peer == "ropewalk":
        check += "; from ropewalk import Reactor, reactor, Protocol, Factory, ClientFactory"
    command = [sys.executable, "-c", check, str(REPOSITORY / "src")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["does not import"])[-1]
