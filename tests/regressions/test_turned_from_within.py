"""Invariant: whoever turns the loop from within a callback finds it at work: what was asked for leaves, nothing comes twice.

A reactor may be turned by its own users (`reactor.iterate`, or `run` again after an exception left it). Each of these
was found by one who did: a stream that waited in a list which the inner turn could not see, an end that was met again.
"""

from __future__ import annotations

import logging
import socket

import pytest

from ropewalk import ClientFactory, Protocol, ServerFactory

TURNS = 2000


class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


class Asking(Protocol):
    """Notes what it hears, then does what the test wants."""

    def __init__(self):
        self.got = b""
        self.heard = []

    def dataReceived(self, data):
        self.got += data

    def connectionLost(self, reason):
        self.heard.append(reason.value)


class HalfClosing(Asking):
    def readConnectionLost(self):
        self.heard.append("read side")

    def writeConnectionLost(self):
        self.heard.append("write side")


def connect(reactor, ours, theirs=Echo):
    """One connection, made; and the port, which the test stops."""
    built = []
    port = reactor.listenTCP(0, ServerFactory.forProtocol(theirs), interface="127.0.0.1")

    class Client(ClientFactory):
        noisy = False

        def buildProtocol(self, addr):
            built.append(ours)
            return ours

    reactor.connectTCP("127.0.0.1", port.getHost().port, Client())
    turn_until(reactor, lambda: built and ours.transport is not None)
    port.stopListening()
    turn_until(reactor, lambda: not port.connected)
    return ours


def turn_until(reactor, is_so):
    for _ in range(TURNS):
        if is_so():
            return
        reactor.iterate(0.005)
    raise AssertionError("it never came to be")


def end(reactor, *protocols):
    for each in protocols:
        each.transport.loseConnection()
    turn_until(
        reactor, lambda: all(isinstance(each.heard[-1:] and each.heard[-1], Exception) for each in protocols)
    )
    # The other ends, whose FIN comes a turn later.
    turn_until(reactor, lambda: not [each for each in reactor._loop.everyone() if hasattr(each, "protocol")])


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_an_answer_is_waited_for_within_dataReceived(reactor, size):
    """What the handler has written leaves in the inner turns, though it has not returned."""

    class Waiting(Asking):
        def dataReceived(self, data):
            is_first = not self.got
            self.got += data
            if is_first:
                self.transport.write(b"y" * size)
                turn_until(reactor, lambda: self.got.count(b"y") == size)

    ours = connect(reactor, Waiting())
    ours.transport.write(b"first")
    turn_until(reactor, lambda: len(ours.got) == 5 + size)
    assert ours.got == b"first" + b"y" * size
    end(reactor, ours)


@pytest.mark.parametrize("what", ["a write", "a pause undone"])
def test_one_that_is_due_after_another_is_served_when_that_turns_the_loop(reactor, what, caplog):
    ours = connect(reactor, Asking())

    class Turning(Asking):
        def connectionLost(self, reason):
            super().connectionLost(reason)
            if what == "a write":
                turn_until(reactor, lambda: ours.got == b"question")
            else:
                ours.transport.write(b"question")
                turn_until(reactor, lambda: ours.got == b"question")

    turning = connect(reactor, Turning())

    def begin():
        turning.transport.abortConnection()
        if what == "a write":
            ours.transport.write(b"question")
        else:
            ours.transport.pauseProducing()
            ours.transport.resumeProducing()

    reactor.callLater(0, begin)
    turn_until(reactor, lambda: turning.heard and ours.got == b"question")
    assert len(turning.heard) == 1
    # What the turning one asserts in its callback the engine logs.
    assert caplog.text == ""
    end(reactor, ours)


class SayingGoodbye(Protocol):
    def connectionMade(self):
        self.transport.loseWriteConnection()


