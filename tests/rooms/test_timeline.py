"""A timeline as text, JSON and Mermaid: every step is told, and nothing that a peer sent can break out."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.event import EndedBy, Step
from ropewalk.observe import Moment, Timeline

# One whole life: a name with two addresses, the first refused, some data, pauses, the peer's end.
WHOLE = Timeline(
    "connection 1 to localhost:8007",
    (
        Moment(0.0, Step.CONNECTING, {"host": "localhost", "port": 8007, "timeout": 30}),
        Moment(0.0001, Step.RESOLVING, {"name": "localhost"}),
        Moment(0.0009, Step.RESOLVED, {"name": "localhost", "addresses": ["::1", "127.0.0.1"]}),
        Moment(0.001, Step.ATTEMPT_STARTED, {"address": "[::1]:8007"}),
        Moment(
            0.0011,
            Step.ATTEMPT_FAILED,
            {"address": "[::1]:8007", "error": "Connection refused", "errno": 111, "seconds": 0.0001},
        ),
        Moment(0.0012, Step.ATTEMPT_STARTED, {"address": "127.0.0.1:8007"}),
        Moment(0.0013, Step.CONNECTED, {"local": "127.0.0.1:40000", "peer": "127.0.0.1:8007"}),
        Moment(0.0014, Step.PROTOCOL_BUILT, {"protocol": "Greeter"}),
        Moment(0.002, Step.FIRST_BYTE, {}),
        Moment(0.1, Step.PAUSED, {"times": 3, "seconds": 0.75, "still": False}),
        Moment(0.2, Step.BUFFER_FULL, {"buffered": 70_000, "times": 1, "seconds": 0.5, "still": False}),
        Moment(6.0, Step.READ_SIDE_ENDED, {}),
        Moment(6.01, Step.CLOSING, {"buffered": 1_500_000}),
        Moment(6.02, Step.WRITE_SIDE_ENDED, {}),
        Moment(
            6.123,
            Step.CLOSED,
            {
                "by": "peer",
                "reason": "ConnectionDone",
                "error": None,
                "errno": None,
                "seconds": 6.1217,
                "received": 24,
                "sent": 19_999_999,
            },
        ),
    ),
)

FAILED = Timeline(
    "connection 2 to nowhere.test:80",
    (
        Moment(0.0, Step.CONNECTING, {"host": "nowhere.test", "port": 80, "timeout": None}),
        Moment(0.0, Step.RESOLVING, {"name": "nowhere.test"}),
        Moment(1.0, Step.RESOLVE_FAILED, {"name": "nowhere.test", "error": "Name not known", "errno": -2}),
        Moment(
            1.0,
            Step.FAILED,
            {"error": "DNSLookupError", "message": "name look-up failed", "phase": "resolving"},
        ),
    ),
)

HOSTILE = "x\r\nend\n; #%%{init}<b>\x1b[31m`\u202e\x00 wrap: \u2028]"


def hostile_timeline():
    keys = "host port name address addresses error message phase local peer listener protocol by reason"
    details = {**dict.fromkeys(keys.split(), HOSTILE), "errno": 7, "seconds": 1.0, "buffered": 5}
    return Timeline(HOSTILE, tuple(Moment(0.5, step, details) for step in Step), (HOSTILE,))


# --- text --------------------------------------------------------------------------------------------


def test_the_text_of_a_whole_life_reads_from_top_to_bottom():
    assert (
        WHOLE.text()
        == """\
connection 1 to localhost:8007: closed
    0.00 ms  connecting        to localhost:8007, at most 30 s
    0.10 ms  resolving         localhost
    0.90 ms  resolved          localhost is ::1, 127.0.0.1
    1.00 ms  attempt started   [::1]:8007
    1.10 ms  attempt failed    [::1]:8007: Connection refused (ECONNREFUSED) after 0.10 ms
    1.20 ms  attempt started   127.0.0.1:8007
    1.30 ms  connected         127.0.0.1:40000 to 127.0.0.1:8007
    1.40 ms  protocol built    Greeter
    2.00 ms  first byte
     100 ms  paused            reading, 3 times, 750 ms in all
     200 ms  buffer full       70.0 kB wait to be sent, once, 500 ms
     6.00 s  read side ended   the peer sends no more
     6.01 s  closing           1.5 MB still to send
     6.02 s  write side ended  we send no more
     6.12 s  closed            by the peer after 6.12 s: ConnectionDone; received 24 B, sent 20.0 MB"""
    )


def test_the_text_of_a_failed_attempt_tells_where_and_why():
    assert (
        FAILED.text()
        == """\
