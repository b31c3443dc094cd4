"""What the network does to connections, seen by the real engine: refusals, black holes, resets, partitions, windows."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from ropewalk import TCPOptions
from ropewalk.simulation import Simulation
from tests.rooms.simulated_programs import Calls, Log, Serves, Talker, two_hosts


def connected(latency: float = 0.1, **options: Any) -> tuple[Simulation, Log, Calls, Talker]:
    sim, server, client = two_hosts(latency=latency)
    log = Log(sim)
    factory = Serves(log, Talker)
    server.reactor.listenTCP(7, factory)
    calls = Calls(log)
    client.reactor.connectTCP(server.addresses[0], 7, calls, options=TCPOptions(**options))
    sim.runUntilIdle()
    return sim, log, calls, factory.talkers[0]


def test_nobody_listening_is_refused_after_a_round_trip() -> None:
    sim, server, client = two_hosts(latency=0.1)
    log = Log(sim)
    calls = Calls(log)
    client.reactor.connectTCP(server.addresses[0], 9, calls)
    sim.runUntilIdle()
    assert log.rows == [(0.2, "failed", "ConnectionRefusedError")]


def test_a_black_hole_is_ETIMEDOUT_after_127_seconds() -> None:
    sim = Simulation()
    log = Log(sim)
    sim.route("192.0.2.1", lost=True)
    calls = Calls(log)
    sim.host().reactor.connectTCP("192.0.2.1", 7, calls, timeout=None)
    sim.runUntilIdle()
    assert log.rows == [(127.0, "failed", "TCPTimedOutError")]
    assert calls.failure.errno == errno.ETIMEDOUT


def test_an_address_that_nobody_has_is_unreachable_after_a_while() -> None:
    sim = Simulation()
    log = Log(sim)
    sim.host().reactor.connectTCP("192.0.2.1", 7, Calls(log))
    sim.runUntilIdle()
    assert log.rows == [(3.0, "failed", "NoRouteError")]


def test_a_family_that_a_host_does_not_have_is_unreachable_at_once() -> None:
    sim = Simulation()
    log = Log(sim)
    sim.host("old", ["192.0.2.5"]).reactor.connectTCP("2001:db8::1", 7, Calls(log))
    sim.runUntilIdle()
    assert log.rows == [(0.0, "failed", "NoRouteError")]


@pytest.mark.parametrize(
    ("error", "name"), [(errno.EHOSTUNREACH, "NoRouteError"), (errno.ECONNREFUSED, "ConnectionRefusedError")]
)
def test_a_route_answers_as_it_was_told(error: int, name: str) -> None:
    sim = Simulation()
    log = Log(sim)
    sim.route("192.0.2.1", error=error, delay=0.7)
    sim.host().reactor.connectTCP("192.0.2.1", 7, Calls(log))
    sim.runUntilIdle()
    assert log.rows == [(0.7, "failed", name)]


def test_the_slower_of_two_addresses_loses_the_race() -> None:
    sim, server, client = two_hosts(latency=0.1)
    log = Log(sim)
    server.reactor.listenTCP(7, Serves(log, Talker), interface="::", options=TCPOptions(dualStack=True))
    v4, v6 = server.addresses
    sim.route(v6, delay=1.0)
    sim.name("both.example", [v6, v4], delay=0.0)
    client.reactor.connectTCP("both.example", 7, Calls(log))
    sim.runUntilIdle()
    assert log.rows[:2] == [(0.45, "address", v4), (0.45, "made")]
    assert len(sim.connections()) == 1


def test_a_reset_from_outside_reaches_both_ends() -> None:
    sim, _, calls, served = connected()
    sim.reset(calls.talker.transport)
    sim.runUntilIdle()
    for each in (calls.talker, served):
        assert each.reason.errno == errno.ECONNRESET
        assert each.reason.ended.by.value == "peer reset"


def test_a_connection_is_listed_while_it_lasts() -> None:
    sim, _, calls, _ = connected()
    [connection] = sim.connections()
    assert connection.local[0] == sim.host("client").addresses[0]
    assert connection.remote == (sim.host("server").addresses[0], 7)
    calls.talker.transport.loseConnection()
    sim.runUntilIdle()
    assert sim.connections() == []


def test_a_partition_delays_and_heals() -> None:
    sim, log, calls, served = connected()
    sim.partition("client", "server")
    calls.talker.transport.write(b"patience")
    sim.advance(5)
    assert served.received == b""
    sim.heal("client", "server")
    sim.runUntilIdle()
    assert served.received == b"patience"
    assert log.rows[-1][0] > 5


def test_a_partition_that_lasts_ends_the_connection_of_who_sends() -> None:
    sim, _, calls, served = connected()
    sim.partition("client", "server")
    calls.talker.transport.write(b"into the void")
    sim.runUntilIdle()
    assert calls.talker.reason.errno == errno.ETIMEDOUT
    assert 900 < sim.now - 1000 < 960
    assert served.reason is None


def test_keep_alive_notices_a_partition_without_any_data() -> None:
    sim, _, calls, _ = connected(keepAlive=(60, 10, 3))
    sim.advance(100)
    start = sim.now
    sim.partition("client", "server")
    sim.runUntilIdle()
    assert calls.talker.reason.errno == errno.ETIMEDOUT
    assert sim.now == pytest.approx(start + 30)


def test_a_user_timeout_ends_a_connection_that_gets_no_acknowledgement() -> None:
    sim, log, calls, _ = connected(userTimeout=20)
    sim.partition("client", "server")
    calls.talker.transport.write(b"into the void")
    sim.runUntilIdle()
    assert calls.talker.reason.errno == errno.ETIMEDOUT
    assert log.times("lost") == [pytest.approx(0.3 + 20)]


def test_keep_alive_of_an_end_that_is_accepted_while_the_path_is_cut() -> None:
    sim, server, client = two_hosts(latency=0.1)
    log = Log(sim)
    factory = Serves(log, Talker)
    server.reactor.listenTCP(7, factory, options=TCPOptions(keepAlive=(10, 2, 3)))
    client.reactor.connectTCP(server.addresses[0], 7, Calls(log))
    sim.advance(0)
    server.pause()
    sim.advance(1)
    sim.partition("client", "server")
    server.resume()
    sim.run(until=lambda: bool(log.times("lost")))
    # The last that was heard of the client is the third step of the handshake.
    assert log.rows[-1] == (16.3, "lost", "ConnectionLost", "timeout")
    assert factory.talkers[0].reason.errno == errno.ETIMEDOUT


def test_keep_alive_that_is_turned_on_while_the_path_is_cut() -> None:
    sim, log, calls, _ = connected()
    sim.partition("client", "server")
    sim.advance(10)
    transport: Any = calls.talker.transport
    transport.setTcpKeepAlive(True)
    sim.run(until=lambda: bool(log.times("lost")))
    # Two hours since the last that was heard, then nine probes, 75 s apart.
    assert log.rows[-1] == (0.2 + 7200 + 9 * 75, "lost", "ConnectionLost", "timeout")


class Deaf(Talker):
    """Reads nothing."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.pauseProducing()


