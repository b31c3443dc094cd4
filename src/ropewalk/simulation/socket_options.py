"""The options of a simulated socket: which there are, what they start as, and how Linux reads back what was set.

Most options only have to be remembered. Those that change what happens are plain attributes or properties: the buffers'
sizes, SO_LINGER, reuse of addresses, keep-alive and the user timeout. An accepted socket gets a copy of its listener's.

It must never know connections. Source: socket(7), tcp(7), ipv6(7); that sizes are doubled is in socket(7), SO_RCVBUF.
"""

from __future__ import annotations

import errno
import socket
import struct

from ropewalk.simulation.faults import kernel_error

# Bytes. Source: tcp_rmem's default on Linux. The send buffer, which Linux tunes by itself between 16 KiB and 4 MiB, has
# the same fixed size here, so that a buffer that fills is met by every test with some hundred KiB.
DEFAULT_CAPACITY = 131_072
# Source: Linux include/net/sock.h, SOCK_MIN_SNDBUF and SOCK_MIN_RCVBUF on a 64-bit machine.
_SMALLEST_SEND = 4608
_SMALLEST_RECEIVE = 2304

_SOL, _TCP = socket.SOL_SOCKET, socket.IPPROTO_TCP
_LINGER = struct.Struct("ii")
_ON_OFF = {
    (_SOL, socket.SO_REUSEADDR),
    (_SOL, socket.SO_KEEPALIVE),
    (_SOL, socket.SO_BROADCAST),
    (_SOL, socket.SO_OOBINLINE),
    (_SOL, getattr(socket, "SO_REUSEPORT", 15)),
    (_TCP, socket.TCP_NODELAY),
    (_TCP, getattr(socket, "TCP_CORK", 3)),
    (_TCP, getattr(socket, "TCP_QUICKACK", 12)),
    (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
    (socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)),
}
_KEEP_IDLE = (_TCP, getattr(socket, "TCP_KEEPIDLE", 4))
_KEEP_INTERVAL = (_TCP, getattr(socket, "TCP_KEEPINTVL", 5))
_KEEP_COUNT = (_TCP, getattr(socket, "TCP_KEEPCNT", 6))
_USER_TIMEOUT = (_TCP, getattr(socket, "TCP_USER_TIMEOUT", 18))
_START: dict[tuple[int, int], int] = {
    **dict.fromkeys(_ON_OFF, 0),
    (_TCP, getattr(socket, "TCP_QUICKACK", 12)): 1,
    # Source: tcp(7): tcp_keepalive_time, tcp_keepalive_intvl, tcp_keepalive_probes.
    _KEEP_IDLE: 7200,
    _KEEP_INTERVAL: 75,
    _KEEP_COUNT: 9,
    _USER_TIMEOUT: 0,
    (_TCP, getattr(socket, "TCP_MAXSEG", 2)): 1460,
    (_SOL, socket.SO_PRIORITY if hasattr(socket, "SO_PRIORITY") else 12): 0,
    (_SOL, getattr(socket, "SO_MARK", 36)): 0,
    (socket.IPPROTO_IP, socket.IP_TOS): 0,
    (socket.IPPROTO_IPV6, getattr(socket, "IPV6_TCLASS", 67)): 0,
}
_NOT_TO_BE_SET = {
    (_SOL, socket.SO_ERROR),
    (_SOL, socket.SO_TYPE),
    (_SOL, getattr(socket, "SO_ACCEPTCONN", 30)),
}


class SocketOptions:
    """All options of one socket."""

    __slots__ = (
        "_linger",
        "_values",
        "receive_capacity",
        "reported_receive",
        "reported_send",
        "send_capacity",
    )

    def __init__(self) -> None:
        # Why empty: most sockets set one or two; what is not here is as in `_START`.
        self._values: dict[tuple[int, int], int] = {}
        self._linger = (0, 0)
        self.send_capacity = self.reported_send = DEFAULT_CAPACITY
        self.receive_capacity = self.reported_receive = DEFAULT_CAPACITY

    def copy(self) -> SocketOptions:
        """The options of a socket accepted from one with these."""
        twin = SocketOptions()
        twin._values = dict(self._values)
        twin._linger = self._linger
        twin.send_capacity, twin.reported_send = self.send_capacity, self.reported_send
        twin.receive_capacity, twin.reported_receive = self.receive_capacity, self.reported_receive
        return twin

    def set(self, level: int, option: int, value: int | bytes) -> None:
        """Raises: OSError (ENOPROTOOPT, EINVAL); TypeError."""
        key = (level, option)
        if key == (_SOL, socket.SO_LINGER):
            if not isinstance(value, (bytes, bytearray)) or len(value) < _LINGER.size:
                raise kernel_error(errno.EINVAL)
            on, seconds = _LINGER.unpack_from(value)
            self._linger = (int(bool(on)), seconds)
            return
        number = int.from_bytes(value[:4], "little") if isinstance(value, (bytes, bytearray)) else int(value)
        if key == (_SOL, socket.SO_SNDBUF):
            self.reported_send = max(2 * number, _SMALLEST_SEND)
            self.send_capacity = self.reported_send // 2
        elif key == (_SOL, socket.SO_RCVBUF):
            self.reported_receive = max(2 * number, _SMALLEST_RECEIVE)
            self.receive_capacity = self.reported_receive // 2
        elif key not in _START or key in _NOT_TO_BE_SET:
            raise kernel_error(errno.ENOPROTOOPT)
        elif key in (_KEEP_IDLE, _KEEP_INTERVAL, _KEEP_COUNT) and number < 1:
            raise kernel_error(errno.EINVAL)
        else:
            self._values[key] = int(bool(number)) if key in _ON_OFF else number

    def get(self, level: int, option: int, size: int = 0) -> int | bytes:
        """Raises: OSError (ENOPROTOOPT)."""
        key = (level, option)
        if key == (_SOL, socket.SO_LINGER):
            on, seconds = self._linger
            return _LINGER.pack(on, seconds)[:size] if size else on
        if key == (_SOL, socket.SO_SNDBUF):
            number = self.reported_send
        elif key == (_SOL, socket.SO_RCVBUF):
            number = self.reported_receive
        elif key in _START:
            number = self._values.get(key, _START[key])
        else:
            raise kernel_error(errno.ENOPROTOOPT)
        return number.to_bytes(4, "little")[:size] if size else number

    # ---- what changes what happens ----------------------------------------------------------------------------

    def _is_on(self, level: int, option: int) -> bool:
        return bool(self._values.get((level, option)))

    @property
    def lingers_zero(self) -> bool:
        """Whether closing resets the connection."""
        return self._linger == (1, 0)

    @property
    def reuses_address(self) -> bool:
        return self._is_on(_SOL, socket.SO_REUSEADDR)

    @property
    def reuses_port(self) -> bool:
        return self._is_on(_SOL, getattr(socket, "SO_REUSEPORT", 15))

    @property
    def is_ipv6_only(self) -> bool:
        return self._is_on(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)

    @property
    def binds_without_port(self) -> bool:
        return self._is_on(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24))

    @property
    def keep_alive(self) -> tuple[int, int, int] | None:
        """(idle, interval, count); None if it is off."""
        if not self._is_on(_SOL, socket.SO_KEEPALIVE):
            return None
        idle, interval, count = (
            self._values.get(k, _START[k]) for k in (_KEEP_IDLE, _KEEP_INTERVAL, _KEEP_COUNT)
        )
        return idle, interval, count

    @property
    def user_timeout(self) -> float:
        """Seconds; 0 if it is off."""
        return self._values.get(_USER_TIMEOUT, 0) / 1000
