"""What a type checker must conclude about the doubles of tests; mypy reads this file, nothing runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ropewalk import ClientFactory, IPv4Address, IPv6Address, Protocol
from ropewalk.testing import (
    Clock,
    MemoryReactorClock,
    Peer,
    StringTransport,
    StringTransportWithDisconnection,
)

if TYPE_CHECKING:
    from typing import assert_type

    from ropewalk._loop.timers import DelayedCall
    from ropewalk.interfaces import IReactorTime


def clocks(clock: Clock) -> IReactorTime:
    assert_type(clock.callLater(1, print, "one", end=""), DelayedCall)
    assert_type(clock.getDelayedCalls(), list[DelayedCall])
    assert_type(clock.rightNow, float)
    clock.pump([1, 0.5])
    return clock


def transports(protocol: Protocol) -> None:
    transport = StringTransport(IPv4Address("TCP", "192.0.2.1", 1))
    protocol.makeConnection(transport)
    assert_type(transport.value(), bytes)
    assert_type(StringTransportWithDisconnection().streaming, bool | None)
    transport.write("text")  # type: ignore[arg-type]


def reactors(factory: ClientFactory[Protocol]) -> IReactorTime:
    reactor = MemoryReactorClock()
    reactor.connectTCP("example.com", 25, factory)
    assert_type(reactor.acceptClient(), tuple[Any, Peer])
    assert_type(reactor.dialServer(25, ("192.0.2.1", 1)), tuple[Any, Peer])
    _, peer = reactor.acceptClient(0)
    assert_type(peer.getHost(), IPv4Address | IPv6Address)
    assert_type(peer.wasReset, bool)
    peer.deliver(bytearray(b"one"), 1)
    return reactor
