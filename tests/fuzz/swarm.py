"""The swarm's world: hosts, a network, faults, and players who do as they like, all drawn from one seed.

A world lives in four phases. *Wild*: everything is allowed, faults included. *Calm*: no more faults, the network heals,
nobody raises or aborts any more. *Quiet*: nobody does anything new; what is under way must finish. *End*: every connection
is closed, or every reactor stopped; then nothing may be left. What the players were told, and what they asked for, is what the judge goes by.

The engine is not touched: all a world knows of it is the public API, the simulated kernel, and the log.
"""

from __future__ import annotations

import errno
import logging
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from ropewalk import TCPOptions
from ropewalk.error import CannotListenError
from ropewalk.event import Event
from ropewalk.simulation import FALLIBLE, Host, Simulation, SimulationSpin
from tests.fuzz import acts, watch
from tests.fuzz.guests import Guests
from tests.fuzz.layers import Layers
from tests.fuzz.players import MAY_CALL_BACK, OVER, Boom, Calls, End, HalfEnd, Produces, Relay, Serves

# Why: a coroutine of a program that was killed is told as dropped when Python frees it, perhaps after its world's end.
logging.getLogger("ropewalk").addHandler(logging.NullHandler())

WILD_SECONDS = 15.0
CALM_SECONDS = 20.0
QUIET_SECONDS = 200.0
MOST_CALLS = 25
FALLIBLE_CALLS = [call for call in FALLIBLE if call not in ("poller", "socket_pair")]


