"""The adapters between the engine's names and Twisted's two interfaces; no look-up happens here."""

from __future__ import annotations

import socket

import pytest

from ropewalk import Deferred, IPv4Address, IPv6Address
from ropewalk._net.resolvers import HostnameSource, NameResolver, SimpleSource
from ropewalk.words import WORDS
from tests.rooms.loop_fakes import small_loop

STREAM = socket.SOCK_STREAM


@pytest.fixture
def loop():
    return small_loop()[0]


def row4(host, port=80):
    return socket.AF_INET, STREAM, 0, "", (host, port)


# ---- a user's resolveHostName ---------------------------------------------------------------------------------------


class HostnameResolver:
    """Tells what it was given, when the test says so."""

    def __init__(self, *addresses, at_once=True):
        self.addresses = addresses
        self.at_once = at_once
        self.asked = []

    def resolveHostName(self, receiver, name, port=0, types=None, semantics="TCP"):
        self.asked.append((name, port, types, semantics))
        self.receiver = receiver
        if self.at_once:
            self.tell()

    def tell(self):
        self.receiver.resolutionBegan(self)
        for each in self.addresses:
            self.receiver.addressResolved(each)
        self.receiver.resolutionComplete()


def test_addresses_of_a_user_s_resolver_become_rows(loop):
    resolver = HostnameResolver(
        IPv4Address("TCP", "192.0.2.1", 80),
        IPv6Address("TCP", "2001:db8::1", 80, 5, 0),
        IPv6Address("TCP", "fe80::1", 80, 0, "3"),
    )
    got = []
    HostnameSource(loop, resolver).ask("name", 80, got.append)
    loop.turn(0)
    assert got == [
        [
            row4("192.0.2.1"),
            (socket.AF_INET6, STREAM, 0, "", ("2001:db8::1", 80, 5, 0)),
            (socket.AF_INET6, STREAM, 0, "", ("fe80::1", 80, 0, 3)),
        ]
    ]
    assert resolver.asked == [("name", 80, None, "TCP")]


@pytest.mark.parametrize("kind", [HostnameSource, SimpleSource])
def test_a_resolver_of_the_user_s_that_takes_too_long_is_given_up(kind):
    class Never:
        def resolveHostName(self, receiver, *_):
            receiver.resolutionBegan(self)

        def getHostByName(self, name):
            return Deferred()

    loop, kernel, _ = small_loop()
    got = []
    kind(loop, Never()).ask("name", 80, got.append, 3)
    question = kind(loop, Never()).ask("other", 80, got.append, 2)
    question.cancel()
    kernel.time += 2.9
    loop.turn(0)
    assert got == []
    kernel.time += 0.2
    loop.turn(0)
    (exc,) = got
    assert isinstance(exc, TimeoutError)
    assert loop.next_deadline() is None


def test_a_resolver_of_the_user_s_that_answers_in_time_leaves_no_timer(loop):
    got = []
    HostnameSource(loop, HostnameResolver(IPv4Address("TCP", "192.0.2.1", 80))).ask("name", 80, got.append, 3)
    loop.turn(0)
    assert got == [[row4("192.0.2.1")]]
    assert loop.next_deadline() is None


def test_an_interface_by_name_becomes_its_number(loop):
    name = socket.if_nameindex()[0][1]
    got = []
    HostnameSource(loop, HostnameResolver(IPv6Address("TCP", "fe80::1", 80, 0, name))).ask(
        "x", 80, got.append
    )
    loop.turn(0)
    assert got[0][0][4][3] == socket.if_nametoindex(name)


@pytest.mark.parametrize("at_once", [True, False])
def test_whenever_it_answers_the_engine_is_told_in_a_later_turn(loop, at_once):
    resolver, got = HostnameResolver(at_once=at_once), []
    HostnameSource(loop, resolver).ask("name", 80, got.append)
    if not at_once:
        resolver.tell()
    assert got == []
    loop.turn(0)
    assert got == [[]]


def test_an_answer_to_a_question_that_was_cancelled_is_dropped(loop):
    resolver, got = HostnameResolver(at_once=False), []
    question = HostnameSource(loop, resolver).ask("name", 80, got.append)
    resolver.tell()
    question.cancel()
    loop.turn(0)
    assert got == []


def test_a_resolver_that_completes_twice_is_heard_once(loop):
    resolver, got = HostnameResolver(), []
    HostnameSource(loop, resolver).ask("name", 80, got.append)
    resolver.tell()
    loop.turn(0)
    loop.turn(0)
    assert got == [[]]


