"""Draining: nobody new comes in, who is there ends by itself or is aborted at the deadline, and the result counts both."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ropewalk import ClientFactory, Drained, Factory, Protocol, Reactor
from ropewalk.defer import CancelledError
from ropewalk.error import ConnectionAborted, ConnectionDone
from ropewalk.simulation import Simulation
from ropewalk.testing import simulate
from tests.rooms.staying import outcome as told

PORT = 7


class Guest(Protocol):
    """Is waited for, and knows nothing of draining."""

    factory: Any
    reason: Any = None

    def connectionMade(self) -> None:
        self.factory.guests.append(self)

    def connectionLost(self, reason: Any) -> None:
        self.reason = reason.value


class Polite(Guest):
    """Leaves some seconds after it was told."""

    told = 0

    def connectionDraining(self) -> None:
        self.told += 1
        stay = self.factory.stay
        if stay is not None:
            self.transport.reactor.callLater(stay, self.transport.loseConnection)


class House(Factory[Any]):
    noisy = False

    def __init__(self, kind: type[Guest] = Guest, stay: float | None = 0.0) -> None:
        self.protocol = kind
        self.stay = stay
        self.guests: list[Any] = []


class Caller(ClientFactory[Any]):
    noisy = False

    def __init__(self) -> None:
        self.guests: list[Any] = []
        self.failed: list[Any] = []
        self.protocol = Guest

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        self.failed.append(reason.value)


class Scene:
    def __init__(
        self, sim: Simulation | None = None, kind: type[Guest] = Guest, stay: float | None = 0.0
    ) -> None:
        self.sim = sim or Simulation()
        self.server, self.client = self.sim.host("server"), self.sim.host("client")
        self.sim.latency(self.server, self.client, 0.01)
        self.house, self.caller = House(kind, stay), Caller()
        self.port = self.server.reactor.listenTCP(PORT, self.house)

    def come(self, many: int) -> list[Any]:
        for _ in range(many):
            self.client.reactor.connectTCP("server", PORT, self.caller)
        self.sim.advance(0.5)
        return self.house.guests

    def leave(self) -> None:
        self.sim.close()
        self.sim.runUntilIdle()
        self.sim.checkAtRest()


def test_who_leaves_in_time_is_counted_and_nobody_is_aborted() -> None:
    scene = Scene(kind=Polite, stay=3.0)
    guests = scene.come(4)
    result = told(scene.port.drain(10))
    scene.sim.advance(2.9)
    assert result == []
    scene.sim.advance(0.2)
    assert result == [Drained(ended=4, aborted=0)]
    assert [(each.told, type(each.reason)) for each in guests] == [(1, ConnectionDone)] * 4
    assert scene.server.reactor.getDelayedCalls() == []
    scene.leave()


def test_who_is_there_at_the_deadline_is_aborted_and_its_reason_says_so() -> None:
    scene = Scene()
    other, one = scene.come(2)
    result = told(scene.port.drain(5))
    leaving = next(
        each for each in scene.caller.guests if each.transport.getHost() == one.transport.getPeer()
    )
    leaving.transport.loseConnection()
    scene.sim.advance(4.9)
    assert (type(one.reason), other.reason, result) == (ConnectionDone, None, [])
    scene.sim.advance(0.2)
    assert result == [Drained(ended=1, aborted=1)]
    assert isinstance(other.reason, ConnectionAborted)
    assert "deadline of the drain" in str(other.reason)
    scene.leave()


def test_nothing_is_accepted_and_no_callback_comes_before_the_call_has_returned() -> None:
    scene = Scene(kind=Polite)
    guests = scene.come(2)
    result = told(scene.port.drain(5))
    assert ([each.told for each in guests], result) == ([0, 0], [])
    scene.come(1)
    assert len(guests) == 2
    assert [type(each).__name__ for each in scene.caller.failed] == ["ConnectionRefusedError"]
    assert result == [Drained(2, 0)]
    scene.leave()


def test_with_deadline_0_who_leaves_at_once_still_ends_by_itself() -> None:
    class Quick(Guest):
        def connectionDraining(self) -> None:
            if self is self.factory.guests[0]:
                self.transport.loseConnection()

    scene = Scene(kind=Quick)
    scene.come(3)
    result = told(scene.port.drain(0))
    scene.sim.settle()
    assert result == [Drained(ended=1, aborted=2)]
    scene.leave()


def test_without_a_deadline_it_waits_for_ever() -> None:
    scene = Scene()
    (guest,) = scene.come(1)
    result = told(scene.port.drain(None))
    scene.sim.advance(50_000)
    assert result == []
    guest.transport.loseConnection()
    scene.sim.advance(1)
    assert result == [Drained(1, 0)]
    scene.leave()


def test_asked_again_the_earliest_deadline_holds_and_each_is_told_once() -> None:
    scene = Scene(kind=Polite, stay=None)
    guests = scene.come(2)
    results = [told(scene.port.drain(10)), told(scene.port.drain(None)), told(scene.port.drain(60))]
    scene.sim.advance(1)
    results.append(told(scene.port.drain(3)))
    scene.sim.advance(2.9)
    assert results == [[], [], [], []]
    scene.sim.advance(0.2)
    assert results == [[Drained(0, 2)]] * 4
    assert [each.told for each in guests] == [1, 1]
    scene.leave()


def test_drained_a_second_time_there_is_nothing_to_do() -> None:
    scene = Scene(kind=Polite)
    scene.come(2)
    first = told(scene.port.drain(5))
    scene.sim.advance(1)
    assert (first, told(scene.port.drain(5))) == ([Drained(2, 0)], [Drained(0, 0)])
    scene.leave()


def test_cancelled_nobody_is_aborted_and_nobody_is_told_twice() -> None:
    scene = Scene(kind=Polite, stay=None)
    guests = scene.come(2)
    drained = scene.port.drain(5)
    result = told(drained)
    scene.sim.advance(1)
    drained.cancel()
    assert [type(each) for each in result] == [CancelledError]
    assert scene.server.reactor.getDelayedCalls() == []
    scene.sim.advance(100)
    assert ([each.reason for each in guests], scene.port.connected) == ([None, None], False)
    again = told(scene.port.drain(2))
    scene.sim.advance(2.1)
    assert (again, [each.told for each in guests]) == ([Drained(0, 2)], [1, 1])
    scene.leave()


def test_one_of_two_who_wait_may_cancel_and_the_other_gets_the_result() -> None:
    scene = Scene(kind=Polite)
    scene.come(2)
    one, other = scene.port.drain(5), told(scene.port.drain(5))
    cancelled = told(one)
    one.cancel()
    scene.sim.advance(1)
    assert ([type(each) for each in cancelled], other) == ([CancelledError], [Drained(2, 0)])
    scene.leave()


def test_a_port_that_has_stopped_still_drains_what_it_accepted() -> None:
    scene = Scene(kind=Polite)
    scene.come(2)
    scene.port.stopListening()
    scene.sim.advance(1)
    result = told(scene.server.reactor.drain(5))
    scene.sim.advance(1)
    assert result == [Drained(2, 0)]
    scene.leave()


def test_a_port_that_listens_again_keeps_who_comes_then() -> None:
    scene = Scene(kind=Polite, stay=2.0)
    guests = scene.come(1)
    result = told(scene.port.drain(5))
    scene.sim.advance(0.5)
    scene.port.startListening()
    scene.come(1)
    scene.sim.advance(10)
    assert (result, guests[1].told, guests[1].reason) == ([Drained(1, 0)], 0, None)
    again = told(scene.port.drain(5))
    scene.sim.advance(3)
    assert (again, guests[1].told) == ([Drained(1, 0)], 1)
    scene.leave()


def test_the_listening_socket_of_a_drain_within_a_drain_is_waited_for_too() -> None:
    scene = Scene(kind=Polite, stay=2.0)
    scene.come(1)
    first = told(scene.port.drain(5))
    scene.sim.advance(0.5)
    scene.port.startListening()
    second = told(scene.port.drain(5))
    scene.sim.advance(0.1)
    assert (first, second, scene.port.connected) == ([], [], False)
    scene.sim.advance(2)
    assert (first, second) == ([Drained(1, 0)], [Drained(1, 0)])
    scene.leave()


def test_who_is_being_accepted_is_drained_as_well() -> None:
    scene = Scene(kind=Polite, stay=None)
    results: list[Any] = []

    def build(addr: object) -> Any:
        results.append(told(scene.port.drain(3)))
        return Factory.buildProtocol(scene.house, None)

    scene.house.buildProtocol = build  # type: ignore[method-assign]
    (guest,) = scene.come(1)
    assert (results, guest.told) == ([[]], 1)
    scene.sim.advance(3)
    assert results == [[Drained(0, 1)]]
    scene.leave()


def test_what_is_raised_when_told_is_logged_and_ends_that_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Rude(Guest):
        def connectionDraining(self) -> None:
            raise KeyError("no")

    scene = Scene(kind=Rude)
    (guest,) = scene.come(1)
    result = told(scene.port.drain(5))
    scene.sim.advance(1)
    assert (result, type(guest.reason)) == ([Drained(1, 0)], KeyError)
    assert ["connectionDraining" in each.getMessage() for each in caplog.records] == [True]
    scene.leave()


def test_a_reactor_that_stops_counts_who_is_left_as_aborted() -> None:
    scene = Scene()
    scene.come(2)
    result = told(scene.port.drain(50))
    scene.sim.advance(1)
    scene.server.reactor.stop()
    scene.sim.advance(1)
    assert result == [Drained(0, 2)]
    assert scene.server.reactor.getDelayedCalls() == []
    scene.leave()


def test_as_a_trigger_before_shutdown_it_lets_a_stop_wait() -> None:
    scene = Scene(kind=Polite, stay=3.0)
    guests = scene.come(2)
    reactor = scene.server.reactor
    reactor.addSystemEventTrigger("before", "shutdown", reactor.drain, 10)
    reactor.stop()
    scene.sim.advance(2.9)
    assert (reactor.running, [each.reason for each in guests]) == (True, [None, None])
    scene.sim.advance(0.2)
    assert (reactor.running, [type(each.reason) for each in guests]) == (False, [ConnectionDone] * 2)
    scene.leave()


def test_a_reactor_drains_all_its_ports_and_leaves_alone_what_it_has_connected() -> None:
    scene = Scene(kind=Polite, stay=1.0)
    stubborn = House(Guest)
    other = scene.server.reactor.listenTCP(8, stubborn)
    scene.come(2)
    scene.client.reactor.connectTCP("server", 8, scene.caller)
    theirs = House()
    scene.client.reactor.listenTCP(9, theirs)
    ours = Caller()
    scene.server.reactor.connectTCP("client", 9, ours)
    scene.sim.advance(1)
    result = told(scene.server.reactor.drain(4))
    scene.sim.advance(4.1)
    assert result == [Drained(ended=2, aborted=1)]
    assert (scene.port.connected, other.connected) == (False, False)
    assert (ours.guests[0].reason, theirs.guests[0].reason) == (None, None)
    scene.leave()


def test_cancelling_the_drain_of_a_reactor_cancels_that_of_each_port() -> None:
    scene = Scene(kind=Polite, stay=None)
    guests = scene.come(2)
    drained = scene.server.reactor.drain(4)
    result = told(drained)
    drained.cancel()
    scene.sim.advance(100)
    assert ([type(each) for each in result], [each.reason for each in guests]) == (
        [CancelledError],
        [None, None],
    )
    scene.leave()


def test_a_reactor_without_ports_is_drained_at_once() -> None:
    reactor = Reactor(system=None)
    assert told(reactor.drain(3)) == [Drained(0, 0)]
    reactor.close()


@pytest.mark.parametrize(
    ("deadline", "error"),
    [
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (10**400, ValueError),
        ("5", TypeError),
        (True, TypeError),
    ],
)
def test_a_bad_deadline_is_refused_at_once_and_nothing_has_happened(
    deadline: Any, error: type[Exception]
) -> None:
    scene = Scene()
    (guest,) = scene.come(1)
    for drain in (scene.port.drain, scene.server.reactor.drain):
        with pytest.raises(error, match=f"deadline must be .*{deadline!r}"):
            drain(deadline)
    scene.sim.advance(1)
    assert (scene.port.connected, guest.reason) == (True, None)
    scene.leave()


def test_a_drain_asked_for_before_the_reactor_runs_is_done_when_it_runs(reactor: Reactor) -> None:
    port = reactor.listenTCP(0, House(), interface="127.0.0.1")
    result = told(port.drain(5))
    assert result == []
    reactor.iterate()
    assert (result, port.connected) == ([Drained(0, 0)], False)


def test_over_loopback_one_leaves_and_one_is_aborted(reactor: Reactor) -> None:
    house, caller = House(Polite, stay=None), Caller()
    port = reactor.listenTCP(0, house, interface="127.0.0.1")
    for _ in range(2):
        reactor.connectTCP("127.0.0.1", port.getHost().port, caller)
    while len(house.guests) + len(caller.guests) < 4:
        reactor.iterate(0.01)
    result = told(port.drain(None))
    caller.guests[0].transport.loseConnection()
    while all(each.reason is None for each in house.guests):
        reactor.iterate(0.01)
    told(port.drain(0))  # the earliest deadline holds
    while not result or any(each.reason is None for each in caller.guests):
        reactor.iterate(0.01)
    assert result == [Drained(ended=1, aborted=1)]


@simulate(seeds=40)
def test_in_any_storm_each_connection_is_counted_once_and_none_is_left(simulation: Simulation) -> None:
    chance = random.Random(simulation.seed)
    scene = Scene(simulation, kind=chance.choice([Guest, Polite]), stay=chance.choice([None, 0.0, 2.0]))
    simulation.storm(20)
    for _ in range(5):
        scene.come(chance.randrange(4))
    drains = [scene.port.drain, scene.server.reactor.drain]
    results = []
    # What has ended on a reset is counted by nobody.
    there = [each for each in scene.house.guests if each.reason is None]
    for _ in range(chance.randrange(1, 4)):
        results.append(told(chance.choice(drains)(chance.choice([0, 1, 5]))))
        simulation.advance(chance.choice([0.0, 0.1]))
    simulation.run(until=simulation.now + 30)
    assert all(each.reason is not None for each in scene.house.guests)
    for result in results:
        assert len(result) == 1
    first = results[0][0]
    assert len(there) <= first.ended + first.aborted <= len(scene.house.guests)
    late = [each for each in scene.house.guests if "deadline of the drain" in str(each.reason)]
    assert first.aborted == len(late)
    scene.leave()
