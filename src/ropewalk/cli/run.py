"""`ropewalk run MODULE:SERVICE`: a program whose main part is a service, from its start to its drained end.

    start     privilegedStartService, startService (awaited, if it gives something to await)
    SIGTERM   or SIGINT: reactor.drain, so that who is connected may finish; then stopService; exit status 0
    again     a second signal: everything is closed at once; exit status 1

What is named may be the service itself, or a function that is given the reactor and returns it; a coroutine function too. The
reactor is the default one, `ropewalk.reactor`, so a module may also use that by its name. Errors are one line that names what
was wrong, with the place in the user's own file where there is one: a traceback through our own rooms helps nobody.

Rejected: a function that runs as long as the program does. That is `ropewalk.task.run`, which needs no tool.
Source: twistd for the order; `python -m` for what is imported; HAProxy and nginx for what a second signal means.
"""

import os
import sys
import traceback
from importlib import import_module
from typing import Any

import ropewalk
from ropewalk.cli.outcome import Outcome, say
from ropewalk.cli.signals import told_by_signals
from ropewalk.defer import CancelledError, Deferred, maybeDeferred
from ropewalk.task.running import stop

__all__ = ["Target", "run"]


class NotRunnable(Exception):
    """Its text says what is wrong with what was to be run."""


class Target:
    """MODULE:NAME, read.

    Raises: ValueError that repeats the text and says what would be right.
    """

    def __init__(self, text: str) -> None:
        module, _, name = text.partition(":")
        parts = [*module.split("."), *name.split(".")]
        if not all(part.isidentifier() for part in parts):
            raise ValueError(f"{text!r} is not MODULE:SERVICE, as in shop.main:service")
        self.module = module
        self.name = name

    def find(self) -> Any:
        """The object. Raises: NotRunnable."""
        sys.path.insert(0, os.getcwd())
        try:
            found: Any = import_module(self.module)
        except ModuleNotFoundError as exc:
            # Why asked: a module that this one imports may be missing, and that is another mistake.
            if exc.name is not None and f"{self.module}.".startswith(f"{exc.name}."):
                raise NotRunnable(f"no module {exc.name!r} here or on Python's path") from exc
            raise NotRunnable(f"importing {self.module!r} raised {_told(exc)}") from exc
        except Exception as exc:
            raise NotRunnable(f"importing {self.module!r} raised {_told(exc)}") from exc
        for part in self.name.split("."):
            try:
                found = getattr(found, part)
            except AttributeError as exc:
                raise NotRunnable(f"{self.module!r} has no {self.name!r}") from exc
        if not (_is_service(found) or callable(found)):
            raise NotRunnable(f"{self} is no service, nor a function that returns one: {found!r:.100}")
        return found

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


def run(target: Target, drain: float) -> Outcome:
    """Run a service until a signal, or until it stops the reactor by itself.

    Args: drain: seconds that connections have, after the first signal, to end by themselves.
    """
    try:
        found = target.find()
    except NotRunnable as exc:
        return Outcome(1, str(exc))
    return Running(ropewalk.reactor, str(target), found, drain).run()


