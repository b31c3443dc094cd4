"""A Connector over the simulated kernel: its states, the order of the factory's callbacks, and users who break in."""

from __future__ import annotations

import errno

import pytest

from ropewalk import ClientFactory, IPv4Address, IPv6Address, Protocol
from ropewalk.error import (
    ConnectError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionRefusedError,
    DNSLookupError,
    NotConnectingError,
    TimeoutError,
    UserError,
)
from ropewalk.simulation import Simulation
from tests.rooms.simulated_programs import Log, Serves
from tests.rooms.test_loop import in_a_thread, raising

PORT = 7
HAPPY = ["doStart", "start", "startedConnecting", "build", "made", "protocol lost", "lost", "doStop", "stop"]
REFUSED = ["doStart", "start", "startedConnecting", "failed", "doStop", "stop"]


class Client(ClientFactory):
    """Notes everything with the connector's state then, and does what the test wants."""

    noisy = False

    def __init__(self, **acts):
        self.acts = acts
        self.told = []
        self.states = []
        self.reasons = []
        self.protocols = []
        self.connector = None

    def note(self, what, *args):
        self.told.append(what)
        self.states.append(self.connector.state if self.connector is not None else None)
        act = self.acts.get(what.replace(" ", "_"))
        return None if act is None else act(*args)

    def doStart(self):
        self.note("doStart")
        super().doStart()

    def doStop(self):
        self.note("doStop")
        super().doStop()

    def startFactory(self):
        self.note("start")

    def stopFactory(self):
        self.note("stop")

    def startedConnecting(self, connector):
        self.connector = connector
        self.note("startedConnecting", connector)

    def buildProtocol(self, addr):
        self.address = addr
        made = self.note("build", addr)
        if made is None and "build" not in self.acts:
            made = Noting(self)
            self.protocols.append(made)
        return made

    def clientConnectionFailed(self, connector, reason):
        self.reasons.append(reason.value)
        self.note("failed", connector, reason)

    def clientConnectionLost(self, connector, reason):
        self.reasons.append(reason.value)
        self.note("lost", connector, reason)

    @property
    def reason(self):
        (reason,) = self.reasons
        return reason


class Noting(Protocol):
    def __init__(self, factory):
        self.factory = factory

    def connectionMade(self):
        self.factory.note("made", self)

    def connectionLost(self, reason):
        self.factory.note("protocol lost", self, reason)


class Stage:
    def __init__(self):
        self.sim = Simulation(5)
        self.sim._driver.spin_limit = 3000
        self.near, self.far = self.sim.host("near"), self.sim.host("far")
        self.sim.latency("near", "far", 0.01)
        self.log = Log(self.sim)
        self.served = Serves(self.log)
        self.port = self.far.reactor.listenTCP(PORT, self.served)
        self.factories = []

    def connect(self, host="far", port=PORT, timeout=30, **acts):
        factory = Client(**acts)
        self.factories.append(factory)
        factory.connector = self.near.reactor.connectTCP(host, port, factory, timeout)
        return factory

    def go(self, seconds=1.0):
        self.sim.advance(seconds)

    def finish(self):
        for each in self.factories:
            each.acts.clear()
        self.sim.close()
        self.sim.runUntilIdle()
        self.sim.checkAtRest()
        for each in self.factories:
            assert each.told.count("doStart") == each.told.count("doStop")
            assert each.told.count("start") == each.told.count("stop")
            assert each.numPorts == 0


@pytest.fixture
def stage():
    stage = Stage()
    yield stage
    stage.finish()


# ---- the order ------------------------------------------------------------------------------------------------------


def test_a_connection_is_told_in_its_order_with_the_state_of_each_moment(stage):
    factory = stage.connect()
    assert factory.told == HAPPY[:3]
    stage.go()
    assert factory.told == HAPPY[:5]
    assert factory.connector.transport is factory.protocols[0].transport
    factory.connector.disconnect()
    stage.go()
    assert factory.told == HAPPY
    assert factory.states[2:] == ["connecting"] + ["connected"] * 3 + ["disconnected"] * 3
    assert factory.connector.transport is None
    assert type(factory.reason) is ConnectionDone
    assert factory.address in [
        IPv4Address("TCP", stage.far.addresses[0], PORT),
        IPv6Address("TCP", stage.far.addresses[1], PORT),
    ]


