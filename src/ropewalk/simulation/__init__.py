"""A simulated world for the engine: hosts with a simulated kernel, in virtual time, with faults from a seed.

The engine that runs in it is the real one, unchanged: every host has a real `ropewalk.Reactor` whose system is simulated.

    from ropewalk.simulation import Simulation

Below `Simulation` (the front desk): `Host` (a machine), `Storm` (misfortunes drawn from the seed), `driver` (who gets a turn, when time jumps), `world` (clock, heap,
chance, trace). A host's kernel: `system` (the seam), `kernel_socket`, `simulated_poller`, `pair`, `descriptors`, `faults`,
`ledger`. Its network: `stack` (the switchboard), `ports`, `listening`, `handshake`, `endpoint` (one end of a connection),
`patience`, `names`; and between hosts `network`. UDP and UNIX sockets get files of their own beside `kernel_socket` when
the engine has such transports.
"""

from ropewalk.simulation.faults import FALLIBLE, Faults
from ropewalk.simulation.host import Host
from ropewalk.simulation.ledger import Ledger
from ropewalk.simulation.simulation import Simulation
from ropewalk.simulation.storm import KINDS, Storm
from ropewalk.simulation.system import SimulatedSystem
from ropewalk.simulation.world import SimulationDeadlock, SimulationError, SimulationSpin

__all__ = [
    "FALLIBLE",
    "KINDS",
    "Faults",
    "Host",
    "Ledger",
    "SimulatedSystem",
    "Simulation",
    "SimulationDeadlock",
    "SimulationError",
    "SimulationSpin",
    "Storm",
]
