"""One end of a simulated TCP connection: its buffers, its state, and what a packet does to them.

The answers to a program's calls are those of Linux, in the order in which its code decides: what `recv` prefers when there
is data, a FIN and an error at once is not a matter of taste, it is what the engine above has to live with. Each claim is
checked against the real kernel in tests/contract/test_kernel.py.

An endpoint whose socket was closed is an *orphan*: it still sends what waits and its FIN, and answers further data with a
reset. It must never know descriptors or pollers: it tells its owner that something changed, and no more.

Sources: Linux 6.x net/ipv4/tcp.c (tcp_poll, tcp_recvmsg_locked, tcp_sendmsg_locked, __tcp_close, tcp_done), tcp_input.c
(tcp_reset, tcp_fin, tcp_rcv_state_process); RFC 9293; FAULTS section 1.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Protocol

from ropewalk.simulation.buffers import ReceiveBuffer, SendBuffer
from ropewalk.simulation.faults import kernel_error
from ropewalk.simulation.network import ACK, DATA, FIN, OPEN, RST, Wire
from ropewalk.simulation.socket_options import SocketOptions
from ropewalk.simulation.tcp_states import OVER, SENDING, TCP, TcpEvent, TcpState

if TYPE_CHECKING:
    from ropewalk.simulation.handshake import Handshake
    from ropewalk.simulation.listening import Listener
    from ropewalk.simulation.ports import Binding
    from ropewalk.simulation.stack import Stack

IN, OUT, ERR, HUP = 1, 4, 8, 16
"""As in `_loop.poller`, whose numbers are the kernel's."""

Name = tuple[str, int]
"""An address without `%scope`, and a port."""

# Seconds. Source: tcp(7), tcp_fin_timeout, and the fixed TCP_TIMEWAIT_LEN of Linux; both 60.
_FIN_WAIT = 60.0
TIME_WAIT = 60.0
_NEED_RESET = (
    TcpState.ESTABLISHED,
    TcpState.SYN_RECEIVED,
    TcpState.CLOSE_WAIT,
    TcpState.FIN_WAIT_1,
    TcpState.FIN_WAIT_2,
)


class Owner(Protocol):
    """Whoever holds an endpoint: a socket."""

    def changed(self) -> None:
        """Something happened that may make it ready."""


