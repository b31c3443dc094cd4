"""Connecting, as users may rely on it: the objects and their states, and the happy path in its order (CONTRACT 1, 2)."""

from __future__ import annotations

import errno
import socket
import threading

import pytest

from ropewalk.address import IPv4Address, IPv6Address
from ropewalk.error import ConnectionDone, NotConnectingError, ServiceNameUnknownError
from tests.contract.stage import (
    HERE,
    Client,
    Producer,
    Server,
    connected,
    do,
    lose,
    port_of,
    read,
    read_all,
    run,
    run_until,
    turn,
    turn_until,
)

LIFE = ["doStart", "startFactory", "startedConnecting", "(connectTCP returned)"]
LIFE += ["buildProtocol", "makeConnection", "connectionMade", "dataReceived"]
LIFE += ["connectionLost", "clientConnectionLost", "doStop", "stopFactory"]


# ---- 1. objects and states ----------------------------------------------------------------------------------------


def test_S1_a_connector_goes_from_disconnected_over_connecting_and_connected_back(reactor, peers):
    seen = []

    def look(what):
        return lambda *_: seen.append((what, factory.connectors[0].state))

    names = ("startedConnecting", "connectionMade", "dataReceived", "connectionLost", "clientConnectionLost")
    factory = Client(**{name: look(name) for name in names})
    connector, peer = connected(reactor, peers, factory)
    peer.send(b"x")
    turn_until(reactor, lambda: "dataReceived" in factory.journal)
    peer.close()
    turn_until(reactor, lambda: "stopFactory" in factory.journal)
    assert seen == [
        ("startedConnecting", "connecting"),
        ("connectionMade", "connected"),
        ("dataReceived", "connected"),
        ("connectionLost", "connected"),
        ("clientConnectionLost", "disconnected"),
    ]
    assert connector.state == "disconnected"


def test_S1_there_is_no_disconnecting_until_the_socket_is_gone_it_is_connected(reactor, peers):
    factory = Client(connectionMade=lambda protocol: protocol.transport.write(b"x" * 20_000_000))
    connector, peer = connected(reactor, peers, factory)
    factory.one.transport.loseConnection()
    turn(reactor)
    assert connector.state == "connected"
    assert factory.one.transport.disconnecting
    read_all(reactor, peer)
    turn_until(reactor, lambda: factory.reasons)
    assert connector.state == "disconnected"


@pytest.mark.parametrize("when", ["disconnected", "connected"])
def test_S1_stopConnecting_raises_NotConnectingError_unless_connecting(reactor, peers, when):
    connector, _ = connected(reactor, peers, Client())
    if when == "disconnected":
        connector.disconnect()
        turn_until(reactor, lambda: connector.state == "disconnected")
    with pytest.raises(NotConnectingError) as raised:
        connector.stopConnecting()
    assert isinstance(raised.value, RuntimeError)
    assert connector.state == when


def test_S1_disconnect_stops_connecting(reactor, peers):
    factory = Client()
    connector = reactor.connectTCP(HERE, port_of(peers.listen()), factory)
    connector.disconnect()
    assert factory.journal == [*LIFE[:3], "clientConnectionFailed", "doStop", "stopFactory"]


def test_S1_disconnect_loses_a_connection_that_stands(reactor, peers):
    factory = Client()
    connector, peer = connected(reactor, peers, factory)
    connector.disconnect()
    assert not factory.reasons
    turn_until(reactor, lambda: factory.reasons)
    assert isinstance(factory.reason, ConnectionDone)
    assert read_all(reactor, peer) == b""


def test_S1_disconnect_does_nothing_when_disconnected(reactor, peers):
    factory = Client()
    connector, _ = connected(reactor, peers, factory)
    connector.disconnect()
    turn_until(reactor, lambda: factory.reasons)
    before = list(factory.journal)
    connector.disconnect()
    turn(reactor)
    assert factory.journal == before


@pytest.mark.parametrize("when", ["connecting", "connected"])
def test_S1_connect_raises_RuntimeError_unless_disconnected(reactor, peers, when):
    if when == "connecting":
        connector = reactor.connectTCP(HERE, port_of(peers.listen()), Client())
    else:
        connector, _ = connected(reactor, peers, Client())
    with pytest.raises(RuntimeError, match="can't connect in this state"):
        connector.connect()
    assert connector.state == when
    assert connector.factory.journal.count("doStart") == 1


