"""One asset's way through the agent: nothing handed over vanishes, findings travel at once with their evidence."""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from edge_agent.acquisition.api import AssetDescription
from edge_agent.asset import AssetWorker
from edge_agent.config import AssetConfig
from edge_agent.detection.api import ComponentView, Outcome
from edge_agent.detection.input.maintenance import Declared, Relearn, Window, to_text
from edge_agent.drafts import DRAFT_SAMPLES
from edge_agent.outbox import Outbox
from edge_agent.uplink.store import OutboxStore
from fleet_core.assets import AssetClass
from fleet_core.batches import Batch, decode_batch
from fleet_core.clock import SimulatedClock
from fleet_core.errors import BadInput
from fleet_core.telemetry import (
    BatchClass,
    ComponentSpec,
    DetectionState,
    Finding,
    MetricSpec,
    Sample,
    StateChange,
    Waveform,
)

T0 = 1_790_000_000_000_000
BOOT = "6fa459ea-ee8a-3ca4-894e-db77e160355e"
METRICS = (MetricSpec("speed_rpm", "/min"), MetricSpec("vibration", "[g]", "bearing", 0.0, "waveform"))
ASSET = AssetDescription(
    "robot-17", AssetClass.ROBOT, "AMR-200", "S1", METRICS, (ComponentSpec("bearing", "bearing", "BRG-1"),), "4.1.0"
)
STATE = StateChange("bearing", DetectionState.WATCH, DetectionState.HEALTHY, T0, 0.5, "test")
FINDING = Finding(
    *("1b4e28ba-2fa1-11d2-883f-0016d3cca427", 1, "bearing", DetectionState.DEGRADING, 0.9, 0.5, T0, T0),
    *((), (0.5,), {"pca": 0.9}, "vibration.rms", 0.1, 0.01),
)


class ScriptedDetection:
    """Says what the test tells it to; one derived vital."""

    absent: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        self.next = Outcome()
        self.replaced: list[tuple[str, str]] = []
        self.declared: list[Declared] = []
        self.counts: Counter[str] = Counter()
        self.learned = 0
        self.broken = False

    def derived_metrics(self) -> tuple[MetricSpec, ...]:
        return (MetricSpec("vibration.rms", "[g]", "bearing"),)

    def on_samples(self, samples: Sequence[Sample]) -> Outcome:
        if self.broken:
            raise ZeroDivisionError("a bug")
        self.learned += len(samples)
        outcome, self.next = self.next, Outcome()
        return outcome

    def on_waveform(self, waveform: Waveform) -> Outcome:
        return Outcome(derived=(Sample("vibration.rms", waveform.time_us, 0.5),))

    def component_replaced(self, component: str, serial: str, time_us: int) -> Outcome:
        self.replaced.append((component, serial))
        return Outcome(events=(STATE,))

    def declare(self, declared: Declared, time_us: int) -> Outcome:
        self.declared.append(declared)
        return Outcome(events=(STATE,) if declared.relearns else ())

    def views(self) -> tuple[ComponentView, ...]:
        return ()

    def snapshot(self) -> bytes:
        return str(self.learned).encode()

    def restore(self, snapshot: bytes) -> None:
        if not snapshot.isdigit():
            raise BadInput("snapshot")
        self.learned = int(snapshot)


class Rig:
    def __init__(self, folder: Path) -> None:
        self.folder, self.detection, self.changes = folder, ScriptedDetection(), 0
        self.clock = SimulatedClock()
        self.outbox = Outbox(folder / "outbox.sqlite", 1 << 20, self.clock, BOOT)
        self.store = OutboxStore(self.outbox, 0.0)
        self.task = asyncio.create_task(self.store.run())
        self.worker = self.make_worker()

    def make_worker(self) -> AssetWorker:
        config = AssetConfig(replace(ASSET, metrics=()), "test", {})
        return AssetWorker(
            *(config, 1, self.store, self.clock, self.folder),
            build_detection=lambda asset, settings: self.detection,
            on_change=self.changed,
        )

    def changed(self) -> None:
        self.changes += 1

    async def batches(self) -> list[Batch]:
        leased = await self.store.call(Outbox.lease, 0, 1 << 60, tuple(BatchClass), 1000)
        schema = self.worker.birth().schema
        return [decode_batch(item.body, schema, item.device_id) for item in leased]

    async def close(self) -> None:
        self.task.cancel()
        await self.store.close()


@pytest.fixture
async def rig(tmp_path: Path):
    made = Rig(tmp_path)
    yield made
    await made.close()


