"""Seen from outside on the real engine: what it reports is what event.py promises, and every account can be had.

Invariant: each step's details have exactly the keys that event.py names beside it, with plain values.
"""

import json
import re
from pathlib import Path

import pytest

import ropewalk.event
from ropewalk import ClientFactory, Factory, Protocol, explain
from ropewalk.event import Step
from ropewalk.observe import Recorder, Timeline

ENDED = ["by", "reason", "error", "errno", "seconds", "received", "sent"]


def promised_keys():
    """Step → the keys told in event.py's comment beside it."""
    source = Path(ropewalk.event.__file__).read_text()
    told = re.findall(
        r'^    ([A-Z_]+) = "[\w ]+"(?:  # (.*))?$', source[: source.index("class Event(")], re.MULTILINE
    )
    return {Step[name]: set(re.findall(r"\w+", re.sub(r"\(.*?\)", "", keys))) for name, keys in told}


class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


class Asking(Protocol):
    """Asks, waits for the answer, pauses for a moment, and closes."""

    def connectionMade(self):
        self.factory.protocols.append(self)
        self.factory.accounts.append(explain(self))
        self.transport.write(b"question")

    def dataReceived(self, data):
        self.transport.pauseProducing()
        self.factory.reactor.callLater(0.01, self.go_on)

    def go_on(self):
        self.transport.resumeProducing()
        self.transport.loseConnection()


class Client(ClientFactory):
    """Keeps an account of its connection at every turn, and stops the reactor at the end."""

    protocol = Asking

    def __init__(self, reactor):
        self.reactor = reactor
        self.protocols, self.accounts, self.reasons = [], [], []

    def clientConnectionFailed(self, connector, reason):
        self.over(connector, reason)

    def clientConnectionLost(self, connector, reason):
        self.over(connector, reason)

    def over(self, connector, reason):
        self.reasons.append(reason)
        self.accounts.append(explain(connector))
        # Why later: the server's end hears of the close only when the kernel has told it.
        self.reactor.callLater(0.05, self.reactor.stop)


@pytest.fixture
def events(reactor):
    seen = []
    reactor.observers.append(seen.append)
    return seen


@pytest.fixture
def recorder(reactor):
    made = Recorder()
    reactor.observers.append(made)
    return made


def converse(reactor, host="localhost"):
    """One whole conversation with an echo server; the client, the connector and the port."""
    client = Client(reactor)
    port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
    connector = reactor.connectTCP(host, port.getHost().port, client)
    reactor.run()
    return client, connector, port


def fail(reactor, host, port):
    client = Client(reactor)
    connector = reactor.connectTCP(host, port, client, timeout=5)
    reactor.run()
    return client, connector


def test_event_py_names_the_keys_of_every_step():
    assert set(promised_keys()) == set(Step)
    assert promised_keys()[Step.CLOSED] == set(ENDED)


def test_every_step_reported_has_the_promised_keys_and_plain_values(reactor, events, refusing):
    converse(reactor)
    fail(reactor, "127.0.0.1", refusing)
    fail(reactor, "no-such-name.invalid", 80)
    promised = promised_keys()
    for event in events:
        assert set(event.details) == promised[event.step], event
        assert json.loads(json.dumps(event.details)) == event.details
    seen = {event.step for event in events}
    assert seen >= {
        Step.CONNECTING,
        Step.RESOLVING,
        Step.RESOLVED,
        Step.RESOLVE_FAILED,
        Step.ATTEMPT_STARTED,
        Step.ATTEMPT_FAILED,
        Step.CONNECTED,
        Step.ACCEPTED,
        Step.PROTOCOL_BUILT,
        Step.FIRST_BYTE,
        Step.PAUSED,
        Step.RESUMED,
        Step.CLOSING,
        Step.CLOSED,
        Step.FAILED,
        Step.LISTENING,
        Step.STOPPED_LISTENING,
    }


def test_the_recorders_account_of_a_conversation_is_whole_on_both_ends(reactor, recorder):
    client, connector, port = converse(reactor)
    ours = client.accounts[-1]
    steps = [m.step for m in ours.moments]
    assert steps[:3] == [Step.CONNECTING, Step.RESOLVING, Step.RESOLVED]
    assert steps[-6:] == [
        Step.CONNECTED,
        Step.PROTOCOL_BUILT,
        Step.FIRST_BYTE,
        Step.PAUSED,
        Step.CLOSING,
        Step.CLOSED,
    ]
    assert ours == recorder.timeline(connector.number) == explain(connector)
    assert ours.state == "closed"
    assert {**ours.moments[-1].details, "seconds": 0} == {
        "by": "us",
        "reason": "ConnectionDone",
        "error": None,
        "errno": None,
        "seconds": 0,
        "received": 8,
        "sent": 8,
    }
    theirs = next(t for t in recorder.timelines() if "accepted" in t.subject)
    assert theirs.moments[-1].details["by"] == "peer"
    assert explain(port).state == "stopped"
    for timeline in recorder.timelines():
        assert Timeline.fromJSON(timeline.json()) == timeline
        times = [m.at for m in timeline.moments]
        assert times == sorted(times)


def test_a_living_protocol_is_explained_by_the_recorder_of_its_reactor_with_its_counters(reactor, recorder):
    client, _, _ = converse(reactor)
    at_the_beginning = client.accounts[0]
    assert at_the_beginning.state == "open"
    assert at_the_beginning.moments[0].step is Step.CONNECTING
    assert at_the_beginning.notes == ("so far received 0 B, sent 0 B",)


def test_without_a_recorder_the_objects_themselves_tell_how_it_ended(reactor):
    client, connector, port = converse(reactor, "127.0.0.1")
    protocol, reason = client.protocols[0], client.reasons[0]
    for subject in (protocol, protocol.transport, reason, reason.value):
        timeline = explain(subject)
        assert timeline.state == "closed"
        assert timeline.moments[-1].details["by"] == "us"
        assert timeline.moments[-1].details["received"] == 8
    assert "the connector is disconnected" in explain(connector).notes
    assert explain(port).subject.startswith(f"port {port.number} on ")


def test_a_refused_attempt_is_explained_from_its_reason_alone(reactor, refusing):
    client, _connector = fail(reactor, "127.0.0.1", refusing)
    timeline = explain(client.reasons[0])
    assert timeline.state == "failed"
    assert timeline.moments[0].details["address"] == f"127.0.0.1:{refusing}"
    assert timeline.moments[-1].details["phase"] == "connecting"
    message = client.reasons[0].getErrorMessage()
    for told in ("while connecting", f"127.0.0.1:{refusing}", "ECONNREFUSED"):
        assert told in message


def test_a_failed_look_up_is_explained_with_its_name_and_phase(reactor, recorder):
    client, _connector = fail(reactor, "no-such-name.invalid", 80)
    text = client.accounts[0].text()
    assert text.startswith("connection 1 to no-such-name.invalid:80: failed\n")
    assert "while resolving" in text
    assert explain(client.reasons[0]).moments[-1].details["phase"] == "resolving"


def test_each_attempt_of_a_connector_is_a_connection_of_its_own(reactor, recorder, refusing):
    _client, connector = fail(reactor, "127.0.0.1", refusing)
    first = connector.number
    connector.connect()
    reactor.run()
    assert connector.number != first
    assert recorder.timeline(first).state == recorder.timeline(connector.number).state == "failed"
