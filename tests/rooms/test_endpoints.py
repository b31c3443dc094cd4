"""Endpoints: the protocol comes after connectionMade, every failure is the connector's own, cancelling leaves nothing."""

from __future__ import annotations

import errno
import gc
import importlib.metadata
import sys
import weakref
from typing import Any

import pytest

from ropewalk import ClientFactory, Deferred, Factory, Protocol, TCPOptions
from ropewalk.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ClientEndpoint,
    TCP6ServerEndpoint,
    WrappedClientEndpoint,
    WrappedServerEndpoint,
    clientFromString,
    connectProtocol,
    registerClientKind,
    registerServerKind,
    serverFromString,
)
from ropewalk.error import (
    CannotListenError,
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionRefusedError,
    DNSLookupError,
    NoProtocol,
    TimeoutError,
)
from ropewalk.policies import Idle, Lifetime, ProtocolWrapper, WrappingFactory
from ropewalk.pool import Pool
from ropewalk.service import ClientService
from ropewalk.simulation import Host, Simulation
from ropewalk.testing import simulate


class Notes(Factory[Any]):
    """A factory that writes down what it and its protocols are told."""

    noisy = False

    def __init__(self, **acts: Any) -> None:
        self.rows: list[str] = []
        self.acts = acts
        self.protocol_made: Any = None

    def note(self, what: str, *args: Any) -> Any:
        self.rows.append(what)
        act = self.acts.get(what)
        return act(*args) if act is not None else None

    def startFactory(self) -> None:
        self.note("startFactory")

    def stopFactory(self) -> None:
        self.note("stopFactory")

    def buildProtocol(self, addr: Any) -> Any:
        self.protocol_made = Noted(self)
        replaced = self.note("buildProtocol", self.protocol_made)
        return self.protocol_made if replaced is None else replaced or None


class Noted(Protocol):
    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.reason: Any = None

    def connectionMade(self) -> None:
        self.notes.note("connectionMade", self)

    def dataReceived(self, data: bytes) -> None:
        self.notes.note(f"dataReceived {data!r}", self)

    def connectionLost(self, reason: Any) -> None:
        self.reason = reason.value
        self.notes.note("connectionLost", self)


def world(seed: int = 0) -> tuple[Simulation, Host, Host]:
    sim = Simulation(seed)
    server, client = sim.host("server"), sim.host("client")
    sim.latency(server, client, 0.1)
    return sim, server, client