class Endpoint:
    """One end of a connection."""

    __slots__ = (
        "_error",
        "_fin_is_sent",
        "_received",
        "_unsent",
        "binding",
        "bytes_received",
        "bytes_sent",
        "fin_came",
        "handshake",
        "last_heard",
        "listener",
        "local",
        "number",
        "options",
        "owner",
        "peer",
        "remote",
        "reset_at",
        "scope",
        "shut_read",
        "shut_write",
        "stack",
        "state",
        "wire",
    )

    def __init__(self, stack: Stack, local: Name, remote: Name, options: SocketOptions) -> None:
        self.stack = stack
        self.number = stack.next_number()
        self.local = local
        self.remote = remote
        self.scope = 0
        self.options = options
        self.state = TcpState.CLOSED
        self.owner: Owner | None = None
        self.handshake: Handshake | None = None
        self.listener: Listener | None = None
        self.binding: Binding | None = None
        self.peer: Endpoint | None = None
        self.wire: Wire | None = None
        self.shut_read = False
        self.shut_write = False
        self.fin_came = False
        self.last_heard = 0.0
        # When an RST came; None if none did.
        self.reset_at: float | None = None
        self.bytes_received = 0
        self.bytes_sent = 0
        self._error = 0
        self._fin_is_sent = False
        self._unsent = SendBuffer()
        self._received = ReceiveBuffer()

    # ---- the handshake ----------------------------------------------------------------------------------------

    def meet(self, peer: Endpoint) -> None:
        """Learn who the other end is; from now on packets go there."""
        self.peer = peer
        self._unsent.credit = peer.options.receive_capacity
        self.last_heard = self.stack.world.now
        path = self.stack.network.path(self.stack.host, peer.stack.host)
        self.wire = Wire(self.stack.world, path, self, peer)

    def opened(self) -> None:
        self._step(TcpEvent.OPENED)
        self._end_handshake()
        self.mind_the_path()
        self.changed()

    def mind_the_path(self) -> None:
        """If the path is cut already, begin to count. Called when it is established, and when a time-out is set."""
        if self.wire is not None and self.wire.is_cut:
            self.stack.worry(self)

    # ---- what a program does ----------------------------------------------------------------------------------

    def readiness(self) -> int:
        """The bits that a poller would report. Source: tcp_poll."""
        bits = ERR if self._error else 0
        if self.state in OVER or (self.shut_read and self.shut_write):
            bits |= HUP
        if self.state is not TcpState.SYN_SENT:
            if self._received.size:
                bits |= IN
            if self.shut_write or self._is_roomy():
                bits |= OUT
        return bits | IN if self.shut_read else bits

    def take_error(self) -> int:
        """SO_ERROR: reading it clears it."""
        error, self._error = self._error, 0
        return error

    def send(self, data: bytes) -> int:
        """Take what fits; how much it was. Source: tcp_sendmsg_locked."""
        if self.state not in SENDING or self._error or self.shut_write:
            error = self.take_error()
            if not error:
                error = errno.EAGAIN if self.state is TcpState.SYN_SENT else errno.EPIPE
            raise kernel_error(error)
        size = min(len(data), self._unsent.room(self.options.send_capacity))
        if size <= 0:
            if not data:
                return 0
            raise kernel_error(errno.EAGAIN)
        self._unsent.add(data if size == len(data) else data[:size])
        self.bytes_sent += size
        self._push_on()
        return size

    def recv(self, size: int) -> bytes:
        """Give what came, `size` bytes at most; b"" at the end. Source: tcp_recvmsg_locked."""
        if self._received.size:
            data = self._received.take(size)
            credit = self._received.credit_back(self.options.receive_capacity)
            if credit and not self.fin_came and self.state not in OVER:
                self._answer(ACK, (0, credit, False))
            return data
        if self.fin_came:
            return b""
        if self._error:
            raise kernel_error(self.take_error())
        if self.shut_read:
            return b""
        raise kernel_error(errno.ENOTCONN if self.state in OVER else errno.EAGAIN)

    def shutdown(self, read: bool, write: bool) -> None:
        """Source: inet_shutdown, tcp_shutdown."""
        is_over = self.state in OVER
        if self.state is TcpState.SYN_SENT:
            # Source: tcp_disconnect: back to a socket that is nothing, but for the error.
            self.finish(errno.ECONNRESET)
            self.shut_read = self.shut_write = False
            return
        self.shut_read |= read
        if write and not self.shut_write:
            self.shut_write = True
            if not is_over:
                self._queue_fin()
        self.changed()
        if is_over:
            raise kernel_error(errno.ENOTCONN)

    def close(self) -> None:
        """The last descriptor is gone. Source: __tcp_close."""
        self.owner = None
        if self.state in OVER:
            self._received.clear()
            if self.state is TcpState.CLOSED:
                self.stack.forget(self)
        elif self.state is TcpState.SYN_SENT:
            self.finish(0)
        elif self._received.size or self.options.lingers_zero:
            self.abort()
        else:
            self.shut_read = True
            if not self.shut_write:
                self.shut_write = True
                self._queue_fin()
            self._expire_orphan()

    def abort(self) -> None:
        """Reset the connection: the peer is told, what waits is thrown away."""
        if self.state in _NEED_RESET or self._received.size:
            self._answer(RST)
        self._received.clear()
        self.finish(0)

    def vanish(self) -> None:
        """The machine has crashed: nobody is told, neither the program nor the peer."""
        self.owner = None
        self._received.clear()
        if self.wire is not None:
            self.wire.abandon()
        self.finish(0)

    # ---- what a packet does -----------------------------------------------------------------------------------

    def arrive(self, kind: int, payload: Any) -> None:
        # hot: every packet.
        self.last_heard = self.stack.world.now
        if kind == DATA:
            self._data_came(payload)
        elif kind == ACK:
            self._ack_came(*payload)
        elif kind == FIN:
            self._fin_came()
        elif kind == RST:
            self.arrive_reset()
        elif kind == OPEN:
            self._open_came()

    def unheard(self) -> None:
        """Nothing was acknowledged for too long."""
        if self.state not in OVER:
            self.finish(errno.ETIMEDOUT)

    def unanswered(self) -> None:
        """Send again what waits for an acknowledgement, or for room at the peer (a window probe).

        Who knows nothing of the connection any more answers that with a reset.
        """
        wire = self.wire
        if (
            wire is not None
            and self.state not in OVER
            and (self.awaits_answer or not self._unsent.is_empty())
        ):
            wire.insist()

    @property
    def is_reachable(self) -> bool:
        return self.stack.is_up

    @property
    def is_over(self) -> bool:
        return self.state is TcpState.CLOSED

    def finish(self, error: int) -> None:
        """The connection is no more. Source: tcp_done."""
        self._error = error
        self.shut_read = self.shut_write = True
        self._unsent.clear()
        self._step(TcpEvent.DROPPED)
        self._end_handshake()
        self.stack.forget(self)
        self.changed()

    def _data_came(self, data: bytes) -> None:
        if self.state in OVER:
            if self.state is TcpState.CLOSED:
                self._answer(RST)
            return
        if data and self.shut_read and self.state in (TcpState.FIN_WAIT_1, TcpState.FIN_WAIT_2):
            # Why: there is nobody left to read it, so the connection is aborted (RFC 1122 section 4.2.2.13).
            self._answer(RST)
            self.finish(errno.ECONNRESET)
            return
        if not data:
            return  # Safe because: it has come before, and its acknowledgement is on its way.
        self._received.add(data)
        self.bytes_received += len(data)
        self._answer(ACK, (len(data), 0, False))
        self.changed()

    def _ack_came(self, size: int, credit: int, is_fin: bool) -> None:
        if self.state in OVER:
            return
        was_roomy = self._is_roomy()
        self._unsent.in_flight -= size
        self._unsent.credit += credit
        self._push()
        if is_fin:
            self._step(TcpEvent.FIN_ACKED)
            if self.state in OVER:
                self._close_for_good()
            else:
                self._expire_orphan()
        if not was_roomy and self._is_roomy():
            self.changed()

    def _fin_came(self) -> None:
        if self.state in OVER:
            if self.state is TcpState.CLOSED:
                self._answer(RST)
            return
        self.fin_came = self.shut_read = True
        self._step(TcpEvent.FIN_CAME)
        self._answer(ACK, (0, 0, True))
        if self.state in OVER:
            self._close_for_good()
        self.changed()

    def arrive_reset(self) -> None:
        """An RST has come. Source: tcp_reset, for which error it is."""
        if self.state in OVER:
            return
        self.reset_at = self.stack.world.now
        if self.state is TcpState.SYN_SENT:
            self.finish(errno.ECONNREFUSED)
        else:
            self.finish(errno.EPIPE if self.state is TcpState.CLOSE_WAIT else errno.ECONNRESET)

    def _open_came(self) -> None:
        if self.state is TcpState.SYN_RECEIVED and self.listener is not None:
            self._step(TcpEvent.OPENED)
            self.mind_the_path()
            self.listener.admit(self)
        elif self.state is TcpState.CLOSED:
            self._answer(RST)

    # ---- sending ----------------------------------------------------------------------------------------------

    def _push(self) -> None:
        """Send what there is credit for, then the FIN if it is time."""
        unsent = self._unsent
        while data := unsent.next():
            self._answer(DATA, data, len(data))
        if self.shut_write and unsent.is_empty() and not self._fin_is_sent:
            self._fin_is_sent = True
            self._answer(FIN)

    def _push_on(self) -> None:
        """Send, also to a peer that is no more and whose reset was lost."""
        self._push()
        if self.peer is not None and self.peer.state is TcpState.CLOSED:
            self.unanswered()

    def _queue_fin(self) -> None:
        self._step(TcpEvent.FIN_QUEUED)
        self._push_on()

    def _answer(self, kind: int, payload: Any = None, size: int = 0) -> None:
        wire = self.wire
        if wire is not None:
            wire.carry(kind, payload, size)
            if wire.is_cut:
                self.stack.worry(self)

    def _is_roomy(self) -> bool:
        return self._unsent.is_roomy(self.options.send_capacity)

    @property
    def awaits_answer(self) -> bool:
        return self._unsent.in_flight > 0 or (self._fin_is_sent and self.state not in OVER)

    # ---- the end ----------------------------------------------------------------------------------------------

    def _close_for_good(self) -> None:
        """Both sides have said FIN: for the program it is closed, for the kernel perhaps TIME_WAIT."""
        self.shut_read = self.shut_write = True
        if self.state is TcpState.TIME_WAIT:
            self.stack.world.after(TIME_WAIT, self._rested, background=True)
        else:
            self.stack.forget(self)
        self.changed()

    def _rested(self) -> None:
        if self.state is TcpState.TIME_WAIT:
            self._step(TcpEvent.DROPPED)
            self.stack.forget(self)

    def _expire_orphan(self) -> None:
        """A peer that never closes its side does not hold our memory for ever."""
        if self.owner is None and self.state is TcpState.FIN_WAIT_2:
            self.stack.world.after(_FIN_WAIT, self._expired, background=True)

    def _expired(self) -> None:
        if self.state is TcpState.FIN_WAIT_2:
            self.finish(0)

    def _step(self, event: TcpEvent) -> None:
        self.state = TCP[self.state, event]

    def connecting(self, handshake: Handshake) -> None:
        """SYN goes out."""
        self.handshake = handshake
        self._step(TcpEvent.CONNECT)

    def _end_handshake(self) -> None:
        handshake, self.handshake = self.handshake, None
        if handshake is not None:
            handshake.end()

    def answering(self, listener: Listener) -> None:
        """SYN came in."""
        self.listener = listener
        self._step(TcpEvent.SYN_CAME)

    def changed(self) -> None:
        if self.owner is not None:
            self.owner.changed()

    def __repr__(self) -> str:
        return f"<Endpoint {self.local[0]}:{self.local[1]} to {self.remote[0]}:{self.remote[1]} {self.state.value}>"
