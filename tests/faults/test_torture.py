"""FAULTS A, B and C at large: the n-th call of every kind fails, for every n and every errno it may give; then all at once.

The stage plays its scenarios on the simulated kernel and checks every invariant of CONTRACT section 4 afterwards: one
outcome per attempt, one end per connection, factories balanced, not one descriptor, timer or registration left, no event
reported again and again for nothing.
"""

from __future__ import annotations

from random import Random

import pytest

from ropewalk.simulation.faults import FALLIBLE
from tests.faults.scene import name_of
from tests.faults.stage import Fault, Stage, nobody
from tests.faults.test_reentrancy import SPOTS, STEPS, hostile

# Made before the play begins; see test_time_and_threads for a reactor that cannot be made.
CALLS = [call for call in FALLIBLE if call not in ("poller", "socket_pair")]
MOST = 40


def calls_made(scenario, call):
    stage = Stage(scenario, nobody)
    stage.play()
    return min(stage.host.faults.counts[call], MOST)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("scenario", ["orderly", "abrupt", "refused", "named", "silent"])
def test_A5_B12_C5_C8_the_nth_call_fails_for_every_n_and_every_errno(scenario, call, errors):
    for nth in range(1, calls_made(scenario, call) + 2):
        for error in FALLIBLE[call]:
            for times in (1, 3):
                stage = Stage(scenario, nobody)
                assert stage.reactor
                stage.host.faults.fail(call, error, nth, times)
                try:
                    stage.play()
                    stage.host.faults.clear()
                    stage.check(errors=errors())
                    stage.check_bytes()
                except Exception as broken:
                    broken.add_note(
                        f"{scenario}: {call} number {nth} failed {times} times with {name_of(error)}"
                    )
                    raise


@pytest.mark.parametrize("seed", range(150))
def test_C8_C12_C14_hostile_users_on_a_failing_kernel_keep_every_invariant(seed, errors):
    """Calls from within callbacks, exceptions, short writes, a few descriptors only, and any call failing now and then."""
    random = Random(seed)
    stage = Stage(random.choice(list(SPOTS) + list(STEPS)), nobody, seed)
    calls = hostile(random, random.choice([0.02, 0.1, 0.3]))
    raising = random.choice([0, 0.05])

    def interfere(stage, spot, role):
        calls(stage, spot, role)
        # Why not there: who starts a factory, stops it again and then raises has no balance that could be checked.
        if spot != "startFactory" and random.random() < raising:
            raise Fault("now and then")

    stage.interfere = interfere
    if random.random() < 0.5:
        stage.observe()
    assert stage.reactor
    faults = stage.host.faults
    for call in CALLS:
        chance = random.choice([0, 0, 0.02, 0.2])
        if chance:
            faults.failSometimes(call, chance=chance)
    if random.random() < 0.5:
        faults.short("send", random.choice([1000, 50_000]))
    if random.random() < 0.3:
        stage.host.descriptorLimit = len(stage.host.descriptors.files) + random.randrange(3, 12)
    finish = stage.finish

    def finish_in_peace():
        faults.clear()
        finish()

    stage.finish = finish_in_peace
    stage.play()
    ours = [each for each in errors() if "raised" not in each and not each.startswith("at shutdown")]
    stage.check(expected_errors=len(errors()), errors=errors())
    assert ours == []
    stage.check_bytes()
