"""The waker alone: a full pair is an awake loop, an empty one is drained, and any other error is told."""

from __future__ import annotations

import errno

import pytest

from ropewalk._loop.waker import _DRAIN_SIZE, Waker
from tests.rooms.loop_fakes import Kernel


@pytest.fixture
def kernel():
    return Kernel()


@pytest.fixture
def waker(kernel):
    return Waker(kernel.socket_pair())


def test_waking_makes_the_reading_end_readable(kernel, waker):
    waker.wake()
    assert kernel.reader.waiting == b"\0"


def test_one_read_takes_what_many_wake_ups_left(kernel, waker):
    for _ in range(5):
        waker.wake()
    waker.ready(1)
    assert kernel.reader.waiting == b""


def test_E4_a_full_pair_is_no_error(kernel, waker):
    for _ in range(100):
        waker.wake()
    assert len(kernel.reader.waiting) == kernel.writer.capacity


def test_E4_more_than_one_read_holds_is_drained_whole(kernel, waker):
    kernel.reader.waiting = b"\0" * (2 * _DRAIN_SIZE)
    waker.ready(1)
    assert kernel.reader.waiting == b""


def test_being_ready_for_nothing_is_no_error(waker):
    waker.ready(1)


def test_a_wake_up_that_is_lost_is_told_and_not_swallowed(kernel, waker):
    kernel.writer.error = errno.EPIPE
    with pytest.raises(BrokenPipeError):
        waker.wake()


def test_it_tells_both_numbers(kernel, waker):
    assert waker.fileno() == kernel.reader.fd
    assert waker.signal_fileno() == kernel.writer.fd


def test_the_reactor_s_shutdown_leaves_it_open_and_closing_closes_both_ends(kernel, waker):
    waker.shut_down()
    assert kernel.reader.is_open
    assert kernel.writer.is_open
    waker.close()
    assert not kernel.reader.is_open
    assert not kernel.writer.is_open
