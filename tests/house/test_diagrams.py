"""The docs' state diagrams are those of the tables the engine steps through, and none is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.diagrams import DOCS, PLACE, current, every, shown

PAGES = sorted(DOCS.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda each: each.name)
def test_diagrams_are_current(page: Path) -> None:
    assert page.read_text() == current(page), "run `make diagrams`"


@pytest.mark.parametrize("page", PAGES, ids=lambda each: each.name)
def test_no_state_diagram_is_drawn_by_hand(page: Path) -> None:
    assert "stateDiagram" not in re.sub(PLACE, "", page.read_text())


@pytest.mark.skipif(not (DOCS / "architecture.md").exists(), reason="docs/architecture.md is not written yet")
def test_every_state_table_has_its_diagram() -> None:
    assert every() == shown()
