"""Writing, closing, aborting; how a connection ends and what is told of it."""

from __future__ import annotations

import socket

from tests.differential.bench import reset
from tests.differential.scenarios.table import abort, lose, scenario, write


@scenario()
def loseConnection_flushes_a_megabyte(bench):
    client = bench.client(connectionMade=lambda p: (p.transport.write(b"x" * 1_000_000), lose(p)))
    server = bench.server()
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario()
def what_is_written_after_loseConnection_still_leaves(bench):
    def talk(protocol):
        protocol.transport.write(b"x" * 1_000_000)
        lose(protocol)
        protocol.transport.write(b"last")

    client, server = bench.client(connectionMade=talk), bench.server()
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario()
def what_is_written_after_the_loss_is_ignored(bench):
    def lost(protocol, reason):
        protocol.transport.write(b"too late")
        protocol.transport.writeSequence([b"too", b"late"])
        protocol.transport.loseConnection()
        protocol.transport.abortConnection()
        bench.note("client", "connected", bool(protocol.transport.connected), bool(protocol.connected))

    client, server = bench.client(connectionLost=lost), bench.server(connectionMade=lose)
    bench.pair(client, server)
    return client.has("stopFactory")


@scenario()
def str_cannot_be_written(bench):
    client, server = bench.client(), bench.server()
    client = bench.client(
        connectionMade=lambda p: (
            bench.tried("client", p.transport.write, "text"),
            bench.tried("client", p.transport.writeSequence, ["text"]),
            lose(p),
        )
    )
    bench.pair(client, server)
    return client.has("stopFactory")


@scenario(
    "D18",
    client=(["raised TypeError", "raised TypeError"], []),
    server=(
        ["connectionLost ConnectionDone after 0 bytes"],
        ["dataReceived", "connectionLost ConnectionDone after 6 bytes"],
    ),
)
def a_bytearray_and_a_memoryview_can_be_written(bench):
    def talk(protocol):
        for data in (bytearray(b"one"), memoryview(b"two")):
            bench.tried("client", protocol.transport.write, data)
        lose(protocol)

    client, server = bench.client(connectionMade=talk), bench.server()
    bench.pair(client, server)
    return server.has("connectionLost")


@scenario(
    "D19",
    server=(
        ["connectionLost ConnectionDone after 0 bytes"],
        ["dataReceived", "connectionLost ConnectionDone after 6 bytes"],
    ),
)
def writeSequence_of_a_generator(bench):
    def talk(protocol):
        protocol.transport.writeSequence(each for each in (b"one", b"two"))
        lose(protocol)

    client, server = bench.client(connectionMade=talk), bench.server()
    bench.pair(client, server)
    return server.has("connectionLost")


@scenario()
def abortConnection(bench):
    client, server = bench.client(connectionMade=abort), bench.server()
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario()
def abortConnection_with_a_megabyte_unsent_while_closing(bench):
    def talk(protocol):
        protocol.transport.write(b"x" * 20_000_000)
        lose(protocol)
        bench.soon(abort, protocol)

    client = bench.client(connectionMade=talk)
    bench.facing(client, bench.plain_listener(), lambda peer: None)
    return client.has("stopFactory")


@scenario()
def abortConnection_in_dataReceived(bench):
    client, server = bench.client(dataReceived=abort), bench.server(connectionMade=write(b"!"))
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario()
def the_peer_resets(bench):
    client = bench.client()
    bench.facing(client, bench.plain_listener(), reset)
    return client.has("stopFactory")


@scenario()
def data_and_end_come_together(bench):
    def talk(peer):
        peer.sendall(b"last words")
        peer.close()

    client = bench.client()
    bench.facing(client, bench.plain_listener(), talk)
    return client.has("stopFactory")


@scenario("D23", peer=(["less than 20 MB"], ["all 20 MB"]))
def the_peer_half_closes_with_20_MB_unsent(bench):
    client = bench.client(connectionMade=write(b"x" * 20_000_000))
    got = [0]

    def talk(peer):
        peer.shutdown(socket.SHUT_WR)
        bench.reactor.callLater(0.05, take, peer)

    def take(peer):
        peer.setblocking(False)
        try:
            while data := peer.recv(1 << 20):
                got[0] += len(data)
            bench.note("peer", "all 20 MB" if got[0] == 20_000_000 else "less than 20 MB")
        except BlockingIOError:
            bench.reactor.callLater(0.001, take, peer)

    bench.facing(client, bench.plain_listener(), talk)
    return lambda: "peer" in bench.log


