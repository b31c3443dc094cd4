"""Closing: loseConnection flushes, with a deadline that counts from the last progress; abortConnection does not wait.

The network takes no time here, so a reader's pauses are all that keeps a sender waiting. Each buffer of the simulated
kernel holds 128 KiB, the sender's and the reader's: what is beyond 256 KiB waits in the engine. `read_some` lets a paused
reader take one read's worth, and pause again: 64 KiB the first time, 128 KiB then, as streams that fill their reads do.
"""

from __future__ import annotations

import errno
from typing import Any, NamedTuple

import pytest

from ropewalk import TCPOptions
from tests.scenarios.script import Talk, lines

KIB = 1024
KERNEL = 256 * KIB


def read_some(talk: Any) -> None:
    """Take one read's worth, and pause again in its dataReceived."""
    talk.player.acts["dataReceived"] = lambda talk: talk.transport.pauseProducing()
    talk.transport.resumeProducing()


class Row(NamedTuple):
    claim: str
    # Bytes written just before loseConnection, and the close deadline.
    written: int
    timeout: float | None
    # Seconds at which the reader takes one read's worth; it is paused otherwise.
    reads: list[float]
    client: str


DONE = """closed by us, ConnectionDone
connectionLost(ConnectionDone)
clientConnectionLost(ConnectionDone)
stopFactory()"""
STALLED = """closed by timeout, ConnectionLost
connectionLost(ConnectionLost)
clientConnectionLost(ConnectionLost)
stopFactory()"""


def closing(waiting: int, end: str, time: float) -> str:
    told = [f"{time:<5g} {line}" for line in end.splitlines()]
    return "\n".join([f"0     closing {waiting}", *told])


