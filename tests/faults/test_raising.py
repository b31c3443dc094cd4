"""FAULTS C14: user code that raises in every callback, an ordinary exception, SystemExit or KeyboardInterrupt.

An exception is logged once, or comes back to the user where the callback was on the stack of the user's own call; the two
that mean "out" leave the loop, and so `run()`. Whatever it was, all invariants hold afterwards: the stage checks them.
"""

from __future__ import annotations

import signal
from random import Random

import pytest

from ropewalk.defer import Deferred
from tests.faults.scene import Echo, Makes, call, listening, turn_until
from tests.faults.stage import Exit, Fault, Interrupt, Stage
from tests.faults.test_reentrancy import SPOTS, STEPS

RAISED = {"exception": Fault, "SystemExit": Exit, "KeyboardInterrupt": Interrupt}
PLACES = [(scenario, spot) for scenario, spots in SPOTS.items() for spot in spots]
OBSERVED = [
    (scenario, f"observer.{step}")
    for scenario, steps in STEPS.items()
    for step in steps
    if scenario in ("orderly", "named")
]


def raiser(spot_wanted, kind, times):
    left = [times]

    def interfere(stage, spot, role):
        if f"{role}.{spot}" == spot_wanted and left[0]:
            left[0] -= 1
            raise kind(f"from {spot_wanted}")

    interfere.left = left
    return interfere


def fates(stage, errors):
    """What became of all that was raised: (logged, came back to the caller, left the loop)."""
    logged = [each for each in errors if not each.startswith("at shutdown")]
    came_back = [each for each in stage.log if each[0] == "came back"]
    left = [each for each in stage.log if each[0] == "left"]
    return len(logged), len(came_back), len(left)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize(("scenario", "spot"), PLACES, ids=[" - ".join(each) for each in PLACES])
def test_C14_whatever_a_callback_raises_every_invariant_holds_and_it_is_told_once(
    scenario, spot, kind, times, errors
):
    interfere = raiser(spot, RAISED[kind], times)
    stage = Stage(scenario, interfere)
    stage.play()
    raised = times - interfere.left[0]
    assert raised >= 1, "the callback never came"
    logged, came_back, left = fates(stage, errors())
    if kind == "exception":
        assert (logged + came_back, left) == (raised, 0)
    else:
        assert logged == 0
        # Two that are raised while one event is handled leave as one.
        assert (came_back + left == raised) if raised == 1 else (1 <= came_back + left <= raised)
    stage.check(expected_errors=logged, errors=errors())
    stage.check_bytes()


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize(("scenario", "step"), OBSERVED, ids=[" - ".join(each) for each in OBSERVED])
def test_C14_whatever_an_observer_raises_every_invariant_holds_and_it_is_told_once(
    scenario, step, kind, errors
):
    interfere = raiser(step, RAISED[kind], 2)
    stage = Stage(scenario, interfere)
    stage.observe()
    stage.play()
    logged, came_back, left = fates(stage, errors())
    assert logged + came_back + left >= 1
    assert came_back == 0
    assert (logged == 0) or kind == "exception"
    stage.check(expected_errors=logged, errors=errors())
    stage.check_bytes()


@pytest.mark.parametrize("seed", range(200))
def test_C14_raising_now_and_then_in_all_callbacks_keeps_every_invariant(seed, errors):
    random = Random(seed)
    kinds = [Fault, Fault, Fault, Exit, Interrupt]
    left = [40]

    def interfere(stage, spot, role):
        if left[0] and random.random() < 0.2:
            left[0] -= 1
            raise random.choice(kinds)(f"from {role}.{spot}")

    stage = Stage(random.choice(list(SPOTS) + list(STEPS)), interfere, seed)
    if random.random() < 0.5:
        stage.observe()
    stage.play()
    stage.check(expected_errors=len(errors()), errors=errors())
    stage.check_bytes()


# ---- out of a real run() ------------------------------------------------------------------------------------------


def in_a_timer(reactor, port, out):
    reactor.callLater(0, out)


def in_a_call_from_a_thread(reactor, port, out):
    reactor.callFromThread(out)


def in_startup(reactor, port, out):
    reactor.addSystemEventTrigger("after", "startup", out)


def in_shutdown(reactor, port, out):
    reactor.addSystemEventTrigger("before", "shutdown", out)
    reactor.callLater(0, reactor.stop)


def in_the_last_of_shutdown(reactor, port, out):
    reactor.addSystemEventTrigger("after", "shutdown", out)
    reactor.callLater(0, reactor.stop)


def in_dataReceived(reactor, port, out):
    class Leaves(Echo):
        def dataReceived(self, data):
            out()

    port.factory.kind = Leaves


def in_connectionMade(reactor, port, out):
    class Leaves(Echo):
        def connectionMade(self):
            out()

    port.factory.kind = Leaves


