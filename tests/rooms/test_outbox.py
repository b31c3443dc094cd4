"""The write buffer: whatever is appended, offered and taken, bytes in are bytes out, in order, once."""

from __future__ import annotations

import errno
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ropewalk._net.outbox import _JOIN_LIMIT, _OFFER_LIMIT, Outbox
from ropewalk._system import FilePart

PLENTY = 1024


def box_of(*chunks):
    box = Outbox()
    for chunk in chunks:
        box.append(chunk)
    return box


def flat(offer):
    return b"".join(offer) if isinstance(offer, list) else bytes(offer)


def drain(box, take, most_buffers=PLENTY):
    """Send all of it, each time as many bytes as `take` says, and give back what the kernel saw."""
    out = bytearray()
    while box.size:
        offer = flat(box.next(most_buffers))
        count = max(1, min(take(len(offer)), len(offer)))
        out += offer[:count]
        box.went(count)
    return bytes(out)


# ---- what it holds --------------------------------------------------------------------------------------------------


def test_a_new_one_is_empty():
    assert Outbox().size == 0


def test_nothing_appended_is_nothing_kept():
    box = box_of(b"", b"")
    assert box.size == 0
    box.append(b"x")
    assert bytes(box.next(PLENTY)) == b"x"


def test_its_size_is_what_waits():
    box = box_of(b"abc", b"de")
    assert box.size == 5
    box.went(4)
    assert box.size == 1
    box.append(b"fg")
    assert box.size == 3


def test_clearing_forgets_everything_a_half_sent_chunk_too():
    box = box_of(b"abc", b"de")
    box.went(1)
    box.clear()
    assert box.size == 0
    box.append(b"new")
    assert flat(box.next(PLENTY)) == b"new"


# ---- what it offers -------------------------------------------------------------------------------------------------


def test_one_chunk_is_offered_as_it_came_without_a_copy():
    chunk = b"x" * 100
    assert box_of(chunk).next(PLENTY) is chunk


def test_a_chunk_that_went_in_part_is_offered_from_where_it_stopped_without_a_copy():
    box = box_of(b"abcdef")
    box.went(2)
    offer = box.next(PLENTY)
    assert isinstance(offer, memoryview)
    assert bytes(offer) == b"cdef"


def test_small_neighbours_are_joined_into_one():
    offer = box_of(b"ab", b"cd", b"ef").next(PLENTY)
    assert offer == b"abcdef"


