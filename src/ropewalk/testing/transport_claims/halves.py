"""Claims about half-close: one direction ends, the other goes on, with protocols that handle it and such that do not.

Source: CONTRACT section 5, "half-close" and "peer half-closes"; FAULTS F1, F4, B5.
"""

from __future__ import annotations

from ropewalk.testing.transport_claims.carrying import noise
from ropewalk.testing.transport_claims.claim import Claim, claim
from ropewalk.testing.transport_stage import Scene

CLAIMS: list[Claim] = []


@claim(
    CLAIMS,
    "loseWriteConnection sends what was written, and then both are told which side ended",
    "halfClose",
    half_closers="one other",
)
def _half(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.send(noise(scene.bulk // 2))
    one.half()
    scene.until_received(other)
    scene.until(lambda: other.heard("readConnectionLost"), f"{other.name} is told readConnectionLost")
    scene.until(lambda: one.heard("writeConnectionLost"), f"{one.name} is told writeConnectionLost")
    scene.go_on()
    scene.held(not (one.is_lost or other.is_lost), "the other direction ended as well")


@claim(CLAIMS, "after a half-close the other direction carries on", "halfClose", half_closers="one other")
def _other_direction(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.half()
    scene.until(lambda: other.heard("readConnectionLost"), f"{other.name} is told readConnectionLost")
    other.send(noise(scene.bulk // 2))
    scene.until_received(one)
    other.lose()
    scene.is_done()


@claim(CLAIMS, "what is written after writeConnectionLost is not sent", "halfClose", half_closers="one other")
def _shut(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.half()
    scene.until(lambda: one.heard("writeConnectionLost"), f"{one.name} is told writeConnectionLost")
    one.ask("write", b"too late")
    one.ask("loseWriteConnection")
    scene.go_on()
    scene.held(not other.received, "it arrived")
    scene.held(not one.is_lost, "it ended the connection")


@claim(
    CLAIMS,
    "when both sides have half-closed, both end with ConnectionDone",
    "halfClose",
    half_closers="one other",
)
def _both_halves(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.half()
    other.send(b"last words")
    other.half()
    scene.is_done()
    scene.held(bytes(one.received) == b"last words", "what the other direction carried is lost")


@claim(
    CLAIMS,
    "a half-close answered by one in readConnectionLost ends both cleanly",
    "halfClose",
    half_closers="one other",
)
def _answered(scene: Scene) -> None:
    one, other = scene.both

    def answer() -> None:
        other.send(b"the answer")
        other.half()

    other.acts["readConnectionLost"] = answer
    scene.connect()
    one.send(b"the question")
    one.half()
    scene.is_done()
    scene.held(bytes(one.received) == b"the answer", "the answer is lost")


@claim(
    CLAIMS,
    "a half-close ends a protocol that does not handle it, and so both, with ConnectionDone",
    "halfClose",
    half_closers="one",
)
def _unhandled(scene: Scene) -> None:
    scene.connect()
    scene.one.half()
    scene.is_done()


@claim(
    CLAIMS,
    "a peer that half-closes still gets what was written and not sent yet",
    "halfClose",
    half_closers="other",
)
def _flushed(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    other.pause()
    one.send(noise(4 * scene.bulk))
    scene.go_on(2)
    other.half()
    scene.go_on()
    other.resume()
    scene.until_received(other)
    scene.is_done()


@claim(CLAIMS, "loseWriteConnection needs no protocol that handles it", "halfClose", half_closers="other")
def _plain_half(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.half()
    scene.until(lambda: other.heard("readConnectionLost"), f"{other.name} is told readConnectionLost")
    other.send(b"still here")
    scene.until_received(one)
    other.lose()
    scene.is_done()


@claim(
    CLAIMS, "loseConnection after loseWriteConnection closes cleanly", "halfClose", half_closers="one other"
)
def _lose_after_half(scene: Scene) -> None:
    scene.connect()
    one = scene.one
    one.send(b"before")
    one.half()
    one.lose()
    scene.until_received(scene.other)
    scene.is_done(one)
    scene.other.lose()
    scene.is_done(scene.other)


@claim(
    CLAIMS,
    "a reset after a half-close is noticed",
    "halfClose",
    "resets",
    "resetsWhilePaused",
    half_closers="one other",
)
def _reset_after_half(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    other.half()
    scene.until(lambda: one.heard("readConnectionLost"), f"{one.name} is told readConnectionLost")
    other.abort()
    scene.is_broken(one)