connection 2 to nowhere.test:80: failed
    0.00 ms  connecting      to nowhere.test:80, no deadline
    0.00 ms  resolving       nowhere.test
     1.00 s  resolve failed  nowhere.test: Name not known
     1.00 s  failed          while resolving: name look-up failed"""
    )


def test_a_moment_without_a_time_shows_a_dot_and_notes_come_last():
    timeline = Timeline("it", (Moment(None, Step.FIRST_BYTE, {}),), ("more is not known",))
    assert timeline.text() == "it: unknown\n          ·  first byte\n  (more is not known)"


def test_str_is_the_text():
    assert str(WHOLE) == WHOLE.text()


@pytest.mark.parametrize(
    ("step", "state"),
    [
        (Step.CONNECTING, "connecting"),
        (Step.CONNECTED, "open"),
        (Step.ACCEPTED, "open"),
        (Step.CLOSING, "closing"),
        (Step.CLOSED, "closed"),
        (Step.FAILED, "failed"),
        (Step.LISTENING, "listening"),
        (Step.STOPPED_LISTENING, "stopped"),
        (Step.PAUSED, "unknown"),
    ],
)
def test_the_state_is_what_the_last_telling_step_says(step, state):
    assert Timeline("it", (Moment(0.0, step, {}), Moment(0.0, Step.FIRST_BYTE, {}))).state == state


def test_what_a_peer_sent_reaches_the_text_escaped():
    text = hostile_timeline().text()
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(text.split("\n")) == 2 + len(Step)
    assert r"\x1b[31m" in text
    assert r"\u202e" in text


# --- JSON --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeline", [WHOLE, FAILED, hostile_timeline(), Timeline("nothing")])
def test_json_round_trips(timeline):
    assert Timeline.fromJSON(timeline.json()) == timeline
    assert Timeline.fromJSON(timeline.json(indent=2).encode()) == timeline


def test_json_holds_subject_state_moments_and_notes():
    told = json.loads(FAILED.json())
    assert told["subject"] == "connection 2 to nowhere.test:80"
    assert told["state"] == "failed"
    assert told["notes"] == []
    assert told["moments"][2] == {
        "at": 1.0,
        "step": "resolve failed",
        "details": {"name": "nowhere.test", "error": "Name not known", "errno": -2},
    }


def test_json_without_indent_is_one_line():
    assert "\n" not in hostile_timeline().json()


def test_a_detail_that_json_cannot_hold_is_told_as_repr():
    timeline = Timeline("it", (Moment(0.0, Step.FIRST_BYTE, {"what": b"\xff"}),))
    assert json.loads(timeline.json())["moments"][0]["details"] == {"what": "b'\\xff'"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"subject": "x", "moments": 3}',
        '{"subject": "x", "moments": [{"at": 0, "step": "no such step", "details": {}}]}',
        '{"subject": "x", "moments": [{"at": "soon", "step": "closed", "details": {}}]}',
        '{"subject": "x", "moments": [{"at": 0, "step": "closed"}]}',
    ],
)
def test_what_is_no_timeline_is_refused_with_a_value_error(text):
    with pytest.raises(ValueError):
        Timeline.fromJSON(text)


_json = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_details = st.dictionaries(
    st.sampled_from(
        [
            "host",
            "port",
            "timeout",
            "name",
            "addresses",
            "address",
            "error",
            "errno",
            "seconds",
            "local",
            "peer",
            "listener",
            "protocol",
            "buffered",
            "by",
            "reason",
            "received",
            "sent",
            "message",
            "phase",
            "times",
            "still",
        ]
    )
    | st.text(max_size=5),
    _json | st.lists(st.text(max_size=9), max_size=3) | st.sampled_from([each.value for each in EndedBy]),
)
_moments = st.builds(Moment, st.none() | st.floats(0, 1e9), st.sampled_from(Step), _details)
_timelines = st.builds(
    Timeline, st.text(), st.lists(_moments, max_size=8).map(tuple), st.lists(st.text()).map(tuple)
)


@given(_timelines)
def test_any_timeline_is_told_in_all_three_forms(timeline):
    assert Timeline.fromJSON(timeline.json()) == timeline
    text = timeline.text()
    assert len(text.split("\n")) == 1 + len(timeline.moments) + len(timeline.notes)
    assert all(line.isprintable() for line in text.split("\n"))
    check_sequence(timeline.mermaid())


# --- Mermaid -----------------------------------------------------------------------------------------

# Mermaid takes a statement to its line's end or to a semicolon; a "#" would begin a comment or a code.
_label = r"(?:[^#;%<>`{}\"\\\x00-\x1f]|#\d+;)*"
_statements = [
    rf"title {_label}",
    rf"participant \w+(?: as {_label})?",
    rf"\w+(?:->>|-->>|-x|--x)\w+: (?!wrap:|nowrap:){_label}",
    rf"Note over engine: (?!wrap:|nowrap:){_label}",
]


def check_sequence(source):
    """Every line is one statement of the kinds we write, and every arrow's ends were introduced before."""
    first, *lines = source.split("\n")
    assert first == "sequenceDiagram"
    introduced = set()
    for line in lines:
        assert any(re.fullmatch(f"    {each}", line) for each in _statements), line
        participant = re.match(r"    participant (\w+)", line)
        if participant:
            assert participant[1] not in introduced
            introduced.add(participant[1])
        arrow = re.match(r"    (\w+?)(?:->>|-->>|--x|-x)(\w+):", line)
        if arrow:
            assert {arrow[1], arrow[2]} <= introduced, line


