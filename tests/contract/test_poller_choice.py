"""Which poller is chosen, and the turns of those whom the kernel reports all at once."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk._loop.poller import ERR, HUP, IN, OUT, available, choose, fair_share
from tests.contract.fake_kqueue import FakeKqueueModule


def test_the_best_one_is_chosen_when_none_is_named() -> None:
    each = choose(None)
    assert each.name == available()[0]
    each.close()


@pytest.mark.parametrize("kind", ["iocp", "", "Epoll", "devpoll"])
def test_an_unknown_name_is_refused_with_what_is_available(kind: str) -> None:
    with pytest.raises(ValueError) as refusal:
        choose(kind)
    assert repr(kind) in str(refusal.value)
    for name in available():
        assert name in str(refusal.value)


def test_a_known_name_this_platform_lacks_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "poll")
    with pytest.raises(ValueError, match="no poller 'poll' here; available: "):
        choose("poll")


def test_kqueue_is_found_where_the_platform_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeKqueueModule()
    for name in dir(fake):
        if name.startswith("KQ_") or name in ("kqueue", "kevent"):
            monkeypatch.setattr(select, name, getattr(fake, name), raising=False)
    assert "kqueue" in available()
    each = choose("kqueue")
    assert each.name == "kqueue"
    each.close()


def refusing(number: int) -> Callable[[], Any]:
    def refuse() -> Any:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_a_kernel_that_refuses_the_best_one_gives_the_next(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    best, second = available()[:2]
    monkeypatch.setattr(select, best, refusing(number))
    each = choose(None)
    assert each.name == second
    each.close()


def test_select_is_what_is_left_when_all_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in available()[:-1]:
        monkeypatch.setattr(select, name, refusing(errno.ENOSYS))
    assert choose(None).name == "select"


def test_A1_no_descriptor_left_is_the_callers_news_and_not_hidden_by_a_slower_poller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(select, available()[0], refusing(errno.EMFILE))
    with pytest.raises(OSError) as refusal:
        choose(None)
    assert refusal.value.errno == errno.EMFILE


def test_one_asked_for_by_name_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "poll", refusing(errno.ENOSYS))
    with pytest.raises(OSError) as refusal:
        choose("poll")
    assert refusal.value.errno == errno.ENOSYS


def test_the_bits_are_those_of_the_kernel() -> None:
    assert (IN, OUT, ERR, HUP) == (select.POLLIN, select.POLLOUT, select.POLLERR, select.POLLHUP)


# Turns, where the kernel gives all at once


@given(
    ready=st.lists(st.sets(st.integers(0, 9)), max_size=40),
    limit=st.integers(1, 11),
)
def test_fair_share_serves_whoever_stays_ready_within_a_bounded_number_of_polls(
    ready: list[set[int]], limit: int
) -> None:
    waiting: dict[int, None] = {}
    passed_over = dict.fromkeys(range(10), 0)
    bound = -(-10 // limit)
    for fds in ready:
        rows = [(fd, IN) for fd in sorted(fds)]
        shared = fair_share(rows, limit, waiting)
        served = {fd for fd, _ in shared}
        assert len(shared) == len(served) == min(limit, len(rows))
        assert served <= fds
        assert set(waiting) == fds - served
        for fd in passed_over:
            passed_over[fd] = passed_over[fd] + 1 if fd in fds and fd not in served else 0
        assert max(passed_over.values()) < bound
