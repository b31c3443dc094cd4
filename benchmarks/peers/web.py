"""The smallest thing wrk will talk to: one fixed answer to each GET.

Not a web server; a second opinion on echo, from a load generator that somebody else wrote.

Usage: web.py ENGINE
"""

from __future__ import annotations

import asyncio
import sys

from engines import CALLBACK_ENGINES, callback_engine, serve_callback, serve_loop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!"
LIMIT = 65536


class Requests:
    """Counts the request heads that are complete; a GET has no body."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        heads = (self.rest + data).split(b"\r\n\r\n")
        self.rest = heads.pop()
        if len(self.rest) > LIMIT or not all(head.startswith(b"GET ") for head in heads):
            raise ValueError("not a request this program answers")
        return ANSWER * len(heads)


def main_callback(name: str) -> None:
    class Web(callback_engine(name).Protocol):  # type: ignore[misc]
        def connectionMade(self) -> None:
            self.requests = Requests()

        def dataReceived(self, data: bytes) -> None:
            if answers := self.requests.feed(data):
                self.transport.write(answers)

    serve_callback(name, Web)


def main_loop(name: str) -> None:
    class Web(asyncio.Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self.transport = transport
            self.requests = Requests()

        def data_received(self, data: bytes) -> None:
            if answers := self.requests.feed(data):
                self.transport.write(answers)

    serve_loop(name, Web)


if __name__ == "__main__":
    start = main_callback if sys.argv[1] in CALLBACK_ENGINES else main_loop
    start(sys.argv[1])