@scenario("D25", reasons=(["one object"], ["two objects"]))
def reasons_of_two_connections_that_ended_alike(bench):
    reasons = []
    client = bench.client(None, clientConnectionLost=lambda connector, reason: reasons.append(reason))
    server = bench.server(None, connectionMade=lose)
    port = bench.listen(server)
    for _ in range(2):
        bench.connect(client, port)

    def over():
        if len(reasons) == 2 and "reasons" not in bench.log:
            bench.note("reasons", "one object" if reasons[0].value is reasons[1].value else "two objects")
        return len(reasons) == 2

    return over


@scenario()
def loseConnection_in_connectionMade_while_data_waits(bench):
    client = bench.client(connectionMade=lose)
    server = bench.server(None, connectionMade=write(b"unheard"))
    bench.pair(client, server)
    return client.has("stopFactory")


@scenario()
def loseConnection_in_dataReceived_with_more_to_come(bench):
    client = bench.client(dataReceived=lambda p, data: (lose(p), p.transport.write(b"bye")))
    got = bytearray()

    def talk(peer):
        peer.sendall(b"x" * 1000)
        bench.reactor.callLater(0.01, more, peer)

    def more(peer):
        peer.sendall(b"x" * 1000)
        got.extend(peer.recv(100))
        bench.note("peer", got.decode())

    bench.facing(client, bench.plain_listener(), talk)
    return client.has("stopFactory")


@scenario()
def what_a_transport_tells_of_its_state(bench):
    def tell(protocol, *_):
        transport = protocol.transport
        bench.note(
            "state", bool(transport.connected), bool(transport.disconnecting), bool(protocol.connected)
        )

    client = bench.client(
        connectionMade=lambda p: (tell(p), p.transport.write(b"x" * 100_000), lose(p), tell(p)),
        connectionLost=tell,
    )
    server = bench.server()
    bench.pair(client, server)
    return client.has("stopFactory")


@scenario("D44", peer=(["less than was written"], ["all of it"]))
def loseConnection_with_unread_data(bench):
    """The peer reads late, and has sent what nobody will read."""
    client = bench.client(connectionMade=lambda p: p.transport.pauseProducing())

    def talk(peer):
        peer.sendall(b"unread")
        bench.soon(lambda: (client.built[0].transport.write(b"x" * 1_000_000), lose(client.built[0])))
        bench.once(client.has("connectionLost"), take, peer, [0])

    def take(peer, got):
        peer.setblocking(False)
        try:
            while data := peer.recv(1 << 20):
                got[0] += len(data)
        except BlockingIOError:
            bench.reactor.callLater(0.001, take, peer, got)
            return
        except ConnectionResetError:
            pass  # Safe because: that is what is looked for.
        bench.note("peer", "all of it" if got[0] == 1_000_000 else "less than was written")

    bench.facing(client, bench.plain_listener(), talk)
    return lambda: "peer" in bench.log


@scenario()
def the_peer_is_gone_when_something_is_written(bench):
    client = bench.client(connectionMade=lambda p: p.transport.pauseProducing())

    def talk(peer):
        peer.close()
        bench.soon(client.built[0].transport.write, b"x")
        bench.reactor.callLater(0.05, client.built[0].transport.write, b"y")

    bench.facing(client, bench.plain_listener(), talk)
    return client.has("stopFactory")


@scenario()
def disconnecting_after_an_abort(bench):
    def tell(protocol, *_):
        bench.note("state", bool(protocol.transport.disconnecting))

    client = bench.client(connectionMade=lambda p: (abort(p), tell(p)), connectionLost=tell)
    bench.facing(client, bench.plain_listener(), lambda peer: None)
    return client.has("stopFactory")


@scenario()
def disconnecting_after_the_peer_closed(bench):
    def tell(protocol, *_):
        bench.note("state", bool(protocol.transport.disconnecting))

    client = bench.client(connectionLost=tell)
    bench.facing(client, bench.plain_listener(), lambda peer: peer.close())
    return client.has("stopFactory")


@scenario()
def disconnecting_after_the_peer_reset_while_we_closed(bench):
    def tell(protocol, *_):
        bench.note("state", bool(protocol.transport.disconnecting))

    client = bench.client(
        connectionMade=lambda p: (p.transport.write(b"x" * 20_000_000), lose(p)), connectionLost=tell
    )
    bench.facing(client, bench.plain_listener(), lambda peer: bench.soon(reset, peer))
    return client.has("stopFactory")
