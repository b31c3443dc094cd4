"""Claims about bytes: whole, in order, once, both ways at once; which types are taken; and what is counted.

That nothing comes doubled, torn or in another order is seen by the watch at every delivery; here is what might bring it
about: one-byte writes, odd sizes, thousands of pieces, much at once, pausing in between.
Source: CONTRACT sections 4 (I11) and 5, FAULTS C1 to C3, C17, J3.
"""

from __future__ import annotations

import array
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ropewalk.testing.transport_claims.claim import Claim, claim
from ropewalk.testing.transport_stage import Scene

CLAIMS: list[Claim] = []

# Around the sizes at which buffers, segments and reads are cut, and some that fit nothing.
_ODD_SIZES = (1, 7, 1000, 1447, 4095, 4096, 4097, 16_385, 65_535, 65_537, 13, 131_073)


def noise(size: int) -> bytes:
    """Bytes without a period: what is doubled, lost or swapped shows."""
    return random.Random(size).randbytes(size)


def pieces(total: int) -> Iterator[bytes]:
    """So many bytes in pieces of odd sizes."""
    data = noise(total)
    at = turn = 0
    while at < total:
        size = _ODD_SIZES[turn % len(_ODD_SIZES)]
        yield data[at : at + size]
        at, turn = at + size, turn + 1


@claim(CLAIMS, "one byte arrives by itself")
def _one_byte(scene: Scene) -> None:
    scene.connect()
    scene.one.send(b"!")
    scene.until_received(scene.other)


@claim(CLAIMS, "two thousand one-byte writes arrive, in order, once")
def _one_byte_writes(scene: Scene) -> None:
    scene.connect()
    data = noise(2000)
    for at in range(2000):
        scene.one.send(data[at : at + 1])
        if at % 400 == 0:
            scene.go_on(1)
    scene.until_received(scene.other)


@claim(CLAIMS, "writes of odd sizes arrive whole, in order, once")
def _odd_sizes(scene: Scene) -> None:
    scene.connect()
    for piece in pieces(scene.bulk):
        scene.one.send(piece)
    scene.until_received(scene.other)


@claim(CLAIMS, "one very large write arrives whole")
def _one_large(scene: Scene) -> None:
    scene.connect()
    scene.one.send(noise(scene.bulk))
    scene.until_received(scene.other)


