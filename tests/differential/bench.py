"""The bench on which one scenario is played by either engine.

A scenario speaks only the words that both engines have: connectTCP, listenTCP, factories, protocols, transports. Each
gets a reactor of its own; each engine gets a process of its own (`python -m tests.differential`), so that neither meets
the other's logging, signals or threads.

How bytes are cut into dataReceived is nobody's promise, so only the first is noted, and how many came at the loss.
Ends are noted each by itself: which of two ends hears first is the kernel's business.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import select
import socket
import struct
from collections.abc import Callable
from importlib import import_module
from typing import Any

HERE = "127.0.0.1"
# Seconds after which a scenario that waits for something is over. Why so short: some wait for what never comes.
PATIENCE = 0.4
# A scenario that has not even been stopped after so many seconds hangs.
HUNG = 10.0


class Planned(Exception):
    """Raised by scenarios."""


class Engine:
    """The words of one engine."""

    def __init__(self, name: str) -> None:
        self.name = name
        package = "twisted.internet" if name == "twisted" else "ropewalk"
        self.address, self.defer, self.error, self.protocol, self.threads = (
            import_module(f"{package}.{each}")
            for each in ("address", "defer", "error", "protocol", "threads")
        )
        self.new_reactor: Callable[[], Any]
        self.implements: Callable[[str], Callable[[type], Any]]
        if name == "twisted":
            self.new_reactor = import_module("twisted.internet.epollreactor").EPollReactor
            self._interfaces = import_module("twisted.internet.interfaces")
            self._zope = import_module("zope.interface")
            self._publisher = import_module("twisted.logger").globalLogPublisher
            self.implements = lambda name: self._zope.implementer(getattr(self._interfaces, name))
        else:
            self.new_reactor = lambda: import_module("ropewalk").Reactor("epoll")
            self.implements = lambda name: lambda cls: cls

    @contextlib.contextmanager
    def logging_to(self, note: Callable[[str], None]) -> Any:
        """Exceptions that the engine logs are noted by the names of their types."""
        if self.name == "twisted":

            def observe(event: dict[str, Any]) -> None:
                # Why two names: what goes through twisted.python.log carries the older one.
                failure = event.get("log_failure") or event.get("failure")
                if failure is not None:
                    note(failure.type.__name__)

            self._publisher.addObserver(observe)
            try:
                yield
            finally:
                self._publisher.removeObserver(observe)
        else:
            handler = LogHandler(note)
            logger = logging.getLogger("ropewalk")
            logger.addHandler(handler)
            logger.propagate = False
            try:
                yield
            finally:
                logger.removeHandler(handler)


class LogHandler(logging.Handler):
    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0]:
            self._note(record.exc_info[0].__name__)


class Bench:
    """What a scenario is given: a reactor, actors, plain sockets, and the log."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.address, self.defer, self.error = engine.address, engine.defer, engine.error
        self.protocol, self.threads = engine.protocol, engine.threads
        self.reactor = engine.new_reactor()
        self.log: dict[str, list[str]] = {}
        self._sockets: list[socket.socket] = []

    def note(self, who: str | None, *what: object) -> None:
        """Who None: an end whose side of the story is not told."""
        if who is not None:
            self.log.setdefault(who, []).append(" ".join(map(str, what)))

    def tried(self, who: str, func: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        """Call, and note what it raised, if it did."""
        try:
            return func(*args, **kw)
        except Exception as exc:
            self.note(who, "raised", type(exc).__name__)

    # ---- actors

    def client(
        self, who: str | None = "client", half_close: bool = False, declares: bool = True, **acts: Any
    ) -> Any:
        return make_factory(self, self.protocol.ClientFactory, who, (half_close, declares), acts)

    def server(
        self, who: str | None = "server", half_close: bool = False, declares: bool = True, **acts: Any
    ) -> Any:
        return make_factory(self, self.protocol.ServerFactory, who, (half_close, declares), acts)

    def listen(self, factory: Any) -> int:
        """A port of the engine's; its number."""
        factory.port = self.reactor.listenTCP(0, factory, interface=HERE)
        return int(factory.port.getHost().port)

    def connect(self, factory: Any, port: int, host: str = HERE, **how: Any) -> Any:
        factory.connector = self.reactor.connectTCP(host, port, factory, **how)
        return factory.connector

    def pair(self, client: Any, server: Any) -> None:
        """A client of the engine's and a server of the engine's, connecting."""
        self.connect(client, self.listen(server))

    def soon(self, func: Callable[..., Any], *args: Any) -> None:
        """After everything that is under way at the moment."""
        self.reactor.callLater(0.02, func, *args)

    def once(self, condition: Callable[[], object], func: Callable[..., Any], *args: Any) -> None:
        """As soon as the condition holds, and everything under way with it is over."""
        if condition():
            self.soon(func, *args)
        else:
            self.reactor.callLater(0.001, self.once, condition, func, *args)

    # ---- plain sockets

    def keep(self, sock: socket.socket) -> socket.socket:
        self._sockets.append(sock)
        return sock

    def plain_listener(self, backlog: int = 16) -> socket.socket:
        return self.keep(socket.create_server((HERE, 0), backlog=backlog))

    def refusing_port(self) -> int:
        sock = self.keep(socket.socket())
        sock.bind((HERE, 0))
        return int(sock.getsockname()[1])

    def black_hole(self) -> int:
        """A port where connecting neither works nor fails."""
        listener = self.plain_listener(backlog=0)
        for _ in range(4):
            sock = self.keep(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        return int(listener.getsockname()[1])

    def facing(self, client: Any, listener: socket.socket, then: Callable[[socket.socket], Any]) -> None:
        """Connect a client to a plain listener; `then` is given the peer's socket once connectionMade was told."""
        self.connect(client, listener.getsockname()[1])

        def look() -> None:
            if client.built and client.built[0].transport is not None and ready(listener):
                then(self.keep(listener.accept()[0]))
            else:
                self.reactor.callLater(0.001, look)

        self.reactor.callWhenRunning(look)

    def plain_client(self, port: int) -> socket.socket:
        return self.keep(socket.create_connection((HERE, port)))

    # ---- playing

    def play(self, scenario: Callable[[Bench], Any]) -> dict[str, list[str]]:
        with self.engine.logging_to(lambda what: self.note("logged", what)):
            over = scenario(self) or (lambda: False)
            patience = PATIENCE
            waited = [0.0]

            def look() -> None:
                waited[0] += 0.004
                if over() or waited[0] > patience:
                    self.reactor.callLater(0.01, end)
                else:
                    self.reactor.callLater(0.004, look)

            def end() -> None:
                if self.reactor.running:
                    self.reactor.stop()

            def hung() -> None:
                self.note("reactor", "hung")
                self.reactor.crash()

            if not getattr(self, "has_run", False):
                self.reactor.callLater(0, look)
                guard = self.reactor.callLater(HUNG, hung)
                self.run()
                if guard.active():
                    guard.cancel()
            gc.collect()  # Why: errors that nobody took are reported when their Deferreds go.
        log, self.log = self.log, {}
        if self.engine.name == "ropewalk":
            self.reactor.close()
        for sock in self._sockets:
            sock.close()
        return log

    def run(self) -> None:
        self.has_run = True
        try:
            self.reactor.run(installSignalHandlers=False)
        except BaseException as exc:
            self.note("reactor", type(exc).__name__, "left run()")


def make_protocol(bench: Bench, who: str | None, half_close: tuple[bool, bool], acts: dict[str, Any]) -> Any:
    def told(what: str, *args: Any) -> Any:
        act = acts.get(what)
        return None if act is None else act(*args)

    class Actor(bench.protocol.Protocol):  # type: ignore[name-defined]
        received = 0
        transport: Any = None

        def makeConnection(self, transport):
            bench.note(who, "makeConnection")
            super().makeConnection(transport)

        def connectionMade(self):
            bench.note(who, "connectionMade")
            told("connectionMade", self)

        def dataReceived(self, data):
            if not self.received:
                bench.note(who, "dataReceived")
            self.received += len(data)
            told("dataReceived", self, data)

        def connectionLost(self, reason):
            bench.note(who, "connectionLost", reason.type.__name__, "after", self.received, "bytes")
            told("connectionLost", self, reason)

    does, declares = half_close
    if not does:
        return Actor()

    class HalfCloser(Actor):
        def readConnectionLost(self):
            bench.note(who, "readConnectionLost")
            told("readConnectionLost", self)

        def writeConnectionLost(self):
            bench.note(who, "writeConnectionLost")
            told("writeConnectionLost", self)

    return bench.engine.implements("IHalfCloseableProtocol")(HalfCloser)() if declares else HalfCloser()


def make_factory(
    bench: Bench, kind: Any, who: str | None, half_close: tuple[bool, bool], acts: dict[str, Any]
) -> Any:
    def told(what: str, *args: Any) -> Any:
        act = acts.get(what)
        return None if act is None else act(*args)

    class Factory(kind):
        noisy = False
        built: list[Any]
        port: Any = None
        connector: Any = None

        def has(self, what, times=1):
            """A condition: this end was told so."""
            return lambda: sum(each.startswith(what) for each in bench.log.get(who, ())) >= times

        def make(self):
            made = make_protocol(bench, who, half_close, acts)
            made.factory = self
            self.built.append(made)
            return made

        def doStart(self):
            bench.note(who, "doStart")
            super().doStart()

        def doStop(self):
            bench.note(who, "doStop")
            super().doStop()

        def startFactory(self):
            bench.note(who, "startFactory")
            told("startFactory", self)

        def stopFactory(self):
            bench.note(who, "stopFactory")
            told("stopFactory", self)

        def startedConnecting(self, connector):
            self.connector = connector
            bench.note(who, "startedConnecting")
            told("startedConnecting", connector)

        def buildProtocol(self, addr):
            bench.note(who, "buildProtocol")
            return acts["buildProtocol"](addr) if "buildProtocol" in acts else self.make()

        def clientConnectionFailed(self, connector, reason):
            bench.note(who, "clientConnectionFailed", reason.type.__name__)
            told("clientConnectionFailed", connector, reason)

        def clientConnectionLost(self, connector, reason):
            bench.note(who, "clientConnectionLost", reason.type.__name__)
            told("clientConnectionLost", connector, reason)

    factory = Factory()
    factory.built = []
    return factory


def ready(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def raises(kind: type[BaseException] = Planned) -> Callable[..., Any]:
    def act(*args: Any) -> Any:
        raise kind("planned")

    return act
