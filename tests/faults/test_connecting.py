"""FAULTS C8 to C11, F15: connecting where the kernel's answer is odd: oneself, no address left, a reset in between.

What needs an ephemeral port of one's choice is played on the simulated kernel; that the real one does the same is shown by
binding to the very port that is dialled.
"""

from __future__ import annotations

import errno
import os
import socket

import pytest

from ropewalk import ReconnectingClientFactory, TCPOptions
from ropewalk.error import (
    ConnectBindError,
    ConnectError,
    ConnectionRefusedError,
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,
)
from ropewalk.simulation.faults import FALLIBLE
from tests.faults.scene import LOCALHOST, Makes, listening, name_of, turn_until, unused_port


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


# ---- C9, F15: oneself ---------------------------------------------------------------------------------------------


def test_F15_C9_connecting_to_a_port_that_is_ones_own_is_refused_by_the_real_kernel_s_engine(counted, system):
    """Bound to the port that is dialled, the socket connects to itself: the kernel allows it, every time."""
    port = unused_port()
    before = open_descriptors()
    factory = Makes()
    counted.connectTCP(LOCALHOST, port, factory, bindAddress=(LOCALHOST, port))
    turn_until(counted, lambda: factory.reason)
    assert isinstance(factory.reason, ConnectionRefusedError)
    assert factory.reason.errno == errno.ECONNREFUSED
    assert "itself" in str(factory.reason)
    assert factory.told == ["start", "connecting", "failed", "stop"]
    assert system.calls["connect"] == 3
    assert open_descriptors() == before


@pytest.mark.parametrize("times", [1, 2])
def test_F15_C9_an_ephemeral_port_that_happens_to_be_the_one_dialled_is_tried_again(sim, times):
    host = sim.host("here")
    host.nextEphemeralPorts(*[40_000] * times)
    factory = Makes()
    host.reactor.connectTCP(LOCALHOST, 40_000, factory)
    sim.advance(1)
    assert isinstance(factory.reason, ConnectionRefusedError)
    assert "itself" not in str(factory.reason)
    assert factory.built == []


def test_C9_the_port_of_a_server_that_was_away_is_not_stolen_by_its_client(sim):
    """The client that reconnects meets itself on the server's port; a moment later the server must be able to listen."""
    host = sim.host("here")
    host.nextEphemeralPorts(40_000, 40_000, 40_000)
    factory = Makes()
    host.reactor.connectTCP(LOCALHOST, 40_000, factory)
    sim.advance(1)
    assert isinstance(factory.reason, ConnectionRefusedError)
    port = host.reactor.listenTCP(40_000, Makes(), interface=LOCALHOST)
    factory = Makes()
    host.reactor.connectTCP(LOCALHOST, 40_000, factory)
    sim.advance(1)
    assert factory.built
    factory.last.transport.abortConnection()
    port.stopListening()
    sim.runUntilIdle()


# ---- C10: no address left -----------------------------------------------------------------------------------------


def test_C10_ports_that_are_all_used_up_are_an_error_of_their_own(sim):
    server, client = sim.host("server"), sim.host("client")
    port = server.reactor.listenTCP(7, Makes())
    client.ephemeralPorts = range(50_000, 50_003)
    factories = [Makes() for _ in range(5)]
    for each in factories:
        client.reactor.connectTCP("10.0.0.1", 7, each)
    sim.advance(1)
    failed = [each for each in factories if each.reason]
    assert len(failed) == 2
    for each in failed:
        assert isinstance(each.reason, ConnectError)
        assert each.reason.errno == errno.EADDRNOTAVAIL
        assert {attempt.errno for attempt in each.reason.attempts} == {errno.EADDRNOTAVAIL}
        assert "EADDRNOTAVAIL" in str(each.reason)
    for each in factories:
        if each.built:
            each.last.transport.abortConnection()
    sim.advance(200)
    again = Makes()
    client.reactor.connectTCP("10.0.0.1", 7, again)
    sim.advance(1)
    assert again.built
    again.last.transport.abortConnection()
    port.stopListening()
    sim.runUntilIdle()


