"""A Connector: one factory's connection, from asking to ending, and asking again.

It owns the state that users see and the order of the factory's callbacks; a Dial does the connecting, a Stream the
talking, and each exists only while it is true. It must never know addresses, sockets or errnos.

Down go requests (`Dial.start`, `Stream.start`), up come exactly three reports: `_established`, `_failed`, `_lost`. Each
report changes the state first, calls the user then, and looks at the state again afterwards: the user may have
reconnected in the callback, and then the factory is still in use.

`doStart` and `doStop` are balanced by one flag: set when this connector has started the factory, cleared when it has
stopped it, whatever the user's callbacks raise in between.
Source: Twisted's IConnector and CONTRACT sections 1 to 3.
"""

from __future__ import annotations

from enum import StrEnum
from threading import get_ident
from typing import Any

from ropewalk._net.core import Core, shown_safely
from ropewalk._net.dial import Attempt, Dial
from ropewalk._net.options import TCPOptions
from ropewalk._net.stream import Stream
from ropewalk.address import display as shown
from ropewalk.event import Ended, Step
from ropewalk.failure import safe_text
from ropewalk.machine import Table


class ConnectorState(StrEnum):
    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"


class ConnectorEvent(StrEnum):
    CONNECT = "connect"
    ESTABLISHED = "established"
    FAILED = "failed"
    LOST = "lost"


CONNECTOR: Table[ConnectorState, ConnectorEvent] = Table(
    "Connector",
    {
        (ConnectorState.DISCONNECTED, ConnectorEvent.CONNECT): ConnectorState.CONNECTING,
        (ConnectorState.CONNECTING, ConnectorEvent.ESTABLISHED): ConnectorState.CONNECTED,
        (ConnectorState.CONNECTING, ConnectorEvent.FAILED): ConnectorState.DISCONNECTED,
        (ConnectorState.CONNECTED, ConnectorEvent.LOST): ConnectorState.DISCONNECTED,
        # A connection that nobody can talk on: buildProtocol raised.
        (ConnectorState.CONNECTED, ConnectorEvent.FAILED): ConnectorState.DISCONNECTED,
    },
)


