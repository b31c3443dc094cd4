"""FAULTS B1–B13, F3, F4, F14: what the kernel says about descriptors is acted upon once, by the right one, and never spins.

"No spin" is counted: `idle_rows` turns the loop many times in a state in which nothing should happen, and looks at what
the poller told. One row repeated is the beginning of 100 % CPU.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import threading

import pytest

from ropewalk import Reactor
from ropewalk._loop.loop import Loop
from ropewalk._loop.poller import ERR, HUP, IN, OUT
from ropewalk._system import RealSystem
from ropewalk.error import CannotListenError, ConnectionDone, ConnectionLost
from tests.faults.scene import (
    Echo,
    HalfTold,
    Makes,
    PushProducer,
    Told,
    call,
    end_all,
    idle_rows,
    listening,
    read_to_end,
    reset,
    turn_until,
)

PRI = 2
ALL_FLAGS = [0, *range(1, 32)]


def accepted(reactor, port, factory, most=400):
    """A peer, and the protocol that was built for it."""
    count = len(factory.built)
    peer = call(port)
    turn_until(reactor, lambda: len(factory.built) > count, most)
    return peer, factory.last


# ---- B1: all combinations of flags ----------------------------------------------------------------------------------


def fresh(protocol, peer):
    """Connected, nothing special."""


def paused(protocol, peer):
    protocol.transport.pauseProducing()


def peer_ended(protocol, peer):
    peer.shutdown(socket.SHUT_WR)


def we_ended(protocol, peer):
    protocol.transport.loseWriteConnection()


def both_ended(protocol, peer):
    protocol.transport.pauseProducing()
    protocol.transport.loseWriteConnection()
    peer.sendall(b"unread")
    peer.shutdown(socket.SHUT_WR)


def closing(protocol, peer):
    protocol.transport.write(b"x" * 20_000_000)
    protocol.transport.loseConnection()


def flooded(protocol, peer):
    protocol.transport.write(b"x" * 20_000_000)


def was_reset(protocol, peer):
    protocol.transport.pauseProducing()
    reset(peer)


STATES = (fresh, paused, peer_ended, we_ended, both_ended, closing, flooded, was_reset)


@pytest.mark.parametrize("state", STATES, ids=lambda each: each.__name__)
def test_B1_every_combination_of_flags_in_every_state_is_survived(counted, system, errors, state):
    """The handler is given all 32, whatever the kernel would say; afterwards the stream must work, or be over."""
    for flags in ALL_FLAGS:
        factory = Makes(HalfTold)
        with listening(counted, factory) as port:
            peer, protocol = accepted(counted, port, factory)
            state(protocol, peer)
            for _ in range(3):
                counted.iterate(0)
            stream = protocol.transport
            for _ in range(3):
                if stream.connected and stream.fd in counted._loop.watchers:
                    stream.ready(flags)
                    counted._loop.settle()
            # Why: an error or a hang-up comes back in the next turn, so after three of them somebody must have acted.
            if flags & (ERR | HUP) and not flags & IN:
                assert not stream.connected or stream.fd not in counted._loop.watchers
            if stream.connected:
                stream.write(b"end")
                stream.resumeProducing()
            peer.close()
            end_all(counted, factory)
            assert protocol.told.count("lost") == 1
            assert protocol.told[-1] == "lost"
    assert errors() == []


def test_B1_error_and_hang_up_together_end_the_connection_at_once(any_poller, system):
    """#2809: both bits set, and a comparison instead of a mask test, is 100 % CPU."""
    factory = Makes()
    with listening(any_poller, factory) as port:
        peer, protocol = accepted(any_poller, port, factory)
        reset(peer)
        turn_until(any_poller, lambda: protocol.is_over)
        assert isinstance(protocol.reason, ConnectionLost)
        assert protocol.reason.errno is not None
        assert idle_rows(any_poller, system) == []


# ---- B2, B3, F3, F4: resets that nobody reads for -------------------------------------------------------------------

BLIND_SPOTS = {"F3_B3_paused": paused, "F4_B2_peer_half_closed": peer_ended, "B2_we_half_closed": we_ended}


@pytest.mark.parametrize("spot", BLIND_SPOTS.values(), ids=BLIND_SPOTS.keys())
def test_F3_F4_B2_B3_a_reset_is_noticed_though_nobody_reads(any_poller, system, spot):
    factory = Makes(HalfTold)
    with listening(any_poller, factory) as port:
        peer, protocol = accepted(any_poller, port, factory)
        spot(protocol, peer)
        for _ in range(5):
            any_poller.iterate(0)
        # Idle, data unread or FIN received: not one event in thirty turns.
        assert idle_rows(any_poller, system) == []
        reset(peer)
        if any_poller._loop.poller.notices_reset_at_mask_zero or spot is we_ended:
            turn_until(any_poller, lambda: protocol.is_over)
            assert isinstance(protocol.reason, ConnectionLost)
            assert protocol.reason.ended.by in ("peer reset", "error")
        assert idle_rows(any_poller, system) == []
        end_all(any_poller, factory)
    assert protocol.told.count("lost") == 1


