"""docs/simulation.md is true: its program is run, repaired and run again as the page says, and prints what the page shows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ropewalk.simulation import KINDS
from tests.real.walkthrough import walk

pytest.importorskip("click", reason="the command-line tool needs click and rich: pip install 'ropewalk[cli]'")
pytest.importorskip("rich", reason="the command-line tool needs click and rich: pip install 'ropewalk[cli]'")

# Why slow: it starts processes, or lives through many worlds; what differs between the CPythons is seen without it.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "simulation.md"


def test_the_tutorial_is_true(tmp_path: Path) -> None:
    assert walk(PAGE, tmp_path) == 4


def test_the_page_counts_the_claims_about_the_kernel() -> None:
    suite = ast.parse((ROOT / "tests" / "contract" / "test_kernel.py").read_text())
    claims = [
        each for each in suite.body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
    ]
    assert f"holds {len(claims)} claims about what sockets do" in PAGE.read_text()


def test_the_page_names_every_kind_of_misfortune() -> None:
    assert ", ".join(KINDS) in PAGE.read_text()
