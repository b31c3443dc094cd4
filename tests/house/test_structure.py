"""How things are built: composition, states that only `step` changes, sizes that can be read, nothing left undone."""

from __future__ import annotations

import ast
import builtins
import re

import pytest

from tests.house.source import ROOT, Source, sources

ALL = sources()
EACH = pytest.mark.parametrize("source", ALL, ids=lambda each: each.name)

# Lines of a file, and why one may be longer. An entry that is no longer needed fails below: the list only shrinks.
LONGEST_FILE = 450
LONGER_FILES = {
    "engine.py": 530,  # one method for each thing that can be asked, with its docstring
    "_net/stream.py": 1040,  # one object, one set of states, few objects per connection: at thousands, misses rule
    "_net/dial.py": 530,  # a Dial and its Attempts are one walk, in eight files as a whole
    "defer/deferred.py": 820,  # Deferred and the loop that runs callbacks and coroutines, whole
    "service.py": 510,  # services and their tree, in the one module that has their names
    "interfaces.py": 470,  # the contract, once: a list
    "protocol.py": 480,  # all that users subclass, in the one module that has their names
    "error.py": 500,  # every public exception with its docstring: a list
}
LONGEST_FUNCTION = 50
# Bases that give a form, not behaviour.
FORMS = {
    "Generic",
    "Protocol",
    "Enum",
    "StrEnum",
    "IntEnum",
    "IntFlag",
    "Flag",
    "NamedTuple",
    "TypedDict",
    "ABC",
}
BANNED_WORDS = {"Base", "Mixin", "Manager", "Helper", "Util", "Utils"}
BANNED_MODULES = {"util", "utils", "helper", "helpers", "common", "misc", "base", "mixins"}
STATES = {"_state", "_read_side", "_write_side", "_life"}


def last_name(node: ast.expr) -> str:
    """`typing.Generic[T]` is "Generic"."""
    return ast.unparse(node).split("[")[0].split(".")[-1]


def is_form(base: ast.expr, source: Source) -> bool:
    name = last_name(base)
    if name == "Protocol":
        # Why asked: the package has a Protocol of its own, which is a base like any other.
        return "typing.Protocol" in [dotted for dotted, _ in source.imports()]
    return name in FORMS


EXCEPTIONS = {
    name
    for name, each in vars(builtins).items()
    if isinstance(each, type) and issubclass(each, BaseException)
}
EXCEPTIONS |= {"gaierror"}


OURS = {node.name for source in ALL for node in source.classes() if source.name == "error.py"}


def is_exception(base: ast.expr) -> bool:
    name = last_name(base)
    return name in EXCEPTIONS or name in OURS


@EACH
def test_no_class_has_two_bases(source: Source) -> None:
    """Rule: composition. Forms do not count; an exception may also be the builtin one it corresponds to."""
    wrong = []
    for node in source.classes():
        bases = [base for base in node.bases if not is_form(base, source)]
        if all(is_exception(base) for base in bases):
            # The co-bases: they are named by their module, so that one look tells which is ours.
            bases = [base for base in bases if not ast.unparse(base).startswith(("builtins.", "socket."))]
        if len(bases) > 1:
            wrong.append(source.at(node, f"{node.name}({', '.join(map(ast.unparse, node.bases))})"))
    assert not wrong, wrong


@EACH
def test_nothing_changes_its_class_or_its_attributes_set(source: Source) -> None:
    wrong = []
    for node in ast.walk(source.tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("hasattr", "delattr")
        ):
            if node.args and ast.unparse(node.args[0]) == "self":
                wrong.append(source.at(node, ast.unparse(node)))
        elif isinstance(node, ast.Delete):
            wrong += [source.at(node, ast.unparse(node)) for each in node.targets if is_own_attribute(each)]
        elif isinstance(node, ast.Attribute) and node.attr == "__class__" and isinstance(node.ctx, ast.Store):
            wrong.append(source.at(node, ast.unparse(node)))
    assert not wrong, wrong


def is_own_attribute(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def test_no_file_is_longer_than_can_be_read() -> None:
    wrong = [
        f"{source.name}: {len(source.lines)} lines"
        for source in ALL
        if len(source.lines) > LONGER_FILES.get(source.name, LONGEST_FILE)
    ]
    assert not wrong, wrong


def test_every_longer_file_still_needs_its_allowance() -> None:
    lengths = {source.name: len(source.lines) for source in ALL}
    unneeded = [name for name in LONGER_FILES if lengths.get(name, LONGEST_FILE + 1) <= LONGEST_FILE]
    assert not unneeded, unneeded


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    body = function.body
    first = body[0]
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        body = body[1:]
    if not body:
        return 0
    inside = [line.strip() for line in lines[body[0].lineno - 1 : function.end_lineno]]
    return sum(1 for line in inside if line and not line.startswith("#"))


@EACH
def test_no_function_is_longer_than_a_screen(source: Source) -> None:
    wrong = [
        source.at(each, f"{each.name}: {code_lines(each, source.lines)} lines of code")
        for each in source.functions()
        if code_lines(each, source.lines) > LONGEST_FUNCTION
    ]
    assert not wrong, wrong


@EACH
def test_names_say_what_a_thing_is(source: Source) -> None:
    wrong = [
        source.at(node, node.name)
        for node in source.classes()
        if BANNED_WORDS & set(re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*", node.name))
    ]
    assert not wrong, wrong
    assert source.path.stem not in BANNED_MODULES


@EACH
def test_a_state_changes_only_through_its_table(source: Source) -> None:
    """`_state`, `_read_side`, `_write_side` and `_life` are set in `__init__`, and then only from `TABLE[…]`."""
    allowed = set()
    for function in source.functions():
        if function.name == "__init__":
            allowed |= {id(node) for node in ast.walk(function)}
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Subscript):
            continue
        if isinstance(node.value.value, ast.Name) and node.value.value.id.isupper():
            allowed |= {id(inner) for inner in ast.walk(node)}
    wrong = [
        source.at(node, ast.unparse(node))
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in STATES
        and isinstance(node.ctx, ast.Store | ast.Del)
        and id(node) not in allowed
    ]
    assert not wrong, wrong


@EACH
def test_no_error_is_swallowed_whole(source: Source) -> None:
    wrong = []
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
        if broad and all(isinstance(each, ast.Pass | ast.Continue) for each in node.body):
            wrong.append(source.at(node))
    assert not wrong, wrong


@EACH
def test_nothing_is_left_undone(source: Source) -> None:
    wrong = [
        f"{source.name}:{number} {line.strip()}"
        for number, line in enumerate(source.lines, 1)
        if re.search(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b", line)
    ]
    assert not wrong, wrong


def tracked_texts() -> list[tuple[str, str]]:
    folders = ("src", "tests", "docs", "examples", "benchmarks", ".ci")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    paths += [
        ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "pyproject.toml")
    ]
    kinds = {".py", ".md", ".toml", ".c", ".h", ".sh", ".txt", ".json", ".yml", ""}
    return [
        (path.relative_to(ROOT).as_posix(), path.read_text(errors="replace"))
        for path in sorted(paths)
        if path.exists()
        and path.suffix in kinds
        and "__pycache__" not in path.parts
        and "build" not in path.parts
    ]


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    # Why in pieces: this file is searched too.
    machine = re.compile("/" + "(work|root|home/[a-z]+|tmp/" + "scratch)/")
    wrong = [
        f"{name}:{number} {line.strip()[:100]}"
        for name, text in tracked_texts()
        for number, line in enumerate(text.splitlines(), 1)
        if machine.search(line)
    ]
    assert not wrong, wrong
