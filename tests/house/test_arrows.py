"""Arrows point down only: who may import whom, and who may ask the operating system for anything.

The table below is the map of the house. A room that is not in it stands on top: it is built on the public API, and
nothing below may know it. Imports for type checking and inside functions count like any other: to know is to know.
"""

from __future__ import annotations

import ast
import re

import pytest

from tests.house.source import Source, room_of, sources

# Rooms of the engine, bottom first, and what each may import of the package besides itself.
BELOW: dict[str, set[str]] = {
    # values and words
    "event": set(),
    "machine": set(),
    "failure": set(),
    "address": set(),
    "error": {"event", "failure"},
    "interfaces": {"address", "error", "event", "failure", "defer"},
    "defer": {"failure"},
    "transport": set(),
    "words": {"address", "defer", "error", "failure"},
    # what users subclass
    "protocol": {"address", "error", "failure", "interfaces"},
    # the engine
    "_loop": {"error", "machine"},
    "_system": {"_loop"},
    # failure: for safe_text alone; its class is one of the words.
    "_net": {
        "_loop",
        "_system",
        "address",
        "error",
        "event",
        "failure",
        "interfaces",
        "machine",
        "transport",
        "words",
    },
    "engine": {"_loop", "_net", "_system", "address", "defer", "event", "interfaces", "machine", "words"},
}
# Rooms on top that see more than the public API, and why.
INSIDE: dict[str, set[str]] = {
    "__init__": {"_net"},  # hands out the record TCPOptions
    "cli": {"_loop", "_net"},  # draws the engine's own state tables
    "simulation": {"_loop", "_system"},  # is the other implementation of both contracts
    "testing": {"_loop", "_system"},
}
PRIVATE = {"_loop", "_net", "_system"}
BRIDGES = {"twisted", "asyncio"}
# Other engines: ours is beside them, never on top of them.
ENGINES = {"twisted", "asyncio", "uvloop", "trio", "anyio", "gevent", "curio"}
# Files that may name another engine's types, and why. Only for type checkers: nothing is imported when they run.
NAMED: dict[str, set[str]] = {
    "defer/deferred.py": {"asyncio"},  # asFuture and fromFuture are typed with its Future and its loop
}

ALL = sources()


@pytest.mark.parametrize("source", ALL, ids=lambda each: each.name)
def test_a_room_imports_only_rooms_below_it(source: Source) -> None:
    allowed = BELOW.get(source.room)
    wrong = []
    for dotted, line in source.imports():
        room = room_of(dotted)
        if room is None or room == source.room:
            continue
        if allowed is not None:
            fits = room in allowed
        else:
            fits = room not in PRIVATE - INSIDE.get(source.room, set()) and room not in BRIDGES
        if not fits:
            wrong.append(f"{source.name}:{line} imports {dotted}")
    assert not wrong, wrong


def test_the_map_has_no_circle() -> None:
    done: set[str] = set()
    left = dict(BELOW)
    while left:
        ready = {room for room, below in left.items() if below <= done}
        assert ready, f"these import each other: {sorted(left)}"
        done |= ready
        left = {room: below for room, below in left.items() if room not in ready}


