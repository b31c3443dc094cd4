"""FAULTS C2 to C4: bytes in are bytes out, however little the kernel takes at a time, and after the end nothing is sent.

The kernel's answers are drawn by Hypothesis: how much each send takes, when it says "not now", when it is out of buffers.
What must hold is one line: what arrives is what was written, in order, once (J3, I11).
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk import Reactor
from ropewalk._net.outbox import Outbox
from ropewalk.error import ConnectionDone, ConnectionLost
from ropewalk.simulation import Simulation
from tests.faults.scene import (
    CountedSystem,
    HalfTold,
    Makes,
    PushProducer,
    Told,
    call,
    listening,
    read_to_end,
    reset,
    turn_until,
)

CHUNKS = st.lists(st.binary(max_size=300), max_size=12)
WRITES = st.lists(
    st.one_of(
        st.binary(max_size=2000).map(lambda data: ("write", data)),
        CHUNKS.map(lambda chunks: ("writeSequence", chunks)),
        st.integers(1, 3).map(lambda turns: ("turn", turns)),
        st.integers(1, 200_000).map(lambda size: ("write", (b"0123456789abcdef" * (size // 16 + 1))[:size])),
    ),
    max_size=25,
)


def written_by(actions):
    parts = []
    for what, data in actions:
        if what == "write":
            parts.append(data)
        elif what == "writeSequence":
            parts += data
    return b"".join(parts)


# ---- C2 -----------------------------------------------------------------------------------------------------------


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=20_000), max_size=30),
    takes=st.lists(st.integers(0, 40_000), min_size=1),
    most=st.integers(1, 1024),
)
def test_C2_the_outbox_gives_out_what_it_took_in(chunks, takes, most):
    box, out, turn = Outbox(), b"", 0
    waiting = list(chunks)
    while waiting or box.size:
        if waiting:
            box.append(waiting.pop(0))
        offer = box.next(most)
        offered = b"".join(offer) if isinstance(offer, list) else bytes(offer)
        assert not isinstance(offer, list) or len(offer) <= most
        assert offered
        taken = max(0 if waiting else 1, min(takes[turn % len(takes)], len(offered)))
        turn += 1
        out += offered[:taken]
        box.went(taken)
        assert box.size == sum(map(len, chunks)) - len(out) - sum(map(len, waiting))
    assert out == b"".join(chunks)


@settings(max_examples=60)
@given(actions=WRITES, takes=st.lists(st.integers(1, 5000), min_size=1, max_size=8), half=st.booleans())
def test_C2_random_short_writes_on_real_sockets_deliver_every_byte_in_order_once(actions, takes, half):
    system = CountedSystem()
    turns = [0]

    def shortest():
        turns[0] += 1
        return takes[turns[0] % len(takes)] * 16

    with Reactor(system=system) as reactor:
        factory = Makes(HalfTold if half else Told)
        with listening(reactor, factory) as port:
            peer = call(port)
            turn_until(reactor, lambda: factory.built)
            transport = factory.last.transport
            system.shortest = shortest
            for what, data in actions:
                if what == "turn":
                    for _ in range(data):
                        reactor.iterate(0)
                else:
                    getattr(transport, what)(data)
            if half:
                transport.loseWriteConnection()
            else:
                transport.loseConnection()
            got = b""
            peer.setblocking(False)
            while True:
                reactor.iterate(0)
                if select.select([peer], [], [], 0)[0]:
                    part = peer.recv(1 << 20)
                    if not part:
                        break
                    got += part
            assert got == written_by(actions)
            peer.close()
            turn_until(reactor, lambda: factory.last.is_over)
            assert isinstance(factory.last.reason, ConnectionDone)
            assert factory.last.reason.ended.sent == len(got)


@settings(max_examples=60)
@given(
    actions=WRITES,
    most=st.integers(1, 3000),
    seed=st.integers(0, 2**32),
    errors=st.sampled_from([(), (errno.EAGAIN,), (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)]),
    slow=st.booleans(),
)
def test_C2_short_writes_EAGAIN_and_no_buffers_on_the_simulated_kernel_lose_no_byte(
    actions, most, seed, errors, slow
):
    sim = Simulation(seed=seed)
    server, client = sim.host("server"), sim.host("client")
    serving, calling = Makes(), Makes()
    port = server.reactor.listenTCP(7, serving)
    client.reactor.connectTCP("server", 7, calling)
    sim.advance(1)
    transport = calling.last.transport
    for each in ("send", "sendmsg"):
        client.faults.short(each, most)
        if errors:
            client.faults.failSometimes(each, errors, chance=0.2)
    if slow:
        sim.bandwidth("client", "server", 100_000)
    for what, data in actions:
        if what == "turn":
            sim.advance(data / 100)
        else:
            getattr(transport, what)(data)
    transport.loseConnection()
    sim.advance(300)
    assert serving.last.received == written_by(actions)
    assert isinstance(serving.last.reason, ConnectionDone)
    assert isinstance(calling.last.reason, ConnectionDone)
    port.stopListening()
    sim.runUntilIdle()
    sim.close()
    sim.checkAtRest()


@pytest.mark.parametrize("size", [1, 2, 1023, 1024, 1025, 16_383, 16_384, 16_385, 65_536, 1_048_577])
def test_C2_one_write_of_any_size_by_one_byte_less_than_it(sim, size):
    """All but the last byte are taken at once: the tail is what a careless engine drops."""
    server, client = sim.host("server"), sim.host("client")
    serving, calling = Makes(), Makes()
    port = server.reactor.listenTCP(7, serving)
    client.reactor.connectTCP("server", 7, calling)
    sim.advance(1)
    data = os.urandom(size)
    client.faults.short("send", max(1, size - 1), times=1)
    calling.last.transport.write(data)
    calling.last.transport.loseConnection()
    sim.advance(10)
    assert serving.last.received == data
    port.stopListening()
    sim.runUntilIdle()


def test_C2_twenty_megabytes_unsent_arrive_whole_after_loseConnection_and_after_the_peer_half_closed(counted):
    """Twisted throws 17 of 20 MB away in the second case."""
    data = os.urandom(1 << 20) * 20
    for how in ("loseConnection", "peer"):
        factory = Makes()
        with listening(counted, factory) as port:
            peer = call(port)
            turn_until(counted, lambda factory=factory: factory.built)
            factory.last.transport.write(data)
            if how == "peer":
                peer.shutdown(socket.SHUT_WR)
            else:
                factory.last.transport.loseConnection()
            peer.setblocking(False)
            got = bytearray()
            while len(got) < len(data):
                counted.iterate(0)
                try:
                    part = peer.recv(1 << 20)
                except BlockingIOError:
                    continue
                assert part, f"{how}: only {len(got)} bytes came"
                got += part
            assert got == data
            turn_until(counted, lambda factory=factory: factory.last.is_over)
            assert isinstance(factory.last.reason, ConnectionDone)
            peer.close()


# ---- C3 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [None, 2, 7])
@pytest.mark.parametrize("size", [1, 20, 3000])
def test_C3_five_thousand_chunks_never_exceed_what_the_kernel_takes_in_one_call(counted, system, most, size):
    if most is not None:
        system.iov_max = most
    chunks = [bytes([number % 251]) * size for number in range(5000)]
    factory = Makes()
    with listening(counted, factory) as port:
        peer = call(port)
        turn_until(counted, lambda: factory.built)
        factory.last.transport.writeSequence(chunks)
        factory.last.transport.loseConnection()
        peer.setblocking(False)
        got = b""
        while not factory.last.is_over or len(got) < 5000 * size:
            counted.iterate(0)
            try:
                got += peer.recv(1 << 20)
            except BlockingIOError:
                continue
        assert got == b"".join(chunks)
        widths = [width for what, width in system.order if what == "sendmsg"]
        assert all(width <= system.iov_max for width in widths)
        peer.close()


# ---- C4 -----------------------------------------------------------------------------------------------------------

LATE_CALLS = {
    "write": lambda transport: transport.write(b"late"),
    "write a view": lambda transport: transport.write(memoryview(b"late")),
    "writeSequence": lambda transport: transport.writeSequence([b"late", b"later"]),
    "loseConnection": lambda transport: transport.loseConnection(),
    "abortConnection": lambda transport: transport.abortConnection(),
    "loseWriteConnection": lambda transport: transport.loseWriteConnection(),
    "pauseProducing": lambda transport: transport.pauseProducing(),
    "resumeProducing": lambda transport: transport.resumeProducing(),
    "stopProducing": lambda transport: transport.stopProducing(),
    "unregisterProducer": lambda transport: transport.unregisterProducer(),
    "registerProducer": lambda transport: transport.registerProducer(PushProducer(), True),
    "setWriteLimits": lambda transport: transport.setWriteLimits(10),
    "getHost": lambda transport: transport.getHost(),
    "getPeer": lambda transport: transport.getPeer(),
    "fileno": lambda transport: transport.fileno(),
    "repr": repr,
}


@pytest.mark.parametrize("name", LATE_CALLS)
@pytest.mark.parametrize("end", ["reset", "fin", "loseConnection", "abortConnection"])
def test_C4_every_call_after_the_end_does_nothing_and_raises_nothing(counted, system, errors, name, end):
    factory = Makes()
    with listening(counted, factory) as port:
        peer = call(port)
        turn_until(counted, lambda: factory.built)
        protocol = factory.last
        if end == "reset":
            reset(peer)
        elif end == "fin":
            peer.close()
        else:
            getattr(protocol.transport, end)()
        turn_until(counted, lambda: protocol.is_over)
        before = dict(system.calls)
        for _ in range(3):
            LATE_CALLS[name](protocol.transport)
            counted.iterate(0)
        after = dict(system.calls)
        for each in ("send", "sendmsg", "shutdown", "register", "modify"):
            assert after.get(each) == before.get(each), each
        assert protocol.told == ["made", "lost"]
        assert protocol.transport.bytesBuffered == 0
        peer.close()
    assert errors() == []
    assert counted.getDelayedCalls() == []


def test_C4_what_is_written_after_the_end_is_not_kept(counted):
    factory = Makes()
    with listening(counted, factory) as port:
        peer = call(port)
        turn_until(counted, lambda: factory.built)
        reset(peer)
        turn_until(counted, lambda: factory.last.is_over)

        class Weighty(bytes):
            pass

        for _ in range(100):
            factory.last.transport.write(Weighty(b"x" * 1000))
            counted.iterate(0)
        assert [each for each in gc.get_objects() if isinstance(each, Weighty)] == []


def test_C4_a_connection_that_buildProtocol_wrote_to_and_refused_keeps_nothing(counted, system):
    """The connector has its transport while buildProtocol runs; None or an exception makes an end of it."""

    class Refuses(Makes):
        def buildProtocol(self, addr):
            self.transport = connector.transport
            self.transport.write(b"never")
            return

    serving = Makes()
    with listening(counted, serving) as port:
        factory = Refuses()
        connector = counted.connectTCP("127.0.0.1", port.getHost().port, factory)
        turn_until(counted, lambda: factory.reason)
        for _ in range(10):
            factory.transport.write(b"never ever")
            counted.iterate(0)
        assert factory.transport.bytesBuffered == 0
        assert not factory.transport.connected
        turn_until(counted, lambda: serving.built and serving.last.is_over)
        assert serving.last.received == b""


SURVIVES_EPIPE = """
    import socket, struct, sys
    from ropewalk import Factory, Protocol, Reactor

    class Floods(Protocol):
        def connectionMade(self):
            self.transport.write(b"x" * 10_000_000)
        def connectionLost(self, reason):
            print(type(reason.value).__name__, reason.value.errno, flush=True)
            reactor.callLater(0, reactor.stop)

    factory = Factory.forProtocol(Floods)
    factory.noisy = False
    reactor = Reactor()
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    peer = socket.create_connection(("127.0.0.1", port.getHost().port))
    reactor.callLater(0.01, peer.close)
    reactor.run()
"""


def test_C4_a_peer_that_closes_while_we_send_is_no_SIGPIPE():
    """In a process of its own: the signal would kill it, and the exit status would tell."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SURVIVES_EPIPE)],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done
    kind, number = done.stdout.split()
    assert kind == "ConnectionLost"
    assert int(number) in (errno.EPIPE, errno.ECONNRESET)
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN


@pytest.mark.parametrize("error", [errno.EPIPE, errno.ECONNRESET])
def test_C4_an_error_of_send_ends_the_connection_and_drops_what_waits(counted, system, error):
    factory = Makes()
    with listening(counted, factory) as port:
        peer = call(port)
        turn_until(counted, lambda: factory.built)
        protocol = factory.last
        system.fail("send", error)
        protocol.transport.write(b"one")
        protocol.transport.write(b"two")
        turn_until(counted, lambda: protocol.is_over)
        assert isinstance(protocol.reason, ConnectionLost)
        assert protocol.reason.errno == error
        assert protocol.transport.bytesBuffered == 0
        assert read_to_end(peer) == b""
        peer.close()
