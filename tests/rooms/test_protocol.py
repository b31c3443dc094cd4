"""protocol.py alone: no sockets, no reactor; a connector and a clock made here."""

from __future__ import annotations

import copy
import gc
import inspect
import logging
import math
import pickle
import random
import tracemalloc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.error import ConnectionDone, ConnectionLost, NotConnectingError
from ropewalk.event import Ended, EndedBy
from ropewalk.failure import Failure
from ropewalk.protocol import (
    ClientFactory,
    Factory,
    Protocol,
    ReconnectingClientFactory,
    ServerFactory,
)


class Call:
    def __init__(self, due, function):
        self.due = due
        self.function = function
        self.over = False

    def cancel(self):
        assert not self.over, "cancelled after it had run or been cancelled"
        self.over = True


class Clock:
    """callLater and system events, as far as a wait needs them."""

    def __init__(self):
        self.now = 0.0
        self.calls = []
        self.triggers = []

    def callLater(self, seconds, function):
        assert seconds >= 0
        self.calls.append(Call(self.now + seconds, function))
        return self.calls[-1]

    def addSystemEventTrigger(self, phase, event, function):
        assert (phase, event) == ("after", "shutdown")
        self.triggers.append(function)
        return function

    def removeSystemEventTrigger(self, trigger):
        self.triggers.remove(trigger)

    def waiting(self):
        return [call for call in self.calls if not call.over]

    def run_next(self):
        """Let the next call come due; returns how long it had to be waited for."""
        call = min(self.waiting(), key=lambda each: each.due)
        waited, self.now = call.due - self.now, call.due
        call.over = True
        call.function()
        return waited

    def shut_down(self):
        while self.triggers:
            self.triggers.pop(0)()


class Connector:
    """States and claims on the factory, as CONTRACT sections 1 and 2 have them."""

    def __init__(self, factory, reactor):
        self.factory = factory
        self.reactor = reactor
        self.state = "disconnected"
        self.connects = 0
        self.ended = None
        self.holds = False

    def connect(self):
        if self.state != "disconnected":
            raise RuntimeError("can't connect in this state")
        self.state = "connecting"
        if not self.holds:
            self.holds = True
            self.factory.doStart()
        self.connects += 1
        self.factory.startedConnecting(self)

    def stopConnecting(self):
        if self.state != "connecting":
            raise NotConnectingError
        self.fail(ConnectionLost("stopped"))

    def succeed(self):
        self.state = "connected"
        return self.factory.buildProtocol(None)

    def fail(self, reason=None):
        assert self.state == "connecting"
        self.state = "disconnected"
        self.factory.clientConnectionFailed(self, Failure(reason or ConnectionLost("refused")))
        self.rest()

    def lose(self, seconds=None):
        assert self.state == "connected"
        self.state = "disconnected"
        self.ended = None if seconds is None else Ended(EndedBy.PEER, seconds, 0, 0)
        self.factory.clientConnectionLost(self, Failure(ConnectionDone()))
        self.rest()

    def rest(self):
        if self.state == "disconnected" and self.holds:
            self.holds = False
            self.factory.doStop()


class Told:
    """Put in front of a factory class: notes starts and stops."""

    def startFactory(self):
        self.__dict__.setdefault("told", []).append("start")

    def stopFactory(self):
        self.told.append("stop")


class Plain(Told, Factory):
    pass


class Again(Told, ReconnectingClientFactory):
    protocol = Protocol
    noisy = False
    jitter = 0


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def again(clock):
    """A reconnecting factory and its connector, first attempt under way."""
    connector = Connector(Again(), clock)
    connector.connect()
    return connector


# ---- Protocol -----------------------------------------------------------------------------------------------------


def test_makeConnection_sets_the_transport_before_connectionMade_is_called():
    seen = []

    class Greeter(Protocol):
        def connectionMade(self):
            seen.append((self.transport, self.connected))

    transport = object()
    Greeter().makeConnection(transport)
    assert seen == [(transport, True)]


