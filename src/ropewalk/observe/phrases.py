"""Lifecycle events in words: the one place where a step becomes a sentence.

`Timeline.text`, the `Tracer` and the command-line tool all show steps; they differ in layout and share the
wording, so that a line seen while tracing is found again, letter by letter, in a timeline made later.

Strategy: one small function per step in the table `telling`, each from the step's details to a phrase. A key
that is missing leaves its part of the phrase away; nothing here raises, for an account of what went wrong
must not itself go wrong.

Rule: everything that came from outside (names, error texts, class names) goes through `plain`, so that no
control character, line end or text direction mark reaches a terminal or a log (FAULTS section 3, point 10).
Rejected: `str.format` templates in the table. Half of the steps have optional parts, and templates with
conditions are a language of their own.

This room knows words and numbers. It must never know a socket, a reactor or a terminal.
"""

import errno
import re
from collections.abc import Callable, Mapping

from ropewalk.event import EndedBy, Step

__all__ = ["Details", "amount", "duration", "ending", "endings", "error_words", "phrase", "plain"]

Details = Mapping[str, object]

# Who ended a connection, to go after the word "closed".
endings: dict[EndedBy, str] = {
    EndedBy.PEER: "by the peer",
    EndedBy.PEER_RESET: "by a reset from the peer",
    EndedBy.US: "by us",
    EndedBy.US_ABORTED: "by us, aborted",
    EndedBy.TIMEOUT: "by a deadline",
    EndedBy.SHUTDOWN: "by the reactor's shutdown",
    EndedBy.EXCEPTION: "by an exception in user code",
    EndedBy.ERROR: "by an error of the system",
}


def plain(value: object) -> str:
    """The value as text for one line: what is not printable stands as Python would escape it."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    )


def duration(seconds: float) -> str:
    """Seconds with the unit a reader wants: "0.04 ms", "12.3 ms", "250 ms", "1.02 s", "2 min 5 s"."""
    thousandths = seconds * 1000
    if thousandths < 9.995:
        return f"{thousandths:.2f} ms"
    if thousandths < 99.95:
        return f"{thousandths:.1f} ms"
    if thousandths < 999.5:
        return f"{thousandths:.0f} ms"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 119.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def amount(count: int) -> str:
    """A number of bytes: "24 B", "1.5 kB", "20.0 MB". Decimal units, as network rates use them."""
    value = float(count)
    if value < 1000:
        return f"{count} B"
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def error_words(details: Details) -> str:
    """The error text with its errno's name, unless the text tells it already; empty if there is none."""
    text = plain(details.get("error") or "")
    number = details.get("errno")
    # Why only positive ones: a resolver's numbers are negative and are not errno; its text says it.
    if not isinstance(number, int) or number <= 0:
        return text
    name = errno.errorcode.get(number, f"errno {number}")
    if name in text:
        return text
    return f"{text} ({name})" if text else name


def phrase(step: Step, details: Details) -> str:
    """What is to be said about the step besides its name; may be empty."""
    return telling[step](details)


def ending(details: Details) -> EndedBy | None:
    """Who ended it, None if the details don't say or say something unknown."""
    said = details.get("by")
    return next((each for each in EndedBy if each == said), None)


# --- one function per step ---------------------------------------------------------------------------


def _number(details: Details, key: str) -> float | None:
    value = details.get(key)
    return value if isinstance(value, (int, float)) else None


def _took(details: Details, word: str = "after") -> str:
    seconds = _number(details, "seconds")
    return f" {word} {duration(seconds)}" if seconds is not None else ""


def _of(key: str) -> Callable[[Details], str]:
    return lambda details: plain(details.get(key, ""))


def _nothing(details: Details) -> str:
    return ""


def _connecting(details: Details) -> str:
    host, port = plain(details.get("host", "?")), plain(details.get("port", "?"))
    limit = _number(details, "timeout")
    deadline = f"at most {limit:g} s" if limit is not None else "no deadline"
    return f"to {f'[{host}]' if ':' in host else host}:{port}, {deadline}"


def _resolved(details: Details) -> str:
    found = details.get("addresses")
    addresses = ", ".join(plain(each) for each in found) if isinstance(found, (list, tuple)) else "?"
    return f"{plain(details.get('name', '?'))} is {addresses}"


