"""Pausing and resuming; push and pull producers."""

from __future__ import annotations

from tests.differential.bench import reset
from tests.differential.scenarios.table import STOPPED, lose, scenario


class Producer:
    def __init__(self, bench, **acts):
        self.bench = bench
        self.acts = acts

    def _told(self, what):
        self.bench.note("producer", what)
        if what in self.acts:
            self.acts[what]()

    def pauseProducing(self):
        self._told("pauseProducing")

    def resumeProducing(self):
        self._told("resumeProducing")

    def stopProducing(self):
        self._told("stopProducing")


@scenario()
def a_paused_transport_gives_data_when_resumed(bench):
    client = bench.client(connectionMade=lambda p: p.transport.pauseProducing())

    def talk(peer):
        peer.sendall(b"data")
        bench.soon(resume)

    def resume():
        bench.note("client", "(resuming)")
        client.built[0].transport.resumeProducing()

    bench.facing(client, bench.plain_listener(), talk)
    return client.has("dataReceived")


@scenario(
    "D24",
    client=(
        [],
        ["connectionLost ConnectionLost after 0 bytes", "clientConnectionLost ConnectionLost", *STOPPED],
    ),
)
def the_peer_resets_while_paused(bench):
    client = bench.client(connectionMade=lambda p: p.transport.pauseProducing())

    def talk(peer):
        reset(peer)
        bench.reactor.callLater(0.1, bench.note, "client", "(some time later)")

    bench.facing(client, bench.plain_listener(), talk)
    return client.has("(some")


@scenario(
    "D24",
    client=(
        [],
        ["connectionLost ConnectionLost after 0 bytes", "clientConnectionLost ConnectionLost", *STOPPED],
    ),
)
def shutdown_with_a_paused_connection(bench):
    client = bench.client(connectionMade=lambda p: p.transport.pauseProducing())
    bench.facing(client, bench.plain_listener(), lambda peer: bench.note("client", "(stands)"))
    return client.has("(stands")


@scenario()
def a_push_producer_is_paused_and_resumed(bench):
    def talk(protocol):
        protocol.transport.registerProducer(Producer(bench, resumeProducing=done), True)
        protocol.transport.write(b"x" * 65536)
        bench.note("producer", "(at the mark)")
        protocol.transport.write(b"x")

    def done():
        client.built[0].transport.unregisterProducer()
        lose(client.built[0])

    client, server = bench.client(connectionMade=talk), bench.server()
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario("D20", producer=(["pauseProducing", "pauseProducing"], []))
def a_push_producer_that_goes_on_writing_while_paused(bench):
    def talk(protocol):
        protocol.transport.registerProducer(Producer(bench, resumeProducing=done), True)
        for _ in range(3):
            protocol.transport.write(b"x" * 70_000)

    def done():
        client.built[0].transport.unregisterProducer()
        lose(client.built[0])

    client, server = bench.client(connectionMade=talk), bench.server()
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario()
def a_pull_producer_is_asked_for_each_piece(bench):
    left = [b"x" * 10_000] * 5

    def produce():
        client.built[0].transport.write(left.pop())
        if not left:
            client.built[0].transport.unregisterProducer()
            lose(client.built[0])

    client = bench.client(
        connectionMade=lambda p: p.transport.registerProducer(Producer(bench, resumeProducing=produce), False)
    )
    server = bench.server()
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario()
def a_second_producer_is_refused_and_a_late_one_is_stopped(bench):
    def made(protocol):
        protocol.transport.registerProducer(Producer(bench), True)
        bench.tried("client", protocol.transport.registerProducer, Producer(bench), True)

    client = bench.client(
        connectionMade=made,
        connectionLost=lambda p, reason: p.transport.registerProducer(Producer(bench), True),
    )
    bench.facing(client, bench.plain_listener(), lambda peer: peer.close())
    return client.has("stopFactory")


@scenario(
    "D22",
    client=([], ["(still there)"]),
    producer=(["stopProducing"], []),
    server=(["connectionLost ConnectionDone after 3 bytes"], ["connectionLost ConnectionDone after 6 bytes"]),
)
def loseConnection_with_a_producer_that_is_not_paused(bench):
    def talk(protocol):
        protocol.transport.registerProducer(Producer(bench), True)
        protocol.transport.write(b"one")
        lose(protocol)
        bench.soon(later, protocol)

    def later(protocol):
        if protocol.transport.connected:
            bench.note("client", "(still there)")
            protocol.transport.write(b"two")
            protocol.transport.unregisterProducer()

    client, server = bench.client(connectionMade=talk), bench.server()
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario()
def loseConnection_waits_for_a_producer_that_is_paused(bench):
    def talk(protocol):
        protocol.transport.registerProducer(Producer(bench, resumeProducing=finish), True)
        protocol.transport.write(b"x" * 1_000_000)
        lose(protocol)

    def finish():
        client.built[0].transport.write(b"last")
        client.built[0].transport.unregisterProducer()

    client, server = bench.client(connectionMade=talk), bench.server()
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario()
def a_producer_is_stopped_when_the_peer_resets(bench):
    client = bench.client(connectionMade=lambda p: p.transport.registerProducer(Producer(bench), True))
    bench.facing(client, bench.plain_listener(), reset)
    return client.has("stopFactory")


@scenario()
def pause_and_resume_while_closing(bench):
    def talk(protocol):
        protocol.transport.write(b"x" * 10_000_000)
        lose(protocol)
        protocol.transport.pauseProducing()
        protocol.transport.resumeProducing()

    client, server = bench.client(connectionMade=talk), bench.server()
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario()
def a_pull_producer_registered_while_closing(bench):
    def produce():
        client.built[0].transport.write(b"last")
        client.built[0].transport.unregisterProducer()

    def talk(protocol):
        protocol.transport.write(b"first ")
        lose(protocol)
        protocol.transport.registerProducer(Producer(bench, resumeProducing=produce), False)

    client, server = bench.client(connectionMade=talk), bench.server()
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario()
def stopProducing_of_a_transport_closes_it(bench):
    client, server = bench.client(connectionMade=lambda p: p.transport.stopProducing()), bench.server()
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()
