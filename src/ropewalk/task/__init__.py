"""Work that takes time: sleeping, calling again and again, sharing the thread, and running a program to its end.

later.py         deferLater, sleep, within, currentReactor
looping.py       LoopingCall
cooperation.py   Cooperator, CooperativeTask, cooperate, coiterate
running.py       react, run

Built on the public API alone: a clock is anything with `callLater` and `seconds`, a reactor or a clock for tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ropewalk.task.cooperation import (
    CooperativeTask,
    Cooperator,
    NotPaused,
    SchedulerError,
    SchedulerStopped,
    TaskDone,
    TaskFailed,
    TaskFinished,
    TaskStopped,
    coiterate,
    cooperate,
)
from ropewalk.task.later import currentReactor, deferLater, sleep, within
from ropewalk.task.looping import LoopingCall
from ropewalk.task.running import react, run

if TYPE_CHECKING:
    from ropewalk.testing.clock import Clock

__all__ = [
    "Clock",
    "CooperativeTask",
    "Cooperator",
    "LoopingCall",
    "NotPaused",
    "SchedulerError",
    "SchedulerStopped",
    "TaskDone",
    "TaskFailed",
    "TaskFinished",
    "TaskStopped",
    "coiterate",
    "cooperate",
    "currentReactor",
    "deferLater",
    "react",
    "run",
    "sleep",
    "within",
]

# Why: tracebacks show the name by which users import it, and `Failure.check` takes such names.
for _each in (NotPaused, SchedulerError, SchedulerStopped, TaskDone, TaskFailed, TaskFinished, TaskStopped):
    _each.__module__ = __name__


def __getattr__(name: str) -> Any:
    """`Clock`, which is one of the doubles for tests, and loaded only by who asks for it."""
    if name == "Clock":
        from ropewalk.testing.clock import Clock

        return Clock
    raise AttributeError(f"module 'ropewalk.task' has no attribute {name!r}")
