"""A stage for hostile users: one host of the simulated world, a client and a server that talk to each other on it, and a
place in every callback where a test may do as it likes. Afterwards the invariants of CONTRACT section 4 are checked.

One host, so that each callback can reach everything: both transports, the connector, the port, the reactor. Every
scenario is played twice with the same connector and port, so that what a callback did to them is met again.

`calling` is who is on the stack: a callback that comes while a call of the user's has not returned is noted with the name
of that call (I4).
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

from ropewalk import ClientFactory, Factory, Protocol
from ropewalk.error import CannotListenError, ConnectionDone
from ropewalk.simulation import Simulation

LOCALHOST = "127.0.0.1"
BULK = b"0123456789" * 10_000
ANSWER = [b"answer " * 100] * 3

# What may be called back while a call has not returned yet; anything else breaks I4.
MAY_CALL_BACK = {
    "write": {"pauseProducing"},
    "writeSequence": {"pauseProducing"},
    "registerProducer": {"pauseProducing", "stopProducing"},
    "registerPullProducer": {"resumeProducing", "stopProducing"},
    # stopFactory where startedConnecting raised: then it is as if nothing had been asked.
    "connect": {"startFactory", "startedConnecting", "stopFactory"},
    "connectTCP": {"startFactory", "startedConnecting", "stopFactory"},
    "listenTCP": {"startFactory"},
    "startListening": {"startFactory"},
    "stopConnecting": {"clientConnectionFailed", "stopFactory"},
    "disconnect": {"clientConnectionFailed", "stopFactory"},
}
REFUSALS = (RuntimeError, CannotListenError)


class Deliberate(BaseException):
    """Raised by a test in a callback; mixed with the class that it is to be caught as."""


class Fault(Deliberate, ArithmeticError):
    """An ordinary mistake of a user's."""


class Exit(Deliberate, SystemExit):
    """A user who wants out."""


class Interrupt(Deliberate, KeyboardInterrupt):
    """Control-C, in the midst of a callback."""