def outcome(deferred: Deferred[Any]) -> list[Any]:
    """What it fires with, in a list that fills when it does."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    return found


# ---- connecting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint])
def test_the_protocol_comes_after_connectionMade_and_in_the_order_of_connectTCP(kind: Any) -> None:
    sim, server, client = world()
    echoes = Notes(**{"dataReceived b'hello'": lambda protocol: protocol.transport.write(b"echo")})
    server.reactor.listenTCP(7, echoes, interface="::", options=TCPOptions(dualStack=True))
    notes = Notes(connectionMade=lambda protocol: protocol.transport.write(b"hello"))
    connecting = kind(client.reactor, "server", 7).connect(notes)
    connecting.addCallback(lambda protocol: notes.rows.append(f"connected {protocol is notes.protocol_made}"))
    assert notes.rows == ["startFactory"]
    sim.run(until=sim.now + 5)
    assert notes.rows == [
        "startFactory",
        "buildProtocol",
        "connectionMade",
        "connected True",
        "dataReceived b'echo'",
    ]
    assert notes.protocol_made.transport.protocol is notes.protocol_made
    notes.protocol_made.transport.loseConnection()
    sim.run(until=sim.now + 5)
    assert notes.rows[5:] == ["connectionLost", "stopFactory"]
    assert type(notes.protocol_made.reason) is ConnectionDone


def test_a_coroutine_awaits_it() -> None:
    sim, server, client = world()
    server.reactor.listenTCP(7, Notes())

    async def main() -> str:
        protocol = await HostnameEndpoint(client.reactor, "server", 7).connect(Notes())
        protocol.transport.loseConnection()
        return f"{protocol.transport.getPeer().port}"

    done = outcome(Deferred.fromCoroutine(main()))
    sim.runUntilIdle(limit=100)
    assert done == ["7"]


def test_an_endpoint_is_used_as_often_as_one_likes() -> None:
    sim, server, client = world()
    server.reactor.listenTCP(7, Notes())
    endpoint = HostnameEndpoint(client.reactor, "server", 7)
    found = [outcome(endpoint.connect(Notes())) for _ in range(3)]
    sim.run(until=sim.now + 5)
    assert len({id(each[0]) for each in found}) == 3


def test_connectProtocol_connects_the_one_that_is_there() -> None:
    sim, server, client = world()
    server.reactor.listenTCP(7, Notes())
    one = Noted(Notes())
    found = outcome(connectProtocol(HostnameEndpoint(client.reactor, "server", 7), one))
    sim.run(until=sim.now + 5)
    assert found == [one]
    assert one.notes.rows == ["connectionMade"]


# ---- failing --------------------------------------------------------------------------------------------------------


def failure(
    host: str, port: int = 7, kind: Any = HostnameEndpoint, notes: Notes | None = None, **how: Any
) -> Any:
    """What connecting fails with; the factory is balanced and nothing is left."""
    sim, server, client = world()
    sim.name("never.example", never=True)
    sim.name("four.example", ["192.0.2.1"])
    port_there = server.reactor.listenTCP(7, Notes())
    notes = notes or Notes()
    found = outcome(kind(client.reactor, host, port, **how).connect(notes))
    sim.run(until=sim.now + 100)
    assert notes.rows.count("startFactory") == notes.rows.count("stopFactory")
    assert len(found) == 1
    port_there.stopListening()
    sim.runUntilIdle()
    sim.checkAtRest()
    return found[0].value


def test_it_fails_with_the_reason_of_the_connector() -> None:
    refused = failure("server", 9)
    assert type(refused) is ConnectionRefusedError
    assert [attempt.errno for attempt in refused.attempts] == [errno.ECONNREFUSED] * 2
    assert type(failure("nowhere.example")) is DNSLookupError
    late = failure("never.example", timeout=5)
    assert type(late) is TimeoutError
    assert late.elapsed == {"resolving": 5}


def test_a_family_that_the_host_does_not_have_is_a_clear_failure() -> None:
    assert "it has no IPv6 address" in str(failure("four.example", kind=TCP6ClientEndpoint))
    assert failure("::1", kind=TCP4ClientEndpoint).errno == errno.EAFNOSUPPORT
    assert "127.0.0.1 is no IPv6 address" in str(failure("127.0.0.1", kind=TCP6ClientEndpoint))


def test_a_factory_that_builds_none_is_NoProtocol() -> None:
    assert type(failure("server", notes=Notes(buildProtocol=lambda protocol: False))) is NoProtocol


def test_what_buildProtocol_raises_is_the_failure_and_is_not_logged(caplog: Any) -> None:
    def build(protocol: Any) -> None:
        raise ZeroDivisionError("built wrong")

    assert type(failure("server", notes=Notes(buildProtocol=build))) is ZeroDivisionError
    assert not caplog.records


def test_what_connectionMade_raises_is_the_failure(caplog: Any) -> None:
    def made(protocol: Any) -> None:
        raise ZeroDivisionError("made wrong")

    notes = Notes(connectionMade=made)
    assert type(failure("server", notes=notes)) is ZeroDivisionError
    assert notes.rows == ["startFactory", "buildProtocol", "connectionMade", "connectionLost", "stopFactory"]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("port", [-1, 65536, "nothing", None])
def test_arguments_that_make_no_sense_are_a_failure_at_once(port: Any) -> None:
    found = outcome(HostnameEndpoint(Simulation().host().reactor, "server", port).connect(Notes()))
    assert isinstance(found[0].value, (ValueError, TypeError, OSError))
    assert repr(port) in str(found[0].value)


# ---- cancelling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 0.0005, 0.001, 0.05, 0.15, 0.2])
@pytest.mark.parametrize("host", ["server", "slow.example", "192.0.2.1"])
def test_cancelling_gives_everything_back(host: str, after: float) -> None:
    sim, server, client = world()
    sim.name("slow.example", server.addresses, delay=0.1)
    sim.route("192.0.2.1", lost=True)
    port = server.reactor.listenTCP(7, Notes())
    notes = Notes()
    connecting = HostnameEndpoint(client.reactor, host, 7).connect(notes)
    found: list[Any] = outcome(connecting)
    sim.run(until=sim.now + after)
    connecting.cancel()
    cancelled: Any = found[0].value
    assert type(cancelled) is ConnectingCancelledError
    assert cancelled.address.host == host
    port.stopListening()
    sim.runUntilIdle()
    assert notes.rows.count("startFactory") == notes.rows.count("stopFactory") == 1
    sim.checkAtRest()


@pytest.mark.parametrize("where", ["buildProtocol", "connectionMade"])
def test_cancelling_within_the_factory_s_and_the_protocol_s_callbacks_gives_everything_back(
    where: str,
) -> None:
    sim, server, client = world()
    port = server.reactor.listenTCP(7, Notes())
    notes = Notes(**{where: lambda protocol: connecting.cancel()})
    connecting: Deferred[Any] = HostnameEndpoint(client.reactor, "server", 7).connect(notes)
    found = outcome(connecting)
    sim.run(until=sim.now + 5)
    assert [type(each.value) for each in found] == [ConnectingCancelledError]
    assert notes.rows.count("connectionMade") == notes.rows.count("connectionLost")
    port.stopListening()
    sim.runUntilIdle()
    sim.checkAtRest()


def test_cancelling_when_it_is_connected_does_nothing() -> None:
    sim, server, client = world()
    server.reactor.listenTCP(7, Notes())
    connecting = HostnameEndpoint(client.reactor, "server", 7).connect(Notes())
    found = outcome(connecting)
    sim.run(until=sim.now + 5)
    connecting.cancel()
    assert found[0].transport.connected


@simulate(seeds=150)
def test_in_a_storm_each_connect_has_one_end_and_nothing_is_left(simulation: Simulation) -> None:
    server, client = simulation.host("server"), simulation.host("client")
    server.onStart(lambda reactor: reactor.listenTCP(7, Notes()))
    every: list[tuple[Notes, Deferred[Any], list[Any]]] = []

    def connect() -> None:
        notes = Notes()
        connecting = HostnameEndpoint(client.reactor, "server", 7, timeout=3).connect(notes)
        every.append((notes, connecting, outcome(connecting)))
        if simulation.random.random() < 0.3:
            client.reactor.callLater(simulation.random.random() * 0.01, connecting.cancel)

    for second in range(10):
        client.reactor.callLater(second, connect)
    storm = simulation.storm(
        10, kinds=["cut", "delay", "loss", "reset", "names", "refuse", "short", "kill", "crash"]
    )
    simulation.run(until=storm.ends + 10)
    for _, _, found in every:
        assert len(found) == 1
        if isinstance(found[0], Noted):
            found[0].transport.abortConnection()
    simulation.run(until=simulation.now + 10)
    assert all(notes.rows.count("startFactory") == notes.rows.count("stopFactory") for notes, _, _ in every)
    assert client.ledger().leftovers() == []


def test_what_has_failed_or_ended_is_freed_without_the_collector() -> None:
    sim, server, client = world()
    server.reactor.listenTCP(7, Notes())
    gc.collect()
    gc.disable()
    try:
        for port in (7, 9):
            factory = ClientFactory.forProtocol(Protocol)
            connecting = HostnameEndpoint(client.reactor, "server", port).connect(factory)
            found = outcome(connecting)
            sim.run(until=sim.now + 5)
            gone: list[Any] = [weakref.ref(connecting), weakref.ref(factory)]
            if port == 7:
                found[0].transport.abortConnection()
                sim.run(until=sim.now + 5)
            del connecting, factory, found
            assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()


def refused_later(sim: Simulation, client: Host) -> Any:
    return HostnameEndpoint(client.reactor, "server", 9).connect(Notes())


def refused_at_once(sim: Simulation, client: Host) -> Any:
    return HostnameEndpoint(client.reactor, "server", -9).connect(Notes())


def refused_to_one_protocol(sim: Simulation, client: Host) -> Any:
    return connectProtocol(HostnameEndpoint(client.reactor, "server", 9), Protocol())


def refused_to_one_protocol_at_once(sim: Simulation, client: Host) -> Any:
    return connectProtocol(HostnameEndpoint(client.reactor, "server", -9), Protocol())


def refused_through_a_layer(sim: Simulation, client: Host) -> Any:
    return WrappedClientEndpoint(HostnameEndpoint(client.reactor, "server", 9), WrappingFactory).connect(
        Notes()
    )


def a_layer_that_raises(sim: Simulation, client: Host) -> Any:
    return WrappedClientEndpoint(HostnameEndpoint(client.reactor, "server", 9), broken_layer).connect(Notes())


def not_listening(sim: Simulation, client: Host) -> Any:
    return TCP4ServerEndpoint(client.reactor, -7).listen(Notes())


def not_listening_through_a_layer(sim: Simulation, client: Host) -> Any:
    return WrappedServerEndpoint(TCP4ServerEndpoint(client.reactor, -7), WrappingFactory).listen(Notes())


def refused_by_a_pool(sim: Simulation, client: Host) -> Any:
    return Pool(HostnameEndpoint(client.reactor, "server", 9), Notes(), size=1).acquire()


@pytest.mark.parametrize(
    "asked",
    [
        refused_later,
        refused_at_once,
        refused_to_one_protocol,
        refused_to_one_protocol_at_once,
        refused_through_a_layer,
        a_layer_that_raises,
        not_listening,
        not_listening_through_a_layer,
        refused_by_a_pool,
    ],
)
def test_an_error_nobody_took_names_the_line_of_who_asked(asked: Any, reported: Any) -> None:
    sim, _, client = world()
    deferred = asked(sim, client)
    sim.run(until=sim.now + 5)
    line = asked.__code__.co_firstlineno + 1
    del deferred
    assert reported() == [f"Unhandled error in a Deferred made at {__file__}:{line}, in {asked.__name__}"]


def test_an_error_of_whenConnected_that_nobody_took_names_the_line_of_who_asked(reported: Any) -> None:
    sim, _, client = world()
    service = ClientService(HostnameEndpoint(client.reactor, "server", 9), Notes())
    service.startService()
    waiting = service.whenConnected(failAfterFailures=1)
    sim.run(until=sim.now + 5)
    service.stopService()
    del waiting
    told = [text for text in reported() if text.startswith("Unhandled")]
    line = sys._getframe().f_lineno - 5
    assert told == [
        f"Unhandled error in a Deferred made at {__file__}:{line}, in {sys._getframe().f_code.co_qualname}"
    ]


# ---- listening ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "host"), [(TCP4ServerEndpoint, "127.0.0.1"), (TCP6ServerEndpoint, "::1")])
def test_listening_is_awaited_too(kind: Any, host: str) -> None:
    sim = Simulation()
    reactor = sim.host().reactor
    [port] = outcome(kind(reactor, 0).listen(Notes()))
    found = outcome(HostnameEndpoint(reactor, host, port.getHost().port).connect(Notes()))
    sim.run(until=sim.now + 5)
    assert found[0].transport.getPeer().host == host


@pytest.mark.parametrize(
    ("kind", "interface", "right"),
    [
        (TCP4ServerEndpoint, "::1", "IPv4"),
        (TCP4ServerEndpoint, "::", "IPv4"),
        (TCP6ServerEndpoint, "127.0.0.1", "IPv6"),
    ],
)
def test_an_interface_of_the_other_family_is_a_clear_failure(kind: Any, interface: str, right: str) -> None:
    [failed] = outcome(kind(Simulation().host().reactor, 0, interface=interface).listen(Notes()))
    assert type(failed.value) is ValueError
    assert str(failed.value) == f"interface must be an {right} address, not {interface!r}"


def test_what_cannot_be_listened_on_is_a_failure() -> None:
    reactor = Simulation().host().reactor
    reactor.listenTCP(7, Notes())
    [failed] = outcome(TCP4ServerEndpoint(reactor, 7).listen(Notes()))
    assert type(failed.value) is CannotListenError
    [failed] = outcome(TCP4ServerEndpoint(reactor, -7).listen(Notes()))
    assert type(failed.value) is ValueError


# ---- one over another -----------------------------------------------------------------------------------------------


class Upper(Protocol):
    """A layer: writes in capitals, and hands the rest on."""

    def __init__(self, inner: Any) -> None:
        self.wrappedProtocol = inner

    def connectionMade(self) -> None:
        self.wrappedProtocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        self.transport.write(data.upper())

    def dataReceived(self, data: bytes) -> None:
        self.wrappedProtocol.dataReceived(data)

    def connectionLost(self, reason: Any) -> None:
        self.wrappedProtocol.connectionLost(reason)


class Uppers(Factory[Any]):
    noisy = False

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def buildProtocol(self, addr: Any) -> Any:
        return Upper(self.inner.buildProtocol(addr))


def test_an_endpoint_over_an_endpoint_connects_the_user_s_own_protocol() -> None:
    sim, server, client = world()
    echoes = Notes(**{"dataReceived b'HELLO'": lambda protocol: protocol.transport.write(b"echo")})
    listening = WrappedServerEndpoint(TCP4ServerEndpoint(server.reactor, 7), Uppers).listen(echoes)
    assert outcome(listening)[0].getHost().port == 7
    notes = Notes(connectionMade=lambda protocol: protocol.transport.write(b"hello"))
    found = outcome(
        WrappedClientEndpoint(HostnameEndpoint(client.reactor, "server", 7), Uppers).connect(notes)
    )
    sim.run(until=sim.now + 5)
    assert found == [notes.protocol_made]
    assert notes.rows[-1] == "dataReceived b'ECHO'"


@pytest.mark.parametrize(
    "layer",
    [
        lambda factory: factory,
        lambda factory: WrappingFactory(factory),
        lambda factory: Idle(Lifetime(WrappingFactory(factory), 60), 60),
        lambda factory: Idle(Uppers(factory), 60),
    ],
)
def test_however_many_layers_there_are_it_is_the_user_s_own_protocol(layer: Any) -> None:
    sim, server, client = world()
    outcome(TCP4ServerEndpoint(server.reactor, 7).listen(Notes()))
    notes = Notes()
    found = outcome(
        WrappedClientEndpoint(HostnameEndpoint(client.reactor, "server", 7), layer).connect(notes)
    )
    sim.run(until=sim.now + 1)
    assert found == [notes.protocol_made]


def test_a_user_s_own_factory_may_be_a_layer_too() -> None:
    sim, server, client = world()
    outcome(TCP4ServerEndpoint(server.reactor, 7).listen(Notes()))
    notes = Notes()
    inner = HostnameEndpoint(client.reactor, "server", 7)
    found = outcome(WrappedClientEndpoint(inner, Idle).connect(WrappingFactory(notes)))
    sim.run(until=sim.now + 1)
    [protocol] = found
    assert isinstance(protocol, ProtocolWrapper) and protocol.wrappedProtocol is notes.protocol_made


class Hiding(Upper):
    """A layer's protocol that keeps the one inside under another name."""

    def __init__(self, inner: Any) -> None:
        self.kept = inner

    def connectionMade(self) -> None:
        self.kept.makeConnection(self)

    def connectionLost(self, reason: Any) -> None:
        self.kept.connectionLost(reason)

    def __repr__(self) -> str:
        return "<Hiding>"


