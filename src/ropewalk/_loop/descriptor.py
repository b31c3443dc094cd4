"""Descriptors that users bring: `addReader`, `addWriter` and their kin.

Any object with `fileno`, `doRead`, `doWrite`, `connectionLost` and `logPrefix` can be watched. One `Descriptor` stands
between the loop and the one or two objects (a reader, a writer) that share a number; the engine's own streams need no
such thing in between and are watched directly.

Rules, as Twisted's users know them: `doRead` and `doWrite` return None, or an exception that ends the descriptor; what
they raise is logged and ends it too. Ending is: watched no more, then `connectionLost(Failure)`. A hang-up or an error
with something to read is read first (FAULTS B4): the object sees the end of the data by itself. With nothing to read it
ends both at once: to a reader it is a clean end, to one that only writes it is none. Why not one more doWrite: an object
that has nothing to write just then would be called for ever.

It must never close a descriptor: whoever opened it does.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from ropewalk._loop.loop import ERR, HUP, IN, OUT, Loop


class Descriptors:
    """All descriptors of one loop that users brought, by number."""

    __slots__ = ("_by_object", "_loop", "_lost", "_watched")

    def __init__(self, loop: Loop, lost: Callable[[Any, BaseException | None, bool], None]) -> None:
        self._loop = loop
        # How an object is told of its end (object, exception, whether it is clean without one); given by the reactor, who
        # knows what a Failure is.
        self._lost = lost
        self._watched: dict[int, Descriptor] = {}
        # Why: an object whose descriptor was closed has fileno() -1; it must still be possible to remove it.
        self._by_object: dict[int, int] = {}

    def add(self, selectable: Any, bit: int) -> None:
        fd = _fileno(selectable)
        if self._by_object.get(id(selectable), fd) != fd:
            # Why: it was given another descriptor, and what it wished of the one before is over.
            self.remove(selectable, IN | OUT)
        found = self._watched.get(fd)
        try:
            if found is None or not self._joins(found, selectable, bit):
                if found is not None:
                    self._drop(found)
                found = Descriptor(self, fd)
                self._loop.watch(fd, found, bit)
                self._watched[fd] = found
        except OSError as exc:
            if exc.errno != errno.EBADF:
                raise
            raise _not_open(selectable, fd) from None
        found.take(selectable, bit)
        self._by_object[id(selectable)] = fd

    def _joins(self, found: Descriptor, selectable: Any, bit: int) -> bool:
        """Watch a number for one wish more; False if it was closed behind our back and belongs to something new."""
        if not self._is_ours(found) or found.is_stale(selectable, bit):
            return False
        try:
            self._loop.rewatch(found.fd, found, found.mask() | bit)
        except (FileNotFoundError, PermissionError):
            # Safe because: epoll forgot it with its file; the new one may be what it cannot hold.
            return False
        return True

    def remove(self, selectable: Any, bits: int) -> None:
        fd = self._by_object.get(id(selectable))
        found = None if fd is None else self._watched.get(fd)
        if found is None:
            return
        found.give_back(selectable, bits)
        if not found.holds(selectable):
            del self._by_object[id(selectable)]
        if not found.mask():
            self._drop(found)
        elif self._is_ours(found):
            try:
                self._loop.rewatch(found.fd, found, found.mask())
            except OSError:
                pass  # Safe because: closed behind our back, and what the kernel forgot it does not report.

    def _drop(self, found: Descriptor) -> None:
        for each in (found.reader, found.writer):
            self._by_object.pop(id(each), None)
        del self._watched[found.fd]
        if self._is_ours(found):
            self._loop.unwatch(found.fd)

    def _is_ours(self, found: Descriptor) -> bool:
        """Whether the number still is what it was: the user may have closed it, and a connection of the engine's got it."""
        return self._loop.watchers.get(found.fd) is found

    def readers(self) -> list[Any]:
        return [found.reader for found in list(self._watched.values()) if found.reader is not None]

    def writers(self) -> list[Any]:
        return [found.writer for found in list(self._watched.values()) if found.writer is not None]

    def remove_all(self) -> list[Any]:
        """Watch none of them any more; gives each object once."""
        objects = list({id(each): each for each in self.readers() + self.writers()}.values())
        for found in list(self._watched.values()):
            self._drop(found)
        return objects

    def end(self, selectable: Any, exc: BaseException | None, is_clean: bool = False) -> None:
        self.remove(selectable, IN | OUT)
        self._lost(selectable, exc, is_clean)

    def call(self, selectable: Any, method: str) -> None:
        """One doRead or doWrite, and what follows from its answer."""
        try:
            why = getattr(selectable, method)()
        except BaseException as exc:
            self._loop.user_error(exc, "%s of %r raised and is watched no more", method, selectable)
            self.end(selectable, exc)
        else:
            if why is not None:
                self.end(selectable, why if isinstance(why, BaseException) else None)


class Descriptor:
    """One number, watched for a reader, a writer or both."""

    __slots__ = ("_all", "fd", "reader", "writer")

    def __init__(self, all_of_them: Descriptors, fd: int) -> None:
        self._all = all_of_them
        self.fd = fd
        self.reader: Any = None
        self.writer: Any = None

    def mask(self) -> int:
        return (IN if self.reader is not None else 0) | (OUT if self.writer is not None else 0)

    def holds(self, selectable: Any) -> bool:
        return self.reader is selectable or self.writer is selectable

    def is_stale(self, selectable: Any, bit: int) -> bool:
        """Whether another object has the place for this bit, or has the other place and another descriptor by now."""
        holder, other = (self.reader, self.writer) if bit == IN else (self.writer, self.reader)
        if holder is not None and holder is not selectable:
            return True
        return other is not None and other is not selectable and not _is_at(other, self.fd)

    def take(self, selectable: Any, bit: int) -> None:
        if bit == IN:
            self.reader = selectable
        else:
            self.writer = selectable

    def give_back(self, selectable: Any, bits: int) -> None:
        if bits & IN and self.reader is selectable:
            self.reader = None
        if bits & OUT and self.writer is selectable:
            self.writer = None

    def shut_down(self) -> None:
        for each in {id(each): each for each in (self.reader, self.writer) if each is not None}.values():
            self._all.end(each, None)

    def disown(self) -> None:
        """Nothing: who opened it closes it."""

    def ready(self, event: int) -> None:
        reader, writer = self.reader, self.writer
        if event & (ERR | HUP) and not event & IN:
            if reader is not None:
                self._all.end(reader, None, is_clean=True)
            # Safe because: one that does both is no writer any more, nor is one that the reader has just removed.
            if writer is not None and self.writer is writer:
                self._all.end(writer, None)
            return
        if event & IN and reader is not None:
            self._all.call(reader, "doRead")
        # Safe because: doRead may have removed the writer, or put another in its place; only the same one is called.
        if event & OUT and writer is not None and self.writer is writer:
            self._all.call(writer, "doWrite")


def _fileno(selectable: Any) -> int:
    fd = selectable.fileno()
    if not isinstance(fd, int) or fd < 0:
        raise _not_open(selectable, fd)
    return fd


def _not_open(selectable: Any, fd: object) -> ValueError:
    return ValueError(
        f"{selectable!r} has no open descriptor: fileno() gave {fd!r}, not the number of an open one"
    )


def _is_at(selectable: Any, fd: int) -> bool:
    try:
        return bool(selectable.fileno() == fd)
    except Exception:
        return False  # Safe because: what cannot tell its number any more has none.