class Stage:
    """The players, what they were told, and the place where a test interferes.

    Args: scenario: "orderly"; "abrupt", the server aborts; "refused", "silent", "unknown", nobody is there; "named", the
              second of three addresses connects.
          interfere: called as interfere(stage, spot, role) in each callback; raises or calls what it likes.
    """

    def __init__(self, scenario, interfere, seed=1):
        self.sim = Simulation(seed=seed)
        self.sim._driver.spin_limit = 3000
        self.scenario = scenario
        self.interfere = interfere
        self.host = self.sim.host("here")
        self.reactor = self.host.reactor
        self.calling = []
        self.spots = []
        self.log = []
        self.breaches = []
        # Attempts that a call has begun, and how each connector's ended.
        self.begun = 0
        self.attempts = set()
        self.outcomes = Counter()
        self.protocols = []
        self.producers = []
        self.factories = []
        self.extra_ports = []
        self.client = self.server = None
        self.connector = None
        self.port = None

    # ---- the play -----------------------------------------------------------------------------------------------

    def observe(self):
        """Let observers of lifecycle events interfere as well: they are users too."""
        self.reactor.observers.append(lambda event: self.told("observer", event.step.value))

    def play(self):
        self.server_factory = self.add(Serving(self))
        self.client_factory = self.add(Calling(self))
        self.port = self.call("listenTCP", self.reactor.listenTCP, 7, self.server_factory)
        number = 8 if self.scenario == "refused" else 7
        address = {"silent": "10.9.9.9", "named": "here.too", "unknown": "nowhere"}.get(
            self.scenario, LOCALHOST
        )
        self.sim.route("10.9.9.9", lost=True)
        self.sim.name("here.too", ["::1", "10.9.9.9", LOCALHOST])
        connector = self.call("connectTCP", self.reactor.connectTCP, address, number, self.client_factory)
        self.connector = self.connector or connector
        self.run()
        self.second_round()
        self.finish()

    def run(self):
        """Until nothing is left to happen; what leaves the loop on purpose is counted, and the loop goes on."""
        for _ in range(200):
            try:
                self.sim.runUntilIdle(limit=2000)
            except (SystemExit, KeyboardInterrupt) as exc:
                self.log.append(("left", type(exc).__name__, None))
            else:
                break
        else:
            self.breaches.append("the loop was left 200 times")

    def restart(self):
        if not self.reactor.running:
            self.host.start()

    def second_round(self):
        self.restart()
        if self.port is not None and not self.port.connected:
            self.call("startListening", self.port.startListening)
        if self.connector is not None and self.connector.state == "disconnected":
            self.call("connect", self.connector.connect)
        self.run()

    def finish(self):
        self.restart()
        for protocol in self.protocols:
            protocol.ask("resumeProducing")
        self.run()
        for protocol in self.protocols:
            if protocol.transport is not None:
                protocol.transport.abortConnection()
        self.run()
        for interfere in (self.interfere, nobody):
            # The last time nobody interferes: what is begun again in each callback of a shutdown may be left by it.
            self.interfere = interfere
            self.restart()
            self.run()
            if self.reactor.running:
                self.reactor.stop()
            self.run()

    def add(self, factory):
        self.factories.append(factory)
        return factory

    # ---- callbacks and calls ------------------------------------------------------------------------------------

    def told(self, role, spot):
        """A callback has come; whether the test interfered is its own matter."""
        inside = self.calling[-1] if self.calling else None
        self.log.append((role, spot, inside))
        is_exempt = inside in (None, "iterate") or role == "observer"
        if not is_exempt and spot not in MAY_CALL_BACK.get(inside, ()):
            self.breaches.append(f"I4: {role}.{spot} came from within {inside}")
        self.spots.append(spot)
        try:
            with self.inside(None):
                self.interfere(self, spot, role)
        finally:
            self.spots.pop()

    @contextmanager
    def inside(self, name):
        self.calling.append(name)
        try:
            yield
        finally:
            self.calling.pop()

    def call(self, name, func, *args, **keywords):
        """A call of the user's; the engine may refuse it, but only in the ways that are documented."""
        with self.inside(name):
            try:
                result = func(*args, **keywords)
                self.begun += name in ("connect", "connectTCP")
                return result
            except Deliberate as refusal:
                # What a callback raised on the stack of the user's own call comes back to the user.
                self.log.append(("came back", name, type(refusal).__name__))
                return None
            except REFUSALS as refusal:
                self.log.append(("refused", name, str(refusal)))
                return None

    # ---- judgement ----------------------------------------------------------------------------------------------

    def check(self, expected_errors=0, errors=()):
        assert not self.breaches, self.breaches
        assert len(errors) == expected_errors, errors
        for protocol in self.protocols:
            protocol.check()
        for producer in self.producers:
            producer.check()
        # One that was given up in startFactory or startedConnecting, which raised then, has an outcome and came back too.
        came_back = sum(
            each[:2] in (("came back", "connect"), ("came back", "connectTCP")) for each in self.log
        )
        assert self.begun <= self.outcomes.total() <= self.begun + came_back, (
            f"I1: {self.begun}, {self.outcomes}"
        )
        for connector in self.attempts:
            assert connector.state == "disconnected", "I7"
            assert connector.transport is None
        for factory in self.factories:
            assert factory.numPorts == 0, f"I6: {factory} is still used"
            assert factory.started == factory.stopped, (
                f"I6: {factory.started} starts, {factory.stopped} stops"
            )
        core = self.reactor._core
        assert core.open_ends == {}
        assert not self.reactor._loop.due
        assert self.reactor.getDelayedCalls() == []
        self.sim.checkAtRest()
        self.sim.close()
        self.sim.checkAtRest()

    def check_bytes(self):
        """I11, J3: what arrived is what was written, from the start, and all of it where the end was clean."""
        for protocol in self.protocols:
            other = protocol.other
            if other is None:
                continue
            written = b"".join(protocol.written)
            assert written.startswith(other.received), f"J3: {protocol} to {other}"
            ended = getattr(other.reason, "ended", None)
            if ended is not None and ended.by == "peer" and isinstance(protocol.reason, ConnectionDone):
                assert len(other.received) >= (protocol.promised or 0), f"I11: {protocol} to {other}"


