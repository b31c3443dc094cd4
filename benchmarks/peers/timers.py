"""Timers: set and cancelled, as time-outs are; and a chain of "as soon as possible".

set     TOTAL × callLater(60) and cancel at once, 1000 of them in each turn of the loop, so that whatever an
        engine does later about cancelled timers is paid for within the measured time
chain   TOTAL × callLater(0), each made by the one before; the counterpart is call_later(0), not call_soon

Usage: timers.py ENGINE set|chain TOTAL        prints {"seconds": …, "cpu": …, "count": …}
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from engines import CALLBACK_ENGINES, callback_engine, loop_engine

PER_TURN = 1000


def measure(
    mode: str, total: int, call_later: Callable[..., Any], stop: Callable[[], object]
) -> Callable[[], None]:
    """What both families do, in terms of a function that sets a timer."""
    left = total
    started = (0.0, 0.0)

    def begin() -> None:
        nonlocal started
        started = (time.perf_counter(), time.process_time())
        (set_and_cancel if mode == "set" else link)()

    def set_and_cancel() -> None:
        nonlocal left
        for _ in range(PER_TURN):
            call_later(60.0, stop).cancel()
        left -= PER_TURN
        call_later(0, set_and_cancel if left > 0 else end)

    def link() -> None:
        nonlocal left
        left -= 1
        call_later(0, link if left > 0 else end)

    def end() -> None:
        seconds, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
        print(json.dumps({"seconds": seconds, "cpu": cpu, "count": total}), flush=True)
        stop()

    return begin


def main_callback(name: str, mode: str, total: int) -> None:
    reactor = callback_engine(name).reactor
    reactor.callLater(0.05, measure(mode, total, reactor.callLater, reactor.stop))
    reactor.run()


def main_loop(name: str, mode: str, total: int) -> None:
    loop = loop_engine(name)
    loop.call_later(0.05, measure(mode, total, loop.call_later, loop.stop))
    loop.run_forever()


if __name__ == "__main__":
    start = main_callback if sys.argv[1] in CALLBACK_ENGINES else main_loop
    start(sys.argv[1], sys.argv[2], int(sys.argv[3]))
