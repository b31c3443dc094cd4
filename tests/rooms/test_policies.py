"""Policies in virtual time: to the instant, to the byte, in storms, and over loopback.

Invariant: no limit is ever exceeded, no window of time ever carries more than its bucket allows, on the clean path nothing is
lost, and nothing is left.
"""

from __future__ import annotations

import gc
import io
import itertools
import logging
import random
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ropewalk import ClientFactory, Drained, EndedBy, Factory, Failure, Protocol, Reactor, ServerFactory
from ropewalk.error import ConnectionAborted, ConnectionDone
from ropewalk.policies import (
    Bucket,
    Budget,
    Idle,
    Lifetime,
    Limit,
    LimitTotalConnectionsFactory,
    ProtocolWrapper,
    RateLimit,
    Shed,
    TimeoutFactory,
    TrafficLog,
    WrappingFactory,
)
from ropewalk.protocols.files import sendFile
from ropewalk.simulation import Simulation
from ropewalk.testing import Clock, StringTransport, simulate
from tests.metering import Metering, most_over

PORT = 7


class End(Protocol):
    """Writes down what it gets, and when."""

    factory: Any

    def __init__(self) -> None:
        self.rows: list[tuple[float, int]] = []
        self.received = bytearray()
        self.reason: Any = None
        self.started = 0.0

    def connectionMade(self) -> None:
        self.started = self.now()
        self.factory.ends.append(self)

    def now(self) -> float:
        return float(self.transport.reactor.seconds())

    def dataReceived(self, data: bytes) -> None:
        self.rows.append((self.now(), len(data)))
        self.received += data

    def connectionLost(self, reason: Any) -> None:
        self.reason = reason.value
        self.lived = self.now() - self.started


class Halves(End):
    """Goes on with one direction."""

    halves = 0

    def readConnectionLost(self) -> None:
        self.halves += 1

    def writeConnectionLost(self) -> None:
        self.halves += 10


class Ends(ClientFactory[Any]):
    noisy = False

    def __init__(self, kind: type[End] = End) -> None:
        self.protocol = kind
        self.ends: list[Any] = []
        self.failed = 0

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        self.failed += 1


class Scene:
    """A server behind policies, and clients without any."""

    def __init__(
        self,
        layer: Callable[[Any], Any],
        sim: Simulation | None = None,
        kind: type[End] = End,
        of_client: Callable[[Any], Any] = lambda factory: factory,
    ) -> None:
        self.sim = sim or Simulation()
        self.server, self.client = self.sim.host("server"), self.sim.host("client")
        self.sim.latency(self.server, self.client, 0.0)
        self.inner, self.clients = Ends(kind), Ends()
        self.layer = layer(self.inner)
        self.of_client = of_client(self.clients)
        self.port = self.server.reactor.listenTCP(PORT, self.layer)

    def come(self, many: int = 1, seconds: float = 0.0) -> tuple[Any, Any]:
        """Connect. Returns: the last of both ends."""
        for _ in range(many):
            self.client.reactor.connectTCP("10.0.0.1", PORT, self.of_client)
        self.sim.advance(seconds) if seconds else self.sim.settle()
        return (self.inner.ends or [None])[-1], (self.clients.ends or [None])[-1]

    def leave(self) -> None:
        self.sim.close()
        self.sim.runUntilIdle()
        self.sim.checkAtRest()


def any_value(value: Any) -> Any:
    return value


# ---- layers ---------------------------------------------------------------------------------------------------------


def test_a_layer_is_a_transport_to_its_protocol_and_a_protocol_to_its_transport() -> None:
    scene = Scene(lambda factory: WrappingFactory(WrappingFactory(factory)))
    one, other = scene.come()
    layer = one.transport
    assert (layer.getPeer(), layer.number > 0, layer.connected) == (other.transport.getHost(), True, True)
    assert (layer.protocol, list(layer.factory.protocols)) == (one, [layer])
    assert layer.logPrefix() == "End (ProtocolWrapper)"
    assert layer.transport.logPrefix() == "End (ProtocolWrapper) (ProtocolWrapper)"
    assert scene.layer.logPrefix() == "Ends (WrappingFactory) (WrappingFactory)"
    layer.closeTimeout = 7.0
    assert layer.transport.transport.closeTimeout == 7.0
    one.transport.write(b"hello")
    scene.sim.settle()
    one.transport.loseConnection()
    scene.sim.settle()
    assert (other.received, type(one.reason), layer.ended.by) == (b"hello", ConnectionDone, EndedBy.US)
    assert (scene.layer.protocols, layer.wrappedProtocol) == ({}, None)
    scene.leave()


def test_a_layer_has_the_callbacks_of_half_close_and_draining_exactly_if_its_protocol_has_them() -> None:
    plain, half = (Scene(WrappingFactory, kind=kind) for kind in (End, Halves))
    for scene in (plain, half):
        one, other = scene.come()
        other.transport.loseWriteConnection()
        scene.sim.settle()
        if scene is half:
            assert (one.halves, one.reason) == (1, None)
            one.transport.write(b"answer")
            one.transport.loseConnection()
            scene.sim.settle()
            assert other.received == b"answer"
        assert isinstance(one.reason, ConnectionDone)
        scene.leave()
    layer = ProtocolWrapper(None, End())
    assert not any(hasattr(layer, each) for each in ("readConnectionLost", "connectionDraining"))


def test_draining_reaches_the_protocol_through_every_layer() -> None:
    class Leaves(End):
        def connectionDraining(self) -> None:
            self.transport.loseConnection()

    scene = Scene(lambda factory: Limit(Idle(RateLimit(factory, 1000), 60), 10), kind=Leaves)
    scene.come(2)
    result: list[Any] = []
    scene.port.drain(5).addCallback(result.append)
    scene.sim.settle()
    assert result == [Drained(2, 0)]
    scene.leave()


def test_a_factory_is_started_stopped_and_told_through_its_layers() -> None:
    told: list[Any] = []

    class Told(Ends):
        def startFactory(self) -> None:
            told.append("start")

        def stopFactory(self) -> None:
            told.append("stop")

        def startedConnecting(self, connector: Any) -> None:
            told.append("connecting")

        def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
            told.append("failed")

        def clientConnectionLost(self, connector: Any, reason: Any) -> None:
            told.append("lost")

    sim = Simulation()
    server, client = sim.host("server"), sim.host("client")
    layer = Limit(Idle(Told(), 60), 10)
    client.reactor.connectTCP("10.0.0.1", PORT, layer)
    sim.advance(1)
    port = server.reactor.listenTCP(PORT, Ends())
    connector = client.reactor.connectTCP("10.0.0.1", PORT, layer)
    sim.advance(1)
    port.stopListening()
    connector.disconnect()
    sim.settle()
    sim.advance(1)
    assert told == ["start", "connecting", "failed", "stop", "start", "connecting", "lost", "stop"]
    sim.close()
    sim.checkAtRest()


