"""One connection joined with standard input and output: what `ropewalk connect` and `listen` are.

Bytes flow both ways, each held back by whoever is slow: a full send buffer pauses the input, a full stdout
pauses the connection. The two directions end by themselves: at the end of the input we send the end of our
stream (half-close) and go on reading; at the end of the peer's stream we go on sending until the input ends.

With one exception. Why: at a terminal nobody means to send more to a peer that has hung up, and would wonder
why the tool waits; so there the peer's end is the end.

What the reason of the end means for the exit status is not decided here, but in `outcome.py`.
"""

import os
from collections.abc import Callable
from typing import Any

from ropewalk import Failure, Protocol, Reactor
from ropewalk.cli.standard import Input, Output

__all__ = ["Joint"]


class Joint(Protocol):
    """The protocol at our end of the joined connection.

    Args:   reactor: who watches the standard descriptors.
            ended: called once with the reason, after everything received was written out.
    """

    def __init__(self, reactor: Reactor, ended: Callable[[Failure], None]) -> None:
        self.ended = ended
        self.input = Input(reactor, 0, self.input_received, self.input_ended)
        self.output = Output(reactor, 1, self.output_broke)
        self.output_error: OSError | None = None

    # --- the connection ---

    def connectionMade(self) -> None:
        self.output.start(self.transport)
        self.transport.registerProducer(self.input, True)
        self.input.start()

    def dataReceived(self, data: bytes) -> None:
        self.output.write(data)

    def readConnectionLost(self) -> None:
        if self.input_is_terminal() and not self.input.over:
            self.input.stopProducing()
            self.input_ended()

    def writeConnectionLost(self) -> None:
        """Our half is closed: we asked for it, there is nothing to do."""

    def connectionLost(self, reason: Any) -> None:
        self.input.stopProducing()
        self.output.finish(lambda: self.ended(reason))

    # --- the standard descriptors ---

    def input_received(self, data: bytes) -> None:
        self.transport.write(data)

    def input_ended(self) -> None:
        """Our stream ends. When the peer's has ended too, or does later, the engine closes the connection."""
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def input_is_terminal(self) -> bool:
        return os.isatty(self.input.fd)

    def output_broke(self, exc: OSError) -> None:
        """Nobody reads what we write (`| head`): there is no use in receiving more."""
        self.output_error = exc
        self.transport.abortConnection()
