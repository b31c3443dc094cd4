"""Time-outs: Idle closes a connection on which nothing happens, Lifetime one that lasts too long.

Idle notes when something was received or written, and one timer looks at that note when it may have become too old: reading
and writing cost a look at the clock, never a change of the timer. A peer that still takes what was written is not idle, though
nothing is written meanwhile; a page that takes longer than the time-out to send is not cut. Nor is a connection idle while
another layer, inside or outside, holds bytes that will pass when it is time.

Source: twisted.protocols.policies.TimeoutFactory; its names are Idle's other names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ropewalk.failure import Failure
from ropewalk.policies.wrapping import ProtocolWrapper, WrappingFactory, checked_seconds

__all__ = ["Idle", "IdleProtocol", "Lifetime", "LifetimeProtocol", "TimeoutFactory", "TimeoutProtocol"]

# Seconds. Source: Twisted's default.
_HALF_AN_HOUR = 30 * 60
# Seconds that what was written has to leave, when a lifetime is over. Value: enough for a slow line and a page of text.
_GRACE = 10.0


class IdleProtocol(ProtocolWrapper):
    """One connection that must not be idle for long."""

    timeoutPeriod: float | None = None
    _timer: Any = None
    _active = 0.0
    _sent = 0

    def connectionMade(self) -> None:
        self.setTimeout(self.factory.timeoutPeriod)

    def setTimeout(self, timeoutPeriod: float | None = None) -> None:
        """Be idle for so many seconds at most, from now on; None for ever.

        Raises: TypeError, ValueError for what is no number above 0.
        """
        if timeoutPeriod is not None:
            checked_seconds("timeoutPeriod", timeoutPeriod)
        self.cancelTimeout()
        # Why asked: when the connection is over, the protocol is no longer inside, and nothing is to be waited for.
        if timeoutPeriod is not None and self.wrappedProtocol is not None:
            self.timeoutPeriod = timeoutPeriod
            self.resetTimeout()
            self._wait(self.timeoutPeriod)

    def cancelTimeout(self) -> None:
        """Be idle for as long as you like."""
        self.timeoutPeriod = None
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def resetTimeout(self) -> None:
        """Something happens: idleness begins anew."""
        self._active = self.clock.seconds()

    def timeoutFunc(self) -> None:
        """It was idle for too long: close. Override it to do something else."""
        self.loseFor(f"idle for {self.timeoutPeriod:g} s")

    def _wait(self, seconds: float) -> None:
        self._sent = getattr(self.transport, "bytesSent", 0)
        self._timer = self.clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        period = self.timeoutPeriod
        if period is None:
            return
        left = self._active + period - self.clock.seconds()
        if left > 0:
            self._wait(left)
            return
        transport = self.transport
        is_sending = getattr(transport, "bytesBuffered", 0) and transport.bytesSent != self._sent
        if is_sending or self._is_held_back():
            self._wait(period)
        else:
            self.timeoutFunc()

    def _is_held_back(self) -> bool:
        """Whether any layer of this connection holds what will pass by itself."""
        outermost: ProtocolWrapper = self
        while isinstance(outermost.transport, ProtocolWrapper):
            outermost = outermost.transport
        return outermost.isWaiting

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.resetTimeout()
        self.transport.write(data)

    def writeSequence(self, data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several pieces, as `write` does; that is no idleness."""
        self.resetTimeout()
        self.transport.writeSequence(data)

    def stirInside(self, held: int) -> None:
        self.resetTimeout()
        super().stirInside(held)

    def dataReceived(self, data: bytes) -> None:
        self.resetTimeout()
        self.wrappedProtocol.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:
        self.cancelTimeout()
        super().connectionLost(reason)


class Idle(WrappingFactory):
    """Close connections on which nothing is received or written for a while.

    Args:   wrappedFactory: any factory.
            timeoutPeriod: seconds.
    Fails:  the protocol's connectionLost, with ConnectionDone whose text says that it was idle. What was written is sent
            before, within the transport's `closeTimeout`.
    Source: twisted.protocols.policies.TimeoutFactory.
    """

    protocol = IdleProtocol

    def __init__(self, wrappedFactory: Any, timeoutPeriod: float = _HALF_AN_HOUR) -> None:
        super().__init__(wrappedFactory)
        self.timeoutPeriod = checked_seconds("timeoutPeriod", timeoutPeriod)


TimeoutFactory = Idle
TimeoutProtocol = IdleProtocol


class LifetimeProtocol(ProtocolWrapper):
    """One connection that must end in time."""

    _timer: Any = None

    def connectionMade(self) -> None:
        self._timer = self.clock.callLater(self.factory.seconds, self._is_over)

    def _is_over(self) -> None:
        self._timer = self.clock.callLater(self.factory.grace, self._is_too_late)
        self.loseFor(f"its lifetime of {self.factory.seconds:g} s is over")

    def _is_too_late(self) -> None:
        self.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        super().connectionLost(reason)


class Lifetime(WrappingFactory):
    """Close connections that last too long, however busy they are.

    Args:   wrappedFactory: any factory.
            seconds: from connected to closed.
            grace: seconds more that what was written has to leave; then it is aborted.
    Fails:  the protocol's connectionLost, with ConnectionDone, or ConnectionAborted after the grace, whose text says so.
    """

    protocol = LifetimeProtocol

    def __init__(self, wrappedFactory: Any, seconds: float, grace: float = _GRACE) -> None:
        super().__init__(wrappedFactory)
        self.seconds = checked_seconds("seconds", seconds)
        self.grace = checked_seconds("grace", grace)
