"""Tests of programs that use the network, without a network: simulated worlds, many seeds, and doubles.

    from ropewalk.testing import simulate

    @simulate(seeds=200)
    def test_every_message_arrives(simulation): ...

`seeds.py` runs one test in many worlds, `plugin.py` lets pytest do it. What a world is: `ropewalk.simulation`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ropewalk.testing.seeds import simulate

__all__ = ["simulate"]

_HOMES = {"simulate": "seeds"}


def __getattr__(name: str) -> Any:
    """Each name from its file at first use. Why: pytest loads plugin.py, and with it this file, in every run."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ropewalk.testing' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"ropewalk.testing.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
