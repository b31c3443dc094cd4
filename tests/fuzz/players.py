"""The players of the swarm: protocols, factories and producers that do by chance whatever users may do, anywhere.

Each callback does two things. First it is checked against what may come now: its state, who is on the stack (I4), what
was promised before. Then `World.act` draws something to do: write, close, abort, pause, raise, connect, stop, anything.
What a player does, and what it is told, is kept for the judge (judge.py), which looks at the whole when all is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ropewalk import Protocol, ReconnectingClientFactory, ServerFactory
from tests.fuzz.guard import is_explained

if TYPE_CHECKING:
    from tests.fuzz.swarm import World


class Boom(Exception):
    """Raised by players on purpose."""


# States of those that will be told no more: what was told, or the program is no more.
OVER = ("lost", "gone")
# What may be called back while a call of the user's has not returned; anything else breaks I4.
MAY_CALL_BACK: dict[str, set[str]] = {
    "write": {"pauseProducing"},
    "writeSequence": {"pauseProducing"},
    "registerProducer": {"pauseProducing", "resumeProducing", "stopProducing"},
    # stopFactory: after startedConnecting has raised.
    "connect": {"startFactory", "startedConnecting", "stopFactory"},
    "connectTCP": {"startFactory", "startedConnecting", "stopFactory"},
    "startListening": {"startFactory"},
    "stopConnecting": {"clientConnectionFailed", "stopFactory"},
    "disconnect": {"clientConnectionFailed", "stopFactory"},
    "stopTrying": {"clientConnectionFailed", "stopFactory"},
}


class End(Protocol):
    """One end of a connection."""

    transport: Any = None

    def __init__(self, world: World, host: Any, owner: Any) -> None:
        self.world = world
        self.host = host
        self.owner = owner
        self.state = "new"
        self.sent: list[bytes] = []
        self.got: list[bytes] = []
        self.reason: Any = None
        self.raised: list[BaseException] = []
        # What its user asked for, and when first.
        self.asked: dict[str, float] = {}
        self.told: list[str] = []
        self.lost_at = 0.0
        # Whether an RST had come by then, and its host had had time to tell of it.
        self.was_reset = False
        self.had_time = True
        self.endpoint: Any = None
        self.producer: Produces | None = None
        self.is_paused = False
        # Whether a writeSequence of its is on the stack.
        self.is_in_sequence = False
        # (time, bytes sent) while it closes.
        self.progress: list[tuple[float, int | None]] = []
        # Bytes waiting above which it is to be aborted.
        self.hard_limit: int | None = getattr(owner, "hard_limit", None)
        self.is_slow = world.draw_slowness()
        world.ends.append(self)

    # ---- what it is told --------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        self.world.called(self, "connectionMade", self.state == "new")
        self.state = "made"
        self.endpoint = self.transport.getHandle().endpoint
        self.world.greet(self)
        self.world.act(self, "connectionMade")

    def dataReceived(self, data: bytes) -> None:
        fits = self.state == "made" and "readConnectionLost" not in self.told and not self.is_paused
        fits &= not self.asked.keys() & {"loseConnection", "abortConnection"}
        self.world.called(self, "dataReceived", fits and bool(data))
        self.got.append(data)
        if self.is_slow and not self.world.is_over:
            self.rest(self.world.chance.random())
        self.world.act(self, "dataReceived")

    def connectionLost(self, reason: Any) -> None:
        self.world.called(self, "connectionLost", self.state == "made")
        self.world.check(self.producer is None, self, "J6 its producer was not stopped before")
        self.state = "lost"
        self.reason = reason.value
        self.lost_at = self.world.sim.now
        came = self.endpoint.reset_at if self.endpoint is not None else None
        if came is not None:
            self.was_reset = True
            self.had_time = not self.world.had_no_time(self.host, came)
        self.world.act(self, "connectionLost")

    # ---- what it does -----------------------------------------------------------------------------------------

    def ask(self, request: str, *args: Any) -> None:
        """A request to the transport, noted; nothing may be called back from within it but what I4 allows."""
        self.asked.setdefault(request, self.world.sim.now)
        if request == "setWriteLimits" and len(args) > 2:
            self.hard_limit = args[2]
        if request in ("pauseProducing", "resumeProducing"):
            self.is_paused = request == "pauseProducing"
        self.world.inside(request, getattr(self.transport, request), *args)
        if request in ("write", "writeSequence") and self.hard_limit is not None:
            waiting = self.transport.bytesBuffered
            fits = waiting <= self.hard_limit
            self.world.check(fits, self, f"C1 {waiting} bytes wait, beyond the hard limit")

    def send(self, size: int) -> None:
        """Write, as one or as several; what counts as sent is what was written before the write side ended."""
        if self.is_in_sequence:
            return  # Why: it would come between the parts, rightly, and the books here know only the whole.
        data = self.world.chance.randbytes(size)
        if self.state == "made" and not self.asked.keys() & {"loseWriteConnection", "abortConnection"}:
            self.sent.append(data)
        elif self.state == "made" and "writeConnectionLost" not in self.told:
            return  # Why: whether that is still sent is nobody's promise.
        if self.world.chance.random() < 0.3:
            self.is_in_sequence = True
            try:
                self.ask("writeSequence", [data[: size // 2], data[size // 2 :]])
            finally:
                self.is_in_sequence = False
        else:
            self.ask("write", data)
        self.world.expect_within_limits(self)

    def rest(self, seconds: float) -> None:
        self.ask("pauseProducing")
        self.host.reactor.callLater(seconds, self.ask, "resumeProducing")

    def lose(self) -> None:
        is_first = self.state == "made" and not self.asked.keys() & {"loseConnection", "abortConnection"}
        self.ask("loseConnection")
        if is_first:
            self.world.expect_progress(self)

    def vanish(self) -> None:
        """Its program is no more: nothing may be called back from now on."""
        self.state = "gone"
        self.lost_at = self.world.sim.now
        if self.producer is not None:
            self.producer.is_over = True
            self.producer = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.owner!r} on {self.host.name} {self.state}>"


class HalfEnd(End):
    """One that keeps the other side when one has ended."""

    def readConnectionLost(self) -> None:
        fits = self.state == "made" and "readConnectionLost" not in self.told
        self.world.called(self, "readConnectionLost", fits)
        self.told.append("readConnectionLost")
        self.world.act(self, "readConnectionLost")
        if self.world.draw_closing_back():
            self.lose()

    def writeConnectionLost(self) -> None:
        fits = self.state == "made" and "loseWriteConnection" in self.asked
        self.world.called(self, "writeConnectionLost", fits and "writeConnectionLost" not in self.told)
        self.told.append("writeConnectionLost")
        self.world.act(self, "writeConnectionLost")


class Relay(End):
    """An end of a proxy: what it gets goes to its other half, which is its producer, as it is the other's."""

    other: Relay | None = None

    def connectionMade(self) -> None:
        self.world.called(self, "connectionMade", self.state == "new")
        self.state = "made"
        self.endpoint = self.transport.getHandle().endpoint
        if self.other is None:
            self.ask("pauseProducing")
            if not self.world.connect(self.host, relay=self):
                self.lose()
        elif self.other.state == "made":
            self.ask("registerProducer", self.other.transport, True)
            self.other.ask("registerProducer", self.transport, True)
            self.other.ask("resumeProducing")
        else:
            self.lose()

    def dataReceived(self, data: bytes) -> None:
        self.world.called(self, "dataReceived", self.state == "made")
        self.got.append(data)
        other = self.other
        may_send = other is not None and not other.asked.keys() & {"loseWriteConnection", "abortConnection"}
        if other is not None and other.state == "made" and may_send:
            other.sent.append(data)
            other.ask("write", data)

    def connectionLost(self, reason: Any) -> None:
        self.world.called(self, "connectionLost", self.state == "made")
        self.state = "lost"
        self.reason = reason.value
        self.lost_at = self.world.sim.now
        if self.other is not None and self.other.state == "made":
            self.other.ask("unregisterProducer")
            self.other.lose()
        self.other = None


