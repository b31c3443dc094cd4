"""Guests of the swarm's worlds: what is built on top, streams, `serve`, ClientService and Pool, amid all that befalls a world.

Every guest speaks one small language. Asked is b"<number> <size>" and a line's end, then so many bytes; answered is b"ok
<number>" and a line's end. No number is asked twice, by nobody, so the books are simple: what was answered was taken exactly
once and whole, whatever happened to connections, programs and machines; what was not may have been taken once, or not.

On each host there is a server, and by chance visitors with streams of their own, a service with those who wait for its
connection, and a pool with its users. Between them and their transports there are layers, by chance (layers.py). They leave
when their reactor stops, or the world ends; then every coroutine and every Deferred has to end. When a host falls its guests
are no more, and nothing is expected of them.

The judge is at the end of this file. What it never looks at is the inside of what is judged.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ropewalk import Factory
from ropewalk.defer import CancelledError, Deferred, TimeoutError
from ropewalk.endpoints import (
    WrappedClientEndpoint,
    WrappedServerEndpoint,
    clientFromString,
    serverFromString,
)
from ropewalk.error import CannotListenError, ConnectError, ConnectingCancelledError, ConnectionClosed
from ropewalk.failure import Failure
from ropewalk.pool import Pool, PoolClosedError
from ropewalk.service import ClientService, backoffPolicy
from ropewalk.serving import Server, serve
from ropewalk.streams import ByteStream, IncompleteRead, Pipe
from ropewalk.streams import open as connect
from ropewalk.task import sleep, within

if TYPE_CHECKING:
    from ropewalk.simulation import Host
    from tests.fuzz.layers import Layers, Stack
    from tests.fuzz.swarm import World

PORT = 9
# Seconds for an answer. Why at all: who only listens to one that is silent waits for ever.
FOR_AN_ANSWER = 10.0
# Seconds of the quiet phase until the last visits are made, and for each of them.
LAST_VISITS_AFTER = 80.0
FOR_THE_LAST_VISIT = 100.0
# What a guest may fail with: connections that fail or end, what was given up.
EXPECTED = (
    ConnectError,
    ConnectionClosed,
    CannotListenError,
    ConnectingCancelledError,
    IncompleteRead,
    CancelledError,
    TimeoutError,
    PoolClosedError,
)


class Task:
    """Something that has to end."""

    def __init__(self, home: Home, name: str) -> None:
        self.home = home
        self.name = name
        self.is_over = False
        self.reason: BaseException | None = None
        # None for a server's handler, which the server ends.
        self.deferred: Deferred[Any] | None = None
        home.guests.tasks.append(self)

    def follow(self, deferred: Deferred[Any]) -> None:
        self.deferred = deferred
        deferred.addCallbacks(self._ended, self._failed)

    def _ended(self, result: object) -> None:
        self.is_over = True

    def _failed(self, reason: Failure) -> None:
        self.is_over = True
        self.reason = reason.value
        world = self.home.guests.world
        world.check(isinstance(reason.value, EXPECTED), self, f"failed with {reason.value!r}")

    def __repr__(self) -> str:
        return f"<{self.name} on {self.home.host.name}>"


class Home:
    """The guests of one host, from its start until its reactor stops, or it falls."""

    def __init__(self, guests: Guests, host: Host) -> None:
        self.guests = guests
        self.host = host
        self.reactor = host.reactor
        self.server: Server | None = None
        # The layers of its server, if there are.
        self.stack: Stack | None = None
        # Each with the host that it is connected to, and whether it is connected as soon as that accepts.
        self.services: list[tuple[ClientService, str, bool]] = []
        self.pools: list[Pool] = []
        self.is_gone = False
        self.has_left = False

    @property
    def may_cut(self) -> bool:
        """Whether its server's layers may refuse a connection, or end one though all is well."""
        return self.stack is not None and self.stack.may_cut

    def run(self, name: str, coroutine: Coroutine[Any, Any, object], seconds: float | None = None) -> None:
        deferred: Deferred[Any] = Deferred.fromCoroutine(coroutine)
        if seconds is not None:
            deferred.addTimeout(seconds, self.reactor)
        Task(self, name).follow(deferred)

    def leave(self) -> None:
        """Stop everything; what was asked for has to end soon."""
        if self.has_left or self.is_gone:
            return
        self.has_left = True
        under_way = [task for task in self.guests.tasks if task.home is self and not task.is_over]
        for service, _, _ in self.services:
            Task(self, "stopService").follow(service.stopService())
        for pool in self.pools:
            Task(self, "Pool.close").follow(pool.close())
        for task in under_way:
            if task.deferred is not None:
                task.deferred.cancel()
        if self.server is not None:
            self.run("Server.stop", self.server.stop())


