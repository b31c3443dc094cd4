"""The ground a claim about sockets stands on: the real kernel's loopback, or the simulated one. Same questions to both.

A claim waits for what must come (`until`), and looks once more for what must not (`never`); both ask the kernel's own
poller, so that in the simulated world waiting is what moves time, and in the real one nothing sleeps longer than it must.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

from ropewalk._loop.poller import ERR, HUP, IN, OUT
from ropewalk._system import RealSystem
from ropewalk.simulation import Simulation

HERE = "127.0.0.1"
LINGER_ZERO = struct.pack("ii", 1, 0)
# Seconds. Why these: the first is only an upper bound, waited for when a claim fails; the second is how long nothing is
# looked at. Loopback delivers within the system call of the sender, unless the machine is very busy.
SOON = 5.0
A_WHILE = 0.02
ALL = IN | OUT


class Ground:
    """One kernel, and the sockets that a claim has made on it."""

    def __init__(self, system: Any) -> None:
        self.system = system
        self._poller = system.poller(None)
        self._sockets: list[Any] = []

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._poller.close()

    # ---- sockets ----------------------------------------------------------------------------------------------

    def socket(self, family: int = socket.AF_INET) -> Any:
        sock = self.system.socket(family)
        sock.setblocking(False)
        self._sockets.append(sock)
        return sock

    def bound(self, address: str = HERE, port: int = 0, reuse: bool = False) -> Any:
        sock = self.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        if reuse:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        return sock

    def listener(self, backlog: int = 16, address: str = HERE, port: int = 0, reuse: bool = False) -> Any:
        sock = self.bound(address, port, reuse)
        sock.listen(backlog)
        return sock

    def connecting(self, listener: Any) -> Any:
        """A socket that has begun to connect to a listener."""
        sock = self.socket(listener.family)
        assert sock.connect_ex(listener.getsockname()) == errno.EINPROGRESS
        return sock

    def accept(self, listener: Any) -> Any:
        self.until(listener, IN)
        sock, _ = self.system.accept(listener)
        self._sockets.append(sock)
        return sock

    def pair(self, listener: Any = None) -> tuple[Any, Any]:
        """A connection: the end that connected, the end that was accepted."""
        if listener is None:
            listener = self.listener()
        ours = self.connecting(listener)
        self.until(ours, OUT)
        assert self.error(ours) == 0
        return ours, self.accept(listener)

    def refused(self) -> Any:
        """A socket whose connect was refused, and that nobody has asked yet."""
        port = self.free_port()
        sock = self.socket()
        assert sock.connect_ex((HERE, port)) == errno.EINPROGRESS
        self.until(sock, ERR, 0)
        return sock

    def stuck(self) -> Any:
        """A socket that connects and is not answered: the listener's queue is full, so its SYN is dropped."""
        listener = self.listener(0)
        self.until(self.connecting(listener), OUT)
        self.until(listener, IN)
        return self.connecting(listener)

    def free_port(self) -> int:
        with_port = self.bound()
        port: int = with_port.getsockname()[1]
        with_port.close()
        return port

    def reset_by_peer(self, sent: bytes = b"", fin: bool = False) -> Any:
        """An end whose peer has sent this, and perhaps FIN, and then RST."""
        ours, theirs = self.pair()
        if sent:
            theirs.send(sent)
        if fin:
            theirs.shutdown(socket.SHUT_WR)
            self.until(ours, IN)
        self.abort(theirs)
        self.until(ours, HUP, 0)
        return ours

    def abort(self, sock: Any) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        sock.close()

    # ---- questions --------------------------------------------------------------------------------------------

    def error(self, sock: Any) -> int:
        """SO_ERROR."""
        return int(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def until(self, sock: Any, wanted: int, mask: int = ALL) -> int:
        """Wait until the poller reports one of the wanted bits; what it then reports in all, the wanted included."""
        number = sock.fileno()
        # Why not the whole mask at once: what is ready already would end each wait before time could move.
        self._poller.register(number, mask & wanted)
        try:
            assert self._poller.poll(SOON, 16), f"{sock!r} did not become {wanted}"
            self._poller.modify(number, mask)
            bits = dict(self._poller.poll(0, 16)).get(number, 0)
        finally:
            self._poller.unregister(number)
        assert bits & wanted == wanted, f"{sock!r} became {bits}, not {wanted}"
        return bits

    def bits(self, sock: Any, mask: int = ALL) -> int:
        """What the poller reports after a while."""
        self.let_pass()
        self._poller.register(sock.fileno(), mask)
        rows = dict(self._poller.poll(0, 16))
        self._poller.unregister(sock.fileno())
        return rows.get(sock.fileno(), 0)

    def let_pass(self) -> None:
        """Give the kernel a while for what is on its way."""
        assert self._poller.poll(A_WHILE, 16) == []

    def read_all(self, sock: Any, size: int) -> bytes:
        """So many bytes, or until the end."""
        parts = b""
        while len(parts) < size:
            self.until(sock, IN, IN)
            part = sock.recv(65536)
            if not part:
                break
            parts += part
        return parts

    def fill(self, sock: Any, most: int = 1 << 26) -> int:
        """Send until the kernel takes no more, for a while; how much it took."""
        total = 0
        for _ in range(2000):
            try:
                total += sock.send(b"x" * 65536)
            except BlockingIOError:
                if not self.bits(sock, OUT):
                    return total
            assert total < most
        raise AssertionError("never full")


def errno_of(call: Any, *args: Any) -> int | None:
    """The errno that a call raises."""
    try:
        call(*args)
    except OSError as refusal:
        return refusal.errno
    raise AssertionError(f"{call} raised nothing")


def real() -> Ground:
    return Ground(RealSystem())


def simulated() -> Ground:
    return Ground(Simulation(seed="kernel").host().system)
