"""Very many connections, and very many bytes."""

from __future__ import annotations

import hashlib
import json
import resource
import socket
import sys
import threading
from pathlib import Path

import pytest

from ropewalk import ClientFactory, Protocol, ServerFactory, Step, TCPOptions
from ropewalk.error import ConnectionDone
from tests.real import crowd
from tests.real.counterparts import LIMIT, run

COUNT = 10_000
PROGRAM = Path(__file__).with_name("crowd.py")


def test_ten_thousand_connections_at_once_in_one_process(start, figure):
    """As a server in one process, as clients in the other: all echo, all end, nothing is left."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < COUNT + crowd.SPARE:
        pytest.skip(f"the hard limit of descriptors is {hard}: raise it (ulimit -Hn {COUNT + crowd.SPARE})")

    def told(child):
        return {line["what"]: line for line in map(json.loads, child.said().splitlines())}

    command = (sys.executable, "-W", "error", str(PROGRAM))
    server = start(*command, "server", str(COUNT))
    server.wait_until(lambda: server.said().endswith("\n"))
    port = told(server)["listening"]["port"]
    clients = start(*command, "client", str(COUNT), str(port))
    assert clients.process.wait(LIMIT) == 0, clients.said()
    assert server.process.wait(LIMIT) == 0, server.said()
    for child, name, first in ((server, "server", "listening"), (clients, "client", "begins")):
        lines = told(child)
        assert list(lines) == [first, "connected", "served", "ended"]
        assert lines["connected"]["descriptors"] >= COUNT
        assert lines["ended"]["lost"] == COUNT
        assert lines["ended"]["reasons"] == {"ConnectionDone": COUNT}
        assert lines["ended"]["protocols"] == 0, "ended protocols are freed without the garbage collector"
        assert lines["ended"]["descriptors"] == lines["ended"]["before"]
        grown = lines["connected"]["rss"] - lines[first]["rss"]
        figure(
            f"{COUNT} connections at once, {name}: {lines['connected']['rss'] / 1e6:.1f} MB resident, "
            f"{grown / COUNT:.0f} bytes more for each"
        )


# ---- half-close with much unsent ----------------------------------------------------------------------------------

SIZE = 20_000_000
DATA = hashlib.shake_256(b"twenty megabytes").digest(SIZE)


def in_one(transport):
    transport.write(DATA)


def in_many(transport):
    for at in range(0, SIZE, 1000):
        transport.write(DATA[at : at + 1000])


def in_a_sequence(transport):
    transport.writeSequence(DATA[at : at + 4096] for at in range(0, SIZE, 4096))


WAYS = pytest.mark.parametrize("write", [in_one, in_many, in_a_sequence], ids=lambda each: each.__name__)


def read_to_the_end(sock):
    pieces = []
    while piece := sock.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


class Raw:
    """The other end: a plain blocking socket in a thread. It half-closes, and reads nothing until the engine has
    noticed that; so all that the kernel's buffers cannot hold is unsent by then. Then it reads until the end.
    """

    def __init__(self, reactor, make):
        self.received = None
        self._noticed = threading.Event()
        reactor.observers.append(self._observe)
        reactor.getThreadPool().callInThreadWithCallback(self._done, self._work, make)

    def _work(self, make):
        with make() as sock:
            sock.settimeout(LIMIT)
            sock.sendall(b"go")
            sock.shutdown(socket.SHUT_WR)
            assert self._noticed.wait(LIMIT)
            self.received = read_to_the_end(sock)

    def _observe(self, event):
        if event.step in (Step.READ_SIDE_ENDED, Step.CLOSING):
            self._noticed.set()

    def _done(self, succeeded, result):
        self.error = None if succeeded else result


class Talks(Protocol):
    """Writes everything at the first byte; hears the peer's end while most of it waits."""

    def dataReceived(self, data):
        self.factory.write(self.transport)

    def connectionLost(self, reason):
        self.factory.reason = reason.value
        self.factory.reactor.stop()


class TalksOn(Talks):
    """The same with a protocol that knows half-close and ends by itself."""

    def readConnectionLost(self):
        self.factory.waiting = self.transport.bytesBuffered
        self.transport.loseWriteConnection()


def factory_of(kind, reactor, protocol, write):
    factory = kind.forProtocol(protocol)
    factory.noisy = False
    factory.write, factory.reactor = write, reactor
    return factory


@WAYS
@pytest.mark.parametrize("protocol", [Talks, TalksOn])
def test_20_MB_unsent_when_a_client_half_closes_arrive_whole(reactor, write, protocol):
    factory = factory_of(ServerFactory, reactor, protocol, write)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port
    raw = Raw(reactor, lambda: socket.create_connection(("127.0.0.1", port), LIMIT))
    run(reactor)
    assert raw.error is None
    assert raw.received == DATA
    assert (type(factory.reason), factory.reason.ended.by) == (ConnectionDone, "peer")
    assert factory.reason.ended.sent == SIZE
    if protocol is TalksOn:
        assert factory.waiting > 1_000_000, "the peer's end was heard while much still waited"


@WAYS
@pytest.mark.parametrize("protocol", [Talks, TalksOn])
def test_20_MB_unsent_when_a_server_half_closes_arrive_whole(reactor, write, protocol):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        factory = factory_of(ClientFactory, reactor, protocol, write)
        reactor.connectTCP("127.0.0.1", listener.getsockname()[1], factory)
        raw = Raw(reactor, lambda: listener.accept()[0])
        run(reactor)
    assert raw.error is None
    assert raw.received == DATA
    assert (type(factory.reason), factory.reason.ended.by) == (ConnectionDone, "peer")
    assert factory.reason.ended.sent == SIZE


@WAYS
def test_20_MB_written_before_loseConnection_arrive_whole(reactor, write):
    class Leaves(Talks):
        def dataReceived(self, data):
            super().dataReceived(data)
            self.transport.loseConnection()
            self.transport.write(b"")

    factory = factory_of(ServerFactory, reactor, Leaves, write)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port
    raw = Raw(reactor, lambda: socket.create_connection(("127.0.0.1", port), LIMIT))
    run(reactor)
    assert raw.error is None
    assert raw.received == DATA
    assert (type(factory.reason), factory.reason.ended.by) == (ConnectionDone, "us")


def test_20_MB_go_through_small_buffers_in_both_directions_at_once(reactor):
    """Both ends ours, both send all of it at once, the kernel's buffers kept small: many short writes."""
    heard = {}

    class Both(Protocol):
        def connectionMade(self):
            self.digest = hashlib.sha256()
            self.missing = SIZE
            self.transport.write(DATA)

        def dataReceived(self, data):
            self.digest.update(data)
            self.missing -= len(data)
            if not self.missing:
                heard[self.name] = self.digest.digest()
                if len(heard) == 2:
                    reactor.stop()

    class Here(Both):
        name = "client"

    class There(Both):
        name = "server"

    options = TCPOptions(sendBuffer=4096, receiveBuffer=4096)
    listening = reactor.listenTCP(0, ServerFactory.forProtocol(There), interface="127.0.0.1", options=options)
    port = listening.getHost().port
    reactor.connectTCP("127.0.0.1", port, ClientFactory.forProtocol(Here), options=options)
    run(reactor)
    expected = hashlib.sha256(DATA).digest()
    assert heard == {"client": expected, "server": expected}
