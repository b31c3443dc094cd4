"""Lines and strings: who is told what and when, modes, pausing, limits, and what a callback may do.

Fed by a transport of the test's making, and at the end once more over the simulated network, with short reads and storms.
"""

from __future__ import annotations

import gc
import logging
import struct
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from ropewalk import ClientFactory, Factory, Protocol, ReconnectingClientFactory
from ropewalk.protocols.basic import (
    Int8StringReceiver,
    Int16StringReceiver,
    Int32StringReceiver,
    IntNStringReceiver,
    LineOnlyReceiver,
    LineReceiver,
    NetstringReceiver,
    StatefulStringProtocol,
    StringTooLongError,
)
from ropewalk.simulation import Simulation
from ropewalk.testing import simulate


class Wire:
    """A transport that keeps what it is asked."""

    def __init__(self) -> None:
        self.disconnecting = False
        self.state = "connected"
        self.asked: list[str] = []
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def loseConnection(self) -> None:
        self.asked.append("loseConnection")
        self.disconnecting = True
        self.state = "closing"

    def abortConnection(self) -> None:
        self.state = "aborting"

    def pauseProducing(self) -> None:
        self.asked.append("pauseProducing")

    def resumeProducing(self) -> None:
        self.asked.append("resumeProducing")

    stopProducing = loseConnection


def connected(kind: type, **methods: Any) -> Any:
    """A protocol of that kind that notes all it is told in `told`; `methods` do more."""

    def noting(name: str) -> Callable[..., None]:
        more = methods.get(name)

        def note(self: Any, what: Any) -> None:
            self.told.append(what if name in ("lineReceived", "stringReceived") else (name, what))
            if more is not None:
                more(self, what)

        return note

    names = ("lineReceived", "rawDataReceived", "stringReceived", "lineLengthExceeded", "lengthLimitExceeded")
    namespace = {name: noting(name) for name in names if hasattr(kind, name)}
    others = {name: each for name, each in methods.items() if name not in namespace}
    protocol = type("Noting", (kind,), namespace | others)()
    protocol.told = []
    protocol.makeConnection(Wire())
    return protocol


def feed(protocol: Any, data: bytes, size: int) -> list[Any]:
    for place in range(0, len(data), size):
        protocol.dataReceived(data[place : place + size])
    told: list[Any] = protocol.told
    return told


def closing(self: Any, what: Any) -> None:
    self.transport.loseConnection()


RECEIVERS = [
    (LineReceiver, b"one\r\ntwo\r\n\r\nthree\r\n"),
    (LineOnlyReceiver, b"one\r\ntwo\r\n\r\nthree\r\n"),
    (NetstringReceiver, b"3:one,3:two,0:,5:three,"),
    (Int8StringReceiver, b"\x03one\x03two\x00\x05three"),
    (Int16StringReceiver, b"\x00\x03one\x00\x03two\x00\x00\x00\x05three"),
    (Int32StringReceiver, b"\0\0\0\x03one\0\0\0\x03two\0\0\0\0\0\0\0\x05three"),
]
EACH = pytest.mark.parametrize(("kind", "wire"), RECEIVERS, ids=[kind.__name__ for kind, _ in RECEIVERS])


# ---- all of them -----------------------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_messages_are_told_however_they_are_cut(kind: type, wire: bytes, size: int) -> None:
    assert feed(connected(kind), wire, size) == [b"one", b"two", b"", b"three"]


@EACH
def test_what_follows_a_message_waits_for_its_end(kind: type, wire: bytes) -> None:
    protocol = connected(kind)
    protocol.dataReceived(wire + wire[:-1])
    assert protocol.told == [b"one", b"two", b"", b"three", b"one", b"two", b""]
    protocol.dataReceived(wire[-1:])
    assert protocol.told == [b"one", b"two", b"", b"three"] * 2


@EACH
@pytest.mark.parametrize("how", ["loseConnection", "abortConnection"])
def test_who_has_asked_to_end_is_told_nothing_more(kind: type, wire: bytes, how: str) -> None:
    def end(self: Any, what: bytes) -> None:
        getattr(self.transport, how)()

    protocol = connected(kind, lineReceived=end, stringReceived=end)
    protocol.dataReceived(wire)
    protocol.dataReceived(wire)
    assert protocol.told == [b"one"]


