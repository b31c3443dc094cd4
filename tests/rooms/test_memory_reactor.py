"""MemoryReactor: the real engine, and a network that the test is.

What Twisted's class writes down ours writes down as well: tests/differential/test_testing.py. Here are the answers:
connections that the test accepts, refuses, makes, talks on and ends, and what must not happen by itself.
"""

from __future__ import annotations

import errno
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk import ClientFactory, Drained, Factory, Protocol, ReconnectingClientFactory, TCPOptions
from ropewalk.address import IPv4Address, IPv6Address
from ropewalk.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NoRouteError,
    ReactorAlreadyRunning,
    TimeoutError,
    UserError,
)
from ropewalk.testing import MemoryReactor, MemoryReactorClock, Peer


class Talker(Protocol):
    def connectionMade(self):
        self.note = self.factory.log.append
        self.note("made")
        self.factory.acts.get("made", lambda protocol: None)(self)

    def dataReceived(self, data):
        self.note(data)
        self.factory.acts.get("data", lambda protocol: None)(self)

    def connectionLost(self, reason):
        self.note(type(reason.value).__name__)


class Clients(ClientFactory):
    protocol = Talker
    noisy = False

    def __init__(self, **acts):
        self.log = []
        self.acts = acts
        self.reasons = []

    def startFactory(self):
        self.log.append("start")

    def stopFactory(self):
        self.log.append("stop")

    def startedConnecting(self, connector):
        self.log.append("started")

    def clientConnectionFailed(self, connector, reason):
        self.log.append("failed")
        self.reasons.append(reason.value)

    def clientConnectionLost(self, connector, reason):
        self.log.append("client lost")
        self.reasons.append(reason.value)


class Servers(Factory):
    protocol = Talker
    noisy = False

    def __init__(self, **acts):
        self.log = []
        self.acts = acts


@pytest.fixture
def reactor():
    return MemoryReactorClock()


def asked(reactor, host="192.0.2.1", port=25, **acts):
    factory = Clients(**acts)
    return factory, reactor.connectTCP(host, port, factory)


def talking(reactor, **acts):
    factory, _ = asked(reactor, **acts)
    protocol, peer = reactor.acceptClient()
    return factory, protocol, peer


# ---- nothing by itself ----------------------------------------------------------------------------------------------


def test_a_connection_that_nobody_answers_stays_connecting(reactor):
    factory = Clients()
    connector = reactor.connectTCP("example.com", 25, factory, timeout=None)
    for _ in range(100):
        reactor.advance(1000)
    assert (connector.state, factory.log) == ("connecting", ["start", "started"])


def test_the_engine_s_own_timeout_strikes_when_the_clock_is_advanced(reactor):
    factory, connector = asked(reactor)
    reactor.advance(29.9)
    assert connector.state == "connecting"
    reactor.advance(0.1)
    assert factory.log == ["start", "started", "failed", "stop"]
    (reason,) = factory.reasons
    assert isinstance(reason, TimeoutError)
    assert (reason.phase, [attempt.address for attempt in reason.attempts]) == (
        "connecting",
        ["192.0.2.1:25"],
    )


def test_the_engine_s_timeouts_are_not_among_the_program_s_delayed_calls(reactor):
    asked(reactor)
    assert reactor.getDelayedCalls() == []
    call = reactor.callLater(1, print)
    assert reactor.getDelayedCalls() == reactor.calls == [call]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.0.0.1", "198.51.100.1", "2001:db8::1", "localhost"])
def test_no_address_is_connected_to_a_port_of_the_same_reactor_by_itself(reactor, host):
    servers = Servers()
    reactor.listenTCP(25, servers)
    _, connector = asked(reactor, host)
    reactor.advance(10)
    assert (connector.state, servers.log) == ("connecting", [])


def test_what_is_written_leaves_no_sooner_than_the_test_looks(reactor):
    _, protocol, peer = talking(reactor)
    protocol.transport.write(b"one")
    assert protocol.transport.bytesBuffered == 3
    assert peer.value() == b"one"
    assert protocol.transport.bytesBuffered == 0


# ---- accepting ------------------------------------------------------------------------------------------------------


