"""A lane: one direction of one connection, in line at a bucket. It waits for the bucket's time, then wakes whoever has bytes.

Whoever has bytes asks how many may pass now. If none may, the lane has reserved a piece and has a timer; when it fires, the
lane wakes who has asked, who asks again. So a lane has one timer at most, and none when nothing waits.

It must never hold bytes, nor know which direction it is. Rejected: one timer for each bucket, with a list of lanes: a list is
to be kept in order when connections end, and the loop's timers are such a list already.
Source: nginx's limit_rate, which delays each connection by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ropewalk.policies.bucket import Bucket

__all__ = ["Lane"]


class Lane:
    """One direction of one connection: how many bytes may pass now.

    Args: bucket: None for no limit. clock: has seconds and callLater. wake: called when some may pass.
    """

    __slots__ = ("_bucket", "_clock", "_reserved", "_timer", "_wake")

    def __init__(self, bucket: Bucket | None, clock: Any, wake: Callable[[], object]) -> None:
        self._bucket = bucket
        self._clock = clock
        self._wake: Callable[[], object] | None = wake
        self._timer: Any = None
        self._reserved = 0

    def allowed(self, wanted: int) -> int:
        """How many of so many bytes pass now. With 0, `wake` is called when some may."""
        bucket = self._bucket
        if bucket is None or not wanted:
            return wanted
        if self._timer is not None:
            return 0
        now = self._clock.seconds()
        seconds = 0.0
        if not self._reserved:
            self._reserved = min(wanted, bucket.piece)
            seconds = bucket.reserve(now, self._reserved)
        seconds = seconds or bucket.take(now, self._reserved)
        if seconds:
            self._timer = self._clock.callLater(seconds, self._due)
            return 0
        count, self._reserved = self._reserved, 0
        return count

    def rest(self) -> None:
        """Nothing is to pass for now: nobody else is to wait for it."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if self._bucket is not None:
            self._bucket.giveBack(self._reserved)
        self._reserved = 0

    def close(self) -> None:
        """Nothing will pass any more."""
        self.rest()
        self._wake = None

    def _due(self) -> None:
        self._timer = None
        if self._wake is not None:
            self._wake()
