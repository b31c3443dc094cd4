"""Signals for a command that ends in order: SIGTERM and Ctrl-C, told to it on the reactor's thread.

The reactor's own handlers stop it at once and do not say which it was; a command that drains first, that takes a second signal
for something else, or whose exit status tells the signal, puts these in their place. It must never know what a signal means.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["told_by_signals"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def told_by_signals(reactor: Any, asked: Callable[[int], object]) -> Iterator[None]:
    """Within the block, `asked` is called on the reactor's thread with each signal's number; the handlers before are put back."""

    def handle(number: int, frame: object) -> None:
        reactor.callFromThread(asked, number)

    # Why not those that are ignored: a shell's background jobs are not meant by its Ctrl-C.
    numbers = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
