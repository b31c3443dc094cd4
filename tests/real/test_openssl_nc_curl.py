"""Clients that others wrote against servers on listenTCP: nc, curl, and openssl through a proxy on Ropewalk."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from ropewalk import ClientFactory, Protocol, ServerFactory
from ropewalk.error import ConnectionDone
from tests.real.counterparts import LIMIT, free_port, program, run


class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)

    def connectionLost(self, reason):
        self.factory.lost.append(reason.value)


class EchoToTheEnd(Echo):
    """Knows half-close: goes on writing after the peer's end."""

    def readConnectionLost(self):
        self.factory.lost.append("read side")
        self.transport.write(b"and out")
        self.transport.loseConnection()

    def writeConnectionLost(self):
        raise AssertionError("nobody asked for that")


class Server(ServerFactory):
    noisy = False

    def __init__(self, protocol):
        self.protocol = protocol
        self.lost = []


def listening(reactor, protocol):
    factory = Server(protocol)
    return factory, str(reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port)


def run_beside(reactor, *command, data=b"", **more):
    """Run a program to its end while the reactor runs; gives what subprocess.run would."""
    results = []

    def work():
        return subprocess.run(command, input=data, capture_output=True, timeout=LIMIT, check=False, **more)

    def done(succeeded, result):
        results.append(result)
        reactor.callFromThread(reactor.stop)

    reactor.getThreadPool().callInThreadWithCallback(done, work)
    run(reactor, LIMIT + 5)
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


