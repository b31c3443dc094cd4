"""Deferred: a result that is not there yet, and what is to be done with it.

Who asks gets a Deferred at once and adds callbacks; who answers fires it once, with a value or an error.
Each callback's result is the next one's argument; an exception or a Failure goes to the next errback. A
callback may return another Deferred: the chain then waits for that one. `await` waits for one in a
coroutine that `Deferred.fromCoroutine` drives.

It must never know a reactor (`addTimeout` is given a clock), a transport or a thread: a Deferred belongs to the
thread that made it.

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
Source: twisted.internet.defer for names, order and cancellation; PEP 492, PEP 567.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextvars import Context, copy_context
from operator import length_hint
from types import CoroutineType, FrameType, GeneratorType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    overload,
)

from ropewalk.defer.errors import AlreadyCalledError, CancelledError, NotACoroutineError, TimeoutError
from ropewalk.defer.reporting import Birth, Unhandled, caught, note_birth, report_dropped
from ropewalk.failure import Failure

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


class Call(Protocol):
    """What `callLater` returns, as far as `addTimeout` needs it."""

    def active(self) -> bool: ...

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Who can call later: a reactor, or a clock for tests."""

    def callLater(self, delay: float, callable: Callable[..., object], /) -> Call: ...


# Success, failure, arguments, keywords, context. A None in the first two lets the result pass; arguments are
# None if there are neither they nor keywords; the context is None if the callback is to run where it stands.
Item: TypeAlias = tuple[Any, Any, Any, Mapping[str, Any], Context | None]
NO_KEYWORDS: Mapping[str, Any] = {}

# hot: as a name of this module's; it is asked for each Deferred.
get_frame = sys._getframe

ESCAPING = (SystemExit, KeyboardInterrupt)
# What `fromCoroutine` takes; the common ones first, as asking an abstract class takes long.
RESUMABLE = (CoroutineType, GeneratorType, Coroutine)

