"""How a command ends: an exit status, perhaps one line for stderr, and the reactor stopped once.

A `Course` is held by whatever may find out that the command is over. Its `end` counts once, and a signal is such an end.
Why: a reactor that stops by Ctrl-C ends every connection too, and those ends are no outcome.
"""

import sys
from dataclasses import dataclass
from typing import Any

from ropewalk import Reactor
from ropewalk.cli.joint import Joint
from ropewalk.cli.signals import told_by_signals
from ropewalk.error import ConnectionDone

__all__ = ["Course", "Outcome", "outcome_of", "say"]


@dataclass(frozen=True)
class Outcome:
    """The exit status, and what to say about it on stderr, if anything."""

    status: int
    message: str | None = None


def say(text: str) -> None:
    """One line on stderr, in the tool's name."""
    # Why one write: print() makes two of it, and what others say on the same terminal comes between.
    sys.stderr.write(f"ropewalk: {text}\n")
    sys.stderr.flush()


class Course:
    """One run of a reactor from its beginning to the outcome.

    Args:   reactor: the reactor to be stopped.
            interrupted: the outcome by SIGTERM or Ctrl-C; None for what shells have, 128 and the signal's number.
    """

    def __init__(self, reactor: Reactor, interrupted: Outcome | None = None) -> None:
        self.reactor = reactor
        self.interrupted = interrupted
        self.outcome: Outcome | None = None

    def run(self) -> Outcome:
        """Run the reactor until the end."""
        with told_by_signals(
            self.reactor, lambda number: self.end(self.interrupted or Outcome(128 + number))
        ):
            self.reactor.run(installSignalHandlers=False)
        assert self.outcome is not None  # nobody else stops it
        return self.outcome

    def end(self, outcome: Outcome) -> None:
        """This is the outcome, unless there is one already."""
        if self.outcome is None:
            self.outcome = outcome
            self.reactor.stop()


def outcome_of(joint: Joint, reason: Any) -> Outcome:
    """What the end of a joined connection means: 0 if both streams came to their end."""
    if joint.output_error is not None:
        return Outcome(1, f"standard output: {joint.output_error.strerror}")
    if reason.check(ConnectionDone):
        return Outcome(0)
    return Outcome(1, reason.getErrorMessage())