class Produces:
    """A producer, push or pull, that checks how it is treated (J6)."""

    def __init__(self, end: End) -> None:
        chance = end.world.chance
        self.world = end.world
        self.end = end
        self.is_push = chance.random() < 0.6
        self.left = chance.randint(0, 12)
        self.chunk = max(1, end.world.size())
        self.is_paused = not self.is_push
        self.is_over = False
        self.high, self.low = chance.choice([(65536, 0), (1000, 500), (0, 0), (20_000, 20_000)])
        if end.producer is not None or end.state != "made":
            return
        end.producer = self
        end.ask("setWriteLimits", self.high, self.low)
        end.ask("registerProducer", self, self.is_push)
        if self.is_push:
            self.step()

    def step(self) -> None:
        """A push producer's own doing: once in a while, as long as it is not paused."""
        if self.is_over or self.is_paused:
            return
        buffered = self.end.transport.bytesBuffered
        is_open = self.end.state == "made" and "abortConnection" not in self.end.asked
        self.world.check(buffered <= self.high or not is_open, self.end, f"J6 not paused at {buffered}")
        self.produce()
        if self.is_push and not self.is_over:
            self.end.host.reactor.callLater(self.world.chance.choice([0, 0, 0.1]), self.step)

    def produce(self) -> None:
        if self.left <= 0 or self.end.state != "made":
            self.finish()
            return
        self.left -= 1
        self.end.send(self.chunk)

    def finish(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.end.producer = None
            self.end.ask("unregisterProducer")

    # ---- what it is told --------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        self.world.called(
            self.end, "pauseProducing", self.is_push and not self.is_paused and not self.is_over
        )
        self.is_paused = True
        self.world.act(self.end, "pauseProducing")

    def resumeProducing(self) -> None:
        fits = not self.is_over and (self.is_paused or not self.is_push)
        self.world.called(self.end, "resumeProducing", fits)
        if self.is_push:
            self.is_paused = False
            self.end.host.reactor.callLater(0, self.step)
        else:
            self.produce()

    def stopProducing(self) -> None:
        self.world.called(self.end, "stopProducing", not self.is_over)
        self.is_over = True
        self.end.producer = None
        self.world.act(self.end, "stopProducing")


