"""What tests are written with: Clock, StringTransport, MemoryReactor, the same programs with Twisted's and with ours.

Invariants: a random program of delayed calls is logged alike by both clocks; a random program of a protocol's and a test's
doings leaves both string transports alike; and Twisted's own tests of these classes pass with ours in their place.

Left out of the random programs, as we differ on purpose (docs/differences-from-twisted.md): negative and not finite delays
(D31); calls that were moved to one and the same instant (D50); bytearrays and memoryviews (D18). Of Twisted's own tests those are
left out that ask zope.interface what a class declares (D27), and those of transports that the engine does not have.
"""

from __future__ import annotations

import unittest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk import ClientFactory as OurClientFactory
from ropewalk import Protocol as OurProtocol
from ropewalk import error as our_error
from ropewalk import testing as ours
from ropewalk.address import IPv4Address as OurIPv4Address

theirs = pytest.importorskip(
    "twisted.internet.testing", reason="Twisted is not installed: pip install 'ropewalk[test]'"
)
their_task = pytest.importorskip("twisted.internet.task")
their_protocol = pytest.importorskip("twisted.internet.protocol")


class Planned(Exception):
    """Raised by the programs."""


# ---- clocks -------------------------------------------------------------------------------------------------------

QUARTERS = st.integers(0, 12).map(lambda number: number / 4)
WHICH = st.integers(0, 7)
STEPS = st.one_of(
    st.tuples(st.just("callLater"), QUARTERS, st.none()),
    st.tuples(st.just("cancel"), st.just(0.0), WHICH),
    st.tuples(st.just("reset"), QUARTERS, WHICH),
    st.tuples(st.just("delay"), st.integers(-8, 12).map(lambda number: number / 4), WHICH),
    st.tuples(st.just("advance"), st.integers(-2, 12).map(lambda number: number / 4), st.none()),
    st.tuples(st.just("raise"), st.just(0.0), st.none()),
)


class Programmed:
    """A clock that runs a program; each delayed call takes the next step when it is made."""

    def __init__(
        self, clock: Any, program: list[tuple[str, float, int | None]], has_plain_calls: bool = False
    ) -> None:
        self.clock = clock
        # Whether calls neither raise nor advance the clock themselves.
        self.has_plain_calls = has_plain_calls
        self.depth = 0
        self.program = list(enumerate(program))
        self.calls: list[Any] = []
        self.log: list[tuple[object, ...]] = []

    def run(self) -> list[tuple[object, ...]]:
        while self.program:
            self.step()
        self.outcome("rest", lambda: self.clock.advance(1000))
        return self.log

    def step(self) -> None:
        if self.program:
            number, (what, amount, which) = self.program.pop(0)
            # Why: a fraction of its own for each step, so that no two calls are moved to one instant. The sums are exact.
            own = amount + 2.0 ** -(number + 5)
            self.outcome(what, lambda: self.do(what, amount, own, which))

    def do(self, what: str, amount: float, own: float, which: int | None) -> None:
        if what == "callLater":
            self.calls.append(self.clock.callLater(own, self.made, len(self.calls)))
        elif what == "advance":
            # Why: turned back from within a call, ours makes those that were due all the same.
            self.clock.advance(abs(amount) if self.depth else amount)
        elif what == "raise":
            raise Planned
        elif self.calls:
            call = self.calls[(which or 0) % len(self.calls)]
            call.cancel() if what == "cancel" else getattr(call, what)(own)

    def made(self, index: int) -> None:
        self.log.append(("made", index, self.clock.seconds(), self.calls[index].active()))
        number, (what, _, _) = self.program[0] if self.program else (0, ("", 0.0, None))
        if self.has_plain_calls and what in ("raise", "advance"):
            return
        if what == "raise":
            self.program.pop(0)
            raise Planned(number)
        self.depth += 1
        self.step()
        self.depth -= 1

    def outcome(self, what: str, do: Any) -> None:
        try:
            do()
            happened = "ok"
        except Exception as exc:
            happened = type(exc).__name__
        waiting = sorted((call.getTime(), call.args) for call in self.clock.getDelayedCalls())
        states = [(call.active(), bool(call.called), bool(call.cancelled)) for call in self.calls]
        self.log.append((what, happened, self.clock.seconds(), waiting, states))