def test_a_new_protocol_has_no_transport_no_factory_and_is_not_connected():
    fresh = Protocol()
    assert (fresh.transport, fresh.factory, fresh.connected) == (None, None, False)


def test_a_protocol_that_overrides_nothing_takes_every_call():
    idle = Protocol()
    idle.makeConnection(object())
    idle.dataReceived(b"x")
    idle.connectionLost(Failure(ConnectionDone()))
    assert idle.connected, "as in Twisted, it stays what it was"


def test_a_subclass_need_not_call_our_constructor():
    class Own(Protocol):
        def __init__(self, word):
            self.word = word

    assert Factory.forProtocol(lambda: Own("x")).buildProtocol(None).word == "x"


def test_logPrefix_is_the_name_of_the_subclass():
    class Chat(Protocol):
        pass

    class ChatFactory(Factory):
        pass

    assert Chat().logPrefix() == "Chat"
    assert ChatFactory().logPrefix() == "ChatFactory"


def test_an_idle_protocol_takes_less_than_150_bytes():
    class Idle(Protocol):
        pass

    factory = Factory.forProtocol(Idle)
    transport = object()

    def make(many):
        kept = []
        for _ in range(many):
            kept.append(factory.buildProtocol(None))
            # Why at once, as the engine does: CPython lays the attributes of the first instances into the object,
            # and gives every instance a dictionary if a name comes up only after some thirty were made.
            kept[-1].makeConnection(transport)
        return kept

    make(100)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = make(2000)
        each = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    finally:
        tracemalloc.stop()
    assert each < 150


def test_connectionLost_may_be_called_without_a_reason_as_with_Twisted():
    from twisted.internet import protocol as theirs

    from ropewalk import protocol as ours

    class Mine(Protocol):
        def connectionLost(self, reason=ours.connectionDone):
            super().connectionLost()
            self.reason = reason

    mine = Mine()
    mine.connectionLost()
    assert mine.reason.check(ConnectionDone) is ConnectionDone
    for each in (ours, theirs):
        default = inspect.signature(each.Protocol.connectionLost).parameters["reason"].default
        assert default is each.connectionDone
        assert default.type.__name__ == "ConnectionDone"


# ---- Factory ------------------------------------------------------------------------------------------------------


def test_only_the_first_user_starts_a_factory_and_only_the_last_stops_it():
    factory = Plain()
    factory.doStart()
    factory.doStart()
    factory.doStop()
    assert (factory.told, factory.numPorts) == (["start"], 1)
    factory.doStop()
    assert (factory.told, factory.numPorts) == (["start", "stop"], 0)
    factory.doStart()
    assert factory.told == ["start", "stop", "start"]


def test_doStop_of_a_factory_nobody_uses_does_nothing():
    factory = Plain()
    factory.doStop()
    assert factory.numPorts == 0
    assert not hasattr(factory, "told")


def test_startFactory_that_raises_leaves_no_user_behind():
    class Broken(Factory):
        def startFactory(self):
            raise KeyError("no database")

    factory = Broken()
    with pytest.raises(KeyError):
        factory.doStart()
    assert factory.numPorts == 0


def test_stopFactory_that_raises_leaves_the_factory_stopped():
    class Broken(Factory):
        def stopFactory(self):
            raise KeyError("no database")

    factory = Broken()
    factory.doStart()
    with pytest.raises(KeyError):
        factory.doStop()
    assert factory.numPorts == 0
    factory.doStart()
    assert factory.numPorts == 1


def test_startFactory_that_uses_its_own_factory_is_not_started_twice():
    class Listens(Plain):
        def startFactory(self):
            Plain.startFactory(self)
            self.doStart()

    factory = Listens()
    factory.doStart()
    assert (factory.told, factory.numPorts) == (["start"], 2)


def test_buildProtocol_makes_a_protocol_that_knows_its_factory():
    class Echo(Protocol):
        pass

    class EchoFactory(ServerFactory):
        protocol = Echo

    factory = EchoFactory()
    one, two = factory.buildProtocol(None), factory.buildProtocol(None)
    assert type(one) is Echo
    assert one is not two
    assert one.factory is two.factory is factory


