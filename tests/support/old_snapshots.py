"""Snapshots that earlier versions wrote, and what those versions said of the samples that came next.

Each case is one asset in one condition. ``tests/edge_agent/snapshots/NAME.npz`` holds its ``snapshot``, the samples
that followed (``times_us`` (n,), ``values`` (n, vitals), NaN where nothing was read; ``bursts``, ``bursts_us``), and
``verdicts``: what the version that wrote the snapshot said of them, as JSON. A file is never written anew: the
version that wrote it is gone.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.acquisition.api import AssetDescription
from edge_agent.detection.api import AssetDetection, Event
from edge_agent.detection.input.maintenance import Declared, Relearn, Window
from edge_agent.detection.pipeline import build_detection
from fleet_core.assets import AssetClass
from fleet_core.telemetry import ComponentSpec, Finding, MetricSpec, Sample, Waveform

FOLDER = Path(__file__).parents[1] / "edge_agent" / "snapshots"
START_US = 1_790_000_000_000_000 // 86_400_000_000 * 86_400_000_000
MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000
PLAIN = {name: {} for name in ("aakr", "cusum", "ewma", "level", "pca", "spectral", "virtual")}
BLOCK_ROWS = 8

ROBOT = AssetDescription(
    "robot-17",
    AssetClass.ROBOT,
    "AMR-200",
    "S-17",
    (
        MetricSpec("vibration_rms_g", "[g]", "drive_bearing", 600),
        MetricSpec("bearing_temperature_cel", "Cel", "drive_bearing", 600),
        MetricSpec("motor_temperature_cel", "Cel", "drive_motor", 600),
        MetricSpec("motor_current_a", "A", "drive_motor", 600),
        MetricSpec("speed_rpm", "/min", "", 600),
    ),
    (ComponentSpec("drive_bearing", "bearing", "BRG-1"), ComponentSpec("drive_motor", "motor", "M-1")),
)
PUMP = AssetDescription(
    "pump-3", AssetClass.ROBOT, "P", "S-3", (MetricSpec("flow", "L/min"), MetricSpec("room_temperature", "Cel"))
)
LISTENER = AssetDescription(
    "robot-18",
    AssetClass.ROBOT,
    "AMR-200",
    "S-18",
    (
        MetricSpec("vibration", "[g]", "drive_bearing", 600, kind="waveform"),
        MetricSpec("bearing_temperature_cel", "Cel", "drive_bearing", 600),
        MetricSpec("speed_rpm", "/min", "", 600),
    ),
    (ComponentSpec("drive_bearing", "bearing", "BRG-2"),),
)
BEARING = {"balls": 9, "ball_diameter_mm": 7.9, "pitch_diameter_mm": 39.0}
PRIOR = {
    "components": {
        "bearing": {
            "assets": 9,
            "exceeds": 0.1,
            "channels": {
                "vibration_rms_g": {
                    "centre": 0.1,
                    "between": 0.01,
                    "within": 0.005,
                    "low": 0.07,
                    "high": 0.14,
                    "low_limit": 0.05,
                    "high_limit": 0.16,
                    "unit": "[g]",
                }
            },
        }
    }
}


@dataclass(frozen=True)
class Inputs:
    """Rows of readings (n, vitals) at their times (n,), and bursts (k, samples) at theirs (k,)."""

    times_us: np.ndarray
    values: np.ndarray
    bursts_us: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    bursts: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))


@dataclass(frozen=True)
class Case:
    """An asset, how it is judged, and what it went through before the snapshot and after it."""

    asset: AssetDescription
    settings: Mapping[str, Any]
    before: Callable[[], Inputs]
    after: Callable[[], Inputs]
    blocks: bool = False
    declared: Declared | None = None

    @property
    def names(self) -> list[str]:
        """Its vitals that are read as numbers."""
        return [each.name for each in self.asset.metrics if each.kind == "float"]

    def build(self) -> AssetDetection:
        """Its detection, which knows nothing yet."""
        return build_detection(self.asset, self.settings)

    def play(self, detection: AssetDetection, inputs: Inputs) -> list[Any]:
        """What detection says of the inputs, as JSON values."""
        return self._play_blocks(detection, inputs) if self.blocks else self._play_samples(detection, inputs)

    def _play_samples(self, detection: AssetDetection, inputs: Inputs) -> list[Any]:
        said: list[Any] = []
        heard = 0
        for time_us, row in zip(inputs.times_us.tolist(), inputs.values.tolist(), strict=True):
            events: list[Event] = []
            while heard < len(inputs.bursts_us) and inputs.bursts_us[heard] <= time_us:
                burst = array("f", inputs.bursts[heard].tolist())
                wave = Waveform("vibration", int(inputs.bursts_us[heard]), 6400.0, burst, "[g]")
                events += detection.on_waveform(wave).events
                heard += 1
            read = [Sample(name, time_us, value) for name, value in zip(self.names, row, strict=True) if value == value]
            events += detection.on_samples(read).events
            said.append([_told(events), [asdict(each) for each in detection.views()]])
        return json.loads(json.dumps(said))

    def _play_blocks(self, detection: AssetDetection, inputs: Inputs) -> list[Any]:
        said: list[Any] = []
        for start in range(0, len(inputs.times_us), BLOCK_ROWS):
            each = slice(start, start + BLOCK_ROWS)
            block = detection.on_block(self.names, inputs.times_us[each], inputs.values[each])
            shown = [[v.score.tolist(), v.states, v.top_channels] for v in block.verdicts.values()]
            said.append([_told(list(block.events)), shown])
        return json.loads(json.dumps(said))


def _told(events: Sequence[Event]) -> list[Any]:
    return [
        json.loads(each.to_json()) if isinstance(each, Finding) else [str(part) for part in asdict(each).values()]
        for each in events
    ]


def _robot(ticks: int, start: int, seed: int, wear: float = 0.0, step: float = 0.0, odd: bool = False) -> Inputs:
    """Ten-minute readings that follow the speed; ``wear`` grows a tick, ``step`` stands; ``odd``: some are lost."""
    rng = np.random.default_rng(seed)
    load = np.sin(np.arange(start, start + ticks) * 2 * np.pi / 48) + 0.3 * rng.normal(size=ticks)
    noise = rng.normal(size=(ticks, 4))
    values = np.column_stack(
        (
            0.1 + 0.01 * load + 0.003 * noise[:, 0] + wear * np.arange(ticks) + step,
            40 + 2 * load + 0.4 * noise[:, 1],
            50 + 3 * load + 0.5 * noise[:, 2],
            5 + 0.5 * load + 0.1 * noise[:, 3],
            1500 + 100 * load,
        )
    ).round(5)
    if odd:
        values[rng.random(values.shape) < 0.05] = np.nan
    return Inputs(START_US + (start + np.arange(ticks, dtype=np.int64)) * 10 * MINUTE_US, values)


def _pump(hours: int, start: int, seed: int, bump: tuple[int, int, float] = (0, 0, 0.0)) -> Inputs:
    """Hourly readings with a rhythm of the day; ``bump``: hours from and to, and how much more flow there is."""
    rng = np.random.default_rng(seed)
    at = np.arange(start, start + hours)
    of_day = np.sin(at * 2 * np.pi / 24)
    flow = 20 + 3 * of_day + 0.3 * rng.normal(size=hours)
    flow[(at >= bump[0]) & (at < bump[1])] += bump[2]
    values = np.column_stack((flow, 22 + 4 * of_day + 0.4 * rng.normal(size=hours))).round(4)
    return Inputs(START_US + at.astype(np.int64) * HOUR_US, values)


def _minutes(count: int, start: int, seed: int, bump: tuple[int, int, float] = (0, 0, 0.0)) -> Inputs:
    """As ``_pump``, a reading a minute."""
    hourly = _pump(count, start, seed, bump)
    return Inputs(START_US + (hourly.times_us - START_US) // 60, hourly.values)


def _waves(ticks: int, start: int, seed: int, level: float = 0.1) -> Inputs:
    """Ten-minute readings and a burst of vibration with each second one."""
    rng = np.random.default_rng(seed)
    times_us = START_US + (start + np.arange(ticks, dtype=np.int64)) * 10 * MINUTE_US
    values = np.column_stack((40 + 0.4 * rng.normal(size=ticks), 1500 + 20 * rng.normal(size=ticks))).round(3)
    bursts = (level * rng.normal(size=(ticks // 2, 512))).astype(np.float32)
    return Inputs(times_us, values, times_us[::2][: len(bursts)] + 1_000_000, bursts)


def _standing(inputs: Inputs, first: int, last: int) -> Inputs:
    """The same with the machine at a stop from one row to another."""
    values = inputs.values.copy()
    values[first:last, 3:5] = (0.01, 0.0)
    return Inputs(inputs.times_us, values)


_SHORT = {"learn_ticks": 24, "learn_span_h": 0.0, "slow_ticks": 2, "detectors": PLAIN}
_DAYS = {"learn_ticks": 24, "learn_span_h": 24.0, "slow_ticks": 4, "detectors": PLAIN, "novelty": True}

CASES: dict[str, Case] = {
    "learning": Case(
        ROBOT, {"learn_ticks": 48, "detectors": PLAIN}, lambda: _robot(37, 0, 1, odd=True), lambda: _robot(40, 37, 2)
    ),
    "seasons": Case(PUMP, _DAYS, lambda: _pump(24 * 17, 0, 3), lambda: _pump(60, 24 * 17, 4, (430, 450, 6.0)), True),
    "waiting": Case(PUMP, _SHORT, lambda: _minutes(101, 0, 21), lambda: _minutes(120, 101, 22, (160, 190, 4.0))),
    "young_episode": Case(
        PUMP, _DAYS, lambda: _pump(135, 0, 5, (110, 140, 2.4)), lambda: _pump(80, 135, 6, (110, 140, 2.4)), True
    ),
    "alarm": Case(ROBOT, _SHORT, lambda: _alarmed(), lambda: _robot(30, 170, 9, wear=0.002, step=0.02)),
    "trial": Case(ROBOT, _SHORT, lambda: _stepped(), lambda: _robot(40, 40, 12, step=0.06)),
    "default_detectors": Case(ROBOT, {"learn_span_h": 0.0}, lambda: _robot(150, 0, 13), lambda: _robot(20, 150, 14)),
    "waveforms": Case(
        LISTENER,
        {**_SHORT, "waveforms": {"vibration": {"bearing": BEARING, "speed": "speed_rpm", "velocity": True}}},
        lambda: _waves(61, 0, 15),
        lambda: _waves(30, 61, 16, level=0.3),
    ),
    "class_prior": Case(
        ROBOT,
        {"learn_span_h": 0.0, "detectors": PLAIN, "prior": PRIOR},
        lambda: _robot(20, 0, 17, step=0.2),
        lambda: _robot(30, 20, 18, step=0.2),
    ),
    "standstill": Case(
        ROBOT,
        _SHORT,
        lambda: _standing(_robot(90, 0, 19), 80, 90),
        lambda: _standing(_robot(60, 90, 20), 0, 8),
        declared=Declared(
            (Window(START_US + 130 * 10 * MINUTE_US, START_US + 140 * 10 * MINUTE_US, "", "drive_motor", "oil"),),
            (Relearn(START_US + 60 * 10 * MINUTE_US, "", "drive_bearing"),),
        ),
    ),
}


def _alarmed() -> Inputs:
    return _after(_robot(130, 0, 7), _robot(40, 130, 8, wear=0.0006))


def _stepped() -> Inputs:
    return _after(_robot(30, 0, 10), _robot(10, 30, 11, step=0.06))


def _after(first: Inputs, second: Inputs) -> Inputs:
    return Inputs(np.concatenate((first.times_us, second.times_us)), np.concatenate((first.values, second.values)))


def kept(name: str) -> tuple[bytes, Inputs, list[Any]]:
    """A case's snapshot, the inputs that followed, and what was said of them."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        inputs = Inputs(file["times_us"], file["values"], file["bursts_us"], file["bursts"])
        return file["snapshot"].tobytes(), inputs, json.loads(file["verdicts"].tobytes())
