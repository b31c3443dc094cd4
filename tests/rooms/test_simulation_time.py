"""Virtual time: exact timers, jumps, latency, and the two ways of driving the world."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ropewalk.simulation import Simulation, SimulationDeadlock, SimulationError, SimulationSpin
from tests.rooms.simulated_programs import Calls, Log, Serves, two_hosts


def test_timers_fire_exactly_when_they_are_due() -> None:
    sim = Simulation()
    log = Log(sim)
    for delay in (86400.0, 0.0, 1e-9, 3.7, 3.7):
        sim.host().reactor.callLater(delay, log.note, "call", delay)
    sim.runUntilIdle()
    assert log.rows == [(d, "call", d) for d in (0.0, 1e-9, 3.7, 3.7, 86400.0)]


def test_a_day_of_waiting_takes_no_time_at_all() -> None:
    sim = Simulation()
    before = sim.turns
    sim.host().reactor.callLater(86400, list)
    sim.runUntilIdle()
    assert sim.now == 1000 + 86400
    assert sim.turns - before < 10


def test_run_until_a_time_ends_exactly_then() -> None:
    sim = Simulation()
    log = Log(sim)
    for delay in (1.0, 2.0, 2.5):
        sim.host().reactor.callLater(delay, log.note, "call")
    sim.run(until=sim.now + 2.0)
    assert sim.now == 1002.0
    assert log.times("call") == [1.0, 2.0]
    sim.advance(10)
    assert sim.now == 1012.0
    assert log.times("call") == [1.0, 2.0, 2.5]


def test_run_until_a_time_that_is_past_is_refused() -> None:
    with pytest.raises(ValueError, match="from now on"):
        Simulation().run(until=999.0)


def test_run_until_something_is_true_ends_at_once() -> None:
    sim = Simulation()
    log = Log(sim)
    for delay in (1.0, 2.0, 3.0):
        sim.host().reactor.callLater(delay, log.note, "call")
    sim.run(until=lambda: len(log.rows) == 2)
    assert sim.now == 1002.0


def test_a_condition_that_can_no_longer_come_true_is_a_deadlock() -> None:
    sim = Simulation()
    sim.host().reactor.callLater(1, list)
    with pytest.raises(SimulationDeadlock, match="nothing is left to happen"):
        sim.run(until=lambda: False)


def test_a_world_that_never_rests_is_told() -> None:
    sim = Simulation()
    reactor = sim.host().reactor

    def again() -> None:
        reactor.callLater(1, again)

    again()
    with pytest.raises(SimulationError, match="not at rest after 50 virtual seconds"):
        sim.runUntilIdle(limit=50)


def test_time_that_stands_still_is_told() -> None:
    sim = Simulation()
    reactor = sim.host().reactor
    sim._driver.spin_limit = 500

    def again() -> None:
        reactor.callLater(0, again)

    again()
    with pytest.raises(SimulationSpin, match="time does not move"):
        sim.runUntilIdle()


def test_a_reactor_runs_by_itself_and_its_waiting_moves_the_world() -> None:
    sim = Simulation()
    reactor = sim.host().reactor
    reactor.callLater(30, reactor.stop)
    reactor.run()
    assert sim.now == 1030.0


def test_a_reactor_that_waits_for_nothing_is_a_deadlock() -> None:
    sim = Simulation()
    with pytest.raises(SimulationDeadlock, match="host waits for ever"):
        sim.host().reactor.run()
    sim.close()


def test_other_hosts_have_their_turns_while_one_runs_by_itself() -> None:
    sim, server, client = two_hosts()
    log = Log(sim)
    port = server.reactor.listenTCP(7, Serves(log))
    calls = Calls(log, says=b"hello")
    client.reactor.connectTCP("server", 7, calls)
    client.reactor.callLater(1, client.reactor.stop)
    client.reactor.run()
    assert calls.talker.received == b"hello"
    assert sim.now == pytest.approx(1001)
    port.stopListening()
    sim.runUntilIdle()
    sim.checkAtRest()


def test_a_reactor_that_was_stopped_gets_no_turns_until_it_is_started_again() -> None:
    sim = Simulation()
    host = sim.host()
    log = Log(sim)
    host.reactor.callLater(1, host.reactor.stop)
    host.reactor.callLater(2, log.note, "call")
    sim.runUntilIdle()
    assert log.rows == []
    host.start()
    sim.runUntilIdle()
    assert log.times("call") == [2.0]


def test_a_connection_takes_a_round_trip_and_an_echo_another() -> None:
    sim, server, client = two_hosts(latency=0.1)
    log = Log(sim)
    server.reactor.listenTCP(7, Serves(log))
    client.reactor.connectTCP(server.addresses[0], 7, Calls(log, says=b"hello"))
    sim.runUntilIdle()
    assert log.rows == [
        (0.2, "address", server.addresses[0]),
        (0.2, "made"),  # the client's
        (0.3, "made"),
        (0.3, "data", 5),
        (0.4, "data", 5),
    ]


def test_bandwidth_stretches_a_transfer() -> None:
    sim, server, client = two_hosts(latency=0.0)
    sim.bandwidth(server, client, 1_000_000)
    log = Log(sim)
    factory = Serves(log, kind=Serves(log).kind)
    server.reactor.listenTCP(7, factory)
    client.reactor.connectTCP(server.addresses[0], 7, Calls(log, says=bytes(3_000_000)))
    sim.run(until=lambda: bool(factory.talkers) and len(factory.talkers[0].received) == 3_000_000)
    assert sim.now - 1000 == pytest.approx(3.0, rel=0.05)


def test_loss_is_delay_and_nothing_else() -> None:
    sim, server, client = two_hosts(seed=3, latency=0.01)
    sim.loss(server, client, 0.3)
    log = Log(sim)
    factory = Serves(log)
    server.reactor.listenTCP(7, factory)
    calls = Calls(log, says=bytes(range(256)) * 4000)
    client.reactor.connectTCP("server", 7, calls)
    sim.runUntilIdle()
    assert calls.talker.received == bytes(range(256)) * 4000
    assert sim.now > 1000.2


def test_names_answer_in_their_own_time() -> None:
    sim, server, client = two_hosts()
    log = Log(sim)
    server.reactor.listenTCP(7, Serves(log))
    sim.name("slow.example", [server.addresses[0]], delay=5.0)
    client.reactor.connectTCP("slow.example", 7, Calls(log))
    sim.runUntilIdle()
    assert log.times("address") == [5.2]


def test_a_name_that_never_answers_ends_at_the_timeout() -> None:
    sim = Simulation()
    log = Log(sim)
    sim.name("silent.example", never=True)
    calls = Calls(log)
    sim.host().reactor.connectTCP("silent.example", 7, calls, timeout=12)
    sim.runUntilIdle()
    assert log.rows == [(12.0, "failed", "TimeoutError")]
    assert calls.failure.phase == "resolving"


def test_a_host_has_the_loopback_to_itself() -> None:
    sim = Simulation()
    log = Log(sim)
    one, other = sim.host("one"), sim.host("other")
    factory = Serves(log)
    one.reactor.listenTCP(7, factory, interface="127.0.0.1")
    here, there = Calls(log, says=b"hello"), Calls(log)
    one.reactor.connectTCP("localhost", 7, here)
    other.reactor.connectTCP("localhost", 7, there)
    sim.runUntilIdle()
    assert here.talker.received == b"hello"
    assert type(there.failure).__name__ == "ConnectionRefusedError"


def test_two_hosts_cannot_have_one_address() -> None:
    sim = Simulation()
    sim.host("one", ["192.0.2.1"])
    with pytest.raises(ValueError, match=r"192\.0\.2\.1 belongs to host 'one' already"):
        sim.host("other", ["192.0.2.1"])
    with pytest.raises(ValueError, match="loopback"):
        sim.host("third", ["127.0.0.1"])


NAN = float("nan")
WRONG: dict[str, Callable[[Simulation], object]] = {
    "run until nan": lambda sim: sim.run(until=NAN),
    "advance by nan": lambda sim: sim.advance(NAN),
    "run for ever": lambda sim: sim.run(until=float("inf")),
    "a limit of nan": lambda sim: sim.runUntilIdle(limit=NAN),
    "at nan": lambda sim: sim.at(NAN, int),
    "a negative latency": lambda sim: sim.latency("one", "one", -1),
    "a latency of nan": lambda sim: sim.latency("one", "one", NAN),
    "more loss than all": lambda sim: sim.loss("one", "one", 5),
    "no bandwidth": lambda sim: sim.bandwidth("one", "one", 0),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_numbers_that_make_no_sense_are_refused_at_once(wrong: str) -> None:
    sim = Simulation()
    sim.host("one")
    with pytest.raises(ValueError, match="not "):
        WRONG[wrong](sim)


def test_what_is_to_happen_must_be_callable() -> None:
    nothing: object = None
    with pytest.raises(TypeError, match="must be callable, not None"):
        Simulation().at(1001, nothing)  # type: ignore[arg-type]