@given(st.lists(STEPS, max_size=25))
def test_a_random_program_is_logged_alike_by_both_clocks(program):
    assert Programmed(ours.Clock(), program).run() == Programmed(their_task.Clock(), program).run()


@given(st.lists(STEPS.filter(lambda step: step[0] != "advance" or step[1] >= 0), max_size=25))
def test_a_memory_reactor_makes_the_same_calls_as_twisted_s(program):
    """But for calls that raise or advance the clock themselves: those leave a reactor's turn as it is (D54)."""
    one, other = ours.MemoryReactorClock(), theirs.MemoryReactorClock()
    assert Programmed(one, program, True).run() == Programmed(other, program, True).run()


@given(st.lists(QUARTERS, max_size=30), st.lists(QUARTERS, max_size=8))
def test_calls_for_one_instant_are_made_in_the_order_in_which_they_were_asked_for(delays, advances):
    logs = []
    for clock in (ours.Clock(), their_task.Clock()):
        made: list[tuple[int, float]] = []
        for index, delay in enumerate(delays):
            clock.callLater(
                delay, lambda index=index, made=made, clock=clock: made.append((index, clock.seconds()))
            )
        clock.pump(advances)
        logs.append((made, [call.getTime() for call in clock.getDelayedCalls()]))
    assert logs[0] == logs[1]


def test_D50_of_calls_for_one_instant_the_one_that_was_moved_there_comes_last_with_ours():
    logs = []
    for clock in (ours.Clock(), their_task.Clock()):
        made: list[str] = []
        moved = clock.callLater(1, made.append, "moved")
        clock.callLater(2, made.append, "asked for")
        moved.reset(2)
        clock.advance(2)
        logs.append(made)
    assert logs == [["asked for", "moved"], ["moved", "asked for"]]


# ---- string transports --------------------------------------------------------------------------------------------

DOINGS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from([b"", b"one", b"two", "text", 3, None])),
    st.tuples(
        st.just("writeSequence"),
        st.sampled_from([[], [b"a", b"b"], (b"c",), "generator", [b"a", "text"], [1], "text", b"bytes"]),
    ),
    st.tuples(st.just("registerProducer"), st.booleans()),
    st.tuples(
        st.sampled_from(
            [
                "unregisterProducer",
                "pauseProducing",
                "resumeProducing",
                "stopProducing",
                "loseConnection",
                "abortConnection",
                "clear",
            ]
        ),
        st.none(),
    ),
)
ATTRIBUTES = ("connected", "disconnecting", "disconnected", "producer", "streaming", "producerState")


class Told:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def connectionLost(self, reason: Any) -> None:
        self.reasons.append(type(reason.value).__name__)


def doings_of(kind: Any, lenient: bool, doings: list[tuple[str, Any]]) -> list[object]:
    transport = kind(lenient=lenient)
    transport.protocol = told = Told()
    log: list[object] = []
    for index, (what, argument) in enumerate(doings):
        # Why made here: it can be read only once.
        arguments = [argument if argument != "generator" else (each for each in (b"d", b"e"))]
        if what == "registerProducer":
            arguments = [f"producer {index}", argument]
        elif argument is None and what != "write":
            arguments = []
        try:
            happened = getattr(transport, what)(*arguments)
        except Exception as exc:
            happened = type(exc).__name__
        log.append((what, happened, transport.value(), [getattr(transport, name) for name in ATTRIBUTES]))
    return [*log, told.reasons, transport.io.getvalue()]


@pytest.mark.parametrize("name", ["StringTransport", "StringTransportWithDisconnection"])
@given(st.booleans(), st.lists(DOINGS, max_size=12))
def test_a_random_program_leaves_both_string_transports_alike(name, lenient, doings):
    assert doings_of(getattr(ours, name), lenient, doings) == doings_of(
        getattr(theirs, name), lenient, doings
    )


