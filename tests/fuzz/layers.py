"""Layers of the swarm's worlds: policies, drawn by chance, between the transports and whoever lives above them.

What listens and what connects is wrapped in some layers, in any order: Limit, RateLimit, Idle, Lifetime, Shed, TrafficLog. All
that players and guests are promised holds through them. What is promised besides is judged here: no limit and no budget is
exceeded, and nobody is refused or shed without need; no window of time carries more than its bucket allows; who ends a
connection says so, and is right; the log has every byte.

The judge has layers of its own (guard.py), and meters on either side of a rate limit. What it never looks
at is the inside of what is judged.
"""

from __future__ import annotations

import io
import logging
import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ropewalk.policies import (
    Bucket,
    Budget,
    Idle,
    Lifetime,
    Limit,
    ProtocolWrapper,
    RateLimit,
    Shed,
    TrafficLog,
)
from ropewalk.policies.budget import ShedProtocol
from tests.fuzz.guard import CLOSE, Door, Guard, Guarding, passed_on
from tests.metering import Metering, Rows, most_over

if TYPE_CHECKING:
    from ropewalk.simulation import Host
    from tests.fuzz.swarm import World

KINDS = ("limit", "rate", "idle", "lifetime", "shed")
# Bytes; what floats of virtual time make of a rate.
ROUNDING = 1.0
# Seconds of a lifetime's grace; and of the longest close deadline in the swarm.
GRACE = 2.0
CLOSES_WITHIN = 5.0
# Bytes per second, of which none passes for longer than any close deadline.
SLOW = 0.15
# A line of the log: number, what happened, how many bytes.
LINE = re.compile(r"(\d+) (made|<-|->|closing our side|closing|aborting|lost)[,:]?(?: (\d+) )?")
# How the words begin with which a layer ends a connection.
ENDINGS = {"an Idle": "idle for", "a Lifetime": "its lifetime", "a Shed": "held"}
# What the log says of a connection that a budget has ended.
SHED = " is aborted: it held "


# ---- the layers of one factory ------------------------------------------------------------------------------------