def _attempt_failed(details: Details) -> str:
    said = error_words(details)
    return f"{plain(details.get('address', '?'))}{f': {said}' if said else ''}{_took(details)}"


def _resolve_failed(details: Details) -> str:
    name, said = plain(details.get("name", "?")), error_words(details)
    # Why the test: the engine's error text names the name already, others need not.
    return said if name in said else f"{name}: {said}" if said else name


def _protocol_built(details: Details) -> str:
    # Why: the address of an object tells a reader nothing that its class and the connection's number don't.
    return re.sub(r"^<(?:.*\.)?(\w+) object at 0x[0-9a-fA-F]+>$", r"\1", plain(details.get("protocol", "")))


def _connected(details: Details) -> str:
    return f"{plain(details.get('local', '?'))} to {plain(details.get('peer', '?'))}"


def _accepted(details: Details) -> str:
    listener = details.get("listener")
    by = f", by port #{plain(listener)}" if listener is not None else ""
    return f"{plain(details.get('local', '?'))} from {plain(details.get('peer', '?'))}{by}"


def _times(details: Details) -> str:
    count = _number(details, "times")
    if count is None:
        return ""
    seconds = _number(details, "seconds") or 0.0
    still = details.get("still") is True
    how_often = "once" if count == 1 else f"{count} times"
    if still and count == 1:
        return "and not since undone"
    return f"{how_often}, {duration(seconds)}{' in all' if count > 1 else ''}{', and now again' if still else ''}"


def _paused(details: Details) -> str:
    return _joined("reading", _times(details))


def _buffer_full(details: Details) -> str:
    held = _number(details, "buffered")
    return _joined(f"{amount(int(held))} wait to be sent" if held is not None else "", _times(details))


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _closing(details: Details) -> str:
    held = _number(details, "buffered")
    if held is None:
        return ""
    return f"{amount(int(held))} still to send" if held else "nothing left to send"


def _closed(details: Details) -> str:
    ender = ending(details)
    who = endings[ender] if ender is not None else ""
    reason, said = plain(details.get("reason") or ""), error_words(details)
    why = f"{reason}, {said}" if reason and said and said != reason else reason or said
    received, sent = _number(details, "received"), _number(details, "sent")
    both_ways = f"received {amount(int(received or 0))}, sent {amount(int(sent or 0))}"
    head = f"{who}{_took(details)}".strip()
    tail = "; ".join(
        part for part in (why, both_ways if received is not None or sent is not None else "") if part
    )
    return ": ".join(part for part in (head, tail) if part)


def _failed(details: Details) -> str:
    # Why cut: the engine's message goes on in brackets with what was tried, and a timeline tells that itself.
    message = plain(details.get("message") or "").partition(" [while ")[0]
    said = message or plain(details.get("error") or "")
    where = f"while {plain(details['phase'])}" if details.get("phase") else ""
    return said if where in said else f"{where}: {said}"


def _accept_paused(details: Details) -> str:
    seconds, count = _number(details, "seconds"), _number(details, "times")
    wait = f"for {duration(seconds)}" if seconds is not None else ""
    return _joined(error_words(details), wait, f"{count} times" if count and count > 1 else "")


telling: dict[Step, Callable[[Details], str]] = {
    Step.CONNECTING: _connecting,
    Step.RESOLVING: _of("name"),
    Step.RESOLVED: _resolved,
    Step.RESOLVE_FAILED: _resolve_failed,
    Step.ATTEMPT_STARTED: _of("address"),
    Step.ATTEMPT_FAILED: _attempt_failed,
    Step.CONNECTED: _connected,
    Step.ACCEPTED: _accepted,
    Step.PROTOCOL_BUILT: _protocol_built,
    Step.FIRST_BYTE: _nothing,
    Step.PAUSED: _paused,
    Step.RESUMED: _nothing,
    Step.BUFFER_FULL: _buffer_full,
    Step.BUFFER_DRAINED: _nothing,
    Step.READ_SIDE_ENDED: lambda details: "the peer sends no more",
    Step.WRITE_SIDE_ENDED: lambda details: "we send no more",
    Step.CLOSING: _closing,
    Step.CLOSED: _closed,
    Step.FAILED: _failed,
    Step.LISTENING: _of("address"),
    Step.ACCEPT_PAUSED: _accept_paused,
    Step.STOPPED_LISTENING: _nothing,
}
