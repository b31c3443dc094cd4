"""Cooperator: long work in small steps, which share the thread with each other and with everything else.

A task is an iterator; one `next` is one step of its work. The Cooperator takes the tasks in turns until its time is
up, then lets the loop go on, and asks for another turn as long as there are tasks. A task that yields a Deferred
rests until it has fired; one that is paused rests until it is resumed.

It must never know a reactor: it is given who decides that the time is up, and who calls later.
Why a slice of real time, on a simulated host too: it bounds how long the others wait, which is real. For a test that
  is to be the same each time, give `lambda: lambda: True`: one step in each turn.
Rule: SystemExit and KeyboardInterrupt of a task end it like any other error, and leave all the same.
Source: twisted.internet.task, whose order of turns is kept.
"""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from ropewalk.defer import Deferred
from ropewalk.failure import Failure
from ropewalk.task.later import currentReactor

Work = TypeVar("Work", bound=Iterator[object])

# Seconds that one turn of a Cooperator may take. Source: Twisted's, which users' steps are made for.
SLICE = 0.01


class SchedulerError(Exception):
    """The scheduler, or the task, is in no state to do that."""


class SchedulerStopped(SchedulerError):
    """The Cooperator was stopped, and the task with it."""


class TaskFinished(SchedulerError):
    """The task is over."""


class TaskDone(TaskFinished):
    """The task has come to its end."""


class TaskStopped(TaskFinished):
    """The task was stopped."""


class TaskFailed(TaskFinished):
    """The task has raised an exception."""


class NotPaused(SchedulerError):
    """A task was resumed that is not paused."""


def _slice() -> Callable[[], bool]:
    end = time.monotonic() + SLICE
    return lambda: time.monotonic() >= end


def _call_soon(callable: Callable[[], object]) -> Any:
    return currentReactor().callLater(0, callable)


class CooperativeTask(Generic[Work]):
    """One iterator's work in a Cooperator; made by `Cooperator.cooperate`."""

    def __init__(self, iterator: Work, cooperator: Cooperator) -> None:
        self._iterator = iterator
        self._cooperator = cooperator
        self._waiting: list[Deferred[Work]] = []
        self._pauses = 0
        self._over: type[SchedulerError] | None = None
        self._result: Work | Failure | None = None
        cooperator._add(self)

    def whenDone(self) -> Deferred[Work]:
        """Returns:  a Deferred that fires with the iterator when it has come to its end.

        Fails:    with what it raised; TaskStopped, SchedulerStopped.
        """
        done: Deferred[Work] = Deferred()
        done._made_by(sys._getframe(1))
        if self._result is None:
            self._waiting.append(done)
        else:
            done.callback(self._result)
        return done

    def pause(self) -> None:
        """Rest until `resume` was called as often as this. Raises: TaskFinished."""
        self._check()
        self._pauses += 1
        if self._pauses == 1:
            self._cooperator._remove(self)

    def resume(self) -> None:
        """Undo one `pause`. Raises: NotPaused."""
        if not self._pauses:
            raise NotPaused("this task is not paused")
        self._pauses -= 1
        if not self._pauses and self._over is None:
            self._cooperator._add(self)

    def stop(self) -> None:
        """End it here. Raises: TaskFinished.  Order: who waits for it is told TaskStopped before this returns."""
        self._check()
        self._finish(TaskStopped, Failure(TaskStopped()))

    def _check(self) -> None:
        if self._over is not None:
            raise self._over(f"this task is over: {self._over.__doc__}")

    def _finish(self, over: type[SchedulerError], result: Work | Failure) -> None:
        self._over = over
        self._result = result
        # Why before anybody is told: they may do anything with this and other tasks.
        if not self._pauses:
            self._cooperator._remove(self)
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(result)

    def _step(self) -> None:
        try:
            result = next(self._iterator)
        except StopIteration:
            self._finish(TaskDone, self._iterator)
        except (SystemExit, KeyboardInterrupt) as exc:
            self._finish(TaskFailed, Failure(exc))
            raise
        except BaseException as exc:
            self._finish(TaskFailed, Failure(exc))
        else:
            if isinstance(result, Deferred):
                self.pause()
                result.addCallbacks(lambda _: self.resume(), self._failed)

    def _failed(self, failure: Failure) -> Failure | None:
        if self._over is not None:
            return failure  # nobody is told of it here any more
        self._finish(TaskFailed, failure)
        return None