# In an item's two places for callbacks: the Deferred in the arguments' place waits for this result, or the
# coroutine whose Driver is there does, or the Deferred there is to be fired with it.
GIVE = object()
RESUME = object()
FIRE = object()


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
        "_quiet",  # there once it was cancelled without a canceller: one result will still come, and is dropped
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
        self._unhandled: Unhandled | None = None
        frame = get_frame(1)
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
        item: Item = (
            callback,
            None,
            args if args or kwargs else None,
            kwargs,
            None if at_once else copy_context(),
        )
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
        if type(d) is not Deferred or d is self:
            # Why: a class of its own may have a `callback` of its own.
            return self.addCallbacks(d.callback, d.errback)
        # Why not its callback: each Deferred of a long chain would call the next one.
        self._append((FIRE, FIRE, d, NO_KEYWORDS, None))
        if self.called and not self.paused:
            self._run()
        return self  # type: ignore[return-value]

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
        # Why: from CPython 3.12 on, the frame of a coroutine that has ended knows the frame that resumed it, and
        # the traceback of an error keeps it. Variables that lead back to the error would close a circle.
        del self, result
        return None

    def errback(self, fail: Failure | BaseException | None = None) -> None:
        """Fire with an error.

        Args:     fail: a Failure, an exception, or None for the exception being handled.
        Raises:   AlreadyCalledError if it was fired before; NoCurrentExceptionError for None where no
                  exception is being handled.
        Order:    the errbacks run before this returns.
        """
        self.callback(fail if isinstance(fail, Failure) else Failure(fail))
        del self, fail  # Why: as in callback

    def _fired_again(self) -> None:
        if getattr(self, "_quiet", False):
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
            if type(target).cancel is not Deferred.cancel:
                target.cancel()  # a subclass has its own way: DeferredList
                return
        canceller = target._canceller
        if target.called or isinstance(canceller, Driver):
            return  # nothing is waited for: it is over, or the coroutine runs and this is its own call
        if canceller is None:
            target._quiet = True
        else:
            canceller(target)
        if not target.called:
            target.errback(CancelledError())
        del target  # Why: as in callback

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
        callbacks = self._callbacks
        if callbacks is not None and len(callbacks) == 1 and callbacks[0][0] is RESUME:
            # hot: one coroutine waits for it and nothing else: as in _advance, without what others need.
            self._callbacks = None
            self._running = True
            following = callbacks[0][2].step(self.result)
            self._running = False
            if self._unhandled is not None:
                self._took_error()
            if following is not None:
                _note_leaving(following, escaping)
            elif self._callbacks is None or self.paused:
                del self  # Why: as in callback
                return
            else:
                following = self._advance(escaping)
        else:
            following = self._advance(escaping)
        if following is not None:
            self._run_waiting(following, escaping)
        del self  # Why: as in callback
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
                if isinstance(result, Failure):
                    step = failed
                    taken = False
                else:
                    step = success
                if step is None:
                    continue
                if context is None and (step is GIVE or step is RESUME or step is FIRE):
                    following = self._pass_on(step, args, escaping)
                    result = self.result
                    taken = isinstance(result, Failure) and step is not FIRE
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
                    result = caught(exc, result)
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

    def _pass_on(self, step: object, waits: Any, escaping: list[BaseException]) -> Deferred[Any] | None:
        """Give the result to who waits for it.

        Returns:  the Deferred to go on with. An error is taken; if it is left here, a coroutine has seen it.
        """
        if step is RESUME:
            ended: Deferred[Any] | None = waits.step(self.result)
            if ended is not None:
                _note_leaving(ended, escaping)
            return ended
        waiting: Deferred[Any] = waits
        if step is FIRE:
            if waiting.called:
                self.result = None
                try:
                    waiting._fired_again()
                except AlreadyCalledError as exc:
                    self.result = caught(exc)
                return None
            waiting.called = True
            waiting._canceller = None  # Safe because: as in callback
            if waiting.debug:
                waiting._stacks = getattr(waiting, "_stacks", "") + waiting._note("fired", sys._getframe(1))
        else:
            waiting.paused -= 1
        waiting.result = self.result
        self.result = None
        return waiting

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
                other._append((GIVE, GIVE, self, NO_KEYWORDS, None))
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
                if result.tb is None:
                    note_birth(result.value, self._birth())
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
        return drive(coro, sys._getframe(1))

    # --- asyncio ---

    def asFuture(self, loop: AbstractEventLoop) -> Future[T]:
        """A Future of asyncio's for this result. This Deferred is used up: it goes on with None.

        Args:     loop: the loop that the Future belongs to; it has to run in this thread.
        Returns:  the Future; cancelling it cancels this Deferred.
        """
        future: Future[T] = loop.create_future()

        def succeeded(result: T) -> None:
            if not future.done():
                future.set_result(result)

        def failed(failure: Failure) -> None:
            if future.done():
                return
            exc = failure.value
            if isinstance(exc, StopIteration):  # no Future takes it, and it would wait for ever
                exc, cause = RuntimeError(f"the Deferred failed with {exc!r}"), exc
                exc.__cause__ = cause
            future.set_exception(exc)

        self.addCallbacks(succeeded, failed)
        future.add_done_callback(lambda future: self.cancel() if future.cancelled() else None)
        return future

    @classmethod
    def fromFuture(cls, future: Future[R]) -> Deferred[R]:
        """A Deferred for the result of an asyncio Future.

        Returns:  the Deferred; cancelling it cancels the Future, and it fails once the Future has ended.
        Fails:    what the Future raises; asyncio.CancelledError for one that was cancelled.
        """
        called_off = object()

        def cancel(deferred: Deferred[Any]) -> None:
            future.cancel()
            deferred.callback(called_off)

        made: Deferred[Any] = cls(cancel)
        made._made_by(sys._getframe(1))
        # The one to be fired: after a cancellation another one, which the first waits for.
        waiting = [made]

        def ended(future: Future[R]) -> None:
            result: Any
            try:
                result = future.result()
            except BaseException as exc:
                result = caught(exc)
            waiting.pop().callback(result)

        def wait_on(result: Any) -> Any:
            if result is called_off:
                waiting[:] = [Deferred()]
                return waiting[0]
            return result

        made.addCallback(wait_on)
        future.add_done_callback(ended)
        return made

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

    __slots__ = ("coroutine", "deferred", "run", "send", "waiting_for")

    def __init__(self, coroutine: Any, deferred: Deferred[Any]) -> None:
        self.coroutine = coroutine
        self.deferred = deferred
        # hot: bound once, not for each step.
        self.run = copy_context().run
        self.send = coroutine.send
        self.waiting_for: Deferred[Any] | None = None

    def step(self, result: object) -> Deferred[Any] | None:
        """Run on with this result until the coroutine waits or ends.

        Returns:  None, or the Deferred with its result set, its callbacks still to be run.
        """
        # hot: once for each time that something is waited for.
        awaited = self.waiting_for
        self.waiting_for = None
        while True:
            try:
                if isinstance(result, Failure):
                    thrown = result.value
                    if result.tb is None and awaited is not None:
                        note_birth(thrown, awaited._birth())
                    awaited = self.run(self.coroutine.throw, thrown.with_traceback(result.tb))
                else:
                    awaited = self.run(self.send, result)
            except StopIteration as stop:
                result = awaited = thrown = None  # Why: as in callback
                return self._ended(stop.value)
            except BaseException as exc:
                result = awaited = thrown = None  # Why: the traceback holds this frame
                return self._raised(exc)
            if not isinstance(awaited, Deferred):
                result = self._yielded(awaited)
                awaited = result if isinstance(result, Deferred) else None
                if awaited is None:
                    continue
            if awaited.called and not awaited.paused:
                result = awaited.result
                awaited._took_error()
            else:
                self.waiting_for = awaited
                item: Item = (RESUME, RESUME, self, NO_KEYWORDS, None)
                if awaited._callbacks is None:
                    awaited._callbacks = [item]
                else:
                    awaited._callbacks.append(item)
                return None

    def _yielded(self, value: object) -> object:
        """What to go on with when it was no Deferred: a generator gets any other object back as it is."""
        if not isinstance(self.coroutine, GeneratorType):
            return Failure(TypeError(f"only Deferreds can be awaited here, not {value!r}"))
        if isinstance(value, RESUMABLE[:2]):
            return drive(value, self.coroutine.gi_frame or sys._getframe())
        return value

    def _raised(self, exc: BaseException) -> Deferred[Any] | None:
        if isinstance(exc, Returned):
            return self._ended(exc.args[0])
        return self._ended(caught(exc))

    def _ended(self, result: object) -> Deferred[Any] | None:
        deferred = self.deferred
        if deferred.called:  # the user fired it in the coroutine's stead
            return None
        deferred.called = True
        deferred._canceller = None
        if isinstance(result, Deferred):
            result = Failure(
                TypeError(f"a coroutine returned {result!r} where its result is wanted: await it first")
            )
        deferred.result = result
        return deferred

    def __del__(self) -> None:
        if self.waiting_for is not None and not sys.is_finalizing():
            report_dropped(self.coroutine, self.deferred._birth(), self.waiting_for._birth())


class Returned(BaseException):
    """How `returnValue` leaves its generator."""


def _note_leaving(ended: Deferred[Any], escaping: list[BaseException]) -> None:
    """See to it that what a coroutine ended with leaves `callback()` as well, if it is to leave."""
    ending = ended.result
    if isinstance(ending, Failure) and isinstance(ending.value, ESCAPING):
        escaping.append(ending.value)


def drive(coroutine: object, frame: FrameType) -> Deferred[Any]:
    """`Deferred.fromCoroutine`, its Deferred counted as made in that frame."""
    if not isinstance(coroutine, RESUMABLE):
        raise NotACoroutineError(f"{coroutine!r} is not a coroutine")
    deferred: Deferred[Any] = Deferred()
    deferred._code = frame.f_code
    deferred._offset = frame.f_lasti
    driver = Driver(coroutine, deferred)
    deferred._canceller = driver
    if driver.step(None) is not None:
        result = deferred.result
        if isinstance(result, Failure):
            if isinstance(result.value, ESCAPING):
                result.raiseException()
            deferred._run()
    return deferred
