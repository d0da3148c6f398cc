"""Does a channel still move the way it did? An int8 autoencoder's second vote, on LiteRT.

The network knows nothing of this asset: it was trained on the courses of many simulated healthy channels
(``models.autoencoder``) and looks at one channel at a time, its last 32 deviations and their shape
(``_windows``), standardised by what the channel showed while healthy. What it cannot rebuild is
unlike healthy life: hunting, sticking, bursts, another roughness, beside plain distance.

The residual is taken against the raw float input. An int8 input clips at a few sigmas, and a rebuilt clipped fault
looks like a well rebuilt one; so the input is clipped for the network only, and what was clipped is counted
(``saturated``). The statistic is the root of the weighted mean square residual, about 1 for healthy windows,
linear in the deviation where that is large.

A channel is judged every ``every_ticks`` ticks; in between its statistic stands. Without the runtime ``unavailable``
says why and ``build`` raises BadConfig; the other detectors do not need this one. The shipped network is believed
only with the digest and the input contract that its manifest states.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection.detectors import _litert, _windows
from edge_agent.detection.detectors.api import DetectorDeps
from edge_agent.detection.restored import positive, sized
from fleet_core.errors import BadConfig

SAMPLE = """\
every_ticks = 4
"""

ARTIFACTS = "edge_agent.detection.artifacts"
MODEL = "autoencoder_int8.tflite"
MANIFEST = "autoencoder.json"
CONTRACT = 1
INPUT_LIMIT = 4.0
"""Sigmas (of deviations and of shapes) up to which the network sees; beyond, the residual speaks for itself."""
CHUNK_WINDOWS = 1024


@dataclass(frozen=True, slots=True)
class Config:
    """``every_ticks``: ticks from one judgement to the next, 1..32."""

    every_ticks: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.every_ticks <= _windows.WINDOW:
            raise BadConfig(f"every_ticks must be 1..{_windows.WINDOW}")


@dataclass(slots=True)
class Judge:
    """A network with the weights (WIDTH,) of its residuals and the least healthy spreads of the shapes.

    ``saturated`` and ``seen`` count the values that were clipped for the network, and all that were judged.
    """

    network: _litert.Network
    weights: FloatArray
    least_spread: FloatArray
    saturated: int = 0
    seen: int = 0

    def scores(self, views: FloatArray) -> FloatArray:
        """Scores (n,) of raw, unclipped views (n, WIDTH)."""
        clipped = np.minimum(np.maximum(views, -INPUT_LIMIT), INPUT_LIMIT)
        self.saturated += int(np.count_nonzero(clipped != views))
        self.seen += views.size
        residual = views - self.network.run(clipped)
        scores: FloatArray = np.sqrt((residual * residual * self.weights).sum(axis=1))
        return scores


class Autoencoder:
    """``memory`` (WINDOW + 2, channels): the last rows, the statistics that stand, and the number of ticks taken."""

    per_channel = True
    second_vote = True

    def __init__(self, config: Config, deps: DetectorDeps, judge: Judge) -> None:
        self._every = config.every_ticks
        self._judge = judge
        self.memory: FloatArray = np.zeros((_windows.WINDOW + 2, deps.channels))
        self._scale = _windows.fit_scale(np.zeros((0, deps.channels)), judge.least_spread)

    @property
    def saturated(self) -> tuple[int, int]:
        """How many values the network saw clipped, of how many; of all components of this process."""
        return self._judge.saturated, self._judge.seen

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        self._scale = _windows.fit_scale(rows, self._judge.least_spread)

    def run(self, rows: FloatArray) -> FloatArray:
        if not len(rows):
            return rows
        before = int(self.memory[-1, 0])
        stretch = np.concatenate((self.memory[: _windows.WINDOW], rows))
        ticks = before + 1 + np.arange(len(rows))
        due = np.flatnonzero(ticks % self._every == 0)
        judged = np.concatenate((self.memory[-2][None], *self._chunks(stretch, due + _windows.WINDOW)))
        statistics: FloatArray = judged[ticks // self._every - before // self._every]
        self.memory = np.concatenate((stretch[-_windows.WINDOW :], judged[-1:], np.full((1, rows.shape[1]), ticks[-1])))
        return statistics

    def contributions(self) -> FloatArray:
        return self.memory[-2]

    def room(self, rows: int) -> FloatArray:
        return np.ones(self.memory.shape[1])

    def model(self) -> dict[str, Any]:
        return {"centre": self._scale.centre, "spread": self._scale.spread}

    def load(self, model: dict[str, Any]) -> None:
        shape = self._scale.centre.shape
        self._scale = _windows.ShapeScale(sized(model["centre"], *shape), positive(model["spread"], *shape))

    def _chunks(self, stretch: FloatArray, ends: Any) -> list[FloatArray]:
        channels = stretch.shape[1]
        size = max(1, CHUNK_WINDOWS // channels)
        return [
            self._judge.scores(view(stretch, ends[start : start + size], self._scale)).reshape(-1, channels)
            for start in range(0, len(ends), size)
        ]


def view(stretch: FloatArray, ends: Any, scale: _windows.ShapeScale) -> FloatArray:
    """What the network is shown (len(ends) * channels, WIDTH) of rows (n, channels): deviations, then shapes."""
    course = _windows.windows(stretch, ends)
    return np.concatenate((course, scale.standardise(_windows.shapes(course))), axis=1)


def build(config: Config, deps: DetectorDeps) -> Autoencoder:
    return Autoencoder(config, deps, shipped())


def unavailable() -> str:
    """Why this detector cannot be built here, in words with the mend; empty when it can."""
    return _litert.runtime().reason


@functools.cache
def shipped() -> Judge:
    """The network in this distribution, loaded once for the process. Raises BadConfig."""
    folder = resources.files(ARTIFACTS)
    try:
        content, text = (folder / MODEL).read_bytes(), (folder / MANIFEST).read_text(encoding="utf-8")
    except OSError as error:
        raise BadConfig(f"the autoencoder's files are missing; install the distribution again ({error})") from None
    return load_judge(content, text)


def load_judge(content: bytes, manifest: str) -> Judge:
    """A judge from a network and its manifest. Raises BadConfig when they do not fit each other or this version."""
    try:
        told = json.loads(manifest)
        digests, contract = told["sha256"].values(), told["contract"]
        weights = np.array(contract["weights"], dtype=np.float64)
        least_spread = np.array(contract["least_spread"], dtype=np.float64)
        known = (contract["version"], contract["window"], contract["shapes"], contract["input_limit"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadConfig(f"the autoencoder's manifest cannot be read: {error!r}") from None
    if hashlib.sha256(content).hexdigest() not in digests:
        raise BadConfig("the autoencoder's network is not the one its manifest names (SHA-256 differs)")
    if known != (CONTRACT, _windows.WINDOW, list(_windows.SHAPES), INPUT_LIMIT):
        raise BadConfig("the autoencoder's manifest states another input contract than this version's")
    if weights.shape != (_windows.WIDTH,) or least_spread.shape != (len(_windows.SHAPES),):
        raise BadConfig("the autoencoder's manifest has weights of another width")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and (least_spread > 0).all()):
        raise BadConfig("the autoencoder's manifest has weights or spreads out of range")
    network = _litert.Network(content)
    if network.width != _windows.WIDTH:
        raise BadConfig(f"the autoencoder's network takes {network.width} values, not {_windows.WIDTH}")
    return Judge(network, weights, least_spread)
