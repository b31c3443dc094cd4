"""A WebSocket echo server on wsproto, which knows RFC 6455 and no network.

    python examples/websocket_echo.py [PORT [SECONDS]]

Then open examples/websocket_echo.html in a browser.

* Each piece of a message goes back when it comes, as a fragment of the answer. So a message may have any size, and of
  each there is one read in memory. Who does not read the answer is not read from.
* Who says nothing for SECONDS is sent a ping; and who then says nothing again, not even pong, is gone, and let go of.
* Both sides say good-bye before they close. What is no handshake is answered with an HTTP status, 400 as a rule.

No extension is agreed to. Why: by compression, what is small on the way could be very large here.
"""

import sys

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Ping, RejectConnection
from wsproto.utilities import RemoteProtocolError

import ropewalk
from ropewalk import Deferred
from ropewalk.address import display
from ropewalk.task import react, within

PARTING = 2.0  # seconds in which a client may end its side, once we have ended ours


async def converse(stream, patience):
    """One connection, from its handshake to its end."""
    socket = WSConnection(ConnectionType.SERVER)
    try:
        if await within(patience, shake_hands(stream, socket)):
            await echo(stream, socket, patience)
        await within(PARTING, part(stream))
    except TimeoutError:
        stream.abort()


async def shake_hands(stream, socket):
    """Whether this is a WebSocket now."""
    try:
        while not any(socket.events()):
            data = await stream.read()
            if not data:
                return False
            socket.receive_data(data)
    except (RemoteProtocolError, UnicodeError) as error:  # UnicodeError: a Host that wsproto cannot read
        await stream.write(socket.send(getattr(error, "event_hint", RejectConnection())))
        return False
    await stream.write(socket.send(AcceptConnection()))
    return True


async def echo(stream, socket, patience):
    """Until one side says good-bye, or the client is gone without it."""
    while True:
        for event in socket.events():
            if isinstance(event, Message):
                answer = type(event)(data=event.data, message_finished=event.message_finished)
            elif isinstance(event, Ping | CloseConnection):
                answer = event.response()
            else:
                continue
            await within(patience, stream.write(socket.send(answer)))
            if isinstance(event, CloseConnection):
                print("closed:", int(event.code), repr(event.reason or ""), flush=True)
                return
        data = await hear(stream, socket, patience)
        if not data:
            return
        socket.receive_data(data)


async def hear(stream, socket, patience):
    """What the client sends next; it is asked once whether it is still there."""
    try:
        return await within(patience, stream.read())
    except TimeoutError:
        await within(patience, stream.write(socket.send(Ping())))
        return await within(patience, stream.read())


async def part(stream):
    """End our side, and read to the end of the other. Why: closing with bytes unread would reset what we sent last."""
    stream.closeWrite()
    while await stream.read():
        pass


async def main(reactor, port="8009", seconds="30"):
    patience = float(seconds)
    server = await ropewalk.serve(
        lambda stream: converse(stream, patience), f"tcp:{port}:interface=127.0.0.1"
    )
    print("listening on", display(server.port.getHost()), flush=True)
    await Deferred()  # until Ctrl-C


react(main, sys.argv[1:])
