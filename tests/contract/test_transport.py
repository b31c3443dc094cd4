"""A connected transport, as users may rely on it (CONTRACT 5): writing, reading, pausing, closing, producing, reasons.

Every claim is run over each poller of this machine, since half-closed and paused connections depend on what it notices.
"""

from __future__ import annotations

import array
import errno
import gc
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ropewalk import Factory, Protocol, Reactor, TCPOptions
from ropewalk.address import IPv4Address
from ropewalk.error import ConnectionAborted, ConnectionClosed, ConnectionDone, ConnectionLost
from ropewalk.event import EndedBy
from tests.conftest import checked_reactor
from tests.contract.conftest import put_to_rest
from tests.contract.stage import (
    HERE,
    Client,
    HalfCloser,
    Planned,
    Producer,
    Server,
    World,
    abort,
    connected,
    do,
    error,
    is_reset,
    logged,
    lose,
    port_of,
    raises,
    read,
    read_all,
    readable,
    reset,
    run,
    send_all,
    turn,
    turn_until,
)

POLLERS = ["epoll", "poll", "select"] if sys.platform.startswith("linux") else ["poll", "select"]
MEGABYTE = 1 << 20
# Loopback takes some 2.5 MB at once (tcp_wmem and tcp_rmem at their largest are a few MB); this is always more.
MUCH = 20_000_000


@pytest.fixture(params=POLLERS)
def reactor(world: World, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A Reactor in the test's `world`, over each poller, checked for leaks."""
    with checked_reactor(lambda: Reactor(poller=request.param, system=world)) as made:
        yield made
        put_to_rest(made)


def stream(reactor, peers, actor=None, options=None, **acts):
    """A connection that stands: the client's factory, its transport, and the peer's socket."""
    factory = Client(actor or HalfCloser if actor else Client().actor, **acts)
    _, peer = connected(reactor, peers, factory, **({"options": options} if options else {}))
    return factory, factory.one.transport, peer


def tight_stream(reactor, peers, **options):
    """One whose kernel buffers are small, so that a peer's reading is soon felt as progress."""
    factory = Client()
    listener = peers.listen()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
    reactor.connectTCP(HERE, port_of(listener), factory, options=TCPOptions(sendBuffer=100_000, **options))
    peer = peers.accept(reactor, listener)
    turn_until(reactor, lambda: factory.built)
    return factory, factory.one.transport, peer


def lost(reactor, factory):
    """Turn until the connection is lost; the reason."""
    turn_until(reactor, lambda: factory.reasons)
    assert factory.count("connectionLost") == factory.count("clientConnectionLost") == 1
    assert factory.one.reason.value is factory.reason
    assert factory.reason.ended is factory.one.transport.ended if hasattr(factory.reason, "ended") else True
    return factory.reason


# ---- write --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"abc",
        bytearray(b"abc"),
        memoryview(b"xabcx")[1:4],
        array.array("B", b"abc"),
        memoryview(b"a-b-c")[::2],
    ],
    ids=["bytes", "bytearray", "memoryview", "array", "strided memoryview"],
)
@pytest.mark.parametrize("how", ["write", "writeSequence"])
def test_S5_write_takes_anything_bytes_like(reactor, peers, data, how):
    _, transport, peer = stream(reactor, peers)
    if how == "write":
        transport.write(data)
    else:
        transport.writeSequence([data])
    assert read(reactor, peer, 3) == b"abc"


def test_S5_write_copies_what_is_mutable(reactor, peers):
    _, transport, peer = stream(reactor, peers)
    data = bytearray(b"first")
    transport.write(data)
    transport.writeSequence([data, memoryview(data)])
    data[:] = b"other"
    assert read(reactor, peer, 15) == b"first" * 3


@pytest.mark.parametrize("data", ["text", None, 7, [b"list"]])
def test_S5_write_of_anything_else_is_a_TypeError_and_sends_nothing(reactor, peers, data):
    _, transport, peer = stream(reactor, peers)
    with pytest.raises(TypeError, match="bytes-like"):
        transport.write(data)
    transport.write(b"after")
    assert read(reactor, peer, 5) == b"after"


def test_S5_write_after_the_loss_is_ignored_but_types_are_still_checked(reactor, peers):
    factory, transport, peer = stream(reactor, peers)
    peer.close()
    lost(reactor, factory)
    transport.write(b"too late")
    transport.writeSequence([b"too", b"late"])
    with pytest.raises(TypeError):
        transport.write("text")
    turn(reactor)
    assert transport.bytesSent == 0


def test_S5_write_never_sends_inline_and_all_writes_of_one_handler_leave_in_one_send(world, reactor, peers):
    sends = []
    world.faults["send"] = lambda sock, data: sends.append(bytes(data))

    def answer(protocol, data):
        for each in (b"one", b"two", b"three"):
            protocol.transport.write(each)
        protocol.transport.writeSequence([b"four", b"five"])
        assert sends == []

    factory, _, peer = stream(reactor, peers, dataReceived=answer)
    world.changes.clear()
    peer.send(b"?")
    assert read(reactor, peer, 19) == b"onetwothreefourfive"
    assert sends == [b"onetwothreefourfive"]
    assert world.changes == [], "no epoll_ctl unless the kernel's buffer is full"
    assert factory.one.transport.bytesSent == 19


def test_S5_large_writes_of_one_handler_leave_in_one_sendmsg(world, reactor, peers):
    sends = []
    world.faults["sendmsg"] = lambda sock, buffers: sends.append(list(map(len, buffers)))
    _, transport, peer = stream(reactor, peers)
    for size in (30_000, 20_000, 10_000):
        transport.write(b"x" * size)
    assert len(read(reactor, peer, 60_000)) == 60_000
    assert sends == [[30_000, 20_000, 10_000]]


