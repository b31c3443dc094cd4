"""What the rooms of _net share: numbers, observers, and who is told when the reactor stops. Over a loop of fakes."""

from __future__ import annotations

import pytest

from ropewalk._loop.loop import IN
from ropewalk._net.core import _SHUTDOWN_PASSES, Core, shown_safely
from ropewalk.event import Event, Step
from ropewalk.words import WORDS
from tests.rooms.loop_fakes import Watching, small_loop
from tests.rooms.test_loop import raising


class End(Watching):
    """Something open: told of the shutdown, it leaves, and does what the test wants."""

    def __init__(self, core, name, act=lambda: None, fd=None):
        super().__init__()
        self.core, self.name, self.act, self.fd = core, name, act, fd
        self.disowned = 0
        if fd is None:
            core.open_ends[self] = None
        else:
            core.loop.watch(fd, self, IN)

    def shut_down(self):
        self.core.told.append(self.name)
        if self.fd is None:
            self.core.open_ends.pop(self, None)
        else:
            self.core.loop.unwatch(self.fd)
        self.act()

    def disown(self):
        self.disowned += 1


class NotedCore(Core):
    __slots__ = ("told",)


@pytest.fixture
def core():
    loop, _, _ = small_loop()
    core = NotedCore(loop, None, WORDS, "the reactor")
    core.told = []
    return core


def test_numbers_count_from_one_and_never_come_again(core):
    assert [core.next_number() for _ in range(3)] == [1, 2, 3]


def test_an_event_carries_the_time_the_number_and_the_facts(core):
    got = []
    core.observers.append(got.append)
    core.report(7, Step.CLOSING, buffered=3)
    assert got == [Event(1000.0, 7, Step.CLOSING, {"buffered": 3})]


def test_every_observer_is_told_though_one_raises(core, caplog):
    got = []
    core.observers += [raising(), got.append]
    core.report(1, Step.PAUSED)
    assert len(got) == len(caplog.records) == 1


def test_an_observer_may_go_and_others_may_come_while_one_is_told(core):
    got = []

    def once(event):
        got.append("once")
        core.observers.remove(once)
        core.observers.append(lambda event: got.append("new"))

    core.observers += [once, lambda event: got.append("second")]
    core.report(1, Step.PAUSED)
    assert got == ["once", "second"]


def test_with_nothing_open_a_shutdown_is_nothing(core, caplog):
    core.shut_down()
    assert caplog.records == []


def test_everybody_is_told_once_watched_or_not_the_oldest_first(core):
    End(core, "watched 1", fd=9)
    End(core, "watched 2", fd=10)
    End(core, "open 1")
    End(core, "open 2")
    core.shut_down()
    assert core.told == ["watched 1", "watched 2", "open 1", "open 2"]


@pytest.mark.parametrize("fd", [None, 11], ids=["not watched", "watched"])
def test_what_is_made_meanwhile_is_told_too(core, fd):
    End(core, "first", lambda: End(core, "made meanwhile", fd=fd))
    core.shut_down()
    assert core.told == ["first", "made meanwhile"]


def test_who_makes_new_ones_without_end_is_told_of_and_left(core, caplog):
    def again():
        is_last.append(core.is_last_pass)
        End(core, "again", again)

    is_last = []
    again()
    core.shut_down()
    assert len(core.told) == _SHUTDOWN_PASSES
    assert is_last == [False] * _SHUTDOWN_PASSES + [True]
    assert not core.is_last_pass
    (record,) = caplog.records
    assert "keep making new connections" in record.getMessage()


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_one_that_raises_when_it_is_told_keeps_no_other_from_being_told(core, kind, caplog):
    End(core, "bad", raising(kind))
    End(core, "good")
    core.shut_down()
    assert core.told == ["bad", "good"]
    assert len(caplog.records) == (kind is ValueError)
    if kind is SystemExit:
        with pytest.raises(SystemExit):
            core.loop.settle()


def test_what_cannot_show_itself_is_shown_by_its_kind():
    class Shy:
        def __repr__(self):
            raise ValueError("on purpose")

    assert shown_safely([1]) == "[1]"
    assert shown_safely(Shy()) == "<Shy, whose repr raised ValueError>"


def test_E8_in_a_forked_child_those_that_are_not_watched_are_given_up_too(core):
    ends = [End(core, "watched", fd=9), End(core, "open")]
    core.loop.disown()
    assert [each.disowned for each in ends] == [1, 1]
    assert core.told == []
