"""The judge of the swarm: what must hold when all is over, from what each player was told and had asked for.

The letters are those of CONTRACT section 4 (I1 to I12) and FAULTS section 4 (J1 to J11). What can only be seen while it
happens (I4, I5, J5, J6, J8, order of callbacks) the players check themselves; the simulated kernel keeps its own book of
misdeeds (I12, J7: reported again and again; B8, B9: closed while registered).
"""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ropewalk.error import ConnectError, ConnectionClosed, ConnectionDone, UserError
from ropewalk.event import EndedBy, Event, Step
from tests.fuzz.guard import guard_of
from tests.fuzz.guests import guests_of
from tests.fuzz.layers import ENDINGS, SHED, layers_of
from tests.fuzz.players import OVER, Boom, Calls, End, HalfEnd, Relay
from tests.fuzz.swarm import World

# A connection's events as letters, and the stories they may tell.
LETTERS = {
    Step.CONNECTING: "C",
    Step.RESOLVING: "R",
    Step.RESOLVED: "r",
    Step.RESOLVE_FAILED: "x",
    Step.ATTEMPT_STARTED: "a",
    Step.ATTEMPT_FAILED: "f",
    Step.CONNECTED: "K",
    Step.ACCEPTED: "A",
    Step.PROTOCOL_BUILT: "B",
    Step.CLOSED: "Z",
    Step.FAILED: "F",
    Step.LISTENING: "L",
    Step.STOPPED_LISTENING: "S",
    Step.ACCEPT_PAUSED: "p",
}
CLIENT = re.compile(r"C(R[rx]?)?[af]*(F|Km*(ZF?|Bm*Z))")
SERVER = re.compile(r"A(Z|Bm*Z)")
PORT = re.compile(r"Lp*S?")
# Errors that a connection may have though nothing was ordered to fail: the peer, the network, or a socket that is gone.
NATURAL = {errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.ENOTCONN}
# Seconds within which a reset is told. Why not at once: a kernel out of buffers gives some rests of 0.01 s before.
SOON = 0.1
# No name of the swarm's is answered later than this, and what stands before it in the queue counts as slow after 1 s.
ANSWERED_WITHIN = 3.0 + 1.1
# But for those that are meant to be.
LATE_NAMES = ("never.example", "late.example")


def breaches(world: World) -> list[str]:
    """Everything that should not be, a line each."""
    found = list(world.breaches)
    for judge in (attempts, ends, reasons, streams, log, events, guests_of, layers_of):
        found += [f"{judge.__name__}: {breach}" for breach in judge(world)]
    found += [f"left: {line}" for line in world.sim.leftovers()]
    return found


def attempts(world: World) -> Iterator[str]:
    """I1, I6, I7, I8, J2: each attempt has ended, the factory is balanced, the connector is at rest."""
    for caller in world.callers:
        if caller.state == "gone":
            continue
        if caller.attempts != caller.outcomes or caller.state != "idle":
            yield f"{caller}: {caller.attempts} attempts, {caller.outcomes} outcomes"
        if caller.starts != caller.stops or caller.numPorts:
            yield f"I6 {caller}: {caller.starts} starts, {caller.stops} stops, numPorts {caller.numPorts}"
        if caller.connector is not None and caller.connector.state != "disconnected":
            yield f"I7 {caller}: connector {caller.connector.state}"
    for server in world.servers:
        if server.starts != server.stops or server.numPorts:
            yield f"I6 {server}: {server.starts} starts, {server.stops} stops, numPorts {server.numPorts}"


