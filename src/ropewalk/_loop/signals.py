"""SIGINT and SIGTERM stop a running reactor; whatever handled them before is put back afterwards.

Python runs signal handlers in the main thread, between two bytecodes. If the kernel gives the signal to another thread,
the main one sleeps on in its poller: `signal.set_wakeup_fd` lets the C-level handler write to the loop's waker, so the
wait ends whichever thread was hit. The byte's value means nothing (FAULTS E5), and a full waker is an awake loop, so
Python is told not to warn of it.

SIGINT is taken over only where Python's own handler (KeyboardInterrupt) is in place: a program that set its own means it.
Source: CPython, Doc/library/signal, set_wakeup_fd.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any


class Signals:
    """The signal handlers of one running reactor."""

    __slots__ = ("_before", "_on_signal", "_wakeup_before")

    def __init__(self, on_signal: Callable[[int], None]) -> None:
        self._on_signal = on_signal
        self._before: dict[int, Any] = {}
        self._wakeup_before: int | None = None

    def install(self, wakeup_fileno: int) -> None:
        """Raises: ValueError outside the main thread, where Python allows no signal handlers."""
        if threading.current_thread() is not threading.main_thread():
            raise ValueError(
                f"signal handlers can be installed in the main thread only, this is {threading.current_thread().name!r}"
                "; use run(installSignalHandlers=False) here"
            )
        wanted = [signal.SIGTERM]
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            wanted.append(signal.SIGINT)
        if hasattr(signal, "SIGBREAK"):  # Windows
            wanted.append(signal.SIGBREAK)
        for number in wanted:
            self._before[number] = signal.signal(number, self._handle)
        self._wakeup_before = signal.set_wakeup_fd(wakeup_fileno, warn_on_full_buffer=False)

    def let_wake(self, wakeup_fileno: int) -> None:
        """Without handlers of ours: let any signal end the wait, so that a KeyboardInterrupt is raised at once.

        Why: one that comes just before the wait begins does not interrupt it, nor does one that hits another thread.
        Nothing is done outside the main thread, or where somebody else is woken already.
        """
        if threading.current_thread() is threading.main_thread() and wakeup_fileno >= 0:
            before = signal.set_wakeup_fd(wakeup_fileno, warn_on_full_buffer=False)
            if before == -1:
                self._wakeup_before = before
            else:
                signal.set_wakeup_fd(before)

    def _handle(self, number: int, frame: object) -> None:
        self._on_signal(number)

    def restore(self) -> None:
        for number, handler in self._before.items():
            # Why the default for None: None is a handler that was not set from Python, which it cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()
        if self._wakeup_before is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            self._wakeup_before = None
