"""The tracer: an observer that writes one line for each step, as it happens.

    reactor.observers.append(Tracer(sys.stderr.write))

For watching a program live; for looking back, use a Recorder. Times are seconds since the first event that
this tracer saw, whatever the connection, so that lines of several connections can be read together.

Rule: the tracer is given a callable, not a file. Why: whether the lines go to a terminal, a log or a list is
the caller's business, and so is what happens when nobody reads them.
"""

from collections.abc import Callable

from ropewalk.event import Event
from ropewalk.observe.phrases import duration, phrase

__all__ = ["Tracer"]


class Tracer:
    """Writes a line for each lifecycle event: the time, the connection's number, the step, what is to be said.

    Args:   write: called with each line, its line end included.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write
        self.began: float | None = None

    def __call__(self, event: Event) -> None:
        """Write the event's line; what `reactor.observers` asks of an observer."""
        self.write("".join(self.parts(event)).rstrip() + "\n")

    def parts(self, event: Event) -> tuple[str, str, str]:
        """The line in three: time and number; the step, padded; what is said. For those who add colour."""
        if self.began is None:
            self.began = event.time
        head = f"{duration(event.time - self.began):>9}  #{event.connection} "
        return head, f"{event.step.value:<18}", phrase(event.step, event.details)
