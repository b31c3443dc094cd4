"""Storms: what strikes is drawn from the seed, is told, ends, and is undone; and nothing else is touched."""

from __future__ import annotations

import errno
import socket
from functools import partial
from typing import Any

import pytest

from ropewalk import ReconnectingClientFactory
from ropewalk.simulation import KINDS, Host, Simulation, Storm
from tests.rooms.simulated_programs import Echo, Log, Serves, Talker, two_hosts


class Comes(ReconnectingClientFactory):
    """A client that always comes back, and counts what it hears."""

    noisy = False
    maxDelay = 3

    def __init__(self, log: Log) -> None:
        self.log = log
        self.talkers: list[Talker] = []

    def buildProtocol(self, addr: object) -> Talker:
        self.resetDelay()
        self.talkers.append(Talker(self.log, says=b"hello"))
        return self.talkers[-1]


def a_world(seed: int) -> tuple[Simulation, Host, Host, Comes]:
    sim, server, client = two_hosts(seed=seed, latency=0.01)
    log = Log(sim)
    server.onStart(lambda reactor: reactor.listenTCP(7, Serves(Log(sim), Echo)))
    comes = Comes(log)
    client.onStart(lambda reactor: reactor.connectTCP("server", 7, comes))
    return sim, server, client, comes


def state(sim: Simulation) -> list[Any]:
    """Everything that a storm may change."""
    one, other = sim.host("server"), sim.host("client")
    paths = [sim.path(*pair) for pair in ((one, other), (other, one))]
    found: list[Any] = [(path.latency, path.loss, path.is_cut) for path in paths]
    found += [(host.isDown, host.isPaused) for host in sim.hosts]
    found += [[call for call, orders in host.faults._failing.items() if orders] for host in sim.hosts]
    found += [dict(host.faults._short) for host in sim.hosts]
    return [*found, sim.names.outage]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_strikes_is_told_and_is_undone(kind: str) -> None:
    struck = 0
    for seed in range(5):
        sim, *_ = a_world(seed)
        sim.run(until=sim.now + 1)
        before = state(sim)
        storm = sim.storm(20, every=2, kinds=[kind])
        sim.run(until=sim.now + 20)
        begun = [what for _, what in storm.log if not what.startswith("over: ")]
        ended = [what.removeprefix("over: ") for _, what in storm.log if what.startswith("over: ")]
        if kind != "reset":
            assert sorted(begun) == sorted(ended)
        assert state(sim) == before
        struck += len(begun)
        sim.close()
    assert struck > 10


@pytest.mark.parametrize("seed", range(40))
def test_a_client_that_comes_back_is_served_when_the_storm_is_over(seed: int) -> None:
    sim, _, _, comes = a_world(seed)
    storm = sim.storm(60)
    sim.run(until=storm.ends + 60)
    assert storm.log
    assert comes.talkers[-1].transport.connected
    assert comes.talkers[-1].received == b"hello"
    comes.stopTrying()
    sim.close()
    assert sim.leftovers() == []


def test_the_same_seed_has_the_same_storm_and_another_has_another() -> None:
    def log_of(seed: int) -> tuple[list[Any], str]:
        sim, *_ = a_world(seed)
        storm = sim.storm(30)
        sim.run(until=sim.now + 60)
        return storm.log, sim.traceHash()

    assert log_of(7) == log_of(7)
    assert log_of(7)[0] != log_of(8)[0]


def test_a_storm_leaves_alone_what_others_ordered() -> None:
    sim, server, client, _ = a_world(0)
    sim.partition(server, client)
    server.faults.fail("send", errno.ENOBUFS, nth=1000)
    server.faults.short("recv", 5)
    client.pause()
    sim.latency(server, client, 9.0)
    before = state(sim)
    sim.storm(50, every=0.1)
    sim.run(until=sim.now + 50)
    # Which kernel calls fail with what chance is the storm's own; the order made before is still there.
    assert state(sim) == before


@pytest.mark.parametrize("kinds", [["delay", "loss"], ["refuse", "kill", "crash"], list(KINDS)])
def test_several_storms_at_once_undo_all_of_their_own(kinds: list[str]) -> None:
    for seed in range(40):
        sim, *_ = a_world(seed)
        sim.run(until=sim.now + 1)
        before = state(sim)
        storms = [sim.storm(seconds, kinds=kinds) for seconds in (15, 20, 25)]
        sim.run(until=sim.now + 25)
        assert state(sim) == before, f"seed {seed}"
        assert len({tuple(storm.log) for storm in storms}) == 3, "each has chances of its own"
        sim.close()


def test_a_storm_can_be_stopped() -> None:
    sim, *_ = a_world(0)
    before = state(sim)
    storm = sim.storm(1000, every=0.5, longest=500)
    sim.run(until=sim.now + 20)
    assert state(sim) != before
    storm.stop()
    assert state(sim) == before
    told, ended = len(storm.log), storm.ends
    sim.run(until=sim.now + 1100)
    assert storm.ends == ended
    assert len(storm.log) == told


def test_hosts_without_a_program_that_starts_again_do_not_fall() -> None:
    sim, server, client = two_hosts()
    server.reactor.listenTCP(7, Serves(Log(sim)))
    storm = sim.storm(100, kinds=["kill", "crash"])
    sim.run(until=sim.now + 100)
    assert storm.log == []
    assert server.boots == client.boots == 0
    sim.close()


def test_without_names_literal_addresses_and_localhost_are_found_all_the_same() -> None:
    sim = Simulation()
    sim.host("server")
    sim.names.outage = socket.EAI_AGAIN
    answers: dict[str, Any] = {}
    for name in ("server", "nowhere.example", "localhost", "10.0.0.1", "::1"):
        answer = partial(answers.__setitem__, name)
        sim.host().system.look_up(name, 7, 0, socket.SOCK_STREAM, answer)
    sim.runUntilIdle()
    failed = {name for name, found in answers.items() if isinstance(found, socket.gaierror)}
    assert failed == {"server", "nowhere.example"}
    assert answers["server"].errno == socket.EAI_AGAIN


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": 0},
        {"every": 1e-9},
        {"every": float("nan")},
        {"longest": -1},
        {"kinds": ["fire"]},
        {"kinds": []},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"0.001 or more|no misfortune 'fire'; there are: cut, delay|one kind at least"
    ):
        Storm(Simulation(), **{"seconds": 1, **wrong})
