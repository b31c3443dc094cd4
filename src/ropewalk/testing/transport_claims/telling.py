"""Claims about what a protocol is told, and when: order, once, never on its own stack, and what its exceptions do.

Most of the order is seen by the watch in every claim (see `transport_stage`); the ones here play what breaks it easily:
requests made in each callback, both ends closing at once, everything asked again after the end.
Source: CONTRACT sections 3, 4 (I2, I3, I4, I7, I10) and FAULTS C7, C12, C14, J1, J11.
"""

from __future__ import annotations

from collections.abc import Callable

from ropewalk.testing.transport_claims.claim import Claim, claim
from ropewalk.testing.transport_stage import Actor, Producer, Scene

CLAIMS: list[Claim] = []


@claim(CLAIMS, "connectionMade comes first, then data, then connectionLost, each side once")
def _order(scene: Scene) -> None:
    one, other = scene.one, scene.other
    other.acts["connectionMade"] = lambda: other.send(b"at once")
    scene.connect()
    scene.until_received(one)
    one.lose()
    scene.until_lost()
    scene.go_on()
    wanted = ["connectionMade", *["dataReceived"] * one.journal.count("dataReceived"), "connectionLost"]
    scene.held(one.journal == wanted, f"{one.name} was told {one.journal}")
    scene.held(
        other.journal == ["connectionMade", "connectionLost"], f"{other.name} was told {other.journal}"
    )


@claim(CLAIMS, "in connectionMade the transport is there and says that it is connected")
def _made(scene: Scene) -> None:
    one = scene.one
    told = []
    one.acts["connectionMade"] = lambda: told.append((one.transport.connected, one.transport.disconnecting))
    scene.connect()
    scene.held(told == [(True, False)], f"(connected, disconnecting) was {told}, not [(True, False)]")


@claim(CLAIMS, "what both sides write in connectionMade arrives")
def _both_greet(scene: Scene) -> None:
    one, other = scene.both
    one.acts["connectionMade"] = lambda: one.send(b"good day")
    other.acts["connectionMade"] = lambda: other.send(b"welcome" * 1000)
    scene.connect()
    scene.until_received(one)
    scene.until_received(other)


