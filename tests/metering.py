"""Meters for rate limits: a layer that notes what passes and when, and how much of it is more than a rate allows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ropewalk.policies import ProtocolWrapper, WrappingFactory
from ropewalk.transport import as_pieces

# When, and how many bytes.
Rows = list[tuple[float, int]]


class Meter(ProtocolWrapper):
    """Beside a rate limit: what passes in either direction. What is written to a connection that is over does not pass."""

    def __init__(self, factory: Any, wrappedProtocol: Any) -> None:
        super().__init__(factory, wrappedProtocol)
        self.written: Rows = []
        self.came: Rows = []
        factory.meters.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.came.append((self.clock.seconds(), len(data)))
        self.wrappedProtocol.dataReceived(data)

    def write(self, data: Any) -> None:
        if data and self.transport.connected:
            self.written.append((self.clock.seconds(), len(data)))
        self.transport.write(data)

    def writeSequence(self, data: Iterable[Any]) -> None:
        for piece in as_pieces(data):
            self.write(piece)


class Metering(WrappingFactory):
    """Keeps the meter of every connection there was."""

    protocol: type[Meter] = Meter

    def __init__(self, wrappedFactory: Any) -> None:
        super().__init__(wrappedFactory)
        self.meters: list[Any] = []


def most_over(rows: Rows, rate: float) -> float:
    """The most that any window of time has carried beyond what its length allows: what a burst must cover."""
    worst, least = 0.0, 0.0
    passed = 0
    for time, count in rows:
        # Before this piece; then with it.
        least = min(least, passed - rate * time) if passed else -rate * time
        passed += count
        worst = max(worst, passed - rate * time - least)
    return worst
