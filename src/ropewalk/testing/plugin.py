"""The pytest plugin: the fixture `simulation`, and tests that run under many seeds.

Installed with the package, as an entry point, so there is nothing to switch on. A test that asks for `simulation` gets a
world of its own, seed 0; one that is decorated with `simulate` is run once for each seed, with the same other fixtures. When
one fails, the report says which seed was the shortest, how to run just that one again, and what every connection did.

    --simulation-seed SEED     every simulated test with this one seed
    --simulation-seeds N       every decorated test with the seeds 0 to N - 1

What a test under many seeds means is in seeds.py; here is only what pytest must know. Rule: nothing beyond `import ropewalk`
is imported before a test asks for it: this file is loaded in every pytest run of everybody who has installed the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ropewalk.simulation import Simulation
    from ropewalk.testing.seeds import Seed, Settings, Verdict

_SEED, _SEEDS = "--simulation-seed", "--simulation-seeds"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ropewalk", "simulated tests (ropewalk)")
    group.addoption(
        _SEED,
        metavar="SEED",
        default=None,
        help="run every simulated test with this seed, a number or a text",
    )
    group.addoption(
        _SEEDS, metavar="N", type=_count, default=None, help="run every test with @simulate with N seeds"
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"a test needs one seed at least, not {text}")
    return number


def _seed(config: pytest.Config) -> Seed | None:
    text: str | None = config.getoption(_SEED)
    if text is None:
        return None
    from ropewalk.testing.seeds import seed_of

    return seed_of(text)


@pytest.fixture
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    """A simulated world (`ropewalk.simulation.Simulation`), closed when the test has ended."""
    from ropewalk.simulation import Simulation

    seed = _seed(request.config)
    sim = Simulation(0 if seed is None else seed)
    yield sim
    sim.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    if not hasattr(pyfuncitem.obj, "__simulated__"):
        return None
    from ropewalk.testing.seeds import run_seeds, settings_of, show

    settings = settings_of(pyfuncitem.obj)
    assert settings is not None
    _refuse_fixtures_of_another_world(pyfuncitem)
    settings = _asked(pyfuncitem.config, settings)
    names = pyfuncitem._fixtureinfo.argnames
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names if name != "simulation"}
    passing = (pytest.exit.Exception,)
    verdict = run_seeds(pyfuncitem.obj, settings, arguments, passing)
    if verdict.skipped:
        pytest.skip(verdict.skipped)
    show(verdict, pyfuncitem.obj, settings, arguments, passing)
    if verdict.shown is not None:
        _fail(pyfuncitem, verdict)
    return True


def _refuse_fixtures_of_another_world(item: pytest.Function) -> None:
    """A fixture is made once for all seeds, so one that asks for `simulation` would have a world that nobody runs."""
    for name, definitions in item._fixtureinfo.name2fixturedefs.items():
        if name != "simulation" and "simulation" in definitions[-1].argnames:
            pytest.fail(
                f"the fixture {name!r} asks for simulation, but {item.name} has a new world for each seed; make it a "
                "function that is given the simulation",
                pytrace=False,
            )


def _asked(config: pytest.Config, settings: Settings) -> Settings:
    """The settings, with the seeds that the command line asks for."""
    seed, count = _seed(config), config.getoption(_SEEDS)
    if seed is not None:
        return replace(settings, seeds=(seed,))
    return settings if count is None else replace(settings, seeds=range(count))


def _fail(item: pytest.Function, verdict: Verdict) -> None:
    """Let the item fail with the error of the shortest seed, and say all that is known."""
    shown = verdict.shown
    assert shown is not None
    again = f"Again, just that one: pytest {quote(item.nodeid)} {quote(f'{_SEED}={shown.seed}')}"
    item.add_report_section("call", "simulation", f"{verdict.summary()}\n{again}\n\n{shown.told}")
    exc = shown.exception
    if exc is None:
        # It did not fail again, so there is only the text of how it failed.
        pytest.fail(f"{verdict.summary()}\n{again}\n\n{shown.error}", pytrace=False)
    exc.add_note(verdict.summary())
    exc.add_note(again)
    raise exc
