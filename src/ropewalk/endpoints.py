"""Endpoints: where to connect to, or to listen, as a value; made from a description, and used once or often.

    endpoint = clientFromString(reactor, "tcp:example.org:80:timeout=5")
    protocol = await endpoint.connect(factory)

A client endpoint's `connect` gives a Deferred of the protocol, after its `connectionMade` has returned; it fails with the
connector's own reason, so phase, times and every address tried are in it; and cancelling it, at any moment, gives everything
back. A server endpoint's `listen` gives a Deferred of the Port.

What connects is the reactor: an endpoint only remembers what to ask of it. Between the two stands `Connecting`, the factory
that the connector knows (connecting.py).

Kinds of descriptions are looked up in a table, then among the installed packages (entry points of the groups
`ropewalk.client_endpoints` and `ropewalk.server_endpoints`), so transports of others are named as ours are.
Source: twisted.internet.endpoints; its names, arguments and order of callbacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ropewalk import TCPOptions
from ropewalk.connecting import Connecting
from ropewalk.defer import Deferred, fail, succeed
from ropewalk.defer.making import born
from ropewalk.descriptions import Parts, family_of, quoted
from ropewalk.protocol import Factory

if TYPE_CHECKING:
    from ropewalk.interfaces import IListeningPort

__all__ = [
    "HostnameEndpoint",
    "IStreamClientEndpoint",
    "IStreamServerEndpoint",
    "TCP4ClientEndpoint",
    "TCP4ServerEndpoint",
    "TCP6ClientEndpoint",
    "TCP6ServerEndpoint",
    "WrappedClientEndpoint",
    "WrappedServerEndpoint",
    "clientFromString",
    "connectProtocol",
    "quoteStringArgument",
    "registerClientKind",
    "registerServerKind",
    "serverFromString",
]

P = TypeVar("P")
Layer = Callable[[Any], Any]

# Twisted's name for it.
quoteStringArgument = quoted

_MOST_PORT = 65535
# Source: listen(2), the type of its argument.
_MOST_BACKLOG = 2**31 - 1
_CLIENT_GROUP, _SERVER_GROUP = "ropewalk.client_endpoints", "ropewalk.server_endpoints"


class IStreamClientEndpoint(Protocol):
    """Where to connect to."""

    def connect(self, protocolFactory: Any, /) -> Deferred[Any]:
        """A Deferred of the protocol that the factory has built, once it is connected."""


class IStreamServerEndpoint(Protocol):
    """Where to listen."""

    def listen(self, protocolFactory: Any, /) -> Deferred[Any]:
        """A Deferred of the Port, listening."""


def checked_endpoint(endpoint: object, needed: str, example: str) -> None:
    """Raises: TypeError unless it is an endpoint, which has that method; a class is none."""
    if isinstance(endpoint, type) or not hasattr(endpoint, needed):
        raise TypeError(
            f"endpoint must be a description, as {example!r}, or an endpoint, with {needed}, not {endpoint!r}"
        )


# ---- connecting -----------------------------------------------------------------------------------------------


class HostnameEndpoint:
    """A TCP port of a host; IPv4 and IPv6 both, as `Reactor.connectTCP` has it.

    Args:   host: a name, an IPv4 address, or an IPv6 address with an optional %scope.
            port: 0 to 65535, or a service name.
            timeout: seconds for resolving and connecting together; None for ever.
            bindAddress: (host, port) to connect from, or the host alone.
            attemptDelay: seconds until the next address is tried beside the first; None for the usual.
            options: the rest of what a TCP connection can be told.
    """

    # What addresses are used: None for both families.
    family: str | None = None

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int | str,
        timeout: float | None = 30,
        bindAddress: tuple[str, int] | str | None = None,
        attemptDelay: float | None = None,
        options: TCPOptions | None = None,
    ) -> None:
        self.reactor = reactor
        self.host = host
        self.port = port
        self.timeout = timeout
        self.bindAddress = (bindAddress, 0) if isinstance(bindAddress, str) else bindAddress
        changed: dict[str, Any] = {}
        if attemptDelay is not None:
            changed["attemptDelay"] = attemptDelay
        if self.family is not None:
            changed["family"] = self.family
        self.options = (options or TCPOptions()).but(**changed) if changed or options else None

    def connect(self, protocolFactory: Any, /) -> Deferred[Any]:
        """Connect.

        Args:    protocolFactory: builds the protocol.
        Returns: a Deferred of it, fired when its connectionMade has returned. Cancelling it gives everything back, and
                 is ConnectingCancelledError.
        Fails:   with the connector's reason, a ConnectError; NoProtocol; what buildProtocol or connectionMade raised; what
                 `connectTCP` would raise for such arguments.
        Order:   as of connectTCP; no callback but doStart before this returns.
        Source:  IStreamClientEndpoint.connect.
        """
        # Why only then: a reactor that is not ours need not know of options.
        how: dict[str, Any] = {} if self.options is None else {"options": self.options}
        connecting: Connecting[Any] = Connecting(protocolFactory)
        connected = connecting.start(
            lambda factory: self.reactor.connectTCP(
                self.host, self.port, factory, timeout=self.timeout, bindAddress=self.bindAddress, **how
            )
        )
        return born(connected)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host}:{self.port}>"


class TCP4ClientEndpoint(HostnameEndpoint):
    """A TCP port of a host, by IPv4 only."""

    family = "IPv4"


class TCP6ClientEndpoint(HostnameEndpoint):
    """A TCP port of a host, by IPv6 only."""

    family = "IPv6"


class OneProtocol(Factory[Any]):
    """Builds the one protocol that is there already."""

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._one = protocol

    def buildProtocol(self, addr: Any) -> Any:
        return self._one


def connectProtocol(endpoint: IStreamClientEndpoint, protocol: P) -> Deferred[P]:
    """Connect one protocol that was made before.

    Returns: a Deferred of it. Source: endpoints.connectProtocol.
    """
    return born(endpoint.connect(OneProtocol(protocol)))


# ---- listening ------------------------------------------------------------------------------------------------


class TCP4ServerEndpoint:
    """A TCP port of this host.

    Args:   port: 0 to 65535, 0 for any free one, or a service name.
            backlog: connections the kernel keeps waiting; None for the most it allows.
            interface: an IPv4 address of this host; "" for all of them.
            options: what each connection is told.
    """

    everywhere = ""
    family = "IPv4"

    def __init__(
        self,
        reactor: Any,
        port: int | str,
        backlog: int | None = None,
        interface: str | None = None,
        options: TCPOptions | None = None,
    ) -> None:
        self.reactor = reactor
        self.port = port
        self.backlog = backlog
        # Why "" too: it says all addresses, and without this it would be all those of IPv4.
        self.interface = interface or self.everywhere
        self.options = options

    def listen(self, protocolFactory: Any, /) -> Deferred[IListeningPort]:
        """Listen.

        Returns: a Deferred of the Port, that has fired already.
        Fails:   with what `listenTCP` raises: CannotListenError, or what is wrong with the arguments.
        Source:  IStreamServerEndpoint.listen.
        """
        how: dict[str, Any] = {} if self.options is None else {"options": self.options}
        if self.backlog is not None:
            how["backlog"] = self.backlog
        try:
            self._check_family()
            port = self.reactor.listenTCP(self.port, protocolFactory, interface=self.interface, **how)
        except Exception as exc:
            return born(fail(exc))
        return succeed(port)

    def _check_family(self) -> None:
        """Raises: ValueError for an address of the other family. Anything else is for `listenTCP` to judge."""
        if not isinstance(self.interface, str) or self.interface == self.everywhere:
            return
        try:
            family = family_of(self.interface)
        except ValueError:
            return
        if family != self.family:
            raise ValueError(f"interface must be an {self.family} address, not {self.interface!r}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.interface}:{self.port}>"


class TCP6ServerEndpoint(TCP4ServerEndpoint):
    """A TCP port of this host; without an interface on all its IPv6 addresses."""

    everywhere = "::"
    family = "IPv6"


# ---- one over another -----------------------------------------------------------------------------------------


class WrappedClientEndpoint:
    """An endpoint over an endpoint: what connects is the inner one, and a layer stands between it and the user's factory.

    Args:   endpoint: the inner one.
            layer: makes of the user's factory the one that the inner endpoint is given: `lambda factory: Idle(factory, 60)`.
                It may put several layers around it; each factory has the one inside as `wrappedFactory`, and its protocols
                have the protocol inside as `wrappedProtocol`.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, layer: Layer) -> None:
        self.endpoint = endpoint
        self.layer = layer

    @property
    def reactor(self) -> Any:
        """The inner endpoint's, if it has one: whose time it is that a service, or a pool, waits for."""
        return self.endpoint.reactor  # type: ignore[attr-defined]

    def connect(self, protocolFactory: Any, /) -> Deferred[Any]:
        """Connect through the layer.

        Returns: a Deferred of the user's own protocol.
        Fails:   as the inner endpoint; with what the layer raises; TypeError if that makes no factory, or its protocols
                 have no wrappedProtocol: the connection is then aborted.
        """
        try:
            outer = _wrapped(self.layer, protocolFactory)
            layers = _layers(outer, protocolFactory)
        except Exception as exc:
            return born(fail(exc))
        connected: Deferred[Any] = self.endpoint.connect(outer)
        return born(connected.addCallback(_inside, layers))


