"""A program run to its end: one main function on one reactor.

`run` is a call like any other: a fresh reactor, the result returned or the exception raised, the reactor given back.
`react` is the last line of a script: the default reactor, and the process exits with a status.

Both end in order. When main is over the reactor is stopped, which tells every connection. When the reactor is stopped
first, by a signal or by the program, `run` cancels main and lets it clean up; the shutdown waits for that.
SystemExit and KeyboardInterrupt leave a reactor at once, and so they would leave it half closed: it is then run once
more, only to be shut down.
It must never know a loop. It is built on the reactor's public API alone.
Rejected: KeyboardInterrupt from `run` after SIGINT. The reactor takes SIGINT as a wish to stop, as SIGTERM is, and so
  main is cancelled: `run` raises what main makes of that.
Source: twisted.internet.task.react; the asyncio runner for what a caller expects of `run`.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from contextvars import copy_context
from types import CoroutineType, FrameType
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar, overload

from ropewalk.defer import Deferred, ensureDeferred, fail, maybeDeferred
from ropewalk.engine import Reactor
from ropewalk.error import ReactorNotRunning
from ropewalk.failure import Failure
from ropewalk.task.later import CURRENT

T = TypeVar("T")
P = ParamSpec("P")

logger = logging.getLogger("ropewalk")

ESCAPING = (SystemExit, KeyboardInterrupt)

# Mains of `react` that had not ended when their reactor was stopped. Why kept: they end with the process, as they
# were meant to; a main that waits for ever is how a server is written, and no dropped coroutine to be told of.
left_running: list[Deferred[Any]] = []


class Main:
    """One main, from its start on a reactor until that has stopped."""

    def __init__(self, reactor: Any, start: Callable[[], Deferred[Any]]) -> None:
        self.reactor = reactor
        self.start = start
        self.deferred: Deferred[Any] | None = None
        self.outcome: list[Any] = []
        self.shutdown: Deferred[None] | None = None

    def run(self) -> Any:
        """Returns: the result. Raises: what main raised."""
        self.reactor.addSystemEventTrigger("before", "shutdown", self.cancel)
        self.reactor.callWhenRunning(self.begin)
        run_and_shut_down(self.reactor)
        if not self.outcome and self.deferred is not None:
            self.deferred.cancel()  # the reactor has crashed: nobody has told main
        if not self.outcome:
            raise RuntimeError("the reactor has ended before main has")
        outcome = self.outcome.pop()
        if isinstance(outcome, Failure):
            try:
                outcome.raiseException()
            finally:
                del outcome, self  # Why: the traceback holds this frame
        return outcome

    def begin(self) -> None:
        self.deferred = self.start()
        self.deferred.addBoth(self.end)

    def end(self, result: Any) -> None:
        self.outcome.append(result)
        if self.shutdown is not None:
            self.shutdown.callback(None)
        else:
            stop(self.reactor)

    def cancel(self) -> Deferred[None] | None:
        """The reactor is about to shut down: main is to end too. Returns: what the shutdown waits for."""
        if self.outcome or self.deferred is None:
            return None
        self.shutdown = Deferred()
        self.deferred.cancel()
        return self.shutdown


def stop(reactor: Any) -> None:
    try:
        reactor.stop()
    except ReactorNotRunning:
        return  # somebody else has stopped it


def run_and_shut_down(reactor: Any) -> None:
    """Run until it is stopped. Raises: SystemExit, KeyboardInterrupt, after everything was told of the end."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    try:
        reactor.run(installSignalHandlers=in_main_thread)
    except ESCAPING:
        reactor.callWhenRunning(stop, reactor)
        reactor.run(installSignalHandlers=in_main_thread)
        raise


@overload
def run(main: Coroutine[Any, Any, T] | Deferred[T], /) -> T: ...


@overload
def run(
    main: Callable[Concatenate[Reactor, P], Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
) -> T: ...


@overload
def run(main: Callable[Concatenate[Reactor, P], Deferred[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...


@overload
def run(main: Callable[Concatenate[Reactor, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...


def run(main: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Run a program to its end on a reactor of its own.

    Args:     main: called as `main(reactor, *args, **kwargs)` when the reactor runs; may be a coroutine function or
                  return a Deferred. Or a coroutine or a Deferred by itself.
    Returns:  its result.
    Raises:   what it raises; RuntimeError within another `run`. When the reactor is stopped first (SIGINT, SIGTERM,
                  `reactor.stop()`) main is cancelled, and what it makes of that is returned or raised:
                  CancelledError, unless it is caught.
    Order:    the reactor has shut down and is closed when this returns. Coroutines that still wait are dropped,
                  and that is logged.
    """
    outer = CURRENT.get()
    if outer is not None and outer.running and outer.isReactorThread():
        if isinstance(main, CoroutineType):
            main.close()
        raise RuntimeError("run: a reactor runs in this thread already, and would stand still meanwhile")
    with Reactor() as reactor:
        context = copy_context()
        context.run(CURRENT.set, reactor)

        def start() -> Deferred[Any]:
            return maybeDeferred(main, reactor, *args, **kwargs) if callable(main) else ensureDeferred(main)

        return context.run(Main(reactor, start).run)


def react(
    main: Callable[..., Deferred[Any] | Coroutine[Any, Any, Any]],
    argv: Iterable[object] = (),
    _reactor: Any = None,
) -> NoReturn:
    """Run a script's main function to its end, and exit.

    Args:     main: called at once as `main(reactor, *argv)`; returns a Deferred or a coroutine.
              _reactor: for tests; None is the default reactor.
    Raises:   SystemExit, always: 0 if main has succeeded, 1 if it has failed, which is logged, and the code of a
                  SystemExit that it raised. 0 too if the reactor was stopped first, by a signal for one.
              What the call of main itself raises; NotACoroutineError if it returns something else.
    Order:    the reactor has shut down before it is raised.
    """
    if _reactor is None:
        from ropewalk import reactor as _reactor
    context = copy_context()
    context.run(CURRENT.set, _reactor)
    sys.exit(context.run(_exit_code, main, argv, _reactor, sys._getframe(1)))


def _exit_code(main: Callable[..., Any], argv: Iterable[object], reactor: Any, caller: FrameType) -> Any:
    code: Any = 0
    is_stopping = False

    def shutting_down() -> None:
        nonlocal is_stopping
        is_stopping = True

    def note(result: Any) -> None:
        nonlocal code
        if not isinstance(result, Failure):
            return
        if isinstance(result.value, SystemExit):
            code = result.value.code
        elif not isinstance(result.value, KeyboardInterrupt):  # that one leaves by itself
            logger.error("main function encountered error", exc_info=(result.type, result.value, result.tb))
            code = 1

    def finish(result: Any) -> None:
        stop(reactor)
        note(result)

    asked = main(reactor, *argv)
    try:
        finished = ensureDeferred(asked)
    except SystemExit as exc:
        finished = fail(exc)  # Why: the reactor is to run and shut down first, whenever main exits
    if finished is not asked:
        finished._made_by(caller)
    reactor.addSystemEventTrigger("before", "shutdown", shutting_down)
    finished.addBoth(
        lambda result: note(result) if is_stopping else reactor.callWhenRunning(finish, result) and None
    )
    try:
        run_and_shut_down(reactor)
    finally:
        if not finished.called:
            left_running.append(finished)
    return code
