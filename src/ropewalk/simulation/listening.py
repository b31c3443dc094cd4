"""A listening socket's queue: who is let in, who waits, who is turned away.

Linux looks at the queue twice. When a SYN comes and the queue is full, the SYN is dropped as if it had been lost: the
client sends another one a second later. When the handshake is done and the queue has filled meanwhile, the connection
waits, established for the client and unknown to the server, and is looked at again after 1 s, 2 s, 4 s …

A connection that is reset while it waits to be accepted stays in the queue: accept gives it, and its first use shows the
error. When the listener goes, those that wait are reset.

It must never know descriptors. Source: listen(2); Linux net/ipv4/tcp_input.c, tcp_conn_request; net/ipv4/tcp_minisocks.c,
tcp_check_req; net/ipv4/inet_connection_sock.c, inet_csk_listen_stop; tcp(7), tcp_synack_retries.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ropewalk.simulation.tcp_states import OVER

if TYPE_CHECKING:
    from ropewalk.simulation.endpoint import Endpoint, Owner
    from ropewalk.simulation.ports import Binding
    from ropewalk.simulation.socket_options import SocketOptions
    from ropewalk.simulation.stack import Stack

_SYNACK_TRIES = 5
_SYNACK_FIRST = 1.0


class Listener:
    """The queue of one listening socket."""

    __slots__ = ("_queue", "_stack", "backlog", "binding", "family", "is_open", "options", "owner")

    def __init__(
        self, stack: Stack, owner: Owner, binding: Binding, family: int, options: SocketOptions
    ) -> None:
        self._stack = stack
        self.owner = owner
        self.binding = binding
        self.family = family
        self.options = options
        self.backlog = 0
        self.is_open = True
        self._queue: deque[Endpoint] = deque()

    def is_full(self) -> bool:
        # Source: sk_acceptq_is_full compares with ">", so a backlog of n holds n + 1.
        return len(self._queue) > self.backlog

    def admit(self, child: Endpoint, tried: int = 0) -> None:
        """A handshake is done."""
        if not self.is_open:
            child.abort()
        elif not self.is_full():
            self._queue.append(child)
            self.owner.changed()
        elif tried < _SYNACK_TRIES:
            self._stack.world.after(_SYNACK_FIRST * 2**tried, self._try_again, child, tried + 1)
        else:
            # Why without a word: the client learns it when it sends something.
            child.finish(0)

    def _try_again(self, child: Endpoint, tried: int) -> None:
        if child.state not in OVER:
            self.admit(child, tried)

    def readiness(self) -> bool:
        return bool(self._queue)

    def next(self) -> Endpoint | None:
        return self._queue.popleft() if self._queue else None

    def waiting(self) -> int:
        return len(self._queue)

    def close(self) -> None:
        self.is_open = False
        queue, self._queue = self._queue, deque()
        for child in queue:
            child.abort()
