"""`ropewalk explain`: the state tables of the engine and of what stays connected, drawn from the very tables that are stepped through.

Each subject is one kind of object; its machines are (title, table, initial state). A stream has two small
machines, one for each direction, and what they make together is drawn as a machine of its own, so that
half-close can be seen: every pair of states is a state, and every event of either side an arrow.

Why the tables are imported from the engine's inside: drawing a copy would be the one way to be wrong.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from ropewalk.observe.diagrams import mermaid, text

__all__ = ["Machine", "machines", "subjects"]


class Machine(NamedTuple):
    """One state table and where it begins."""

    title: str
    table: Mapping[tuple[Any, Any], Any]
    initial: StrEnum

    def drawn(self, form: str) -> str:
        """As "text" to read, or as "mermaid" source with its title."""
        if form == "mermaid":
            return f"---\ntitle: {self.title}\n---\n{mermaid(self.table, self.initial)}"
        return f"{self.title}\n" + "\n".join(
            f"  {line}" for line in text(self.table, self.initial).split("\n")
        )


def _connector() -> list[Machine]:
    from ropewalk._net.connector import CONNECTOR, ConnectorState

    return [
        Machine("A connector, from asking to ending and asking again", CONNECTOR, ConnectorState.DISCONNECTED)
    ]


def _dial() -> list[Machine]:
    from ropewalk._net.dial import DIAL, DialState

    return [Machine("A dial, from a name to a connected socket", DIAL, DialState.NEW)]


def _port() -> list[Machine]:
    from ropewalk._net.listen import PORT, PortState

    return [Machine("A port, listening and not", PORT, PortState.CLOSED)]


def _reactor() -> list[Machine]:
    from ropewalk._loop.life import LIFE, LifeState

    return [Machine("A reactor, from stopped to running and back", LIFE, LifeState.STOPPED)]


def _stream() -> list[Machine]:
    from ropewalk._net.sides import JOINT, LIFE, READ_SIDE, WRITE_SIDE, ReadSide, StreamState, WriteSide

    joint, both_open = _together(JOINT, READ_SIDE, WRITE_SIDE, (ReadSide.OPEN, WriteSide.OPEN))
    return [
        Machine("A stream, from connected to closed", LIFE, StreamState.CONNECTED),
        Machine("Its read side", READ_SIDE, ReadSide.OPEN),
        Machine("Its write side", WRITE_SIDE, WriteSide.OPEN),
        Machine("Both sides together, while the whole is connected", joint, both_open),
    ]


def _client_service() -> list[Machine]:
    from ropewalk.service import CLIENT, ClientState

    return [Machine("A client service, staying connected", CLIENT, ClientState.NEW)]


def _pooled() -> list[Machine]:
    from ropewalk.pool import POOLED, PooledState

    return [Machine("One connection of a pool", POOLED, PooledState.CONNECTING)]


def _together(
    names: Mapping[tuple[Any, Any], str],
    left: Mapping[tuple[Any, Any], Any],
    right: Mapping[tuple[Any, Any], Any],
    initial: tuple[StrEnum, StrEnum],
) -> tuple[dict[tuple[StrEnum, StrEnum], StrEnum], StrEnum]:
    """Two machines as one: its states are the pairs in `names`, its arrows those of either machine."""
    made = {f"PAIR_{index}": name for index, name in enumerate(names.values())}
    pairs = StrEnum("pairs", made)  # type: ignore[misc]  # Why: its members are data, mypy wants them written out.
    state = {pair: pairs(name) for pair, name in names.items()}
    arrows: dict[tuple[StrEnum, StrEnum], StrEnum] = {}
    for one, other in names:
        arrows |= {
            (state[one, other], event): state[after, other]
            for (before, event), after in left.items()
            if before is one
        }
        arrows |= {
            (state[one, other], event): state[one, after]
            for (before, event), after in right.items()
            if before is other
        }
    return arrows, state[initial]


_machines: dict[str, Callable[[], list[Machine]]] = {
    "connector": _connector,
    "dial": _dial,
    "stream": _stream,
    "port": _port,
    "reactor": _reactor,
    "service": _client_service,
    "pool": _pooled,
}
subjects = tuple(_machines)


def machines(subject: str) -> list[Machine]:
    """The machines of one subject, of `subjects`.

    Raises:   KeyError for any other.
    """
    return _machines[subject]()
