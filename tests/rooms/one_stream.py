"""One connection over the simulated kernel: the engine's Stream on this side, a bare socket in the test's hand on the other.

`Line` listens, connects the bare socket, and stops listening. What the protocol and the lifecycle events tell is noted in
`told` and `steps`; what the test wants done inside a callback is given by name: `Line(connectionMade=lambda p: …)`. The
bare socket is `peer`; `reads` takes what came to it. `finish` ends everything and checks that nothing is left, and that the
kernel has no complaint.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from typing import Any

from ropewalk import Factory, Protocol, TCPOptions
from ropewalk.simulation import Simulation

RESET = struct.pack("ii", 1, 0)
PORT = 7


class Told(Protocol):
    """Notes what it is told, then does what the test wants."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.received = b""

    def connectionMade(self) -> None:
        self.line.note("made", self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.line.note("data", self, data)

    def connectionLost(self, reason: Any) -> None:
        self.line.reason = reason.value
        self.line.note("lost", self, reason)


class HalfTold(Told):
    """The same, for one that keeps one direction when the other has ended."""

    def readConnectionLost(self) -> None:
        self.line.note("read side lost", self)

    def writeConnectionLost(self) -> None:
        self.line.note("write side lost", self)


class Near(Factory[Told]):
    noisy = False

    def __init__(self, line: Line, kind: type[Told]) -> None:
        self.line = line
        self.kind = kind

    def buildProtocol(self, addr: Any) -> Told:
        self.line.note("built", addr)
        protocol = self.kind(self.line)
        self.line.protocol = protocol
        return protocol


class Line:
    """A stream and its peer."""

    def __init__(
        self,
        kind: type[Told] = Told,
        options: TCPOptions | None = None,
        observe: bool = False,
        seed: int = 1,
        **acts: Callable[..., Any],
    ) -> None:
        self.acts = acts
        self.told: list[str] = []
        self.steps: list[tuple[str, dict[str, object]]] = []
        self.reason: Any = None
        self.protocol: Any = None
        self.transport: Any = None
        self.sim = Simulation(seed)
        self.sim._driver.spin_limit = 3000
        self.near, self.far = self.sim.host("near"), self.sim.host("far")
        self.faults = self.near.faults
        if observe:
            self.near.reactor.observers.append(
                lambda event: self.steps.append((event.step.value, event.details))
            )
        port = self.near.reactor.listenTCP(PORT, Near(self, kind), options=options or TCPOptions())
        self.peer = self.far.system.socket(socket.AF_INET)
        self.peer.setblocking(False)
        self.peer.connect_ex((self.near.addresses[0], PORT))
        self.sim.run(until=lambda: "made" in self.told or self.reason is not None)
        port.stopListening()
        self.go(0)
        self.steps.clear()

    def note(self, what: str, *args: Any) -> None:
        self.told.append(what)
        if what == "made":
            self.transport = args[0].transport
        act = self.acts.get(what.replace(" ", "_"))
        if act is not None:
            act(*args)

    @property
    def reactor(self) -> Any:
        return self.near.reactor

    def go(self, seconds: float = 1.0) -> None:
        """Let some time pass."""
        self.sim.advance(seconds)

    def do(self, func: Callable[..., Any], *args: Any) -> None:
        """Call within a turn of the near side, then let some time pass."""
        self.reactor.callFromThread(func, *args)
        self.go()

    # ---- the other end ----------------------------------------------------------------------------------------

    def says(self, data: bytes) -> None:
        """The peer sends, all of it, and the near side has time to hear it."""
        while data:
            try:
                data = data[self.peer.send(data) :]
            except BlockingIOError:
                self.go()
        self.go()

    def reads(self) -> bytes:
        """What has come to the peer, to the last byte that will come."""
        found = b""
        while part := self._part() or self._part_after_a_while():
            found += part
        return found

    def _part(self) -> bytes:
        try:
            return self.peer.recv(1 << 20)
        except (BlockingIOError, ConnectionResetError):
            return b""

    def _part_after_a_while(self) -> bytes:
        self.go()
        return self._part()

    def ended(self) -> str:
        """How it ended for the peer, once it has read all: "FIN", "RST", or "no" if it has not."""
        try:
            while self.peer.recv(1 << 20):
                pass
        except BlockingIOError:
            return "no"
        except OSError as exc:
            assert exc.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN), exc
            return "RST"
        return "FIN"

    def fin(self) -> None:
        self.peer.shutdown(socket.SHUT_WR)
        self.go()

    def rst(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.peer.close()
        self.go()

    # ---- the end ----------------------------------------------------------------------------------------------

    def finish(self) -> None:
        self.faults.clear()
        self.acts.clear()
        self.reactor.observers.clear()
        if self.transport is not None:
            self.transport.unregisterProducer()
        self.sim.close()
        self.peer.close()
        self.sim.runUntilIdle()
        self.sim.checkAtRest()
        assert self.told.count("made") == self.told.count("lost") <= 1
        assert self.told[-1:] in (["lost"], ["built"])


class Producer:
    """Notes what a producer is told; produces `chunk` each time it is resumed."""

    def __init__(self, transport: Any = None, chunk: bytes = b"", chunks: int = 0) -> None:
        self.told: list[str] = []
        self.transport = transport
        self.chunk = chunk
        self.chunks = chunks

    def resumeProducing(self) -> None:
        self.told.append("resume")
        if self.chunks:
            self.chunks -= 1
            self.transport.write(self.chunk)
            if not self.chunks:
                self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def stopProducing(self) -> None:
        self.told.append("stop")
