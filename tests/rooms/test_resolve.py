"""Look-ups over a system that answers when the test says: how many run, which wait, what becomes of the forgotten."""

from __future__ import annotations

import errno
import socket

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ropewalk._net.resolve import (
    _FRESH_MOST,
    _RUNNING_MOST,
    _SLOW_AFTER,
    Resolver,
    checked_host,
    port_number,
)
from ropewalk.error import ServiceNameUnknownError
from tests.rooms.loop_fakes import small_loop


class Names:
    """A system whose look-ups are answered by the test."""

    def __init__(self):
        self.asked = {}
        self.refusal = None

    def look_up(self, host, port, family, kind, done):
        if self.refusal is not None:
            raise self.refusal
        assert (family, kind) == (socket.AF_UNSPEC, socket.SOCK_STREAM)
        self.asked[host] = done

    def answer(self, host, result="rows"):
        self.asked.pop(host)(result)

    def service_port(self, name, protocol):
        if name == "echo":
            return 7
        raise OSError(errno.ENOENT, "service/proto not found")


class Stage:
    def __init__(self):
        self.loop, self.kernel, self.script = small_loop()
        self.names = Names()
        self.resolver = Resolver(self.loop, self.names)
        self.told = []

    def ask(self, host, timeout=None):
        return self.resolver.ask(host, 80, lambda result: self.told.append((host, result)), timeout)

    def turn(self):
        self.loop.turn(0)

    def wait(self, seconds):
        self.kernel.time += seconds
        self.turn()

    @property
    def under_way(self):
        return list(self.names.asked)


@pytest.fixture
def stage():
    return Stage()


# ---- one look-up ----------------------------------------------------------------------------------------------------


def test_an_answer_comes_on_the_loop_and_never_from_within_asking(stage):
    stage.ask("name")
    stage.names.answer("name", ["row"])
    assert stage.told == []
    stage.turn()
    assert stage.told == [("name", ["row"])]
    assert stage.loop.next_deadline() is None


def test_what_a_resolver_raises_is_an_answer_like_any_other(stage):
    stage.names.refusal = RuntimeError("can't start new thread")
    stage.ask("name")
    assert stage.told == []
    stage.turn()
    assert stage.told == [("name", stage.names.refusal)]
    assert not stage.resolver._running


def test_an_answer_nobody_wants_any_more_is_dropped(stage):
    look_up = stage.ask("name")
    look_up.cancel()
    stage.names.answer("name")
    stage.turn()
    assert stage.told == []
    assert stage.loop.next_deadline() is None


def test_cancelling_twice_or_after_the_answer_is_nothing(stage):
    look_up = stage.ask("name")
    stage.names.answer("name")
    stage.turn()
    look_up.cancel()
    look_up.cancel()
    assert stage.told == [("name", "rows")]
    assert stage.resolver._fresh == 0


def test_an_answer_may_ask_again(stage):
    stage.resolver.ask("first", 80, lambda result: stage.ask("second"))
    stage.names.answer("first")
    stage.turn()
    assert stage.under_way == ["second"]


# ---- how long -------------------------------------------------------------------------------------------------------


def test_a_look_up_that_takes_longer_than_it_may_is_told_once(stage):
    stage.ask("name", timeout=5)
    stage.wait(4.9)
    assert stage.told == []
    stage.wait(0.2)
    ((host, exc),) = stage.told
    assert (host, type(exc), str(exc)) == ("name", TimeoutError, "no answer in time")
    stage.names.answer("name")
    stage.turn()
    assert len(stage.told) == 1
    assert stage.resolver._fresh == 0
    assert stage.loop.next_deadline() is None


def test_the_time_of_a_look_up_counts_from_when_it_has_a_thread(stage):
    ask_many(stage, _FRESH_MOST, "stuck")
    stage.ask("name", timeout=_SLOW_AFTER / 2)
    stage.wait(_SLOW_AFTER)
    assert stage.told == []
    stage.names.answer("name")
    stage.turn()
    assert stage.told == [("name", "rows")]


@pytest.mark.parametrize("end", ["answered", "cancelled"])
def test_one_that_ended_in_time_leaves_no_timer(stage, end):
    look_up = stage.ask("name", timeout=5)
    if end == "answered":
        stage.names.answer("name")
        stage.turn()
    else:
        look_up.cancel()
    assert stage.loop.next_deadline() is None


# ---- how many at once -----------------------------------------------------------------------------------------------


def ask_many(stage, count, name="name"):
    return [stage.ask(f"{name}{number}") for number in range(count)]


def test_a_bounded_number_runs_the_rest_wait_in_order(stage):
    ask_many(stage, _FRESH_MOST + 2)
    assert stage.under_way == [f"name{number}" for number in range(_FRESH_MOST)]
    stage.names.answer("name3")
    stage.turn()
    assert stage.under_way[-1] == f"name{_FRESH_MOST}"
    assert f"name{_FRESH_MOST + 1}" not in stage.under_way


def test_E1_slow_ones_delay_nobody_else(stage):
    ask_many(stage, _FRESH_MOST, "dead")
    stage.ask("alive")
    assert "alive" not in stage.under_way
    stage.wait(_SLOW_AFTER)
    assert "alive" in stage.under_way


