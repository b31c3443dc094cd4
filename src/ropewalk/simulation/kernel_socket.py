"""A simulated stream socket: the calls of Python's `socket`, answered by the simulated kernel.

Only what the engine and its users' handles need: bind, listen, connect_ex, accept (through the system), recv, send,
sendmsg, shutdown, close, names and options. A new one is blocking, as from Python, and of no use until it is told
otherwise. Errors are raised with the errno and the exception class that the real one has.

A socket is first nothing, then either a listener or one end of a connection; which of the two it is, is all that is
decided here. Each call passes the faults on order first, and leaves a row in the trace.

It must never know time or packets. Sources: socket(2), bind(2), listen(2), connect(2), accept(2), shutdown(2); Linux
net/ipv4/af_inet.c, __inet_stream_connect, for what a second connect answers.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ropewalk.simulation.addresses import parse, show
from ropewalk.simulation.endpoint import ERR, HUP, IN, OUT, Endpoint
from ropewalk.simulation.faults import kernel_error
from ropewalk.simulation.listening import Listener
from ropewalk.simulation.ports import ANY_IPV4, ANY_IPV6, Binding
from ropewalk.simulation.socket_options import SocketOptions
from ropewalk.simulation.tcp_states import OVER, TcpState
from ropewalk.simulation.watching import Watched
from ropewalk.simulation.world import SimulationError

if TYPE_CHECKING:
    from ropewalk.simulation.host import Host

# Source: Linux UIO_MAXIOV, limits.h IOV_MAX.
IOV_MAX = 1024


class Phase(StrEnum):
    """What connect(2) remembers beside the state of the connection (SS_UNCONNECTED …)."""

    UNCONNECTED = "unconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"


class SimulatedSocket:
    """A non-blocking TCP socket of a simulated host."""

    __slots__ = (
        "_binding",
        "_endpoint",
        "_fd",
        "_host",
        "_is_blocking",
        "_listener",
        "_local",
        "_options",
        "_phase",
        "_scope",
        "family",
        "proto",
        "type",
        "watched",
    )

    def __init__(self, host: Host, family: int, endpoint: Endpoint | None = None) -> None:
        self._host = host
        self.family = family
        self.type = socket.SOCK_STREAM
        self.proto = socket.IPPROTO_TCP
        self._options = SocketOptions() if endpoint is None else endpoint.options
        self._binding: Binding | None = None
        # The address bound to while no port is held (IP_BIND_ADDRESS_NO_PORT).
        self._local: str | None = None
        self._scope = 0
        self._listener: Listener | None = None
        self._endpoint = endpoint
        self._phase = Phase.UNCONNECTED if endpoint is None else Phase.CONNECTED
        self._is_blocking = endpoint is None
        self._fd = host.descriptors.add(self)
        self.watched = Watched(self._fd)
        if endpoint is not None:
            endpoint.owner = self

    # ---- the descriptor ---------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The descriptor's number; -1 once closed or detached."""
        return self._fd

    def setblocking(self, flag: bool) -> None:
        self._is_blocking = flag

    def gettimeout(self) -> float | None:
        return None if self._is_blocking else 0.0

    def check_not_blocking(self, call: str) -> None:
        """Raises: SimulationError for a call that could wait: it would stop the only thread there is, for ever."""
        if self._is_blocking:
            raise SimulationError(f"{call} on {self!r}, which is blocking; call setblocking(False) first")

    def detach(self) -> int:
        """Give the number away; the kernel's socket stays open under it."""
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        """Give everything back to the kernel; twice is fine."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        self._host.world.record(self._host.number, "close", fd)
        if self.watched.leave():
            self._host.misdeeds.append(f"{self.describe()}, {fd}: closed while a poller had it")
        self._host.descriptors.remove(fd)
        if self._listener is not None:
            self._host.stack.unlisten(self._listener)
            self._listener = None
        endpoint = self._endpoint
        if endpoint is not None:
            endpoint.close()
        self._release_port()

    def vanish(self) -> None:
        """Its machine has crashed. What became of its connection is the stack's business."""
        self._fd = -1
        self._binding = self._listener = self._endpoint = None

    def changed(self) -> None:
        self.watched.changed()

    def readiness(self) -> int:
        """The bits a poller would report if all were asked for. Source: tcp_poll; a new socket is OUT and HUP."""
        if self._listener is not None:
            return IN if self._listener.readiness() else 0
        if self._endpoint is None:
            return OUT | HUP
        return self._endpoint.readiness()

    def describe(self) -> str:
        if self._listener is not None:
            return f"listener {self._listener.binding.address}:{self._listener.binding.port}"
        if self._endpoint is not None:
            return repr(self._endpoint)[10:-1]
        return "socket"

    def __repr__(self) -> str:
        return f"<SimulatedSocket {self._fd} on {self._host.name}: {self.describe()}>"

    def _enter(self, call: str) -> None:
        if self._fd < 0:
            raise kernel_error(errno.EBADF)
        self.watched.unanswered = 0
        self._host.faults.enter(call, self)

    # ---- names ------------------------------------------------------------------------------------------------

    def bind(self, sockaddr: Any) -> None:
        self._enter("bind")
        (address, port), self._scope = parse("bind", self.family, sockaddr)
        if self._binding is not None or self._local is not None or self._endpoint is not None:
            raise kernel_error(errno.EINVAL)
        host = self._host
        host.stack.check_own(address)
        if port == 0 and self._options.binds_without_port:
            self._local = address
        else:
            self._binding = host.stack.ports.bind(address, port, self._options)
        host.world.record(host.number, "bind", self._fd, address, port)

    def getsockname(self) -> tuple[Any, ...]:
        self._enter("getsockname")
        if self._endpoint is not None and (self._endpoint.state not in OVER or self._binding is None):
            return show(self.family, self._endpoint.local, self._endpoint.scope)
        if self._binding is not None:
            return show(self.family, (self._binding.address, self._binding.port), self._scope)
        nowhere = ANY_IPV6 if self.family == socket.AF_INET6 else ANY_IPV4
        return show(self.family, (self._local or nowhere, 0))

    def getpeername(self) -> tuple[Any, ...]:
        self._enter("getpeername")
        endpoint = self._endpoint
        if endpoint is None or endpoint.state in OVER or endpoint.state is TcpState.SYN_SENT:
            raise kernel_error(errno.ENOTCONN)
        return show(self.family, endpoint.remote, endpoint.scope)

    # ---- listening --------------------------------------------------------------------------------------------

    def listen(self, backlog: int = 128) -> None:
        self._enter("listen")
        host = self._host
        if self._endpoint is not None and self._endpoint.state not in OVER:
            raise kernel_error(errno.EINVAL)
        if self._listener is None:
            binding = self._binding or self._bind_anywhere()
            listener = Listener(host.stack, self, binding, self.family, self._options)
            host.stack.listen(listener)
            self._listener = listener
        # Source: listen(2): above somaxconn it is cut; Linux takes a negative one for the most there can be.
        self._listener.backlog = min(backlog, host.system.backlog) if backlog >= 0 else host.system.backlog
        host.world.record(host.number, "listen", self._fd, backlog)
        self.changed()

    def accept_next(self) -> Endpoint:
        """The connection that has waited longest.

        Raises: OSError (EINVAL) unless listening, BlockingIOError if none waits.
        """
        if self._listener is None:
            raise kernel_error(errno.EINVAL)
        child = self._listener.next()
        if child is None:
            raise kernel_error(errno.EAGAIN)
        return child

    def abort_next(self) -> None:
        """What an error of accept that belongs to the connection does: it is gone from the queue."""
        child = self._listener.next() if self._listener is not None else None
        if child is not None:
            child.abort()

    def _bind_anywhere(self) -> Binding:
        nowhere = self._local or (ANY_IPV6 if self.family == socket.AF_INET6 else ANY_IPV4)
        self._binding = self._host.stack.ports.bind(nowhere, 0, self._options)
        return self._binding

    # ---- connecting -------------------------------------------------------------------------------------------

    def connect_ex(self, sockaddr: Any) -> int:
        """Start to connect, or tell how it went; an errno, 0 for connected."""
        self.check_not_blocking("connect")
        try:
            self._enter("connect")
            target, scope = parse("connect", self.family, sockaddr)
            return self._connect(target, scope)
        except OSError as refusal:
            if refusal.errno == errno.EINTR and self._endpoint is None:
                # Source: connect(2): interrupted, it goes on in the background.
                target, scope = parse("connect", self.family, sockaddr)
                self._connect(target, scope)
            if isinstance(refusal, socket.gaierror):
                raise
            return refusal.errno or errno.EIO

    def _connect(self, target: tuple[str, int], scope: int) -> int:
        """Source: __inet_stream_connect."""
        endpoint = self._endpoint
        if self._phase is Phase.CONNECTED or self._listener is not None:
            return errno.EISCONN
        if self._phase is Phase.CONNECTING and endpoint is not None:
            if endpoint.state is TcpState.SYN_SENT:
                return errno.EALREADY
            if endpoint.state is TcpState.CLOSED:
                self._phase = Phase.UNCONNECTED
                error = endpoint.take_error() or errno.ECONNABORTED
                self._endpoint = None
                self.changed()
                return error
            self._phase = Phase.CONNECTED
            return 0
        host = self._host
        local = self._binding.address if self._binding is not None else self._local
        endpoint = host.stack.connect(local, self._binding, target, self._options)
        endpoint.owner = self
        endpoint.scope = scope
        self._endpoint = endpoint
        self._phase = Phase.CONNECTING
        host.world.record(host.number, "connect", self._fd, *target)
        self.changed()
        return errno.EINPROGRESS

    # ---- bytes ------------------------------------------------------------------------------------------------

    def recv(self, size: int, flags: int = 0) -> bytes:
        # hot: every message.
        self._enter("recv")
        host = self._host
        if self._endpoint is None:
            raise kernel_error(errno.ENOTCONN)
        data = self._endpoint.recv(host.faults.allowance("recv", size))
        host.world.record(host.number, "recv", self._fd, len(data))
        return data

    def send(self, data: bytes | bytearray | memoryview, flags: int = 0) -> int:
        # hot: every message.
        self._enter("send")
        return self._send("send", data)

    def sendmsg(self, buffers: Iterable[bytes | bytearray | memoryview]) -> int:
        self._enter("sendmsg")
        parts = list(buffers)
        if len(parts) > IOV_MAX:
            raise kernel_error(errno.EMSGSIZE)
        return self._send("sendmsg", b"".join(parts))

    def _send(self, call: str, data: bytes | bytearray | memoryview) -> int:
        host = self._host
        if self._endpoint is None:
            raise kernel_error(errno.EPIPE)
        allowed = host.faults.allowance(call, len(data))
        size = self._endpoint.send(bytes(data) if allowed == len(data) else bytes(data[:allowed]))
        host.world.record(host.number, call, self._fd, size)
        return size

    def shutdown(self, how: int) -> None:
        self._enter("shutdown")
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise kernel_error(errno.EINVAL)
        self._host.world.record(self._host.number, "shutdown", self._fd, how)
        if self._listener is not None:
            if how != socket.SHUT_WR:
                # Why: Linux takes the listener back to an unconnected socket, still bound (FAULTS F12).
                self._host.stack.unlisten(self._listener)
                self._listener = None
                self.changed()
        elif self._endpoint is None:
            raise kernel_error(errno.ENOTCONN)
        else:
            self._endpoint.shutdown(how != socket.SHUT_WR, how != socket.SHUT_RD)

    # ---- options ----------------------------------------------------------------------------------------------

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        self._enter("setsockopt")
        self._options.set(level, option, value)
        if self._endpoint is not None:
            self._endpoint.mind_the_path()

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        self._enter("getsockopt")
        if level == socket.SOL_SOCKET:
            if option == socket.SO_ERROR:
                return self._take_error()
            if option == socket.SO_TYPE:
                return int(self.type)
            if option == getattr(socket, "SO_ACCEPTCONN", 30):
                return int(self._listener is not None)
        return self._options.get(level, option, size)

    def _take_error(self) -> int:
        error = 0 if self._endpoint is None else self._endpoint.take_error()
        if error:
            self._host.world.record(self._host.number, "error", self._fd, error)
        return error

    # ---- the end ----------------------------------------------------------------------------------------------

    def _release_port(self) -> None:
        """A port held by bind is given back, unless a connection took it over."""
        binding, self._binding = self._binding, None
        if binding is not None and self._endpoint is None:
            self._host.stack.ports.release(binding)

    @property
    def endpoint(self) -> Endpoint | None:
        """The end of a connection that this socket is; for the simulation, not for programs."""
        return self._endpoint


__all__ = ["ERR", "HUP", "IN", "IOV_MAX", "OUT", "SimulatedSocket"]
