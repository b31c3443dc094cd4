"""Reactors for the connection tests: one in a world of the test's making, and plain peers; both checked for leaks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ropewalk import Reactor
from tests.conftest import checked_reactor
from tests.contract.stage import Peers, World, run_to_the_end


@pytest.fixture
def peers(request: pytest.FixtureRequest) -> Iterator[Peers]:
    made = Peers()
    yield made
    made.close()


@pytest.fixture
def reactor() -> Iterator[Any]:
    """A real Reactor; when the test has ended it is stopped, and then nothing may be left."""
    with checked_reactor(Reactor) as made:
        yield made
        put_to_rest(made)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def reactor_in(world: World) -> Iterator[Any]:
    """A Reactor in the test's `world`, checked in the same way."""
    with checked_reactor(lambda: Reactor(system=world)) as made:
        yield made
        put_to_rest(made)


def put_to_rest(reactor: Any) -> None:
    """Stop it, so that everything still open is told of the shutdown: each test ends with one."""
    reactor.callWhenRunning(reactor.stop)
    run_to_the_end(reactor)
