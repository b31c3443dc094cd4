"""Every way in which connecting can go wrong, and what users are told (CONTRACT 3)."""

from __future__ import annotations

import builtins
import errno
import logging
import socket
import threading

import pytest

from ropewalk import TCPOptions
from ropewalk.address import IPv4Address, IPv6Address
from ropewalk.defer import fail, succeed
from ropewalk.error import (
    ConnectBindError,
    ConnectError,
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    ServiceNameUnknownError,
    TCPTimedOutError,
    TimeoutError,
    UserError,
    _duration,
)
from ropewalk.event import EndedBy, Step
from ropewalk.machine import IllegalTransition
from tests.contract.stage import (
    HERE,
    Client,
    HalfCloser,
    Planned,
    Producer,
    Server,
    connected,
    do,
    error,
    is_reset,
    logged,
    lose,
    port_of,
    raises,
    read_all,
    readable,
    rows,
    run,
    run_to_the_end,
    turn,
    turn_until,
)

STARTED = ["doStart", "startFactory", "startedConnecting"]
FAILED = ["clientConnectionFailed", "doStop", "stopFactory"]
BUILT = ["buildProtocol", "makeConnection", "connectionMade"]
LOST = ["connectionLost", "clientConnectionLost", "doStop", "stopFactory"]


def failed(reactor, factory):
    """Turn until the attempt has failed; the reason."""
    turn_until(reactor, lambda: factory.reasons)
    assert factory.journal == [*STARTED, *FAILED]
    assert factory.numPorts == 0
    assert factory.connectors[0].state == "disconnected"
    return factory.reason


# ---- raised at once -----------------------------------------------------------------------------------------------


def test_S3_unknown_service_name_is_raised(reactor):
    factory = Client()
    with pytest.raises(ServiceNameUnknownError):
        reactor.connectTCP(HERE, "no-such-service-at-all", factory)
    assert factory.journal == []
    assert factory.numPorts == 0


def test_S3_startFactory_raises_raised_state_back_nothing_leaks(reactor, peers):
    factory = Client()
    listener = peers.listen()
    connector = reactor.connectTCP(HERE, port_of(listener), factory)
    connector.stopConnecting()
    before = list(factory.journal)
    factory.stage.acts["startFactory"] = raises()
    with pytest.raises(Planned):
        connector.connect()
    assert connector.state == "disconnected"
    assert factory.journal == [*before, "doStart", "startFactory"]
    assert factory.numPorts == 0
    assert reactor.getDelayedCalls() == []
    turn(reactor)
    assert len(factory.journal) == len(before) + 2
    # And it can be used again.
    factory.stage.acts.clear()
    connector.connect()
    turn_until(reactor, lambda: "connectionMade" in factory.journal)


def test_S3_startFactory_raises_out_of_connectTCP(reactor):
    factory = Client(startFactory=raises())
    with pytest.raises(Planned):
        reactor.connectTCP(HERE, 9, factory)
    assert factory.numPorts == 0


@pytest.mark.parametrize("kind", [Planned, SystemExit, KeyboardInterrupt])
def test_S3_startedConnecting_raises_attempt_cancelled_doStop_balanced_then_raised(reactor, peers, kind):
    listener = peers.listen()
    factory = Client(startedConnecting=raises(kind))
    with pytest.raises(kind, match="planned"):
        reactor.connectTCP(HERE, port_of(listener), factory)
    assert factory.journal == [*STARTED, "doStop", "stopFactory"]
    assert factory.connectors[0].state == "disconnected"
    assert reactor.getDelayedCalls() == []
    turn(reactor)
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert len(factory.journal) == 5


def test_S3_startedConnecting_stops_connecting_nothing_is_under_way_afterwards(reactor, peers):
    listener = peers.listen()
    factory = Client(startedConnecting=lambda connector: connector.stopConnecting())
    connector = reactor.connectTCP(HERE, port_of(listener), factory)
    assert factory.journal == [*STARTED, *FAILED]
    assert connector.state == "disconnected"
    turn(reactor)
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("port", [-1, 65536, 1 << 40])
def test_S3_port_out_of_range_raises_ValueError_from_connectTCP(reactor, port):
    factory = Client()
    with pytest.raises(ValueError, match=f"0 to 65535, not {port}"):
        reactor.connectTCP(HERE, port, factory)
    assert factory.journal == []


def test_D88_what_could_not_be_meant_is_refused_at_once_and_what_is_harmless_is_not(reactor, peers):
    factory = Client()
    _, peer = connected(reactor, peers, factory)
    port = reactor.listenTCP(0, Server(), interface=HERE)
    call = reactor.callLater(60, int)
    for kind, ask, *arguments in (
        (IllegalTransition, port.startListening),
        (ValueError, reactor.listenTCP, 70_000, Server()),
        (ValueError, call.reset, -1),
        (ValueError, reactor.suggestThreadPoolSize, 0),
        (TypeError, reactor.callFromThread, None),
        (TypeError, reactor.addSystemEventTrigger, "during", "shutdown", None),
    ):
        with pytest.raises(kind):
            ask(*arguments)
    with pytest.raises(ValueError, match="timeout"):
        reactor.connectTCP(HERE, 1, Client(), timeout=-1)
    call.cancel()
    port.stopListening()
    turn_until(reactor, lambda: not port.connected)
    assert port.stopListening().called
    transport = factory.one.transport
    peer.close()
    turn_until(reactor, lambda: factory.reasons)
    assert transport.getHost().host == HERE