def _wrapped(layer: Layer, factory: Any) -> Any:
    """The factory that a layer makes. Raises: TypeError if it is none."""
    outer = layer(factory)
    if isinstance(outer, type) or not hasattr(outer, "buildProtocol"):
        raise TypeError(f"the layer {layer!r} must return a factory, with buildProtocol, not {outer!r}")
    return outer


def _layers(outer: Any, inside: Any) -> int:
    """How many factories stand around the one inside."""
    count = 0
    while outer is not inside:
        # Why a default: a layer that is no policy may keep the user's factory under another name.
        outer = getattr(outer, "wrappedFactory", inside)
        count += 1
    return count


def _inside(outermost: Any, layers: int) -> Any:
    """The protocol so many layers inside. Raises: TypeError if a layer does not show it, and aborts the connection."""
    protocol = outermost
    for _ in range(layers):
        outer, protocol = protocol, getattr(protocol, "wrappedProtocol", None)
        if protocol is None:
            # Why: nobody is given the protocol, so nobody could close it.
            transport = getattr(outermost, "transport", None)
            if transport is not None:
                transport.abortConnection()
            raise TypeError(
                f"{outer!r} has no wrappedProtocol; a layer's protocol must have the one inside it by that name"
            )
    return protocol


class WrappedServerEndpoint:
    """A server endpoint over another, with a layer in between, as WrappedClientEndpoint has it."""

    def __init__(self, endpoint: IStreamServerEndpoint, layer: Layer) -> None:
        self.endpoint = endpoint
        self.layer = layer

    def listen(self, protocolFactory: Any, /) -> Deferred[Any]:
        """Listen through the layer.

        Returns: as the inner endpoint. Fails: as that; with what the layer raises; TypeError if it makes no factory.
        """
        try:
            outer = _wrapped(self.layer, protocolFactory)
        except Exception as exc:
            return born(fail(exc))
        return born(self.endpoint.listen(outer))


