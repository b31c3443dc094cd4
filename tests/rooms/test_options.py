"""TCP options: what is refused by name, and what the kernel is told."""

from __future__ import annotations

import dataclasses
import socket

import pytest

from ropewalk import TCPOptions
from ropewalk._net import options as room
from ropewalk._net.options import DEFAULT_OPTIONS, check_limits, keep_alive_settings


class Socket:
    """A module `socket` of another system."""

    SOL_SOCKET, IPPROTO_TCP = socket.SOL_SOCKET, socket.IPPROTO_TCP
    SO_KEEPALIVE, TCP_NODELAY = socket.SO_KEEPALIVE, socket.TCP_NODELAY
    SO_RCVBUF, SO_SNDBUF = socket.SO_RCVBUF, socket.SO_SNDBUF

    def __init__(self, **names):
        self.__dict__.update(names)


def test_by_default_the_kernel_is_told_one_thing():
    assert DEFAULT_OPTIONS.settings == ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)


def test_nothing_asked_is_nothing_told():
    assert TCPOptions(noDelay=False).settings == ()


@pytest.mark.parametrize(
    ("option", "value", "setting"),
    [
        ("receiveBuffer", 4096, (socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)),
        ("sendBuffer", 8192, (socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)),
        ("userTimeout", 2.5, (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", None), 2500)),
        ("userTimeout", 0.0001, (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", None), 1)),
    ],
)
def test_each_option_becomes_a_setting(option, value, setting):
    assert TCPOptions(noDelay=False, **{option: value}).settings == (setting,)


def test_keep_alive_is_switched_on_and_timed():
    assert TCPOptions(noDelay=False, keepAlive=(10, 2.5, 3)).settings == (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    )


def test_where_the_idle_time_has_another_name_that_is_used(monkeypatch):
    monkeypatch.setattr(room, "socket", Socket(TCP_KEEPALIVE=16, TCP_KEEPINTVL=257, TCP_KEEPCNT=258))
    assert [setting[1:] for setting in keep_alive_settings((10, 2, 3))] == [
        (socket.SO_KEEPALIVE, 1),
        (16, 10),
        (257, 2),
        (258, 3),
    ]


def test_what_this_system_lacks_is_told_by_name(monkeypatch):
    monkeypatch.setattr(room, "socket", Socket())
    with pytest.raises(ValueError, match="this system has no TCP_USER_TIMEOUT"):
        TCPOptions(userTimeout=1)
    with pytest.raises(ValueError, match="this system has no TCP_KEEPALIVE"):
        TCPOptions(keepAlive=(1, 1, 1))


@pytest.mark.parametrize(
    "name", ["receiveBuffer", "sendBuffer", "userTimeout", "closeTimeout", "attemptDelay"]
)
@pytest.mark.parametrize("value", [0, -1, "1", True, float("nan"), float("inf"), -(10**400)])
def test_a_value_that_makes_no_sense_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a .*number above 0, not {value!r}"):
        TCPOptions(**{name: value})


@pytest.mark.parametrize("name", ["receiveBuffer", "sendBuffer"])
def test_bytes_are_counted_in_whole_numbers(name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number above 0, not 4096.5"):
        TCPOptions(**{name: 4096.5})


@pytest.mark.parametrize(
    "how", [{"receiveBuffer": 2**31}, {"sendBuffer": 2**40}, {"userTimeout": 2**31 / 1000}]
)
def test_what_the_kernel_cannot_count_is_refused_by_name(how):
    with pytest.raises(ValueError, match=f"{next(iter(how))} must be at most"):
        TCPOptions(**how)


@pytest.mark.parametrize("name", ["userTimeout", "closeTimeout", "attemptDelay"])
def test_seconds_that_no_clock_can_add_up_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        TCPOptions(**{name: 10**400})


def test_there_is_always_a_delay_between_attempts():
    with pytest.raises(ValueError, match="attemptDelay must be a number above 0, not None"):
        TCPOptions(attemptDelay=None)


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        (1, 2, 3, 4),
        [1, 2, 3],
        (0, 1, 1),
        (1, 1, 0),
        (1, "1", 1),
        (1, float("inf"), 1),
        (32768, 1, 1),
        (1, 40000, 1),
        (1, 1, 128),
        (2**40, 1, 1),
        (10**400, 1, 1),
        5,
        True,
    ],
)
def test_keep_alive_needs_three_numbers_that_the_kernel_takes(value):
    with pytest.raises(ValueError, match=r"keepAlive must be .* at most \(32767, 32767, 127\)") as refused:
        TCPOptions(keepAlive=value)
    assert repr(value) in str(refused.value)


def test_the_longest_times_and_the_most_probes_are_what_the_kernel_takes():
    with socket.socket() as sock:
        for setting in keep_alive_settings((32767, 32767, 127)):
            sock.setsockopt(*setting)


@pytest.mark.parametrize("name", ["noDelay", "reusePort", "dualStack"])
@pytest.mark.parametrize("value", ["false", "no", None, 1, 0])
def test_what_is_on_or_off_is_told_so(name, value):
    with pytest.raises(TypeError, match=f"{name} must be True or False, not {value!r}"):
        TCPOptions(**{name: value})


@pytest.mark.parametrize(
    ("high", "low", "hard"), [(0, 0, None), (10, 0, 10), (10, 10, 11), (65536, 100, None)]
)
def test_limits_in_their_order_are_fine(high, low, hard):
    check_limits(high, low, hard)
    TCPOptions(highWater=high, lowWater=low, hardLimit=hard)


@pytest.mark.parametrize(
    ("high", "low", "hard", "told"),
    [
        (10, 11, None, "0 <= low <= high"),
        (10, -1, None, "0 <= low <= high"),
        ("10", 0, None, "0 <= low <= high"),
        (10, 1.5, None, "0 <= low <= high"),
        (True, 0, None, "0 <= low <= high"),
        (1, 0, True, "at least the high-water mark"),
        (10, 0, 9, "at least the high-water mark 10, not 9"),
        (10, 0, "11", "at least the high-water mark"),
    ],
)
def test_limits_out_of_order_are_refused(high, low, hard, told):
    with pytest.raises(ValueError, match=told):
        check_limits(high, low, hard)
    with pytest.raises(ValueError, match=told):
        TCPOptions(highWater=high, lowWater=low, hardLimit=hard)


def test_they_are_frozen_compare_by_what_was_asked_and_can_be_changed_by_replacing():
    options = TCPOptions(sendBuffer=4096)
    assert options == TCPOptions(sendBuffer=4096)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.noDelay = False
    changed = dataclasses.replace(options, noDelay=False)
    assert changed.settings == ((socket.SOL_SOCKET, socket.SO_SNDBUF, 4096),)
    assert "settings" not in repr(options)


def test_they_are_given_by_name_only():
    with pytest.raises(TypeError):
        TCPOptions(True)
