"""What a type checker must conclude about balancers, health checks and proxies; mypy reads this file, nothing runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ropewalk import Deferred, Drained
from ropewalk.balancing import Balancer, Target, leastConnections
from ropewalk.health import HealthChecks
from ropewalk.proxying import Proxy

if TYPE_CHECKING:
    from typing import assert_type


def balances(endpoint: Any, reactor: Any) -> None:
    def newest(targets: list[Target]) -> list[Target]:
        return targets[::-1]

    async def healthy(endpoint: Any) -> bool:
        return True

    balancer = Balancer([endpoint, Target(endpoint, "other")], newest, rest=1.0, changed=print)
    assert_type(balancer.connect(None), Deferred[Any])
    assert_type(balancer.order(), list[Target])
    Balancer([endpoint], leastConnections)
    Balancer([endpoint], "least")  # type: ignore[arg-type]
    checks = HealthChecks(balancer, 2, healthy)
    HealthChecks(balancer, 2, lambda endpoint: True)
    assert_type(checks.running, bool)
    proxy = Proxy(balancer, limit=100)
    proxy.listens(reactor.listenTCP(8080, proxy))
    assert_type(proxy.connections, int)
    assert_type(proxy.drain(None), Deferred[Drained])
