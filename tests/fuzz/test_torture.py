"""Invariant: whichever single call of the kernel fails, in whichever way it may, everything is told and nothing is left.

For each scenario (plays.py) the calls are counted first. Then it is played again for every call, the first, the second,
the n-th of its kind, on each host, and for every errno that this call may give (`FALLIBLE`); each time the judge asserts
what it asserts of the swarm. ROPEWALK_MOST_CALLS says up to which n (all of them by default, but where a scenario says `most`;
only the big transfers have more than some dozens).
"""

from __future__ import annotations

import errno

import pytest

from ropewalk.simulation import FALLIBLE, Simulation
from tests.fuzz.judge import breaches
from tests.fuzz.plays import SCENARIOS, Fault, Play, Scenario, faults_of, told

# A reactor's own; see the last test.
OF_THE_REACTOR = {"poller", "socket_pair"}


def points(scenario: Scenario) -> list[Fault]:
    """Every fault that can strike a scenario."""
    play = Play(scenario)
    play.live()
    assert breaches(play) == [], "without any fault"
    return faults_of(play)


def wrongs(scenario: Scenario, fault: Fault) -> list[str]:
    play = Play(scenario, fault)
    play.live()
    wrong = breaches(play)
    play.sim.close()
    return [f"{told(scenario, fault)}: {each}" for each in wrong]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_call_may_fail_in_every_way_in(scenario):
    wrong = [each for fault in points(scenario) for each in wrongs(scenario, fault)]
    assert not wrong, "\n".join(wrong[:20])


def test_no_call_is_left_out():
    struck = {fault.call for scenario in SCENARIOS for fault in points(scenario)}
    assert struck == set(FALLIBLE)


MAKING = [(call, error) for call in (*sorted(OF_THE_REACTOR), "register") for error in FALLIBLE[call]]


@pytest.mark.parametrize(("call", "error"), MAKING, ids=lambda each: errno.errorcode.get(each, each))
def test_A1_a_reactor_that_cannot_be_made_leaves_nothing_and_can_be_made_later(call, error):
    sim = Simulation()
    host = sim.host()
    host.faults.fail(call, error)
    with pytest.raises(OSError) as raised:
        host.reactor  # noqa: B018
    assert raised.value.errno == error
    raised.value.__traceback__ = None
    del raised
    assert host.descriptors.files == {}
    assert host.reactor is not None
    sim.close()
    assert host.descriptors.files == {}