# ---- nc -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 20_000_000])
def test_nc_half_closes_and_gets_all_of_it_back(reactor, size):
    """`nc -N` shuts its sending side at the end of its input; the server does not handle half-close: it flushes and
    closes.
    """
    data = os.urandom(size)
    factory, port = listening(reactor, Echo)
    done = run_beside(reactor, program("nc"), "-N", "127.0.0.1", port, data=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data
    (reason,) = factory.lost
    assert (type(reason), reason.ended.by) == (ConnectionDone, "peer")
    assert reason.ended.received == reason.ended.sent == size


def test_a_protocol_that_knows_half_close_answers_nc_after_its_end(reactor):
    factory, port = listening(reactor, EchoToTheEnd)
    done = run_beside(reactor, program("nc"), "-N", "127.0.0.1", port, data=b"in, ")
    assert done.stdout == b"in, and out"
    told, reason = factory.lost
    assert (told, type(reason), reason.ended.by) == ("read side", ConnectionDone, "us")


def test_we_half_close_and_nc_goes_on_sending(reactor, start):
    """Our end reaches nc as the end of its input from the net; what it sends from then on is still read."""
    told = []

    class Asks(Protocol):
        def connectionMade(self):
            self.transport.write(b"question")
            self.transport.loseWriteConnection()

        def writeConnectionLost(self):
            told.append("write side")
            nc.process.stdin.write(b"answer, and more")
            nc.process.stdin.close()

        def dataReceived(self, data):
            told.append(data)

        def connectionLost(self, reason):
            told.append(reason.type)
            reactor.stop()

    _, port = listening(reactor, Asks)
    nc = start(program("nc"), "-N", "127.0.0.1", port, stdin=subprocess.PIPE)
    run(reactor)
    assert told[0] == "write side"
    assert b"".join(told[1:-1]) == b"answer, and more"
    assert told[-1] is ConnectionDone
    assert nc.process.wait(LIMIT) == 0
    assert nc.said() == "question"


# ---- curl ---------------------------------------------------------------------------------------------------------

BODY = hashlib.shake_256(b"five megabytes").digest(5_000_000)


class Http(Protocol):
    """As little of an HTTP/1.1 server as curl is happy with: GET gives BODY, PUT gives back a digest."""

    def connectionMade(self):
        self.factory.connections += 1
        self._data = b""

    def dataReceived(self, data):
        self._data += data
        while True:
            head, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                return
            length = re.search(rb"(?i)content-length: (\d+)", head)
            size = int(length[1]) if length else 0
            if len(rest) < size:
                return
            body, self._data = rest[:size], rest[size:]
            self._answer(head, hashlib.sha256(body).hexdigest().encode() if size else BODY)

    def _answer(self, head, body):
        self.factory.requests.append(head.split(b"\r\n")[0])
        lines = [b"HTTP/1.1 200 OK", b"Content-Type: application/octet-stream", b"X-Made-By: a ropewalk"]
        closes = b"Connection: close" in head
        lines += [b"Content-Length: %d" % len(body), *([b"Connection: close"] if closes else []), b"", b""]
        self.transport.writeSequence([b"\r\n".join(lines), body])
        if closes:
            self.transport.loseConnection()

    def connectionLost(self, reason):
        self.factory.lost.append(reason.value)


def http_server(reactor):
    factory, port = listening(reactor, Http)
    factory.connections = 0
    factory.requests = []
    return factory, f"http://127.0.0.1:{port}"


def curl(reactor, *words, **more):
    # Why -q and no proxy: what the user of this machine has set must not matter.
    command = [program("curl"), "-q", "--noproxy", "*", "--silent", "--show-error", "--fail", *words]
    done = run_beside(reactor, *command, **more)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def test_curl_gets_headers_and_a_body_of_five_megabytes(reactor):
    factory, url = http_server(reactor)
    head, _, body = curl(reactor, "--include", f"{url}/body").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"X-Made-By: a ropewalk" in head
    assert body == BODY
    assert factory.requests == [b"GET /body HTTP/1.1"]


def test_curl_gets_the_whole_body_when_we_close_after_it(reactor):
    factory, url = http_server(reactor)
    assert curl(reactor, "--header", "Connection: close", url) == BODY
    (reason,) = factory.lost
    assert (type(reason), reason.ended.by) == (ConnectionDone, "us")


def test_curl_keeps_one_connection_for_ten_requests(reactor, tmp_path: Path):
    factory, url = http_server(reactor)
    curl(reactor, "--output", str(tmp_path / "body-#1"), f"{url}/[0-9]")
    assert factory.requests == [b"GET /%d HTTP/1.1" % number for number in range(10)]
    assert factory.connections == 1
    for number in range(10):
        assert (tmp_path / f"body-{number}").read_bytes() == BODY


def test_curl_sends_a_body_whole(reactor):
    _, url = http_server(reactor)
    data = os.urandom(3_000_000)
    said = curl(reactor, "--request", "PUT", "--header", "Expect:", "--data-binary", "@-", url, data=data)
    assert said == hashlib.sha256(data).hexdigest().encode()


def test_curl_slowed_down_still_gets_every_byte(reactor):
    """A reader that takes 20 MB/s: the kernel's buffer fills, and what waits leaves when there is room."""
    _, url = http_server(reactor)
    assert curl(reactor, "--limit-rate", "20M", url) == BODY


def test_curl_over_ipv6(reactor):
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    factory = Server(Http)
    factory.connections, factory.requests = 0, []
    port = reactor.listenTCP(0, factory, interface="::1").getHost().port
    assert curl(reactor, f"http://[::1]:{port}/six") == BODY


# ---- openssl ------------------------------------------------------------------------------------------------------


class Out(Protocol):
    """The proxy's connection to the target. Each side is the other's consumer, and its producer."""

    def connectionMade(self):
        inner = self.factory.inner
        inner.outer = self
        self.transport.registerProducer(inner.transport, True)
        inner.transport.registerProducer(self.transport, True)
        inner.transport.resumeProducing()

    def dataReceived(self, data):
        self.factory.inner.transport.write(data)

    def readConnectionLost(self):
        self.factory.inner.end()

    def connectionLost(self, reason):
        self.factory.inner.end()


class Proxy(Protocol):
    """The proxy's connection from the client."""

    outer = None

    def connectionMade(self):
        self.transport.pauseProducing()
        factory = ClientFactory.forProtocol(Out)
        factory.noisy = False
        factory.inner = self
        self.factory.connect(factory)

    def dataReceived(self, data):
        self.factory.carried += len(data)
        self.outer.transport.write(data)

    def end(self):
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def connectionLost(self, reason):
        if self.outer is not None:
            self.outer.transport.unregisterProducer()
            self.outer.transport.loseConnection()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """(certificate, key) for localhost, signed by itself."""
    paths = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    made = [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    made += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [*made, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True, timeout=LIMIT
    )
    return paths


@pytest.fixture
def tls_server(start, certificate, tmp_path):
    """The port of an `openssl s_server` that serves the files of tmp_path over HTTP over TLS."""
    port = free_port()
    words = ["s_server", "-accept", f"127.0.0.1:{port}", "-cert", certificate[0], "-key", certificate[1]]
    child = start(program("openssl"), *words, "-HTTP", "-quiet")
    child.listens_on(port)
    return port


def test_a_real_tls_session_goes_through_our_proxy_byte_by_byte(reactor, tls_server, certificate, tmp_path):
    """TLS authenticates every record: one byte wrong, lost or doubled anywhere would end the session."""
    data = os.urandom(10_000_000)
    (tmp_path / "large").write_bytes(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
    factory = Server(Proxy)
    factory.carried = 0
    factory.connect = lambda client: reactor.connectTCP("127.0.0.1", tls_server, client)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port
    words = ["--cacert", certificate[0], "--resolve", f"localhost:{port}:127.0.0.1"]
    assert curl(reactor, *words, f"https://localhost:{port}/large") == data
    assert factory.carried > 100


def test_openssl_s_client_speaks_through_our_proxy(reactor, tls_server, certificate, tmp_path):
    (tmp_path / "small").write_bytes(b"HTTP/1.0 200 OK\r\n\r\nthe rope holds")
    factory = Server(Proxy)
    factory.carried = 0
    factory.connect = lambda client: reactor.connectTCP("127.0.0.1", tls_server, client)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port
    words = ["s_client", "-quiet", "-verify_return_error", "-CAfile", certificate[0], "-connect"]
    done = run_beside(
        reactor, program("openssl"), *words, f"127.0.0.1:{port}", data=b"GET /small HTTP/1.0\r\n\r\n"
    )
    assert done.stdout.endswith(b"the rope holds")


def test_what_is_no_tls_is_answered_with_an_alert_and_an_end(reactor, tls_server):
    """openssl as a plain counterpart: bytes that are no ClientHello. Alert record: type 21, two bytes, level fatal."""
    told = []

    class Garbage(Protocol):
        def connectionMade(self):
            self.transport.write(b"\x16\x03\x01\x00\x05HELLO this is no handshake")

        def dataReceived(self, data):
            told.append(data)

        def connectionLost(self, reason):
            told.append(reason.type)
            reactor.stop()

    reactor.connectTCP("127.0.0.1", tls_server, ClientFactory.forProtocol(Garbage))
    run(reactor)
    answer = b"".join(told[:-1])
    assert answer[0] == 21
    assert answer[3:6] == b"\x00\x02\x02"
