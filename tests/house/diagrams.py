"""What the docs draw from the code: state diagrams, and the walk of connectTCP. `make diagrams` writes them; test_diagrams
compares them.

A page says where a diagram belongs with a line `<!-- diagram: SUBJECT N -->` (the N-th machine of the subject, from 1;
the subjects are those of `ropewalk explain`), and where the walk does with `<!-- walk -->`. The block that follows such
a line is ours.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import groupby
from pathlib import Path

from ropewalk import Reactor
from ropewalk.cli.tables import machines, subjects
from tests.house.source import ROOT
from tests.house.test_walk import the_walk

DOCS = ROOT / "docs"
PLACE = re.compile(
    r"^<!-- diagram: (?P<subject>\w+) (?P<number>\d+) -->\n(?:```mermaid\n.*?^```\n)?",
    re.MULTILINE | re.DOTALL,
)
WALK = re.compile(r"^<!-- walk -->\n(?:```text\n.*?^```\n)?", re.MULTILINE | re.DOTALL)


def drawn(place: re.Match[str]) -> str:
    machine = machines(place["subject"])[int(place["number"]) - 1]
    return f"<!-- diagram: {place['subject']} {place['number']} -->\n```mermaid\n{machine.drawn('mermaid')}\n```\n"


@cache
def walked() -> str:
    """The walk as a list: a file where it enters one, each function called there."""
    with Reactor() as reactor:
        walk = the_walk(reactor)
    rows = ['                             reactor.connectTCP("127.0.0.1", port, factory)']
    number = 0
    for file, calls in groupby(walk, key=lambda call: call[0]):
        for place, (_, function) in enumerate(calls):
            number += 1
            rows.append(f"{number:4}  {file if place == 0 else '':22} {function}")
    rows.append("                             connectionMade of your protocol")
    count = f"{len(walk)} calls in {len({file for file, _ in walk})} files"
    return "<!-- walk -->\n```text\n" + "\n".join([*rows, count]) + "\n```\n"


def current(page: Path) -> str:
    """The page as it should be."""
    return WALK.sub(lambda _: walked(), PLACE.sub(drawn, page.read_text()))


def shown() -> set[tuple[str, int]]:
    return {
        (place["subject"], int(place["number"]))
        for page in DOCS.glob("*.md")
        for place in PLACE.finditer(page.read_text())
    }


def every() -> set[tuple[str, int]]:
    return {(subject, number) for subject in subjects for number, _ in enumerate(machines(subject), 1)}


if __name__ == "__main__":
    for page in sorted(DOCS.glob("*.md")):
        text = current(page)
        if text != page.read_text():
            page.write_text(text)
            print(f"drawn anew: {page.relative_to(ROOT)}")
    for subject, number in sorted(every() - shown()):
        print(f"on no page yet: <!-- diagram: {subject} {number} -->")