@claim(CLAIMS, "much goes both ways at once")
def _both_ways(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    for piece in pieces(scene.bulk // 2):
        one.send(piece)
        other.send(piece[::-1])
    scene.until_received(one)
    scene.until_received(other)


@claim(CLAIMS, "an echo written in dataReceived comes back whole")
def _echo(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both

    def echo() -> None:
        other.send(bytes(other.received[len(other.sent) :]))

    other.acts["dataReceived"] = echo
    one.send(noise(scene.bulk // 2))
    scene.until(lambda: len(one.received) == len(one.sent), "everything has come back")
    scene.held(one.received == one.sent, "what came back is not what was sent")


@claim(CLAIMS, "short questions and answers take turns a hundred times")
def _ping_pong(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    other.acts["dataReceived"] = lambda: other.send(b"pong")
    left = [100]

    def again() -> None:
        left[0] -= 1
        if left[0] > 0:
            one.send(b"ping")

    one.acts["dataReceived"] = again
    one.send(b"ping")
    scene.until(lambda: left[0] <= 0, "a hundred answers have come")


@claim(CLAIMS, "write and writeSequence of one handler keep their order")
def _mixed(scene: Scene) -> None:
    one = scene.one

    def talk() -> None:
        for number in range(20):
            one.send(b"%d " % number)
            parts = [b"(%d)" % number, b"", b"-" * 3000 * number]
            one.send_all(parts, parts)

    one.acts["connectionMade"] = talk
    scene.connect()
    scene.until_received(scene.other)


ITERABLES: dict[str, Callable[[list[bytes]], Iterable[bytes]]] = {
    "a list": list,
    "a tuple": tuple,
    "a deque": deque,
    "an iterator": iter,
    "a generator": lambda parts: (part for part in parts),
}


@claim(CLAIMS, "writeSequence takes any iterable", cases=tuple(ITERABLES))
def _iterables(scene: Scene, kind: str) -> None:
    scene.connect()
    parts = [b"a", b"bc", b"", b"def"]
    scene.one.send_all(ITERABLES[kind](parts), parts)
    scene.until_received(scene.other)


@claim(CLAIMS, "writeSequence of three thousand pieces arrives whole")
def _many_pieces(scene: Scene) -> None:
    scene.connect()
    parts = [number.to_bytes(2, "big") * 5 for number in range(3000)]
    scene.one.send_all(parts, parts)
    scene.until_received(scene.other)


LIKE_BYTES: dict[str, Callable[[], Any]] = {
    "bytearray": lambda: bytearray(b"abc"),
    "memoryview": lambda: memoryview(b"xabcx")[1:4],
    "array": lambda: array.array("B", b"abc"),
    "strided memoryview": lambda: memoryview(b"a-b-c")[::2],
}


@claim(CLAIMS, "write and writeSequence take anything bytes-like", cases=tuple(LIKE_BYTES))
def _bytes_like(scene: Scene, kind: str) -> None:
    scene.connect()
    scene.one.send(LIKE_BYTES[kind]())
    parts = [LIKE_BYTES[kind](), b"!"]
    scene.one.send_all(parts, parts)
    scene.until_received(scene.other)


@claim(CLAIMS, "what is mutable is copied when it is written")
def _copied(scene: Scene) -> None:
    scene.connect()
    data = bytearray(b"first")
    scene.one.send(data)
    scene.one.send_all([data, memoryview(data)], [data, data])
    data[:] = b"other"
    scene.until_received(scene.other)


WRONG: dict[str, Any] = {"str": "text", "None": None, "an int": 7, "a list": [b"list"]}


@claim(CLAIMS, "write of anything else is a TypeError, and sends nothing", cases=tuple(WRONG))
def _refused(scene: Scene, kind: str) -> None:
    scene.connect()
    scene.held(_raises_type_error(scene, "write", WRONG[kind]), f"write({WRONG[kind]!r}) raised no TypeError")
    scene.one.send(b"after")
    scene.until_received(scene.other)


WRONG_SEQUENCES: dict[str, Any] = {"a wrong item": [b"good", "bad"], "str": "text", "an int": 5}


@claim(
    CLAIMS, "writeSequence with a wrong item is a TypeError, and sends nothing", cases=tuple(WRONG_SEQUENCES)
)
def _refused_sequence(scene: Scene, kind: str) -> None:
    scene.connect()
    wrong = WRONG_SEQUENCES[kind]
    scene.held(
        _raises_type_error(scene, "writeSequence", wrong), f"writeSequence({wrong!r}) raised no TypeError"
    )
    scene.one.send(b"after")
    scene.until_received(scene.other)


def _raises_type_error(scene: Scene, request: str, argument: Any) -> bool:
    try:
        scene.one.ask(request, argument)
    except TypeError:
        return True
    return False


@claim(CLAIMS, "an empty write is nothing")
def _empty(scene: Scene) -> None:
    scene.connect()
    scene.one.send(b"")
    scene.one.send_all([], [])
    scene.one.send_all([b"", b""], [])
    scene.go_on()
    scene.one.send(b"after")
    scene.until_received(scene.other)


@claim(CLAIMS, "bytes are counted: sent, received, and those that wait", "counters")
def _counted(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.send(b"12345")
    waiting = one.transport.bytesBuffered + one.transport.bytesSent
    scene.held(waiting == 5, f"after write(5 bytes), sent and buffered together are {waiting}")
    scene.until_received(other)
    scene.until(lambda: one.transport.bytesBuffered == 0, "nothing waits any more")
    counted = (one.transport.bytesSent, other.transport.bytesReceived, one.transport.bytesReceived)
    scene.held(counted == (5, 5, 0), f"(sent, received there, received here) is {counted}, not (5, 5, 0)")
    scene.one.lose()
    scene.until_lost()
    scene.held(one.transport.bytesSent == 5, "the count was lost with the connection")


@claim(
    CLAIMS, "what a peer that reads nothing does not take waits, and is counted", "counters", "backPressure"
)
def _waiting_counted(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    other.pause()
    fill(scene)
    counted = one.transport.bytesSent + one.transport.bytesBuffered
    scene.held(counted == len(one.sent), f"{len(one.sent)} bytes were written, {counted} are sent or wait")
    other.resume()
    scene.until_received(other)


# More than any kernel takes for one connection that nobody reads. Source: tcp_wmem and tcp_rmem end at some MB on Linux.
_TOO_MUCH = 1 << 26


def fill(scene: Scene) -> None:
    """Let `one` write until some of it has to wait: its peer reads nothing."""
    one = scene.one
    chunk = noise(200_000)
    while len(one.sent) < _TOO_MUCH:
        one.send(chunk)
        scene.go_on(3)
        if one.transport.bytesBuffered:
            # Why once more: what waits just now may only be on its way.
            scene.go_on()
            if one.transport.bytesBuffered:
                return
    scene.held(False, f"{_TOO_MUCH} bytes were taken, though nobody reads them")
