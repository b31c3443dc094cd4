"""All scenarios, by name, in the order of the rooms below."""

from __future__ import annotations

from tests.differential.scenarios import (
    connecting,
    descriptors,
    failing,
    half_closing,
    listening,
    names,
    producing,
    raising,
    running,
    threads,
    writing,
)
from tests.differential.scenarios.table import SCENARIOS

ROOMS = (
    connecting,
    failing,
    names,
    raising,
    writing,
    half_closing,
    producing,
    listening,
    running,
    threads,
    descriptors,
)

__all__ = ["ROOMS", "SCENARIOS"]
