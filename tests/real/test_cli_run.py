"""`ropewalk run`, as a process of its own: started, connected to, sent real signals, and what it says and leaves with.

Invariant: every way to end has one exit status, mistakes are one line that names what was wrong, and no traceback shows.
"""

from __future__ import annotations

import signal
import socket
import textwrap

import pytest

pytest.importorskip("click", reason="the command-line tool needs click and rich: pip install 'ropewalk[cli]'")

from tests.real.test_cli import LIMIT, run, started

pytestmark = pytest.mark.usefixtures("interruptible")

PROGRAM = """
    import sys
    from ropewalk import Deferred, Factory, Protocol, reactor
    from ropewalk.defer import CancelledError
    from ropewalk.service import MultiService, Service
    from ropewalk.task import sleep


    def say(text):
        print(text, file=sys.stderr, flush=True)


    class Echo(Protocol):
        def connectionMade(self):
            self.transport.write(b"hello")

        def dataReceived(self, data):
            self.transport.write(data)
            if data == b"bye":
                self.transport.loseConnection()

        def connectionDraining(self):
            self.transport.write(b"draining")


    class Quiet(Factory):
        noisy = False
        protocol = Echo


    class Serving(Service):
        def startService(self):
            super().startService()
            self.port = reactor.listenTCP(0, Quiet(), interface="127.0.0.1")
            say(f"listening on {self.port.getHost().port}")

        def stopService(self):
            super().stopService()
            say("stopped")


    class Slow(Serving):
        async def startService(self):
            await sleep(0.01)
            super().startService()

        async def stopService(self):
            await sleep(0.01)
            super().stopService()


    class Endless(Serving):
        def stopService(self):
            say("stopping")
            return Deferred()


    class Failing(Service):
        def startService(self):
            raise OSError("no luck today")


    class Torn(Serving):
        def stopService(self):
            raise OSError("cannot stop")


    class Leaving(Serving):
        def startService(self):
            super().startService()
            reactor.callLater(0.05, reactor.stop)


    class Exiting(Serving):
        def startService(self):
            super().startService()
            reactor.callLater(0.05, sys.exit, 3)


    class Stubborn(Serving):
        async def startService(self):
            say("starting")
            try:
                await sleep(30)
            except CancelledError:
                pass
            super().startService()


    exiting = Exiting()
    service = MultiService()
    Serving().setServiceParent(service)
    slow = Slow()
    stubborn = Stubborn()
    endless = Endless()
    failing = Failing()
    torn = Torn()
    leaving = Leaving()
    number = 7
    half = MultiService()
    Serving().setServiceParent(half)
    Failing().setServiceParent(half)


    def made(reactor):
        return Serving()


    async def awaited(reactor):
        await sleep(0.01, reactor)
        return Slow()


    def wrong(reactor):
        return 7


    async def never(reactor):
        say("beginning")
        await Deferred()
"""


