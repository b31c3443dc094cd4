"""An echo server that no client can fill up: who does not read what it gets back is not read from either.

    python examples/echo_server.py 8007

One Echo is made for each connection; the Factory outlives them all and holds what they share, here a count.
"""

import sys

from ropewalk import Factory, Protocol, reactor
from ropewalk.address import display


class Echo(Protocol):
    def connectionMade(self):
        self.factory.connections += 1
        # The transport as its own producer: it stops reading while what we wrote waits to be sent.
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data):
        self.transport.write(data)

    def connectionLost(self, reason):
        print("connection", self.transport.number, "ended:", reason.value.ended, flush=True)


class Echoes(Factory):
    protocol = Echo
    connections = 0

    def stopFactory(self):
        print("served", self.connections, "connections", flush=True)


port = reactor.listenTCP(int(sys.argv[1]) if sys.argv[1:] else 8007, Echoes(), interface="127.0.0.1")
print("listening on", display(port.getHost()), flush=True)
reactor.run()  # until Ctrl-C
