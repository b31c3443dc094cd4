"""ReconnectingClientFactory's schedule: exact times of each attempt, what resets the wait, what ends the trying.

A row says what the server does and what the factory is told to be; and when each attempt starts. With a jitter the waits
are drawn from a seeded random.Random, so these times are exact as well: `drawn` computes them independently of the
factory, by the formula that its documentation gives.
"""

from __future__ import annotations

import math
import random
from typing import Any, NamedTuple

import pytest

from ropewalk import Protocol, ReconnectingClientFactory, ServerFactory
from tests.scenarios.script import Scene

E = math.e


class Tries(ReconnectingClientFactory):
    """Writes down when each attempt starts, is made, fails or is lost; "start" and "stop" are the factory's own."""

    noisy = False
    jitter = 0

    def __init__(self, scene: Scene, **settings: Any) -> None:
        self.scene = scene
        self.begin = scene.sim.now
        self.told: list[tuple[float, str]] = []
        self.on: dict[str, Any] = {}
        for name, value in settings.items():
            setattr(self, name, value)

    def note(self, what: str) -> None:
        self.told.append((round(self.scene.sim.now - self.begin, 6), what))
        act = self.on.get(what)
        if act is not None:
            act(self)

    def times(self, what: str) -> list[float]:
        return [time for time, told in self.told if told == what]

    def startFactory(self) -> None:
        self.note("start")

    def stopFactory(self) -> None:
        self.note("stop")

    def startedConnecting(self, connector: Any) -> None:
        super().startedConnecting(connector)
        self.note("try")

    def buildProtocol(self, addr: Any) -> Protocol:
        self.note("made")
        return Protocol()

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        self.note("failed")
        super().clientConnectionFailed(connector, reason)

    def clientConnectionLost(self, connector: Any, reason: Any) -> None:
        self.note("lost")
        super().clientConnectionLost(connector, reason)


class Lives(Protocol):
    """The server's end: it hangs up after so many seconds."""

    def __init__(self, reactor: Any, seconds: list[float]) -> None:
        self.reactor = reactor
        self.seconds = seconds

    def connectionMade(self) -> None:
        if self.seconds:
            self.reactor.callLater(self.seconds.pop(0), self.transport.loseConnection)


def try_with(scene: Scene, until: float, **settings: Any) -> Tries:
    factory = Tries(scene, **settings)
    scene.client.reactor.connectTCP("192.0.2.10", 7, factory)
    scene.sim.run(until=scene.sim.now + until)
    return factory


def serve(scene: Scene, *lives: float) -> Any:
    """Listen; each connection is kept for that many seconds, those after the last for ever."""
    reactor = scene.server.reactor
    seconds = list(lives)
    return reactor.listenTCP(7, ServerFactory.forProtocol(lambda: Lives(reactor, seconds)))


class Row(NamedTuple):
    claim: str
    settings: dict[str, Any]
    until: float
    tries: list[float]


def sums(*waits: float) -> list[float]:
    """The times of attempts, of the waits between them."""
    times = [0.0]
    for wait in waits:
        times.append(times[-1] + wait)
    return times


def drawn(seed: int, share: float, factor: float, first: float, most: float, count: int) -> list[float]:
    """The waits as they are documented: about first * factor ** n, uneven by `share`, never above `most`."""
    source = random.Random(seed)
    waits = []
    wait = first
    for _ in range(count):
        wait = min(wait, most)
        wait = abs(source.normalvariate(wait, wait * share))
        if wait > most:
            wait = min(abs(2 * most - wait), most)
        waits.append(wait)
        wait = min(wait * factor, most)
    return waits


