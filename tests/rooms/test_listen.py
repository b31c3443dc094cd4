"""A Port over the simulated kernel, with bare sockets that call it: listening, accepting, stopping, and what goes wrong."""

from __future__ import annotations

import errno
import socket

import pytest

from ropewalk import Factory, IPv4Address, IPv6Address, Protocol, TCPOptions
from ropewalk._net.listen import _BURST_MOST, _LOG_INTERVAL, _REST_FIRST, _REST_MOST
from ropewalk.error import CannotListenError
from ropewalk.machine import IllegalTransition
from ropewalk.simulation import FALLIBLE, Simulation
from tests.rooms.simulated_programs import Calls, Log, Serves, Talker, two_hosts
from tests.rooms.test_loop import in_a_thread, raising

PORT = 7


class Server(Factory):
    """Notes what it is told, and does what the test wants."""

    noisy = False

    def __init__(self, **acts):
        self.acts = acts
        self.told = []
        self.protocols = []

    def note(self, what, *args):
        self.told.append(what)
        act = self.acts.get(what)
        return None if act is None else act(*args)

    def startFactory(self):
        self.note("start")

    def stopFactory(self):
        self.note("stop")

    def buildProtocol(self, addr):
        self.addresses = [*getattr(self, "addresses", []), addr]
        made = self.note("build", addr)
        if made is None and "build" not in self.acts:
            made = Served(self)
            self.protocols.append(made)
        return made


class Served(Protocol):
    def __init__(self, factory):
        self.factory = factory

    def connectionMade(self):
        self.factory.note("made", self)

    def connectionLost(self, reason):
        self.reason = reason.value
        self.factory.note("lost", self, reason)


class Stage:
    def __init__(self):
        self.sim = Simulation(5)
        self.sim._driver.spin_limit = 3000
        self.near, self.far = self.sim.host("near"), self.sim.host("far")
        self.sim.latency("near", "far", 0.01)
        self.reactor = self.near.reactor
        self.faults = self.near.faults
        self.socks = []
        self.steps = []

    def listen(self, port=PORT, factory=None, **how):
        factory = Server() if factory is None else factory
        return self.reactor.listenTCP(port, factory, **how)

    def call(self, address=None, port=PORT):
        """A bare socket that connects."""
        address = address or self.near.addresses[0]
        sock = self.far.system.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        sock.setblocking(False)
        sock.connect_ex((address, port))
        self.socks.append(sock)
        return sock

    def observe(self):
        self.reactor.observers.append(lambda event: self.steps.append((event.step.value, event.details)))

    def go(self, seconds=1.0):
        self.sim.advance(seconds)

    def finish(self):
        self.faults.clear()
        for each in self.socks:
            each.close()
        self.sim.close()
        self.sim.runUntilIdle()
        self.sim.checkAtRest()


@pytest.fixture
def stage():
    stage = Stage()
    yield stage
    stage.finish()


def results(deferred):
    """A list that holds what a Deferred gave, once it has fired."""
    found = []
    deferred.addBoth(found.append)
    return found


def how_it_ended(sock):
    try:
        return "FIN" if sock.recv(1) == b"" else "data"
    except BlockingIOError:
        return "no"
    except OSError as exc:
        return errno.errorcode[exc.errno]


# ---- listening ------------------------------------------------------------------------------------------------------


def test_a_port_listens_at_once_and_starts_its_factory(stage):
    stage.observe()
    port = stage.listen()
    assert port.factory.told == ["start"]
    assert (port.connected, port.port) == (True, PORT)
    assert port.getHost() == IPv4Address("TCP", "0.0.0.0", PORT)
    assert port.fileno() in stage.reactor._loop.watchers
    assert port.reactor is stage.reactor
    assert port.logPrefix() == f"Server ({PORT})"
    assert repr(port) == f"<Port Server listening on 0.0.0.0:{PORT}>"
    assert stage.steps == [("listening", {"address": f"0.0.0.0:{PORT}"})]


def test_port_zero_is_told_as_what_it_became(stage):
    port = stage.listen(0)
    assert port.port == port.getHost().port > 0


