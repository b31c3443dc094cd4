"""`explain`: whatever of a connection is in hand, its account follows; what is no part of one is refused."""

import pytest

from ropewalk.address import IPv4Address, IPv6Address
from ropewalk.error import ConnectError, ConnectionDone, ConnectionLost, ConnectionRefusedError
from ropewalk.event import Attempt, Ended, EndedBy, Event, Step
from ropewalk.failure import Failure
from ropewalk.observe import Recorder, explain


class FakeReactor:
    def __init__(self, *observers):
        self.observers = list(observers)


class FakeStream:
    """As much of a transport as an account needs."""

    def __init__(self, number=4, ended=None, reactor=None):
        self.number, self.ended, self.reactor = number, ended, reactor
        self.bytesReceived, self.bytesSent = 2400, 24
        self.protocol = FakeProtocol(self)

    def getHost(self):
        return IPv4Address("TCP", "127.0.0.1", 40000)

    def getPeer(self):
        return IPv6Address("TCP", "::1", 8007)


class FakeProtocol:
    def __init__(self, transport=None):
        self.transport = transport

    def makeConnection(self, transport):
        self.transport = transport


class FakeConnector:
    host, port, timeout = "localhost", 8007, 30

    def __init__(self, state, transport=None, reactor=None):
        self.number, self.state, self.transport, self.reactor = 4, state, transport, reactor

    def getDestination(self):
        return IPv4Address("TCP", self.host, self.port)

    def stopConnecting(self):
        raise AssertionError("explaining must not act")


class FakePort:
    number, reactor = 2, None

    def getHost(self):
        return IPv4Address("TCP", "0.0.0.0", 80)

    def stopListening(self):
        raise AssertionError("explaining must not act")


def recorder_of(number, *steps):
    recorder = Recorder()
    for time, (step, details) in enumerate(steps):
        recorder(Event(float(time), number, step, details))
    return recorder


RECORDED = recorder_of(
    4,
    (Step.CONNECTING, {"host": "localhost", "port": 8007, "timeout": 30}),
    (Step.CONNECTED, {"local": "a:1", "peer": "b:2"}),
)
ENDED = Ended(EndedBy.PEER_RESET, 3.2, 2400, 24, "Connection reset by peer", 104)


def refused():
    exc = ConnectionRefusedError(111, "Connection refused")
    exc.attempts = (
        Attempt("[::1]:8007", "Connection refused", 111, 0.0001),
        Attempt("127.0.0.1:8007", "Connection refused", 111, 0.0002),
    )
    exc.phase = "connecting"
    exc.elapsed = {"resolving": 0.002, "connecting": 0.25}
    return exc


# --- with a recorder ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject",
    [
        4,
        FakeStream(ended=ENDED),
        FakeProtocol(FakeStream(ended=ENDED)),
        FakeConnector("disconnected"),
        FakeConnector("connected", FakeStream(ended=ENDED)),
    ],
    ids=["number", "transport", "protocol", "connector", "connector with transport"],
)
def test_what_was_recorded_is_told_whatever_is_in_hand(subject):
    assert explain(subject, RECORDED) == RECORDED.timeline(4)


def test_a_recorder_among_the_observers_of_the_subjects_reactor_is_found():
    reactor = FakeReactor(print, Recorder(), RECORDED)
    assert explain(FakeStream(ended=ENDED, reactor=reactor)) == RECORDED.timeline(4)
    assert explain(FakeConnector("connecting", reactor=reactor)) == RECORDED.timeline(4)


def test_a_living_connections_account_has_its_counters():
    timeline = explain(FakeStream(), RECORDED)
    assert timeline.moments == RECORDED.timeline(4).moments
    assert timeline.notes == ("so far received 2.4 kB, sent 24 B",)


def test_what_the_recorder_does_not_know_is_told_by_the_object_with_a_note():
    timeline = explain(FakeStream(number=99, ended=ENDED), RECORDED)
    assert [m.step for m in timeline.moments] == [Step.CONNECTED, Step.PROTOCOL_BUILT, Step.CLOSED]
    assert timeline.notes[0].startswith("the recorder knows nothing of it; to have every step")


def test_a_number_that_the_recorder_does_not_know_is_a_lookup_error():
    with pytest.raises(LookupError, match="connection 5"):
        explain(5, RECORDED)


# --- without -----------------------------------------------------------------------------------------


