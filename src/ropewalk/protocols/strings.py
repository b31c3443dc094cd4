"""Strings that tell their length first: netstrings, and those with a binary prefix; and a method per state for them.

framers.py keeps the bytes and finds the strings; here is told who is called, and when no more. It must never know how a
string is found, nor what a transport does with what is written.

As in lines.py one loop in each class, `_deliver`, takes strings while somebody may be told, and is never entered twice; the
framer is made when the first bytes come.
Rule: after what cannot be received nothing is received any more. Why: where the next string begins, nobody knows.
Source: twisted.protocols.basic for names, order and limits; the two are compared in tests/differential/test_basic.py.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING, Any

from ropewalk.protocol import Protocol
from ropewalk.protocols.callbacks import is_over, not_overridden
from ropewalk.protocols.framers import (
    STRING_LIMIT,
    FramingError,
    LengthPrefixedFramer,
    MessageTooLong,
    NetstringFramer,
)

if TYPE_CHECKING:
    from ropewalk.interfaces import ITransport

__all__ = [
    "Int8StringReceiver",
    "Int16StringReceiver",
    "Int32StringReceiver",
    "IntNStringReceiver",
    "NetstringReceiver",
    "StatefulStringProtocol",
    "StringTooLongError",
]

log = logging.getLogger("ropewalk")


class StringTooLongError(AssertionError):
    """A string is longer than its prefix can tell; nothing was sent."""


class NetstringReceiver(Protocol):
    """Sends and receives netstrings: `5:hello,`.

    `MAX_LENGTH` is the longest string in bytes. What is no netstring, or a longer one, closes the connection; `brokenPeer`
    is then 1, and nothing more is received.

    Source: cr.yp.to/proto/netstrings.txt; twisted.protocols.basic.NetstringReceiver.
    """

    MAX_LENGTH: int = STRING_LIMIT
    brokenPeer: int = 0
    _framer: NetstringFramer | None = None
    _is_delivering = False

    def makeConnection(self, transport: ITransport) -> None:
        """Attach to the transport; nothing is left of an earlier connection."""
        self._framer = None
        self.brokenPeer = 0
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Cut into strings; stringReceived is called for each."""
        if self.brokenPeer:
            return
        framer = self._framer
        if framer is None:
            framer = self._framer = NetstringFramer(self.MAX_LENGTH)
        framer.feed(data)
        if not self._is_delivering:
            self._is_delivering = True
            try:
                self._deliver(framer)
            finally:
                self._is_delivering = False

    def _deliver(self, framer: NetstringFramer) -> None:
        while not is_over(self.transport):
            framer.limit = self.MAX_LENGTH
            try:
                string = framer.take()
            except FramingError:
                self.brokenPeer = 1
                framer.takeRest()
                self.transport.loseConnection()
                return
            if string is None:
                return
            self.stringReceived(string)

    def stringReceived(self, string: bytes) -> None:
        """Override this: a string has come.

        Args:   string: without its framing.
        """
        raise not_overridden(self, "stringReceived")

    def sendString(self, string: bytes) -> None:
        """Send a string, framed. Its length is not looked at: the limit is the receiver's."""
        self.transport.write(b"%d:%b," % (len(string), string))