class Hidings(Uppers):
    def buildProtocol(self, addr: Any) -> Any:
        return Hiding(self.inner.buildProtocol(addr))


@pytest.mark.parametrize("layer", [Hidings, lambda factory: Idle(Hidings(factory), 60)])
def test_a_layer_whose_protocol_has_no_wrappedProtocol_is_told_and_leaves_no_connection(layer: Any) -> None:
    sim, server, client = world()
    [port] = outcome(TCP4ServerEndpoint(server.reactor, 7).listen(Notes()))
    notes = Notes()
    inner = HostnameEndpoint(client.reactor, "server", 7)
    found = outcome(WrappedClientEndpoint(inner, layer).connect(notes))
    sim.run(until=sim.now + 5)
    assert type(found[0].value) is TypeError
    assert str(found[0].value).startswith("<Hiding> has no wrappedProtocol")
    assert type(notes.protocol_made.reason) is ConnectionAborted
    port.stopListening()
    sim.runUntilIdle()
    sim.checkAtRest()


def broken_layer(factory: Any) -> Any:
    raise ZeroDivisionError("no layer today")


@pytest.mark.parametrize(
    ("layer", "kind", "said"),
    [
        (broken_layer, ZeroDivisionError, "no layer today"),
        (lambda factory: None, TypeError, "must return a factory, with buildProtocol, not None"),
        (lambda factory: Idle, TypeError, "must return a factory, with buildProtocol, not <class"),
    ],
)
def test_a_layer_that_makes_no_factory_is_a_failure_not_an_exception(
    layer: Any, kind: type[Exception], said: str
) -> None:
    _, server, client = world()
    inner = HostnameEndpoint(client.reactor, "server", 7)
    for failed in (
        outcome(WrappedClientEndpoint(inner, layer).connect(Notes())),
        outcome(WrappedServerEndpoint(TCP4ServerEndpoint(server.reactor, 7), layer).listen(Notes())),
    ):
        assert type(failed[0].value) is kind
        assert said in str(failed[0].value)


