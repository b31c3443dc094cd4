"""One test in many worlds: which seeds fail, which is shown, what is told, and what counts as a failure."""

from __future__ import annotations

import gc
import logging
import random
from typing import Any

import pytest

from ropewalk import ClientFactory, Deferred, Factory, Protocol
from ropewalk.simulation import Simulation
from ropewalk.testing import simulate
from ropewalk.testing.seeds import MOST_FAILURES, LoggedErrors, Outcome, Settings, run_seeds, settings_of


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Asks(Protocol):
    def connectionMade(self) -> None:
        self.transport.write(b"hello")

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()


def talk(simulation: Simulation, protocol: Any = Asks, port: int = 7) -> None:
    """A server, a client, a word and its echo."""
    simulation.latency(simulation.host("server"), simulation.host("client"), 0.01, jitter=0.01)
    simulation.host("server").reactor.listenTCP(port, Factory.forProtocol(Echo))
    simulation.host("client").reactor.connectTCP("server", port, ClientFactory.forProtocol(protocol))
    simulation.run(until=simulation.now + 10)


def run(function: Any, seeds: Any = 10, **how: Any) -> Any:
    return run_seeds(function, Settings(tuple(range(seeds)) if isinstance(seeds, int) else seeds, **how))


# ---- the decorator --------------------------------------------------------------------------------------------------


def test_the_decorator_leaves_the_function_what_it_was() -> None:
    def one(simulation: Simulation) -> str:
        return f"seed {simulation.seed}"

    assert simulate(one) is one
    assert one(simulation=Simulation(3)) == "seed 3"
    assert settings_of(one) == Settings()
    assert len(Settings().seeds) == 100
    assert settings_of(len) is None


def test_seeds_may_be_a_number_or_a_choice() -> None:
    def one(simulation: Simulation) -> None: ...

    simulate(seeds=3)(one)
    assert settings_of(one) == Settings((0, 1, 2))
    simulate(seeds=[17, "a text"], atRest=True, allow=ValueError)(one)
    assert settings_of(one) == Settings((17, "a text"), True, (ValueError,))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="one seed at least, not seeds=0"):
        simulate(seeds=0)
    with pytest.raises(TypeError, match="needs a parameter named simulation"):
        simulate(lambda sim: None)


# ---- which fail -----------------------------------------------------------------------------------------------------


def test_all_seeds_are_run_each_in_a_world_of_its_own() -> None:
    worlds = []

    def test(simulation: Simulation) -> None:
        talk(simulation)
        worlds.append((simulation.seed, simulation.traceHash()))

    verdict = run(test, 20)
    assert (verdict.ran, verdict.failed, verdict.shown) == (20, [], None)
    assert [seed for seed, _ in worlds] == list(range(20))
    assert len({trace for _, trace in worlds}) == 20
    assert verdict.summary() == "20 seeds, none failed"


def test_of_those_that_fail_the_one_with_the_fewest_turns_is_shown() -> None:
    def test(simulation: Simulation) -> None:
        for number in range({3: 5, 5: 2, 8: 9}.get(int(simulation.seed), 0)):
            talk(simulation, port=number)
        assert simulation.seed not in (3, 5, 8), "three seeds are bad"

    verdict = run(test)
    assert [outcome.seed for outcome in verdict.failed] == [3, 5, 8]
    assert verdict.shown.seed == 5
    assert "3 of 10 seeds failed; the shortest is seed 5 (also 3, 8): " in verdict.summary()


def test_the_shown_one_tells_every_connection_and_the_error() -> None:
    def test(simulation: Simulation) -> None:
        talk(simulation)
        assert simulation.seed != 4, "four is bad"

    verdict = run(test)
    shown: Outcome = verdict.shown
    assert "AssertionError: four is bad" in shown.error
    assert "client: connection 1 to server:7: closed" in shown.told
    assert "server: port 1 on 0.0.0.0:7" in shown.told
    assert "server: connection 2, accepted from" in shown.told
    assert "by us" in shown.told or "we closed" in shown.told
    assert shown.turns > 0
    assert shown.virtualSeconds == pytest.approx(10)
    assert verdict.repeats


