"""Steps in colour: what a terminal gets to see of lifecycle events, and plain lines where there is none.

rich decides by itself whether its stream is a terminal and whether colours are wanted (NO_COLOR). Everything
it is given here is a `Text`, never a string. Why: rich reads square brackets in strings as markup, and what a
peer sent, or an IPv6 address, must be shown and not obeyed.
"""

from rich.console import Console
from rich.text import Text

from ropewalk import Reactor
from ropewalk.event import Event, Step
from ropewalk.observe import Tracer

__all__ = ["style_of", "trace_to_stderr"]

_good, _bad, _held = "green", "bold red", "yellow"

_styles: dict[Step, str] = {
    Step.RESOLVE_FAILED: _bad,
    Step.ATTEMPT_FAILED: _bad,
    Step.FAILED: _bad,
    Step.CONNECTED: _good,
    Step.ACCEPTED: _good,
    Step.PROTOCOL_BUILT: _good,
    Step.FIRST_BYTE: _good,
    Step.LISTENING: _good,
    Step.PAUSED: _held,
    Step.BUFFER_FULL: _held,
    Step.ACCEPT_PAUSED: _held,
    Step.CLOSED: "bold",
}


def style_of(step: Step) -> str:
    """rich's name for how the step's label looks."""
    return _styles.get(step, "cyan")


def trace_to_stderr(reactor: Reactor) -> None:
    """Have every step told on stderr as it happens."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    tracer = Tracer(console.file.write)

    def show(event: Event) -> None:
        head, label, said = tracer.parts(event)
        console.print(Text.assemble((head, "dim"), (label, style_of(event.step)), said))

    # Why two: where there is no terminal, rich has nothing to add to a plain line.
    reactor.observers.append(show if console.is_terminal else tracer)
