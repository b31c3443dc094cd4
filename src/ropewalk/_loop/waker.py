"""How another thread, or a signal, ends the loop's wait.

A connected pair of sockets: a byte written to one end makes the other readable. The bytes mean nothing but "look
again": a full pair is a loop that is already awake (FAULTS E4), so that error is no error; any other one is raised
where it happens, because a wake-up that is lost in silence is a program that hangs.

Signals use the same pair through `signal.set_wakeup_fd`: what matters is that the wait ends, not which byte came
(FAULTS E5). Rejected: eventfd, which the signal module cannot write to, so both would be needed; one mechanism on
every system is simpler, and coalescing makes the cost of the byte vanish.
"""

from __future__ import annotations

from typing import Any

# One read takes what many wake-ups left. Value: more than the loop ever leaves (one byte each) in one wait.
_DRAIN_SIZE = 4096


class Waker:
    """Ends the loop's wait from anywhere; a watcher of the loop."""

    __slots__ = ("_reader", "_writer")

    def __init__(self, pair: tuple[Any, Any]) -> None:
        self._reader, self._writer = pair

    def fileno(self) -> int:
        return int(self._reader.fileno())

    def signal_fileno(self) -> int:
        """The end that `signal.set_wakeup_fd` writes to."""
        return int(self._writer.fileno())

    def wake(self) -> None:
        """Thread-safe and safe in signal handlers; costs one system call."""
        try:
            self._writer.send(b"\0")
        except BlockingIOError:
            pass  # Safe because: a full pair keeps the loop awake until it has read.

    def ready(self, event: int) -> None:
        try:
            while len(self._reader.recv(_DRAIN_SIZE)) == _DRAIN_SIZE:
                pass
        except BlockingIOError:
            pass  # Safe because: empty is what draining is for.

    def shut_down(self) -> None:
        """Nothing: it is needed until the loop is closed."""

    def disown(self) -> None:
        self.close()

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
