"""The front desk, over the simulated kernel: what it hands on, what it refuses, and that closing gives everything back."""

from __future__ import annotations

import errno
import socket

import pytest

import ropewalk
from ropewalk import ClientFactory, Deferred, Factory, IPv4Address, Reactor, task
from ropewalk.engine import checked_bind
from ropewalk.error import (
    ConnectionDone,
    ConnectionLost,
    DNSLookupError,
    ReactorAlreadyRunning,
    ReactorNotRunning,
    ServiceNameUnknownError,
)
from ropewalk.simulation import Simulation
from tests.rooms.test_descriptor import Selectable
from tests.rooms.test_listen import results
from tests.rooms.test_loop import in_a_thread, raising


class Silent(ClientFactory):
    noisy = False


class Told(ropewalk.Protocol):
    def connectionLost(self, reason):
        raise AssertionError("a child tells nobody")


class Stage:
    def __init__(self):
        self.sim = Simulation(9)
        self.sim._driver.spin_limit = 3000
        self.near, self.far = self.sim.host("near"), self.sim.host("far")
        self.reactor = self.near.reactor
        self.told = []

    def go(self, seconds=1.0):
        self.sim.advance(seconds)


@pytest.fixture
def stage():
    stage = Stage()
    yield stage
    stage.sim.close()
    stage.sim.runUntilIdle()
    stage.sim.checkAtRest()


@pytest.fixture
def reactor(stage):
    return stage.reactor


# ---- running --------------------------------------------------------------------------------------------------------


def test_it_tells_whether_it_runs_and_with_what(reactor):
    assert not reactor.running
    assert repr(reactor) == "<Reactor stopped, simulated>"
    assert reactor.poller == "simulated"
    reactor.startRunning()
    assert reactor.running
    assert repr(reactor) == "<Reactor running, simulated>"


def test_it_runs_until_it_is_stopped_and_again(stage, reactor):
    for _ in range(2):
        reactor.callWhenRunning(stage.told.append, "running")
        reactor.callLater(3, reactor.stop)
        reactor.run(installSignalHandlers=False)
    assert stage.told == ["running"] * 2
    assert reactor.seconds() == 1006


def test_it_cannot_run_twice_nor_be_stopped_when_it_does_not(reactor):
    with pytest.raises(ReactorNotRunning):
        reactor.stop()
    reactor.startRunning()
    with pytest.raises(ReactorAlreadyRunning):
        reactor.run(installSignalHandlers=False)
    reactor.crash()
    assert not reactor.running


def test_starting_what_runs_is_refused_with_the_word_for_it(reactor):
    reactor.startRunning()
    with pytest.raises(ReactorAlreadyRunning):
        reactor.startRunning()


def test_callWhenRunning_calls_at_once_when_it_runs(stage, reactor):
    reactor.startRunning()
    assert reactor.callWhenRunning(lambda *args, **kw: stage.told.append((args, kw)), 1, two=2) is None
    assert stage.told == [((1,), {"two": 2})]


def test_callWhenRunning_can_be_taken_back_before(stage, reactor):
    trigger = reactor.callWhenRunning(stage.told.append, "no")
    reactor.removeSystemEventTrigger(trigger)
    reactor.startRunning()
    assert stage.told == []


def test_events_of_one_s_own_are_fired_by_name_and_what_they_raise_is_logged(stage, reactor, caplog):
    reactor.addSystemEventTrigger("during", "mine", raising())
    reactor.addSystemEventTrigger("after", "mine", stage.told.append, "after")
    reactor.fireSystemEvent("mine")
    assert stage.told == ["after"]
    assert "the trigger" in caplog.records[0].getMessage()


def test_SystemExit_in_a_trigger_leaves_run(reactor):
    reactor.addSystemEventTrigger("after", "startup", raising(SystemExit))
    with pytest.raises(SystemExit):
        reactor.run(installSignalHandlers=False)
    assert not reactor.running


def test_one_turn_at_a_time(stage, reactor):
    reactor.callFromThread(stage.told.append, "call")
    reactor.iterate()
    assert stage.told == ["call"]
    reactor.callLater(5, stage.told.append, "timer")
    reactor.iterate(5)
    reactor.iterate()
    assert stage.told == ["call", "timer"]
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError):
            reactor.iterate(wrong)


