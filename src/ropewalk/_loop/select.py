"""select(2), the poller of last resort, and the only one on Windows.

It must never know who watches a descriptor. What sets it apart, and how the contract is kept all the same:

* It counts in a bit set of fixed size: on POSIX a number from 1024 on does not fit, on Windows no more than
  512 descriptors do. `register` says so at once, rather than `poll` later, when nobody knows who is to blame.
* One bad descriptor makes the whole call fail. Then each is asked for alone; the bad ones are reported as ERR
  and HUP (as poll(2)'s POLLNVAL is, and as level-triggered), and the others are still served.
* A descriptor with mask 0 is in no set, so a reset of it is not noticed: `notices_reset_at_mask_zero` says
  so, and it is noticed when reading or writing is wished for again.
* An error or a hang-up has no bit of its own: it shows as readable and writable, and the attempt tells more.
* Windows reports a failed connect in the third set only, and calls three empty sets an error instead of a
  wait. On POSIX the third set means urgent data, which nobody here asks for.

Rejected: knowing FD_SETSIZE. Python does not tell it and it differs by system, so `register` asks select
itself; one more system call for each registration does not matter where each wait costs what is registered.

Regular files are always ready, as the standard says.

Sources: select(2), POSIX.1-2017; Winsock's select; CPython, Modules/selectmodule.c (FD_SETSIZE is set to 512
there for Windows); FAULTS.md B1, B12.
"""

from __future__ import annotations

import errno
import select
import sys
import time
from typing import TYPE_CHECKING, Protocol, cast

from ropewalk._loop.poller import ERR, HUP, IN, LONGEST_WAIT, OUT, fair_share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_WINDOWS_ROOM = 512  # Source: CPython, Modules/selectmodule.c, FD_SETSIZE under Windows.
_NOT_OPEN = (errno.EBADF, errno.ENOTSOCK)  # Why the second: a closed socket's handle under Windows.


class SelectModule(Protocol):
    """The part of the module `select` used here."""

    def select(
        self,
        readers: Iterable[int],
        writers: Iterable[int],
        exceptional: Iterable[int],
        timeout: float | None,
        /,
    ) -> tuple[list[int], list[int], list[int]]: ...


class Select:
    """The poller over select(2); see `Poller` for what each method promises.

    Args:    kernel: what has the `select` function; windows: whether to keep to Windows' ways; sleep: how to
             wait there for nothing.
    """

    __slots__ = ("_masks", "_readers", "_select", "_sleep", "_waiting", "_windows", "_writers")

    name = "select"
    notices_reset_at_mask_zero = False

    def __init__(
        self,
        kernel: SelectModule | None = None,
        windows: bool = sys.platform == "win32",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._select = (cast("SelectModule", select) if kernel is None else kernel).select
        self._windows = windows
        self._sleep = sleep
        self._masks: dict[int, int] = {}
        self._readers: set[int] = set()
        self._writers: set[int] = set()
        self._waiting: dict[int, None] = {}

    def register(self, fd: int, mask: int, /) -> None:
        if self._windows and len(self._masks) >= _WINDOWS_ROOM and fd not in self._masks:
            raise ValueError(f"select() cannot watch descriptor {fd}: it holds {_WINDOWS_ROOM} at once here")
        try:
            self._select([fd], [], [], 0)
        except ValueError as refusal:
            raise ValueError(f"select() cannot watch descriptor {fd} (FD_SETSIZE): {refusal}") from refusal
        self._wish(fd, mask)

    def modify(self, fd: int, mask: int, /) -> None:
        if fd not in self._masks:
            raise FileNotFoundError(errno.ENOENT, f"descriptor {fd} is not registered")
        self._wish(fd, mask)

    def _wish(self, fd: int, mask: int) -> None:
        self._masks[fd] = mask
        (self._readers.add if mask & IN else self._readers.discard)(fd)
        (self._writers.add if mask & OUT else self._writers.discard)(fd)

    def unregister(self, fd: int, /) -> None:
        self._masks.pop(fd, None)
        self._readers.discard(fd)
        self._writers.discard(fd)

    def poll(self, timeout: float | None, limit: int, /) -> list[tuple[int, int]]:
        try:
            rows = self._ask(self._readers, self._writers, timeout)
        except OSError as refusal:
            bad = self._bad() if refusal.errno in _NOT_OPEN else set()
            if not bad:
                raise
            rows = [(fd, ERR | HUP) for fd in bad]
            rows += self._ask(self._readers - bad, self._writers - bad, 0)
        return fair_share(rows, limit, self._waiting)

    def _ask(self, readers: set[int], writers: set[int], timeout: float | None) -> list[tuple[int, int]]:
        if self._windows and not readers and not writers:
            self._sleep(LONGEST_WAIT if timeout is None else timeout)
            return []
        found = self._select(readers, writers, writers if self._windows else (), timeout)
        readable, writable, failed = found
        bits = dict.fromkeys(readable, IN)
        for fd in writable:
            bits[fd] = bits.get(fd, 0) | OUT
        for fd in failed:
            bits[fd] = bits.get(fd, 0) | OUT | ERR
        return list(bits.items())

    def _bad(self) -> set[int]:
        bad = set()
        for fd in self._readers | self._writers:
            try:
                self._select([fd], [], [], 0)
            except OSError:
                bad.add(fd)
        return bad

    def close(self) -> None:
        """Nothing to give back: select(2) keeps nothing in the kernel between two calls."""
        self._masks.clear()
        self._readers.clear()
        self._writers.clear()
        self._waiting.clear()
