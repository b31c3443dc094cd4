"""Every fault of FAULTS.md that belongs to the engine has a test with its ID in the name.

The list is written out here: a test that is renamed or removed must not take its fault off the list unnoticed. What
belongs to TLS, UDP, UNIX sockets and processes (D, U, E6, E7, F7 to F11, F16 to F18, F21) comes with those parts.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def numbered(letter: str, *numbers: int) -> list[str]:
    return [f"{letter}{number}" for number in numbers]


FAULTS = [
    *numbered("A", *range(1, 9)),
    *numbered("B", *range(1, 14)),
    *numbered("C", *range(1, 18)),
    *numbered("E", 1, 2, 3, 4, 5, 8, 9),
    *numbered("F", 1, 2, 3, 4, 5, 6, 12, 13, 14, 15, 19, 20),
]


def ids_in(text: str) -> set[str]:
    """The IDs that names of test functions carry: `test_F15_C9_…` carries two."""
    return {
        part
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)", text, re.MULTILINE)
        for part in name.split("_")
        if re.fullmatch(r"[A-F]\d+", part)
    }


COVERED = Counter(
    each for path in sorted(TESTS.rglob("test_*.py")) for each in ids_in(path.read_text(encoding="utf-8"))
)


def test_the_names_of_tests_are_read_as_they_are_written() -> None:
    text = "def test_F15_C9_a():\n    def test_B13_inner(): ...\n# def test_A1_not\nx = 'test_A2_b'\ndef no_A3(): ..."
    assert ids_in(text) == {"F15", "C9", "B13"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_a_test_with_its_name(fault: str) -> None:
    assert COVERED[fault]


def test_no_test_carries_an_ID_that_is_not_on_the_list() -> None:
    assert sorted(set(COVERED) - set(FAULTS)) == []
