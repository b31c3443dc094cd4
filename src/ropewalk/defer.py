"""Deferred: a result that is not there yet, and what is to be done with it.

Who asks gets a Deferred at once and adds callbacks; who answers fires it once, with a value or an error.
Each callback's result is the next one's argument; an exception or a Failure goes to the next errback. A
callback may return another Deferred: the chain then waits for that one. `await` waits for one in a
coroutine that `Deferred.fromCoroutine` drives.

This room is built on failure.py alone. It must never know a reactor (`addTimeout` is given a clock), a
transport or a thread: a Deferred belongs to the thread that made it.

One loop, `Deferred._run`, does everything that running callbacks means. Chained Deferreds, and coroutines
that end and so wake other coroutines, are put on a list of that loop; nothing recurses, however long.
A callback runs in the contextvars of the place where it was added. One that is added to a result that is
already there runs at once and needs no copy of them.

Rule: the traceback of a caught exception loses its first entry, which is ours: nobody wants to read it.
Rule: an error that was handled leaves no reference cycle. A traceback holds the frames it passed and all
  that called them, so a variable for a Failure is deleted before such a frame is left. One that nobody
  handles, or that was awaited, stays in its Deferred, to which the callers' variables often lead: that one
  goes, and is reported, when the garbage collector comes round.
Rule: SystemExit and KeyboardInterrupt are given to the rest of the chain, so that it can clean up, and
  then leave `callback()` all the same.
Rule: an error that nobody took is logged once, with where its Deferred was made, when the Deferred goes.
Rejected: `__del__` on Deferred for that. Python would call it for each one; a small object that exists
  only beside an error costs the others nothing.
Rejected: recording `f_lineno` at birth: finding the line takes a walk over the function's line table.
  The instruction's offset is free, and the line is found from it when it is printed.
Source: twisted.internet.defer for names, order and cancellation; PEP 492, PEP 567, PEP 442.
"""

from __future__ import annotations

import builtins
import logging
import sys
import traceback
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextvars import Context, copy_context
from operator import length_hint
from types import CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from ropewalk.failure import Failure

__all__ = [
    "AlreadyCalledError",
    "CancelledError",
    "Deferred",
    "NotACoroutineError",
    "TimeoutError",
    "ensureDeferred",
    "execute",
    "fail",
    "getDebugging",
    "maybeDeferred",
    "setDebugging",
    "succeed",
]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

logger = logging.getLogger("ropewalk")


class AlreadyCalledError(Exception):
    """A Deferred was fired a second time."""


class CancelledError(Exception):
    """What a cancelled Deferred fails with, unless its canceller fired it otherwise."""


class TimeoutError(builtins.TimeoutError):
    """What a Deferred fails with when its `addTimeout` ran out.

    Args:   timeout: the seconds that were given.
            what: the kind of thing that was waited for.
    """

    def __init__(self, timeout: float | None = None, what: str = "Deferred") -> None:
        # Why not OSError's own: it would take the seconds for an errno.
        Exception.__init__(self, timeout, what)

    def __str__(self) -> str:
        return f"{self.args[1]} had no result within {self.args[0]} seconds"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args


class NotACoroutineError(TypeError):
    """A coroutine was asked for and something else was given."""


