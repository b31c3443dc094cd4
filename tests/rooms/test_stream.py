"""One Stream over the simulated kernel, with a bare socket for a peer: reading, writing, pausing, closing, and every error."""

from __future__ import annotations

import errno
import gc
import logging
import os
import socket
import threading
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk import IPv4Address, TCPOptions
from ropewalk._loop.poller import ERR, HUP, IN, OUT
from ropewalk._net.stream import _READ_SIZE_MOST, _REST, READ_SIZE
from ropewalk.error import ConnectionAborted, ConnectionDone, ConnectionLost
from ropewalk.event import EndedBy
from tests.rooms.one_stream import HalfTold, Line, Producer
from tests.rooms.test_loop import in_a_thread, raising

SMALL = TCPOptions(sendBuffer=4608)
MEG = bytes(range(256)) * 4096


@pytest.fixture
def lines():
    made = []

    def make(*args, **how):
        line = Line(*args, **how)
        made.append(line)
        return line

    yield make
    for line in made:
        line.finish()


def by(line):
    return line.reason.ended.by


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 1000], ids=lambda size: f"{size} bytes a time")
def test_what_the_peer_says_arrives_however_it_is_cut(lines, size):
    line = lines()
    data = MEG[:200]
    for start in range(0, len(data), size):
        line.says(data[start : start + size])
    assert line.protocol.received == data
    assert line.transport.bytesReceived == len(data)


def test_one_readable_event_is_one_read(lines):
    line = lines()
    before = line.faults.counts["recv"]
    line.says(b"x")
    assert line.faults.counts["recv"] == before + 1


def test_a_stream_that_fills_its_reads_reads_more_at_once(lines):
    sizes = []
    line = lines(
        options=TCPOptions(receiveBuffer=1 << 20), data=lambda protocol, data: sizes.append(len(data))
    )
    line.do(line.transport.pauseProducing)
    line.says(MEG[: READ_SIZE + _READ_SIZE_MOST + 100_000])
    line.do(line.transport.resumeProducing)
    assert sizes == [READ_SIZE, _READ_SIZE_MOST, 100_000]
    assert line.transport._read_size == READ_SIZE


def test_while_paused_nothing_is_read_and_nothing_is_lost(lines):
    line = lines()
    line.do(line.transport.pauseProducing)
    line.says(b"later")
    assert line.protocol.received == b""
    line.do(line.transport.resumeProducing)
    assert line.protocol.received == b"later"


def test_a_pause_undone_in_the_same_handler_costs_no_system_call(lines):
    line = lines()
    before = line.faults.counts["modify"]

    def both():
        line.transport.pauseProducing()
        line.transport.resumeProducing()

    line.do(both)
    assert line.faults.counts["modify"] == before
    line.says(b"x")
    assert line.protocol.received == b"x"


def test_pausing_twice_is_pausing_once(lines):
    line = lines(observe=True)
    for _ in range(2):
        line.do(line.transport.pauseProducing)
    for _ in range(2):
        line.do(line.transport.resumeProducing)
    assert [step for step, _ in line.steps] == ["paused", "resumed"]


def test_what_dataReceived_raises_is_the_reason_and_closes_cleanly_for_the_peer(lines, caplog):
    line = lines(data=raising())
    line.says(b"x")
    assert isinstance(line.reason, ValueError)
    assert line.transport.ended.by is EndedBy.EXCEPTION
    assert line.ended() == "FIN"
    assert "dataReceived of" in caplog.text


def test_what_connectionMade_raises_is_the_reason_and_resets(lines, caplog):
    line = lines(made=raising())
    line.go()
    assert line.told == ["built", "made", "lost"]
    assert isinstance(line.reason, ValueError)
    assert line.ended() == "RST"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_is_raised_to_leave_leaves_the_connection_as_it_is(lines, kind):
    line = lines()
    line.acts["data"] = raising(kind)
    line.peer.send(b"x")
    with pytest.raises(kind):
        line.go()
    line.acts.clear()
    line.says(b"y")
    assert line.protocol.received == b"xy"


def test_what_connectionMade_raises_to_leave_leaves_the_connection_as_it_is():
    line = Line.__new__(Line)
    with pytest.raises(SystemExit):
        line.__init__(made=raising(SystemExit))
    line.acts.clear()
    line.says(b"x")
    assert line.protocol.received == b"x"
    line.finish()


@pytest.mark.parametrize("error", [errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH])
def test_an_error_of_recv_ends_it_with_that_errno(lines, error):
    line = lines()
    line.faults.fail("recv", error)
    line.says(b"x")
    assert type(line.reason) is ConnectionLost
    assert line.reason.errno == error
    assert line.protocol.received == b""


def test_a_recv_that_has_nothing_after_all_changes_nothing(lines):
    line = lines()
    line.faults.fail("recv", errno.EAGAIN)
    line.says(b"x")
    assert line.protocol.received == b"x"


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.ENOBUFS])
def test_B12_a_kernel_without_memory_is_asked_again_after_a_rest(lines, error):
    line = lines()
    line.faults.fail("recv", error)
    line.peer.send(b"x")
    line.go(_REST * 0.9)
    assert line.protocol.received == b""
    line.go(_REST)
    assert line.protocol.received == b"x"


def test_a_peer_that_resets_is_told_apart_from_one_that_closes(lines):
    for how, kind, who in (
        ("fin", ConnectionDone, EndedBy.PEER),
        ("rst", ConnectionLost, EndedBy.PEER_RESET),
    ):
        line = lines()
        getattr(line, how)()
        assert type(line.reason) is kind
        assert by(line) is who


def test_F4_a_reset_that_comes_with_the_end_of_the_data_is_a_reset(lines):
    line = lines()
    line.do(line.transport.pauseProducing)
    line.peer.shutdown(socket.SHUT_WR)
    line.go()
    line.rst()
    assert type(line.reason) is ConnectionLost


