"""A minimal RESP server: PING, alone or pipelined, inline or as an array; what redis-benchmark speaks.

The reader is shared by all engines and is fed whatever arrived, so a command cut anywhere is put together and
sixteen in one read are answered in one write (the first write of a read leaves at once in some engines and at
the end of it in others; one write is the best use of both).

Usage: resp.py ENGINE
"""

from __future__ import annotations

import asyncio
import sys

from engines import CALLBACK_ENGINES, callback_engine, serve_callback, serve_loop

LIMIT = 65536
COUNTS = {b"*%d" % number: number for number in range(1, 65)}
LENGTHS = {b"$%d" % number: number for number in range(1025)}


class Commands:
    """Bytes in, replies out."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Returns the replies to every command that is complete now."""
        if self.rest:
            data = self.rest + data
        commands = read_plain(data)
        if commands is not None:
            self.rest = b""
            return b"".join([answer(words) for words in commands])
        replies = []
        at = 0
        while at < len(data):
            words, end = read_array(data, at) if data[at] == 42 else read_inline(data, at)
            if end < 0:
                break
            at = end
            replies.append(answer(words))
        self.rest = data[at:]
        if len(self.rest) > LIMIT:
            raise ValueError("command too long")
        return b"".join(replies)


def read_plain(data: bytes) -> list[list[bytes]] | None:
    """Whole arrays of short words without a line break in them, all at once; None if there is anything else.

    Why a second reader: nearly every read is of this kind, and the less the program costs, the more of what is
    measured is the engine. Every count and every length is still checked.
    """
    lines = data.split(b"\r\n")
    if lines.pop():
        return None
    commands = []
    at = 0
    while at < len(lines):
        count = COUNTS.get(lines[at])
        if count is None:
            return None
        end = at + 1 + 2 * count
        words = lines[at + 2 : end : 2]
        if [LENGTHS.get(head) for head in lines[at + 1 : end : 2]] != [len(word) for word in words]:
            return None
        commands.append(words)
        at = end
    return commands if at == len(lines) else None


def read_inline(data: bytes, at: int) -> tuple[list[bytes], int]:
    """One line of words. The second value is where the next command starts, -1 if this one is cut."""
    end = data.find(b"\n", at)
    return ([], -1) if end < 0 else (data[at:end].split(), end + 1)


def read_array(data: bytes, at: int) -> tuple[list[bytes], int]:
    """`*2\\r\\n$4\\r\\nPING\\r\\n$2\\r\\nhi\\r\\n`: lengths rule, so a word may hold any byte."""
    end = data.find(b"\r\n", at)
    if end < 0:
        return [], -1
    words: list[bytes] = []
    for _ in range(int(data[at + 1 : end])):
        start = end + 2
        end = data.find(b"\r\n", start)
        if end < 0:
            return [], -1
        if data[start] != 36:
            raise ValueError("not a bulk string")
        start, end = end + 2, end + 2 + int(data[start + 1 : end])
        if len(data) < end + 2:
            return [], -1
        words.append(data[start:end])
    return words, end + 2


def answer(words: list[bytes]) -> bytes:
    if words and words[0].upper() == b"PING":
        return b"+PONG\r\n" if len(words) == 1 else b"$%d\r\n%s\r\n" % (len(words[1]), words[1])
    return b"-ERR unknown command\r\n" if words else b""


def main_callback(name: str) -> None:
    class Resp(callback_engine(name).Protocol):  # type: ignore[misc]
        def connectionMade(self) -> None:
            self.commands = Commands()

        def dataReceived(self, data: bytes) -> None:
            if replies := self.commands.feed(data):
                self.transport.write(replies)

    serve_callback(name, Resp)


def main_loop(name: str) -> None:
    class Resp(asyncio.Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self.transport = transport
            self.commands = Commands()

        def data_received(self, data: bytes) -> None:
            if replies := self.commands.feed(data):
                self.transport.write(replies)

    serve_loop(name, Resp)


if __name__ == "__main__":
    start = main_callback if sys.argv[1] in CALLBACK_ENGINES else main_loop
    start(sys.argv[1])