def test_the_engine_needs_only_the_standard_library() -> None:
    import sys

    wrong = []
    for source in ALL:
        # Why the plugin: it is pytest that imports it, and nothing else does.
        if source.room in BRIDGES | {"cli"} or source.name.endswith("testing/plugin.py"):
            continue
        typing_only = {id(each) for each in only_for_type_checking(source.tree)}
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Import | ast.ImportFrom) or id(node) in typing_only:
                continue
            names = (
                [each.name for each in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            )
            for name in names:
                top = name.split(".")[0]
                if top != "ropewalk" and top not in sys.stdlib_module_names:
                    wrong.append(source.at(node, f"imports {name}"))
    assert not wrong, wrong


def only_for_type_checking(tree: ast.Module) -> list[ast.AST]:
    return [
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for each in node.body
        for inner in ast.walk(each)
    ]


@pytest.mark.parametrize("source", ALL, ids=lambda each: each.name)
def test_no_other_engine_is_imported(source: Source) -> None:
    named = NAMED.get(source.name, set())
    typing_lines = (
        {getattr(each, "lineno", 0) for each in only_for_type_checking(source.tree)} if named else set()
    )
    wrong = [
        f"{source.name}:{line} imports {dotted}"
        for dotted, line in source.imports()
        if (engine := dotted.split(".")[0]) in ENGINES
        and source.room not in BRIDGES
        and not (engine in named and line in typing_lines)
    ]
    assert not wrong, wrong


def test_every_type_of_another_engine_is_still_named() -> None:
    by_name = {each.name: each for each in ALL}
    for name, engines in NAMED.items():
        assert engines <= {dotted.split(".")[0] for dotted, _ in by_name[name].imports()}, name


# ---- effects ------------------------------------------------------------------------------------------------------

# Modules that can touch the world. In _loop and _net each name taken from them must be free of effects, or be named
# for its file: everything else is asked of the system (`_system.py`), so that a simulated one can take its place.
WORLD = {
    "socket",
    "select",
    "time",
    "os",
    "signal",
    "threading",
    "subprocess",
    "multiprocessing",
    "ssl",
    "fcntl",
}
CONSTANT = re.compile(r"[A-Z][A-Z0-9_]*\Z")
HARMLESS = {
    "socket": {"inet_pton", "inet_ntop", "gaierror", "error"},
    "os": {"strerror", "fsencode", "fsdecode", "PathLike"},
    "threading": {"get_ident", "current_thread", "main_thread", "enumerate"},
}
ANY = {"*"}
COMPUTED = "a name not written out"
ALLOWED: dict[str, dict[str, set[str]]] = {
    "_loop/epoll.py": {"select": ANY},
    "_loop/kqueue.py": {"select": ANY, "os": {"fstat"}},
    "_loop/poll.py": {"select": ANY, "os": {"fstat"}},
    "_loop/poller.py": {"select": ANY},
    # select() with nothing to wait for cannot wait on every system.
    "_loop/select.py": {"select": ANY, "time": {"sleep"}},
    "_loop/signals.py": {"signal": ANY},
    # Jobs run in real threads, in a simulation too.
    "_loop/threads.py": {"threading": {"Condition"}},
    # Once, at import: what a forked child's copy must not do.
    "_loop/forked.py": {"os": {"register_at_fork"}},
    # The numbers of options that not every system has.
    "_net/options.py": {"socket": {COMPUTED}},
    # A scope's name as a number: it opens nothing, waits for nothing, and has no counterpart in a simulated host.
    "_net/dial.py": {"socket": {"if_nametoindex"}},
    "_net/resolvers.py": {"socket": {"if_nametoindex"}},
}


def names_taken(tree: ast.Module) -> list[tuple[str, str, int]]:
    """(module, name, line) for each use of a WORLD module; "*" where the module itself is handed on.

    Annotations do not count: nothing runs there.
    """
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        for field in ("annotation", "returns")
        if isinstance(getattr(node, field, None), ast.AST)
        for inner in ast.walk(getattr(node, field))
    }
    known: dict[str, str] = {}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {
                each.asname or each.name.split(".")[0]: each.name for each in node.names if each.name in WORLD
            }
        elif isinstance(node, ast.ImportFrom) and node.module in WORLD:
            found += [(node.module, each.name, node.lineno) for each in node.names]
    bases = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            # Asking whether this system has a constant is the same as naming it.
            base, name = node.args[0], node.args[1]
            if isinstance(base, ast.Name) and base.id in known:
                bases.add(id(base))
                found.append((known[base.id], str(getattr(name, "value", COMPUTED)), node.lineno))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            bases.add(id(node.value))
            if id(node) not in skipped:
                found.append((known[node.value.id], node.attr, node.lineno))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in known and id(node) not in bases | skipped:
            found.append((known[node.id], "*", node.lineno))
    return found


def effects(source: Source) -> list[str]:
    here = ALLOWED.get(source.name, {})
    wrong = []
    for module, name, line in names_taken(source.tree):
        allowed = HARMLESS.get(module, set()) | here.get(module, set())
        if not (CONSTANT.match(name) or name in allowed or "*" in allowed):
            wrong.append(f"{source.name}:{line} {module}.{name}")
    for node in ast.walk(source.tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("open", "input")
        ):
            wrong.append(f"{source.name}:{node.lineno} {node.func.id}()")
    return wrong


@pytest.mark.parametrize(
    "source", [each for each in ALL if each.room in ("_loop", "_net")], ids=lambda each: each.name
)
def test_loop_and_net_ask_the_system_for_every_effect(source: Source) -> None:
    assert not effects(source)


def test_every_allowance_is_still_needed() -> None:
    by_name = {each.name: each for each in ALL}
    for name, modules in ALLOWED.items():
        if name not in by_name:
            continue
        used = {(module, taken) for module, taken, _ in names_taken(by_name[name].tree)}
        for module, names in modules.items():
            for each in names:
                assert any(m == module and each in ("*", taken) for m, taken in used), (
                    f"{name}: {module}.{each}"
                )


def test_the_gate_sees_each_way_of_reaching_for_the_world() -> None:
    tree = ast.parse(
        "import socket as s, os\nfrom time import monotonic\n"
        "def f(sock: s.socket) -> os.PathLike: s.create_connection(os); s.AF_INET; hasattr(os, 'fork')\n"
    )
    assert sorted(set(names_taken(tree))) == [
        ("os", "*", 3),
        ("os", "fork", 3),
        ("socket", "AF_INET", 3),
        ("socket", "create_connection", 3),
        ("time", "monotonic", 2),
    ]
