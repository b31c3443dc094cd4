"""How a connection ends: each verdict's reason, record and reset, in the words of the border."""

from __future__ import annotations

import errno
import os
import traceback

import pytest

from ropewalk import error
from ropewalk._net import ending
from ropewalk._net.ending import PEER_CLOSED, SHUT_DOWN, WE_ABORTED, WE_CLOSED
from ropewalk.event import Ended, EndedBy


def os_error(number):
    return OSError(number, os.strerror(number))


def judged(verdict):
    ended = verdict.ended(1.5, 10, 20)
    return ended, verdict.reason(error, ended)


@pytest.mark.parametrize(
    ("verdict", "by", "kind", "with_reset"),
    [
        (PEER_CLOSED, EndedBy.PEER, error.ConnectionDone, False),
        (WE_CLOSED, EndedBy.US, error.ConnectionDone, False),
        (WE_ABORTED, EndedBy.US_ABORTED, error.ConnectionAborted, True),
        (SHUT_DOWN, EndedBy.SHUTDOWN, error.ConnectionLost, False),
    ],
)
def test_everyday_ends(verdict, by, kind, with_reset):
    ended, reason = judged(verdict)
    assert ended == Ended(by, 1.5, 10, 20, verdict.text)
    assert type(reason) is kind
    assert reason.ended is ended
    assert reason.errno is None
    assert reason.__cause__ is None
    assert verdict.with_reset is with_reset


def test_each_connection_gets_a_reason_of_its_own():
    assert judged(WE_CLOSED)[1] is not judged(WE_CLOSED)[1]


def test_a_shutdown_says_so():
    assert "the reactor was stopped" in str(judged(SHUT_DOWN)[1])


@pytest.mark.parametrize(
    ("number", "by"),
    [
        (errno.ECONNRESET, EndedBy.PEER_RESET),
        (errno.EPIPE, EndedBy.PEER_RESET),
        (errno.ETIMEDOUT, EndedBy.TIMEOUT),
        (errno.EHOSTUNREACH, EndedBy.ERROR),
        (errno.ENETDOWN, EndedBy.ERROR),
    ],
)
def test_what_the_system_says_tells_who_it_was(number, by):
    exc = os_error(number)
    ended, reason = judged(ending.broken(exc))
    assert (ended.by, ended.errno) == (by, number)
    assert os.strerror(number) in ended.error
    assert type(reason) is error.ConnectionLost
    assert reason.errno == number
    assert reason.__cause__ is exc
    assert errno.errorcode[number] in str(reason)


def test_a_reason_keeps_no_frame_of_the_engine_s():
    try:
        raise os_error(errno.ECONNRESET)
    except OSError as exc:
        caught = exc
    assert caught.__traceback__ is not None
    _, reason = judged(ending.broken(caught))
    assert reason.__traceback__ is None
    assert reason.__cause__.__traceback__ is None


def test_a_peer_that_takes_nothing_is_a_timeout_with_a_reset():
    verdict = ending.stalled(60.0, 1234)
    ended, reason = judged(verdict)
    assert ended.by is EndedBy.TIMEOUT
    assert verdict.with_reset
    assert type(reason) is error.ConnectionLost
    assert "60.0 s" in str(reason)
    assert "1234 bytes" in str(reason)


def test_too_much_written_is_an_error_with_a_reset():
    verdict = ending.overrun(2000, 1000)
    ended, reason = judged(verdict)
    assert ended.by is EndedBy.ERROR
    assert verdict.with_reset
    assert "2000 bytes" in ended.error
    assert "limit is 1000" in str(reason)


@pytest.mark.parametrize("with_reset", [True, False])
def test_what_user_code_raised_is_itself_the_reason(with_reset):
    mine = ValueError("mine")
    verdict = ending.raised(mine, with_reset)
    ended, reason = judged(verdict)
    assert reason is mine
    assert (ended.by, ended.error, ended.errno) == (EndedBy.EXCEPTION, "mine", None)
    assert verdict.with_reset is with_reset


def test_an_exception_without_words_is_told_by_its_name():
    ended, _ = judged(ending.raised(ZeroDivisionError(), False))
    assert ended.error == "ZeroDivisionError"


def test_what_user_code_raised_keeps_its_traceback():
    try:
        raise ValueError("mine")
    except ValueError as exc:
        mine = exc
    _, reason = judged(ending.raised(mine, False))
    assert traceback.extract_tb(reason.__traceback__)[-1].name.startswith("test_what_user_code")


def test_the_words_of_the_border_are_used():
    class Words:
        class ConnectionDone(Exception):
            def __init__(self, ended):
                self.ended = ended

    ended = WE_CLOSED.ended(0.0, 0, 0)
    assert type(WE_CLOSED.reason(Words, ended)) is Words.ConnectionDone
