"""inlineCallbacks: a generator that yields Deferreds, written like a function that blocks.

It is the way from before `async def`, and is driven by the same Driver as a coroutine: what holds for `await`
(contextvars, cancellation, tracebacks, a report when it is dropped) holds for `yield` here. In addition a
generator may yield what is no Deferred, and gets it back; or another generator or coroutine, which is run to its
end.
This file must never know how a generator is resumed; see Driver in deferred.py.
Source: twisted.internet.defer; PEP 342.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Generator
from types import GeneratorType
from typing import Any, NoReturn, ParamSpec, TypeVar

from ropewalk.defer.deferred import Deferred, Returned, drive

T = TypeVar("T")
P = ParamSpec("P")


def inlineCallbacks(f: Callable[P, Generator[Any, Any, T]]) -> Callable[P, Deferred[T]]:
    """Make a function whose body yields Deferreds return a Deferred for what the body returns.

    Args:     f: a generator function. `yield deferred` gives the Deferred's result, or raises its error.
    Returns:  the function; each call gives a Deferred, counted as made where it was called.
    Raises:   by the function: TypeError if `f` makes no generator.
    Order:    the body runs up to its first wait before the call returns.
    """

    @functools.wraps(f)
    def call(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        try:
            generator = f(*args, **kwargs)
        except Returned:
            raise TypeError(f"{f!r} calls returnValue, but is no generator: it has no yield") from None
        if not isinstance(generator, GeneratorType):
            raise TypeError(f"inlineCallbacks needs a generator function; {f!r} returned {generator!r}")
        return drive(generator, sys._getframe(1))

    return call


def returnValue(val: object) -> NoReturn:
    """`return val`, for generators written when that was no Python."""
    raise Returned(val)
