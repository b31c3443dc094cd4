"""A clock that a test turns by hand: `callLater` and its kin without a reactor, and time that moves when it is told to.

The timers are the engine's own (`_loop/timers.py`), over a time that is a number of this object's. So what a test sees of
`cancel`, `delay` and `reset` is what a reactor does. The names, and how time moves, are Twisted's:

* `advance` moves the time first and makes the calls then. Each of them sees the time that was advanced to, and what it asks
  for counts from there. A call that is due at once is made in the same `advance`.
* What a call raises leaves `advance`. The others that are due wait for the next one.

Where a reactor of ours differs from Twisted's on purpose, so does this clock: a negative delay is refused (D31), calls keep
their contextvars (D34), and of calls for one instant the one that was moved there comes last (D50).

It must never know sockets or loops. A whole reactor with such a clock is in memory_reactor.py; there connections are real.
Rejected: a list, sorted anew for each call, which is what Twisted has here; then a test would see other timers than the
program does. Source: twisted.internet.task.Clock, whose own tests pass with this one (tests/differential/test_testing.py).
"""

from __future__ import annotations

import builtins
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ropewalk._loop.timers import DelayedCall, Timers


class Clock:
    """Time for tests, beginning at 0.

    `rightNow` is the time in seconds. Setting it moves the clock without making a call.
    """

    rightNow = 0.0

    def __init__(self) -> None:
        # Why the method and not the number: a subclass may have a time of its own.
        self._timers = Timers(self.seconds)
        self._runner = Thrower()

    def seconds(self) -> float:
        """The time now."""
        return self.rightNow

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> DelayedCall:
        """Call once, when the clock has been advanced by `delay` seconds.

        Args:    delay: 0 or more; 0 is the next `advance`, even by 0.
        Raises:  ValueError for a negative or not finite delay; TypeError if it is not callable.
        Returns: the DelayedCall: cancel, delay, reset, getTime, active.
        Source:  IReactorTime.callLater.
        """
        if not builtins.callable(callable):
            raise TypeError(f"callLater needs a callable, not {callable!r}")
        return self._timers.add(delay, callable, args, kw)

    def getDelayedCalls(self) -> list[DelayedCall]:
        """Those still to come, the next one first."""
        return in_order(self._timers.living())

    @property
    def calls(self) -> list[DelayedCall]:
        """The same as `getDelayedCalls`. A list of its own: changing it changes nothing."""
        return self.getDelayedCalls()

    def advance(self, amount: float) -> None:
        """Move the time, then make every call that is due, in order.

        Args:   amount: seconds. Below 0 the clock goes back; not from within a call.
        Raises: what a call raises; those after it are made by the next `advance`.
        """
        self.rightNow += amount
        timers = self._timers
        # Why again and again: one pass leaves what was asked for meanwhile to the next turn, and here there is none.
        while (time := timers.next_time()) is not None and time <= self.seconds():
            timers.run_due(self._runner, self.seconds())

    def pump(self, timings: Iterable[float]) -> None:
        """`advance` by each of these in turn."""
        for amount in timings:
            self.advance(amount)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.rightNow}, {len(self._timers.living())} calls>"


class Thrower:
    """What timers need of a loop: nothing to settle, and what a call raises goes on to whoever turned the clock."""

    def __init__(self) -> None:
        self.due: deque[Any] = deque()

    def settle(self) -> None:
        """Nothing: there are no streams."""

    def user_error(self, exc: BaseException, message: str, *args: object) -> None:
        raise exc


def in_order(calls: Iterable[DelayedCall]) -> list[DelayedCall]:
    """The calls in the order of their times; those of one instant as they were asked for."""
    return sorted(calls, key=lambda call: (call.time, call._serial))
