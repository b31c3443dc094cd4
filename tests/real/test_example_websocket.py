"""examples/websocket_echo.py, with a real browser at the other end, and with wsproto where a browser would not misbehave."""

import os
import signal
import socket
import subprocess

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from tests.real.counterparts import LIMIT, everything, program, sent_until_held_back
from tests.real.example import EXAMPLES, port_of, read_until, serving, started

SHORT = 0.5  # seconds after which the server asks whether a client is still there
MIB = 1 << 20


@pytest.fixture(scope="module")
def server():
    """One server for many tests, and patient; at the end it has told of nothing but good-byes."""
    with started("websocket_echo.py", 0, limit=4 * LIMIT) as process:
        process.port = port_of(process)
        yield process
        process.send_signal(signal.SIGTERM)
        assert [line for line in process.stdout if not line.startswith("closed: ")] == []
        assert process.wait() == 0


@pytest.fixture(scope="module")
def hasty():
    """The port of a server that is not patient."""
    with serving("websocket_echo.py", 0, SHORT) as (_, port):
        yield port


class Client:
    """wsproto as a client, over a blocking socket."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), LIMIT)
        self.wsproto = WSConnection(ConnectionType.CLIENT)
        self.send(Request(host="localhost", target="/"))
        assert isinstance(self.next(), AcceptConnection)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def send(self, *events):
        self.sock.sendall(b"".join(map(self.wsproto.send, events)))

    def next(self):
        while True:
            event = next(self.wsproto.events(), None)
            if event is not None:
                return event
            data = self.sock.recv(65536)
            assert data, "the server has ended its side"
            self.wsproto.receive_data(data)

    def message(self):
        """The next whole message; a ping is answered meanwhile."""
        pieces = []
        while True:
            event = self.next()
            if isinstance(event, Ping):
                self.send(event.response())
                continue
            assert isinstance(event, Message), event
            pieces.append(event.data)
            if event.message_finished:
                return type(event.data)().join(pieces)

    def ended(self):
        """Whether the server has ended its side, after nothing more."""
        return self.sock.recv(1) == b""


@pytest.mark.slow
def test_a_real_browser_has_everything_echoed_and_says_good_bye(server, start, tmp_path):
    """Text, an empty text, much text, a MiB and nothing as bytes; the page is served by our own HTTP server."""
    browser = program("chromium-headless-shell", "chromium")
    with serving("http_server.py", EXAMPLES, 0) as (_, port):
        url = f"http://localhost:{port}/websocket_echo.html#{server.port}"
        # Why a pipe, as descriptor 3: the program is a script, whose end is not that of the browser. The end of this is.
        piped = ["sh", "-c", 'exec "$@" 3<&0 4>/dev/null', "sh", browser, "--remote-debugging-pipe"]
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        running = start(
            *piped, *options, f"--user-data-dir={tmp_path / 'profile'}", url, stdin=subprocess.PIPE
        )
        assert read_until(server, "all came back|not the same") == "closed: 1000 'all came back'\n"
        running.process.stdin.close()
        assert running.process.wait(LIMIT) == 0


def test_a_message_in_fragments_comes_back_whole_and_a_ping_between_them_is_answered(server):
    with Client(server.port) as client:
        client.send(TextMessage("Gr", message_finished=False), TextMessage("öße", message_finished=False))
        client.send(Ping(b"still there?"), TextMessage(" 🪢"))
        heard = ""
        pongs = []
        while not heard.endswith("🪢"):
            event = client.next()
            if isinstance(event, Pong):
                pongs.append(bytes(event.payload))
            else:
                heard += event.data
        assert (heard, pongs) == ("Größe 🪢", [b"still there?"])
        assert event.message_finished


def test_many_messages_sent_at_once_come_back_in_order(server):
    said = ["", b"", *(f"message {number}" for number in range(1000)), bytes(range(256)) * 100, "end"]
    with Client(server.port) as client:
        client.send(*(TextMessage(each) if isinstance(each, str) else BytesMessage(each) for each in said))
        assert [client.message() for _ in said] == said


@pytest.mark.parametrize(("code", "reason"), [(1000, "that is all"), (3999, "")])
def test_good_bye_is_answered_with_the_same_code_and_then_both_close(server, code, reason):
    with Client(server.port) as client:
        client.send(CloseConnection(code, reason))
        answer = client.next()
        assert (answer.code, answer.reason or "") == (code, reason)
        assert client.ended()
    read_until(server, f"^closed: {code} {reason!r}$")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x03abc", 1002),  # a client's frame without a mask
        (b"\x8f\x80\0\0\0\0", 1002),  # an opcode that is none
        (b"\x80\x80\0\0\0\0", 1002),  # goes on with a message that has not begun
        (b"\x09\x80\0\0\0\0", 1002),  # a ping in fragments
        (b"\x89\xfe\x00\x80\0\0\0\0" + bytes(128), 1002),  # a ping that is too long
        (b"\xc1\x83\0\0\0\0abc", 1002),  # compressed, which was not agreed
        (b"\x81\x82\0\0\0\0\xc3\x28", 1007),  # text that is not UTF-8
        (b"\x88\x82\0\0\0\0\x03\xed", 1002),  # good-bye with a code that nobody may send
    ],
)
def test_what_breaks_the_protocol_is_told_with_its_code(server, frame, code):
    with Client(server.port) as client:
        client.sock.sendall(frame)
        assert client.next().code == code
        assert client.ended()


UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"this is not HTTP\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\n" + UPGRADE + b"Sec-WebSocket-Version: 13\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + UPGRADE + b"Sec-WebSocket-Version: 12\r\n\r\n", 426),
        (b"GET / HTTP/1.1\r\nHost: xn--a-\r\n" + UPGRADE + b"Sec-WebSocket-Version: 13\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000, 400),
    ],
    ids=["nonsense", "no upgrade", "POST", "another version", "a host that is none", "no end"],
)
def test_what_is_no_handshake_is_answered_with_a_status_and_closed_in_order(server, request_, status):
    with socket.create_connection(("127.0.0.1", server.port), LIMIT) as sock:
        sock.sendall(request_ + bytes(100_000))
        told = everything(sock)
    assert told.startswith(b"HTTP/1.1 %d " % status)


def test_who_is_silent_is_asked_and_stays_if_it_answers(hasty):
    with Client(hasty) as client:
        for _ in range(3):
            event = client.next()
            assert isinstance(event, Ping)
            client.send(event.response())
        client.send(TextMessage("here"))
        assert client.message() == "here"


def test_who_does_not_answer_is_let_go(hasty):
    with Client(hasty) as client:
        assert isinstance(client.next(), Ping)
        with pytest.raises(ConnectionResetError):
            client.sock.recv(1)


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_a_handshake_that_does_not_come_to_its_end_is_given_up(hasty, begun):
    with socket.create_connection(("127.0.0.1", hasty), LIMIT) as sock:
        sock.sendall(begun)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_who_goes_without_a_word_does_no_harm(server):
    Client(server.port).sock.close()
    with Client(server.port) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with Client(server.port) as client:
        client.send(TextMessage("here"))
        assert client.message() == "here"


def test_a_message_of_any_size_is_echoed_in_the_same_memory(server):
    """One frame of 64 MiB, its mask all zero: what is sent is what is meant."""
    size = 64 * MIB
    with Client(server.port) as client:
        before = resident(server.pid)
        client.sock.sendall(b"\x82\xff" + size.to_bytes(8) + bytes(4))
        left = size
        while left:
            client.sock.sendall(bytes(MIB))
            wanted = min(left, MIB)
            left -= wanted
            while wanted > 0:
                event = client.next()
                assert not any(event.data)
                wanted -= len(event.data)
        assert event.message_finished
        assert resident(server.pid) - before < 8 * MIB


def test_who_does_not_read_is_not_read_from(server):
    with Client(server.port) as client:
        client.sock.sendall(b"\x82\xff" + (1 << 40).to_bytes(8) + bytes(4))
        before = resident(server.pid)
        sent_until_held_back(client.sock)
        assert resident(server.pid) - before < 8 * MIB


def resident(process):
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
