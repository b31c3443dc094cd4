"""Something after a while, as a Deferred; and which reactor is meant when none is named.

It is the one that this thread runs just now. In other threads, and before anything runs, it is that of `run` or `react`:
they put theirs into a contextvar, and contextvars reach everything that is done on its account, threads of its pool
included. So `await sleep(1)` waits on the reactor under which it was asked for; where there is none, on the default one.
It must never know a loop; a clock is given, or asked for here.
Rejected: the default reactor for all, as Twisted has it. `run` makes a fresh one, and a sleep on another, which nobody
  runs, would never end.
Source: twisted.internet.task.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from inspect import isawaitable, iscoroutine
from typing import Any, Protocol, TypeVar, overload

from ropewalk.defer import Deferred
from ropewalk.engine import runningReactor

T = TypeVar("T")

_FOR_EVER = float("inf")

CURRENT: ContextVar[Any] = ContextVar("ropewalk.task.reactor", default=None)


class Call(Protocol):
    """What `callLater` returns, as far as it is needed here."""

    def cancel(self) -> None: ...

    def active(self) -> bool: ...


class Clock(Protocol):
    """Who knows the time and can call later: a reactor, or a clock for tests."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, callable: Callable[..., object], /, *args: Any, **kw: Any) -> Call: ...


def currentReactor() -> Any:
    """The reactor that runs in this thread; without one, that of the `run` or `react` that this is done for; or the default."""
    reactor = runningReactor() or CURRENT.get()
    if reactor is None:
        from ropewalk import reactor
    return reactor


@overload
def deferLater(clock: Clock, delay: float) -> Deferred[None]: ...


@overload
def deferLater(
    clock: Clock, delay: float, callable: Callable[..., Deferred[T]], *args: Any, **kw: Any
) -> Deferred[T]: ...


@overload
def deferLater(
    clock: Clock, delay: float, callable: Callable[..., T], *args: Any, **kw: Any
) -> Deferred[T]: ...


def deferLater(
    clock: Clock, delay: float, callable: Callable[..., Any] | None = None, *args: Any, **kw: Any
) -> Deferred[Any]:
    """Call after `delay` seconds.

    Args:     clock: a reactor, or anything with `callLater`.
              callable: None for a mere wait.
    Returns:  a Deferred for what it returns or raises; cancelling it cancels the call.
    Raises:   what the clock raises for a delay that is none.
    """
    later: Deferred[Any] = Deferred(lambda _: call.cancel())
    later._made_by(sys._getframe(1))
    if callable is not None:
        function = callable
        later.addCallback(lambda _: function(*args, **kw))
    call = clock.callLater(delay, later.callback, None)
    return later


def sleep(delay: float, clock: Clock | None = None) -> Deferred[None]:
    """Wait so many seconds: `await sleep(1.5)`.

    Args:     clock: None for `currentReactor()`.
    Returns:  a Deferred that fires with None; cancelling it ends the wait.
    """
    slept = deferLater(currentReactor() if clock is None else clock, delay)
    slept._made_by(sys._getframe(1))
    return slept


def within(seconds: float, awaitable: Awaitable[T], clock: Clock | None = None) -> Deferred[T]:
    """Wait for something, but no longer than that: `line = await within(5, stream.readUntil(b"\\n"))`.

    Args:     seconds: 0 or more.
              awaitable: a coroutine, a Deferred, or anything else that can be awaited here.
              clock: None for `currentReactor()`.
    Returns:  a Deferred for what it gives.
    Raises:   ValueError for seconds below 0 or not finite; TypeError for what cannot be awaited.
    Fails:    defer.TimeoutError, a builtin TimeoutError too, when the time is over: then it is cancelled. What it raises then
              is the error, unless that is CancelledError.
    """
    if not isawaitable(awaitable):
        raise TypeError(f"what is waited for must be awaitable, not {awaitable!r}")
    # Why the second: a whole number may be too large for a clock.
    if not 0 <= seconds < _FOR_EVER or seconds > sys.float_info.max:
        if iscoroutine(awaitable):
            awaitable.close()  # Why: Python would warn that it was never awaited, besides.
        raise ValueError(f"seconds must be a finite number, 0 or more, not {seconds!r}")
    if isinstance(awaitable, Deferred):
        awaited: Deferred[T] = awaitable
    else:
        awaited = resultOf(lambda: awaitable)
        awaited._made_by(sys._getframe(1))
    return awaited.addTimeout(seconds, currentReactor() if clock is None else clock)


def resultOf(function: Callable[..., object], *args: object) -> Deferred[Any]:
    """Call it now; a Deferred of what it returns, or of what that gives if it can be awaited."""
    return Deferred.fromCoroutine(_asked(function, *args))


async def _asked(function: Callable[..., object], *args: object) -> Any:
    result = function(*args)
    return await result if isawaitable(result) else result
