"""`ropewalk proxy`: a TCP load balancer, until a signal ends it.

What it is made of are the pieces that any program may take: a Balancer over endpoints, HealthChecks, a Proxy. Here they are put
together, and said on stderr is what whoever runs it wants to know: where it listens, which target is down and why, which is up
again, and how the draining went.

SIGTERM and Ctrl-C drain: nothing is accepted any more, what is connected may come to its end, and what has not after so
many seconds is aborted. A second signal does so at once. Either way the exit status is 0: it was asked to end, and did.

Both sides' kernels are told to probe a peer that says nothing (keep-alive): a machine that has lost its power sends no end, and
its place in the limit would never become free. Who is alive and says nothing keeps his place, unless --idle tells otherwise.
"""

import resource
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from ropewalk import Drained, Reactor, TCPOptions
from ropewalk.address import display
from ropewalk.balancing import Balancer, Policy, Target, leastConnections, roundRobin
from ropewalk.cli.outcome import Outcome, say
from ropewalk.cli.place import Place
from ropewalk.cli.serve import numeric
from ropewalk.cli.show import trace_to_stderr
from ropewalk.cli.signals import told_by_signals
from ropewalk.endpoints import HostnameEndpoint
from ropewalk.error import CannotListenError
from ropewalk.health import HealthChecks
from ropewalk.policies import Idle
from ropewalk.proxying import Proxy

__all__ = ["POLICIES", "Settings", "check_service", "proxy"]

POLICIES: dict[str, Policy] = {"round-robin": roundRobin, "least": leastConnections}

# (idle s, interval s, probes): a dead peer is known after two minutes. Value: half of what nginx and HAProxy let a silent
# connection live by default is still long enough for any machine that is alive.
KEEP_ALIVE = (60, 10, 6)
# Descriptors that are not for clients and their targets: the reactor's, the checks', look-ups of names.
RESERVED = 64


@dataclass(frozen=True)
class Settings:
    """What the command was told, the places left aside. Seconds, all of them; see the command's help."""

    policy: Policy
    connect_timeout: float
    check: float | None
    limit: int | None
    idle: float | None
    drain: float
    trace: bool


def check_service(place: Place) -> None:
    """Raises: ValueError if the port is the name of no service."""
    if isinstance(place.port, str):
        try:
            socket.getservbyname(place.port, "tcp")
        except OSError:
            raise ValueError(f"{str(place)!r}: no TCP service is called {place.port!r}") from None


def proxy(place: Place, targets: Sequence[Place], settings: Settings) -> Outcome:
    """Listen, carry, and come back when it is over."""
    try:
        host, number = numeric(place)
    except OSError as exc:
        return Outcome(1, f"cannot listen on {place}: {exc.strerror}")
    reactor = Reactor()
    if settings.trace:
        trace_to_stderr(reactor)
    options = TCPOptions(keepAlive=KEEP_ALIVE)
    balancer = Balancer(
        [
            Target(
                HostnameEndpoint(
                    reactor, each.host, each.port, timeout=settings.connect_timeout, options=options
                ),
                str(each),
            )
            for each in targets
        ],
        settings.policy,
        changed=_tell_change,
    )
    proxied = Proxy(balancer, settings.limit or _affordable())
    clients = proxied if settings.idle is None else Idle(proxied, settings.idle)
    try:
        port = reactor.listenTCP(number, clients, interface=host, options=options)
    except CannotListenError as exc:
        return Outcome(1, str(exc))
    proxied.listens(port)
    if settings.check is not None:
        reactor.callWhenRunning(HealthChecks(balancer, settings.check).startService)
    with told_by_signals(reactor, _Ending(reactor, proxied, settings.drain)):
        say(f"listening on {display(port.getHost())}")
        reactor.run(installSignalHandlers=False)
    return Outcome(0)


def _tell_change(target: Target) -> None:
    say(f"{target.name} is up" if target.isUp else f"{target.name} is down: {target.reason}")


def _affordable() -> int | None:
    """How many clients the descriptors suffice for, two for each; None if they have no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else max(1, (soft - RESERVED) // 2)


class _Ending:
    """What signals do: the first begins to drain, the second ends it."""

    def __init__(self, reactor: Reactor, proxied: Proxy, seconds: float) -> None:
        self._reactor = reactor
        self._proxy = proxied
        self._seconds = seconds
        self._is_draining = False

    def __call__(self, signal: int) -> None:
        if self._is_draining:
            self._proxy.drain(0)
            return
        self._is_draining = True
        count = self._proxy.connections
        draining = self._proxy.drain(self._seconds)
        if count:
            say(
                f"draining {_connections(count)}, {self._seconds:g} s at most; a second signal ends it at once"
            )
        draining.addCallback(self._drained)

    def _drained(self, drained: Drained) -> None:
        if count := drained.ended + drained.aborted:
            say(f"drained: {drained.ended} of {count} ended by themselves")
        self._reactor.stop()


def _connections(count: int) -> str:
    return f"{count} connection{'' if count == 1 else 's'}"
