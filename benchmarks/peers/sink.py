"""Sink: takes in one stream of so many bytes and answers "received" when it has them all.

Usage: sink.py ENGINE BYTES
"""

from __future__ import annotations

import asyncio
import sys

from engines import CALLBACK_ENGINES, callback_engine, serve_callback, serve_loop


def main_callback(name: str, expected: int) -> None:
    class Sink(callback_engine(name).Protocol):  # type: ignore[misc]
        left = expected

        def dataReceived(self, data: bytes) -> None:
            self.left -= len(data)
            if self.left <= 0:
                self.transport.write(b"received")

    serve_callback(name, Sink)


def main_loop(name: str, expected: int) -> None:
    class Sink(asyncio.Protocol):
        left = expected

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.left -= len(data)
            if self.left <= 0:
                self.transport.write(b"received")

    serve_loop(name, Sink)


if __name__ == "__main__":
    start = main_callback if sys.argv[1] in CALLBACK_ENGINES else main_loop
    start(sys.argv[1], int(sys.argv[2]))