@pytest.mark.parametrize("port", [None, 1.5, b"80", True])
def test_S3_port_that_is_no_number_raises_TypeError(reactor, port):
    with pytest.raises(TypeError, match="port must be a number or a service name"):
        reactor.connectTCP(HERE, port, Client())


# ---- sockets ------------------------------------------------------------------------------------------------------


def test_S3_socket_fails_ConnectBindError_in_the_next_pass_with_errno_and_cause(world, reactor_in):
    world.faults["socket"] = error("EMFILE")
    factory = Client()
    reactor_in.connectTCP(HERE, 9, factory)
    assert factory.journal == STARTED
    reason = failed(reactor_in, factory)
    assert type(reason) is ConnectBindError
    assert reason.errno == errno.EMFILE
    assert reason.__cause__ is world.faults["socket"]


def test_S3_bind_fails_ConnectBindError_with_errno_and_cause(reactor):
    factory = Client()
    # Source: RFC 5737, TEST-NET-1: no interface of ours has it.
    reactor.connectTCP(HERE, 9, factory, bindAddress=("192.0.2.1", 0))
    assert factory.journal == STARTED
    reason = failed(reactor, factory)
    assert type(reason) is ConnectBindError
    assert reason.errno == reason.__cause__.errno == errno.EADDRNOTAVAIL


def test_S3_bind_address_is_where_the_connection_comes_from(reactor, peers):
    listener = peers.listen()
    factory = Client()
    reactor.connectTCP(HERE, port_of(listener), factory, bindAddress=("127.0.0.9", 0))
    peer = peers.accept(reactor, listener)
    assert peer.getpeername()[0] == "127.0.0.9"
    turn_until(reactor, lambda: factory.built)
    assert factory.one.transport.getHost().host == "127.0.0.9"


CONNECT_ERRORS = [
    ("ECONNREFUSED", ConnectionRefusedError, builtins.ConnectionRefusedError),
    ("ENETUNREACH", NoRouteError, OSError),
    ("EHOSTUNREACH", NoRouteError, OSError),
    ("ETIMEDOUT", TCPTimedOutError, builtins.TimeoutError),
    ("EACCES", ConnectError, OSError),
    ("EADDRNOTAVAIL", ConnectError, OSError),
    ("ENOBUFS", ConnectError, OSError),
]


@pytest.mark.parametrize("told", ["by connect", "by SO_ERROR"])
@pytest.mark.parametrize(("name", "kind", "builtin"), CONNECT_ERRORS, ids=[row[0] for row in CONNECT_ERRORS])
def test_S3_errno_gives_the_class_the_builtin_and_itself(world, reactor_in, peers, told, name, kind, builtin):
    number = getattr(errno, name)
    world.faults["connect_ex" if told == "by connect" else "SO_ERROR"] = number
    factory = Client()
    reactor_in.connectTCP(HERE, port_of(peers.listen()), factory)
    assert factory.journal == STARTED
    reason = failed(reactor_in, factory)
    assert type(reason) is kind
    assert isinstance(reason, ConnectError)
    assert isinstance(reason, builtin)
    assert reason.errno == number
    assert reason.__cause__.errno == number
    assert name in str(reason)


def test_S3_refused_for_real(reactor, peers):
    factory = Client()
    port = peers.refusing_port()
    reactor.connectTCP(HERE, port, factory)
    reason = failed(reactor, factory)
    assert type(reason) is ConnectionRefusedError
    assert reason.errno == errno.ECONNREFUSED
    assert f"{HERE}:{port}" in str(reason)


# ---- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "temporary"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), True),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"), True),
        (error("ECONNREFUSED"), True),
        ([], False),
    ],
    ids=["NXDOMAIN", "server failing", "failure", "system error", "no address"],
)
def test_S3_name_not_found_DNSLookupError_a_ConnectError_tells_no_such_name_from_failing_server(
    world, reactor_in, answer, temporary
):
    world.names["lost.test"] = answer
    factory = Client()
    reactor_in.connectTCP("lost.test", 9, factory)
    reason = failed(reactor_in, factory)
    assert type(reason) is DNSLookupError
    assert isinstance(reason, ConnectError)
    assert reason.temporary is temporary
    assert "lost.test" in str(reason)
    assert reason.phase == "resolving"
    if answer:
        assert reason.__cause__ is answer
        assert reason.errno == answer.errno


def test_S3_resolver_raises_anything_else_failed_at_once(reactor):
    factory = Client()
    reactor.connectTCP("a" * 64 + ".test", 9, factory)
    reason = failed(reactor, factory)
    assert type(reason) is DNSLookupError
    assert isinstance(reason.__cause__, UnicodeError)


