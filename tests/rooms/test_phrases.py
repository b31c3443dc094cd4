"""Steps in words: units a reader wants, escapes where they must be, and never an exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.event import EndedBy, Step
from ropewalk.observe.phrases import amount, duration, endings, error_words, phrase, plain, telling


def test_every_step_and_every_ending_has_words():
    assert set(telling) == set(Step)
    assert set(endings) == set(EndedBy)


@pytest.mark.parametrize("step", Step)
def test_a_step_without_details_still_has_a_phrase(step):
    assert isinstance(phrase(step, {}), str)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 ms"),
        (0.00004, "0.04 ms"),
        (0.0123, "12.3 ms"),
        (0.25, "250 ms"),
        (0.9999, "1.00 s"),
        (1.02, "1.02 s"),
        (65, "65.0 s"),
        (119.96, "2 min 0 s"),
        (125.4, "2 min 5 s"),
        (7199.9, "2 h 0 min"),
        (90061, "25 h 1 min"),
    ],
)
def test_a_duration_has_the_unit_a_reader_wants(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_960, "1.0 MB"),
        (20_000_000, "20.0 MB"),
        (3 * 10**9, "3.0 GB"),
        (10**13, "10.0 TB"),
    ],
)
def test_an_amount_has_the_unit_a_reader_wants(count, text):
    assert amount(count) == text


@given(st.text())
def test_plain_text_is_printable_and_printable_text_is_unchanged(text):
    assert plain(text).isprintable()
    if text.isprintable():
        assert plain(text) == text


def test_plain_escapes_line_ends_control_characters_text_direction_and_lone_surrogates():
    assert plain("a\nb\x1b[0m\u202e\ud800") == r"a\nb\x1b[0m\u202e\ud800"


@pytest.mark.parametrize(
    ("details", "text"),
    [
        ({"error": "Connection refused", "errno": 111}, "Connection refused (ECONNREFUSED)"),
        ({"error": "refused (ECONNREFUSED)", "errno": 111}, "refused (ECONNREFUSED)"),
        ({"error": "no name", "errno": -2}, "no name"),
        ({"error": None, "errno": 104}, "ECONNRESET"),
        ({"error": "odd", "errno": 99999}, "odd (errno 99999)"),
        ({}, ""),
    ],
)
def test_an_error_is_told_with_the_name_of_its_errno_once(details, text):
    assert error_words(details) == text


@pytest.mark.parametrize(
    ("step", "details", "text"),
    [
        (Step.CONNECTING, {"host": "::1", "port": 80, "timeout": 2.5}, "to [::1]:80, at most 2.5 s"),
        (Step.ACCEPTED, {"local": "a:1", "peer": "b:2", "listener": 4}, "a:1 from b:2, by port #4"),
        (
            Step.RESOLVE_FAILED,
            {"name": "a.test", "error": "look-up of 'a.test' failed"},
            "look-up of 'a.test' failed",
        ),
        (Step.RESOLVE_FAILED, {"name": "a.test", "error": "no"}, "a.test: no"),
        (Step.PROTOCOL_BUILT, {"protocol": "<a.b.f.<locals>.Echo object at 0x7f00aa>"}, "Echo"),
        (Step.PROTOCOL_BUILT, {"protocol": "<Echo, busy>"}, "<Echo, busy>"),
        (Step.PAUSED, {}, "reading"),
        (Step.PAUSED, {"times": 1, "seconds": 0.3, "still": False}, "reading, once, 300 ms"),
        (Step.PAUSED, {"times": 1, "seconds": 0.0, "still": True}, "reading, and not since undone"),
        (
            Step.PAUSED,
            {"times": 3, "seconds": 0.3, "still": True},
            "reading, 3 times, 300 ms in all, and now again",
        ),
        (Step.BUFFER_FULL, {"buffered": 65537}, "65.5 kB wait to be sent"),
        (Step.CLOSING, {"buffered": 0}, "nothing left to send"),
        (
            Step.ACCEPT_PAUSED,
            {"error": "Too many open files", "errno": 24, "seconds": 1.0, "times": 2},
            "Too many open files (EMFILE), for 1.00 s, 2 times",
        ),
        (
            Step.CLOSED,
            {
                "by": "peer reset",
                "reason": "ConnectionLost",
                "error": "Connection reset by peer",
                "errno": 104,
                "seconds": 3.2,
                "received": 1,
                "sent": 2,
            },
            (
                "by a reset from the peer after 3.20 s: ConnectionLost, "
                "Connection reset by peer (ECONNRESET); received 1 B, sent 2 B"
            ),
        ),
        (Step.CLOSED, {"by": "the moon", "seconds": 1.0}, "after 1.00 s"),
        (Step.FAILED, {"error": "UserError", "message": "", "phase": None}, "UserError"),
    ],
)
def test_a_step_is_told_in_a_phrase(step, details, text):
    assert phrase(step, details) == text
