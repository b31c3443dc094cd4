"""Names: what their look-up answers and when, what the client is told, and one deadline for resolving and connecting."""

from __future__ import annotations

import builtins
import socket
from typing import Any, NamedTuple

import pytest

from ropewalk import ClientFactory
from ropewalk.error import ConnectError, DNSLookupError
from tests.scenarios.script import LOST, Scene, after, lines, refused


class Silent(ClientFactory):
    """A client of which nothing is to be seen."""

    noisy = False


NODATA = getattr(socket, "EAI_NODATA", socket.EAI_NONAME)
LABEL = UnicodeError("label too long")


class Row(NamedTuple):
    claim: str
    # What `Simulation.name` is told; "addresses" by their short names.
    answer: dict[str, Any]
    script: str
    timeout: float | None = 30
    # How 4a answers a SYN.
    route: dict[str, Any] = {}


ROWS = [
    Row(
        "a slow answer is waited for",
        {"addresses": ["4a"], "delay": 12.5},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        12.5  resolved 4a:7
        12.5  attempt started 4a:7
        12.5  connected 4a:7
        12.5  buildProtocol(4a:7)
        12.5  protocol built
        12.5  connectionMade()
        """,
    ),
    Row(
        "no such name fails as soon as that is known",
        {"error": socket.EAI_NONAME, "delay": 0.5},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0.5   resolve failed
        0.5   failed DNSLookupError while resolving
        0.5   clientConnectionFailed(DNSLookupError)
        0.5   stopFactory()
        """,
    ),
    Row(
        "what any resolver raises fails at once, not at the timeout",
        {"error": LABEL, "delay": 0},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     resolve failed
        0     failed DNSLookupError while resolving
        0     clientConnectionFailed(DNSLookupError)
        0     stopFactory()
        """,
    ),
    Row(
        "a name without an address fails",
        {"addresses": [], "delay": 1},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        1     resolve failed
        1     failed DNSLookupError while resolving
        1     clientConnectionFailed(DNSLookupError)
        1     stopFactory()
        """,
    ),
    Row(
        "a name that never answers fails at the deadline",
        {"never": True},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        30    failed TimeoutError while resolving
        30    clientConnectionFailed(TimeoutError)
        30    stopFactory()
        """,
    ),
    Row(
        "an answer after the deadline is heard by nobody",
        {"addresses": ["4a"], "delay": 5.001},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        5     failed TimeoutError while resolving
        5     clientConnectionFailed(TimeoutError)
        5     stopFactory()
        """,
        timeout=5,
    ),
    Row(
        "one deadline covers both: what resolving took is gone for connecting",
        {"addresses": ["4a"], "delay": 4},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        4     resolved 4a:7
        4     attempt started 4a:7
        5     attempt failed 4a:7 ETIMEDOUT, 1 s
        5     failed TimeoutError while connecting
        5     clientConnectionFailed(TimeoutError)
        5     stopFactory()
        """,
        timeout=5,
        route=LOST,
    ),
    Row(
        "without a deadline the slowest name and the slowest peer are waited for",
        {"addresses": ["4a"], "delay": 5000},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        5000  resolved 4a:7
        5000  attempt started 4a:7
        5100  connected 4a:7
        5100  buildProtocol(4a:7)
        5100  protocol built
        5100  connectionMade()
        """,
        timeout=None,
        route=after(100),
    ),
    Row(
        "a deadline of no time at all is over in the first turn",
        {"addresses": ["4a"]},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     failed TimeoutError while resolving
        0     clientConnectionFailed(TimeoutError)
        0     stopFactory()
        """,
        timeout=0,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
def test_the_script_of_a_name_is(scene, row):
    scene.listen()
    answer = dict(row.answer)
    addresses = answer.pop("addresses", [])
    if addresses:
        scene.name("some.example", *addresses, delay=answer.get("delay", 0))
        scene.sim.route("192.0.2.10", **row.route)
    else:
        scene.sim.name("some.example", **answer)
    scene.call("some.example", timeout=row.timeout)
    scene.sim.runUntilIdle()
    assert str(scene.script) == lines(row.script)


ERRORS = [
    # What the look-up says; whether the name may exist all the same; errno; what the text tells.
    (socket.EAI_NONAME, False, socket.EAI_NONAME, "EAI_NONAME"),
    (NODATA, False, NODATA, "EAI_NODATA"),
    (socket.EAI_AGAIN, True, socket.EAI_AGAIN, "EAI_AGAIN"),
    (socket.EAI_FAIL, True, socket.EAI_FAIL, "EAI_FAIL"),
    (OSError(24, "Too many open files"), True, 24, "EMFILE"),
    (RuntimeError("can't start new thread"), True, None, "can't start new thread"),
    (LABEL, False, None, "label too long"),
]


@pytest.mark.parametrize(("said", "temporary", "number", "told"), ERRORS)
def test_a_failed_look_up_tells_whether_the_name_was_judged(scene, said, temporary, number, told):
    scene.sim.name("some.example", error=said, delay=2.5)
    factory = scene.call("some.example")
    scene.sim.runUntilIdle()
    reason = factory.reason
    assert isinstance(reason, DNSLookupError)
    assert isinstance(reason, ConnectError)
    assert isinstance(reason, builtins.OSError)
    assert (reason.temporary, reason.errno, reason.phase) == (temporary, number, "resolving")
    assert reason.elapsed == {"resolving": pytest.approx(2.5)}
    assert reason.attempts == ()
    for part in ("'some.example'", told, "while resolving", "resolving took 2.500 s"):
        assert part in str(reason)


ELAPSED = [
    # Seconds of the look-up, route, timeout: seconds of each phase, and what the text tells.
    (0, refused(0.5), 30, {"resolving": 0, "connecting": 0.5}, "connecting took 500 ms"),
    (1.5, refused(2), 30, {"resolving": 1.5, "connecting": 2}, "resolving took 1.500 s, connecting took 2.000 s"),
    (1.5, LOST, 10, {"resolving": 1.5, "connecting": 8.5}, "resolving took 1.500 s, connecting took 8.500 s"),
    (20, {}, 10, {"resolving": 10}, "while resolving; resolving took 10.000 s"),
]  # fmt: skip


@pytest.mark.parametrize(("delay", "route", "timeout", "elapsed", "told"), ELAPSED)
def test_the_reason_tells_the_seconds_of_each_phase(scene, delay, route, timeout, elapsed, told):
    scene.name("some.example", "4a", delay=delay)
    scene.sim.route("192.0.2.10", **route)
    factory = scene.call("some.example", timeout=timeout)
    scene.sim.runUntilIdle()
    assert factory.reason.elapsed == pytest.approx(elapsed)
    assert told in str(factory.reason)


def test_a_literal_address_has_no_phase_of_resolving(scene):
    scene.sim.route("192.0.2.10", **refused(0.5))
    factory = scene.call("4a")
    scene.sim.runUntilIdle()
    assert factory.reason.elapsed == {"connecting": pytest.approx(0.5)}
    assert factory.reason.phase == "connecting"


STUCK = [
    # Names that never answer, asked for just before; when the good one connects, or fails at its deadline of 40 s.
    (0, 0.0),
    (15, 0.0),
    (16, 0.1),
    (17, 0.1),
    (31, 0.1),
    (32, 0.2),
    (100, 0.6),
    (255, 1.5),
    (256, None),
]


@pytest.mark.parametrize(("stuck", "when"), STUCK)
def test_E1_names_that_never_answer_delay_others_by_a_tenth_of_a_second_for_each_sixteen(stuck, when):
    scene = Scene()
    scene.listen()
    scene.sim.name("stuck.example", never=True)
    scene.name("good.example", "4a")
    for _ in range(stuck):
        scene.client.reactor.connectTCP("stuck.example", 7, Silent(), timeout=1000)
    factory = scene.call("good.example", timeout=40)
    scene.sim.advance(50)
    if when is None:
        assert type(factory.reason).__name__ == "TimeoutError"
    else:
        [line] = [line for line in str(scene.script).splitlines() if "connectionMade" in line]
        assert line == f"{when:<5g} connectionMade()"
    scene.close()


@pytest.mark.parametrize(("stuck", "when"), [(0, 0.2), (16, 0.3), (160, 1.2), (255, 1.7)])
def test_the_timeout_of_resolve_counts_from_the_start_of_its_own_look_up(stuck, when):
    scene = Scene()
    scene.sim.name("stuck.example", never=True)
    scene.name("good.example", "4a", delay=0.2)
    reactor = scene.client.reactor
    waiting = [reactor.resolve("stuck.example", timeout=1000) for _ in range(stuck)]
    asked, answered = reactor.seconds(), []
    reactor.resolve("good.example", timeout=0.25).addBoth(
        lambda address: answered.append((address, reactor.seconds() - asked))
    )
    scene.sim.advance(10)
    assert answered == [("192.0.2.10", pytest.approx(when))]
    for each in waiting:
        each.addErrback(lambda failure: None).cancel()
    scene.close()


@pytest.mark.parametrize("given_up", [15, 16, 40])
def test_E1_who_gives_up_a_stuck_name_holds_nobody_up(given_up):
    scene = Scene()
    scene.listen()
    scene.sim.name("stuck.example", never=True)
    scene.name("good.example", "4a")
    for _ in range(given_up):
        connector = scene.client.reactor.connectTCP("stuck.example", 7, Silent())
        scene.sim.advance(0)
        connector.stopConnecting()
    scene.call("good.example", timeout=40)
    scene.sim.advance(50)
    assert "0     connectionMade()" in str(scene.script)
    scene.close()


def test_a_timeout_while_waiting_for_a_place_gives_the_place_in_the_queue_up(scene):
    scene.listen()
    scene.sim.name("stuck.example", never=True)
    scene.name("good.example", "4a")
    for _ in range(256):
        scene.client.reactor.connectTCP("stuck.example", 7, Silent(), timeout=1000)
    for timeout in (1, 2, 3):
        scene.call("good.example", timeout=timeout)
    scene.sim.advance(10)
    assert scene.script.callbacks().count("clientConnectionFailed(TimeoutError)") == 3
    assert scene.script.callbacks().count("buildProtocol") == 0
