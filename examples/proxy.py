"""A TCP proxy: what comes in on one side goes out on the other, as fast as the slower side reads, no faster.

    python examples/proxy.py 8008 localhost 8007

* Each transport is registered as the producer of the other: a side whose peer does not read fills its buffer and
  then pauses the side that fills it. So no client can make the proxy hold more than a buffer.
* Each direction ends by itself: a peer's end is handed on as an end, and only when both have ended is it over.
"""

import sys

from ropewalk import ClientFactory, Factory, Protocol, reactor
from ropewalk.address import display
from ropewalk.error import ConnectionDone


class Side(Protocol):
    """One of the two connections; `other` is the other one's Side, as soon as there is one."""

    other = None

    def dataReceived(self, data):
        self.other.transport.write(data)

    def readConnectionLost(self):
        self.other.transport.unregisterProducer()  # nothing more will come from here
        self.other.transport.loseWriteConnection()

    def writeConnectionLost(self):
        pass

    def connectionLost(self, reason):
        if self.other is not None:
            self.other.transport.unregisterProducer()
            clean = reason.check(ConnectionDone)
            self.other.transport.loseConnection() if clean else self.other.transport.abortConnection()


class FromClient(Side):
    def connectionMade(self):
        self.transport.pauseProducing()  # until there is somewhere to write to
        self.connector = reactor.connectTCP(*self.factory.target, Target(self))

    def connectionLost(self, reason):
        super().connectionLost(reason)
        if self.other is None:
            self.connector.disconnect()


class ToTarget(Side):
    def connectionMade(self):
        client = self.factory.client
        client.other, self.other = self, client
        client.transport.registerProducer(self.transport, True)
        self.transport.registerProducer(client.transport, True)
        client.transport.resumeProducing()


class Target(ClientFactory):
    """Asks for the second connection of one client, or sends the client away."""

    protocol, noisy = ToTarget, False

    def __init__(self, client):
        self.client = client

    def clientConnectionFailed(self, connector, reason):
        print("no target:", reason.getErrorMessage(), flush=True)
        self.client.transport.abortConnection()


class Proxy(Factory):
    protocol = FromClient
    target = sys.argv[2], int(sys.argv[3])


door = reactor.listenTCP(int(sys.argv[1]), Proxy(), interface="127.0.0.1")
print("listening on", display(door.getHost()), flush=True)
reactor.run()  # until Ctrl-C
