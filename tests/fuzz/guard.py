"""The judge's own layers: a Guard inside all others, next to the protocol, and a Door outside each Limit.

What is promised through layers is looked at from here, by what passes and when; the layers between are never looked into.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ropewalk.event import EndedBy
from ropewalk.failure import Failure
from ropewalk.policies import Limit, ProtocolWrapper, WrappingFactory
from ropewalk.transport import as_pieces
from tests.metering import Meter, Metering, Rows

if TYPE_CHECKING:
    from tests.fuzz.layers import Stack

# Seconds. A float that was added up may be this much off.
CLOSE = 1e-6


# ---- what others ask ----------------------------------------------------------------------------------------------


def bottom_of(transport: Any) -> Any:
    """The transport under all layers."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def inside_of(factory: Any) -> Any:
    """The factory inside all layers."""
    while isinstance(factory, WrappingFactory):
        factory = factory.wrappedFactory
    return factory


def guard_of(transport: Any) -> Guard | None:
    """The judge's own layer, if there are layers."""
    return transport if isinstance(transport, Guard) else None


def is_explained(transport: Any) -> bool:
    """Whether a layer says more of an end than the transport itself."""
    return bool(transport.ended != bottom_of(transport).ended)


def is_held_back(transport: Any) -> bool:
    """Whether a layer holds what was written, and the transport has none of it: then its close deadline stands still."""
    return bool(transport.bytesBuffered) and not bottom_of(transport).bytesBuffered


# ---- the judge's layers -------------------------------------------------------------------------------------------


class Guard(Meter):
    """Inside all others, next to the protocol: looks whether what is promised is kept."""

    made_at = 0.0
    lost_at: float | None = None
    is_made = is_shed = False
    # The transport's, which outlives the connection.
    number = 0
    peer = ""

    def __init__(self, factory: Any, wrappedProtocol: Any) -> None:
        super().__init__(factory, wrappedProtocol)
        self.stack: Stack = factory.stack
        # Bytes that the protocol has written in all, also when nobody took them any more; when it did, or got something.
        self.asked = 0
        self.active: list[float] = []

    def connectionMade(self) -> None:
        self.made_at, self.is_made = self.clock.seconds(), True
        self.number, self.peer = self.transport.number, self.transport.getPeer().host
        self.stack.check_made(self)

    def dataReceived(self, data: bytes) -> None:
        self.active.append(self.clock.seconds())
        super().dataReceived(data)

    def write(self, data: Any) -> None:
        self._write(self.transport.write, data, len(data))

    def writeSequence(self, data: Iterable[Any]) -> None:
        pieces = as_pieces(data)
        self._write(self.transport.writeSequence, pieces, sum(map(len, pieces)))

    def _write(self, write: Callable[[Any], None], data: Any, count: int) -> None:
        layers = self.stack.layers
        self.active.append(self.clock.seconds())
        self.asked += count
        layers.writing += 1
        try:
            write(data)
        finally:
            layers.writing -= 1
        # Why only the outermost: whoever is called back from within a write may write, before that is counted.
        if not layers.writing:
            self.stack.check_wrote(self)

    def connectionLost(self, reason: Failure) -> None:
        self.lost_at, self.is_made = self.clock.seconds(), False
        self.stack.check_lost(self, self.lost_at)
        super().connectionLost(reason)

    def has_reason(self, words: str | None) -> bool:
        """Whether a layer has ended it; rightly, and with these words, if any came through."""
        return any(words in (None, each) for each in self._reasons()) or self._is_shed(words)

    def _reasons(self) -> Iterator[str]:
        """The words of each that had reason to close it."""
        assert self.lost_at is not None
        times = [self.made_at, *self.active, self.lost_at]
        longest = max(after - before for before, after in itertools.pairwise(times))
        for seconds in self.stack.idles:
            if longest >= seconds - CLOSE:
                yield f"idle for {seconds:g} s"
        for seconds in self.stack.lifetimes:
            if self.lost_at - self.made_at >= seconds - CLOSE:
                yield f"its lifetime of {seconds:g} s is over"

    def _is_shed(self, words: str | None) -> bool:
        found = re.fullmatch(r"held (\d+) of the (\d+) bytes that wait to be sent, (\d+) may", words or "")
        if found is None:
            return False
        held, total, most = map(int, found.groups())
        return held <= total > most and most in [budget.most for budget in self.stack.budgets]


class Guarding(Metering):
    protocol = Guard

    def __init__(self, stack: Stack, factory: Any) -> None:
        super().__init__(factory)
        self.stack = stack


class Door(WrappingFactory):
    """Outside a Limit: whoever is refused by it, is so for want of room."""

    def __init__(self, stack: Stack, limit: Limit) -> None:
        super().__init__(limit)
        self.stack = stack
        self.limit = limit

    def buildProtocol(self, addr: Any) -> Any:
        before = self.limit.refused
        peers = Counter(guard.peer for guard in self.stack.made())
        protocol = self.limit.buildProtocol(addr)
        if self.limit.refused != before:
            is_full = self.limit.most is not None and peers.total() >= self.limit.most
            is_full |= self.limit.perPeer is not None and peers[addr.host] >= self.limit.perPeer
            self.stack.world.check(is_full, self.limit, f"refused {addr}, and {peers} are connected")
        return protocol


def passed_on(meter: Meter) -> Rows:
    """What a transport was given to send. What crosses a hard limit, or comes when it was aborted, it throws away at once."""
    ended = meter.ended
    has_refused = ended is not None and (
        ended.by is EndedBy.US_ABORTED or "hard limit" in (ended.error or "")
    )
    return [row for row in meter.written if not (has_refused and row[0] == meter.written[-1][0])]
