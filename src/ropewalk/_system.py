"""Everything the engine asks of the operating system that is not free of effects.

The rooms `_loop` and `_net` never call `socket`, `select`, `time` or `getaddrinfo` by themselves: they ask the
object described here. So the very same Connector, Dial, Stream and Loop run over the simulated kernel of
`ropewalk.simulation`, in virtual time, with faults drawn from a seed. Fakes replace this edge, never the engine.

`System` is the contract, `RealSystem` this machine. What crosses the seam keeps the kernel's own words: sockets
that raise `OSError` with an errno, rows as `getaddrinfo` gives them, seconds of a clock that never goes back.

Why one object and not six parameters: whoever builds a Reactor decides once which world it lives in.
Rejected: patching modules in tests. It replaces names, not the world, and no two faults agree with each other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from operator import index
from typing import Any, Protocol

from ropewalk._loop.poller import Poller, choose

# One row of getaddrinfo: family, kind, protocol, canonical name, socket address.
AddressRow = tuple[int, int, int, str, tuple[Any, ...]]
# Why a second name: inside RealSystem, `socket` is the method.
Socket = socket.socket
LookUpDone = Callable[["list[AddressRow] | BaseException"], None]

# Source: Linux man accept(2), "inherits"; tcp_create_openreq_child copies the options of the listening socket.
_OPTIONS_INHERITED = sys.platform.startswith("linux")
# Source: POSIX limits.h; sysconf gives the true one. Windows has no sendmsg.
_IOV_MAX = 1024
# Source: sendfile(2): the file cannot be mapped, or the file system has no such call.
_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
# Source: off_t has 64 bits.
LONGEST_FILE = 2**63 - 1
# Bytes read where the kernel does not copy by itself; what the socket does not take is read again. Source: a stream's
# high-water mark.
_READ_AT_ONCE = 65536
# An idle look-up thread ends after this many seconds. Why: names come in bursts; threads at rest cost memory.
_LOOKUP_THREAD_IDLE = 10.0


class Closable(Protocol):
    """Something that holds one descriptor."""

    def close(self) -> None: ...


class System(Protocol):
    """What a world must offer so that the engine can live in it."""

    name: str
    iov_max: int
    backlog: int
    stream_options_inherited: bool

    def monotonic(self) -> float: ...
    # A socket as it comes; whoever asked calls setblocking(False).
    def socket(self, family: int, kind: int = ..., protocol: int = ..., /) -> Any: ...
    def accept(self, listener: Any) -> tuple[Any, Any]: ...
    def socket_pair(self) -> tuple[Any, Any]: ...
    def poller(self, kind: str | None) -> Poller: ...
    def look_up(self, host: str, port: int | str, family: int, kind: int, done: LookUpDone) -> None: ...
    def service_port(self, name: str, protocol: str) -> int: ...
    def open_reserve(self) -> Closable: ...
    # A part of a regular file that is to be sent, its descriptor duplicated.
    def file_part(self, file: Any, offset: int, count: int) -> FilePart: ...
    def process_id(self) -> int: ...
    # What has normalvariate and the like, for what is to be left to chance.
    def random(self) -> Any: ...


class RealSystem:
    """This machine: real sockets, the monotonic clock, the C library's resolver in threads of its own."""

    name = "real"
    stream_options_inherited = _OPTIONS_INHERITED

    def __init__(self) -> None:
        self.iov_max = _sysconf("SC_IOV_MAX", _IOV_MAX)
        self.backlog = _somaxconn()
        # hot: the loop asks the time every turn; the C function itself, no Python frame in between.
        self.monotonic = time.monotonic
        self.socket = socket.socket
        self._look_ups = LookUpThreads()

    def accept(self, listener: Socket) -> tuple[Socket, Any]:
        sock, addr = listener.accept()
        sock.setblocking(False)
        return sock, addr

    def socket_pair(self) -> tuple[Socket, Socket]:
        pair = socket.socketpair()
        for sock in pair:
            sock.setblocking(False)
        return pair

    def poller(self, kind: str | None) -> Poller:
        return choose(kind)

    def look_up(self, host: str, port: int | str, family: int, kind: int, done: LookUpDone) -> None:
        self._look_ups.start(lambda: socket.getaddrinfo(host, port, family, kind), done)

    def service_port(self, name: str, protocol: str) -> int:
        return socket.getservbyname(name, protocol)

    def open_reserve(self) -> Closable:
        return open(os.devnull, "rb")

    def file_part(self, file: Any, offset: int, count: int) -> FilePart:
        return FilePart(file, offset, count, by_kernel=hasattr(os, "sendfile"))

    def process_id(self) -> int:
        return os.getpid()

    def random(self) -> Any:
        import random  # Why here: five modules that only who retries needs; importing ropewalk stays cheap.

        return random


