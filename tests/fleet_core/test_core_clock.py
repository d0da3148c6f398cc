import asyncio
import struct
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from fleet_core.clock import PacedClock, ScaledClock, SimulatedClock, SystemClock, clock_from_spec
from fleet_core.errors import BadConfig

START = datetime(2026, 3, 1, 6, tzinfo=UTC)


def test_scaled_clock_runs_faster_from_a_shared_epoch():
    clock = ScaledClock(3600, real_epoch_s=datetime.now(UTC).timestamp() - 10, story_epoch_s=START.timestamp())
    assert timedelta(hours=10) <= clock.now() - START < timedelta(hours=11)


def test_a_clock_handed_over_as_text_tells_the_same_time():
    clock = ScaledClock.starting_now(3600, START)
    other = clock_from_spec(clock.spec())
    assert abs(other.now() - clock.now()) < timedelta(seconds=60)  # 17 ms of real time


def test_another_process_builds_the_same_clock_from_the_environment():
    clock = ScaledClock.starting_now(60, START)
    script = "from fleet_core.clock import clock_from_environment as c; print(c().spec())"
    printed = subprocess.run(
        [sys.executable, "-c", script],
        env={"FORESTALL_CLOCK": clock.spec()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.strip() == clock.spec()


@pytest.mark.parametrize("spec", ["", "fast", "scaled:2", "scaled:a:b:c", "scaled:0:1:1", "scaled:-1:1:1", "system:1"])
def test_an_unreadable_clock_is_refused_with_a_reason(spec):
    with pytest.raises(BadConfig):
        clock_from_spec(spec)


def test_system_clock_is_utc_and_names_itself():
    clock = clock_from_spec(SystemClock().spec())
    assert clock.now().tzinfo is UTC and clock.scale == 1.0


async def test_simulated_clock_wakes_sleepers_in_order_of_their_due_time():
    clock, woken = SimulatedClock(START), []

    async def sleeper(duration_s):
        await clock.sleep(duration_s)
        woken.append((duration_s, clock.now()))

    tasks = [asyncio.create_task(sleeper(duration_s)) for duration_s in (30, 10, 20, 99)]
    await asyncio.sleep(0)
    await clock.advance(40)
    assert woken == [(s, START + timedelta(seconds=s)) for s in (10, 20, 30)]
    assert clock.now() == START + timedelta(seconds=40) and clock.monotonic_s() == 40
    tasks[3].cancel()


async def test_a_sleeper_that_sleeps_again_is_woken_again_within_one_advance():
    clock, ticks = SimulatedClock(START), []

    async def ticker():
        while True:
            await clock.sleep(10)
            ticks.append(clock.monotonic_s())

    task = asyncio.create_task(ticker())
    await asyncio.sleep(0)
    await clock.advance(35)
    task.cancel()
    assert ticks == [10, 20, 30]


def _write_time(file, moment, scale=3600.0):
    with file.open("r+b" if file.exists() else "wb") as opened:
        opened.write(struct.pack("=dd", moment.timestamp(), scale))


async def test_a_paced_clock_tells_what_another_process_writes_and_its_sleepers_wait_for_it(tmp_path):
    file = tmp_path / "time"
    _write_time(file, START)
    clock = PacedClock(file)
    other = clock_from_spec(clock.spec())
    assert (other.now(), other.scale) == (START, 3600)
    sleeper = asyncio.create_task(other.sleep(60))
    await asyncio.sleep(3 * PacedClock.LOOK_AGAIN_S)  # 216 story seconds, were the time not standing still
    assert not sleeper.done()
    _write_time(file, START + timedelta(minutes=1))
    await asyncio.wait_for(sleeper, 10)
    assert other.now() == clock.now() == START + timedelta(minutes=1)


async def test_a_paced_clock_follows_a_change_of_its_pace(tmp_path):
    file = tmp_path / "time"
    _write_time(file, START)
    clock = PacedClock(file)
    _write_time(file, START + timedelta(minutes=1), scale=60.0)
    assert (clock.now(), clock.scale) == (START + timedelta(minutes=1), 60.0)


@pytest.mark.parametrize("spec", ["paced", "paced:", "paced:/nowhere"])
def test_a_paced_clock_without_a_file_is_refused(spec):
    with pytest.raises(BadConfig):
        clock_from_spec(spec)


@pytest.mark.parametrize("pace", [0.0, -1.0, float("nan")])
def test_a_paced_clock_without_a_pace_is_refused(tmp_path, pace):
    _write_time(tmp_path / "time", START, pace)
    with pytest.raises(BadConfig):
        clock_from_spec(f"paced:{tmp_path / 'time'}")
