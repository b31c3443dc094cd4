"""The slips that planted.py plants: each is a bug that a real engine had, or could have had, as a change of our text.

A bug is some lines taken out of one file and others put in, a slip of a careful programmer's. Those of the policies are in
slips_of_policies.py. Sources: FAULTS, sections 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """One slip.

    Args:   file: under src/ropewalk.
            changes: text taken out, which is there exactly once, and text put in; more than one where a slip has two ends.
            like: whose bug it is like, and what it does.
    """

    name: str
    file: str
    like: str
    changes: tuple[tuple[str, str], ...]


STREAM = "_net/stream.py"
DIAL = "_net/dial.py"
LISTEN = "_net/listen.py"
LOOP = "_loop/loop.py"
TIMERS = "_loop/timers.py"
CONNECTOR = "_net/connector.py"
RESOLVE = "_net/resolve.py"

SLIPS = (
    # ---- bytes ------------------------------------------------------------------------------------------------
    Bug(
        "short-write-loses-its-tail",
        STREAM,
        "C2, cpython#103462: what one send did not take is forgotten",
        (
            (
                "        self._sent += sent\n        if sent == len(out):\n            self._out",
                "        self._sent += sent\n        if sent:\n            self._out",
            ),
        ),
    ),
    Bug(
        "again-loses-what-was-offered",
        STREAM,
        "C2, cpython#146518: the kernel says EAGAIN after the bytes were taken from the buffer",
        (
            (
                "        if isinstance(exc, _AGAIN):\n            self._sent_in_part(0)",
                '        if isinstance(exc, _AGAIN):\n            self._out = b""\n            self._sent_in_part(0)',
            ),
        ),
    ),
    Bug(
        "offset-kept-after-joining",
        "_net/outbox.py",
        "C2, Twisted #9446: joined chunks are sent from where the first one stood",
        (
            (
                "            chunks.appendleft(joined)\n            self.offset = 0\n",
                "            chunks.appendleft(joined)\n",
            ),
        ),
    ),
    Bug(
        "again-taken-for-an-error",
        STREAM,
        "C2: a full kernel buffer ends the connection",
        (
            (
                "        if isinstance(exc, _AGAIN):\n            self._sent_in_part(0)\n        else:\n",
                "        if True:\n",
            ),
        ),
    ),
    Bug(
        "unsent-dropped-when-peer-ends",
        STREAM,
        "Twisted, CONTRACT section 5: the peer ends its side, 17 of 20 MB are thrown away",
        (
            (
                "elif self._box is None and not self._out and self._flow is None:",
                "elif self._flow is None:",
            ),
        ),
    ),
    Bug(
        "half-close-drops-the-buffer",
        STREAM,
        "C6: loseWriteConnection sends FIN before what was written",
        (
            (
                "elif self._flow_holds() or self.bytesBuffered or self._all_sent():",
                "elif self._flow_holds() or (self.bytesBuffered and self._write_side is WRITE_OPEN) or self._all_sent():",
            ),
        ),
    ),
    Bug(
        "write-after-loss-kept",
        STREAM,
        "C4, I10: bytes written in connectionLost wait for ever",
        (
            (
                "        if self._life is CLOSED or self._life is ABORTING:\n            return\n        if self._write_side",
                "        if self._life is ABORTING:\n            return\n        if self._write_side",
            ),
        ),
    ),
    Bug(
        "hard-limit-only-for-slow-writes",
        STREAM,
        "C1: a write path that does not ask for the limit",
        (("self._plain = options.hardLimit is None", "self._plain = True"),),
    ),
    # ---- ending -----------------------------------------------------------------------------------------------
    Bug(
        "lost-twice",
        STREAM,
        "C7, Twisted #7153: the one way out can be taken twice",
        (
            (
                "        if self._life is CLOSED:\n            return\n        self._life = LIFE[self._life, StreamEvent.GONE]\n        core, loop",
                "        self._life = CLOSED\n        core, loop",
            ),
            (
                "        self.protocol = self.owner = None\n        if core.observers:",
                "        if core.observers:",
            ),
        ),
    ),
    Bug(
        "connectionLost-raises-and-nobody-else-is-told",
        STREAM,
        "Twisted, CONTRACT section 3: clientConnectionLost is never called, no reconnection",
        (
            (
                '        if protocol is not None:\n            loop.call_method(protocol, "connectionLost", failure)\n',
                '        if protocol is not None and not loop.call_method(protocol, "connectionLost", failure):\n            return\n',
            ),
        ),
    ),
    Bug(
        "fin-told-as-lost",
        STREAM,
        "C5, J4: the hang-up of two clean ends is taken for an error",
        (
            (
                "        if event & ERR:\n            number = self._pending_error()\n            if number:\n",
                "        if event & (ERR | HUP):\n            number = self._pending_error() or errno.ECONNRESET\n            if number:\n",
            ),
        ),
    ),
    Bug(
        "reset-after-fin-told-as-done",
        STREAM,
        'FAULTS section 1: after FIN and RST recv says b"", and it is believed',
        (
            (
                "        if event & ERR:\n            number = self._pending_error()\n            if number:\n",
                "        if event & ERR and self._received == 0:\n            number = self._pending_error()\n            if number:\n",
            ),
        ),
    ),
    Bug(
        "reset-told-as-done",
        STREAM,
        "C5: an error of recv is the end of the data",
        (
            (
                "        if exc.errno not in _OUT_OF_BUFFERS:\n            self._end(broken(exc))",
                "        if exc.errno not in _OUT_OF_BUFFERS:\n            self._end(broken(exc) if self._out or self._box else PEER_CLOSED)",
            ),
        ),
    ),
    Bug(
        "reason-keeps-its-traceback",
        "_net/ending.py",
        "C15, cpython#109534: a reason that users keep holds frames, and they the connection",
        (("osError=exc.with_traceback(None)", "osError=exc"),),
    ),
    Bug(
        "close-deadline-never-armed",
        STREAM,
        "C6, Twisted #4719: a producer that never unregisters, a peer that never reads; loseConnection never ends",
        (
            (
                "        if self._life is CLOSING or self._write_side is WRITE_FLUSHING:\n            self._watch_progress()\n",
                "",
            ),
            (
                "                    wanted |= OUT\n                self._watch_progress()\n",
                "                    wanted |= OUT\n",
            ),
        ),
    ),
    Bug(
        "close-deadline-blind-to-progress",
        STREAM,
        "C6: the deadline counts from the asking, and aborts a transfer that goes on",
        (("            timer.reset(self._close_timeout)\n", "            pass\n"),),
    ),
    Bug(
        "closed-before-unwatched",
        STREAM,
        "B8, B9: the number may be another connection's when it is taken out of the poller",
        (
            (
                "        if self._mask >= 0:\n            loop.unwatch(self.fd)\n            self._mask = -1\n        else:\n",
                "        if self._mask >= 0:\n            pass\n        else:\n",
            ),
            (
                "        self._close_socket(verdict)\n        reason = verdict",
                "        self._close_socket(verdict)\n        loop.unwatch(self.fd)\n        reason = verdict",
            ),
        ),
    ),
    Bug(
        "attempt-closed-before-unwatched",
        DIAL,
        "B8: fileno() of a closed socket is -1, and that is what is unwatched",
        (
            (
                "            self._core.loop.unwatch(sock.fileno())\n            sock.close()\n\n    def shut_down",
                "            sock.close()\n            self._core.loop.unwatch(sock.fileno())\n\n    def shut_down",
            ),
        ),
    ),
    # ---- pausing and producing --------------------------------------------------------------------------------
    Bug(
        "paused-is-forgotten",
        STREAM,
        "F2: a paused connection leaves the poller, and nobody knows it at shutdown",
        (
            (
                "                if self._mask >= 0:\n                    self._loop.rewatch(self.fd, self, wanted)\n",
                "                if self._mask >= 0 and not wanted:\n                    self._loop.unwatch(self.fd)\n                    wanted = -1\n                elif self._mask >= 0:\n                    self._loop.rewatch(self.fd, self, wanted)\n",
            ),
        ),
    ),
    Bug(
        "paused-is-deaf-to-resets",
        STREAM,
        "F3: mask 0 is left out, so a reset is noticed only when the user resumes",
        (
            (
                "                if self._mask >= 0:\n                    self._loop.rewatch(self.fd, self, wanted)\n",
                "                if self._mask >= 0 and not wanted:\n                    self._loop.unwatch(self.fd)\n                    self._core.open_ends[self], wanted = None, -1\n                elif self._mask >= 0:\n                    self._loop.rewatch(self.fd, self, wanted)\n",
            ),
        ),
    ),
    Bug(
        "hang-up-while-paused-spins",
        STREAM,
        "B3, Twisted #2809: HUP cannot be masked, and is reported for ever",
        (
            (
                "            self._core.open_ends[self] = None\n            self._loop.unwatch(self.fd)\n            self._mask = -1\n            self._expected = _NO_EVENT\n",
                "            self._expected = _NO_EVENT\n",
            ),
        ),
    ),
    Bug(
        "read-after-pause-in-one-batch",
        STREAM,
        "C12, Twisted #1780: what is in the batch already is delivered to one that has just been paused",
        (
            (
                "        # Why: what is asked for now is to be carried out before anything more is read.\n        self._expected = _NO_EVENT\n",
                "",
            ),
        ),
    ),
    Bug(
        "producer-never-resumed",
        "_net/flow.py",
        "J6: low water 0 is never undercut",
        (("if self.paused and waiting <= low:", "if self.paused and waiting < low:"),),
    ),
    Bug(
        "producer-resumed-twice",
        "_net/flow.py",
        "J6: resumed again with every send that follows",
        (
            (
                "            if self.paused and waiting <= low:\n                self.paused = False\n",
                "            if self.paused and waiting <= low:\n",
            ),
        ),
    ),
    Bug(
        "producer-paused-with-every-write",
        "_net/flow.py",
        "CONTRACT section 5, Twisted: pauseProducing comes once per write, not once per crossing",
        (
            (
                "if self.streaming and not self.paused and waiting > high:",
                "if self.streaming and waiting > high:",
            ),
        ),
    ),
    Bug(
        "producer-not-paused-when-registered-late",
        STREAM,
        "C1, J6: the buffer is full already when a producer is registered",
        (
            (
                "        elif self._flow.wrote(box.size, self._limits[0]):\n            producer.pauseProducing()\n",
                "",
            ),
        ),
    ),
    Bug(
        "producer-called-after-unregistering",
        STREAM,
        "J6: an observer has unregistered it meanwhile, or somebody else has",
        (
            (
                "        if self._flow is flow:\n            loop, was_due",
                "        if self._flow is not None or flow:\n            loop, was_due",
            ),
        ),
    ),
    Bug(
        "producer-not-stopped-at-the-end",
        STREAM,
        "IPushProducer: the connection is gone, and its producer is not told",
        (
            (
                "        if self._flow is not None:\n            self._stop_producer()\n",
                "        self._flow = None\n",
            ),
        ),
    ),
    # ---- connecting -------------------------------------------------------------------------------------------
    Bug(
        "connect-deadline-not-cancelled",
        DIAL,
        "I5: the timer of an attempt that has connected stays",
        (("            deadline.cancel()\n", "            pass\n"),),
    ),
    Bug(
        "deadline-without-the-look-up",
        DIAL,
        "CONTRACT row 4: the time for connecting begins when the name is resolved",
        (
            (
                "        if self._timeout is not None:\n            self._deadline = loop.timers.add(self._timeout, self._timed_out, (), None)\n",
                "",
            ),
            (
                "        self._state = DIAL[self._state, DialEvent.RESOLVE]\n        core = self._core\n",
                "        self._state = DIAL[self._state, DialEvent.RESOLVE]\n        core = self._core\n        if self._timeout is not None:\n            self._deadline = core.loop.call_later(self._timeout, self._timed_out)\n",
            ),
        ),
    ),
    Bug(
        "loser-left-open",
        DIAL,
        "RFC 8305, aiohttp's leak: the addresses that lost the race keep their sockets",
        (
            (
                '            attempt.undo()\n            self._note_failed(attempt, "given up", None)\n        self._attempts.clear()',
                '            self._note_failed(attempt, "given up", None)\n        self._attempts.clear()',
            ),
        ),
    ),
    Bug(
        "stagger-not-cancelled-when-one-fails",
        DIAL,
        "RFC 8305 section 5: the next address starts at once, and its own stagger finds another one running",
        (
            (
                "        if stagger is not None and not stagger.cancelled:\n            stagger.cancel()\n        self._try_next()\n",
                "        self._try_next()\n",
            ),
        ),
    ),
    Bug(
        "answer-after-cancel-is-used",
        DIAL,
        "E1: a name is resolved for an attempt that was given up",
        (
            ("        if self._look_up is not None:\n            self._look_up.cancel()\n", ""),
            (
                "        if self._state is not DialState.RESOLVING:\n            return\n        self._look_up = None\n",
                "        self._look_up = None\n",
            ),
        ),
    ),
    Bug(
        "look-ups-never-finish",
        RESOLVE,
        "E1: each look-up keeps its place; after some dozen no name is resolved any more",
        (
            (
                "            look_up.is_fresh = False\n            self._fresh -= 1\n",
                "            look_up.is_fresh = False\n",
            ),
        ),
    ),
    Bug(
        "connected-to-itself",
        DIAL,
        "C9, tokio#3405: an ephemeral port is the port called, where nobody listens",
        (
            (
                "            has_met_itself = host[1] == self.sockaddr[1] and self.is_self_connected(host)\n",
                "            has_met_itself = False\n",
            ),
        ),
    ),
    Bug(
        "so-error-not-read",
        DIAL,
        "C8: writable is taken for connected",
        (
            (
                "            number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)\n            if number:\n                raise OSError(number, os.strerror(number))\n            host",
                "            host",
            ),
        ),
    ),
    Bug(
        "stopped-while-resolving-is-not-told",
        CONNECTOR,
        "Twisted, CONTRACT section 3: reactor.stop() while a name is looked up; no callback at all",
        (
            (
                "        if self._state is ConnectorState.CONNECTING:\n            # Why no UserError",
                "        if self._state is ConnectorState.CONNECTING and self._dial and self._dial._attempts:\n            # Why no UserError",
            ),
        ),
    ),
    Bug(
        "factory-not-stopped-after-raising",
        CONNECTOR,
        "Twisted, CONTRACT section 3: startedConnecting raises and doStop is forgotten",
        (
            (
                "            if self._state is ConnectorState.DISCONNECTED:\n                self._at_rest()\n\n    def stopConnecting",
                "            if self._state is ConnectorState.DISCONNECTED:\n                self._dial = None\n                self._core.open_ends.pop(self, None)\n\n    def stopConnecting",
            ),
        ),
    ),
    Bug(
        "factory-stopped-though-reconnecting",
        CONNECTOR,
        "I6, CONTRACT section 3: connect() in clientConnectionLost, and then doStop all the same",
        (
            (
                "        self._core.loop.call_method(self.factory, callback, self, reason)\n        if self._state is ConnectorState.DISCONNECTED:\n            self._at_rest()\n",
                "        self._core.loop.call_method(self.factory, callback, self, reason)\n        self._at_rest()\n",
            ),
        ),
    ),
    # ---- listening --------------------------------------------------------------------------------------------
    Bug(
        "stopListening-keeps-its-reserve",
        LISTEN,
        "I10: a descriptor is left for each time a port has listened",
        (("        if reserve is not None:\n            reserve.close()\n", ""),),
    ),
    Bug(
        "accept-leaks-when-building-raises",
        LISTEN,
        "C14, Twisted: buildProtocol raises, and the accepted socket stays",
        (
            (
                'its connection is closed", self.factory)\n            stream.discard(exc)\n            return\n',
                'its connection is closed", self.factory)\n            return\n',
            ),
        ),
    ),
    Bug(
        "no-descriptors-spins",
        LISTEN,
        "A1, A2, F6: nobody could be turned away, and accept is tried again at once",
        (("        return turned_away > 0\n", "        return True\n"),),
    ),
    Bug(
        "rest-never-ends",
        LISTEN,
        "A2, asyncio: the listener could not be watched again after a rest, and stays deaf",
        (
            (
                "        except OSError as exc:\n            self._take_rest(exc)\n        else:",
                "        except OSError as exc:\n            self._say(exc, self._rest)\n        else:",
            ),
        ),
    ),
    # ---- the loop ---------------------------------------------------------------------------------------------
    Bug(
        "stale-event-reaches-the-new-one",
        LOOP,
        "F14, B6: dispatched by number, without regard for who it was meant for",
        (("            if fresh and fd in fresh:\n                continue\n", ""),),
    ),
    Bug(
        "exit-swallowed",
        LOOP,
        "Twisted, CONTRACT section 3: SystemExit in a callback is logged, and the loop goes on",
        (
            (
                "        if isinstance(exc, (SystemExit, KeyboardInterrupt)):\n            self._exit = exc",
                "        if isinstance(exc, KeyboardInterrupt):\n            self._exit = exc",
            ),
        ),
    ),
    Bug(
        "wake-up-lost",
        LOOP,
        "E4, Twisted #1997: a wait that has an end is not thought to need waking",
        (
            (
                "        self._asleep = True\n        if calls or due",
                "        self._asleep = timeout is None\n        if calls or due",
            ),
        ),
    ),
    Bug(
        "waker-is-not-drained",
        "_loop/waker.py",
        "B1: the byte that woke the loop is never read",
        (
            (
                "            while len(self._reader.recv(_DRAIN_SIZE)) == _DRAIN_SIZE:\n                pass\n",
                "            while event & ERR and self._reader.recv(_DRAIN_SIZE):\n                pass\n",
            ),
            ("from typing import Any\n", "from typing import Any\n\nERR = 8\n"),
        ),
    ),
    Bug(
        "timer-moved-sooner-comes-late",
        TIMERS,
        "E3: only the time is written, and the heap does not know",
        (
            (
                "        if is_sooner:\n            self._enter(call)\n",
                "        if is_sooner and not self.heap:\n            self._enter(call)\n",
            ),
        ),
    ),
    Bug(
        "timer-moved-later-comes-early",
        TIMERS,
        "E3: an idle time-out that was reset fires all the same",
        (
            (
                "            heappop(heap)\n            if call.time > entered:\n                self._enter(call)\n                continue\n",
                "            heappop(heap)\n",
            ),
        ),
    ),
    Bug(
        "timer-heap-out-of-order",
        TIMERS,
        "E3: an entry is put back at the end of the heap, not in its place",
        (
            (
                "        heappush(self.heap, (call.time, serial, call))\n\n    def rebuild",
                "        self.heap.append((call.time, serial, call))\n\n    def rebuild",
            ),
        ),
    ),
    Bug(
        "rebuilt-heap-is-no-heap",
        TIMERS,
        "E3: the dead are taken out, and the order with them",
        (
            (
                "        heapify(self.heap)\n        self._dead = 0\n",
                "        self.heap.reverse()\n        self._dead = 0\n",
            ),
        ),
    ),
)
