"""For the tests of Deferreds: what errors that nobody took report.

A file whose tests must cause no such report says `pytestmark = pytest.mark.usefixtures("nothing_unhandled")`.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def reported(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The messages of what nobody took, collected to the last."""
    caplog.set_level(logging.WARNING, logger="ropewalk")

    def texts() -> list[str]:
        gc.collect()
        return [record.getMessage() for record in caplog.records]

    return texts


@pytest.fixture
def nothing_unhandled(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A test that does not ask for reports must not cause one."""
    yield
    gc.collect()
    if "reported" not in request.fixturenames:
        records = [*caplog.get_records("call"), *caplog.records]
        assert [record.getMessage() for record in records] == []