def test_a_factory_that_builds_nothing_refuses_through_its_layers_too() -> None:
    class Refuses(Factory[Any]):
        noisy = False

        def buildProtocol(self, addr: Any) -> None:
            return None

    for layer in (WrappingFactory, Idle, lambda factory: Shed(factory, 5), lambda factory: Limit(factory, 5)):
        assert layer(Refuses()).buildProtocol(None) is None


def test_whoever_hands_a_connection_over_puts_another_protocol_in_its_place() -> None:
    scene = Scene(Idle)
    one, other = scene.come()
    layer = one.transport
    layer.protocol = heir = End()
    heir.factory = scene.inner
    heir.makeConnection(layer)
    other.transport.write(b"for the heir")
    scene.sim.settle()
    assert (bytes(one.received), bytes(heir.received)) == (b"", b"for the heir")
    layer.stopProducing()
    scene.sim.settle()
    assert (one.reason, type(heir.reason)) == (None, ConnectionDone)
    scene.leave()


@pytest.mark.parametrize("thing", [Ends, 7, None])
def test_what_is_no_factory_cannot_be_wrapped(thing: Any) -> None:
    with pytest.raises(TypeError, match="must be a factory, not"):
        Idle(thing, 5)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda f: Idle(f, 0), ValueError, "timeoutPeriod must be a finite number of seconds above 0, not 0"),
        (lambda f: Idle(f, any_value("5")), TypeError, "timeoutPeriod must be a number of seconds, not '5'"),
        (lambda f: Lifetime(f, float("inf")), ValueError, "seconds must be a finite number"),
        (lambda f: Lifetime(f, 5, grace=-1), ValueError, "grace must be a finite number"),
        (lambda f: Limit(f), ValueError, "needs `most`, `perPeer`, or both"),
        (lambda f: Limit(f, 0), ValueError, "most must be 1 of connections or more, not 0"),
        (
            lambda f: Limit(f, perPeer=any_value(1.5)),
            TypeError,
            "perPeer must be a whole number of connections, not 1.5",
        ),
        (lambda f: RateLimit(f), ValueError, "needs `receive`, `send`, or both"),
        (lambda f: RateLimit(f, receive=-3), ValueError, "rate must be a finite number of bytes per second"),
        (lambda f: RateLimit(f, send=True), TypeError, "rate must be a number of bytes per second, not True"),
        (lambda f: Bucket(10, 0), ValueError, "burst must be 1 of bytes or more"),
        (lambda f: Shed(f, 0), ValueError, "most must be 1 of bytes or more"),
        (lambda f: TrafficLog(f, None), TypeError, "to must be a logging.Logger, or have `write`, not None"),
        (lambda f: TrafficLog(f, io.StringIO(), form="octal"), ValueError, "form must be 'text' or 'hex'"),
    ],
)
def test_bad_policies_are_refused_when_they_are_made(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make(Ends())


# ---- time-outs ------------------------------------------------------------------------------------------------------


def test_an_idle_connection_is_closed_on_the_instant_and_its_reason_says_so() -> None:
    scene = Scene(lambda factory: Idle(factory, 5))
    one, other = scene.come()
    scene.sim.advance(2)
    other.transport.write(b"x")
    scene.sim.advance(1)
    one.transport.writeSequence([b"y"])
    scene.sim.advance(20)
    assert one.lived == pytest.approx(8.0)
    assert (type(one.reason), str(one.reason)) == (
        ConnectionDone,
        "the connection was closed cleanly: idle for 5 s",
    )
    assert (one.reason.ended.by, one.transport.ended.error) == (EndedBy.US, "idle for 5 s")
    assert isinstance(other.reason, ConnectionDone)
    scene.leave()


def test_who_still_takes_what_was_written_is_not_idle_and_who_takes_nothing_is() -> None:
    for reads in (True, False):
        scene = Scene(lambda factory: Idle(factory, 5))
        one, other = scene.come()
        one.transport.closeTimeout = 2.0
        scene.sim.advance(1)
        scene.sim.bandwidth(scene.server, scene.client, 100_000)
        if not reads:
            other.transport.pauseProducing()
        one.transport.write(bytes(6_000_000))
        scene.sim.advance(40)
        assert (one.reason is None) is reads
        scene.sim.run(until=scene.sim.now + 60)
        assert one.reason is not None
        assert (len(other.received) == 6_000_000) is reads
        scene.leave()


def test_a_time_out_can_be_changed_cancelled_and_answered_otherwise() -> None:
    scene = Scene(lambda factory: TimeoutFactory(factory))
    one, _ = scene.come()
    layer = one.transport
    layer.setTimeout(3)
    scene.sim.advance(2.5)
    layer.resetTimeout()
    layer.setTimeout(None)
    scene.sim.advance(10_000)
    assert one.reason is None
    asked: list[float] = []
    layer.timeoutFunc = lambda: asked.append(one.now())
    before = one.now()
    layer.setTimeout(4)
    scene.sim.advance(100)
    assert [time - before for time in asked] == [4.0]
    assert one.reason is None
    scene.leave()


def test_a_time_out_that_is_refused_leaves_the_one_there_was() -> None:
    scene = Scene(lambda factory: Idle(factory, 5))
    one, _ = scene.come()
    for bad, error in ((-1, ValueError), ("5", TypeError)):
        with pytest.raises(error, match="timeoutPeriod"):
            one.transport.setTimeout(bad)
    scene.sim.advance(6)
    assert str(one.reason).endswith("idle for 5 s")
    assert one.lived == 5.0
    scene.leave()


def test_a_time_out_that_is_set_when_the_connection_is_over_leaves_no_timer() -> None:
    class Late(End):
        def connectionLost(self, reason: Any) -> None:
            super().connectionLost(reason)
            layer: Any = self.transport
            layer.setTimeout(500)

    scene = Scene(lambda factory: Idle(factory, 5), kind=Late)
    one, other = scene.come()
    other.transport.abortConnection()
    scene.sim.settle()
    assert one.reason is not None
    assert scene.server.reactor.getDelayedCalls() == []
    scene.leave()


def in_both_orders(seconds: float, **rates: float) -> list[Callable[[Any], Any]]:
    return [
        lambda factory: Idle(RateLimit(factory, **rates), seconds),
        lambda factory: Idle(WrappingFactory(RateLimit(factory, **rates)), seconds),
        lambda factory: RateLimit(Idle(factory, seconds), **rates),
    ]


def test_while_another_layer_hands_on_what_came_nobody_is_idle_and_then_for_as_long_as_ever() -> None:
    for layer in in_both_orders(5, receive=0.1):
        scene = Scene(layer)
        one, other = scene.come()
        other.transport.write(bytes(10))
        scene.sim.advance(89.9)
        assert (one.reason, len(one.received)) == (None, 9)
        scene.sim.advance(20)
        assert str(one.reason).endswith("idle for 5 s")
        assert (len(one.received), one.lived) == (10, pytest.approx(95.0))
        scene.leave()


def test_while_another_layer_lets_leave_what_was_written_nobody_is_idle() -> None:
    for layer in in_both_orders(5, send=0.1):
        scene = Scene(layer)
        one, other = scene.come()
        one.transport.write(bytes(10))
        scene.sim.advance(89.9)
        assert (one.transport.disconnecting, len(other.received)) == (False, 9)
        scene.sim.advance(20)
        assert str(one.reason).endswith("idle for 5 s")
        assert len(other.received) == 10
        scene.leave()


def test_who_has_paused_is_idle_though_a_layer_inside_holds_what_came() -> None:
    scene = Scene(lambda factory: Idle(RateLimit(factory, receive=100), 5))
    one, other = scene.come()
    other.transport.write(bytes(1000))
    scene.sim.advance(1)
    one.transport.pauseProducing()
    scene.sim.advance(6)
    assert str(one.reason).endswith("idle for 5 s")
    scene.leave()


def test_who_is_reset_before_its_time_out_has_closed_it_is_told_of_the_reset() -> None:
    scene = Scene(lambda factory: Idle(factory, 5))
    one, other = scene.come()
    other.transport.pauseProducing()
    one.transport.write(bytes(10_000_000))
    scene.sim.advance(10.5)
    assert (one.transport.disconnecting, one.reason) == (True, None)
    other.transport.abortConnection()
    scene.sim.settle()
    assert (one.reason.ended.by, one.transport.ended.by) == (EndedBy.PEER_RESET,) * 2
    assert "idle" not in str(one.reason)
    assert one.reason.errno is not None
    scene.leave()


def test_a_lifetime_is_over_however_busy_and_what_was_written_still_leaves() -> None:
    scene = Scene(lambda factory: Lifetime(factory, 10))
    one, other = scene.come()
    for second in range(1, 10):
        scene.server.reactor.callLater(second, one.transport.write, b"x")
    scene.server.reactor.callLater(9.999, one.transport.write, b"last")
    scene.sim.advance(30)
    assert one.lived == pytest.approx(10.0)
    assert str(one.reason) == "the connection was closed cleanly: its lifetime of 10 s is over"
    assert other.received == b"x" * 9 + b"last"
    assert isinstance(other.reason, ConnectionDone)
    scene.leave()


def test_after_its_grace_who_takes_nothing_is_aborted() -> None:
    scene = Scene(lambda factory: Lifetime(factory, 10, grace=3))
    one, other = scene.come()
    other.transport.pauseProducing()
    one.transport.write(bytes(10_000_000))
    scene.sim.advance(30)
    assert (one.lived, type(one.reason)) == (pytest.approx(13.0), ConnectionAborted)
    assert str(one.reason) == "the connection was aborted on this side: its lifetime of 10 s is over"
    scene.leave()


# ---- limits ---------------------------------------------------------------------------------------------------------


def test_who_is_one_too_many_is_closed_at_once_and_a_place_that_is_free_is_taken() -> None:
    scene = Scene(lambda factory: Limit(factory, 3))
    scene.come(5)
    assert (len(scene.inner.ends), scene.layer.refused, len(scene.layer.protocols)) == (3, 2, 3)
    assert sum(each.reason is not None for each in scene.clients.ends) == 2
    scene.inner.ends[0].transport.loseConnection()
    scene.sim.settle()
    scene.come(2)
    assert (len(scene.inner.ends), scene.layer.refused) == (4, 3)
    scene.leave()


def test_a_limit_for_each_peer_counts_each_peer() -> None:
    scene = Scene(lambda factory: Limit(factory, 5, perPeer=2))
    other = scene.sim.host("other")
    for host, many in ((scene.client, 4), (other, 3), (scene.server, 1)):
        for _ in range(many):
            host.reactor.connectTCP("10.0.0.1", PORT, scene.clients)
    scene.sim.advance(1)
    hosts = sorted(each.transport.getPeer().host for each in scene.inner.ends)
    assert (len(hosts), max(map(hosts.count, hosts)), scene.layer.refused) == (5, 2, 3)
    for each in scene.inner.ends:
        each.transport.abortConnection()
    scene.sim.settle()
    scene.come(1)
    assert len(scene.inner.ends) == 6
    scene.leave()


def test_a_factory_with_a_limit_of_its_own_may_have_a_protocol_for_those_beyond_it() -> None:
    class Full(Protocol):
        def connectionMade(self) -> None:
            self.transport.write(b"full")
            self.transport.loseConnection()

    factory: Any = LimitTotalConnectionsFactory.forProtocol(Protocol)
    factory.noisy = False
    scene = Scene(lambda _: factory)
    factory.connectionLimit = 2
    scene.come(3)
    assert (factory.connectionCount, len([each for each in scene.clients.ends if each.reason])) == (2, 1)
    factory.overflowProtocol = Full
    scene.come(1)
    assert (factory.connectionCount, [bytes(each.received) for each in scene.clients.ends][3:]) == (
        2,
        [b"full"],
    )
    factory.connectionLimit = None
    scene.come(3)
    assert factory.connectionCount == 5
    with pytest.raises(RuntimeError, match="does not know what to build"):
        LimitTotalConnectionsFactory().buildProtocol(None)
    scene.leave()


# ---- rates ----------------------------------------------------------------------------------------------------------


def test_a_bucket_lets_pass_what_its_rate_allows_and_who_asks_first_passes_first() -> None:
    bucket = Bucket(100, burst=10)
    assert (bucket.reserve(5.0, 10), bucket.take(5.0, 10)) == (0.0, 0.0)
    assert [bucket.reserve(5.0, 10) for _ in range(3)] == pytest.approx([0.1, 0.2, 0.3])
    bucket.giveBack(10)
    assert bucket.take(5.05, 10) == pytest.approx(0.05)
    assert bucket.take(5.1, 10) == 0.0
    # Late: no more is there than a burst.
    assert [bucket.reserve(5.1, 10) for _ in range(2)] == pytest.approx([0.2, 0.3])
    assert [bucket.take(99.0, 10) for _ in range(2)] == pytest.approx([0.0, 0.1])
    assert repr(bucket) == "<Bucket 100 bytes/s, burst 10>"


@pytest.mark.parametrize("rate", [10.0, 1000.0, 123_456.7])
def test_received_bytes_are_handed_on_at_the_rate_to_the_instant(rate: float) -> None:
    scene = Scene(lambda factory: RateLimit(factory, receive=rate))
    one, other = scene.come()
    many = int(rate * 10)
    data = random.Random(3).randbytes(many)
    other.transport.write(data)
    other.transport.loseConnection()
    scene.sim.advance(30)
    burst = Bucket(rate).burst
    assert one.received == data
    assert one.rows[-1][0] - one.started == pytest.approx((many - burst) / rate, abs=1e-6)
    assert most_over(one.rows, rate) <= burst + 1e-6
    # Smooth: no two pieces are farther apart than a piece takes.
    gaps = [after - before for (before, _), (after, _) in itertools.pairwise(one.rows)]
    assert max(gaps) <= Bucket(rate).piece / rate + 1e-6
    assert isinstance(one.reason, ConnectionDone)
    scene.leave()


@pytest.mark.parametrize("rate", [10.0, 1000.0, 123_456.7])
def test_written_bytes_leave_at_the_rate_and_a_close_lets_them_all_leave(rate: float) -> None:
    noting: list[Any] = []

    def layer(factory: Any) -> Any:
        noting.append(Metering(RateLimit(factory, send=rate)))
        return noting[0]

    scene = Scene(layer)
    one, other = scene.come()
    many = int(rate * 10)
    data = random.Random(4).randbytes(many)
    rows = noting[0].meters[-1].written
    started = one.now()
    one.transport.write(data)
    one.transport.loseConnection()
    assert one.transport.disconnecting
    scene.sim.advance(30)
    burst = Bucket(rate).burst
    assert other.received == data
    assert rows[-1][0] - started == pytest.approx((many - burst) / rate, abs=1e-6)
    assert most_over(rows, rate) <= burst + 1e-6
    assert [type(each.reason) for each in (one, other)] == [ConnectionDone] * 2
    scene.leave()


def test_a_file_passes_at_the_rate_too(tmp_path: Path) -> None:
    data = random.Random(5).randbytes(10_000)
    (tmp_path / "file").write_bytes(data)
    scene = Scene(lambda factory: RateLimit(factory, send=1000))
    one, other = scene.come()
    with (tmp_path / "file").open("rb") as file:
        sent = sendFile(one.transport, file)
        scene.sim.advance(5)
        assert 4900 < len(other.received) < 5200
        scene.sim.advance(5)
    assert other.received == data
    assert sent.called
    scene.leave()


def test_after_a_pause_no_more_than_a_burst_passes_at_once() -> None:
    scene = Scene(lambda factory: RateLimit(factory, receive=1000))
    one, other = scene.come()
    for time in (0, 50, 100):
        scene.client.reactor.callLater(time, other.transport.write, bytes(500))
    scene.sim.advance(200)
    assert len(one.received) == 1500
    assert most_over(one.rows, 1000) <= 100 + 1e-6
    scene.leave()


def test_connections_that_share_a_bucket_share_its_rate_and_none_starves() -> None:
    bucket = Bucket(10_000)
    scene = Scene(lambda factory: RateLimit(factory, receive=bucket))
    scene.come(4)
    for each in scene.clients.ends:
        each.transport.write(bytes(50_000))
    scene.sim.advance(10)
    together = sorted(row for each in scene.inner.ends for row in each.rows)
    assert most_over(together, 10_000) <= bucket.burst + 1e-6
    shares = [len(each.received) for each in scene.inner.ends]
    assert sum(shares) == pytest.approx(100_000, abs=2000)
    assert max(shares) - min(shares) <= 2 * bucket.piece
    scene.inner.ends[0].transport.abortConnection()
    scene.sim.advance(20)
    assert [len(each.received) for each in scene.inner.ends[1:]] == [50_000] * 3
    scene.leave()


def test_the_peer_of_a_slow_reader_feels_it_and_what_waits_here_is_bounded() -> None:
    scene = Scene(lambda factory: RateLimit(factory, receive=1000))
    one, other = scene.come()
    other.transport.write(bytes(20_000_000))
    scene.sim.advance(20)
    assert len(one.received) == pytest.approx(20_000, abs=200)
    assert one.transport.bytesReceived == len(one.received)
    assert other.transport.bytesBuffered > 10_000_000
    assert len(one.transport._incoming) <= 131_072
    scene.leave()


def test_a_protocol_that_pauses_gets_nothing_until_it_resumes_and_then_at_the_rate() -> None:
    scene = Scene(lambda factory: RateLimit(factory, receive=1000))
    one, other = scene.come()
    other.transport.write(bytes(5000))
    scene.sim.advance(1)
    one.transport.pauseProducing()
    got = len(one.received)
    scene.sim.advance(10)
    assert len(one.received) == got
    one.transport.resumeProducing()
    assert len(one.received) == got
    scene.sim.advance(10)
    assert len(one.received) == 5000
    assert most_over(one.rows, 1000) <= 100 + Bucket(1000).piece + 1e-6
    scene.leave()


@pytest.mark.parametrize("how", ["loseConnection", "abortConnection"])
def test_what_came_and_was_never_handed_on_does_not_count_as_received(how: str) -> None:
    class Leaves(End):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            getattr(self.transport, how)()

    scene = Scene(lambda factory: RateLimit(factory, receive=1000), kind=Leaves)
    one, other = scene.come()
    other.transport.write(bytes(5000))
    scene.sim.advance(10)
    assert one.reason is not None
    assert one.transport.bytesReceived == len(one.received) == 50
    assert one.transport.ended.received == 5000
    scene.leave()


@pytest.mark.parametrize("nth", [1, 3])
def test_when_SystemExit_leaves_the_loop_the_rest_is_handed_on_when_it_runs_again(nth: int) -> None:
    """The first piece is handed on by the transport, the third by a timer."""

    class Leaves(End):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            if len(self.rows) == nth:
                raise SystemExit(nth)

    scene = Scene(lambda factory: RateLimit(factory, receive=1000), kind=Leaves)
    one, other = scene.come()
    other.transport.write(bytes(5000))
    with pytest.raises(SystemExit):
        scene.sim.advance(10)
    scene.sim.advance(10)
    assert len(one.received) == 5000
    assert most_over(one.rows, 1000) <= 100 + 1e-6
    scene.leave()


def test_a_producer_may_write_when_it_is_stopped_because_its_protocol_has_raised() -> None:
    class Raises(End):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            if len(self.rows) == 3:
                raise ValueError("in a piece that a timer hands on")

    class LastWords:
        def __init__(self, end: Any) -> None:
            self.end = end

        def pauseProducing(self) -> None: ...
        def resumeProducing(self) -> None: ...
        def stopProducing(self) -> None:
            self.end.transport.write(bytes(500))

    scene = Scene(lambda factory: RateLimit(factory, receive=1000, send=1000), kind=Raises)
    one, other = scene.come()
    one.transport.write(bytes(5000))
    one.transport.registerProducer(LastWords(one), True)
    other.transport.write(bytes(5000))
    scene.sim.advance(10)
    assert isinstance(one.reason, ValueError)
    # Of the 5000 those that had left by then; and what was written last.
    assert 500 <= len(other.received) < 1000
    assert isinstance(other.reason, ConnectionDone)
    scene.leave()


def test_who_pauses_gives_back_the_place_it_had_in_the_line() -> None:
    bucket = Bucket(1000)
    scene = Scene(lambda factory: RateLimit(factory, receive=bucket))
    one, other = scene.come()
    other.transport.write(bytes(5000))
    for _ in range(50):
        one.transport.pauseProducing()
        scene.sim.advance(0.01)
        one.transport.resumeProducing()
        scene.sim.advance(0.01)
    scene.sim.advance(4)
    # A second of pausing, and the rest at the rate: nobody waits for what was not taken.
    assert len(one.received) == 5000
    scene.leave()


class Source:
    """A producer that writes as much as it may, `most` bytes in all."""

    def __init__(self, end: Any, most: int, streaming: bool) -> None:
        self.transport = end.transport
        self.left = most
        self.streaming = streaming
        self.told: list[str] = []
        self.is_paused = False
        self.most_waited = 0
        self.transport.registerProducer(self, streaming)
        if streaming:
            self.go_on()

    def go_on(self) -> None:
        while self.left and not self.is_paused:
            count = min(self.left, 10_000)
            self.left -= count
            self.transport.write(bytes(count))
            self.most_waited = max(self.most_waited, self.transport.bytesBuffered)
            if not self.streaming:
                break
        if not self.left:
            self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.told.append("pause")
        self.is_paused = True

    def resumeProducing(self) -> None:
        self.told.append("resume")
        self.is_paused = False
        self.go_on()

    def stopProducing(self) -> None:
        self.told.append("stop")
        self.left = 0


class Brief(End):
    """Says four bytes and closes."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.write(b"0123")
        self.transport.loseConnection()


@pytest.mark.parametrize(
    "layer",
    [
        lambda factory, bucket: RateLimit(factory, send=bucket),
        lambda factory, bucket: RateLimit(RateLimit(factory, send=bucket), send=50),
        lambda factory, bucket: RateLimit(RateLimit(factory, send=50), send=bucket),
    ],
)
def test_what_was_written_before_a_close_leaves_however_long_its_turn_takes_to_come(layer: Any) -> None:
    bucket = Bucket(1)
    scene = Scene(lambda factory: layer(factory, bucket), kind=Brief)
    scene.come(70)
    scene.sim.advance(300)
    assert {type(each.reason) for each in scene.inner.ends} == {ConnectionDone}
    assert {bytes(each.received) for each in scene.clients.ends} == {b"0123"}
    scene.leave()


def test_at_a_rate_slower_than_the_close_deadline_a_half_close_and_a_close_lose_nothing() -> None:
    for kind, end in ((Halves, "loseWriteConnection"), (End, "loseConnection")):
        scene = Scene(lambda factory: RateLimit(factory, send=1 / 90), kind=kind)
        one, other = scene.come()
        one.transport.write(b"0123456789")
        getattr(one.transport, end)()
        scene.sim.advance(1000)
        assert (bytes(other.received), type(one.reason)) == (b"0123456789", ConnectionDone)
        scene.leave()


def test_the_close_deadline_can_be_read_and_set_while_it_stands_still_and_runs_for_a_peer_that_takes_nothing() -> (
    None
):
    scene = Scene(lambda factory: RateLimit(factory, send=1_000_000))
    one, other = scene.come()
    below = one.transport.transport
    other.transport.pauseProducing()
    one.transport.write(bytes(8_000_000))
    scene.sim.settle()
    assert (one.transport.closeTimeout, below.closeTimeout) == (60.0, None)
    one.transport.closeTimeout = 2.5
    assert (one.transport.closeTimeout, below.closeTimeout) == (2.5, None)
    with pytest.raises(ValueError, match="closeTimeout"):
        one.transport.closeTimeout = -1
    assert one.transport.closeTimeout == 2.5
    one.transport.loseConnection()
    scene.sim.advance(20)
    assert (below.closeTimeout, "no progress for 2.5 s" in str(one.reason)) == (2.5, True)
    scene.leave()


def test_a_producer_that_raises_when_it_is_stopped_is_told_to_the_log_and_the_connection_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Torn(Source):
        def stopProducing(self) -> None:
            super().stopProducing()
            raise RuntimeError("stop")

    class Raises(End):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            if len(self.received) > 50:
                raise KeyError("too much")

    scene = Scene(lambda factory: RateLimit(factory, receive=100), kind=Raises)
    one, other = scene.come()
    Torn(one, 10_000_000, True)
    other.transport.pauseProducing()
    scene.sim.advance(1)
    other.transport.write(bytes(100))
    scene.sim.advance(2)
    other.transport.resumeProducing()
    scene.sim.advance(10)
    assert (type(one.reason), type(other.reason)) == (KeyError, ConnectionDone)
    assert [type(each.exc_info[1]) for each in caplog.records if each.exc_info] == [KeyError, RuntimeError]
    scene.leave()


def test_a_producer_that_raises_when_it_is_paused_is_told_to_the_log_and_the_connection_stands(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Torn(Source):
        def pauseProducing(self) -> None:
            super().pauseProducing()
            raise KeyError("pause")

    scene = Scene(lambda factory: RateLimit(factory, send=100_000))
    one, other = scene.come()
    Torn(one, 150_000, True)
    scene.sim.advance(5)
    assert (one.reason, len(other.received)) == (None, 150_000)
    assert {each.getMessage().split()[0] for each in caplog.records} == {"pauseProducing"}
    scene.leave()


def test_what_cannot_be_written_or_cannot_produce_is_refused_at_once_also_while_something_is_held() -> None:
    scene = Scene(lambda factory: RateLimit(factory, send=10))
    one, _ = scene.come()
    one.transport.write(bytes(50))
    for bad in ("text", 5, ["a"]):
        with pytest.raises(TypeError, match="bytes-like"):
            one.transport.write(any_value(bad))
        with pytest.raises(TypeError, match="bytes-like"):
            one.transport.writeSequence(any_value([b"good", bad]))
    with pytest.raises(TypeError, match="not one str"):
        one.transport.writeSequence(any_value("text"))
    with pytest.raises(TypeError, match="lacks pauseProducing"):
        one.transport.registerProducer(object(), True)
    held = one.transport.bytesBuffered
    one.transport.registerProducer(one.transport, True)
    with pytest.raises(RuntimeError, match="is registered"):
        one.transport.registerProducer(one.transport, True)
    assert (held, one.transport.writeLimits) == (one.transport.bytesBuffered, (65536, 0, None))
    one.transport.unregisterProducer()
    one.transport.abortConnection()
    scene.sim.settle()
    stopped: list[str] = []

    class Late:
        def resumeProducing(self) -> None:
            stopped.append("resume")

        def stopProducing(self) -> None:
            stopped.append("stop")

    one.transport.registerProducer(Late(), False)
    one.transport.unregisterProducer()
    one.transport.write(b"too late")
    assert (stopped, one.transport.bytesBuffered) == (["stop"], 0)
    scene.leave()


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("many", [300_000, 70_000])
def test_producers_are_held_back_by_the_rate_and_a_close_waits_for_them(streaming: bool, many: int) -> None:
    scene = Scene(lambda factory: RateLimit(factory, send=50_000))
    one, other = scene.come()
    source = Source(one, many, streaming)
    one.transport.loseConnection()
    scene.sim.advance(many / 50_000 - 0.5)
    assert one.reason is None
    scene.sim.advance(1)
    assert len(other.received) == many
    assert [type(each.reason) for each in (one, other)] == [ConnectionDone] * 2
    assert source.most_waited <= 65_536 + 10_000
    turns = [each for each in source.told if each != "stop"]
    if streaming:
        assert turns == (["pause", "resume"] * len(turns))[: len(turns)]
        assert turns
    assert "stop" not in source.told
    scene.leave()


def test_what_was_written_still_leaves_at_the_rate_when_the_peer_has_ended_its_side() -> None:
    for kind in (End, Halves):
        scene = Scene(lambda factory: RateLimit(factory, send=1000), kind=kind)
        one, other = scene.come()
        one.transport.write(bytes(3000))
        other.transport.loseWriteConnection()
        scene.sim.advance(1)
        assert 900 <= len(other.received) <= 1100
        one.transport.loseConnection()
        scene.sim.advance(5)
        assert (len(other.received), type(one.reason)) == (3000, ConnectionDone)
        scene.leave()


def test_half_closing_waits_for_what_was_written_and_then_says_so() -> None:
    scene = Scene(lambda factory: RateLimit(factory, send=1000), kind=Halves)
    one, other = scene.come()
    one.transport.write(bytes(3000))
    one.transport.loseWriteConnection()
    scene.sim.advance(2.8)
    assert (one.halves, other.reason) == (0, None)
    scene.sim.advance(0.2)
    assert (one.halves, len(other.received), type(other.reason)) == (11, 3000, ConnectionDone)
    scene.leave()


@pytest.mark.parametrize("streaming", [True, False])
def test_half_closing_waits_for_what_is_held_and_not_for_a_push_producer(streaming: bool) -> None:
    class Source:
        def __init__(self) -> None:
            self.told: list[str] = []

        def resumeProducing(self) -> None:
            self.told.append("resume")

        def pauseProducing(self) -> None:
            self.told.append("pause")

        def stopProducing(self) -> None:
            self.told.append("stop")

    scene = Scene(lambda factory: RateLimit(factory, send=1000), kind=Halves)
    one, other = scene.come()
    source = Source()
    one.transport.registerProducer(source, streaming)
    one.transport.write(bytes(3000))
    one.transport.loseWriteConnection()
    scene.sim.advance(2.8)
    assert (one.halves, other.reason) == (0, None)
    scene.sim.advance(1)
    assert len(other.received) == 3000
    if not streaming:
        assert (one.halves, source.told[-1]) == (0, "resume")
        one.transport.unregisterProducer()
        scene.sim.settle()
    assert (one.halves, type(other.reason)) == (11, ConnectionDone)
    scene.leave()


def test_what_the_protocol_raises_when_it_is_called_later_closes_the_connection_as_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Raises(End):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            if len(self.received) > 500:
                raise KeyError("too much")

    scene = Scene(lambda factory: RateLimit(factory, receive=1000, send=10), kind=Raises)
    one, other = scene.come()
    one.transport.write(bytes(1000))
    other.transport.write(bytes(2000))
    scene.sim.advance(10)
    assert (type(one.reason), one.transport.ended.by) == (KeyError, EndedBy.EXCEPTION)
    assert [each.exc_info[1] for each in caplog.records if each.exc_info] == [one.reason]
    assert isinstance(other.reason, ConnectionDone)
    assert len(one.received) <= 550
    scene.leave()


def test_an_abort_throws_away_what_is_held_and_leaves_no_timer() -> None:
    scene = Scene(lambda factory: RateLimit(factory, 10, 10))
    one, other = scene.come()
    one.transport.write(bytes(1000))
    other.transport.write(bytes(1000))
    scene.sim.advance(3)
    one.transport.abortConnection()
    assert one.transport.bytesBuffered == 0
    scene.sim.settle()
    assert isinstance(one.reason, ConnectionAborted)
    assert scene.server.reactor.getDelayedCalls() == []
    scene.leave()


def test_above_the_hard_limit_the_peer_is_given_up_what_is_held_counting() -> None:
    scene = Scene(lambda factory: RateLimit(factory, send=10))
    one, _ = scene.come()
    one.transport.setWriteLimits(1000, 0, 5000)
    one.transport.write(bytes(4900))
    scene.sim.advance(1)
    assert one.reason is None
    one.transport.write(bytes(200))
    scene.sim.settle()
    assert "the hard limit is 5000" in str(one.reason)
    scene.leave()


# ---- budgets --------------------------------------------------------------------------------------------------------


def test_of_those_that_hold_too_much_together_the_greediest_goes_first() -> None:
    scene = Scene(lambda factory: Shed(factory, 100_000))
    scene.come(3)
    for each in scene.clients.ends:
        each.transport.pauseProducing()
    small, large, middle = scene.inner.ends
    # What the kernel takes is not held.
    small.transport.write(bytes(3_000_000))
    scene.sim.settle()
    assert isinstance(small.reason, ConnectionAborted)
    for each, count in ((large, 60_000), (middle, 30_000)):
        each.transport.transport.setWriteLimits(10**7)
        fill_kernel(scene, each)
        each.transport.write(bytes(count - each.transport.bytesBuffered))
    assert (large.reason, middle.reason) == (None, None)
    middle.transport.write(bytes(20_000))
    scene.sim.settle()
    assert "held 60000 of the 110000 bytes that wait to be sent, 100000 may" in str(large.reason)
    assert large.transport.ended.by is EndedBy.US_ABORTED
    assert (type(large.reason), middle.reason, scene.layer.budget.shed) == (ConnectionAborted, None, 2)
    scene.leave()


@pytest.mark.parametrize(
    "layer",
    [
        lambda factory: Shed(RateLimit(factory, send=1000), 10_000),
        lambda factory: Shed(Idle(RateLimit(factory, send=1000), 60), 10_000),
        lambda factory: RateLimit(Shed(factory, 10_000), send=1000),
    ],
)
def test_what_a_layer_on_either_side_holds_counts(layer: Any) -> None:
    scene = Scene(layer)
    scene.come(2)
    modest, greedy = scene.inner.ends
    modest.transport.write(bytes(3000))
    greedy.transport.write(bytes(9000))
    greedy.transport.write(bytes(1000))
    shed = scene.layer if isinstance(scene.layer, Shed) else scene.layer.wrappedFactory
    scene.sim.advance(0.5)
    assert "of the 12000 bytes that wait to be sent" in str(greedy.reason)
    assert 2400 <= shed.budget.held <= 2600
    scene.sim.advance(20)
    assert (modest.reason, shed.budget.shed, shed.budget.held) == (None, 1, 0)
    scene.leave()


def fill_kernel(scene: Scene, end: Any) -> None:
    """Let it write until the kernel takes no more."""
    while True:
        end.transport.write(bytes(10_000))
        scene.sim.settle()
        if end.transport.bytesBuffered:
            break


def test_one_budget_may_be_shared_by_listeners_and_those_who_read_keep_their_connections() -> None:
    budget = Budget(500_000)
    scene = Scene(lambda factory: Shed(factory, budget))
    other_ends = Ends()
    scene.server.reactor.listenTCP(8, Shed(other_ends, budget))
    scene.come(2)
    scene.client.reactor.connectTCP("10.0.0.1", 8, scene.clients)
    scene.sim.settle()
    lazy = next(each for each in scene.clients.ends if each.transport.getPeer().port == 8)
    lazy.transport.pauseProducing()
    for _ in range(100):
        for each in (*scene.inner.ends, *other_ends.ends):
            if each.reason is None:
                each.transport.write(bytes(50_000))
        scene.sim.settle()
        assert budget.held <= budget.most
    assert (other_ends.ends[0].reason is not None, budget.shed) == (True, 1)
    assert [each.reason for each in scene.inner.ends] == [None, None]
    assert sorted(len(each.received) for each in scene.clients.ends)[1:] == [5_000_000] * 2
    assert repr(budget) == "<Budget 500000 bytes, 2 connections>"
    scene.leave()


@pytest.mark.parametrize("inner", [lambda factory: factory, lambda factory: RateLimit(factory, send=1000)])
@pytest.mark.parametrize("way", ["write", "writeSequence"])
def test_what_is_written_counts_also_if_a_producer_that_is_paused_leaves_the_loop(
    inner: Any, way: str
) -> None:
    class Leaves:
        def pauseProducing(self) -> None:
            raise SystemExit(1)

        def resumeProducing(self) -> None: ...
        def stopProducing(self) -> None: ...

    budget = Budget(100_000)
    scene = Scene(lambda factory: Shed(inner(factory), budget))
    one, _ = scene.come()
    one.transport.registerProducer(Leaves(), True)
    getattr(one.transport, way)(bytes(99_000) if way == "write" else [bytes(99_000)])
    assert (budget.held, budget.shed) == (99_000, 0)
    one.transport.write(bytes(2000))
    assert (budget.held, budget.shed) == (0, 1)
    with pytest.raises(SystemExit):
        scene.sim.settle()
    scene.sim.settle()
    assert isinstance(one.reason, ConnectionAborted)
    scene.leave()


# ---- traffic --------------------------------------------------------------------------------------------------------


def test_what_passes_is_told_in_bounded_lines() -> None:
    lines = io.StringIO()
    scene = Scene(lambda factory: TrafficLog(factory, lines, limit=8))
    one, other = scene.come()
    other.transport.write(b"hello\n")
    scene.sim.settle()
    one.transport.write(bytearray(b"0123456789"))
    one.transport.writeSequence(part for part in (b"a", memoryview(b"b")))
    one.transport.loseConnection()
    scene.sim.settle()
    number, port = one.transport.number, other.transport.getHost().port
    assert lines.getvalue().splitlines() == [
        f"{number} made, 10.0.0.2:{port}",
        f"{number} <- 6 b'hello\\n'",
        f"{number} -> 10 b'01234567' + 2",
        f"{number} -> 1 b'a'",
        f"{number} -> 1 b'b'",
        f"{number} closing",
        f"{number} lost: ConnectionDone",
    ]
    scene.leave()


def test_to_a_logger_in_hex_and_an_abort_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "traffic")
    scene = Scene(
        lambda f: TrafficLog(f, logging.getLogger("traffic"), form="hex", limit=2, level=logging.DEBUG)
    )
    one, _ = scene.come()
    one.transport.write(b"\x00\xff%d")
    one.transport.loseWriteConnection()
    one.transport.abortConnection()
    scene.sim.settle()
    told = [each.getMessage().partition(" ")[2] for each in caplog.records if each.name == "traffic"]
    assert told[1:] == ["-> 4 00 ff + 2", "closing our side", "aborting", "lost: ConnectionAborted"]
    scene.leave()


def test_a_file_that_cannot_be_written_is_said_once_and_hurts_no_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    full = io.StringIO()
    full.close()
    scene = Scene(lambda factory: TrafficLog(factory, full))
    one, other = scene.come()
    other.transport.write(b"hello")
    scene.sim.settle()
    assert (one.received, len(caplog.records)) == (b"hello", 1)
    scene.leave()


# ---- together -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        WrappingFactory,
        lambda factory: RateLimit(factory, 1000, 1000),
        lambda factory: Idle(factory, 60),
        lambda factory: Lifetime(factory, 60),
        lambda factory: Limit(factory, 60),
        lambda factory: Shed(factory, 1000),
        lambda factory: TrafficLog(factory, io.StringIO()),
    ],
)
def test_a_connection_whose_protocol_raises_at_its_end_is_freed_without_the_garbage_collector(
    layer: Any,
) -> None:
    class Raises(End):
        def connectionLost(self, reason: Any) -> None:
            super().connectionLost(reason)
            raise ValueError("at the end")

    scene = Scene(layer, kind=Raises)
    one, other = scene.come()
    layer_of_it = weakref.ref(one.transport)
    gc.disable()
    # Why: pytest keeps what is logged, and with it the frame in which it was raised.
    logging.disable(logging.CRITICAL)
    try:
        other.transport.loseConnection()
        scene.sim.settle()
        assert type(one.reason) is ConnectionDone
        scene.inner.ends.clear()
        del one
        assert layer_of_it() is None
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)
    scene.leave()


def test_a_layer_works_over_a_test_s_own_transport() -> None:
    transport = StringTransport()
    protocol = TrafficLog(ServerFactory.forProtocol(Protocol), io.StringIO()).buildProtocol(None)
    protocol.makeConnection(transport)
    protocol.wrappedProtocol.transport.write(b"hello")
    assert transport.value() == b"hello"


def test_a_clock_of_the_test_s_own_is_asked_for_the_time() -> None:
    clock = Clock()
    received: list[tuple[float, int]] = []

    class Notes(Protocol):
        def dataReceived(self, data: bytes) -> None:
            received.append((clock.seconds(), len(data)))

    idle = Idle(RateLimit(ServerFactory.forProtocol(Notes), receive=100), 60)
    idle.clock = idle.wrappedFactory.clock = clock
    transport = StringTransport()
    protocol = idle.buildProtocol(None)
    protocol.makeConnection(transport)
    protocol.dataReceived(bytes(20))
    clock.pump([0.05] * 4)
    assert [count for _, count in received] == [5, 5, 5, 5]
    assert [time for time, _ in received] == pytest.approx([0.0, 0.0, 0.05, 0.1])
    # Idle since the last of them was handed on.
    clock.advance(59.89)
    assert not transport.disconnecting
    clock.advance(0.02)
    assert transport.disconnecting
    protocol.connectionLost(Failure(ConnectionDone()))
    assert clock.getDelayedCalls() == []


def test_over_loopback_two_connections_pass_at_their_rate_and_the_third_is_refused(reactor: Reactor) -> None:
    class Watched:
        """The reactor's clock, and what it said last: by that time the layer let pass what comes next."""

        callLater = reactor.callLater
        said = 0.0

        def seconds(self) -> float:
            self.said = reactor.seconds()
            return self.said

    class ByTheLayer(End):
        def now(self) -> float:
            return clock.said

    clock = Watched()
    inner, clients = Ends(ByTheLayer), Ends()
    rates = RateLimit(Idle(inner, 60), receive=1_000_000)
    rates.clock = clock
    layer = Limit(rates, 2)
    port = reactor.listenTCP(0, layer, interface="127.0.0.1")
    for _ in range(3):
        reactor.connectTCP("127.0.0.1", port.getHost().port, clients)
    while len(clients.ends) < 3 or len(inner.ends) + layer.refused < 3:
        reactor.iterate(0.01)
    before = reactor.seconds()
    for each in clients.ends:
        each.transport.write(bytes(200_000))
        each.transport.loseConnection()
    while any(each.reason is None for each in (*clients.ends, *inner.ends)):
        reactor.iterate(0.01)
    # Both at once, each its 100 ms less than at the rate: the burst.
    assert reactor.seconds() - before >= 0.1
    assert [len(each.received) for each in inner.ends] == [200_000] * 2
    for each in inner.ends:
        assert most_over(each.rows, 1_000_000) <= 100_000 + 1e-3
    port.stopListening()
    reactor.iterate()


class Chatter(End):
    """Answers each read with as many bytes."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.write(data)


@simulate(seeds=25)
def test_in_any_storm_limits_and_rates_hold_and_nothing_is_left(simulation: Simulation) -> None:
    chance = random.Random(f"policies {simulation.seed}")
    rate, most = chance.choice([500, 20_000]), chance.randrange(1, 6)
    is_calm = chance.random() < 0.4
    noting: list[Any] = []
    budget = Budget(100_000)

    def layer(factory: Any) -> Any:
        noting.append(Metering(RateLimit(Shed(TrafficLog(factory, io.StringIO()), budget), rate, rate)))
        return Limit(Lifetime(Idle(noting[0], 20), 100), most, perPeer=most)

    scene = Scene(layer, simulation, kind=Chatter, of_client=lambda f: Idle(RateLimit(f, send=rate * 2), 60))
    sent: dict[Any, bytes] = {}
    if not is_calm:
        simulation.storm(40)
    for _ in range(8):
        scene.come(chance.randrange(3), seconds=chance.choice([0.0, 0.5, 3.0]))
        assert len(scene.layer.protocols) <= most
        for each in scene.clients.ends:
            if each not in sent and each.transport.connected:
                sent[each] = random.Random(len(sent)).randbytes(chance.choice([10, 3000, 20 * rate]))
                each.transport.write(sent[each])
    simulation.run(until=simulation.now + 300)
    assert all(each.reason is not None for each in (*scene.inner.ends, *scene.clients.ends))
    burst = Bucket(rate).burst + 1e-6
    for each in scene.inner.ends:
        assert most_over(each.rows, rate) <= burst
        assert each.lived <= 100 + 10 + 5 + (0 if is_calm else 40)
    for each in noting[0].meters:
        assert most_over(each.written, rate) <= burst
    for each in scene.clients.ends:
        # Echoed, in order, as far as it has come.
        assert sent.get(each, b"").startswith(bytes(each.received))
    if is_calm:
        served = [each for each in scene.clients.ends if each.received]
        assert {len(each.received) for each in served} == {len(sent[each]) for each in served}
        assert len(served) == len(scene.inner.ends)
    assert scene.layer.protocols == {} and budget.held == 0
    scene.leave()