@pytest.mark.parametrize("number", range(20))
def test_F3_twenty_of_twenty_resets_on_paused_connections_are_noticed(counted, number):
    factory = Makes()
    with listening(counted, factory) as port:
        peer, protocol = accepted(counted, port, factory)
        protocol.transport.pauseProducing()
        peer.sendall(b"unread " * number)
        counted.iterate(0)
        reset(peer)
        turn_until(counted, lambda: protocol.is_over)
        assert protocol.reason.ended.by == "peer reset"


def test_F3_B3_paused_with_data_unread_is_silent_and_resuming_brings_it(any_poller, system):
    factory = Makes()
    with listening(any_poller, factory) as port:
        peer, protocol = accepted(any_poller, port, factory)
        protocol.transport.pauseProducing()
        any_poller.iterate(0)
        peer.sendall(b"later")
        assert idle_rows(any_poller, system) == []
        protocol.transport.resumeProducing()
        turn_until(any_poller, lambda: protocol.received == b"later")
        peer.close()
        turn_until(any_poller, lambda: protocol.is_over)


def test_F4_after_fin_and_rst_recv_says_end_of_file_but_the_reason_says_reset(counted):
    """recv gives b"" there; only the event bits and SO_ERROR tell."""
    factory = Makes()
    with listening(counted, factory) as port:
        peer, protocol = accepted(counted, port, factory)
        protocol.transport.pauseProducing()
        counted.iterate(0)
        protocol.transport.write(b"x")
        counted.iterate(0)
        peer.shutdown(socket.SHUT_WR)
        reset(peer)
        protocol.transport.resumeProducing()
        turn_until(counted, lambda: protocol.is_over)
        assert isinstance(protocol.reason, ConnectionLost)
        assert protocol.reason.ended.by == "peer reset"


def test_F4_data_sent_before_the_reset_is_delivered_before_the_loss(any_poller):
    factory = Makes()
    with listening(any_poller, factory) as port:
        peer, protocol = accepted(any_poller, port, factory)
        peer.sendall(b"hello")
        reset(peer)
        turn_until(any_poller, lambda: protocol.is_over)
        assert protocol.told == ["made", "data", "lost"]
        assert protocol.received == b"hello"
        assert protocol.reason.ended.by == "peer reset"


@pytest.mark.parametrize("first", ["we", "peer"])
def test_B2_both_sides_half_closed_ends_with_every_poller(any_poller, system, first):
    """select cannot say "hang-up" of a descriptor it is not asked about: the stream itself must see that all is over."""
    factory = Makes(HalfTold)
    with listening(any_poller, factory) as port:
        peer, protocol = accepted(any_poller, port, factory)
        if first == "we":
            protocol.transport.loseWriteConnection()
            turn_until(any_poller, lambda: "write side lost" in protocol.told)
            assert peer.recv(1) == b""
            peer.shutdown(socket.SHUT_WR)
        else:
            peer.shutdown(socket.SHUT_WR)
            turn_until(any_poller, lambda: "read side lost" in protocol.told)
            protocol.transport.loseWriteConnection()
        turn_until(any_poller, lambda: protocol.is_over)
        assert isinstance(protocol.reason, ConnectionDone)
        peer.close()
    assert idle_rows(any_poller, system) == []


def test_B2_a_paused_stream_with_both_sides_shut_neither_spins_nor_forgets_what_came(any_poller, system):
    factory = Makes(HalfTold)
    with listening(any_poller, factory) as port:
        peer, protocol = accepted(any_poller, port, factory)
        both_ended(protocol, peer)
        for _ in range(5):
            any_poller.iterate(0)
        assert idle_rows(any_poller, system) == []
        assert not protocol.is_over
        protocol.transport.resumeProducing()
        turn_until(any_poller, lambda: protocol.is_over)
        assert protocol.received == b"unread"
        assert isinstance(protocol.reason, ConnectionDone)
        assert protocol.told.count("read side lost") == 1
        peer.close()


@pytest.mark.parametrize("how", ["loseConnection", "abortConnection"])
def test_B2_a_parked_stream_can_be_closed_and_aborted(any_poller, system, how):
    factory = Makes(HalfTold)
    with listening(any_poller, factory) as port:
        peer, protocol = accepted(any_poller, port, factory)
        both_ended(protocol, peer)
        for _ in range(5):
            any_poller.iterate(0)
        getattr(protocol.transport, how)()
        turn_until(any_poller, lambda: protocol.is_over)
        peer.close()


