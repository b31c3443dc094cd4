"""What lies between hosts: who has which address, how long a packet takes, and where none gets through.

A `Path` is one direction between two hosts: latency, jitter, bandwidth, loss, and whether it is cut. A `Wire` is one
direction of one connection on a path: it keeps its packets in order, as TCP does for whoever reads, and does what TCP
does about loss: a packet that meets a cut path is sent again after 0.2 s, 0.4 s, … until the sender gives up.

So loss and reordering on the way show to the engine as what they are to any program above TCP: delay. It must never know
sockets; what a packet means is the business of the endpoint that gets it.

Sources: tcp(7), tcp_retries2: 15 retransmissions, 924.6 s in all at the least; RFC 6298 for the back-off; TCP_RTO_MIN
0.2 s and TCP_RTO_MAX 120 s in Linux, include/net/tcp.h.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from ropewalk.simulation.world import World

if TYPE_CHECKING:
    from ropewalk.simulation.host import Host
    from ropewalk.simulation.stack import Stack

# Seconds that a packet takes within one host, and between two. Source: a loopback round trip is some 40 µs, one in a data
# centre under 1 ms.
LOOPBACK_LATENCY = 20e-6
LATENCY = 500e-6
RETRANSMIT_FIRST = 0.2
RETRANSMIT_LONGEST = 120.0
RETRANSMISSIONS = 15

DATA, ACK, FIN, RST, OPEN = range(5)
"""Kinds of packets after the handshake; OPEN is the third step of it."""


class Path:
    """One direction between two hosts."""

    __slots__ = ("_free_at", "bandwidth", "is_cut", "jitter", "latency", "loss")

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.jitter = 0.0
        # Bytes per second; None for no limit.
        self.bandwidth: float | None = None
        # The share of packets that have to be sent again.
        self.loss = 0.0
        self.is_cut = False
        self._free_at = 0.0

    def arrival(self, world: World, size: int) -> float:
        """When a packet that is sent now arrives."""
        time = world.now
        if self.bandwidth is not None:
            time = self._free_at = max(time, self._free_at) + size / self.bandwidth
        time += self.latency
        if self.jitter:
            time += world.random.random() * self.jitter
        if self.loss and world.random.random() < self.loss:
            time += RETRANSMIT_FIRST
        return time


class Receiver(Protocol):
    """Where a wire ends, and where it begins."""

    def arrive(self, kind: int, payload: Any) -> None:
        """A packet has come."""

    def unheard(self) -> None:
        """What was sent was never acknowledged."""

    def unanswered(self) -> None:
        """What would have come, an acknowledgement or a reset, was lost on a path that is cut."""

    @property
    def is_reachable(self) -> bool:
        """Whether the host is up."""

    @property
    def is_over(self) -> bool:
        """Whether the connection is no more, and nothing of it is sent again."""


class Wire:
    """One direction of one connection: packets in order."""

    __slots__ = ("_armed", "_packets", "_path", "_receiver", "_retries", "_sender", "_world")

    def __init__(self, world: World, path: Path, sender: Receiver, receiver: Receiver) -> None:
        self._world = world
        self._path = path
        self._sender = sender
        self._receiver = receiver
        self._packets: deque[tuple[float, int, Any]] = deque()
        self._armed = False
        self._retries = 0

    @property
    def is_cut(self) -> bool:
        return self._path.is_cut or not self._receiver.is_reachable

    def carry(self, kind: int, payload: Any, size: int = 0) -> None:
        """Send a packet."""
        # hot: once per send and once per acknowledgement.
        arrival = self._path.arrival(self._world, size)
        packets = self._packets
        if packets and packets[-1][0] > arrival:
            arrival = packets[-1][0]
        packets.append((arrival, kind, payload))
        if not self._armed:
            self._arm(arrival)

    def insist(self) -> None:
        """Send again what has arrived but was never acknowledged, as an empty packet; unless more is on its way anyway."""
        if not any(kind in (DATA, FIN) for _, kind, _ in self._packets):
            self.carry(DATA, b"")

    def abandon(self) -> None:
        """The sender is off: what has left it arrives, what it would have sent again does not."""
        last = self._world.now + self._path.latency + self._path.jitter
        while self._packets and self._packets[-1][0] > last:
            self._packets.pop()

    def _arm(self, time: float, background: bool = False) -> None:
        self._armed = True
        self._world.at(time, self._deliver, background=background)

    def _deliver(self) -> None:
        self._armed = False
        packets = self._packets
        if self.is_cut:
            self._wait_for_heal()
            return
        self._retries = 0
        now = self._world.now
        while packets and packets[0][0] <= now:
            _, kind, payload = packets.popleft()
            self._receiver.arrive(kind, payload)
        if packets and not self._armed:
            self._arm(packets[0][0])

    def _wait_for_heal(self) -> None:
        packets = self._packets
        # Why only data and FIN: all else is sent once. Who waits for an answer sends again, and so gets it in the end.
        if any(kind in (ACK, RST) for _, kind, _ in packets):
            self._receiver.unanswered()
        while packets and packets[0][1] == RST:
            packets.popleft()
        if self._sender.is_over:
            packets.clear()
        if not packets:
            return
        is_urgent = any(kind in (DATA, FIN) for _, kind, _ in packets)
        if is_urgent and self._retries > RETRANSMISSIONS:
            packets.clear()
            self._sender.unheard()
            return
        delay = min(RETRANSMIT_FIRST * 2 ** min(self._retries, RETRANSMISSIONS), RETRANSMIT_LONGEST)
        self._retries += 1
        # Safe because: acknowledgements alone make nobody give up; they go on when the path does.
        self._arm(self._world.now + delay, background=not is_urgent)


class Route:
    """How an address answers those who want to connect to it."""

    __slots__ = ("delay", "error", "is_held", "is_lost")

    def __init__(
        self, delay: float = 0.0, error: int = 0, is_lost: bool = False, is_held: bool = False
    ) -> None:
        self.delay = delay
        self.error = error
        self.is_lost = is_lost
        # Nothing answers and nobody gives up: the SYN waits for whoever calls `Handshake.reach` or `fail`.
        self.is_held = is_held


class Network:
    """All hosts, and the paths between them."""

    __slots__ = ("_owners", "_paths", "_routes", "latency", "next_number", "other_routes", "stacks", "world")

    def __init__(self, world: World) -> None:
        self.world = world
        self._owners: dict[str, Host] = {}
        # Of all hosts, the oldest first.
        self.stacks: list[Stack] = []
        self._paths: dict[tuple[Host, Host], Path] = {}
        self._routes: dict[str, Route] = {}
        # Seconds between two hosts, and the route to an address, of which nothing else was said.
        self.latency = LATENCY
        self.other_routes = Route()
        # Gives each end of a connection its number, in the order in which they came to be.
        self.next_number: Callable[[], int] = count(1).__next__

    def claim(self, address: str, host: Host) -> None:
        owner = self._owners.setdefault(address, host)
        if owner is not host:
            raise ValueError(f"{address} belongs to host {owner.name!r} already")

    def owner(self, address: str, asking: Host) -> Host | None:
        """Whose address it is; everybody's own, if it is of the loopback network."""
        return asking if is_loopback(address) else self._owners.get(address)

    def path(self, source: Host, target: Host) -> Path:
        path = self._paths.get((source, target))
        if path is None:
            latency = LOOPBACK_LATENCY if source is target else self.latency
            path = self._paths[source, target] = Path(latency)
        return path

    def paths_between(self, one: Host, other: Host) -> tuple[Path, Path]:
        return self.path(one, other), self.path(other, one)

    def set_route(self, address: str, route: Route) -> None:
        self._routes[address] = route

    def route(self, address: str) -> Route:
        return self._routes.get(address, self.other_routes)


def is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")
