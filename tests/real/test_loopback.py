"""Real sockets over loopback: every poller, several reactors, IPv6, options as the kernel has them, files and pipes."""

from __future__ import annotations

import builtins
import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from ropewalk import (
    ClientFactory,
    Deferred,
    IPv4Address,
    IPv6Address,
    Protocol,
    Reactor,
    ServerFactory,
    TCPOptions,
    error,
)
from tests.conftest import checked_reactor
from tests.real.counterparts import LIMIT, free_port, run

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's words are Linux's")


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


class Echo(Protocol):
    def connectionMade(self):
        self.factory.made.append(self)

    def dataReceived(self, data):
        self.transport.write(data)

    def connectionLost(self, reason):
        self.factory.lost.append(reason.value)


class Server(ServerFactory):
    noisy = False
    protocol = Echo

    def __init__(self):
        self.made = []
        self.lost = []


class Ask(Protocol):
    """Says something, and ends when all of it came back."""

    def connectionMade(self):
        self.factory.made.append(self)
        self.heard = b""
        self.transport.write(self.factory.text)

    def dataReceived(self, data):
        self.heard += data
        if len(self.heard) == len(self.factory.text):
            assert self.heard == self.factory.text
            if self.factory.stays:
                self.factory.ended(None)
            else:
                self.transport.loseConnection()


class Client(ClientFactory):
    noisy = False
    protocol = Ask

    def __init__(self, ended, text=b"hello", stays=False):
        self.ended = ended
        self.text = text
        self.stays = stays
        self.made = []
        self.reason = None

    def clientConnectionFailed(self, connector, reason):
        self.reason = reason.value
        self.ended(reason)

    def clientConnectionLost(self, connector, reason):
        self.reason = reason.value
        if not self.stays:
            self.ended(reason)


def ask(reactor, host, port, look=lambda transport: None, **more):
    """One echo over a connection of its own, then stop. Gives the client, and what `look(transport)` gave meanwhile."""
    seen = []

    def ended(reason):
        if reason is None:
            seen.append(look(client.made[0].transport))
        reactor.stop()

    client = Client(ended, stays=True)
    reactor.connectTCP(host, port, client, **more)
    run(reactor)
    assert seen, client.reason
    assert client.made[0].heard == client.text
    return client, seen[0]


def both(transport):
    return transport.getHost(), transport.getPeer()


# ---- pollers and reactors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("poller", ["epoll", "kqueue", "poll", "select"])
def test_a_whole_session_with_each_poller(poller):
    """By name, in both directions at once, slowly and fast, half-closed, timed, woken by a thread, refused, aborted."""
    try:
        Reactor(poller=poller).close()
    except ValueError as exc:
        pytest.skip(str(exc))
    with checked_reactor(lambda: Reactor(poller=poller)) as reactor:
        assert reactor.poller == poller
        results = []
        outcome = Deferred.fromCoroutine(session(reactor))
        outcome.addBoth(results.append).addBoth(lambda _: reactor.stop())
        run(reactor)
        assert results == ["done"], results[0].getTraceback()


async def session(reactor):
    server = Server()
    listening = reactor.listenTCP(0, server, interface="127.0.0.1")
    port = listening.getHost().port

    def connected(factory):
        waiting = Deferred()
        # Why in a tuple: a Failure given to callback() would be an error.
        factory.ended = lambda reason: waiting.callback((reason,))
        return waiting

    # Much, both ways.
    client = Client(None, text=hashlib.shake_256(b"session").digest(3_000_000))
    ended = connected(client)
    reactor.connectTCP("localhost", port, client)
    assert (await ended)[0].type is error.ConnectionDone
    # Many at once.
    clients = [Client(None, text=b"%d" % number) for number in range(100)]
    waiting = [connected(each) for each in clients]
    for each in clients:
        reactor.connectTCP("127.0.0.1", port, each)
    for each in waiting:
        assert (await each)[0].type is error.ConnectionDone
    # Time, and another thread.
    fired = Deferred()
    reactor.callLater(0.01, fired.callback, "timer")
    assert await fired == "timer"
    fired = Deferred()
    threading.Thread(target=reactor.callFromThread, args=(fired.callback, "thread")).start()
    assert await fired == "thread"
    # An abort, seen by the other side as a reset.
    client = Client(None, text=b"x", stays=True)
    ended = connected(client)
    reactor.connectTCP("127.0.0.1", port, client)
    assert (await ended)[0] is None
    count = len(server.lost)
    client.made[0].transport.abortConnection()
    while len(server.lost) == count:
        fired = Deferred()
        reactor.callLater(0.001, fired.callback, None)
        await fired
    assert type(server.lost[-1]) is error.ConnectionLost
    assert server.lost[-1].ended.by == "peer reset"
    assert type(client.reason) is error.ConnectionAborted
    # Nobody there.
    await listening.stopListening()
    client = Client(None)
    ended = connected(client)
    reactor.connectTCP("127.0.0.1", port, client)
    assert (await ended)[0].check(error.ConnectionRefusedError)
    return "done"


