"""Between a file and the pollers that watch it: who must be told when it may have become ready.

epoll keeps a list of those descriptors that were heard of since they were last found idle, and looks only at them. So does
the simulated one: what is open costs nothing while nothing happens to it, at thousands of connections.

Closing a descriptor that is still registered makes the kernel forget it; here that is told to whoever closes, because for
an engine it is a mistake (FAULTS B8, B9). And so is to be told of a descriptor again and again without ever asking it
anything: a loop that spins (FAULTS I12, J7). `unanswered` counts how often that happened in a row.
Source: epoll(7), questions 6 and 7.
"""

from __future__ import annotations

from typing import Protocol


class Listening(Protocol):
    """A poller, as seen from a file."""

    def heard_of(self, fd: int, /) -> None:
        """Something happened to the descriptor."""

    def lost(self, fd: int, /) -> None:
        """The descriptor was closed."""


class Watched:
    """The pollers that watch one file."""

    __slots__ = ("_fd", "_pollers", "unanswered")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        # How often a poller has reported the descriptor since anything was done with it.
        self.unanswered = 0
        self._pollers: list[Listening] = []

    def join(self, poller: Listening) -> None:
        self._pollers.append(poller)

    def part(self, poller: Listening) -> None:
        if poller in self._pollers:
            self._pollers.remove(poller)

    def changed(self) -> None:
        # hot: every packet that comes.
        for poller in self._pollers:
            poller.heard_of(self._fd)

    def leave(self) -> bool:
        """The file is closed; whether anybody watched it."""
        pollers, self._pollers = self._pollers, []
        for poller in pollers:
            poller.lost(self._fd)
        return bool(pollers)
