"""What every test may use: a fresh reactor that is checked for what it leaves behind, and one Hypothesis profile.

`reactor` is a real Reactor on the real system. When the test ends it is put to rest, and the test fails if a
descriptor, a timer or a transport is left: a leak belongs to the test that made it.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from ropewalk import Reactor

# Why derandomized: a run must say the same of the same tree; searching with new seeds is soak's work.
settings.register_profile(
    "ropewalk",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ropewalk")


def open_descriptors() -> dict[int, str]:
    """Every open descriptor of this process, and what it leads to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own descriptor
    return found


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """A fresh Reactor; at teardown nothing that was made with it may be left, and after close() nothing of it."""
    from ropewalk import Reactor

    with checked_reactor(Reactor) as fresh:
        yield fresh


@contextmanager
def checked_reactor(make: Callable[[], Reactor]) -> Iterator[Reactor]:
    """Any reactor, checked in the same way."""
    gc.collect()
    before = open_descriptors()
    fresh = make()
    own = open_descriptors()
    yield fresh
    timers = [repr(call) for call in fresh.getDelayedCalls()]
    watched = [repr(each) for each in (*fresh.getReaders(), *fresh.getWriters())]
    left = opened_since(own)
    fresh.close()
    own_left = opened_since(before)
    assert not timers, f"delayed calls left: {timers}"
    assert not watched, f"still watched: {watched}"
    assert not left, f"descriptors left: {left}"
    assert not own_left, f"descriptors that close() left: {own_left}"


def opened_since(before: dict[int, str]) -> dict[int, str]:
    return {fd: leads_to for fd, leads_to in open_descriptors().items() if before.get(fd) != leads_to}


@pytest.fixture(scope="module", autouse=True)
def what_is_there_already() -> None:
    """What was there before a file's first test the collector need not look at again.

    Why: nearly every test asks the collector, and what is imported and kept for other tests (Twisted, the source's syntax
    trees) made that a tenth of a second each time.
    """
    gc.collect()
    gc.freeze()
