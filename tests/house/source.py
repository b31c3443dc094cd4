"""The package's files as the gates see them: parsed once, with their place in the house."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "ropewalk"


@dataclass(frozen=True)
class Source:
    """One file of the package."""

    path: Path

    @property
    def name(self) -> str:
        """Relative to the package: "_net/dial.py"."""
        return self.path.relative_to(PACKAGE).as_posix()

    @property
    def room(self) -> str:
        """The folder or module directly under the package: "_net", "engine"; "__init__" for the package itself."""
        return self.path.relative_to(PACKAGE).parts[0].removesuffix(".py")

    @cached_property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text())

    def classes(self) -> list[ast.ClassDef]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)]

    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        return [
            node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]

    def imports(self) -> list[tuple[str, int]]:
        """(dotted name, line) of all that is imported, anywhere in the file; a name from a package with the name."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(each.name, node.lineno) for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name}:{node.lineno} imports relatively"
                found += [(f"{node.module}.{each.name}", node.lineno) for each in node.names]
        return found

    def at(self, node: ast.AST, text: str = "") -> str:
        return f"src/ropewalk/{self.name}:{getattr(node, 'lineno', 1)} {text}".rstrip()


def sources() -> list[Source]:
    found = [Source(path) for path in sorted(PACKAGE.rglob("*.py"))]
    assert len(found) > 10, "the package was not found"
    return found


def room_of(dotted: str) -> str | None:
    """The room that an imported name belongs to; None for what is not ours. "ropewalk.Reactor" is "__init__"."""
    parts = dotted.split(".")
    if parts[0] != "ropewalk":
        return None
    if len(parts) > 1 and ((PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").exists()):
        return parts[1]
    return "__init__"
