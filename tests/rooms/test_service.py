"""Services: start in order, stop in the reverse one; a ClientService has one connection, or waits for the next attempt."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import pytest

from ropewalk import Deferred, Factory, Protocol, serverFromString
from ropewalk.defer import CancelledError
from ropewalk.endpoints import WrappedClientEndpoint
from ropewalk.error import CannotListenError, ConnectionRefusedError
from ropewalk.policies import Idle
from ropewalk.service import ClientService, MultiService, Service, StreamServerEndpointService
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


class Slow(Part):
    """One that takes its time to start."""

    def startService(self) -> Any:
        super().startService()
        self.waiting: Deferred[None] = Deferred()
        return self._start()

    async def _start(self) -> None:
        await self.waiting
        self.rows.append(f"started {self.name}")


def mixed(rows: list[str]) -> tuple[MultiService, Slow]:
    parent, slow = MultiService(), Slow(rows, "b")
    for each in (Part(rows, "a"), slow, Part(rows, "c")):
        each.setServiceParent(parent)
    return parent, slow


def test_the_next_starts_when_the_one_before_it_has_started() -> None:
    rows: list[str] = []
    parent, slow = mixed(rows)
    started = parent.startService()
    assert started is not None
    assert rows == ["start a", "start b"] and not started.called
    slow.waiting.callback(None)
    assert outcome(started) == [None]
    assert rows == ["start a", "start b", "started b", "start c"]


@pytest.mark.parametrize("late", [True, False])
def test_one_that_fails_to_start_is_told_and_those_after_it_are_not_started(late: bool) -> None:
    rows: list[str] = []
    parent, slow = mixed(rows)
    if late:
        started = parent.startService()
        slow.waiting.errback(OSError("no disk"))
        assert isinstance(outcome(started)[0], OSError)
    else:
        parent.services.pop(1)
        parent.services[0].startService = lambda: 1 // 0
        with pytest.raises(ZeroDivisionError):
            parent.startService()
    assert "start c" not in rows


def test_a_stop_while_they_start_starts_no_more_of_them() -> None:
    rows: list[str] = []
    parent, slow = mixed(rows)
    started = parent.startService()
    slow.stops = lambda: slow.waiting.cancel()
    parent.stopService()
    assert outcome(started) == [None]
    assert "start c" not in rows


def test_a_start_that_is_stopped_and_begun_again_starts_each_once_more_and_in_order() -> None:
    rows: list[str] = []
    parent, slow = mixed(rows)
    first = parent.startService()
    parent.stopService()
    assert outcome(first) == [None]
    del rows[:]
    second = parent.startService()
    slow.waiting.callback(None)
    assert outcome(second) == [None]
    assert rows == ["start a", "start b", "started b", "start c"]


def test_one_that_leaves_before_its_turn_is_not_started() -> None:
    rows: list[str] = []
    parent, slow = mixed(rows)
    parent.startService()
    leaving = parent.services[2]
    leaving.disownServiceParent()
    slow.waiting.callback(None)
    assert "start c" not in rows and not leaving.running


def test_one_that_joins_while_the_parent_runs_is_started_to_its_end() -> None:
    rows: list[str] = []
    parent, slow = MultiService(), Slow(rows, "late")
    parent.startService()
    slow.setServiceParent(parent)
    slow.waiting.callback(None)
    assert rows[-1] == "started late"


# ---- StreamServerEndpointService ------------------------------------------------------------------------------------


def listening() -> tuple[Simulation, Any, StreamServerEndpointService]:
    sim = Simulation()
    host = sim.host("server")
    factory = Factory.forProtocol(Protocol)
    return (
        sim,
        host.reactor,
        StreamServerEndpointService(serverFromString(host.reactor, "tcp:80"), factory),
    )


@pytest.mark.parametrize("privileged", [True, False])
def test_it_listens_from_its_start_to_its_stop_and_again(privileged: bool) -> None:
    sim, _, service = listening()
    for _ in range(2):
        if privileged:
            service.privilegedStartService()
            assert service.port.getHost().port == 80
        assert outcome(service.startService()) == [None]
        assert service.port.getHost().port == 80 and service.running
        stopped = service.stopService()
        sim.settle()
        assert outcome(stopped) == [None] and service.port is None and not service.running
    assert outcome(service.stopService()) == [None]
    sim.close()
    sim.checkAtRest()


def test_a_port_that_is_taken_fails_its_start_and_its_stop_does_no_harm() -> None:
    sim, reactor, service = listening()
    reactor.listenTCP(80, Factory.forProtocol(Protocol))
    service.privilegedStartService()
    assert isinstance(outcome(service.startService())[0], CannotListenError)
    assert outcome(service.stopService()) == [None]
    sim.close()


def test_a_port_that_was_taken_is_tried_again() -> None:
    sim, reactor, service = listening()
    other = reactor.listenTCP(80, Factory.forProtocol(Protocol))
    assert isinstance(outcome(service.startService())[0], CannotListenError)
    other.stopListening()
    sim.settle()
    assert outcome(service.startService()) == [None]
    assert service.port.getHost().port == 80
    service.stopService()
    sim.close()


def test_a_stop_while_the_endpoint_takes_its_time_calls_it_off() -> None:
    waiting: list[Deferred[Any]] = []

    class Endpoint:
        def listen(self, factory: Any) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

    service = StreamServerEndpointService(Endpoint(), Factory())
    started = service.startService()
    stopped = service.stopService()
    assert outcome(started) == outcome(stopped) == [None]
    assert waiting[0].called and service.port is None


def test_the_parent_has_stopped_when_the_last_of_its_services_has() -> None:
    slow: Deferred[None] = Deferred()
    parent = whole([], b=slow)
    parent.startService()
    stopped = outcome(parent.stopService())
    assert not stopped
    slow.callback(None)
    assert len(stopped) == 1


def test_each_is_asked_to_stop_when_the_one_after_it_has_stopped() -> None:
    rows: list[str] = []
    slow: dict[str, Deferred[str]] = {"b": Deferred(), "c": Deferred()}
    parent = whole(rows, **slow)
    parent.startService()
    del rows[:]
    stopped = outcome(parent.stopService())
    assert rows == ["stop c"]
    slow["c"].callback("bye")
    assert rows == ["stop c", "stop b"]
    slow["b"].errback(OSError("no disk"))
    assert rows == ["stop c", "stop b", "stop a"]
    ((last, between, first),) = stopped
    assert (last, between[0], between[1].type, first) == ((True, "bye"), False, OSError, (True, None))


def test_a_stop_that_is_cancelled_gives_up_the_one_it_waits_for_and_asks_the_others() -> None:
    rows: list[str] = []
    parent = whole(rows, c=Deferred())
    parent.startService()
    stopping = parent.stopService()
    stopped = outcome(stopping)
    stopping.cancel()
    assert rows[-3:] == ["stop c", "stop b", "stop a"]
    assert [each[0] for each in stopped[0]] == [False, True, True]
    assert stopped[0][0][1].type is CancelledError


def test_who_asks_for_a_stop_that_is_under_way_gets_its_outcome_too() -> None:
    rows: list[str] = []
    slow: Deferred[str] = Deferred()
    parent = whole(rows, c=slow)
    parent.startService()
    del rows[:]
    first, given_up, second = (parent.stopService() for _ in range(3))
    stopped = [outcome(each) for each in (first, given_up, second)]
    given_up.cancel()
    slow.callback("bye")
    assert rows == ["stop c", "stop b", "stop a"]
    assert [type(each) for each in stopped.pop(1)] == [CancelledError]
    assert stopped == [[[(True, "bye"), (True, None), (True, None)]]] * 2


@pytest.mark.parametrize("stopped_again", [False, True])
def test_a_start_while_they_stop_begins_when_all_have_stopped(stopped_again: bool) -> None:
    rows: list[str] = []
    slow: Deferred[None] = Deferred()
    parent = whole(rows, c=slow)
    parent.startService()
    del rows[:]
    stopped = outcome(parent.stopService())
    starting = parent.startService()
    assert starting is not None
    started = outcome(starting)
    assert (rows, started) == (["stop c"], [])
    if stopped_again:
        parent.stopService()
        assert started == [None]
    slow.callback(None)
    assert stopped == [[(True, None)] * 3] and started == [None]
    assert rows == ["stop c", "stop b", "stop a"] + [f"start {name}" for name in "abc" if not stopped_again]
    assert [each.running for each in (parent, *parent)] == [not stopped_again] * 4


@pytest.mark.parametrize("how", ["exits", "drops"])
def test_one_whose_stop_comes_to_no_end_hinders_no_later_start_and_stop(how: str) -> None:
    def no_end() -> Any:
        if how == "exits":
            raise SystemExit(3)
        return Deferred()

    rows: list[str] = []
    parent = whole(rows, c=no_end)
    parent.startService()
    if how == "exits":
        with pytest.raises(SystemExit):
            parent.stopService()
    else:
        parent.stopService()
        gc.collect()
    del rows[:]
    parent.services[2].stops = None
    assert parent.startService() is None
    assert outcome(parent.stopService()) == [[(True, None)] * 3]
    assert rows == [f"start {name}" for name in "abc"] + [f"stop {name}" for name in "cba"]


def test_one_that_leaves_before_its_turn_to_stop_is_stopped_then_and_no_more() -> None:
    rows: list[str] = []
    slow: Deferred[None] = Deferred()
    parent, other = whole(rows, c=slow, b="bye"), MultiService()
    parent.startService()
    other.startService()
    stopped = outcome(parent.stopService())
    leaving = parent.getServiceNamed("b")
    assert leaving.disownServiceParent() == "bye"
    leaving.setServiceParent(other)
    slow.callback(None)
    assert rows.count("stop b") == 1 and leaving.running
    assert stopped == [[(True, None)] * 2]
    assert leaving.disownServiceParent() == "bye"


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


def test_over_a_layer_the_time_is_still_that_of_the_endpoint_s_reactor() -> None:
    scene = Scene()
    service = ClientService(WrappedClientEndpoint(scene.endpoint, Idle), scene.clients)
    service.startService()
    scene.go(10)
    scene.peers.live[0].transport.abortConnection()
    scene.go(10)
    assert (len(scene.peers.live), scene.peers.made) == (1, 2)
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


@pytest.mark.parametrize(
    "says",
    [lambda n: -1, lambda n: None, lambda n: float("nan"), lambda n: True, lambda n: 1 / 0],
    ids=["-1", "None", "nan", "True", "raises"],
)
def test_a_policy_that_is_of_no_use_is_told_and_the_service_lives_on(caplog: Any, says: Any) -> None:
    scene = Scene(listens=False)
    service = ClientService(scene.endpoint, scene.clients, retryPolicy=says)
    service.startService()
    found = outcome(service.whenConnected(3))
    scene.go(200)
    assert [type(each) for each in found] == [ConnectionRefusedError]
    records = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert len(records) >= 3
    assert "of no use" in records[0].getMessage()
    assert outcome(service.stopService()) == [None]
    scene.leave()


@pytest.mark.parametrize("again", [False, True])
def test_a_policy_may_stop_its_own_service_and_start_it_again(caplog: Any, again: bool) -> None:
    told: list[Any] = []

    def gives_up(failures: int) -> float:
        told.append(outcome(service.stopService()))
        if again and len(told) == 1:
            service.startService()
            told.append(outcome(service.whenConnected()))
        return 1.0

    scene = Scene(listens=False)
    service = ClientService(scene.endpoint, scene.clients, retryPolicy=gives_up)
    service.startService()
    waiting = outcome(service.whenConnected())
    scene.go(60)
    assert [type(each) for each in waiting] == [CancelledError]
    assert told[0] == told[-1] == [None]
    if again:
        assert [type(each) for each in told[1]] == [CancelledError]
    assert (service.running, service._timer) == (False, None)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    scene.leave()


@pytest.mark.parametrize("wrong", ["x", 0, -1, 1.5, True])
def test_what_is_no_number_of_failures_is_refused_at_once(wrong: Any) -> None:
    scene = Scene()
    service = ClientService(scene.endpoint, scene.clients)
    with pytest.raises((TypeError, ValueError), match=f"failAfterFailures must be .*, not {wrong!r}"):
        service.whenConnected(wrong)
    scene.leave()


def test_who_gives_up_waiting_is_forgotten_and_one_who_cancels_another_does_no_harm() -> None:
    scene = Scene(listens=False)
    service = ClientService(scene.endpoint, scene.clients)
    service.startService()
    for _ in range(100):
        given_up = service.whenConnected()
        given_up.addErrback(lambda failure: failure.trap(CancelledError))
        given_up.cancel()
    assert service._waiting == []
    first, second, third = (service.whenConnected(1) for _ in range(3))
    found: list[Any] = []
    first.addErrback(lambda failure: second.cancel())
    second.addErrback(lambda failure: found.append(failure.type))
    third.addErrback(lambda failure: found.append(failure.type))
    scene.go(10)
    assert found == [CancelledError, ConnectionRefusedError]
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
