"""The pytest plugin: the fixture `simulation`, and tests that run under many seeds.

Installed with the package, as an entry point, so there is nothing to switch on. A test that asks for `simulation` gets a
world of its own, seed 0; one that is decorated with `simulate` is run once for each seed, with the same other fixtures. When
one fails, the report says which seed was the shortest, how to run just that one again, and what every connection did.

    --simulation-seed SEED     every simulated test with this one seed
    --simulation-seeds N       every decorated test with the seeds 0 to N - 1

What a test under many seeds means is in seeds.py; here is only what pytest must know. Rule: nothing of the engine is
imported before a test asks for it: this file is loaded in every pytest run of everybody who has installed the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
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
    return None if text is None else seed_of(text)


def seed_of(text: str) -> Seed:
    """The seed that a command line names: a number if it is one, else a text."""
    try:
        return int(text)
    except ValueError:
        return text


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
    from ropewalk.testing.seeds import run_seeds, settings_of

    settings = settings_of(pyfuncitem.obj)
    assert settings is not None
    names = pyfuncitem._fixtureinfo.argnames
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names if name != "simulation"}
    failing = (Exception, pytest.fail.Exception)
    verdict = run_seeds(pyfuncitem.obj, _asked(pyfuncitem.config, settings), arguments, failing)
    if verdict.shown is not None:
        _fail(pyfuncitem, verdict)
    return True


def _asked(config: pytest.Config, settings: Settings) -> Settings:
    """The settings, with the seeds that the command line asks for."""
    seed, count = _seed(config), config.getoption(_SEEDS)
    if seed is not None:
        return replace(settings, seeds=(seed,))
    return settings if count is None else replace(settings, seeds=tuple(range(count)))


def _fail(item: pytest.Function, verdict: Verdict) -> None:
    """Let the item fail with the error of the shortest seed, and say all that is known."""
    shown = verdict.shown
    assert shown is not None
    again = f"Again, just that one: pytest {item.nodeid!r} {_SEED}={shown.seed}"
    item.add_report_section("call", "simulation", f"{verdict.summary()}\n{again}\n\n{shown.told}")
    exc = shown.exception
    if exc is None:
        # It did not fail again, so there is only the text of how it failed.
        pytest.fail(f"{verdict.summary()}\n{again}\n\n{shown.error}", pytrace=False)
    exc.add_note(verdict.summary())
    exc.add_note(again)
    raise exc
