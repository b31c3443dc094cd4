"""A Dial over the simulated kernel, with a caller that only notes: addresses, attempts, every error, and giving up."""

from __future__ import annotations

import errno
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk import TCPOptions
from ropewalk._net.dial import Dial, literal
from ropewalk._net.options import DEFAULT_OPTIONS
from ropewalk._net.resolve import candidates
from ropewalk.error import (
    ConnectBindError,
    ConnectError,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,
    UserError,
)
from ropewalk.simulation import FALLIBLE, Simulation

INET, INET6, STREAM = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM
NEAR = ("10.0.0.1", "fd00::1")
FAR = ("10.0.0.2", "fd00::2")
PORT = 7


class Caller:
    """Notes the one report of a dial, and takes the socket over."""

    def __init__(self, stage):
        self.stage = stage
        self.sock = None
        self.address = None
        self.error = None

    def _established(self, attempt, host):
        assert self.sock is self.error is None
        self.sock, self.address = attempt.sock, attempt.sockaddr
        loop = self.stage.core.loop
        self.was_watched = self.sock.fileno() in loop.watchers
        loop.unwatch(self.sock.fileno())

    def _failed(self, exc):
        assert self.sock is self.error is None
        self.error = exc

    def _waits_for(self, dial):
        return self.sock is self.error is None


class Stage:
    def __init__(self):
        self.sim = Simulation(3)
        self.sim._driver.spin_limit = 3000
        self.near = self.sim.host("near", NEAR)
        self.far = self.sim.host("far", FAR)
        self.sim.latency("near", "far", 0.01)
        self.core = self.near.reactor._core
        self.faults = self.near.faults
        self.listeners = []
        self.steps = []

    def serve(self, family=INET, host=None):
        sock = self.far.system.socket(family)
        sock.setblocking(False)
        sock.bind((host or FAR[family == INET6], PORT))
        sock.listen(10)
        self.listeners.append(sock)
        return sock

    def observe(self):
        self.core.observers.append(lambda event: self.steps.append((event.step.value, event.details)))

    def dial(self, host=FAR[0], timeout=30, bind=None, options=DEFAULT_OPTIONS, port=PORT):
        self.caller = Caller(self)
        dial = Dial(self.core, self.caller, 1, (host, port), timeout, bind, options)
        dial.start()
        return dial

    def go(self, seconds=1.0):
        self.sim.advance(seconds)

    def error(self, **how):
        """What a dial fails with."""
        self.dial(**how)
        self.go(60)
        assert self.caller.sock is None
        return self.caller.error

    def rest(self):
        """Close what was connected; then nothing may be left on the near side."""
        if self.caller.sock is not None:
            self.caller.sock.close()
        for each in self.listeners:
            each.close()
        self.core.observers.clear()
        self.sim.close()
        left = [line for line in self.sim.leftovers() if line.startswith("near")]
        assert left == []


@pytest.fixture
def stage():
    stage = Stage()
    yield stage
    stage.rest()


# ---- texts to addresses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.1", (INET, ("192.0.2.1", 7))),
        ("::1", (INET6, ("::1", 7, 0, 0))),
        ("0:0:0:0:0:0:0:1", (INET6, ("::1", 7, 0, 0))),
        ("FE80:0::0:1%4294967295", (INET6, ("fe80::1", 7, 0, 4294967295))),
        ("2001:db8::1", (INET6, ("2001:db8::1", 7, 0, 0))),
        ("fe80::1%3", (INET6, ("fe80::1", 7, 0, 3))),
        ("::ffff:192.0.2.1", (INET6, ("::ffff:192.0.2.1", 7, 0, 0))),
        ("", None),
        ("name", None),
        ("1.2.3", None),
        ("1.2.3.4.5", None),
        ("1.2.3.256", None),
        ("na:me", None),
        ("::1::", None),
        ("bücher", None),
        ("\0", None),
        ("\ud800", None),
        ("\ud800:", None),
    ],
)
def test_a_text_is_an_address_or_a_name(text, found):
    assert literal(text, 7) == found


def test_a_scope_may_be_the_name_of_an_interface():
    number, name = socket.if_nameindex()[0]
    assert literal(f"fe80::1%{name}", 7) == (INET6, ("fe80::1", 7, 0, number))


def test_a_scope_that_names_no_interface_is_an_OSError():
    with pytest.raises(OSError):
        literal("fe80::1%nosuchif", 7)


