"""FAULTS C1, C5 to C8, C11, C13 to C15, C17, F19: streams that meet slow peers, hostile users and errors, and leave nothing.

Peers that never read, errors on order and the passing of time belong to the simulated kernel, whose ledger must be empty
in the end; what garbage and recursion cost is counted over real loopback. Nothing here is timed: what must be linear is
counted in system calls and in bytes copied.
"""

from __future__ import annotations

import errno
import gc
import itertools
import logging
import socket
import sys
import tracemalloc
from contextlib import contextmanager

import pytest

from ropewalk import TCPOptions
from ropewalk._net.outbox import Outbox
from ropewalk._net.stream import READ_SIZE
from ropewalk.defer import Deferred, succeed
from ropewalk.error import ConnectError, ConnectionAborted, ConnectionDone, ConnectionLost
from ropewalk.event import EndedBy
from tests.faults.scene import (
    LOCALHOST,
    CountedSocket,
    Echo,
    HalfTold,
    Makes,
    PushProducer,
    Told,
    black_hole,
    call,
    end_all,
    listening,
    name_of,
    reset,
    turn_until,
    unused_port,
)

MANY = 100_000
# More than the buffers of both simulated ends hold.
TOO_MUCH = 8_000_000


class Line:
    """A client and a server on the simulated network, connected."""

    def __init__(self, sim, kind=Told, served=Told, **options):
        self.sim = sim
        self.server, self.client = sim.host("server"), sim.host("client")
        self.calling, self.serving = Makes(kind), Makes(served)
        self.port = self.server.reactor.listenTCP(7, self.serving)
        self.client.reactor.connectTCP("server", 7, self.calling, options=TCPOptions(**options))
        sim.advance(0.1)
        self.ours, self.theirs = self.calling.last, self.serving.last

    @property
    def transport(self):
        return self.ours.transport

    def stall(self):
        """Let the peer read nothing, and fill what the kernels hold."""
        self.theirs.transport.pauseProducing()
        self.sim.advance(0.1)
        self.transport.write(b"." * TOO_MUCH)
        self.sim.advance(0.1)
        assert self.transport.bytesBuffered

    def end(self):
        for factory in (self.calling, self.serving):
            for each in factory.built:
                each.transport.abortConnection()
        self.port.stopListening()
        self.sim.runUntilIdle()
        for factory in (self.calling, self.serving):
            assert [each.told.count("lost") for each in factory.built] == [1] * len(factory.built)


@pytest.fixture
def line(sim):
    made = []

    def make(*args, **options):
        made.append(Line(sim, *args, **options))
        return made[-1]

    yield make
    for each in made:
        each.end()


def client_descriptors(line):
    """What of the client's host is open, beyond what a reactor at rest has."""
    return line.client.ledger().leftovers()


# ---- C1: slow readers -----------------------------------------------------------------------------------------------