def test_up_to_the_limit_chunks_are_joined_beyond_they_are_gathered():
    half = b"x" * (_JOIN_LIMIT // 2)
    assert box_of(half, half).next(PLENTY) == half + half
    offer = box_of(half, half, b"y").next(PLENTY)
    assert [len(each) for each in offer] == [len(half), len(half), 1]


def test_large_chunks_are_offered_together_and_none_is_copied():
    chunks = [bytes([each]) * 20_000 for each in range(3)]
    offer = box_of(*chunks).next(PLENTY)
    assert all(mine is theirs for mine, theirs in zip(offer, chunks, strict=True))


def test_no_more_buffers_are_offered_than_the_system_takes():
    box = box_of(*[b"x" * 20_000] * 10)
    offer = box.next(4)
    assert len(offer) == 4


def test_small_chunks_beyond_the_number_of_buffers_are_still_joined():
    box = box_of(*[b"x"] * 10)
    assert box.next(4) == b"x" * 10


def test_of_many_small_chunks_no_more_are_joined_than_the_limit_asks_for():
    box = box_of(*[b"x" * 100] * 1000)
    offer = box.next(4)
    assert isinstance(offer, bytes)
    assert _JOIN_LIMIT < len(offer) <= _JOIN_LIMIT + 100
    assert drain(box, lambda size: size, 4) == b"x" * 100_000


def test_no_more_is_offered_than_a_kernel_would_take():
    chunk = b"x" * (_OFFER_LIMIT // 4)
    offer = box_of(*[chunk] * 100).next(PLENTY)
    assert len(offer) == 4


def test_one_huge_chunk_is_offered_whole():
    chunk = b"x" * (3 * _OFFER_LIMIT)
    assert box_of(chunk).next(PLENTY) is chunk


def test_offering_changes_nothing():
    box = box_of(b"ab", b"cd")
    assert box.next(PLENTY) == box.next(PLENTY) == b"abcd"
    assert box.size == 4


# ---- parts of files -------------------------------------------------------------------------------------------------


class Taker:
    """A socket that takes so many bytes of each send."""

    def __init__(self, most):
        self.most = most
        self.taken = b""

    def send(self, data):
        self.taken += data[: self.most]
        return len(data[: self.most])


@pytest.fixture
def part(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    def made(offset=0, count=10):
        with path.open("rb") as file:
            return FilePart(file, offset, count, by_kernel=False)

    made.path = path
    return made


def test_a_part_of_a_file_is_offered_by_itself_and_nothing_is_joined_across_it(part):
    middle = part()
    box = box_of(b"ab", b"cd", middle, b"ef", b"gh")
    assert box.size == 18 and box.held == 8
    assert box.next(PLENTY) == b"abcd"
    box.went(3)
    assert box.held == 5
    box.went(1)
    assert box.next(PLENTY) is middle
    box.went(4)
    assert (box.next(PLENTY), box.offset, box.size, box.held) == (middle, 4, 10, 4)
    box.went(6)
    assert box.next(PLENTY) == b"efgh"


def test_large_chunks_before_a_part_of_a_file_are_gathered_up_to_it(part):
    chunk = b"x" * 20_000
    assert box_of(chunk, chunk, part(), chunk).next(PLENTY) == [chunk, chunk]


def test_a_part_whose_file_has_become_shorter_is_cut_and_what_is_behind_it_comes_next(part):
    box = box_of(part(2, 8), b"behind")
    taker = Taker(3)
    box.went(box.next(PLENTY).send_to(taker, box.offset))
    part.path.write_bytes(b"01234")
    assert box.next(PLENTY).send_to(taker, box.offset) == 0
    box.cut()
    assert (taker.taken, box.size, box.offset) == (b"234", 6, 0)
    assert box.next(PLENTY) == b"behind"


def test_a_part_has_a_descriptor_of_its_own_that_goes_with_it(part):
    before = len(os.listdir("/dev/fd"))
    box = box_of(part(), part())
    assert len(os.listdir("/dev/fd")) == before + 2
    box.went(10)
    assert len(os.listdir("/dev/fd")) == before + 1
    box.clear()
    assert len(os.listdir("/dev/fd")) == before


def test_a_file_the_kernel_cannot_copy_from_is_read(part, monkeypatch):
    asked = []

    def let_fail(error):
        def failing(out, source, offset, count):
            asked.append((offset, count))
            raise OSError(error, os.strerror(error))

        asked.clear()
        monkeypatch.setattr(os, "sendfile", failing)

    mine, theirs = socket.socketpair()
    with part.path.open("rb") as file, mine, theirs:
        piece = FilePart(file, 1, 8, by_kernel=True)
        for error in (errno.EAGAIN, errno.EIO):
            let_fail(error)
            with pytest.raises(OSError) as raised:
                piece.send_to(mine, 0)
            assert raised.value.errno == error
        let_fail(errno.EINVAL)
        assert piece.send_to(mine, 2) == 6
        assert piece.send_to(mine, 7) == 1
        assert theirs.recv(100) == b"3456788"
    assert asked == [(3, 6)]


# ---- bytes in are bytes out -----------------------------------------------------------------------------------------

CHUNKS = st.lists(
    st.one_of(st.binary(max_size=12), st.integers(0, 40_000).map(lambda n: b"<" * n)), max_size=12
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000], ids=lambda size: f"{size} bytes a time")
def test_whatever_the_kernel_takes_each_time_it_gets_all(size):
    chunks = [b"", b"a", b"bc", b"d" * 100, b"", b"e" * 30]
    assert drain(box_of(*chunks), lambda _: size) == b"".join(chunks)


def test_crumbs_leave_in_large_pieces_and_each_is_copied_a_few_times_at_most():
    box = box_of(*[b"x"] * 200_000)
    sizes, copied = [], 0
    while box.size:
        before = box._chunks[0]
        offer = box.next(1024)
        if isinstance(offer, bytes) and offer is not before:
            copied += len(offer)
        # A kernel that takes a little of what it is offered, as one whose peer is slow does.
        sizes.append(len(flat(offer)))
        box.went(min(1000, len(flat(offer))))
    assert min(sizes[:100]) >= 8 * 1024
    assert copied < 4 * 200_000


@given(chunks=CHUNKS, most_buffers=st.integers(1, 5), data=st.data())
def test_bytes_in_are_bytes_out_however_they_are_taken(chunks, most_buffers, data):
    def take(size):
        return data.draw(st.sampled_from([1, size // 2, size - 1, size]))

    assert drain(box_of(*chunks), take, most_buffers) == b"".join(chunks)


class OutboxAgainstBytes(RuleBasedStateMachine):
    """Rule: what the kernel saw, and what waits, are together what came in."""

    def __init__(self):
        super().__init__()
        self.box = Outbox()
        self.came = bytearray()
        self.went = bytearray()

    @rule(data=st.one_of(st.binary(max_size=20), st.integers(1, 40_000).map(lambda n: b">" * n)))
    def append(self, data):
        self.box.append(data)
        self.came += data

    @precondition(lambda self: self.box.size)
    @rule(most_buffers=st.integers(1, 4), share=st.sampled_from([0, 0.01, 0.5, 0.99, 1]))
    def send(self, most_buffers, share):
        offer = self.box.next(most_buffers)
        if isinstance(offer, list):
            assert 1 < len(offer) <= most_buffers or most_buffers == 1
        data = flat(offer)
        assert data
        count = int(len(data) * share)
        self.went += data[:count]
        self.box.went(count)

    @rule()
    def clear(self):
        self.box.clear()
        self.came = bytearray(self.went)

    @invariant()
    def nothing_is_lost_or_made_up(self):
        assert self.came.startswith(self.went)
        assert self.box.size == len(self.came) - len(self.went)
        if self.box.size:
            assert self.came[len(self.went) :].startswith(flat(self.box.next(PLENTY)))


test_an_outbox_is_a_queue_of_bytes = OutboxAgainstBytes.TestCase