@pytest.mark.parametrize("has_observer", [True, False])
def test_the_peer_s_end_is_met_once_by_one_who_turns_the_loop_in_readConnectionLost(
    reactor, has_observer, caplog
):
    class Turning(HalfClosing):
        def readConnectionLost(self):
            super().readConnectionLost()
            for _ in range(5):
                reactor.iterate(0.001)
            self.transport.write(b"farewell")

    if has_observer:
        reactor.observers.append(lambda event: reactor.iterate(0))
    ours = connect(reactor, Turning(), SayingGoodbye)
    turn_until(reactor, lambda: "read side" in ours.heard)
    reactor.observers.clear()
    end(reactor, ours)
    assert [str(each) for each in ours.heard[:-1]] == ["read side"]
    assert ours.heard[-1].ended.errno is None
    assert ours.heard[-1].ended.sent == len(b"farewell")
    assert "IllegalTransition" not in caplog.text


def test_the_peer_s_end_is_met_once_by_a_producer_that_turns_the_loop_in_stopProducing(reactor, caplog):
    class Producer:
        def pauseProducing(self):
            pass

        resumeProducing = pauseProducing

        def stopProducing(self):
            for _ in range(5):
                reactor.iterate(0.001)

    class Closing(Protocol):
        def connectionMade(self):
            self.transport.loseConnection()

    ours = Asking()
    ours.connectionMade = lambda: ours.transport.registerProducer(Producer(), True)
    connect(reactor, ours, Closing)
    turn_until(reactor, lambda: ours.heard)
    assert len(ours.heard) == 1
    assert caplog.text == ""


@pytest.mark.parametrize("starts_anew", [True, False])
@pytest.mark.parametrize("callback", ["buildProtocol", "connectionMade", "connectionLost"])
def test_a_port_that_is_closed_in_the_midst_of_a_burst_accepts_no_more_on_its_old_socket(
    reactor, callback, starts_anew, caplog
):
    """Closed because the callback turns the loop; a socket that it has since then is another one."""
    served = []

    class Server(Protocol):
        def connectionMade(self):
            act("connectionMade")
            if callback == "connectionLost":
                self.transport.abortConnection()

        def connectionLost(self, reason):
            act("connectionLost")

    class Serving(ServerFactory):
        noisy = False

        def buildProtocol(self, addr):
            act("buildProtocol")
            return Server()

    def act(where):
        if where == callback:
            served.append(where)
            if len(served) == 2:  # The first of two: a port accepts one, then two at once, then four.
                port.stopListening()
                turn_until(reactor, lambda: not port.connected)
                if starts_anew:
                    port.startListening()

    def call():
        return socket.create_connection(("127.0.0.1", number))

    port = reactor.listenTCP(0, Serving(), interface="127.0.0.1")
    number = port.getHost().port
    peers = [call() for _ in range(3)]
    turn_until(reactor, lambda: len(served) == 2)
    assert port.connected is starts_anew
    assert reactor.getDelayedCalls() == []
    if starts_anew:
        number = port.getHost().port
        peers.append(call())
        turn_until(reactor, lambda: len(served) == 3)
        port.stopListening()
    assert caplog.text == ""
    for each in peers:
        each.close()
    turn_until(reactor, lambda: not (port.connected or reactor._loop.everyone()))


def test_a_run_that_was_left_within_a_handler_s_error_serves_its_connection_when_it_runs_again(reactor):
    class Interrupting(logging.Handler):
        def emit(self, record):
            raise KeyboardInterrupt

    class Failing(Asking):
        def dataReceived(self, data):
            raise ValueError("on purpose")

    ours = connect(reactor, Failing())
    handler = Interrupting()
    logging.getLogger("ropewalk").addHandler(handler)
    ours.transport.write(b"go")
    try:
        with pytest.raises(KeyboardInterrupt):
            turn_until(reactor, lambda: False)
    finally:
        logging.getLogger("ropewalk").removeHandler(handler)
    assert reactor._loop.serving is None
    end(reactor, ours)
    assert len(ours.heard) == 1


