"""Host and service names to addresses, off the loop's thread.

Literal addresses never come here. A name is looked up by a resolver object with
Twisted's `resolveHostName`; the default one, `Resolver`, hands each look-up to the system (the C library, in a thread),
and decides what the system does not: how many run at once, and which wait.

Two bounds. `_FRESH_MOST` look-ups may be running that have not yet been found slow; one that takes longer than
`_SLOW_AFTER` seconds no longer counts. So names whose server is dead (FAULTS E1) delay another one by that time for each
sixteen of them, and not by their own. `_RUNNING_MOST` bounds them all, since each slow one holds a thread until the C
library gives up, and there is no way to stop it. Behind so many stuck ones every other name waits for as long as that
takes: 10 s and more (resolv.conf(5): timeout, attempts, servers). Nothing but more threads would help.
A look-up that was cancelled is forgotten: it leaves the queue; if it runs, its thread stays taken, and its answer is dropped.

A time-out counts from when the look-up has its thread. A connector's deadline counts from when it was asked to connect,
and so waiting for a thread as well.

Rejected: sharing the pool of `callInThread`. User jobs would starve names and names user jobs.
Sources: getaddrinfo(3); RFC 6724 for the order, which the C library applies; RFC 4007 for scopes.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from ropewalk._loop.loop import Loop
from ropewalk._loop.timers import DelayedCall
from ropewalk._system import AddressRow, System
from ropewalk.error import ServiceNameUnknownError

# An address family and what `connect` takes.
Candidate = tuple[int, tuple[Any, ...]]
# Look-ups not found slow that may run at once. Value: above the pool of 10 that Twisted shares with user code.
_FRESH_MOST = 16
# Seconds until a look-up counts as slow. Value: a healthy recursive answer takes tens of milliseconds. Too long makes
# others wait behind stuck ones; too short only costs more threads while many names are looked up at once.
_SLOW_AFTER = 0.1
# All look-ups that may run at once, and so the most threads they hold.
_RUNNING_MOST = 256


def checked_host(host: object) -> str:
    """Raises: TypeError, ValueError naming the value: a host is a str without NUL, or ASCII bytes."""
    if isinstance(host, bytes):
        host = host.decode("ascii")
    if not isinstance(host, str):
        raise TypeError(f"host must be a str, not {type(host).__name__}: {host!r}")
    if "\0" in host:
        raise ValueError(f"a host name holds no NUL: {host!r}")
    return host


def port_number(port: object, protocol: str, system: System) -> int:
    """The number of a port, or of a service by name.

    Raises: ServiceNameUnknownError; ValueError outside 0 to 65535; TypeError for anything but int and str.
    """
    if isinstance(port, str):
        try:
            port = system.service_port(port, protocol)
        except OSError as exc:
            raise ServiceNameUnknownError(string=f"{port!r} ({exc})") from exc
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"port must be a number or a service name, not {type(port).__name__}: {port!r}")
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be 0 to 65535, not {port}")
    return port


class LookUp:
    """One question under way, for whoever asked."""

    __slots__ = ("_done", "_limit", "_resolver", "_slow_timer", "_timeout", "host", "is_fresh", "port")

    def __init__(
        self, resolver: Resolver, host: str, port: int, done: Callable[[Any], None], timeout: float | None
    ) -> None:
        self._resolver = resolver
        self.host = host
        self.port = port
        self._done: Callable[[Any], None] | None = done
        self._timeout = timeout
        self._slow_timer: DelayedCall | None = None
        self._limit: DelayedCall | None = None
        self.is_fresh = False

    def cancel(self) -> None:
        """The answer is not wanted any more. One that runs counts as slow from now on: nobody waits for it."""
        self._done = None
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        if self._slow_timer is not None and self._slow_timer.active():
            self._slow_timer.cancel()
            self._found_slow()
        self._resolver.forget(self)

    def drop(self) -> None:
        """Forget who asked: nothing will be told."""
        self._done = None

    def run(self, loop: Loop, system: System) -> None:
        self.is_fresh = True
        self._slow_timer = loop.call_later(_SLOW_AFTER, self._found_slow)
        if self._timeout is not None:
            # Why not when it was asked for: the time that others kept it waiting says nothing about its name.
            self._limit = loop.call_later(self._timeout, self._out_of_time)

        def answered(result: list[AddressRow] | BaseException) -> None:
            loop.call_from_thread(self._answered, (result,), None)

        try:
            system.look_up(self.host, self.port, socket.AF_UNSPEC, socket.SOCK_STREAM, answered)
        except Exception as exc:
            # Why: no thread could be started, or the like; that is an answer too.
            loop.call_soon(self._answered, exc)

    def _out_of_time(self) -> None:
        done = self._done
        self.cancel()
        if done is not None:
            done(TimeoutError("no answer in time"))

    def _found_slow(self) -> None:
        self.is_fresh = False
        self._resolver.no_longer_fresh()

    def _answered(self, result: list[AddressRow] | BaseException) -> None:
        if self._slow_timer is not None and self._slow_timer.active():
            self._slow_timer.cancel()
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        self._resolver.finished(self)
        done, self._done = self._done, None
        if done is not None:
            done(result)


class Resolver:
    """Runs look-ups on the system, a bounded number at once."""

    __slots__ = ("_fresh", "_loop", "_running", "_system", "_waiting")

    def __init__(self, loop: Loop, system: System) -> None:
        self._loop = loop
        self._system = system
        self._waiting: deque[LookUp] = deque()
        self._running: set[LookUp] = set()
        self._fresh = 0
        loop.on_fork.append(self._disown)

    def _disown(self) -> None:
        """In a forked child: no thread is there that would answer."""
        for each in (*self._waiting, *self._running):
            each.drop()
        self._waiting.clear()
        self._running.clear()

    def ask(self, host: str, port: int, done: Callable[[Any], None], timeout: float | None = None) -> LookUp:
        """Look a name up; `done` gets rows of getaddrinfo or an exception, on the loop, never from within this call.

        Args: timeout: seconds that the look-up may take, from when it has a thread; None for as long as it takes.
        """
        self._loop.check_thread_of("resolveHostName")
        look_up = LookUp(self, host, port, done, timeout)
        self._waiting.append(look_up)
        self._start_some()
        return look_up

    def forget(self, look_up: LookUp) -> None:
        # Why only those that wait: one that runs keeps its place until its thread is free again.
        if look_up in self._waiting:
            self._waiting.remove(look_up)

    def finished(self, look_up: LookUp) -> None:
        self._running.discard(look_up)
        if look_up.is_fresh:
            look_up.is_fresh = False
            self._fresh -= 1
        self._start_some()

    def no_longer_fresh(self) -> None:
        self._fresh -= 1
        self._start_some()

    def _start_some(self) -> None:
        while self._waiting and self._fresh < _FRESH_MOST and len(self._running) < _RUNNING_MOST:
            look_up = self._waiting.popleft()
            self._running.add(look_up)
            self._fresh += 1
            look_up.run(self._loop, self._system)


def candidates(rows: list[AddressRow]) -> list[Candidate]:
    """What to try, in the order of RFC 8305 section 4: as the resolver sorted them, the families taking turns."""
    seen: dict[Candidate, None] = {}
    for family, _, _, _, sockaddr in rows:
        if family in (socket.AF_INET, socket.AF_INET6):
            seen[family, tuple(sockaddr)] = None
    if not seen:
        return []
    first = next(iter(seen))[0]
    ours = [each for each in seen if each[0] == first]
    others = [each for each in seen if each[0] != first]
    merged: list[Candidate] = []
    while ours or others:
        for queue in (ours, others):
            if queue:
                merged.append(queue.pop(0))
    return merged