def ends(world: World) -> Iterator[str]:
    """J1, J4, J5: each connection that was made was lost, and its reason is true."""
    for end in world.ends:
        if end.state == "made":
            yield f"J1 {end}: never lost"
        if end.state != "lost":
            continue
        ended = end.reason.ended if isinstance(end.reason, ConnectionClosed) else None
        if end.transport.ended is None or ended not in (None, end.transport.ended):
            yield f"{end}: reason.ended {ended}, transport.ended {end.transport.ended}"
            continue
        if (
            isinstance(end, HalfEnd)
            and end.transport.ended.by is EndedBy.PEER
            and "readConnectionLost" not in end.told
        ):
            yield f"{end}: its peer has ended its side, and it was not told before its end"
        if not is_true(world, end, end.transport.ended):
            yield f"J4 {end}: {end.reason!r} {end.transport.ended}, asked {end.asked}, raised {end.raised}"
        last = end.transport.ended
        if last.by is EndedBy.TIMEOUT and last.errno is None:
            late = last_progress(end)
            if late > end.lost_at - end.transport.closeTimeout + 1e-6:
                yield f"J5 {end}: ended at {end.lost_at} for want of progress, which it made at {late} or later"
        if end.transport.getHost() == end.transport.getPeer():
            yield f"C9 {end}: connected to itself, {end.transport.getPeer()}"
        yield from resets(world, end)
        aborted = end.asked.get("abortConnection", end.lost_at)
        if aborted < end.lost_at:
            yield f"J5 {end}: aborted at {aborted}, ended at {end.lost_at}"


def resets(world: World, end: End) -> Iterator[str]:
    """J4, F3, F4: a reset that came is told, soon, and not as a clean end; also to one that is paused."""
    came = end.endpoint.reset_at if end.endpoint is not None else None
    if came is None or came > end.lost_at or end.host.name in world.stopped:
        return
    if end.was_reset and end.transport.ended.by is EndedBy.PEER:
        yield f"J4 {end}: reset at {came}, and told {end.reason!r} at {end.lost_at}"
    # Why not before: a connection may be reset while it waits to be accepted.
    known = max(came, end.lost_at - end.transport.ended.seconds)
    # Why not those: when both sides have ended and the user pauses, HUP cannot be masked, so the descriptor leaves the
    # poller; what came meanwhile is told when he resumes or closes.
    guard = guard_of(end.transport)
    has_paused = "pauseProducing" in end.asked or isinstance(end, Relay)
    has_paused |= guard is not None and bool(guard.stack.rates)
    has_left = end.endpoint.fin_came and "loseWriteConnection" in end.asked and has_paused
    if end.had_time and not has_left and end.lost_at > known + SOON:
        yield f"F3 {end}: reset at {came}, told at {end.lost_at}"
    # Why not: who closes, with nothing to send, before it had time to be told of the reset, closes in order.
    is_first = end.transport.ended.by is EndedBy.US and not end.had_time
    if known < end.lost_at and type(end.reason) is ConnectionDone and not is_first:
        yield f"J4 {end}: reset at {came}, and told {end.reason!r} at {end.lost_at}"


def last_progress(end: End) -> float:
    """When it had not yet sent all that it sent in the end, by the looks that were taken while it closed."""
    total = end.transport.ended.sent
    return max((time for time, sent in end.progress if sent is None or sent < total), default=0.0)


# What the kernel says to be asked again: never why a connection has ended.
AGAIN = (errno.EAGAIN, errno.EINTR, errno.EINPROGRESS)


def is_true(world: World, end: End, ended: Any) -> bool:
    """J4: whether what the reason says has happened."""
    by, reason = ended.by, end.reason
    if ended.errno in AGAIN:
        return False
    asked_to_end = isinstance(end, Relay) or "loseConnection" in end.asked
    asked_to_end |= isinstance(end.owner, Calls) and end.owner.asked_to_disconnect
    is_lost = isinstance(reason, ConnectionClosed) and not isinstance(reason, ConnectionDone)
    guard = guard_of(end.transport)
    if guard is not None and by in (EndedBy.US, EndedBy.US_ABORTED) and ended.error is not None:
        return guard.has_reason(ended.error) and is_lost is (by is EndedBy.US_ABORTED)
    if any(f": {start}" in str(reason) for start in ENDINGS.values()):
        return False  # Why: the words of a layer that has not ended it.
    if by is EndedBy.EXCEPTION:
        return reason in end.raised
    if by in (EndedBy.PEER, EndedBy.US):
        said = asked_to_end if by is EndedBy.US else end.endpoint.fin_came
        return type(reason) is ConnectionDone and reason.errno is None and said
    if by is EndedBy.US_ABORTED:
        return is_lost and "abortConnection" in end.asked
    if by is EndedBy.SHUTDOWN:
        return is_lost and (world.is_over or end.host.name in world.stopped)
    if by is EndedBy.TIMEOUT and ended.errno is None:
        asked_to_end |= guard is not None and guard.has_reason(None)
        # Why: what is raised where the transport does not see it, in a call from a timer, closes the connection in order.
        asked_to_end |= guard is not None and bool(guard.stack.rates and end.raised)
        return is_lost and (asked_to_end or "loseWriteConnection" in end.asked or end.endpoint.fin_came)
    if by is EndedBy.ERROR and ended.errno is None:
        return is_lost and "hard limit" in ended.error
    on_order = {error for _, error in end.host.faults.given} - {errno.EAGAIN}
    return is_lost and reason.errno in NATURAL | on_order


