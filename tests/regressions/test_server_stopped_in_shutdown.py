"""A server that was told to stop while its reactor shut down had a trigger that was gone already: `stop` failed, and it listened on."""

from __future__ import annotations

from typing import Any

import pytest

from ropewalk.defer import Deferred
from ropewalk.serving import Server, serve
from ropewalk.simulation import Simulation
from ropewalk.streams import ByteStream
from ropewalk.streams import open as connect


@pytest.mark.parametrize("is_first", [True, False])
def test_a_server_can_be_stopped_by_a_trigger_of_the_shutdown(is_first: bool) -> None:
    sim = Simulation()
    host = sim.host("server")
    told: list[Any] = []

    async def handler(stream: ByteStream) -> None:
        await stream.read()

    async def program() -> None:
        server: Server

        def stop() -> None:
            Deferred.fromCoroutine(server.stop()).addBoth(told.append)

        if is_first:
            host.reactor.addSystemEventTrigger("before", "shutdown", stop)
        server = await serve(handler, "tcp:7", host.reactor)
        if not is_first:
            host.reactor.addSystemEventTrigger("before", "shutdown", stop)
        told.append(server)

    Deferred.fromCoroutine(program())
    Deferred.fromCoroutine(connect("tcp:server:7", sim.host("client").reactor))
    sim.advance(1)
    [server] = told
    assert server.connections == 1
    host.reactor.stop()
    sim.advance(1)
    assert told == [server, None]
    assert server.connections == 0