class Stack:
    """The layers of one factory, and what is known of them.

    Args: host: where it is. is_server: whether it accepts, so that there may be limits.
    """

    def __init__(self, layers: Layers, host: Host, is_server: bool) -> None:
        self.layers = layers
        self.world = layers.world
        self.host = host
        self.is_server = is_server
        self.limits: list[Limit] = []
        self.idles: list[float] = []
        self.lifetimes: list[float] = []
        self.budgets: list[Budget] = []
        # Each with what is inside and outside of it.
        self.rates: list[tuple[Metering, RateLimit, Metering]] = []
        self.log = io.StringIO() if layers.chance.random() < 0.5 else None
        # Whether bytes may be on their way for longer than a world lives.
        self.is_slow = False
        self.guards: list[Guard] = []

    @property
    def may_cut(self) -> bool:
        """Whether a connection may be refused, or ended, or wait for longer than a world lives, though all is well."""
        return bool(self.limits or self.idles or self.lifetimes) or self.is_slow

    def wrap(self, factory: Any) -> Any:
        chance = self.layers.chance
        wrapped: Any = Guarding(self, factory)
        self.guards = wrapped.meters
        if self.log is not None:
            wrapped = TrafficLog(wrapped, self.log, chance.choice(["text", "hex"]), chance.choice([1, 100]))
        for kind in chance.choices(KINDS if self.is_server else KINDS[1:], k=chance.randint(1, 3)):
            wrapped = getattr(self, f"_{kind}")(wrapped)
        return wrapped

    def _limit(self, factory: Any) -> Any:
        most, per_peer = self.layers.chance.choice([(1, None), (3, None), (5, 2), (None, 1), (100, 100)])
        self.limits.append(Limit(factory, most, per_peer))
        return Door(self, self.limits[-1])

    def _rate(self, factory: Any) -> Any:
        inside = Metering(factory)
        one, other = self.layers.draw_rate(self), self.layers.draw_rate(self)
        receive, send = self.layers.chance.choice([(one, None), (None, other), (one, other)])
        limit = RateLimit(inside, receive, send)
        outside = Metering(limit)
        self.rates.append((inside, limit, outside))
        return outside

    def _idle(self, factory: Any) -> Any:
        self.idles.append(self.layers.chance.choice([0.5, 5.0, 1000.0]))
        return Idle(factory, self.idles[-1])

    def _lifetime(self, factory: Any) -> Any:
        self.lifetimes.append(self.layers.chance.choice([1.0, 10.0, 1000.0]))
        return Lifetime(factory, self.lifetimes[-1], GRACE)

    def _shed(self, factory: Any) -> Any:
        self.budgets.append(self.layers.draw_budget(self.host, self.budgets))
        return Shed(factory, self.budgets[-1])

    # ---- what is checked on the way -----------------------------------------------------------------------------

    def made(self) -> list[Guard]:
        """Those that are connected."""
        return [guard for guard in self.guards if guard.is_made]

    def check_made(self, guard: Guard) -> None:
        """One more is connected: no more than may."""
        peers = Counter(each.peer for each in self.made())
        for limit in self.limits:
            fits = limit.most is None or peers.total() <= limit.most
            fits &= limit.perPeer is None or max(peers.values()) <= limit.perPeer
            self.world.check(fits, guard, f"{limit!r} has let in {peers}")

    def check_wrote(self, guard: Guard) -> None:
        """Something was written: together they hold no more than they may."""
        for budget in self.budgets:
            held = sum(each.bytesBuffered for each in self.layers.sharing(budget))
            self.world.check(held <= budget.most, guard, f"{held} bytes are held, and {budget!r}")

    def check_shed(self, guard: Guard) -> None:
        """It is about to be aborted, for one of its budgets: nobody has more of that, and together they have too much."""
        mine = guard.bytesBuffered
        fits = False
        for budget in self.budgets:
            held = [each.bytesBuffered for each in self.layers.sharing(budget)]
            fits |= sum(held) > budget.most and mine == max(held)
        self.world.check(fits, guard, f"is shed, and holds {mine} bytes")

    def check_lost(self, guard: Guard, lost_at: float) -> None:
        """It has ended: not later than its lifetime is."""
        lived = lost_at - guard.made_at
        for seconds in self.lifetimes:
            fits = lived <= seconds + GRACE + CLOSE or self.world.had_no_time(self.host, guard.made_at)
            self.world.check(fits, guard, f"lived for {lived} s, and its lifetime is {seconds} s")

    def check_quiet(self, guard: Guard) -> None:
        """All has been quiet for long."""
        now = self.world.sim.now
        for seconds in self.lifetimes:
            is_late = now - guard.made_at > seconds + GRACE + CLOSE
            self.world.check(not is_late, guard, f"its lifetime of {seconds} s is over")
        last = max([guard.made_at, *guard.active])
        for seconds in self.idles:
            # Why twice: a peer that has taken something meanwhile is not idle; then it is given another time.
            is_late = now - last > 2 * seconds + CLOSES_WITHIN + CLOSE and not self.is_slow
            self.world.check(not is_late, guard, f"idle since {last}, and is to be closed after {seconds} s")

    # ---- what is judged when all is over ------------------------------------------------------------------------

    def wrongs(self) -> Iterator[str]:
        for inside, limit, outside in self.rates:
            yield from self._wrong_rates("received", limit.receive, [each.came for each in inside.meters])
            yield from self._wrong_rates("sent", limit.send, [passed_on(each) for each in outside.meters])
        if self.log is not None:
            yield from self._wrong_lines(self.log.getvalue().splitlines())

    def _wrong_rates(self, way: str, rate: float | Bucket | None, rows: list[Rows]) -> Iterator[str]:
        if isinstance(rate, Bucket):
            self.layers.passed.setdefault(rate, []).extend(row for each in rows for row in each)
        elif rate is not None:
            for each in rows:
                over = most_over(each, rate)
                if over > Bucket(rate).burst + ROUNDING:
                    yield f"{over} bytes too many {way} at {rate} bytes/s"

    def _wrong_lines(self, lines: list[str]) -> Iterator[str]:
        """What is written down is what was done."""
        told: dict[int, Counter[str]] = {}
        for line in lines:
            found = LINE.match(line)
            if found is None:
                yield f"{line!r} is in the log"
                continue
            number, what, count = found.groups()
            told.setdefault(int(number), Counter())[what] += int(count or 1)
        for guard in self.guards:
            seen = told.pop(guard.number, Counter())
            came = sum(count for _, count in guard.came)
            done = {
                "made": int(guard.number > 0),
                "lost": int(guard.lost_at is not None),
                "<-": came,
                "->": guard.asked,
            }
            if any(seen[what] != count for what, count in done.items()):
                yield f"{guard}: {seen} in the log, and {done}"
        for number, seen in told.items():
            yield f"{number} is in the log, with {seen}, and is nobody's"


