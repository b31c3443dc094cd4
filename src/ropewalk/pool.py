"""A pool of connections: each is used by one at a time, and used again.

    pool = Pool(clientFromString(reactor, "tcp:example.org:6379"), factory, size=10)
    async with pool.connection() as protocol:
        ...
    await pool.close()

Who asks gets an idle connection, the one used last first, so that a surplus grows old and is closed; or a new one; or waits,
first come first served. A connection on its way is for no one in particular: whoever waits longest gets it. So a waiter that is
cancelled takes nothing with it, and one whose connection fails is the only one told.

How a loss is noticed: each connection is an Attempt (attempt.py), with a stand-in before the user's protocol; the class of that
need not know of pools. A lost idle one is dropped at once, and replaced when somebody asks; one that is in use frees its place
at once, and is still released by its user.

`connection()` closes what an exception leaves behind: nobody knows what was said by half on it, and the next user would read
the answer to a question of another. It must never know what is spoken on a connection: `health` knows.
Rejected: looking after idle ones by a timer for all; each has its own, so that idle time is exact.
Source: httpcore and asyncpg, for what pools do; FIFO as in Go's database/sql.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum
from typing import Any

from ropewalk.attempt import Attempt, clockOf
from ropewalk.defer import Deferred, fail, succeed
from ropewalk.defer.making import born
from ropewalk.failure import Failure
from ropewalk.machine import Table
from ropewalk.policies.wrapping import checked_count, checked_seconds
from ropewalk.task.later import resultOf

__all__ = ["Pool", "PoolClosedError"]

_log = logging.getLogger("ropewalk")

# Seconds that a health check may take: as many as a connect has, which is what takes its place.
_CHECK_SECONDS = 30.0


class PoolClosedError(RuntimeError):
    """The pool is closed, and gives no connection any more."""


class PooledState(StrEnum):
    CONNECTING = "connecting"
    IDLE = "idle"
    CHECKING = "checking"
    USED = "used"
    CLOSING = "closing"
    GONE = "gone"


class PooledEvent(StrEnum):
    MADE = "made"
    CHECK = "check"
    TAKE = "take"
    RELEASE = "release"
    CLOSE = "close"
    ENDED = "ended"


POOLED = Table(
    "pooled connection",
    {
        (PooledState.CONNECTING, PooledEvent.MADE): PooledState.USED,
        (PooledState.CONNECTING, PooledEvent.CLOSE): PooledState.CLOSING,
        (PooledState.CONNECTING, PooledEvent.ENDED): PooledState.GONE,
        (PooledState.IDLE, PooledEvent.TAKE): PooledState.USED,
        (PooledState.IDLE, PooledEvent.CHECK): PooledState.CHECKING,
        (PooledState.IDLE, PooledEvent.CLOSE): PooledState.CLOSING,
        (PooledState.IDLE, PooledEvent.ENDED): PooledState.GONE,
        (PooledState.CHECKING, PooledEvent.TAKE): PooledState.USED,
        (PooledState.CHECKING, PooledEvent.CLOSE): PooledState.CLOSING,
        (PooledState.CHECKING, PooledEvent.ENDED): PooledState.GONE,
        (PooledState.USED, PooledEvent.RELEASE): PooledState.IDLE,
        (PooledState.USED, PooledEvent.CLOSE): PooledState.CLOSING,
        (PooledState.USED, PooledEvent.ENDED): PooledState.GONE,
        (PooledState.CLOSING, PooledEvent.ENDED): PooledState.GONE,
    },
)


class Pooled:
    """One connection of a pool."""

    __slots__ = ("_state", "attempt", "checking", "pool", "timer")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.attempt = Attempt(self)
        self._state = PooledState.CONNECTING
        # While idle, and while checking.
        self.timer: Any = None
        self.checking: Deferred[Any] | None = None

    @property
    def state(self) -> PooledState:
        return self._state

    def step(self, event: PooledEvent) -> PooledState:
        """Returns: the state it was in."""
        was = self._state
        self._state = POOLED[was, event]
        timer, self.timer = self.timer, None
        if timer is not None and timer.active():
            timer.cancel()
        return was

    def made(self, attempt: Attempt) -> None:
        self.pool._made(self)

    def ended(self, attempt: Attempt, reason: Failure) -> None:
        checking, self.checking = self.checking, None
        self.pool._ended(self, reason)
        if checking is not None:
            checking.cancel()


class Pool:
    """Connections that are used one at a time, and used again.

    Args:   endpoint, factory: make a connection.
            size: how many there are at most.
            idle: seconds after which one that nobody uses is closed; None for never.
            health: called with the protocol of an idle connection before it is used again; returns a bool, or an awaitable
                of one. One that is refused, or about which health raises or has no answer after 30 s, is closed, and another
                takes its place; `task.within` gives an answer less time than that.
            clock: has `callLater`; None for the endpoint's reactor, or `task.currentReactor`.
    Raises: TypeError, ValueError for a size that is no whole number, 1 or more; an idle time that is no finite number above 0;
            a health that cannot be called.
    """

    def __init__(
        self,
        endpoint: Any,
        factory: Any,
        size: int = 10,
        idle: float | None = 60.0,
        health: Callable[[Any], object] | None = None,
        clock: Any = None,
    ) -> None:
        if health is not None and not callable(health):
            raise TypeError(f"health must be callable, or None, not {health!r}")
        self._endpoint = endpoint
        self._factory = factory
        self._size = checked_count("size", size, "connections")
        self._idle_seconds = None if idle is None else checked_seconds("idle", idle)
        self._health = health
        self._clock = clock
        self._waiting: deque[Deferred[Any]] = deque()
        # All that hold a place. Why a dict: it keeps the order, which a set does not, and a seed must decide all.
        self._open: dict[Pooled, None] = {}
        self._idle: list[Pooled] = []
        # By the identity of the protocol, lost ones too, until they are released.
        self._used: dict[int, tuple[Any, Pooled]] = {}
        # Connecting or being checked.
        self._coming = 0
        self._is_serving = False
        self._is_closed = False
        self._closing: list[Deferred[None]] = []

    def acquire(self) -> Deferred[Any]:
        """A connection for the caller alone, until it is released.

        Returns: a Deferred of its protocol. Cancelling it gives up the place in the queue, and nothing else.
        Fails:   with the reason of a connect that failed when it was this one's turn; PoolClosedError.
        """
        if self._is_closed:
            return fail(PoolClosedError("the pool is closed"))
        waiting: Deferred[Any] = born(Deferred(self._waiting.remove))
        self._waiting.append(waiting)
        self._serve()
        return waiting

    def release(self, protocol: Any) -> None:
        """Give a connection back, in a state in which another can use it.

        Raises: ValueError if it is not one that is acquired.
        """
        pooled = self._given_back(protocol)
        if self._is_closed:
            self._close(pooled)
        elif pooled.state is PooledState.USED and pooled.attempt.is_open:
            pooled.step(PooledEvent.RELEASE)
            self._rest(pooled)
        self._serve()

    def discard(self, protocol: Any) -> None:
        """Give a connection back that nobody shall use again; it is aborted.

        Raises: ValueError if it is not one that is acquired.
        """
        pooled = self._given_back(protocol)
        if pooled.state is PooledState.USED:
            pooled.step(PooledEvent.CLOSE)
            pooled.attempt.cancel()
        self._serve()

    def connection(self) -> AbstractAsyncContextManager[Any]:
        """`async with pool.connection() as protocol:` acquires, and releases; after an exception, discards."""
        return self._connection()

    def close(self) -> Deferred[None]:
        """Give out no more, and close what is idle or on its way; what is in use is closed when it is released.

        Returns: a Deferred that fires when no connection is open.
        Order:   those who wait get PoolClosedError before this returns.
        """
        self._is_closed = True
        while self._waiting:
            self._waiting.popleft().errback(
                PoolClosedError("the pool was closed while this waited for a connection")
            )
        for pooled in list(self._open):
            if pooled.state is not PooledState.USED:
                self._close(pooled)
        if not self._open:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closing.append(closed)
        return closed

    # ---- who gets what ----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Let as many connections be on their way as there are waiters."""
        # Why: an endpoint may fail, and a waiter may release, before they return; a loop serves them all, not a recursion.
        if self._is_serving:
            return
        self._is_serving = True
        try:
            while self._coming < len(self._waiting):
                if self._idle:
                    pooled = self._idle.pop()
                    if pooled.attempt.is_open:
                        self._reuse(pooled)
                elif len(self._open) < self._size:
                    self._connect()
                else:
                    break
        finally:
            self._is_serving = False

    def _connect(self) -> None:
        pooled = Pooled(self)
        self._open[pooled] = None
        self._coming += 1
        pooled.attempt.start(self._endpoint, self._factory)

    def _reuse(self, pooled: Pooled) -> None:
        if self._health is None:
            self._give(pooled, PooledEvent.TAKE)
            return
        pooled.step(PooledEvent.CHECK)
        self._coming += 1
        checking = resultOf(self._health, pooled.attempt.protocol).addBoth(self._checked, pooled)
        # Why not by `called`: one that has fired may wait for another.
        if pooled.state is PooledState.CHECKING:
            pooled.checking = checking
            # Why not addTimeout: what is called off may go on all the same, and would keep the place.
            pooled.timer = self._reactor().callLater(_CHECK_SECONDS, self._unanswered, pooled, checking)

    def _checked(self, healthy: object, pooled: Pooled) -> None:
        pooled.checking = None
        if pooled.state is not PooledState.CHECKING:
            return  # lost or closed meanwhile
        self._coming -= 1
        if isinstance(healthy, Failure):
            _log.debug("health of %r raised %r", pooled.attempt.protocol, healthy.value)
        if healthy and not isinstance(healthy, Failure):
            self._give(pooled, PooledEvent.TAKE)
        else:
            pooled.step(PooledEvent.CLOSE)
            pooled.attempt.cancel()
        self._serve()

    def _unanswered(self, pooled: Pooled, checking: Deferred[Any]) -> None:
        _log.debug("health of %r has no answer after %g s", pooled.attempt.protocol, _CHECK_SECONDS)
        self._checked(False, pooled)
        checking.cancel()

    def _made(self, pooled: Pooled) -> None:
        self._coming -= 1
        self._give(pooled, PooledEvent.MADE)
        self._serve()

    def _give(self, pooled: Pooled, event: PooledEvent) -> None:
        pooled.step(event)
        if not self._waiting:
            # Why: the one it was for was cancelled.
            pooled.step(PooledEvent.RELEASE)
            self._rest(pooled)
            return
        protocol = pooled.attempt.protocol
        self._used[id(protocol)] = (protocol, pooled)
        self._waiting.popleft().callback(protocol)

    def _rest(self, pooled: Pooled) -> None:
        self._idle.append(pooled)
        if self._idle_seconds is not None:
            pooled.timer = self._reactor().callLater(self._idle_seconds, self._close, pooled)

    def _given_back(self, protocol: Any) -> Pooled:
        # Why by identity: a protocol may compare as it likes. While it is in here, nobody else has its id.
        found = self._used.pop(id(protocol), None)
        if found is None:
            raise ValueError(f"{protocol!r} is not acquired from this pool, or is released already")
        return found[1]

    # ---- endings ----------------------------------------------------------------------------------------------

    def _close(self, pooled: Pooled) -> None:
        if pooled.state in (PooledState.CLOSING, PooledState.GONE):
            return
        was = pooled.step(PooledEvent.CLOSE)
        self._leaves(pooled, was)
        checking, pooled.checking = pooled.checking, None
        if checking is not None:
            checking.cancel()
        if was is PooledState.CONNECTING:
            pooled.attempt.cancel()
        else:
            pooled.attempt.close()

    def _ended(self, pooled: Pooled, reason: Failure) -> None:
        was = pooled.step(PooledEvent.ENDED)
        self._leaves(pooled, was)
        del self._open[pooled]
        # Why the comparison: as long as enough are on their way for all who wait, this was for one that was cancelled.
        if was is PooledState.CONNECTING and self._coming < len(self._waiting):
            self._waiting.popleft().errback(reason)
        self._serve()
        if self._is_closed and not self._open:
            closing, self._closing = self._closing, []
            for each in closing:
                each.callback(None)

    def _leaves(self, pooled: Pooled, was: PooledState) -> None:
        """It is no more what it was."""
        if was is PooledState.IDLE and pooled in self._idle:
            self._idle.remove(pooled)
        elif was in (PooledState.CONNECTING, PooledState.CHECKING):
            self._coming -= 1

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        protocol = await self.acquire()
        try:
            yield protocol
        except BaseException:
            self.discard(protocol)
            raise
        self.release(protocol)

    def _reactor(self) -> Any:
        if self._clock is None:
            self._clock = clockOf(self._endpoint)
        return self._clock

    def __repr__(self) -> str:
        used = sum(each.state is PooledState.USED for each in self._open)
        return f"<Pool {self._endpoint!r} {used} used, {len(self._idle)} idle, {len(self._waiting)} waiting>"
