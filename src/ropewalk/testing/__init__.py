"""What tests of programs and of transports need, built on the public API; it needs no test framework.

    from ropewalk.testing import checkTransport

`transport_suite` holds any transport to what Ropewalk's own promise; `transport_stage` is what its claims play on, and
`transport_claims` are the claims.
"""

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
