"""The words of the border: ours by default, anybody's on request, and addresses from what the kernel gives."""

from __future__ import annotations

import dataclasses

import pytest

import ropewalk
from ropewalk import address, error
from ropewalk.words import WORDS, Words


def test_by_default_the_words_are_the_package_s_own():
    assert WORDS.Failure is ropewalk.Failure
    assert WORDS.Deferred is ropewalk.Deferred
    assert WORDS.error is error


@pytest.mark.parametrize(
    ("sockaddr", "expected"),
    [
        (("192.0.2.1", 80), address.IPv4Address("TCP", "192.0.2.1", 80)),
        (("2001:db8::1", 80, 0, 0), address.IPv6Address("TCP", "2001:db8::1", 80)),
        (("fe80::1", 80, 7, 3), address.IPv6Address("TCP", "fe80::1", 80, 7, 3)),
    ],
)
def test_two_items_are_IPv4_and_four_are_IPv6(sockaddr, expected):
    assert WORDS.address("TCP", sockaddr) == expected


def test_a_bridge_hands_in_classes_of_its_own():
    words = Words(IPv4Address=lambda *args: ("4", *args), IPv6Address=lambda *args: ("6", *args))
    assert words.address("UDP", ("192.0.2.1", 80)) == ("4", "UDP", "192.0.2.1", 80)
    assert words.address("TCP", ("::1", 80, 0, 0)) == ("6", "TCP", "::1", 80, 0, 0)


def test_words_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        WORDS.Failure = None
