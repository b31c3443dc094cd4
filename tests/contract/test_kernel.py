"""What sockets do: one suite of claims, run on the real kernel's loopback and on the simulated one. Both must agree.

This is what makes the simulation worth believing. When they disagree the real one is right. What each claim says is Linux's
behaviour; on other kernels only the simulated half runs.

On purpose not the same, and so not claimed: how many bytes the buffers hold (Linux tunes them, the simulated ones are
fixed), and when a bound-but-unread amount of room is announced to the peer.
"""

from __future__ import annotations

import errno
import resource
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ropewalk._loop.poller import ERR, HUP, IN, OUT
from tests.contract.ground import ALL, HERE, LINGER_ZERO, Ground, errno_of, real, simulated

REAL_IS_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the claims are about Linux")


@pytest.fixture(params=[pytest.param(real, marks=REAL_IS_LINUX), simulated], ids=["real", "simulated"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    made: Ground = request.param()
    yield made
    made.close()


# ---- a socket that is nothing yet -----------------------------------------------------------------------------------


def test_a_new_socket_is_writable_and_hung_up(ground: Ground) -> None:
    assert ground.bits(ground.socket()) == OUT | HUP


def test_a_new_socket_at_mask_zero_is_hung_up(ground: Ground) -> None:
    assert ground.bits(ground.socket(), 0) == HUP


def test_a_new_socket_cannot_receive(ground: Ground) -> None:
    assert errno_of(ground.socket().recv, 1) == errno.ENOTCONN


def test_a_new_socket_cannot_send(ground: Ground) -> None:
    assert errno_of(ground.socket().send, b"x") == errno.EPIPE


def test_a_new_socket_cannot_be_shut(ground: Ground) -> None:
    assert errno_of(ground.socket().shutdown, socket.SHUT_WR) == errno.ENOTCONN


def test_a_new_socket_has_no_peer(ground: Ground) -> None:
    assert errno_of(ground.socket().getpeername) == errno.ENOTCONN


def test_a_new_socket_has_no_name(ground: Ground) -> None:
    assert ground.socket().getsockname() == ("0.0.0.0", 0)
    assert ground.socket(socket.AF_INET6).getsockname() == ("::", 0, 0, 0)


def test_a_new_socket_cannot_accept(ground: Ground) -> None:
    assert errno_of(ground.system.accept, ground.socket()) == errno.EINVAL


# ---- descriptors ----------------------------------------------------------------------------------------------------


def test_a_number_that_is_free_again_is_given_next(ground: Ground) -> None:
    first, second = ground.socket(), ground.socket()
    number = first.fileno()
    first.close()
    assert ground.socket().fileno() == number
    assert second.fileno() != number


def test_a_closed_socket_has_no_number_and_answers_EBADF(ground: Ground) -> None:
    sock = ground.socket()
    sock.close()
    sock.close()
    assert sock.fileno() == -1
    assert errno_of(sock.recv, 1) == errno.EBADF
    assert errno_of(sock.send, b"x") == errno.EBADF
    assert errno_of(sock.getsockname) == errno.EBADF
    assert errno_of(ground.system.accept, sock) == errno.EBADF


def test_accept_without_a_free_number_is_EMFILE_and_the_connection_goes_on_waiting(ground: Ground) -> None:
    listener = ground.listener()
    ground.connecting(listener)
    ground.until(listener, IN)
    probe = ground.socket()
    limit = probe.fileno()
    probe.close()
    with descriptor_limit(ground, limit):
        assert errno_of(ground.system.accept, listener) == errno.EMFILE
    ground.accept(listener)


def test_EMFILE_comes_before_EAGAIN(ground: Ground) -> None:
    listener = ground.listener()
    probe = ground.socket()
    limit = probe.fileno()
    probe.close()
    with descriptor_limit(ground, limit):
        assert errno_of(ground.system.accept, listener) == errno.EMFILE
        assert errno_of(ground.system.socket, socket.AF_INET) == errno.EMFILE


def test_a_poller_forgets_what_is_closed(ground: Ground) -> None:
    poller = ground.system.poller(None)
    sock = ground.socket()
    poller.register(sock.fileno(), ALL)
    sock.close()
    assert poller.poll(0, 16) == []
    other = ground.socket()
    assert errno_of(poller.modify, other.fileno(), ALL) == errno.ENOENT
    poller.close()


def test_a_poller_refuses_a_number_that_is_not_open(ground: Ground) -> None:
    poller = ground.system.poller(None)
    sock = ground.socket()
    number = sock.fileno()
    sock.close()
    assert errno_of(poller.register, number, ALL) == errno.EBADF
    poller.unregister(number)
    poller.close()


def test_a_ready_descriptor_is_reported_again_and_again(ground: Ground) -> None:
    ours, theirs = ground.pair()
    theirs.send(b"x")
    for _ in range(3):
        assert ground.until(ours, IN) == IN | OUT


# ---- names and ports ------------------------------------------------------------------------------------------------


def test_port_zero_is_a_free_port(ground: Ground) -> None:
    host, port = ground.bound().getsockname()
    assert host == HERE
    assert port > 1023


def test_a_socket_is_bound_once(ground: Ground) -> None:
    assert errno_of(ground.bound().bind, (HERE, 0)) == errno.EINVAL


def test_a_port_is_bound_once(ground: Ground) -> None:
    port = ground.bound().getsockname()[1]
    assert errno_of(ground.socket().bind, (HERE, port)) == errno.EADDRINUSE


def test_a_port_is_free_when_its_socket_is_closed(ground: Ground) -> None:
    port = ground.free_port()
    assert ground.bound(port=port).getsockname() == (HERE, port)


def test_an_address_of_another_machine_cannot_be_bound(ground: Ground) -> None:
    assert errno_of(ground.socket().bind, ("198.51.100.1", 0)) == errno.EADDRNOTAVAIL


def test_a_port_may_be_bound_once_for_each_address(ground: Ground) -> None:
    port = ground.bound().getsockname()[1]
    assert ground.bound("127.0.0.2", port).getsockname() == ("127.0.0.2", port)


def test_the_wildcard_excludes_each_address(ground: Ground) -> None:
    port = ground.bound("0.0.0.0").getsockname()[1]
    assert errno_of(ground.socket().bind, (HERE, port)) == errno.EADDRINUSE


def test_SO_REUSEADDR_on_both_lets_two_bind_and_one_listen(ground: Ground) -> None:
    first = ground.bound(reuse=True)
    port = first.getsockname()[1]
    second = ground.bound(port=port, reuse=True)
    first.listen(1)
    assert errno_of(second.listen, 1) == errno.EADDRINUSE


def test_SO_REUSEADDR_on_one_is_not_enough(ground: Ground) -> None:
    port = ground.bound().getsockname()[1]
    second = ground.socket()
    second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    assert errno_of(second.bind, (HERE, port)) == errno.EADDRINUSE


def test_SO_REUSEADDR_does_not_beat_a_listener(ground: Ground) -> None:
    port = ground.listener(reuse=True).getsockname()[1]
    second = ground.socket()
    second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    assert errno_of(second.bind, (HERE, port)) == errno.EADDRINUSE


def test_SO_REUSEPORT_on_both_lets_two_listen(ground: Ground) -> None:
    port = 0
    for _ in range(2):
        sock = ground.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((HERE, port))
        sock.listen(1)
        port = sock.getsockname()[1]


def test_IPv6_only_leaves_the_port_to_IPv4(ground: Ground) -> None:
    sock = ground.socket(socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("::", 0))
    port = sock.getsockname()[1]
    assert ground.bound("0.0.0.0", port).getsockname()[1] == port


def test_dual_stack_takes_the_port_from_IPv4(ground: Ground) -> None:
    sock = ground.socket(socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    assert errno_of(ground.socket().bind, ("0.0.0.0", sock.getsockname()[1])) == errno.EADDRINUSE


def test_dual_stack_shows_an_IPv4_peer_as_mapped(ground: Ground) -> None:
    listener = ground.socket(socket.AF_INET6)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", 0))
    listener.listen(1)
    client = ground.socket()
    client.connect_ex((HERE, listener.getsockname()[1]))
    server = ground.accept(listener)
    assert server.getpeername() == ("::ffff:127.0.0.1", client.getsockname()[1], 0, 0)
    assert server.getsockname() == ("::ffff:127.0.0.1", listener.getsockname()[1], 0, 0)


def test_an_IPv6_connection_has_names_of_four_parts(ground: Ground) -> None:
    client, server = ground.pair(ground.listener(address="::1"))
    assert server.getpeername() == client.getsockname() == ("::1", client.getsockname()[1], 0, 0)


def test_IP_BIND_ADDRESS_NO_PORT_leaves_the_port_to_connect(ground: Ground) -> None:
    listener = ground.listener()
    sock = ground.socket()
    sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
    sock.bind(("127.0.0.2", 0))
    assert sock.getsockname() == ("127.0.0.2", 0)
    sock.connect_ex(listener.getsockname())
    host, port = sock.getsockname()
    assert host == "127.0.0.2"
    assert port > 1023


def test_a_port_beyond_65535_is_an_OverflowError(ground: Ground) -> None:
    with pytest.raises(OverflowError):
        ground.socket().bind((HERE, 65536))
    with pytest.raises(OverflowError):
        ground.socket().connect_ex((HERE, -1))


def test_an_IPv6_address_does_not_fit_an_IPv4_socket(ground: Ground) -> None:
    with pytest.raises(socket.gaierror):
        ground.socket().connect_ex(("::1", 1))


@pytest.mark.parametrize("call", ["bind", "connect_ex"])
def test_an_IPv4_address_does_not_fit_an_IPv6_socket(ground: Ground, call: str) -> None:
    with pytest.raises(socket.gaierror) as raised:
        getattr(ground.socket(socket.AF_INET6), call)((HERE, 1))
    assert raised.value.errno == socket.EAI_ADDRFAMILY


# ---- listening ------------------------------------------------------------------------------------------------------


def test_listening_without_bind_gets_a_port(ground: Ground) -> None:
    sock = ground.socket()
    sock.listen(1)
    host, port = sock.getsockname()
    assert host == "0.0.0.0"
    assert port > 1023


def test_a_listener_is_not_ready_while_nobody_waits(ground: Ground) -> None:
    listener = ground.listener()
    assert ground.bits(listener) == 0
    assert errno_of(ground.system.accept, listener) == errno.EAGAIN


def test_a_listener_is_readable_when_somebody_waits(ground: Ground) -> None:
    listener = ground.listener()
    ground.connecting(listener)
    assert ground.until(listener, IN) == IN


def test_a_listener_at_mask_zero_is_silent(ground: Ground) -> None:
    listener = ground.listener()
    ground.connecting(listener)
    ground.until(listener, IN)
    assert ground.bits(listener, 0) == 0


def test_who_came_first_is_accepted_first(ground: Ground) -> None:
    listener = ground.listener()
    ports = []
    for _ in range(3):
        client = ground.connecting(listener)
        ground.until(client, OUT)
        ports.append(client.getsockname()[1])
        ground.let_pass()
    assert [ground.accept(listener).getpeername()[1] for _ in range(3)] == ports


def test_accept_tells_the_peer(ground: Ground) -> None:
    listener = ground.listener()
    client = ground.connecting(listener)
    ground.until(listener, IN)
    server, address = ground.system.accept(listener)
    assert address == client.getsockname() == server.getpeername()
    assert server.getsockname() == listener.getsockname() == client.getpeername()
    server.close()


def test_A7_a_backlog_of_n_holds_one_more(ground: Ground) -> None:
    listener = ground.listener(2)
    clients = [ground.connecting(listener) for _ in range(3)]
    for client in clients:
        ground.until(client, OUT)
    ground.let_pass()
    one_more = ground.connecting(listener)
    assert ground.bits(one_more) == 0
    for _ in range(3):
        ground.accept(listener)
    assert errno_of(ground.system.accept, listener) == errno.EAGAIN


def test_who_was_turned_away_by_a_full_queue_gets_in_later(ground: Ground) -> None:
    listener = ground.listener(0)
    ground.until(ground.connecting(listener), OUT)
    ground.until(listener, IN)
    second = ground.connecting(listener)
    ground.accept(listener)
    assert ground.until(second, OUT) == OUT
    ground.accept(listener)


def test_a_closed_listener_resets_who_waits(ground: Ground) -> None:
    listener = ground.listener()
    client = ground.connecting(listener)
    ground.until(listener, IN)
    listener.close()
    ground.until(client, HUP, 0)
    assert ground.error(client) == errno.ECONNRESET


def test_who_is_reset_while_waiting_is_accepted_all_the_same(ground: Ground) -> None:
    listener = ground.listener()
    client = ground.connecting(listener)
    ground.until(listener, IN)
    ground.abort(client)
    ground.let_pass()
    server = ground.accept(listener)
    assert ground.bits(server, 0) == ERR | HUP
    assert ground.error(server) == errno.ECONNRESET
    assert errno_of(server.getpeername) == errno.ENOTCONN


def test_accepted_sockets_have_the_options_of_their_listener(ground: Ground) -> None:
    listener = ground.bound()
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 30000)
    listener.listen(1)
    _, server = ground.pair(listener)
    assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
    assert server.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 60000


def test_F12_shutdown_ends_the_listening(ground: Ground) -> None:
    listener = ground.listener()
    name = listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    assert errno_of(ground.system.accept, listener) == errno.EINVAL
    client = ground.socket()
    client.connect_ex(name)
    ground.until(client, ERR, 0)
    assert ground.error(client) == errno.ECONNREFUSED


def test_a_listener_cannot_connect(ground: Ground) -> None:
    assert ground.listener().connect_ex((HERE, 1)) == errno.EISCONN


def test_a_connected_socket_cannot_listen(ground: Ground) -> None:
    client, _ = ground.pair()
    assert errno_of(client.listen, 1) == errno.EINVAL


# ---- connecting -----------------------------------------------------------------------------------------------------


def test_connect_is_in_progress_and_then_writable(ground: Ground) -> None:
    listener = ground.listener()
    client = ground.connecting(listener)
    assert ground.until(client, OUT) == OUT
    assert ground.error(client) == 0
    assert client.getpeername() == listener.getsockname()


def test_connecting_again_tells_success_once_and_then_EISCONN(ground: Ground) -> None:
    listener = ground.listener()
    client = ground.connecting(listener)
    ground.until(client, OUT)
    assert client.connect_ex(listener.getsockname()) == 0
    assert client.connect_ex(listener.getsockname()) == errno.EISCONN


def test_the_wildcard_address_leads_to_loopback(ground: Ground) -> None:
    listener = ground.listener()
    client = ground.socket()
    client.connect_ex(("0.0.0.0", listener.getsockname()[1]))
    ground.until(client, OUT)
    assert client.getpeername() == listener.getsockname()


def test_a_refused_connect_is_ready_for_everything(ground: Ground) -> None:
    assert ground.bits(ground.refused()) == IN | OUT | ERR | HUP


def test_a_refused_connect_shows_at_mask_zero(ground: Ground) -> None:
    assert ground.bits(ground.refused(), 0) == ERR | HUP


def test_SO_ERROR_tells_the_refusal_once(ground: Ground) -> None:
    sock = ground.refused()
    assert ground.error(sock) == errno.ECONNREFUSED
    assert ground.error(sock) == 0
    assert ground.bits(sock) == IN | OUT | HUP


def test_recv_tells_the_refusal_once_and_then_the_end(ground: Ground) -> None:
    sock = ground.refused()
    assert errno_of(sock.recv, 1) == errno.ECONNREFUSED
    assert sock.recv(1) == b""


def test_send_tells_the_refusal_once_and_then_EPIPE(ground: Ground) -> None:
    sock = ground.refused()
    assert errno_of(sock.send, b"x") == errno.ECONNREFUSED
    assert errno_of(sock.send, b"x") == errno.EPIPE


def test_a_refused_socket_can_connect_after_it_was_told(ground: Ground) -> None:
    sock = ground.refused()
    listener = ground.listener()
    assert sock.connect_ex(listener.getsockname()) == errno.ECONNREFUSED
    assert sock.connect_ex(listener.getsockname()) == errno.EINPROGRESS
    assert ground.until(sock, OUT) == OUT


def test_a_refusal_that_was_read_elsewhere_is_told_to_connect_as_ECONNABORTED(ground: Ground) -> None:
    sock = ground.refused()
    assert ground.error(sock) == errno.ECONNREFUSED
    assert sock.connect_ex((HERE, 1)) == errno.ECONNABORTED


def test_a_loopback_socket_cannot_connect_to_the_world(ground: Ground) -> None:
    assert ground.bound().connect_ex(("198.51.100.1", 1)) == errno.EINVAL


def test_C9_a_socket_can_be_connected_to_itself(ground: Ground) -> None:
    sock = ground.bound()
    name = sock.getsockname()
    assert sock.connect_ex(name) == errno.EINPROGRESS
    assert ground.until(sock, OUT) == OUT
    assert sock.getpeername() == sock.getsockname() == name
    sock.send(b"to myself")
    ground.until(sock, IN)
    assert sock.recv(100) == b"to myself"


def test_a_socket_connected_to_itself_meets_its_own_FIN(ground: Ground) -> None:
    sock = ground.bound()
    sock.connect_ex(sock.getsockname())
    ground.until(sock, OUT)
    sock.shutdown(socket.SHUT_WR)
    ground.until(sock, HUP, 0)
    assert sock.recv(1) == b""


def test_one_connection_of_a_kind_only(ground: Ground) -> None:
    listener = ground.listener()
    first = ground.bound(reuse=True)
    second = ground.bound(port=first.getsockname()[1], reuse=True)
    assert first.connect_ex(listener.getsockname()) == errno.EINPROGRESS
    assert second.connect_ex(listener.getsockname()) == errno.EADDRNOTAVAIL


# ---- while nobody answers -------------------------------------------------------------------------------------------


def test_a_socket_nobody_answers_is_not_ready(ground: Ground) -> None:
    sock = ground.stuck()
    assert ground.bits(sock) == 0
    assert ground.bits(sock, 0) == 0
    assert ground.error(sock) == 0


def test_a_socket_nobody_answers_has_a_name_and_no_peer(ground: Ground) -> None:
    sock = ground.stuck()
    assert sock.getsockname()[1] > 1023
    assert errno_of(sock.getpeername) == errno.ENOTCONN


def test_a_socket_nobody_answers_can_neither_send_nor_receive_yet(ground: Ground) -> None:
    sock = ground.stuck()
    assert errno_of(sock.send, b"x") == errno.EAGAIN
    assert errno_of(sock.recv, 1) == errno.EAGAIN


def test_connecting_again_meanwhile_is_EALREADY(ground: Ground) -> None:
    assert ground.stuck().connect_ex((HERE, 1)) == errno.EALREADY


def test_shutdown_gives_a_connect_up(ground: Ground) -> None:
    sock = ground.stuck()
    sock.shutdown(socket.SHUT_RDWR)
    assert ground.bits(sock) == OUT | ERR | HUP
    assert errno_of(sock.recv, 1) == errno.ECONNRESET
    assert errno_of(sock.recv, 1) == errno.ENOTCONN
    assert errno_of(sock.send, b"x") == errno.EPIPE


# ---- bytes ----------------------------------------------------------------------------------------------------------


def test_an_idle_connection_is_writable_only(ground: Ground) -> None:
    for end in ground.pair():
        assert ground.bits(end) == OUT
        assert ground.bits(end, 0) == 0
        assert errno_of(end.recv, 1) == errno.EAGAIN


def test_what_is_sent_is_readable(ground: Ground) -> None:
    ours, theirs = ground.pair()
    assert ours.send(b"hello") == 5
    assert ground.until(theirs, IN) == IN | OUT
    assert theirs.recv(100) == b"hello"
    assert ground.bits(theirs) == OUT


def test_data_at_mask_zero_is_silent(ground: Ground) -> None:
    ours, theirs = ground.pair()
    ours.send(b"hello")
    ground.until(theirs, IN)
    assert ground.bits(theirs, 0) == 0


def test_recv_takes_what_is_asked_for_and_leaves_the_rest(ground: Ground) -> None:
    ours, theirs = ground.pair()
    ours.send(b"hello")
    ground.until(theirs, IN)
    assert theirs.recv(2) == b"he"
    assert theirs.recv(2) == b"ll"
    assert theirs.recv(2) == b"o"


def test_recv_joins_what_came_apart(ground: Ground) -> None:
    ours, theirs = ground.pair()
    for part in (b"a", b"bc", b"def"):
        ours.send(part)
    ground.let_pass()
    assert theirs.recv(5) == b"abcde"
    assert theirs.recv(5) == b"f"


def test_sendmsg_joins_its_parts(ground: Ground) -> None:
    ours, theirs = ground.pair()
    assert ours.sendmsg([b"a", bytearray(b"bc"), memoryview(b"def"), b""]) == 6
    ground.until(theirs, IN)
    assert theirs.recv(100) == b"abcdef"


def test_C3_sendmsg_takes_1024_parts_and_no_more(ground: Ground) -> None:
    ours, theirs = ground.pair()
    assert ours.sendmsg([b"x"] * 1024) == 1024
    assert errno_of(ours.sendmsg, [b"x"] * 1025) == errno.EMSGSIZE
    assert ground.system.iov_max == 1024
    assert len(ground.read_all(theirs, 1024)) == 1024


def test_sending_nothing_is_nothing(ground: Ground) -> None:
    ours, theirs = ground.pair()
    assert ours.send(b"") == 0
    assert ours.sendmsg([]) == 0
    assert ground.bits(theirs) == OUT


def test_a_full_connection_is_not_writable_and_loses_nothing(ground: Ground) -> None:
    ours, theirs = ground.pair()
    total = ground.fill(ours)
    assert errno_of(ours.send, b"x") == errno.EAGAIN
    assert ground.bits(ours) == 0
    assert len(ground.read_all(theirs, total)) == total
    assert ground.until(ours, OUT) == OUT


def test_C2_what_does_not_fit_is_not_taken(ground: Ground) -> None:
    ours, theirs = ground.pair()
    much = bytes(range(256)) * (1 << 18)
    taken = ours.send(much)
    assert 0 < taken < len(much)
    assert ground.read_all(theirs, taken) == much[:taken]


def test_a_full_connection_still_reads(ground: Ground) -> None:
    ours, theirs = ground.pair()
    ground.fill(ours)
    theirs.send(b"hello")
    assert ground.until(ours, IN) == IN
    assert ours.recv(100) == b"hello"


# ---- one side is closed ---------------------------------------------------------------------------------------------


def test_FIN_is_an_end_that_stays(ground: Ground) -> None:
    ours, theirs = ground.pair()
    theirs.shutdown(socket.SHUT_WR)
    assert ground.until(ours, IN) == IN | OUT
    assert ours.recv(1) == b""
    assert ours.recv(1) == b""
    assert ground.bits(ours) == IN | OUT
    assert ground.error(ours) == 0


def test_FIN_at_mask_zero_is_silent(ground: Ground) -> None:
    ours, theirs = ground.pair()
    theirs.shutdown(socket.SHUT_WR)
    ground.until(ours, IN)
    assert ground.bits(ours, 0) == 0


def test_data_before_FIN_is_read_before_it(ground: Ground) -> None:
    ours, theirs = ground.pair()
    theirs.send(b"last words")
    theirs.shutdown(socket.SHUT_WR)
    ground.let_pass()
    assert ours.recv(100) == b"last words"
    assert ours.recv(100) == b""


def test_after_the_peers_FIN_we_can_still_send(ground: Ground) -> None:
    ours, theirs = ground.pair()
    theirs.shutdown(socket.SHUT_WR)
    ground.until(ours, IN)
    assert ours.send(b"answer") == 6
    ground.until(theirs, IN)
    assert theirs.recv(100) == b"answer"


def test_after_our_own_FIN_we_read_on_and_cannot_send(ground: Ground) -> None:
    ours, theirs = ground.pair()
    ours.shutdown(socket.SHUT_WR)
    assert ground.bits(ours) == OUT
    assert errno_of(ours.send, b"x") == errno.EPIPE
    theirs.send(b"answer")
    ground.until(ours, IN)
    assert ours.recv(100) == b"answer"
    assert ours.getpeername() == theirs.getsockname()


def test_shutting_twice_is_once(ground: Ground) -> None:
    ours, theirs = ground.pair()
    ours.shutdown(socket.SHUT_WR)
    ours.shutdown(socket.SHUT_WR)
    ground.until(theirs, IN)
    assert theirs.recv(1) == b""


def test_FIN_waits_for_what_was_sent_before(ground: Ground) -> None:
    ours, theirs = ground.pair()
    total = ground.fill(ours)
    ours.shutdown(socket.SHUT_WR)
    assert ground.bits(ours) == OUT
    assert len(ground.read_all(theirs, total + 1)) == total


def test_both_sides_shut_is_a_hang_up(ground: Ground) -> None:
    ours, theirs = ground.pair()
    theirs.shutdown(socket.SHUT_WR)
    ground.until(ours, IN)
    ours.shutdown(socket.SHUT_WR)
    assert ground.bits(ours) == IN | OUT | HUP
    assert ground.bits(ours, 0) == HUP
    assert ground.bits(theirs, 0) == HUP
    assert ground.error(ours) == ground.error(theirs) == 0


def test_a_connection_that_both_have_shut_has_no_peer_any_more(ground: Ground) -> None:
    ours, theirs = ground.pair()
    ours.shutdown(socket.SHUT_WR)
    theirs.shutdown(socket.SHUT_WR)
    ground.let_pass()
    for end in (ours, theirs):
        assert errno_of(end.getpeername) == errno.ENOTCONN
        assert errno_of(end.shutdown, socket.SHUT_WR) == errno.ENOTCONN
        assert errno_of(end.send, b"x") == errno.EPIPE
        assert end.recv(1) == b""
        assert end.getsockname()[0] == HERE


def test_data_can_be_read_after_both_have_shut(ground: Ground) -> None:
    ours, theirs = ground.pair()
    theirs.send(b"last words")
    theirs.shutdown(socket.SHUT_WR)
    ours.shutdown(socket.SHUT_WR)
    ground.until(ours, HUP, 0)
    assert ours.recv(100) == b"last words"
    assert ours.recv(100) == b""


def test_shutting_our_reading_is_an_end_for_us_only(ground: Ground) -> None:
    ours, theirs = ground.pair()
    ours.shutdown(socket.SHUT_RD)
    assert ground.bits(ours) == IN | OUT
    assert ours.recv(1) == b""
    assert ground.bits(theirs) == OUT


def test_what_had_come_before_we_shut_our_reading_is_still_there(ground: Ground) -> None:
    ours, theirs = ground.pair()
    theirs.send(b"early")
    ground.until(ours, IN)
    ours.shutdown(socket.SHUT_RD)
    assert ours.recv(100) == b"early"
    assert ours.recv(100) == b""


def test_shutting_both_at_once_hangs_us_up_and_ends_the_peer(ground: Ground) -> None:
    ours, theirs = ground.pair()
    ours.shutdown(socket.SHUT_RDWR)
    assert ground.bits(ours, 0) == HUP
    ground.until(theirs, IN)
    assert theirs.recv(1) == b""


def test_who_sends_to_an_end_that_shut_both_is_reset(ground: Ground) -> None:
    ours, theirs = ground.pair()
    ours.shutdown(socket.SHUT_RDWR)
    ground.until(theirs, IN)
    assert theirs.send(b"too late") == 8
    ground.until(theirs, HUP, 0)
    assert ground.error(theirs) == errno.EPIPE
    assert ground.error(ours) == errno.ECONNRESET


def test_shutdown_in_an_unknown_way_is_EINVAL(ground: Ground) -> None:
    assert errno_of(ground.pair()[0].shutdown, 7) == errno.EINVAL


# ---- resets ---------------------------------------------------------------------------------------------------------


def test_a_reset_is_ready_for_everything(ground: Ground) -> None:
    assert ground.bits(ground.reset_by_peer()) == IN | OUT | ERR | HUP


def test_B3_a_reset_shows_at_mask_zero(ground: Ground) -> None:
    sock = ground.reset_by_peer()
    assert ground.bits(sock, 0) == ERR | HUP
    assert ground.error(sock) == errno.ECONNRESET
    assert ground.bits(sock, 0) == HUP


def test_recv_tells_the_reset_once_and_then_the_end(ground: Ground) -> None:
    sock = ground.reset_by_peer()
    assert errno_of(sock.recv, 1) == errno.ECONNRESET
    assert sock.recv(1) == b""


def test_C5_send_tells_the_reset_once_and_then_EPIPE(ground: Ground) -> None:
    sock = ground.reset_by_peer()
    assert errno_of(sock.send, b"x") == errno.ECONNRESET
    assert errno_of(sock.send, b"x") == errno.EPIPE


def test_data_before_a_reset_can_be_read_after_it(ground: Ground) -> None:
    sock = ground.reset_by_peer(b"hello")
    assert ground.bits(sock) == IN | OUT | ERR | HUP
    assert sock.recv(100) == b"hello"
    assert errno_of(sock.recv, 100) == errno.ECONNRESET


def test_B2_after_FIN_and_reset_recv_says_end_and_only_SO_ERROR_says_EPIPE(ground: Ground) -> None:
    sock = ground.reset_by_peer(fin=True)
    assert ground.bits(sock, 0) == ERR | HUP
    assert sock.recv(1) == b""
    assert ground.error(sock) == errno.EPIPE


def test_after_FIN_and_reset_send_says_EPIPE(ground: Ground) -> None:
    sock = ground.reset_by_peer(fin=True)
    assert errno_of(sock.send, b"x") == errno.EPIPE


def test_a_reset_after_we_shut_is_ECONNRESET(ground: Ground) -> None:
    ours, theirs = ground.pair()
    ours.shutdown(socket.SHUT_WR)
    ground.until(theirs, IN)
    ground.abort(theirs)
    ground.until(ours, HUP, 0)
    assert ground.error(ours) == errno.ECONNRESET


def test_a_reset_connection_has_a_name_but_no_peer(ground: Ground) -> None:
    sock = ground.reset_by_peer()
    assert sock.getsockname()[0] == HERE
    assert errno_of(sock.getpeername) == errno.ENOTCONN
    assert errno_of(sock.shutdown, socket.SHUT_WR) == errno.ENOTCONN


def test_closing_with_unread_data_resets_the_peer(ground: Ground) -> None:
    ours, theirs = ground.pair()
    theirs.send(b"never read")
    ground.until(ours, IN)
    ours.close()
    ground.until(theirs, HUP, 0)
    assert ground.error(theirs) == errno.ECONNRESET


def test_closing_with_everything_read_is_a_FIN(ground: Ground) -> None:
    ours, theirs = ground.pair()
    theirs.send(b"read")
    ground.until(ours, IN)
    ours.recv(100)
    ours.close()
    ground.until(theirs, IN)
    assert theirs.recv(1) == b""
    assert ground.bits(theirs, 0) == 0


def test_C4_who_writes_to_a_closed_end_learns_it_from_the_second_write(ground: Ground) -> None:
    ours, theirs = ground.pair()
    theirs.close()
    ground.until(ours, IN)
    assert ours.send(b"first") == 5
    ground.until(ours, HUP, 0)
    assert errno_of(ours.send, b"second") == errno.EPIPE


def test_who_writes_to_a_closed_end_has_EPIPE_waiting(ground: Ground) -> None:
    ours, theirs = ground.pair()
    theirs.close()
    ground.until(ours, IN)
    ours.send(b"first")
    ground.until(ours, HUP, 0)
    assert ground.bits(ours, 0) == ERR | HUP
    assert ours.recv(1) == b""
    assert ground.error(ours) == errno.EPIPE


def test_what_a_closed_end_had_sent_arrives(ground: Ground) -> None:
    ours, theirs = ground.pair()
    total = ground.fill(ours)
    ours.close()
    assert len(ground.read_all(theirs, total + 1)) == total
    assert theirs.recv(1) == b""


def test_what_an_aborted_end_had_not_sent_is_lost(ground: Ground) -> None:
    ours, theirs = ground.pair()
    total = ground.fill(ours)
    ground.abort(ours)
    ground.until(theirs, HUP, 0)
    received = 0
    try:
        while part := theirs.recv(1 << 20):
            received += len(part)
    except ConnectionResetError:
        pass
    assert 0 < received < total


def test_lingering_for_some_seconds_is_no_reset(ground: Ground) -> None:
    ours, theirs = ground.pair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))
    ours.close()
    ground.until(theirs, IN)
    assert theirs.recv(1) == b""