# ---- the order of addresses -----------------------------------------------------------------------------------------


def row(family, sockaddr):
    return family, STREAM, 6, "", sockaddr


def four(number):
    return row(INET, (f"192.0.2.{number}", 7))


def six(number):
    return row(INET6, (f"2001:db8::{number}", 7, 0, 0))


@pytest.mark.parametrize(
    ("rows", "order"),
    [
        ([], []),
        ([four(1)], [four(1)]),
        ([six(1), six(2), four(1), four(2)], [six(1), four(1), six(2), four(2)]),
        ([four(1), six(1), six(2), six(3)], [four(1), six(1), six(2), six(3)]),
        ([four(1), four(1), six(1)], [four(1), six(1)]),
        ([row(socket.AF_UNIX, ("/x",)), four(1)], [four(1)]),
    ],
)
def test_families_take_turns_in_the_resolver_s_order(rows, order):
    assert candidates(rows) == [(family, sockaddr) for family, _, _, _, sockaddr in order]


@given(st.lists(st.one_of(st.integers(1, 9).map(four), st.integers(1, 9).map(six)), max_size=20))
def test_the_order_of_addresses_is_that_of_RFC_8305(rows):
    found = candidates(rows)
    wanted = {(each[0], each[4]) for each in rows}
    assert len(found) == len(set(found)) == len(wanted)
    assert set(found) == wanted
    for family in (INET, INET6):
        mine = [each for each in found if each[0] == family]
        asked = list(dict.fromkeys((each[0], each[4]) for each in rows if each[0] == family))
        assert mine == asked
    if found:
        assert found[0][0] == rows[0][0]
        shorter = min(sum(each[0] == family for each in found) for family in (INET, INET6))
        turns = [each[0] for each in found[: 2 * shorter]]
        assert all(turns[place] != turns[place + 1] for place in range(len(turns) - 1))


# ---- connecting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "host"), [(INET, FAR[0]), (INET6, FAR[1])])
def test_a_literal_is_connected_without_a_look_up_and_not_before_start_has_returned(stage, family, host):
    stage.serve(family)
    stage.observe()
    stage.dial(host)
    assert stage.caller.sock is None
    stage.go()
    assert stage.caller.address[:2] == (host, PORT)
    assert stage.caller.sock.getpeername()[:2] == (host, PORT)
    assert [step for step, _ in stage.steps] == ["attempt started"]
    assert stage.core.loop.timers.living() == []


def test_the_socket_stays_watched_for_whoever_takes_it_over(stage):
    stage.serve()
    stage.dial()
    stage.go()
    assert stage.caller.was_watched


def test_a_name_is_looked_up_and_each_step_is_told(stage):
    stage.serve()
    stage.observe()
    stage.sim.name("service.example", [FAR[0]])
    stage.dial("service.example")
    stage.go()
    assert stage.caller.address == (FAR[0], PORT)
    assert [step for step, _ in stage.steps] == ["resolving", "resolved", "attempt started"]
    assert stage.steps[1][1] == {"name": "service.example", "addresses": [f"{FAR[0]}:{PORT}"]}


def test_the_options_are_set_before_it_connects(stage):
    stage.serve()
    stage.dial(options=TCPOptions(receiveBuffer=4096, keepAlive=(10, 2, 3)))
    stage.go()
    assert stage.caller.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 8192
    assert stage.caller.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10


@pytest.mark.parametrize("port", [0, 4567])
def test_it_connects_from_where_it_was_told_to(stage, port):
    stage.serve()
    stage.dial(bind=(NEAR[0], port))
    stage.go()
    host, found = stage.caller.sock.getsockname()
    assert host == NEAR[0]
    assert found == port or not port
    reuses = stage.caller.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    late = stage.caller.sock.getsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24))
    assert (reuses, late) == ((1, 0) if port else (0, 1))


def test_where_ports_cannot_be_chosen_late_they_are_chosen_early(stage, monkeypatch):
    monkeypatch.setattr("ropewalk._net.dial._IP_BIND_ADDRESS_NO_PORT", None)
    stage.serve()
    stage.dial(bind=(NEAR[0], 0))
    stage.go()
    assert stage.caller.sock.getsockname()[0] == NEAR[0]


def test_a_connect_that_was_interrupted_goes_on(stage):
    stage.serve()
    stage.faults.fail("connect", errno.EINTR)
    stage.dial()
    stage.go()
    assert stage.caller.sock is not None


