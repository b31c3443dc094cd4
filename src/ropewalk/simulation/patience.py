"""How long an end of a connection waits for a peer from whom nothing can come: keep-alive and TCP_USER_TIMEOUT.

Both are clocks that matter only while the path between two hosts is cut, the peer's host is down, or it has come up again and
knows of nothing. So they run only then: a healthy connection with keep-alive costs no happening at all, and a world of idle
connections is idle.

An end is looked at when its path is cut, when it sends into a cut path, and when it is established or given options while it
is; if nothing was heard until its time is up, the connection ends with ETIMEDOUT. A machine that is up again answers the next
probe with a reset. Retransmission's own limit is the wire's (network.py).

Source: tcp(7), tcp_keepalive_time and TCP_USER_TIMEOUT; RFC 5482.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from ropewalk.simulation.tcp_states import OVER, TcpState
from ropewalk.simulation.world import Happening, World

if TYPE_CHECKING:
    from ropewalk.simulation.endpoint import Endpoint


class Patience:
    """The clocks of one host's connections whose path is cut."""

    __slots__ = ("_waiting", "_world")

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: dict[Endpoint, Happening] = {}

    def worry(self, endpoint: Endpoint) -> None:
        """The path of an endpoint is cut: start its clock, if it has one and it does not run yet."""
        if endpoint in self._waiting or endpoint.state in OVER or endpoint.state is TcpState.SYN_SENT:
            return
        deadline = self._deadline(endpoint)
        if deadline is not None:
            self._waiting[endpoint] = self._world.at(deadline, self._look, endpoint, endpoint.last_heard)

    def probe(self, endpoint: Endpoint) -> None:
        """The peer's machine is up again: look when the next keep-alive probe is due, if there are any."""
        if endpoint.options.keep_alive is None or endpoint.state in OVER:
            return
        idle, interval, _ = endpoint.options.keep_alive
        due = endpoint.last_heard + idle
        if due < self._world.now:
            due += ceil((self._world.now - due) / interval) * interval
        self.forget(endpoint)
        self._waiting[endpoint] = self._world.at(due, self._look, endpoint, endpoint.last_heard)

    def forget(self, endpoint: Endpoint) -> None:
        waiting = self._waiting.pop(endpoint, None)
        if waiting is not None:
            waiting.cancel()

    def _deadline(self, endpoint: Endpoint) -> float | None:
        options = endpoint.options
        if endpoint.awaits_answer:
            return self._world.now + options.user_timeout if options.user_timeout else None
        if options.keep_alive is None:
            return None
        idle, interval, count = options.keep_alive
        patience = options.user_timeout or interval * count
        return max(endpoint.last_heard + idle, self._world.now) + patience

    def _look(self, endpoint: Endpoint, last_heard: float) -> None:
        del self._waiting[endpoint]
        if endpoint.wire is None or endpoint.state in OVER:
            return
        if not endpoint.wire.is_cut:
            if endpoint.peer is not None and endpoint.peer.is_over:
                # The peer's machine has crashed and is up again: it answers a probe with a reset.
                endpoint.arrive_reset()
            return
        if endpoint.last_heard > last_heard:
            self.worry(endpoint)
        else:
            endpoint.unheard()