def test_buildProtocol_without_a_protocol_says_what_is_missing():
    with pytest.raises(RuntimeError, match="forProtocol"):
        ClientFactory().buildProtocol(None)


@pytest.mark.parametrize("kind", [Factory, ServerFactory, ClientFactory, ReconnectingClientFactory])
def test_forProtocol_makes_a_factory_of_the_class_it_is_called_on(kind):
    factory = kind.forProtocol(Protocol)
    assert type(factory) is kind
    assert factory.protocol is Protocol
    assert kind.protocol is None


def test_forProtocol_hands_its_arguments_to_the_factory():
    class Named(ClientFactory):
        def __init__(self, name, *, size):
            self.given = name, size

    assert Named.forProtocol(Protocol, "x", size=3).given == ("x", 3)


def test_start_and_stop_are_logged_unless_the_factory_is_quiet(caplog):
    caplog.set_level(logging.INFO, "ropewalk")
    factory = Factory()
    factory.doStart()
    factory.doStop()
    assert [record.message.split()[0] for record in caplog.records] == ["Starting", "Stopping"]
    caplog.clear()
    factory.noisy = False
    factory.doStart()
    factory.doStop()
    assert not caplog.records


# ---- ReconnectingClientFactory: the waits ----------------------------------------------------------------------------


def waits(factory, clock, many):
    """The first waits of a factory whose connector always fails."""
    connector = Connector(factory, clock)
    connector.connect()
    found = []
    for _ in range(many):
        connector.fail()
        found.append(clock.run_next())
    connector.fail()
    return found


def test_each_wait_is_longer_by_the_factor_until_the_longest_is_reached(clock):
    factory = Again()
    factory.factor, factory.maxDelay = 2.0, 10.0
    assert waits(factory, clock, 6) == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert factory.retries == 7


def test_initialDelay_holds_for_the_first_wait_too(clock):
    factory = Again()
    factory.initialDelay, factory.factor = 0.25, 2.0
    assert waits(factory, clock, 3) == [0.25, 0.5, 1.0]


def test_delay_may_be_set_by_the_user(clock):
    factory = Again()
    factory.delay, factory.factor = 5.0, 2.0
    assert factory.delay == 5.0
    assert waits(factory, clock, 2) == [5.0, 10.0]


def test_a_subclass_may_set_both_delays_at_once(clock):
    class Five(Again):
        initialDelay = delay = 5.0
        factor = 2.0

    factory = Five()
    assert waits(factory, clock, 3) == [5.0, 10.0, 20.0]
    factory.resetDelay()
    assert factory.delay == Five.delay == 5.0


def test_a_subclass_that_sets_delay_alone_begins_with_it_and_starts_over_with_initialDelay(clock):
    class Five(Again):
        delay = 5.0
        factor = 2.0

    factory = Five()
    assert waits(factory, clock, 2) == [5.0, 10.0]
    factory.resetDelay()
    assert factory.delay == 1.0


def test_an_initial_delay_above_the_longest_is_cut(clock):
    factory = Again()
    factory.initialDelay, factory.maxDelay = 50.0, 3.0
    assert waits(factory, clock, 2) == [3.0, 3.0]


@given(
    seed=st.integers(0, 2**32),
    jitter=st.floats(0, 3),
    longest=st.floats(0.01, 100),
    initial=st.floats(0.001, 200),
)
def test_no_wait_is_ever_negative_or_above_maxDelay(seed, jitter, longest, initial):
    factory = Again()
    factory.random = random.Random(seed)
    factory.jitter, factory.maxDelay, factory.initialDelay = jitter, longest, initial
    assert all(0 <= wait <= longest + 1e-6 for wait in waits(factory, Clock(), 12))


def test_waits_at_the_cap_stay_uneven(clock):
    factory = Again()
    factory.random = random.Random(7)
    factory.jitter, factory.initialDelay, factory.maxDelay = 0.1, 60.0, 60.0
    found = waits(factory, clock, 50)
    assert len({round(each, 6) for each in found}) == 50


