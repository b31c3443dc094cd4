"""What tests need, built on the public API; it needs no test framework.

    from ropewalk.testing import checkTransport

`transport_suite` holds any transport to the contract of Ropewalk's own; `transport_stage` is what its claims play on, and
`transport_claims` are the claims.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    "TransportPair",
    "TransportPairMaker",
    "TransportReport",
    "checkTransport",
    "transportClaims",
]

_HOMES = dict.fromkeys(__all__, "transport_suite")


def __getattr__(name: str) -> Any:
    """Each name from its file at first use. Why: who needs one of the tools should not load the others."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ropewalk.testing' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"ropewalk.testing.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