def test_B3_a_peer_that_dies_while_we_write_is_noticed_while_paused(counted):
    factory = Makes()
    with listening(counted, factory) as port:
        peer, protocol = accepted(counted, port, factory)
        protocol.transport.pauseProducing()
        protocol.transport.write(b"x" * 5_000_000)
        counted.iterate(0)
        reset(peer)
        turn_until(counted, lambda: protocol.is_over)
        assert isinstance(protocol.reason, ConnectionLost)


# ---- B4: hang-up before the last data -------------------------------------------------------------------------------


class PipeReader:
    """Reads a descriptor as a user of addReader does."""

    def __init__(self, reactor, fd, size=4):
        self.reactor, self.fd, self.size = reactor, fd, size
        self.received, self.lost, self.calls = b"", [], 0

    def fileno(self):
        return self.fd

    def logPrefix(self):
        return "pipe"

    def doRead(self):
        self.calls += 1
        data = os.read(self.fd, self.size)
        self.received += data
        if not data:
            return ConnectionDone()
        return None

    def doWrite(self):
        self.calls += 1

    def connectionLost(self, reason):
        self.lost.append(reason.value)


def test_B4_what_a_pipe_holds_is_read_though_the_hang_up_comes_with_it(any_poller, system):
    reading, writing = os.pipe()
    reader = PipeReader(any_poller, reading)
    any_poller.addReader(reader)
    os.write(writing, b"twelve bytes")
    os.close(writing)
    turn_until(any_poller, lambda: reader.lost)
    assert reader.received == b"twelve bytes"
    assert len(reader.lost) == 1
    assert idle_rows(any_poller, system) == []
    os.close(reading)


def test_B4_a_writer_whose_reader_went_away_is_told_once_and_does_not_spin(any_poller, system):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 65536)
    except BlockingIOError:
        pass

    class Writer(PipeReader):
        def doWrite(self):
            self.calls += 1
            try:
                os.write(self.fd, b"x")
            except OSError as exc:
                return exc

    writer = Writer(any_poller, writing)
    any_poller.addWriter(writer)
    any_poller.iterate(0)
    os.close(reading)
    turn_until(any_poller, lambda: writer.lost)
    assert len(writer.lost) == 1
    assert idle_rows(any_poller, system) == []
    os.close(writing)


# ---- B5: half-close, once -------------------------------------------------------------------------------------------


def test_B5_half_close_is_told_exactly_once_whatever_comes_after_it(any_poller):
    factory = Makes(HalfTold)
    with listening(any_poller, factory) as port:
        peer, protocol = accepted(any_poller, port, factory)
        peer.sendall(b"last words")
        peer.shutdown(socket.SHUT_WR)
        turn_until(any_poller, lambda: "read side lost" in protocol.told)
        transport = protocol.transport
        for _ in range(3):
            transport.pauseProducing()
            any_poller.iterate(0)
            transport.resumeProducing()
            any_poller.iterate(0)
        transport.write(b"still here")
        transport.loseWriteConnection()
        transport.loseWriteConnection()
        turn_until(any_poller, lambda: protocol.is_over)
        assert read_to_end(peer) == b"still here"
        assert protocol.told == ["made", "data", "read side lost", "write side lost", "lost"]
        peer.close()


@pytest.mark.parametrize("callback", ["readConnectionLost", "writeConnectionLost"])
@pytest.mark.parametrize("asked", ["loseConnection", "abortConnection"])
def test_B5_closing_from_within_each_half_close_callback_loses_the_connection_once(counted, callback, asked):
    class Closes(HalfTold):
        pass

    def close(self):
        getattr(HalfTold, callback)(self)
        getattr(self.transport, asked)()

    setattr(Closes, callback, close)
    factory = Makes(Closes)
    with listening(counted, factory) as port:
        peer, protocol = accepted(counted, port, factory)
        if callback == "readConnectionLost":
            peer.shutdown(socket.SHUT_WR)
        else:
            protocol.transport.loseWriteConnection()
        turn_until(counted, lambda: protocol.is_over)
        counted.iterate(0)
        assert protocol.told.count("lost") == 1
        peer.close()


# ---- B6, B7, F14: a number that is used again -----------------------------------------------------------------------


class Idle(PipeReader):
    def doRead(self):
        self.calls += 1