def test_F4_an_end_and_a_reset_that_come_at_once_are_a_reset(lines):
    line = lines()
    line.peer.shutdown(socket.SHUT_WR)
    line.rst()
    assert type(line.reason) is ConnectionLost
    assert line.reason.errno in (errno.ECONNRESET, errno.EPIPE)


@pytest.mark.parametrize("event", [ERR, HUP, ERR | HUP])
def test_I12_an_event_that_no_read_explains_ends_it_instead_of_coming_again(lines, event):
    line = lines()
    line.do(line.transport.ready, event)
    assert type(line.reason) is ConnectionLost


@pytest.mark.parametrize("ask", ["pauseProducing", "loseConnection", "abortConnection"])
def test_what_another_handler_of_the_same_batch_asked_for_comes_first(lines, ask):
    """Both are ready in one batch; the first asks the second not to read, and that holds."""
    line = lines()
    transport = line.transport

    class First:
        def ready(self, event):
            getattr(transport, ask)()
            loop = line.reactor._loop
            loop.due.remove(transport)
            before = len(line.told)
            transport.ready(1)
            assert len(line.told) == before
            loop.due.append(transport)

    line.peer.send(b"x")
    line.do(First().ready, 1)
    assert line.protocol.received == b""


# ---- writing --------------------------------------------------------------------------------------------------------


def test_what_is_written_arrives_in_order_and_in_one_call(lines):
    line = lines()

    def write():
        for each in (b"a", b"", b"bc", bytearray(b"d"), memoryview(b"ef")):
            line.transport.write(each)

    before = line.faults.counts["send"] + line.faults.counts["sendmsg"]
    line.do(write)
    assert line.reads() == b"abcdef"
    assert line.faults.counts["send"] + line.faults.counts["sendmsg"] == before + 1
    assert line.transport.bytesSent == 6
    assert line.transport.bytesBuffered == 0


def test_nothing_is_sent_from_within_write(lines):
    line = lines()
    before = line.faults.counts["send"]
    line.transport.write(b"x")
    assert line.faults.counts["send"] == before
    assert line.transport.bytesBuffered == 1
    line.go()
    assert line.reads() == b"x"


def test_a_mutable_buffer_is_copied(lines):
    line = lines()
    data = bytearray(b"abc")
    line.transport.write(data)
    data[:] = b"xyz"
    line.go()
    assert line.reads() == b"abc"


@pytest.mark.parametrize("wrong", ["text", 7, None, [1, 2], ["x"]])
def test_what_is_not_bytes_is_a_TypeError_that_shows_it(lines, wrong):
    line = lines()
    with pytest.raises(TypeError, match="bytes-like"):
        line.transport.write(wrong)
    with pytest.raises(TypeError, match="bytes-like"):
        line.transport.writeSequence([b"x", wrong])
    line.go()
    assert line.reads() == b""


@pytest.mark.parametrize("wrong", [b"x", bytearray(b"x"), memoryview(b"x"), "text"])
def test_a_sequence_must_be_one(lines, wrong):
    line = lines()
    with pytest.raises(TypeError, match="iterable"):
        line.transport.writeSequence(wrong)


def test_a_sequence_may_be_a_generator(lines):
    line = lines()
    line.transport.writeSequence(bytes([each]) for each in b"abc")
    line.go()
    assert line.reads() == b"abc"


@pytest.mark.parametrize("call", ["send", "sendmsg"])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_short_sends_lose_nothing(lines, call, size):
    line = lines()
    chunks = [b"a" * 5, b"b" * 30_000, b"c" * 30_000, b"d"] if call == "sendmsg" else [b"a" * 200]
    if size == 1 and call == "sendmsg":
        chunks = [b"a" * 20_000, b"b"]
    line.faults.short("send", size, times=300)
    line.faults.short("sendmsg", size, times=300)
    line.transport.writeSequence(chunks)
    line.go()
    assert line.reads() == b"".join(chunks)


def test_more_than_the_kernel_takes_leaves_as_the_peer_reads(lines):
    line = lines(options=SMALL)
    line.transport.write(MEG)
    line.go()
    assert 0 < line.transport.bytesBuffered < len(MEG)
    assert line.reads() == MEG
    assert line.transport.bytesSent == len(MEG)


def test_while_the_kernel_is_full_further_writes_wait_behind(lines):
    line = lines(options=SMALL)
    line.transport.write(MEG)
    line.go()
    line.transport.write(b"end")
    line.go()
    assert line.reads() == MEG + b"end"


def test_after_the_kernel_was_full_writing_is_plain_again(lines):
    line = lines(options=SMALL)
    line.transport.write(MEG)
    line.go()
    line.reads()
    assert line.transport._plain
    before = line.faults.counts["modify"]
    line.transport.write(b"x")
    line.go()
    assert line.reads() == b"x"
    assert line.faults.counts["modify"] == before


@pytest.mark.parametrize("call", ["send", "sendmsg"])
@pytest.mark.parametrize("error", [errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH])
def test_an_error_of_sending_ends_it_with_that_errno(lines, call, error):
    line = lines()
    line.faults.fail(call, error)
    line.transport.writeSequence([b"x"] if call == "send" else [b"x" * 20_000, b"y"])
    assert line.told[-1] == "made"
    line.go()
    assert type(line.reason) is ConnectionLost
    assert line.reason.errno == error
    assert isinstance(line.reason.__cause__, OSError)
    assert line.reason.ended.sent == 0


@pytest.mark.parametrize("call", ["send", "sendmsg"])
@pytest.mark.parametrize("error", [errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM])
def test_an_error_of_sending_that_passes_loses_nothing(lines, call, error):
    line = lines()
    line.faults.fail(call, error, times=3)
    chunks = [b"x"] if call == "send" else [b"x" * 20_000, b"y"]
    line.transport.writeSequence(chunks)
    line.go()
    assert line.reads() == b"".join(chunks)


