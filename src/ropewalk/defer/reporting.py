"""What is told of errors: where a Deferred was made, an error that nobody took, a coroutine that was dropped.

An error is reported when the Deferred that holds it goes, not when it arises: somebody may still take it. So a
small object stands beside the error, and speaks when it goes away together with its Deferred; whoever takes the
error tells it to be silent. Each error has one such object at a time, so it is told once, and never lost.

A coroutine goes without having ended when nobody holds what it waits for any more. Its `finally` blocks run, and
nothing else would tell.
Rule: nothing here is done for a Deferred that succeeds.
This file must never know Deferreds, only what it is told of them.
Rejected: `__del__` on Deferred. Python would call it for each one.
Rejected: recording `f_lineno` at birth: finding the line takes a walk over the function's line table. The
  instruction's offset is free, and the line is found from it when it is printed.
Source: PEP 442 (finalizers in a cycle), PEP 626 (line tables), PEP 678 (notes).
"""

from __future__ import annotations

import logging
import sys
from types import CodeType
from typing import Any, NamedTuple

from ropewalk.failure import Failure

logger = logging.getLogger("ropewalk")


class Birth(NamedTuple):
    """Where a Deferred was made: one instruction and, with debugging on, the stacks as text."""

    code: CodeType
    offset: int
    stacks: str

    def __str__(self) -> str:
        found = self.code.co_firstlineno
        for start, end, line in self.code.co_lines():
            if start <= self.offset < end and line is not None:
                found = line
        return f"{self.code.co_filename}:{found}, in {self.code.co_qualname}{self.stacks}"


class Unhandled:
    """Stands beside an error while nobody takes it; logs it when it goes away with the Deferred."""

    __slots__ = ("birth", "failure")

    def __init__(self, failure: Failure, birth: Birth) -> None:
        self.failure: Failure | None = failure
        self.birth = birth

    def __del__(self) -> None:
        failure, self.failure = self.failure, None
        if failure is None:
            return
        value: object = failure.value
        if isinstance(value, BaseException) and not sys.is_finalizing():
            said, info = "", (failure.type, value, failure.tb)
        else:
            # Why: a Failure may be made of anything, and logging prints exceptions only; and it reads the
            # source for that, which an interpreter that goes down cannot do.
            said, info = f"\n{failure.getBriefTraceback()}", None
        logger.error("Unhandled error in a Deferred made at %s%s", self.birth, said, exc_info=info)


def caught(exc: BaseException, given: object = None) -> Failure:
    """A Failure of what the frame that calls this has just caught, without that frame.

    Args:     given: what was being handled. An errback that raises its own error on, as `trap` does, has
                  changed nothing: the Failure stays, without the errback's frame, whose variable would
                  lead back to it.
    """
    if isinstance(given, Failure) and exc is given.value:
        exc.__traceback__ = given.tb
        return given
    seen = exc.__traceback__
    if seen is not None:
        exc.__traceback__ = seen.tb_next
    return Failure(exc)


def note_birth(exc: object, birth: Birth) -> None:
    """Tell in the traceback of an awaited error which was never raised where its Deferred was made.

    Such an error (a cancellation, a time-out, `errback(SomeError())`) has no traceback of its own. It may be
    awaited by many: it is noted once, and an exception that has notes is left as it is.
    """
    if isinstance(exc, BaseException) and getattr(exc, "__notes__", None) is None:
        exc.add_note(f"The Deferred that was awaited was made at {birth}")


def report_dropped(coroutine: Any, started: Birth, waits_for: Birth) -> None:
    """Tell of a coroutine that will never be resumed."""
    code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
    logger.warning(
        "Coroutine %s, started at %s, was dropped: nobody can fire any more the Deferred that it waits for, made at %s",
        getattr(code, "co_qualname", repr(coroutine)),
        started,
        waits_for,
    )
