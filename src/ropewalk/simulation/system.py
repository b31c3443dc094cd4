"""The simulated system: what a simulated host offers an engine to live in.

It is the other implementation of the contract `System` in `_system.py`: the engine's own Connector, Dial, Stream and Loop
run over it and cannot tell. Nothing here simulates; each wish is passed to the room that does.

Source: the contract; accept(2) for what becomes of a connection whose accept fails.
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ropewalk._loop.poller import NAMES
from ropewalk._system import FilePart
from ropewalk.simulation.addresses import show
from ropewalk.simulation.descriptors import Reserve
from ropewalk.simulation.faults import Faults, kernel_error
from ropewalk.simulation.kernel_socket import IOV_MAX, SimulatedSocket
from ropewalk.simulation.pair import PairEnd
from ropewalk.simulation.simulated_poller import SimulatedPoller

if TYPE_CHECKING:
    from ropewalk.simulation.host import Host

# Source: net.core.somaxconn, 4096 since Linux 5.4.
_SOMAXCONN = 4096
# The first host's process id; any number that no real process would be hurt by. Each boot has one of its own.
_FIRST_PROCESS = 5_000_000
_PROCESSES_PER_BOOT = 100_000
# Errors of accept that stay with the listener; after any other the connection is gone from the queue.
_CONNECTION_STAYS = (
    errno.EAGAIN,
    errno.EINTR,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.EBADF,
    errno.EINVAL,
)


class SimulatedSystem:
    """One host of the simulated world, as an engine sees it."""

    name = "simulated"
    stream_options_inherited = True

    def __init__(self, host: Host) -> None:
        self._host = host
        self.iov_max = IOV_MAX
        self.backlog = _SOMAXCONN
        self._random = random.Random(f"reactor {host.world.seed} {host.number}")

    @property
    def faults(self) -> Faults:
        """Which calls of this host fail, and how often each was made."""
        return self._host.faults

    def monotonic(self) -> float:
        return self._host.world.now

    def socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0, /
    ) -> SimulatedSocket:
        host = self._host
        host.faults.enter("socket")
        if family not in (socket.AF_INET, socket.AF_INET6):
            raise kernel_error(errno.EAFNOSUPPORT)
        if kind != socket.SOCK_STREAM:
            raise kernel_error(errno.ESOCKTNOSUPPORT)
        if protocol not in (0, socket.IPPROTO_TCP):
            raise kernel_error(errno.EPROTONOSUPPORT)
        sock = SimulatedSocket(host, family)
        host.world.record(host.number, "socket", sock.fileno(), int(family))
        return sock

    def accept(self, listener: SimulatedSocket) -> tuple[SimulatedSocket, tuple[Any, ...]]:
        host = self._host
        if listener.fileno() < 0:
            raise kernel_error(errno.EBADF)
        listener.check_not_blocking("accept")
        listener.watched.unanswered = 0
        try:
            host.faults.enter("accept", listener)
        except OSError as refusal:
            if refusal.errno not in _CONNECTION_STAYS:
                listener.abort_next()
            raise
        # Source: __sys_accept4 takes the number before it looks at the queue.
        host.descriptors.check_room()
        child = listener.accept_next()
        sock = SimulatedSocket(host, listener.family, child)
        host.world.record(host.number, "accept", listener.fileno(), sock.fileno())
        return sock, show(listener.family, child.remote, child.scope)

    def socket_pair(self) -> tuple[PairEnd, PairEnd]:
        host = self._host
        host.faults.enter("socket_pair")
        reader = PairEnd(host, is_hidden=False)
        writer = PairEnd(host, is_hidden=True)
        reader.join(writer)
        return reader, writer

    def poller(self, kind: str | None) -> SimulatedPoller:
        """Raises: ValueError for a name that no poller has; all of them behave as epoll here."""
        if kind is not None and kind not in (*NAMES, "simulated"):
            raise ValueError(f"no poller {kind!r} here; available: simulated")
        self._host.faults.enter("poller")
        return SimulatedPoller(self._host)

    def look_up(
        self, host: str, port: int | str, family: int, kind: int, done: Callable[[Any], object]
    ) -> None:
        ours = self._host
        ours.world.record(ours.number, "look up", host)
        boot = ours.boots

        def answer(result: Any) -> None:
            # Why asked: who wanted to know may have crashed.
            if ours.boots == boot:
                done(result)

        ours.directory.look_up(host, port, family, kind, answer)

    def service_port(self, name: str, protocol: str) -> int:
        return self._host.directory.service_port(name, protocol)

    def open_reserve(self) -> Reserve:
        self._host.faults.enter("open_reserve")
        return Reserve(self._host.descriptors)

    def file_part(self, file: Any, offset: int, count: int) -> FilePart:
        return FilePart(file, offset, count, by_kernel=False)

    def process_id(self) -> int:
        return _FIRST_PROCESS + self._host.number + self._host.boots * _PROCESSES_PER_BOOT

    def random(self) -> random.Random:
        return self._random