ROWS = [
    Row("with nothing to send it is done at once", 0, 5, [], closing(0, DONE, 0)),
    Row("what the kernel takes is the kernel's business", KERNEL, 5, [], closing(KERNEL, DONE, 0)),
    Row("a peer that reads nothing has that long", KERNEL + 1, 5, [], closing(KERNEL + 1, STALLED, 5)),
    Row("the default is a minute", KERNEL + 1, 60.0, [], closing(KERNEL + 1, STALLED, 60)),
    Row("one read makes room for the rest", KERNEL + 1, 5, [4.5], closing(KERNEL + 1, DONE, 4.5)),
    Row(
        "each progress counts anew: five reads, then none",
        KERNEL + 640 * KIB,
        5,
        [4, 8, 12, 16, 20],
        closing(KERNEL + 640 * KIB, STALLED, 25),
    ),
    Row(
        "a slow peer is waited for as long as it takes something in time",
        KERNEL + 448 * KIB,
        5,
        [4.9, 9.8, 14.7, 19.6],
        closing(KERNEL + 448 * KIB, DONE, 19.6),
    ),
    Row(
        "a read that comes too late does not help",
        KERNEL + 320 * KIB,
        5,
        [4, 9.1],
        closing(KERNEL + 320 * KIB, STALLED, 9),
    ),
    Row(
        "without a deadline it waits for days",
        KERNEL + 64 * KIB,
        None,
        [95_000],
        closing(KERNEL + 64 * KIB, DONE, 95_000),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
def test_J5_the_script_of_closing_is(scene, row):
    options = TCPOptions() if row.timeout == 60.0 else TCPOptions(closeTimeout=row.timeout)
    client, server = scene.connected(options=options)
    server.transport.pauseProducing()
    scene.sim.advance(0)
    scene.script.begin()
    client.transport.write(bytes(row.written))
    client.transport.loseConnection()
    for second in row.reads:
        scene.server.reactor.callLater(second, read_some, server)
    scene.sim.advance(99_000)
    assert str(scene.script) == lines(row.client)
    ended = client.transport.ended
    if "ConnectionDone" in row.client:
        # All of it arrives, whenever the reader takes it.
        server.player.acts.clear()
        server.transport.resumeProducing()
        scene.sim.runUntilIdle()
        assert (ended.sent, len(server.received)) == (row.written, row.written)
        assert type(server.reason).__name__ == "ConnectionDone"
    else:
        waited = row.written - ended.sent
        assert ended.error == f"no progress for {row.timeout} s while closing, {waited} bytes not sent"
        assert server.reason.errno == errno.ECONNRESET


HALVES = [
    # Seconds at which the reader takes one read's worth, and what the client's script is.
    (
        [],
        """
        5     closed by timeout, ConnectionLost
        5     connectionLost(ConnectionLost)
        5     clientConnectionLost(ConnectionLost)
        5     stopFactory()
        """,
    ),
    (
        [3, 6],
        """
        6     write side ended
        """,
    ),
    (
        [3],
        """
        8     closed by timeout, ConnectionLost
        8     connectionLost(ConnectionLost)
        8     clientConnectionLost(ConnectionLost)
        8     stopFactory()
        """,
    ),
]


@pytest.mark.parametrize(("reads", "script"), HALVES)
def test_the_same_deadline_holds_for_loseWriteConnection_until_it_is_flushed(scene, reads, script):
    client, server = scene.connected(options=TCPOptions(closeTimeout=5))
    server.transport.pauseProducing()
    scene.sim.advance(0)
    client.transport.write(bytes(KERNEL + 128 * KIB))
    client.transport.loseWriteConnection()
    for second in reads:
        scene.server.reactor.callLater(second, read_some, server)
    scene.sim.advance(1000)
    assert str(scene.script) == lines(script)


class Keeps(Talk):
    """A talk that is its own producer, and unregisters when it is told."""

    def stopProducing(self) -> None:
        self.player.script.note("stopProducing()")

    def pauseProducing(self) -> None:
        self.player.script.note("pauseProducing()")

    def resumeProducing(self) -> None:
        self.player.script.note("resumeProducing()")


PRODUCERS = [
    # When the producer unregisters; what is told.
    (2.0, closing(0, DONE, 2)),
    (None, "0     closing 0\n5     stopProducing()\n" + closing(0, STALLED, 5).partition("\n")[2]),
]


@pytest.mark.parametrize(("unregistered", "script"), PRODUCERS)
def test_loseConnection_waits_for_a_producer_but_no_longer_than_the_deadline(scene, unregistered, script):
    client, _ = scene.connected(Keeps, options=TCPOptions(closeTimeout=5))
    client.transport.registerProducer(client, True)
    client.transport.loseConnection()
    if unregistered is not None:
        scene.client.reactor.callLater(unregistered, client.transport.unregisterProducer)
    scene.sim.advance(100)
    assert str(scene.script) == lines(script)


def test_a_peer_that_ends_while_we_close_changes_nothing_of_what_was_asked(scene):
    client, server = scene.connected(options=TCPOptions(closeTimeout=5))
    server.transport.pauseProducing()
    scene.sim.advance(0)
    client.transport.write(bytes(KERNEL + 1))
    client.transport.loseConnection()
    scene.server.reactor.callLater(1, server.transport.loseWriteConnection)
    scene.server.reactor.callLater(2, read_some, server)
    scene.sim.advance(100)
    assert str(scene.script) == lines(closing(KERNEL + 1, DONE, 2))


@pytest.mark.parametrize("is_closing", [False, True])
@pytest.mark.parametrize("waiting", [0, 10, KERNEL + 1])
def test_J5_abortConnection_ends_in_the_turn_in_which_it_is_asked_for(scene, waiting, is_closing):
    client, server = scene.connected(latency=0.1)
    server.transport.pauseProducing()
    scene.sim.advance(1)
    scene.script.begin()
    scene.server_script.begin()
    client.transport.write(bytes(waiting))
    if is_closing and waiting > KERNEL:
        client.transport.loseConnection()
    scene.client.reactor.callLater(1, client.transport.abortConnection)
    scene.sim.advance(3)
    told = str(scene.script).splitlines()
    assert "\n".join(line for line in told if "closing" not in line) == lines(
        """
        1     closed by us aborted, ConnectionAborted
        1     connectionLost(ConnectionAborted)
        1     clientConnectionLost(ConnectionAborted)
        1     stopFactory()
        """
    )
    # B3: and the peer, though it is paused, hears of the reset.
    assert str(scene.server_script) == lines(
        """
        1.1   closed by peer reset, ConnectionLost
        1.1   connectionLost(ConnectionLost)
        """
    )


CUT = [
    # What the client asks for while the network is cut for good; when it has heard the end.
    ("write, then loseConnection", 100, 0.0),
    ("write more than the kernel takes, then loseConnection", KERNEL + 1, 5.0),
]


@pytest.mark.parametrize(("_", "written", "when"), CUT)
def test_closing_into_a_cut_network_ends_by_the_deadline(scene, _, written, when):
    client, server = scene.connected(options=TCPOptions(closeTimeout=5))
    scene.sim.partition(scene.client, scene.server)
    client.transport.write(bytes(written))
    client.transport.loseConnection()
    scene.sim.advance(100)
    assert client.transport.ended.seconds == pytest.approx(when)
    assert server.reason is None
