"""J12: the same seed leaves the same trace; in another process, with another hash seed, too. Other seeds differ."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ropewalk.simulation import Simulation
from tests.rooms.simulated_programs import Calls, Log, Serves


def busy_world(seed: int, keepTrace: bool = False) -> Simulation:
    """Three hosts, a dozen connections, names, jitter, loss, faults, a partition and a reset."""
    sim = Simulation(seed, keepTrace)
    log = Log(sim)
    hosts = [sim.host(name) for name in ("one", "two", "three")]
    sim.latency("one", "two", 0.01, jitter=0.01)
    sim.latency("two", "three", 0.02, jitter=0.005)
    sim.loss("one", "three", 0.2)
    for host in hosts:
        host.reactor.listenTCP(7, Serves(log))
        host.faults.failSometimes("accept", chance=0.1)
        host.faults.failSometimes("recv", chance=0.02)
        host.faults.failSometimes("send", chance=0.02)
    for index in range(12):
        caller, called = hosts[index % 3], hosts[(index + 1 + index % 2) % 3]
        calls = Calls(log, says=bytes(1000 * index))
        caller.reactor.callLater(index * 0.003, caller.reactor.connectTCP, called.name, 7, calls)
    sim.at(sim.now + 0.05, sim.partition, "one", "two")
    sim.at(sim.now + 3, sim.heal, "one", "two")
    sim.at(sim.now + 0.08, reset_some, sim)
    sim.run(until=sim.now + 40)
    return sim


def reset_some(sim: Simulation) -> None:
    for each in sim.connections()[:2]:
        sim.reset(each)


@pytest.mark.parametrize("seed", range(5))
def test_J12_the_same_seed_is_the_same_run(seed: int) -> None:
    first, second = busy_world(seed, keepTrace=True), busy_world(seed, keepTrace=True)
    assert first.trace() == second.trace()
    assert first.traceHash() == second.traceHash()
    assert len(first.trace()) > 150


def test_J12_other_seeds_are_other_runs() -> None:
    assert len({busy_world(seed).traceHash() for seed in range(5)}) == 5


def test_J12_the_trace_is_the_same_whether_it_is_kept_or_looked_at() -> None:
    watched = Simulation(1)
    watched.traceHash()
    assert busy_world(1).traceHash() == busy_world(1, keepTrace=True).traceHash()


def test_J12_another_process_with_another_hash_seed_leaves_the_same_trace() -> None:
    program = (
        "from tests.rooms.test_simulation_determinism import busy_world\n"
        "print(*[busy_world(seed).traceHash() for seed in range(3)])"
    )
    for hash_seed in ("1", "4242"):
        answer = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(["src", "."])},
            capture_output=True,
            text=True,
            check=True,
            cwd=os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
        )
        assert answer.stdout.split() == [busy_world(seed).traceHash() for seed in range(3)]


def test_simultaneous_events_come_in_an_order_drawn_from_the_seed() -> None:
    def order(seed: int) -> list[str]:
        sim = Simulation(seed)
        seen: list[str] = []
        for name in "abcdef":
            sim.host(name).reactor.callLater(1, seen.append, name)
        sim.runUntilIdle()
        return seen

    assert order(1) == order(1)
    assert sorted(order(1)) == list("abcdef")
    assert len({tuple(order(seed)) for seed in range(8)}) > 4