def test_S5_a_full_kernel_buffer_is_waited_for_and_nothing_is_lost_or_doubled(world, reactor, peers):
    _, transport, peer = stream(reactor, peers)
    sent = bytes(range(251)) * (MEGABYTE // 25)
    transport.write(sent)
    assert read(reactor, peer, len(sent)) == sent
    turn(reactor)
    assert transport.bytesBuffered == 0
    world.changes.clear()
    transport.write(b"plain again")
    assert read(reactor, peer, 11) == b"plain again"
    assert world.changes == []


@pytest.mark.parametrize("short", [1, 3])
def test_S5_short_writes_of_the_kernel_are_gone_on_with(world, reactor, peers, short):
    _, transport, peer = stream(reactor, peers)
    world.faults["send"] = lambda sock, data: min(short, len(data))
    sent = bytes(range(100))
    transport.write(sent)
    assert read(reactor, peer, 100) == sent


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda items: (each for each in items)])
def test_S5_writeSequence_takes_any_iterable_a_generator_included(reactor, peers, kind):
    _, transport, peer = stream(reactor, peers)
    transport.writeSequence(kind([b"a", b"bc", b"", b"def"]))
    assert read(reactor, peer, 6) == b"abcdef"


@pytest.mark.parametrize("wrong", [[b"good", "bad"], "text", b"bytes", bytearray(b"x"), 5])
def test_S5_writeSequence_with_a_wrong_item_is_a_TypeError_and_sends_nothing(reactor, peers, wrong):
    _, transport, peer = stream(reactor, peers)
    with pytest.raises(TypeError):
        transport.writeSequence(wrong)
    transport.write(b"after")
    assert read(reactor, peer, 5) == b"after"


def test_S5_writeSequence_is_vectored_and_IOV_MAX_is_respected(world, reactor, peers):
    vectors = []
    world.faults["sendmsg"] = lambda sock, buffers: vectors.append(len(buffers))
    _, transport, peer = stream(reactor, peers)
    sent = [bytes([number]) * 40_000 for number in range(50)]
    world.iov_max = 8
    transport.writeSequence(sent)
    assert read(reactor, peer, 2_000_000) == b"".join(sent)
    assert max(vectors) == 8


def test_S5_writeSequence_of_more_chunks_than_IOV_MAX_arrives_whole(reactor, peers):
    _, transport, peer = stream(reactor, peers)
    sent = [number.to_bytes(4, "big") * 10 for number in range(5000)]
    transport.writeSequence(sent)
    assert read(reactor, peer, 200_000) == b"".join(sent)


# ---- watermarks ---------------------------------------------------------------------------------------------------


def test_S5_a_producer_is_paused_above_65536_once_per_crossing_and_resumed_at_0(world, reactor, peers):
    _, transport, peer = stream(reactor, peers)
    producer = Producer()
    transport.registerProducer(producer, True)
    # Out of room at once: nothing leaves before the test lets it.
    world.faults["send"] = BlockingIOError(errno.EAGAIN, "full")
    world.faults["sendmsg"] = BlockingIOError(errno.EAGAIN, "full")
    transport.write(b"x" * 65536)
    assert producer.journal == []
    transport.write(b"x")
    assert producer.journal == ["pauseProducing"]
    for _ in range(5):
        transport.write(b"more")
    turn(reactor)
    assert producer.journal == ["pauseProducing"]
    world.faults.clear()
    read(reactor, peer, 65557)
    turn_until(reactor, lambda: len(producer.journal) > 1)
    assert producer.journal == ["pauseProducing", "resumeProducing"]
    transport.write(b"x" * 70_000)
    assert producer.journal == ["pauseProducing", "resumeProducing", "pauseProducing"]
    transport.unregisterProducer()


@pytest.mark.parametrize("how", ["setWriteLimits", "options"])
def test_S5_watermarks_are_settable_per_transport(world, reactor, peers, how):
    options = TCPOptions(highWater=100, lowWater=40) if how == "options" else None
    _, transport, peer = stream(reactor, peers, options=options)
    if how == "setWriteLimits":
        transport.setWriteLimits(100, 40)
    producer = Producer()
    transport.registerProducer(producer, True)
    room = [0]

    def some(sock, data):
        if not room[0]:
            return BlockingIOError(errno.EAGAIN, "full")
        taken, room[0] = min(room[0], len(data)), 0
        return taken

    world.faults["send"] = some
    transport.write(b"x" * 100)
    assert producer.journal == []
    transport.write(b"x")
    assert producer.journal == ["pauseProducing"]
    room[0] = 60
    turn(reactor)
    assert (transport.bytesBuffered, producer.journal) == (41, ["pauseProducing"])
    room[0] = 1
    turn(reactor)
    assert (transport.bytesBuffered, producer.journal) == (40, ["pauseProducing", "resumeProducing"])
    transport.unregisterProducer()
    world.faults.clear()
    assert read(reactor, peer, 101) == b"x" * 101


@pytest.mark.parametrize("limits", [(1, 2), (-1, -1), (10, 0, 5), ("a", 0)])
def test_S5_watermarks_that_make_no_sense_are_refused(reactor, peers, limits):
    _, transport, _ = stream(reactor, peers)
    with pytest.raises((ValueError, TypeError)):
        transport.setWriteLimits(*limits)


@pytest.mark.parametrize("how", ["setWriteLimits", "options"])
def test_S5_a_hard_limit_aborts_a_peer_that_will_not_read(world, reactor, peers, how):
    options = TCPOptions(hardLimit=200_000) if how == "options" else None
    factory, transport, peer = stream(reactor, peers, options=options)
    if how == "setWriteLimits":
        transport.setWriteLimits(65536, 0, 200_000)
    world.faults["send"] = world.faults["sendmsg"] = BlockingIOError(errno.EAGAIN, "full")
    for _ in range(2):
        transport.write(b"x" * 100_000)
    turn(reactor)
    assert transport.connected
    transport.write(b"x")
    assert transport.connected, "not from within the call"
    reason = lost(reactor, factory)
    assert type(reason) is ConnectionLost
    assert "200001 bytes wait" in str(reason)
    assert "hard limit is 200000" in str(reason)
    assert reason.ended.by is EndedBy.ERROR
    assert is_reset(reactor, peer)


