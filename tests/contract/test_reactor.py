"""The reactor itself, as users may rely on it (CONTRACT 5): timers, threads, contextvars, running, system events."""

from __future__ import annotations

import contextvars
import socket
import threading
import time

import pytest

from ropewalk import Reactor, defer
from ropewalk.error import AlreadyCalled, AlreadyCancelled, ReactorAlreadyRunning, ReactorNotRunning
from ropewalk.threads import blockingCallFromThread, deferToThreadPool
from tests.contract.stage import (
    HERE,
    Client,
    Planned,
    Server,
    connected,
    echo,
    logged,
    port_of,
    raises,
    run,
    turn,
    turn_until,
)

# ---- timers -------------------------------------------------------------------------------------------------------


def test_S5_timers_go_by_a_monotonic_clock(reactor):
    before = time.monotonic()
    assert before <= reactor.seconds() <= time.monotonic()


def test_S5_timers_do_not_care_when_the_wall_clock_jumps(world, reactor_in, monkeypatch):
    called = []
    reactor_in.callLater(10, called.append, "late")
    monkeypatch.setattr(time, "time", lambda: 4e9)
    turn(reactor_in)
    assert called == []
    world.advance(10)
    turn(reactor_in)
    assert called == ["late"]


def test_S5_callLater_calls_once_with_arguments_in_order_of_time_then_of_asking(world, reactor_in):
    called = []
    reactor_in.callLater(3, called.append, "third")
    reactor_in.callLater(1, called.append, "first")
    reactor_in.callLater(2, lambda *args, **kw: called.append((args, kw)), 1, 2, key=3)
    reactor_in.callLater(3, called.append, "fourth")
    assert called == []
    for _ in range(4):
        world.advance(1)
        turn(reactor_in, 2)
    assert called == ["first", ((1, 2), {"key": 3}), "third", "fourth"]


def test_S5_callLater_0_is_called_in_a_later_turn_never_at_once(reactor):
    called = []

    def again():
        called.append("again")
        reactor.callLater(0, called.append, "and again")

    reactor.callLater(0, again)
    assert called == []
    reactor.iterate(0)
    assert called == ["again"]
    reactor.iterate(0)
    assert called == ["again", "and again"]


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), -0.001])
def test_S5_callLater_refuses_a_delay_that_makes_no_sense(reactor, delay):
    with pytest.raises(ValueError, match="finite number of seconds"):
        reactor.callLater(delay, print)


def test_S5_callLater_refuses_what_cannot_be_called(reactor):
    with pytest.raises(TypeError, match="callable, not None"):
        reactor.callLater(0, None)


def test_S5_DelayedCall_tells_its_time_and_whether_it_is_active(world, reactor_in):
    before = reactor_in.seconds()
    call = reactor_in.callLater(5, str)
    assert before + 5 <= call.getTime() <= reactor_in.seconds() + 5
    assert call.active()
    assert reactor_in.getDelayedCalls() == [call]
    world.advance(5)
    turn(reactor_in)
    assert not call.active()
    assert reactor_in.getDelayedCalls() == []


def test_S5_DelayedCall_cancel_keeps_it_from_being_called(world, reactor_in):
    called = []
    call = reactor_in.callLater(1, called.append, "no")
    call.cancel()
    assert not call.active()
    world.advance(2)
    turn(reactor_in)
    assert called == []


@pytest.mark.parametrize("request_", ["cancel", "delay", "reset"])
@pytest.mark.parametrize(("before", "error"), [("called", AlreadyCalled), ("cancelled", AlreadyCancelled)])
def test_S5_DelayedCall_is_AlreadyCalled_or_AlreadyCancelled(reactor, request_, before, error):
    call = reactor.callLater(0, str)
    if before == "called":
        turn(reactor)
    else:
        call.cancel()
    with pytest.raises(error):
        call.cancel() if request_ == "cancel" else getattr(call, request_)(1)


def test_S5_DelayedCall_delay_moves_it_from_when_it_was_due_both_ways(world, reactor_in):
    called = []
    later = reactor_in.callLater(1, called.append, "later")
    sooner = reactor_in.callLater(10, called.append, "sooner")
    due = later.getTime(), sooner.getTime()
    later.delay(5)
    sooner.delay(-7)
    assert (later.getTime(), sooner.getTime()) == (due[0] + 5, due[1] - 7)
    world.advance(3.5)
    turn(reactor_in)
    assert called == ["sooner"]
    world.advance(3)
    turn(reactor_in)
    assert called == ["sooner", "later"]


