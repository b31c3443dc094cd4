"""What makes the simulated world go: turns for hosts that have something to do, jumps of time when none has.

One round: everything that is due happens, then each host with something to do gets one turn of its loop, in an order drawn
from the seed. When all are idle, time jumps to the next happening or timer, whichever comes first, and there is another
round. That is all there is; `Simulation.run` repeats it, and so does a reactor that waits in its own `run`.

A host is never entered twice: one that waits, or is in a turn, is left alone until it has returned.

Two ways to get stuck are told instead of hanging: nothing can happen any more though somebody waits (deadlock), and time
stands still though turn follows turn (spin: something is ready on which nobody acts, FAULTS I12, J7).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ropewalk.simulation.world import SimulationDeadlock, SimulationSpin, World

if TYPE_CHECKING:
    from ropewalk.simulation.host import Host
    from ropewalk.simulation.simulated_poller import SimulatedPoller

# Rounds at one instant that are taken for a spin. Why so many: a chain of callLater(0) takes one round each, and some
# programs have long ones.
SPIN_LIMIT = 200_000


class Driver:
    """Moves one world and its hosts."""

    __slots__ = ("_moment", "_still", "_world", "hosts", "spin_limit", "turns")

    def __init__(self, world: World) -> None:
        self._world = world
        self.hosts: list[Host] = []
        self.spin_limit = SPIN_LIMIT
        self.turns = 0
        self._moment = world.now
        self._still = 0

    def run(self, latest: float | None, is_done: Callable[[], bool] | None) -> bool:
        """Go on until `latest`, or until `is_done`, or until the world is idle; whether it is idle."""
        while is_done is None or not is_done():
            if self._round():
                continue
            if not self._jump(latest):
                return True
        return False

    def wait(self, host: Host, poller: SimulatedPoller, timeout: float | None) -> None:
        """Go on until a poller has something for its host, `timeout` seconds at most.

        Raises: SimulationDeadlock if it would be for ever.
        """
        world = self._world
        deadline = None if timeout is None else world.now + timeout
        self._round()
        while not poller.is_ready() and (deadline is None or world.now < deadline):
            if self._round() or self._jump(deadline):
                continue
            if deadline is None:
                raise SimulationDeadlock(
                    f"{host.name} waits for ever: no timer, packet or look-up is under way\n{host.ledger()}"
                )
            world.jump(deadline)

    def _round(self) -> bool:
        """Whether anything was done at this instant."""
        world = self._world
        happened = world.happen()
        busy = [host for host in self.hosts if not host.is_idle()]
        if len(busy) > 1:
            world.random.shuffle(busy)
        for host in busy:
            # Why asked again: a turn of another host may have entered this one, stopped its reactor, paused or felled it.
            if host.may_turn():
                self.turns += 1
                host.turn()
        if not busy and not happened:
            return False
        self._count_still()
        return True

    def _jump(self, latest: float | None) -> bool:
        """Move time to the next thing, `latest` at most; whether there was one."""
        time = self.next_time()
        if time is None or (latest is not None and time > latest):
            return False
        self._world.jump(time)
        return True

    def next_time(self) -> float | None:
        """When the next thing happens, a timer or anything else; None if the world is idle."""
        earliest = self._world.next_time()
        for host in self.hosts:
            deadline = host.next_deadline()
            if deadline is not None and (earliest is None or deadline < earliest):
                earliest = deadline
        return earliest

    def begin_again(self) -> None:
        """Somebody outside acts: how often time stood still so far says nothing about what follows."""
        self._still = 0

    def _count_still(self) -> None:
        if self._world.now != self._moment:
            self._moment = self._world.now
            self._still = 0
            return
        self._still += 1
        if self._still > self.spin_limit:
            self._still = 0
            ledgers = "\n".join(str(host.ledger()) for host in self.hosts)
            raise SimulationSpin(
                f"{self.spin_limit} rounds at {self._moment:.6f} and time does not move\n{ledgers}"
            )
