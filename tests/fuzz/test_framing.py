"""Invariant: a framer is what a simple model says it is: one bytes object, cut by the plainest code, whatever is asked in
whichever order, and whatever was fed.

Hypothesis draws the questions (feed, take, split, raw bytes, giving back, the rest, another limit or delimiter) and the bytes:
good messages, beginnings of them, and noise. The model searches everything anew each time; the framer remembers, shifts and
joins. What they give and what they raise is the same after each step, and so is what is left.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ropewalk.protocols.framers import (
    DelimitedFramer,
    Framer,
    FramingError,
    LengthPrefixedFramer,
    MessageTooLong,
    NetstringFramer,
    NetstringParseError,
)

# Why slow: what differs between the CPythons is seen without it.
pytestmark = pytest.mark.slow

LIMIT = 12
REFUSED = (MessageTooLong, NetstringParseError, FramingError)


# ---- the plainest code: (message, bytes used), None for not yet, or an error ------------------------------------------


def plain_line(data: bytes, limit: int, delimiter: bytes) -> Any:
    if delimiter in data:
        line = data.split(delimiter)[0]
        return (line, len(line + delimiter)) if len(line) <= limit else MessageTooLong
    return MessageTooLong if len(data) >= limit + len(delimiter) else None


def plain_prefixed(data: bytes, limit: int, structFormat: str) -> Any:
    size = struct.calcsize(structFormat)
    if len(data) < size:
        return None
    length = struct.unpack(structFormat, data[:size])[0]
    if length < 0:
        return FramingError
    if length > limit:
        return MessageTooLong
    return None if len(data) < size + length else (data[size : size + length], size + length)


def plain_netstring(data: bytes, limit: int, _: Any) -> Any:
    digits = b""
    for place, byte in enumerate(data):
        if byte == ord(":") and digits:
            message = data[place + 1 : place + 1 + int(digits)]
            end = place + 1 + int(digits)
            if len(data) <= end:
                return None
            return (message, end + 1) if data[end] == ord(",") else NetstringParseError
        if byte not in b"0123456789" or digits == b"0":
            return NetstringParseError
        digits += bytes([byte])
        if int(digits) > limit:
            # One digit further can only be worse; but which error it is, the number as far as it is looked at says.
            return MessageTooLong
    return None


def make(kind: str) -> tuple[Framer, Any, Any]:
    if kind == "netstrings":
        return NetstringFramer(LIMIT), plain_netstring, None
    if kind.startswith("prefix "):
        return LengthPrefixedFramer(kind[7:], LIMIT), plain_prefixed, kind[7:]
    delimiter = kind[6:].encode()
    return DelimitedFramer(delimiter, LIMIT), plain_line, delimiter


KINDS = [
    "netstrings",
    "prefix !B",
    "prefix <H",
    "prefix !b",
    "lines \n",
    "lines \r\n",
    "lines aab",
    "lines --",
]
NOISE = st.one_of(
    st.binary(max_size=20),
    st.text("\r\n", max_size=5).map(str.encode),
    st.text("ab-", max_size=30).map(str.encode),
    st.text("0123:,", max_size=8).map(str.encode),
)


class Framing(RuleBasedStateMachine):
    """A framer beside its model."""

    @initialize(kind=st.sampled_from(KINDS))
    def begin(self, kind: str) -> None:
        self.framer, self.plain, self.how = make(kind)
        self.left = b""
        self.limit = LIMIT
        self.refused: Any = None
        self.last = b""

    def expected(self) -> Any:
        return self.refused or self.plain(self.left, self.limit, self.how)

    def feed(self, data: bytes) -> None:
        if self.refused:
            with pytest.raises(self.refused):
                self.framer.feed(data)
        else:
            self.framer.feed(data)
            self.left += data

    @rule(data=NOISE)
    def feed_noise(self, data: bytes) -> None:
        self.feed(data)

    @rule(message=st.binary(max_size=LIMIT + 2), cut=st.integers(0, 3))
    def feed_a_message(self, message: bytes, cut: int) -> None:
        try:
            wire = self.framer.frame(message)
        except FramingError:
            return
        self.feed(wire[: len(wire) - cut])

    @rule(data=NOISE)
    def feed_byte_by_byte_and_take(self, data: bytes) -> None:
        for place in range(len(data)):
            self.feed(data[place : place + 1])
            self.take()

    @rule()
    def take(self) -> None:
        expected = self.expected()
        if expected in REFUSED:
            with pytest.raises(expected) as caught:
                self.framer.take()
            assert type(caught.value) is expected
            self.refused = expected
        elif expected is None:
            assert self.framer.take() is None
        else:
            message, used = expected
            found = self.framer.take()
            assert (type(found), found) == (bytes, message)
            assert len(message) <= self.limit
            self.last, self.left = self.left[:used], self.left[used:]

    @rule()
    def take_all(self) -> None:
        while not isinstance(self.expected(), type) and self.expected() is not None:
            self.take()
        self.take()

    @rule()
    def split(self) -> None:
        if not isinstance(self.framer, DelimitedFramer):
            return
        if self.refused or (self.how not in self.left and self.expected() is MessageTooLong):
            with pytest.raises(MessageTooLong):
                self.framer.split()
            self.refused = MessageTooLong
        else:
            *messages, self.left = self.left.split(self.how)
            assert self.framer.split() == messages

    @rule(size=st.integers(-1, 30))
    def take_raw(self, size: int) -> None:
        size = max(size, 0)
        self.last = self.left[:size]
        assert self.framer.takeUpTo(size) == self.last
        self.left = self.left[size:]

    @rule(size=st.integers(0, 30))
    def give_back_what_was_taken_last(self, size: int) -> None:
        piece = self.last[max(len(self.last) - size, 0) :]
        self.framer.giveBack(piece)
        self.left = piece + self.left

    @rule(data=NOISE)
    def put_in_front(self, data: bytes) -> None:
        self.framer.giveBack(data)
        self.left = data + self.left

    @rule()
    def take_the_rest(self) -> None:
        assert self.framer.takeRest() == self.left
        self.left, self.refused = b"", None

    @rule(limit=st.sampled_from([LIMIT, 0, 3, 99, 100]))
    def change_the_limit(self, limit: int) -> None:
        self.framer.limit = self.limit = limit

    @rule(delimiter=st.sampled_from([b"\n", b"\r\n", b"aab", b"--", b","]))
    def change_the_delimiter(self, delimiter: bytes) -> None:
        if isinstance(self.framer, DelimitedFramer):
            self.framer.delimiter = self.how = delimiter

    @invariant()
    def what_is_left_is_the_same(self) -> None:
        assert self.framer.waiting == len(self.left)
        assert self.framer.peek() == self.left


TestFraming = Framing.TestCase
TestFraming.settings = settings(max_examples=300, stateful_step_count=40)
TestFraming = pytest.mark.timeout(120)(TestFraming)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=120)
@given(
    messages=st.lists(st.binary(max_size=LIMIT), max_size=10),
    places=st.lists(st.integers(0, 200), max_size=20),
)
def test_what_is_framed_is_what_comes_out_however_it_is_cut(
    kind: str, messages: list[bytes], places: list[int]
) -> None:
    framer = make(kind)[0]
    fits = []
    for message in messages:
        try:
            fits.append((message, framer.frame(message)))
        except FramingError:
            assert isinstance(framer, DelimitedFramer)
            assert framer.delimiter in message + framer.delimiter[:-1]
    wire = b"".join(framed for _, framed in fits)
    edges = [0, *sorted(min(place, len(wire)) for place in places), len(wire)]
    found: list[bytes] = []
    for start, end in pairwise(edges):
        found += framer.feed(wire[start:end])
    assert found == [message for message, _ in fits]
    assert framer.waiting == 0


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=120)
@given(data=st.lists(NOISE, max_size=10).map(b"".join), places=st.lists(st.integers(0, 200), max_size=20))
def test_how_noise_is_cut_changes_neither_the_messages_nor_the_error(
    kind: str, data: bytes, places: list[int]
) -> None:
    outcomes = []
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    for cuts in ([0, len(data)], edges, range(len(data) + 1)):
        framer, found, error = make(kind)[0], list[bytes](), None
        try:
            for start, end in pairwise(cuts):
                for message in framer.feed(data[start:end]):
                    found.append(message)
        except FramingError as exc:
            error = type(exc)
        outcomes.append((found, error))
    assert outcomes[0] == outcomes[1] == outcomes[2]
