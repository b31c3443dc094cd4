"""Fixtures of the tests with real counterparts, and the figures they measure, told at the end of the run."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real.counterparts import Child

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """`start(program, *arguments)` gives a Child; whatever happens, it is ended with the test."""
    children: list[Child] = []

    def start(*command: str, **more: int) -> Child:
        child = Child(command, tmp_path / f"output-{len(children)}", **more)
        children.append(child)
        return child

    yield start
    for child in reversed(children):
        child.end()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Why: a shell's background jobs ignore SIGINT, their children inherit that, and then Ctrl-C is no way to end one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def refusing() -> Iterator[int]:
    """A port of 127.0.0.1 on which nobody listens, and nobody will."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def figure(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """`figure(text)`: what was measured. Rule: it is told, never asserted; machines differ."""
    return pytestconfig.stash.setdefault(FIGURES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    told = config.stash.get(FIGURES, [])
    if told:
        terminalreporter.section("figures of tests/real")
        for text in told:
            terminalreporter.write_line(text)
