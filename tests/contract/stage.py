"""The stage of the connection tests: actors that write down what they are told, peers made of plain sockets, and a
world in which one thing fails.

An actor (a factory or its protocols) writes the name of every callback into the factory's journal, then does what the
test gave it to do there: `Client(connectionMade=lambda protocol: …)`. So a test says only what it is about.

Peers are plain sockets in the test's own thread, non-blocking; the reactor is turned until what is waited for is there.
`World` is the real system but for one thing: its clock can be put forward, names are what the test says, and any call
of a socket can be made to fail. Nothing here looks inside the engine.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any

from ropewalk import ClientFactory, Protocol, ServerFactory
from ropewalk._system import RealSystem

PATIENCE = 20.0  # Why: only an upper bound; nothing here waits for it unless it fails.
HERE = "127.0.0.1"


# ---- actors -------------------------------------------------------------------------------------------------------


class Planned(Exception):
    """Raised by actors on purpose."""


def raises(kind: type[BaseException] = Planned) -> Callable[..., Any]:
    """An act that raises."""

    def act(*args: Any) -> Any:
        raise kind("planned")

    return act


def do(*acts: Callable[..., Any]) -> Callable[..., Any]:
    """Several acts, one after the other; the last one's result."""

    def act(*args: Any) -> Any:
        result = None
        for each in acts:
            result = each(*args)
        return result

    return act


class Actor(Protocol):
    """A protocol that writes down what it is told, then does what the test wants done there."""

    def __init__(self, stage: Any) -> None:
        self.stage = stage
        self.data = b""
        self.reason: Any = None
        # What this very protocol was told, in order.
        self.heard: list[str] = []

    def told(self, what: str, *args: Any) -> None:
        self.heard.append(what)
        self.stage.told(what, self, *args)

    def makeConnection(self, transport):
        self.heard.append("makeConnection")
        self.stage.note("makeConnection")
        super().makeConnection(transport)

    def connectionMade(self):
        self.told("connectionMade")

    def dataReceived(self, data):
        self.data += data
        self.told("dataReceived", data)

    def connectionLost(self, reason):
        self.reason = reason
        self.told("connectionLost", reason)


class HalfCloser(Actor):
    """One that keeps the other direction when one has ended."""

    def readConnectionLost(self):
        self.told("readConnectionLost")

    def writeConnectionLost(self):
        self.told("writeConnectionLost")


class Troupe:
    """What a factory and its protocols share: the journal, and what to do where."""

    def __init__(self, acts: dict[str, Callable[..., Any]]) -> None:
        self.acts = acts
        self.journal: list[str] = []

    def note(self, what: str) -> None:
        self.journal.append(what)

    def told(self, what: str, *args: Any) -> Any:
        self.note(what)
        act = self.acts.get(what)
        return None if act is None else act(*args)


class Client(ClientFactory):
    """A client factory that writes everything down."""

    noisy = False

    def __init__(self, actor: type[Actor] = Actor, **acts: Callable[..., Any]) -> None:
        self.actor = actor
        self.stage = Troupe(acts)
        self.built: list[Any] = []
        self.connectors: list[Any] = []
        self.reasons: list[Any] = []

    @property
    def journal(self) -> list[str]:
        return self.stage.journal

    @property
    def one(self) -> Any:
        """The protocol of the connection, if there was exactly one."""
        (protocol,) = self.built
        return protocol

    @property
    def reason(self) -> Any:
        """The value of the one reason the factory was given."""
        (reason,) = self.reasons
        return reason.value

    def count(self, what: str) -> int:
        return self.journal.count(what)

    def doStart(self):
        self.stage.note("doStart")
        super().doStart()

    def doStop(self):
        self.stage.note("doStop")
        super().doStop()

    def startFactory(self):
        self.stage.told("startFactory", self)

    def stopFactory(self):
        self.stage.told("stopFactory", self)

    def startedConnecting(self, connector):
        self.connectors.append(connector)
        self.stage.told("startedConnecting", connector)

    def buildProtocol(self, addr):
        if "buildProtocol" in self.stage.acts:
            return self.stage.told("buildProtocol", addr)
        self.stage.note("buildProtocol")
        return self.make()

    def make(self) -> Any:
        protocol = self.actor(self.stage)
        protocol.factory = self
        self.built.append(protocol)
        return protocol

    def clientConnectionFailed(self, connector, reason):
        self.reasons.append(reason)
        self.stage.told("clientConnectionFailed", connector, reason)

    def clientConnectionLost(self, connector, reason):
        self.reasons.append(reason)
        self.stage.told("clientConnectionLost", connector, reason)