REFUSED = [
    Row("by default each wait is e times the last", {}, 60, sums(1, E, E**2, E**3)),
    Row("the factor is a setting", {"factor": 2}, 40, sums(1, 2, 4, 8, 16)),
    Row("a factor of one waits the same each time", {"factor": 1, "initialDelay": 3}, 10, sums(3, 3, 3)),
    Row("the first wait is initialDelay", {"factor": 2, "initialDelay": 0.5}, 8, sums(0.5, 1, 2, 4)),
    Row("never longer than maxDelay", {"factor": 2, "maxDelay": 5}, 23, sums(1, 2, 4, 5, 5, 5)),
    Row("initialDelay above maxDelay is maxDelay", {"initialDelay": 9, "maxDelay": 2}, 7, sums(2, 2, 2)),
    Row("maxRetries counts the retries, not the first attempt", {"maxRetries": 2}, 1000, sums(1, E)),
    Row("no retry at all is a setting as well", {"maxRetries": 0}, 1000, sums()),
    Row("trying may be off from the beginning", {"continueTrying": False}, 1000, sums()),
]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.claim)
def test_while_it_is_refused_it_tries_again_exactly_then(scene, row):
    factory = try_with(scene, row.until, **row.settings)
    assert factory.times("try") == pytest.approx(row.tries, abs=1e-6)
    assert factory.times("failed") == factory.times("try")
    assert factory.times("start") == [0.0]
    given_up = row.until == 1000
    assert factory.times("stop") == (pytest.approx([row.tries[-1]], abs=1e-6) if given_up else [])
    factory.stopTrying()
    assert len(factory.times("stop")) == 1
    assert factory.numPorts == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.119626565582, 0.5, 2.0])
def test_with_a_jitter_the_waits_are_those_of_its_random(scene, seed, share):
    settings = {"factor": 1.5, "initialDelay": 2.0, "maxDelay": 20.0}
    factory = try_with(scene, 300, random=random.Random(seed), jitter=share, maxRetries=12, **settings)
    waits = drawn(seed, share, settings["factor"], settings["initialDelay"], settings["maxDelay"], 12)
    assert factory.times("try") == pytest.approx(sums(*waits), abs=1e-5)
    assert all(0 <= wait <= 20 for wait in waits)
    assert factory.times("stop") == [factory.times("try")[-1]]


LIVED = [
    # How long each connection lives, settings, and when each attempt starts. It lives from the attempt on: no latency.
    ("it lived: the next wait is a first one", [20, 20], {}, sums(21, 21)),
    ("it lived exactly long enough", [10], {}, sums(11)),
    ("it did not live long enough: waits grow", [9.999, 9.999], {}, sums(10.999, 9.999 + E)),
    ("a server that hangs up at once does not count as reached", [0, 0, 0], {}, sums(1, E, E**2)),
    ("after living, waits grow from the first again", [0, 0, 30, 0], {}, sums(1, E, 31, E)),
    ("how long is long enough is a setting", [3, 3], {"livedSeconds": 2.5}, sums(4, 4)),
    ("infinity leaves resetting to resetDelay", [100, 100], {"livedSeconds": math.inf}, sums(101, 100 + E)),
]


@pytest.mark.parametrize(
    ("lives", "settings", "tries"), [row[1:] for row in LIVED], ids=[r[0] for r in LIVED]
)
def test_a_connection_that_lived_makes_the_next_wait_a_first_one(scene, lives, settings, tries):
    serve(scene, *lives)
    factory = try_with(scene, sum(tries) + 1, **settings)
    assert factory.times("try") == pytest.approx(tries, abs=1e-6)
    assert factory.times("made") == factory.times("try")
    assert (factory.times("start"), factory.times("stop")) == ([0.0], [])
    factory.stopTrying()


def test_resetDelay_when_the_connection_is_good_does_so_earlier(scene):
    serve(scene, 1, 1, 1)
    factory = Tries(scene)
    factory.on["made"] = Tries.resetDelay
    scene.client.reactor.connectTCP("192.0.2.10", 7, factory)
    scene.sim.advance(10)
    assert factory.times("try") == [0, 2, 4, 6]
    factory.stopTrying()


def test_a_server_that_comes_up_is_found_at_the_next_try_and_not_before(scene):
    scene.sim.at(scene.sim.now + 5, serve, scene)
    factory = try_with(scene, 100, factor=2)
    assert factory.times("try") == [0, 1, 3, 7]
    assert factory.times("made") == [7]


