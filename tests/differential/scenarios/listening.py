"""Ports."""

from __future__ import annotations

from tests.differential.bench import HERE
from tests.differential.scenarios.table import STOPPED, echo, lose, scenario, write


@scenario()
def listen_and_stop_listening(bench):
    server = bench.server(connectionMade=write(b"hello"))
    client = bench.client(dataReceived=lambda p, data: stop())
    bench.listen(server)

    def stop():
        stopped = bench.defer.maybeDeferred(server.port.stopListening)
        stopped.addCallback(lambda result: bench.note("server", "(stopped)", result))
        stopped.addCallback(lambda _: bench.tried("server", lose, client.built[0]))

    bench.connect(client, server.port.getHost().port)
    return lambda: server.has("connectionLost")() and client.has("stopFactory")()


@scenario()
def a_port_that_is_taken(bench):
    taken = bench.plain_listener().getsockname()[1]
    server = bench.server()
    bench.tried("server", bench.reactor.listenTCP, taken, server, interface=HERE)
    return lambda: True


@scenario()
def localhost_as_interface(bench):
    bench.tried("server", bench.reactor.listenTCP, 0, bench.server(), interface="localhost")
    return lambda: True


@scenario("D87", server=(["doStart", "startFactory", *STOPPED], ["raised CannotListenError"]))
def an_interface_in_short(bench):
    bench.tried("server", bench.reactor.listenTCP, 0, bench.server(), interface="127.1")
    return lambda: True  # what listens is stopped with the reactor


@scenario()
def ports_are_stopped_at_shutdown(bench):
    server = bench.server()
    bench.listen(server)
    return lambda: True


@scenario()
def a_port_listens_again(bench):
    server, client = bench.server(connectionMade=lose), bench.client()
    bench.listen(server)

    def again(_):
        server.port.startListening()
        bench.connect(client, server.port.getHost().port)

    bench.reactor.callWhenRunning(
        lambda: bench.defer.maybeDeferred(server.port.stopListening).addCallback(again)
    )
    return client.has("stopFactory")


@scenario()
def stopListening_in_connectionMade_of_a_server(bench):
    server = bench.server(connectionMade=lambda p: server.port.stopListening() and None, dataReceived=echo)
    client = bench.client(connectionMade=write(b"?"), dataReceived=lose)
    bench.pair(client, server)
    return lambda: client.has("stopFactory")() and server.has("connectionLost")()


@scenario("D30", stopped=([], ["None"]), logged=(["AttributeError"], []))
def stopListening_twice(bench):
    server = bench.server()
    bench.listen(server)

    def stop():
        for _ in range(2):
            bench.defer.maybeDeferred(server.port.stopListening).addCallback(
                lambda result: bench.note("stopped", result)
            )

    bench.soon(stop)
    return lambda: len(bench.log.get("stopped", ())) == 2
