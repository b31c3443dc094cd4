"""The benchmark: every row of the project's mark, peers side by side, and the verdict.

    python benchmarks/run.py             everything; writes docs/benchmarks.md and docs/benchmarks.svg
    python benchmarks/run.py --quick     everything, small: does it all still run?
    python benchmarks/run.py --render    the page and the plot again, from the last full run
    python benchmarks/run.py --rows echo --sizes 1024 --peers ropewalk,uvloop
                                         one case, two engines: the fast loop while working on the hot path

Peers are interleaved (A B C D, B C D A, …) so that a machine that slows down for a while slows down all of
them, and nobody always goes first. Rounds are many and short rather than few and long. A peer that fails is
reported and left out of its case; the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import report
from processes import BenchmarkError, Watch, choose_cores, compile_native, serving
from rows import NO_SERVER, PEERS, ROWS, Case, Figures, Scale, Server, all_cases
from summary import Summary, available, describe_case, describe_machine

RESULTS = Path(__file__).resolve().parent / "results"
LATEST = RESULTS / "latest.json"
QUIET = 0.05  # of the whole machine used by others; above it a sample is taken once more
REPEATS = 60  # of such in one run: about two minutes
QUICK = {
    "seconds": 0.1,
    "warmup": 0.05,
    "stream_bytes": 128 << 20,
    "connects": 3000,
    "idle": 2000,
    "idle_seconds": 1.0,
    "timers": 40_000,
    "links": 20_000,
    "calls": 60_000,
    "chains": 5_000,
    "requests": 20_000,
}


def read_options(words: list[str] | None = None) -> argparse.Namespace:
    def names(allowed: tuple[str, ...]) -> Callable[[str], list[str]]:
        def split(text: str) -> list[str]:
            chosen = text.split(",")
            if unknown := [name for name in chosen if name not in allowed]:
                raise argparse.ArgumentTypeError(f"no {unknown[0]!r}; there are {', '.join(allowed)}")
            return chosen

        return split

    def numbers(text: str) -> list[int]:
        return [int(word) for word in text.split(",")]

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=names(ROWS), default=list(ROWS), help=f"of {','.join(ROWS)}")
    parser.add_argument("--peers", type=names(PEERS), default=list(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--sizes", type=numbers, help="of the echo row, in bytes: 64,1024,16384")
    parser.add_argument("--connections", type=numbers, help="of the echo row: 100")
    parser.add_argument("--rounds", type=int, help="of each case; 1 to 25")
    parser.add_argument("--seconds", type=float, help="a measurement's length, where it has one; 0.2")
    parser.add_argument(
        "--quick", action="store_true", help="everything, small, one round; publishes nothing"
    )
    parser.add_argument(
        "--render", action="store_true", help="measure nothing, write the last full run's page"
    )
    return parser.parse_args(words)


def scale_of(options: argparse.Namespace) -> Scale:
    server_core, load_core = choose_cores()
    settings = dict(QUICK) if options.quick else {}
    if options.seconds:
        settings["seconds"] = options.seconds
    return Scale(server_core, load_core, **settings)  # type: ignore[arg-type]


class Repeats:
    """How many more samples may be taken again."""

    def __init__(self, left: int) -> None:
        self.left = left


def quietly(case: Case, peer: str, server: Server, running: list[int], repeats: Repeats) -> Figures:
    """One sample; a second one if others used the machine meanwhile, and then the less disturbed of the two."""
    watch = Watch(running)
    figures = case.measure(peer, server) | {"others": watch.others()}
    if figures["others"] <= QUIET or repeats.left == 0:
        return figures
    repeats.left -= 1
    watch = Watch(running)
    again = case.measure(peer, server) | {"others": watch.others()}
    return min(figures, again, key=lambda sample: sample["others"])


def measure_case(
    case: Case, peers: list[str], rounds: int, failed: list[str], repeats: Repeats, scale: Scale
) -> dict[str, list[Figures]]:
    """All rounds of one case, the peers taking turns. Who fails is told, noted in `failed`, and out of it."""
    samples: dict[str, list[Figures]] = {peer: [] for peer in peers}
    going = list(peers)

    def failure(peer: str, error: BenchmarkError) -> None:
        going.remove(peer)
        samples[peer].clear()
        failed.append(f"{case.title}: {report.NAMES[peer]}: {error}")

    try:
        with ExitStack() as stack:
            servers = dict.fromkeys(peers, NO_SERVER)
            behind, last_words = NO_SERVER, []
            if case.behind is not None:
                behind = stack.enter_context(serving(case.behind, scale.load_core))
                last_words = [str(behind[1])]
            if case.server is not None:
                for peer in peers:
                    try:
                        command = [*case.server(peer), *last_words]
                        servers[peer] = stack.enter_context(serving(command, scale.server_core))
                    except BenchmarkError as error:
                        failure(peer, error)
            running = [pid for pid, _ in (*servers.values(), behind) if pid]
            for number in range(rounds):
                turn = number % len(peers)
                for peer in [peer for peer in peers[turn:] + peers[:turn] if peer in going]:
                    progress(f"{case.title}: round {number + 1} of {rounds}, {report.NAMES[peer]}")
                    try:
                        samples[peer].append(quietly(case, peer, servers[peer], running, repeats))
                    except BenchmarkError as error:
                        failure(peer, error)
    except BenchmarkError as error:
        failed.append(f"{case.title}: {error}")  # A server was dead when it was to be ended.
    progress("")
    return samples


def progress(words: str) -> None:
    """One line that is written over; nothing where nobody watches."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)


