"""What the claims about transports are played on: two actors, the connection between them, and one watch over both.

An `Actor` is a protocol that writes down what it is told, and does what a claim wants done in a callback: `acts`. It asks
its transport only through its own requests (`send`, `pause`, `lose` …), so that the `Watch` knows which call is on the
stack, and what has been written.

Some things must hold all the time, whatever a claim is about: connectionMade first and once, connectionLost last and
once, no callback on the stack of a request, nothing delivered while paused, bytes received are a prefix of those
written, producers called in turns, every exception logged once. Those the watch sees in every claim, and a claim in
which one of them was broken has not held.

A `Scene` is one connection of one claim. It must never know what kind of transport it is, nor time: it goes on by
`pair.runUntil` alone, and "for a while" is a number of steps.
Rejected: asserting inside callbacks. What is raised there is the transport's to deal with, and could get lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from ropewalk.error import ConnectionAborted, ConnectionDone, ConnectionLost

# Steps of the world after which something that has not happened counts as not happening. Value: data is on its way for
# one or two, and a lost packet's second sending in a simulated network (0.2 s) for ten of 20 ms.
A_WHILE = 30
# Lines of breaches told of one claim; a breach often comes again with each callback.
_MOST_LINES = 5

log = logging.getLogger("ropewalk")


class NotHeld(AssertionError):
    """A claim did not hold; the text tells what was seen."""


class Planned(Exception):
    """What actors raise on purpose."""


class Watch:
    """What both actors of a scene share: which request is on the stack, and what was broken so far."""

    __slots__ = ("asking", "breaches", "planned")

    def __init__(self) -> None:
        self.asking: list[str] = []
        self.breaches: list[str] = []
        self.planned: list[Planned] = []

    def breach(self, what: str) -> None:
        if what not in self.breaches:
            self.breaches.append(what)

    def called(self, who: str, callback: str, breach: str | None) -> None:
        """A callback came; `breach` says why it may not come now."""
        if self.asking:
            self.breach(f"{who} was told {callback} on the stack of {self.asking[-1]}")
        if breach is not None:
            self.breach(f"{who} was told {callback} {breach}")

    def act(self, act: Callable[[], object] | None) -> None:
        """Let a claim do something in a callback: the requests it makes there are its own again."""
        if act is None:
            return
        outer, self.asking = self.asking, []
        try:
            act()
        finally:
            self.asking = outer

    def boom(self) -> None:
        """Raise, as user code does by mistake. Each must be logged once."""
        planned = Planned(f"number {len(self.planned) + 1}, raised on purpose")
        self.planned.append(planned)
        raise planned


class Actor:
    """A protocol that writes down what it is told."""

    def __init__(self, name: str, watch: Watch) -> None:
        self.name = name
        self.watch = watch
        self.transport: Any = None
        self.journal: list[str] = []
        self.acts: dict[str, Callable[[], object]] = {}
        self.reasons: list[Any] = []
        self.received = bytearray()
        self.sent = bytearray()
        # What the peer has written: its `sent`. Why not the peer: two actors that know each other are a cycle.
        self.expected = bytearray()
        self.is_paused = False
        self.is_closing = False
        # Whether its peer ended the connection before this side had noticed that there was one.
        self.is_absent = False

    # ---- told by the transport --------------------------------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        breach = "a second time" if "connectionMade" in self.journal else self._after_loss()
        self._heard("connectionMade", breach)

    def dataReceived(self, data: bytes) -> None:
        start = len(self.received)
        breach = self._too_early() or self._after_loss()
        if breach is None and self.is_paused:
            breach = "while it was paused"
        elif breach is None and self.is_closing:
            breach = "after it had asked for the end"
        elif breach is None and "readConnectionLost" in self.journal:
            breach = "after readConnectionLost"
        if type(data) is not bytes or not data:
            self.watch.breach(f"{self.name} was given {data!r:.40} as data; it must be bytes, and not empty")
        elif self.expected[start : start + len(data)] != data:
            self.watch.breach(
                f"{self.name} received what was not written, or in another order, at byte {start}"
            )
        self.received += data
        self._heard("dataReceived", breach)

    def connectionLost(self, reason: Any) -> None:
        self.reasons.append(reason)
        self._heard("connectionLost", self._too_early() or self._after_loss())

    def logPrefix(self) -> str:
        return self.name

    def _heard(self, callback: str, breach: str | None) -> None:
        self.journal.append(callback)
        self.watch.called(self.name, callback, breach)
        self.watch.act(self.acts.get(callback))

    def _too_early(self) -> str | None:
        return None if "connectionMade" in self.journal else "before connectionMade"

    def _after_loss(self) -> str | None:
        return "after connectionLost" if "connectionLost" in self.journal else None

    # ---- asked of the transport -------------------------------------------------------------------------------

    def ask(self, name: str, *args: Any) -> Any:
        """Make a request: nobody may be called back before it returns."""
        asking = self.watch.asking
        asking.append(f"{self.name}'s {name}")
        try:
            return getattr(self.transport, name)(*args)
        finally:
            asking.pop()

    def send(self, data: Any) -> None:
        self.sent += bytes(memoryview(data))
        self.ask("write", data)

    def send_all(self, items: Iterable[Any], parts: Iterable[Any]) -> None:
        """Args: items: what writeSequence is given; parts: the same, to be looked at."""
        self.sent += b"".join(bytes(memoryview(part)) for part in parts)
        self.ask("writeSequence", items)

    def pause(self) -> None:
        self.is_paused = True
        self.ask("pauseProducing")

    def resume(self) -> None:
        self.is_paused = False
        self.ask("resumeProducing")

    def lose(self) -> None:
        self.is_closing = True
        self.ask("loseConnection")

    def abort(self) -> None:
        self.is_closing = True
        self.ask("abortConnection")

    def half(self) -> None:
        self.ask("loseWriteConnection")

    # ---- asked by claims --------------------------------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        return bool(self.reasons)

    @property
    def reason(self) -> BaseException:
        """The exception in the reason it was given."""
        reason = self.reasons[0]
        found: BaseException = getattr(reason, "value", reason)
        return found

    def heard(self, callback: str) -> bool:
        return callback in self.journal

    def shown(self) -> str:
        """What it was told, in one line."""
        told: list[str] = []
        for each in self.journal:
            if not (told and told[-1] == each):
                told.append(each)
        end = f", for {self.reason!r:.120}" if self.reasons else ""
        return f"{self.name}: {' '.join(told) or 'nothing'}; {len(self.received)} bytes{end}"


class HalfCloser(Actor):
    """One that keeps one direction when the other has ended."""

    def readConnectionLost(self) -> None:
        self._heard("readConnectionLost", self._again("readConnectionLost"))

    def writeConnectionLost(self) -> None:
        self._heard("writeConnectionLost", self._again("writeConnectionLost"))

    def _again(self, callback: str) -> str | None:
        if callback in self.journal:
            return "a second time"
        return self._too_early() or self._after_loss()


class Producer:
    """A producer that writes down what it is told; a streaming one must be paused and resumed in turns."""

    def __init__(self, actor: Actor, streaming: bool) -> None:
        self.actor = actor
        self.streaming = streaming
        self.journal: list[str] = []
        self.acts: dict[str, Callable[[], object]] = {}
        self.is_gone = False

    def register(self) -> None:
        self.actor.ask("registerProducer", self, self.streaming)

    def unregister(self) -> None:
        self.is_gone = True
        self.actor.ask("unregisterProducer")

    def pauseProducing(self) -> None:
        self._told("pauseProducing", "resumeProducing")

    def resumeProducing(self) -> None:
        self._told("resumeProducing", "pauseProducing")

    def stopProducing(self) -> None:
        self._told("stopProducing", None)
        self.is_gone = True

    def _told(self, what: str, before: str | None) -> None:
        watch = self.actor.watch
        if self.is_gone:
            watch.breach(
                f"the producer of {self.actor.name} was told {what}, though it was stopped or let go"
            )
        last = self.journal[-1] if self.journal else "resumeProducing"
        if self.streaming and before is not None and last != before:
            watch.breach(f"the producer of {self.actor.name} was told {what} twice in a row")
        self.journal.append(what)
        watch.act(self.acts.get(what))


class LogWatch(logging.Handler):
    """Keeps what the engine logs as an error while a claim is played, and keeps it from the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[tuple[str, BaseException | None]] = []
        self._propagated = True

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.getMessage(), record.exc_info[1] if record.exc_info else None))

    def __enter__(self) -> LogWatch:
        self._propagated, log.propagate = log.propagate, False
        log.addHandler(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        log.removeHandler(self)
        log.propagate = self._propagated

    def breaches(self, planned: list[Planned]) -> list[str]:
        found = []
        for each in planned:
            count = sum(exc is each for _, exc in self.records)
            if count != 1:
                found.append(f"an exception of the protocol was logged {count} times, not once")
        for message, exc in self.records:
            if not isinstance(exc, Planned):
                found.append(f"the log was told: {message:.200}" + (f" ({exc!r:.200})" if exc else ""))
        return found


class Scene:
    """One connection of one claim. `one` is whom the claim is about, `other` its peer.

    Args: swapped: whether `one` is the right one.
          bulk: how many bytes are "many" for this transport.
          half_closers: who handles half-close: "one", "other", "one other" or nobody.
    """

    def __init__(self, make_pair: Any, swapped: bool, bulk: int, half_closers: str = "") -> None:
        self.make_pair = make_pair
        self.swapped = swapped
        self.bulk = bulk
        self.watch = Watch()
        self.pair: Any = None
        names = ("right", "left") if swapped else ("left", "right")
        self.one = (HalfCloser if "one" in half_closers else Actor)(names[0], self.watch)
        self.other = (HalfCloser if "other" in half_closers else Actor)(names[1], self.watch)
        self.one.expected, self.other.expected = self.other.sent, self.one.sent
        self.both = (self.one, self.other)

    def connect(self, ends_early: bool = False) -> None:
        """The acts are given: let the pair be made.

        Args: ends_early: `one` ends it in connectionMade, so that its peer may never be told that it was connected.
        """
        left, right = reversed(self.both) if self.swapped else self.both
        self.pair = self.make_pair(left, right)
        for actor, transport in ((left, self.pair.left), (right, self.pair.right)):
            if ends_early and actor is self.other and not actor.heard("connectionMade"):
                actor.is_absent = True
                continue
            self.held(actor.heard("connectionMade"), f"makePair returned before {actor.name} was connected")
            same = transport is actor.transport
            self.held(same, f"the pair's {actor.name} is not the transport that the protocol was given")

    # ---- going on ---------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Let the world go on until that has come about.

        Raises: NotHeld if it does not.
        """
        why = ""
        try:
            self.pair.runUntil(condition)
        except Exception as exc:
            why = f" (runUntil raised {type(exc).__name__}: {exc!s:.200})"
        self.held(condition(), f"it never came about that {what}{why}")

    def go_on(self, steps: int = A_WHILE) -> None:
        """Let the world go on for a while, or until nothing is left to happen in it."""
        asked = 0

        def is_enough() -> bool:
            nonlocal asked
            asked += 1
            return asked > steps

        try:
            self.pair.runUntil(is_enough)
        except Exception as exc:
            # Safe because: a world in which nothing can happen any more may say so by raising. What else went wrong
            # shows in what the claim asks next.
            log.debug("going on for a while ended with %r", exc)

    def until_received(self, actor: Actor) -> None:
        """Until it has all that its peer wrote."""
        wanted = actor.expected
        self.until(lambda: len(actor.received) >= len(wanted), f"{actor.name} receives {len(wanted)} bytes")

    def until_lost(self, *actors: Actor) -> None:
        for actor in actors or self.both:
            if not actor.is_absent:
                self.until(_lost(actor), f"{actor.name} is told connectionLost")

    # ---- judging ----------------------------------------------------------------------------------------------

    def held(self, truth: object, what: str) -> None:
        """Raises: NotHeld, telling what was seen, if it is not so."""
        if not truth:
            raise NotHeld(f"{what}; " + "; ".join(actor.shown() for actor in self.both))

    def is_done(self, *actors: Actor) -> None:
        """They are, or soon will be, lost for ConnectionDone."""
        self._ended(actors or self.both, ConnectionDone, None)

    def is_broken(self, *actors: Actor) -> None:
        """They are, or soon will be, lost for ConnectionLost, not of their own doing."""
        self._ended(actors, ConnectionLost, ConnectionAborted)

    def is_aborted(self, *actors: Actor) -> None:
        """They are, or soon will be, lost for ConnectionAborted."""
        self._ended(actors, ConnectionAborted, None)

    def _ended(self, actors: Iterable[Actor], kind: type[Exception], unlike: type[Exception] | None) -> None:
        for actor in actors:
            self.until_lost(actor)
            reason = actor.reason
            fits = isinstance(reason, kind) and not (unlike is not None and isinstance(reason, unlike))
            self.held(fits, f"{actor.name} ended with {type(reason).__name__}, not {kind.__name__}")

    def planned(self) -> Planned:
        """The last exception that an actor raised on purpose."""
        self.held(self.watch.planned, "the callback that was to raise never came")
        return self.watch.planned[-1]

    # ---- one claim --------------------------------------------------------------------------------------------

    def play(self, body: Callable[..., None], *case: Any) -> list[str]:
        """Play a claim; what was seen that should not be, a line each."""
        with LogWatch() as logged:
            seen = []
            try:
                body(self, *case)
            except NotHeld as exc:
                seen.append(str(exc))
            except Exception as exc:
                seen.append(f"{type(exc).__name__} was raised: {exc!s:.300}")
            try:
                if self.pair is not None:
                    self.pair.close()
                    self._check_told()
            except Exception as exc:
                seen.append(f"close() raised {type(exc).__name__}: {exc!s:.300}")
        seen += self.watch.breaches + logged.breaches(self.watch.planned)
        return seen[:_MOST_LINES]

    def _check_told(self) -> None:
        for actor in self.both:
            made, lost = (actor.journal.count(each) for each in ("connectionMade", "connectionLost"))
            if made != lost or made != (0 if actor.is_absent else 1):
                times = f"connectionMade {made} times and connectionLost {lost} times"
                self.watch.breach(f"{actor.name} was told {times}, when all was over")


def _lost(actor: Actor) -> Callable[[], bool]:
    return lambda: actor.is_lost