class Answers:
    """A hostname resolver that answers as it is told."""

    def __init__(self, *addresses):
        self.addresses = addresses

    def resolveHostName(self, receiver, name, port=0, addressTypes=None, transportSemantics="TCP"):
        receiver.resolutionBegan(self)
        for host in self.addresses:
            kind = IPv6Address if ":" in host else IPv4Address
            receiver.addressResolved(kind("TCP", host, port))
        receiver.resolutionComplete()
        return self


class Raises:
    """A resolver, of both kinds, that raises."""

    def resolveHostName(self, receiver, name, *rest):
        raise Planned("no resolver today")

    def getHostByName(self, name, timeout=()):
        raise Planned("no resolver today")


class Fails:
    def getHostByName(self, name, timeout=()):
        return fail(Planned("no resolver today"))


@pytest.mark.parametrize(
    ("install", "resolver"),
    [("installNameResolver", Raises()), ("installResolver", Raises()), ("installResolver", Fails())],
    ids=["resolveHostName raises", "getHostByName raises", "getHostByName fails"],
)
def test_S3_an_installed_resolver_that_fails_is_told_at_once(reactor, install, resolver):
    getattr(reactor, install)(resolver)
    factory = Client()
    reactor.connectTCP("anything.test", 9, factory)
    assert factory.journal == STARTED
    reason = failed(reactor, factory)
    assert type(reason) is DNSLookupError
    assert isinstance(reason.__cause__, Planned)


def test_S3_an_installed_simple_resolver_is_used(reactor, peers):
    class Simple:
        def getHostByName(self, name, timeout=()):
            return succeed(HERE)

    reactor.installResolver(Simple())
    listener = peers.listen()
    reactor.connectTCP("anything.test", port_of(listener), Client())
    peers.accept(reactor, listener)


def test_S3_thread_pool_full_of_user_jobs_names_are_resolved_all_the_same(reactor, peers):
    release = threading.Event()
    reactor.suggestThreadPoolSize(2)
    for _ in range(4):
        reactor.callInThread(release.wait)
    try:
        listener = peers.listen()
        factory = Client()
        reactor.connectTCP("localhost", port_of(listener), factory)
        peers.accept(reactor, listener)
        turn_until(reactor, lambda: factory.built)
    finally:
        release.set()


# ---- several addresses --------------------------------------------------------------------------------------------


def steps(reactor):
    """What observers are told of attempts, as text."""
    found = []

    def observe(event):
        if event.step in (Step.ATTEMPT_STARTED, Step.ATTEMPT_FAILED):
            found.append(f"{event.step.value} {event.details['address'].rpartition(':')[0]}")

    reactor.observers.append(observe)
    return found


def test_S3_first_of_several_refused_the_second_is_tried_at_once(reactor, peers):
    listener = peers.listen(HERE)
    reactor.installNameResolver(Answers("127.0.0.2", HERE))
    factory = Client()
    tried = steps(reactor)
    reactor.connectTCP("two.test", port_of(listener), factory, options=TCPOptions(attemptDelay=1e6))
    peers.accept(reactor, listener)
    turn_until(reactor, lambda: factory.built)
    assert factory.one.transport.getPeer() == IPv4Address("TCP", HERE, port_of(listener))
    assert tried == ["attempt started 127.0.0.2", "attempt failed 127.0.0.2", "attempt started 127.0.0.1"]
    assert factory.journal == [*STARTED, *BUILT]


def test_S3_happy_eyeballs_families_take_turns_in_the_resolver_s_order(reactor, peers):
    port = peers.refusing_port()
    reactor.installNameResolver(Answers("::1", "::1", "127.0.0.2", "127.0.0.3"))
    tried = steps(reactor)
    factory = Client()
    reactor.connectTCP("many.test", port, factory)
    failed(reactor, factory)
    started = [each for each in tried if "started" in each]
    assert started == [f"attempt started {host}" for host in ("[::1]", "127.0.0.2", "127.0.0.3")]


def test_S3_happy_eyeballs_A_and_AAAA_an_IPv6_that_refuses_leads_to_IPv4(world, reactor_in, peers):
    listener = peers.listen(HERE)
    world.names["dual.test"] = ["::1", HERE]
    factory = Client()
    reactor_in.connectTCP("dual.test", port_of(listener), factory)
    peers.accept(reactor_in, listener)
    turn_until(reactor_in, lambda: factory.built)