# ---- what stays in the kernel ---------------------------------------------------------------------------------------


def test_C10_TIME_WAIT_keeps_the_port_of_who_closed_first(ground: Ground) -> None:
    listener = ground.listener()
    ours, theirs = ground.pair(listener)
    port = listener.getsockname()[1]
    theirs.close()
    listener.close()
    ground.until(ours, IN)
    ours.close()
    ground.let_pass()
    assert errno_of(ground.socket().bind, (HERE, port)) == errno.EADDRINUSE


def test_SO_REUSEADDR_takes_the_port_from_TIME_WAIT(ground: Ground) -> None:
    listener = ground.listener(reuse=True)
    ours, theirs = ground.pair(listener)
    port = listener.getsockname()[1]
    theirs.close()
    listener.close()
    ground.until(ours, IN)
    ours.close()
    ground.let_pass()
    ground.listener(port=port, reuse=True)


def test_an_accepted_connection_keeps_the_port_of_its_listener(ground: Ground) -> None:
    listener = ground.listener()
    port = listener.getsockname()[1]
    ground.pair(listener)
    listener.close()
    assert errno_of(ground.socket().bind, (HERE, port)) == errno.EADDRINUSE


def test_who_closed_second_keeps_nothing(ground: Ground) -> None:
    listener = ground.listener()
    ours, theirs = ground.pair(listener)
    port = listener.getsockname()[1]
    listener.close()
    ours.close()
    ground.until(theirs, IN)
    theirs.close()
    ground.let_pass()
    ground.listener(port=port)


