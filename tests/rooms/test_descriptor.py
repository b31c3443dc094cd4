"""Descriptors that users bring, over a poller that says what the test wants: who is called, who is told of the end."""

from __future__ import annotations

import errno

import pytest

from ropewalk._loop.descriptor import Descriptors
from ropewalk._loop.loop import ERR, HUP, IN, OUT
from tests.rooms.loop_fakes import Watching, small_loop


class Selectable:
    """What a user brings."""

    def __init__(self, stage, fd=9, name="it"):
        self.stage = stage
        self.fd = fd
        self.name = name
        self.answers = {}

    def fileno(self):
        return self.fd

    def doRead(self):
        return self.act("read")

    def doWrite(self):
        return self.act("write")

    def act(self, what):
        self.stage.told.append((self.name, what))
        answer = self.answers.get(what)
        return answer() if callable(answer) else answer


class Stage:
    def __init__(self):
        self.loop, _, self.script = small_loop()
        self.told = []
        self.all = Descriptors(self.loop, self.lost)

    def lost(self, selectable, exc, is_clean):
        self.told.append((selectable.name, "lost", "cleanly" if is_clean else exc))

    def give(self, *rows):
        self.loop.turn(0)
        self.script.batches.append(list(rows))
        self.loop.turn(None)

    @property
    def masks(self):
        return {fd: mask for fd, mask in self.script.masks.items() if fd != 3}


@pytest.fixture
def stage():
    return Stage()


# ---- watching -------------------------------------------------------------------------------------------------------


def test_one_object_that_reads_and_writes_is_watched_for_both(stage):
    it = Selectable(stage)
    stage.all.add(it, IN)
    assert stage.masks == {9: IN}
    stage.all.add(it, OUT)
    assert stage.masks == {9: IN | OUT}
    stage.give((9, IN | OUT))
    assert stage.told == [("it", "read"), ("it", "write")]
    assert stage.all.readers() == stage.all.writers() == [it]


def test_two_objects_may_share_a_number_one_to_read_and_one_to_write(stage):
    reader, writer = Selectable(stage, name="reader"), Selectable(stage, name="writer")
    stage.all.add(reader, IN)
    stage.all.add(writer, OUT)
    stage.give((9, IN | OUT))
    assert stage.told == [("reader", "read"), ("writer", "write")]
    assert (stage.all.readers(), stage.all.writers()) == ([reader], [writer])


def test_only_what_was_asked_for_is_called(stage):
    reader, writer = Selectable(stage, name="reader"), Selectable(stage, fd=10, name="writer")
    stage.all.add(reader, IN)
    stage.all.add(writer, OUT)
    stage.give((9, IN), (10, OUT))
    assert stage.told == [("reader", "read"), ("writer", "write")]
    stage.told.clear()
    stage.give((9, OUT), (10, IN))
    assert stage.told == []


def test_adding_twice_is_adding_once(stage):
    it = Selectable(stage)
    stage.all.add(it, IN)
    stage.all.add(it, IN)
    stage.all.remove(it, IN)
    assert stage.masks == {}


def test_removing_one_wish_keeps_the_other(stage):
    it = Selectable(stage)
    stage.all.add(it, IN)
    stage.all.add(it, OUT)
    stage.all.remove(it, IN)
    assert stage.masks == {9: OUT}
    stage.all.remove(it, OUT)
    assert stage.masks == {}
    assert stage.all.readers() == stage.all.writers() == []


@pytest.mark.parametrize("bits", [IN, OUT])
def test_removing_what_was_never_added_is_nothing(stage, bits):
    it, other = Selectable(stage), Selectable(stage, name="other")
    stage.all.remove(it, bits)
    stage.all.add(it, IN)
    stage.all.remove(other, bits)
    stage.all.remove(it, OUT)
    assert stage.masks == {9: IN}


def test_removing_all_gives_each_object_once(stage):
    one, other = Selectable(stage, name="one"), Selectable(stage, fd=10, name="other")
    stage.all.add(one, IN)
    stage.all.add(one, OUT)
    stage.all.add(other, OUT)
    assert stage.all.remove_all() == [one, other]
    assert stage.masks == {}
    assert stage.all.remove_all() == []
    assert stage.told == []


@pytest.mark.parametrize("number", [-1, None, 2.5])
def test_what_has_no_descriptor_is_refused(stage, number):
    it = Selectable(stage, fd=number)
    with pytest.raises(ValueError, match="no open descriptor"):
        stage.all.add(it, IN)
    assert stage.all.readers() == []


@pytest.mark.parametrize("bit", [IN, OUT])
def test_a_number_that_is_not_open_is_refused_in_the_same_words(stage, bit):
    stage.script.refusals[9] = OSError(errno.EBADF, "closed")
    it = Selectable(stage)
    with pytest.raises(ValueError, match="gave 9, not the number of an open one"):
        stage.all.add(it, bit)
    assert stage.all.readers() == stage.all.writers() == []