def test_an_accepted_connection_is_the_engine_s_own(reactor):
    factory, connector = asked(reactor, "example.com")
    protocol, peer = reactor.acceptClient()
    assert isinstance(peer, Peer)
    assert connector.state == "connected"
    assert connector.transport is protocol.transport is peer.transport
    assert peer.protocol is protocol
    assert factory.log == ["start", "started", "made"]
    assert connector.reactor is protocol.transport.reactor is reactor
    assert connector.factory is protocol.factory is factory
    assert reactor.peers == [peer]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", IPv4Address("TCP", "192.0.2.1", 25)),
        ("example.com", IPv4Address("TCP", "127.0.0.1", 25)),
        ("::1", IPv6Address("TCP", "::1", 25)),
        ("2001:db8::7", IPv6Address("TCP", "2001:db8::7", 25)),
    ],
)
def test_both_ends_know_their_addresses(reactor, host, address):
    asked(reactor, host)
    protocol, peer = reactor.acceptClient()
    assert protocol.transport.getPeer() == peer.getHost() == address
    assert protocol.transport.getHost() == peer.getPeer()


def test_a_connection_comes_from_the_bindAddress_that_was_asked_for(reactor):
    reactor.connectTCP("192.0.2.1", 25, Clients(), bindAddress=("203.0.113.5", 1234))
    protocol, _ = reactor.acceptClient()
    assert protocol.transport.getHost() == IPv4Address("TCP", "203.0.113.5", 1234)


def test_the_options_of_a_connection_reach_its_stream(reactor):
    reactor.connectTCP("192.0.2.1", 25, Clients(), options=TCPOptions(closeTimeout=7))
    assert reactor.acceptClient()[0].transport.closeTimeout == 7


def test_any_connector_can_be_accepted_by_index_or_by_itself(reactor):
    connectors = [asked(reactor, port=port)[1] for port in (1, 2, 3)]
    assert reactor.connectors == connectors
    assert reactor.acceptClient(0)[1].getHost().port == 1
    assert reactor.acceptClient(connectors[1])[1].getHost().port == 2
    assert reactor.acceptClient()[1].getHost().port == 3


def test_many_connections_to_one_port_are_told_apart(reactor):
    ends = []
    for number in range(20):
        _, protocol, peer = talking(reactor)
        protocol.transport.write(b"%d" % number)
        ends.append(peer)
    assert [peer.value() for peer in ends] == [b"%d" % number for number in range(20)]


def test_what_cannot_be_accepted_says_why(reactor):
    with pytest.raises(IndexError):
        reactor.acceptClient()
    _, connector = asked(reactor)
    reactor.acceptClient()
    with pytest.raises(RuntimeError, match="it is not connecting"):
        reactor.acceptClient(connector)

    class Silent:
        def resolveHostName(self, receiver, name, *rest):
            receiver.resolutionBegan(self)

    reactor.installNameResolver(Silent())
    asked(reactor, "example.com")
    with pytest.raises(RuntimeError, match="its name is not resolved yet"):
        reactor.acceptClient()


def test_a_factory_that_builds_nothing_gives_None_and_a_peer_that_sees_the_end(reactor):
    factory, _ = asked(reactor)
    factory.buildProtocol = lambda addr: None
    protocol, peer = reactor.acceptClient()
    assert (protocol, peer.transport, peer.hasEnded) == (None, None, True)
    assert [type(reason) for reason in factory.reasons] == [ConnectionDone]


def test_a_protocol_that_closes_in_connectionMade_is_given_all_the_same(reactor):
    factory, protocol, peer = talking(reactor, made=lambda protocol: protocol.transport.loseConnection())
    assert isinstance(protocol, Talker)
    assert peer.protocol is protocol
    assert (peer.transport, peer.hasEnded) == (None, True)
    assert factory.log == ["start", "started", "made", "ConnectionDone", "client lost", "stop"]


def test_a_race_of_addresses_is_won_by_the_one_that_is_accepted(reactor):
    class Two:
        def resolveHostName(self, receiver, name, port=0, *rest):
            receiver.resolutionBegan(self)
            receiver.addressResolved(IPv4Address("TCP", "192.0.2.1", port))
            receiver.addressResolved(IPv4Address("TCP", "192.0.2.2", port))
            receiver.resolutionComplete()

    reactor.installNameResolver(Two())
    asked(reactor, "example.com")
    reactor.advance(0)
    reactor.advance(0.25)
    protocol, _ = reactor.acceptClient()
    assert protocol.transport.getPeer().host == "192.0.2.1"
    factory, _ = asked(reactor, "example.com")
    reactor.refuseClient()
    assert [attempt.address for attempt in factory.reasons[0].attempts] == ["192.0.2.1:25", "192.0.2.2:25"]


