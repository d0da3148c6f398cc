"""Our detection alone, timed in a process of its own: prints one JSON document.

    python -m benchmarks.edge.stack statistics     # as a device without the LiteRT runtime has it
    python -m benchmarks.edge.stack everything     # with the int8 detector

Figures: microseconds for one eight-channel sample, for a row within a block of 64, for one window of the int8 model;
milliseconds for two bursts of 2,560 samples (features and detection); memory after learning. A figure that cannot be
measured is null, with its reason under ``missing``. Times are medians of processor time over rounds, so that other
processes do not count. Settings are the defaults; rows are a minute apart, so that every row is a tick and is judged.
``ROWS`` healthy rows come first, after which both planes have learnt.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import statistics
import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from benchmarks.edge.choice import LITERT_DETECTOR, WITHOUT_RUNTIME, detectors
from benchmarks.edge.memory import Memory, NotMeasured, process_memory
from edge_agent.acquisition.api import AssetDescription
from edge_agent.detection.api import AssetDetection
from edge_agent.detection.pipeline import build_detection
from edge_agent.detection.settings import DetectionSettings
from fleet_core.assets import AssetClass
from fleet_core.errors import BadConfig
from fleet_core.telemetry import ComponentSpec, DetectionState, MetricSpec, Sample, Waveform

CHANNELS = 8
ROWS = 4096
BURSTS = 400
BURST_SAMPLES = 2560
SAMPLE_RATE_HZ = 25_600.0
BLOCK_ROWS = 64
START_US = 1_790_000_000_000_000
STEP_US = 60_000_000
BURST_STEP_US = 600_000_000
INT8 = f"edge_agent.detection.detectors.{LITERT_DETECTOR}"
NAMES = [f"channel_{index}" for index in range(CHANNELS)]


def main(argv: list[str]) -> int:
    figures: dict[str, object] = {}
    missing: dict[str, str] = {}
    settings = DetectionSettings(detectors=detectors(argv[0]))
    work: dict[str, Callable[[], object]] = {
        "memory": lambda: asdict(memory_after_learning(settings)),
        "sample_us": lambda: sample_us(settings),
        "sample_1hz_us": lambda: sample_1hz_us(settings),
        "sample_block64_us": lambda: block_row_us(settings),
    }
    if argv[0] == WITHOUT_RUNTIME:
        work["waveform_ms"] = lambda: waveform_ms(settings)
    else:
        work["int8_window_us"] = int8_window_us
    for name, measure in work.items():
        try:
            figures[name] = measure()
        except NotMeasured as error:
            figures[name], missing[name] = None, str(error)
    json.dump({"figures": figures, "missing": missing}, sys.stdout)
    return 0


def memory_after_learning(settings: DetectionSettings) -> Memory:
    """Memory of this process: interpreter, numpy, detection and one asset whose detection has learnt."""
    detection = learnt(settings)
    gc.collect()
    used = process_memory()
    del detection
    return used


def sample_us(settings: DetectionSettings, rounds: int = 20, samples: int = 100) -> float:
    """One eight-channel sample through ``on_samples``; each is a tick and is judged."""
    detection, table = learnt(settings), healthy(rounds * samples, seed=2)
    rows = iter(handed_over(table, ROWS))

    def work() -> None:
        for _ in range(samples):
            detection.on_samples(next(rows))

    return median_s(work, rounds) / samples * 1e6


def sample_1hz_us(settings: DetectionSettings, minutes: int = 16) -> float:
    """One eight-channel sample where there is one a second: sixty make a tick. The mean, ticks included."""
    detection, per_tick = learnt(settings), STEP_US // 1_000_000
    rows = handed_over(healthy(minutes * per_tick, seed=2), ROWS * per_tick, step_us=1_000_000)

    def work() -> None:
        for samples in rows:
            detection.on_samples(samples)

    return median_s(work, 1) / len(rows) * 1e6


def block_row_us(settings: DetectionSettings, rounds: int = 40) -> float:
    """One row of a block of 64 through ``on_block``."""
    detection = learnt(settings)
    table = healthy(rounds * BLOCK_ROWS, seed=2)
    blocks = iter(range(0, len(table), BLOCK_ROWS))

    def work() -> None:
        start = next(blocks)
        detection.on_block(NAMES, times_of(ROWS + start, BLOCK_ROWS), table[start : start + BLOCK_ROWS])

    return median_s(work, rounds) / BLOCK_ROWS * 1e6


def waveform_ms(settings: DetectionSettings, rounds: int = 30) -> float:
    """Two bursts, as one reading of a bearing gives them every ten minutes, through ``on_waveform``."""
    metrics = tuple(MetricSpec(name, "[g]", "bearing", 1.0, "waveform") for name in ("horizontal", "vertical"))
    detection = build_detection(_asset(metrics, "bearing"), settings)
    readings = iter(_readings(metrics, BURSTS + rounds))
    for _ in range(BURSTS):
        for burst in next(readings):
            detection.on_waveform(burst)
    _check_learnt(detection)
    return median_s(lambda: [detection.on_waveform(burst) for burst in next(readings)], rounds) * 1e3


def int8_window_us(rounds: int = 20, windows: int = 100) -> float:
    """One window of one channel through the shipped network: quantise, run, read back; no features, no threshold."""
    if importlib.util.find_spec(INT8) is None:
        raise NotMeasured("this version of the agent has no int8 network")
    try:
        network = importlib.import_module(INT8).shipped().network
    except BadConfig as error:
        raise NotMeasured(str(error)) from None
    views = np.random.default_rng(4).normal(size=(windows, 1, network.width))
    network.run(views[0])
    return median_s(lambda: [network.run(view) for view in views], rounds) / windows * 1e6


def learnt(settings: DetectionSettings, rows: int = ROWS) -> AssetDetection:
    """The detection of an asset that has seen ``rows`` healthy rows. Raises NotMeasured when that is too few."""
    metrics = tuple(MetricSpec(name, "1", "unit", STEP_US / 1e6) for name in NAMES)
    detection, table = build_detection(_asset(metrics, "motor"), settings), healthy(rows, seed=1)
    for start in range(0, rows, BLOCK_ROWS):
        block = table[start : start + BLOCK_ROWS]
        detection.on_block(NAMES, times_of(start, len(block)), block)
    _check_learnt(detection)
    return detection


def times_of(first_row: int, count: int) -> np.ndarray:
    """Device times (count,) of rows, in microseconds."""
    return START_US + (first_row + np.arange(count, dtype=np.int64)) * STEP_US


def healthy(rows: int, seed: int) -> np.ndarray:
    """Autocorrelated noise (rows, CHANNELS) of mean 10 and deviation 1; neighbouring channels share some of it."""
    rng = np.random.default_rng(seed)
    fresh = rng.normal(size=(rows, CHANNELS)) + 0.5 * rng.normal(size=(rows, 1))
    noise = np.empty_like(fresh)
    noise[0] = fresh[0]
    for row in range(1, rows):
        noise[row] = 0.6 * noise[row - 1] + 0.8 * fresh[row]
    return 10.0 + noise / noise.std()


def handed_over(table: np.ndarray, first_row: int, step_us: int = STEP_US) -> list[list[Sample]]:
    """The rows as a source hands them over, one list for each row."""
    return [
        [Sample(name, START_US + (first_row + index) * step_us, value) for name, value in zip(NAMES, row, strict=True)]
        for index, row in enumerate(table.tolist())
    ]


def median_s(work: Callable[[], object], rounds: int) -> float:
    """Seconds of processor time of one round; the median over ``rounds``."""
    taken_s = []
    for _ in range(rounds):
        started_s = time.process_time()
        work()
        taken_s.append(time.process_time() - started_s)
    return statistics.median(taken_s)


def _asset(metrics: tuple[MetricSpec, ...], kind: str) -> AssetDescription:
    slot = metrics[0].component
    return AssetDescription("bench-asset", AssetClass.ROBOT, "", "", metrics, (ComponentSpec(slot, kind, "S-1"),))


def _readings(metrics: tuple[MetricSpec, ...], count: int) -> list[list[Waveform]]:
    """Noise, as one burst for each metric at each reading."""
    rng = np.random.default_rng(3)
    return [
        [
            Waveform(
                metric.name, START_US + index * BURST_STEP_US, SAMPLE_RATE_HZ, array("f", values.tobytes()), metric.unit
            )
            for metric, values in zip(metrics, bursts, strict=True)
        ]
        for index, bursts in enumerate(rng.normal(size=(count, len(metrics), BURST_SAMPLES)).astype(np.float32))
    ]


def _check_learnt(detection: AssetDetection) -> None:
    if any(view.state is DetectionState.LEARNING for view in detection.views()):
        raise NotMeasured("learning was not over after the rows that were given")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
