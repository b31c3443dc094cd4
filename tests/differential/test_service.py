"""Twisted's services and ours, on our reactor in the simulation: the same rows for the same doings, drawn at random."""

from __future__ import annotations

import random
from typing import Any

import pytest
from twisted.application import internet as twisted_internet
from twisted.application import service as twisted_service
from twisted.internet import defer as twisted_defer
from twisted.internet import endpoints as twisted_endpoints
from twisted.internet import protocol as twisted_protocol
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer  # type: ignore[import-untyped]

from ropewalk import Deferred
from ropewalk import endpoints as our_endpoints
from ropewalk import protocol as our_protocol
from ropewalk import service as our_service
from ropewalk.error import CannotListenError
from ropewalk.simulation import Simulation
from tests.rooms.staying import Scene

SIDES = [
    (twisted_internet, twisted_endpoints, twisted_protocol),
    (our_service, our_endpoints, our_protocol),
]


@implementer(IDelayedCall)
class Call:
    """A delayed call that says by zope.interface that it is one: Twisted's machine looks."""

    def __init__(self, call: Any) -> None:
        self.cancel = call.cancel


class Clock:
    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor

    def callLater(self, seconds: float, call: Any) -> Call:
        return Call(self.reactor.callLater(seconds, call))


DOINGS = ["start", "stop", "when", "when 1", "when 2", "hang up", "listen", "leave", "pass", "pass"]


class Stage:
    """A ClientService of one of the two, and what can befall it."""

    def __init__(self, services: Any, endpoints: Any, protocol: Any) -> None:
        self.rows: list[str] = []
        self.scene = Scene()
        rows = self.rows

        class Noted(protocol.Protocol):
            def connectionMade(self) -> None:
                rows.append("made")

            def connectionLost(self, reason: Any = None) -> None:
                rows.append("lost")

        reactor = self.scene.client.reactor
        self.service = services.ClientService(
            endpoints.TCP4ClientEndpoint(reactor, "10.0.0.1", 7, timeout=3),
            protocol.Factory.forProtocol(Noted),
            self.wait,
            Clock(reactor),
        )

    def wait(self, failures: int) -> float:
        self.rows.append(f"failures {failures}")
        return 1.5 * failures

    def watch(self, name: str, deferred: Any) -> None:
        def told(result: Any) -> None:
            error = getattr(result, "value", None)
            error = getattr(error, "value", error)
            self.rows.append(f"{name}: {type(result if error is None else error).__name__}")

        deferred.addBoth(told)

    def do(self, doing: str, number: int) -> None:
        self.rows.append(f"-- {doing}")
        scene = self.scene
        if doing == "start":
            self.service.startService()
        elif doing == "stop":
            self.watch(f"stop {number}", self.service.stopService())
        elif doing.startswith("when"):
            most = doing.removeprefix("when")
            self.watch(f"when {number}", self.service.whenConnected(int(most) if most else None))
        elif doing == "hang up":
            for peer in list(scene.peers.live):
                peer.transport.loseConnection()
        elif doing == "listen" and scene.port is None:
            scene.listen()
        elif doing == "leave" and scene.port is not None:
            scene.port.stopListening()
            scene.port = None


def played(side: Any, doings: list[tuple[str, float]]) -> list[str]:
    stage = Stage(*side)
    for number, (doing, seconds) in enumerate(doings):
        stage.do(doing, number)
        stage.scene.go(seconds)
    stage.do("stop", len(doings))
    stage.scene.go(10)
    stage.scene.leave()
    return stage.rows


@pytest.mark.parametrize("seed", range(150))
def test_the_rows_are_the_same_whatever_is_done(seed: int) -> None:
    chance = random.Random(seed)
    doings = [("start", chance.choice([0.001, 0.5]))]
    # What is done while it connects or closes is below.
    doings += [(chance.choice(DOINGS), chance.choice([0.3, 0.7, 2.0, 4.0])) for _ in range(25)]
    theirs, ours = (played(side, doings) for side in SIDES)
    assert ours == theirs
    assert len(ours) > len(doings)


@pytest.mark.parametrize("doing", ["stop", "stop, start", "stop, stop", "stop, when"])
def test_the_rows_are_the_same_for_what_is_done_while_it_connects_or_closes(doing: str) -> None:
    for before in (0.0, 0.005, 0.5):
        doings = [("start", before), *((each, 0.0) for each in doing.split(", ")), ("pass", 5.0)]
        theirs, ours = (played(side, doings) for side in SIDES)
        assert ours == theirs
        assert len(ours) > 5


def parts_of(services: Any, rows: list[str]) -> Any:
    class Noted(services.Service):
        def privilegedStartService(self) -> None:
            rows.append(f"privileged {self.name}")

        def startService(self) -> None:
            super().startService()
            rows.append(f"start {self.name} {bool(self.running)} {self.parent is not None}")

        def stopService(self) -> str:
            super().stopService()
            rows.append(f"stop {self.name}")
            return f"bye {self.name}"

    return Noted