class Connector:
    """What `connectTCP` returns; it is also given to each callback of the factory."""

    __slots__ = (
        "__weakref__",
        "_core",
        "_dial",
        "_has_started_factory",
        "_options",
        "_state",
        "bindAddress",
        "ended",
        "factory",
        "host",
        "number",
        "port",
        "timeout",
        "transport",
    )

    def __init__(
        self,
        core: Core,
        target: tuple[str, int],
        factory: Any,
        timeout: float | None,
        bind_address: tuple[str, int] | None,
        options: TCPOptions,
    ) -> None:
        self._core = core
        self.host, self.port = target
        self.factory = factory
        self.timeout = timeout
        self.bindAddress = bind_address
        self._options = options
        self._state = ConnectorState.DISCONNECTED
        self._dial: Dial | None = None
        self._has_started_factory = False
        # The connection's Stream while there is one.
        self.transport: Stream | None = None
        # How the last connection ended, also where the reason is a user's exception; None before there was one.
        self.ended: Ended | None = None
        # The serial number of this attempt, as lifecycle events carry it; a new one at each `connect`.
        self.number = 0

    # ---- asked by the user ------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """ "disconnected", "connecting" or "connected"."""
        return self._state.value

    @property
    def reactor(self) -> Any:
        """The reactor that made this connector."""
        return self._core.reactor

    def connect(self) -> None:
        """Start to connect; also again, after the last connection has ended.

        Raises: RuntimeError unless disconnected, or at the end of a shutdown during which callbacks have connected again
                and again; whatever `startFactory` or `startedConnecting` raise. Then nothing is under way and nothing is
                left.
        Order:  factory.doStart, then startedConnecting; nothing else before this returns.
        Source: IConnector.connect.
        """
        core = self._core
        if get_ident() != core.loop.thread:
            core.loop.check_thread("connect")
        if self._state is not ConnectorState.DISCONNECTED:
            raise RuntimeError(f"can't connect in this state: {self.state}, connect needs 'disconnected'")
        if core.is_last_pass:
            raise RuntimeError(
                "can't connect: the reactor stops, and callbacks have connected again and again"
            )
        self._state = CONNECTOR[self._state, ConnectorEvent.CONNECT]
        self.number = core.next_number()
        target = (self.host, self.port)
        self._dial = dial = Dial(
            core, self, self.number, target, self.timeout, self.bindAddress, self._options
        )
        core.open_ends[self] = None
        try:
            if core.observers:
                core.report(
                    self.number, Step.CONNECTING, host=self.host, port=self.port, timeout=self.timeout
                )
            if self._dial is dial and not self._has_started_factory:
                # Why set first: what startFactory does with this connector must find its factory in use.
                self._has_started_factory = True
                try:
                    self.factory.doStart()
                except BaseException:
                    self._has_started_factory = False
                    raise
            if self._dial is dial:
                dial.start()
                self.factory.startedConnecting(self)
        except BaseException as exc:
            self._undo_connect(dial, exc)
            raise

    def _undo_connect(self, dial: Dial, exc: BaseException) -> None:
        """`connect` itself failed: as if it had not been called, unless the user has given it up meanwhile."""
        if self._dial is dial:
            dial.undo()
            self._state = CONNECTOR[self._state, ConnectorEvent.FAILED]
            self._report_failed(exc)
            # Why asked: an observer may have connected again.
            if self._state is ConnectorState.DISCONNECTED:
                self._at_rest()

    def stopConnecting(self) -> None:
        """Give up the attempt.

        Raises: NotConnectingError unless connecting.
        Order:  factory.clientConnectionFailed(UserError) is called before this returns.
        Source: IConnector.stopConnecting.
        """
        self._core.loop.check_thread_of("stopConnecting")
        error = self._core.words.error
        if self._state is not ConnectorState.CONNECTING:
            raise error.NotConnectingError(f"stopConnecting: {self!r} is not connecting")
        self._give_up(error.UserError())

    def disconnect(self) -> None:
        """Whatever is under way, end it: stopConnecting, or loseConnection, or nothing.

        Source: IConnector.disconnect.
        """
        if self._state is ConnectorState.CONNECTING:
            self.stopConnecting()
        elif self.transport is not None:
            self.transport.loseConnection()

    def getDestination(self) -> Any:
        """The address as the user wrote it; its host may be a name."""
        if ":" in self.host:
            return self._core.words.IPv6Address("TCP", self.host, self.port)
        return self._core.words.IPv4Address("TCP", self.host, self.port)

    # ---- reported from below ----------------------------------------------------------------------------------

    def _waits_for(self, dial: Dial) -> bool:
        return self._dial is dial

    def _established(self, attempt: Attempt, host: tuple[Any, ...]) -> None:
        """The dial has a connected socket, still watched by the loop in the attempt's name."""
        core = self._core
        self._dial = None
        self._state = CONNECTOR[self._state, ConnectorEvent.ESTABLISHED]
        core.open_ends.pop(self, None)
        words, sockaddr = core.words, attempt.sockaddr
        peer = (words.IPv4Address if len(sockaddr) == 2 else words.IPv6Address)("TCP", *sockaddr)
        self.transport = stream = Stream(
            core, self, attempt.sock, host, peer, self.number, self._options, is_watched=True
        )
        # Why so soon: buildProtocol may turn the loop, and what is shut down or reset then is this.
        core.loop.watchers[stream.fd] = stream
        if core.observers:
            self._report_connected(stream)
        try:
            protocol = self.factory.buildProtocol(peer)
        except BaseException as exc:
            core.loop.user_error(exc, "buildProtocol of %r raised", self.factory)
            self._not_built(stream, attempt, exc)
            return
        if protocol is None:
            self._not_built(stream, attempt, None)
            return
        if core.observers:
            core.report(self.number, Step.PROTOCOL_BUILT, protocol=shown_safely(protocol))
        stream.start(protocol)

    def _not_built(self, stream: Stream, attempt: Attempt, exc: BaseException | None) -> None:
        """There is a connection, but nobody to talk on it."""
        if stream.disconnected:
            return  # Safe because: buildProtocol closed it and turned the loop; the factory was told.
        core = self._core
        self.transport = None
        stream.discard(exc)
        self.ended = stream.ended
        error = core.words.error
        if exc is None:
            reason = error.ConnectionDone("buildProtocol returned None", ended=stream.ended)
            self._state = CONNECTOR[self._state, ConnectorEvent.LOST]
            self._tell("clientConnectionLost", core.words.Failure(reason))
        else:
            reason = error.ConnectError(string=f"buildProtocol raised {type(exc).__name__}: {safe_text(exc)}")
            reason.__cause__ = exc
            attempt.annotate(reason)
            self._state = CONNECTOR[self._state, ConnectorEvent.FAILED]
            self._report_failed(reason)
            self._tell("clientConnectionFailed", core.words.Failure(reason))

    def _failed(self, exc: BaseException) -> None:
        self._dial = None
        self._state = CONNECTOR[self._state, ConnectorEvent.FAILED]
        self._core.open_ends.pop(self, None)
        self._report_failed(exc)
        self._tell("clientConnectionFailed", self._core.words.Failure(exc))

    def _lost(self, stream: Stream, reason: Any) -> None:
        self.transport = None
        self.ended = stream.ended
        self._state = CONNECTOR[self._state, ConnectorEvent.LOST]
        self._tell("clientConnectionLost", reason)

    def shut_down(self) -> None:
        """The reactor stops while this connects."""
        if self._state is ConnectorState.CONNECTING:
            # Why no UserError: that one says that somebody called stopConnecting.
            self._give_up(self._core.words.error.ConnectError(string="the reactor was stopped"))

    def disown(self) -> None:
        """The sockets of the dial's attempts are watched, and closed by themselves; the circles are opened here."""
        if self._dial is not None:
            self._dial.disown()
            self._dial = None
            # Why: who asks whether something is to be stopped must not be sent to a reactor that refuses.
            self._state = CONNECTOR[self._state, ConnectorEvent.FAILED]

    # ---- the common ends --------------------------------------------------------------------------------------

    def _give_up(self, exc: Any) -> None:
        dial = self._dial
        assert dial is not None
        dial.undo()
        # Why asked: an observer of what was undone may have given up before us.
        if self._dial is dial:
            dial.annotate(exc)
            self._failed(exc)

    def _tell(self, callback: str, reason: Any) -> None:
        self._core.loop.call_method(self.factory, callback, self, reason)
        if self._state is ConnectorState.DISCONNECTED:
            self._at_rest()

    def _at_rest(self) -> None:
        """Nothing is under way and the user did not reconnect: let the factory go."""
        self._dial = None
        self._core.open_ends.pop(self, None)
        if self._has_started_factory:
            self._has_started_factory = False
            self._core.loop.call_method(self.factory, "doStop")

    def _report_connected(self, stream: Stream) -> None:
        host, peer = stream.getHost(), stream.getPeer()
        self._core.report(self.number, Step.CONNECTED, local=shown(host), peer=shown(peer))

    def _report_failed(self, exc: Any) -> None:
        core = self._core
        if core.observers:
            phase = getattr(exc, "phase", None)
            core.report(
                self.number, Step.FAILED, error=type(exc).__name__, message=safe_text(exc), phase=phase
            )

    def __repr__(self) -> str:
        return f"<Connector {self.number} to {self.host!r}:{self.port} {self.state}>"
