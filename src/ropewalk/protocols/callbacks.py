"""Whom the protocols of this room may still tell anything, and what they say to one that does not listen.

Rule: who has asked to close or to abort, or whose connection has ended, is told nothing more. Why: the engine holds it so for
  whole reads, and how messages are spread over reads is the network's doing.
It must never know what is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ropewalk.interfaces import ITransport

# Of a transport's states those in which nobody is told anything any more.
_OVER = frozenset({"closing", "aborting", "closed"})


def is_over(transport: ITransport | None) -> bool:
    """Whether a transport's protocol is to be told nothing more."""
    # hot: once for each message. Why getattr: other engines' transports, and doubles of tests, have no `state`.
    return transport is not None and (transport.disconnecting or getattr(transport, "state", None) in _OVER)


def not_overridden(protocol: object, method: str) -> RuntimeError:
    """What a callback raises that the subclass was to override. Why not silence: it would be a connection that hears nothing."""
    return RuntimeError(f"{type(protocol).__name__} receives something and does not override {method}")
