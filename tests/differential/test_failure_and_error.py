"""Failures and exceptions: what a user's code asks of them, asked of Twisted's and of ours.

Texts of messages are ours and not compared. Left out, as we differ on purpose (docs/differences-from-twisted.md):
EHOSTUNREACH is a NoRouteError; DNSLookupError is a ConnectError too; every error of sockets is also the builtin it
corresponds to; a cleaned Failure has no traceback object.
"""

from __future__ import annotations

import errno
import io
import os
import pickle
import socket
import traceback

import pytest

from ropewalk import defer as our_defer
from ropewalk import error as our_error
from ropewalk import failure as our_failure
from ropewalk import task as our_task

their_error = pytest.importorskip(
    "twisted.internet.error", reason="Twisted is not installed: pip install 'ropewalk[test]'"
)
their_failure = pytest.importorskip("twisted.python.failure")
their_defer = pytest.importorskip("twisted.internet.defer")
their_task = pytest.importorskip("twisted.internet.task")

EXCEPTIONS = sorted(
    name
    for name in our_error.__all__
    if isinstance(getattr(our_error, name), type) and issubclass(getattr(our_error, name), BaseException)
)


def family(module, name):
    """The names of the class's ancestors inside its module."""
    return [each.__name__ for each in getattr(module, name).__mro__ if each.__module__ == module.__name__]


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_each_exception_has_twisteds_ancestors(name):
    ours, theirs = family(our_error, name), family(their_error, name)
    if name == "DNSLookupError":
        ours.remove("ConnectError")
    assert ours == theirs


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_each_exception_is_the_builtin_that_twisteds_is(name):
    theirs = [each for each in getattr(their_error, name).__mro__ if each.__module__ == "builtins"]
    assert all(issubclass(getattr(our_error, name), each) for each in theirs)


def test_the_exceptions_of_defer_have_twisteds_ancestors():
    names = (
        "AlreadyCalledError",
        "CancelledError",
        "TimeoutError",
        "NotACoroutineError",
        "FirstError",
        "FailureGroup",
    )
    for name in (*names, "QueueOverflow", "QueueUnderflow"):
        assert family(our_defer, name) == family(their_defer, name)


def test_the_exceptions_of_task_have_twisteds_ancestors():
    for name in ("SchedulerStopped", "TaskDone", "TaskStopped", "TaskFailed", "NotPaused"):
        assert family(our_task, name) == family(their_task, name)
        assert our_failure.Failure(getattr(our_task, name)()).check(f"ropewalk.task.{name}")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ConnectError", ()),
        ("ConnectError", (5, "text")),
        ("TimeoutError", ()),
        ("UserError", ("os", "text")),
        ("ConnectionLost", ()),
        ("ConnectionLost", ("one", "two")),
        ("ConnectionDone", ("one",)),
        ("ConnectionAborted", ()),
        ("DNSLookupError", ("no such name",)),
        ("BindError", ("one", "two")),
        ("CannotListenError", ("127.0.0.1", 80, OSError(98, "in use"))),
        ("AlreadyCalled", ()),
        ("AlreadyCancelled", ("why",)),
        ("NotConnectingError", ()),
        ("NotListeningError", ("why",)),
        ("ReactorNotRunning", ("why",)),
        ("ConnectingCancelledError", ("address",)),
        ("NoProtocol", ()),
        ("UnsupportedAddressFamily", (99,)),
    ],
)
def test_exceptions_take_and_keep_the_same_arguments(name, arguments):
    ours, theirs = getattr(our_error, name)(*arguments), getattr(their_error, name)(*arguments)
    assert ours.args == theirs.args
    for attribute in ("osError", "interface", "port", "socketError", "address"):
        assert getattr(ours, attribute, "none") == getattr(theirs, attribute, "none") or (
            attribute == "osError" and not hasattr(theirs, attribute)
        )
    assert isinstance(str(ours), str)


@pytest.mark.parametrize("number", sorted(set(errno.errorcode) - {errno.EHOSTUNREACH}))
def test_each_errno_becomes_the_same_connect_error(number):
    given = OSError(number, os.strerror(number))
    ours, theirs = our_error.getConnectError(given), their_error.getConnectError(given)
    assert type(ours).__name__ == type(theirs).__name__
    assert (ours.osError, ours.args) == (theirs.osError, theirs.args)


@pytest.mark.parametrize(
    "given",
    [(errno.ECONNREFUSED, "refused"), socket.gaierror(-2, "no name"), ValueError("odd"), OSError("bare")],
    ids=repr,
)
def test_odd_errors_become_the_same_connect_error(given):
    ours, theirs = our_error.getConnectError(given), their_error.getConnectError(given)
    assert type(ours).__name__ == type(theirs).__name__
    assert (ours.osError, ours.args) == (theirs.osError, theirs.args)


# --- failures ---


def raise_it(value):
    raise value


def caught(module, value):
    try:
        raise_it(value)
    except BaseException:
        return module.Failure()


def both(make):
    return make(our_failure), make(their_failure)


def outcome(function):
    try:
        return function()
    except BaseException as exc:
        return "raised", type(exc).__name__, exc.args


class Strange(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "asked",
    [
        (ValueError,),
        (LookupError,),
        (KeyError, ValueError),
        (Exception,),
        ("builtins.KeyError",),
        ("builtins.LookupError",),
        ("KeyError",),
        (),
        (OSError, "builtins.OSError"),
    ],
)
def test_check_and_trap_answer_the_same(asked):
    ours, theirs = both(lambda module: caught(module, KeyError("x")))
    assert ours.check(*asked) == theirs.check(*asked)
    assert outcome(lambda: ours.trap(*asked)) == outcome(lambda: theirs.trap(*asked))


