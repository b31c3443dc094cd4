"""Every file opens by saying what the room is for."""

from __future__ import annotations

import ast

import pytest

from tests.house.source import Source, sources

SHORT_ENOUGH = 30
LONG_ENOUGH = 3
EXEMPT = {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("source", sources(), ids=lambda each: each.name)
def test_a_file_opens_with_its_purpose(source: Source) -> None:
    header = ast.get_docstring(source.tree)
    assert header, f"{source.name} has no docstring"
    first = header.splitlines()[0]
    assert first.rstrip().endswith((".", ":", "?")), (
        f"{source.name}: the first line is no sentence: {first!r}"
    )
    if source.path.name not in EXEMPT:
        assert LONG_ENOUGH <= len(header.splitlines()) <= SHORT_ENOUGH
