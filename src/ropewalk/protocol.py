"""What users subclass: Protocol, and the factories that make protocols.

A protocol lives as long as one connection and holds what belongs to it; a factory lives as long as anybody uses it,
makes one protocol for each connection and holds what they share. ReconnectingClientFactory also decides when to ask
its connector for another connection.

This room must never know sockets, states or the loop. It is called by `_net` and calls back only what the user could
call too: the connector, `callLater`, `addSystemEventTrigger`.

Defaults are class attributes and no class here has a constructor. Why: subclasses have always written `__init__`
without calling ours, and thousands of idle protocols should hold nothing that was not given to them.
Rejected: `__slots__` on Protocol. A class attribute cannot be the default of a slot, and a subclass without
`__slots__` would pay for both. An idle protocol takes some 110 bytes as it is (tests/rooms/test_protocol.py).
Rejected: running startFactory and stopFactory around every attempt of a reconnecting client, as Twisted does; while it
waits, it is in use.
Source: twisted.internet.protocol for names, order and defaults; the reconnecting delays are compared with it by test.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec
from weakref import WeakKeyDictionary

from ropewalk.error import ConnectionDone
from ropewalk.failure import Failure

if TYPE_CHECKING:
    # Why not at run time: a type variable's default (PEP 696) is in `typing` only from Python 3.13 on.
    from typing_extensions import TypeVar

    from ropewalk.interfaces import IAddress, IConnector, IReactorTime, ITransport

    P = TypeVar("P", bound="Protocol", default="Protocol")
else:
    from typing import TypeVar

    P = TypeVar("P")

__all__ = [
    "ClientFactory",
    "Factory",
    "Protocol",
    "ReconnectingClientFactory",
    "ServerFactory",
    "connectionDone",
]

A = ParamSpec("A")

log = logging.getLogger("ropewalk")

# What connectionLost is given where somebody, a test maybe, calls it without a reason. The engine makes one for each end.
connectionDone = Failure(ConnectionDone())


class Protocol:
    """One connection's side of the talk: subclass it, and override what you want to hear of.

    The engine calls makeConnection once, then dataReceived any number of times, then connectionLost once; nothing
    before, between or after. A protocol that also has the methods `readConnectionLost()` and `writeConnectionLost()`
    keeps one direction open when the other has ended (interfaces.IHalfCloseableProtocol); one that has the method
    `connectionDraining()` is told when its server is drained (interfaces.IDrainableProtocol).

    Source: interfaces.IProtocol.
    """

    # Why typed as always there: user code first runs in connectionMade, where it is.
    transport: ITransport = None  # type: ignore[assignment]
    factory: Factory[Any] | None = None
    # True from makeConnection on, and still after the loss, as in Twisted; `transport.connected` tells of now.
    connected: bool = False

    def makeConnection(self, transport: ITransport) -> None:
        """Attach this protocol to its transport and tell it so.

        Args:     transport: connected, already reading.
        Order:    connectionMade is called before this returns.
        """
        self.connected = True
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """The connection is there: a client's was accepted, a server has accepted one. Greet here.

        Order:    before any dataReceived. What it raises aborts the connection, and is connectionLost's reason.
        """

    def dataReceived(self, data: bytes) -> None:
        """Bytes have come in, cut anywhere: keep what is not yet a whole message.

        Args:     data: never empty.
        Order:    what it writes leaves right after it has returned. What it raises ends the connection, and is
                  connectionLost's reason.
        """

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone, and so is what was not sent. The last call; drop references here.

        Args:     reason: its value is a ConnectionDone for a clean end, otherwise ConnectionLost or what was raised;
                  `reason.value.ended` tells who ended it, after how long and how many bytes.
        Order:    a client's factory hears clientConnectionLost after this.
        """

    # Why not in the signature: a type checker would then refuse every override that asks for a reason.
    connectionLost.__defaults__ = (connectionDone,)

    def logPrefix(self) -> str:
        """How log messages name this protocol: by its class."""
        return type(self).__name__