def test_while_it_rests_more_may_be_written_and_it_rests_once(lines):
    line = lines()
    line.faults.fail("send", errno.ENOBUFS, times=None)
    line.do(line.transport.write, b"a")
    line.transport.write(b"b")
    line.go(0)
    line.transport.write(b"c")
    line.go(0)
    assert len(line.reactor.getDelayedCalls()) == 1
    line.faults.clear()
    line.go()
    assert line.reads() == b"abc"


def test_a_write_that_an_event_outran_is_sent_once(lines):
    line = lines()
    line.transport.write(b"x")
    line.transport.ready(OUT)
    assert line.transport.bytesSent == 1
    line.go()
    assert line.reads() == b"x"


def test_J8_one_flush_sends_so_much_and_lets_the_others_have_their_turn(lines):
    line = lines(options=TCPOptions(sendBuffer=16 << 20))
    line.transport.writeSequence([MEG] * 6)
    before = line.faults.counts["send"] + line.faults.counts["sendmsg"]
    line.reactor._loop.settle()
    assert line.faults.counts["send"] + line.faults.counts["sendmsg"] == before + 4
    assert line.transport.bytesBuffered == 2 * len(MEG)
    assert line.reads() == MEG * 6


def test_writing_nothing_does_nothing(lines):
    line = lines()
    before = dict(line.faults.counts)
    line.transport.write(b"")
    line.transport.writeSequence([])
    line.go()
    assert line.faults.counts == before


@pytest.mark.parametrize("how", ["loseConnection", "abortConnection", "peer"])
def test_I10_writing_after_the_end_does_nothing(lines, how):
    line = lines()
    if how == "peer":
        line.fin()
    else:
        getattr(line.transport, how)()
        line.go()
    line.transport.write(b"late")
    line.transport.writeSequence([b"late"])
    line.transport.loseConnection()
    line.transport.abortConnection()
    line.transport.loseWriteConnection()
    line.transport.pauseProducing()
    line.transport.resumeProducing()
    line.transport.unregisterProducer()
    line.transport.setWriteLimits(10)
    line.go()
    assert line.reads() == b""
    assert line.told == ["built", "made", "lost"]


def test_writing_after_an_abort_was_asked_for_does_nothing(lines):
    line = lines()

    def both():
        line.transport.write(b"before")
        line.transport.abortConnection()
        line.transport.write(b"after")
        assert line.transport.bytesBuffered == 0

    line.do(both)
    assert line.ended() == "RST"


@settings(max_examples=25)
@given(
    chunks=st.lists(st.integers(0, 60_000).map(lambda n: bytes([n % 251]) * n), max_size=8),
    short=st.sampled_from([None, 1000, 4096, 50_000]),
    small=st.booleans(),
    turns=st.booleans(),
)
def test_I11_bytes_written_before_loseConnection_arrive_in_order_once(chunks, short, small, turns):
    line = Line(options=SMALL if small else None)
    if short:
        line.faults.short("send", short)
        line.faults.short("sendmsg", short)
    for chunk in chunks:
        line.transport.write(chunk)
        if turns:
            line.go(0)
    line.transport.loseConnection()
    line.go()
    assert line.reads() == b"".join(chunks)
    line.go()
    assert type(line.reason) is ConnectionDone
    line.finish()


def test_a_producer_is_paused_behind_a_sequence_and_not_in_its_middle(lines):
    line = lines()

    class Says(Producer):
        def pauseProducing(self):
            super().pauseProducing()
            line.transport.write(b"<paused>")

    producer = Says()
    line.transport.registerProducer(producer, True)
    line.do(line.transport.writeSequence, [b"a" * 70_000, b"b", b"c"])
    assert line.reads()[69_999:] == b"abc<paused>"
    assert producer.told == ["pause", "resume"]


def test_a_producer_that_raised_is_freed_with_its_connection(lines):
    line = lines()

    class Raises(Producer):
        def resumeProducing(self):
            raise ValueError("on purpose")

    producer = Raises()
    freed = weakref.ref(producer)
    line.transport.registerProducer(producer, True)
    del producer
    gc.disable()
    # Why: pytest keeps what is logged, and its traceback.
    logging.disable(logging.CRITICAL)
    try:
        line.do(line.transport.write, b"x" * 100_000)
        assert str(line.reason) == "on purpose"
        line.reason = None
        assert freed() is None
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)


# ---- the hard limit -------------------------------------------------------------------------------------------------


def test_a_hard_limit_aborts_a_peer_that_does_not_read(lines):
    line = lines(options=TCPOptions(highWater=1000, hardLimit=1000))
    line.transport.write(b"x" * 1000)
    line.go()
    assert line.told[-1] == "made"

    def too_much():
        line.transport.write(b"x" * 999)
        line.transport.write(b"xx")
        assert line.told[-1] == "made"

    line.do(too_much)
    assert type(line.reason) is ConnectionLost
    assert by(line) is EndedBy.ERROR
    assert "hard limit is 1000" in str(line.reason)
    assert line.ended() == "RST"


def test_limits_can_be_changed_and_wrong_ones_are_refused(lines):
    line = lines()
    with pytest.raises(ValueError, match="hard limit"):
        line.transport.setWriteLimits(10, 5, 9)
    line.transport.setWriteLimits(10, 5, 20)
    line.do(line.transport.write, b"x" * 21)
    assert "hard limit is 20" in str(line.reason)


def test_a_hard_limit_below_what_waits_already_holds_at_once(lines):
    line = lines(options=SMALL)
    line.do(line.transport.write, MEG)
    line.do(line.transport.setWriteLimits, 1000, 0, 1000)
    assert "hard limit is 1000" in str(line.reason)


def test_taking_the_hard_limit_away_makes_writing_plain_again(lines):
    line = lines(options=TCPOptions(hardLimit=70_000))
    line.do(line.transport.write, b"x")
    assert not line.transport._plain
    line.do(line.transport.setWriteLimits, 65536, 0, None)
    assert line.transport._plain


