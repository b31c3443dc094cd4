"""What a type checker must conclude about Deferreds; mypy reads this file, nothing runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ropewalk.defer import Deferred, ensureDeferred, execute, fail, maybeDeferred, succeed
from ropewalk.failure import Failure

if TYPE_CHECKING:
    from typing import assert_type

    from ropewalk import Reactor


def length(text: str) -> int:
    return len(text)


def spread(text: str, times: int, *, glue: str = "") -> list[str]:
    return [glue.join([text]) for _ in range(times)]


def later(number: int) -> Deferred[float]:
    return succeed(number / 2)


def perhaps(number: int) -> float | Failure:
    return 0.5 if number else Failure(ValueError())


def either(number: int) -> Deferred[float] | float:
    return later(number) if number else 0.5


def forgive(failure: Failure) -> bytes:
    return failure.getErrorMessage().encode()


def forgive_later(failure: Failure) -> Deferred[bytes]:
    return succeed(forgive(failure))


def forgive_some(failure: Failure) -> bytes | Failure:
    return forgive(failure) if failure.check(ValueError) else failure


def pass_on(failure: Failure) -> Failure:
    failure.trap(ValueError)
    return failure


def settle(result: str | Failure) -> bool:
    return isinstance(result, str)


async def fetch(number: int) -> str:
    return str(await later(number))


def values() -> None:
    assert_type(succeed(1), Deferred[int])
    assert_type(fail(ValueError()), Deferred[Any])
    waiting: Deferred[str] = Deferred()
    waiting.callback("now")
    waiting.callback(Failure(ValueError()))
    waiting.callback(1)  # type: ignore[arg-type]
    waiting.errback(ValueError())
    waiting.errback("no")  # type: ignore[arg-type]


def callbacks(text: Deferred[str]) -> None:
    assert_type(text.addCallback(length), Deferred[int])
    assert_type(text.addCallback(length).addCallback(later), Deferred[float])
    assert_type(text.addCallback(length).addCallback(perhaps), Deferred[float])
    assert_type(text.addCallback(spread, 2, glue="-"), Deferred[list[str]])
    assert_type(text.addCallback(lambda given: len(given)), Deferred[int])
    assert_type(text.addCallback(print), Deferred[None])
    assert_type(text.addCallback(length).addCallback(either), Deferred[float])
    text.addCallback(spread, "2")  # type: ignore[call-overload]
    text.addCallback(later)  # type: ignore[call-overload]


def errbacks(text: Deferred[str]) -> None:
    assert_type(text.addErrback(forgive), Deferred[str | bytes])
    assert_type(text.addErrback(forgive_later), Deferred[str | bytes])
    assert_type(text.addErrback(pass_on), Deferred[str])
    assert_type(text.addErrback(forgive_some), Deferred[str | bytes])
    assert_type(text.addBoth(settle), Deferred[bool])
    assert_type(text.addCallbacks(length), Deferred[int])
    assert_type(text.addCallbacks(length, lambda failure: 0), Deferred[int])


def timeouts(text: Deferred[str], reactor: Reactor) -> None:
    assert_type(text.addTimeout(3.0, reactor), Deferred[str])


def makers() -> None:
    assert_type(execute(length, "four"), Deferred[int])
    assert_type(maybeDeferred(length, "four"), Deferred[int])
    assert_type(maybeDeferred(later, 4), Deferred[float])
    assert_type(maybeDeferred(fetch, 4), Deferred[str])
    assert_type(ensureDeferred(fetch(4)), Deferred[str])
    assert_type(Deferred.fromCoroutine(fetch(4)), Deferred[str])


async def awaiting(text: Deferred[str]) -> None:
    assert_type(await text, str)
    assert_type(await text.addCallback(length), int)
