"""The Reactor: the front desk of the engine.

Every `connect*`, `listen*` and `call*` makes one object and starts it, or passes the wish to the room that knows. There is
no logic here beyond that, so that whoever reads on knows where to go:

  connecting   _net/connector.py → dial.py → stream.py        time      _loop/timers.py
  listening    _net/listen.py → stream.py                     threads   _loop/threads.py, callFromThread in loop.py
  names        _net/resolve.py, resolvers.py                  descriptors   _loop/descriptor.py
  running      _loop/life.py → loop.py, triggers.py, signals.py

There may be as many reactors as you like, one per thread, and each can run again after it was stopped.
Source: the names and meanings are Twisted's IReactorCore, IReactorTime, IReactorThreads, IReactorTCP, IReactorFDSet.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from threading import RLock, get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ropewalk._loop.descriptor import Descriptors
from ropewalk._loop.life import Life, LifeState, innermost
from ropewalk._loop.loop import CLOSED_FOR_GOOD, Loop
from ropewalk._loop.poller import IN, OUT
from ropewalk._loop.timers import DelayedCall, checked_delay
from ropewalk._loop.triggers import SystemEvents, Trigger
from ropewalk._net.connector import Connector
from ropewalk._net.core import Core
from ropewalk._net.dial import literal, local_literal
from ropewalk._net.listen import Port
from ropewalk._net.options import DEFAULT_OPTIONS, TCPOptions
from ropewalk._net.resolve import Resolver, checked_host, port_number
from ropewalk._net.resolvers import HostnameSource, NameResolver, SimpleSource
from ropewalk._system import RealSystem, System
from ropewalk.defer import Deferred
from ropewalk.event import Drained, Event
from ropewalk.words import WORDS, Words

if TYPE_CHECKING:
    from ropewalk._loop.threads import ThreadPool

_FOR_EVER = float("inf")


def runningReactor() -> Reactor | None:
    """The reactor that this thread runs just now, the innermost of them; None outside of any."""
    reactor: Reactor | None = innermost()
    return reactor


class Reactor:
    """An event loop with all that can be asked of it.

    Args:   poller: "epoll", "kqueue", "poll" or "select"; None for the best of this machine.
            system: the world to live in; None for the real one. `ropewalk.simulation` has another.
            words: the classes it speaks to users with; bridges pass others.
    Raises: ValueError naming a poller that is not there.
    """

    def __init__(self, poller: str | None = None, system: System | None = None, words: Words = WORDS) -> None:
        system = RealSystem() if system is None else system
        self._loop = Loop(system, system.poller(poller))
        self._core = Core(self._loop, system, words, self)
        self._core.resolver = Resolver(self._loop, system)
        self._events = SystemEvents(self._call_trigger)
        self._life = Life(self._loop, self._events, self._core.shut_down, self)
        self._descriptors = Descriptors(self._loop, self._descriptor_lost)
        self._pool: ThreadPool | None = None
        self._pool_size: int | None = None
        self._pool_lock = RLock()

    # ---- running ----------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether it has started and was not stopped for good."""
        return self._life.state in (LifeState.RUNNING, LifeState.STOPPING)

    def run(self, installSignalHandlers: bool = True) -> None:
        """Run until `stop`; everything else happens in here.

        Args:   installSignalHandlers: SIGINT and SIGTERM stop the reactor; only in the main thread.
        Raises: ReactorAlreadyRunning; ValueError for signal handlers in another thread; RuntimeError in a forked
                child; SystemExit and KeyboardInterrupt raised by any callback.
        Order:  "startup" triggers, then callbacks, and after `stop` the "shutdown" triggers. It may be run again.
        Source: IReactorCore.run.
        """
        self._life.run(installSignalHandlers)

    def startRunning(self) -> None:
        """Fire "startup" without turning the loop, for whoever turns it with `iterate`. Raises: ReactorAlreadyRunning."""
        self._life.start()

    def stop(self) -> None:
        """Stop in the next turn: connections are told, then `run` returns.

        Raises: ReactorNotRunning.
        Source: IReactorCore.stop.
        """
        self._loop.check_thread_of("stop")
        self._life.stop()

    def crash(self) -> None:
        """Let `run` return at once and tell nobody."""
        self._loop.check_thread_of("crash")
        self._life.crash()

    def iterate(self, delay: float = 0) -> None:
        """One turn of the loop, waiting at most `delay` seconds."""
        self._life.iterate(checked_delay(delay))

    def callWhenRunning(self, callable: Callable[..., object], *args: Any, **kw: Any) -> Trigger | None:
        """Call when the reactor has started: at once if it has.

        Returns: None if it was called; else what removeSystemEventTrigger takes.
        """
        self._loop.check_thread_of("callWhenRunning")
        if self.running:
            callable(*args, **kw)
            return None
        return self.addSystemEventTrigger("after", "startup", callable, *args, **kw)

    def addSystemEventTrigger(
        self, phase: str, eventType: str, callable: Callable[..., object], *args: Any, **kw: Any
    ) -> Trigger:
        """Call when "startup", "shutdown" or an event of your own is fired.

        Args:    phase: "before" (may return a Deferred, which is waited for), "during" or "after".
        Returns: what removeSystemEventTrigger takes.
        Raises:  KeyError for another phase; TypeError if it is not callable.
        Source:  IReactorCore.addSystemEventTrigger.
        """
        self._loop.check_thread_of("addSystemEventTrigger")
        return self._events.add(phase, eventType, callable, args, kw)

    def removeSystemEventTrigger(self, triggerID: Trigger) -> None:
        """Raises: ValueError if it has run, was removed before, or is no trigger at all."""
        if self._loop.thread > 0:  # Else nobody runs it, or nobody will: what gives back is never refused.
            self._loop.check_thread_of("removeSystemEventTrigger")
        self._events.remove(triggerID)

    def fireSystemEvent(self, eventType: str) -> None:
        """Run the triggers of an event: before, during, after."""
        self._loop.check_thread_of("fireSystemEvent")
        self._events.fire(eventType)

    def close(self) -> None:
        """Give what the reactor itself holds back to the system. Connections are told first; it cannot run again.

        In a forked child it does nothing: the copy gave everything up by itself. Raises: RuntimeError in a callback of its own.
        """
        if self._loop.is_forked() or self._loop.is_closed():
            return
        self._loop.check_thread_of("close")
        if self._loop.thread == get_ident():
            raise RuntimeError(
                "close: this reactor is being run; stop it, and close it when run() has returned"
            )
        self._life.crash()
        self._core.shut_down()
        self._life.let_go()
        if self._pool is not None:
            self._pool.stop()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def random(self) -> Any:
        """What back-offs and the like draw from: Python's module `random`; in a simulation, what its seed decides."""
        return self._core.system.random()

    # ---- connecting and listening -----------------------------------------------------------------------------

    def connectTCP(
        self,
        host: str,
        port: int | str,
        factory: Any,
        timeout: float | None = 30,
        bindAddress: tuple[str, int] | None = None,
        options: TCPOptions = DEFAULT_OPTIONS,
    ) -> Connector:
        """Connect a factory to a TCP port.

        Args:    host: a name, an IPv4 address, or an IPv6 address with an optional %scope; "" for this machine.
                 port: 0 to 65535, or a service name.
                 timeout: seconds for resolving and connecting together; None for ever.
                 bindAddress: (host, port) to connect from; a name's addresses of the other family are left out.
        Returns: the Connector, "connecting".
        Raises:  ServiceNameUnknownError; ValueError for a port out of range, TypeError for other types; whatever
                 factory.startFactory and startedConnecting raise.
        Fails:   factory.clientConnectionFailed(connector, reason), reason.value being a ConnectError.
        Order:   factory.doStart and startedConnecting before this returns, nothing else.
        Source:  IReactorTCP.connectTCP; RFC 8305 for names with several addresses.
        """
        core = self._core
        # Why tested here and not in the functions: the walk of a good call has no side ways (tests/house/test_walk.py).
        if type(host) is not str or "\0" in host:
            host = checked_host(host)
        if type(port) is not int or not 0 <= port <= 65535:
            port = port_number(port, "tcp", core.system)
        if not hasattr(factory, "startedConnecting") or isinstance(factory, type):
            checked_factory(factory, "startedConnecting")
        if not isinstance(options, TCPOptions):
            checked_options(options)
        if timeout is not None and (type(timeout) not in (int, float) or not 0 <= timeout < _FOR_EVER):
            checked_timeout(timeout)
        if bindAddress is not None:
            bindAddress = checked_bind(bindAddress)
        connector = Connector(core, (host, port), factory, timeout, bindAddress, options)
        connector.connect()
        return connector

    def listenTCP(
        self,
        port: int | str,
        factory: Any,
        backlog: int | None = None,
        interface: str = "",
        options: TCPOptions = DEFAULT_OPTIONS,
    ) -> Port:
        """Accept TCP connections for a factory.

        Args:    port: 0 to 65535, 0 for any free one, or a service name.
                 backlog: connections the kernel keeps waiting; None for the most it allows (somaxconn).
                 interface: an IPv4 or IPv6 address; "" for all IPv4 ones.
        Returns: the Port, listening.
        Raises:  CannotListenError with errno; ValueError, TypeError, ServiceNameUnknownError as connectTCP.
        Order:   factory.doStart before this returns, nothing else.
        Source:  IReactorTCP.listenTCP.
        """
        core = self._core
        number = port_number(port, "tcp", core.system)
        checked_factory(factory, "buildProtocol")
        checked_options(options)
        if backlog is not None and (not isinstance(backlog, int) or backlog < 0):
            raise ValueError(f"backlog must be a whole number, 0 or more, not {backlog!r}")
        listening = Port(core, number, factory, backlog, checked_host(interface), options)
        listening.startListening()
        return listening

    def drain(self, deadline: float | None) -> Deferred[Drained]:
        """Drain every port: accept no more, let the connections that were accepted end, and after a deadline abort the rest.

        Connections that this reactor has made are left alone: what is drained may need them to the end. It runs on.

        Args:    deadline: seconds from now, 0 or more; None waits for ever. Raises, Order: as Port.drain.
        Returns: a Deferred of `Drained(ended, aborted)` of all ports together. Cancelling it cancels what each port does.
        """
        from ropewalk._net.drain import drain_all  # Why here: only who drains needs it.

        self._loop.check_thread_of("drain")
        drained: Deferred[Drained] = drain_all(self._core, deadline)
        return drained

    # ---- names ------------------------------------------------------------------------------------------------

    @property
    def nameResolver(self) -> NameResolver:
        """Looks names up as connectTCP does: `resolveHostName(receiver, name, …)`."""
        return NameResolver(self._ask_for_name, self._core.words)

    def installNameResolver(self, resolver: Any) -> Any:
        """Let an object with `resolveHostName` look up all names from now on.

        Returns: the one that did so before.
        Source:  IReactorPluggableNameResolver.
        """
        self._loop.check_thread_of("installNameResolver")
        before = self._core.resolver
        previous = before.resolver if isinstance(before, HostnameSource) else NameResolver(before.ask, WORDS)
        self._core.resolver = HostnameSource(self._loop, resolver)
        return previous

    def installResolver(self, resolver: Any) -> None:
        """Let an object with `getHostByName` look up all names from now on. Source: IReactorPluggableResolver."""
        self._loop.check_thread_of("installResolver")
        self._core.resolver = SimpleSource(self._loop, resolver)

    def resolve(self, name: str, timeout: float | tuple[float, ...] = 60) -> Deferred[str]:
        """Look up one IPv4 address.

        Args:    timeout: seconds, from when its look-up starts; of a tuple, as Twisted's users pass it, the sum.
        Returns: a Deferred with the address as text, or DNSLookupError.
        Source:  IResolverSimple.getHostByName.
        """
        self._loop.check_thread_of("resolve")
        words = self._core.words
        if not name:
            return self._answered("0.0.0.0")
        found = literal(checked_host(name), 0)
        if found is not None:
            return self._answered(str(found[1][0]))
        seconds = checked_delay(sum(timeout) if isinstance(timeout, tuple) else timeout)
        question: list[Any] = []
        answer: Deferred[str] = words.Deferred(lambda _: question[0].cancel())

        def done(result: Any) -> None:
            rows = [] if isinstance(result, BaseException) else [row for row in result if len(row[4]) == 2]
            if rows:
                answer.callback(rows[0][4][0])
            else:
                exc = result if isinstance(result, BaseException) else None
                answer.errback(words.Failure(words.error.getLookupError(exc, name)))

        try:
            question.append(self._core.resolver.ask(name, 0, done, seconds))
        except Exception as exc:
            done(exc)  # Why: a resolver that users install may raise at once; that is a failed look-up.
        return answer

    def _answered(self, address: str) -> Deferred[str]:
        answer: Deferred[str] = self._core.words.Deferred()
        answer.callback(address)
        return answer

    def _ask_for_name(self, host: str, port: int, done: Callable[[Any], None]) -> Any:
        return self._core.resolver.ask(host, port, done)

    # ---- time -------------------------------------------------------------------------------------------------

    def seconds(self) -> float:
        """The reactor's clock: monotonic seconds, of no meaning but their differences."""
        return self._loop.now()

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> DelayedCall:
        """Call once, `delay` seconds from now, in the context (contextvars) of this call.

        Args:    delay: 0 or more; 0 is the next turn.
        Raises:  ValueError for a negative or not finite delay; TypeError if it is not callable; RuntimeError in a
                 wrong thread.
        Returns: the DelayedCall: cancel, delay, reset, getTime, active.
        Source:  IReactorTime.callLater.
        """
        # hot: benchmarks/ timers.
        loop = self._loop
        if get_ident() != loop.thread:
            loop.check_thread("callLater")
        if not builtins.callable(callable):
            raise TypeError(f"callLater needs a callable, not {callable!r}")
        return loop.timers.add(delay, callable, args, kw)

    def getDelayedCalls(self) -> list[DelayedCall]:
        """Those still to come, the engine's own included."""
        return self._loop.timers.living()

    # ---- threads ----------------------------------------------------------------------------------------------

    def callFromThread(self, callable: Callable[..., object], *args: Any, **kw: Any) -> None:
        """Call on the reactor's thread, in its next turn; from any thread, or from a signal handler.

        Raises: TypeError if it is not callable; RuntimeError once the reactor is closed, and in a forked child.
        Order:  in the order of the calls.
        Source: IReactorFromThreads.
        """
        loop = self._loop
        if loop.thread == CLOSED_FOR_GOOD:
            # Why here and not below: what the engine's own threads answer too late may be lost, a user's call not.
            loop.check_thread("callFromThread")
        if not builtins.callable(callable):
            raise TypeError(f"callFromThread needs a callable, not {callable!r}")
        loop.call_from_thread(callable, args, kw)

    def callInThread(self, callable: Callable[..., object], *args: Any, **kw: Any) -> None:
        """Call in a thread of the pool; from any thread. What it raises is logged. Source: IReactorInThreads."""
        self.getThreadPool().callInThread(callable, *args, **kw)

    def callAtEnd(self, callable: Callable[[], object]) -> Callable[[], None]:
        """Call when the run ends, before the pool's jobs are waited for, or at once if it has ended; from any thread.

        For threads that wait for the reactor, and must not wait for ever: it only tells them, and may be called twice.
        Returns: what takes it back.
        """
        return self._life.call_at_end(callable)

    def isReactorThread(self) -> bool:
        """Whether it runs, and this is the thread it runs in."""
        return get_ident() == self._loop.thread

    def getThreadPool(self) -> ThreadPool:
        """The pool behind callInThread, made at first use and stopped at shutdown; from any thread."""
        if self._loop.is_forked() or self._loop.is_closed():
            self._loop.check_thread("getThreadPool")
        with self._pool_lock:
            if self._pool is None:
                from ropewalk._loop.threads import ThreadPool  # Why here: only who has threads needs it.

                self._pool = ThreadPool() if self._pool_size is None else ThreadPool(self._pool_size)
                self._events.add("during", "shutdown", self._stop_pool, (), {})
            return self._pool

    def suggestThreadPoolSize(self, size: int) -> None:
        """How many threads the pool may have. Raises: ValueError below 1."""
        self._loop.check_thread_of("suggestThreadPoolSize")
        self.getThreadPool().adjustPoolsize(maxthreads=size)

    def _stop_pool(self) -> None:
        with self._pool_lock:
            pool, self._pool = self._pool, None
            if pool is not None:
                self._pool_size = pool.max
        if pool is not None:
            pool.stop()

    # ---- descriptors ------------------------------------------------------------------------------------------

    def addReader(self, reader: Any) -> None:
        """Call `reader.doRead()` whenever its descriptor is readable, until it is removed.

        Args:   reader: has fileno, doRead, connectionLost, logPrefix. Regular files are always ready.
        Raises: ValueError if fileno() is no open descriptor, nor one that is watched; OSError as the kernel says.
        Fails:  reader.connectionLost(Failure): what doRead raised or returned; ConnectionDone if all is read and it hung up.
        Source: IReactorFDSet.addReader.
        """
        self._loop.check_thread_of("addReader")
        self._descriptors.add(reader, IN)

    def addWriter(self, writer: Any) -> None:
        """Call `writer.doWrite()` whenever its descriptor is writable; as addReader, but a hang-up is ConnectionLost."""
        self._loop.check_thread_of("addWriter")
        self._descriptors.add(writer, OUT)

    def removeReader(self, reader: Any) -> None:
        """Watch it for reading no more; nothing happens if it was not."""
        self._loop.check_thread_of("removeReader")
        self._descriptors.remove(reader, IN)

    def removeWriter(self, writer: Any) -> None:
        """Watch it for writing no more; nothing happens if it was not."""
        self._loop.check_thread_of("removeWriter")
        self._descriptors.remove(writer, OUT)

    def removeAll(self) -> list[Any]:
        """Watch none of the descriptors that users added. Returns: those objects, each once."""
        self._loop.check_thread_of("removeAll")
        return self._descriptors.remove_all()

    def getReaders(self) -> list[Any]:
        """Those that addReader added and nobody removed."""
        return self._descriptors.readers()

    def getWriters(self) -> list[Any]:
        """Those that addWriter added and nobody removed."""
        return self._descriptors.writers()

    def _descriptor_lost(self, selectable: Any, exc: BaseException | None, is_clean: bool) -> None:
        words = self._core.words
        end = words.error.ConnectionDone if is_clean else words.error.ConnectionLost
        self._loop.call_method(selectable, "connectionLost", words.Failure(end() if exc is None else exc))

    # ---- seen from outside ------------------------------------------------------------------------------------

    @property
    def observers(self) -> list[Callable[[Event], object]]:
        """Callables that are given each lifecycle event; append to it and remove from it as you like."""
        return self._core.observers

    @property
    def poller(self) -> str:
        """The name of the kernel mechanism it waits with."""
        return self._loop.poller.name

    def _call_trigger(self, func: Callable[..., object], args: tuple[Any, ...], kw: dict[str, Any]) -> object:
        try:
            return func(*args, **kw)
        except BaseException as exc:
            self._loop.user_error(exc, "the trigger %r raised", func)
            return None

    def __repr__(self) -> str:
        return f"<Reactor {self._life.state.value}, {self.poller}>"