# ---- refusing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [(errno.ECONNREFUSED, ConnectionRefusedError), (errno.EHOSTUNREACH, NoRouteError)],
    ids=["refused", "unreachable"],
)
def test_a_refused_connection_fails_with_the_kernel_s_error(reactor, error, kind):
    factory, connector = asked(reactor)
    reactor.refuseClient(error=error)
    assert connector.state == "disconnected"
    assert factory.log == ["start", "started", "failed", "stop"]
    assert isinstance(factory.reasons[0], kind)
    assert factory.reasons[0].errno == error


def test_a_connector_that_connects_again_when_it_failed_is_refused_once(reactor):
    factory, _ = asked(reactor)
    again = []
    factory.clientConnectionFailed = lambda connector, reason: again or [again.append(1), connector.connect()]
    reactor.refuseClient()
    assert reactor.connectors[0].state == "connecting"
    reactor.acceptClient()
    assert factory.log == ["start", "started", "started", "made"]


def test_a_factory_that_reconnects_does_so_as_time_passes(reactor):
    class Again(ReconnectingClientFactory):
        protocol = Talker
        noisy = False
        jitter = 0
        acts: dict = {}
        log: list = []

    connector = reactor.connectTCP("example.com", 25, Again())
    reactor.refuseClient()
    assert connector.state == "disconnected"
    (call,) = reactor.getDelayedCalls()
    reactor.advance(call.getTime() - reactor.seconds())
    assert connector.state == "connecting"
    _, peer = reactor.acceptClient()
    peer.reset()
    assert len(reactor.getDelayedCalls()) == 1


def test_giving_up_is_the_connector_s_own(reactor):
    factory, connector = asked(reactor)
    connector.stopConnecting()
    assert [type(reason) for reason in factory.reasons] == [UserError]
    with pytest.raises(RuntimeError, match="it is not connecting"):
        reactor.refuseClient()


# ---- talking --------------------------------------------------------------------------------------------------------


def test_what_is_delivered_is_received_before_deliver_returns(reactor):
    factory, _, peer = talking(reactor, data=lambda protocol: protocol.transport.write(b"answer"))
    peer.deliver(b"question")
    assert factory.log[-1] == b"question"
    assert peer.value() == b"answer"
    peer.clear()
    peer.deliver(bytearray(b"again"))
    assert (factory.log[-1], peer.value()) == (b"again", b"answer")


def test_delivered_in_pieces_each_is_received_by_itself(reactor):
    factory, _, peer = talking(reactor)
    peer.deliver(b"abcdefg", 3)
    assert factory.log[-3:] == [b"abc", b"def", b"g"]
    with pytest.raises(ValueError, match="1 byte or more"):
        peer.deliver(b"abc", 0)
    with pytest.raises(TypeError, match="bytes-like"):
        peer.deliver("text")


def test_megabytes_arrive_whole_both_ways(reactor):
    factory, protocol, peer = talking(reactor)
    data = bytes(range(256)) * 20_000
    protocol.transport.write(data)
    peer.deliver(data)
    assert peer.value() == data
    assert b"".join(factory.log[3:]) == data


def test_a_protocol_that_pauses_gets_the_rest_when_it_resumes(reactor):
    factory, protocol, peer = talking(reactor)
    protocol.transport.pauseProducing()
    data = bytes(3_000_000)
    peer.deliver(data)
    assert factory.log == ["start", "started", "made"]
    protocol.transport.resumeProducing()
    reactor.iterate()
    assert b"".join(factory.log[3:]) == data


def test_a_peer_that_does_not_read_pauses_the_producer(reactor):
    told = []

    class Producer:
        def pauseProducing(self):
            told.append("pause")

        def resumeProducing(self):
            told.append("resume")

        def stopProducing(self):
            told.append("stop")

    _, protocol, peer = talking(reactor)
    protocol.transport.registerProducer(Producer(), True)
    peer.pauseReading()
    protocol.transport.write(bytes(10_000_000))
    assert peer.value() == b""
    assert told == ["pause"]
    peer.resumeReading()
    assert len(peer.value()) == 10_000_000
    assert told == ["pause", "resume"]


