"""Turns a docstring of this house into what Sphinx reads.

The form is told in CONTRIBUTING.md: a first line, paragraphs, and sections that begin with their name: `Args:`, `Returns:`,
`Raises:`, `Fails:`, `Order:`, `Source:`, their texts in one column. Sphinx's own readers of other forms (napoleon) know no
Fails and no Order, and want each text on a line of its own.

Strategy: one pass over paragraphs. A section becomes a field; a row of arguments, which begin in the column of the first, a
list; what is indented, or laid out in columns, stays as it is; everything else is text, in which only what stands between
backticks is code. Nothing else is markup in this house, so everything else is escaped: `*`, `_` and `|` are what they are.
It must never know Sphinx, nor what the names mean: `link` says what a name in backticks leads to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

SECTIONS = (
    "Args",
    "Returns",
    "Raises",
    "Fails",
    "Order",
    "Source",
    "Rule",
    "Why",
    "Rejected",
    "Strategy",
    "Safe because",
)
SECTION = re.compile(rf"({'|'.join(SECTIONS)}): +(?=\S)")
ARGUMENT = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*): (.*)", re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
# Two words with a gap between them, as in a list of files.
COLUMNS = re.compile(r"\S {3,}\S")

Link = Callable[[str], str | None]


def as_rst(lines: list[str], link: Link = lambda name: None) -> list[str]:
    """The docstring in reStructuredText.

    Args:    lines: the docstring, its common indentation taken away.
             link: what a name in backticks leads to, as reStructuredText; None for nothing.
    """
    written: list[str] = []
    for block in paragraphs(lines):
        if all(line.startswith("    ") for line in block):
            written += [
                ".. code-block:: text" if is_text(block) else ".. code-block:: python",
                "",
                *block,
                "",
            ]
        elif sum(
            bool(COLUMNS.search(line)) for line in block if not SECTION.match(line)
        ) > 1 and not SECTION.match(block[0]):
            written += [".. code-block:: text", "", *(f"    {line}" for line in block), ""]
        else:
            written += [*parts(block, link), ""]
    return written


def is_text(block: list[str]) -> bool:
    try:
        compile("\n".join(line[4:] for line in block).replace("await ", "").replace("async ", ""), "", "exec")
    except SyntaxError:
        return True
    return False


def paragraphs(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines without an empty one; code goes on over empty lines."""
    block: list[str] = []
    for line in lines:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def parts(block: list[str], link: Link) -> Iterator[str]:
    """The text of a paragraph, and its sections."""
    starts = [0, *(at for at, line in enumerate(block) if at and SECTION.match(line)), len(block)]
    for start, end in pairwise(starts):
        lines = block[start:end]
        found = SECTION.match(lines[0])
        if found is None:
            yield text(" ".join(line.strip() for line in lines), link)
            yield ""
        else:
            yield from section(found[1], found.end(), lines, link)


def section(name: str, column: int, lines: list[str], link: Link) -> Iterator[str]:
    """One section as a field. Args: column: where its text begins."""
    if name != "Args":
        yield f":{name}: {text(' '.join([lines[0][column:], *map(str.strip, lines[1:])]), link)}"
        return
    yield f":{name}:"
    rows: list[str] = []
    for line in [" " * column + lines[0][column:], *lines[1:]]:
        is_new = len(line) - len(line.lstrip()) <= column and ARGUMENT.match(line.strip())
        if is_new or not rows:
            rows.append(line.strip())
        else:
            rows[-1] += " " + line.strip()
    for row in rows:
        found = ARGUMENT.match(row)
        yield (
            f"    * **{escaped(found[1])}**: {text(found[2], link)}" if found else f"    * {text(row, link)}"
        )


def text(words: str, link: Link) -> str:
    """Words, with what stands between backticks as code, or as a link."""
    pieces = CODE.split(words)
    written = ""
    for at, piece in enumerate(pieces):
        if at % 2 == 0:
            written += escaped(piece)
            continue
        # Why the backslashes: code may touch a word, as in "`Deferred`s".
        written += "\\ " * bool(written) + (link(piece) or f"``{piece}``") + "\\ "
    return written


def escaped(words: str) -> str:
    return re.sub(r"([\\*_|`])", r"\\\1", words)
