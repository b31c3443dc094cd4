"""What a loop's copy does in a forked child, over fakes: it gives everything up and refuses what is asked. No fork here."""

from __future__ import annotations

import errno

import pytest

from ropewalk._loop import forked
from ropewalk._loop.forked import NoCalls, NoPoller
from ropewalk._loop.loop import IN
from tests.rooms.loop_fakes import Flushing, Watching, small_loop


class Disowned(Watching):
    """A watcher that notes whether it was given up."""

    def __init__(self, refusal=None):
        super().__init__()
        self.disowned = 0
        self.refusal = refusal

    def disown(self):
        self.disowned += 1
        if self.refusal is not None:
            raise self.refusal


@pytest.fixture
def child():
    """A loop with something of everything, its kernel and poller; then disowned, as in a child."""
    loop, kernel, script = small_loop()
    kernel.process = 78
    return loop, kernel, script


def test_E8_the_copy_gives_everything_up_and_asks_the_kernel_for_nothing(child):
    loop, kernel, script = child
    script.refusals[10] = PermissionError(errno.EPERM, "a regular file")
    watchers = [Disowned(), Disowned()]
    for fd, each in zip((9, 10), watchers, strict=True):
        loop.watch(fd, each, IN)
    loop.call_later(1, list)
    loop.call_soon(list)
    loop.due.append(Flushing(list))
    registered = dict(script.masks)
    loop.disown()
    assert [each.disowned for each in watchers] == [1, 1]
    assert script.masks == registered  # Rule: EPOLL_CTL_DEL would be felt by the parent.
    assert not script.is_open
    assert not kernel.reader.is_open
    assert not loop.has_work()
    assert loop.next_deadline() is None
    assert loop.watchers == {}


def test_E8_one_copy_that_was_closed_behind_our_back_keeps_no_other_open(child):
    loop, _, _ = child
    bad, good = Disowned(OSError(errno.EBADF, "closed")), Disowned()
    loop.watch(9, bad, IN)
    loop.watch(10, good, IN)
    loop.disown()
    assert (bad.disowned, good.disowned) == (1, 1)


def test_E8_whatever_is_asked_of_the_copy_names_both_processes(child):
    loop, _, _ = child
    loop.disown()
    assert loop.is_forked()
    for ask in (
        loop.enter,
        lambda: loop.check_thread_of("write"),
        lambda: loop.turn(0),
        lambda: loop.watch(9, Watching(), IN),
        lambda: loop.rewatch(9, Watching(), IN),
        lambda: loop.call_soon(list),
        lambda: loop.call_from_thread(list, (), None),
    ):
        with pytest.raises(RuntimeError, match=r"process 77, this is process 78.*make a new Reactor"):
            ask()


def test_E8_what_the_child_still_returns_through_changes_nothing(child):
    loop, _, _ = child
    before = loop.enter()
    loop.disown()
    loop.leave(before)
    assert loop.is_forked()
    loop.unwatch(9)
    loop.close()
    assert loop.is_forked()


def test_E8_a_child_made_in_the_middle_of_a_batch_handles_no_more_of_it(child):
    loop, _, script = child
    second = Watching()
    loop.watch(9, Watching(lambda event: loop.disown()), IN)
    loop.watch(10, second, IN)
    loop.turn(0)
    script.batches.append([(9, IN), (10, IN)])
    loop.turn(None)
    assert second.events == []


def test_every_loop_that_was_not_closed_is_known_and_disowned(child, monkeypatch):
    loop, _, _ = child
    closed = small_loop()[0]
    closed.close()
    assert loop in forked.loops
    assert closed not in forked.loops
    monkeypatch.setattr(forked, "loops", [loop])
    forked._disown_all()
    assert loop.is_forked()


def test_a_poller_that_is_gone_refuses_what_needs_one_and_lets_go_of_all():
    poller = NoPoller("why")
    for ask in (lambda: poller.register(1, IN), lambda: poller.modify(1, IN), lambda: poller.poll(0, 1)):
        with pytest.raises(RuntimeError, match="why"):
            ask()
    poller.unregister(1)
    poller.close()


def test_a_queue_that_nobody_serves_takes_no_calls():
    calls = NoCalls("why")
    with pytest.raises(RuntimeError, match="why"):
        calls.append((list, (), None))
    assert not calls
