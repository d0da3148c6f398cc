"""The life of a process: parts that end together, loops that outlive an outage, nothing swallowed. No test waits."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fleet_core import service
from fleet_core.errors import Retryable
from fleet_core.service import (
    Backoff,
    Ended,
    Outage,
    end_tasks,
    every,
    finish,
    keep_running,
    once,
    run_together,
    run_until_stopped,
    stop_on_signals,
)

log = logging.getLogger("test")
LIMIT_S = 10


class Time:
    """Seconds that pass by sleeping alone."""

    def __init__(self, most: int = 1000) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []
        self._most = most

    async def sleep(self, duration_s: float) -> None:
        if len(self.slept) == self._most:
            await asyncio.Event().wait()
        self.slept.append(duration_s)
        self.now_s += duration_s
        await asyncio.sleep(0)


class Script:
    """What each call does: raise an exception, or (None) succeed. After the last one it rests."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.calls = 0
        self.done = asyncio.Event()
        self._outcomes = list(outcomes)

    async def __call__(self) -> None:
        if not self._outcomes:
            self.done.set()
            await asyncio.Event().wait()
        self.calls += 1
        if (outcome := self._outcomes.pop(0)) is not None:
            raise outcome


async def forever() -> None:
    await asyncio.Event().wait()


async def raising(error: Exception) -> None:
    raise error


def outage(**named: object) -> Outage:
    return Outage(log, "no answer", "it answers again", **{"errors": (Retryable,), **named})


# -- one place for each

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("demo", "edge_agent", "firmware_bridge", "fleet_core", "fleet_server", "models", "provisioning")
ONE_PLACE = {
    "add_signal_handler(": {"fleet_core/service.py"},
    "signal.signal(": {"fleet_server/supervisor.py", "demo/run.py"},  # blocking loops of their own
    "def end_tasks": {"fleet_core/service.py"},
    'queries("store").elect': {"fleet_server/store/leader.py"},  # a lock on one case is no election
    "_failing =": set(),
    " failing = ": set(),
}
"""What a process's life is made of, and the only files that may hold it."""


@pytest.mark.parametrize("words", ONE_PLACE)
def test_the_life_of_processes_is_written_once(words: str) -> None:
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    assert {str(path.relative_to(ROOT)) for path in files if words in path.read_text()} == ONE_PLACE[words]


def test_every_task_that_is_started_is_kept_by_whoever_started_it() -> None:
    dropped = re.compile(r"^\s*(asyncio\.)?(create_task|ensure_future)\(", re.MULTILINE)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert not dropped.search(path.read_text()), path


# -- parts


async def test_a_part_that_raises_ends_the_others_and_is_raised_with_its_name() -> None:
    ended: list[str] = []

    async def other() -> None:
        try:
            await forever()
        finally:
            ended.append("other")

    error = AttributeError("plan")
    with pytest.raises(AttributeError) as raised:
        await run_until_stopped(asyncio.Event(), {"other": other(), "sweep": _soon(error)})
    assert raised.value is error and ended == ["other"]
    assert any("'sweep'" in note for note in error.__notes__)


