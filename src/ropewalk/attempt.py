"""One connection that is kept by somebody: from asking for it to its loss, with one word when it is made and one when it is over.

An Attempt asks an endpoint to connect, lets the connection be prepared, and then knows when it is lost. Whatever happens, its
keeper is told `made` at most once and `ended` exactly once, and after `ended` nothing of it is open. ClientService (service.py)
and Pool (pool.py) are such keepers.

How the loss is noticed: the endpoint is given a `Watching` factory, whose protocols are `Watched`: a stand-in that has
`makeConnection` and `connectionLost`, and of all else what the user's protocol has at that moment.
Rejected: looking at `transport.connected` from time to time. It comes too late, and who closes has to know when it is closed.
Rejected: putting a `connectionLost` on the user's object. It fails with `__slots__`, and leaves a circle.
Rejected: taking the stand-in away after connecting, as connecting.py does. Nobody would hear of the loss then; and an endpoint
over an endpoint has no connector of its own to ask. The price is one look-up in Python for each read.

It must never know what kind of endpoint it is, nor when to try again.
Source: twisted.application.internet, which wraps in this manner. Different on purpose: a connection that is lost while it is
prepared counts as failed, and one whose preparing fails is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ropewalk.defer import Deferred
from ropewalk.failure import Failure
from ropewalk.task import currentReactor
from ropewalk.task.later import resultOf

__all__ = ["Attempt", "Keeper", "Watched", "Watching", "clockOf"]

Prepare = Callable[[Any], object]


class Keeper(Protocol):
    """Who keeps an Attempt."""

    def made(self, attempt: Attempt, /) -> None:
        """It is connected and prepared."""

    def ended(self, attempt: Attempt, reason: Failure, /) -> None:
        """It came to nothing, or is lost; nothing of it is open."""


def clockOf(endpoint: Any) -> Any:
    """The endpoint's reactor; of one that names none, `currentReactor`."""
    reactor = getattr(endpoint, "reactor", None)
    return currentReactor() if reactor is None else reactor


class Attempt:
    """One connection, for its keeper.

    Args:   endpoint: where to; asked once.
            factory: the user's.
            prepare: called with the protocol when it is connected; may return an awaitable. If that fails, the attempt has.
            keeper: told `made` and `ended`, never from within `__init__`.
    """

    __slots__ = (
        "_connecting",
        "_is_cancelled",
        "_keeper",
        "_preparing",
        "_reason",
        "_watched",
        "is_open",
        "protocol",
    )

    def __init__(self, keeper: Keeper) -> None:
        self._keeper: Keeper | None = keeper
        # The user's protocol, from `made` until `ended` has returned.
        self.protocol: Any = None
        self._connecting: Deferred[Any] | None = None
        self._preparing: Deferred[Any] | None = None
        # The stand-in, while its connection is open.
        self._watched: Watched | None = None
        # Whether the connection is there. Why beside `made` and `ended`: while the user's connectionLost runs, it is not any
        # more, and the keeper does not know; whoever awaited an answer goes on just then, and may ask for a connection.
        self.is_open = False
        # Why it ends, once that is known; the first reason counts.
        self._reason: Failure | None = None
        self._is_cancelled = False

    def start(self, endpoint: Any, factory: Any, prepare: Prepare | None = None) -> None:
        """Ask for the connection. The keeper may be told before this returns."""
        try:
            connecting = endpoint.connect(Watching(factory, self))
        except Exception:
            self._fails(Failure())
            return
        self._connecting = connecting
        connecting.addCallbacks(self._connected, self._failed, callbackArgs=(prepare,))

    def cancel(self) -> None:
        """Give everything back; the keeper is told `ended`, as a rule before this returns."""
        self._is_cancelled = True
        waited = self._connecting or self._preparing
        if waited is not None:
            waited.cancel()
        elif self._watched is not None:
            self._watched.transport.abortConnection()

    def close(self) -> None:
        """Close in order what is connected; the keeper is told `ended` when it is closed."""
        if self._watched is not None:
            self._watched.transport.loseConnection()

    # ---- what the stand-in tells ------------------------------------------------------------------------------

    def opened(self, watched: Watched) -> None:
        self._watched = watched
        self.is_open = True

    def about_to_be_lost(self) -> None:
        self.is_open = False

    def lost(self, reason: Failure) -> None:
        self._watched = None
        preparing, self._preparing = self._preparing, None
        self._reason = self._reason or reason
        if preparing is not None:
            preparing.cancel()
        # Why not else: connectionMade has raised, and the endpoint will tell so.
        if self._connecting is None:
            self._end()

    # ---- what the endpoint and the preparing tell -------------------------------------------------------------

    def _connected(self, watched: Watched, prepare: Prepare | None) -> None:
        self._connecting = None
        if self._watched is None:
            self._end()
        elif self._is_cancelled:
            # Why: an endpoint need not be able to cancel.
            watched.transport.abortConnection()
        elif prepare is None:
            self._made(None, watched)
        else:
            preparing = resultOf(prepare, watched.protocol)
            if not preparing.called:
                self._preparing = preparing
            preparing.addCallbacks(self._made, self._unprepared, callbackArgs=(watched,))

    def _made(self, _: object, watched: Watched) -> None:
        self._preparing = None
        keeper = self._keeper
        if self._watched is None or keeper is None:
            return  # lost meanwhile, and told
        if self._is_cancelled:
            watched.transport.abortConnection()
            return
        self.protocol = watched.protocol
        keeper.made(self)

    def _unprepared(self, reason: Failure) -> None:
        self._preparing = None
        if self._keeper is not None:
            self._fails(reason)

    def _failed(self, reason: Failure) -> None:
        self._connecting = None
        # Why it wins: what connectionMade raised is said better by the endpoint than by the loss.
        self._reason = None
        self._fails(reason)

    def _fails(self, reason: Failure) -> None:
        self._reason = self._reason or reason
        if self._watched is None:
            self._end()
        else:
            self._watched.transport.abortConnection()

    def _end(self) -> None:
        keeper, self._keeper = self._keeper, None
        reason, self._reason = self._reason, None
        if keeper is not None:
            assert reason is not None
            keeper.ended(self, reason)
        # Why: the connector may live on, and knows this by its factory.
        self.protocol = None


class Watching:
    """The factory that the endpoint knows; in all but `buildProtocol` it is the user's."""

    def __init__(self, factory: Any, attempt: Attempt) -> None:
        self._factory = factory
        self._attempt = attempt

    def buildProtocol(self, addr: Any) -> Any:
        protocol = self._factory.buildProtocol(addr)
        return None if protocol is None else Watched(protocol, self._attempt)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._factory, name)

    def __repr__(self) -> str:
        return repr(self._factory)


class Watched:
    """The stand-in of a user's protocol, that tells an Attempt when it is connected and lost."""

    __slots__ = ("_attempt", "protocol", "transport")

    def __init__(self, protocol: Any, attempt: Attempt) -> None:
        self.protocol = protocol
        self.transport: Any = None
        self._attempt: Attempt | None = attempt

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        if self._attempt is not None:
            self._attempt.opened(self)
        self.protocol.makeConnection(transport)

    def connectionLost(self, reason: Failure) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.about_to_be_lost()
        try:
            self.protocol.connectionLost(reason)
        finally:
            if attempt is not None:
                attempt.lost(reason)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.protocol, name)

    def __repr__(self) -> str:
        return repr(self.protocol)