def test_a_reset_leaves_nothing(ground: Ground) -> None:
    listener = ground.listener()
    ours, theirs = ground.pair(listener)
    port = listener.getsockname()[1]
    listener.close()
    ground.abort(theirs)
    ground.until(ours, HUP, 0)
    ours.close()
    ground.listener(port=port)


# ---- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "option"),
    [
        (socket.SOL_SOCKET, socket.SO_REUSEADDR),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    ],
)
def test_a_switch_reads_back_as_0_or_1(ground: Ground, level: int, option: int) -> None:
    sock = ground.socket()
    assert sock.getsockopt(level, option) == 0
    sock.setsockopt(level, option, 7)
    assert sock.getsockopt(level, option) == 1
    sock.setsockopt(level, option, 0)
    assert sock.getsockopt(level, option) == 0


def test_buffer_sizes_read_back_doubled_and_never_too_small(ground: Ground) -> None:
    sock = ground.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20000)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 40000
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 40000
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 4608
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2304


def test_keep_alive_times_start_as_in_the_manual_and_cannot_be_zero(ground: Ground) -> None:
    sock = ground.socket()
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7200
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 75
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 9
    assert errno_of(sock.setsockopt, socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 0) == errno.EINVAL
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1234)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1234


def test_an_unknown_option_is_ENOPROTOOPT(ground: Ground) -> None:
    sock = ground.socket()
    assert errno_of(sock.setsockopt, socket.IPPROTO_TCP, 9999, 1) == errno.ENOPROTOOPT
    assert errno_of(sock.getsockopt, socket.IPPROTO_TCP, 9999) == errno.ENOPROTOOPT
    assert errno_of(sock.setsockopt, socket.SOL_SOCKET, socket.SO_ERROR, 1) == errno.ENOPROTOOPT


