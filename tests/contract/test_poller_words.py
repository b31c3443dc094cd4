"""Below the contract: each mechanism's own words, scripted at the kernel's edge, and what we make of them.

Flag combinations, refusals and Windows' ways, which cannot be brought about on a real descriptor here.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk._loop.epoll import Epoll
from ropewalk._loop.kqueue import Kqueue
from ropewalk._loop.poll import Poll
from ropewalk._loop.poller import ERR, HUP, IN, LONGEST_WAIT, OUT
from ropewalk._loop.select import Select
from tests.contract.fake_kqueue import FakeKqueueModule, Kevent
from tests.contract.workshop import Workshop, arrived

MASKS = (0, IN, OUT, IN | OUT)


@pytest.fixture
def make() -> Iterator[Workshop]:
    workshop = Workshop()
    yield workshop
    workshop.close()


class ScriptedTable:
    """A `select`-like module and what its `epoll()` and `poll()` return: answers `rows`, keeps waits."""

    def __init__(self, rows: list[tuple[int, int]]) -> None:
        self.rows = rows
        self.waits: list[object] = []
        self.refusal = 0

    def epoll(self) -> ScriptedTable:
        return self

    def poll(self, *wait: Any) -> Any:
        if not wait and not self.waits and self.rows == []:
            return self
        self.waits.append(wait)
        return self.rows

    def register(self, fd: int, mask: int, /) -> None: ...

    def modify(self, fd: int, mask: int, /) -> None: ...

    def unregister(self, fd: int, /) -> None:
        if self.refusal:
            raise OSError(self.refusal, os.strerror(self.refusal))

    def close(self) -> None: ...


FLAGS = (IN, OUT, ERR, HUP, select.POLLNVAL)


def combinations(count: int) -> list[int]:
    return [
        sum(flag for place, flag in enumerate(FLAGS) if number >> place & 1) for number in range(2**count)
    ]


@pytest.mark.parametrize("flags", combinations(5))
def test_B1_poll_translates_each_of_the_32_flag_combinations(flags: int) -> None:
    table = ScriptedTable([])
    each = Poll(table)
    table.rows = [(5, flags)]
    expected = flags & (IN | OUT | ERR | HUP)
    if flags & select.POLLNVAL:
        expected |= ERR | HUP
    assert each.poll(0, 64) == [(5, expected)]


@pytest.mark.parametrize("flags", combinations(4))
def test_B1_epolls_rows_are_the_contracts_rows(flags: int) -> None:
    each = Epoll(ScriptedTable([(5, flags)]))
    assert each.poll(0, 64) == [(5, flags)]


@pytest.mark.parametrize("flags", range(8))
def test_B1_select_translates_each_combination_of_its_three_sets(flags: int) -> None:
    script = ScriptedSelect(lambda *sets: tuple([5] if flags >> place & 1 else [] for place in range(3)))
    each = Select(script, windows=True)
    each.register(5, IN | OUT)
    expected = (IN if flags & 1 else 0) | (OUT if flags & 2 else 0) | (OUT | ERR if flags & 4 else 0)
    assert each.poll(0, 64) == ([(5, expected)] if flags else [])


READ, WRITE = FakeKqueueModule.KQ_FILTER_READ, FakeKqueueModule.KQ_FILTER_WRITE
EOF, ERROR = FakeKqueueModule.KQ_EV_EOF, FakeKqueueModule.KQ_EV_ERROR
SIDES = {
    "nothing": None,
    "ready": (0, 0),
    "end": (EOF, 0),
    "end with error": (EOF, errno.ECONNRESET),
    "failed": (ERROR, 0),
}
LOST = ERR | HUP
# What each side's event adds, for READ and WRITE, before the mask.
ADDS = {
    "nothing": (0, 0),
    "ready": (IN, OUT),
    "end": (IN, OUT),
    "end with error": (IN | LOST, OUT | LOST),
    "failed": (LOST, LOST),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("write", SIDES)
@pytest.mark.parametrize("read", SIDES)
@pytest.mark.parametrize("order", [1, -1])
def test_B1_kqueue_merges_each_combination_of_two_filters_into_one_row(
    make: Workshop, order: int, read: str, write: str, mask: int
) -> None:
    ours, _ = make.pair()
    module = FakeKqueueModule()
    each = Kqueue(module)
    each.register(ours.fileno(), mask)
    sides = [(READ, SIDES[read]), (WRITE, SIDES[write])][::order]
    module.queue.script = [Kevent(ours.fileno(), kind, *side) for kind, side in sides if side is not None]
    expected = (ADDS[read][0] | ADDS[write][1]) & (mask | LOST)
    if read.startswith("end") and write.startswith("end"):
        expected |= HUP
    assert each.poll(0, 64) == ([(ours.fileno(), expected)] if expected else [])
    each.close()


@pytest.mark.parametrize("after", MASKS)
@pytest.mark.parametrize("before", MASKS)
def test_kqueues_changes_never_add_a_filter_that_is_there(make: Workshop, before: int, after: int) -> None:
    ours, _ = make.pair()
    module = FakeKqueueModule()
    each = Kqueue(module)
    each.register(ours.fileno(), before)
    each.modify(ours.fileno(), after)
    filters: dict[int, int] = {}
    for _, kind, flags in module.queue.journal:
        if flags & module.KQ_EV_DELETE:
            del filters[kind]
        else:
            assert kind not in filters
            filters[kind] = flags
    clear = module.KQ_EV_ADD | module.KQ_EV_CLEAR
    reading = {READ: module.KQ_EV_ADD if after else clear} if after != OUT else {}
    writing = {WRITE: module.KQ_EV_ADD} if after & OUT else {}
    assert filters == reading | writing
    each.close()


@pytest.mark.parametrize("after", MASKS)
@pytest.mark.parametrize("before", MASKS)
def test_B12_kqueue_registering_again_leaves_no_filter_behind_that_would_wake_it(
    make: Workshop, before: int, after: int
) -> None:
    ours, theirs = make.pair()
    theirs.send(b"hello")
    module = FakeKqueueModule()
    each = Kqueue(module)
    each.register(ours.fileno(), before)
    each.register(ours.fileno(), after)
    each.poll(0, 64)
    woken_by = {event.filter for event in module.queue.control(None, 64, 0)}
    assert woken_by == ({READ} if after & IN else set()) | ({WRITE} if after & OUT else set())
    each.close()


def test_B3_at_mask_zero_kqueue_wakes_at_most_once_for_data_and_once_for_the_end(make: Workshop) -> None:
    ours, theirs = make.tcp()
    module = FakeKqueueModule()
    each = Kqueue(module)
    each.register(ours.fileno(), 0)
    for happen in (lambda: theirs.send(b"hello"), lambda: theirs.shutdown(socket.SHUT_WR)):
        happen()
        arrived(ours)
        assert each.poll(0, 64) == []
        assert module.queue.control(None, 64, 0) == []
    each.close()


def test_B10_kqueue_refuses_a_regular_file_without_asking_the_kernel_which_would_take_it(
    make: Workshop, tmp_path: Path
) -> None:
    module = FakeKqueueModule()
    each = Kqueue(module)
    with pytest.raises(PermissionError):
        each.register(make.file(tmp_path / "regular"), IN)
    assert module.queue.journal == []
    each.close()


def test_F14_kqueue_drops_events_of_what_is_not_registered(make: Workshop) -> None:
    ours, _ = make.pair()
    module = FakeKqueueModule()
    each = Kqueue(module)
    module.queue.script = [Kevent(ours.fileno(), READ)]
    assert each.poll(0, 64) == []
    each.close()


@pytest.mark.parametrize(
    ("number", "raised"),
    [(errno.EINVAL, errno.EPERM), (errno.ENODEV, errno.EPERM), (errno.ENOMEM, errno.ENOMEM)],
)
def test_kqueue_refusing_the_second_filter_takes_the_first_back(
    make: Workshop, number: int, raised: int
) -> None:
    ours, theirs = make.pair()
    theirs.send(b"hello")
    module = FakeKqueueModule()
    each = Kqueue(module)
    module.queue.refusals[WRITE, module.KQ_EV_ADD] = number
    with pytest.raises(OSError) as refusal:
        each.register(ours.fileno(), IN | OUT)
    assert refusal.value.errno == raised
    assert module.queue.control(None, 64, 0) == []
    with pytest.raises(FileNotFoundError):
        each.modify(ours.fileno(), IN)
    each.close()


def test_a_device_kqueue_has_no_filter_for_is_a_PermissionError() -> None:
    each = Kqueue(FakeKqueueModule())
    with open(os.devnull, "rb") as device, pytest.raises(PermissionError):
        each.register(device.fileno(), IN)
    each.close()


def test_a_deletion_that_fails_for_an_unknown_reason_is_not_hidden(make: Workshop) -> None:
    ours, _ = make.pair()
    module = FakeKqueueModule()
    each = Kqueue(module)
    each.register(ours.fileno(), IN)
    module.queue.refusals[READ, module.KQ_EV_DELETE] = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        each.unregister(ours.fileno())
    each.close()


def test_a_removal_epoll_refuses_for_an_unknown_reason_is_not_hidden() -> None:
    table = ScriptedTable([])
    each = Epoll(table)
    table.refusal = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        each.unregister(5)


ROUNDED = [(None, None), (0, 0), (0.0, 0), (1e-9, 1), (0.0001, 1), (0.001, 1), (0.0011, 2), (0.0299999, 30)]


@pytest.mark.parametrize(("seconds", "milliseconds"), [*ROUNDED, (1.5, 1500), (LONGEST_WAIT, 86_400_000)])
def test_B13_poll_rounds_its_timeout_up_to_milliseconds(
    seconds: float | None, milliseconds: int | None
) -> None:
    table = ScriptedTable([])
    each = Poll(table)
    table.rows = [(5, IN)]
    each.poll(seconds, 64)
    assert table.waits == [(milliseconds,)]


@pytest.mark.parametrize("seconds", [None, 0, 0.0001, LONGEST_WAIT])
def test_B13_the_others_hand_on_the_seconds_which_python_rounds_up(seconds: float | None) -> None:
    table = ScriptedTable([(5, IN)])
    Epoll(table).poll(seconds, 64)
    assert table.waits == [(seconds, 64)]

    module = FakeKqueueModule()
    queue = Kqueue(module)
    module.queue.script = []
    queue.poll(seconds, 64)
    assert module.queue.waits == [(64, seconds)]
    queue.close()

    script = ScriptedSelect(lambda *sets: ([], [], []))
    Select(script).poll(seconds, 64)
    assert script.waits == [seconds]


class ScriptedSelect:
    """A `select`-like module whose function answers as told, and keeps what it was asked."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self.answer = answer
        self.sets: list[tuple[set[int], ...]] = []
        self.waits: list[float | None] = []

    def select(self, readers: Any, writers: Any, exceptional: Any, timeout: float | None, /) -> Any:
        self.sets.append((set(readers), set(writers), set(exceptional)))
        self.waits.append(timeout)
        return self.answer(readers, writers, exceptional)


