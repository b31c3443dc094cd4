"""From a name or an address to one connected socket, or one error.

A Dial exists only while something is being connected. It owns the order of addresses, the stagger, the deadline and the
undoing; it must never know factories, protocols, or what becomes of the socket.

Order and stagger follow RFC 8305: addresses of both families take turns; the next one is tried `attemptDelay` seconds
after the last, or at once when one fails; the first to connect wins and the others are closed. One deadline covers the
look-up and all attempts.

While it waits it holds what must be given back: a look-up, timers, sockets that connect. `undo` gives it all back, and
cancelling is calling it. Up it reports exactly once, `_established` or `_failed`, and never before `start` returned.

A non-blocking connect is finished when the socket is writable or has an error, and SO_ERROR tells which (connect(2)). A
socket that is connected to itself, which an ephemeral port can do to a local port nobody listens on, is closed and tried
again (FAULTS C9; Source: Go's net package retries twice).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from enum import StrEnum
from typing import Any, Protocol

from ropewalk._loop.poller import OUT
from ropewalk._loop.timers import DelayedCall
from ropewalk._net.core import Core
from ropewalk._net.options import FAMILIES, TCPOptions
from ropewalk._net.resolve import Candidate, candidates
from ropewalk.address import display
from ropewalk.event import Attempt as FailedAttempt
from ropewalk.event import Step
from ropewalk.failure import safe_text
from ropewalk.machine import Table

_SELF_CONNECT_RETRIES = 2
# Source: Linux ip(7); the kernel then picks the port at connect, so many connections can share one (FAULTS C10).
_IP_BIND_ADDRESS_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", None)
# Source: socket(7), SO_LINGER: on, for no time.
LINGER_ZERO = struct.pack("ii", 1, 0)
# Source: RFC 3493 section 3.3, sin6_scope_id is 32 bits.
_SCOPE_MOST = 2**32 - 1
_UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR)


class DialState(StrEnum):
    NEW = "new"
    RESOLVING = "resolving"
    CONNECTING = "connecting"
    OVER = "over"


class DialEvent(StrEnum):
    RESOLVE = "look the name up"
    CONNECT = "try the addresses"
    END = "connected, failed or undone"


DIAL: Table[DialState, DialEvent] = Table(
    "Dial",
    {
        (DialState.NEW, DialEvent.RESOLVE): DialState.RESOLVING,
        (DialState.NEW, DialEvent.CONNECT): DialState.CONNECTING,
        (DialState.RESOLVING, DialEvent.CONNECT): DialState.CONNECTING,
        (DialState.NEW, DialEvent.END): DialState.OVER,
        (DialState.RESOLVING, DialEvent.END): DialState.OVER,
        (DialState.CONNECTING, DialEvent.END): DialState.OVER,
    },
)


class Caller(Protocol):
    """Who dials: a Connector."""

    def _established(self, attempt: Attempt, host: tuple[Any, ...]) -> None: ...
    def _failed(self, exc: BaseException) -> None: ...
    def _waits_for(self, dial: Dial) -> bool: ...


class Dial:
    """One way to one connected socket."""

    __slots__ = (
        "_attempts",
        "_bind_address",
        "_caller",
        "_core",
        "_deadline",
        "_ended_in",
        "_error",
        "_failures",
        "_host",
        "_look_up",
        "_number",
        "_options",
        "_port",
        "_resolved_at",
        "_self_connects",
        "_since",
        "_stagger",
        "_state",
        "_timeout",
        "_untried",
    )

    def __init__(
        self,
        core: Core,
        caller: Caller,
        number: int,
        target: tuple[str, int],
        timeout: float | None,
        bind_address: tuple[str, int] | None,
        options: TCPOptions,
    ) -> None:
        self._core = core
        self._caller = caller
        self._number = number
        # Source: Twisted's resolve; no name is this machine.
        self._host, self._port = target[0] or "0.0.0.0", target[1]
        self._timeout = timeout
        self._bind_address = bind_address
        self._options = options
        # What it was at when it ended, for the account of it.
        self._state = self._ended_in = DialState.NEW
        self._deadline: DelayedCall | None = None
        self._stagger: DelayedCall | None = None
        self._look_up: Any = None
        # The next one last.
        self._untried: list[Candidate] = []
        self._attempts: list[Attempt] = []
        self._failures: list[FailedAttempt] = []
        # Of the first attempt that failed.
        self._error: BaseException | None = None
        # When it began; None until then. Why not 0.0: a clock may begin there.
        self._since: float | None = None
        self._resolved_at: float | None = None
        self._self_connects = 0

    def start(self) -> None:
        """Begin in the next turn; the deadline counts from now."""
        loop = self._core.loop
        self._since = loop.now()
        if self._timeout is not None:
            self._deadline = loop.timers.add(self._timeout, self._timed_out, (), None)
        loop.soon.append((self._begin, (), None))

    def undo(self) -> None:
        """Give everything back: nothing will be reported any more."""
        if self._state is DialState.OVER:
            return
        self._ended_in = self._state
        self._state = DIAL[self._state, DialEvent.END]
        # Why asked: users may have cancelled every call of getDelayedCalls, ours included.
        deadline, stagger = self._deadline, self._stagger
        if deadline is not None and deadline.func is not None:
            deadline.cancel()
        if stagger is not None and stagger.func is not None:
            stagger.cancel()
        if self._look_up is not None:
            self._look_up.cancel()
        for attempt in self._attempts:
            attempt.undo()
            self._note_failed(attempt, "given up", None)
        self._attempts.clear()
        self._untried.clear()

    def disown(self) -> None:
        """In a forked child: nothing is under way, and nothing has to be given back."""
        if self._state is not DialState.OVER:
            self._state = DIAL[self._state, DialEvent.END]
        self._attempts.clear()
        self._deadline = self._stagger = self._look_up = None

    @property
    def is_over(self) -> bool:
        """Whether it has reported, or was undone. Rule: asked after every event told to observers, who may give up."""
        return self._state is DialState.OVER

    # ---- names ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._state is not DialState.NEW:
            return
        only = self._options.family
        try:
            found = literal(self._host, self._port)
            if found is not None and only is not None and found[0] != FAMILIES[only]:
                raise OSError(errno.EAFNOSUPPORT, f"{self._host} is no {only} address")
        except OSError as exc:
            self._give_up(self._core.words.error.getConnectError(exc))
            return
        if found is not None:
            self._state = DIAL[self._state, DialEvent.CONNECT]
            self._untried.append(found)
            self._try_next()
            return
        self._state = DIAL[self._state, DialEvent.RESOLVE]
        core = self._core
        if core.observers:
            core.report(self._number, Step.RESOLVING, name=self._host)
            if self.is_over:
                return
        try:
            self._look_up = core.resolver.ask(self._host, self._port, self._resolved)
        except Exception as exc:
            # Why: a resolver that users install may raise at once; that is a failed look-up, not a silence.
            self._resolved(exc)

    def _resolved(self, result: Any) -> None:
        if self._state is not DialState.RESOLVING:
            return
        self._look_up = None
        core = self._core
        exc = result if isinstance(result, BaseException) else None
        found = [] if exc is not None else candidates(result)
        only = self._options.family
        if only is not None:
            found = [each for each in found if each[0] == FAMILIES[only]]
            if result and not found and exc is None:
                exc = ValueError(f"it has no {only} address")
        if self._bind_address is not None:
            # Why all when none fits: the reason then tells what the local end is no end for.
            found = fitting(found, self._bind_address[0]) or found
        if not found:
            failed = core.words.error.getLookupError(exc, self._host)
            if core.observers:
                number = getattr(failed, "errno", None)
                core.report(
                    self._number, Step.RESOLVE_FAILED, name=self._host, error=str(failed), errno=number
                )
            self._give_up(failed)
            return
        if core.observers:
            shown = [display(core.words.address("TCP", sockaddr)) for _, sockaddr in found]
            core.report(self._number, Step.RESOLVED, name=self._host, addresses=shown)
            if self.is_over:
                return
        self._state = DIAL[self._state, DialEvent.CONNECT]
        self._resolved_at = core.loop.now()
        self._untried.extend(reversed(found))
        self._try_next()

    # ---- addresses --------------------------------------------------------------------------------------------

    def _stagger_over(self) -> None:
        self._stagger = None
        self._try_next()

    def _try_next(self) -> None:
        """Start attempts until one is under way, or none is left."""
        while self._untried:
            attempt = Attempt(self, *self._untried.pop())
            self._attempts.append(attempt)
            if attempt.start(self._core, self._bind_address, self._options):
                if self._untried:
                    self._stagger = self._core.loop.call_later(self._options.attemptDelay, self._stagger_over)
                return
        if not self._attempts and not self.is_over:
            self._all_failed()

    def _attempt_connected(self, attempt: Attempt, host: tuple[Any, ...]) -> None:
        self._attempts.remove(attempt)
        self.undo()
        if self._core.observers and not self._caller._waits_for(self):
            attempt.undo()
            return
        self._caller._established(attempt, host)

    def _attempt_failed(self, attempt: Attempt, exc: BaseException, is_local: bool = False) -> None:
        """Note it; the next one starts at once (RFC 8305 section 5)."""
        self._attempts.remove(attempt)
        attempt.undo()
        number = getattr(exc, "errno", None)
        text = getattr(exc, "strerror", None) or safe_text(exc)
        # Why without traceback: its frames hold this dial, and a reason that users keep would be a cycle.
        exc = exc.with_traceback(None)
        if self._error is None:
            error = self._core.words.error
            self._error = made = error.ConnectBindError(exc) if is_local else error.getConnectError(exc)
            made.__cause__ = exc
        self._note_failed(attempt, text, number)

    def _note_failed(self, attempt: Attempt, text: str, number: int | None) -> None:
        failed = attempt.failed(text, number)
        self._failures.append(failed)
        if self._core.observers:
            self._core.report(self._number, Step.ATTEMPT_FAILED, **failed._asdict())

    def _attempt_over(self) -> None:
        """An attempt that was under way has failed."""
        stagger, self._stagger = self._stagger, None
        if stagger is not None and not stagger.cancelled:
            stagger.cancel()
        self._try_next()

    def _met_itself(self, attempt: Attempt) -> None:
        attempt.leave_no_trace()
        if self._self_connects < _SELF_CONNECT_RETRIES:
            self._self_connects += 1
            self._attempts.remove(attempt)
            attempt.undo()
            self._untried.append((attempt.family, attempt.sockaddr))
            if self._core.observers:
                failed = attempt.failed("connected to itself", None)
                self._core.report(self._number, Step.ATTEMPT_FAILED, **failed._asdict())
        else:
            refusal = OSError(errno.ECONNREFUSED, "connected to itself: nothing listens there")
            self._attempt_failed(attempt, refusal)
        self._attempt_over()

    # ---- the ends ---------------------------------------------------------------------------------------------

    def _all_failed(self) -> None:
        # Why the first: it is the address that the resolver, and so the user, preferred; all are listed anyway.
        assert self._error is not None
        self._give_up(self._error)

    def _timed_out(self) -> None:
        self._deadline = None
        while self._attempts:
            late = TimeoutError(errno.ETIMEDOUT, "no answer until the timeout")
            self._attempt_failed(self._attempts[0], late)
        self._give_up(self._core.words.error.TimeoutError(string=f"{self._timeout} s"))

    def _give_up(self, exc: BaseException) -> None:
        if self.is_over:
            return  # Safe because: an observer of the last event has given it up, and that was reported.
        self.undo()
        self.annotate(exc)
        self._caller._failed(exc)

    def annotate(self, exc: Any) -> None:
        """Put on a connect error what was tried, where it ended, and how long each phase took. Rule: only when over."""
        now = self._core.loop.now()
        # Why asked: given up in startFactory, it has not begun.
        since = now if self._since is None else self._since
        exc.connection = self._number
        exc.attempts = tuple(self._failures)
        exc.phase = "resolving" if self._ended_resolving() else "connecting"
        if self._resolved_at is None:
            exc.elapsed = {exc.phase: now - since}
        else:
            exc.elapsed = {"resolving": self._resolved_at - since, "connecting": now - self._resolved_at}

    def _ended_resolving(self) -> bool:
        if self._ended_in is not DialState.NEW:
            return self._ended_in is DialState.RESOLVING
        try:
            return literal(self._host, self._port) is None
        except OSError:
            return True  # Why: the name of its scope is what was looked up.

    def __repr__(self) -> str:
        return f"<Dial {self._number} to {self._host!r}:{self._port} {self._state.value}>"


class Attempt:
    """One socket on its way to one address; a watcher of the loop."""

    __slots__ = ("_core", "_dial", "family", "since", "sock", "sockaddr")

    def __init__(self, dial: Dial, family: int, sockaddr: tuple[Any, ...]) -> None:
        self._dial = dial
        self._core: Core
        self.family = family
        self.sockaddr = sockaddr
        self.sock: Any = None
        self.since = 0.0

    def start(self, core: Core, bind_address: tuple[str, int] | None, options: TCPOptions) -> bool:
        """Whether it is under way; if not, the dial has been told why."""
        self._core = core
        self.since = core.loop.now()
        if core.observers:
            core.report(self._dial._number, Step.ATTEMPT_STARTED, address=self.shown())
            if self._dial.is_over:
                return False
        try:
            self.sock = sock = core.system.socket(self.family)
            sock.setblocking(False)
            for setting in options.settings:
                sock.setsockopt(*setting)
            if bind_address is not None:
                self._bind(bind_address)
        except Exception as exc:
            # Why not OSError alone: an option out of its range gives a TypeError, an address a ValueError.
            self._dial._attempt_failed(self, exc, is_local=True)
            return False
        try:
            number = sock.connect_ex(self.sockaddr)
            if number and number not in _UNDER_WAY:
                raise OSError(number, os.strerror(number))
            # Also when it is connected already: the loop says so in its next turn, and there is one way only.
            core.loop.watch(sock.fileno(), self, OUT)
        except (OSError, OverflowError, ValueError, TypeError) as exc:
            # Why not OSError alone: the address may come from a resolver that users installed.
            self._dial._attempt_failed(self, exc)
            return False
        return True

    def _bind(self, bind_address: tuple[str, int]) -> None:
        host, port = bind_address
        if port == 0 and _IP_BIND_ADDRESS_NO_PORT is not None:
            self.sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        if port != 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((host, port))

    def ready(self, event: int) -> None:
        if self._dial._state is DialState.OVER:
            return  # Safe because: buildProtocol turns the loop itself; the stream takes over once it has returned.
        try:
            number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number))
            host = self.sock.getsockname()
            # Why the ports first: no other connection can be to itself, and the kernel need not be asked.
            has_met_itself = host[1] == self.sockaddr[1] and self.is_self_connected(host)
        except OSError as exc:
            self._dial._attempt_failed(self, exc)
            self._dial._attempt_over()
            return
        if has_met_itself:
            self._dial._met_itself(self)
        else:
            self._dial._attempt_connected(self, host)

    def is_self_connected(self, host: tuple[Any, ...]) -> bool:
        """Raises: OSError if the kernel does not say who the peer is; what may be itself is handed on to nobody."""
        return bool(host == self.sock.getpeername())

    def leave_no_trace(self) -> None:
        """Let the close be a reset. Why: TIME_WAIT would keep the port from the very server that is missing (C9)."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        except OSError:
            pass  # Safe because: a courtesy; the socket is closed either way.

    def undo(self) -> None:
        """Unwatch, then close."""
        sock = self.sock
        if sock is not None:
            self._core.loop.unwatch(sock.fileno())
            sock.close()

    def shut_down(self) -> None:
        """Nothing: the connector is told, and undoes the dial."""

    def disown(self) -> None:
        self.sock.close()

    def failed(self, text: str, number: int | None) -> FailedAttempt:
        return FailedAttempt(self.shown(), text, number, self._core.loop.now() - self.since)

    def annotate(self, exc: Any) -> None:
        """As Dial.annotate, when this one has connected in vain."""
        self._dial._failures.append(self.failed("buildProtocol raised", None))
        self._dial.annotate(exc)

    def shown(self) -> str:
        return display(self._core.words.address("TCP", self.sockaddr))