@pytest.mark.parametrize("then", ["gives None", "raises", "gives a protocol"])
def test_a_connection_that_buildProtocol_aborted_has_ended_whatever_that_gives(reactor, then, caplog):
    told = []

    class Client(ClientFactory):
        noisy = False

        def buildProtocol(self, addr):
            connector.transport.abortConnection()
            turn_until(reactor, lambda: told)
            if then == "raises":
                raise ValueError("on purpose")
            return None if then == "gives None" else Asking()

        def clientConnectionLost(self, connector, reason):
            told.append(reason.type.__name__)

        def clientConnectionFailed(self, connector, reason):
            told.append("failed")

    port = reactor.listenTCP(0, ServerFactory.forProtocol(Echo), interface="127.0.0.1")
    connector = reactor.connectTCP("127.0.0.1", port.getHost().port, Client())
    turn_until(reactor, lambda: told)
    port.stopListening()
    turn_until(reactor, lambda: not port.connected)
    assert told == ["ConnectionAborted"]
    assert (connector.state, connector.factory.numPorts) == ("disconnected", 0)
    assert ("on purpose" in caplog.text) == (then == "raises")


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_reactor_stopped_in_buildProtocol_ends_the_connection_that_is_being_made(reactor, side, caplog):
    made, told = [], []

    class Made(Asking):
        def connectionMade(self):
            made.append(reactor.running)

    class Stopping:
        noisy = False

        def buildProtocol(self, addr):
            reactor.stop()
            turn_until(reactor, lambda: not reactor.running)
            return Made()

    class StoppingClient(Stopping, ClientFactory):
        def clientConnectionLost(self, connector, reason):
            told.append(str(reason.value))

    class StoppingServer(Stopping, ServerFactory):
        pass

    class Client(ClientFactory):
        noisy = False

    far = StoppingServer() if side == "server" else ServerFactory.forProtocol(Echo)
    near = StoppingClient() if side == "client" else Client.forProtocol(Protocol)
    port = reactor.listenTCP(0, far, interface="127.0.0.1")
    reactor.connectTCP("127.0.0.1", port.getHost().port, near)
    limit = reactor.callLater(5, reactor.crash)
    reactor.run(installSignalHandlers=False)
    limit.cancel()
    assert made == []
    assert near.numPorts == far.numPorts == 0
    if side == "client":
        assert told == ["the connection was lost: the reactor was stopped"]
    assert caplog.text == ""


@pytest.mark.parametrize("asked", ["setWriteLimits", "write", "loseWriteConnection"])
def test_what_is_asked_for_in_buildProtocol_waits_for_the_protocol(reactor, asked):
    ours = HalfClosing()

    class Hello(Asking):
        def connectionMade(self):
            self.transport.write(b"hello")

        def readConnectionLost(self):
            self.transport.loseConnection()

    class Client(ClientFactory):
        noisy = False

        def buildProtocol(self, addr):
            transport = connector.transport
            arguments = {"setWriteLimits": (10,), "write": (b"x" * 9_000_000,)}.get(asked, ())
            getattr(transport, asked)(*arguments)
            for _ in range(5):
                reactor.iterate(0.01)
            return ours

    built = []

    class Server(ServerFactory):
        def buildProtocol(self, addr):
            built.append(Hello())
            return built[0]

    port = reactor.listenTCP(0, Server(), interface="127.0.0.1")
    connector = reactor.connectTCP("127.0.0.1", port.getHost().port, Client())
    turn_until(reactor, lambda: ours.got == b"hello")
    if asked == "write":
        turn_until(reactor, lambda: len(built[0].got) == 9_000_000)
    if asked == "loseWriteConnection":
        turn_until(reactor, lambda: len(ours.heard) == 3)
        assert ours.heard[0] == "write side"
    else:
        ours.transport.loseConnection()
        turn_until(reactor, lambda: ours.heard)
    port.stopListening()
    turn_until(reactor, lambda: not port.connected)