def test_B6_F14_an_event_for_a_closed_descriptor_does_not_reach_the_new_owner_of_its_number(counted, system):
    """Two are ready in one batch; the first one's handler closes the second and opens something under its number."""
    factory = Makes()
    made = []

    class Victim(Told):
        def connectionLost(self, reason):
            super().connectionLost(reason)
            ours, theirs = socket.socketpair()
            made.extend((ours, theirs))
            reader = Idle(
                counted, next(each.fileno() for each in (ours, theirs) if each.fileno() == victim_fd)
            )
            made.append(reader)
            counted.addReader(reader)

    class Killer(Told):
        def dataReceived(self, data):
            super().dataReceived(data)
            victim.transport.abortConnection()

    with listening(counted, factory) as port:
        factory.kind = Killer
        first, killer = accepted(counted, port, factory)
        factory.kind = Victim
        second, victim = accepted(counted, port, factory)
        victim_fd = victim.transport.fd
        system_poller = counted._loop.poller
        system_poller.sort = lambda row: row[0] == victim_fd
        first.sendall(b"kill")
        second.sendall(b"stale")
        # Both must be in one batch.
        while len(select.select([killer.transport.fd, victim_fd], [], [], 0)[0]) < 2:
            pass
        counted.iterate(0)
        assert [fd for fd, _ in system.polls[-1][1]][-1] == victim_fd
        ours, theirs, reader = made
        assert victim.told == ["made", "lost"]
        assert reader.calls == 0
        assert reader.lost == []
        theirs.send(b"now") if ours.fileno() == victim_fd else ours.send(b"now")
        turn_until(counted, lambda: reader.calls)
        counted.removeReader(reader)
        for each in (first, second, ours, theirs):
            each.close()


class Script:
    """A poller that gives the rows it was told to give, whoever is registered."""

    name = "script"
    notices_reset_at_mask_zero = True

    def __init__(self):
        self.batches = []

    def register(self, fd, mask):
        pass

    modify = register

    def unregister(self, fd):
        pass

    def poll(self, timeout, limit):
        return self.batches.pop(0) if self.batches else []

    def close(self):
        pass


class Watcher:
    def __init__(self, then=None):
        self.events = []
        self._then = then

    def ready(self, event):
        self.events.append(event)
        if self._then is not None:
            self._then()

    def shut_down(self):
        pass


@pytest.fixture
def scripted():
    loop = Loop(RealSystem(), Script())
    before = loop.enter()
    yield loop
    loop.leave(before)
    loop.close()


@pytest.mark.parametrize("times", [1, 2, 15, 255, 256, 257, 65_535, 65_536, 65_537])
def test_B7_no_number_of_reuses_within_one_batch_wraps_around(scripted, times):
    newest = Watcher()

    def reuse():
        for _ in range(times):
            scripted.unwatch(5)
            scripted.watch(5, newest, IN)

    scripted.watch(4, Watcher(reuse), IN)
    scripted.watch(5, Watcher(), IN)
    scripted.poller.batches = [[(4, IN), (5, IN)], [(5, IN)]]
    scripted.turn(0)
    assert newest.events == []
    scripted.turn(0)
    assert newest.events == [IN]


def test_B7_reading_and_writing_do_not_hide_each_other(scripted):
    """One descriptor, both events, its mask changed in between: nothing is lost, nothing comes twice."""
    seen = []

    class Both:
        def ready(self, event):
            seen.append(event)
            scripted.rewatch(5, self, IN | OUT)

        def shut_down(self):
            pass

    scripted.watch(5, Both(), IN)
    scripted.poller.batches = [[(5, IN)], [(5, OUT)], [(5, IN | OUT)]]
    for _ in range(3):
        scripted.turn(0)
    assert seen == [IN, OUT, IN | OUT]


def test_B6_turning_the_loop_from_within_a_handler_brings_no_stale_event():
    """A handler calls reactor.iterate(): what the outer batch still holds was told to others, or is told again."""
    script = Script()

    class Scripted(RealSystem):
        def poller(self, kind):
            return script

    with Reactor(system=Scripted()) as reactor:
        loop = reactor._loop
        newest = Watcher()

        def reuse_and_turn():
            reactor.iterate()
            loop.unwatch(5)
            loop.watch(5, newest, IN)
            reactor.iterate()
            reactor.iterate()

        loop.watch(4, Watcher(reuse_and_turn), IN)
        loop.watch(5, Watcher(), IN)
        script.batches = [[(4, IN), (5, IN)]]
        reactor.iterate()
        assert newest.events == []


def test_B6_a_watcher_that_was_taken_out_in_the_same_batch_is_not_called(scripted):
    gone = Watcher()
    scripted.watch(4, Watcher(lambda: scripted.unwatch(5)), IN)
    scripted.watch(5, gone, IN)
    scripted.poller.batches = [[(4, IN), (5, IN)]]
    scripted.turn(0)
    assert gone.events == []