def test_SO_LINGER_reads_back_as_bytes(ground: Ground) -> None:
    sock = ground.socket()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == bytes(8)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == LINGER_ZERO
    assert errno_of(sock.setsockopt, socket.SOL_SOCKET, socket.SO_LINGER, b"\1") == errno.EINVAL


def test_a_socket_tells_what_it_is(ground: Ground) -> None:
    assert ground.socket().getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    assert ground.socket().getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
    assert ground.listener().getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    assert ground.socket().family == socket.AF_INET
    assert ground.socket(socket.AF_INET6).family == socket.AF_INET6
    assert ground.socket().type == socket.SOCK_STREAM


# ---- the local pair that wakes a loop -------------------------------------------------------------------------------


def test_a_pair_carries_bytes_at_once(ground: Ground) -> None:
    reader, writer = ground.system.socket_pair()
    assert ground.bits(reader) == OUT
    assert writer.send(b"abc") == 3
    assert ground.bits(reader, IN) == IN
    assert reader.recv(2) == b"ab"
    assert reader.recv(2) == b"c"
    assert errno_of(reader.recv, 2) == errno.EAGAIN
    reader.close()
    writer.close()


def test_a_full_pair_is_EAGAIN(ground: Ground) -> None:
    reader, writer = ground.system.socket_pair()
    with pytest.raises(BlockingIOError):
        for _ in range(1000):
            writer.send(bytes(4096))
    reader.close()
    writer.close()


def test_a_pair_whose_other_end_is_closed_is_at_its_end(ground: Ground) -> None:
    reader, writer = ground.system.socket_pair()
    writer.close()
    assert ground.bits(reader, IN) == IN | HUP
    assert reader.recv(1) == b""
    assert errno_of(reader.send, b"x") == errno.EPIPE
    reader.close()


class descriptor_limit:
    """While it holds, no descriptor of that number or above can be had; the one place where the two must be told apart."""

    def __init__(self, ground: Ground, limit: int) -> None:
        self._host: Any = getattr(ground.system, "_host", None)
        self._limit = limit
        self._before: Any = None

    def __enter__(self) -> None:
        if self._host is not None:
            self._before, self._host.descriptorLimit = self._host.descriptorLimit, self._limit
        else:
            self._before = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._limit, self._before[1]))

    def __exit__(self, *exc: object) -> None:
        if self._host is not None:
            self._host.descriptorLimit = self._before
        else:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._before)