class Server(ServerFactory):
    """A server factory that writes everything down."""

    noisy = False

    def __init__(self, actor: type[Actor] = Actor, **acts: Callable[..., Any]) -> None:
        self.actor = actor
        self.stage = Troupe(acts)
        self.built: list[Any] = []

    @property
    def journal(self) -> list[str]:
        return self.stage.journal

    @property
    def one(self) -> Any:
        (protocol,) = self.built
        return protocol

    def startFactory(self):
        self.stage.told("startFactory", self)

    def stopFactory(self):
        self.stage.told("stopFactory", self)

    def buildProtocol(self, addr):
        if "buildProtocol" in self.stage.acts:
            return self.stage.told("buildProtocol", addr)
        self.stage.note("buildProtocol")
        return self.make()

    def make(self) -> Any:
        protocol = self.actor(self.stage)
        protocol.factory = self
        self.built.append(protocol)
        return protocol


def lose(protocol: Any, *_: Any) -> None:
    protocol.transport.loseConnection()


def abort(protocol: Any, *_: Any) -> None:
    protocol.transport.abortConnection()


def echo(protocol: Any, data: bytes) -> None:
    protocol.transport.write(data)


class Producer:
    """Writes down what it is asked for."""

    def __init__(self, **acts: Callable[..., Any]) -> None:
        self.journal: list[str] = []
        self.acts = acts

    def _told(self, what: str) -> None:
        self.journal.append(what)
        act = self.acts.get(what)
        if act is not None:
            act()

    def pauseProducing(self) -> None:
        self._told("pauseProducing")

    def resumeProducing(self) -> None:
        self._told("resumeProducing")

    def stopProducing(self) -> None:
        self._told("stopProducing")


# ---- turning ------------------------------------------------------------------------------------------------------