class IntNStringReceiver(Protocol):
    """Sends and receives strings that begin with their length as a binary number.

    Subclasses say which: `structFormat`, as `struct` writes it, and `prefixLength`, its size. `MAX_LENGTH` is the longest
    string in bytes that is received.

    It is a producer: after `pauseProducing` nothing is told, not even what was received already, until `resumeProducing`.

    Source: twisted.protocols.basic.IntNStringReceiver. Ours differs: docs/differences-from-twisted.md, "Framing".
    """

    MAX_LENGTH: int = STRING_LIMIT
    structFormat: str = "!I"
    prefixLength: int = 4
    paused: bool = False
    _framer: LengthPrefixedFramer | None = None
    _is_delivering = False
    # After a length that was too big: where the next string begins nobody knows.
    _is_lost = False

    def dataReceived(self, data: bytes) -> None:
        """Cut into strings; stringReceived is called for each."""
        if not self._is_lost:
            self._unread().feed(data)
            self._deliver()

    def _unread(self) -> LengthPrefixedFramer:
        framer = self._framer
        if framer is None:
            framer = self._framer = LengthPrefixedFramer(self.structFormat, self.MAX_LENGTH)
        return framer

    def _deliver(self) -> None:
        if self._is_delivering:
            return
        framer = self._unread()
        self._is_delivering = True
        try:
            while not (self.paused or self._is_lost or is_over(self.transport)):
                # hot: once for each string.
                framer.limit = self.MAX_LENGTH
                try:
                    string = framer.take()
                except MessageTooLong as too_long:
                    self._refuse(too_long.size)
                    continue
                if string is None:
                    break
                self.stringReceived(string)
        finally:
            self._is_delivering = False

    def _refuse(self, length: int) -> None:
        self._is_lost = True
        # Why before the rest is dropped: `recvd` shows it, and a handler that sets `recvd` goes on with that.
        self.lengthLimitExceeded(length)
        if self._is_lost:
            self._unread().takeRest()

    @property
    def recvd(self) -> bytes:
        """What was received and not told yet, framing included; setting it puts other bytes in its place."""
        return self._unread().peek()

    @recvd.setter
    def recvd(self, data: bytes) -> None:
        framer = self._unread()
        framer.takeRest()
        framer.feed(data)
        self._is_lost = False

    def stringReceived(self, string: bytes) -> None:
        """Override this: a string has come.

        Args:   string: without its prefix.
        """
        raise not_overridden(self, "stringReceived")

    def lengthLimitExceeded(self, length: int) -> None:
        """A string longer than MAX_LENGTH is announced; closes the connection, unless overridden.

        Args:   length: what its prefix says.
        Order:  nothing is received after it.
        """
        self.transport.loseConnection()

    def sendString(self, string: bytes) -> None:
        """Send a string, its length before it.

        Raises: StringTooLongError if the prefix cannot tell its length.
        """
        try:
            prefix = struct.pack(self.structFormat, len(string))
        except struct.error:
            raise StringTooLongError(
                f"{len(string)} bytes are more than a prefix of {self.prefixLength} bytes can tell"
            ) from None
        self.transport.write(prefix + string)

    def pauseProducing(self) -> None:
        """Tell nothing more, and let the transport read nothing more, until resumeProducing."""
        self.paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on, first with what was received already.

        Order:  outside of a callback, that is told before this returns.
        """
        self.paused = False
        self.transport.resumeProducing()
        self._deliver()

    def stopProducing(self) -> None:
        """Tell nothing more, and close."""
        self.paused = True
        self.transport.stopProducing()


class Int32StringReceiver(IntNStringReceiver):
    """Strings whose length is told in four bytes, the highest first."""

    structFormat = "!I"
    prefixLength = 4


class Int16StringReceiver(IntNStringReceiver):
    """Strings whose length is told in two bytes, the highest first."""

    structFormat = "!H"
    prefixLength = 2


class Int8StringReceiver(IntNStringReceiver):
    """Strings whose length is told in one byte."""

    structFormat = "!B"
    prefixLength = 1


class StatefulStringProtocol:
    """One method per state, for a protocol that is told of strings.

    Inherit from it first and from NetstringReceiver or an Int…StringReceiver next. Each string goes to the method named
    `proto_` and the state, which returns the next state; "done" closes the connection. The first is "init".

    Source: twisted.protocols.basic.StatefulStringProtocol.
    """

    transport: ITransport
    state: str = "init"

    def stringReceived(self, string: bytes) -> None:
        """Hand the string to the method of this state. If there is none, it is dropped, and the log is told."""
        handler: Any = getattr(self, f"proto_{self.state}", None)
        if handler is None:
            log.warning("%r drops a string: it has no proto_%s", self, self.state)
            return
        self.state = handler(string)
        if self.state == "done":
            self.transport.loseConnection()
