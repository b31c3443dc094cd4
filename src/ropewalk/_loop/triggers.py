"""System events: what is to happen before, during and after startup and shutdown.

A trigger is a callable put into one of three phases of a named event. Firing runs "before" first and waits for every
Deferred that a "before" trigger returned, then "during", then "after". Triggers run in the order in which they were
added; one that raises is logged and stops no other; triggers added while the event fires run with their phase if that
is still to come. After firing, an event is empty and can be used again.

It must never know which events there are, nor what a Deferred is made of: anything with `addBoth` is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

PHASES = ("before", "during", "after")

Call = tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]
# What became of a call to user code: its result, and whether it returned at all.
CallUser = Callable[[Callable[..., object], tuple[Any, ...], dict[str, Any]], object]


class Trigger(NamedTuple):
    """What `addSystemEventTrigger` returns: pass it to `removeSystemEventTrigger`."""

    event: str
    phase: str
    call: Call


class SystemEvent:
    """One named event and its triggers."""

    __slots__ = ("_call_user", "_done", "_firing", "_phases", "_waiting", "heart")

    def __init__(self, call_user: CallUser) -> None:
        self._call_user = call_user
        self._phases: dict[str, list[Call]] = {phase: [] for phase in PHASES}
        self._waiting = 0
        self._done: list[Callable[[], None]] = []
        # Which firing is under way, or was last: a Deferred that a forgotten one waited for changes nothing.
        self._firing = 0
        # The engine's own part: it comes first in "during", each time the event fires.
        self.heart: Callable[[], None] | None = None

    def add(self, phase: str, call: Call) -> None:
        self._phases[phase].append(call)

    def remove(self, phase: str, call: Call) -> None:
        """Raises: ValueError if it is not there (any more)."""
        for place, each in enumerate(self._phases[phase]):
            if each is call:
                del self._phases[phase][place]
                return
        raise ValueError(f"no such {phase!r} trigger: {call[0]!r} has run or was removed before")

    def fire(self, done: Callable[[], None] | None = None) -> None:
        """Run the three phases; `done` is called when the last has ended, perhaps before this returns.

        A firing that comes while another one waits for its Deferreds joins it: "during" comes once, for both.
        """
        if done is not None:
            self._done.append(done)
        # Why one extra: while the triggers still run, a Deferred that has fired already must not start "during".
        self._waiting += 1
        firing = self._firing
        before = self._phases["before"]
        while before:
            result = self._call_user(*before.pop(0))
            if hasattr(result, "addBoth"):
                self._waiting += 1
                result.addBoth(self._one_done, firing)
        self._one_done(None, firing)

    def forget(self) -> None:
        """What waits for its Deferreds is not waited for any more; no phase of it is to come."""
        self._firing += 1
        self._waiting = 0
        self._done.clear()

    def _one_done(self, result: object, firing: int) -> object:
        # Why the result is returned: a failure nobody handled is still the Deferred's to report, once.
        if firing != self._firing:
            return result
        self._waiting -= 1
        if self._waiting == 0:
            if self.heart is not None:
                self.heart()
            for phase in PHASES[1:]:
                calls = self._phases[phase]
                while calls:
                    self._call_user(*calls.pop(0))
            while self._done:
                self._done.pop(0)()
        return result


class SystemEvents:
    """All events of one reactor, by name."""

    __slots__ = ("_call_user", "_events")

    def __init__(self, call_user: CallUser) -> None:
        self._call_user = call_user
        self._events: dict[str, SystemEvent] = {}

    def add(self, phase: str, event: str, func: Callable[..., object], args: Any, kw: Any) -> Trigger:
        if phase not in PHASES:
            raise KeyError(f"phase must be one of {', '.join(PHASES)}, not {phase!r}")
        if not callable(func):
            raise TypeError(f"a trigger must be callable, not {func!r}")
        call = (func, args, kw)
        self._event(event).add(phase, call)
        return Trigger(event, phase, call)

    def remove(self, trigger: Trigger) -> None:
        if not isinstance(trigger, Trigger):
            raise ValueError(f"not what addSystemEventTrigger returned: {trigger!r}")
        self._event(trigger.event).remove(trigger.phase, trigger.call)

    def set_heart(self, event: str, heart: Callable[[], None]) -> None:
        self._event(event).heart = heart

    def fire(self, event: str, done: Callable[[], None] | None = None) -> None:
        self._event(event).fire(done)

    def forget(self, event: str) -> None:
        self._event(event).forget()

    def _event(self, name: str) -> SystemEvent:
        found = self._events.get(name)
        if found is None:
            found = self._events[name] = SystemEvent(self._call_user)
        return found
