"""A proxy: every byte once and in order, each end handed on as what it is, and nothing left of a session that is over."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from ropewalk import ClientFactory, Drained
from ropewalk.defer import CancelledError, Deferred
from ropewalk.endpoints import HostnameEndpoint
from ropewalk.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from ropewalk.proxying import Proxy
from ropewalk.simulation import Simulation
from ropewalk.testing import simulate
from tests.rooms.proxied import PATIENCE, Client, Clients, Scene
from tests.rooms.staying import outcome


class Keeping(Client):
    """A target that keeps what comes, and is told nothing of the server it is one of."""

    factory: Any

    def __init__(self) -> None:
        super().__init__()

    def connectionMade(self) -> None:
        self.factory.served += 1
        self.factory.live.append(self)


def the_one_of(scene: Scene, name: str = "a") -> Any:
    (only,) = scene.servers[name].live
    return only


def joined(scene: Scene) -> tuple[Client, Keeping]:
    """A client and the target it got."""
    client = scene.client()
    scene.go(1)
    return client, the_one_of(scene)


# ---- what is carried ------------------------------------------------------------------------------------------


def test_targets_are_used_in_turn_and_each_client_gets_its_answer() -> None:
    scene = Scene("abc")
    clients = [scene.answered(b"%d" % number) for number in range(9)]
    assert [client.received for client in clients] == [b"%d" % number for number in range(9)]
    assert scene.served == {"a": 3, "b": 3, "c": 3}
    scene.leave()


def test_many_bytes_come_through_both_ways_once_and_in_order() -> None:
    scene = Scene("a")
    scene.sim.bandwidth("proxy", "a", 500_000)
    data = scene.sim.random.randbytes(2_000_000)
    client = scene.client(data)
    scene.sim.run(until=lambda: len(client.received) >= len(data))
    client.transport.loseWriteConnection()
    scene.go(5)
    assert client.received == data
    assert type(client.reason) is ConnectionDone
    scene.leave()


def test_what_the_client_sends_before_there_is_a_target_waits_outside() -> None:
    scene = Scene("ab")
    scene.vanish("a")
    data = bytes(1000)
    client = scene.client(data)
    scene.go(PATIENCE / 2)
    (session,) = scene.proxy._sessions
    assert session.client is not None
    assert session.client.transport.bytesReceived == 0
    scene.go(PATIENCE)
    assert client.received == data
    scene.leave()


@pytest.mark.parametrize("way", ["to the target", "to the client"])
def test_a_reader_that_does_not_read_holds_the_writer_back(way: str) -> None:
    scene = Scene("a", Keeping)
    client, target = joined(scene)
    writer, reader = (client, target) if way == "to the target" else (target, client)
    reader.transport.pauseProducing()
    data = scene.sim.random.randbytes(5_000_000)
    writer.transport.write(data)
    scene.go(60)
    (session,) = scene.proxy._sessions
    assert session.client is not None and session.target is not None
    sides: list[Any] = [session.client, session.target]
    held = sum(side.transport.bytesBuffered for side in sides)
    # Two reads; the rest is in the kernels' buffers, and with the writer.
    assert 0 < held <= 2 * 131072
    transport: Any = writer.transport
    assert transport.bytesBuffered > 3_000_000
    reader.transport.resumeProducing()
    scene.go(60)
    assert reader.received == data
    assert not any(side.is_held_back for side in sides)
    scene.leave()


def test_small_pieces_do_not_pile_up_either() -> None:
    scene = Scene("a", Keeping)
    client, target = joined(scene)
    target.transport.pauseProducing()
    scene.sim.host("proxy").faults.short("recv", 1000)
    for _ in range(1000):
        client.transport.write(bytes(1000))
        scene.go(0.001)
    scene.go(1)
    (session,) = scene.proxy._sessions
    sides: list[Any] = [session.client, session.target]
    assert 0 < sum(side.transport.bytesBuffered for side in sides) <= 2000
    scene.leave()


def test_a_slow_reader_does_not_hold_back_the_other_direction() -> None:
    scene = Scene("a", Keeping)
    client, target = joined(scene)
    target.transport.pauseProducing()
    client.transport.write(bytes(5_000_000))
    scene.go(10)
    target.transport.write(b"still here")
    scene.go(1)
    assert client.received == b"still here"
    scene.leave()


# ---- how it ends ----------------------------------------------------------------------------------------------


def test_the_clients_end_is_handed_on_and_the_answer_still_comes() -> None:
    scene = Scene("a", Keeping)
    client, target = joined(scene)
    client.transport.write(b"question")
    client.transport.loseWriteConnection()
    scene.go(1)
    assert (target.received, target.hasEnded, client.reason) == (b"question", True, None)
    target.transport.write(b"answer")
    target.transport.loseConnection()
    scene.go(1)
    assert (client.received, type(client.reason)) == (b"answer", ConnectionDone)
    scene.leave()


def test_the_targets_end_is_handed_on_and_the_client_may_still_send() -> None:
    scene = Scene("a", Keeping)
    client, target = joined(scene)
    target.transport.write(b"greeting")
    target.transport.loseWriteConnection()
    scene.go(1)
    assert (client.received, client.hasEnded, target.reason) == (b"greeting", True, None)
    client.transport.write(b"farewell")
    client.transport.loseConnection()
    scene.go(1)
    assert (target.received, type(target.reason)) == (b"farewell", ConnectionDone)
    scene.leave()


def test_an_end_behind_much_that_waits_comes_after_all_of_it() -> None:
    scene = Scene("a", Keeping)
    scene.sim.bandwidth("proxy", "a", 100_000)
    client, target = joined(scene)
    data = scene.sim.random.randbytes(1_000_000)
    client.transport.write(data)
    client.transport.loseWriteConnection()
    scene.go(30)
    assert (target.received, target.hasEnded) == (data, True)
    scene.leave()


@pytest.mark.parametrize("way", ["from the target", "from the client"])
def test_a_reset_is_handed_on_as_a_reset(way: str) -> None:
    scene = Scene("a", Keeping)
    client, target = joined(scene)
    one, other = (target, client) if way == "from the target" else (client, target)
    one.transport.abortConnection()
    scene.go(1)
    assert type(other.reason) is ConnectionLost
    assert scene.proxy.connections == 0
    scene.leave()


@pytest.mark.parametrize("held_back", ["client", "target"])
def test_a_reset_while_one_side_is_held_back_ends_both(held_back: str) -> None:
    scene = Scene("a", Keeping)
    client, target = joined(scene)
    writer, reader = (client, target) if held_back == "client" else (target, client)
    reader.transport.pauseProducing()
    writer.transport.write(bytes(5_000_000))
    scene.go(10)
    writer.transport.abortConnection()
    scene.go(10)
    assert type(reader.reason) is ConnectionLost
    assert scene.proxy.connections == 0
    scene.leave()


def test_a_target_that_crashes_in_mid_stream_ends_the_session_when_it_is_up_and_knows_nothing() -> None:
    scene = Scene("a")
    client = scene.client(b"x")
    scene.go(1)
    scene.host("a").crash()
    client.transport.write(b"y")
    scene.go(5)
    assert client.reason is None
    scene.host("a").restart()
    scene.go(120)
    assert isinstance(client.reason, ConnectionLost)
    assert scene.answered(b"z").received == b"z"
    scene.leave()


def test_a_target_whose_program_is_killed_is_left_for_another() -> None:
    scene = Scene("ab")
    scene.host("a").kill()
    assert [scene.answered().received for _ in range(4)] == [b"x"] * 4
    assert (scene.served, scene.changes) == ({"a": 0, "b": 4}, ["a down"])
    scene.leave()


# ---- no target, and no client ---------------------------------------------------------------------------------


def test_a_client_for_whom_there_is_no_target_is_reset() -> None:
    scene = Scene("ab")
    scene.close("a")
    scene.vanish("b")
    client = scene.client(b"x")
    scene.go(PATIENCE + 1)
    assert type(client.reason) is ConnectionLost
    assert client.received == b""
    scene.leave()


def test_a_client_that_leaves_while_a_target_is_tried_leaves_nothing() -> None:
    scene = Scene("ab")
    scene.vanish("a")
    scene.vanish("b")
    client = scene.client(b"x")
    scene.go(1)
    assert [target.connections for target in scene.balancer.targets] == [1, 0]
    client.transport.abortConnection()
    scene.go(0.1)
    assert (scene.proxy.connections, scene.changes) == (0, [])
    assert [target.connections for target in scene.balancer.targets] == [0, 0]
    assert scene.proxied.reactor.getDelayedCalls() == []
    scene.leave()


def test_an_endpoint_that_cannot_be_called_off_gives_its_connection_back() -> None:
    class Stubborn:
        def __init__(self, endpoint: Any) -> None:
            self.endpoint = endpoint
            self.waiting: list[Deferred[Any]] = []

        def connect(self, factory: Any) -> Deferred[Any]:
            self.endpoint.connect(factory).addBoth(self.waiting.append)
            return Deferred()

    sim = Simulation()
    reactor = sim.host("proxy").reactor
    scene = Scene("a", Keeping, sim=sim)
    sim.latency("proxy", "a", 1)
    scene.proxy.endpoint = Stubborn(HostnameEndpoint(reactor, "a", 7))
    client = scene.client()
    scene.go(0.5)
    client.transport.abortConnection()
    scene.go(10)
    target = the_one_of(scene)
    assert type(target.reason) is ConnectionLost
    assert scene.proxy.connections == 0
    scene.leave()


def test_what_is_wrong_with_an_endpoint_is_not_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    def broken(targets: list[Any]) -> Any:
        raise ZeroDivisionError

    scene = Scene("a", policy=broken)
    client = scene.answered()
    assert type(client.reason) is ConnectionLost
    gc.collect()
    assert any(
        "ZeroDivisionError" in repr((record.getMessage(), record.exc_info)) for record in caplog.records
    )
    scene.leave()


# ---- how many -------------------------------------------------------------------------------------------------


def test_at_the_limit_nobody_is_accepted_until_somebody_leaves() -> None:
    scene = Scene("a", limit=2)
    clients = [scene.client(b"x") for _ in range(5)]
    for left in (3, 2, 1, 0):
        scene.go(5)
        # Those who wait are connected, as far as they know: the kernel has them in its queue.
        assert [client.connected for client in clients] == [True] * 5
        assert len([client for client in clients if not client.received]) == left
        assert scene.proxy.connections == 2
        served = next(client for client in clients if client.received and client.reason is None)
        served.transport.loseConnection()
    scene.go(5)
    assert scene.proxy.connections == 1
    scene.leave()


def test_a_limit_needs_to_know_the_port() -> None:
    proxy = Proxy(None, limit=1)
    with pytest.raises(RuntimeError, match=r"limit=1 must know its port: call listens\(port\)"):
        proxy.buildProtocol(None)


@pytest.mark.parametrize("limit", [1.5, True])
def test_a_limit_that_is_no_whole_number_is_named(limit: Any) -> None:
    with pytest.raises(TypeError, match=f"limit must be a whole number .* not {limit}"):
        Proxy(None, limit)


def test_a_limit_below_one_is_named() -> None:
    with pytest.raises(ValueError, match="limit=0"):
        Proxy(None, limit=0)


# ---- draining -------------------------------------------------------------------------------------------------


def test_draining_lets_clients_end_aborts_the_rest_and_accepts_nobody() -> None:
    scene = Scene("a")
    quick, slow = scene.answered(), scene.answered()
    told = outcome(scene.proxy.drain(10))
    scene.go(1)
    assert type(scene.answered().reason) is ConnectionRefusedError
    quick.transport.write(b"y")
    quick.transport.loseWriteConnection()
    scene.go(1)
    assert (quick.received, type(quick.reason), told) == (b"xy", ConnectionDone, [])
    scene.go(10)
    assert (type(slow.reason), told) == (ConnectionLost, [Drained(1, 1)])
    scene.leave()


def test_draining_waits_until_what_a_client_has_sent_is_with_its_target() -> None:
    scene, target, data = client_gone_but_not_its_data()
    told = outcome(scene.proxy.drain(100))
    scene.go(10)
    assert told == []
    target.transport.resumeProducing()
    scene.go(10)
    assert (target.received == data, told) == (True, [Drained(1, 0)])
    scene.leave()


def test_a_target_that_does_not_take_what_its_client_has_sent_is_aborted_at_the_deadline() -> None:
    scene, target, data = client_gone_but_not_its_data()
    scene.close("a")
    told = outcome(scene.proxy.drain(10))
    scene.go(10.1)
    assert told == [Drained(0, 1)]
    target.transport.resumeProducing()
    scene.go(10)
    assert len(target.received) < len(data)
    scene.leave()


def client_gone_but_not_its_data() -> tuple[Scene, Keeping, bytes]:
    """The target has ended its side and reads nothing; its client has sent much and is gone."""
    scene = Scene("a", Keeping)
    client, target = joined(scene)
    target.transport.loseWriteConnection()
    target.transport.pauseProducing()
    data = scene.sim.random.randbytes(300_000)
    client.transport.write(data)
    scene.go(1)
    client.transport.loseConnection()
    scene.go(1)
    assert type(client.reason) is ConnectionDone
    assert scene.proxy.connections == 1
    return scene, target, data


def test_a_client_that_waits_for_a_target_is_waited_for_and_aborted_like_the_others() -> None:
    scene = Scene("ab")
    scene.vanish("a")
    scene.vanish("b")
    client = scene.client()
    scene.go(1)
    told = outcome(scene.proxy.drain(1))
    scene.go(1.1)
    assert (type(client.reason), told) == (ConnectionLost, [Drained(0, 1)])
    scene.leave()


def test_asked_again_with_nothing_left_to_wait_for_it_ends_at_once() -> None:
    scene = Scene("a")
    client = scene.answered()
    told = [outcome(scene.proxy.drain(deadline)) for deadline in (None, 0)]
    scene.go(0.1)
    assert (type(client.reason), told) == (ConnectionLost, [[Drained(0, 1)]] * 2)
    scene.leave()


def test_asked_again_while_data_is_on_its_way_all_are_told_the_same_and_the_truth() -> None:
    scene, _, _ = client_gone_but_not_its_data()
    first = outcome(scene.proxy.drain(30))
    scene.go(1)
    second = outcome(scene.proxy.drain(0))
    scene.go(1)
    assert (first, second) == ([Drained(0, 1)], [Drained(0, 1)])
    scene.leave()


def test_draining_that_is_cancelled_while_data_is_on_its_way_aborts_nobody() -> None:
    scene, target, data = client_gone_but_not_its_data()
    draining = scene.proxy.drain(10)
    told = outcome(draining)
    scene.go(1)
    draining.cancel()
    assert [type(each) for each in told] == [CancelledError]
    scene.go(20)
    assert scene.proxy.connections == 1
    again = outcome(scene.proxy.drain(10))
    target.transport.resumeProducing()
    scene.go(5)
    assert (target.received == data, again) == (True, [Drained(1, 0)])
    scene.leave()


def test_one_of_two_who_cancels_takes_nothing_from_the_other() -> None:
    scene, _, _ = client_gone_but_not_its_data()
    told = outcome(scene.proxy.drain(None))
    other = scene.proxy.drain(10)
    outcome(other)
    other.cancel()
    scene.go(10.1)
    assert told == [Drained(0, 1)]
    scene.leave()


def test_draining_needs_to_know_the_port_and_a_deadline() -> None:
    with pytest.raises(RuntimeError, match=r"call listens\(port\)"):
        Proxy(None).drain(1)
    scene = Scene("a")
    with pytest.raises(ValueError, match="deadline must be"):
        scene.proxy.drain(-1)
    scene.leave()


def test_nothing_is_kept_of_a_session_that_is_over() -> None:
    scene = Scene("a")
    client = scene.answered()
    (session,) = scene.proxy._sessions
    assert session.client is not None and session.target is not None
    kept: list[weakref.ref[Any]] = [weakref.ref(each) for each in (session, session.client, session.target)]
    gc.collect()
    gc.disable()
    try:
        del session
        client.transport.loseConnection()
        scene.go(1)
        assert [each() for each in kept] == [None] * 3
    finally:
        gc.enable()
    scene.leave()


# ---- in storms ------------------------------------------------------------------------------------------------


class Numbered(Client):
    """Sends numbered lines now and then, and has them echoed."""

    def __init__(self, reactor: Any, lines: int) -> None:
        super().__init__()
        self.reactor = reactor
        self.left = [b"%d\n" % number * 50 for number in range(lines)]
        self.sent = b""

    def connectionMade(self) -> None:
        self.next()

    def next(self) -> None:
        if self.reason is None and self.left:
            line = self.left.pop(0)
            self.sent += line
            self.transport.write(line)
            self.reactor.callLater(0.2, self.next)
        elif self.reason is None:
            self.transport.loseWriteConnection()


@simulate(seeds=50)
def test_in_a_storm_no_byte_is_lost_doubled_or_out_of_order_and_nothing_is_left_after_it(
    simulation: Simulation,
) -> None:
    sim = simulation
    scene = Scene("abc", sim=sim, limit=10, rest=2.0)
    scene.check(2)
    reactor = scene.outside.reactor
    clients: list[Numbered] = []

    class Coming(ClientFactory[Any]):
        noisy = False

        def buildProtocol(self, addr: object) -> Numbered:
            clients.append(Numbered(reactor, 6))
            return clients[-1]

    for number in range(20):
        reactor.callLater(number * 0.75, reactor.connectTCP, "proxy", 80, Coming())
    storm = sim.storm(15, every=0.5)
    sim.run(until=storm.ends + 15)
    # Why asked: the kernel of a program that is killed ends its connections in order, whatever was still to come.
    is_killed = any("is killed" in what for _, what in storm.log)
    for client in clients:
        assert client.sent.startswith(client.received), "what came back is not what was sent"
        if type(client.reason) is ConnectionDone and not is_killed:
            assert client.received == client.sent, "a clean end, but not all of it"
    late = Numbered(reactor, 3)
    reactor.connectTCP("proxy", 80, Clients(late))
    sim.run(until=sim.now + 15)
    assert (late.received, type(late.reason)) == (late.sent, ConnectionDone), (
        "after the storm it does not work"
    )
    for name in scene.servers:
        # Why: a target that is never sent anything again cannot know that its peer has fallen.
        sim.host(name).kill()
    scene.leave()
