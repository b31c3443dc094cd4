"""The documentation's examples run.

Every program of README.md and docs/*.md (pages.py says how they are fenced) is run by itself, warnings being errors, and must
end well within the time limit, printing what the page shows. Files and commands of a page are run by a test of tests/real/.

What the pages point at is there: other pages, files, and functions written as `_net/dial.py:Dial.start`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.house.pages import FENCE, PAGES, Block, blocks, pattern
from tests.house.source import PACKAGE, ROOT, sources

PROGRAMS = [block for page in PAGES for block in blocks(page) if block.kind == "python"]


@pytest.mark.parametrize("block", PROGRAMS, ids=[block.place for block in PROGRAMS])
def test_an_example_of_the_docs_runs(block: Block, tmp_path: Path) -> None:
    compile(block.text, block.place, "exec")
    if not block.runs:
        return
    script = tmp_path / "example.py"
    script.write_text(block.text)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, f"{block.place}\n{done.stdout}\n{done.stderr}"
    if block.output is not None:
        assert re.fullmatch(pattern(block.output), done.stdout), f"{block.place} prints\n{done.stdout}"


def test_every_python_block_is_seen() -> None:
    for page in PAGES:
        opened = re.findall(r"^ *```(?:python|py)\b.*$", page.read_text(), re.MULTILINE)
        assert len(opened) == sum(block.kind == "python" for block in blocks(page)), (
            f"{page.name}: a python fence that is indented or written otherwise"
        )


def test_links_between_the_pages_lead_somewhere() -> None:
    wrong = []
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
            if not (page.parent / target).exists():
                wrong.append(f"{page.name}: {target}")
    assert not wrong, wrong


def test_the_first_client_is_the_one_in_examples() -> None:
    """Blank lines and the file's docstring left out."""
    example = (ROOT / "examples" / "first_client.py").read_text().split('"""')[2]
    shown = FENCE.search((ROOT / "README.md").read_text())
    assert shown
    assert [line for line in shown["text"].splitlines() if line] == [
        line for line in example.splitlines() if line
    ]


def test_the_first_thirty_lines_tell_what_it_is_how_it_is_used_what_it_lacks_and_where_to_read_on() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()[:30]
    begins, ends = lines.index("```python no-run"), lines.index("```")
    assert sum(1 for line in lines[:begins] if line and line[0] not in "#<") == 2
    assert sum(1 for line in lines[begins + 1 : ends] if line) <= 12
    assert [line.split("#")[0].strip() for line in lines if line.startswith("    make ")] == [
        "make demo",
        "make test",
    ]
    for told in ("It does not do, yet: ", "Read next: "):
        [line] = [line for line in lines if line.startswith(told)]
        assert line.endswith("."), f"{told} goes on below line 30"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda each: each.name)
def test_what_a_page_points_at_is_there(page: Path) -> None:
    defined = all_names()
    own = {block.file for block in blocks(page)}
    wrong = []
    for file, name in re.findall(r"`([\w./]+\.py)(?::([\w.]+))?`", page.read_text()):
        if file in own:
            continue
        if not any((root / file).is_file() for root in (PACKAGE, ROOT)):
            wrong.append(file)
        elif name and name not in defined.get(file, ()):
            wrong.append(f"{file}:{name}")
    assert not wrong, wrong


@cache
def all_names() -> dict[str, set[str]]:
    return {source.name: names_defined(source.tree) for source in sources()}


def names_defined(tree: ast.AST, before: str = "") -> set[str]:
    """Classes, functions and tables of a module, "Dial.start" for what is inside a class."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found |= {before + node.name, *names_defined(node, f"{before}{node.name}.")}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {before + each.id for each in targets if isinstance(each, ast.Name)}
    return found


def test_asyncio_and_ropewalk_are_shown_side_by_side_and_print_the_same() -> None:
    """Pairs of programs, asyncio's first; the last of the page uses both."""
    programs = [block for block in PROGRAMS if block.place.startswith("from-asyncio.md")]
    pairs = list(zip(programs[:-1:2], programs[1::2], strict=True))
    assert len(pairs) == 7
    for theirs, ours in pairs:
        assert "import asyncio" in theirs.text and "ropewalk" not in theirs.text, theirs.place
        assert "ropewalk" in ours.text and "asyncio" not in ours.text, ours.place
        # Why sorted: one pair shows a difference, and that is the order.
        assert sorted((theirs.output or "").split()) == sorted((ours.output or "-").split()), ours.place
