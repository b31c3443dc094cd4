"""A page of the documentation walked through as its reader would: files saved, files repaired, commands run, and what they print.

`walk` goes through the blocks of a page in order, in one folder (how they are fenced: tests/house/pages.py).

* A file is saved. A second block of the same name repairs it: each definition takes the place of the one of that name, and
  what else the block has, imports, goes before the first of them.
* A command is run by the shell, and all it says must be what the page shows. One that ends with "&" goes on beside the
  others as soon as it has said what is shown: a job, numbered from 1. `kill %1` sends it SIGTERM, `wait %1` lets it end by
  itself; what is shown there is what it says from then on, and it must end with exit status 0.

Ports are the page's in the text only: each is another, free one where the page is walked through, as others use this machine.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.house.pages import blocks, pattern
from tests.real.counterparts import free_port

LIMIT = 55  # seconds, for each command
TOOLS = {"python": "-W error", "ropewalk": "-W error -m ropewalk", "pytest": "-m pytest -p no:cacheprovider"}
PORT = re.compile(r"\b80\d\d\b")


def walk(page: Path, folder: Path) -> int:
    """Returns: how many commands were run. Raises: AssertionError for one that says something else than the page."""
    ports: dict[str, str] = {}
    commands = 0
    tools = folder / "bin"
    tools.mkdir()
    for name, words in TOOLS.items():
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (tools / name).chmod(0o755)
    with Shell(tools, folder / "work") as shell:
        for block in blocks(page):
            text = PORT.sub(lambda found: ports.setdefault(found[0], str(free_port())), block.text)
            if block.file is not None:
                path = shell.folder / block.file
                path.write_text(repaired(path.read_text(), text) if path.exists() else text)
            elif block.kind == "console":
                for each in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                    command, _, shown = each.partition("\n")
                    shell.do(command, shown, block.place)
                    commands += 1
    return commands


def repaired(program: str, repair: str) -> str:
    """The program with the definitions of the repair in the place of its own of the same names."""
    new = {
        each.name: each for each in ast.parse(repair).body if isinstance(each, ast.ClassDef | ast.FunctionDef)
    }
    old = [each for each in ast.parse(program).body if getattr(each, "name", None) in new]
    assert len(old) == len(new), f"to be repaired: {', '.join(new)}; found: {len(old)}"
    lines, repair_lines = program.splitlines(keepends=True), repair.splitlines(keepends=True)
    for each in reversed(old):
        it = new[each.name]  # type: ignore[attr-defined]
        lines[first_line(each) - 1 : each.end_lineno] = repair_lines[first_line(it) - 1 : it.end_lineno]
    before = repair_lines[: min(map(first_line, new.values())) - 1]
    at = first_line(old[0]) - 1
    lines[at:at] = [line for line in before if line.strip()] + ["\n", "\n"] * any(map(str.strip, before))
    return "".join(lines)


def first_line(node: ast.AST) -> int:
    """Decorators included."""
    return min(each.lineno for each in [node, *getattr(node, "decorator_list", [])])


class Shell:
    """Runs the commands of one page."""

    def __init__(self, tools: Path, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "100",
            "TERM": "dumb",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.jobs: list[subprocess.Popen[str]] = []

    def do(self, command: str, shown: str, place: str) -> None:
        """Run one command. Raises: AssertionError if it says something else than is shown."""
        shown = shown.rstrip("\n") + "\n" if shown.strip() else ""
        if command.endswith(" &"):
            self.jobs.append(self.start(f"exec {command.removesuffix(' &')}"))
            said = said_by(self.jobs[-1], shown.count("\n"))
        elif found := re.fullmatch(r"(kill|wait) %(\d)", command):
            job = self.jobs[int(found[2]) - 1]
            if found[1] == "kill":
                job.send_signal(signal.SIGTERM)
            said = said_by(job)
            job.wait(LIMIT)
            assert job.returncode == 0, f"{place}\n$ {command}\nended with {job.returncode}, saying\n{said}"
        else:
            done = self.start(command)
            try:
                said, _ = done.communicate(timeout=LIMIT)
            finally:
                done.kill()
        assert re.fullmatch(pattern(shown) + r"(?:\s*\n)*", said), f"{place}\n$ {command}\nsays\n{said}"

    def start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            shell=True,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        for job in self.jobs:
            job.kill()
            job.communicate()


def said_by(job: subprocess.Popen[str], lines: int | None = None) -> str:
    """What a job says next: so many lines, or all until its end. It is ended if that takes too long."""
    guard = threading.Timer(LIMIT, job.kill)
    guard.start()
    try:
        out = job.stdout
        assert out is not None
        # Why never by communicate(): it reads past what was read ahead here.
        return out.read() if lines is None else "".join(out.readline() for _ in range(lines))
    finally:
        guard.cancel()
        guard.join()