def test_S3_happy_eyeballs_the_next_attempt_starts_250_ms_later_and_the_loser_is_cancelled(
    world, reactor_in, peers
):
    listener = peers.listen(HERE)
    peers.black_hole("127.0.0.2", port_of(listener))
    world.names["two.test"] = ["127.0.0.2", HERE]
    tried = steps(reactor_in)
    factory = Client()
    reactor_in.connectTCP("two.test", port_of(listener), factory)
    turn_until(reactor_in, lambda: tried)
    world.advance(0.2)
    turn(reactor_in)
    assert tried == ["attempt started 127.0.0.2"]
    world.advance(0.06)
    turn(reactor_in)
    peers.accept(reactor_in, listener)
    turn_until(reactor_in, lambda: factory.built)
    assert tried == ["attempt started 127.0.0.2", "attempt started 127.0.0.1", "attempt failed 127.0.0.2"]
    # The loser's socket and timers are gone: only the connection itself is left (the fixture looks at descriptors).
    assert reactor_in.getDelayedCalls() == []
    assert factory.journal == [*STARTED, *BUILT]
    world.advance(100)
    turn(reactor_in)
    assert factory.journal == [*STARTED, *BUILT]


def test_S3_happy_eyeballs_an_attempt_that_was_overtaken_may_still_win(world, reactor_in, peers):
    """Staggered, not replaced: the first address goes on while the second is tried."""
    listener = peers.listen(HERE)
    peers.black_hole("127.0.0.2", port_of(listener))
    world.names["two.test"] = [HERE, "127.0.0.2"]
    tried = steps(reactor_in)
    factory = Client()
    reactor_in.connectTCP("two.test", port_of(listener), factory)
    world.is_deaf = True
    turn(reactor_in)
    world.advance(0.25)
    turn(reactor_in)
    assert tried == ["attempt started 127.0.0.1", "attempt started 127.0.0.2"]
    world.is_deaf = False
    turn_until(reactor_in, lambda: factory.built)
    assert factory.one.transport.getPeer().host == HERE
    assert reactor_in.getDelayedCalls() == []


def test_S3_all_attempts_fail_the_reason_lists_every_one_with_address_error_and_seconds(reactor, peers):
    port = peers.refusing_port()
    reactor.installNameResolver(Answers("127.0.0.2", "127.0.0.3"))
    factory = Client()
    reactor.connectTCP("two.test", port, factory)
    reason = failed(reactor, factory)
    assert type(reason) is ConnectionRefusedError
    assert [each.address for each in reason.attempts] == [f"127.0.0.2:{port}", f"127.0.0.3:{port}"]
    assert [each.errno for each in reason.attempts] == [errno.ECONNREFUSED] * 2
    for each in reason.attempts:
        assert each.seconds >= 0
        assert f"{each.address}: ECONNREFUSED after {_duration(each.seconds)}" in str(reason)


def test_S3_all_attempts_fail_differently_each_error_is_listed(world, reactor_in):
    numbers = {"127.0.0.2": errno.ENETUNREACH, "127.0.0.3": errno.ECONNREFUSED, "127.0.0.4": errno.EACCES}
    world.names["three.test"] = list(numbers)
    world.faults["connect_ex"] = lambda sock, address: numbers[address[0]]
    factory = Client()
    reactor_in.connectTCP("three.test", 9, factory)
    reason = failed(reactor_in, factory)
    assert [each.errno for each in reason.attempts] == list(numbers.values())
    for name in ("ENETUNREACH", "ECONNREFUSED", "EACCES"):
        assert name in str(reason)


# ---- timeouts and giving up ---------------------------------------------------------------------------------------


def test_S3_timeout_while_resolving_tells_that_phase_and_how_long_it_took(world, reactor_in):
    world.names["slow.test"] = None
    factory = Client()
    reactor_in.connectTCP("slow.test", 9, factory, timeout=5)
    turn(reactor_in)
    world.advance(5)
    reason = failed(reactor_in, factory)
    assert type(reason) is TimeoutError
    assert isinstance(reason, UserError)
    assert isinstance(reason, builtins.TimeoutError)
    assert reason.phase == "resolving"
    assert set(reason.elapsed) == {"resolving"}
    assert reason.elapsed["resolving"] == pytest.approx(5, abs=0.5)
    assert "while resolving" in str(reason)
    assert f"resolving took {_duration(reason.elapsed['resolving'])}" in str(reason)
    # The look-up's thread ends some day; nobody is told then.
    world.unanswered[0]([rows(HERE, 9)])
    turn(reactor_in)
    assert factory.journal == [*STARTED, *FAILED]


def test_S3_timeout_while_connecting_tells_how_long_each_phase_took(world, reactor_in, peers):
    world.names["slow.test"] = None
    port = peers.black_hole()
    factory = Client()
    reactor_in.connectTCP("slow.test", port, factory, timeout=5)
    turn(reactor_in)
    world.advance(2)
    world.unanswered[0]([rows(HERE, port)])
    turn(reactor_in)
    world.advance(3)
    reason = failed(reactor_in, factory)
    assert type(reason) is TimeoutError
    assert reason.phase == "connecting"
    assert reason.elapsed["resolving"] == pytest.approx(2, abs=0.5)
    assert reason.elapsed["connecting"] == pytest.approx(3, abs=0.5)
    assert "while connecting" in str(reason)
    assert "resolving took 2." in str(reason)
    assert "connecting took 3." in str(reason)
    assert [(each.address, each.errno) for each in reason.attempts] == [(f"{HERE}:{port}", errno.ETIMEDOUT)]


