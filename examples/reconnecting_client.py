"""A client that stays connected: when its server goes away it comes back, ever less eagerly, never in step.

    python examples/reconnecting_client.py localhost 8007

Try it: start it without a server, start one (`ropewalk listen 8007 --echo`), stop it, start it again. All the
waiting is ReconnectingClientFactory's; the delays grow, have a limit, and are jittered so that a thousand
clients of one server do not all come back in the same moment.
"""

import sys

from ropewalk import Protocol, ReconnectingClientFactory, reactor


class Ticker(Protocol):
    """Says something every second, as long as this one connection lives."""

    def connectionMade(self):
        print("connected to", self.transport.getPeer(), flush=True)
        self.count = 0
        self.tick()

    def tick(self):
        self.count += 1
        self.transport.write(b"tick %d\n" % self.count)
        self.next = reactor.callLater(1.0, self.tick)

    def dataReceived(self, data):
        print("received", data, flush=True)

    def connectionLost(self, reason):
        self.next.cancel()


class Staying(ReconnectingClientFactory):
    protocol = Ticker
    initialDelay = 0.2  # seconds before the second attempt
    maxDelay = 5.0  # and never more than these between two

    def clientConnectionFailed(self, connector, reason):
        print("not connected:", reason.getErrorMessage(), flush=True)
        super().clientConnectionFailed(connector, reason)

    def clientConnectionLost(self, connector, reason):
        print("lost:", reason.getErrorMessage(), flush=True)
        super().clientConnectionLost(connector, reason)


host, port = sys.argv[1:] or ("localhost", "8007")
reactor.connectTCP(host, int(port), Staying())
reactor.run()  # until Ctrl-C