# ---- loseConnection -----------------------------------------------------------------------------------------------


def test_S5_loseConnection_flushes_what_was_written_then_ends_cleanly(reactor, peers):
    factory, transport, peer = stream(reactor, peers)
    sent = bytes(range(256)) * 40_000
    transport.write(sent)
    transport.loseConnection()
    assert transport.disconnecting
    assert read_all(reactor, peer) == sent
    reason = lost(reactor, factory)
    assert type(reason) is ConnectionDone
    assert (reason.ended.by, reason.ended.sent) == (EndedBy.US, len(sent))


def test_S5_loseConnection_ends_reading_at_once(reactor, peers):
    factory, transport, peer = stream(reactor, peers)
    transport.write(b"x" * MUCH)
    turn(reactor)
    transport.loseConnection()
    peer.send(b"unheard")
    turn(reactor)
    assert factory.one.data == b""
    read_all(reactor, peer)
    lost(reactor, factory)
    assert factory.one.data == b""


def test_S5_loseConnection_with_unread_data_does_not_destroy_what_was_flushed(reactor, peers):
    """Source: RFC 2525, section 2.17."""
    factory, transport, peer = stream(reactor, peers)
    transport.pauseProducing()
    turn(reactor)
    send_all(reactor, peer, b"unread" * 10_000)
    sent = b"s" * 500_000
    transport.write(sent)
    transport.loseConnection()
    assert read_all(reactor, peer) == sent
    assert type(lost(reactor, factory)) is ConnectionDone


def test_S5_loseConnection_waits_for_the_producer_to_unregister(reactor, peers):
    factory, transport, peer = stream(reactor, peers)
    producer = Producer()
    transport.registerProducer(producer, True)
    transport.write(b"one")
    transport.loseConnection()
    turn(reactor)
    assert not factory.reasons
    transport.write(b"two")
    transport.unregisterProducer()
    assert read_all(reactor, peer) == b"onetwo"
    lost(reactor, factory)
    assert producer.journal == []


def test_S5_loseConnection_does_not_wait_for_a_producer_that_is_a_connection_that_has_ended(reactor, peers):
    """As port forwarders have it: each is the other's producer, and nobody unregisters."""
    factory, transport, peer = stream(reactor, peers)
    other, source, far = stream(reactor, peers)
    transport.registerProducer(source, True)
    source.registerProducer(transport, True)
    transport.write(b"all of it")
    far.close()
    turn_until(reactor, lambda: other.reasons)
    transport.loseConnection()
    assert read_all(reactor, peer) == b"all of it"
    assert type(lost(reactor, factory)) is ConnectionDone


def test_S5_loseWriteConnection_does_not_wait_for_a_push_producer(reactor, peers):
    factory, transport, peer = stream(reactor, peers, HalfCloser)
    producer = Producer()
    transport.registerProducer(producer, True)
    transport.write(b"all of it")
    transport.loseWriteConnection()
    assert read_all(reactor, peer) == b"all of it"
    turn_until(reactor, lambda: "writeConnectionLost" in factory.journal)
    transport.unregisterProducer()


def test_S5_loseConnection_deadline_60_seconds_counted_from_the_last_progress(world, reactor, peers):
    factory, transport, peer = tight_stream(reactor, peers)
    assert transport.closeTimeout == 60
    transport.write(b"x" * MUCH)
    transport.loseConnection()
    turn(reactor)
    world.advance(59)
    turn(reactor)
    read(reactor, peer, MEGABYTE)
    turn(reactor)
    world.advance(59)
    turn(reactor)
    assert not factory.reasons, "the peer has read meanwhile"
    world.advance(2)
    reason = lost(reactor, factory)
    assert type(reason) is ConnectionLost
    assert reason.ended.by is EndedBy.TIMEOUT
    assert "no progress for 60.0 s while closing" in str(reason)
    assert is_reset(reactor, peer)


@pytest.mark.parametrize("how", ["attribute", "options"])
def test_S5_the_close_deadline_is_settable(world, reactor, peers, how):
    options = TCPOptions(closeTimeout=5) if how == "options" else None
    factory, transport, peer = stream(reactor, peers, options=options)
    if how == "attribute":
        transport.closeTimeout = 5
    transport.write(b"x" * MUCH)
    transport.loseConnection()
    turn(reactor)
    world.advance(4.9)
    turn(reactor)
    assert not factory.reasons
    world.advance(0.2)
    assert type(lost(reactor, factory)) is ConnectionLost
    assert is_reset(reactor, peer)


def test_S5_a_small_close_deadline_really_passes(reactor, peers):
    factory, transport, _ = stream(reactor, peers, options=TCPOptions(closeTimeout=0.02))
    transport.write(b"x" * MUCH)
    transport.loseConnection()
    assert lost(reactor, factory).ended.by is EndedBy.TIMEOUT


def test_S5_a_close_deadline_of_None_waits_for_ever(world, reactor, peers):
    factory, transport, peer = stream(reactor, peers, options=TCPOptions(closeTimeout=None))
    transport.write(b"x" * MUCH)
    transport.loseConnection()
    turn(reactor)
    world.advance(1e6)
    turn(reactor)
    assert not factory.reasons
    assert reactor.getDelayedCalls() == []
    assert len(read_all(reactor, peer)) == MUCH


def test_S5_a_peer_that_reads_slowly_is_never_cut_off(world, reactor, peers):
    factory, transport, peer = tight_stream(reactor, peers)
    transport.write(b"x" * MEGABYTE * 10)
    transport.loseConnection()
    for _ in range(10):
        turn(reactor)
        world.advance(50)
        assert len(read(reactor, peer, MEGABYTE)) == MEGABYTE
    assert not is_reset(reactor, peer)
    assert type(lost(reactor, factory)) is ConnectionDone


