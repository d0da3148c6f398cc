"""The gate before publication: does the int8 network score as the float32 network does, and is its vote worth having?

Both networks run in LiteRT, as on the device, on courses that training never saw. ``Parity.correlation`` is the
correlation of their scores over healthy and faulty windows; below ``LEAST_CORRELATION`` nothing is published. ``value``
compares the autoencoder with plain statistics by the area under the ROC curve (AUC) between the faulty and the healthy
life of each simulated channel: 0.5 is chance, 1 a perfect separation.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.detection.detectors import _windows
from edge_agent.detection.detectors.autoencoder import Judge, load_judge
from fleet_core.errors import BadConfig
from models.autoencoder import data
from models.autoencoder.data import FloatArray
from models.autoencoder.export import FLOAT_MODEL, INT8_MODEL, MANIFEST

LEAST_CORRELATION = 0.995
HELD_BACK_SEED = 1_000_003
CHANNELS = 120
TICKS = 512


@dataclass(frozen=True, slots=True)
class Parity:
    """``correlation`` of int8 with float32 scores; healthy-only correlation; share of clipped inputs; windows used."""

    correlation: float
    correlation_healthy: float
    saturated_share: float
    windows: int

    @property
    def passed(self) -> bool:
        return min(self.correlation, self.correlation_healthy) >= LEAST_CORRELATION


def load(folder: Path) -> tuple[Judge, Judge, dict[str, Any]]:
    """The int8 and the float32 judge and the manifest of a folder. Raises BadConfig."""
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        small, exact = (load_judge((folder / name).read_bytes(), text) for name in (INT8_MODEL, FLOAT_MODEL))
    except OSError as error:
        raise BadConfig(f"{folder}: {error.strerror or error}; train first, or name the folder") from None
    told: dict[str, Any] = json.loads(text)
    return small, exact, told


def held_back(seed: int, purpose: int) -> np.random.Generator:
    """Randomness that training with ``seed`` did not use: 0 for the weights, 1 for parity, 2 for the value."""
    return np.random.default_rng((HELD_BACK_SEED, seed, purpose))


def parity(small: Judge, exact: Judge, seed: int) -> Parity:
    """Compare both on held-back healthy and faulty windows.

    A correlation alone would be carried by a few huge scores, so the faulty and healthy windows are compared
    together and the healthy ones, where limits are drawn, once more alone.
    """
    rng = held_back(seed, 1)
    course = data.healthy(CHANNELS, 256, TICKS, rng)
    healthy = data.views(course, small.least_spread, 8).reshape(-1, _windows.WIDTH)
    broken = [
        data.views(data.faulty(course, fault, course.learnt, rng), small.least_spread, 16).reshape(-1, _windows.WIDTH)
        for fault in data.FAULTS
    ]
    views = np.concatenate((healthy, *broken))
    small.saturated = small.seen = 0
    one, other = small.scores(views), exact.scores(views)
    count = len(healthy)
    return Parity(
        float(np.corrcoef(one, other)[0, 1]),
        float(np.corrcoef(one[:count], other[:count])[0, 1]),
        small.saturated / small.seen,
        len(views),
    )


def value(judge: Judge, seed: int) -> dict[str, dict[str, float]]:
    """Mean AUC by fault of the autoencoder and of plain statistics over the same windows."""
    rng = held_back(seed, 2)
    course = data.healthy(CHANNELS, 256, TICKS, rng)
    calm = _statistics(judge, course)
    found = {}
    for fault in data.FAULTS:
        loud = _statistics(judge, data.faulty(course, fault, course.learnt, rng))
        found[fault] = {name: round(_auc(calm[name], loud[name]), 3) for name in calm}
    return found


def figures(small: Judge, exact: Judge, seed: int) -> dict[str, Any]:
    """Parity and value, rounded, for the manifest and for people."""
    measured = parity(small, exact, seed)
    return {
        "parity": {name: round(number, 6) for name, number in asdict(measured).items()},
        "value": value(small, seed),
        "value_channels": CHANNELS,
    }


def _statistics(judge: Judge, course: data.Course) -> dict[str, FloatArray]:
    views = data.views(course, judge.least_spread, 8)
    flat = views.reshape(-1, _windows.WIDTH)
    newest = views[:, :, _windows.WINDOW - 3 : _windows.WINDOW]
    deviations = views[:, :, : _windows.WINDOW]
    return {
        "autoencoder": judge.scores(flat).reshape(views.shape[:2]),
        "level": np.abs(np.median(newest, axis=2)),
        "mean": np.abs(deviations.mean(axis=2)),
        "power": np.sqrt((deviations**2).mean(axis=2)),
        "shape": np.sqrt((views[:, :, _windows.WINDOW :] ** 2).mean(axis=2)),
    }


def _auc(calm: FloatArray, loud: FloatArray) -> float:
    """Mean over channels of the probability that a faulty window (n, channels) scores above a healthy one."""
    areas = []
    for healthy, broken in zip(calm.T, loud.T, strict=True):
        order = np.sort(healthy)
        below, upto = np.searchsorted(order, broken, "left"), np.searchsorted(order, broken, "right")
        areas.append(float((below + upto).mean() / (2 * len(order))))
    return float(np.mean(areas))
