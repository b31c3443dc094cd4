"""Invariant: what a user's error is made of, or what the log does with it, never keeps the engine from its books.

An exception whose `str()` raises, and a log handler that raises, left `reactor.run` from the middle of an end: the
connection was closed for itself, and open for everybody else.
"""

from __future__ import annotations

import errno
import logging

import pytest

from ropewalk import ClientFactory, Protocol, ServerFactory
from ropewalk.simulation import Simulation
from tests.regressions.test_turned_from_within import turn_until


class NoText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Hello(Protocol):
    def connectionMade(self):
        self.transport.write(b"hello")


class Client(ClientFactory):
    """Raises where the test says, and notes how it ended."""

    noisy = False

    def __init__(self, where, exc):
        self.where, self.exc = where, exc
        self.told = []

    def at(self, place):
        if place == self.where:
            raise self.exc

    def buildProtocol(self, addr):
        self.at("buildProtocol")
        return Talk(self)

    def clientConnectionFailed(self, connector, reason):
        self.told.append("failed")

    def clientConnectionLost(self, connector, reason):
        self.told.append("lost")


class Talk(Protocol):
    def __init__(self, client):
        self.client = client

    def connectionMade(self):
        self.client.at("connectionMade")

    def dataReceived(self, data):
        self.client.at("dataReceived")

    def connectionLost(self, reason):
        self.client.told.append(type(reason.value).__name__)


def connect(reactor, client):
    port = reactor.listenTCP(0, ServerFactory.forProtocol(Hello), interface="127.0.0.1")
    connector = reactor.connectTCP("127.0.0.1", port.getHost().port, client)
    turn_until(reactor, lambda: client.told and client.told[-1] in ("failed", "lost"))
    assert (connector.state, client.numPorts) == ("disconnected", 0)
    port.stopListening()
    turn_until(reactor, lambda: not port.connected)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("buildProtocol", ["failed"]),
        ("connectionMade", ["NoText", "lost"]),
        ("dataReceived", ["NoText", "lost"]),
    ],
)
@pytest.mark.parametrize("observed", [False, True])
def test_an_exception_without_a_text_ends_its_connection_and_no_other(reactor, where, told, observed):
    if observed:
        reactor.observers.append(lambda event: None)
    client = Client(where, NoText())
    connect(reactor, client)
    assert client.told == told


@pytest.fixture
def broken_log():
    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError("the log's target is gone")

    handler = Broken()
    logging.getLogger("ropewalk").addHandler(handler)
    yield
    logging.getLogger("ropewalk").removeHandler(handler)


@pytest.mark.parametrize("where", ["buildProtocol", "connectionMade", "dataReceived"])
@pytest.mark.usefixtures("broken_log")
def test_a_log_handler_that_raises_loses_nobody_s_error(reactor, where, capsys):
    client = Client(where, ValueError("on purpose"))
    connect(reactor, client)
    said = capsys.readouterr().err
    assert "the log's target is gone" in said
    assert "on purpose" in said


@pytest.mark.usefixtures("broken_log")
def test_a_log_handler_that_raises_does_not_keep_a_port_from_resting(capsys):
    sim = Simulation(1)
    near, far = sim.host("near"), sim.host("far")
    near.reactor.listenTCP(7, ServerFactory.forProtocol(Hello))
    near.faults.fail("accept", errno.ENOBUFS)
    client = ClientFactory.forProtocol(Protocol)
    client.noisy = False
    connector = far.reactor.connectTCP(near.addresses[0], 7, client)
    sim.advance(1.0)
    assert connector.transport.bytesReceived == 5
    assert "the log's target is gone" in capsys.readouterr().err
    sim.close()


def test_a_producer_that_cannot_say_whether_it_has_ended_ends_nothing_but_its_own(reactor):
    class Odd:
        @property
        def disconnected(self):
            raise RuntimeError("on purpose")

        def pauseProducing(self):
            pass

        def stopProducing(self):
            pass

        def resumeProducing(self):
            pass

    class Closing(Talk):
        def connectionMade(self):
            self.transport.registerProducer(Odd(), True)
            self.transport.loseConnection()
            reactor.callLater(0.01, self.transport.unregisterProducer)

    class Closes(Client):
        def buildProtocol(self, addr):
            return Closing(self)

    client = Closes("nowhere", None)
    connect(reactor, client)
    assert client.told == ["ConnectionDone", "lost"]
