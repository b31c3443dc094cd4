"""Plays: worlds without chance, for the torture. Each is one small scenario with the swarm's players, and its judge.

A play is given one fault, "the n-th send of this host fails with ENOBUFS", and is otherwise the same each time. What its
players do in which callback is a table, by role ("client" or "server") and callback.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ropewalk import TCPOptions
from ropewalk.error import CannotListenError
from ropewalk.simulation import FALLIBLE, Host
from tests.fuzz.acts import listen_again, reset
from tests.fuzz.players import Calls, End, HalfEnd, Produces, Relay, Serves
from tests.fuzz.swarm import World

# Up to which call of each kind the torture goes.
MOST = int(os.environ.get("ROPEWALK_MOST_CALLS", "1000"))

Acts = dict[tuple[str, str], Callable[["Play", Any], object]]


@dataclass(frozen=True)
class Fault:
    """One call of one host that fails."""

    host: str
    call: str
    nth: int
    error: int


@dataclass(frozen=True)
class Scenario:
    """What happens when nothing fails.

    Args:   start: listens and connects.
            acts: what players do in their callbacks.
            half: whether the ends keep one side when the other has ended.
            most: up to which call of each kind the torture goes; None for all. For those that repeat themselves.
    """

    name: str
    start: Callable[[Play], object]
    acts: Acts = field(default_factory=dict)
    half: bool = False
    most: int | None = None


class Play(World):
    """One scenario, with a fault or without."""

    def __init__(self, scenario: Scenario, fault: Fault | None = None) -> None:
        self.scenario = scenario
        self.fault = fault
        self.persistence = False
        # Why 0: a seed without guests.
        super().__init__(0, has_faults=False)

    def _build(self) -> None:
        self.quiet = 0.0
        self.most_bytes = 1000
        self.hosts = [self.sim.host(name) for name in ("client", "server", "proxy")]
        for host in self.hosts:
            events = self.events[host.name] = []
            host.reactor.observers.append(events.append)
        self.before = {host.name: dict(host.faults.counts) for host in self.hosts}
        if self.fault is not None:
            faults = self.sim.host(self.fault.host).faults
            faults.fail(self.fault.call, self.fault.error, nth=self.fault.nth)
        self.scenario.start(self)

    def calls_made(self) -> list[tuple[str, str, int]]:
        """Host, call, how often, since the play began."""
        return [
            (host.name, call, count - self.before[host.name][call])
            for host in self.hosts
            for call, count in host.faults.counts.items()
            if count > self.before[host.name][call]
        ]

    # ---- what scenarios say -----------------------------------------------------------------------------------

    def listen(self, host: str = "server", is_proxy: bool = False) -> None:
        """Port 7 of all addresses; the kernel may refuse, and then clients are refused too."""
        machine = self.sim.host(host)
        factory = Serves(self, machine, is_proxy)
        self.servers.append(factory)
        options = TCPOptions(closeTimeout=2.0, dualStack=True, receiveBuffer=8000)
        try:
            port = machine.reactor.listenTCP(7, factory, interface="::", options=options)
        except CannotListenError:
            return
        self.ports.append(port)

    def call(self, target: str, host: str = "client", relay: Relay | None = None, **how: Any) -> Calls:
        machine = self.sim.host(host)
        factory = Calls(self, machine, 5.0, relay)
        options = TCPOptions(closeTimeout=2.0, keepAlive=(2, 1, 3), sendBuffer=8000)
        connect = machine.reactor.connectTCP
        self.inside("connectTCP", connect, target, 7, factory, timeout=5.0, options=options, **how)
        return factory

    # ---- instead of chance ------------------------------------------------------------------------------------

    def act(self, who: Any, where: str) -> None:
        if self.is_over:
            return
        owner = getattr(who, "owner", who)
        act = self.scenario.acts.get(("client" if isinstance(owner, Calls) else "server", where))
        if act is not None:
            outer, self.calls = self.calls, []
            try:
                act(self, who)
            finally:
                self.calls = outer

    def connect(self, host: Host, relay: Relay | None = None) -> bool:
        self.call("server", host.name, relay)
        return True

    def make_end(self, host: Host, owner: Any) -> End:
        return (HalfEnd if self.scenario.half else End)(self, host, owner)

    def greet(self, end: End) -> None:
        """Nothing: `acts` say what is done first."""

    def draw_slowness(self) -> bool:
        return False

    def draw_closing_back(self) -> bool:
        return False

    def draw_persistence(self) -> bool:
        return self.persistence

    def draw_refusal(self) -> bool:
        return False


# ---- the torture ----------------------------------------------------------------------------------------------------


def faults_of(play: Play) -> list[Fault]:
    """Every call that was made in a play, and every way in which it may fail."""
    most = MOST if play.scenario.most is None else min(MOST, play.scenario.most)
    return [
        Fault(host, call, nth, error)
        for host, call, count in play.calls_made()
        for nth in range(1, min(count, most) + 1)
        for error in FALLIBLE[call]
    ]


def told(scenario: Scenario, fault: Fault) -> str:
    return f"{scenario.name}: {fault.call} {fault.nth} of {fault.host}, {errno.errorcode[fault.error]}"


# ---- the scenarios --------------------------------------------------------------------------------------------------


def once(what: str, act: Callable[[Play, Any], object]) -> Callable[[Play, Any], object]:
    """The first time only."""

    def do(play: Play, end: Any) -> None:
        if what not in end.told:
            end.told.append(what)
            act(play, end)

    return do


def talk(play: Play) -> None:
    play.listen()
    play.call("server")
    play.call("server", bindAddress=(play.hosts[0].addresses[0], 0))


def race(play: Play) -> None:
    """Of four addresses one is refused, one lost, one slow; two clients."""
    play.listen()
    server = play.sim.host("server")
    v4, v6 = server.addresses
    play.sim.route("192.0.2.1", error=111, delay=0.1)
    play.sim.route("192.0.2.2", lost=True)
    play.sim.route(v6, delay=0.6)
    play.sim.name("raced.example", ["192.0.2.1", "192.0.2.2", v6, v4], delay=0.1)
    play.call("raced.example")
    play.call("raced.example")


def oneself(play: Play) -> None:
    """An ephemeral port that is the port called, where nobody listens; then the server comes up."""
    play.persistence = True
    play.hosts[0].nextEphemeralPorts(7, 7)
    play.call("127.0.0.1")
    play.sim.at(play.sim.now + 0.5, play.listen, "client")


def again(play: Play) -> None:
    """A client that comes back each time the server hangs up."""
    play.persistence = True
    play.listen()
    play.call("server")


def relay(play: Play) -> None:
    play.listen("server")
    play.listen("proxy", is_proxy=True)
    play.call("proxy")


def restart(play: Play) -> None:
    """The server stops listening and listens again, its reactor stops and runs again; clients come all the while."""
    play.listen()
    server = play.sim.host("server")
    now = play.sim.now
    for second in range(5):
        play.sim.at(now + second, play.call, "server")
    for port in play.ports:
        server.reactor.callLater(0.5, port.stopListening)
        server.reactor.callLater(1.5, listen_again, play, port)
    play.sim.at(now + 2.5, _stop, play, server)


def _stop(play: Play, host: Host) -> None:
    play.stopped.setdefault(host.name, []).append(play.sim.now)
    play.down.add(host.name)
    host.reactor.addSystemEventTrigger("after", "shutdown", play.all_told, host)
    play.inside("stop", host.reactor.stop)
    play.sim.at(play.sim.now + 1, _start, play, host)


def _start(play: Play, host: Host) -> None:
    play.down.remove(host.name)
    host.start()
    for port in play.ports:
        host.reactor.callLater(0, listen_again, play, port)


def fall(play: Play) -> None:
    """The server's machine falls in the middle of a conversation, and comes back; a client comes after that."""
    play.persistence = True
    play.listen()
    play.call("server")
    now, server = play.sim.now, play.sim.host("server")
    play.sim.at(now + 0.5, play._fall, server)
    play.sim.at(now + 8, play.call, "server")


