"""FAULTS E1 to E5, E9, F13, F20: names that never answer, clocks that jump, timers, threads, a waker that is full.

Seconds pass in the simulated world only. Where real threads matter they are held by events of the test's own, so nothing
here waits for a clock.
"""

from __future__ import annotations

import errno
import logging
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from ropewalk import Reactor
from ropewalk._loop.threads import ThreadPool
from ropewalk._loop.waker import Waker
from ropewalk.error import DNSLookupError, TimeoutError
from ropewalk.simulation import Simulation
from ropewalk.threads import blockingCallFromThread, deferToThreadPool
from tests.faults.scene import CountedSystem, Echo, Makes, PushProducer, call, listening, turn_until

# ---- E1, F13: names -------------------------------------------------------------------------------------------------


# Up to 256: so many look-ups may hold a thread. The C library gives each up after a while, the simulated one never.
@pytest.mark.parametrize("stuck", [1, 10, 16, 100, 240])
def test_F13_E1_stuck_look_ups_delay_a_healthy_one_by_seconds_not_for_ever(sim, stuck):
    """Twisted's pool of ten: ten stuck names, and the eleventh waits until one of them is given up."""
    client, server = sim.host("client"), sim.host("server")
    port = server.reactor.listenTCP(7, Makes(Echo))
    sim.name("stuck", never=True)
    hopeless = [Makes() for _ in range(stuck)]
    for each in hopeless:
        client.reactor.connectTCP("stuck", 7, each, timeout=60)
    sim.advance(0.001)
    healthy = Makes()
    start = sim.now
    client.reactor.connectTCP("server", 7, healthy, timeout=60)
    sim.run(until=lambda: bool(healthy.built or healthy.reason))
    assert healthy.built, healthy.reason
    # Each sixteen found slow after a second make way for the next sixteen.
    assert sim.now - start <= 1.1 * (stuck // 16 + 1)
    healthy.last.transport.loseConnection()
    sim.advance(100)
    assert {type(each.reason) for each in hopeless} == {TimeoutError}
    assert all(each.reason.phase == "resolving" for each in hopeless)
    port.stopListening()
    sim.advance(1)


class Stuck(CountedSystem):
    """Look-ups that hold their threads until the test lets go, as a dead name server does."""

    def __init__(self):
        super().__init__()
        self.let_go = threading.Event()
        self.answered = threading.Event()
        self.held = 0

    def look_up(self, host, port, family, kind, done):
        if host != "stuck.invalid":
            super().look_up(host, port, family, kind, done)
            return
        self.held += 1

        def then(result):
            done(result)
            self.answered.set()

        self._look_ups.start(self.wait, then)

    def wait(self):
        self.let_go.wait()
        raise OSError(errno.EAGAIN, "the server came back, too late")


def test_F13_stuck_look_ups_do_not_keep_work_from_threads_nor_names_from_work():
    """Their threads are their own: deferToThread is served, and so is localhost, while thirty names are stuck."""
    system = Stuck()
    with Reactor(system=system) as reactor:
        hopeless = [Makes() for _ in range(12)]
        connectors = [reactor.connectTCP("stuck.invalid", 9, each) for each in hopeless]
        reactor.iterate(0)
        assert system.held == 12
        answers = []
        for number in range(20):
            deferToThreadPool(reactor, reactor.getThreadPool(), int, number).addCallback(answers.append)
        busy = threading.Event()
        for _ in range(10):
            reactor.callInThread(busy.wait)
        with listening(reactor, Makes(Echo)) as port:
            healthy = Makes()
            reactor.connectTCP("localhost", port.getHost().port, healthy)
            turn_until(reactor, lambda: healthy.built and len(answers) == 20)
            healthy.last.transport.loseConnection()
            turn_until(reactor, lambda: healthy.reason)
        busy.set()
        for connector in connectors:
            connector.stopConnecting()
        assert [each.told for each in hopeless] == [["start", "connecting", "failed", "stop"]] * 12
        system.let_go.set()
        for _ in range(3):
            reactor.iterate(0.01)
        # What comes late comes to nothing.
        assert all(each.told[-1] == "stop" for each in hopeless)


def test_E1_an_answer_that_comes_after_the_reactor_is_gone_harms_nobody(errors):
    system = Stuck()
    factory = Makes()
    with Reactor(system=system) as reactor:
        reactor.connectTCP("stuck.invalid", 9, factory)
        reactor.iterate(0)
    assert factory.told == ["start", "connecting", "failed", "stop"]
    system.let_go.set()
    system.answered.wait()
    assert errors() == []


def test_E1_no_thread_to_be_had_is_a_failed_look_up_and_not_a_silence(counted, system, monkeypatch):
    def no_thread(*_, **__):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(system._look_ups, "start", no_thread)
    factory = Makes()
    counted.connectTCP("localhost", 9, factory)
    turn_until(counted, lambda: factory.reason, most=20)
    assert isinstance(factory.reason, DNSLookupError)
    assert factory.reason.temporary


# ---- E2, F20: clocks ------------------------------------------------------------------------------------------------


def test_F20_E2_the_reactor_s_clock_is_monotonic_and_not_the_wall_s(counted):
    before = time.monotonic()
    assert before <= counted.seconds() <= time.monotonic()


@pytest.mark.parametrize("jump", [-86_400.0, -1.0, 3600.0, 1e9])
def test_E2_a_step_of_the_wall_clock_changes_nothing(monkeypatch, jump):
    sim = Simulation(seed=1)
    host, server = sim.host("host"), sim.host("server")
    port = server.reactor.listenTCP(7, Makes())
    calls = []
    for seconds in (1, 2, 3):
        host.reactor.callLater(seconds, lambda: calls.append(round(sim.now - 1000, 6)))
    factory = Makes()
    sim.route("10.8.8.8", lost=True)
    host.reactor.connectTCP("10.8.8.8", 7, factory, timeout=5)
    sim.advance(1.5)
    wall = time.time
    for name in ("time", "time_ns", "gmtime", "localtime"):
        monkeypatch.setattr(time, name, lambda *_: wall() + jump)
    sim.advance(10)
    monkeypatch.undo()
    assert calls == [1, 2, 3]
    assert factory.reason.elapsed["connecting"] == pytest.approx(5)
    port.stopListening()
    sim.runUntilIdle()
    sim.close()
    sim.checkAtRest()


class Stands(CountedSystem):
    """A clock that the test moves; it may stand still, as a coarse one does for a while, or leap, as after a suspend."""

    def __init__(self):
        super().__init__()
        self.now = 100.0
        self.monotonic = lambda: self.now


def test_E2_a_clock_that_stands_still_starves_neither_calls_nor_descriptors():
    system = Stands()
    with Reactor(system=system) as reactor, listening(reactor, Makes(Echo)) as port:
        turns = []

        def again():
            turns.append(1)
            reactor.callLater(0, again)

        reactor.callLater(0, again)
        peer = call(port)
        peer.sendall(b"x")
        turn_until(reactor, lambda: port.factory.built and port.factory.last.received)
        assert len(turns) >= 2
        for each in reactor.getDelayedCalls():
            each.cancel()
        peer.close()


def test_E2_after_a_leap_of_the_clock_all_that_is_due_is_called_once_in_order():
    system = Stands()
    with Reactor(system=system) as reactor:
        calls = []
        for number in range(1000):
            reactor.callLater(number, calls.append, number)
        system.now += 10_000
        reactor.iterate(0)
        assert calls == list(range(1000))
        assert reactor.getDelayedCalls() == []


# ---- E3: starvation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["callLater", "callFromThread", "pull producer", "connect and fail"])
def test_E3_what_asks_for_itself_again_and_again_leaves_room_for_all_others(counted, how):
    serving, producing = Makes(Echo), Makes()
    times, enough = [], []

    def again():
        times.append(how)
        if enough:
            return
        if how == "callLater":
            counted.callLater(0, again)
        else:
            counted.callFromThread(again)

    class Pulls(PushProducer):
        def resumeProducing(self):
            times.append(how)
            producing.last.transport.write(b"x")

    class Fails(Makes):
        def clientConnectionFailed(self, connector, reason):
            super().clientConnectionFailed(connector, reason)
            times.append(how)
            if not enough:
                connector.connect()

    failing = Fails()
    with listening(counted, serving) as port:
        peer = call(port)
        if how == "pull producer":
            counted.connectTCP("127.0.0.1", port.port, producing)
            turn_until(counted, lambda: producing.built)
            producing.last.transport.registerProducer(Pulls(), False)
        elif how == "connect and fail":
            counted.connectTCP("127.0.0.1", 9, failing, bindAddress=("192.0.2.1", 0))
        else:
            again()
        for number in range(1, 30):
            peer.sendall(b"y")
            expected = b"y" * number
            turn_until(counted, lambda: any(each.received == expected for each in serving.built), most=20)  # noqa: B023
            late = []
            counted.callLater(0, late.append, True)
            turn_until(counted, lambda: late, most=10)  # noqa: B023
        assert len(times) > 20
        enough.append(True)
        if how == "pull producer":
            producing.last.transport.abortConnection()
            turn_until(counted, lambda: producing.last.is_over)
        elif how == "connect and fail":
            turn_until(counted, lambda: failing.told[-1] == "stop")
        for _ in range(3):
            counted.iterate(0)
        peer.close()


def test_E3_far_future_timers_are_kept_and_do_not_disturb_the_wait(counted, system):
    far = [counted.callLater(seconds, int) for seconds in (1e6, 1e9, 1e15, 1e300, 2**31, 2**63)]
    near = []
    counted.callLater(0, near.append, True)
    turn_until(counted, lambda: near)
    counted.iterate(0)
    assert all(each.active() for each in far)
    timeouts = [timeout for timeout, _ in system.polls if timeout]
    assert all(timeout <= 86_400 for timeout in timeouts)
    for each in far:
        each.cancel()


def test_E3_two_hundred_thousand_cancelled_timers_leave_no_heap_behind(counted):
    keep = counted.callLater(1000, int)
    for _ in range(200_000):
        counted.callLater(500, int).cancel()
    assert len(counted._loop.timers.heap) < 1000
    keep.cancel()


# ---- E4: calls from threads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("poller", ["epoll", "poll", "select"])
def test_E4_no_wake_up_is_lost_in_three_thousand_rounds_of_ping_and_pong(poller):
    """The thread leaves a call and waits until it was made; one lost wake-up would wait for ever."""
    with Reactor(poller=poller) as reactor:
        rounds = 3000
        made = threading.Semaphore(0)

        def ping_pong():
            for _ in range(rounds):
                reactor.callFromThread(made.release)
                made.acquire()
            reactor.callFromThread(reactor.stop)

        thread = threading.Thread(target=ping_pong)
        thread.start()
        reactor.run(installSignalHandlers=False)
        thread.join()


def test_E4_a_full_waker_is_an_awake_loop_and_no_error(counted):
    waker = counted._loop._waker
    with pytest.raises(BlockingIOError):
        while True:
            waker._writer.send(b"\0" * 4096)
    told = []
    counted._loop._asleep = True
    counted.callFromThread(told.append, 1)
    waker.wake()
    counted.iterate(0)
    counted.iterate(0)
    assert told == [1]
    # It was read empty: the loop can sleep again, and be woken.
    for _ in range(100):
        counted.iterate(0)
    with pytest.raises(BlockingIOError):
        waker._reader.recv(1)
    thread = threading.Thread(target=counted.callFromThread, args=(told.append, 2))
    thread.start()
    turn_until(counted, lambda: told == [1, 2])
    thread.join()


@pytest.mark.parametrize("error", [errno.EBADF, errno.EPIPE, errno.ENOTCONN, errno.ENOBUFS])
def test_E4_any_other_error_of_the_waker_is_loud(error):
    class Broken:
        def send(self, data):
            raise OSError(error, "broken")

    with pytest.raises(OSError) as told:
        Waker((None, Broken())).wake()
    assert told.value.errno == error


def test_E4_one_wake_up_serves_all_calls_that_are_left_meanwhile(counted, system):
    woken = []

    class Counts:
        def __init__(self, inner):
            self.inner = inner

        def send(self, data):
            woken.append(data)
            return self.inner.send(data)

        def __getattr__(self, name):
            return getattr(self.inner, name)

    waker = counted._loop._waker
    waker._writer = Counts(waker._writer)
    told = []
    counted._loop._asleep = True
    for number in range(1000):
        counted.callFromThread(told.append, number)
    assert len(woken) == 1
    turn_until(counted, lambda: len(told) == 1000)
    assert told == list(range(1000))
    waker._writer = waker._writer.inner


# ---- E5: signals ----------------------------------------------------------------------------------------------------


def test_E5_a_signal_is_a_flag_and_a_full_waker_loses_none(capfd):
    """The wake-up buffer is full when the signal comes; Python would warn of it, and others would lose the signal."""
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        with Reactor() as reactor:

            def fill():
                waker = reactor._loop._waker
                try:
                    while True:
                        waker._writer.send(b"\0" * 4096)
                except BlockingIOError:
                    pass
                for _ in range(100):
                    signal.raise_signal(signal.SIGUSR2)
                signal.raise_signal(signal.SIGTERM)

            reactor.callLater(0, fill)
            reactor.run()
            assert not reactor.running
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert len(heard) == 100
    assert capfd.readouterr().err == ""


# ---- E9: the pool ---------------------------------------------------------------------------------------------------


def test_E9_a_pool_whose_job_never_ends_is_left_after_a_bounded_wait(caplog):
    never = threading.Event()
    pool = ThreadPool(2)
    pool.callInThread(never.wait)
    pool.callInThread(never.wait)
    dropped = []
    pool.callInThread(dropped.append, "waited in the queue")
    caplog.set_level(logging.WARNING, logger="ropewalk")
    pool.stop(timeout=0.01)
    assert [each.getMessage() for each in caplog.records if "2 jobs still run" in each.getMessage()]
    never.set()
    pool.stop()
    assert dropped == []


def test_E9_a_shutdown_is_not_held_up_by_a_job_that_waits_for_the_reactor(monkeypatch, caplog):
    """The classic deadlock: the reactor waits for the thread, the thread for the reactor."""
    from ropewalk._loop import threads

    monkeypatch.setattr(threads.ThreadPool.stop, "__defaults__", (0.05,))
    started = threading.Event()
    answers = []

    with Reactor() as reactor:

        def job():
            started.set()
            try:
                answers.append(blockingCallFromThread(reactor, lambda: "too late"))
            except BaseException as exc:
                answers.append(exc)

        def stop():
            # The job's call is left in this very turn, after those the loop will still make.
            reactor.callInThread(job)
            started.wait()
            reactor.stop()

        reactor.callLater(0, stop)
        reactor.run(installSignalHandlers=False)
        turn_until(reactor, lambda: answers)
    assert len(answers) == 1


STUCK_JOB = """
    import threading
    from ropewalk import Reactor
    from ropewalk._loop.threads import ThreadPool
    ThreadPool.stop.__defaults__ = (0.05,)
    reactor = Reactor()
    reactor.callInThread(threading.Event().wait, 1.0)
    reactor.callLater(0, reactor.stop)
    reactor.run()
    print("out of run", flush=True)
"""


def test_E9_run_returns_though_a_job_is_stuck():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STUCK_JOB)],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "out of run\n"
    assert done.returncode == 0


# ---- making a reactor -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["poller", "socket_pair", "register"])
def test_E4_a_reactor_that_cannot_be_made_leaves_nothing(sim, which):
    host = sim.host("host")
    host.faults.fail(which, errno.ENOMEM)
    with pytest.raises(OSError) as refused:
        Reactor(system=host.system)
    assert refused.value.errno == errno.ENOMEM
    del refused
    assert not host.descriptors.files