def test_S1_a_connector_can_be_used_again(reactor, peers):
    factory = Client()
    listener = peers.listen()
    connector = reactor.connectTCP(HERE, port_of(listener), factory)
    peers.accept(reactor, listener).close()
    turn_until(reactor, lambda: "stopFactory" in factory.journal)
    factory.journal.clear()
    connector.connect()
    peers.accept(reactor, listener).close()
    turn_until(reactor, lambda: "stopFactory" in factory.journal)
    assert factory.journal == [*LIFE[:3], *LIFE[4:7], *LIFE[8:]]
    assert len(factory.built) == 2


@pytest.mark.parametrize(
    ("host", "kind"), [(HERE, IPv4Address), ("localhost", IPv4Address), ("::1", IPv6Address)]
)
def test_S1_getDestination_is_the_address_as_the_user_wrote_it(reactor, host, kind):
    connector = reactor.connectTCP(host, 9, Client())
    assert connector.getDestination() == kind("TCP", host, 9)
    connector.stopConnecting()


def test_S1_a_connector_tells_what_it_was_made_with(reactor):
    factory = Client()
    connector = reactor.connectTCP("localhost", 9, factory, timeout=7, bindAddress=(HERE, 0))
    assert (connector.host, connector.port, connector.factory) == ("localhost", 9, factory)
    assert (connector.timeout, connector.bindAddress, connector.transport) == (7, (HERE, 0), None)
    connector.stopConnecting()


def test_S1_a_transport_exists_only_for_a_connected_socket(reactor, peers):
    seen = []

    def look(*_):
        seen.append(factory.connectors[0].transport)

    names = ("startedConnecting", "connectionMade", "connectionLost", "clientConnectionLost")
    factory = Client(**dict.fromkeys(names, look))
    _, peer = connected(reactor, peers, factory)
    peer.close()
    turn_until(reactor, lambda: factory.reasons)
    transport = factory.one.transport
    assert seen == [None, transport, transport, None]


def test_S1_startFactory_for_the_first_user_stopFactory_after_the_last_numPorts_between(reactor, peers):
    factory = Client()
    listener = peers.listen()
    first = reactor.connectTCP(HERE, port_of(listener), factory)
    second = reactor.connectTCP(HERE, port_of(listener), factory)
    port = reactor.listenTCP(0, factory, interface=HERE)
    assert factory.numPorts == 3
    assert (factory.count("doStart"), factory.count("startFactory")) == (3, 1)
    first.disconnect()
    second.disconnect()
    assert factory.numPorts == 1
    assert factory.count("stopFactory") == 0
    gone = port.stopListening()
    turn_until(reactor, lambda: gone.called)
    assert factory.numPorts == 0
    assert (factory.count("doStop"), factory.count("stopFactory")) == (3, 1)


def test_S1_a_factory_makes_many_protocols_one_for_each_connection(reactor, peers):
    factory = Client()
    listener = peers.listen()
    for _ in range(3):
        reactor.connectTCP(HERE, port_of(listener), factory)
    turn_until(reactor, lambda: factory.count("connectionMade") == 3)
    transports = [protocol.transport for protocol in factory.built]
    assert len(set(map(id, transports))) == len(set(map(id, factory.built))) == 3
    assert all(
        transport.protocol is protocol for transport, protocol in zip(transports, factory.built, strict=True)
    )


# ---- 2. the happy path, in order ----------------------------------------------------------------------------------


@pytest.fixture
def greeter(reactor):
    """Where a server of ours says hello and hangs up; on all of 127/8 and, beside it, on ::1."""
    server = Server(connectionMade=do(lambda protocol: protocol.transport.write(b"hello"), lose))
    four = reactor.listenTCP(0, server, interface=HERE)
    reactor.listenTCP(four.getHost().port, server, interface="::1")
    return four.getHost().port


@pytest.mark.parametrize("host", [HERE, "::1", "localhost"])
@pytest.mark.parametrize("called", ["before run", "while running"])
def test_S2_the_whole_order_of_callbacks(reactor, greeter, host, called):
    factory = Client(stopFactory=lambda factory: reactor.stop())

    def connect():
        reactor.connectTCP(host, greeter, factory)
        factory.journal.append("(connectTCP returned)")

    if called == "before run":
        connect()
    else:
        reactor.callLater(0, connect)
    run(reactor)
    assert factory.journal == LIFE
    assert factory.one.data == b"hello"


def test_S2_1_a_service_name_is_looked_up(world, reactor_in, peers):
    listener = peers.listen()
    world.faults["service_port"] = lambda name: {"rope": port_of(listener)}[name]
    factory = Client()
    connector = reactor_in.connectTCP(HERE, "rope", factory)
    assert connector.port == port_of(listener)
    peers.accept(reactor_in, listener)
    turn_until(reactor_in, lambda: factory.built)


