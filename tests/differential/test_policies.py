"""Twisted's policies and ours, on our reactor in the simulation: the same rows for the same doings, drawn at random.

Below, each difference that docs/differences-from-twisted.md lists is shown, by what each of the two does.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from twisted.internet import error as twisted_error
from twisted.internet import protocol as twisted_protocol
from twisted.protocols import policies as twisted_policies

from ropewalk import ClientFactory, IPv4Address, Protocol
from ropewalk import policies as our_policies
from ropewalk import protocol as our_protocol
from ropewalk.error import AlreadyCalled
from ropewalk.simulation import Simulation
from ropewalk.testing import StringTransport

SIDES = [(twisted_policies, twisted_protocol), (our_policies, our_protocol)]
PORT = 7
KINDS = ["wrapped", "twice", "idle", "total", "total, overflow"]


class Caller(Protocol):
    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def dataReceived(self, data: bytes) -> None:
        self.rows.append(("client", bytes(data)))

    def connectionLost(self, reason: Any) -> None:
        self.rows.append(("client lost", type(reason.value).__name__))


class Callers(ClientFactory[Any]):
    noisy = False

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows
        self.built: list[Caller] = []

    def buildProtocol(self, addr: Any) -> Caller:
        self.built.append(Caller(self.rows))
        return self.built[-1]


class Call:
    """A delayed call that raises Twisted's own error: its policies catch that."""

    def __init__(self, call: Any) -> None:
        self.reset = call.reset
        self._cancel = call.cancel

    def cancel(self) -> None:
        try:
            self._cancel()
        except AlreadyCalled as exc:
            raise twisted_error.AlreadyCalled from exc


class Stage:
    """A server behind the policies of one of the two, and clients that are always the same."""

    def __init__(self, policies: Any, protocol: Any, kind: str) -> None:
        self.rows: list[Any] = []
        self.sim = Simulation()
        self.server, self.client = self.sim.host("server"), self.sim.host("client")
        self.callers = Callers(self.rows)
        self.made: list[Any] = []
        self.factory = self.layered(policies, protocol, kind)
        self.server.reactor.listenTCP(PORT, self.factory)

    def layered(self, policies: Any, protocol: Any, kind: str) -> Any:
        acting, greeting = self.protocols(protocol)
        if kind.startswith("total"):
            factory = policies.LimitTotalConnectionsFactory()
            factory.protocol, factory.connectionLimit = acting, 2
            if kind.endswith("overflow"):
                factory.overflowProtocol = greeting
            factory.noisy = False
            return factory
        factory = protocol.ServerFactory.forProtocol(acting)
        factory.noisy = False
        if kind == "idle":
            idle = policies.TimeoutFactory(factory, 3)
            # Twisted's asks its own reactor, and wants to be told another in this way.
            idle.callLater = lambda seconds, call: Call(self.server.reactor.callLater(seconds, call))
            idle.noisy = False
            return idle
        layer = policies.WrappingFactory(factory)
        layer.noisy = False
        return policies.WrappingFactory(layer) if kind == "twice" else layer

    def protocols(self, protocol: Any) -> tuple[Any, Any]:
        rows, made = self.rows, self.made

        class Acts(protocol.Protocol):
            """Does what it is told."""

            def connectionMade(self) -> None:
                made.append(self)
                self.transport.write(b"hello")
                rows.append(("made", self.transport.getPeer().host, self.transport.getHost().port))

            def dataReceived(self, data: bytes) -> None:
                rows.append(("server", bytes(data)))
                for word in data.split():
                    if word == b"close":
                        self.transport.loseConnection()
                        rows.append(("closing", bool(self.transport.disconnecting)))
                    elif word == b"abort":
                        self.transport.abortConnection()
                    elif word == b"several":
                        self.transport.writeSequence([b"one", b"two"])
                    elif word == b"raise":
                        raise KeyError(word)
                    else:
                        self.transport.write(word)

            def connectionLost(self, reason: Any = None) -> None:
                rows.append(("lost", type(reason.value).__name__))
                made.remove(self)

        class Greets(protocol.Protocol):
            def connectionMade(self) -> None:
                rows.append(("overflow",))
                self.transport.write(b"full")
                self.transport.loseConnection()

        return Acts, Greets

    def do(self, doing: str, chance: random.Random) -> None:
        self.rows.append(("--", doing))
        built = [each for each in self.callers.built if each.connected and each.transport.connected]
        if doing == "connect":
            self.client.reactor.connectTCP("10.0.0.1", PORT, self.callers)
        elif doing == "hang up" and built:
            chance.choice(built).transport.loseConnection()
        elif doing == "reset" and built:
            chance.choice(built).transport.abortConnection()
        elif doing == "push":
            if self.made:
                chance.choice(self.made).transport.write(b"push")
        elif doing == "set" and hasattr(self.factory, "timeoutPeriod"):
            if self.made:
                chance.choice(self.made).transport.setTimeout(chance.choice([None, 1, 6]))
        elif built and doing not in ("hang up", "reset", "set", "pass"):
            chance.choice(built).transport.write(doing.encode())

    def go(self, seconds: float) -> None:
        self.sim.advance(seconds)

    def leave(self) -> None:
        self.sim.close()
        self.sim.runUntilIdle()
        self.sim.checkAtRest()


