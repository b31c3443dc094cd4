"""Connecting and being connected: the order of callbacks, the states, what a connector and a transport tell."""

from __future__ import annotations

from tests.differential.scenarios.table import echo, lose, scenario, write


@scenario()
def connect_before_run_and_the_server_hangs_up(bench):
    client, server = (
        bench.client(),
        bench.server(connectionMade=lambda p: (p.transport.write(b"hello"), lose(p))),
    )
    bench.pair(client, server)
    bench.note("client", "(connectTCP returned)")
    return client.has("stopFactory")


@scenario()
def connect_while_running_and_the_client_hangs_up(bench):
    client, server = (
        bench.client(connectionMade=write(b"?"), dataReceived=lose),
        bench.server(dataReceived=echo),
    )

    def go():
        bench.pair(client, server)
        bench.note("client", "(connectTCP returned)")

    bench.reactor.callLater(0, go)
    return client.has("stopFactory")


@scenario()
def connect_to_an_IPv6_literal(bench):
    seen = []
    client = bench.client(
        buildProtocol=lambda addr: (bench.note("client", type(addr).__name__, addr.host), client.make())[1]
    )
    server = bench.server(connectionMade=lambda p: seen.append(p.transport.getPeer()) or lose(p))
    server.port = bench.reactor.listenTCP(0, server, interface="::1")
    bench.connect(client, server.port.getHost().port, "::1")
    bench.once(
        client.has("stopFactory"),
        lambda: bench.note("server", type(server.port.getHost()).__name__, [each.host for each in seen]),
    )
    return lambda: client.has("stopFactory")() and len(bench.log["server"]) > 6


@scenario()
def states_of_a_connector(bench):
    def state(*_):
        bench.note("states", client.connector.state)

    names = ("startedConnecting", "connectionMade", "connectionLost", "clientConnectionLost", "stopFactory")
    client, server = bench.client(**dict.fromkeys(names, state)), bench.server(connectionMade=lose)
    bench.pair(client, server)
    return client.has("stopFactory")


@scenario()
def two_connectors_share_a_factory(bench):
    def made(protocol):
        if len(client.built) == 2:
            client.built[0].transport.loseConnection()

    def lost(connector, reason):
        bench.note("client", "users", client.numPorts)
        client.built[1].transport.loseConnection()

    client, server = bench.client(connectionMade=made, clientConnectionLost=lost), bench.server(None)
    port = bench.listen(server)
    for _ in range(2):
        bench.connect(client, port)
        bench.note("client", "users", client.numPorts)
    return client.has("stopFactory")


@scenario()
def a_connector_is_used_again_after_its_end(bench):
    def again(factory):
        if not client.has("stopFactory", 2)():
            bench.soon(client.connector.connect)

    client, server = bench.client(connectionMade=lose, stopFactory=again), bench.server()
    bench.pair(client, server)
    return client.has("stopFactory", 2)


@scenario()
def addresses_of_both_ends(bench):
    def look(protocol):
        here, there = protocol.transport.getHost(), protocol.transport.getPeer()
        bench.note("kinds", type(here).__name__, here.type, here.host, type(there).__name__, there.host)
        bench.note("meet", (here.port == port) != (there.port == port))
        lose(protocol)

    client, server = bench.client(connectionMade=look), bench.server()
    port = bench.listen(server)
    bench.connect(client, port)
    return client.has("stopFactory")


@scenario()
def requests_that_a_connector_refuses(bench):
    def made(protocol):
        bench.tried("client", client.connector.stopConnecting)
        bench.tried("client", client.connector.connect)
        client.connector.disconnect()

    client, server = bench.client(connectionMade=made), bench.server()
    bench.pair(client, server)
    bench.tried("client", client.connector.connect)

    def after():
        bench.tried("client", client.connector.stopConnecting)
        bench.tried("client", client.connector.disconnect)
        bench.note("client", "(asked after the end)")

    bench.once(client.has("stopFactory"), after)
    return client.has("(asked")