def turn_until(reactor: Any, condition: Callable[[], object]) -> None:
    """Turn the loop until the condition holds."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "what was waited for did not happen"
        reactor.iterate(0.01)


def turn(reactor: Any, times: int = 6) -> None:
    """Some turns that wait for nothing: time enough for anything that should not happen."""
    for _ in range(times):
        reactor.iterate(0)


def run(reactor: Any) -> None:
    """Run until something stops it; a test that hangs says so."""
    hung = []

    def hang_up() -> None:
        hung.append("hung")
        reactor.crash()

    guard = reactor.callLater(PATIENCE, hang_up)
    try:
        reactor.run(installSignalHandlers=False)
    finally:
        if guard.active():
            guard.cancel()
    assert not hung, "nothing stopped the reactor"


def run_to_the_end(reactor: Any) -> None:
    """Run; nothing may leave run() but its own return."""
    try:
        run(reactor)
    except (SystemExit, KeyboardInterrupt) as exc:
        # Why turned: pytest itself would end with a KeyboardInterrupt.
        raise AssertionError(f"{exc!r} left run() again, or too late") from exc


def run_until(reactor: Any, condition: Callable[[], object]) -> None:
    """Run; stop when the condition holds. Connections that still live are told of the shutdown."""

    def look() -> None:
        if condition():
            reactor.stop()
        else:
            reactor.callLater(0.001, look)

    reactor.callWhenRunning(look)
    run(reactor)


# ---- peers --------------------------------------------------------------------------------------------------------


class Peers:
    """Plain sockets on loopback; all of them are closed at the end."""

    def __init__(self) -> None:
        self._open: list[socket.socket] = []

    def keep(self, sock: socket.socket) -> socket.socket:
        sock.setblocking(False)
        self._open.append(sock)
        return sock

    def listen(self, host: str = HERE, port: int = 0, backlog: int = 16) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return self.keep(socket.create_server((host, port), family=family, backlog=backlog))

    def accept(self, reactor: Any, listener: socket.socket) -> socket.socket:
        """The next connection, the reactor being turned until it is there."""
        turn_until(reactor, lambda: readable(listener))
        return self.keep(listener.accept()[0])

    def connect(self, port: int, host: str = HERE) -> socket.socket:
        return self.keep(socket.create_connection((host, port)))

    def refusing_port(self, host: str = HERE) -> int:
        """One where nobody listens; bound, so that nobody else takes it, but not listening."""
        sock = self.keep(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
        sock.bind((host, 0))
        return port_of(sock)

    def black_hole(self, host: str = HERE, port: int = 0) -> int:
        """A port where connecting neither works nor fails: the queue of who waits to be accepted is full."""
        listener = self.listen(host, port, backlog=0)
        for _ in range(4):
            self.keep(socket.socket()).connect_ex((host, port_of(listener)))
        return port_of(listener)

    def close(self) -> None:
        for each in self._open:
            each.close()


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def readable(sock: socket.socket) -> bool:
    """Whether there is something to read, to accept, an end or an error."""
    return bool(select.select([sock], [], [], 0)[0])


def read(reactor: Any, sock: socket.socket, size: int) -> bytes:
    """So many bytes from a peer's socket, the reactor being turned meanwhile; fewer if they end before."""
    found = bytearray()

    def enough() -> bool:
        while len(found) < size:
            try:
                data = sock.recv(min(size - len(found), 1 << 20))
            except BlockingIOError:
                return False
            if not data:
                return True
            found.extend(data)
        return True

    turn_until(reactor, enough)
    return bytes(found)


def read_all(reactor: Any, sock: socket.socket) -> bytes:
    """Everything until the end. Raises: ConnectionResetError for a reset."""
    return read(reactor, sock, 1 << 40)


def is_reset(reactor: Any, sock: socket.socket) -> bool:
    """How the connection ends for the peer: by a reset, or by a clean end of data."""
    try:
        read_all(reactor, sock)
    except ConnectionResetError:
        return True
    return False


def send_all(reactor: Any, sock: socket.socket, data: bytes) -> None:
    left = memoryview(data)

    def done() -> bool:
        nonlocal left
        while left:
            try:
                left = left[sock.send(left) :]
            except BlockingIOError:
                return False
        return True

    turn_until(reactor, done)


def reset(sock: socket.socket) -> None:
    """Close with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def connected(reactor: Any, peers: Peers, factory: Client, **how: Any) -> tuple[Any, socket.socket]:
    """A connection that stands: the connector, and the peer's end."""
    listener = peers.listen()
    connector = reactor.connectTCP(HERE, port_of(listener), factory, **how)
    peer = peers.accept(reactor, listener)
    turn_until(reactor, lambda: "connectionMade" in factory.journal)
    return connector, peer


# ---- a world in which one thing fails -----------------------------------------------------------------------------


class FaultySocket(socket.socket):
    """A real socket; each call asks the world first whether it is to fail."""

    world: World

    def _asked(self, what: str, *args: Any) -> Any:
        return self.world.fault(what, self, *args)

    def bind(self, address: Any) -> None:
        self._asked("bind", address)
        super().bind(address)

    def listen(self, backlog: int = 128) -> None:
        self._asked("listen", backlog)
        super().listen(backlog)

    def connect_ex(self, address: Any) -> int:
        number = self._asked("connect_ex", address)
        return super().connect_ex(address) if number is None else int(number)

    def getsockopt(self, level: int, option: int, *size: Any) -> Any:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            number = self._asked("SO_ERROR")
            if number is not None:
                return number
        return super().getsockopt(level, option, *size)

    def recv(self, size: int, *flags: Any) -> bytes:
        self._asked("recv", size)
        return super().recv(size, *flags)

    def send(self, data: Any, *flags: Any) -> int:
        taken = self._asked("send", data)
        return super().send(data if taken is None else memoryview(data)[:taken], *flags)

    def sendmsg(self, buffers: Iterable[Any], *rest: Any) -> int:
        self._asked("sendmsg", buffers)
        return super().sendmsg(buffers, *rest)


