"""`ropewalk demo`: three connections, each shown while it happens and explained when it is over.

1. An echo server and a client that connects to it by name, says something, then sends more than the buffers
   hold while it does not read for a while, reads it all back, and closes.
2. A port where nobody listens.
3. A port where somebody listens but never accepts, with a deadline of one second.

Nothing leaves this machine. The second and third need a peer that misbehaves in ways the engine's own ports
never do, so their listeners are plain sockets: one that is bound but does not listen, one whose queue of
waiting connections is full (listen(2), backlog).

What is shown comes from the engine's lifecycle events, through `reactor.observers`; the rows named "your code"
are what the demo's own protocol does and is told. The demo is a program as a user would write it: it uses the
public API only.
"""

import socket
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.text import Text

from ropewalk import ClientFactory, Protocol, Reactor
from ropewalk.address import display
from ropewalk.cli.serve import EchoFactory
from ropewalk.cli.show import style_of
from ropewalk.cli.stage import Row, Stage
from ropewalk.event import Event, Step
from ropewalk.observe import Recorder, explain
from ropewalk.observe.phrases import amount, duration, phrase

__all__ = ["run"]

GREETING = b"hello, rope"
LOAD = 4_000_000  # bytes; more than the kernel's buffers and ours hold together, so that somebody has to wait
CHUNK = 16_384  # bytes in one write
MOMENT = 0.05  # seconds
REST = 0.3  # seconds in which the client does not read
DEADLINE = 1.0  # seconds

COMMANDS = (
    ("ropewalk listen 8007 --echo", "an echo server"),
    ("ropewalk connect localhost:8007 --trace", "talk to it, each step shown"),
    ("ropewalk connect HOST:80 --trace-format json", "a timeline for programs"),
    ("ropewalk explain stream", "a connection's state tables"),
)

# The room in src/ropewalk/_net where each step is made, for those who want to read on.
rooms: dict[Step, str] = {
    Step.CONNECTING: "connector.py",
    Step.RESOLVING: "resolve.py",
    Step.RESOLVED: "resolve.py",
    Step.RESOLVE_FAILED: "resolve.py",
    Step.ATTEMPT_STARTED: "dial.py",
    Step.ATTEMPT_FAILED: "dial.py",
    Step.CONNECTED: "connector.py",
    Step.PROTOCOL_BUILT: "connector.py",
    Step.FAILED: "connector.py",
}


def run() -> int:
    """Run the three scenes on the terminal or pipe that is stdout; the exit status."""
    console = Console(highlight=False)
    reactor = Reactor()
    Demo(reactor, Stage(reactor, console)).start()
    reactor.run()
    return 0


