"""Ropewalk's own transports pass the suite that it publishes: real TCP over each poller, simulated TCP in many weathers."""

from __future__ import annotations

import sys

import pytest

from ropewalk.testing import checkTransport, transportClaims
from tests.contract.transport_pairs import Weather, over_poller

POLLERS = ["epoll", "poll", "select"] if sys.platform.startswith("linux") else ["poll", "select"]
SEEDS = range(8)
# Why left out with select: it cannot notice a reset where nothing is asked for; see docs/differences-from-twisted.md, D24.
CAN = {"epoll": {}, "poll": {}, "select": {"resetsWhilePaused": False}}


@pytest.mark.parametrize("poller", POLLERS)
def test_real_TCP_holds_every_claim_and_select_lacks_only_resets_while_paused(poller: str) -> None:
    report = checkTransport(over_poller(poller), **CAN[poller])
    claims = len(transportClaims())
    assert len(report.held) + len(report.leftOut) == claims
    assert {ability for _, ability in report.leftOut} == set(CAN[poller])


# Why slow: what differs between the CPythons is seen without them.
@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_simulated_TCP_holds_every_claim_in_any_weather(seed: int) -> None:
    weather = Weather(seed)
    report = checkTransport(weather, bulk=weather.bulk)
    assert len(report.held) == len(transportClaims()), weather


def test_the_weathers_differ_in_all_that_they_can_differ_in() -> None:
    weathers = [Weather(seed) for seed in SEEDS]
    for what in ("latency", "jitter", "loss", "short", "buffer", "bulk"):
        assert len({getattr(each, what) for each in weathers}) > 1, what
    assert any(each.loss and each.latency and each.jitter for each in weathers)
    assert any(each.short[0] == 1 for each in weathers)


@pytest.mark.parametrize(("name", "claim"), transportClaims(bulk=300_000))
def test_as_a_table_of_tests_each_claim_holds_by_itself(name, claim) -> None:
    claim(over_poller(POLLERS[0]))
