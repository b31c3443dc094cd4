"""A timeline's moments as a Mermaid sequence diagram: who said what to whom until the connection was over.

The participants are the ones a reader asks about: the user's code, the engine, the resolver, every address
that was tried, and the peer. The address that answered *is* the peer and is labelled so; a connection that
was accepted has the peer only.

Strategy: walk the moments once. Each step adds one to three lines; participants are collected while walking,
in the order of their first line, and put before them. Bytes are not told one by one, the engine does not
report them: the totals stand where the connection was closed.

Rule: every label begins with a word of ours, and everything else in it goes through `escaped`. Why: some
words at the beginning of a label ("wrap:") are Mermaid's own.
Source: Mermaid's syntax of sequenceDiagram.
"""

from collections.abc import Iterable

from ropewalk.event import EndedBy, Step
from ropewalk.observe.diagrams import escaped
from ropewalk.observe.phrases import Details, amount, duration, ending, endings, error_words, phrase

__all__ = ["sequence"]

_resets = frozenset({EndedBy.PEER_RESET, EndedBy.US_ABORTED})


def sequence(subject: str, moments: Iterable[tuple[float | None, Step, Details]]) -> str:
    """The source of the diagram, lines without a final line end.

    Args:     subject: the diagram's title.
              moments: (seconds since the first or None, step, details), in order.
    """
    drawing = _Drawing()
    for at, step, details in moments:
        drawing.draw(at, step, details)
    return "\n".join(
        ["sequenceDiagram", f"    title {escaped(subject)}", *drawing.participants(), *drawing.lines]
    )


class _Drawing:
    """The lines drawn so far. `peer` is the participant at the other end, once there is one.

    `has_protocol` is whether there is somebody to tell of the end; so it is taken to be where the beginning is not known.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.uses_resolver = self.uses_peer = False
        self.addresses: dict[str, str] = {}
        self.peer: str | None = None
        self.has_protocol = True
        self.at = ""

    def participants(self) -> list[str]:
        told = ["    participant app as your code", "    participant engine as ropewalk"]
        if self.uses_resolver:
            told.append("    participant resolver")
        for address, name in self.addresses.items():
            mark = " (peer)" if name == self.peer else ""
            told.append(f"    participant {name} as {escaped(address)}{mark}")
        if self.uses_peer:
            told.append("    participant peer")
        return told

    def draw(self, at: float | None, step: Step, details: Details) -> None:
        self.at = f" · {duration(at)}" if at is not None else ""
        said = phrase(step, details)
        match step:
            case Step.CONNECTING:
                self.arrow("app", "->>", "engine", f"connectTCP {said}")
            case Step.RESOLVING | Step.RESOLVED | Step.RESOLVE_FAILED:
                self.look_up(step, details, said)
            case Step.ATTEMPT_STARTED | Step.ATTEMPT_FAILED | Step.CONNECTED:
                self.attempt(step, details)
            case Step.ACCEPTED:
                self.uses_peer, self.peer, self.has_protocol = True, "peer", False
                self.arrow("peer", "->>", "engine", f"connects, accepted on {said}")
            case Step.PROTOCOL_BUILT:
                self.has_protocol = True
                self.arrow("engine", "->>", "app", f"buildProtocol, connectionMade: {said}")
            case Step.FIRST_BYTE:
                self.arrow(self.other(), "->>", "app", "first byte")
            case Step.READ_SIDE_ENDED:
                self.arrow(self.other(), "->>", "engine", f"end of its stream: {said}")
            case Step.WRITE_SIDE_ENDED:
                self.arrow("engine", "->>", self.other(), f"end of our stream: {said}")
            case Step.CLOSED:
                self.closed(details, said)
            case Step.FAILED:
                self.arrow("engine", "-x", "app", f"clientConnectionFailed {said}")
            case _:
                self.note(f"{step.value} {said}".strip())

    def look_up(self, step: Step, details: Details, said: str) -> None:
        self.uses_resolver = True
        if step is Step.RESOLVING:
            self.arrow("engine", "->>", "resolver", f"looks up {said}")
        elif step is Step.RESOLVED:
            self.arrow("resolver", "-->>", "engine", f"answers: {said}")
        else:
            self.arrow("resolver", "--x", "engine", f"fails: {said}")

    def attempt(self, step: Step, details: Details) -> None:
        address = str(details.get("peer" if step is Step.CONNECTED else "address", "?"))
        name = self.addresses.setdefault(address, f"address{len(self.addresses) + 1}")
        if step is Step.ATTEMPT_STARTED:
            self.arrow("engine", "->>", name, "tries to connect")
        elif step is Step.CONNECTED:
            self.peer, self.has_protocol = name, False
            self.arrow(name, "-->>", "engine", f"connected, our end is {details.get('local', '?')}")
        else:
            seconds = details.get("seconds")
            after = f", after {duration(seconds)}" if isinstance(seconds, (int, float)) else ""
            self.arrow(name, "--x", "engine", f"failed: {error_words(details)}{after}")

    def closed(self, details: Details, said: str) -> None:
        by, other = ending(details), self.other()
        received, sent = details.get("received"), details.get("sent")
        if isinstance(sent, int) and self.has_protocol:
            self.arrow("app", "->>", other, f"sent {amount(sent)} in all")
        if isinstance(received, int) and self.has_protocol:
            self.arrow(other, "->>", "app", f"received {amount(received)} in all")
        line = "-x" if by in _resets else "->>"
        if by in (EndedBy.PEER, EndedBy.PEER_RESET):
            self.arrow(other, line, "engine", f"closed {endings[by]}")
        elif by in (EndedBy.US, EndedBy.US_ABORTED):
            self.arrow("engine", line, other, f"closed {endings[by]}")
        else:
            self.note(f"closed {endings[by]}" if by is not None else "closed")
        if self.has_protocol:
            self.arrow("engine", "->>", "app", f"connectionLost, {said}")
        else:
            self.note(f"no protocol was built, closed {said}")

    def other(self) -> str:
        """The participant at the other end; a timeline without a beginning never told who that is."""
        if self.peer is None:
            self.uses_peer, self.peer = True, "peer"
        return self.peer

    def arrow(self, source: str, line: str, target: str, said: str) -> None:
        self.lines.append(f"    {source}{line}{target}: {escaped(said + self.at)}")

    def note(self, said: str) -> None:
        self.lines.append(f"    Note over engine: {escaped(said + self.at)}")
