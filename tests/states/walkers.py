"""The world in which the random walks go: connectors, ports and streams of the engine over the simulated kernel.

Each factory follows its connector through the table by what it is told, each protocol its stream: an Actor that hears
anything in a wrong order fails at once. What a test must know of the end (who wrote what, who was told what) is kept.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any

from ropewalk import ClientFactory, Factory, Protocol
from ropewalk._net.connector import CONNECTOR, ConnectorEvent, ConnectorState
from ropewalk.error import ConnectError, ConnectionClosed
from ropewalk.machine import Table
from ropewalk.simulation import Simulation

PORT = 7


class Broken(Exception):
    """Raised by users on purpose."""


class Noted(Table[Any, Any]):
    """A table that notes which of its pairs were gone through."""

    def __init__(self, table: Table[Any, Any]) -> None:
        super().__init__(table.kind, table)
        self.gone: set[tuple[Any, Any]] = set()

    def __getitem__(self, pair: tuple[Any, Any]) -> Any:
        after = super().__getitem__(pair)
        self.gone.add(pair)
        return after


class Walker(Protocol):
    """One end of a connection. `plan` says what to do where: {"data": "lose"}."""

    def __init__(self, world: World, name: str, half_closes: bool, plan: dict[str, str]) -> None:
        self.world = world
        self.name = name
        self.plan = plan
        self.written = bytearray()
        self.received = bytearray()
        self.asked: set[str] = set()
        self.told: list[str] = []
        self.reason: Any = None
        self.producer: Pushes | None = None
        # The walker at the other end, once both were told.
        self.other: Walker | None = None
        if half_closes:
            self.readConnectionLost = lambda: self.hear("read side lost")
            self.writeConnectionLost = lambda: self.hear("write side lost")

    def connectionMade(self) -> None:
        assert self.told == []
        self.world.alive.append(self)
        self.world.meet(self)
        self.hear("made")

    def dataReceived(self, data: bytes) -> None:
        assert data
        assert "lose" not in self.asked
        assert "abort" not in self.asked
        assert "read side lost" not in self.told
        self.received += data
        self.hear("data")

    def connectionLost(self, reason: Any) -> None:
        self.reason = reason.value
        transport: Any = self.transport
        assert transport.disconnected
        assert isinstance(self.reason, Broken) or transport.ended is self.reason.ended
        assert isinstance(self.reason, (ConnectionClosed, Broken))
        self.world.alive.remove(self)
        self.hear("lost")

    def hear(self, what: str) -> None:
        assert "lost" not in self.told, f"{self.name}: {what} after lost"
        assert what == "made" or self.told[0] == "made"
        assert what == "data" or what not in self.told, f"{self.name}: {what} twice"
        self.told.append(what)
        act = self.plan.pop(what, None)
        if act is not None:
            self.act(act)

    def act(self, what: str) -> None:
        """What a user may do, at any time; "raise" only in a callback."""
        transport: Any = self.transport
        told = len(self.told)
        if what == "write":
            self.write(b"some ")
        elif what == "write much":
            self.write(bytes(150_000))
        elif what == "produce":
            self.produce()
        else:
            self.asked.add(what)
            if what == "raise":
                raise Broken(self.name)
            ask = {
                "lose": "loseConnection",
                "abort": "abortConnection",
                "lose write": "loseWriteConnection",
                "pause": "pauseProducing",
                "resume": "resumeProducing",
            }[what]
            getattr(transport, ask)()
        assert len(self.told) == told, f"{what} called back: {self.told[told:]}"

    def write(self, data: bytes) -> None:
        transport: Any = self.transport
        if not self.asked & {"lose", "abort", "lose write"} and transport.state.startswith(
            ("connected", "half-closed by the peer")
        ):
            self.written += data
            transport.write(data)

    def produce(self) -> None:
        transport: Any = self.transport
        if self.producer is None:
            self.producer = Pushes(self)
            transport.registerProducer(self.producer, True)
        else:
            self.producer.is_over = True
            self.producer = None
            transport.unregisterProducer()


class Pushes:
    """A streaming producer that is told pause and resume in turns, and stop at most once."""

    def __init__(self, walker: Walker) -> None:
        self.walker = walker
        self.is_over = False
        self.is_paused = False

    def pauseProducing(self) -> None:
        assert not self.is_over
        assert not self.is_paused
        self.is_paused = True

    def resumeProducing(self) -> None:
        assert not self.is_over
        assert self.is_paused
        self.is_paused = False

    def stopProducing(self) -> None:
        assert not self.is_over
        self.is_over = True
        self.walker.producer = None


class Server(Factory[Walker]):
    noisy = False

    def __init__(self, world: World) -> None:
        self.world = world

    def buildProtocol(self, addr: object) -> Walker | None:
        return self.world.walker("server")


class Client(ClientFactory[Walker]):
    """Follows its connector through the table by what it is told."""

    noisy = False

    def __init__(self, world: World) -> None:
        self.world = world
        self.state = ConnectorState.DISCONNECTED
        self.connector: Any = None
        self.attempts = self.ends = self.starts = 0
        self.again = 0
        self.protocol_of_attempt: Walker | None = None

    def goes(self, event: ConnectorEvent) -> None:
        self.state = CONNECTOR[self.state, event]
        if self.connector is not None:
            assert self.connector.state == self.state.value

    def startFactory(self) -> None:
        self.starts += 1
        assert self.starts == 1

    def stopFactory(self) -> None:
        self.starts -= 1
        assert self.starts == 0
        assert self.state is ConnectorState.DISCONNECTED

    def startedConnecting(self, connector: Any) -> None:
        assert self.starts == 1
        self.connector = connector
        self.attempts += 1
        self.goes(ConnectorEvent.CONNECT)
        if self.world.next_plan.pop("started", None):
            connector.stopConnecting()

    def buildProtocol(self, addr: object) -> Walker | None:
        self.goes(ConnectorEvent.ESTABLISHED)
        answer = self.world.next_plan.pop("build", None)
        self.protocol_of_attempt = None
        if answer == "raise":
            raise Broken("buildProtocol")
        if answer is None:
            self.protocol_of_attempt = self.world.walker("client")
        return self.protocol_of_attempt

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        assert isinstance(reason.value, ConnectError)
        self.goes(ConnectorEvent.FAILED)
        self.ended(connector)

    def clientConnectionLost(self, connector: Any, reason: Any) -> None:
        if self.protocol_of_attempt is not None:
            assert self.protocol_of_attempt.reason is reason.value
        self.goes(ConnectorEvent.LOST)
        self.ended(connector)

    def ended(self, connector: Any) -> None:
        self.ends += 1
        assert self.ends == self.attempts
        assert connector.transport is None
        if self.again:
            self.again -= 1
            connector.connect()


class Heard(logging.Handler):
    """What the engine logged of exceptions that nobody planned: failed assertions above all."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.unplanned: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        exc = record.exc_info[1] if record.exc_info else None
        if exc is not None and not isinstance(exc, Broken):
            self.unplanned.append("".join(traceback.format_exception(exc)))