DOINGS = ["connect", "connect", "hang up", "reset", "push", "set", "pass", "pass"]
DOINGS += ["word", "close", "abort", "several", "raise", "word close", "several abort"]


def played(side: Any, kind: str, seed: int) -> list[Any]:
    chance = random.Random(seed)
    stage = Stage(side[0], side[1], kind)
    for _ in range(30):
        stage.do(chance.choice(DOINGS), chance)
        stage.go(chance.choice([0.01, 0.7, 1.6]))
        count = getattr(stage.factory, "connectionCount", None)
        stage.rows.append(("count", len(stage.factory.protocols) if count is None else count))
    stage.go(20)
    stage.leave()
    return stage.rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(25))
def test_the_rows_are_the_same_whatever_is_done(kind: str, seed: int) -> None:
    theirs, ours = (played(side, kind, seed) for side in SIDES)
    assert ours == theirs
    assert len({row[0] for row in ours}) > 4


def test_a_wrapper_hands_on_the_same_calls_and_names_itself_alike() -> None:
    told: list[Any] = []
    for policies, protocol in SIDES:
        factory = protocol.ServerFactory.forProtocol(protocol.Protocol)
        factory.noisy = False
        layer = policies.WrappingFactory(factory)
        wrapper = layer.buildProtocol(IPv4Address("TCP", "10.0.0.2", 1))
        transport = StringTransport()
        wrapper.makeConnection(transport)
        inner = wrapper.wrappedProtocol
        inner.transport.write(b"a")
        inner.transport.writeSequence([b"b", b"c"])
        same = (inner.transport is wrapper, wrapper.transport is transport, wrapper.factory is layer)
        told.append((transport.value(), same, list(layer.protocols) == [wrapper]))
        told[-1] += (inner.transport.getPeer() == transport.getPeer(), wrapper.logPrefix(), layer.logPrefix())
    assert told[0] == told[1]


# ---- the differences ------------------------------------------------------------------------------------------------


def test_D78_a_factory_that_builds_nothing_refuses_with_ours_and_breaks_later_with_theirs() -> None:
    built = []
    for policies, protocol in SIDES:
        factory = protocol.ServerFactory()
        factory.buildProtocol = lambda addr: None
        built.append(policies.WrappingFactory(factory).buildProtocol(None))
    assert built[1] is None
    with pytest.raises(AttributeError):
        built[0].makeConnection(StringTransport())


