"""The net catches fish: bugs that real engines had, planted one at a time in a copy of ours; swarm or torture must find each.

A bug is some lines taken out of one file and others put in, a slip of a careful programmer's. Each is planted in a copy of
the package, in a folder of its own; a child process (hunt.py) that imports this copy lives through the swarm's seeds 0, 1,
2 … until the judge objects, and through the torture if it never does. Rule: the tree itself is never changed.

    python -m tests.fuzz.planted                         every bug; the table; status 1 if one got away
    python -m tests.fuzz.planted NAME …                  just these: how a row of the table is repeated
    python -m tests.fuzz.planted NAME --first 317 --most 1     only that seed
    python -m tests.fuzz.planted --write                 and write the table into docs/simulation.md

A planted bug that hangs counts as caught by what the simulation says of it (spin, deadlock, a limit of time). Where it can
say nothing, in a loop without end inside one call, a limit of wall-clock time per seed ends it, and is told as such.

Rejected: mutants made by a tool. Most of theirs are vandalism, which any test finds, or change nothing; what is to be known
is whether the *slips* are found that people made in such engines. Sources: FAULTS, sections 1 and 2.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "ropewalk"
PAGE = ROOT / "docs" / "simulation.md"
MOST_SEEDS = 1000


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


@dataclass(frozen=True)
class Catch:
    """What became of one bug: by whom it was caught ("" if by nobody), after how many seeds, and what was said first."""

    by: str
    seeds: int
    said: str


STREAM = "_net/stream.py"
DIAL = "_net/dial.py"
LISTEN = "_net/listen.py"
LOOP = "_loop/loop.py"
TIMERS = "_loop/timers.py"
CONNECTOR = "_net/connector.py"
RESOLVE = "_net/resolve.py"

BUGS = (
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
                "elif self._flow is not None or self.bytesBuffered or self._all_sent():",
                "elif self._flow is not None or (self.bytesBuffered and self._write_side is WriteSide.OPEN) or self._all_sent():",
            ),
        ),
    ),
    Bug(
        "write-after-loss-kept",
        STREAM,
        "C4, I10: bytes written in connectionLost wait for ever",
        (
            (
                "        if self._life is StreamState.CLOSED or self._life is StreamState.ABORTING:\n            return\n        if self._write_side",
                "        if self._life is StreamState.ABORTING:\n            return\n        if self._write_side",
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
                "        if self._life is StreamState.CLOSED:\n            return\n        self._life = LIFE[self._life, StreamEvent.GONE]\n        core, loop",
                "        self._life = StreamState.CLOSED\n        core, loop",
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
                "        if self._life is StreamState.CLOSING:\n            self._watch_progress()\n",
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
                '            attempt.undo()\n            if self._core.observers:\n                self._report_failed(attempt, "given up", None)\n        self._attempts.clear()',
                '            if self._core.observers:\n                self._report_failed(attempt, "given up", None)\n        self._attempts.clear()',
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


# ---- planting -------------------------------------------------------------------------------------------------------


@contextmanager
def planted(bug: Bug) -> Iterator[Path]:
    """A copy of the package with the bug in it, for as long as this lasts; the folder to put into PYTHONPATH."""
    with TemporaryDirectory(prefix="planted-") as folder:
        place = Path(folder)
        # Why without bytecode: a patched file of the same size and second would be taken for the one compiled before.
        shutil.copytree(PACKAGE, place / "ropewalk", ignore=shutil.ignore_patterns("__pycache__"))
        file = place / "ropewalk" / bug.file
        text = file.read_text()
        for taken, put in bug.changes:
            if text.count(taken) != 1:
                raise ValueError(f"{bug.name}: found {text.count(taken)} times in {bug.file}:\n{taken}")
            text = text.replace(taken, put)
        file.write_text(text)
        yield place


def catch(bug: Bug, first: int = 0, most: int = MOST_SEEDS, has_torture: bool = True) -> Catch:
    """Plant one bug, and see who finds it."""
    with planted(bug) as place:
        asked = [str(place), bug.file, str(first), str(most), str(int(has_torture))]
        done = subprocess.run(
            [sys.executable, "-B", "-m", "tests.fuzz.hunt", *asked],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(place), str(ROOT)])},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(f"{bug.name}: the hunt itself failed\n{done.stdout}\n{done.stderr}")
    return Catch(**json.loads(done.stdout.splitlines()[-1]))


# ---- the table ------------------------------------------------------------------------------------------------------

# Where the table is in the page.
_BEGIN, _END = (
    "<!-- planted bugs: written by python -m tests.fuzz.planted --write -->",
    "<!-- end of planted bugs -->",
)
_HEAD = """\
## Planted bugs

