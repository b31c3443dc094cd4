"""Every exception of this room: what a Deferred fails with, and what is raised at who misuses one.

The names are Twisted's, and so is what each can be caught as; TimeoutError is also the builtin one. They carry
what is needed to tell them apart, and nothing that leads back to a Deferred: an exception lives as long as
anybody's traceback.
This file must never know Deferreds.
Source: twisted.internet.defer.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from ropewalk.failure import Failure


class AlreadyCalledError(Exception):
    """A Deferred was fired a second time."""


class CancelledError(Exception):
    """What a cancelled Deferred fails with, unless its canceller fired it otherwise."""


class TimeoutError(builtins.TimeoutError):
    """What a Deferred fails with when its `addTimeout` ran out.

    Args:   timeout: the seconds that were given; or the whole text.
            what: the kind of thing that was waited for.
    """

    def __init__(self, timeout: float | str | None = None, what: str = "Deferred") -> None:
        # Why not OSError's own: it would take the seconds for an errno.
        Exception.__init__(self, timeout, what)

    def __str__(self) -> str:
        if isinstance(self.args[0], str):  # a text of somebody's own, as Twisted's takes it
            return self.args[0]
        return f"{self.args[1]} had no result within {self.args[0]} seconds"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args


class NotACoroutineError(TypeError):
    """A coroutine was asked for and something else was given."""


class FirstError(Exception):
    """One of several has failed, and that is all that counts: see DeferredList and gatherResults.

    Args:   failure: what it failed with; kept as `subFailure`.
            index: which of them it was.
    """

    def __init__(self, failure: Failure, index: int) -> None:
        super().__init__(failure, index)
        self.subFailure = failure
        self.index = index

    def __repr__(self) -> str:
        return f"FirstError[#{self.index}, {self.subFailure.value!r}]"

    def __str__(self) -> str:
        return f"FirstError[#{self.index}, {self.subFailure}]"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FirstError):
            return NotImplemented
        return (self.index, self.subFailure) == (other.index, other.subFailure)

    __hash__ = Exception.__hash__


class FailureGroup(Exception):
    """All who took part in a race have failed; `failures` tells with what, in their order."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        super().__init__(failures)
        self.failures = failures

    def __str__(self) -> str:
        return "; ".join(repr(failure.value) for failure in self.failures)


class QueueOverflow(Exception):
    """`put` into a DeferredQueue that is full."""


class QueueUnderflow(Exception):
    """`get` from a DeferredQueue for which as many wait as may."""
