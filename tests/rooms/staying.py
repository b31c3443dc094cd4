"""A server, a client and a factory that counts, for the tests of what stays connected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ropewalk import Factory, Protocol
from ropewalk.endpoints import HostnameEndpoint
from ropewalk.simulation import Simulation


class Peer(Protocol):
    """Answers what it gets; the factory knows those that are connected."""

    factory: Any

    def connectionMade(self) -> None:
        self.factory.live.append(self)
        self.factory.made += 1

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def connectionLost(self, reason: Any) -> None:
        self.factory.live.remove(self)


class Peers(Factory[Any]):
    noisy = False
    protocol = Peer

    def __init__(self) -> None:
        self.live: list[Any] = []
        self.made = 0


class Client(Protocol):
    """Counts what its transport tells it."""

    reason: Any = None

    def __init__(self) -> None:
        self.received = b""
        self.whenLost: Callable[[], object] = lambda: None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any) -> None:
        self.reason = reason
        self.whenLost()


class Clients(Factory[Any]):
    noisy = False

    def __init__(self) -> None:
        self.built: list[Client] = []

    def buildProtocol(self, addr: object) -> Client:
        self.built.append(Client())
        return self.built[-1]


class Scene:
    """One server that may go and come back, and one client."""

    def __init__(self, sim: Simulation | None = None, listens: bool = True) -> None:
        self.sim = sim or Simulation()
        self.server, self.client = self.sim.host("server"), self.sim.host("client")
        self.sim.latency("server", "client", 0.01)
        self.peers, self.clients = Peers(), Clients()
        self.port: Any = None
        self.endpoint = HostnameEndpoint(self.client.reactor, "server", 7, timeout=10)
        if listens:
            self.listen()

    def listen(self) -> None:
        self.port = self.server.reactor.listenTCP(7, self.peers)

    def go(self, seconds: float) -> None:
        self.sim.run(until=self.sim.now + seconds)

    def leave(self) -> None:
        """The test's end: the port closed, nothing left open."""
        if self.port is not None:
            self.port.stopListening()
        self.sim.runUntilIdle(limit=1000)
        self.sim.checkAtRest()


def outcome(deferred: Any) -> list[Any]:
    """What it fires with, in a list that fills when it does; of a Failure its exception."""
    found: list[Any] = []
    deferred.addCallbacks(found.append, lambda reason: found.append(reason.value))
    return found
