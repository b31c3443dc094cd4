"""Random walks of the real objects against their tables: everybody asks for everything in any order, on two hosts.

Rule: whatever is asked, each is told in an order that the tables allow; exactly one end for each beginning; and at rest
nothing is left. The tables note which pairs the walks went through: one that is never gone is dead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ropewalk import Deferred
from ropewalk._loop import life
from ropewalk._loop.triggers import PHASES
from ropewalk._net import connector, dial, listen, stream
from ropewalk.error import CannotListenError, NotConnectingError, ReactorAlreadyRunning, ReactorNotRunning
from ropewalk.simulation import FALLIBLE, Simulation
from tests.states.walkers import PORT, Broken, Client, Noted, Server, World

ACTS = ["write", "write", "write much", "lose", "abort", "lose write", "pause", "resume", "produce"]
WHERE = ["started", "build", "made", "data", "read side lost", "write side lost", "lost"]
HOSTS = ["far", "far", "near", "10.0.0.2", "fd00::2", "no.such.example", "never.example"]
CALLS = sorted(set(FALLIBLE) - {"poller", "socket_pair"})
# How long the others have until the next step.
PAUSES = st.sampled_from([0, 0, 0.004, 0.02, 0.1])


class Walk(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 3), half_closes=st.booleans(), count=st.integers(1, 3))
    def begin(self, seed: int, half_closes: bool, count: int) -> None:
        self.world = World(seed)
        self.world.half_closes = half_closes
        self.world.sim.name("never.example", never=True)
        for host in self.world.hosts:
            self.listen(host)
        for _ in range(count):
            self.connect("far", PORT, 30)
        self.world.sim.advance(0.1)

    # ---- connecting and listening -----------------------------------------------------------------------------

    def listen(self, host: Any) -> None:
        try:
            self.world.ports.append(host.reactor.listenTCP(PORT, Server(self.world)))
        except CannotListenError as exc:
            assert exc.errno is not None

    def connect(self, host: str, port: int, timeout: float | None) -> None:
        client = Client(self.world)
        self.world.clients.append(client)
        self.world.near.reactor.connectTCP(host, port, client, timeout)

    @rule(data=st.data(), stops=st.booleans(), near=st.booleans(), pause=PAUSES)
    def a_port_is_opened_or_stopped(self, data: st.DataObject, stops: bool, near: bool, pause: float) -> None:
        listening = [port for port in self.world.ports if port.connected]
        if listening and stops:
            data.draw(st.sampled_from(listening)).stopListening()
        else:
            self.listen(self.world.hosts[near])
        self.world.sim.advance(pause)

    @rule(
        host=st.sampled_from(HOSTS),
        port=st.sampled_from([PORT, PORT, PORT + 1]),
        timeout=st.sampled_from([30, 0.005]),
        pause=PAUSES,
    )
    def somebody_connects(self, host: str, port: int, timeout: float | None, pause: float) -> None:
        self.connect(host, port, timeout)
        self.world.sim.advance(pause)

    @rule(data=st.data(), where=st.sampled_from(WHERE), act=st.sampled_from([*ACTS, "raise"]), pause=PAUSES)
    def somebody_connects_with_a_plan(self, data: st.DataObject, where: str, act: str, pause: float) -> None:
        self.world.next_plan[where] = act
        self.connect("far", PORT, 30)
        self.world.sim.advance(pause)
        self.world.next_plan.pop(where, None)

    @rule(
        data=st.data(),
        ask=st.sampled_from(["connect", "stopConnecting", "disconnect", "again"]),
        pause=PAUSES,
    )
    def a_connector_is_asked(self, data: st.DataObject, ask: str, pause: float) -> None:
        client = data.draw(st.sampled_from(self.world.clients))
        state = client.connector.state
        if ask == "again":
            client.again = 1
        elif ask == "connect" and state != "disconnected":
            with pytest.raises(RuntimeError, match="can't connect"):
                client.connector.connect()
        elif ask == "stopConnecting" and state != "connecting":
            with pytest.raises(NotConnectingError):
                client.connector.stopConnecting()
        else:
            getattr(client.connector, ask)()
        self.world.sim.advance(pause)

    # ---- talking ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.alive)
    @rule(
        data=st.data(),
        acts=st.lists(st.sampled_from(ACTS), min_size=1, max_size=4),
        in_turn=st.booleans(),
        pause=PAUSES,
    )
    def a_transport_is_asked(self, data: st.DataObject, acts: list[str], in_turn: bool, pause: float) -> None:
        walker = data.draw(st.sampled_from(self.world.alive))
        for act in acts:
            if in_turn:
                walker.transport.reactor.callFromThread(walker.act, act)
            else:
                walker.act(act)
        self.world.sim.advance(pause)

    @precondition(lambda self: self.world.alive)
    @rule(data=st.data(), act=st.sampled_from(ACTS), pause=PAUSES)
    def a_transport_is_asked_one_thing(self, data: st.DataObject, act: str, pause: float) -> None:
        data.draw(st.sampled_from(self.world.alive)).act(act)
        self.world.sim.advance(pause)

    @precondition(lambda self: self.world.walkers)
    @rule(data=st.data(), act=st.sampled_from(ACTS))
    def one_that_may_be_over_is_asked(self, data: st.DataObject, act: str) -> None:
        walker = data.draw(st.sampled_from(self.world.walkers))
        if walker.transport is not None and act != "produce":
            walker.act(act)

    # ---- the world --------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.005, 0.02, 0.3, 5, 70]))
    def time_passes(self, seconds: float) -> None:
        self.world.sim.advance(seconds)

    @rule(
        data=st.data(),
        what=st.sampled_from(["reset", "cut", "failing call", "failing call", "stop", "crash"]),
        pause=PAUSES,
    )
    def something_breaks(self, data: st.DataObject, what: str, pause: float) -> None:
        world = self.world
        host = world.hosts[data.draw(st.booleans())]
        if what == "reset":
            connections = world.sim.connections()
            if connections:
                world.sim.reset(connections[data.draw(st.integers(0, len(connections) - 1))])
        elif what == "cut":
            world.sim.partition(world.near, world.far)
            world.sim.advance(data.draw(st.sampled_from([0.005, 5, 70])))
            world.sim.heal(world.near, world.far)
        elif what == "failing call":
            call = data.draw(st.sampled_from(CALLS))
            host.faults.fail(call, data.draw(st.sampled_from(FALLIBLE[call])), data.draw(st.integers(1, 3)))
        elif what == "crash":
            host.reactor.crash()
        else:
            host.reactor.stop()
            with pytest.raises(ReactorNotRunning):
                host.reactor.stop()
        world.sim.advance(pause)
        host.start()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish()


class LifeWalk(RuleBasedStateMachine):
    """A reactor that is started, stopped, crashed and fired at, while triggers wait, in any order."""

    @initialize(waits=st.booleans())
    def begin(self, waits: bool) -> None:
        self.sim = Simulation(1)
        self.host = self.sim.host()
        self.reactor = self.host.reactor
        self.waiting: list[Any] = []
        if waits:
            self.reactor.addSystemEventTrigger("before", "startup", self.and_wait)
        self.host.start()
        self.sim.advance(0)

    def asks(self, ask: Callable[[], object], legal: set[str], refusal: type[Exception]) -> None:
        if self.reactor._life.state.value in legal:
            ask()
        else:
            with pytest.raises(refusal):
                ask()

    @rule(
        phase=st.sampled_from(PHASES),
        event=st.sampled_from(["startup", "shutdown"]),
        act=st.sampled_from(["wait", "stop", "crash", "start", "raise"]),
    )
    def a_trigger_is_added(self, phase: str, event: str, act: str) -> None:
        self.reactor.addSystemEventTrigger(phase, event, getattr(self, f"and_{act}"))

    def and_wait(self) -> Any:
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def and_raise(self) -> None:
        raise Broken("a trigger")

    @rule()
    def and_stop(self) -> None:
        self.asks(self.reactor.stop, {"starting", "running"}, ReactorNotRunning)

    @rule()
    def and_start(self) -> None:
        self.asks(self.reactor.startRunning, {"stopped"}, ReactorAlreadyRunning)

    @rule()
    def and_crash(self) -> None:
        self.reactor.crash()
        assert not self.reactor.running

    @rule()
    def shutdown_is_fired_by_hand(self) -> None:
        self.reactor.fireSystemEvent("shutdown")

    @precondition(lambda self: self.waiting)
    @rule()
    def a_deferred_fires(self) -> None:
        self.waiting.pop(0).callback(None)

    @rule()
    def it_turns(self) -> None:
        self.sim.advance(0)

    @invariant()
    def it_is_running_from_startup_to_the_end_of_before_shutdown(self) -> None:
        if hasattr(self, "reactor"):
            assert self.reactor.running is (self.reactor._life.state.value in ("running", "stopping"))

    def teardown(self) -> None:
        if hasattr(self, "sim"):
            while self.waiting:
                self.waiting.pop().callback(None)
            self.sim.close()
            self.sim.checkAtRest()


@pytest.fixture
def noted(monkeypatch):
    """Every table of _net and of the reactor's life, noting what is gone through."""
    found = {}
    for module, name in (
        (connector, "CONNECTOR"),
        (dial, "DIAL"),
        (listen, "PORT"),
        (stream, "LIFE"),
        (stream, "READ_SIDE"),
        (stream, "WRITE_SIDE"),
        (life, "LIFE"),
    ):
        table = Noted(getattr(module, name))
        found[table.kind] = table
        monkeypatch.setattr(module, name, table)
    return found


def dead(noted: dict[str, Noted]) -> dict[str, list[str]]:
    """What no walk went through."""
    never = {kind: set(table) - table.gone for kind, table in noted.items()}
    return {kind: [" × ".join(pair) for pair in pairs] for kind, pairs in never.items() if pairs}


def test_whatever_is_asked_the_tables_hold_and_no_pair_of_them_is_dead(noted, caplog):
    caplog.set_level("WARNING", logger="ropewalk")
    run_state_machine_as_test(Walk, settings=settings(max_examples=150, stateful_step_count=50))
    assert set(dead(noted)) <= {"Reactor"}


def test_whatever_is_asked_of_a_reactor_its_life_holds_and_no_pair_of_it_is_dead(noted):
    run_state_machine_as_test(LifeWalk, settings=settings(max_examples=100, stateful_step_count=30))
    assert dead(noted).get("Reactor") is None