def test_D79_with_ours_half_close_reaches_the_protocol_through_its_layer() -> None:
    halves = []
    for policies, protocol in SIDES:
        told: list[str] = []

        class Halves(protocol.Protocol):  # type: ignore[name-defined]
            def readConnectionLost(self, told: Any = told) -> None:
                told.append("half")

            def connectionLost(self, reason: Any = None, told: Any = told) -> None:
                told.append("lost")

        sim = Simulation()
        server, client = sim.host("server"), sim.host("client")
        factory = protocol.ServerFactory.forProtocol(Halves)
        factory.noisy = False
        layer = policies.WrappingFactory(factory)
        layer.noisy = False
        server.reactor.listenTCP(PORT, layer)
        callers = Callers([])
        client.reactor.connectTCP("10.0.0.1", PORT, callers)
        sim.advance(1)
        callers.built[0].transport.loseWriteConnection()
        sim.advance(1)
        halves.append(list(told))
        sim.close()
    assert halves == [["lost"], ["half"]]


def test_D80_with_ours_a_peer_that_takes_what_was_written_is_not_idle_and_the_reason_tells() -> None:
    told = []
    for policies, protocol in SIDES:
        stage = Stage(policies, protocol, "idle")
        reasons: list[Any] = []
        stage.client.reactor.connectTCP("10.0.0.1", PORT, stage.callers)
        stage.go(1)
        stage.sim.bandwidth(stage.server, stage.client, 100_000)
        inner = stage.made[0]
        inner.connectionLost = lambda reason, reasons=reasons: reasons.append(reason.value)
        inner.transport.write(bytes(3_000_000))
        stage.go(10)
        closing = bool(inner.transport.disconnecting)
        stage.go(100)
        told.append((closing, "idle for 3 s" in str(reasons[0])))
        stage.leave()
    assert told == [(True, False), (False, True)]


def test_D81_ours_lets_pass_what_the_rate_allows_and_theirs_counts_each_second() -> None:
    passed = []
    for number, (policies, protocol) in enumerate(SIDES):
        sim = Simulation()
        server, client = sim.host("server"), sim.host("client")
        got: list[int] = []

        class Counts(protocol.Protocol):  # type: ignore[name-defined]
            def dataReceived(self, data: bytes, got: Any = got) -> None:
                got.append(len(data))

        factory = protocol.ServerFactory.forProtocol(Counts)
        factory.noisy = False
        if number == 0:
            layer = policies.ThrottlingFactory(factory, readLimit=1000)
            layer.callLater = server.reactor.callLater
        else:
            layer = policies.RateLimit(factory, receive=policies.Bucket(1000))
        layer.noisy = False
        server.reactor.listenTCP(PORT, layer)
        callers = Callers([])
        client.reactor.connectTCP("10.0.0.1", PORT, callers)
        sim.advance(0.1)
        callers.built[0].transport.write(bytes(50_000))
        sim.advance(0.5)
        passed.append(sum(got))
        callers.built[0].transport.abortConnection()
        sim.advance(1)
        sim.close()
    assert passed[0] == 50_000
    assert 500 <= passed[1] <= 100 + 500


def test_D82_a_limit_for_each_peer_works_with_addresses_with_ours() -> None:
    address = IPv4Address("TCP", "10.0.0.2", 1)
    theirs = twisted_policies.LimitConnectionsByPeer(twisted_protocol.ServerFactory())
    theirs.startFactory()
    with pytest.raises(TypeError):
        theirs.buildProtocol(address)
    factory = our_protocol.ServerFactory.forProtocol(our_protocol.Protocol)
    ours = our_policies.Limit(factory, perPeer=1)
    ours.buildProtocol(address).makeConnection(StringTransport(peerAddress=address))
    assert ours.buildProtocol(address) is None
    assert ours.buildProtocol(IPv4Address("TCP", "10.0.0.3", 1)) is not None


def test_D83_what_ours_has_under_a_name_of_its_own() -> None:
    for name in ("TimeoutMixin", "TrafficLoggingFactory", "SpewingFactory", "ThrottlingFactory"):
        assert hasattr(twisted_policies, name)
        assert not hasattr(our_policies, name)
    assert {"Idle", "TrafficLog", "RateLimit"} <= set(our_policies.__all__)
    shared = [each for each in our_policies.__all__ if hasattr(twisted_policies, each)]
    assert shared == [
        "LimitTotalConnectionsFactory",
        "ProtocolWrapper",
        "TimeoutFactory",
        "TimeoutProtocol",
        "WrappingFactory",
    ]
