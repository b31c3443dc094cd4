"""Clients, a proxy and its targets, each on a host of its own, for the tests of what stands between."""

from __future__ import annotations

from functools import partial
from typing import Any

from ropewalk import ClientFactory, Factory, Protocol
from ropewalk.balancing import Balancer, Target
from ropewalk.endpoints import HostnameEndpoint
from ropewalk.health import HealthChecks
from ropewalk.proxying import Proxy
from ropewalk.simulation import Host, Simulation

# Seconds that a connect from the proxy may take.
PATIENCE = 3.0


class Echo(Protocol):
    """Sends back what comes, and at the peer's end its own."""

    factory: Any

    def connectionMade(self) -> None:
        self.factory.served += 1
        self.factory.live.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        self.transport.loseWriteConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Any) -> None:
        self.factory.live.remove(self)


class Server(Factory[Any]):
    """What listens on a target."""

    noisy = False

    def __init__(self, protocol: type[Protocol] = Echo) -> None:
        self.protocol = protocol
        self.served = 0
        self.live: list[Any] = []


class Client(Protocol):
    """Sends, and keeps what comes back and how it ended."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.received = b""
        self.hasEnded = False
        self.reason: Any = None

    def connectionMade(self) -> None:
        if self.data:
            self.transport.write(self.data)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def readConnectionLost(self) -> None:
        self.hasEnded = True

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Any) -> None:
        self.reason = reason.value


class Clients(ClientFactory[Any]):
    """Builds one client that is there already; keeps why none could be connected."""

    noisy = False

    def __init__(self, client: Client) -> None:
        self.client = client

    def buildProtocol(self, addr: object) -> Client:
        return self.client

    def clientConnectionFailed(self, connector: object, reason: Any) -> None:
        self.client.reason = reason.value


class Scene:
    """Targets "a", "b" …, in front of them a proxy, and a host for clients."""

    def __init__(
        self,
        names: str = "ab",
        protocol: type[Protocol] = Echo,
        limit: int | None = None,
        sim: Simulation | None = None,
        **how: Any,
    ) -> None:
        self.sim = sim or Simulation()
        self.proxied, self.outside = self.sim.host("proxy"), self.sim.host("outside")
        self.servers: dict[str, Server] = {}
        self.ports: dict[str, Any] = {}
        for name in names:
            self.servers[name] = Server(protocol)
            self.sim.latency("proxy", self.sim.host(name), 0.01)
            self.sim.host(name).onStart(partial(self.open, name))
        self.changes: list[str] = []
        reactor = self.proxied.reactor
        self.balancer = Balancer(
            [Target(HostnameEndpoint(reactor, name, 7, timeout=PATIENCE), name) for name in names],
            changed=lambda target: self.changes.append(f"{target.name} {'up' if target.isUp else 'down'}"),
            **how,
        )
        self.proxy = Proxy(self.balancer, limit)
        self.port = reactor.listenTCP(80, self.proxy)
        self.proxy.listens(self.port)
        self.checks: HealthChecks | None = None

    def host(self, name: str) -> Host:
        return self.sim.host(name)

    def target(self, name: str) -> Target:
        return next(each for each in self.balancer.targets if each.name == name)

    def open(self, name: str, reactor: object = None) -> None:
        """Listen (again); a host that starts does so by itself."""
        self.ports[name] = self.host(name).reactor.listenTCP(7, self.servers[name])

    def close(self, name: str) -> None:
        """Listen no more: who connects is refused."""
        self.ports[name].stopListening()
        self.go(0.01)

    def vanish(self, name: str) -> None:
        """Who connects hears nothing."""
        self.sim.partition("proxy", name)

    def check(self, seconds: float, **how: Any) -> HealthChecks:
        self.checks = HealthChecks(self.balancer, seconds, **how)
        self.checks.startService()
        return self.checks

    def client(self, data: bytes = b"") -> Client:
        client = Client(data)
        self.outside.reactor.connectTCP("proxy", 80, Clients(client))
        return client

    def answered(self, data: bytes = b"x") -> Client:
        """A client, some time later."""
        client = self.client(data)
        self.go(1)
        return client

    def go(self, seconds: float) -> None:
        self.sim.run(until=self.sim.now + seconds)

    @property
    def served(self) -> dict[str, int]:
        return {name: server.served for name, server in self.servers.items()}

    def leave(self) -> None:
        """The test's end: every client leaves, every port is closed, and nothing is left anywhere."""
        if self.checks is not None:
            self.checks.stopService()
        up = [port for name, port in self.ports.items() if not self.host(name).isDown]
        for port in (self.port, *up):
            port.stopListening()
        for connection in self.sim.connections():
            self.sim.reset(connection)
        self.sim.runUntilIdle(limit=1000)
        self.sim.checkAtRest()
        assert self.proxy.connections == 0
        assert [target.connections for target in self.balancer.targets] == [0] * len(self.balancer.targets)
