"""The loop: it waits, then calls whoever is ready. One turn is the whole of it.

It knows descriptors, time and callables. It must never know sockets, protocols or factories: whatever is watched is
a number and an object with one method, `ready(event)`.

One turn:
  1. calls       what `callFromThread` and the engine's own `call_soon` left at the start of the turn, so many at most
  2. timers      what is due, in order
  3. due         streams that have something to do once the user's code has returned: send, close, re-arm
  4. wait        for descriptors; not at all if any of the above left more to do
  5. dispatch    every ready descriptor once, each followed by step 3

Two rules make it safe:
* An event reaches only the registration it was made for. A descriptor that is watched anew during the dispatch, its
  number perhaps reused, gets nothing of the rows collected before (FAULTS B6): level-triggered, they come again.
* User code never unwinds the engine. `user_error` logs what it raised; SystemExit and KeyboardInterrupt are kept
  until the handler that met them has finished its books, then leave the turn, and so `run()`.

Rejected: a generation number beside each registration, compared for every event. The set of numbers watched anew in
this turn is nearly always empty, and testing an empty set is the cheapest generation there is.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Callable
from threading import get_ident
from traceback import print_exception
from typing import Any, Protocol

from ropewalk._loop.forked import NoCalls, NoPoller, loops
from ropewalk._loop.poller import ERR, HUP, IN, LONGEST_WAIT, OUT, Poller
from ropewalk._loop.timers import DelayedCall, Timers
from ropewalk._loop.waker import Waker
from ropewalk.error import wrong_thread

log = logging.getLogger("ropewalk")

# Rows taken from the kernel at once. Value: more keeps timers waiting, fewer costs calls; measured at 4000 busy
# connections no gain above 256 (benchmarks/, echo).
_ROWS_PER_TURN = 512
# Calls from threads made per turn. Why a limit: threads that call faster than the calls are made would double the queue
# each turn, and descriptors and timers would wait ever longer (FAULTS J8). Value: some milliseconds of small calls; it
# costs 5 % of the rate, ten times fewer 15 % (400 000 calls of two threads).
_CALLS_PER_TURN = 10_000
# `Loop.thread` while nobody runs it, and after a fork in the child. Safe because: thread idents are positive.
_AT_REST = 0
_FORKED = -1
CLOSED_FOR_GOOD = -2


class Watcher(Protocol):
    """What a watched descriptor's events are given to."""

    def ready(self, event: int) -> None:
        """Something happened to the descriptor; `event` holds the bits."""

    def shut_down(self) -> None:
        """The reactor stops: end, and tell whoever must know."""

    def disown(self) -> None:
        """In a forked child: close this copy of the descriptor. Rule: nothing else that the parent could feel."""


class Flushable(Protocol):
    """Something with work left for when the current handler has returned."""

    def flush(self) -> None: ...


class Clock(Protocol):
    """The part of a system that the loop needs."""

    def monotonic(self) -> float: ...
    def socket_pair(self) -> tuple[Any, Any]: ...
    def process_id(self) -> int: ...


