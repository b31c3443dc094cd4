"""Descriptors of the user's own."""

from __future__ import annotations

import os
import socket

from tests.differential.bench import raises
from tests.differential.scenarios.table import scenario


class Reader:
    def __init__(self, bench, sock, read):
        self.bench = bench
        self.fileno = sock.fileno
        self.read = read

    def doRead(self):
        return self.read()

    def connectionLost(self, reason):
        self.bench.note("reader", "connectionLost", reason.type.__name__)

    def logPrefix(self):
        return "Reader"


@scenario()
def a_reader_of_the_user_s_and_shutdown(bench):
    ours, theirs = map(bench.keep, socket.socketpair())
    reader = Reader(bench, ours, lambda: bench.note("reader", ours.recv(10)))
    bench.reactor.addReader(reader)
    bench.note("reader", reader in bench.reactor.getReaders(), bench.reactor.getWriters())
    bench.soon(theirs.send, b"data")
    return lambda: len(bench.log["reader"]) > 1


@scenario()
def a_reader_that_returns_an_exception(bench):
    ours, theirs = map(bench.keep, socket.socketpair())
    bench.reactor.addReader(Reader(bench, ours, lambda: bench.error.ConnectionDone()))
    theirs.send(b"data")
    return lambda: "reader" in bench.log


@scenario()
def a_reader_that_raises(bench):
    ours, theirs = map(bench.keep, socket.socketpair())
    bench.reactor.addReader(Reader(bench, ours, raises()))
    theirs.send(b"data")
    return lambda: "reader" in bench.log


def pipe(bench):
    """Its two ends as objects; closed with the scenario, if not before."""
    return (bench.keep(open(fd, mode, buffering=0)) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))


class Writer(Reader):
    def doWrite(self):
        self.bench.note("writer", "doWrite")


@scenario()
def a_pipe_s_end_is_told_to_its_reader(bench):
    """doRead, which would find nothing, is not called for it."""
    reading, writing = pipe(bench)
    bench.reactor.addReader(Reader(bench, reading, lambda: bench.note("reader", reading.read(99))))
    writing.write(b"last words")
    writing.close()
    return lambda: len(bench.log.get("reader", ())) > 1


@scenario()
def a_writer_whose_pipe_has_no_reader_any_more(bench):
    """It is not asked to write once more: with nothing to say it would be asked for ever."""
    reading, writing = pipe(bench)
    reading.close()
    bench.reactor.addWriter(Writer(bench, writing, None))
    return lambda: "reader" in bench.log


@scenario()
def one_that_reads_and_writes_and_whose_pipe_has_no_reader_any_more(bench):
    reading, writing = pipe(bench)
    reading.close()
    both = Writer(bench, writing, None)
    bench.reactor.addReader(both)
    bench.reactor.addWriter(both)
    return lambda: "reader" in bench.log


@scenario("D35", mine=(["all of them: False"], ["all of them: True"]))
def getReaders_are_the_user_s_own(bench):
    ours, _ = map(bench.keep, socket.socketpair())
    reader = Reader(bench, ours, lambda: None)
    bench.listen(bench.server())
    bench.reactor.addReader(reader)
    bench.note("mine", "all of them:", bench.reactor.getReaders() == [reader])
    bench.reactor.removeReader(reader)
    return lambda: True


@scenario()
def a_writer_of_the_user_s_that_removes_itself(bench):
    ours, theirs = map(bench.keep, socket.socketpair())

    class Once(Writer):
        def doWrite(self):
            super().doWrite()
            self.bench.reactor.removeWriter(self)
            ours.send(b"x")

    bench.reactor.addWriter(Once(bench, ours, None))
    bench.reactor.addReader(Reader(bench, theirs, lambda: bench.note("reader", theirs.recv(10))))
    return lambda: "reader" in bench.log


@scenario()
def a_reader_whose_other_end_closes(bench):
    ours, theirs = map(bench.keep, socket.socketpair())

    def read():
        data = ours.recv(10)
        bench.note("reader", data)
        return None if data else bench.error.ConnectionDone()

    bench.reactor.addReader(Reader(bench, ours, read))
    theirs.send(b"last")
    theirs.close()
    return lambda: len(bench.log.get("reader", ())) == 3