def test_B6_removing_a_reader_closed_behind_our_back_does_not_touch_who_has_its_number_now(counted):
    """The user closes first and removes later; meanwhile a connection of ours was given the number."""
    factory = Makes(Echo)
    with listening(counted, factory) as port:
        ours, theirs = socket.socketpair()
        reader = Idle(counted, ours.fileno())
        counted.addReader(reader)
        number = ours.fileno()
        caller = call(port)
        ours.close()
        turn_until(counted, lambda: factory.built)
        assert factory.last.transport.fd == number
        counted.removeReader(reader)
        caller.sendall(b"hello?")
        turn_until(counted, lambda: factory.last.received)
        counted.iterate(0)
        assert caller.recv(10) == b"hello?"
        assert counted.getReaders() == []
        theirs.close()
        caller.close()


class Socketed(Idle):
    """Asks its socket for the number, which tells when it is closed."""

    def __init__(self, reactor, sock):
        super().__init__(reactor, None)
        self.sock = sock

    def fileno(self):
        return self.sock.fileno()


def closed_and_reused(sock):
    """Close a socket; another one that has its number now, and its peer."""
    ours, theirs = socket.socketpair()
    number = sock.fileno()
    sock.close()
    with ours:
        return socket.socket(fileno=os.dup2(ours.fileno(), number)), theirs


def test_B7_an_object_that_has_another_descriptor_now_is_watched_there_alone(any_poller, system):
    (old, old_peer), (new, new_peer) = socket.socketpair(), socket.socketpair()
    it = Socketed(any_poller, old)
    any_poller.addReader(it)
    it.sock = new
    old.close()
    any_poller.addReader(it)
    assert idle_rows(any_poller, system) == []
    new_peer.send(b"x")
    turn_until(any_poller, lambda: it.calls)
    assert it.lost == []
    any_poller.removeReader(it)
    assert any_poller.getReaders() == []
    for each in (old_peer, new, new_peer):
        each.close()


def test_B7_a_reader_of_before_does_not_share_the_number_with_the_writer_of_now(any_poller):
    sock, peer = socket.socketpair()
    old = Socketed(any_poller, sock)
    any_poller.addReader(old)
    sock, new_peer = closed_and_reused(sock)
    new = Socketed(any_poller, sock)
    any_poller.addWriter(new)
    assert (any_poller.getReaders(), any_poller.getWriters()) == ([], [new])
    new_peer.send(b"x")
    turn_until(any_poller, lambda: new.calls)
    assert (old.calls, old.lost) == (0, [])
    any_poller.removeWriter(new)
    for each in (peer, sock, new_peer):
        each.close()


def test_B7_epoll_tells_so_even_of_one_who_knows_nothing_but_the_number(counted, tmp_path):
    sock, peer = socket.socketpair()
    counted.addReader(Idle(counted, sock.fileno()))
    sock, new_peer = closed_and_reused(sock)
    writer = Idle(counted, sock.fileno())
    counted.addWriter(writer)
    assert (counted.getReaders(), counted.getWriters()) == ([], [writer])
    turn_until(counted, lambda: writer.calls)
    # And once more, by a regular file, which epoll cannot hold.
    with (tmp_path / "file").open("wb") as file:
        os.dup2(file.fileno(), sock.fileno())
    reader = Idle(counted, sock.fileno())
    counted.addReader(reader)
    assert (counted.getReaders(), counted.getWriters()) == ([reader], [])
    turn_until(counted, lambda: reader.calls)
    counted.removeReader(reader)
    for each in (peer, sock, new_peer):
        each.close()


@pytest.mark.parametrize("how", ["addReader", "addWriter"])
def test_B9_a_number_that_is_not_open_is_refused_at_once_with_every_poller(any_poller, system, how):
    sock = socket.socket()
    reader = Idle(any_poller, sock.fileno())
    sock.close()
    with pytest.raises(ValueError, match="has no open descriptor"):
        getattr(any_poller, how)(reader)
    assert any_poller.getReaders() == any_poller.getWriters() == []
    assert idle_rows(any_poller, system) == []
    assert reader.lost == []


def test_B9_a_descriptor_closed_in_doRead_that_ends_its_reader_does_not_end_the_loop(any_poller, errors):
    """Its writer is another object, for which the number would have to stay watched."""
    ours, theirs = socket.socketpair()

    class Closes(Idle):
        def doRead(self):
            ours.close()
            return ConnectionDone()

    reader, writer = Closes(any_poller, ours.fileno()), Idle(any_poller, ours.fileno())
    any_poller.addReader(reader)
    any_poller.addWriter(writer)
    theirs.send(b"x")
    turn_until(any_poller, lambda: reader.lost)
    any_poller.iterate(0)
    any_poller.removeWriter(writer)
    assert len(reader.lost) == 1
    assert errors() == []
    theirs.close()


