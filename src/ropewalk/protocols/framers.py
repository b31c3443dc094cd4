"""Bytes in, messages out: framing without a connection.

A framer is fed with bytes as they come, cut anywhere, and gives the messages in them one at a time. Whoever takes them may
stop after any, feed other bytes, or take the rest back and hand it to somebody else. `frame` does the opposite.

It must never know a transport, a protocol or time; the same framer serves a connection, a file and a test.

What is not taken yet is one object, `_data`, from the place `_start` on: `bytes` as they were fed, so that a message is one
slice and a read of many messages is not copied first; a `bytearray` while small pieces come to a large rest.
Rule: linear time, however the bytes are cut. A rest is copied only when at least as much was fed, or was taken, since it
  was copied last; what was searched for a delimiter is not searched again.
Rule: a message that is too long is refused as soon as that is certain. Nobody keeps more than the longest message, its
  framing and what was fed last, provided that messages are taken until there is none.
Rule: what was refused stays where it is, and nothing more is kept, until `takeRest`. Why: whoever asks what was wrong can
  be shown, and whoever does not ask cannot take what follows for messages.
Rejected: a list of pieces, joined for each message. It is as linear, but a delimiter can lie across pieces.
Rejected: finding all messages of a read at once, but for `DelimitedFramer.split`: a consumer that stops at the first had work
  done for a thousand, and one that changes the delimiter had it done wrongly.
Sources: netstrings, D. J. Bernstein, 1997; the limits are those of twisted.protocols.basic, which users know.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator

from ropewalk.transport import as_bytes

__all__ = [
    "DelimitedFramer",
    "Framer",
    "FramingError",
    "LengthPrefixedFramer",
    "MessageTooLong",
    "NetstringFramer",
    "NetstringParseError",
]

Bytes = bytes | bytearray | memoryview

# Source: Twisted's MAX_LENGTH, for lines and for what tells its length.
LINE_LIMIT = 16384
STRING_LIMIT = 99999


class FramingError(ValueError):
    """What was received cannot be cut into messages."""


class MessageTooLong(FramingError):
    """A message is longer than it may be.

    Args:   size: its length in bytes, as far as it is known: at least so many, where its end has not come.
            limit: how long it may be.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return f"a message of {self.size} bytes or more is longer than the limit of {self.limit}"


class NetstringParseError(FramingError):
    """What was received is no netstring."""