def reasons(world: World) -> Iterator[str]:
    """I9: a reason has its errno and its cause, and belongs to one connection."""
    told = [reason for caller in world.callers for reason in caller.reasons]
    told += [end.reason for end in world.ends if end.reason is not None and not isinstance(end.owner, Calls)]
    shared = [reason for reason, count in Counter(map(id, told)).items() if count > 1]
    if shared:
        yield f"I9 {len(shared)} reasons given to more than one"
    for reason in told:
        if reason.__traceback__ is not None and not isinstance(reason, Boom):
            yield f"I9 {reason!r} holds a traceback"
        if isinstance(reason, (ConnectError, ConnectionClosed)) and reason.errno is not None:
            cause = reason.__cause__
            if cause is None or getattr(cause, "errno", None) != reason.errno:
                yield f"I9 {reason!r} without its cause: {cause!r}"
            elif cause.__traceback__ is not None:
                yield f"I9 {reason!r}: its cause holds a traceback"
        if isinstance(reason, ConnectError):
            yield from failure(reason)


def failure(reason: ConnectError) -> Iterator[str]:
    """The attempts of a failed connect fit into its time, and the text tells them all."""
    elapsed = sum(reason.elapsed.values())
    if reason.phase is None:
        yield f"I9 {reason!r} tells no phase"
    elif any(not 0 <= attempt.seconds <= elapsed + 1e-6 for attempt in reason.attempts):
        yield f"I9 {reason!r}: attempts longer than the whole"
    elif reason.phase == "connecting" and not reason.attempts and not isinstance(reason, UserError):
        if "stopped" not in str(reason):
            yield f"I9 {reason!r} tells no attempt"
    elif not all(attempt.address in str(reason) for attempt in reason.attempts):
        yield f"I9 {reason!r} does not tell all attempts"


def streams(world: World) -> Iterator[str]:
    """J3, I10, I11: what was received is a beginning of what was sent; all of it where both ended cleanly."""
    by_endpoint = {id(end.endpoint): end for end in world.ends if end.endpoint is not None}
    for sender in by_endpoint.values():
        receiver = by_endpoint.get(id(sender.endpoint.peer))
        sent = b"".join(sender.sent)
        if receiver is None:
            continue
        got = b"".join(receiver.got)
        if not sent.startswith(got):
            yield f"J3 {receiver}: {len(got)} bytes are no beginning of the {len(sent)} sent"
        elif len(got) < len(sent) and is_clean(sender) and is_clean(receiver, EndedBy.PEER):
            yield f"J3 {receiver}: only {len(got)} of {len(sent)} bytes, though both ended cleanly"
        if not has_reason_for_reset(world, sender, receiver):
            yield f"J4 {sender}: was reset at {sender.lost_at}, by nobody: its peer {receiver}, {receiver.lost_at}"
        if sender.state == "lost":
            transport: Any = sender.transport
            if transport.bytesBuffered:
                yield f"I10 {sender}: keeps {transport.bytesBuffered} bytes written after the end"
            if not len(got) <= transport.bytesSent <= len(sent):
                yield f"I10 {sender}: sent {transport.bytesSent} of {len(sent)}, {len(got)} came"
            if transport.bytesReceived != sum(map(len, sender.got)):
                yield f"J3 {sender}: counted {transport.bytesReceived} received"