def test_the_same_seed_gives_the_same_waits():
    def run(seed):
        factory = Again()
        factory.random = random.Random(seed)
        factory.jitter = 0.5
        return waits(factory, Clock(), 8)

    assert run(1) == run(1) != run(2)


@pytest.mark.parametrize("seed", range(20))
def test_below_the_cap_the_waits_are_those_of_Twisted(seed):
    from twisted.internet import protocol as theirs
    from twisted.internet.task import Clock as TheirClock

    class TheirConnector:
        def __init__(self):
            self.connects = 0

        def connect(self):
            self.connects += 1

    state = random.getstate()
    try:
        random.seed(seed)
        factory = theirs.ReconnectingClientFactory()
        factory.noisy = False
        factory.clock = their_clock = TheirClock()
        connector = TheirConnector()
        their_waits = []
        for _ in range(7):
            factory.clientConnectionFailed(connector, None)
            (call,) = their_clock.getDelayedCalls()
            their_waits.append(call.getTime() - their_clock.seconds())
            their_clock.advance(their_waits[-1])
    finally:
        random.setstate(state)

    ours = Again()
    ours.random = random.Random(seed)
    ours.jitter = ReconnectingClientFactory.jitter
    assert max(their_waits) < ours.maxDelay
    assert waits(ours, Clock(), 7) == pytest.approx(their_waits, rel=1e-12)


def test_the_defaults_are_those_of_Twisted():
    from twisted.internet.protocol import ReconnectingClientFactory as theirs

    for name in (
        "initialDelay",
        "maxDelay",
        "factor",
        "jitter",
        "retries",
        "maxRetries",
        "noisy",
        "numPorts",
    ):
        assert getattr(ReconnectingClientFactory, name) == getattr(theirs, name), name
    assert ReconnectingClientFactory().delay == ReconnectingClientFactory.delay == theirs().delay
    assert bool(theirs.continueTrying) is ReconnectingClientFactory.continueTrying


# ---- ReconnectingClientFactory: starting over ------------------------------------------------------------------------


def test_a_lost_connection_is_made_again_after_the_wait(again, clock):
    again.succeed()
    again.lose()
    assert (again.state, again.connects) == ("disconnected", 1)
    clock.run_next()
    assert (again.state, again.connects) == ("connecting", 2)


def test_a_connection_that_lived_makes_the_next_wait_a_first_one(again, clock):
    factory = again.factory
    for _ in range(4):
        again.fail()
        clock.run_next()
    assert factory.delay > 50
    again.succeed()
    again.lose(seconds=factory.livedSeconds)
    assert factory.retries == 1
    assert clock.run_next() == factory.initialDelay


@pytest.mark.parametrize("seconds", [None, 0.0, 9.9])
def test_a_connection_that_hardly_lived_counts_as_one_more_failure(again, clock, seconds):
    again.fail()
    clock.run_next()
    again.succeed()
    again.lose(seconds)
    assert again.factory.retries == 2
    assert clock.run_next() == pytest.approx(math.e)


def test_livedSeconds_infinite_leaves_resetting_to_the_user(again, clock):
    again.factory.livedSeconds = math.inf
    again.succeed()
    again.lose(seconds=1e9)
    clock.run_next()
    again.succeed()
    again.lose(seconds=1e9)
    assert again.factory.retries == 2


def test_resetDelay_makes_the_next_wait_a_first_one_and_allows_retrying(again, clock):
    factory = again.factory
    again.fail()
    clock.run_next()
    again.succeed()
    factory.stopTrying()
    factory.resetDelay()
    assert (factory.retries, factory.delay, factory.continueTrying) == (0, factory.initialDelay, True)
    again.lose()
    assert clock.run_next() == factory.initialDelay


def test_resetDelay_while_waiting_leaves_the_wait_alone(again, clock):
    again.fail()
    again.factory.resetDelay()
    assert len(clock.waiting()) == 1
    clock.run_next()
    assert again.connects == 2


