"""epoll, Linux's poller, and the one the engine is measured with.

It must never know who watches a descriptor, nor cost anything between the loop and the kernel: the contract
in poller.py is cut so that epoll's rows need no translation, and the C methods themselves are the poller's
methods where no error has to be forgiven.

What is registered is the mask and nothing else. EPOLLRDHUP is not asked for, so a descriptor with mask 0 is
silent for data and FIN; EPOLLERR and EPOLLHUP cannot be masked and come by themselves (measured, FAULTS.md
section 1).

Two facts shape the rest. The kernel keys a registration by descriptor number *and* open file, and drops it
when the last copy of the open file is closed: so a descriptor closed behind our back is simply forgotten, and
its number may be registered anew. And if a copy of it lives on (dup, a child), the forgotten number keeps
reporting, which nobody can take back any more: hence the contract's rule to unregister first and close then.

Rounding: CPython rounds the timeout up to the next millisecond, as the contract asks.

Sources: epoll(7), epoll_ctl(2); CPython, Modules/selectmodule.c; FAULTS.md B8, B9, B10.
"""

from __future__ import annotations

import errno
import select
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_FORGOTTEN = (errno.EBADF, errno.ENOENT, errno.EPERM)
# Why: closed; closed and its number reused; closed and its number reused by a regular file, which epoll
# cannot hold.


class KernelEpoll(Protocol):
    """The part of `select.epoll` used here, also where the type checker's platform has none."""

    def register(self, fd: int, eventmask: int, /) -> None: ...
    def modify(self, fd: int, eventmask: int, /) -> None: ...
    def unregister(self, fd: int, /) -> None: ...
    def poll(self, timeout: float | None, maxevents: int, /) -> list[tuple[int, int]]: ...
    def close(self) -> None: ...


class EpollModule(Protocol):
    """The part of the module `select` used here."""

    def epoll(self) -> KernelEpoll: ...


class Epoll:
    """The poller over epoll(7); see `Poller` for what each method promises."""

    __slots__ = ("_remove", "close", "modify", "poll", "register")

    name = "epoll"
    notices_reset_at_mask_zero = True

    def __init__(self, kernel: EpollModule | None = None) -> None:
        # Why: the one effect in a constructor of this layer: a poller is a kernel object, and is not there
        # without it.
        epoll = (cast("EpollModule", select) if kernel is None else kernel).epoll()
        self.register: Callable[[int, int], None] = epoll.register
        self._remove: Callable[[int], None] = epoll.unregister
        # hot: the C methods themselves, no Python frame in between (benchmark: echo, 100 connections, 1 KiB).
        self.poll: Callable[[float | None, int], list[tuple[int, int]]] = epoll.poll
        self.modify: Callable[[int, int], None] = epoll.modify
        self.close: Callable[[], None] = epoll.close

    def unregister(self, fd: int, /) -> None:
        try:
            self._remove(fd)
        except OSError as refusal:
            if refusal.errno not in _FORGOTTEN:
                raise