def test_it_has_the_reactor_of_the_inner_one_if_that_has_one() -> None:
    _, server, _ = world()
    inner = HostnameEndpoint(server.reactor, "server", 7)
    assert WrappedClientEndpoint(inner, Idle).reactor is server.reactor
    nowhere: Any = object()
    assert not hasattr(WrappedClientEndpoint(nowhere, Idle), "reactor")


# ---- descriptions ---------------------------------------------------------------------------------------------------


def test_descriptions_make_endpoints() -> None:
    reactor: Any = object()
    endpoint: Any = clientFromString(
        reactor, "tcp:host=example.org:port=80:timeout=5:bindAddress=10.0.0.1:attemptDelay=0.1"
    )
    assert type(endpoint) is HostnameEndpoint
    assert (endpoint.reactor, endpoint.host, endpoint.port) == (reactor, "example.org", 80)
    assert (endpoint.timeout, endpoint.bindAddress) == (5, ("10.0.0.1", 0))
    assert endpoint.options is not None
    assert endpoint.options.attemptDelay == 0.1
    assert type(clientFromString(reactor, "TCP4:example.org:80")) is TCP4ClientEndpoint
    assert type(clientFromString(reactor, "tcp6:\\:\\:1:80")) is TCP6ClientEndpoint
    assert clientFromString(reactor, "host:example.org:80:timeout=never").timeout is None
    server = serverFromString(reactor, "tcp:80:interface=127.0.0.1:backlog=7")
    assert (type(server), server.port, server.interface, server.backlog) == (
        TCP4ServerEndpoint,
        80,
        "127.0.0.1",
        7,
    )
    assert serverFromString(reactor, "tcp6:80").interface == "::"