def nobody(stage, spot, role):
    """Interferes with nothing."""


class Calling(ClientFactory):
    """The client's factory."""

    role = "client"
    noisy = False

    def __init__(self, stage):
        self.stage = stage
        self.started = self.stopped = 0

    def startFactory(self):
        before = self.stopped
        try:
            self.stage.told(self.role, "startFactory")
        except BaseException:
            # It raised, but it was begun for somebody: who gave up at once, or a second user that it made itself.
            self.started += self.stopped - before or self.numPorts > 1
            raise
        self.started += 1

    def stopFactory(self):
        self.stopped += 1
        self.stage.told(self.role, "stopFactory")

    def startedConnecting(self, connector):
        if self is getattr(self.stage, "client_factory", None):
            self.stage.connector = connector
        self.stage.attempts.add(connector)
        self.stage.told(self.role, "startedConnecting")

    def buildProtocol(self, addr):
        self.stage.told(self.role, "buildProtocol")
        return Player(self.stage, self.role)

    def clientConnectionFailed(self, connector, reason):
        self.stage.outcomes[connector] += 1
        self.reason = reason
        self.stage.told(self.role, "clientConnectionFailed")

    def clientConnectionLost(self, connector, reason):
        self.stage.outcomes[connector] += 1
        self.reason = reason
        # I2: the protocol was told before, of the very same reason.
        mine = [
            each for each in self.stage.protocols if each.role == self.role and each.reason is reason.value
        ]
        if not mine and "iterate" not in self.stage.calling:
            self.stage.breaches.append(f"I2: {reason.value!r} reached the factory first")
        self.stage.told(self.role, "clientConnectionLost")


class Serving(Factory):
    """The server's factory."""

    role = "server"
    noisy = False

    def __init__(self, stage):
        self.stage = stage
        self.started = self.stopped = 0

    def startFactory(self):
        self.stage.told(self.role, "startFactory")
        self.started += 1

    def stopFactory(self):
        self.stopped += 1
        self.stage.told(self.role, "stopFactory")

    def buildProtocol(self, addr):
        self.stage.told(self.role, "buildProtocol")
        return Player(self.stage, self.role)


