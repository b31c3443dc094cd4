"""Limits on how many are connected at once: in all, and from one peer.

Who is one too many is refused: the connection is closed before a protocol is built, which costs one accept and one close. What
is counted are the layers that are connected, so nothing can be counted twice or for ever.

Rejected: holding accept, by pausing the port. The kernel's queue is one for all peers, so a limit for each peer could not be
kept that way, and the factory would have to know its ports. `ropewalk.serve` does it, where the limit is the server's own.
Source: twisted.protocols.policies: LimitTotalConnectionsFactory, which is here under its name, and LimitConnectionsByPeer.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from ropewalk.policies.wrapping import ProtocolWrapper, WrappingFactory, checked_count
from ropewalk.protocol import ServerFactory

__all__ = ["Limit", "LimitTotalConnectionsFactory"]

log = logging.getLogger("ropewalk")


def _peer(addr: Any) -> Any:
    """Whom an address belongs to, whatever its port."""
    return getattr(addr, "host", addr)


class Limit(WrappingFactory):
    """Refuse connections beyond a limit.

    Args:   wrappedFactory: any factory.
            most: how many at once; None for any number.
            perPeer: how many at once from one address; None for any number.
    Source: HAProxy's maxconn and nginx's limit_conn.
    """

    def __init__(self, wrappedFactory: Any, most: int | None = None, perPeer: int | None = None) -> None:
        super().__init__(wrappedFactory)
        if most is None and perPeer is None:
            raise ValueError("a limit needs `most`, `perPeer`, or both")
        self.most = None if most is None else checked_count("most", most, "connections")
        self.perPeer = None if perPeer is None else checked_count("perPeer", perPeer, "connections")
        # How many were refused so far.
        self.refused = 0
        self._peers: Counter[Any] = Counter()

    def buildProtocol(self, addr: Any) -> Any:
        is_full = self.most is not None and len(self.protocols) >= self.most
        if is_full or (self.perPeer is not None and self._peers[_peer(addr)] >= self.perPeer):
            self.refused += 1
            log.debug("%r refuses %r: %d are connected", self, addr, len(self.protocols))
            return None
        return super().buildProtocol(addr)

    def registerProtocol(self, p: ProtocolWrapper) -> None:
        super().registerProtocol(p)
        self._peers[_peer(p.getPeer())] += 1

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        super().unregisterProtocol(p)
        peer = _peer(p.getPeer())
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]


class LimitTotalConnectionsFactory(ServerFactory[Any]):
    """A factory with a limit of its own, and perhaps a protocol for those beyond it.

    Set `protocol`, `connectionLimit` and perhaps `overflowProtocol`; who is beyond the limit gets the latter, or is refused.
    Source: twisted.protocols.policies.LimitTotalConnectionsFactory.
    """

    connectionCount = 0
    connectionLimit: int | None = None
    overflowProtocol: Callable[[], Any] | None = None

    def buildProtocol(self, addr: Any) -> Any:
        kind = self.protocol
        if self.connectionLimit is not None and self.connectionCount >= self.connectionLimit:
            kind = self.overflowProtocol
            if kind is None:
                return None
        if kind is None:
            return super().buildProtocol(addr)
        made = kind()
        made.factory = self
        return ProtocolWrapper(self, made)

    def registerProtocol(self, p: ProtocolWrapper) -> None:
        """A connection is made."""
        self.connectionCount += 1

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        """It has ended."""
        self.connectionCount -= 1
