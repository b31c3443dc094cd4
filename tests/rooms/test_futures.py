"""asFuture and fromFuture: a Deferred's result in asyncio, and the other way round."""

from __future__ import annotations

import asyncio

import pytest

from ropewalk.defer import CancelledError, Deferred, ensureDeferred, fail, succeed

pytestmark = pytest.mark.usefixtures("nothing_unhandled")


def in_asyncio(main):
    """Run it with asyncio's loop; what the loop has to complain about fails the test."""

    async def run():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        result = await main(asyncio.get_running_loop())
        assert complaints == []
        return result

    return asyncio.run(run())


def test_a_value_and_an_error_come_out_of_the_future():
    async def main(loop):
        later = Deferred()
        futures = [succeed(1).asFuture(loop), fail(KeyError(2)).asFuture(loop), later.asFuture(loop)]
        later.callback(3)
        return await asyncio.gather(*futures, return_exceptions=True)

    first, second, third = in_asyncio(main)
    assert (first, type(second), second.args, third) == (1, KeyError, (2,), 3)


def test_a_deferred_that_became_a_future_goes_on_with_none():
    async def main(loop):
        value, error = succeed(1), fail(KeyError())
        await asyncio.gather(value.asFuture(loop), error.asFuture(loop), return_exceptions=True)
        return value.result, error.result

    assert in_asyncio(main) == (None, None)


def test_cancelling_the_future_cancels_the_deferred():
    called = []

    async def main(loop):
        deferred = Deferred(called.append)
        future = deferred.asFuture(loop)
        future.cancel()
        await asyncio.sleep(0)
        return deferred, future

    deferred, future = in_asyncio(main)
    assert called == [deferred]
    assert future.cancelled()
    assert deferred.result is None


def test_cancelling_the_deferred_fails_the_future_with_its_error():
    async def main(loop):
        deferred = Deferred()
        future = deferred.asFuture(loop)
        deferred.cancel()
        return await asyncio.gather(future, return_exceptions=True)

    assert isinstance(in_asyncio(main)[0], CancelledError)


def test_a_future_that_somebody_else_has_ended_is_left_alone():
    async def main(loop):
        value, error = Deferred(), Deferred()
        futures = [value.asFuture(loop), error.asFuture(loop)]
        for future in futures:
            future.set_result("mine")
        value.callback("late")
        error.errback(KeyError())
        return [future.result() for future in futures]

    assert in_asyncio(main) == ["mine", "mine"]


def test_an_error_that_no_future_takes_ends_it_all_the_same():
    async def main(loop):
        return await asyncio.gather(fail(StopIteration(1)).asFuture(loop), return_exceptions=True)

    (error,) = in_asyncio(main)
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, StopIteration)


def test_the_result_of_a_future_fires_the_deferred():
    async def main(loop):
        value, error = loop.create_future(), loop.create_future()
        deferreds = [
            Deferred.fromFuture(value),
            Deferred.fromFuture(error).addErrback(lambda f: f.value.args),
        ]
        value.set_result(1)
        error.set_exception(KeyError(2))
        assert not deferreds[0].called
        await asyncio.sleep(0)
        return [each.result for each in deferreds]

    assert in_asyncio(main) == [1, (2,)]


def test_cancelling_the_deferred_cancels_the_future_and_its_end_is_waited_for():
    async def main(loop):
        async def slow():
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0)
                cleaned.append("up")

        cleaned: list[str] = []
        future = loop.create_task(slow())
        await asyncio.sleep(0)
        deferred = Deferred.fromFuture(future).addErrback(lambda f: f.type)
        deferred.cancel()
        assert not cleaned
        await asyncio.gather(future, return_exceptions=True)
        await asyncio.sleep(0)
        return cleaned, deferred.result

    assert in_asyncio(main) == (["up"], asyncio.CancelledError)


def test_a_task_that_survives_its_cancellation_gives_its_value():
    async def main(loop):
        async def stubborn():
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return "survived"

        future = loop.create_task(stubborn())
        await asyncio.sleep(0)
        deferred = Deferred.fromFuture(future)
        deferred.cancel()
        await future
        await asyncio.sleep(0)
        return deferred.result

    assert in_asyncio(main) == "survived"


def test_there_and_back_again_keeps_value_and_cancellation():
    async def main(loop):
        inner = Deferred()
        there = Deferred.fromFuture(inner.asFuture(loop))

        async def awaits():
            return await there

        ended = ensureDeferred(awaits())
        inner.callback("through")
        await asyncio.sleep(0)
        return ended.result

    assert in_asyncio(main) == "through"


def test_a_deferred_of_a_future_counts_as_made_where_it_was_asked_for():
    async def main(loop):
        return str(Deferred.fromFuture(loop.create_future())._birth())

    assert __file__ in in_asyncio(main)