def test_after_maxRetries_it_gives_up_and_the_factory_stops(again, clock):
    factory = again.factory
    factory.maxRetries = 2
    again.fail()
    clock.run_next()
    again.fail()
    clock.run_next()
    assert factory.told == ["start"]
    again.fail()
    assert not clock.waiting()
    assert (factory.told, factory.numPorts) == (["start", "stop"], 0)


def test_maxRetries_zero_never_retries(again, clock):
    again.factory.maxRetries = 0
    again.fail()
    assert not clock.waiting()
    assert again.factory.told == ["start", "stop"]


def test_start_and_stop_are_run_once_around_all_retries(again, clock):
    factory = again.factory
    for _ in range(5):
        again.fail()
        assert factory.numPorts == 1
        clock.run_next()
        assert factory.numPorts == 1
    again.succeed()
    again.lose()
    clock.run_next()
    assert factory.told == ["start"]
    factory.stopTrying()
    assert (factory.told, factory.numPorts) == (["start", "stop"], 0)


def test_stopTrying_while_waiting_ends_the_wait_and_stops_the_factory(again, clock):
    again.fail()
    again.factory.stopTrying()
    assert not clock.waiting()
    assert not clock.triggers
    assert again.factory.told == ["start", "stop"]


def test_stopTrying_during_the_very_first_attempt_stops_it(again, clock):
    again.factory.stopTrying()
    assert again.state == "disconnected"
    assert not clock.waiting()
    assert again.factory.told == ["start", "stop"]


def test_stopTrying_while_connected_leaves_the_connection_and_ends_with_it(again, clock):
    again.succeed()
    again.factory.stopTrying()
    assert again.state == "connected"
    again.lose(seconds=100)
    assert not clock.waiting()
    assert again.factory.told == ["start", "stop"]


def test_stopTrying_before_anything_was_tried_does_nothing():
    factory = Again()
    factory.stopTrying()
    assert factory.numPorts == 0


def test_stopTrying_from_startedConnecting_of_a_retry_ends_it(clock):
    class Stops(Again):
        def startedConnecting(self, connector):
            super().startedConnecting(connector)
            if connector.connects == 2:
                self.stopTrying()

    connector = Connector(Stops(), clock)
    connector.connect()
    connector.fail()
    clock.run_next()
    assert connector.state == "disconnected"
    assert not clock.waiting()
    assert (connector.factory.told, connector.factory.numPorts) == (["start", "stop"], 0)


def test_shutdown_while_waiting_ends_the_wait_and_stops_the_factory(again, clock):
    again.fail()
    clock.shut_down()
    assert not clock.waiting()
    assert again.connects == 1
    assert (again.factory.told, again.factory.numPorts) == (["start", "stop"], 0)


def test_a_wait_that_is_over_leaves_no_trigger_behind(again, clock):
    again.fail()
    assert len(clock.triggers) == 1
    clock.run_next()
    assert not clock.triggers


def test_a_user_who_connects_during_the_wait_is_not_disturbed_by_its_end(again, clock):
    again.fail()
    again.connect()
    again.succeed()
    clock.run_next()
    assert (again.state, again.connects) == ("connected", 2)
    assert again.factory.numPorts == 1


def test_a_retry_that_raises_gives_its_claim_back(clock):
    class Broken(Again):
        def startedConnecting(self, connector):
            if connector.connects == 2:
                connector.state = "disconnected"
                connector.rest()
                raise KeyError("no")

    connector = Connector(Broken(), clock)
    connector.connect()
    connector.fail()
    with pytest.raises(KeyError):
        clock.run_next()
    assert (connector.factory.told, connector.factory.numPorts) == (["start", "stop"], 0)


def test_a_second_retry_replaces_the_first_and_the_factory_stays_started(again, clock):
    again.fail()
    again.factory.retry()
    assert len(clock.waiting()) == len(clock.triggers) == 1
    assert again.factory.numPorts == 1
    clock.run_next()
    assert again.connects == 2
    assert again.factory.told == ["start"]


