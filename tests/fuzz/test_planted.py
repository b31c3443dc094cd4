"""The net catches fish: a handful of planted bugs in each test run, each caught by the seed that docs/simulation.md says.

All of them: `python -m tests.fuzz.planted`. That each is listed in the page, and can still be planted, is checked for all here.
"""

from __future__ import annotations

import pytest

from tests.fuzz.planted import BUGS, PACKAGE, catch, rows
from tests.fuzz.slips import Bug

# Why these: each is caught within a few seeds, by different means of the judge.
QUICK = (
    "closed-before-unwatched",
    "connect-deadline-not-cancelled",
    "half-close-drops-the-buffer",
    "reset-told-as-done",
    "stopListening-keeps-its-reserve",
)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_is_listed_and_can_still_be_planted(bug: Bug) -> None:
    assert bug.name in rows(), "python -m tests.fuzz.planted --write"
    text = (PACKAGE / bug.file).read_text()
    for taken, put in bug.changes:
        assert text.count(taken) == 1
        assert taken != put


@pytest.mark.slow
@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.name in QUICK], ids=lambda bug: bug.name)
def test_it_is_caught_by_the_seed_that_the_page_says(bug: Bug) -> None:
    by, seeds = rows()[bug.name]
    assert by == "swarm"
    found = catch(bug, most=seeds, has_torture=False)
    assert (found.by, found.seeds) == (by, seeds)