def test_an_address_is_told_to_the_factory_and_as_the_peer_as_the_kernel_writes_it(stage):
    known = stage.far.addresses[1]
    written = known.replace("::", ":0:0::").upper()
    stage.far.reactor.listenTCP(PORT, stage.served, interface="::")
    factory = stage.connect(written)
    stage.go()
    assert factory.address == factory.protocols[0].transport.getPeer() == IPv6Address("TCP", known, PORT)
    assert factory.connector.getDestination().host == written
    factory.connector.disconnect()
    stage.go()


def test_a_refusal_is_told_in_its_order_and_never_before_connect_returned(stage):
    factory = stage.connect(port=PORT + 1)
    assert factory.told == REFUSED[:3]
    stage.go()
    assert factory.told == REFUSED
    assert factory.states[3:] == ["disconnected"] * 3
    assert type(factory.reason) is ConnectionRefusedError


def test_each_attempt_has_a_number_of_its_own(stage):
    factory = stage.connect(port=PORT + 1)
    first = factory.connector.number
    stage.go()
    factory.connector.connect()
    assert factory.connector.number > first
    assert f"<Connector {factory.connector.number} to 'far':8 connecting>" == repr(factory.connector)
    stage.go()


@pytest.mark.parametrize(
    ("host", "destination"),
    [
        ("far", IPv4Address("TCP", "far", PORT)),
        ("10.0.0.2", IPv4Address("TCP", "10.0.0.2", PORT)),
        ("fd00::2", IPv6Address("TCP", "fd00::2", PORT)),
    ],
)
def test_it_tells_where_it_goes_as_it_was_written(stage, host, destination):
    connector = stage.connect(host).connector
    assert connector.getDestination() == destination
    assert (connector.host, connector.port, connector.timeout, connector.bindAddress) == (
        host,
        PORT,
        30,
        None,
    )
    assert connector.reactor is stage.near.reactor


def test_lifecycle_events_tell_the_whole_way(stage):
    steps = []
    stage.near.reactor.observers.append(lambda event: steps.append((event.step.value, event.details)))
    factory = stage.connect("10.0.0.2")
    stage.go()
    factory.connector.disconnect()
    stage.go()
    assert [step for step, _ in steps] == [
        "connecting", "attempt started", "connected", "protocol built", "closing", "closed",
    ]  # fmt: skip
    assert steps[0][1] == {"host": "10.0.0.2", "port": PORT, "timeout": 30}
    assert steps[2][1]["peer"] == f"10.0.0.2:{PORT}"


# ---- wrong states and threads ---------------------------------------------------------------------------------------


def test_connect_is_refused_unless_disconnected(stage):
    factory = stage.connect()
    for _ in ("connecting", "connected"):
        with pytest.raises(RuntimeError, match="can't connect in this state"):
            factory.connector.connect()
        stage.go()
    assert factory.told == HAPPY[:5]


def test_stopConnecting_is_refused_unless_connecting(stage):
    factory = stage.connect()
    stage.go()
    with pytest.raises(NotConnectingError, match="is not connecting"):
        factory.connector.stopConnecting()
    factory.connector.disconnect()
    stage.go()
    with pytest.raises(NotConnectingError):
        factory.connector.stopConnecting()


def test_disconnect_of_what_is_disconnected_is_nothing(stage):
    factory = stage.connect(port=PORT + 1)
    stage.go()
    factory.connector.disconnect()
    assert factory.told == REFUSED


def test_a_wrong_thread_is_told_what_it_asked(stage):
    factory = stage.connect()
    stage.go()
    told = []
    for ask in ("connect", "stopConnecting", "disconnect"):
        stage.near.reactor.callFromThread(
            lambda ask=ask: told.append(in_a_thread(getattr(factory.connector, ask)))
        )
    stage.go()
    assert [type(each) for each in told] == [RuntimeError] * 3
    assert factory.told == HAPPY[:5]


# ---- giving up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["stopConnecting", "disconnect"])
@pytest.mark.parametrize("moment", [0, 0.005])
def test_giving_up_is_told_before_it_returns(stage, ask, moment):
    factory = stage.connect()
    stage.go(moment)
    getattr(factory.connector, ask)()
    assert factory.told == REFUSED
    assert type(factory.reason) is UserError
    stage.go(60)
    assert factory.told == REFUSED


def test_giving_up_in_startedConnecting_is_told_at_once(stage):
    factory = stage.connect(startedConnecting=lambda connector: connector.stopConnecting())
    assert factory.told == REFUSED
    stage.go(60)
    assert factory.told == REFUSED