@pytest.mark.parametrize(
    ("interface", "address"),
    [
        ("10.0.0.1", IPv4Address("TCP", "10.0.0.1", PORT)),
        ("::", IPv6Address("TCP", "::", PORT)),
        ("fd00::1", IPv6Address("TCP", "fd00::1", PORT)),
    ],
)
def test_an_interface_is_an_address_of_either_family(stage, interface, address):
    port = stage.listen(interface=interface)
    assert port.getHost() == address
    stage.call("10.0.0.1" if "." in interface else "fd00::1")
    stage.go()
    assert port.factory.told == ["start", "build", "made"]
    transport = port.factory.protocols[0].transport
    assert transport.getHost().host == ("10.0.0.1" if "." in interface else "fd00::1")


@pytest.mark.parametrize("dual", [True, False])
def test_dual_stack_takes_both_families_and_is_asked_for(stage, dual):
    port = stage.listen(interface="" if dual else "::", options=TCPOptions(dualStack=dual))
    stage.call("10.0.0.1")
    stage.call("fd00::1")
    stage.go()
    assert len(port.factory.protocols) == 1 + dual


def test_the_kernel_is_told_the_options_once_and_accepted_sockets_have_them(stage):
    options = TCPOptions(reusePort=True, receiveBuffer=4096)
    port = stage.listen(options=options)
    assert port.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
    assert port.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
    before = stage.faults.counts["setsockopt"]
    stage.call()
    stage.go()
    assert stage.faults.counts["setsockopt"] == before
    sock = port.factory.protocols[0].transport.getHandle()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 8192


def test_where_options_are_not_inherited_each_socket_is_told(stage):
    stage.near.system.stream_options_inherited = False
    port = stage.listen()
    before = stage.faults.counts["setsockopt"]
    stage.call()
    stage.go()
    assert stage.faults.counts["setsockopt"] == before + 1
    assert port.factory.told == ["start", "build", "made"]


def test_where_options_are_not_inherited_a_socket_that_refuses_them_is_dropped_in_silence(stage, caplog):
    stage.near.system.stream_options_inherited = False
    port = stage.listen()
    stage.faults.fail("setsockopt", errno.EINVAL)
    sock = stage.call()
    stage.go()
    assert how_it_ended(sock) == "FIN"
    assert port.factory.told == ["start"]
    assert caplog.records == []


def test_the_backlog_is_the_system_s_or_the_caller_s(stage):
    assert stage.listen()._backlog == stage.near.system.backlog
    assert stage.listen(PORT + 1, backlog=3)._backlog == 3


# ---- what cannot be listened on -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (call, error)
        for call in ("socket", "setsockopt", "bind", "listen", "open_reserve", "getsockname", "register")
        for error in FALLIBLE[call]
    ],
)
def test_A8_whatever_fails_is_a_CannotListenError_and_nothing_is_left(stage, call, error):
    stage.faults.fail(call, error)
    factory = Server()
    with pytest.raises(CannotListenError) as raised:
        stage.listen(factory=factory)
    assert raised.value.errno == error
    assert (raised.value.interface, raised.value.port) == ("", PORT)
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.__traceback__ is None
    assert factory.told == []
    assert factory.numPorts == 0
    stage.sim.checkAtRest()
    port = stage.listen(factory=factory)
    assert port.connected


def test_localhost_as_interface_is_the_loopback_address(stage):
    assert stage.listen(interface="localhost").getHost().host == "127.0.0.1"


@pytest.mark.parametrize("interface", ["server", "127.1", "0"])
def test_D87_an_interface_that_is_no_address_is_refused_with_what_would_be_right(stage, interface):
    with pytest.raises(
        CannotListenError,
        match=f"interface must be an IPv4 or IPv6 address, or 'localhost', not {interface!r}",
    ):
        stage.listen(interface=interface)


@pytest.mark.parametrize("interface", ["a name", "10.0.0.2", "fe80::1%nosuchif"])
def test_an_interface_that_is_none_of_ours_is_refused(stage, interface):
    with pytest.raises(CannotListenError):
        stage.listen(interface=interface)


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_what_startFactory_raises_is_raised_and_nothing_is_left(stage, kind):
    factory = Server(start=raising(kind))
    with pytest.raises(kind, match="on purpose"):
        stage.listen(factory=factory)
    assert factory.numPorts == 0
    stage.sim.checkAtRest()


def test_a_port_that_listens_cannot_be_told_to_again(stage):
    port = stage.listen()
    with pytest.raises(IllegalTransition, match="'startListening' cannot happen while 'listening'"):
        port.startListening()
    assert port.factory.told == ["start"]


