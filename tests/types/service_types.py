"""What a type checker must conclude about services and pools; mypy reads this file, nothing runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ropewalk import Deferred
from ropewalk.pool import Pool
from ropewalk.service import ClientService, MultiService, Service, backoffPolicy

if TYPE_CHECKING:
    from typing import assert_type


async def stays(endpoint: Any, factory: Any) -> None:
    service = ClientService(endpoint, factory, backoffPolicy(0.5, 30, jitter=lambda: 0.0))
    ClientService(endpoint, factory, lambda failures: 2.0 * failures, prepareConnection=print)
    assert_type(service.whenConnected(failAfterFailures=3), Deferred[Any])
    assert_type(service.stopService(), Deferred[None])
    parent = MultiService()
    service.setServiceParent(parent)
    assert_type(parent.stopService(), Deferred[list[tuple[bool, Any]]])
    assert_type(service.running, bool)
    assert_type(Service().name, str | None)
    service.whenConnected("three")  # type: ignore[arg-type]


async def shares(endpoint: Any, factory: Any) -> None:
    async def healthy(protocol: Any) -> bool:
        return True

    pool = Pool(endpoint, factory, size=3, idle=None, health=healthy)
    assert_type(pool.acquire(), Deferred[Any])
    assert_type(pool.close(), Deferred[None])
    async with pool.connection() as protocol:
        pool.release(protocol)
    with pool.connection():  # type: ignore[attr-defined]
        pass