def test_a_producer_without_end_is_told_instead_of_hanging(reactor, monkeypatch):
    monkeypatch.setattr("ropewalk.testing.memory_reactor._MOST_EXCHANGES", 50)

    class Endless:
        def resumeProducing(self):
            protocol.transport.write(bytes(1000))

        def stopProducing(self):
            pass

    _, protocol, peer = talking(reactor)
    protocol.transport.registerProducer(Endless(), False)
    with pytest.raises(RuntimeError, match="a producer without end"):
        peer.value()


# ---- ending ---------------------------------------------------------------------------------------------------------


def test_what_a_protocol_closes_ends_when_all_has_left(reactor):
    factory, protocol, peer = talking(reactor)
    protocol.transport.write(b"bye")
    protocol.transport.loseConnection()
    assert factory.log == ["start", "started", "made"]
    assert (peer.value(), peer.hasEnded, peer.wasReset) == (b"bye", True, False)
    assert factory.log[3:] == ["ConnectionDone", "client lost", "stop"]


def test_what_a_protocol_aborts_is_reset(reactor):
    factory, protocol, peer = talking(reactor)
    protocol.transport.abortConnection()
    assert (peer.hasEnded, peer.wasReset) == (False, True)
    assert type(factory.reasons[0]) is ConnectionAborted


def test_a_peer_that_finishes_ends_the_connection_cleanly_after_all_it_delivered(reactor):
    factory, _, peer = talking(reactor, data=lambda protocol: protocol.transport.write(b"answer"))
    peer.deliver(b"last words")
    peer.finish()
    assert factory.log[3:] == [b"last words", "ConnectionDone", "client lost", "stop"]
    assert (peer.value(), peer.hasEnded) == (b"answer", True)


def test_a_peer_that_resets_is_ConnectionLost_with_its_errno(reactor):
    factory, _, peer = talking(reactor)
    peer.reset()
    (reason,) = factory.reasons
    assert (type(reason), reason.errno) == (ConnectionLost, errno.ECONNRESET)


def test_a_protocol_that_knows_half_close_goes_on_after_the_peer_has_finished(reactor):
    class Half(Talker):
        def readConnectionLost(self):
            self.note("read side lost")
            self.transport.write(b"the answer")

        def writeConnectionLost(self):
            self.note("write side lost")

    factory = Clients()
    factory.protocol = Half
    reactor.connectTCP("192.0.2.1", 25, factory)
    protocol, peer = reactor.acceptClient()
    peer.deliver(b"question")
    peer.finish()
    assert (peer.value(), peer.hasEnded) == (b"the answer", False)
    protocol.transport.loseWriteConnection()
    assert peer.hasEnded
    assert factory.log[3:] == [
        b"question",
        "read side lost",
        "write side lost",
        "ConnectionDone",
        "client lost",
        "stop",
    ]


def test_a_peer_still_delivers_after_the_protocol_s_half_close(reactor):
    factory, protocol, peer = talking(reactor)
    protocol.transport.loseWriteConnection()
    assert peer.hasEnded
    peer.deliver(b"more")
    peer.finish()
    assert factory.log[3:] == [b"more", "ConnectionDone", "client lost", "stop"]


@pytest.mark.parametrize("end", ["loseConnection", "abortConnection", "reset", "finish"])
def test_a_peer_of_a_connection_that_is_over_says_so(reactor, end):
    _, protocol, peer = talking(reactor)
    getattr(peer if end in ("reset", "finish") else protocol.transport, end)()
    for ask in (lambda: peer.deliver(b"more"), peer.finish, peer.reset):
        with pytest.raises(RuntimeError, match=r"is over|has ended"):
            ask()


def test_the_close_deadline_passes_with_the_clock(reactor):
    factory, protocol, peer = talking(reactor)
    peer.pauseReading()
    protocol.transport.write(bytes(10_000_000))
    protocol.transport.loseConnection()
    reactor.advance(59.9)
    assert factory.reasons == []
    reactor.advance(0.2)
    assert type(factory.reasons[0]) is ConnectionLost
    assert factory.reasons[0].ended.by == "timeout"


