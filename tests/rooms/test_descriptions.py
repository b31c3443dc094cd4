"""Descriptions of endpoints: places, names, quoting, and errors that name the part and what would be right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import endpoints as twisted_endpoints

from ropewalk.descriptions import Parts, quoted


def test_the_first_part_is_the_kind_and_the_rest_are_by_place_or_by_name() -> None:
    parts = Parts("tcp:example.org:80:timeout=5")
    assert (parts.kind, parts.places, parts.names) == ("tcp", ["example.org", "80"], {"timeout": "5"})


def test_a_backslash_takes_the_next_character_as_it_is() -> None:
    parts = Parts("tcp:\\:\\:1:80:path=C\\:\\\\x=y\\=z")
    assert parts.places == ["::1", "80"]
    assert parts.names == {"path": "C:\\x=y=z"}


@given(st.text())
def test_what_is_quoted_comes_back(text: str) -> None:
    assert quoted(text) == twisted_endpoints.quoteStringArgument(text).replace("=", "\\=")
    assert Parts(f"kind:name={quoted(text)}").names == {"name": text}
    assert Parts(f"kind:{quoted(text)}").places == [text]


TWISTED = st.text(st.sampled_from("ab:=\\1"), min_size=1)


@given(TWISTED)
def test_a_description_is_read_as_by_Twisted(text: str) -> None:
    try:
        ours = Parts(text)
    except ValueError as refusal:
        # Twisted takes an empty kind, a name given twice, and raises RuntimeError at a backslash with nothing behind it.
        assert any(why in str(refusal) for why in ("begin with a kind", "given twice", "last backslash"))
        return
    places, names = twisted_endpoints._parse(text)
    assert ([ours.kind, *ours.places], ours.names) == (places, names)


def test_values_by_place_fill_what_is_not_given_by_name() -> None:
    parts = Parts("tcp:80:host=example.org")
    parts.order("host", "port")
    assert (parts.text("host"), parts.number("port", 0, 65535)) == ("example.org", 80)
    parts.end("host", "port")


WRONG = {
    "": "must begin with a kind",
    ":80": "must begin with a kind",
    "tcp:a=1:a=2": "a is given twice",
    "tcp:a\\": "nothing behind the last backslash",
    "tcp:a:1:surplus": "'surplus' is one value too many; tcp takes host, port",
    "tcp:example.org": "port is missing, as in port=…",
    "tcp:example.org:http": "port must be a whole number from 0 to 65535, not 'http'",
    "tcp:example.org:65536": "port must be a whole number from 0 to 65535, not '65536'",
    "tcp:example.org:²": "port must be a whole number from 0 to 65535, not '²'",
    "tcp:example.org:80:timeout=0": "timeout must be a number of seconds above 0, or never, not '0'",
    "tcp:example.org:80:timeout=": "timeout must be a number of seconds above 0, or never, not ''",
    "tcp:example.org:80:timeout=nan": "timeout must be a number of seconds above 0, or never, not 'nan'",
    "tcp:example.org:80:timeuot=5": "tcp knows no timeuot; it takes host, port, timeout",
}


@pytest.mark.parametrize("text", WRONG)
def test_an_error_shows_the_description_the_part_and_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError) as raised:
        parts = Parts(text)
        parts.order("host", "port")
        parts.text("host")
        parts.number("port", 0, 65535)
        parts.seconds("timeout", 30)
        parts.end("host", "port", "timeout")
    assert WRONG[text] in str(raised.value)
    assert repr(text) in str(raised.value)


def test_never_is_no_limit() -> None:
    for text in ("never", "None"):
        assert Parts(f"tcp:timeout={text}").seconds("timeout", 30) is None
    assert Parts("tcp").seconds("timeout", 30) == 30
    assert Parts("tcp:timeout=2.5").seconds("timeout", 30) == 2.5


@pytest.mark.parametrize("text", ["never", "none", ""])
def test_where_there_must_be_a_limit_never_is_refused_and_not_offered(text: str) -> None:
    with pytest.raises(ValueError) as raised:
        Parts(f"tcp:attemptDelay={text}").seconds("attemptDelay", None, never=False)
    assert str(raised.value).endswith(f"attemptDelay must be a number of seconds above 0, not {text!r}")


def test_only_a_text_is_a_description() -> None:
    with pytest.raises(TypeError, match="a description is a str, not bytes"):
        Parts(b"tcp:80")  # type: ignore[arg-type]
