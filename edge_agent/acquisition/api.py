"""The interface of a source of vitals: data acquisition in the words of ISO 13374.

A source reads one asset. It runs as one task under the agent, which owns retry, buffering, time-outs and metrics:

* ``run`` describes the asset first, then hands over samples until it is cancelled or has no more to give.
* It awaits every hand-over; that await is the back-pressure. A source that cannot wait, because its device keeps
  talking, drops data and declares the loss with ``gap``.
* It raises ``Retryable`` when the device is away (the agent restarts it with growing pauses, logs the failure once
  and the recovery once) and ``BadConfig`` when only a person can mend it.
* It describes again whenever the description changes: a swapped component, new firmware, a new metric.

A plugin is one file beside this one: ``Config`` (a dataclass), ``build(config, deps)``, ``SAMPLE`` (see
``fleet_core.plugins``).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet_core.assets import AssetClass
from fleet_core.clock import Clock
from fleet_core.telemetry import ComponentSpec, MetricSpec, Sample, Waveform


@dataclass(frozen=True, slots=True)
class AssetDescription:
    """An asset as its device describes it. ``device_id`` is unique in the fleet."""

    device_id: str
    asset_class: AssetClass
    model: str
    serial: str
    metrics: tuple[MetricSpec, ...] = ()
    components: tuple[ComponentSpec, ...] = ()
    firmware: str = ""


@dataclass(frozen=True, slots=True)
class SourceDeps:
    """What the agent injects into a source. ``asset`` is the configuration's part of the asset's description; its
    metrics may be empty. Relative paths in settings count from ``base_dir``.
    """

    clock: Clock
    asset: AssetDescription
    base_dir: Path
    rng: random.Random


class Sink(Protocol):
    """Takes the data that a source read. ``historical`` marks back-fill: data of the past that were read only now."""

    async def describe(self, asset: AssetDescription) -> None:
        """Take the asset's description, before its first data and whenever it changes. Raises BadInput."""

    async def samples(self, samples: Sequence[Sample], *, historical: bool = False) -> None:
        """Take samples of any vitals. Returns when the agent has them; waits while its disk cannot keep up."""

    async def waveform(self, waveform: Waveform, *, historical: bool = False) -> None:
        """Take one waveform burst."""

    async def gap(self, start_us: int, end_us: int, reason: str) -> None:
        """Declare that data between two times (device time, microseconds) are lost; ``reason`` is a short code."""


class Source(Protocol):
    """One reader of one asset."""

    async def run(self, sink: Sink) -> None:
        """Describe the asset, then hand over its data, until cancelled or until there are no more.

        Raises Retryable when the device is away, BadConfig when only a person can mend the fault.
        """
