"""How a simulated connection is opened: SYN, SYN-ACK, and everything that can happen to them on the way.

A SYN is sent again after 1 s, 2 s, 4 s … until somebody answers or the seventh has stayed without an answer: then it is
ETIMEDOUT, 127 s after the first. What the answer is depends on the address: a route that was laid for it (slow, lost,
refused with an error of its own), nobody there, a host with or without a listener, a path that is cut.

The SYN that comes to an end which is itself sending one opens the connection from both sides (RFC 9293, simultaneous
open); an end that meets itself that way is connected to itself, which is what an ephemeral port can do (FAULTS C9).

It must never know sockets. Source: RFC 9293 section 3.5; tcp(7), tcp_syn_retries; ARP gives up after 3 s (arp(7),
mcast_solicit and retrans_time).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ropewalk.simulation.endpoint import Endpoint
from ropewalk.simulation.network import OPEN
from ropewalk.simulation.tcp_states import TcpState

if TYPE_CHECKING:
    from ropewalk.simulation.stack import Stack
    from ropewalk.simulation.world import Happening

_SYN_TRIES = 7
_SYN_FIRST = 1.0
_NOBODY_THERE = 3.0


class Handshake:
    """One end's way to a connection; exists only while the end is in SYN_SENT."""

    __slots__ = ("_client", "_stack", "_timer", "_tried")

    def __init__(self, client: Endpoint) -> None:
        self._client = client
        self._stack = client.stack
        self._timer: Happening | None = None
        self._tried = 0

    def start(self) -> None:
        self._client.connecting(self)
        self._send()

    def _is_over(self) -> bool:
        return self._client.state is not TcpState.SYN_SENT

    def _send(self) -> None:
        """Send a SYN, the first or one more."""
        if self._is_over():
            return
        world, network = self._stack.world, self._stack.network
        route = network.route(self._client.remote[0])
        if route.is_held:
            return
        if self._tried >= _SYN_TRIES:
            self.fail(errno.ETIMEDOUT)
            return
        self._timer = world.after(_SYN_FIRST * 2**self._tried, self._send)
        self._tried += 1
        if route.is_lost:
            return
        target = network.owner(self._client.remote[0], self._stack.host)
        if route.error:
            world.after(route.delay, self.fail, route.error)
        elif target is None:
            if self._tried == 1:
                world.after(_NOBODY_THERE, self.fail, errno.EHOSTUNREACH)
        else:
            path = network.path(self._stack.host, target)
            world.at(path.arrival(world, 0) + route.delay, self.reach, target.stack)

    def reach(self, target: Stack) -> None:
        """A SYN has come to the host it was for, or to one that answers in its place."""
        if self._is_over() or not target.is_up:
            return
        network = self._stack.network
        if network.path(self._stack.host, target.host).is_cut:
            return
        back = network.path(target.host, self._stack.host)
        met = target.connection(self._client.remote, self._client.local)
        if met is not None and met.state is TcpState.SYN_SENT:
            self._open_from_both_sides(met)
            return
        if met is not None and met.state is not TcpState.TIME_WAIT:
            return
        listener = target.listener(self._client.remote)
        if listener is None:
            target.world.at(back.arrival(target.world, 0), self._refused, back)
        elif not listener.is_full():
            child = target.child(listener, self._client)
            target.world.at(back.arrival(target.world, 0), self._answered, child)

    def _answered(self, child: Endpoint) -> None:
        """A SYN-ACK has come back."""
        client = self._client
        if child.wire is None or child.wire.is_cut:
            # Why forgotten: our next SYN makes a new one, as the server's next SYN-ACK would bring the old one back.
            child.finish(0)
        elif self._is_over():
            child.finish(0)
        else:
            client.meet(child)
            client.opened()
            assert client.wire is not None
            client.wire.carry(OPEN, None)

    def _refused(self, back: object) -> None:
        if not getattr(back, "is_cut", False):
            self.fail(errno.ECONNREFUSED)

    def _open_from_both_sides(self, met: Endpoint) -> None:
        client = self._client
        client.meet(met)
        met.meet(client)
        met.opened()
        if met is not client:
            client.opened()

    def fail(self, error: int) -> None:
        """The answer is an error."""
        if not self._is_over():
            self._client.finish(error)

    def end(self) -> None:
        """Answered, failed or given up: no more SYNs."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
