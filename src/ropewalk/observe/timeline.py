"""A timeline: what happened on one connection, in order, as text, as JSON and as a Mermaid diagram.

It is a value. Recorder and `explain` make it; nothing changes it afterwards, so it can be kept, compared,
logged or sent elsewhere, and `fromJSON` gives an equal one back.

Times are seconds since the first moment. Why not the clock's own: the engine's clock is monotonic, its zero
means nothing to a reader. A moment whose time nobody noted has `at` None and shows a dot: an object without
a recorder knows that it was connected, not when.

Rule: what a step is called and how it is told comes from `phrases`; this room only lays it out.
Rejected: methods that print. The caller knows where to, in which colours and whether anybody reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ropewalk.event import Step
from ropewalk.observe.phrases import duration, phrase, plain
from ropewalk.observe.sequence import sequence

__all__ = ["Moment", "Timeline"]

# The states a connection or port may be in, as far as its last telling step says.
_said_by: dict[Step, str] = {
    Step.CONNECTING: "connecting",
    Step.CONNECTED: "open",
    Step.ACCEPTED: "open",
    Step.CLOSING: "closing",
    Step.CLOSED: "closed",
    Step.FAILED: "failed",
    Step.LISTENING: "listening",
    Step.STOPPED_LISTENING: "stopped",
}


class Moment(NamedTuple):
    """One step on a timeline.

    Args:   at: seconds since the timeline's first moment; None if it is not known when.
            step: what happened.
            details: the event's. Steps that a recorder sums up have `times`, `seconds` (in all) and
                `still` (True if not undone yet) besides.
    """

    at: float | None
    step: Step
    details: Mapping[str, object]


@dataclass(frozen=True)
class Timeline:
    """The account of one connection, attempt or port.

    Args:   subject: what it is about, e.g. "connection 3 to localhost:80".
            moments: the steps, in order.
            notes: what else there is to say: what is missing and how to get it.
    """

    subject: str
    moments: tuple[Moment, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def state(self) -> str:
        """ "connecting", "open", "closing", "closed", "failed", "listening", "stopped" or "unknown"."""
        for moment in reversed(self.moments):
            if moment.step in _said_by:
                return _said_by[moment.step]
        return "unknown"

    def rows(self) -> list[tuple[str, str, str]]:
        """(time, step, what is said about it) for every moment, ready to be shown in columns."""
        return [
            (duration(at) if at is not None else "·", step.value, phrase(step, details))
            for at, step, details in self.moments
        ]

    def text(self) -> str:
        """Lines for a terminal or a log: the subject and its state, a line for each moment, the notes.

        Returns:  printable characters and line ends only, whatever the peer sent.
        """
        rows = self.rows()
        width = max((len(step) for _, step, _ in rows), default=0)
        lines = [f"{plain(self.subject)}: {self.state}"]
        lines += [f"{time:>11}  {step:<{width}}  {said}".rstrip() for time, step, said in rows]
        lines += [f"  ({plain(note)})" for note in self.notes]
        return "\n".join(lines)

    __str__ = text

    def json(self, indent: int | None = None) -> str:
        """The same as JSON, for programs; `fromJSON` reads it.

        Args:     indent: as for json.dumps; None gives one line.
        Returns:  an object with "subject", "state", "moments" (each with "at", "step", "details"), "notes".
        """
        import json  # Why here: importing ropewalk must stay cheap, and few programs write JSON.

        told = {
            "subject": self.subject,
            "state": self.state,
            "moments": [
                {"at": at, "step": step.value, "details": dict(details)} for at, step, details in self.moments
            ],
            "notes": list(self.notes),
        }
        # Why repr: an observer of its own may have put anything in; an account in words beats an error.
        return json.dumps(told, indent=indent, default=repr)

    @classmethod
    def fromJSON(cls, text: str | bytes) -> "Timeline":
        """The timeline that `json` wrote.

        Raises:   ValueError naming what is wrong with the text.
        """
        import json

        try:
            told = json.loads(text)
            moments = tuple(_moment(each) for each in told["moments"])
            return cls(str(told["subject"]), moments, tuple(str(each) for each in told.get("notes", ())))
        except (KeyError, TypeError, AttributeError) as exc:
            raise ValueError(f"not a timeline: {type(exc).__name__} {exc}") from exc

    def mermaid(self) -> str:
        """The same as a Mermaid sequence diagram: us, the resolver, each address, the peer.

        Returns:  its source; no text in it can break out of its label, whatever the peer sent.
        Source:   Mermaid's syntax of sequenceDiagram, entity codes included.
        """
        return sequence(self.subject, self.moments)


def _moment(told: Any) -> Moment:
    at = told["at"]
    if at is not None and (isinstance(at, bool) or not isinstance(at, (int, float))):
        raise TypeError(f"at is {at!r}")
    return Moment(at, Step(told["step"]), dict(told["details"]))