def test_E1_a_slow_one_that_answers_after_all_frees_no_place_twice(stage):
    ask_many(stage, _FRESH_MOST, "slow")
    stage.wait(_SLOW_AFTER)
    assert stage.resolver._fresh == 0
    for host in stage.under_way:
        stage.names.answer(host)
    stage.turn()
    assert stage.resolver._fresh == 0
    ask_many(stage, _FRESH_MOST + 1)
    assert len(stage.under_way) == _FRESH_MOST


def test_E1_a_cancelled_one_makes_room_at_once(stage):
    look_ups = ask_many(stage, _FRESH_MOST, "dead")
    stage.ask("alive")
    look_ups[0].cancel()
    assert "alive" in stage.under_way
    assert stage.resolver._fresh == _FRESH_MOST


def test_one_that_waits_and_is_cancelled_never_runs(stage):
    ask_many(stage, _FRESH_MOST)
    stage.ask("forgotten").cancel()
    stage.ask("kept")
    stage.names.answer("name0")
    stage.turn()
    assert "forgotten" not in stage.under_way
    assert "kept" in stage.under_way


def test_there_is_a_bound_for_the_slow_ones_too(stage):
    for _ in range(_RUNNING_MOST // _FRESH_MOST + 2):
        ask_many(stage, _FRESH_MOST, f"dead{stage.kernel.time} ")
        stage.wait(_SLOW_AFTER)
    assert len(stage.under_way) == _RUNNING_MOST
    stage.names.answer(stage.under_way[0])
    stage.turn()
    assert len(stage.under_way) == _RUNNING_MOST


def test_a_user_who_cancels_every_timer_breaks_nothing(stage):
    stage.ask("name")
    for call in stage.loop.timers.living():
        call.cancel()
    stage.names.answer("name")
    stage.turn()
    assert stage.told == [("name", "rows")]
    assert stage.resolver._fresh == 0


class ResolverAgainstCounts(RuleBasedStateMachine):
    """Rule: every question is answered once or cancelled; the bounds hold; what can run does."""

    def __init__(self):
        super().__init__()
        self.stage = Stage()
        self.open = {}
        self.number = 0

    @rule()
    def ask(self):
        self.number += 1
        host = f"name{self.number}"
        self.open[host] = self.stage.ask(host)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cancel(self, data):
        self.open.pop(data.draw(st.sampled_from(sorted(self.open)))).cancel()

    @precondition(lambda self: self.stage.under_way)
    @rule(data=st.data())
    def answer(self, data):
        host = data.draw(st.sampled_from(self.stage.under_way))
        self.stage.names.answer(host)
        self.stage.turn()
        assert (self.stage.told[-1:] == [(host, "rows")]) is (self.open.pop(host, None) is not None)
        self.stage.told.clear()

    @rule()
    def time_passes(self):
        self.stage.wait(_SLOW_AFTER)

    @invariant()
    def the_books_are_right(self):
        resolver = self.stage.resolver
        assert len(resolver._running) == len(self.stage.under_way)
        assert resolver._fresh == sum(each.is_fresh for each in resolver._running) <= _FRESH_MOST
        assert not resolver._waiting or resolver._fresh == _FRESH_MOST
        assert self.stage.told == []


ResolverAgainstCounts.TestCase.settings = settings(max_examples=30, stateful_step_count=60)
test_the_books_of_a_resolver_are_right_whatever_is_asked = ResolverAgainstCounts.TestCase


# ---- hosts and ports ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["", "name", "192.0.2.1", "::1", "bücher.example"])
def test_a_host_is_a_str(host):
    assert checked_host(host) == host


def test_a_host_may_be_ascii_bytes():
    assert checked_host(b"name") == "name"


@pytest.mark.parametrize("host", [None, 7, ["name"]])
def test_anything_else_is_a_TypeError_that_shows_it(host):
    with pytest.raises(TypeError, match=f"not {type(host).__name__}"):
        checked_host(host)


@pytest.mark.parametrize("host", ["a\0b", b"a\0b", b"b\xfccher"])
def test_what_no_host_can_be_is_a_ValueError(host):
    with pytest.raises(ValueError):
        checked_host(host)


@pytest.mark.parametrize("port", [0, 1, 65535])
def test_a_port_is_a_number(port):
    assert port_number(port, "tcp", Names()) == port


def test_a_port_may_be_a_service():
    assert port_number("echo", "tcp", Names()) == 7


def test_an_unknown_service_is_told_by_name_with_its_cause():
    with pytest.raises(ServiceNameUnknownError, match="'ehco'") as raised:
        port_number("ehco", "tcp", Names())
    assert isinstance(raised.value.__cause__, OSError)


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_a_port_out_of_range_is_a_ValueError(port):
    with pytest.raises(ValueError, match=f"0 to 65535, not {port}"):
        port_number(port, "tcp", Names())


@pytest.mark.parametrize("port", [None, 1.5, True, b"echo"])
def test_a_port_that_is_no_number_is_a_TypeError(port):
    with pytest.raises(TypeError, match="number or a service name"):
        port_number(port, "tcp", Names())
