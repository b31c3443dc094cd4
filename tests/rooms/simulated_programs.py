"""Small programs that the tests of the simulation run: they write down what happens to them, with the time."""

from __future__ import annotations

from typing import Any

from ropewalk import ClientFactory, Factory, Protocol
from ropewalk.simulation import Host, Simulation


class Talker(Protocol):
    """Says something when connected, and writes everything down."""

    def __init__(self, log: Log, says: bytes = b"", stays: bool = True) -> None:
        self.log = log
        self._says = says
        self._stays = stays
        self.received = b""
        self.reason: Any = None

    def connectionMade(self) -> None:
        self.log.note("made")
        if self._says:
            self.transport.write(self._says)
        if not self._stays:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.log.note("data", len(data))

    def connectionLost(self, reason: Any) -> None:
        self.reason = reason.value
        self.log.note("lost", type(reason.value).__name__, reason.value.ended.by.value)


class Echo(Talker):
    """Sends everything back."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.write(data)


class Log:
    """What happened, with the virtual time since the start."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._start = sim.now
        self.rows: list[tuple[Any, ...]] = []

    def note(self, *row: object) -> None:
        self.rows.append((round(self._sim.now - self._start, 9), *row))

    def times(self, what: str) -> list[float]:
        return [row[0] for row in self.rows if row[1] == what]


class Calls(ClientFactory):
    """A client of one Talker."""

    def __init__(self, log: Log, **how: Any) -> None:
        self.log = log
        self.talker = Talker(log, **how)
        self.failure: Any = None

    def buildProtocol(self, addr: object) -> Talker:
        self.log.note("address", str(getattr(addr, "host", addr)))
        return self.talker

    def clientConnectionFailed(self, connector: object, reason: Any) -> None:
        self.failure = reason.value
        self.log.note("failed", type(reason.value).__name__)


class Serves(Factory):
    """A server of Talkers, which are kept."""

    def __init__(self, log: Log, kind: type[Talker] = Echo) -> None:
        self.log = log
        self.kind = kind
        self.talkers: list[Talker] = []

    def buildProtocol(self, addr: object) -> Talker:
        self.talkers.append(self.kind(self.log))
        return self.talkers[-1]


def two_hosts(seed: int = 0, latency: float = 0.1, **how: Any) -> tuple[Simulation, Host, Host]:
    """A world with a server and a client."""
    sim = Simulation(seed, **how)
    server, client = sim.host("server"), sim.host("client")
    sim.latency(server, client, latency)
    return sim, server, client