def measure_all(options: argparse.Namespace) -> Summary:
    absent: list[str] = []
    failed: list[str] = []
    peers = []
    for peer in options.peers:
        if reason := available(peer):
            absent.append(f"{report.NAMES[peer]}: {reason}")
        else:
            peers.append(peer)
    summary: Summary = {"machine": describe_machine(), "cases": {}, "absent": absent, "failed": failed}
    repeats = Repeats(REPEATS)
    scale = scale_of(options)
    for case in all_cases(scale, options.rows, options.sizes, options.connections):
        if missing := case.missing():
            absent.append(f"{case.title}: {missing}")
            continue
        rounds = options.rounds or (1 if options.quick else case.rounds)
        taking_part = [peer for peer in case.peers if peer in peers]
        if taking_part:
            samples = measure_case(case, taking_part, rounds, failed, repeats, scale)
            summary["cases"][case.key] = described = describe_case(case, samples)
            print(f"\n{case.title}\n{report.as_text(report.case_table(described))}", flush=True)
            if report.disturbed(described):
                print(f"  {report.disturbed(described)}", flush=True)
    return summary


def is_complete(options: argparse.Namespace) -> bool:
    whole = set(options.rows) == set(ROWS) and set(options.peers) == set(PEERS)
    return whole and not (options.quick or options.sizes or options.connections)


def main() -> int:
    options = read_options()
    if sys.platform != "linux":
        print("The benchmarks need Linux: they pin processes and read their clocks.", file=sys.stderr)
        return 2
    # Why: Debian puts HAProxy where only root looks.
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    if options.render:
        print("written:", *report.publish(json.loads(LATEST.read_text())))
        return 0
    if not compile_native():
        print("The load generator is in C, and there is no cc here (apt-get install gcc).", file=sys.stderr)
        return 2
    started = time.monotonic()
    summary = measure_all(options)
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    kept.write_text(json.dumps(summary, indent=1, ensure_ascii=False))
    judged = report.verdict_table(summary)
    if len(judged) > 1:
        print(f"\n{report.score(summary)}\n{report.as_text(judged)}")
    for line in summary["absent"]:
        print("absent:", line)
    for line in summary["failed"]:
        print("failed:", line)
    print(f"\n{time.monotonic() - started:.0f} s; all figures: benchmarks/results/{kept.name}")
    if is_complete(options):
        LATEST.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
        print("written:", *report.publish(summary))
        if not report.can_plot():
            print("no plot: matplotlib is not installed (pip install 'ropewalk[bench]')")
    return 1 if summary["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
