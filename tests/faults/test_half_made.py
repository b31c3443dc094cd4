"""FAULTS C14: users' objects that are not what they should be: methods missing, properties that raise, the wrong type.

Whatever is handed in, the loop goes on, other connections are served, and the connection it was for ends once.
"""

from __future__ import annotations

import pytest

from ropewalk import Factory, Protocol
from tests.faults.scene import LOCALHOST, Echo, Makes, Told, call, listening, turn_until


def raising_property(name, kind=ZeroDivisionError):
    def get(self):
        raise kind(name)

    return property(get)


def without(base, name):
    """A class whose attribute of that name cannot be read."""
    return type("HalfMade", (base,), {name: raising_property(name)})


class Bare:
    """Has nothing."""

    __slots__ = ()


NOT_PROTOCOLS = {
    "a text": lambda: "protocol",
    "a bare object": Bare,
    "a class": lambda: Protocol,
    "a number": lambda: 7,
    "no makeConnection": without(Told, "makeConnection"),
    "no connectionLost": without(Told, "connectionLost"),
    "no dataReceived": without(Told, "dataReceived"),
    "no readConnectionLost": without(Told, "readConnectionLost"),
    "no writeConnectionLost": without(Told, "writeConnectionLost"),
    "no repr": type("Shy", (Told,), {"__repr__": lambda self: 1 // 0}),
    "no truth": type("Moot", (Told,), {"__bool__": lambda self: 1 // 0}),
    "equal to nobody": type("Odd", (Told,), {"__eq__": lambda self, other: 1 // 0, "__hash__": None}),
}


class Gives(Makes):
    def __init__(self, give):
        super().__init__()
        self.give = give
        self.given = []

    def buildProtocol(self, addr):
        made = self.give()
        self.given.append(made)
        return made


def served_as_ever(reactor):
    """The loop lives: somebody else is echoed."""
    others = Makes(Echo)
    with listening(reactor, others) as port:
        peer = call(port)
        peer.sendall(b"alive?")
        turn_until(reactor, lambda: others.built and others.last.received == b"alive?")
        reactor.iterate(0)
        assert peer.recv(10) == b"alive?"
        peer.close()


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("what", NOT_PROTOCOLS)
def test_C14_a_server_s_factory_that_gives_something_else_than_a_protocol_harms_nobody(
    counted, what, observed
):
    if observed:
        counted.observers.append(lambda event: None)
    factory = Gives(NOT_PROTOCOLS[what])
    port = counted.listenTCP(0, factory, interface=LOCALHOST)
    peer = call(port)
    peer.sendall(b"data")
    turn_until(counted, lambda: factory.given)
    for _ in range(5):
        counted.iterate(0)
    peer.close()
    stopped = []
    port.stopListening().addCallback(stopped.append)
    turn_until(counted, lambda: stopped)
    for _ in range(5):
        counted.iterate(0)
    assert counted._loop.everyone() == []
    served_as_ever(counted)


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("what", NOT_PROTOCOLS)
def test_C14_a_client_s_factory_that_gives_something_else_than_a_protocol_is_told_the_end(
    counted, what, observed
):
    if observed:
        counted.observers.append(lambda event: None)
    serving = Makes(Echo)
    with listening(counted, serving) as port:
        factory = Gives(NOT_PROTOCOLS[what])
        connector = counted.connectTCP(LOCALHOST, port.getHost().port, factory)
        turn_until(counted, lambda: factory.given and serving.built)
        for each in serving.built:
            each.transport.write(b"data")
        for _ in range(5):
            counted.iterate(0)
        connector.disconnect()
        for each in serving.built:
            each.transport.loseConnection()
        turn_until(counted, lambda: factory.told[-1] == "stop")
        assert factory.told.count("lost") + factory.told.count("failed") == 1
        assert connector.state == "disconnected"
    served_as_ever(counted)


@pytest.mark.parametrize(
    "missing", ["clientConnectionFailed", "clientConnectionLost", "doStop", "buildProtocol"]
)
@pytest.mark.parametrize("there", [True, False])
def test_C14_a_factory_that_lacks_a_callback_leaves_the_loop_alive(counted, missing, there):
    class Lacks(Makes):
        pass

    setattr(Lacks, missing, raising_property(missing, AttributeError))
    serving = Makes(Echo)
    with listening(counted, serving) as port:
        factory = Lacks()
        number = port.getHost().port if there else 1
        connector = counted.connectTCP(LOCALHOST, number, factory)
        for _ in range(5):
            counted.iterate(0)
        connector.disconnect()
        turn_until(counted, lambda: connector.state == "disconnected")
        assert connector.transport is None
    assert counted._core.open_ends == {}
    served_as_ever(counted)


@pytest.mark.parametrize("missing", ["pauseProducing", "resumeProducing", "stopProducing"])
@pytest.mark.parametrize("streaming", [True, False])
def test_C14_a_producer_that_lacks_a_method_leaves_the_loop_alive(counted, missing, streaming):
    class Lacks:
        def pauseProducing(self):
            pass

        def resumeProducing(self):
            pass

        def stopProducing(self):
            pass

    setattr(Lacks, missing, raising_property(missing, AttributeError))

    class Serves(Told):
        def connectionMade(self):
            super().connectionMade()
            try:
                self.transport.registerProducer(Lacks(), streaming)
            except AttributeError:
                pass
            self.transport.write(b"x" * 100_000)

    factory = Makes(Serves)
    with listening(counted, factory) as port:
        peer = call(port)
        turn_until(counted, lambda: factory.built)
        peer.setblocking(False)
        for _ in range(50):
            counted.iterate(0)
            try:
                # Whether all of it comes, or the connection is closed for the producer's fault, is not the point here.
                peer.recv(1 << 16)
            except (BlockingIOError, ConnectionResetError):
                pass
        peer.close()
        turn_until(counted, lambda: factory.last.is_over)
    served_as_ever(counted)


def test_C14_a_Factory_given_to_connectTCP_is_told_so_at_once(counted):
    """The common mistake: a server's factory, which has none of the client's callbacks."""
    factory = Factory.forProtocol(Told)
    factory.noisy = False
    with pytest.raises(TypeError, match="ClientFactory"):
        counted.connectTCP(LOCALHOST, 9, factory)
    assert factory.numPorts == 0
    counted.iterate(0)
    assert counted.getDelayedCalls() == []


class BadReader:
    """For addReader; `missing` cannot be read."""

    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd

    def doRead(self):
        return None

    def doWrite(self):
        return None

    def connectionLost(self, reason):
        pass

    def logPrefix(self):
        return "bad"


@pytest.mark.parametrize("missing", ["doRead", "doWrite", "connectionLost"])
@pytest.mark.parametrize("how", ["addReader", "addWriter"])
def test_C14_a_reader_that_lacks_a_method_is_let_go(counted, missing, how):
    import os
    import socket

    class Lacks(BadReader):
        pass

    setattr(Lacks, missing, raising_property(missing))
    ours, theirs = socket.socketpair()
    reader = Lacks(ours.fileno())
    getattr(counted, how)(reader)
    theirs.send(b"x")
    for _ in range(3):
        counted.iterate(0)
    os.write(theirs.fileno(), b"y")
    theirs.close()
    for _ in range(3):
        counted.iterate(0)
    counted.removeReader(reader)
    counted.removeWriter(reader)
    assert counted.getReaders() == counted.getWriters() == []
    ours.close()
    served_as_ever(counted)


@pytest.mark.parametrize("bad", [None, 7, "text", [None], [b"ok", "text"], [b"ok", 3]])
def test_C14_what_is_no_bytes_is_refused_on_the_spot_and_nothing_of_it_is_sent(counted, bad):
    factory = Makes()
    with listening(counted, factory) as port:
        peer = call(port)
        turn_until(counted, lambda: factory.built)
        transport = factory.last.transport
        if not isinstance(bad, list):
            with pytest.raises(TypeError):
                transport.write(bad)
        with pytest.raises(TypeError):
            transport.writeSequence(bad)
        transport.write(b"only this")
        transport.loseConnection()
        turn_until(counted, lambda: factory.last.is_over)
        assert peer.recv(100) == b"only this"
        peer.close()


def test_C14_a_generator_that_raises_in_writeSequence_sends_nothing_of_it(counted):
    def half():
        yield b"half"
        raise ZeroDivisionError

    factory = Makes()
    with listening(counted, factory) as port:
        peer = call(port)
        turn_until(counted, lambda: factory.built)
        with pytest.raises(ZeroDivisionError):
            factory.last.transport.writeSequence(half())
        factory.last.transport.write(b"whole")
        factory.last.transport.loseConnection()
        turn_until(counted, lambda: factory.last.is_over)
        assert peer.recv(100) == b"whole"
        peer.close()
