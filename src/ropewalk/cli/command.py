"""The commands of the tool `ropewalk` and their options: what click needs to know, and nothing else.

Each command turns its words into values, calls one function that does the work, and leaves with an exit status:
0 success, 1 it did not work out, 2 the words were wrong (click's own), 130 interrupted, 143 ended by SIGTERM. Errors are one line on
stderr, beginning with the tool's name.
"""

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from ropewalk import __version__
from ropewalk.cli.place import Place, place_to_connect, place_to_listen

if TYPE_CHECKING:
    from ropewalk.cli.run import Target

__all__ = ["ropewalk"]


T = TypeVar("T")


def _read(reader: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, str], T]:
    """A callback for click that reads a word; what cannot be read is a usage error in the reader's words."""

    def read(ctx: click.Context, param: click.Parameter, value: str) -> T:
        try:
            return reader(value)
        except ValueError as exc:
            raise click.BadParameter(str(exc)) from exc

    return read


def _seconds(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"{value} is not a number of seconds above 0")
    return value


def _seconds_or_zero(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise click.BadParameter(f"{value} is not a number of seconds, 0 or more")
    return value


def _balanced(word: str) -> Place:
    from ropewalk.cli.proxy import check_service

    place = place_to_connect(word)
    check_service(place)
    return place


def _all_balanced(ctx: click.Context, param: click.Parameter, words: tuple[str, ...]) -> list[Place]:
    return [_read(_balanced)(ctx, param, word) for word in words]


def _service(word: str) -> "Target":
    from ropewalk.cli.run import Target

    return Target(word)


_drain = click.option(
    "--drain",
    metavar="SECONDS",
    type=float,
    default=30.0,
    show_default=True,
    callback=_seconds_or_zero,
    help="How long connections may go on after SIGTERM or Ctrl-C.",
)


def _leave(status: int, message: str | None = None) -> None:
    if message is not None:
        click.echo(f"ropewalk: {message}", err=True)
    sys.exit(status)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def ropewalk() -> None:
    """Make connections, serve them, and see how they come about."""


@ropewalk.command(short_help="Join a connection with stdin and stdout.")
@click.argument("place", metavar="HOST:PORT", callback=_read(place_to_connect))
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=float,
    default=30.0,
    show_default=True,
    callback=_seconds,
    help="For resolving and connecting together.",
)
@click.option("--trace", is_flag=True, help="Tell every step on stderr, as it happens.")
@click.option(
    "--trace-format",
    type=click.Choice(["text", "json", "mermaid"]),
    help="json and mermaid: the whole timeline on stderr at the end, and nothing else.",
)
def connect(place: Place, timeout: float, trace: bool, trace_format: str | None) -> None:
    """Connect to HOST:PORT and join the connection with stdin and stdout.

    HOST is a name, an IPv4 address or an IPv6 address in brackets; PORT a number or the name of a service.
    At the end of the input our side of the connection is closed and the rest of the other side still read.
    The exit status is 0 if both sides ended cleanly, 1 if not or if no connection was made, 128 and its number after
    a signal.
    """
    from ropewalk.cli.connect import connect as run

    outcome = run(place, timeout, trace_format or ("text" if trace else None))
    _leave(outcome.status, outcome.message)


@ropewalk.command(short_help="The same from the other side, or an echo server.")
@click.argument("place", metavar="[HOST:]PORT", callback=_read(place_to_listen))
@click.option("--echo", is_flag=True, help="Send everybody's data back instead.")
@click.option("--once", is_flag=True, help="With --echo: stop when the first connection has ended.")
@click.option("--trace", is_flag=True, help="Tell every step of every connection on stderr.")
def listen(place: Place, echo: bool, once: bool, trace: bool) -> None:
    """Listen on [HOST:]PORT and join the first connection with stdin and stdout.

    Without HOST on every IPv4 interface. Port 0 lets the system choose; where it listens is told on stderr.
    The exit status is that of `connect`; stopping with Ctrl-C is success.
    """
    from ropewalk.cli.serve import listen as run

    outcome = run(place, echo, once, trace)
    _leave(outcome.status, outcome.message)