# ---- servers --------------------------------------------------------------------------------------------------------


def test_a_port_can_be_dialed_and_the_peer_talks_with_its_protocol(reactor):
    servers = Servers(data=lambda protocol: protocol.transport.write(b"answer"))
    port = reactor.listenTCP(8080, servers)
    protocol, peer = reactor.dialServer(8080)
    assert isinstance(protocol, Talker)
    assert port.factory is protocol.factory is servers
    assert protocol.transport is peer.transport
    peer.deliver(b"question")
    assert peer.value() == b"answer"
    peer.finish()
    assert servers.log == ["made", b"question", "ConnectionDone"]


@pytest.mark.parametrize("interface", ["", "127.0.0.1", "192.0.2.77", "::", "::1", "2001:db8::77"])
def test_a_port_on_any_interface_can_be_dialed(reactor, interface):
    port = reactor.listenTCP(0, Servers(), interface=interface)
    protocol, peer = reactor.dialServer(port)
    assert protocol.transport.getHost() == peer.getPeer()
    assert protocol.transport.getHost().port == port.getHost().port
    if interface not in ("", "::"):
        assert protocol.transport.getHost().host == interface


def test_a_reactor_of_the_test_s_drains_as_any_does(reactor):
    reactor.listenTCP(8080, Servers())
    peers = [reactor.dialServer(8080)[1] for _ in range(2)]
    results = []
    reactor.drain(5).addCallback(results.append)
    peers[0].finish()
    reactor.advance(4.9)
    assert results == []
    reactor.advance(0.2)
    assert results == [Drained(ended=1, aborted=1)]


def test_who_dials_may_say_where_it_comes_from(reactor):
    reactor.listenTCP(8080, Servers())
    protocol, peer = reactor.dialServer(8080, ("203.0.113.9", 4321))
    assert protocol.transport.getPeer() == peer.getHost() == IPv4Address("TCP", "203.0.113.9", 4321)
    others = [reactor.dialServer(8080, ("203.0.113.9", port))[1] for port in (1, 2)]
    assert [other.getHost().port for other in others] == [1, 2]


def test_a_port_that_nobody_listens_on_cannot_be_dialed(reactor):
    with pytest.raises(RuntimeError, match="listened on: none"):
        reactor.dialServer(8080)
    port = reactor.listenTCP(8080, Servers())
    with pytest.raises(RuntimeError, match="listened on: 8080"):
        reactor.dialServer(80)
    port.stopListening()
    for asked_for in (8080, port):
        with pytest.raises(RuntimeError, match="listened on: none"):
            reactor.dialServer(asked_for)


def test_a_server_that_refuses_by_building_nothing_ends_the_connection(reactor):
    servers = Servers()
    servers.buildProtocol = lambda addr: None
    reactor.listenTCP(8080, servers)
    protocol, peer = reactor.dialServer(8080)
    assert (protocol, peer.hasEnded) == (None, True)


def test_listening_is_the_engine_s_own(reactor):
    servers = Servers()
    reactor.listenTCP(8080, servers)
    assert servers.numPorts == 1
    with pytest.raises(CannotListenError) as caught:
        reactor.listenTCP(8080, servers)
    assert caught.value.errno == errno.EADDRINUSE
    assert (len(reactor.tcpServers), len(reactor.ports), servers.numPorts) == (1, 1, 1)


# ---- time -----------------------------------------------------------------------------------------------------------


def test_time_begins_at_0_and_is_the_clock_s(reactor):
    assert reactor.seconds() == reactor.rightNow == 0.0
    call = reactor.callLater(2.5, print)
    assert call.getTime() == 2.5
    reactor.pump([1, 0.5])
    assert reactor.seconds() == reactor.rightNow == 1.5
    reactor.rightNow = 9.0
    assert (reactor.seconds(), call.active()) == (9.0, True)


def test_delayed_calls_see_the_time_that_was_advanced_to(reactor):
    seen = []
    for delay in (2, 0, 1):
        reactor.callLater(delay, lambda delay=delay: seen.append((delay, reactor.seconds())))
    reactor.advance(5)
    assert seen == [(0, 5.0), (1, 5.0), (2, 5.0)]


@pytest.mark.parametrize("amount", [-1, float("inf"), float("nan")])
def test_time_goes_forward_by_a_finite_number(reactor, amount):
    with pytest.raises(ValueError, match="finite"):
        reactor.advance(amount)


