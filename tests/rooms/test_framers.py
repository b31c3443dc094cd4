"""Framing without a connection: messages whole, byte by byte and with what follows; limits; and work counted, not timed."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest

from ropewalk.protocols.framers import (
    DelimitedFramer,
    Framer,
    FramingError,
    LengthPrefixedFramer,
    MessageTooLong,
    NetstringFramer,
    NetstringParseError,
)

MESSAGES = [b"hello", b"", b"a" * 300, b"\x00\xff,:", b"x"]
KINDS = {
    "lines": lambda: DelimitedFramer(b"\r\n", 1000),
    "one byte": lambda: DelimitedFramer(b"\n", 1000),
    "long delimiter": lambda: DelimitedFramer(b"--end--", 1000),
    "two bytes": lambda: LengthPrefixedFramer("!H", 1000),
    "four bytes": lambda: LengthPrefixedFramer("!I", 1000),
    "little end first": lambda: LengthPrefixedFramer("<Q", 1000),
    "netstrings": lambda: NetstringFramer(1000),
}


@pytest.fixture(params=KINDS)
def framer(request: pytest.FixtureRequest) -> Framer:
    return KINDS[request.param]()


# ---- messages --------------------------------------------------------------------------------------------------------


def test_what_was_framed_comes_out_whole(framer: Framer) -> None:
    wire = b"".join(map(framer.frame, MESSAGES))
    assert list(framer.feed(wire)) == MESSAGES
    assert framer.waiting == 0


def test_what_was_framed_comes_out_byte_by_byte_each_message_with_its_last_byte(framer: Framer) -> None:
    for message in MESSAGES:
        wire = framer.frame(message)
        for place in range(len(wire) - 1):
            assert list(framer.feed(wire[place : place + 1])) == []
        assert list(framer.feed(wire[-1:])) == [message]
        assert framer.waiting == 0


@pytest.mark.parametrize("size", [2, 3, 7, 64, 305])
def test_what_was_framed_comes_out_of_pieces_of_any_size(framer: Framer, size: int) -> None:
    wire = b"".join(map(framer.frame, MESSAGES * 20))
    found = [
        message for place in range(0, len(wire), size) for message in framer.feed(wire[place : place + size])
    ]
    assert found == MESSAGES * 20


def test_what_follows_a_message_stays_for_the_next(framer: Framer) -> None:
    wire = framer.frame(b"first")
    begun = framer.frame(b"second")
    assert list(framer.feed(wire + begun[:3])) == [b"first"]
    assert framer.peek() == begun[:3]
    assert list(framer.feed(begun[3:] + wire)) == [b"second", b"first"]


def test_a_consumer_may_stop_in_the_middle_and_take_the_rest_back(framer: Framer) -> None:
    one, two, three = map(framer.frame, (b"one", b"two", b"three"))
    for message in framer.feed(one + two + three + b"1"):
        assert message == b"one"
        break
    assert framer.waiting == len(two + three) + 1
    assert framer.takeRest() == two + three + b"1"
    assert framer.waiting == 0
    assert framer.take() is None
    assert list(framer.feed(three)) == [b"three"]


def test_a_consumer_that_stops_is_given_the_next_when_it_asks_again(framer: Framer) -> None:
    framer.feed(framer.frame(b"one") + framer.frame(b"two"))
    assert framer.take() == b"one"
    framer.feed(framer.frame(b"three"))
    assert [framer.take(), framer.take(), framer.take()] == [b"two", b"three", None]


def test_messages_are_bytes_whatever_they_are_fed_as(framer: Framer) -> None:
    wire = framer.frame(b"hello")
    for data in (wire, bytearray(wire), memoryview(wire)):
        (message,) = framer.feed(data)
        assert type(message) is bytes
    pieces = (wire[:1], bytearray(wire[1:2]), memoryview(wire)[2:])
    found = [message for piece in pieces for message in framer.feed(piece)]
    assert [(type(each), each) for each in found] == [(bytes, b"hello")]


def test_a_mutable_that_is_changed_afterwards_changes_nothing(framer: Framer) -> None:
    wire = bytearray(framer.frame(b"hello"))
    framer.feed(wire)
    wire[:] = bytes(len(wire))
    assert framer.take() == b"hello"


@pytest.mark.parametrize("data", ["text", 7, None, [1]])
def test_what_is_not_bytes_is_refused(framer: Framer, data: Any) -> None:
    with pytest.raises(TypeError):
        framer.feed(data)
    assert framer.waiting == 0


def test_nothing_may_be_fed(framer: Framer) -> None:
    assert list(framer.feed(b"")) == []


# ---- putting back ----------------------------------------------------------------------------------------------------


def test_raw_bytes_can_be_taken_between_messages(framer: Framer) -> None:
    framer.feed(framer.frame(b"one") + b"raw" + framer.frame(b"two"))
    assert framer.take() == b"one"
    assert framer.takeUpTo(3) == b"raw"
    assert framer.takeUpTo(0) == framer.takeUpTo(-1) == b""
    assert framer.take() == b"two"
    assert framer.takeUpTo(10) == b""


def test_what_was_taken_too_much_of_can_be_given_back(framer: Framer) -> None:
    wire = framer.frame(b"one") + framer.frame(b"two")
    framer.feed(b"raw" + wire)
    piece = framer.takeUpTo(8)
    framer.giveBack(piece[3:])
    assert list(framer) == [b"one", b"two"]


def test_anything_may_be_put_in_front(framer: Framer) -> None:
    framer.feed(framer.frame(b"two"))
    framer.giveBack(bytearray(framer.frame(b"one")))
    assert list(framer) == [b"one", b"two"]
    framer.giveBack(framer.frame(b"three"))
    assert framer.take() == b"three"


def test_what_is_put_in_front_counts_for_a_delimiter() -> None:
    framer = DelimitedFramer(b"--end--", 100)
    assert list(framer.feed(b"nd--and this is no end")) == []
    framer.giveBack(b"one--e")
    assert list(framer) == [b"one"]
    assert framer.takeRest() == b"and this is no end"


@pytest.mark.parametrize("size", range(24))
def test_a_delimiter_is_found_behind_raw_bytes_however_many_were_taken(size: int) -> None:
    framer = DelimitedFramer(b"--end--", 100)
    assert list(framer.feed(b"no end is here yet --end")) == []
    rest = b"no end is here yet --end"[size:]
    framer.takeUpTo(size)
    framer.feed(b"--")
    assert framer.take() == (rest[: -len(b"--end")] if size <= 19 else None)


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_a_message_of_the_full_length_is_taken_and_one_more_byte_refused(framer: Framer) -> None:
    assert list(framer.feed(framer.frame(b"x" * 1000))) == [b"x" * 1000]
    with pytest.raises(MessageTooLong) as caught:
        list(framer.feed(framer.frame(b"x" * 1001)))
    assert (caught.value.size, caught.value.limit) == (1001, 1000)
    assert "1001" in str(caught.value)
    assert "1000" in str(caught.value)


def test_the_messages_before_a_bad_one_are_given_first(framer: Framer) -> None:
    wire = framer.frame(b"good") + framer.frame(b"x" * 1001) + framer.frame(b"good")
    found = []
    with pytest.raises(MessageTooLong):
        for message in framer.feed(wire):
            found.append(message)
    assert found == [b"good"]


def test_after_a_refusal_nothing_is_kept_until_the_rest_is_taken(framer: Framer) -> None:
    bad = framer.frame(b"x" * 1001)
    for _ in range(3):
        with pytest.raises(MessageTooLong) as caught:
            list(framer.feed(bad))
        assert caught.value.args == (1001, 1000)
        with pytest.raises(MessageTooLong):
            framer.take()
    assert framer.waiting == len(bad)
    assert framer.takeRest() == bad
    assert list(framer.feed(framer.frame(b"good"))) == [b"good"]


def test_a_limit_may_be_changed_and_holds_from_the_next_message_on(framer: Framer) -> None:
    framer.feed(framer.frame(b"12345") * 2)
    framer.limit = 5
    assert framer.take() == b"12345"
    framer.limit = 4
    with pytest.raises(MessageTooLong):
        framer.take()
    framer.limit = 5
    framer.giveBack(framer.takeRest())
    assert framer.take() == b"12345"


def test_nothing_but_empty_messages_may_be_the_limit(framer: Framer) -> None:
    framer.limit = 0
    assert list(framer.feed(framer.frame(b""))) == [b""]
    with pytest.raises(MessageTooLong):
        list(framer.feed(framer.frame(b"x")))


@pytest.mark.parametrize("read", [1, 10, 64, 5000])
def test_no_more_than_the_limit_its_framing_and_one_read_is_ever_kept(framer: Framer, read: int) -> None:
    """Invariant: after a read, unless it was refused, what waits is less than a whole message."""
    # Why these: the sizes of the framing at its longest, and bytes that begin no delimiter, a long prefix, a netstring.
    most = 1000 + 10
    for begin in (b"9" * 3, b"\x00\x00\x03\xe8", b"\x03\xe8", b"\xe8\x03\0\0\0\0\0\0", b"1000:", b"x"):
        framer.takeRest()
        wire = begin + b"x" * 4000
        try:
            for place in range(0, len(wire), read):
                for _ in framer.feed(wire[place : place + read]):
                    pass
                assert framer.waiting < most
        except FramingError:
            assert framer.waiting < most + read


def test_a_line_is_refused_with_the_byte_that_makes_it_too_long_and_not_before() -> None:
    framer = DelimitedFramer(b"\r\n", 10)
    for byte in b"x" * 10 + b"\r":
        assert list(framer.feed(bytes([byte]))) == []
    assert list(framer.feed(b"\n")) == [b"x" * 10]
    assert list(framer.feed(b"x" * 11)) == []
    with pytest.raises(MessageTooLong) as caught:
        list(framer.feed(b"x"))
    assert caught.value.size == 11


def test_a_prefix_that_tells_too_much_is_refused_before_any_of_it_comes() -> None:
    with pytest.raises(MessageTooLong) as caught:
        list(LengthPrefixedFramer("!I", 1000).feed(b"\xff\xff\xff\xff"))
    assert caught.value.size == 2**32 - 1
    with pytest.raises(MessageTooLong) as caught:
        list(NetstringFramer(1000).feed(b"2000"))
    assert caught.value.size == 2000


# ---- one kind and the other ------------------------------------------------------------------------------------------


def test_a_delimiter_may_be_changed_between_messages() -> None:
    framer = DelimitedFramer(b"\r\n", 100)
    framer.feed(b"one\r\ntwo\nthree;four")
    assert framer.take() == b"one"
    framer.delimiter = b"\n"
    assert framer.take() == b"two"
    framer.delimiter = b"\r\n"
    assert framer.take() is None
    framer.delimiter = b";"
    assert framer.take() == b"three"


@pytest.mark.parametrize("pieces", [[b"a-", b"-b--"], [b"a", b"--b-", b"-"], [b"a---", b"b--"]])
def test_a_delimiter_is_found_across_pieces(pieces: list[bytes]) -> None:
    framer = DelimitedFramer(b"--", 100)
    found = [message for piece in pieces for message in framer.feed(piece)]
    assert found == b"".join(pieces).split(b"--")[:-1]


def test_an_empty_delimiter_is_refused() -> None:
    with pytest.raises(ValueError, match="one byte or more"):
        DelimitedFramer(b"")
    framer = DelimitedFramer()
    framer.delimiter = b""
    with pytest.raises(ValueError, match="one byte or more"):
        framer.feed(b"x").__next__()


@pytest.mark.parametrize("message", [b"a\r\nb", b"\r\n", b"a\r\n"])
def test_a_message_that_holds_the_delimiter_is_not_framed(message: bytes) -> None:
    with pytest.raises(FramingError, match="inside"):
        DelimitedFramer().frame(message)


def test_a_message_whose_end_makes_a_delimiter_with_the_delimiter_is_not_framed() -> None:
    with pytest.raises(FramingError, match="begins there"):
        DelimitedFramer(b"--").frame(b"a-")
    # With this one there is no doubt where it begins.
    assert list(DelimitedFramer(b"\r\n").feed(DelimitedFramer(b"\r\n").frame(b"a\r"))) == [b"a\r"]


def test_split_gives_all_lines_at_once_however_long() -> None:
    framer = DelimitedFramer(b"\n", 5)
    framer.feed(b"one\ntoo long a line\ntwo\nth")
    assert framer.split() == [b"one", b"too long a line", b"two"]
    assert framer.split() == []
    framer.feed(b"ree")
    assert framer.split() == []
    framer.feed(b"x")
    with pytest.raises(MessageTooLong):
        framer.split()
    with pytest.raises(MessageTooLong):
        framer.split()
    assert framer.takeRest() == b"threex"
    framer.delimiter = b";"
    framer.feed(b"a;b\n")
    assert framer.split() == [b"a"]


@pytest.mark.parametrize("structFormat", ["!HH", "!f", "2s", "", "!?"])
def test_a_format_is_one_whole_number(structFormat: str) -> None:
    with pytest.raises(ValueError, match="one whole number"):
        LengthPrefixedFramer(structFormat)


def test_a_negative_length_is_refused() -> None:
    framer = LengthPrefixedFramer("!b", 100)
    assert (framer.structFormat, framer.prefixLength) == ("!b", 1)
    with pytest.raises(FramingError, match="cannot have -1 bytes"):
        framer.feed(b"\xff").__next__()


def test_a_length_the_prefix_cannot_tell_is_not_framed() -> None:
    assert LengthPrefixedFramer("!B").frame(b"x" * 255) == b"\xff" + b"x" * 255
    with pytest.raises(FramingError, match="1 bytes cannot tell the length of 256 bytes"):
        LengthPrefixedFramer("!B").frame(b"x" * 256)


@pytest.mark.parametrize(
    "bad",
    [
        b"a",
        b":",
        b"01:x,",
        b"00:,",
        b"-1:x,",
        b"+1:x,",
        b" 1:x,",
        b"1 :x,",
        b"1:x;",
        b"0:x",
        b"5\n",
        b"\xb2:xx,",
    ],
)
def test_what_is_no_netstring_is_refused_whole_and_byte_by_byte(bad: bytes) -> None:
    with pytest.raises(NetstringParseError):
        list(NetstringFramer(9).feed(bad))
    framer = NetstringFramer(9)
    with pytest.raises(NetstringParseError):
        for place in range(len(bad)):
            list(framer.feed(bad[place : place + 1]))


def test_a_million_digits_are_refused_with_the_first_few() -> None:
    framer = NetstringFramer(99999)
    with pytest.raises(MessageTooLong) as caught:
        list(framer.feed(b"9" * 1_000_000))
    assert caught.value.size == 999999


def test_a_limit_is_not_negative() -> None:
    for kind in (DelimitedFramer, LengthPrefixedFramer, NetstringFramer):
        with pytest.raises(ValueError, match="0 bytes or more, not -1"):
            kind(limit=-1)


def test_errors_are_values_and_can_be_sent_on() -> None:
    error = MessageTooLong(20, 10)
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (other.size, other.limit, str(other)) == (20, 10, str(error))
    assert issubclass(NetstringParseError, FramingError)
    assert issubclass(FramingError, ValueError)


@pytest.mark.parametrize("kind", [DelimitedFramer, LengthPrefixedFramer, NetstringFramer])
def test_a_refusal_leaves_no_circle(kind: Any) -> None:
    class Watched(kind):
        __slots__ = ("__weakref__",)

    framer = Watched(limit=5)
    seen = weakref.ref(framer)
    gc.disable()
    try:
        for _ in range(2):
            with pytest.raises(MessageTooLong):
                list(framer.feed(framer.frame(b"too long")))
        del framer
        assert seen() is None
    finally:
        gc.enable()


def test_a_framer_of_one_s_own_has_two_methods() -> None:
    class Threes(Framer):
        """Messages of three bytes."""

        def take(self) -> bytes | None:
            return self.takeUpTo(3) if self.waiting >= 3 else None

        def frame(self, message: Any) -> bytes:
            if len(message) != 3:
                raise FramingError("three bytes")
            return bytes(message)

    framer = Threes(3)
    found = [message for piece in (b"on", b"etw", b"osix") for message in framer.feed(piece)]
    assert found == [b"one", b"two", b"six"]
    with pytest.raises(TypeError, match="abstract"):
        Framer(3)  # type: ignore[abstract]


# ---- work ------------------------------------------------------------------------------------------------------------


def counted(kind: type[Framer]) -> Any:
    """A framer of that kind that counts what `feed` copies and what is searched, in bytes."""

    class Counted(kind):  # type: ignore[valid-type,misc]
        work = 0

        def feed(self, data: Any) -> Any:
            before = self._data
            fed = super().feed(data)
            # A new object is a copy of all that is in it; the same has only grown.
            self.work += len(data) if self._data is before else len(self._data)
            return fed

        def take(self) -> Any:
            self.work += 10
            if kind is DelimitedFramer:
                start = self._start + self._searched
                end = self._data.find(self.delimiter, start)
                self.work += (len(self._data) if end < 0 else end) - start
            before = self._data
            message = super().take()
            if self._data is not before:
                self.work += len(self._data)
            return message

    return Counted


@pytest.mark.parametrize("read", [1, 2, 100, 4096, 10**9])
@pytest.mark.parametrize("size", [1, 100, 10_000])
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(DelimitedFramer, (b"\r\n", 10**6)), (LengthPrefixedFramer, ("!I", 10**6)), (NetstringFramer, (10**6,))],
)
def test_work_grows_as_the_bytes_do_however_they_are_cut(
    kind: Any, arguments: tuple[Any, ...], size: int, read: int
) -> None:
    framer = counted(kind)(*arguments)
    wire = framer.frame(b"x" * size) * (30_000 // size)
    count = 0
    for place in range(0, len(wire), read):
        for _ in framer.feed(wire[place : place + read]):
            count += 1
    assert count == 30_000 // size
    # Why 20: fed byte by byte, each byte is copied once and searched twice, and a call of `take`, one for each byte and one for
    # each message, counts for ten.
    assert framer.work <= 20 * len(wire)


def test_a_consumer_that_lags_behind_costs_no_more() -> None:
    """One message is taken for each byte that is fed, from a rest of a million bytes: the rest is not moved each time."""
    framer = counted(DelimitedFramer)(b"\n", 100)
    framer.feed(b"12345678\n" * 20_000)
    framer.work = 0
    for _ in range(20_000):
        framer.feed(b"x")
        assert framer.take() == b"12345678"
        assert len(framer._data) <= 2 * framer.waiting + 20
    assert framer.work <= 40 * 200_000


@pytest.mark.parametrize("kind", [DelimitedFramer, LengthPrefixedFramer])
def test_raw_bytes_taken_one_at_a_time_cost_no_more(kind: Any) -> None:
    """Between any two of them a message is asked for, which is not there: nothing is searched twice, or moved each time."""
    framer = counted(kind)(limit=2**32)
    framer.feed(b"\x7f" * 10_000)
    framer.work = 0
    for _ in range(9000):
        assert framer.takeUpTo(1) != b""
        assert framer.take() is None
    assert framer.work <= 16 * 10_000


def test_memory_of_what_was_taken_is_let_go() -> None:
    framer = LengthPrefixedFramer("!I", 10**6)
    wire = framer.frame(b"x" * 500_000)
    wire += b"\0\0\1"
    found = [
        message for place in range(0, len(wire), 1000) for message in framer.feed(wire[place : place + 1000])
    ]
    assert len(found) == 1
    assert len(framer._data) == 3
