"""Watermarks: when a producer is paused, resumed, stopped, and how much waits, with a reader that is slow.

The reader takes 128 KiB each second, counted from when it began; each buffer of the simulated kernel holds 128 KiB, so 256
KiB leave at once and the rest waits in the engine. The network takes no time. Lines of the producer tell how many bytes
wait just then.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from ropewalk import TCPOptions
from tests.scenarios.script import Scene, lines

KIB = 1024
KERNEL = 256 * KIB


class Produces:
    """A push producer: writes a chunk, in a call of its own, again and again until it is paused or has written all."""

    def __init__(self, scene: Scene, talk: Any, chunk: int, total: int) -> None:
        self.script = scene.script
        self.reactor = scene.client.reactor
        self.transport = talk.transport
        self.chunk = chunk
        self.left = total
        self.is_paused = False
        self.most = 0
        self.high, self.low = 64 * KIB, 0

    def note(self, what: str) -> None:
        self.script.note(f"{what} {self.transport.bytesBuffered // KIB} KiB")

    def start(self) -> None:
        self.transport.registerProducer(self, True)
        self.produce()

    def produce(self) -> None:
        if self.is_paused:
            return
        size = min(self.chunk, self.left)
        self.left -= size
        self.transport.write(bytes(size))
        self.most = max(self.most, self.transport.bytesBuffered)
        if self.left:
            self.reactor.callLater(0, self.produce)
        else:
            self.transport.unregisterProducer()
            self.script.note("unregistered")

    def pauseProducing(self) -> None:
        assert not self.is_paused
        assert self.transport.bytesBuffered > self.high
        self.is_paused = True
        self.note("pause ")

    def resumeProducing(self) -> None:
        assert self.is_paused
        assert self.transport.bytesBuffered <= self.low
        self.is_paused = False
        self.note("resume")
        self.produce()

    def stopProducing(self) -> None:
        self.is_paused = True
        self.note("stop  ")


def read_each_second(scene: Scene, talk: Any, seconds: int) -> None:
    talk.player.acts["dataReceived"] = lambda talk: talk.transport.pauseProducing()
    for second in range(1, seconds + 1):
        scene.server.reactor.callLater(second, talk.transport.resumeProducing)


class Row(NamedTuple):
    claim: str
    # High and low water, chunk and total, all in KiB.
    limits: tuple[int, int]
    chunk: int
    total: int
    script: str


ROWS = [
    Row(
        "paused above the high-water mark, resumed when all has left",
        (64, 0),
        40,
        480,
        """
        0     buffer full 81920
        0     pause  80 KiB
        0     buffer drained
        0     resume 0 KiB
        0     buffer full 106496
        0     pause  104 KiB
        2     buffer drained
        2     resume 0 KiB
        2     unregistered
        """,
    ),
    Row(
        "resumed already at the low-water mark",
        (128, 64),
        100,
        900,
        """
        0     buffer full 204800
        0     pause  200 KiB
        0     buffer drained
        0     resume 0 KiB
        0     buffer full 147456
        0     pause  144 KiB
        2     buffer drained
        2     resume 0 KiB
        2     buffer full 155648
        2     pause  152 KiB
        3     buffer drained
        3     resume 24 KiB
        3     buffer full 229376
        3     pause  224 KiB
        5     buffer drained
        5     resume 0 KiB
        5     unregistered
        """,
    ),
    Row(
        "both marks at one level",
        (64, 64),
        16,
        480,
        """
        0     buffer full 81920
        0     pause  80 KiB
        1     buffer drained
        1     resume 16 KiB
        1     buffer full 81920
        1     pause  80 KiB
        2     buffer drained
        2     resume 0 KiB
        2     unregistered
        """,
    ),
    Row(
        "one write beyond the mark is all that waits too much",
        (64, 0),
        300,
        900,
        """
        0     buffer full 307200
        0     pause  300 KiB
        1     buffer drained
        1     resume 0 KiB
        1     buffer full 307200
        1     pause  300 KiB
        4     buffer drained
        4     resume 0 KiB
        4     buffer full 307200
        4     pause  300 KiB
        4     unregistered
        """,
    ),
    Row(
        "below the mark nobody is paused",
        (1000, 0),
        100,
        900,
        """
        0     unregistered
        """,
    ),
]


def produce(scene: Scene, limits: tuple[int, int], chunk: int, total: int) -> tuple[Produces, Any]:
    options = TCPOptions(highWater=limits[0] * KIB, lowWater=limits[1] * KIB)
    client, server = scene.connected(options=options)
    server.transport.pauseProducing()
    scene.sim.advance(0)
    producer = Produces(scene, client, chunk * KIB, total * KIB)
    producer.high, producer.low = limits[0] * KIB, limits[1] * KIB
    read_each_second(scene, server, 40)
    producer.start()
    return producer, server


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
def test_J6_the_script_of_a_producer_is(scene, row):
    producer, server = produce(scene, row.limits, row.chunk, row.total)
    scene.sim.advance(50)
    assert str(scene.script) == lines(row.script)
    assert producer.most <= (row.limits[0] + row.chunk) * KIB
    assert len(server.received) == row.total * KIB


class Told:
    """A producer that does nothing but write down what it is told."""

    def __init__(self, scene: Scene) -> None:
        self.note = scene.script.note

    def pauseProducing(self) -> None:
        self.note("pauseProducing()")

    def resumeProducing(self) -> None:
        self.note("resumeProducing()")

    def stopProducing(self) -> None:
        self.note("stopProducing()")


class Pulled(Told):
    """A pull producer: it writes a chunk each time it is asked, `left` times."""

    def __init__(self, scene: Scene, talk: Any, chunk: int, left: int) -> None:
        super().__init__(scene)
        self.transport = talk.transport
        self.chunk = chunk
        self.left = left

    def resumeProducing(self) -> None:
        super().resumeProducing()
        if self.left:
            self.left -= 1
            self.transport.write(bytes(self.chunk))
        else:
            self.transport.unregisterProducer()
            self.note("unregistered")


def test_a_pull_producer_is_asked_each_time_all_has_left(scene):
    client, server = scene.connected()
    server.transport.pauseProducing()
    scene.sim.advance(0)
    read_each_second(scene, server, 10)
    client.transport.registerProducer(Pulled(scene, client, 300 * KIB, 3), False)
    scene.sim.advance(20)
    assert str(scene.script) == lines(
        """
        0     resumeProducing()
        1     resumeProducing()
        4     resumeProducing()
        6     resumeProducing()
        6     unregistered
        """
    )
    assert len(server.received) == 900 * KIB


REGISTERED = [
    # Bytes that wait when a push producer registers; what it is told there and then, and when the reader takes all.
    (10, "", ""),
    (KERNEL + 64 * KIB, "0     buffer full 327680\n0     pauseProducing()", "0     resumeProducing()"),
]


@pytest.mark.parametrize(("waiting", "at_once", "after"), REGISTERED)
def test_who_registers_late_is_paused_at_once_if_too_much_waits(scene, waiting, at_once, after):
    client, server = scene.connected()
    server.transport.pauseProducing()
    scene.sim.advance(0)
    client.transport.write(bytes(waiting))
    client.transport.registerProducer(Told(scene), True)
    assert "pauseProducing()" in str(scene.script) or not at_once
    scene.sim.advance(0)
    server.transport.resumeProducing()
    scene.sim.runUntilIdle()
    told = [line for line in str(scene.script).splitlines() if "Producing" in line]
    assert "\n".join(told) == "\n".join(filter(None, [at_once.rpartition("\n")[2], after]))
    client.transport.unregisterProducer()


ENDS = [
    # How the connection ends, and what the producer hears of it.
    ("loseConnection", "client", []),
    ("abortConnection", "client", ["0     stopProducing()"]),
    ("abortConnection", "server", ["0     stopProducing()"]),
    ("loseConnection", "server", ["0     stopProducing()"]),
]


@pytest.mark.parametrize(("request_", "end", "told"), ENDS)
def test_a_producer_is_stopped_when_the_connection_ends_and_hears_nothing_after_that(
    scene, request_, end, told
):
    client, server = scene.connected()
    client.transport.registerProducer(Told(scene), True)
    getattr((client if end == "client" else server).transport, request_)()
    scene.sim.advance(10)
    assert [line for line in str(scene.script).splitlines() if "Producing" in line] == told
    client.transport.unregisterProducer()
    client.transport.write(bytes(KERNEL * 2))
    scene.sim.advance(10)
    assert [line for line in str(scene.script).splitlines() if "Producing" in line] == told


def test_after_the_end_a_producer_is_stopped_as_it_registers(scene):
    client, _ = scene.connected()
    client.transport.abortConnection()
    scene.sim.advance(0)
    client.transport.registerProducer(Told(scene), True)
    assert str(scene.script).endswith("stopProducing()")


LIMITS = [
    # Hard limit and what each second writes, in KiB; whether and when it is too much.
    (300, [256, 300], None),
    (300, [300], None),
    (300, [301], 0),
    (300, [256, 299, 1], None),
    (300, [256, 299, 2], 2),
]


@pytest.mark.parametrize(("hard", "writes", "when"), LIMITS)
def test_beyond_the_hard_limit_the_peer_is_given_up(scene, hard, writes, when):
    client, server = scene.connected()
    server.transport.pauseProducing()
    scene.sim.advance(0)
    client.transport.setWriteLimits(64 * KIB, 0, hard * KIB)
    for second, size in enumerate(writes):
        scene.client.reactor.callLater(second, client.transport.write, bytes(size * KIB))
    scene.sim.advance(10)
    if when is None:
        assert client.reason is None
    else:
        assert f"{when:<5g} connectionLost(ConnectionLost)" in str(scene.script)
        assert client.reason.ended.by.value == "error"
        assert f"the hard limit is {hard * KIB}" in client.reason.ended.error
        assert type(server.reason).__name__ == "ConnectionLost"