def test_the_reactor_s_stop_is_told_to_who_connects(stage):
    factory = stage.connect()
    stage.go(0)
    stage.near.reactor.stop()
    stage.go(0)
    assert factory.told == REFUSED
    assert isinstance(factory.reason, ConnectError)
    assert "the reactor was stopped" in str(factory.reason)


def test_the_deadline_is_told_like_any_failure(stage):
    stage.sim.name("never.example", never=True)
    factory = stage.connect("never.example", timeout=3)
    stage.go(4)
    assert factory.told == REFUSED
    assert type(factory.reason) is TimeoutError


def test_a_name_that_is_not_found_is_told_like_any_failure(stage):
    factory = stage.connect("no.such.example")
    stage.go()
    assert factory.told == REFUSED
    assert type(factory.reason) is DNSLookupError


# ---- connecting again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["failed", "lost"])
def test_connecting_again_in_the_last_callback_starts_and_stops_no_factory_between(stage, where):
    def again(connector, reason):
        if len(factory.reasons) < 3:
            connector.connect()

    factory = stage.connect(port=PORT + (where == "failed"), **{where: again})
    for _ in range(3):
        stage.go()
        factory.connector.disconnect()
        stage.go()
    assert factory.told.count("startedConnecting") == 3
    assert len(factory.reasons) == 3
    assert [factory.told.count(each) for each in ("doStart", "start", "doStop", "stop")] == [1, 1, 1, 1]


def test_connecting_again_from_within_stopConnecting_goes_on(stage):
    factory = stage.connect(failed=lambda connector, reason: connector.connect())
    factory.connector.stopConnecting()
    assert factory.connector.state == "connecting"
    factory.acts.clear()
    stage.go()
    assert factory.told[-1] == "made"


def test_a_connector_may_be_used_again_after_the_factory_was_let_go(stage):
    factory = stage.connect(port=PORT + 1)
    stage.go()
    factory.connector.connect()
    stage.go()
    assert factory.told == REFUSED * 2


def test_several_connectors_share_a_factory_which_starts_and_stops_once(stage):
    factory = stage.connect()
    other = stage.near.reactor.connectTCP("far", PORT, factory)
    stage.go()
    factory.connector = other
    for each in factory.protocols:
        each.transport.loseConnection()
    stage.go()
    assert factory.told.count("start") == factory.told.count("stop") == 1
    assert factory.told.count("doStart") == factory.told.count("doStop") == 2


# ---- users who raise ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["start", "startedConnecting"])
def test_what_is_raised_within_connect_is_raised_to_who_asked_and_nothing_is_left(stage, where):
    factory = Client(**{where: raising()})
    with pytest.raises(ValueError, match="on purpose"):
        stage.near.reactor.connectTCP("far", PORT, factory)
    stage.go(60)
    assert (
        factory.told
        == {
            "start": ["doStart", "start"],
            "startedConnecting": ["doStart", "start", "startedConnecting", "doStop", "stop"],
        }[where]
    )
    assert factory.numPorts == 0
    if factory.connector is not None:
        assert factory.connector.state == "disconnected"
        factory.acts.clear()
        factory.connector.connect()
        stage.go()
        assert factory.told[-1] == "made"


def test_raising_in_startedConnecting_after_giving_up_is_told_once(stage):
    def act(connector):
        connector.stopConnecting()
        raise ValueError("on purpose")

    factory = Client(startedConnecting=act)
    with pytest.raises(ValueError, match="on purpose"):
        stage.near.reactor.connectTCP("far", PORT, factory)
    stage.go()
    assert factory.told == REFUSED


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_what_buildProtocol_raises_is_a_failure_with_its_cause(stage, kind, caplog):
    factory = stage.connect(build=raising(kind))
    if kind is SystemExit:
        with pytest.raises(SystemExit):
            stage.go()
    stage.go()
    assert factory.told == ["doStart", "start", "startedConnecting", "build", "failed", "doStop", "stop"]
    assert type(factory.reason) is ConnectError
    assert isinstance(factory.reason.__cause__, kind)
    assert len(caplog.records) == (kind is ValueError)
    assert stage.served.talkers[0].reason is not None


def test_a_factory_that_builds_nothing_is_told_of_a_clean_loss(stage):
    factory = stage.connect(build=lambda addr: None)
    stage.go()
    assert factory.told == ["doStart", "start", "startedConnecting", "build", "lost", "doStop", "stop"]
    assert type(factory.reason) is ConnectionDone
    assert factory.reason.ended.by.value == "us"