def test_a_wrong_thread_is_told_what_it_asked(stage):
    port, told = stage.listen(), []
    for ask in ("startListening", "stopListening"):
        stage.reactor.callFromThread(lambda ask=ask: told.append(in_a_thread(getattr(port, ask))))
    stage.go()
    assert [type(each) for each in told] == [RuntimeError] * 2


# ---- accepting ------------------------------------------------------------------------------------------------------


def test_an_accepted_connection_is_told_with_its_addresses(stage):
    stage.observe()
    port = stage.listen()
    sock = stage.call()
    stage.go()
    (protocol,) = port.factory.protocols
    theirs = IPv4Address("TCP", *sock.getsockname())
    assert port.factory.addresses == [theirs]
    assert protocol.transport.getPeer() == theirs
    assert protocol.transport.getHost() == IPv4Address("TCP", "10.0.0.1", PORT)
    assert [step for step, _ in stage.steps] == ["listening", "accepted", "protocol built"]
    assert stage.steps[1][1] == {
        "local": f"10.0.0.1:{PORT}",
        "peer": f"{theirs.host}:{theirs.port}",
        "listener": port.number,
    }
    assert protocol.transport.number > port.number


def test_a_connection_that_was_reset_while_it_waited_is_accepted_and_lost(stage):
    port = stage.listen()
    sock = stage.call()
    stage.sim.at(stage.sim.now + 0.03, stage.sim.reset, sock)
    stage.go()
    assert port.factory.told == ["start", "build", "made", "lost"]


@pytest.mark.parametrize("answer", ["None", "raises"])
def test_a_connection_nobody_will_talk_on_is_closed_and_the_port_goes_on(stage, answer, caplog):
    stage.observe()
    factory = Server(build=(lambda addr: None) if answer == "None" else raising())
    stage.listen(factory=factory)
    sock = stage.call()
    stage.go()
    assert how_it_ended(sock) == "FIN"
    assert factory.told == ["start", "build"]
    assert [step for step, _ in stage.steps[-2:]] == ["accepted", "closed"]
    assert len(caplog.records) == (answer == "raises")
    factory.acts.clear()
    stage.call()
    stage.go()
    assert factory.told[-1] == "made"


def test_SystemExit_in_buildProtocol_leaves_the_run_and_the_port_goes_on(stage):
    factory = Server(build=raising(SystemExit))
    stage.listen(factory=factory)
    stage.call()
    with pytest.raises(SystemExit):
        stage.go()
    factory.acts.clear()
    stage.call()
    stage.go()
    assert factory.told[-1] == "made"


def test_A6_as_many_are_accepted_at_once_as_the_load_asks_for(stage):
    port = stage.listen()
    bursts = []
    for count in (200, 1):
        for _ in range(count):
            stage.call()
        stage.go()
        bursts.append(port._burst)
    assert len(port.factory.protocols) == 201
    assert bursts[1] == 1
    assert _BURST_MOST == 64


def test_what_is_said_in_connectionMade_leaves_before_the_next_one_is_accepted(stage):
    order = []

    def made(protocol):
        order.append("made")
        protocol.transport.write(b"hello")
        stage.reactor._loop.due.append(type("Flushed", (), {"flush": lambda self: order.append("flushed")})())

    stage.listen(factory=Server(made=made))
    port_burst = [stage.call() for _ in range(6)]
    stage.go()
    assert order == ["made", "flushed"] * 6
    assert all(sock.recv(9) == b"hello" for sock in port_burst)


@pytest.mark.parametrize("where", ["build", "made"])
def test_stopping_in_the_midst_of_a_burst_accepts_no_more(stage, where):
    factory = Server()

    def stop(*args):
        factory.port.stopListening()
        if where == "build":
            return Served(factory)
        return None

    factory.port = stage.listen(factory=factory)
    factory.port._burst = 8
    factory.acts[where] = stop
    for _ in range(5):
        stage.call()
    stage.go()
    assert factory.told.count("build") == 1
    assert factory.told[-1] == "stop"


def test_the_reactor_stopped_in_the_midst_of_a_burst_accepts_no_more(stage):
    factory = Server()
    port = stage.listen(factory=factory)
    port._burst = 8

    def made(protocol):
        stage.reactor._core.shut_down()

    factory.acts["made"] = made
    for _ in range(5):
        stage.call()
    stage.go()
    assert factory.told == ["start", "build", "made", "stop", "lost"] or factory.told == [
        "start", "build", "made", "lost", "stop",
    ]  # fmt: skip


