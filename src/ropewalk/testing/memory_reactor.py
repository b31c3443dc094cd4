"""A reactor for tests: the real engine, and a network in which nobody answers until the test does.

    reactor = MemoryReactorClock()
    client = MyClient(reactor)                      # calls reactor.connectTCP("example.com", 25, factory)
    assert reactor.tcpClients[0][:2] == ("example.com", 25)
    protocol, peer = reactor.acceptClient()         # the connection is there: a real Stream, and its other end
    peer.deliver(b"220 hello\\r\\n")
    reactor.advance(30)                             # and time passes

The names are those of Twisted's class, and what a test written for it does still works: calls are written down
(`tcpClients`, `tcpServers`, `connectors`, `triggers`, `readers` …), every address is a black hole, every name has an
address, and `run` runs the hooks and returns. Below is a real Reactor on a simulated host. So a factory is started and told as
in the field, bad arguments are refused, a connector has a state and can be given up, and its time-out strikes when the
clock is advanced. New are the answers: `acceptClient`, `refuseClient`, `dialServer`.

Nothing happens between the test's calls. Those that let something happen (`acceptClient`, `advance`, `iterate`, what a peer
does) go on until nothing more can happen without time passing; calls that are due are made on the way. What user code
raises there is dealt with and logged by the engine as ever, and then raised to the test as well.

Rejected: stopping the engine in `stop`. Tests look at their connections after `run` has returned; `fireSystemEvent("shutdown")`
is what a reactor that stops does. Rejected: watching readers; their descriptors are of the real world, or none at all.
Source: twisted.internet.testing.MemoryReactor; what differs is in docs/differences-from-twisted.md, D51 to D54.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ropewalk import TCPOptions
from ropewalk._loop.timers import DelayedCall, checked_delay
from ropewalk.error import ReactorAlreadyRunning
from ropewalk.simulation import Simulation
from ropewalk.simulation.network import Route
from ropewalk.testing.clock import in_order
from ropewalk.testing.complaints import user_errors_raised
from ropewalk.testing.every_name import EveryName
from ropewalk.testing.peer import FarHost, Noting, Peer, claim

if TYPE_CHECKING:
    from ropewalk.defer import Deferred
    from ropewalk.event import Drained

Hook = tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]

_OPTIONS = TCPOptions()
# Exchanges of bytes at one instant. Why a limit: a producer without end would be asked for more and more.
_MOST_EXCHANGES = 10_000
# From where connections go out. Why two: one that goes to 127.0.0.1 from the very port it goes to is connected to itself, which
# the engine notices and gives up (FAULTS C9); and the same numbers are drawn in every test.
_LOW_PORTS, _HIGH_PORTS = range(32768, 49152), range(49152, 65536)


class MemoryReactor:
    """A reactor whose network is the test.

    Written down: `tcpClients` (host, port, factory, timeout, bindAddress), `connectors`, `tcpServers` (port, factory, backlog,
    interface), `ports`, `peers`, `triggers` (by phase, then by event), `whenRunningHooks`, `readers`, `writers`, `running`,
    `hasRun`, `hasStopped`, `hasCrashed`, `hasInstalled`.
    """

    def __init__(self) -> None:
        self._simulation = Simulation()
        near = self._simulation.host("here", ["10.0.0.1", "fd00::1"])
        far = self._simulation.host("elsewhere", ["198.51.100.1", "2001:db8::51"])
        self._near, self._far = near, FarHost(far, near)
        self._world = near.world
        # Why 0: what tests for a Clock expect.
        self._world.now = 0.0
        network = near.stack.network
        network.latency = 0.0
        network.other_routes = Route(is_held=True)
        self._engine = near.reactor
        # Why: what a connector or a transport calls its reactor is the one that the test has.
        self._engine._core.reactor = self
        self._resolver: Any = EveryName()
        self._engine.installNameResolver(self._resolver)
        near.start()

        self.hasInstalled = False
        # None after `crash`.
        self.running: bool | None = False
        self.hasRun = False
        self.hasStopped = False
        self.hasCrashed = False
        self.whenRunningHooks: list[Hook] = []
        self.triggers: dict[str, dict[str, list[Hook]]] = {}
        self.tcpClients: list[tuple[Any, ...]] = []
        self.connectors: list[Any] = []
        self.tcpServers: list[tuple[Any, ...]] = []
        self.ports: list[Any] = []
        self.peers: list[Peer] = []
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()

    # ---- the answers ------------------------------------------------------------------------------------------

    def acceptClient(self, client: Any = -1) -> tuple[Any, Peer]:
        """Let a connection that was asked for be established, as its server would.

        Args:    client: an index of `connectors`, the last by default, or the connector.
        Returns: the protocol that the factory built, or None, and the other end.
        Raises:  RuntimeError if it is not connecting, or has no address yet; what the factory or the protocol raises.
        Order:   buildProtocol, connectionMade, and whatever follows without time passing, before this returns.
        """
        connector = self._connector(client)
        attempt = self._attempts(connector)[0]
        factory = connector.factory
        connector.factory = noting = Noting(factory)
        try:
            peer = self._far.accept(attempt.sock.endpoint, self._settle)
            self._join(peer, noting)
        finally:
            connector.factory = factory
        return peer.protocol, peer

    def refuseClient(self, client: Any = -1, error: int = errno.ECONNREFUSED) -> None:
        """Let a connection that was asked for fail, at each address that it tries.

        Args:   client: as for `acceptClient`.
                error: the kernel's answer: ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT …
        Raises: RuntimeError as `acceptClient`; what the factory raises.
        Order:  factory.clientConnectionFailed before this returns.
        """
        connector = self._connector(client)
        number = connector.number
        attempts = self._attempts(connector)
        # Why the number: who connects again when it failed makes a new attempt, which is not to be refused as well.
        while attempts:
            for attempt in attempts:
                attempt.sock.endpoint.handshake.fail(error)
            self._settle()
            is_same = connector.number == number and connector.state == "connecting"
            attempts = self._attempts(connector) if is_same else []

    def dialServer(self, port: Any, bindAddress: tuple[str, int] | None = None) -> tuple[Any, Peer]:
        """Connect to a port that is listened on, as a client would.

        Args:    port: its number, or what listenTCP returned.
                 bindAddress: the (host, port) to come from, any address; None for a made-up one.
        Returns: the protocol that the factory built, or None, and the other end.
        Raises:  RuntimeError if nobody listens there; what the factory or the protocol raises.
        Order:   as `acceptClient`.
        """
        listening = self._port(port)
        address = listening.getHost()
        host = {"0.0.0.0": "10.0.0.1", "::": "fd00::1"}.get(address.host, address.host)
        factory = listening.factory
        listening.factory = noting = Noting(factory)
        try:
            peer = self._far.dial((host, address.port), bindAddress, self._settle)
            self._join(peer, noting)
        finally:
            listening.factory = factory
        return peer.protocol, peer

    def _join(self, peer: Peer, noting: Noting) -> None:
        self.peers.append(peer)
        noting.peer = peer
        try:
            self._settle()
        finally:
            peer.transport = self._engine._loop.watchers.get(peer.other_fileno())

    def _connector(self, client: Any) -> Any:
        self._settle()
        connector = self.connectors[client] if isinstance(client, int) else client
        if connector.state != "connecting":
            raise RuntimeError(f"{connector!r} cannot be answered: it is not connecting")
        return connector

    def _attempts(self, connector: Any) -> list[Any]:
        attempts = list(connector._dial._attempts)
        if not attempts:
            raise RuntimeError(f"{connector!r} cannot be answered: its name is not resolved yet")
        return attempts

    def _port(self, port: Any) -> Any:
        self._settle()
        found = [each for each in self.ports if each.connected and (each is port or each.port == port)]
        if not found:
            listening = ", ".join(str(each.port) for each in self.ports if each.connected) or "none"
            raise RuntimeError(f"nobody listens on {port!r}; ports that are listened on: {listening}")
        return found[0]

    # ---- connecting and listening -----------------------------------------------------------------------------

    def connectTCP(
        self,
        host: str,
        port: int | str,
        factory: Any,
        timeout: float | None = 30,
        bindAddress: tuple[str, int] | None = None,
        options: TCPOptions = _OPTIONS,
    ) -> Any:
        """Connect, as a reactor does, to nobody: until `acceptClient` or `refuseClient`, or its timeout.

        Returns: the Connector, "connecting".
        Raises:  as Reactor.connectTCP; then nothing was written down.
        Order:   factory.doStart and startedConnecting before this returns, nothing else.
        """
        row = (host, port, factory, timeout, bindAddress)
        self.tcpClients.append(row)
        try:
            if bindAddress is not None and isinstance(bindAddress[0], str):
                claim(bindAddress[0], self._near)
            connector = self._engine.connectTCP(host, port, factory, timeout, bindAddress, options)
        except BaseException:
            self.tcpClients.remove(row)
            raise
        self.connectors.append(connector)
        self._near.ephemeralPorts = _LOW_PORTS if connector.port >= _HIGH_PORTS.start else _HIGH_PORTS
        return connector

    def listenTCP(
        self,
        port: int | str,
        factory: Any,
        backlog: int | None = 50,
        interface: str = "",
        options: TCPOptions = _OPTIONS,
    ) -> Any:
        """Listen, as a reactor does: `dialServer` connects to it. This host has every address.

        Returns: the Port, listening; with port 0 asked for, on a number of its own.
        Raises:  as Reactor.listenTCP, CannotListenError for a port that is taken too; then nothing was written down.
        """
        if isinstance(interface, str):
            claim(interface, self._near)
        listening = self._engine.listenTCP(port, factory, backlog, interface, options)
        self.tcpServers.append((port, factory, backlog, interface))
        self.ports.append(listening)
        return listening

    # ---- names ------------------------------------------------------------------------------------------------

    @property
    def nameResolver(self) -> Any:
        """What looks names up; at first each name is 127.0.0.1, at once."""
        return self._resolver

    @nameResolver.setter
    def nameResolver(self, resolver: Any) -> None:
        self.installNameResolver(resolver)

    def installNameResolver(self, resolver: Any) -> Any:
        """Let an object with `resolveHostName` look up all names from now on. Returns: the one that did so before."""
        before, self._resolver = self._resolver, resolver
        self._engine.installNameResolver(resolver)
        return before

    def drain(self, deadline: float | None) -> Deferred[Drained]:
        """Drain every port; the connections are told when the reactor goes on. Raises: as Reactor.drain."""
        return self._engine.drain(deadline)

    def resolve(self, name: str, timeout: float | tuple[float, ...] = 10) -> Deferred[str]:
        """Look up one IPv4 address; the Deferred fires when the reactor goes on."""
        return self._engine.resolve(name, timeout)

    # ---- running ----------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Set `hasInstalled`."""
        self.hasInstalled = True

    def run(self, installSignalHandlers: bool = True) -> None:
        """Fire "startup", call what waits for the reactor to run, `stop`, and return.

        Raises: ReactorAlreadyRunning from within itself; what a hook raises.
        """
        if self.running:
            raise ReactorAlreadyRunning("run: this reactor runs already")
        self.running = self.hasRun = True
        with user_errors_raised():
            self._engine.fireSystemEvent("startup")
        for hook, args, kw in self.whenRunningHooks:
            hook(*args, **kw)
        self.stop()

    def stop(self) -> None:
        """Write down that it was stopped. Connections stay as they are; see `fireSystemEvent`."""
        self.running = False
        self.hasStopped = True

    def crash(self) -> None:
        """Write down that it was crashed."""
        self.running = None
        self.hasCrashed = True

    def iterate(self, delay: float = 0) -> None:
        """Let everything happen that can happen without time passing; `delay` is not waited for."""
        checked_delay(delay)
        self._settle()

    def callWhenRunning(self, callable: Callable[..., object], *args: Any, **kw: Any) -> None:
        """Call in `run`; at once if that has been."""
        if self.running or self.hasRun:
            callable(*args, **kw)
        else:
            self.whenRunningHooks.append((callable, args, kw))

    def addSystemEventTrigger(
        self, phase: str, eventType: str, callable: Callable[..., object], *args: Any, **kw: Any
    ) -> Any:
        """Call when the event is fired: "startup" by `run`, any by `fireSystemEvent`. Written down in `triggers`.

        Returns: what removeSystemEventTrigger takes.
        Raises:  KeyError, TypeError as Reactor.addSystemEventTrigger.
        """
        trigger = self._engine.addSystemEventTrigger(phase, eventType, callable, *args, **kw)
        self.triggers.setdefault(phase, {}).setdefault(eventType, []).append(trigger.call)
        return trigger

    def removeSystemEventTrigger(self, triggerID: Any) -> None:
        """Raises: ValueError if it has run, was removed before, or is no trigger at all."""
        self._engine.removeSystemEventTrigger(triggerID)
        rows = self.triggers[triggerID.phase][triggerID.event]
        rows[:] = [each for each in rows if each is not triggerID.call]

    def fireSystemEvent(self, eventType: str) -> None:
        """Run the triggers of an event. With "shutdown" all connections and ports are told, for good."""
        with user_errors_raised():
            self._engine.fireSystemEvent(eventType)
        if eventType == "shutdown":
            self.running = False
            self._near.turn()
        self._settle()

    # ---- time and threads -------------------------------------------------------------------------------------

    def seconds(self) -> float:
        """The time, beginning at 0. It stands still, but in a MemoryReactorClock."""
        return self._world.now

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> DelayedCall:
        """Call once, when so much time has passed. Raises: as Reactor.callLater."""
        return self._engine.callLater(delay, callable, *args, **kw)

    def getDelayedCalls(self) -> list[DelayedCall]:
        """Those still to come that the program asked for, the next one first. The engine's time-outs are not among them."""
        # Why so: callLater always gives keywords, if only none; the engine's own calls have None.
        return in_order(each for each in self._engine.getDelayedCalls() if each.kw is not None)

    def callFromThread(self, callable: Callable[..., object], *args: Any, **kw: Any) -> None:
        """Call when the reactor goes on; from any thread."""
        self._engine.callFromThread(callable, *args, **kw)

    # ---- descriptors ------------------------------------------------------------------------------------------

    def addReader(self, reader: Any) -> None:
        """Write it down; nothing is watched."""
        self.readers.add(reader)

    def addWriter(self, writer: Any) -> None:
        """Write it down; nothing is watched."""
        self.writers.add(writer)

    def removeReader(self, reader: Any) -> None:
        """Strike it out, if it is there."""
        self.readers.discard(reader)

    def removeWriter(self, writer: Any) -> None:
        """Strike it out, if it is there."""
        self.writers.discard(writer)

    def getReaders(self) -> list[Any]:
        """Those written down."""
        return list(self.readers)

    def getWriters(self) -> list[Any]:
        """Those written down."""
        return list(self.writers)

    def removeAll(self) -> list[Any]:
        """Strike all out. Returns: each, once."""
        found = list(self.readers | self.writers)
        self.readers.clear()
        self.writers.clear()
        return found

    # ---- seen from outside ------------------------------------------------------------------------------------

    @property
    def observers(self) -> list[Callable[[Any], object]]:
        """As Reactor.observers."""
        return self._engine.observers

    @property
    def random(self) -> Any:
        """What back-offs draw from: the same numbers in each MemoryReactor."""
        return self._engine.random

    def _settle(self) -> None:
        """Go on until nothing more can happen without time passing."""
        with user_errors_raised():
            for _ in range(_MOST_EXCHANGES):
                self._simulation.settle()
                # Why a list: each of them has to have its turn.
                has_moved = [peer.exchange() for peer in self.peers]
                if True not in has_moved:
                    return
            raise RuntimeError(
                f"not at rest after {_MOST_EXCHANGES} exchanges of bytes: a producer without end? A peer can pauseReading()"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {len(self.connectors)} connectors, {len(self.ports)} ports>"


class MemoryReactorClock(MemoryReactor):
    """A MemoryReactor whose time the test moves, as that of a Clock."""

    @property
    def rightNow(self) -> float:
        """The time. Setting it moves the clock without making a call."""
        return self._world.now

    @rightNow.setter
    def rightNow(self, time: float) -> None:
        self._world.now = time

    @property
    def calls(self) -> list[DelayedCall]:
        """The same as `getDelayedCalls`."""
        return self.getDelayedCalls()

    def advance(self, amount: float) -> None:
        """Move the time, then let everything happen that is due: delayed calls, time-outs of connections.

        Args:   amount: seconds, 0 or more. The calls are made at the end of them, as by a reactor that was busy meanwhile.
        Raises: ValueError for a negative or not finite amount; the first of what calls raise, after all were made.
        """
        time = self._world.now + checked_delay(amount)
        due = self._engine._loop.next_deadline()
        # What connections have to do comes before time passes, so that time-outs count from when they were asked for. Why
        # not where a delayed call is due: it sees the time that was advanced to, as with Twisted's clock.
        if due is None or due > self._world.now:
            self._settle()
        self._world.jump(time)
        self._settle()

    def pump(self, timings: Iterable[float]) -> None:
        """`advance` by each of these in turn."""
        for amount in timings:
            self.advance(amount)
