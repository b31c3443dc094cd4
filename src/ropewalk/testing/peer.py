"""The other end of a connection, in the hands of a test.

    protocol, peer = reactor.acceptClient()
    assert peer.value() == b"HELO\\r\\n"
    peer.deliver(b"250 ok\\r\\n")
    peer.reset()

The protocol under test has a real Stream over a simulated socket; a `Peer` is the socket at the far end of it, which no
program owns but the test. It reads what comes and keeps it, sends what it is told to, and ends when it is told to: by FIN
(`finish`) or by RST (`reset`). Each call lets everything happen that can happen without time passing, so what a protocol
does in answer is done when the call returns; between the calls nothing moves.

`FarHost` is where these sockets live: a host with every address, since a test's program may connect to any. It answers a SYN
that is held back (`Route.is_held`) when the test says so.

It must never know connectors, ports or factories: it deals in the ends of connections that the kernel knows.
Rejected: a protocol of our own on a reactor of its own at the far end. Its turns would come between the test's calls, and
whatever it does with bytes would be one more thing to explain.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from typing import Any

from ropewalk.address import IPv4Address, IPv6Address
from ropewalk.simulation.addresses import canonical, family_of
from ropewalk.simulation.endpoint import Endpoint
from ropewalk.simulation.host import Host
from ropewalk.simulation.kernel_socket import SimulatedSocket

_READ_SIZE = 65536
_LINGER_ZERO = struct.pack("ii", 1, 0)


class Peer:
    """The far end of one connection; made by `acceptClient` and `dialServer` of a MemoryReactor."""

    def __init__(self, sock: SimulatedSocket, settle: Callable[[], None]) -> None:
        self._sock = sock
        self._settle = settle
        self._received = bytearray()
        self._unsent = bytearray()
        self._is_reading = True
        self._finish_asked = False
        self._has_finished = False
        self._saw_end = False
        self._saw_reset = False
        endpoint = sock.endpoint
        assert endpoint is not None
        self._endpoint: Endpoint = endpoint
        # The protocol that was built for this connection, and its transport; None if none was, or it ended at once.
        self.protocol: Any = None
        self.transport: Any = None

    # ---- what the protocol sent -------------------------------------------------------------------------------

    def value(self) -> bytes:
        """All that has come since the beginning, or since `clear`."""
        self._settle()
        return bytes(self._received)

    def clear(self) -> None:
        """Forget what has come."""
        self._settle()
        self._received.clear()

    @property
    def hasEnded(self) -> bool:
        """Whether the protocol's side has ended cleanly (its FIN has come), and all before it was read."""
        self._settle()
        return self._saw_end

    @property
    def wasReset(self) -> bool:
        """Whether the protocol's side has reset the connection, as `abortConnection` does."""
        self._settle()
        return self._saw_reset

    def pauseReading(self) -> None:
        """Read no more, so that buffers fill and the protocol's producer is paused."""
        self._is_reading = False

    def resumeReading(self) -> None:
        """Read again, at once, all that waits."""
        self._is_reading = True
        self._settle()

    # ---- what the protocol gets -------------------------------------------------------------------------------

    def deliver(self, data: bytes | bytearray | memoryview, size: int | None = None) -> None:
        """Send bytes to the protocol.

        Args:   size: cut them into pieces of so many bytes, each of them received by itself; None sends them whole.
        Raises: RuntimeError after `finish` or the end of the connection; ValueError for a size below 1; what the protocol
                raises, after its connection was closed for it.
        Order:  `dataReceived` is called before this returns, unless the protocol has paused.
        """
        if size is not None and size < 1:
            raise ValueError(f"pieces have 1 byte or more, not {size}")
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data must be bytes-like, not {type(data).__name__}: {data!r:.60}")
        self._settle()
        for piece in [data] if size is None else [data[i : i + size] for i in range(0, len(data), size)]:
            self._check_open("deliver")
            self._unsent += piece
            self._settle()

    def finish(self) -> None:
        """End this side cleanly: FIN, after all that was delivered. What the protocol sends is still read.

        Raises: RuntimeError if this side has ended already.
        """
        self._settle()
        self._check_open("finish")
        self._finish_asked = True
        self._settle()

    def reset(self) -> None:
        """Reset the connection; what was delivered and not yet received is lost.

        Raises: RuntimeError if the connection is over.
        """
        self._settle()
        if self._is_over():
            raise RuntimeError(f"reset: the connection of {self!r} is over")
        self._unsent.clear()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._sock.close()
        self._settle()

    def getHost(self) -> IPv4Address | IPv6Address:
        """The address of this end, which is what the protocol's transport gives as `getPeer`."""
        return _address(self._endpoint.local)

    def getPeer(self) -> IPv4Address | IPv6Address:
        """The address of the protocol's end."""
        return _address(self._endpoint.remote)

    # ---- for the reactor --------------------------------------------------------------------------------------

    def exchange(self) -> bool:
        """Send what is to be sent and read what is there; whether anything moved."""
        if self._sock.fileno() < 0:
            return False
        has_sent = self._send()
        return self._read() or has_sent

    def _send(self) -> bool:
        sent = 0
        try:
            if self._unsent:
                sent = self._sock.send(self._unsent)
                del self._unsent[:sent]
            if self._finish_asked and not self._unsent and not self._has_finished:
                self._has_finished = True
                self._sock.shutdown(socket.SHUT_WR)
                return True
        except BlockingIOError:
            pass  # Safe because: the protocol has paused; what is left is sent when it goes on.
        except OSError:
            # Why not told here: reading tells which end it was, after what came before it.
            self._unsent.clear()
        return sent > 0

    def _read(self) -> bool:
        before = len(self._received)
        while self._is_reading and not self._saw_end:
            try:
                data = self._sock.recv(_READ_SIZE)
            except BlockingIOError:
                break
            except OSError as exc:
                self._saw_reset = exc.errno in (errno.ECONNRESET, errno.EPIPE)
                self._sock.close()
                return True
            if not data:
                self._saw_end = True
                return True
            self._received += data
        return len(self._received) > before

    def other_fileno(self) -> int:
        """The descriptor of the protocol's end; -1 if it is closed."""
        other = self._endpoint.peer
        owner = None if other is None else other.owner
        return owner.fileno() if isinstance(owner, SimulatedSocket) else -1

    def _is_over(self) -> bool:
        """Whether there is nobody at the other end any more."""
        return self._sock.fileno() < 0 or self.other_fileno() < 0

    def _check_open(self, asked: str) -> None:
        if self._finish_asked:
            raise RuntimeError(f"{asked}: this side of {self!r} has ended, by finish()")
        if self._is_over():
            raise RuntimeError(f"{asked}: the connection of {self!r} is over")

    def __repr__(self) -> str:
        address, port = self._endpoint.local
        return f"<Peer {address}:{port} of {type(self.protocol).__name__}>"


