"""Fixtures of the tests with real counterparts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real.counterparts import Child


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """`start(program, *arguments)` gives a Child; whatever happens, it is ended with the test."""
    children: list[Child] = []

    def start(*command: str, **more: int) -> Child:
        child = Child(command, tmp_path / f"output-{len(children)}", **more)
        children.append(child)
        return child

    yield start
    for child in reversed(children):
        child.end()
