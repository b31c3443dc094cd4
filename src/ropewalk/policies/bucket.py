"""A token bucket: how soon so many bytes may pass at a rate. No I/O, no timers.

Who wants to pass bytes reserves them, is told after how many seconds they may pass, and takes the tokens then. What others
have reserved counts when that time is told; so who asks first passes first, and several may share one bucket. The tokens
themselves are there or not when they are taken: a program that got no time, and is late with all it has reserved, still passes
no more than `burst + rate * t` in any time t.

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
# Bytes. Why: what is due at a time that floats have rounded must not wait for a time that they cannot tell from it.
_ROUNDING = 1e-6


class Bucket:
    """A rate, and what has passed at it. Give the same one to several layers, and they share it.

    Args:   rate: bytes per second.
            burst: bytes that may pass at once after a pause; None for a tenth of a second's worth.
    Raises: TypeError, ValueError for what is no number above 0.
    """

    __slots__ = ("_reserved", "_time", "_tokens", "burst", "piece", "rate")

    def __init__(self, rate: float, burst: int | None = None) -> None:
        self.rate = checked_number("rate", rate, "bytes per second")
        self.burst = max(1, int(rate * _BURST)) if burst is None else checked_count("burst", burst, "bytes")
        # What is to be reserved at once at most.
        self.piece = max(1, min(self.burst, int(rate * _PIECE)))
        self._tokens = float(self.burst)
        self._reserved = 0
        self._time: float | None = None

    def reserve(self, now: float, count: int) -> float:
        """Get in line. Returns: seconds from now after which so many bytes may be taken; 0 for at once."""
        self._refill(now)
        self._reserved += count
        return self._until(self._reserved)

    def take(self, now: float, count: int) -> float:
        """Let so many reserved bytes pass, if they may. Returns: 0 if they do, else the seconds to wait once more."""
        self._refill(now)
        seconds = self._until(count)
        if not seconds:
            self._tokens -= count
            self._reserved -= count
        return seconds

    def giveBack(self, count: int) -> None:
        """So many reserved bytes will not pass."""
        self._reserved -= count

    def _refill(self, now: float) -> None:
        if self._time is not None:
            self._tokens = min(self.burst, self._tokens + (now - self._time) * self.rate)
        self._time = now

    def _until(self, count: int) -> float:
        missing = count - self._tokens
        return missing / self.rate if missing > _ROUNDING else 0.0

    def __repr__(self) -> str:
        return f"<Bucket {self.rate:g} bytes/s, burst {self.burst}>"