async def _soon(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


async def test_a_part_that_returns_is_an_error_too() -> None:
    async def returns() -> None:
        return

    with pytest.raises(Ended, match="loop ended by itself"):
        await run_until_stopped(asyncio.Event(), {"loop": returns(), "other": forever()})


async def test_a_part_that_is_cancelled_by_itself_is_an_error_too() -> None:
    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    with pytest.raises(Ended):
        await run_until_stopped(asyncio.Event(), {"loop": cancels_itself(), "other": forever()})


async def test_a_stop_ends_every_part_and_raises_nothing() -> None:
    stop, ended = asyncio.Event(), []

    async def part(name: str) -> None:
        try:
            await forever()
        finally:
            ended.append(name)

    running = asyncio.create_task(run_until_stopped(stop, {"a": part("a"), "b": part("b")}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(running, LIMIT_S)
    assert sorted(ended) == ["a", "b"]


async def test_an_error_that_comes_with_the_stop_is_raised() -> None:
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(KeyError):
        await run_until_stopped(stop, {"part": raising(KeyError("x"))})


async def test_what_comes_to_its_end_may_rest_as_a_part() -> None:
    stop, did = asyncio.Event(), []

    async def warm() -> None:
        did.append("warm")

    running = asyncio.create_task(run_until_stopped(stop, {"warming": once(warm())}))
    for _ in range(5):
        await asyncio.sleep(0)
    assert did == ["warm"] and not running.done()
    stop.set()
    await asyncio.wait_for(running, LIMIT_S)
    with pytest.raises(LookupError):
        await run_until_stopped(asyncio.Event(), {"warming": once(raising(LookupError()))})


async def test_together_ends_with_the_first_whether_it_returns_or_raises() -> None:
    async def returns() -> None:
        return

    await asyncio.wait_for(run_together({"a": returns(), "b": forever()}), LIMIT_S)
    with pytest.raises(OSError, match="cut"):
        await asyncio.wait_for(run_together({"a": raising(OSError("cut")), "b": forever()}), LIMIT_S)


async def test_together_leaves_no_mark_of_cancellation_on_its_task() -> None:
    with pytest.raises(OSError, match="cut"):
        await run_together({"a": raising(OSError("cut")), "b": forever()})
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_for_the_stop(number: signal.Signals) -> None:
    stop = stop_on_signals()
    try:
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), LIMIT_S)
    finally:
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(each)


# -- again and again


@pytest.mark.parametrize("error", [AttributeError("a"), KeyError("k"), AssertionError(), OSError("o")], ids=repr)
@pytest.mark.parametrize("loop", ["every", "every with an outage", "keep_running"])
async def test_an_error_nobody_expects_leaves_every_kind_of_loop(loop: str, error: Exception) -> None:
    act, time = Script(None, Retryable("away"), error) if loop != "every" else Script(None, error), Time()
    if loop == "keep_running":
        act = Script(Retryable("away"), error)
    loops: dict[str, Callable[[], Awaitable[None]]] = {
        "every": lambda: every(1.0, act, sleep=time.sleep),
        "every with an outage": lambda: every(1.0, act, outage(), sleep=time.sleep),
        "keep_running": lambda: keep_running(act, outage(), Backoff(1, 2), sleep=time.sleep),
    }
    with pytest.raises(type(error)) as raised:
        await loops[loop]()
    assert raised.value is error


async def test_every_acts_waits_and_acts() -> None:
    act, time = Script(None, None, None), Time()
    task = asyncio.create_task(every(2.5, act, sleep=time.sleep))
    await asyncio.wait_for(act.done.wait(), LIMIT_S)
    assert act.calls == 3 and time.slept == [2.5, 2.5, 2.5]
    await end_tasks([task])


async def test_every_may_wait_before_it_acts_for_the_first_time() -> None:
    act, time = Script(None), Time(most=1)
    task = asyncio.create_task(every(600.0, act, wait_first=True, sleep=time.sleep))
    await asyncio.sleep(0)
    assert (act.calls, time.slept) == (0, [600.0])
    for _ in range(5):
        await asyncio.sleep(0)
    assert act.calls == 1
    await end_tasks([task])


async def test_an_expected_error_is_an_outage_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    time, failures, states = Time(), [], []
    away = outage(on_failure=lambda: failures.append(time.now_s), on_state=states.append, now_s=lambda: time.now_s)
    act = Script(None, Retryable("gone"), Retryable("gone"), Retryable("still gone"), None, None, Retryable("anew"))
    task = asyncio.create_task(every(1.0, act, away, sleep=time.sleep))
    await asyncio.wait_for(act.done.wait(), LIMIT_S)
    assert [record.getMessage() for record in caplog.records] == [
        "no answer: gone",
        "it answers again after 3.0 s, 3 failures",
        "no answer: anew",
    ]
    assert failures == [1.0, 2.0, 3.0, 6.0]
    assert states == [True, False, False, False, True, True, False]
    assert away.active and away.failures == 1
    await end_tasks([task])


async def test_what_is_kept_running_pauses_longer_and_returns_when_it_is_done() -> None:
    time = Time()
    run = Script(*(Retryable("x") for _ in range(4)), None)
    await keep_running(run, outage(), Backoff(1.0, 5.0), sleep=time.sleep, now_s=lambda: time.now_s)
    assert run.calls == 5 and time.slept == [1.0, 2.0, 4.0, 5.0]


async def test_a_try_that_lasted_begins_the_pauses_anew() -> None:
    time, tries = Time(), 0

    async def run() -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            time.now_s += 60.0
        if tries < 5:
            raise Retryable("cut")

    backoff = Backoff(1.0, 9.0, settled_after_s=30.0)
    await keep_running(run, outage(), backoff, sleep=time.sleep, now_s=lambda: time.now_s)
    assert time.slept == [1.0, 2.0, 1.0, 2.0]


@pytest.mark.parametrize("kind", ["every", "keep_running"])
async def test_a_cancellation_that_a_library_turned_into_an_expected_error_is_obeyed(kind: str) -> None:
    began = asyncio.Event()

    async def turns_it_around() -> None:
        began.set()
        try:
            await forever()
        except asyncio.CancelledError:
            raise Retryable("the connection broke") from None

    loop = every(1.0, turns_it_around, outage()) if kind == "every" else None
    task = asyncio.create_task(loop or keep_running(turns_it_around, outage(), Backoff(60, 60)))
    await began.wait()
    task.cancel()
    await asyncio.wait([task], timeout=LIMIT_S)
    assert task.cancelled()


# -- outage and pauses


def test_an_outage_tells_known_errors_in_one_line_and_others_with_their_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for error, traced in ((Retryable("the port\nis absent"), False), (KeyError("slot"), True)):
        caplog.clear()
        fault = Outage(log, "no source", "delivers again", known=(Retryable,))
        fault.failed(error)
        (record,) = caplog.records
        assert bool(record.exc_info) is traced
        assert record.getMessage() == ("no source: KeyError: 'slot'" if traced else "no source: the port is absent")


def test_a_success_without_an_outage_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    quiet = outage()
    quiet.succeeded()
    assert not caplog.records and not quiet.active and quiet.failures == 0


def test_pauses_double_to_their_bound_and_start_again_when_told() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.pause_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.pause_s() == 0.5


def test_jittered_pauses_lie_anywhere_below_the_ceiling() -> None:
    backoff = Backoff(1.0, 30.0, settled_after_s=30.0, rng=random.Random(3))
    pauses = [backoff.pause_s(0.1) for _ in range(60)]
    assert max(pauses) <= 30.0
    assert max(pauses[20:]) > 15.0
    assert min(pauses[20:]) < 7.5
    assert 0.0 <= backoff.pause_s(30.0) <= 1.0  # a settled try
    assert [Backoff(1.0, 30.0, rng=random.Random(3)).pause_s() for _ in range(2)] == [pauses[0], pauses[0]]


# -- the end


async def test_a_lost_cancellation_is_given_again() -> None:
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        while lost < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
        await asyncio.sleep(60)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(end_tasks([task], again_s=0.01), LIMIT_S)
    assert task.cancelled() and lost == 2


async def test_what_tasks_raise_while_they_are_ended_is_logged_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    async def fails_late() -> None:
        try:
            await forever()
        finally:
            raise OSError("gone")

    task = asyncio.create_task(fails_late(), name="late")
    await asyncio.sleep(0)
    await end_tasks([task])
    assert "late failed while it was ended: gone" in caplog.text
    await end_tasks([])


async def test_a_step_that_is_cancelled_comes_to_its_end_before_the_cancellation_goes_on() -> None:
    began, may_end, did = asyncio.Event(), asyncio.Event(), []

    async def step() -> str:
        began.set()
        await may_end.wait()
        did.append("step")
        return "done"

    task = asyncio.create_task(finish(step()))
    await began.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    await asyncio.wait([task], timeout=LIMIT_S)
    assert task.cancelled() and did == ["step"]
    assert await finish(step()) == "done"
    with pytest.raises(OSError, match="cut"):
        await finish(raising(OSError("cut")))


async def test_a_task_that_never_ends_ends_the_process_hard(monkeypatch: pytest.MonkeyPatch) -> None:
    ended_hard: list[list[str]] = []
    monkeypatch.setattr(service, "_end_hard", ended_hard.append)
    deaf = True

    async def never() -> None:
        while deaf:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    task = asyncio.create_task(never(), name="deaf")
    await asyncio.sleep(0)
    await asyncio.wait_for(end_tasks([task], again_s=0.01, within_s=0.05), LIMIT_S)
    assert ended_hard == [["deaf"]]
    deaf = False
    await end_tasks([task], again_s=0.01)


# -- more than one error


async def _fails_on_leaving(error: Exception) -> None:
    try:
        await forever()
    finally:
        raise error


def told(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """What was logged at ERROR and above: message -> the error whose traceback stands below it."""
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    return {record.getMessage(): record.exc_info[1] if record.exc_info else None for record in errors}


async def test_of_two_parts_that_fail_in_one_turn_one_is_raised_and_the_other_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = KeyError("first"), ValueError("second")
    with pytest.raises(KeyError) as raised:
        await run_until_stopped(asyncio.Event(), {"a": raising(first), "b": raising(second), "c": forever()})
    assert raised.value is first
    assert told(caplog) == {"b failed: ValueError: second": second}


async def test_a_part_that_fails_while_another_one_ended_the_process_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    late = ValueError("late")
    with pytest.raises(KeyError, match="first"):
        await run_until_stopped(asyncio.Event(), {"a": _soon(KeyError("first")), "b": _fails_on_leaving(late)})
    assert told(caplog) == {"b failed while it was ended: ValueError: late": late}


async def test_parts_that_fail_while_they_are_ended_after_a_stop_are_raised_when_all_have_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stop, ended, save, other = asyncio.Event(), [], ValueError("the last save failed"), KeyError("other")

    async def slow() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.01)
            ended.append("slow")

    parts = {"save": _fails_on_leaving(save), "other": _fails_on_leaving(other), "slow": slow()}
    running = asyncio.create_task(run_until_stopped(stop, parts))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    stop.set()
    with pytest.raises(ValueError, match="the last save") as raised:
        await asyncio.wait_for(running, LIMIT_S)
    assert ended == ["slow"] and any("'save'" in note for note in raised.value.__notes__)
    assert other in told(caplog).values()


@pytest.mark.parametrize("error", [None, OSError("the broker is gone")], ids=["works", "fails"])
async def test_a_farewell_comes_before_the_end_of_the_parts_which_end_even_when_it_fails(
    error: Exception | None,
) -> None:
    stop, order = asyncio.Event(), []

    async def part() -> None:
        try:
            await forever()
        finally:
            order.append("part")

    async def farewell() -> None:
        order.append("farewell")
        if error is not None:
            raise error

    running = asyncio.create_task(run_until_stopped(stop, {"part": part()}, farewell=farewell))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait([running], timeout=LIMIT_S)
    assert order == ["farewell", "part"] and running.exception() is error


async def test_together_logs_what_else_went_wrong_but_not_the_same_lost_connection_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bug = KeyError("alias")
    parts = {"a": raising(OSError("cut")), "b": raising(OSError("cut")), "c": raising(bug), "d": forever()}
    with pytest.raises(OSError, match="cut"):
        await run_together(parts)
    assert told(caplog) == {"c failed as well: KeyError: 'alias'": bug}


async def test_together_raises_what_a_part_met_while_it_was_ended() -> None:
    async def returns() -> None:
        await asyncio.sleep(0)

    with pytest.raises(KeyError, match="alias"):
        await run_together({"a": returns(), "b": _fails_on_leaving(KeyError("alias"))})
    task = asyncio.create_task(run_together({"a": forever(), "b": _fails_on_leaving(KeyError("alias"))}))
    for _ in range(3):
        await asyncio.sleep(0)
    await end_tasks([task])
    assert isinstance(task.exception(), KeyError)


async def test_a_task_that_is_ended_before_it_began_or_after_it_failed_raises_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await end_tasks([asyncio.create_task(raising(OSError("gone")))])
    assert not caplog.records
    error = OSError("gone")
    failed = asyncio.create_task(raising(error), name="early")
    await asyncio.wait([failed])
    await end_tasks([failed])
    assert told(caplog) == {"early failed: gone": error}


async def test_a_step_that_fails_after_its_task_was_cancelled_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    error, may_end = ValueError("the last round"), asyncio.Event()

    async def step() -> None:
        await may_end.wait()
        raise error

    task = asyncio.create_task(finish(step()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()
    await asyncio.wait([task], timeout=LIMIT_S)
    assert task.cancelled()
    assert told(caplog) == {"a step failed while its task was cancelled: ValueError: the last round": error}


# -- groups of errors

AWAY = ExceptionGroup("both", [Retryable("one"), ExceptionGroup("inner", [Retryable("two")])])
MIXED = ExceptionGroup("both", [Retryable("one"), ExceptionGroup("inner", [KeyError("a bug")])])


@pytest.mark.parametrize("kind", ["every", "keep_running"])
async def test_a_group_of_expected_errors_is_an_outage_and_a_mixed_one_is_raised(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    act, time = Script(AWAY, MIXED), Time()
    loop = every(1.0, act, outage(), sleep=time.sleep) if kind == "every" else None
    with pytest.raises(ExceptionGroup) as raised:
        await (loop or keep_running(act, outage(), Backoff(1, 1), sleep=time.sleep))
    assert raised.value is MIXED and act.calls == 2
    assert [record.getMessage() for record in caplog.records] == ["no answer: one; two"]
    assert not caplog.records[0].exc_info


def test_an_error_that_is_not_known_is_logged_as_an_error_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    for error, level in ((Retryable("x"), logging.WARNING), (AWAY, logging.WARNING), (MIXED, logging.ERROR)):
        caplog.clear()
        Outage(log, "no source", "delivers", known=(Retryable,), begins_level=logging.WARNING).failed(error)
        (record,) = caplog.records
        assert (record.levelno, bool(record.exc_info)) == (level, level == logging.ERROR)
    caplog.clear()
    Outage(log, "a", "b", known=(Retryable,), begins_level=logging.CRITICAL).failed(KeyError("x"))
    assert caplog.records[0].levelno == logging.CRITICAL


@pytest.mark.parametrize("told_as", ["group", "retryable"])
@pytest.mark.parametrize("kind", ["every", "keep_running"])
async def test_a_task_group_that_failed_is_no_cancellation(kind: str, told_as: str) -> None:
    tries, time = 0, Time()

    async def grouped() -> None:
        nonlocal tries
        tries += 1
        if tries == 4:
            raise LookupError("done")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(raising(Retryable("away")))
        except* Retryable:
            if told_as == "group":
                raise
            failed = True
        if failed:
            raise Retryable("away")  # the group's mark of cancellation is on the task (Python 3.11)

    loop = every(1.0, grouped, outage(), sleep=time.sleep) if kind == "every" else None
    task = asyncio.create_task(loop or keep_running(grouped, outage(), Backoff(1, 1), sleep=time.sleep))
    await asyncio.wait([task], timeout=LIMIT_S)
    assert not task.cancelled() and isinstance(task.exception(), LookupError) and tries == 4
