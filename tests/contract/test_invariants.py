"""What holds whatever user code does (CONTRACT 4): every request of the user's, made in every callback.

One conversation passes through all callbacks of a client and a server; in one callback one thing is done, everywhere
else nothing. However that ends, the invariants hold afterwards: each attempt ended in exactly one way, each protocol was
told its story once and in order, the factory is balanced, the connector is at rest and can be used again, and nothing is
left (the fixture looks at descriptors and timers).
"""

from __future__ import annotations

import re
import socket

import pytest

from ropewalk.failure import Failure
from tests.contract.stage import (
    HERE,
    Client,
    HalfCloser,
    Planned,
    Producer,
    Server,
    error,
    port_of,
    run,
    turn_until,
)

CLIENT_CALLBACKS = [
    "startFactory",
    "startedConnecting",
    "buildProtocol",
    "connectionMade",
    "dataReceived",
    "readConnectionLost",
    "writeConnectionLost",
    "connectionLost",
    "clientConnectionLost",
    "clientConnectionFailed",
    "stopFactory",
]
SERVER_CALLBACKS = [
    "buildProtocol",
    "connectionMade",
    "dataReceived",
    "readConnectionLost",
    "writeConnectionLost",
    "connectionLost",
]
# What is told to one protocol, as the letters of: made, connected, data, read side, write side, lost.
STORY = re.compile(r"^(mcd*(r?d*w?|w?d*r?)l)?$")
LETTERS = {
    "makeConnection": "m",
    "connectionMade": "c",
    "dataReceived": "d",
    "readConnectionLost": "r",
    "writeConnectionLost": "w",
    "connectionLost": "l",
}


class Scene:
    """One client, one server, and what may be done in their callbacks."""

    def __init__(self, reactor):
        self.reactor = reactor
        self.others = []
        self.server = Server(HalfCloser)
        self.server.stage.acts.update(
            connectionMade=lambda protocol: protocol.transport.write(b"hello"),
            readConnectionLost=lambda protocol: protocol.transport.loseConnection(),
        )
        self.port = reactor.listenTCP(0, self.server, interface=HERE)
        self.client = Client(HalfCloser)
        self.client.stage.acts["dataReceived"] = lambda protocol, data: (
            protocol.transport.loseWriteConnection()
        )
        self.connector = None

    def transport(self):
        """The transport of whoever's callback it is, if there is one."""
        return self.client.built[-1].transport if self.client.built else None

    def do(self, what, transport):
        """One request of the user's; those that are refused in the present state are refused with a RuntimeError."""
        connector = self.client.connectors[-1] if self.client.connectors else None
        if what == "raise":
            raise Planned("planned")
        if what == "stop the reactor":
            if self.reactor.running:
                self.reactor.stop()
        elif what == "connect anew":
            if not self.others:
                self.others.append(Client(HalfCloser))
                self.reactor.connectTCP(HERE, self.port.getHost().port, self.others[0])
        elif what == "stop listening":
            self.port.stopListening()
        elif what in ("connect", "stopConnecting", "disconnect"):
            if connector is not None and not (
                what == "connect" and self.client.count("startedConnecting") > 2
            ):
                try:
                    getattr(connector, what)()
                except RuntimeError:
                    pass  # Safe because: "can't connect in this state", NotConnectingError.
        elif transport is not None:
            self.ask(what, transport)

    def ask(self, what, transport):
        if what == "write":
            transport.write(b"more" * 50_000)
        elif what == "register a producer":
            try:
                transport.registerProducer(Producer(), True)
            except RuntimeError:
                pass  # Safe because: a second one is refused.
            self.reactor.callLater(0, transport.unregisterProducer)
        elif what == "pause, resume later":
            transport.pauseProducing()
            self.reactor.callLater(0, transport.resumeProducing)
        elif what == "lose, then abort":
            transport.loseConnection()
            transport.abortConnection()
        else:
            getattr(transport, what)()


ACTS = [
    "raise",
    "write",
    "loseConnection",
    "abortConnection",
    "loseWriteConnection",
    "lose, then abort",
    "pauseProducing",
    "pause, resume later",
    "register a producer",
    "connect",
    "stopConnecting",
    "disconnect",
    "connect anew",
    "stop listening",
    "stop the reactor",
]


def play(reactor, side, where, what):
    """The whole conversation with one thing done in one place; everything has ended when this returns."""
    scene = Scene(reactor)
    factory = scene.client if side == "client" else scene.server
    usual = factory.stage.acts.get(where)

    def act(*args):
        result = usual(*args) if usual else None
        who = args[0] if args and hasattr(args[0], "transport") and hasattr(args[0], "heard") else None
        scene.do(what, who.transport if who is not None else scene.transport())
        return factory.make() if where == "buildProtocol" else result

    factory.stage.acts[where] = act
    target = scene.port.getHost().port
    if where == "clientConnectionFailed":
        with socket.create_server((HERE, 0)) as passing:
            target = port_of(passing)

    def begin():
        try:
            scene.connector = reactor.connectTCP(HERE, target, scene.client)
        except Planned:
            assert (what, where) in [("raise", "startFactory"), ("raise", "startedConnecting")]
            scene.connector = scene.client.connectors[-1] if scene.client.connectors else None

    def at_rest():
        # Enough has happened, or nothing more will: some acts leave a connection standing, the shutdown is for them.
        return scene.client.count("stopFactory") > 0 or turns[0] > 30

    turns = [0]

    def look():
        turns[0] += 1
        if at_rest() and reactor.running:
            stop()
        else:
            reactor.callLater(0.0005, look)

    def stop():
        try:
            reactor.stop()
        except RuntimeError:
            pass  # Safe because: the act has stopped it already.

    reactor.callWhenRunning(begin)
    watch = reactor.callLater(0, look)
    run(reactor)
    for call in reactor.getDelayedCalls():
        call.cancel()
    assert not watch.active()
    return scene


