"""Back-off: the first wait is short, later ones grow to a cap and not above, and chance is whose one says."""

from __future__ import annotations

import random
from typing import Any

import pytest
from twisted.application.internet import backoffPolicy as twisted_policy

from ropewalk.service import backoffPolicy


def test_the_first_wait_is_at_most_the_initial_delay_and_none_is_above_the_cap() -> None:
    policy = backoffPolicy(initialDelay=2.0, maxDelay=30.0, factor=2.0)
    for attempt, most in [(1, 2), (2, 4), (3, 8), (4, 16), (5, 30), (6, 30), (10**6, 30)]:
        drawn = [policy(attempt) for _ in range(300)]
        least = 0 if attempt == 1 else most / 2
        assert least <= min(drawn) < max(drawn) <= most
        assert max(drawn) - min(drawn) > (most - least) * 0.8


def test_the_same_chance_gives_the_same_waits() -> None:
    policy = backoffPolicy()
    first, second = ([policy.draw(n, chance) for n in range(1, 20)] for chance in map(random.Random, (5, 5)))
    assert first == second


@pytest.mark.parametrize("seed", range(50))
def test_without_chance_it_is_twisteds_and_begins_with_the_initial_delay(seed: int) -> None:
    chance = random.Random(seed)
    settings: dict[str, Any] = {
        "initialDelay": chance.uniform(0.1, 5),
        "maxDelay": chance.uniform(5, 100),
        "factor": chance.uniform(1, 4),
        "jitter": lambda: 0.25,
    }
    ours, theirs = backoffPolicy(**settings), twisted_policy(**settings)
    assert [ours(n + 1) for n in range(100)] == [theirs(n) for n in range(100)]


def test_a_policy_that_would_hammer_is_refused() -> None:
    nan = float("nan")
    wrongs: list[dict[str, Any]] = [{"initialDelay": -1}, {"maxDelay": -1}, {"factor": 0.5}]
    wrongs += [
        {name: wrong} for name in ("initialDelay", "maxDelay", "factor") for wrong in (nan, float("inf"))
    ]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="no such back-off"):
            backoffPolicy(**wrong)


def test_a_jitter_may_shorten_a_wait_to_nothing_and_must_be_a_number() -> None:
    assert backoffPolicy(1, 60, 1.5, lambda: -5.0)(3) == 0.0
    for wrong in (float("nan"), float("-inf"), None, "1"):
        policy = backoffPolicy(1, 60, 1.5, lambda wrong=wrong: wrong)  # type: ignore[misc]
        with pytest.raises(ValueError, match=f"jitter must give a finite number of seconds, not {wrong!r}"):
            policy(3)