def test_a_number_that_is_not_open_any_more_is_refused_for_another_wish(stage):
    it = Selectable(stage)
    stage.all.add(it, IN)
    stage.script.refusals_to_modify[9] = OSError(errno.EBADF, "closed")
    with pytest.raises(ValueError, match="no open descriptor"):
        stage.all.add(it, OUT)
    assert (stage.all.readers(), stage.all.writers()) == ([it], [])


def test_what_the_kernel_refuses_leaves_nothing(stage):
    stage.script.refusals[9] = OSError(errno.ENOSPC, "no room")
    it = Selectable(stage)
    with pytest.raises(OSError, match="no room"):
        stage.all.add(it, IN)
    assert stage.all.readers() == []
    del stage.script.refusals[9]
    stage.all.add(it, IN)
    assert stage.masks == {9: IN}


# ---- numbers that change their owner --------------------------------------------------------------------------------


def test_a_number_that_came_back_belongs_to_who_was_added_last(stage):
    old, new = Selectable(stage, name="old"), Selectable(stage, name="new")
    stage.all.add(old, IN)
    stage.all.add(new, IN)
    stage.give((9, IN))
    assert stage.told == [("new", "read")]
    stage.all.remove(old, IN | OUT)
    assert stage.masks == {9: IN}
    assert stage.all.readers() == [new]


def test_an_object_that_was_given_another_descriptor_is_watched_there_alone(stage):
    """And what it wished of the one before is over, for either direction."""
    it = Selectable(stage)
    stage.all.add(it, IN)
    it.fd = 10
    stage.all.add(it, OUT)
    assert stage.masks == {10: OUT}
    assert (stage.all.readers(), stage.all.writers()) == ([], [it])
    stage.all.remove(it, OUT)
    assert stage.masks == {}


def no_number():
    raise OSError(errno.EBADF, "closed")


@pytest.mark.parametrize("moved", [-1, 11, no_number])
@pytest.mark.parametrize("bit", [IN, OUT])
def test_a_number_that_came_back_is_not_shared_with_who_had_it_and_has_it_no_more(stage, bit, moved):
    old, new = Selectable(stage, name="old"), Selectable(stage, name="new")
    stage.all.add(old, (IN | OUT) ^ bit)
    if callable(moved):
        old.fileno = moved
    else:
        old.fd = moved
    stage.all.add(new, bit)
    assert stage.masks == {9: bit}
    stage.give((9, IN | OUT))
    assert stage.told == [("new", "read" if bit == IN else "write")]
    stage.all.remove(old, IN | OUT)
    assert stage.masks == {9: bit}


@pytest.mark.parametrize("refusal", [FileNotFoundError, PermissionError])
def test_a_number_that_the_kernel_forgot_is_watched_anew_for_who_was_added_last(stage, refusal):
    """The older object has nothing but the number, and cannot tell that it is another file's."""
    old, new = Selectable(stage, name="old"), Selectable(stage, name="new")
    stage.all.add(old, IN)
    stage.script.refusals_to_modify[9] = refusal()
    stage.all.add(new, OUT)
    assert stage.masks == {9: OUT}
    assert (stage.all.readers(), stage.all.writers()) == ([], [new])


def test_what_the_kernel_refuses_to_watch_for_more_is_watched_as_before(stage):
    it, other = Selectable(stage), Selectable(stage, name="other")
    stage.all.add(it, IN)
    stage.script.refusals_to_modify[9] = OSError(errno.ENOMEM, "no memory")
    for each in (it, other):
        with pytest.raises(OSError, match="no memory"):
            stage.all.add(each, OUT)
    assert stage.masks == {9: IN}
    assert (stage.all.readers(), stage.all.writers()) == ([it], [])


def test_a_number_that_the_engine_had_in_between_is_watched_anew(stage):
    it, other, stream = Selectable(stage), Selectable(stage, name="other"), Watching()
    stage.all.add(it, IN)
    stage.loop.watch(9, stream, IN)
    stage.loop.unwatch(9)
    stage.all.add(other, OUT)
    assert stage.masks == {9: OUT}
    assert (stage.all.readers(), stage.all.writers()) == ([], [other])


def test_removing_one_wish_of_a_number_that_the_kernel_forgot_is_survived(stage):
    """Its other one is not told, as with epoll nobody is whose number was closed behind its back."""
    it, other = Selectable(stage), Selectable(stage, name="other")
    stage.all.add(it, IN)
    stage.all.add(other, OUT)
    it.answers["read"] = ValueError("mine")
    stage.script.refusals_to_modify[9] = OSError(errno.EBADF, "closed")
    stage.give((9, IN))
    assert [each[:2] for each in stage.told] == [("it", "read"), ("it", "lost")]
    stage.all.remove(other, OUT)
    assert stage.masks == {}


def test_an_object_whose_descriptor_was_closed_can_still_be_removed(stage):
    it = Selectable(stage)
    stage.all.add(it, IN)
    it.fd = -1
    stage.all.remove(it, IN)
    assert stage.masks == {}


