"""The life of a running reactor: startup, running, shutdown, and then perhaps again.

`run` fires "startup", turns the loop until it is stopped, and restores what it changed. `stop` fires "shutdown" in the
next turn; while "before" triggers wait for their Deferreds the loop turns on. `crash` ends at once and tells nobody.
An exception that leaves the loop (SystemExit, KeyboardInterrupt) ends the run as `crash` does; connections stay as they
are, and `run` may be called again.

It must never know what is disconnected at shutdown: the reactor gives it a callable for that.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from threading import get_ident
from typing import Any

from ropewalk._loop.loop import Loop
from ropewalk._loop.signals import Signals
from ropewalk._loop.triggers import SystemEvents
from ropewalk.error import ReactorAlreadyRunning, ReactorNotRunning
from ropewalk.machine import Table


class LifeState(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDING = "ending"


class LifeEvent(StrEnum):
    RUN = "run"
    STARTED = "startup fired"
    STOP = "stop"
    DISCONNECT = "before shutdown fired"
    ENDED = "shutdown fired"
    CRASH = "crash"


LIFE: Table[LifeState, LifeEvent] = Table(
    "Reactor",
    {
        (LifeState.STOPPED, LifeEvent.RUN): LifeState.STARTING,
        (LifeState.STARTING, LifeEvent.STARTED): LifeState.RUNNING,
        (LifeState.STARTING, LifeEvent.STOP): LifeState.STOPPING,
        (LifeState.RUNNING, LifeEvent.STOP): LifeState.STOPPING,
        # Also without `stop`: somebody fired "shutdown" by hand.
        (LifeState.STARTING, LifeEvent.DISCONNECT): LifeState.ENDING,
        (LifeState.RUNNING, LifeEvent.DISCONNECT): LifeState.ENDING,
        (LifeState.STOPPING, LifeEvent.DISCONNECT): LifeState.ENDING,
        (LifeState.ENDING, LifeEvent.ENDED): LifeState.STOPPED,
        (LifeState.STARTING, LifeEvent.CRASH): LifeState.STOPPED,
        (LifeState.RUNNING, LifeEvent.CRASH): LifeState.STOPPED,
        (LifeState.STOPPING, LifeEvent.CRASH): LifeState.STOPPED,
        (LifeState.ENDING, LifeEvent.CRASH): LifeState.STOPPED,
    },
)


# Whose loops are being turned in which thread, the innermost last. Rejected: a contextvar; a call that was asked for before
# the run has a context that knows nothing of it.
_owners: dict[int, list[Any]] = {}


def innermost() -> Any:
    """The owner of the loop that is turned in this thread just now; None if none is."""
    mine = _owners.get(get_ident())
    return mine[-1] if mine else None


class Life:
    """Runs a loop, and stops it.

    Args: owner: the reactor, which is nothing but a name here.
    """

    __slots__ = (
        "_disconnect_all",
        "_events",
        "_has_ended",
        "_loop",
        "_owner",
        "_signals",
        "_state",
        "_waiting",
    )

    def __init__(
        self, loop: Loop, events: SystemEvents, disconnect_all: Callable[[], None], owner: Any
    ) -> None:
        self._owner = owner
        self._loop = loop
        self._events = events
        self._disconnect_all = disconnect_all
        self._signals = Signals(self._on_signal)
        self._state = LifeState.STOPPED
        # What tells threads that wait for the loop that it has ended; and whether it has, until it is started again.
        self._waiting: set[Callable[[], object]] = set()
        self._has_ended = False
        # Why: a child's SIGTERM must end it, as before the run, and not wake a loop that is none of its own.
        loop.on_fork.append(self._signals.restore)
        events.set_heart("startup", self._begin)
        events.set_heart("shutdown", self._disconnect)

    @property
    def state(self) -> LifeState:
        return self._state

    def run(self, install_signal_handlers: bool) -> None:
        self._check_stopped("run")
        before = self._enter()
        try:
            if install_signal_handlers:
                self._signals.install(self._loop.signal_fileno())
            else:
                self._signals.let_wake(self._loop.signal_fileno())
            self.start()
            while self._state is not LifeState.STOPPED:
                self._loop.turn(None)
            # Why once more: what the last callbacks raised on purpose (SystemExit) must still leave run().
            self._loop.settle()
        finally:
            self._signals.restore()
            self.crash()
            self._forget_firings()
            self.let_go()
            self._leave(before)

    def iterate(self, delay: float) -> None:
        """One turn, from outside of `run` or from within it."""
        before = self._enter()
        try:
            self._loop.turn(delay)
        finally:
            self._leave(before)

    def _enter(self) -> int:
        before = self._loop.enter()
        _owners.setdefault(get_ident(), []).append(self._owner)
        return before

    def _leave(self, before: int) -> None:
        thread = get_ident()
        _owners[thread].pop()
        if not _owners[thread]:
            del _owners[thread]
        self._loop.leave(before)

    def start(self) -> None:
        """Fire "startup"; `run` turns the loop after it, a simulation does so in its own time."""
        self._check_stopped("startRunning")
        self._forget_firings()
        self._has_ended = False
        self._state = LIFE[self._state, LifeEvent.RUN]
        self._events.fire("startup")

    def _forget_firings(self) -> None:
        """A firing belongs to its run: what it waits for may come when that is over, or in the next one."""
        self._events.forget("startup")
        self._events.forget("shutdown")

    def _check_stopped(self, asked: str) -> None:
        try:
            self._loop.check_thread_of(asked)
        except RuntimeError as exc:
            if self._loop.is_forked() or self._state is LifeState.STOPPED:
                raise
            raise ReactorAlreadyRunning(str(exc)) from None
        if self._state is not LifeState.STOPPED:
            raise ReactorAlreadyRunning(f"{asked}: this reactor runs already; stop it first")

    def _begin(self) -> None:
        if self._state is LifeState.STARTING:
            self._state = LIFE[self._state, LifeEvent.STARTED]

    def stop(self) -> None:
        if self._state not in (LifeState.STARTING, LifeState.RUNNING):
            raise ReactorNotRunning(f"stop: this reactor is {self._state.value}")
        self._state = LIFE[self._state, LifeEvent.STOP]
        self._loop.call_soon(self._events.fire, "shutdown", self._end)

    def _disconnect(self) -> None:
        """ "before" has been fired and waited for: from here on the reactor counts as not running any more.

        Why: `if reactor.running: reactor.stop()` is what people write into connectionLost.
        """
        if self._state is not LifeState.STOPPED and self._state is not LifeState.ENDING:
            if self._state is not LifeState.STOPPING:
                self._loop.call_soon(self._end)
            self._state = LIFE[self._state, LifeEvent.DISCONNECT]
        self._disconnect_all()
        self.let_go()

    def call_at_end(self, tell: Callable[[], object]) -> Callable[[], None]:
        """Thread-safe. Gives what takes it back."""
        self._waiting.add(tell)
        # Why after: `let_go` sets the mark before it looks for whom to tell. One of the two always sees the other.
        if self._has_ended:
            tell()
        return lambda: self._waiting.discard(tell)

    def let_go(self) -> None:
        """Tell the threads that wait for the loop that it has ended. Rule: before the pool is waited for, which may wait for them."""
        self._has_ended = True
        for tell in list(self._waiting):
            tell()

    def _end(self) -> None:
        if self._state is LifeState.ENDING:
            self._state = LIFE[self._state, LifeEvent.ENDED]
            self._loop.do_not_wait()

    def crash(self) -> None:
        if self._state is not LifeState.STOPPED:
            self._state = LIFE[self._state, LifeEvent.CRASH]
            if not self._loop.is_forked():
                self._loop.do_not_wait()

    def _on_signal(self, number: int) -> None:
        self._loop.call_from_thread(self._stop_unless_stopping, (), None)

    def _stop_unless_stopping(self) -> None:
        # Why a further signal changes nothing: a service manager may send two, and what drains must be let drain.
        if self._state in (LifeState.STARTING, LifeState.RUNNING):
            self.stop()
