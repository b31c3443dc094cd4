"""What a type checker must conclude about factories and protocols; mypy reads this file, nothing runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ropewalk.protocol import ClientFactory, Factory, Protocol, ReconnectingClientFactory, ServerFactory

if TYPE_CHECKING:
    from typing import assert_type

    from ropewalk.failure import Failure
    from ropewalk.interfaces import IAddress, IConnector, ITransport


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert_type(self.transport, ITransport)
        self.transport.write(data)

    def connectionLost(self, reason: Failure) -> None:
        assert_type(reason.value, BaseException)


class Plain(ClientFactory):
    protocol = Echo


class Typed(ClientFactory[Echo]):
    def __init__(self, name: str, *, size: int = 0) -> None:
        self.name = name

    def buildProtocol(self, addr: IAddress | None) -> Echo | None:
        return super().buildProtocol(addr)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        connector.connect()


class Chat(Protocol):
    factory: ChatFactory

    def connectionMade(self) -> None:
        assert_type(self.factory.everybody, list[Chat])


class ChatFactory(ServerFactory[Chat]):
    protocol = Chat

    def __init__(self) -> None:
        self.everybody: list[Chat] = []


def factories(address: IAddress) -> None:
    assert_type(Factory.forProtocol(Echo), Factory[Echo])
    assert_type(ServerFactory.forProtocol(Echo), ServerFactory[Echo])
    assert_type(ClientFactory.forProtocol(Echo), ClientFactory[Echo])
    assert_type(ReconnectingClientFactory.forProtocol(Echo), ReconnectingClientFactory[Echo])
    assert_type(Factory.forProtocol(lambda: Echo()), Factory[Echo])
    assert_type(Typed.forProtocol(Echo, "name", size=3), ClientFactory[Echo])
    assert_type(Factory.forProtocol(Echo).buildProtocol(address), Echo | None)
    assert_type(Typed("name").buildProtocol(address), Echo | None)
    assert_type(Plain().buildProtocol(address), Protocol | None)


def mistakes() -> None:
    Factory.forProtocol(int)  # type: ignore[type-var]
    Typed.forProtocol(Echo, 1)  # type: ignore[arg-type]
    Typed.forProtocol(Echo, "name", weight=1)  # type: ignore[call-arg]
    ReconnectingClientFactory.forProtocol(Echo).maxDelay = "long"  # type: ignore[assignment]