def in_buildProtocol(reactor, port, out):
    class Leaves(Echo):
        def __init__(self):
            out()

    port.factory.kind = Leaves


def in_clientConnectionFailed(reactor, port, out):
    class Leaves(Makes):
        def clientConnectionFailed(self, connector, reason):
            out()

    reactor.connectTCP("127.0.0.1", 1, Leaves())


def in_a_callback_of_stopListening(reactor, port, out):
    other = reactor.listenTCP(0, Makes(), interface="127.0.0.1")
    other.stopListening().addCallback(lambda _: out())


WAYS = [
    in_a_timer,
    in_a_call_from_a_thread,
    in_startup,
    in_shutdown,
    in_the_last_of_shutdown,
    in_dataReceived,
    in_connectionMade,
    in_buildProtocol,
    in_clientConnectionFailed,
    in_a_callback_of_stopListening,
]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("way", WAYS, ids=lambda each: each.__name__)
def test_C14_SystemExit_and_KeyboardInterrupt_leave_run_and_it_can_run_again(counted, errors, way, kind):
    """Out of `run()` at once; the signal handlers are back; what is alive is served by the next run."""

    def out():
        raise kind("out")

    before = signal.getsignal(signal.SIGTERM)
    factory = Makes(Echo)
    with listening(counted, factory) as port:
        way(counted, port, out)
        peer = call(port)
        peer.sendall(b"x")
        with pytest.raises(kind, match="out"):
            counted.run()
        assert not counted.running
        assert signal.getsignal(signal.SIGTERM) is before
        factory.kind = Echo
        if not port.connected:
            port.startListening()  # It was a shutdown, and the run is over all the same.
        other = call(port)
        other.sendall(b"again")
        counted.callLater(0, lambda: None)
        turn_until(counted, lambda: any(each.received == b"again" for each in factory.built))
        counted.callLater(0, counted.stop)
        counted.run()
        peer.close()
        other.close()
    assert errors() == []


def test_C14_in_a_shutdown_that_one_trigger_leaves_the_others_have_their_turn(counted):
    told = []

    def out():
        told.append("out")
        raise SystemExit(3)

    counted.addSystemEventTrigger("before", "shutdown", out)
    counted.addSystemEventTrigger("during", "shutdown", told.append, "during")
    counted.addSystemEventTrigger("after", "shutdown", told.append, "after")
    counted.callLater(0, counted.stop)
    with pytest.raises(SystemExit):
        counted.run()
    assert told == ["out", "during", "after"]


def test_C14_SystemExit_of_a_callback_of_stopListening_does_not_keep_a_shutdown_from_the_others(counted):
    """The port is closed by the shutdown itself; its Deferred fires in the midst of it."""
    told = []

    def out(_):
        raise SystemExit(3)

    port = counted.listenTCP(0, Makes(), interface="127.0.0.1")
    other = counted.listenTCP(0, Makes(), interface="127.0.0.1")

    def stop():
        counted.stop()
        port.stopListening().addCallback(out)

    counted.addSystemEventTrigger("after", "shutdown", told.append, "after")
    counted.callLater(0, stop)
    with pytest.raises(SystemExit):
        counted.run()
    turn_until(counted, lambda: not other.connected)
    assert told == ["after"]


def test_C14_a_trigger_that_raises_or_fails_does_not_stop_the_shutdown(counted, errors):
    told = []

    def bad():
        raise ZeroDivisionError

    late = Deferred()
    counted.addSystemEventTrigger("before", "shutdown", bad)
    counted.addSystemEventTrigger("before", "shutdown", lambda: late)
    counted.addSystemEventTrigger("during", "shutdown", bad)
    counted.addSystemEventTrigger("after", "shutdown", told.append, "after")
    counted.callLater(0, counted.stop)
    counted.callLater(0.01, late.errback, ArithmeticError())
    late.addErrback(lambda failure: None)
    counted.run()
    assert told == ["after"]
    assert len(errors()) == 2


def test_C12_C14_an_observer_that_connects_again_where_startedConnecting_raised_is_told_how_that_ends(
    counted,
):
    """The second attempt begins while the first is being undone; it was orphaned: never told, its factory stopped."""
    connectors = []

    class Raises(Makes):
        def startedConnecting(self, connector):
            super().startedConnecting(connector)
            connectors.append(connector)
            if len(connectors) == 1:
                raise ZeroDivisionError

    def again(event):
        if event.step == "failed" and len(connectors) == 1:
            connectors[0].connect()

    counted.observers.append(again)
    factory = Raises()
    with pytest.raises(ZeroDivisionError):
        counted.connectTCP("127.0.0.1", 1, factory)
    assert connectors[0].state == "connecting"
    assert factory.numPorts == 1
    turn_until(counted, lambda: factory.reason)
    assert factory.told == ["start", "connecting", "connecting", "failed", "stop"]
