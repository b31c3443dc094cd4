"""Listening and accepting, as users may rely on it (CONTRACT 5: accept, listen)."""

from __future__ import annotations

import errno
import logging
import socket

import pytest

from ropewalk import TCPOptions
from ropewalk.address import IPv4Address, IPv6Address
from ropewalk.error import CannotListenError, ConnectionDone, ServiceNameUnknownError
from ropewalk.event import Step
from tests.contract.stage import (
    HERE,
    Planned,
    Server,
    do,
    echo,
    error,
    logged,
    lose,
    port_of,
    raises,
    read,
    read_all,
    turn,
    turn_until,
)


def option(port, level, name):
    """An option of a port's own socket, asked of the kernel behind the engine's back."""
    with socket.socket(fileno=port.fileno()) as sock:
        try:
            return sock.getsockopt(level, name)
        finally:
            sock.detach()


# ---- listen -------------------------------------------------------------------------------------------------------


def test_S5_listen_order_startFactory_before_listenTCP_returns_and_stopFactory_after_stopListening(
    reactor, peers
):
    server = Server(connectionMade=lose)
    port = reactor.listenTCP(0, server, interface=HERE)
    assert server.journal == ["startFactory"]
    peer = peers.connect(port.getHost().port)
    assert read_all(reactor, peer) == b""
    turn_until(reactor, lambda: "connectionLost" in server.journal)
    server.stage.note("(stopListening)")
    gone = port.stopListening()
    assert server.journal[-1] == "(stopListening)"
    turn_until(reactor, lambda: gone.called)
    assert server.journal == [
        "startFactory",
        "buildProtocol",
        "makeConnection",
        "connectionMade",
        "connectionLost",
        "(stopListening)",
        "stopFactory",
    ]


def test_S5_listen_buildProtocol_gets_the_peer_s_address(reactor, peers):
    seen = []
    server = Server(buildProtocol=seen.append)
    port = reactor.listenTCP(0, server, interface=HERE)
    peer = peers.connect(port.getHost().port)
    turn_until(reactor, lambda: seen)
    assert seen == [IPv4Address("TCP", *peer.getsockname())]
    assert read_all(reactor, peer) == b"", "None closes the connection"


def test_S5_listen_SO_REUSEADDR_is_set_and_the_port_can_be_had_again_at_once(reactor, peers):
    server = Server(connectionMade=lose)
    port = reactor.listenTCP(0, server, interface=HERE)
    assert option(port, socket.SOL_SOCKET, socket.SO_REUSEADDR)
    number = port.getHost().port
    read_all(reactor, peers.connect(number))
    gone = port.stopListening()
    turn_until(reactor, lambda: gone.called)
    again = reactor.listenTCP(number, server, interface=HERE)
    assert again.getHost().port == number


def test_S5_listen_on_nothing_is_all_IPv4_addresses(reactor, peers):
    server = Server(dataReceived=echo)
    port = reactor.listenTCP(0, server)
    assert port.getHost() == IPv4Address("TCP", "0.0.0.0", port.getHost().port)
    for host in (HERE, "127.0.0.7"):
        peer = peers.connect(port.getHost().port, host)
        peer.send(b"?")
        assert read(reactor, peer, 1) == b"?"
    assert {each.transport.getHost().host for each in server.built} == {HERE, "127.0.0.7"}


def test_S5_listen_on_an_IPv6_literal(reactor, peers):
    server = Server(dataReceived=echo)
    port = reactor.listenTCP(0, server, interface="::1")
    number = port.getHost().port
    assert port.getHost() == IPv6Address("TCP", "::1", number)
    peer = peers.connect(number, "::1")
    peer.send(b"?")
    assert read(reactor, peer, 1) == b"?"
    assert server.one.transport.getPeer() == IPv6Address("TCP", *peer.getsockname())


def test_S5_listen_on_all_IPv6_addresses_leaves_IPv4_alone(reactor, peers):
    port = reactor.listenTCP(0, Server(), interface="::")
    with pytest.raises(ConnectionRefusedError):
        peers.connect(port.getHost().port, HERE)
    peers.connect(port.getHost().port, "::1")


@pytest.mark.parametrize("interface", ["", "::"])
def test_S5_listen_dual_stack_by_option_takes_both_families(reactor, peers, interface):
    server = Server()
    port = reactor.listenTCP(0, server, interface=interface, options=TCPOptions(dualStack=True))
    for host in (HERE, "::1"):
        peers.connect(port.getHost().port, host)
    turn_until(reactor, lambda: server.journal.count("connectionMade") == 2)
    hosts = {each.transport.getPeer().host for each in server.built}
    assert hosts == {"::ffff:127.0.0.1", "::1"}


