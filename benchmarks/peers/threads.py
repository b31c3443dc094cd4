"""Calls from other threads: two threads hand TOTAL calls to the loop, as fast as they can.

Measured from the moment the threads start until the last call has run in the loop's thread; the order within
each thread is checked.

Usage: threads.py ENGINE TOTAL        prints {"seconds": …, "cpu": …, "count": …}
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from engines import CALLBACK_ENGINES, callback_engine, loop_engine

THREADS = 2


def measure(
    total: int, call_from_thread: Callable[..., Any], stop: Callable[[], object]
) -> Callable[[], None]:
    """What both families do, in terms of the function that hands over a call."""
    each = total // THREADS
    arrived = [0] * THREADS
    started = (0.0, 0.0)

    def begin() -> None:
        nonlocal started
        started = (time.perf_counter(), time.process_time())
        for number in range(THREADS):
            threading.Thread(target=ask, args=(number,), daemon=True).start()

    def ask(number: int) -> None:
        for serial in range(1, each + 1):
            call_from_thread(arrive, number, serial)

    def arrive(number: int, serial: int) -> None:
        if serial != arrived[number] + 1:
            raise RuntimeError("out of order")
        arrived[number] = serial
        if serial == each and min(arrived) == each:
            seconds, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
            print(json.dumps({"seconds": seconds, "cpu": cpu, "count": total}), flush=True)
            stop()

    return begin


def main_callback(name: str, total: int) -> None:
    reactor = callback_engine(name).reactor
    reactor.callLater(0.05, measure(total, reactor.callFromThread, reactor.stop))
    reactor.run()


def main_loop(name: str, total: int) -> None:
    loop = loop_engine(name)
    loop.call_later(0.05, measure(total, loop.call_soon_threadsafe, loop.stop))
    loop.run_forever()


if __name__ == "__main__":
    start = main_callback if sys.argv[1] in CALLBACK_ENGINES else main_loop
    start(sys.argv[1], int(sys.argv[2]))