# ---- producers ------------------------------------------------------------------------------------------------------


def test_a_streaming_producer_is_paused_above_and_resumed_at_the_marks(lines):
    line = lines(options=SMALL, observe=True)
    producer = Producer()
    line.transport.setWriteLimits(100_000, 50_000)
    line.transport.registerProducer(producer, True)
    line.transport.write(MEG[:100_000])
    assert producer.told == []
    line.transport.write(b"x")
    line.transport.write(b"x")
    assert producer.told == ["pause"]
    line.go()
    line.reads()
    assert producer.told == ["pause", "resume"]
    assert [step for step, _ in line.steps] == ["buffer full", "buffer drained"]


def test_one_registered_while_too_much_waits_is_paused_at_once(lines):
    line = lines(options=SMALL)
    line.transport.write(MEG)
    producer = Producer()
    line.transport.registerProducer(producer, True)
    assert producer.told == ["pause"]


def test_a_pull_producer_is_asked_for_each_chunk_when_the_one_before_has_left(lines):
    line = lines()
    producer = Producer(line.transport, b"chunk ", chunks=5)
    line.do(line.transport.registerProducer, producer, False)
    assert producer.told == ["resume"] * 5
    assert line.reads() == b"chunk " * 5


def test_a_second_producer_is_refused_and_names_both(lines):
    line = lines()
    line.transport.registerProducer(Producer(), True)
    with pytest.raises(RuntimeError, match="is registered and was not unregistered"):
        line.transport.registerProducer(Producer(), True)


@pytest.mark.parametrize("streaming", [True, False])
def test_what_is_no_producer_is_refused_by_what_it_lacks(lines, streaming):
    line = lines()
    with pytest.raises(TypeError, match=r"lacks .*stopProducing"):
        line.transport.registerProducer(object(), streaming)
    line.do(line.transport.loseConnection)
    assert type(line.reason) is ConnectionDone


def test_registering_after_the_end_stops_the_producer_at_once(lines):
    line = lines()
    line.fin()
    producer = Producer()
    line.transport.registerProducer(producer, True)
    assert producer.told == ["stop"]


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_the_end_of_the_connection_stops_the_producer_before_the_protocol_is_told(lines, how):
    line = lines()
    producer = Producer()
    line.acts["lost"] = lambda *args: line.told.append(producer.told[-1])
    line.transport.registerProducer(producer, True)
    getattr(line, how)()
    assert producer.told == ["stop"]
    assert line.told[-2:] == ["lost", "stop"]
    line.told.pop()


def test_loseConnection_waits_for_the_producer_to_unregister(lines):
    line = lines()
    line.transport.registerProducer(Producer(), True)
    line.do(line.transport.loseConnection)
    assert line.transport.disconnecting
    line.do(line.transport.write, b"more")
    line.do(line.transport.unregisterProducer)
    assert line.reads() == b"more"
    assert type(line.reason) is ConnectionDone


def test_a_producer_that_raises_is_logged_and_the_connection_lives(lines, caplog):
    line = lines(options=SMALL)
    producer = Producer()
    producer.pauseProducing = raising()
    producer.resumeProducing = raising()
    line.transport.registerProducer(producer, True)
    line.do(line.transport.write, MEG)
    assert line.reads() == MEG
    assert len(caplog.records) == 2


@pytest.mark.parametrize("ask", ["abortConnection", "loseConnection", "unregisterProducer"])
def test_a_producer_may_end_things_when_it_is_resumed(lines, ask):
    line = lines(options=SMALL)
    producer = Producer()

    def resume():
        getattr(line.transport, ask)()

    producer.resumeProducing = resume
    line.transport.registerProducer(producer, True)
    line.do(line.transport.write, MEG)
    assert line.reads() == MEG or ask == "abortConnection"
    line.go()
    line.transport.unregisterProducer()
    line.go()
    assert (line.reason is None) is (ask == "unregisterProducer")


def test_a_producer_that_turns_the_loop_until_the_connection_is_gone_is_survived(lines):
    line = lines()
    producer = Producer()

    def resume():
        producer.told.append("resume")
        if len(producer.told) == 2:
            line.transport.abortConnection()
            line.reactor._loop.settle()

    producer.resumeProducing = resume
    line.transport.registerProducer(producer, False)
    line.do(line.transport.write, b"x")
    assert type(line.reason) is ConnectionAborted


def test_an_observer_that_lets_the_producer_go_keeps_it_from_being_paused(lines):
    line = lines(options=SMALL)
    producer = Producer()
    line.reactor.observers.append(lambda event: line.transport.unregisterProducer())
    line.transport.registerProducer(producer, True)
    line.transport.write(MEG)
    assert "pause" not in producer.told


def test_an_observer_that_lets_the_producer_go_keeps_it_from_being_resumed(lines):
    line = lines(options=SMALL)
    producer = Producer()

    def let_go(event):
        if event.step.value == "buffer drained":
            line.transport.unregisterProducer()

    line.reactor.observers.append(let_go)
    line.transport.registerProducer(producer, True)
    line.do(line.transport.write, MEG)
    assert line.reads() == MEG
    assert producer.told == ["pause"]


# ---- closing --------------------------------------------------------------------------------------------------------


def test_closing_never_calls_back_from_within(lines):
    for ask in ("loseConnection", "abortConnection", "stopProducing"):
        line = lines()
        getattr(line.transport, ask)()
        assert line.told == ["built", "made"]
        line.go()
        assert line.told == ["built", "made", "lost"]


@pytest.mark.parametrize(
    ("ask", "kind", "who", "seen"),
    [
        ("loseConnection", ConnectionDone, EndedBy.US, "FIN"),
        ("stopProducing", ConnectionDone, EndedBy.US, "FIN"),
        ("abortConnection", ConnectionAborted, EndedBy.US_ABORTED, "RST"),
    ],
)
def test_each_way_of_closing_has_its_reason_and_its_packet(lines, ask, kind, who, seen):
    line = lines(observe=True)
    line.do(getattr(line.transport, ask))
    assert type(line.reason) is kind
    assert by(line) is who
    assert line.transport.ended is line.reason.ended
    assert line.ended() == seen
    step, details = line.steps[-1]
    assert step == "closed"
    assert details["by"] == who.value
    assert line.transport.connected is False
    assert line.transport.disconnected is True


