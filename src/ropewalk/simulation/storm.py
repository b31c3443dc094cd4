"""A storm: misfortunes of every kind, drawn from the seed, one after another, and calm at its end.

    storm = sim.storm(30)           # for 30 virtual seconds from now
    sim.run(until=sim.now + 60)     # it has passed; what is alive must find its way back
    print(storm.log)                # what struck, whom, and when it was over

What strikes: packets between two hosts are held up or lost, a path is cut, a connection is reset by a middlebox, a program
gets no time, a kernel refuses calls or takes few bytes at once, names cannot be looked up, a program is killed or its
machine crashes, and comes back. Each misfortune but a reset lasts a while and is then undone; a storm that has passed has
undone all of its own, and nothing that others had ordered before. (Who cuts a path, pauses a host or silences the names while a
storm does the same sees it undone with the storm's: there is one switch.) So a test can demand two things: that nothing wrong
happened in the storm, and that everything works after it.

A storm holds, for each misfortune that lasts, the one callable that undoes it. Machines fall only if they have a program
that starts again (`Host.onStart`): of the others a test expects that they stay.

It goes by what `Simulation`, `Host` and `Faults` offer to all, and has chance of its own: whether there is a storm changes nothing of what the
world itself draws. Rejected: one probability for each packet and call. A fault that lasts some seconds and then ends is what
reconnecting, back-off and time-outs have to live with; a thousand single ones are noise.
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ropewalk.simulation.faults import FALLIBLE

if TYPE_CHECKING:
    from ropewalk.simulation.host import Host
    from ropewalk.simulation.network import Path
    from ropewalk.simulation.simulation import Simulation

Undo = Callable[[], object]
# What struck whom, in words, and how it is undone; None for what does not last.
Stroke = tuple[str, Undo | None]

# Calls that only the making of a reactor needs; they are not refused in the middle of its life.
_OF_THE_REACTOR = ("poller", "socket_pair")
# Virtual seconds between two misfortunes in the mean, and that one lasts at most. Why these: time-outs and back-offs of
# programs are of that size, so several strike within each of them.
EVERY = 1.0
LONGEST = 5.0
# No more often than once a millisecond, and nothing shorter: at one instant time would not move.
_LEAST = 0.001


class Storm:
    """Misfortunes for some time; made by `Simulation.storm`.

    Args:   seconds: how long it lasts, from now.
            every: virtual seconds between two misfortunes, in the mean.
            longest: how long one lasts at most.
            kinds: which; None for all of `KINDS`.
    Raises: ValueError for a number that is not above 0, for an unknown kind, naming it, or for none.
    """

    def __init__(
        self,
        sim: Simulation,
        seconds: float,
        every: float = EVERY,
        longest: float = LONGEST,
        kinds: Iterable[str] | None = None,
    ) -> None:
        for name, value in (("seconds", seconds), ("every", every), ("longest", longest)):
            if not _LEAST <= value < float("inf"):
                raise ValueError(f"{name} must be a number of seconds, {_LEAST} or more, not {value!r}")
        self._kinds = list(KINDS if kinds is None else kinds)
        if not self._kinds:
            raise ValueError(f"a storm needs one kind at least; there are: {', '.join(KINDS)}")
        for kind in self._kinds:
            if kind not in KINDS:
                raise ValueError(f"no misfortune {kind!r}; there are: {', '.join(KINDS)}")
        self._sim = sim
        self._chance = random.Random(f"storm {sim.seed} {len(sim.storms)}")
        self._every = every
        self._longest = longest
        # What lasts just now, by the number of its stroke.
        self._active: dict[int, tuple[str, Undo]] = {}
        self._spoiled: set[tuple[Path, str]] = set()
        self.starts = sim.now
        self.ends = sim.now + seconds
        # (virtual time, what happened), in order.
        self.log: list[tuple[float, str]] = []
        sim.at(self.ends, self.stop)
        self._wait()

    def stop(self) -> None:
        """Undo everything now; nothing strikes any more."""
        self.ends = min(self.ends, self._sim.now)
        for number in list(self._active):
            self._undo(number)

    def _wait(self) -> None:
        time = self._sim.now + self._chance.expovariate(1 / self._every)
        if time < self.ends:
            self._sim.at(time, self._strike)

    def _strike(self) -> None:
        if self._sim.now >= self.ends:
            return
        kind = self._chance.choice(self._kinds)
        stroke = KINDS[kind](self)
        if stroke is not None:
            what, undo = stroke
            self.log.append((self._sim.now, what))
            if undo is not None:
                number = len(self.log)
                self._active[number] = what, undo
                lasts = self._chance.random() * self._longest
                self._sim.at(min(self._sim.now + lasts, self.ends), self._undo, number)
        self._wait()

    def _undo(self, number: int) -> None:
        what, undo = self._active.pop(number, ("", None))
        if undo is not None:
            undo()
            self.log.append((self._sim.now, f"over: {what}"))

    def spare(self, host: Host) -> None:
        """Undo what befalls a host's kernel: its program is about to start again.

        Why: a program that starts meets a kernel that answers; else it would not come back, and the storm not end.
        """
        for number, (what, _) in list(self._active.items()):
            if what.startswith(f"{host.name}: "):
                self._undo(number)

    # ---- whom ---------------------------------------------------------------------------------------------------

    def _host(self) -> Host | None:
        """One whose program can be taken hold of."""
        hosts = [host for host in self._sim.hosts if not (host.isDown or host.isPaused or host.is_in_turn)]
        return self._chance.choice(hosts) if hosts else None

    def _pair(self) -> tuple[Host, Host] | None:
        hosts = self._sim.hosts
        if len(hosts) < 2:
            return None
        one, other = self._chance.sample(hosts, 2)
        return one, other

    def _is_new(self, what: str) -> bool:
        """Whether the same does not strike the same already: undoing would be ambiguous."""
        return all(what != active for active, _ in self._active.values())

    # ---- the network ------------------------------------------------------------------------------------------

    def _cut(self) -> Stroke | None:
        pair = self._pair()
        if pair is None:
            return None
        one, other = sorted(pair, key=lambda host: host.number)
        what = f"no packet gets through between {one.name} and {other.name}"
        if not self._is_new(what) or self._sim.isPartitioned(one, other):
            return None
        self._sim.partition(one, other)
        return what, lambda: self._sim.heal(one, other)

    def _hold_up(self) -> Stroke | None:
        return self._spoil(
            "latency", self._chance.choice([0.05, 0.5, 3.0]), "packets take {} s from {} to {}"
        )

    def _lose(self) -> Stroke | None:
        return self._spoil("loss", self._chance.choice([0.05, 0.3]), "a share of {} is lost from {} to {}")

    def _spoil(self, quality: str, value: float, text: str) -> Stroke | None:
        pair = self._pair()
        if pair is None:
            return None
        path = self._sim.path(*pair)
        before = getattr(path, quality)
        # Why one at a time: of two that overlap the first to end could not say what the path was like before.
        if before >= value or any((path, quality) in storm._spoiled for storm in (self, *self._sim.storms)):
            return None
        self._spoiled.add((path, quality))
        setattr(path, quality, value)

        def undo() -> None:
            self._spoiled.remove((path, quality))
            # Why asked: somebody else may have changed it meanwhile, and that stays.
            if getattr(path, quality) == value:
                setattr(path, quality, before)

        return text.format(value, pair[0].name, pair[1].name), undo

    def _reset(self) -> Stroke | None:
        connections = self._sim.connections()
        if not connections:
            return None
        connection = self._chance.choice(connections)
        self._sim.reset(connection)
        return f"reset: {repr(connection)[10:-1]}", None

    def _silence_names(self) -> Stroke | None:
        names = self._sim.names
        what = "no name can be looked up"
        if names.outage is not None:
            return None
        names.outage = socket.EAI_AGAIN

        def undo() -> None:
            if names.outage == socket.EAI_AGAIN:
                names.outage = None

        return what, undo

    # ---- hosts ------------------------------------------------------------------------------------------------

    def _refuse(self) -> Stroke | None:
        host = self._host()
        if host is None:
            return None
        call = self._chance.choice([each for each in FALLIBLE if each not in _OF_THE_REACTOR])
        error = self._chance.choice(FALLIBLE[call])
        what = f"{host.name}: {call} fails with {errno.errorcode.get(error, error)} now and then"
        if not self._is_new(what):
            return None
        return what, host.faults.failSometimes(call, [error], chance=self._chance.choice([0.02, 0.3]))

    def _starve(self) -> Stroke | None:
        host = self._host()
        if host is None:
            return None
        call = self._chance.choice(["send", "sendmsg", "recv"])
        most = self._chance.choice([7, 100, 1500])
        what = f"{host.name}: {call} moves {most} bytes at most"
        if not self._is_new(what) or host.faults.isShort(call):
            return None
        return what, host.faults.short(call, most)

    def _freeze(self) -> Stroke | None:
        host = self._host()
        if host is None:
            return None
        host.pause()
        return f"{host.name}: its program gets no time", host.resume

    def _kill(self) -> Stroke | None:
        return self._fell("its program is killed", lambda host: host.kill())

    def _crash(self) -> Stroke | None:
        resets = self._chance.random() < 0.5
        text = "it crashes" + (", and peers get resets" if resets else "")
        return self._fell(text, lambda host: host.crash(resets))

    def _fell(self, text: str, how: Callable[[Host], Any]) -> Stroke | None:
        host = self._host()
        if host is None or not host.comesBack:
            return None
        for storm in (self, *self._sim.storms):
            storm.spare(host)
        how(host)

        def undo() -> None:
            if host.isDown:
                host.restart()

        return f"{host.name}: {text}", undo


KINDS: dict[str, Callable[[Storm], Stroke | None]] = {
    "cut": Storm._cut,
    "delay": Storm._hold_up,
    "loss": Storm._lose,
    "reset": Storm._reset,
    "names": Storm._silence_names,
    "refuse": Storm._refuse,
    "short": Storm._starve,
    "pause": Storm._freeze,
    "kill": Storm._kill,
    "crash": Storm._crash,
}
"""What may strike, by name."""
