"""A chat of lines: the first you say is your name, and what you say then, all hear. Talk to it with `nc localhost 8010`.

    python examples/chat_server.py [PORT]

/who tells who is here, /quit leaves.

* What was said in one turn of the loop goes to everybody in the next, in one write each: when a thousand speak at once, a
  thousand writes carry a million lines. Each speaker's lines stay in their order.
* No one can make the others wait, nor the server grow. Who does not read is dropped when LAG bytes wait for them, and the
  others are told; who talks without pause is heard BURST lines at a time.
"""

import sys

from ropewalk import Factory, TCPOptions, reactor
from ropewalk.address import display
from ropewalk.error import ConnectionDone
from ropewalk.protocols.basic import LineReceiver

LAG = 256 << 10  # bytes that may wait here for one guest
KERNEL = 64 << 10  # bytes that may wait in the kernel besides; its own choice would be megabytes
BURST, PAUSE = 20, 0.5  # lines of one guest in a row; seconds until it is heard again


class Guest(LineReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 1000
    name = None
    lines = 0

    def connectionMade(self):
        self.transport.setWriteLimits(high=LAG, hard=LAG)
        self.sendLine(b"* your name?")

    def lineReceived(self, line):
        self.lines += 1
        if self.lines % BURST == 0:
            self.pauseProducing()
            reactor.callLater(PAUSE, self.resumeProducing)
        line = line.strip()
        if self.name is None:
            self.factory.enter(self, line)
        elif line == b"/who":
            self.sendLine(b"* here: " + b" ".join(self.factory.guests))
        elif line == b"/quit":
            self.transport.loseConnection()
        else:
            self.factory.say(self.name + b": " + line)

    def connectionLost(self, reason):
        if self.name is not None:
            self.factory.leave(self, reason)


class Chat(Factory):
    protocol = Guest

    def __init__(self):
        self.guests = {}
        self.said = []

    def enter(self, guest, name):
        if not name.isalnum() or name in self.guests:
            guest.sendLine(b"* another name, please")
            return
        guest.name = name
        self.guests[name] = guest
        self.say(b"* " + name + b" is here")

    def leave(self, guest, reason):
        del self.guests[guest.name]
        how = b"left" if reason.check(ConnectionDone) else b"was lost: " + str(reason.value).encode()
        self.say(b"* " + guest.name + b" " + how)

    def say(self, line):
        if not self.said:
            reactor.callLater(0, self.tell)
        self.said.append(line + b"\n")

    def tell(self):
        lines, self.said = b"".join(self.said), []
        for guest in list(self.guests.values()):  # a copy: who does not read leaves meanwhile
            guest.transport.write(lines)


port = reactor.listenTCP(
    int(sys.argv[1]) if sys.argv[1:] else 8010,
    Chat(),
    interface="127.0.0.1",
    options=TCPOptions(sendBuffer=KERNEL),
)
print("listening on", display(port.getHost()), flush=True)
reactor.run()  # until Ctrl-C