class World:
    """Two hosts, and everybody on them."""

    def __init__(self, seed: int) -> None:
        self.sim = Simulation(seed)
        self.sim._driver.spin_limit = 3000
        self.near, self.far = self.sim.host("near"), self.sim.host("far")
        self.sim.latency("near", "far", 0.01, jitter=0.005)
        self.hosts = (self.near, self.far)
        self.alive: list[Walker] = []
        self.walkers: list[Walker] = []
        self.clients: list[Client] = []
        self.unmet: dict[tuple[str, int], Walker] = {}
        self.ports: list[Any] = []
        # What the protocols and factories made next are to do.
        self.next_plan: dict[str, str] = {}
        self.half_closes = False
        self.heard = Heard()
        logging.getLogger("ropewalk").addHandler(self.heard)

    def walker(self, name: str) -> Walker:
        plan, self.next_plan = self.next_plan, {}
        made = Walker(self, f"{name} {len(self.walkers)}", self.half_closes, plan)
        self.walkers.append(made)
        return made

    def meet(self, walker: Walker) -> None:
        """Two ends of one connection know each other by the client's address."""
        transport: Any = walker.transport
        is_client = walker.name.startswith("client")
        address = transport.getHost() if is_client else transport.getPeer()
        key = (address.host, address.port)
        other = self.unmet.pop(key, None)
        if other is None or other.name.startswith("client") is is_client:
            self.unmet[key] = walker
        else:
            walker.other, other.other = other, walker

    def finish(self) -> None:
        """Let everything end, and judge."""
        self.next_plan.clear()
        for client in self.clients:
            client.again = 0
        for walker in self.walkers:
            walker.plan.clear()
        self.sim.heal(self.near, self.far)
        for host in self.hosts:
            host.faults.clear()
            host.start()
        self.sim.advance(0)
        for host in self.hosts:
            host.start()
            host.reactor.stop()
        self.sim.runUntilIdle()
        self.sim.close()
        logging.getLogger("ropewalk").removeHandler(self.heard)
        assert not self.heard.unplanned, self.heard.unplanned[0]
        self.sim.checkAtRest()
        for client in self.clients:
            assert client.state is ConnectorState.DISCONNECTED
            assert client.attempts == client.ends
            assert client.starts == client.numPorts == 0
        assert self.alive == []
        for walker in self.walkers:
            assert not walker.told or walker.told[-1] == "lost"
            assert walker.producer is None
            if walker.other is not None:
                assert walker.other.written.startswith(walker.received), "bytes that nobody wrote"
