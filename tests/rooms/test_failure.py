"""failure.py alone: holding, asking, raising, printing, letting go. tests/differential compares it with Twisted's."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import pickle
import traceback
import weakref

import pytest

from ropewalk.failure import Failure, NoCurrentExceptionError


class Marked(Exception):
    """An exception that can be watched go."""


def raise_it(exc):
    raise exc


def caught(exc):
    try:
        raise_it(exc)
    except BaseException:
        return Failure()


@contextlib.contextmanager
def no_collector():
    """Only reference counts free anything inside."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# --- making ---


def test_a_failure_takes_the_exception_being_handled():
    exc = ValueError("x")
    failure = caught(exc)
    assert (failure.value, failure.type, failure.tb) == (exc, ValueError, exc.__traceback__)
    assert failure.getTracebackObject() is failure.tb


def test_a_failure_of_an_exception_never_raised_has_no_traceback():
    failure = Failure(ValueError("x"))
    assert failure.tb is None
    assert failure.getTraceback() == "Traceback (most recent call last):\nFailure: builtins.ValueError: x\n"
    assert failure.getBriefTraceback().startswith("Traceback (failure with no frames)")


def test_a_failure_takes_the_traceback_of_an_exception_given():
    exc = caught(ValueError("x")).value
    assert Failure(exc).tb is exc.__traceback__


def test_a_failure_can_be_given_all_three():
    seen = caught(KeyError("y")).tb
    failure = Failure(ValueError("x"), Exception, seen)
    assert (failure.type, failure.tb) == (Exception, seen)


def test_a_failure_raised_again_keeps_the_first_ones_history():
    first = caught(ValueError("x"))
    try:
        raise first
    except Failure:
        second = Failure()
    assert (second.value, second.type, second.tb) == (first.value, first.type, first.tb)
    first.cleanFailure()
    assert Failure(first).getTraceback() == first.getTraceback()


def test_a_failure_of_nothing_is_refused():
    with pytest.raises(NoCurrentExceptionError):
        Failure()


def test_a_failure_may_hold_any_object():
    failure = Failure("text")
    assert (failure.type, failure.getErrorMessage()) == (str, "text")


# --- asking ---


def test_check_gives_back_what_matched():
    failure = Failure(KeyError("x"))
    assert failure.check(ValueError, LookupError, KeyError) is LookupError
    assert failure.check("builtins.LookupError") == "builtins.LookupError"
    assert failure.check(ValueError, "ValueError") is None
    assert failure.check() is None


def test_check_knows_exceptions_that_are_no_Exception():
    assert Failure(SystemExit(1)).check(SystemExit) is SystemExit
    assert Failure(SystemExit(1)).check(Exception) is None


def test_trap_gives_back_what_matched_and_raises_what_did_not():
    failure = caught(KeyError("x"))
    assert failure.trap(LookupError) is LookupError
    with pytest.raises(KeyError) as raised:
        failure.trap(ValueError)
    assert raised.value is failure.value


def test_raise_exception_raises_with_the_traceback_it_had():
    failure = caught(ValueError("x"))
    with pytest.raises(ValueError, match="x") as raised:
        failure.raiseException()
    assert [entry.name for entry in raised.traceback][-2:] == ["caught", "raise_it"]


def test_raising_twice_does_not_lengthen_the_traceback():
    failure = caught(ValueError("x"))
    before = failure.getTraceback()
    for _ in range(3):
        with contextlib.suppress(ValueError):
            failure.raiseException()
    assert failure.getTraceback() == before


def test_throwing_into_a_generator_gives_what_it_yields_next_and_the_traceback_it_had():
    def takes():
        try:
            yield 1
        except ValueError as exc:
            yield exc

    failure = caught(ValueError("x"))
    generator = takes()
    next(generator)
    exc = failure.throwExceptionIntoGenerator(generator)
    assert exc is failure.value
    assert [step.name for step in traceback.extract_tb(exc.__traceback__)][-2:] == ["caught", "raise_it"]


# --- telling ---


def test_the_traceback_names_each_frame_and_shows_its_source():
    text = caught(ValueError("x")).getTraceback()
    assert text.startswith("Traceback (most recent call last):\n")
    assert "in caught\n    raise_it(exc)\n" in text
    assert "in raise_it\n    raise exc\n" in text
    assert text.endswith("builtins.ValueError: x\n")


def test_a_brief_traceback_has_one_line_a_frame():
    lines = caught(ValueError("x")).getBriefTraceback().splitlines()
    assert lines[0] == "Traceback: <class 'ValueError'>: x"
    assert [line.rsplit(":", 1)[1] for line in lines[1:]] == ["caught", "raise_it"]


