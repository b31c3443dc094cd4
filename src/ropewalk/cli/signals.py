"""Signals for a command that ends in order: SIGTERM and Ctrl-C, told to it on the reactor's thread.

The reactor's own handlers stop it at once; a command that drains first, and that takes a second signal for something else,
puts these in their place. It must never know what a signal means.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["told_by_signals"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def told_by_signals(reactor: Any, asked: Callable[[], None]) -> Iterator[None]:
    """Within the block, `asked` is called on the reactor's thread for each signal; the handlers before are put back."""

    def handle(number: int, frame: object) -> None:
        reactor.callFromThread(asked)

    # Why not those that are ignored: a shell's background jobs are not meant by its Ctrl-C.
    numbers = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