class Demo:
    """The scenes, one after another. `began` and `number` are those of the connection that is shown."""

    def __init__(self, reactor: Reactor, stage: Stage) -> None:
        self.reactor = reactor
        self.stage = stage
        self.recorder = Recorder()
        self.began = 0.0
        self.number = self.server_number = 0
        self.told: set[tuple[int, Step]] = set()
        self.plain_sockets: list[socket.socket] = []

    def start(self) -> None:
        self.reactor.observers.append(self.recorder)
        self.reactor.observers.append(self.see)
        self.reactor.callWhenRunning(self.made)

    # --- what is shown ---

    def see(self, event: Event) -> None:
        """An observer: show the steps of the connection in hand."""
        if event.step is Step.CONNECTING:
            self.began, self.number = event.time, event.connection
        elif event.step is Step.ACCEPTED:
            self.server_number = event.connection
        if event.connection == self.number and not self.was_told(event):
            said = phrase(event.step, event.details)
            if event.step is Step.FAILED:
                said = said.partition(" [")[0]  # The whole message follows below the table.
            self.add(
                event.time,
                event.step.value,
                style_of(event.step),
                said,
                rooms.get(event.step, "stream.py"),
            )

    def was_told(self, event: Event) -> bool:
        """Whether it is a repetition: buffers fill and drain many times, once each is enough to see."""
        key = (event.connection, event.step)
        repeated = event.step in (Step.BUFFER_FULL, Step.BUFFER_DRAINED) and key in self.told
        self.told.add(key)
        return repeated

    def tell(self, said: str) -> None:
        """A row about what the demo's own protocol does."""
        self.add(self.reactor.seconds(), "your code", "bold magenta", said, "")

    def add(self, time: float, label: str, style: str, said: str, room: str) -> None:
        self.stage.add(Row(duration(max(0.0, time - self.began)), label, style, said, room))

    # --- the scenes ---

    def made(self) -> None:
        port: Any = self.reactor.listenTCP(0, EchoFactory(), interface="127.0.0.1")
        place = port.getHost()
        self.stage.begin(
            "1. A connection, by name",
            f"An echo server is at {display(place)}; this is connectTCP('localhost', {place.port}, …).",
        )

        def over(reason: Any) -> None:
            port.stopListening()
            # Why later: the server's end hears of it only when the kernel has told it.
            self.stage.finish(lambda: self.reactor.callLater(MOMENT, self.other_side))

        self.reactor.connectTCP("localhost", place.port, ShownFactory(self, over))

    def other_side(self) -> None:
        """What the server's end of the same connection has to tell, then on to the next scene."""
        if self.server_number in self.recorder:
            _, step, said = explain(self.server_number, self.recorder).rows()[-1]
            self.stage.say(Text.assemble(("The server's end of it: ", "dim"), f"{step} {said}"))
        self.refused()

    def refused(self) -> None:
        silent = self.plain_socket()
        self.attempt(
            silent, "2. Nobody listens", "The port belongs to a socket that does not listen.", self.unanswered
        )

    def unanswered(self) -> None:
        silent = self.plain_socket()
        silent.listen(0)
        self.fill(silent)
        self.attempt(
            silent,
            "3. Nobody answers",
            f"Somebody listens, but the queue before the door is full; the deadline is {DEADLINE:g} s.",
            self.bow,
        )

    def attempt(self, target: socket.socket, title: str, lines: str, then: Callable[[], None]) -> None:
        self.stage.begin(title, lines)

        def over(reason: Any) -> None:
            def told() -> None:
                self.stage.say(
                    Text.assemble(("The error's message alone: ", "dim"), reason.getErrorMessage())
                )
                then()

            self.stage.finish(told)

        port = target.getsockname()[1]
        self.reactor.connectTCP("localhost", port, ShownFactory(self, over), timeout=DEADLINE)

    def bow(self) -> None:
        if not self.reactor.running:
            return  # Ctrl-C came first.
        for each in self.plain_sockets:
            each.close()
        self.stage.say(Text())
        self.stage.say(Text("Now yours:", "bold"))
        for command, meaning in COMMANDS:
            self.stage.say(Text.assemble("  ", (f"{command:<46}", "cyan"), meaning))
        self.reactor.stop()

    # --- peers that misbehave ---

    def plain_socket(self) -> socket.socket:
        """A socket that holds a port of its own; as long as it does not listen, the kernel refuses for it."""
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.bind(("127.0.0.1", 0))
        self.plain_sockets.append(made)
        return made

    def fill(self, listener: socket.socket) -> None:
        """Fill the listener's queue, so that the kernel lets further attempts go unanswered.

        Why so many: how many a queue of length 0 takes is each system's own choice; Linux takes one.
        """
        for _ in range(4):
            caller = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
            self.plain_sockets.append(caller)


class ShownFactory(ClientFactory):
    """A client of the demo: tells of what its user code is called for.

    Args:   demo: who shows it.
            over: called once with the reason, when the connection has ended or was not made.
    """

    noisy = False

    def __init__(self, demo: Demo, over: Callable[[Any], None]) -> None:
        self.demo = demo
        self.over = over

    def buildProtocol(self, addr: object) -> "Shown":
        return Shown(self.demo)

    def clientConnectionFailed(self, connector: object, reason: Any) -> None:
        self.demo.tell(f"clientConnectionFailed(connector, {type(reason.value).__name__})")
        self.over(reason)

    def clientConnectionLost(self, connector: object, reason: Any) -> None:
        self.over(reason)


class Shown(Protocol):
    """Greets, then sends a load without reading for a while, then reads it all back and closes."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.received = 0

    def connectionMade(self) -> None:
        self.demo.tell(f"connectionMade: write({GREETING!r})")
        self.transport.write(GREETING)

    def dataReceived(self, data: bytes) -> None:
        greeted = self.received >= len(GREETING)
        self.received += len(data)
        if not greeted and self.received >= len(GREETING):
            self.demo.tell(f"dataReceived({data!r}): it came back")
            self.send_load()
        elif self.received == len(GREETING) + LOAD:
            self.demo.tell(f"all {amount(LOAD)} came back: loseConnection()")
            self.transport.loseConnection()

    def send_load(self) -> None:
        self.demo.tell(f"pauseProducing() for {REST:g} s, then {amount(LOAD)} to send")
        self.transport.pauseProducing()
        Load(self.transport).start()
        self.demo.reactor.callLater(REST, self.transport.resumeProducing)

    def connectionLost(self, reason: Any) -> None:
        self.demo.tell(f"connectionLost({type(reason.value).__name__})")


class Load:
    """A push producer: writes while the transport has room, waits while it has none."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.left = LOAD
        self.has_room = True

    def start(self) -> None:
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self.has_room = True
        while self.has_room and self.left:
            size = min(self.left, CHUNK)
            self.left -= size
            self.transport.write(bytes(size))  # The transport may call pauseProducing right here.
        if not self.left:
            self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.has_room = False

    def stopProducing(self) -> None:
        self.left = 0
        self.has_room = False
