"""The words of the border: the classes in which the engine speaks to its users.

Failure, Deferred, the addresses and the exceptions are reached through one record that the reactor holds, so that a
bridge can hand Twisted's own classes to Twisted's users without touching the engine. Only cold paths go through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ropewalk import address, defer, error, failure


@dataclass(frozen=True, slots=True)
class Words:
    """The classes users are spoken to with.

    Args: error: a module, or anything with the exceptions' names and `getConnectError` as attributes.
    """

    Failure: Any = failure.Failure
    Deferred: Any = defer.Deferred
    IPv4Address: Any = address.IPv4Address
    IPv6Address: Any = address.IPv6Address
    error: Any = error

    def address(self, transport: str, sockaddr: tuple[Any, ...]) -> Any:
        """The address object for what the kernel gives: two items for IPv4, four for IPv6."""
        if len(sockaddr) == 2:
            return self.IPv4Address(transport, sockaddr[0], sockaddr[1])
        return self.IPv6Address(transport, *sockaddr)


WORDS = Words()
