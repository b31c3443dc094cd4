"""The tool `ropewalk`, run as its users run it: as a process of its own, over loopback, with pipes.

Invariant: whatever goes wrong, the exit status tells, the message names what was tried, and no traceback shows.
"""

import hashlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

pytest.importorskip("click", reason="the command-line tool needs click and rich: pip install 'ropewalk[cli]'")
pytest.importorskip("rich", reason="the command-line tool needs click and rich: pip install 'ropewalk[cli]'")

from tests.real.counterparts import everything

TOOL = [sys.executable, "-m", "ropewalk"]
LIMIT = 30  # seconds after which a process that hangs fails its test; none of them takes one
ENVIRONMENT = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "PYTHONWARNINGS": "error"}


pytestmark = pytest.mark.usefixtures("interruptible")


def run(*words, input=b"", status=0, **more):
    """Run the tool to its end; stdout and stderr, after a look at the exit status."""
    done = subprocess.run(
        [*TOOL, *words], input=input, capture_output=True, timeout=LIMIT, env=ENVIRONMENT, check=False, **more
    )
    errors = done.stderr.decode()
    assert done.returncode == status, errors
    assert "Traceback" not in errors
    return done.stdout, errors


@contextmanager
def started(*words, environment=ENVIRONMENT, **more):
    """The tool as a running process with pipes; whatever happens, it is ended when the block is left."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*TOOL, *words], env=environment, **{**pipes, **more})
    guard = threading.Timer(LIMIT, process.kill)
    guard.start()
    try:
        yield process
    finally:
        guard.cancel()
        guard.join()
        if process.poll() is None:
            process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
        process.wait()


def port_of(process):
    """The port it says it listens on."""
    for line in process.stderr:
        found = re.fullmatch(r"ropewalk: listening on .*:(\d+)\n", line.decode())
        if found:
            return int(found[1])
    raise AssertionError("it ended without listening")


@contextmanager
def echo_server(*words):
    with started("listen", "127.0.0.1:0", "--echo", *words) as process:
        yield port_of(process), process


@contextmanager
def plain_server():
    """A listening socket for peers of the test's own making."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)
        yield listener, listener.getsockname()[1]


def accepted(listener):
    sock, _ = listener.accept()
    sock.settimeout(LIMIT)
    return sock


