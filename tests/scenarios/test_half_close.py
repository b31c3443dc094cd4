"""Half-close both ways: which side ends when, who is told, and what still gets through.

Packets take 0.1 s each way. A row says what each end's user asks for and when, and gives both scripts. "half" is a
protocol with readConnectionLost and writeConnectionLost, "plain" one without.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tests.scenarios.script import HalfTalk, Scene, Talk, lines

KINDS = {"half": HalfTalk, "plain": Talk}
BULK = 1_000_000


class Row(NamedTuple):
    claim: str
    # Client and server: "half" or "plain".
    kinds: tuple[str, str]
    # (second, end, request, arguments)
    asked: list[tuple[Any, ...]]
    client: str
    server: str


ROWS = [
    Row(
        "one side, then the other: each end is told of both, and the second end is the end",
        ("half", "half"),
        [
            (0, "client", "loseWriteConnection"),
            (1, "server", "write", b"still here"),
            (2, "server", "loseWriteConnection"),
        ],
        """
        0     write side ended
        0     writeConnectionLost()
        1.1   first byte
        1.1   dataReceived(10)
        2.1   read side ended
        2.1   readConnectionLost()
        2.1   closed by peer, ConnectionDone
        2.1   connectionLost(ConnectionDone)
        2.1   clientConnectionLost(ConnectionDone)
        2.1   stopFactory()
        """,
        """
        0.1   read side ended
        0.1   readConnectionLost()
        2     write side ended
        2     writeConnectionLost()
        2     closed by peer, ConnectionDone
        2     connectionLost(ConnectionDone)
        """,
    ),
    Row(
        "the server may be first",
        ("half", "half"),
        [
            (0, "server", "loseWriteConnection"),
            (1, "client", "write", b"still here"),
            (2, "client", "loseWriteConnection"),
        ],
        """
        0.1   read side ended
        0.1   readConnectionLost()
        2     write side ended
        2     writeConnectionLost()
        2     closed by peer, ConnectionDone
        2     connectionLost(ConnectionDone)
        2     clientConnectionLost(ConnectionDone)
        2     stopFactory()
        """,
        """
        0     write side ended
        0     writeConnectionLost()
        1.1   first byte
        1.1   dataReceived(10)
        2.1   read side ended
        2.1   readConnectionLost()
        2.1   closed by peer, ConnectionDone
        2.1   connectionLost(ConnectionDone)
        """,
    ),
    Row(
        "both at once",
        ("half", "half"),
        [(0, "client", "loseWriteConnection"), (0, "server", "loseWriteConnection")],
        """
        0     write side ended
        0     writeConnectionLost()
        0.1   read side ended
        0.1   readConnectionLost()
        0.1   closed by peer, ConnectionDone
        0.1   connectionLost(ConnectionDone)
        0.1   clientConnectionLost(ConnectionDone)
        0.1   stopFactory()
        """,
        """
        0     write side ended
        0     writeConnectionLost()
        0.1   read side ended
        0.1   readConnectionLost()
        0.1   closed by peer, ConnectionDone
        0.1   connectionLost(ConnectionDone)
        """,
    ),
    Row(
        "a protocol that does not handle it is closed altogether",
        ("half", "plain"),
        [(0, "client", "loseWriteConnection")],
        """
        0     write side ended
        0     writeConnectionLost()
        0.2   read side ended
        0.2   readConnectionLost()
        0.2   closed by peer, ConnectionDone
        0.2   connectionLost(ConnectionDone)
        0.2   clientConnectionLost(ConnectionDone)
        0.2   stopFactory()
        """,
        """
        0.1   read side ended
        0.1   closed by peer, ConnectionDone
        0.1   connectionLost(ConnectionDone)
        """,
    ),
    Row(
        "who asks for it need not handle it",
        ("plain", "half"),
        [
            (0, "client", "loseWriteConnection"),
            (1, "server", "write", b"still here"),
            (2, "server", "loseConnection"),
        ],
        """
        0     write side ended
        1.1   first byte
        1.1   dataReceived(10)
        2.1   read side ended
        2.1   closed by peer, ConnectionDone
        2.1   connectionLost(ConnectionDone)
        2.1   clientConnectionLost(ConnectionDone)
        2.1   stopFactory()
        """,
        """
        0.1   read side ended
        0.1   readConnectionLost()
        2     closing 0
        2     closed by us, ConnectionDone
        2     connectionLost(ConnectionDone)
        """,
    ),
    Row(
        "asked for twice it is done once, and what is written afterwards is ignored",
        ("half", "half"),
        [
            (0, "client", "loseWriteConnection"),
            (0.5, "client", "loseWriteConnection"),
            (0.5, "client", "write", b"too late"),
            (1, "client", "loseConnection"),
        ],
        """
        0     write side ended
        0     writeConnectionLost()
        1     closing 0
        1     closed by us, ConnectionDone
        1     connectionLost(ConnectionDone)
        1     clientConnectionLost(ConnectionDone)
        1     stopFactory()
        """,
        """
        0.1   read side ended
        0.1   readConnectionLost()
        """,
    ),
    Row(
        "what was written before it arrives before it",
        ("half", "half"),
        [(0, "client", "write", b"first"), (0, "client", "loseWriteConnection")],
        """
        0     write side ended
        0     writeConnectionLost()
        """,
        """
        0.1   first byte
        0.1   dataReceived(5)
        0.1   read side ended
        0.1   readConnectionLost()
        """,
    ),
    Row(
        "F4: a reset after our half-close is noticed",
        ("half", "half"),
        [(0, "client", "loseWriteConnection"), (1, "server", "abortConnection")],
        """
        0     write side ended
        0     writeConnectionLost()
        1.1   closed by peer reset, ConnectionLost
        1.1   connectionLost(ConnectionLost)
        1.1   clientConnectionLost(ConnectionLost)
        1.1   stopFactory()
        """,
        """
        0.1   read side ended
        0.1   readConnectionLost()
        1     closed by us aborted, ConnectionAborted
        1     connectionLost(ConnectionAborted)
        """,
    ),
    Row(
        "F4: a reset after the peer's half-close is noticed, though nothing is asked of the poller",
        ("half", "half"),
        [(0, "client", "loseWriteConnection"), (1, "client", "abortConnection")],
        """
        0     write side ended
        0     writeConnectionLost()
        1     closed by us aborted, ConnectionAborted
        1     connectionLost(ConnectionAborted)
        1     clientConnectionLost(ConnectionAborted)
        1     stopFactory()
        """,
        """
        0.1   read side ended
        0.1   readConnectionLost()
        1.1   closed by peer reset, ConnectionLost
        1.1   connectionLost(ConnectionLost)
        """,
    ),
    Row(
        "who has paused is told of the peer's end only once it resumes",
        ("half", "half"),
        [
            (0, "server", "pauseProducing"),
            (0, "client", "write", b"unread"),
            (0, "client", "loseWriteConnection"),
            (5, "server", "resumeProducing"),
        ],
        """
        0     write side ended
        0     writeConnectionLost()
        """,
        """
        0     paused
        5     resumed
        5     first byte
        5     dataReceived(6)
        5     read side ended
        5     readConnectionLost()
        """,
    ),
    Row(
        "both sides shut while paused: nothing spins, and it ends when it resumes",
        ("half", "half"),
        [
            (0, "server", "pauseProducing"),
            (0, "client", "write", b"unread"),
            (0, "client", "loseWriteConnection"),
            (1, "server", "loseWriteConnection"),
            (5, "server", "resumeProducing"),
        ],
        """
        0     write side ended
        0     writeConnectionLost()
        1.1   read side ended
        1.1   readConnectionLost()
        1.1   closed by peer, ConnectionDone
        1.1   connectionLost(ConnectionDone)
        1.1   clientConnectionLost(ConnectionDone)
        1.1   stopFactory()
        """,
        """
        0     paused
        1     write side ended
        1     writeConnectionLost()
        5     resumed
        5     first byte
        5     dataReceived(6)
        5     read side ended
        5     readConnectionLost()
        5     closed by peer, ConnectionDone
        5     connectionLost(ConnectionDone)
        """,
    ),
    Row(
        "half-closed connections stay for as long as their users like",
        ("half", "half"),
        [(0, "client", "loseWriteConnection"), (90_000, "server", "write", b"patience")],
        """
        0     write side ended
        0     writeConnectionLost()
        90000.1 first byte
        90000.1 dataReceived(8)
        """,
        """
        0.1   read side ended
        0.1   readConnectionLost()
        """,
    ),
]


def ask(scene: Scene, ends: dict[str, Any], asked: list[tuple[Any, ...]]) -> None:
    """Let each end's user ask in its own reactor, at the second given."""
    for second, end, request, *args in asked:
        host = scene.client if end == "client" else scene.server
        host.reactor.callLater(second, getattr(ends[end].transport, request), *args)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
