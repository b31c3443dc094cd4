"""Sending files: in order, a chunk at a time, and every way it can end. Over the simulated network, and once over a real one."""

from __future__ import annotations

import errno
import gc
import gzip
import io
import logging
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk import (
    ClientFactory,
    Deferred,
    Factory,
    Failure,
    Protocol,
    Reactor,
    ReconnectingClientFactory,
    TCPOptions,
)
from ropewalk.defer import CancelledError
from ropewalk.protocols.basic import FileSender
from ropewalk.protocols.files import CHUNK, InterleavedWriteError, TransferStopped, sendFile
from ropewalk.simulation import Simulation
from ropewalk.testing import simulate

CONTENT = bytes(range(256)) * 1500 + b"end"


class Consumer:
    """A consumer that asks when the test says so."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError("there is one")
        assert not streaming
        self.producer = producer
        producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.written.append(data)


def results_of(deferred: Deferred[Any]) -> list[Any]:
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What is asserted in a callback the engine would catch and log."""
    yield
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []


class Torn(io.BytesIO):
    """A file whose second read fails."""

    reads = 0

    def read(self, size: Any = -1) -> bytes:
        self.reads += 1
        if self.reads > 1:
            raise OSError(5, "bad sector")
        return super().read(size)


# ---- FileSender ------------------------------------------------------------------------------------------------------


def test_a_chunk_is_read_each_time_the_consumer_asks() -> None:
    sender, consumer = FileSender(), Consumer()
    sender.CHUNK_SIZE = 4
    file = io.BytesIO(b"abcdefghij")
    results = results_of(sender.beginFileTransfer(file, consumer))
    assert (consumer.written, file.tell()) == ([b"abcd"], 4)
    consumer.producer.pauseProducing()
    consumer.producer.resumeProducing()
    consumer.producer.resumeProducing()
    assert consumer.written == [b"abcd", b"efgh", b"ij"]
    assert results == []
    consumer.producer.resumeProducing()
    assert (results, consumer.producer, sender.lastSent) == ([b"j"], None, b"j")
    assert not file.closed


def test_an_empty_file_is_sent_at_once() -> None:
    consumer = Consumer()
    assert results_of(FileSender().beginFileTransfer(io.BytesIO(), consumer)) == [b""]
    assert (consumer.written, consumer.producer) == ([], None)


def test_a_transform_is_given_each_chunk_and_may_give_nothing() -> None:
    consumer, sender = Consumer(), FileSender()
    sender.CHUNK_SIZE = 1
    results = results_of(
        sender.beginFileTransfer(io.BytesIO(b"a-b--c-"), consumer, lambda chunk: chunk.strip(b"-").upper())
    )
    while consumer.producer is not None:
        consumer.producer.resumeProducing()
    assert (consumer.written, results) == ([b"A", b"B", b"C"], [b"C"])


def test_a_sender_may_be_used_again_from_its_own_callback() -> None:
    consumer, sender = Consumer(), FileSender()
    files = [io.BytesIO(b"two"), io.BytesIO(b"three")]
    results: list[Any] = []

    def again(last: bytes) -> Any:
        results.append(last)
        if files:
            sender.beginFileTransfer(files.pop(0), consumer).addCallback(again)

    sender.beginFileTransfer(io.BytesIO(b"one"), consumer).addCallback(again)
    while consumer.producer is not None:
        consumer.producer.resumeProducing()
    assert (consumer.written, results) == ([b"one", b"two", b"three"], [b"e", b"o", b"e"])


def test_a_consumer_that_stops_fails_the_transfer_once_and_asks_in_vain() -> None:
    sender, consumer = FileSender(), Consumer()
    sender.CHUNK_SIZE = 4
    results = results_of(sender.beginFileTransfer(io.BytesIO(b"abcdefghij"), consumer))
    consumer.producer.stopProducing()
    consumer.producer.stopProducing()
    consumer.producer.resumeProducing()
    assert consumer.written == [b"abcd"]
    assert results[0].check(TransferStopped)
    assert results[0].value.bytesWritten == 4
    assert str(results[0].value) == "the consumer stopped the transfer after 4 bytes"
    assert sender.file is None


