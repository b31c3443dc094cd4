"""The loop by itself, over a poller that says what the test wants: the order of a turn, who is called, how long it waits."""

from __future__ import annotations

import errno
import logging
import threading

import pytest

from ropewalk._loop.loop import IN, OUT
from ropewalk._loop.poller import LONGEST_WAIT
from tests.rooms.loop_fakes import Flushing, Watching, small_loop


def raising(kind=ValueError):
    def act(*args):
        raise kind("on purpose")

    return act


# ---- the order of a turn --------------------------------------------------------------------------------------------


def test_a_turn_makes_calls_then_timers_then_flushes_then_waits_then_dispatches():
    loop, _, script = small_loop()
    told = []
    loop.due.append(Flushing(lambda: told.append("flush")))
    loop.call_later(0, told.append, "timer")
    loop.watch(9, Watching(lambda event: told.append("ready")), IN)
    script.batches.append([(9, IN)])
    script.meanwhile = lambda: told.append("wait")
    loop.call_soon(told.append, "call")
    loop.turn(None)
    # Why flush before timer: `_run_calls` settles what its calls left, and what was there before.
    assert told == ["call", "flush", "timer", "wait", "ready"]


def test_each_handler_is_flushed_before_the_next_one_is_called():
    loop, _, script = small_loop()
    told = []

    def handler(name):
        def act(event):
            told.append(name)
            loop.due.append(Flushing(lambda: told.append(f"flush {name}")))

        return act

    for fd in (9, 10):
        loop.watch(fd, Watching(handler(str(fd))), IN)
    loop.turn(0)
    script.batches.append([(9, IN), (10, IN)])
    loop.turn(None)
    assert told == ["9", "flush 9", "10", "flush 10"]


def test_several_that_became_due_in_one_handler_are_flushed_in_order():
    loop, _, script = small_loop()
    told = []
    loop.watch(
        9, Watching(lambda event: loop.due.extend(Flushing(lambda n=n: told.append(n)) for n in "abc")), IN
    )
    loop.turn(0)
    script.batches.append([(9, IN)])
    loop.turn(None)
    assert told == ["a", "b", "c"]
    assert not loop.due


def test_what_becomes_due_while_settling_waits_for_the_next_settling():
    loop, _, _ = small_loop()
    told = []

    def again():
        told.append("first")
        loop.due.append(Flushing(lambda: told.append("second")))

    loop.due.append(Flushing(again))
    loop.settle()
    assert told == ["first"]
    loop.settle()
    assert told == ["first", "second"]


def test_calls_left_during_the_turn_wait_for_the_next_one():
    loop, _, _ = small_loop()
    told = []
    loop.call_soon(lambda: (told.append(1), loop.call_soon(told.append, 2)))
    loop.turn(0)
    assert told == [1]
    loop.turn(0)
    assert told == [1, 2]


def test_a_call_may_turn_the_loop_itself_and_no_call_is_made_twice():
    loop, _, _ = small_loop()
    told = []
    loop.call_soon(lambda: loop.turn(0))
    loop.call_soon(told.append, "second")
    loop.turn(0)
    assert told == ["second"]


# ---- how long it waits ----------------------------------------------------------------------------------------------


def test_with_nothing_to_do_it_waits_for_ever():
    loop, _, script = small_loop()
    loop.turn(None)
    assert script.timeouts == [None]


def test_it_waits_no_longer_than_told():
    loop, _, script = small_loop()
    loop.call_later(9, list)
    loop.turn(2.5)
    assert script.timeouts == [2.5]


@pytest.mark.parametrize("most", [None, 100.0])
def test_it_waits_until_the_next_timer(most):
    loop, _, script = small_loop()
    loop.call_later(9, list)
    loop.call_later(7, list)
    loop.turn(most)
    assert script.timeouts == [7]


def test_a_timer_that_came_due_meanwhile_is_not_a_negative_wait():
    loop, kernel, script = small_loop()
    loop.call_later(7, list)

    def late():
        kernel.time += 8

    loop.due.append(Flushing(late))
    loop.turn(None)
    assert script.timeouts == [0]