def how_it_ended(calls: Calls) -> str | None:
    """By whom the client's connection was ended; None if it stands."""
    reason = calls.talker.reason
    return None if reason is None else str(reason.ended.by.value)


def room_of(talker: Any) -> int:
    """How much its kernel takes in that it does not read."""
    return int(talker.transport.getHandle().endpoint.options.receive_capacity)


def deaf_and_cut_off(size: int, after: float = 5.0) -> tuple[Simulation, Log, Calls, Talker]:
    """A client that has written to one who does not read; the path is cut a while after."""
    sim, server, client = two_hosts(latency=0.1)
    log = Log(sim)
    factory = Serves(log, Deaf)
    server.reactor.listenTCP(7, factory)
    calls = Calls(log, says=b"x" * size)
    client.reactor.connectTCP(server.addresses[0], 7, calls)
    sim.advance(after)
    sim.partition("client", "server")
    return sim, log, calls, factory.talkers[0]


@pytest.mark.parametrize(
    ("size", "after"),
    [pytest.param(2_000_000, 5.0, id="a closed window"), pytest.param(10, 0.35, id="an answer under way")],
)
def test_who_has_something_to_send_learns_of_a_reset_that_was_lost_when_the_path_heals(
    size: int, after: float
) -> None:
    sim, _, calls, server_end = deaf_and_cut_off(size, after)
    server_end.transport.abortConnection()
    sim.advance(10)
    assert how_it_ended(calls) is None
    sim.heal("client", "server")
    # Why so long: what is sent again is sent ever more seldom, after 0.2 s, 0.4 s …
    sim.advance(15)
    assert how_it_ended(calls) == "peer reset"
    sim.runUntilIdle()
    sim.close()