class Running:
    """One service on a reactor, from its start until all has ended."""

    def __init__(self, reactor: Any, name: str, found: Any, drain: float) -> None:
        self.reactor = reactor
        self.name = name
        self.found = found
        self.drain = drain
        self.outcome = Outcome(0)
        # What has been started and not yet been asked to stop.
        self.service: Any = None
        # What is under way, to be cancelled by a signal: the start, then the end.
        self.under_way: Deferred[None] | None = None
        self.is_ending = False
        self.is_stopping = False
        # What the reactor's shutdown waits for.
        self.stopped: Deferred[None] = Deferred()

    def run(self) -> Outcome:
        reactor = self.reactor
        reactor.addSystemEventTrigger("before", "shutdown", self.stop)
        reactor.callWhenRunning(self._begin)
        with told_by_signals(reactor, self._asked_to_end):
            try:
                # Why without handlers of the reactor's: those stop it, and a second signal would mean nothing more.
                reactor.run(installSignalHandlers=False)
            except (SystemExit, KeyboardInterrupt):
                # Why once more: they leave at once, and everything is to be told of the end.
                reactor.callWhenRunning(stop, reactor)
                reactor.run(installSignalHandlers=False)
                raise
        return self.outcome

    def _begin(self) -> None:
        self.under_way = Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        try:
            service = self.found
            if not _is_service(service):
                service = await maybeDeferred(service, self.reactor)
                if not _is_service(service):
                    raise NotRunnable(f"{self.name} returned no service: {service!r:.100}")
            # Why already: one that fails to start may have opened something, and its stopService closes it.
            self.service = service
            service.privilegedStartService()
            await maybeDeferred(service.startService)
            # Why asked: it was told to end while it started, and has started all the same.
            if self.is_ending and not self.is_stopping:
                await self._drain_and_stop()
        except CancelledError:
            self._end_with(Outcome(1, f"{self.name} was stopped before it had started"))
        except NotRunnable as exc:
            self._end_with(Outcome(1, str(exc)))
        except Exception as exc:
            self._end_with(Outcome(1, f"starting {self.name} raised {_told(exc)}"))

    def _asked_to_end(self, signal: int) -> None:
        under_way = self.under_way
        if self.is_ending:
            self._stop_at_once()
            return
        self.is_ending = True
        if under_way is not None and not under_way.called:
            under_way.cancel()
        else:
            self.under_way = Deferred.fromCoroutine(self._drain_and_stop())

    def _stop_at_once(self) -> None:
        """A second signal. Why the service is not asked: it may take its time, and the shutdown closes everything."""
        self.service = None
        self._end_with(Outcome(1, f"a second signal: {self.name} was stopped before it had ended"))
        if self.under_way is not None:
            self.under_way.cancel()
        if not self.stopped.called:
            self.stopped.callback(None)

    async def _drain_and_stop(self) -> None:
        say(f"draining {self.name}, for {self.drain:g} s at most")
        try:
            drained = await self.reactor.drain(self.drain)
        except CancelledError:
            return  # Safe because: whoever cancelled it has stopped the reactor.
        say(f"drained: {drained.ended} ended by themselves, {drained.aborted} aborted")
        self._end_with(self.outcome)

    def _end_with(self, outcome: Outcome) -> None:
        self.outcome = outcome
        # Why asked: while a shutdown waits for stopService, the reactor counts as running.
        if not self.is_stopping:
            self.is_stopping = True
            stop(self.reactor)

    # ---- stopping -----------------------------------------------------------------------------------------------

    def stop(self) -> Deferred[None] | None:
        """The reactor is about to shut down. Returns: what it waits for."""
        self.is_ending = self.is_stopping = True
        if self.service is None:
            return None
        self.under_way = Deferred.fromCoroutine(self._stop())
        return self.stopped

    async def _stop(self) -> None:
        service, self.service = self.service, None
        try:
            await maybeDeferred(service.stopService)
        except CancelledError:
            return  # Safe because: whoever cancelled it has said why.
        except Exception as exc:
            if not self.outcome.status:
                self.outcome = Outcome(1, f"stopping {self.name} raised {_told(exc)}")
        if not self.stopped.called:
            self.stopped.callback(None)


def _is_service(thing: object) -> bool:
    # Why not a class: naming it in place of an object of it is the usual mistake; calling it may be what is meant.
    return not isinstance(thing, type) and all(
        callable(getattr(thing, each, None))
        for each in ("privilegedStartService", "startService", "stopService")
    )


def _told(exc: BaseException) -> str:
    """An exception and where it was raised, in one line."""
    text = " ".join(str(exc).split())
    frames = traceback.extract_tb(exc.__traceback__)
    inside = os.path.dirname(os.path.abspath(ropewalk.__file__))
    places = [each for each in frames if not each.filename.startswith((inside, "<"))]
    where = f" (line {places[-1].lineno} of {os.path.basename(places[-1].filename)})" if places else ""
    return f"{type(exc).__name__}: {text}{where}" if text else f"{type(exc).__name__}{where}"
