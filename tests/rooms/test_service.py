"""Services: start in order, stop in the reverse one; a ClientService has one connection, or waits for the next attempt."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import pytest

from ropewalk import Deferred
from ropewalk.defer import CancelledError
from ropewalk.error import ConnectionRefusedError
from ropewalk.service import ClientService, MultiService, Service
from ropewalk.simulation import Simulation
from ropewalk.testing import simulate
from tests.rooms.staying import Client, Scene, outcome


class Part(Service):
    def __init__(self, rows: list[str], name: str, stops: Any = None) -> None:
        self.rows = rows
        self.setName(name)
        self.stops = stops

    def privilegedStartService(self) -> None:
        self.rows.append(f"privileged {self.name}")

    def startService(self) -> None:
        super().startService()
        self.rows.append(f"start {self.name}")

    def stopService(self) -> Any:
        super().stopService()
        self.rows.append(f"stop {self.name}")
        return self.stops() if callable(self.stops) else self.stops


def whole(rows: list[str], **stops: Any) -> MultiService:
    parent = MultiService()
    for name in ("a", "b", "c"):
        Part(rows, name, stops.get(name)).setServiceParent(parent)
    return parent


# ---- Service and MultiService ---------------------------------------------------------------------------------------


def test_services_start_in_order_and_stop_in_the_reverse_order() -> None:
    rows: list[str] = []
    parent = whole(rows)
    parent.privilegedStartService()
    parent.startService()
    assert outcome(parent.stopService()) == [[(True, None)] * 3]
    assert rows == [f"{what} {name}" for what in ("privileged", "start") for name in "abc"] + [
        "stop c",
        "stop b",
        "stop a",
    ]
    assert [each.running for each in (parent, *parent)] == [False] * 4


def test_the_parent_has_stopped_when_the_last_of_its_services_has() -> None:
    slow: Deferred[None] = Deferred()
    parent = whole([], b=slow)
    parent.startService()
    stopped = outcome(parent.stopService())
    assert not stopped
    slow.callback(None)
    assert len(stopped) == 1


def test_one_that_fails_to_stop_is_told_and_the_others_are_stopped(caplog: Any) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    async def later() -> None:
        raise KeyError("later")

    rows: list[str] = []
    parent = whole(rows, c=broken, b=later)
    parent.startService()
    ((last, between, first),) = outcome(parent.stopService())
    assert (last[0], last[1].type, between[1].type, first) == (
        False,
        ZeroDivisionError,
        KeyError,
        (True, None),
    )
    assert rows[-3:] == ["stop c", "stop b", "stop a"]
    assert [each.exc_info[0] for each in caplog.records] == [ZeroDivisionError, KeyError]


def test_a_service_that_joins_one_that_runs_is_started_and_one_that_leaves_is_stopped() -> None:
    rows: list[str] = []
    parent = MultiService()
    parent.startService()
    part = Part(rows, "a", "bye")
    part.setServiceParent(parent)
    assert parent.getServiceNamed("a") is part
    assert part.disownServiceParent() == "bye"
    assert rows == ["privileged a", "start a", "stop a"]
    assert (part.parent, list(parent), parent.namedServices) == (None, [], {})


def test_a_name_is_taken_once_and_kept_while_there_is_a_parent() -> None:
    parent = whole([])
    twin = Part([], "a")
    with pytest.raises(RuntimeError, match="named 'a'"):
        twin.setServiceParent(parent)
    assert twin.parent is None
    with pytest.raises(RuntimeError, match="keeps its name"):
        parent.getServiceNamed("a").setName("z")
    with pytest.raises(KeyError):
        parent.getServiceNamed("z")
    with pytest.raises(ValueError, match="not in list"):
        parent.removeService(twin)
    assert parent.getServiceNamed("a") in list(parent)


def test_another_parent_takes_it_from_the_first() -> None:
    first, second = whole([]), MultiService()
    part = first.getServiceNamed("b")
    part.setServiceParent(second)
    assert (list(second), part.parent, len(list(first))) == ([part], second, 2)


# ---- ClientService --------------------------------------------------------------------------------------------------


def test_it_connects_and_gives_the_users_own_protocol_and_closes() -> None:
    scene = Scene()
    service = ClientService(scene.endpoint, scene.clients)
    early = outcome(service.whenConnected())
    service.startService()
    scene.go(1)
    assert early == scene.clients.built == outcome(service.whenConnected())
    assert type(early[0]) is Client
    early[0].transport.write(b"hello")
    scene.go(1)
    assert early[0].received == b"hello"
    stopped = outcome(service.stopService())
    assert not stopped
    scene.go(1)
    assert stopped == [None]
    assert early[0].reason is not None
    assert type(outcome(service.whenConnected())[0]) is CancelledError
    scene.leave()


def test_it_comes_back_when_the_connection_is_lost() -> None:
    scene = Scene()
    service = ClientService(scene.endpoint, scene.clients)
    service.startService()
    for times in range(1, 4):
        scene.go(10)
        assert (len(scene.peers.live), scene.peers.made) == (1, times)
        scene.peers.live[0].transport.abortConnection()
    scene.go(10)
    service.stopService()
    scene.leave()


def test_who_is_told_of_the_loss_by_the_protocol_does_not_get_that_connection_again() -> None:
    """Whoever awaits an answer goes on within connectionLost, before the service knows; and then asks it at once."""
    scene = Scene()
    service = ClientService(scene.endpoint, scene.clients)
    service.startService()
    scene.go(1)
    (first,) = scene.clients.built
    asked: list[list[Any]] = []
    first.whenLost = lambda: asked.append(outcome(service.whenConnected()))
    scene.peers.live[0].transport.abortConnection()
    scene.go(10)
    assert asked == [[scene.clients.built[1]]]
    service.stopService()
    scene.leave()


def test_each_wait_is_asked_of_the_policy_with_the_failures_in_a_row() -> None:
    scene = Scene(listens=False)
    asked: list[int] = []

    def policy(failures: int) -> float:
        asked.append(failures)
        return 2.0

    service = ClientService(scene.endpoint, scene.clients, policy)
    service.startService()
    scene.go(5)
    assert asked == [1, 2, 3]
    scene.listen()
    scene.go(5)
    scene.peers.live[0].transport.loseConnection()
    scene.go(1)
    assert asked == [1, 2, 3, 1]
    service.stopService()
    scene.leave()


def test_who_waits_bears_as_many_failures_as_they_say() -> None:
    scene = Scene(listens=False)
    service = ClientService(scene.endpoint, scene.clients, lambda _: 10.0)
    service.startService()
    one, two, any_number = (outcome(service.whenConnected(most)) for most in (1, 2, None))
    scene.go(5)
    assert [type(each) for each in one] == [ConnectionRefusedError]
    assert not two
    scene.go(10)
    assert [type(each) for each in two] == [ConnectionRefusedError]
    service.stopService()
    assert [type(each) for each in any_number] == [CancelledError]
    scene.leave()


def test_every_wait_is_logged_with_its_reason(caplog: Any) -> None:
    caplog.set_level(logging.DEBUG, "ropewalk")
    scene = Scene(listens=False)
    service = ClientService(scene.endpoint, scene.clients, lambda _: 10.0)
    service.startService()
    scene.go(5)
    (row,) = [each.getMessage() for each in caplog.records if "tries again" in each.getMessage()]
    assert "in 10.000 s, after 1 in vain: ConnectionRefusedError" in row
    service.stopService()
    scene.leave()


def test_stopping_while_it_connects_leaves_nothing() -> None:
    scene = Scene()
    scene.sim.partition("server", "client")
    service = ClientService(scene.endpoint, scene.clients)
    service.startService()
    scene.go(1)
    assert outcome(service.stopService()) == [None]
    assert outcome(service.stopService()) == [None]
    scene.leave()


def test_a_start_while_it_disconnects_connects_anew_when_that_is_done() -> None:
    scene = Scene()
    service = ClientService(scene.endpoint, scene.clients)
    service.startService()
    scene.go(1)
    stopped = outcome(service.stopService())
    service.startService()
    again = outcome(service.whenConnected())
    assert (stopped, again) == ([], [])
    scene.go(1)
    assert (stopped, again, len(scene.peers.live)) == ([None], [scene.clients.built[1]], 1)
    service.stopService()
    scene.leave()


def test_a_second_start_is_a_warning(caplog: Any) -> None:
    scene = Scene()
    service = ClientService(scene.endpoint, scene.clients)
    service.startService()
    service.startService()
    scene.go(1)
    assert scene.peers.made == 1
    assert "runs already" in caplog.text
    service.stopService()
    scene.leave()


@pytest.mark.parametrize("how", ["raises", "fails later", "is lost meanwhile"])
def test_a_connection_that_cannot_be_prepared_is_a_failed_attempt_and_is_closed(how: str) -> None:
    scene = Scene()
    told: list[Any] = []
    pending: list[Deferred[None]] = []

    def prepare(protocol: Any) -> Any:
        told.append(protocol)
        if how == "raises":
            raise ZeroDivisionError
        pending.append(Deferred())
        return pending[-1]

    service = ClientService(scene.endpoint, scene.clients, lambda _: 100.0, prepareConnection=prepare)
    service.startService()
    waiting = outcome(service.whenConnected(1))
    scene.go(1)
    assert told == scene.clients.built
    if how == "fails later":
        pending[0].errback(ZeroDivisionError())
    elif how == "is lost meanwhile":
        scene.peers.live[0].transport.abortConnection()
    scene.go(1)
    expected = "ConnectionLost" if how == "is lost meanwhile" else "ZeroDivisionError"
    assert [type(each).__name__ for each in waiting] == [expected]
    assert scene.peers.live == []
    service.stopService()
    scene.leave()


def test_a_connection_is_given_to_nobody_before_it_is_prepared() -> None:
    scene = Scene()

    async def prepare(protocol: Any) -> None:
        waited: Deferred[None] = Deferred()
        scene.client.reactor.callLater(3, waited.callback, None)
        await waited

    service = ClientService(scene.endpoint, scene.clients, prepareConnection=prepare)
    service.startService()
    waiting = outcome(service.whenConnected())
    scene.go(2)
    assert not waiting
    scene.go(2)
    assert waiting == scene.clients.built
    service.stopService()
    scene.leave()


def test_a_connectionMade_that_raises_is_a_failed_attempt(caplog: Any) -> None:
    scene = Scene()
    scene.clients.built = []

    class Broken(Client):
        def connectionMade(self) -> None:
            raise ZeroDivisionError

    scene.clients.buildProtocol = lambda addr: Broken()  # type: ignore[method-assign]
    service = ClientService(scene.endpoint, scene.clients, lambda _: 100.0)
    service.startService()
    waiting = outcome(service.whenConnected(1))
    scene.go(1)
    assert [type(each) for each in waiting] == [ZeroDivisionError]
    service.stopService()
    scene.leave()


def test_an_endpoint_that_raises_is_a_failed_attempt() -> None:
    class Broken:
        def connect(self, factory: Any) -> Any:
            raise ZeroDivisionError

    scene = Scene()
    service = ClientService(Broken(), scene.clients, lambda _: 1.0, scene.client.reactor)
    waiting = outcome(service.whenConnected(2))
    service.startService()
    scene.go(5)
    assert [type(each) for each in waiting] == [ZeroDivisionError]
    service.stopService()
    scene.leave()


def test_what_is_over_is_freed_without_the_garbage_collector() -> None:
    scene = Scene()
    service = ClientService(scene.endpoint, scene.clients)
    service.startService()
    scene.go(1)
    seen: list[weakref.ref[Any]] = [weakref.ref(scene.clients.built[0]), weakref.ref(service)]
    gc.collect()
    gc.disable()
    try:
        service.stopService()
        scene.go(1)
        scene.clients.built.clear()
        del service
        assert [each() for each in seen] == [None, None]
    finally:
        gc.enable()
    scene.leave()


@simulate(seeds=40)
def test_whatever_befalls_the_server_after_the_storm_it_is_connected(simulation: Simulation) -> None:
    scene = Scene(simulation, listens=False)
    scene.server.onStart(lambda reactor: reactor.listenTCP(7, scene.peers))
    service = ClientService(scene.endpoint, scene.clients)
    service.startService()
    waiting = outcome(service.whenConnected())
    storm = simulation.storm(60)
    simulation.run(until=storm.ends + 130)
    assert waiting[0] in scene.clients.built
    # Why twice: a server that crashed without a word is missed only by who writes to it.
    protocol: Any = None
    for _ in range(2):
        (protocol,) = outcome(service.whenConnected())
        protocol.transport.write(b"hello")
        scene.go(70)
    assert protocol.received.endswith(b"hello")
    stopped = outcome(service.stopService())
    scene.go(70)
    assert stopped == [None]
    assert all(each.reason is not None for each in scene.clients.built if each.transport is not None)
    assert not scene.client.delayed_calls()
