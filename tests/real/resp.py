"""A small client of redis: RESP, the REdis Serialization Protocol, version 2.

`Replies` turns bytes into replies and knows no transport; `Resp` is the Protocol: each command gives a Deferred, replies
come in the order of the commands. Fed byte by byte it takes linear time: a bulk string's length is known before its
bytes are, and nothing is scanned twice.
Source: the RESP specification of redis.io.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ropewalk import Deferred, Failure, Protocol

Reply = bytes | int | None | Exception | list["Reply"]


class RedisError(Exception):
    """What the server answered instead of a result."""


class Replies:
    """Bytes in, replies out."""

    def __init__(self) -> None:
        self._data = bytearray()
        # Where the next line begins, and from where its end is still to be looked for.
        self._start = self._looked = 0
        # The length of the bulk string whose bytes are awaited.
        self._bulk: int | None = None
        # Arrays that are not complete: their items, and how many are missing.
        self._open: list[tuple[list[Reply], int]] = []

    def feed(self, data: bytes) -> Iterator[Reply]:
        self._data += data
        while True:
            found, reply = self._item()
            if not found:
                break
            done, reply = self._completed(reply)
            if done:
                yield reply
        del self._data[: self._start]
        self._looked -= self._start
        self._start = 0

    def _item(self) -> tuple[bool, Reply]:
        if self._bulk is not None:
            end = self._start + self._bulk
            if len(self._data) < end + 2:
                return False, None
            reply = bytes(memoryview(self._data)[self._start : end])
            self._start = self._looked = end + 2
            self._bulk = None
            return True, reply
        end = self._data.find(b"\r\n", self._looked)
        if end < 0:
            self._looked = max(self._start, len(self._data) - 1)
            return False, None
        kind, line = self._data[self._start], bytes(self._data[self._start + 1 : end])
        self._start = self._looked = end + 2
        return self._line(kind, line)

    def _line(self, kind: int, line: bytes) -> tuple[bool, Reply]:
        match chr(kind):
            case "+":
                return True, line
            case "-":
                return True, RedisError(line.decode())
            case ":":
                return True, int(line)
            case "$" | "*" if line == b"-1":
                return True, None
            case "$":
                self._bulk = int(line)
                return self._item()
            case "*" if line == b"0":
                return True, []
            case "*":
                self._open.append(([], int(line)))
                return self._item()
        raise ValueError(f"not RESP: {chr(kind)!r} {line!r}")

    def _completed(self, reply: Reply) -> tuple[bool, Reply]:
        """Whether it belongs to no array that is still open; and if it was an array's last, that array."""
        while self._open:
            items, missing = self._open.pop()
            items.append(reply)
            if missing > 1:
                self._open.append((items, missing - 1))
                return False, None
            reply = items
        return True, reply


def encoded(parts: tuple[bytes, ...]) -> bytes:
    """A command as an array of bulk strings."""
    return b"".join([b"*%d\r\n" % len(parts), *(b"$%d\r\n%s\r\n" % (len(each), each) for each in parts)])


class Resp(Protocol):
    """One connection to a redis server."""

    def __init__(self) -> None:
        self._replies = Replies()
        self._waiting: deque[Deferred[Reply]] = deque()

    def command(self, *parts: bytes) -> Deferred[Reply]:
        """Send it; the Deferred gets the reply, or fails with RedisError or what ended the connection."""
        answer: Deferred[Reply] = Deferred()
        self._waiting.append(answer)
        self.transport.write(encoded(parts))
        return answer

    def dataReceived(self, data: bytes) -> None:
        for reply in self._replies.feed(data):
            answer = self._waiting.popleft()
            if isinstance(reply, Exception):
                answer.errback(reply)
            else:
                answer.callback(reply)

    def connectionLost(self, reason: Failure) -> None:
        while self._waiting:
            self._waiting.popleft().errback(reason)
