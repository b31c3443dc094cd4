"""One direction ended, the other open."""

from __future__ import annotations

import socket

from tests.differential.bench import raises, reset
from tests.differential.scenarios.table import STOPPED, abort, freeze, lose, scenario


@scenario()
def half_close_by_the_client_and_an_answer(bench):
    client = bench.client(
        half_close=True, connectionMade=lambda p: (p.transport.write(b"?"), p.transport.loseWriteConnection())
    )
    server = bench.server(
        half_close=True, readConnectionLost=lambda p: (p.transport.write(b"answer"), lose(p))
    )
    bench.pair(client, server)
    client_end = client.has("readConnectionLost")

    def close():
        if client_end():
            lose(client.built[0])
        else:
            bench.reactor.callLater(0.005, close)

    bench.reactor.callLater(0.01, close)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario()
def half_close_that_the_peer_does_not_handle(bench):
    client = bench.client(half_close=True, connectionMade=lambda p: p.transport.loseWriteConnection())
    server = bench.server()
    bench.pair(client, server)
    bench.once(client.has("readConnectionLost"), lambda: client.built[0].transport.loseConnection())
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario(
    "D26",
    client=(
        [],
        ["connectionLost ConnectionDone after 0 bytes", "clientConnectionLost ConnectionDone", *STOPPED],
    ),
    server=([], ["connectionLost ConnectionDone after 0 bytes"]),
)
def half_close_of_both_sides(bench):
    client = bench.client(half_close=True, connectionMade=lambda p: p.transport.loseWriteConnection())
    server = bench.server(half_close=True, connectionMade=lambda p: p.transport.loseWriteConnection())
    bench.pair(client, server)
    ends = [end.has(f"{side}ConnectionLost") for end in (client, server) for side in ("read", "write")]
    bench.once(lambda: all(each() for each in ends), bench.note, "client", "(some time later)")
    return client.has("(some")


@scenario()
def readConnectionLost_raises(bench):
    client = bench.client(half_close=True, readConnectionLost=raises())
    bench.facing(client, bench.plain_listener(), lambda peer: peer.shutdown(socket.SHUT_WR))
    return client.has("stopFactory")


@scenario(
    "D27",
    client=(
        ["connectionLost ConnectionDone after 0 bytes", "clientConnectionLost ConnectionDone", *STOPPED],
        ["readConnectionLost"],
    ),
)
def half_close_methods_without_the_interface(bench):
    client = bench.client(half_close=True, declares=False)
    bench.facing(client, bench.plain_listener(), lambda peer: peer.shutdown(socket.SHUT_WR))
    bench.reactor.callLater(0.1, bench.note, "time", "passes")
    bench.reactor.addSystemEventTrigger("before", "shutdown", freeze, bench)
    return lambda: "time" in bench.log


@scenario()
def loseWriteConnection_twice_then_loseConnection(bench):
    def talk(protocol):
        protocol.transport.write(b"request")
        protocol.transport.loseWriteConnection()
        protocol.transport.loseWriteConnection()
        protocol.transport.write(b" and more")
        bench.once(
            client.has("writeConnectionLost"), lambda: (protocol.transport.write(b"ignored"), lose(protocol))
        )

    client, server = bench.client(half_close=True, connectionMade=talk), bench.server(half_close=True)
    bench.pair(client, server)
    bench.once(client.has("stopFactory"), lambda: lose(server.built[0]))
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario()
def loseConnection_right_after_loseWriteConnection(bench):
    def talk(protocol):
        protocol.transport.write(b"x" * 500_000)
        protocol.transport.loseWriteConnection()
        lose(protocol)

    client, server = bench.client(half_close=True, connectionMade=talk), bench.server()
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario()
def abortConnection_after_half_close(bench):
    client = bench.client(
        half_close=True,
        connectionMade=lambda p: p.transport.loseWriteConnection(),
        writeConnectionLost=lambda p: bench.soon(abort, p),
    )
    bench.facing(client, bench.plain_listener(), lambda peer: None)
    return client.has("stopFactory")


@scenario(
    "D26",
    client=(
        [],
        ["connectionLost ConnectionLost after 0 bytes", "clientConnectionLost ConnectionLost", *STOPPED],
    ),
)
def the_peer_resets_after_its_half_close(bench):
    client = bench.client(half_close=True)

    def talk(peer):
        peer.shutdown(socket.SHUT_WR)
        bench.soon(reset, peer)

    bench.facing(client, bench.plain_listener(), talk)
    return client.has("stopFactory")


@scenario()
def a_lot_is_written_after_the_peer_s_half_close(bench):
    got = [0]

    def talk(peer):
        peer.shutdown(socket.SHUT_WR)
        take(peer)

    def take(peer):
        peer.setblocking(False)
        try:
            while data := peer.recv(1 << 20):
                got[0] += len(data)
            bench.note("peer", got[0])
        except BlockingIOError:
            bench.reactor.callLater(0.001, take, peer)

    client = bench.client(
        half_close=True, readConnectionLost=lambda p: (p.transport.write(b"x" * 5_000_000), lose(p))
    )
    bench.facing(client, bench.plain_listener(), talk)
    return lambda: client.has("stopFactory")() and "peer" in bench.log


@scenario()
def writeConnectionLost_raises(bench):
    client = bench.client(
        half_close=True,
        connectionMade=lambda p: p.transport.loseWriteConnection(),
        writeConnectionLost=raises(),
    )
    bench.facing(client, bench.plain_listener(), lambda peer: None)
    return client.has("stopFactory")