def test_the_misfortunes_of_a_storm_are_told() -> None:
    def test(simulation: Simulation) -> None:
        simulation.storm(10, kinds=["cut"])
        talk(simulation)
        raise AssertionError

    shown = run(test, (1,)).shown
    assert "storm:\n" in shown.told
    assert "no packet gets through between server and client" in shown.told


def test_a_host_that_was_started_again_has_its_own_timelines() -> None:
    def test(simulation: Simulation) -> None:
        host = simulation.host("server")
        host.onStart(lambda reactor: reactor.listenTCP(7, Factory.forProtocol(Echo)))
        host.kill()
        host.restart()
        raise AssertionError

    told = run(test, 1).shown.told
    assert "server: port 1" in told
    assert "server, boot 2: port 1" in told


def test_a_test_that_depends_on_more_than_its_seed_is_found_out() -> None:
    source = random.Random(0)

    def test(simulation: Simulation) -> None:
        simulation.host("client").reactor.callLater(source.random(), talk, simulation)
        simulation.runUntilIdle()
        raise AssertionError

    verdict = run(test, 1)
    assert not verdict.repeats
    assert "does not depend on the seed" in verdict.summary()


def test_a_failure_that_does_not_come_again_is_told_as_it_was() -> None:
    times = []

    def test(simulation: Simulation) -> None:
        times.append(simulation.seed)
        assert len(times) > 1, "only the first time"

    verdict = run(test, 1)
    assert not verdict.repeats
    assert "only the first time" in verdict.shown.error


def test_after_many_failures_no_more_seeds_are_tried() -> None:
    def test(simulation: Simulation) -> None:
        raise AssertionError

    verdict = run(test, 1000)
    assert verdict.ran == len(verdict.failed) == MOST_FAILURES


def test_other_exceptions_leave() -> None:
    def test(simulation: Simulation) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(test)


# ---- what is a failure ----------------------------------------------------------------------------------------------


class Raises(Asks):
    def dataReceived(self, data: bytes) -> None:
        raise ZeroDivisionError("in a callback")


def test_a_callback_that_raised_is_a_failure_though_the_engine_went_on(caplog: Any) -> None:
    def test(simulation: Simulation) -> None:
        talk(simulation, Raises)

    verdict = run(test, 2)
    assert len(verdict.failed) == 2
    assert isinstance(verdict.shown.exception, LoggedErrors)
    assert isinstance(verdict.shown.exception.__cause__, ZeroDivisionError)
    assert "logged:\ndataReceived of" in verdict.shown.told
    assert "ZeroDivisionError: in a callback" in verdict.shown.told
    assert not caplog.records, "it is told once, in the report"
    assert logging.getLogger("ropewalk").propagate
    assert not logging.getLogger("ropewalk").handlers


def test_what_is_allowed_may_be_logged() -> None:
    def test(simulation: Simulation) -> None:
        talk(simulation, Raises)

    assert not run(test, 2, allow=(ZeroDivisionError,)).failed
    assert len(run(test, 2, allow=(ValueError,)).failed) == 2


def test_what_is_left_open_is_a_failure_if_asked_for() -> None:
    assert not run(talk, 1).failed
    [failed] = run(talk, 1, atRest=True).failed
    assert "left at rest" in failed.error


def test_an_awaitable_is_waited_for_in_virtual_time() -> None:
    seen = []

    async def test(simulation: Simulation) -> None:
        reactor = simulation.host().reactor
        done: Deferred[str] = Deferred()
        reactor.callLater(3600, done.callback, "an hour later")
        seen.append(await done)
        assert simulation.seed == 0

    verdict = run(test, 2)
    assert seen[:2] == ["an hour later"] * 2
    assert [outcome.seed for outcome in verdict.failed] == [1]


def test_an_awaitable_that_never_comes_is_a_failure_and_no_hang() -> None:
    def test(simulation: Simulation) -> Any:
        return Deferred()

    assert "SimulationDeadlock" in run(test, 1).failed[0].error


def test_worlds_that_failed_are_not_kept() -> None:
    def test(simulation: Simulation) -> None:
        talk(simulation)
        raise AssertionError

    gc.collect()
    before = sum(isinstance(each, Simulation) for each in gc.get_objects())
    verdict = run(test, 5)
    verdict.shown.exception = None
    gc.collect()
    assert sum(isinstance(each, Simulation) for each in gc.get_objects()) == before