def nothing(*sets: Any) -> tuple[list[int], list[int], list[int]]:
    return [], [], []


@pytest.mark.parametrize(("timeout", "slept"), [(0.25, 0.25), (0, 0), (None, LONGEST_WAIT)])
def test_on_windows_waiting_for_nothing_is_a_sleep(timeout: float | None, slept: float) -> None:
    sleeps: list[float] = []
    script = ScriptedSelect(nothing)
    each = Select(script, windows=True, sleep=sleeps.append)
    each.register(5, 0)
    script.sets.clear()
    assert each.poll(timeout, 64) == []
    assert sleeps == [slept]
    assert script.sets == []


def test_on_windows_a_failed_connect_is_asked_for_in_the_third_set() -> None:
    script = ScriptedSelect(lambda readers, writers, exceptional: ([], [], list(exceptional)))
    each = Select(script, windows=True)
    each.register(5, OUT)
    each.register(6, IN)
    assert each.poll(0, 64) == [(5, OUT | ERR)]
    assert script.sets[-1] == ({6}, {5}, {5})


def test_elsewhere_the_third_set_stays_empty() -> None:
    script = ScriptedSelect(nothing)
    each = Select(script, windows=False)
    each.register(5, IN | OUT)
    each.poll(0, 64)
    assert script.sets[-1] == ({5}, {5}, set())


