"""The write buffer: what came in, what to send next, what went. No I/O.

A stream needs one only when a single `bytes` no longer says it: several writes in one handler, or a kernel buffer that
took a part. Chunks stay as they came, none is copied while it waits; a chunk that went in part is remembered by an
offset. Small neighbours are joined into one `send`, large ones leave together in one `sendmsg`.

A part of a file waits in its place among them, and is handed out by itself: its bytes are never here.

Bytes in are bytes out, in order, once: see tests/rooms/test_outbox.py, which feeds and drains at random.
"""

from __future__ import annotations

from collections import deque

from ropewalk._system import FilePart

# Up to this size the next chunks are joined: copying 16 KiB costs less than the setup of a vectored send.
_JOIN_LIMIT = 16384
# No more than this is offered to the kernel in one call. Why: it takes a socket buffer's worth at most (a few MB), and
# walking further chunks for nothing costs.
_OFFER_LIMIT = 1 << 20


class Outbox:
    """Chunks of bytes that wait to be sent."""

    __slots__ = ("_chunks", "in_files", "offset", "size")

    def __init__(self) -> None:
        self._chunks: deque[bytes | FilePart] = deque()
        # How much of the first chunk has left.
        self.offset = 0
        # Bytes that wait, and how many of them are in files.
        self.size = self.in_files = 0

    def append(self, data: bytes | FilePart) -> None:
        if data:
            self._chunks.append(data)
            self.size += len(data)
            if isinstance(data, FilePart):
                self.in_files += len(data)

    def next(self, most_buffers: int) -> bytes | memoryview | list[bytes | memoryview] | FilePart:
        """What to hand to the kernel next.

        Returns: one buffer; a list of up to `most_buffers` for a vectored send; or a part of a file, of which `offset`
                 bytes have left.
        """
        chunks = self._chunks
        chunk = chunks[0]
        if isinstance(chunk, FilePart):
            return chunk
        first: bytes | memoryview = chunk
        if self.offset:
            first = memoryview(first)[self.offset :]
        if len(chunks) == 1:
            return first
        offered: list[bytes | memoryview] = [first]
        size = len(first)
        for place, chunk in enumerate(chunks):
            if place:
                if (place >= most_buffers and size > _JOIN_LIMIT) or size >= _OFFER_LIMIT:
                    break
                if isinstance(chunk, FilePart):
                    break
                offered.append(chunk)
                size += len(chunk)
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
            return joined
        return offered[:most_buffers]

    def went(self, count: int) -> None:
        """So many bytes were taken by the kernel."""
        self.size -= count
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
