"""A connection to oneself (FAULTS C9): an ephemeral port that is the very port called, where nobody listens.

The simulated kernel is told which ephemeral ports it gives next; so each row says how often the trap is sprung.
"""

from __future__ import annotations

import errno
from typing import Any, NamedTuple

import pytest

from tests.scenarios.script import Serving, lines

TRAP = 45000


class Row(NamedTuple):
    claim: str
    host: str
    # The ephemeral ports that the client's kernel gives next.
    ports: list[int]
    script: str
    # Addresses of the name, if `host` is one.
    addresses: list[str] = []
    how: dict[str, Any] = {}


BEGINNING = """
0     connecting
0     startFactory()
0     startedConnecting()
"""
REFUSED = """
0     failed ConnectionRefusedError while connecting
0     clientConnectionFailed(ConnectionRefusedError)
0     stopFactory()
"""

ROWS = [
    Row(
        "once: it is closed and tried again, and the second is refused as it should be",
        "loop4",
        [TRAP],
        BEGINNING
        + """
0     attempt started loop4:45000
0     attempt failed loop4:45000 connected to itself, 0 s
0     attempt started loop4:45000
0     attempt failed loop4:45000 ECONNREFUSED, 0 s
"""
        + REFUSED,
    ),
    Row(
        "twice: tried a third time",
        "loop4",
        [TRAP, TRAP],
        BEGINNING
        + """
0     attempt started loop4:45000
0     attempt failed loop4:45000 connected to itself, 0 s
0     attempt started loop4:45000
0     attempt failed loop4:45000 connected to itself, 0 s
0     attempt started loop4:45000
0     attempt failed loop4:45000 ECONNREFUSED, 0 s
"""
        + REFUSED,
    ),
    Row(
        "three times: nothing listens there, and that is what is told",
        "loop4",
        [TRAP, TRAP, TRAP],
        BEGINNING
        + """
0     attempt started loop4:45000
0     attempt failed loop4:45000 connected to itself, 0 s
0     attempt started loop4:45000
0     attempt failed loop4:45000 connected to itself, 0 s
0     attempt started loop4:45000
0     attempt failed loop4:45000 ECONNREFUSED, 0 s
"""
        + REFUSED,
    ),
    Row(
        "IPv6 falls into the same trap",
        "loop6",
        [TRAP],
        BEGINNING
        + """
0     attempt started loop6:45000
0     attempt failed loop6:45000 connected to itself, 0 s
0     attempt started loop6:45000
0     attempt failed loop6:45000 ECONNREFUSED, 0 s
"""
        + REFUSED,
    ),
    Row(
        "one's own outer address does too",
        "client4",
        [TRAP],
        BEGINNING
        + """
0     attempt started client4:45000
0     attempt failed client4:45000 connected to itself, 0 s
0     attempt started client4:45000
0     attempt failed client4:45000 ECONNREFUSED, 0 s
"""
        + REFUSED,
    ),
    Row(
        "with the port bound on purpose it is so each time",
        "loop4",
        [],
        BEGINNING
        + """
0     attempt started loop4:45000
0     attempt failed loop4:45000 connected to itself, 0 s
0     attempt started loop4:45000
0     attempt failed loop4:45000 connected to itself, 0 s
0     attempt started loop4:45000
0     attempt failed loop4:45000 ECONNREFUSED, 0 s
"""
        + REFUSED,
        how={"bindAddress": ("127.0.0.1", TRAP)},
    ),
    Row(
        "the next address is tried only after the retries",
        "both.example",
        [TRAP, TRAP, TRAP],
        BEGINNING
        + """
0     resolving
0     resolved loop4:45000 4a:45000
0     attempt started loop4:45000
0     attempt failed loop4:45000 connected to itself, 0 s
0     attempt started loop4:45000
0     attempt failed loop4:45000 connected to itself, 0 s
0     attempt started loop4:45000
0     attempt failed loop4:45000 ECONNREFUSED, 0 s
0     attempt started 4a:45000
0     connected 4a:45000
0     buildProtocol(4a:45000)
0     protocol built
0     connectionMade()
""",
        addresses=["loop4", "4a"],
    ),
    Row(
        "the same port number at both ends of two hosts is nothing special",
        "4a",
        [TRAP],
        BEGINNING
        + """
0     attempt started 4a:45000
0     connected 4a:45000
0     buildProtocol(4a:45000)
0     protocol built
0     connectionMade()
""",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
def test_C9_the_script_of_a_connection_to_oneself_is(scene, row):
    scene.listen(port=TRAP)
    if row.addresses:
        scene.name(row.host, *row.addresses)
    scene.client.nextEphemeralPorts(*row.ports)
    scene.call(row.host, port=TRAP, **row.how)
    scene.sim.runUntilIdle()
    assert str(scene.script) == lines(row.script)


def test_C9_the_third_time_the_reason_says_what_happened(scene):
    scene.client.nextEphemeralPorts(TRAP, TRAP, TRAP)
    factory = scene.call("loop4", port=TRAP)
    scene.sim.runUntilIdle()
    assert factory.reason.errno == errno.ECONNREFUSED
    [attempt] = factory.reason.attempts
    assert attempt.error == "connected to itself: nothing listens there"


def test_C9_a_retry_does_not_start_the_deadline_anew(scene):
    scene.sim.latency(scene.client, scene.client, 0.4)
    scene.client.nextEphemeralPorts(TRAP, TRAP, TRAP)
    scene.call("loop4", port=TRAP, timeout=0.6)
    scene.sim.runUntilIdle()
    assert "0.6   clientConnectionFailed(TimeoutError)" in str(scene.script)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_C9_the_port_is_free_at_once_for_the_server_that_was_missing(scene, times):
    scene.client.nextEphemeralPorts(*[TRAP] * times)
    scene.call("loop4", port=TRAP)
    scene.sim.runUntilIdle()
    port = scene.client.reactor.listenTCP(TRAP, Serving(scene.script), interface="127.0.0.1")
    assert port.getHost().port == TRAP


def test_C9_a_kernel_that_refuses_SO_LINGER_changes_nothing(scene):
    scene.client.faults.fail("setsockopt", errno.ENOBUFS, which=lambda sock: sock.endpoint is not None)
    scene.client.nextEphemeralPorts(TRAP)
    factory = scene.call("loop4", port=TRAP)
    scene.sim.runUntilIdle()
    assert scene.client.faults.given == {("setsockopt", errno.ENOBUFS): 1}
    assert type(factory.reason).__name__ == "ConnectionRefusedError"