def test_who_has_nothing_to_send_does_not_learn_of_it_until_it_has() -> None:
    sim, _, calls, server_talker = connected()
    sim.partition("client", "server")
    server_talker.transport.abortConnection()
    sim.advance(1)
    sim.heal("client", "server")
    sim.advance(1000)
    assert how_it_ended(calls) is None
    calls.talker.transport.write(b"x")
    sim.advance(1)
    assert how_it_ended(calls) == "peer reset"


def test_who_begins_to_send_after_the_cut_into_a_window_that_is_closed_learns_of_it() -> None:
    # As much as the other's buffer takes, so that nothing waits.
    sim, _, calls, server_end = deaf_and_cut_off(0)
    sim.heal("client", "server")
    room = room_of(server_end)
    calls.talker.transport.write(b"x" * room)
    sim.advance(1)
    sim.partition("client", "server")
    server_end.transport.abortConnection()
    sim.advance(1)
    sim.heal("client", "server")
    sim.advance(1)
    assert how_it_ended(calls) is None
    calls.talker.transport.write(b"x")
    sim.advance(1)
    assert how_it_ended(calls) == "peer reset"


@pytest.mark.parametrize("size", [2_000_000, 10])
def test_who_waits_for_an_answer_gives_up_on_a_path_that_stays_cut(size: int) -> None:
    sim, log, calls, _ = deaf_and_cut_off(size, 0.35 if size == 10 else 5.0)
    sim.run(until=lambda: calls.talker.reason is not None)
    assert calls.talker.reason.errno == errno.ETIMEDOUT
    [when] = log.times("lost")
    assert 900 < when < 1100


def test_a_partition_during_the_handshake_is_a_lost_SYN() -> None:
    sim, server, client = two_hosts(latency=0.1)
    log = Log(sim)
    server.reactor.listenTCP(7, Serves(log, Talker))
    sim.partition(server, client)
    sim.at(sim.now + 4.0, sim.heal, server, client)
    client.reactor.connectTCP(server.addresses[0], 7, Calls(log))
    sim.runUntilIdle()
    assert log.times("address") == [7.2]


def test_a_reader_that_pauses_stops_the_sender_and_resumes_it() -> None:
    sim, _, calls, served = connected(latency=0.01)
    served.transport.pauseProducing()
    data = bytes(range(256)) * 8000
    calls.talker.transport.write(data)
    sim.advance(10)
    assert served.received == b""
    stream: Any = calls.talker.transport
    assert 0 < stream.bytesSent < len(data)
    served.transport.resumeProducing()
    sim.runUntilIdle()
    assert served.received == data


def test_FIN_waits_behind_data_that_does_not_fit() -> None:
    sim, _, calls, served = connected(latency=0.01)
    served.transport.pauseProducing()
    data = bytes(2_000_000)
    calls.talker.transport.write(data)
    calls.talker.transport.loseConnection()
    sim.advance(10)
    served.transport.resumeProducing()
    sim.runUntilIdle()
    assert served.received == data
    assert type(served.reason).__name__ == "ConnectionDone"


