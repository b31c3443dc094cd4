"""The write buffer: whatever is appended, offered and taken, bytes in are bytes out, in order, once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ropewalk._net.outbox import _JOIN_LIMIT, _OFFER_LIMIT, Outbox

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