def test_a_number_that_the_engine_got_meanwhile_is_left_alone(stage):
    """Closed behind our back, the number now is a connection's: removing the old object must not end that."""
    it, stream = Selectable(stage), Watching()
    stage.all.add(it, IN)
    stage.all.add(it, OUT)
    stage.loop.watch(9, stream, IN)
    stage.all.remove(it, OUT)
    assert stage.masks == {9: IN}
    stage.all.remove(it, IN)
    assert stage.masks == {9: IN}
    assert stage.loop.watchers[9] is stream


# ---- ending ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["read", "write"])
def test_an_exception_that_is_returned_ends_it_and_is_the_reason(stage, what):
    it = Selectable(stage)
    reason = ValueError("mine")
    it.answers[what] = reason
    stage.all.add(it, IN)
    stage.all.add(it, OUT)
    stage.give((9, IN if what == "read" else OUT))
    assert stage.told == [("it", what), ("it", "lost", reason)]
    assert stage.masks == {}


def test_anything_else_that_is_returned_ends_it_without_a_reason_of_its_own(stage):
    it = Selectable(stage)
    it.answers["read"] = -1
    stage.all.add(it, IN)
    stage.give((9, IN))
    assert stage.told == [("it", "read"), ("it", "lost", None)]


@pytest.mark.parametrize("what", ["read", "write"])
def test_what_it_raises_is_logged_and_ends_it(stage, what, caplog):
    reason = ValueError("on purpose")

    def bad():
        raise reason

    it = Selectable(stage)
    it.answers[what] = bad
    stage.all.add(it, IN if what == "read" else OUT)
    stage.give((9, IN if what == "read" else OUT))
    assert stage.told == [("it", what), ("it", "lost", reason)]
    assert "raised and is watched no more" in caplog.records[0].getMessage()


def test_reading_that_ends_it_keeps_the_writing_from_being_called(stage):
    it = Selectable(stage)
    it.answers["read"] = ValueError("mine")
    stage.all.add(it, IN)
    stage.all.add(it, OUT)
    stage.give((9, IN | OUT))
    assert ("it", "write") not in stage.told


def test_reading_may_put_another_writer_in_place_which_is_called_later(stage):
    reader, writer, other = (Selectable(stage, name=name) for name in ("reader", "writer", "other"))
    stage.all.add(reader, IN)
    stage.all.add(writer, OUT)

    def swap():
        stage.all.remove(writer, OUT)
        stage.all.add(other, OUT)

    reader.answers["read"] = swap
    stage.give((9, IN | OUT))
    assert stage.told == [("reader", "read")]
    stage.give((9, OUT))
    assert stage.told == [("reader", "read"), ("other", "write")]


HANG_UPS = pytest.mark.parametrize("event", [HUP, ERR, ERR | HUP, OUT | HUP, OUT | ERR])


@HANG_UPS
def test_B4_a_hang_up_with_nothing_to_read_ends_everybody_once_cleanly_for_the_reader(stage, event):
    reader, writer = Selectable(stage, name="reader"), Selectable(stage, name="writer")
    stage.all.add(reader, IN)
    stage.all.add(writer, OUT)
    stage.give((9, event))
    assert stage.told == [("reader", "lost", "cleanly"), ("writer", "lost", None)]
    assert stage.masks == {}


@HANG_UPS
def test_B4_one_that_reads_and_writes_is_told_of_a_hang_up_once(stage, event):
    it = Selectable(stage)
    stage.all.add(it, IN)
    stage.all.add(it, OUT)
    stage.give((9, event))
    assert stage.told == [("it", "lost", "cleanly")]


@HANG_UPS
def test_B4_one_that_only_writes_is_not_asked_to_write_once_more(stage, event):
    it = Selectable(stage)
    stage.all.add(it, OUT)
    stage.give((9, event))
    assert stage.told == [("it", "lost", None)]


def test_B4_a_writer_that_is_removed_when_the_reader_is_told_is_not_told(stage):
    reader, writer = Selectable(stage, name="reader"), Selectable(stage, name="writer")
    stage.all.add(reader, IN)
    stage.all.add(writer, OUT)
    lost = stage.all._lost
    stage.all._lost = lambda *what: (stage.all.remove(writer, OUT), lost(*what))
    stage.give((9, HUP))
    assert stage.told == [("reader", "lost", "cleanly")]


def test_B4_a_hang_up_with_something_to_read_is_read_first(stage):
    it = Selectable(stage)
    stage.all.add(it, IN)
    stage.give((9, IN | HUP))
    assert stage.told == [("it", "read")]


@pytest.mark.parametrize("bits", [IN, OUT, IN | OUT])
def test_the_reactor_s_shutdown_tells_it_once(stage, bits):
    it = Selectable(stage)
    for bit in (IN, OUT):
        if bits & bit:
            stage.all.add(it, bit)
    stage.loop.watchers[9].shut_down()
    assert stage.told == [("it", "lost", None)]
    assert stage.masks == {}
