"""The signal handlers of one run, over a `signal` module that only remembers: what is taken over, and put back."""

from __future__ import annotations

import signal

import pytest

from ropewalk._loop import signals as room
from ropewalk._loop.signals import Signals
from tests.rooms.test_loop import in_a_thread

C_HANDLER = None  # What `signal.getsignal` says of a handler that was not set from Python.


class Table:
    """Stands in for the module `signal`."""

    SIGINT, SIGTERM = signal.SIGINT, signal.SIGTERM
    SIG_DFL = signal.SIG_DFL
    default_int_handler = staticmethod(signal.default_int_handler)

    def __init__(self):
        self.handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        self.wakeup = -1
        self.warns = True

    def getsignal(self, number):
        return self.handlers[number]

    def signal(self, number, handler):
        if handler is None:
            raise TypeError("None cannot be put back")
        before, self.handlers[number] = self.handlers[number], handler
        return before

    def set_wakeup_fd(self, fd, *, warn_on_full_buffer=True):
        before, self.wakeup, self.warns = self.wakeup, fd, warn_on_full_buffer
        return before


@pytest.fixture
def table(monkeypatch):
    table = Table()
    monkeypatch.setattr(room, "signal", table)
    return table


def test_both_signals_are_given_to_the_reactor_by_number(table):
    got = []
    signals = Signals(got.append)
    signals.install(9)
    for number in (signal.SIGINT, signal.SIGTERM):
        table.handlers[number](number, None)
    assert got == [signal.SIGINT, signal.SIGTERM]


def test_E5_the_waker_gets_the_byte_and_python_does_not_warn_when_it_is_full(table):
    Signals(list).install(9)
    assert (table.wakeup, table.warns) == (9, False)


def test_everything_is_put_back_and_twice_is_fine(table):
    before, table.wakeup = dict(table.handlers), 55
    signals = Signals(list)
    signals.install(9)
    assert table.handlers != before
    signals.restore()
    assert (table.handlers, table.wakeup) == (before, 55)
    table.handlers[signal.SIGTERM] = signal.SIG_IGN
    signals.restore()
    assert table.handlers[signal.SIGTERM] is signal.SIG_IGN


def test_it_can_be_installed_again(table):
    before = dict(table.handlers)
    signals = Signals(list)
    for _ in range(2):
        signals.install(9)
        signals.restore()
    assert (table.handlers, table.wakeup) == (before, -1)


def test_a_SIGINT_handler_of_the_program_s_own_stays(table):
    mine = lambda *args: None  # noqa: E731
    table.handlers[signal.SIGINT] = mine
    Signals(list).install(9)
    assert table.handlers[signal.SIGINT] is mine
    assert table.handlers[signal.SIGTERM] is not signal.SIG_DFL


def test_a_handler_that_python_cannot_put_back_becomes_the_default(table):
    table.handlers[signal.SIGTERM] = C_HANDLER
    signals = Signals(list)
    signals.install(9)
    signals.restore()
    assert table.handlers[signal.SIGTERM] is signal.SIG_DFL


def test_the_break_key_of_windows_stops_it_too(table):
    table.SIGBREAK = 21
    table.handlers[21] = signal.SIG_DFL
    got = []
    signals = Signals(got.append)
    signals.install(9)
    table.handlers[21](21, None)
    assert got == [21]
    signals.restore()
    assert table.handlers[21] is signal.SIG_DFL


def test_in_another_thread_it_says_what_to_do_instead(table):
    refusal = in_a_thread(lambda: Signals(list).install(9))
    assert isinstance(refusal, ValueError)
    assert "'the other'" in str(refusal)
    assert "installSignalHandlers=False" in str(refusal)
    assert table.wakeup == -1
