"""What a run says: as text in the terminal, as docs/benchmarks.md, and as a plot beside it.

Everything here is drawn from a summary (summary.py) and the targets; nothing is measured.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from summary import Summary, medians
from targets import OURS, TARGETS, Verdict, judge

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
NOTES = HERE / "notes.md"
NAMES = {
    "ropewalk": "Ropewalk",
    "uvloop": "uvloop",
    "twisted": "Twisted",
    "asyncio": "asyncio",
    "c": "C, epoll",
    "haproxy": "HAProxy",
}
# A load generator this busy, with a server that had time to spare, was itself what limited the rate.
GENERATOR_FULL, SERVER_SPARE = 0.97, 0.94
LIMITED = "†"
NOT_QUIET = 0.05

INTRODUCTION = """\
Side by side in one run: `make bench`. The server runs alone on one core, the load comes from another; the peers
take turns, in many short rounds; figures are medians, ratios the medians of what each round gave. What each row
does, and how fairness is kept, is in [benchmarks/README.md](../benchmarks/README.md)."""

Table = list[list[str]]
Column = tuple[str, str, Callable[[dict[str, list[float]]], str]]


def human(value: float, unit: str) -> str:
    """A figure as a person reads it: three digits that matter."""
    if unit == "B/s":
        return f"{value / (1 << 30):.2f} GiB/s"
    if unit == "s":
        return f"{value * 1000:.0f} ms" if value < 10 else f"{value:.1f} s"
    if unit == "B":
        return f"{value:.0f} B"
    if value >= 10_000:
        return f"{value / 1000:.1f} k {unit}" if value < 100_000 else f"{value / 1000:.0f} k {unit}"
    return f"{value:.0f} {unit}"


def duration(microseconds: float) -> str:
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    return f"{microseconds / 1000:.1f} ms" if microseconds < 100_000 else f"{microseconds / 1000:.0f} ms"


def verdicts(summary: Summary) -> list[Verdict]:
    """The targets that this run can say something about."""
    found = medians(summary)
    ratios = {key: case["ratios"] for key, case in summary["cases"].items()}
    return [judge(target, found, ratios) for target in TARGETS if target.case in found]


def case_table(case: dict[str, Any]) -> Table:
    """One case: a line for each peer, columns for what was measured."""
    peers = case["peers"]
    metric, unit = case["metric"], case["unit"]
    first: dict[str, list[float]] = next(iter(peers.values()), {})
    table = [["", "median", "lowest – highest", "Ropewalk is"]]
    columns: list[Column] = [
        ("cpu_us", f"CPU per {_each(unit)}", lambda f: f"{f['cpu_us'][0]:.2f} µs"),
        ("p50_us", "p50", lambda f: duration(f["p50_us"][0])),
        ("p99_us", "p99", lambda f: duration(f["p99_us"][0])),
        ("p999_us", "p99.9", lambda f: duration(f["p999_us"][0])),
        ("max_us", "slowest", lambda f: duration(f["max_us"][2])),
        ("faults", "page faults each", lambda f: f"{f['faults'][0]:.2f}"),
        ("least", "least – most per connection", lambda f: f"{f['least'][0]:.0f} – {f['most'][0]:.0f}"),
        ("idle_cpu", "CPU while idle", lambda f: f"{f['idle_cpu'][0]:.3f} s in {f['idle_seconds'][0]:.0f} s"),
    ]
    shown = [column for column in columns if column[0] in first]
    table[0] += [column[1] for column in shown]
    for peer, figures in peers.items():
        median, low, high = figures[metric]
        value = case["ratios"].get(peer, {}).get(metric)
        ratio = "" if value is None else f"{value:.2f} ×"
        mark = f" {LIMITED}" if _limited(figures) else ""
        line = [NAMES[peer], human(median, unit) + mark, f"{human(low, unit)} – {human(high, unit)}", ratio]
        table.append(line + [show(figures) for _, _, show in shown])
    return table


def disturbed(case: dict[str, Any]) -> str:
    """Says so if the samples of a case were taken while something else ran; empty if not."""
    share = max((figures["others"][0] for figures in case["peers"].values()), default=0.0)
    if share <= NOT_QUIET:
        return ""
    return f"Disturbed: others used up to {share:.0%} of the machine; rates mean little, CPU figures more."


def _each(unit: str) -> str:
    names = {"msg/s": "message", "B/s": "MiB", "conn/s": "connection", "s": "call", "calls/s": "call"}
    return names.get(unit, "request")


def _limited(figures: dict[str, list[float]]) -> bool:
    if "loader_busy" not in figures:
        return False
    return figures["loader_busy"][0] >= GENERATOR_FULL and figures["server_busy"][0] <= SERVER_SPARE


def verdict_table(summary: Summary) -> Table:
    table = [["work", "to reach", "measured", ""]]
    for verdict in verdicts(summary):
        target, value = verdict.target, verdict.value
        title = summary["cases"][target.case]["title"]
        if target.metric == "p999_us":
            title += ", p99.9"
        if target.metric == "idle_cpu":
            title += ", CPU"
        if value is None:
            measured = "–"
        elif target.peer:
            measured = f"{value:.2f} ×"
        else:
            measured = f"{value:.3f} {target.unit}" if target.unit == "s" else f"{value:.0f} {target.unit}"
        words = {True: "reached", False: "not reached", None: "not measured"}[verdict.reached]
        table.append([title, target.words(), measured, words])
    return table


def score(summary: Summary) -> str:
    found = verdicts(summary)
    judged = [verdict for verdict in found if verdict.reached is not None]
    return f"{sum(bool(verdict.reached) for verdict in judged)} of {len(judged)} targets reached"


# ---- terminal ----


def as_text(table: Table) -> str:
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = []
    for first, *others in table:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(["", first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


# ---- page ----


def as_markdown(table: Table) -> str:
    head, *body = table
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(line) + " |" for line in body])


def page(summary: Summary) -> str:
    """docs/benchmarks.md, whole."""
    facts = "\n".join(f"| {name} | {value} |" for name, value in summary["machine"].items())
    parts = [
        "# Benchmarks",
        "<!-- Written by benchmarks/run.py; change benchmarks/notes.md or the code, not this file. -->",
        INTRODUCTION,
        "![Medians of each case, one bar for each engine; longer is better where it does not say otherwise](benchmarks.svg)",
        f"## Targets: {score(summary)}",
        as_markdown(verdict_table(summary)),
    ]
    if NOTES.exists():
        parts.append(NOTES.read_text().strip())
    parts.append("## All figures")
    for case in summary["cases"].values():
        words = f"{case['rounds']} rounds. {disturbed(case)}".strip()
        parts += [f"### {case['title']}", words, as_markdown(case_table(case))]
    parts.append(f"{LIMITED} the load generator was at its limit, not the server: compare the CPU.")
    if left_out := summary["absent"] + summary["failed"]:
        parts += ["### Left out", "\n".join(f"* {line}" for line in left_out)]
    parts += ["## Measured on", "| | |\n|---|---|\n" + facts]
    return "\n\n".join(parts) + "\n"


# ---- plot ----


def can_plot() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def plot(summary: Summary, target: Path) -> None:
    """One panel for each case, one bar for each peer; ours in colour."""
    import matplotlib

    matplotlib.use("svg")
    # Why: text stays text, and the same figures give the same file, so that a diff of it means something.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "ropewalk", "font.size": 8})
    from matplotlib import pyplot

    cases = list(summary["cases"].values())
    columns = 3
    lines = -(-len(cases) // columns)
    figure, panels = pyplot.subplots(lines, columns, figsize=(4 * columns, 1.55 * lines), squeeze=False)
    for panel in panels.flat[len(cases) :]:
        panel.set_visible(False)
    for panel, case in zip(panels.flat, cases, strict=False):
        peers = list(case["peers"])
        values = [case["peers"][peer][case["metric"]] for peer in peers]
        middles = [value[0] for value in values]
        errors = [[value[0] - value[1] for value in values], [value[2] - value[0] for value in values]]
        colours = ["#c2571a" if peer == OURS else "#b8bec6" for peer in peers]
        panel.barh(range(len(peers)), middles, color=colours, xerr=errors, error_kw={"lw": 0.7})
        panel.set_yticks(range(len(peers)), [NAMES[peer] for peer in peers])
        panel.invert_yaxis()
        better = "" if case["higher_is_better"] else "  (less is better)"
        panel.set_title(case["title"] + better, fontsize=8, loc="left")
        panel.set_xticks([])
        most = max(value[2] for value in values)
        panel.set_xlim(0, most * 1.35)
        for place, value in enumerate(values):
            text = human(value[0], case["unit"])
            panel.text(value[2] + most * 0.02, place, text, va="center", fontsize=7, color="#333333")
        panel.spines[["top", "right", "bottom"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(target, format="svg", metadata={"Date": None, "Creator": "benchmarks/run.py"})
    pyplot.close(figure)


def publish(summary: Summary) -> list[str]:
    """Writes the page and the plot; returns what was written, by name."""
    DOCS.mkdir(exist_ok=True)
    (DOCS / "benchmarks.md").write_text(page(summary))
    written = ["docs/benchmarks.md"]
    if can_plot():
        plot(summary, DOCS / "benchmarks.svg")
        written.append("docs/benchmarks.svg")
    return written
