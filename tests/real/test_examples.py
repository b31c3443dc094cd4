"""The examples do what their first lines say, run as processes of their own, as a reader would run them."""

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.real.example import EXAMPLES, LIMIT, output_of, port_of, read_until, started

pytestmark = pytest.mark.usefixtures("interruptible")


def everything(sock):
    chunks = []
    while chunk := sock.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


def exchanged(sock, data):
    """Send the data and its end, while everything that comes back is read."""

    def send():
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    writer = threading.Thread(target=send)
    writer.start()
    came_back = everything(sock)
    writer.join()
    return came_back


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


def test_proxy_carries_both_directions_whole_and_hands_on_each_end(echo):
    data = os.urandom(5_000_000)
    with started("proxy.py", 0, "localhost", echo) as proxy:
        with socket.create_connection(("127.0.0.1", port_of(proxy)), LIMIT) as sock:
            assert exchanged(sock, data) == data


def test_proxy_holds_back_a_client_whose_target_does_not_read():
    with socket.create_server(("127.0.0.1", 0)) as target:
        with started("proxy.py", 0, "127.0.0.1", target.getsockname()[1]) as proxy:
            with socket.create_connection(("127.0.0.1", port_of(proxy)), LIMIT) as client:
                accepted, _ = target.accept()
                with accepted:
                    client.settimeout(0.5)
                    sent = 0
                    with pytest.raises(TimeoutError):
                        while sent < 200_000_000:
                            sent += client.send(bytes(65536))
                    accepted.settimeout(LIMIT)
                    client.settimeout(LIMIT)
                    client.shutdown(socket.SHUT_WR)
                    assert len(everything(accepted)) == sent


def test_proxy_sends_a_client_away_whose_target_is_not_there(refusing):
    with started("proxy.py", 0, "127.0.0.1", refusing) as proxy:
        # Why connecting is inside: on a busy machine the reset is there before the kernel's "connected" was read.
        with pytest.raises(ConnectionResetError):
            with socket.create_connection(("127.0.0.1", port_of(proxy)), LIMIT) as client:
                client.recv(1)
        assert "ECONNREFUSED" in read_until(proxy, "^no target: ")


def test_proxy_hands_on_a_reset():
    with socket.create_server(("127.0.0.1", 0)) as target:
        with started("proxy.py", 0, "127.0.0.1", target.getsockname()[1]) as proxy:
            with socket.create_connection(("127.0.0.1", port_of(proxy)), LIMIT) as client:
                client.sendall(b"x")
                accepted, _ = target.accept()
                assert accepted.recv(1) == b"x"
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                accepted.close()
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
