"""A real redis-server, spoken to by the protocol of examples/redis_client.py; killed and restarted under its clients.

Over connectTCP, a reconnecting factory, a ClientService and a Pool; and the example itself, as a process of its own.
"""

from __future__ import annotations

import random
import re
import signal
import subprocess
from pathlib import Path

import pytest
from hiredis import ProtocolError, ReplyError

from examples.redis_client import Redis
from ropewalk import ClientFactory, Deferred, Factory, Protocol, ReconnectingClientFactory, task
from ropewalk.endpoints import HostnameEndpoint
from ropewalk.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from ropewalk.pool import Pool
from ropewalk.service import ClientService, backoffPolicy
from ropewalk.task import deferLater
from tests.real.counterparts import LIMIT, free_port, program, run
from tests.real.example import read_until, started


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

    class Told(Redis):
        def connectionMade(self):
            super().connectionMade()
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
        with pytest.raises(ReplyError, match="unknown command"):
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

    class Client(Redis):
        def connectionMade(self):
            super().connectionMade()
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
                await deferLater(reactor, 0.005)
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


async def outcome(deferred):
    try:
        return await deferred
    except Exception as error:
        return error


def test_with_a_pool_what_was_under_way_fails_when_the_server_is_killed_and_what_follows_succeeds(
    port, start_redis
):
    child = start_redis()
    asleep = []

    async def count(pool):
        async with pool.connection() as redis:
            return await redis.pipeline(*[("INCR", "count")] * 10)

    async def sleep_in(pool):
        async with pool.connection() as redis:
            asleep.append(redis)
            await redis.command("BLPOP", "nothing", 0)

    async def story(reactor):
        nonlocal child
        pool = Pool(HostnameEndpoint(reactor, "127.0.0.1", port), Factory.forProtocol(Redis), size=3)
        assert await count(pool) == list(range(1, 11))
        sleepers = [Deferred.fromCoroutine(sleep_in(pool)) for _ in range(5)]
        while len(asleep) < 3:  # the other two wait for a place
            await deferLater(reactor, 0.005)
        child.end(signal.SIGKILL)
        outcomes = [await outcome(each) for each in sleepers]
        assert all(isinstance(each, ConnectionDone | ConnectionLost) for each in outcomes[:3]), outcomes
        assert all(isinstance(each, ConnectionRefusedError) for each in outcomes[3:]), outcomes
        assert isinstance(await outcome(count(pool)), ConnectionRefusedError)
        child = start_redis()
        assert await count(pool) == list(range(11, 21)), "what redis had acknowledged is there again"
        await pool.close()

    task.run(story)


def test_with_a_ClientService_there_is_a_connection_again_when_the_server_is(port, start_redis):
    child = start_redis()

    async def story(reactor):
        nonlocal child
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", port)
        service = ClientService(endpoint, Factory.forProtocol(Redis), backoffPolicy(0.01, 0.02))
        service.startService()
        first = await service.whenConnected()
        unanswered = first.command("BLPOP", "nothing", 0)
        child.end(signal.SIGKILL)
        assert isinstance(await outcome(unanswered), ConnectionDone | ConnectionLost)
        assert isinstance(await outcome(first.command("PING")), ConnectionDone | ConnectionLost)
        child = start_redis()
        second = await service.whenConnected()
        assert second is not first
        assert await second.command("PING") == b"PONG"
        await service.stopService()

    task.run(story)


def test_a_server_that_answers_no_more_fails_what_waits_for_it(port, start_redis):
    """Its connection stays up; the command that has waited too long ends it, so that no reply can come for another."""
    child = start_redis()

    class Hasty(Redis):
        patience = 0.5

    async def story(reactor):
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", port)
        redis = await endpoint.connect(Factory.forProtocol(Hasty))
        assert await redis.command("SET", "key", 1) == b"OK"
        child.process.send_signal(signal.SIGSTOP)
        try:
            first = redis.command("GET", "key")
            await deferLater(reactor, 0.4)
            second = redis.command("GET", "key")
            assert isinstance(await outcome(first), TimeoutError)
            assert isinstance(await outcome(second), ConnectionAborted)
            assert isinstance(await outcome(redis.command("GET", "key")), ConnectionAborted)
        finally:
            child.process.send_signal(signal.SIGCONT)
        again = await endpoint.connect(Factory.forProtocol(Hasty))
        assert await again.command("GET", "key") == b"1"
        again.transport.loseConnection()

    task.run(story)


def test_what_is_not_RESP_fails_what_waits_and_is_logged(caplog):
    class Talks(Protocol):
        def connectionMade(self):
            self.transport.write(b"who are you?\r\n")

    async def story(reactor):
        listening = reactor.listenTCP(0, Factory.forProtocol(Talks), interface="127.0.0.1")
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", listening.getHost().port)
        redis = await endpoint.connect(Factory.forProtocol(Redis))
        assert isinstance(await outcome(redis.command("PING")), ProtocolError)

    task.run(story)
    assert "ProtocolError" in caplog.text


def counted(client, pattern):
    return int(re.match(r"counted (\d+)", read_until(client, pattern))[1])


@pytest.mark.usefixtures("interruptible")
def test_the_example_goes_on_counting_when_its_server_was_killed_and_started_again(port, start_redis):
    child = start_redis()
    with started("redis_client.py", "127.0.0.1", port, 0.1) as client:
        counted(client, r"^counted [1-9]\d* $")
        child.end(signal.SIGKILL)
        before = counted(client, "in trouble: .*ECONNREFUSED")
        start_redis()
        while (after := counted(client, "^counted")) == before:
            pass
        client.send_signal(signal.SIGINT)
        after = max([after, *(int(line.split()[1]) for line in client.stdout)])
        assert client.wait() == 0
    command = [program("redis-cli"), "-p", str(port), "GET", "rope:count"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
    assert int(done.stdout) >= after, "what was acknowledged was done"
