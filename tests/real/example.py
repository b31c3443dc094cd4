"""The examples as processes of their own, run as a reader would run them."""

import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT = 30  # seconds after which an example that hangs fails its test


@contextmanager
def started(name, *words, limit=LIMIT):
    """The example as a running process; whatever happens, it is ended when the block is left."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-u", str(EXAMPLES / name), *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    guard = threading.Timer(limit, process.kill)
    guard.start()
    try:
        yield process
    finally:
        guard.cancel()
        guard.join()
        if process.poll() is None:
            process.kill()
        process.stdout.close()
        process.wait()


def port_of(process):
    line = process.stdout.readline()
    found = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
    assert found, line
    return int(found[1])


def read_until(process, pattern):
    """The first line that matches; the lines before it are passed over."""
    for line in process.stdout:
        if re.search(pattern, line):
            return line
    raise AssertionError(f"it ended without saying {pattern!r}")


def output_of(name, *words):
    with started(name, *words) as process:
        out = process.stdout.read()
        assert process.wait() == 0, out
    return out


@contextmanager
def serving(name, *words):
    """An example that is a server, for many tests: its process and its port.

    At the end it is asked to stop, and since it began to listen it has said nothing: there was nothing to complain about.
    """
    with started(name, *words, limit=4 * LIMIT) as process:
        yield process, port_of(process)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
        assert process.wait() == 0