def test_S5_the_close_deadline_survives_a_user_who_cancels_every_delayed_call(reactor, peers):
    factory, transport, peer = stream(reactor, peers)
    transport.write(b"x" * MUCH)
    transport.loseConnection()
    turn(reactor)
    for call in reactor.getDelayedCalls():
        call.cancel()
    assert len(read_all(reactor, peer)) == MUCH
    assert type(lost(reactor, factory)) is ConnectionDone


# ---- abortConnection ----------------------------------------------------------------------------------------------


def test_S5_abortConnection_ConnectionAborted_from_a_later_pass_and_the_peer_sees_a_reset(reactor, peers):
    factory, transport, peer = stream(reactor, peers)
    transport.abortConnection()
    assert not factory.reasons
    reason = lost(reactor, factory)
    assert type(reason) is ConnectionAborted
    assert isinstance(reason, ConnectionLost)
    assert reason.ended.by is EndedBy.US_ABORTED
    assert is_reset(reactor, peer)


@pytest.mark.parametrize(
    "state", ["with unsent data", "while closing", "half-closed", "paused", "with a producer"]
)
def test_S5_abortConnection_in_every_state_throws_away_what_was_not_sent(reactor, peers, state):
    factory, transport, peer = stream(reactor, peers, HalfCloser)
    if state != "paused":
        transport.write(b"x" * MUCH)
    if state == "while closing":
        transport.loseConnection()
    elif state == "half-closed":
        transport.loseWriteConnection()
    elif state == "paused":
        transport.pauseProducing()
    elif state == "with a producer":
        transport.registerProducer(Producer(), True)
    turn(reactor)
    transport.abortConnection()
    transport.write(b"ignored")
    assert type(lost(reactor, factory)) is ConnectionAborted
    assert is_reset(reactor, peer)
    assert reactor.getDelayedCalls() == []


@pytest.mark.parametrize("where", ["connectionMade", "dataReceived", "readConnectionLost"])
def test_S5_abortConnection_in_a_callback_is_done_when_it_has_returned(reactor, peers, where):
    inside = []
    factory = Client(HalfCloser)
    factory.stage.acts[where] = do(abort, lambda *_: inside.append(factory.count("connectionLost")))
    listener = peers.listen()
    reactor.connectTCP(HERE, port_of(listener), factory)
    peer = peers.accept(reactor, listener)
    if where != "connectionMade":
        peer.send(b"x")
        peer.shutdown(socket.SHUT_WR)
    assert type(lost(reactor, factory)) is ConnectionAborted
    assert inside == [0]
    assert is_reset(reactor, peer)


# ---- half-close ---------------------------------------------------------------------------------------------------


def test_S5_half_close_by_us_flushes_then_FIN_and_goes_on_reading(reactor, peers):
    factory, transport, peer = stream(reactor, peers, HalfCloser)
    sent = b"s" * 5_000_000
    transport.write(sent)
    transport.loseWriteConnection()
    assert "writeConnectionLost" not in factory.journal
    assert read_all(reactor, peer) == sent
    turn_until(reactor, lambda: "writeConnectionLost" in factory.journal)
    peer.send(b"still heard")
    turn_until(reactor, lambda: factory.one.data == b"still heard")
    transport.write(b"ignored")
    turn(reactor)
    assert not factory.reasons
    peer.close()
    reason = lost(reactor, factory)
    assert type(reason) is ConnectionDone
    assert reason.ended.by is EndedBy.PEER
    assert factory.journal[-7:-2] == [
        "writeConnectionLost",
        "dataReceived",
        "readConnectionLost",
        "connectionLost",
        "clientConnectionLost",
    ]


def test_S5_half_close_by_us_works_for_a_protocol_that_knows_nothing_of_it(reactor, peers):
    factory, transport, peer = stream(reactor, peers)
    transport.write(b"request")
    transport.loseWriteConnection()
    assert read_all(reactor, peer) == b"request"
    peer.send(b"answer")
    peer.close()
    assert type(lost(reactor, factory)) is ConnectionDone
    assert factory.one.data == b"answer"


def test_S5_half_close_by_the_peer_keeps_our_side(reactor, peers):
    factory, transport, peer = stream(reactor, peers, HalfCloser)
    peer.send(b"request")
    peer.shutdown(socket.SHUT_WR)
    turn_until(reactor, lambda: "readConnectionLost" in factory.journal)
    assert factory.one.data == b"request"
    for _ in range(3):
        transport.write(b"answer")
        assert read(reactor, peer, 6) == b"answer"
    assert not factory.reasons
    transport.loseConnection()
    assert read_all(reactor, peer) == b""
    assert type(lost(reactor, factory)) is ConnectionDone
    assert factory.count("readConnectionLost") == 1


@pytest.mark.parametrize("first", ["we", "the peer"])
def test_S5_half_close_of_both_sides_ends_cleanly(reactor, peers, first):
    factory, transport, peer = stream(reactor, peers, HalfCloser)
    if first == "we":
        transport.loseWriteConnection()
        turn_until(reactor, lambda: "writeConnectionLost" in factory.journal)
        peer.shutdown(socket.SHUT_WR)
    else:
        peer.shutdown(socket.SHUT_WR)
        turn_until(reactor, lambda: "readConnectionLost" in factory.journal)
        transport.loseWriteConnection()
    assert type(lost(reactor, factory)) is ConnectionDone
    assert factory.count("readConnectionLost") == factory.count("writeConnectionLost") == 1


def test_S5_half_close_asked_for_in_readConnectionLost(reactor, peers):
    acts = {"readConnectionLost": lambda protocol: protocol.transport.loseWriteConnection()}
    factory, _, peer = stream(reactor, peers, HalfCloser, **acts)
    peer.shutdown(socket.SHUT_WR)
    assert read_all(reactor, peer) == b""
    assert type(lost(reactor, factory)) is ConnectionDone


