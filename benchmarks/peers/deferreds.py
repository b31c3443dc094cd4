"""Deferreds without a reactor: what a chain, a generator and a coroutine cost.

callbacks      one Deferred, ten callbacks added, then fired
inline         one call of an inlineCallbacks function that yields ten Deferreds, each fired once it is waited for
inline-fired   the same with ten Deferreds that have their results already
await          one coroutine that awaits ten Deferreds, each fired once it is waited for
await-fired    the same with ten Deferreds that have their results already

Nothing is waited for but the next line of this program, so that what is measured is the engine's own work.

Usage: deferreds.py ENGINE WORK TOTAL        prints {"seconds": …, "cpu": …, "count": …}
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from engines import SOURCE

STEPS = 10


def module_of(name: str) -> Any:
    if name == "ropewalk":
        sys.path.insert(0, str(SOURCE))
        return importlib.import_module("ropewalk.defer")
    return importlib.import_module("twisted.internet.defer")


def add_one(value: int) -> int:
    return value + 1


def callbacks(defer: Any) -> Callable[[], object]:
    Deferred = defer.Deferred

    def work() -> object:
        deferred = Deferred()
        for _ in range(STEPS):
            deferred.addCallback(add_one)
        deferred.callback(0)
        return deferred.result

    return work


def fired_when_waited_for(defer: Any, start: Callable[[list[Any]], Any]) -> Callable[[], object]:
    Deferred = defer.Deferred

    def work() -> object:
        waited = [Deferred() for _ in range(STEPS)]
        deferred = start(waited)
        for each in waited:
            each.callback(1)
        return deferred.result

    return work


def fired_before(defer: Any, start: Callable[[list[Any]], Any]) -> Callable[[], object]:
    succeed = defer.succeed

    def work() -> object:
        return start([succeed(1) for _ in range(STEPS)]).result

    return work


def generator(defer: Any) -> Callable[[list[Any]], Any]:
    @defer.inlineCallbacks  # type: ignore[untyped-decorator]
    def total(waited: list[Any]) -> Any:
        found = 0
        for each in waited:
            found += yield each
        return found

    return total


def coroutine(defer: Any) -> Callable[[list[Any]], Any]:
    async def total(waited: list[Any]) -> int:
        found = 0
        for each in waited:
            found += await each
        return found

    from_coroutine = defer.Deferred.fromCoroutine
    return lambda waited: from_coroutine(total(waited))


def work_of(defer: Any, name: str) -> Callable[[], object]:
    if name == "callbacks":
        return callbacks(defer)
    start = generator(defer) if name.startswith("inline") else coroutine(defer)
    fired = fired_before if name.endswith("-fired") else fired_when_waited_for
    return fired(defer, start)


def main(engine: str, name: str, total: int) -> None:
    work = work_of(module_of(engine), name)
    for _ in range(max(1, total // 20)):
        if work() != STEPS:
            raise RuntimeError(f"{name}: the result is wrong")
    gc.collect()
    started = time.perf_counter(), time.process_time()
    for _ in range(total):
        work()
    seconds, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    print(json.dumps({"seconds": seconds, "cpu": cpu, "count": total}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
