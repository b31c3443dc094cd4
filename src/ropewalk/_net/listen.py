"""A Port: accept connections, and keep calm when that fails.

One Port is one listening socket and one factory. Each accepted socket gets a protocol from the factory and a Stream of
its own; the Port keeps none of them.

How many are accepted per readiness follows the load: twice as many as last time when all came, else as many as did come,
one at least. So a lone connection costs one system call, and a burst does not starve other descriptors (FAULTS A6).

Errors of accept never reach a user and never spin (FAULTS A1 to A5). Without descriptors left, a reserved one is given
up for a moment to accept and close who waits, so that peers are told. After any other error, and when even that fails, the
Port rests: 5 ms, doubling to 1 s while it goes on. The log is told once at the start of such a time, then once a minute.
Sources: accept(2), "Error handling"; the back-off is Go's net/http.
"""

from __future__ import annotations

import errno
import logging
import socket
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ropewalk._loop.poller import IN
from ropewalk._net.core import Core, shown_safely
from ropewalk._net.dial import literal, local_literal
from ropewalk._net.options import TCPOptions
from ropewalk._net.stream import Stream
from ropewalk.address import display
from ropewalk.event import Step
from ropewalk.machine import Table

if TYPE_CHECKING:
    from ropewalk._net.drain import Drain

# Accepted per readiness at most.
_BURST_MOST = 64
_REST_FIRST = 0.005
_REST_MOST = 1.0
# Seconds between two lines of log about one trouble.
_LOG_INTERVAL = 60.0
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_AGAIN = (BlockingIOError, InterruptedError)


class PortState(StrEnum):
    CLOSED = "closed"
    LISTENING = "listening"


class PortEvent(StrEnum):
    START = "startListening"
    STOP = "stopListening"


PORT: Table[PortState, PortEvent] = Table(
    "Port",
    {
        (PortState.CLOSED, PortEvent.START): PortState.LISTENING,
        (PortState.LISTENING, PortEvent.STOP): PortState.CLOSED,
    },
)


