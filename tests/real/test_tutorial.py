"""docs/tutorial.md is true: whoever follows it to the letter sees what it shows. Its programs are run by tests/house/test_docs.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.walkthrough import walk

pytest.importorskip("click", reason="the command-line tool needs click and rich: pip install 'ropewalk[cli]'")
pytest.importorskip("rich", reason="the command-line tool needs click and rich: pip install 'ropewalk[cli]'")

# Why slow: it starts processes, or lives through many worlds; what differs between the CPythons is seen without it.
pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


def test_the_tutorial_is_true(tmp_path: Path) -> None:
    assert walk(PAGE, tmp_path) == 10
