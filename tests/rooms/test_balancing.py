"""A balancer: each connection takes a target that answers, in turn or by their load, and every one is tried at most once."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from ropewalk import Protocol, open
from ropewalk.balancing import Balancer, NoTargetError, Target, leastConnections, roundRobin
from ropewalk.defer import Deferred, fail
from ropewalk.endpoints import HostnameEndpoint
from ropewalk.error import (
    ConnectBindError,
    ConnectError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    NoProtocol,
)
from ropewalk.protocol import Factory
from ropewalk.testing import Clock
from tests.rooms.proxied import PATIENCE, Scene
from tests.rooms.staying import outcome


class Endpoint:
    """One whose answers the test gives."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []
        self.factories: list[Any] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        self.factories.append(factory)
        self.asked.append(Deferred())
        return self.asked[-1]


class Plain(Factory[Any]):
    noisy = False
    protocol = Protocol


def targets(*names: str) -> list[Target]:
    return [Target(Endpoint(), name) for name in names]


def names(balancer: Balancer) -> str:
    return "".join(target.name for target in balancer.order())


def refused() -> ConnectError:
    return ConnectionRefusedError()


# ---- whose turn it is -----------------------------------------------------------------------------------------


def test_round_robin_begins_with_another_one_each_time() -> None:
    balancer = Balancer(targets("a", "b", "c"), clock=Clock())
    assert [names(balancer) for _ in range(4)] == ["abc", "bca", "cab", "abc"]


def test_round_robin_is_even_among_those_that_are_up() -> None:
    """Who comes after one that is down does not get its share besides its own."""
    balancer = Balancer(targets("a", "b", "c"), clock=Clock())
    balancer.failed(balancer.targets[1], refused())
    assert [names(balancer) for _ in range(4)] == ["acb", "cab", "acb", "cab"]


def test_least_connections_takes_who_has_fewest_and_of_equals_each_in_turn() -> None:
    balancer = Balancer(targets("a", "b", "c"), leastConnections, clock=Clock())
    a, _, c = balancer.targets
    assert [names(balancer) for _ in range(3)] == ["abc", "bca", "cab"]
    a.connections, c.connections = 2, 1
    assert [names(balancer) for _ in range(3)] == ["bca", "bca", "bca"]


def test_a_policy_of_ones_own_is_asked_with_those_that_are_up() -> None:
    def backwards(some: list[Target]) -> list[Target]:
        return sorted(some, key=lambda target: target.name, reverse=True)

    balancer = Balancer(targets("a", "b", "c"), backwards, clock=Clock())
    balancer.failed(balancer.targets[2], refused())
    assert [names(balancer) for _ in range(2)] == ["bac", "bac"]


def test_who_is_down_comes_last_and_is_tried_first_once_when_it_has_rested() -> None:
    clock = Clock()
    balancer = Balancer(targets("a", "b"), rest=10, clock=clock)
    balancer.failed(balancer.targets[0], refused())
    clock.advance(9.9)
    assert [names(balancer) for _ in range(2)] == ["ba", "ba"]
    clock.advance(0.1)
    assert [names(balancer) for _ in range(3)] == ["ab", "ba", "ba"]
    clock.advance(10)
    assert names(balancer) == "ab"
    balancer.answered(balancer.targets[0])
    assert {names(balancer) for _ in range(2)} == {"ab", "ba"}


def test_of_those_that_are_down_the_longest_rested_comes_first() -> None:
    clock = Clock()
    balancer = Balancer(targets("a", "b", "c"), rest=10, clock=clock)
    for index in (2, 0, 1):
        balancer.failed(balancer.targets[index], refused())
        clock.advance(1)
    assert names(balancer) == "cab"


def test_a_failure_never_makes_the_rest_shorter() -> None:
    clock = Clock()
    balancer = Balancer(targets("a"), rest=10, clock=clock)
    (only,) = balancer.targets
    balancer.failed(only, refused(), seconds=100)
    balancer.failed(only, refused())
    assert only.restsUntil == 100


def test_what_changes_is_told_once() -> None:
    told: list[str] = []
    balancer = Balancer(
        targets("a"), clock=Clock(), changed=lambda each: told.append(f"{each.name}: {each.reason!r}")
    )
    (only,) = balancer.targets
    balancer.answered(only)
    for number in (1, 2):
        balancer.failed(only, ZeroDivisionError(number))
    balancer.answered(only)
    assert told == ["a: ZeroDivisionError(1)", "a: None"]