@claim(CLAIMS, "write delivers nothing and calls nobody before it returns")
def _write_is_quiet(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.send(b"later")
    scene.held(not other.received, f"{other.name} had the bytes when write returned")
    scene.until_received(other)


@claim(
    CLAIMS,
    "a request to end calls nobody before it returns",
    cases=("loseConnection", "abortConnection", "loseWriteConnection"),
)
def _ending_is_quiet(scene: Scene, request: str) -> None:
    scene.connect()
    one, other = scene.both
    one.is_closing = request != "loseWriteConnection"
    one.ask(request)
    scene.held(not (one.is_lost or other.is_lost), f"connectionLost came before {request} had returned")
    one.lose()
    scene.until_lost()


@claim(CLAIMS, "when both sides close at once, each is told once, of a clean end")
def _both_close(scene: Scene) -> None:
    scene.connect()
    scene.one.lose()
    scene.other.lose()
    scene.is_done()
    scene.go_on()


@claim(CLAIMS, "after the end every request does nothing", cases=("loseConnection", "abortConnection"))
def _after_the_end(scene: Scene, how: str) -> None:
    scene.connect()
    one, other = scene.both
    one.is_closing = True
    one.ask(how)
    scene.until_lost()
    told = [list(actor.journal) for actor in scene.both]
    for actor in scene.both:
        actor.ask("write", b"too late")
        actor.ask("writeSequence", [b"too", b"late"])
        actor.ask("pauseProducing")
        actor.ask("resumeProducing")
        actor.ask("loseConnection")
        actor.ask("abortConnection")
    scene.go_on()
    scene.held(told == [actor.journal for actor in scene.both], "a request after the end had an effect")
    scene.held(not one.received and not other.received, "what was written after the end arrived")


# ---- requests in each callback ------------------------------------------------------------------------------------


def _write(actor: Actor) -> None:
    actor.send(b"from a callback")


def _pause_and_resume(actor: Actor) -> None:
    actor.pause()
    actor.resume()


def _write_and_lose(actor: Actor) -> None:
    _write(actor)
    actor.lose()


def _lose_twice(actor: Actor) -> None:
    actor.lose()
    actor.lose()


def _lose_and_abort(actor: Actor) -> None:
    actor.lose()
    actor.abort()


REQUESTS: dict[str, Callable[[Actor], None]] = {
    "write": _write,
    "loseConnection": Actor.lose,
    "abortConnection": Actor.abort,
    "pause and resume": _pause_and_resume,
    "write, then loseConnection": _write_and_lose,
    "loseConnection twice": _lose_twice,
    "loseConnection, then abortConnection": _lose_and_abort,
}


def _obeyed(scene: Scene, request: str) -> None:
    """What was asked for in a callback of `one` has its effect."""
    one, other = scene.both
    if "abort" in request:
        scene.is_aborted(one)
        scene.until_lost(other)
        return
    if "write" in request:
        scene.until_received(other)
    if "lose" in request:
        scene.is_done()
        return
    other.send(b"and the connection stands")
    scene.until_received(one)


@claim(CLAIMS, "every request may be made in connectionMade, and is obeyed", cases=tuple(REQUESTS))
def _in_made(scene: Scene, request: str) -> None:
    one = scene.one
    one.acts["connectionMade"] = lambda: REQUESTS[request](one)
    scene.connect(ends_early="abort" in request)
    _obeyed(scene, request)


@claim(CLAIMS, "every request may be made in dataReceived, and is obeyed", cases=tuple(REQUESTS))
def _in_data(scene: Scene, request: str) -> None:
    scene.connect()
    one, other = scene.both

    def act() -> None:
        one.acts.clear()
        REQUESTS[request](one)

    one.acts["dataReceived"] = act
    other.send(b"?")
    scene.until(lambda: bool(one.received), f"{one.name} receives a byte")
    _obeyed(scene, request)


@claim(CLAIMS, "every request may be made in connectionLost, and does nothing", cases=tuple(REQUESTS))
def _in_lost(scene: Scene, request: str) -> None:
    scene.connect()
    one, other = scene.both
    one.acts["connectionLost"] = lambda: REQUESTS[request](one)
    other.lose()
    scene.is_done()
    scene.go_on()
    scene.held(not other.received, "what was written in connectionLost arrived")


# ---- exceptions ---------------------------------------------------------------------------------------------------


@claim(CLAIMS, "an exception in connectionMade ends the connection, is its reason, and is logged once")
def _made_raises(scene: Scene) -> None:
    one = scene.one
    one.acts["connectionMade"] = scene.watch.boom
    scene.connect(ends_early=True)
    scene.until_lost()
    scene.held(one.reason is scene.planned(), "the reason is not the exception")


@claim(CLAIMS, "an exception in dataReceived ends the connection, is its reason, and is logged once")
def _data_raises(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.acts["dataReceived"] = scene.watch.boom
    other.send(b"?")
    scene.until_lost()
    scene.held(one.reason is scene.planned(), "the reason is not the exception")


@claim(CLAIMS, "an exception in connectionLost stays inside, is logged once, and the peer is told of the end")
def _lost_raises(scene: Scene) -> None:
    scene.connect()
    scene.one.acts["connectionLost"] = scene.watch.boom
    scene.one.lose()
    scene.is_done()
    scene.go_on()
    scene.planned()


@claim(
    CLAIMS,
    "an exception in a half-close callback ends the connection, is its reason, and is logged once",
    "halfClose",
    half_closers="one other",
    cases=("readConnectionLost", "writeConnectionLost"),
)
def _half_close_raises(scene: Scene, callback: str) -> None:
    scene.connect()
    one, other = scene.both
    one.acts[callback] = scene.watch.boom
    (other if callback == "readConnectionLost" else one).half()
    scene.until_lost(one)
    scene.held(one.reason is scene.planned(), "the reason is not the exception")


@claim(CLAIMS, "an exception in resumeProducing of a producer stays inside and is logged once", "producers")
def _resume_raises(scene: Scene) -> None:
    scene.connect()
    producer = Producer(scene.one, streaming=True)
    producer.acts["resumeProducing"] = scene.watch.boom
    producer.register()
    scene.one.send(bytes(100_000))
    scene.until(lambda: bool(scene.watch.planned), "a paused producer is resumed")
    scene.go_on()