# ---- descriptions ---------------------------------------------------------------------------------------------


def _tcp_client(kind: type[HostnameEndpoint]) -> Callable[[Any, Parts], HostnameEndpoint]:
    def parse(reactor: Any, parts: Parts) -> HostnameEndpoint:
        parts.order("host", "port")
        host = parts.filled("host", "a name or an address")
        port = parts.number("port", 0, _MOST_PORT)
        timeout = parts.seconds("timeout", 30)
        bind = parts.address("bindAddress", kind.family) or None
        delay = parts.seconds("attemptDelay", None, never=False)
        parts.end("host", "port", "timeout", "bindAddress", "attemptDelay")
        return kind(reactor, host, port, timeout, bind, delay)

    return parse


def _tcp_server(family: str | None) -> Callable[[Any, Parts], TCP4ServerEndpoint]:
    def parse(reactor: Any, parts: Parts) -> TCP4ServerEndpoint:
        parts.order("port", "interface", "backlog")
        port = parts.number("port", 0, _MOST_PORT)
        interface = parts.address("interface", family)
        backlog = parts.number("backlog", 0, _MOST_BACKLOG) if "backlog" in parts.names else None
        parts.end("port", "interface", "backlog")
        of_family = TCP6ServerEndpoint if family == "IPv6" or ":" in interface else TCP4ServerEndpoint
        return of_family(reactor, port, backlog, interface or None)

    return parse


