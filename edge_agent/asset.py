"""One asset on its way through the agent: source -> detection -> batches -> outbox.

``AssetWorker`` is the sink that the asset's source hands over to. Findings and state changes are committed at once,
with the recent waveform of their component; vitals are collected and committed when ``flush`` is called or a batch is
full.

Invariants: while the process lives, all data handed over are committed, or counted as rejected, or become a gap by time
range. What is only collected when the process is killed is lost without a gap of the agent's own. A loss that cannot be
written down yet, because the disk is full, waits in the loss book: one range for every class and reason.
Failure: an error in detection is logged once and counted; the vitals go on without it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from edge_agent import remembered
from edge_agent.acquisition.api import AssetDescription
from edge_agent.config import AssetConfig
from edge_agent.detection.api import AssetDetection, Event, Outcome
from edge_agent.detection.input.maintenance import Declared
from edge_agent.drafts import Collector, Draft, event_drafts, gap_draft, waveform_drafts
from edge_agent.files import read_bounded
from edge_agent.maintenance import DeclaredFile
from edge_agent.uplink.store import OutboxStore
from fleet_core.births import DeviceBirth
from fleet_core.clock import Clock
from fleet_core.errors import BadInput
from fleet_core.files import write_atomic
from fleet_core.schema import Schema
from fleet_core.service import Outage
from fleet_core.telemetry import BatchClass, DetectionState, Finding, Sample, StateChange, Waveform, to_us

_RESTLESS = {DetectionState.HEALTHY, DetectionState.WATCH}
log = logging.getLogger(__name__)

MAX_SNAPSHOT_BYTES = 64 << 20
MAX_REMEMBERED_FINDINGS = 256

Build = Callable[[AssetDescription, dict[str, object]], AssetDetection]


class AssetWorker:
    """The way of one asset. ``first_alias`` starts the asset's own range of aliases; ``on_change`` asks the uplink for
    a rebirth.
    """

    def __init__(
        self,
        config: AssetConfig,
        first_alias: int,
        store: OutboxStore,
        clock: Clock,
        state_dir: Path,
        build_detection: Build,
        on_change: Callable[[], None],
    ) -> None:
        self.device_id = config.description.device_id
        self.detection: AssetDetection | None = None
        self.counters: Counter[str] = Counter()
        self._saving = Outage(
            log,
            f"{self.device_id}: what detection learned cannot be saved",
            f"{self.device_id}: what detection learned is saved again",
            on_state=self._count_save,
        )
        self.last_sample_us = 0
        self.on_delivery: Callable[[], None] | None = None
        self._config = config
        self._first_alias = first_alias
        self._store = store
        self._clock = clock
        self._build = build_detection
        self._on_change = on_change
        self._snapshot_path = state_dir / "detection" / f"{self.device_id}.snapshot"
        self._told_path = state_dir / "detection" / f"{self.device_id}.json"
        self._maintenance = DeclaredFile(state_dir)
        self._declared = Declared()
        self._serials: dict[str, str] = {}
        self.description = self._as_last_told()
        self._collector = Collector(self.device_id, Schema((), first_alias))
        self._waveforms: dict[str, Waveform] = {}
        self._evidenced: dict[tuple[str, int], None] = {}
        self._losses: dict[tuple[BatchClass, str], tuple[int, int]] = {}

    # -- what a source calls

    async def describe(self, asset: AssetDescription) -> None:
        """Take the asset's description by its device. Raises BadInput when the device claims to be another asset."""
        if asset.device_id != self.device_id:
            raise BadInput("device_id", f"the source of {self.device_id} describes {asset.device_id!r}")
        if asset == self.description and self.detection is not None:
            return
        await self.flush()
        if self.detection is None or asset.metrics != self.description.metrics or self._slots(asset) != self._slots():
            self._rebuild(asset)
        self.description = asset
        for component in asset.components:
            known = self._serials.get(component.slot)
            if known is not None and known != component.serial and self.detection is not None:
                at_us = self.last_sample_us or to_us(self._clock.now())
                log.info("%s: %s was swapped: %s -> %s", self.device_id, component.slot, known, component.serial)
                outcome = self.detection.component_replaced(component.slot, component.serial, at_us)
                await self._take(outcome, historical=False)
            self._serials[component.slot] = component.serial
        self._on_change()
        self.save()

    async def samples(self, samples: Sequence[Sample], *, historical: bool = False) -> None:
        """Take vitals. Returns when they are collected; waits when the disk cannot keep up."""
        accepted = [sample for sample in samples if self._collector.accepts(sample)]
        if not accepted:
            return
        self._delivered(max(sample.time_us for sample in accepted))
        full = self._collector.add(accepted, historical)
        if full:
            await self._commit(full)
        await self._follow_maintenance()
        detection = self.detection
        if detection is not None:
            await self._take(self._guard(lambda: detection.on_samples(accepted)), historical)

    async def waveform(self, waveform: Waveform, *, historical: bool = False) -> None:
        """Take a waveform burst. Detection judges it; the burst itself is sent only as evidence of a finding."""
        if not self._collector.accepts_waveform(waveform):
            return
        self._delivered(waveform.time_us)
        self._waveforms[waveform.metric] = waveform
        await self._follow_maintenance()
        detection = self.detection
        if detection is not None:
            await self._take(self._guard(lambda: detection.on_waveform(waveform)), historical)

    async def gap(self, start_us: int, end_us: int, reason: str) -> None:
        """Declare that the source lost data before the agent had them."""
        await self._commit([gap_draft(self.device_id, self._schema, BatchClass.ROUTINE, reason, start_us, end_us)])

    # -- what the agent calls

    async def flush(self) -> None:
        """Commit the collected vitals, and losses that could not be declared before."""
        drafts = self._collector.take()
        if self._losses:
            losses, self._losses = self._losses, {}
            drafts = [
                gap_draft(self.device_id, self._schema, kind, reason, *bounds)
                for (kind, reason), bounds in losses.items()
            ] + drafts
        if drafts:
            await self._commit(drafts)

    def birth(self) -> DeviceBirth:
        """The asset's present birth certificate."""
        asset = self.description
        return DeviceBirth(
            device_id=self.device_id,
            asset_class=asset.asset_class,
            model=asset.model,
            serial=asset.serial,
            firmware=asset.firmware,
            components=asset.components,
            schema=self._schema,
        )

    def save(self) -> None:
        """Persist what detection has learned; a failure is counted and logged once."""
        if self.detection is None:
            return
        try:
            self._snapshot_path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._snapshot_path, self.detection.snapshot())
            write_atomic(self._told_path, remembered.to_text(self.description).encode())
            self._saving.succeeded()
        except OSError as error:
            self._saving.failed(error)

    def _set_aside(self) -> None:
        """Keep a snapshot that was refused beside the next one: what it holds took weeks to learn."""
        try:
            self._snapshot_path.replace(self._snapshot_path.with_suffix(".refused"))
        except FileNotFoundError:
            return
        except OSError as error:
            self._saving.failed(error)

    def _count_save(self, succeeded: bool) -> None:
        self.counters["save_failing"] = int(not succeeded)
        self.counters["save_failures"] += not succeeded

    @property
    def rejected(self) -> Counter[str]:
        """How many samples and waveforms broke a rule, by reason."""
        return self._collector.rejected

    # -- inside

    @property
    def _schema(self) -> Schema:
        return self._collector.schema

    def _slots(self, asset: AssetDescription | None = None) -> set[tuple[str, str]]:
        return {(component.slot, component.type) for component in (asset or self.description).components}

    def _rebuild(self, asset: AssetDescription) -> None:
        snapshot = self.detection.snapshot() if self.detection else self._read_snapshot()
        self.detection = self._build(asset, dict(self._config.detection))
        if snapshot:
            try:
                self.detection.restore(snapshot)
            except BadInput as error:
                log.warning("%s: detection starts anew: %s", self.device_id, error)
                self._set_aside()
                self.detection = self._build(asset, dict(self._config.detection))
        self.detection.declare(Declared(self._declared.windows), self.last_sample_us)
        for name, reason in self.detection.absent.items():
            log.info("%s: detection goes without the %s detector: %s", self.device_id, name, reason)
        own = {metric.name for metric in asset.metrics}
        derived = tuple(metric for metric in self.detection.derived_metrics() if metric.name not in own)
        rejected = self._collector.rejected
        self._collector = Collector(self.device_id, Schema((*asset.metrics, *derived), self._first_alias))
        self._collector.rejected = rejected

    async def _follow_maintenance(self) -> None:
        """Hand changed maintenance declarations to detection."""
        detection = self.detection
        declared = self._maintenance.news() if detection is not None else None
        if self._maintenance.unreadable:
            self.counters["maintenance_unreadable"] = self._maintenance.unreadable
        if declared is None or detection is None:
            return
        self._declared = declared.for_device(self.device_id)
        log.info(
            "%s: %d maintenance window(s) and %d relearn(s) are declared",
            self.device_id,
            len(self._declared.windows),
            len(self._declared.relearns),
        )
        at_us = self.last_sample_us or to_us(self._clock.now())
        await self._take(self._guard(lambda: detection.declare(self._declared, at_us)), historical=False)

    def _guard(self, judge: Callable[[], Outcome]) -> Outcome:
        try:
            return judge()
        except Exception:
            # Detection is the part most likely to meet input nobody thought of; the transport must survive that.
            self.counters["detection_errors"] += 1
            if self.counters["detection_errors"] == 1:
                log.exception("%s: detection failed; vitals go on (logged once, counted after)", self.device_id)
            return Outcome()

    async def _take(self, outcome: Outcome, historical: bool) -> None:
        derived = [sample for sample in outcome.derived if self._collector.accepts(sample)]
        full = self._collector.add(derived, historical)
        if full:
            await self._commit(full)
        if outcome.events:
            await self._announce(outcome.events, historical)

    async def _announce(self, events: Sequence[Event], historical: bool) -> None:
        drafts: list[Draft] = []
        bursts: dict[str, Waveform] = {}
        for event in events:
            if isinstance(event, Finding):
                evidence = self._evidence(event)
                bursts.update((waveform.metric, waveform) for waveform in evidence)
                if evidence and not event.waveform_us:
                    event = replace(event, waveform_us=tuple(sorted({wave.time_us for wave in evidence})))
            drafts += event_drafts(self.device_id, self._schema, [event], historical)
        drafts += self._collector.take()
        for waveform in bursts.values():
            drafts += waveform_drafts(self.device_id, self._schema, waveform, historical)
        await self._commit(drafts)
        if not all(_to_and_fro(event) for event in events):
            self.save()

    def _evidence(self, finding: Finding) -> list[Waveform]:
        """The last waveforms of the finding's component. They are evidence once for every revision."""
        revision = (finding.finding_id, finding.revision)
        if revision in self._evidenced:
            return []
        self._evidenced[revision] = None
        while len(self._evidenced) > MAX_REMEMBERED_FINDINGS:
            self._evidenced.pop(next(iter(self._evidenced)))
        slots = {spec.name: spec.component for spec in self._schema.metrics}
        return [wave for wave in self._waveforms.values() if slots.get(wave.metric) in ("", finding.component)]

    async def _commit(self, drafts: list[Draft]) -> None:
        for draft, appended in zip(drafts, await self._store.append(drafts), strict=True):
            if not appended.number:
                self._lose(draft, appended.reason)

    def _lose(self, draft: Draft, reason: str) -> None:
        self.counters[f"lost_{reason}"] += 1
        kind = draft.batch_class
        if kind is BatchClass.GAP:  # a gap that could not be written down keeps its own reason
            kind, reason = draft.gaps[0].batch_class, draft.gaps[0].reason
        start_us, end_us = draft.time_range_us
        before = self._losses.get((kind, reason), (start_us, end_us))
        self._losses[kind, reason] = (min(before[0], start_us), max(before[1], end_us))

    def _delivered(self, time_us: int) -> None:
        self.last_sample_us = max(self.last_sample_us, time_us)
        if self.on_delivery is not None:
            self.on_delivery()

    def _read_snapshot(self) -> bytes | None:
        return read_bounded(self._snapshot_path, MAX_SNAPSHOT_BYTES)

    def _as_last_told(self) -> AssetDescription:
        """The configuration's description, completed by the device's own from before the restart."""
        content = read_bounded(self._told_path, remembered.MAX_BYTES)
        if content is None:
            return self._config.description
        try:
            told = remembered.from_text(self._config.description, content.decode("utf-8", "replace"))
        except BadInput as error:
            log.warning("%s: what the device last said of itself cannot be read: %s", self.device_id, error)
            return self._config.description
        self._serials = {component.slot: component.serial for component in told.components}
        return told


def _to_and_fro(event: Event) -> bool:
    """Is the event a step between healthy and watch?

    These steps are frequent, and after a crash they are at worst reported twice. They therefore wait for the regular
    saving: a snapshot of weeks writes megabytes to the flash.
    """
    return isinstance(event, StateChange) and {event.previous, event.state} == _RESTLESS
