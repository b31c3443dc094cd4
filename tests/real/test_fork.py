"""fork(2) under a running reactor (FAULTS E8, F12): the child's copy refuses to work, the parent's things stay unharmed.

Each program here is a process of its own that forks. The parent is an echo server that this test is connected to; at
the word "fork" it forks within `dataReceived`, the worst place there is. The child does its worst and tells of it
through a pipe; then the parent answers with what the child told.
"""

from __future__ import annotations

import signal
import socket
import sys

import pytest

from tests.real.counterparts import LIMIT, run_python

SERVER = """
import gc, os, signal, sys, threading, time, traceback
from ropewalk import ClientFactory, Protocol, Reactor, ServerFactory

reactor = Reactor()
asked = []

def child(server, transport):
    CHILD

def refused(call, *args, **kw):
    try:
        call(*args, **kw)
    except RuntimeError as exc:
        assert f"process {parent}" in str(exc) and str(os.getpid()) in str(exc), exc
    else:
        raise AssertionError(f"{call} was not refused")

parent = os.getpid()

class Echo(Protocol):
    def connectionLost(self, reason):
        assert os.getpid() == parent

    def dataReceived(self, data):
        if data == b"fork":
            self.fork()
        elif data == b"close":
            self.transport.loseConnection()
        elif data == b"stop listening":
            port.stopListening().addCallback(lambda _: self.transport.write(b"stopped"))
        elif data == b"listen again":
            port.startListening()
            self.transport.write(b"%d" % port.getHost().port)
        elif data == b"end":
            for each in asked:
                os.kill(each, signal.SIGKILL)
                os.waitpid(each, 0)
            reactor.stop()
        else:
            self.transport.write(data)

    def fork(self):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writing)
            with open(reading, "rb") as file:
                told = file.read()
            asked.append(pid)
            self.transport.write(told)
            return
        try:
            os.close(reading)
            child(self, self.transport)
            os.write(writing, b"done")
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        os.close(writing)
        # It lives until it is ended, as a worker would, its copies of the descriptors with it.
        while os.getppid() == parent:
            time.sleep(0.01)
        os._exit(1)

port = reactor.listenTCP(0, ServerFactory.forProtocol(Echo), interface="127.0.0.1")
print(port.getHost().port, flush=True)
reactor.run()
reactor.close()
"""


class Server:
    """The program, and the connections of this test to it."""

    def __init__(self, child):
        self.child = child
        child.wait_until(lambda: child.said().endswith("\n"))
        self.port = int(child.said())

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), LIMIT)

    def ask(self, sock, text):
        sock.sendall(text)
        return sock.recv(65536)

    def works(self, sock):
        """The connection that was there, and new ones."""
        for number in range(20):
            assert self.ask(sock, b"old %d" % number) == b"old %d" % number
            with self.connect() as new:
                assert self.ask(new, b"new %d" % number) == b"new %d" % number

    def end(self, sock):
        sock.sendall(b"end")
        assert sock.recv(1) == b""
        assert self.child.process.wait(LIMIT) == 0, self.child.said()
        assert len(self.child.said().split()) == 1


@pytest.fixture
def serve(start):
    def serve(child):
        text = SERVER.replace("CHILD", "\n    ".join(child.strip().splitlines()))
        return Server(start(sys.executable, "-W", "error", "-X", "dev", "-c", text))

    return serve


REFUSALS = """
refused(reactor.run)
refused(reactor.iterate)
refused(reactor.callLater, 0, int)
refused(reactor.connectTCP, "127.0.0.1", 1, ClientFactory())
refused(reactor.listenTCP, 0, ServerFactory())
refused(reactor.stop)
refused(port.stopListening)
refused(port.startListening)
refused(transport.write, b"stray")
refused(transport.loseConnection)
refused(transport.abortConnection)
refused(transport.loseWriteConnection)
refused(transport.pauseProducing)
refused(transport.resumeProducing)
refused(reactor.addReader, sys.stdin)
refused(reactor.removeAll)
"""


def test_E8_the_childs_copy_refuses_everything_and_names_both_processes(serve):
    server = serve(REFUSALS)
    with server.connect() as sock:
        assert server.ask(sock, b"fork").decode() == "done"
        server.works(sock)
        server.end(sock)