def test_a_server_that_goes_and_comes_back_is_found_again(scene):
    port = serve(scene)
    factory = try_with(scene, 50, factor=2)
    port.stopListening()
    scene.sim.reset(scene.sim.connections()[0])
    scene.sim.advance(10)
    scene.sim.at(scene.sim.now, serve, scene)
    scene.sim.advance(10)
    # Lost at 50, having lived; then 1, 2, 4 s, and 8 s: it came back at 60.
    assert factory.times("lost") == [50]
    assert factory.times("try") == [0, 51, 53, 57, 65]
    assert factory.times("made") == [0, 65]


ENDS = [
    # When stopTrying is called; what is under way then; what is told from then on.
    ("while it waits", 0.5, {}, [(0.5, "stop")]),
    ("while it connects", 2.0, {"lost": True}, [(2.0, "failed"), (2.0, "stop")]),
    ("while connected", 2.0, None, []),
]


@pytest.mark.parametrize(("when", "route", "told"), [row[1:] for row in ENDS], ids=[row[0] for row in ENDS])
def test_stopTrying_ends_it_there_and_then(scene, when, route, told):
    if route is None:
        serve(scene)
    else:
        scene.sim.route("192.0.2.10", **route)
    factory = try_with(scene, when)
    before = len(factory.told)
    factory.stopTrying()
    assert factory.told[before:] == told
    scene.sim.advance(1000)
    assert factory.told[before:] == told


@pytest.mark.parametrize(("when", "route", "_"), [row[1:] for row in ENDS], ids=[row[0] for row in ENDS])
def test_a_reactor_that_stops_ends_it_and_balances_the_factory(scene, when, route, _):
    if route is None:
        serve(scene)
    else:
        scene.sim.route("192.0.2.10", **route)
    factory = try_with(scene, when)
    scene.client.reactor.stop()
    scene.sim.advance(1000)
    assert (factory.times("start"), factory.times("stop")) == ([0.0], [when])
    assert factory.numPorts == 0
    assert len(factory.times("try")) == 1
    assert scene.client.ledger().leftovers() == []


def test_several_connectors_of_one_factory_wait_each_for_itself(scene):
    factory = Tries(scene, factor=2)
    for address in ("192.0.2.10", "192.0.2.11"):
        scene.client.reactor.connectTCP(address, 7, factory)
    scene.sim.advance(2.5)
    # One delay for both: it grows with each failure.
    assert factory.times("try") == [0, 0, 1, 2]
    factory.stopTrying()
    assert factory.times("start") == [0.0]
    assert factory.times("stop") == [2.5]


def test_stopTrying_stops_the_attempts_of_all_connectors_of_the_factory(scene):
    serve(scene)
    scene.sim.route("192.0.2.10", lost=True)
    scene.sim.route("192.0.2.11", lost=True)
    factory = Tries(scene)
    connectors = [
        scene.client.reactor.connectTCP(address, 7, factory)
        for address in ("192.0.2.10", "192.0.2.12", "192.0.2.11")
    ]
    scene.sim.advance(2)
    factory.stopTrying()
    assert [each.state for each in connectors] == ["disconnected", "connected", "disconnected"]
    assert factory.told[-2:] == [(2, "failed")] * 2
    scene.sim.advance(100)
    assert factory.times("made") == [0]
    assert factory.numPorts == 1


@pytest.mark.parametrize("until", [0.5, 2.0], ids=["while it waits", "while it connects"])
def test_stopTrying_after_the_host_crashed_and_came_back_stops_what_is_under_way_there(scene, until):
    if until > 1:
        scene.sim.route("192.0.2.10", lost=True)
    factory = try_with(scene, until)
    before = factory.connector
    scene.client.crash()
    assert before.state == "disconnected"
    scene.client.restart()
    scene.sim.route("192.0.2.10", lost=True)
    after = scene.client.reactor.connectTCP("192.0.2.10", 7, factory)
    factory.stopTrying()
    assert after.state == "disconnected"
    assert factory.times("failed")[-1] == until


def test_connect_called_meanwhile_by_the_user_is_not_doubled_by_the_wait(scene):
    serve_at = scene.sim.now + 0.5
    scene.sim.at(serve_at, serve, scene)
    factory = try_with(scene, 0.6)
    factory.connector.connect()
    scene.sim.advance(10)
    assert factory.times("try") == [0, 0.6]
    assert factory.connector.state == "connected"
    assert len(scene.sim.connections()) == 1
