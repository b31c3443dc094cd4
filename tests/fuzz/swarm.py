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
from functools import partial
from typing import Any

from ropewalk import TCPOptions
from ropewalk.error import CannotListenError
from ropewalk.event import Event, Step
from ropewalk.simulation import FALLIBLE, Host, Simulation, SimulationSpin
from ropewalk.simulation.tcp_states import OVER as ENDED
from tests.fuzz.guests import Guests
from tests.fuzz.players import MAY_CALL_BACK, OVER, Alarms, Boom, Calls, End, HalfEnd, Produces, Relay, Serves

# Why: a coroutine of a program that was killed is told as dropped when Python frees it, perhaps after its world's end.
logging.getLogger("ropewalk").addHandler(logging.NullHandler())

WILD_SECONDS = 15.0
CALM_SECONDS = 20.0
QUIET_SECONDS = 200.0
MOST_CALLS = 25
FALLIBLE_CALLS = [call for call in FALLIBLE if call not in ("poller", "socket_pair")]
# What a player may do in a callback, and how likely.
LIKELY = {
    "write": 30,
    "later": 10,
    "pause": 8,
    "produce": 6,
    "half": 3,
    "connect": 5,
    "again": 5,
    "lose": 5,
    "disconnect": 1,
    "abort": 2,
    "reset": 2,
    "raise": 3,
    "exit": 1,
    "stop": 1,
    "stop_connecting": 2,
    "stop_listening": 1,
    "limits": 2,
    "options": 2,
    "observe": 1,
    "meddle": 3,
    "alarms": 1,
}
# What is left of that in the calm phase.
ACTS, WEIGHTS = list(LIKELY), list(LIKELY.values())
CALM_ACTS = {"write", "lose", "pause", "half", "later", "produce", "disconnect"}


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
        self._calls: list[str] = []
        self.hosts: list[Host] = []
        # A host whose loop waits by itself, as in `run`; the others are given turns when they have something to do.
        self.waits: Host | None = None
        # How often it has come back since time moved last.
        self._returns = (0.0, 0)
        # Those of what is built on top. Why not in all worlds: each check of the deadlines counts the swarm's own.
        self.guests = Guests(self) if seed % 3 == 2 else None
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
            sim.at(when, self._from_thread, chance.choice(self.hosts), id)
        for _ in range(chance.randint(1, 6)):
            # Why not directly: while a loop waits, only calls from threads are its own.
            when = sim.now + chance.choice([0, 0, chance.random() * 3])
            sim.at(when, self._from_thread, chance.choice(self.hosts), self.connect)
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
        self.ports.append(
            host.reactor.listenTCP(7, factory, interface="::", options=options, backlog=backlog)
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
        if self.chance.random() < 0.15:
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
        self.inside("connectTCP", host.reactor.connectTCP, chance.choice(targets), port, factory, **how)
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
        if self._calls and callback not in MAY_CALL_BACK.get(self._calls[-1], ()):
            self.check(False, who, f"I4 {callback} on the stack of {self._calls[-1]}")

    def inside(self, name: str, func: Callable[..., object], *args: Any, **how: Any) -> None:
        """Make a call as a user. A Boom that comes out of it is one that comes back to who raised it."""
        self._calls.append(name)
        try:
            func(*args, **how)
        except Boom as boom:
            self.caught.append(boom)
        except (RuntimeError, CannotListenError):
            pass  # Safe because: "can't connect in this state" and the like; refusals are the contract's.
        except OSError as exc:
            self.check(name.startswith(("set", "get")), name, f"raised {exc!r}")
        finally:
            self._calls.pop()

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
        [what] = self.chance.choices(ACTS, WEIGHTS)
        if self.is_calm and what not in CALM_ACTS:
            return
        if what == "write" and self._calls[-1:] == ["writeSequence"]:
            return  # Why: it would come between the parts, rightly, and the books here know only the whole.
        # Why: a call of the user's is on the stack no more once his callback runs; new calls are his own again.
        outer, self._calls = self._calls, []
        try:
            getattr(self, f"_do_{what}")(who, where)
        finally:
            self._calls = outer

    # ---- what they do -----------------------------------------------------------------------------------------

    def _do_write(self, who: Any, where: str) -> None:
        if isinstance(who, End) and who.transport is not None:
            who.send(self.size())

    def _do_lose(self, who: Any, where: str) -> None:
        if isinstance(who, End) and who.transport is not None:
            who.lose()

    def _do_abort(self, who: Any, where: str) -> None:
        if isinstance(who, End) and who.transport is not None:
            who.ask("abortConnection")

    def _do_half(self, who: Any, where: str) -> None:
        if isinstance(who, End) and who.transport is not None:
            who.ask("loseWriteConnection")

    def _do_pause(self, who: Any, where: str) -> None:
        if isinstance(who, End) and who.transport is not None:
            who.rest(self.chance.choice([0, 0.01, 3]))

    def _do_produce(self, who: Any, where: str) -> None:
        if isinstance(who, End) and who.transport is not None:
            Produces(who)

    def _do_limits(self, who: Any, where: str) -> None:
        if isinstance(who, End) and who.transport is not None and who.producer is None:
            who.ask("setWriteLimits", *self.chance.choice([(65536, 0), (10, 0), (5000, 5000, 400_000)]))

    def _do_options(self, who: Any, where: str) -> None:
        if isinstance(who, End) and who.state == "made":
            who.ask("setTcpNoDelay", self.chance.random() < 0.5)
            who.ask("getHost")
            who.ask("getPeer")

    def _do_raise(self, who: Any, where: str) -> None:
        self.boom(who if isinstance(who, End) and where in _ENDS_BY_RAISING else None)

    def _do_exit(self, who: Any, where: str) -> None:
        if self.chance.random() < 0.3:
            self.exits += 1
            raise SystemExit(self.exits)

    def _do_later(self, who: Any, where: str) -> None:
        delay = self.chance.random() * 2
        due = [self.sim.now + delay]
        call = who.host.reactor.callLater(delay, self._act_later, who, due)
        # Some are moved, before they come or when others do; and with them comes a crowd that is called off again.
        if self.chance.random() < 0.3:
            moved = self.chance.random() * 3
            call.reset(moved)
            due[0] = self.sim.now + moved
        if self.chance.random() < 0.05:
            crowd = [who.host.reactor.callLater(self.chance.random() * 5, int) for _ in range(150)]
            for each in crowd:
                each.cancel()

    def _act_later(self, who: Any, due: list[float]) -> None:
        is_late = self.sim.now > due[0] + 1e-9 and not self.had_no_time(who.host, due[0])
        self.check(not is_late, who, f"J8 a timer came {self.sim.now - due[0]} s late")
        self.check(self.sim.now > due[0] - 1e-9, who, f"J8 a timer came {due[0] - self.sim.now} s early")
        if not isinstance(who, End) or who.state == "made":
            self.act(who, "later")

    def _do_connect(self, who: Any, where: str) -> None:
        self.connect(who.host)

    def _do_again(self, who: Any, where: str) -> None:
        if isinstance(who, Calls) and who.attempts < 4 and who.connector is not None:
            self.inside("connect", who.connector.connect)

    def _do_disconnect(self, who: Any, where: str) -> None:
        connector = getattr(who, "connector", None) or getattr(getattr(who, "owner", None), "connector", None)
        if connector is not None:
            caller = who.owner if isinstance(who, End) else who
            caller.asked_to_disconnect = True
            self.inside("disconnect", connector.disconnect)

    def _do_stop_connecting(self, who: Any, where: str) -> None:
        connector = getattr(who, "connector", None)
        if connector is not None:
            self.inside("stopConnecting", connector.stopConnecting)

    def _do_reset(self, who: Any, where: str) -> None:
        if isinstance(who, End) and who.state == "made":
            self.sim.at(self.sim.now, self._reset, who)

    def _reset(self, end: End) -> None:
        if end.state == "made" and end.endpoint.owner is not None:
            self.reset_ends |= {id(end.endpoint), id(end.endpoint.peer)}
            # Why not those that are over: both sides have ended, and a reset does nothing to them any more.
            struck = [each for each in (end.endpoint, end.endpoint.peer) if each.state not in ENDED]
            self.sim.reset(end.endpoint)
            for each in self.ends:
                if each.state == "made" and each.endpoint in struck:
                    self.sim.at(self.sim.now + 1e-6, self._look_whether_told, each)

    def _look_whether_told(self, end: End) -> None:
        """J4, F3: a reset is noticed at once, paused or not."""
        has_time = not self.had_no_time(end.host, self.sim.now - 1e-5) and not end.host.isPaused
        # Why not where the kernel refuses: a registration that failed cannot tell.
        refuses = {"register", "modify", "recv", "getsockopt"} & {call for call, _ in end.host.faults.given}
        self.check(end.state != "made" or not has_time or bool(refuses), end, "F3 it was reset, and not told")

    def _do_stop_listening(self, who: Any, where: str) -> None:
        port = self.ports[self.hosts.index(who.host)]
        if port is None:
            return
        self.inside("stopListening", port.stopListening)
        who.host.reactor.callLater(self.chance.random() * 3, self._listen_again, port)

    def _listen_again(self, port: Any) -> None:
        if port is not None and not port.connected and not self.is_over:
            self.inside("startListening", port.startListening)

    def _do_stop(self, who: Any, where: str) -> None:
        host = who.host
        if self.chance.random() < 0.2 and host.name not in self.down and len(self.stopped) < 2:
            self.stopped.setdefault(host.name, []).append(self.sim.now)
            host.reactor.addSystemEventTrigger("after", "shutdown", self._all_told, host)
            self.inside("stop", host.reactor.stop)
            self.down.add(host.name)
            self.sim.at(self.sim.now + 1 + self.chance.random(), self._start, host)

    def _start(self, host: Host) -> None:
        """The host's program runs again."""
        self.down.remove(host.name)
        self.went_on[host.name] = self.sim.now
        host.start()
        port = self.ports[self.hosts.index(host)]
        host.reactor.callLater(0, self._listen_again, port)
        if self.guests is not None and not self.is_over:
            self.guests.move_in(host)

    def _all_told(self, host: Host) -> None:
        """I8: whatever was open when the reactor stopped has been told; what began after that is told another time."""
        for caller in self.callers:
            if caller.host is host and caller.state != "gone" and not caller.began_late:
                self.check(caller.state == "idle", caller, "I8 not told when its reactor stopped")
        for end in self.ends:
            if end.host is host:
                self.check(end.state != "made", end, "I8 not told when its reactor stopped")
        if self.guests is not None:
            self.guests.all_ended(host)

    def _do_meddle(self, who: Any, where: str) -> None:
        """Something happens to another connection of the same host, whose event may be in the same batch."""
        others = [end for end in self.ends if end.host is who.host and end.state == "made" and end is not who]
        if others:
            end = self.chance.choice(others)
            act = self.chance.choice(
                [self._do_lose, self._do_abort, self._do_write, self._do_half, self._do_pause]
            )
            act(end, where)

    def _do_observe(self, who: Any, where: str) -> None:
        observers = who.host.reactor.observers
        if len(observers) < 3:
            observers += [self._observe, partial(self._meddle_as_observer, who)]

    def _observe(self, event: Event) -> None:
        if self.chance.random() < 0.05:
            self.boom()

    def _meddle_as_observer(self, who: Any, event: Event) -> None:
        """Take a producer away at whatever step of its connection, or close it."""
        ends = [end for end in self.ends if end.host is who.host and end.state == "made"]
        if not ends or self.is_calm or self.chance.random() < 0.8:
            return
        end = self.chance.choice(ends)
        outer, self._calls = self._calls, []
        try:
            if end.producer is not None:
                end.producer.finish()
            elif self.chance.random() < 0.2 and event.step is not Step.FIRST_BYTE:
                # Why not then: the first bytes count as received, and are given to nobody.
                self._do_lose(end, "observer")
        finally:
            self._calls = outer

    def _do_alarms(self, who: Any, where: str) -> None:
        Alarms(self, who.host)

    def _from_thread(self, host: Host, call: Callable[[Host], object]) -> None:
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
            self.ports[place] = host.reactor.listenTCP(7, factory, interface="::", options=options)
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

    def check_deadlines(self, host: Host) -> None:
        """I5: as many deadlines as attempts that still connect; the one that has connected has none any more."""
        timers = [repr(call) for call in host.reactor.getDelayedCalls()]
        deadlines = sum("Dial._timed_out" in timer for timer in timers)
        staggers = sum("Dial._stagger_over" in timer for timer in timers)
        connectors = [caller.connector for caller in self.callers if caller.host is host and caller.connector]
        expected = sum(connector.state == "connecting" for connector in connectors)
        if self.guests is not None:
            # Why not just as many: their attempts have deadlines too.
            self.check(deadlines >= expected, host, f"I5 {deadlines} deadlines, {expected} attempts")
            return
        self.check(deadlines == expected, host, f"I5 {deadlines} deadlines, {expected} attempts")
        self.check(staggers <= expected, host, f"I5 {staggers} attempts are to be staggered, of {expected}")

    def expect_within_limits(self, end: End) -> None:
        """A hard limit that was crossed ends the connection, when the handler has returned."""
        if (
            end.hard_limit is not None
            and end.state == "made"
            and end.transport.bytesBuffered > end.hard_limit
        ):
            self.sim.at(self.sim.now + 1e-6, self._look_at_limit, end)

    def _look_at_limit(self, end: End) -> None:
        is_over = end.state != "made" or end.transport.bytesBuffered <= (end.hard_limit or 0)
        self.check(
            is_over or self.had_no_time(end.host, self.sim.now), end, "it keeps more than its hard limit"
        )

    def expect_progress(self, end: End) -> None:
        """J5: a connection that is to close makes progress within its deadline, or ends; not before."""
        transport: Any = end.transport
        if transport.closeTimeout is not None:
            self._look_at_progress(end, transport.closeTimeout)

    def _look_at_progress(self, end: End, deadline: float) -> None:
        if end.state != "made":
            return
        now, sent = self.sim.now, end.transport.bytesSent
        end.progress.append((now, sent))
        long_ago = [before for time, before in end.progress if time < now - deadline]
        stalled = bool(long_ago) and long_ago[-1] == sent
        may_be_late = self.had_no_time(end.host, now - deadline)
        self.check(not stalled or may_be_late, end, f"J5 not ended after {deadline} s")
        self.sim.at(now + deadline / 8 + 1e-6, self._look_at_progress, end, deadline)

    def _check_liveness(self) -> None:
        """After a long quiet nothing that could go on stands still."""
        by_endpoint = {id(end.endpoint): end for end in self.ends if end.endpoint is not None}
        for end in self.ends:
            if end.state != "made" or isinstance(end, Relay) or "abortConnection" in end.asked:
                continue
            peer = by_endpoint.get(id(end.endpoint.peer))
            producer, transport = end.producer, end.transport
            if producer is not None and producer.is_push and producer.is_paused:
                is_full = transport.bytesBuffered > producer.low
                self.check(is_full, end, "J6 its producer was not resumed")
            if peer is None or isinstance(peer, Relay) or peer.is_paused:
                continue
            if peer.state == "made":
                came, sent = sum(map(len, peer.got)), transport.bytesSent
                self.check(came == sent, end, f"{sent} bytes sent, {came} came, and all is quiet")
            elif not end.is_paused and type(end) is End:
                # Why not all of those that were cut off: who has nothing to send never learns of a reset that was lost.
                waits = end.endpoint.awaits_answer or transport.bytesBuffered
                is_silent = self.was_cut and not waits
                self.check(is_silent, end, f"its peer is gone, {peer.reason!r}, and it was not told")
        for port in filter(None, self.ports):
            if port.connected and port.factory.host.name not in self.down:
                waiting = port.sock.readiness()
                self.check(not waiting, port, "A2 connections wait to be accepted, and all is quiet")
        for caller in self.callers:
            is_late = caller.state == "connecting" and self.sim.now > caller.since + caller.timeout
            self.check(not is_late, caller, "J2 still connecting after its timeout")
        if self.guests is not None:
            self.guests.check_liveness()

    # ---- its life ---------------------------------------------------------------------------------------------

    def live(self) -> None:
        """All four phases."""
        keeper = LogKeeper(self.logged)
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
            self._check_liveness()
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
                self._all_told(host)
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


# Callbacks of an end whose exception ends the connection, and is its reason.
_ENDS_BY_RAISING = {"connectionMade", "dataReceived", "readConnectionLost", "writeConnectionLost"}


class LogKeeper(logging.Handler):
    """Keeps what the engine logs."""

    def __init__(self, kept: list[tuple[str, BaseException | None]]) -> None:
        super().__init__(logging.WARNING)
        self.kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        exc = record.exc_info[1] if record.exc_info else None
        self.kept.append((record.getMessage(), exc))