class Factory(Generic[P]):
    """Makes a protocol for each connection, and outlives them.

    Set `protocol` to what makes one (a class, usually), or override buildProtocol. The type parameter is the
    protocol's: `Factory[Echo]`.

    Source: interfaces.IProtocolFactory.
    """

    protocol: Callable[..., P] | None = None
    # How many connectors and ports use this factory now.
    numPorts: int = 0
    # Whether starting, stopping and retrying are logged (level INFO, logger "ropewalk").
    noisy: bool = True

    @classmethod
    def forProtocol(
        cls: Callable[A, Factory[P]], protocol: Callable[[], P], *args: A.args, **kwargs: A.kwargs
    ) -> Factory[P]:
        """A factory of this class that makes `protocol`.

        Args:     protocol: a Protocol subclass, or any callable that returns a protocol.
                  args, kwargs: for the factory's constructor.
        """
        factory = cls(*args, **kwargs)
        factory.protocol = protocol
        return factory

    def doStart(self) -> None:
        """One more connector or port uses this factory; the engine calls this.

        Raises:   what startFactory raises; the factory then counts no new user.
        Order:    startFactory is called before this returns, for the first user only.
        """
        # Why counted first: a startFactory that listens or connects with this same factory is a second user.
        self.numPorts += 1
        if self.numPorts > 1:
            return
        if self.noisy:
            log.info("Starting factory %r", self)
        try:
            self.startFactory()
        except BaseException:
            # Why not below 0: startFactory may have given up its only user, which has called doStop, and raised then.
            self.numPorts = max(self.numPorts - 1, 0)
            raise

    def doStop(self) -> None:
        """One connector or port less uses this factory; the engine calls this. Nothing happens if none did.

        Raises:   what stopFactory raises; the factory counts as stopped all the same.
        Order:    stopFactory is called before this returns, after the last user only.
        """
        if self.numPorts == 0:
            return
        self.numPorts -= 1
        if self.numPorts:
            return
        if self.noisy:
            log.info("Stopping factory %r", self)
        self.stopFactory()

    def startFactory(self) -> None:
        """The first connector or port is about to use this factory: open what all its protocols share."""

    def stopFactory(self) -> None:
        """The last connector or port has let go of this factory: close what startFactory opened."""

    def buildProtocol(self, addr: IAddress | None) -> P | None:
        """Make the protocol for a connection that has just been made.

        Args:     addr: the peer's address, resolved.
        Returns:  the protocol, its `factory` set, not yet connected; None to close the connection at once.
        Raises:   RuntimeError when this factory was never told which protocol to make.
        """
        if self.protocol is None:
            raise RuntimeError(
                f"{self!r} does not know what to build: set `protocol`, use forProtocol, or override buildProtocol"
            )
        made = self.protocol()
        made.factory = self
        return made

    def logPrefix(self) -> str:
        """How log messages name this factory: by its class."""
        return type(self).__name__


class ServerFactory(Factory[P]):
    """A factory meant for listenTCP; the name says so to readers, nothing more."""

    if TYPE_CHECKING:
        # Why again, here and below: Python's types cannot say "this same class, of another protocol".
        @classmethod
        def forProtocol(
            cls: Callable[A, ServerFactory[P]], protocol: Callable[[], P], *args: A.args, **kwargs: A.kwargs
        ) -> ServerFactory[P]: ...


class ClientFactory(Factory[P]):
    """A factory for connectTCP: it also hears how its connectors fare.

    Each attempt ends in exactly one of clientConnectionFailed and clientConnectionLost. In both,
    `connector.connect()` starts another, and the factory stays started.

    Source: interfaces.IClientFactory.
    """

    if TYPE_CHECKING:

        @classmethod
        def forProtocol(
            cls: Callable[A, ClientFactory[P]], protocol: Callable[[], P], *args: A.args, **kwargs: A.kwargs
        ) -> ClientFactory[P]: ...

    def startedConnecting(self, connector: IConnector) -> None:
        """An attempt begins; `connector.stopConnecting()` would end it.

        Order:    on the stack of connectTCP or `connector.connect()`. What it raises ends the attempt and is raised
                  there.
        """

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """The attempt came to nothing; no protocol was made.

        Args:     reason: its value is a ConnectError; its text tells every address tried.
        """

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """The connection that was made is gone.

        Args:     reason: the same that the protocol's connectionLost was given just before.
        """


class InitialDelay:
    """What `delay` is until somebody sets it, in a subclass or on a factory; without `__set__`, that replaces it."""

    def __get__(self, factory: Any, owner: Any) -> float:
        seconds: float = (owner if factory is None else factory).initialDelay
        return seconds


