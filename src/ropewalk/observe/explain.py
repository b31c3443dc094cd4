"""`explain`: the account of a connection, an attempt or a port, from whatever the reader has in hand.

In hand may be a Connector, a transport, a protocol, a Port, the reason a callback was given, or a number from
a log. If a Recorder saw it happen, the account is the recorder's, every step with its time. If not, it is
what the object itself still knows, and a note says how to have the rest next time.

Strategy: find the number and the recorder; if either is missing, ask the object. A recorder among the
observers of the object's own reactor is found without being named.

Why by shape and not by class: a bridge hands other classes over the border, and this room may know only the
public API. What tells the kinds apart is a method that only one of them has.
Rejected: looking for a recorder in the default reactor. Numbers are per reactor; one of another reactor would
name a stranger's connection.
"""

from collections.abc import Iterable
from typing import Any

from ropewalk.address import display
from ropewalk.event import Attempt, Ended, Step
from ropewalk.observe.phrases import amount, duration, plain
from ropewalk.observe.recorder import Recorder
from ropewalk.observe.timeline import Moment, Timeline

__all__ = ["explain"]

_how_to_record = "to have every step with its time: reactor.observers.append(ropewalk.observe.Recorder()) before connecting"


def explain(subject: object, recorder: Recorder | None = None) -> Timeline:
    """The timeline of a connection, an attempt to connect, or a listening port.

    Args:     subject: a Connector, a transport, a protocol that was connected, a Port; a Failure or exception
                  that `clientConnectionFailed` or `connectionLost` was given; or the number of any of them.
              recorder: a Recorder that observed its reactor. None looks for one among the observers of the
                  subject's reactor, and without one tells what the subject itself knows.
    Returns:  a Timeline: `print(explain(connector))`, `.text()`, `.json()`, `.mermaid()`.
    Raises:   TypeError for a subject that is none of these, or a number without a recorder;
              LookupError for a number that the recorder does not know.
    """
    if isinstance(subject, int) and not isinstance(subject, bool):
        if recorder is None:
            raise TypeError(f"to explain the number {subject!r}, explain() needs the recorder that saw it")
        return recorder.timeline(subject)
    if _is_failure(subject):
        return _of_reason(subject.value)  # type: ignore[attr-defined]
    if isinstance(subject, BaseException):
        return _of_reason(subject)
    found = _in_hand(subject)
    kept = _recorded(found, recorder)
    if kept is not None:
        return Timeline(kept.subject, kept.moments, (*kept.notes, *_counters(found)))
    note = _how_to_record if recorder is None else f"the recorder knows nothing of it; {_how_to_record}"
    own = (
        _of_connector(found)
        if _is_connector(found)
        else _of_stream(found)
        if _is_stream(found)
        else _of_port(found)
    )
    return Timeline(own.subject, own.moments, (*own.notes, note))


# --- what is in hand ---------------------------------------------------------------------------------


def _is_failure(subject: object) -> bool:
    return isinstance(getattr(subject, "value", None), BaseException) and hasattr(subject, "getErrorMessage")


def _is_connector(subject: object) -> bool:
    return hasattr(subject, "getDestination") and hasattr(subject, "stopConnecting")


def _is_stream(subject: object) -> bool:
    return hasattr(subject, "bytesReceived") and hasattr(subject, "getPeer")


def _is_port(subject: object) -> bool:
    return hasattr(subject, "stopListening") and hasattr(subject, "getHost")


def _in_hand(subject: object) -> Any:
    """The connector, transport or port that the subject is, or has as its transport."""
    if _is_connector(subject) or _is_stream(subject) or _is_port(subject):
        return subject
    if hasattr(subject, "makeConnection"):
        transport = getattr(subject, "transport", None)
        if _is_stream(transport):
            return transport
        raise TypeError(f"cannot explain {subject!r}: it was never connected, its transport is {transport!r}")
    raise TypeError(
        f"cannot explain {subject!r}: it is no connector, transport, protocol, port, reason or number of one"
    )