class Call(Protocol):
    """What `callLater` returns, as far as `addTimeout` needs it."""

    def active(self) -> bool: ...

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Who can call later: a reactor, or a clock for tests."""

    def callLater(self, delay: float, callable: Callable[..., object], /) -> Call: ...


# Success, failure, arguments, keywords, context. A None in the first two lets the result pass; arguments are
# None if there are neither they nor keywords; the context is None if the callback is to run where it stands.
Item: TypeAlias = tuple[Any, Any, tuple[Any, ...] | None, Mapping[str, Any], Context | None]

ESCAPING = (SystemExit, KeyboardInterrupt)

# In an item's two places for callbacks: the Deferred in the arguments waits for this result, or the coroutine
# whose Driver is in the arguments does.
GIVE = object()
RESUME = object()


class Birth(NamedTuple):
    """Where a Deferred was made: one instruction and, with debugging on, the stacks as text."""

    code: CodeType
    offset: int
    stacks: str

    def __str__(self) -> str:
        found = self.code.co_firstlineno
        for start, end, line in self.code.co_lines():
            if start <= self.offset < end and line is not None:
                found = line
        return f"{self.code.co_filename}:{found}, in {self.code.co_qualname}{self.stacks}"


class Unhandled:
    """Stands beside an error while nobody takes it; logs it when it goes away with the Deferred."""

    __slots__ = ("birth", "failure")

    def __init__(self, failure: Failure, birth: Birth) -> None:
        self.failure: Failure | None = failure
        self.birth = birth

    def __del__(self) -> None:
        failure, self.failure = self.failure, None
        if failure is None:
            return
        value: object = failure.value
        if isinstance(value, BaseException) and not sys.is_finalizing():
            said, info = "", (failure.type, value, failure.tb)
        else:
            # Why: a Failure may be made of anything, and logging prints exceptions only; and it reads the
            # source for that, which an interpreter that goes down cannot do.
            said, info = f"\n{failure.getBriefTraceback()}", None
        logger.error("Unhandled error in a Deferred made at %s%s", self.birth, said, exc_info=info)


def _caught(exc: BaseException, given: object = None) -> Failure:
    """A Failure of what the frame that calls this has just caught, without that frame.

    Args:     given: what was being handled. An errback that raises its own error on, as `trap` does, has
                  changed nothing: the Failure stays, without the errback's frame, whose variable would
                  lead back to it.
    """
    if isinstance(given, Failure) and exc is given.value:
        exc.__traceback__ = given.tb
        return given
    seen = exc.__traceback__
    if seen is not None:
        exc.__traceback__ = seen.tb_next
    return Failure(exc)


def _with_arguments(
    callback: Callable[..., Any], args: tuple[Any, ...] | None, keywords: Mapping[str, Any] | None
) -> Callable[[Any], Any]:
    """The callback with its own arguments bound behind the result: the rare way, see addCallbacks."""
    if not args and not keywords:
        return callback
    return lambda result: callback(result, *(args or ()), **(keywords or {}))


class Deferred(Generic[T]):
    """A result that is not there yet.

    `called` tells whether it was fired, `paused` how often it is paused (waiting for another Deferred
    counts), `result` is what the next callback will be given; it is missing until then.

    Args:     canceller: called with this Deferred by `cancel()`, to stop the work behind it; it may fire
                  the Deferred. Without one, or if it does not fire, `cancel()` fires CancelledError.
    Source:   twisted.internet.defer.Deferred. Ours differs in: contextvars are those of where a callback
              was added; SystemExit and KeyboardInterrupt leave; returning the Deferred itself from its
              callback is an error at once; awaiting leaves the result in place.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_canceller",
        "_code",
        "_offset",
        "_quiet",
        "_running",
        "_stacks",
        "_unhandled",
        "called",
        "paused",
        "result",
    )

    # Whether whole stacks are kept of where each Deferred is made and fired. Slow; see setDebugging.
    debug = False

    result: Any

    def __init__(self, canceller: Callable[[Deferred[Any]], object] | None = None) -> None:
        # hot: benchmarks of callback chains; every slot below costs about 5 ns.
        self._callbacks: list[Item] | None = None
        self._canceller: Callable[[Deferred[Any]], object] | Driver | None = canceller
        self.called = False
        self.paused = 0
        self._running = False
        self._quiet = False  # cancelled without a canceller: the real result will still come, and is dropped
        self._unhandled: Unhandled | None = None
        frame = sys._getframe(1)
        self._code = frame.f_code
        self._offset = frame.f_lasti
        if self.debug:
            self._stacks = self._note("made", frame)

    # --- adding callbacks ---

    def addCallbacks(
        self,
        callback: Callable[..., R] | Callable[..., Deferred[R]],
        errback: Callable[..., R] | Callable[..., Deferred[R]] | None = None,
        callbackArgs: tuple[Any, ...] | None = (),
        callbackKeywords: Mapping[str, Any] | None = None,
        errbackArgs: tuple[Any, ...] | None = (),
        errbackKeywords: Mapping[str, Any] | None = None,
    ) -> Deferred[R]:
        """Add one step: `callback(result)` for a value, `errback(failure)` for an error.

        Args:     callback, errback: None as errback lets an error pass.
                  callbackArgs, callbackKeywords, errbackArgs, errbackKeywords: more arguments for each.
        Returns:  this Deferred, whose result is now what the step returns.
        Order:    if the result is there, the step runs before this returns.
        """
        self._add(
            _with_arguments(callback, callbackArgs, callbackKeywords),
            errback and _with_arguments(errback, errbackArgs, errbackKeywords),
            (),
            {},
        )
        return self  # type: ignore[return-value]

    @overload
    def addCallback(
        self, callback: Callable[Concatenate[T, P], Deferred[R]], *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[R]: ...

    @overload
    def addCallback(
        self,
        callback: Callable[Concatenate[T, P], Failure | Deferred[R] | R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Deferred[R]: ...

    def addCallback(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Add a step for a value; an error passes it by. More arguments are handed on.

        Returns:  this Deferred.
        """
        # hot: this is _add, written out for the commonest of the three.
        if not callable(callback):
            raise TypeError(f"a callback must be callable, not {callback!r}")
        at_once = self.called and not self.paused and not self._running
        context = None if at_once else copy_context()
        item: Item = (callback, None, args if args or kwargs else None, kwargs, context)
        if self._callbacks is None:
            self._callbacks = [item]
        else:
            self._callbacks.append(item)
        if at_once:
            self._run()
        return self

    @overload
    def addErrback(
        self, errback: Callable[Concatenate[Failure, P], Deferred[R]], *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T | R]: ...

    @overload
    def addErrback(
        self, errback: Callable[Concatenate[Failure, P], Failure], *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]: ...

    @overload
    def addErrback(
        self,
        errback: Callable[Concatenate[Failure, P], Failure | Deferred[R] | R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Deferred[T | R]: ...

    def addErrback(self, errback: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Add a step for an error; a value passes it by. More arguments are handed on.

        Returns:  this Deferred.
        """
        self._add(None, errback, args, kwargs)
        return self

    @overload
    def addBoth(
        self, callback: Callable[Concatenate[T | Failure, P], Deferred[R]], *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[R]: ...

    @overload
    def addBoth(
        self,
        callback: Callable[Concatenate[T | Failure, P], Failure | Deferred[R] | R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Deferred[R]: ...

    def addBoth(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Add a step for a value and for an error alike. More arguments are handed on.

        Returns:  this Deferred.
        """
        self._add(callback, callback, args, kwargs)
        return self

    def _add(self, success: Any, failed: Any, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        # hot: once for each callback (tests/rooms/test_defer.py says what to compare it with).
        for each in (success, failed):
            if not (each is None or callable(each)):
                raise TypeError(f"a callback must be callable, not {each!r}")
        at_once = self.called and not self.paused and not self._running
        context = None if at_once else copy_context()
        item: Item = (success, failed, args if args or keywords else None, keywords, context)
        if self._callbacks is None:
            self._callbacks = [item]
        else:
            self._callbacks.append(item)
        if at_once:
            self._run()

    def chainDeferred(self, d: Deferred[T]) -> Deferred[None]:
        """Fire another Deferred with whatever this one comes to.

        Returns:  this Deferred, whose result is None from here on.
        """
        return self.addCallbacks(d.callback, d.errback)

    def addTimeout(
        self,
        timeout: float,
        clock: Clock,
        onTimeoutCancel: Callable[[Any, float], Any] | None = None,
    ) -> Deferred[T]:
        """Cancel this Deferred if what was added so far has not come to a result in time.

        Args:     timeout: seconds.
                  clock: the reactor.
                  onTimeoutCancel: called with (result, timeout) after it was cancelled for the time's
                      sake; gives the result. None turns CancelledError into TimeoutError.
        Returns:  this Deferred.
        Fails:    TimeoutError.
        """
        over = False

        def ran_out() -> None:
            nonlocal over
            over = True
            self.cancel()

        call = clock.callLater(timeout, ran_out)

        def settle(result: Any) -> Any:
            if call.active():
                call.cancel()
            if not over:
                return result
            if onTimeoutCancel is not None:
                return onTimeoutCancel(result, timeout)
            if isinstance(result, Failure):
                result.trap(CancelledError)
                raise TimeoutError(timeout, "Deferred")
            return result

        return self.addBoth(settle)

    # --- firing ---

    def callback(self, result: T | Failure) -> None:
        """Fire with a value; a Failure is taken as an error.

        Raises:   AlreadyCalledError if it was fired before.
        Order:    the callbacks run before this returns.
        """
        if self.called:
            return self._fired_again()
        self.called = True
        self._canceller = None  # Safe because: cancelling is over; and it may lead back to this Deferred.
        self.result = result
        if self.debug:
            self._stacks = getattr(self, "_stacks", "") + self._note("fired", sys._getframe(1))
        if self.paused:
            self._guard_error()
        elif self._callbacks is not None or isinstance(result, Failure):
            self._run()
        return None

    def errback(self, fail: Failure | BaseException | None = None) -> None:
        """Fire with an error.

        Args:     fail: a Failure, an exception, or None for the exception being handled.
        Raises:   AlreadyCalledError if it was fired before; NoCurrentExceptionError for None where no
                  exception is being handled.
        Order:    the errbacks run before this returns.
        """
        self.callback(fail if isinstance(fail, Failure) else Failure(fail))

    def _fired_again(self) -> None:
        if self._quiet:
            self._quiet = False
            return
        raise AlreadyCalledError(f"this Deferred has been fired before; it was made at {self._birth()}")

    def _birth(self) -> Birth:
        return Birth(self._code, self._offset, getattr(self, "_stacks", ""))

    def _note(self, what: str, frame: FrameType | None) -> str:
        return "".join([f"\n{what} here:\n", *traceback.format_stack(frame)]).rstrip()

    def _made_by(self, frame: FrameType) -> None:
        """Record another place of birth: that of the call of a function which makes Deferreds."""
        self._code = frame.f_code
        self._offset = frame.f_lasti

    # --- holding back ---

    def pause(self) -> None:
        """Run no callbacks until `unpause` was called as often as this."""
        self.paused += 1

    def unpause(self) -> None:
        """Undo one `pause`; after the last, callbacks whose turn has come run before this returns."""
        self.paused -= 1
        if self.called and not self.paused:
            self._run()

    def cancel(self) -> None:
        """Say that the result is not wanted any more.

        A Deferred that waits for another one cancels that; one that a coroutine will fire cancels what
        the coroutine waits for, and the coroutine sees CancelledError there. One that was fired stays as
        it is.

        Fails:    CancelledError, unless the canceller fires something else.
        """
        # Why a loop: it may be a long way down a chain.
        target: Deferred[Any] = self
        while (waited := target._waits_for()) is not None:
            target = waited
        canceller = target._canceller
        if target.called or isinstance(canceller, Driver):
            return  # nothing is waited for: it is over, or the coroutine runs and this is its own call
        if canceller is None:
            target._quiet = True
        else:
            canceller(target)
        if not target.called:
            target.errback(CancelledError())

    def _waits_for(self) -> Deferred[Any] | None:
        """The Deferred whose result this one needs, directly or through its coroutine."""
        if self.called:
            return self.result if isinstance(self.result, Deferred) else None
        return self._canceller.waiting_for if isinstance(self._canceller, Driver) else None

    # --- running ---

    def _run(self) -> None:
        """Run what can be run: the callbacks of this Deferred, and of all that wait for it."""
        if self._running or self.paused:
            return
        escaping: list[BaseException] = []
        following = self._advance(escaping)
        if following is not None:
            self._run_waiting(following, escaping)
        if escaping:
            exc = escaping[0]
            escaping.clear()
            try:
                raise exc
            finally:
                del exc  # Why: the traceback holds this frame

    def _run_waiting(self, following: Deferred[Any] | None, escaping: list[BaseException]) -> None:
        """Go on with a Deferred that waited for this one, then with those waiting for that, and so on."""
        current: Deferred[Any] = self
        unfinished: list[Deferred[Any]] = []
        while True:
            if following is not None:
                if current._callbacks is not None:
                    unfinished.append(current)
                current = following
            elif unfinished:
                current = unfinished.pop()
            else:
                return
            if current.paused or current._running:
                current._guard_error()
                following = None
            else:
                following = current._advance(escaping)

    def _advance(self, escaping: list[BaseException]) -> Deferred[Any] | None:
        """Run this Deferred's own callbacks, until they end, wait, or give the result to another.

        Returns:  the Deferred to go on with; it is fired and unpaused, as far as this one kept it.
        """
        # hot: one turn of the loop for each callback.
        following: Deferred[Any] | None = None
        result = self.result
        taken = False  # a coroutine was given the error
        callbacks = self._callbacks
        if callbacks is not None:
            self._running = True
            items = iter(callbacks)
            for success, failed, args, keywords, context in items:
                step = failed if isinstance(result, Failure) else success
                taken = False
                if step is None:
                    continue
                if step is GIVE or step is RESUME:
                    following, taken = self._pass_on(step, args, escaping)
                    result = self.result
                    if following is not None or self.paused:
                        break
                    continue
                try:
                    if args is None:
                        result = step(result) if context is None else context.run(step, result)
                    elif context is None:
                        result = step(result, *args, **keywords)
                    else:
                        result = context.run(step, result, *args, **keywords)
                except BaseException as exc:
                    if isinstance(exc, ESCAPING):
                        escaping.append(exc)
                    result = _caught(exc, result)
                self.result = result
                if isinstance(result, Deferred):
                    self._wait_for(result)
                    result = self.result
                if self.paused:
                    break
            else:
                self._callbacks = None
            self._running = False
            if self._callbacks is not None:
                self._callbacks = callbacks[len(callbacks) - length_hint(items) :] or None
        if self._unhandled is not None:
            self._took_error()
        if isinstance(result, Failure) and not taken and not any(result.value is exc for exc in escaping):
            self._unhandled = Unhandled(result, self._birth())
        del result  # Why: tracebacks of what the callbacks raised hold this frame
        return following

    def _pass_on(
        self, step: object, args: Any, escaping: list[BaseException]
    ) -> tuple[Deferred[Any] | None, bool]:
        """Give the result to who waits for it: (the Deferred to go on with, is the error taken)."""
        if step is RESUME:
            ended: Deferred[Any] | None = args[0].step(self.result)
            ending = None if ended is None else ended.result
            if isinstance(ending, Failure) and isinstance(ending.value, ESCAPING):
                escaping.append(ending.value)
            return ended, True
        waiting: Deferred[Any] = args[0]
        waiting.result = self.result
        waiting.paused -= 1
        self.result = None
        return waiting, True

    def _wait_for(self, other: Any) -> None:
        """Take the result of the Deferred that a callback returned, or pause until it has one."""
        if other is self:
            said = "a callback returned the Deferred that it was added to, which would wait for itself"
            self.result = Failure(RuntimeError(said))
            return
        while isinstance(other, Deferred):
            if other.paused or not other.called:
                self.result = other
                self.paused += 1
                other._append((GIVE, GIVE, (self,), {}, None))
                return
            value, other.result = other.result, None
            other._took_error()
            other = value
        self.result = other

    def _append(self, item: Item) -> None:
        if self._callbacks is None:
            self._callbacks = [item]
        else:
            self._callbacks.append(item)

    def _guard_error(self) -> None:
        """See to it that the error is reported if this Deferred goes before anybody takes it."""
        if isinstance(self.result, Failure):
            self._took_error()
            self._unhandled = Unhandled(self.result, self._birth())

    def _took_error(self) -> None:
        """Somebody has taken the error: it needs no report."""
        if self._unhandled is not None:
            self._unhandled.failure = None
            self._unhandled = None

    # --- coroutines ---

    def __await__(self) -> Generator[Any, Any, T]:
        if self.called and not self.paused:
            result = self.result
            if isinstance(result, Failure):
                self._took_error()
                try:
                    raise result.value.with_traceback(result.tb)
                finally:
                    del self, result  # Why: the traceback holds this frame
            return result  # type: ignore[no-any-return]
        # Why: an error thrown in here keeps this frame; a `self` in it would lead back to the error.
        waited = [self]
        del self
        return (yield waited.pop())  # type: ignore[no-any-return]

    __iter__ = __await__

    @staticmethod
    def fromCoroutine(coro: Coroutine[Any, Any, R] | Generator[Any, Any, R]) -> Deferred[R]:
        """Run a coroutine that awaits Deferreds, until it first has to wait.

        Returns:  a Deferred that fires with what the coroutine returns or raises. Cancelling it cancels
                  what the coroutine waits for; the coroutine may catch the CancelledError and go on.
        Raises:   NotACoroutineError. SystemExit and KeyboardInterrupt of the coroutine.
        """
        return _drive(coro, sys._getframe(1))

    def __repr__(self) -> str:
        state = ""
        if self.called:
            result = getattr(self, "result", None)
            waits = isinstance(result, Deferred)
            state = f" waiting on Deferred at {id(result):#x}" if waits else f" current result: {result!r}"
        return f"<{type(self).__name__} at {id(self):#x}{state}>"


class Driver:
    """One coroutine, and the Deferred that it will fire.

    Args:   coroutine: a coroutine, or a generator that yields Deferreds.
            deferred: fired when the coroutine ends.
    """

    __slots__ = ("context", "coroutine", "deferred", "waiting_for")

    def __init__(self, coroutine: Any, deferred: Deferred[Any]) -> None:
        self.coroutine = coroutine
        self.deferred = deferred
        self.context = copy_context()
        self.waiting_for: Deferred[Any] | None = None

    def step(self, result: object) -> Deferred[Any] | None:
        """Run on with this result until the coroutine waits or ends.

        Returns:  None, or the Deferred with its result set, its callbacks still to be run.
        """
        self.waiting_for = None
        while True:
            try:
                if isinstance(result, Failure):
                    thrown = result.value.with_traceback(result.tb)
                    awaited = self.context.run(self.coroutine.throw, thrown)
                else:
                    awaited = self.context.run(self.coroutine.send, result)
            except StopIteration as stop:
                return self._ended(stop.value)
            except BaseException as exc:
                result = thrown = None  # Why: the traceback holds this frame
                return self._ended(_caught(exc))
            if not isinstance(awaited, Deferred):
                result = Failure(TypeError(f"only Deferreds can be awaited here, not {awaited!r}"))
            elif awaited.called and not awaited.paused:
                result = awaited.result
                awaited._took_error()
            else:
                self.waiting_for = awaited
                awaited._append((RESUME, RESUME, (self,), {}, None))
                return None

    def _ended(self, result: object) -> Deferred[Any] | None:
        deferred = self.deferred
        if deferred.called:  # the user fired it in the coroutine's stead
            return None
        deferred.called = True
        deferred._canceller = None
        deferred.result = result
        return deferred


def _drive(coroutine: object, frame: FrameType) -> Deferred[Any]:
    if not isinstance(coroutine, (CoroutineType, GeneratorType, Coroutine)):
        raise NotACoroutineError(f"{coroutine!r} is not a coroutine")
    deferred: Deferred[Any] = Deferred()
    deferred._made_by(frame)
    driver = Driver(coroutine, deferred)
    deferred._canceller = driver
    if driver.step(None) is not None:
        result = deferred.result
        if isinstance(result, Failure):
            if isinstance(result.value, ESCAPING):
                result.raiseException()
            deferred._run()
    return deferred


def _fired(result: Any, frame: FrameType) -> Deferred[Any]:
    """A Deferred that has this result already, counted as made in that frame."""
    deferred: Deferred[Any] = Deferred()
    deferred._made_by(frame)
    deferred.called = True
    deferred.result = result
    if isinstance(result, Failure):
        deferred._run()
    return deferred


def succeed(result: T) -> Deferred[T]:
    """A Deferred that has this result already."""
    deferred: Deferred[T] = Deferred()
    deferred._made_by(sys._getframe(1))
    deferred.called = True
    deferred.result = result
    return deferred


def fail(result: Failure | BaseException | None = None) -> Deferred[Any]:
    """A Deferred that has failed already.

    Args:     result: a Failure, an exception, or None for the exception being handled.
    Raises:   NoCurrentExceptionError for None where no exception is being handled.
    """
    return _fired(result if isinstance(result, Failure) else Failure(result), sys._getframe(1))


def execute(callable: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
    """Call it now; what it returns or raises becomes the result of the Deferred returned."""
    try:
        result: Any = callable(*args, **kwargs)
    except ESCAPING:
        raise
    except BaseException as exc:
        result = _caught(exc)
    return _fired(result, sys._getframe(1))


@overload
def maybeDeferred(f: Callable[P, Deferred[T]], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]: ...


@overload
def maybeDeferred(
    f: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
) -> Deferred[T]: ...


@overload
def maybeDeferred(f: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]: ...


def maybeDeferred(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
    """Call it now and give back a Deferred, whether it returned one, a coroutine, a Failure or a value."""
    frame = sys._getframe(1)
    try:
        result = f(*args, **kwargs)
    except ESCAPING:
        raise
    except BaseException as exc:
        result = _caught(exc)
    if isinstance(result, Deferred):
        return result
    return _drive(result, frame) if isinstance(result, CoroutineType) else _fired(result, frame)


def ensureDeferred(coro: Coroutine[Any, Any, T] | Generator[Any, Any, T] | Deferred[T]) -> Deferred[T]:
    """The Deferred itself, or that of `Deferred.fromCoroutine`.

    Raises:   NotACoroutineError for anything else.
    """
    return coro if isinstance(coro, Deferred) else _drive(coro, sys._getframe(1))


def setDebugging(on: bool) -> None:
    """Whether Deferreds keep the whole stacks of where they are made and fired. It costs much time."""
    Deferred.debug = bool(on)


def getDebugging() -> bool:
    """Whether `setDebugging` is on."""
    return Deferred.debug
