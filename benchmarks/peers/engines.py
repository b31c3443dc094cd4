"""Where each benchmark program gets its engine: two families, four engines.

Ropewalk and Twisted have one API, asyncio and uvloop another. So every program here is written twice, not
four times, and both engines of a family run the very same lines: what differs in the result is the engine.

Each engine is taken as a user gets it: its own choice of poller, its own socket options, no tuning. The one
thing set for all alike is the listen backlog, so that nobody is measured dropping connection requests.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

CALLBACK_ENGINES = ("ropewalk", "twisted")
LOOP_ENGINES = ("asyncio", "uvloop")
BACKLOG = 1024
LOCAL = "127.0.0.1"
SOURCE = Path(__file__).resolve().parents[2] / "src"


class CallbackEngine(NamedTuple):
    """The names of one API that two engines share."""

    reactor: Any
    Protocol: Any
    Factory: Any
    ClientFactory: Any


def callback_engine(name: str) -> CallbackEngine:
    """Ropewalk or Twisted; Ropewalk from this tree, so that what is measured is what is being worked on."""
    if name == "ropewalk":
        sys.path.insert(0, str(SOURCE))
        ropewalk = importlib.import_module("ropewalk")
        return CallbackEngine(ropewalk.reactor, ropewalk.Protocol, ropewalk.Factory, ropewalk.ClientFactory)
    reactor = importlib.import_module("twisted.internet.reactor")
    protocol = importlib.import_module("twisted.internet.protocol")
    return CallbackEngine(reactor, protocol.Protocol, protocol.Factory, protocol.ClientFactory)


def loop_engine(name: str) -> asyncio.AbstractEventLoop:
    """A new loop of asyncio's own kind for this platform, or one of uvloop's."""
    if name == "uvloop":
        loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
        return loop
    return asyncio.new_event_loop()


def announce(port: int) -> None:
    """The harness waits for this line."""
    print("port", port, flush=True)


def serve_callback(name: str, protocol: Any) -> None:
    """Ropewalk, Twisted: serve until killed."""
    reactor, _, Factory, _ = callback_engine(name)
    port = reactor.listenTCP(0, Factory.forProtocol(protocol), backlog=BACKLOG, interface=LOCAL)
    announce(port.getHost().port)
    reactor.run()


def serve_loop(name: str, protocol: Any) -> None:
    """asyncio, uvloop: serve until killed."""
    loop = loop_engine(name)
    server = loop.run_until_complete(loop.create_server(protocol, LOCAL, 0, backlog=BACKLOG))
    announce(server.sockets[0].getsockname()[1])
    loop.run_forever()