def test_advanced_from_within_a_call_the_time_moves_and_what_is_due_comes_when_the_call_has_returned(reactor):
    made = []
    reactor.callLater(1, lambda: [reactor.advance(5), made.append(("outer", reactor.seconds()))])
    reactor.callLater(6, made.append, "due at 6")
    reactor.advance(1)
    assert made == [("outer", 6.0), "due at 6"]


def test_connections_are_served_before_time_passes_and_delayed_calls_after(reactor):
    factory, _ = asked(reactor, "example.com")
    reactor.advance(30)
    assert factory.reasons[0].phase == "connecting"
    factory, protocol, peer = talking(reactor)
    peer.pauseReading()
    protocol.transport.write(bytes(10_000_000))
    protocol.transport.loseConnection()
    reactor.callLater(0, factory.log.append, "a call that was due before")
    reactor.advance(60)
    assert factory.log[3:] == ["a call that was due before"]


def test_calls_of_threads_are_made_when_the_reactor_goes_on(reactor):
    made = []
    reactor.callFromThread(made.append, 1)
    assert made == []
    reactor.iterate()
    assert made == [1]


def test_without_a_clock_time_stands_still():
    reactor = MemoryReactor()
    made = []
    reactor.callLater(0, made.append, "now")
    reactor.callLater(1, made.append, "later")
    reactor.iterate()
    assert (made, reactor.seconds()) == (["now"], 0.0)


# ---- what user code raises ------------------------------------------------------------------------------------------


