"""What a type checker must conclude about framing and sending files; mypy reads this file, nothing runs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from ropewalk import Factory
from ropewalk.defer import Deferred
from ropewalk.protocols.basic import (
    FileSender,
    Int32StringReceiver,
    LineReceiver,
    NetstringReceiver,
    StatefulStringProtocol,
)
from ropewalk.protocols.files import sendFile
from ropewalk.protocols.framers import DelimitedFramer, Framer, LengthPrefixedFramer

if TYPE_CHECKING:
    from typing import assert_type

    from ropewalk.interfaces import ITransport


class Lines(LineReceiver):
    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        assert_type(self.clearLineBuffer(), bytes)
        assert_type(self.transport, ITransport)
        self.setRawMode()

    def rawDataReceived(self, data: bytes) -> None:
        self.setLineMode(data[1:])


class Login(StatefulStringProtocol, NetstringReceiver):
    def proto_init(self, name: bytes) -> str:
        assert_type(self.transport, ITransport)
        self.sendString(name)
        return "done"


class Longs(Int32StringReceiver):
    structFormat = "<I"

    def stringReceived(self, string: bytes) -> None:
        assert_type(self.recvd, bytes)


def framing(file: IO[bytes], transport: ITransport) -> None:
    framer = DelimitedFramer(b"\n", limit=10)
    assert_type(framer.feed(bytearray(b"x")), Iterator[bytes])
    assert_type(framer.take(), bytes | None)
    assert_type(framer.split(), list[bytes])
    for message in LengthPrefixedFramer("!H"):
        assert_type(message, bytes)
    framers: list[Framer] = [framer, LengthPrefixedFramer()]
    assert_type(framers[0].frame(b"x"), bytes)
    assert_type(sendFile(transport, file, 5, 10), Deferred[int])
    assert_type(FileSender().beginFileTransfer(file, transport, bytes.upper), Deferred[bytes])
    assert_type(Factory.forProtocol(Lines), Factory[Lines])
