"""address.py alone: values that compare, hash, print, copy, and cannot be changed."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress, display

four = st.builds(IPv4Address, st.sampled_from(["TCP", "UDP"]), st.text(max_size=3), st.integers(0, 3))
six = st.builds(
    IPv6Address,
    st.sampled_from(["TCP", "UDP"]),
    st.text(max_size=3),
    st.integers(0, 3),
    st.integers(0, 1),
    st.sampled_from([0, 2, "eth0"]),
)
named = st.builds(HostnameAddress, st.binary(max_size=2), st.integers(0, 3))
addresses = st.one_of(four, six, named)

ONE_OF_EACH = [
    IPv4Address("TCP", "127.0.0.1", 80),
    IPv6Address("TCP", "::1", 80),
    IPv6Address("UDP", "fe80::1", 80, 1, "eth0"),
    HostnameAddress(b"example.com", 80),
    UNIXAddress(b"/run/x"),
    UNIXAddress(None),
]
EACH = pytest.mark.parametrize("address", ONE_OF_EACH, ids=repr)


@given(addresses, addresses)
def test_two_addresses_are_equal_when_class_and_fields_are(one, other):
    fields = type(one) is type(other) and dataclasses.astuple(one) == dataclasses.astuple(other)
    assert (one == other) is fields
    if fields:
        assert hash(one) == hash(other)


@given(st.one_of(four, six))
def test_an_address_equals_no_tuple_and_no_other_class(address):
    assert address != dataclasses.astuple(address)
    assert address != UNIXAddress(b"x")


@EACH
def test_copies_are_equal(address):
    for made in (copy.copy(address), copy.deepcopy(address), pickle.loads(pickle.dumps(address))):
        assert made == address
        assert hash(made) == hash(address)


@EACH
def test_no_field_can_be_changed_or_added(address):
    for name in (*address.__slots__, "extra"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(address, name, 1)
    assert not hasattr(address, "__dict__")


@pytest.mark.parametrize("kind", [IPv4Address, IPv6Address])
@pytest.mark.parametrize("type", ["tcp", "", None, b"TCP", "SCTP"])
def test_a_type_other_than_tcp_and_udp_is_refused_by_name(kind, type):
    with pytest.raises(ValueError, match="TCP") as caught:
        kind(type, "::1", 1)
    assert repr(type) in str(caught.value)


def test_keywords_do_as_positions_do():
    assert IPv4Address(type="TCP", host="h", port=1) == IPv4Address("TCP", "h", 1)
    assert IPv6Address("TCP", "h", 1, scopeID=2) == IPv6Address("TCP", "h", 1, 0, 2)
    assert dataclasses.replace(IPv4Address("TCP", "h", 1), port=2) == IPv4Address("TCP", "h", 2)


def test_an_address_prints_as_it_is_made():
    assert repr(IPv4Address("TCP", "127.0.0.1", 80)) == "IPv4Address(type='TCP', host='127.0.0.1', port=80)"
    assert repr(IPv6Address("TCP", "::1", 80)) == (
        "IPv6Address(type='TCP', host='::1', port=80, flowInfo=0, scopeID=0)"
    )
    assert repr(HostnameAddress(b"x", 1)) == "HostnameAddress(hostname=b'x', port=1)"
    assert repr(UNIXAddress(b"/run/x")) == "UNIXAddress('/run/x')"
    assert repr(UNIXAddress(None)) == "UNIXAddress(None)"


def test_addresses_of_a_class_sort_by_their_fields():
    assert sorted([IPv4Address("UDP", "a", 1), IPv4Address("TCP", "b", 2), IPv4Address("TCP", "b", 1)]) == [
        IPv4Address("TCP", "b", 1),
        IPv4Address("TCP", "b", 2),
        IPv4Address("UDP", "a", 1),
    ]


# --- UNIX ---


def test_a_unix_name_is_kept_as_bytes(tmp_path):
    for name in (tmp_path / "x", str(tmp_path / "x"), os.fsencode(tmp_path / "x")):
        assert UNIXAddress(name).name == os.fsencode(tmp_path / "x")


def test_two_paths_to_one_file_are_one_address(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    one, other = UNIXAddress(tmp_path / "file"), UNIXAddress(tmp_path / "link")
    assert one == other
    assert hash(one) == hash(other)
    (tmp_path / "file").unlink()
    assert one != other


def test_unix_addresses_without_a_file_compare_by_name():
    assert UNIXAddress(b"\0abstract") == UNIXAddress(b"\0abstract")
    assert UNIXAddress(b"\0abstract") != UNIXAddress(b"\0other")
    assert UNIXAddress(None) == UNIXAddress(None) != UNIXAddress(b"x")
    assert hash(UNIXAddress(None)) == hash(UNIXAddress(None))
    assert UNIXAddress(b"x") != b"x"


# --- display ---


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (IPv4Address("TCP", "127.0.0.1", 80), "127.0.0.1:80"),
        (IPv6Address("TCP", "::1", 80), "[::1]:80"),
        (IPv6Address("TCP", "fe80::1", 80, 0, 2), "[fe80::1%2]:80"),
        (IPv6Address("TCP", "fe80::1%eth0", 80, 0, 2), "[fe80::1%eth0]:80"),
        (HostnameAddress(b"example.com", 80), "example.com:80"),
        (UNIXAddress("/run/x"), "unix:/run/x"),
        (UNIXAddress(b"\0name"), r"unix:\x00name"),
        (UNIXAddress(None), "unix:"),
        (("other", 1), "('other', 1)"),
    ],
)
def test_display_shows_an_address_as_messages_do(address, shown):
    assert display(address) == shown


@given(st.one_of(st.builds(UNIXAddress, st.binary(max_size=20)), named))
def test_display_never_lets_a_control_character_into_a_log(address):
    assert all(character.isprintable() for character in display(address))