class Cooperator:
    """Takes tasks in turns.

    Args:   terminationPredicateFactory: called at the begin of each turn; what it returns is called after each step,
                and ends the turn by returning true. By default a turn takes 10 ms.
            scheduler: called with a callable to be called soon; what it returns can be cancelled. By default
                `currentReactor().callLater(0, …)`.
            started: whether tasks are worked on before `start`.
    """

    def __init__(
        self,
        terminationPredicateFactory: Callable[[], Callable[[], bool]] = _slice,
        scheduler: Callable[[Callable[[], None]], Any] = _call_soon,
        started: bool = True,
    ) -> None:
        self._predicate = terminationPredicateFactory
        self._scheduler = scheduler
        self._started = started
        self._stopped = False
        self._tasks: list[CooperativeTask[Any]] = []
        self._next = 0  # whose turn it is
        self._call: Any = None

    @property
    def running(self) -> bool:
        """Whether it is started and not stopped."""
        return self._started and not self._stopped

    def cooperate(self, iterator: Work) -> CooperativeTask[Work]:
        """Work on an iterator until its end. Returns: its task, not begun yet."""
        return CooperativeTask(iterator, self)

    def coiterate(self, iterator: Work, doneDeferred: Deferred[Work] | None = None) -> Deferred[Work]:
        """`cooperate(iterator).whenDone()`, or that Deferred fired in its stead."""
        done: Deferred[Work] = Deferred() if doneDeferred is None else doneDeferred
        CooperativeTask(iterator, self).whenDone().chainDeferred(done)
        return done

    def start(self) -> None:
        """Begin, or begin again after `stop`."""
        self._stopped = False
        self._started = True
        self._ask_for_a_turn()

    def stop(self) -> None:
        """Stop, and forget all tasks: who waits for them is told SchedulerStopped. New tasks fail with the same."""
        self._stopped = True
        for task in list(self._tasks):
            if task._over is None:  # one that was told may have ended others
                task._finish(SchedulerStopped, Failure(SchedulerStopped()))

    def _add(self, task: CooperativeTask[Any]) -> None:
        self._tasks.append(task)
        if self._stopped:
            task._finish(SchedulerStopped, Failure(SchedulerStopped()))
        else:
            self._ask_for_a_turn()

    def _remove(self, task: CooperativeTask[Any]) -> None:
        self._tasks.remove(task)
        if not self._tasks and self._call is not None:
            self._call.cancel()
            self._call = None

    def _ask_for_a_turn(self) -> None:
        if self._started and self._call is None and self._tasks:
            self._call = self._scheduler(self._turn)

    def _turn(self) -> None:
        self._call = None
        is_over = self._predicate()
        try:
            while self._tasks:
                while self._next < len(self._tasks):
                    task = self._tasks[self._next]
                    self._next += 1
                    task._step()
                    if is_over():
                        return
                self._next = 0
        finally:
            self._ask_for_a_turn()


# One for each reactor: what one thread's reactor works on is no business of another's.
_of_reactors: weakref.WeakKeyDictionary[Any, Cooperator] = weakref.WeakKeyDictionary()


def _shared() -> Cooperator:
    reactor = currentReactor()
    found = _of_reactors.get(reactor)
    if found is None:
        there = weakref.ref(reactor)
        # Why weakly: the table would keep what it is to forget.
        found = _of_reactors[reactor] = Cooperator(scheduler=lambda turn: there().callLater(0, turn))  # type: ignore[union-attr]
    return found


def cooperate(iterator: Work) -> CooperativeTask[Work]:
    """`Cooperator.cooperate` with the one that all users of `currentReactor()` share."""
    return _shared().cooperate(iterator)


def coiterate(iterator: Work) -> Deferred[Work]:
    """`cooperate(iterator).whenDone()`."""
    return _shared().coiterate(iterator)