def cut(play: Play) -> None:
    """The path is cut while data is on its way, and is whole again before anybody gives up."""
    play.was_cut = True
    play.listen()
    play.call("server")
    client, server = play.sim.host("client"), play.sim.host("server")
    play.sim.at(play.sim.now + 0.0025, play.sim.partition, client, server)
    play.sim.at(play.sim.now + 1.5, play.sim.heal, client, server)


def give_up(play: Play) -> None:
    """Clients that are told to stop while they look a name up, while they connect, and when they have connected."""
    play.listen()
    play.sim.name("slow.example", play.sim.host("server").addresses, delay=1.0)
    play.sim.route("192.0.2.1", lost=True)
    for target in ("slow.example", "192.0.2.1", "server"):
        caller = play.call(target)
        caller.asked_to_disconnect = True
        assert caller.connector is not None
        play.sim.at(play.sim.now + 0.5, play.inside, "disconnect", caller.connector.disconnect)


def ask_in_vain(play: Play) -> None:
    """Names that nobody knows, that fail, that never answer, and one that is given up by the deadline."""
    play.sim.name("failing.example", error=socket.EAI_FAIL, delay=0.2)
    play.sim.name("never.example", never=True)
    play.sim.name("late.example", play.sim.host("server").addresses, delay=30)
    play.listen()
    for target in ("failing.example", "nowhere.example", "never.example", "late.example", "server"):
        play.call(target)


