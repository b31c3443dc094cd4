"""What a transport is given: what is bytes-like, what is an iterable of that, and who may be a producer."""

from __future__ import annotations

from typing import Any

import pytest

from ropewalk.transport import as_bytes, as_pieces, check_producer


class Pull:
    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...


class Push(Pull):
    def pauseProducing(self) -> None: ...


def test_bytes_are_kept_as_they_are_and_anything_else_that_holds_bytes_is_copied() -> None:
    data = b"abc"
    assert as_bytes(data) is data
    mutable = bytearray(b"abc")
    copied = as_bytes(mutable)
    mutable[0] = 0
    assert copied == as_bytes(memoryview(b"xabc")[1:]) == b"abc"


@pytest.mark.parametrize("data", ["text", 7, None, [1, 2]])
def test_what_holds_no_bytes_is_refused_by_its_type(data: Any) -> None:
    with pytest.raises(TypeError, match=f"bytes-like, not {type(data).__name__}"):
        as_bytes(data)
    with pytest.raises(TypeError, match=f"bytes-like, not {type(data).__name__}"):
        as_pieces(iter([b"good", data]))


def test_any_iterable_is_taken_and_one_piece_is_none() -> None:
    assert as_pieces(each for each in (b"a", bytearray(b"b"))) == [b"a", b"b"]
    for one in (b"ab", bytearray(b"ab"), memoryview(b"ab"), "ab"):
        with pytest.raises(TypeError, match=f"not one {type(one).__name__}"):
            as_pieces(one)  # type: ignore[arg-type]


def test_a_producer_needs_the_methods_of_its_kind_and_the_place_to_be_free() -> None:
    check_producer(Pull(), False, None)
    check_producer(Push(), True, None)
    with pytest.raises(TypeError, match=r"lacks pauseProducing$"):
        check_producer(Pull(), True, None)
    with pytest.raises(TypeError, match=r"lacks resumeProducing, stopProducing$"):
        check_producer(object(), False, None)
    with pytest.raises(RuntimeError, match="is registered and was not unregistered"):
        check_producer(Push(), True, Pull())
