"""Claims about how a connection ends, and what its reason says.

Source: CONTRACT sections 4 (I9, I11) and 5, FAULTS C4 to C7, C15, F3, J4, J5, J10.
"""

from __future__ import annotations

import gc
from typing import Any

from ropewalk.event import EndedBy
from ropewalk.testing.transport_claims.carrying import fill, noise
from ropewalk.testing.transport_claims.claim import Claim, claim
from ropewalk.testing.transport_stage import NotHeld, Scene

CLAIMS: list[Claim] = []

# Seconds: what a connection that is filled, rests a while and is given up after 0.1 s takes at most on a busy machine; a
# transport that has not heard of the 0.1 waits for the 60 of the contract.
_NOT_THE_DEFAULT = 50


@claim(CLAIMS, "loseConnection ends both sides with ConnectionDone")
def _lose(scene: Scene) -> None:
    scene.connect()
    scene.one.lose()
    scene.is_done()


@claim(CLAIMS, "loseConnection sends what was written first, all of it")
def _flush(scene: Scene) -> None:
    scene.connect()
    scene.one.send(noise(scene.bulk))
    scene.one.lose()
    scene.until_received(scene.other)
    scene.is_done()


@claim(CLAIMS, "loseConnection right after a small write in one handler sends it first")
def _flush_small(scene: Scene) -> None:
    one = scene.one

    def greet_and_go() -> None:
        one.send(b"good day, and good night")
        one.lose()

    one.acts["connectionMade"] = greet_and_go
    scene.connect()
    scene.until_received(scene.other)
    scene.is_done()


