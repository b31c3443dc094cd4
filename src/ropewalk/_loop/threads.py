"""Threads for work that blocks: the pool behind `callInThread` and `deferToThread`.

The threads are those of the standard library's executor. This room adds what a reactor needs: a size that can be
changed, results handed over to whoever asked, errors logged where nobody asked, and a shutdown that waits for a bounded
time only (FAULTS E9): a job that never ends must not keep the reactor from stopping.

It must never call the loop from a job: results go back through the `onResult` callable, which runs on the pool's thread
and hands over by itself.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

log = logging.getLogger("ropewalk")

# Source: Twisted's pool has 10 threads at most; user code is tuned to it.
DEFAULT_SIZE = 10
# How long shutdown waits for running jobs, in seconds. Why 10: container managers kill after 10 to 30.
JOIN_TIMEOUT = 10.0

OnResult = Callable[[bool, Any], object]


class ThreadPool:
    """A pool of worker threads; what `reactor.getThreadPool()` returns."""

    def __init__(self, maxthreads: int = DEFAULT_SIZE, name: str = "ropewalk-pool") -> None:
        self.max = _checked_size(maxthreads)
        self.name = name
        self._executor: ThreadPoolExecutor | None = None
        self._running: set[Future[None]] = set()

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
        Raises: TypeError if `func` is not callable.
        Fails:  a job that still waits when the pool is stopped is never begun: `onResult(False, RuntimeError)`, called
                by whoever stops it.
        """
        if not callable(func):
            raise TypeError(f"what is to run in a thread must be callable, not {func!r}")
        if self._executor is None:
            # Why here: importing the executor costs more than the whole of this package's other rooms.
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(self.max, thread_name_prefix=self.name)
        context = contextvars.copy_context()
        future = self._executor.submit(context.run, _work, onResult, func, args, kw)
        self._running.add(future)
        future.add_done_callback(partial(self._over, onResult, func))

    def _over(self, on_result: OnResult | None, func: Callable[..., object], future: Future[None]) -> None:
        self._running.discard(future)
        if future.cancelled():
            exc = RuntimeError(f"{self.name} was stopped before it began {func!r}")
            if on_result is None:
                log.warning("%s", exc)
            else:
                on_result(False, exc)

    def adjustPoolsize(self, minthreads: int | None = None, maxthreads: int | None = None) -> None:
        """Change how many threads there may be. Jobs that run or wait are not disturbed.

        Args: minthreads: kept for Twisted's callers; threads are made when they are needed.
        """
        if maxthreads is None or _checked_size(maxthreads) == self.max:
            return
        self.max = maxthreads
        old, self._executor = self._executor, None
        if old is not None:
            old.shutdown(wait=False)

    def stop(self, timeout: float = JOIN_TIMEOUT) -> None:
        """Tell the jobs that wait that they are not begun, and wait for those that run, `timeout` seconds at most.

        Then log how many are left.

        Order: the pool can be used again afterwards, it makes new threads.
        """
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
        from concurrent.futures import wait

        stuck = wait(set(self._running), timeout).not_done
        if stuck:
            log.warning(
                "%s: %d jobs still run %s s after shutdown was asked for", self.name, len(stuck), timeout
            )
        elif executor is not None:
            # Safe because: with no job left they end at once. Why at all: nobody shall meet them afterwards, a fork least.
            executor.shutdown(wait=True)


def _work(
    on_result: OnResult | None, func: Callable[..., object], args: tuple[Any, ...], kw: dict[str, Any]
) -> None:
    try:
        result = func(*args, **kw)
    except BaseException as exc:
        # Why all of them: a thread has nobody above it; SystemExit there ends nothing but the job.
        if on_result is None:
            log.error("%r raised in a thread", func, exc_info=exc)
        else:
            on_result(False, exc)
    else:
        if on_result is not None:
            on_result(True, result)


def _checked_size(threads: int) -> int:
    if not isinstance(threads, int) or threads < 1:
        raise ValueError(f"a thread pool needs a whole number of threads, 1 or more, not {threads!r}")
    return threads
