"""Every exception users meet, and the way from the operating system's error to it.

The class names and the tree under `ConnectError` and `ConnectionClosed` are Twisted's, so that an
`except` clause or a `failure.check()` written for Twisted means the same here. Three things are ours:

* Each class is also the builtin it corresponds to: `except OSError`, `except TimeoutError`,
  `except ConnectionError` work as they do around blocking sockets. `errno` is always there.
* A failed connect tells what was tried: `.phase`, `.elapsed`, `.attempts`, and `str()` says it all in
  one line. A close reason carries `.ended`, how the connection ended.
* `DNSLookupError` is a `ConnectError`, and `.temporary` tells a name that does not exist from a server
  that did not answer.

Rule: one reason, one object. Nothing here is shared between connections, as facts are put on it.
Rule: no class lets OSError's constructor see its arguments. Why: given two or three, it takes them for
  (errno, strerror, filename) and changes `args`; ours keep what the caller gave, as Twisted's do.
Rejected: OSError's own choice of subclass by errno. `getConnectError` is explicit, and its table short.

This room never raises anything and knows no socket; it imports `socket` for the names of EAI codes.
Source: twisted.internet.error; PEP 3151; errno(3); getaddrinfo(3); ip(7), tcp(7) for what connect gives.
"""

import builtins
import errno
import os
import socket
import threading
from typing import Any

from ropewalk.event import Attempt, Ended
from ropewalk.failure import safe_text

__all__ = [
    "AlreadyCalled",
    "AlreadyCancelled",
    "BadFileError",
    "BindError",
    "CannotListenError",
    "ConnectBindError",
    "ConnectError",
    "ConnectingCancelledError",
    "ConnectionAborted",
    "ConnectionClosed",
    "ConnectionDone",
    "ConnectionFdescWentAway",
    "ConnectionLost",
    "ConnectionRefusedError",
    "DNSLookupError",
    "NoProtocol",
    "NoRouteError",
    "NotConnectingError",
    "NotListeningError",
    "ReactorAlreadyRunning",
    "ReactorNotRunning",
    "SSLError",
    "ServiceNameUnknownError",
    "TCPTimedOutError",
    "TimeoutError",
    "UnknownHostError",
    "UnsupportedAddressFamily",
    "UnsupportedSocketType",
    "UserError",
    "getConnectError",
    "getLookupError",
]


def errno_name(number: int | None) -> str | None:
    """The name of an errno, such as "ECONNREFUSED"; "errno 999" if it has none; None for None.

    Why also EAI codes, which glibc makes negative: Python's bind and connect give them for an address that does not
    fit the socket.
    """
    if number is None:
        return None
    return errno.errorcode.get(number) or (number < 0 and eai_names.get(number)) or f"errno {number}"


def _sentence(message: str, args: tuple[object, ...], note: str | None = None) -> str:
    """One line: the class's message, what the maker added, a note in parentheses."""
    texts = [safe_text(arg) for arg in args if arg is not None]
    detail = " ".join(text for text in texts if text)
    return message + (f": {detail}" if detail else "") + (f" ({note})" if note else "")