@ropewalk.command(short_help="A load balancer in front of servers.")
@click.argument("place", metavar="[HOST:]PORT", callback=_read(place_to_listen))
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True, callback=_all_balanced)
@click.option(
    "--balance",
    type=click.Choice(["round-robin", "least"]),
    default="round-robin",
    show_default=True,
    help="Each target in turn, or the one with the fewest connections.",
)
@click.option(
    "--connect-timeout",
    metavar="SECONDS",
    type=float,
    default=5.0,
    show_default=True,
    callback=_seconds,
    help="For each target; then the next one is tried.",
)
@click.option(
    "--check",
    metavar="SECONDS",
    type=float,
    callback=_seconds,
    help="Ask each target so often for its health.",
)
@click.option(
    "--max-connections",
    metavar="N",
    type=click.IntRange(1),
    show_default="half of the descriptors (ulimit -n)",
    help="Clients at once; others wait in the kernel's queue.",
)
@click.option(
    "--idle",
    metavar="SECONDS",
    type=float,
    callback=_seconds,
    help="Close a connection on which nothing passes for so long, half-closed ones too.",
)
@_drain
@click.option("--trace", is_flag=True, help="Tell every step of every connection on stderr.")
def proxy(
    place: Place,
    targets: list[Place],
    balance: str,
    connect_timeout: float,
    check: float | None,
    max_connections: int | None,
    idle: float | None,
    drain: float,
    trace: bool,
) -> None:
    """Listen on [HOST:]PORT, and carry each connection on to one of the TARGETs, each HOST:PORT.

    A TARGET that cannot be connected to is down, and the next one is tried; no client notices. It comes back when
    it answers: to a check, or without --check to one connection in ten seconds that tries it. A client for whom no
    TARGET answers is reset.

    SIGTERM and Ctrl-C drain: nothing is accepted any more, and what is connected may end; a second one ends it all.
    The exit status is 0 then, and 1 if the port cannot be had.
    """
    from ropewalk.cli.proxy import POLICIES, Settings
    from ropewalk.cli.proxy import proxy as run

    settings = Settings(POLICIES[balance], connect_timeout, check, max_connections, idle, drain, trace)
    outcome = run(place, targets, settings)
    _leave(outcome.status, outcome.message)


@ropewalk.command(short_help="State tables and recorded timelines, as text or Mermaid.")
@click.argument("subject", required=False)
@click.option("--format", "form", type=click.Choice(["text", "mermaid"]), default="text", show_default=True)
@click.option(
    "--timeline",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Show the timeline in FILE instead, written by: ropewalk connect --trace-format json.",
    metavar="FILE",
)
def explain(subject: str | None, form: str, timeline: Path | None) -> None:
    """Show how the engine's objects go from state to state, as text or as Mermaid diagrams.

    SUBJECT is one of them, all of them if left away: see the titles of what is shown.
    """
    from ropewalk.cli.tables import machines, subjects

    if timeline is not None:
        click.echo(_timeline(timeline, form))
        return
    if subject is not None and subject not in subjects:
        raise click.BadParameter(
            f"{subject!r} has no state table; these have: {', '.join(subjects)}", param_hint="SUBJECT"
        )
    chosen = [subject] if subject is not None else list(subjects)
    click.echo("\n\n".join(machine.drawn(form) for each in chosen for machine in machines(each)))


def _timeline(path: Path, form: str) -> str:
    from ropewalk.observe import Timeline

    text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8", errors="replace")
    try:
        timeline = Timeline.fromJSON(text)
    except ValueError as exc:
        raise click.BadParameter(f"{path}: {exc}", param_hint="--timeline") from exc
    return timeline.mermaid() if form == "mermaid" else timeline.text()


@ropewalk.command(short_help="A file's simulated tests, under many seeds.")
@click.argument(
    "path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
)
@click.option(
    "--seeds", metavar="N", type=click.IntRange(1), help="0 to N - 1 for each test; else what each says."
)
@click.option("--seed", metavar="SEED", help="Just this one, a number or a text.")
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1),
    default=lambda: os.cpu_count() or 1,
    show_default="one for each processor",
    help="Processes at once.",
)
@click.option("--only", metavar="NAME", help="Just this test.")
def simulate(path: Path, seeds: int | None, seed: str | None, jobs: int, only: str | None) -> None:
    """Run the functions of FILE that are decorated with ropewalk.testing.simulate, each in many simulated worlds.

    Of the seeds that fail, the shortest is told in full: the misfortunes, what every connection did, the error.
    The exit status is 0 if no seed failed, 1 if one did.
    """
    from ropewalk.cli.simulate import simulate as run
    from ropewalk.testing.seeds import seed_of

    if seed is not None and seeds is not None:
        raise click.UsageError("--seed and --seeds exclude each other")
    outcome = run(path, seeds, None if seed is None else seed_of(seed), jobs, only)
    _leave(outcome.status, outcome.message)


@ropewalk.command(short_help="A service, until SIGTERM, which drains it.")
@click.argument("target", metavar="MODULE:SERVICE", callback=_read(_service))
@_drain
def run(target: "Target", drain: float) -> None:
    """Run the service that MODULE calls SERVICE; or what the function of that name returns, given the reactor.

    MODULE is looked for in the current directory first. SIGTERM or Ctrl-C drains: nobody new is accepted, who is
    connected may finish, then the service is stopped. A second signal stops at once. The exit status is 0 if it
    was drained and stopped, 1 if not, or if it could not be started.
    """
    from ropewalk.cli.run import run as run_service

    outcome = run_service(target, drain)
    _leave(outcome.status, outcome.message)


@ropewalk.command(short_help="Three connections, shown as they happen and explained.")
def demo() -> None:
    """See a connection made, one refused and one that nobody answers, each explained step by step."""
    from ropewalk.cli.demo import run

    _leave(run())
