"""Real signals, sent to real processes: SIGINT and SIGTERM stop the reactor, and everything is put back afterwards.

Each program is a process of its own, on this very Python. It tells what it does, a line each; signals from outside are
sent once it says so.
"""

from __future__ import annotations

import signal
import sys
import threading

import pytest

from ropewalk import Reactor
from tests.real.counterparts import LIMIT, run_python

STOPPING = [signal.SIGINT, signal.SIGTERM]
EACH = pytest.mark.parametrize("number", STOPPING, ids=lambda number: number.name)

# What every program begins with. `idle` is told from inside the loop, right before it sleeps with nothing to wait for.
BEGIN = """
import os, signal, sys, threading, time
from ropewalk import Deferred, Reactor

def tell(*words):
    print(*words, flush=True)

reactor = Reactor()
reactor.addSystemEventTrigger("before", "shutdown", tell, "before")
reactor.addSystemEventTrigger("after", "shutdown", tell, "after")
number = signal.Signals(int(sys.argv[1])) if len(sys.argv) > 1 else None
"""
STOPPED = ["before", "after", "returned"]


def told(text, *arguments):
    return run_python(BEGIN + text, *map(str, map(int, arguments))).split()


@pytest.fixture
def program(start):
    """Starts a program that says "ready" when signals may come."""

    def begin(text, *arguments):
        command = (sys.executable, "-W", "error", "-X", "dev", "-c", BEGIN + text)
        child = start(*command, *map(str, map(int, arguments)))
        child.wait_until(lambda: "ready" in child.said())
        return child

    return begin


def ended(child):
    status = child.process.wait(LIMIT)
    words = child.said().split()
    words.remove("ready")
    return status, words


# ---- stopping -----------------------------------------------------------------------------------------------------


@EACH
def test_a_signal_stops_an_idle_reactor_and_its_shutdown_is_complete(program, number):
    child = program("""
reactor.callWhenRunning(tell, "ready")
reactor.run()
tell("returned")
""")
    child.process.send_signal(number)
    assert ended(child) == (0, STOPPED)


@EACH
def test_a_signal_stops_a_reactor_that_never_sleeps(program, number):
    child = program("""
def again():
    reactor.callLater(0, again)
reactor.callWhenRunning(tell, "ready")
reactor.callWhenRunning(again)
reactor.run()
for call in reactor.getDelayedCalls():
    call.cancel()
tell("returned")
""")
    child.process.send_signal(number)
    assert ended(child) == (0, STOPPED)


@EACH
@pytest.mark.parametrize("poller", ["epoll", "poll", "select"])
def test_a_signal_that_the_kernel_gives_to_another_thread_ends_the_wait_of_the_main_one(number, poller):
    """Python runs handlers in the main thread only; that one sleeps in its poller with nothing to wait for."""
    text = """
from ropewalk import Reactor
reactor = Reactor(poller=%r)

def kill():
    # The main thread sleeps by now, or will: at whatever moment the signal comes, it must not be lost.
    time.sleep(0.05)
    signal.pthread_kill(threading.get_ident(), number)

def begin():
    threading.Thread(target=kill).start()

reactor.callWhenRunning(begin)
reactor.run()
tell("returned")
"""
    assert told(text % poller, number) == ["returned"]


def test_no_signal_is_lost_at_whatever_moment_it_comes():
    """300 runs, each stopped by a signal to another thread, without any pause in between: before the wait, in it,
    while it begins.
    """
    assert told("""
for turn in range(300):
    def kill():
        for _ in range(turn * 7 % 500):
            pass
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    thread = threading.Thread(target=kill)
    reactor.callWhenRunning(thread.start)
    reactor.run()
    thread.join()
tell("returned")
""") == ["before", "after", "returned"]


@EACH
def test_a_signal_while_shutdown_waits_for_a_deferred_changes_nothing(program, number):
    child = program("""
waiting = Deferred()

def closing():
    reactor.callLater(0, tell, "ready")
    reactor.callLater(0.2, waiting.callback, None)
    return waiting

reactor.addSystemEventTrigger("before", "shutdown", closing)
reactor.callWhenRunning(reactor.stop)
reactor.run()
tell("returned")
""")
    child.process.send_signal(number)
    assert ended(child) == (0, STOPPED)


def test_a_signal_during_startup_stops_the_reactor_before_it_has_begun():
    assert told("""
reactor.addSystemEventTrigger("before", "startup", os.kill, os.getpid(), signal.SIGTERM)
reactor.run()
tell("returned")
""") == ["before", "after", "returned"]


def test_a_reactor_stopped_by_a_signal_runs_again():
    assert told("""
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
    reactor.callWhenRunning(os.kill, os.getpid(), number)
    reactor.run()
    tell("returned", number.name)
""") == ["before", "after", "returned", "SIGTERM", "returned", "SIGINT", "returned", "SIGTERM"]


# ---- what was there before ----------------------------------------------------------------------------------------


def test_the_handlers_that_were_there_are_put_back():
    assert told("""
def mine(number, frame):
    tell("mine")

for before in (signal.SIG_DFL, signal.SIG_IGN, mine):
    signal.signal(signal.SIGTERM, before)
    reactor.callWhenRunning(lambda: tell(signal.getsignal(signal.SIGTERM) is not before))
    reactor.callWhenRunning(lambda: tell(signal.getsignal(signal.SIGINT) is not signal.default_int_handler))
    reactor.callWhenRunning(reactor.stop)
    reactor.run()
    tell(signal.getsignal(signal.SIGTERM) is before, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
os.kill(os.getpid(), signal.SIGTERM)
""") == ["True", "True", "before", "after", "True", "True", *["True"] * 8, "mine"]


