"""Racing over several addresses (RFC 8305): who is tried when, who wins, what becomes of the losers, what is told.

Each row says which addresses the name has, in the resolver's order, and how a SYN to each of them is answered; and then
the whole script of the client.
"""

from __future__ import annotations

import errno
from typing import Any, NamedTuple

import pytest

from ropewalk import TCPOptions
from tests.scenarios.script import (
    ADDRESSES,
    CLIENT,
    LOST,
    Calling,
    Scene,
    after,
    in_short,
    lines,
    refused,
    unreachable,
)


class Row(NamedTuple):
    claim: str
    # Short name of an address, and how it answers; in the resolver's order.
    answers: dict[str, dict[str, Any]]
    script: str
    how: dict[str, Any] = {}


ROWS = [
    Row(
        "the first that answers at once wins, and nobody else is tried",
        {"6a": after(0.1), "4a": after(0)},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     resolved 6a:7 4a:7
        0     attempt started 6a:7
        0.1   connected 6a:7
        0.1   buildProtocol(6a:7)
        0.1   protocol built
        0.1   connectionMade()
        """,
    ),
    Row(
        "250 ms later the second is tried beside the first, and the loser is given up",
        {"6a": after(1), "4a": after(0.1)},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     resolved 6a:7 4a:7
        0     attempt started 6a:7
        0.25  attempt started 4a:7
        0.35  attempt failed 6a:7 given up, 0.35 s
        0.35  connected 4a:7
        0.35  buildProtocol(4a:7)
        0.35  protocol built
        0.35  connectionMade()
        """,
    ),
    Row(
        "the first may still win after the second was started",
        {"6a": after(0.3), "4a": after(0.1)},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     resolved 6a:7 4a:7
        0     attempt started 6a:7
        0.25  attempt started 4a:7
        0.3   attempt failed 4a:7 given up, 0.05 s
        0.3   connected 6a:7
        0.3   buildProtocol(6a:7)
        0.3   protocol built
        0.3   connectionMade()
        """,
    ),
    Row(
        "a failure starts the next at once",
        {"6a": refused(0.05), "4a": after(0.1)},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     resolved 6a:7 4a:7
        0     attempt started 6a:7
        0.05  attempt failed 6a:7 ECONNREFUSED, 0.05 s
        0.05  attempt started 4a:7
        0.15  connected 4a:7
        0.15  buildProtocol(4a:7)
        0.15  protocol built
        0.15  connectionMade()
        """,
    ),
    Row(
        "a failure beside another attempt starts the next at once, and the stagger counts from there",
        {"6a": refused(0.3), "6b": LOST, "4a": LOST, "4b": after(0.1)},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     resolved 6a:7 4a:7 6b:7 4b:7
        0     attempt started 6a:7
        0.25  attempt started 4a:7
        0.3   attempt failed 6a:7 ECONNREFUSED, 0.3 s
        0.3   attempt started 6b:7
        0.55  attempt started 4b:7
        0.65  attempt failed 4a:7 given up, 0.4 s
        0.65  attempt failed 6b:7 given up, 0.35 s
        0.65  connected 4b:7
        0.65  buildProtocol(4b:7)
        0.65  protocol built
        0.65  connectionMade()
        """,
    ),
    Row(
        "the families take turns, and the last to be tried may win",
        {"6a": LOST, "6b": LOST, "6c": LOST, "4a": LOST, "4b": LOST, "4c": after(0.1)},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     resolved 6a:7 4a:7 6b:7 4b:7 6c:7 4c:7
        0     attempt started 6a:7
        0.25  attempt started 4a:7
        0.5   attempt started 6b:7
        0.75  attempt started 4b:7
        1     attempt started 6c:7
        1.25  attempt started 4c:7
        1.35  attempt failed 6a:7 given up, 1.35 s
        1.35  attempt failed 4a:7 given up, 1.1 s
        1.35  attempt failed 6b:7 given up, 0.85 s
        1.35  attempt failed 4b:7 given up, 0.6 s
        1.35  attempt failed 6c:7 given up, 0.35 s
        1.35  connected 4c:7
        1.35  buildProtocol(4c:7)
        1.35  protocol built
        1.35  connectionMade()
        """,
    ),
    Row(
        "all are refused: the reason is the first address's, and the factory is let go",
        {"6a": refused(0.1), "6b": unreachable(0.2), "4a": refused(0)},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     resolved 6a:7 4a:7 6b:7
        0     attempt started 6a:7
        0.1   attempt failed 6a:7 ECONNREFUSED, 0.1 s
        0.1   attempt started 4a:7
        0.1   attempt failed 4a:7 ECONNREFUSED, 0 s
        0.1   attempt started 6b:7
        0.3   attempt failed 6b:7 EHOSTUNREACH, 0.2 s
        0.3   failed ConnectionRefusedError while connecting
        0.3   clientConnectionFailed(ConnectionRefusedError)
        0.3   stopFactory()
        """,
    ),
    Row(
        "the last failure decides when, whichever attempt it is of",
        {"6a": unreachable(0.4), "4a": refused(0.05)},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     resolved 6a:7 4a:7
        0     attempt started 6a:7
        0.25  attempt started 4a:7
        0.3   attempt failed 4a:7 ECONNREFUSED, 0.05 s
        0.4   attempt failed 6a:7 EHOSTUNREACH, 0.4 s
        0.4   failed ConnectionRefusedError while connecting
        0.4   clientConnectionFailed(ConnectionRefusedError)
        0.4   stopFactory()
        """,
    ),
    Row(
        "the deadline ends all attempts that are under way, and starts no other",
        {"6a": LOST, "6b": LOST, "4a": LOST, "4b": after(0)},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     resolved 6a:7 4a:7 6b:7 4b:7
        0     attempt started 6a:7
        0.25  attempt started 4a:7
        0.5   attempt started 6b:7
        0.6   attempt failed 6a:7 ETIMEDOUT, 0.6 s
        0.6   attempt failed 4a:7 ETIMEDOUT, 0.35 s
        0.6   attempt failed 6b:7 ETIMEDOUT, 0.1 s
        0.6   failed TimeoutError while connecting
        0.6   clientConnectionFailed(TimeoutError)
        0.6   stopFactory()
        """,
        {"timeout": 0.6},
    ),
    Row(
        "a deadline that falls on the stagger starts no other",
        {"6a": LOST, "4a": after(0)},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     resolved 6a:7 4a:7
        0     attempt started 6a:7
        0.25  attempt failed 6a:7 ETIMEDOUT, 0.25 s
        0.25  failed TimeoutError while connecting
        0.25  clientConnectionFailed(TimeoutError)
        0.25  stopFactory()
        """,
        {"timeout": 0.25},
    ),
    Row(
        "without a deadline the kernel's own time-outs decide, 127 s",
        {"6a": LOST, "4a": LOST},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     resolved 6a:7 4a:7
        0     attempt started 6a:7
        0.25  attempt started 4a:7
        127   attempt failed 6a:7 ETIMEDOUT, 127 s
        127.25 attempt failed 4a:7 ETIMEDOUT, 127 s
        127.25 failed TCPTimedOutError while connecting
        127.25 clientConnectionFailed(TCPTimedOutError)
        127.25 stopFactory()
        """,
        {"timeout": None},
    ),
    Row(
        "the delay between attempts is an option",
        {"6a": LOST, "4a": LOST, "4b": after(0)},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     resolved 6a:7 4a:7 4b:7
        0     attempt started 6a:7
        2     attempt started 4a:7
        4     attempt started 4b:7
        4     attempt failed 6a:7 given up, 4 s
        4     attempt failed 4a:7 given up, 2 s
        4     connected 4b:7
        4     buildProtocol(4b:7)
        4     protocol built
        4     connectionMade()
        """,
        {"options": TCPOptions(attemptDelay=2.0)},
    ),
    Row(
        "an address of another family than the local end's is left out",
        {"6a": after(0), "4a": after(0.1)},
        """
        0     connecting
        0     startFactory()
        0     startedConnecting()
        0     resolving
        0     resolved 4a:7
        0     attempt started 4a:7
        0.1   connected 4a:7
        0.1   buildProtocol(4a:7)
        0.1   protocol built
        0.1   connectionMade()
        """,
        {"bindAddress": (CLIENT[0], 0)},
    ),
]