def _duration(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds >= 0.9995 else f"{seconds * 1000:.3g} ms"


def _number(os_error: object) -> int | None:
    """The errno of what was given as operating system error: an exception, a bare number, or else."""
    found = getattr(os_error, "errno", os_error)
    return found if isinstance(found, int) else None


def _remake(
    cls: type[OSError],
    args: tuple[object, ...],
    number: int | None,
    text: str | None,
    state: dict[str, object],
) -> OSError:
    # Why: unpickling an exception calls its class with `args`; constructors with keywords of their own
    # would lose them, and OSError's would rewrite `args`.
    made = cls.__new__(cls)
    made.args = args
    made.errno = number
    made.strerror = text
    made.__dict__.update(state)
    return made


def _reduce(exc: OSError) -> tuple[object, ...]:
    return _remake, (type(exc), exc.args, exc.errno, exc.strerror, dict(exc.__dict__))


# --- listening ---------------------------------------------------------------------------------------


class BindError(OSError):
    """A socket could not be bound to its local address.

    Args:   args: anything to say about it.
            osError: the operating system's exception; its errno is taken over.
    """

    MESSAGE = "could not bind to an interface"

    def __init__(self, *args: object, osError: object = None) -> None:
        Exception.__init__(self, *args)
        self.osError = osError
        self.errno = _number(osError)
        self.strerror = getattr(osError, "strerror", None)

    def __str__(self) -> str:
        return _sentence(self.MESSAGE, self.args, errno_name(self.errno))

    def __reduce__(self) -> tuple[object, ...]:
        return _reduce(self)


class CannotListenError(BindError):
    """Raised by `startListening` and `listenTCP` when the port cannot be had.

    Args:   interface: as the user gave it, "" for any.
            port: the number asked for.
            socketError: what the operating system said; kept as `socketError` and `osError`.
    """

    MESSAGE = "cannot listen"

    def __init__(self, interface: object, port: object, socketError: object) -> None:
        super().__init__(interface, port, socketError, osError=socketError)
        self.interface = interface
        self.port = port
        self.socketError = socketError

    def __str__(self) -> str:
        said = self.strerror or self.socketError
        place = f"[{self.interface}]" if ":" in str(self.interface) else self.interface or "any interface"
        return _sentence(f"{self.MESSAGE} on {place}:{self.port}", (said,), errno_name(self.errno))


# --- connecting --------------------------------------------------------------------------------------


class ConnectError(OSError):
    """A connection could not be made. The root of every reason of `clientConnectionFailed`.

    `attempts` lists each address tried, `phase` is the one that failed ("resolving" or "connecting"),
    `elapsed` gives the seconds spent in each; the engine sets them, and `str()` tells them.

    Args:   osError: the operating system's exception or errno.
            string: anything to say about it.
    Source: twisted.internet.error.ConnectError; OSError.
    """

    MESSAGE = "could not connect"

    def __init__(self, osError: object = None, string: object = "") -> None:
        Exception.__init__(self, string)
        self.osError = osError
        self.errno = _number(osError)
        self.strerror = getattr(osError, "strerror", None)
        self.attempts: tuple[Attempt, ...] = ()
        # The serial number under which lifecycle events tell of the attempt.
        self.connection: int | None = None
        self.phase: str | None = None
        self.elapsed: dict[str, float] = {}

    def __str__(self) -> str:
        said = list(self.args)
        if self.osError is not None and self.errno is None:
            said.insert(0, self.osError)
        elif self.errno is not None and self.errno in errnoMapping and said == [os.strerror(self.errno)]:
            said = []  # Why: "refused: Connection refused (ECONNREFUSED)" says it three times.
        return _sentence(self.MESSAGE, tuple(said), errno_name(self.errno)) + self._story()

    def _story(self) -> str:
        """What was tried, in brackets; empty when the engine noted nothing."""
        parts = []
        if self.phase is not None:
            parts.append(f"while {self.phase}")
        if self.elapsed:
            parts.append(
                ", ".join(f"{phase} took {_duration(spent)}" for phase, spent in self.elapsed.items())
            )
        if self.attempts:
            tried = (
                f"{a.address}: {errno_name(a.errno) or a.error} after {_duration(a.seconds)}"
                for a in self.attempts
            )
            parts.append("tried " + ", ".join(tried))
        return f" [{'; '.join(parts)}]" if parts else ""

    def __reduce__(self) -> tuple[object, ...]:
        return _reduce(self)


class ConnectBindError(ConnectError):
    """The local end (`bindAddress`) could not be bound, or no socket could be made."""

    MESSAGE = "could not make or bind the local socket"


class UnknownHostError(ConnectError):
    """What `getConnectError` makes of a failed look-up; look-ups of the engine give DNSLookupError."""

    MESSAGE = "the host's name could not be looked up"


class DNSLookupError(ConnectError, socket.gaierror):
    """A name could not be turned into an address. `errno` is an EAI code here, as in socket.gaierror.

    Args:   args: anything to say about it.
            osError: the resolver's exception.
            temporary: whether the look-up failed, rather than the name: True means that no answer was
                had, so the name may well exist and asking later may help; False means that the answer
                was "no such name" or "no address of that family", or that the name is malformed.
    """

    MESSAGE = "name look-up failed"

    def __init__(self, *args: object, osError: object = None, temporary: bool = False) -> None:
        super().__init__(osError)
        self.args = args
        self.temporary = temporary

    def __str__(self) -> str:
        known = eai_names.get(self.errno) if isinstance(self.osError, socket.gaierror) else None
        return _sentence(self.MESSAGE, self.args, known or errno_name(self.errno)) + self._story()


class NoRouteError(ConnectError):
    """No way to that network or host (ENETUNREACH, EHOSTUNREACH)."""

    MESSAGE = "no route to the host"


class ConnectionRefusedError(ConnectError, builtins.ConnectionRefusedError):
    """The host is there, but nothing listens on that port (ECONNREFUSED)."""

    MESSAGE = "the other side refused the connection"


class TCPTimedOutError(ConnectError, builtins.TimeoutError):
    """The operating system gave up on an attempt (ETIMEDOUT). Our own deadline gives TimeoutError."""

    MESSAGE = "the operating system gave up connecting"


class BadFileError(ConnectError):
    """The file named for a UNIX socket cannot be used."""

    MESSAGE = "the file is no usable UNIX socket"


class ServiceNameUnknownError(ConnectError):
    """Raised by `connectTCP` for a service name that the system does not know."""

    MESSAGE = "unknown service name given as port"


class UserError(ConnectError):
    """The attempt was given up by the user: `stopConnecting`, `disconnect`."""

    MESSAGE = "connecting was stopped by the user"


class TimeoutError(UserError, builtins.TimeoutError):
    """The `timeout` given to `connectTCP` ran out; `.phase` tells where."""

    MESSAGE = "connecting took longer than its timeout"


class SSLError(ConnectError):
    """The TLS side of a connection could not be set up."""

    MESSAGE = "TLS failed"


# Source: connect(2), ip(7). EHOSTUNREACH is ours: Twisted leaves it a plain ConnectError.
errnoMapping: dict[int | None, type[ConnectError]] = {
    errno.ENETUNREACH: NoRouteError,
    errno.EHOSTUNREACH: NoRouteError,
    errno.ECONNREFUSED: ConnectionRefusedError,
    errno.ETIMEDOUT: TCPTimedOutError,
}

eai_names: dict[int | None, str] = {
    value: name for name, value in vars(socket).items() if name.startswith("EAI_") and isinstance(value, int)
}

# Source: getaddrinfo(3); EAI_NODATA and EAI_ADDRFAMILY are not everywhere. With these the answer came and
# was "no"; any other code says that it did not come.
answered_no = frozenset(
    getattr(socket, name)
    for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY", "EAI_SERVICE", "EAI_FAMILY", "EAI_SOCKTYPE")
    if hasattr(socket, name)
)


def getConnectError(e: BaseException | tuple[int, str]) -> ConnectError:
    """The connect error for what the operating system said.

    Args:     e: an OSError, or a pair (errno, text); anything else becomes the text of a ConnectError.
    Returns:  a new exception with errno, `osError` (the number, as in Twisted) and `__cause__` set to e.
    Source:   twisted.internet.error.getConnectError; unlike there, EHOSTUNREACH is a NoRouteError.
    """
    args = e.args if isinstance(e, BaseException) else e
    if len(args) == 2:
        number, text = args
        kind = UnknownHostError if isinstance(e, socket.gaierror) else errnoMapping.get(number, ConnectError)
        made = kind(number, text)
        made.strerror = safe_text(text)
    else:
        made = ConnectError(string=e)
    if isinstance(e, BaseException):
        made.__cause__ = e
    return made


def getLookupError(e: BaseException | None, name: object) -> DNSLookupError:
    """The error for a look-up of `name` that gave `e`, or that gave no address (None).

    Returns:  a new exception whose `temporary` follows the EAI code, `__cause__` being e.
    Source:   getaddrinfo(3). EAI_SYSTEM reaches Python as a plain OSError. Whatever a resolver raises, the
              name was not judged and that counts as temporary, except that UnicodeError and ValueError
              mean that no server could know such a name.
    """
    if e is None:
        return DNSLookupError(f"{name!r} has no usable address")
    said = safe_text(getattr(e, "strerror", None) or e) or type(e).__name__
    answered = e.errno in answered_no if isinstance(e, socket.gaierror) else isinstance(e, ValueError)
    made = DNSLookupError(f"{name!r}: {said}", osError=e, temporary=not answered)
    made.__cause__ = e
    return made


# --- connections that ended --------------------------------------------------------------------------


class ConnectionClosed(builtins.ConnectionError):
    """A connection is over, cleanly or not. The root of every reason of `connectionLost`.

    Args:   args: anything to say about it.
            osError: the operating system's exception, if that was the reason; it becomes `__cause__`
                and its errno is taken over.
            ended: who ended the connection, after how long and how many bytes.
    Source: twisted.internet.error.ConnectionClosed.
    """

    MESSAGE = "the connection was closed"

    def __init__(self, *args: object, osError: object = None, ended: Ended | None = None) -> None:
        Exception.__init__(self, *args)
        self.osError = osError
        self.ended = ended
        if osError is not None:
            # hot: most connections end without an error (benchmarks/ churn).
            self.errno = _number(osError)
            self.strerror = getattr(osError, "strerror", None)
            if isinstance(osError, BaseException):
                self.__cause__ = osError

    def __str__(self) -> str:
        said = self.args or (self.strerror or self.osError,)
        return _sentence(self.MESSAGE, said, errno_name(self.errno))

    def __reduce__(self) -> tuple[object, ...]:
        return _reduce(self)


class ConnectionDone(ConnectionClosed):
    """The connection ended cleanly."""

    MESSAGE = "the connection was closed cleanly"


class ConnectionLost(ConnectionClosed):
    """The connection ended, and not cleanly: data may be missing."""

    MESSAGE = "the connection was lost"


class ConnectionAborted(ConnectionLost, builtins.ConnectionAbortedError):
    """The connection was ended by `abortConnection` on this side."""

    MESSAGE = "the connection was aborted on this side"


class ConnectionFdescWentAway(ConnectionLost):
    """The connection's descriptor was closed by somebody else."""

    MESSAGE = "the connection's descriptor went away"


# --- calls made in the wrong state -------------------------------------------------------------------


class AlreadyCalled(ValueError):
    """A DelayedCall was cancelled or moved after it had run."""

    def __str__(self) -> str:
        return _sentence("the call has already been made", self.args)


class AlreadyCancelled(ValueError):
    """A DelayedCall was cancelled or moved after it had been cancelled."""

    def __str__(self) -> str:
        return _sentence("the call has already been cancelled", self.args)


class NotConnectingError(RuntimeError):
    """`stopConnecting` was called while the connector was not connecting."""

    def __str__(self) -> str:
        return _sentence("the connector is not connecting", self.args)


class NotListeningError(RuntimeError):
    """`stopListening` was called while the port was not listening."""

    def __str__(self) -> str:
        return _sentence("the port is not listening", self.args)


class ReactorNotRunning(RuntimeError):
    """`stop` was called on a reactor that does not run."""


class ReactorAlreadyRunning(RuntimeError):
    """`run` was called on a reactor that runs."""


class ConnectingCancelledError(Exception):
    """An awaited connect was cancelled before it connected.

    Args:   address: where it was going.
    """

    def __init__(self, address: object) -> None:
        super().__init__(address)
        self.address: Any = address


class NoProtocol(Exception):
    """The factory's `buildProtocol` returned None to somebody who waits for a protocol."""


class UnsupportedAddressFamily(Exception):
    """The reactor cannot work with a socket of this address family."""


class UnsupportedSocketType(Exception):
    """The reactor cannot work with a socket of this type."""


def wrong_thread(asked: str, owner: int) -> RuntimeError:
    """The error for a call, by its name, that was made in this thread while the reactor runs in thread `owner`."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    mine = threading.get_ident()
    return RuntimeError(
        f"{asked}: called from thread {names.get(mine, '?')!r} ({mine}), but the reactor runs in "
        f"thread {names.get(owner, '?')!r} ({owner}); use reactor.callFromThread"
    )