def test_the_sequence_of_a_whole_life_has_the_participants_a_reader_asks_about():
    source = WHOLE.mermaid()
    check_sequence(source)
    assert re.findall(r"participant (.*)", source) == [
        "app as your code",
        "engine as ropewalk",
        "resolver",
        "address1 as [::1]:8007",
        "address2 as 127.0.0.1:8007 (peer)",
    ]
    said = [line.strip().split(" · ")[0] for line in source.split("\n") if "-" in line]
    assert said == [
        "app->>engine: connectTCP to localhost:8007, at most 30 s",
        "engine->>resolver: looks up localhost",
        "resolver-->>engine: answers: localhost is ::1, 127.0.0.1",
        "engine->>address1: tries to connect",
        "address1--xengine: failed: Connection refused (ECONNREFUSED), after 0.10 ms",
        "engine->>address2: tries to connect",
        "address2-->>engine: connected, our end is 127.0.0.1:40000",
        "engine->>app: buildProtocol, connectionMade: Greeter",
        "address2->>app: first byte",
        "address2->>engine: end of its stream: the peer sends no more",
        "engine->>address2: end of our stream: we send no more",
        "app->>address2: sent 20.0 MB in all",
        "address2->>app: received 24 B in all",
        "address2->>engine: closed by the peer",
        "engine->>app: connectionLost, by the peer after 6.12 s: ConnectionDone#59; received 24 B, sent 20.0 MB",
    ]


def test_the_sequence_of_a_failed_look_up_ends_at_the_factory():
    source = FAILED.mermaid()
    check_sequence(source)
    assert "resolver--xengine: fails: nowhere.test: Name not known · 1.00 s" in source
    assert "engine-xapp: clientConnectionFailed while resolving: name look-up failed · 1.00 s" in source


@pytest.mark.parametrize(
    ("by", "drawn"),
    [
        (EndedBy.PEER, "peer->>engine: closed by the peer"),
        (EndedBy.PEER_RESET, "peer-xengine: closed by a reset from the peer"),
        (EndedBy.US, "engine->>peer: closed by us"),
        (EndedBy.US_ABORTED, "engine-xpeer: closed by us, aborted"),
        (EndedBy.TIMEOUT, "Note over engine: closed by a deadline"),
        (EndedBy.SHUTDOWN, "Note over engine: closed by the reactor's shutdown"),
        (EndedBy.EXCEPTION, "Note over engine: closed by an exception in user code"),
        (EndedBy.ERROR, "Note over engine: closed by an error of the system"),
    ],
)
def test_the_sequence_shows_who_ended_an_accepted_connection(by, drawn):
    accepted = Moment(0.0, Step.ACCEPTED, {"local": "127.0.0.1:1", "peer": "127.0.0.1:2", "listener": 1})
    timeline = Timeline("it", (accepted, Moment(1.0, Step.CLOSED, {"by": by.value})))
    source = timeline.mermaid()
    check_sequence(source)
    assert f"    {drawn} · 1.00 s" in source.split("\n")


@pytest.mark.parametrize(
    "opened",
    [
        Moment(0.0, Step.ACCEPTED, {"local": "127.0.0.1:1", "peer": "127.0.0.1:2", "listener": 1}),
        Moment(0.0, Step.CONNECTED, {"local": "127.0.0.1:1", "peer": "127.0.0.1:2"}),
    ],
    ids=lambda moment: moment.step.value,
)
def test_the_sequence_tells_nobody_of_the_end_where_no_protocol_was_built(opened):
    closed = Moment(1.0, Step.CLOSED, {"by": "us", "received": 0, "sent": 0})
    source = Timeline("it", (opened, closed)).mermaid()
    check_sequence(source)
    assert "connectionLost" not in source
    assert not re.search(r"app-|->>app", source)
    assert (
        "    Note over engine: no protocol was built, closed by us: received 0 B, sent 0 B · 1.00 s" in source
    )


def test_the_sequence_of_an_end_whose_beginning_is_not_known_tells_the_protocol():
    source = Timeline("it", (Moment(1.0, Step.CLOSED, {"by": "us"}),)).mermaid()
    assert "engine->>app: connectionLost" in source


def test_what_a_peer_sent_cannot_add_a_statement_to_the_sequence():
    check_sequence(hostile_timeline().mermaid())


def test_a_sequence_without_a_beginning_still_has_a_peer():
    source = Timeline("it", (Moment(0.0, Step.FIRST_BYTE, {}),)).mermaid()
    check_sequence(source)
    assert "    participant peer" in source.split("\n")