@pytest.mark.parametrize("side", ["readConnectionLost", "writeConnectionLost"])
def test_S5_half_close_callback_that_raises_is_logged_and_ends_the_connection_with_it(
    reactor, peers, caplog, side
):
    factory, transport, peer = stream(reactor, peers, HalfCloser, **{side: raises()})
    if side == "readConnectionLost":
        peer.shutdown(socket.SHUT_WR)
    else:
        transport.loseWriteConnection()
    assert isinstance(lost(reactor, factory), Planned)
    assert logged(caplog) == ["Planned"]


@pytest.mark.parametrize("closed_by", ["us", "the peer"])
def test_S5_a_reset_after_half_close_is_noticed(reactor, peers, closed_by):
    factory, transport, peer = stream(reactor, peers, HalfCloser)
    if closed_by == "us":
        transport.loseWriteConnection()
        assert read_all(reactor, peer) == b""
    else:
        peer.shutdown(socket.SHUT_WR)
        turn_until(reactor, lambda: "readConnectionLost" in factory.journal)
    reset(peer)
    if closed_by == "the peer" and reactor.poller == "select":
        turn(reactor)  # select(2) tells nothing where nothing is wished for; the next write does.
        transport.write(b"anybody?")
    reason = lost(reactor, factory)
    assert type(reason) is ConnectionLost
    assert reason.ended.by is EndedBy.PEER_RESET


