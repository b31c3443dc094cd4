"""The diagrams of the docs, drawn from the state tables. `make diagrams` writes them; test_diagrams compares them.

A page says where a diagram belongs with a line `<!-- diagram: SUBJECT N -->` (the N-th machine of the subject, from 1;
the subjects are those of `ropewalk explain`). The block ```mermaid that follows it is ours.
"""

from __future__ import annotations

import re
from pathlib import Path

from ropewalk.cli.tables import machines, subjects
from tests.house.source import ROOT

DOCS = ROOT / "docs"
PLACE = re.compile(
    r"^<!-- diagram: (?P<subject>\w+) (?P<number>\d+) -->\n(?:```mermaid\n.*?^```\n)?",
    re.MULTILINE | re.DOTALL,
)


def drawn(place: re.Match[str]) -> str:
    machine = machines(place["subject"])[int(place["number"]) - 1]
    return f"<!-- diagram: {place['subject']} {place['number']} -->\n```mermaid\n{machine.drawn('mermaid')}\n```\n"


def current(page: Path) -> str:
    """The page as it should be."""
    return PLACE.sub(drawn, page.read_text())


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
