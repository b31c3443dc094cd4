"""Proxy: what it costs to carry a message, a connection, or a gigabyte on to another server.

Ropewalk and HAProxy are run as their users run them, from a command line, in this process's place: so the harness sees the
process that it started. uvloop and asyncio run the same lines, and Twisted what it ships for this.

Usage: proxy.py ENGINE PORT      carries to 127.0.0.1:PORT
"""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import sys
import time
from typing import Any

from engines import BACKLOG, LOCAL, SOURCE, announce, callback_engine, loop_engine

# Seconds in which a program must have begun to listen.
PATIENCE = 10.0
# Source: the time-outs are those of HAProxy's own manual, and as good as none here; the rest is as it comes.
HAPROXY = """
global
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen proxy
    bind {local}:{port} backlog {backlog}
    server target {local}:{target}
"""


def main_ropewalk(port: int, target: int) -> None:
    os.environ["PYTHONPATH"] = str(SOURCE)
    words = ["-m", "ropewalk", "proxy", f"{LOCAL}:{port}", f"{LOCAL}:{target}"]
    os.execv(sys.executable, [sys.executable, *words])


def main_haproxy(port: int, target: int) -> None:
    # Why so: nothing is left of a file that has no name.
    fd = os.memfd_create("haproxy.cfg", 0)
    os.write(fd, HAPROXY.format(local=LOCAL, port=port, backlog=BACKLOG, target=target).encode())
    os.execvp("haproxy", ["haproxy", "-q", "-db", "-f", f"/dev/fd/{fd}"])


def announce_when_it_listens(port: int) -> None:
    """From a child of ours, since this process is about to become another program."""
    if os.fork():
        return
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            socket.create_connection((LOCAL, port), 1).close()
        except OSError:
            time.sleep(0.01)
        else:
            announce(port)
            break
    os._exit(0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCAL, 0))
        port: int = probe.getsockname()[1]
        return port


def main_twisted(target: int) -> None:
    reactor = callback_engine("twisted").reactor
    portforward = importlib.import_module("twisted.protocols.portforward")
    factory = portforward.ProxyFactory(LOCAL, target)
    factory.noisy = False
    portforward.ProxyClientFactory.noisy = False
    port = reactor.listenTCP(0, factory, backlog=BACKLOG, interface=LOCAL)
    announce(port.getHost().port)
    reactor.run()


def main_loop(name: str, target: int) -> None:
    loop = loop_engine(name)

    class Side(asyncio.Protocol):
        """What comes in on one side goes out on the other, no faster than that one's peer reads."""

        transport: Any = None
        other: Side | None = None
        early = b""
        has_ended = False

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            if self.other is None:
                self.early += data  # Why: uvloop does not yet pause what is being made.
            else:
                self.other.transport.write(data)

        def eof_received(self) -> bool:
            self.has_ended = True
            if self.other is None:
                return False
            if self.other.has_ended:
                self.transport.close()
                self.other.transport.close()
            else:
                self.other.transport.write_eof()
            return True

        def pause_writing(self) -> None:
            if self.other is not None:
                self.other.transport.pause_reading()

        def resume_writing(self) -> None:
            if self.other is not None:
                self.other.transport.resume_reading()

        def connection_lost(self, exc: Exception | None) -> None:
            if self.other is not None:
                self.other.transport.close() if exc is None else self.other.transport.abort()
                self.other.other = self.other = None

    class FromClient(Side):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()
            self.connecting = loop.create_task(self.connect())

        async def connect(self) -> None:
            _, target_side = await loop.create_connection(Side, LOCAL, target)
            if self.transport.is_closing():
                target_side.transport.abort()
                return
            self.other, target_side.other = target_side, self
            target_side.transport.write(self.early)
            self.transport.resume_reading()

    server = loop.run_until_complete(loop.create_server(FromClient, LOCAL, 0, backlog=BACKLOG))
    announce(server.sockets[0].getsockname()[1])
    loop.run_forever()


def main(name: str, target: int) -> None:
    if name == "twisted":
        main_twisted(target)
    elif name in ("asyncio", "uvloop"):
        main_loop(name, target)
    else:
        port = free_port()
        announce_when_it_listens(port)
        (main_haproxy if name == "haproxy" else main_ropewalk)(port, target)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
