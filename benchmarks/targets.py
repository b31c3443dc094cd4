"""What is to be reached, as data: one entry for each figure of the project's mark, and the verdict on it.

A ratio is always Ropewalk's figure over the other's, of one round, and of the rounds the median (summary.py). Rates
have to be at least so many times the other's, times and memory at most. Absolute marks (latency, bytes, CPU while
idle) have no other: the median.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OURS = "ropewalk"

# case → peer → metric → median, or Ropewalk's ratio to that peer
Figures = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True)
class Target:
    """One figure to reach: `case`'s `metric`, against `peer` (None: against the number itself)."""

    case: str
    metric: str
    relation: str  # "≥" or "≤"
    bound: float
    peer: str | None = None
    unit: str = ""

    def words(self) -> str:
        return f"{self.relation} {self.bound:g} {'× ' + self.peer if self.peer else self.unit}".strip()


@dataclass(frozen=True)
class Verdict:
    target: Target
    value: float | None  # the ratio, or the figure; None: one of the two was not measured
    reached: bool | None


def judge(target: Target, medians: Figures, ratios: Figures) -> Verdict:
    """Compares one target with what was measured."""
    found, peer = (medians, OURS) if target.peer is None else (ratios, target.peer)
    value = found.get(target.case, {}).get(peer, {}).get(target.metric)
    if value is None:
        return Verdict(target, None, None)
    reached = value >= target.bound if target.relation == "≥" else value <= target.bound
    return Verdict(target, value, reached)


def _rates(case: str, **bounds: float) -> list[Target]:
    return [Target(case, "rate", "≥", bound, peer) for peer, bound in bounds.items()]


TARGETS: tuple[Target, ...] = (
    *_rates("echo-100-64", uvloop=1.0, twisted=2.2, asyncio=4.0, c=0.8),
    *_rates("echo-100-1024", uvloop=1.0, twisted=2.2, asyncio=4.0, c=0.8),
    *_rates("echo-100-16384", uvloop=1.0, twisted=2.2, asyncio=4.0, c=0.8),
    *_rates("echo-1000-1024", uvloop=1.0, twisted=2.0),
    Target("echo-1000-1024", "p999_us", "≤", 30_000, None, "µs"),
    Target("echo-1000-1024", "p999_us", "≤", 1.0, "twisted"),
    *_rates("echo-4000-1024", uvloop=1.0, twisted=2.0),
    *_rates("stream-upload", uvloop=1.0, twisted=2.0),
    *_rates("stream-download", uvloop=1.0, twisted=2.0),
    *_rates("churn", uvloop=0.9, twisted=1.5),
    *_rates("connect", twisted=1.5, asyncio=1.0),
    Target("idle", "bytes", "≤", 1300, None, "B each"),
    Target("idle", "idle_cpu", "≤", 0.005, None, "s"),
    Target("timers-set", "seconds", "≤", 0.5, "twisted"),
    Target("timers-set", "seconds", "≤", 1.0, "asyncio"),
    Target("timers-chain", "seconds", "≤", 0.5, "twisted"),
    Target("timers-chain", "seconds", "≤", 1.0, "asyncio"),
    *_rates("threads", twisted=2.0),
    Target("deferreds-callbacks", "seconds", "≤", 1.0, "twisted"),
    Target("deferreds-inline", "seconds", "≤", 1.0, "twisted"),
    Target("deferreds-inline-fired", "seconds", "≤", 1.0, "twisted"),
    Target("deferreds-await", "seconds", "≤", 1.0, "twisted"),
    Target("deferreds-await-fired", "seconds", "≤", 1.0, "twisted"),
    *_rates("resp-1", twisted=1.5),
    *_rates("resp-16", twisted=1.5),
    Target("simulation", "rate", "≥", 50_000, None, "events/s"),
)
