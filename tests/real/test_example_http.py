"""examples/http_server.py and http_client.py, with curl, wrk and nginx at the other end, and with each other."""

import hashlib
import os
import re
import select
import socket
import subprocess
import sys

import pytest

from tests.real.counterparts import LIMIT, everything, free_port, program, sent_until_held_back, start_nginx
from tests.real.example import EXAMPLES, serving

LARGE = hashlib.shake_256(b"five megabytes").digest(5_000_000)
SHORT = 0.3  # seconds that the server is patient, where a test waits for its end


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the server serves."""
    outside = tmp_path_factory.mktemp("outside")
    folder = outside / "served"
    folder.mkdir()
    (folder / "index.html").write_text("<p>welcome</p>\n")
    (folder / "hello.txt").write_text("hello\n")
    (folder / "large.bin").write_bytes(LARGE)
    (outside / "secret").write_text("not for you\n")
    (folder / "way out").symlink_to(outside / "secret")
    (folder / "in a circle").symlink_to(folder / "in a circle")
    return folder


@pytest.fixture(scope="module")
def port(folder):
    with serving("http_server.py", folder, 0) as (_, port):
        yield port


@pytest.fixture(scope="module")
def hasty(folder):
    """The port of a server that waits only SHORT seconds."""
    with serving("http_server.py", folder, 0, SHORT) as (_, port):
        yield port


def curl(*words, data=None):
    done = subprocess.run(
        [program("curl"), "--silent", "--show-error", "--max-time", "20", *words],
        input=data,
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def connected(port, data=b""):
    sock = socket.create_connection(("127.0.0.1", port), LIMIT)
    sock.sendall(data)
    return sock


def asked(port, data):
    """All that is answered to these bytes, until the server closes."""
    with connected(port, data) as sock:
        return everything(sock)


def client(*words):
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "http_client.py"), *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )


# ---- the server -----------------------------------------------------------------------------------------------------


def test_curl_gets_a_file_whole_and_its_head_alone(port):
    url = f"http://127.0.0.1:{port}"
    assert curl(f"{url}/large.bin") == LARGE
    assert curl(f"{url}/") == b"<p>welcome</p>\n"
    head = curl("--head", f"{url}/large.bin").decode()
    assert head.startswith("HTTP/1.1 200 ")
    assert "Content-Length: 5000000\r\n" in head and "Content-Type: application/octet-stream\r\n" in head


@pytest.mark.parametrize("how", [["Transfer-Encoding: chunked"], ["Expect: 100-continue"], []])
def test_curl_posts_a_body_however_it_is_sent(port, how):
    headers = [word for each in how for word in ("--header", each)]
    told = curl(*headers, "--data-binary", "@-", f"http://127.0.0.1:{port}/", data=LARGE).decode()
    assert told == f"5000000 bytes, SHA-256 {hashlib.sha256(LARGE).hexdigest()}\n"


def test_curl_makes_two_requests_on_one_connection(port):
    url = f"http://127.0.0.1:{port}/hello.txt"
    assert curl("--write-out", "%{num_connects} connections made\n", url, url).decode() == (
        "hello\n1 connections made\nhello\n0 connections made\n"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/../secret",
        "/%2e%2e/secret",
        "/way%20out",
        "/in%20a%20circle",
        "/hello.txt/more",
        "/%00",
        "/%ff",
        "/" + "a" * 300,
    ],
)
def test_what_is_not_a_file_of_the_folder_is_404(port, path):
    url = f"http://127.0.0.1:{port}{path}"
    assert curl("--path-as-is", "--write-out", "%{http_code}", url) == b"no such file\n404"


def test_another_method_is_405_and_the_connection_goes_on(port):
    url = f"http://127.0.0.1:{port}/hello.txt"
    told = curl("--include", "--request", "DELETE", url, "--next", "--silent", url).decode()
    assert (
        told.startswith("HTTP/1.1 405 ") and "Allow: GET, HEAD, POST\r\n" in told and told.endswith("hello\n")
    )


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"this is not HTTP\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
def test_what_is_not_HTTP_is_answered_with_its_status_and_closed_in_order(port, data, status):
    """In order, though much is still to be read: a reset would take the answer away from the client."""
    with connected(port, data + bytes(200_000)) as sock:
        told = b""
        while b"\r\n\r\n" not in told:
            told += sock.recv(65536)
        sock.shutdown(socket.SHUT_WR)
        told += everything(sock)
    assert told.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close\r\n" in told


def test_a_body_that_is_cut_short_is_400(port):
    with connected(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf") as sock:
        sock.shutdown(socket.SHUT_WR)
        assert everything(sock).startswith(b"HTTP/1.1 400 ")


def test_what_follows_a_request_and_is_not_HTTP_is_400_too(port):
    """Also behind a HEAD, whose answer has no body: this one has."""
    with connected(port, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nthis is not HTTP\r\n\r\n") as sock:
        sock.shutdown(socket.SHUT_WR)
        first, second, body = everything(sock).split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 ") and second.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nContent-Length: %d" % len(body) in second


def test_requests_that_are_sent_ahead_are_answered_in_their_order(port):
    requests = [
        b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /large.bin HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /hello.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ]
    told = asked(port, b"".join(requests))
    parts = re.split(rb"HTTP/1.1 (\d+) \r\n.*?\r\n\r\n", told, flags=re.DOTALL)
    assert parts[1::2] == [b"200", b"200", b"200", b"404", b"200"]
    digest = hashlib.sha256(b"abc").hexdigest().encode()
    assert parts[::2] == [
        b"",
        LARGE,
        b"",
        b"3 bytes, SHA-256 " + digest + b"\n",
        b"no such file\n",
        b"hello\n",
    ]


def test_who_asks_and_does_not_read_is_not_read_from_and_does_no_harm(port):
    request = b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n" * 1000
    with connected(port) as greedy:
        sent_until_held_back(greedy, request)
        assert asked(port, b"GET /hello.txt HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nhello\n")


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "a request, and no other"],
)
def test_who_says_nothing_for_too_long_is_closed(hasty, begun):
    answered = asked(hasty, begun)
    assert answered.endswith(b"<p>welcome</p>\n" if begun.endswith(b"\r\n\r\n") else b"")


def test_who_takes_nothing_for_too_long_is_let_go(hasty):
    with socket.socket() as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.settimeout(LIMIT)
        greedy.connect(("127.0.0.1", hasty))
        greedy.sendall(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
        broken = select.poll()
        broken.register(greedy, 0)  # errors alone
        assert broken.poll(LIMIT * 1000)
        with pytest.raises(ConnectionResetError):
            everything(greedy)


@pytest.mark.slow
def test_wrk_finds_no_fault(port, figure):
    command = [program("wrk"), "--threads", "1", "--connections", "20", "--duration", "1s"]
    url = f"http://127.0.0.1:{port}/hello.txt"
    told = subprocess.run([*command, url], capture_output=True, text=True, timeout=LIMIT, check=True).stdout
    assert "Socket errors" not in told and "Non-2xx" not in told
    found = re.search(r"Requests/sec: *([\d.]+)", told)
    assert found and float(found[1]) > 0, told
    figure(f"examples/http_server.py under wrk: {float(found[1]):.0f} requests/s")


# ---- the client -----------------------------------------------------------------------------------------------------


def test_the_client_fetches_a_large_file_of_nginx_to_stdout_and_into_a_file(start, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    data = os.urandom(1 << 20) * 50
    (files / "large").write_bytes(data)
    nginx = free_port()
    start_nginx(start, tmp_path, nginx)
    url = f"http://localhost:{nginx}/large"
    done = client(url)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data
    here = tmp_path / "fetched"
    done = client(url, here)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert here.read_bytes() == data


def test_the_client_and_the_server_understand_each_other(port):
    done = client(f"http://localhost:{port}/large.bin")
    assert (done.returncode, done.stdout, done.stderr) == (0, LARGE, b"")


def test_the_client_says_why_there_is_nothing(port, tmp_path):
    here = tmp_path / "fetched"
    url = f"http://localhost:{port}/nothing"
    done = client(url, here)
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (
        1,
        "",
        f"{url}: answered with 404\n",
    )
    assert not list(tmp_path.glob("fetched*"))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://localhost/", "the URL must begin with http:// and a host"),
        ("http://localhost:many/", "Port could not be cast"),
        ("http://localhost/a b", "Illegal target characters"),
        ("http://127.0.0.1:{refusing}/", "ECONNREFUSED"),
    ],
)
def test_the_client_tells_in_one_line_what_cannot_be_fetched(refusing, url, why):
    done = client(url.format(refusing=refusing))
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1 and why in lines[0]


@pytest.mark.parametrize("cut", ["by its end", "by a reset"])
def test_an_answer_that_is_cut_short_leaves_no_file(tmp_path, cut):
    here = tmp_path / "fetched"
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        command = [sys.executable, "-W", "error", str(EXAMPLES / "http_client.py"), url, str(here)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            accepted, _ = server.accept()
            with accepted:
                while b"\r\n\r\n" not in accepted.recv(65536, socket.MSG_PEEK):
                    pass
                if cut == "by its end":
                    accepted.recv(65536)  # closing with this unread would be a reset
                accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                if cut == "by a reset":
                    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            told = process.stderr.read()
            assert process.wait(LIMIT) == 1
    assert told.startswith(f"{url}: ") and len(told.splitlines()) == 1
    assert not list(tmp_path.glob("fetched*"))


def test_the_client_reads_no_faster_than_it_can_write():
    """Into a pipe that nobody reads: the server is held back, and the client has not grown."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        command = [sys.executable, "-W", "error", str(EXAMPLES / "http_client.py"), url]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            accepted, _ = server.accept()
            with accepted:
                accepted.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                sent = sent_until_held_back(accepted)
                accepted.shutdown(socket.SHUT_WR)
                assert len(process.stdout.read()) == sent
                assert process.wait(LIMIT) == 0