@pytest.mark.parametrize("address", ["getHost", "getPeer"])
def test_the_made_up_addresses_are_twisted_s(address):
    one, other = getattr(ours.StringTransport(), address)(), getattr(theirs.StringTransport(), address)()
    assert (one.type, one.host, one.port) == (other.type, other.host, other.port)


# ---- memory reactors ----------------------------------------------------------------------------------------------


class Engine:
    """The classes of one of the two."""

    def __init__(self, testing: Any, client_factory: Any, protocol: Any) -> None:
        self.reactor = testing.MemoryReactorClock()
        self.transport = testing.StringTransport
        self.factory = client_factory
        self.protocol = protocol


def both() -> list[Engine]:
    return [
        Engine(ours, OurClientFactory, OurProtocol),
        Engine(theirs, their_protocol.ClientFactory, their_protocol.Protocol),
    ]


def recorded(engine: Engine) -> list[object]:
    """What a test finds written down of connecting and listening."""
    factory = engine.factory.forProtocol(engine.protocol)
    reactor = engine.reactor
    reactor.connectTCP("example.com", 80, factory)
    reactor.connectTCP("::1", 81, factory, 5, ("127.0.0.1", 0))
    reactor.listenTCP(8080, factory)
    reactor.listenTCP(8081, factory, 7, "127.0.0.1")
    reactor.listenTCP(8082, factory, interface="::1")
    rows = [*reactor.tcpClients, *reactor.tcpServers]
    destinations = [each.getDestination() for each in reactor.connectors]
    return [
        [[each if each is not factory else "factory" for each in row] for row in rows],
        [(type(each).__name__, each.host, each.port) for each in destinations],
        reactor.getDelayedCalls() == [],
    ]


def listened(engine: Engine) -> list[object]:
    factory = engine.factory.forProtocol(engine.protocol)
    ports = [
        engine.reactor.listenTCP(8080, factory),
        engine.reactor.listenTCP(8081, factory, interface="::1"),
    ]
    return [
        (type(each.getHost()).__name__, each.getHost().port, each.getHost().host)
        for each in ports
        if each.getHost().port == 8080 or each.getHost().host == "::1"
    ]


def built_by_hand(engine: Engine) -> list[object]:
    """As most tests do: the factory from the list, a protocol from the factory, a StringTransport."""
    log: list[object] = []

    class Greeter(engine.protocol):  # type: ignore[name-defined]
        def connectionMade(self):
            self.transport.write(b"hello")
            engine.reactor.callLater(3, self.transport.loseConnection)

        def connectionLost(self, reason):
            log.append("lost")

    engine.reactor.connectTCP("example.com", 80, engine.factory.forProtocol(Greeter))
    factory = engine.reactor.tcpClients[0][2]
    protocol = factory.buildProtocol(None)
    transport = engine.transport()
    protocol.makeConnection(transport)
    log.append(transport.value())
    engine.reactor.advance(2)
    log.append((transport.disconnecting, len(engine.reactor.getDelayedCalls())))
    engine.reactor.advance(1)
    log.append((transport.disconnecting, engine.reactor.seconds(), engine.reactor.rightNow))
    return log


def ran(engine: Engine) -> list[object]:
    reactor = engine.reactor
    log: list[object] = []

    def flags() -> tuple[object, ...]:
        return reactor.running, reactor.hasRun, reactor.hasStopped, reactor.hasCrashed, reactor.hasInstalled

    def hook(number: int, word: str = "") -> None:
        log.append((number, word, flags()))

    log.append(flags())
    reactor.install()
    reactor.callWhenRunning(hook, 1, word="waited")
    reactor.advance(1)
    log.append(len(reactor.whenRunningHooks))
    reactor.callWhenRunning(lambda: reactor.callWhenRunning(hook, 2))
    reactor.run()
    log.append(flags())
    reactor.callWhenRunning(hook, 3)
    reactor.stop()
    reactor.crash()
    log.append(flags())
    return log