def test_no_wait_is_longer_than_pollers_can_count():
    loop, _, script = small_loop()
    loop.call_later(1e9, list)
    loop.turn(None)
    loop.turn(1e8)
    assert script.timeouts == [LONGEST_WAIT, LONGEST_WAIT]


@pytest.mark.parametrize("left", ["a call", "something due", "a file"])
def test_it_does_not_wait_while_there_is_something_to_do(left):
    loop, _, script = small_loop()
    script.refusals[9] = PermissionError(errno.EPERM, "a regular file")

    def leave():
        if left == "a call":
            loop.call_soon(list)
        elif left == "something due":
            loop.due.append(Flushing(lambda: None))
        else:
            loop.watch(9, Watching(), IN)

    loop.due.append(Flushing(leave))
    assert loop.has_work()
    loop.turn(None)
    assert script.timeouts == [0]


def test_do_not_wait_ends_the_turn_without_waiting():
    loop, _, script = small_loop()
    loop.due.append(Flushing(loop.do_not_wait))
    loop.turn(None)
    assert script.timeouts == [0]
    loop.turn(0)
    assert not loop.has_work()


def test_the_next_deadline_is_that_of_the_first_living_timer():
    loop, kernel, _ = small_loop()
    assert loop.next_deadline() is None
    loop.call_later(3, list).cancel()
    loop.call_later(5, list)
    assert loop.next_deadline() == kernel.time + 5


# ---- waking ---------------------------------------------------------------------------------------------------------


def test_a_call_from_a_thread_wakes_the_loop_once_while_it_sleeps():
    loop, kernel, script = small_loop()
    told = []

    def thread():
        for each in "abc":
            loop.call_from_thread(told.append, (each,), None)

    script.meanwhile = thread
    loop.turn(None)
    assert kernel.reader.waiting == b"\0"
    script.meanwhile = int
    script.batches.append([(3, IN)])
    loop.turn(None)
    assert told == ["a", "b", "c"]
    assert kernel.reader.waiting == b""


def test_a_call_left_while_the_loop_is_awake_costs_no_wake_up():
    loop, kernel, script = small_loop()
    loop.call_soon(lambda: loop.call_from_thread(list, (), None))
    loop.turn(None)
    assert kernel.reader.waiting == b""
    assert script.timeouts == [0]


def test_calls_carry_arguments_and_keywords():
    loop, _, _ = small_loop()
    told = []
    loop.call_from_thread(lambda *args, **kw: told.append((args, kw)), (1, 2), {"key": 3})
    loop.turn(0)
    assert told == [((1, 2), {"key": 3})]


# ---- who is told ----------------------------------------------------------------------------------------------------


def test_an_event_for_a_descriptor_unwatched_in_the_same_batch_reaches_nobody():
    loop, _, script = small_loop()
    second = Watching()
    loop.watch(9, Watching(lambda event: loop.unwatch(10)), IN)
    loop.watch(10, second, IN)
    loop.turn(0)
    script.batches.append([(9, IN), (10, IN)])
    loop.turn(None)
    assert second.events == []


def test_B6_an_event_does_not_reach_one_that_was_watched_anew_in_the_same_batch():
    loop, _, script = small_loop()
    new = Watching()

    def reuse(event):
        loop.unwatch(10)
        loop.watch(10, new, IN)

    loop.watch(9, Watching(reuse), IN)
    loop.watch(10, Watching(), IN)
    loop.turn(0)
    script.batches += [[(9, IN), (10, IN)], [(10, IN)]]
    loop.turn(None)
    assert new.events == []
    loop.turn(None)
    assert new.events == [IN]


def test_rewatching_changes_who_is_told_and_of_what():
    loop, _, script = small_loop()
    old, new = Watching(), Watching()
    loop.watch(9, old, IN)
    loop.rewatch(9, new, OUT)
    assert script.masks[9] == OUT
    loop.turn(0)
    script.batches.append([(9, OUT)])
    loop.turn(None)
    assert (old.events, new.events) == ([], [OUT])