@EACH
def test_what_comes_while_a_message_is_told_comes_behind_what_is_there(kind: type, wire: bytes) -> None:
    def more(self: Any, what: bytes) -> None:
        if what == b"one" and len(self.told) == 1:
            self.dataReceived(wire)
            assert self.told == [b"one"]

    protocol = connected(kind, lineReceived=more, stringReceived=more)
    protocol.dataReceived(wire)
    assert protocol.told == [b"one", b"two", b"", b"three"] * 2


@EACH
def test_after_a_callback_has_raised_the_next_message_is_told(kind: type, wire: bytes) -> None:
    def raising(self: Any, what: bytes) -> None:
        if what == b"three":
            raise ValueError("no")

    protocol = connected(kind, lineReceived=raising, stringReceived=raising)
    with pytest.raises(ValueError, match="no"):
        protocol.dataReceived(wire)
    protocol.dataReceived(wire[: len(wire) - 2])
    assert protocol.told == [b"one", b"two", b"", b"three", b"one", b"two", b""]


@EACH
def test_a_callback_that_is_missing_is_named(kind: type, wire: bytes) -> None:
    protocol: Any = kind()
    protocol.makeConnection(Wire())
    with pytest.raises(RuntimeError, match=f"{kind.__name__} .* not override (line|string)Received"):
        protocol.dataReceived(wire)


@EACH
def test_without_a_transport_it_works_too(kind: type, wire: bytes) -> None:
    protocol = connected(kind)
    protocol.transport = None
    protocol.dataReceived(wire)
    assert protocol.told == [b"one", b"two", b"", b"three"]


@EACH
def test_it_leaves_no_circle(kind: type, wire: bytes) -> None:
    protocol = connected(kind)
    seen = weakref.ref(protocol)
    gc.disable()
    try:
        protocol.dataReceived(wire + wire[:1])
        del protocol
        assert seen() is None
    finally:
        gc.enable()


@EACH
def test_an_idle_one_holds_nothing_for_framing(kind: type, wire: bytes) -> None:
    protocol = connected(kind)
    assert protocol._framer is None


# ---- lines -----------------------------------------------------------------------------------------------------------

LINES = pytest.mark.parametrize("kind", [LineReceiver, LineOnlyReceiver])


@LINES
def test_sendLine_puts_the_delimiter_behind(kind: type) -> None:
    protocol = connected(kind, delimiter=b"\0")
    protocol.sendLine(b"hello")
    protocol.sendLine(bytearray(b"you"))
    assert protocol.transport.written == b"hello\0you\0"


@LINES
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_line_may_be_as_long_as_MAX_LENGTH_however_it_is_cut(kind: type, size: int) -> None:
    protocol = connected(kind, MAX_LENGTH=10)
    assert feed(protocol, b"x" * 10 + b"\r\n" + b"y" * 10 + b"\r\n", size) == [b"x" * 10, b"y" * 10]
    assert protocol.transport.asked == []


@LINES
def test_a_longer_line_closes_the_connection(kind: type) -> None:
    for data in (b"ok\r\n" + b"x" * 11 + b"\r\nnot told\r\n", b"ok\r\n" + b"x" * 12):
        for size in (1, 1000):
            protocol = type("Closes", (kind,), {"MAX_LENGTH": 10, "lineReceived": note_line})()
            protocol.told = []
            protocol.makeConnection(Wire())
            for place in range(0, len(data), size):
                if not protocol.transport.disconnecting:
                    protocol.dataReceived(data[place : place + size])
            assert protocol.told == [b"ok"]
            assert protocol.transport.asked == ["loseConnection"]


def note_line(self: Any, line: bytes) -> None:
    self.told.append(line)