def test_C10_many_connections_may_leave_from_one_address_since_the_port_is_chosen_late(counted):
    """IP_BIND_ADDRESS_NO_PORT: with it the kernel picks the port at connect, when it knows that the pair is unique."""
    serving = Makes()
    with listening(counted, serving) as port:
        clients = [Makes() for _ in range(5)]
        for each in clients:
            counted.connectTCP(LOCALHOST, port.port, each, bindAddress=("127.0.0.2", 0))
        turn_until(counted, lambda: all(each.built for each in clients))
        for each in clients:
            transport = each.last.transport
            assert transport.getHost().host == "127.0.0.2"
            assert transport.getHandle().getsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT) == 1
            transport.loseConnection()
        turn_until(counted, lambda: all(each.reason for each in clients))


def test_C10_a_local_address_that_is_not_ours_is_a_ConnectBindError_with_its_errno(counted):
    factory = Makes()
    counted.connectTCP(LOCALHOST, 9, factory, bindAddress=("192.0.2.7", 0))
    turn_until(counted, lambda: factory.reason)
    assert isinstance(factory.reason, ConnectBindError)
    assert factory.reason.errno == errno.EADDRNOTAVAIL


def test_C10_clients_whose_server_is_away_neither_storm_it_nor_march_in_step(sim):
    """A hundred reconnecting clients: waits grow, and jitter spreads them."""
    client = sim.host("client")
    sim.host("server")
    times = []

    class Again(ReconnectingClientFactory):
        noisy = False
        maxDelay = 60

        def startedConnecting(self, connector):
            super().startedConnecting(connector)
            times.append(sim.now)

    factories = [Again() for _ in range(100)]
    start = sim.now
    for each in factories:
        client.reactor.connectTCP("server", 7, each)
    sim.advance(600)
    # Ten minutes: about 1, 2.7, 7.4, 20, 54, 60, 60 … seconds apart.
    assert len(times) <= 100 * 20
    late = [round(time - start, 3) for time in times if time - start > 300]
    assert len(set(late)) >= len(late) * 0.9
    for each in factories:
        each.stopTrying()
    sim.runUntilIdle()


# ---- C8, C10: whatever a call on the way says ---------------------------------------------------------------------

ON_THE_WAY = ["socket", "setsockopt", "connect", "register", "getsockopt", "getsockname", "getpeername"]
STRIKES = [(each, error) for each in ON_THE_WAY for error in FALLIBLE[each]]


@pytest.mark.parametrize(
    ("which", "error"), STRIKES, ids=[f"{which} {name_of(error)}" for which, error in STRIKES]
)
def test_C8_C10_any_call_of_connecting_may_fail_with_any_of_its_errors(sim, errors, which, error):
    """One outcome, told once, with the errno; nothing is left; the next attempt connects."""
    server, client = sim.host("server"), sim.host("client")
    serving = Makes()
    port = server.reactor.listenTCP(7, serving)
    client.reactor.connectTCP("server", 7, warm_up := Makes())
    sim.advance(1)
    warm_up.last.transport.loseConnection()
    sim.advance(1)
    client.faults.fail(which, error)
    factory = Makes()
    connector = client.reactor.connectTCP("10.0.0.1", 7, factory, options=TCPOptions(keepAlive=(9, 9, 9)))
    sim.advance(1)
    if factory.built:
        # An interrupted connect goes on; what nobody asked for did no harm.
        factory.last.transport.loseConnection()
        sim.advance(1)
        assert factory.told == ["start", "connecting", "build", "lost", "stop"]
    else:
        assert factory.told == ["start", "connecting", "failed", "stop"]
        assert isinstance(factory.reason, ConnectError)
        assert factory.reason.errno == error
        assert factory.reason.attempts[0].errno == error
    client.faults.clear()
    connector.connect()
    sim.advance(1)
    assert factory.built
    factory.last.transport.abortConnection()
    port.stopListening()
    sim.runUntilIdle()
    assert errors() == []