def test_closed_it_is_stopped_and_says_so_whatever_is_asked(stage, reactor):
    reactor.startRunning()
    port = reactor.listenTCP(7, Factory())
    reactor.close()
    assert not reactor.running
    assert not port.connected
    stage.sim.checkAtRest()
    for ask in (
        reactor.iterate,
        reactor.startRunning,
        lambda: reactor.listenTCP(7, Silent()),
        lambda: reactor.callInThread(int),
        lambda: reactor.addSystemEventTrigger("during", "shutdown", int),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            ask()
    reactor.close()


def test_it_cannot_be_closed_from_within_its_own_callbacks(stage, reactor):
    def close():
        with pytest.raises(RuntimeError, match="being run; stop it"):
            reactor.close()
        stage.told.append("refused")

    reactor.callLater(0, close)
    stage.go()
    assert stage.told == ["refused"]


def test_a_with_statement_closes_it(stage):
    with Reactor(system=stage.near.system) as reactor:
        reactor.listenTCP(7, Silent())
    stage.sim.checkAtRest()


def test_a_poller_that_does_not_exist_is_refused_by_name(stage):
    with pytest.raises(ValueError, match="no poller 'tarot'"):
        Reactor(poller="tarot", system=stage.near.system)


@pytest.mark.parametrize(
    ("call", "error"), [("poller", errno.EMFILE), ("socket_pair", errno.ENFILE), ("register", errno.ENOSPC)]
)
def test_a_reactor_for_which_no_descriptor_is_left_is_not_made_and_leaves_nothing(stage, call, error):
    before = stage.near.ledger().descriptors
    stage.near.faults.fail(call, error)
    with pytest.raises(OSError) as raised:
        Reactor(system=stage.near.system)
    assert raised.value.errno == error
    assert stage.near.ledger().descriptors == before


# ---- what connecting and listening refuse ---------------------------------------------------------------------------


def connects(reactor, **how):
    return reactor.connectTCP(**{"host": "far", "port": 7, "factory": Silent(), **how})


def listens(reactor, **how):
    return reactor.listenTCP(**{"port": 7, "factory": Silent(), **how})


@pytest.mark.parametrize("ask", [connects, listens])
@pytest.mark.parametrize(
    ("port", "kind"),
    [
        (-1, ValueError),
        (65536, ValueError),
        (None, TypeError),
        (1.5, TypeError),
        (True, TypeError),
        ("ehco", ServiceNameUnknownError),
    ],
)
def test_a_port_that_is_none_is_refused_at_once(reactor, ask, port, kind):
    with pytest.raises(kind):
        ask(reactor, port=port)


def test_a_service_is_asked_for_by_name(stage, reactor):
    stage.sim.service("mine", 77)
    assert connects(reactor, port="mine").port == 77
    assert listens(reactor, port="mine").port == 77


@pytest.mark.parametrize(("host", "kind"), [(None, TypeError), (7, TypeError), ("a\0b", ValueError)])
def test_a_host_that_is_none_is_refused_at_once(reactor, host, kind):
    with pytest.raises(kind):
        connects(reactor, host=host)
    with pytest.raises(kind):
        listens(reactor, interface=host)


def test_a_host_may_be_bytes(reactor):
    assert connects(reactor, host=b"far").host == "far"


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "30"])
def test_a_timeout_that_is_none_is_refused_at_once_and_nothing_is_begun(stage, reactor, timeout):
    factory = Silent()
    with pytest.raises((ValueError, TypeError)):
        connects(reactor, timeout=timeout, factory=factory)
    assert factory.numPorts == 0
    stage.go()


@pytest.mark.parametrize(
    ("bind", "kind"),
    [
        ("10.0.0.1", TypeError),
        (["10.0.0.1", 0], TypeError),
        (("10.0.0.1",), TypeError),
        (("10.0.0.1", "0"), ValueError),
        (("10.0.0.1", 65536), ValueError),
        (("10.0.0.1", -1), ValueError),
        ((None, 0), TypeError),
    ],
)
def test_a_bindAddress_that_is_none_is_refused_at_once(reactor, bind, kind):
    with pytest.raises(kind):
        connects(reactor, bindAddress=bind)


def test_a_bindAddress_is_host_and_port(reactor):
    assert checked_bind((b"10.0.0.1", 5)) == ("10.0.0.1", 5)
    assert connects(reactor, bindAddress=("10.0.0.1", 0)).bindAddress == ("10.0.0.1", 0)


@pytest.mark.parametrize("backlog", [-1, 1.5, "5"])
def test_a_backlog_that_is_none_is_refused_at_once(reactor, backlog):
    with pytest.raises(ValueError, match="backlog must be a whole number"):
        listens(reactor, backlog=backlog)