def race(scene: Scene, answers: dict[str, dict[str, Any]], **how: Any) -> Calling:
    """Listen everywhere, lay the routes, call the name."""
    scene.listen()
    for name, route in answers.items():
        scene.sim.route(ADDRESSES[name], **route)
    scene.name("race.example", *answers)
    return scene.call("race.example", **how)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
def test_the_script_of_a_race_is(scene, row):
    factory = race(scene, row.answers, **row.how)
    scene.sim.runUntilIdle()
    assert str(scene.script) == lines(row.script)
    # The winner is the only connection that is left: losers are closed, and the server knows.
    assert [each.remote[0] for each in scene.sim.connections()] == [
        talk.transport.getPeer().host for talk in factory.talks
    ]


ORDERS = [
    ("6a 6b 6c 4a 4b 4c", "6a 4a 6b 4b 6c 4c"),
    ("4a 4b 6a 6b", "4a 6a 4b 6b"),
    ("6a 6b 6c 4a", "6a 4a 6b 6c"),
    ("4a 6a 6b 6c", "4a 6a 6b 6c"),
    ("4c 4a 4b", "4c 4a 4b"),
    ("6b 4b 6a 4a", "6b 4b 6a 4a"),
    ("6a 6a 4a 6a 4a", "6a 4a"),
    ("6a", "6a"),
]


