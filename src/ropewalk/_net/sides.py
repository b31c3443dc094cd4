"""The states of a Stream, as data: its two sides, what they make together, and the whole.

Half-close is why there are three small tables and not one: each side ends by itself, and closing and aborting concern the
whole. The Stream looks the next state up here and keeps it; a pair that is missing raises, naming both. What does not
change what is legal (pausing, how much waits) is no state.

It must never know sockets, bytes or the loop. It is beside stream.py, and not above the class as other tables are, since
that file is the longest of all.
"""

from __future__ import annotations

from enum import StrEnum

from ropewalk.machine import Table


class ReadSide(StrEnum):
    OPEN = "open"
    ENDED = "ended"


class WriteSide(StrEnum):
    OPEN = "open"
    FLUSHING = "flushing"
    SHUT = "shut"


class StreamState(StrEnum):
    CONNECTED = "connected"
    CLOSING = "closing"
    ABORTING = "aborting"
    CLOSED = "closed"


# The members by themselves, for stream.py. Why: through its class one costs 50 ns (CPython 3.11), by a name of the module's 3,
# and a connection that comes and goes asks for twenty.
READ_OPEN, READ_ENDED = ReadSide
WRITE_OPEN, WRITE_FLUSHING, WRITE_SHUT = WriteSide
CONNECTED, CLOSING, ABORTING, CLOSED = StreamState


class StreamEvent(StrEnum):
    PEER_ENDED = "peer sent FIN"
    SHUT_ASKED = "loseWriteConnection"
    FLUSHED = "all sent"
    CLOSE_ASKED = "loseConnection"
    ABORT_ASKED = "abortConnection"
    GONE = "socket closed"


READ_SIDE: Table[ReadSide, StreamEvent] = Table(
    "read side of a Stream",
    {
        (ReadSide.OPEN, StreamEvent.PEER_ENDED): ReadSide.ENDED,
    },
)
WRITE_SIDE: Table[WriteSide, StreamEvent] = Table(
    "write side of a Stream",
    {
        (WriteSide.OPEN, StreamEvent.SHUT_ASKED): WriteSide.FLUSHING,
        (WriteSide.FLUSHING, StreamEvent.FLUSHED): WriteSide.SHUT,
    },
)
LIFE: Table[StreamState, StreamEvent] = Table(
    "Stream",
    {
        (StreamState.CONNECTED, StreamEvent.CLOSE_ASKED): StreamState.CLOSING,
        (StreamState.CONNECTED, StreamEvent.ABORT_ASKED): StreamState.ABORTING,
        (StreamState.CLOSING, StreamEvent.ABORT_ASKED): StreamState.ABORTING,
        (StreamState.CONNECTED, StreamEvent.GONE): StreamState.CLOSED,
        (StreamState.CLOSING, StreamEvent.GONE): StreamState.CLOSED,
        (StreamState.ABORTING, StreamEvent.GONE): StreamState.CLOSED,
    },
)
# The joint table: what the two sides make together, while the whole is connected.
JOINT: dict[tuple[ReadSide, WriteSide], str] = {
    (ReadSide.OPEN, WriteSide.OPEN): "connected",
    (ReadSide.OPEN, WriteSide.FLUSHING): "connected, our side about to end",
    (ReadSide.OPEN, WriteSide.SHUT): "half-closed by us",
    (ReadSide.ENDED, WriteSide.OPEN): "half-closed by the peer",
    (ReadSide.ENDED, WriteSide.FLUSHING): "half-closed by the peer, our side about to end",
    (ReadSide.ENDED, WriteSide.SHUT): "both sides ended",
}
