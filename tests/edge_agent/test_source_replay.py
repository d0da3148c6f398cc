"""Replay: where the cut falls, what is history, what is skipped, what is refused."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.acquisition import replay
from edge_agent.acquisition._times import parse_time_us
from edge_agent.acquisition.api import AssetDescription, SourceDeps
from fleet_core.assets import AssetClass
from fleet_core.clock import SimulatedClock
from fleet_core.errors import BadConfig, BadInput
from fleet_core.plugins import parse_config
from fleet_core.telemetry import Sample, Waveform, to_us

COLUMNS = {"Bearing 1": {"metric": "vibration_rms_g", "unit": "[g]", "component": "drive_bearing"}}


def rig(deps: SourceDeps) -> dict[str, Any]:
    """What the conformance suite plays: a day, half of it the past."""
    rows = (f"2026-01-05T{h:02}:{m:02}:00,{h + m / 60}\n" for h in range(24) for m in (0, 30))
    (deps.base_dir / "day.csv").write_text("time,Bearing 1\n" + "".join(rows))
    return {"path": "day.csv", "columns": COLUMNS, "history_until": 0.5}


class Sink:
    def __init__(self) -> None:
        self.description: AssetDescription | None = None
        self.history: list[Sample] = []
        self.live: list[Sample] = []
        self.waves: list[tuple[Waveform, bool]] = []
        self.gaps: list[tuple[int, int, str]] = []

    async def describe(self, asset: AssetDescription) -> None:
        self.description = asset

    async def samples(self, samples: Sequence[Sample], *, historical: bool = False) -> None:
        (self.history if historical else self.live).extend(samples)

    async def waveform(self, waveform: Waveform, *, historical: bool = False) -> None:
        self.waves.append((waveform, historical))

    async def gap(self, start_us: int, end_us: int, reason: str) -> None:
        self.gaps.append((start_us, end_us, reason))


def ims_file(folder: Path, rows: int = 20, broken: tuple[int, ...] = ()) -> Path:
    lines = [",Datetime,Bearing 1,Bearing 2"]
    for i in range(rows):
        minute = 32 + 10 * i
        time = f"2004.02.12.{10 + minute // 60}.{minute % 60:02}.39"
        lines.append(f"{i},{'garbage' if i in broken else time},{0.1 + i / 100},{0.2}")
    path = folder / "ims.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def source(folder: Path, clock: SimulatedClock, **settings: Any) -> replay.Replay:
    config = parse_config(replay.Config, {"path": "ims.csv", "columns": COLUMNS, **settings}, "source")
    asset = AssetDescription("robot-17", AssetClass.ROBOT, "AMR", "S-1")
    return replay.build(config, SourceDeps(clock, asset, folder, random.Random(1)))


async def play(made: replay.Replay, clock: SimulatedClock, hours: float = 10) -> Sink:
    sink = Sink()
    task = asyncio.ensure_future(made.run(sink))
    for _ in range(200):
        await asyncio.sleep(0.005)
        if sink.description is not None or task.done():
            break
    for _ in range(20):
        await asyncio.sleep(0)
    await clock.advance(hours * 3600)
    await asyncio.wait_for(task, 5)
    return sink


async def test_the_cut_row_falls_at_now(tmp_path: Path) -> None:
    ims_file(tmp_path)
    clock = SimulatedClock()
    start = clock.now()
    sink = await play(source(tmp_path, clock, history_until=0.5), clock)
    assert len(sink.history) == 10 and len(sink.live) == 10
    assert sink.live[0].time_us == to_us(start)
    assert sink.history[-1].time_us == to_us(start - timedelta(minutes=10))
    assert sink.live[-1].time_us == to_us(start + timedelta(minutes=90))
    assert sink.live[0].value == pytest.approx(0.2)
    assert sink.description is not None
    (metric,) = sink.description.metrics
    assert (metric.name, metric.unit, metric.component, metric.period_s) == (
        "vibration_rms_g",
        "[g]",
        "drive_bearing",
        600.0,
    )


@pytest.mark.parametrize("cut", [5, 0.25, "2004.02.12.11.22.39"])
async def test_the_cut_as_row_fraction_or_time(tmp_path: Path, cut: float | int | str) -> None:
    ims_file(tmp_path)
    clock = SimulatedClock()
    sink = await play(source(tmp_path, clock, history_until=cut, stop_at=15), clock)
    assert (len(sink.history), len(sink.live)) == (5, 10)


async def test_a_fixed_cut_makes_a_restart_land_alike(tmp_path: Path) -> None:
    ims_file(tmp_path)
    clock = SimulatedClock()
    cut_at = clock.now().isoformat()
    first = await play(source(tmp_path, clock, history_until=10, cut_at=cut_at), clock)
    again = await play(source(tmp_path, clock, history_until=10, cut_at=cut_at), clock)
    assert again.history + again.live == first.history + first.live
    assert (len(first.history), len(again.history)) == (10, 20)


async def test_stretched_time(tmp_path: Path) -> None:
    ims_file(tmp_path)
    clock = SimulatedClock()
    sink = await play(source(tmp_path, clock, history_until=20, time_scale=6), clock)
    steps = {b.time_us - a.time_us for a, b in zip(sink.history[:-1], sink.history[1:], strict=True)}
    assert steps == {3_600_000_000}


async def test_broken_rows_are_counted_and_declared(tmp_path: Path) -> None:
    ims_file(tmp_path, broken=(4, 5, 12))
    clock = SimulatedClock()
    made = source(tmp_path, clock, history_until=8)
    sink = await play(made, clock)
    assert made.skipped == 3
    assert len(sink.history) + len(sink.live) == 17
    assert [end - start for start, end, _ in sink.gaps] == [1_800_000_000, 1_200_000_000]


async def test_waveforms(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(6, 64, 2)).astype(np.float32)
    np.savez(
        tmp_path / "w.npz", acceleration_g=values, time_of_day_s=100.0 + 10 * np.arange(6), sample_rate_hz=[25_600.0]
    )
    clock = SimulatedClock()
    made = source(
        tmp_path, clock, path="w.npz", columns={}, waveforms=["h", "v"], waveform_component="b", history_until=4
    )
    sink = await play(made, clock)
    assert [historical for _, historical in sink.waves] == [True] * 8 + [False] * 4
    assert np.allclose(sink.waves[1][0].values, values[0, :, 1])
    assert sink.description is not None and {metric.kind for metric in sink.description.metrics} == {"waveform"}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"path": "nowhere.csv"}, "No such file"),
        ({"columns": {"Bearing 9": {"metric": "x"}}}, "Bearing 9"),
        ({"history_until": 1.5}, "fraction"),
        ({"history_until": 500}, "20 rows"),
        ({"history_until": "soon"}, "not a time"),
        ({"cut_at": "soon"}, "cut_at"),
    ],
)
async def test_what_only_a_person_can_mend(tmp_path: Path, settings: dict[str, Any], complaint: str) -> None:
    ims_file(tmp_path)
    with pytest.raises(BadConfig, match=complaint):
        await source(tmp_path, SimulatedClock(), **settings).run(Sink())


def test_nothing_mapped_is_refused() -> None:
    with pytest.raises(BadConfig, match="columns"):
        parse_config(replay.Config, {"path": "x.csv"}, "source")


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "1e300", "1970-01-01", "2150-01-01", "2004.13.12.10.32.39", "12.13.2004", "x" * 99]
)
def test_unbelievable_times_are_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_time_us(text)


def test_the_same_moment_in_many_writings() -> None:
    expected = parse_time_us("2004-02-12T10:32:39Z")
    for text in (
        "2004.02.12.10.32.39",
        "2004-02-12 10:32:39",
        "12.02.2004 10:32:39",
        "1076581959",
        "1076581959000",
        "2004-02-12T11:32:39+01:00",
    ):
        assert parse_time_us(text) == expected
