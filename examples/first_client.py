"""The smallest client worth the name: connect, say something, show what comes back, close.

python examples/echo_server.py 8007 &
python examples/first_client.py localhost 8007
"""

import sys

from ropewalk import ClientFactory, Protocol, reactor


class Greeter(Protocol):
    def connectionMade(self):
        self.transport.write(b"hello, rope\n")

    def dataReceived(self, data):
        print("received", data)
        self.transport.loseConnection()


class Greeting(ClientFactory):
    protocol = Greeter

    def clientConnectionFailed(self, connector, reason):
        print("failed:", reason.getErrorMessage())
        reactor.stop()

    def clientConnectionLost(self, connector, reason):
        reactor.stop()


host, port = sys.argv[1:] or ("localhost", "8007")
reactor.connectTCP(host, int(port), Greeting())
reactor.run()
