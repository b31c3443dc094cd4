"""Faults on order, the ledger, and what a program's calls are answered when a fault strikes."""

from __future__ import annotations

import errno
import socket

import pytest

from ropewalk.simulation import FALLIBLE, Simulation
from tests.rooms.simulated_programs import Calls, Log, Serves, two_hosts


def test_the_nth_call_fails_and_no_other() -> None:
    host = Simulation().host()
    host.faults.fail("socket", errno.ENOBUFS, nth=2)
    host.system.socket(socket.AF_INET)
    with pytest.raises(OSError) as raised:
        host.system.socket(socket.AF_INET)
    assert raised.value.errno == errno.ENOBUFS
    host.system.socket(socket.AF_INET)
    assert host.faults.counts["socket"] == 3
    assert host.faults.given == {("socket", errno.ENOBUFS): 1}


def test_a_fault_may_strike_several_times_or_until_it_is_cleared() -> None:
    host = Simulation().host()
    host.faults.fail("socket", errno.ENFILE, times=2)
    for _ in range(2):
        with pytest.raises(OSError):
            host.system.socket(socket.AF_INET)
    host.system.socket(socket.AF_INET)
    host.faults.fail("socket", errno.ENFILE, times=None)
    for _ in range(5):
        with pytest.raises(OSError):
            host.system.socket(socket.AF_INET)
    host.faults.clear()
    host.system.socket(socket.AF_INET)


def test_a_fault_may_strike_chosen_sockets_only() -> None:
    host = Simulation().host()
    one, other = host.system.socket(socket.AF_INET), host.system.socket(socket.AF_INET)
    host.faults.fail("bind", errno.EACCES, which=lambda sock: sock is other)
    one.bind(("127.0.0.1", 0))
    with pytest.raises(PermissionError):
        other.bind(("127.0.0.1", 0))


def test_an_error_has_the_class_that_Python_gives_it() -> None:
    host = Simulation().host()
    for number, kind in (
        (errno.EAGAIN, BlockingIOError),
        (errno.ECONNRESET, ConnectionResetError),
        (errno.EPIPE, BrokenPipeError),
        (errno.ETIMEDOUT, TimeoutError),
    ):
        host.faults.fail("bind", number)
        with pytest.raises(kind):
            host.system.socket(socket.AF_INET).bind(("127.0.0.1", 0))


def test_unknown_calls_and_counts_are_refused() -> None:
    faults = Simulation().host().faults
    with pytest.raises(ValueError, match="no call 'sned'"):
        faults.fail("sned", errno.EPIPE)
    with pytest.raises(ValueError, match="count from 1"):
        faults.fail("send", errno.EPIPE, nth=0)
    with pytest.raises(ValueError, match="can be short"):
        faults.short("bind", 1)


def test_faults_drawn_from_the_seed_are_the_same_for_the_same_seed() -> None:
    def given(seed: int) -> dict[tuple[str, int], int]:
        host = Simulation(seed).host()
        host.faults.failSometimes("socket", chance=0.3)
        for _ in range(50):
            try:
                host.system.socket(socket.AF_INET)
            except OSError:
                pass
        return host.faults.given

    assert given(1) == given(1)
    assert given(1) != given(2)
    assert {number for _, number in given(1)} <= set(FALLIBLE["socket"])


@pytest.mark.parametrize("call", ["send", "recv"])
def test_C2_one_byte_at_a_time_changes_nothing_but_the_count(call: str) -> None:
    sim, server, client = two_hosts(latency=0.001)
    for host in (server, client):
        host.faults.short("send", 1)
        host.faults.short("sendmsg", 1)
        if call == "recv":
            host.faults.short("recv", 1)
    log = Log(sim)
    server.reactor.listenTCP(7, Serves(log))
    calls = Calls(log, says=bytes(range(200)))
    client.reactor.connectTCP("server", 7, calls)
    sim.runUntilIdle()
    assert calls.talker.received == bytes(range(200))
    assert client.faults.counts["send"] + client.faults.counts["sendmsg"] >= 200


