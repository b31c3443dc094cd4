"""Threads for work that blocks: the pool behind `callInThread` and `deferToThread`.

The threads are those of the standard library's executor. This room adds what a reactor needs: a size that can be
changed, results handed over to whoever asked, errors logged where nobody asked, and a shutdown that waits for a bounded
time only (FAULTS E9): a job that never ends must not keep the reactor from stopping. It still keeps its thread, and Python
waits for threads when a process ends; a job must end by itself, nobody can stop one.

How many run at once is counted here, in lanes, and not left to the executor, which cannot change its size.

It must never call the loop from a job: results go back through the `onResult` callable, which runs on the pool's thread
and hands over by itself.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger("ropewalk")

# Source: Twisted's pool has 10 threads at most; user code is tuned to it.
DEFAULT_SIZE = 10
# How long shutdown waits for running jobs, in seconds. Why 10: container managers kill after 10 to 30.
JOIN_TIMEOUT = 10.0

OnResult = Callable[[bool, Any], object]


class Job(NamedTuple):
    """What is to be done in a thread, and who is told."""

    on_result: OnResult | None
    func: Callable[..., object]
    args: tuple[Any, ...]
    kw: dict[str, Any]
    context: contextvars.Context

    def run(self) -> None:
        try:
            self.context.run(self._work)
        except BaseException as exc:
            # Why all of them: a thread has nobody above it; SystemExit there ends nothing but the job.
            log.error("%r raised in a thread", self.func, exc_info=exc)

    def _work(self) -> None:
        if self.on_result is None:
            self.func(*self.args, **self.kw)
            return
        try:
            result = self.func(*self.args, **self.kw)
        except BaseException as exc:
            success, result = False, exc
        else:
            success = True
        self.on_result(success, result)

    def drop(self, name: str) -> None:
        exc = RuntimeError(f"{name} was stopped before it began {self.func!r}")
        if self.on_result is None:
            log.warning("%s", exc)
            return
        try:
            self.on_result(False, exc)
        except Exception as raised:
            log.error("%r raised when it was told that %s", self.on_result, exc, exc_info=raised)


class ThreadPool:
    """A pool of worker threads; what `reactor.getThreadPool()` returns. Its methods may be called in any thread."""

    def __init__(self, maxthreads: int = DEFAULT_SIZE, name: str = "ropewalk-pool") -> None:
        self.max = _checked_size(maxthreads)
        self.name = name
        # Guards what is below, and wakes who waits for lanes to end.
        self._changed = threading.Condition()
        self._executor: ThreadPoolExecutor | None = None
        self._waiting: deque[Job] = deque()
        # What runs: each lane does one job after the other in one thread, while there are jobs and not too many lanes.
        self._lanes: set[object] = set()

    def callInThread(self, func: Callable[..., object], *args: Any, **kw: Any) -> None:
        """Call `func` in a thread of the pool; what it raises is logged.

        Raises: TypeError if it is not callable.
        """
        self.callInThreadWithCallback(None, func, *args, **kw)

    def callInThreadWithCallback(
        self, onResult: OnResult | None, func: Callable[..., object], *args: Any, **kw: Any
    ) -> None:
        """Call `func` in a thread of the pool, then `onResult(success, result)` in that same thread.

        Args:   onResult: success is True with the value returned, or False with the exception raised;
                None if nobody wants to know, then exceptions are logged.
        Raises: TypeError if `func` is not callable; RuntimeError if the system gives no thread.
        Fails:  a job that still waits when the pool is stopped is never begun: `onResult(False, RuntimeError)`, called
                by whoever stops it.
        """
        if not callable(func):
            raise TypeError(f"what is to run in a thread must be callable, not {func!r}")
        job = Job(onResult, func, args, kw, contextvars.copy_context())
        with self._changed:
            if len(self._lanes) < self.max:
                self._open_lane(job)
            else:
                self._waiting.append(job)

    def _open_lane(self, job: Job) -> None:
        if self._executor is None:
            # Why here: importing the executor costs more than the whole of this package's other rooms.
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(self.max, thread_name_prefix=self.name)
        lane = object()
        self._executor.submit(self._serve, lane, job)
        self._lanes.add(lane)

    def _serve(self, lane: object, job: Job | None) -> None:
        with self._changed:
            if lane not in self._lanes:
                # No thread could be started for it, its job was refused, and one that came free took it all the same.
                return
        while job is not None:
            job.run()
            job = self._next_job(lane)

    def _next_job(self, lane: object) -> Job | None:
        with self._changed:
            if self._waiting and len(self._lanes) <= self.max:
                return self._waiting.popleft()
            self._lanes.discard(lane)
            self._changed.notify_all()
            return None

    def adjustPoolsize(self, minthreads: int | None = None, maxthreads: int | None = None) -> None:
        """Change how many threads there may be. Jobs that run are not disturbed: of too many, none begins another.

        Args: minthreads: kept for Twisted's callers; threads are made when they are needed.
        """
        if maxthreads is None:
            return
        with self._changed:
            before, self.max = self.max, _checked_size(maxthreads)
            if self.max > before and self._executor is not None:
                # Why another: an executor does not grow. The lanes of the old one go on in its threads, and are counted.
                self._executor.shutdown(wait=False)
                self._executor = None
                while self._waiting and len(self._lanes) < self.max:
                    self._open_lane(self._waiting[0])
                    self._waiting.popleft()

    def stop(self, timeout: float = JOIN_TIMEOUT) -> None:
        """Tell the jobs that wait that they are not begun, and wait for those that run, `timeout` seconds at most.

        Then log how many are left.

        Order: the pool can be used again afterwards, it makes new threads.
        """
        with self._changed:
            executor, self._executor = self._executor, None
            dropped, self._waiting = self._waiting, deque()
        if executor is not None:
            executor.shutdown(wait=False)
        for job in dropped:
            job.drop(self.name)
        with self._changed:
            self._changed.wait_for(lambda: not self._lanes, timeout)
            stuck = len(self._lanes)
        if stuck:
            log.warning("%s: %d jobs still run %s s after shutdown was asked for", self.name, stuck, timeout)
        elif executor is not None:
            # Safe because: with no job left they end at once. Why at all: nobody shall meet them afterwards, a fork least.
            executor.shutdown(wait=True)


def _checked_size(threads: int) -> int:
    if not isinstance(threads, int) or threads < 1:
        raise ValueError(f"a thread pool needs a whole number of threads, 1 or more, not {threads!r}")
    return threads