def test_the_question_tells_its_name(loop):
    assert HostnameSource(loop, HostnameResolver()).ask("name", 80, list).name == "name"


# ---- a user's getHostByName -----------------------------------------------------------------------------------------


class SimpleResolver:
    def __init__(self):
        self.deferred = Deferred()

    def getHostByName(self, name):
        self.name = name
        return self.deferred


def test_one_address_becomes_one_row(loop):
    resolver, got = SimpleResolver(), []
    SimpleSource(loop, resolver).ask("name", 80, got.append)
    resolver.deferred.callback("192.0.2.1")
    assert got == []
    loop.turn(0)
    assert got == [[row4("192.0.2.1")]]
    assert resolver.name == "name"


def test_an_IPv6_address_is_taken_for_what_it_is(loop):
    resolver, got = SimpleResolver(), []
    SimpleSource(loop, resolver).ask("name", 80, got.append)
    resolver.deferred.callback("::1")
    loop.turn(0)
    assert got == [[(socket.AF_INET6, STREAM, 0, "", ("::1", 80, 0, 0))]]


def test_a_failure_becomes_its_exception(loop):
    resolver, got = SimpleResolver(), []
    SimpleSource(loop, resolver).ask("name", 80, got.append)
    mine = ValueError("mine")
    resolver.deferred.errback(mine)
    loop.turn(0)
    assert got == [mine]


def test_an_answer_that_is_no_address_is_a_failed_look_up_and_no_silence(loop):
    resolver, got = SimpleResolver(), []
    SimpleSource(loop, resolver).ask("name", 80, got.append)
    resolver.deferred.callback(None)
    loop.turn(0)
    assert isinstance(got[0], TypeError)


# ---- our names for users --------------------------------------------------------------------------------------------


class Receiver:
    def __init__(self):
        self.told = []

    def resolutionBegan(self, resolution):
        self.told.append(("began", resolution.name))
        self.resolution = resolution

    def addressResolved(self, address):
        self.told.append(address)

    def resolutionComplete(self):
        self.told.append("complete")


class Source:
    def __init__(self):
        self.cancelled = 0

    def ask(self, host, port, done):
        self.asked = (host, port)
        self.done = done
        return self

    def cancel(self):
        self.cancelled += 1


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def names(source):
    return NameResolver(source.ask, WORDS)


ROWS = [
    row4("192.0.2.1"),
    (socket.AF_INET6, STREAM, 0, "", ("2001:db8::1", 80, 0, 0)),
    row4("192.0.2.1"),
]


def test_the_receiver_is_told_begun_each_address_once_and_complete(names, source):
    receiver = Receiver()
    resolution = names.resolveHostName(receiver, "name", 80)
    assert receiver.told == [("began", "name")]
    assert receiver.resolution is resolution
    assert source.asked == ("name", 80)
    source.done(ROWS)
    assert receiver.told[1:] == [
        IPv4Address("TCP", "192.0.2.1", 80),
        IPv6Address("TCP", "2001:db8::1", 80),
        "complete",
    ]


@pytest.mark.parametrize(
    ("types", "count"), [([IPv4Address], 1), ([IPv6Address], 1), ((IPv4Address, IPv6Address), 2), ([], 0)]
)
def test_only_addresses_of_the_types_asked_for_are_told(names, source, types, count):
    receiver = Receiver()
    names.resolveHostName(receiver, "name", 80, types)
    source.done(ROWS)
    assert len(receiver.told) == 2 + count


def test_addresses_are_of_the_kind_asked_for(names, source):
    receiver = Receiver()
    names.resolveHostName(receiver, "name", transportSemantics="UDP")
    source.done([row4("192.0.2.1", 0)])
    assert receiver.told[1] == IPv4Address("UDP", "192.0.2.1", 0)


def test_a_look_up_that_fails_completes_without_an_address(names, source):
    receiver = Receiver()
    names.resolveHostName(receiver, "name")
    source.done(socket.gaierror(socket.EAI_NONAME, "no"))
    assert receiver.told == [("began", "name"), "complete"]


def test_a_resolution_can_be_cancelled(names, source):
    names.resolveHostName(Receiver(), "name").cancel()
    assert source.cancelled == 1


def test_a_resolution_cancelled_while_it_begins_is_never_told_of(names, source):
    class Hasty(Receiver):
        def resolutionBegan(self, resolution):
            super().resolutionBegan(resolution)
            resolution.cancel()

    receiver = Hasty()
    names.resolveHostName(receiver, "name")
    assert not hasattr(source, "asked")
    assert receiver.told == [("began", "name")]