@LINES
@pytest.mark.parametrize("read", [1, 7, 100, 4096])
def test_a_line_without_end_is_told_before_more_than_the_limit_and_a_read_is_kept(
    kind: type, read: int
) -> None:
    protocol = connected(kind, MAX_LENGTH=1000)
    for _ in range(6000 // read + 1):
        protocol.dataReceived(b"x" * read)
        framer = protocol._framer
        assert framer.waiting <= 1000 + len(protocol.delimiter)
    assert protocol.told
    assert max(len(line) for _, line in protocol.told) <= 1000 + 2 + read


def test_LineReceiver_gives_all_there_is_to_lineLengthExceeded_and_takes_back_what_is_good() -> None:
    def resume(self: Any, rest: bytes) -> None:
        _, end, good = rest.partition(self.delimiter)
        if end:
            self.setLineMode(good)

    protocol = connected(LineReceiver, MAX_LENGTH=5, lineLengthExceeded=resume)
    protocol.dataReceived(b"one\r\ntoo long\r\ntwo\r\nalso too long\r\nthr")
    protocol.dataReceived(b"ee\r\n")
    lines = [each for each in protocol.told if isinstance(each, bytes)]
    assert lines == [b"one", b"two", b"three"]
    assert protocol.told[1] == ("lineLengthExceeded", b"too long\r\ntwo\r\nalso too long\r\nthr")


def test_LineOnlyReceiver_goes_on_behind_each_long_line() -> None:
    protocol = connected(LineOnlyReceiver, MAX_LENGTH=5)
    protocol.dataReceived(b"one\r\ntoo long\r\ntwo\r\n")
    assert protocol.told == [b"one", ("lineLengthExceeded", b"too long"), b"two"]


@LINES
def test_limit_and_delimiter_may_be_the_instance_s_and_change(kind: type) -> None:
    def change(self: Any, line: bytes) -> None:
        if line == b"newlines":
            self.delimiter = b"\n"
        elif line == b"short":
            self.MAX_LENGTH = 3

    protocol = connected(kind, lineReceived=change)
    for read in (b"newlines\r\n", b"a\nshort\n", b"abc\n", b"abcd\n"):
        protocol.dataReceived(read)
    assert protocol.told == [
        b"newlines",
        b"a",
        b"short",
        b"abc",
        ("lineLengthExceeded", b"abcd" + b"\n" * (kind is LineReceiver)),
    ]


def test_LineReceiver_minds_a_new_delimiter_at_once() -> None:
    def change(self: Any, line: bytes) -> None:
        self.delimiter = b";" if line == b"one" else b"\r\n"

    protocol = connected(LineReceiver, lineReceived=change)
    protocol.dataReceived(b"one\r\ntwo\r\n;three\r\n")
    assert protocol.told == [b"one", b"two\r\n", b"three"]


# ---- modes -----------------------------------------------------------------------------------------------------------


class Counted(LineReceiver):
    """Lines that say how many raw bytes follow them."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.left = 0
        self.depth = 0

    def lineReceived(self, line: bytes) -> None:
        self.told.append(line)
        self.left = int(line)
        if self.left:
            self.setRawMode()

    def rawDataReceived(self, data: bytes) -> None:
        self.depth = max(self.depth, stack_depth())
        mine = data[: self.left]
        self.left -= len(mine)
        self.told.append(mine)
        if not self.left:
            self.setLineMode(data[len(mine) :])


def stack_depth() -> int:
    frame: Any = sys._getframe()
    depth = 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_modes_can_be_switched_within_a_read(size: int) -> None:
    protocol = Counted()
    protocol.makeConnection(Wire())  # type: ignore[arg-type]
    feed(protocol, b"3\r\nraw0\r\n4\r\n\r\n\r\n1\r\nx0\r\n", size)
    lines = [each for each in protocol.told if each.isdigit()]
    raw = [each for each in protocol.told if not each.isdigit()]
    assert lines == [b"3", b"0", b"4", b"1", b"0"]
    assert b"".join(raw) == b"raw\r\n\r\nx"
    assert len(raw) == 3 or size < 1000


def test_a_hundred_thousand_switches_in_one_read_neither_recurse_nor_copy_the_rest_each_time() -> None:
    class Measured(Counted):
        copied = 0

        def rawDataReceived(self, data: bytes) -> None:
            Measured.copied += len(data)
            super().rawDataReceived(data)

    protocol = Measured()
    protocol.makeConnection(Wire())  # type: ignore[arg-type]
    protocol.dataReceived(b"3\r\nraw" * 100_000)
    assert len(protocol.told) == 200_000
    assert protocol.told[-2:] == [b"3", b"raw"]
    assert protocol.depth < stack_depth() + 10
    # A switch is given a first piece and no more. The whole rest each time would be 30 000 000 000 bytes.
    assert Measured.copied <= 100_000 * 1024


def test_raw_data_comes_whole_once_it_has_grown() -> None:
    protocol = connected(LineReceiver, lineReceived=lambda self, line: self.setRawMode())
    feed(protocol, b"go\r\n" + bytes(200_000), 65536)
    sizes = [len(data) for _, data in protocol.told[1:]]
    assert sum(sizes) == 200_000
    assert sizes[:6] == [1024, 2048, 4096, 8192, 16384, 32768]
    assert sizes[-2:] == [65536, 200_000 - 3 * 65536 + 4]


def test_raw_bytes_received_before_the_mode_was_set_come_first() -> None:
    protocol = connected(LineReceiver, lineReceived=lambda self, line: self.setRawMode())
    protocol.dataReceived(b"go\r\nraw")
    protocol.dataReceived(b" and more")
    assert protocol.told == [b"go", ("rawDataReceived", b"raw"), ("rawDataReceived", b" and more")]
    assert protocol.line_mode == 0


def test_setLineMode_from_outside_tells_the_lines_of_what_it_is_given() -> None:
    protocol = connected(LineReceiver)
    protocol.setRawMode()
    protocol.dataReceived(b"raw")
    protocol.setLineMode(b"one\r\ntwo\r\nth")
    assert protocol.told == [("rawDataReceived", b"raw"), b"one", b"two"]
    protocol.setLineMode()
    protocol.dataReceived(b"ree\r\n")
    assert protocol.told[-1] == b"three"


def test_clearLineBuffer_takes_away_what_is_not_told_yet() -> None:
    taken = []

    def take(self: Any, line: bytes) -> None:
        if line == b"two":
            taken.append(self.clearLineBuffer())

    protocol = connected(LineReceiver, lineReceived=take)
    assert protocol.clearLineBuffer() == b""
    protocol.dataReceived(b"one\r\ntwo\r\nthree\r\nfour")
    assert taken == [b"three\r\nfour"]
    assert protocol.told == [b"one", b"two"]
    protocol.dataReceived(b"five\r\n")
    assert protocol.told[-1] == b"five"


def test_raw_mode_that_nobody_handles_is_named() -> None:
    protocol = LineReceiver()
    protocol.setRawMode()
    with pytest.raises(RuntimeError, match="does not override rawDataReceived"):
        protocol.dataReceived(b"x")


# ---- pausing ---------------------------------------------------------------------------------------------------------

PAUSING = pytest.mark.parametrize(
    ("kind", "wire"), [(LineReceiver, RECEIVERS[0][1]), (Int8StringReceiver, RECEIVERS[3][1])]
)


@PAUSING
def test_pausing_in_a_callback_holds_the_next_until_resumed(kind: type, wire: bytes) -> None:
    def pause(self: Any, what: bytes) -> None:
        self.pauseProducing()

    protocol = connected(kind, lineReceived=pause, stringReceived=pause)
    protocol.dataReceived(wire)
    assert (protocol.told, protocol.paused) == ([b"one"], True)
    protocol.dataReceived(wire)
    assert protocol.told == [b"one"]
    for _ in range(7):
        protocol.resumeProducing()
    assert protocol.told == [b"one", b"two", b"", b"three"] * 2
    protocol.resumeProducing()
    assert not protocol.paused
    asked = protocol.transport.asked
    assert asked == ["pauseProducing", "resumeProducing"] * 8
    assert len(protocol.told) == 8


@PAUSING
def test_pausing_and_resuming_in_a_callback_tells_each_once_and_does_not_recurse(
    kind: type, wire: bytes
) -> None:
    depths = set()

    def blink(self: Any, what: bytes) -> None:
        depths.add(stack_depth())
        self.pauseProducing()
        self.resumeProducing()

    protocol = connected(kind, lineReceived=blink, stringReceived=blink)
    protocol.dataReceived(wire * 1000)
    assert protocol.told == [b"one", b"two", b"", b"three"] * 1000
    assert len(depths) == 1


@PAUSING
def test_stopProducing_tells_nothing_more_and_closes(kind: type, wire: bytes) -> None:
    def stop(self: Any, what: bytes) -> None:
        self.stopProducing()

    protocol = connected(kind, lineReceived=stop, stringReceived=stop)
    protocol.dataReceived(wire)
    assert protocol.told == [b"one"]
    assert protocol.transport.asked == ["loseConnection"]


@PAUSING
def test_after_the_end_of_the_connection_resuming_tells_nothing(kind: type, wire: bytes) -> None:
    def pause(self: Any, what: bytes) -> None:
        self.pauseProducing()

    protocol = connected(kind, lineReceived=pause, stringReceived=pause)
    protocol.dataReceived(wire)
    protocol.transport.state = "closed"
    protocol.resumeProducing()
    assert protocol.told == [b"one"]


def test_pausing_holds_raw_data_too() -> None:
    protocol = connected(
        LineReceiver,
        lineReceived=lambda self, line: self.setRawMode(),
        rawDataReceived=lambda self, data: self.pauseProducing(),
    )
    protocol.dataReceived(b"go\r\n" + bytes(3000))
    assert [len(what) for _, what in protocol.told[1:]] == [1024]
    protocol.resumeProducing()
    assert [len(what) for _, what in protocol.told[1:]] == [1024, 1976]


# ---- strings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "size"), [(Int8StringReceiver, 1), (Int16StringReceiver, 2), (Int32StringReceiver, 4)]
)
def test_sendString_puts_the_length_before(kind: type, size: int) -> None:
    protocol = connected(kind)
    protocol.sendString(b"hello")
    assert protocol.transport.written == (5).to_bytes(size, "big") + b"hello"
    assert protocol.prefixLength == size == struct.calcsize(protocol.structFormat)


def test_a_string_that_the_prefix_cannot_tell_is_not_sent() -> None:
    protocol = connected(Int8StringReceiver)
    protocol.sendString(b"x" * 255)
    with pytest.raises(StringTooLongError, match="256 bytes are more than a prefix of 1 bytes can tell"):
        protocol.sendString(b"x" * 256)
    assert len(protocol.transport.written) == 256


def test_a_prefix_of_one_s_own() -> None:
    class Backwards(IntNStringReceiver):
        structFormat = "<H"
        prefixLength = 2

    protocol = connected(Backwards)
    protocol.sendString(b"hello")
    assert feed(protocol, protocol.transport.written, 1) == [b"hello"]


def test_a_length_above_the_limit_is_told_at_once_and_nothing_after_it() -> None:
    protocol = connected(Int16StringReceiver, MAX_LENGTH=5)
    feed(protocol, b"\x00\x05right\x00\x06", 1)
    assert protocol.told == [b"right", ("lengthLimitExceeded", 6)]
    protocol.dataReceived(b"\x00\x03one")
    assert len(protocol.told) == 2
    assert protocol._framer.waiting == 0


def test_a_length_above_the_limit_closes_the_connection() -> None:
    protocol: Any = type("Closes", (Int8StringReceiver,), {"MAX_LENGTH": 5})()
    protocol.makeConnection(Wire())
    protocol.dataReceived(b"\x06")
    assert protocol.transport.asked == ["loseConnection"]


@pytest.mark.parametrize(("kind", "wire"), RECEIVERS[2:4])
def test_a_limit_may_be_the_instance_s_and_holds_from_the_next_string_on(kind: type, wire: bytes) -> None:
    def narrower(self: Any, string: bytes) -> None:
        self.MAX_LENGTH = 4 if string == b"one" else self.MAX_LENGTH

    protocol = connected(kind, MAX_LENGTH=5, stringReceived=narrower)
    protocol.dataReceived(wire)
    assert protocol.told[:3] == [b"one", b"two", b""]
    assert b"three" not in protocol.told
    assert protocol.told[3:] == ([("lengthLimitExceeded", 5)] if kind is Int8StringReceiver else [])


def test_recvd_shows_what_is_not_told_yet_and_can_be_set() -> None:
    shown = []

    def switch(self: Any, string: bytes) -> None:
        shown.append(self.recvd)
        if string == b"one":
            self.recvd = b"\x05other\x01"

    protocol = connected(Int8StringReceiver, stringReceived=switch)
    protocol.dataReceived(b"\x03one\x03two")
    assert shown == [b"\x03two", b"\x01"]
    assert protocol.told == [b"one", b"other"]
    assert protocol.recvd == b"\x01"


def test_recvd_set_in_lengthLimitExceeded_goes_on_with_that() -> None:
    def skip(self: Any, length: int) -> None:
        assert self.recvd == b"\x06toobig\x03one"
        self.recvd = self.recvd[1 + length :]

    protocol = connected(Int8StringReceiver, MAX_LENGTH=5, lengthLimitExceeded=skip)
    protocol.dataReceived(b"\x06toobig\x03one")
    protocol.dataReceived(b"\x03two")
    assert protocol.told == [("lengthLimitExceeded", 6), b"one", b"two"]


def test_a_netstring_is_sent_and_a_bad_one_breaks_the_peer() -> None:
    protocol = connected(NetstringReceiver)
    protocol.sendString(b"hello")
    protocol.sendString(b"")
    assert protocol.transport.written == b"5:hello,0:,"
    protocol.dataReceived(b"2:ok,2:no;2:ok,")
    assert (protocol.told, protocol.brokenPeer, protocol.transport.asked) == ([b"ok"], 1, ["loseConnection"])
    protocol.dataReceived(b"2:ok,")
    assert (protocol.told, protocol._framer.waiting) == ([b"ok"], 0)
    assert protocol.transport.asked == ["loseConnection"]


def test_a_netstring_receiver_begins_anew_with_each_connection() -> None:
    protocol = connected(NetstringReceiver)
    protocol.dataReceived(b"x")
    protocol.makeConnection(Wire())
    assert protocol.brokenPeer == 0
    protocol.dataReceived(b"2:ok,3:ha")
    protocol.makeConnection(Wire())
    protocol.dataReceived(b"2:ok,")
    assert protocol.told == [b"ok", b"ok"]


# ---- states ----------------------------------------------------------------------------------------------------------


class Login(StatefulStringProtocol, NetstringReceiver):
    def __init__(self) -> None:
        self.told: list[Any] = []

    def proto_init(self, user: bytes) -> str:
        self.told.append(("user", user))
        return "password"

    def proto_password(self, password: bytes) -> str:
        self.told.append(("password", password))
        return "done" if password == b"secret" else "nowhere"


def test_each_string_goes_to_the_method_of_the_state_and_done_closes() -> None:
    protocol = Login()
    protocol.makeConnection(Wire())  # type: ignore[arg-type]
    feed(protocol, b"3:bob,6:secret,3:bob,", 1)
    assert protocol.told == [("user", b"bob"), ("password", b"secret")]
    assert protocol.state == "done"
    assert protocol.transport.disconnecting


def test_a_state_without_a_method_drops_the_string_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "ropewalk")
    protocol = Login()
    protocol.makeConnection(Wire())  # type: ignore[arg-type]
    protocol.dataReceived(b"3:bob,5:wrong,4:lost,")
    assert len(protocol.told) == 2
    assert ["has no proto_nowhere" in each.getMessage() for each in caplog.records] == [True]


# ---- over a network --------------------------------------------------------------------------------------------------

MESSAGES = [b"%d " % number + b"x" * (number * 37 % 300) for number in range(25)]


class Answering:
    """Sends what comes back; what it heard of one connection is in the factory's list."""

    factory: Any
    transport: Any

    def connectionMade(self) -> None:
        self.heard: list[bytes] = []
        self.factory.connections.append(self.heard)

    def stringReceived(self, string: bytes) -> None:
        self.heard.append(string)
        self.factory.answer(self, string)

    lineReceived = stringReceived


def serving(kind: Any) -> Any:
    factory: Any = Factory()
    factory.noisy = False
    factory.connections = []
    factory.protocol = type("Server", (Answering, kind), {})
    factory.answer = send
    return factory


def asking(kind: Any, made: Any) -> Any:
    def connectionMade(self: Any) -> None:
        Answering.connectionMade(self)
        if hasattr(self.factory, "resetDelay"):
            self.factory.resetDelay()
        for message in MESSAGES:
            send(self, message)

    factory = made()
    factory.noisy = False
    factory.connections = []
    factory.protocol = type("Client", (Answering, kind), {"connectionMade": connectionMade})
    factory.answer = lambda self, string: None
    return factory


def send(protocol: Any, message: bytes) -> None:
    (protocol.sendLine if hasattr(protocol, "sendLine") else protocol.sendString)(message)


@EACH
@pytest.mark.parametrize("how", ["loseConnection", "abortConnection", "a reset, noticed in a nested turn"])
def test_the_engine_s_own_transport_says_when_it_is_over(kind: type, wire: bytes, how: str) -> None:
    sim = Simulation(1)
    told: list[Any] = []

    class Ends(kind):
        def connectionMade(self) -> None:
            # Why: that all messages come in one read.
            self.transport.pauseProducing()
            self.transport.reactor.callLater(1, self.transport.resumeProducing)

        def stringReceived(self, message: bytes) -> None:
            told.append(message)
            if how.startswith("a reset"):
                sim.reset(sim.connections()[0])
                self.transport.reactor.iterate(0)
                assert told[1:] == ["lost"]
            else:
                getattr(self.transport, how)()

        lineReceived = stringReceived

        def connectionLost(self, reason: Any) -> None:
            told.append("lost")

    class Writes(Protocol):
        def connectionMade(self) -> None:
            self.transport.write(wire)

    serves, asks = Factory.forProtocol(Ends), ClientFactory.forProtocol(Writes)
    serves.noisy = asks.noisy = False
    port = sim.host("server").reactor.listenTCP(7, serves)
    sim.host("client").reactor.connectTCP("server", 7, asks)
    sim.advance(10)
    port.stopListening()
    sim.runUntilIdle()
    sim.checkAtRest()
    assert told == [b"one", "lost"]


@EACH
@simulate(seeds=5)
def test_over_short_reads_and_writes_every_message_comes_back(
    simulation: Simulation, kind: type, wire: bytes
) -> None:
    kind = Int16StringReceiver if kind is Int8StringReceiver else kind
    server, client = simulation.host("server"), simulation.host("client")
    for host in (server, client):
        for call in ("recv", "send", "sendmsg"):
            host.faults.short(call, simulation.random.choice([1, 3, 50]))
    serves, asks = serving(kind), asking(kind, ClientFactory)
    server.reactor.listenTCP(7, serves)
    client.reactor.connectTCP("server", 7, asks)
    simulation.run(until=simulation.now + 600)
    assert serves.connections == asks.connections == [MESSAGES]


@EACH
@simulate(seeds=15)
def test_through_a_storm_each_connection_hears_a_beginning_of_what_was_sent(
    simulation: Simulation, kind: type, wire: bytes
) -> None:
    kind = Int16StringReceiver if kind is Int8StringReceiver else kind
    serves, asks = serving(kind), asking(kind, ReconnectingClientFactory)
    asks.maxDelay = 2
    simulation.host("server").onStart(lambda reactor: reactor.listenTCP(7, serves))
    simulation.host("client").onStart(lambda reactor: reactor.connectTCP("server", 7, asks))
    storm = simulation.storm(20, every=2)
    simulation.run(until=storm.ends + 60)
    assert serves.connections
    for heard in serves.connections + asks.connections:
        assert heard == MESSAGES[: len(heard)]
    assert asks.connections[-1] == MESSAGES
