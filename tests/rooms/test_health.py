"""Health checks: who does not answer well is out of turn, who does again is back, and a stop leaves nothing."""

from __future__ import annotations

from typing import Any

import pytest

from ropewalk import open
from ropewalk.defer import CancelledError, Deferred
from ropewalk.health import HealthChecks
from tests.rooms.proxied import PATIENCE, Scene


def test_a_target_is_out_of_turn_until_it_answers_again() -> None:
    scene = Scene("ab")
    scene.check(2)
    scene.go(1)
    assert scene.changes == []
    scene.close("a")
    scene.go(2)
    assert scene.changes == ["a down"]
    before = scene.served["b"]
    for _ in range(4):
        assert scene.answered().received == b"x"
    assert scene.served["b"] >= before + 4
    scene.open("a")
    scene.go(2)
    assert scene.changes == ["a down", "a up"]
    scene.leave()


def test_no_client_is_sent_to_a_target_that_the_checks_say_is_down() -> None:
    """However long: a mark lasts until after the next check."""
    scene = Scene("ab")
    scene.check(30)
    scene.vanish("a")
    scene.go(61)
    assert scene.changes == ["a down"]
    for _ in range(100):
        began = scene.sim.now
        client = scene.client(b"x")
        scene.sim.run(until=lambda client=client: bool(client.received))  # type: ignore[misc]
        assert scene.sim.now - began < 1
        client.transport.abortConnection()
        scene.go(1)
    scene.leave()


def test_a_check_that_takes_too_long_has_failed() -> None:
    scene = Scene("a")
    scene.vanish("a")
    scene.check(1)
    scene.go(1.01)
    assert scene.changes == ["a down"]
    assert str(scene.target("a").reason) == "no answer within 1 s"
    scene.leave()


def test_an_endpoint_that_gives_up_first_gives_its_own_reason() -> None:
    scene = Scene("a")
    scene.vanish("a")
    scene.check(10)
    scene.go(PATIENCE + 0.1)
    assert "its timeout: 3.0 s" in str(scene.target("a").reason)
    scene.leave()


def test_the_first_check_is_made_at_once_and_then_one_each_interval() -> None:
    scene = Scene("a")
    scene.check(2)
    counts = []
    for _ in range(3):
        scene.go(1)
        counts.append(scene.served["a"])
        scene.go(1)
    assert counts == [1, 2, 3]
    scene.leave()


def test_a_health_of_ones_own_speaks_with_the_target() -> None:
    answers: list[bytes] = []

    async def healthy(endpoint: Any) -> bool:
        async with await open(endpoint) as stream:
            await stream.write(b"well?")
            answers.append(await stream.readExactly(5))
        return len(answers) != 2

    scene = Scene("a")
    scene.check(2, health=healthy)
    scene.go(1)
    assert (answers, scene.changes) == ([b"well?"], [])
    scene.go(2)
    assert scene.changes == ["a down"]
    assert str(scene.target("a").reason) == "it answers, but says False"
    scene.go(2)
    assert scene.changes == ["a down", "a up"]
    scene.leave()


def test_what_health_raises_is_a_bad_answer() -> None:
    def broken(endpoint: Any) -> bool:
        raise ZeroDivisionError("by nothing")

    scene = Scene("a")
    scene.check(2, health=broken)
    assert scene.changes == ["a down"]
    assert repr(scene.target("a").reason) == "ZeroDivisionError('by nothing')"
    scene.leave()


def test_a_health_that_never_answers_is_called_off() -> None:
    called_off: list[object] = []

    def silent(endpoint: Any) -> Deferred[Any]:
        return Deferred(called_off.append)

    scene = Scene("a")
    scene.check(2, health=silent)
    scene.go(2.1)
    assert (scene.changes, len(called_off)) == (["a down"], 1)
    scene.go(2.1)
    scene.leave()
    assert len(called_off) == 2


def test_stopped_while_a_check_is_under_way_nothing_is_left_and_nobody_is_marked() -> None:
    scene = Scene("ab")
    scene.vanish("a")
    checks = scene.check(2)
    scene.go(0.5)
    checks.stopService()
    assert scene.proxied.reactor.getDelayedCalls() == []
    scene.leave()
    assert scene.changes == []


def test_after_a_stop_no_target_stays_down_for_good() -> None:
    scene = Scene("ab", rest=1.0)
    scene.close("a")
    checks = scene.check(2)
    scene.go(1)
    checks.stopService()
    scene.open("a")
    scene.go(6)
    scene.answered()
    assert scene.changes == ["a down", "a up"]
    scene.leave()


def test_it_can_be_started_again_and_a_second_start_changes_nothing() -> None:
    scene = Scene("a")
    checks = scene.check(2)
    checks.startService()
    scene.go(1)
    assert scene.served["a"] == 1
    checks.stopService()
    scene.go(10)
    assert scene.served["a"] == 1
    checks.startService()
    scene.go(1)
    assert scene.served["a"] == 2
    scene.leave()


def test_a_bad_interval_is_named() -> None:
    with pytest.raises(ValueError, match=r"seconds must be .* not 0"):
        HealthChecks(Scene("a").balancer, 0)


def test_an_interval_that_is_no_number_is_named() -> None:
    with pytest.raises(TypeError, match=r"seconds must be .* not True"):
        HealthChecks(Scene("a").balancer, True)


def raising_once(scene: Scene, error: BaseException) -> None:
    tell = scene.balancer._changed
    assert tell is not None
    left = [error]

    def changed(target: Any) -> None:
        tell(target)
        if left:
            raise left.pop()

    scene.balancer._changed = changed


def test_checks_go_on_after_an_exception_in_the_users_callback() -> None:
    scene = Scene("ab")
    raising_once(scene, ZeroDivisionError())
    scene.check(2)
    scene.go(1)
    scene.close("a")
    scene.go(2)
    scene.open("a")
    scene.go(2)
    assert scene.changes == ["a down", "a up"]
    scene.leave()


def test_a_check_that_has_left_the_event_loop_keeps_no_other_from_being_stopped() -> None:
    scene = Scene("ab")
    scene.close("a")
    scene.vanish("b")
    raising_once(scene, SystemExit(3))
    checks = scene.check(2)
    with pytest.raises(SystemExit):
        scene.go(1)
    checks.stopService()
    assert scene.proxied.reactor.getDelayedCalls() == []
    scene.leave()


def test_an_old_check_that_resists_being_called_off_is_not_taken_for_the_new_one() -> None:
    waiting: list[Deferred[bool]] = []

    async def stubborn(endpoint: Any) -> bool:
        while True:
            waiting.append(Deferred())
            mine = waiting[-1]
            try:
                return await mine
            except CancelledError:
                if len(waiting) > 2:
                    raise

    scene = Scene("a")
    checks = scene.check(5, health=stubborn)
    checks.stopService()
    checks.startService()
    # The first, what it went on to wait for, and the second.
    _, old, new = waiting
    old.callback(False)
    assert scene.changes == []
    checks.stopService()
    assert new.called
    scene.leave()
