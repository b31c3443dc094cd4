"""The script of a scenario: what one host was told, a line each, with the virtual second in which it happened.

    0     attempt started 6a:7           an event, as an observer of the reactor sees it
    0.25  buildProtocol(4a:7)            a callback, as the user's factory or protocol gets it

A test gives the script that it expects, and the whole of it is compared: a callback too many, an event that came a
millisecond late, a loser that was not given up, are all seen. Times are exact, since they are virtual: the network of
these scenarios takes no time unless a row says so.

`Scene` is the stage: a client, a server with three addresses of each family (4a 4b 4c, 6a 6b 6c), and the two scripts.
It looks at nothing inside the engine.
"""

from __future__ import annotations

import errno
import textwrap
from collections.abc import Callable
from typing import Any

from ropewalk import ClientFactory, Factory, Protocol
from ropewalk.error import errno_name
from ropewalk.event import Event, Step
from ropewalk.simulation import Simulation

ADDRESSES = {
    "4a": "192.0.2.10",
    "4b": "192.0.2.11",
    "4c": "192.0.2.12",
    "6a": "2001:db8::a",
    "6b": "2001:db8::b",
    "6c": "2001:db8::c",
    "client4": "198.51.100.1",
    "client6": "2001:db8:1::1",
    "loop4": "127.0.0.1",
    "loop6": "::1",
}
NAMES = {address: name for name, address in ADDRESSES.items()}
CLIENT = [ADDRESSES["client4"], ADDRESSES["client6"]]
SERVER = [ADDRESSES[name] for name in ("4a", "4b", "4c", "6a", "6b", "6c")]
PORT = 7

# How a SYN to an address is answered: what `Simulation.route` takes.
LOST: dict[str, Any] = {"lost": True}


def after(seconds: float) -> dict[str, Any]:
    return {"delay": seconds}


def refused(seconds: float) -> dict[str, Any]:
    return {"delay": seconds, "error": errno.ECONNREFUSED}


def unreachable(seconds: float) -> dict[str, Any]:
    return {"delay": seconds, "error": errno.EHOSTUNREACH}


def in_short(shown: object) -> str:
    """ "192.0.2.10:7" is "4a:7"."""
    address, _, port = str(shown).rpartition(":")
    address = address.strip("[]")
    return f"{NAMES.get(address, address)}:{port}"


def said(details: dict[str, object]) -> str:
    """What went wrong: the errno's name, or else the text."""
    number = details["errno"]
    return str(details["error"]) if number is None else str(errno_name(number))  # type: ignore[arg-type]


WORDS: dict[Step, Callable[[dict[str, Any]], str]] = {
    Step.CONNECTING: lambda d: "",
    Step.RESOLVING: lambda d: "",
    Step.RESOLVED: lambda d: " ".join(map(in_short, d["addresses"])),
    Step.RESOLVE_FAILED: lambda d: "",
    Step.ATTEMPT_STARTED: lambda d: in_short(d["address"]),
    Step.ATTEMPT_FAILED: lambda d: f"{in_short(d['address'])} {said(d)}, {d['seconds']:.6g} s",
    Step.CONNECTED: lambda d: in_short(d["peer"]),
    Step.ACCEPTED: lambda d: "",
    Step.PROTOCOL_BUILT: lambda d: "",
    Step.BUFFER_FULL: lambda d: str(d["buffered"]),
    Step.CLOSING: lambda d: str(d["buffered"]),
    Step.CLOSED: lambda d: f"by {d['by']}, {d['reason']}",
    Step.FAILED: lambda d: f"{d['error']} while {d['phase']}",
    Step.LISTENING: lambda d: "",
    Step.ACCEPT_PAUSED: lambda d: f"{said(d)} {d['seconds']:.6g} s",
}