def test_reactors_in_several_threads_at_once_serve_each_other():
    """Four threads, each with a reactor of its own of another kind; each is server, and client of all the others."""
    kinds = [None, "poll", "select", None]
    ports = [free_port() for _ in kinds]
    ready = threading.Barrier(len(kinds), timeout=LIMIT)
    done = threading.Barrier(len(kinds), timeout=LIMIT)
    results = {}

    def work(mine):
        with Reactor(poller=kinds[mine]) as reactor:
            reactor.listenTCP(ports[mine], Server(), interface="127.0.0.1")
            left = [25 * len(ports)]
            text = hashlib.shake_256(b"%d" % mine).digest(50_000)

            def ended(reason):
                assert reason.type is error.ConnectionDone, reason
                left[0] -= 1
                if not left[0]:
                    # The others may still want something of us.
                    reactor.callInThread(lambda: (done.wait(), reactor.callFromThread(reactor.stop)))

            def begin():
                ready.wait()
                for port in ports * 25:
                    reactor.connectTCP("127.0.0.1", port, Client(ended, text=text))

            reactor.callWhenRunning(begin)
            run(reactor)
            results[mine] = left[0]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(kinds))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(LIMIT)
    assert results == {0: 0, 1: 0, 2: 0, 3: 0}


def test_one_reactor_runs_within_a_callback_of_another(reactor):
    """They share a thread, and nothing else."""

    def inner():
        with Reactor() as other:
            port = other.listenTCP(0, Server(), interface="127.0.0.1").getHost().port
            ask(other, "127.0.0.1", port)
            told.append("asked")
        reactor.stop()

    told = []
    reactor.callWhenRunning(inner)
    run(reactor)
    assert told == ["asked"]


# ---- IPv6 ---------------------------------------------------------------------------------------------------------


@IPV6
def test_ipv6_from_end_to_end(reactor):
    server = Server()
    port = reactor.listenTCP(0, server, interface="::1").getHost()
    assert (type(port), port.host) == (IPv6Address, "::1")
    _, (host, peer) = ask(reactor, "::1", port.port, both)
    assert peer == IPv6Address("TCP", "::1", port.port)
    assert (type(host), host.host) == (IPv6Address, "::1")
    assert server.made[0].transport.getPeer() == host


def link_local() -> list[tuple[str, str]]:
    """(address, interface) of this machine's own link-local addresses."""
    found = []
    try:
        with open("/proc/net/if_inet6") as file:
            rows = [line.split() for line in file]
    except OSError:
        return []
    for digits, _, _, scope, _, interface in rows:
        if scope == "20":
            found.append((socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)), interface))
    return found


@IPV6
@pytest.mark.parametrize("scope", ["name", "number"])
def test_an_address_with_a_scope_is_listened_on_and_connected_to(reactor, scope):
    """This machine's own link-local address: the packets go over loopback, the scope must be right all the same."""
    own = link_local()
    if not own:
        pytest.skip("no interface here has a link-local address (fe80::…)")
    address, interface = own[0]
    number = socket.if_nametoindex(interface)
    host = f"{address}%{interface if scope == 'name' else number}"
    server = Server()
    port = reactor.listenTCP(0, server, interface=host).getHost().port
    _, ends = ask(reactor, host, port, both)
    for each in (*ends, server.made[0].transport.getPeer()):
        assert (each.host.partition("%")[0], each.scopeID) == (address, number)


@IPV6
def test_a_scope_that_names_no_interface_fails_the_attempt_and_says_so(reactor):
    client = Client(lambda _: reactor.stop())
    reactor.connectTCP("fe80::1%nosuch0", 80, client)
    run(reactor)
    assert isinstance(client.reason, error.ConnectError)
    assert client.reason.errno == errno.ENODEV


