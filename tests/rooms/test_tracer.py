"""The tracer: one line for each step, as it happens, whatever is in it."""

from ropewalk.event import Event, Step
from ropewalk.observe import Tracer


def test_each_step_is_one_line_with_time_number_step_and_phrase():
    lines: list[str] = []
    tracer = Tracer(lines.append)
    tracer(Event(100.0, 1, Step.CONNECTING, {"host": "a", "port": 1, "timeout": 30}))
    tracer(Event(100.0015, 1, Step.CONNECTED, {"local": "x:1", "peer": "y:2"}))
    tracer(Event(102.5, 2, Step.FIRST_BYTE, {}))
    assert lines == [
        "  0.00 ms  #1 connecting        to a:1, at most 30 s\n",
        "  1.50 ms  #1 connected         x:1 to y:2\n",
        "   2.50 s  #2 first byte\n",
    ]


def test_what_a_peer_sent_cannot_begin_a_line_of_its_own():
    lines: list[str] = []
    Tracer(lines.append)(Event(0.0, 1, Step.RESOLVING, {"name": "a\n  0.00 ms  #9 closed\x1b[2J"}))
    assert lines == ["  0.00 ms  #1 resolving         a\\n  0.00 ms  #9 closed\\x1b[2J\n"]