def test_closing_with_unread_data_does_not_destroy_what_was_flushed(lines):
    """RFC 2525 section 2.17: a close with unread data would be a reset."""
    line = lines()
    line.do(line.transport.pauseProducing)
    line.says(b"unread")
    line.do(lambda: (line.transport.write(b"last words"), line.transport.loseConnection()))
    assert line.reads() == b"last words"
    assert line.ended() == "FIN"


def test_a_peer_that_has_ended_too_is_closed_cleanly(lines):
    line = lines()
    line.do(line.transport.write, b"something")
    line.do(line.transport.pauseProducing)
    line.says(b"unread")
    line.fin()
    line.do(line.transport.loseConnection)
    assert by(line) is EndedBy.US
    assert line.reads() == b"something"
    assert line.ended() == "FIN"


def test_more_unread_data_than_it_is_polite_to_throw_away_ends_in_a_reset(lines):
    line = lines(options=TCPOptions(receiveBuffer=4 << 20))
    line.do(line.transport.write, b"something")
    line.do(line.transport.pauseProducing)
    line.says(MEG * 2)
    line.do(line.transport.loseConnection)
    assert type(line.reason) is ConnectionDone
    assert line.ended() == "RST"


def test_an_error_while_unread_data_is_thrown_away_changes_nothing(lines):
    line = lines()
    line.do(line.transport.pauseProducing)
    line.says(b"unread")
    line.faults.fail("recv", errno.ECONNRESET)
    line.do(line.transport.loseConnection)
    assert type(line.reason) is ConnectionDone


def test_an_abort_without_the_courtesy_of_a_reset_is_an_abort_all_the_same(lines):
    line = lines()
    line.faults.fail("setsockopt", errno.ENOMEM)
    line.do(line.transport.abortConnection)
    assert type(line.reason) is ConnectionAborted
    assert line.ended() == "FIN"


def test_aborting_throws_away_what_waits(lines):
    line = lines(options=SMALL)
    line.do(line.transport.write, MEG)
    line.do(line.transport.abortConnection)
    assert line.transport.bytesBuffered == 0
    assert type(line.reason) is ConnectionAborted


def test_closing_can_turn_into_aborting_but_not_back(lines):
    line = lines(options=SMALL)
    line.do(line.transport.write, MEG)
    line.do(line.transport.loseConnection)
    assert line.transport.state == "closing"

    def both():
        line.transport.abortConnection()
        line.transport.loseConnection()
        assert line.transport.state == "aborting"

    line.do(both)
    assert type(line.reason) is ConnectionAborted


def test_while_closing_nothing_more_is_received(lines):
    line = lines(options=SMALL)
    line.do(line.transport.write, MEG)
    line.do(line.transport.loseConnection)
    line.says(b"too late")
    assert line.protocol.received == b""
    assert line.reads() == MEG


def test_a_peer_that_takes_nothing_while_closing_is_given_up_after_the_deadline(lines):
    line = lines(options=TCPOptions(sendBuffer=4608, closeTimeout=5))
    line.do(line.transport.write, MEG)
    line.do(line.transport.loseConnection)
    line.go(3.5)
    assert line.reason is None
    line.go(1)
    assert type(line.reason) is ConnectionLost
    assert by(line) is EndedBy.TIMEOUT
    assert "no progress for 5 s" in str(line.reason)


def test_the_deadline_counts_from_the_last_progress(lines):
    line = lines(options=TCPOptions(sendBuffer=4608, closeTimeout=5))
    line.do(line.transport.write, MEG)
    line.do(line.transport.loseConnection)
    got = b""
    for _ in range(20):
        line.go(3)
        try:
            got += line.peer.recv(1 << 20)
        except BlockingIOError:
            pass
    assert got == MEG
    assert type(line.reason) is ConnectionDone


def test_half_closing_has_the_same_deadline(lines):
    line = lines(HalfTold, options=TCPOptions(sendBuffer=4608, closeTimeout=5))
    line.do(line.transport.write, MEG)
    line.do(line.transport.loseWriteConnection)
    line.go(10)
    assert by(line) is EndedBy.TIMEOUT


def test_without_a_deadline_it_waits_for_ever(lines):
    line = lines(options=TCPOptions(sendBuffer=4608, closeTimeout=None))
    line.do(line.transport.write, MEG)
    line.do(line.transport.loseConnection)
    line.go(10_000)
    assert line.reason is None
    assert line.reads() == MEG


def test_the_deadline_can_be_set_and_taken_away_while_it_runs(lines):
    line = lines(options=SMALL)
    line.do(line.transport.write, MEG)
    line.transport.closeTimeout = 7
    assert line.transport.closeTimeout == 7
    line.do(line.transport.loseConnection)
    line.transport.closeTimeout = None
    line.go(100)
    assert line.reads() == MEG
    assert type(line.reason) is ConnectionDone


@pytest.mark.parametrize("how", ["loseConnection", "loseWriteConnection"])
@pytest.mark.parametrize("waits_for", ["the peer", "a producer"])
def test_a_deadline_that_is_set_while_it_closes_without_one_counts_from_then(lines, how, waits_for):
    line = lines(HalfTold, options=TCPOptions(sendBuffer=4608, closeTimeout=None))
    if waits_for == "the peer":
        line.do(line.transport.write, MEG)
    else:
        line.do(line.transport.registerProducer, Producer(), how == "loseConnection")
    line.do(getattr(line.transport, how))
    line.go(100)
    assert line.reason is None
    line.transport.closeTimeout = 5
    line.go(4.5)
    assert line.reason is None
    line.go(1)
    assert "no progress for 5 s" in str(line.reason)


