"""docs/simulation.md is true: its program is run, repaired and run again as the page says, and prints what the page shows.

A page's block fenced ```console is a command and what it prints: "…" alone stands for any lines, within a line for anything.
The first python block is the program; each block after it holds one class, which takes the place of the one of that name.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ropewalk.simulation import KINDS

pytest.importorskip("click", reason="the command-line tool needs click and rich: pip install 'ropewalk[cli]'")
pytest.importorskip("rich", reason="the command-line tool needs click and rich: pip install 'ropewalk[cli]'")

# Why slow: it starts processes, or lives through many worlds; what differs between the CPythons is seen without it.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "simulation.md").read_text()
BLOCK = re.compile(r"^```(python no-run|python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(command: str, folder: Path) -> str:
    """What a command of the page prints."""
    tool, *words = command.removeprefix("$ ").split()
    assert tool == "ropewalk"
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-m", "ropewalk", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.stdout


def pattern(shown: str) -> str:
    """The shown lines as a regular expression."""
    lines = [
        r"(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n"
        for line in shown.splitlines()
    ]
    return "".join(lines) + r"(?:\s*\n)*"


def repaired(program: str, repair: str) -> str:
    """The program with a class of the same name exchanged."""
    [new] = ast.parse(repair).body
    assert isinstance(new, ast.ClassDef)
    [old] = [
        each for each in ast.parse(program).body if isinstance(each, ast.ClassDef) and each.name == new.name
    ]
    lines = program.splitlines(keepends=True)
    lines[old.lineno - 1 : old.end_lineno] = [repair]
    return "".join(lines)


def test_the_tutorial_is_true(tmp_path: Path) -> None:
    program = ""
    commands = 0
    for kind, text in BLOCK.findall(PAGE):
        if kind != "console":
            program = repaired(program, text) if program else text
            (tmp_path / "readings.py").write_text(program)
            continue
        command, _, shown = text.partition("\n")
        said = run(command, tmp_path)
        assert re.fullmatch(pattern(shown), said), f"{command}\nprints\n{said}"
        commands += 1
    assert commands == 4


def test_the_page_counts_the_claims_about_the_kernel() -> None:
    suite = ast.parse((ROOT / "tests" / "contract" / "test_kernel.py").read_text())
    claims = [
        each for each in suite.body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
    ]
    assert f"holds {len(claims)} claims about what sockets do" in PAGE


def test_the_page_names_every_kind_of_misfortune() -> None:
    assert ", ".join(KINDS) in PAGE
