"""TrafficLog: what passes on each connection, a line each, to a logger or a file.

    7 made, 10.0.0.2:50122
    7 <- 5 b'hello'
    7 -> 70000 b'HTTP/1.1 200 OK\\r\\nContent-Ty' + 69975
    7 closing
    7 lost: ConnectionDone

The number is the transport's own, under which lifecycle events tell of it. What a peer sent appears as repr or hex only, never
raw, and never more of it than the limit: lines of logs are read by people and by programs that split at newlines.
What a log or file raises is the log's trouble and never a connection's. Rejected: a file for each connection, as Twisted has
it; opening files takes time that the loop does not have.
Source: twisted.protocols.policies.TrafficLoggingFactory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from ropewalk.failure import Failure
from ropewalk.policies.wrapping import ProtocolWrapper, WrappingFactory, checked_count
from ropewalk.transport import as_bytes, as_pieces

__all__ = ["TrafficLog", "TrafficLogProtocol"]

# Bytes shown of each piece. Value: with the rest of a line, they fit one of a wide terminal.
_SHOWN = 100

log = logging.getLogger("ropewalk")


class TrafficLogProtocol(ProtocolWrapper):
    """One connection that is written down."""

    def _tell(self, text: str) -> None:
        self.factory.tell(f"{getattr(self.transport, 'number', id(self))} {text}")

    def connectionMade(self) -> None:
        peer = self.getPeer()
        self._tell(f"made, {getattr(peer, 'host', peer)}:{getattr(peer, 'port', '')}".rstrip(":"))

    def dataReceived(self, data: bytes) -> None:
        self._tell(f"<- {self.factory.shown(data)}")
        self.wrappedProtocol.dataReceived(data)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.transport.write(data)
        self._tell(f"-> {self.factory.shown(data)}")

    def writeSequence(self, data: Iterable[bytes | bytearray | memoryview]) -> None:
        pieces = as_pieces(data)
        self.transport.writeSequence(pieces)
        for piece in pieces:
            self._tell(f"-> {self.factory.shown(piece)}")

    def loseWriteConnection(self) -> None:
        self._tell("closing our side")
        self.transport.loseWriteConnection()

    def loseConnection(self) -> None:
        self._tell("closing")
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        self._tell("aborting")
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        value = getattr(reason, "value", reason)
        self._tell(f"lost: {type(value).__name__}")
        super().connectionLost(reason)


class TrafficLog(WrappingFactory):
    """Write down what passes.

    Args:   wrappedFactory: any factory.
            to: a `logging.Logger`, or anything with `write`; it must not block.
            form: "text", the bytes as Python shows them, or "hex".
            limit: bytes shown of each piece; of the rest the number is told.
            level: of the logger's records.
    Raises: TypeError, ValueError.
    """

    protocol = TrafficLogProtocol

    def __init__(
        self,
        wrappedFactory: Any,
        to: Any,
        form: str = "text",
        limit: int = _SHOWN,
        level: int = logging.INFO,
    ) -> None:
        super().__init__(wrappedFactory)
        if not isinstance(to, logging.Logger) and not callable(getattr(to, "write", None)):
            raise TypeError(f"to must be a logging.Logger, or have `write`, not {to!r}")
        if form not in ("text", "hex"):
            raise ValueError(f"form must be 'text' or 'hex', not {form!r}")
        self._to = to
        self._form = form
        self._limit = checked_count("limit", limit, "bytes")
        self._level = level
        self._is_broken = False

    def tell(self, line: str) -> None:
        """Write one line."""
        if self._is_broken:
            return
        try:
            if isinstance(self._to, logging.Logger):
                self._to.log(self._level, "%s", line)
            else:
                self._to.write(line + "\n")
        except Exception:
            self._is_broken = True
            log.exception("%r cannot be written to; traffic is logged no more", self._to)

    def shown(self, data: Any) -> str:
        """How many bytes, and the first of them."""
        data = as_bytes(data)
        start = data[: self._limit]
        text = start.hex(" ") if self._form == "hex" else repr(start)
        rest = len(data) - len(start)
        return f"{len(data)} {text}" + (f" + {rest}" if rest else "")
