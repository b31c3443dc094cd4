"""A real redis-server, spoken to through connectTCP; killed and restarted under a reconnecting client."""

from __future__ import annotations

import itertools
import random
import signal
from pathlib import Path

import pytest

from ropewalk import ClientFactory, Deferred, ReconnectingClientFactory
from ropewalk.error import ConnectionDone, ConnectionLost
from tests.real.counterparts import free_port, program, run
from tests.real.resp import RedisError, Replies, Resp

TEXT = b"+OK\r\n:42\r\n$5\r\na\r\nb\n\r\n$0\r\n\r\n$-1\r\n*3\r\n:1\r\n*2\r\n+a\r\n$1\r\nb\r\n*0\r\n-ERR no\r\n+end\r\n"
REPLIES = [b"OK", 42, b"a\r\nb\n", b"", None, [1, [b"a", b"b"], []], "ERR no", b"end"]


def plain(replies):
    return [str(each) if isinstance(each, RedisError) else each for each in replies]


def test_the_parser_gives_the_same_replies_however_the_bytes_are_cut():
    assert plain(Replies().feed(TEXT)) == REPLIES
    for size in range(1, len(TEXT)):
        parser = Replies()
        pieces = [TEXT[at : at + size] for at in range(0, len(TEXT), size)]
        assert plain(itertools.chain.from_iterable(map(parser.feed, pieces))) == REPLIES


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def start_redis(start, port, tmp_path: Path):
    """Starts the server, again each time it is called."""
    path = program("redis-server")

    def start_redis():
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", ""]
        child = start(path, *options, "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no")
        # Why not its port: it listens before it has read its file, and answers LOADING until it has.
        child.wait_until(lambda: "Ready to accept connections" in child.said())
        return child

    return start_redis


def drive(reactor, port, story, factory=None):
    """Run `await story(client)` with a client that is connected, then stop."""
    told = []

    class Told(Resp):
        def connectionMade(self):
            if not told:
                told.append(Deferred.fromCoroutine(story(self)).addBoth(ended))

        def connectionLost(self, reason):
            super().connectionLost(reason)
            told.append(reason.type)

    def ended(result):
        told[0] = result
        reactor.stop()

    factory = factory or ClientFactory()
    factory.protocol = Told
    reactor.connectTCP("127.0.0.1", port, factory)
    run(reactor)
    if isinstance(told[0], BaseException):
        told[0].raiseException()
    return told


def test_ping_and_errors_are_answered_in_order(reactor, port, start_redis):
    start_redis()

    async def story(redis):
        answers = [redis.command(b"PING"), redis.command(b"NO SUCH"), redis.command(b"ECHO", b"\r\n\0\xff")]
        assert await answers[0] == b"PONG"
        with pytest.raises(RedisError, match="unknown command"):
            await answers[1]
        assert await answers[2] == b"\r\n\0\xff"
        return "told"

    assert drive(reactor, port, story)[0] == "told"


def test_ten_thousand_keys_are_set_and_got_in_one_pipeline(reactor, port, start_redis):
    start_redis()
    source = random.Random(2)
    # Empty ones, small ones, and some that are larger than one read.
    sizes = [0, 1, *(source.randrange(200) for _ in range(9994)), 65536, 100_000, 300_000, 1_000_000]
    table = {b"key:%d" % number: source.randbytes(size) for number, size in enumerate(sizes)}
    assert len(table) == 10_000

    async def story(redis):
        sets = [redis.command(b"SET", key, value) for key, value in table.items()]
        gets = [redis.command(b"GET", key) for key in table]
        for answer in sets:
            assert await answer == b"OK"
        for answer, value in zip(gets, table.values(), strict=True):
            assert await answer == value
        assert await redis.command(b"DBSIZE") == 10_000
        return redis.transport.bytesSent, redis.transport.bytesReceived

    sent, received = drive(reactor, port, story)[0]
    assert sent > sum(sizes)
    assert received > sum(sizes)


def test_quit_is_answered_and_then_the_server_ends_the_connection(reactor, port, start_redis):
    start_redis()
    lost = Deferred()

    class Told(ClientFactory):
        noisy = False

        def clientConnectionLost(self, connector, reason):
            lost.callback((connector.state, reason.type, reason.value.ended.by))

    async def story(redis):
        assert await redis.command(b"QUIT") == b"OK"
        return await lost

    assert drive(reactor, port, story, Told())[0] == ("disconnected", ConnectionDone, "peer")


def test_commands_resume_after_the_server_was_killed_and_started_again(reactor, port, start_redis):
    """Killed with SIGKILL while commands are under way; nobody listens for a while; what was answered is kept."""
    child = start_redis()
    waiting = []

    class Client(Resp):
        def connectionMade(self):
            self.factory.resetDelay()
            if waiting:
                waiting.pop().callback(self)

    class Again(ReconnectingClientFactory):
        noisy = False
        protocol = Client
        initialDelay = 0.005
        maxDelay = 0.02

        def __init__(self):
            self.told = []

        def startFactory(self):
            self.told.append("start")

        def stopFactory(self):
            self.told.append("stop")

        def clientConnectionFailed(self, connector, reason):
            self.told.append("failed")
            super().clientConnectionFailed(connector, reason)

        def clientConnectionLost(self, connector, reason):
            self.told.append(reason.type)
            super().clientConnectionLost(connector, reason)

    def connected():
        waiting.append(Deferred())
        return waiting[0]

    def elapsed(seconds):
        waiting_for = Deferred()
        reactor.callLater(seconds, waiting_for.callback, None)
        return waiting_for

    factory = Again()

    async def story():
        nonlocal child
        redis = await connected()
        for life in range(3):
            total = await redis.command(b"INCRBY", b"total", b"10")
            assert total == 10 * (life + 1), "what redis had acknowledged is there again"
            # Asleep in the server: this one is never answered.
            unanswered = redis.command(b"BLPOP", b"nothing", b"0")
            following = connected()
            child.end(signal.SIGKILL)
            # Which of the two depends on whether the dying server had bytes that it had not read.
            with pytest.raises((ConnectionDone, ConnectionLost)):
                await unanswered
            failed = factory.told.count("failed")
            while factory.told.count("failed") < failed + 2:
                await elapsed(0.005)
            child = start_redis()
            redis = await following
            assert await redis.command(b"PING") == b"PONG"
        factory.stopTrying()
        redis.transport.loseConnection()

    outcome = Deferred.fromCoroutine(story())
    outcome.addBoth(lambda result: (reactor.stop(), result)[1])
    reactor.connectTCP("127.0.0.1", port, factory)
    run(reactor)
    results = []
    outcome.addBoth(results.append)
    assert results == [None], results[0].getTraceback()
    assert factory.told[0] == "start"
    assert factory.told[-1] == "stop"
    assert factory.told.count("start") == factory.told.count("stop") == 1
    assert factory.numPorts == 0