# ---- A1 to A5: errors of accept -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [each for each in FALLIBLE["accept"] if each != errno.EAGAIN])
def test_A3_A5_no_error_of_accept_ends_the_port_or_spins(stage, error, caplog):
    stage.observe()
    port = stage.listen()
    stage.faults.fail("accept", error)
    stage.call()
    stage.go()
    stage.call()
    stage.go()
    assert "made" in port.factory.told
    assert len(caplog.records) == 1
    paused = [details for step, details in stage.steps if step == "accept paused"]
    assert paused[0]["errno"] == error


def test_a_queue_that_is_empty_after_all_is_no_error(stage, caplog):
    port = stage.listen()
    stage.faults.fail("accept", errno.EAGAIN)
    stage.call()
    stage.go()
    assert "made" in port.factory.told
    assert caplog.records == []


def test_A5_its_rest_doubles_up_to_a_second_and_is_forgotten_after_a_success(stage):
    stage.observe()
    port = stage.listen()
    stage.faults.fail("accept", errno.ENOBUFS, times=None)
    stage.call()
    stage.go(5)
    rests = [details["seconds"] for step, details in stage.steps if step == "accept paused"]
    assert rests == [min(_REST_FIRST * 2**place, _REST_MOST) for place in range(len(rests))]
    assert rests[-1] == _REST_MOST
    stage.faults.clear()
    stage.call()
    stage.go(3)
    assert port._rest == 0.0


def test_A1_who_waits_while_no_descriptor_is_left_is_turned_away_by_a_close(stage):
    port = stage.listen()
    stage.near.descriptorLimit = max(stage.near.descriptors.files) + 1
    sock = stage.call()
    stage.go()
    assert how_it_ended(sock) == "FIN"
    assert port.factory.told == ["start"]
    assert port._reserve is not None
    stage.near.descriptorLimit = 1000
    stage.call()
    stage.go()
    assert port.factory.told[-1] == "made"


def test_A1_of_a_crowd_without_descriptors_so_many_are_turned_away_at_once(stage):
    stage.listen()
    stage.near.descriptorLimit = max(stage.near.descriptors.files) + 1
    crowd = [stage.call() for _ in range(_BURST_MOST + 10)]
    stage.go()
    assert [how_it_ended(sock) for sock in crowd] == ["FIN"] * len(crowd)


def test_A1_a_reserve_that_was_stolen_is_taken_back_as_soon_as_there_is_one(stage):
    port = stage.listen()
    stage.faults.fail("accept", errno.EMFILE, times=3)
    stage.faults.fail("open_reserve", errno.EMFILE, times=2)
    stage.call()
    stage.go()
    assert port.factory.told[-1] == "made"
    assert port._reserve is not None


def test_F6_one_trouble_is_told_once_a_minute(stage, caplog):
    stage.listen()
    stage.faults.fail("accept", errno.ENOBUFS, times=None)
    stage.call()
    stage.go(2.5 * _LOG_INTERVAL)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert "accept failed" in caplog.records[0].getMessage()
    assert "resting 0.005 s" in caplog.records[0].getMessage()


def test_a_poller_that_will_not_take_it_back_makes_it_rest_longer(stage):
    port = stage.listen()
    stage.faults.fail("accept", errno.ENOBUFS)
    stage.faults.fail("register", errno.ENOSPC, times=2)
    stage.call()
    stage.go()
    assert port.factory.told[-1] == "made"


def test_A5_paused_and_resumed_while_it_rests_it_goes_on_resting(stage):
    port = stage.listen()
    stage.faults.fail("accept", errno.ENOBUFS, times=None)
    stage.call()
    stage.go(5)
    (resting,) = stage.reactor.getDelayedCalls()
    asked = stage.faults.given
    for _ in range(30):
        port.pauseProducing()
        port.resumeProducing()
        stage.reactor.iterate(0)
    assert stage.reactor.getDelayedCalls() == [resting]
    assert stage.faults.given == asked


