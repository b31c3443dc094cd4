"""One scene for each scenario: when it ends everything is told to, nothing may be left, and nothing was logged."""

from __future__ import annotations

import logging

import pytest

from tests.scenarios.script import Scene


@pytest.fixture
def scene(caplog):
    caplog.set_level(logging.WARNING, logger="ropewalk")
    made = Scene()
    yield made
    made.close()
    assert [record.getMessage() for record in caplog.records] == []
