"""Work that blocks, from and to the reactor's thread.

`deferToThread` runs a function in the pool and gives a Deferred; `blockingCallFromThread` is the other way round: a
thread waits for something the reactor does. Built on the public API alone.
Source: Twisted's twisted.internet.threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, ParamSpec, TypeVar

from ropewalk.defer import Deferred, maybeDeferred
from ropewalk.failure import Failure
from ropewalk.task import currentReactor

__all__ = ["blockingCallFromThread", "callMultipleInThread", "deferToThread", "deferToThreadPool"]

P = ParamSpec("P")
R = TypeVar("R")


def deferToThreadPool(
    reactor: Any, threadpool: Any, f: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> Deferred[R]:
    """Call `f` in a thread of that pool.

    Returns: a Deferred with what it returns, or the Failure it raised; fired on the reactor's thread.
    """
    deferred: Deferred[R] = Deferred()

    def done(success: bool, result: Any) -> None:
        if success:
            reactor.callFromThread(deferred.callback, result)
        else:
            reactor.callFromThread(deferred.errback, Failure(result))

    threadpool.callInThreadWithCallback(done, f, *args, **kwargs)
    return deferred


def deferToThread(f: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Deferred[R]:
    """`deferToThreadPool` with `currentReactor()` and its pool."""
    reactor = currentReactor()
    return deferToThreadPool(reactor, reactor.getThreadPool(), f, *args, **kwargs)


def callMultipleInThread(
    tupleList: list[tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]],
) -> None:
    """Call several functions one after the other in one thread of the pool of `currentReactor()`."""
    reactor = currentReactor()

    def run_all() -> None:
        for func, args, kwargs in tupleList:
            func(*args, **kwargs)

    reactor.callInThread(run_all)


def blockingCallFromThread(reactor: Any, f: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Any:
    """Call `f` on the reactor's thread and wait for its result, or for that of the Deferred it returns.

    Raises: what it raised; RuntimeError on the reactor's own thread, which would wait for itself, and when the reactor
            has stopped before there is a result. A call that was not begun by then is never made.
    Order:  waits for a reactor that is still to run; for ever, if nobody ever runs it.
    """
    if reactor.isReactorThread():
        raise RuntimeError(
            "blockingCallFromThread: this is the reactor's own thread, it would wait for itself"
        )
    answer: Future[Any] = Future()

    def succeeded(result: Any) -> None:
        if not answer.cancelled():
            answer.set_result(result)

    def failed(failure: Failure) -> Failure | None:
        if answer.cancelled():
            return failure
        answer.set_exception(failure.value)
        return None

    def run() -> None:
        if answer.cancelled():
            return
        try:
            maybeDeferred(f, *args, **kwargs).addCallbacks(succeeded, failed)
        except BaseException as exc:
            # Why passed on as well: SystemExit ends the run, but the thread that waits must not wait for ever.
            if not answer.cancelled():
                answer.set_exception(exc)
            raise

    take_back = reactor.callAtEnd(answer.cancel)
    try:
        reactor.callFromThread(run)
        return answer.result()
    except CancelledError:
        if not answer.cancelled():
            raise  # Its own, by another way.
        raise RuntimeError(
            f"blockingCallFromThread: the reactor has stopped, there will be no result of {f!r}"
        ) from None
    finally:
        take_back()
