"""What becomes of a host: its program is killed, its machine crashes, comes back, stands still, or has a wrong clock."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from ropewalk import Factory, ReconnectingClientFactory, TCPOptions
from ropewalk.simulation import Host, Simulation, SimulationError
from tests.rooms.simulated_programs import Calls, Echo, Log, Serves, Talker, two_hosts


def a_connection(latency: float = 0.1, **options: Any) -> tuple[Simulation, Host, Host, Log, Calls, Serves]:
    """An established connection; the server's program is started again with its machine, and answers nothing."""
    sim, server, client = two_hosts(latency=latency)
    log, at_server = Log(sim), Log(sim)
    serves = Serves(at_server, Talker)
    server.onStart(lambda reactor: reactor.listenTCP(7, serves))
    calls = Calls(log)
    client.reactor.connectTCP(server.addresses[0], 7, calls, options=TCPOptions(**options))
    sim.run(until=sim.now + 1)
    log.rows.clear()
    at_server.rows.clear()
    return sim, server, client, log, calls, serves


# ---- kill -----------------------------------------------------------------------------------------------------------


def test_when_a_program_is_killed_its_kernel_says_FIN_and_it_is_told_nothing() -> None:
    sim, server, _, log, _, serves = a_connection()
    server.kill()
    sim.run(until=sim.now + 10)
    assert log.rows == [(1.1, "lost", "ConnectionDone", "peer")]
    assert serves.log.rows == []
    assert server.ledger().descriptors == {}


def test_data_that_a_killed_program_did_not_read_makes_it_a_reset() -> None:
    sim, server, _, log, calls, _ = a_connection()
    server.pause()
    sim.at(sim.now, calls.talker.transport.write, b"unread")
    sim.at(sim.now + 5, server.kill)
    sim.run(until=sim.now + 10)
    [row] = log.rows
    assert row[1:] == ("lost", "ConnectionLost", "peer reset")


def test_a_killed_program_is_refused_until_it_is_started_again() -> None:
    sim, server, client, log, _, _ = a_connection()
    server.kill()
    refused = Calls(log)
    client.reactor.connectTCP(server.addresses[0], 7, refused)
    sim.run(until=sim.now + 1)
    assert refused.failure.errno == errno.ECONNREFUSED
    server.restart()
    again = Calls(log)
    client.reactor.connectTCP(server.addresses[0], 7, again)
    sim.run(until=sim.now + 1)
    assert again.talker.transport.connected


# ---- crash ----------------------------------------------------------------------------------------------------------


def test_a_crash_is_not_heard_of_by_an_idle_peer() -> None:
    sim, server, _, log, calls, serves = a_connection()
    server.crash()
    sim.run(until=sim.now + 10_000)
    assert log.rows == serves.log.rows == []
    assert calls.talker.transport.connected


def test_a_crash_with_resets_is_heard_of_after_a_packet_s_time() -> None:
    sim, server, _, log, _, serves = a_connection()
    server.crash(resets=True)
    sim.run(until=sim.now + 10)
    assert log.rows == [(1.1, "lost", "ConnectionLost", "peer reset")]
    assert serves.log.rows == []


def test_a_peer_that_waits_for_room_learns_of_the_machine_that_came_back() -> None:
    sim, server, _, log, calls, serves = a_connection()
    serves.talkers[0].transport.pauseProducing()
    calls.talker.transport.write(b"x" * 2_000_000)
    sim.run(until=sim.now + 5)
    server.crash()
    sim.run(until=sim.now + 5)
    server.restart()
    assert log.rows == []
    sim.run(until=sim.now + 10)
    [row] = log.rows
    assert row[1:] == ("lost", "ConnectionLost", "peer reset")