def test_what_a_read_or_a_transform_raises_fails_the_transfer_and_lets_the_consumer_go() -> None:
    sender, consumer = FileSender(), Consumer()
    results = results_of(sender.beginFileTransfer(Torn(b"x" * 20_000), consumer))
    consumer.producer.resumeProducing()
    assert results[0].check(OSError)
    assert consumer.producer is None
    results = results_of(sender.beginFileTransfer(io.BytesIO(b"x"), consumer, lambda chunk: chunk / 2))  # type: ignore[arg-type,operator,return-value]
    assert results[0].check(TypeError)
    assert consumer.producer is None


def test_cancelling_ends_the_transfer_and_lets_the_consumer_go() -> None:
    sender, consumer = FileSender(), Consumer()
    sender.CHUNK_SIZE = 4
    deferred = sender.beginFileTransfer(io.BytesIO(b"abcdefghij"), consumer)
    results = results_of(deferred)
    deferred.cancel()
    assert results[0].check(CancelledError)
    assert (consumer.producer, sender.file) == (None, None)


def test_a_consumer_that_has_a_producer_says_so_at_once() -> None:
    consumer, sender = Consumer(), FileSender()
    FileSender().beginFileTransfer(io.BytesIO(b"one"), consumer)
    with pytest.raises(RuntimeError, match="there is one"):
        sender.beginFileTransfer(io.BytesIO(b"two"), consumer)
    assert (sender.file, sender.deferred) == (None, None)


# ---- sendFile --------------------------------------------------------------------------------------------------------


class Sink(Protocol):
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.received = b""
        self.reason: Any = None
        self.is_deaf = False

    def connectionMade(self) -> None:
        if self.is_deaf:
            self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure) -> None:
        self.reason = reason.value


class Source(Protocol):
    """Does what the test wants when it is connected."""

    reason: Any = None

    def connectionMade(self) -> None:
        self.factory.go(self)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure) -> None:
        self.reason = reason.value


class Scene:
    """A source that sends, a sink that receives, and the network between them."""

    def __init__(self, go: Any, is_deaf: bool = False, **options: Any) -> None:
        """Args: is_deaf: whether the sink reads nothing."""
        self.sim = Simulation(1)
        self.sink, self.source = Sink(), Source()
        self.sink.is_deaf = is_deaf
        self.sender = self.sim.host("sender")
        port = self.sim.host("receiver").reactor.listenTCP(7, self._factory(Factory, self.sink))
        factory = self._factory(ClientFactory, self.source)
        factory.go = go
        self.sender.reactor.connectTCP("receiver", 7, factory, options=TCPOptions(**options))
        self.sim.advance(1)
        port.stopListening()

    def _factory(self, kind: Any, protocol: Any) -> Any:
        factory = kind()
        factory.noisy = False
        factory.protocol = lambda: protocol
        return factory

    def finish(self) -> Scene:
        self.sim.runUntilIdle()
        self.source.transport.loseConnection()
        self.sim.runUntilIdle()
        self.sim.checkAtRest()
        return self


def test_what_was_written_before_goes_first_and_what_the_callback_writes_last() -> None:
    def go(source: Source) -> None:
        source.transport.write(b"before;")
        sent = sendFile(source.transport, io.BytesIO(CONTENT))
        sent.addCallback(lambda count: source.transport.write(b";after %d" % count))

    scene = Scene(go).finish()
    assert scene.sink.received == b"before;" + CONTENT + b";after %d" % len(CONTENT)


def test_a_part_of_a_file_is_sent_and_the_file_stays_open() -> None:
    file = io.BytesIO(CONTENT)
    results: list[Any] = []

    def go(source: Source) -> None:
        file.seek(5)
        sent = sendFile(source.transport, file, 1000, 200_000)
        sent.addCallback(results.append)

    scene = Scene(go).finish()
    assert scene.sink.received == CONTENT[1000:201_000]
    assert results == [200_000]
    assert not file.closed


@pytest.mark.parametrize("count", [0, None])
def test_nothing_can_be_sent_too(count: int | None) -> None:
    results: list[Any] = []

    def go(source: Source) -> None:
        results.extend(results_of(sendFile(source.transport, io.BytesIO(), count=count)))
        source.transport.write(b"after")

    assert Scene(go).finish().sink.received == b"after"
    assert results == [0]