def _recorded(subject: Any, recorder: Recorder | None) -> Timeline | None:
    number = getattr(subject, "number", None)
    observers: Iterable[object] = getattr(getattr(subject, "reactor", None), "observers", ())
    for each in (recorder,) if recorder is not None else observers:
        if isinstance(each, Recorder) and isinstance(number, int) and number in each:
            return each.timeline(number)
    return None


# --- what the objects themselves know ----------------------------------------------------------------


def _of_connector(connector: Any) -> Timeline:
    subject = f"connection {connector.number} to {_place(connector.host, connector.port)}"
    asked = {"host": str(connector.host), "port": connector.port, "timeout": connector.timeout}
    begin = Moment(None, Step.CONNECTING, asked)
    stream = getattr(connector, "transport", None)
    if _is_stream(stream):
        told = _of_stream(stream)
        return Timeline(subject, (begin, *told.moments), told.notes)
    state = plain(connector.state)
    return Timeline(subject, (begin,) if state == "connecting" else (), (f"the connector is {state}",))


def _of_stream(stream: Any) -> Timeline:
    local, peer = display(stream.getHost()), display(stream.getPeer())
    moments = [Moment(None, Step.CONNECTED, {"local": local, "peer": peer})]
    protocol = getattr(stream, "protocol", None)
    if protocol is not None:
        moments.append(Moment(None, Step.PROTOCOL_BUILT, {"protocol": type(protocol).__name__}))
    ended: Ended | None = getattr(stream, "ended", None)
    if ended is not None:
        moments.append(_closed(ended))
    return Timeline(f"connection {stream.number} with {peer}", tuple(moments), _counters(stream))


def _of_port(port: Any) -> Timeline:
    address = display(port.getHost())
    moments = [Moment(None, Step.LISTENING, {"address": address})]
    if not getattr(port, "connected", True):
        moments.append(Moment(None, Step.STOPPED_LISTENING, {}))
    return Timeline(f"port {port.number} on {address}", tuple(moments))


def _of_reason(reason: BaseException) -> Timeline:
    """What a reason tells: of a failed attempt all that was tried, of a lost connection how it ended."""
    name = type(reason).__name__
    ended = getattr(reason, "ended", None)
    if isinstance(ended, Ended):
        return Timeline(f"the connection that ended with {name}", (_closed(ended, name),), (plain(reason),))
    attempts: tuple[Attempt, ...] | None = getattr(reason, "attempts", None)
    if attempts is None:
        if hasattr(reason, "ended"):
            return Timeline(f"the connection that ended with {name}", (), (plain(reason),))
        raise TypeError(f"cannot explain {reason!r}: it is not the reason of a failed or ended connection")
    elapsed: dict[str, float] = getattr(reason, "elapsed", {})
    failed = {"error": name, "message": str(reason), "phase": getattr(reason, "phase", None)}
    moments = [Moment(None, Step.ATTEMPT_FAILED, {**each._asdict()}) for each in attempts] + [
        Moment(sum(elapsed.values()) if elapsed else None, Step.FAILED, failed)
    ]
    notes = tuple(f"{phase} took {duration(seconds)}" for phase, seconds in elapsed.items())
    return Timeline(f"the attempt that failed with {name}", tuple(moments), notes)


def _closed(ended: Ended, reason: str | None = None) -> Moment:
    told: dict[str, object] = {
        "by": ended.by.value,
        "reason": reason,
        "error": ended.error,
        "errno": ended.errno,
        "seconds": ended.seconds,
        "received": ended.received,
        "sent": ended.sent,
    }
    return Moment(None, Step.CLOSED, told)


def _counters(subject: Any) -> tuple[str, ...]:
    """How many bytes a connection that still lives has moved; nothing for one that ended, it says so itself."""
    stream: Any = subject if _is_stream(subject) else getattr(subject, "transport", None)
    if not _is_stream(stream) or getattr(stream, "ended", None) is not None:
        return ()
    received, sent = amount(stream.bytesReceived), amount(stream.bytesSent)
    return (f"so far received {received}, sent {sent}",)


def _place(host: object, port: object) -> str:
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