# ---- connecting -----------------------------------------------------------------------------------------------


def test_the_protocol_is_the_users_own() -> None:
    scene = Scene("a")
    got = outcome(scene.balancer.connect(Plain()))
    scene.go(1)
    assert [type(each) for each in got] == [Protocol]
    got[0].transport.loseConnection()
    scene.leave()


def test_a_refused_connect_goes_on_to_the_next_at_once_and_the_target_is_down() -> None:
    scene = Scene("ab")
    scene.close("a")
    began = scene.sim.now
    got = outcome(scene.balancer.connect(Plain()))
    scene.sim.run(until=lambda: bool(got))
    assert scene.sim.now - began < 0.1
    scene.go(0.1)
    assert (scene.served, scene.changes) == ({"a": 0, "b": 1}, ["a down"])
    assert type(scene.target("a").reason) is ConnectionRefusedError
    got[0].transport.loseConnection()
    scene.leave()


def test_a_target_that_says_nothing_costs_its_time_out_and_no_more() -> None:
    scene = Scene("ab")
    scene.vanish("a")
    began = scene.sim.now
    got = outcome(scene.balancer.connect(Plain()))
    scene.sim.run(until=lambda: bool(got))
    assert PATIENCE <= scene.sim.now - began < PATIENCE + 0.1
    # The next need not wait: it is known by now.
    began = scene.sim.now
    got += outcome(scene.balancer.connect(Plain()))
    scene.go(0.1)
    assert scene.served["b"] == 2
    for each in scene.servers["b"].live:
        each.transport.loseConnection()
    scene.leave()


def test_if_none_answers_each_is_tried_once_and_each_reason_is_told() -> None:
    scene = Scene("abc")
    scene.close("a")
    scene.vanish("b")
    scene.close("c")
    got = outcome(scene.balancer.connect(Plain()))
    scene.go(PATIENCE + 1)
    (error,) = got
    assert type(error) is NoTargetError
    assert [type(each).__name__ for each in error.reasons] == [
        "ConnectionRefusedError",
        "TimeoutError",
        "ConnectionRefusedError",
    ]
    assert all(part in str(error) for part in ("no target answers: a: ", "; b: ", "; c: ", "ECONNREFUSED"))
    assert scene.changes == ["a down", "b down", "c down"]
    # With one they would hold whatever was there when they were raised.
    assert [each.__traceback__ for each in error.reasons] == [None] * 3
    scene.leave()


def test_one_that_is_down_is_taken_if_nothing_else_answers_and_is_up_then() -> None:
    scene = Scene("ab")
    scene.close("a")
    scene.answered()
    scene.open("a")
    scene.close("b")
    scene.answered()
    assert scene.changes == ["a down", "b down", "a up"]
    assert scene.served == {"a": 1, "b": 1}
    scene.leave()


def test_what_is_not_the_targets_fault_fails_at_once_and_marks_nobody() -> None:
    scene = Scene("ab")

    class Nobody(Plain):
        def buildProtocol(self, addr: Any) -> None:
            return None

    class Broken(Plain):
        def buildProtocol(self, addr: Any) -> Any:
            raise ZeroDivisionError

    got = [outcome(scene.balancer.connect(factory())) for factory in (Nobody, Broken)]
    scene.go(1)
    assert [type(each[0]) for each in got] == [NoProtocol, ZeroDivisionError]
    assert scene.changes == []
    scene.leave()


def test_a_want_of_descriptors_goes_on_to_the_next_and_makes_no_target_look_bad() -> None:
    balancer = Balancer(targets("a", "b"), clock=Clock())
    a, b = (target.endpoint for target in balancer.targets)
    result = outcome(balancer.connect(Plain()))
    a.asked[0].errback(ConnectBindError(errno.EMFILE))
    b.asked[0].callback("connected")
    assert result == ["connected"]
    assert [target.isUp for target in balancer.targets] == [True, True]


def test_a_reactor_that_stops_makes_no_target_look_bad() -> None:
    scene = Scene("ab")
    scene.vanish("a")
    got = outcome(scene.balancer.connect(Plain()))
    scene.go(1)
    scene.proxied.reactor.stop()
    scene.go(1)
    assert [type(each) for each in got] == [ConnectError]
    assert scene.changes == []


