"""The ledger: everything a simulated host has open, and what of it should not be there any more.

A reactor at rest holds its poller and its waker, and nothing else. What goes beyond is a leak: `leftovers` names each with
its number, so that "nothing is left" is a check and not a hope (FAULTS J10). Connections in TIME_WAIT are the kernel's own
and nobody's leak; what was done against the kernel's rules (a descriptor closed while it was registered, FAULTS B8, B9;
one that is reported again and again and never asked, J7) is a leftover too, whether it did harm or not.

It must never change anything; it only reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ropewalk.simulation.pair import PairEnd
from ropewalk.simulation.simulated_poller import SimulatedPoller

if TYPE_CHECKING:
    from ropewalk.simulation.host import Host


@dataclass(frozen=True, slots=True)
class Ledger:
    """What one host has open at one time.

    Args:   host: its name.
            descriptors: number to description.
            registrations: number to mask, over all pollers.
            connections: each end that the kernel knows, orphans and TIME_WAIT included.
            timers: the delayed calls of its reactor.
            misdeeds: what was done against the kernel's rules so far.
            own: the numbers that belong to the reactor itself.
    """

    host: str
    descriptors: dict[int, str]
    registrations: dict[int, int]
    connections: list[str]
    timers: list[str]
    misdeeds: list[str]
    own: frozenset[int]

    def leftovers(self) -> list[str]:
        """What a reactor at rest would not have, a line each."""
        found = [f"{self.host}: {fd}: {what}" for fd, what in self.descriptors.items() if fd not in self.own]
        found += [
            f"{self.host}: {fd}: registered for {mask} though not open"
            for fd, mask in self.registrations.items()
            if fd not in self.descriptors
        ]
        found += [f"{self.host}: timer: {timer}" for timer in self.timers]
        found += [f"{self.host}: misdeed: {misdeed}" for misdeed in self.misdeeds]
        return found

    def __str__(self) -> str:
        lines = [f"{self.host}: {len(self.descriptors)} descriptors, {len(self.timers)} timers"]
        for fd, what in self.descriptors.items():
            mask = self.registrations.get(fd)
            lines.append(f"  {fd:4} {what}" + ("" if mask is None else f", watched for {mask}"))
        lines += [f"       connection {connection}" for connection in self.connections]
        lines += [f"       timer {timer}" for timer in self.timers]
        return "\n".join(lines)


def read(host: Host) -> Ledger:
    """The ledger of a host as it is now."""
    files = host.descriptors.files
    registrations: dict[int, int] = {}
    for poller in host.pollers:
        registrations.update(poller.registrations())
    return Ledger(
        host.name,
        {fd: files[fd].describe() for fd in sorted(files)},
        dict(sorted(registrations.items())),
        [repr(each)[10:-1] for each in host.stack.connections()],
        [repr(call) for call in host.delayed_calls()],
        list(host.misdeeds),
        frozenset(fd for fd, file in files.items() if isinstance(file, (PairEnd, SimulatedPoller))),
    )