WRONG = {
    "tpc:example.org:80": "there is no kind 'tpc'; there are: host, tcp, tcp4, tcp6",
    "tcp:example.org": "port is missing",
    "tcp:example.org:80:interface=1": "tcp knows no interface; it takes host, port, timeout, bindAddress, attemptDelay",
    "tcp:example.org:99999": "port must be a whole number from 0 to 65535, not '99999'",
    "tcp::80": "host must be a name or an address, not ''",
    "tcp:host=:port=80": "host must be a name or an address, not ''",
    "tcp:example.org:80:bindAddress=notanip": "bindAddress must be an IPv4 or IPv6 address, not 'notanip'",
    "tcp4:example.org:80:bindAddress=\\:\\:1": "bindAddress must be an IPv4 address, not '::1'",
    "tcp6:example.org:80:bindAddress=10.0.0.1": "bindAddress must be an IPv6 address, not '10.0.0.1'",
    "tcp:example.org:80:timeout=": "timeout must be a number of seconds above 0, or never, not ''",
    "tcp:example.org:80:attemptDelay=never": "attemptDelay must be a number of seconds above 0, not 'never'",
}
WRONG_SERVERS = {
    "tcp:80:interface=notanip": "interface must be an IPv4 or IPv6 address, not 'notanip'",
    "tcp4:80:interface=\\:\\:1": "interface must be an IPv4 address, not '::1'",
    "tcp6:80:interface=127.0.0.1": "interface must be an IPv6 address, not '127.0.0.1'",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_description_says_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="endpoint") as raised:
        clientFromString(object(), text)
    assert WRONG[text] in str(raised.value)


