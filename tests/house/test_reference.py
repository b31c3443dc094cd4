"""The reference is whole, and docstrings become what they say. That it is built without a warning is `make docs`' to show."""

from __future__ import annotations

import ast
from importlib import import_module
from textwrap import dedent

from docs.docstrings import as_rst
from docs.public import INSIDE, MODULES, given, load, silent, undocumented
from tests.house.source import sources


def test_every_public_name_has_a_docstring() -> None:
    modules = {"ropewalk": import_module("ropewalk"), **load()}
    missing = [name for path, module in modules.items() for name in undocumented(path, module)]
    missing += [name for path, each in given().items() for name in silent(path, each)]
    assert not missing, missing


def test_every_module_with_public_names_is_in_the_reference() -> None:
    told = [name for names in MODULES.values() for name in names]
    for source in sources():
        name = source.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        names = [node for node in source.tree.body if isinstance(node, ast.Assign)]
        has_names = any(getattr(each.targets[0], "id", "") == "__all__" for each in names)
        if has_names and name != "__init__":
            assert (name in told) != name.startswith(INSIDE) or name in ("observe", "policies"), (
                f"{name} has public names: put it into MODULES of docs/public.py, or into INSIDE"
            )


def rst(docstring: str, **links: str) -> str:
    return "\n".join(as_rst(dedent(docstring).strip().splitlines(), links.get)).strip()


def test_sections_become_fields_and_arguments_a_list() -> None:
    assert rst(
        """
        Connect.

        Args:    host: a name,
                     or an address.
                 *rest: 0 to 65535.
        Returns: the connector,
                 connecting.
        Order:   nothing: later.
        """
    ) == dedent(
        """
        Connect.


        :Args:
            * **host**: a name, or an address.
            * **\\*rest**: 0 to 65535.
        :Returns: the connector, connecting.
        :Order: nothing: later.
        """
    ).strip("\n")


def test_only_what_stands_between_backticks_is_code() -> None:
    assert rst("Two `x * y`s, *args, _under_, a|b.") == r"Two \ ``x * y``\ s, \*args, \_under\_, a\|b."


def test_a_name_that_is_known_becomes_a_link() -> None:
    assert rst("See `Deferred`.", Deferred=":py:obj:`Deferred`") == r"See \ :py:obj:`Deferred`\ ."


def test_what_is_indented_or_in_columns_stays_as_it_is() -> None:
    assert rst("For example:\n\n    run(main)\n\nThat is all.") == (
        "For example:\n\n\n.. code-block:: python\n\n    run(main)\n\nThat is all."
    )
    assert rst("one.py     the first\nother.py   the other") == (
        ".. code-block:: text\n\n    one.py     the first\n    other.py   the other"
    )