def told_in(rows: list[str]) -> Any:
    return lambda result: rows.append(f"stopped {result}")


@pytest.mark.parametrize("seed", range(100))
def test_a_collection_does_the_same_whatever_is_done(seed: int) -> None:
    told = []
    for services in (twisted_service, our_service):
        chance = random.Random(seed)
        rows: list[str] = []
        kind = parts_of(services, rows)
        parents = [services.MultiService() for _ in range(2)]
        parts = [kind() for _ in range(4)]
        for name, part in zip("abcd", parts, strict=True):
            part.setName(name)
        for _ in range(30):
            parent, part = chance.choice(parents), chance.choice(parts)
            what = chance.choice(["start", "stop", "join", "leave", "privileged", "named", "rename"])
            try:
                if what == "start":
                    parent.startService()
                elif what == "privileged":
                    parent.privilegedStartService()
                elif what == "stop":
                    parent.stopService().addCallback(told_in(rows))
                elif what == "join":
                    part.setServiceParent(parent)
                elif what == "leave" and part.parent is not None:
                    rows.append(f"left {part.disownServiceParent()}")
                elif what == "named":
                    rows.append(f"named {parent.getServiceNamed(part.name).name}")
                elif what == "rename":
                    part.setName(part.name)
            except (KeyError, RuntimeError) as exc:
                rows.append(type(exc).__name__)
            rows.append(f"{what} {[each.name for each in parent]} {bool(parent.running)}")
        told.append(rows)
    assert told[0] == told[1]


def is_listening(sim: Simulation, reactor: Any) -> bool:
    try:
        port = reactor.listenTCP(7, our_protocol.Factory())
    except CannotListenError:
        return True
    port.stopListening()
    sim.settle()
    return False


@pytest.mark.parametrize("privileged", [False, True])
def test_a_service_that_listens_does_so_between_its_start_and_its_stop(privileged: bool) -> None:
    told = []
    for services, endpoints, protocol in SIDES:
        sim = Simulation()
        reactor = sim.host("server").reactor
        endpoint = endpoints.TCP4ServerEndpoint(reactor, 7)
        service = services.StreamServerEndpointService(endpoint, protocol.Factory())
        rows: list[Any] = []
        for _ in range(2):
            if privileged:
                service.privilegedStartService()
                rows.append(is_listening(sim, reactor))
            service.startService()
            rows.append(is_listening(sim, reactor))
            service.stopService().addCallback(lambda _, rows=rows: rows.append("stopped"))
            sim.settle()
            rows.append(is_listening(sim, reactor))
        told.append(rows)
        sim.close()
    once = [*[True] * (2 if privileged else 1), "stopped", False]
    assert told[1] == once * 2
    # D84: theirs listens again only if it is asked to by privilegedStartService.
    assert told[0] == once + (once if privileged else [False, "stopped", False])


def test_D84_with_ours_a_service_that_starts_slowly_is_waited_for_and_a_port_that_is_taken_is_told() -> None:
    rows = []
    for services in (twisted_service, our_service):
        before: list[Any] = []

        class Slow(services.Service):  # type: ignore[name-defined]
            def startService(self) -> Any:
                super().startService()
                return Deferred()

        class Next(services.Service):  # type: ignore[name-defined]
            def startService(self, before: list[Any] = before) -> None:
                before.append("started")

        parent = services.MultiService()
        for each in (Slow(), Next()):
            each.setServiceParent(parent)
        rows.append((before, parent.startService() is None))
    assert rows[0] == (["started"], True)
    assert rows[1] == ([], False)

    outcomes = []
    for services, endpoints, protocol in SIDES:
        reactor = Simulation().host("server").reactor
        reactor.listenTCP(7, our_protocol.Factory())
        endpoint = endpoints.TCP4ServerEndpoint(reactor, 7)
        outcomes.append(services.StreamServerEndpointService(endpoint, protocol.Factory()).startService())
    assert outcomes[0] is None
    assert outcomes[1].result.check(CannotListenError)
    outcomes[1].addErrback(lambda _: None)


def test_D84_with_ours_each_is_asked_to_stop_when_the_one_after_it_has_stopped() -> None:
    told = []
    for services, waits in ((twisted_service, twisted_defer.Deferred), (our_service, Deferred)):
        rows: list[str] = []
        slow: Any = waits()

        class Noted(services.Service):  # type: ignore[name-defined]
            def __init__(self, name: str, gives: Any, rows: list[str] = rows) -> None:
                self.setName(name)
                self.gives, self.rows = gives, rows

            def stopService(self) -> Any:
                super().stopService()
                self.rows.append(f"stop {self.name}")
                return self.gives

        parent = services.MultiService()
        for each in (Noted("a", None), Noted("b", slow)):
            each.setServiceParent(parent)
        parent.startService()
        parent.stopService().addCallback(told_in(rows))
        rows.append("--")
        slow.callback("bye")
        told.append(rows)
    end = "stopped [(True, 'bye'), (True, None)]"
    assert told == [["stop b", "stop a", "--", end], ["stop b", "--", "stop a", end]]
