"""What the fault tests share: users that note all they are told, a real system that counts and fails on order, raw peers.

Where a fault needs time or a kernel in a rare state, the tests use the simulated kernel; where the fact belongs to the real
one (what a reset looks like, descriptors that are reused, fork), they use loopback, plain blocking sockets for the other
end, and `turn_until`, which counts turns: nothing here measures time.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import Counter, deque
from contextlib import ExitStack, contextmanager

from ropewalk import ClientFactory, Protocol
from ropewalk._system import RealSystem

LOCALHOST = "127.0.0.1"
LINGER_ZERO = struct.pack("ii", 1, 0)


class Told(Protocol):
    """Notes all it is told, in order."""

    def __init__(self):
        self.told = []
        self.received = b""
        self.reason = None

    def connectionMade(self):
        self.told.append("made")

    def dataReceived(self, data):
        self.told.append("data")
        self.received += data

    def connectionLost(self, reason):
        self.told.append("lost")
        self.reason = reason.value

    @property
    def is_over(self):
        return self.reason is not None


class HalfTold(Told):
    """The same, for one that knows half-close."""

    def readConnectionLost(self):
        self.told.append("read side lost")

    def writeConnectionLost(self):
        self.told.append("write side lost")


class Makes(ClientFactory):
    """Makes protocols of one class, keeps them, and notes what a factory is told. For clients and servers."""

    noisy = False

    def __init__(self, kind=Told):
        self.kind = kind
        self.told = []
        self.built = []
        self.reason = None

    def startFactory(self):
        self.told.append("start")

    def stopFactory(self):
        self.told.append("stop")

    def startedConnecting(self, connector):
        self.told.append("connecting")

    def buildProtocol(self, addr):
        self.told.append("build")
        made = self.kind()
        made.factory = self
        self.built.append(made)
        return made

    def clientConnectionFailed(self, connector, reason):
        self.told.append("failed")
        self.reason = reason.value

    def clientConnectionLost(self, connector, reason):
        self.told.append("lost")
        self.reason = reason.value

    @property
    def last(self):
        return self.built[-1]


class Echo(Told):
    def dataReceived(self, data):
        super().dataReceived(data)
        self.transport.write(data)


class PushProducer:
    """Notes what a push producer is told."""

    def __init__(self):
        self.told = []

    def pauseProducing(self):
        self.told.append("pause")

    def resumeProducing(self):
        self.told.append("resume")

    def stopProducing(self):
        self.told.append("stop")


# ---- the real system, counted and failing on order ----------------------------------------------------------------


class CountedSystem(RealSystem):
    """The real system; counts its calls, and lets them fail on order.

    `fail("accept", errno.EMFILE, times=3)`; `times=None` fails until `mend`. `calls` counts, `polls` keeps what each poll
    gave, `order` what became of each descriptor.
    """

    name = "counted"

    def __init__(self):
        super().__init__()
        self.calls = Counter()
        self.order = []
        self.polls = []
        self.modified = []
        self._failing = {}
        self.shortest = None
        # Why: the real one holds the C functions themselves in attributes, which would hide the methods below.
        for name in ("socket", "accept", "poller", "open_reserve"):
            self.__dict__.pop(name, None)

    def fail(self, call, error, times=1):
        self._failing.setdefault(call, deque()).append([error, times])

    def mend(self, call):
        self._failing.pop(call, None)

    def enter(self, call):
        self.calls[call] += 1
        orders = self._failing.get(call)
        if not orders:
            return
        order = orders[0]
        if order[1] is not None:
            order[1] -= 1
            if order[1] == 0:
                orders.popleft()
        raise OSError(order[0], os.strerror(order[0]))

    def socket(self, family, kind=socket.SOCK_STREAM, protocol=0):
        self.enter("socket")
        sock = CountedSocket(family, kind, protocol)
        sock.system = self
        sock.setblocking(False)
        return sock

    def accept(self, listener):
        self.enter("accept")
        number, address = listener._accept()
        sock = CountedSocket(listener.family, listener.type, listener.proto, fileno=number)
        sock.system = self
        sock.setblocking(False)
        return sock, address

    def open_reserve(self):
        self.enter("open_reserve")
        return super().open_reserve()

    def poller(self, kind):
        return CountedPoller(self, super().poller(kind))


class CountedSocket(socket.socket):
    """A real socket whose calls are counted by its system."""

    system = None

    def recv(self, size, flags=0):
        self.system.enter("recv")
        return super().recv(size, flags)

    def send(self, data, flags=0):
        self.system.enter("send")
        if self.system.shortest is not None:
            data = bytes(data)[: self.system.shortest()]
        return super().send(data, flags)

    def sendmsg(self, buffers, *rest):
        self.system.enter("sendmsg")
        self.system.order.append(("sendmsg", len(buffers)))
        if self.system.shortest is not None:
            return super().send(b"".join(buffers)[: self.system.shortest()])
        return super().sendmsg(buffers, *rest)

    def connect_ex(self, address):
        try:
            self.system.enter("connect")
        except OSError as refusal:
            return refusal.errno
        return super().connect_ex(address)

    def bind(self, address):
        self.system.enter("bind")
        return super().bind(address)

    def listen(self, backlog=None):
        self.system.enter("listen")
        self.system.order.append(("listen", backlog))
        return super().listen(backlog)

    def shutdown(self, how):
        self.system.enter("shutdown")
        self.system.order.append(("shutdown", self.fileno()))
        return super().shutdown(how)

    def getsockopt(self, *args):
        self.system.enter("getsockopt")
        return super().getsockopt(*args)

    def setsockopt(self, *args):
        self.system.enter("setsockopt")
        return super().setsockopt(*args)

    def getsockname(self):
        self.system.enter("getsockname")
        return super().getsockname()

    def close(self):
        if self.fileno() >= 0:
            self.system.order.append(("close", self.fileno()))
        super().close()


class CountedPoller:
    """A real poller that keeps notes. `sort` may put the rows of a batch into the order a test needs."""

    def __init__(self, system, poller):
        self._system = system
        self._poller = poller
        self.name = poller.name
        self.notices_reset_at_mask_zero = poller.notices_reset_at_mask_zero
        self.close = poller.close
        self.sort = None

    def register(self, fd, mask):
        self._system.enter("register")
        self._poller.register(fd, mask)
        self._system.order.append(("register", fd))

    def modify(self, fd, mask):
        self._system.enter("modify")
        self._poller.modify(fd, mask)
        self._system.modified.append((fd, mask))

    def unregister(self, fd):
        self._poller.unregister(fd)
        self._system.order.append(("unregister", fd))

    def poll(self, timeout, limit):
        self._system.calls["poll"] += 1
        rows = self._poller.poll(timeout, limit)
        if self.sort is not None:
            rows = sorted(rows, key=self.sort)
        self._system.polls.append((timeout, rows))
        return rows


# ---- turning ------------------------------------------------------------------------------------------------------


def turn_until(reactor, condition, most=400):
    """Turn a reactor until something is true; an error after so many turns."""
    for _ in range(most):
        if condition():
            return
        reactor.iterate(0.02)
    assert condition(), f"not within {most} turns"


def idle_rows(reactor, system, turns=30):
    """What the poller tells in so many turns in which nothing should happen."""
    start = len(system.polls)
    for _ in range(turns):
        reactor.iterate(0)
    return [row for _, rows in system.polls[start:] for row in rows]


@contextmanager
def listening(reactor, factory, **keywords):
    """A port on loopback; at the end it is closed, and whatever its factory built that still lives is aborted."""
    port = reactor.listenTCP(0, factory, interface=LOCALHOST, **keywords)
    try:
        yield port
    finally:
        stopped = []
        port.stopListening().addCallback(stopped.append)
        turn_until(reactor, lambda: stopped)
        end_all(reactor, factory)


def end_all(reactor, *factories):
    """Abort what these factories built, and turn until all of it was told."""
    everyone = [each for factory in factories for each in factory.built if each.transport is not None]
    for each in everyone:
        each.transport.abortConnection()
    turn_until(reactor, lambda: all(each.is_over for each in everyone))


# ---- the other end ------------------------------------------------------------------------------------------------


def call(port):
    """A plain blocking socket, connected to a port of ours."""
    sock = socket.create_connection((LOCALHOST, port.getHost().port))
    sock.settimeout(20)
    return sock


def reset(sock):
    """Close with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    sock.close()


def read_to_end(sock):
    parts = []
    while part := sock.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


@contextmanager
def black_hole():
    """The number of a port of this machine where connecting neither works nor fails: who listens there takes nobody."""
    with ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind((LOCALHOST, 0))
        listener.listen(0)
        for _ in range(4):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def unused_port():
    """A port nobody listens on, just now."""
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        return probe.getsockname()[1]


def name_of(number):
    return errno.errorcode[number]