class FilePart:
    """A part of a regular file that waits to be sent in the place of its bytes.

    It has a descriptor of its own, which goes with it: nobody needs to keep the file open, or to give anything back.

    Args:   file: what `os.dup` takes the number of: has `fileno()`.
            offset, count: which bytes of it.
            by_kernel: whether the kernel copies them; else they are read and sent. Why not always: a simulated socket
                is nothing to the kernel, and not every system or file has sendfile(2).
    Raises: TypeError, ValueError for offset and count that are no whole numbers, below 0, or beyond any file; OSError for what cannot be read at an offset: a pipe, a directory, a file open for writing only.
    """

    __slots__ = ("_by_kernel", "_fd", "_offset", "size")

    def __init__(self, file: Any, offset: int, count: int, by_kernel: bool) -> None:
        self._fd = -1
        offset, count = index(offset), index(count)
        if not (offset >= 0 and count >= 0 and offset + count <= LONGEST_FILE):
            raise ValueError(f"offset and count are 0 or more, not offset={offset!r}, count={count!r}")
        if not hasattr(os, "pread"):  # Windows
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._fd = os.dup(file.fileno())
        os.pread(self._fd, 0, offset)
        self._offset = offset
        self._by_kernel = by_kernel
        self.size = count

    def __len__(self) -> int:
        return self.size

    def send_to(self, sock: Any, done: int) -> int:
        """Send what comes after the first `done` bytes.

        Returns: how many bytes the socket took; 0 if the file ends there, being shorter than it was.
        """
        offset, count = self._offset + done, self.size - done
        if self._by_kernel:
            try:
                return os.sendfile(sock.fileno(), self._fd, offset, count)
            except OSError as exc:
                if exc.errno not in _NO_SENDFILE:
                    raise
                self._by_kernel = False
        data = os.pread(self._fd, min(count, _READ_AT_ONCE), offset)
        return int(sock.send(data)) if data else 0

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class LookUpThreads:
    """Runs each look-up on a daemon thread; threads that came free serve the next one.

    It bounds nothing: how many may run at once is decided in `_net/resolve.py`, the same for every system.
    """

    def __init__(self) -> None:
        self._jobs: deque[tuple[Callable[[], list[Any]], LookUpDone]] = deque()
        self._wakeable = threading.Condition()
        self._idle = 0
        self._process = os.getpid()

    def start(self, work: Callable[[], list[Any]], done: LookUpDone) -> None:
        if self._process != os.getpid():
            # Why: a forked child has none of the parent's threads, and a lock one of them may have held.
            self.__init__()  # type: ignore[misc]
        with self._wakeable:
            self._jobs.append((work, done))
            if self._idle >= len(self._jobs):
                self._wakeable.notify()
                return
        threading.Thread(target=self._serve, name="ropewalk-look-up", daemon=True).start()

    def _serve(self) -> None:
        while True:
            with self._wakeable:
                self._idle += 1
                self._wakeable.wait_for(lambda: self._jobs, _LOOKUP_THREAD_IDLE)
                self._idle -= 1
                if not self._jobs:
                    return
                work, done = self._jobs.popleft()
            result: Any
            try:
                result = work()
            except BaseException as exc:
                # Why all of them: whatever the resolver raises belongs to the one who asked, never to this thread.
                result = exc.with_traceback(None)
            done(result)
            del work, done, result


def _sysconf(name: str, default: int) -> int:
    with contextlib.suppress(AttributeError, ValueError, OSError):
        value = os.sysconf(name)
        if value > 0:
            return value
    return default


def _somaxconn() -> int:
    # Source: Linux Documentation/admin-guide/sysctl/net.rst, somaxconn; the C constant SOMAXCONN can be older.
    with contextlib.suppress(OSError, ValueError), open("/proc/sys/net/core/somaxconn") as limit:
        return int(limit.read())
    return socket.SOMAXCONN
