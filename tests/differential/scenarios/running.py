"""The reactor itself: timers, contextvars, startup and shutdown, running again."""

from __future__ import annotations

import contextvars
import time

from tests.differential.bench import raises
from tests.differential.scenarios.table import scenario


@scenario()
def shutdown_with_a_connection_that_stands(bench):
    client = bench.client()
    bench.facing(client, bench.plain_listener(), lambda peer: bench.note("client", "(stands)"))
    return client.has("(stands")


@scenario()
def delayed_calls_in_their_order(bench):
    later = bench.reactor.callLater
    later(0.1, bench.note, "timers", "second")
    later(0.05, bench.note, "timers", "first")
    later(0.15, lambda *args, **kw: bench.note("timers", args, kw), 1, 2, key=3)
    later(0, lambda: (bench.note("timers", "zeroth"), later(0, bench.note, "timers", "at once after")))
    return lambda: len(bench.log.get("timers", ())) == 5


@scenario()
def delayed_calls_moved_and_cancelled(bench):
    later = bench.reactor.callLater
    calls = {
        name: later(0.05, bench.note, "timers", name) for name in ("reset", "delayed", "cancelled", "sooner")
    }
    calls["reset"].reset(0.08)
    calls["delayed"].delay(0.06)
    calls["sooner"].reset(0.01)
    calls["cancelled"].cancel()
    bench.note(
        "timers", [call.active() for call in calls.values()], len(bench.reactor.getDelayedCalls()) >= 3
    )

    def after():
        bench.note("timers", [call.active() for call in calls.values()])
        for call in calls.values():
            bench.tried("timers", call.cancel)
            bench.tried("timers", call.reset, 1)
            bench.tried("timers", call.delay, 1)
        bench.note("timers", "(asked)")

    later(0.15, after)
    return lambda: "(asked)" in bench.log["timers"]


@scenario()
def a_delayed_call_that_raises(bench):
    bench.reactor.callLater(0, raises())
    bench.reactor.callLater(0, bench.note, "timers", "the next one")
    return lambda: "timers" in bench.log


@scenario("D31", clock=(["wall"], ["monotonic"]))
def which_clock_timers_go_by(bench):
    wall, monotonic = (
        abs(bench.reactor.seconds() - time.time()),
        abs(bench.reactor.seconds() - time.monotonic()),
    )
    bench.note("clock", "wall" if wall < monotonic else "monotonic")
    return lambda: True


@scenario("D31", timers=(["raised AssertionError"], ["raised ValueError"]))
def a_negative_delay(bench):
    bench.tried("timers", bench.reactor.callLater, -1, bench.note, "timers", "called")
    return lambda: True


@scenario()
def system_events_in_their_order(bench):
    for event in ("shutdown", "startup"):
        for phase in ("after", "before", "during"):
            bench.reactor.addSystemEventTrigger(phase, event, bench.note, "events", phase, event)
    bench.reactor.callWhenRunning(bench.note, "events", "running")
    return lambda: True


@scenario()
def a_before_trigger_returns_a_Deferred(bench):
    waited = bench.defer.Deferred()

    def before():
        bench.note("events", "before")
        bench.reactor.callLater(0.01, lambda: (bench.note("events", "fired"), waited.callback(None)))
        return waited

    client = bench.client(connectionLost=lambda p, reason: bench.note("events", "connection lost"))
    bench.facing(client, bench.plain_listener(), lambda peer: bench.note("client", "(stands)"))
    bench.reactor.addSystemEventTrigger("during", "shutdown", bench.note, "events", "during")
    bench.reactor.addSystemEventTrigger("before", "shutdown", before)
    bench.reactor.addSystemEventTrigger("before", "shutdown", bench.note, "events", "before, too")
    bench.reactor.addSystemEventTrigger("after", "shutdown", bench.note, "events", "after")
    return client.has("(stands")


@scenario()
def triggers_that_raise_and_triggers_removed(bench):
    add = bench.reactor.addSystemEventTrigger
    for phase in ("before", "during", "after"):
        add(phase, "shutdown", raises())
        add(phase, "shutdown", bench.note, "events", phase)
    gone = add("during", "shutdown", bench.note, "events", "never")
    bench.reactor.removeSystemEventTrigger(gone)
    bench.tried("events", bench.reactor.removeSystemEventTrigger, gone)
    bench.tried("events", add, "whenever", "shutdown", bench.note)
    return lambda: True