def complaints(caplog):
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_what_dataReceived_raises_reaches_the_test_after_the_engine_has_dealt_with_it(reactor, caplog):
    factory, _, peer = talking(reactor, data=lambda protocol: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        peer.deliver(b"question")
    assert factory.log[3:] == [b"question", "ZeroDivisionError", "client lost", "stop"]
    assert len(complaints(caplog)) == 1


def test_what_connectionMade_and_buildProtocol_raise_reaches_the_test(reactor):
    asked(reactor, made=lambda protocol: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        reactor.acceptClient()
    assert reactor.peers[0].wasReset
    factory, _ = asked(reactor)
    factory.buildProtocol = lambda addr: {}["no protocol"]
    with pytest.raises(KeyError):
        reactor.acceptClient()
    assert factory.log[-2:] == ["failed", "stop"]


def test_what_delayed_calls_raise_leaves_advance_after_all_were_made(reactor):
    made = []
    reactor.callLater(1, lambda: 1 / 0)
    reactor.callLater(2, lambda: {}["key"])
    reactor.callLater(3, made.append, "third")
    with pytest.raises(ZeroDivisionError) as caught:
        reactor.advance(3)
    assert made == ["third"]
    assert caught.value.__notes__ == ["Then KeyError was raised: 'key'"]
    reactor.advance(0)


def test_what_was_logged_elsewhere_is_not_raised(reactor):
    def log_only():
        try:
            raise KeyError("logged by the program itself")
        except KeyError:
            logging.getLogger("ropewalk").exception("said")

    reactor.callLater(1, log_only)
    reactor.advance(1)


def test_SystemExit_of_a_callback_leaves_at_once(reactor):
    talking(reactor)
    reactor.callLater(1, lambda: exit(3))
    with pytest.raises(SystemExit):
        reactor.advance(1)


# ---- running --------------------------------------------------------------------------------------------------------


def test_connections_and_ports_live_on_after_run_has_returned(reactor):
    servers = Servers()
    reactor.callWhenRunning(reactor.listenTCP, 8080, servers)
    factory, connector = asked(reactor)
    reactor.run()
    assert (reactor.running, reactor.hasRun, reactor.hasStopped) == (False, True, True)
    reactor.dialServer(8080)
    reactor.acceptClient(connector)
    assert (servers.log, factory.log) == (["made"], ["start", "started", "made"])


def test_run_within_run_is_refused(reactor):
    refused = []

    def run_again():
        with pytest.raises(ReactorAlreadyRunning):
            reactor.run()
        refused.append(True)

    reactor.callWhenRunning(run_again)
    reactor.run(installSignalHandlers=False)
    assert refused == [True]


def test_startup_triggers_are_fired_by_run_and_not_before(reactor):
    log = []
    reactor.addSystemEventTrigger("before", "startup", log.append, "before")
    reactor.addSystemEventTrigger("after", "startup", log.append, "after")
    reactor.callWhenRunning(log.append, "hook")
    reactor.advance(5)
    assert log == []
    reactor.run()
    assert log == ["before", "after", "hook"]


def test_a_removed_trigger_is_struck_out(reactor):
    log = []
    gone = reactor.addSystemEventTrigger("before", "shutdown", log.append, "gone")
    kept = reactor.addSystemEventTrigger("before", "shutdown", log.append, "kept")
    reactor.removeSystemEventTrigger(gone)
    assert reactor.triggers == {"before": {"shutdown": [kept.call]}}
    with pytest.raises(ValueError, match="removed before"):
        reactor.removeSystemEventTrigger(gone)
    reactor.fireSystemEvent("shutdown")
    assert log == ["kept"]


def test_the_shutdown_event_ends_everything_as_a_reactor_s_stop_does(reactor):
    factory, _, peer = talking(reactor)
    waiting, _ = asked(reactor)
    servers = Servers()
    port = reactor.listenTCP(8080, servers)
    reactor.run()
    reactor.fireSystemEvent("shutdown")
    assert factory.log[3:] == ["ConnectionLost", "client lost", "stop"]
    assert factory.reasons[0].ended.by == "shutdown"
    assert waiting.log == ["start", "started", "failed", "stop"]
    assert (port.connected, servers.numPorts, peer.hasEnded or peer.wasReset) == (False, 0, True)


def test_what_a_trigger_raises_reaches_the_test(reactor):
    reactor.addSystemEventTrigger("during", "startup", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        reactor.run()


# ---- the rest -------------------------------------------------------------------------------------------------------


def test_a_name_is_looked_up_by_the_resolver_that_is_installed(reactor):
    found = []
    reactor.resolve("example.com").addCallback(found.append)
    assert found == []
    reactor.iterate()
    assert found == ["127.0.0.1"]

    class Mine:
        def resolveHostName(self, receiver, name, port=0, *rest):
            receiver.resolutionBegan(self)
            receiver.addressResolved(IPv6Address("TCP", "2001:db8::9", port))
            receiver.resolutionComplete()

    mine = Mine()
    before = reactor.nameResolver
    reactor.nameResolver = mine
    asked(reactor, "example.com")
    assert reactor.acceptClient()[0].transport.getPeer().host == "2001:db8::9"
    assert reactor.installNameResolver(before) is mine


def test_observers_are_told_of_each_step(reactor):
    steps = []
    reactor.observers.append(lambda event: steps.append(event.step.value))
    _, _, peer = talking(reactor)
    peer.finish()
    assert steps[0] == "connecting"
    assert {"connected", "protocol built", "closed"} <= set(steps)


def test_what_startedConnecting_raises_leaves_nothing_written_down(reactor):
    factory = Clients()
    factory.startedConnecting = lambda connector: 1 / 0
    with pytest.raises(ZeroDivisionError):
        reactor.connectTCP("example.com", 25, factory)
    assert reactor.tcpClients == reactor.connectors == []
    assert factory.numPorts == 0


def test_two_runs_of_one_program_draw_the_same_numbers():
    one, other = MemoryReactor().random, MemoryReactor().random
    assert [one.random() for _ in range(3)] == [other.random() for _ in range(3)]


def test_nothing_of_the_real_world_is_opened():
    import os
    import threading

    before = os.listdir("/proc/self/fd"), threading.active_count()
    reactor = MemoryReactorClock()
    reactor.listenTCP(8080, Servers())
    talking(reactor)
    reactor.dialServer(8080)
    assert (os.listdir("/proc/self/fd"), threading.active_count()) == before


@pytest.mark.parametrize("port", [1, 32768, 44619, 49151, 49152, 60999, 65535])
def test_no_connection_goes_out_from_the_port_it_goes_to(port):
    for _ in range(3):
        reactor = MemoryReactor()
        connector = reactor.connectTCP("localhost", port, Clients())
        _, peer = reactor.acceptClient()
        assert connector.state == "connected"
        assert peer.getPeer().port != port


# ---- any order of doings --------------------------------------------------------------------------------------------

DOINGS = st.tuples(
    st.sampled_from(
        [
            "connect", "connect again", "accept", "accept", "refuse", "give up", "write", "write much", "lose", "abort",
            "half close", "pause", "resume", "deliver", "deliver much", "finish", "reset", "stop reading", "read on", "advance",
        ]
    ),
    st.integers(0, 3),
)  # fmt: skip


class Tried:
    """One connector of a random program, and what its callbacks were."""

    def __init__(self, reactor, half_closes):
        self.factory = Clients()
        if half_closes:
            self.factory.protocol = HalfCloser
        self.sent = self.delivered = b""
        self.protocol = self.peer = None
        self.connector = reactor.connectTCP("example.com", 25, self.factory)


class HalfCloser(Talker):
    def readConnectionLost(self):
        pass

    def writeConnectionLost(self):
        pass


def do(reactor, tried, what):
    """One step; what is asked of a peer whose side or connection is over is refused, and nothing else is."""
    connector, protocol, peer = tried.connector, tried.protocol, tried.peer
    if what == "connect again" and connector.state == "disconnected":
        connector.connect()
    elif connector.state == "connecting":
        if what == "accept":
            tried.protocol, tried.peer = reactor.acceptClient(connector)
            tried.sent = tried.delivered = b""
            tried.factory.log.append("accepted")
        elif what == "refuse":
            reactor.refuseClient(connector)
        elif what == "give up":
            connector.stopConnecting()
    elif peer is not None:
        transport = protocol.transport
        if what in ("write", "write much"):
            data = b"w" if what == "write" else bytes(500_000)
            if transport.state not in ("half-closed by us", "both sides ended", "aborting", "closed"):
                tried.sent += data
            transport.write(data)
        elif what in ("lose", "abort", "half close", "pause", "resume"):
            names = {
                "lose": "loseConnection",
                "abort": "abortConnection",
                "half close": "loseWriteConnection",
            }
            getattr(transport, names.get(what, f"{what}Producing"))()
        elif what in ("deliver", "deliver much", "finish", "reset"):
            data = b"d" if what == "deliver" else bytes(500_000)
            try:
                peer.deliver(data) if "deliver" in what else getattr(peer, what)()
                tried.delivered += data if "deliver" in what else b""
            except RuntimeError as refusal:
                assert "is over" in str(refusal) or "has ended" in str(refusal)
        elif what == "stop reading":
            peer.pauseReading()
        elif what == "read on":
            peer.resumeReading()


def check(tried):
    """Each attempt ends once; after each connection its protocol is told before its factory; no byte is made up."""
    callbacks = [each for each in tried.factory.log if isinstance(each, str)]
    lost = "|".join(
        f"{each.__name__} client lost" for each in (ConnectionDone, ConnectionLost, ConnectionAborted)
    )
    attempt = rf"start started (failed|made( accepted)? ({lost})( accepted)?) stop "
    assert re.fullmatch(f"({attempt})*", " ".join(callbacks) + " "), callbacks
    if tried.peer is not None:
        assert tried.sent.startswith(tried.peer.value())
        since = len(tried.factory.log) - tried.factory.log[::-1].index("made")
        received = b"".join(each for each in tried.factory.log[since:] if isinstance(each, bytes))
        assert tried.delivered.startswith(received)
        if (
            tried.peer.hasEnded
            and tried.factory.reasons
            and tried.factory.reasons[-1].__class__ is ConnectionDone
        ):
            assert tried.peer.value() == tried.sent or tried.factory.protocol is HalfCloser


@given(st.booleans(), st.lists(DOINGS, min_size=5, max_size=40))
def test_whatever_is_done_in_whatever_order_each_attempt_ends_once_and_nothing_is_left(half_closes, doings):
    reactor = MemoryReactorClock()
    all_of_them = [Tried(reactor, half_closes)]
    for what, which in doings:
        if what == "connect":
            all_of_them.append(Tried(reactor, half_closes))
        elif what == "advance":
            reactor.advance((0, 1, 31, 61)[which])
        else:
            do(reactor, all_of_them[which % len(all_of_them)], what)
    for peer in reactor.peers:
        peer.resumeReading()
    reactor.fireSystemEvent("shutdown")
    for tried in all_of_them:
        check(tried)
        assert tried.factory.numPorts == 0
    assert reactor._near.ledger().leftovers() == []