@pytest.mark.parametrize("which", ["a", "b"])
def test_cancelling_while_a_target_is_tried_gives_everything_back_and_tries_no_other(which: str) -> None:
    scene = Scene("abc")
    scene.vanish(which)
    if which == "b":
        scene.close("a")
    connecting = scene.balancer.connect(Plain())
    got = outcome(connecting)
    scene.go(1)
    connecting.cancel()
    assert [type(each) for each in got] == [ConnectingCancelledError]
    scene.go(10)
    assert scene.served["c"] == 0
    scene.leave()


def test_connections_are_counted_from_the_asking_to_the_loss() -> None:
    scene = Scene("ab", policy=leastConnections)
    scene.client()
    scene.go(0.001)
    counts = []
    for _ in range(3):
        scene.answered()
        counts.append(sorted(target.connections for target in scene.balancer.targets))
    assert counts == [[1, 1], [1, 2], [2, 2]]
    for each in scene.servers["a"].live:
        each.transport.abortConnection()
    scene.go(1)
    assert [target.connections for target in scene.balancer.targets] == [0, 2]
    scene.answered()
    scene.answered()
    assert [target.connections for target in scene.balancer.targets] == [2, 2]
    scene.leave()


def test_the_factory_is_in_use_from_the_first_try_to_the_loss() -> None:
    told: list[str] = []

    class Counting(Plain):
        def startFactory(self) -> None:
            told.append("start")

        def stopFactory(self) -> None:
            told.append("stop")

    scene = Scene("ab")
    scene.close("a")
    got = outcome(scene.balancer.connect(Counting()))
    scene.go(1)
    assert told == ["start"]
    got[0].transport.loseConnection()
    scene.go(1)
    assert told == ["start", "stop"]
    scene.leave()


def test_endpoints_that_fail_at_once_are_gone_through_without_recursion() -> None:
    class Refusing:
        def connect(self, factory: Any) -> Deferred[Any]:
            return fail(ConnectionRefusedError())

    balancer = Balancer([Refusing() for _ in range(3000)], clock=Clock())
    (error,) = outcome(balancer.connect(Plain()))
    assert type(error) is NoTargetError and len(error.reasons) == 3000


def test_it_is_an_endpoint_like_those_it_is_made_of() -> None:
    scene = Scene("ab")
    inner = Balancer([scene.balancer.targets[0].endpoint], clock=scene.proxied.reactor)
    outer = Balancer([inner, scene.balancer.targets[1].endpoint])
    assert outer.reactor is scene.proxied.reactor
    scene.close("a")

    async def talk() -> bytes:
        async with await open(outer) as stream:
            await stream.write(b"hello")
            return await stream.readExactly(5)

    got = outcome(Deferred.fromCoroutine(talk()))
    scene.go(5)
    assert got == [b"hello"]
    assert scene.served == {"a": 0, "b": 1}
    scene.leave()


def test_it_tells_what_it_is() -> None:
    balancer = Balancer([Target(None, "a"), HostnameEndpoint(None, "b", 80)], roundRobin, clock=Clock())
    balancer.failed(balancer.targets[0], refused())
    assert repr(balancer) == "<Balancer a down, 0 connections, <HostnameEndpoint b:80> up, 0 connections>"


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="one target at least"):
        Balancer([])
    with pytest.raises(ValueError, match=r"rest must be .* not 0"):
        Balancer(targets("a"), rest=0, clock=Clock())


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"targets": "tcp:x:1"}, "targets must be a list .* not 'tcp:x:1'"),
        ({"targets": [5]}, r"an endpoint, which has connect\(\), not 5"),
        ({"policy": "least"}, "policy must be a function .* not 'least'"),
        ({"changed": 7}, "changed must be a function .* not 7"),
        ({"rest": True}, "rest must be a number of seconds above 0, not True"),
    ],
)
def test_arguments_of_the_wrong_kind_are_named_at_once(how: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Balancer(**{"targets": targets("a"), "clock": Clock(), **how})


def test_what_changed_raises_is_logged_and_neither_stops_the_search_nor_leaks_a_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def careless(target: Target) -> None:
        raise ZeroDivisionError(target.name)

    scene = Scene("ab")
    scene.balancer._changed = careless
    scene.close("a")
    b = scene.target("b")
    b.isUp, b.restsUntil = False, scene.proxied.reactor.seconds() + 100
    got = outcome(scene.balancer.connect(Plain()))
    scene.go(1)
    assert ([type(each) for each in got], b.connections) == ([Protocol], 1)
    logged = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert logged == ["a", "b"]
    got[0].transport.loseConnection()
    scene.leave()
    assert b.connections == 0