class Framer(ABC):
    """What all framers have in common: keeping what is not taken. A framer of your own has `take` and `frame`.

    Args:   limit: the longest message, in bytes; it may be set at any time, and holds from the next message on.
    Raises: ValueError for a limit below 0.
    """

    __slots__ = ("_data", "_refused", "_start", "limit")

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"a limit is 0 bytes or more, not {limit!r}")
        self.limit = limit
        self._data: bytes | bytearray = b""
        self._start = 0
        self._refused: FramingError | None = None

    # ---- in ---------------------------------------------------------------------------------------------------

    def feed(self, data: Bytes) -> Iterator[bytes]:
        """Add what has come in.

        Args:    data: bytes-like, cut anywhere, also empty; a mutable one is copied.
        Returns: the messages that are whole now, as an iterator. What it is not asked for stays, for the next `feed` or `take`.
        Raises:  FramingError, the same again, after one was raised and the rest not taken; `data` is not kept then. The
                 iterator raises it too, when the bad message's turn comes.
        """
        if self._refused is not None:
            raise self._refused_again()
        if type(data) is not bytes:
            data = as_bytes(data)
        kept, start = self._data, self._start
        rest = len(kept) - start
        if not rest:
            self._data = data
            self._start = 0
        elif len(data) >= rest:
            self._data = b"".join((memoryview(kept)[start:], data))
            self._start = 0
        else:
            # Why half: then as much was taken as is to be moved.
            if type(kept) is not bytearray or start > rest:
                kept = self._data = bytearray(memoryview(kept)[start:])
                self._start = 0
            kept += data
        return self

    def giveBack(self, data: Bytes) -> None:
        """Put bytes in front of the rest: they are the next to be taken.

        Args:   data: bytes-like. The end of what was taken last costs nothing; anything else a copy of the rest.
        """
        data = as_bytes(data)
        size, start = len(data), self._start
        if size <= start and self._data[start - size : start] == data:
            self._start = start - size
        elif start == len(self._data):
            self._data = data
            self._start = 0
        else:
            self._data = b"".join((data, memoryview(self._data)[start:]))
            self._start = 0

    # ---- out --------------------------------------------------------------------------------------------------

    @abstractmethod
    def take(self) -> bytes | None:
        """The next message, without its framing; None if it is not whole yet.

        Raises: FramingError, also each time again, until `takeRest`.
        """

    @abstractmethod
    def frame(self, message: Bytes) -> bytes:
        """A message as it is sent: with its framing.

        Raises: FramingError if this framing cannot carry it. The limit is the receiver's, and is not asked.
        """

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        message = self.take()
        if message is None:
            raise StopIteration
        return message

    @property
    def waiting(self) -> int:
        """Bytes that were fed and not taken."""
        return len(self._data) - self._start

    def peek(self) -> bytes:
        """A copy of what was fed and not taken."""
        return bytes(memoryview(self._data)[self._start :])

    def takeRest(self) -> bytes:
        """All that was fed and not taken, framing included. The framer is as new."""
        rest = self.takeUpTo(self.waiting)
        self._refused = None
        self._settle()
        return rest

    def takeUpTo(self, size: int) -> bytes:
        """The next bytes as they are, so many at most."""
        end = min(self._start + max(size, 0), len(self._data))
        piece = self._cut(self._start, end)
        self._start = end
        return piece

    # ---- for the framers --------------------------------------------------------------------------------------

    def _cut(self, start: int, end: int) -> bytes:
        data = self._data
        if type(data) is bytes:
            return data[start:end]
        # Why through a memoryview: a slice of a bytearray would be a copy, and bytes of it another.
        return bytes(memoryview(data)[start:end])

    def _settle(self) -> None:
        """Nothing more can be taken for now: let go of what was."""
        start = self._start
        # Why half: see `feed`.
        if start and start * 2 >= len(self._data):
            self._data = self._data[start:]
            self._start = 0

    def _refuse(self, error: FramingError) -> FramingError:
        self._refused = error
        return self._refused_again()

    def _refused_again(self) -> FramingError:
        # Why another object each time: one that was raised leads to the frames that called, and they lead here.
        error = self._refused
        assert error is not None
        return type(error)(*error.args)


class DelimitedFramer(Framer):
    """Messages that end with a delimiter, as lines do.

    Args:   delimiter: one byte or more; it may be set at any time.
            limit: the longest message, without its delimiter.
    Raises: ValueError for an empty delimiter.
    """

    __slots__ = ("_searched", "_searched_for", "delimiter")

    def __init__(self, delimiter: bytes = b"\r\n", limit: int = LINE_LIMIT) -> None:
        super().__init__(limit)
        if not delimiter:
            raise ValueError("a delimiter is one byte or more")
        self.delimiter = delimiter
        self._searched_for = delimiter
        # How many bytes from `_start` on no delimiter begins in.
        self._searched = 0

    def take(self) -> bytes | None:
        if self._refused is not None:
            raise self._refused_again()
        delimiter, data, start = self.delimiter, self._data, self._start
        if delimiter != self._searched_for:
            self._search_anew(delimiter)
        end = data.find(delimiter, start + self._searched)
        if end < 0:
            self._check_unended(len(data) - start)
            return None
        if end - start > self.limit:
            raise self._refuse(MessageTooLong(end - start, self.limit))
        self._start = end + len(delimiter)
        self._searched = 0
        return data[start:end] if type(data) is bytes else self._cut(start, end)

    def split(self) -> list[bytes]:
        """All messages that are whole, at once: quicker, for a consumer that looks at their lengths himself and does not stop.

        Returns: the messages, however long; an empty list for none.
        Raises:  MessageTooLong if there is none, and the one to come is too long already.
        """
        if self._refused is not None:
            raise self._refused_again()
        delimiter, data, start = self.delimiter, self._data, self._start
        if delimiter != self._searched_for:
            self._search_anew(delimiter)
        if data.find(delimiter, start + self._searched) < 0:
            self._check_unended(len(data) - start)
            return []
        messages = self._cut(start, len(data)).split(delimiter)
        self._data = messages.pop()
        self._start = self._searched = 0
        return messages

    def _check_unended(self, size: int) -> None:
        """No delimiter yet: perhaps there cannot be one in time any more."""
        most = len(self.delimiter) - 1
        if size > self.limit + most:
            raise self._refuse(MessageTooLong(size - most, self.limit))
        self._searched = max(size - most, 0)
        self._settle()

    def _search_anew(self, delimiter: bytes) -> None:
        if not delimiter:
            raise ValueError("a delimiter is one byte or more")
        self._searched_for = delimiter
        self._searched = 0

    def giveBack(self, data: Bytes) -> None:
        super().giveBack(data)
        self._searched = 0

    def takeUpTo(self, size: int) -> bytes:
        piece = super().takeUpTo(size)
        self._searched = max(self._searched - len(piece), 0)
        return piece

    def frame(self, message: Bytes) -> bytes:
        framed = bytes(message) + self.delimiter
        if framed.find(self.delimiter) < len(message):
            raise FramingError(f"the delimiter {self.delimiter!r} is inside of the message, or begins there")
        return framed


