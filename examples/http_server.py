"""An HTTP/1.1 server: the files of a folder. h11 knows HTTP and no network; all the rest of a server is here.

    python examples/http_server.py FOLDER [PORT [SECONDS]]

GET and HEAD are answered with a file, POST with the length and the SHA-256 of what was sent, however it was sent.

* One coroutine for each connection, one request at a time. What a client sends ahead waits in the stream's buffer, and
  when that is full the client has to wait: pipelined requests are answered in order, and nothing grows.
* All that is up to the client has a limit in SECONDS: the head of a request, each further piece of its body, taking
  each piece of the answer. Nobody keeps a place by doing nothing.
* What is not HTTP, h11 finds: it raises RemoteProtocolError, which knows the status to answer with.
"""

import hashlib
import mimetypes
import os
import sys
from email.utils import formatdate
from urllib.parse import unquote, urlsplit

import h11

import ropewalk
from ropewalk import Deferred
from ropewalk.address import display
from ropewalk.task import react, within

PIECE = 65536  # bytes of a file that are in memory at a time
PARTING = 2.0  # seconds in which a client may end its side, once we have ended ours


class Conversation:
    """All that is said on one connection."""

    def __init__(self, stream, folder, patience):
        self.stream = stream
        self.folder = folder
        self.patience = patience
        self.http = h11.Connection(h11.SERVER)

    async def run(self):
        try:
            while await self.exchange():
                self.http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            if self.http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self.answer_text(error.error_status_hint, str(error), Connection="close")
        except TimeoutError:
            return
        await self.part()

    async def exchange(self):
        """One request and its answer; whether there may be another."""
        self.method = None  # none is known yet, of which an error could be the answer
        request = await self.next_event()
        if type(request) is h11.ConnectionClosed:
            return False
        self.method = request.method
        size, digest = 0, hashlib.sha256()
        while type(event := await self.next_event()) is h11.Data:
            size += len(event.data)
            digest.update(event.data)
        if self.method in (b"GET", b"HEAD"):
            await self.answer_file(request.target.decode())
        elif self.method == b"POST":
            await self.answer_text(200, f"{size} bytes, SHA-256 {digest.hexdigest()}")
        else:
            await self.answer_text(405, "GET, HEAD or POST", Allow="GET, HEAD, POST")
        return self.http.our_state is self.http.their_state is h11.DONE

    async def next_event(self):
        return await within(self.patience, self.read_event())

    async def read_event(self):
        while (event := self.http.next_event()) is h11.NEED_DATA:
            if self.http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self.http.receive_data(await self.stream.read())
        return event

    async def send(self, event):
        try:
            await within(self.patience, self.stream.write(self.http.send(event)))
        except TimeoutError:
            self.stream.abort()  # Why: in order it could not be closed, with what the client does not take
            raise

    async def answer_file(self, target):
        path = self.find(target)
        if path is None:
            await self.answer_text(404, "no such file")
            return
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        with open(path, "rb") as file:
            # Why iter: when the file ends before its size, h11 raises, and the client sees that it is cut short.
            await self.answer(200, kind, os.stat(file.fileno()).st_size, iter(lambda: file.read(PIECE), b""))

    def find(self, target):
        """The path of a file in the folder that may be read; None if there is none."""
        try:
            path = os.path.join(self.folder, unquote(urlsplit(target).path).lstrip("/"))
            if os.path.isdir(path):
                path = os.path.join(path, "index.html")
            # Why: neither .. nor a symbolic link is to lead out of the folder.
            path = os.path.realpath(path)
            inside = os.path.commonpath([path, self.folder]) == self.folder
            return path if inside and os.path.isfile(path) and os.access(path, os.R_OK) else None
        except ValueError:  # not a URL, or a path with \0 in it
            return None

    async def answer_text(self, status, text, **headers):
        body = f"{text}\n".encode()
        await self.answer(status, "text/plain; charset=utf-8", len(body), [body], **headers)

    async def answer(self, status, kind, size, pieces, **headers):
        headers |= {"Date": formatdate(usegmt=True), "Content-Type": kind, "Content-Length": str(size)}
        await self.send(h11.Response(status_code=status, headers=list(headers.items())))
        if self.method != b"HEAD":
            for piece in pieces:
                await self.send(h11.Data(data=piece))
        await self.send(h11.EndOfMessage())

    async def part(self):
        """Why not just close: with bytes unread the kernel would send a reset, and that can overtake our answer."""
        self.stream.closeWrite()
        try:
            await within(PARTING, self.read_to_end())
        except TimeoutError:
            return

    async def read_to_end(self):
        while await self.stream.read():
            pass


async def main(reactor, folder, port="8008", seconds="30"):
    root, patience = os.path.realpath(folder, strict=True), float(seconds)
    server = await ropewalk.serve(
        lambda stream: Conversation(stream, root, patience).run(), f"tcp:{port}:interface=127.0.0.1"
    )
    print("listening on", display(server.port.getHost()), flush=True)
    await Deferred()  # until Ctrl-C


react(main, sys.argv[1:] or sys.exit(__doc__))
