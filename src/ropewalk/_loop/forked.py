"""fork(2): what becomes of the loops that a child inherits, and what stands in for a poller that is gone.

A child has copies of all descriptors, and some of them lead to things that both share: EPOLL_CTL_DEL, shutdown(2), recv
and accept by the child would be felt by the parent (FAULTS E8, F12). So the copy gives everything up before any code of
the child runs: it closes its descriptors, which the parent does not feel, forgets its watchers, timers and calls, and
puts back the signal handlers. Whatever is asked of it afterwards is refused. A child that wants to work makes a
Reactor of its own.

Why close, and not only forget: a copy kept open keeps the connection open. The parent's close would send no FIN, and
its port would go on taking connections that nobody serves, for as long as the child lives.
Rejected: letting the child use the copies of listening sockets. Who wants that passes `os.dup(port.fileno())`.

It must never know what a loop or a watcher is made of.
Source: CPython, os.register_at_fork; epoll(7), "Questions and answers"; fork(2).
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from typing import Any, Protocol


class Disownable(Protocol):
    """A loop."""

    def disown(self) -> None: ...


# Every loop of this process that was not closed.
loops: weakref.WeakSet[Disownable] = weakref.WeakSet()


class NoPoller:
    """What stands in for a poller that is gone: to wait, or to watch more, is a clear error."""

    name = "none"
    notices_reset_at_mask_zero = False

    def __init__(self, why: str) -> None:
        self._why = why

    def register(self, fd: int, mask: int, /) -> None:
        raise RuntimeError(self._why)

    def modify(self, fd: int, mask: int, /) -> None:
        raise RuntimeError(self._why)

    def poll(self, timeout: float | None, limit: int, /) -> list[tuple[int, int]]:
        raise RuntimeError(self._why)

    def unregister(self, fd: int, /) -> None:
        """Nothing is registered."""

    def close(self) -> None:
        """Nothing is open."""


class NoCalls(deque[Any]):
    """What stands in for the queue of calls: a call that would never be made is refused."""

    __slots__ = ("_why",)

    def __init__(self, why: str) -> None:
        super().__init__()
        self._why = why

    def append(self, call: object, /) -> None:
        raise RuntimeError(self._why)


def _disown_all() -> None:
    for loop in list(loops):
        loop.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
