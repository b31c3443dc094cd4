"""Results that come later: Deferred, what makes them, gathers them and waits for them.

deferred.py    Deferred, and the coroutines that await one
making.py      succeed, fail, execute, maybeDeferred, ensureDeferred
inline.py      inlineCallbacks
gathering.py   DeferredList, gatherResults, race
locks.py       DeferredLock, DeferredSemaphore, DeferredQueue
errors.py      every exception of these
reporting.py   what is logged: errors that nobody took, coroutines that were dropped

Built on failure.py alone. This room must never know a reactor, a transport or a thread.
Who imports the engine needs the first two files; the others are loaded when one of their names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ropewalk.defer.deferred import Deferred
from ropewalk.defer.errors import (
    AlreadyCalledError,
    CancelledError,
    FailureGroup,
    FirstError,
    NotACoroutineError,
    QueueOverflow,
    QueueUnderflow,
    TimeoutError,
)
from ropewalk.defer.making import (
    ensureDeferred,
    execute,
    fail,
    getDebugging,
    maybeDeferred,
    setDebugging,
    succeed,
    timeout,
)

if TYPE_CHECKING:
    from ropewalk.defer.gathering import FAILURE, SUCCESS, DeferredList, gatherResults, race
    from ropewalk.defer.inline import inlineCallbacks, returnValue
    from ropewalk.defer.locks import DeferredLock, DeferredQueue, DeferredSemaphore

__all__ = [
    "FAILURE",
    "SUCCESS",
    "AlreadyCalledError",
    "CancelledError",
    "Deferred",
    "DeferredList",
    "DeferredLock",
    "DeferredQueue",
    "DeferredSemaphore",
    "FailureGroup",
    "FirstError",
    "NotACoroutineError",
    "QueueOverflow",
    "QueueUnderflow",
    "TimeoutError",
    "ensureDeferred",
    "execute",
    "fail",
    "gatherResults",
    "getDebugging",
    "inlineCallbacks",
    "maybeDeferred",
    "race",
    "returnValue",
    "setDebugging",
    "succeed",
    "timeout",
]

# Why: tracebacks show the name by which users import it, and `Failure.check` takes such names.
for _each in (
    AlreadyCalledError,
    CancelledError,
    FailureGroup,
    FirstError,
    NotACoroutineError,
    QueueOverflow,
    QueueUnderflow,
    TimeoutError,
):
    _each.__module__ = __name__

LATER = {
    "gathering": ("FAILURE", "SUCCESS", "DeferredList", "gatherResults", "race"),
    "inline": ("inlineCallbacks", "returnValue"),
    "locks": ("DeferredLock", "DeferredQueue", "DeferredSemaphore"),
}


def __getattr__(name: str) -> Any:
    """The names of the files that are not loaded yet."""
    for file, names in LATER.items():
        if name in names:
            module = import_module(f"{__name__}.{file}")
            globals().update({each: getattr(module, each) for each in names})
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