@pytest.mark.parametrize("text", WRONG_SERVERS)
def test_a_wrong_description_of_a_server_says_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="endpoint") as raised:
        serverFromString(object(), text)
    assert WRONG_SERVERS[text] in str(raised.value)


@pytest.mark.parametrize(
    ("text", "kind", "host"),
    [
        ("tcp:0", TCP4ServerEndpoint, "0.0.0.0"),
        ("tcp:0:interface=", TCP4ServerEndpoint, "0.0.0.0"),
        ("tcp:0:interface=\\:\\:", TCP6ServerEndpoint, "::"),
        ("tcp:0:interface=\\:\\:1", TCP6ServerEndpoint, "::1"),
        ("tcp6:0", TCP6ServerEndpoint, "::"),
        ("tcp6:0:interface=", TCP6ServerEndpoint, "::"),
    ],
)
def test_a_server_listens_on_what_its_description_says(text: str, kind: Any, host: str) -> None:
    endpoint = serverFromString(Simulation().host().reactor, text)
    assert type(endpoint) is kind
    [port] = outcome(endpoint.listen(Notes()))
    assert port.getHost().host == host


@pytest.mark.parametrize(
    "text", ["tcp:example.org:80:bindAddress=\\:\\:1", "tcp6:example.org:80:bindAddress=fe80\\:\\:1%eth0"]
)
def test_a_local_address_may_be_of_IPv6(text: str) -> None:
    assert ":" in clientFromString(object(), text).bindAddress[0]


