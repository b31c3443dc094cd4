"""Descriptor numbers, as a kernel hands them out: the lowest free one, up to a limit.

That numbers come back at once is what makes bugs of reuse show (FAULTS B6), so the table does it like Linux. What a number
stands for is whatever was put there; the table holds it strongly: a socket that a program forgot to close stays in the
ledger until the host ends, garbage collector or not.

It must never know sockets. Source: open(2), "the lowest-numbered file descriptor not currently open"; getrlimit(2).
"""

from __future__ import annotations

import errno
from heapq import heappop, heappush
from typing import Protocol

from ropewalk.simulation.faults import kernel_error

# 0, 1 and 2 are the standard streams of every process.
_FIRST = 3
# How many a process may have. Source: the usual hard limit of Linux distributions under systemd is 524288, the soft one
# 1024; in between, so that a leak shows and thousands of connections fit.
DEFAULT_LIMIT = 65_536


class File(Protocol):
    """Something open."""

    def describe(self) -> str:
        """What it is, for the ledger: one line."""

    def close(self) -> None:
        """The kernel's own closing of it, as when its process has ended."""

    def vanish(self) -> None:
        """Its machine has crashed: it has no number any more, and nobody is told."""


class DescriptorTable:
    """The open descriptors of one host."""

    __slots__ = ("_free", "_next", "files", "limit")

    def __init__(self) -> None:
        self.files: dict[int, File] = {}
        self.limit = DEFAULT_LIMIT
        self._free: list[int] = []
        self._next = _FIRST

    def check_room(self) -> None:
        """Raises: OSError (EMFILE) if no number is free."""
        if self._lowest() >= self.limit:
            raise kernel_error(errno.EMFILE)

    def add(self, file: File) -> int:
        """Give a file the lowest free number.

        Raises: OSError (EMFILE).
        """
        self.check_room()
        if self._free:
            number = heappop(self._free)
        else:
            number = self._next
            self._next += 1
        self.files[number] = file
        return number

    def remove(self, number: int) -> None:
        del self.files[number]
        heappush(self._free, number)

    def vanish(self) -> None:
        """All of them at once; numbers begin anew."""
        files = list(self.files.values())
        self.files.clear()
        self._free.clear()
        self._next = _FIRST
        for file in files:
            file.vanish()

    def _lowest(self) -> int:
        return self._free[0] if self._free else self._next


class Reserve:
    """A descriptor kept for bad times; holds a number and nothing else."""

    __slots__ = ("_number", "_table")

    def __init__(self, table: DescriptorTable) -> None:
        self._table = table
        self._number = table.add(self)

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        if self._number >= 0:
            self._table.remove(self._number)
            self._number = -1

    def vanish(self) -> None:
        self._number = -1

    def describe(self) -> str:
        return "reserve"
