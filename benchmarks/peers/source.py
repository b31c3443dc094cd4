"""Source: sends one stream of so many bytes, 64 KiB a write, as fast as the engine's flow control lets it.

Usage: source.py ENGINE BYTES
"""

from __future__ import annotations

import asyncio
import sys

from engines import CALLBACK_ENGINES, callback_engine, serve_callback, serve_loop

CHUNK = bytes(range(256)) * 256


def main_callback(name: str, amount: int) -> None:
    class Source(callback_engine(name).Protocol):  # type: ignore[misc]
        """A push producer: writes until it is told to pause, goes on when it is told to."""

        left = amount
        going = True

        def connectionMade(self) -> None:
            self.transport.registerProducer(self, True)
            self.resumeProducing()

        def pauseProducing(self) -> None:
            self.going = False

        def stopProducing(self) -> None:
            self.going = False

        def resumeProducing(self) -> None:
            self.going = True
            while self.going and self.left:
                chunk = CHUNK if self.left >= len(CHUNK) else CHUNK[: self.left]
                self.left -= len(chunk)
                self.transport.write(chunk)
            if not self.left:
                self.transport.unregisterProducer()

    serve_callback(name, Source)


def main_loop(name: str, amount: int) -> None:
    class Source(asyncio.Protocol):
        left = amount
        going = True

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self.transport = transport
            self.resume_writing()

        def pause_writing(self) -> None:
            self.going = False

        def resume_writing(self) -> None:
            self.going = True
            while self.going and self.left:
                chunk = CHUNK if self.left >= len(CHUNK) else CHUNK[: self.left]
                self.left -= len(chunk)
                self.transport.write(chunk)

    serve_loop(name, Source)


if __name__ == "__main__":
    start = main_callback if sys.argv[1] in CALLBACK_ENGINES else main_loop
    start(sys.argv[1], int(sys.argv[2]))
