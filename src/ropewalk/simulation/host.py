"""A simulated host: a machine with addresses, a kernel, and one program: a real Reactor.

The reactor is the engine's own class over this host's `SimulatedSystem`, made when it is first asked for. The host gives
it turns while the simulation runs; or somebody calls `host.reactor.run()`, and then the reactor's own waiting moves the
world. Both ways may be mixed: other hosts get their turns either way.

It must never know what a turn does. The kernel's parts are plain attributes, for tests that look closely: `faults`,
`descriptors`, `stack`, `pollers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ropewalk.simulation.addresses import canonical
from ropewalk.simulation.descriptors import DescriptorTable
from ropewalk.simulation.faults import Faults
from ropewalk.simulation.ledger import Ledger, read
from ropewalk.simulation.names import Directory
from ropewalk.simulation.network import Network, is_loopback
from ropewalk.simulation.stack import Stack
from ropewalk.simulation.system import SimulatedSystem
from ropewalk.simulation.world import World

if TYPE_CHECKING:
    from ropewalk.engine import Reactor
    from ropewalk.simulation.driver import Driver
    from ropewalk.simulation.simulated_poller import SimulatedPoller


class Host:
    """One machine of the simulated world; made by `Simulation.host`."""

    def __init__(
        self,
        name: str,
        number: int,
        addresses: list[str],
        network: Network,
        directory: Directory,
        driver: Driver,
    ) -> None:
        self.name = name
        self.number = number
        self.world: World = network.world
        self.directory = directory
        self.faults = Faults(network.world)
        self.descriptors = DescriptorTable()
        self.pollers: list[SimulatedPoller] = []
        self.misdeeds: list[str] = []
        self.addresses = [_own_address(address) for address in addresses]
        for address in self.addresses:
            network.claim(address, self)
        self.stack = Stack(self, network)
        self.system = SimulatedSystem(self)
        self._driver = driver
        self._reactor: Reactor | None = None
        self._was_started = False
        # How often this host is under way: in a turn of its own, or waiting in one. It is not given another meanwhile.
        self._depth = 0

    # ---- the program ------------------------------------------------------------------------------------------

    @property
    def reactor(self) -> Reactor:
        """This host's reactor, made at first use; it is started when the world first moves."""
        if self._reactor is None:
            from ropewalk.engine import Reactor

            self._reactor = Reactor(system=self.system)
        return self._reactor

    def start(self) -> None:
        """Start the reactor, after it was stopped, or before the world moves."""
        self._was_started = True
        if not self.reactor.running:
            self.reactor.startRunning()

    def close(self) -> None:
        """Close the reactor, if there is one: its connections are told, its descriptors given back."""
        # Why: one that was never started must not be started now, when the world moves on.
        self._was_started = True
        if self._reactor is not None:
            self._reactor.close()

    def ledger(self) -> Ledger:
        """Everything that is open on this host."""
        return read(self)

    @property
    def descriptorLimit(self) -> int:
        """How many descriptors its program may have open; beyond is EMFILE."""
        return self.descriptors.limit

    @descriptorLimit.setter
    def descriptorLimit(self, limit: int) -> None:
        self.descriptors.limit = limit

    @property
    def ephemeralPorts(self) -> range:
        """From which ports connections go out."""
        return self.stack.ports.ephemeral

    @ephemeralPorts.setter
    def ephemeralPorts(self, ports: range) -> None:
        if not ports:
            raise ValueError("a host needs one ephemeral port at least")
        self.stack.ports.ephemeral = ports

    def nextEphemeralPorts(self, *ports: int) -> None:
        """Let these be tried first, once each, when a port is chosen: how a connection to oneself is provoked."""
        self.stack.ports.next_ephemeral.extend(ports)

    # ---- for the driver and the poller ------------------------------------------------------------------------

    def delayed_calls(self) -> list[Any]:
        return [] if self._reactor is None else self._reactor.getDelayedCalls()

    def is_idle(self) -> bool:
        """Whether it cannot be given a turn, or a turn would find nothing to do."""
        # hot: asked of every host at every step.
        reactor = self._reactor
        if reactor is None or self._depth or not self._is_running(reactor):
            return True
        loop = reactor._loop
        if loop.has_work():
            return False
        deadline = loop.next_deadline()
        if deadline is not None and deadline <= self.world.now:
            return False
        return not any(poller.is_ready() for poller in self.pollers)

    def next_deadline(self) -> float | None:
        """When its next timer is due; None if it has none, or cannot be given a turn."""
        reactor = self._reactor
        if reactor is None or self._depth or not self._is_running(reactor):
            return None
        return reactor._loop.next_deadline()

    def turn(self) -> None:
        """One turn of its loop, without waiting."""
        self._depth += 1
        try:
            self.reactor.iterate(0)
        finally:
            self._depth -= 1

    def wait(self, poller: SimulatedPoller, timeout: float | None) -> None:
        """Let the world go on until a descriptor is ready or the timeout is over."""
        self._depth += 1
        try:
            self._driver.wait(self, poller, timeout)
        finally:
            self._depth -= 1

    @property
    def is_in_turn(self) -> bool:
        return self._depth > 0

    def _is_running(self, reactor: Reactor) -> bool:
        if not self._was_started:
            self.start()
        return reactor.running

    def __repr__(self) -> str:
        return f"<Host {self.name} {', '.join(self.addresses)}>"


def _own_address(text: str) -> str:
    address = canonical(text)
    if address is None:
        raise ValueError(f"a host has IPv4 and IPv6 addresses, not {text!r}")
    if is_loopback(address):
        raise ValueError(f"every host has the loopback addresses by itself, {text!r} need not be given")
    return address