def test_a_wrong_thread_is_told_whatever_it_asked(stage, reactor):
    asks = [
        lambda: connects(reactor),
        lambda: listens(reactor),
        lambda: reactor.callLater(1, list),
        lambda: reactor.stop(),
        lambda: reactor.iterate(),
        lambda: reactor.addReader(Selectable(stage)),
        lambda: reactor.addWriter(Selectable(stage)),
        lambda: reactor.removeReader(Selectable(stage)),
        lambda: reactor.removeWriter(Selectable(stage)),
        lambda: reactor.removeAll(),
        lambda: reactor.addSystemEventTrigger("during", "shutdown", int),
        lambda: reactor.removeSystemEventTrigger(trigger),
        lambda: reactor.suggestThreadPoolSize(3),
        lambda: reactor.resolve("127.0.0.1"),
        lambda: reactor.installResolver(object()),
        lambda: reactor.installNameResolver(object()),
        lambda: resolver.resolveHostName(Receiver(), "name"),
    ]

    class Receiver:
        def resolutionBegan(self, resolution): ...

    trigger = reactor.addSystemEventTrigger("during", "shutdown", int)
    resolver = reactor.nameResolver
    refusals = []
    reactor.callFromThread(lambda: refusals.extend(in_a_thread(ask) for ask in asks))
    stage.go()
    assert [type(each) for each in refusals] == [RuntimeError] * len(asks)
    assert reactor.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("ask", "factory"),
    [
        (connects, object()),
        (connects, Silent),
        (connects, Factory()),
        (listens, object()),
        (listens, Silent),
        (listens, None),
    ],
)
def test_what_is_no_factory_is_refused_at_once(stage, reactor, ask, factory):
    with pytest.raises(TypeError, match="factory must be a"):
        ask(reactor, factory=factory)
    stage.go()


@pytest.mark.parametrize("ask", [connects, listens])
def test_options_are_TCPOptions(reactor, ask):
    with pytest.raises(TypeError, match="options must be a TCPOptions"):
        ask(reactor, options={"noDelay": True})


# ---- forks ----------------------------------------------------------------------------------------------------------


def test_E8_in_a_forked_child_every_descriptor_is_given_up_and_nobody_is_told(stage, reactor):
    far = stage.far.reactor.listenTCP(7, Silent.forProtocol(ropewalk.Protocol))
    stage.sim.route("10.0.0.77", lost=True)
    stage.sim.name("never.example", never=True)
    hosts = ("far", "10.0.0.77", "never.example")
    connectors = [connects(reactor, host=host, factory=Silent.forProtocol(Told)) for host in hosts]
    ports = [listens(reactor, port=port) for port in (7, 8)]
    stage.go()
    ports[1]._take_rest(OSError(errno.ENOBUFS, "no buffers"))
    assert len(stage.near.ledger().descriptors) == 3 + 2 + 2 * 2
    reactor._loop.disown()
    assert stage.near.ledger().descriptors == {}
    assert [each.state for each in connectors] == ["connected", "disconnected", "disconnected"]
    for ask in (
        lambda: reactor.run(installSignalHandlers=False),
        reactor.iterate,
        reactor.crash,
        reactor.getThreadPool,
        reactor.startRunning,
        lambda: reactor.callInThread(int),
        lambda: reactor.suggestThreadPoolSize(3),
        lambda: reactor.addSystemEventTrigger("during", "shutdown", int),
        lambda: reactor.resolve("127.0.0.1"),
        lambda: connects(reactor),
        lambda: reactor.callFromThread(list),
    ):
        with pytest.raises(RuntimeError, match="make a new Reactor"):
            ask()
    reactor.close()
    far.stopListening()


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "answer"), [("", "0.0.0.0"), ("192.0.2.1", "192.0.2.1")])
def test_what_needs_no_look_up_is_answered_at_once(reactor, name, answer):
    assert results(reactor.resolve(name)) == [answer]


def test_a_name_is_resolved_to_its_first_IPv4_address(stage, reactor):
    stage.sim.name("both.example", ["fd00::9", "192.0.2.9", "192.0.2.8"])
    found = results(reactor.resolve("both.example"))
    assert found == []
    stage.go()
    assert found == ["192.0.2.9"]
    assert reactor.getDelayedCalls() == []


