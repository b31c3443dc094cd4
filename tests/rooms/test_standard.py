"""Standard input and output: never a blocking call, nothing lost, and whoever is slow holds the other back."""

import os
from select import PIPE_BUF

import pytest

from ropewalk.cli.standard import HIGH_WATER, Input, Output


class FakeReactor:
    """Remembers what is watched; the test says when it is ready."""

    def __init__(self):
        self.readers, self.writers = [], []

    def addReader(self, reader):
        if reader not in self.readers:
            self.readers.append(reader)

    def removeReader(self, reader):
        if reader in self.readers:
            self.readers.remove(reader)

    def addWriter(self, writer):
        if writer not in self.writers:
            self.writers.append(writer)

    def removeWriter(self, writer):
        if writer in self.writers:
            self.writers.remove(writer)


class FakeProducer:
    def __init__(self):
        self.calls = []

    def pauseProducing(self):
        self.calls.append("pause")

    def resumeProducing(self):
        self.calls.append("resume")


class Seen(Input):
    """An Input that keeps what it read, and that it ended, in `seen`."""

    def __init__(self, fd):
        self.seen: list[object] = []
        super().__init__(FakeReactor(), fd, self.seen.append, lambda: self.seen.append("end"))


class Kept(Output):
    """An Output that keeps its errors, and has a producer."""

    def __init__(self, fd):
        self.errors: list[OSError] = []
        super().__init__(FakeReactor(), fd, self.errors.append)
        self.start(FakeProducer())


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue  # the test closed it


@pytest.fixture
def source(pipe):
    """An Input on the pipe's reading end."""
    return Seen(pipe[0])


@pytest.fixture
def sink(pipe):
    """An Output on the pipe's writing end."""
    return Kept(pipe[1])


def test_input_hands_over_what_it_reads_and_says_once_that_it_ended(pipe, source):
    source.start()
    os.write(pipe[1], b"abc")
    source.doRead()
    os.close(pipe[1])
    source.doRead()
    source.connectionLost(None)
    assert source.seen == [b"abc", "end"]
    assert source.reactor.readers == []


def test_paused_input_is_not_watched_and_resumed_it_is(source):
    source.start()
    source.pauseProducing()
    assert source.reactor.readers == []
    source.resumeProducing()
    assert source.reactor.readers == [source]


def test_stopped_input_never_ends_and_cannot_be_resumed(source):
    source.start()
    source.stopProducing()
    source.resumeProducing()
    source.connectionLost(None)
    assert source.reactor.readers == []
    assert source.seen == []


def test_a_hang_up_is_the_end_of_input(source):
    source.start()
    source.connectionLost(None)
    assert source.seen == ["end"]


def test_input_that_was_closed_before_it_started_is_empty(pipe, source):
    os.close(pipe[0])
    source.start()
    assert source.seen == ["end"]


def test_output_writes_no_more_at_a_time_than_a_pipe_always_takes(pipe, sink):
    data = os.urandom(3 * PIPE_BUF + 1)
    sink.write(data[:100])
    sink.write(data[100:])
    got = b""
    while sink.reactor.writers:
        sink.doWrite()
        chunk = os.read(pipe[0], 1 << 16)
        assert len(chunk) <= PIPE_BUF
        got += chunk
    assert got == data


def test_output_pauses_its_producer_once_above_the_mark_and_resumes_it_when_empty(pipe, sink):
    for _ in range(4):
        sink.write(bytes(HIGH_WATER))
    assert sink.producer.calls == ["pause"]
    while sink.reactor.writers:
        sink.doWrite()
        os.read(pipe[0], 1 << 16)
    assert sink.producer.calls == ["pause", "resume"]


def test_finish_waits_for_what_is_not_written_yet(pipe, sink):
    done = []
    sink.write(b"x")
    sink.finish(lambda: done.append("later"))
    assert done == []
    sink.doWrite()
    assert done == ["later"]
    sink.finish(lambda: done.append("now"))
    assert done == ["later", "now"]


def test_output_that_nobody_reads_breaks_once_and_drops_what_waits(pipe, sink):
    done = []
    sink.write(bytes(2 * HIGH_WATER))
    sink.finish(lambda: done.append("done"))
    os.close(pipe[0])
    sink.doWrite()
    sink.connectionLost(None)
    sink.write(b"more")
    assert [type(exc) for exc in sink.errors] == [BrokenPipeError]
    assert sink.reactor.writers == []
    assert sink.producer.calls == ["pause", "resume"]
    assert done == ["done"]


def test_a_hang_up_of_the_reader_is_noticed_without_writing(sink):
    sink.write(b"x")
    sink.connectionLost(None)
    assert [type(exc) for exc in sink.errors] == [BrokenPipeError]


def test_a_regular_file_takes_larger_pieces(tmp_path):
    with open(tmp_path / "out", "wb") as file:
        sink = Output(FakeReactor(), file.fileno(), lambda exc: None)
        sink.start(FakeProducer())
        sink.write(bytes(10 * PIPE_BUF))
        sink.doWrite()
        assert sink.reactor.writers == []
