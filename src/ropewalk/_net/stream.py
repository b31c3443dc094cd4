"""A connected byte stream: read, write, pause, close.

It takes over a socket that *is* connected and ends when that socket is closed; there is nothing before and nothing
after. It must never know how the socket came to be, nor how the kernel reports readiness.

Reading: one `recv` per readable event, straight into `dataReceived`.
Writing: `write` only keeps the bytes; when the handler that is running has returned, all of it is sent in one call: by
`ready`, if the handler was this stream's own, else by `flush`, for which the stream waits in the loop's `due` list. Every
other wish (close, abort, pause) goes the same way, so nothing the user calls ever calls the user back, and a pause that
is undone in the same handler costs nothing.

The fast path is `_plain`: open, nothing waiting, nothing special. A write then is one store and one append, a flush one
`send`. Whatever is not plain (a second write, a producer, a hard limit, closing) goes the slow way through an Outbox.

States: sides.py, the two sides and the whole. While nothing is to be read or written the descriptor stays registered with
mask 0: a reset is then noticed, and nothing spins (FAULTS section 1). The one exception is a paused stream whose both
sides are shut: the kernel cannot be kept from saying so, so it is taken out of the poller and kept in `open_ends` until
the user resumes.

Which way it ended is judged by the event bits and SO_ERROR, never by `recv` alone: after FIN and RST `recv` says b"".
Rejected: sending inside `write`. Two small writes would be two packets, and errors would arise on the user's stack.
Sources: tcp(7), epoll_ctl(2), CONTRACT section 5, FAULTS B and C.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable
from threading import get_ident
from types import EllipsisType
from typing import Any, Protocol

from ropewalk._loop.poller import ERR, HUP, IN, OUT
from ropewalk._net.core import Core
from ropewalk._net.ending import (
    PEER_CLOSED,
    SHUT_DOWN,
    WE_ABORTED,
    WE_CLOSED,
    Verdict,
    broken,
    overrun,
    raised,
    stalled,
)
from ropewalk._net.flow import Flow
from ropewalk._net.options import TCPOptions, check_limits, check_seconds, keep_alive_settings
from ropewalk._net.outbox import Outbox
from ropewalk._net.sides import (
    ABORTING,
    CLOSED,
    CLOSING,
    CONNECTED,
    JOINT,
    LIFE,
    READ_ENDED,
    READ_OPEN,
    READ_SIDE,
    WRITE_FLUSHING,
    WRITE_OPEN,
    WRITE_SHUT,
    WRITE_SIDE,
    StreamEvent,
)
from ropewalk._system import FilePart
from ropewalk.event import Ended, Step
from ropewalk.transport import as_bytes, as_pieces, check_producer

# Bytes asked for in one recv. Source: Twisted's bufferSize.
READ_SIZE = 65536
# What a stream that fills its reads grows to. Why: CPU per MiB received was 189 µs with 64 KiB, 184 with 128, 229 with 256
# and 260 with 1024, where each read becomes fresh pages of its own (a bare recv loop, same machine, one run).
_READ_SIZE_MOST = 131072
# Small writes of one handler are joined at once up to this size. Why so small: joining copies what is there already, and a
# thousand writes must not become quadratic; beyond it the outbox joins them in one go.
_GATHER_LIMIT = 4096
# Sends of what waits, and as often what a resumed producer brings, in one flush. Why not more: one fast reader must not keep
# the loop (FAULTS J8).
_SENDS_PER_FLUSH = 4
# Seconds of rest when the kernel is out of buffers: polling again at once would spin.
_REST = 0.01
# Reads that throw unread data away before a clean close. Why: close() with unread data makes the kernel send RST, which
# can destroy what was flushed before it (RFC 2525 section 2.17); where nothing was, there is nothing to protect.
_DISCARD_READS = 16

_AGAIN = (BlockingIOError, InterruptedError)
_OUT_OF_BUFFERS = (errno.ENOBUFS, errno.ENOMEM)
# Safe because: no poller reports it.
_NO_EVENT = -1
_LINGER_ZERO = struct.pack("ii", 1, 0)


class Owner(Protocol):
    """Who made the stream: a Connector or a Port."""

    def _lost(self, stream: Stream, reason: Any) -> None: ...


class Stream:
    """The transport of a TCP connection; what protocols know as `self.transport`."""

    __slots__ = (
        "_box",
        "_close_timeout",
        "_core",
        "_expected",
        "_flow",
        "_host",
        "_in_due",
        "_life",
        "_limits",
        "_loop",
        "_mask",
        "_out",
        "_peer",
        "_plain",
        "_read_side",
        "_read_size",
        "_reading",
        "_received",
        "_rest",
        "_sent",
        "_since",
        "_timer",
        "_verdict",
        "_write_side",
        "ended",
        "fd",
        "number",
        "owner",
        "protocol",
        "sock",
    )

    def __init__(
        self,
        core: Core,
        owner: Owner,
        sock: Any,
        host: Any,
        peer: Any,
        number: int,
        options: TCPOptions,
        is_watched: bool,
    ) -> None:
        """Args: host: this end, as address or as the kernel gives it; None if only the socket can tell.
        is_watched: whether the loop watches the descriptor already; else the owner puts the stream into `open_ends`.
        """
        self._core = core
        self._loop = core.loop
        self.owner: Owner | None = owner
        self.sock = sock
        self.fd: int = sock.fileno()
        self.number = number
        self.protocol: Any = None
        self._peer = peer
        self._host = host
        self._out = b""
        self._box: Outbox | None = None
        self._flow: Flow | None = None
        self._limits = (options.highWater, options.lowWater, options.hardLimit)
        self._close_timeout = options.closeTimeout
        self._plain = options.hardLimit is None
        self._in_due = False
        self._reading = True
        self._rest: Any = None
        # What the poller was asked for; -1: it does not watch this, and `open_ends` has it.
        self._mask = 0 if is_watched else -1
        # The event upon which `ready` reads without a further look.
        self._expected = _NO_EVENT
        self._read_size = READ_SIZE
        self._received = self._sent = 0
        self._since = 0.0
        self._timer: Any = None
        self._verdict = PEER_CLOSED
        self.ended: Ended | None = None
        self._read_side = READ_OPEN
        self._write_side = WRITE_OPEN
        self._life = CONNECTED

    # ---- beginning --------------------------------------------------------------------------------------------

    def start(self, protocol: Any) -> None:
        """Take the connection over: read from now on, and tell the protocol."""
        if self._life is CLOSED:
            return  # Safe because: buildProtocol closed it and turned the loop; the owner was told.
        loop = self._loop
        self.protocol = protocol
        self._since = loop.now()
        trouble = None
        try:
            if self._mask >= 0:
                loop.rewatch(self.fd, self, IN)
            else:
                loop.watch(self.fd, self, IN)
                self._core.open_ends.pop(self, None)
            self._mask = IN
            if not self._in_due:
                self._expected = IN
        except OSError as exc:
            trouble = exc
            loop.unwatch(self.fd)
            self._mask = -1
            self._core.open_ends[self] = None
        if self._box is not None:
            # What was asked for in buildProtocol, which turned the loop, has waited for this.
            self._leave_fast_path()
        try:
            protocol.makeConnection(self)
        except BaseException as exc:
            self._user_raised(exc, "connectionMade of %r raised; its connection is aborted", with_reset=True)
        if trouble is not None:
            self._end(broken(trouble))

    # ---- reading ----------------------------------------------------------------------------------------------

    def ready(self, event: int) -> None:
        # hot: benchmarks/ echo. Anything but "readable, and only that is wanted" is looked at first.
        if event != self._expected and not self._goes_on_reading(event):
            return
        try:
            data = self.sock.recv(self._read_size)
        except _AGAIN:
            if event & (ERR | HUP) and not event & IN:
                self._notice_end(event)
            return
        except OSError as exc:
            self._trouble(exc)
            return
        if not data:
            self._peer_ended(event)
            return
        received = self._received
        size = len(data)
        self._received = received + size
        if not received and self._core.observers:
            self._core.report(self.number, Step.FIRST_BYTE)
            if self._life is not CONNECTED:
                return  # Safe because: an observer closed it, and after that nothing is received.
        if size >= READ_SIZE:
            self._read_size = _READ_SIZE_MOST if size == self._read_size else READ_SIZE
        loop = self._loop
        loop.serving = self
        try:
            self.protocol.dataReceived(data)
        except BaseException as exc:
            # Why at once: the log may raise in its turn, and leave with the loop as it is.
            loop.serving = None
            self._user_raised(exc, "dataReceived of %r raised; its connection is closed", with_reset=False)
        loop.serving = None
        # What the handler wrote leaves at once. Why the first lines of `flush` once more: a call for each message.
        out = self._out
        if out:
            try:
                sent = self.sock.send(out)
            except OSError as exc:
                self._not_sent(exc)
                return
            self._sent += sent
            if sent == len(out):
                self._out = b""
                self._plain = True
            else:
                self._sent_in_part(sent)
        elif self._in_due:
            self.flush()

    def _goes_on_reading(self, event: int) -> bool:
        """Deal with all but plain readability; whether there may be something to read still."""
        if event & OUT:
            self._flush_slowly()
            if self._life is CLOSED:
                return False
        if self._in_due and not (self._reading and self._life is CONNECTED):
            return False  # Safe because: its wish comes first, and what is still true then comes again.
        if self._mask > 0 and self._mask & IN:
            return event & (IN | ERR | HUP) != 0
        if event & (ERR | HUP):
            self._notice_end(event)
        return False

    def _notice_end(self, event: int) -> None:
        """An error or a hang-up that no read will tell of. It cannot be masked, so it is acted upon now."""
        number = self._pending_error()
        if number or event & ERR or self._write_side is not WRITE_SHUT:
            self._end(broken(OSError(number or errno.ECONNRESET, os.strerror(number or errno.ECONNRESET))))
        elif self._read_side is READ_OPEN and self._life is CONNECTED:
            # Both sides are shut, but what the peer sent is not read yet, since the user paused. Only a reset can still
            # come: out of the poller, kept alive here, until resumeProducing, or the end, which asks for it.
            self._core.open_ends[self] = None
            self._loop.unwatch(self.fd)
            self._mask = -1
            self._expected = _NO_EVENT
        else:
            # Why not always PEER_CLOSED: we may have asked to close first, and waited for a producer.
            self._end(self._verdict if self._life is CLOSING else PEER_CLOSED)

    def _pending_error(self) -> int:
        """The errno that the kernel keeps for this socket, 0 for none; asking for it forgets it."""
        try:
            return int(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        except OSError as exc:
            return exc.errno or errno.EIO

    def _peer_ended(self, event: int) -> None:
        """`recv` gave b"": the peer's FIN, unless the socket holds an error."""
        if event & ERR:
            number = self._pending_error()
            if number:
                self._end(broken(OSError(number, os.strerror(number))))
                return
        core = self._core
        self._read_side = READ_SIDE[self._read_side, StreamEvent.PEER_ENDED]
        # Why here: a user who turns the loop in one of the callbacks below must not meet the same end once more.
        self._expected = _NO_EVENT
        self._mask &= ~IN
        try:
            self._loop.rewatch(self.fd, self, self._mask)
        except OSError as exc:
            self._end(broken(exc))
            return
        if core.observers:
            core.report(self.number, Step.READ_SIDE_ENDED)
        if self.tell_if_known("readConnectionLost"):
            if self._write_side is WRITE_SHUT and self._life is CONNECTED:
                # Why not wait for the kernel's hang-up: select() tells of none where nothing is asked for.
                self._end(PEER_CLOSED)
                return
        elif self._box is None and not self._out and self._flow is None:
            self._end(PEER_CLOSED)
            return
        elif self._life is CONNECTED:
            # Unlike Twisted: what was written leaves before the connection closes.
            self._verdict = PEER_CLOSED
            self._life = LIFE[self._life, StreamEvent.CLOSE_ASKED]
            self._stop_producer()
        if self._life is not CLOSED:
            self._flush_slowly()

    def tell_if_known(self, callback: str) -> bool:
        """Whether the protocol has that callback, which not all have; what it raises ends the connection."""
        try:
            told = getattr(self.protocol, callback, None)
            if told is None:
                return False
            told()
        except BaseException as exc:
            self._user_raised(exc, f"{callback} of %r raised; its connection is closed", with_reset=False)
        return True

    # ---- writing ----------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, in order, after all written before.

        Args:   data: bytes-like; a mutable one is copied.
        Raises: TypeError for anything else, str included; RuntimeError in a wrong thread.
        Order:  never sends and never calls anybody back by itself, except a producer's `pauseProducing`; it leaves
                when the handler that is running has returned. Ignored once the connection has ended.
        Source: ITransport.write.
        """
        # hot: benchmarks/ echo.
        loop = self._loop
        if get_ident() != loop.thread:
            loop.check_thread("write")
        if type(data) is not bytes:
            data = as_bytes(data)
        if self._plain and data:
            self._plain = False
            self._out = data
            if loop.serving is not self:
                loop.due.append(self)
        elif self._out and len(self._out) + len(data) <= _GATHER_LIMIT:
            # A further small write of the same handler; nothing else has happened meanwhile.
            self._out += data
        else:
            self._write_slowly(data)

    def writeSequence(self, data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write each item of an iterable in order, gathered into as few system calls as possible.

        Args:   data: any iterable of bytes-like objects, a generator included.
        Raises: TypeError if an item is not bytes-like; then none was written.
        Source: ITransport.writeSequence.
        """
        pieces = as_pieces(data)
        if self._flow is not None:
            # Why joined: a producer is told that it is too much after the last, and what it then writes comes behind it.
            pieces = [b"".join(pieces)]
        for chunk in pieces:
            self.write(chunk)

    def writeFile(self, file: Any, offset: int, count: int) -> FilePart:
        """Send a part of a file, after all written before, without reading it: the kernel copies it.

        Args:   file: a regular file, open for reading; may be closed once this has returned.
                offset, count: which bytes, 0 or more each.
        Returns: the part. If the file turns out to be shorter, less is sent, and its `size` becomes how much.
        Raises: ValueError for a number below 0 or beyond what a file may have, TypeError for what is no whole number; OSError
                if it cannot be read at an offset, or its descriptor not be duplicated.
        Order:  as for `write`. It counts in `bytesBuffered`, but not for the hard limit, as it is not in memory.
        Source: sendfile(2). Twisted has no such method; not every transport has it.
        """
        self._loop.check_thread_of("writeFile")
        part = self._core.system.file_part(file, offset, count)
        self._write_slowly(part)
        return part

    def _write_slowly(self, data: bytes | FilePart) -> None:
        if self._life is CLOSED or self._life is ABORTING:
            return
        if self._write_side is WRITE_SHUT or not data:
            return
        box = self._box
        if box is None or not self._in_due:
            box = self._leave_fast_path()
        box.append(data)
        high, _, hard = self._limits
        if hard is not None and box.held > hard:
            self.abort_for(overrun(box.held, hard))
            return
        flow = self._flow
        if flow is not None and flow.wrote(box.size, high):
            if self._core.observers:
                self._core.report(self.number, Step.BUFFER_FULL, buffered=box.size)
                if self._flow is not flow:
                    return
            self._loop.call_method(flow.producer, "pauseProducing")

    def _leave_fast_path(self) -> Outbox:
        """From here on this handler's doings go through the outbox, and `flush` comes by."""
        box = self._box
        if box is None:
            box = self._box = Outbox()
        if self._out:
            # It was a fast write of this very handler: the stream is in `due` already.
            box.append(self._out)
            self._out = b""
            self._in_due = True
        self._plain = False
        # Why: what is asked for now is to be carried out before anything more is read.
        self._expected = _NO_EVENT
        if not self._in_due:
            self._in_due = True
            if self._loop.serving is not self:
                self._loop.due.append(self)
        return box

    def flush(self) -> None:
        """The handler has returned: let what it wrote leave, and do what it asked for."""
        # hot: benchmarks/ echo.
        out = self._out
        if not out:
            self._in_due = False
            self._flush_slowly()
            return
        try:
            sent = self.sock.send(out)
        except OSError as exc:
            self._not_sent(exc)
            return
        self._sent += sent
        if sent == len(out):
            self._out = b""
            self._plain = True
        else:
            self._sent_in_part(sent)

    def _sent_in_part(self, sent: int) -> None:
        """The kernel took so much of a fast write; the rest waits in the outbox for "writable"."""
        out, self._out = self._out, b""
        box = self._box = self._box or Outbox()
        box.append(out)
        box.went(sent)
        self._rearm()

    def _not_sent(self, exc: OSError) -> None:
        """The kernel took nothing of a fast write."""
        if isinstance(exc, _AGAIN):
            self._sent_in_part(0)
        else:
            box = self._box = self._box or Outbox()
            box.append(self._out)
            self._out = b""
            self._trouble(exc)

    def _flush_slowly(self) -> None:
        """Send what waits as far as the kernel takes it, then see what follows from that."""
        if self._life is CLOSED or (self.protocol is None and self._life is CONNECTED):
            return  # Safe because: before there is a protocol only an end is carried out, and `start` comes by here.
        if self._out:
            # A fast write that the poller's "writable" outran; `flush` finds nothing left to do.
            self._leave_fast_path()
        if self._life is not ABORTING and not self._fill_kernel():
            return
        if self._life is ABORTING:
            self._end(self._verdict)
        elif self._flow_holds() or self.bytesBuffered or self._all_sent():
            self._rearm()

    def _flow_holds(self) -> bool:
        """Whether a producer keeps the stream, or its write side, from ending. One that has nothing to say any more does not."""
        flow = self._flow
        if flow is None or flow.has_ended():
            return False
        if self._write_side is WRITE_FLUSHING and self._life is CONNECTED:
            # Source: Twisted. A half-close waits for what was written, and for a producer that is asked for more.
            return not flow.streaming or flow.is_holding()
        return True

    def _fill_kernel(self) -> bool:
        """Send what waits, and what a producer brings when it is resumed. Whether the stream is still there."""
        for _ in range(_SENDS_PER_FLUSH):
            box, flow = self._box, self._flow
            if box is not None and box.size and not self._send_some(box):
                return False
            if self._rest is not None:
                break  # Why: the kernel is out of buffers; more for it would be no rest.
            if flow is None or not flow.drained(box.size if box is not None else 0, self._limits[1]):
                break
            self._resume(flow)
            if self._life is not CONNECTED:
                break
        else:
            # The producer is quicker than the kernel is full: others come first.
            self._leave_fast_path()
        return not self.disconnected

    def _resume(self, flow: Flow) -> None:
        """The producer may go on; what it writes now leaves in the same flush."""
        if flow.streaming and self._core.observers:
            # Why first: full and drained are told in turns, also where resuming fills it at once. Why paused until
            # then: what an observer writes meanwhile must not pause it a second time.
            flow.paused = True
            self._core.report(self.number, Step.BUFFER_DRAINED)
            flow.paused = False
        # Why asked: that observer may have unregistered the producer, which is not to be called any more.
        if self._flow is flow:
            loop, was_due = self._loop, self._in_due
            loop.serving = self
            raised_here: BaseException | None = None
            try:
                flow.producer.resumeProducing()
            except BaseException as exc:
                raised_here = exc
            if loop.serving is self:
                loop.serving = None
                self._in_due = was_due
            # Else the producer has turned the loop, and what that found out about us is true.
            if raised_here is not None:
                message = "resumeProducing of a producer of %r raised; its connection is closed"
                self._user_raised(raised_here, message, with_reset=False)
                del raised_here  # Why: its traceback holds this frame.

    def _send_some(self, box: Outbox) -> bool:
        """Whether the stream is still there afterwards."""
        system = self._core.system
        before = box.size
        try:
            for _ in range(_SENDS_PER_FLUSH):
                offer = box.next(system.iov_max)
                if isinstance(offer, list):
                    sent = self.sock.sendmsg(offer)
                elif isinstance(offer, FilePart):
                    sent = offer.send_to(self.sock, box.offset)
                    if not sent:
                        box.cut()
                        break
                else:
                    sent = self.sock.send(offer)
                self._sent += sent
                box.went(sent)
                if not box.size or sent < box.offered:
                    break
        except _AGAIN:
            pass  # Safe because: what is left stays in the box, and `_rearm` asks for OUT.
        except OSError as exc:
            self._trouble(exc)
            return self._life is not CLOSED
        timer = self._timer
        # Why `cancelled`: users may have cancelled every call of getDelayedCalls, ours included.
        if (
            timer is not None
            and box.size < before
            and self._close_timeout is not None
            and not timer.cancelled
        ):
            timer.reset(self._close_timeout)
        return True

    def _all_sent(self) -> bool:
        """Nothing waits and no producer will bring more: end what was to end. Whether the stream is still there."""
        if self._write_side is WRITE_FLUSHING and self._life is CONNECTED:
            self._write_side = WRITE_SIDE[self._write_side, StreamEvent.FLUSHED]
            self._stop_timer()
            if self._core.observers:
                self._core.report(self.number, Step.WRITE_SIDE_ENDED)
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError as exc:
                # Why asked: after a reset the kernel says ENOTCONN here, and why only there.
                number = self._pending_error()
                self._end(broken(OSError(number, os.strerror(number)) if number else exc))
                return False
            if self.tell_if_known("writeConnectionLost") and self.disconnected:
                return False
        if self._life is CONNECTED:
            # Why here, for whichever side ended last: not every poller tells of it (select has no hang-up).
            if self._write_side is WRITE_SHUT and self._read_side is READ_ENDED:
                self._end(PEER_CLOSED)
                return False
        elif self._life is CLOSING:
            # Why asked: out of the poller (`_notice_end`), or only just back in it, nobody was told of a reset, which our FIN
            # may have met; and select() tells of none where nothing is asked for.
            is_unseen = self._mask <= 0 or self._write_side is WRITE_SHUT
            number = self._pending_error() if is_unseen else 0
            self._end(broken(OSError(number, os.strerror(number))) if number else self._verdict)
            return False
        return True

    def _rearm(self) -> None:
        """Ask the poller for what is wanted now, if that is not what it was asked for."""
        if self.protocol is None and self._life is CONNECTED:
            return  # Safe because: there is nobody to read for yet, and `start` comes by here.
        wanted = 0
        if self._rest is None:
            if self._reading and self._read_side is READ_OPEN and self._life is CONNECTED:
                wanted = IN
            box = self._box
            if box is not None and box.size:
                if not self._in_due:
                    # Else what was just written is tried first: the kernel may well have room.
                    wanted |= OUT
                self._watch_progress()
            elif self._is_plain_again():
                self._plain = True
        self._expected = IN if wanted == IN and not self._in_due else _NO_EVENT
        if wanted != self._mask:
            try:
                if self._mask >= 0:
                    self._loop.rewatch(self.fd, self, wanted)
                elif wanted:
                    self._loop.watch(self.fd, self, wanted)
                    self._core.open_ends.pop(self, None)
                else:
                    wanted = -1
            except OSError as exc:
                self._end(broken(exc))
                return
            self._mask = wanted
        if self._life is CLOSING or self._write_side is WRITE_FLUSHING:
            self._watch_progress()

    def _is_plain_again(self) -> bool:
        """Nothing waits to be sent: whether nothing else is special either, so that `write` may be fast."""
        return (
            self._life is CONNECTED
            and self._write_side is WRITE_OPEN
            and self._flow is None
            and self._limits[2] is None
            and not self._in_due
        )

    def _trouble(self, exc: OSError) -> None:
        """recv or send failed: rest a little if the kernel is out of buffers, else the connection is lost."""
        if exc.errno not in _OUT_OF_BUFFERS:
            self._end(broken(exc))
        elif self._rest is None:
            self._rest = self._loop.call_later(_REST, self._rested)
            self._plain = False
            self._rearm()

    def _rested(self) -> None:
        self._rest = None
        self._flush_slowly()

    # ---- ending, as asked by the user ---------------------------------------------------------------------------

    def loseConnection(self) -> None:
        """Close after everything written has been sent, and after a registered producer has unregistered.

        Order:  no more `dataReceived`; `connectionLost(ConnectionDone)` comes later, never from within this call. With
                no progress for `closeTimeout` seconds the connection is aborted, with `ConnectionLost`.
        Source: ITransport.loseConnection.
        """
        loop = self._loop
        if get_ident() != loop.thread:
            loop.check_thread("loseConnection")
        if self._life is CONNECTED:
            self._verdict = WE_CLOSED
            self._life = LIFE[self._life, StreamEvent.CLOSE_ASKED]
            box = self._leave_fast_path()
            if self._core.observers:
                self._core.report(self.number, Step.CLOSING, buffered=box.size)

    def abortConnection(self) -> None:
        """Close at once; what waits is thrown away and the peer gets a reset.

        Order:  `connectionLost(ConnectionAborted)` comes as soon as the running handler has returned.
        Source: ITCPTransport.abortConnection.
        """
        loop = self._loop
        if get_ident() != loop.thread:
            loop.check_thread("abortConnection")
        self.abort_for(WE_ABORTED)

    def abort_for(self, verdict: Verdict) -> None:
        if self._life is CONNECTED or self._life is CLOSING:
            self._verdict = verdict
            self._life = LIFE[self._life, StreamEvent.ABORT_ASKED]
            self._leave_fast_path().clear()

    def loseWriteConnection(self) -> None:
        """Send what was written, then FIN; the peer's data is still received.

        Order:  then `writeConnectionLost()`, if the protocol has it.
        Source: IHalfCloseableDescriptor.loseWriteConnection.
        """
        self._loop.check_thread_of("loseWriteConnection")
        if self._life is CONNECTED and self._write_side is WRITE_OPEN:
            self._write_side = WRITE_SIDE[self._write_side, StreamEvent.SHUT_ASKED]
            self._leave_fast_path()

    def _watch_progress(self) -> None:
        """While ending is asked for and something waits, a peer that takes nothing has only so much time."""
        is_ending = self._life is CLOSING or self._write_side is WRITE_FLUSHING
        if is_ending and self._timer is None and self._close_timeout is not None:
            self._timer = self._loop.call_later(self._close_timeout, self._no_progress)

    def _no_progress(self) -> None:
        self._timer = None
        self._end(stalled(self._close_timeout, self._box.size if self._box is not None else 0))

    def discard(self, exc: BaseException | None = None) -> None:
        """Close the socket of a stream that was never started: there is no protocol to tell.

        Args: exc: what buildProtocol raised; None if it gave no protocol.
        """
        if self._life is CLOSED:
            return  # Safe because: buildProtocol closed it and turned the loop; the owner was told.
        verdict = WE_CLOSED if exc is None else raised(exc, with_reset=False)
        self._life = LIFE[self._life, StreamEvent.GONE]
        self.ended = ended = verdict.ended(0.0, 0, 0)
        self._plain = False
        self._out = b""
        self._loop.unwatch(self.fd)
        self._core.open_ends.pop(self, None)
        self.owner = None
        self.sock.close()
        if self._core.observers:
            self._report_closed(ended, verdict.reason(self._core.words.error, ended))

    # ---- ending, for real -------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        self._end(SHUT_DOWN)

    def disown(self) -> None:
        # Why more than the socket: the child may be about to return into this stream's own handler, or its flush.
        self._life = LIFE[self._life, StreamEvent.GONE]
        self._plain = self._in_due = False
        self._expected = _NO_EVENT
        self._out = b""
        # Why: nobody will end it, and its protocol has it: no circle may stay.
        self.protocol = self.owner = None
        self.sock.close()

    def _user_raised(self, exc: BaseException, message: str, with_reset: bool) -> None:
        self._loop.user_error(exc, message, self.protocol)
        if not isinstance(exc, (SystemExit, KeyboardInterrupt)):
            self._end(raised(exc, with_reset))

    def _end(self, verdict: Verdict) -> None:
        """The one way out: socket closed, protocol told, owner told. Never on the stack of a user's own call."""
        if self._life is CLOSED:
            return
        self._life = LIFE[self._life, StreamEvent.GONE]
        core, loop = self._core, self._loop
        self._plain = False
        self._expected = _NO_EVENT
        self._out = b""
        self.ended = ended = verdict.ended(loop.now() - self._since, self._received, self._sent)
        # Rule: out of the poller before the first callback, which may turn the loop.
        if self._mask >= 0:
            loop.unwatch(self.fd)
            self._mask = -1
        else:
            core.open_ends.pop(self, None)
        if self._timer is not None:
            self._stop_timer()
        if self._rest is not None and self._rest.active():
            self._rest.cancel()
        if self._flow is not None:
            self._stop_producer()
        if self._box is not None:
            self._box.clear()
        self._close_socket(verdict)
        reason = verdict.reason(core.words.error, ended)
        protocol, owner = self.protocol, self.owner
        self.protocol = self.owner = None
        if core.observers:
            self._report_closed(ended, reason)
        failure = core.words.Failure(reason)
        if protocol is not None:
            loop.call_method(protocol, "connectionLost", failure)
        assert owner is not None
        owner._lost(self, failure)

    def _close_socket(self, verdict: Verdict) -> None:
        sock = self.sock
        if self._host is None:
            self._host = self._find_host()
        try:
            if verdict.with_reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            elif verdict is WE_CLOSED and self._sent and self._read_side is READ_OPEN:
                for _ in range(_DISCARD_READS):
                    if not sock.recv(READ_SIZE):
                        break
        except OSError:
            pass  # Safe because: both are courtesies; the socket is closed whatever they say.
        try:
            sock.close()
        except OSError:
            pass  # Safe because: EBADF, somebody closed the number behind our back; it is gone either way.

    def _report_closed(self, ended: Ended, reason: BaseException) -> None:
        facts: dict[str, object] = {"reason": type(reason).__name__, **ended._asdict(), "by": ended.by.value}
        self._core.report(self.number, Step.CLOSED, **facts)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    # ---- producing and consuming ------------------------------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let a producer be paused and resumed as the buffer fills and empties.

        Args:   producer: has pauseProducing, resumeProducing, stopProducing (streaming), or resumeProducing and
                    stopProducing (pull).
                streaming: whether it produces by itself until paused; False: once per resumeProducing.
        Raises: RuntimeError if one is registered already; TypeError naming the methods it lacks.
        Order:  a pull producer is asked at once; after the connection has ended `stopProducing` is called at once.
        Source: IConsumer.registerProducer.
        """
        self._loop.check_thread_of("registerProducer")
        check_producer(producer, streaming, None if self._flow is None else self._flow.producer)
        if self._life is CLOSED:
            producer.stopProducing()
            return
        self._flow = Flow(producer, streaming)
        box = self._leave_fast_path()
        if not streaming:
            producer.resumeProducing()
        elif self._flow.wrote(box.size, self._limits[0]):
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Let the producer go; a `loseConnection` that waited for it goes on."""
        self._loop.check_thread_of("unregisterProducer")
        self._flow = None
        if self._life is not CLOSED:
            self._leave_fast_path()

    def _stop_producer(self) -> None:
        flow, self._flow = self._flow, None
        if flow is not None:
            self._loop.call_method(flow.producer, "stopProducing")

    def pauseProducing(self) -> None:
        """Read no more until `resumeProducing`. A reset by the peer is noticed all the same."""
        self._set_reading(False, "pauseProducing")

    def resumeProducing(self) -> None:
        """Read again."""
        self._set_reading(True, "resumeProducing")

    def stopProducing(self) -> None:
        """The consumer of this connection's data is gone: the same as `loseConnection`."""
        self.loseConnection()

    def _set_reading(self, reading: bool, asked: str) -> None:
        if get_ident() != self._loop.thread:
            self._loop.check_thread(asked)
        if self._reading is not reading and self._life is CONNECTED:
            self._reading = reading
            self._leave_fast_path()
            if self._core.observers:
                self._core.report(self.number, Step.RESUMED if reading else Step.PAUSED)

    def setWriteLimits(self, high: int, low: int = 0, hard: int | EllipsisType | None = ...) -> None:
        """When a producer is paused and resumed, and when a peer that reads nothing is given up.

        Args:   high, low: bytes waiting above which it is paused, at or below which it is resumed.
                hard: bytes waiting above which the connection is aborted; None for no limit; ... leaves it as it is.
        Raises: ValueError unless 0 <= low <= high <= hard.
        """
        self._loop.check_thread_of("setWriteLimits")
        if hard is ...:
            hard = self._limits[2]
        check_limits(high, low, hard)
        self._limits = (high, low, hard)
        if self._life is not CLOSED:
            box = self._leave_fast_path()
            if hard is not None and box.held > hard:
                self.abort_for(overrun(box.held, hard))

    @property
    def writeLimits(self) -> tuple[int, int, int | None]:
        """(high, low, hard), as `setWriteLimits` takes them."""
        return self._limits

    @property
    def closeTimeout(self) -> float | None:
        """Seconds without progress after which a connection that is being closed is aborted; None waits for ever.

        Raises: ValueError, when set to anything but None or a finite number above 0.
        """
        return self._close_timeout

    @closeTimeout.setter
    def closeTimeout(self, seconds: float | None) -> None:
        self._loop.check_thread_of("closeTimeout")
        check_seconds("closeTimeout", seconds)
        self._close_timeout = seconds
        if self._life is not CLOSED:
            self._stop_timer()
            self._watch_progress()

    # ---- asking -----------------------------------------------------------------------------------------------

    @property
    def reactor(self) -> Any:
        """The reactor this connection lives in."""
        return self._core.reactor

    @property
    def connected(self) -> bool:
        """Whether the socket is still there."""
        return self._life is not CLOSED

    @property
    def disconnected(self) -> bool:
        """Whether the connection has ended."""
        return self._life is CLOSED

    @property
    def disconnecting(self) -> bool:
        """Whether `loseConnection` was called, also after the end; or the peer has ended, and we still send."""
        life = self._life
        return life is CLOSING or (life is CLOSED and self._verdict is WE_CLOSED)

    @property
    def state(self) -> str:
        """In words: "connected", "half-closed by the peer", "closing" …"""
        if self._life is CONNECTED:
            return JOINT[self._read_side, self._write_side]
        return self._life.value

    @property
    def bytesReceived(self) -> int:
        """Bytes taken from the kernel so far."""
        return self._received

    @property
    def bytesSent(self) -> int:
        """Bytes the kernel took so far."""
        return self._sent

    @property
    def bytesBuffered(self) -> int:
        """Bytes written that the kernel did not take yet."""
        return len(self._out) + (self._box.size if self._box is not None else 0)

    def getHost(self) -> Any:
        """This end's address: IPv4Address or IPv6Address."""
        host = self._host
        if host is None or host.__class__ is tuple:
            host = self._host = self._find_host()
        return host

    def getPeer(self) -> Any:
        """The other end's address: IPv4Address or IPv6Address."""
        return self._peer

    def getHandle(self) -> Any:
        """The socket itself. What you do to it the engine does not know."""
        return self.sock

    def fileno(self) -> int:
        """The descriptor's number; -1 after the end."""
        return int(self.sock.fileno())

    def logPrefix(self) -> str:
        """How log lines about this connection begin."""
        return f"{type(self.protocol).__name__},{self.number}"

    def _find_host(self) -> Any:
        try:
            return self._core.words.address("TCP", self._host or self.sock.getsockname())
        except OSError:
            # Whoever asks wants an address: of a socket that cannot tell any more, the unspecified one (RFC 4291, 2.5.2).
            words = self._core.words
            is_ipv4 = self.sock.family == socket.AF_INET
            return words.IPv4Address("TCP", "0.0.0.0", 0) if is_ipv4 else words.IPv6Address("TCP", "::", 0)

    def getTcpNoDelay(self) -> bool:
        """Whether small segments are sent at once (TCP_NODELAY)."""
        return bool(self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Switch TCP_NODELAY."""
        self._loop.check_thread_of("setTcpNoDelay")
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(enabled))

    def getTcpKeepAlive(self) -> bool:
        """Whether the kernel probes an idle peer (SO_KEEPALIVE)."""
        return bool(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool | tuple[float, float, int]) -> None:
        """Switch SO_KEEPALIVE, or switch it on with (idle s, interval s, count). Raises: as TCPOptions(keepAlive=…)."""
        self._loop.check_thread_of("setTcpKeepAlive")
        if isinstance(enabled, tuple):
            for setting in keep_alive_settings(enabled):
                self.sock.setsockopt(*setting)
        else:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(enabled))

    def __repr__(self) -> str:
        return f"<Stream {self.number} {self.state} to {self._peer!r}>"