@IPV6
def test_a_dual_stack_port_takes_both_families_and_tells_which(reactor):
    server = Server()
    port = reactor.listenTCP(0, server, interface="::", options=TCPOptions(dualStack=True)).getHost().port
    with (
        socket.create_connection(("127.0.0.1", port), LIMIT) as four,
        socket.create_connection(("::1", port), LIMIT) as six,
    ):
        while len(server.made) < 2:
            reactor.iterate(1)
        peers = {each.transport.getPeer() for each in server.made}
        assert peers == {
            IPv6Address("TCP", "::ffff:127.0.0.1", four.getsockname()[1]),
            IPv6Address("TCP", "::1", six.getsockname()[1]),
        }
    end(reactor)


@IPV6
def test_without_dual_stack_the_same_number_is_free_in_the_other_family(reactor):
    port = free_port()
    six, four = Server(), Server()
    reactor.listenTCP(port, six, interface="::")
    reactor.listenTCP(port, four)
    with (
        socket.create_connection(("127.0.0.1", port), LIMIT),
        socket.create_connection(("::1", port), LIMIT),
    ):
        while not (six.made and four.made):
            reactor.iterate(1)
    assert type(six.made[0].transport.getPeer()) is IPv6Address
    assert type(four.made[0].transport.getPeer()) is IPv4Address
    end(reactor)


def end(reactor):
    reactor.callWhenRunning(reactor.stop)
    run(reactor)


# ---- options, as the kernel has them ------------------------------------------------------------------------------


SETTINGS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name, 0))
        for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT", "TCP_NODELAY")
    ),
    (socket.SOL_SOCKET, socket.SO_SNDBUF),
    (socket.SOL_SOCKET, socket.SO_RCVBUF),
]


@LINUX
def test_options_are_read_back_from_the_sockets_of_both_sides(reactor):
    options = TCPOptions(
        keepAlive=(77, 11, 5), userTimeout=12.5, sendBuffer=40_000, receiveBuffer=50_000, noDelay=True
    )
    server = Server()
    port = reactor.listenTCP(0, server, interface="127.0.0.1", options=options).getHost().port

    def look(transport):
        return [
            [each.getHandle().getsockopt(*option) for option in SETTINGS]
            for each in (transport, server.made[0].transport)
        ]

    _, seen = ask(reactor, "127.0.0.1", port, look, options=options)
    # Source: socket(7): the kernel doubles the sizes of buffers.
    assert seen == [[1, 77, 11, 5, 12_500, 1, 80_000, 100_000]] * 2


@LINUX
def test_without_options_only_TCP_NODELAY_is_on(reactor):
    port = reactor.listenTCP(0, Server(), interface="127.0.0.1").getHost().port
    _, (settings, is_inheritable) = ask(
        reactor,
        "127.0.0.1",
        port,
        lambda transport: (
            [transport.getHandle().getsockopt(*option) for option in SETTINGS[:6]],
            os.get_inheritable(transport.fileno()),
        ),
    )
    with socket.socket() as fresh:
        assert settings == [*(fresh.getsockopt(*option) for option in SETTINGS[:5]), 1]
    assert not is_inheritable


def test_bindAddress_is_what_the_server_sees(reactor):
    server = Server()
    for address in (("127.0.0.7", 0), ("127.0.0.8", free_port())):
        port = reactor.listenTCP(0, server, interface="127.0.0.1").getHost().port
        _, (host, _) = ask(reactor, "127.0.0.1", port, both, bindAddress=address)
        assert host.host == address[0]
        assert address[1] in (0, host.port)
        assert server.made[-1].transport.getPeer() == host


def test_an_address_of_somebody_else_or_in_use_is_a_bind_error(reactor):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for address, number in (
            (("192.0.2.1", 0), errno.EADDRNOTAVAIL),
            (taken.getsockname(), errno.EADDRINUSE),
        ):
            client = Client(lambda _: reactor.stop())
            reactor.connectTCP("127.0.0.1", taken.getsockname()[1], client, bindAddress=address)
            run(reactor)
            assert type(client.reason) is error.ConnectBindError
            assert client.reason.errno == number