# ---- B8, B9: out of the poller first --------------------------------------------------------------------------------


def test_B8_a_copy_of_a_closed_descriptor_brings_no_events(any_poller, system):
    factory = Makes()
    with listening(any_poller, factory) as port:
        peer, protocol = accepted(any_poller, port, factory)
        copy = os.dup(protocol.transport.fileno())
        protocol.transport.loseConnection()
        turn_until(any_poller, lambda: protocol.is_over)
        peer.sendall(b"to nobody")
        assert idle_rows(any_poller, system) == []
        os.close(copy)
        peer.close()


def closes_without_leaving(order):
    """Descriptors that were closed while they were registered, judged from the notes of a CountedSystem."""
    registered, wrong = set(), []
    for what, fd in order:
        if what == "register":
            registered.add(fd)
        elif what == "unregister":
            registered.discard(fd)
        elif what == "close" and fd in registered:
            wrong.append(fd)
    return wrong


@pytest.mark.parametrize("end", ["loseConnection", "abortConnection", "peer", "reset", "raise", "nobody"])
def test_B9_every_way_to_end_leaves_the_poller_before_the_descriptor_is_closed(counted, system, end):
    class Ends(Told):
        def dataReceived(self, data):
            if end == "raise":
                raise ZeroDivisionError
            getattr(self.transport, end)()

    class Builds(Makes):
        def buildProtocol(self, addr):
            made = super().buildProtocol(addr)
            return None if end == "nobody" else made

    factory = Builds(Ends)
    with listening(counted, factory) as port:
        peer = call(port)
        if end == "reset":
            reset(peer)
        elif end == "peer":
            peer.close()
        elif end != "nobody":
            peer.sendall(b"x")
        turn_until(counted, lambda: factory.built)
        turn_until(counted, lambda: factory.last.is_over or end == "nobody")
        counted.iterate(0)
        peer.close()
    client = Makes()
    counted.connectTCP("127.0.0.1", port.port, client)
    turn_until(counted, lambda: client.reason)
    connector = counted.connectTCP("127.0.0.1", port.port, client)
    connector.stopConnecting()
    assert "close" in dict(system.order)
    assert closes_without_leaving(system.order) == []


def test_B9_a_number_that_was_closed_behind_our_back_is_survived(counted, errors):
    """os.close on our descriptor, by mistake: the connection ends, the loop does not."""
    factory = Makes()
    with listening(counted, factory) as port:
        peer, protocol = accepted(counted, port, factory)
        os.close(protocol.transport.fileno())
        protocol.transport.write(b"into the void")
        turn_until(counted, lambda: protocol.is_over)
        assert protocol.reason.errno == errno.EBADF
        peer.close()
    assert errors() == []


def test_B9_the_simulated_kernel_has_no_complaint_either(sim):
    """Its ledger counts a close of something still registered as a misdeed; see `checkAtRest` in the fixture."""
    server, client = sim.host("server"), sim.host("client")
    port = server.reactor.listenTCP(7, Makes(Echo))
    for _ in range(5):
        factory = Makes()
        client.reactor.connectTCP("server", 7, factory)
        sim.advance(1)
        factory.last.transport.write(b"x")
        sim.advance(1)
        factory.last.transport.loseConnection()
        sim.advance(1)
        assert factory.last.is_over
    port.stopListening()
    sim.runUntilIdle()
    assert server.misdeeds == client.misdeeds == []


# ---- B10: regular files ---------------------------------------------------------------------------------------------


def test_B10_regular_files_are_always_ready_and_hold_up_nobody(any_poller, system, tmp_path):
    """epoll refuses them with EPERM; reading one never blocks."""
    path = tmp_path / "text"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    reader = PipeReader(any_poller, fd, size=3)
    factory = Makes(Echo)
    with listening(any_poller, factory) as port:
        peer, protocol = accepted(any_poller, port, factory)
        any_poller.addReader(reader)
        peer.sendall(b"between")
        turn_until(any_poller, lambda: reader.lost and protocol.received)
        assert reader.received == b"0123456789"
        assert reader.calls == 5
        assert peer.recv(10) == b"between"
        assert any_poller.getReaders() == []
        assert idle_rows(any_poller, system) == []
        peer.close()
    os.close(fd)


# ---- B11: interruptions ---------------------------------------------------------------------------------------------