def crowd(play: Play) -> None:
    """More clients than descriptors: the reserve is used, and accepting goes on when there are free ones again."""
    play.listen()
    play.sim.host("server").descriptorLimit = 9
    for number in range(6):
        play.sim.at(play.sim.now + number / 100, play.call, "server")


def names(play: Play) -> None:
    """More look-ups than may run at once, though never at once: a place that is not given back would be missed."""
    play.listen()
    for number in range(20):
        play.sim.at(play.sim.now + number, play.call, "server")


def salvo(play: Play) -> None:
    """Much at one instant, so that it is one batch: data, a connection to accept, and resets of three that are paused.

    Whoever gets the data aborts those three before their events are dealt with; the new connection takes one's number. The
    order in a batch is drawn, so there are many salvos: one in six is right.
    """
    play.listen()
    play.sim.latency("client", "server", 0.0)
    client = play.sim.host("client").reactor
    for number in range(40):
        when = play.sim.now + 2.0 * number
        for _ in range(4):
            play.sim.at(when, play.call, play.hosts[1].addresses[0])
        play.sim.at(when + 1.0, client.callLater, 0, _fire, play)


def _fire(play: Play) -> None:
    at_server = [end for end in play.ends if end.host.name == "server" and end.state == "made"]
    if not at_server:
        return
    client = play.sim.host("client").reactor
    for end in at_server[1:]:
        end.ask("pauseProducing")
    # Why first: a connect goes out in the turn after it is asked for, and all the rest must leave in that turn.
    play.call(play.hosts[1].addresses[0])
    client.callLater(0, _fire_at_once, play, at_server)


def _fire_at_once(play: Play, at_server: list[End]) -> None:
    for end in play.ends:
        if end.state == "made" and end.endpoint is at_server[0].endpoint.peer:
            end.send(10)
    for end in at_server[1:]:
        play.sim.at(play.sim.now, reset, play, end)


def abort_the_others(play: Play, end: End) -> None:
    for other in play.ends:
        if other.host is end.host and other is not end and other.state == "made":
            other.ask("abortConnection")
    # Why not now: its own number, whose event is dealt with, would be the one that comes again.
    end.host.reactor.callLater(0.5, end.lose)


def chorus(play: Play) -> None:
    """Five clients that send at one instant, so that the server has all of it in one batch; and again five, and again."""
    play.listen()
    play.sim.latency("client", "server", 0.0)
    client = play.sim.host("client").reactor
    for number in range(10):
        when = play.sim.now + 2.0 * number
        for _ in range(5):
            play.sim.at(when, play.call, play.hosts[1].addresses[0])
        play.sim.at(when + 1.0, client.callLater, 0, _sing, play)


def _sing(play: Play) -> None:
    for end in play.ends:
        if end.host.name == "client" and end.state == "made":
            end.send(10)
            end.host.reactor.callLater(0.5, end.lose)


def end_the_next_ones_side(play: Play, end: End) -> None:
    for other in play.ends:
        if other.host is end.host and other.state == "made" and "loseWriteConnection" not in other.asked:
            other.ask("loseWriteConnection")
            return


def pause_the_others(play: Play, end: End) -> None:
    """Asked for in a callback that comes while what was asked for before is carried out; it must hold all the same."""
    for other in play.ends:
        if other.host is end.host and other is not end and other.state == "made":
            other.rest(0.1)