def test_keep_alive_of_an_end_that_is_established_though_the_machine_has_just_crashed() -> None:
    sim, server, client = two_hosts(latency=0.1)
    log = Log(sim)
    server.reactor.listenTCP(7, Serves(Log(sim), Talker))
    options = TCPOptions(keepAlive=(10, 2, 3))
    client.reactor.connectTCP(server.addresses[0], 7, Calls(log), options=options)
    # The answer to the SYN is on its way.
    sim.at(sim.now + 0.15, server.crash)
    sim.run(until=sim.now + 100)
    assert log.rows[1:] == [(0.2, "made"), (16.2, "lost", "ConnectionLost", "timeout")]


def test_a_peer_that_sends_to_a_machine_that_came_back_is_reset() -> None:
    sim, server, _, log, calls, _ = a_connection()
    server.crash()
    sim.run(until=sim.now + 5)
    server.restart()
    assert log.rows == []
    sim.at(sim.now, calls.talker.transport.write, b"are you there?")
    sim.run(until=sim.now + 1)
    assert log.rows == [(6.2, "lost", "ConnectionLost", "peer reset")]


def test_a_peer_that_sends_to_a_machine_that_stays_away_gives_up_in_the_end() -> None:
    sim, server, _, log, calls, _ = a_connection()
    server.crash()
    sim.at(sim.now, calls.talker.transport.write, b"are you there?")
    sim.run(until=sim.now + 2000)
    [(time, *told)] = log.rows
    assert told == ["lost", "ConnectionLost", "timeout"]
    assert 900 < time < 1000


def test_keep_alive_notices_a_machine_that_is_away_and_one_that_came_back() -> None:
    for comes_back, how in ((False, "timeout"), (True, "peer reset")):
        sim, server, _, log, _, _ = a_connection(keepAlive=(10, 2, 3))
        server.crash()
        if comes_back:
            sim.at(sim.now + 3, server.restart)
        sim.run(until=sim.now + 100)
        [(time, *told)] = log.rows
        assert told == ["lost", "ConnectionLost", how]
        assert time < 20


def test_nobody_connects_to_a_machine_that_is_down_until_it_is_up() -> None:
    sim, server, client, log, _, _ = a_connection()
    server.crash()
    calls = Calls(log)
    client.reactor.connectTCP(server.addresses[0], 7, calls)
    sim.run(until=sim.now + 2.5)
    assert log.rows == []
    server.restart()
    sim.run(until=sim.now + 2)
    assert calls.talker.transport.connected, "the third SYN, after 3 s, was answered"


def test_a_crashed_machine_takes_its_look_ups_timers_and_connects_with_it() -> None:
    sim, server, client = two_hosts()
    log = Log(sim)
    sim.name("slow.example", server.addresses, delay=2)
    for target in ("slow.example", server.addresses[0], "192.0.2.1"):
        client.reactor.connectTCP(target, 7, Calls(log))
    client.reactor.callLater(1, log.note, "a timer")
    sim.run(until=sim.now + 0.01)
    client.crash()
    sim.runUntilIdle()
    assert log.rows == []
    assert sim.leftovers() == []


def test_the_reactor_of_before_says_that_it_is_no_more() -> None:
    _, server, _, _, _, serves = a_connection()
    old = server.reactor
    server.crash()
    with pytest.raises(SimulationError, match="'server' is down; restart"):
        server.reactor  # noqa: B018
    for call in (
        lambda: old.callLater(1, int),
        lambda: old.connectTCP("client", 7, Calls(serves.log)),
        lambda: serves.talkers[0].transport.write(b"x"),
    ):
        with pytest.raises(RuntimeError, match="host 'server' has crashed: this reactor is no more"):
            call()
    server.restart()
    assert server.reactor is not old