def test_S5_peer_half_closes_unhandled_20_MB_unsent_arrive_whole_then_ConnectionDone(reactor, peers):
    factory, transport, peer = stream(reactor, peers)
    sent = bytes(range(250)) * (MUCH // 250)
    transport.write(sent)
    peer.shutdown(socket.SHUT_WR)
    turn(reactor, 20)
    assert read_all(reactor, peer) == sent
    reason = lost(reactor, factory)
    assert type(reason) is ConnectionDone
    assert (reason.ended.by, reason.ended.sent) == (EndedBy.PEER, MUCH)


def test_S5_peer_half_closes_unhandled_a_server_flushes_too(reactor, peers):
    server = Server(dataReceived=lambda protocol, data: protocol.transport.write(b"y" * 5_000_000))
    peer = peers.connect(reactor.listenTCP(0, server, interface=HERE).getHost().port)
    peer.send(b"?")
    peer.shutdown(socket.SHUT_WR)
    assert len(read_all(reactor, peer)) == 5_000_000
    turn_until(reactor, lambda: "connectionLost" in server.journal)
    assert type(server.one.reason.value) is ConnectionDone


def test_S5_peer_half_closes_unhandled_and_takes_nothing_the_close_deadline_holds(world, reactor, peers):
    factory, transport, peer = stream(reactor, peers)
    transport.write(b"x" * MUCH)
    peer.shutdown(socket.SHUT_WR)
    turn(reactor)
    world.advance(61)
    reason = lost(reactor, factory)
    assert type(reason) is ConnectionLost
    assert reason.ended.by is EndedBy.TIMEOUT


# ---- pausing ------------------------------------------------------------------------------------------------------


def test_S5_a_paused_transport_gives_no_data_until_resumed(reactor, peers):
    factory, transport, peer = stream(
        reactor, peers, dataReceived=lambda protocol, data: protocol.transport.pauseProducing()
    )
    peer.send(b"one")
    turn_until(reactor, lambda: factory.one.data)
    peer.send(b"two")
    turn(reactor)
    assert factory.one.data == b"one"
    transport.resumeProducing()
    turn_until(reactor, lambda: factory.one.data == b"onetwo")


def test_S5_paused_and_resumed_in_one_handler_changes_nothing(world, reactor, peers):
    def flicker(protocol, data):
        protocol.transport.pauseProducing()
        protocol.transport.resumeProducing()

    factory, _, peer = stream(reactor, peers, dataReceived=flicker)
    world.changes.clear()
    peer.send(b"x")
    turn_until(reactor, lambda: factory.one.data)
    assert world.changes == []


def test_S5_a_reset_while_paused_is_no_clean_close_whatever_the_poller_tells(reactor, peers):
    factory, transport, peer = stream(reactor, peers)
    transport.pauseProducing()
    turn(reactor)
    reset(peer)
    transport.loseConnection()
    assert lost(reactor, factory).osError.errno == errno.ECONNRESET


@pytest.mark.parametrize("unread", [b"", b"never to be read"])
def test_S5_a_reset_is_noticed_while_paused(reactor, peers, unread):
    factory, transport, peer = stream(reactor, peers)
    transport.pauseProducing()
    turn(reactor)
    peer.send(unread)
    reset(peer)
    if reactor.poller == "select":
        turn(reactor)
        transport.resumeProducing()
    reason = lost(reactor, factory)
    assert type(reason) is ConnectionLost
    assert reason.errno == errno.ECONNRESET
    assert reason.ended.by is EndedBy.PEER_RESET


def test_S5_an_end_of_data_while_paused_waits_behind_the_data(reactor, peers):
    factory, transport, peer = stream(reactor, peers)
    transport.pauseProducing()
    turn(reactor)
    peer.send(b"last words")
    peer.close()
    turn(reactor)
    assert not factory.reasons
    transport.resumeProducing()
    assert type(lost(reactor, factory)) is ConnectionDone
    assert factory.one.data == b"last words"


def test_S5_both_sides_shut_while_paused_the_data_is_still_there_and_nothing_spins(world, reactor, peers):
    factory, transport, peer = stream(reactor, peers, HalfCloser)
    transport.pauseProducing()
    transport.loseWriteConnection()
    assert read_all(reactor, peer) == b""
    peer.send(b"last words")
    peer.close()
    turn(reactor)
    world.news.clear()
    turn(reactor, 20)
    assert world.news == []
    assert not factory.reasons
    transport.resumeProducing()
    assert type(lost(reactor, factory)) is ConnectionDone
    assert factory.one.data == b"last words"


STATES = [
    "fresh",
    "paused",
    "half-closed by us",
    "half-closed by the peer",
    "half-closed by us, paused",
    "half-closed by both, paused, unread",
    "writing",
    "closing",
    "closing, paused",
    "with a producer",
    "accepted",
]


@pytest.mark.parametrize("state", STATES)
def test_S5_every_live_transport_is_told_at_shutdown(reactor, peers, state):
    factory, transport, peer = stream(reactor, peers, HalfCloser)
    if state == "accepted":
        server = Server()
        peers.connect(reactor.listenTCP(0, server, interface=HERE).getHost().port)
        turn_until(reactor, lambda: "connectionMade" in server.journal)
    if "paused" in state:
        transport.pauseProducing()
    if "by us" in state or "by both" in state:
        transport.loseWriteConnection()
        assert read_all(reactor, peer) == b""
    if "by the peer" in state or "by both" in state:
        peer.send(b"unread" if "unread" in state else b"")
        peer.shutdown(socket.SHUT_WR)
    if state in ("writing", "closing", "closing, paused"):
        transport.write(b"x" * MUCH)
    producer = Producer()
    if state == "with a producer":
        transport.registerProducer(producer, True)
    turn(reactor)
    if "closing" in state:
        transport.loseConnection()
    turn(reactor)
    assert not factory.reasons
    reactor.callWhenRunning(reactor.stop)
    run(reactor)
    reason = lost(reactor, factory)
    assert type(reason) is ConnectionLost
    assert reason.ended.by is EndedBy.SHUTDOWN
    assert factory.connectors[0].state == "disconnected"
    assert producer.journal == (["stopProducing"] if state == "with a producer" else [])
    assert reactor.getDelayedCalls() == []
    if state == "accepted":
        assert server.one.reason.value.ended.by is EndedBy.SHUTDOWN


@pytest.mark.parametrize("state", [each for each in STATES if each not in ("writing", "accepted")])
def test_S4_I12_nothing_is_reported_again_and_again_in_any_state_at_rest(world, reactor, peers, state):
    factory, transport, peer = stream(reactor, peers, HalfCloser)
    if "paused" in state:
        transport.pauseProducing()
    if "by us" in state or "by both" in state:
        transport.loseWriteConnection()
        assert read_all(reactor, peer) == b""
    if "closing" in state:
        transport.write(b"x" * MUCH)
    if state == "with a producer":
        transport.registerProducer(Producer(), True)
        transport.write(b"x" * MUCH)
    turn(reactor)
    if "by the peer" in state or "by both" in state:
        peer.send(b"unread" if "unread" in state else b"")
        peer.shutdown(socket.SHUT_WR)
    elif "paused" in state:
        peer.send(b"unread")
    if "closing" in state:
        transport.loseConnection()
    turn(reactor, 20)
    world.news.clear()
    turn(reactor, 20)
    assert world.news == []
    assert not factory.reasons


@pytest.mark.parametrize(
    "state", ["half-closed by the peer", "paused", "half-closed by both, paused, unread"]
)
def test_F1_F2_C16_a_connection_nobody_refers_to_stays_alive_and_is_told_of_its_end(reactor, peers, state):
    told = []

    class Forgotten(Protocol):
        def connectionMade(self):
            told.append("connectionMade")
            if "paused" in state:
                self.transport.pauseProducing()
            if "both" in state:
                self.transport.loseWriteConnection()

        def readConnectionLost(self):
            told.append("readConnectionLost")

        def connectionLost(self, reason):
            told.append(reason.type.__name__)

    peer = peers.connect(reactor.listenTCP(0, Factory.forProtocol(Forgotten), interface=HERE).getHost().port)
    turn_until(reactor, lambda: told)
    if "both" in state:
        peer.send(b"unread")
    if "half-closed" in state:
        peer.shutdown(socket.SHUT_WR)
    turn(reactor)
    gc.collect()
    turn(reactor)
    assert "ConnectionLost" not in told
    assert "ConnectionDone" not in told
    if "both" in state or reactor.poller == "select":
        # Nothing more will come from the peer, or nothing that select(2) tells: the shutdown does.
        reactor.callWhenRunning(reactor.stop)
        run(reactor)
    else:
        reset(peer)
        turn_until(reactor, lambda: "ConnectionLost" in told)
    assert told[-1] == "ConnectionLost"
    assert len(told) == (3 if state == "half-closed by the peer" else 2)


# ---- producers ----------------------------------------------------------------------------------------------------


def test_S5_a_second_registerProducer_is_a_RuntimeError(reactor, peers):
    _, transport, _ = stream(reactor, peers)
    first, second = Producer(), Producer()
    transport.registerProducer(first, True)
    with pytest.raises(RuntimeError, match="is registered"):
        transport.registerProducer(second, True)
    assert first.journal == second.journal == []
    transport.unregisterProducer()
    transport.registerProducer(second, True)


@pytest.mark.parametrize("streaming", [True, False])
def test_S5_registerProducer_after_the_loss_stops_it_at_once(reactor, peers, streaming):
    factory, transport, peer = stream(reactor, peers)
    peer.close()
    lost(reactor, factory)
    producer = Producer()
    transport.registerProducer(producer, streaming)
    assert producer.journal == ["stopProducing"]


def test_S5_a_pull_producer_is_asked_for_each_piece_until_it_unregisters(reactor, peers):
    _, transport, peer = stream(reactor, peers)
    pieces = [bytes([number]) * 100_000 for number in range(10)]

    def produce():
        transport.write(left.pop(0))
        if not left:
            transport.unregisterProducer()

    left = list(pieces)
    producer = Producer(resumeProducing=produce)
    transport.registerProducer(producer, False)
    assert producer.journal == ["resumeProducing"], "asked at once"
    assert read(reactor, peer, 1_000_000) == b"".join(pieces)
    turn(reactor)
    assert producer.journal == ["resumeProducing"] * 10


def test_S5_a_pull_producer_is_not_asked_again_before_it_has_written(reactor, peers):
    _, transport, peer = stream(reactor, peers)
    producer = Producer()
    transport.registerProducer(producer, False)
    turn(reactor, 20)
    assert producer.journal == ["resumeProducing"]
    transport.write(b"late")
    assert read(reactor, peer, 4) == b"late"
    turn(reactor)
    assert producer.journal == ["resumeProducing"] * 2
    transport.unregisterProducer()


def test_S5_a_push_producer_never_has_more_waiting_than_the_mark_and_one_write(reactor, peers):
    _, transport, peer = stream(reactor, peers)
    most = [0]
    state = {"paused": False, "left": 300}

    def produce():
        while not state["paused"] and state["left"]:
            state["left"] -= 1
            transport.write(b"x" * 20_000)
            most[0] = max(most[0], transport.bytesBuffered)
        if not state["left"]:
            transport.unregisterProducer()
            transport.loseConnection()

    def resume():
        state["paused"] = False
        reactor.callLater(0, produce)

    producer = Producer(pauseProducing=lambda: state.update(paused=True), resumeProducing=resume)
    transport.registerProducer(producer, True)
    reactor.callLater(0, produce)
    assert len(read_all(reactor, peer)) == 6_000_000
    assert most[0] <= 65536 + 20_000
    assert producer.journal[0::2] == ["pauseProducing"] * len(producer.journal[0::2])
    assert producer.journal[1::2] == ["resumeProducing"] * len(producer.journal[1::2])


@pytest.mark.parametrize("end", ["the peer closes", "the peer resets", "we abort", "a half-close unhandled"])
def test_S5_a_producer_is_stopped_once_when_the_connection_ends(reactor, peers, end):
    factory, transport, peer = stream(reactor, peers)
    producer = Producer()
    transport.registerProducer(producer, True)
    if end == "the peer closes":
        peer.close()
    elif end == "the peer resets":
        reset(peer)
    elif end == "we abort":
        transport.abortConnection()
    else:
        peer.shutdown(socket.SHUT_WR)
    lost(reactor, factory)
    assert producer.journal == ["stopProducing"]


def test_S5_two_transports_coupled_as_producer_and_consumer_pass_everything_on(reactor, peers):
    """A proxy: what comes in here goes out there, and whoever is slow slows the other."""
    out, out_transport, out_peer = stream(reactor, peers)
    _, in_transport, in_peer = stream(
        reactor, peers, dataReceived=lambda protocol, data: out_transport.write(data)
    )
    out_transport.registerProducer(in_transport, True)
    sent = bytes(range(200)) * 50_000
    in_peer.setblocking(False)
    got = bytearray()
    at = [0]

    def pumped():
        try:
            at[0] += in_peer.send(memoryview(sent)[at[0] : at[0] + 500_000])
        except BlockingIOError:
            pass
        try:
            got.extend(out_peer.recv(200_000))
        except BlockingIOError:
            pass
        assert out_transport.bytesBuffered <= 65536 + (1 << 20)
        return len(got) == len(sent)

    turn_until(reactor, pumped)
    assert got == sent
    assert not out.reasons
    out_transport.unregisterProducer()


# ---- reasons ------------------------------------------------------------------------------------------------------

DIFFERENT_ENDS = {
    "peer FIN": (ConnectionDone, EndedBy.PEER, None),
    "peer RST": (ConnectionLost, EndedBy.PEER_RESET, errno.ECONNRESET),
    "us": (ConnectionDone, EndedBy.US, None),
    "us, aborting": (ConnectionAborted, EndedBy.US_ABORTED, None),
    "our deadline": (ConnectionLost, EndedBy.TIMEOUT, None),
    "the kernel's deadline": (ConnectionLost, EndedBy.TIMEOUT, errno.ETIMEDOUT),
    "shutdown": (ConnectionLost, EndedBy.SHUTDOWN, None),
    "an exception": (Planned, EndedBy.EXCEPTION, None),
    "another error of recv": (ConnectionLost, EndedBy.ERROR, errno.EHOSTUNREACH),
    "broken pipe": (ConnectionLost, EndedBy.PEER_RESET, errno.EPIPE),
}


def end_it(world, reactor, factory, transport, peer, how):
    if how == "peer FIN":
        peer.close()
    elif how == "peer RST":
        reset(peer)
    elif how == "us":
        transport.loseConnection()
    elif how == "us, aborting":
        transport.abortConnection()
    elif how == "our deadline":
        transport.write(b"x" * MUCH)
        transport.loseConnection()
        turn(reactor)
        world.advance(61)
    elif how == "shutdown":
        reactor.callWhenRunning(reactor.stop)
        run(reactor)
    elif how == "an exception":
        factory.stage.acts["dataReceived"] = raises()
        peer.send(b"!")
    elif how == "broken pipe":
        world.faults["send"] = error("EPIPE")
        transport.write(b"!")
    else:
        world.faults["recv"] = error("ETIMEDOUT" if "kernel" in how else "EHOSTUNREACH")
        peer.send(b"!")


@pytest.mark.parametrize("how", list(DIFFERENT_ENDS))
def test_S5_a_reason_tells_who_ended_it_after_how_long_how_many_bytes_and_its_errno(
    world, reactor, peers, how
):
    kind, by, number = DIFFERENT_ENDS[how]
    factory, transport, peer = stream(reactor, peers)
    peer.send(b"12345")
    turn_until(reactor, lambda: factory.one.data)
    transport.write(b"123")
    assert read(reactor, peer, 3) == b"123"
    assert transport.ended is None
    world.advance(7)
    end_it(world, reactor, factory, transport, peer, how)
    reason = lost(reactor, factory)
    assert type(reason) is kind
    ended = transport.ended
    assert ended.by is by
    assert ended.errno == number
    assert ended.seconds >= 7
    assert ended.received == (6 if how == "an exception" else 5)
    assert ended.sent >= 3
    if kind is not Planned:
        assert isinstance(reason, ConnectionClosed)
        assert reason.ended is ended
        assert reason.errno == number
        if number is not None:
            assert reason.__cause__.errno == number
            assert errno.errorcode[number] in str(reason)


@pytest.mark.parametrize("how", ["peer FIN", "peer RST", "us", "us, aborting", "shutdown"])
def test_S5_each_connection_has_its_own_reason(world, reactor, peers, how):
    first, second = stream(reactor, peers), stream(reactor, peers)
    for each in (first, second):
        if how != "shutdown":
            end_it(world, reactor, *each, how)
    if how == "shutdown":
        end_it(world, reactor, *first, how)
    one, other = lost(reactor, first[0]), lost(reactor, second[0])
    assert type(one) is type(other)
    assert one is not other
    assert first[0].reasons[0] is not second[0].reasons[0]
    assert one.ended is not other.ended


def test_S5_the_reason_of_the_exception_is_the_exception_itself(reactor, peers, caplog):
    factory, _, peer = stream(reactor, peers, dataReceived=raises())
    peer.send(b"x")
    reason = lost(reactor, factory)
    assert reason.args == ("planned",)
    assert logged(caplog) == ["Planned"]


# ---- addresses and options ----------------------------------------------------------------------------------------


def test_S5_getHost_and_getPeer_hold_before_and_after_the_loss(reactor, peers):
    factory, transport, peer = stream(reactor, peers)
    here, there = peer.getpeername(), peer.getsockname()
    assert transport.getPeer() == IPv4Address("TCP", *there)
    peer.close()
    lost(reactor, factory)
    assert transport.getHost() == IPv4Address("TCP", *here)
    assert transport.getPeer() == IPv4Address("TCP", *there)


def option(transport: Any, level: int, name: int) -> int:
    return int(transport.getHandle().getsockopt(level, name))


def test_S5_TCP_NODELAY_is_on_by_default_and_keepalive_off_for_clients_and_servers(reactor, peers):
    _, transport, _ = stream(reactor, peers)
    server = Server()
    peers.connect(reactor.listenTCP(0, server, interface=HERE).getHost().port)
    turn_until(reactor, lambda: "connectionMade" in server.journal)
    for each in (transport, server.one.transport):
        assert each.getTcpNoDelay()
        assert not each.getTcpKeepAlive()
        each.setTcpNoDelay(False)
        each.setTcpKeepAlive(True)
        assert not each.getTcpNoDelay()
        assert each.getTcpKeepAlive()


def test_S5_options_set_nodelay_keepalive_timing_and_TCP_USER_TIMEOUT_for_clients_and_servers(reactor, peers):
    options = TCPOptions(noDelay=False, keepAlive=(30, 5, 4), userTimeout=2.5)
    _, transport, _ = stream(reactor, peers, options=options)
    server = Server()
    peers.connect(reactor.listenTCP(0, server, interface=HERE, options=options).getHost().port)
    turn_until(reactor, lambda: "connectionMade" in server.journal)
    for each in (transport, server.one.transport):
        assert not each.getTcpNoDelay()
        assert each.getTcpKeepAlive()
        assert option(each, socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert option(each, socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 5
        assert option(each, socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4
        assert option(each, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2500


def test_S5_keepalive_timing_can_be_set_on_a_living_transport(reactor, peers):
    _, transport, _ = stream(reactor, peers)
    transport.setTcpKeepAlive((60, 10, 3))
    assert transport.getTcpKeepAlive()
    assert option(transport, socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


# ---- 4. invariants ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000, 3_000_000])
def test_S4_I11_bytes_written_before_loseConnection_arrive_in_order_once(reactor, peers, size):
    sent = bytearray()

    def talk(protocol):
        for number in range(20):
            piece = bytes([number]) * (size // 20)
            sent.extend(piece)
            protocol.transport.write(piece)
        protocol.transport.loseConnection()

    factory = Client(connectionMade=talk)
    listener = peers.listen()
    reactor.connectTCP(HERE, port_of(listener), factory)
    peer = peers.accept(reactor, listener)
    assert read_all(reactor, peer) == sent
    assert type(lost(reactor, factory)) is ConnectionDone


@pytest.mark.parametrize("how", list(DIFFERENT_ENDS))
def test_S4_I10_every_request_after_the_loss_does_nothing(world, reactor, peers, how):
    factory, transport, peer = stream(reactor, peers)
    end_it(world, reactor, factory, transport, peer, how)
    lost(reactor, factory)
    world.faults.clear()
    before = list(factory.journal)
    transport.write(b"x")
    transport.writeSequence([b"y"])
    transport.pauseProducing()
    transport.resumeProducing()
    transport.loseWriteConnection()
    transport.loseConnection()
    transport.abortConnection()
    transport.unregisterProducer()
    transport.stopProducing()
    transport.setWriteLimits(10, 5)
    turn(reactor)
    assert factory.journal == before
    assert not transport.connected
    assert transport.disconnected
    # Whether loseConnection had been called before the end, as Twisted's users read it in connectionLost.
    assert transport.disconnecting is (how in ("us", "our deadline"))
    assert reactor.getDelayedCalls() == []


def test_S5_data_and_end_that_come_together_are_told_one_after_the_other(reactor, peers):
    factory, _, peer = stream(reactor, peers)
    peer.send(b"last")
    peer.close()
    assert type(lost(reactor, factory)) is ConnectionDone
    assert factory.one.data == b"last"
    assert not readable(peer) if peer.fileno() >= 0 else True


def test_S5_a_callback_that_closes_gets_no_more_data_even_if_it_is_there(reactor, peers):
    factory, _, peer = stream(reactor, peers, dataReceived=lose)
    peer.send(b"1" * 300_000)
    turn_until(reactor, lambda: factory.reasons)
    assert factory.count("dataReceived") == 1