def test_on_windows_the_513th_descriptor_is_refused_by_name() -> None:
    each = Select(ScriptedSelect(nothing), windows=True)
    for fd in range(1, 513):
        each.register(fd, IN)
    with pytest.raises(ValueError, match="descriptor 513: it holds 512 at once"):
        each.register(513, IN)
    each.register(5, OUT)  # Why: it is one of them already.
    each.unregister(5)
    each.register(513, IN)


def test_on_windows_the_only_one_being_bad_is_reported_without_asking_for_empty_sets() -> None:
    bad = False

    def answer(readers: Any, writers: Any, exceptional: Any) -> Any:
        if bad:
            raise OSError(errno.ENOTSOCK, "not a socket")
        return nothing()

    sleeps: list[float] = []
    each = Select(ScriptedSelect(answer), windows=True, sleep=sleeps.append)
    each.register(5, IN)
    bad = True
    assert each.poll(9, 64) == [(5, ERR | HUP)]
    assert sleeps == [0]


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EBADF])
def test_a_failure_of_select_that_is_no_descriptors_fault_is_not_hidden(number: int) -> None:
    asked = 0

    def answer(readers: Any, writers: Any, exceptional: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise OSError(number, os.strerror(number))
        return nothing()

    each = Select(ScriptedSelect(answer), windows=False)
    each.register(5, IN)
    with pytest.raises(OSError, match=os.strerror(number)):
        each.poll(0, 64)
