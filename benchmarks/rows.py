"""The rows of the benchmark: for each, which programs are started, what loads them, and what is read off.

A row is a kind of work; a case is one setting of it (echo with 100 connections and 64 bytes). A case knows
how to measure one peer once; run.py decides who is measured when.

Servers that answer request after request are started once for each case, all peers' at the same time: those that are not
asked sleep, and cost nothing. So the samples of one round are some tenths of a second apart, which is what their ratio is
worth on a machine whose mood changes. Where a program works its task off and ends, each sample has a fresh one.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from time import sleep

import processes
from processes import BUILD, BenchmarkError, loader_command, peer_command, run_json, serving

ENGINES = ("ropewalk", "uvloop", "twisted", "asyncio")
WITH_C = (*ENGINES, "c")
PROXIES = (*ENGINES, "haproxy")
PEERS = (*WITH_C, "haproxy")
ROWS = (
    "echo",
    "crowd",
    "stream",
    "churn",
    "connect",
    "idle",
    "timers",
    "threads",
    "deferreds",
    "resp",
    "web",
    "proxy",
    "simulation",
)

MEBIBYTE = 1 << 20
CONNECT_ADDRESSES = 8  # × 28 000 ports: enough for every round of every peer within TIME_WAIT's minute
SETTLE = 0.3

Figures = dict[str, float]
Server = tuple[int, int]
"""Process id and port."""
NO_SERVER: Server = (0, 0)


@dataclass(frozen=True)
class Scale:
    """How much of everything; the quick one is for finding mistakes, not for figures to be quoted."""

    server_core: int
    load_core: int
    seconds: float = 0.2
    warmup: float = 0.05
    stream_bytes: int = 1024 * MEBIBYTE
    connects: int = 20_000
    idle: int = 8000
    idle_seconds: float = 5.0
    timers: int = 200_000
    links: int = 100_000
    calls: int = 400_000
    chains: int = 40_000
    requests: int = 50_000
    simulated: int = 20_000

    def limit(self, seconds: float = 0.0) -> float:
        """How long a measurement of so many seconds may take before it counts as failed."""
        return 30.0 + 4 * seconds


@dataclass(frozen=True)
class Case:
    """One setting of one row."""

    key: str
    row: str
    title: str
    unit: str  # what `metric` counts: "msg/s", "B/s", "s", "B"
    metric: str  # the figure that the case is about
    measure: Callable[[str, Server], Figures]
    peers: tuple[str, ...] = WITH_C
    rounds: int = 9
    server: Callable[[str], list[str]] | None = None  # the command of a peer's, if all rounds share one
    # What all those servers are in front of, on the load's core; its port is the last word of their commands.
    behind: list[str] | None = None
    needs: str = ""  # a command that has to be installed
    package: str = ""

    @property
    def higher_is_better(self) -> bool:
        return self.metric == "rate"

    def missing(self) -> str:
        """Why this case cannot run here; empty if it can."""
        if not self.needs or shutil.which(self.needs):
            return ""
        return f"{self.needs} is not installed (Debian: apt-get install {self.package})"


def all_cases(
    scale: Scale, rows: Iterable[str], sizes: Iterable[int] | None, connections: Iterable[int] | None
) -> list[Case]:
    """The cases of the rows asked for. Sizes and connections, if given, replace those of the echo rows."""
    chosen = list(rows)
    cases: list[Case] = []
    if "echo" in chosen:
        crowds, lengths = connections or (100,), sizes or (64, 1024, 16384)
        cases += [_echo(scale, "echo", crowd, size) for crowd in crowds for size in lengths]
    if "crowd" in chosen:
        # Why so long: a starved connection has to have the time to show.
        longer = replace(scale, seconds=4 * scale.seconds, warmup=4 * scale.warmup)
        cases += [_echo(longer, "crowd", n, 1024) for n in (1000, 4000)]
    makers = {
        "stream": _stream,
        "churn": _churn,
        "connect": _connect,
        "idle": _idle,
        "timers": _timers,
        "threads": _threads,
        "deferreds": _deferreds,
        "resp": _resp,
        "web": _web,
        "proxy": _proxy,
        "simulation": _simulation,
    }
    for row, make in makers.items():
        if row in chosen:
            cases += make(scale)
    return cases


def _echo_server(peer: str) -> list[str]:
    return [str(BUILD / "echo_server")] if peer == "c" else peer_command("echo", peer)


def _words(size: int) -> str:
    return f"{size} B" if size < 1024 else f"{size // 1024} KiB"


def _echo(scale: Scale, row: str, connections: int, size: int) -> Case:
    def measure(peer: str, server: Server) -> Figures:
        pid, port = server
        command = loader_command(
            "echo",
            port=port,
            pid=pid,
            connections=connections,
            size=size,
            seconds=scale.seconds,
            warmup=scale.warmup,
        )
        faults = processes.page_faults(pid)
        figures = run_json(command, scale.load_core, scale.limit(scale.seconds))
        # The warm-up's are counted, so its messages are too, by the window's rate.
        messages = figures["rate"] * (scale.seconds + scale.warmup)
        figures["faults"] = (processes.page_faults(pid) - faults) / messages
        return figures

    title = f"echo, {connections} connections, {_words(size)}"
    rounds = 25 if row == "echo" else 9
    return Case(
        f"echo-{connections}-{size}",
        row,
        title,
        "msg/s",
        "rate",
        measure,
        rounds=rounds,
        server=_echo_server,
    )


def _stream(scale: Scale) -> list[Case]:
    def case(direction: str, program: str, title: str) -> Case:
        def measure(peer: str, _: Server) -> Figures:
            command = peer_command(program, peer, scale.stream_bytes)
            with serving(command, scale.server_core) as (pid, port):
                load = loader_command(direction, port=port, pid=pid, bytes=scale.stream_bytes)
                figures = run_json(load, scale.load_core, scale.limit())
            figures["cpu_us"] = figures["server_cpu"] * 1e6 * MEBIBYTE / scale.stream_bytes  # for each MiB
            return figures

        return Case(f"stream-{direction}", "stream", title, "B/s", "rate", measure, ENGINES)

    amount = scale.stream_bytes // MEBIBYTE
    return [
        case("upload", "sink", f"one stream, {amount} MiB received"),
        case("download", "source", f"one stream, {amount} MiB sent"),
    ]


def _churn(scale: Scale) -> list[Case]:
    def measure(peer: str, server: Server) -> Figures:
        pid, port = server
        command = loader_command(
            "churn", port=port, pid=pid, connections=64, seconds=scale.seconds, warmup=scale.warmup
        )
        return run_json(command, scale.load_core, scale.limit(scale.seconds))

    title = "accept, echo 64 B, close"
    return [Case("churn", "churn", title, "conn/s", "rate", measure, rounds=15, server=_echo_server)]


def _connect(scale: Scale) -> list[Case]:
    def measure(peer: str, _: Server) -> Figures:
        server = [str(BUILD / "echo_server"), str(CONNECT_ADDRESSES)]
        with serving(server, scale.load_core) as (_, port):
            client = peer_command("connect", peer, port, scale.connects, CONNECT_ADDRESSES)
            return _with_rate(run_json(client, scale.server_core, scale.limit()))

    title = f"connect, {scale.connects} in a row, 100 at a time"
    return [Case("connect", "connect", title, "conn/s", "rate", measure, ENGINES, rounds=7)]


def _idle(scale: Scale) -> list[Case]:
    """Memory for each connection that does nothing: what the process grew by, over how many there are."""

    def measure(peer: str, _: Server) -> Figures:
        with serving(_echo_server(peer), scale.server_core) as (pid, port):
            # Why some come and go first: what an engine imports or builds only once is not a connection's.
            warm_up = loader_command("hold", port=port, connections=20)
            with processes.holding(warm_up, scale.load_core, scale.limit()):
                pass
            sleep(SETTLE)
            before = processes.resident_bytes(pid)
            hold = loader_command("hold", port=port, connections=scale.idle)
            with processes.holding(hold, scale.load_core, scale.limit()):
                sleep(SETTLE)
                grown = processes.resident_bytes(pid) - before
                cpu = processes.cpu_seconds(pid)
                sleep(scale.idle_seconds)
                return {
                    "bytes": grown / scale.idle,
                    "idle_cpu": processes.cpu_seconds(pid) - cpu,
                    "idle_seconds": scale.idle_seconds,
                }

    title = f"idle connection, {scale.idle} of them"
    return [Case("idle", "idle", title, "B", "bytes", measure, ENGINES, rounds=1)]


def _timers(scale: Scale) -> list[Case]:
    def case(mode: str, total: int, title: str) -> Case:
        def measure(peer: str, _: Server) -> Figures:
            command = peer_command("timers", peer, mode, total)
            return _with_rate(run_json(command, scale.server_core, scale.limit()))

        return Case(f"timers-{mode}", "timers", title, "s", "seconds", measure, ENGINES)

    return [
        case("set", scale.timers, f"callLater + cancel, {scale.timers}"),
        case("chain", scale.links, f"chain of callLater(0), {scale.links}"),
    ]


def _threads(scale: Scale) -> list[Case]:
    def measure(peer: str, _: Server) -> Figures:
        command = peer_command("threads", peer, scale.calls)
        return _with_rate(run_json(command, scale.server_core, scale.limit()))

    title = f"callFromThread, {scale.calls} from two threads"
    return [Case("threads", "threads", title, "calls/s", "rate", measure, ENGINES)]


def _deferreds(scale: Scale) -> list[Case]:
    """No reactor runs here: only the two engines that have Deferreds take part."""

    def case(work: str, title: str) -> Case:
        def measure(peer: str, _: Server) -> Figures:
            command = peer_command("deferreds", peer, work, scale.chains)
            return _with_rate(run_json(command, scale.server_core, scale.limit()))

        peers = ("ropewalk", "twisted")
        return Case(f"deferreds-{work}", "deferreds", title, "s", "seconds", measure, peers, rounds=15)

    times = f"{scale.chains} ×"
    return [
        case("callbacks", f"{times} a chain of 10 callbacks"),
        case("inline", f"{times} inlineCallbacks, 10 yields"),
        case("inline-fired", f"{times} inlineCallbacks, 10 yields of what has fired"),
        case("await", f"{times} a coroutine, 10 awaits"),
        case("await-fired", f"{times} a coroutine, 10 awaits of what has fired"),
    ]


def _simulation(scale: Scale) -> list[Case]:
    def measure(peer: str, _: Server) -> Figures:
        command = peer_command("simulated", peer, scale.simulated)
        return _with_rate(run_json(command, scale.server_core, scale.limit()))

    title = f"simulated kernel, {scale.simulated} messages and echoes"
    return [Case("simulation", "simulation", title, "events/s", "rate", measure, ("ropewalk",))]


def _resp(scale: Scale) -> list[Case]:
    def case(pipeline: int) -> Case:
        total = scale.requests * (4 if pipeline > 1 else 1)

        def measure(peer: str, server: Server) -> Figures:
            pid, port = server
            words = f"redis-benchmark -p {port} -t ping_mbulk -c 50 -n {total} -P {pipeline} --csv"
            cpu = processes.cpu_seconds(pid)
            printed = processes.run(words.split(), scale.load_core, scale.limit())
            cpu = processes.cpu_seconds(pid) - cpu
            for row in csv.reader(printed.splitlines()):
                if row and row[0].startswith("PING"):
                    return {"rate": float(row[1]), "cpu_us": cpu * 1e6 / total, "count": total}
            raise BenchmarkError("redis-benchmark printed no result for PING")

        title = f"RESP PING, redis-benchmark, pipeline {pipeline}"
        return Case(
            f"resp-{pipeline}",
            "resp",
            title,
            "req/s",
            "rate",
            measure,
            ENGINES,
            server=lambda peer: peer_command("resp", peer),
            needs="redis-benchmark",
            package="redis-tools",
        )

    return [case(1), case(16)]


def _web(scale: Scale) -> list[Case]:
    """A second opinion on the echo rows, from a load generator that is not ours. No target hangs on it."""

    def measure(peer: str, server: Server) -> Figures:
        pid, port = server
        words = f"wrk -t1 -c100 -d{max(1, round(scale.seconds))}s http://127.0.0.1:{port}/"
        cpu = processes.cpu_seconds(pid)
        printed = processes.run(words.split(), scale.load_core, scale.limit(scale.seconds))
        cpu = processes.cpu_seconds(pid) - cpu
        if "Socket errors" in printed or "Non-2xx" in printed:
            raise BenchmarkError("wrk counted errors")
        lines = [line.split() for line in printed.splitlines()]
        rate = next(float(line[1]) for line in lines if line[:1] == ["Requests/sec:"])
        count = next(int(line[0]) for line in lines if line[1:2] == ["requests"])
        return {"rate": rate, "cpu_us": cpu * 1e6 / count, "count": count}

    title = "HTTP keep-alive GET, wrk, 100 connections"
    return [
        Case(
            "web",
            "web",
            title,
            "req/s",
            "rate",
            measure,
            ENGINES,
            rounds=5,
            server=lambda peer: peer_command("web", peer),
            needs="wrk",
            package="wrk",
        )
    ]


def _proxy(scale: Scale) -> list[Case]:
    """Every proxy in front of the same server; the CPU is the proxy's."""
    echo = [str(BUILD / "echo_server")]

    def carried(mode: str, **settings: object) -> Callable[[str, Server], Figures]:
        def measure(peer: str, server: Server) -> Figures:
            pid, port = server
            times = {"seconds": scale.seconds, "warmup": scale.warmup}
            command = loader_command(mode, port=port, pid=pid, **settings, **times)
            return run_json(command, scale.load_core, scale.limit(scale.seconds))

        return measure

    def streamed(peer: str, _: Server) -> Figures:
        source = peer_command("source", "ropewalk", scale.stream_bytes)
        with ExitStack() as stack:
            _, target = stack.enter_context(serving(source, scale.load_core))
            command = peer_command("proxy", peer, target)
            pid, port = stack.enter_context(serving(command, scale.server_core))
            load = loader_command("download", port=port, pid=pid, bytes=scale.stream_bytes)
            figures = run_json(load, scale.load_core, scale.limit())
        figures["cpu_us"] = figures["server_cpu"] * 1e6 * MEBIBYTE / scale.stream_bytes  # for each MiB
        return figures

    def case(key: str, title: str, unit: str, measure: Callable[[str, Server], Figures]) -> Case:
        return Case(
            f"proxy-{key}",
            "proxy",
            title,
            unit,
            "rate",
            measure,
            PROXIES,
            rounds=15,
            server=lambda peer: peer_command("proxy", peer),
            behind=echo,
        )

    title = f"proxy, one stream, {scale.stream_bytes // MEBIBYTE} MiB carried"
    return [
        case(
            "echo",
            "proxy, 100 connections, 1 KiB there and back",
            "msg/s",
            carried("echo", connections=100, size=1024),
        ),
        case("churn", "proxy, accept, connect, echo 64 B, close", "conn/s", carried("churn", connections=64)),
        Case("proxy-stream", "proxy", title, "B/s", "rate", streamed, PROXIES, rounds=5),
    ]


def _with_rate(figures: Figures) -> Figures:
    figures["rate"] = figures["count"] / figures["seconds"]
    figures["cpu_us"] = figures["cpu"] * 1e6 / figures["count"]
    return figures