def samples(count: int) -> list[Sample]:
    return [Sample("speed_rpm", T0 + index * 1000, float(index)) for index in range(count)]


async def test_vitals_are_collected_and_committed_on_flush(rig: Rig) -> None:
    await rig.worker.describe(ASSET)
    await rig.worker.samples(samples(10))
    assert await rig.batches() == []
    await rig.worker.flush()
    (batch,) = await rig.batches()
    assert list(batch.columns[0].values) == [float(n) for n in range(10)]
    assert rig.changes == 1


async def test_a_full_batch_does_not_wait_for_the_flush(rig: Rig) -> None:
    await rig.worker.describe(ASSET)
    await rig.worker.samples(samples(1300))
    assert [len(batch.columns[0].values) for batch in await rig.batches()] == [DRAFT_SAMPLES, DRAFT_SAMPLES]


async def test_a_finding_travels_at_once_with_the_waveform_of_its_component(rig: Rig) -> None:
    await rig.worker.describe(ASSET)
    await rig.worker.waveform(Waveform("vibration", T0, 25600.0, array("f", [0.5] * 7_000)))
    rig.detection.next = Outcome(events=(STATE, FINDING))
    await rig.worker.samples(samples(1))
    batches = await rig.batches()
    kinds = [batch.batch_class for batch in batches]
    finding, routine, waveform = BatchClass.FINDING, BatchClass.ROUTINE, BatchClass.WAVEFORM
    assert kinds == [finding, finding, routine, waveform, waveform]
    assert batches[1].findings[0].waveform_us == (T0,)
    assert {column.metric for column in batches[2].columns} == {"speed_rpm", "vibration.rms"}
    fragments = [batch.waveform for batch in batches[3:]]
    assert sum(len(fragment.values) for fragment in fragments if fragment) == 7_000
    rig.detection.next = Outcome(events=(FINDING,))  # the same revision again: no second copy of the evidence
    await rig.worker.samples(samples(1))
    assert [batch.batch_class for batch in await rig.batches()].count(waveform) == 2


async def test_a_step_between_healthy_and_watch_writes_no_snapshot(rig: Rig) -> None:
    await rig.worker.describe(ASSET)
    snapshot = rig.folder / "detection" / "robot-17.snapshot"
    for events, learned in (((STATE,), 0), ((STATE, FINDING), 2)):
        rig.detection.next = Outcome(events=events)
        await rig.worker.samples(samples(1))
        assert int(snapshot.read_bytes()) == learned
    assert len([batch for batch in await rig.batches() if batch.states]) == 2  # told all the same


async def test_declared_maintenance_is_followed_and_kept_over_a_new_description(rig: Rig) -> None:
    await rig.worker.describe(ASSET)
    window, other = Window(T0, T0 + 1, "robot-17", "bearing"), Window(T0, T0 + 1, "robot-18", "bearing")
    (rig.folder / "maintenance.json").write_text(to_text(Declared((window, other), (Relearn(T0),))))
    await rig.worker.samples(samples(1))
    await rig.worker.samples(samples(1))
    assert rig.detection.declared[-1] == Declared((window,), (Relearn(T0),))
    assert len(rig.detection.declared) == 2  # the empty one when it was built
    assert [batch.states for batch in await rig.batches() if batch.states] == [(STATE,)]
    await rig.worker.describe(replace(ASSET, metrics=(*METRICS, MetricSpec("load", "1"))))
    assert rig.detection.declared[-1] == Declared((window,))
    (rig.folder / "maintenance.json").write_text("{")
    await rig.worker.samples(samples(1))
    assert rig.worker.counters["maintenance_unreadable"] == 1


async def test_a_swapped_component_is_told_to_detection_and_born_again(rig: Rig) -> None:
    await rig.worker.describe(ASSET)
    swapped = replace(ASSET, components=(ComponentSpec("bearing", "bearing", "BRG-2"),))
    await rig.worker.describe(swapped)
    await rig.worker.describe(swapped)
    assert rig.detection.replaced == [("bearing", "BRG-2")]
    assert rig.changes == 2
    assert [batch.states for batch in await rig.batches()] == [(STATE,)]
    assert rig.worker.birth().components[0].serial == "BRG-2"


async def test_a_swap_during_a_standstill_is_noticed_after_the_restart(rig: Rig) -> None:
    await rig.worker.describe(ASSET)
    await rig.worker.samples(samples(7))
    rig.worker.save()
    rig.detection = ScriptedDetection()
    again = rig.make_worker()
    await again.describe(replace(ASSET, components=(ComponentSpec("bearing", "bearing", "BRG-9"),)))
    assert rig.detection.learned == 7  # continues from its snapshot
    assert rig.detection.replaced == [("bearing", "BRG-9")]