def test_S2_1_an_unknown_service_name_is_raised_before_anything_else(world, reactor_in):
    world.faults["service_port"] = OSError("service/proto not found")
    factory = Client()
    with pytest.raises(ServiceNameUnknownError, match="no-such-service"):
        reactor_in.connectTCP(HERE, "no-such-service", factory)
    assert factory.journal == []


def test_S2_2_the_state_is_connecting_before_the_factory_starts(reactor, peers):
    factory = Client(startFactory=lambda factory: seen.append([each.state for each in factory.connectors]))
    seen: list[list[str]] = []
    listener = peers.listen()
    connector = reactor.connectTCP(HERE, port_of(listener), factory)
    connector.stopConnecting()
    connector.connect()
    assert seen == [[], ["connecting"]]
    connector.stopConnecting()


def test_S2_3_a_connector_that_connects_again_in_its_callback_starts_the_factory_only_once(reactor, peers):
    listener = peers.listen()
    factory = Client(clientConnectionLost=lambda connector, reason: connector.connect())
    reactor.connectTCP(HERE, port_of(listener), factory)
    for count in (1, 2, 3):
        peers.accept(reactor, listener).close()
        turn_until(reactor, lambda count=count: factory.count("clientConnectionLost") == count)
    assert factory.count("doStart") == 1
    assert factory.count("doStop") == 0
    assert factory.count("startedConnecting") == 4
    factory.stage.acts.clear()


def test_S2_4_one_timer_covers_resolving_and_connecting_30_seconds_by_default(world, reactor_in, peers):
    world.names["slow.test"] = None
    factory = Client()
    port = peers.black_hole()
    connector = reactor_in.connectTCP("slow.test", port, factory)
    assert connector.timeout == 30
    turn(reactor_in)
    world.advance(20)
    turn(reactor_in)
    assert not factory.reasons
    world.unanswered[0]([(2, 1, 6, "", (HERE, port))])
    turn(reactor_in)
    world.advance(9.9)
    turn(reactor_in)
    assert not factory.reasons
    world.advance(0.2)
    turn(reactor_in)
    assert isinstance(factory.reason, TimeoutError)


def test_S2_4_a_timeout_of_None_waits_for_ever(world, reactor_in, peers):
    factory = Client()
    connector = reactor_in.connectTCP(HERE, peers.black_hole(), factory, timeout=None)
    turn(reactor_in)
    assert reactor_in.getDelayedCalls() == []
    world.advance(1e6)
    turn(reactor_in)
    assert connector.state == "connecting"


def test_S2_5_startedConnecting_gets_the_connector_that_connectTCP_returns(reactor, peers):
    factory = Client()
    connector = reactor.connectTCP(HERE, port_of(peers.listen()), factory)
    assert factory.connectors == [connector]
    assert factory.journal == LIFE[:3]


@pytest.mark.parametrize("host", [HERE, "::1", "::1%lo"])
def test_S2_6_a_literal_address_goes_on_without_a_look_up(world, reactor_in, peers, host):
    listener = peers.listen(host.partition("%")[0])
    factory = Client()
    reactor_in.connectTCP(host, port_of(listener), factory)
    peers.accept(reactor_in, listener)
    turn_until(reactor_in, lambda: factory.built)
    assert world.looked_up == []


def test_S2_6_a_name_is_resolved_off_the_loop_s_thread(reactor, peers, monkeypatch):
    threads = []
    real = socket.getaddrinfo

    def getaddrinfo(*args):
        threads.append(threading.current_thread())
        return real(*args)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    listener = peers.listen()
    factory = Client()
    reactor.connectTCP("localhost", port_of(listener), factory)
    peers.accept(reactor, listener)
    assert threads
    assert threading.current_thread() not in threads


def test_S2_7_connecting_never_waits_and_SO_ERROR_decides(world, reactor_in, peers):
    asked = []
    world.faults["connect_ex"] = lambda sock, address: asked.append(("connect", sock.getblocking()))
    world.faults["SO_ERROR"] = lambda sock: asked.append("SO_ERROR") or errno.ENOTCONN
    factory = Client()
    reactor_in.connectTCP(HERE, port_of(peers.listen()), factory)
    assert asked == []
    turn_until(reactor_in, lambda: factory.reasons)
    assert asked == [("connect", False), "SO_ERROR"]
    assert factory.reason.errno == errno.ENOTCONN


