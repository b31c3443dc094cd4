"""Every fault of this part has a test with its ID in the name.

The IDs are those of FAULTS sections A, B, C and E (E6 and E7 are about child processes and come with them) and of the
measured faults of section 1 that concern TCP, the loop, threads and names. A test may stand in any folder.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
IDS = [
    *(f"A{number}" for number in range(1, 9)),
    *(f"B{number}" for number in range(1, 14)),
    *(f"C{number}" for number in range(1, 18)),
    *(f"E{number}" for number in (1, 2, 3, 4, 5, 8, 9)),
    *(f"F{number}" for number in (1, 2, 3, 4, 5, 6, 12, 13, 14, 15, 19, 20)),
]


def names_by_id():
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for name in re.findall(r"^\s*def (test_\w+)\(", path.read_text(), re.MULTILINE):
            for each in re.findall(r"(?<=_)[A-Z]\d+(?=_)", name + "_"):
                found.setdefault(each, []).append(f"{path.relative_to(TESTS)}: {name}")
    return found


NAMES = names_by_id()


@pytest.mark.parametrize("fault", IDS)
def test_a_test_has_its_name(fault):
    assert NAMES.get(fault), f"no test_…{fault}… in tests/"
