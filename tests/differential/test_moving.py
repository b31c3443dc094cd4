"""What docs/from-twisted.md says is so: the program that it moves differs in imports only, and its table names all that is missing.

The two programs themselves are run, and print the same, by tests/house/test_docs.py.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import IReactorSSL
from twisted.internet.posixbase import PosixReactorBase
from zope.interface import implementedBy  # type: ignore[import-untyped]

from ropewalk import Reactor
from tests.house.pages import blocks

PAGE = Path(__file__).parents[2] / "docs" / "from-twisted.md"
ROW = re.compile(r"^\| `(twisted\.[\w.]+)` \| `(ropewalk[\w.]*)` \|(.*)\|$", re.MULTILINE)
ROWS = [
    (theirs, ours, set(re.findall(r"`(\w+)`", missing)))
    for theirs, ours, missing in ROW.findall(PAGE.read_text())
]


# What stands for a reactor. Why the classes: importing Twisted's reactor would make one for the whole test run.
CLASSES = {"twisted.internet.reactor": PosixReactorBase, "ropewalk.reactor": Reactor}


def found(path: str) -> Any:
    return CLASSES.get(path) or importlib.import_module(path)


def public(module: Any) -> set[str]:
    """The names that Twisted means for its users: those of `__all__`, or of what is defined in a module without it."""
    if isinstance(module, type):
        # Why IReactorSSL by itself: Twisted declares it only where OpenSSL is installed.
        interfaces = [*implementedBy(module), IReactorSSL]
        return {name for each in interfaces for name in each.names(all=True) if not name.startswith("_")}
    names = getattr(module, "__all__", None)
    if names is None:
        name = module.__name__
        names = [each for each, value in vars(module).items() if getattr(value, "__module__", None) == name]
    return {name for name in names if not name.startswith("_")}


def test_the_program_that_is_moved_differs_in_its_imports_only() -> None:
    before, after = [block for block in blocks(PAGE) if block.kind == "python"]
    assert before.output == after.output

    def rest(text: str) -> list[str]:
        return [line for line in text.strip().splitlines() if not line.startswith("from ")]

    assert rest(before.text) == rest(after.text)
    for line in before.text.strip().splitlines():
        assert "twisted" not in line or line.startswith("from twisted")


def test_the_page_has_its_table() -> None:
    assert len(ROWS) == 14


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("theirs", "ours", "missing"), ROWS, ids=[row[0] for row in ROWS])
def test_what_is_not_here_is_what_the_page_says(theirs: str, ours: str, missing: set[str]) -> None:
    module = found(ours)
    assert {name for name in public(found(theirs)) if not hasattr(module, name)} == missing