def test_a_reconnecting_client_finds_its_server_again() -> None:
    class Comes(ReconnectingClientFactory):
        noisy = False
        maxDelay = 3

        def buildProtocol(self, addr: object) -> Talker:
            return Talker(log)

    sim, server, client = two_hosts()
    log = Log(sim)
    server.onStart(lambda reactor: reactor.listenTCP(7, Serves(Log(sim), Echo)))
    client.reactor.connectTCP("server", 7, Comes())
    for second, what in enumerate((server.kill, server.restart, lambda: server.crash(True), server.restart)):
        sim.at(sim.now + 10 + 20 * second, what)
    sim.run(until=sim.now + 200)
    assert [row[1] for row in log.rows] == ["made", "lost", "made", "lost", "made"]


@pytest.mark.parametrize("how", ["crash", "kill", "pause"])
def test_a_machine_does_not_fall_in_the_middle_of_its_own_turn(how: str) -> None:
    sim = Simulation()
    host = sim.host()
    said: list[str] = []

    def fall() -> None:
        try:
            getattr(host, how)()
        except SimulationError as refusal:
            said.append(str(refusal))

    host.reactor.callLater(1, fall)
    sim.runUntilIdle()
    assert "in the middle of its own turn" in said[0]


def test_what_makes_no_sense_is_refused() -> None:
    sim, server, _ = two_hosts()
    with pytest.raises(SimulationError, match="not down"):
        server.restart()
    server.crash()
    for how in (server.crash, server.kill, server.pause):
        with pytest.raises(SimulationError, match="down already"):
            how()
    sim.close()


@pytest.mark.parametrize("how", ["crash", "kill", "pause"])
def test_a_machine_that_falls_in_the_turn_of_another_gets_none_at_the_same_instant(how: str) -> None:
    for seed in range(10):
        sim = Simulation(seed)
        one, other = sim.host("one"), sim.host("other")
        ran: list[float] = []
        other.onStart(lambda reactor, ran=ran, sim=sim: reactor.callLater(1, lambda: ran.append(sim.now)))  # type: ignore[misc]
        one.reactor.callLater(1, getattr(other, how))
        sim.run(until=sim.now + 5)
        # Which of the two comes first at one instant is drawn from the seed.
        assert ran in ([], [1001.0])
        assert other.isDown is (how != "pause")


def test_a_program_that_fells_its_own_machine_when_it_starts_ends_the_starting() -> None:
    sim = Simulation()
    host = sim.host()
    started: list[str] = []

    def first(reactor: Any) -> None:
        started.append("first")
        if host.boots:
            host.crash()

    host.onStart(first)
    host.onStart(lambda reactor: started.append("second"))
    host.crash()
    host.restart()
    assert host.isDown
    assert started == ["first", "second", "first"]


def test_a_program_is_a_plain_function() -> None:
    async def program(reactor: Any) -> None: ...

    host = Simulation().host()
    wrong: Any
    for wrong in (None, program):
        with pytest.raises(TypeError, match="a program is a plain function of the reactor"):
            host.onStart(wrong)
    assert not host.comesBack


def test_resets_of_a_crash_do_not_get_through_a_path_that_is_cut() -> None:
    sim, server, client, log, _, _ = a_connection()
    sim.partition(server, client)
    server.crash(resets=True)
    sim.run(until=sim.now + 10)
    assert log.rows == []


def test_what_a_crashed_machine_would_have_sent_again_does_not_come() -> None:
    sim, server, client, log, calls, serves = a_connection()
    sim.loss(server, client, 1.0)
    sim.at(sim.now, serves.talkers[0].transport.write, b"lost on its way")
    sim.run(until=sim.now + 0.05)
    server.crash()
    sim.run(until=sim.now + 10)
    assert log.rows == []
    assert calls.talker.received == b""


def test_the_first_keep_alive_probe_after_the_machine_is_up_again_is_answered_with_a_reset() -> None:
    sim, server, _, log, _, _ = a_connection(keepAlive=(10, 5, 6))
    server.crash()
    sim.at(sim.now + 1, server.restart)
    sim.run(until=sim.now + 100)
    [(time, *told)] = log.rows
    assert told == ["lost", "ConnectionLost", "peer reset"]
    assert 10 <= time < 11