@pytest.mark.parametrize("name", ["no.such.example", "only6.example"])
def test_a_name_without_such_an_address_is_a_DNSLookupError(stage, reactor, name):
    stage.sim.name("only6.example", ["fd00::9"])
    answer = reactor.resolve(name)
    stage.go()
    assert isinstance(results(answer)[0].value, DNSLookupError)


@pytest.mark.parametrize("timeout", [3, (1, 2)])
def test_a_look_up_that_takes_too_long_is_given_up(stage, reactor, timeout):
    stage.sim.name("never.example", never=True)
    found = results(reactor.resolve("never.example", timeout))
    stage.go(2.9)
    assert found == []
    stage.go(0.2)
    (failure,) = found
    assert isinstance(failure.value, DNSLookupError)
    assert failure.value.temporary


def test_a_look_up_can_be_cancelled(stage, reactor):
    stage.sim.name("never.example", never=True)
    answer = reactor.resolve("never.example", 3)
    answer.cancel()
    assert reactor.getDelayedCalls() == []
    assert "Cancelled" in type(results(answer)[0].value).__name__
    stage.go(10)
    assert reactor.getDelayedCalls() == []


def test_a_user_who_cancels_every_timer_does_not_break_a_look_up(stage, reactor):
    stage.sim.name("slow.example", ["192.0.2.9"], delay=1)
    answers = [reactor.resolve("slow.example"), reactor.resolve("slow.example")]
    for call in reactor.getDelayedCalls():
        call.cancel()
    answers[1].cancel()
    stage.go(2)
    assert results(answers[0]) == ["192.0.2.9"]
    assert len(results(answers[1])) == 1


def test_a_resolver_that_raises_at_once_is_a_failed_look_up(stage, reactor):
    class Bad:
        resolveHostName = staticmethod(raising())

    reactor.installNameResolver(Bad())
    (failure,) = results(reactor.resolve("name"))
    assert isinstance(failure.value, DNSLookupError)
    assert reactor.getDelayedCalls() == []


class FakeResolver:
    def resolveHostName(self, receiver, name, port=0, types=None, semantics="TCP"):
        receiver.resolutionBegan(self)
        receiver.addressResolved(IPv4Address("TCP", "192.0.2.5", port))
        receiver.resolutionComplete()


def test_a_resolver_of_the_user_s_serves_all_names_and_gives_way_again(stage, reactor):
    stage.sim.name("name", ["192.0.2.9"])
    mine = FakeResolver()
    first = reactor.installNameResolver(mine)
    answer = reactor.resolve("name")
    stage.go()
    assert results(answer) == ["192.0.2.5"]
    assert reactor.installNameResolver(first) is mine
    answer = reactor.resolve("name")
    stage.go()
    assert results(answer) == ["192.0.2.9"]


def test_a_simple_resolver_of_the_user_s_serves_all_names(stage, reactor):
    class Simple:
        def getHostByName(self, name):
            answer = ropewalk.Deferred()
            answer.callback("192.0.2.6")
            return answer

    reactor.installResolver(Simple())
    answer = reactor.resolve("name")
    stage.go()
    assert results(answer) == ["192.0.2.6"]
    before = reactor.installNameResolver(FakeResolver())
    told = []

    class Receiver:
        def resolutionBegan(self, resolution): ...

        def addressResolved(self, address):
            told.append(address.host)

        def resolutionComplete(self):
            told.append("complete")

    before.resolveHostName(Receiver(), "name")
    stage.go()
    assert told == ["192.0.2.6", "complete"]


def test_a_user_looks_names_up_as_connectTCP_does(stage, reactor):
    stage.sim.name("name", ["192.0.2.9"])
    told = []

    class Receiver:
        def resolutionBegan(self, resolution): ...

        def addressResolved(self, address):
            told.append(address)

        def resolutionComplete(self):
            told.append("complete")

    reactor.nameResolver.resolveHostName(Receiver(), "name", 80)
    stage.go()
    assert told == [IPv4Address("TCP", "192.0.2.9", 80), "complete"]


# ---- time and threads -----------------------------------------------------------------------------------------------


def test_a_call_is_made_later_with_its_arguments(stage, reactor):
    call = reactor.callLater(5, lambda *args, **kw: stage.told.append((args, kw)), 1, two=2)
    assert reactor.getDelayedCalls() == [call]
    stage.go(6)
    assert stage.told == [((1,), {"two": 2})]
    assert reactor.getDelayedCalls() == []


