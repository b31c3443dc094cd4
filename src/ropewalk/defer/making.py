"""Deferreds made of what is there already: a value, an error, a call's outcome, a coroutine.

Each of these counts as made where it was called, so that a report names the user's line and not one in here.
Rule: SystemExit and KeyboardInterrupt raised by a call are let through; they are nobody's result.
This file must never know how callbacks are run; `drive` in deferred.py runs coroutines.
Source: twisted.internet.defer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Generator
from types import CoroutineType, FrameType
from typing import Any, ParamSpec, TypeVar, overload

from ropewalk.defer.deferred import ESCAPING, Deferred, drive, get_frame
from ropewalk.defer.errors import TimeoutError
from ropewalk.defer.reporting import caught
from ropewalk.failure import Failure

T = TypeVar("T")
P = ParamSpec("P")

_new = object.__new__


def _fired(result: Any, frame: FrameType) -> Deferred[Any]:
    """A Deferred that has this result already, counted as made in that frame."""
    deferred: Deferred[Any] = Deferred()
    deferred._made_by(frame)
    deferred.called = True
    deferred.result = result
    if isinstance(result, Failure):
        deferred._run()
    return deferred


def born(made: Deferred[T]) -> Deferred[T]:
    """The Deferred, counted as made where the function that calls this was called; also if it has failed already.

    One that is not ours, as of an endpoint of Twisted's, is left as it is.
    """
    if isinstance(made, Deferred):
        made._made_by(sys._getframe(2))
        if made._unhandled is not None:
            made._unhandled.birth = made._birth()
    return made


def succeed(result: T) -> Deferred[T]:
    """A Deferred that has this result already."""
    # hot: as Deferred.__init__ and callback, without the two calls (benchmarks, row "deferreds").
    deferred: Deferred[T] = _new(Deferred)
    deferred._callbacks = deferred._canceller = deferred._unhandled = None
    deferred.called = True
    deferred.paused = 0
    deferred._running = False
    deferred.result = result
    frame = get_frame(1)
    deferred._code = frame.f_code
    deferred._offset = frame.f_lasti
    if Deferred.debug:
        deferred._stacks = deferred._note("made", frame)
    return deferred


def fail(result: Failure | BaseException | None = None) -> Deferred[Any]:
    """A Deferred that has failed already.

    Args:     result: a Failure, an exception, or None for the exception being handled.
    Raises:   NoCurrentExceptionError for None where no exception is being handled.
    """
    return _fired(result if isinstance(result, Failure) else Failure(result), sys._getframe(1))


def execute(callable: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
    """Call it now; what it returns or raises becomes the result of the Deferred returned."""
    try:
        result: Any = callable(*args, **kwargs)
    except ESCAPING:
        raise
    except BaseException as exc:
        result = caught(exc)
    return _fired(result, sys._getframe(1))


@overload
def maybeDeferred(f: Callable[P, Deferred[T]], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]: ...


@overload
def maybeDeferred(
    f: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
) -> Deferred[T]: ...


@overload
def maybeDeferred(f: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]: ...


def maybeDeferred(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
    """Call it now and give back a Deferred, whether it returned one, a coroutine, a Failure or a value."""
    frame = sys._getframe(1)
    try:
        result = f(*args, **kwargs)
    except ESCAPING:
        raise
    except BaseException as exc:
        result = caught(exc)
    if isinstance(result, Deferred):
        return result
    return drive(result, frame) if isinstance(result, CoroutineType) else _fired(result, frame)


def ensureDeferred(coro: Coroutine[Any, Any, T] | Generator[Any, Any, T] | Deferred[T]) -> Deferred[T]:
    """The Deferred itself, or that of `Deferred.fromCoroutine`.

    Args:     coro: a coroutine, or a generator that yields Deferreds.
    Raises:   NotACoroutineError for anything else.
    """
    return coro if isinstance(coro, Deferred) else drive(coro, sys._getframe(1))


def timeout(deferred: Deferred[Any]) -> None:
    """Fail a Deferred with TimeoutError, as a function to be called later. `Deferred.addTimeout` does more."""
    deferred.errback(TimeoutError("Callback timed out"))


def setDebugging(on: bool) -> None:
    """Whether Deferreds keep the whole stacks of where they are made and fired. It costs much time."""
    Deferred.debug = bool(on)


def getDebugging() -> bool:
    """Whether `setDebugging` is on."""
    return Deferred.debug
