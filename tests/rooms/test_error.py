"""error.py alone: classes, errno, texts, copies."""

from __future__ import annotations

import builtins
import copy
import errno
import os
import pickle
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk import error
from ropewalk.event import Attempt, Ended, EndedBy

CLASSES = [
    each for each in vars(error).values() if isinstance(each, type) and each.__module__ == error.__name__
]
CONNECT = [each for each in CLASSES if issubclass(each, error.ConnectError)]
CLOSED = [each for each in CLASSES if issubclass(each, error.ConnectionClosed)]


def made(kind):
    """One instance, whatever its constructor wants."""
    if kind is error.CannotListenError:
        return kind("127.0.0.1", 80, OSError(errno.EADDRINUSE, "Address already in use"))
    return kind("why") if issubclass(kind, error.ConnectingCancelledError) else kind()


# --- the tree ---


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (error.BindError, OSError),
        (error.CannotListenError, OSError),
        (error.ConnectError, OSError),
        (error.NoRouteError, OSError),
        (error.ConnectionRefusedError, builtins.ConnectionRefusedError),
        (error.TCPTimedOutError, builtins.TimeoutError),
        (error.TimeoutError, builtins.TimeoutError),
        (error.DNSLookupError, socket.gaierror),
        (error.ConnectionClosed, builtins.ConnectionError),
        (error.ConnectionLost, builtins.ConnectionError),
        (error.ConnectionAborted, builtins.ConnectionAbortedError),
        (error.AlreadyCalled, ValueError),
        (error.AlreadyCancelled, ValueError),
        (error.NotConnectingError, RuntimeError),
        (error.NotListeningError, RuntimeError),
        (error.ReactorNotRunning, RuntimeError),
        (error.ReactorAlreadyRunning, RuntimeError),
    ],
)
def test_an_error_is_also_the_builtin_it_corresponds_to(kind, builtin):
    with pytest.raises(builtin):
        raise made(kind)


def test_a_failed_look_up_is_a_connect_error():
    assert issubclass(error.DNSLookupError, error.ConnectError)


def test_the_timeouts_of_user_and_system_are_told_apart():
    assert not issubclass(error.TCPTimedOutError, error.UserError)
    assert issubclass(error.TimeoutError, error.UserError)


def test_every_class_is_exported():
    assert {each.__name__ for each in CLASSES} <= set(error.__all__)
    assert all(hasattr(error, name) for name in error.__all__)


# --- errno ---


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ECONNREFUSED, error.ConnectionRefusedError),
        (errno.ENETUNREACH, error.NoRouteError),
        (errno.EHOSTUNREACH, error.NoRouteError),
        (errno.ETIMEDOUT, error.TCPTimedOutError),
        (errno.EPERM, error.ConnectError),
        (errno.EADDRNOTAVAIL, error.ConnectError),
    ],
)
def test_errno_chooses_the_connect_error(number, kind):
    cause = OSError(number, os.strerror(number))
    reason = error.getConnectError(cause)
    assert type(reason) is kind
    assert reason.errno == number
    assert reason.osError == number
    assert reason.strerror == os.strerror(number)
    assert reason.__cause__ is cause
    assert errno.errorcode[number] in str(reason)


def test_two_reasons_are_never_one_object():
    cause = OSError(errno.ECONNREFUSED, "refused")
    assert error.getConnectError(cause) is not error.getConnectError(cause)
    one, other = error.getConnectError(cause), error.getConnectError(cause)
    one.elapsed["connecting"] = 1.0
    assert other.elapsed == {}


def test_a_connect_error_of_an_exception_takes_its_errno():
    cause = OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
    reason = error.ConnectBindError(cause)
    assert (reason.errno, reason.osError) == (errno.EADDRNOTAVAIL, cause)
    assert "EADDRNOTAVAIL" in str(reason)


def test_a_close_reason_of_an_exception_takes_errno_and_cause():
    cause = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    reason = error.ConnectionLost(osError=cause)
    assert (reason.errno, reason.strerror, reason.__cause__) == (errno.ECONNRESET, cause.strerror, cause)
    assert str(reason) == "the connection was lost: Connection reset by peer (ECONNRESET)"


@pytest.mark.parametrize("kind", [*CONNECT, *CLOSED])
def test_an_error_without_an_errno_says_none(kind):
    assert kind().errno is None


def test_cannot_listen_tells_place_and_reason():
    reason = error.CannotListenError("::1", 80, OSError(errno.EADDRINUSE, "Address already in use"))
    assert str(reason) == "cannot listen on [::1]:80: Address already in use (EADDRINUSE)"
    assert (reason.interface, reason.port, reason.errno) == ("::1", 80, errno.EADDRINUSE)
    assert "any interface:80" in str(error.CannotListenError("", 80, "text"))


# --- look-ups ---


@pytest.mark.parametrize(
    ("cause", "temporary"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
        (socket.gaierror(socket.EAI_NODATA, "No address associated with hostname"), False),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), True),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"), True),
        (socket.gaierror(socket.EAI_MEMORY, "Memory allocation failure"), True),
        (OSError(errno.EMFILE, "Too many open files"), True),
        (UnicodeError("label too long"), False),
        (ValueError("embedded null byte"), False),
        (RuntimeError("the resolver broke"), True),
    ],
    ids=repr,
)
def test_a_name_that_does_not_exist_is_told_from_a_server_that_fails(cause, temporary):
    reason = error.getLookupError(cause, "example.invalid")
    assert type(reason) is error.DNSLookupError
    assert reason.temporary is temporary
    assert reason.__cause__ is cause
    assert reason.errno == getattr(cause, "errno", None)
    assert "example.invalid" in str(reason)


