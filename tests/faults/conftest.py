"""Reactors on any system, checked for what they leave; and the log, which must stay silent unless a test expects lines."""

from __future__ import annotations

import logging

import pytest

from ropewalk import Reactor
from ropewalk.simulation import Simulation
from tests.conftest import checked_reactor
from tests.faults.scene import CountedSystem


@pytest.fixture
def system():
    """The real system, counted, and failing on order."""
    return CountedSystem()


@pytest.fixture
def counted(system):
    """A reactor on `system`; at the end nothing of it may be left."""
    with checked_reactor(lambda: Reactor(system=system)) as reactor:
        yield reactor


@pytest.fixture(params=["epoll", "poll", "select"])
def any_poller(request, system):
    """The same, once with each poller of this machine."""
    with checked_reactor(lambda: Reactor(poller=request.param, system=system)) as reactor:
        yield reactor


@pytest.fixture
def sim():
    """A simulated world that must be at rest, and whose kernel must have no complaint, when the test ends."""
    world = Simulation(seed=1)
    world._driver.spin_limit = 5000
    yield world
    world.close()
    world.checkAtRest()


@pytest.fixture
def errors(caplog):
    """The engine's log lines of level ERROR; a test that expects none asserts so."""
    caplog.set_level(logging.WARNING, logger="ropewalk")

    class Lines:
        def __call__(self, level=logging.ERROR):
            return [each.getMessage() for each in caplog.records if each.levelno >= level]

    return Lines()
