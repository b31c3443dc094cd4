"""The two buffers of one end of a simulated connection, and the credit that ties them to the other end's.

`SendBuffer` holds what the program has sent and the peer has not acknowledged: a part that waits, since the peer's buffer
has no room for it, and a part that is on its way. `ReceiveBuffer` holds what has come and was not read.

Credit is how flow control goes: an end may send what the other's buffer has room for; reading gives credit back once half
of the buffer has been freed, so that no silly small windows are announced.

No packets, no states, no errors in here. Sources: RFC 9293 section 3.8.6 for windows; Linux sk_stream_is_writeable for when
a poller reports OUT.
"""

from __future__ import annotations

from collections import deque

# The most bytes of one packet. Source: what Linux hands on in one piece with segmentation offload, 64 KiB.
_SEGMENT = 65_536


class SendBuffer:
    """What was sent and is not acknowledged."""

    __slots__ = ("_parts", "_waiting", "credit", "in_flight")

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._waiting = 0
        self.in_flight = 0
        # Bytes that the peer has room for.
        self.credit = 0

    def room(self, capacity: int) -> int:
        return capacity - self._waiting - self.in_flight

    def is_roomy(self, capacity: int) -> bool:
        """Whether a poller reports OUT: a third of the buffer is free."""
        return 3 * (self._waiting + self.in_flight) <= 2 * capacity

    def add(self, data: bytes) -> None:
        self._parts.append(data)
        self._waiting += len(data)

    def next(self) -> bytes:
        """What may go out now, one packet of it; b"" for nothing. It is then on its way."""
        parts = self._parts
        room = self.credit
        if not parts or room <= 0:
            return b""
        if room > _SEGMENT:
            room = _SEGMENT
        data = parts[0]
        if len(data) > room:
            parts[0] = data[room:]
            data = data[:room]
        else:
            parts.popleft()
        self._waiting -= len(data)
        self.in_flight += len(data)
        self.credit -= len(data)
        return data

    def is_empty(self) -> bool:
        """Whether nothing waits; some may be on its way."""
        return not self._parts

    def clear(self) -> None:
        """Throw away what waits."""
        self._parts.clear()
        self._waiting = 0


class ReceiveBuffer:
    """What has come and was not read."""

    __slots__ = ("_freed", "_parts", "size")

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._freed = 0
        self.size = 0

    def add(self, data: bytes) -> None:
        self._parts.append(data)
        self.size += len(data)

    def take(self, size: int) -> bytes:
        """So many bytes at most; there must be some."""
        parts = self._parts
        data = parts.popleft()
        if len(data) < size and parts:
            gathered = [data]
            missing = size - len(data)
            while parts and missing > 0:
                part = parts.popleft()
                gathered.append(part)
                missing -= len(part)
            data = b"".join(gathered)
        if len(data) > size:
            parts.appendleft(data[size:])
            data = data[:size]
        self.size -= len(data)
        self._freed += len(data)
        return data

    def credit_back(self, capacity: int) -> int:
        """What the peer may be told that there is room for again; 0 while it is too little to mention."""
        if 2 * self._freed < capacity:
            return 0
        credit, self._freed = self._freed, 0
        return credit

    def clear(self) -> None:
        self._parts.clear()
        self.size = 0
