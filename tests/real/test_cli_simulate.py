"""`ropewalk simulate FILE`, run as its users run it: what is printed, which exit status, over one process and over two."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("click", reason="the command-line tool needs click and rich: pip install 'ropewalk[cli]'")
pytest.importorskip("rich", reason="the command-line tool needs click and rich: pip install 'ropewalk[cli]'")

# Why slow: it starts processes, or lives through many worlds; what differs between the CPythons is seen without it.
pytestmark = pytest.mark.slow

PROGRAM = """
from ropewalk import ClientFactory, Factory, Protocol
from ropewalk.testing import simulate

class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)

def talk(simulation):
    simulation.host("server").reactor.listenTCP(7, Factory.forProtocol(Echo))
    simulation.host("client").reactor.connectTCP("server", 7, ClientFactory.forProtocol(Protocol))
    simulation.run(until=simulation.now + 10)

@simulate(seeds=40)
def good(simulation):
    talk(simulation)

@simulate(seeds=40)
def bad(simulation):
    talk(simulation)
    assert simulation.seed not in (11, 35), "[bold]unlucky[/bold]"
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def run(*words: object, status: int = 0) -> tuple[str, str]:
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-m", "ropewalk", "simulate", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env=environment, check=False)
    assert done.returncode == status, (done.stdout, done.stderr)
    return done.stdout, done.stderr


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_shortest_failure_is_told_whatever_the_number_of_processes(program: Path, jobs: int) -> None:
    said, _ = run(program, "--jobs", jobs, status=1)
    assert re.search(r"^good: 40 seeds, none failed, \d", said, re.M)
    assert re.search(r"^  \d+ seeds/s, \d+ turns of loops$", said, re.M)
    assert "bad: 2 of 40 seeds failed; the shortest is seed 11 (also 35): " in said
    assert f"Again, just that one: ropewalk simulate {program} --only bad --seed 11" in said
    assert "at 0.000 s, client: connection 1 to server:7: open" in said
    assert "AssertionError: [bold]unlucky[/bold]" in said


def test_one_test_and_one_seed_can_be_chosen(program: Path) -> None:
    said, _ = run(program, "--only", "bad", "--seed", "12")
    assert "bad: 1 seeds, none failed" in said
    assert "good" not in said
    said, _ = run(program, "--only", "bad", "--seed", "11", status=1)
    assert "bad: 1 of 1 seeds failed; the shortest is seed 11: " in said


def test_the_number_of_seeds_can_be_chosen(program: Path) -> None:
    said, _ = run(program, "--seeds", "5")
    assert "good: 5 seeds, none failed" in said
    assert "bad: 5 seeds, none failed" in said


def test_what_cannot_be_run_is_said_in_one_line(program: Path, tmp_path: Path) -> None:
    _, wrong = run(program, "--only", "better", status=2)
    assert "no test 'better' is decorated with ropewalk.testing.simulate" in wrong
    _, wrong = run(program, "--seeds", "0", status=2)
    assert "'--seeds'" in wrong
    _, wrong = run(program, "--seeds", "3", "--seed", "3", status=2)
    assert "--seed and --seeds exclude each other" in wrong
    _, wrong = run(tmp_path / "nothing.py", status=2)
    assert "does not exist" in wrong
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name")
    _, wrong = run(broken, status=2)
    assert "cannot be imported: ModuleNotFoundError: No module named 'nothing_of_that_name'" in wrong
    fixtures = tmp_path / "fixtures.py"
    fixtures.write_text(PROGRAM.replace("def good(simulation)", "def good(simulation, tmp_path)"))
    _, wrong = run(fixtures, status=2)
    assert "good asks for tmp_path, which only pytest can give" in wrong
    leaves = tmp_path / "leaves.py"
    leaves.write_text("import sys\nsys.exit(0)\n")
    _, wrong = run(leaves, status=2)
    assert "cannot be imported: SystemExit: 0" in wrong
    methods = tmp_path / "methods.py"
    methods.write_text(
        PROGRAM + "\nclass TestThis:\n    @simulate\n    def test_it(self, simulation):\n        pass\n"
    )
    _, wrong = run(methods, status=2)
    assert "TestThis.test_it is a method, which only pytest can call" in wrong


OTHER = """
import os, sys, time
from ropewalk.testing import simulate

class Mine(Exception):
    pass

@simulate(seeds=40, allow=Mine)
def allowed(simulation):
    def boom():
        raise Mine
    simulation.host().reactor.callLater(1, boom)
    simulation.advance(2)

@simulate(seeds=40)
def leaves(simulation):
    sys.exit(0)

@simulate(seeds=40)
def skips(simulation):
    import unittest
    raise unittest.SkipTest("not today")

@simulate(seeds=40)
def dies(simulation):
    os._exit(3)

@simulate(seeds=40)
def spins(simulation):
    # Why one write: two processes do it at once, and print makes two of each.
    os.write(1, b"spinning\\n")
    while True:
        pass
"""


@pytest.fixture
def other(tmp_path: Path) -> Path:
    # Why that name: another module has it, and is imported where processes are started.
    path = tmp_path / "queue.py"
    path.write_text(OTHER)
    return path


@pytest.mark.parametrize("jobs", [1, 2])
def test_whatever_a_test_does_is_told_whatever_the_number_of_processes(other: Path, jobs: int) -> None:
    said, _ = run(other, "--jobs", jobs, "--only", "allowed")
    assert "allowed: 40 seeds, none failed" in said
    said, _ = run(other, "--jobs", jobs, "--only", "leaves", status=1)
    assert "leaves: 20 of 20 seeds failed" in said
    assert "SystemExit: 0" in said
    said, _ = run(other, "--jobs", jobs, "--only", "skips")
    assert "skips: skipped: not today" in said


def test_a_process_that_dies_is_told_in_one_line(other: Path) -> None:
    _, wrong = run(other, "--jobs", 2, "--only", "dies", status=1)
    assert re.fullmatch(r"ropewalk: dies: a process that ran its seeds has died .*; try --jobs 1\n", wrong)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_ends_a_test_that_spins_and_its_processes(other: Path, jobs: int) -> None:
    command = [
        sys.executable,
        "-m",
        "ropewalk",
        "simulate",
        str(other),
        "--jobs",
        str(jobs),
        "--only",
        "spins",
    ]
    # Why a session of its own: whoever is in it is found by it, and nobody else is.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as started:
        assert started.stdout is not None
        for _ in range(jobs):
            assert started.stdout.readline() == "spinning\n"
        started.send_signal(signal.SIGINT)
        _, wrong = started.communicate(timeout=30)
    assert started.returncode == 130
    assert "ropewalk: interrupted in spins" in wrong
    # Why a while: Python's own resource tracker ends when it finds its pipe closed.
    end = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < end:
            os.killpg(started.pid, 0)
            time.sleep(0.05)
