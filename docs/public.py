"""Which modules and names of Ropewalk are public, and which of them say nothing of themselves.

conf.py makes the reference of it, tests/house/test_reference.py holds it against the source. It must never know Sphinx.
Rule: public is what `__all__` of a module in MODULES names, or in one that has none, what is defined there and not in snake_case;
  and of a class, what is in camelCase (CONTRIBUTING.md, "Words").
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

# By topic, in the order in which the reference has them.
MODULES = {
    "Connections": ("engine", "protocol", "interfaces", "address", "error", "failure"),
    "Results that come later": ("defer", "task", "threads"),
    "On top of it": ("endpoints", "descriptions", "streams", "serving", "service", "backoff", "pool"),
    "Proxies and policies": ("balancing", "health", "proxying", "policies"),
    "Framing and files": ("protocols.basic", "protocols.framers", "protocols.files"),
    "Seen from outside": ("event", "observe"),
    "Tests": ("testing", "simulation"),
}
# Classes that users are given and do not make. Their modules are nobody's business.
GIVEN = ("_net.connector.Connector", "_net.listen.Port", "_net.stream.Stream", "_loop.timers.DelayedCall")
# Modules that have an `__all__` for each other, and not for users, or whose names others give to users.
INSIDE = (
    "attempt",
    "connecting",
    "cli",
    "_loop.loop",
    "observe.",
    "policies.",
    "protocols.lines",
    "protocols.strings",
    "simulation.kernel_socket",
    "transport",
    "testing.seeds",
)


def load() -> dict[str, ModuleType]:
    """The public modules, in order, each with all its names in it."""
    loaded = {}
    for names in MODULES.values():
        for name in names:
            module = loaded[f"ropewalk.{name}"] = import_module(f"ropewalk.{name}")
            # Why: what is imported at first use is seen by autodoc only when it is there.
            for each in public(module):
                vars(module)[each] = getattr(module, each)
    return loaded


def public(module: ModuleType) -> list[str]:
    """The names of a module that are meant for its users."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [
            name
            for name, value in vars(module).items()
            if "_" not in name and getattr(value, "__module__", None) == module.__name__
        ]
    return list(names)


def given() -> dict[str, type]:
    """The classes of GIVEN, by their full names."""
    found = {}
    for path in GIVEN:
        module, _, name = f"ropewalk.{path}".rpartition(".")
        found[f"{module}.{name}"] = getattr(import_module(module), name)
    return found


def undocumented(path: str, module: ModuleType) -> Iterator[str]:
    """Classes, functions and methods of a module that have no docstring, of their own or inherited."""
    for name in public(module):
        value = getattr(module, name)
        if not (isinstance(value, type) or inspect.isroutine(value)):
            continue
        yield from silent(f"{path}.{name}", value)


def silent(path: str, value: Any) -> Iterator[str]:
    """What has no docstring: itself, and its public members."""
    if not inspect.getdoc(value):
        yield path
    for member in members(value):
        if not inspect.getdoc(getattr(value, member)):
            yield f"{path}.{member}"


def members(value: Any) -> Iterator[str]:
    """The public methods and properties of a class."""
    for name in dir(value) if isinstance(value, type) else ():
        member = getattr(value, name, None)
        if re.fullmatch(r"[a-z]+[A-Z]\w*", name) and (
            inspect.isroutine(member) or isinstance(member, property)
        ):
            yield name