WRITE_PATHS = {
    "write": lambda transport, size: transport.write(b"x" * size),
    "a mutable buffer": lambda transport, size: transport.write(bytearray(size)),
    "a view": lambda transport, size: transport.write(memoryview(bytes(size))),
    "writeSequence": lambda transport, size: transport.writeSequence([b"x" * (size // 4)] * 4),
    "writeSequence of many": lambda transport, size: transport.writeSequence([b"x"] * size),
    "a generator": lambda transport, size: transport.writeSequence(b"x" * 100 for _ in range(size // 100)),
    "many small writes": lambda transport, size: [transport.write(b"x" * 10) for _ in range(size // 10)],
}
each_write_path = pytest.mark.parametrize("path", WRITE_PATHS.values(), ids=WRITE_PATHS.keys())


@each_write_path
@pytest.mark.parametrize("kernel", ["empty", "full"])
def test_C1_every_way_to_write_pauses_the_producer_once_above_the_mark(line, path, kernel):
    now = line(highWater=1000)
    if kernel == "full":
        now.stall()
        now.transport.setWriteLimits(now.transport.bytesBuffered + 1000)
    producer = PushProducer()
    now.transport.registerProducer(producer, True)
    path(now.transport, 1000)
    assert producer.told == []
    path(now.transport, 4000)
    assert producer.told == ["pause"]
    path(now.transport, 4000)
    assert producer.told == ["pause"]
    now.theirs.transport.resumeProducing()
    now.sim.advance(10)
    assert producer.told == ["pause", "resume"]
    now.transport.unregisterProducer()


@pytest.mark.parametrize("spot", ["connectionMade", "dataReceived", "timer", "resumeProducing"])
def test_C1_the_producer_is_paused_wherever_it_is_written(line, spot):
    asked = []

    class Writes(Told):
        def connectionMade(self):
            super().connectionMade()
            self.producer = PushProducer()
            self.transport.registerProducer(self.producer, True)
            if spot == "connectionMade":
                self.much()

        def dataReceived(self, data):
            if spot == "dataReceived":
                self.much()

        def much(self):
            self.transport.writeSequence([b"x" * 40_000] * 2)
            asked.append(self.producer.told[-1])

    now = line(Writes)
    if spot == "resumeProducing":
        now.ours.producer.resumeProducing = lambda: asked or now.ours.much()
        now.transport.write(b"x" * 70_000)
        now.sim.advance(1)
    now.theirs.transport.write(b"go")
    now.client.reactor.callLater(1, now.ours.much if spot == "timer" else bool)
    now.theirs.transport.pauseProducing()
    now.sim.advance(2)
    assert asked
    assert set(asked) == {"pause"}
    now.transport.unregisterProducer()


@pytest.mark.parametrize("size", [1, 1000, 65_000])
def test_C1_what_waits_is_never_more_than_the_mark_and_one_write(line, size):
    """A producer that obeys, a reader that takes a little now and then: J6."""
    now = line(highWater=20_000, lowWater=5_000)
    most = []

    class Obeys(PushProducer):
        left = 400_000

        def resumeProducing(self):
            super().resumeProducing()
            self.produce()

        def produce(self):
            start = len(self.told)
            while self.left and self.told[start:] != ["pause"]:
                now.transport.write(b"x" * min(size, self.left))
                self.left -= min(size, self.left)
                most.append(now.transport.bytesBuffered)
            if not self.left:
                now.transport.unregisterProducer()

    def now_and_then():
        now.theirs.transport.resumeProducing()
        now.server.reactor.callLater(0.001, now.theirs.transport.pauseProducing)
        if len(now.theirs.received) < 400_000:
            now.server.reactor.callLater(0.01, now_and_then)

    now.theirs.transport.pauseProducing()
    producer = Obeys()
    now.transport.registerProducer(producer, True)
    producer.produce()
    now_and_then()
    now.sim.advance(30)
    assert max(most) <= 20_000 + size
    assert len(now.theirs.received) == 400_000
    assert producer.told.count("pause") - producer.told.count("resume") in (0, 1)


@each_write_path
@pytest.mark.parametrize("kernel", ["empty", "full"])
def test_C1_above_the_hard_limit_the_connection_is_aborted_on_every_way_to_write(line, path, kernel):
    now = line(hardLimit=100_000)
    if kernel == "full":
        now.transport.setWriteLimits(0, 0, 2 * TOO_MUCH)
        now.stall()
        waiting = now.transport.bytesBuffered
        now.transport.setWriteLimits(0, 0, waiting + 100_000)
    limit = 100_000 if kernel == "empty" else waiting + 100_000
    path(now.transport, 100_000)
    now.sim.advance(0)
    assert not now.ours.is_over
    now.sim.advance(0.1)
    path(now.transport, 300_000)
    assert not now.ours.is_over
    now.sim.advance(0)
    assert now.ours.told == ["made", "lost"]
    assert type(now.ours.reason) is ConnectionLost
    assert f"the hard limit is {limit}" in str(now.ours.reason)
    assert now.ours.reason.ended.by is EndedBy.ERROR
    assert client_descriptors(now) == []
    now.theirs.transport.resumeProducing()
    now.sim.advance(1)
    assert now.theirs.reason.errno == errno.ECONNRESET


def test_C1_the_hard_limit_is_for_what_waits_not_for_what_was_sent(line):
    now = line(hardLimit=65_536)
    for _ in range(50):
        now.transport.write(b"x" * 65_536)
        now.sim.advance(1)
    assert len(now.theirs.received) == 50 * 65_536


def test_C1_a_producer_that_does_not_obey_is_stopped_by_the_hard_limit(line):
    now = line(highWater=10, hardLimit=1000)
    producer = PushProducer()
    now.transport.registerProducer(producer, True)
    for _ in range(10):
        now.transport.write(b"x" * 500)
    now.sim.advance(0)
    assert producer.told == ["pause", "stop"]
    assert "1500 bytes wait to be sent, the hard limit is 1000" in str(now.ours.reason)


# ---- F19: written to a peer that never reads ------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1 << 12, 1 << 16, 1 << 20])
def test_F19_with_a_hard_limit_memory_is_bounded_whatever_is_written(line, chunk):
    """64 MiB for a peer that never reads. Without the limit all of it would be kept, as asked."""
    limit = 1 << 20
    now = line(highWater=limit, hardLimit=limit)
    now.theirs.transport.pauseProducing()
    now.sim.advance(0.1)
    most = 0
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for number in range((64 << 20) // chunk):
            now.transport.write(bytes(chunk))
            most = max(most, now.transport.bytesBuffered)
            if number % 16 == 0:
                now.sim.advance(0.001)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert most <= limit + chunk
    # What the two simulated kernels hold is memory of this process too.
    assert peak <= limit + 2 * chunk + (10 << 20)
    now.sim.advance(1)
    assert "the hard limit is 1048576" in str(now.ours.reason)
    assert now.transport.bytesBuffered == 0


def test_F19_a_producer_that_obeys_never_has_more_waiting_than_its_mark(line):
    now = line()
    now.theirs.transport.pauseProducing()
    producer = PushProducer()
    now.transport.registerProducer(producer, True)
    now.sim.advance(0.1)
    written = 0
    while producer.told.count("pause") == producer.told.count("resume"):
        now.transport.write(bytes(10_000))
        written += 10_000
        now.sim.advance(0.001)
    assert now.transport.bytesBuffered <= 65_536 + 10_000
    assert written < TOO_MUCH
    now.sim.advance(1000)
    assert producer.told[-1] == "pause"
    now.transport.unregisterProducer()


# ---- C5: errors keep their number -----------------------------------------------------------------------------------


@pytest.mark.parametrize("call_that_fails", ["recv", "send"])
@pytest.mark.parametrize(
    ("number", "by"),
    [
        (errno.ECONNRESET, EndedBy.PEER_RESET),
        (errno.EPIPE, EndedBy.PEER_RESET),
        (errno.ETIMEDOUT, EndedBy.TIMEOUT),
        (errno.EHOSTUNREACH, EndedBy.ERROR),
        (errno.ENETDOWN, EndedBy.ERROR),
        (errno.EIO, EndedBy.ERROR),
        (9999, EndedBy.ERROR),
    ],
    ids=lambda value: errno.errorcode.get(value, str(value)) if isinstance(value, int) else value.name,
)
def test_C5_whatever_the_kernel_says_the_reason_keeps_its_number(line, call_that_fails, number, by):
    now = line()
    now.client.faults.fail(call_that_fails, number)
    (now.transport if call_that_fails == "send" else now.theirs.transport).write(b"x")
    now.sim.advance(1)
    reason = now.ours.reason
    assert type(reason) is ConnectionLost
    assert isinstance(reason, OSError)
    assert reason.errno == number
    assert (reason.ended.by, reason.ended.errno) == (by, number)
    assert name_of(number) in str(reason) if number in errno.errorcode else str(number) in str(reason)
    assert reason.__traceback__ is None
    assert reason.osError.__traceback__ is None


# ---- C6: closing towards a peer that never reads ---------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["loseConnection", "loseWriteConnection"])
def test_C6_a_peer_that_never_reads_is_aborted_at_the_deadline(line, ask):
    now = line(closeTimeout=20.0)
    now.stall()
    waiting = now.transport.bytesBuffered
    getattr(now.transport, ask)()
    now.sim.advance(19.9)
    assert not now.ours.is_over
    now.sim.advance(0.2)
    assert now.ours.told == ["made", "lost"]
    assert type(now.ours.reason) is ConnectionLost
    assert now.ours.reason.ended.by is EndedBy.TIMEOUT
    assert f"no progress for 20.0 s while closing, {waiting} bytes not sent" in str(now.ours.reason)
    assert client_descriptors(now) == []
    now.theirs.transport.resumeProducing()
    now.sim.advance(1)
    assert now.theirs.reason.errno == errno.ECONNRESET


def test_C6_two_hundred_peers_that_never_read_leave_no_descriptor(sim):
    server, client = sim.host("server"), sim.host("client")

    class Mute(Told):
        def connectionMade(self):
            super().connectionMade()
            self.transport.pauseProducing()

    class Pours(Told):
        def connectionMade(self):
            super().connectionMade()
            self.transport.write(bytes(TOO_MUCH))
            self.transport.loseConnection()

    served, calling = Makes(Pours), Makes(Mute)
    port = server.reactor.listenTCP(7, served)
    before = server.ledger().leftovers()
    for _ in range(200):
        client.reactor.connectTCP("server", 7, calling)
    sim.advance(59)
    assert not any(each.is_over for each in served.built)
    sim.advance(3)
    assert [type(each.reason) for each in served.built] == [ConnectionLost] * 200
    assert server.ledger().leftovers() == before
    for each in calling.built:
        each.transport.abortConnection()
    port.stopListening()
    sim.runUntilIdle()


def test_C6_a_producer_that_never_ends_does_not_keep_it_open_either(line):
    now = line(closeTimeout=5.0)
    producer = PushProducer()
    now.transport.registerProducer(producer, True)
    now.transport.loseConnection()
    now.sim.advance(5.1)
    assert producer.told == ["stop"]
    assert now.ours.reason.ended.by is EndedBy.TIMEOUT
    assert client_descriptors(now) == []


def test_C6_over_real_sockets_the_deadline_frees_the_descriptor(reactor):
    class Pours(Told):
        def connectionMade(self):
            super().connectionMade()
            self.transport.write(bytes(4 * TOO_MUCH))
            self.transport.loseConnection()

    factory = Makes(Pours)
    with listening(reactor, factory, options=TCPOptions(closeTimeout=0.05)) as port:
        peer = call(port)
        turn_until(reactor, lambda: factory.built and factory.last.is_over)
        assert factory.last.reason.ended.by is EndedBy.TIMEOUT
        assert factory.last.transport.fileno() == -1
        with pytest.raises(ConnectionResetError):
            while peer.recv(1 << 20):
                pass
        peer.close()


# ---- C7: aborting from within ---------------------------------------------------------------------------------------

ENDS = {
    "abort": ["abortConnection"],
    "abort twice": ["abortConnection", "abortConnection"],
    "lose, then abort": ["loseConnection", "abortConnection"],
    "abort, then lose": ["abortConnection", "loseConnection"],
    "half-close, then abort": ["loseWriteConnection", "abortConnection"],
    "pause, then abort": ["pauseProducing", "abortConnection"],
    "abort, then resume": ["abortConnection", "resumeProducing"],
}


@pytest.mark.parametrize("written", [b"", b"small", bytes(TOO_MUCH)], ids=len)
@pytest.mark.parametrize("asked", ENDS.values(), ids=ENDS.keys())
def test_C7_abort_within_dataReceived_is_told_once_in_that_turn_and_never_from_within(
    reactor, asked, written
):
    inside = []

    class Aborts(Told):
        def dataReceived(self, data):
            super().dataReceived(data)
            inside.append(self)
            self.transport.write(written)
            for each in asked:
                getattr(self.transport, each)()
                self.transport.write(written)
            inside.clear()

        def connectionLost(self, reason):
            super().connectionLost(reason)
            assert inside == []
            self.transport.abortConnection()
            self.transport.loseConnection()

    factory = Makes(Aborts)
    with listening(reactor, factory) as port:
        peer = call(port)
        peer.sendall(b"one" * 100)
        while not factory.built or not factory.last.received:
            reactor.iterate(0.02)
        # Rule: no further turn was needed.
        assert factory.last.told == ["made", "data", "lost"]
        assert type(factory.last.reason) is ConnectionAborted
        for _ in range(3):
            reactor.iterate(0)
        assert factory.last.told == ["made", "data", "lost"]
        with pytest.raises(ConnectionResetError):
            peer.recv(10)
        peer.close()


def test_C7_what_else_came_with_the_batch_is_not_told_to_one_that_aborted(reactor):
    """Two connections end each other: both are readable in one batch, and only the first is told."""
    factory = Makes()

    class EndsAll(Told):
        def dataReceived(self, data):
            super().dataReceived(data)
            for each in factory.built:
                each.transport.abortConnection()

    factory.kind = EndsAll
    with listening(reactor, factory) as port:
        peers = [call(port) for _ in range(5)]
        turn_until(reactor, lambda: len(factory.built) == 5)
        for peer in peers:
            peer.sendall(b"x")
        turn_until(reactor, lambda: all(each.is_over for each in factory.built))
        assert (
            sorted(each.told for each in factory.built) == [["made", "data", "lost"]] + [["made", "lost"]] * 4
        )
        for peer in peers:
            peer.close()


# ---- C8: both ends at once ------------------------------------------------------------------------------------------


def ask_lose(transport):
    transport.loseConnection()


def ask_pour(transport):
    transport.write(bytes(300_000))
    transport.loseConnection()


def ask_half(transport):
    transport.write(b"last words")
    transport.loseWriteConnection()


def ask_abort(transport):
    transport.abortConnection()


CLOSINGS = {"lose": ask_lose, "pour": ask_pour, "half": ask_half, "abort": ask_abort}


@pytest.mark.parametrize("latency", [0.0, 0.02])
@pytest.mark.parametrize("kind", [Told, HalfTold])
@pytest.mark.parametrize("one", CLOSINGS)
@pytest.mark.parametrize("other", CLOSINGS)
def test_C8_closing_from_both_ends_at_once_ends_both_once_with_a_true_reason(
    sim, line, one, other, kind, latency
):
    sim.host("server")
    sim.host("client")
    sim.latency("server", "client", latency)
    now = line(kind, kind)
    sim.advance(1)
    CLOSINGS[one](now.transport)
    CLOSINGS[other](now.theirs.transport)
    sim.advance(200)
    for protocol, mine, yours in ((now.ours, one, other), (now.theirs, other, one)):
        assert protocol.told.count("lost") == 1
        assert protocol.told[-1] == "lost"
        if mine == "abort":
            assert type(protocol.reason) is ConnectionAborted
        elif mine == "half" and yours == "half":
            assert type(protocol.reason) is ConnectionDone
            assert protocol.received == b"last words"
        elif yours != "abort" and mine == "lose":
            assert type(protocol.reason) is ConnectionDone
        else:
            assert type(protocol.reason) in (ConnectionDone, ConnectionLost)
    assert sim.connections() == []


@pytest.mark.parametrize("error", [errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH], ids=name_of)
def test_C8_an_error_that_only_SO_ERROR_tells_is_no_connection(sim, error):
    server, client = sim.host("server"), sim.host("client")
    sim.route(server.addresses[0], delay=0.1, error=error)
    calling = Makes()
    client.reactor.connectTCP(server.addresses[0], 7, calling)
    sim.runUntilIdle()
    assert calling.told == ["start", "connecting", "failed", "stop"]
    assert isinstance(calling.reason, ConnectError)
    assert calling.reason.errno == error


def test_C8_a_reset_in_the_instant_of_connecting_is_an_end_and_no_half_life(counted, monkeypatch):
    """The peer accepts and resets before our loop has looked: made, if at all, and lost, once each."""
    with socket.create_server((LOCALHOST, 0)) as listener:
        connect_ex = CountedSocket.connect_ex

        def connect_and_be_reset(self, address):
            number = connect_ex(self, address)
            reset(listener.accept()[0])
            return number

        monkeypatch.setattr(CountedSocket, "connect_ex", connect_and_be_reset)
        factory = Makes()
        for _ in range(20):
            counted.connectTCP(LOCALHOST, listener.getsockname()[1], factory)
        turn_until(counted, lambda: factory.told.count("lost") + factory.told.count("failed") == 20)
        for each in factory.built:
            assert each.told == ["made", "lost"]
            assert each.reason.errno == errno.ECONNRESET
        assert factory.reason.errno == errno.ECONNRESET


# ---- C11: ports that are none ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [-1, 65_536, 99_999_999, 2**64, -(2**31)])
def test_C11_a_port_out_of_range_is_a_ValueError_at_once_that_names_it(reactor, port):
    factory = Makes()
    with pytest.raises(ValueError, match=str(port)):
        reactor.connectTCP(LOCALHOST, port, factory)
    with pytest.raises(ValueError, match=str(port)):
        reactor.connectTCP("name.invalid", port, factory)
    with pytest.raises(ValueError, match=str(port)):
        reactor.connectTCP(LOCALHOST, 7, factory, bindAddress=(LOCALHOST, port))
    with pytest.raises(ValueError, match=str(port)):
        reactor.listenTCP(port, factory)
    reactor.iterate(0)
    assert factory.told == []


@pytest.mark.parametrize("port", [None, 1.5, True, b"80", (80,)])
def test_C11_what_is_no_number_is_a_TypeError_at_once(reactor, port):
    factory = Makes()
    for ask in (reactor.listenTCP, lambda *args: reactor.connectTCP(LOCALHOST, *args)):
        with pytest.raises(TypeError, match="port must be a number or a service name"):
            ask(port, factory)
    assert factory.told == []


@pytest.mark.parametrize("port", [0, 1, 65_535])
def test_C11_the_ends_of_the_range_are_ports(sim, port):
    sim.host("server")
    factory = Makes()
    sim.host("client").reactor.connectTCP("server", port, factory)
    sim.runUntilIdle()
    assert factory.told[-2:] == ["failed", "stop"]


# ---- C13: no recursion ----------------------------------------------------------------------------------------------


@contextmanager
def shallow(frames=150):
    """Here the stack may grow by so many frames only."""
    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + frames)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def test_C13_a_hundred_thousand_writes_in_one_handler_are_few_calls_and_no_recursion(counted, system):
    class Chatters(Told):
        def dataReceived(self, data):
            for number in range(MANY):
                self.transport.write(b"%d," % (number % 10))
            self.transport.loseConnection()

    factory = Makes(Chatters)
    with listening(counted, factory) as port:
        client = Makes()
        counted.connectTCP(LOCALHOST, port.getHost().port, client)
        turn_until(counted, lambda: client.built and factory.built)
        before = system.calls["send"] + system.calls["sendmsg"]
        with shallow():
            client.last.transport.write(b"go")
            turn_until(counted, lambda: client.last.is_over)
        assert client.last.received == b"0,1,2,3,4,5,6,7,8,9," * (MANY // 10)
        assert system.calls["send"] + system.calls["sendmsg"] - before <= 2 * MANY // 1000


def test_C13_a_hundred_thousand_pauses_and_resumes_are_no_system_call_at_all(counted, system):
    factory = Makes(Echo)
    with listening(counted, factory) as port:
        peer = call(port)
        turn_until(counted, lambda: factory.built)
        transport = factory.last.transport
        with shallow():
            for _ in range(MANY):
                transport.pauseProducing()
                transport.resumeProducing()
            counted.iterate(0)
        assert [mask for fd, mask in system.modified if fd == transport.fd] == []
        peer.sendall(b"still there")
        turn_until(counted, lambda: factory.last.received)
        counted.iterate(0)
        assert peer.recv(20) == b"still there"
        peer.close()


def test_C13_pausing_in_one_handler_and_resuming_in_the_next_does_not_nest(reactor):
    """The peer writes without end; each piece pauses, each timer resumes."""
    left = [2000]

    class Sips(Told):
        def dataReceived(self, data):
            self.transport.pauseProducing()
            reactor.callLater(0, self.more)

        def more(self):
            left[0] -= 1
            self.transport.resumeProducing()

    factory = Makes(Sips)
    with listening(reactor, factory) as port:
        peer = call(port)
        peer.setblocking(False)
        with shallow():
            while left[0] > 0:
                try:
                    peer.send(bytes(65_536))
                except BlockingIOError:
                    pass
                reactor.iterate(0)
        factory.last.more = bool
        peer.close()
        end_all(reactor, factory)


@pytest.mark.parametrize("way", ["callLater", "callFromThread"])
def test_C13_a_chain_of_a_hundred_thousand_calls_each_asking_for_the_next(reactor, way):
    ask = {
        "callLater": lambda func: reactor.callLater(0, func),
        "callFromThread": reactor.callFromThread,
    }[way]
    made = 0

    def again():
        nonlocal made
        made += 1
        if made < MANY:
            ask(again)

    ask(again)
    with shallow():
        while made < MANY:
            before = made
            reactor.iterate(0)
            assert made == before + 1


def test_C13_a_hundred_thousand_calls_for_one_instant(reactor):
    made = []
    for number in range(MANY):
        reactor.callLater(0, made.append, number)
    with shallow():
        reactor.iterate(0)
    assert made == list(range(MANY))


def test_C13_a_hundred_thousand_callbacks_on_one_Deferred():
    deferred = Deferred()
    for _ in range(MANY):
        deferred.addCallback(lambda value: value + 1)
    found = []
    deferred.addCallback(found.append)
    with shallow():
        deferred.callback(0)
    assert found == [MANY]


def test_C13_a_hundred_thousand_callbacks_that_return_fired_Deferreds():
    deferred = Deferred()
    for _ in range(MANY):
        deferred.addCallback(lambda value: succeed(value + 1))
    found = []
    deferred.addCallback(found.append)
    with shallow():
        deferred.callback(0)
    assert found == [MANY]


@pytest.mark.parametrize("first", ["innermost", "outermost"])
def test_C13_a_hundred_thousand_Deferreds_each_waiting_for_the_next(first):
    chain = [Deferred() for _ in range(MANY)]
    found = []
    chain[0].addCallback(found.append)
    with shallow():
        for one, next_one in itertools.pairwise(chain):
            one.addCallback(lambda _, inner=next_one: inner)
        if first == "innermost":
            for each in reversed(chain):
                each.callback("x")
        else:
            for each in chain:
                each.callback("x")
        chain.clear()
    assert len(found) == 1


def test_C13_a_pull_producer_that_writes_at_once_is_asked_in_turns(sim, line):
    now = line()

    class Pulled(PushProducer):
        left = 3000

        def resumeProducing(self):
            self.left -= 1
            if self.left:
                now.transport.write(b"x")
            else:
                now.transport.unregisterProducer()

    with shallow():
        now.transport.registerProducer(Pulled(), False)
        now.sim.advance(10)
    assert now.theirs.received == b"x" * 2999


@pytest.mark.parametrize("failing", ["socket", "connect", "bind"])
def test_C13_reconnecting_within_the_failure_does_not_nest(sim, failing):
    """An attempt that fails at once must not fail on the stack of `connect`."""
    client = sim.host("client")
    client.faults.fail(failing, errno.EPERM, times=None)

    class Stubborn(Makes):
        left = 2000

        def clientConnectionFailed(self, connector, reason):
            super().clientConnectionFailed(connector, reason)
            self.left -= 1
            if self.left:
                connector.connect()
                assert self.told[-1] == "connecting"

    factory = Stubborn()
    with shallow():
        client.reactor.connectTCP("10.9.9.9", 7, factory, bindAddress=("0.0.0.0", 0))
        sim.runUntilIdle()
    assert factory.told == ["start"] + ["connecting", "failed"] * 2000 + ["stop"]


def test_C13_reconnecting_within_the_loss_does_not_nest(sim):
    server, client = sim.host("server"), sim.host("client")

    class Hangs(Told):
        def connectionMade(self):
            self.transport.abortConnection()

    class Stubborn(Makes):
        left = 500

        def clientConnectionLost(self, connector, reason):
            super().clientConnectionLost(connector, reason)
            self.left -= 1
            if self.left:
                connector.connect()

    factory = Stubborn(Hangs)
    served = Makes()
    port = server.reactor.listenTCP(7, served)
    with shallow():
        client.reactor.connectTCP("server", 7, factory)
        sim.run(until=lambda: factory.left == 0)
    assert len(factory.built) == 500
    port.stopListening()
    sim.runUntilIdle()
    assert all(each.is_over for each in served.built)


# ---- C14: exceptions of users ---------------------------------------------------------------------------------------


class Fault(ArithmeticError):
    """What the user's code raises here."""


def raises(*_):
    raise Fault("the user's")


def stop_badly(now):
    now.producer.stopProducing = raises
    now.serving.kind.readConnectionLost = lambda self: self.transport.abortConnection()


SPOTS = {
    "connectionMade": lambda now: setattr(now.serving.kind, "connectionMade", raises),
    "makeConnection": lambda now: setattr(now.serving.kind, "makeConnection", raises),
    "dataReceived": lambda now: setattr(now.serving.kind, "dataReceived", raises),
    "connectionLost": lambda now: setattr(now.serving.kind, "connectionLost", raises),
    "readConnectionLost": lambda now: setattr(now.serving.kind, "readConnectionLost", raises),
    "writeConnectionLost": lambda now: setattr(now.serving.kind, "writeConnectionLost", raises),
    "server.buildProtocol": lambda now: setattr(now.serving, "buildProtocol", raises),
    "client.buildProtocol": lambda now: setattr(now.calling, "buildProtocol", raises),
    "clientConnectionLost": lambda now: setattr(now.calling, "clientConnectionLost", raises),
    "client.stopFactory": lambda now: setattr(now.calling, "stopFactory", raises),
    "pauseProducing": lambda now: setattr(now.producer, "pauseProducing", raises),
    "resumeProducing": lambda now: setattr(now.producer, "resumeProducing", raises),
    "stopProducing": stop_badly,
    "an observer": lambda now: now.reactor.observers.append(raises),
    "a timer": lambda now: now.reactor.callLater(0, raises),
    "callFromThread": lambda now: now.reactor.callFromThread(raises),
}


class Acts:
    """All callbacks there are, once: a connection with data, a full buffer, half-close by the client and a clean end."""

    def __init__(self, reactor):
        self.reactor = reactor
        self.producer = producer = PushProducer()

        class Served(HalfTold):
            def dataReceived(self, data):
                super().dataReceived(data)
                self.transport.registerProducer(producer, True)
                self.transport.write(bytes(100_000))

            def readConnectionLost(self):
                super().readConnectionLost()
                self.transport.loseWriteConnection()
                self.transport.unregisterProducer()

        class Calls(HalfTold):
            def connectionMade(self):
                super().connectionMade()
                self.transport.write(b"x")

            def dataReceived(self, data):
                super().dataReceived(data)
                if len(self.received) == 100_000:
                    self.transport.loseWriteConnection()

        self.serving, self.calling = Makes(Served), Makes(Calls)


@pytest.mark.parametrize("spot", SPOTS)
def test_C14_what_a_callback_raises_is_logged_and_neither_kills_the_loop_nor_leaks(reactor, errors, spot):
    now = Acts(reactor)
    with listening(reactor, now.serving) as port:
        number = port.getHost().port
        SPOTS[spot](now)
        reactor.connectTCP(LOCALHOST, number, now.calling)
        for _ in range(60):
            reactor.iterate(0.001)
        reactor.observers.clear()
        for factory in (now.serving, now.calling):
            for each in factory.built:
                if each.transport is not None:
                    each.transport.abortConnection()
        for _ in range(5):
            reactor.iterate(0)
        lines = [each for each in errors() if "raise" in each]
        assert len(lines) >= 1
        # And the next one is served as if nothing had been.
        others = Makes(Echo)
        with listening(reactor, others) as other_port:
            peer = call(other_port)
            peer.sendall(b"next")
            turn_until(reactor, lambda: others.built and others.last.received)
            reactor.iterate(0)
            assert peer.recv(10) == b"next"
            peer.close()
        assert now.calling.told.count("stop") <= 1
        now.serving.built.clear()


@pytest.mark.parametrize("spot", ["startFactory", "startedConnecting"])
def test_C14_what_is_raised_on_the_user_s_own_stack_comes_back_to_him_and_nothing_is_left(reactor, spot):
    factory = Makes()
    setattr(factory, spot, raises)
    with pytest.raises(Fault):
        reactor.connectTCP(LOCALHOST, unused_port(), factory)
    if spot == "startFactory":
        with pytest.raises(Fault):
            reactor.listenTCP(0, factory, interface=LOCALHOST)
    reactor.iterate(0)
    assert reactor.getDelayedCalls() == []


def test_C14_what_clientConnectionFailed_raises_is_logged_and_the_factory_is_stopped(reactor, errors):
    factory = Makes()
    factory.clientConnectionFailed = raises
    reactor.connectTCP(LOCALHOST, unused_port(), factory)
    turn_until(reactor, lambda: "stop" in factory.told)
    assert len(errors()) == 1


def test_C14_two_hundred_exceptions_in_dataReceived_and_the_loop_is_alive(reactor, errors):
    class Bad(Told):
        def dataReceived(self, data):
            super().dataReceived(data)
            if data != b"spare me":
                raises()
            self.transport.write(data)

    factory = Makes(Bad)
    with listening(reactor, factory) as port:
        peers = [call(port) for _ in range(200)]
        for peer in peers:
            peer.sendall(b"x")
        turn_until(reactor, lambda: sum(each.is_over for each in factory.built) == 200)
        assert [each.told for each in factory.built] == [["made", "data", "lost"]] * 200
        assert {type(each.reason) for each in factory.built} == {Fault}
        assert len(errors()) == 200
        for peer in peers:
            assert peer.recv(1) == b""
            peer.close()
        last = call(port)
        last.sendall(b"spare me")
        turn_until(reactor, lambda: len(factory.built) == 201 and factory.last.received)
        reactor.iterate(0)
        assert last.recv(20) == b"spare me"
        last.close()


# ---- C15: nothing is left for the collector -------------------------------------------------------------------------


class Quiet(HalfTold):
    """Keeps no reason: its traceback would lead back to it, and that circle would be the user's."""

    def connectionLost(self, reason):
        self.told.append("lost")

    @property
    def is_over(self):
        return "lost" in self.told


class Forgets(Makes):
    """Keeps neither protocols nor reasons, only counts."""

    def __init__(self, kind=Quiet):
        super().__init__(kind)
        self.over = 0

    def buildProtocol(self, addr):
        self.told.append("build")
        return self.kind()

    def clientConnectionFailed(self, connector, reason):
        self.over += 1

    def clientConnectionLost(self, connector, reason):
        self.over += 1


def quiet(**methods):
    return type("Quietly", (Quiet,), methods)


def live_once(reactor, ask):
    """A connection to a server of ours that is ended by one of its two ends."""

    ends = quiet(dataReceived=lambda self, data: getattr(self.transport, ask)())
    begins = quiet(
        connectionMade=lambda self: self.transport.writeSequence([b"x", b"y"]),
        readConnectionLost=lambda self: self.transport.loseConnection(),
    )

    def run():
        port = reactor.listenTCP(0, Forgets(ends), interface=LOCALHOST)
        calling = Forgets(begins)
        reactor.connectTCP(LOCALHOST, port.getHost().port, calling)
        turn_until(reactor, lambda: calling.over)
        finish(reactor, port)

    return run


def finish(reactor, port):
    stopped = []
    port.stopListening().addCallback(stopped.append)
    turn_until(reactor, lambda: stopped)
    turn_until(reactor, lambda: not reactor._loop.everyone())


def life_with(reactor, build=None, **methods):
    """A connection whose client does as it is told."""

    answers = quiet(readConnectionLost=lambda self: self.transport.loseConnection())
    begins = quiet(**methods)

    def run():
        port = reactor.listenTCP(0, Forgets(answers), interface=LOCALHOST)
        calling = Forgets(begins)
        if build is not None:
            calling.buildProtocol = build
        options = TCPOptions(closeTimeout=0.01, highWater=1000, hardLimit=50_000_000)
        reactor.connectTCP(LOCALHOST, port.getHost().port, calling, options=options)
        turn_until(reactor, lambda: calling.over)
        finish(reactor, port)

    return run


def reset_by_the_peer(reactor):
    """A plain socket resets; and the protocol keeps the reason it was given."""

    def keep(self, reason):
        self.told.append("lost")
        self.kept = reason

    keeps = quiet(connectionLost=keep)

    def run():
        with socket.create_server((LOCALHOST, 0)) as listener:
            calling = Forgets(keeps)
            connector = reactor.connectTCP(LOCALHOST, listener.getsockname()[1], calling)
            turn_until(reactor, lambda: connector.state == "connected")
            reset(listener.accept()[0])
            turn_until(reactor, lambda: calling.over)

    return run


def attempt(reactor, host=LOCALHOST, port=None, stop=False, **keywords):
    """A connection that never comes to be."""

    def run():
        calling = Forgets()
        connector = reactor.connectTCP(host, unused_port() if port is None else port, calling, **keywords)
        if stop:
            connector.stopConnecting()
        turn_until(reactor, lambda: calling.over)
        # Why one more: a dial that was given up in the handler that began it has its first step still to come.
        reactor.iterate(0)

    return run


def produce_and_lose(self):
    self.transport.registerProducer(PushProducer(), True)
    self.transport.write(bytes(20_000))
    self.transport.unregisterProducer()
    self.transport.loseConnection()


def lose_with_a_producer_left(self):
    self.transport.registerProducer(PushProducer(), True)
    self.transport.loseConnection()


def overrun(self):
    self.transport.write(bytes(60_000_000))


def divide(self):
    return 1 // 0


LIVES = {
    "the server closes": lambda reactor: live_once(reactor, "loseConnection"),
    "the server aborts": lambda reactor: live_once(reactor, "abortConnection"),
    "the server half-closes": lambda reactor: live_once(reactor, "loseWriteConnection"),
    "the client closes": lambda reactor: life_with(
        reactor, connectionMade=lambda self: self.transport.loseConnection()
    ),
    "the client aborts": lambda reactor: life_with(
        reactor, connectionMade=lambda self: self.transport.abortConnection()
    ),
    "a producer": lambda reactor: life_with(reactor, connectionMade=produce_and_lose),
    "the close deadline": lambda reactor: life_with(reactor, connectionMade=lose_with_a_producer_left),
    "the hard limit": lambda reactor: life_with(reactor, connectionMade=overrun),
    "an exception": lambda reactor: life_with(reactor, connectionMade=divide),
    "buildProtocol gives none": lambda reactor: life_with(reactor, build=lambda addr: None),
    "buildProtocol raises": lambda reactor: life_with(reactor, build=lambda addr: 1 // 0),
    "reset": reset_by_the_peer,
    "refused": attempt,
    "timed out": lambda reactor: time_out(reactor),
    "given up": lambda reactor: attempt(reactor, stop=True),
    "no such interface": lambda reactor: attempt(reactor, bindAddress=("192.0.2.1", 0)),
    "connected to itself": lambda reactor: to_itself(reactor),
    "an unknown name": lambda reactor: unknown_name(reactor),
}


def to_itself(reactor):
    port = unused_port()
    return attempt(reactor, port=port, bindAddress=(LOCALHOST, port))


def time_out(reactor):
    def run():
        with black_hole() as port:
            attempt(reactor, port=port, timeout=0)()

    return run


def unknown_name(reactor):
    class Knows:
        def resolveHostName(self, receiver, *_):
            receiver.resolutionBegan(None)
            receiver.resolutionComplete()

    reactor.installNameResolver(Knows())
    return attempt(reactor, "name.invalid")


def ours_alive(reactor):
    """How many objects of this package's classes, and of these tests', the collector knows; the modules' own included.

    Entries of timers that were cancelled are empty, and bounded (tests/rooms/test_timers.py): not counted.
    """
    reactor._loop.timers.rebuild()
    return sum(comes_from(each, "ropewalk", __name__, "tests.faults.scene") for each in gc.get_objects())


def comes_from(each, *names):
    """Whether its class is of one of these packages. Some class of another may have a property for `__module__`."""
    module = type(each).__module__
    return isinstance(module, str) and module.startswith(names)


@contextmanager
def without_collector():
    gc.collect()
    gc.disable()
    # Why: a handler of the log keeps records, and those keep exceptions with their frames.
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.collect()


@pytest.mark.parametrize("life", LIVES)
def test_C15_a_connection_leaves_nothing_for_the_collector(reactor, life):
    """Ended protocols, streams, connectors, dials and reasons are freed by counting references alone."""
    run = LIVES[life](reactor)
    run()
    with without_collector():
        before = ours_alive(reactor)
        for _ in range(5):
            run()
        assert ours_alive(reactor) == before
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        garbage = [each for each in gc.garbage if comes_from(each, "ropewalk", __name__)]
        assert garbage == []
        assert [each for each in gc.garbage if isinstance(each, (BaseException, socket.socket))] == []


# ---- C17: linear ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, 10_000])
def test_C17_data_that_comes_byte_by_byte_costs_one_call_a_byte(sim, line, size):
    sim._driver.spin_limit = 2 * size
    now = line()
    now.client.faults.short("recv", 1)
    before = now.client.faults.counts["recv"]
    now.theirs.transport.write(b"x" * size)
    now.sim.run(until=lambda: len(now.ours.received) == size)
    assert now.ours.told.count("data") == size
    assert now.client.faults.counts["recv"] - before == size
    now.client.faults.clear()


class Weighed:
    """An Outbox that is drained; counts the bytes that were copied and the buffers that were handed over."""

    def __init__(self, chunks):
        self.box = Outbox()
        self.copied = self.handed = self.calls = 0
        self._known = {id(chunk) for chunk in chunks}
        self._keep = list(chunks)
        for chunk in chunks:
            self.box.append(chunk)

    def drain(self, taken):
        while self.box.size:
            offer = self.box.next(1024)
            self.calls += 1
            self.handed += len(offer) if isinstance(offer, list) else 1
            if isinstance(offer, bytes) and id(offer) not in self._known:
                self._known.add(id(offer))
                self._keep.append(offer)
                self.copied += len(offer)
            size = sum(map(len, offer)) if isinstance(offer, list) else len(offer)
            self.box.went(min(taken, size))
        return self


@pytest.mark.parametrize("taken", [1, 7, 1000])
@pytest.mark.parametrize(("count", "length"), [(1, 16_000), (10, 1600), (4000, 4)])
def test_C17_a_kernel_that_takes_little_at_a_time_does_not_make_us_copy_again(count, length, taken):
    """What was joined once is kept joined: each byte is copied once at most, whatever the kernel takes."""
    chunks = [bytes([number % 251]) * length for number in range(count)]
    # Why new objects: CPython keeps one object for each single byte.
    weighed = Weighed([bytes(bytearray(chunk)) for chunk in chunks]).drain(taken)
    assert weighed.copied <= count * length
    assert weighed.calls <= count * length // taken + 2
    assert weighed.handed <= weighed.calls + count


def test_C17_one_large_write_is_never_copied_however_little_the_kernel_takes():
    assert Weighed([bytes(30_000)]).drain(1).copied == 0


@pytest.mark.parametrize("size", [2000, 20_000])
def test_C17_sends_of_one_byte_are_one_call_each(sim, line, size):
    sim._driver.spin_limit = 2 * size
    now = line()
    for each in ("send", "sendmsg"):
        now.client.faults.short(each, 1)
    before = now.client.faults.counts["send"] + now.client.faults.counts["sendmsg"]
    for start in range(0, size, 10):
        now.transport.write(b"%010d" % start)
    now.sim.run(until=lambda: len(now.theirs.received) == size)
    assert now.theirs.received == b"".join(b"%010d" % start for start in range(0, size, 10))
    assert now.client.faults.counts["send"] + now.client.faults.counts["sendmsg"] - before <= size + 2
    now.client.faults.clear()


def test_C17_reading_asks_for_a_bounded_size_however_much_there_is(reactor):
    class Sizes(Told):
        def __init__(self):
            super().__init__()
            self.sizes = []

        def dataReceived(self, data):
            self.sizes.append(len(data))

    factory = Makes(Sizes)
    with listening(reactor, factory) as port:
        peer = call(port)
        peer.setblocking(False)
        turn_until(reactor, lambda: factory.built)
        sent = 0
        while sent < 4_000_000:
            try:
                sent += peer.send(bytes(1 << 20))
            except BlockingIOError:
                reactor.iterate(0)
        turn_until(reactor, lambda: sum(factory.last.sizes) == sent)
        assert max(factory.last.sizes) <= 2 * READ_SIZE
        peer.close()
