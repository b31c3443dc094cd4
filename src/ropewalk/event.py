"""What a connection tells about itself: the vocabulary of lifecycle events.

Each cold step of a connection's life is one `Event`. The engine hands it to every callable in
`reactor.observers`, if there are any; with none, a step costs one truth test and nothing is made.
`Ended` and `Attempt` are the two records that stay behind on a reason after the connection is gone.

This room holds words only. It must never know who sends an event, who reads it, or how it is shown:
the engine sends, `observe/` reads, `error.py` prints. It imports nothing of the package.

Rule: `details` holds plain str, int, float and lists of them, so that an event is JSON as it stands.
Rule: what a peer sent appears in `details` as repr only, never raw: events end up in logs.
Rejected: one class per step. There are twenty steps and every reader wants to go over all of them
with one loop; the keys of `details` are told beside each step below.
"""

from enum import StrEnum
from typing import NamedTuple

__all__ = ["Attempt", "Drained", "Ended", "EndedBy", "Event", "Step"]


class Step(StrEnum):
    """What happened. The comment behind each step names the keys of its `details`."""

    CONNECTING = "connecting"  # host, port, timeout
    RESOLVING = "resolving"  # name
    RESOLVED = "resolved"  # name, addresses
    RESOLVE_FAILED = "resolve failed"  # name, error, errno
    ATTEMPT_STARTED = "attempt started"  # address
    ATTEMPT_FAILED = "attempt failed"  # address, error, errno, seconds
    CONNECTED = "connected"  # local, peer
    ACCEPTED = "accepted"  # local, peer, listener (number of the port)
    PROTOCOL_BUILT = "protocol built"  # protocol
    FIRST_BYTE = "first byte"
    PAUSED = "paused"
    RESUMED = "resumed"
    BUFFER_FULL = "buffer full"  # buffered
    BUFFER_DRAINED = "buffer drained"
    READ_SIDE_ENDED = "read side ended"
    WRITE_SIDE_ENDED = "write side ended"
    CLOSING = "closing"  # buffered
    CLOSED = "closed"  # by, reason, error, errno, seconds, received, sent
    FAILED = "failed"  # error, message, phase
    LISTENING = "listening"  # address
    ACCEPT_PAUSED = "accept paused"  # error, errno, seconds
    STOPPED_LISTENING = "stopped listening"


class Event(NamedTuple):
    """One step of one connection.

    Args:   time: seconds of the reactor's monotonic clock.
            connection: the serial number, per reactor, of the attempt, accepted stream or port.
            step: what happened.
            details: facts about it, by name; the keys depend on the step.
    """

    time: float
    connection: int
    step: Step
    details: dict[str, object]


class EndedBy(StrEnum):
    """Who or what ended a connection."""

    PEER = "peer"  # its FIN
    PEER_RESET = "peer reset"  # its RST
    US = "us"  # loseConnection
    US_ABORTED = "us aborted"  # abortConnection
    TIMEOUT = "timeout"  # a deadline of ours, or the kernel's
    SHUTDOWN = "shutdown"  # the reactor stopped
    EXCEPTION = "exception"  # user code raised
    ERROR = "error"  # any other error of the operating system


class Ended(NamedTuple):
    """How a connection ended: `transport.ended`, and `.ended` of the reason.

    Args:   by: who ended it.
            seconds: from connected to closed.
            received, sent: bytes each way, as handed over by and to the kernel.
            error: the text of the error, None for a clean end.
            errno: its number, None when the operating system reported none.
    """

    by: EndedBy
    seconds: float
    received: int
    sent: int
    error: str | None = None
    errno: int | None = None


class Drained(NamedTuple):
    """What a drain comes to: how the connections ended that were there.

    Args:   ended: how many ended by themselves: by the peer, by their protocol, or by an error.
            aborted: how many were there still at the deadline, or when the reactor stopped.
    """

    ended: int
    aborted: int


class Attempt(NamedTuple):
    """One address that was tried in vain: an item of a connect error's `.attempts`.

    Args:   address: as it is shown, "127.0.0.1:80" or "[::1]:80".
            error: the text of what went wrong; "given up" for one that was under way at the end.
            errno: its number, None when the operating system reported none.
            seconds: how long this attempt took.
    """

    address: str
    error: str
    errno: int | None
    seconds: float