@pytest.mark.parametrize(
    ("host", "resolved"),
    [(HERE, IPv4Address), ("localhost", IPv4Address), ("::1", IPv6Address), ("six.test", IPv6Address)],
)
def test_S2_8_buildProtocol_gets_the_resolved_address_state_connected_timer_cancelled(
    world, reactor_in, greeter_in, host, resolved
):
    world.names["six.test"] = ["::1"]
    seen = []

    def build(addr):
        seen.append((addr, factory.connectors[0].state, reactor_in.getDelayedCalls()))
        return factory.make()

    factory = Client(buildProtocol=build)
    reactor_in.connectTCP(host, greeter_in, factory)
    turn_until(reactor_in, lambda: factory.reasons)
    address = "::1" if resolved is IPv6Address else HERE
    assert seen == [(resolved("TCP", address, greeter_in), "connected", [])]


@pytest.fixture
def greeter_in(reactor_in):
    server = Server(connectionMade=lose)
    four = reactor_in.listenTCP(0, server, interface=HERE)
    reactor_in.listenTCP(four.getHost().port, server, interface="::1")
    return four.getHost().port


def test_S2_9_makeConnection_sets_the_transport_then_connectionMade(reactor, peers):
    seen = []
    factory = Client(connectionMade=lambda protocol: seen.append((protocol.transport, protocol.connected)))
    connector, _ = connected(reactor, peers, factory)
    assert seen == [(connector.transport, 1)]
    assert factory.journal[-3:] == ["buildProtocol", "makeConnection", "connectionMade"]


def test_S2_9_reading_has_started_so_connectionMade_can_pause_it(reactor, peers):
    factory = Client(connectionMade=lambda protocol: protocol.transport.pauseProducing())
    _, peer = connected(reactor, peers, factory)
    peer.send(b"early")
    turn(reactor)
    assert factory.one.data == b""
    factory.one.transport.resumeProducing()
    turn_until(reactor, lambda: factory.one.data == b"early")


def test_S2_10_what_comes_in_is_given_as_bytes_in_order_and_whole(reactor, peers):
    kinds = set()
    factory = Client(dataReceived=lambda protocol, data: kinds.add(type(data)))
    _, peer = connected(reactor, peers, factory)
    sent = bytes(range(256)) * 40
    for at in range(0, len(sent), 1000):
        peer.send(sent[at : at + 1000])
        turn(reactor, 2)
    turn_until(reactor, lambda: len(factory.one.data) == len(sent))
    assert factory.one.data == sent
    assert kinds == {bytes}


def test_S2_11_at_the_loss_producer_socket_protocol_state_factory_in_that_order(reactor, peers):
    seen = []

    def look(what):
        def note(*_):
            connector = factory.connectors[0]
            seen.append(
                (what, factory.one.transport.getHandle().fileno() >= 0, connector.state, factory.numPorts)
            )

        return note

    names = ("connectionLost", "clientConnectionLost", "stopFactory")
    factory = Client(**{name: look(name) for name in names})
    _, peer = connected(reactor, peers, factory)
    factory.one.transport.registerProducer(Producer(stopProducing=look("stopProducing")), True)
    peer.close()
    turn_until(reactor, lambda: factory.reasons)
    assert seen == [
        ("stopProducing", True, "connected", 1),
        ("connectionLost", False, "connected", 1),
        ("clientConnectionLost", False, "disconnected", 1),
        ("stopFactory", False, "disconnected", 0),
    ]


def test_S2_nothing_happens_inside_connectTCP_but_the_start_of_the_factory(reactor, greeter):
    factory = Client(stopFactory=lambda factory: reactor.stop())
    inside = []

    def connect():
        reactor.connectTCP(HERE, greeter, factory)
        inside.extend(factory.journal)

    reactor.callWhenRunning(connect)
    run(reactor)
    assert inside == LIFE[:3]


def test_S2_nothing_but_stopConnecting_calls_back_from_within_a_call_of_the_user(reactor, peers):
    """Every request of a transport, made in a callback: the journal stays as it was until it has returned."""
    inside = []

    def ask(protocol):
        transport = protocol.transport
        before = len(factory.journal)
        transport.write(b"x")
        transport.writeSequence([b"y", b"z"])
        transport.pauseProducing()
        transport.resumeProducing()
        transport.loseWriteConnection()
        transport.loseConnection()
        transport.abortConnection()
        factory.connectors[0].disconnect()
        inside.extend(factory.journal[before:])

    factory = Client(connectionMade=ask)
    connected(reactor, peers, factory)
    turn_until(reactor, lambda: factory.reasons)
    assert inside == []


def test_S2_a_connection_asked_for_before_run_talks_as_soon_as_it_runs(reactor, peers):
    listener = peers.listen()
    factory = Client(connectionMade=lambda protocol: protocol.transport.write(b"hi"))
    reactor.connectTCP(HERE, port_of(listener), factory)
    run_until(reactor, lambda: factory.built)
    assert read(reactor, peers.accept(reactor, listener), 2) == b"hi"
