"""A byte budget: what connections may hold together, and who goes when it is not enough.

Each connection holds what was written to it and has not left, whether the transport has it or a layer. When all of them
together hold more than the budget, the one that holds most is aborted, and so on until it fits again: those who read keep
their connections, those who do not lose theirs.
One Budget for one factory is a budget per listener; the same one for all factories is a budget per process.

Nobody tells when a kernel has taken bytes, and asking every connection at every write would cost too much. So a budget keeps a
sum that is never too small: what was held when it last asked everyone, and all that was written since. Only when that sum is
beyond the budget it asks again. How often that is depends on how far below the budget they are, not on how many bytes pass.

It must never know why a connection is slow. Source: Linux's tcp_mem and its out-of-memory killer, which choose alike.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from ropewalk.failure import Failure
from ropewalk.policies.wrapping import ProtocolWrapper, WrappingFactory, checked_count

__all__ = ["Budget", "Shed", "ShedProtocol"]

log = logging.getLogger("ropewalk")


class Budget:
    """Bytes that connections may hold together.

    Args:   most: bytes.
    Raises: TypeError, ValueError for what is no whole number, 1 or more.
    """

    def __init__(self, most: int) -> None:
        self.most = checked_count("most", most, "bytes")
        # How many connections were shed so far.
        self.shed = 0
        self._holders: dict[ShedProtocol, None] = {}
        self._at_most = 0

    @property
    def held(self) -> int:
        """What they hold just now; asks every one."""
        return sum(each.holds for each in self._holders)

    def join(self, holder: ShedProtocol) -> None:
        self._holders[holder] = None

    def leave(self, holder: ShedProtocol) -> None:
        del self._holders[holder]

    def wrote(self, count: int) -> None:
        """So many bytes more may be held now."""
        self._at_most += count
        if self._at_most > self.most:
            self._ask()

    def _ask(self) -> None:
        held = {each: each.holds for each in self._holders}
        total = sum(held.values())
        while total > self.most:
            greediest = max(held, key=held.__getitem__)
            holds = held.pop(greediest)
            self.shed += 1
            why = f"held {holds} of the {total} bytes that wait to be sent, {self.most} may"
            log.warning("%r is aborted: it %s", greediest, why)
            greediest.abortFor(why)
            total -= holds
        self._at_most = total

    def __repr__(self) -> str:
        return f"<Budget {self.most} bytes, {len(self._holders)} connections>"


class ShedProtocol(ProtocolWrapper):
    """One connection that counts."""

    _is_aborted = False

    @property
    def holds(self) -> int:
        """Bytes that were written and have not left; once it is aborted, none."""
        return 0 if self._is_aborted else int(self.bytesBuffered) + self.heldInside

    def connectionMade(self) -> None:
        self.factory.budget.join(self)

    def connectionLost(self, reason: Failure) -> None:
        self.factory.budget.leave(self)
        super().connectionLost(reason)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.transport.write(data)
        self.factory.budget.wrote(memoryview(data).nbytes)

    def writeSequence(self, data: Iterable[bytes | bytearray | memoryview]) -> None:
        before = self.bytesBuffered
        self.transport.writeSequence(data)
        self.factory.budget.wrote(max(0, self.bytesBuffered - before))

    def stirInside(self, held: int) -> None:
        super().stirInside(held)
        self.factory.budget.wrote(held)

    def abortConnection(self) -> None:
        self._is_aborted = True
        self.transport.abortConnection()


class Shed(WrappingFactory):
    """Abort the connections that hold most, when all together hold too much.

    Args:   wrappedFactory: any factory.
            budget: bytes for the connections of this factory; or a Budget, for those of every factory that has the same.
    Fails:  the protocol's connectionLost, with ConnectionAborted whose text says how much it held of how much.
    """

    protocol = ShedProtocol

    def __init__(self, wrappedFactory: Any, budget: int | Budget) -> None:
        super().__init__(wrappedFactory)
        self.budget = budget if isinstance(budget, Budget) else Budget(budget)