def test_S5_DelayedCall_reset_counts_from_now_both_ways(world, reactor_in):
    called = []
    later = reactor_in.callLater(5, called.append, "later")
    sooner = reactor_in.callLater(20, called.append, "sooner")
    world.advance(4)
    later.reset(10)
    sooner.reset(2)
    assert abs(later.getTime() - reactor_in.seconds() - 10) < 1
    world.advance(2.1)
    turn(reactor_in)
    assert called == ["sooner"]
    world.advance(7)
    turn(reactor_in)
    assert called == ["sooner"]
    world.advance(1)
    turn(reactor_in)
    assert called == ["sooner", "later"]


def counting(name):
    def compare(self, other):
        Counted.comparisons += 1
        return getattr(float, name)(self, other)

    return compare


class Counted(float):
    """Seconds that count how often they are compared."""

    comparisons = 0

    def __radd__(self, other):
        return Counted(float(other) + float(self))

    __lt__, __gt__, __eq__ = counting("__lt__"), counting("__gt__"), counting("__eq__")
    __le__, __ge__ = counting("__le__"), counting("__ge__")
    __hash__ = float.__hash__


def test_S5_DelayedCall_reset_to_sooner_is_logarithmic(world, reactor_in):
    calls = [reactor_in.callLater(Counted(1000 + number), str) for number in range(4096)]
    Counted.comparisons = 0
    for call in calls:
        call.reset(Counted(500))
        call.reset(Counted(100))
    # Twelve levels of a heap, a few comparisons each, twice; searching a list would take 2000 for each call.
    assert Counted.comparisons < 4096 * 200
    assert len(reactor_in.getDelayedCalls()) == 4096
    world.advance(100)
    turn(reactor_in)
    assert not any(call.active() for call in calls)
    assert reactor_in.getDelayedCalls() == []


def test_S5_a_delayed_call_that_raises_is_logged_and_the_others_are_made(reactor, caplog):
    called = []
    reactor.callLater(0, raises())
    reactor.callLater(0, called.append, "next")
    turn(reactor)
    assert called == ["next"]
    assert logged(caplog) == ["Planned"]


# ---- contextvars --------------------------------------------------------------------------------------------------

WHO = contextvars.ContextVar("WHO", default="nobody")


def in_context(who, func, *args):
    context = contextvars.copy_context()

    def call():
        WHO.set(who)
        return func(*args)

    return context.run(call)


def test_S5_contextvars_of_the_caller_are_there_in_callLater(reactor):
    seen = []
    in_context("Ada", reactor.callLater, 0, lambda: seen.append(WHO.get()))
    in_context("Grace", reactor.callLater, 0, lambda: seen.append(WHO.get()))
    reactor.callLater(0, lambda: seen.append(WHO.get()))
    turn(reactor)
    assert seen == ["Ada", "Grace", "nobody"]


def test_S5_contextvars_set_in_a_delayed_call_do_not_leak_into_others(reactor):
    seen = []
    reactor.callLater(0, WHO.set, "leaked")
    reactor.callLater(0, lambda: seen.append(WHO.get()))
    turn(reactor)
    assert seen == ["nobody"]
    assert WHO.get() == "nobody"


def test_S5_contextvars_of_who_added_it_are_there_in_a_Deferred_s_callback(reactor):
    seen = []
    deferred = defer.Deferred()
    in_context("Ada", deferred.addCallback, lambda _: seen.append(WHO.get()))
    in_context("Grace", deferred.addBoth, lambda _: seen.append(WHO.get()))
    deferred.addCallback(lambda _: seen.append(WHO.get()))
    in_context("firing", reactor.callLater, 0, deferred.callback, None)
    turn(reactor)
    assert seen == ["Ada", "Grace", "nobody"]


def test_S5_contextvars_are_kept_in_coroutines(reactor):
    seen = []

    async def wait():
        WHO.set("coroutine")
        await defer.deferLater(reactor, 0) if hasattr(defer, "deferLater") else await soon()
        seen.append(WHO.get())

    def soon():
        deferred = defer.Deferred()
        reactor.callLater(0, deferred.callback, None)
        return deferred

    defer.ensureDeferred(wait())
    reactor.callLater(0, WHO.set, "somebody else")
    turn(reactor)
    assert seen == ["coroutine"]