def test_a_deadline_that_is_set_when_all_is_over_starts_nothing(lines):
    line = lines(HalfTold, options=TCPOptions(sendBuffer=4608, closeTimeout=None))
    line.do(line.transport.write, MEG)
    line.do(line.transport.loseWriteConnection)
    line.do(line.transport.abortConnection)
    line.transport.closeTimeout = 5
    assert line.transport.reactor.getDelayedCalls() == []


def test_a_shorter_deadline_counts_from_when_it_was_set(lines):
    line = lines(options=SMALL)
    line.do(line.transport.write, MEG)
    line.do(line.transport.loseConnection)
    line.transport.closeTimeout = 5
    line.go(4.5)
    assert line.reason is None
    line.go(1)
    assert "no progress for 5 s" in str(line.reason)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), "5", True])
def test_a_deadline_that_makes_no_sense_is_refused_when_it_is_set(lines, seconds):
    line = lines()
    with pytest.raises(ValueError, match="closeTimeout must be a number above 0"):
        line.transport.closeTimeout = seconds
    assert line.transport.closeTimeout == 60


def test_a_user_who_cancels_every_timer_does_not_break_closing(lines):
    line = lines(options=TCPOptions(sendBuffer=4608, closeTimeout=5))
    line.do(line.transport.write, MEG)
    line.do(line.transport.loseConnection)
    for call in line.reactor.getDelayedCalls():
        call.cancel()
    assert line.reads() == MEG
    assert type(line.reason) is ConnectionDone


def test_a_user_who_cancels_the_rest_does_not_break_ending(lines):
    line = lines()
    line.faults.fail("send", errno.ENOBUFS, times=None)
    line.do(line.transport.write, b"x")
    line.go(0)
    for call in line.reactor.getDelayedCalls():
        call.cancel()
    line.do(line.transport.abortConnection)
    assert type(line.reason) is ConnectionAborted


# ---- half-close -----------------------------------------------------------------------------------------------------


def test_loseWriteConnection_flushes_then_ends_our_side_only(lines):
    line = lines(HalfTold, options=SMALL, observe=True)
    line.do(lambda: (line.transport.write(MEG), line.transport.loseWriteConnection()))
    assert line.transport.state == "connected, our side about to end"
    assert line.reads() == MEG
    assert line.ended() == "FIN"
    assert line.told[-1] == "write side lost"
    assert line.transport.state == "half-closed by us"
    line.says(b"still heard")
    assert line.protocol.received == b"still heard"
    line.fin()
    assert line.told[-2:] == ["read side lost", "lost"]
    assert type(line.reason) is ConnectionDone
    assert [step for step, _ in line.steps] == ["write side ended", "first byte", "read side ended", "closed"]


def test_loseWriteConnection_needs_no_half_closing_protocol(lines):
    line = lines()
    line.do(line.transport.loseWriteConnection)
    assert line.ended() == "FIN"
    line.says(b"still heard")
    assert line.protocol.received == b"still heard"


def test_after_our_side_has_ended_nothing_is_written(lines):
    line = lines(HalfTold)
    line.do(line.transport.loseWriteConnection)
    line.do(line.transport.write, b"late")
    assert line.reads() == b""
    line.do(line.transport.loseWriteConnection)
    assert line.told.count("write side lost") == 1


def test_a_peer_s_end_leaves_our_side_open_for_one_that_knows_half_close(lines):
    line = lines(HalfTold)
    line.fin()
    assert line.told[-1] == "read side lost"
    assert line.transport.state == "half-closed by the peer"
    line.do(line.transport.write, b"still said")
    assert line.reads() == b"still said"
    line.do(line.transport.loseWriteConnection)
    assert line.told[-2:] == ["write side lost", "lost"]


def test_a_peer_s_end_closes_for_one_that_does_not_and_what_was_written_leaves_first(lines):
    line = lines(options=SMALL)
    line.do(line.transport.write, MEG)
    line.fin()
    assert line.transport.state == "closing"
    assert line.reads() == MEG
    assert type(line.reason) is ConnectionDone
    assert by(line) is EndedBy.PEER


def test_what_is_written_in_answer_to_the_last_data_still_leaves(lines):
    line = lines(data=lambda protocol, data: protocol.transport.write(data))
    line.peer.send(b"echo me")
    line.fin()
    assert line.reads() == b"echo me"
    assert type(line.reason) is ConnectionDone


@pytest.mark.parametrize("callback", ["read side lost", "write side lost"])
@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_what_a_half_close_callback_raises_closes_the_connection(lines, callback, kind, caplog):
    line = lines(HalfTold)
    line.acts[callback.replace(" ", "_")] = raising(kind)

    def act():
        if callback == "read side lost":
            line.fin()
        else:
            line.do(line.transport.loseWriteConnection)

    if kind is SystemExit:
        with pytest.raises(SystemExit):
            act()
        line.go()
        assert line.reason is None
    else:
        act()
        assert isinstance(line.reason, ValueError)
        assert len(caplog.records) == 1


@pytest.mark.parametrize("callback", ["read side lost", "write side lost"])
@pytest.mark.parametrize("ask", ["loseConnection", "abortConnection", "loseWriteConnection"])
def test_a_half_close_callback_may_end_the_rest(lines, callback, ask):
    line = lines(HalfTold)
    line.acts[callback.replace(" ", "_")] = lambda protocol: getattr(protocol.transport, ask)()
    if callback == "read side lost":
        line.fin()
    else:
        line.do(line.transport.loseWriteConnection)
    if line.reason is None:
        assert (callback, ask) == ("write side lost", "loseWriteConnection")
        line.fin()
    assert line.told[-1] == "lost"