def test_a_number_that_a_copy_still_holds_is_watched_anew():
    loop, _, script = small_loop()
    script.refusals[9] = FileExistsError(errno.EEXIST, "there already")
    loop.watch(9, Watching(), OUT)
    assert script.masks[9] == OUT


def test_what_the_kernel_will_not_watch_is_told_and_leaves_nothing():
    loop, _, script = small_loop()
    script.refusals[9] = OSError(errno.ENOSPC, "no room")
    with pytest.raises(OSError, match="no room"):
        loop.watch(9, Watching(), IN)
    assert 9 not in loop.watchers


def test_a_number_that_the_poller_cannot_hold_is_one_descriptor_too_many():
    loop, _, script = small_loop()
    script.refusals[9] = ValueError("select() cannot watch descriptor 9")
    with pytest.raises(OSError, match="cannot watch") as raised:
        loop.watch(9, Watching(), IN)
    assert raised.value.errno == errno.EMFILE
    assert 9 not in loop.watchers


def test_unwatching_what_is_not_watched_is_nothing():
    loop, _, _ = small_loop()
    loop.unwatch(9)


def test_what_went_wrong_in_the_poller_is_raised():
    loop, _, script = small_loop()
    script.meanwhile = raising(OSError)
    with pytest.raises(OSError, match="on purpose"):
        loop.turn(None)


# ---- B10: regular files ---------------------------------------------------------------------------------------------


@pytest.fixture
def with_file():
    loop, kernel, script = small_loop()
    script.refusals[9] = PermissionError(errno.EPERM, "a regular file")
    return loop, kernel, script


def test_B10_a_file_is_ready_in_every_turn_for_what_it_is_watched_for(with_file):
    loop, _, script = with_file
    file = Watching()
    loop.watch(9, file, IN)
    loop.turn(None)
    loop.rewatch(9, file, IN | OUT)
    loop.turn(None)
    assert file.events == [IN, IN | OUT]
    loop.rewatch(9, file, 0)
    loop.turn(None)
    assert file.events == [IN, IN | OUT]
    loop.unwatch(9)
    loop.turn(None)
    assert script.timeouts == [0, 0, 0, None]
    assert 9 not in script.masks


def test_B10_a_file_unwatched_by_another_file_s_handler_is_not_called(with_file):
    loop, _, script = with_file
    script.refusals[10] = script.refusals[9]
    second = Watching()
    loop.watch(9, Watching(lambda event: loop.unwatch(10)), IN)
    loop.watch(10, second, IN)
    loop.turn(None)
    assert second.events == []


def test_B10_what_a_file_s_handler_left_is_flushed_at_once(with_file):
    loop, _, _ = with_file
    told = []
    loop.watch(9, Watching(lambda event: loop.due.append(Flushing(lambda: told.append("flushed")))), IN)
    loop.turn(None)
    assert told == ["flushed"]


# ---- user code that raises ------------------------------------------------------------------------------------------


def test_what_a_call_raises_is_logged_and_stops_no_other(caplog):
    loop, _, _ = small_loop()
    told = []
    loop.call_soon(raising())
    loop.call_soon(told.append, "next")
    loop.turn(0)
    assert told == ["next"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "made on the reactor's thread" in record.getMessage()
    assert record.exc_info[0] is ValueError


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["call", "timer", "descriptor", "file", "settling"])
def test_what_is_raised_to_leave_leaves_the_turn_after_the_books_are_done(where, kind, caplog):
    loop, _, script = small_loop()
    told = []

    def leave(*args):
        loop.due.append(Flushing(lambda: told.append("flushed")))
        assert loop.call_user(raising(kind)) is False

    if where == "call":
        loop.call_soon(leave)
    elif where == "timer":
        loop.call_later(0, leave)
    elif where == "settling":
        loop.due.append(Flushing(leave))
    elif where == "descriptor":
        loop.watch(9, Watching(leave), IN)
        loop.turn(0)
        script.batches.append([(9, IN)])
    else:
        script.refusals[9] = PermissionError(errno.EPERM, "a regular file")
        loop.watch(9, Watching(leave), IN)
    with pytest.raises(kind, match="on purpose"):
        loop.turn(None)
    loop.unwatch(9)
    loop.turn(0)
    assert told == ["flushed"]
    assert caplog.records == []