@pytest.mark.parametrize("seed", range(60))
def test_C8_names_addresses_and_faults_at_random_end_in_one_outcome_in_time(seed):
    """Several addresses, some refused, some black holes, calls that fail: J2, and nothing left."""
    from random import Random

    from ropewalk.simulation import Simulation

    random = Random(seed)
    sim = Simulation(seed=seed)
    server, client = sim.host("server", ["10.0.0.1", "fd00::1"]), sim.host("client")
    sim.route("10.8.8.8", lost=True)
    sim.route("10.7.7.7", error=errno.EHOSTUNREACH, delay=random.random())
    sim.name("where", random.sample(["10.0.0.1", "fd00::1", "10.8.8.8", "10.7.7.7", "10.0.0.9"], 4))
    port = server.reactor.listenTCP(7, Makes())
    client.start()
    for each in ON_THE_WAY:
        client.faults.failSometimes(each, chance=random.choice([0, 0.05, 0.3]))
    factories = [Makes() for _ in range(8)]
    for each in factories:
        client.reactor.connectTCP("where", 7, each, timeout=random.choice([1, 5, 30]))
    sim.advance(40)
    for each in factories:
        assert each.told.count("build") + each.told.count("failed") == 1, each.told
    client.faults.clear()
    for each in factories:
        for protocol in each.built:
            protocol.transport.abortConnection()
    port.stopListening()
    sim.runUntilIdle()
    for each in factories:
        assert each.told.count("failed") + each.told.count("lost") == 1
        assert each.told[-1] == "stop"
    sim.close()
    sim.checkAtRest()


def test_C8_a_handshake_that_nobody_completes_ends_with_the_kernel_s_timeout_or_ours(sim):
    client = sim.host("client")
    sim.route("10.8.8.8", lost=True)
    ours, theirs = Makes(), Makes()
    client.reactor.connectTCP("10.8.8.8", 7, ours, timeout=30)
    client.reactor.connectTCP("10.8.8.8", 7, theirs, timeout=None)
    sim.runUntilIdle()
    assert isinstance(ours.reason, TimeoutError)
    assert isinstance(theirs.reason, TCPTimedOutError)
    assert theirs.reason.errno == errno.ETIMEDOUT


# ---- resolvers that users bring -------------------------------------------------------------------------------------

RUBBISH = {
    "an address that is none": "not an address",
    "a name instead of an address": "localhost",
    "nothing": None,
    "a number": 4,
    "a text with a NUL": "1.2.3.4\0",
}


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_E1_rubbish_from_a_simple_resolver_fails_at_once_and_never_blocks(counted, rubbish, errors):
    """connect(2) with a name would look it up then and there, on the loop's thread."""
    from ropewalk.defer import succeed

    class Bad:
        def getHostByName(self, name, timeout=()):
            return succeed(RUBBISH[rubbish])

    counted.installResolver(Bad())
    factory = Makes()
    counted.connectTCP("name.invalid", 9, factory, timeout=1000)
    turn_until(counted, lambda: factory.reason, most=20)
    assert isinstance(factory.reason, DNSLookupError)
    assert errors() == []


class Place:
    """An address as a hostname resolver might give it."""

    def __init__(self, host, port=9, **more):
        self.host, self.port = host, port
        self.__dict__.update(more)


BAD_PLACES = {
    "no address": Place("not an address"),
    "a name": Place("localhost"),
    "none": None,
    "port too large": Place(LOCALHOST, 70_000),
    "port a text": Place(LOCALHOST, "http"),
    "flow too large": Place("::1", 9, flowInfo=1 << 40),
    "an unknown scope": Place("fe80::1", 9, scopeID="nosuchif"),
}


@pytest.mark.parametrize("place", BAD_PLACES)
@pytest.mark.parametrize("guarded", [True, False])
def test_E1_rubbish_from_a_hostname_resolver_fails_at_once_and_never_blocks(counted, place, guarded):
    class Bad:
        def resolveHostName(self, receiver, name, port=0, types=None, semantics="TCP"):
            receiver.resolutionBegan(None)
            try:
                receiver.addressResolved(BAD_PLACES[place])
            except Exception:
                if not guarded:
                    raise
            receiver.resolutionComplete()

    counted.installNameResolver(Bad())
    factory = Makes()
    counted.connectTCP("name.invalid", 9, factory, timeout=1000)
    turn_until(counted, lambda: factory.reason, most=20)
    assert isinstance(factory.reason, ConnectError)
    assert factory.told == ["start", "connecting", "failed", "stop"]
