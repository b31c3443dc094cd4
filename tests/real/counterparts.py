"""Programs that others wrote, started by a test on loopback and ended by it.

A program that is not on this machine skips the test, with the name of Debian's package that has it; `.ci/run` installs
them all. Ports are taken from below the range from which the kernel gives ports to outgoing connections: a port that
is free now is then not taken a moment later by some connection of a test beside us.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ropewalk import Reactor

# Seconds that nothing here comes near unless it hangs.
LIMIT = 30.0
# What has each program, in Debian. Rule: the same list stands in .ci/run.
PACKAGES = {
    "redis-server": "redis-server",
    "redis-cli": "redis-tools",
    "nginx": "nginx-light",
    "nc": "netcat-openbsd",
    "curl": "curl",
    "openssl": "openssl",
    "wrk": "wrk",
    # Why not chromium: the same engine, without a desktop: 64 MB and 8 s to install instead of 124 MB and 19 s.
    "chromium-headless-shell": "chromium-headless-shell",
}


# Why no daemon and one process: the test ends what it started, by its id.
NGINX = """
daemon off;
master_process off;
{user}
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 200m;
    sendfile on;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
        {uploads}
    }}
}}
"""


def program(name: str, *others: str) -> str:
    """The path of the program, or of the first of others that do as well; or the test is skipped."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    for each in (name, *others):
        found = shutil.which(each, path=path)
        if found is not None:
            return found
    pytest.skip(f"{name} is not installed: apt-get install {PACKAGES[name]}")


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    for _ in range(100):
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port found")


class Child:
    """A process of the test's own; it works in the folder in which its output goes."""

    def __init__(self, command: Sequence[str], output: Path, stdin: int | None = None) -> None:
        self.output = output
        with output.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=log,
                stderr=log,
                cwd=output.parent,
            )

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def wait_until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT
        while not condition():
            assert self.process.poll() is None, f"{self.process.args!r} ended:\n{self.said()}"
            assert time.monotonic() < end, f"{self.process.args!r} is not ready:\n{self.said()}"
            time.sleep(0.01)

    def listens_on(self, port: int) -> None:
        """Wait until it accepts connections."""

        def accepts() -> bool:
            try:
                socket.create_connection(("127.0.0.1", port), LIMIT).close()
            except ConnectionRefusedError:
                return False
            return True

        self.wait_until(accepts)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it, by its id; gives its exit status."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(LIMIT)


def run(reactor: Reactor, seconds: float = LIMIT) -> None:
    """Run it until it is stopped; a test that forgets to, or waits in vain, fails."""
    limit = reactor.callLater(seconds, reactor.crash)
    try:
        reactor.run(installSignalHandlers=False)
        assert limit.active(), f"not stopped within {seconds} s"
    finally:
        if limit.active():
            limit.cancel()


def run_python(text: str, *arguments: str, seconds: float = 60.0) -> str:
    """Run a program on this very Python, warnings being errors; gives what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", text, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def takes_uploads(path: str) -> bool:
    told = subprocess.run([path, "-V"], capture_output=True, text=True, timeout=LIMIT, check=True)
    return "http_dav_module" in told.stderr


def start_nginx(start: Callable[..., Child], folder: Path, port: int) -> Child:
    """An nginx on that port of 127.0.0.1; it serves, and takes if it can, the files in `folder/files`."""
    path = program("nginx")
    user = "user root;" if os.getuid() == 0 else ""
    uploads = "location /put/ { dav_methods PUT; create_full_put_path on; }" if takes_uploads(path) else ""
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder, port=port, user=user, uploads=uploads))
    child = start(path, "-c", str(file), "-p", str(folder), "-e", "stderr")
    child.listens_on(port)
    return child


def everything(sock: socket.socket) -> bytes:
    """What comes until the end of its stream."""
    chunks = []
    while chunk := sock.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


def exchanged(sock: socket.socket, data: bytes) -> bytes:
    """Send the data and its end, while everything that comes back is read."""

    def send() -> None:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    writer = threading.Thread(target=send)
    writer.start()
    came_back = everything(sock)
    writer.join()
    return came_back


def sent_until_held_back(sock: socket.socket, piece: bytes = bytes(65536)) -> int:
    """Send until nothing is taken for half a second. Returns: how many bytes were."""
    sock.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 200_000_000:
            sent += sock.send(piece)
    sock.settimeout(LIMIT)
    return sent