async def test_after_a_restart_it_is_born_as_its_device_last_told(rig: Rig) -> None:
    told = replace(ASSET, firmware="4.2.1", components=(ComponentSpec("bearing", "bearing", "BRG-2", "P-1"),))
    await rig.worker.describe(told)
    birth = rig.make_worker().birth()  # before its device has spoken again
    assert (birth.firmware, birth.components) == ("4.2.1", told.components)


@pytest.mark.parametrize("text", ["[]", "{}", '{"model":"","serial":"","firmware":"","components":[{"slot":1}]}'])
async def test_a_damaged_memory_of_the_device_leaves_the_configuration(rig: Rig, text: str) -> None:
    (rig.folder / "detection").mkdir()
    (rig.folder / "detection" / "robot-17.json").write_text(text)
    assert rig.make_worker().description == replace(ASSET, metrics=())


async def test_a_damaged_snapshot_means_learning_anew(rig: Rig) -> None:
    (rig.folder / "detection").mkdir()
    (rig.folder / "detection" / "robot-17.snapshot").write_bytes(b"nonsense")
    (rig.folder / "detection" / "robot-17.json").write_bytes(b"\xff nonsense")
    await rig.make_worker().describe(ASSET)
    assert rig.detection.learned == 0


async def test_a_refused_snapshot_is_set_aside_not_overwritten(rig: Rig) -> None:
    folder = rig.folder / "detection"
    folder.mkdir()
    (folder / "robot-17.snapshot").write_bytes(b"of a newer version")
    await rig.worker.describe(ASSET)
    assert (folder / "robot-17.refused").read_bytes() == b"of a newer version"
    assert (folder / "robot-17.snapshot").read_bytes() == rig.detection.snapshot()


async def test_what_breaks_a_rule_is_counted(rig: Rig) -> None:
    await rig.worker.samples(samples(1))  # before any description
    await rig.worker.describe(ASSET)
    await rig.worker.samples(
        [Sample("speed_rpm", 5, 1.0), Sample("other", T0, 1.0), Sample("speed_rpm", T0, float("nan"))]
    )
    await rig.worker.waveform(Waveform("vibration", T0, 0.0, array("f", [1.0])))
    assert rig.worker.rejected == {"unknown_metric": 2, "time": 1, "waveform": 1}
    await rig.worker.flush()
    assert len((await rig.batches())[0].columns[0].values) == 1
    with pytest.raises(BadInput):
        await rig.worker.describe(replace(ASSET, device_id="robot-18"))


async def test_an_error_in_detection_does_not_stop_the_vitals(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.worker.describe(ASSET)
    rig.detection.broken = True
    await rig.worker.samples(samples(1))
    await rig.worker.samples(samples(1))
    await rig.worker.flush()
    assert len(await rig.batches()) == 1
    assert rig.worker.counters["detection_errors"] == 2
    assert sum("detection failed" in record.message for record in caplog.records) == 1


async def test_a_full_disk_becomes_a_declared_gap(rig: Rig) -> None:
    await rig.worker.describe(ASSET)
    (pages,) = await rig.store.call(lambda outbox: outbox._db.execute("PRAGMA page_count").fetchone())
    await rig.store.call(lambda outbox: outbox._db.execute(f"PRAGMA max_page_count = {pages}").fetchall())
    await rig.worker.samples(samples(DRAFT_SAMPLES))
    assert rig.store.disk_full
    await rig.worker.samples([Sample("speed_rpm", T0 + 9_000_000, 1.0)])
    await rig.worker.flush()
    assert await rig.batches() == []
    await rig.store.call(lambda outbox: outbox._db.execute("PRAGMA max_page_count = 1000000").fetchall())
    async with asyncio.timeout(10):  # the store tries the disk again after half a second
        while rig.store.disk_full:
            await rig.worker.flush()
            await asyncio.sleep(0.1)
    (batch,) = await rig.batches()
    (gap,) = batch.gaps
    assert (gap.start_us, gap.end_us, gap.reason) == (T0, T0 + 9_000_000, "disk_full")
    assert batch.device_id == "robot-17"


async def test_a_source_can_declare_its_own_losses(rig: Rig) -> None:
    await rig.worker.describe(ASSET)
    await rig.worker.gap(T0, T0 + 5, "device rebooted")
    (batch,) = await rig.batches()
    assert (batch.batch_class, batch.gaps[0].reason) == (BatchClass.GAP, "device rebooted")
