"""The contract of a transport as a suite: `checkTransport(makePair)` plays every claim over your own.

For whoever writes a transport (TLS, UNIX sockets, memory, PROXY, a tunnel) and for Ropewalk itself. A maker of pairs is
all that the suite is given: it hands over two protocols, and gets two connected transports and a way to let the world go
on. So it runs over real sockets, simulated ones, or no sockets at all, and needs no test framework.

    checkTransport(makePair)                                     one call: an AssertionError that lists what did not hold
    @pytest.mark.parametrize(("name", "claim"), transportClaims())    or a test for each claim: `claim(makePair)`

What a transport cannot do is said once, by a keyword: `checkTransport(makePair, halfClose=False)`. The claims that need
it are then left out, and the report, or a skipped test, says so.

It must never know a transport, or what the claims are about: they are in `transport_claims`, by topic.
Rejected: a class of tests to inherit from. It would bind its users to one framework, and to a second base class.
Source: the idea of one suite for every implementation is old; CONTRACT and FAULTS are what this one holds to.
"""

from __future__ import annotations

import typing
import unittest
from collections.abc import Callable
from typing import Any, NamedTuple

from ropewalk.interfaces import ITransport
from ropewalk.testing.transport_claims import carrying, closing, flow, halves, telling
from ropewalk.testing.transport_claims.claim import Claim
from ropewalk.testing.transport_stage import NotHeld

CLAIMS: tuple[Claim, ...] = (
    *telling.CLAIMS,
    *carrying.CLAIMS,
    *closing.CLAIMS,
    *halves.CLAIMS,
    *flow.CLAIMS,
)

# Bytes. Value: more than the buffers of a kernel hold for one connection at first (tcp_wmem's default is 16 KiB, and a
# loopback connection takes 2.5 MB at most), and little enough to be carried some dozen times in seconds.
BULK = 3_000_000


class TransportPair(typing.Protocol):
    """Two connected transports, and the world that they live in. You write this; the suite uses it for one claim."""

    @property
    def left(self) -> ITransport | None:
        """The transport that the left protocol was given; None if it never was connected, see TransportPairMaker."""

    @property
    def right(self) -> ITransport | None:
        """The transport that the right protocol was given, or None."""

    def runUntil(self, condition: Callable[[], bool]) -> object:
        """Let the world go on, step by step, until `condition()` is true.

        Ask it before the first step and after every step. A step is one turn of the loop, or what comes nearest; if
        nothing is ready it waits some milliseconds, never more than 50 (of your transport's own time).

        Returns: as soon as `condition()` is true. If it is not true after a time that is long for your transport, or
                 if nothing can happen any more: return False, or raise any Exception. Both mean "it never became so";
                 the suite asks `condition` once more, and goes by that.
        """

    def close(self) -> None:
        """End the world: connections that are still there are ended and their protocols told, everything is given back.

        It is called once, also when both connections have ended before.
        """


class TransportPairMaker(typing.Protocol):
    """Makes a connected pair."""

    def __call__(self, left: Any, right: Any, /) -> TransportPair:
        """Connect two protocols by your transport.

        Args:    left, right: made by the suite: `makeConnection`, `dataReceived`, `connectionLost`, and in some claims
                    `readConnectionLost` and `writeConnectionLost`. Who connects and who accepts does not matter, every
                    claim is played both ways round.
        Returns: the pair, once `makeConnection` was called on both. What they do in connectionMade is already under
                 way then; either may even have been lost again. And where one aborts in connectionMade before the other
                 has noticed that it is connected, the other need never be told: return once that is certain.
        """


class Abilities(typing.TypedDict, total=False):
    """What a transport can do, a keyword each; True unless said otherwise."""

    # loseWriteConnection, readConnectionLost, writeConnectionLost.
    halfClose: bool
    # A peer can tell an abort from a clean end, and is told ConnectionLost.
    resets: bool
    # It is told so also while it is paused, or half-closed.
    resetsWhilePaused: bool
    # registerProducer, unregisterProducer.
    producers: bool
    # setWriteLimits.
    writeLimits: bool
    # What a peer that reads nothing does not take waits, and is felt by the writer.
    backPressure: bool
    # bytesSent, bytesReceived, bytesBuffered.
    counters: bool
    # getHost and getPeer of both ends match.
    addresses: bool
    # transport.ended, and .ended of the reason.
    endings: bool
    # closeTimeout.
    closeDeadline: bool
    # Freed by reference counting alone.
    freed: bool


