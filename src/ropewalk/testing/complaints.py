"""What user code raises inside the engine, raised once more where a test can see it.

The engine deals with what a callback raises: it logs it, ends the connection, and goes on. That is right for a server, and
wrong for a test, which would pass. So a test's doubles listen to the engine's log while the engine is at work, and raise
afterwards what was logged. The engine has done by then all that it does in the field.

It must never change what the engine does: with the logger "ropewalk" silenced below ERROR, nothing is raised either. Rejected: wrapping each callable that is handed in; then a DelayedCall would not
hold the function that the program asked for, and what protocols and factories raise would not be seen.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Complaints(logging.Handler):
    """Keeps what the engine logs of what user code raised, in one thread."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._thread = threading.get_ident()
        self.raised: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        exc = record.exc_info[1] if record.exc_info else None
        # Why the function's name: only there user code is the one that raised (`Loop.user_error`).
        if exc is None or record.funcName != "user_error" or record.thread != self._thread:
            return
        # Why asked: an error that left a call made within another one is logged twice.
        if not any(each is exc for each in self.raised):
            self.raised.append(exc)


@contextmanager
def user_errors_raised() -> Iterator[None]:
    """Raise at the end the first of what user code raised meanwhile, with a note of the others."""
    log = logging.getLogger("ropewalk")
    complaints = Complaints()
    log.addHandler(complaints)
    try:
        yield
    finally:
        log.removeHandler(complaints)
    if complaints.raised:
        first, *others = complaints.raised
        for each in others:
            first.add_note(f"Then {type(each).__name__} was raised: {each}")
        raise first
