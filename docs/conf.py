"""The pages and the reference as one site: `make docs` builds it, in build/docs.

The source is the checkout itself, so that the links between README.md, docs/ and the rest are the same here and where the pages
are read as files. The reference is made of the docstrings: for each public module a page in docs/reference/, which is written
here and not kept. docstrings.py turns the form of this house into Sphinx's.

Warnings are errors, and these are ours: a public name without a docstring, and one that is on no page. Broken links are Sphinx's.
Rejected: pdoc, which is smaller and knows no pages, no links between them, and no warnings; mkdocs with griffe, which needs
  an extension of its own for this form as well.
"""

from __future__ import annotations

import builtins
import inspect
import re
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.util import logging

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import ropewalk  # noqa: E402
from docs import docstrings  # noqa: E402
from docs.public import MODULES, given, load, public, silent, undocumented  # noqa: E402

log = logging.getLogger(__name__)

PAGES = (
    "tutorial",
    "from-twisted",
    "from-asyncio",
    "life-of-a-connection",
    "framing",
    "policies",
    "simulation",
    "writing-a-transport",
)
MORE = ("architecture", "decisions", "differences-from-twisted", "benchmarks")

project = "Ropewalk"
author = "The Ropewalk developers"
version = release = ropewalk.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "*/README.md",
    "docs/**.md",
    "docs/reference/*.rst",
]
# Why named: what is installed, or was built, is not looked through.
exclude_patterns = [".*", "build", "dist", "src", "tests"]
html_theme = "furo"
html_title = f"Ropewalk {release}"
html_copy_source = False
smartquotes = False
myst_heading_anchors = 3
add_module_names = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = True
python_use_unqualified_type_names = True


modules = load()
# Where each object is told of: the first page on which it is.
places: dict[int, str] = {}
by_name: dict[str, str] = {}
values: dict[str, Any] = {}
for path, module in modules.items():
    for name in public(module):
        value = vars(module)[name]
        if isinstance(value, type) or callable(value):
            place = places.setdefault(id(value), f"{path}.{name}")
            by_name.setdefault(name, place)
            values.setdefault(name, value)
for place, held in given().items():
    places[id(held)] = by_name[held.__name__] = place
    values[held.__name__] = held


def link(name: str) -> str | None:
    """What a name in backticks leads to: `Deferred`, `Reactor.connectTCP`, `ropewalk.defer`."""
    bare = name.removesuffix("()")
    if bare in modules:
        return f":py:mod:`{bare}`"
    head, _, rest = bare.partition(".")
    if head in by_name and (not rest or hasattr(values[head], rest)):
        target = by_name[head] + (f".{rest}" if rest else "")
        return f":py:obj:`{name} <{target}>`"
    return None


def write_reference() -> None:
    """The pages of docs/reference/, one for each public module; those that are as they were are left alone."""
    folder = ROOT / "docs" / "reference"
    folder.mkdir(exist_ok=True)
    pages = {"ropewalk": front_page(), "given": given_page()}
    for path in modules:
        others = [
            name
            for name in public(modules[path])
            if places.get(id(vars(modules[path])[name]), path + ".") not in (f"{path}.{name}", path + ".")
        ]
        pages[path] = (
            f"{path}\n{'=' * len(path)}\n\n.. automodule:: {path}\n   :exclude-members: {', '.join(others)}\n"
        )
    for old in folder.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for path, content in pages.items():
        page = folder / f"{path}.rst"
        if not page.exists() or page.read_text() != content:
            page.write_text(content)


def front_page() -> str:
    """The names of the package itself: each leads to where it is told of, or is told of here."""
    lines = [
        "ropewalk",
        "========",
        "",
        *docstrings.as_rst(inspect.cleandoc(ropewalk.__doc__ or "").splitlines(), link),
    ]
    here = []
    for name in sorted([*ropewalk.__all__, "open", "reactor"], key=str.lower):
        value = getattr(ropewalk, name)
        if isinstance(value, ModuleType):
            lines.append(f"* :py:mod:`{value.__name__}`")
        elif id(value) in places:
            first = (inspect.getdoc(value) or "").partition("\n")[0]
            lines.append(f"* :py:obj:`{name} <{places[id(value)]}>`: {docstrings.text(first, link)}")
        elif name == "reactor":
            lines.append(
                "* ``reactor``: the default :py:obj:`Reactor <ropewalk.engine.Reactor>`, made at first use."
            )
        else:
            here.append(name)
    lines += ["", ".. py:module:: ropewalk", ""]
    for name in here:
        lines += [f".. autoclass:: ropewalk.{name}", ""]
    return "\n".join(lines)


