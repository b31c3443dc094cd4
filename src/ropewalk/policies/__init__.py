"""Policies: layers over any factory, that keep its connections within limits. They compose: `Limit(Idle(factory, 60), 100)`.

`wrapping.py` is what a layer is: WrappingFactory and ProtocolWrapper. `timeouts.py` has Idle and Lifetime, `limits.py` how many
are connected, `rates.py`, `lane.py` and `bucket.py` bytes per second, `budget.py` bytes held in all, `traffic.py` a log of what
passes.
What Twisted has in twisted.protocols.policies has its name there here as well, where it does the same.
"""

from __future__ import annotations

from ropewalk.policies.bucket import Bucket
from ropewalk.policies.budget import Budget, Shed
from ropewalk.policies.limits import Limit, LimitTotalConnectionsFactory
from ropewalk.policies.rates import RateLimit
from ropewalk.policies.timeouts import Idle, Lifetime, TimeoutFactory, TimeoutProtocol
from ropewalk.policies.traffic import TrafficLog
from ropewalk.policies.wrapping import ProtocolWrapper, WrappingFactory

__all__ = [
    "Bucket",
    "Budget",
    "Idle",
    "Lifetime",
    "Limit",
    "LimitTotalConnectionsFactory",
    "ProtocolWrapper",
    "RateLimit",
    "Shed",
    "TimeoutFactory",
    "TimeoutProtocol",
    "TrafficLog",
    "WrappingFactory",
]