class Loop:
    """Descriptors, timers and calls of one thread."""

    __slots__ = (
        "__weakref__",
        "_always_ready",
        "_asleep",
        "_exit",
        "_fresh",
        "_gone",
        "_process",
        "_rows",
        "_system",
        "_timer_heap",
        "_waker",
        "due",
        "now",
        "on_fork",
        "poller",
        "serving",
        "soon",
        "thread",
        "timers",
        "watchers",
    )

    def __init__(self, system: Clock, poller: Poller) -> None:
        self._system = system
        self.poller: Poller = poller
        self.now = system.monotonic
        self.timers = Timers(system.monotonic)
        self._timer_heap = self.timers.heap
        self.watchers: dict[int, Watcher] = {}
        self.due: deque[Flushable] = deque()
        # Whose handler is running, if it will flush by itself when that has returned: it needs no place in `due`.
        self.serving: Flushable | None = None
        self.thread = _AT_REST
        # What is to be called in the next turn: (callable, args, keywords or None). Other threads use `call_from_thread`.
        self.soon: deque[tuple[Callable[..., object], tuple[Any, ...], dict[str, Any] | None]] = deque()
        self._fresh: set[int] = set()
        # The batch that is being dispatched.
        self._rows: list[tuple[int, int]] = []
        self._always_ready: dict[int, int] = {}
        self._asleep = False
        self._exit: BaseException | None = None
        # Why it was given up, for whoever calls it all the same.
        self._gone = ""
        self._process = system.process_id()
        try:
            self._waker = Waker(system.socket_pair())
            self.watch(self._waker.fileno(), self._waker, IN)
        except OSError:
            self._give_back()
            raise
        # What else is to be given up in a forked child, put here by the rooms that have it.
        self.on_fork: list[Callable[[], object]] = []
        loops.add(self)

    # ---- one turn ---------------------------------------------------------------------------------------------

    def turn(self, timeout: float | None) -> None:
        """One turn, waiting at most `timeout` seconds; None waits until something happens."""
        # hot: benchmarks/ echo. Steps 1 to 3.
        calls, due, fresh, watchers, timers = (
            self.soon,
            self.due,
            self._fresh,
            self.watchers,
            self._timer_heap,
        )
        if calls:
            self._run_calls()
        if timers:
            now = self.now()
            if timers[0][0] <= now:
                self.timers.run_due(self, now)
        if due:
            self.settle()
        # 4. Why the order: a thread appends its call before it looks at _asleep; we set _asleep before we look at
        # the calls. One of the two always sees the other, so no wake-up is lost.
        if timers:
            until_timer = timers[0][0] - self.now()
            if timeout is None or until_timer < timeout:
                timeout = until_timer if until_timer > 0 else 0
        if timeout is not None and timeout > LONGEST_WAIT:
            timeout = LONGEST_WAIT
        if fresh:
            fresh.clear()
        self._asleep = True
        if calls or due or self._always_ready:
            timeout = 0
        rows = self._rows = self.poller.poll(timeout, _ROWS_PER_TURN)
        self._asleep = False
        # 5.
        for fd, event in rows:
            if fresh and fd in fresh:
                continue
            try:
                watcher = watchers[fd]
            except KeyError:
                continue  # Safe because: it was unwatched by a handler before it in this very turn.
            watcher.ready(event)
            if due:
                self.settle()
        if self._always_ready:
            self._serve_always_ready()

    def _run_calls(self) -> None:
        calls = self.soon
        for _ in range(min(len(calls), _CALLS_PER_TURN)):
            try:
                func, args, kw = calls.popleft()
            except IndexError:
                break  # A call turned the loop itself (reactor.iterate), and that made the others.
            try:
                if kw:
                    func(*args, **kw)
                else:
                    func(*args)
            except BaseException as exc:
                self.user_error(exc, "the call %r raised, made on the reactor's thread", func)
            if self._exit is not None:
                self.settle()
        if self.due:
            self.settle()

    def settle(self) -> None:
        """Step 3. Those that become due meanwhile wait for the next settling: descriptors come in between.

        Why each is taken out by itself: one of them may turn the loop, and that must find the others.
        """
        due = self.due
        for _ in range(len(due)):
            if not due:
                break
            each = due.popleft()
            if each is not self:
                each.flush()
        self.flush()

    def flush(self) -> None:
        """Let the exception leave that user code raised on purpose. For it the loop itself is put into `due`."""
        exc, self._exit = self._exit, None
        if exc is not None:
            try:
                raise exc
            finally:
                del exc  # Why: its traceback holds this frame.

    # ---- user code --------------------------------------------------------------------------------------------

    def user_error(self, exc: BaseException, message: str, *args: object) -> None:
        """What user code raised: logged once; SystemExit and KeyboardInterrupt leave the turn instead."""
        if isinstance(exc, (SystemExit, KeyboardInterrupt)):
            self._exit = exc
            self.due.append(self)
        else:
            self.log(logging.ERROR, message, *args, exc=exc)

    def log(self, level: int, message: str, *args: object, exc: BaseException | None = None) -> None:
        """Into the log. A handler of it is user code too: what it raises must not keep us from our books."""
        try:
            log.log(level, message, *args, exc_info=exc, stacklevel=2)  # Whose line it is: the caller's.
        except (SystemExit, KeyboardInterrupt) as leaving:
            self.user_error(leaving, message)
        except BaseException as broken:
            broken.__context__ = broken.__context__ or exc  # So both are shown.
            print_exception(broken)

    def call_user(self, func: Callable[..., object], *args: object) -> bool:
        """Call user code; whether it returned. What it raised has been dealt with."""
        try:
            func(*args)
        except BaseException as exc:
            self.user_error(exc, "%r raised", func)
            return False
        return True

    def call_method(self, owner: object, name: str, *args: object) -> bool:
        """`call_user` for a method, which may be missing: that too is a fault of the user's, not of the engine."""
        try:
            getattr(owner, name)(*args)
        except BaseException as exc:
            self.user_error(exc, "%s of %r raised", name, owner)
            return False
        return True

    # ---- descriptors ------------------------------------------------------------------------------------------

    def watch(self, fd: int, watcher: Watcher, mask: int) -> None:
        """Start to watch a descriptor; `rewatch` for one that is watched already.

        Raises: OSError if the kernel will not have it.
        """
        try:
            self.poller.register(fd, mask)
        except FileExistsError:
            # Closed behind our back, and the number came back by a copy of the descriptor: the new wish holds.
            self.poller.modify(fd, mask)
        except PermissionError:
            # Why: epoll refuses regular files (FAULTS B10); reading and writing them never blocks.
            self._always_ready[fd] = mask
        except ValueError as exc:
            # Why an OSError: for whoever accepts or connects, a number that select() cannot hold is one number too many.
            raise OSError(errno.EMFILE, str(exc)) from None
        self.watchers[fd] = watcher
        self._fresh.add(fd)

    def rewatch(self, fd: int, watcher: Watcher, mask: int) -> None:
        """Change what a watched descriptor is watched for, or who is told."""
        if fd not in self._always_ready:
            self.poller.modify(fd, mask)
        else:
            self._always_ready[fd] = mask
        self.watchers[fd] = watcher

    def unwatch(self, fd: int) -> None:
        """Stop watching. Rule: before the descriptor is closed (FAULTS B8, B9)."""
        if self.watchers.pop(fd, None) is not None and self._always_ready.pop(fd, None) is None:
            self.poller.unregister(fd)

    def everyone(self) -> list[Watcher]:
        """All who watch a descriptor, but the loop itself."""
        return [each for each in self.watchers.values() if each is not self._waker]

    def _serve_always_ready(self) -> None:
        for fd, mask in list(self._always_ready.items()):
            watcher = self.watchers.get(fd)
            if watcher is not None and mask and fd in self._always_ready:
                watcher.ready(mask & (IN | OUT))
                if self.due:
                    self.settle()

    # ---- time and calls ---------------------------------------------------------------------------------------

    def call_later(self, delay: float, func: Callable[..., object], *args: Any) -> DelayedCall:
        return self.timers.add(delay, func, args, None)

    def call_soon(self, func: Callable[..., object], *args: Any) -> None:
        """Call in the next turn. For the engine's own steps; on the loop's thread only."""
        self.soon.append((func, args, None))

    def call_from_thread(
        self, func: Callable[..., object], args: tuple[Any, ...], kw: dict[str, Any] | None
    ) -> None:
        """Thread-safe, and safe in signal handlers; calls happen in the order in which they were left."""
        # hot: benchmarks/ callFromThread. One wake-up serves all calls left while the loop is awake.
        self.soon.append((func, args, kw))
        if self._asleep:
            self._asleep = False
            self._waker.wake()

    def do_not_wait(self) -> None:
        """Let the turn that is running end without waiting."""
        self.call_soon(self.flush)

    def has_work(self) -> bool:
        """Whether a turn would have something to do without waiting."""
        return bool(self.soon or self.due or self._always_ready)

    def next_deadline(self) -> float | None:
        """When the next timer is due, in seconds of the monotonic clock; None without timers."""
        return self.timers.next_time()

    # ---- whose loop it is -------------------------------------------------------------------------------------

    def enter(self) -> int:
        """Claim the loop for this thread until `leave`; gives back who had it, for `leave`.

        Where the loop is turned from within one of its own handlers, what is left of the outer batch is dropped: the
        inner turns may close and reuse its descriptors, and what is still true comes again.

        Raises: RuntimeError in another thread than the one that runs it, or in a forked child.
        """
        mine = get_ident()
        if self.thread != mine:
            self.check_thread("run")
        before, self.thread = self.thread, mine
        self.timers.thread = mine
        if before == mine:
            self._rows.clear()
        if self.serving is not None:
            self.due.append(self.serving)
            self.serving = None
        return before

    def leave(self, before: int) -> None:
        self.timers.thread = max(before, _AT_REST)
        if self.thread != _FORKED:
            self.thread = before

    def is_closed(self) -> bool:
        return self.thread == CLOSED_FOR_GOOD

    def check_thread_of(self, asked: str) -> None:
        """The whole check in one call, for cold paths."""
        if get_ident() != self.thread:
            self.check_thread(asked)

    def check_thread(self, asked: str) -> None:
        """Called when `get_ident()` is not `self.thread`: fine while nobody runs the loop, else an error.

        Raises: RuntimeError naming both threads, or, in a forked child, both processes.
        """
        if self.thread == _AT_REST:
            return
        if self.thread == CLOSED_FOR_GOOD:
            raise RuntimeError(f"{asked}: this reactor has been closed")
        if self.thread == _FORKED:
            raise RuntimeError(f"{asked}: {self._foreign()}")
        raise wrong_thread(asked, self.thread)

    def signal_fileno(self) -> int:
        return self._waker.signal_fileno()

    def is_forked(self) -> bool:
        """Whether this is the copy in a forked child."""
        return self.thread == _FORKED

    def _foreign(self) -> str:
        return self._gone or (
            f"this reactor belongs to process {self._process}, this is process {self._system.process_id()}, "
            "forked from it; make a new Reactor() in the child"
        )

    def disown(self, why: str = "") -> None:
        """In a forked child: give everything up, touch nothing that the parent shares (forked.py).

        Args: why: what is told to whoever calls it later, for a loop that is given up elsewhere: its machine has crashed.
        Why emptied in place: the child may be about to return into the middle of a turn, or of a settling.
        """
        self.thread = _FORKED
        self._gone = why
        self._asleep = False
        self.serving = None
        watchers = list(self.watchers.values())
        for each in (self.watchers, self._always_ready, self._rows, self.due, self.soon, self._timer_heap):
            each.clear()
        self.poller.close()
        self.poller, self.soon = NoPoller(self._foreign()), NoCalls(self._foreign())
        for give_up in (*self.on_fork, *(watcher.disown for watcher in watchers)):
            try:
                give_up()
            except OSError:
                pass  # Safe because: closed behind our back is closed.

    def close(self) -> None:
        """Give the poller and the waker back to the kernel. The loop cannot be used after that."""
        if self.poller is not _CLOSED and self.thread != _FORKED:
            self.unwatch(self._waker.fileno())
            self._give_back()
            self.thread = CLOSED_FOR_GOOD
        loops.discard(self)

    def _give_back(self) -> None:
        waker = getattr(self, "_waker", None)
        if waker is not None:
            waker.close()
        self.poller.close()
        self.poller = _CLOSED

    def __del__(self) -> None:
        # Why: reactors are cheap to make, as in tests; one dropped without close() must not leave descriptors.
        if self.poller is not _CLOSED:
            self._give_back()


_CLOSED = NoPoller("this reactor has been closed")

__all__ = ["ERR", "HUP", "IN", "OUT", "Clock", "Flushable", "Loop", "Watcher"]