def test_C9_a_connection_to_itself_is_not_taken_for_one() -> None:
    sim = Simulation()
    host = sim.host()
    log = Log(sim)
    host.nextEphemeralPorts(45000, 45000, 45000)
    host.reactor.connectTCP("127.0.0.1", 45000, Calls(log))
    sim.runUntilIdle()
    assert [row[1:] for row in log.rows] == [("failed", "ConnectionRefusedError")]
    sim.checkAtRest()


def test_C10_running_out_of_ports_is_EADDRNOTAVAIL() -> None:
    sim, server, client = two_hosts()
    client.ephemeralPorts = range(40000, 40003)
    log = Log(sim)
    server.reactor.listenTCP(7, Serves(log, Talker))
    calls = [Calls(log) for _ in range(4)]
    for each in calls:
        client.reactor.connectTCP(server.addresses[0], 7, each)
    sim.runUntilIdle()
    assert [each.failure and each.failure.errno for each in calls] == [None, None, None, errno.EADDRNOTAVAIL]


def test_one_ephemeral_port_serves_connections_to_different_places() -> None:
    sim, server, client = two_hosts()
    client.ephemeralPorts = range(40000, 40001)
    log = Log(sim)
    for port in (7, 8):
        server.reactor.listenTCP(port, Serves(log, Talker))
        client.reactor.connectTCP(server.addresses[0], port, Calls(log))
    sim.runUntilIdle()
    assert {each.local[1] for each in sim.connections()} == {40000}
    assert len(sim.connections()) == 2


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (socket.EAI_NONAME, "DNSLookupError"),
        (socket.EAI_AGAIN, "DNSLookupError"),
        (UnicodeError("label too long"), "DNSLookupError"),
    ],
)
def test_a_look_up_fails_as_it_was_told(error: int | Exception, name: str) -> None:
    sim = Simulation()
    log = Log(sim)
    sim.name("broken.example", error=error, delay=0.5)
    sim.host().reactor.connectTCP("broken.example", 7, Calls(log))
    sim.runUntilIdle()
    assert log.rows == [(0.5, "failed", name)]


def test_A7_who_finds_the_queue_full_at_the_last_step_waits_and_gets_in() -> None:
    sim, server, client = two_hosts(latency=0.1)
    log = Log(sim)
    factory = Serves(log)
    server.reactor.listenTCP(7, factory, backlog=0)
    server.faults.fail("accept", errno.ENOBUFS, times=3)
    calls = [Calls(log, says=b"hello") for _ in range(6)]
    for each in calls:
        client.reactor.connectTCP(server.addresses[0], 7, each)
    sim.runUntilIdle()
    assert [each.talker.received for each in calls] == [b"hello"] * 6


def test_two_ends_that_call_each_other_at_once_meet() -> None:
    sim = Simulation()
    one, other = sim.host("one"), sim.host("other")
    ends = []
    for host, peer in ((one, other), (other, one)):
        sock = host.system.socket(socket.AF_INET)
        sock.setblocking(False)
        sock.bind((host.addresses[0], 5000))
        assert sock.connect_ex((peer.addresses[0], 5000)) == errno.EINPROGRESS
        ends.append(sock)
    sim.runUntilIdle()
    ends[0].send(b"hello")
    sim.runUntilIdle()
    assert ends[1].recv(100) == b"hello"
    assert ends[0].getpeername() == ends[1].getsockname()


def test_services_have_ports_by_name() -> None:
    sim, server, client = two_hosts()
    log = Log(sim)
    sim.service("rope", 4567)
    server.reactor.listenTCP("rope", Serves(log))
    client.reactor.connectTCP(server.addresses[0], "rope", Calls(log))
    sim.runUntilIdle()
    assert sim.connections()[0].remote[1] == 4567
    with pytest.raises(OSError, match="service/proto not found"):
        server.system.service_port("nothing", "tcp")
