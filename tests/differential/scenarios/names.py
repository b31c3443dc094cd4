"""Names: resolvers of both kinds, several addresses, look-ups that fail or never end."""

from __future__ import annotations

import sys
import threading

from tests.differential.bench import HERE
from tests.differential.scenarios.table import MADE, STOPPED, lose, scenario


@scenario()
def connect_by_name(bench):
    client = bench.client(
        buildProtocol=lambda addr: (bench.note("client", type(addr).__name__, addr.host), client.make())[1],
        connectionMade=lose,
    )
    server = bench.server()
    connector = bench.connect(client, bench.listen(server), "localhost")
    bench.note("client", type(connector.getDestination()).__name__, connector.getDestination().host)
    return client.has("stopFactory")


@scenario()
def an_empty_host_is_this_machine(bench):
    client = bench.client(
        buildProtocol=lambda addr: (bench.note("client", type(addr).__name__, addr.host), client.make())[1],
        connectionMade=lose,
    )
    connector = bench.connect(client, bench.listen(bench.server()), "")
    bench.note("client", connector.getDestination().host)
    return client.has("stopFactory")


@scenario()
def a_name_that_no_resolver_knows(bench):
    client = bench.client()

    @bench.engine.implements("IResolverSimple")
    class Fails:
        def getHostByName(self, name, timeout=()):
            return bench.defer.fail(bench.error.DNSLookupError(name))

    bench.reactor.installResolver(Fails())
    bench.connect(client, 9, "nowhere.test")
    return client.has("stopFactory")


@scenario()
def an_installed_resolver_is_asked(bench):
    @bench.engine.implements("IResolverSimple")
    class Answers:
        def getHostByName(self, name, timeout=()):
            bench.note("resolver", name)
            return bench.defer.succeed(HERE)

    client, server = bench.client(connectionMade=lose), bench.server()
    bench.reactor.installResolver(Answers())
    bench.connect(client, bench.listen(server), "anything.test")
    return client.has("stopFactory")


@scenario(
    "D4",
    client=([], ["clientConnectionFailed DNSLookupError", *STOPPED]),
    # Why two: from CPython 3.13 on the idna codec raises the more exact class.
    logged=(["UnicodeError" if sys.version_info < (3, 13) else "UnicodeEncodeError"], []),
)
def a_name_that_no_server_could_know(bench):
    client = bench.client()
    bench.connect(client, 9, "a" * 64 + ".test")
    bench.reactor.callLater(0.2, bench.note, "client", "(some time later)")
    return client.has("(some")


@scenario("D16", client=([], ["clientConnectionFailed ConnectError", *STOPPED]))
def stop_while_it_resolves(bench):
    @bench.engine.implements("IResolverSimple")
    class Never:
        def getHostByName(self, name, timeout=()):
            return bench.defer.Deferred()

    client = bench.client()
    bench.reactor.installResolver(Never())
    bench.connect(client, 9, "slow.test")
    bench.soon(bench.note, "client", "(stopping)")
    return client.has("(stopping")


@scenario(
    "D6",
    client=(
        ["clientConnectionFailed ConnectionRefusedError"],
        [*MADE, "connectionLost ConnectionDone after 0 bytes", "clientConnectionLost ConnectionDone"],
    ),
)
def the_first_of_two_addresses_refuses(bench):
    @bench.engine.implements("IHostnameResolver")
    class Two:
        def resolveHostName(self, receiver, name, port=0, addressTypes=None, transportSemantics="TCP"):
            receiver.resolutionBegan(self)
            for host in ("127.0.0.2", HERE):
                receiver.addressResolved(bench.address.IPv4Address("TCP", host, port))
            receiver.resolutionComplete()
            return self

    client, server = bench.client(connectionMade=lose), bench.server(None)
    bench.reactor.installNameResolver(Two())
    bench.connect(client, bench.listen(server), "two.test")
    return client.has("stopFactory")


@scenario("D3", kind=(["ConnectError: False"], ["ConnectError: True"]))
def the_kind_of_a_failed_look_up(bench):
    def tell(connector, reason):
        bench.note("kind", "ConnectError:", reason.check(bench.error.ConnectError) is not None)

    @bench.engine.implements("IResolverSimple")
    class Fails:
        def getHostByName(self, name, timeout=()):
            return bench.defer.fail(bench.error.DNSLookupError(name))

    client = bench.client(clientConnectionFailed=tell)
    bench.reactor.installResolver(Fails())
    bench.connect(client, 9, "nowhere.test")
    return client.has("stopFactory")


@scenario("D5", pool=(["still waiting"], ["connected"]))
def a_name_while_the_thread_pool_is_full(bench):
    release = threading.Event()
    bench.reactor.suggestThreadPoolSize(1)
    bench.reactor.callInThread(release.wait)
    client, server = bench.client(None), bench.server(None)
    bench.connect(client, bench.listen(server), "localhost")

    def look():
        bench.note("pool", "connected" if client.built else "still waiting")
        release.set()

    bench.reactor.callLater(0.3, look)
    return lambda: "pool" in bench.log and client.built


@scenario()
def reactor_resolve(bench):
    for name in (HERE, "localhost", "nothing.invalid", ""):
        bench.reactor.callWhenRunning(
            lambda name=name: bench.reactor.resolve(name, (1,)).addCallbacks(
                lambda address: bench.note(name, address),
                lambda failure: bench.note(name, failure.type.__name__),
            )
        )
    return lambda: len(bench.log) == 4


@scenario()
def nameResolver_tells_a_receiver(bench):
    @bench.engine.implements("IResolutionReceiver")
    class Receiver:
        def resolutionBegan(self, resolution):
            bench.note("receiver", "began", resolution.name)

        def addressResolved(self, address):
            bench.note("receiver", type(address).__name__, address.type, address.host, address.port)

        def resolutionComplete(self):
            bench.note("receiver", "complete")

    def ask(name, *rest):
        bench.reactor.nameResolver.resolveHostName(Receiver(), name, *rest)
        bench.note("receiver", "(asked)")

    bench.reactor.callWhenRunning(ask, "localhost", 80, [bench.address.IPv4Address])
    return lambda: "complete" in bench.log.get("receiver", ())


@scenario()
def a_Deferred_of_resolve_that_nobody_waits_for(bench):
    bench.reactor.callWhenRunning(lambda: bench.reactor.resolve("localhost") and None)
    bench.reactor.callLater(0.05, bench.note, "time", "passes")
    return lambda: "time" in bench.log
