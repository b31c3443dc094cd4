"""Tests of programs that use the network, without a network: simulated worlds, many seeds, doubles, and a contract.

    from ropewalk.testing import simulate

    @simulate(seeds=200)
    def test_every_message_arrives(simulation): ...

`seeds.py` runs one test in many worlds, `plugin.py` lets pytest do it; what a world is: `ropewalk.simulation`. `clock.py`,
`string_transport.py`, `memory_reactor.py` and `peer.py` are doubles with Twisted's names. `transport_suite.py` holds any
transport to the contract of Ropewalk's own; `transport_stage.py` is what its claims play on, `transport_claims/` the claims.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ropewalk.testing.clock import Clock
    from ropewalk.testing.memory_reactor import MemoryReactor, MemoryReactorClock
    from ropewalk.testing.peer import Peer
    from ropewalk.testing.seeds import simulate
    from ropewalk.testing.string_transport import StringTransport, StringTransportWithDisconnection
    from ropewalk.testing.transport_suite import (
        Abilities,
        TransportPair,
        TransportPairMaker,
        TransportReport,
        checkTransport,
        transportClaims,
    )

__all__ = [
    "Abilities",
    "Clock",
    "MemoryReactor",
    "MemoryReactorClock",
    "Peer",
    "StringTransport",
    "StringTransportWithDisconnection",
    "TransportPair",
    "TransportPairMaker",
    "TransportReport",
    "checkTransport",
    "simulate",
    "transportClaims",
]

_HOMES = {
    "Abilities": "transport_suite",
    "Clock": "clock",
    "MemoryReactor": "memory_reactor",
    "MemoryReactorClock": "memory_reactor",
    "Peer": "peer",
    "StringTransport": "string_transport",
    "StringTransportWithDisconnection": "string_transport",
    "TransportPair": "transport_suite",
    "TransportPairMaker": "transport_suite",
    "TransportReport": "transport_suite",
    "checkTransport": "transport_suite",
    "simulate": "seeds",
    "transportClaims": "transport_suite",
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