@pytest.mark.parametrize("what", ACTS)
@pytest.mark.parametrize(
    ("side", "where"),
    [("client", each) for each in CLIENT_CALLBACKS] + [("server", each) for each in SERVER_CALLBACKS],
)
def test_S4_I1_I2_I3_I6_I7_I8_hold_whatever_is_done_in_whichever_callback(reactor, caplog, side, where, what):
    scene = play(reactor, side, where, what)
    for client in (scene.client, *scene.others):
        check(client, undone=1 if (side, where, what) == ("client", "startedConnecting", "raise") else 0)
    for protocol in scene.server.built:
        assert STORY.match("".join(LETTERS[each] for each in protocol.heard)), protocol.heard
    for record in caplog.records:
        # Nothing but what the test planned was logged: the engine met no surprise of its own.
        assert record.exc_info is None or record.exc_info[0] is Planned, record
    # I7: the connector is in a right state: it can be used again.
    scene.client.stage.acts.clear()
    if scene.connector is not None:
        before = scene.client.count("clientConnectionFailed") + scene.client.count("clientConnectionLost")
        scene.connector.connect()
        scene.connector.stopConnecting()
        after = scene.client.count("clientConnectionFailed") + scene.client.count("clientConnectionLost")
        assert after == before + 1
        assert scene.client.numPorts == 0


def check(client, undone=0):
    journal = client.journal
    ended = client.count("clientConnectionFailed") + client.count("clientConnectionLost")
    # I1, I8: each attempt ended in exactly one way.
    assert client.count("startedConnecting") == ended + undone, journal
    # I2, I3: each protocol's story, once and in order; connectionLost, if it was connected, before clientConnectionLost.
    for protocol in client.built:
        story = "".join(LETTERS[each] for each in protocol.heard)
        assert STORY.match(story), protocol.heard
        assert story.endswith("l") or not story
    lost = [each for each in journal if each in ("connectionLost", "clientConnectionLost")]
    told = [each for each in client.built if each.heard]
    assert lost.count("connectionLost") == len(told)
    for place, each in enumerate(lost):
        if each == "connectionLost":
            assert lost[place + 1] == "clientConnectionLost", journal
    # I6: balanced.
    assert client.count("doStart") == client.count("doStop") + (
        1 if client.stage.acts.get("startFactory") and client.count("startedConnecting") == 0 else 0
    )
    assert client.count("startFactory") >= client.count("stopFactory")
    assert client.numPorts == 0
    # I7, I9.
    assert all(connector.state == "disconnected" for connector in client.connectors)
    assert all(isinstance(reason, Failure) for reason in client.reasons)
    assert len({id(reason.value) for reason in client.reasons}) == len(client.reasons)


def test_S4_I4_no_callback_on_the_stack_of_connectTCP_but_of_rows_3_and_5(reactor):
    scene = Scene(reactor)
    depth = []
    inside = []

    def note(what):
        def act(*args):
            if depth:
                inside.append(what)

        return act

    for where in CLIENT_CALLBACKS:
        if where not in ("buildProtocol", "dataReceived"):
            scene.client.stage.acts[where] = note(where)
    depth.append(1)
    connector = reactor.connectTCP(HERE, scene.port.getHost().port, scene.client)
    depth.clear()
    assert inside == ["startFactory", "startedConnecting"]
    turn_until(reactor, lambda: connector.state == "connected")


def test_S4_I5_the_timer_is_cancelled_before_buildProtocol(reactor):
    scene = Scene(reactor)
    seen = []

    def build(addr):
        seen.append(reactor.getDelayedCalls())
        return scene.client.make()

    scene.client.stage.acts["buildProtocol"] = build
    reactor.connectTCP(HERE, scene.port.getHost().port, scene.client)
    turn_until(reactor, lambda: seen)
    assert seen == [[]]


@pytest.mark.parametrize("name", ["ECONNREFUSED", "ENETUNREACH", "EMFILE", "EADDRNOTAVAIL", "ENOBUFS"])
@pytest.mark.parametrize("call", ["socket", "bind", "connect_ex", "SO_ERROR"])
def test_S4_I9_a_reason_carries_errno_and_cause_and_belongs_to_one_connection(
    world, reactor_in, peers, call, name
):
    fault = error(name)
    world.faults[call] = fault.errno if call in ("connect_ex", "SO_ERROR") else fault
    factories = [Client(), Client()]
    port = port_of(peers.listen())
    for factory in factories:
        reactor_in.connectTCP(HERE, port, factory, bindAddress=(HERE, 0))
    turn_until(reactor_in, lambda: all(each.reasons for each in factories))
    one, other = (each.reason for each in factories)
    assert one is not other
    for each in (one, other):
        assert each.errno == fault.errno
        assert each.__cause__.errno == fault.errno
        attempt = each.attempts[0]
        assert (attempt.errno, attempt.address) == (fault.errno, f"{HERE}:{port}")
