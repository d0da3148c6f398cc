"""The real thing on a pseudo-terminal: simulator process or task, port, link, the agent's source, faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from edge_agent.acquisition import serial_frames
from edge_agent.acquisition.api import AssetDescription, Sink, SourceDeps
from firmware_bridge.devices.drive import DriveIdentity, DriveSettings, SimulatedDrive
from firmware_bridge.devices.faults import FaultRates, FaultyLine
from firmware_bridge.devices.pty_port import PtyDevice
from firmware_bridge.frames import Stream
from firmware_bridge.link import DeviceLink, LinkSettings, connections
from firmware_bridge.session import HostSession, Loss, Ready, Received
from fleet_core.assets import AssetClass
from fleet_core.clock import CLOCK_VARIABLE, Clock, ScaledClock, SystemClock
from fleet_core.errors import BadConfig, Retryable
from fleet_core.telemetry import ComponentSpec, MetricSpec, Sample, Waveform, to_us

pytestmark = pytest.mark.integration

ASSET = AssetDescription(
    "robot-17", AssetClass.ROBOT, "AMR-200", "AMR200-0017", (), (ComponentSpec("drive_bearing", "bearing", "OLD"),)
)
PERIOD_US = 600_000_000


@dataclass
class Recorder:
    """A sink that keeps everything."""

    described: list[AssetDescription] = field(default_factory=list)
    past: list[Sample] = field(default_factory=list)
    live: list[Sample] = field(default_factory=list)
    waveforms: list[tuple[Waveform, bool]] = field(default_factory=list)
    gaps: list[tuple[int, int, str]] = field(default_factory=list)

    async def describe(self, asset: AssetDescription) -> None:
        self.described.append(asset)

    async def samples(self, samples: Sequence[Sample], *, historical: bool = False) -> None:
        (self.past if historical else self.live).extend(samples)

    async def waveform(self, waveform: Waveform, *, historical: bool = False) -> None:
        self.waveforms.append((waveform, historical))

    async def gap(self, start_us: int, end_us: int, reason: str) -> None:
        self.gaps.append((start_us, end_us, reason))

    def times(self) -> list[int]:
        return [sample.time_us for sample in (*self.past, *self.live) if sample.metric == "vibration_rms_g"]


@asynccontextmanager
async def drive(
    clock: Clock, *, rates: FaultRates | None = None, history_h: float = 0.0, bearing: str = "BRG-1", seed: int = 1
) -> AsyncIterator[PtyDevice]:
    simulated = SimulatedDrive(DriveIdentity(bearing_serial=bearing), DriveSettings(history_h=history_h))
    line = FaultyLine(rates or FaultRates(), random.Random(seed))
    device = PtyDevice(simulated, clock, line, random.Random(seed))
    device.start()
    running = asyncio.create_task(device.run())
    try:
        yield device
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        device.close()


def build(port: str, clock: Clock, **settings: object) -> serial_frames.SerialFrames:
    deps = SourceDeps(clock, ASSET, Path(), random.Random(1))
    source = serial_frames.build(serial_frames.Config(port, **settings), deps)  # type: ignore[arg-type]  # keywords
    assert isinstance(source, serial_frames.SerialFrames)
    return source


async def wait_for(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for are plain lists
            await asyncio.sleep(0.02)


async def run_for(source: serial_frames.SerialFrames, sink: Sink, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await source.run(sink)


async def run_until(source: serial_frames.SerialFrames, sink: Recorder, enough: int) -> None:
    task = asyncio.create_task(source.run(sink))
    await wait_for(lambda: len(sink.times()) >= enough or task.done())
    if task.done():
        task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def fast() -> ScaledClock:
    return ScaledClock.starting_now(36_000, datetime(2026, 3, 2, 8, tzinfo=UTC))


async def test_a_drive_is_described_and_its_past_and_present_read() -> None:
    clock, sink = fast(), Recorder()
    began_us = to_us(clock.now())
    async with drive(clock, history_h=30) as device:
        await run_until(build(device.port, clock), sink, 220)
    (asset,) = sink.described
    assert asset.device_id == "robot-17" and asset.firmware == "4.1.0"
    assert {c.slot: c.serial for c in asset.components} == {"drive_bearing": "BRG-1", "drive_motor": "MOT-1"}
    assert MetricSpec("vibration_rms_g", "[g]", "drive_bearing", 600.0) in asset.metrics
    assert MetricSpec("vibration", "[g]", "drive_bearing", 3600.0, "waveform") in asset.metrics
    assert len({sample.time_us for sample in sink.past}) >= 181
    steps = [after - before for before, after in pairwise(sink.times())]
    assert all(step > 0 for step in steps)
    assert sorted(steps)[len(steps) // 2] == PERIOD_US
    assert not sink.gaps
    assert len([1 for _, historical in sink.waveforms if historical]) >= 31
    wave, _ = sink.waveforms[0]
    assert len(wave.values) == 2560 and wave.sample_rate_hz == 25_600 and 0.01 < max(wave.values) < 1
    assert began_us < sink.times()[-1] <= to_us(clock.now())


def lost_by(device: PtyDevice) -> int:
    """Frames that never reached the host: lost on the line, or never sent for want of room."""
    line = sum(count for stream, count in device._line.lost.items() if stream is not Stream.CONTROL)
    return line + sum(n for name, n in device.endpoint.counters.items() if name.startswith("output_overflow"))


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_bad_line_loses_and_says_exactly_what(seed: int) -> None:
    clock = fast()
    rates = FaultRates(drop=0.03, garble=0.03, stall=0.005, stall_s=0.3)
    accepted, declared = 0, 0
    async with (
        drive(clock, rates=rates, history_h=100, seed=seed) as device,
        DeviceLink(LinkSettings(device.port, ping_s=0.2), clock) as link,
        asyncio.timeout(60),
    ):
        lost_before: int | None = None
        while accepted < 400:
            event = await link.receive()
            if isinstance(event, Received):
                accepted += 1
            elif isinstance(event, Loss):
                declared += event.frames
            elif isinstance(event, Ready):
                assert lost_before is None
                lost_before = 0
        device._line._rates = FaultRates()
        with contextlib.suppress(TimeoutError):  # then the figures tell
            async with asyncio.timeout(20):
                while declared != lost_by(device):
                    event = await link.receive()
                    declared += event.frames if isinstance(event, Loss) else 0
        assert link.statistics()["lost"] == declared == lost_by(device) > 0


async def test_brownouts_are_survived_and_their_dark_time_declared() -> None:
    clock, sink = fast(), Recorder()
    async with drive(clock, rates=FaultRates(brownout=0.01), history_h=10) as device:
        await run_until(build(device.port, clock), sink, 300)
        assert device.boots > 1
    times = sorted(sink.times())
    assert len(times) == len(set(times))
    slack_us = PERIOD_US // 2
    dark = [(before, after) for before, after in pairwise(times) if after - before > 1.5 * PERIOD_US]
    for before, after in dark:
        declared = any(start <= before + slack_us and end >= after - slack_us for start, end, _ in sink.gaps)
        assert declared, f"{after - before} us missing and not declared"
    assert not dark or any("rebooted" in reason for *_, reason in sink.gaps)


async def test_what_the_device_kept_while_the_agent_was_away_is_read_later() -> None:
    clock, sink = ScaledClock.starting_now(3600, datetime(2026, 3, 2, 8, tzinfo=UTC)), Recorder()
    async with drive(clock) as device:
        source = build(device.port, clock)
        await run_until(source, sink, 6)
        await wait_for(lambda: not device.endpoint.live)  # its patience with a silent host is over
        away_until_us = to_us(clock.now()) + 3600 * 1_000_000  # a real second more
        await wait_for(lambda: to_us(clock.now()) > away_until_us)
        await run_until(source, sink, 40)
    times = sink.times()
    distinct = sorted(set(times))
    assert len(sink.past) > 50
    assert not sink.gaps
    # one map a session: the seam may be off by the latency of the handshakes, never by a missing reading
    assert all(b - a < 1.5 * PERIOD_US for a, b in pairwise(distinct))


async def test_a_long_past_leaves_the_loop_its_turns() -> None:
    """Else the port is not read, nor the device answered, for as long as the queue holds events."""
    link, turns = DeviceLink(LinkSettings("unopened"), SystemClock()), 0
    link._session.events.extend([Loss(Stream.SAMPLES, 1, 0, 1)] * 50)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    for _ in range(50):
        await link.receive()
    running.cancel()
    assert turns >= 49


async def test_an_absent_hung_up_or_silent_device_is_retryable(tmp_path: Path) -> None:
    clock, sink = SystemClock(), Recorder()
    with pytest.raises(Retryable, match="No such file"):
        await build(str(tmp_path / "none"), clock).run(sink)
    async with drive(clock) as device:
        task = asyncio.create_task(build(device.port, clock).run(sink))
        await wait_for(lambda: bool(sink.described))
    with pytest.raises(Retryable, match="hung up"):
        await asyncio.wait_for(task, 5)
    master, slave = os.openpty()
    try:
        with pytest.raises(Retryable, match="no answer"):
            await build(os.ttyname(slave), clock, handshake_s=1.0).run(sink)
    finally:
        os.close(master)
        os.close(slave)


async def test_a_wrong_port_or_device_is_for_a_person(tmp_path: Path) -> None:
    clock, sink = SystemClock(), Recorder()
    (tmp_path / "file").write_text("no port")
    with pytest.raises(BadConfig, match="not a serial port"):
        await build(str(tmp_path / "file"), clock).run(sink)
    simulated = SimulatedDrive(DriveIdentity(serial="ANOTHER"), DriveSettings())
    device = PtyDevice(simulated, clock, FaultyLine(FaultRates(), random.Random(1)), random.Random(1))
    device.start()
    running = asyncio.create_task(device.run())
    try:
        with pytest.raises(BadConfig, match="ANOTHER"):
            await asyncio.wait_for(build(device.port, clock, verify_serial=True).run(sink), 5)
        await run_for(build(device.port, clock), sink, 0.5)
        assert sink.described[0].serial == "AMR200-0017"
    finally:
        running.cancel()
        device.close()


@pytest.mark.parametrize("name", ["poll", "feed"])
async def test_a_fault_of_ours_reaches_the_consumer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise AttributeError("no such counter")

    clock, sink = SystemClock(), Recorder()
    async with drive(clock) as device:
        monkeypatch.setattr(HostSession, name, broken)
        with pytest.raises(AttributeError, match="no such counter"):
            await asyncio.wait_for(build(device.port, clock).run(sink), 10)


async def test_connections_come_back_by_themselves(tmp_path: Path) -> None:
    clock, link = fast(), tmp_path / "drive"
    failures, boots = 0, set()

    async def follow() -> None:
        nonlocal failures
        async for item in connections(LinkSettings(str(link)), clock, random.Random(1)):
            if isinstance(item, Retryable):
                failures += 1
            elif isinstance(item[1], Ready):
                boots.add(item[1].hello.boot)

    task = asyncio.create_task(follow())
    for seed in (1, 2):
        await wait_for(lambda before=seed: failures >= before)  # bound in the loop
        simulated = SimulatedDrive(DriveIdentity(), DriveSettings())
        device = PtyDevice(simulated, clock, FaultyLine(FaultRates(), random.Random(1)), random.Random(seed), link)
        device.start()
        running = asyncio.create_task(device.run())
        await wait_for(lambda wanted=seed: len(boots) >= wanted)  # type: ignore[misc]  # bound in the loop
        running.cancel()
        device.close()
        assert not link.is_symlink()
    task.cancel()
    assert failures >= 2


async def simulator(link: Path, *more: str, clock: Clock) -> tuple[asyncio.subprocess.Process, dict[str, object]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "firmware_bridge.cli", "simulate", "drive", "--link", str(link), *more,
        env=os.environ | {CLOCK_VARIABLE: clock.spec()}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    return process, json.loads(await asyncio.wait_for(process.stdout.readline(), 20))


async def test_a_new_bearing_is_a_restarted_simulator(tmp_path: Path) -> None:
    clock, sink, link = fast(), Recorder(), tmp_path / "port" / "drive"
    source = build(str(link), clock)
    for bearing in ("BRG-1", "BRG-2"):
        process, ready = await simulator(link, "--component-serial", bearing, clock=clock)
        assert ready["components"] == {"drive_bearing": bearing, "drive_motor": "MOT-1"}
        before = len(sink.times())
        await run_until(source, sink, before + 20)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        assert not link.is_symlink()
    serials = [{c.slot: c.serial for c in asset.components}["drive_bearing"] for asset in sink.described]
    assert serials == ["BRG-1", "BRG-2"]
    assert any(reason == "link lost" for *_, reason in sink.gaps)
    assert (await _cli("monitor", str(tmp_path)))[0] == 2


async def test_doctor_and_monitor_tell_what_is_there(tmp_path: Path) -> None:
    clock, link = fast(), tmp_path / "drive"
    process, _ = await simulator(link, clock=clock)
    try:
        code, text = await _cli("doctor", str(link), "--listen-s", "1", "--json")
        assert code == 0 and json.loads(text)["verdict"] == "ok"
        code, text = await _cli("monitor", str(link), "--count", "3", "--json")
        events = [json.loads(line)["event"] for line in text.splitlines()]
        # an answer to the doctor may still be on the line
        assert code == 0 and next(event for event in events if event != "ack") == "ready"
        code, text = await _cli("simulate", "drive", "--link", str(tmp_path / "x"), "--fault", "drop=2")
        assert code == 2 and text.count("\n") == 1
        (tmp_path / "file").touch()
        code, text = await _cli("simulate", "drive", "--link", str(tmp_path / "file"))
        assert code == 2 and "no link" in text
    finally:
        process.terminate()
        await process.wait()


async def _cli(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "firmware_bridge.cli", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode is not None
    return process.returncode, output.decode()
