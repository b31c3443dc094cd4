"""Connections that do not come about, and trying again."""

from __future__ import annotations

import errno

from tests.differential.scenarios.table import STOPPED, lose, scenario


@scenario()
def refused(bench):
    client = bench.client(
        clientConnectionFailed=lambda connector, reason: bench.note(
            "client", reason.value.osError == errno.ECONNREFUSED
        )
    )
    bench.connect(client, bench.refusing_port())
    return client.has("stopFactory")


@scenario()
def the_timeout_passes(bench):
    client = bench.client(
        clientConnectionFailed=lambda connector, reason: bench.note(
            "client",
            [reason.check(each) is not None for each in (bench.error.UserError, bench.error.ConnectError)],
        )
    )
    bench.connect(client, bench.black_hole(), timeout=0.05)
    return client.has("stopFactory")


@scenario()
def an_unknown_service_name(bench):
    client = bench.client()
    bench.tried("client", bench.connect, client, "no-such-service")
    return lambda: True


@scenario()
def a_bind_address_that_is_not_ours(bench):
    client = bench.client()
    bench.connect(client, 9, bindAddress=("192.0.2.1", 0))
    return client.has("stopFactory")


@scenario(
    "D8",
    reason=(
        ["ConnectBindError: no __cause__, no errno"],
        ["ConnectBindError: __cause__ OSError EADDRNOTAVAIL, errno EADDRNOTAVAIL"],
    ),
)
def what_a_failed_bind_tells(bench):
    def tell(connector, reason):
        cause = reason.value.__cause__
        number = getattr(reason.value, "errno", None)
        told = f"__cause__ {type(cause).__name__} {errno.errorcode[cause.errno]}" if cause else "no __cause__"
        told += f", errno {errno.errorcode[number]}" if number else ", no errno"
        bench.note("reason", f"{reason.type.__name__}: {told}")

    client = bench.client(clientConnectionFailed=tell)
    bench.connect(client, 9, bindAddress=("192.0.2.1", 0))
    return client.has("stopFactory")


@scenario()
def stop_while_it_connects(bench):
    client = bench.client(
        clientConnectionFailed=lambda connector, reason: bench.note(
            "kind", reason.check(bench.error.ConnectError) is not None
        )
    )
    bench.connect(client, bench.black_hole())
    bench.soon(bench.note, "client", "(stopping)")
    return client.has("(stopping")


@scenario()
def connect_again_in_clientConnectionLost(bench):
    def again(connector, reason):
        if not client.has("clientConnectionLost", 3)():
            connector.connect()

    client, server = bench.client(clientConnectionLost=again), bench.server(connectionMade=lose)
    bench.pair(client, server)
    return client.has("stopFactory")


@scenario()
def connect_again_in_clientConnectionFailed(bench):
    def again(connector, reason):
        if not client.has("clientConnectionFailed", 3)():
            connector.connect()

    client = bench.client(clientConnectionFailed=again)
    bench.connect(client, bench.refusing_port())
    return client.has("stopFactory")


@scenario()
def connect_again_in_clientConnectionFailed_after_stopConnecting(bench):
    def again(connector, reason):
        if not client.has("clientConnectionFailed", 2)():
            connector.connect()
            bench.note("client", "state", connector.state)

    client, server = bench.client(clientConnectionFailed=again, connectionMade=lose), bench.server()
    connector = bench.connect(client, bench.listen(server))
    bench.tried("client", connector.stopConnecting)
    return client.has("stopFactory")


@scenario(
    "D9",
    client=(
        ["doStart", "startFactory", "startedConnecting", "clientConnectionFailed OverflowError", *STOPPED],
        ["raised ValueError"],
    ),
)
def a_port_out_of_range(bench):
    client = bench.client()
    bench.tried("client", bench.connect, client, 70_000)
    return lambda: client.has("stopFactory")() or client.has("raised")()


@scenario("D8", kind=(["builtin: False, errno: False"], ["builtin: True, errno: True"]))
def a_refusal_is_the_builtin_one(bench):
    def tell(connector, reason):
        is_builtin = isinstance(reason.value, ConnectionRefusedError)
        has_errno = getattr(reason.value, "errno", None) == errno.ECONNREFUSED
        bench.note("kind", f"builtin: {is_builtin}, errno: {has_errno}")

    client = bench.client(clientConnectionFailed=tell)
    bench.connect(client, bench.refusing_port())
    return client.has("stopFactory")


@scenario("D10", text=(["tells the phase: False"], ["tells the phase: True"]))
def the_text_of_a_timeout(bench):
    def tell(connector, reason):
        bench.note("text", "tells the phase:", "while connecting" in str(reason.value))

    client = bench.client(clientConnectionFailed=tell)
    bench.connect(client, bench.black_hole(), timeout=0.03)
    return client.has("stopFactory")


@scenario()
def a_ReconnectingClientFactory_until_stopTrying(bench):
    class Again(bench.protocol.ReconnectingClientFactory):
        noisy = False
        clock = bench.reactor
        initialDelay = maxDelay = delay = 0.001
        jitter = 0
        lost = 0

        def buildProtocol(self, addr):
            bench.note("again", "buildProtocol")
            return bench.protocol.Protocol()

        def clientConnectionLost(self, connector, reason):
            bench.note("again", "lost", reason.type.__name__)
            self.lost += 1
            if self.lost == 3:
                self.stopTrying()
            super().clientConnectionLost(connector, reason)

        def clientConnectionFailed(self, connector, reason):
            bench.note("again", "failed", reason.type.__name__)
            super().clientConnectionFailed(connector, reason)

    server = bench.server(None, connectionMade=lose)
    factory = Again()
    bench.connect(factory, bench.listen(server))
    return lambda: factory.lost == 3
