"""User code that raises, in each callback of a factory and a protocol."""

from __future__ import annotations

from tests.differential.bench import HERE, Planned, raises
from tests.differential.scenarios.table import MADE, STOPPED, lose, scenario, write


@scenario("D1", client=(["connecting, 0 users"], ["disconnected, 0 users"]))
def startFactory_raises(bench):
    """It raises when the connector is used for the second time, so that there is a connector to look at."""

    def start(factory):
        if bench.log["client"].count("startFactory") > 1:
            raise Planned

    client = bench.client(startFactory=start)
    connector = bench.connect(client, bench.plain_listener().getsockname()[1])
    connector.stopConnecting()
    bench.tried("client", connector.connect)
    bench.note("client", f"{connector.state}, {client.numPorts} users")
    return lambda: True


@scenario(
    "D2",
    client=(
        [
            "connecting",
            *MADE,
            "connectionLost ConnectionLost after 0 bytes",
            "clientConnectionLost ConnectionLost",
        ],
        ["disconnected"],
    ),
    server=([*MADE, "connectionLost ConnectionLost after 0 bytes"], []),
)
def startedConnecting_raises(bench):
    client, server = bench.client(startedConnecting=raises()), bench.server()
    port = bench.listen(server)
    bench.tried("client", bench.connect, client, port)
    bench.note("client", client.connector.state)
    bench.soon(bench.note, "client", "(some time later)")
    return client.has("(some")


@scenario()
def buildProtocol_returns_None(bench):
    client, server = bench.client(buildProtocol=lambda addr: None), bench.server()
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario()
def buildProtocol_raises(bench):
    client, server = bench.client(buildProtocol=raises()), bench.server()
    bench.pair(client, server)
    return lambda: client.has("stopFactory")()


@scenario("D11", cause=(["None"], ["Planned('planned')"]))
def what_a_failed_buildProtocol_tells(bench):
    def tell(connector, reason):
        bench.note("cause", repr(reason.value.__cause__))

    client, server = bench.client(buildProtocol=raises(), clientConnectionFailed=tell), bench.server()
    bench.pair(client, server)
    return client.has("stopFactory")


@scenario()
def a_server_s_buildProtocol_returns_None(bench):
    client, server = bench.client(), bench.server(buildProtocol=lambda addr: None)
    bench.pair(client, server)
    return client.has("stopFactory")


@scenario()
def a_server_s_buildProtocol_raises(bench):
    client, server = bench.client(), bench.server(buildProtocol=raises())
    bench.pair(client, server)
    bench.once(
        lambda: "logged" in bench.log and client.has("connectionMade")(),
        lambda: client.connector.disconnect(),
    )
    return lambda: bench.log.get("logged") and client.has("stopFactory")()


@scenario(
    "D12",
    server=(["connectionLost ConnectionDone after 0 bytes"], ["connectionLost ConnectionLost after 0 bytes"]),
)
def connectionMade_of_a_client_raises(bench):
    client, server = bench.client(connectionMade=raises()), bench.server()
    bench.pair(client, server)
    return client.has("stopFactory")


@scenario(
    "D12",
    server=(["connectionLost ConnectionLost after 0 bytes"], ["connectionLost Planned after 0 bytes"]),
)
def connectionMade_of_a_server_raises(bench):
    """Twisted leaves it open; it is told of the shutdown then."""
    server = bench.server(connectionMade=raises())
    bench.plain_client(bench.listen(server))
    bench.reactor.callLater(0.1, bench.note, "time", "passes")
    return lambda: "time" in bench.log


@scenario()
def dataReceived_of_a_client_raises(bench):
    client, server = bench.client(dataReceived=raises()), bench.server(connectionMade=write(b"!"))
    bench.pair(client, server)
    return client.has("stopFactory")


@scenario()
def dataReceived_of_a_server_raises(bench):
    client, server = bench.client(connectionMade=write(b"!")), bench.server(dataReceived=raises())
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario(
    "D13",
    client=(
        ["connected, 1 users"],
        ["clientConnectionLost ConnectionDone", *STOPPED, "disconnected, 0 users"],
    ),
)
def connectionLost_raises(bench):
    client, server = bench.client(connectionLost=raises()), bench.server(connectionMade=lose)
    bench.pair(client, server)
    bench.once(
        lambda: "logged" in bench.log,
        lambda: bench.note("client", f"{client.connector.state}, {client.numPorts} users"),
    )
    return lambda: "users" in bench.log["client"][-1]


@scenario(
    "D14",
    client=(
        ["clientConnectionFailed ConnectError", "disconnected, 1 users"],
        [*STOPPED, "disconnected, 0 users"],
    ),
    logged=(["Planned"], []),
)
def clientConnectionFailed_raises(bench):
    client = bench.client(clientConnectionFailed=raises())
    bench.connect(client, bench.refusing_port())
    bench.once(
        lambda: "logged" in bench.log,
        lambda: bench.note("client", f"{client.connector.state}, {client.numPorts} users"),
    )
    return lambda: "users" in bench.log["client"][-1]


@scenario("D14", client=(["disconnected, 1 users"], [*STOPPED, "disconnected, 0 users"]))
def clientConnectionLost_raises(bench):
    client, server = bench.client(clientConnectionLost=raises()), bench.server(connectionMade=lose)
    bench.pair(client, server)
    bench.once(
        lambda: "logged" in bench.log,
        lambda: bench.note("client", f"{client.connector.state}, {client.numPorts} users"),
    )
    return lambda: "users" in bench.log["client"][-1]


@scenario(
    "D15",
    client=(["connectionLost SystemExit after 1 bytes", "clientConnectionLost SystemExit", *STOPPED], []),
    logged=(["SystemExit"], []),
    reactor=([], ["SystemExit left run()"]),
)
def SystemExit_in_dataReceived(bench):
    client = bench.client(dataReceived=raises(SystemExit))
    bench.facing(client, bench.plain_listener(), lambda peer: peer.send(b"!"))
    return client.has("stopFactory")


@scenario("D15", logged=(["KeyboardInterrupt"], []), reactor=([], ["KeyboardInterrupt left run()"]))
def KeyboardInterrupt_in_a_delayed_call(bench):
    bench.reactor.callLater(0, raises(KeyboardInterrupt))
    return lambda: True


@scenario()
def stopFactory_raises(bench):
    client, server = bench.client(stopFactory=raises()), bench.server(connectionMade=lose)
    bench.pair(client, server)
    bench.once(
        lambda: "logged" in bench.log, lambda: bench.note("client", client.connector.state, client.numPorts)
    )
    return lambda: "disconnected 0" in bench.log["client"]


@scenario()
def startFactory_of_a_server_raises(bench):
    server = bench.server(startFactory=raises())
    bench.tried("server", bench.reactor.listenTCP, 0, server, interface=HERE)
    bench.note("server", server.numPorts)
    return lambda: True


@scenario("D41", logged=(["AssertionError"], ["RuntimeError"]))
def a_factory_that_does_not_know_its_protocol(bench):
    class Empty(bench.protocol.ClientFactory):
        noisy = False

        def clientConnectionFailed(self, connector, reason):
            bench.note("empty", reason.type.__name__)

    server = bench.server(None)
    bench.connect(Empty(), bench.listen(server))
    return lambda: "empty" in bench.log
