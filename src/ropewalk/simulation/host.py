"""A simulated host: a machine with addresses, a kernel, and one program: a real Reactor.

The reactor is the engine's own class over this host's `SimulatedSystem`, made when it is first asked for. The host gives
it turns while the simulation runs; or somebody calls `host.reactor.run()`, and then the reactor's own waiting moves the
world. Both ways may be mixed: other hosts get their turns either way.

A program that is to survive its machine is given to `onStart`: it is called with the reactor now, and again after each
`restart`. Between lies a `crash` (the power is off: peers hear nothing, or a reset) or a `kill` (the kernel closes what the
process had). The reactor of before is no more then; nothing of it is called back.

It must never know what a turn does. The kernel's parts are plain attributes, for tests that look closely: `faults`,
`descriptors`, `stack`, `pollers`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ropewalk.simulation.addresses import canonical
from ropewalk.simulation.descriptors import DescriptorTable
from ropewalk.simulation.faults import Faults
from ropewalk.simulation.ledger import Ledger, read
from ropewalk.simulation.names import Directory
from ropewalk.simulation.network import Network, is_loopback
from ropewalk.simulation.simulated_poller import SimulatedPoller
from ropewalk.simulation.stack import Stack
from ropewalk.simulation.system import SimulatedSystem
from ropewalk.simulation.world import START, SimulationError, World

if TYPE_CHECKING:
    from ropewalk.engine import Reactor
    from ropewalk.simulation.driver import Driver

# What a host's wall clock shows when the world begins, in seconds since 1970: 2026-01-01T00:00:00Z.
_WALL_START = 1_767_225_600.0

Program = Callable[["Reactor"], object]


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
        observe: Callable[[Host], Callable[[Any], object]] | None = None,
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
        self._observe = observe
        self._programs: list[Program] = []
        # How often its program has ended by a crash or a kill.
        self.boots = 0
        self.isDown = False
        self.isPaused = False
        self._clock_offset = 0.0
        # How often this host is under way: in a turn of its own, or waiting in one. It is not given another meanwhile.
        self._depth = 0

    # ---- the program ------------------------------------------------------------------------------------------

    @property
    def reactor(self) -> Reactor:
        """This host's reactor, made at first use; it is started when the world first moves."""
        if self._reactor is None:
            if self.isDown:
                raise SimulationError(f"host {self.name!r} is down; restart() comes first")
            from ropewalk.engine import Reactor

            self._reactor = Reactor(system=self.system)
            if self._observe is not None:
                self._reactor.observers.append(self._observe(self))
        return self._reactor

    def start(self) -> None:
        """Start the reactor, after it was stopped, or before the world moves."""
        self._was_started = True
        if not self.reactor.running:
            self.reactor.startRunning()

    def onStart(self, program: Program) -> Program:
        """Let the host run a program: called with its reactor now, and again after each `restart`.

        Returns: the program, so that this can be a decorator.
        Raises:  TypeError for what cannot be called so; whatever the program raises.
        """
        if not callable(program) or inspect.iscoroutinefunction(program):
            raise TypeError(f"a program is a plain function of the reactor, not {program!r}")
        self._programs.append(program)
        if not self.isDown:
            program(self.reactor)
        return program

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
    def comesBack(self) -> bool:
        """Whether it has a program that `restart` would start again."""
        return bool(self._programs)

    # ---- what becomes of the machine --------------------------------------------------------------------------

    def crash(self, resets: bool = False) -> None:
        """The power goes off: its program and its kernel forget everything, and no packet leaves any more.

        Args:   resets: whether each peer gets an RST, as from a machine that stands before it; else they hear nothing, until
                they send something, or their keep-alive does, after `restart`.
        Raises: SimulationError if it is down already, or in the middle of a turn of its own.
        """
        self._check_may_fall("crash")
        self.world.record(self.number, "crash", int(resets))
        self.stack.go_down(resets)
        self.descriptors.vanish()
        self.pollers.clear()
        self._end_program("has crashed")

    def kill(self) -> None:
        """The program is killed, as by SIGKILL; the kernel closes what it had: peers get a FIN, or an RST where data was
        left unread.

        Raises: as `crash`.
        """
        self._check_may_fall("kill")
        self.world.record(self.number, "kill")
        # Why pollers first: what is closed while a poller has it would be held against the program.
        files = list(self.descriptors.files.values())
        for file in sorted(files, key=lambda each: not isinstance(each, SimulatedPoller)):
            file.close()
        self._end_program("was killed")

    def restart(self) -> None:
        """Start the machine, and its programs, after a crash or a kill.

        Raises: SimulationError if it is not down; whatever a program of `onStart` raises.
        """
        if not self.isDown:
            raise SimulationError(f"host {self.name!r} is not down, it cannot be restarted")
        self.world.record(self.number, "restart")
        self.isDown = False
        self.stack.come_up()
        for program in list(self._programs):
            if not self.isDown:  # Why asked: the one before may have felled it.
                program(self.reactor)

    def pause(self) -> None:
        """Give its program no time, until `resume`, as by SIGSTOP. The kernel goes on: data is taken in until buffers are full.

        Raises: SimulationError if it is down, or in the middle of a turn of its own.
        """
        self._check_may_fall("pause")
        self.isPaused = True

    def resume(self) -> None:
        """Let a paused program go on; timers that became due meanwhile are late."""
        self.isPaused = False

    def _check_may_fall(self, how: str) -> None:
        if self.isDown:
            raise SimulationError(f"{how}: host {self.name!r} is down already")
        self._check_not_in_turn(how)

    def _check_not_in_turn(self, how: str) -> None:
        if self._depth:
            raise SimulationError(
                f"{how}: host {self.name!r} is in the middle of its own turn; use sim.at(sim.now, host.{how}), "
                "and let sim.run move the world, not its reactor.run"
            )

    def _end_program(self, how: str) -> None:
        self.boots += 1
        self.isDown = True
        self.isPaused = self._was_started = False
        reactor, self._reactor = self._reactor, None
        if reactor is not None:
            reactor._loop.disown(
                f"host {self.name!r} {how}: this reactor is no more, and host.reactor is a new one after restart()"
            )

    # ---- its wall clock ---------------------------------------------------------------------------------------

    @property
    def wallClock(self) -> float:
        """Seconds since 1970 as this host believes, for programs that would ask time.time(); the engine never does."""
        return _WALL_START + self.world.now - START + self._clock_offset

    def stepWallClock(self, seconds: float) -> None:
        """Set the wall clock forward, or back; nothing that the engine does may depend on it (FAULTS E2)."""
        self._clock_offset += seconds

    # ---- the kernel's limits ----------------------------------------------------------------------------------

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
        # hot: asked of every host at every step; so what is most often the answer comes first.
        reactor = self._reactor
        if reactor is None or self._depth or self.isPaused:
            return True
        if not self._was_started:
            self.start()
        loop = reactor._loop
        for poller in self.pollers:
            if poller.is_ready():
                return not reactor.running
        if loop.has_work():
            return not reactor.running
        deadline = loop.next_deadline()
        return deadline is None or deadline > self.world.now or not reactor.running

    def next_deadline(self) -> float | None:
        """When its next timer is due; None if it has none, or cannot be given a turn."""
        reactor = self._reactor
        if reactor is None or self._depth or self.isPaused:
            return None
        if not self._was_started:
            self.start()
        deadline = reactor._loop.next_deadline()
        return deadline if deadline is not None and reactor.running else None

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

    def may_turn(self) -> bool:
        """Whether there is a program that can be given a turn now."""
        return self._reactor is not None and not self._depth and not self.isPaused

    @property
    def is_in_turn(self) -> bool:
        return self._depth > 0

    def __repr__(self) -> str:
        return f"<Host {self.name} {', '.join(self.addresses)}>"


def _own_address(text: str) -> str:
    address = canonical(text)
    if address is None:
        raise ValueError(f"a host has IPv4 and IPv6 addresses, not {text!r}")
    if is_loopback(address):
        raise ValueError(f"every host has the loopback addresses by itself, {text!r} need not be given")
    return address
