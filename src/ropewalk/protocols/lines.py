"""Lines: LineOnlyReceiver, and LineReceiver, which can be asked for raw bytes as well.

framers.py keeps the bytes and finds the lines; here is told who is called, and when no more. It must never know how a line
is found, nor what a transport does with what is written.

One loop in each class, `_deliver`, takes lines while somebody may be told. What a callback asks for (pausing, another mode
or delimiter, the rest of the bytes, more data) is done by that loop afterwards, and it is never entered twice. So nothing
recurses, and nothing is told out of order.
Rule: after a switch to raw mode the first piece is small, and each one twice the last. Why: whoever switches for a few bytes
  gives the rest back, and a read of a hundred thousand switches would be copied a hundred thousand times.
The framer is made when the first bytes come. Why: subclasses do not call our constructor, and idle connections hold none.
Source: twisted.protocols.basic for names, order and limits; the two are compared in tests/differential/test_basic.py.
"""

from __future__ import annotations

from ropewalk.protocol import Protocol
from ropewalk.protocols.callbacks import is_over, not_overridden
from ropewalk.protocols.framers import LINE_LIMIT, DelimitedFramer, MessageTooLong

__all__ = ["LineOnlyReceiver", "LineReceiver"]

# Bytes of the first raw piece after a switch. Value: copying so many costs about as much as the callback they are for.
_FIRST_PIECE = 1024


class LineOnlyReceiver(Protocol):
    """Receives lines, and nothing else.

    `delimiter` ends each line; `MAX_LENGTH` is the longest line in bytes, without it. Both may be set at any time, on the class
    or the instance; a delimiter holds from the next read on. It finds all lines of a read at once, and is quicker for that.

    Source: twisted.protocols.basic.LineOnlyReceiver. Ours differs: docs/differences-from-twisted.md, "Framing".
    """

    delimiter: bytes = b"\r\n"
    MAX_LENGTH: int = LINE_LIMIT
    _framer: DelimitedFramer | None = None
    _is_delivering = False

    def dataReceived(self, data: bytes) -> None:
        """Cut into lines; lineReceived is called for each."""
        framer = self._framer
        if framer is None:
            framer = self._framer = DelimitedFramer(self.delimiter, self.MAX_LENGTH)
        framer.feed(data)
        if not self._is_delivering:
            self._is_delivering = True
            try:
                self._deliver(framer)
            finally:
                self._is_delivering = False

    def _deliver(self, framer: DelimitedFramer) -> None:
        while not is_over(self.transport):
            framer.delimiter = self.delimiter
            framer.limit = self.MAX_LENGTH
            try:
                lines = framer.split()
            except MessageTooLong:
                self.lineLengthExceeded(framer.takeRest())
                continue
            if not lines:
                break
            for line in lines:
                # hot: once for each line.
                if len(line) > self.MAX_LENGTH:
                    self.lineLengthExceeded(line)
                else:
                    self.lineReceived(line)
                if is_over(self.transport):
                    # Safe because: nobody can ask for the others.
                    return

    def lineReceived(self, line: bytes) -> None:
        """Override this: a line has come.

        Args:   line: without its delimiter.
        """
        raise not_overridden(self, "lineReceived")

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line was longer than MAX_LENGTH; closes the connection, unless overridden.

        Args:   line: the whole line if its end has come, else its beginning: all that was there. It is kept nowhere else.
        Order:  if the connection is not closed, the next line is what follows.
        """
        self.transport.loseConnection()

    def sendLine(self, line: bytes) -> None:
        """Send a line, and the delimiter behind it.

        Args:   line: bytes; that there is no delimiter in it is not looked at.
        """
        self.transport.write(line + self.delimiter)


class LineReceiver(Protocol):
    """Receives lines, and raw bytes when it is asked to.

    In line mode `lineReceived` is called for each line, in raw mode `rawDataReceived` with whatever comes. `setRawMode` and
    `setLineMode` switch, also in the middle of a read. `delimiter` ends each line; `MAX_LENGTH` is the longest line in bytes,
    without it. Both may be set at any time, on the class or the instance, and hold from the next line on.

    It is a producer: after `pauseProducing` nothing is told, not even what was received already, until `resumeProducing`.

    Source: twisted.protocols.basic.LineReceiver. Ours differs: docs/differences-from-twisted.md, "Framing".
    """

    delimiter: bytes = b"\r\n"
    MAX_LENGTH: int = LINE_LIMIT
    line_mode: int = 1
    paused: bool = False
    _framer: DelimitedFramer | None = None
    _is_delivering = False
    _piece = _FIRST_PIECE

    def dataReceived(self, data: bytes) -> None:
        """Cut into lines, or hand on as it is; lineReceived and rawDataReceived are called."""
        self._unread().feed(data)
        self._deliver()

    def _unread(self) -> DelimitedFramer:
        framer = self._framer
        if framer is None:
            framer = self._framer = DelimitedFramer(self.delimiter, self.MAX_LENGTH)
        return framer

    def _deliver(self) -> None:
        if self._is_delivering:
            return
        framer = self._unread()
        self._is_delivering = True
        try:
            # hot: once for each line.
            while not (self.paused or is_over(self.transport)):
                if not self.line_mode:
                    if not self._deliver_raw(framer):
                        break
                    continue
                framer.delimiter = self.delimiter
                framer.limit = self.MAX_LENGTH
                try:
                    line = framer.take()
                except MessageTooLong:
                    self.lineLengthExceeded(framer.takeRest())
                    continue
                if line is None:
                    break
                self.lineReceived(line)
        finally:
            self._is_delivering = False

    def _deliver_raw(self, framer: DelimitedFramer) -> bool:
        """Whether there was anything."""
        data = framer.takeUpTo(self._piece)
        if len(data) == self._piece:
            self._piece *= 2
        if data:
            self.rawDataReceived(data)
        return bool(data)

    def lineReceived(self, line: bytes) -> None:
        """Override this: a line has come.

        Args:   line: without its delimiter.
        """
        raise not_overridden(self, "lineReceived")

    def rawDataReceived(self, data: bytes) -> None:
        """Override this, if you use setRawMode: bytes have come, cut anywhere.

        Args:   data: never empty. What is not yours goes back with setLineMode.
        """
        raise not_overridden(self, "rawDataReceived")

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line was longer than MAX_LENGTH; closes the connection, unless overridden.

        Args:   line: all that was there from its beginning on, perhaps further lines too. It is kept nowhere else; what
                    is still good of it goes back with setLineMode.
        """
        self.transport.loseConnection()

    def setRawMode(self) -> None:
        """From now on hand the bytes to rawDataReceived as they are, those received already first.

        Order:  nothing is called before this returns.
        """
        self.line_mode = 0
        self._piece = _FIRST_PIECE

    def setLineMode(self, extra: bytes = b"") -> None:
        """From now on look for lines.

        Args:   extra: bytes that rawDataReceived was given and that are not raw: the first of what is looked at.
        Order:  in a callback, nothing is called before this returns; elsewhere, the lines of extra are received before.
        """
        self.line_mode = 1
        if extra:
            self._unread().giveBack(extra)
            self._deliver()

    def clearLineBuffer(self) -> bytes:
        """Take away what was received and not told yet.

        Returns: it.
        """
        return self._unread().takeRest()

    def sendLine(self, line: bytes) -> None:
        """Send a line, and the delimiter behind it.

        Args:   line: bytes; that there is no delimiter in it is not looked at.
        """
        self.transport.write(line + self.delimiter)

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