def run_with_a_hook_that_raises(engine: Engine) -> list[object]:
    def hook() -> None:
        raise Planned

    engine.reactor.callWhenRunning(hook)
    with pytest.raises(Planned):
        engine.reactor.run()
    return [engine.reactor.running, engine.reactor.hasRun, engine.reactor.hasStopped]


def triggered(engine: Engine) -> list[object]:
    """Triggers are written down, and none is fired by running and stopping."""
    log: list[object] = []
    reactor = engine.reactor
    reactor.addSystemEventTrigger("before", "shutdown", log.append, 1)
    reactor.addSystemEventTrigger("before", "shutdown", log.append, 2)
    reactor.addSystemEventTrigger("after", "shutdown", log.append, 3)
    reactor.run()
    rows = {
        phase: {event: [(each[1], each[2]) for each in calls] for event, calls in events.items()}
        for phase, events in reactor.triggers.items()
    }
    log.append(rows)
    for func, args, kw in reactor.triggers["before"]["shutdown"]:
        func(*args, **kw)
    return log


def described(engine: Engine) -> list[object]:
    reader, writer = object(), object()
    reactor = engine.reactor
    for _ in range(2):
        reactor.addReader(reader)
        reactor.addWriter(writer)
    log: list[object] = [reactor.getReaders() == [reader], reactor.getWriters() == [writer]]
    log += [reader in reactor.readers, writer in reactor.writers]
    log.append(len(reactor.removeAll()))
    reactor.removeReader(reader)
    reactor.removeWriter(writer)
    return [*log, reactor.readers, reactor.writers]


def resolved(engine: Engine) -> list[object]:
    log: list[object] = []

    class Receiver:
        def resolutionBegan(self, resolution):
            log.append(("began", resolution.name))

        def addressResolved(self, address):
            log.append((type(address).__name__, address.type, address.host, address.port))

        def resolutionComplete(self):
            log.append("complete")

    engine.reactor.nameResolver.resolveHostName(Receiver(), "example.com", 80)
    marker = object()
    log.append(engine.reactor.installNameResolver(marker) is not marker)
    log.append(engine.reactor.nameResolver is marker)
    return log


def started(engine: Engine) -> list[object]:
    """The one callback of a connector that Twisted's makes too."""
    log: list[object] = []

    class Factory(engine.factory):  # type: ignore[name-defined]
        def startedConnecting(self, connector):
            log.append((len(engine.reactor.tcpClients), len(engine.reactor.connectors)))

    engine.reactor.connectTCP("example.com", 80, Factory())
    return log


@pytest.mark.parametrize(
    "scenario",
    [
        recorded,
        listened,
        built_by_hand,
        ran,
        run_with_a_hook_that_raises,
        triggered,
        described,
        resolved,
        started,
    ],
    ids=lambda each: each.__name__,
)
def test_a_test_finds_the_same_in_both_memory_reactors(scenario):
    our_log, their_log = map(scenario, both())
    assert our_log == their_log
    assert our_log, "a scenario that logs nothing shows nothing"


def test_D51_ours_starts_the_factory_and_gives_up_as_a_reactor_does():
    logs = []
    for engine in both():
        log: list[str] = []

        class Factory(engine.factory):
            def startFactory(self, log=log):
                log.append("start")

            def clientConnectionFailed(self, connector, reason, log=log):
                log.append(type(reason.value).__name__)

            def stopFactory(self, log=log):
                log.append("stop")

        engine.reactor.connectTCP("example.com", 80, Factory())
        engine.reactor.advance(60)
        engine.reactor.connectTCP("example.com", 80, Factory()).stopConnecting()
        logs.append(log)
    assert logs == [["start", "TimeoutError", "stop", "start", "UserError", "stop"], []]