_client_kinds: dict[str, Callable[[Any, Parts], IStreamClientEndpoint]] = {
    "tcp": _tcp_client(HostnameEndpoint),
    "host": _tcp_client(HostnameEndpoint),
    "tcp4": _tcp_client(TCP4ClientEndpoint),
    "tcp6": _tcp_client(TCP6ClientEndpoint),
}
_server_kinds: dict[str, Callable[[Any, Parts], IStreamServerEndpoint]] = {
    # Why of both: in Twisted too "tcp:80:interface=\\:\\:" listens on IPv6.
    "tcp": _tcp_server(None),
    "tcp4": _tcp_server("IPv4"),
    "tcp6": _tcp_server("IPv6"),
}


def registerClientKind(kind: str, parse: Callable[[Any, Parts], IStreamClientEndpoint]) -> None:
    """Teach `clientFromString` a kind.

    Args:   parse: given the reactor and the Parts, makes the endpoint, or raises `parts.wrong(…)`.
    Raises: ValueError if there is one of that name.
    """
    _register(_client_kinds, kind, parse)


def registerServerKind(kind: str, parse: Callable[[Any, Parts], IStreamServerEndpoint]) -> None:
    """Teach `serverFromString` a kind, as registerClientKind does."""
    _register(_server_kinds, kind, parse)


def clientFromString(reactor: Any, description: str) -> Any:
    """The client endpoint that a text describes.

    Args:    description: "tcp:HOST:PORT", "tcp4:…", "tcp6:…", "host:…", each with timeout=SECONDS, bindAddress=ADDRESS and
                 attemptDelay=SECONDS; or of a kind that was registered, or that an installed package brings.
    Raises:  ValueError naming the part that is wrong, and what would be right; or the entry point that cannot be loaded.
    Source:  endpoints.clientFromString; there "tcp:" is IPv4 only.
    """
    return _from_string(_client_kinds, _CLIENT_GROUP, reactor, description)


def serverFromString(reactor: Any, description: str) -> Any:
    """The server endpoint that a text describes.

    Args:    description: "tcp:PORT", "tcp4:PORT" or "tcp6:PORT", with interface=ADDRESS and backlog=NUMBER; or of another
                 kind, as clientFromString has it. "tcp:" takes an interface of either family, the others of theirs.
    Raises:  ValueError, as clientFromString.
    Source:  endpoints.serverFromString.
    """
    return _from_string(_server_kinds, _SERVER_GROUP, reactor, description)


def _register(kinds: dict[str, Any], kind: str, parse: Any) -> None:
    if kind.lower() in kinds:
        raise ValueError(f"there is a kind {kind!r} already")
    kinds[kind.lower()] = parse


def _from_string(kinds: dict[str, Any], group: str, reactor: Any, description: str) -> Any:
    parts = Parts(description)
    parse = kinds.get(parts.kind.lower())
    if parse is None:
        # Why here: reading what is installed takes milliseconds, and most programs never need it.
        from importlib.metadata import entry_points

        installed = {each.name.lower(): each for each in entry_points(group=group)}
        entry = installed.get(parts.kind.lower())
        if entry is None:
            known = ", ".join(sorted({*kinds, *installed}))
            raise parts.wrong(f"there is no kind {parts.kind!r}; there are: {known}")
        try:
            parse = entry.load()
        except Exception as exc:
            why = f"{type(exc).__name__}: {exc}"
            raise parts.wrong(
                f"the kind {parts.kind!r} cannot be loaded from its entry point {entry.value!r} in {group!r}: {why}"
            ) from exc
    return parse(reactor, parts)
