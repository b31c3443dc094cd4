"""examples/chat_server.py: a few guests over blocking sockets, and a thousand in a process of their own."""

import json
import re
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.real.counterparts import LIMIT
from tests.real.example import serving

GUESTS = 1000
CHATTERS = Path(__file__).with_name("chatters.py")


@pytest.fixture
def port():
    """Of a server of its own. Why: the guests of one test should not hear those of another leave."""
    with serving("chat_server.py", 0) as (_, port):
        yield port


class Guest:
    def __init__(self, port, name, receiveBuffer=None):
        self.sock = socket.socket()
        self.sock.settimeout(LIMIT)
        if receiveBuffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receiveBuffer)
        self.sock.connect(("127.0.0.1", port))
        self.lines = self.sock.makefile("rb")
        self.hears(b"* your name?")
        if name is not None:
            self.says(name)
            self.hears(b"* " + name + b" is here")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.lines.close()
        self.sock.close()

    def says(self, *lines):
        self.sock.sendall(b"".join(line + b"\n" for line in lines))

    def hears(self, *lines):
        assert [self.lines.readline() for _ in lines] == [line + b"\n" for line in lines]

    def hears_at_last(self, pattern):
        """Lines, passed over until one matches."""
        for line in self.lines:
            if re.search(pattern, line):
                return line
        raise AssertionError(f"closed without {pattern!r}")


def test_what_one_says_all_hear_in_order_under_its_name(port):
    with Guest(port, b"ann") as ann, Guest(port, b"bob") as bob:
        ann.hears(b"* bob is here")
        ann.says(b"hello", b"", b"  how are you?\r")
        bob.says(b"/who")
        everything = [b"ann: hello", b"ann: ", b"ann: how are you?"]
        ann.hears(*everything)
        heard = [bob.lines.readline().strip() for _ in range(4)]
        assert b"* here: ann bob" in heard
        assert [line for line in heard if not line.startswith(b"*")] == [line.strip() for line in everything]


def test_a_name_is_letters_and_digits_and_taken_once(port):
    with Guest(port, b"ann"), Guest(port, None) as guest:
        guest.says(b"", b"two words", b"a:b", b"\xff", b"ann", b"carl")
        guest.hears(*[b"* another name, please"] * 5, b"* carl is here")


def test_who_leaves_is_told_of_whichever_way_it_goes(port):
    with Guest(port, b"ann") as ann:
        with Guest(port, b"bob") as bob:
            bob.says(b"/quit")
            assert bob.lines.read() == b""
        ann.hears(b"* bob is here", b"* bob left")
        with Guest(port, b"carl"):
            pass
        ann.hears(b"* carl is here", b"* carl left")
        with Guest(port, b"dora") as dora:
            dora.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert ann.hears_at_last(rb"^\* dora was").startswith(b"* dora was lost: ")


def test_a_line_without_end_closes(port):
    with Guest(port, b"ann") as ann, Guest(port, b"bob") as bob:
        bob.sock.sendall(bytes(100_000))
        ann.hears_at_last(rb"^\* bob (left|was lost)")


def test_who_talks_without_pause_is_heard_a_few_lines_at_a_time(port):
    with Guest(port, b"ann") as ann, Guest(port, b"bob") as bob:
        ann.hears(b"* bob is here")
        began = time.monotonic()
        bob.says(*(b"%d" % number for number in range(41)))
        ann.hears(*(b"bob: %d" % number for number in range(41)))
        assert time.monotonic() - began > 0.8


def test_who_does_not_read_is_dropped_with_a_word_and_the_others_lose_nothing(port):
    """Kernel and server hold some hundred kilobytes for one guest, and a hundred talkers would say more than a megabyte."""
    lines = [b"%d " % number + b"x" * 900 for number in range(15)]
    with Guest(port, b"slow", receiveBuffer=4096), Guest(port, b"ann") as ann:
        for number in range(100):
            name = b"talker%d" % number
            with Guest(port, name) as talker:
                talker.says(*lines, b"/quit")
                talker.lines.read()
            heard = [line.rstrip(b"\n") for line in iter(ann.lines.readline, b"* %s left\n" % name)]
            dropped = [line for line in heard if line.startswith(b"* slow was lost: ")]
            heard = [line for line in heard if line not in dropped]
            assert heard == [b"* %s is here" % name, *(name + b": " + line for line in lines)]
            if dropped:
                break
        assert number > 10
        assert re.search(rb"\d+ bytes wait to be sent, the hard limit is 262144", dropped[0])


def test_a_thousand_guests_hear_every_line_of_all_of_them_in_order(port, start, figure):
    guests = start(sys.executable, "-W", "error", str(CHATTERS), str(port), str(GUESTS), "2")
    assert guests.process.wait(LIMIT) == 0, guests.said()
    told = json.loads(guests.said())
    assert told["lines"] == 2_000_000
    figure(f"examples/chat_server.py: {told['lines']} lines to {GUESTS} guests in {told['seconds']:.2f} s")
