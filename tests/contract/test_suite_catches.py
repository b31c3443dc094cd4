"""The suite finds what it is there to find: each planted fault is named by the claim that it breaks."""

from __future__ import annotations

import logging
import re
import unittest
from functools import partial
from typing import Any

import pytest

from ropewalk.testing import checkTransport, transportClaims
from tests.contract.faulty_transports import FAULTS, Layer, LayeredPair

# Why little: the layer is the same for all sizes, and each fault is looked for with the whole suite.
BULK = 200_000


def broken_claims(kind: type[Layer], **can: bool) -> dict[str, str]:
    """The claims that do not hold over this layer, and what was seen."""
    try:
        checkTransport(partial(LayeredPair, kind), bulk=BULK, **can)
    except AssertionError as exc:
        rows = re.findall(r"^\* (.*)\n((?:    .*\n?)*)", str(exc), re.MULTILINE)
        return {name: seen for name, seen in rows if seen}
    return {}


def test_a_layer_without_fault_holds_every_claim() -> None:
    report = checkTransport(partial(LayeredPair, Layer), bulk=BULK)
    assert report.leftOut == ()
    assert list(report.held) == [name for name, _ in transportClaims()]
    assert str(report) == f"{len(report.held)} claims held"


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_a_transport_that(kind: type[Layer]) -> None:
    assert kind.CLAIM in {name for name, _ in transportClaims()}
    assert kind.CLAIM in broken_claims(kind)


def test_there_are_faults_of_every_topic() -> None:
    assert len(FAULTS) >= 15
    assert len({kind.CLAIM for kind in FAULTS}) >= 35


@pytest.mark.parametrize(
    "ability",
    [
        "halfClose",
        "resets",
        "resetsWhilePaused",
        "producers",
        "writeLimits",
        "backPressure",
        "counters",
        "addresses",
        "endings",
        "closeDeadline",
        "freed",
    ],
)
def test_claims_that_need_what_is_not_there_are_left_out_and_named(ability: str) -> None:
    report = checkTransport(partial(LayeredPair, Layer), bulk=1000, **{ability: False})
    assert report.leftOut
    assert {needed for _, needed in report.leftOut} == {ability}
    assert len(report.held) + len(report.leftOut) == len(transportClaims())
    for name, _ in report.leftOut:
        assert f"* {name} (needs {ability})" in str(report)
        with pytest.raises(unittest.SkipTest, match=f"has no {ability}"):
            dict(transportClaims(**{ability: False}))[name](partial(LayeredPair, Layer))


def test_an_ability_that_there_is_not_is_a_TypeError_that_names_those_there_are() -> None:
    misspelt: Any = {"halfclose": False}
    for refused in (partial(checkTransport, partial(LayeredPair, Layer)), transportClaims):
        with pytest.raises(TypeError, match="no ability halfclose; there are: halfClose, "):
            refused(**misspelt)


def test_a_maker_that_raises_or_returns_too_early_is_told_as_such() -> None:
    def raises(left, right):
        raise OSError("no route to nowhere")

    with pytest.raises(AssertionError, match="OSError was raised: no route to nowhere"):
        dict(transportClaims())["one byte arrives by itself"](raises)

    class TooEarly:
        left = right = None

        def runUntil(self, condition):
            return condition()

        def close(self):
            pass

    with pytest.raises(AssertionError, match="makePair returned before left was connected"):
        dict(transportClaims())["one byte arrives by itself"](lambda left, right: TooEarly())


@pytest.mark.parametrize("how", ["returns False", "raises"])
def test_a_world_that_gives_up_may_return_or_raise(how: str) -> None:
    class GivesUp(LayeredPair):
        def runUntil(self, condition):
            if not super().runUntil(condition):
                if how == "raises":
                    raise TimeoutError("that is long enough")
                return False
            return True

    claim = dict(transportClaims())["nothing is delivered while paused, everything after resuming"]
    claim(partial(GivesUp, Layer))
    never = next(kind for kind in FAULTS if kind.__name__ == "NeverResumes")
    told = "that is long enough" if how == "raises" else "it never came about that left receives"
    with pytest.raises(AssertionError, match=told):
        claim(partial(GivesUp, never))


def test_what_claims_provoke_reaches_no_log_handler_of_the_program(caplog: pytest.LogCaptureFixture) -> None:
    before = list(logging.getLogger("ropewalk").handlers)
    name = "an exception in dataReceived ends the connection, is its reason, and is logged once"
    dict(transportClaims())[name](partial(LayeredPair, Layer))
    assert caplog.records == []
    assert logging.getLogger("ropewalk").handlers == before
    assert logging.getLogger("ropewalk").propagate
