"""The real system's own rooms: look-ups on threads that come and go, and what the machine says of its limits.

Its sockets are Python's and are met in every test over loopback; none is opened here.
"""

from __future__ import annotations

import builtins
import io
import os
import socket
import threading

import pytest

from ropewalk import _system as room
from ropewalk._system import LookUpThreads, RealSystem

PATIENCE = 20


class Answer:
    """What a look-up answers, and in which thread."""

    def __init__(self):
        self._came = threading.Event()
        self.results = []
        self.thread = None

    def __call__(self, result):
        self.results.append(result)
        self.thread = threading.current_thread()
        self._came.set()

    @property
    def result(self):
        assert self._came.wait(PATIENCE)
        (result,) = self.results
        return result


class Slow:
    """A look-up that takes until it is let go."""

    def __init__(self):
        self.entered = threading.Event()
        self.go = threading.Event()

    def __call__(self):
        self.entered.set()
        assert self.go.wait(PATIENCE)
        return ["slow"]


# ---- look-ups -------------------------------------------------------------------------------------------------------


def test_an_answer_comes_once_from_another_thread():
    answer = Answer()
    LookUpThreads().start(lambda: ["row"], answer)
    assert answer.result == ["row"]
    assert answer.thread is not threading.current_thread()
    assert answer.thread.daemon


@pytest.mark.parametrize("kind", [OSError, UnicodeError, SystemExit, KeyboardInterrupt])
def test_whatever_the_resolver_raises_is_the_answer_and_keeps_no_frame(kind):
    def bad():
        raise kind("on purpose")

    answer = Answer()
    LookUpThreads().start(bad, answer)
    assert isinstance(answer.result, kind)
    assert answer.result.__traceback__ is None


def test_a_slow_one_holds_up_nobody():
    threads, slow, held, quick = LookUpThreads(), Slow(), Answer(), Answer()
    threads.start(slow, held)
    assert slow.entered.wait(PATIENCE)
    threads.start(lambda: ["quick"], quick)
    assert quick.result == ["quick"]
    assert held.results == []
    slow.go.set()
    assert held.result == ["slow"]


def idle(threads):
    """Wait until a thread of it waits for work."""
    while True:
        with threads._wakeable:
            if threads._idle:
                return


def test_a_thread_that_came_free_serves_the_next_one():
    threads, first, second = LookUpThreads(), Answer(), Answer()
    threads.start(list, first)
    assert first.result == []
    idle(threads)
    threads.start(list, second)
    assert second.result == []
    assert first.thread is second.thread


def test_an_idle_thread_ends_by_itself(monkeypatch):
    monkeypatch.setattr(room, "_LOOKUP_THREAD_IDLE", 0.001)
    threads, answer = LookUpThreads(), Answer()
    threads.start(list, answer)
    assert answer.result == []
    answer.thread.join(PATIENCE)
    assert not answer.thread.is_alive()
    assert threads._idle == 0


def test_E8_a_forked_child_waits_for_no_thread_of_its_parent(monkeypatch):
    threads, first = LookUpThreads(), Answer()
    threads.start(list, first)
    assert first.result == []
    idle(threads)
    old = threads._wakeable
    monkeypatch.setattr(os, "getpid", lambda: -1)
    second = Answer()
    with old:
        # A lock that the parent's thread held at the fork is held for ever: the child must not ask for it.
        threads.start(list, second)
        assert second.result == []
    assert first.thread is not second.thread


# ---- limits ---------------------------------------------------------------------------------------------------------


def test_it_asks_the_machine_for_the_most_buffers_of_one_call(monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: 512 if name == "SC_IOV_MAX" else 0)
    assert RealSystem().iov_max == 512


@pytest.mark.parametrize("answer", [-1, 0, ValueError("unknown name"), OSError("no answer"), None])
def test_where_the_machine_does_not_say_the_posix_number_holds(monkeypatch, answer):
    def sysconf(name):
        if isinstance(answer, Exception):
            raise answer
        return answer

    if answer is None:
        monkeypatch.delattr(os, "sysconf")
    else:
        monkeypatch.setattr(os, "sysconf", sysconf)
    assert RealSystem().iov_max == 1024


def test_the_backlog_is_what_the_kernel_allows(monkeypatch):
    monkeypatch.setattr(builtins, "open", lambda path: io.StringIO("777\n"))
    assert RealSystem().backlog == 777


@pytest.mark.parametrize("text", ["", "many"])
def test_a_kernel_that_does_not_say_its_backlog_has_the_constant_s(monkeypatch, text):
    def no_such_file(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(builtins, "open", (lambda path: io.StringIO(text)) if text else no_such_file)
    assert RealSystem().backlog == socket.SOMAXCONN


def test_it_is_this_machine():
    system = RealSystem()
    assert system.name == "real"
    assert system.process_id() == os.getpid()
    before = system.monotonic()
    assert system.monotonic() >= before


def test_services_are_looked_up_by_name_and_protocol(monkeypatch):
    monkeypatch.setattr(socket, "getservbyname", lambda name, protocol: {("http", "tcp"): 80}[name, protocol])
    assert RealSystem().service_port("http", "tcp") == 80


def test_the_reserve_holds_one_descriptor_and_gives_it_back():
    reserve = RealSystem().open_reserve()
    assert os.fstat(reserve.fileno())
    reserve.close()
    assert reserve.closed


def test_a_name_is_looked_up_with_what_was_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: asked.append(args) or ["row"])
    answer = Answer()
    RealSystem().look_up("name", 80, socket.AF_INET, socket.SOCK_STREAM, answer)
    assert answer.result == ["row"]
    assert asked == [("name", 80, socket.AF_INET, socket.SOCK_STREAM)]