def given_page() -> str:
    """What users hold and do not make."""
    title = "What you are given"
    lines = [
        title,
        "=" * len(title),
        "",
        "Connectors, ports, transports and delayed calls are made by the reactor.",
        "",
    ]
    for path in given():
        lines += [f".. autoclass:: {path}", ""]
    return "\n".join(lines)


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """The table of contents, behind the README; what leads to a folder is no link in a site."""
    if docname != root_doc:
        return
    source[0] = re.sub(r"\[([^]]+)\]\([\w/]+/\)", r"`\1`", source[0])

    def tree(caption: str, entries: list[str]) -> str:
        return "\n".join(
            ["", "```{toctree}", ":hidden:", ":maxdepth: 1", f":caption: {caption}", "", *entries, "```", ""]
        )

    source[0] += tree("Pages", [f"docs/{page}" for page in PAGES])
    source[0] += tree("Reference", ["docs/reference/ropewalk", "docs/reference/given"])
    for caption, names in MODULES.items():
        source[0] += tree(caption, [f"ropewalk.{name} <docs/reference/ropewalk.{name}>" for name in names])
    source[0] += tree(
        "The project",
        [
            *(f"docs/{page}" for page in MORE),
            *sorted(each.parent.name + "/README" for each in ROOT.glob("[!.]*/README.md")),
            "CONTRIBUTING",
            "CHANGELOG",
        ],
    )


def convert(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """A docstring; behind that of an enumeration its members, with the comment that each has."""
    lines[:] = docstrings.as_rst(lines, link)
    if isinstance(value, type) and issubclass(value, Enum):
        rows = re.findall(
            r"^    [A-Z_]+ = \"([^\"]+)\"(?:  # (.*))?$", inspect.getsource(value), re.MULTILINE
        )
        lines += [
            f"* ``{word}``" + (f": {docstrings.escaped(comment)}" if comment else "")
            for word, comment in rows
        ]


def shorten(app: Sphinx, what: str, name: str, value: Any, *rest: Any) -> tuple[str, None] | None:
    """What users do not make, interfaces and what they are given, has no signature."""
    is_made = not getattr(value, "_is_protocol", False) and value not in given().values()
    return None if what != "class" or is_made else ("", None)


def leave_out_object(app: Sphinx, doctree: nodes.document) -> None:
    """That everything is an object need not be said."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if paragraph.astext() == "Bases: object":
            paragraph.parent.remove(paragraph)


def skip(app: Sphinx, what: str, name: str, value: Any, skipped: bool, options: Any) -> bool | None:
    """What is in snake_case is inside, and a named tuple's own docstrings say nothing."""
    is_inside = what != "module" and re.fullmatch(r"[a-z]+(_[a-z]+)+", name)
    return True if is_inside or str(getattr(value, "__doc__", "")).startswith("Alias for field") else None


def find(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """A class is told of where users import it from, not where it is defined."""
    target = node.get("reftarget", "")
    package, _, name = target.rpartition(".")
    place = by_name.get(name)
    # Why not any package: typing has a Protocol, and Python a TimeoutError.
    is_ours = package.startswith("ropewalk") or not (package or hasattr(builtins, name))
    if node.get("refdomain") != "py" or not is_ours or place is None or place == target:
        return None
    return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, "obj", place, node, content)


def check(app: Sphinx, env: Any) -> None:
    """Every public name has a docstring, and is on a page."""
    told = {name for name, *_ in env.domains["py"].get_objects()}
    for path, module in {"ropewalk": ropewalk, **modules}.items():
        for name in public(module):
            value = getattr(module, name)
            is_told = isinstance(value, type) or inspect.isroutine(value)
            if is_told and places.get(id(value), f"{path}.{name}") not in told:
                log.warning("%s.%s is on no page of the reference", path, name)
        for name in undocumented(path, module):
            log.warning("%s has no docstring", name)
    for path, held in given().items():
        for name in silent(path, held):
            log.warning("%s has no docstring", name)


def setup(app: Sphinx) -> None:
    write_reference()
    for language in ("output", "mermaid"):
        app.add_lexer(language, TextLexer)
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", convert)
    app.connect("autodoc-process-signature", shorten)
    app.connect("doctree-read", leave_out_object)
    app.connect("autodoc-skip-member", skip)
    app.connect("missing-reference", find)
    app.connect("env-check-consistency", check)
