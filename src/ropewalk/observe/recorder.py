"""The recorder: an observer that remembers each connection's timeline, within bounds.

    recorder = Recorder()
    reactor.observers.append(recorder)
    ...
    print(recorder.timeline(7))        # or explain(connector)

It may stay attached to a busy server for ever. What it holds is bounded twice: so many connections, and so
many moments of each. When a connection too many begins, the one that ended longest ago is forgotten; only if
all live, the oldest of those. What happens again and again on one connection (reading paused, the buffer
full, accepting paused) is one moment that counts, instead of many.

Rule: never raise, never keep a reference to anything but the event. An observer runs inside the engine's
steps, and a recorder that kept transports alive would hide the leaks it is there to show.
Rule: an event of a connection that was forgotten does not bring it back if that would cost another one its
place. Why: with more live connections than places, every event would evict somebody, and all timelines
would be fragments; so the ones that are remembered stay whole.
Rejected: a ring buffer of events over all connections. One chatty connection empties it of all others.
"""

from collections import OrderedDict
from collections.abc import Iterator

from ropewalk.event import Event, Step
from ropewalk.observe.phrases import plain
from ropewalk.observe.timeline import Moment, Timeline

__all__ = ["Recorder"]

_opening = frozenset({Step.CONNECTING, Step.ACCEPTED, Step.LISTENING})
_ending = frozenset({Step.CLOSED, Step.FAILED, Step.STOPPED_LISTENING})
# These are told even if the moments of a connection are used up; each happens at most once.
_always = _opening | _ending | {Step.CONNECTED, Step.PROTOCOL_BUILT, Step.CLOSING}
# A step that begins something which may happen any number of times, and the step that undoes it.
_undone_by = {Step.PAUSED: Step.RESUMED, Step.BUFFER_FULL: Step.BUFFER_DRAINED}
_undoes = {undoing: begun for begun, undoing in _undone_by.items()}


class Recorder:
    """Remembers what the reactor it observes tells. Use one for each reactor: numbers are per reactor.

    Args:   limit: how many connections, attempts and ports to remember at most, at least 1.
            eventLimit: how many moments of each, besides its beginning and end, at least 1.
    Raises: ValueError for a limit below 1.
    """

    def __init__(self, limit: int = 1000, eventLimit: int = 100) -> None:
        if limit < 1 or eventLimit < 1:
            raise ValueError(
                f"a recorder must remember at least 1, not limit={limit}, eventLimit={eventLimit}"
            )
        self.limit = limit
        self.eventLimit = eventLimit
        self.forgotten = 0
        self._live: OrderedDict[int, _Recording] = OrderedDict()
        self._ended: OrderedDict[int, _Recording] = OrderedDict()

    def __call__(self, event: Event) -> None:
        """Note one event; what `reactor.observers` asks of an observer."""
        number = event.connection
        recording = self._live.get(number) or self._ended.get(number)
        if recording is None:
            recording = self._admit(event)
            if recording is None:
                return
        recording.note(event)
        if event.step in _ending and number in self._live:
            self._ended[number] = self._live.pop(number)

    def __contains__(self, number: object) -> bool:
        return number in self._live or number in self._ended

    def __iter__(self) -> Iterator[int]:
        """The numbers that are remembered, in the order of their beginning as far as it is known."""
        return iter(sorted((*self._live, *self._ended)))

    def __len__(self) -> int:
        return len(self._live) + len(self._ended)

    def timeline(self, number: int) -> Timeline:
        """What is remembered of one connection, attempt or port.

        Args:     number: `connector.number`, `transport.number` or `port.number`.
        Returns:  a Timeline that no later event changes.
        Raises:   LookupError if nothing is remembered under that number.
        """
        recording = self._live.get(number) or self._ended.get(number)
        if recording is None:
            raise LookupError(f"nothing is recorded of connection {number!r}")
        return recording.timeline()

    def timelines(self) -> list[Timeline]:
        """All that is remembered."""
        return [self.timeline(number) for number in self]

    def clear(self) -> None:
        """Forget everything; what still lives is noted again only from its next event."""
        self._live.clear()
        self._ended.clear()

    def _admit(self, event: Event) -> "_Recording | None":
        """A place for a connection that is not remembered, None if it is to have none."""
        if len(self) >= self.limit:
            if self._ended:
                self._ended.popitem(last=False)
            elif event.step in _opening:
                self._live.popitem(last=False)
            else:
                return None
            self.forgotten += 1
        made = self._live[event.connection] = _Recording(event, self.eventLimit)
        return made


