"""The write buffer: what came in, what to send next, what went. No I/O.

A stream needs one only when a single `bytes` no longer says it: several writes in one handler, or a kernel buffer that
took a part. Chunks stay as they came, none is copied while it waits; a chunk that went in part is remembered by an
offset. Small neighbours are joined into one `send`, large ones leave together in one `sendmsg`.

A part of a file waits in its place among them, and is handed out by itself: its bytes are never here.

Bytes in are bytes out, in order, once: see tests/rooms/test_outbox.py, which feeds and drains at random.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any

from ropewalk._system import FilePart

# Up to this size the next chunks are joined: copying 16 KiB costs less than the setup of a vectored send.
_JOIN_LIMIT = 16384
# No more than this is offered to the kernel in one call. Why: it takes a socket buffer's worth at most (a few MB), and
# walking further chunks for nothing costs.
_OFFER_LIMIT = 1 << 20


class Outbox:
    """Chunks of bytes that wait to be sent."""

    __slots__ = ("_chunks", "in_files", "offered", "offset", "size")

    def __init__(self) -> None:
        self._chunks: deque[bytes | FilePart] = deque()
        # How much of the first chunk has left.
        self.offset = 0
        # How much of it, and of those behind it, `next` has handed out last.
        self.offered = 0
        # Bytes that wait, and how many of them are in files.
        self.size = self.in_files = 0

    def append(self, data: bytes | FilePart) -> None:
        """Args: data: not empty."""
        # hot: benchmarks/ stream.
        self._chunks.append(data)
        self.size += len(data)
        if type(data) is FilePart:
            self.in_files += len(data)

    def next(self, most_buffers: int) -> bytes | memoryview | list[bytes | memoryview] | FilePart:
        """What to hand to the kernel next; `offered` is then how many bytes that is.

        Returns: one buffer; a list of up to `most_buffers` for a vectored send; or a part of a file, of which `offset`
                 bytes have left.
        """
        # hot: benchmarks/ stream.
        chunks = self._chunks
        chunk = chunks[0]
        if isinstance(chunk, FilePart):
            self.offered = len(chunk) - self.offset
            return chunk
        first: bytes | memoryview = chunk
        if self.offset:
            first = memoryview(first)[self.offset :]
        if len(chunks) == 1:
            self.offered = len(first)
            return first
        offered, size = self._first_chunks(first, most_buffers)
        # More than one call takes are small ones, and would leave as small packets. Why the half: what was joined before
        # is copied again only when most of it has left, so that it all stays linear.
        is_crumbs = len(offered) > most_buffers and len(first) < _JOIN_LIMIT // 2
        if size <= _JOIN_LIMIT or is_crumbs:
            # Kept joined. Why: a kernel that takes a little at a time would have the rest copied again for each call.
            joined = b"".join(offered)
            for _ in offered:
                chunks.popleft()
            chunks.appendleft(joined)
            self.offset = 0
            self.offered = size
            return joined
        if len(offered) > most_buffers:
            offered = offered[:most_buffers]
            size = sum(map(len, offered))
        self.offered = size
        return offered

    def _first_chunks(
        self, first: bytes | memoryview, most_buffers: int
    ) -> tuple[list[bytes | memoryview], int]:
        """The first chunks, and how many bytes they are: as many as may leave together, or, while they are small, more."""
        chunks = self._chunks
        if not self.in_files and self.size <= _OFFER_LIMIT and len(chunks) <= most_buffers:
            # All of them, as nearly always.
            every: list[Any] = list(chunks)
            every[0] = first
            return every, self.size
        offered: list[bytes | memoryview] = [first]
        size = len(first)
        for chunk in islice(chunks, 1, None):
            if (len(offered) >= most_buffers and size > _JOIN_LIMIT) or size >= _OFFER_LIMIT:
                break
            if isinstance(chunk, FilePart):
                break
            offered.append(chunk)
            size += len(chunk)
        return offered, size

    def went(self, count: int) -> None:
        """So many bytes were taken by the kernel."""
        # hot: benchmarks/ stream.
        self.size -= count
        if not self.size:
            self.clear()
            return
        chunks = self._chunks
        # Safe because: a part of a file is offered by itself.
        if self.in_files and isinstance(chunks[0], FilePart):
            self.in_files -= count
        count += self.offset
        while chunks and count >= len(chunks[0]):
            count -= len(chunks.popleft())
        self.offset = count

    def cut(self) -> None:
        """The first chunk, a part of a file, has no more bytes: what is missing is not waited for, and the part says so."""
        part = self._chunks.popleft()
        missing = len(part) - self.offset
        self.size -= missing
        self.in_files -= missing
        if isinstance(part, FilePart):
            part.size = self.offset
        self.offset = 0

    @property
    def held(self) -> int:
        """Bytes in memory: without those of files."""
        return self.size - self.in_files

    def clear(self) -> None:
        self._chunks.clear()
        self.offset = self.size = self.in_files = 0
