"""The simulated poller: epoll's answers, in virtual time.

Level-triggered; a mask is what is asked for, ERR and HUP come unasked; a descriptor with mask 0 stays registered for
those two. It looks only at descriptors that something happened to, or that were ready when last looked at.

Waiting is what makes virtual time move: `poll` with a timeout lets the world go on, the turns of other hosts included,
until one of its descriptors is ready or the timeout is over. With no timeout and nothing left that could happen it raises
instead of hanging.

The order of rows is drawn from the world's seed, but what was passed over by the limit comes first, as the contract asks.
Sources: `_loop/poller.py` for the contract; epoll(7), epoll_ctl(2).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

from ropewalk._loop.poller import fair_share
from ropewalk.simulation.endpoint import ERR, HUP
from ropewalk.simulation.faults import kernel_error
from ropewalk.simulation.watching import Watched

if TYPE_CHECKING:
    from ropewalk.simulation.host import Host

# Reports of one descriptor in a row on which nothing is done, before it is called a spin. Source: FAULTS J7.
_TOO_OFTEN = 4


class Pollable(Protocol):
    """A file whose readiness can be asked for."""

    watched: Watched

    def readiness(self) -> int: ...


class SimulatedPoller:
    """One epoll of a simulated host."""

    __slots__ = (
        "_fd",
        "_files",
        "_heard",
        "_host",
        "_masks",
        "_passed_over",
        "name",
        "notices_reset_at_mask_zero",
    )

    def __init__(self, host: Host) -> None:
        self._host = host
        self.name = "simulated"
        self.notices_reset_at_mask_zero = True
        self._masks: dict[int, int] = {}
        self._files: dict[int, Pollable] = {}
        # A dict, because a set's order would differ from process to process.
        self._heard: dict[int, None] = {}
        self._passed_over: dict[int, None] = {}
        self._fd = host.descriptors.add(self)
        host.pollers.append(self)

    def register(self, fd: int, mask: int, /) -> None:
        host = self._host
        host.faults.enter("register")
        file = host.descriptors.files.get(fd)
        if file is None or self._fd < 0:
            raise kernel_error(errno.EBADF)
        if fd == self._fd:
            raise kernel_error(errno.EINVAL)
        if not isinstance(getattr(file, "watched", None), Watched):
            raise kernel_error(errno.EPERM)
        if fd not in self._masks:
            self._files[fd] = file  # type: ignore[assignment]  # Safe because: it has a Watched
            self._files[fd].watched.join(self)
        self._masks[fd] = mask
        self._heard[fd] = None
        self._files[fd].watched.unanswered = 0
        host.world.record(host.number, "register", fd, mask)

    def modify(self, fd: int, mask: int, /) -> None:
        host = self._host
        host.faults.enter("modify")
        if fd not in self._masks:
            raise kernel_error(errno.ENOENT if fd in host.descriptors.files else errno.EBADF)
        self._masks[fd] = mask
        self._heard[fd] = None
        self._files[fd].watched.unanswered = 0
        host.world.record(host.number, "modify", fd, mask)

    def unregister(self, fd: int, /) -> None:
        if self._masks.pop(fd, None) is not None:
            self._files.pop(fd).watched.part(self)
            self._heard.pop(fd, None)
            self._passed_over.pop(fd, None)
            self._host.world.record(self._host.number, "unregister", fd)

    def poll(self, timeout: float | None, limit: int, /) -> list[tuple[int, int]]:
        if self._fd < 0:
            raise ValueError("I/O operation on closed poller")
        host = self._host
        if timeout != 0 or not host.is_in_turn:
            host.wait(self, timeout)
        return self._take(limit)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            for each in list(self._masks):
                self.unregister(each)
            self._host.descriptors.remove(fd)
            self._host.pollers.remove(self)

    def vanish(self) -> None:
        self._fd = -1
        for each in (self._masks, self._files, self._heard, self._passed_over):
            each.clear()

    def describe(self) -> str:
        return "poller"

    # ---- for files and hosts ----------------------------------------------------------------------------------

    def heard_of(self, fd: int, /) -> None:
        self._heard[fd] = None

    def lost(self, fd: int, /) -> None:
        """The kernel forgets a registration whose file is closed."""
        self._masks.pop(fd, None)
        self._files.pop(fd, None)
        self._heard.pop(fd, None)
        self._passed_over.pop(fd, None)

    def is_ready(self) -> bool:
        """Whether `poll` would give a row now."""
        # hot: asked of every host at every step.
        heard = self._heard
        while heard:
            fd = next(iter(heard))
            if self._files[fd].readiness() & (self._masks[fd] | ERR | HUP):
                return True
            del heard[fd]
        return False

    def registrations(self) -> dict[int, int]:
        """Descriptor to mask, for the ledger."""
        return dict(self._masks)

    def _take(self, limit: int) -> list[tuple[int, int]]:
        rows = []
        heard, masks, files = self._heard, self._masks, self._files
        for fd in list(heard):
            bits = files[fd].readiness() & (masks[fd] | ERR | HUP)
            if bits:
                rows.append((fd, bits))
            else:
                del heard[fd]
        if len(rows) > 1:
            self._host.world.random.shuffle(rows)
            if len(rows) > limit or self._passed_over:
                rows = fair_share(rows, limit, self._passed_over)
        if rows:
            self._host.world.record(self._host.number, "ready", *rows)
            for fd, bits in rows:
                watched = files[fd].watched
                watched.unanswered += 1
                if watched.unanswered == _TOO_OFTEN:
                    what = self._host.descriptors.files[fd].describe()
                    self._host.misdeeds.append(
                        f"{what}, {fd}: {bits} reported {_TOO_OFTEN} times, nothing done"
                    )
        return rows