def test_a_look_up_error_names_the_code_as_getaddrinfo_does():
    reason = error.getLookupError(
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "x.invalid"
    )
    assert str(reason) == "name look-up failed: 'x.invalid': Name or service not known (EAI_NONAME)"


def test_a_look_up_without_an_address_is_an_error_of_the_name():
    reason = error.getLookupError(None, "x.invalid")
    assert not reason.temporary
    assert "x.invalid" in str(reason)


@given(st.text())
def test_a_name_never_breaks_the_line_of_a_log(name):
    assert str(error.getLookupError(None, name)).isprintable()


# --- what a failed connect tells ---


def test_the_text_of_a_failed_connect_tells_phase_times_and_every_address():
    reason = error.getConnectError(OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))
    reason.phase = "connecting"
    reason.elapsed = {"resolving": 0.0123, "connecting": 0.2504}
    reason.attempts = (
        Attempt("127.0.0.1:1", "Connection refused", errno.ECONNREFUSED, 0.0011),
        Attempt("[::1]:1", "took too long", None, 0.25),
    )
    assert str(reason) == (
        "the other side refused the connection (ECONNREFUSED) "
        "[while connecting; resolving took 12.3 ms, connecting took 250 ms; "
        "tried 127.0.0.1:1: ECONNREFUSED after 1.1 ms, [::1]:1: took too long after 250 ms]"
    )


def test_a_deadline_tells_which_phase_it_hit():
    reason = error.TimeoutError()
    reason.phase, reason.elapsed = "resolving", {"resolving": 30.0}
    assert str(reason) == "connecting took longer than its timeout [while resolving; resolving took 30.000 s]"


def test_a_look_up_error_tells_its_story_too():
    reason = error.getLookupError(None, "x")
    reason.phase = "resolving"
    assert str(reason).endswith("[while resolving]")


@pytest.mark.parametrize("kind", CLASSES)
def test_every_text_is_one_line(kind):
    assert "\n" not in str(made(kind))


@pytest.mark.parametrize("kind", CONNECT)
def test_a_connect_error_starts_without_a_story(kind):
    reason = kind()
    assert (reason.attempts, reason.phase, reason.elapsed) == ((), None, {})
    assert "[" not in str(reason)


# --- copies ---


def copies(exc):
    return [copy.copy(exc), copy.deepcopy(exc), *(pickle.loads(pickle.dumps(exc, n)) for n in range(6))]


@pytest.mark.parametrize("kind", CLASSES)
def test_a_copy_is_the_same_error(kind):
    exc = made(kind)
    for copied in copies(exc):
        assert type(copied) is kind
        assert copied is not exc
        assert (repr(copied.args), str(copied)) == (repr(exc.args), str(exc))
        assert copied.__dict__.keys() == exc.__dict__.keys()


@pytest.mark.parametrize("kind", CONNECT)
def test_a_copied_connect_error_tells_the_same_story(kind):
    reason = kind()
    reason.errno, reason.strerror = errno.ECONNREFUSED, "refused"
    reason.phase, reason.elapsed = "connecting", {"connecting": 1.0}
    reason.attempts = (Attempt("127.0.0.1:1", "refused", errno.ECONNREFUSED, 1.0),)
    for copied in copies(reason):
        assert (copied.errno, copied.strerror, str(copied)) == (reason.errno, reason.strerror, str(reason))
        assert copied.attempts == reason.attempts


@pytest.mark.parametrize("kind", CLOSED)
def test_a_copied_close_reason_knows_how_it_ended(kind):
    ended = Ended(EndedBy.PEER_RESET, 1.5, 10, 20, "Connection reset by peer", errno.ECONNRESET)
    reason = kind("text", osError=OSError(errno.ECONNRESET, "Connection reset by peer"), ended=ended)
    for copied in copies(reason):
        assert copied.ended == ended
        assert (copied.errno, str(copied)) == (errno.ECONNRESET, str(reason))


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "made",
    [
        error.getLookupError(ValueError(), "name"),
        error.ConnectError(),
        error.ConnectionLost("", None),
    ],
    ids=repr,
)
def test_what_has_no_text_leaves_no_gap_in_the_text_of_the_error(made):
    assert "  " not in str(made)
    assert not str(made).endswith((" ", ":"))


@pytest.mark.parametrize(
    "make",
    [
        lambda mute: error.getLookupError(mute, "name"),
        lambda mute: error.getConnectError(mute),
        lambda mute: error.getConnectError((errno.ECONNREFUSED, mute)),
        lambda mute: error.ConnectError(mute),
        lambda mute: error.ConnectionLost(osError=mute),
        lambda mute: error.CannotListenError("", 80, mute),
        lambda mute: error.AlreadyCalled(mute),
    ],
)
def test_an_exception_whose_text_raises_is_told_by_its_class(make):
    assert "Mute whose __str__ raised builtins.RuntimeError" in str(make(Mute()))


class Own(error.ConnectError):
    """A user's own, with a constructor of its own."""

    def __init__(self, place, *, colour):
        super().__init__(errno.EPERM, "not there")
        self.place, self.colour = place, colour


def test_a_users_own_subclass_copies_without_its_constructor():
    for copied in copies(Own("here", colour="red")):
        assert (copied.place, copied.colour, copied.errno) == ("here", "red", errno.EPERM)