Does the simulation find bugs, or only agree with the engine it was written beside? Each row is a slip that a real engine made, or
could have made, planted in a copy of this engine's source. The swarm lives through seeds 0, 1, 2 … until its judge objects;
where it never does within {most}, the torture plays its scenarios, and lets single calls of the kernel fail in them.
`tests/fuzz/planted.py` holds the slips,
`tests/fuzz/hunt.py` finds them. One row again: `python -m tests.fuzz.planted NAME`.

{count} bugs, {caught} caught: {swarm} by the swarm, {torture} by the torture.{away}

| bug | like | file | caught by | seeds | what was said first |
|---|---|---|---|--:|---|
"""


def page(catches: dict[str, Catch]) -> str:
    by = [catch.by for catch in catches.values()]
    swarm = sum(each == "swarm" for each in by)
    caught = sum(bool(each) for each in by)
    missed = [name for name, found in catches.items() if not found.by]
    away = f" Not caught: {', '.join(missed)}." if missed else ""
    head = _HEAD.format(
        most=MOST_SEEDS, count=len(by), caught=caught, swarm=swarm, torture=caught - swarm, away=away
    )
    rows = [
        f"| {bug.name} | {_cell(bug.like)} | `{bug.file}` | {_cell(found.by) or '**nobody**'} | {found.seeds} | {_cell(found.said)} |"
        for bug in BUGS
        if (found := catches.get(bug.name))
    ]
    return head + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def rows() -> dict[str, tuple[str, int]]:
    """By whom and after how many seeds each bug is caught, as the page says."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.replace("\\|", "/").strip("|").split(" | ")]
        if len(cells) == 6 and cells[4].isdigit():
            found[cells[0]] = (cells[3], int(cells[4]))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.planted", description="Plant bugs; see who finds them."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which bugs; all if none is named")
    parser.add_argument(
        "--most", type=int, default=MOST_SEEDS, help="seeds of the swarm at most (%(default)s)"
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed (%(default)s)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/simulation.md")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.names) - {bug.name for bug in BUGS}:
        parser.error(f"no such bug: {', '.join(sorted(unknown))}")
    if asked.write and (asked.names or asked.first or asked.most != MOST_SEEDS):
        parser.error("--write is for all bugs and all seeds")
    catches = {}
    print(
        f"{'bug':46} {'caught by':36} {'seeds':>5}  what was said first; again: python -m tests.fuzz.planted BUG"
    )
    chosen = [bug for bug in BUGS if not asked.names or bug.name in asked.names]
    # Why threads: each waits for a process of its own.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for bug, found in zip(
            chosen, pool.map(lambda bug: catch(bug, asked.first, asked.most), chosen), strict=True
        ):
            catches[bug.name] = found
            print(f"{bug.name:46} {found.by or 'NOBODY':36} {found.seeds:5}  {found.said}", flush=True)
    if asked.write:
        before, _, rest = PAGE.read_text().partition(_BEGIN)
        PAGE.write_text(f"{before}{_BEGIN}\n{page(catches)}{_END}{rest.partition(_END)[2]}")
    away = [name for name, found in catches.items() if not found.by]
    print(f"{len(catches)} planted, {len(catches) - len(away)} caught", *away)
    return 1 if away else 0


if __name__ == "__main__":
    sys.exit(main())