class Noting:
    """Stands before a factory while one connection is made, to see which protocol is built for it."""

    def __init__(self, factory: Any) -> None:
        self._factory = factory
        self.peer: Peer | None = None

    def buildProtocol(self, addr: Any) -> Any:
        protocol = self._factory.buildProtocol(addr)
        # Why here: of a protocol that closes in connectionMade nobody knows any more when all has settled.
        if self.peer is not None:
            self.peer.protocol = protocol
        return protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._factory, name)


class FarHost:
    """Everywhere else: a host that answers in the place of all others, when it is told to."""

    def __init__(self, host: Host, near: Host) -> None:
        self._host = host
        self._near = near

    def accept(self, client: Endpoint, settle: Callable[[], None]) -> Peer:
        """Let a connection that the near host has asked for be established.

        Raises: RuntimeError if it fails all the same.
        """
        port = client.remote[1]
        family = family_of(client.remote[0])
        listener = self._socket(family)
        try:
            listener.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
            listener.listen(1)
            assert client.handshake is not None
            client.handshake.reach(self._host.stack)
            self._host.world.happen()
            try:
                sock, _ = self._host.system.accept(listener)
            except BlockingIOError:
                raise RuntimeError(f"{client!r} was not established") from None
        finally:
            listener.close()
        return Peer(sock, settle)

    def dial(self, name: tuple[str, int], source: tuple[str, int] | None, settle: Callable[[], None]) -> Peer:
        """Connect to an address of the near host.

        Args:   source: the address and port to come from; None for some.
        Raises: OSError.
        """
        family = family_of(name[0])
        sock = self._socket(family)
        try:
            if source is not None:
                claim(source[0], self._host)
                sock.bind(source)
            sock.connect_ex(name)
            assert sock.endpoint is not None and sock.endpoint.handshake is not None
            sock.endpoint.handshake.reach(self._near.stack)
            self._host.world.happen()
            error = int(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            if error:
                raise OSError(error, f"nobody listens at {name[0]}:{name[1]}")
        except BaseException:
            sock.close()
            raise
        return Peer(sock, settle)

    def _socket(self, family: int) -> SimulatedSocket:
        sock = self._host.system.socket(family)
        sock.setblocking(False)
        # Why: one port may be connected to and from several times.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return sock


def _address(name: tuple[str, int]) -> IPv4Address | IPv6Address:
    return IPv6Address("TCP", *name) if ":" in name[0] else IPv4Address("TCP", *name)


def claim(address: str, host: Host) -> None:
    """Let an address that nobody has be one of this host's."""
    network, found = host.stack.network, canonical(address)
    if found is not None and network.owner(found, host) is None:
        network.claim(found, host)