class ReconnectingClientFactory(ClientFactory[P]):
    """A client factory that connects again, and waits longer each time it was in vain.

    The n-th wait is about `initialDelay * factor ** n`, made uneven by `jitter`, and never above `maxDelay`. A
    connection that lived for `livedSeconds` makes the next wait a first one again; resetDelay says so earlier.
    Between the attempts the factory stays started: startFactory comes once before the first, stopFactory once after
    the last. It retries until stopTrying, `maxRetries`, or the reactor's shutdown.

    Several connectors may share one. Each waits for itself, but `delay` and `retries` are the factory's, and are one for
    all: any failure makes the next wait of any longer and counts towards `maxRetries`, and a connection of any that lived
    resets both. stopTrying stops all.

    Source: twisted.internet.protocol.ReconnectingClientFactory; the delays are its delays for the same random
            numbers. Different on purpose: never above maxDelay, start and stop once, resetDelay by itself,
            initialDelay holds for the first wait too, stopTrying stops all connectors that share the factory.
    """

    # Seconds. Source: Twisted's values, all of them up to `maxRetries`; users know them.
    initialDelay: float = 1.0
    # The next wait, before jitter.
    delay: float = InitialDelay()  # type: ignore[assignment]
    maxDelay: float = 3600.0
    # By which a wait grows over the one before (e), and the standard deviation of a wait as a share of it.
    factor: float = 2.718281828459045
    jitter: float | None = 0.119626565582
    # Attempts in a row that came to nothing, and after how many to give up; None is never.
    retries: int = 0
    maxRetries: int | None = None
    # Seconds. Value: a server that accepts and drops at once must not count as reached, and one connection in ten
    # seconds harms nobody. math.inf leaves resetting to resetDelay. Others: systemd counts restarts within 10 s.
    livedSeconds: float = 10.0
    continueTrying: bool = True
    # The one tried last.
    connector: IConnector | None = None
    # Where callLater is; None is the connector's reactor.
    clock: IReactorTime | None = None
    # Anything with normalvariate(mean, deviation): a random.Random(seed) makes the waits repeatable. None is the reactor's,
    # which is Python's shared one, or in a simulation what its seed says.
    random: Any = None
    # All it tries to connect, in the order of their first attempts, each with its wait while it waits. Why weak: a connector
    # that is at rest for good may go, whatever of the callbacks a subclass has replaced.
    _tries: WeakKeyDictionary[IConnector, Wait | None] | None = None

    if TYPE_CHECKING:

        @classmethod
        def forProtocol(
            cls: Callable[A, ReconnectingClientFactory[P]],
            protocol: Callable[[], P],
            *args: A.args,
            **kwargs: A.kwargs,
        ) -> ReconnectingClientFactory[P]: ...

    def startedConnecting(self, connector: IConnector) -> None:
        self.connector = connector
        self._known().setdefault(connector, None)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        if self.continueTrying:
            self.connector = connector
            self.retry()

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        if self.continueTrying:
            self.connector = connector
            # Why not the reason's: it may be a user's exception, or the reason of another connection. Asked: see _source.
            ended = getattr(connector, "ended", None)
            if ended is not None and ended.seconds >= self.livedSeconds:
                self.delay = self.initialDelay
                self.retries = 0
            self.retry()

    def retry(self, connector: IConnector | None = None) -> None:
        """Connect again after a wait, unless trying is over. A wait of the same connector starts anew.

        Args:     connector: None is the one tried last.
        Raises:   ValueError if there is none.
        """
        connector = self.connector if connector is None else connector
        if not self.continueTrying:
            self._tell("%r is given up: stopTrying was called", connector)
            return
        if connector is None:
            raise ValueError("no connector to retry: none of this factory's has failed or been lost yet")
        self.retries += 1
        if self.maxRetries is not None and self.retries > self.maxRetries:
            self._tell("%r is given up after %d retries", connector, self.maxRetries)
            return
        seconds = self._next_delay(connector)
        self._tell("%r will retry in %.1f seconds", connector, seconds)
        wait = Wait(self, connector)
        # Why kept only then: startFactory, where nobody else uses the factory, may raise, or call stopTrying.
        wait.start(seconds)
        earlier = self._known().get(connector)
        self._known()[connector] = wait
        if earlier is not None:
            earlier.cancel()
        if not self.continueTrying:
            wait.cancel()

    def stopTrying(self) -> None:
        """Retry no more: end all waits, and all attempts that are under way. Connections stay.

        Order:    clientConnectionFailed is called before this returns for each attempt that was under way; stopFactory
                  too, unless a connection still uses the factory.
        """
        self.continueTrying = False
        if self.connector is not None:
            # Why: a subclass may have set it in a startedConnecting of its own.
            self._known().setdefault(self.connector, None)
        for connector in list(self._known()):
            # Why asked now, and the state: a callback of the one before may have called this too.
            wait = self._known().get(connector)
            if wait is not None:
                wait.cancel()
            if getattr(connector, "state", "connecting") == "connecting":
                connector.stopConnecting()

    def resetDelay(self) -> None:
        """The connection is good: the next wait is a first one again, and retrying is allowed."""
        self.delay = self.initialDelay
        self.retries = 0
        self.continueTrying = True

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle of this factory holds: its settings, so that it is as this one was before it tried.

        Source: Twisted's; that it leaves out `numPorts` too is ours, as a factory that waits is in use here.
        """
        changing = {"clock", "connector", "continueTrying", "delay", "numPorts", "retries", "_tries"}
        return {name: value for name, value in vars(self).items() if name not in changing}

    def _known(self) -> WeakKeyDictionary[IConnector, Wait | None]:
        if self._tries is None:
            self._tries = WeakKeyDictionary()
        return self._tries

    def _next_delay(self, connector: IConnector) -> float:
        """The wait to make now; the one after it grows from this one, jitter included."""
        seconds = min(self.delay, self.maxDelay)
        if self.jitter:
            # Why abs: a jitter near 1 draws negative numbers now and then, and no wait at all would stay none.
            seconds = abs(self._source(connector).normalvariate(seconds, seconds * self.jitter))
        # Why mirrored and not cut: at the cap half of all clients would else come back at the very same moment.
        if seconds > self.maxDelay:
            seconds = min(abs(2 * self.maxDelay - seconds), self.maxDelay)
        self.delay = min(seconds * self.factor, self.maxDelay)
        return seconds

    def _source(self, connector: IConnector) -> Any:
        if self.random is not None:
            return self.random
        # Why asked: the connector may be another engine's, or a double of a test.
        source = getattr(getattr(connector, "reactor", None), "random", None)
        if source is None:
            import random as source  # Why here: five modules that only who retries needs.
        return source

    def _tell(self, message: str, *args: object) -> None:
        if self.noisy:
            log.info(message, *args)


class Wait:
    """The time between two attempts of one connector, which in a test may have no more than `connect`.

    While it lasts, it counts as a user of the factory.
    """

    __slots__ = ("_call", "_connector", "_factory", "_trigger")

    def __init__(self, factory: ReconnectingClientFactory[Any], connector: IConnector) -> None:
        self._factory = factory
        self._connector = connector
        self._call: Any = None
        self._trigger: Any = None

    def start(self, seconds: float) -> None:
        clock = self._connector.reactor if self._factory.clock is None else self._factory.clock
        self._factory.doStart()
        self._call = clock.callLater(seconds, self._elapsed)
        reactor = getattr(self._connector, "reactor", None)
        if reactor is not None:
            # Why "after": connections lost by the shutdown itself ask for a retry while "during" runs.
            self._trigger = reactor.addSystemEventTrigger("after", "shutdown", self._shut_down)

    def cancel(self) -> None:
        self._call.cancel()
        self._forget()
        self._factory.doStop()

    def _elapsed(self) -> None:
        self._forget()
        try:
            # Why the test: the user may have called connect() in the meantime.
            if getattr(self._connector, "state", "disconnected") == "disconnected":
                self._connector.connect()
        finally:
            # Why only now: the connector counts as a user by itself, and between the two there must be no gap.
            self._factory.doStop()

    def _shut_down(self) -> None:
        # Safe because: a trigger that runs has been removed already.
        self._trigger = None
        self.cancel()

    def _forget(self) -> None:
        if self._trigger is not None:
            self._connector.reactor.removeSystemEventTrigger(self._trigger)
            self._trigger = None
        # Why asked: a wait that replaces this one stands there already.
        tries = self._factory._known()
        if tries.get(self._connector) is self:
            tries[self._connector] = None