@pytest.mark.parametrize(
    "harm",
    [
        "reactor.close()",
        "with reactor:\n    pass",
        "port.sock.close(); transport.sock.close()",
        "del server, transport; globals().pop('port'); globals().pop('reactor'); gc.collect()",
    ],
    ids=["close", "with", "sockets closed", "let go"],
)
def test_E8_F12_what_the_child_closes_stays_open_for_the_parent(serve, harm):
    server = serve(harm)
    with server.connect() as sock:
        assert server.ask(sock, b"fork").decode() == "done"
        server.works(sock)
        server.end(sock)


def test_E8_a_child_has_its_own_reactor_that_works(serve):
    server = serve("""
class Asks(Protocol):
    def connectionMade(self):
        self.transport.write(b"own")

    def dataReceived(self, data):
        heard.append(data)
        own.stop()

class Answers(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)

heard = []
own = Reactor()
listening = own.listenTCP(0, ServerFactory.forProtocol(Answers), interface="127.0.0.1")
own.connectTCP("localhost", listening.getHost().port, ClientFactory.forProtocol(Asks))
own.run()
own.close()
assert heard == [b"own"], heard
""")
    with server.connect() as sock:
        assert server.ask(sock, b"fork").decode() == "done"
        server.works(sock)
        server.end(sock)


def test_E8_a_connection_that_the_parent_closes_ends_for_the_peer_though_the_child_lives(serve):
    """A copy of the socket in the child would keep it open: no FIN until the last copy is closed."""
    server = serve("pass")
    with server.connect() as sock, server.connect() as other:
        assert server.ask(other, b"hello") == b"hello"
        assert server.ask(sock, b"fork") == b"done"
        assert server.ask(other, b"close") == b""
        server.works(sock)
        server.end(sock)


def test_E8_a_port_that_the_parent_closes_is_closed_though_the_child_lives(serve):
    server = serve("pass")
    with server.connect() as sock:
        assert server.ask(sock, b"fork") == b"done"
        assert server.ask(sock, b"stop listening") == b"stopped"
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        server.port = int(server.ask(sock, b"listen again"))
        server.works(sock)
        server.end(sock)


def test_E8_a_child_that_goes_on_in_the_copied_loop_is_stopped_there():
    """It returns from the callback that forked: the copied loop must neither take the parent's bytes nor go on."""
    text = """
import os, socket, sys
from ropewalk import Protocol, Reactor, ServerFactory

reactor = Reactor()
forked = []

made = []

class Forks(Protocol):
    def connectionMade(self):
        made.append(self)

    def dataReceived(self, data):
        if forked:
            # In the parent: what came for the second connection is all there.
            print(data, flush=True)
            reactor.stop()
            return
        forked.append(os.fork())
        if forked[0]:
            print(os.waitstatus_to_exitcode(os.waitpid(forked[0], 0)[1]), flush=True)

port = reactor.listenTCP(0, ServerFactory.forProtocol(Forks), interface="127.0.0.1")
peers = [socket.create_connection(("127.0.0.1", port.getHost().port)) for _ in range(2)]
while len(made) < 2:
    reactor.iterate(1)
for each in peers:
    each.sendall(b"all of it")
try:
    reactor.run()
except RuntimeError as exc:
    # In the child.
    assert str(os.getpid()) in str(exc), exc
    os._exit(7)
for each in peers:
    each.close()
reactor.close()
"""
    assert run_python(text).splitlines() == ["7", "b'all of it'"]


def test_E8_a_signal_to_the_child_does_to_it_what_it_did_before_the_run(serve):
    """The parent's handlers would only wake a copy that does not run: SIGTERM must end a worker."""
    server = serve("""
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert signal.set_wakeup_fd(-1) == -1
grandchild = os.fork()
if not grandchild:
    signal.pause()
os.kill(grandchild, signal.SIGTERM)
assert os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == -signal.SIGTERM
""")
    with server.connect() as sock:
        assert server.ask(sock, b"fork").decode() == "done"
        server.works(sock)
        server.end(sock)


def test_E8_the_parents_own_signals_still_stop_it(serve):
    server = serve("pass")
    with server.connect() as sock:
        assert server.ask(sock, b"fork") == b"done"
        server.child.process.send_signal(signal.SIGTERM)
        assert sock.recv(1) == b""
        assert server.child.process.wait(LIMIT) == 0