class Player(Protocol):
    """One end. Notes everything, and plays its part of the scenario."""

    def __init__(self, stage, role):
        self.stage = stage
        self.role = role
        self.told = []
        self.received = b""
        self.written = []
        # How much must arrive if the other end sees a clean end.
        self.promised = None
        self.is_closing = self.is_paused = False
        self.reason = None
        self.is_answering = False
        stage.protocols.append(self)

    def __repr__(self):
        return f"<{self.role} {self.told}>"

    @property
    def other(self):
        """Who is at the other end, as far as it can be told by the addresses: ports are used again."""
        ends = [(each.ends, each) for each in self.stage.protocols if each.transport is not None]
        mine = self.ends
        if [found for found, _ in ends].count(mine) != 1:
            return None
        theirs = [each for found, each in ends if found == mine[::-1]]
        return theirs[0] if len(theirs) == 1 else None

    @property
    def ends(self):
        return None if self.transport is None else (self.transport.getHost(), self.transport.getPeer())

    # ---- asked of the transport, and remembered -----------------------------------------------------------------

    def ask(self, name, *args):
        transport = self.transport
        if transport is None:
            return
        if self.reason is not None:
            pass  # Nothing that is written now is promised to anybody.
        elif name == "write":
            self.written.append(args[0])
        elif name == "writeSequence":
            self.written.extend(args[0])
        elif name in ("loseConnection", "stopProducing", "loseWriteConnection") and self.promised is None:
            self.promised = sum(map(len, self.written))
        if name in ("loseConnection", "stopProducing", "abortConnection"):
            self.is_closing = True
        elif name in ("pauseProducing", "resumeProducing"):
            # What an observer of the first byte pauses has been received already.
            self.is_paused = name == "pauseProducing" and "first byte" not in self.stage.spots
        method = "registerProducer" if name == "registerPullProducer" else name
        self.stage.call(name, getattr(transport, method), *args)

    def note(self, spot):
        if not self.told and spot != "connectionMade":
            self.stage.breaches.append(f"I3: {self.role}.{spot} before connectionMade")
        if self.told and spot == "connectionMade":
            self.stage.breaches.append(f"J1: {self.role}.connectionMade twice")
        if "connectionLost" in self.told:
            self.stage.breaches.append(f"I2: {self.role}.{spot} after connectionLost")
        self.told.append(spot)

    # ---- told ---------------------------------------------------------------------------------------------------

    def connectionMade(self):
        self.note("connectionMade")
        setattr(self.stage, self.role, self)
        self.stage.told(self.role, "connectionMade")
        if self.role == "client":
            self.ask("registerProducer", PushedAround(self), True)
            self.ask("write", BULK)
            if self.stage.scenario == "orderly":
                self.ask("unregisterProducer")
                self.ask("registerProducer", PushedAround(self), True)

    def dataReceived(self, data):
        self.note("dataReceived")
        self.received += data
        if self.is_closing:
            self.stage.breaches.append(f"{self.role}.dataReceived after it asked to close")
        if self.is_paused:
            self.stage.breaches.append(f"{self.role}.dataReceived while paused")
        self.stage.told(self.role, "dataReceived")
        if self.role == "server" and not self.is_answering:
            if self.stage.scenario == "abrupt":
                self.ask("abortConnection")
            elif len(self.received) >= len(BULK):
                self.is_answering = True
                self.ask("registerPullProducer", Pulled(self), False)

    def readConnectionLost(self):
        self.note("readConnectionLost")
        self.stage.told(self.role, "readConnectionLost")
        if self.role == "client":
            self.ask("unregisterProducer")
            self.ask("loseWriteConnection")
        elif self.is_answering:
            self.ask("unregisterProducer")
        else:
            self.ask("loseConnection")

    def writeConnectionLost(self):
        self.note("writeConnectionLost")
        self.stage.told(self.role, "writeConnectionLost")

    def connectionLost(self, reason):
        self.note("connectionLost")
        self.reason = reason.value
        self.stage.told(self.role, "connectionLost")

    def check(self):
        if not self.told:
            return  # It was built, but its connection ended in turns that buildProtocol itself made.
        assert self.told.count("connectionMade") == 1, self.told
        assert self.told.count("connectionLost") == 1, self.told
        assert self.told[-1] == "connectionLost", self.told
        assert self.told.count("readConnectionLost") <= 1, self.told
        assert self.told.count("writeConnectionLost") <= 1, self.told


class PushedAround:
    """A push producer: never called after stop, never paused twice in a row."""

    def __init__(self, player):
        self.player = player
        self.told = []
        player.stage.producers.append(self)

    def pauseProducing(self):
        self.told.append("pauseProducing")
        self.player.stage.told(self.player.role, "pauseProducing")

    def resumeProducing(self):
        self.told.append("resumeProducing")
        self.player.stage.told(self.player.role, "resumeProducing")

    def stopProducing(self):
        self.told.append("stopProducing")
        self.player.stage.told(self.player.role, "stopProducing")

    def check(self):
        assert self.told.count("stopProducing") <= 1, self.told
        if "stopProducing" in self.told:
            assert self.told[-1] == "stopProducing", self.told
        for one, next_one in zip(self.told, self.told[1:], strict=False):
            assert one != next_one, self.told


class Pulled:
    """A pull producer: three pieces, then it goes, and ends this side."""

    def __init__(self, player):
        self.player = player
        self.left = list(ANSWER)
        self.is_stopped = False
        player.stage.producers.append(self)

    def resumeProducing(self):
        if self.is_stopped:
            self.player.stage.breaches.append("J6: asked after stopProducing")
        self.player.stage.told(self.player.role, "resumeProducing")
        if self.left:
            self.player.ask("write", self.left.pop())
        else:
            self.player.ask("unregisterProducer")
            self.player.ask("loseWriteConnection")

    def stopProducing(self):
        self.is_stopped = True
        self.player.stage.told(self.player.role, "stopProducing")

    def check(self):
        """Said as it happens."""