@pytest.mark.parametrize("when", ["before the loop turned", "while resolving", "while connecting"])
def test_S3_stopConnecting_while_connecting_fails_with_UserError_synchronously_then_doStop(
    world, reactor_in, peers, when
):
    world.names["slow.test"] = None
    factory = Client()
    host = "slow.test" if when == "while resolving" else HERE
    connector = reactor_in.connectTCP(host, peers.black_hole(), factory)
    if when != "before the loop turned":
        turn(reactor_in)
    connector.stopConnecting()
    assert factory.journal == [*STARTED, *FAILED]
    assert type(factory.reason) is UserError
    assert connector.state == "disconnected"
    assert reactor_in.getDelayedCalls() == []
    turn(reactor_in)
    assert factory.journal == [*STARTED, *FAILED]


@pytest.mark.parametrize("when", ["before run", "while resolving", "while connecting"])
def test_S3_reactor_stop_while_connecting_or_resolving_is_told(world, reactor_in, peers, when):
    world.names["slow.test"] = None
    factory = Client()
    host = "slow.test" if when == "while resolving" else HERE
    reactor_in.connectTCP(host, peers.black_hole(), factory)
    if when == "before run":
        reactor_in.callWhenRunning(reactor_in.stop)
    else:
        reactor_in.callLater(0.005, reactor_in.stop)
    run(reactor_in)
    assert factory.journal == [*STARTED, *FAILED]
    assert type(factory.reason) is ConnectError, "not the UserError of stopConnecting"
    assert "the reactor was stopped" in str(factory.reason)
    assert reactor_in.getDelayedCalls() == []


def test_S3_reactor_stop_while_a_connection_stands_is_told(reactor, peers):
    factory = Client(connectionMade=lambda protocol: reactor.stop())
    reactor.connectTCP(HERE, port_of(peers.listen()), factory)
    run(reactor)
    assert factory.journal == [*STARTED, *BUILT, *LOST]
    assert factory.reason.ended.by is EndedBy.SHUTDOWN


# ---- what user code does ------------------------------------------------------------------------------------------


def test_S3_buildProtocol_returns_None_clientConnectionLost_with_ConnectionDone_never_failed(reactor, peers):
    listener = peers.listen()
    factory = Client(buildProtocol=lambda addr: None)
    reactor.connectTCP(HERE, port_of(listener), factory)
    peer = peers.accept(reactor, listener)
    turn_until(reactor, lambda: factory.reasons)
    assert factory.journal == [*STARTED, "buildProtocol", "clientConnectionLost", "doStop", "stopFactory"]
    assert type(factory.reason) is ConnectionDone
    assert factory.connectors[0].transport is None
    assert not is_reset(reactor, peer)


def test_S3_buildProtocol_raises_logged_and_failed_with_the_cause(reactor, peers, caplog):
    listener = peers.listen()
    factory = Client(buildProtocol=raises())
    reactor.connectTCP(HERE, port_of(listener), factory)
    peer = peers.accept(reactor, listener)
    turn_until(reactor, lambda: factory.reasons)
    assert factory.journal == [*STARTED, "buildProtocol", *FAILED]
    assert type(factory.reason) is ConnectError
    assert isinstance(factory.reason.__cause__, Planned)
    assert logged(caplog) == ["Planned"]
    assert read_all(reactor, peer) == b""


def test_S3_connectionMade_raises_client_logged_aborted_told_with_it(reactor, peers, caplog):
    listener = peers.listen()
    factory = Client(connectionMade=raises())
    reactor.connectTCP(HERE, port_of(listener), factory)
    peer = peers.accept(reactor, listener)
    turn_until(reactor, lambda: factory.reasons)
    assert factory.journal == [*STARTED, *BUILT, *LOST]
    assert isinstance(factory.reason, Planned)
    assert isinstance(factory.one.reason.value, Planned)
    assert logged(caplog) == ["Planned"]
    assert is_reset(reactor, peer)


def test_S3_connectionMade_raises_server_the_same(reactor, peers, caplog):
    server = Server(connectionMade=raises())
    port = reactor.listenTCP(0, server, interface=HERE)
    peer = peers.connect(port.getHost().port)
    turn_until(reactor, lambda: "connectionLost" in server.journal)
    assert server.journal == ["startFactory", *BUILT, "connectionLost"]
    assert isinstance(server.one.reason.value, Planned)
    assert logged(caplog) == ["Planned"]
    assert is_reset(reactor, peer)


def test_S3_dataReceived_raises_logged_both_are_told_with_it(reactor, peers, caplog):
    factory = Client(dataReceived=raises())
    _, peer = connected(reactor, peers, factory)
    peer.send(b"x")
    turn_until(reactor, lambda: factory.reasons)
    assert factory.journal == [*STARTED, *BUILT, "dataReceived", *LOST]
    assert isinstance(factory.reason, Planned)
    assert isinstance(factory.one.reason.value, Planned)
    assert logged(caplog) == ["Planned"]


