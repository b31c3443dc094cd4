"""Work that takes time: sleeping, calling again and again, sharing the thread, and running a program to its end.

later.py         deferLater, sleep, currentReactor
looping.py       LoopingCall
cooperation.py   Cooperator, CooperativeTask, cooperate, coiterate
running.py       react, run

Built on the public API alone: a clock is anything with `callLater` and `seconds`, a reactor or a clock for tests.
"""

from __future__ import annotations

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
from ropewalk.task.later import currentReactor, deferLater, sleep
from ropewalk.task.looping import LoopingCall
from ropewalk.task.running import react, run

__all__ = [
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
]

# Why: tracebacks show the name by which users import it, and `Failure.check` takes such names.
for _each in (NotPaused, SchedulerError, SchedulerStopped, TaskDone, TaskFailed, TaskFinished, TaskStopped):
    _each.__module__ = __name__