def test_a_transport_that_ended_tells_how_and_how_to_record_the_rest():
    timeline = explain(FakeStream(ended=ENDED))
    assert (
        timeline.text()
        == """\
connection 4 with [::1]:8007: closed
          ·  connected       127.0.0.1:40000 to [::1]:8007
          ·  protocol built  FakeProtocol
          ·  closed          by a reset from the peer after 3.20 s: Connection reset by peer (ECONNRESET); \
received 2.4 kB, sent 24 B
  (to have every step with its time: reactor.observers.append(ropewalk.observe.Recorder()) before connecting)"""
    )


def test_a_living_transport_tells_its_ends_and_counters():
    timeline = explain(FakeStream())
    assert timeline.state == "open"
    assert timeline.notes[0] == "so far received 2.4 kB, sent 24 B"


def test_a_protocol_is_told_as_its_transport():
    assert explain(FakeProtocol(FakeStream())).subject == "connection 4 with [::1]:8007"


def test_a_connected_connector_is_told_as_what_was_asked_and_its_transport():
    timeline = explain(FakeConnector("connected", FakeStream()))
    assert timeline.subject == "connection 4 to localhost:8007"
    assert [m.step for m in timeline.moments] == [Step.CONNECTING, Step.CONNECTED, Step.PROTOCOL_BUILT]


@pytest.mark.parametrize(("state", "steps"), [("connecting", [Step.CONNECTING]), ("disconnected", [])])
def test_a_connector_without_a_transport_tells_its_state(state, steps):
    timeline = explain(FakeConnector(state))
    assert [m.step for m in timeline.moments] == steps
    assert timeline.notes[0] == f"the connector is {state}"


def test_a_port_tells_where_it_listens():
    timeline = explain(FakePort())
    assert (timeline.subject, timeline.state) == ("port 2 on 0.0.0.0:80", "listening")


def test_a_port_that_is_closed_tells_where_it_listened_and_that_it_does_no_more():
    port = FakePort()
    port.connected = False
    timeline = explain(port)
    assert (timeline.subject, timeline.state) == ("port 2 on 0.0.0.0:80", "stopped")
    assert [m.step for m in timeline.moments] == [Step.LISTENING, Step.STOPPED_LISTENING]


# --- reasons -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda exc: exc, Failure], ids=["exception", "Failure"])
def test_a_failed_attempt_tells_every_address_its_phase_and_the_seconds_of_each(wrap):
    assert (
        explain(wrap(refused())).text()
        == """\
the attempt that failed with ConnectionRefusedError: failed
          ·  attempt failed  [::1]:8007: Connection refused (ECONNREFUSED) after 0.10 ms
          ·  attempt failed  127.0.0.1:8007: Connection refused (ECONNREFUSED) after 0.20 ms
     252 ms  failed          while connecting: the other side refused the connection (ECONNREFUSED)
  (resolving took 2.00 ms)
  (connecting took 250 ms)"""
    )


@pytest.mark.parametrize("wrap", [lambda exc: exc, Failure], ids=["exception", "Failure"])
def test_the_reason_of_a_lost_connection_tells_who_ended_it_and_why(wrap):
    timeline = explain(wrap(ConnectionLost("it is gone", ended=ENDED)))
    assert timeline.state == "closed"
    assert timeline.moments[0].details == {
        "by": "peer reset",
        "reason": "ConnectionLost",
        "error": "Connection reset by peer",
        "errno": 104,
        "seconds": 3.2,
        "received": 2400,
        "sent": 24,
    }


def test_a_reason_that_knows_nothing_is_told_by_its_text():
    assert explain(ConnectionDone()).notes == ("the connection was closed cleanly",)
    assert (
        explain(ConnectError(string="why not")).moments[0].details["message"] == "could not connect: why not"
    )


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject", [None, "127.0.0.1:80", 3.5, True, object, ValueError("x"), Failure(OSError(2))]
)
def test_what_is_no_part_of_a_connection_is_a_type_error_that_names_it(subject):
    with pytest.raises(TypeError) as caught:
        explain(subject, RECORDED)
    shown = subject.value if isinstance(subject, Failure) else subject
    assert repr(shown) in str(caught.value)


def test_a_number_without_a_recorder_is_a_type_error_that_names_it():
    with pytest.raises(TypeError, match="the number 7"):
        explain(7)


def test_a_protocol_that_was_never_connected_is_a_type_error_that_says_so():
    with pytest.raises(TypeError, match="never connected"):
        explain(FakeProtocol())