@claim(
    CLAIMS, "loseConnection waits for a peer that rests, and then sends the rest", "counters", "backPressure"
)
def _flush_to_slow(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    other.pause()
    fill(scene)
    one.lose()
    scene.go_on()
    scene.held(not one.is_lost, "it ended though not all was sent")
    other.resume()
    scene.until_received(other)
    scene.is_done()


@claim(
    CLAIMS,
    "loseConnection ends within closeTimeout if the peer takes nothing",
    "closeDeadline",
    "counters",
    "backPressure",
    "endings",
)
def _deadline(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.transport.closeTimeout = 0.1
    other.pause()
    fill(scene)
    one.lose()
    scene.is_broken(one)
    ended = one.transport.ended
    scene.held(ended.by is EndedBy.TIMEOUT, f"it says that it was ended by {ended.by!s}")
    scene.held(
        ended.seconds < _NOT_THE_DEFAULT, f"with closeTimeout 0.1 it lived for {ended.seconds} seconds"
    )
    other.resume()
    scene.until_lost(other)


@claim(CLAIMS, "loseConnection with unread data does not destroy what was sent before it")
def _unread(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.pause()
    # Why so little: what does not fit into the buffer comes after the end, and to that every kernel answers with a reset;
    # and a transport reads only so often before it closes, here perhaps one byte at a time.
    other.send(noise(10))
    other.pause()
    scene.go_on()
    one.send(noise(1000))
    one.lose()
    scene.go_on()
    other.resume()
    scene.until_received(other)
    scene.is_done()


@claim(CLAIMS, "after loseConnection nothing more is received")
def _deaf(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.lose()
    other.send(noise(10_000))
    scene.is_done(one)
    scene.until_lost(other)


@claim(CLAIMS, "disconnecting tells that loseConnection was called, connected that the connection is there")
def _flags(scene: Scene) -> None:
    scene.connect()
    one = scene.one
    flags = [(one.transport.connected, one.transport.disconnecting)]
    one.lose()
    flags.append((one.transport.connected, one.transport.disconnecting))
    scene.until_lost()
    flags.append((one.transport.connected, scene.other.transport.connected))
    wanted = [(True, False), (True, True), (False, False)]
    scene.held(flags == wanted, f"connected, closing and closed it says {flags}, not {wanted}")


# ---- aborting -----------------------------------------------------------------------------------------------------


@claim(CLAIMS, "abortConnection ends its own side with ConnectionAborted")
def _abort(scene: Scene) -> None:
    scene.connect()
    scene.one.abort()
    scene.is_aborted(scene.one)
    scene.until_lost(scene.other)


@claim(CLAIMS, "abortConnection ends the peer with ConnectionLost", "resets")
def _abort_there(scene: Scene) -> None:
    scene.connect()
    scene.one.abort()
    scene.is_broken(scene.other)


@claim(CLAIMS, "abortConnection throws away what waits", "counters", "backPressure")
def _abort_drops(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    other.pause()
    fill(scene)
    one.abort()
    scene.is_aborted(one)
    other.resume()
    scene.until_lost(other)
    scene.held(len(other.received) < len(one.sent), "everything arrived all the same")


@claim(CLAIMS, "abortConnection ends a loseConnection that is not finished", "counters", "backPressure")
def _abort_after_lose(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    other.pause()
    fill(scene)
    one.lose()
    scene.go_on()
    one.abort()
    scene.is_aborted(one)
    other.resume()
    scene.until_lost(other)


@claim(CLAIMS, "a reset is noticed while paused", "resets", "resetsWhilePaused")
def _reset_while_paused(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.pause()
    scene.go_on()
    other.abort()
    scene.is_broken(one)


@claim(CLAIMS, "writing to a peer that is gone ends the connection once, with ConnectionLost", "resets")
def _write_to_gone(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    other.abort()
    for _ in range(20):
        one.send(b"anybody there?")
        scene.go_on(1)
    scene.is_broken(one)
    scene.go_on()


# ---- reasons ------------------------------------------------------------------------------------------------------


@claim(CLAIMS, "each side has a reason of its own", cases=("loseConnection", "abortConnection"))
def _own_reason(scene: Scene, how: str) -> None:
    scene.connect()
    scene.one.ask(how)
    scene.until_lost()
    again = Scene(scene.make_pair, scene.swapped, scene.bulk)
    seen = again.play(_end_it, how)
    scene.held(not seen, "; ".join(seen))
    actors = (*scene.both, *again.both)
    reasons = {id(actor.reason) for actor in actors} | {id(actor.reasons[0]) for actor in actors}
    scene.held(len(reasons) in (4, 8), f"four ends share reasons: {[actor.reason for actor in actors]}")


def _end_it(scene: Scene, how: str) -> None:
    scene.connect()
    scene.one.ask(how)
    scene.until_lost()


WHO = {
    "loseConnection": (EndedBy.US, {EndedBy.PEER}),
    "abortConnection": (EndedBy.US_ABORTED, {EndedBy.PEER_RESET, EndedBy.ERROR}),
}


@claim(CLAIMS, "a reason tells who ended it, after how long, and how many bytes", "endings", cases=tuple(WHO))
def _who(scene: Scene, how: str) -> None:
    scene.connect()
    one, other = scene.both
    one.send(b"12345")
    other.send(b"123")
    scene.until_received(one)
    scene.until_received(other)
    one.ask(how)
    scene.until_lost()
    us, them = WHO[how]
    if how == "abortConnection":
        them = {*them, EndedBy.PEER}  # Why: not every transport can tell; "resets" is a claim of its own.
    ended: list[Any] = [actor.reason.ended for actor in scene.both]  # type: ignore[attr-defined]
    scene.held(ended[0].by is us, f"{one.name} asked for the end, and it says {ended[0].by!s}")
    scene.held(ended[1].by in them, f"{one.name} asked for the end, and {other.name} says {ended[1].by!s}")
    for actor, each, counts in ((one, ended[0], (3, 5)), (other, ended[1], (5, 3))):
        told = (each.received, each.sent)
        scene.held(told == counts, f"{actor.name} counts (received, sent) {told}, not {counts}")
        scene.held(each.seconds >= 0, f"it lived for {each.seconds} seconds")
        scene.held(actor.transport.ended == each, "transport.ended is not the reason's")


@claim(CLAIMS, "transport.ended is None while the connection lives", "endings")
def _not_ended(scene: Scene) -> None:
    scene.connect()
    scene.held(scene.one.transport.ended is None, f"it says {scene.one.transport.ended!r}")


# ---- what is left -------------------------------------------------------------------------------------------------


@claim(CLAIMS, "getHost and getPeer are each other's, also after the end", "addresses")
def _addresses(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    before = [(actor.transport.getHost(), actor.transport.getPeer()) for actor in scene.both]
    scene.held(before[0] == before[1][::-1], f"(host, peer) here is {before[0]}, there {before[1]}")
    one.lose()
    scene.until_lost(one, other)
    after = [(actor.transport.getHost(), actor.transport.getPeer()) for actor in scene.both]
    scene.held(after == before, f"after the end (host, peer) is {after}, it was {before}")


@claim(
    CLAIMS,
    "an ended connection that nobody holds is freed without the garbage collector",
    "freed",
    cases=("loseConnection", "abortConnection"),
)
def _freed(scene: Scene, how: str) -> None:
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        kinds, places = _lived(scene, how)
        left = [
            type(each).__name__ for each in gc.get_objects() if id(each) in places and type(each) in kinds
        ]
    finally:
        if was_enabled:
            gc.enable()
    if left:
        raise NotHeld(f"still there, though nobody holds them: {', '.join(sorted(left))}")


def _lived(scene: Scene, how: str) -> tuple[set[type], set[int]]:
    """A whole connection; of its transports and protocols, what is needed to find them, but no reference."""
    inner = Scene(scene.make_pair, scene.swapped, scene.bulk)
    inner.connect()
    inner.one.send(b"a few bytes")
    inner.until_received(inner.other)
    inner.one.ask(how)
    inner.until_lost()
    inner.go_on(3)
    inner.pair.close()
    ends = [*inner.both, *(actor.transport for actor in inner.both)]
    # Safe because: nothing of these kinds is made afterwards that could take one of the places.
    return {type(each) for each in ends}, {id(each) for each in ends}