@pytest.mark.parametrize("error", [errno.ENOTCONN, errno.ENOBUFS])
def test_a_shutdown_that_fails_ends_it_with_that_errno(lines, error):
    line = lines(HalfTold)
    line.faults.fail("shutdown", error)
    line.do(line.transport.loseWriteConnection)
    assert type(line.reason) is ConnectionLost
    assert line.reason.errno == error


def test_a_shutdown_after_a_reset_tells_of_the_reset(lines):
    line = lines(HalfTold)
    # In one instant: the reset has come to the kernel, and the stream, which was not told yet, shuts its side.
    line.transport.loseWriteConnection()
    line.sim.reset(line.transport)
    line.go()
    assert line.reason.errno == errno.ECONNRESET


def test_loseConnection_overtakes_loseWriteConnection(lines):
    line = lines(HalfTold, options=SMALL)
    line.do(line.transport.write, MEG)
    line.do(line.transport.loseWriteConnection)
    line.do(line.transport.loseConnection)
    assert line.reads() == MEG
    assert type(line.reason) is ConnectionDone
    assert "write side lost" not in line.told


@pytest.mark.parametrize("ask", ["loseConnection", "abortConnection"])
def test_an_observer_that_closes_when_the_peer_has_ended_is_obeyed(lines, ask):
    line = lines(options=SMALL)

    def close(event):
        if event.step.value == "read side ended":
            getattr(line.transport, ask)()

    line.reactor.observers.append(close)
    line.do(line.transport.write, MEG)
    line.fin()
    if ask == "loseConnection":
        assert line.reads() == MEG
        assert by(line) is EndedBy.US
    else:
        assert type(line.reason) is ConnectionAborted


# ---- ends that no read tells of -------------------------------------------------------------------------------------


def test_F3_a_reset_is_noticed_while_paused(lines):
    line = lines()
    line.do(line.transport.pauseProducing)
    line.rst()
    assert by(line) is EndedBy.PEER_RESET


def test_F3_a_reset_is_noticed_while_the_kernel_is_full(lines):
    line = lines(options=SMALL)
    line.do(line.transport.write, MEG)
    line.do(line.transport.pauseProducing)
    line.rst()
    assert line.reason.errno == errno.ECONNRESET


def test_a_socket_that_cannot_say_its_error_ends_with_that(lines):
    line = lines()
    line.do(line.transport.pauseProducing)
    line.faults.fail("getsockopt", errno.ENOBUFS)
    line.rst()
    assert line.reason.errno == errno.ENOBUFS


def test_B2_a_paused_stream_with_both_sides_shut_is_parked_until_it_is_resumed(lines):
    line = lines(HalfTold)
    line.do(lambda: (line.transport.pauseProducing(), line.transport.loseWriteConnection()))
    line.says(b"unread")
    line.fin()
    assert line.reason is None
    assert line.transport in line.reactor._core.open_ends
    line.do(line.transport.resumeProducing)
    assert line.protocol.received == b"unread"
    assert line.told[-2:] == ["read side lost", "lost"]
    assert type(line.reason) is ConnectionDone


@pytest.mark.parametrize("ask", ["loseConnection", "abortConnection"])
def test_B2_a_parked_stream_can_be_ended(lines, ask):
    line = lines(HalfTold)
    line.do(lambda: (line.transport.pauseProducing(), line.transport.loseWriteConnection()))
    line.fin()
    line.do(getattr(line.transport, ask))
    assert line.told[-1] == "lost"
    assert line.transport not in line.reactor._core.open_ends


def test_a_peer_that_ends_while_closing_waits_for_a_producer_is_the_end(lines):
    line = lines(HalfTold)
    producer = Producer()
    line.do(line.transport.loseWriteConnection)
    line.transport.registerProducer(producer, True)
    line.do(line.transport.loseConnection)
    assert line.reason is None
    line.fin()
    assert type(line.reason) is ConnectionDone
    assert by(line) is EndedBy.US
    assert producer.told == ["stop"]


def test_B2_a_parked_stream_that_the_kernel_will_not_watch_again_is_lost(lines):
    line = lines(HalfTold)
    line.do(lambda: (line.transport.pauseProducing(), line.transport.loseWriteConnection()))
    line.fin()
    line.faults.fail("register", errno.ENOSPC)
    line.do(line.transport.resumeProducing)
    assert line.reason.errno == errno.ENOSPC


def test_a_poller_that_will_not_change_its_mask_ends_it(lines):
    line = lines()
    line.faults.fail("modify", errno.ENOMEM)
    line.do(line.transport.pauseProducing)
    assert line.reason.errno == errno.ENOMEM


def test_a_connection_that_the_poller_will_not_have_is_told_made_and_lost(lines):
    line = None

    class Refused(Line):
        def note(self, what, *args):
            if what == "built":
                self.near.faults.fail("register", errno.ENOSPC)
            super().note(what, *args)

    line = Refused()
    assert line.told == ["built", "made", "lost"]
    assert line.reason.errno == errno.ENOSPC
    line.finish()


def test_one_that_the_poller_refuses_and_its_protocol_too_is_lost_once(caplog):
    class Refused(Line):
        def note(self, what, *args):
            if what == "built":
                self.near.faults.fail("register", errno.ENOSPC)
            super().note(what, *args)

    line = Refused(made=raising())
    assert line.told == ["built", "made", "lost"]
    assert isinstance(line.reason, ValueError)
    line.finish()


def test_a_parked_stream_may_be_asked_for_what_changes_nothing(lines):
    line = lines(HalfTold)
    line.do(lambda: (line.transport.pauseProducing(), line.transport.loseWriteConnection()))
    line.fin()
    line.do(line.transport.setWriteLimits, 10)
    assert line.reason is None
    assert line.transport in line.reactor._core.open_ends
    line.do(line.transport.resumeProducing)
    assert line.told[-1] == "lost"


def test_an_error_bit_without_an_error_is_the_end_that_recv_tells_of(lines):
    line = lines()
    line.peer.shutdown(socket.SHUT_WR)
    line.sim.at(line.sim.now + 0.5, line.transport.ready, IN | ERR)
    line.transport.pauseProducing()
    line.transport.resumeProducing()
    line.go()
    assert by(line) is EndedBy.PEER