def checked_timeout(timeout: object) -> None:
    """Raises: TypeError, ValueError unless it is a finite number of seconds, 0 or more."""
    if not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds, or None for ever, not {timeout!r}")
    if not 0 <= timeout < _FOR_EVER:
        raise ValueError(f"timeout must be finite and 0 or more seconds, or None for ever, not {timeout!r}")


def checked_factory(factory: object, needed: str) -> None:
    """Raises: TypeError unless it is an object with that method; a class is the usual mistake."""
    kind = "ClientFactory" if needed == "startedConnecting" else "Factory"
    if isinstance(factory, type):
        raise TypeError(f"factory must be a {kind} instance, not the class {factory.__name__}")
    if not hasattr(factory, needed):
        raise TypeError(f"factory must be a {kind} instance; {factory!r} has no {needed}")


def checked_options(options: object) -> None:
    """Raises: TypeError unless it is a TCPOptions."""
    if not isinstance(options, TCPOptions):
        raise TypeError(f"options must be a TCPOptions(…), not {options!r}")


def checked_bind(address: tuple[str, int]) -> tuple[str, int]:
    """Raises: TypeError, ValueError unless it is (host, port)."""
    if not (isinstance(address, tuple) and len(address) == 2):
        raise TypeError(f"bindAddress must be (host, port), not {address!r}")
    host, port = address
    if not isinstance(port, int) or not 0 <= port <= 65535:
        raise ValueError(f"the port of bindAddress must be 0 to 65535, not {port!r}")
    host = checked_host(host)
    try:
        return local_literal(host) if host else host, port
    except ValueError as exc:
        raise ValueError(f"the host of bindAddress {exc}") from None
