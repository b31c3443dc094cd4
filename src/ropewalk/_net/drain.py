"""A Drain: the connections of one port go home by themselves, and after a deadline are sent.

A port that drains listens no more. Of its connections, those whose protocols have the method `connectionDraining` are told;
all are waited for; what is still there at the deadline is aborted, with a reason that says so. How many ended in which way is
the result. The Drain stays at its port until that is known, also when nobody waits for it any more, so that no protocol is
told twice.

What it costs a connection that is not drained: nothing but a truth test at its end (`Port._lost`). The port keeps no list of
its connections; those that live are asked for once, when draining begins, from the loop and `Core.open_ends`, which hold every
one of them anyway.

It must never know how a port listens, nor who waits for a drain. Rejected: draining connections that we have made. They serve
those that are drained (a data base, a back end), rarely end by themselves, and would take every drain to its deadline.
Source: `http.Server.Shutdown` of Go's net/http, and what HAProxy and nginx call a soft stop.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from ropewalk._net.core import Core
from ropewalk._net.ending import overstayed
from ropewalk._net.listen import Port
from ropewalk._net.sides import StreamState
from ropewalk._net.stream import Stream
from ropewalk.event import Drained, EndedBy

_FOR_EVER = float("inf")
_LONGEST = sys.float_info.max


def drain(core: Core, port: Port, deadline: float | None) -> Any:
    """Begin to drain a port, or join who does already. Returns: a Deferred of Drained."""
    check_deadline(deadline)
    if port.draining is None:
        port.draining = Drain(core, port)
    is_listening = port.connected
    if is_listening:
        port.stopListening()
    ends = (*core.loop.everyone(), *core.open_ends)
    streams = [each for each in ends if isinstance(each, Stream) and each.owner is port]
    return port.draining.wait(streams, deadline, is_listening)


def drain_all(core: Core, deadline: float | None) -> Any:
    """Drain every port that listens, or that has connections still. Returns: a Deferred of Drained, the sum."""
    check_deadline(deadline)
    ends = (*core.loop.everyone(), *core.open_ends)
    owners = [each.owner if isinstance(each, Stream) else each for each in ends]
    ports = dict.fromkeys(each for each in owners if isinstance(each, Port))
    return _together(core, [drain(core, each, deadline) for each in ports])


class Drain:
    """How far one port's draining has come.

    Args: port: its `draining` is this, until it is over.
    """

    __slots__ = (
        "_aborted",
        "_core",
        "_deadline",
        "_ended",
        "_is_listening",
        "_left",
        "_port",
        "_timer",
        "_waiting",
    )

    def __init__(self, core: Core, port: Port) -> None:
        self._core = core
        self._port = port
        self._is_listening = True
        # Those still there: whether we have aborted it. A dict, for the order.
        self._left: dict[Stream, bool] = {}
        self._ended = self._aborted = 0
        self._deadline = _FOR_EVER
        self._timer: Any = None
        self._waiting: list[Any] = []

    def wait(self, streams: Iterable[Stream], deadline: float | None, is_listening: bool) -> Any:
        """Once more somebody wants it drained. Of several deadlines the earliest holds.

        Args:    streams: those that live now. is_listening: whether the port has yet to stop, and `stopped` comes.
        Returns: a Deferred of Drained.
        """
        loop = self._core.loop
        self._is_listening = is_listening
        new = [each for each in streams if each not in self._left]
        if new:
            self._left.update(dict.fromkeys(new, False))
            loop.call_soon(self._tell, new)
        if deadline is not None:
            self._deadline = min(self._deadline, loop.now() + deadline)
            self._watch_deadline()
        waiting = self._core.words.Deferred(self._give_up)
        self._waiting.append(waiting)
        self._settle()
        return waiting

    # ---- what the port tells ------------------------------------------------------------------------------------

    def stopped(self) -> None:
        """It listens no more."""
        self._is_listening = False
        self._settle()

    def joined(self, stream: Stream) -> None:
        """A connection that was accepted before, and whose protocol was only now built."""
        if stream.connected and stream not in self._left:
            self._left[stream] = False
            self._core.loop.call_soon(self._tell, [stream])

    def lost(self, stream: Stream) -> None:
        """A connection has ended, and its protocol was told."""
        was_aborted = self._left.pop(stream, None)
        if was_aborted is None:
            return
        if was_aborted or (stream.ended is not None and stream.ended.by is EndedBy.SHUTDOWN):
            self._aborted += 1
        else:
            self._ended += 1
        self._settle()

    # ---- inside -------------------------------------------------------------------------------------------------

    def _tell(self, streams: list[Stream]) -> None:
        for each in streams:
            # Why asked: it may have ended, or been asked to, since.
            if each in self._left and each.connected and not each.disconnecting:
                each.tell_if_known("connectionDraining")

    def _watch_deadline(self) -> None:
        self._stop_timer()
        loop = self._core.loop
        self._timer = loop.call_later(max(self._deadline - loop.now(), 0.0), self._abort_rest)

    def _abort_rest(self) -> None:
        self._timer = None
        self._deadline = _FOR_EVER
        verdict = overstayed()
        for each in list(self._left):
            if each.state != StreamState.ABORTING:
                self._left[each] = True
                each.abort_for(verdict)

    def _settle(self) -> None:
        if self._left or self._is_listening:
            return
        if self._port.draining is self:
            self._port.draining = None
        self._stop_timer()
        result = Drained(self._ended, self._aborted)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._core.loop.call_user(each.callback, result)

    def _give_up(self, waiting: Any) -> None:
        """One who waited has cancelled. If it was the last, nobody is aborted any more."""
        self._waiting.remove(waiting)
        if not self._waiting:
            self._deadline = _FOR_EVER
            self._stop_timer()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


def check_deadline(deadline: object) -> None:
    """Raises: TypeError, ValueError unless it is None or a finite number of seconds, 0 or more."""
    if deadline is None:
        return
    if isinstance(deadline, bool) or not isinstance(deadline, (int, float)):
        raise TypeError(f"deadline must be a number of seconds, or None for none, not {deadline!r}")
    # Why the second: a whole number may be too large for a clock.
    if not 0 <= deadline < _FOR_EVER or deadline > _LONGEST:
        raise ValueError(f"deadline must be finite and 0 or more seconds, or None for none, not {deadline!r}")


def _together(core: Core, drains: list[Any]) -> Any:
    """One Deferred for several. Cancelling it cancels them."""
    left = len(drains)
    ended = aborted = 0

    def cancel(_: object) -> None:
        for each in drains:
            each.cancel()

    together = core.words.Deferred(cancel)

    def done(result: Any) -> None:
        nonlocal left, ended, aborted
        if not isinstance(result, Drained):
            return  # Safe because: it was cancelled with all others, which the one Deferred tells by itself.
        left -= 1
        ended += result.ended
        aborted += result.aborted
        if not left:
            together.callback(Drained(ended, aborted))

    for each in drains:
        each.addBoth(done)
    if not drains:
        together.callback(Drained(0, 0))
    return together
