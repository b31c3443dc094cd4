"""Health checks: each target of a balancer is asked every so many seconds whether it is well.

    checks = HealthChecks(balancer, 2)
    checks.startService()
    ...
    checks.stopService()

Asking is connecting, unless you say otherwise: `health` may speak with the target, and its answer counts. A target that does not
answer well is down, and is asked on; with the first good answer it is up. Between two checks the balancer's own connections
give marks too, so a target that dies is known by the first connect that fails.

The mark of a check lasts a little longer than until the next one; so if the checks are stopped, no target stays down for good.
It must never know how a balancer chooses. Rejected: so many good or bad answers in a row (HAProxy's `rise` and `fall`). As
down is a rank and not a ban here, one lost packet costs nobody a connection.
Source: HAProxy, `check inter`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ropewalk import defer
from ropewalk.balancing import Balancer, Target
from ropewalk.defer import CancelledError, Deferred
from ropewalk.endpoints import connectProtocol
from ropewalk.error import ConnectingCancelledError
from ropewalk.failure import Failure
from ropewalk.protocol import Protocol
from ropewalk.service import Service
from ropewalk.task import LoopingCall
from ropewalk.task.later import resultOf

__all__ = ["HealthChecks", "accepts"]

# Intervals that the mark of a check lasts: the next may come late by its whole time-out.
_LASTS = 3


# How a check ends that took too long; an endpoint whose own time was over says so in a ConnectError, which is better.
CALLED_OFF = (CancelledError, ConnectingCancelledError, defer.TimeoutError)


class Knock(Protocol):
    """Goes away as soon as somebody has opened."""

    def connectionMade(self) -> None:
        self.transport.loseConnection()


async def accepts(endpoint: Any) -> bool:
    """The plain check: whether it can be connected to."""
    await connectProtocol(endpoint, Knock())
    return True


class HealthChecks(Service):
    """A service that asks each target of a balancer for its health.

    Args:   balancer: is told what came of it.
            seconds: between two checks of a target; a check that takes as long has failed.
            health: called with a target's endpoint; a bool, or an awaitable of one. What it raises is a bad answer.
    Raises: ValueError for a number of seconds that is not above 0, TypeError for what is no number.
    """

    def __init__(self, balancer: Balancer, seconds: float, health: Callable[[Any], object] = accepts) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"seconds must be a number above 0, not {seconds!r}")
        if not 0 < seconds < float("inf"):
            raise ValueError(f"seconds must be a number above 0, not {seconds!r}")
        self._balancer = balancer
        self._seconds = seconds
        self._health = health
        self._loops: list[LoopingCall] = []
        # Those that wait for an answer.
        self._asking: dict[Target, Deferred[object]] = {}

    def startService(self) -> None:
        """Ask each target, now and from now on. Nothing happens if it runs."""
        if self.running:
            return
        super().startService()
        for target in self._balancer.targets:
            loop = LoopingCall(self._check, target)
            loop.clock = self._balancer.reactor
            self._loops.append(loop)
            loop.start(self._seconds)

    def stopService(self) -> None:
        """Ask no more; checks under way are called off."""
        super().stopService()
        loops, self._loops = self._loops, []
        for loop in loops:
            # Why asked: what leaves the event loop, as SystemExit does, has ended the loop that it came through.
            if loop.running:
                loop.stop()
        asking, self._asking = self._asking, {}
        for asked in asking.values():
            asked.cancel()

    def _check(self, target: Target) -> Deferred[object]:
        asked = resultOf(self._health, target.endpoint)
        if not asked.called:
            asked.addTimeout(self._seconds, self._balancer.reactor)
            self._asking[target] = asked
            return asked.addBoth(self._answered, target, asked)
        return asked.addBoth(self._checked, target)

    def _answered(self, answer: object, target: Target, asked: Deferred[object]) -> None:
        # Why asked: it may be one that was called off, and went on all the same until after a new start.
        if self._asking.get(target) is asked:
            del self._asking[target]
            self._checked(answer, target)

    def _checked(self, answer: object, target: Target) -> None:
        if not self.running:
            return
        if isinstance(answer, Failure):
            reason = answer.value
            if isinstance(reason, CALLED_OFF):
                reason = TimeoutError(f"no answer within {self._seconds:g} s")
        elif answer:
            self._balancer.answered(target)
            return
        else:
            reason = RuntimeError(f"it answers, but says {answer!r}")
        self._balancer.failed(target, reason.with_traceback(None), _LASTS * self._seconds)