def test_what_cannot_be_called_is_refused_when_it_is_asked_for(reactor):
    for wrong in (None, "call me"):
        with pytest.raises(TypeError, match="needs a callable"):
            reactor.callLater(1, wrong)
        with pytest.raises(TypeError, match="callFromThread needs a callable"):
            reactor.callFromThread(wrong)
    assert not reactor._loop.has_work()


def test_it_knows_whether_this_is_its_thread(stage, reactor):
    def ask():
        stage.told.append(reactor.isReactorThread())

    ask()
    reactor.callFromThread(ask)
    reactor.callFromThread(in_a_thread, ask)
    stage.go()
    assert stage.told == [False, True, False]


def test_a_closed_reactor_takes_no_calls_from_threads(reactor):
    reactor.close()
    with pytest.raises(RuntimeError, match="closed"):
        reactor.callFromThread(list)


def test_threads_are_made_at_first_use_as_many_as_suggested_and_stopped_with_the_reactor(stage, reactor):
    with pytest.raises(ValueError):
        reactor.suggestThreadPoolSize(0)
    reactor.suggestThreadPoolSize(3)
    assert reactor.getThreadPool()._executor is None
    reactor.startRunning()
    pool = reactor.getThreadPool()
    assert pool.max == 3
    assert reactor.getThreadPool() is pool
    reactor.suggestThreadPoolSize(4)
    assert pool.max == 4
    reactor.callInThread(stage.told.append, "job")
    reactor.stop()
    stage.go(0)
    assert stage.told == ["job"]
    assert reactor._pool is None
    assert reactor.getThreadPool().max == 4


def test_stopping_without_a_pool_makes_none(stage, reactor):
    reactor.startRunning()
    reactor._stop_pool()
    assert reactor._pool is None


# ---- descriptors ----------------------------------------------------------------------------------------------------


def test_a_user_s_descriptor_is_told_of_the_end_in_the_words_of_the_border(stage, reactor):
    class Brought(Selectable):
        def connectionLost(self, reason):
            stage.told.append(reason.value)

    # A socket that is nothing yet is writable and hung up; one that listens waits for ever.
    for is_hung_up in (True, False):
        sock = stage.near.system.socket(socket.AF_INET)
        if not is_hung_up:
            sock.listen()
        it = Brought(stage, sock.fileno())
        reactor.addReader(it)
        reactor.addWriter(it)
        assert reactor.getReaders() == reactor.getWriters() == [it]
        stage.go(0)
        if not is_hung_up:
            reactor.stop()
            stage.go(0)
        assert reactor.getReaders() == []
        sock.close()
    assert [type(each) for each in stage.told] == [ConnectionDone, ConnectionLost]


def test_what_connectionLost_of_a_descriptor_raises_is_logged(stage, reactor, caplog):
    class Brought(Selectable):
        connectionLost = raising()

    sock = stage.near.system.socket(socket.AF_INET)
    it = Brought(stage, sock.fileno())
    reactor.addReader(it)
    stage.go(0)
    assert len(caplog.records) == 1
    assert reactor.removeAll() == []
    sock.close()


def test_descriptors_are_taken_back_one_by_one_or_all(stage, reactor):
    sock = stage.near.system.socket(socket.AF_INET)
    it = Selectable(stage, sock.fileno())
    reactor.addReader(it)
    reactor.addWriter(it)
    reactor.removeReader(it)
    assert (reactor.getReaders(), reactor.getWriters()) == ([], [it])
    reactor.removeWriter(it)
    reactor.addReader(it)
    assert reactor.removeAll() == [it]
    sock.close()


def test_what_names_no_reactor_means_the_one_that_runs_here_be_it_one_of_many(stage, reactor):
    """Two hosts have each a reactor of their own, turned in turns in this one thread."""

    async def nap(reactor):
        await task.sleep(0.25)
        stage.told.append((task.currentReactor() is reactor, reactor.seconds() - stage.sim.now))

    for each in (reactor, stage.far.reactor):
        each.callLater(0, lambda each=each: Deferred.fromCoroutine(nap(each)))
    stage.go()
    assert stage.told == [(True, 0.0), (True, 0.0)]
    assert task.currentReactor() is ropewalk.reactor


def test_turned_from_within_another_the_inner_one_is_meant(stage, reactor):
    inner = stage.far.reactor

    def outer():
        stage.told.append(task.currentReactor() is reactor)
        inner.callLater(0, lambda: stage.told.append(task.currentReactor() is inner))
        inner.iterate()
        stage.told.append(task.currentReactor() is reactor)

    reactor.callLater(0, outer)
    stage.go()
    assert stage.told == [True, True, True]