def test_S3_dataReceived_raises_in_a_server_the_others_go_on(reactor, peers, caplog):
    server = Server(dataReceived=lambda protocol, data: raises()() if data == b"bad" else None)
    port = reactor.listenTCP(0, server, interface=HERE).getHost().port
    good, bad = peers.connect(port), peers.connect(port)
    bad.send(b"bad")
    turn_until(reactor, lambda: "connectionLost" in server.journal)
    good.send(b"good")
    turn_until(reactor, lambda: any(each.data == b"good" for each in server.built))
    assert server.journal.count("connectionLost") == 1
    assert logged(caplog) == ["Planned"]


def test_S3_connectionLost_raises_logged_everything_after_it_still_happens(reactor, peers, caplog):
    factory = Client(connectionLost=raises())
    connector, peer = connected(reactor, peers, factory)
    peer.close()
    turn_until(reactor, lambda: factory.reasons)
    assert factory.journal == [*STARTED, *BUILT, *LOST]
    assert type(factory.reason) is ConnectionDone
    assert connector.state == "disconnected"
    assert factory.numPorts == 0
    assert logged(caplog) == ["Planned"]


def test_S3_connectionLost_raises_and_it_reconnects_all_the_same(reactor, peers, caplog):
    listener = peers.listen()
    factory = Client(
        connectionLost=raises(), clientConnectionLost=lambda connector, reason: connector.connect()
    )
    reactor.connectTCP(HERE, port_of(listener), factory)
    peers.accept(reactor, listener).close()
    turn_until(reactor, lambda: factory.count("connectionMade") == 2)
    factory.stage.acts.clear()
    assert logged(caplog) == ["Planned"]


def test_S3_clientConnectionFailed_raises_logged_called_once_doStop_balanced(reactor, peers, caplog):
    factory = Client(clientConnectionFailed=raises())
    reactor.connectTCP(HERE, peers.refusing_port(), factory)
    failed(reactor, factory)
    assert logged(caplog) == ["Planned"]


def test_S3_clientConnectionFailed_raises_in_stopConnecting_the_caller_is_not_hit(reactor, peers, caplog):
    factory = Client(clientConnectionFailed=raises())
    connector = reactor.connectTCP(HERE, port_of(peers.listen()), factory)
    connector.stopConnecting()
    assert factory.journal == [*STARTED, *FAILED]
    assert logged(caplog) == ["Planned"]


def test_S3_clientConnectionLost_raises_logged_called_once_doStop_balanced(reactor, peers, caplog):
    factory = Client(clientConnectionLost=raises())
    _, peer = connected(reactor, peers, factory)
    peer.close()
    turn_until(reactor, lambda: "stopFactory" in factory.journal)
    assert factory.journal == [*STARTED, *BUILT, *LOST]
    assert factory.numPorts == 0
    assert logged(caplog) == ["Planned"]


def test_S3_stopFactory_raises_logged_the_connector_can_be_used_again(reactor, peers, caplog):
    factory = Client(stopFactory=raises())
    connector, peer = connected(reactor, peers, factory)
    peer.close()
    turn_until(reactor, lambda: "stopFactory" in factory.journal)
    assert (connector.state, factory.numPorts) == ("disconnected", 0)
    assert logged(caplog) == ["Planned"]
    factory.stage.acts.clear()
    connector.connect()
    turn_until(reactor, lambda: factory.count("connectionMade") == 2)


# ---- leaving run() ------------------------------------------------------------------------------------------------

LEAVE_FROM = [
    "startFactory",
    "startedConnecting",
    "buildProtocol",
    "connectionMade",
    "dataReceived",
    "readConnectionLost",
    "writeConnectionLost",
    "connectionLost",
    "clientConnectionLost",
    "stopFactory",
]


def conversation(reactor, server_port, **acts):
    """A client whose every callback happens: it greets, hears, half-closes, and is closed."""
    factory = Client(HalfCloser, **acts)
    reactor.callLater(0, reactor.connectTCP, HERE, server_port, factory)
    return factory


