"""Child processes: started on a core, waited for with a limit, measured from outside, ended by their id.

Every child is the harness's own: it is pinned before it runs its first instruction, may open as many
descriptors as the system allows, and dies with the harness even if that is killed. Whatever happens inside a
`with` block, its child is gone afterwards.

Why one core for the server and another for the load: an engine here runs on one thread; what it can do is
what one core can do, and a generator on the same core would be part of the figure.
Source: Linux only (sched_setaffinity, prctl, /proc, the CPU clock of another process).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
BUILD = HERE / ".build"
PEERS = HERE / "peers"
START_LIMIT = 20.0
END_LIMIT = 2.0
PR_SET_PDEATHSIG = 1  # Source: prctl(2)

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class BenchmarkError(Exception):
    """A child did not do what it was started for; the message says which and what it said."""


def choose_cores() -> tuple[int, int]:
    """Returns the server's core and the load's: the first allowed, and the first that is no sibling of it."""
    allowed = sorted(os.sched_getaffinity(0))
    first = allowed[0]
    siblings = Path(f"/sys/devices/system/cpu/cpu{first}/topology/thread_siblings_list")
    shared = _expand(siblings.read_text()) if siblings.exists() else {first}
    others = [core for core in allowed if core not in shared] or allowed[1:] or [first]
    return first, others[0]


def _expand(text: str) -> set[int]:
    """'0,4-6' → {0, 4, 5, 6}"""
    cores: set[int] = set()
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        cores.update(range(int(low), int(high or low) + 1))
    return cores


def compile_native() -> bool:
    """Compiles what is newer than its binary. Returns False when there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return False
    BUILD.mkdir(exist_ok=True)
    for source in sorted((HERE / "native").glob("*.c")):
        target = BUILD / source.stem
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(target), str(source)]
            subprocess.run(command, check=True, timeout=60)
    return True


def peer_command(program: str, engine: str, *arguments: object) -> list[str]:
    """The command of one program of peers/ on one engine, run by this very interpreter."""
    return [sys.executable, str(PEERS / f"{program}.py"), engine, *map(str, arguments)]


def loader_command(mode: str, **settings: object) -> list[str]:
    return [str(BUILD / "loader"), mode, *(f"{name}={value}" for name, value in settings.items())]


def _start(command: Sequence[str], core: int, **pipes: Any) -> subprocess.Popen[bytes]:
    def prepare() -> None:
        os.sched_setaffinity(0, {core})
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    # Safe because: the harness has one thread.
    pipes |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, preexec_fn=prepare, **pipes)  # noqa: PLW1509


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(END_LIMIT)
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def _said(child: subprocess.Popen[bytes]) -> str:
    """The last line on a dead child's stderr; for a live one, that it lives."""
    if child.poll() is None:
        return "still running, and silent"
    assert child.stderr is not None
    lines = child.stderr.read().decode(errors="replace").strip().splitlines()
    return f"exit status {child.returncode}: {lines[-1] if lines else 'no message'}"


def _read_line(child: subprocess.Popen[bytes], stream: IO[bytes], limit: float) -> bytes:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        if not selector.select(limit):
            return b""
        return stream.readline()


@contextmanager
def serving(command: Sequence[str], core: int) -> Iterator[tuple[int, int]]:
    """Runs a server; gives its process id and the port that it announced."""
    child = _start(command, core, stdin=subprocess.DEVNULL)
    try:
        assert child.stdout is not None
        words = _read_line(child, child.stdout, START_LIMIT).split()
        if len(words) != 2 or words[0] != b"port":
            raise BenchmarkError(f"{_title(command)} announced no port ({_said(child)})")
        yield child.pid, int(words[1])
        if child.poll() is not None:
            raise BenchmarkError(f"{_title(command)} died under load ({_said(child)})")
    finally:
        _end(child)


@contextmanager
def holding(command: Sequence[str], core: int, limit: float) -> Iterator[None]:
    """Runs a loader that keeps something up until it is ended; the block runs once it says that it does."""
    child = _start(command, core, stdin=subprocess.PIPE)
    try:
        assert child.stdout is not None
        if not _read_line(child, child.stdout, limit):
            raise BenchmarkError(f"{_title(command)} did not get ready ({_said(child)})")
        yield
    finally:
        _end(child)


def run(command: Sequence[str], core: int, limit: float) -> str:
    """Runs a command to its end; returns what it printed."""
    child = _start(command, core, stdin=subprocess.DEVNULL)
    try:
        out, errors = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{_title(command)} took longer than {limit:.0f} s") from None
    finally:
        _end(child)
    if child.returncode:
        last = (errors.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise BenchmarkError(f"{_title(command)}: exit status {child.returncode}: {last}")
    return out.decode()


def run_json(command: Sequence[str], core: int, limit: float) -> dict[str, float]:
    """Runs a command that prints one JSON object of figures."""
    answer: dict[str, float] = json.loads(run(command, core, limit))
    return answer


def _title(command: Sequence[str]) -> str:
    """A command as a person calls it: no interpreter, no folders."""
    words = [Path(word).name if "/" in word else word for word in command]
    return " ".join(words[1:] if words[0].startswith("python") else words)


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process, to the nanosecond.

    Source: Linux, include/linux/posix-timers.h: the clock's number is the inverted id, shifted, low bits 2.
    /proc/PID/stat would give the same in steps of 10 ms.
    """
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    """What of a process is in memory now.

    Rejected: statm, whose counters may lag by some pages for each thread.
    """
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise BenchmarkError("smaps_rollup has no Rss")


class Watch:
    """Tells how much of the machine others used since it was made: 0.0 is a quiet one.

    What is at work in the whole machine, less what this process, its ended children and the servers that still run
    used. Why: a rate that was measured while something else ran says little, and nobody sees it in the figure.
    Source: proc_stat(5): the first line, in ticks; the fourth and fifth figure are idle time.
    """

    def __init__(self, servers: Sequence[int]) -> None:
        self._servers = servers
        self._start = self._read()

    def _read(self) -> tuple[float, float, float]:
        ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        second = os.sysconf("SC_CLK_TCK")
        idle = ticks[3] + ticks[4]
        own = sum(os.times()[:4]) + sum(map(cpu_seconds, self._servers))
        return sum(ticks) / second, idle / second, own

    def others(self) -> float:
        total, idle, own = (now - then for now, then in zip(self._read(), self._start, strict=True))
        return max(0.0, (total - idle - own) / total) if total else 0.0


def page_faults(pid: int) -> int:
    """How often a process touched memory that the kernel had yet to give it.

    Why counted: an engine that asks the allocator for a large buffer at each read may have it handed back to
    the system and fetched again for every message; then much of its time is this, and its rate needs explaining.
    Source: proc_pid_stat(5), field 10.
    """
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return int(after_name.split()[7])