# ---- errors, each where it is made ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error"),
    [(call, error) for call in ("socket", "setsockopt", "bind") for error in FALLIBLE[call]],
)
def test_what_fails_before_connecting_is_a_ConnectBindError_with_its_errno(stage, call, error):
    stage.serve()
    stage.faults.fail(call, error)
    found = stage.error(bind=(NEAR[0], 0))
    assert type(found) is ConnectBindError
    assert found.errno == error
    assert isinstance(found.__cause__, OSError)
    (attempt,) = found.attempts
    assert (attempt.address, attempt.errno) == (f"{FAR[0]}:{PORT}", error)


@pytest.mark.parametrize("error", [error for error in FALLIBLE["connect"] if error != errno.EINTR])
def test_what_connect_answers_at_once_is_told_later_with_its_errno(stage, error):
    stage.faults.fail("connect", error)
    stage.dial()
    assert stage.caller.error is None
    stage.go()
    found = stage.caller.error
    assert isinstance(found, ConnectError)
    assert found.errno == error
    assert type(found) is {
        errno.ECONNREFUSED: ConnectionRefusedError,
        errno.ENETUNREACH: NoRouteError,
        errno.EHOSTUNREACH: NoRouteError,
    }.get(error, ConnectError)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errno.ECONNREFUSED, ConnectionRefusedError),
        (errno.EHOSTUNREACH, NoRouteError),
        (errno.ETIMEDOUT, TCPTimedOutError),
        (errno.ECONNRESET, ConnectError),
    ],
)
def test_what_the_network_answers_is_told_with_its_errno(stage, error, kind):
    stage.sim.route(FAR[0], delay=0.5, error=error)
    found = stage.error()
    assert type(found) is kind
    assert found.errno == error
    assert found.phase == "connecting"
    assert found.elapsed["connecting"] >= 0.5
    assert found.connection == 1


@pytest.mark.parametrize("call", ["getsockopt", "getsockname"])
def test_a_socket_that_cannot_say_whether_it_is_connected_has_failed(stage, call):
    stage.serve()
    stage.faults.fail(call, errno.ENOBUFS)
    found = stage.error()
    assert found.errno == errno.ENOBUFS


@pytest.mark.parametrize("error", FALLIBLE["register"])
def test_a_poller_that_will_not_have_the_socket_is_a_failed_attempt(stage, error):
    stage.serve()
    stage.faults.fail("register", error)
    assert stage.error().errno == error


def test_a_failed_attempt_is_followed_by_the_next_at_once(stage):
    stage.serve(INET)
    stage.sim.name("both.example", [FAR[1], FAR[0]])
    stage.dial("both.example")
    stage.go(0.2)
    assert stage.caller.address == (FAR[0], PORT)


def test_no_name_is_this_machine_and_nobody_is_asked(stage):
    stage.observe()
    found = stage.error(host="")
    assert [attempt.address for attempt in found.attempts] == [f"0.0.0.0:{PORT}"]
    assert "resolving" not in [step for step, _ in stage.steps]
    assert set(found.elapsed) == {"connecting"}


def test_when_all_fail_the_first_is_the_reason_and_all_are_listed(stage):
    stage.sim.name("both.example", [FAR[1], FAR[0]])
    stage.sim.route(FAR[1], error=errno.EHOSTUNREACH)
    found = stage.error(host="both.example")
    assert type(found) is NoRouteError
    assert [attempt.address for attempt in found.attempts] == [f"[{FAR[1]}]:{PORT}", f"{FAR[0]}:{PORT}"]
    assert set(found.elapsed) == {"resolving", "connecting"}


@pytest.mark.parametrize(
    ("bind", "tried"),
    [
        (NEAR[0], [f"{FAR[0]}:{PORT}"]),
        (NEAR[1], [f"[{FAR[1]}]:{PORT}"]),
        ("", [f"[{FAR[1]}]:{PORT}", f"{FAR[0]}:{PORT}"]),
    ],
)
def test_of_a_name_those_addresses_are_tried_that_the_local_end_can_reach(stage, bind, tried):
    stage.sim.name("both.example", [FAR[1], FAR[0]])
    found = stage.error(host="both.example", bind=(bind, 0))
    assert type(found) is ConnectionRefusedError
    assert [attempt.address for attempt in found.attempts] == tried


