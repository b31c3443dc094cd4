"""`ropewalk proxy` as its users run it: in front of two real nginx, killed, restarted and drained.

Invariant: a client whose target fails before a byte was carried notices nothing, and nothing that is carried changes.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest

from tests.real.counterparts import (
    LIMIT,
    Child,
    everything,
    exchanged,
    free_port,
    sent_until_held_back,
    start_nginx,
)

pytest.importorskip("click", reason="the command-line tool needs click and rich: pip install 'ropewalk[cli]'")
pytest.importorskip("rich", reason="the command-line tool needs click and rich: pip install 'ropewalk[cli]'")

Start = Callable[..., Child]


class Command:
    """A `ropewalk proxy` on a free port of 127.0.0.1."""

    def __init__(self, start: Start, *words: str) -> None:
        self.child = start(sys.executable, "-W", "error", "-m", "ropewalk", "proxy", "127.0.0.1:0", *words)
        listening = re.compile(r"ropewalk: listening on 127\.0\.0\.1:(\d+)\n")
        self.child.wait_until(lambda: listening.search(self.child.said()) is not None)
        found = listening.search(self.child.said())
        assert found
        self.address = ("127.0.0.1", int(found[1]))

    def says(self, text: str, times: int = 1) -> None:
        """Wait until it has said that."""
        self.child.wait_until(lambda: self.child.said().count(text) >= times)

    def signalled(self) -> None:
        self.child.process.send_signal(signal.SIGTERM)

    def ended(self) -> str:
        """Wait until it has ended well; gives what it said."""
        assert self.child.process.wait(LIMIT) == 0, self.child.said()
        assert "Traceback" not in self.child.said(), self.child.said()
        return self.child.said()

    def connection(self) -> socket.socket:
        return socket.create_connection(self.address, LIMIT)

    def refuses(self) -> bool:
        """Whether nobody can connect any more."""
        try:
            self.connection().close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass  # Safe because: it was in the queue of the port when that was closed; the next one is refused.
        return False

    def get(self, name: str = "name") -> bytes:
        """The body of a file that a target serves."""
        with self.connection() as sock:
            sock.sendall(b"GET /%s HTTP/1.0\r\n\r\n" % name.encode())
            head, _, body = everything(sock).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        return body


class Nginx:
    """A web server that serves its own name, and may be killed and started again."""

    def __init__(self, start: Start, folder: Path, name: bytes) -> None:
        self._start = start
        self._folder = folder
        (folder / "files").mkdir(parents=True)
        (folder / "files" / "name").write_bytes(name)
        self.port = free_port()
        self.place = f"127.0.0.1:{self.port}"
        self.run()

    def run(self) -> None:
        self.child = start_nginx(self._start, self._folder, self.port)

    def kill(self) -> None:
        self.child.end(signal.SIGKILL)


@pytest.fixture
def two(start: Start, tmp_path: Path) -> list[Nginx]:
    return [Nginx(start, tmp_path / name, name.encode()) for name in ("one", "other")]


class Echo(BaseRequestHandler):
    """Sends back what comes, until its end, or until the connection breaks."""

    def handle(self) -> None:
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except OSError:
            pass  # Safe because: it is the test that breaks connections, and looks at the other side of the proxy.


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that echoes, in a thread of ours."""
    with ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def silent() -> Iterator[tuple[socket.socket, str]]:
    """A target of the test's own making, that does what the test says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)
        yield listener, f"127.0.0.1:{listener.getsockname()[1]}"


# ---- in front of two nginx ------------------------------------------------------------------------------------


def test_both_targets_are_used_in_turn(start: Start, two: list[Nginx]) -> None:
    proxy = Command(start, *(each.place for each in two))
    assert Counter(proxy.get() for _ in range(10)) == {b"one": 5, b"other": 5}


def test_a_target_that_is_killed_costs_no_client_an_error_and_comes_back_when_it_is_restarted(
    start: Start, two: list[Nginx]
) -> None:
    one, other = two
    proxy = Command(start, one.place, other.place, "--check", "1")
    assert {proxy.get() for _ in range(4)} == {b"one", b"other"}
    one.kill()
    assert {proxy.get() for _ in range(20)} == {b"other"}
    proxy.says(f"ropewalk: {one.place} is down: ")
    one.run()
    proxy.says(f"ropewalk: {one.place} is up\n")
    assert Counter(proxy.get() for _ in range(10)) == {b"one": 5, b"other": 5}
    proxy.signalled()
    assert "ECONNREFUSED" in proxy.ended()


def test_without_checks_a_target_that_is_killed_is_known_by_the_first_connect_that_fails(
    start: Start, two: list[Nginx]
) -> None:
    one, other = two
    proxy = Command(start, one.place, other.place)
    one.kill()
    assert {proxy.get() for _ in range(10)} == {b"other"}
    assert proxy.child.said().count("is down") == 1
    # With nobody else left, whoever answers is taken, marked or not.
    one.run()
    other.kill()
    assert {proxy.get() for _ in range(10)} == {b"one"}
    proxy.says(f"ropewalk: {one.place} is up\n")


def test_a_download_under_way_when_it_is_told_to_end_is_finished_and_whole(
    start: Start, two: list[Nginx], tmp_path: Path
) -> None:
    content = os.urandom(32 << 20)
    for name in ("one", "other"):
        (tmp_path / name / "files" / "large").write_bytes(content)
    proxy = Command(start, *(each.place for each in two))
    with proxy.connection() as sock:
        sock.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        began = sock.recv(65536)
        proxy.signalled()
        proxy.says("draining 1 connection, 30 s at most; a second signal ends it at once\n")
        proxy.child.wait_until(proxy.refuses)
        _, _, body = (began + everything(sock)).partition(b"\r\n\r\n")
    assert hashlib.sha256(body).digest() == hashlib.sha256(content).digest()
    assert proxy.ended().endswith("ropewalk: drained: 1 of 1 ended by themselves\n")


# ---- how it ends ----------------------------------------------------------------------------------------------


def test_what_has_not_ended_in_time_is_aborted(start: Start, echo: str) -> None:
    proxy = Command(start, echo, "--drain", "2")
    with proxy.connection() as lazy, proxy.connection() as quick:
        for sock in (lazy, quick):
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        proxy.signalled()
        proxy.says("draining 2 connections, 2 s at most")
        assert exchanged(quick, b"still carried") == b"still carried"
        with pytest.raises(ConnectionResetError):
            lazy.recv(1)
    assert "drained: 1 of 2 ended by themselves" in proxy.ended()


def test_a_second_signal_ends_it_at_once(start: Start, echo: str) -> None:
    proxy = Command(start, echo, "--drain", "1000")
    with proxy.connection() as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        proxy.signalled()
        proxy.says("draining 1 connection")
        proxy.signalled()
        assert "drained: 0 of 1 ended by themselves" in proxy.ended()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_with_nobody_connected_it_ends_without_a_word(start: Start, echo: str) -> None:
    proxy = Command(start, echo)
    proxy.signalled()
    assert len(proxy.ended().splitlines()) == 1


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_drains_as_well(start: Start, echo: str) -> None:
    proxy = Command(start, echo)
    with proxy.connection() as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        proxy.child.process.send_signal(signal.SIGINT)
        proxy.says("draining 1 connection")
        assert exchanged(sock, b"more") == b"more"
    assert "drained: 1 of 1" in proxy.ended()


def test_a_port_that_is_taken_is_exit_status_1_and_named(
    start: Start, silent: tuple[socket.socket, str]
) -> None:
    _, place = silent
    child = start(sys.executable, "-m", "ropewalk", "proxy", place, "localhost:80")
    assert child.process.wait(LIMIT) == 1
    assert re.fullmatch(r"ropewalk: .*127\.0\.0\.1.*EADDRINUSE.*\n", child.said())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["8080"], "Missing argument"),
        (["8080", "localhost:80", "nowhere"], "'nowhere' has no port"),
        (["8080", "localhost:gibtsnicht"], "no TCP service is called 'gibtsnicht'"),
        (["8080", "localhost:0"], "nothing can be reached at port 0"),
        (["nowhere:", "localhost:80"], "'nowhere:' has no port"),
        (["8080", "localhost:80", "--check", "0"], "0.0 is not a number of seconds above 0"),
        (["8080", "localhost:80", "--max-connections", "0"], "0 is not in the range"),
        (["8080", "localhost:80", "--idle", "nan"], "nan is not a number of seconds above 0"),
        (["8080", "localhost:80", "--balance", "most"], "'most' is not one of"),
    ],
)
def test_words_that_make_no_sense_are_exit_status_2_and_named(words: list[str], said: str) -> None:
    from click.testing import CliRunner

    from ropewalk.cli.command import ropewalk

    done = CliRunner().invoke(ropewalk, ["proxy", *words])
    assert done.exit_code == 2
    assert said in done.output


# ---- what is carried ------------------------------------------------------------------------------------------


def test_both_directions_are_carried_whole_and_each_end_is_handed_on(start: Start, echo: str) -> None:
    data = os.urandom(5_000_000)
    with Command(start, echo).connection() as sock:
        assert exchanged(sock, data) == data


def test_a_client_whose_target_does_not_read_is_held_back(
    start: Start, silent: tuple[socket.socket, str]
) -> None:
    listener, place = silent
    with Command(start, place).connection() as client:
        accepted, _ = listener.accept()
        with accepted:
            sent = sent_until_held_back(client)
            accepted.settimeout(LIMIT)
            client.shutdown(socket.SHUT_WR)
            assert len(everything(accepted)) == sent


def test_a_reset_is_handed_on(start: Start, silent: tuple[socket.socket, str]) -> None:
    listener, place = silent
    with Command(start, place).connection() as client:
        client.sendall(b"x")
        accepted, _ = listener.accept()
        assert accepted.recv(1) == b"x"
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        accepted.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_client_for_whom_there_is_no_target_is_reset(start: Start, refusing: int) -> None:
    place = f"127.0.0.1:{refusing}"
    proxy = Command(start, place)
    # Why connecting is inside: on a busy machine the reset is there before the kernel's "connected" was read.
    with pytest.raises(ConnectionResetError):
        with proxy.connection() as client:
            client.recv(1)
    proxy.says(f"ropewalk: {place} is down: the other side refused the connection (ECONNREFUSED)")


def test_at_most_so_many_clients_are_carried_and_the_next_one_waits(start: Start, echo: str) -> None:
    proxy = Command(start, echo, "--max-connections", "1")
    with proxy.connection() as first, proxy.connection() as second:
        first.sendall(b"1")
        second.sendall(b"2")
        assert first.recv(1) == b"1"
        second.settimeout(0.2)
        with pytest.raises(TimeoutError):
            second.recv(1)
        second.settimeout(LIMIT)
        first.close()
        assert second.recv(1) == b"2"


@pytest.mark.parametrize("is_half_closed", [False, True])
def test_with_idle_who_says_nothing_is_closed_and_gives_its_place_to_the_next(
    start: Start, silent: tuple[socket.socket, str], is_half_closed: bool
) -> None:
    listener, place = silent
    proxy = Command(start, place, "--idle", "0.5", "--max-connections", "1")
    with proxy.connection() as first, proxy.connection() as second:
        second.sendall(b"2")
        accepted, _ = listener.accept()
        with accepted:
            first.settimeout(LIMIT)
            if is_half_closed:
                first.shutdown(socket.SHUT_WR)
                accepted.settimeout(LIMIT)
                assert accepted.recv(1) == b""
            assert first.recv(1) == b""
        # Its place is free now.
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(LIMIT)
            assert accepted.recv(1) == b"2"


def test_least_connections_goes_where_the_fewest_are(start: Start, two: list[Nginx]) -> None:
    one, other = two
    # Why the other one twice: while one connection of it is still ending there is one that is free.
    proxy = Command(start, one.place, other.place, other.place, "--balance", "least")
    with proxy.connection() as kept:
        kept.sendall(b"GET /name HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.recv(1)
        assert {proxy.get() for _ in range(6)} == {b"other"}


def test_every_step_is_told_if_that_is_wanted(start: Start, echo: str) -> None:
    proxy = Command(start, echo, "--trace")
    with proxy.connection() as sock:
        assert exchanged(sock, b"x") == b"x"
    for step in ("accepted", "attempt started", "connected", "first byte", "read side ended", "closed"):
        proxy.says(step)