def test_B11_a_signal_while_it_waits_disturbs_nothing(any_poller):
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        thread = threading.Timer(0.02, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        done = []
        any_poller.callLater(0.06, done.append, True)
        thread.start()
        turn_until(any_poller, lambda: done)
        thread.join()
        turn_until(any_poller, lambda: heard)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("which", ["accept", "recv", "send", "sendmsg"])
def test_B11_an_interrupted_call_is_made_again_and_no_byte_is_lost(counted, system, which):
    """Python makes most of them again by itself (PEP 475); one that comes through anyway is like EAGAIN."""
    factory = Makes(Echo)
    with listening(counted, factory) as port:
        peer = call(port)
        if which == "accept":
            system.fail(which, 4, times=3)
        turn_until(counted, lambda: factory.built)
        protocol = factory.last
        system.fail(which, 4, times=3)
        peer.sendall(b"ping")
        turn_until(counted, lambda: protocol.received == b"ping")
        protocol.transport.writeSequence([b"a" * 20_000, b"b" * 20_000])
        got = b""
        while len(got) < 40_004:
            counted.iterate(0)
            if select.select([peer], [], [], 0)[0]:
                got += peer.recv(1 << 16)
        assert got == b"ping" + b"a" * 20_000 + b"b" * 20_000
        system.mend(which)
        peer.close()
        turn_until(counted, lambda: protocol.is_over)
        assert isinstance(protocol.reason, ConnectionDone)


# ---- B12, B13: nothing to do is nothing done ------------------------------------------------------------------------


def test_B12_writability_is_asked_for_only_while_something_waits(any_poller, system):
    factory = Makes()
    with listening(any_poller, factory) as port:
        peer, protocol = accepted(any_poller, port, factory)
        fd = protocol.transport.fd
        protocol.transport.write(b"small")
        any_poller.iterate(0)
        assert [mask for number, mask in system.modified if number == fd] == []
        protocol.transport.write(b"x" * 8_000_000)
        got = b""
        peer.setblocking(False)
        while len(got) < 8_000_005:
            any_poller.iterate(0)
            try:
                got += peer.recv(1 << 20)
            except BlockingIOError:
                pass
        any_poller.iterate(0)
        masks = [mask for number, mask in system.modified if number == fd]
        assert masks[0] == IN | OUT
        assert masks[-1] == IN
        assert idle_rows(any_poller, system) == []
        peer.close()


def test_B12_a_storm_of_eagain_makes_no_empty_sends(sim):
    """The kernel says "writable" and then "not now", a hundred times: each wake-up tries once, and none is for nothing."""
    server, client = sim.host("server"), sim.host("client")
    port = server.reactor.listenTCP(7, Makes(Echo))
    factory = Makes()
    client.reactor.connectTCP("server", 7, factory)
    sim.advance(1)
    transport = factory.last.transport
    client.faults.fail("send", 11, times=100)
    transport.write(b"persistent")
    sim.advance(1)
    assert factory.last.received == b"persistent"
    assert client.faults.given["send", 11] == 100
    before = client.faults.counts["send"], sim.turns
    sim.advance(100)
    assert (client.faults.counts["send"], sim.turns) == before
    transport.loseConnection()
    port.stopListening()
    sim.runUntilIdle()


def test_B12_a_kernel_without_buffers_is_asked_again_after_a_rest_not_at_once(sim):
    server, client = sim.host("server"), sim.host("client")
    port = server.reactor.listenTCP(7, Makes(Echo))
    factory = Makes()
    client.reactor.connectTCP("server", 7, factory)
    sim.advance(1)
    client.faults.fail("send", 105, times=None)
    before = client.faults.counts["send"]
    factory.last.transport.write(b"patient")
    sim.advance(1.0)
    assert client.faults.counts["send"] - before <= 110
    client.faults.clear()
    sim.advance(1)
    assert factory.last.received == b"patient"
    factory.last.transport.loseConnection()
    port.stopListening()
    sim.runUntilIdle()


def test_B12_a_rest_that_the_end_of_the_connection_overtakes_leaves_no_timer(sim):
    server, client = sim.host("server"), sim.host("client")
    port = server.reactor.listenTCP(7, Makes())
    factory = Makes()
    client.reactor.connectTCP("server", 7, factory)
    sim.advance(1)
    client.faults.fail("send", 105, times=None)
    factory.last.transport.write(b"patient")
    sim.advance(0)
    factory.last.transport.abortConnection()
    sim.advance(0)
    assert factory.last.is_over
    assert client.reactor.getDelayedCalls() == []
    port.stopListening()
    sim.runUntilIdle()


def test_B13_a_chain_of_timers_of_zero_seconds_is_one_turn_each_and_then_silence(counted, system):
    called = []

    def again():
        called.append(len(system.polls))
        if len(called) < 50:
            counted.callLater(0, again)

    counted.callLater(0, again)
    turn_until(counted, lambda: len(called) == 50)
    turns = called[-1] - called[0]
    assert turns >= 49
    counted.iterate(0)
    assert counted.getDelayedCalls() == []
    assert idle_rows(counted, system) == []


def test_B13_a_timer_that_is_nearly_due_does_not_wake_the_loop_again_and_again(sim):
    """Waiting is rounded up: a wait that ends a little too early would be repeated without end."""
    host = sim.host("host")
    called = []
    for number in range(100):
        host.reactor.callLater(1 + number / 7, called.append, number)
    sim.runUntilIdle()
    assert called == list(range(100))
    assert sim.turns <= 210


def test_B13_the_real_loop_waits_for_a_timer_in_a_few_polls(counted, system):
    called = []
    counted.callLater(0.02, called.append, True)
    start = len(system.polls)
    while not called:
        counted.iterate(0.05)
    assert len(system.polls) - start <= 4


def test_B13_a_reset_of_an_idle_timer_costs_no_turns(sim):
    """An idle time-out pushed back on each packet: the stale heap entry must not make the loop come round early."""
    host = sim.host("host")
    called = []
    idle = host.reactor.callLater(10, called.append, "idle")

    def packet(left):
        idle.reset(10)
        if left:
            host.reactor.callLater(0.1, packet, left - 1)

    packet(200)
    sim.runUntilIdle()
    assert called == ["idle"]
    assert sim.turns <= 450


def test_B12_a_producer_that_has_nothing_to_give_is_not_asked_in_a_circle(sim):
    server, client = sim.host("server"), sim.host("client")
    port = server.reactor.listenTCP(7, Makes())
    factory = Makes()
    client.reactor.connectTCP("server", 7, factory)
    sim.advance(1)
    asked = PushProducer()
    factory.last.transport.registerProducer(asked, False)
    before = sim.turns
    sim.advance(10)
    assert asked.told == ["resume"]
    assert sim.turns - before <= 5
    factory.last.transport.unregisterProducer()
    factory.last.transport.loseConnection()
    port.stopListening()
    sim.runUntilIdle()


def test_B1_a_reactor_with_each_poller_serves_the_same_echo():
    for name in ("epoll", "poll", "select"):
        with Reactor(poller=name) as reactor:
            factory = Makes(Echo)
            with listening(reactor, factory) as port:
                peer = call(port)
                peer.sendall(b"same")
                turn_until(reactor, lambda factory=factory: factory.built and factory.last.received)
                reactor.iterate(0)
                assert peer.recv(9) == b"same"
                peer.close()


# ---- B6: numbers that are too large ---------------------------------------------------------------------------------


def test_B6_A1_a_number_that_select_cannot_hold_costs_that_connection_and_not_the_loop(errors):
    """FD_SETSIZE is 1024: with that many descriptors open elsewhere, each new socket is one too many."""
    with Reactor(poller="select") as reactor:
        factory = Makes(Echo)
        with listening(reactor, factory) as port:
            early, served = accepted(reactor, port, factory)
            filling = [os.open(os.devnull, os.O_RDONLY)]
            while filling[-1] < 1024:
                filling.append(os.dup(filling[0]))
            peer, protocol = accepted(reactor, port, factory)
            turn_until(reactor, lambda: protocol.is_over)
            assert isinstance(protocol.reason, ConnectionLost)
            assert protocol.reason.errno == errno.EMFILE
            assert peer.recv(1) == b""
            caller = Makes()
            reactor.connectTCP("127.0.0.1", port.port, caller)
            turn_until(reactor, lambda: caller.reason)
            assert caller.reason.errno == errno.EMFILE
            with pytest.raises(CannotListenError):
                reactor.listenTCP(0, Makes())
            early.sendall(b"still here")
            turn_until(reactor, lambda: served.received)
            for fd in filling:
                os.close(fd)
            late, again = accepted(reactor, port, factory)
            late.sendall(b"back")
            turn_until(reactor, lambda: again.received == b"back")
            for each in (early, peer, late):
                each.close()
    assert errors() == []


def test_A6_a_thousand_resets_before_anybody_accepted_are_a_thousand_ends(counted, errors):
    factory = Makes()
    with listening(counted, factory) as port:
        for _ in range(1000):
            reset(call(port))
        turn_until(counted, lambda: sum(each.is_over for each in factory.built) == 1000)
        assert {each.reason.ended.by for each in factory.built} == {"peer reset"}
        assert len(counted._loop.watchers) == 2
    assert errors() == []