PORT_SHARER = """
import sys
from ropewalk import Protocol, Reactor, ServerFactory, TCPOptions

class Names(Protocol):
    def connectionMade(self):
        self.transport.write(sys.argv[2].encode())
        self.transport.loseConnection()

reactor = Reactor()
reactor.listenTCP(int(sys.argv[1]), ServerFactory.forProtocol(Names), interface="127.0.0.1",
    options=TCPOptions(reusePort=True))
print("ready", flush=True)
reactor.run()
reactor.close()
"""


@LINUX
def test_with_reusePort_two_processes_share_a_port_and_its_connections(start, reactor):
    port = free_port()
    children = [
        start(sys.executable, "-W", "error", "-c", PORT_SHARER, str(port), name) for name in ("A", "B")
    ]
    for each in children:
        each.wait_until(lambda each=each: "ready" in each.said())
    served = []
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", port), LIMIT) as sock:
            served.append(sock.recv(10))
    assert set(served) == {b"A", b"B"}
    with pytest.raises(error.CannotListenError) as refused:
        reactor.listenTCP(port, Server(), interface="127.0.0.1")
    assert refused.value.errno == errno.EADDRINUSE
    for each in children:
        assert each.end() == 0, each.said()


# ---- attempts that end otherwise ----------------------------------------------------------------------------------


def test_C9_a_connection_to_ourselves_is_refused(reactor):
    """From a port to the very same port, where nobody listens: TCP's simultaneous open would connect it to itself."""
    port = free_port()
    client = Client(lambda _: reactor.stop())
    reactor.connectTCP("127.0.0.1", port, client, bindAddress=("127.0.0.1", port))
    run(reactor)
    assert isinstance(client.reason, error.ConnectionRefusedError)
    assert isinstance(client.reason, builtins.ConnectionRefusedError)
    assert client.made == []


class BlackHole:
    """A listener whose queue is full: the kernel drops every further SYN, so an attempt is neither made nor refused."""

    def __init__(self, host, port=0):
        self._open = ExitStack()
        self._listener = self._open.enter_context(socket.socket())
        self._listener.bind((host, port))
        self._listener.listen(0)
        for _ in range(3):
            filler = self._open.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(self._listener.getsockname())

    def __enter__(self):
        return self._listener.getsockname()[1]

    def __exit__(self, *exc):
        self._open.close()


@LINUX
def test_an_attempt_that_nobody_answers_ends_at_its_timeout_and_tells_what_was_tried(reactor):
    with BlackHole("127.0.0.1") as port:
        client = Client(lambda _: reactor.stop())
        reactor.connectTCP("127.0.0.1", port, client, timeout=0.05)
        run(reactor)
    assert type(client.reason) is error.TimeoutError
    assert isinstance(client.reason, builtins.TimeoutError)
    assert client.reason.phase == "connecting"
    assert f"127.0.0.1:{port}" in str(client.reason)
    assert [each.address for each in client.reason.attempts] == [f"127.0.0.1:{port}"]


class Addresses:
    """A resolver: this name has these addresses."""

    def __init__(self, *hosts):
        self._hosts = hosts

    def resolveHostName(self, receiver, name, port=0, *rest, **more):
        receiver.resolutionBegan(self)
        for host in self._hosts:
            receiver.addressResolved(IPv4Address("TCP", host, port))
        receiver.resolutionComplete()
        return self

    def cancel(self):
        raise AssertionError("it was done at once")


@LINUX
def test_of_several_addresses_the_dead_the_deaf_and_the_living_the_living_wins(reactor):
    """127.0.0.2 refuses, 127.0.0.3 answers nothing, 127.0.0.4 serves. The loser's socket is closed."""
    server = Server()
    port = reactor.listenTCP(0, server, interface="127.0.0.4").getHost().port
    reactor.installNameResolver(Addresses("127.0.0.2", "127.0.0.3", "127.0.0.4"))
    with BlackHole("127.0.0.3", port):
        _, (_, peer) = ask(reactor, "name.invalid", port, both, options=TCPOptions(attemptDelay=0.02))
    assert peer == IPv4Address("TCP", "127.0.0.4", port)


# ---- files and pipes ----------------------------------------------------------------------------------------------


