"""Who holds which port of a host: EADDRINUSE, ephemeral ports, and running out of them.

A binding is one hold on one port. A listener has one, each connection has one (an accepted one shares its listener's
number), and a connection in TIME_WAIT keeps its own for a minute. Whether a new binding may stand beside the old ones is
one function, `_excludes`, and it is Linux's rule.

It must never know what is done on a port. Source: Linux net/ipv4/inet_connection_sock.c, inet_csk_bind_conflict and
inet_csk_get_port; net/ipv4/inet_hashtables.c, __inet_hash_connect; ip(7), ip_local_port_range and IP_BIND_ADDRESS_NO_PORT.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterator

from ropewalk.simulation.faults import kernel_error
from ropewalk.simulation.socket_options import SocketOptions
from ropewalk.simulation.world import World

# Source: ip(7), ip_local_port_range.
EPHEMERAL = range(32768, 61000)

ANY_IPV4, ANY_IPV6 = "0.0.0.0", "::"


class Binding:
    """One hold on a port."""

    __slots__ = ("address", "by_connect", "is_explicit", "is_listening", "options", "port")

    def __init__(self, address: str, port: int, options: SocketOptions, by_connect: bool = False) -> None:
        self.address = address
        self.port = port
        self.options = options
        self.by_connect = by_connect
        # Held by bind(2): until the socket is closed, whatever becomes of its connection.
        self.is_explicit = False
        self.is_listening = False


class PortTable:
    """All bindings of one host."""

    __slots__ = ("_bound", "_world", "ephemeral", "next_ephemeral")

    def __init__(self, world: World) -> None:
        self._world = world
        self._bound: dict[int, dict[Binding, None]] = {}
        self.ephemeral = EPHEMERAL
        # Ports that are given next, before chance decides: how a test provokes a connection to itself.
        self.next_ephemeral: deque[int] = deque()

    def bind(self, address: str, port: int, options: SocketOptions) -> Binding:
        """Hold a port; 0 for any that is free.

        Raises: OSError (EADDRINUSE).
        """
        if port == 0:
            for candidate in self._candidates():
                if candidate not in self._bound:
                    port = candidate
                    break
            else:
                raise kernel_error(errno.EADDRINUSE)
        binding = Binding(address, port, options)
        self.check(binding)
        binding.is_explicit = True
        return self._hold(binding)

    def check(self, binding: Binding) -> None:
        """Raises: OSError (EADDRINUSE) if another binding excludes this one; asked again when it starts to listen."""
        for other in self._bound.get(binding.port, ()):
            if other is not binding and _excludes(other, binding):
                raise kernel_error(errno.EADDRINUSE)

    def share(self, address: str, port: int, options: SocketOptions) -> Binding:
        """Hold a port beside whoever holds it: an accepted connection beside its listener."""
        return self._hold(Binding(address, port, options))

    def for_connect(self, address: str, options: SocketOptions, is_taken: Callable[[int], bool]) -> Binding:
        """Hold an ephemeral port for a connection; several to different peers may share one.

        Args:   is_taken: whether the connection exists already, from this port to the peer in question.
        Raises: OSError (EADDRNOTAVAIL) if all are used up.
        """
        for candidate in self._candidates():
            holders = self._bound.get(candidate, ())
            if all(each.by_connect for each in holders) and not is_taken(candidate):
                return self._hold(Binding(address, candidate, options, by_connect=True))
        raise kernel_error(errno.EADDRNOTAVAIL)

    def release(self, binding: Binding) -> None:
        holders = self._bound[binding.port]
        del holders[binding]
        if not holders:
            del self._bound[binding.port]

    def vanish(self) -> None:
        """The machine has crashed: nobody holds anything."""
        self._bound.clear()

    def holders(self) -> list[Binding]:
        return [binding for bucket in self._bound.values() for binding in bucket]

    def _hold(self, binding: Binding) -> Binding:
        self._bound.setdefault(binding.port, {})[binding] = None
        return binding

    def _candidates(self) -> Iterator[int]:
        while self.next_ephemeral:
            yield self.next_ephemeral.popleft()
        ports = self.ephemeral
        start = self._world.random.randrange(len(ports))
        for index in range(len(ports)):
            yield ports[(start + index) % len(ports)]


def _excludes(old: Binding, new: Binding) -> bool:
    """Whether two holds on one port cannot be at once."""
    if not _overlap(old, new):
        return False
    if old.options.reuses_port and new.options.reuses_port:
        return False
    return old.is_listening or not (old.options.reuses_address and new.options.reuses_address)


def _overlap(one: Binding, other: Binding) -> bool:
    if one.address == other.address:
        return True
    return _covers(one, other.address) or _covers(other, one.address)


def _covers(binding: Binding, address: str) -> bool:
    if binding.address == ANY_IPV6:
        return ":" in address or not binding.options.is_ipv6_only
    return binding.address == ANY_IPV4 and ":" not in address