def test_both_scripts_of_a_half_close_are(scene, row):
    client, server = scene.connected(KINDS[row.kinds[0]], KINDS[row.kinds[1]], latency=0.1)
    ask(scene, {"client": client, "server": server}, row.asked)
    scene.sim.runUntilIdle()
    assert (str(scene.script), str(scene.server_script)) == (lines(row.client), lines(row.server))


@pytest.mark.parametrize("kind", ["half", "plain"])
@pytest.mark.parametrize("who", ["client", "server"])
def test_what_waits_to_be_sent_when_the_peer_half_closes_arrives_whole(scene, who, kind):
    """Twisted throws it away: 17 of 20 MB (CONTRACT 5)."""
    kinds = (KINDS[kind], HalfTalk) if who == "client" else (HalfTalk, KINDS[kind])
    client, server = scene.connected(*kinds, latency=0.01)
    sender, receiver = (client, server) if who == "client" else (server, client)
    data = bytes(range(250)) * (BULK // 250)
    sender.transport.write(data)
    receiver.transport.loseWriteConnection()
    scene.sim.runUntilIdle()
    assert receiver.received == data
    if kind == "plain":
        assert [type(each.reason).__name__ for each in (sender, receiver)] == ["ConnectionDone"] * 2
        assert sender.reason.ended.by.value == "peer"
    else:
        assert sender.reason is None


def test_loseWriteConnection_waits_for_a_slow_reader_and_tells_only_then(scene):
    client, server = scene.connected(HalfTalk, HalfTalk, latency=0.1)
    server.transport.pauseProducing()
    client.transport.write(bytes(BULK))
    client.transport.loseWriteConnection()
    scene.server.reactor.callLater(30, server.transport.resumeProducing)
    scene.sim.advance(29)
    assert str(scene.script) == ""
    scene.sim.runUntilIdle()
    told = str(scene.script).splitlines()
    assert [line.partition(" ")[2].strip() for line in told] == ["write side ended", "writeConnectionLost()"]
    assert float(told[0].split()[0]) > 30
    assert len(server.received) == BULK
    assert str(scene.server_script).endswith("readConnectionLost()")


ENDS_OF_HALVES = ["loseConnection", "abortConnection", "loseWriteConnection", "write"]


@pytest.mark.parametrize("request_", ENDS_OF_HALVES)
@pytest.mark.parametrize("where", ["readConnectionLost", "writeConnectionLost"])
def test_each_request_from_within_a_half_s_callback_ends_both_ends_once(scene, where, request_):
    def act(talk: Any) -> None:
        getattr(talk.transport, request_)(*([b"more"] if request_ == "write" else []))

    acts = {where: act}
    client, server = scene.connected(HalfTalk, HalfTalk, latency=0.1, acts=acts, server_acts=acts)
    client.transport.loseWriteConnection()
    scene.sim.runUntilIdle()
    for talk in (client, server):
        if talk.reason is None:
            talk.transport.loseConnection()
    scene.sim.runUntilIdle()
    for script in (scene.script, scene.server_script):
        told = script.callbacks()
        assert told.count("connectionLost(") == 1
        assert told.count("readConnectionLost") <= 1
        assert told.count("writeConnectionLost") <= 1
