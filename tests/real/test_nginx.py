"""A real nginx, spoken to by a small HTTP client on connectTCP: large bodies both ways, whole and unchanged."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from ropewalk import ClientFactory, Deferred, Protocol
from ropewalk.error import ConnectionDone
from tests.real.counterparts import free_port, program, run, start_nginx, takes_uploads

MIB = 1 << 20


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The folder that nginx serves."""
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def upload_port(port):
    if not takes_uploads(program("nginx")):
        pytest.skip("this nginx was built without its WebDAV module: apt-get install nginx-full")
    return port


@pytest.fixture
def port(start, files, tmp_path):
    port = free_port()
    start_nginx(start, tmp_path, port)
    return port


class Http(Protocol):
    """One connection to an HTTP server: requests one after the other, bodies digested as they come."""

    def __init__(self):
        self._head = b""
        self._missing = None
        self._digest = None
        self._answer = None

    def request(self, head: str, body: bytes | Producer = b""):
        """Gives a Deferred with (status, headers, SHA-256 of the body)."""
        self._answer = Deferred()
        self.transport.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        if isinstance(body, Producer):
            body.start(self.transport)
        else:
            self.transport.write(body)
        return self._answer

    def dataReceived(self, data):
        if self._missing is None:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            status, *lines = head.decode().split("\r\n")
            self._status = int(status.split()[1])
            self._headers = dict(line.lower().split(": ", 1) for line in lines)
            self._missing = int(self._headers.get("content-length", 0))
            self._digest = hashlib.sha256()
            self._head = b""
        self._digest.update(data)
        self._missing -= len(data)
        assert self._missing >= 0
        if not self._missing:
            self._missing = None
            self._answer.callback((self._status, self._headers, self._digest.hexdigest()))

    def connectionLost(self, reason):
        self.factory.lost.callback(reason.value)


class Producer:
    """Writes a file's bytes as fast as they are taken, and no faster."""

    def __init__(self, file):
        self._file = file
        self.pauses = 0
        self._paused = False
        self.most = 0

    def start(self, transport):
        self._transport = transport
        transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self):
        self._paused = False
        while not self._paused:
            data = self._file.read(65536)
            if not data:
                self._transport.unregisterProducer()
                return
            self._transport.write(data)
            self.most = max(self.most, self._transport.bytesBuffered)

    def pauseProducing(self):
        self.pauses += 1
        self._paused = True

    def stopProducing(self):
        self._paused = True


def drive(reactor, port, story):
    """Run `await story(http, lost)`, then stop; gives what it returned."""
    results = []

    class Told(Http):
        def connectionMade(self):
            outcome = Deferred.fromCoroutine(story(self, self.factory.lost))
            outcome.addBoth(results.append).addBoth(lambda _: reactor.stop())

    factory = ClientFactory.forProtocol(Told)
    factory.noisy = False
    factory.lost = Deferred()
    reactor.connectTCP("127.0.0.1", port, factory)
    run(reactor)
    if isinstance(results[0], BaseException):
        results[0].raiseException()
    return results[0]


def large_file(path: Path, size: int) -> str:
    """Bytes that do not repeat; gives their SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // MIB):
            piece = os.urandom(MIB)
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def test_a_download_of_100_MiB_has_its_checksum(reactor, files, port, figure):
    expected = large_file(files / "large", 100 * MIB)

    async def story(http, lost):
        began = time.monotonic()
        status, headers, digest = await http.request("GET /large HTTP/1.0\nHost: localhost")
        seconds = time.monotonic() - began
        assert (status, headers["content-length"]) == (200, str(100 * MIB))
        assert digest == expected
        reason = await lost
        assert isinstance(reason, ConnectionDone), "HTTP/1.0: nginx closes after the answer"
        assert reason.ended.by == "peer"
        assert reason.ended.received > 100 * MIB
        return seconds

    figure(f"100 MiB from nginx: {drive(reactor, port, story):.2f} s, SHA-256 included")


def test_an_upload_of_64_MiB_by_a_producer_is_stored_unchanged(reactor, files, upload_port, tmp_path):
    (files / "put").mkdir()
    expected = large_file(tmp_path / "source", 64 * MIB)

    async def story(http, lost):
        with (tmp_path / "source").open("rb") as file:
            producer = Producer(file)
            head = f"PUT /put/copy HTTP/1.1\nHost: localhost\nContent-Length: {64 * MIB}"
            status, _, _ = await http.request(head, producer)
        assert status == 201
        assert producer.pauses > 10, "what the kernel does not take is not read from the file either"
        assert producer.most <= 65536 * 2, "high-water mark and one write"

    drive(reactor, upload_port, story)
    with (files / "put" / "copy").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == expected


def test_an_upload_in_one_write_is_stored_unchanged(reactor, files, upload_port):
    body = os.urandom(32 * MIB)

    async def story(http, lost):
        head = f"PUT /put/copy HTTP/1.1\nHost: localhost\nContent-Length: {len(body)}"
        return (await http.request(head, body))[0]

    assert drive(reactor, upload_port, story) == 201
    assert (files / "put" / "copy").read_bytes() == body


def test_one_kept_alive_connection_serves_many_requests(reactor, files, port):
    digests = [large_file(files / str(number), MIB) for number in range(5)]
    (files / "empty").write_bytes(b"")

    async def story(http, lost):
        for _ in range(20):
            for number, expected in enumerate(digests):
                status, _, digest = await http.request(f"GET /{number} HTTP/1.1\nHost: localhost")
                assert (status, digest) == (200, expected)
            status, _, digest = await http.request("GET /empty HTTP/1.1\nHost: localhost")
            assert (status, digest) == (200, hashlib.sha256().hexdigest())
        assert (await http.request("GET /nowhere HTTP/1.1\nHost: localhost"))[0] == 404
        http.transport.loseConnection()
        reason = await lost
        assert (type(reason), reason.ended.by) == (ConnectionDone, "us")

    drive(reactor, port, story)


def test_garbage_is_answered_and_the_connection_ended(reactor, port):
    async def story(http, lost):
        status, _, _ = await http.request("\x16\x03\x01 this is no HTTP")
        assert status == 400
        await lost

    drive(reactor, port, story)