def write_in_parts(play: Play, end: End) -> None:
    """More parts than are joined, so that they leave by sendmsg; and more than the kernel takes at once."""
    parts = [play.chance.randbytes(5000) for _ in range(8)]
    end.sent += parts
    end.ask("writeSequence", parts)
    end.lose()


SCENARIOS = [
    Scenario(
        "talk",
        talk,
        {
            ("client", "connectionMade"): lambda play, end: end.send(100),
            ("server", "dataReceived"): lambda play, end: end.send(50),
            ("client", "dataReceived"): lambda play, end: end.lose(),
        },
    ),
    Scenario(
        "half-close both ways",
        talk,
        {
            ("client", "connectionMade"): lambda play, end: (end.send(2000), end.ask("loseWriteConnection")),
            ("server", "readConnectionLost"): lambda play, end: (
                end.send(3000),
                end.ask("loseWriteConnection"),
            ),
        },
        half=True,
    ),
    Scenario(
        "much to a slow reader, then close",
        talk,
        {
            ("client", "connectionMade"): write_in_parts,
            ("server", "dataReceived"): lambda play, end: end.rest(0.1),
        },
    ),
    Scenario(
        "producers",
        talk,
        {
            ("client", "connectionMade"): lambda play, end: Produces(end),
            ("server", "dataReceived"): lambda play, end: end.rest(0.05),
        },
    ),
    Scenario(
        "abort by either side, the other paused",
        talk,
        {
            ("client", "connectionMade"): lambda play, end: (end.send(500), end.rest(1.0)),
            ("server", "dataReceived"): lambda play, end: (end.send(100), end.ask("abortConnection")),
        },
    ),
    Scenario("race", race, {("client", "connectionMade"): lambda play, end: end.lose()}),
    Scenario("connected to itself", oneself, {("client", "connectionMade"): lambda play, end: end.lose()}),
    Scenario("again and again", again, {("server", "connectionMade"): lambda play, end: end.lose()}),
    Scenario(
        "through a proxy",
        relay,
        {
            ("client", "connectionMade"): lambda play, end: end.send(3000),
            ("server", "dataReceived"): once("echoed", lambda play, end: end.send(100)),
            ("client", "dataReceived"): lambda play, end: end.lose(),
        },
    ),
    Scenario(
        "connectionMade raises",
        talk,
        {
            ("client", "connectionMade"): lambda play, end: play.boom(end),
            ("server", "connectionMade"): lambda play, end: play.boom(end),
        },
    ),
    Scenario(
        "the end and a reset at once",
        talk,
        {
            ("client", "connectionMade"): lambda play, end: (
                end.send(100),
                end.ask("loseWriteConnection"),
                end.host.reactor.callLater(0, end.ask, "abortConnection"),
            ),
        },
    ),
    Scenario(
        "paused by others in one batch",
        chorus,
        {
            ("server", "dataReceived"): end_the_next_ones_side,
            ("server", "writeConnectionLost"): pause_the_others,
        },
        half=True,
        most=1,
    ),
    Scenario("many names", names, {("client", "connectionMade"): lambda play, end: end.lose()}, most=2),
    Scenario(
        "numbers that come again in one batch", salvo, {("server", "dataReceived"): abort_the_others}, most=1
    ),
    Scenario(
        "a server that restarts",
        restart,
        {
            ("client", "connectionMade"): lambda play, end: end.send(10),
            ("server", "dataReceived"): lambda play, end: end.send(10),
        },
    ),
    Scenario(
        "a server that falls",
        fall,
        {
            ("client", "connectionMade"): lambda play, end: end.send(10),
            ("server", "dataReceived"): lambda play, end: end.send(10),
        },
    ),
    Scenario(
        "cut off for a while",
        cut,
        {
            ("client", "connectionMade"): lambda play, end: (end.send(3000), end.ask("loseWriteConnection")),
            ("server", "readConnectionLost"): lambda play, end: (end.send(2000), end.lose()),
        },
        half=True,
    ),
    Scenario("given up", give_up, {("client", "connectionMade"): lambda play, end: end.send(10)}),
    Scenario("asked in vain", ask_in_vain, {("client", "connectionMade"): lambda play, end: end.lose()}),
    Scenario(
        "a crowd at the door",
        crowd,
        {
            ("client", "connectionMade"): lambda play, end: end.send(10),
            ("server", "dataReceived"): lambda play, end: end.lose(),
        },
    ),
]
