"""Faults on order: which call of the simulated kernel fails, how, and how often.

Every call of a host's kernel that may fail passes `Faults.enter` with its name. So calls are counted, and a plan can say
"the third send fails with ENOBUFS", "every send takes one byte", "accept fails with EMFILE until I say otherwise", "one
call in a hundred fails, drawn from the seed". Counting first and then failing the n-th, for every n, is how a scenario is
tortured.

It must never know what a call does: it only says what error to raise or how many bytes to let through. What a fault means
for the kernel's books (a connection that is aborted in the accept queue) is decided where the call lives.

Sources: the ERRORS sections of the Linux man pages named beside each call; FAULTS A2, A3 for accept.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from typing import Any

from ropewalk.simulation.world import World

_MEMORY = (errno.ENOMEM, errno.ENOBUFS)
_GONE = (errno.ECONNRESET, errno.ETIMEDOUT)

FALLIBLE: dict[str, tuple[int, ...]] = {
    # socket(2), socketpair(2)
    "socket": (errno.EMFILE, errno.ENFILE, *_MEMORY),
    "socket_pair": (errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    # bind(2), listen(2)
    "bind": (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, errno.ENOMEM),
    "listen": (errno.EADDRINUSE, errno.ENOBUFS),
    # connect(2), and what the routing table and the firewall answer at once
    "connect": (
        errno.EADDRNOTAVAIL,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ECONNREFUSED,
        errno.EACCES,
        errno.EPERM,
        errno.EINTR,
        *_MEMORY,
    ),
    # accept(2): also pending network errors of the new connection (FAULTS A3)
    "accept": (
        errno.EAGAIN,
        errno.ECONNABORTED,
        errno.EMFILE,
        errno.ENFILE,
        errno.EPERM,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        *_MEMORY,
    ),
    # recv(2), send(2), sendmsg(2). Why no EINTR here and above: Python makes the call again by itself (PEP 475); only
    # a non-blocking connect hands it on, and goes on connecting.
    "recv": (errno.EAGAIN, errno.ECONNRESET, errno.ETIMEDOUT, errno.ENOMEM),
    "send": (errno.EAGAIN, errno.EPIPE, *_GONE, *_MEMORY),
    "sendmsg": (errno.EAGAIN, errno.EPIPE, *_GONE, *_MEMORY),
    # shutdown(2), getsockname(2), getpeername(2), getsockopt(2), setsockopt(2)
    "shutdown": (errno.ENOTCONN, errno.ENOBUFS),
    "getsockname": (errno.ENOBUFS,),
    "getpeername": (errno.ENOTCONN, errno.ENOBUFS),
    "getsockopt": (errno.ENOBUFS,),
    "setsockopt": (errno.EINVAL, *_MEMORY),
    # epoll_create1(2), epoll_ctl(2). epoll_wait fails only with EINTR, which Python waits out.
    "poller": (errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    "register": (errno.ENOSPC, errno.ENOMEM),
    "modify": (errno.ENOMEM,),
    # open(2) of /dev/null; getservbyname(3)
    "open_reserve": (errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}
"""Every call that may fail, and the errors it may give."""

Which = Callable[[Any], bool]


class Faults:
    """The faults of one host's kernel, and how often each call was made."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._failing: dict[str, list[_Failure]] = {}
        self._short: dict[str, _Shortage] = {}
        self.counts: dict[str, int] = dict.fromkeys(FALLIBLE, 0)
        self.given: dict[tuple[str, int], int] = {}

    # ---- orders -----------------------------------------------------------------------------------------------

    def fail(
        self, call: str, error: int, nth: int = 1, times: int | None = 1, which: Which | None = None
    ) -> Callable[[], None]:
        """Let a call fail.

        Args:   call: one of `FALLIBLE`.
                error: an errno; EAGAIN raises BlockingIOError, as from the kernel.
                nth: which call from now on is the first to fail, from 1.
                times: how many in a row; None until `clear`.
                which: only calls on a socket for which this gives True; others are not counted.
        Returns: a callable that takes the order back.
        Raises: ValueError for an unknown call or count.
        """
        if nth < 1 or (times is not None and times < 1):
            raise ValueError(f"nth and times count from 1, not nth={nth!r}, times={times!r}")
        return self._order(call, _Failure(error, nth, times, which))

    def failSometimes(
        self, call: str, errors: Iterable[int] | None = None, chance: float = 0.01
    ) -> Callable[[], None]:
        """Let a call fail now and then, drawn from the world's seed.

        Args:   errors: one of these each time; None for all that the call may give.
                chance: from 0 to 1, per call.
        Returns: a callable that takes the order back.
        """
        choices = tuple(FALLIBLE[_known(call)] if errors is None else errors)
        return self._order(call, _Failure(choices[0], 1, None, None, chance, choices))

    def _order(self, call: str, failure: _Failure) -> Callable[[], None]:
        self._failing.setdefault(_known(call), []).append(failure)

        def take_back() -> None:
            orders = self._failing.get(call, [])
            if failure in orders:
                orders.remove(failure)

        return take_back

    def isShort(self, call: str) -> bool:
        """Whether there is an order of `short` for this call."""
        return call in self._short

    def short(self, call: str, most: int, times: int | None = None) -> Callable[[], None]:
        """Let `send` or `sendmsg` take, or `recv` give, at most so many bytes.

        Args:    times: for how many calls; None until `clear`.
        Returns: a callable that takes the order back.
        """
        if call not in ("send", "sendmsg", "recv") or most < 1:
            raise ValueError(
                f"send, sendmsg and recv can be short, by 1 byte or more, not {call!r} by {most!r}"
            )
        shortage = self._short[call] = _Shortage(most, times)

        def take_back() -> None:
            if self._short.get(call) is shortage:
                del self._short[call]

        return take_back

    def clear(self, call: str | None = None) -> None:
        """Take all orders back, or those for one call; the counts stay."""
        for orders in (self._failing, self._short):
            if call is None:
                orders.clear()
            else:
                orders.pop(call, None)

    # ---- what the kernel asks ---------------------------------------------------------------------------------

    def enter(self, call: str, sock: Any = None) -> None:
        """A call is made.

        Raises: OSError if it was ordered to fail.
        """
        # hot: every system call passes here.
        self.counts[call] += 1
        if self._failing:
            failures = self._failing.get(call)
            if failures:
                self._consult(call, failures, sock)

    def allowance(self, call: str, wanted: int) -> int:
        """How many of the bytes wanted may go through."""
        short = self._short.get(call)
        if short is None:
            return wanted
        if short.times is not None:
            short.times -= 1
            if short.times < 1:
                del self._short[call]
        return min(wanted, short.most)

    def _consult(self, call: str, failures: list[_Failure], sock: Any) -> None:
        for failure in failures:
            error = failure.strike(sock, self._world)
            if error:
                if failure.times is not None and failure.times < 1:
                    failures.remove(failure)
                self.given[call, error] = self.given.get((call, error), 0) + 1
                raise kernel_error(error)


