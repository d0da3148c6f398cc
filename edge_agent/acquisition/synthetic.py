"""Made-up vitals with known properties, for tests and load: autocorrelated noise, a daily cycle, a drift if wanted.

The same seed gives the same values. The first ``history_h`` hours are handed over at once as history.
"""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass

from edge_agent.acquisition.api import Sink, SourceDeps
from fleet_core.errors import BadConfig
from fleet_core.telemetry import MetricSpec, Sample, to_us

SAMPLE = """\
channels = 4
period_s = 60.0
seed = 7
drift_start_h = 48.0
drift_per_day = 2.0
"""

HISTORY_CHUNK = 200


@dataclass(frozen=True, slots=True)
class Config:
    """Settings. ``autocorrelation`` 0..1 is that of neighbouring samples; amplitudes are in units of the noise's sigma.

    Channel 0 drifts by ``drift_per_day`` sigmas from ``drift_start_h`` hours after the first sample on (negative:
    never). ``samples`` bounds the run (0: without end). With ``seed`` 0 the agent's random source is used.
    """

    channels: int = 8
    period_s: float = 60.0
    seed: int = 0
    component: str = ""
    unit: str = "1"
    mean: float = 10.0
    sigma: float = 1.0
    autocorrelation: float = 0.6
    daily_amplitude: float = 1.0
    drift_start_h: float = -1.0
    drift_per_day: float = 1.0
    history_h: float = 0.0
    samples: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= 64 or not 0 <= self.autocorrelation < 1:
            raise BadConfig("channels must be 1..64 and autocorrelation 0..1")
        if not self.period_s > 0 or not self.sigma >= 0 or not 0 <= self.history_h <= 24 * 366 or self.samples < 0:
            raise BadConfig("period_s must be above 0; sigma, samples and history_h (at most a year) not negative")


class Synthetic:
    """See the module."""

    def __init__(self, config: Config, deps: SourceDeps) -> None:
        self._config = config
        self._deps = deps
        self._rng = random.Random(config.seed) if config.seed else deps.rng
        self._noise = [0.0] * config.channels
        self._names = [f"synthetic_{index}" for index in range(config.channels)]

    async def run(self, sink: Sink) -> None:
        config, clock = self._config, self._deps.clock
        metrics = tuple(MetricSpec(name, config.unit, config.component, config.period_s) for name in self._names)
        await sink.describe(dataclasses.replace(self._deps.asset, metrics=metrics))
        past = int(config.history_h * 3600 / config.period_s)
        start_us = to_us(clock.now()) - round(past * config.period_s * 1e6)
        chunk: list[Sample] = []
        for index in range(past):
            chunk.extend(self._row(index, start_us))
            if len(chunk) >= HISTORY_CHUNK or index == past - 1:
                await sink.samples(chunk, historical=True)
                chunk = []
        index = past
        while not config.samples or index < past + config.samples:
            due_us = start_us + round(index * config.period_s * 1e6)
            wait_s = (due_us - to_us(clock.now())) / 1e6
            if wait_s > 0:
                await clock.sleep(wait_s)
            await sink.samples(self._row(index, start_us))
            index += 1

    def _row(self, index: int, start_us: int) -> list[Sample]:
        config = self._config
        hours = index * config.period_s / 3600
        day = config.daily_amplitude * math.sin(2 * math.pi * hours / 24)
        fresh = math.sqrt(1 - config.autocorrelation**2)
        samples = []
        for channel, name in enumerate(self._names):
            self._noise[channel] = config.autocorrelation * self._noise[channel] + fresh * self._rng.gauss(0, 1)
            drift = 0.0
            if channel == 0 and 0 <= config.drift_start_h < hours:
                drift = config.drift_per_day * (hours - config.drift_start_h) / 24
            value = config.mean + config.sigma * (self._noise[channel] + day + drift)
            samples.append(Sample(name, start_us + round(index * config.period_s * 1e6), value))
        return samples


def build(config: Config, deps: SourceDeps) -> Synthetic:
    return Synthetic(config, deps)
