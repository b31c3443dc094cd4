"""The pytest plugin, as its users meet it: in a pytest of their own, in a folder of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

# Why slow: it starts processes, or lives through many worlds; what differs between the CPythons is seen without it.
pytestmark = pytest.mark.slow

PROGRAM = """
import pytest
from ropewalk import ClientFactory, Factory, Protocol
from ropewalk.testing import simulate

class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)

def talk(simulation):
    simulation.host("server").reactor.listenTCP(7, Factory.forProtocol(Echo))
    simulation.host("client").reactor.connectTCP("server", 7, ClientFactory.forProtocol(Protocol))
    simulation.run(until=simulation.now + 10)

def test_with_one_world(simulation, request):
    talk(simulation)
    print("the seed is", simulation.seed)

@simulate(seeds=30)
def test_with_many(simulation, tmp_path, number=7):
    talk(simulation)
    with open(tmp_path / "seeds", "a") as seeds:
        print(simulation.seed, file=seeds)
    print("so far:", *(tmp_path / "seeds").read_text().split())

@simulate(seeds=30)
def test_that_fails(simulation):
    talk(simulation)
    left = simulation.seed % 10
    assert left != 7

@simulate(seeds=5)
def test_that_is_skipped(simulation):
    pytest.skip("not today")

@simulate(seeds=5)
def test_that_calls_fail(simulation):
    if simulation.seed == 3:
        pytest.fail("by name")

class TestMethods:
    @pytest.mark.parametrize("bad", [1, 2])
    @simulate(seeds=3)
    def test_a_method(self, simulation, bad):
        assert simulation.seed != bad

@simulate(seeds=3)
async def test_a_coroutine(simulation):
    from ropewalk import Deferred
    later = Deferred()
    simulation.host().reactor.callLater(1000, later.callback, 5)
    assert await later == 5
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "test_program.py"
    path.write_text(PROGRAM)
    return path


def run(program: Path, *words: str) -> str:
    """What pytest says, warnings being errors."""
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", program.name, *words]
    done = subprocess.run(
        command, cwd=program.parent, capture_output=True, text=True, timeout=50, check=False
    )
    assert not done.stderr, done.stderr
    return done.stdout


def test_each_test_runs_in_its_worlds_and_the_report_tells_the_shortest(program: Path) -> None:
    said = run(program, "-rA")
    assert re.search(r"4 failed, 3 passed, 1 skipped", said), said
    assert "the seed is 0" in said
    assert f"so far: {' '.join(map(str, range(30)))}\n" in said
    # What fails is shown as pytest shows any failure: the line, with its values.
    assert "assert 7 != 7" in said
    assert "3 of 30 seeds failed; the shortest is seed 7 (also 17, 27): " in said
    assert "Again, just that one: pytest test_program.py::test_that_fails --simulation-seed=7" in said
    assert "Captured simulation call" in said
    assert re.search(r"at 0.000 s, client: connection 1 to server:7: open", said)
    assert "1 of 5 seeds failed; the shortest is seed 3: " in said
    assert "1 of 3 seeds failed; the shortest is seed 2: " in said


def test_one_seed_is_run_again_as_the_report_says(program: Path) -> None:
    said = run(program, "-rA", "--simulation-seed=17")
    assert "2 failed" not in said
    assert re.search(r"1 failed, 6 passed, 1 skipped", said), said
    assert "the seed is 17" in said
    assert "so far: 17\n" in said
    assert "1 of 1 seeds failed; the shortest is seed 17: " in said


def test_a_seed_may_be_a_text(program: Path) -> None:
    assert "the seed is a rainy day" in run(
        program, "-rA", "--simulation-seed=a rainy day", "-k", "test_with_one_world"
    )


def test_the_number_of_seeds_may_be_asked_for(program: Path) -> None:
    said = run(program, "-rA", "--simulation-seeds=4", "-k", "with_many or that_fails")
    assert "so far: 0 1 2 3\n" in said
    assert "2 passed" in said


def test_a_fixture_that_would_have_another_world_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "test_fixture.py"
    program.write_text(
        "import pytest\n"
        "from ropewalk.testing import simulate\n"
        "@pytest.fixture\n"
        "def server(simulation):\n"
        "    return simulation.host('server')\n"
        "@simulate\n"
        "def test_it(server, simulation):\n"
        "    pass\n"
        "def test_with_one_world(server, simulation):\n"
        "    assert server is simulation.host('server')\n"
    )
    said = run(program)
    assert "the fixture 'server' asks for simulation, but test_it has a new world for each seed" in said
    assert "1 failed, 1 passed" in said


def test_no_number_of_seeds_is_refused(program: Path) -> None:
    command = [sys.executable, "-m", "pytest", program.name, "--simulation-seeds=0"]
    done = subprocess.run(
        command, cwd=program.parent, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 4
    assert "--simulation-seeds" in done.stderr