def test_B12_a_storm_of_EAGAIN_is_waited_out() -> None:
    sim, server, client = two_hosts()
    client.faults.fail("send", errno.EAGAIN, times=40)
    client.faults.fail("recv", errno.EAGAIN, times=40)
    log = Log(sim)
    server.reactor.listenTCP(7, Serves(log))
    calls = Calls(log, says=b"hello")
    client.reactor.connectTCP("server", 7, calls)
    sim.runUntilIdle()
    assert calls.talker.received == b"hello"


def test_a_connect_that_is_interrupted_goes_on() -> None:
    sim, server, client = two_hosts()
    client.faults.fail("connect", errno.EINTR)
    log = Log(sim)
    server.reactor.listenTCP(7, Serves(log))
    calls = Calls(log, says=b"hello")
    client.reactor.connectTCP("server", 7, calls)
    sim.runUntilIdle()
    assert calls.talker.received == b"hello"


def test_A2_a_connection_that_accept_loses_is_reset() -> None:
    sim, server, client = two_hosts()
    server.faults.fail("accept", errno.ECONNABORTED)
    log = Log(sim)
    server.reactor.listenTCP(7, Serves(log))
    calls = Calls(log)
    client.reactor.connectTCP("server", 7, calls)
    sim.runUntilIdle()
    assert calls.talker.reason.errno == errno.ECONNRESET


def test_A1_a_host_has_only_so_many_descriptors() -> None:
    host = Simulation().host()
    host.descriptorLimit = 5
    made = [host.system.socket(socket.AF_INET) for _ in range(2)]
    with pytest.raises(OSError) as raised:
        host.system.socket(socket.AF_INET)
    assert raised.value.errno == errno.EMFILE
    made[0].close()
    assert host.system.socket(socket.AF_INET).fileno() == 3


def test_the_ledger_lists_what_is_open() -> None:
    sim, server, client = two_hosts()
    log = Log(sim)
    port = server.reactor.listenTCP(7, Serves(log))
    calls = Calls(log)
    client.reactor.connectTCP(server.addresses[0], 7, calls)
    client.reactor.callLater(1000, list)
    sim.advance(5)
    text = str(client.ledger())
    assert "to 10.0.0.1:7 established, watched for 1" in text
    assert "timer <DelayedCall list due at 2000" in text
    assert "listener 0.0.0.0:7, watched for 1" in str(server.ledger())
    with pytest.raises(AssertionError, match="left at rest"):
        sim.checkAtRest()
    calls.talker.transport.loseConnection()
    port.stopListening()
    sim.runUntilIdle()
    sim.checkAtRest()


def test_B8_B9_closing_what_is_still_registered_is_written_down() -> None:
    sim = Simulation()
    host = sim.host()
    poller = host.system.poller(None)
    sock = host.system.socket(socket.AF_INET)
    poller.register(sock.fileno(), 1)
    sock.close()
    assert "closed while a poller had it" in sim.leftovers()[0]


def test_a_socket_that_nobody_closed_stays_in_the_ledger() -> None:
    sim = Simulation()
    sim.host().system.socket(socket.AF_INET)
    assert sim.leftovers() == ["host: 3: socket"]


def test_a_call_on_a_blocking_socket_is_told_at_once() -> None:
    sock = Simulation().host().system.socket(socket.AF_INET)
    with pytest.raises(RuntimeError, match="blocking"):
        sock.connect_ex(("127.0.0.1", 1))


def test_J7_a_descriptor_that_is_reported_and_never_asked_is_written_down() -> None:
    sim = Simulation()
    host = sim.host()
    poller = host.system.poller(None)
    sock = host.system.socket(socket.AF_INET)
    poller.register(sock.fileno(), 4)
    for _ in range(3):
        assert poller.poll(0, 10)
    sock.getsockname()
    for _ in range(3):
        assert poller.poll(0, 10)
    assert host.misdeeds == []
    poller.poll(0, 10)
    assert host.misdeeds == ["socket, 4: 20 reported 4 times, nothing done"]
