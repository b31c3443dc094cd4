"""Timers: a call that will happen once, and the heap that knows which comes first.

A heap of tuples `(time, serial, call)`: comparing tuples is done in C and never reaches the call. The serial keeps
calls of one instant in the order in which they were asked for.

Cancelling does not search the heap: the call is marked and its entry left to surface. Moving a call *later* only
writes the new time; the entry is put back when it surfaces too early. Moving it *sooner* pushes a second entry and
the first becomes stale. So every operation is O(log n) at worst, and an idle time-out that is reset on each packet
costs two stores. When more than half of the entries are dead the heap is rebuilt: memory follows the living.

Rejected: a timing wheel. It wins with millions of timers of few lengths, and loses exactness and clarity.
Source: time is monotonic seconds (FAULTS E2); callbacks keep the context in which the call was asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from heapq import heapify, heappop, heappush
from threading import get_ident
from typing import Any, Protocol

from ropewalk.error import AlreadyCalled, AlreadyCancelled, wrong_thread

# Below this many dead entries a rebuild is not worth its while. Value: asyncio uses 100 for the same purpose.
_DEAD_ENTRIES_TOLERATED = 100


class Runner(Protocol):
    """The part of a Loop that running calls needs."""

    due: deque[Any]

    def user_error(self, exc: BaseException, message: str, *args: object) -> None: ...
    def settle(self) -> None: ...


class DelayedCall:
    """One call that was put off; what `callLater` returns. Made by `Timers.add`."""

    __slots__ = ("_serial", "_timers", "args", "called", "context", "func", "kw", "time")

    _timers: Timers
    _serial: int
    time: float
    # None once the call was made or cancelled.
    func: Callable[..., object] | None
    args: Any
    kw: dict[str, Any] | None
    context: Context | None
    called: bool

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.func is None and not self.called

    def getTime(self) -> float:
        """When the call is due.

        Returns: seconds of the reactor's monotonic clock, as `reactor.seconds()` counts them.
        """
        return self.time

    def active(self) -> bool:
        """Whether the call is still to come."""
        return self.func is not None

    def cancel(self) -> None:
        """Make sure the call never happens.

        Raises: AlreadyCalled, AlreadyCancelled; RuntimeError in another thread than the reactor's.
        """
        # hot: benchmarks/ timers.
        timers = self._timers
        if timers.thread and timers.thread != get_ident():
            raise wrong_thread("DelayedCall.cancel", timers.thread)
        if self.func is None:
            self._refuse()
        # Why at once: a cancelled call may surface much later; what it holds should be free now.
        self.func = self.args = self.kw = self.context = None
        timers._dead = dead = timers._dead + 1
        if dead > _DEAD_ENTRIES_TOLERATED and dead * 2 > len(timers.heap):
            timers.rebuild()

    def delay(self, secondsLater: float) -> None:
        """Move the call by so many seconds from when it was due; negative is sooner.

        Raises: AlreadyCalled, AlreadyCancelled; ValueError for a number that is not finite; RuntimeError in another
                thread than the reactor's.
        """
        if self.func is None:
            self._refuse()
        checked_delay(abs(secondsLater) if isinstance(secondsLater, (int, float)) else secondsLater)
        self._timers.move(self, self.time + secondsLater, "DelayedCall.delay")

    def reset(self, secondsFromNow: float) -> None:
        """Let the call happen so many seconds from now instead.

        Raises: AlreadyCalled, AlreadyCancelled; ValueError for a negative or not finite number; RuntimeError in
                another thread than the reactor's.
        """
        if self.func is None:
            self._refuse()
        timers = self._timers
        timers.move(self, timers.now() + checked_delay(secondsFromNow), "DelayedCall.reset")

    def _refuse(self) -> None:
        if self.called:
            raise AlreadyCalled(f"{self!r} has already happened")
        raise AlreadyCancelled(f"{self!r} was cancelled before")

    def __repr__(self) -> str:
        state = "called" if self.called else "cancelled" if self.cancelled else f"due at {self.time:.3f}"
        name = getattr(self.func, "__qualname__", None) or repr(self.func)
        return f"<DelayedCall {name if self.func is not None else '(done)'} {state}>"


class Timers:
    """All delayed calls of one loop, the next one first."""

    __slots__ = ("_dead", "_serial", "heap", "now", "thread")

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        # Whose calls alone may be changed by, written by the loop while it is run; 0: anybody's.
        self.thread = 0
        # The loop looks at the first entry's time: no call at all while nothing is due. It may be a dead entry's.
        self.heap: list[tuple[float, int, DelayedCall]] = []
        self._serial = 0
        self._dead = 0

    def add(
        self, delay: float, func: Callable[..., object], args: Any, kw: dict[str, Any] | None
    ) -> DelayedCall:
        """Raises: ValueError for a delay that is negative or not finite, TypeError for what is no number."""
        # hot: benchmarks/ timers. Why no __init__: calling one is 6 % of callLater and cancel together.
        try:
            if not 0 <= delay < _NEVER:
                checked_delay(delay)
            time = self.now() + delay
        except (TypeError, OverflowError):
            raise TypeError(
                f"a delay must be a number of seconds (int or float), not {delay!r:.60}"
            ) from None
        call = DelayedCall()
        call._timers = self
        call.time = time
        call.func = func
        call.args = args
        call.kw = kw
        call.context = copy_context()
        call.called = False
        self._serial = call._serial = serial = self._serial + 1
        heappush(self.heap, (time, serial, call))
        return call

    def move(self, call: DelayedCall, time: float, asked: str) -> None:
        if self.thread and self.thread != get_ident():
            raise wrong_thread(asked, self.thread)
        is_sooner = time < call.time
        call.time = time
        if is_sooner:
            self._enter(call)
            self._dead = dead = self._dead + 1
            if dead > _DEAD_ENTRIES_TOLERATED and dead * 2 > len(self.heap):
                self.rebuild()

    def _enter(self, call: DelayedCall) -> None:
        self._serial = call._serial = serial = self._serial + 1
        heappush(self.heap, (call.time, serial, call))

    def rebuild(self) -> None:
        """Keep the living entries only. In place: the loop holds the list."""
        self.heap[:] = [
            entry for entry in self.heap if entry[1] == entry[2]._serial and entry[2].func is not None
        ]
        heapify(self.heap)
        self._dead = 0

    def run_due(self, loop: Runner, now: float) -> None:
        """Make the calls that are due at `now`, in order; those asked for meanwhile wait for the next turn.

        Why the limit on the serial: a call that asks for `callLater(0)` again must not keep descriptors waiting
        (FAULTS E3), also where the clock stands still, as virtual time does.
        """
        # hot: benchmarks/ timers.
        heap = self.heap
        newest = self._serial
        while heap:
            entered, serial, call = heap[0]
            func = call.func
            if serial != call._serial or func is None:
                heappop(heap)
                self._dead -= 1
                continue
            if entered > now or serial > newest:
                return
            heappop(heap)
            if call.time > entered:
                self._enter(call)
                continue
            args, kw, context = call.args, call.kw, call.context
            call.called = True
            call.func = call.args = call.kw = call.context = None
            try:
                if kw:
                    context.run(func, *args, **kw)  # type: ignore[union-attr]
                else:
                    context.run(func, *args)  # type: ignore[union-attr]
            except BaseException as exc:
                loop.user_error(exc, "the delayed call %r raised", func)
            if loop.due:
                loop.settle()

    def next_time(self) -> float | None:
        """When the next call is due; None if there is none. Dead entries at the top are dropped on the way."""
        heap = self.heap
        while heap:
            entered, serial, call = heap[0]
            if serial != call._serial or call.func is None:
                heappop(heap)
                self._dead -= 1
            elif call.time > entered:
                heappop(heap)
                self._enter(call)
            else:
                return entered
        return None

    def living(self) -> list[DelayedCall]:
        return [call for _, serial, call in self.heap if serial == call._serial and call.func is not None]


_NEVER = float("inf")


def checked_delay(seconds: float) -> float:
    """`seconds` as it came, or a clear error: what is asked of a timer must be a finite number from 0 up."""
    if not isinstance(seconds, (int, float)):
        raise TypeError(f"a delay must be a number of seconds (int or float), not {seconds!r}")
    if not 0 <= seconds < _NEVER:
        raise ValueError(f"a delay must be a finite number of seconds, 0 or more, not {seconds!r}")
    return seconds