@pytest.fixture
def talker(reactor):
    """A server that answers, then ends its side, and closes once the client has ended its own."""
    server = Server(HalfCloser, connectionMade=lambda protocol: protocol.transport.write(b"hello"))
    server.stage.acts["readConnectionLost"] = lose
    return reactor.listenTCP(0, server, interface=HERE).getHost().port


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", LEAVE_FROM)
def test_S3_SystemExit_and_KeyboardInterrupt_leave_run_and_the_reactor_runs_again(
    reactor, talker, caplog, where, kind
):
    def talk(protocol, data):
        protocol.transport.loseWriteConnection()

    acts = {"dataReceived": talk, "readConnectionLost": lose}
    left = acts.get(where)
    acts[where] = do(left, raises(kind)) if left else raises(kind)
    factory = conversation(reactor, talker, **acts)
    with pytest.raises(kind, match="planned"):
        run(reactor)
    assert where in factory.journal
    assert not reactor.running
    # Again: the same reactor, another client, nothing raised; the first one ends too.
    factory.stage.acts.clear()
    other = conversation(reactor, talker, dataReceived=talk, readConnectionLost=lose)
    other.stage.acts["stopFactory"] = lambda factory: reactor.stop()
    run_to_the_end(reactor)
    assert other.journal[-1] == "stopFactory"
    assert factory.numPorts == 0
    assert factory.count("connectionLost") == factory.count("clientConnectionLost") <= 1
    assert logged(caplog) == []


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize(
    "where",
    [
        "callLater",
        "callFromThread",
        "callWhenRunning",
        "before shutdown",
        "during shutdown",
        "after shutdown",
        "Deferred callback",
        "clientConnectionFailed",
        "pauseProducing",
        "resumeProducing",
        "stopProducing",
        "doRead",
        "observer",
    ],
)
def test_S3_SystemExit_and_KeyboardInterrupt_leave_run_from_any_other_callback(
    reactor, peers, caplog, where, kind
):
    act = raises(kind)

    def produce(protocol):
        producer = Producer(**{where: act})
        protocol.transport.registerProducer(producer, True)
        protocol.transport.write(b"x" * 10_000_000)
        if where == "stopProducing":
            protocol.transport.abortConnection()

    if where == "callLater":
        reactor.callLater(0, act)
    elif where == "callFromThread":
        reactor.callFromThread(act)
    elif where == "callWhenRunning":
        reactor.callWhenRunning(act)
    elif "shutdown" in where:
        reactor.addSystemEventTrigger(where.split()[0], "shutdown", act)
        reactor.callWhenRunning(reactor.stop)
    elif where == "Deferred callback":
        reactor.callLater(0, lambda: succeed(None).addCallback(act))
    elif where == "clientConnectionFailed":
        reactor.connectTCP(HERE, peers.refusing_port(), Client(clientConnectionFailed=act))
    elif where == "doRead":
        reactor.addReader(Reader(peers, act))
    elif where == "observer":
        reactor.observers.append(act)
        reactor.connectTCP(HERE, peers.refusing_port(), Client())
    else:
        listener = peers.listen()
        factory = Client(connectionMade=produce)
        reactor.connectTCP(HERE, port_of(listener), factory)
        if where == "resumeProducing":
            reactor.callLater(0, read_later, reactor, peers, listener)
    with pytest.raises(kind, match="planned"):
        run(reactor)
    assert not reactor.running
    reactor.observers.clear()
    reactor.removeAll()
    for call in reactor.getDelayedCalls():
        call.cancel()
    ran = []
    reactor.callLater(0, lambda: (ran.append("again"), reactor.stop()))
    run_to_the_end(reactor)
    assert ran == ["again"]
    assert logged(caplog) == []


def read_later(reactor, peers, listener, peer=None):
    """Accept, then read again and again, from within the reactor's run."""
    if peer is None and readable(listener):
        peer = peers.keep(listener.accept()[0])
    if peer is not None and readable(peer):
        peer.recv(1 << 20)
    reactor.callLater(0, read_later, reactor, peers, listener, peer)


class Reader:
    """A descriptor of the user's that is readable."""

    def __init__(self, peers, act):
        ours, theirs = map(peers.keep, socket.socketpair())
        theirs.send(b"x")
        self.fileno = ours.fileno
        self.doRead = act

    def connectionLost(self, reason):
        """Not told in this test."""

    def logPrefix(self):
        return "Reader"


# ---- again --------------------------------------------------------------------------------------------------------


def test_S3_connect_inside_clientConnectionFailed_reconnects_without_doStop_between(reactor, peers):
    port = peers.refusing_port()

    def again(connector, reason):
        if factory.count("clientConnectionFailed") < 4:
            connector.connect()

    factory = Client(clientConnectionFailed=again)
    reactor.connectTCP(HERE, port, factory)
    turn_until(reactor, lambda: "stopFactory" in factory.journal)
    attempt = ["startedConnecting", "clientConnectionFailed"]
    assert factory.journal == ["doStart", "startFactory", *attempt * 4, "doStop", "stopFactory"]
    assert factory.numPorts == 0


def test_S3_connect_inside_clientConnectionLost_reconnects_without_doStop_between(reactor, peers):
    listener = peers.listen()

    def again(connector, reason):
        if factory.count("clientConnectionLost") < 3:
            connector.connect()

    factory = Client(clientConnectionLost=again)
    reactor.connectTCP(HERE, port_of(listener), factory)
    for _ in range(3):
        peers.accept(reactor, listener).close()
    turn_until(reactor, lambda: "stopFactory" in factory.journal)
    attempt = ["startedConnecting", *BUILT, "connectionLost", "clientConnectionLost"]
    assert factory.journal == ["doStart", "startFactory", *attempt * 3, "doStop", "stopFactory"]
    assert len({id(each) for each in factory.built}) == 3