class _Failure:
    """One order to fail."""

    __slots__ = ("_chance", "_choices", "_error", "_until", "_which", "times")

    def __init__(
        self,
        error: int,
        nth: int,
        times: int | None,
        which: Which | None,
        chance: float = 1.0,
        choices: tuple[int, ...] = (),
    ) -> None:
        self._error = error
        self._until = nth
        self.times = times
        self._which = which
        self._chance = chance
        self._choices = choices

    def strike(self, sock: Any, world: World) -> int:
        """The error that this call gets, or 0."""
        if self._which is not None and (sock is None or not self._which(sock)):
            return 0
        self._until -= 1
        if self._until > 0:
            return 0
        if self._choices:
            return world.random.choice(self._choices) if world.random.random() < self._chance else 0
        if self.times is not None:
            self.times -= 1
        return self._error


class _Shortage:
    """One order to let few bytes through."""

    __slots__ = ("most", "times")

    def __init__(self, most: int, times: int | None) -> None:
        self.most = most
        self.times = times


def kernel_error(number: int) -> OSError:
    """The OSError, of the right class, that Python makes of an errno."""
    return OSError(number, os.strerror(number))


def _known(call: str) -> str:
    if call not in FALLIBLE:
        raise ValueError(f"no call {call!r} that may fail; there are: {', '.join(FALLIBLE)}")
    return call