class _Recording:
    """The moments of one connection. Repeated ones are summed in `sums`, found by their step."""

    __slots__ = ("began", "left", "left_out", "moments", "number", "since", "sums", "whole")

    def __init__(self, first: Event, limit: int) -> None:
        self.began = first.time
        self.number = first.connection
        self.whole = first.step in _opening
        self.moments: list[Moment] = []
        self.left = limit
        self.left_out = 0
        self.sums: dict[Step, dict[str, object]] = {}
        self.since: dict[Step, float] = {}

    def note(self, event: Event) -> None:
        step = event.step
        if step in _undone_by or step is Step.ACCEPT_PAUSED:
            self._begin(event)
        elif step in _undoes and _undoes[step] in self.since:
            self._undo(event, _undoes[step])
        else:
            for begun in [*self.since] if step in _ending else ():
                self._undo(event, begun)  # Why: a pause ends with the connection.
            self._keep(event, event.details)

    def _keep(self, event: Event, details: dict[str, object]) -> None:
        if event.step not in _always:
            if not self.left:
                self.left_out += 1
                return
            self.left -= 1
        self.moments.append(Moment(round(event.time - self.began, 9), event.step, details))

    def _begin(self, event: Event) -> None:
        sums = self.sums.get(event.step)
        if sums is None:
            sums = self.sums[event.step] = {**event.details, "times": 0, "seconds": 0.0, "still": False}
            self._keep(event, sums)
        sums["times"] = _add(sums["times"], 1)
        for key, value in event.details.items():
            if key == "buffered":
                sums[key] = max(_add(sums.get(key), 0), _add(value, 0))
            elif key == "seconds":
                sums[key] = _add(sums[key], value)
            else:
                sums[key] = value
        if event.step in _undone_by and event.step not in self.since:
            self.since[event.step] = event.time
            sums["still"] = True

    def _undo(self, event: Event, begun: Step) -> None:
        sums = self.sums[begun]
        sums["seconds"] = _add(sums["seconds"], event.time - self.since.pop(begun))
        sums["still"] = False

    def timeline(self) -> Timeline:
        notes = []
        if not self.whole:
            notes.append("recording began when this connection already was under way")
        if self.left_out:
            notes.append(f"{self.left_out} more steps were left out: the recorder's eventLimit was reached")
        # Why copied: the sums go on changing, a timeline must not.
        moments = tuple(Moment(at, step, dict(details)) for at, step, details in self.moments)
        return Timeline(_subject(self.number, moments), moments, tuple(notes))


def _add(total: object, more: object) -> float:
    """The sum, None and whatever is no number counting as nothing."""
    return sum(each for each in (total, more) if isinstance(each, (int, float)))


def _subject(number: int, moments: tuple[Moment, ...]) -> str:
    """What the timeline is about, in words, from its first telling moment."""
    for _, step, details in moments:
        if step is Step.CONNECTING:
            host, port = plain(details.get("host", "?")), plain(details.get("port", "?"))
            return f"connection {number} to {f'[{host}]' if ':' in host else host}:{port}"
        if step is Step.ACCEPTED:
            return f"connection {number}, accepted from {plain(details.get('peer', '?'))}"
        if step is Step.LISTENING:
            return f"port {number} on {plain(details.get('address', '?'))}"
    return f"connection {number}"