def has_reason_for_reset(world: World, end: End, peer: End) -> bool:
    """J4, J9: who was reset got an RST, from a peer that has ended or from outside; or its kernel said so on order."""
    if end.state != "lost" or end.transport.ended.by is not EndedBy.PEER_RESET:
        return True
    if {error for _, error in end.host.faults.given} & {errno.ECONNRESET, errno.EPIPE}:
        return True
    came = end.endpoint.reset_at
    if came is None or came > end.lost_at:
        return False
    has_peer_ended = peer.state in OVER and peer.lost_at <= end.lost_at
    return has_peer_ended or id(end.endpoint) in world.reset_ends


def is_clean(end: End, by: EndedBy | None = None) -> bool:
    return isinstance(end.reason, ConnectionDone) and by in (None, end.transport.ended.by)


def log(world: World) -> Iterator[str]:
    """J11: what players raised was logged once, or came back to them; nothing else was."""
    met = Counter(id(exc) for exc in world.caught)
    met.update(id(exc) for _, exc in world.logged if isinstance(exc, Boom))
    # Why those count: raised while another was on its way, it is told as that one's context.
    told = [exc for _, exc in world.logged if exc is not None] + world.exits_met
    contexts = {id(exc.__context__) for exc in told}
    for boom in world.raised:
        if met[id(boom)] != 1 and not (met[id(boom)] == 0 and id(boom) in contexts):
            yield f"J11 {boom!r} was met {met[id(boom)]} times"
    for message, exc in world.logged:
        # Why not those: what a program that was killed had begun is told as dropped when Python frees it, perhaps in another
        # world. One that is dropped in any other way has not ended, and that is told of the guests.
        if message.startswith("Coroutine ") and "was dropped" in message:
            continue
        # Why that of the shed: layers.py looks whether it is right.
        is_known = "accept failed" in message or (world.layers is not None and SHED in message)
        if not isinstance(exc, Boom) and not is_known:
            yield f"J11 {message!r} {exc!r}"
    # Why at least one and not all: of two in one turn one leaves; and one may be the context of a Boom, as above.
    met_exits = len(world.exits_met)
    masked = sum(isinstance(exc.__context__, SystemExit) for exc in told)
    if met_exits > world.exits or (world.exits and not met_exits + masked):
        yield f"J11 SystemExit: {world.exits} raised, {met_exits} met"


def events(world: World) -> Iterator[str]:
    """Each connection's events tell a whole story, and each address that was tried has its outcome."""
    for host, told in world.events.items():
        stories: dict[int, list[Event]] = {}
        for event in told:
            stories.setdefault(event.connection, []).append(event)
        for number, story in stories.items():
            letters = "".join(LETTERS.get(event.step, "m") for event in story)
            has_fallen = "before it fell" in host
            if not has_fallen and not any(each.fullmatch(letters) for each in (CLIENT, SERVER, PORT)):
                yield f"{host} {number}: {letters}"
            if not has_fallen and letters.count("a") != letters.count("f") + letters.count("K"):
                yield f"{host} {number}: {letters}: an attempt without its outcome"
            yield from names(world, host, number, story)
            times = [event.time for event in story]
            if times != sorted(times):
                yield f"{host} {number}: {letters}: times go back"


def names(world: World, host: str, number: int, story: list[Event]) -> Iterator[str]:
    """E1: a name that somebody answers for is resolved, however many were before it."""
    if host in world.stopped or host in world.went_on or "before it fell" in host:
        return
    asked = next((event for event in story if event.step is Step.RESOLVING), None)
    is_answered = any(event.step in (Step.RESOLVED, Step.RESOLVE_FAILED) for event in story)
    if asked is None or is_answered or asked.details["name"] in LATE_NAMES:
        return
    waited = story[-1].time - asked.time
    if waited > ANSWERED_WITHIN:
        yield f"E1 {host} {number}: no answer for {asked.details['name']} in {waited} s"
