"""Descriptors for the pollers' tests, and the questions asked of a poller.

Whatever a test does to them, closing behind a socket's back included, every descriptor is given back at its
end.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from pathlib import Path

from ropewalk._loop.poller import Poller

SOON = 10.0  # Why: only an upper bound; nothing here waits for it unless it fails.


class Workshop:
    """Makes descriptors and takes them all back."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._numbers: list[int] = []

    def keep(self, *sockets: socket.socket) -> tuple[socket.socket, ...]:
        self._sockets += sockets
        for each in sockets:
            each.setblocking(False)
        return sockets

    def pair(self) -> tuple[socket.socket, socket.socket]:
        ours, theirs = self.keep(*socket.socketpair())
        return ours, theirs

    def tcp(self) -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        self.keep(ours, theirs)
        return ours, theirs

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._numbers += ends
        return ends

    def file(self, path: Path) -> int:
        path.write_bytes(b"some text")
        self._numbers.append(fd := os.open(path, os.O_RDWR))
        return fd

    def closed_number(self) -> int:
        with socket.socket() as passing:
            return passing.fileno()

    def close(self) -> None:
        for each in self._sockets:
            try:
                each.close()
            except OSError as gone:  # closed behind its back by the test
                assert gone.errno == errno.EBADF
        for fd in self._numbers:
            try:
                os.close(fd)
            except OSError as gone:
                assert gone.errno == errno.EBADF


def wait(poller: Poller, limit: int = 64) -> dict[int, int]:
    """The next rows; the contract lets a poller return without any before its time."""
    for _ in range(100):
        rows = poller.poll(SOON, limit)
        if rows:
            found = dict(rows)
            assert len(found) == len(rows), "two rows for one descriptor"
            return found
    raise AssertionError("nothing became ready")


def assert_silent(poller: Poller) -> None:
    """Nothing is reported, however often it is asked: what would make a loop spin."""
    assert [poller.poll(0, 64) for _ in range(20)] == [[]] * 20


def arrived(sock: socket.socket) -> None:
    """Until data or an end has come in, so that silence afterwards means something."""
    assert select.select([sock], [], [], SOON)[0]


def reset(ours: socket.socket, theirs: socket.socket) -> None:
    """The peer resets; returns when it has come in."""
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    table = select.poll()
    table.register(ours.fileno(), 0)
    assert table.poll(SOON * 1000)


def fill(sock: socket.socket) -> None:
    try:
        while True:
            sock.send(b"x" * 65536)
    except BlockingIOError:
        return
