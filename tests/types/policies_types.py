"""What a type checker must conclude about draining and policies; mypy reads this file, nothing runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ropewalk import Deferred, Drained, Reactor
from ropewalk.interfaces import IDrainableProtocol
from ropewalk.policies import Bucket, Budget, Idle, Limit, ProtocolWrapper, RateLimit, Shed, WrappingFactory

if TYPE_CHECKING:
    from typing import assert_type


async def drains(reactor: Reactor) -> None:
    assert_type(reactor.drain(5), Deferred[Drained])
    drained = await reactor.drain(None)
    assert_type(drained.ended, int)
    assert_type(drained.aborted, int)
    reactor.drain("5")  # type: ignore[arg-type]


class Polite:
    def connectionDraining(self) -> None: ...


def opts_in() -> IDrainableProtocol:
    return Polite()


class Counting(ProtocolWrapper):
    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)


class Count(WrappingFactory):
    protocol = Counting


def composes(factory: Any) -> None:
    layer = Limit(Idle(RateLimit(Shed(Count(factory), Budget(10)), Bucket(1e6), 5), 60), 100, perPeer=5)
    assert_type(layer.refused, int)
    assert_type(layer.protocols, dict[ProtocolWrapper, None])
    Limit(factory, "many")  # type: ignore[arg-type]
