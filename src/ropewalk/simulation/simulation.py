"""Simulation: the front desk of the simulated world.

    sim = Simulation(seed=7)
    server, client = sim.host("server"), sim.host("client")
    sim.latency("server", "client", 0.040)
    server.reactor.listenTCP(7, EchoFactory())
    client.reactor.connectTCP("server", 7, factory)
    sim.runUntilIdle()

Here are hosts, names, the network between hosts, and the clock; there is no logic. What happens in it depends on the seed
and on nothing else: the same program with the same seed leaves the same trace, on any machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from ropewalk.simulation.driver import Driver
from ropewalk.simulation.endpoint import Endpoint
from ropewalk.simulation.host import Host
from ropewalk.simulation.names import Directory, Record
from ropewalk.simulation.network import Network, Path, Route
from ropewalk.simulation.storm import Storm
from ropewalk.simulation.tcp_states import OVER, TcpState
from ropewalk.simulation.world import SimulationDeadlock, SimulationError, World

# Virtual seconds that `run` goes on at most unless told otherwise. Why a limit: a program that calls itself again and
# again never comes to rest, and a test should say so instead of running on. Value: a little more than a day.
_LIMIT = 100_000.0
_MOST_HOSTS = 65_000
# Why a second name: the parameter of `at` is called so, as in callLater.
callable_ = callable


class Simulation:
    """A world of hosts in virtual time.

    Args:   seed: a number or a text; all that is left to chance is drawn from it.
            keepTrace: keep the rows of the trace, for `trace()`; the digest is there always.
            observe: gives each host's reactor an observer (`Reactor.observers`) when the reactor is made.
    """

    def __init__(
        self,
        seed: int | str = 0,
        keepTrace: bool = False,
        observe: Callable[[Host], Callable[[Any], object]] | None = None,
    ) -> None:
        self.seed = seed
        # For programs and tests that want to leave something to chance: draw from here, and the seed decides.
        self.random = random.Random(f"program {seed}")
        self._observe = observe
        # Those there were, and those there are.
        self.storms: list[Storm] = []
        self._world = World(seed, keepTrace)
        self._network = Network(self._world)
        self._directory = Directory(self._world)
        self._driver = Driver(self._world)
        self._hosts: dict[str, Host] = {}

    # ---- hosts and names --------------------------------------------------------------------------------------

    def host(self, name: str = "host", addresses: Iterable[str] | None = None) -> Host:
        """The host of that name; made, with these addresses, if there is none yet.

        Args:   addresses: IPv4 and IPv6; None for one of each that nobody else has. Every host has the loopback
                addresses besides, and its name can be looked up.
        Raises: ValueError for an address that another host has, or addresses for a host that is there already.
        """
        found = self._hosts.get(name)
        if found is not None:
            if addresses is not None:
                raise ValueError(f"host {name!r} is there already, with {', '.join(found.addresses)}")
            return found
        number = len(self._hosts) + 1
        if number > _MOST_HOSTS:
            raise ValueError(f"a simulation has {_MOST_HOSTS} hosts at most")
        if addresses is None:
            addresses = [f"10.0.{number >> 8}.{number & 255}", f"fd00::{number:x}"]
        made = (self._network, self._directory, self._driver, self._observe)
        host = Host(name, number, list(addresses), *made)
        self._hosts[name] = host
        self._driver.hosts.append(host)
        self._directory.write(name, Record(host.addresses))
        return host

    @property
    def hosts(self) -> list[Host]:
        """All hosts, the oldest first."""
        return list(self._hosts.values())

    def name(
        self,
        name: str,
        addresses: Iterable[str] = (),
        delay: float = 0.001,
        error: int | BaseException | None = None,
        never: bool = False,
    ) -> None:
        """Say what the look-up of a name answers, from now on.

        Args:   addresses: in the order in which they are given; of none, there is none (EAI_NODATA).
                delay: seconds until the answer.
                error: an error of getaddrinfo (socket.EAI_NONAME …), or an exception, instead of addresses.
                never: no answer ever comes.
        """
        self._directory.write(name, Record(addresses, delay, error, never))

    def service(self, name: str, port: int) -> None:
        """Give a service name its port; some well-known ones are there."""
        self._directory.services[name] = port

    # ---- the network ------------------------------------------------------------------------------------------

    def latency(self, one: str | Host, other: str | Host, seconds: float, jitter: float = 0.0) -> None:
        """How long a packet takes between two hosts, each way; `jitter` is the most that chance adds."""
        _check_seconds("latency", seconds)
        _check_seconds("jitter", jitter)
        for path in self._paths(one, other):
            path.latency = seconds
            path.jitter = jitter

    def bandwidth(self, one: str | Host, other: str | Host, bytesPerSecond: float | None) -> None:
        """How much gets through between two hosts, each way; None for no limit."""
        if bytesPerSecond is not None and not 0 < bytesPerSecond < float("inf"):
            raise ValueError(
                f"bandwidth must be a number of bytes per second above 0, not {bytesPerSecond!r}"
            )
        for path in self._paths(one, other):
            path.bandwidth = bytesPerSecond

    def loss(self, one: str | Host, other: str | Host, chance: float) -> None:
        """Which share of the packets has to be sent again, each way; what programs see of it is delay."""
        if not 0 <= chance <= 1:
            raise ValueError(f"loss is a share from 0 to 1, not {chance!r}")
        for path in self._paths(one, other):
            path.loss = chance

    def partition(self, one: str | Host, other: str | Host) -> None:
        """Let nothing through between two hosts, until `heal`."""
        for path in self._paths(one, other):
            path.is_cut = True
        for host in (self._known(one), self._known(other)):
            for endpoint in host.stack.connections():
                if endpoint.wire is not None and endpoint.wire.is_cut:
                    host.stack.worry(endpoint)

    def heal(self, one: str | Host, other: str | Host) -> None:
        """Undo `partition`. What waits to be sent again goes out when its next retransmission is due."""
        for path in self._paths(one, other):
            path.is_cut = False

    def route(self, address: str, delay: float = 0.0, error: int = 0, lost: bool = False) -> None:
        """Say how an address answers those who want to connect to it, from now on.

        Args:   delay: seconds that the SYN takes longer than the path; or until the error.
                error: an errno: ECONNREFUSED, EHOSTUNREACH, …
                lost: a black hole; ETIMEDOUT after 127 s.
        """
        self._network.set_route(address, Route(delay, error, lost))

    def path(self, one: str | Host, other: str | Host) -> Path:
        """The way of packets from one host to another: its latency, jitter, bandwidth and loss, to be read and set."""
        return self._paths(one, other)[0]

    def isPartitioned(self, one: str | Host, other: str | Host) -> bool:
        """Whether `partition` holds between two hosts."""
        return self.path(one, other).is_cut

    @property
    def names(self) -> Directory:
        """What all names answer."""
        return self._directory

    def reset(self, connection: Any) -> None:
        """Reset a connection from outside, as a broken middlebox does: both ends get an RST now.

        Args:   connection: a transport, a simulated socket, or one of `connections()`.
        """
        endpoint = _endpoint_of(connection)
        for end in (endpoint, endpoint.peer):
            if end is not None and end.state not in OVER:
                end.arrive_reset()

    def storm(self, seconds: float, **how: Any) -> Storm:
        """Let misfortunes drawn from the seed strike from now on, for so many seconds, and undo them all at the end.

        Args:    how: as for `Storm`: which kinds, how often.
        Returns: the Storm, whose `log` tells what has happened.
        """
        storm = Storm(self, seconds, **how)
        self.storms.append(storm)
        return storm

    def connections(self) -> list[Endpoint]:
        """The connecting ends of all connections, established and not over; the oldest first."""
        found = []
        for host in self._hosts.values():
            for each in host.stack.connections():
                if each.listener is None and each.state not in OVER and each.state is not TcpState.SYN_SENT:
                    found.append(each)
        return sorted(found, key=lambda each: each.number)

    def _paths(self, one: str | Host, other: str | Host) -> tuple[Path, Path]:
        return self._network.paths_between(self._known(one), self._known(other))

    def _known(self, host: str | Host) -> Host:
        if isinstance(host, Host):
            return host
        try:
            return self._hosts[host]
        except KeyError:
            raise ValueError(f"no host {host!r}; there are: {', '.join(self._hosts)}") from None

    # ---- time -------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual seconds, as every reactor here sees them; it starts at 1000."""
        return self._world.now

    def at(self, time: float, callable: Callable[..., object], *args: Any) -> None:
        """Let something happen in the world at a time, outside any reactor: a partition, a reset.

        Raises: ValueError for a time that is no number; TypeError for what cannot be called.
        """
        if time != time:
            raise ValueError(f"time must be a number, not {time!r}")
        if not callable_(callable):
            raise TypeError(f"what is to happen must be callable, not {callable!r}")
        self._world.at(time, callable, *args)

    def run(self, until: float | Callable[[], bool] | None = None, limit: float = _LIMIT) -> None:
        """Go on.

        Args:   until: a time of `now`, and then it is exactly that time; or a callable that says when it is enough;
                or None, until nothing is left to happen.
                limit: virtual seconds after which it is too much.
        Raises: SimulationDeadlock if nothing is left to happen and `until()` is still false; SimulationError beyond
                the limit; SimulationSpin if time stands still; SystemExit and KeyboardInterrupt of callbacks.
        """
        world = self._world
        _check_seconds("limit", limit)
        if until is not None and not callable(until):
            if not world.now <= until < float("inf"):
                raise ValueError(f"until must be a time from now on, {world.now} or later, not {until!r}")
            self._driver.run(until, None)
            world.jump(until)
            self._driver.run(until, None)
            return
        last = world.now + limit
        is_idle = self._driver.run(last, until)
        if is_idle and self._driver.next_time() is not None:
            raise SimulationError(f"not at rest after {limit} virtual seconds\n{self._shown()}")
        if is_idle and until is not None:
            raise SimulationDeadlock(
                f"nothing is left to happen, and it is not yet {until!r}\n{self._shown()}"
            )

    def runUntilIdle(self, limit: float = _LIMIT) -> None:
        """Go on until nothing is left to happen: no packet, no timer, no look-up. Raises: as `run`."""
        self.run(None, limit)

    def advance(self, seconds: float) -> None:
        """Go on for so many virtual seconds."""
        self.run(self._world.now + seconds)

    def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        self._driver.begin_again()
        self._driver.run(self._world.now, None)

    @property
    def turns(self) -> int:
        """How many turns of loops there were."""
        return self._driver.turns

    # ---- what is there, and what was --------------------------------------------------------------------------

    def leftovers(self) -> list[str]:
        """What is open though everything should be closed: descriptors, timers, misdeeds; a line each."""
        return [line for host in self._hosts.values() for line in host.ledger().leftovers()]

    def checkAtRest(self) -> None:
        """Raises: AssertionError listing what is left, if anything is."""
        left = self.leftovers()
        if left:
            raise AssertionError(f"seed {self.seed!r}: left at rest:\n" + "\n".join(left))

    def close(self) -> None:
        """Close every reactor: connections are told, descriptors given back."""
        for host in self._hosts.values():
            host.close()

    def traceHash(self) -> str:
        """What everything that happened so far comes to: the same for the same seed."""
        return self._world.digest()

    def trace(self) -> list[tuple[object, ...]]:
        """What happened: (time, host's number, call, …), if it was kept."""
        return self._world.rows()

    def _shown(self) -> str:
        return "\n".join(str(host.ledger()) for host in self._hosts.values())


def _check_seconds(name: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a number of seconds, 0 or more, not {value!r}")


def _endpoint_of(connection: Any) -> Endpoint:
    if isinstance(connection, Endpoint):
        return connection
    handle = getattr(connection, "getHandle", None)
    endpoint = getattr(connection if handle is None else handle(), "endpoint", None)
    if not isinstance(endpoint, Endpoint):
        raise TypeError(
            f"neither a transport nor a socket of the simulation, or not connected: {connection!r}"
        )
    return endpoint