@scenario()
def stopConnecting_before_run(bench):
    client = bench.client()
    connector = bench.connect(client, bench.plain_listener().getsockname()[1])
    connector.stopConnecting()
    bench.note("client", "(stopConnecting returned)", connector.state)
    return client.has("stopFactory")


@scenario()
def stopConnecting_in_startedConnecting(bench):
    client = bench.client(startedConnecting=lambda connector: connector.stopConnecting())
    bench.connect(client, bench.plain_listener().getsockname()[1])
    bench.note("client", "(connectTCP returned)")
    return client.has("stopFactory")


@scenario()
def stopConnecting_while_it_connects(bench):
    client = bench.client()
    connector = bench.connect(client, bench.black_hole())

    def stop():
        connector.stopConnecting()
        bench.note("client", "(stopConnecting returned)")

    bench.soon(stop)
    return client.has("stopFactory")


@scenario()
def disconnect_while_it_connects(bench):
    client = bench.client()
    connector = bench.connect(client, bench.black_hole())
    bench.soon(connector.disconnect)
    return client.has("stopFactory")


@scenario()
def disconnect_in_connectionMade(bench):
    client, server = bench.client(connectionMade=lambda p: client.connector.disconnect()), bench.server()
    bench.pair(client, server)
    return client.has("stopFactory")


@scenario("D28", options=(["no delay False"], ["no delay True"]))
def options_of_a_new_connection(bench):
    def look(protocol):
        bench.note("options", "no delay", bool(protocol.transport.getTcpNoDelay()))
        lose(protocol)

    client, server = bench.client(connectionMade=look), bench.server()
    bench.pair(client, server)
    return client.has("stopFactory")


@scenario("D17", transport=(["True", "True", "True"], ["False", "False", "False"]))
def the_transport_of_a_connector_before_and_after(bench):
    def look(*_):
        bench.note("transport", client.connector.transport is not None)

    names = ("connectionMade", "clientConnectionLost", "stopFactory")
    client, server = bench.client(**dict.fromkeys(names, look)), bench.server(connectionMade=lose)
    bench.pair(client, server)
    look()
    return client.has("stopFactory")


@scenario()
def disconnect_in_startedConnecting_and_stopConnecting_in_clientConnectionFailed(bench):
    client = bench.client(
        startedConnecting=lambda connector: connector.disconnect(),
        clientConnectionFailed=lambda connector, reason: bench.tried("client", connector.stopConnecting),
    )
    bench.connect(client, bench.plain_listener().getsockname()[1])
    return client.has("stopFactory")


@scenario()
def stopConnecting_and_connect_in_buildProtocol(bench):
    def build(addr):
        bench.tried("client", client.connector.stopConnecting)
        bench.tried("client", client.connector.connect)
        bench.note("client", client.connector.state)
        return client.make()

    client, server = bench.client(buildProtocol=build, connectionMade=lose), bench.server()
    bench.pair(client, server)
    return client.has("stopFactory")


@scenario(
    "D43",
    client=(
        ["connectionLost ConnectionLost after 0 bytes", "clientConnectionLost ConnectionLost"],
        ["connectionLost ConnectionDone after 0 bytes", "clientConnectionLost ConnectionDone"],
    ),
)
def disconnect_in_buildProtocol(bench):
    client = bench.client(buildProtocol=lambda addr: (client.connector.disconnect(), client.make())[1])
    bench.facing(client, bench.plain_listener(), lambda peer: None)
    bench.reactor.callLater(0.1, bench.note, "time", "passes")
    return lambda: "time" in bench.log


@scenario()
def TCP_settings_of_a_transport(bench):
    def made(protocol):
        transport = protocol.transport
        for on in (True, False):
            transport.setTcpNoDelay(on)
            transport.setTcpKeepAlive(on)
            bench.note("settings", bool(transport.getTcpNoDelay()), bool(transport.getTcpKeepAlive()))
        bench.note("settings", transport.getHandle().fileno() == transport.fileno())
        lose(protocol)

    client, server = bench.client(connectionMade=made), bench.server()
    bench.pair(client, server)
    return client.has("stopFactory")
