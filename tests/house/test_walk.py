"""Invariant: the way from connectTCP to connectionMade, for a literal address, can be followed: at most 30 calls of our own
functions in at most 8 of our files (Twisted: 79 calls, 11 modules, 46 changes of file).

Counted are calls of Python functions defined under `ropewalk`, from the call of connectTCP to the call of the user's
connectionMade, on the reactor's thread; the turns of the loop in between count as well.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import FrameType

import ropewalk
from ropewalk import ClientFactory, Protocol, Reactor

ROOT = str(Path(ropewalk.__file__).parent)
MOST_CALLS = 30
MOST_FILES = 8


def the_walk(reactor: Reactor) -> list[tuple[str, str]]:
    """(file, function) of every call on the way."""
    seen: list[tuple[str, str]] = []

    def watch(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(ROOT):
            code = frame.f_code
            seen.append((code.co_filename[len(ROOT) + 1 :], code.co_qualname))

    class Client(Protocol):
        def connectionMade(self) -> None:
            sys.setprofile(None)
            self.transport.abortConnection()

        def connectionLost(self, reason: object) -> None:
            reactor.stop()

    # Why: a port of this very reactor would be called in between; the kernel's queue is peer enough.
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()
    factory = ClientFactory.forProtocol(Client)
    factory.noisy = False

    def go() -> None:
        sys.setprofile(watch)
        reactor.connectTCP(host, port, factory)

    reactor.callWhenRunning(go)
    reactor.run()
    listener.close()
    return seen


def test_connectTCP_to_connectionMade_is_a_walk_through_six_rooms(reactor: Reactor) -> None:
    walk = the_walk(reactor)
    told = "\n".join(f"{number:3} {file:24} {function}" for number, (file, function) in enumerate(walk, 1))
    assert len(walk) <= MOST_CALLS, told
    assert len({file for file, _ in walk}) <= MOST_FILES, told
