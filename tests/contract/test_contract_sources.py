"""Every source keeps the contract of ``edge_agent.acquisition.api``; new ones are found by themselves.

A source whose SAMPLE names a file or a device has a *rig* in its own test, ``tests/edge_agent/test_source_NAME.py``:
``rig(deps)`` puts the file into ``deps.base_dir``, or plays the device on ``deps.clock``, and gives the settings that
reach it, at once or as an asynchronous context manager.
"""

from __future__ import annotations

import asyncio
import random
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.rigs import TESTS, offered

from edge_agent import acquisition as package
from edge_agent.acquisition.api import AssetDescription, SourceDeps
from fleet_core.assets import AssetClass
from fleet_core.clock import ScaledClock
from fleet_core.errors import BadConfig, BadInput, Retryable
from fleet_core.plugins import load_plugin, parse_config, plugin_names
from fleet_core.telemetry import Sample, Waveform, check_time_us

NAMES = plugin_names(package.__name__)


@dataclass
class RecordingSink:
    """Keeps what it is handed; ``slow_s`` real seconds per hand-over. ``overlaps`` counts hand-overs not awaited."""

    slow_s: float = 0.0
    log: list[str] = field(default_factory=list)
    description: AssetDescription | None = None
    taken: list[tuple[Sample, bool]] = field(default_factory=list)
    inside: int = 0
    overlaps: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: int = 30

    async def describe(self, asset: AssetDescription) -> None:
        self.description = asset
        await self._take("describe")

    async def samples(self, samples: Sequence[Sample], *, historical: bool = False) -> None:
        self.taken.extend((sample, historical) for sample in samples)
        await self._take("samples")
        if len(self.taken) >= self.wanted:
            self.enough.set()

    async def waveform(self, waveform: Waveform, *, historical: bool = False) -> None:
        await self._take("waveform")

    async def gap(self, start_us: int, end_us: int, reason: str) -> None:
        assert start_us <= end_us and reason
        await self._take("gap")

    async def _take(self, what: str) -> None:
        self.overlaps += self.inside > 0
        self.inside += 1
        self.log.append(what)
        await asyncio.sleep(self.slow_s)
        self.inside -= 1


def sample_config(name: str) -> Any:
    plugin = load_plugin(package.__name__, name)
    table = tomllib.loads(plugin.SAMPLE)
    table.pop("type", name)  # a sample may show the line that chooses the plugin; the agent takes it off as well
    return parse_config(plugin.Config, table, name)


@asynccontextmanager
async def rigged(name: str, base_dir: Path) -> AsyncIterator[Any]:
    """The source with what it reads: its rig's, or what its SAMPLE names on any host."""
    asset = AssetDescription("asset-1", AssetClass.SERVER, "model", "serial-1")
    deps = SourceDeps(ScaledClock.starting_now(36_000), asset, base_dir, random.Random(1))
    plugin, rig = load_plugin(package.__name__, name), offered(own_test(name), "rig")
    if rig is None:
        yield plugin.build(sample_config(name), deps)
        return
    offer = rig(deps)
    if isinstance(offer, dict):
        yield plugin.build(parse_config(plugin.Config, offer, name), deps)
        return
    async with offer as settings:
        yield plugin.build(parse_config(plugin.Config, settings, name), deps)


def own_test(name: str) -> Path:
    return TESTS / "edge_agent" / f"test_source_{name}.py"


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> Any:
    return request.param


async def play(name: str, base_dir: Path, sink: RecordingSink) -> None:
    """Run until enough samples arrived or the source ends. Fails, with the mend, when there is nothing to read."""
    said = "it handed over nothing"
    async with rigged(name, base_dir) as source:
        task = asyncio.ensure_future(source.run(sink))
        waiting = asyncio.ensure_future(sink.enough.wait())
        await asyncio.wait({task, waiting}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        task.cancel()
        try:
            await asyncio.wait_for(task, 2)
        except asyncio.CancelledError:
            pass
        except (Retryable, BadConfig, BadInput) as error:
            said = str(error)
    if not sink.taken:
        mend = f"`def rig(deps: SourceDeps) -> dict[str, Any]` in {own_test(name).relative_to(TESTS.parent)}"
        pytest.fail(f"source {name!r} cannot be tried ({said}): write or mend {mend}", pytrace=False)


def test_sources_are_found() -> None:
    assert {"replay", "linux_host", "serial_frames", "synthetic"} <= set(NAMES)


def test_sample_is_a_valid_configuration(name: str) -> None:
    assert sample_config(name) is not None


def test_unknown_settings_are_refused(name: str) -> None:
    with pytest.raises(BadConfig):
        parse_config(load_plugin(package.__name__, name).Config, {"no_such_setting": 1}, name)


async def test_describes_first_then_only_what_it_described(name: str, tmp_path: Path) -> None:
    sink = RecordingSink()
    await play(name, tmp_path, sink)
    assert sink.log[0] == "describe"
    assert sink.description is not None and sink.description.device_id == "asset-1"
    described = {metric.name for metric in sink.description.metrics}
    assert {sample.metric for sample, _ in sink.taken} <= described


async def test_times_are_believable_and_rise_per_vital(name: str, tmp_path: Path) -> None:
    sink = RecordingSink()
    await play(name, tmp_path, sink)
    last: dict[str, int] = {}
    for sample, _ in sink.taken:
        check_time_us(sample.time_us)
        assert sample.time_us > last.get(sample.metric, 0)
        last[sample.metric] = sample.time_us


async def test_history_comes_before_the_live_samples(name: str, tmp_path: Path) -> None:
    sink = RecordingSink()
    await play(name, tmp_path, sink)
    marks = [historical for _, historical in sink.taken]
    assert marks == sorted(marks, reverse=True)


async def test_awaits_every_hand_over(name: str, tmp_path: Path) -> None:
    sink = RecordingSink(slow_s=0.005, wanted=10)
    await play(name, tmp_path, sink)
    assert sink.overlaps == 0


async def test_cancels_cleanly(name: str, tmp_path: Path) -> None:
    sink = RecordingSink(wanted=1)
    await play(name, tmp_path, sink)
    said = len(sink.log)
    await asyncio.sleep(0.05)
    assert len(sink.log) == said