def test_S5_contextvars_are_carried_to_callInThread(reactor):
    seen = []
    done = threading.Event()
    in_context("Ada", reactor.callInThread, lambda: (seen.append(WHO.get()), done.set()))
    assert done.wait(20)
    assert seen == ["Ada"]


# ---- threads ------------------------------------------------------------------------------------------------------


def test_S5_callFromThread_is_first_in_first_out_and_runs_on_the_reactor_s_thread(reactor):
    called = []

    def calls():
        for number in range(1000):
            reactor.callFromThread(lambda number=number: called.append((number, threading.get_ident())))
        reactor.callFromThread(reactor.stop)

    reactor.callWhenRunning(threading.Thread(target=calls).start)
    run(reactor)
    assert called == [(number, threading.get_ident()) for number in range(1000)]


def test_S5_callFromThread_loses_nothing_from_many_threads_and_keeps_the_order_of_each(reactor):
    called = []
    threads = [
        threading.Thread(
            target=lambda who=who: [reactor.callFromThread(called.append, (who, n)) for n in range(500)]
        )
        for who in range(8)
    ]
    for thread in threads:
        reactor.callWhenRunning(thread.start)

    def look():
        if len(called) == 4000:
            reactor.stop()
        else:
            reactor.callLater(0.001, look)

    reactor.callWhenRunning(look)
    run(reactor)
    for who in range(8):
        assert [n for each, n in called if each == who] == list(range(500))


def test_S5_callFromThread_wakes_a_reactor_that_sleeps(reactor):
    """Nothing else would: there is no timer and no descriptor."""
    timer = threading.Timer(0.02, reactor.callFromThread, [reactor.stop])
    reactor.callWhenRunning(timer.start)
    reactor.run(installSignalHandlers=False)


def test_S5_callFromThread_before_run_is_kept_until_it_runs(reactor):
    called = []
    thread = threading.Thread(target=reactor.callFromThread, args=[called.append, "early"])
    thread.start()
    thread.join()
    reactor.callFromThread(reactor.stop)
    assert called == []
    run(reactor)
    assert called == ["early"]


def test_S5_callFromThread_that_raises_is_logged_and_the_others_are_made(reactor, caplog):
    called = []
    reactor.callFromThread(raises())
    reactor.callFromThread(called.append, "next")
    turn(reactor)
    assert called == ["next"]
    assert logged(caplog) == ["Planned"]


def test_S5_callFromThread_asked_for_while_calls_are_made_waits_for_the_next_turn(reactor):
    called = []

    def again():
        called.append("again")
        reactor.callFromThread(again)

    reactor.callFromThread(again)
    reactor.iterate(0)
    assert called == ["again"]
    reactor.iterate(0)
    assert called == ["again", "again"]


WRONG_THREAD = {
    "callLater": lambda reactor, transport, connector: reactor.callLater(0, str),
    "connectTCP": lambda reactor, transport, connector: reactor.connectTCP(HERE, 9, Client()),
    "listenTCP": lambda reactor, transport, connector: reactor.listenTCP(0, Server()),
    "stop": lambda reactor, transport, connector: reactor.stop(),
    "addReader": lambda reactor, transport, connector: reactor.addReader(object()),
    "removeAll": lambda reactor, transport, connector: reactor.removeAll(),
    "write": lambda reactor, transport, connector: transport.write(b"x"),
    "writeSequence": lambda reactor, transport, connector: transport.writeSequence([b"x"]),
    "loseConnection": lambda reactor, transport, connector: transport.loseConnection(),
    "abortConnection": lambda reactor, transport, connector: transport.abortConnection(),
    "loseWriteConnection": lambda reactor, transport, connector: transport.loseWriteConnection(),
    "pauseProducing": lambda reactor, transport, connector: transport.pauseProducing(),
    "resumeProducing": lambda reactor, transport, connector: transport.resumeProducing(),
    "registerProducer": lambda reactor, transport, connector: transport.registerProducer(object(), True),
    "disconnect": lambda reactor, transport, connector: connector.disconnect(),
    "stopConnecting": lambda reactor, transport, connector: connector.stopConnecting(),
    "connect": lambda reactor, transport, connector: connector.connect(),
}


