"""A balancer: one endpoint made of many, of which each connection takes one that answers.

    balancer = Balancer([clientFromString(reactor, "tcp:10.0.0.1:80:timeout=5"), clientFromString(reactor, "tcp:10.0.0.2:80:timeout=5")])
    protocol = await balancer.connect(factory)

It is a client endpoint like those it is made of, so whatever takes an endpoint (ClientService, Pool, `ropewalk.open`, a Proxy)
can be given one. A connect that fails goes on to the next target, until one answers or each has been tried once.

A target whose connect failed is down for some seconds: others come first. Down is a rank, not a ban. Why: if nothing that is up
answers, a target that may answer is better than none; and a mark that is wrong, or old, costs one connect at most. When the
seconds are over, one connection tries it, and takes the mark away or renews it. HealthChecks (health.py) gives marks by itself.

How many connections a target has is known by the factory that its endpoint is given: the engine counts its use, from the asking
to the loss (`doStart`, `doStop`). So a protocol has nothing between it and its transport.

It must never know what is spoken on a connection, nor what kind of endpoint a target is.
Rejected: a queue for connections while all are down; whoever asks knows better whether to wait.
Source: nginx, `max_fails` and `fail_timeout`; HAProxy, `balance`, `option redispatch`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ropewalk.attempt import clockOf
from ropewalk.defer import Deferred
from ropewalk.error import ConnectBindError, ConnectError

__all__ = ["Balancer", "NoTargetError", "Target", "leastConnections", "roundRobin"]

# Seconds. Source: nginx's fail_timeout.
REST = 10.0

_log = logging.getLogger("ropewalk")


class NoTargetError(ConnectError):
    """No target of a balancer could be connected to.

    Args:   reasons: what each connect failed with, in the order in which they were tried.
            tried: names of the targets, in the same order.
    """

    MESSAGE = "no target answers"

    def __init__(self, tried: Sequence[str], reasons: Sequence[BaseException]) -> None:
        super().__init__(string="; ".join(f"{name}: {exc}" for name, exc in zip(tried, reasons, strict=True)))
        self.reasons = tuple(reasons)


class Target:
    """One place that connections may go to, and what is known of it.

    Args:   endpoint: connects to it. Its time-out is how long a connection waits before another target is tried.
            name: how it is called in messages; None for the endpoint's repr.
    """

    def __init__(self, endpoint: Any, name: str | None = None) -> None:
        self.endpoint = endpoint
        self.name = repr(endpoint) if name is None else name
        # Connections that it has, those on their way included.
        self.connections = 0
        self.isUp = True
        # While it is down: why, and when (by the clock) one connection may try it in spite of that.
        self.reason: BaseException | None = None
        self.restsUntil = 0.0

    def connect(self, protocolFactory: Any, /) -> Deferred[Any]:
        """Connect to it, and count the connection until it is lost. Returns, Fails: as its endpoint."""
        connected: Deferred[Any] = self.endpoint.connect(_Counted(self, protocolFactory))
        return connected

    def __repr__(self) -> str:
        state = "up" if self.isUp else "down"
        return f"<Target {self.name} {state}, {self.connections} connections>"


class _Counted:
    """The user's factory, as a target's endpoint knows it: while that uses it, there is a connection more."""

    __slots__ = ("_factory", "_target")

    def __init__(self, target: Target, factory: Any) -> None:
        self._target = target
        self._factory = factory

    def doStart(self) -> None:
        self._factory.doStart()
        self._target.connections += 1

    def doStop(self) -> None:
        self._target.connections -= 1
        self._factory.doStop()

    def buildProtocol(self, addr: Any) -> Any:
        return self._factory.buildProtocol(addr)

    def __repr__(self) -> str:
        return repr(self._factory)


# How a connection chooses: given the targets that are up, in turn, it says which to try first, second and so on.
Policy = Callable[[list[Target]], Iterable[Target]]


def roundRobin(targets: list[Target]) -> list[Target]:
    """Each in turn."""
    return targets


def leastConnections(targets: list[Target]) -> list[Target]:
    """Who has the fewest connections first; of equal ones each in turn."""
    return sorted(targets, key=lambda target: target.connections)


class Balancer:
    """An endpoint that spreads its connections over targets.

    Args:   targets: Target objects, or endpoints of which targets are made.
            policy: `roundRobin`, `leastConnections`, or a function of your own like these.
            rest: seconds for which a target is down after a connect to it has failed.
            clock: has `seconds`; None for the first endpoint's reactor.
            changed: called with a target that has gone down or come up. What it raises is logged.
    Raises: ValueError for no targets at all, and for a rest that is not above 0; TypeError for what is of another kind.
    """

    def __init__(
        self,
        targets: Iterable[Any],
        policy: Policy = roundRobin,
        rest: float = REST,
        clock: Any = None,
        changed: Callable[[Target], object] | None = None,
    ) -> None:
        # Why strings: each letter would be a target.
        if isinstance(targets, (str, bytes)) or not isinstance(targets, Iterable):
            raise TypeError(f"targets must be a list of endpoints or Target objects, not {targets!r}")
        targets = list(targets)
        for each in targets:
            if not isinstance(each, Target) and not callable(getattr(each, "connect", None)):
                raise TypeError(
                    f"a target must be a Target or an endpoint, which has connect(), not {each!r}"
                )
        if not callable(policy):
            raise TypeError(f"policy must be a function that puts targets in order, not {policy!r}")
        if isinstance(rest, bool) or not isinstance(rest, (int, float)):
            raise TypeError(f"rest must be a number of seconds above 0, not {rest!r}")
        if changed is not None and not callable(changed):
            raise TypeError(f"changed must be a function of a target, or None for none, not {changed!r}")
        self.targets = [each if isinstance(each, Target) else Target(each) for each in targets]
        if not self.targets:
            raise ValueError("a balancer needs one target at least")
        if not 0 < rest < float("inf"):
            raise ValueError(f"rest must be a number of seconds above 0, not {rest!r}")
        self.reactor = clockOf(self.targets[0].endpoint) if clock is None else clock
        self._policy = policy
        self._rest = rest
        self._changed = changed
        self._turn = 0

    def connect(self, protocolFactory: Any, /) -> Deferred[Any]:
        """Connect to a target: to the one whose turn it is, or if that fails to the next, each once.

        Returns: a Deferred of the protocol. Cancelling it gives everything back.
        Fails:   NoTargetError, which has the reason of each; at once with what is not the target's fault (NoProtocol, what
                 buildProtocol raised, a reactor that stops).
        Order:   as of the endpoints; the factory is in use from the first try to the loss.
        Source:  IStreamClientEndpoint.connect.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        tried: list[str] = []
        reasons: list[BaseException] = []
        for target in self.order():
            try:
                protocol = await target.connect(factory)
            except ConnectError as exc:
                # Why: it fails all that connects, and not because of this target.
                if not getattr(self.reactor, "running", True):
                    raise
                # Why without the traceback: that has this frame, which has the list.
                reasons.append(exc.with_traceback(None))
                tried.append(target.name)
                # Why asked: that one is about this machine, out of descriptors perhaps, and says nothing of the target.
                if not isinstance(exc, ConnectBindError):
                    self.failed(target, exc)
            else:
                self.answered(target)
                return protocol
        raise NoTargetError(tried, reasons)

    def order(self) -> list[Target]:
        """All targets, in the order in which the connection whose turn it is tries them. Each call is a turn."""
        now = self.reactor.seconds()
        up = [target for target in self.targets if target.isUp]
        # Who has rested longest is the first of those that are down.
        down = sorted(
            (target for target in self.targets if not target.isUp), key=lambda target: target.restsUntil
        )
        rested = down[:1] if down and down[0].restsUntil <= now else []
        for target in rested:
            # Why now: until it is known how this one fares, others need not try as well.
            target.restsUntil = now + self._rest
        if up:
            start = self._turn % len(up)
            up = list(self._policy(up[start:] + up[:start]))
        self._turn += 1
        return [*rested, *up, *down[len(rested) :]]

    def answered(self, target: Target) -> None:
        """It could be connected to: it is up."""
        if not target.isUp:
            target.isUp = True
            target.reason = None
            self._tell(target, "%s is up")

    def failed(self, target: Target, reason: BaseException, seconds: float = 0.0) -> None:
        """It could not be connected to: it is down.

        Args: reason: why. seconds: for how long at least, if longer than `rest`.
        """
        until = self.reactor.seconds() + max(self._rest, seconds)
        target.restsUntil = until if target.isUp else max(target.restsUntil, until)
        target.reason = reason
        if target.isUp:
            target.isUp = False
            self._tell(target, "%s is down: %s", reason)

    def _tell(self, target: Target, message: str, *args: object) -> None:
        _log.info(message, target.name, *args)
        if self._changed is None:
            return
        try:
            self._changed(target)
        except Exception:
            # Why it goes no further: it would stop the search, or take a connection that is made from whoever asked for it.
            _log.exception("changed() failed, told of %r", target)

    def __repr__(self) -> str:
        return f"<Balancer {', '.join(repr(target)[8:-1] for target in self.targets)}>"
