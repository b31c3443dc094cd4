"""Waiting for one's turn: a lock, a semaphore, a queue.

Who asks gets a Deferred, and those who ask are served in the order in which they asked. Cancelling the Deferred
of one who waits takes it out of the row.

This is for one thread; nothing here blocks. It must never know a clock: a turn that is to be waited for no longer
than so many seconds is `lock.acquire().addTimeout(...)`.
Strategy: to release is to hand over: the next one's callbacks run before `release()` returns, as in Twisted. If these
release in their turn, and so on, that would recurse once for each who waits; from a depth of DEEPEST on the outermost
hand-over goes on with the row instead, so a row may be as long as it likes.
Rejected: AssertionErrors by `assert`, which `python -O` removes: they are raised.
Source: twisted.internet.defer.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Literal, ParamSpec, Self, TypeVar, overload

from ropewalk.defer.deferred import ESCAPING, Deferred
from ropewalk.defer.errors import QueueOverflow, QueueUnderflow
from ropewalk.defer.making import maybeDeferred, succeed

T = TypeVar("T")
P = ParamSpec("P")

# Hand-overs within hand-overs. Ours; each is about ten frames deep, of the thousand that Python allows.
DEEPEST = 8


class Turns:
    """What lock and semaphore have in common: so many may be in at a time, the others wait in a row."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.limit = tokens
        self.waiting: deque[Deferred[Any]] = deque()
        self._depth = 0

    def acquire(self) -> Deferred[Self]:
        """Ask for a turn.

        Returns:  a Deferred that fires with this object when it is one's turn, perhaps at once. Cancelling it
                  while it waits gives up the place in the row.
        """
        turn: Deferred[Self] = Deferred(self.waiting.remove)
        turn._made_by(sys._getframe(1))
        # Why the row counts: there may be a token that a hand-over under way is about to give to the first in it.
        if self.tokens and not self.waiting:
            self.tokens -= 1
            turn.callback(self)
        else:
            self.waiting.append(turn)
        return turn

    def release(self) -> None:
        """End one's turn; the next in the row has it.

        Raises:   AssertionError if nobody has a turn that could end.
        Order:    the callbacks of the next run before this returns, unless there are many hand-overs under way.
        """
        if self.tokens >= self.limit:
            raise AssertionError(f"{self!r} was released more often than it was acquired")
        self.tokens += 1
        if self._depth >= DEEPEST:
            return
        self._depth += 1
        try:
            while self.tokens and self.waiting:
                self.tokens -= 1
                self.waiting.popleft().callback(self)
        finally:
            self._depth -= 1

    @overload
    def run(self, f: Callable[P, Deferred[T]], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]: ...

    @overload
    def run(
        self, f: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]: ...

    @overload
    def run(self, f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]: ...

    def run(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Wait for a turn, call `f`, and end the turn when it has returned, or when its Deferred has fired.

        Returns:  a Deferred for what `f` returns or raises.
        """

        def call(_: object) -> Deferred[Any]:
            try:
                result = maybeDeferred(f, *args, **kwargs)
            except ESCAPING:
                self.release()
                raise
            return result.addBoth(release)

        def release(result: Any) -> Any:
            self.release()
            return result

        turn = self.acquire()
        turn._made_by(sys._getframe(1))
        return turn.addCallback(call)

    def __aenter__(self) -> Deferred[Self]:
        turn = self.acquire()
        turn._made_by(sys._getframe(1))
        return turn

    def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Deferred[Literal[False]]:
        self.release()
        return succeed(False)


class DeferredLock(Turns):
    """One at a time. Also: `async with lock:`."""

    def __init__(self) -> None:
        super().__init__(1)

    @property
    def locked(self) -> bool:
        """Whether somebody has it."""
        return not self.tokens


class DeferredSemaphore(Turns):
    """So many at a time. Also: `async with semaphore:`.

    `limit` is how many, `tokens` how many more could be in now.

    Args:     tokens: 1 or more.
    Raises:   ValueError for less.
    """

    def __init__(self, tokens: int) -> None:
        if tokens < 1:
            raise ValueError(f"a semaphore needs one token at least, not {tokens!r}")
        super().__init__(tokens)


class DeferredQueue(Generic[T]):
    """Things handed from those who put to those who get, in order.

    Args:     size: how many things may lie in it; None for any number.
              backlog: how many may wait for one; None for any number.
    """

    def __init__(self, size: int | None = None, backlog: int | None = None) -> None:
        self.size = size
        self.backlog = backlog
        self.waiting: deque[Deferred[T]] = deque()
        self.pending: deque[T] = deque()

    def put(self, obj: T) -> None:
        """Give it to the first who waits, or let it lie here.

        Raises:   QueueOverflow if `size` things lie here.
        Order:    the callbacks of who waits run before this returns.
        """
        if self.waiting:
            self.waiting.popleft().callback(obj)
        elif self.size is None or len(self.pending) < self.size:
            self.pending.append(obj)
        else:
            raise QueueOverflow(f"{len(self.pending)} things lie in the queue, and that is its size")

    def get(self) -> Deferred[T]:
        """Take the first thing.

        Returns:  a Deferred for it; cancelling it while it waits gives up the place in the row.
        Raises:   QueueUnderflow if `backlog` wait already.
        """
        thing: Deferred[T]
        if self.pending:
            thing = succeed(self.pending.popleft())
        elif self.backlog is None or len(self.waiting) < self.backlog:
            thing = Deferred(self.waiting.remove)
            self.waiting.append(thing)
        else:
            raise QueueUnderflow(f"{len(self.waiting)} wait for the queue already, and that is its backlog")
        thing._made_by(sys._getframe(1))
        return thing
