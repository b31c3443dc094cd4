"""Echo: what a message costs. Also serves the churn and the idle rows.

Usage: echo.py ENGINE
"""

from __future__ import annotations

import asyncio
import sys

from engines import CALLBACK_ENGINES, callback_engine, serve_callback, serve_loop


def main_callback(name: str) -> None:
    class Echo(callback_engine(name).Protocol):  # type: ignore[misc]
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(data)

    serve_callback(name, Echo)


def main_loop(name: str) -> None:
    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    serve_loop(name, Echo)


if __name__ == "__main__":
    start = main_callback if sys.argv[1] in CALLBACK_ENGINES else main_loop
    start(sys.argv[1])
