"""One contract, every poller: what ropewalk/_loop/poller.py promises, on real sockets, pipes and files.

Where there is no kqueue, the poller for it runs on the one in fake_kqueue.py. What cannot be made to happen
on a real descriptor (flag combinations, Windows, refusals) is in test_poller_words.py.

Where the mechanisms differ by nature, the difference is stated as a claim of its own, not skipped.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ropewalk._loop.kqueue import Kqueue
from ropewalk._loop.poller import ERR, HUP, IN, LONGEST_WAIT, NAMES, OUT, Poller, available, choose
from tests.conftest import open_descriptors
from tests.contract.fake_kqueue import FakeKqueueModule
from tests.contract.workshop import SOON, Workshop, arrived, assert_silent, fill, reset, wait

KINDS = [name for name in NAMES if name in available() or (name == "kqueue" and "epoll" in available())]
MASKS = (0, IN, OUT, IN | OUT)


def opened(kind: str) -> Poller:
    if kind == "kqueue" and "kqueue" not in available():
        return Kqueue(FakeKqueueModule())
    return choose(kind)


@pytest.fixture(params=KINDS)
def poller(request: pytest.FixtureRequest) -> Iterator[Poller]:
    each = opened(request.param)
    yield each
    each.close()


@pytest.fixture
def make() -> Iterator[Workshop]:
    workshop = Workshop()
    yield workshop
    workshop.close()


# What is ready


def test_nothing_registered_is_nothing_ready(poller: Poller) -> None:
    assert poller.poll(0, 64) == []


def test_an_idle_descriptor_is_not_readable(poller: Poller, make: Workshop) -> None:
    ours, _ = make.pair()
    poller.register(ours.fileno(), IN)
    assert_silent(poller)


def test_data_is_reported_as_IN(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.tcp()
    poller.register(ours.fileno(), IN)
    theirs.send(b"hello")
    assert wait(poller) == {ours.fileno(): IN}


def test_room_to_send_is_reported_as_OUT(poller: Poller, make: Workshop) -> None:
    ours, _ = make.tcp()
    poller.register(ours.fileno(), OUT)
    assert wait(poller) == {ours.fileno(): OUT}


def test_readable_and_writable_come_in_one_row(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.pair()
    theirs.send(b"hello")
    poller.register(ours.fileno(), IN | OUT)
    assert poller.poll(SOON, 64) == [(ours.fileno(), IN | OUT)]


def test_readiness_is_a_level_reported_until_it_is_used(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.pair()
    theirs.send(b"hello")
    poller.register(ours.fileno(), IN)
    for _ in range(3):
        assert wait(poller) == {ours.fileno(): IN}
    ours.recv(5)
    assert_silent(poller)


def test_what_was_not_asked_for_is_not_reported(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.pair()
    theirs.send(b"hello")
    poller.register(ours.fileno(), OUT)
    assert wait(poller) == {ours.fileno(): OUT}


def test_a_full_buffer_is_not_writable_until_the_peer_reads(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.pair()
    fill(ours)
    poller.register(ours.fileno(), OUT)
    assert_silent(poller)
    while True:
        try:
            theirs.recv(65536)
        except BlockingIOError:
            break
    assert wait(poller) == {ours.fileno(): OUT}


def test_a_listening_socket_is_readable_when_somebody_connects(poller: Poller, make: Workshop) -> None:
    (listener,) = make.keep(socket.create_server(("127.0.0.1", 0)))
    poller.register(listener.fileno(), IN)
    assert_silent(poller)
    make.keep(socket.create_connection(listener.getsockname()))
    assert wait(poller) == {listener.fileno(): IN}


def test_C8_a_refused_connect_shows_as_writable_with_the_error_still_to_be_asked(
    poller: Poller, make: Workshop
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passing:
        address = passing.getsockname()
    (ours,) = make.keep(socket.socket())
    started = ours.connect_ex(address)
    assert started in (errno.EINPROGRESS, errno.ECONNREFUSED)
    poller.register(ours.fileno(), OUT)
    bits = wait(poller)[ours.fileno()]
    assert bits & OUT
    assert bool(bits & ERR) == poller.notices_reset_at_mask_zero
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


# Masks


def test_modify_replaces_the_wish(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.pair()
    theirs.send(b"hello")
    poller.register(ours.fileno(), IN)
    for mask in (OUT, IN | OUT, IN, IN | OUT, OUT, IN):
        poller.modify(ours.fileno(), mask)
        assert wait(poller) == {ours.fileno(): mask}


@pytest.mark.parametrize("after", MASKS)
@pytest.mark.parametrize("before", MASKS)
def test_every_mask_may_follow_every_other(poller: Poller, make: Workshop, before: int, after: int) -> None:
    ours, theirs = make.pair()
    theirs.send(b"hello")
    poller.register(ours.fileno(), before)
    poller.poll(0, 64)
    poller.modify(ours.fileno(), after)
    rows = poller.poll(0, 64)
    assert rows == ([(ours.fileno(), after)] if after else [])


def test_B12_mask_zero_is_silent_when_idle_though_there_is_room_to_send(
    poller: Poller, make: Workshop
) -> None:
    ours, _ = make.tcp()
    poller.register(ours.fileno(), 0)
    assert_silent(poller)


def test_F2_B3_mask_zero_is_silent_for_data_which_is_there_when_wished_for_again(
    poller: Poller, make: Workshop
) -> None:
    ours, theirs = make.tcp()
    poller.register(ours.fileno(), IN)
    poller.modify(ours.fileno(), 0)
    theirs.send(b"hello")
    arrived(ours)
    assert_silent(poller)
    theirs.send(b" again")
    assert_silent(poller)
    poller.modify(ours.fileno(), IN)
    assert wait(poller) == {ours.fileno(): IN}


def test_F1_B2_mask_zero_is_silent_for_the_peers_end(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.tcp()
    poller.register(ours.fileno(), 0)
    theirs.shutdown(socket.SHUT_WR)
    arrived(ours)
    assert_silent(poller)
    poller.modify(ours.fileno(), IN)
    assert wait(poller) == {ours.fileno(): IN}
    poller.modify(ours.fileno(), 0)
    assert_silent(poller)


def test_F3_B3_a_reset_at_mask_zero_is_reported_as_ERR_where_the_poller_says_so(
    poller: Poller, make: Workshop
) -> None:
    ours, theirs = make.tcp()
    poller.register(ours.fileno(), 0)
    assert_silent(poller)
    reset(ours, theirs)
    if poller.notices_reset_at_mask_zero:
        assert wait(poller) == {ours.fileno(): ERR | HUP}
    else:
        assert_silent(poller)
        poller.modify(ours.fileno(), IN)
        assert wait(poller) == {ours.fileno(): IN}
    with pytest.raises(ConnectionResetError):
        ours.recv(1)


def test_F3_a_reset_that_came_before_the_mask_became_zero_is_reported_too(
    poller: Poller, make: Workshop
) -> None:
    ours, theirs = make.tcp()
    poller.register(ours.fileno(), OUT)
    reset(ours, theirs)
    poller.modify(ours.fileno(), 0)
    expected = {ours.fileno(): ERR | HUP} if poller.notices_reset_at_mask_zero else {}
    assert dict(poller.poll(0, 64)) == expected


def test_F3_data_sent_before_a_reset_can_still_be_read(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.tcp()
    poller.register(ours.fileno(), 0)
    theirs.send(b"hello")
    arrived(ours)
    assert_silent(poller)
    reset(ours, theirs)
    poller.modify(ours.fileno(), IN)
    bits = wait(poller)[ours.fileno()]
    assert bits & IN
    assert bool(bits & ERR) == poller.notices_reset_at_mask_zero
    assert ours.recv(64) == b"hello"


def test_F4_B2_a_reset_after_the_peers_end_is_reported_at_mask_zero(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.tcp()
    poller.register(ours.fileno(), IN)
    theirs.shutdown(socket.SHUT_WR)
    assert wait(poller) == {ours.fileno(): IN}
    assert ours.recv(1) == b""
    poller.modify(ours.fileno(), 0)
    assert_silent(poller)
    reset(ours, theirs)
    if poller.notices_reset_at_mask_zero:
        assert wait(poller)[ours.fileno()] & ERR
    else:
        assert_silent(poller)
        poller.modify(ours.fileno(), OUT)
        assert wait(poller) == {ours.fileno(): OUT}


def test_a_reset_while_reading_is_IN_and_ERR(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.tcp()
    poller.register(ours.fileno(), IN)
    reset(ours, theirs)
    expected = IN | ERR | HUP if poller.notices_reset_at_mask_zero else IN
    assert wait(poller) == {ours.fileno(): expected}


def test_the_peers_end_is_IN_and_nothing_else(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.tcp()
    poller.register(ours.fileno(), IN | OUT)
    theirs.shutdown(socket.SHUT_WR)
    arrived(ours)
    assert wait(poller) == {ours.fileno(): IN | OUT}


def test_both_directions_shut_is_HUP(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.tcp()
    poller.register(ours.fileno(), IN | OUT)
    ours.shutdown(socket.SHUT_WR)
    theirs.shutdown(socket.SHUT_WR)
    arrived(ours)
    bits = wait(poller)[ours.fileno()]
    assert bits == (IN | OUT | HUP if poller.notices_reset_at_mask_zero else IN | OUT)


def test_both_directions_shut_is_HUP_at_mask_zero_where_hanging_up_needs_no_filter(
    poller: Poller, make: Workshop
) -> None:
    ours, theirs = make.tcp()
    poller.register(ours.fileno(), 0)
    ours.shutdown(socket.SHUT_WR)
    theirs.shutdown(socket.SHUT_WR)
    arrived(ours)
    if poller.name in ("epoll", "poll"):
        assert wait(poller) == {ours.fileno(): HUP}
    else:
        assert_silent(poller)
    poller.modify(ours.fileno(), IN)
    assert wait(poller)[ours.fileno()] & IN


# Pipes and files


def test_B4_a_pipes_last_data_is_there_to_read_after_its_writer_is_gone(
    poller: Poller, make: Workshop
) -> None:
    reader, writer = make.pipe()
    poller.register(reader, IN)
    assert_silent(poller)
    os.write(writer, b"last")
    os.close(writer)
    assert wait(poller)[reader] & IN
    assert os.read(reader, 64) == b"last"
    assert wait(poller)[reader] & (IN | HUP)
    assert os.read(reader, 64) == b""


def test_a_pipe_nobody_reads_is_reported_to_its_writer(poller: Poller, make: Workshop) -> None:
    reader, writer = make.pipe()
    poller.register(writer, OUT)
    os.close(reader)
    assert wait(poller)[writer] & OUT
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"x")


def test_B10_a_regular_file_is_refused_with_EPERM_or_always_ready(
    poller: Poller, make: Workshop, tmp_path: Path
) -> None:
    fd = make.file(tmp_path / "regular")
    if poller.name in ("epoll", "kqueue"):
        with pytest.raises(PermissionError):
            poller.register(fd, IN | OUT)
    else:
        poller.register(fd, IN | OUT)
        assert wait(poller) == {fd: IN | OUT}
        assert os.read(fd, 64)
        assert wait(poller) == {fd: IN | OUT}  # Why: at its end it is ready too.
        poller.modify(fd, 0)
        assert_silent(poller)
    poller.unregister(fd)
    assert_silent(poller)


def test_B10_a_refused_file_leaves_nothing_behind(poller: Poller, make: Workshop, tmp_path: Path) -> None:
    ours, theirs = make.pair()
    fd = make.file(tmp_path / "regular")
    try:
        poller.register(fd, IN)
    except PermissionError:
        pass
    poller.unregister(fd)
    os.dup2(ours.fileno(), fd)
    poller.register(fd, IN)
    theirs.send(b"hello")
    assert wait(poller) == {fd: IN}


# Registering


def test_unregister_silences(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.pair()
    theirs.send(b"hello")
    poller.register(ours.fileno(), IN | OUT)
    assert wait(poller)
    poller.unregister(ours.fileno())
    assert_silent(poller)


def test_B9_unregister_never_raises_twice_or_unknown_or_closed(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.pair()
    fd = ours.fileno()
    poller.unregister(fd)
    poller.register(fd, IN)
    poller.unregister(fd)
    poller.unregister(fd)
    poller.register(theirs.fileno(), 0)
    poller.unregister(make.closed_number())
    ours.close()
    poller.unregister(fd)


def test_modify_of_what_is_not_registered_says_so(poller: Poller, make: Workshop) -> None:
    ours, _ = make.pair()
    with pytest.raises(FileNotFoundError):
        poller.modify(ours.fileno(), IN)


def test_registering_again_makes_the_new_wish_hold(poller: Poller, make: Workshop) -> None:
    ours, theirs = make.pair()
    theirs.send(b"hello")
    for mask in (IN, OUT, IN | OUT, 0, IN):
        try:
            poller.register(ours.fileno(), mask)
        except FileExistsError:
            assert poller.name == "epoll", "only epoll's own method may leave the rest to the loop"
            poller.modify(ours.fileno(), mask)
        assert poller.poll(0, 64) == ([(ours.fileno(), mask)] if mask else [])


def test_B6_a_number_closed_and_reused_behind_our_back_can_be_registered(
    poller: Poller, make: Workshop
) -> None:
    old, _ = make.pair()
    new, peer = make.pair()
    fd = old.fileno()
    poller.register(fd, IN | OUT)
    os.dup2(new.fileno(), fd)
    poller.register(fd, IN)
    assert_silent(poller)
    peer.send(b"hello")
    assert wait(poller) == {fd: IN}
    poller.modify(fd, 0)
    assert_silent(poller)


def test_F14_B6_a_reused_number_reports_only_its_new_owner(poller: Poller, make: Workshop) -> None:
    old, old_peer = make.pair()
    new, peer = make.pair()
    fd = old.fileno()
    poller.register(fd, IN)
    old_peer.send(b"for the old one")
    assert wait(poller) == {fd: IN}
    poller.unregister(fd)
    os.dup2(new.fileno(), fd)
    poller.register(fd, IN)
    old_peer.close()
    assert_silent(poller)
    peer.send(b"hello")
    assert wait(poller) == {fd: IN}


def test_a_number_reused_by_a_file_behind_our_back_is_unregistered_in_peace(
    poller: Poller, make: Workshop, tmp_path: Path
) -> None:
    ours, _ = make.pair()
    poller.register(ours.fileno(), IN)
    os.dup2(make.file(tmp_path / "regular"), ours.fileno())
    poller.unregister(ours.fileno())
    assert_silent(poller)


def test_B8_closing_behind_our_back_does_not_keep_the_others_from_being_served(
    poller: Poller, make: Workshop
) -> None:
    gone, _ = make.pair()
    ours, theirs = make.pair()
    fd = gone.fileno()
    poller.register(fd, IN)
    poller.register(ours.fileno(), IN)
    theirs.send(b"hello")
    gone.close()
    for _ in range(3):
        assert wait(poller)[ours.fileno()] == IN
    poller.unregister(fd)
    assert wait(poller) == {ours.fileno(): IN}


def test_B8_the_owner_of_a_descriptor_closed_behind_its_back_is_told_where_the_kernel_can_tell(
    poller: Poller, make: Workshop
) -> None:
    gone, _ = make.pair()
    fd = gone.fileno()
    poller.register(fd, IN)
    gone.close()
    if poller.name in ("poll", "select"):
        for _ in range(3):  # Why: a level, like everything, and over when the owner unregisters.
            assert wait(poller) == {fd: ERR | HUP}
    else:
        assert_silent(poller)
    poller.unregister(fd)
    assert_silent(poller)


def test_modify_after_closing_behind_our_back_is_quiet_or_an_OSError_and_leaves_unregister_quiet(
    poller: Poller, make: Workshop
) -> None:
    gone, _ = make.pair()
    fd = gone.fileno()
    poller.register(fd, IN)
    gone.close()
    try:
        poller.modify(fd, IN | OUT)
    except OSError as refusal:
        assert refusal.errno in (errno.EBADF, errno.ENOENT)
    poller.unregister(fd)
    assert_silent(poller)


def test_registering_what_is_not_open_is_EBADF(poller: Poller, make: Workshop) -> None:
    fd = make.closed_number()
    with pytest.raises(OSError) as refusal:
        poller.register(fd, IN)
    assert refusal.value.errno == errno.EBADF
    assert_silent(poller)
    poller.unregister(fd)


def test_a_negative_number_is_a_ValueError(poller: Poller) -> None:
    with pytest.raises(ValueError):
        poller.register(-1, IN)


# Waiting


def test_a_timeout_ends_the_wait_with_no_rows(poller: Poller, make: Workshop) -> None:
    ours, _ = make.pair()
    poller.register(ours.fileno(), IN)
    assert poller.poll(0, 64) == []
    assert poller.poll(0.0, 64) == []
    assert poller.poll(0.0001, 64) == []


@pytest.mark.parametrize("timeout", [None, 0, 0.5, LONGEST_WAIT])
def test_every_allowed_timeout_returns_at_once_when_something_is_ready(
    poller: Poller, make: Workshop, timeout: float | None
) -> None:
    ours, _ = make.pair()
    poller.register(ours.fileno(), OUT)
    assert poller.poll(timeout, 64) == [(ours.fileno(), OUT)]


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[int], None]], None]]:
    """Calls back from a signal handler every few milliseconds, with the number of the call."""
    count = 0
    called: Callable[[int], None]

    def handle(number: int, frame: object) -> None:
        nonlocal count
        count += 1
        called(count)

    def start(callback: Callable[[int], None]) -> None:
        nonlocal called
        called = callback
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)

    # Why: the time-out of the tests themselves uses the same timer; it gets it back.
    left = signal.setitimer(signal.ITIMER_REAL, 0)
    handler = signal.signal(signal.SIGALRM, handle)
    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, *left)


def test_B11_a_signal_does_not_end_an_endless_wait(
    poller: Poller, make: Workshop, alarm: Callable[[Callable[[int], None]], None]
) -> None:
    ours, theirs = make.pair()
    poller.register(ours.fileno(), IN)

    def speak(number: int) -> None:
        if number == 3:
            theirs.send(b"hello")

    alarm(speak)
    assert poller.poll(None, 64) == [(ours.fileno(), IN)]


def test_B11_a_wait_interrupted_by_signals_ends_normally_at_its_timeout(
    poller: Poller, make: Workshop, alarm: Callable[[Callable[[int], None]], None]
) -> None:
    ours, _ = make.pair()
    poller.register(ours.fileno(), IN)
    calls: list[int] = []
    alarm(calls.append)
    assert poller.poll(0.02, 64) == []
    assert calls


def test_B11_what_a_signal_handler_raises_leaves_the_wait(
    poller: Poller, make: Workshop, alarm: Callable[[Callable[[int], None]], None]
) -> None:
    class Stop(Exception):
        pass

    def stop(number: int) -> None:
        if number == 1:
            raise Stop

    ours, _ = make.pair()
    poller.register(ours.fileno(), IN)
    with pytest.raises(Stop):
        alarm(stop)
        poller.poll(None, 64)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert_silent(poller)


# Limits and numbers


@pytest.mark.parametrize("limit", [1, 3, 7, 64])
def test_no_more_rows_than_the_limit_and_all_are_served_in_turn(
    poller: Poller, make: Workshop, limit: int
) -> None:
    fds = set()
    for _ in range(7):
        ours, theirs = make.pair()
        theirs.send(b"hello")
        poller.register(ours.fileno(), IN)
        fds.add(ours.fileno())
    for _ in range(3):
        served: set[int] = set()
        for _ in range(2 * -(-7 // limit)):
            rows = poller.poll(0, limit)
            assert len(rows) <= limit
            served.update(fd for fd, _ in rows)
        assert served == fds


def test_nobody_starves_when_all_are_readable_and_writable(poller: Poller, make: Workshop) -> None:
    wanted: dict[int, int] = {}
    for _ in range(5):
        ours, theirs = make.pair()
        theirs.send(b"hello")
        poller.register(ours.fileno(), IN | OUT)
        wanted[ours.fileno()] = IN | OUT
    seen = dict.fromkeys(wanted, 0)
    for _ in range(40):
        for fd, bits in poller.poll(0, 2):
            seen[fd] |= bits
    assert seen == wanted


def test_an_end_among_many_busy_ones_is_reported_in_its_turn(poller: Poller, make: Workshop) -> None:
    for _ in range(6):
        busy, _ = make.pair()
        poller.register(busy.fileno(), OUT)
    ours, theirs = make.tcp()
    poller.register(ours.fileno(), IN)
    theirs.close()
    arrived(ours)
    assert any(fd == ours.fileno() for _ in range(14) for fd, _ in poller.poll(0, 1))


def test_many_descriptors_of_which_few_are_ready(poller: Poller, make: Workshop) -> None:
    ready = set()
    for number in range(150):
        ours, theirs = make.pair()
        poller.register(ours.fileno(), IN)
        poller.register(theirs.fileno(), 0)
        if number % 50 == 7:
            theirs.send(b"hello")
            ready.add(ours.fileno())
    assert set(wait(poller, 1000)) == ready
    for fd in ready:
        poller.unregister(fd)
    assert_silent(poller)


def test_a_number_beyond_FD_SETSIZE_works_or_is_refused_by_name(poller: Poller, make: Workshop) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1100:
        if hard != resource.RLIM_INFINITY and hard < 1100:
            pytest.skip("the limit on open files is too low: raise it with ulimit -Hn 1100")
        resource.setrlimit(resource.RLIMIT_NOFILE, (1100, hard))
    ours, theirs = make.pair()
    fd = fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, 1050)
    try:
        if poller.name == "select":
            with pytest.raises(ValueError, match=f"descriptor {fd} .*FD_SETSIZE"):
                poller.register(fd, IN)
        else:
            poller.register(fd, IN)
            theirs.send(b"hello")
            assert wait(poller) == {fd: IN}
        poller.unregister(fd)
        assert_silent(poller)
    finally:
        os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("kind", KINDS)
def test_J10_closing_gives_everything_back_also_twice(kind: str, make: Workshop) -> None:
    ours, _ = make.pair()
    before = open_descriptors()
    each = opened(kind)
    each.register(ours.fileno(), IN)
    each.poll(0, 1)
    each.close()
    each.close()
    assert open_descriptors() == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_poller_tells_its_name(kind: str) -> None:
    each = opened(kind)
    assert each.name == kind
    each.close()