def test_a_local_end_that_can_reach_none_of_a_name_s_addresses_is_the_reason(stage):
    stage.sim.name("one.example", [FAR[1]])
    found = stage.error(host="one.example", bind=(NEAR[0], 0))
    assert type(found) is ConnectBindError
    assert [attempt.address for attempt in found.attempts] == [f"[{FAR[1]}]:{PORT}"]


def test_a_reason_keeps_no_frame_of_the_engine_s(stage):
    found = stage.error()
    while found is not None:
        assert found.__traceback__ is None
        found = found.__cause__


@pytest.mark.parametrize("bind", [("192.0.2.77", 0), ("not an address", 0), (NEAR[1], 0)])
def test_an_address_that_cannot_be_bound_is_told(stage, bind):
    stage.serve()
    assert type(stage.error(bind=bind)) is ConnectBindError


@pytest.mark.parametrize("scope", ["nosuchif", "", "4294967297", "9" * 5000, "-1", "\u0663", "\ud800"])
def test_a_scope_that_names_no_interface_fails_the_connect(stage, scope):
    found = stage.error(host=f"fe80::1%{scope}")
    assert isinstance(found, ConnectError)
    assert found.errno == errno.ENODEV
    assert repr(scope) in str(found)
    assert found.phase == "resolving"


# ---- names ----------------------------------------------------------------------------------------------------------


def test_a_name_that_is_not_found_is_a_DNSLookupError_and_is_told(stage):
    stage.observe()
    found = stage.error(host="no.such.example")
    assert type(found) is DNSLookupError
    assert found.phase == "resolving"
    assert [step for step, _ in stage.steps] == ["resolving", "resolve failed"]
    assert stage.steps[1][1]["errno"] == found.errno


def test_a_name_without_a_usable_address_is_a_DNSLookupError(stage):
    class Empty:
        def ask(self, host, port, done):
            stage.core.loop.call_soon(done, [row(socket.AF_UNIX, ("/x",))])

    stage.core.resolver = Empty()
    assert "no usable address" in str(stage.error(host="name"))


def test_a_resolver_that_raises_at_once_fails_the_connect_at_once(stage):
    class Bad:
        def ask(self, host, port, done):
            raise ValueError("on purpose")

    stage.core.resolver = Bad()
    found = stage.error(host="name")
    assert type(found) is DNSLookupError
    assert isinstance(found.__cause__, ValueError)


@pytest.mark.parametrize("sockaddr", [("not an address", 7), (FAR[0], "port"), (None, 7), (FAR[0],)])
def test_a_resolver_that_answers_nonsense_fails_the_connect_and_not_the_loop(stage, sockaddr):
    class Bad:
        def ask(self, host, port, done):
            stage.core.loop.call_soon(done, [row(INET, sockaddr)])

    stage.core.resolver = Bad()
    assert isinstance(stage.error(host="name"), ConnectError)


def test_an_answer_that_comes_after_the_end_is_dropped(stage):
    kept = []

    class Late:
        def ask(self, host, port, done):
            kept.append(done)
            return self

        def cancel(self):
            kept.append("cancelled")

    stage.core.resolver = Late()
    dial = stage.dial("name")
    stage.go()
    dial.undo()
    kept[0]([row(INET, (FAR[0], PORT))])
    stage.go()
    assert kept[1:] == ["cancelled"]
    assert stage.caller.sock is stage.caller.error is None


# ---- C9: a connection to oneself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2, 3])
def test_C9_a_socket_that_met_itself_is_tried_again_twice(stage, times):
    stage.observe()
    stage.near.nextEphemeralPorts(*[PORT] * times)
    stage.dial(NEAR[0])
    stage.go(5)
    assert type(stage.caller.error) is ConnectionRefusedError
    met = [details["error"] for step, details in stage.steps if step == "attempt failed"]
    assert sum("connected to itself" in each for each in met) == times
    assert ("connected to itself" in str(stage.caller.error.__cause__)) is (times == 3)


def test_C9_a_socket_that_met_itself_and_cannot_be_reset_is_closed_all_the_same(stage):
    stage.near.nextEphemeralPorts(PORT)
    stage.faults.fail("setsockopt", errno.ENOMEM, nth=2)
    stage.dial(NEAR[0])
    stage.go(5)
    assert type(stage.caller.error) is ConnectionRefusedError


