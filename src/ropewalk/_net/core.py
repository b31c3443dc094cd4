"""What every room of `_net` shares: the loop, the system, the words of the border, and who observes.

One record, made once by the Reactor and handed down. It has no behaviour but two: giving each connection its number,
and telling observers what happened. It is the reason why no room here needs to know the Reactor.

`report` is called behind a truth test of `observers`, so a step costs nothing while nobody looks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from ropewalk._loop.loop import Loop
from ropewalk._system import System
from ropewalk.event import Event, Step
from ropewalk.words import Words

if TYPE_CHECKING:
    from ropewalk._net.resolvers import NameSource


# A client that reconnects at once whenever it is told would otherwise keep shutdown busy for ever.
_SHUTDOWN_PASSES = 10


def shown_safely(thing: object) -> str:
    """Its repr, or what can be said of one whose repr raises: events must always be told."""
    try:
        return repr(thing)
    except Exception as exc:
        return f"<{type(thing).__name__}, whose repr raised {type(exc).__name__}>"


class Core:
    """The engine's shared parts."""

    __slots__ = (
        "is_last_pass",
        "loop",
        "next_number",
        "observers",
        "open_ends",
        "reactor",
        "resolver",
        "system",
        "words",
    )

    def __init__(self, loop: Loop, system: System, words: Words, reactor: Any) -> None:
        self.loop = loop
        self.system = system
        self.words = words
        # What users see as `connector.reactor`; the engine itself never calls it.
        self.reactor = reactor
        self.observers: list[Callable[[Event], object]] = []
        self.next_number: Callable[[], int] = count(1).__next__
        # Everything that must be told at shutdown: connectors that connect, streams, ports. Strong references: what
        # is here stays alive though nobody else holds it (FAULTS C16). A dict, because order matters: oldest first.
        self.open_ends: dict[Any, None] = {}
        # Whether what is connected now would not be told any more: connectors refuse.
        self.is_last_pass = False
        self.resolver: NameSource
        loop.on_fork.append(self._disown)

    def shut_down(self) -> None:
        """The reactor stops: every descriptor and every attempt is told, those made meanwhile by their users too."""
        for left in reversed(range(_SHUTDOWN_PASSES)):
            self.is_last_pass = not left
            for each in [*self.loop.everyone(), *self.open_ends]:
                try:
                    each.shut_down()
                except BaseException as exc:
                    # Why: whatever one of them does, the others must be told, and the reactor must stop.
                    self.loop.user_error(exc, "%r raised when it was told of the shutdown", each)
        self.is_last_pass = False
        if ends := [*self.loop.everyone(), *self.open_ends]:
            self.loop.log(logging.ERROR, "at shutdown, callbacks keep making new connections: %r", ends)

    def _disown(self) -> None:
        """In a forked child: those that the loop does not watch just now."""
        for each in self.open_ends:
            each.disown()
        self.open_ends.clear()

    def report(self, number: int, what: Step, **details: object) -> None:
        event = Event(self.loop.now(), number, what, details)
        for observer in list(self.observers):
            self.loop.call_user(observer, event)
