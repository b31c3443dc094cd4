"""What is checked while a world lives: deadlines, limits, progress, and that nothing stands still when all is quiet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ropewalk.simulation import Host
from tests.fuzz.guard import Guard, guard_of, inside_of, is_held_back
from tests.fuzz.players import End, Relay

if TYPE_CHECKING:
    from tests.fuzz.swarm import World

# Seconds. Why: where layers end connections, clients that are to stay connected connect again all the time.
SETTLES_WITHIN = 100.0


def is_new(guard: Guard | None, now: float) -> bool:
    return guard is not None and now - guard.made_at < SETTLES_WITHIN


def is_slow(guard: Guard | None) -> bool:
    return guard is not None and guard.stack.is_slow


def deadlines(world: World, host: Host) -> None:
    """I5: as many deadlines as attempts that still connect; the one that has connected has none any more."""
    timers = [repr(call) for call in host.reactor.getDelayedCalls()]
    deadlines = sum("Dial._timed_out" in timer for timer in timers)
    staggers = sum("Dial._stagger_over" in timer for timer in timers)
    connectors = [caller.connector for caller in world.callers if caller.host is host and caller.connector]
    expected = sum(connector.state == "connecting" for connector in connectors)
    if world.guests is not None:
        # Why not just as many: their attempts have deadlines too.
        world.check(deadlines >= expected, host, f"I5 {deadlines} deadlines, {expected} attempts")
        return
    world.check(deadlines == expected, host, f"I5 {deadlines} deadlines, {expected} attempts")
    world.check(staggers <= expected, host, f"I5 {staggers} attempts are to be staggered, of {expected}")


def within_limits(world: World, end: End) -> None:
    """A hard limit that was crossed ends the connection, when the handler has returned."""
    if end.hard_limit is not None and end.state == "made" and end.transport.bytesBuffered > end.hard_limit:
        world.sim.at(world.sim.now + 1e-6, _look_at_limit, world, end)


def _look_at_limit(world: World, end: End) -> None:
    is_over = end.state != "made" or end.transport.bytesBuffered <= (end.hard_limit or 0)
    world.check(
        is_over or world.had_no_time(end.host, world.sim.now), end, "it keeps more than its hard limit"
    )


def progress(world: World, end: End) -> None:
    """J5: a connection that is to close makes progress within its deadline, or ends; not before."""
    transport: Any = end.transport
    if transport.closeTimeout is not None:
        _look_at_progress(world, end, transport.closeTimeout)


def _look_at_progress(world: World, end: End, deadline: float) -> None:
    if end.state != "made":
        return
    # Why None: while a layer holds back what was written, the deadline stands still.
    now, sent = world.sim.now, None if is_held_back(end.transport) else end.transport.bytesSent
    end.progress.append((now, sent))
    long_ago = [before for time, before in end.progress if time < now - deadline]
    stalled = bool(long_ago) and long_ago[-1] == sent is not None
    may_be_late = world.had_no_time(end.host, now - deadline)
    world.check(not stalled or may_be_late, end, f"J5 not ended after {deadline} s")
    world.sim.at(now + deadline / 8 + 1e-6, _look_at_progress, world, end, deadline)


def liveness(world: World) -> None:
    """After a long quiet nothing that could go on stands still."""
    by_endpoint = {id(end.endpoint): end for end in world.ends if end.endpoint is not None}
    for end in world.ends:
        if end.state != "made" or isinstance(end, Relay) or "abortConnection" in end.asked:
            continue
        peer = by_endpoint.get(id(end.endpoint.peer))
        producer, transport = end.producer, end.transport
        if producer is not None and producer.is_push and producer.is_paused:
            is_full = transport.bytesBuffered > producer.low
            world.check(is_full, end, "J6 its producer was not resumed")
        if peer is None or isinstance(peer, Relay) or peer.is_paused:
            continue
        guards = guard_of(transport), guard_of(peer.transport)
        if any(is_new(guard, world.sim.now) or is_slow(guard) for guard in guards):
            continue
        if peer.state == "made":
            came, sent = sum(map(len, peer.got)), transport.bytesSent
            world.check(came == sent, end, f"{sent} bytes sent, {came} came, and all is quiet")
            waits = transport.bytesBuffered
            world.check(not waits, end, f"{waits} bytes wait to be sent, and all is quiet")
        elif not end.is_paused and type(end) is End:
            # Why not all of those that were cut off: who has nothing to send never learns of a reset that was lost.
            waits = end.endpoint.awaits_answer or transport.bytesBuffered
            is_silent = world.was_cut and not waits
            world.check(is_silent, end, f"its peer is gone, {peer.reason!r}, and it was not told")
    for port in filter(None, world.ports):
        if port.connected and inside_of(port.factory).host.name not in world.down:
            waiting = port.sock.readiness()
            world.check(not waiting, port, "A2 connections wait to be accepted, and all is quiet")
    for caller in world.callers:
        is_late = caller.state == "connecting" and world.sim.now > caller.since + caller.timeout
        world.check(not is_late, caller, "J2 still connecting after its timeout")
    if world.guests is not None:
        world.guests.check_liveness()
    if world.layers is not None:
        world.layers.check_liveness()
