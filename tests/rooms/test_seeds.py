"""One test in many worlds: which seeds fail, which is shown, what is told, and what counts as a failure."""

from __future__ import annotations

import gc
import logging
import random
from typing import Any

import pytest

from ropewalk import ClientFactory, Deferred, Factory, Protocol, fail
from ropewalk.simulation import Simulation
from ropewalk.testing import simulate
from ropewalk.testing.seeds import (
    MOST_FAILURES,
    LoggedErrors,
    Settings,
    Trial,
    run_seeds,
    seed_of,
    settings_of,
    show,
)


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
    settings = Settings(range(seeds) if isinstance(seeds, int) else seeds, **how)
    verdict = run_seeds(function, settings)
    show(verdict, function, settings)
    return verdict


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
    assert settings_of(one) == Settings(range(3))
    simulate(seeds=[17, "a text"], atRest=True, allow=ValueError)(one)
    assert settings_of(one) == Settings((17, "a text"), True, (ValueError,))


def test_what_makes_no_sense_is_refused() -> None:
    none: Any
    for none in (0, [], -1):
        with pytest.raises(ValueError, match="one seed at least, not seeds="):
            simulate(seeds=none)
    wrong: Any
    for wrong in ("abc", True):
        with pytest.raises(TypeError, match="seeds is a number of seeds, or the seeds themselves"):
            simulate(seeds=wrong)
    for wrong in (None, 1.5, True):
        with pytest.raises(TypeError, match="a seed is a whole number or a text, not"):
            simulate(seeds=[0, wrong])
    for wrong in ([ValueError], None, "x", ValueError("x")):
        with pytest.raises(TypeError, match="allow is an exception class or a tuple of them"):
            simulate(allow=wrong)
    with pytest.raises(TypeError, match="needs a parameter named simulation"):
        simulate(lambda sim: None)

    def generator(simulation: Simulation) -> Any:
        yield

    async def async_generator(simulation: Simulation) -> Any:
        yield

    for each in (generator, async_generator):
        with pytest.raises(TypeError, match="is a generator: it has a yield in it, and would not be run"):
            simulate(each)


def test_a_seed_on_a_command_line_is_a_number_if_it_is_written_as_one() -> None:
    assert [seed_of(text) for text in ("7", "-7", "007", "a day", "")] == [7, -7, "007", "a day", ""]


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
    assert [trial.seed for trial in verdict.failed] == [3, 5, 8]
    assert verdict.shown.seed == 5
    assert "3 of 10 seeds failed; the shortest is seed 5 (also 3, 8): " in verdict.summary()


def test_the_shown_one_tells_every_connection_and_the_error() -> None:
    def test(simulation: Simulation) -> None:
        talk(simulation)
        assert simulation.seed != 4, "four is bad"

    verdict = run(test)
    shown: Trial = verdict.shown
    assert "AssertionError: four is bad" in shown.error
    assert "client: connection 1 to server:7: closed" in shown.told
    assert "server: port 1 on 0.0.0.0:7" in shown.told
    assert "server: connection 2, accepted from" in shown.told
    assert "by us" in shown.told or "we closed" in shown.told
    assert shown.turns > 0
    assert shown.virtual_seconds == pytest.approx(10)
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


def test_a_test_that_leaves_by_SystemExit_has_failed() -> None:
    def test(simulation: Simulation) -> None:
        raise SystemExit(0)

    assert len(run(test, 3).failed) == 3


def test_a_test_that_skips_itself_is_skipped_once() -> None:
    runs: list[int] = []

    def test(simulation: Simulation) -> None:
        runs.append(1)
        pytest.skip("not today")

    verdict = run(test)
    assert (verdict.summary(), runs, verdict.failed) == ("skipped: not today", [1], [])


def test_a_world_is_closed_however_its_test_ends() -> None:
    told: list[str] = []

    class Notes(Protocol):
        def connectionLost(self, reason: Any) -> None:
            told.append(type(reason.value).__name__)

    for leaves in (KeyboardInterrupt, SystemExit, ZeroDivisionError):

        def test(simulation: Simulation, leaves: type[BaseException] = leaves) -> None:
            talk(simulation, Notes)
            raise leaves

        told.clear()
        try:
            run_seeds(test, Settings(range(1)))
        except KeyboardInterrupt:
            assert leaves is KeyboardInterrupt
        assert told == ["ConnectionLost"]


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
    assert not logging.getLogger("ropewalk").filters


def test_a_failure_that_nobody_took_is_this_seed_s_and_no_other_s() -> None:
    def circle(simulation: Simulation) -> None:
        if simulation.seed == 1:
            held: list[Any] = [fail(ZeroDivisionError("nobody took it"))]
            held.append(held)

    def by_the_world(simulation: Any) -> None:
        if simulation.seed == 1:
            simulation.kept = fail(ZeroDivisionError("nobody took it"))

    for test in (circle, by_the_world):
        verdict = run(test, 4)
        assert [trial.seed for trial in verdict.failed] == [1]
        assert verdict.repeats


def test_what_is_raised_when_the_world_is_closed_counts_too() -> None:
    class Late(Protocol):
        def connectionLost(self, reason: Any) -> None:
            raise ZeroDivisionError

    def test(simulation: Simulation) -> None:
        talk(simulation, Late)

    assert len(run(test, 1).failed) == 1


def test_what_is_no_error_is_logged_as_ever_and_an_error_is_seen_though_logging_is_off(caplog: Any) -> None:
    def test(simulation: Simulation) -> None:
        logging.getLogger("ropewalk").warning("only a warning")
        talk(simulation, Raises)

    logging.disable(logging.CRITICAL)
    try:
        assert len(run(test, 1).failed) == 1
    finally:
        logging.disable(logging.NOTSET)
    run(test, 1)
    assert {record.getMessage() for record in caplog.records} == {"only a warning"}


def test_what_is_allowed_may_be_logged() -> None:
    def test(simulation: Simulation) -> None:
        talk(simulation, Raises)

    assert not run(test, 2, allow=(ZeroDivisionError,)).failed
    assert len(run(test, 2, allow=(ValueError,)).failed) == 2


def test_what_is_left_open_is_a_failure_if_asked_for() -> None:
    assert not run(talk, 1).failed
    [failed] = run(talk, 1, at_rest=True).failed
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
    assert [trial.seed for trial in verdict.failed] == [1]


def test_an_awaitable_of_any_class_is_waited_for() -> None:
    class Later:
        def __init__(self, reactor: Any) -> None:
            self.reactor = reactor

        def __await__(self) -> Any:
            done: Deferred[None] = Deferred()
            self.reactor.callLater(60, done.callback, None)
            yield from done.__await__()
            raise ZeroDivisionError

    def test(simulation: Simulation) -> Any:
        return Later(simulation.host().reactor)

    [failed] = run(test, 1).failed
    assert "ZeroDivisionError" in failed.error
    assert failed.virtual_seconds == 60


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