def test_a_call_that_raises_to_leave_leaves_the_later_calls_for_later():
    loop, _, _ = small_loop()
    told = []
    loop.call_soon(raising(SystemExit))
    loop.call_soon(told.append, "later")
    with pytest.raises(SystemExit):
        loop.turn(None)
    assert told == []
    loop.turn(0)
    assert told == ["later"]


def test_call_user_tells_whether_it_returned(caplog):
    loop, _, _ = small_loop()
    assert loop.call_user(list) is True
    assert loop.call_user(raising()) is False
    assert len(caplog.records) == 1


# ---- whose loop it is -----------------------------------------------------------------------------------------------


def in_a_thread(act):
    """What it raised in a thread of its own."""
    caught = []

    def run():
        try:
            act()
        except BaseException as exc:
            caught.append(exc)

    thread = threading.Thread(target=run, name="the other")
    thread.start()
    thread.join()
    return caught[0] if caught else None


def test_at_rest_any_thread_may_ask():
    loop, _, _ = small_loop()
    assert in_a_thread(lambda: loop.check_thread_of("write")) is None


def test_a_wrong_thread_is_told_both_names():
    loop, _, _ = small_loop()
    before = loop.enter()
    refusal = in_a_thread(lambda: loop.check_thread_of("write"))
    assert isinstance(refusal, RuntimeError)
    assert str(refusal).startswith("write: called from thread 'the other'")
    assert threading.current_thread().name in str(refusal)
    assert isinstance(in_a_thread(loop.enter), RuntimeError)
    loop.check_thread_of("write")
    loop.leave(before)
    assert in_a_thread(lambda: loop.check_thread_of("write")) is None


def test_threads_that_nobody_knows_are_shown_all_the_same():
    loop, _, _ = small_loop()
    loop.thread = 12345
    with pytest.raises(RuntimeError, match=r"thread '\?' \(12345\)"):
        loop.check_thread_of("write")


def test_turning_the_loop_within_its_own_handler_drops_the_rest_of_the_batch():
    loop, _, script = small_loop()
    second = Watching()

    def turn(event):
        before = loop.enter()
        loop.turn(0)
        loop.leave(before)

    loop.watch(9, Watching(turn), IN)
    loop.watch(10, second, IN)
    before = loop.enter()
    loop.turn(0)
    script.batches += [[(9, IN), (10, IN)], []]
    loop.turn(None)
    loop.leave(before)
    assert second.events == []


# ---- the end --------------------------------------------------------------------------------------------------------


def test_closing_gives_the_poller_and_the_waker_back_and_twice_is_fine():
    loop, kernel, script = small_loop()
    loop.close()
    loop.close()
    assert not script.is_open
    assert not kernel.reader.is_open
    assert not kernel.writer.is_open
    assert script.masks == {}


def test_a_closed_loop_says_so_whatever_is_asked():
    loop, _, _ = small_loop()
    loop.watch(9, Watching(), IN)
    loop.close()
    for ask in (
        lambda: loop.turn(0),
        lambda: loop.watch(10, Watching(), IN),
        lambda: loop.rewatch(9, Watching(), OUT),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            ask()
    loop.unwatch(9)


def test_a_loop_that_is_dropped_gives_back_what_it_holds():
    loop, kernel, script = small_loop()
    # Why: its poller keeps nothing of it, and no cycle does; the last reference is this one.
    del loop
    assert not script.is_open
    assert not kernel.reader.is_open


def test_a_loop_whose_making_failed_is_dropped_without_a_word():
    from ropewalk._loop.loop import Loop

    _, kernel, script = small_loop()

    def refuse():
        raise OSError(errno.EMFILE, "no descriptor left")

    kernel.socket_pair = refuse
    with pytest.raises(OSError, match="no descriptor"):
        Loop(kernel, script)


def test_the_end_that_signals_write_to_is_the_waker_s_other_one():
    loop, kernel, _ = small_loop()
    assert loop.signal_fileno() == kernel.writer.fd