@scenario()
def stop_and_run_out_of_place(bench):
    def inside():
        bench.note("reactor", bool(bench.reactor.running))
        bench.tried("reactor", bench.reactor.run)
        bench.reactor.callWhenRunning(bench.note, "reactor", "at once")

    bench.tried("reactor", bench.reactor.stop)
    bench.reactor.callWhenRunning(inside)
    return lambda: "reactor" in bench.log


@scenario()
def stop_twice(bench):
    def stop():
        bench.reactor.stop()
        bench.tried("reactor", bench.reactor.stop)

    bench.soon(stop)


@scenario("D32", reactor=(["ReactorNotRestartable left run()"], ["run 2"]))
def run_again_after_stop(bench):
    for number in (1, 2):
        bench.reactor.callWhenRunning(bench.note, "reactor", "run", number)
        bench.reactor.callLater(0, bench.reactor.stop)
        bench.run()


@scenario("D34", context=(["nobody"], ["Ada"]))
def contextvars_in_callLater(bench):
    who = contextvars.ContextVar("who", default="nobody")

    def ask():
        who.set("Ada")
        bench.reactor.callLater(0, lambda: bench.note("context", who.get()))

    contextvars.copy_context().run(ask)
    return lambda: "context" in bench.log


@scenario("D42", context=(["nobody"], ["Ada"]))
def contextvars_in_a_Deferred_s_callback(bench):
    who = contextvars.ContextVar("who", default="nobody")
    deferred = bench.defer.Deferred()

    def ask():
        who.set("Ada")
        deferred.addCallback(lambda _: bench.note("context", who.get()))

    contextvars.copy_context().run(ask)
    bench.reactor.callLater(0, deferred.callback, None)
    return lambda: "context" in bench.log


@scenario()
def running_and_callWhenRunning_in_each_phase(bench):
    def look(phase, event):
        bench.note("phases", phase, event, bool(bench.reactor.running))
        bench.reactor.callWhenRunning(bench.note, "phases", "callWhenRunning of", phase, event)

    for event in ("startup", "shutdown"):
        for phase in ("before", "during", "after"):
            bench.reactor.addSystemEventTrigger(phase, event, look, phase, event)
    return lambda: True


@scenario()
def stop_in_the_startup(bench):
    bench.reactor.addSystemEventTrigger("before", "startup", bench.tried, "events", bench.reactor.stop)
    bench.reactor.addSystemEventTrigger("after", "startup", bench.note, "events", "after startup")
    bench.reactor.addSystemEventTrigger("during", "shutdown", bench.note, "events", "shutdown")


@scenario()
def shutdown_fired_by_hand(bench):
    bench.reactor.addSystemEventTrigger("before", "shutdown", bench.note, "events", "before")
    bench.reactor.addSystemEventTrigger("after", "shutdown", bench.note, "events", "after")
    client = bench.client()
    bench.facing(client, bench.plain_listener(), lambda peer: bench.reactor.fireSystemEvent("shutdown"))


@scenario()
def stop_if_it_runs_in_connectionLost_at_shutdown(bench):
    def lost(protocol, reason):
        bench.note("client", bool(bench.reactor.running))
        if bench.reactor.running:
            bench.reactor.stop()

    client = bench.client(connectionLost=lost)
    bench.facing(client, bench.plain_listener(), lambda peer: bench.reactor.stop())


@scenario()
def crash_tells_nobody(bench):
    bench.reactor.addSystemEventTrigger("before", "shutdown", bench.note, "events", "shutdown")
    client = bench.client()
    bench.facing(client, bench.plain_listener(), lambda peer: bench.reactor.crash())


@scenario()
def callWhenRunning_that_raises(bench):
    bench.reactor.callWhenRunning(raises())
    bench.reactor.callWhenRunning(bench.note, "events", "the next one")
    return lambda: "events" in bench.log


@scenario()
def triggers_added_while_the_event_is_fired(bench):
    add = bench.reactor.addSystemEventTrigger

    def early():
        bench.note("events", "before")
        add("during", "shutdown", bench.note, "events", "during, added in before")
        add("after", "shutdown", late)

    def late():
        bench.note("events", "after, added in before")
        add("after", "shutdown", bench.note, "events", "after, added in after")

    add("before", "shutdown", early)
    return lambda: True
