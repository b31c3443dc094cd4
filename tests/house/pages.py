"""What the pages of the documentation hold that can be run: programs, files, commands, and what each shows.

    ```python                a program that is run by itself, in a process of its own
    ```python no-run         one that is only compiled: a piece, or what needs something that is not there
    ```python tickets.py     a file of the page: saved under that name, and run by the page's commands
    ```output                what the program before it prints
    ```console               commands, each after "$ ", and what each prints

"…" in what is shown stands for anything within a line; alone on a line, for any lines. Which test runs a page's commands
is not known here: test_docs.py runs programs, tests/real/ what needs files and commands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.house.source import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"^```(?P<kind>python|console)(?P<no_run> no-run)?(?: (?P<file>\w+\.py))?\n(?P<text>.*?)^```$"
    r"(?:\n+```output\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a page.

    Args:   place: page and line, as in "README.md:7".
            kind: "python" or "console".
            text: what it holds, padded with empty lines if it is Python, so that errors tell the page's own lines.
            runs: whether it is a program to be run by itself.
            file: the name to save it under, if it is one of the page's files.
            output: what it prints, if that is shown.
    """

    place: str
    kind: str
    text: str
    runs: bool
    file: str | None
    output: str | None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    found = []
    for each in FENCE.finditer(text):
        line = text[: each.start("text")].count("\n")
        is_python = each["kind"] == "python"
        found.append(
            Block(
                f"{page.name}:{line}",
                each["kind"],
                "\n" * line * is_python + each["text"],
                is_python and not each["no_run"] and not each["file"],
                each["file"],
                each["output"],
            )
        )
    return found


def pattern(shown: str) -> str:
    """The shown lines as a regular expression."""
    return "".join(
        r"(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n"
        for line in shown.splitlines()
    )