class LengthPrefixedFramer(Framer):
    """Messages that begin with their length, as a binary number.

    Args:   structFormat: the number, as `struct` writes it: "!I" is four bytes, the highest first.
            limit: the longest message, without its prefix.
    Raises: ValueError for a format that is not one whole number.
    """

    __slots__ = ("_prefix",)

    def __init__(self, structFormat: str = "!I", limit: int = STRING_LIMIT) -> None:
        super().__init__(limit)
        self._prefix = struct.Struct(structFormat)
        example = self._prefix.unpack(bytes(self._prefix.size))
        if len(example) != 1 or type(example[0]) is not int:
            raise ValueError(f"{structFormat!r} is not the format of one whole number")

    @property
    def structFormat(self) -> str:
        """The format of the prefix."""
        return self._prefix.format

    @property
    def prefixLength(self) -> int:
        """The prefix's size in bytes."""
        return self._prefix.size

    def take(self) -> bytes | None:
        if self._refused is not None:
            raise self._refused_again()
        data, start, prefix = self._data, self._start, self._prefix
        first = start + prefix.size
        if len(data) >= first:
            (length,) = prefix.unpack_from(data, start)
            if length > self.limit:
                raise self._refuse(MessageTooLong(length, self.limit))
            if length < 0:
                raise self._refuse(FramingError(f"a message cannot have {length} bytes"))
            end = first + length
            if len(data) >= end:
                self._start = end
                return data[first:end] if type(data) is bytes else self._cut(first, end)
        self._settle()
        return None

    def frame(self, message: Bytes) -> bytes:
        try:
            prefix = self._prefix.pack(len(message))
        except struct.error:
            raise FramingError(
                f"a prefix of {self._prefix.size} bytes cannot tell the length of {len(message)} bytes"
            ) from None
        return prefix + bytes(message)


class NetstringFramer(Framer):
    """Messages between their length in decimal digits with a colon, and a comma: `5:hello,`.

    Args:   limit: the longest message, without its framing.
    Source: cr.yp.to/proto/netstrings.txt: no leading zeros, no other characters.
    """

    __slots__ = ()

    def __init__(self, limit: int = STRING_LIMIT) -> None:
        super().__init__(limit)

    def take(self) -> bytes | None:
        if self._refused is not None:
            raise self._refused_again()
        data, start = self._data, self._start
        # Rule: one digit more than the limit has is too many. Looking no further, a million digits cost nothing.
        most = len(str(self.limit)) + 1
        colon = data.find(b":", start, start + most + 1)
        head = bytes(data[start : start + most if colon < 0 else colon])
        if head or colon >= 0:
            length = self._length(head)
            end = colon + 1 + length
            if colon >= 0 and len(data) > end:
                if data[end] != 0x2C:
                    raise self._refuse(NetstringParseError(f"no comma after {length} bytes"))
                self._start = end + 1
                return self._cut(colon + 1, end)
        self._settle()
        return None

    def _length(self, head: bytes) -> int:
        """The number that these bytes are or begin; refused as soon as it can become no good one."""
        if head[:1] == b"0" and len(head) > 1:
            raise self._refuse(NetstringParseError(f"a length has no zero before it: {head!r}"))
        digits = head if head.isdigit() else head[: len(head) - len(head.lstrip(b"0123456789"))]
        length = int(digits or b"0")
        # Why first: fed byte by byte, the number is too big before it is known what follows.
        if length > self.limit:
            raise self._refuse(MessageTooLong(length, self.limit))
        if len(digits) < len(head) or not digits:
            raise self._refuse(NetstringParseError(f"no length begins with {head!r}"))
        return length

    def frame(self, message: Bytes) -> bytes:
        return b"%d:%b," % (len(message), bytes(message))
