"""A Claim: one thing that every transport must do, its name a sentence, and how to find out.

A claim's body is a function of a `Scene`, and of a case if it has several. It is played over a fresh pair for each case,
and once more with left and right changed over: for many transports the two ends are not the same code (who connects,
who was accepted). What the transport must be able to do for it is in `needs`.

It must never know how the claims are gathered or told; that is `transport_suite`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ropewalk.testing.transport_stage import NotHeld, Scene


class Claim(NamedTuple):
    """One claim.

    Args:   name: what holds, as a sentence.
            body: called with a Scene, and a case.
            needs: the abilities without which it says nothing.
            half_closers: who handles half-close in it: "one", "other", "one other" or nobody.
            cases: what the body is played with, each by itself; empty if there is but one.
    """

    name: str
    body: Callable[..., None]
    needs: tuple[str, ...] = ()
    half_closers: str = ""
    cases: tuple[Any, ...] = ()

    def check(self, make_pair: Any, bulk: int) -> None:
        """Raises: NotHeld telling what was seen, the first time that it does not hold."""
        for case in self.cases or (None,):
            for swapped in (False, True):
                scene = Scene(make_pair, swapped, bulk, self.half_closers)
                seen = scene.play(self.body, case) if self.cases else scene.play(self.body)
                if seen:
                    where = f"with {case!r:.60}: " if self.cases else ""
                    raise NotHeld(where + "\n".join(seen))


def claim(
    into: list[Claim], name: str, *needs: str, half_closers: str = "", cases: tuple[Any, ...] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the function below to a list of claims."""

    def add(body: Callable[..., None]) -> Callable[..., None]:
        into.append(Claim(name, body, needs, half_closers, cases))
        return body

    return add