def test_a_transport_that_calls_its_producer_after_the_end_calls_in_vain() -> None:
    class Transport(Consumer):
        bytesBuffered = 0

        @property
        def bytesSent(self) -> int:
            return sum(map(len, self.written))

    for end in ("done", "stopped", "cancelled"):
        transport = Transport()
        deferred = sendFile(transport, io.BytesIO(b"x" * (CHUNK + 1)))
        producer = transport.producer
        results = results_of(deferred)
        if end == "done":
            producer.resumeProducing()
            producer.resumeProducing()
            assert results == [CHUNK + 1]
        elif end == "stopped":
            producer.stopProducing()
            assert results[0].check(TransferStopped)
        else:
            deferred.cancel()
            assert results[0].check(CancelledError)
        written = len(transport.written)
        producer.stopProducing()
        producer.resumeProducing()
        assert (len(transport.written), len(results)) == (written, 1)


def test_several_files_follow_each_other() -> None:
    def go(source: Source) -> None:
        sent = sendFile(source.transport, io.BytesIO(b"one" * 100_000))
        sent.addCallback(lambda count: sendFile(source.transport, io.BytesIO(b"two" * 100_000)))
        sent.addCallback(lambda count: source.transport.loseConnection())

    assert Scene(go).finish().sink.received == b"one" * 100_000 + b"two" * 100_000


def test_one_file_may_be_sent_over_two_connections_at_a_time() -> None:
    file = io.BytesIO(CONTENT)
    sim = Simulation(1)
    sources: list[Source] = []

    def go(source: Source) -> None:
        sources.append(source)
        if len(sources) == 2:
            for each, offset in zip(sources, (0, 7), strict=True):
                sendFile(each.transport, file, offset)

    sinks: list[Sink] = []

    class Kept(Sink):
        def connectionMade(self) -> None:
            sinks.append(self)

    port = sim.host("receiver").reactor.listenTCP(7, Factory.forProtocol(Kept))
    for _ in range(2):
        factory: Any = ClientFactory.forProtocol(Source)
        factory.go = go
        sim.host("sender").reactor.connectTCP("receiver", 7, factory)
    sim.advance(10)
    for source in sources:
        source.transport.loseConnection()
    port.stopListening()
    sim.runUntilIdle()
    sim.checkAtRest()
    assert sorted(len(each.received) for each in sinks) == [len(CONTENT) - 7, len(CONTENT)]
    for each in sinks:
        assert each.received == CONTENT[-len(each.received) :]


def test_loseConnection_waits_for_the_file_also_when_the_peer_is_slow() -> None:
    results: list[Any] = []

    def go(source: Source) -> None:
        results.append(results_of(sendFile(source.transport, io.BytesIO(CONTENT))))
        source.transport.loseConnection()

    scene = Scene(go)
    scene.sim.host("receiver").faults.short("recv", 5000)
    scene.finish()
    assert scene.sink.received == CONTENT
    assert results == [[len(CONTENT)]]
    assert type(scene.source.reason).__name__ == "ConnectionDone"


def test_no_more_than_a_chunk_waits_in_the_transport() -> None:
    waiting: list[int] = []

    class Watched(io.BytesIO):
        def read(self, size: Any = -1) -> bytes:
            waiting.append(transports[0].bytesBuffered)
            return super().read(size)

    transports: list[Any] = []

    def go(source: Source) -> None:
        transports.append(source.transport)
        source.transport.write(b"before")
        sendFile(source.transport, Watched(CONTENT))

    scene = Scene(go)
    scene.sim.host("receiver").faults.short("recv", 5000)
    scene.finish()
    assert len(scene.sink.received) == len(CONTENT) + 6
    assert len(waiting) == len(CONTENT) // CHUNK + 2
    assert waiting == [6] + [0] * (len(waiting) - 1)


def test_a_peer_that_reads_nothing_is_sent_no_more_than_the_kernel_holds() -> None:
    file = io.BytesIO(bytes(8_000_000))

    def go(source: Source) -> None:
        sendFile(source.transport, file).addErrback(lambda failure: failure.trap(TransferStopped))

    scene = Scene(go, is_deaf=True)
    scene.sim.advance(100)
    held = file.tell()
    scene.sim.advance(100)
    assert held == file.tell() < 5_000_000
    assert scene.source.transport.bytesBuffered <= CHUNK
    scene.source.transport.abortConnection()
    scene.finish()