def test_C9_a_socket_that_cannot_say_who_it_met_is_not_handed_on(stage):
    stage.near.nextEphemeralPorts(PORT)
    stage.faults.fail("getpeername", errno.ENOTCONN)
    stage.dial(NEAR[0])
    stage.go(5)
    assert stage.caller.sock is None
    assert stage.caller.error.errno == errno.ENOTCONN


# ---- the deadline ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["resolving", "connecting"])
def test_the_deadline_says_which_phase_ran_out(stage, phase):
    stage.sim.name("slow.example", [FAR[0]], never=phase == "resolving")
    stage.sim.route(FAR[0], lost=True)
    found = stage.error(host="slow.example", timeout=5)
    assert type(found) is TimeoutError
    assert isinstance(found, UserError)
    assert found.phase == phase
    assert sum(found.elapsed.values()) == pytest.approx(5)
    assert "5 s" in str(found)
    if phase == "connecting":
        (attempt,) = found.attempts
        assert attempt.errno == errno.ETIMEDOUT


def test_without_a_deadline_the_kernel_decides(stage):
    stage.sim.route(FAR[0], lost=True)
    stage.dial(timeout=None)
    stage.go(130)
    assert type(stage.caller.error) is TCPTimedOutError


def test_a_deadline_of_nothing_fails_in_the_first_turn(stage):
    stage.serve()
    stage.dial(timeout=0)
    assert stage.caller.error is None
    stage.go(0)
    assert type(stage.caller.error) is TimeoutError


# ---- giving up ------------------------------------------------------------------------------------------------------

MOMENTS = {
    "before the first turn": 0,
    "while resolving": 0.05,
    "while connecting": 0.15,
    "while two connect": 0.5,
    "after the end": 20,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_giving_up_at_any_moment_leaves_nothing(stage, moment):
    stage.observe()
    stage.sim.name("slow.example", [FAR[1], FAR[0]], delay=0.1)
    for address in FAR:
        stage.sim.route(address, lost=True)
    dial = stage.dial("slow.example", timeout=10)
    if MOMENTS[moment]:
        stage.go(MOMENTS[moment])
    dial.undo()
    dial.undo()
    assert stage.core.loop.timers.living() == []
    stage.go(60)
    assert (stage.caller.error is None) is (moment != "after the end")
    given_up = sum(details.get("error") == "given up" for _, details in stage.steps)
    assert given_up == {"while connecting": 1, "while two connect": 2}.get(moment, 0)


def test_a_user_who_cancels_every_timer_does_not_break_giving_up(stage):
    stage.sim.name("slow.example", list(FAR))
    for address in FAR:
        stage.sim.route(address, lost=True)
    dial = stage.dial("slow.example")
    stage.go(0.1)
    for call in stage.core.loop.timers.living():
        call.cancel()
    dial.undo()
    stage.go()
    assert stage.caller.error is None


def test_a_user_who_cancels_the_stagger_waits_for_the_first_to_fail(stage):
    stage.serve(INET)
    stage.sim.name("slow.example", [FAR[1], FAR[0]])
    stage.sim.route(FAR[1], delay=2, error=errno.EHOSTUNREACH)
    stage.dial("slow.example", timeout=None)
    stage.go(0.1)
    for call in stage.core.loop.timers.living():
        call.cancel()
    stage.go(1)
    assert stage.caller.sock is None
    stage.go(2)
    assert stage.caller.address == (FAR[0], PORT)


@pytest.mark.parametrize(
    "step", ["resolving", "resolved", "attempt started", "attempt failed", "resolve failed"]
)
def test_an_observer_may_give_up_at_any_step_and_nothing_is_left(stage, step):
    name = "no.such.example" if step == "resolve failed" else "refusing.example"
    stage.sim.name("refusing.example", list(FAR))
    dial = stage.dial(name)
    told = []

    def give_up(event):
        told.append(event.step.value)
        if event.step.value == step:
            dial.undo()

    stage.core.observers.append(give_up)
    stage.go(60)
    assert told.count(step) == 1
    assert told[-1] in (step, "attempt failed")
    assert stage.caller.sock is stage.caller.error is None


def test_it_shows_where_it_goes_and_how_far_it_is(stage):
    dial = stage.dial()
    assert repr(dial) == f"<Dial 1 to '{FAR[0]}':{PORT} new>"
    stage.go()
    assert repr(dial).endswith("over>")
