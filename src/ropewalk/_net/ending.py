"""How a connection ends: who ended it, and the reason its protocol is given. No I/O.

A Verdict says who or what ended the connection, which of the words of the border is the reason, and whether the socket is
to be closed with a reset. It is passed once, from where the end was noticed or asked for, to the stream's one way out. The
everyday ones are constants; the others carry an error, a text, or the exception that user code raised.

Rule: each connection gets a reason of its own, and no reason keeps a traceback of the engine's: its frames hold the stream,
and a reason that a user keeps would be a reference cycle.
"""

from __future__ import annotations

import errno
from typing import Any

from ropewalk.event import Ended, EndedBy
from ropewalk.failure import safe_text

_RESET = (errno.ECONNRESET, errno.EPIPE)


class Verdict:
    """Why a connection ends.

    Args:   by: who or what ended it.
            kind: the reason's class, by its name in the words' `error`; None if `exc` is the reason itself.
            text: what is to be said beyond that.
            exc: the operating system's error, or what user code raised.
            with_reset: whether the peer is sent RST and what waits in the kernel is thrown away.
    """

    __slots__ = ("by", "exc", "kind", "text", "with_reset")

    def __init__(
        self,
        by: EndedBy,
        kind: str | None,
        text: str | None = None,
        exc: BaseException | None = None,
        with_reset: bool = False,
    ) -> None:
        self.by = by
        self.kind = kind
        self.text = text
        self.exc = exc
        self.with_reset = with_reset

    def ended(self, seconds: float, received: int, sent: int) -> Ended:
        exc = self.exc
        if exc is None:
            return Ended(self.by, seconds, received, sent, self.text)
        text = self.text or safe_text(exc) or type(exc).__name__
        return Ended(self.by, seconds, received, sent, text, getattr(exc, "errno", None))

    def reason(self, error: Any, ended: Ended) -> BaseException:
        """Args: error: the words' exceptions."""
        exc = self.exc
        if self.kind is None:
            assert exc is not None
            return exc
        kind = getattr(error, self.kind)
        made: BaseException
        if self.text is not None:
            made = kind(self.text, ended=ended)
        elif exc is not None:
            made = kind(osError=exc.with_traceback(None), ended=ended)
        else:
            made = kind(ended=ended)
        return made


PEER_CLOSED = Verdict(EndedBy.PEER, "ConnectionDone")
WE_CLOSED = Verdict(EndedBy.US, "ConnectionDone")
WE_ABORTED = Verdict(EndedBy.US_ABORTED, "ConnectionAborted", with_reset=True)
SHUT_DOWN = Verdict(EndedBy.SHUTDOWN, "ConnectionLost", "the reactor was stopped")


def broken(exc: OSError) -> Verdict:
    """The operating system says that the connection is gone."""
    by = EndedBy.PEER_RESET if exc.errno in _RESET else EndedBy.ERROR
    if exc.errno == errno.ETIMEDOUT:
        by = EndedBy.TIMEOUT
    return Verdict(by, "ConnectionLost", exc=exc)


def stalled(seconds: float | None, waiting: int) -> Verdict:
    """The peer took nothing for the whole of the close deadline."""
    text = f"no progress for {seconds} s while closing, {waiting} bytes not sent"
    return Verdict(EndedBy.TIMEOUT, "ConnectionLost", text, with_reset=True)


def overrun(waiting: int, limit: int) -> Verdict:
    """The user wrote more than the hard limit allows to wait."""
    text = f"{waiting} bytes wait to be sent, the hard limit is {limit}"
    return Verdict(EndedBy.ERROR, "ConnectionLost", text, with_reset=True)


def overstayed() -> Verdict:
    """It was there still at the deadline of a drain."""
    text = "still connected at the deadline of the drain"
    return Verdict(EndedBy.US_ABORTED, "ConnectionAborted", text, with_reset=True)


def raised(exc: BaseException, with_reset: bool) -> Verdict:
    """User code raised; the exception itself is the reason."""
    return Verdict(EndedBy.EXCEPTION, None, exc=exc, with_reset=with_reset)