def test_kinds_can_be_registered_and_brought_by_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    from ropewalk import endpoints

    monkeypatch.setattr(endpoints, "_client_kinds", dict(endpoints._client_kinds))
    monkeypatch.setattr(endpoints, "_server_kinds", dict(endpoints._server_kinds))
    pigeon: Any = lambda reactor, parts: (reactor, "pigeon", parts.places)  # noqa: E731
    loft: Any = lambda reactor, parts: (reactor, "loft", parts.places)  # noqa: E731
    registerClientKind("pigeon", pigeon)
    registerServerKind("pigeon", loft)
    assert clientFromString(1, "pigeon:north") == (1, "pigeon", ["north"])
    assert serverFromString(2, "Pigeon:roof") == (2, "loft", ["roof"])
    with pytest.raises(ValueError, match="there is a kind 'TCP' already"):
        registerClientKind("TCP", pigeon)

    class Entry:
        name = "brought"

        def load(self) -> Any:
            return lambda reactor, parts: ("brought", parts.names)

    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: [Entry()] if "client" in group else []
    )
    assert clientFromString(1, "brought:speed=9") == ("brought", {"speed": "9"})
    with pytest.raises(ValueError, match="no kind 'brought'"):
        serverFromString(1, "brought:speed=9")


@pytest.mark.parametrize(
    ("value", "cause"),
    [("ropewalk.endpoints:nothing", AttributeError), ("no_such_package:parse", ImportError)],
)
def test_a_kind_of_a_package_that_cannot_be_loaded_names_the_description_and_the_entry_point(
    monkeypatch: pytest.MonkeyPatch, value: str, cause: type[Exception]
) -> None:
    entry = importlib.metadata.EntryPoint("pigeon", value, "ropewalk.client_endpoints")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    with pytest.raises(
        ValueError, match="endpoint 'pigeon:north': the kind 'pigeon' cannot be loaded"
    ) as raised:
        clientFromString(object(), "pigeon:north")
    assert repr(value) in str(raised.value)
    assert isinstance(raised.value.__cause__, cause)
