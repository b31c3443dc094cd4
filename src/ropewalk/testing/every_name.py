"""A resolver that knows every name, at once, for tests in which names do not matter.

It has the interface that users know (`resolveHostName`, addresses handed to a receiver), since a test may put another one in
its place, and may ask it directly. It must never look anything up.
Source: IHostnameResolver; the one address is what Twisted's MemoryReactor gives too.
"""

from __future__ import annotations

from typing import Any

from ropewalk.address import IPv4Address


class EveryName:
    """A resolver that knows every name, at once: 127.0.0.1."""

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Tell the receiver, and be done. Source: IHostnameResolver."""
        resolution = Resolved(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        resolutionReceiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution


class Resolved:
    """A resolution that is over before anybody could cancel it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Nothing: it is over."""