class Port:
    """What `listenTCP` returns."""

    __slots__ = (
        "_address",
        "_backlog",
        "_burst",
        "_core",
        "_is_paused",
        "_is_wildcard",
        "_logged_at",
        "_options",
        "_requested_port",
        "_reserve",
        "_rest",
        "_rest_timer",
        "_state",
        "_stopped",
        "draining",
        "factory",
        "interface",
        "number",
        "sock",
    )

    def __init__(
        self, core: Core, port: int, factory: Any, backlog: int | None, interface: str, options: TCPOptions
    ) -> None:
        self._core = core
        self._requested_port = port
        self.factory = factory
        self._backlog = core.system.backlog if backlog is None else backlog
        self.interface = interface
        self._options = options
        self._state = PortState.CLOSED
        self.sock: Any = None
        self.number = 0
        self._address: Any = None
        self._reserve: Any = None
        self._burst = 1
        self._rest = 0.0
        # Whether each connection's own end has to be asked for, since the port listens on several.
        self._is_wildcard = True
        # Whether the user wants nothing accepted for now.
        self._is_paused = False
        self._rest_timer: Any = None
        self._logged_at: float | None = None
        # The Deferreds that stopListening gave out, until they have fired; None if it was not asked for.
        self._stopped: list[Any] | None = None
        self.draining: Drain | None = None

    @property
    def port(self) -> int:
        """The number listened on; the one asked for while not listening."""
        return self._requested_port if self._address is None else int(self._address.port)

    @property
    def connected(self) -> bool:
        """Whether it is listening."""
        return self._state is PortState.LISTENING

    @property
    def reactor(self) -> Any:
        """The reactor that made this port."""
        return self._core.reactor

    # ---- asked by the user ------------------------------------------------------------------------------------

    def startListening(self) -> None:
        """Bind and listen; also again, after stopListening.

        Raises: CannotListenError with errno, and then nothing is left open; whatever `startFactory` raises.
        Order:  factory.doStart before this returns; buildProtocol never.
        Source: IListeningPort.startListening.
        """
        core = self._core
        core.loop.check_thread_of("startListening")
        self._state = PORT[self._state, PortEvent.START]
        try:
            try:
                self.sock = sock = self._listening_socket()
                self._reserve = core.system.open_reserve()
                address = core.words.address("TCP", sock.getsockname())
                core.loop.watch(sock.fileno(), self, IN)
            except (OSError, OverflowError) as exc:
                # Why no name for what is raised: this frame, which its traceback holds, would hold it in turn.
                raise core.words.error.CannotListenError(
                    self.interface, self._requested_port, exc
                ) from exc.with_traceback(None)
            # Why last: all that can fail has not; only the user's own startFactory may still raise, or stop us.
            self.factory.doStart()
        except BaseException:
            self._give_back()
            self._tell_stopped()
            raise
        self._address = address
        self._is_wildcard = address.host in ("0.0.0.0", "::")
        self.number = core.next_number()
        if core.observers:
            core.report(self.number, Step.LISTENING, address=display(address))

    def stopListening(self) -> Any:
        """Listen no more. Connections that were accepted stay.

        Returns: a Deferred, fired with None once the socket is closed and the factory was told.
        Source:  IListeningPort.stopListening.
        """
        self._core.loop.check_thread_of("stopListening")
        stopped = self._core.words.Deferred()
        # Why one for each who asks: what one makes of it, or whether he cancels it, is nothing to the others.
        if self._stopped is not None:
            self._stopped.append(stopped)
            return stopped
        if self._state is not PortState.LISTENING:
            stopped.callback(None)
            return stopped
        self._stopped = [stopped]
        self._leave_poller()
        self._stop_resting()
        self._core.loop.call_soon(self._stop)
        return stopped

    loseConnection = stopListening

    def drain(self, deadline: float | None) -> Any:
        """Listen no more, let the connections that were accepted end by themselves, and after a deadline abort the rest.

        Args:    deadline: seconds from now, 0 or more; None waits for ever. Asked again, the earliest deadline holds.
        Returns: a Deferred of `Drained(ended, aborted)`, fired when none is left. Cancelled, nobody is aborted any more;
                 what has begun stays: the port is closed, and the protocols were told.
        Raises:  TypeError, ValueError for another deadline.
        Order:   each protocol that has `connectionDraining()` is told once, in the next turn. What that raises ends its
                 connection.
        Source:  interfaces.IDrainableProtocol.
        """
        from ropewalk._net.drain import drain  # Why here: only who drains needs it.

        self._core.loop.check_thread_of("drain")
        return drain(self._core, self, deadline)

    def pauseProducing(self) -> None:
        """Accept nothing until `resumeProducing`. Who connects meanwhile waits in the kernel's queue; when that is full,
        outside (FAULTS section 3, 4: never accept and hold).
        """
        self._core.loop.check_thread_of("pauseProducing")
        if self._state is PortState.LISTENING and not self._is_paused:
            self._is_paused = True
            if self._rest_timer is None and self._stopped is None:
                self._leave_poller()

    def resumeProducing(self) -> None:
        """Accept again."""
        self._core.loop.check_thread_of("resumeProducing")
        if self._is_paused:
            self._is_paused = False
            if self._rest_timer is None and self._stopped is None:
                self._rested()

    def getHost(self) -> Any:
        """The address listened on: IPv4Address or IPv6Address; with port 0 asked for, the real number."""
        return self._address

    def fileno(self) -> int:
        """The listening descriptor; -1 while not listening."""
        return -1 if self.sock is None else int(self.sock.fileno())

    def logPrefix(self) -> str:
        """How log lines about this port begin."""
        return f"{type(self.factory).__name__} ({self.port})"

    # ---- the socket -------------------------------------------------------------------------------------------

    def _listening_socket(self) -> Any:
        options = self._options
        interface = self.interface or ("::" if options.dualStack else "0.0.0.0")
        try:
            found = literal(local_literal(interface), self._requested_port)
        except ValueError as exc:
            raise OSError(errno.EADDRNOTAVAIL, f"interface {exc}") from None
        assert found is not None
        family, sockaddr = found
        sock = self._core.system.socket(family)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if options.reusePort:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not options.dualStack))
            # Why here: accepted sockets inherit these (Linux), so accepting needs no setsockopt of its own.
            for setting in options.settings:
                sock.setsockopt(*setting)
            sock.bind(sockaddr)
            sock.listen(self._backlog)
        except BaseException:
            sock.close()
            raise
        return sock

    def _leave_poller(self) -> None:
        """Be told of nothing, but be there for whoever shuts the reactor down."""
        self._core.loop.unwatch(self.sock.fileno())
        self._core.open_ends[self] = None

    def _give_back(self) -> None:
        """Everything of the kernel's, and the state: as if it had never listened."""
        self._state = PORT[self._state, PortEvent.STOP]
        self._is_paused = False
        self._core.open_ends.pop(self, None)
        self._stop_resting()
        sock, self.sock = self.sock, None
        reserve, self._reserve = self._reserve, None
        if sock is not None:
            self._core.loop.unwatch(sock.fileno())
            try:
                sock.close()
            except OSError:
                pass  # Safe because: closed behind our back is closed.
        if reserve is not None:
            reserve.close()

    # ---- accepting --------------------------------------------------------------------------------------------

    def ready(self, event: int) -> None:
        accept = self._core.system.accept
        sock = self.sock
        burst = self._burst
        for taken in range(burst):
            try:
                accepted, sockaddr = accept(sock)
            except _AGAIN:
                self._burst = taken or 1
                return
            except OSError as exc:
                self._burst = 1
                self._accept_failed(exc)
                return
            self._rest = 0.0
            self._take(accepted, sockaddr)
            if self._core.loop.due:
                self._core.loop.settle()
            # Why asked last, and for this very socket: any of these callbacks may stop the port, and start it anew.
            if self.sock is not sock or self._stopped is not None or self._is_paused:
                return
        if burst < _BURST_MOST:
            self._burst = burst * 2

    def _take(self, sock: Any, sockaddr: tuple[Any, ...]) -> None:
        """One connection: a protocol, and a stream for it to talk on."""
        core = self._core
        peer = core.words.address("TCP", sockaddr)
        host = None if self._is_wildcard else self._address
        stream = Stream(core, self, sock, host, peer, core.next_number(), self._options, is_watched=False)
        core.open_ends[stream] = (
            None  # Why so soon: buildProtocol may turn the loop, and the reactor be stopped.
        )
        if core.observers:
            local = display(stream.getHost())
            core.report(stream.number, Step.ACCEPTED, local=local, peer=display(peer), listener=self.number)
        if not core.system.stream_options_inherited:
            try:
                for setting in self._options.settings:
                    sock.setsockopt(*setting)
            except OSError:
                stream.discard()  # Safe because: macOS answers EINVAL for a connection that was reset already.
                return
        try:
            protocol = self.factory.buildProtocol(peer)
        except BaseException as exc:
            core.loop.user_error(exc, "buildProtocol of %r raised; its connection is closed", self.factory)
            stream.discard(exc)
            return
        if protocol is None:
            stream.discard()
            return
        if core.observers:
            core.report(stream.number, Step.PROTOCOL_BUILT, protocol=shown_safely(protocol))
        stream.start(protocol)
        if self.draining is not None and (self.sock is None or self._stopped is not None):
            self.draining.joined(stream)

    def _lost(self, stream: Stream, reason: Any) -> None:
        """A server's factory is not told of each end, its protocol is; whoever drains wants to know."""
        if self.draining is not None:
            self.draining.lost(stream)

    def _accept_failed(self, exc: OSError) -> None:
        if exc.errno in _NO_DESCRIPTORS and self._turn_away():
            self._say(exc, 0.0)
        else:
            self._take_rest(exc)

    def _take_rest(self, exc: OSError) -> None:
        # Why also the kernel's "pending network errors" (FAULTS A3): one is over at once, but it may go on.
        self._rest = min(self._rest * 2, _REST_MOST) if self._rest else _REST_FIRST
        self._say(exc, self._rest)
        # Why not mask 0: a listener that somebody shut down (FAULTS F12) says HUP for ever, and HUP cannot be masked.
        self._leave_poller()
        self._rest_timer = self._core.loop.call_later(self._rest, self._rested)

    def _turn_away(self) -> bool:
        """Use the reserved descriptor to accept and close those who wait; whether any was."""
        if self._reserve is None:
            return self._restore_reserve() and False
        self._reserve.close()
        self._reserve = None
        turned_away = 0
        try:
            for _ in range(_BURST_MOST):
                self._core.system.accept(self.sock)[0].close()
                turned_away += 1
        except OSError:
            pass  # Safe because: an empty queue or a stolen descriptor; what counts is `turned_away`.
        self._restore_reserve()
        return turned_away > 0

    def _restore_reserve(self) -> bool:
        try:
            self._reserve = self._core.system.open_reserve()
        except OSError:
            return False
        return True

    def _rested(self) -> None:
        core = self._core
        self._rest_timer = None
        if self._reserve is None:
            self._restore_reserve()
        if self._is_paused:
            return  # Safe because: whoever paused it will resume it, and it comes by here.
        try:
            core.loop.watch(self.sock.fileno(), self, IN)
        except OSError as exc:
            self._take_rest(exc)
        else:
            core.open_ends.pop(self, None)

    def _stop_resting(self) -> None:
        timer, self._rest_timer = self._rest_timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _say(self, exc: OSError, seconds: float) -> None:
        core = self._core
        if core.observers:
            core.report(self.number, Step.ACCEPT_PAUSED, error=str(exc), errno=exc.errno, seconds=seconds)
        now = core.loop.now()
        if self._logged_at is None or now - self._logged_at >= _LOG_INTERVAL:
            self._logged_at = now
            what = f"resting {seconds:.3f} s" if seconds else "connections are accepted and closed"
            message = "%s: accept failed: %s; %s (said once a minute)"
            core.loop.log(logging.WARNING, message, self.logPrefix(), exc, what)

    # ---- ending -----------------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        if self._state is PortState.LISTENING:
            self._stop()

    def disown(self) -> None:
        for each in (self.sock, self._reserve):
            if each is not None:
                each.close()

    def _stop(self) -> None:
        if self._state is not PortState.LISTENING:
            return  # Safe because: shutdown came first and did it all.
        core = self._core
        self._give_back()
        if core.observers:
            core.report(self.number, Step.STOPPED_LISTENING)
        core.loop.call_method(self.factory, "doStop")
        self._tell_stopped()

    def _tell_stopped(self) -> None:
        stopped, self._stopped = self._stopped, None
        for each in stopped or ():
            # Why guarded: SystemExit leaves a Deferred, and must not keep a shutdown from all the others.
            self._core.loop.call_user(each.callback, None)
        if self.draining is not None:
            self.draining.stopped()

    def __repr__(self) -> str:
        if self._address is None:
            return f"<Port {type(self.factory).__name__} not listening>"
        return f"<Port {type(self.factory).__name__} {self._state.value} on {display(self._address)}>"