class Guests:
    """All of a world's, and their books."""

    def __init__(self, world: World, layers: Layers) -> None:
        self.world = world
        self.layers = layers
        self.chance = random.Random(f"guests {world.seed}")
        self.tasks: list[Task] = []
        self.homes: dict[str, Home] = {}
        # By number: what was asked, how often it was taken, and what was answered.
        self.asked: dict[int, bytes] = {}
        self.taken: Counter[int] = Counter()
        self.answered: set[int] = set()

    # ---- coming and going -------------------------------------------------------------------------------------

    def move_in(self, host: Host) -> None:
        """A program of guests starts, on a host whose reactor runs, or is about to."""
        home = self.homes[host.name] = Home(self, host)
        chance = self.chance
        home.run("serve", self._serve(home))
        for _ in range(chance.randint(0, 3)):
            home.run("visit", self._visit(home))
        if chance.random() < 0.5:
            self._begin_service(home)
        if chance.random() < 0.5:
            self._begin_pool(home)
        host.reactor.addSystemEventTrigger("before", "shutdown", home.leave)

    def vanish(self, host: Host) -> None:
        """A host has fallen, and its program is no more."""
        home = self.homes.pop(host.name, None)
        if home is not None:
            home.is_gone = True

    def leave(self) -> None:
        """The end of the world."""
        for home in self.homes.values():
            home.leave()

    def forget(self) -> None:
        """Undo the circles."""
        for task in self.tasks:
            task.deferred = None
        for home in self.homes.values():
            home.server = None
            home.services.clear()
            home.pools.clear()
        self.tasks.clear()
        self.homes.clear()

    # ---- a server ---------------------------------------------------------------------------------------------

    async def _serve(self, home: Home) -> None:
        chance = self.chance
        how = {"limit": chance.choice([1, 3, 1000]), "buffer": chance.choice([10, 65536])}
        endpoint = serverFromString(home.reactor, f"tcp:{PORT}")
        if self.layers.chance.random() < 0.6:
            home.stack = self.layers.stack(home.host, is_server=True)
            endpoint = WrappedServerEndpoint(endpoint, home.stack.wrap)
        home.server = await serve(lambda stream: self._handle(home, stream), endpoint, **how)

    async def _handle(self, home: Home, stream: ByteStream) -> None:
        task = Task(home, "handler")
        try:
            await self._answer_all(home, stream)
        except IncompleteRead:
            pass  # Safe because: the client has ended, and whether that was right is the client's.
        finally:
            task.is_over = True

    async def _answer_all(self, home: Home, stream: ByteStream) -> None:
        chance, world, last = self.chance, self.world, 0
        while True:
            number, size = map(int, (await stream.readUntil()).split())
            data = await stream.readExactly(size)
            drawn = 1.0 if world.is_calm else chance.random()
            if drawn < 0.02:
                world.boom()
            elif drawn < 0.04:
                return
            elif drawn < 0.06:
                stream.abort()
                return
            elif drawn < 0.2:
                await sleep(chance.random(), home.reactor)
            world.check(data == self.asked[number], stream, f"{number} came as something else")
            world.check(number > last, stream, f"{number} came after {last}")
            self.taken[number] += 1
            last = number
            await stream.write(b"ok %d\n" % number)

    # ---- who asks ---------------------------------------------------------------------------------------------

    async def _ask(self, stream: ByteStream) -> None:
        """Ask once, and wait for the answer."""
        chance, number = self.chance, len(self.asked) + 1
        data = self.asked[number] = chance.randbytes(chance.choice([0, 10, self.world.most_bytes]))
        cut = chance.randint(0, len(data))
        await stream.write(b"%d %d\n" % (number, len(data)) + data[:cut])
        await stream.write(data[cut:])
        line = await stream.readUntil()
        self.world.check(line == b"ok %d\n" % number, stream, f"{number} was answered by {line!r}")
        self.answered.add(number)

    async def _ask_some(self, home: Home, stream: ByteStream) -> None:
        """Ask a few times. An answer that does not come in time is waited for no more; then the stream is of no use."""
        for _ in range(self.chance.randint(1, 4)):
            await within(FOR_AN_ANSWER, self._ask(stream), home.reactor)

    def _endpoint(self, home: Home, target: str, timeout: float = 5) -> tuple[Any, bool]:
        """Where to connect. Returns: an endpoint, and whether nothing ends what it connects while all is well."""
        endpoint = clientFromString(home.reactor, f"tcp:{target}:{PORT}:timeout={timeout}")
        if self.layers.chance.random() < 0.7:
            return endpoint, True
        wrap = partial(self._wrap, home)
        return WrappedClientEndpoint(endpoint, wrap), False

    def _wrap(self, home: Home, factory: Any) -> Any:
        return self.layers.stack(home.host).wrap(factory)

    def _target(self) -> str:
        chance = self.chance
        names = [host.name for host in self.world.hosts]
        if chance.random() < 0.1:
            return chance.choice(["nowhere.example", "never.example", "192.0.2.1"])
        return chance.choice([*names, "both.example"])

    async def _visit(self, home: Home) -> None:
        """Connect, ask, and end it in one way or another."""
        chance = self.chance
        await sleep(chance.random() * 12, home.reactor)
        endpoint, _ = self._endpoint(home, self._target(), chance.choice([0.5, 5]))
        stream = await connect(endpoint, buffer=chance.choice([10, 65536]))
        try:
            await self._ask_some(home, stream)
        except Exception:
            stream.abort()
            raise
        how = chance.random()
        if how < 0.5:
            await stream.close()
        elif how < 0.8:
            stream.closeWrite()
            rest = await within(FOR_AN_ANSWER, stream.read(), home.reactor)
            self.world.check(rest == b"", stream, f"{rest!r} came after the last answer")
            await stream.close()
        else:
            stream.abort()

    # ---- a connection that is kept ----------------------------------------------------------------------------

    def _begin_service(self, home: Home) -> None:
        chance = self.chance
        target = chance.choice(self.world.hosts).name
        endpoint, is_safe = self._endpoint(home, target)
        prepare = self._prepare if chance.random() < 0.3 else None
        service = ClientService(
            endpoint,
            Factory.forProtocol(Pipe),
            retryPolicy=backoffPolicy(0.2, chance.choice([3.0, 20.0])),
            prepareConnection=None if prepare is None else lambda pipe: prepare(home, pipe),
        )
        home.services.append((service, target, prepare is None and is_safe))
        service.startService()
        home.run("use a service", self._use_service(home, service))
        for _ in range(chance.randint(0, 3)):
            home.run("whenConnected", self._wait_for(home, service))
        if chance.random() < 0.3:
            home.run("stop and start", self._stop_and_start(home, service))

    async def _prepare(self, home: Home, pipe: Pipe) -> None:
        assert pipe.stream is not None
        await within(FOR_AN_ANSWER, self._ask(pipe.stream), home.reactor)

    async def _use_service(self, home: Home, service: ClientService) -> None:
        for _ in range(self.chance.randint(1, 4)):
            pipe = await service.whenConnected(self.chance.choice([None, 1, 3]))
            stream = pipe.stream
            if stream is not None:
                try:
                    await self._ask_some(home, stream)
                except EXPECTED:
                    stream.abort()
                    if home.has_left:
                        raise
            await sleep(self.chance.random() * 3, home.reactor)

    async def _wait_for(self, home: Home, service: ClientService) -> None:
        await sleep(self.chance.random() * 12, home.reactor)
        await service.whenConnected(self.chance.choice([1, 2, 5]))

    async def _stop_and_start(self, home: Home, service: ClientService) -> None:
        await sleep(self.chance.random() * 10, home.reactor)
        stopping = service.stopService()
        if self.chance.random() < 0.5:
            await stopping
        if not home.has_left:
            service.startService()
        await stopping

    # ---- connections that are shared --------------------------------------------------------------------------

    def _begin_pool(self, home: Home) -> None:
        chance = self.chance
        endpoint, _ = self._endpoint(home, self._target())
        health = chance.choice([None, self._is_healthy, lambda pipe: self._looks_healthy(home, pipe)])
        how: dict[str, Any] = {"size": chance.randint(1, 3), "idle": chance.choice([2.0, None])}
        pool = Pool(endpoint, Factory.forProtocol(Pipe), health=health, **how)
        home.pools.append(pool)
        for _ in range(chance.randint(1, 6)):
            home.run("use a pool", self._use_pool(home, pool))

    def _is_healthy(self, pipe: Pipe) -> bool:
        return pipe.stream is not None and (self.world.is_calm or self.chance.random() > 0.1)

    async def _looks_healthy(self, home: Home, pipe: Pipe) -> bool:
        await sleep(self.chance.random() * 0.1, home.reactor)
        return self._is_healthy(pipe)

    async def _use_pool(self, home: Home, pool: Pool) -> None:
        chance = self.chance
        await sleep(chance.random() * 12, home.reactor)
        acquiring = pool.acquire()
        if chance.random() < 0.1:
            acquiring.addTimeout(chance.random(), home.reactor)
        pipe = await acquiring
        try:
            if pipe.stream is not None:
                await self._ask_some(home, pipe.stream)
        except Exception:
            pool.discard(pipe)
            raise
        if chance.random() < 0.9:
            pool.release(pipe)
        else:
            pool.discard(pipe)

    # ---- the last visits --------------------------------------------------------------------------------------

    def quiet_begins(self) -> None:
        """All is well again by now: a server that is free answers whoever comes."""
        world = self.world
        world.sim.at(world.sim.now + LAST_VISITS_AFTER, self._begin_last_visits)

    def _begin_last_visits(self) -> None:
        for home in self.homes.values():
            server = home.server
            is_free = server is not None and not server.connections and not home.has_left
            if is_free and home.host.name not in self.world.down:
                self.world.from_thread(home.host, partial(self._begin_last_visit, home))

    def _begin_last_visit(self, home: Home, host: Host) -> None:
        home.run("last visit", self._visit_for_the_last_time(home), FOR_THE_LAST_VISIT)

    async def _visit_for_the_last_time(self, home: Home) -> None:
        stream = await connect(f"tcp:{home.host.name}:{PORT}", home.reactor, buffer=10)
        try:
            await self._ask(stream)
            await self._ask(stream)
        except Exception:
            stream.abort()
            raise
        await stream.close()

    # ---- what is judged ---------------------------------------------------------------------------------------

    def check_liveness(self) -> None:
        """After a long quiet nobody waits any more, and who is to stay connected is."""
        world = self.world
        for task in self.tasks:
            # Why the last: who waits without end for a connection that cannot be had waits rightly.
            may_wait = task.is_over or task.home.is_gone or task.name == "handler"
            may_wait |= task.name == "use a service" and not self._are_all_to_be_connected(task.home)
            world.check(may_wait, task, "still waits, and all is quiet")
            is_well = (
                task.name != "last visit" or task.reason is None or task.home.has_left or task.home.may_cut
            )
            world.check(is_well, task, f"was not answered: {task.reason!r}")
        for home in self.homes.values():
            for row in home.services:
                if self._is_to_be_connected(home, *row):
                    connected = row[0].whenConnected()
                    connected.addErrback(lambda reason: None)
                    world.check(connected.called, row[0], "not connected, though its server is there")

    def _is_to_be_connected(self, home: Home, service: ClientService, target: str, is_plain: bool) -> bool:
        """Whether a service that is kept must have its connection, when all has been quiet for long."""
        there = self.homes.get(target)
        accepts = there is not None and there.server is not None and not (there.has_left or there.may_cut)
        return accepts and is_plain and service.running and not home.has_left

    def _are_all_to_be_connected(self, home: Home) -> bool:
        return all(self._is_to_be_connected(home, *row) for row in home.services)

    def all_ended(self, host: Host) -> None:
        """The reactor of a host has stopped."""
        for task in self.tasks:
            has_ended = task.is_over or task.home.host is not host or task.home.is_gone
            self.world.check(has_ended, task, "I8 has not ended, though its reactor has stopped")


def guests_of(world: World) -> Iterator[str]:
    """What was answered was taken once; everything has ended."""
    guests = world.guests
    if guests is None:
        return
    for number in guests.answered:
        if guests.taken[number] != 1:
            yield f"{number} was answered, and taken {guests.taken[number]} times"
    for number, times in guests.taken.items():
        if times > 1:
            yield f"{number} was taken {times} times"
    for task in guests.tasks:
        if not task.is_over and not task.home.is_gone:
            yield f"{task} has not ended"
    for home in guests.homes.values():
        if home.server is not None and home.server.connections:
            yield f"{home.server.connections} handlers of {home.host.name} have not ended"