@pytest.mark.parametrize("what", list(WRONG_THREAD))
def test_S5_a_call_from_a_wrong_thread_is_a_RuntimeError_that_names_both_threads(reactor, peers, what):
    factory = Client()
    connector, _ = connected(reactor, peers, factory)
    transport = factory.one.transport
    before = list(factory.journal)
    raised = []

    def ask():
        try:
            WRONG_THREAD[what](reactor, transport, connector)
        except BaseException as exc:
            raised.append(exc)
        reactor.callFromThread(done)

    def done():
        # Looked at while it runs: the shutdown comes later.
        raised.append(list(factory.journal))
        raised.append(transport.bytesSent)
        reactor.stop()

    reactor.callWhenRunning(threading.Thread(target=ask, name="the other thread").start)
    run(reactor)
    exc, journal, sent = raised
    assert type(exc) is RuntimeError
    assert "the other thread" in str(exc)
    assert threading.current_thread().name in str(exc)
    assert "callFromThread" in str(exc)
    assert (journal, sent) == (before, 0)


def test_S5_callInThread_runs_elsewhere_and_what_it_raises_is_logged(reactor, caplog):
    where = []
    done = threading.Event()
    reactor.callInThread(lambda: (where.append(threading.get_ident()), done.set()))
    assert done.wait(20)
    assert where != [threading.get_ident()]
    finished = []
    deferToThreadPool(reactor, reactor.getThreadPool(), raises()).addErrback(
        lambda failure: finished.append(failure.type)
    )
    turn_until(reactor, lambda: finished)
    assert finished == [Planned]
    reactor.suggestThreadPoolSize(1)
    reactor.callInThread(raises())
    last = []
    deferToThreadPool(reactor, reactor.getThreadPool(), str).addCallback(last.append)
    turn_until(reactor, lambda: last)
    assert logged(caplog) == ["Planned"]


def test_S5_blockingCallFromThread_gives_results_and_exceptions_to_the_thread(reactor):
    results = []

    def ask():
        results.append(blockingCallFromThread(reactor, lambda: "at once"))
        results.append(blockingCallFromThread(reactor, defer.succeed, "by a Deferred"))
        try:
            blockingCallFromThread(reactor, raises())
        except Planned as exc:
            results.append(exc.args)
        reactor.callFromThread(reactor.stop)

    reactor.callWhenRunning(threading.Thread(target=ask).start)
    run(reactor)
    assert results == ["at once", "by a Deferred", ("planned",)]


# ---- running ------------------------------------------------------------------------------------------------------