def test_E8_reactors_of_other_threads_are_given_up_in_the_child_too():
    text = """
import os, threading, warnings
from ropewalk import Reactor

warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads is what this is about
begun = threading.Event()
other = Reactor()
other.callWhenRunning(begun.set)
thread = threading.Thread(target=other.run, args=(False,))
thread.start()
begun.wait()
pid = os.fork()
if not pid:
    for refused in (other.iterate, other.run, lambda: other.callFromThread(int), other.getThreadPool):
        try:
            refused()
        except RuntimeError:
            continue
        os._exit(1)
    other.close()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
other.callFromThread(other.stop)
thread.join()
other.close()
"""
    assert run_python(text).split() == ["0"]


def test_E8_the_pool_of_the_parent_is_no_burden_of_the_child():
    text = """
import os, threading, time, warnings
from ropewalk import Reactor

warnings.simplefilter("ignore", DeprecationWarning)
reactor = Reactor()
may_end = threading.Event()

def forks():
    pid = os.fork()
    if not pid:
        began = time.monotonic()
        reactor.close()
        os._exit(0 if time.monotonic() - began < 5 else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    reactor.getThreadPool().callInThreadWithCallback(lambda *got: reactor.callFromThread(ended, got), int)

def ended(got):
    print(*got)
    reactor.stop()

reactor.callInThread(may_end.wait)
reactor.callLater(0, forks)
reactor.addSystemEventTrigger("before", "shutdown", may_end.set)
reactor.run()
reactor.close()
"""
    assert run_python(text).split() == ["0", "True", "0"]


def test_multiprocessing_ends_a_forked_worker_under_a_running_reactor():
    text = """
import multiprocessing, signal
from ropewalk import Reactor

reactor = Reactor()
context = multiprocessing.get_context("fork")

def work(begun):
    begun.set()
    signal.pause()

def begin():
    begun = context.Event()
    worker = context.Process(target=work, args=(begun,))
    worker.start()
    begun.wait()
    worker.terminate()
    worker.join(30)
    print(worker.exitcode)
    reactor.stop()

reactor.callWhenRunning(begin)
reactor.run()
reactor.close()
"""
    assert run_python(text).split() == ["-15"]


RETURNING = """
import os
from ropewalk import Protocol, Reactor, ServerFactory

reactor = Reactor()
parent = os.getpid()

class Forking(Protocol):
    def connectionLost(self, reason):
        if os.getpid() != parent:
            os._exit(9)
        reactor.stop()

    def dataReceived(self, data):
        write, transport = self.transport.write, self.transport
        ASKED
        if os.fork() == 0:
            WAY
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
        transport.loseConnection()

port = reactor.listenTCP(0, ServerFactory.forProtocol(Forking), interface="127.0.0.1")
print(port.getHost().port, flush=True)
try:
    reactor.run()
except RuntimeError:
    os._exit(8)
"""


@pytest.mark.parametrize(("way", "status"), [("raise SystemExit(7)", 7), ("return", 8)])
@pytest.mark.parametrize(
    "asked",
    [
        "write(b'one')",
        "write(b'one'); write(b'x' * 10_000)",
        "write(b'one'); transport.loseConnection()",
        "transport.abortConnection()",
        "transport.pauseProducing()",
    ],
)
def test_E8_a_child_that_returns_from_the_handler_tells_no_protocol_anything(start, asked, way, status):
    """It leaves `run()`, by its own SystemExit or since its reactor refuses; the parent's connection ends as asked."""
    text = RETURNING.replace("ASKED", asked).replace("WAY", way)
    child = start(sys.executable, "-W", "error", "-X", "dev", "-c", text)
    child.wait_until(lambda: child.said().endswith("\n"))
    with socket.create_connection(("127.0.0.1", int(child.said())), LIMIT) as sock:
        sock.sendall(b"go")
        got = b""
        try:
            while data := sock.recv(65536):
                got += data
        except ConnectionResetError:
            assert "abort" in asked
    assert child.process.wait(LIMIT) == 0, child.said()
    assert child.said().split()[1:] == [str(status)]
    assert got == b"" if "write" not in asked else got.startswith(b"one")