def lost_in_the_middle(end: Any) -> tuple[Scene, list[Any]]:
    results: list[Any] = []

    def go(source: Source) -> None:
        sendFile(source.transport, io.BytesIO(bytes(8_000_000))).addBoth(results.append)

    scene = Scene(go, is_deaf=True)
    scene.sim.advance(5)
    assert results == []
    end(scene)
    scene.sim.advance(5)
    return scene, results


@pytest.mark.parametrize("end", ["a reset", "an abort", "the peer's close"])
def test_a_loss_in_the_middle_fails_the_Deferred(end: str) -> None:
    def ended(scene: Scene) -> None:
        if end == "a reset":
            scene.sim.reset(scene.sim.connections()[0])
        elif end == "an abort":
            scene.source.transport.abortConnection()
        else:
            scene.sink.transport.loseConnection()

    scene, results = lost_in_the_middle(ended)
    assert results[0].check(TransferStopped)
    assert 0 < results[0].value.bytesWritten < 8_000_000
    scene.finish()


def test_on_a_connection_that_has_ended_it_fails_at_once() -> None:
    scene = Scene(lambda source: source.transport.loseConnection()).finish()
    results = results_of(sendFile(scene.source.transport, io.BytesIO(CONTENT)))
    assert results[0].check(TransferStopped)
    assert results[0].value.bytesWritten == 0


@pytest.mark.parametrize("ended", ["abortConnection", "half-close"])
def test_where_nothing_is_sent_any_more_it_fails_at_once(ended: str) -> None:
    results: list[Any] = []

    def go(source: Any) -> None:
        source.readConnectionLost = source.writeConnectionLost = lambda: None
        if ended == "abortConnection":
            source.transport.abortConnection()
            results.extend(results_of(sendFile(source.transport, io.BytesIO(CONTENT))))
        else:
            source.transport.loseWriteConnection()

    scene = Scene(go)
    if ended == "half-close":
        scene.sim.advance(1)
        results.extend(results_of(sendFile(scene.source.transport, io.BytesIO(CONTENT))))
    assert results[0].check(TransferStopped)
    assert results[0].value.bytesWritten == 0
    scene.finish()


def test_a_hard_limit_that_a_chunk_oversteps_fails_it_at_once() -> None:
    results: list[Any] = []

    def go(source: Any) -> None:
        results.extend(results_of(sendFile(source.transport, io.BytesIO(CONTENT))))

    scene = Scene(go, highWater=1000, hardLimit=2000)
    assert results[0].check(TransferStopped)
    scene.finish()
    assert scene.sink.received == b""


# ---- by the transport itself -----------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(LONG)
    return path


LONG = CONTENT * 10


def test_a_regular_file_is_not_read_but_left_to_the_transport(path: Path) -> None:
    results: list[Any] = []
    with path.open("rb") as file:
        file.seek(77)

        def go(source: Any) -> None:
            source.transport.write(b"before;")
            sent = sendFile(source.transport, file, 5, 3_000_000)
            sent.addCallback(lambda count: source.transport.write(b";after"))
            sent.addBoth(results.append)
            source.transport.loseConnection()

        scene = Scene(go).finish()
        assert file.tell() == 77
    assert scene.sink.received == b"before;" + LONG[5:3_000_005] + b";after"
    assert results == [None]


@pytest.mark.parametrize("offset", [0, len(LONG) - 3, len(LONG), len(LONG) + 1])
def test_a_regular_file_is_sent_to_its_end(path: Path, offset: int) -> None:
    results: list[Any] = []
    with path.open("rb", buffering=0) as file:
        scene = Scene(lambda source: results.append(sendFile(source.transport, file, offset))).finish()
    assert scene.sink.received == LONG[offset:]
    assert results_of(results[0]) == [len(LONG[offset:])]


@pytest.mark.parametrize("count", [None, len(LONG)])
def test_a_file_that_becomes_shorter_on_its_way_ends_there(path: Path, count: int | None) -> None:
    results: list[Any] = []
    with path.open("rb") as file:

        def go(source: Any) -> None:
            results.append(sendFile(source.transport, file, 0, count))

        scene = Scene(go, is_deaf=True)
        scene.sim.advance(5)
        os.truncate(path, 200_000)
        held = scene.source.transport.bytesSent
        scene.sink.transport.resumeProducing()
        scene.finish()
    kept = max(held, 200_000)
    assert scene.sink.received == LONG[:kept]
    [result] = results_of(results[0])
    if count is None:
        assert result == kept
    else:
        assert result.check(EOFError)
        assert f"after {kept} of {count} bytes" in result.getErrorMessage()


