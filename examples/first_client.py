"""The smallest client worth the name: connect by name, say something, show what comes back.

Start its server first: `ropewalk listen 8007 --echo`, or examples/echo_server.py.
"""

from ropewalk import ClientFactory, Protocol, reactor


class Greeter(Protocol):
    def connectionMade(self):
        self.transport.write(b"hello, rope\n")

    def dataReceived(self, data):
        print("received", data)
        reactor.stop()


class Greeting(ClientFactory):
    def clientConnectionFailed(self, connector, reason):
        raise SystemExit(reason.getErrorMessage())  # leaves reactor.run(), and ends the program


reactor.connectTCP("localhost", 8007, Greeting.forProtocol(Greeter))
reactor.run()