@pytest.fixture
def place(tmp_path):
    """A directory with programs in it."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "main.py").write_text(textwrap.dedent(PROGRAM))
    (tmp_path / "broken.py").write_text("value = 1 / 0\n")
    (tmp_path / "needy.py").write_text("import no_such_one\n")
    return tmp_path


def saying(process, text):
    """The rest of the line of stderr that begins so."""
    for line in process.stderr:
        said = line.decode().rstrip("\n")
        if said.startswith(text):
            return said.removeprefix(text)
    raise AssertionError(f"it ended and never said {text!r}")


def connected(process):
    peer = socket.create_connection(("127.0.0.1", int(saying(process, "listening on "))), timeout=LIMIT)
    assert peer.recv(100) == b"hello"
    return peer


def left(process):
    """Its exit status, and what it said until then."""
    said = process.stderr.read().decode()
    assert "Traceback" not in said
    return process.wait(LIMIT), said


@pytest.mark.parametrize("name", ["service", "slow", "made", "awaited"])
def test_SIGTERM_lets_who_is_connected_finish_then_stops_the_service_and_leaves_with_0(place, name):
    with started("run", f"shop.main:{name}", cwd=place) as process, connected(process) as peer:
        process.send_signal(signal.SIGTERM)
        assert peer.recv(100) == b"draining"
        peer.sendall(b"bye")
        assert (peer.recv(100), peer.recv(100)) == (b"bye", b"")
        status, said = left(process)
    assert status == 0, said
    assert said.splitlines() == [
        f"ropewalk: draining shop.main:{name}, for 30 s at most",
        "ropewalk: drained: 1 ended by themselves, 0 aborted",
        "stopped",
    ]


def test_at_the_end_of_the_time_to_drain_who_is_left_is_aborted_and_that_too_is_success(place):
    with (
        started("run", "shop.main:service", "--drain", "0.1", cwd=place) as process,
        connected(process) as peer,
    ):
        process.send_signal(signal.SIGTERM)
        assert peer.recv(100) == b"draining"
        with pytest.raises(ConnectionResetError):
            peer.recv(100)
        status, said = left(process)
    assert (status, "drained: 0 ended by themselves, 1 aborted\nstopped" in said) == (0, True)


def test_a_service_that_starts_though_it_was_told_to_end_is_drained_and_stopped(place):
    with started("run", "shop.main:stubborn", cwd=place) as process:
        saying(process, "starting")
        process.send_signal(signal.SIGTERM)
        status, said = left(process)
    assert status == 0, said
    assert said.splitlines()[-2:] == ["ropewalk: drained: 0 ended by themselves, 0 aborted", "stopped"]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(place, second):
    with started("run", "shop.main:service", cwd=place) as process, connected(process) as peer:
        process.send_signal(signal.SIGINT)
        assert peer.recv(100) == b"draining"
        process.send_signal(second)
        status, said = left(process)
    assert status == 1
    assert said.splitlines()[-1] == (
        "ropewalk: a second signal: shop.main:service was stopped before it had ended"
    )
    assert "stopped" not in said.splitlines()


def test_a_second_signal_ends_a_service_that_never_stops(place):
    with started("run", "shop.main:endless", cwd=place) as process:
        saying(process, "listening on ")
        process.send_signal(signal.SIGTERM)
        saying(process, "stopping")
        process.send_signal(signal.SIGTERM)
        status, said = left(process)
    assert (status, said) == (
        1,
        "ropewalk: a second signal: shop.main:endless was stopped before it had ended\n",
    )


def test_a_signal_while_it_starts_gives_the_start_up(place):
    with started("run", "shop.main:never", cwd=place) as process:
        saying(process, "beginning")
        process.send_signal(signal.SIGTERM)
        assert left(process) == (1, "ropewalk: shop.main:never was stopped before it had started\n")


def test_a_service_that_stops_the_reactor_by_itself_is_stopped_and_leaves_with_0(place):
    with started("run", "shop.main:leaving", cwd=place) as process:
        saying(process, "listening on ")
        assert left(process) == (0, "stopped\n")


def test_a_service_that_exits_is_stopped_and_leaves_with_its_own_status(place):
    with started("run", "shop.main:exiting", cwd=place) as process:
        saying(process, "listening on ")
        assert left(process) == (3, "stopped\n")


def test_a_service_that_fails_to_stop_leaves_with_1_and_says_why(place):
    with started("run", "shop.main:torn", cwd=place) as process:
        saying(process, "listening on ")
        process.send_signal(signal.SIGTERM)
        status, said = left(process)
    assert status == 1
    assert said.splitlines()[-1].startswith(
        "ropewalk: stopping shop.main:torn raised OSError: cannot stop (line "
    )


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("nowhere:service", "no module 'nowhere' here or on Python's path"),
        ("shop.nowhere:service", "no module 'shop.nowhere' here or on Python's path"),
        ("shop.main:nothing", "'shop.main' has no 'nothing'"),
        ("shop.main:number", "shop.main:number is no service, nor a function that returns one: 7"),
        ("shop.main:wrong", "shop.main:wrong returned no service: 7"),
        (
            "broken:service",
            "importing 'broken' raised ZeroDivisionError: division by zero (line 1 of broken.py)",
        ),
        (
            "needy:service",
            "importing 'needy' raised ModuleNotFoundError: No module named 'no_such_one' (line 1 of needy.py)",
        ),
        (
            "shop.main:failing",
            "starting shop.main:failing raised OSError: no luck today (line 60 of main.py)",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_it_and_status_1(place, target, told):
    assert run("run", target, cwd=place, status=1) == (b"", f"ropewalk: {told}\n")


def test_of_a_service_that_fails_to_start_what_has_started_is_stopped(place):
    _, said = run("run", "shop.main:half", cwd=place, status=1)
    lines = said.splitlines()
    assert lines[1:] == [
        "stopped",
        "ropewalk: starting shop.main:half raised OSError: no luck today (line 60 of main.py)",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["shop"], "'shop' is not MODULE:SERVICE"),
        (["shop:"], "'shop:' is not MODULE:SERVICE"),
        ([":service"], "':service' is not MODULE:SERVICE"),
        (["shop/main.py:service"], "'shop/main.py:service' is not MODULE:SERVICE"),
        (["shop:a", "--drain", "-1"], "-1.0 is not a number of seconds, 0 or more"),
    ],
)
def test_words_that_cannot_be_meant_are_a_usage_error(place, words, told):
    _, said = run("run", *words, cwd=place, status=2)
    assert told in said