def test_a_machine_has_all_its_ports_and_descriptors_again() -> None:
    sim, server, _, _, _, _ = a_connection()
    before = server.ledger().descriptors
    for _ in range(3):
        server.crash()
        server.restart()
        sim.run(until=sim.now + 100)
    after = server.ledger()
    # The listener, the poller and the waker; the connection is gone.
    assert sorted(after.descriptors) == sorted(before)[:-1]
    assert after.connections == []


# ---- pause ----------------------------------------------------------------------------------------------------------


def test_a_paused_program_is_late_and_misses_nothing() -> None:
    sim, server, _, _, calls, serves = a_connection()
    server.pause()
    server.reactor.callLater(1, serves.log.note, "timer")
    sim.at(sim.now, calls.talker.transport.write, b"hello")
    sim.at(sim.now, calls.talker.transport.loseConnection)
    sim.run(until=sim.now + 5)
    assert serves.log.rows == []
    server.resume()
    sim.run(until=sim.now + 1)
    assert [row[:2] for row in serves.log.rows] == [(6.0, "timer"), (6.0, "data"), (6.0, "lost")]


def test_the_kernel_of_a_paused_program_takes_data_until_its_buffers_are_full() -> None:
    sim, server, _, _, calls, _ = a_connection()
    server.pause()
    sim.at(sim.now, calls.talker.transport.write, bytes(10_000_000))
    sim.run(until=sim.now + 60)
    sent = calls.talker.transport.bytesSent
    assert 0 < sent < 10_000_000
    server.resume()
    sim.run(until=sim.now + 60)
    assert calls.talker.transport.bytesSent == 10_000_000


# ---- the wall clock -------------------------------------------------------------------------------------------------


def test_E2_steps_of_the_wall_clock_change_nothing() -> None:
    def live(steps: bool) -> tuple[str, list[Any]]:
        sim, server, client = two_hosts(seed=3)
        log = Log(sim)
        server.reactor.listenTCP(7, Serves(log))
        client.reactor.connectTCP("server", 7, Calls(log, says=b"hello"))
        client.reactor.callLater(5, log.note, "timer")
        if steps:
            for second in range(8):
                sim.at(sim.now + second, client.stepWallClock, (-1) ** second * 1e6)
                sim.at(sim.now + second, server.stepWallClock, -3600)
        sim.run(until=sim.now + 10)
        return sim.traceHash(), log.rows

    assert live(True) == live(False)


def test_a_wall_clock_goes_with_the_world_and_where_it_is_set() -> None:
    sim = Simulation()
    host = sim.host()
    start = host.wallClock
    sim.run(until=sim.now + 10)
    assert host.wallClock == pytest.approx(start + 10, abs=1e-6)
    host.stepWallClock(-3600)
    assert host.wallClock == pytest.approx(start + 10 - 3600, abs=1e-6)


# ---- observers and chance -------------------------------------------------------------------------------------------


def test_each_reactor_a_host_ever_has_gets_an_observer() -> None:
    told: dict[str, list[Any]] = {}

    def observe(host: Host) -> Any:
        return told.setdefault(f"{host.name} {host.boots}", []).append

    sim = Simulation(observe=observe)
    host = sim.host("server")
    host.onStart(lambda reactor: reactor.listenTCP(7, Factory()))
    host.kill()
    host.restart()
    assert {name: len(events) for name, events in told.items()} == {"server 0": 1, "server 1": 1}
    sim.close()


def test_what_a_program_draws_depends_on_the_seed_and_not_on_the_world() -> None:
    one, other = Simulation(1), Simulation(1)
    other.host().reactor.callLater(1, int)
    other.runUntilIdle()
    assert [one.random.random() for _ in range(5)] == [other.random.random() for _ in range(5)]
    assert Simulation(2).random.random() != Simulation(1).random.random()