class TransportReport(NamedTuple):
    """What checkTransport has found, when all of it was good.

    Args:   held: the claims that held.
            leftOut: (claim, ability it needs) for those that were not played.
    """

    held: tuple[str, ...]
    leftOut: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return "\n".join([f"{len(self.held)} claims held", *_left_out_lines(self.leftOut)])


def checkTransport(
    makePair: TransportPairMaker, *, bulk: int = BULK, **can: typing.Unpack[Abilities]
) -> TransportReport:
    """Play every claim over fresh pairs.

    Args:    makePair: connects two protocols, see TransportPairMaker.
             bulk: bytes that are much for this transport; claims about volume carry so many.
             can: what it can do, see Abilities: `halfClose=False`.
    Returns: which claims held, and which were left out and why.
    Raises:  AssertionError listing each claim that did not hold, with what was seen; TypeError for an ability that
             does not exist.
    """
    chosen, left_out = _choose(can)
    broken: list[tuple[str, str]] = []
    held: list[str] = []
    for each in chosen:
        try:
            each.check(makePair, bulk)
        except NotHeld as exc:
            broken.append((each.name, str(exc)))
        else:
            held.append(each.name)
    if broken:
        lines = [f"{len(broken)} of {len(chosen)} claims about a transport did not hold:"]
        for name, seen in broken:
            lines += [f"* {name}", *(f"    {line}" for line in seen.splitlines())]
        raise AssertionError("\n".join([*lines, *_left_out_lines(left_out)]))
    return TransportReport(tuple(held), left_out)


def transportClaims(
    *, bulk: int = BULK, **can: typing.Unpack[Abilities]
) -> list[tuple[str, Callable[[TransportPairMaker], None]]]:
    """The claims one by one, for a test framework's own table of tests.

    Args:    bulk, can: as checkTransport.
    Returns: (name, claim) each, as `pytest.mark.parametrize` takes them. `claim(makePair)` raises AssertionError with what was seen if it does not
             hold; one that is left out raises unittest.SkipTest, which pytest knows too, and says which ability it needs.
    Raises:  TypeError for an ability that does not exist.
    """
    _choose(can)
    return [(each.name, _Playable(each, bulk, _missing(each, can))) for each in CLAIMS]


class _Playable:
    """One claim as transportClaims gives it."""

    __slots__ = ("_bulk", "_claim", "_missing")

    def __init__(self, claim: Claim, bulk: int, missing: str | None) -> None:
        self._claim = claim
        self._bulk = bulk
        self._missing = missing

    def __call__(self, makePair: TransportPairMaker) -> None:
        if self._missing is not None:
            raise unittest.SkipTest(f"left out: the transport has no {self._missing}")
        self._claim.check(makePair, self._bulk)

    def __repr__(self) -> str:
        return f"<claim: {self._claim.name}>"


def _choose(can: Abilities) -> tuple[list[Claim], tuple[tuple[str, str], ...]]:
    """The claims to play, and (claim, ability) for those left out."""
    unknown = sorted(set(can) - set(Abilities.__annotations__))
    if unknown:
        known = ", ".join(Abilities.__annotations__)
        raise TypeError(f"no ability {', '.join(unknown)}; there are: {known}")
    chosen, left_out = [], []
    for each in CLAIMS:
        missing = _missing(each, can)
        if missing is None:
            chosen.append(each)
        else:
            left_out.append((each.name, missing))
    return chosen, tuple(left_out)


def _missing(claim: Claim, can: Abilities) -> str | None:
    return next((need for need in claim.needs if not can.get(need, True)), None)


def _left_out_lines(left_out: tuple[tuple[str, str], ...]) -> list[str]:
    if not left_out:
        return []
    rows = [f"* {name} (needs {ability})" for name, ability in left_out]
    return [f"{len(left_out)} claims were left out:", *rows]
