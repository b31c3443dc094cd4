"""Giving up: stopConnecting, disconnect and reactor.stop at each moment of an attempt.

Whatever the moment, the attempt ends then, once, with the factory told on the spot (stopConnecting, disconnect) or in the
turn that stops (reactor.stop); nothing is left, and nothing is heard later: each scene runs on for a long time afterwards.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from ropewalk.error import NotConnectingError
from ropewalk.observe import explain
from tests.scenarios.script import LOST, Scene, after, lines, refused

# The name has two addresses that never answer; its look-up takes two seconds.
BEGINNING = """
0     connecting
0     startFactory()
0     startedConnecting()
"""
RESOLVING = BEGINNING + "0     resolving\n"
FIRST = RESOLVING + "2     resolved 6a:7 4a:7\n2     attempt started 6a:7\n"
SECOND = FIRST + "2.25  attempt started 4a:7\n"


def given_up(time: float, phase: str, *attempts: str, error: str = "UserError") -> str:
    """What is told when it is given up: the attempts under way first, then the failure."""
    told = [f"attempt failed {attempt} s" for attempt in attempts]
    told += [f"failed {error} while {phase}", f"clientConnectionFailed({error})", "stopFactory()"]
    return "\n".join(f"{time:<5g} {line}" for line in told)


class Moment(NamedTuple):
    claim: str
    # Virtual seconds after connectTCP; None for before it returned, in startedConnecting.
    when: float | None
    script: str


MOMENTS = [
    Moment("in startedConnecting", None, BEGINNING + given_up(0, "resolving")),
    Moment("before the first turn", 0, BEGINNING + given_up(0, "resolving")),
    Moment("while resolving", 1, RESOLVING + given_up(1, "resolving")),
    Moment("while the first is tried", 2.1, FIRST + given_up(2.1, "connecting", "6a:7 given up, 0.1")),
    Moment(
        "while two are tried",
        2.5,
        SECOND + given_up(2.5, "connecting", "6a:7 given up, 0.5", "4a:7 given up, 0.25"),
    ),
]


def scene_of_two_lost(scene: Scene) -> None:
    scene.listen()
    for address in ("192.0.2.10", "2001:db8::a"):
        scene.sim.route(address, **LOST)
    scene.name("some.example", "6a", "4a", delay=2)


@pytest.mark.parametrize("asked", ["stopConnecting", "disconnect"])
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.claim)
def test_the_script_of_giving_up_is(scene, moment, asked):
    scene_of_two_lost(scene)
    inside = []

    def give_up(connector: Any) -> None:
        before = str(scene.script)
        getattr(connector, asked)()
        inside.append(str(scene.script)[len(before) :].strip())

    acts = {"startedConnecting": give_up} if moment.when is None else {}
    factory = scene.call("some.example", timeout=3000, **acts)
    if moment.when is not None:
        if moment.when:
            scene.sim.advance(moment.when)
        give_up(factory.connector)
    assert factory.connector.state == "disconnected"
    scene.sim.runUntilIdle()
    scene.sim.advance(5000)
    assert str(scene.script) == lines(moment.script)
    # Synchronously: all of it before the call had returned.
    assert inside[0].endswith("stopFactory()")
    assert "clientConnectionFailed(UserError)" in inside[0]


@pytest.mark.parametrize("moment", MOMENTS[2:], ids=lambda moment: moment.claim)
def test_I8_a_reactor_that_stops_meanwhile_is_told_the_same_way(scene, moment):
    scene_of_two_lost(scene)
    factory = scene.call("some.example", timeout=3000)
    scene.sim.advance(moment.when)
    scene.client.reactor.stop()
    scene.sim.advance(5000)
    assert str(scene.script) == lines(moment.script.replace("UserError", "ConnectError"))
    assert "the reactor was stopped" in str(factory.reason)
    assert scene.client.ledger().leftovers() == []


@pytest.mark.parametrize("moment", MOMENTS[2:], ids=lambda moment: moment.claim)
def test_the_deadline_at_the_same_moment_is_told_the_same_way(scene, moment):
    scene_of_two_lost(scene)
    scene.call("some.example", timeout=moment.when)
    scene.sim.runUntilIdle()
    assert str(scene.script) == lines(
        moment.script.replace("given up", "ETIMEDOUT").replace("UserError", "TimeoutError")
    )


REFUSALS = [
    # In which callback it is asked for, of a connection that stands or of an attempt that fails.
    ("buildProtocol", {}),
    ("connectionMade", {}),
    ("clientConnectionFailed", LOST),
    ("stopFactory", LOST),
]


@pytest.mark.parametrize(("where", "route"), REFUSALS)
def test_stopConnecting_is_refused_when_nothing_connects(scene, where, route):
    scene.listen()
    scene.sim.route("192.0.2.10", **route)
    refused = []

    def ask(*_: Any) -> None:
        with pytest.raises(NotConnectingError) as raised:
            factory.connector.stopConnecting()
        refused.append(raised.value)

    factory = scene.call("4a", timeout=1, **{where: ask})
    scene.sim.runUntilIdle()
    assert len(refused) == 1
    with pytest.raises(NotConnectingError):
        factory.connector.stopConnecting()


AT_ONE_INSTANT = [0.0, 0.1, 0.25, 0.3, 1.0, 2.0]


@pytest.mark.parametrize("when", AT_ONE_INSTANT)
@pytest.mark.parametrize("seed", range(6))
def test_giving_up_at_the_instant_of_the_answer_ends_in_one_way(seed, when):
    """Answer and call fall on one instant; the seed says which is first. Either way the story is whole."""
    scene = Scene(seed)
    scene.listen()
    scene.sim.route("192.0.2.10", **after(when))
    factory = scene.call("4a")
    scene.client.reactor.callLater(when, lambda: factory.connector.disconnect())
    scene.sim.runUntilIdle()
    told = scene.script.callbacks()
    assert told.count("clientConnectionFailed(UserError)") + told.count("clientConnectionLost") == 1
    assert told.count("connectionMade") == told.count("connectionLost(")
    assert told.endswith("stopFactory()")
    assert scene.sim.connections() == []
    scene.close()


@pytest.mark.parametrize("moment", MOMENTS[1:], ids=lambda moment: moment.claim)
def test_who_gives_up_may_connect_again_at_once_and_hears_nothing_of_the_first(scene, moment):
    scene_of_two_lost(scene)
    scene.name("other.example", "4b")
    factory = scene.call("some.example", timeout=3000)
    if moment.when:
        scene.sim.advance(moment.when)

    def again(connector: Any) -> None:
        connector.host = "other.example"
        connector.connect()

    factory.player.acts["clientConnectionFailed"] = again
    factory.connector.stopConnecting()
    del factory.player.acts["clientConnectionFailed"]
    scene.sim.advance(5000)
    told = scene.script.callbacks()
    assert told.count("clientConnectionFailed") == 1
    assert told.count("startFactory") == 1
    assert told.count("startedConnecting") == 2
    assert told.endswith("buildProtocol(4b:7)\n" + f"{moment.when:<5g} connectionMade()")


@pytest.mark.parametrize("how", ["stopConnecting", "the reactor stops"])
def test_the_reason_tells_what_had_failed_and_what_was_under_way(scene, how):
    scene.listen()
    scene.sim.route("2001:db8::a", **refused(0.5))
    scene.sim.route("192.0.2.10", **LOST)
    scene.name("some.example", "6a", "4a", delay=2)
    factory = scene.call("some.example", timeout=3000)
    scene.sim.advance(3)
    if how == "stopConnecting":
        factory.connector.stopConnecting()
    else:
        scene.client.reactor.stop()
        scene.sim.advance(1)
    told = (
        " [while connecting; resolving took 2.000 s, connecting took 1.000 s; "
        "tried [2001:db8::a]:7: ECONNREFUSED after 500 ms, 192.0.2.10:7: given up after 750 ms]"
    )
    assert str(factory.reason).endswith(told)
    assert "192.0.2.10:7: given up after 750 ms" in str(explain(factory.reason))


@pytest.mark.parametrize(("host", "phase"), [("192.0.2.10", "connecting"), ("some.example", "resolving")])
def test_given_up_at_once_the_phase_is_the_one_that_would_have_begun(scene, host, phase):
    factory = scene.call(host)
    factory.connector.stopConnecting()
    assert factory.reason.phase == phase
    assert factory.reason.elapsed == {phase: 0}


def test_a_protocol_that_cannot_be_built_leaves_a_reason_that_tells_what_was_tried(scene):
    scene.listen()
    scene.sim.route("2001:db8::a", **LOST)
    scene.sim.route("192.0.2.10", **after(0.5))
    scene.name("some.example", "6a", "4a", delay=2)
    factory = scene.call("some.example", buildProtocol=lambda _: 1 / 0)
    scene.sim.advance(5)
    assert str(factory.reason) == (
        "could not connect: buildProtocol raised ZeroDivisionError: division by zero "
        "[while connecting; resolving took 2.000 s, connecting took 750 ms; "
        "tried [2001:db8::a]:7: given up after 750 ms, 192.0.2.10:7: buildProtocol raised after 500 ms]"
    )