def literal(host: str, port: int) -> Candidate | None:
    """The candidate for an IPv4 or IPv6 address as text, `%scope` included; None if it is a name.

    Raises: OSError if the scope names no interface of this machine.
    """
    if ":" not in host:
        try:
            socket.inet_pton(socket.AF_INET, host)
        except (OSError, ValueError, UnicodeError):
            return None
        return socket.AF_INET, (host, port)
    address, has_scope, scope = host.partition("%")
    try:
        packed = socket.inet_pton(socket.AF_INET6, address)
    except (OSError, ValueError, UnicodeError):
        return None
    # Why written anew: peers are told apart by the text, and the kernel writes each address in one way.
    address = socket.inet_ntop(socket.AF_INET6, packed)
    return socket.AF_INET6, (address, port, 0, _scope_number(scope) if has_scope else 0)


def _scope_number(scope: str) -> int:
    # Why the length first: a number of thousands of digits is no int that Python makes of a text.
    if scope.isascii() and scope.isdecimal() and len(scope) <= 10 and int(scope) <= _SCOPE_MOST:
        return int(scope)
    try:
        return socket.if_nametoindex(scope)
    except (OSError, ValueError):
        # Why: the C library's answer has no errno. ENODEV is what the kernel says to a number that is no interface.
        raise OSError(errno.ENODEV, f"no network interface is named {scope!r}") from None


def local_literal(host: str) -> str:
    """An address of this machine as text; "localhost" is 127.0.0.1, which no name server is asked about (RFC 6761, 6.3).

    Raises: ValueError for any other name. Why not looked up: `bind` would do so itself, and hold up every connection.
    """
    if host == "localhost":
        return "127.0.0.1"
    try:
        is_address = literal(host, 0) is not None
    except OSError:
        is_address = True  # Safe because: the kernel says so too, about a scope, to whoever binds.
    if not is_address:
        raise ValueError(f"must be an IPv4 or IPv6 address, or 'localhost', not {host!r}")
    return host


def fitting(found: list[Candidate], local: str) -> list[Candidate]:
    """Those that a socket bound to the local address, of whatever family if it is empty, can reach."""
    family = socket.AF_INET6 if ":" in local else socket.AF_INET
    return [each for each in found if each[0] == family or not local]