class Ear:
    """A poller that hears nothing while its world is deaf, and else keeps count."""

    def __init__(self, poller: Any, world: World) -> None:
        self._poller = poller
        self._world = world
        self.name = poller.name
        self.notices_reset_at_mask_zero = poller.notices_reset_at_mask_zero
        self.register, self.unregister, self.close = poller.register, poller.unregister, poller.close

    def modify(self, fd: int, mask: int) -> None:
        self._world.changes.append((fd, mask))
        self._poller.modify(fd, mask)

    def poll(self, timeout: float | None, limit: int) -> list[tuple[int, int]]:
        if self._world.is_deaf:
            return []
        found: list[tuple[int, int]] = self._poller.poll(timeout, limit)
        self._world.news += found
        return found


class World(RealSystem):
    """This machine, but for what the test wants otherwise.

    faults: by the name of a call, an exception to raise, a number to return, or a callable that is given the call's
            arguments and returns either or None. "socket" and "accept" are the system's, the others a socket's.
    names:  by host, a list of addresses, an exception, or None for a look-up that never ends.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ahead = 0.0
        # Why here: the real system holds C functions in these places, as attributes of the object.
        self.monotonic = lambda: time.monotonic() + self._ahead
        self.socket = self._faulty_socket  # type: ignore[assignment]
        self.faults: dict[str, Any] = {}
        self.names: dict[str, Any] = {}
        self.looked_up: list[str] = []
        # While True the kernel's news of descriptors is held back.
        self.is_deaf = False
        # Every row of news that the loop was given, and every change of what a descriptor is watched for.
        self.news: list[tuple[int, int]] = []
        self.changes: list[tuple[int, int]] = []
        # Look-ups that never end, to be answered by the test after all.
        self.unanswered: list[Callable[[Any], None]] = []

    def advance(self, seconds: float) -> None:
        """Put the clock forward: timers become due without a wait."""
        self._ahead += seconds

    def fault(self, what: str, *args: Any) -> Any:
        found = self.faults.get(what)
        if callable(found):
            found = found(*args)
        if isinstance(found, BaseException):
            raise found
        return found

    def _faulty_socket(self, family: int, *kind: int) -> Any:
        self.fault("socket", family)
        sock = FaultySocket(family, *kind)
        sock.world = self
        return sock

    def poller(self, kind: str | None) -> Any:
        return Ear(super().poller(kind), self)

    def accept(self, listener: Any) -> Any:
        self.fault("accept", listener)
        plain, addr = listener.accept()
        sock = FaultySocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
        sock.world = self
        sock.setblocking(False)
        return sock, addr

    def look_up(self, host: str, port: Any, family: int, kind: int, done: Any) -> None:
        self.looked_up.append(host)
        if host not in self.names:
            super().look_up(host, port, family, kind, done)
            return
        answer = self.names[host]
        if answer is None:
            self.unanswered.append(done)
        elif isinstance(answer, BaseException):
            done(answer)
        else:
            done([rows(address, int(port)) for address in answer])

    def service_port(self, name: str, protocol: str) -> int:
        found = self.fault("service_port", name)
        return super().service_port(name, protocol) if found is None else int(found)


def rows(host: str, port: int) -> tuple[Any, ...]:
    """A row of getaddrinfo."""
    if ":" in host:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)


def error(name: str) -> OSError:
    """An OSError as the kernel raises it."""
    number = getattr(errno, name)
    return OSError(number, f"{name} injected")


# ---- what was logged ----------------------------------------------------------------------------------------------


def logged(caplog: Any) -> list[str]:
    """The types of the exceptions logged, each time; and messages of errors without one. Forgets them."""
    found = []
    for record in caplog.records:
        if record.levelno < logging.WARNING:
            continue
        found.append(record.exc_info[0].__name__ if record.exc_info else record.getMessage())
    caplog.clear()
    return found
