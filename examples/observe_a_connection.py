"""See how a connection comes about: record its steps, then print them as text and as a Mermaid diagram.

    python examples/observe_a_connection.py localhost 8007

Works for a connection that is made and for one that is not: try a port where nobody listens, or a name that
does not exist. Paste the diagram into any Markdown page that renders Mermaid.
"""

import sys

from ropewalk import ClientFactory, Protocol, explain, reactor
from ropewalk.observe import Recorder


class Curious(Protocol):
    def connectionMade(self):
        self.transport.write(b"who are you?\n")

    def dataReceived(self, data):
        self.transport.loseConnection()


class Observed(ClientFactory):
    protocol = Curious

    def clientConnectionFailed(self, connector, reason):
        self.show(connector)

    def clientConnectionLost(self, connector, reason):
        self.show(connector)

    def show(self, connector):
        timeline = explain(connector)  # finds the recorder among the reactor's observers
        print(timeline.text(), end="\n\n")
        print(timeline.mermaid())
        reactor.stop()


reactor.observers.append(Recorder())
host, port = sys.argv[1:] or ("localhost", "8007")
reactor.connectTCP(host, int(port), Observed(), timeout=5)
reactor.run()
