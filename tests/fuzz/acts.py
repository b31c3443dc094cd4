"""What the swarm's players do in their callbacks: one function an act, drawn by `draw`.

Whatever a user may do, anywhere, is here: write, close, abort, pause, raise, connect, stop the reactor, meddle with another
connection. An act that does not fit who does it does nothing. The draw is the world's chance, so the same seed acts the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ropewalk.event import Event, Step
from ropewalk.simulation.tcp_states import OVER as ENDED
from tests.fuzz.players import Alarms, Calls, End, Produces

if TYPE_CHECKING:
    from tests.fuzz.swarm import World

# An act: in which world, who, and in which callback of theirs.
Act = Callable[["World", Any, str], None]

# How likely each act is, by its name; and those that are left in the calm phase.
LIKELY = {
    "write": 30,
    "later": 10,
    "pause": 8,
    "produce": 6,
    "half": 3,
    "connect": 5,
    "again": 5,
    "lose": 5,
    "disconnect": 1,
    "abort": 2,
    "reset": 2,
    "raise": 3,
    "exit": 1,
    "stop": 1,
    "stop_connecting": 2,
    "stop_listening": 1,
    "limits": 2,
    "options": 2,
    "observe": 1,
    "meddle": 3,
    "alarms": 1,
}
CALM = {"write", "lose", "pause", "half", "later", "produce", "disconnect"}
# Callbacks of an end whose exception ends the connection, and is its reason.
_ENDS_BY_RAISING = {"connectionMade", "dataReceived", "readConnectionLost", "writeConnectionLost"}


def draw(world: World, who: Any, where: str) -> None:
    """Do something, by chance, in a callback."""
    [what] = world.chance.choices(list(LIKELY), list(LIKELY.values()))
    if world.is_calm and what not in CALM:
        return
    # Why: a call of the user's is on the stack no more once his callback runs; new calls are his own again.
    outer, world.calls = world.calls, []
    try:
        ACTS[what](world, who, where)
    finally:
        world.calls = outer


def _write(world: World, who: Any, where: str) -> None:
    if isinstance(who, End) and who.transport is not None:
        who.send(world.size())


def _lose(world: World, who: Any, where: str) -> None:
    if isinstance(who, End) and who.transport is not None:
        who.lose()


def _abort(world: World, who: Any, where: str) -> None:
    if isinstance(who, End) and who.transport is not None:
        who.ask("abortConnection")


def _half(world: World, who: Any, where: str) -> None:
    if isinstance(who, End) and who.transport is not None:
        who.ask("loseWriteConnection")


def _pause(world: World, who: Any, where: str) -> None:
    if isinstance(who, End) and who.transport is not None:
        who.rest(world.chance.choice([0, 0.01, 3]))


def _produce(world: World, who: Any, where: str) -> None:
    if isinstance(who, End) and who.transport is not None:
        Produces(who)


def _limits(world: World, who: Any, where: str) -> None:
    if isinstance(who, End) and who.transport is not None and who.producer is None:
        who.ask("setWriteLimits", *world.chance.choice([(65536, 0), (10, 0), (5000, 5000, 400_000)]))


def _options(world: World, who: Any, where: str) -> None:
    if isinstance(who, End) and who.state == "made":
        who.ask("setTcpNoDelay", world.chance.random() < 0.5)
        who.ask("getHost")
        who.ask("getPeer")


def _raise(world: World, who: Any, where: str) -> None:
    world.boom(who if isinstance(who, End) and where in _ENDS_BY_RAISING else None)


def _exit(world: World, who: Any, where: str) -> None:
    if world.chance.random() < 0.3:
        world.exits += 1
        raise SystemExit(world.exits)


def _later(world: World, who: Any, where: str) -> None:
    delay = world.chance.random() * 2
    due = [world.sim.now + delay]
    call = who.host.reactor.callLater(delay, _act_later, world, who, due)
    # Some are moved, before they come or when others do; and with them comes a crowd that is called off again.
    if world.chance.random() < 0.3:
        moved = world.chance.random() * 3
        call.reset(moved)
        due[0] = world.sim.now + moved
    if world.chance.random() < 0.05:
        crowd = [who.host.reactor.callLater(world.chance.random() * 5, int) for _ in range(150)]
        for each in crowd:
            each.cancel()


def _act_later(world: World, who: Any, due: list[float]) -> None:
    is_late = world.sim.now > due[0] + 1e-9 and not world.had_no_time(who.host, due[0])
    world.check(not is_late, who, f"J8 a timer came {world.sim.now - due[0]} s late")
    world.check(world.sim.now > due[0] - 1e-9, who, f"J8 a timer came {due[0] - world.sim.now} s early")
    if not isinstance(who, End) or who.state == "made":
        world.act(who, "later")


def _connect(world: World, who: Any, where: str) -> None:
    world.connect(who.host)


def _again(world: World, who: Any, where: str) -> None:
    if isinstance(who, Calls) and who.attempts < 4 and who.connector is not None:
        world.inside("connect", who.connector.connect)


def _disconnect(world: World, who: Any, where: str) -> None:
    connector = getattr(who, "connector", None) or getattr(getattr(who, "owner", None), "connector", None)
    if connector is not None:
        caller = who.owner if isinstance(who, End) else who
        caller.asked_to_disconnect = True
        world.inside("disconnect", connector.disconnect)


def _stop_connecting(world: World, who: Any, where: str) -> None:
    connector = getattr(who, "connector", None)
    if connector is not None:
        world.inside("stopConnecting", connector.stopConnecting)


def _reset(world: World, who: Any, where: str) -> None:
    if isinstance(who, End) and who.state == "made":
        world.sim.at(world.sim.now, reset, world, who)


def reset(world: World, end: End) -> None:
    if end.state == "made" and end.endpoint.owner is not None:
        world.reset_ends |= {id(end.endpoint), id(end.endpoint.peer)}
        # Why not those that are over: both sides have ended, and a reset does nothing to them any more.
        struck = [each for each in (end.endpoint, end.endpoint.peer) if each.state not in ENDED]
        world.sim.reset(end.endpoint)
        for each in world.ends:
            if each.state == "made" and each.endpoint in struck:
                world.sim.at(world.sim.now + 1e-6, _look_whether_told, world, each)


def _look_whether_told(world: World, end: End) -> None:
    """J4, F3: a reset is noticed at once, paused or not."""
    has_time = not world.had_no_time(end.host, world.sim.now - 1e-5) and not end.host.isPaused
    # Why not where the kernel refuses: a registration that failed cannot tell.
    refuses = {"register", "modify", "recv", "getsockopt"} & {call for call, _ in end.host.faults.given}
    world.check(end.state != "made" or not has_time or bool(refuses), end, "F3 it was reset, and not told")


def _stop_listening(world: World, who: Any, where: str) -> None:
    port = world.ports[world.hosts.index(who.host)]
    if port is None:
        return
    world.inside("stopListening", port.stopListening)
    who.host.reactor.callLater(world.chance.random() * 3, listen_again, world, port)


def listen_again(world: World, port: Any) -> None:
    if port is not None and not port.connected and not world.is_over:
        world.inside("startListening", port.startListening)


def _stop(world: World, who: Any, where: str) -> None:
    host = who.host
    if world.chance.random() < 0.2 and host.name not in world.down and len(world.stopped) < 2:
        world.stopped.setdefault(host.name, []).append(world.sim.now)
        host.reactor.addSystemEventTrigger("after", "shutdown", world.all_told, host)
        world.inside("stop", host.reactor.stop)
        world.down.add(host.name)
        world.sim.at(world.sim.now + 1 + world.chance.random(), world.start, host)


def _meddle(world: World, who: Any, where: str) -> None:
    """Something happens to another connection of the same host, whose event may be in the same batch."""
    others = [end for end in world.ends if end.host is who.host and end.state == "made" and end is not who]
    if others:
        end = world.chance.choice(others)
        act = world.chance.choice([_lose, _abort, _write, _half, _pause])
        act(world, end, where)


def _observe(world: World, who: Any, where: str) -> None:
    observers = who.host.reactor.observers
    if len(observers) < 3:
        observers += [partial(_boom_as_observer, world), partial(_meddle_as_observer, world, who)]


def _boom_as_observer(world: World, event: Event) -> None:
    if world.chance.random() < 0.05:
        world.boom()


def _meddle_as_observer(world: World, who: Any, event: Event) -> None:
    """Take a producer away at whatever step of its connection, or close it."""
    ends = [end for end in world.ends if end.host is who.host and end.state == "made"]
    if not ends or world.is_calm or world.chance.random() < 0.8:
        return
    end = world.chance.choice(ends)
    outer, world.calls = world.calls, []
    try:
        if end.producer is not None:
            end.producer.finish()
        elif world.chance.random() < 0.2 and event.step is not Step.FIRST_BYTE:
            # Why not then: the first bytes count as received, and are given to nobody.
            _lose(world, end, "observer")
    finally:
        world.calls = outer


def _alarms(world: World, who: Any, where: str) -> None:
    Alarms(world, who.host)


# What is done under each name.
ACTS: dict[str, Act] = {
    "write": _write,
    "later": _later,
    "pause": _pause,
    "produce": _produce,
    "half": _half,
    "connect": _connect,
    "again": _again,
    "lose": _lose,
    "disconnect": _disconnect,
    "abort": _abort,
    "reset": _reset,
    "raise": _raise,
    "exit": _exit,
    "stop": _stop,
    "stop_connecting": _stop_connecting,
    "stop_listening": _stop_listening,
    "limits": _limits,
    "options": _options,
    "observe": _observe,
    "meddle": _meddle,
    "alarms": _alarms,
}
