"""Ropewalk: an event-driven network engine. Reactor, connectors, factories, protocols, transports: Twisted's model.

    from ropewalk import reactor, ClientFactory, Protocol

The public names, by topic. `reactor` is the default Reactor, made at first use: importing opens nothing. Modules such as
`ropewalk.error`, `ropewalk.defer` and `ropewalk.address` hold the rest of Twisted's names.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

# Running
from ropewalk import address, defer, error, failure, protocol
from ropewalk._net.options import TCPOptions

# What users hold
from ropewalk.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress

# Results that come later
from ropewalk.defer import Deferred, fail, maybeDeferred, succeed
from ropewalk.engine import Reactor

# Seen from outside
from ropewalk.event import Attempt, Drained, Ended, EndedBy, Event, Step
from ropewalk.failure import Failure

# What users subclass
from ropewalk.protocol import ClientFactory, Factory, Protocol, ReconnectingClientFactory, ServerFactory

if TYPE_CHECKING:
    from ropewalk.endpoints import clientFromString, connectProtocol, serverFromString
    from ropewalk.observe import Recorder, Tracer, explain
    from ropewalk.serving import serve

    # Why not in __all__: `from ropewalk import *` must not take Python's own away.
    from ropewalk.streams import open as open

    # Why not in __all__: the star would make it, and with it its descriptors.
    reactor: Reactor

__version__ = "0.1.0"

__all__ = [
    "Attempt",
    "ClientFactory",
    "Deferred",
    "Drained",
    "Ended",
    "EndedBy",
    "Event",
    "Factory",
    "Failure",
    "HostnameAddress",
    "IPv4Address",
    "IPv6Address",
    "Protocol",
    "Reactor",
    "ReconnectingClientFactory",
    "Recorder",
    "ServerFactory",
    "Step",
    "TCPOptions",
    "Tracer",
    "UNIXAddress",
    "address",
    "clientFromString",
    "connectProtocol",
    "defer",
    "error",
    "explain",
    "fail",
    "failure",
    "maybeDeferred",
    "protocol",
    "serve",
    "serverFromString",
    "succeed",
]

_first_use = threading.Lock()
# What is imported at first use, and from where. Why: importing ropewalk stays cheap.
_LATER = {
    "Recorder": "observe",
    "Tracer": "observe",
    "clientFromString": "endpoints",
    "connectProtocol": "endpoints",
    "explain": "observe",
    "open": "streams",
    "serve": "serving",
    "serverFromString": "endpoints",
}


def __getattr__(name: str) -> Any:
    """What is made or imported at first use: the default reactor, and what is built on the engine."""
    if name == "reactor":
        with _first_use:
            # Why asked again: another thread may have made it while this one waited.
            if "reactor" not in globals():
                globals()["reactor"] = Reactor()
        return globals()["reactor"]
    home = _LATER.get(name)
    if home is not None:
        from importlib import import_module

        return getattr(import_module(f"ropewalk.{home}"), name)
    raise AttributeError(f"module 'ropewalk' has no attribute {name!r}")