def test_S5_many_reactors_one_per_thread_at_the_same_time(reactor):
    """Four threads, each with a server and a client of its own; they never meet."""
    answers = {}
    barrier = threading.Barrier(4)

    def live(who):
        with Reactor() as mine:
            server = Server(dataReceived=echo)
            port = mine.listenTCP(0, server, interface=HERE)
            client = Client(connectionMade=lambda protocol: protocol.transport.write(b"%d" % who))

            def heard(protocol, data):
                answers[who] = (data, threading.current_thread().name)
                mine.stop()

            client.stage.acts["dataReceived"] = heard
            mine.callWhenRunning(barrier.wait)
            mine.connectTCP(HERE, port.getHost().port, client)
            mine.run(installSignalHandlers=False)

    threads = [threading.Thread(target=live, args=[who], name=f"reactor {who}") for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == {who: (b"%d" % who, f"reactor {who}") for who in range(4)}


def test_S5_a_reactor_runs_again_after_stop_with_connections_timers_and_threads(reactor):
    for number in range(3):
        heard = []
        server = Server(dataReceived=echo)
        port = reactor.listenTCP(0, server, interface=HERE)
        client = Client(
            connectionMade=lambda protocol: protocol.transport.write(b"again"),
            dataReceived=lambda protocol, data, heard=heard: heard.append(data),
        )
        reactor.connectTCP(HERE, port.getHost().port, client)
        assert heard == []

        def look(heard=heard):
            if heard:
                reactor.callInThread(reactor.callFromThread, reactor.stop)
            else:
                reactor.callLater(0.001, look)

        reactor.callLater(0, look)
        run(reactor)
        assert heard == [b"again"], f"run {number}"
        assert not reactor.running
        assert client.numPorts == server.numPorts == 0


def test_S5_timers_that_are_not_due_stay_over_a_stop(world, reactor_in):
    called = []
    reactor_in.callLater(100, called.append, "kept")
    reactor_in.callWhenRunning(reactor_in.stop)
    reactor_in.run(installSignalHandlers=False)
    assert len(reactor_in.getDelayedCalls()) == 1
    world.advance(100)
    reactor_in.callLater(0, reactor_in.stop)
    reactor_in.run(installSignalHandlers=False)
    assert called == ["kept"]


def test_S5_running_stop_and_run_out_of_place_are_errors(reactor):
    with pytest.raises(ReactorNotRunning):
        reactor.stop()
    seen = []

    def inside():
        seen.append(reactor.running)
        with pytest.raises(ReactorAlreadyRunning):
            reactor.run()
        reactor.stop()
        with pytest.raises(ReactorNotRunning):
            reactor.stop()

    reactor.callWhenRunning(inside)
    run(reactor)
    assert seen == [True]
    assert not reactor.running


def test_S5_running_is_over_once_the_connections_are_told_so_stop_if_running_is_safe_in_connectionLost(
    reactor, peers
):
    seen = []

    def lost(protocol, reason):
        seen.append(("connectionLost", reactor.running))
        if reactor.running:
            reactor.stop()

    connected(reactor, peers, Client(connectionLost=lost))
    for phase in ("before", "during", "after"):
        reactor.addSystemEventTrigger(
            phase, "shutdown", lambda phase=phase: seen.append((phase, reactor.running))
        )
    reactor.callWhenRunning(reactor.stop)
    run(reactor)
    assert seen == [("before", True), ("connectionLost", False), ("during", False), ("after", False)]


def test_S5_shutdown_fired_by_hand_ends_the_run(reactor, peers):
    factory = Client()
    connected(reactor, peers, factory)
    reactor.callWhenRunning(reactor.fireSystemEvent, "shutdown")
    run(reactor)
    assert factory.count("connectionLost") == 1
    assert not reactor.running


def test_S5_crash_tells_nobody_and_it_runs_again(reactor, peers):
    factory = Client(connectionMade=lambda protocol: reactor.crash())
    fired = []
    trigger = reactor.addSystemEventTrigger("before", "shutdown", fired.append, "told")
    reactor.connectTCP(HERE, port_of(peers.listen()), factory)
    run(reactor)
    assert fired == []
    assert factory.one.transport.connected
    reactor.removeSystemEventTrigger(trigger)
    reactor.callWhenRunning(reactor.stop)
    run(reactor)
    assert not factory.one.transport.connected


def test_S5_stop_lets_what_the_same_handler_wrote_leave(reactor, peers):
    def last_words(protocol):
        protocol.transport.write(b"goodbye")
        reactor.stop()

    factory = Client(connectionMade=last_words)
    listener = peers.listen()
    reactor.connectTCP(HERE, port_of(listener), factory)
    run(reactor)
    peer = peers.accept(reactor, listener)
    assert peer.recv(100) == b"goodbye"


# ---- system events ------------------------------------------------------------------------------------------------


def test_S5_system_events_before_during_after_of_startup_and_shutdown_in_order(reactor):
    fired = []
    for event in ("shutdown", "startup"):
        for phase in ("after", "during", "before"):
            for number in (1, 2):
                reactor.addSystemEventTrigger(phase, event, fired.append, f"{phase} {event} {number}")
    reactor.callWhenRunning(fired.append, "callWhenRunning")
    reactor.callWhenRunning(reactor.stop)
    run(reactor)
    assert fired == [
        *[f"{phase} startup {number}" for phase in ("before", "during", "after") for number in (1, 2)],
        "callWhenRunning",
        *[f"{phase} shutdown {number}" for phase in ("before", "during", "after") for number in (1, 2)],
    ]


def test_S5_system_events_a_before_trigger_may_return_a_Deferred_which_is_waited_for(reactor, peers):
    """While it waits, everything lives on: connections are told only afterwards."""
    fired = []
    factory = Client(connectionLost=lambda protocol, reason: fired.append("connection lost"))
    _, peer = connected(reactor, peers, factory)
    waited = defer.Deferred()

    def before():
        fired.append("before")
        peer.send(b"still alive")
        return waited

    factory.stage.acts["dataReceived"] = lambda protocol, data: reactor.callLater(0, waited.callback, None)
    reactor.addSystemEventTrigger("before", "shutdown", before)
    reactor.addSystemEventTrigger("before", "shutdown", fired.append, "the other before")
    reactor.addSystemEventTrigger("during", "shutdown", fired.append, "during")
    reactor.addSystemEventTrigger("after", "shutdown", fired.append, "after")
    reactor.callWhenRunning(reactor.stop)
    run(reactor)
    assert fired == ["before", "the other before", "connection lost", "during", "after"]
    assert factory.one.data == b"still alive"


def test_S5_system_events_several_Deferreds_are_all_waited_for_failing_ones_too(reactor, caplog):
    fired = []
    waited = [defer.Deferred() for _ in range(3)]
    for each in waited:
        reactor.addSystemEventTrigger("before", "shutdown", lambda each=each: each)
        each.addErrback(lambda failure: fired.append(failure.type.__name__))
    reactor.addSystemEventTrigger("during", "shutdown", fired.append, "during")
    reactor.callWhenRunning(reactor.stop)
    reactor.callLater(0.001, waited[2].callback, None)
    reactor.callLater(0.002, waited[0].errback, Planned("one"))
    reactor.callLater(0.003, lambda: (fired.append("the last"), waited[1].callback(None)))
    run(reactor)
    assert fired == ["Planned", "the last", "during"]
    assert logged(caplog) == []


def test_S5_system_events_a_trigger_that_raises_is_logged_and_stops_no_other(reactor, caplog):
    fired = []
    for phase in ("before", "during", "after"):
        reactor.addSystemEventTrigger(phase, "shutdown", raises())
        reactor.addSystemEventTrigger(phase, "shutdown", fired.append, phase)
    reactor.callWhenRunning(reactor.stop)
    run(reactor)
    assert fired == ["before", "during", "after"]
    assert logged(caplog) == ["Planned"] * 3


def test_S5_system_events_can_be_removed_once(reactor):
    fired = []
    trigger = reactor.addSystemEventTrigger("during", "shutdown", fired.append, "no")
    same = reactor.addSystemEventTrigger("during", "shutdown", fired.append, "yes")
    reactor.removeSystemEventTrigger(trigger)
    with pytest.raises(ValueError, match="no such"):
        reactor.removeSystemEventTrigger(trigger)
    reactor.callWhenRunning(reactor.stop)
    run(reactor)
    assert fired == ["yes"]
    with pytest.raises(ValueError, match="no such"):
        reactor.removeSystemEventTrigger(same)
    with pytest.raises(ValueError, match="not what addSystemEventTrigger returned"):
        reactor.removeSystemEventTrigger("nonsense")


def test_S5_system_events_with_wrong_words_are_refused(reactor):
    with pytest.raises(KeyError):
        reactor.addSystemEventTrigger("whenever", "shutdown", str)
    with pytest.raises(TypeError):
        reactor.addSystemEventTrigger("before", "shutdown", None)


def test_S5_system_events_of_one_s_own_are_fired_by_name(reactor):
    fired = []
    for phase in ("after", "before", "during"):
        reactor.addSystemEventTrigger(phase, "my event", fired.append, phase)
    reactor.fireSystemEvent("my event")
    assert fired == ["before", "during", "after"]
    reactor.fireSystemEvent("my event")
    assert len(fired) == 3


def test_S5_callWhenRunning_calls_at_once_when_it_runs_already(reactor):
    called = []

    def inside():
        assert reactor.callWhenRunning(called.append, "at once") is None
        assert called == ["at once"]
        reactor.stop()

    reactor.callWhenRunning(inside)
    run(reactor)
    assert called == ["at once"]


# ---- descriptors of the user's own --------------------------------------------------------------------------------


def test_S5_a_reader_and_a_writer_of_the_user_s_are_called_and_told_of_the_shutdown(reactor, peers):
    ours, theirs = map(peers.keep, socket.socketpair())
    called = []

    class Mine:
        fileno = staticmethod(ours.fileno)

        def doRead(self):
            called.append(ours.recv(10))

        def doWrite(self):
            called.append("writable")
            reactor.removeWriter(self)

        def connectionLost(self, reason):
            called.append(reason.type.__name__)

        def logPrefix(self):
            return "Mine"

    mine = Mine()
    reactor.addReader(mine)
    reactor.addWriter(mine)
    turn(reactor)
    theirs.send(b"data")
    turn(reactor)
    assert called == ["writable", b"data"]
    assert (reactor.getReaders(), reactor.getWriters()) == ([mine], [])
    reactor.callWhenRunning(reactor.stop)
    run(reactor)
    assert called == ["writable", b"data", "ConnectionLost"]
    assert reactor.getReaders() == []