class Reader:
    """What addReader watches: reads its descriptor to the end."""

    def __init__(self, reactor, fd, size=65536):
        self.reactor = reactor
        self.fd = fd
        self.size = size
        self.pieces = []
        self.lost = None

    def fileno(self):
        return self.fd

    def logPrefix(self):
        return "reader"

    def doRead(self):
        piece = os.read(self.fd, self.size)
        if not piece:
            return EOFError("the end")
        self.pieces.append(piece)
        return None

    def connectionLost(self, reason):
        self.lost = reason
        self.reactor.stop()


POLLERS = pytest.mark.parametrize("poller", ["epoll", "poll", "select"])


@POLLERS
def test_B10_a_regular_file_is_read_through_addReader_beside_a_connection(poller, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 1000)
    with checked_reactor(lambda: Reactor(poller=poller)) as reactor, path.open("rb", buffering=0) as file:
        port = reactor.listenTCP(0, Server(), interface="127.0.0.1").getHost().port
        ended = []
        client = Client(ended.append)
        reactor.connectTCP("127.0.0.1", port, client)
        reader = Reader(reactor, file.fileno(), size=10)
        reactor.addReader(reader)
        run(reactor)
        assert b"".join(reader.pieces) == path.read_bytes()
        assert len(reader.pieces) == 1000
        assert reader.lost.check(EOFError)
        assert client.made[0].heard == b"hello", "the file, always ready, let the connection have its turns"


@POLLERS
def test_B4_a_pipe_is_read_to_the_end_though_its_writer_has_gone_before(poller):
    """Data and the hang-up are there together; the data comes first, whole."""
    reading, writing = os.pipe()
    with checked_reactor(lambda: Reactor(poller=poller)) as reactor:
        data = hashlib.shake_256(b"pipe").digest(50_000)
        assert os.write(writing, data) == len(data)
        os.close(writing)
        reader = Reader(reactor, reading, size=1000)
        reactor.addReader(reader)
        run(reactor)
        assert b"".join(reader.pieces) == data
        assert reader.lost is not None
    os.close(reading)


def test_B4_a_fifo_of_the_file_system_and_a_real_program_at_its_other_end(reactor, start, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    program = f"open({str(path)!r}, 'wb').write(b'x' * 1_000_000)"
    child = start(sys.executable, "-c", program)
    reader = Reader(reactor, reading)

    def begin():
        # Why: a FIFO that nobody has opened for writing yet reads as ended.
        if reader.peek():
            reactor.addReader(reader)
        else:
            reactor.callLater(0.005, begin)

    reader.peek = lambda: bool(select_readable(reading))
    reactor.callWhenRunning(begin)
    run(reactor)
    os.close(reading)
    assert b"".join(reader.pieces) == b"x" * 1_000_000
    assert child.process.wait(LIMIT) == 0


def select_readable(fd):
    import select

    table = select.poll()
    table.register(fd, select.POLLIN)
    return [event for _, event in table.poll(0) if event & select.POLLIN]


def test_a_child_process_is_written_to_and_read_from_through_pipes(reactor):
    """`cat` between an addWriter and an addReader: what is written comes back; closing ends both."""
    data = hashlib.shake_256(b"cat").digest(1_000_000)
    cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for pipe in (cat.stdin, cat.stdout):
        os.set_blocking(pipe.fileno(), False)

    class Writer(Reader):
        def doWrite(self):
            self.done = getattr(self, "done", 0)
            self.done += os.write(self.fd, data[self.done : self.done + 65536])
            if self.done == len(data):
                self.reactor.removeWriter(self)
                cat.stdin.close()

    reader = Reader(reactor, cat.stdout.fileno())
    reactor.addReader(reader)
    reactor.addWriter(Writer(reactor, cat.stdin.fileno()))
    run(reactor)
    cat.stdout.close()
    assert cat.wait(LIMIT) == 0
    assert b"".join(reader.pieces) == data


@POLLERS
def test_a_pipe_whose_reader_has_gone_ends_the_writer(poller):
    reading, writing = os.pipe()
    os.close(reading)

    class Writer(Reader):
        def doWrite(self):
            os.write(self.fd, b"into nothing")

    with checked_reactor(lambda: Reactor(poller=poller)) as reactor:
        writer = Writer(reactor, writing)
        reactor.addWriter(writer)
        run(reactor)
        # With select, which has no word for it, by the write that fails.
        assert writer.lost.check(BrokenPipeError if poller == "select" else error.ConnectionLost)
    os.close(writing)