def test_S5_listen_reusePort_by_option_lets_two_share_a_port(reactor):
    options = TCPOptions(reusePort=True)
    first = reactor.listenTCP(0, Server(), interface=HERE, options=options)
    reactor.listenTCP(first.getHost().port, Server(), interface=HERE, options=options)


def test_S5_listen_the_default_backlog_is_the_most_the_kernel_allows_and_it_is_settable(world, reactor_in):
    asked = []
    world.faults["listen"] = lambda sock, backlog: asked.append(backlog)
    reactor_in.listenTCP(0, Server(), interface=HERE)
    reactor_in.listenTCP(0, Server(), backlog=7, interface=HERE)
    with open("/proc/sys/net/core/somaxconn") as limit:
        assert asked == [int(limit.read()), 7]


def test_S5_listen_a_service_name_is_looked_up(world, reactor_in):
    world.faults["service_port"] = lambda name: {"rope": 0}[name]
    port = reactor_in.listenTCP("rope", Server(), interface=HERE)
    assert port.getHost().port > 0
    world.faults["service_port"] = OSError("service/proto not found")
    with pytest.raises(ServiceNameUnknownError):
        reactor_in.listenTCP("no-such-service", Server())


@pytest.mark.parametrize("port", [-1, 65536])
def test_S5_listen_port_out_of_range_is_a_ValueError(reactor, port):
    with pytest.raises(ValueError, match="0 to 65535"):
        reactor.listenTCP(port, Server())


def test_S5_listen_in_use_CannotListenError_with_errno_and_cause_and_nothing_is_left(reactor, peers):
    taken = port_of(peers.listen())
    server = Server()
    with pytest.raises(CannotListenError) as raised:
        reactor.listenTCP(taken, server, interface=HERE)
    assert raised.value.errno == raised.value.__cause__.errno == errno.EADDRINUSE
    assert (raised.value.interface, raised.value.port) == (HERE, taken)
    assert f"{HERE}:{taken}" in str(raised.value)
    assert server.journal == []
    assert server.numPorts == 0


def test_S5_listen_startFactory_raises_raised_and_nothing_is_left(reactor):
    server = Server(startFactory=raises())
    with pytest.raises(Planned):
        reactor.listenTCP(0, server, interface=HERE)
    assert server.numPorts == 0


def test_S5_stopListening_connections_stay_and_the_port_can_listen_again(reactor, peers):
    server = Server(dataReceived=echo)
    port = reactor.listenTCP(0, server, interface=HERE)
    number = port.getHost().port
    peer = peers.connect(number)
    turn_until(reactor, lambda: server.built)
    gone = port.stopListening()
    asked_again = port.stopListening()
    assert asked_again is not gone, "what one makes of it is nothing to the other"
    turn_until(reactor, lambda: gone.called and asked_again.called)
    with pytest.raises(ConnectionRefusedError):
        peers.connect(number)
    peer.send(b"?")
    assert read(reactor, peer, 1) == b"?"
    assert port.stopListening().called
    port.startListening()
    peers.connect(port.getHost().port)
    turn_until(reactor, lambda: len(server.built) == 2)


def test_S5_stopListening_inside_buildProtocol_is_safe(reactor, peers):
    server = Server()
    server.stage.acts["buildProtocol"] = lambda addr: port.stopListening() and None
    port = reactor.listenTCP(0, server, interface=HERE)
    for _ in range(3):
        peers.connect(port.getHost().port)
    turn_until(reactor, lambda: "stopFactory" in server.journal)
    turn(reactor)
    assert server.journal.count("buildProtocol") == 1
    assert not port.connected


def test_S5_a_port_is_told_of_the_shutdown_and_the_Deferred_of_stopListening_fires(reactor):
    server = Server()
    port = reactor.listenTCP(0, server, interface=HERE)
    fired = []
    reactor.callWhenRunning(reactor.stop)
    reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: port.stopListening().addCallback(fired.append)
    )
    reactor.run(installSignalHandlers=False)
    assert fired == [None]
    assert server.journal == ["startFactory", "stopFactory"]


def test_S5_ports_that_nobody_stopped_are_closed_at_shutdown(reactor, peers):
    server = Server()
    port = reactor.listenTCP(0, server, interface=HERE)
    number = port.getHost().port
    reactor.callWhenRunning(reactor.stop)
    reactor.run(installSignalHandlers=False)
    assert server.journal == ["startFactory", "stopFactory"]
    with pytest.raises(ConnectionRefusedError):
        peers.connect(number)