@pytest.mark.parametrize("where", ["failed", "lost", "stop"])
def test_what_the_last_callbacks_raise_is_logged_and_the_books_are_balanced(stage, where, caplog):
    factory = stage.connect(port=PORT + (where != "lost"), **{where: raising()})
    stage.go()
    factory.connector.disconnect()
    stage.go()
    assert factory.told == (HAPPY if where == "lost" else REFUSED)
    assert len(caplog.records) == 1


def test_what_connectionMade_raises_is_a_loss_with_that_reason(stage, caplog):
    factory = stage.connect(made=raising())
    stage.go()
    assert factory.told == HAPPY
    assert isinstance(factory.reason, ValueError)


@pytest.mark.parametrize(
    ("ask", "kind"), [("loseConnection", ConnectionDone), ("abortConnection", ConnectionAborted)]
)
def test_closing_in_connectionMade_is_told_after_it_has_returned(stage, ask, kind):
    factory = stage.connect(made=lambda protocol: getattr(protocol.transport, ask)())
    stage.go()
    assert factory.told == HAPPY
    assert type(factory.reason) is kind


# ---- users who turn the loop, or come back, where they should not ---------------------------------------------------


@pytest.mark.parametrize("where", ["start", "startedConnecting", "build", "made", "protocol_lost", "lost"])
def test_a_callback_may_turn_the_loop(stage, where):
    def turn(*args):
        for _ in range(3):
            stage.near.reactor.iterate(0)
        return (
            None if where != "build" else factory.protocols.append(Noting(factory)) or factory.protocols[-1]
        )

    factory = Client(**{where: turn})
    stage.factories.append(factory)
    factory.connector = stage.near.reactor.connectTCP("far", PORT, factory)
    stage.go()
    factory.connector.disconnect()
    stage.go()
    assert factory.told == HAPPY


def test_startFactory_may_give_the_attempt_up(stage):
    factory = Client(start=lambda: next(iter(stage.near.reactor._core.open_ends)).stopConnecting())
    stage.near.reactor.connectTCP("far", PORT, factory)
    stage.go(60)
    assert factory.told == ["doStart", "start", "failed", "doStop", "stop"]
    assert type(factory.reason) is UserError


def test_startFactory_may_stop_the_reactor(stage):
    factory = Client(start=lambda: stage.near.reactor.stop())
    stage.near.start()
    stage.near.reactor.connectTCP("far", PORT, factory)
    stage.go(60)
    assert factory.told == REFUSED


def test_an_observer_that_gives_up_when_the_loser_of_a_race_is_told_is_obeyed(stage):
    stage.sim.name("both.example", ["fd00::2", "10.0.0.2"])
    stage.sim.route("fd00::2", lost=True)

    def obey(event):
        if event.step.value == "attempt failed" and factory.connector.state == "connecting":
            factory.connector.stopConnecting()

    stage.near.reactor.observers.append(obey)
    factory = stage.connect("both.example")
    stage.go()
    assert factory.told == REFUSED
    assert type(factory.reason) is UserError


@pytest.mark.parametrize("ask", ["disconnect", "abort"])
def test_buildProtocol_may_end_the_connection_and_turn_the_loop(stage, ask):
    def act(addr):
        if ask == "abort":
            factory.connector.transport.abortConnection()
        else:
            factory.connector.disconnect()
        stage.near.reactor.iterate(0)
        return Noting(factory)

    factory = stage.connect(build=act)
    stage.go()
    assert factory.told == ["doStart", "start", "startedConnecting", "build", "lost", "doStop", "stop"]


@pytest.mark.parametrize(
    "step", ["connecting", "resolving", "resolved", "attempt started", "connected", "failed"]
)
@pytest.mark.parametrize("host", ["far", "10.0.0.2"])
def test_an_observer_that_disconnects_at_any_step_is_obeyed_once(stage, step, host):
    def obey(event):
        if event.step.value == step and factory.connector is not None:
            factory.connector.disconnect()

    stage.near.reactor.observers.append(obey)
    factory = stage.connect(host)
    stage.go()
    factory.connector.disconnect()
    stage.go()
    assert factory.told[:2] == HAPPY[:2]
    assert len(factory.reasons) == 1
    assert factory.told.count("made") == factory.told.count("protocol lost")


def test_a_local_error_is_told_later_like_any_other(stage):
    stage.near.faults.fail("socket", errno.EMFILE, times=None)
    factory = stage.connect()
    assert factory.told == REFUSED[:3]
    stage.go()
    assert factory.told == REFUSED
    assert factory.reason.errno == errno.EMFILE
