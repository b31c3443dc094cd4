"""Several Deferreds as one: all of them, or the first.

DeferredList fires when all have fired, or with the first value or error; gatherResults is the one most often
wanted: the values in order, or the first error. race takes the first value and cancels the others.

None of these owns what it was given: each adds one callback to each Deferred, and sees what is in the chain
there. DeferredList leaves the results in place unless told to consume errors, so errors that it only listed are
reported by their own Deferreds too.
This file must never know how callbacks are run: it is built on the public API of Deferred alone.
Rejected: a DeferredList of slots; it is one object for many, and users give it names.
Source: twisted.internet.defer.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar, overload

from ropewalk.defer.deferred import ESCAPING, Deferred
from ropewalk.defer.errors import FailureGroup, FirstError
from ropewalk.failure import Failure

T = TypeVar("T")
R = TypeVar("R")

logger = logging.getLogger("ropewalk")

SUCCESS = True
FAILURE = False


class DeferredList(Deferred[R]):
    """Fires when all the Deferreds have fired: a list of (success, result), in their order.

    `resultList` has None for those that have not fired yet, `finishedCount` how many have.

    Args:     deferredList: the Deferreds, at least one if `fireOnOneCallback` (with none it would never fire).
              fireOnOneCallback: fire with the first value: (result, index).
              fireOnOneErrback: fail with the first error: FirstError.
              consumeErrors: errors become None in the Deferreds themselves, so that nobody reports them.
    Order:    with no Deferred, or if all have fired, it has fired when this returns.
    """

    @overload
    def __init__(
        self: DeferredList[tuple[T, int]],
        deferredList: Iterable[Deferred[T]],
        fireOnOneCallback: Literal[True],
        fireOnOneErrback: bool = False,
        consumeErrors: bool = False,
    ) -> None: ...

    @overload
    def __init__(
        self: DeferredList[list[tuple[bool, T]]],
        deferredList: Iterable[Deferred[T]],
        fireOnOneCallback: Literal[False] = False,
        fireOnOneErrback: bool = False,
        consumeErrors: bool = False,
    ) -> None: ...

    def __init__(
        self,
        deferredList: Iterable[Deferred[Any]],
        fireOnOneCallback: bool = False,
        fireOnOneErrback: bool = False,
        consumeErrors: bool = False,
    ) -> None:
        super().__init__()
        self._made_by(sys._getframe(1))
        self._deferreds = list(deferredList)
        self.resultList: list[Any] = [None] * len(self._deferreds)
        self.finishedCount = 0
        self.fireOnOneCallback = fireOnOneCallback
        self.fireOnOneErrback = fireOnOneErrback
        self.consumeErrors = consumeErrors
        if not self._deferreds and not fireOnOneCallback:
            self.callback(self.resultList)  # type: ignore[arg-type]
        for index, deferred in enumerate(self._deferreds):
            deferred.addCallbacks(self._one, self._one, (index, SUCCESS), None, (index, FAILURE))

    def _one(self, result: Any, index: int, succeeded: bool) -> Any:
        self.resultList[index] = (succeeded, result)
        self.finishedCount += 1
        if not self.called:
            outcome: Any
            if succeeded and self.fireOnOneCallback:
                outcome = (result, index)
                self.callback(outcome)
            elif not succeeded and self.fireOnOneErrback:
                self.errback(FirstError(result, index))
            elif self.finishedCount == len(self.resultList):
                outcome = self.resultList
                self.callback(outcome)
        return None if self.consumeErrors and not succeeded else result

    def cancel(self) -> None:
        """Cancel each of the Deferreds. Once it has fired: what its own callbacks wait for.

        Fails:    with what they make of it: a list of errors, or FirstError.
        """
        if self.called:
            super().cancel()
            return
        leaving: BaseException | None = None
        for deferred in self._deferreds:
            try:
                deferred.cancel()
            except ESCAPING as exc:
                leaving = exc
            except BaseException as exc:
                logger.error("A canceller raised while a list of Deferreds was cancelled", exc_info=exc)
        if leaving is not None:
            raise leaving


def gatherResults(deferredList: Iterable[Deferred[T]], consumeErrors: bool = False) -> Deferred[list[T]]:
    """All the values, in order.

    Args:     consumeErrors: errors become None in the Deferreds themselves, so that nobody reports them.
    Returns:  a Deferred for the list; cancelling it cancels each of them.
    Fails:    FirstError with the first error; the others are not waited for.
    """
    gathered = DeferredList(deferredList, fireOnOneErrback=True, consumeErrors=consumeErrors)
    gathered._made_by(sys._getframe(1))
    return gathered.addCallback(lambda results: [result for _, result in results])


def race(ds: Sequence[Deferred[T]]) -> Deferred[tuple[int, T]]:
    """The first value, with the index of whose it is; the others are cancelled.

    Args:     ds: at least one; a race of none never ends.
    Returns:  a Deferred; cancelling it cancels all of them.
    Fails:    FailureGroup if all have failed.
    Order:    the others are cancelled before it fires. All results are used up: each Deferred goes on with None.
    """
    runners = list(ds)
    failures: dict[int, Failure] = {}
    won = False

    def cancel(final: Deferred[Any]) -> None:
        for runner in runners:
            runner.cancel()

    def succeeded(result: T, index: int) -> None:
        nonlocal won
        if won:
            return  # cancelled, and has a value all the same
        won = True
        for runner in runners:
            if runner is not runners[index]:
                runner.cancel()
        if not final.called:
            final.callback((index, result))

    def failed(failure: Failure, index: int) -> None:
        failures[index] = failure
        if len(failures) == len(runners) and not final.called:
            final.errback(FailureGroup([failures[each] for each in sorted(failures)]))

    final: Deferred[tuple[int, T]] = Deferred(cancel)
    final._made_by(sys._getframe(1))
    for index, runner in enumerate(runners):
        runner.addCallbacks(succeeded, failed, (index,), None, (index,))
    return final
