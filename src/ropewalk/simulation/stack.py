"""The network stack of one host: its addresses, ports, listeners and connections.

The switchboard between sockets and the network: sockets ask it for ports and routes, packets that open a connection ask it
who listens. Everything a host has open in the network is found here, which is what makes a ledger possible.

It must never know descriptors, pollers or reactors. Source: ip(7) for the choice of the source address; ipv6(7) for
IPv4-mapped addresses; the order in which Linux looks for a listener: the exact address before the wildcard.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from ropewalk.simulation.addresses import family_of
from ropewalk.simulation.endpoint import Endpoint, Name
from ropewalk.simulation.faults import kernel_error
from ropewalk.simulation.handshake import Handshake
from ropewalk.simulation.listening import Listener
from ropewalk.simulation.network import Network, is_loopback
from ropewalk.simulation.patience import Patience
from ropewalk.simulation.ports import ANY_IPV4, ANY_IPV6, Binding, PortTable
from ropewalk.simulation.socket_options import SocketOptions

if TYPE_CHECKING:
    from ropewalk.simulation.host import Host

_WILDCARDS = (ANY_IPV4, ANY_IPV6)


class Stack:
    """One host's part of the network."""

    __slots__ = ("_connections", "_listeners", "_patience", "host", "is_up", "network", "ports", "world")

    def __init__(self, host: Host, network: Network) -> None:
        self.host = host
        self.network = network
        network.stacks.append(self)
        self.world = network.world
        self.ports = PortTable(network.world)
        self.is_up = True
        self._connections: dict[tuple[Name, Name], Endpoint] = {}
        self._listeners: dict[Name, list[Listener]] = {}
        self._patience = Patience(network.world)

    # ---- addresses --------------------------------------------------------------------------------------------

    def check_own(self, address: str) -> None:
        """Raises: OSError (EADDRNOTAVAIL) unless it is an address of this host, or a wildcard."""
        if address not in _WILDCARDS and self.network.owner(address, self.host) is not self.host:
            raise kernel_error(errno.EADDRNOTAVAIL)

    def source(self, remote: str) -> str:
        """The address from which this host talks to another.

        Raises: OSError (ENETUNREACH) if it has none of the family.
        """
        if is_loopback(remote):
            return "::1" if ":" in remote else "127.0.0.1"
        if self.network.owner(remote, self.host) is self.host:
            return remote
        family = family_of(remote)
        for address in self.host.addresses:
            if family_of(address) == family:
                return address
        raise kernel_error(errno.ENETUNREACH)

    # ---- listening --------------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Raises: OSError (EADDRINUSE) if somebody listens there already."""
        binding = listener.binding
        self.ports.check(binding)
        binding.is_listening = True
        self._listeners.setdefault((binding.address, binding.port), []).append(listener)

    def unlisten(self, listener: Listener) -> None:
        binding = listener.binding
        binding.is_listening = False
        name = (binding.address, binding.port)
        self._listeners[name].remove(listener)
        if not self._listeners[name]:
            del self._listeners[name]
        listener.close()

    def listener(self, name: Name) -> Listener | None:
        """Who listens to connections to that name."""
        address, port = name
        is_ipv4 = ":" not in address
        for candidate in (address, ANY_IPV4 if is_ipv4 else ANY_IPV6, ANY_IPV6):
            found = self._listeners.get((candidate, port))
            if not found:
                continue
            if is_ipv4 and candidate == ANY_IPV6:
                found = [each for each in found if not each.options.is_ipv6_only]
            if found:
                # Why chance: several share a port by SO_REUSEPORT, and the kernel spreads the connections.
                return found[0] if len(found) == 1 else self.world.random.choice(found)
        return None

    # ---- connections ------------------------------------------------------------------------------------------

    def connect(
        self, local: str | None, binding: Binding | None, remote: Name, options: SocketOptions
    ) -> Endpoint:
        """Start to open a connection.

        Args:   local: the address bound to; None for the one that fits.
                binding: the port held; None for an ephemeral one.
        Raises: OSError (ENETUNREACH, EADDRNOTAVAIL, EINVAL).
        """
        if remote[0] in _WILDCARDS:
            remote = ("::1" if ":" in remote[0] else "127.0.0.1", remote[1])
        address = local if local is not None and local not in _WILDCARDS else self.source(remote[0])
        if is_loopback(address) and self.network.owner(remote[0], self.host) is not self.host:
            raise kernel_error(errno.EINVAL)
        if binding is None:
            binding = self.ports.for_connect(address, options, self._is_taken(address, remote))
        elif ((address, binding.port), remote) in self._connections:
            raise kernel_error(errno.EADDRNOTAVAIL)
        binding.address = address
        client = Endpoint(self, (address, binding.port), remote, options)
        client.binding = binding
        self._connections[client.local, remote] = client
        Handshake(client).start()
        return client

    def _is_taken(self, address: str, remote: Name) -> Callable[[int], bool]:
        connections = self._connections
        return lambda port: ((address, port), remote) in connections

    def child(self, listener: Listener, client: Endpoint) -> Endpoint:
        """This host's end of a connection that a client opens."""
        options = listener.options.copy()
        child = Endpoint(self, client.remote, client.local, options)
        child.scope = client.scope
        child.binding = self.ports.share(*client.remote, options)
        self._connections[child.local, child.remote] = child
        child.answering(listener)
        child.meet(client)
        return child

    def connection(self, local: Name, remote: Name) -> Endpoint | None:
        return self._connections.get((local, remote))

    def connections(self) -> list[Endpoint]:
        """All ends here that the kernel still knows, those in TIME_WAIT included; the oldest first."""
        return list(self._connections.values())

    def forget(self, endpoint: Endpoint) -> None:
        """A connection is no more; its port is free again, unless a socket that is still open was bound to it."""
        key = (endpoint.local, endpoint.remote)
        if self._connections.get(key) is endpoint:
            del self._connections[key]
        self._patience.forget(endpoint)
        binding = endpoint.binding
        if binding is not None and not (binding.is_explicit and endpoint.owner is not None):
            endpoint.binding = None
            self.ports.release(binding)

    # ---- the machine ------------------------------------------------------------------------------------------

    def go_down(self, resets: bool) -> None:
        """Crash: whatever is open is gone, without a word, or with a reset to each peer."""
        peers = [each.peer for each in self._connections.values() if each.peer is not None]
        self.is_up = False
        for endpoint in list(self._connections.values()):
            endpoint.vanish()
        self._listeners.clear()
        self.ports.vanish()
        for peer in peers:
            if peer.stack is self:
                continue
            peer.stack.worry(peer)
            if resets and not self.network.path(self.host, peer.stack.host).is_cut:
                path = self.network.path(self.host, peer.stack.host)
                self.world.at(path.arrival(self.world, 0), peer.arrive_reset)

    def come_up(self) -> None:
        """It is up again, and knows nothing of what was: a peer's next keep-alive probe is answered with a reset."""
        self.is_up = True
        for stack in self.network.stacks:
            for endpoint in stack.connections():
                if endpoint.peer is not None and endpoint.peer.stack is self and endpoint.peer.is_over:
                    stack._patience.probe(endpoint)

    def worry(self, endpoint: Endpoint) -> None:
        """Nothing gets through to the peer of an endpoint: start its clocks, and let it ask for what it waits for."""
        self._patience.worry(endpoint)
        endpoint.unanswered()

    def next_number(self) -> int:
        return self.network.next_number()