def test_S5_a_server_s_buildProtocol_that_raises_is_logged_and_the_others_are_served(reactor, peers, caplog):
    server = Server(buildProtocol=raises())
    port = reactor.listenTCP(0, server, interface=HERE)
    assert read_all(reactor, peers.connect(port.getHost().port)) == b""
    assert logged(caplog) == ["Planned"]
    server.stage.acts.clear()
    peers.connect(port.getHost().port)
    turn_until(reactor, lambda: server.built)


# ---- accept -------------------------------------------------------------------------------------------------------


def test_S5_accept_takes_many_connections_per_readiness(world, reactor_in, peers):
    server = Server()
    port = reactor_in.listenTCP(0, server, interface=HERE)
    for _ in range(30):
        peers.connect(port.getHost().port)
    world.news.clear()
    turn_until(reactor_in, lambda: len(server.built) == 30)
    times = [fd for fd, _ in world.news].count(port.fileno())
    assert times <= 8, "1, 2, 4, 8 …, not one by one"


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE"])
def test_S5_accept_without_descriptors_gives_up_the_reserve_to_turn_peers_away(
    world, reactor_in, peers, caplog, name
):
    server = Server()
    port = reactor_in.listenTCP(0, server, interface=HERE)
    peer = peers.connect(port.getHost().port)
    is_given_up = []
    reserve = world.open_reserve

    def open_reserve():
        is_given_up.append(True)
        return reserve()

    world.open_reserve = open_reserve
    out_of = iter([error(name)])
    world.faults["accept"] = lambda listener: next(out_of, None)
    assert read_all(reactor_in, peer) == b""
    assert is_given_up == [True]
    assert server.built == []
    assert len(logged(caplog)) == 1
    peers.connect(port.getHost().port)
    turn_until(reactor_in, lambda: server.built)


@pytest.mark.parametrize("name", ["ENOBUFS", "ENOMEM", "ENFILE", "EMFILE", "ENETDOWN", "EINVAL"])
def test_S5_accept_that_goes_on_failing_backs_off_and_resumes_by_itself(
    world, reactor_in, peers, caplog, name
):
    server = Server()
    rests = []
    reactor_in.observers.append(
        lambda event: rests.append(event.details["seconds"]) if event.step is Step.ACCEPT_PAUSED else None
    )
    port = reactor_in.listenTCP(0, server, interface=HERE)
    world.faults["accept"] = error(name)
    peers.connect(port.getHost().port)
    for expected in (1, 2, 3, 4):
        turn(reactor_in, 20)
        assert len(rests) == expected, "it does not spin"
        world.advance(rests[-1])
    assert rests == [0.005, 0.01, 0.02, 0.04]
    world.faults.clear()
    turn_until(reactor_in, lambda: server.built)
    assert len(logged(caplog)) == 1, "the log is told once, not each time"


def test_S5_accept_back_off_never_rests_longer_than_a_second(world, reactor_in, peers, caplog):
    caplog.set_level(logging.CRITICAL)
    rests = []
    reactor_in.observers.append(
        lambda event: rests.append(event.details["seconds"]) if event.step is Step.ACCEPT_PAUSED else None
    )
    port = reactor_in.listenTCP(0, Server(), interface=HERE)
    world.faults["accept"] = error("ENOMEM")
    peers.connect(port.getHost().port)
    for _ in range(14):
        turn(reactor_in, 3)
        world.advance(1)
    assert rests[-1] == max(rests) == 1.0


def test_S5_accept_a_connection_that_was_reset_in_the_queue_disturbs_nobody(world, reactor_in, peers):
    server = Server()
    port = reactor_in.listenTCP(0, server, interface=HERE)
    once = iter([error("ECONNABORTED")])
    world.faults["accept"] = lambda listener: next(once, None)
    peers.connect(port.getHost().port)
    world.advance(0.005)
    turn_until(reactor_in, lambda: server.built)


def test_S5_accepted_connections_end_with_reasons_of_their_own(reactor, peers):
    server = Server(connectionMade=do(lose))
    port = reactor.listenTCP(0, server, interface=HERE)
    for _ in range(2):
        peers.connect(port.getHost().port)
    turn_until(reactor, lambda: server.journal.count("connectionLost") == 2)
    one, other = (each.reason.value for each in server.built)
    assert type(one) is type(other) is ConnectionDone
    assert one is not other