@pytest.mark.parametrize(("resolved", "tried"), ORDERS)
def test_the_families_take_turns_in_the_resolver_s_order_each_address_once(scene, resolved, tried):
    factory = race(scene, dict.fromkeys(resolved.split(), LOST), timeout=5)
    scene.name("race.example", *resolved.split())
    scene.sim.runUntilIdle()
    seen = [(in_short(each.address)[:-2], each.errno, each.seconds) for each in factory.reason.attempts]
    assert seen == [
        (name, errno.ETIMEDOUT, pytest.approx(5 - 0.25 * place)) for place, name in enumerate(tried.split())
    ]


REASONS = [
    # What each answers, and what is listed: errno and seconds, in the order of the failures.
    ({"4a": refused(0.5)}, [("4a", "ECONNREFUSED", 0.5)], "ConnectionRefusedError"),
    ({"4a": unreachable(0.5)}, [("4a", "EHOSTUNREACH", 0.5)], "NoRouteError"),
    (
        {"4a": refused(0.1), "4b": unreachable(0.2)},
        [("4a", "ECONNREFUSED", 0.1), ("4b", "EHOSTUNREACH", 0.2)],
        "ConnectionRefusedError",
    ),
    (
        {"4a": unreachable(0.1), "6a": refused(0.1), "4b": LOST},
        [("4a", "EHOSTUNREACH", 0.1), ("6a", "ECONNREFUSED", 0.1), ("4b", "ETIMEDOUT", 2.8)],
        "TimeoutError",
    ),
    (
        {"6a": LOST, "4a": refused(1.0)},
        [("4a", "ECONNREFUSED", 1.0), ("6a", "ETIMEDOUT", 3.0)],
        "TimeoutError",
    ),
]


@pytest.mark.parametrize(("answers", "listed", "kind"), REASONS)
def test_when_all_fail_the_reason_lists_them_all_with_their_times(scene, answers, listed, kind):
    factory = race(scene, answers, timeout=3)
    scene.sim.runUntilIdle()
    reason = factory.reason
    assert type(reason).__name__ == kind
    assert [(in_short(each.address)[:-2], each.seconds) for each in reason.attempts] == [
        (name, pytest.approx(seconds)) for name, _, seconds in listed
    ]
    text = str(reason)
    for name, error, seconds in listed:
        shown = f"{seconds:.3f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
        address = ADDRESSES[name]
        assert f"{f'[{address}]' if ':' in address else address}:7: {error} after {shown}" in text


@pytest.mark.parametrize("call", ["socket", "setsockopt", "connect", "register", "getsockopt", "getsockname"])
@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EMFILE])
def test_a_local_failure_of_the_first_attempt_starts_the_second_at_once(scene, call, number):
    scene.listen()
    scene.name("race.example", "6a", "4a")
    scene.client.faults.fail(call, number)
    factory = scene.call("race.example")
    scene.sim.runUntilIdle()
    told = [line for line in str(scene.script).splitlines() if "attempt" in line]
    assert "\n".join(told) == lines(
        f"""
        0     attempt started 6a:7
        0     attempt failed 6a:7 {errno.errorcode[number]}, 0 s
        0     attempt started 4a:7
        """
    )
    assert len(factory.talks) == 1


@pytest.mark.parametrize("seed", range(10))
def test_of_two_that_answer_at_the_same_instant_exactly_one_is_kept(seed):
    scene = Scene(seed)
    factory = race(scene, {"6a": after(0.35), "4a": after(0.1), "4b": after(0)})
    scene.sim.runUntilIdle()
    assert len(factory.talks) == 1
    assert len(scene.sim.connections()) == 1
    scene.close()
