"""Twisted's endpoints and ours, both on our reactor in the simulation: the same rows, whatever becomes of the connect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import endpoints as twisted_endpoints
from twisted.internet import protocol as twisted_protocol

from ropewalk import endpoints as our_endpoints
from ropewalk import protocol as our_protocol
from ropewalk.simulation import Simulation


class Scene:
    """One connect with the endpoints and the classes of one of the two."""

    def __init__(self, endpoints: Any, protocol: Any) -> None:
        self.rows: list[str] = []
        self.sim = Simulation()
        self.server, self.client = self.sim.host("server"), self.sim.host("client")
        self.sim.route("192.0.2.1", lost=True)
        self.endpoints = endpoints
        rows, scene = self.rows, self

        class Noted(protocol.Protocol):
            def connectionMade(self) -> None:
                rows.append("connectionMade")
                scene.act("connectionMade", self)

            def connectionLost(self, reason: Any = None) -> None:
                rows.append(f"connectionLost {type(reason.value).__name__}")

        class Notes(protocol.Factory):
            noisy = False

            def startFactory(self) -> None:
                rows.append("startFactory")

            def stopFactory(self) -> None:
                rows.append("stopFactory")

            def buildProtocol(self, addr: Any) -> Any:
                rows.append("buildProtocol")
                return scene.act("buildProtocol", Noted())

        self.factory: Any = Notes()
        self.connecting: Any = None
        self.acts: dict[str, Callable[[Scene, Any], Any]] = {}

    def act(self, where: str, protocol: Any) -> Any:
        act = self.acts.get(where)
        return protocol if act is None else act(self, protocol)

    def told(self, outcome: Any) -> None:
        error = getattr(outcome, "value", None)
        # Why: to Twisted's Deferred our Failure is any exception, and it makes one of its own around it.
        error = getattr(error, "value", error)
        self.rows.append("connected" if error is None else f"failed {type(error).__name__}")

    def live(self, host: str, port: int = 7, **how: Any) -> None:
        self.server.reactor.listenTCP(7, our_protocol.Factory.forProtocol(our_protocol.Protocol))
        endpoint = self.endpoints.TCP4ClientEndpoint(self.client.reactor, host, port, **how)
        self.connecting = endpoint.connect(self.factory)
        self.connecting.addBoth(self.told)
        self.sim.run(until=self.sim.now + 60)


def lose(scene: Scene, protocol: Any) -> None:
    protocol.transport.loseConnection()


def none(scene: Scene, protocol: Any) -> None:
    return None


def broken(scene: Scene, protocol: Any) -> None:
    raise ZeroDivisionError


def cancelled_after(seconds: float) -> Callable[[Scene], None]:
    def play(scene: Scene) -> None:
        scene.sim.at(scene.sim.now + seconds, lambda: scene.connecting.cancel())
        scene.live("192.0.2.1")

    return play


def acting(**acts: Any) -> Callable[[Scene], None]:
    def play(scene: Scene) -> None:
        scene.acts = acts
        scene.live("10.0.0.1")

    return play


PLAYS: dict[str, Callable[[Scene], None]] = {
    "connected, then closed": acting(connectionMade=lose),
    "refused": lambda scene: scene.live("10.0.0.1", 9),
    "timed out": lambda scene: scene.live("192.0.2.1", timeout=5),
    "no protocol": acting(buildProtocol=none),
    "buildProtocol raises": acting(buildProtocol=broken),
    "cancelled while it connects": cancelled_after(1),
}


@pytest.mark.parametrize("play", PLAYS)
def test_the_rows_are_the_same(play: str) -> None:
    told = []
    for endpoints, protocol in ((twisted_endpoints, twisted_protocol), (our_endpoints, our_protocol)):
        scene = Scene(endpoints, protocol)
        PLAYS[play](scene)
        told.append(scene.rows)
    assert told[0] == told[1]
    assert len(told[0]) > 2


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("client", "tcp::80"),
        ("client", "tcp:example.org:80:bindAddress=example.org"),
        ("server", "tcp:80:interface=example.org"),
        ("server", "tcp6:80:interface=127.0.0.1"),
    ],
)
def test_D85_ours_refuses_descriptions_that_could_not_mean_what_they_say(kind: str, text: str) -> None:
    reactor = Simulation().host().reactor
    name = f"{kind}FromString"
    assert getattr(twisted_endpoints, name)(reactor, text) is not None
    with pytest.raises(ValueError, match=r"endpoint .* must be an? "):
        getattr(our_endpoints, name)(reactor, text)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("tcp:0:interface=\\:\\:1", ["::1", "::1"]),
        ("tcp:0:interface=\\:\\:", ["::", "::"]),
        ("tcp:0:interface=", ["0.0.0.0", "0.0.0.0"]),
        ("tcp:0:interface=localhost", ["127.0.0.1", "127.0.0.1"]),
        ("tcp6:0:interface=", ["0.0.0.0", "::"]),
    ],
)
def test_D85_an_interface_of_IPv6_stays_valid_in_a_tcp_description(text: str, hosts: list[str]) -> None:
    told: list[str] = []
    for endpoints, protocol in ((twisted_endpoints, twisted_protocol), (our_endpoints, our_protocol)):
        listening: Any = endpoints.serverFromString(Simulation().host().reactor, text).listen(
            protocol.Factory()
        )
        listening.addCallback(lambda port: told.append(port.getHost().host))
    assert told == hosts