class Script:
    """The lines of one host."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._start = sim.now
        self._lines: list[str] = []

    def note(self, text: str) -> None:
        self._lines.append(f"{round(self._sim.now - self._start, 6):<5g} {text}".rstrip())

    def observe(self, event: Event) -> None:
        words = WORDS.get(event.step, lambda d: "")(event.details)
        self.note(f"{event.step} {words}")

    def begin(self) -> None:
        """Forget what was: the script begins now, at second 0."""
        self._start = self._sim.now
        self._lines.clear()

    def __str__(self) -> str:
        return "\n".join(self._lines)

    def callbacks(self) -> str:
        """Only what was called back, without the events."""
        return "\n".join(line for line in self._lines if "(" in line)


def lines(text: str) -> str:
    """A script as it is written in a test: indented, in triple quotes, `#` beginning a remark."""
    bare = [line.partition("#")[0].rstrip() for line in textwrap.dedent(text).strip().splitlines()]
    return "\n".join(line for line in bare if line)


Acts = dict[str, Callable[..., Any]]


class Player:
    """What a factory and its protocols share: a script, and what to do in which callback."""

    def __init__(self, script: Script, acts: Acts) -> None:
        self.script = script
        self.acts = acts

    def told(self, what: str, said: str, *args: Any) -> Any:
        self.script.note(f"{what}({said})")
        act = self.acts.get(what)
        return act(*args) if act is not None else None


class Talk(Protocol):
    """A protocol that writes its callbacks down, then does what the row wants done there."""

    def __init__(self, player: Player) -> None:
        self.player = player
        self.received = b""
        self.reason: Any = None

    def connectionMade(self) -> None:
        self.player.told("connectionMade", "", self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.player.told("dataReceived", str(len(data)), self)

    def connectionLost(self, reason: Any) -> None:
        self.reason = reason.value
        self.player.told("connectionLost", type(reason.value).__name__, self)


class HalfTalk(Talk):
    """One that keeps the other side when one has ended."""

    def readConnectionLost(self) -> None:
        self.player.told("readConnectionLost", "", self)

    def writeConnectionLost(self) -> None:
        self.player.told("writeConnectionLost", "", self)


class Calling(ClientFactory):
    """A client factory that writes its callbacks down."""

    noisy = False

    def __init__(self, script: Script, kind: type[Talk] = Talk, **acts: Callable[..., Any]) -> None:
        self.player = Player(script, acts)
        self.kind = kind
        self.talks: list[Talk] = []
        self.reason: Any = None

    @property
    def talk(self) -> Any:
        """The protocol of the one connection."""
        [talk] = self.talks
        return talk

    def startFactory(self) -> None:
        self.player.told("startFactory", "")

    def stopFactory(self) -> None:
        self.player.told("stopFactory", "")

    def startedConnecting(self, connector: Any) -> None:
        self.player.told("startedConnecting", "", connector)

    def buildProtocol(self, addr: Any) -> Talk:
        self.player.told("buildProtocol", in_short(f"{addr.host}:{addr.port}"), addr)
        self.talks.append(self.kind(self.player))
        return self.talks[-1]

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        self.reason = reason.value
        self.player.told("clientConnectionFailed", type(reason.value).__name__, connector)

    def clientConnectionLost(self, connector: Any, reason: Any) -> None:
        self.reason = reason.value
        self.player.told("clientConnectionLost", type(reason.value).__name__, connector)


class Serving(Factory):
    """A server's factory; its protocols write their callbacks down."""

    noisy = False

    def __init__(self, script: Script, kind: type[Talk] = Talk, **acts: Callable[..., Any]) -> None:
        self.player = Player(script, acts)
        self.kind = kind
        self.talks: list[Talk] = []

    @property
    def talk(self) -> Any:
        [talk] = self.talks
        return talk

    def buildProtocol(self, addr: Any) -> Talk:
        self.talks.append(self.kind(self.player))
        return self.talks[-1]


class Scene:
    """A client, a server, the network between them, and a script of each."""

    def __init__(self, seed: int = 0) -> None:
        self.sim = Simulation(seed)
        # Why: nothing here needs a thousand turns in one instant; a spin should be told soon.
        self.sim._driver.spin_limit = 2000
        self.server = self.sim.host("server", SERVER)
        self.client = self.sim.host("client", CLIENT)
        self.sim.latency(self.server, self.client, 0.0)
        self.sim.latency(self.server, self.server, 0.0)
        self.sim.latency(self.client, self.client, 0.0)
        self.script = Script(self.sim)
        self.server_script = Script(self.sim)
        self.client.reactor.observers.append(self.script.observe)
        self.server.reactor.observers.append(self.server_script.observe)

    def name(self, name: str, *addresses: str, delay: float = 0.0) -> None:
        """Let a name have these addresses, given by their short names."""
        self.sim.name(name, [ADDRESSES[each] for each in addresses], delay=delay)

    def listen(self, kind: type[Talk] = Talk, port: int = PORT, options: Any = None, **acts: Any) -> Serving:
        """Let the server listen at all its addresses. The script has no line for that."""
        from ropewalk import TCPOptions

        factory = Serving(self.server_script, kind, **acts)
        options = options or TCPOptions(dualStack=True)
        factory.port = self.server.reactor.listenTCP(port, factory, interface="::", options=options)  # type: ignore[attr-defined]
        self.server_script.begin()
        return factory

    def call(self, host: str, kind: type[Talk] = Talk, port: int = PORT, **how: Any) -> Calling:
        """Let the client connect. Args: host: a name, an address, or the short name of one; how: acts and options."""
        options = {key: how.pop(key) for key in ("timeout", "bindAddress", "options") if key in how}
        factory = Calling(self.script, kind, **how)
        factory.connector = self.client.reactor.connectTCP(  # type: ignore[attr-defined]
            ADDRESSES.get(host, host), port, factory, **options
        )
        return factory

    def connected(
        self,
        kind: type[Talk] = Talk,
        server_kind: type[Talk] = Talk,
        latency: float = 0.0,
        options: Any = None,
        acts: Acts | None = None,
        server_acts: Acts | None = None,
    ) -> tuple[Any, Any]:
        """A connection that stands; both ends' protocols. The scripts begin when it does.

        Args: options: of the client's end.
        """
        self.sim.latency(self.server, self.client, latency)
        serving = self.listen(server_kind)
        calling = self.call("4a", kind, **({"options": options} if options else {}))
        self.sim.runUntilIdle()
        self.script.begin()
        self.server_script.begin()
        calling.player.acts.update(acts or {})
        serving.player.acts.update(server_acts or {})
        return calling.talk, serving.talk

    def close(self) -> None:
        """Both reactors stop, everything is told to end, and nothing may be left."""
        for host in self.sim.hosts:
            if host.reactor.running:
                host.reactor.stop()
        self.sim.runUntilIdle()
        self.sim.close()
        self.sim.checkAtRest()
