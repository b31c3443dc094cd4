"""Where the demo's rows appear: a live table on a terminal, plain lines anywhere else.

Why slowed down: a connection on loopback is over in the time of one frame. On a terminal each row is shown a
moment after the one before, with the time at which it really happened beside it; what happens is not slowed,
only the showing. Without a terminal nobody watches, so nothing waits.

The stage never calls back while a row is added: `finish` says what is to be called when all of them are shown.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ropewalk import Reactor

__all__ = ["Row", "Stage"]

PACE = 0.07  # seconds between two pictures on a terminal
PICTURES_PER_ROW = 2  # slow enough to read along, fast enough for three scenes in ten seconds
WIDE = 100  # columns from which on there is room to tell where in the source a step is made


class Row(NamedTuple):
    """One line of a scene."""

    time: str
    label: str
    style: str
    said: str
    room: str


class Stage:
    """Shows one scene after another.

    Args:   reactor: whose timers pace the rows.
            console: where to.
    """

    def __init__(self, reactor: Reactor, console: Console) -> None:
        self.reactor = reactor
        self.console = console
        self.is_live = console.is_terminal
        self.rows: list[Row] = []
        self.waiting: deque[Row] = deque()
        self.pictures = 0
        self.began = 0.0
        self.live: Live | None = None
        self.finished: Callable[[], object] | None = None

    def begin(self, title: str, lines: str) -> None:
        """Open a scene: its title, and in a few words what will be seen."""
        self.rows = []
        self.pictures = 0
        self.began = self.reactor.seconds()
        self.say(Text())
        self.say(Text(title, "bold"))
        self.say(Text(lines, "dim"))
        if self.is_live:
            self.live = Live(self._table([]), console=self.console, auto_refresh=False)
            self.live.start(refresh=True)
            self.reactor.callLater(PACE, self._tick)

    def add(self, row: Row) -> None:
        """Show the row when its turn comes."""
        if self.is_live:
            self.waiting.append(row)
        else:
            self.console.print(Text(f"{row.time:>9}  {row.label:<16}  {row.said}".rstrip()), soft_wrap=True)

    def finish(self, then: Callable[[], object]) -> None:
        """Close the scene when every row was shown, and then call `then`, never at once."""
        if self.is_live:
            self.finished = then
        else:
            self.reactor.callLater(0, then)

    def say(self, text: Text) -> None:
        """A line outside of any table, in between scenes."""
        self.console.print(text, soft_wrap=not self.is_live)

    def _tick(self) -> None:
        assert self.live is not None
        self.pictures += 1
        if self.waiting:
            if self.pictures % PICTURES_PER_ROW == 0:
                self.rows.append(self.waiting.popleft())
        elif self.finished is not None:
            self.live.update(self._table(self.rows))
            self.live.stop()
            then, self.finished, self.live = self.finished, None, None
            self.reactor.callLater(0, then)
            return
        self.live.update(Group(self._newest(), self._clock()), refresh=True)
        self.reactor.callLater(PACE, self._tick)

    def _clock(self) -> Text:
        """What moves while nothing happens, so that a deadline is seen running down."""
        wheel = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"[self.pictures % 10]
        return Text(f" {wheel} {self.reactor.seconds() - self.began:.1f} s", "dim")

    def _newest(self) -> Table:
        """As many of the last rows as there is room for. Why: a live picture taller than the screen can't be redrawn."""
        for first in range(len(self.rows)):
            table = self._table(self.rows[first:])
            if len(self.console.render_lines(table)) < self.console.height - 1:
                return table
        return self._table(self.rows[-1:])

    def _table(self, rows: list[Row]) -> Table:
        is_wide = self.console.width >= WIDE
        table = Table(
            box=box.ROUNDED if is_wide else box.SIMPLE_HEAD,
            border_style="dim",
            header_style="dim",
            expand=True,
        )
        table.add_column("time", justify="right", width=9, style="dim")
        table.add_column("step", width=16)
        table.add_column("what happened", ratio=1, overflow="fold")
        if is_wide:
            table.add_column("made in", width=12, style="dim")
        for row in rows:
            cells = [Text(row.time), Text(row.label, row.style), Text(row.said)]
            table.add_row(*cells, *([Text(row.room)] if is_wide else []))
        return table
