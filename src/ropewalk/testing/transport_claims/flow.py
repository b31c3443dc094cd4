"""Claims about flow: pausing and resuming, producers and their marks, and the hard limit.

That nothing is delivered while paused, and that producers are paused and resumed in turns, is seen by the watch.
Source: CONTRACT section 5, "watermarks", "paused transport", "producers"; FAULTS C1, F2, J6.
"""

from __future__ import annotations

from ropewalk.testing.transport_claims.carrying import fill, noise
from ropewalk.testing.transport_claims.claim import Claim, claim
from ropewalk.testing.transport_stage import Producer, Scene

CLAIMS: list[Claim] = []

# Bytes waiting above which a producer is paused unless set otherwise. Source: CONTRACT section 5.
_HIGH_WATER = 65_536


# ---- pausing ------------------------------------------------------------------------------------------------------


@claim(CLAIMS, "nothing is delivered while paused, everything after resuming")
def _paused(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.pause()
    other.send(noise(100_000))
    scene.go_on()
    scene.held(not one.received, "some was delivered")
    one.resume()
    scene.until_received(one)


@claim(CLAIMS, "pausing in connectionMade holds")
def _paused_at_once(scene: Scene) -> None:
    one, other = scene.both
    one.acts["connectionMade"] = one.pause
    other.acts["connectionMade"] = lambda: other.send(b"early")
    scene.connect()
    scene.go_on()
    scene.held(not one.received, "some was delivered")
    one.resume()
    scene.until_received(one)


@claim(CLAIMS, "pausing in dataReceived holds from the next delivery on")
def _paused_in_data(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.acts["dataReceived"] = one.pause
    other.send(noise(scene.bulk // 2))
    before = -1

    def is_further() -> bool:
        return len(one.received) > before

    while len(one.received) < len(other.sent):
        before = len(one.received)
        scene.until(is_further, f"{one.name} receives more")
        scene.go_on(1)
        if len(one.received) > len(other.sent) // 2:
            one.acts.clear()
        one.resume()


@claim(CLAIMS, "pausing and resuming in one handler stops nothing")
def _no_pause(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both

    def rest_not_at_all() -> None:
        one.pause()
        one.resume()

    one.acts["dataReceived"] = rest_not_at_all
    other.send(noise(scene.bulk // 2))
    scene.until_received(one)


@claim(CLAIMS, "one resumeProducing undoes any number of pauseProducing, and needs none")
def _pauses_do_not_add_up(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.resume()
    for _ in range(3):
        one.pause()
        scene.go_on(1)
    other.send(b"for later")
    scene.go_on()
    one.resume()
    scene.until_received(one)


@claim(CLAIMS, "a paused side still sends")
def _paused_sends(scene: Scene) -> None:
    scene.connect()
    scene.one.pause()
    scene.one.send(noise(scene.bulk // 4))
    scene.until_received(scene.other)


@claim(CLAIMS, "data and the end that came while paused are both delivered after resuming")
def _paused_at_the_end(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    one.pause()
    other.send(b"the rest")
    other.lose()
    scene.go_on()
    scene.held(not one.is_lost, "the end was told before the data")
    one.resume()
    scene.until_received(one)
    scene.is_done()


@claim(CLAIMS, "much data, a peer that closes and a reader that rests lose nothing")
def _paused_often(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    other.send(noise(scene.bulk))
    other.lose()
    for _ in range(5):
        one.pause()
        scene.go_on(3)
        one.resume()
        scene.go_on(1)
    scene.until_received(one)
    scene.is_done()


@claim(CLAIMS, "a paused side can end", cases=("loseConnection", "abortConnection"))
def _paused_ends(scene: Scene, how: str) -> None:
    scene.connect()
    one = scene.one
    one.pause()
    scene.go_on(2)
    one.ask(how)
    (scene.is_done if how == "loseConnection" else scene.is_aborted)(one)
    scene.until_lost(scene.other)


# ---- producers ----------------------------------------------------------------------------------------------------


@claim(
    CLAIMS, "a push producer is paused once above high water, and resumed once after draining", "producers"
)
def _push(scene: Scene) -> None:
    scene.connect()
    one = scene.one
    producer = Producer(one, streaming=True)
    producer.register()
    one.send(bytes(_HIGH_WATER // 2))
    scene.held(producer.journal == [], f"below high water it was told {producer.journal}")
    one.send(noise(_HIGH_WATER))
    one.send(noise(1000))
    scene.held(producer.journal == ["pauseProducing"], f"above high water it was told {producer.journal}")
    scene.until(lambda: len(producer.journal) > 1, "the producer is told more once all is sent")
    scene.until_received(scene.other)
    scene.go_on()
    wanted = ["pauseProducing", "resumeProducing"]
    scene.held(producer.journal == wanted, f"in all it was told {producer.journal}")
    producer.unregister()


@claim(
    CLAIMS, "a push producer never has more waiting than high water and one write", "producers", "counters"
)
def _push_bounded(scene: Scene) -> None:
    scene.connect()
    one = scene.one
    producer = Producer(one, streaming=True)
    state = {"paused": False, "most": 0}
    producer.acts["pauseProducing"] = lambda: state.update(paused=True)
    producer.acts["resumeProducing"] = lambda: state.update(paused=False)
    producer.register()
    chunk = noise(20_000)
    while len(one.sent) < scene.bulk:
        scene.until(lambda: not state["paused"], "the producer is resumed")
        one.send(chunk)
        state["most"] = max(state["most"], one.transport.bytesBuffered)
    producer.unregister()
    scene.until_received(scene.other)
    scene.held(state["most"] <= _HIGH_WATER + len(chunk), f"{state['most']} bytes waited")


@claim(
    CLAIMS,
    "a push producer of a peer that rests stays paused until it reads",
    "producers",
    "counters",
    "backPressure",
)
def _push_to_slow(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    other.pause()
    fill(scene)
    one.send(noise(2 * _HIGH_WATER))
    producer = Producer(one, streaming=True)
    producer.register()
    scene.go_on()
    scene.held(producer.journal == ["pauseProducing"], f"it was told {producer.journal}")
    other.resume()
    scene.until(lambda: len(producer.journal) > 1, "the producer is resumed")
    producer.unregister()
    scene.until_received(other)


@claim(CLAIMS, "a pull producer is asked for each piece until it unregisters", "producers")
def _pull(scene: Scene) -> None:
    scene.connect()
    one = scene.one
    producer = Producer(one, streaming=False)
    left = [noise(30_000 + number) for number in range(10)]

    def produce() -> None:
        one.send(left.pop())
        if not left:
            producer.unregister()

    producer.acts["resumeProducing"] = produce
    producer.register()
    scene.until(lambda: not left, "it is asked ten times")
    scene.until_received(scene.other)
    scene.go_on()
    count = len(producer.journal)
    scene.held(count == 10, f"it was asked {count} times for ten pieces")


@claim(CLAIMS, "a pull producer is not asked again before it has written", "producers")
def _patient_pull(scene: Scene) -> None:
    scene.connect()
    producer = Producer(scene.one, streaming=False)
    producer.register()
    scene.go_on()
    scene.held(len(producer.journal) == 1, f"it was told {producer.journal}")
    scene.one.send(b"late")
    scene.until(lambda: len(producer.journal) > 1, "it is asked again once it has written")
    producer.unregister()


@claim(CLAIMS, "a second registerProducer is a RuntimeError, and the first one stays", "producers")
def _second(scene: Scene) -> None:
    scene.connect()
    first, second = Producer(scene.one, True), Producer(scene.one, True)
    first.register()
    refused = False
    try:
        second.register()
    except RuntimeError:
        refused = True
    scene.held(refused, "there was no RuntimeError")
    scene.held(not first.journal and not second.journal, f"they were told {first.journal}, {second.journal}")
    first.unregister()
    second.register()
    second.unregister()


@claim(CLAIMS, "registerProducer after the end stops the producer at once", "producers", cases=(True, False))
def _too_late(scene: Scene, streaming: bool) -> None:
    scene.connect()
    scene.other.lose()
    scene.until_lost()
    producer = Producer(scene.one, streaming)
    producer.register()
    scene.held(producer.journal == ["stopProducing"], f"it was told {producer.journal}")


@claim(CLAIMS, "loseConnection waits until the producer has unregistered", "producers")
def _lose_waits(scene: Scene) -> None:
    scene.connect()
    one = scene.one
    producer = Producer(one, True)
    producer.register()
    one.send(b"begun, ")
    one.lose()
    scene.go_on()
    scene.held(not one.is_lost, "it ended before that")
    one.send(b"done")
    producer.unregister()
    scene.until_received(scene.other)
    scene.is_done()


ENDS = {
    "the peer closes": ("other", "loseConnection"),
    "the peer aborts": ("other", "abortConnection"),
    "it aborts itself": ("one", "abortConnection"),
}


@claim(CLAIMS, "a producer is stopped once when the connection ends", "producers", cases=tuple(ENDS))
def _stopped(scene: Scene, how: str) -> None:
    scene.connect()
    producer = Producer(scene.one, True)
    producer.register()
    who, request = ENDS[how]
    getattr(scene, who).ask(request)
    scene.until_lost()
    scene.go_on()
    scene.held(producer.journal == ["stopProducing"], f"it was told {producer.journal}")


# ---- limits -------------------------------------------------------------------------------------------------------


@claim(CLAIMS, "setWriteLimits moves the marks", "writeLimits", "producers")
def _limits(scene: Scene) -> None:
    scene.connect()
    one = scene.one
    one.ask("setWriteLimits", 1000, 100)
    producer = Producer(one, True)
    producer.register()
    one.send(bytes(1000))
    scene.held(producer.journal == [], f"at the mark it was told {producer.journal}")
    one.send(b"!")
    scene.held(producer.journal == ["pauseProducing"], f"above it it was told {producer.journal}")
    scene.until(lambda: len(producer.journal) > 1, "the producer is resumed")
    producer.unregister()


WRONG_LIMITS = {"low above high": (10, 20), "hard below high": (10, 0, 5), "below zero": (-1, -1)}


@claim(
    CLAIMS,
    "setWriteLimits refuses what makes no sense with a ValueError",
    "writeLimits",
    cases=tuple(WRONG_LIMITS),
)
def _wrong_limits(scene: Scene, how: str) -> None:
    scene.connect()
    refused = False
    try:
        scene.one.ask("setWriteLimits", *WRONG_LIMITS[how])
    except ValueError:
        refused = True
    scene.held(refused, f"setWriteLimits{WRONG_LIMITS[how]} raised no ValueError")


@claim(CLAIMS, "a peer that reads nothing is given up above the hard limit", "writeLimits", "backPressure")
def _hard_limit(scene: Scene) -> None:
    scene.connect()
    one, other = scene.both
    other.pause()
    one.ask("setWriteLimits", 10_000, 0, 300_000)
    chunk = noise(100_000)
    while not one.is_lost and len(one.sent) < 1 << 26:
        one.send(chunk)
        scene.go_on(1)
    scene.is_broken(one)
    other.resume()
    scene.until_lost(other)
    scene.held(len(other.received) < len(one.sent), "everything arrived all the same")
