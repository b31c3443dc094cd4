"""The documentation's examples run.

Every block fenced ```python in README.md and docs/*.md is run by itself, warnings being errors, and must end well
within the time limit. A block fenced ```python no-run is only compiled: for pieces that need what is not there.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.source import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```python(?P<no_run> no-run)?\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str, bool]]:
    """(place, code, whether it is run) of each block, padded so that errors tell the page's own lines."""
    text = page.read_text()
    found = []
    for each in FENCE.finditer(text):
        line = text[: each.start("code")].count("\n")
        found.append((f"{page.name}:{line}", "\n" * line + each["code"], not each["no_run"]))
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize(("place", "code", "runs"), BLOCKS, ids=[place for place, _, _ in BLOCKS])
def test_an_example_of_the_docs_runs(place: str, code: str, runs: bool, tmp_path: Path) -> None:
    compile(code, place, "exec")
    if not runs:
        return
    script = tmp_path / "example.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, f"{place}\n{done.stdout}\n{done.stderr}"


def test_every_python_block_is_seen() -> None:
    for page in PAGES:
        opened = re.findall(r"^ *```(?:python|py)\b.*$", page.read_text(), re.MULTILINE)
        assert len(opened) == len(blocks(page)), (
            f"{page.name}: a python fence that is indented or written otherwise"
        )


def test_links_between_the_pages_lead_somewhere() -> None:
    wrong = []
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
            if not (page.parent / target).exists():
                wrong.append(f"{page.name}: {target}")
    assert not wrong, wrong