@pytest.mark.parametrize("how", ["stopListening", "shutdown"])
def test_stopping_while_it_rests_leaves_nothing(stage, how):
    port = stage.listen()
    stage.faults.fail("accept", errno.ENOBUFS, times=None)
    stage.call()
    stage.go(0.05)
    assert port._rest_timer is not None
    if how == "stopListening":
        port.stopListening()
        assert stage.reactor.getDelayedCalls() == []
    else:
        stage.reactor.stop()
    stage.go()
    assert port.factory.told == ["start", "stop"]
    assert stage.reactor.getDelayedCalls() == []


def test_a_user_who_cancels_every_timer_does_not_break_stopping(stage):
    port = stage.listen()
    stage.faults.fail("accept", errno.ENOBUFS, times=None)
    stage.call()
    stage.go(0.05)
    for call in stage.reactor.getDelayedCalls():
        call.cancel()
    port.stopListening()
    stage.go()
    assert port.factory.told == ["start", "stop"]


# ---- stopping -------------------------------------------------------------------------------------------------------


def test_stopping_is_told_by_a_Deferred_once_all_is_given_back(stage):
    stage.observe()
    port = stage.listen()
    found = results(port.stopListening())
    assert found == []
    assert port.factory.told == ["start"]
    stage.go()
    assert found == [None]
    assert port.factory.told == ["start", "stop"]
    assert (port.connected, port.fileno()) == (False, -1)
    assert stage.steps[-1][0] == "stopped listening"
    assert repr(port) in ("<Port Server not listening>", f"<Port Server closed on 0.0.0.0:{PORT}>")


def test_each_who_asks_for_the_stop_is_told_of_it_whatever_the_others_do(stage):
    port = stage.listen()
    changed = port.stopListening().addCallback(lambda _: "changed")
    cancelled = port.stopListening()
    found = results(port.stopListening())
    cancelled.addErrback(lambda reason: None)
    cancelled.cancel()
    stage.go()
    assert (found, results(changed)) == ([None], ["changed"])
    assert port.factory.told == ["start", "stop"]


def test_from_the_moment_it_is_asked_to_stop_nobody_is_accepted(stage):
    port = stage.listen()
    stage.call()
    stage.go(0.015)
    port.stopListening()
    stage.go()
    assert "build" not in port.factory.told


def test_stopping_what_does_not_listen_is_done_at_once(stage):
    port = stage.listen()
    port.stopListening()
    stage.go()
    assert results(port.stopListening()) == [None]
    assert results(port.loseConnection()) == [None]


def test_connections_that_were_accepted_stay(stage):
    port = stage.listen()
    sock = stage.call()
    stage.go()
    port.stopListening()
    stage.go()
    port.factory.protocols[0].transport.write(b"still here")
    stage.go()
    assert sock.recv(99) == b"still here"


def test_it_can_listen_again_with_the_number_it_was_asked_for(stage):
    port = stage.listen()
    port.stopListening()
    stage.go()
    port.startListening()
    stage.call()
    stage.go()
    assert port.factory.told == ["start", "stop", "start", "build", "made"]


def test_it_may_listen_again_from_within_the_end(stage):
    port = stage.listen()
    port.stopListening().addCallback(lambda _: port.startListening())
    stage.go()
    assert port.connected
    assert port.factory.told == ["start", "stop", "start"]


def test_the_reactor_s_shutdown_ends_it_and_fires_what_waits(stage):
    port = stage.listen()
    stage.go()
    stopped = port.stopListening()
    stage.reactor.stop()
    stage.go()
    assert results(stopped) == [None]
    assert port.factory.told == ["start", "stop"]


def test_a_shutdown_that_overtakes_stopping_stops_the_factory_once(stage):
    port = stage.listen()
    stopped = port.stopListening()
    stage.reactor._core.shut_down()
    stage.go()
    assert results(stopped) == [None]
    assert port.factory.told == ["start", "stop"]


def test_what_stopFactory_raises_is_logged_and_the_Deferred_fires(stage, caplog):
    port = stage.listen(factory=Server(stop=raising()))
    stopped = port.stopListening()
    stage.go()
    assert results(stopped) == [None]
    assert len(caplog.records) == 1


def test_a_descriptor_closed_behind_our_back_does_not_keep_it_from_stopping(stage):
    port = stage.listen()
    sock = port.sock
    real_close = sock.close

    class Gone:
        def __getattr__(self, name):
            return getattr(sock, name)

        def close(self):
            real_close()
            raise OSError(errno.EBADF, "closed already")

    port.sock = Gone()
    stopped = port.stopListening()
    stage.go()
    assert results(stopped) == [None]
    assert port.factory.told == ["start", "stop"]


