"""Tests of programs that use the network, without a network: simulated worlds, many seeds, and doubles.

    from ropewalk.testing import simulate

    @simulate(seeds=200)
    def test_every_message_arrives(simulation): ...

`seeds.py` runs one test in many worlds, `plugin.py` lets pytest do it. What a world is: `ropewalk.simulation`. For tests of
one part by itself, under the names that Twisted's users know: `clock.py`, `string_transport.py`, `memory_reactor.py` with the
other end of its connections in `peer.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ropewalk.testing.clock import Clock
    from ropewalk.testing.memory_reactor import MemoryReactor, MemoryReactorClock
    from ropewalk.testing.peer import Peer
    from ropewalk.testing.seeds import simulate
    from ropewalk.testing.string_transport import StringTransport, StringTransportWithDisconnection

__all__ = [
    "Clock",
    "MemoryReactor",
    "MemoryReactorClock",
    "Peer",
    "StringTransport",
    "StringTransportWithDisconnection",
    "simulate",
]

_HOMES = {
    "Clock": "clock",
    "MemoryReactor": "memory_reactor",
    "MemoryReactorClock": "memory_reactor",
    "Peer": "peer",
    "StringTransport": "string_transport",
    "StringTransportWithDisconnection": "string_transport",
    "simulate": "seeds",
}


def __getattr__(name: str) -> Any:
    """Each name from its file at first use. Why: pytest loads plugin.py, and with it this file, in every run."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ropewalk.testing' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"ropewalk.testing.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