def test_of_a_file_that_becomes_shorter_what_others_wrote_is_not_counted(path: Path) -> None:
    results: list[Any] = []
    with path.open("rb") as file:
        scene = Scene(lambda source: results.append(sendFile(source.transport, file)), is_deaf=True)
        scene.sim.advance(5)
        held = scene.source.transport.bytesSent
        scene.source.transport.write(b"B" * 1000)
        os.truncate(path, 200_000)
        scene.sink.transport.resumeProducing()
        scene.finish()
    kept = max(held, 200_000)
    assert scene.sink.received == LONG[:kept] + b"B" * 1000
    assert results_of(results[0]) == [kept]


def test_a_transport_that_refuses_the_first_chunk_is_given_no_producer() -> None:
    class Refusing(Consumer):
        bytesSent = bytesBuffered = 0

        def write(self, data: bytes) -> None:
            raise LookupError("not now")

    transport = Refusing()
    with pytest.raises(LookupError):
        sendFile(transport, io.BytesIO(b"x"))
    assert transport.producer is None


def test_where_no_descriptor_is_left_the_file_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(fd: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    results: list[Any] = []
    with path.open("rb") as file:

        def go(source: Any) -> None:
            monkeypatch.setattr(os, "dup", none_left)
            results.append(sendFile(source.transport, file))

        scene = Scene(go).finish()
    assert scene.sink.received == LONG
    assert results_of(results[0]) == [len(LONG)]


@pytest.mark.parametrize("kind", ["gzip", "/proc"])
def test_a_file_whose_descriptor_does_not_tell_what_is_read_is_read(tmp_path: Path, kind: str) -> None:
    packed = tmp_path / "file.gz"
    packed.write_bytes(gzip.compress(LONG))
    opener, name = {"gzip": (gzip.open, packed), "/proc": (open, "/proc/self/maps")}[kind]
    with opener(name, "rb") as opened:  # type: ignore[operator]
        file: Any = opened
        scene = Scene(lambda source: sendFile(source.transport, file)).finish()
        file.seek(0)
        assert scene.sink.received[:40] == file.read(40)
    assert len(scene.sink.received) > 500


def test_the_hard_limit_is_for_what_is_in_memory(path: Path) -> None:
    results: list[Any] = []
    with path.open("rb") as file:

        def go(source: Any) -> None:
            results.append(sendFile(source.transport, file))
            source.transport.loseConnection()

        scene = Scene(go, highWater=1000, hardLimit=2000).finish()
    assert scene.sink.received == LONG
    assert results_of(results[0]) == [len(LONG)]


def test_beyond_the_hard_limit_the_error_counts_what_is_in_memory(path: Path) -> None:
    def go(source: Any) -> None:
        with path.open("rb") as file:
            source.transport.writeFile(file, 0, 1_000_000)
            source.transport.write(b"x" * 1500)
            assert source.transport.bytesBuffered == 1_001_500
            source.transport.write(b"x" * 1000)

    scene = Scene(go, highWater=1000, hardLimit=2000)
    scene.sim.advance(1)
    assert "2500 bytes" in str(scene.source.reason)


def test_writeFile_needs_the_file_no_longer_and_refuses_what_makes_no_sense(path: Path) -> None:
    def go(source: Any) -> None:
        with path.open("rb") as file:
            source.transport.write(b"a")
            source.transport.writeFile(file, 1, 3)
            source.transport.write(b"b")
            source.transport.writeFile(file, 0, 0)
            for offset, count in ((-1, 2), (2, -1), (2**63, 1), (1, 2**63)):
                with pytest.raises(ValueError, match=f"offset={offset}, count={count}"):
                    source.transport.writeFile(file, offset, count)
            numbers: list[Any]
            for numbers in ([1.5, 2], [1, 2.0], ["1", 2]):
                with pytest.raises(TypeError):
                    source.transport.writeFile(file, *numbers)
                with pytest.raises(TypeError):
                    sendFile(source.transport, file, *numbers)
        reading, writing = os.pipe()
        os.close(writing)
        with path.open("ab") as unreadable, open(reading, "rb") as pipe:
            for each in (unreadable, pipe):
                with pytest.raises(OSError):
                    source.transport.writeFile(each, 0, 1)
        # What was refused has left nothing behind: another file may be sent.
        sendFile(source.transport, io.BytesIO(b"c"))

    scene = Scene(go).finish()
    assert scene.sink.received == b"a" + LONG[1:4] + b"bc"
    with path.open("rb") as file:
        scene.source.transport.writeFile(file, 0, 10)  # type: ignore[attr-defined]
    assert scene.source.transport.bytesBuffered == 0


def test_a_write_into_the_middle_of_a_file_is_noticed_and_the_connection_aborted() -> None:
    results: list[Any] = []

    def go(source: Any) -> None:
        sendFile(source.transport, io.BytesIO(CONTENT)).addBoth(results.append)
        source.transport.write(b"too early")

    scene = Scene(go).finish()
    assert results[0].check(InterleavedWriteError)
    assert "9 bytes were written while a file was being sent" in str(results[0].value)
    assert type(scene.source.reason).__name__ == "ConnectionAborted"
    assert type(scene.sink.reason).__name__ == "ConnectionLost"
    # What came is no file with something in it: it stops where the strange bytes are.
    assert len(scene.sink.received) <= CHUNK + 9


def test_a_write_behind_the_last_chunk_is_in_order() -> None:
    results: list[Any] = []

    def go(source: Any) -> None:
        sendFile(source.transport, io.BytesIO(b"a short file"), count=12).addBoth(results.append)
        source.transport.write(b", and after")

    scene = Scene(go).finish()
    assert scene.sink.received == b"a short file, and after"
    assert results == [12]


def test_cancelling_ends_the_transfer_and_leaves_the_connection() -> None:
    deferreds: list[Any] = []

    def go(source: Any) -> None:
        deferreds.append(sendFile(source.transport, io.BytesIO(CONTENT)))
        deferreds[0].cancel()
        source.transport.write(b"sorry")

    scene = Scene(go).finish()
    assert results_of(deferreds[0])[0].check(CancelledError)
    assert scene.sink.received == CONTENT[:CHUNK] + b"sorry"


def test_what_reading_raises_fails_the_Deferred_and_leaves_the_connection() -> None:
    results: list[Any] = []

    def go(source: Any) -> None:
        def failed(failure: Failure) -> None:
            results.append(failure.value)
            source.transport.write(b"sorry")

        sendFile(source.transport, Torn(CONTENT)).addErrback(failed)

    scene = Scene(go).finish()
    assert isinstance(results[0], OSError)
    assert scene.sink.received == CONTENT[:CHUNK] + b"sorry"


def test_a_file_that_ends_too_early_and_one_of_text_fail() -> None:
    results: list[Any] = []

    def go(source: Any) -> None:
        sendFile(source.transport, io.BytesIO(b"short"), count=6).addErrback(results.append)

    Scene(go).finish()
    assert results[0].check(EOFError)
    assert "ended after 5 of 6 bytes" in str(results[0].value)
    results.clear()

    def text(source: Any) -> None:
        sendFile(source.transport, io.StringIO("text")).addErrback(results.append)  # type: ignore[arg-type]

    Scene(text).finish()
    assert results[0].check(TypeError)
    assert "binary mode" in str(results[0].value)


def test_arguments_that_make_no_sense_are_refused() -> None:
    scene = Scene(lambda source: None)
    transport = scene.source.transport
    for arguments in ((-1, None), (0, -1)):
        with pytest.raises(ValueError, match="0 or more"):
            sendFile(transport, io.BytesIO(CONTENT), *arguments)
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe:
        os.close(writing)
        with pytest.raises(ValueError, match="cannot be positioned at 5"):
            sendFile(transport, pipe, 5)
        assert results_of(sendFile(transport, pipe)) == [0]
    deferred = sendFile(transport, io.BytesIO(CONTENT))
    with pytest.raises(RuntimeError, match="is registered"):
        sendFile(transport, io.BytesIO(CONTENT))
    scene.finish()
    assert results_of(deferred) == [len(CONTENT)]


def test_a_transfer_that_has_ended_leaves_no_circle() -> None:
    class File(io.BytesIO):
        """One that can be watched."""

    files: list[Any] = []

    def go(source: Any) -> None:
        file = File(CONTENT)
        files.append(weakref.ref(file))
        sendFile(source.transport, file)

    scene = Scene(go)
    gc.disable()
    try:
        scene.sim.advance(10)
        assert files[0]() is None
    finally:
        gc.enable()
    scene.finish()


def test_a_transfer_that_was_refused_leaves_no_circle() -> None:
    class File(io.BytesIO):
        """One that can be watched."""

    scene = Scene(lambda source: source.transport.registerProducer(FileSender(), True))
    file = File(CONTENT)
    seen = weakref.ref(file)
    gc.disable()
    try:
        for begin in (sendFile, lambda transport, file: FileSender().beginFileTransfer(file, transport)):
            with pytest.raises(RuntimeError):
                begin(scene.source.transport, file)
        del file
        assert seen() is None
    finally:
        gc.enable()
    scene.source.transport.unregisterProducer()
    scene.finish()


@simulate(seeds=20)
def test_through_a_storm_a_file_arrives_whole_or_its_Deferred_fails(simulation: Simulation) -> None:
    """Invariant: each connection has received a beginning of the file; the whole of it where both ends ended cleanly."""
    sinks: list[Sink] = []
    outcomes: list[Any] = []
    begun: list[int] = []

    class Server(Sink):
        def connectionMade(self) -> None:
            begun.append(1)
            self.transport.write(b"head;")
            # Every other one by the transport itself.
            sent = sendFile(self.transport, on_disk if len(begun) % 2 else io.BytesIO(CONTENT))
            sent.addBoth(outcomes.append)
            self.transport.loseConnection()

    class Client(Sink):
        def connectionMade(self) -> None:
            sinks.append(self)

    serves = Factory.forProtocol(Server)
    asks = ReconnectingClientFactory.forProtocol(Client)
    serves.noisy = asks.noisy = False
    asks.maxDelay = 2
    server = simulation.host("server")
    server.faults.short("send", simulation.random.choice([9999, 50_000, 10**6]))
    server.onStart(lambda reactor: reactor.listenTCP(7, serves))
    simulation.host("client").onStart(lambda reactor: reactor.connectTCP("server", 7, asks))
    storm = simulation.storm(15, every=2, kinds=("cut", "delay", "loss", "reset", "short", "pause"))
    with tempfile.TemporaryFile(buffering=0) as on_disk:
        on_disk.write(CONTENT)
        simulation.run(until=storm.ends + 90)
    whole = b"head;" + CONTENT
    for sink in sinks:
        assert whole.startswith(sink.received)
        if sink.reason is not None and type(sink.reason).__name__ == "ConnectionDone":
            assert sink.received == whole
    assert any(sink.received == whole for sink in sinks)
    assert len(outcomes) >= len(begun) - 1
    for outcome in outcomes:
        assert outcome == len(CONTENT) or outcome.check(TransferStopped)


@pytest.mark.parametrize("poller", ["epoll", "poll", "select"])
def test_a_real_file_over_a_real_connection(
    poller: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT * 9)
    results: list[Any] = []
    copied: list[int] = []
    by_kernel = os.sendfile

    def watched(*args: Any) -> int:
        copied.append(by_kernel(*args))
        return copied[-1]

    monkeypatch.setattr(os, "sendfile", watched)
    with Reactor(poller=poller) as reactor, path.open("rb") as file:
        sink = Sink()

        class Server(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(b"before;")
                sent = sendFile(self.transport, file, 3, 3_000_000)
                sent.addBoth(results.append)
                sent.addCallback(lambda _: self.transport.write(b";after"))
                sent.addCallback(lambda _: self.transport.loseConnection())

        class Client(ClientFactory[Any]):
            noisy = False

            def buildProtocol(self, addr: Any) -> Any:
                return sink

            def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
                port.stopListening()
                reactor.callLater(0, reactor.stop)

        serves = Factory.forProtocol(Server)
        serves.noisy = False
        port = reactor.listenTCP(0, serves, interface="127.0.0.1")
        reactor.connectTCP("127.0.0.1", port.getHost().port, Client())
        reactor.run()
    assert sink.received == b"before;" + (CONTENT * 9)[3:3_000_003] + b";after"
    assert results == [3_000_000]
    assert sum(copied) == 3_000_000
