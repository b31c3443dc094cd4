"""FAULTS E2, F13, F15, F20: a wall clock that jumps, names that never answer, a port that is one's own.

What FAULTS measured on others, as claims: ten stuck look-ups kept `deferToThread` waiting for six seconds, `reactor.seconds`
was the wall clock, and a client that met its own ephemeral port was connected to itself.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from itertools import pairwise

import pytest

from ropewalk import Reactor
from ropewalk._system import RealSystem
from ropewalk.defer import Deferred
from ropewalk.error import ConnectionRefusedError, DNSLookupError
from ropewalk.error import TimeoutError as ConnectTimeout
from ropewalk.threads import deferToThreadPool
from tests.conftest import checked_reactor
from tests.faults.scene import LOCALHOST, Echo, Makes, black_hole, call, listening, turn_until

TRAP = 45_000
HOUR = 3600.0


# ---- E2, F20: clocks --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["a year ahead", "a year back", "to and fro", "forbidden"])
def wall_clock(request, monkeypatch):
    """The wall clock is set again and again; or must not even be asked."""
    asked = []

    def wrong():
        asked.append(None)
        if request.param == "forbidden":
            raise AssertionError("somebody asked for the time of day")
        year = {"a year ahead": 31e6, "a year back": -31e6, "to and fro": 31e6 * (-1) ** len(asked)}
        return 1.7e9 + len(asked) * year[request.param]

    monkeypatch.setattr(time, "time", wrong)
    monkeypatch.setattr(time, "time_ns", lambda: int(wrong() * 1e9))
    return asked


def test_E2_F20_setting_the_wall_clock_changes_nothing_and_nobody_asks_for_it(wall_clock, counted, system):
    """Timers in order, none lost, none early; a connection with data; a time-out; a job in a thread."""
    order = []
    started = counted.seconds()
    for number in (3, 1, 2):
        counted.callLater(number / 100, lambda number=number: order.append((number, counted.seconds())))
    later = counted.callLater(HOUR, order.append, "an hour")
    factory = Makes(Echo)
    with listening(counted, factory) as port, black_hole() as hole:
        peer = call(port)
        peer.sendall(b"what is the time?")
        silent = Makes()
        counted.connectTCP(LOCALHOST, hole, silent, timeout=0)
        worked = deferToThreadPool(counted, counted.getThreadPool(), lambda: "done")
        done = []
        worked.addCallback(done.append)
        turn_until(counted, lambda: len(order) == 3 and silent.reason and done and factory.built[0].received)
        counted.iterate(0)
        assert peer.recv(30) == b"what is the time?"
        assert isinstance(silent.reason, ConnectTimeout)
        peer.close()
    assert [number for number, _ in order] == [1, 2, 3]
    assert all(when - started >= number / 100 for number, when in order)
    assert later.active()
    assert later.getTime() == pytest.approx(started + HOUR, abs=1)
    later.cancel()
    assert wall_clock == []


def test_F20_the_reactor_s_seconds_are_those_of_the_monotonic_clock(reactor):
    before = time.monotonic()
    now = reactor.seconds()
    assert before <= now <= time.monotonic()
    assert reactor.seconds is not time.time
    call_later = reactor.callLater(5, bool)
    assert now + 5 <= call_later.getTime() <= reactor.seconds() + 5
    call_later.cancel()


def test_E2_seconds_never_go_back(reactor):
    read = [reactor.seconds() for _ in range(10_000)]
    assert all(one <= other for one, other in pairwise(read))


class Leaping(RealSystem):
    """A machine whose monotonic clock can leap ahead, as some do while it is suspended."""

    def __init__(self):
        super().__init__()
        self.ahead = 0.0
        self.monotonic = lambda: time.monotonic() + self.ahead


@pytest.fixture
def leaping():
    return Leaping()


@pytest.fixture
def suspended(leaping):
    with checked_reactor(lambda: Reactor(system=leaping)) as reactor:
        yield reactor


def test_E2_after_a_leap_of_a_day_what_is_due_is_made_once_each_in_order(suspended, leaping):
    made = []
    for hours in (5, 1, 3, 2, 4):
        suspended.callLater(hours * HOUR, made.append, hours)
    still_to_come = suspended.callLater(25 * HOUR, made.append, 25)
    cancelled = suspended.callLater(HOUR, made.append, "cancelled")
    cancelled.cancel()
    suspended.iterate(0)
    assert made == []
    leaping.ahead = 24 * HOUR
    suspended.iterate(0)
    assert made == [1, 2, 3, 4, 5]
    suspended.iterate(0)
    assert made == [1, 2, 3, 4, 5]
    still_to_come.cancel()


def test_E2_a_call_that_asks_for_itself_again_is_not_made_once_for_each_hour_that_was_slept(
    suspended, leaping
):
    made = []

    def hourly():
        made.append(suspended.seconds())
        made_again.append(suspended.callLater(HOUR, hourly))

    made_again = [suspended.callLater(HOUR, hourly)]
    leaping.ahead = 24 * HOUR
    for _ in range(5):
        suspended.iterate(0)
    assert len(made) == 1
    made_again[-1].cancel()


def test_E2_an_idle_time_out_that_was_reset_before_the_leap_is_due_after_it(suspended, leaping):
    made = []
    idle = suspended.callLater(10, made.append, "idle")
    leaping.ahead = 9
    idle.reset(10)
    suspended.iterate(0)
    leaping.ahead = 18
    suspended.iterate(0)
    assert made == []
    leaping.ahead = 20
    suspended.iterate(0)
    assert made == ["idle"]


# ---- F13: names that never answer -------------------------------------------------------------------------------------


@pytest.fixture
def stuck_names(monkeypatch):
    """The C library of this machine does not come back from names that begin with "stuck", until the test ends."""
    gate = threading.Event()
    inside = []

    def getaddrinfo(host, port, *rest):
        if host.startswith("stuck"):
            inside.append(host)
            gate.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "gave up at last")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (LOCALHOST, port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    inside_gate = (inside, gate)
    yield inside_gate
    gate.set()


@pytest.mark.parametrize("stuck", [10, 15, 20])
def test_F13_stuck_look_ups_in_real_threads_delay_neither_jobs_nor_names(reactor, stuck_names, stuck):
    inside, gate = stuck_names
    waiting = [Makes() for _ in range(stuck)]
    connectors = [
        reactor.connectTCP(f"stuck-{number}.example", 7, factory, timeout=1000)
        for number, factory in enumerate(waiting)
    ]
    turn_until(reactor, lambda: len(inside) >= min(stuck, 16))
    worked = []
    for number in range(10):
        deferToThreadPool(reactor, reactor.getThreadPool(), lambda number=number: number).addCallback(
            worked.append
        )
    turn_until(reactor, lambda: len(worked) == 10)
    # Why given up: while more than fifteen are fresh, another waits for 0.1 s (tests/scenarios/test_names.py).
    for connector in connectors[15:]:
        connector.stopConnecting()
    served = Makes(Echo)
    with listening(reactor, served) as port:
        factory = Makes()
        reactor.connectTCP("quick.example", port.getHost().port, factory)
        turn_until(reactor, lambda: factory.built)
        assert not any(each.reason for each in waiting[:15])
        factory.last.transport.loseConnection()
        turn_until(reactor, lambda: factory.reason)
    gate.set()
    turn_until(reactor, lambda: all(each.reason for each in waiting))
    assert isinstance(waiting[0].reason, DNSLookupError)


def test_F13_E1_ten_stuck_jobs_do_not_delay_a_name(reactor, stuck_names):
    _, gate = stuck_names
    done = []
    for _ in range(10):
        reactor.callInThread(gate.wait, 20)
    served = Makes()
    with listening(reactor, served) as port:
        factory = Makes()
        reactor.connectTCP("quick.example", port.getHost().port, factory)
        turn_until(reactor, lambda: factory.built)
        factory.last.transport.loseConnection()
        turn_until(reactor, lambda: factory.reason)
    gate.set()
    reactor.callInThread(lambda: reactor.callFromThread(done.append, True))
    turn_until(reactor, lambda: done)


@pytest.mark.parametrize(("age", "seconds"), [(0.0, 0.1), (0.05, 0.05), (0.1, 0.0), (600.0, 0.0)])
def test_F13_twenty_stuck_look_ups_delay_another_name_until_they_are_known_to_be_slow(sim, age, seconds):
    """Sixteen may be fresh at once; 0.1 s later they are known to be slow, and four that waited make no difference."""
    server, client = sim.host("server"), sim.host("client")
    sim.latency("server", "client", 0.0)
    sim.name("stuck", never=True)
    sim.name("quick", [server.addresses[0]], delay=0.125)
    port = server.reactor.listenTCP(7, Makes())
    stuck = Makes()
    for _ in range(20):
        client.reactor.connectTCP("stuck", 7, stuck, timeout=1000)
    sim.advance(age)
    asked = sim.now
    factory = Makes()
    client.reactor.connectTCP("quick", 7, factory)
    sim.run(until=lambda: factory.built)
    assert sim.now - asked == pytest.approx(seconds + 0.125)
    factory.last.transport.loseConnection()
    sim.runUntilIdle()
    assert stuck.told.count("failed") == 20
    assert isinstance(stuck.reason, ConnectTimeout)
    port.stopListening()
    sim.runUntilIdle()


def test_F13_stuck_look_ups_hold_up_neither_timers_nor_data_nor_the_end(sim):
    server, client = sim.host("server"), sim.host("client")
    sim.name("stuck", never=True)
    port = server.reactor.listenTCP(7, Makes(Echo))
    stuck, factory = Makes(), Makes()
    for _ in range(300):
        client.reactor.connectTCP("stuck", 7, stuck, timeout=30)
    client.reactor.connectTCP(server.addresses[0], 7, factory)
    made = []
    client.reactor.callLater(5, made.append, True)
    sim.advance(5)
    assert made
    factory.last.transport.write(b"echo")
    sim.advance(1)
    assert factory.last.received == b"echo"
    factory.last.transport.loseConnection()
    sim.runUntilIdle()
    assert stuck.told.count("failed") == 300
    port.stopListening()
    sim.runUntilIdle()


def test_F13_a_resolver_of_the_user_s_that_never_answers_is_bounded_by_the_timeout(sim):
    client = sim.host("client")

    class Silent:
        def getHostByName(self, name):
            return Deferred()

    client.reactor.installResolver(Silent())
    factory = Makes()
    client.reactor.connectTCP("anybody", 7, factory, timeout=12)
    sim.advance(11.9)
    assert factory.reason is None
    sim.advance(0.2)
    assert isinstance(factory.reason, ConnectTimeout)
    assert factory.reason.phase == "resolving"


# ---- F15: connected to oneself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_F15_C9_one_s_own_ephemeral_port_is_a_refusal_and_never_a_connection(sim, address):
    host = sim.host("host")
    host.nextEphemeralPorts(*[TRAP] * 100)
    factory = Makes()
    host.reactor.connectTCP(address, TRAP, factory)
    sim.runUntilIdle()
    # Two tries more in all (FAULTS C9), and one for each further address.
    assert host.faults.counts["connect"] == (4 if address == "localhost" else 3)
    assert factory.told == ["start", "connecting", "failed", "stop"]
    assert isinstance(factory.reason, ConnectionRefusedError)
    assert factory.reason.errno == errno.ECONNREFUSED


def test_F15_a_thousand_attempts_at_a_port_of_the_ephemeral_range_never_meet_themselves(sim):
    """A client that tries again and again while its server is away: sooner or later the kernel gives it that very port."""
    host = sim.host("host")
    host.ephemeralPorts = range(TRAP, TRAP + 8)

    class Stubborn(Makes):
        left = 1000

        def clientConnectionFailed(self, connector, reason):
            super().clientConnectionFailed(connector, reason)
            assert reason.check(ConnectionRefusedError)
            self.left -= 1
            if self.left:
                host.reactor.callLater(0.01, connector.connect)

    factory = Stubborn()
    host.reactor.connectTCP("127.0.0.1", TRAP, factory)
    sim.runUntilIdle()
    assert factory.left == 0
    assert factory.built == []


def test_F15_the_real_kernel_s_connection_to_itself_is_a_refusal_too(reactor):
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        port = probe.getsockname()[1]
    factory = Makes()
    reactor.connectTCP(LOCALHOST, port, factory, bindAddress=(LOCALHOST, port))
    turn_until(reactor, lambda: factory.reason)
    assert isinstance(factory.reason, ConnectionRefusedError)
    assert factory.built == []
    # The port was left without a trace: the missing server can have it now.
    with listening(reactor, Makes()):
        reactor.listenTCP(port, Makes(), interface=LOCALHOST).stopListening()