def test_a_verbose_traceback_is_marked_off():
    lines = caught(ValueError("x")).getTraceback(detail="verbose").splitlines()
    assert lines[0] == "*--- Failure ---"
    assert lines[-2:] == ["builtins.ValueError: x", "*--- End of Failure ---"]


def test_a_verbose_traceback_without_frames_says_that_it_is_none():
    lines = Failure(ValueError("x")).getTraceback(detail="verbose").splitlines()
    assert lines == ["*--- Failure ---", "Failure: builtins.ValueError: x", "*--- End of Failure ---"]


def test_frames_are_told_before_and_after_cleaning():
    failure = caught(ValueError("x"))
    before = failure.frames
    assert [(name, file, *rest) for name, file, _, *rest in before] == [
        ("caught", __file__, (), ()),
        ("raise_it", __file__, (), ()),
    ]
    failure.cleanFailure()
    assert failure.frames == before
    assert Failure(ValueError("x")).frames == []


def test_an_unknown_detail_is_refused():
    with pytest.raises(ValueError, match="loud"):
        Failure(ValueError()).getTraceback(detail="loud")


@pytest.mark.parametrize("detail", ["default", "brief", "verbose"])
def test_printing_writes_what_getting_gives(detail, capsys):
    failure = caught(ValueError("x"))
    wanted = failure.getTraceback(detail=detail)
    into = io.StringIO()
    failure.printTraceback(into, detail=detail)
    failure.printTraceback(detail=detail)
    assert into.getvalue() == wanted == capsys.readouterr().err


def test_the_short_names_print_brief_and_verbose():
    failure = caught(ValueError("x"))
    brief, verbose = io.StringIO(), io.StringIO()
    failure.printBriefTraceback(brief)
    failure.printDetailedTraceback(verbose)
    assert brief.getvalue() == failure.getBriefTraceback()
    assert verbose.getvalue() == failure.getTraceback(detail="verbose")


def test_a_text_that_raises_is_told_instead():
    class Silent(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    failure = Failure(Silent())
    assert "Silent whose __str__ raised builtins.RuntimeError" in failure.getErrorMessage()
    assert "Silent" in failure.getTraceback()


def test_repr_and_str_name_class_and_message():
    failure = caught(ValueError("x"))
    assert repr(failure) == "<ropewalk.failure.Failure builtins.ValueError: x>"
    assert str(failure) == f"[Failure instance: {failure.getBriefTraceback()}]"


def test_a_type_that_is_no_class_is_told_by_its_repr():
    failure = Failure(ValueError("x"), "odd")
    assert "'odd'" in repr(failure)


# --- letting go ---


def test_cleaning_keeps_the_text_and_lets_the_frames_go():
    failure = caught(ValueError("x"))
    before = [failure.getTraceback(detail=detail) for detail in ("default", "brief", "verbose")]
    failure.cleanFailure()
    assert [failure.getTraceback(detail=detail) for detail in ("default", "brief", "verbose")] == before
    assert failure.tb is failure.getTracebackObject() is None
    assert failure.value.__traceback__ is None
    failure.cleanFailure()
    assert failure.getTraceback() == before[0]


@pytest.mark.parametrize("made", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_holds_value_and_text_but_no_frames(made):
    failure = caught(ValueError("x"))
    copied = made(failure)
    assert type(copied) is Failure
    assert (copied.type, copied.value.args, copied.tb) == (ValueError, ("x",), None)
    assert copied.getTraceback() == failure.getTraceback()


def iter_once():
    yield


def holds_one():
    return weakref.ref(caught(Marked()))


def test_a_failure_makes_no_cycle():
    with no_collector():
        assert holds_one()() is None


@pytest.mark.parametrize("raising", ["raiseException", "trap", "throwExceptionIntoGenerator"])
def test_raising_makes_no_cycle_of_its_own(raising):
    """The frames of Failure's methods, kept by the traceback, do not lead back to the Failure."""
    failure = caught(Marked())
    arguments = [iter_once()] if raising == "throwExceptionIntoGenerator" else []
    with contextlib.suppress(Marked):
        getattr(failure, raising)(*arguments)
    seen = failure.value.__traceback__
    frames = []
    while seen is not None:
        frames.append(seen.tb_frame)
        seen = seen.tb_next
    ours = [frame for frame in frames if frame.f_globals["__name__"] == "ropewalk.failure"]
    assert ours
    assert all(not {"self", "g"}.intersection(frame.f_locals) for frame in ours)