@contextmanager
def refusing_port():
    """A port that is taken, but where nobody listens: the kernel refuses."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


# --- connect and listen ------------------------------------------------------------------------------


def test_connect_to_an_echo_server_gives_back_what_stdin_held_and_ends_with_0():
    with echo_server() as (port, _):
        assert run("connect", f"127.0.0.1:{port}", input=b"hello\n") == (b"hello\n", "")


def test_connect_takes_a_name():
    with echo_server() as (port, _):
        out, _errors = run("connect", f"localhost:{port}", input=b"by name")
        assert out == b"by name"


def test_eight_megabytes_come_back_whole_through_slow_pipes():
    data = os.urandom(1 << 20) * 8
    with echo_server() as (port, _):
        out, _errors = run("connect", f"127.0.0.1:{port}", input=data)
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()


def test_a_regular_file_as_stdin_and_as_stdout(tmp_path):
    data = os.urandom(300_000)
    (tmp_path / "in").write_bytes(data)
    with (
        echo_server() as (port, _),
        open(tmp_path / "in", "rb") as source,
        open(tmp_path / "out", "wb") as sink,
    ):
        done = subprocess.run(
            [*TOOL, "connect", f"127.0.0.1:{port}"], stdin=source, stdout=sink, timeout=LIMIT, check=False
        )
    assert done.returncode == 0
    assert (tmp_path / "out").read_bytes() == data


def test_a_stdin_that_is_closed_counts_as_empty():
    with echo_server() as (port, _):
        words = " ".join([*TOOL, "connect", f"127.0.0.1:{port}"])
        done = subprocess.run(["sh", "-c", f"{words} <&-"], capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_stdout_that_is_closed_is_an_error_and_no_socket_takes_its_place():
    with plain_server() as (listener, port):
        words = " ".join([*TOOL, "connect", f"127.0.0.1:{port}"])
        with subprocess.Popen(["sh", "-c", f"exec {words} >&-"], stderr=subprocess.PIPE) as process:
            with accepted(listener) as sock:
                sock.sendall(b"to nobody")
                assert process.stderr.read() == b"ropewalk: standard output: Bad file descriptor\n"
            assert process.wait() == 1


def test_the_end_of_stdin_half_closes_and_the_peers_answer_is_still_read():
    with plain_server() as (listener, port), started("connect", f"127.0.0.1:{port}") as process:
        with accepted(listener) as sock:
            process.stdin.write(b"a question")
            process.stdin.close()
            assert everything(sock) == b"a question"  # its end has come, the connection has not ended
            sock.sendall(b"an answer, " * 1000)
        assert process.stdout.read() == b"an answer, " * 1000
        assert process.wait() == 0


def test_the_peers_end_leaves_our_direction_open_until_stdin_ends():
    with plain_server() as (listener, port), started("connect", f"127.0.0.1:{port}") as process:
        with accepted(listener) as sock:
            sock.sendall(b"that is all from here")
            sock.shutdown(socket.SHUT_WR)
            assert process.stdout.read(21) == b"that is all from here"
            process.stdin.write(b"but not from here")
            process.stdin.close()
            assert everything(sock) == b"but not from here"
        assert process.wait() == 0


def test_at_a_terminal_the_peers_end_is_the_end():
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    with plain_server() as (listener, port):
        with started("connect", f"127.0.0.1:{port}", stdin=theirs) as process, accepted(listener) as sock:
            os.close(theirs)
            os.write(ours, b"typed\n")
            assert sock.recv(6) == b"typed\n"
            sock.shutdown(socket.SHUT_WR)
            assert everything(sock) == b""
            assert process.wait() == 0
    os.close(ours)


def test_a_stdout_that_nobody_reads_for_a_while_holds_the_peer_back_and_loses_nothing():
    data = os.urandom(1 << 20) * 16
    with plain_server() as (listener, port), started("connect", f"127.0.0.1:{port}") as process:
        with accepted(listener) as sock:
            sock.settimeout(0.5)
            sent = 0
            with pytest.raises(TimeoutError):
                while sent < len(data):
                    sent += sock.send(data[sent : sent + 65536])
            # Held back: what is on the way fits into the kernel's buffers and two of ours.
            assert sent < len(data)
            sock.settimeout(LIMIT)
            rest = threading.Thread(target=lambda: (sock.sendall(data[sent:]), sock.shutdown(socket.SHUT_WR)))
            rest.start()
            process.stdin.close()
            out = process.stdout.read()
            rest.join()
        assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()
        assert process.wait() == 0


def test_a_stdout_that_was_closed_ends_the_connection_with_1_and_says_so():
    with plain_server() as (listener, port), started("connect", f"127.0.0.1:{port}") as process:
        with accepted(listener) as sock:
            process.stdout.close()
            sock.sendall(b"to nobody")
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert process.stderr.read() == b"ropewalk: standard output: Broken pipe\n"
        assert process.wait() == 1


def test_listen_joins_its_first_connection_with_stdin_and_stdout_and_refuses_a_second():
    with started("listen", "127.0.0.1:0") as process:
        port = port_of(process)
        with socket.create_connection(("127.0.0.1", port), LIMIT) as sock:
            sock.sendall(b"ping")
            assert process.stdout.read(4) == b"ping"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), LIMIT)
            process.stdin.write(b"pong")
            process.stdin.close()
            assert everything(sock) == b"pong"
        assert process.wait() == 0


def test_connect_and_listen_talk_to_each_other():
    with started("listen", "localhost:0") as server:
        port = port_of(server)
        with started("connect", f"localhost:{port}") as client:
            client.stdin.write(b"from the client")
            client.stdin.close()
            server.stdin.write(b"from the server")
            server.stdin.close()
            assert client.stdout.read() == b"from the server"
            assert server.stdout.read() == b"from the client"
            assert (client.wait(), server.wait()) == (0, 0)


def test_an_echo_server_serves_many_and_with_once_ends_after_the_first():
    with echo_server() as (port, _):
        for word in (b"one", b"two", b"three"):
            assert run("connect", f"127.0.0.1:{port}", input=word)[0] == word
    with echo_server("--once") as (port, process):
        assert run("connect", f"127.0.0.1:{port}", input=b"only")[0] == b"only"
        assert process.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_listening_tool_with_0_and_a_connected_one_with_128_and_its_number(number):
    with echo_server() as (port, server), started("connect", f"127.0.0.1:{port}") as client:
        client.stdin.write(b"x")
        client.stdin.flush()
        assert client.stdout.read(1) == b"x"  # it runs
        client.send_signal(number)
        assert client.wait() == 128 + number
        server.send_signal(number)
        assert server.wait() == 0
        assert b"Traceback" not in client.stderr.read() + server.stderr.read()


# --- when it does not work out -----------------------------------------------------------------------


def test_a_refused_connect_ends_with_1_and_names_phase_address_and_errno():
    with refusing_port() as port:
        out, errors = run("connect", f"127.0.0.1:{port}", status=1)
    assert out == b""
    assert errors.startswith("ropewalk: ") and errors.count("\n") == 1
    for word in ("while connecting", f"127.0.0.1:{port}", "ECONNREFUSED"):
        assert word in errors


def test_a_name_that_does_not_exist_ends_with_1_and_names_the_phase_and_the_name():
    _, errors = run("connect", "no-such-name.invalid:80", status=1)
    assert "while resolving" in errors
    assert "no-such-name.invalid" in errors


def test_a_timeout_ends_with_1_and_says_what_was_tried():
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        _, errors = run("connect", f"127.0.0.1:{port}", "--timeout", "0.3", status=1)
    for word in ("0.3 s", "while connecting", f"127.0.0.1:{port}"):
        assert word in errors


def test_a_reset_ends_with_1_and_says_so():
    with plain_server() as (listener, port), started("connect", f"127.0.0.1:{port}") as process:
        sock = accepted(listener)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
        assert b"ECONNRESET" in process.stderr.read()
        assert process.wait() == 1


def test_a_port_that_is_taken_ends_listen_with_1_and_names_it():
    with plain_server() as (_, port):
        _, errors = run("listen", f"127.0.0.1:{port}", status=1)
    assert f"127.0.0.1:{port}" in errors
    assert "EADDRINUSE" in errors


def test_an_address_that_is_not_ours_ends_listen_with_1():
    _, errors = run("listen", "192.0.2.1:0", status=1)
    assert "192.0.2.1" in errors


def test_an_unknown_service_ends_with_1_and_names_it():
    _, errors = run("connect", "localhost:no-such-service", status=1)
    assert "no-such-service" in errors


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["connect", "localhost"], "'localhost' has no port"),
        (["connect", "::1:80"], "brackets"),
        (["connect", "localhost:99999"], "99999"),
        (["connect", "localhost:80", "--timeout", "0"], "above 0"),
        (["connect", "localhost:80", "--timeout", "nan"], "above 0"),
        (["connect", "localhost:80", "--timeout", "soon"], "soon"),
        (["connect"], "Missing argument"),
        (["listen", "70000"], "70000"),
        (["explain", "nothing"], "'nothing' has no state table; these have: connector"),
        (["no-such-command"], "no-such-command"),
    ],
)
def test_wrong_words_end_with_2_and_a_message_that_names_them(words, says):
    out, errors = run(*words, status=2)
    assert out == b""
    assert says in errors


@pytest.mark.parametrize("missing", ["click", "rich"])
@pytest.mark.parametrize(
    "words", [["demo"], ["connect", "127.0.0.1:1"], ["--help"]], ids=lambda words: words[0]
)
def test_without_its_libraries_the_tool_says_in_one_line_how_to_get_them(tmp_path, missing, words):
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError('no {missing}', name='{missing}')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*TOOL, *words],
        env={**ENVIRONMENT, "PYTHONPATH": path},
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.decode() == (
        f"ropewalk: the command-line tool needs {missing}; get it with: pip install 'ropewalk[cli]'\n"
    )


# --- tracing and explaining --------------------------------------------------------------------------


def test_trace_tells_every_step_on_stderr_and_leaves_stdout_to_the_data():
    with echo_server("--trace") as (port, server):
        out, errors = run("connect", f"localhost:{port}", "--trace", input=b"hello")
        server.send_signal(signal.SIGINT)
        served = server.stderr.read().decode()
    assert out == b"hello"
    steps = re.findall(r"^ *[\d.]+ m?s  #1 (\w+(?: \w+)*?)  ", errors + "\n", re.MULTILINE)
    for step in (
        "connecting",
        "resolving",
        "resolved",
        "attempt started",
        "connected",
        "protocol built",
        "closed",
    ):
        assert step in steps
    assert "accepted" in served and "by the peer" in served


def test_the_timeline_as_json_is_all_of_stderr_and_explain_shows_it_again(tmp_path):
    with echo_server() as (port, _):
        _, errors = run("connect", f"127.0.0.1:{port}", "--trace-format", "json", input=b"hello")
    told = json.loads(errors)
    assert told["state"] == "closed"
    assert told["moments"][-1]["details"]["received"] == 5
    (tmp_path / "timeline").write_text(errors)
    shown, _ = run("explain", "--timeline", str(tmp_path / "timeline"))
    assert shown.decode().startswith(f"connection 1 to 127.0.0.1:{port}: closed\n")
    drawn, _ = run("explain", "--timeline", "-", "--format", "mermaid", input=errors.encode())
    assert drawn.decode().startswith("sequenceDiagram\n")
    run("explain", "--timeline", "-", input=b"{}", status=2)


def test_a_failed_connects_timeline_as_mermaid():
    with refusing_port() as port:
        _, errors = run("connect", f"127.0.0.1:{port}", "--trace-format", "mermaid", status=1)
    assert errors.startswith("sequenceDiagram\n")
    assert "clientConnectionFailed" in errors


@pytest.mark.parametrize("subject", [[], ["connector"], ["dial"], ["stream"], ["port"], ["reactor"]])
def test_explain_draws_the_engines_own_state_tables(subject):
    told = run("explain", *subject)[0].decode()
    drawn = run("explain", *subject, "--format", "mermaid")[0].decode()
    assert "(at the beginning)" in told
    assert drawn.count("stateDiagram-v2") == told.count("(at the beginning)")
    assert drawn.count("[*] --> ") == drawn.count("stateDiagram-v2")


# --- the demo ----------------------------------------------------------------------------------------


def check_demo(text):
    for word in (
        "resolved",
        "attempt started",
        "connected",
        "protocol built",
        "first byte",
        "paused",
        "received 4.0 MB, sent 4.0 MB",
        "ECONNREFUSED",
        "no answer until the timeout",
        "while connecting",
    ):
        assert word in text
    assert "Traceback" not in text


def test_the_demo_in_a_pipe_is_plain_text_that_tells_all_three_scenes():
    out, errors = run("demo")
    assert errors == ""
    text = out.decode()
    check_demo(text)
    assert "\x1b" not in text


def test_the_demo_on_a_terminal_shows_all_three_scenes_in_tables():
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "50"}
    with started("demo", stdin=theirs, stdout=theirs, stderr=theirs, environment=environment) as process:
        os.close(theirs)
        shown = bytearray()
        while select.select([ours], [], [], LIMIT)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                break  # the other end is closed: it has ended
        assert process.wait() == 0
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "made in" in text
    assert "dial.py" in text
    check_demo(text)