@pytest.mark.parametrize("how", ["stopConnecting", "disconnect"])
def test_S3_connect_inside_clientConnectionFailed_after_stopConnecting_is_safe(world, reactor_in, peers, how):
    world.names["slow.test"] = None
    listener = peers.listen()

    def again(connector, reason):
        assert connector.state == "disconnected"
        world.names["slow.test"] = [HERE]
        connector.connect()

    factory = Client(clientConnectionFailed=again)
    connector = reactor_in.connectTCP("slow.test", port_of(listener), factory)
    turn(reactor_in)
    getattr(connector, how)()
    assert factory.journal == [*STARTED, "clientConnectionFailed", "startedConnecting"]
    assert connector.state == "connecting"
    turn_until(reactor_in, lambda: factory.built)
    world.unanswered[0]([rows(HERE, port_of(listener))])
    turn(reactor_in)
    assert factory.journal == [*STARTED, "clientConnectionFailed", "startedConnecting", *BUILT]
    assert connector.state == "connected"
    assert reactor_in.getDelayedCalls() == []


def test_S3_connect_that_fails_inside_a_callback_is_logged_and_leaves_all_at_rest(reactor, peers, caplog):
    def again(connector, reason):
        factory.stage.acts["startedConnecting"] = raises()
        connector.connect()

    factory = Client(clientConnectionFailed=again)
    connector = reactor.connectTCP(HERE, peers.refusing_port(), factory)
    turn_until(reactor, lambda: "stopFactory" in factory.journal)
    assert factory.journal == [
        *STARTED,
        "clientConnectionFailed",
        "startedConnecting",
        "doStop",
        "stopFactory",
    ]
    assert (connector.state, factory.numPorts) == ("disconnected", 0)
    assert logged(caplog) == ["Planned"]


def test_S3_connect_inside_stopFactory_starts_the_factory_anew(reactor, peers):
    def again(factory):
        if factory.count("stopFactory") == 1:
            factory.connectors[0].connect()

    factory = Client(stopFactory=again)
    reactor.connectTCP(HERE, peers.refusing_port(), factory)
    turn_until(reactor, lambda: factory.count("stopFactory") == 2)
    assert factory.journal == [*STARTED, *FAILED] * 2
    assert factory.numPorts == 0


def test_S3_a_client_that_reconnects_at_every_loss_does_not_keep_shutdown_from_ending(reactor, peers, caplog):
    """Nor is it left untold: in the end `connect` itself refuses."""
    caplog.set_level(logging.ERROR)
    factory = Client()
    for what in ("clientConnectionLost", "clientConnectionFailed"):
        factory.stage.acts[what] = lambda connector, reason: connector.connect()
    connector, _ = connected(reactor, peers, factory)
    reactor.callWhenRunning(reactor.stop)
    run(reactor)
    assert factory.count("clientConnectionLost") == 1
    (record,) = caplog.records
    assert "callbacks have connected again and again" in str(record.exc_info[1])
    assert connector.state == "disconnected"
    assert factory.numPorts == 0
    assert factory.journal[-1] == "stopFactory"
    assert factory.count("startedConnecting") == factory.count("clientConnectionFailed") + 1
    # The next run has a shutdown of its own.
    factory.stage.acts.clear()
    connector.connect()
    reactor.callWhenRunning(reactor.stop)
    run(reactor)
    assert factory.numPorts == 0
    assert len(caplog.records) == 1


@pytest.mark.parametrize("outcome", ["connects", "fails, then connects", "fails", "is stopped"])
def test_S3_a_user_who_cancels_every_delayed_call_breaks_no_attempt(world, reactor_in, peers, outcome):
    """Tests do so at their end; the engine's own timers are among them."""
    listener = peers.listen()
    port = port_of(listener)
    world.names["two.test"] = ["127.0.0.2", HERE] if "then" in outcome else [HERE, "127.0.0.3"]
    if outcome == "is stopped":
        port = peers.black_hole()
    elif outcome == "fails":
        port = peers.refusing_port()
    cancelled = []

    def cancel_all():
        cancelled.extend(reactor_in.getDelayedCalls())
        for call in cancelled:
            call.cancel()

    def after_the_first(sock, address):
        # It is made between this start of an attempt and the news of how it went.
        if not cancelled:
            reactor_in.callLater(0, cancel_all)

    world.faults["connect_ex"] = after_the_first
    factory = Client()
    connector = reactor_in.connectTCP("two.test", port, factory)
    turn_until(reactor_in, lambda: cancelled)
    assert len(cancelled) == 2
    if outcome == "is stopped":
        connector.stopConnecting()
    if "connects" in outcome:
        turn_until(reactor_in, lambda: factory.built)
    else:
        failed(reactor_in, factory)


def test_S3_every_exception_of_the_table_is_what_Twisted_s_users_catch():
    assert issubclass(TimeoutError, UserError)
    assert issubclass(UserError, ConnectError)
    assert issubclass(DNSLookupError, ConnectError)
    assert issubclass(ConnectBindError, ConnectError)
    assert issubclass(ServiceNameUnknownError, ConnectError)
    assert not issubclass(ConnectingCancelledError, ConnectError)