@pytest.mark.parametrize("ending", ["reactor.stop", "reactor.crash", "sys.exit", "raises"])
def test_they_are_put_back_however_the_run_ends(ending):
    assert told(f"""
def raises():
    raise KeyboardInterrupt

reactor.callWhenRunning({ending})
try:
    reactor.run()
except (SystemExit, KeyboardInterrupt) as exc:
    pass
tell(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
tell(signal.set_wakeup_fd(-1))
""")[-3:] == ["True", "True", "-1"]


def test_the_wakeup_descriptor_of_somebody_else_is_put_back():
    assert (
        told("""
import socket
mine, other = socket.socketpair()
other.setblocking(False)
signal.set_wakeup_fd(other.fileno())
reactor.callWhenRunning(reactor.stop)
reactor.run()
tell(signal.set_wakeup_fd(-1) == other.fileno())
mine.close()
other.close()
""")[-1]
        == "True"
    )


def test_a_handler_for_SIGINT_of_the_programs_own_stays():
    assert told("""
def mine(number, frame):
    tell("mine")
    reactor.callFromThread(reactor.stop)

signal.signal(signal.SIGINT, mine)
reactor.callWhenRunning(os.kill, os.getpid(), signal.SIGINT)
reactor.run()
tell(signal.getsignal(signal.SIGINT) is mine)
""") == ["mine", "before", "after", "True"]


def test_a_handler_of_the_programs_own_runs_at_once_though_the_reactor_sleeps(program):
    """Also for signals that the reactor knows nothing of: the wake-up descriptor ends the wait for any of them."""
    child = program("""
def mine(number, frame):
    tell("mine")
    reactor.callFromThread(reactor.stop)

signal.signal(signal.SIGUSR1, mine)
reactor.callWhenRunning(tell, "ready")
reactor.run()
tell("returned")
""")
    child.process.send_signal(signal.SIGUSR1)
    assert ended(child) == (0, ["mine", *STOPPED])


def test_E5_a_flood_of_signals_that_fills_the_waker_neither_warns_nor_loses_the_last(program):
    """Each signal leaves a byte; while a callback takes its time nobody reads them, and the pair is full."""
    child = program("""
came = 0

def mine(number, frame):
    global came
    came += 1

def flood():
    for _ in range(20_000):
        os.kill(os.getpid(), signal.SIGUSR1)
    tell(came == 20_000)
    reactor.callLater(0, tell, "ready")

signal.signal(signal.SIGUSR1, mine)
reactor.callWhenRunning(flood)
reactor.run()
tell("returned")
""")
    child.process.send_signal(signal.SIGTERM)
    assert ended(child) == (0, ["True", *STOPPED])


# ---- without handlers ---------------------------------------------------------------------------------------------


def test_without_handlers_a_KeyboardInterrupt_that_hits_another_thread_leaves_an_idle_run(program):
    """The wait itself is not interrupted then, as where the signal comes just before it."""
    child = program("""
resting = threading.Event()
threading.Thread(target=resting.wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
reactor.callWhenRunning(tell, "ready")
try:
    reactor.run(installSignalHandlers=False)
except KeyboardInterrupt:
    tell("interrupted", signal.set_wakeup_fd(-1))
resting.set()
reactor.close()
""")
    child.process.send_signal(signal.SIGINT)
    assert ended(child) == (0, ["interrupted", "-1"])


def test_without_handlers_KeyboardInterrupt_leaves_an_idle_run(program):
    """And nobody was told of a shutdown: the reactor can run again, its listener still there."""
    child = program("""
from ropewalk import Protocol, ServerFactory
port = reactor.listenTCP(0, ServerFactory.forProtocol(Protocol), interface="127.0.0.1")
reactor.callWhenRunning(tell, "ready")
try:
    reactor.run(installSignalHandlers=False)
except KeyboardInterrupt:
    tell("interrupted", reactor.running, port.connected)
reactor.callWhenRunning(reactor.stop)
reactor.run(installSignalHandlers=False)
tell("returned", port.connected)
reactor.close()
""")
    child.process.send_signal(signal.SIGINT)
    assert ended(child) == (0, ["interrupted", "False", "True", *STOPPED, "False"])


def test_without_handlers_KeyboardInterrupt_leaves_run_from_within_a_callback(program):
    child = program("""
def busy():
    tell("ready")
    while True:
        pass

reactor.callLater(0, busy)
try:
    reactor.run(installSignalHandlers=False)
except KeyboardInterrupt:
    tell("interrupted", reactor.running)
""")
    child.process.send_signal(signal.SIGINT)
    assert ended(child) == (0, ["interrupted", "False"])


def test_without_handlers_SIGTERM_ends_the_process_as_ever(program):
    child = program("""
reactor.callWhenRunning(tell, "ready")
reactor.run(installSignalHandlers=False)
""")
    child.process.send_signal(signal.SIGTERM)
    assert ended(child) == (-signal.SIGTERM, [])


def test_a_signal_reaches_the_reactor_of_the_main_thread_beside_those_of_others(program):
    child = program("""
other = Reactor()
other.callWhenRunning(tell, "ready")
thread = threading.Thread(target=other.run, args=(False,))
reactor.addSystemEventTrigger("during", "shutdown", lambda: other.callFromThread(other.stop))
reactor.callWhenRunning(thread.start)
reactor.run()
thread.join()
other.close()
tell("returned")
""")
    child.process.send_signal(signal.SIGTERM)
    assert ended(child) == (0, STOPPED)


def test_signal_handlers_of_this_process_are_as_they_were():
    """In pytest's own process, whose SIGINT handler is its own."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert threading.current_thread() is threading.main_thread()
    with Reactor() as reactor:
        reactor.callWhenRunning(reactor.stop)
        reactor.run()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