class World:
    """One seed's world."""

    def __init__(self, seed: int, has_faults: bool = True) -> None:
        self.seed = seed
        self.sim = Simulation(seed)
        # Why: nothing here needs many turns at one instant, and a spin is to be told soon.
        self.sim._driver.spin_limit = 20_000
        self.chance = random.Random(f"world {seed}")
        self.has_faults = has_faults
        self.is_calm = False
        self.is_over = False
        # Whether the network was cut: an RST that got lost is sent again only to who sends, and who is silent never knows.
        self.was_cut = False
        # Connections that were reset from outside.
        self.reset_ends: set[int] = set()
        self.breaches: list[str] = []
        self.ends: list[End] = []
        self.callers: list[Calls] = []
        self.servers: list[Serves] = []
        self.ports: list[Any] = []
        self.events: dict[str, list[Event]] = {}
        # Exceptions that players raised; those that came back to them; those that were logged.
        self.raised: list[BaseException] = []
        self.caught: list[BaseException] = []
        self.logged: list[tuple[str, BaseException | None]] = []
        self.exits = 0
        self.exits_met: list[SystemExit] = []
        # Hosts that were stopped, at what times; and those that are stopped now, and have no time of their own.
        self.stopped: dict[str, list[float]] = {}
        self.down: set[str] = set()
        # How often a host fell, by how; and when each that had no time for a while went on.
        self.falls: Counter[str] = Counter()
        self.went_on: dict[str, float] = {}
        self.calls: list[str] = []
        self.hosts: list[Host] = []
        # A host whose loop waits by itself, as in `run`; the others are given turns when they have something to do.
        self.waits: Host | None = None
        # How often it has come back since time moved last.
        self._returns = (0.0, 0)
        # Policies between transports and players, or guests.
        self.layers = Layers(self) if seed % 3 else None
        # Those of what is built on top. Why not in all worlds: each check of the deadlines counts the swarm's own.
        self.guests = Guests(self, self.layers) if self.layers is not None and seed % 3 == 2 else None
        self._build()

    # ---- building ---------------------------------------------------------------------------------------------

    def _build(self) -> None:
        sim, chance = self.sim, self.chance
        self.hosts = [sim.host(f"host{number}") for number in range(chance.randint(1, 5))]
        # How often a player does nothing.
        self.quiet = chance.choice([0.3, 0.5, 0.8])
        self.most_bytes = chance.choice([10, 2_000, 20_000, 150_000])
        for one in self.hosts:
            for other in self.hosts:
                sim.latency(one, other, chance.choice([0, 0.001, 0.1]), jitter=chance.choice([0, 0.01]))
                if chance.random() < 0.2:
                    sim.bandwidth(one, other, chance.choice([1e5, 1e7]))
                if chance.random() < 0.2:
                    sim.loss(one, other, chance.random() * 0.3)
        sim.name("both.example", [address for host in self.hosts for address in host.addresses], delay=0.01)
        sim.name("slow.example", self.hosts[0].addresses, delay=chance.choice([0.5, 3.0]))
        sim.name("never.example", never=True)
        sim.route("192.0.2.1", lost=True)
        for host in self.hosts:
            self._set_up(host)
        self.waits = chance.choice([None, *self.hosts])
        if self.guests is not None:
            for host in self.hosts:
                self.guests.move_in(host)
        for _ in range(3):
            when = sim.now + chance.random() * WILD_SECONDS
            sim.at(when, self.from_thread, chance.choice(self.hosts), id)
        for _ in range(chance.randint(1, 6)):
            # Why not directly: while a loop waits, only calls from threads are its own.
            when = sim.now + chance.choice([0, 0, chance.random() * 3])
            sim.at(when, self.from_thread, chance.choice(self.hosts), self.connect)
        for _ in range(chance.randint(0, 2)):
            one, other = chance.choice(self.hosts), chance.choice(self.hosts)
            when = sim.now + chance.random() * 5
            if one is not other:
                self.was_cut = True
                sim.at(when, sim.partition, one, other)
                sim.at(when + chance.random() * 20, sim.heal, one, other)
        if self.has_faults and chance.random() < 0.3:
            for _ in range(chance.randint(1, 3)):
                happens = chance.choice([self._pause, self._fall])
                sim.at(sim.now + chance.random() * 8, happens, chance.choice(self.hosts))

    def _set_up(self, host: Host) -> None:
        chance = self.chance
        events = self.events[host.name] = []
        if chance.random() < 0.7:
            host.reactor.observers.append(events.append)
        factory = Serves(self, host, is_proxy=chance.random() < 0.2 and len(self.hosts) > 1)
        self.servers.append(factory)
        options = TCPOptions(closeTimeout=chance.choice([2.0, 5.0]), dualStack=True)
        backlog = chance.choice([None, None, 0, 1])
        listening = self._layered(host, factory, is_server=True)
        self.ports.append(
            host.reactor.listenTCP(7, listening, interface="::", options=options, backlog=backlog)
        )
        if not self.has_faults:
            return
        if chance.random() < 0.5:
            for call in chance.sample(FALLIBLE_CALLS, 3):
                host.faults.failSometimes(call, chance=chance.choice([0.01, 0.1]))
        if chance.random() < 0.3:
            # Why not one byte each where much is sent: it takes long, and would be taken for a spin.
            most = {10: 1, 2_000: 100}.get(self.most_bytes, 5000)
            for call in ("send", "sendmsg", "recv"):
                host.faults.short(call, most)
        if chance.random() < 0.1:
            # Why not EAGAIN: no kernel says for ever that there is something, and that there is nothing.
            trouble = chance.choice([error for error in FALLIBLE["accept"] if error != errno.EAGAIN])
            host.faults.fail("accept", trouble, times=chance.choice([3, None]))
        if chance.random() < 0.15:
            host.descriptorLimit = chance.choice([10, 14])

    def _layered(self, host: Host, factory: Any, is_server: bool = False) -> Any:
        """Why not where guests are: they have layers of their own."""
        if self.layers is None or self.guests is not None:
            return factory
        return self.layers.wrap(host, factory, is_server)

    # ---- what players draw ------------------------------------------------------------------------------------

    def size(self) -> int:
        """How much to write."""
        return self.chance.choice([1, self.chance.randint(1, 100), self.most_bytes])

    def make_end(self, host: Host, owner: Any) -> End:
        return (HalfEnd if self.chance.random() < 0.4 else End)(self, host, owner)

    def greet(self, end: End) -> None:
        """What an end does first."""
        if self.chance.random() < 0.7:
            end.send(self.size())
        # Why not at last: where layers end connections, clients come again and again.
        if self.chance.random() < 0.15 and not self.is_over:
            Produces(end)

    def draw_slowness(self) -> bool:
        """Whether an end rests after each read."""
        return self.chance.random() < 0.2

    def draw_closing_back(self) -> bool:
        """Whether an end closes its side too when the peer has closed its own."""
        return self.chance.random() < 0.7

    def draw_persistence(self) -> bool:
        """Whether a client connects again by itself."""
        return self.chance.random() < 0.2

    def draw_refusal(self) -> bool:
        """Whether buildProtocol returns None; or it raises."""
        drawn = self.chance.random()
        if drawn < 0.03:
            self.boom()
        return drawn > 0.97

    def connect(self, host: Host, relay: Relay | None = None) -> bool:
        """One more client; whether it may be."""
        if len(self.callers) >= MOST_CALLS or self.is_over or host.name in self.down or host.isPaused:
            return False
        chance = self.chance
        other = chance.choice(self.hosts)
        targets = [other.name, *other.addresses, "localhost", "both.example"]
        if relay is None:
            targets += ["slow.example", "nowhere.example", "never.example", "192.0.2.1"]
        timeout = chance.choice([0.5, 5, 30])
        factory = Calls(self, host, timeout, relay)
        options = self._options()
        factory.hard_limit = options.hardLimit
        how: dict[str, Any] = {"timeout": timeout, "options": options}
        if chance.random() < 0.1:
            how["bindAddress"] = (chance.choice(host.addresses), 0)
        port = chance.choice([7, 7, 7, 7, 8])
        calling = self._layered(host, factory)
        self.inside("connectTCP", host.reactor.connectTCP, chance.choice(targets), port, calling, **how)
        return True

    def _options(self) -> TCPOptions:
        chance = self.chance
        return TCPOptions(
            closeTimeout=chance.choice([2.0, 5.0]),
            keepAlive=chance.choice([None, (2, 1, 3)]),
            userTimeout=chance.choice([None, 10.0]),
            receiveBuffer=chance.choice([None, 5000]),
            sendBuffer=chance.choice([None, 5000]),
            hardLimit=chance.choice([None, None, 70_000, 300_000]),
        )

    # ---- what players tell ------------------------------------------------------------------------------------

    def check(self, holds: bool, who: Any, what: str) -> None:
        if not holds:
            self.breaches.append(f"{self.sim.now:.6f} {who!r}: {what}")

    def called(self, who: Any, callback: str, fits: bool) -> None:
        """A callback came; `fits` says whether it may come in this state."""
        self.check(fits, who, f"{callback} cannot come now")
        if self.calls and callback not in MAY_CALL_BACK.get(self.calls[-1], ()):
            self.check(False, who, f"I4 {callback} on the stack of {self.calls[-1]}")

    def inside(self, name: str, func: Callable[..., object], *args: Any, **how: Any) -> None:
        """Make a call as a user. A Boom that comes out of it is one that comes back to who raised it."""
        self.calls.append(name)
        try:
            func(*args, **how)
        except Boom as boom:
            self.caught.append(boom)
        except (RuntimeError, CannotListenError):
            pass  # Safe because: "can't connect in this state" and the like; refusals are the contract's.
        except OSError as exc:
            self.check(name.startswith(("set", "get")), name, f"raised {exc!r}")
        finally:
            self.calls.pop()

    def boom(self, who: End | None = None) -> None:
        if self.is_calm:
            return
        boom = Boom(f"number {len(self.raised)}")
        self.raised.append(boom)
        if who is not None:
            who.raised.append(boom)
        # Why from here: whatever is raised on the stack of the player's own callback is its own.
        raise boom

    def act(self, who: Any, where: str) -> None:
        """Do something, by chance, in a callback."""
        if self.chance.random() < self.quiet or self.is_over:
            return
        acts.draw(self, who, where)

    # ---- what befalls hosts ---------------------------------------------------------------------------------------

    def start(self, host: Host) -> None:
        """The host's program runs again."""
        self.down.remove(host.name)
        self.went_on[host.name] = self.sim.now
        host.start()
        port = self.ports[self.hosts.index(host)]
        host.reactor.callLater(0, acts.listen_again, self, port)
        if self.guests is not None and not self.is_over:
            self.guests.move_in(host)

    def all_told(self, host: Host) -> None:
        """I8: whatever was open when the reactor stopped has been told; what began after that is told another time."""
        for caller in self.callers:
            if caller.host is host and caller.state != "gone" and not caller.began_late:
                self.check(caller.state == "idle", caller, "I8 not told when its reactor stopped")
        for end in self.ends:
            if end.host is host:
                self.check(end.state != "made", end, "I8 not told when its reactor stopped")
        if self.guests is not None:
            self.guests.all_ended(host)

    def from_thread(self, host: Host, call: Callable[[Host], object]) -> None:
        """Another thread asks for a call; it comes at once, however long the loop meant to wait."""
        if host.name not in self.down:
            host.reactor.callFromThread(self._called_from_thread, host, self.sim.now, call)

    def _called_from_thread(self, host: Host, asked: float, call: Callable[[Host], object]) -> None:
        late = self.sim.now - asked
        fits = late < 1e-6 or self.had_no_time(host, asked)
        self.check(fits, host, f"E4 a call from a thread came {late} s late")
        call(host)

    # ---- what befalls hosts -----------------------------------------------------------------------------------

    def _pause(self, host: Host) -> None:
        """Its program gets no time for a while."""
        if self.is_calm or host.isDown or host.isPaused or host is self.waits:
            return
        host.pause()
        self.falls["pause"] += 1
        self.went_on[host.name] = float("inf")
        self.sim.at(self.sim.now + self.chance.random() * 3, self._resume, host)

    def _resume(self, host: Host) -> None:
        host.resume()
        self.went_on[host.name] = self.sim.now

    def _fall(self, host: Host) -> None:
        """Its program is killed, or its machine crashes; a little later it starts again."""
        # Why not the one that waits: its loop is on our own stack, and has to return.
        if self.is_calm or host.name in self.down or host.isPaused or host is self.waits:
            return
        for end in self.ends:
            if end.host is host and end.state not in OVER:
                end.vanish()
        for caller in self.callers:
            if caller.host is host:
                caller.vanish()
        if self.guests is not None:
            self.guests.vanish(host)
        if self.layers is not None:
            self.layers.vanish(host)
        self._server_of(host).is_gone = True
        self.events[f"{host.name}, before it fell at {self.sim.now}"] = self.events.pop(host.name)
        self.down.add(host.name)
        how = self.chance.choice(["kill", "crash", "crash with resets"])
        self.falls[how] += 1
        if how == "kill":
            host.kill()
        else:
            # Why: who only listens to one that is silent never knows.
            self.was_cut = True
            host.crash(resets=how != "crash")
        self.sim.at(self.sim.now + self.chance.random() * 5, self._rise, host)

    def _rise(self, host: Host) -> None:
        host.restart()
        self._boot(host)

    def _boot(self, host: Host) -> None:
        """Start its program, as often as it takes."""
        try:
            host.reactor  # noqa: B018
        except OSError:
            self.sim.at(self.sim.now + 0.5, self._boot, host)
            return
        self.down.remove(host.name)
        events = self.events[host.name] = []
        host.reactor.observers.append(events.append)
        place = self.servers.index(self._server_of(host))
        factory = self.servers[place] = Serves(self, host, is_proxy=False)
        # Why None: its kernel may refuse; then the machine is up, and nobody listens.
        self.ports[place : place + 1] = [None]
        try:
            options = TCPOptions(closeTimeout=2.0, dualStack=True)
            listening = self._layered(host, factory, is_server=True)
            self.ports[place] = host.reactor.listenTCP(7, listening, interface="::", options=options)
        except CannotListenError:
            pass
        if self.guests is not None and not self.is_over:
            self.guests.move_in(host)

    def _server_of(self, host: Host) -> Serves:
        [server] = [each for each in self.servers if each.host is host]
        return server

    def had_no_time(self, host: Host, since: float) -> bool:
        """Whether a host stood still at some time since then."""
        return host.name in self.down or self.went_on.get(host.name, 0.0) >= since

    # ---- what is checked on the way ---------------------------------------------------------------------------

    # ---- what is checked on the way ---------------------------------------------------------------------------

    check_deadlines = watch.deadlines
    expect_within_limits = watch.within_limits
    expect_progress = watch.progress

    # ---- its life ---------------------------------------------------------------------------------------------

    def live(self) -> None:
        """All four phases."""
        keeper = LogKeeper(self.logged, None if self.layers is None else self.layers.look_at)
        log = logging.getLogger("ropewalk")
        log.addHandler(keeper)
        before, log.propagate = log.propagate, False
        try:
            self._go_on(self.sim.now + WILD_SECONDS)
            self._calm_down()
            self._go_on(self.sim.now + CALM_SECONDS)
            self.is_over = True
            if self.guests is not None:
                self.guests.quiet_begins()
            self._go_on(self.sim.now + QUIET_SECONDS)
            watch.liveness(self)
            self._end()
        finally:
            log.removeHandler(keeper)
            log.propagate = before

    def forget(self) -> None:
        """Undo the circles that players make: an end and its factory, a factory and its connector, an exception and
        the frame in which it was raised."""
        if self.guests is not None:
            self.guests.forget()
            self.guests = None
        if self.layers is not None:
            self.layers.forget()
            self.layers = None
        for boom in (*self.raised, *self.exits_met):
            boom.__traceback__ = boom.__context__ = None
        for end in self.ends:
            end.owner = end.producer = None
        for caller in self.callers:
            caller.end = caller.connector = caller.relay = None
        for kept in (
            self.ends,
            self.callers,
            self.servers,
            self.ports,
            self.raised,
            self.logged,
            self.exits_met,
        ):
            kept.clear()
        for host in self.hosts:
            host.reactor.observers.clear()

    def _go_on(self, until: float | None) -> None:
        """Until a time, or until nothing is left to happen; SystemExit is met, and on it goes."""
        while True:
            try:
                if until is None:
                    self.sim.runUntilIdle()
                elif self.waits is not None and self.sim.now < until:
                    self._wait(self.waits, until)
                    continue
                else:
                    self.sim.run(until=until)
                return
            except SystemExit as left:
                self.exits_met.append(left)

    def _wait(self, host: Host, until: float) -> None:
        """Let one host's own waiting move the world for a while."""
        patience = min(until - self.sim.now, self.chance.choice([1.0, 20.0, 200.0]))
        if host.name in self.down or not host.reactor.running:
            self.sim.run(until=self.sim.now + patience)
        else:
            host.reactor.iterate(patience)
            since, count = self._returns
            self._returns = (since, count + 1) if since == self.sim.now else (self.sim.now, 0)
            if count > self.sim._driver.spin_limit:
                raise SimulationSpin(
                    f"{host.name} waited {count} times at {since:.6f}, and came back at once"
                )

    def _calm_down(self) -> None:
        self.is_calm = True
        for host in self.hosts:
            host.faults.clear()
            host.descriptorLimit = 1000
            for other in self.hosts:
                self.sim.heal(host, other)
                for one, two in ((host, other), (other, host)):
                    self.sim.loss(one, two, 0.0)

    def _end(self) -> None:
        for caller in self.callers:
            self.inside("stopTrying", caller.stopTrying)
        if self.chance.random() < 0.5:
            for host in self.hosts:
                if host.reactor.running:
                    host.reactor.stop()
            self._go_on(None)
            for host in self.hosts:
                self.all_told(host)
        else:
            for end in self.ends:
                if end.state == "made":
                    end.ask("resumeProducing")
                    if end.producer is not None:
                        end.producer.finish()
                    end.ask("unregisterProducer")
                    end.lose()
            if self.guests is not None:
                self.guests.leave()
            for port in filter(None, self.ports):
                self.inside("stopListening", port.stopListening)
            self._go_on(None)


class LogKeeper(logging.Handler):
    """Keeps what the engine logs, and shows it to somebody while it happens."""

    def __init__(
        self,
        kept: list[tuple[str, BaseException | None]],
        look: Callable[[logging.LogRecord], object] | None = None,
    ) -> None:
        super().__init__(logging.WARNING)
        self.kept = kept
        self.look = look

    def emit(self, record: logging.LogRecord) -> None:
        exc = record.exc_info[1] if record.exc_info else None
        self.kept.append((record.getMessage(), exc))
        if self.look is not None:
            self.look(record)
