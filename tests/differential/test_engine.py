"""The same scenarios with Twisted and with Ropewalk: the same logs, but for what the document says.

Invariant: a scenario that names no row of docs/differences-from-twisted.md gives the same log with both engines, for
each end, to the letter; one that names a row differs exactly as it says. And the document lists nothing that is not
shown by a scenario or by a test, and nothing that is not there any more.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.differential.scenarios import SCENARIOS
from tests.house.source import ROOT

pytest.importorskip("twisted", reason="Twisted is not installed: pip install 'ropewalk[test]'")

PAGE = ROOT / "docs" / "differences-from-twisted.md"
# Seconds for all scenarios with one engine; a bound, nothing waits for it.
PATIENCE = 120

Logs = dict[str, dict[str, list[str]]]


@pytest.fixture(scope="module")
def logs() -> tuple[Logs, Logs]:
    """What Twisted logs, and what Ropewalk logs: each engine in a process of its own, at the same time."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.differential", engine],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for engine in ("twisted", "ropewalk")
    ]
    found = []
    for process in processes:
        out, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
        found.append(json.loads(out))
    theirs, ours = found
    return theirs, ours


def only(log: list[str], other: list[str]) -> list[str]:
    """What is in the one and not in the other, in its order."""
    left = Counter(other)
    found = []
    for entry in log:
        if left[entry]:
            left[entry] -= 1
        else:
            found.append(entry)
    return found


@pytest.mark.parametrize("name", [name for name, each in SCENARIOS.items() if not each.differs])
def test_both_engines_tell_the_same_story(logs, name):
    theirs, ours = logs
    assert ours[name] == theirs[name]
    assert theirs[name], "a scenario that logs nothing shows nothing"
    assert "hung" not in str(theirs[name])


@pytest.mark.parametrize("name", [name for name, each in SCENARIOS.items() if each.differs])
def test_the_engines_differ_as_the_document_says_and_no_further(logs, name):
    theirs, ours = (each[name] for each in logs)
    ends = theirs.keys() | ours.keys()
    differing = {
        who: (only(theirs.get(who, []), ours.get(who, [])), only(ours.get(who, []), theirs.get(who, [])))
        for who in ends
        if theirs.get(who) != ours.get(who)
    }
    assert differing == SCENARIOS[name].only
    assert differing, "it does not differ any more: strike it from the document"


def test_there_are_enough_scenarios_of_each_kind():
    same = sum(not each.differs for each in SCENARIOS.values())
    assert same >= 25
    assert len(SCENARIOS) - same >= 25


# ---- the document -------------------------------------------------------------------------------------------------


class Shown(NamedTuple):
    scenarios: list[str]
    tests: list[str]


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if re.match(r"\| D\d+ \|", line)]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]


def told() -> dict[str, list[str]]:
    """Each difference of the tables: point, Twisted's way, ours, why."""
    return {row[0]: row[1:] for row in rows() if len(row) == 5}


def shown() -> dict[str, Shown]:
    """By what each is shown."""
    found = {}
    for row in rows():
        if len(row) == 3:
            scenarios = [each.strip() for each in row[1].split("·") if each.strip()]
            found[row[0]] = Shown(scenarios, re.findall(r"`([^`]+)`", row[2]))
    return found


def test_the_document_s_rows_are_whole_and_no_ID_is_used_twice():
    ids = [row[0] for row in rows() if len(row) == 5]
    assert len(ids) == len(set(ids))
    assert {len(row) for row in rows()} == {5, 3}
    assert sorted(ids, key=lambda each: int(each[1:])) == [f"D{number}" for number in range(1, len(ids) + 1)]
    for each, cells in told().items():
        assert all(cells), each


def test_each_ID_of_the_document_is_shown_and_nothing_else_is():
    assert shown().keys() == told().keys()
    for each, by in shown().items():
        assert by.scenarios or by.tests, each


def test_each_scenario_that_differs_is_in_the_document_and_the_other_way_round():
    by_scenarios = {(name, each) for name, one in SCENARIOS.items() for each in one.differs}
    by_document = {(name, each) for each, by in shown().items() for name in by.scenarios}
    assert by_document == by_scenarios


@pytest.mark.parametrize("each", sorted({test for by in shown().values() for test in by.tests}))
def test_a_test_named_in_the_document_is_there(each):
    path, _, name = each.partition("::")
    tree = ast.parse(Path(ROOT, "tests", path).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
