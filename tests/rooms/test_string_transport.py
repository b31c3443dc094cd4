"""StringTransport: it writes down what is done to it, and does nothing by itself.

Compared with Twisted's on random programs in tests/differential/test_testing.py.
"""

from __future__ import annotations

import pytest

from ropewalk import Protocol
from ropewalk.address import IPv4Address
from ropewalk.error import ConnectionDone
from ropewalk.protocol import ClientFactory
from ropewalk.testing import MemoryReactor, StringTransport, StringTransportWithDisconnection


class Upper(Protocol):
    def connectionMade(self):
        self.reasons = []
        self.transport.write(b"hello ")

    def dataReceived(self, data):
        self.transport.write(data.upper())

    def connectionLost(self, reason):
        self.reasons.append(reason.value)


def test_what_a_protocol_writes_is_there_at_once():
    transport = StringTransport()
    protocol = Upper()
    protocol.makeConnection(transport)
    protocol.dataReceived(b"ping")
    assert transport.value() == b"hello PING"
    transport.clear()
    assert transport.value() == b""
    protocol.dataReceived(b"again")
    assert transport.value() == transport.io.getvalue() == b"AGAIN"


def test_closing_sets_flags_and_tells_nobody():
    transport = StringTransport()
    protocol = Upper()
    protocol.makeConnection(transport)
    assert (transport.connected, transport.disconnecting, transport.disconnected) == (True, False, False)
    transport.loseConnection()
    assert (transport.disconnecting, transport.disconnected, transport.aborting) == (True, False, False)
    transport.abortConnection()
    assert (transport.disconnecting, transport.disconnected, transport.aborting) == (True, True, True)
    assert protocol.reasons == []
    transport.write(b"still written down")
    assert transport.value() == b"hello still written down"


GOOD = [b"", b"bytes", bytearray(b"an array"), memoryview(b"a view")]
BAD = ["text", 7, None, [1, 2], object()]


@pytest.mark.parametrize("data", GOOD, ids=repr)
def test_what_a_connection_takes_is_taken(data):
    transport = StringTransport()
    transport.write(data)
    transport.writeSequence(each for each in (data, b"!"))
    assert transport.value() == bytes(data) * 2 + b"!"


@pytest.mark.parametrize("data", BAD, ids=repr)
def test_what_a_connection_refuses_is_refused_in_the_same_words(data):
    reactor = MemoryReactor()
    reactor.connectTCP("example.com", 7, ClientFactory.forProtocol(Protocol))
    protocol, peer = reactor.acceptClient()
    transport = StringTransport()
    for write in ("write", "writeSequence"):
        wrong = data if write == "write" else data if isinstance(data, str) else [b"good", data]
        said = []
        for each in (transport, protocol.transport):
            with pytest.raises(TypeError) as caught:
                getattr(each, write)(wrong)
            said.append(str(caught.value))
        assert said[0] == said[1]
    assert transport.value() == peer.value() == b""


def test_one_bytes_object_is_no_sequence():
    with pytest.raises(TypeError, match="iterable of bytes-like"):
        StringTransport().writeSequence(b"bytes")


def test_the_addresses_are_those_given_or_made_up_ones():
    here, there = IPv4Address("TCP", "192.0.2.1", 1), IPv4Address("TCP", "192.0.2.2", 2)
    given = StringTransport(here, there)
    assert (given.getHost(), given.getPeer()) == (here, there)
    assert (given.hostAddr, given.peerAddr) == (here, there)
    made_up = StringTransport()
    assert made_up.getHost() == IPv4Address("TCP", "10.0.0.1", 12345)
    assert made_up.getPeer() == IPv4Address("TCP", "192.168.1.1", 54321)


def test_a_producer_is_remembered_and_never_asked():
    transport = StringTransport()
    producer = object()
    transport.registerProducer(producer, False)
    assert (transport.producer, transport.streaming) == (producer, False)
    with pytest.raises(RuntimeError, match="is registered"):
        transport.registerProducer(object(), True)
    assert transport.producer is producer
    transport.unregisterProducer()
    assert (transport.producer, transport.streaming) == (None, None)
    with pytest.raises(RuntimeError, match="none is registered"):
        transport.unregisterProducer()


def test_what_the_protocol_asks_of_it_as_a_producer_is_its_state():
    transport = StringTransport()
    assert transport.producerState == "producing"
    transport.pauseProducing()
    assert transport.producerState == "paused"
    transport.resumeProducing()
    assert transport.producerState == "producing"
    transport.stopProducing()
    assert transport.producerState == "stopped"
    for ask in (transport.pauseProducing, transport.resumeProducing):
        with pytest.raises(RuntimeError, match="after stopProducing"):
            ask()


def test_pausing_after_loseConnection_is_a_mistake_unless_lenient():
    strict, lenient = StringTransport(), StringTransport(lenient=True)
    for each in (strict, lenient):
        each.loseConnection()
    for ask in ("pauseProducing", "resumeProducing"):
        with pytest.raises(RuntimeError, match="after loseConnection"):
            getattr(strict, ask)()
        getattr(lenient, ask)()
    assert (strict.producerState, lenient.producerState) == ("producing", "producing")


@pytest.mark.parametrize("close", ["loseConnection", "abortConnection"])
def test_with_disconnection_the_protocol_is_told_at_once_and_once(close):
    transport = StringTransportWithDisconnection()
    transport.protocol = protocol = Upper()
    protocol.makeConnection(transport)
    getattr(transport, close)()
    transport.loseConnection()
    assert [type(reason) for reason in protocol.reasons] == [ConnectionDone]
    assert (transport.connected, transport.disconnecting) == (False, False)
    assert transport.disconnected is (close == "abortConnection")


def test_what_ropewalk_s_transports_have_more_is_written_down_too():
    transport = StringTransport()
    assert (transport.state, transport.ended, transport.bytesSent, transport.bytesReceived) == (
        "connected",
        None,
        0,
        0,
    )
    transport.write(b"one")
    transport.writeSequence([b"two", b"three"])
    transport.clear()
    assert transport.bytesSent == 11
    transport.setWriteLimits(10, 5)
    assert transport.writeLimits == (10, 5, None)
    transport.loseWriteConnection()
    assert (transport.writeDisconnecting, transport.state) == (True, "half-closed by us")
    transport.loseConnection()
    assert transport.state == "closing"
    transport.abortConnection()
    assert transport.state == "aborting"
    transport.connected = False
    assert transport.state == "closed"


def test_its_states_are_words_that_a_connection_has():
    reactor = MemoryReactor()
    reactor.connectTCP("example.com", 7, ClientFactory.forProtocol(Protocol))
    protocol, _ = reactor.acceptClient()
    transport = StringTransport()
    for ask in (
        lambda each: each.write(b""),
        lambda each: each.loseConnection(),
        lambda each: each.abortConnection(),
    ):
        ask(protocol.transport)
        ask(transport)
        assert transport.state == protocol.transport.state