@pytest.mark.parametrize("how", ["rst", "abortConnection"])
def test_ending_while_it_rests_leaves_no_timer(lines, how):
    line = lines()
    line.faults.fail("send", errno.ENOBUFS, times=None)
    line.transport.write(b"x")
    line.go(0)
    if how == "rst":
        line.sim.reset(line.transport)
    else:
        line.transport.abortConnection()
    line.go(0)
    assert line.told[-1] == "lost"
    assert line.reactor.getDelayedCalls() == []


def test_the_reactor_s_shutdown_is_a_loss_that_says_so(lines):
    line = lines()
    line.reactor.stop()
    line.go()
    assert type(line.reason) is ConnectionLost
    assert by(line) is EndedBy.SHUTDOWN
    assert line.ended() == "FIN"


def test_a_descriptor_closed_behind_our_back_ends_it_and_breaks_nothing(lines):
    line = lines()
    sock = line.transport.getHandle()
    real_close = sock.close

    class Gone:
        def __getattr__(self, name):
            return getattr(sock, name)

        def close(self):
            real_close()
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    line.transport.sock = Gone()
    line.do(line.transport.abortConnection)
    assert line.told[-1] == "lost"


def test_what_connectionLost_raises_is_logged_once(lines, caplog):
    line = lines(lost=raising())
    line.fin()
    assert len(caplog.records) == 1
    assert line.told == ["built", "made", "lost"]


# ---- asking ---------------------------------------------------------------------------------------------------------


def test_it_knows_both_addresses_before_and_after_the_end(lines):
    line = lines()
    ours = IPv4Address("TCP", line.near.addresses[0], 7)
    theirs = IPv4Address("TCP", *line.peer.getsockname())
    assert (line.transport.getHost(), line.transport.getPeer()) == (ours, theirs)
    line.fin()
    assert (line.transport.getHost(), line.transport.getPeer()) == (ours, theirs)


def test_nobody_asked_before_the_end_and_it_still_knows(lines):
    line = lines()
    line.fin()
    assert line.transport.getHost() == IPv4Address("TCP", line.near.addresses[0], 7)


def test_a_socket_that_cannot_tell_its_name_has_the_unspecified_address(lines):
    line = lines()
    line.faults.fail("getsockname", errno.ENOBUFS)
    assert line.transport.getHost() == IPv4Address("TCP", "0.0.0.0", 0)


def test_it_tells_its_socket_number_factory_and_state(lines):
    line = lines()
    transport = line.transport
    assert transport.fileno() == transport.getHandle().fileno() == transport.fd
    assert transport.reactor is line.reactor
    assert (transport.connected, transport.disconnected, transport.disconnecting) == (True, False, False)
    assert transport.state == "connected"
    assert transport.logPrefix() == f"Told,{transport.number}"
    assert f"<Stream {transport.number} connected to" in repr(transport)
    line.fin()
    assert transport.fileno() == -1
    assert "closed" in repr(transport)


def test_socket_options_are_read_and_switched(lines):
    transport = lines().transport
    assert transport.getTcpNoDelay() is True
    transport.setTcpNoDelay(False)
    assert transport.getTcpNoDelay() is False
    assert transport.getTcpKeepAlive() is False
    transport.setTcpKeepAlive(True)
    assert transport.getTcpKeepAlive() is True
    transport.setTcpKeepAlive(False)
    transport.setTcpKeepAlive((10, 2, 3))
    assert transport.getTcpKeepAlive() is True
    assert transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
    with pytest.raises(ValueError, match="keepAlive must be"):
        transport.setTcpKeepAlive((40000, 1, 1))


# ---- threads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "args"),
    [
        ("write", (b"x",)),
        ("writeSequence", ([b"x"],)),
        ("loseConnection", ()),
        ("abortConnection", ()),
        ("loseWriteConnection", ()),
        ("registerProducer", (Producer(), True)),
        ("unregisterProducer", ()),
        ("pauseProducing", ()),
        ("resumeProducing", ()),
        ("stopProducing", ()),
        ("setWriteLimits", (10,)),
    ],
)
def test_a_wrong_thread_is_told_what_it_asked(lines, ask, args):
    line = lines()
    told = []
    line.do(lambda: told.append(in_a_thread(lambda: getattr(line.transport, ask)(*args))))
    (refusal,) = told
    assert isinstance(refusal, RuntimeError)
    assert threading.current_thread().name in str(refusal)
    assert line.told == ["built", "made"]


# ---- observers ------------------------------------------------------------------------------------------------------


def test_the_steps_of_a_life_are_told_in_order_with_their_facts(lines):
    line = lines(observe=True)
    line.says(b"abc")
    line.do(line.transport.write, b"de")
    line.do(line.transport.loseConnection)
    assert [step for step, _ in line.steps] == ["first byte", "closing", "closed"]
    assert line.steps[1][1] == {"buffered": 0}
    facts = line.steps[2][1]
    assert (facts["received"], facts["sent"], facts["by"], facts["reason"]) == (3, 2, "us", "ConnectionDone")


@pytest.mark.parametrize("ask", ["loseConnection", "abortConnection"])
def test_an_observer_that_closes_at_the_first_byte_keeps_it_from_the_protocol(lines, ask):
    line = lines()

    def close(event):
        if event.step.value == "first byte":
            getattr(line.transport, ask)()

    line.reactor.observers.append(close)
    line.says(b"x")
    assert line.protocol.received == b""
    assert line.told[-1] == "lost"


def test_an_observer_that_raises_is_logged_and_changes_nothing(lines, caplog):
    line = lines()
    line.reactor.observers.append(raising())
    line.says(b"x")
    line.fin()
    assert line.told[-1] == "lost"
    assert len(caplog.records) >= 2