class Alarms:
    """Delayed calls that are moved, cancelled and made at the same instants; each must come exactly when it is due."""

    def __init__(self, world: World, host: Any) -> None:
        chance = world.chance
        self.world = world
        self.host = host
        self.calls: list[Any] = []
        # Why sometimes so many: the heap is rebuilt only when more than a hundred of its entries are dead.
        count = chance.choice([2, 5, 5, 250])
        for _ in range(count):
            delay = chance.choice([0, 0.5, 0.5, 1.0, chance.random() * 3])
            self.calls.append(host.reactor.callLater(delay, self._rings, len(self.calls)))
        for _ in range(count * 3 // 4):
            self._move()

    def _move(self) -> None:
        """One that is still to come is put off, brought forward, or given up."""
        chance = self.world.chance
        call = self.calls[chance.randrange(len(self.calls))]
        if not call.active():
            return
        what = chance.choice(["reset", "delay", "cancel", "cancel"])
        if what == "cancel":
            call.cancel()
        elif what == "reset":
            call.reset(chance.choice([0, 0.5, chance.random() * 3]))
        else:
            call.delay(max(chance.choice([-0.2, 0.5, chance.random()]), self.world.sim.now - call.getTime()))

    def _rings(self, number: int) -> None:
        late = self.world.sim.now - self.calls[number].getTime()
        due = self.calls[number].getTime()
        fits = abs(late) < 1e-6 or (late > 0 and self.world.had_no_time(self.host, due))
        self.world.check(fits, self.host, f"E3 a delayed call came {late} s late")
        self._move()


class Calls(ReconnectingClientFactory):
    """A client: one connector, and every attempt of it (I1, I2, I6, J2)."""

    noisy = False
    livedSeconds = 2.0
    maxDelay = 5.0

    def __init__(self, world: World, host: Any, timeout: float, relay: Relay | None) -> None:
        self.world = world
        self.host = host
        self.timeout = timeout
        self.relay = relay
        self.random = world.chance
        self.continueTrying = world.draw_persistence()
        self.maxRetries = 3
        self.state = "idle"
        self.since = 0.0
        self.end: End | None = None
        self.attempts = 0
        self.outcomes = 0
        self.starts = 0
        self.stops = 0
        self.reasons: list[Any] = []
        self.asked_to_disconnect = False
        self.hard_limit: int | None = None
        self.began_late = False
        world.callers.append(self)

    def startFactory(self) -> None:
        self.world.called(self, "startFactory", self.starts == self.stops)
        self.starts += 1
        try:
            self.world.act(self, "startFactory")
        except BaseException:
            self.starts -= 1
            raise

    def stopFactory(self) -> None:
        self.world.called(self, "stopFactory", self.starts == self.stops + 1)
        self.stops += 1
        self.world.act(self, "stopFactory")

    def startedConnecting(self, connector: Any) -> None:
        self.world.called(self, "startedConnecting", self.state == "idle")
        super().startedConnecting(connector)
        number, self.since = connector.number, self.world.sim.now
        self.began_late = self.host.name in self.world.down
        self.world.act(self, "startedConnecting")
        # Why last: when it raises, there is no attempt; and it may have given this one up, and begun another.
        if connector.state == "connecting" and connector.number == number:
            self.state = "connecting"
            self.attempts += 1

    def buildProtocol(self, addr: Any) -> End | None:
        fits = self.state == "connecting" and getattr(self.connector, "state", "") == "connected"
        self.world.called(self, "buildProtocol", fits)
        self.world.check_deadlines(self.host)
        self.end = None
        self.state = "not built"
        if self.world.draw_refusal():
            return None
        self.world.act(self, "buildProtocol")
        self.state = "built"
        if self.relay is not None:
            self.end = other = Relay(self.world, self.host, self)
            other.other, self.relay.other = self.relay, other
        else:
            self.end = self.world.make_end(self.host, self)
        return self.end

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        if self.state == "idle":
            # Given up in startFactory or startedConnecting, before that returned.
            self.attempts += 1
            self.since = self.world.sim.now
        self.world.called(self, "clientConnectionFailed", self.state in ("idle", "connecting", "not built"))
        late = self.world.sim.now - self.since - self.timeout
        stops = self.world.stopped.get(self.host.name, [])
        # Why: begun while its reactor stands still, an attempt has no time of its own.
        fits = late < 1e-6 or self.world.had_no_time(self.host, self.since)
        fits |= any(stop <= self.world.sim.now and self.since <= stop + 2 for stop in stops)
        self.world.check(fits, self, f"J2 failed {late} s after its timeout")
        self._outcome(connector, reason)
        self.world.act(self, "clientConnectionFailed")
        super().clientConnectionFailed(connector, reason)

    def clientConnectionLost(self, connector: Any, reason: Any) -> None:
        self.world.called(self, "clientConnectionLost", self.state in ("built", "not built"))
        if self.end is not None:
            # Why: when a layer has ended it, the protocol is told so in the layer's words, and the factory what happened.
            is_same = self.end.reason is reason.value or is_explained(self.end.transport)
            fits = self.end.state == "lost" and is_same
            self.world.check(fits, self, "I2 clientConnectionLost before connectionLost")
        self._outcome(connector, reason)
        self.world.act(self, "clientConnectionLost")
        super().clientConnectionLost(connector, reason)

    def _outcome(self, connector: Any, reason: Any) -> None:
        self.world.check(connector.state == "disconnected", self, f"I7 told while {connector.state}")
        self.state = "idle"
        self.outcomes += 1
        self.reasons.append(reason.value)
        if self.relay is not None and self.relay.state == "made":
            self.relay.lose()

    def vanish(self) -> None:
        """Its program is no more."""
        self.state = "gone"
        self.connector = self.end = self.relay = None
        # Why: what no reactor will end any more would stay a circle, with the trigger that waits for its shutdown.
        for wait in list((self._tries or {}).values()):
            if wait is not None:
                wait._forget()
                wait._call = None
        self.continueTrying = False

    def __repr__(self) -> str:
        return f"<Calls {self.state} on {self.host.name}>"


class Serves(ServerFactory):
    """A server."""

    noisy = False

    is_gone = False

    def __init__(self, world: World, host: Any, is_proxy: bool) -> None:
        self.world = world
        self.host = host
        self.is_proxy = is_proxy
        self.starts = 0
        self.stops = 0

    def startFactory(self) -> None:
        self.starts += 1

    def stopFactory(self) -> None:
        self.stops += 1
        self.world.called(self, "stopFactory", self.stops == self.starts)

    def buildProtocol(self, addr: Any) -> End | None:
        self.world.called(self, "buildProtocol", not self.is_gone)
        if self.world.draw_refusal():
            return None
        if self.is_proxy and self.world.chance.random() < 0.5:
            return Relay(self.world, self.host, self)
        return self.world.make_end(self.host, self)

    def __repr__(self) -> str:
        return f"<Serves on {self.host.name}>"
