"""A token bucket: how soon so many bytes may pass at a rate. No I/O, no timers.

Who wants to pass bytes reserves them, and is told after how many seconds they may pass. Reserving takes the tokens at once,
also those that are not there yet; so who asks first passes first, several may share one bucket, and what passes in any time t
is never more than `burst + rate * t`.

It must never know the clock: each call brings the time. Rejected: a tick that refills all buckets, as in Twisted's throttling
by the second: a burst at each tick, and a timer where nothing happens.
Source: RFC 2697; nginx's limit_rate passes pieces in the same way.
"""

from __future__ import annotations

from ropewalk.policies.wrapping import checked_count, checked_number

__all__ = ["Bucket"]

# Seconds' worth of bytes that pass at once after a pause, unless told otherwise.
_BURST = 0.1
# Seconds' worth of bytes that pass in one piece. Value: 20 pieces a second are smooth to any reader, and cheap.
_PIECE = 0.05


class Bucket:
    """A rate, and what has passed at it. Give the same one to several layers, and they share it.

    Args:   rate: bytes per second.
            burst: bytes that may pass at once after a pause; None for a tenth of a second's worth.
    Raises: TypeError, ValueError for what is no number above 0.
    """

    __slots__ = ("_time", "_tokens", "burst", "piece", "rate")

    def __init__(self, rate: float, burst: int | None = None) -> None:
        self.rate = checked_number("rate", rate, "bytes per second")
        self.burst = max(1, int(rate * _BURST)) if burst is None else checked_count("burst", burst, "bytes")
        # What is to be reserved at once at most.
        self.piece = max(1, min(self.burst, int(rate * _PIECE)))
        self._tokens = float(self.burst)
        self._time: float | None = None

    def reserve(self, now: float, count: int) -> float:
        """Take so many bytes' tokens. Returns: seconds from now after which these may pass; 0 for at once."""
        if self._time is not None:
            self._tokens = min(self.burst, self._tokens + (now - self._time) * self.rate)
        self._time = now
        self._tokens -= count
        return max(0.0, -self._tokens / self.rate)

    def giveBack(self, count: int) -> None:
        """So many reserved bytes will not pass."""
        self._tokens += count

    def __repr__(self) -> str:
        return f"<Bucket {self.rate:g} bytes/s, burst {self.burst}>"