@pytest.mark.parametrize(
    "value", [ValueError("text"), ValueError(), KeyError("k"), OSError(2, "gone")], ids=repr
)
def test_value_type_and_message_are_the_same(value):
    for make in (lambda module: caught(module, value), lambda module: module.Failure(value)):
        ours, theirs = both(make)
        assert (ours.value, ours.type) == (theirs.value, theirs.type)
        assert ours.getErrorMessage() == theirs.getErrorMessage()
        assert outcome(ours.raiseException) == outcome(theirs.raiseException)


@pytest.mark.parametrize("value", [KeyError("k"), UnicodeDecodeError("ascii", b"", 0, 1, "why")], ids=repr)
def test_the_parents_are_the_same(value):
    ours, theirs = both(lambda module: caught(module, value))
    assert ours.parents == theirs.parents


def test_capturing_variables_may_be_asked_for():
    for failure in both(lambda module: module.Failure(ValueError("x"), None, None, True)):
        assert failure.value.args == ("x",)
    for failure in both(lambda module: module.Failure(ValueError("x"), captureVars=True)):
        assert failure.value.args == ("x",)


def yields(told):
    try:
        yield "first"
    except ValueError as exc:
        told.append(exc)
        yield "second"
    raise KeyError("end")


def test_an_exception_is_thrown_into_a_generator_alike():
    for failure in both(lambda module: caught(module, ValueError("x"))):
        told = []
        generator = yields(told)
        assert next(generator) == "first"
        assert failure.throwExceptionIntoGenerator(generator) == "second"
        assert told == [failure.value]
        with pytest.raises(KeyError, match="end"):
            next(generator)
        with pytest.raises(ValueError, match="x"):
            failure.throwExceptionIntoGenerator(generator)


def test_D47_the_verbose_text_is_theirs_without_a_number_and_a_word_on_variables():
    for make in (
        lambda module: caught(module, ValueError("x")),
        lambda module: module.Failure(ValueError("x")),
    ):
        ours, theirs = both(make)
        expected = theirs.getTraceback(detail="verbose").replace(f" #{theirs.count}", "")
        without = expected.replace(" [Capture of Locals and Globals disabled (use captureVars=True)]\n", "")
        assert ours.getTraceback(detail="verbose") == without


def test_D47_what_Twisted_s_has_beyond_ours():
    ours, theirs = both(lambda module: caught(module, ValueError("x")))
    beyond = {name for name in dir(theirs) if not name.startswith("_")} - set(dir(ours))
    assert beyond == {"captureVars", "count", "pickled", "stack"}


def test_the_frames_are_the_same():
    ours, theirs = both(lambda module: caught(module, ValueError("x")))
    assert ours.frames == theirs.frames
    assert traceback.extract_tb(ours.getTracebackObject()) == traceback.extract_tb(
        theirs.getTracebackObject()
    )
    assert ours.tb is ours.getTracebackObject()


@pytest.mark.parametrize("detail", ["default", "brief"])
@pytest.mark.parametrize("raised", [True, False], ids=["raised", "made"])
def test_the_printed_traceback_is_the_same(detail, raised):
    make = (
        (lambda module: caught(module, ValueError("x"))) if raised else lambda m: m.Failure(ValueError("x"))
    )
    ours, theirs = both(make)
    assert ours.getTraceback(detail=detail) == theirs.getTraceback(detail=detail)
    printed = io.StringIO()
    ours.printTraceback(printed, detail=detail)
    assert printed.getvalue() == theirs.getTraceback(detail=detail)


def test_an_unknown_detail_is_refused_by_both():
    for failure in both(lambda module: caught(module, ValueError("x"))):
        with pytest.raises(ValueError, match="bogus"):
            failure.getTraceback(detail="bogus")


def test_cleaning_keeps_the_text_and_drops_the_traceback():
    for failure in both(lambda module: caught(module, ValueError("x"))):
        before = failure.getTraceback(), failure.getBriefTraceback()
        failure.cleanFailure()
        assert (failure.getTraceback(), failure.getBriefTraceback()) == before
        assert failure.tb is None
        assert failure.value.__traceback__ is None


def test_pickling_keeps_value_and_text():
    for failure in both(lambda module: caught(module, ValueError("x"))):
        copied = pickle.loads(pickle.dumps(failure))
        assert copied.value.args == ("x",)
        assert copied.type is ValueError
        assert copied.check(ValueError) is ValueError
        assert copied.getTraceback() == failure.getTraceback()
        assert copied.tb is None


def test_a_failure_of_a_failure_is_a_copy():
    for module in (our_failure, their_failure):
        first = caught(module, ValueError("x"))
        second = module.Failure(first)
        assert (second.value, second.type, second.tb) == (first.value, first.type, first.tb)


def test_a_failure_without_an_exception_is_refused():
    for module in (our_failure, their_failure):
        with pytest.raises(module.NoCurrentExceptionError):
            module.Failure()


def test_a_failure_given_everything_takes_it():
    try:
        raise_it(ValueError("x"))
    except ValueError as exc:
        seen = exc.__traceback__
    for module in (our_failure, their_failure):
        made = module.Failure(ValueError("y"), ValueError, seen)
        assert (made.type, made.tb) == (ValueError, seen)


def test_texts_name_the_class_in_the_same_way():
    ours, theirs = both(lambda module: caught(module, ValueError("x")))
    assert repr(ours) == repr(theirs).replace("twisted.python.failure", "ropewalk.failure")
    assert str(ours) == str(theirs)


def test_an_exception_that_has_no_text_prints_all_the_same():
    for failure in both(lambda module: caught(module, Strange())):
        assert "Strange" in failure.getErrorMessage()
        assert "Strange" in failure.getTraceback()
