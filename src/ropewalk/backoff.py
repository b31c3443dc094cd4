"""How long to wait before the next attempt, as a value: exponential, capped, uneven, and fast at first.

The n-th wait is at most `initialDelay * factor ** (n - 1)`, and never above `maxDelay`. The first is drawn from nothing up to
that, so that who has lost a connection is back soon; a later one from the half of it. Why uneven at all: a server that comes
back would be met by all of its clients in the same instant, again and again.

Chance is the reactor's (`Reactor.random`), so that in a simulation its seed decides. A policy may be shared by services of
several reactors; it holds none, and is told whose chance to draw from each time.

It must never wait, nor know what is retried. Rejected: the full range for every wait, which lets some clients hammer a server
that is down. Source: twisted.application.internet.backoffPolicy, where `initialDelay` is the first wait by its words, and is
multiplied with the factor once by its code; ours is as the words say.
"""

from __future__ import annotations

import logging
import random as python_random
from collections.abc import Callable
from math import inf, isfinite
from typing import Any

__all__ = ["Backoff", "backoffPolicy"]

_log = logging.getLogger("ropewalk")


def usable_seconds(seconds: Any, what: str, least: float = 0.0) -> float:
    """What a user's function gave. Raises: ValueError unless it is a finite number, and not below that."""
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if is_number and isfinite(seconds) and seconds >= least:
        return float(seconds)
    bounds = "" if least == -inf else f", {least:g} or more"
    raise ValueError(f"{what} must give a finite number of seconds{bounds}, not {seconds!r}")


class Backoff:
    """A policy of retrying: called with the number of failures in a row, it says the seconds to wait."""

    def __init__(
        self, initialDelay: float, maxDelay: float, factor: float, jitter: Callable[[], float] | None
    ) -> None:
        # Why so: what is no number compares with nothing.
        if not (0 <= initialDelay < inf and 0 <= maxDelay < inf and 1 <= factor < inf):
            raise ValueError(
                f"no such back-off: {initialDelay=}, {maxDelay=}, {factor=}; delays are 0 or more, a factor 1 or more"
            )
        self.initialDelay = initialDelay
        self.maxDelay = maxDelay
        self.factor = factor
        self.jitter = jitter

    def __call__(self, attempt: int) -> float:
        """Seconds to wait after so many failures in a row, by Python's own chance."""
        return self.draw(attempt, python_random)

    def most(self, attempt: int) -> float:
        """Seconds, before they are made uneven."""
        try:
            return min(self.maxDelay, self.initialDelay * self.factor ** max(0, attempt - 1))
        except OverflowError:
            return self.maxDelay

    def draw(self, attempt: int, random: Any) -> float:
        """Seconds to wait.

        Args: attempt: failures in a row, from 1. random: has `random()`, from 0 to 1.
        """
        most = self.most(attempt)
        if self.jitter is not None:
            return max(0.0, most + usable_seconds(self.jitter(), "jitter", -inf))
        least = 0.0 if attempt <= 1 else most / 2
        drawn: float = least + (most - least) * random.random()
        return drawn


def backoffPolicy(
    initialDelay: float = 1.0,
    maxDelay: float = 60.0,
    factor: float = 1.5,
    jitter: Callable[[], float] | None = None,
) -> Backoff:
    """A policy of retrying, for ClientService.

    Args:    initialDelay: seconds, the most of the first wait.
             maxDelay: seconds, the most of any wait, a `jitter` of your own left aside.
             factor: by which a wait may grow over the one before; 1 at least.
             jitter: seconds that are added to each wait, also to one of `maxDelay`, as in Twisted; less than nothing is
                 nothing. None to draw each wait as this module says.
    Returns: a callable: failures in a row, from 1, to seconds.
    Raises:  ValueError for a delay that is negative or no number, or a factor below 1.
    Source:  twisted.application.internet.backoffPolicy.
    """
    return Backoff(initialDelay, maxDelay, factor, jitter)


def seconds_to_wait(policy: Callable[[int], float], failures: int, chance: Any) -> float:
    """What a policy says after so many failures; what none may say is logged, and the usual policy asked instead.

    Args: chance: has `random()`, for those policies that draw.
    """
    try:
        if isinstance(policy, Backoff):
            return policy.draw(failures, chance)
        return usable_seconds(policy(failures), "a retry policy")
    except Exception as exc:
        _log.error("%r is of no use, and what waits does as backoffPolicy() says", policy, exc_info=exc)
        return backoffPolicy().draw(failures, chance)