def test_two_connectors_of_one_factory_are_both_retried_and_both_stopped(again, clock):
    other = Connector(again.factory, clock)
    other.connect()
    again.fail()
    other.fail()
    assert len(clock.waiting()) == 2
    clock.run_next()
    clock.run_next()
    assert (again.connects, other.connects) == (2, 2)
    again.fail()
    other.fail()
    again.factory.stopTrying()
    assert not clock.waiting()
    assert (again.factory.told, again.factory.numPorts) == (["start", "stop"], 0)


def test_stopTrying_stops_what_each_connector_is_doing_and_leaves_connections(again, clock):
    factory = again.factory
    others = waiting, connected, meanwhile, _last = [Connector(factory, clock) for _ in range(4)]
    for each in others:
        each.connect()
    waiting.fail()
    connected.succeed()
    meanwhile.fail()
    meanwhile.connect()
    factory.stopTrying()
    assert not clock.waiting()
    assert not clock.triggers
    assert [each for each in (again, *others) if each.state != "disconnected"] == [connected]
    assert connected.state == "connected"
    assert (factory.told, factory.numPorts) == (["start"], 1)
    connected.lose()
    assert factory.told == ["start", "stop"]


def test_stopTrying_called_again_by_what_it_tells_stops_each_once(clock):
    class Stops(Again):
        def clientConnectionFailed(self, connector, reason):
            super().clientConnectionFailed(connector, reason)
            self.failed = [*getattr(self, "failed", []), connector]
            if not self.continueTrying:
                self.stopTrying()

    factory = Stops()
    connectors = [Connector(factory, clock) for _ in range(4)]
    for each in connectors:
        each.connect()
    connectors[2].fail()
    factory.stopTrying()
    assert [connectors.index(each) for each in factory.failed] == [2, 0, 1, 3]
    assert not clock.waiting()
    assert (factory.told, factory.numPorts) == (["start", "stop"], 0)


def test_stopTrying_stops_attempts_of_retries_though_a_subclass_has_a_startedConnecting_of_its_own(clock):
    class Quiet(Again):
        def startedConnecting(self, connector):
            pass

    factory = Quiet()
    connectors = [Connector(factory, clock) for _ in range(2)]
    for each in connectors:
        each.connect()
        each.fail()
    clock.run_next()
    clock.run_next()
    factory.stopTrying()
    assert [each.state for each in connectors] == ["disconnected"] * 2


def test_stopTrying_stops_the_connector_that_a_subclass_has_set_itself(clock):
    class Sets(Again):
        def startedConnecting(self, connector):
            self.connector = connector

    connector = Connector(Sets(), clock)
    connector.connect()
    connector.factory.stopTrying()
    assert connector.state == "disconnected"


def test_connectors_of_one_factory_share_its_delay_and_its_retries(again, clock):
    factory, other = again.factory, Connector(again.factory, clock)
    other.connect()
    factory.maxRetries, factory.factor = 2, 2.0
    again.fail()
    other.fail()
    assert [clock.run_next(), clock.run_next()] == [1.0, 1.0]
    assert factory.retries == 2
    again.succeed()
    other.fail()
    assert not clock.waiting()
    again.lose(seconds=factory.livedSeconds)
    assert (factory.retries, clock.run_next()) == (1, 1.0)


def test_a_factory_keeps_no_connector_that_is_at_rest_for_good(clock):
    class Ours(Again):
        def clientConnectionFailed(self, connector, reason):
            pass

    factory = Ours()
    gone = []
    for _ in range(3):
        connector = Connector(factory, clock)
        gone.append(weakref.ref(connector))
        connector.connect()
        connector.fail()
    factory.connector = connector = None
    gc.collect()
    assert [each() for each in gone] == [None] * 3


def test_the_clock_of_the_factory_goes_before_the_reactors(again, clock):
    again.factory.clock = own = Clock()
    again.fail()
    assert not clock.waiting()
    own.run_next()
    assert again.connects == 2