def test_D52_ours_refuses_what_a_reactor_refuses():
    engine, their_engine = both()
    factory = engine.factory()
    for call, error in (
        (lambda reactor, factory: reactor.connectTCP("example.com", 80, object()), TypeError),
        (lambda reactor, factory: reactor.connectTCP("example.com", 70000, factory), ValueError),
        (lambda reactor, factory: reactor.listenTCP(80, object()), TypeError),
        (
            lambda reactor, factory: [reactor.listenTCP(80, factory) for _ in range(2)],
            our_error.CannotListenError,
        ),
    ):
        with pytest.raises(error):
            call(engine.reactor, factory)
    assert engine.reactor.tcpClients == engine.reactor.connectors == []
    their_engine.reactor.listenTCP(80, object())
    their_engine.reactor.listenTCP(80, object())
    assert len(their_engine.reactor.tcpServers) == 2


def test_D53_ours_listens_on_a_number_of_its_own_where_0_is_asked_for():
    engine, their_engine = both()
    assert engine.reactor.listenTCP(0, engine.factory()).getHost().port > 0
    assert their_engine.reactor.listenTCP(0, their_engine.factory()).getHost().port == 0


# ---- Twisted's own tests ------------------------------------------------------------------------------------------

# Why left out: these ask zope.interface.
DECLARED = {
    "testCallLater",
    "test_providesIReactorTime",
    "test_interfaces",
    "test_memoryReactorProvides",
    "test_raisingReactorProvides",
}
# Why left out: connectSSL and connectUNIX, listenSSL and listenUNIX come first in them.
OTHER_TRANSPORTS = {"test_connectDestination", "test_listenDefaultHost"}


def run_theirs(case: type[unittest.TestCase]) -> int:
    """How many of a class's tests were run; all must pass."""
    suite = unittest.TestSuite()
    for name in unittest.defaultTestLoader.getTestCaseNames(case):
        if name not in DECLARED | OTHER_TRANSPORTS:
            suite.addTest(case(name))
    result = unittest.TestResult()
    suite.run(result)
    assert result.wasSuccessful(), "\n".join(text for _, text in (*result.failures, *result.errors))
    return result.testsRun


def test_twisted_s_own_tests_of_its_clock_pass_with_ours(monkeypatch):
    test_task = pytest.importorskip("twisted.test.test_task")
    monkeypatch.setattr(their_task, "Clock", ours.Clock)
    monkeypatch.setattr(test_task, "error", our_error)
    assert run_theirs(test_task.ClockTests) >= 13
    assert run_theirs(test_task.LoopTests) >= 18


def test_twisted_s_own_tests_of_its_string_transport_pass_with_ours(monkeypatch):
    test_testing = pytest.importorskip("twisted.internet.test.test_testing")
    monkeypatch.setattr(test_testing, "StringTransport", ours.StringTransport)
    monkeypatch.setattr(test_testing, "IPv4Address", OurIPv4Address)
    assert run_theirs(test_testing.StringTransportTests) >= 15


def test_twisted_s_own_tests_of_its_memory_reactor_pass_with_ours(monkeypatch):
    test_testing = pytest.importorskip("twisted.internet.test.test_testing")
    monkeypatch.setattr(test_testing, "MemoryReactor", ours.MemoryReactor)
    assert run_theirs(test_testing.ReactorTests) >= 4


@pytest.mark.parametrize(
    "module", ["twisted.protocols.test.test_basic", "twisted.words.test.test_irc", "twisted.test.test_iosim"]
)
def test_tests_of_twisted_that_use_these_classes_pass_with_ours(module, monkeypatch, tmp_path):
    # Why: trial's mktemp makes files where it is.
    monkeypatch.chdir(tmp_path)
    found = pytest.importorskip(module)
    for each in {found, pytest.importorskip("twisted.test.iosim")}:
        for name in ("StringTransport", "MemoryReactor", "MemoryReactorClock", "Clock"):
            if hasattr(each, name):
                monkeypatch.setattr(each, name, getattr(ours, name))
    cases = [each for each in vars(found).values() if isinstance(each, type)]
    assert sum(run_theirs(each) for each in cases if issubclass(each, unittest.TestCase)) >= 20
