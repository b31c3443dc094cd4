"""Virtual time and what will happen in it.

The world is one clock, one heap of happenings and one source of chance. It must never know sockets, hosts or reactors:
whoever wants something to happen later says when and what to call.

Time stands still while Python runs and jumps from happening to happening; so an hour of time-outs costs microseconds and
every timer is exact. Happenings of one instant come in an order drawn from the seed: code that is right only for one
order is found by another seed. Whoever needs an order among its own (the bytes of a connection) keeps its own queue and
lets the happening take the head of it.

A happening may be in the *background*: it belongs to the kernel's own housekeeping (a TIME_WAIT that ends), and nobody
waits for it. With nothing but those left the world is idle.

Everything is recorded: `record` adds to a running digest, so two runs are the same run if and only if the digests are.
Rejected: `hash()` anywhere in it; it differs between processes (PYTHONHASHSEED).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any

# Where virtual time starts, in seconds. Why not 0: code that takes 0.0 for "no time" would go unnoticed.
START = 1000.0
# Rows of the trace that are gathered before they are hashed.
_ROWS_AT_ONCE = 512


class SimulationError(RuntimeError):
    """The simulated world cannot go on as asked."""


class SimulationDeadlock(SimulationError):
    """A reactor waits for ever: no timer, no packet, no look-up is under way that could wake it."""


class SimulationSpin(SimulationError):
    """Turn follows turn and time never moves: something is ready on which nobody acts."""


class Happening:
    """Something that will happen; `cancel` makes sure it does not."""

    __slots__ = ("_world", "args", "background", "call", "time")

    def __init__(
        self, world: World, time: float, call: Callable[..., object], args: tuple[Any, ...], background: bool
    ) -> None:
        self._world = world
        self.time = time
        self.call: Callable[..., object] | None = call
        self.args = args
        self.background = background

    def cancel(self) -> None:
        """Does nothing if it has happened already."""
        if self.call is not None:
            self.call = None
            self.args = ()
            if not self.background:
                self._world.foreground -= 1


class World:
    """One clock, one heap of happenings, one source of chance."""

    __slots__ = (
        "_digest",
        "_heap",
        "_keep",
        "_rows",
        "_serial",
        "foreground",
        "now",
        "random",
        "seed",
        "trace",
    )

    def __init__(self, seed: int | str, keep_trace: bool = False) -> None:
        # Why a str: Random hashes a str with SHA-512 (version 2), the same in every process and on every Python.
        self.random = random.Random(str(seed))
        self.seed = seed
        self.now = START
        self.foreground = 0
        self._heap: list[tuple[float, float, int, Happening]] = []
        self._serial = 0
        self._digest = blake2b(digest_size=16)
        self._rows: list[tuple[object, ...]] = []
        self._keep = keep_trace
        self.trace: list[tuple[object, ...]] = []

    # ---- what will happen -------------------------------------------------------------------------------------

    def after(
        self, delay: float, call: Callable[..., object], *args: Any, background: bool = False
    ) -> Happening:
        """Call something `delay` seconds from now, never before this returned."""
        return self.at(self.now + delay, call, *args, background=background)

    def at(self, time: float, call: Callable[..., object], *args: Any, background: bool = False) -> Happening:
        """Call something at a time of the virtual clock; at once, but not before this returned, if it is past."""
        # hot: several per message. The chance decides among happenings of one instant, the serial makes it total.
        if time < self.now:
            time = self.now
        happening = Happening(self, time, call, args, background)
        self._serial = serial = self._serial + 1
        heappush(self._heap, (happening.time, self.random.random(), serial, happening))
        if not background:
            self.foreground += 1
        return happening

    def next_time(self) -> float | None:
        """When the next thing happens; None if nothing will, or only what nobody waits for."""
        heap = self._heap
        while heap and heap[0][3].call is None:
            heappop(heap)
        if not self.foreground:
            return None
        return heap[0][0]

    def happen(self) -> int:
        """Let everything happen that is due now; how much it was."""
        heap = self._heap
        count = 0
        while heap and heap[0][0] <= self.now:
            happening = heappop(heap)[3]
            call, args = happening.call, happening.args
            if call is None:
                continue
            happening.call = None
            happening.args = ()
            if not happening.background:
                self.foreground -= 1
            count += 1
            call(*args)
        return count

    def jump(self, time: float) -> int:
        """Move the clock, never back, and let what is in the background on the way there happen in its own time."""
        heap = self._heap
        count = 0
        while heap and heap[0][0] <= time:
            if heap[0][0] > self.now:
                self.now = heap[0][0]
            count += self.happen()
        if time > self.now:
            self.now = time
        return count

    # ---- what has happened ------------------------------------------------------------------------------------

    def record(self, *row: object) -> None:
        """Add a row to the trace: only plain numbers and strings, which look the same in every process."""
        self._rows.append((self.now, *row))
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        self._digest.update(repr(self._rows).encode())
        if self._keep:
            self.trace.extend(self._rows)
        self._rows.clear()

    def digest(self) -> str:
        """What all rows so far come to, in hex."""
        # Why flushing changes nothing: the digest is over a fixed grouping only if groups are the same, so the rows
        # not yet hashed are hashed into a copy.
        copy = self._digest.copy()
        copy.update(repr(self._rows).encode())
        return copy.hexdigest()

    def rows(self) -> list[tuple[object, ...]]:
        """All rows so far, if they are kept."""
        return self.trace + self._rows if self._keep else []