def test_startFactory_may_stop_it(stage):
    factory = Server()
    stopped = []

    def stop():
        port = next(each for each in stage.reactor._loop.watchers.values() if hasattr(each, "stopListening"))
        port.stopListening().addCallback(stopped.append)

    factory.acts["start"] = stop
    port = stage.listen(factory=factory)
    stage.go()
    assert stopped == [None]
    assert not port.connected
    assert factory.told == ["start", "stop"]


def test_startFactory_that_stops_it_and_raises_leaves_nothing(stage):
    factory = Server()

    def stop():
        port = next(each for each in stage.reactor._loop.watchers.values() if hasattr(each, "stopListening"))
        port.stopListening()
        raise ValueError("on purpose")

    factory.acts["start"] = stop
    with pytest.raises(ValueError, match="on purpose"):
        stage.listen(factory=factory)
    stage.go()
    assert factory.numPorts == 0


def test_before_it_listens_it_has_no_address(stage):
    from ropewalk._net.listen import Port
    from ropewalk._net.options import DEFAULT_OPTIONS

    port = Port(stage.reactor._core, PORT, Server(), None, "", DEFAULT_OPTIONS)
    assert (port.getHost(), port.port, port.fileno(), port.connected) == (None, PORT, -1, False)
    assert repr(port) == "<Port Server not listening>"
    port.shut_down()
    assert port.factory.told == []


# ---- paused by the user ---------------------------------------------------------------------------------------------


def test_a_paused_port_accepts_nothing_until_it_is_resumed() -> None:
    sim, server, client = two_hosts()
    log = Log(sim)
    serves = Serves(log)
    port = server.reactor.listenTCP(7, serves)
    sim.run(until=sim.now + 1)
    port.pauseProducing()
    port.pauseProducing()
    clients = [Calls(Log(sim)) for _ in range(3)]
    for each in clients:
        client.reactor.connectTCP("server", 7, each)
    sim.run(until=sim.now + 10)
    assert serves.talkers == []
    assert all(each.talker.transport.connected for each in clients), "they wait in the kernel's queue"
    port.resumeProducing()
    port.resumeProducing()
    sim.run(until=sim.now + 1)
    assert len(serves.talkers) == 3


def test_a_port_that_pauses_itself_in_the_middle_of_a_burst_takes_no_more() -> None:
    sim, server, client = two_hosts()

    class Shy(Serves):
        def buildProtocol(self, addr: object) -> Talker:
            port.pauseProducing()
            return super().buildProtocol(addr)

    serves = Shy(Log(sim))
    port = server.reactor.listenTCP(7, serves)
    for _ in range(5):
        client.reactor.connectTCP("server", 7, Calls(Log(sim)))
    sim.run(until=sim.now + 10)
    assert len(serves.talkers) == 1
    for count in (2, 3):
        port.resumeProducing()
        sim.run(until=sim.now + 1)
        assert len(serves.talkers) == count


def test_a_rest_that_ends_while_it_is_paused_does_not_resume_it() -> None:
    sim, server, client = two_hosts()
    serves = Serves(Log(sim))
    port = server.reactor.listenTCP(7, serves)
    server.faults.fail("accept", errno.ENOBUFS, times=1)
    client.reactor.connectTCP("server", 7, Calls(Log(sim)))
    sim.run(until=lambda: server.faults.given != {})
    port.pauseProducing()
    sim.run(until=sim.now + 30)
    assert serves.talkers == []
    port.resumeProducing()
    sim.run(until=sim.now + 1)
    assert len(serves.talkers) == 1


@pytest.mark.parametrize("how", ["stopListening", "shutdown"])
def test_a_paused_port_is_stopped_as_any_other_and_begins_unpaused(how: str) -> None:
    sim, server, client = two_hosts()
    serves = Serves(Log(sim))
    port = server.reactor.listenTCP(7, serves)
    port.pauseProducing()
    if how == "shutdown":
        sim.run(until=sim.now + 1)
        server.reactor.stop()
    else:
        port.stopListening()
    sim.runUntilIdle()
    sim.checkAtRest()
    port.pauseProducing()
    port.resumeProducing()
    server.start()
    port.startListening()
    client.reactor.connectTCP("server", 7, Calls(Log(sim)))
    sim.run(until=sim.now + 1)
    assert len(serves.talkers) == 1
