"""LoopingCall: a function called every so many seconds, until it is stopped or fails.

Ticks are counted from the start: tick n is due at `starttime + n * interval`, whatever the calls before it took, so
the rhythm never drifts. A call that takes longer, by itself or by the Deferred that it returns, misses the ticks
meanwhile: they are skipped, never made up for; `withCount` tells how many.

A timer that comes a hair early, by the rounding of floats, has come for the tick it was set for: `_due` remembers
which that was. Rejected: working with the time alone, as Twisted does; the tick is then found not to have come
yet, and comes a second time at once.
It must never know a reactor: a clock is anything with `seconds` and `callLater`; the default is asked for when it is
first needed, so that making one opens nothing.
Source: twisted.internet.task.LoopingCall.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import floor, inf
from typing import Any, Self

from ropewalk.defer import Deferred, maybeDeferred
from ropewalk.failure import Failure
from ropewalk.task.later import Call, Clock, currentReactor


class LoopingCall:
    """A function that is called again and again.

    `running` tells whether it is started, `interval` and `starttime` are those of the last start, `call` is the
    timer of the next call; None while the function runs.

    Args:   f: may return a Deferred or be a coroutine function: the next call waits for its end.
            a, kw: its arguments.
    """

    def __init__(self, f: Callable[..., object], *a: Any, **kw: Any) -> None:
        self.f = f
        self.a = a
        self.kw = kw
        self.running = False
        self.interval: float | None = None
        self.starttime: float | None = None
        self.call: Call | None = None
        self._clock: Clock | None = None
        self._deferred: Deferred[Self] | None = None
        self._due = 0  # the tick that the next call, or the one under way, is for
        self._counts = False
        self._counted = 0  # with counting: the last tick that was told
        self._counted_at: float | None = None

    @classmethod
    def withCount(cls, countCallable: Callable[[int], object]) -> Self:
        """One whose function is told how many ticks there were since its last call: 1, or more if some were missed.

        Args:   countCallable: is not called for a tick that was told before, as after `reset`.
        """
        made = cls(countCallable)
        made._counts = True
        return made

    @property
    def clock(self) -> Clock:
        """Who knows the time; set it before `start`. By default `currentReactor()`."""
        if self._clock is None:
            reactor: Clock = currentReactor()
            self._clock = reactor
        return self._clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        self._clock = clock

    @property
    def deferred(self) -> Deferred[Self] | None:
        """What `start` returned, while it is running."""
        return self._deferred

    def start(self, interval: float, now: bool = True) -> Deferred[Self]:
        """Begin.

        Args:     interval: seconds, 0 or more; 0 is once in each turn of the loop.
                  now: whether the first call is made at once; else after one interval.
        Returns:  a Deferred that fires with this object after `stop`, when no call is under way any more.
        Raises:   AssertionError if it is running; ValueError for a negative interval, infinity and nan.
        Fails:    with what the function raised, or its Deferred failed with; it is then not running any more.
        Order:    the first call is made before this returns.
        """
        if self.running:
            raise AssertionError(f"{self!r} is running already")
        # Why so: nan is neither below 0 nor above it.
        if not 0 <= interval < inf:
            raise ValueError(f"the interval must be 0 or more seconds, not {interval!r}")
        self.running = True
        deferred: Deferred[Self] = Deferred()
        deferred._made_by(sys._getframe(1))
        # Why both: it is not this object's any more once the first call has failed.
        self._deferred = deferred
        self.starttime = self.clock.seconds()
        self.interval = interval
        self._due = 0
        self._counted = -1 if now else 0
        self._counted_at = None
        if now:
            self()
        else:
            self._schedule(self.starttime)
        return deferred

    def stop(self) -> None:
        """End it; a call under way ends by itself. Raises: AssertionError if it is not running."""
        if not self.running:
            raise AssertionError(f"{self!r} is not running: it cannot be stopped")
        self.running = False
        if self.call is not None:
            self.call.cancel()
            self.call = None
            self._end(self)

    def reset(self) -> None:
        """Count from now: the next call is made one interval from here.

        Raises:   AssertionError if it is not running.
        Order:    while the function's Deferred is waited for, it changes nothing.
        """
        if not self.running:
            raise AssertionError(f"{self!r} is not running: it cannot be reset")
        if self.call is None:
            return
        self.call.cancel()
        self.call = None
        now = self.starttime = self.clock.seconds()
        self._due = 0
        if self._counted_at is not None and self.interval:
            self._counted = -int((now - self._counted_at) / self.interval)
        self._schedule(now)

    def __call__(self) -> None:
        """Make one call now, then wait for the next tick; what the timer does."""
        self.call = None
        args = self.a
        if self._counts:
            count = self._count()
            if count <= 0:
                self._done(None)
                return
            args = (count, *args)
        try:
            result = maybeDeferred(self.f, *args, **self.kw)
        except BaseException as exc:  # SystemExit, KeyboardInterrupt: who waits is told, and it leaves
            self._leave(Failure(exc))
            raise
        result.addCallback(self._done)
        result.addErrback(self._failed)

    def _done(self, _: object) -> None:
        if self.running:
            self._schedule(self.clock.seconds())
        else:
            self._end(self)

    def _failed(self, failure: Failure) -> None:
        self.running = False
        self._end(failure)

    def _leave(self, failure: Failure) -> None:
        deferred = self._deferred
        self._failed(failure)
        if deferred is not None:
            # Why: it leaves and is seen there; nobody need report it once more.
            deferred.addErrback(lambda left: None if left.value is failure.value else left)

    def _end(self, outcome: Self | Failure) -> None:
        deferred, self._deferred = self._deferred, None
        if deferred is not None:
            deferred.callback(outcome)

    def _tick(self, now: float) -> int:
        """How many intervals have passed; the one that is due counts if all but a hair of it has."""
        if not self.interval or self.starttime is None:
            return 0
        passed = (now - self.starttime) / self.interval
        tick = floor(passed)
        return self._due if tick == self._due - 1 and passed - tick > 0.5 else tick

    def _count(self) -> int:
        now = self.clock.seconds()
        tick = self._tick(now)
        count = tick - self._counted if self.interval else 1
        if count > 0:
            self._counted, self._counted_at = tick, now
        return count

    def _schedule(self, now: float) -> None:
        delay = 0.0
        if self.interval and self.starttime is not None:
            self._due = self._tick(now) + 1
            delay = max(0.0, self.starttime + self._due * self.interval - now)
        self.call = self.clock.callLater(delay, self)

    def __repr__(self) -> str:
        name = getattr(self.f, "__qualname__", None) or repr(self.f)
        return f"LoopingCall<{self.interval!r}>({name}, *{self.a!r}, **{self.kw!r})"