class Layers:
    """All of a world's."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = random.Random(f"layers {world.seed}")
        self.stacks: list[Stack] = []
        # How many calls of `write` are on the stack.
        self.writing = 0
        # What passed through buckets that are shared.
        self.passed: dict[Bucket, Rows] = {}
        # Those of all factories of a host.
        self._buckets: dict[str, Bucket] = {}
        self._budgets: dict[str, Budget] = {}

    def stack(self, host: Host, is_server: bool = False) -> Stack:
        """Layers for a factory: to be wrapped around it, once."""
        self.stacks.append(Stack(self, host, is_server))
        return self.stacks[-1]

    def wrap(self, host: Host, factory: Any, is_server: bool = False) -> Any:
        """Put a factory in some layers, or in none."""
        if self.chance.random() < (0.2 if is_server else 0.5):
            return factory
        return self.stack(host, is_server).wrap(factory)

    def _rate(self) -> float:
        """Bytes per second: all that is written passes while it is quiet."""
        return self.chance.choice([1, 10]) * max(2_000.0, self.world.most_bytes)

    def _bucket(self) -> Bucket:
        """For several connections; by chance one that lets many pieces pass at once."""
        rate = self.chance.choice([3, 10]) * self._rate()
        return Bucket(rate, self.chance.choice([None, int(rate)]))

    def draw_rate(self, stack: Stack) -> float | Bucket:
        """One for each connection, or that of the host; or a slow one, with seconds between a byte and the next."""
        host = stack.host
        if self.chance.random() < 0.1:
            stack.is_slow = True
            return SLOW
        if self.chance.random() < 0.3:
            return self._buckets.setdefault(host.name, self._bucket())
        return self._rate()

    def draw_budget(self, host: Host, has: list[Budget]) -> Budget:
        """Its own, or that of the host, which counts a connection once."""
        has_that = self._budgets.get(host.name) in has
        if self.chance.random() < 0.5 and not has_that:
            return self._budgets.setdefault(host.name, Budget(100_000))
        return Budget(self.chance.choice([5_000, 500_000]))

    def sharing(self, budget: Budget) -> list[Guard]:
        """Those that count. Why not who is shed: what layers inside hold of it goes when the handler has returned."""
        return [
            guard
            for stack in self.stacks
            if budget in stack.budgets
            for guard in stack.made()
            if not guard.is_shed
        ]

    def look_at(self, record: logging.LogRecord) -> None:
        """Something was logged: whether somebody is shed, and rightly."""
        who = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if isinstance(who, ShedProtocol) and SHED in record.getMessage():
            inside: Any = who
            while not isinstance(inside, Guard):
                inside = inside.wrappedProtocol
            # Why only once: what it still holds, in its last handler, may be too much for another budget too.
            if not inside.is_shed:
                inside.stack.check_shed(inside)
            inside.is_shed = True

    def vanish(self, host: Host) -> None:
        """The host's program is no more; the next one has its own."""
        self._buckets.pop(host.name, None)
        self._budgets.pop(host.name, None)
        for stack in self.stacks:
            if stack.host is host:
                for guard in stack.guards:
                    guard.is_made = False

    def check_liveness(self) -> None:
        """After a long quiet nobody is there any more whose time is over."""
        for stack in self.stacks:
            for guard in stack.made():
                stack.check_quiet(guard)

    def did(self) -> Counter[str]:
        """What the layers have done to connections."""
        count: Counter[str] = Counter()
        for stack in self.stacks:
            count["a Limit refuses one"] += sum(limit.refused for limit in stack.limits)
            for guard in stack.guards:
                for rule, start in ENDINGS.items():
                    words = (guard.ended.error if guard.ended is not None else None) or ""
                    count[f"{rule} ends one"] += words.startswith(start)
            count["a RateLimit is over one"] += sum(len(inside.meters) for inside, _, _ in stack.rates)
        return count

    def forget(self) -> None:
        """Undo the circles."""
        for stack in self.stacks:
            for guard in stack.guards:
                if guard.lost_at is None:
                    _let_go(guard)
            stack.guards.clear()
            for inside, _, outside in stack.rates:
                inside.meters.clear()
                outside.meters.clear()
        self.stacks.clear()


def _let_go(layer: Any) -> None:
    """What a program that was killed has left: nobody tells its layers that the connection has ended."""
    while isinstance(layer, ProtocolWrapper):
        layer.wrappedProtocol, layer = None, layer.transport


def layers_of(world: World) -> Iterator[str]:
    """Rates were kept, and logs are whole."""
    layers = world.layers
    if layers is None:
        return
    for stack in layers.stacks:
        yield from stack.wrongs()
    for bucket, rows in layers.passed.items():
        over = most_over(sorted(rows), bucket.rate)
        if over > bucket.burst + ROUNDING:
            yield f"{over} bytes too many through {bucket!r}"
