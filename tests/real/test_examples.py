"""The examples do what their first lines say, run as processes of their own, as a reader would run them."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.real.counterparts import exchanged
from tests.real.example import EXAMPLES, LIMIT, output_of, port_of, read_until, started

pytestmark = pytest.mark.usefixtures("interruptible")


@pytest.fixture
def echo():
    with started("echo_server.py", 0) as process:
        yield port_of(process)


def test_every_example_is_run_by_a_test():
    told = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.name}"' in told


def first_client(port):
    """The example as it stands, but for the port; its exit status and what it said."""
    source = (EXAMPLES / "first_client.py").read_text().replace("8007, Greeting", f"{port}, Greeting")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_first_client_says_hello_and_ends(echo):
    assert first_client(echo) == (0, "received b'hello, rope\\n'\n", "")


def test_first_client_tells_why_it_could_not_connect(refusing):
    status, _, errors = first_client(refusing)
    assert status == 1
    assert "ECONNREFUSED" in errors and "Traceback" not in errors


def test_echo_server_counts_its_connections_and_says_how_each_ended():
    with started("echo_server.py", 0) as server:
        port = port_of(server)
        for size in (1, 3_000_000):
            with socket.create_connection(("127.0.0.1", port), LIMIT) as sock:
                assert len(exchanged(sock, bytes(size))) == size
            assert f"received={size}, sent={size}" in read_until(server, "ended: ")
        server.send_signal(signal.SIGINT)
        assert server.stdout.read() == "served 2 connections\n"
        assert server.wait() == 0


def test_observe_a_connection_prints_its_timeline_and_its_diagram(echo):
    text, _, diagram = output_of("observe_a_connection.py", "localhost", echo).partition("\n\n")
    assert text.startswith(f"connection 1 to localhost:{echo}: closed\n")
    for step in ("resolved", "attempt started", "connected", "protocol built", "first byte", "by us after"):
        assert step in text
    assert diagram.startswith("sequenceDiagram\n")


def test_observe_a_connection_explains_one_that_was_refused(refusing):
    out = output_of("observe_a_connection.py", "127.0.0.1", refusing)
    assert out.startswith(f"connection 1 to 127.0.0.1:{refusing}: failed\n")
    assert "clientConnectionFailed while connecting" in out


def test_reconnecting_client_comes_back_when_its_server_does():
    with ExitStack() as first:
        server = first.enter_context(started("echo_server.py", 0))
        port = port_of(server)
        with started("reconnecting_client.py", "localhost", port) as client:
            read_until(client, "^connected to")
            read_until(client, r"^received b'tick 1")
            first.close()
            read_until(client, "^lost: ")
            read_until(client, "^not connected: .*ECONNREFUSED")
            with started("echo_server.py", port) as again:
                assert port_of(again) == port
                read_until(client, "^connected to")
                read_until(client, r"^received b'tick 1")
            client.send_signal(signal.SIGINT)
            assert client.wait() == 0


class Answering(BaseHTTPRequestHandler):
    """Answers with the port it was asked at, well or not."""

    protocol_version = "HTTP/1.1"  # so that connections stay

    def do_GET(self):
        body = b"%d" % self.server.server_port
        self.send_response(self.server.status)
        self.send_header("Content-Length", len(body))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@contextmanager
def web_server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.status = 200
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def answer_from(port):
    """The port that the web server tells, and the connection, still open."""
    connection = HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    connection.request("GET", "/")
    return int(connection.getresponse().read()), connection


def test_load_balancer_gives_by_weight_and_leaves_out_who_answers_badly():
    with web_server() as one, web_server() as other:
        places = f"127.0.0.1:{one.server_port}=3", f"127.0.0.1:{other.server_port}"
        with started("load_balancer.py", 0, *places) as balancer:
            port = port_of(balancer)
            answered = Counter()
            with ExitStack() as opened:
                for _ in range(8):
                    who, connection = answer_from(port)
                    opened.callback(connection.close)
                    answered[who] += 1
            assert answered == {one.server_port: 6, other.server_port: 2}
            one.status = 500
            assert "it answers, but says False" in read_until(balancer, f":{one.server_port} is down")
            for _ in range(5):
                who, connection = answer_from(port)
                connection.close()
                assert who == other.server_port
            one.status = 200
            read_until(balancer, f":{one.server_port} is up")
            balancer.send_signal(signal.SIGTERM)
            assert balancer.wait() == 0


def test_load_balancer_lets_what_is_under_way_end(echo):
    with started("load_balancer.py", 0, f"localhost:{echo}") as balancer:
        with socket.create_connection(("127.0.0.1", port_of(balancer)), LIMIT) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            balancer.send_signal(signal.SIGINT)
            data = os.urandom(5_000_000)
            assert exchanged(sock, data) == data
        assert balancer.wait() == 0
