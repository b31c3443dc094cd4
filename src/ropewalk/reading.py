"""What reading may come to, and waiting for it: the errors of streams.py, and who waits for one thing at a time.

It must never know bytes that come, nor connections; that is streams.py. Source: asyncio's IncompleteReadError and
LimitOverrunError, which carry the same.
"""

from __future__ import annotations

from ropewalk.defer import Deferred


class IncompleteRead(EOFError):
    """The connection ended in the middle of what was to be read.

    Args:   partial: what came of it.
            wanted: how many bytes were, or None where a separator was looked for.
    """

    def __init__(self, partial: bytes, wanted: int | None) -> None:
        what = "the separator" if wanted is None else f"{wanted} bytes"
        super().__init__(f"the connection ended after {len(partial)} bytes, before {what} had come")
        self.partial = partial
        self.wanted = wanted


class LimitExceeded(ValueError):
    """There was no separator within the limit. What came stays in the buffer.

    Args: limit: bytes, the separator included.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"no separator within {limit} bytes")
        self.limit = limit


class Waiter:
    """Somebody who waits for one thing, one at a time; woken, or cancelled."""

    __slots__ = ("_deferred", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._deferred: Deferred[None] | None = None

    def wait(self) -> Deferred[None]:
        """A Deferred that fires at the next `wake`. Raises: RuntimeError if somebody waits already."""
        if self._deferred is not None:
            raise RuntimeError(f"{self._what} is awaited already, and has not come")
        waiting: Deferred[None] = Deferred(self._cancelled)
        self._deferred = waiting
        return waiting

    def wake(self) -> None:
        deferred, self._deferred = self._deferred, None
        if deferred is not None:
            deferred.callback(None)

    def _cancelled(self, deferred: Deferred[None]) -> None:
        self._deferred = None