class Bare:
    """A connector as tests of such factories have made it for Twisted: what a factory calls, no more."""

    def __init__(self):
        self.told = []

    def connect(self):
        self.told.append("connect")

    def stopConnecting(self):
        self.told.append("stopConnecting")


def bare_story(factory, clock):
    """What a bare connector is told while its factory retries on a clock of its own."""
    factory.noisy, factory.clock = False, clock
    connector = Bare()
    factory.startedConnecting(connector)
    factory.clientConnectionFailed(connector, None)
    waited = clock.getDelayedCalls()[0].getTime() - clock.seconds()
    clock.advance(waited)
    factory.clientConnectionLost(connector, None)
    clock.advance(0.01)
    factory.stopTrying()
    return connector.told, clock.getDelayedCalls(), factory.retries


def test_a_clock_and_a_connector_that_has_only_the_two_calls_are_enough_for_a_test_as_with_Twisted():
    from twisted.internet.protocol import ReconnectingClientFactory as Theirs
    from twisted.internet.task import Clock as TheirClock

    from ropewalk.testing import Clock as OurClock

    ours = bare_story(ReconnectingClientFactory(), OurClock())
    assert ours == bare_story(Theirs(), TheirClock()) == (["connect", "stopConnecting"], [], 2)


def test_a_connector_without_a_reactor_is_an_error_where_the_factory_has_no_clock():
    factory = Again()
    with pytest.raises(AttributeError, match="reactor"):
        factory.retry(Bare())
    assert factory.numPorts == 0


def test_retry_without_any_connector_raises_ValueError():
    with pytest.raises(ValueError, match="no connector"):
        Again().retry()


def test_retry_of_a_given_connector_needs_no_earlier_one(clock):
    factory = Again()
    connector = Connector(factory, clock)
    factory.retry(connector)
    clock.run_next()
    assert connector.connects == 1
    assert factory.told == ["start"]


@pytest.mark.parametrize("made", [copy.copy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_or_a_pickle_of_a_used_factory_has_its_settings_and_is_new(again, clock, made):
    factory = again.factory
    factory.maxDelay, factory.maxRetries, factory.told = 50.0, 2, []
    again.fail()
    clock.run_next()
    again.fail()
    factory.stopTrying()
    factory.clock = clock
    new = made(factory)
    assert vars(new) == {"maxDelay": 50.0, "maxRetries": 2, "told": ["stop"]}
    connector = Connector(new, Clock())
    connector.connect()
    connector.fail()
    assert connector.reactor.run_next() == new.initialDelay
    assert (new.told, new.retries) == (["stop", "start"], 1)


def test_a_copy_of_a_factory_that_waits_does_not_wait(again, clock):
    again.fail()
    new = copy.copy(again.factory)
    new.stopTrying()
    assert len(clock.waiting()) == 1
    assert (new.numPorts, again.factory.numPorts) == (0, 1)


def test_Twisted_s_leaves_out_the_same_but_for_who_uses_it(clock):
    from twisted.internet.protocol import ReconnectingClientFactory as Theirs

    left = []
    for factory in (Theirs(), ReconnectingClientFactory()):
        for name in [*dir(factory), "own"]:
            if not name.startswith("_") and not callable(getattr(factory, name, None)):
                setattr(factory, name, 1)
        left.append(vars(copy.copy(factory)).keys())
    theirs, ours = left
    assert theirs - ours == {"numPorts"}
    assert ours - theirs == {"livedSeconds", "random"}
    assert {"own", "initialDelay", "maxRetries", "noisy"} <= ours


def test_retrying_and_giving_up_are_logged(again, clock, caplog):
    caplog.set_level(logging.INFO, "ropewalk")
    again.factory.noisy, again.factory.maxRetries = True, 1
    again.fail()
    clock.run_next()
    again.fail()
    again.factory.continueTrying = False
    again.factory.retry()
    told = [record.message for record in caplog.records]
    expected = ["in 1.0 seconds", "after 1 retries", "Stopping", "stopTrying"]
    assert len(told) == len(expected)
    assert all(words in text for words, text in zip(expected, told, strict=True)), told
