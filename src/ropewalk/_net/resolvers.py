"""Between the engine's way of asking for names and the one users know.

The engine asks a name source: `ask(host, port, done)` returns something that can be cancelled. Users know Twisted's two
interfaces: a hostname resolver (`resolveHostName`, addresses handed to a receiver) and a simple resolver
(`getHostByName`, a Deferred with one IPv4 address). Three small adapters, each one direction.

They must never look anything up themselves.
Source: Twisted's IHostnameResolver, IResolutionReceiver, IResolverSimple.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ropewalk._loop.loop import Loop
from ropewalk._loop.timers import DelayedCall
from ropewalk._system import AddressRow
from ropewalk.words import Words

Done = Callable[[Any], None]


class Cancellable(Protocol):
    """A question under way."""

    def cancel(self) -> None: ...


class NameSource(Protocol):
    """What the engine asks for names."""

    def ask(self, host: str, port: int, done: Done, timeout: float | None = None) -> Cancellable: ...


def _row(host: str, port: int, flow: int = 0, scope: int = 0) -> AddressRow:
    """Raises: OSError, ValueError, TypeError unless the host is an address: connect(2) would look a name up, blocking."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    socket.inet_pton(family, host.partition("%")[0])
    if family == socket.AF_INET6:
        return socket.AF_INET6, socket.SOCK_STREAM, 0, "", (host, port, flow, scope)
    return socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port)


class Question:
    """One question put to a resolver of the user's; also the receiver of its answer.

    The answer is passed on in a later turn, whenever it comes: no callback before the asking call has returned.
    """

    def __init__(self, loop: Loop, name: str, done: Done) -> None:
        self._loop = loop
        self._done: Done | None = done
        self._limit: DelayedCall | None = None
        self._rows: list[AddressRow] = []
        self.name = name

    def end_after(self, timeout: float | None) -> None:
        if timeout is not None:
            self._limit = self._loop.call_later(timeout, self._pass_on, TimeoutError("no answer in time"))

    def cancel(self) -> None:
        self._done = None
        if self._limit is not None and self._limit.active():
            self._limit.cancel()

    def answer(self, result: Any) -> Any:
        self._loop.call_soon(self._pass_on, result)

    def _pass_on(self, result: Any) -> None:
        done = self._done
        self.cancel()
        if done is not None:
            done(result)

    # The receiver's side, in Twisted's names.

    def resolutionBegan(self, resolution: Any) -> None:
        """The resolver has started; it may tell addresses now."""

    def addressResolved(self, address: Any) -> None:
        """One more address: an IPv4Address or IPv6Address."""
        flow, scope = getattr(address, "flowInfo", 0), getattr(address, "scopeID", 0)
        number = int(scope) if str(scope).isdecimal() else socket.if_nametoindex(str(scope))
        self._rows.append(_row(address.host, address.port, int(flow), number))

    def resolutionComplete(self) -> None:
        """There will be no further address."""
        self.answer(self._rows)


class HostnameSource:
    """A name source over a resolver with `resolveHostName`."""

    def __init__(self, loop: Loop, resolver: Any) -> None:
        self._loop = loop
        self.resolver = resolver

    def ask(self, host: str, port: int, done: Done, timeout: float | None = None) -> Question:
        question = Question(self._loop, host, done)
        self.resolver.resolveHostName(question, host, port, None, "TCP")
        question.end_after(timeout)
        return question


class SimpleSource:
    """A name source over a resolver with `getHostByName`."""

    def __init__(self, loop: Loop, resolver: Any) -> None:
        self._loop = loop
        self.resolver = resolver

    def ask(self, host: str, port: int, done: Done, timeout: float | None = None) -> Question:
        question = Question(self._loop, host, done)
        answer = self.resolver.getHostByName(host)
        answer.addCallback(lambda address: [_row(address, port)])
        # Why a second step: an answer that is no address is a failed look-up too, not a silence.
        answer.addCallbacks(question.answer, lambda failure: question.answer(failure.value))
        question.end_after(timeout)
        return question


class Resolution:
    """One resolution under way, as users of `nameResolver` hold it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_cancelled = False
        self._question: Cancellable | None = None

    def cancel(self) -> None:
        """The receiver is told no more addresses; its `resolutionComplete` is not called."""
        self.is_cancelled = True
        if self._question is not None:
            self._question.cancel()


class NameResolver:
    """`reactor.nameResolver`: the engine's names for users, as a hostname resolver."""

    def __init__(self, ask: Callable[[str, int, Done], Cancellable], words: Words) -> None:
        self._ask = ask
        self._words = words

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type] | None = None,
        transportSemantics: str = "TCP",
    ) -> Resolution:
        """Look a name up and tell the receiver each address.

        Args:    addressTypes: those wanted, of IPv4Address and IPv6Address; None for both.
        Returns: the resolution, with `name` and `cancel()`.
        Order:   resolutionBegan before this returns; addressResolved for each and resolutionComplete later. A look-up
                 that fails completes without an address.
        Source:  IHostnameResolver.
        """
        resolution = Resolution(hostName)
        words = self._words

        def done(result: Any) -> None:
            rows = [] if isinstance(result, BaseException) else result
            for sockaddr in dict.fromkeys(tuple(row[4]) for row in rows):
                address = words.address(transportSemantics, sockaddr)
                if addressTypes is None or isinstance(address, tuple(addressTypes)):
                    resolutionReceiver.addressResolved(address)
            resolutionReceiver.resolutionComplete()

        resolutionReceiver.resolutionBegan(resolution)
        if not resolution.is_cancelled:
            resolution._question = self._ask(hostName, portNumber, done)
        return resolution
