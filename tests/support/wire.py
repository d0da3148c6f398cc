"""An agent's side of the wire for server tests: a chain of batches, births, and what the server said."""

from __future__ import annotations

import uuid
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fleet_core.assets import AssetClass
from fleet_core.batches import FIRST_PREV, Batch, GapRecord, SampleColumn, Schema, batch_digest, encode_batch
from fleet_core.births import DeviceBirth, HeldReport, NodeBirth, encode_device_birth, encode_node_birth
from fleet_core.sparkplug.topics import MessageType, Topic
from fleet_core.telemetry import (
    BatchClass,
    ChannelEvidence,
    ComponentSpec,
    DetectionState,
    Finding,
    MetricSpec,
    StateChange,
    to_us,
)

METRICS = (MetricSpec("vibration", "[g]", "bearing-1", 600.0), MetricSpec("temperature", "Cel", "bearing-1", 600.0))


@dataclass
class FakeAgent:
    """Numbers and chains its batches as the outbox does; what it makes is (topic, payload)."""

    agent_id: str = "agent-1"
    site_id: str = "acme-berlin"
    asset_id: str = "robot-1"
    schema: Schema = field(default_factory=lambda: Schema(METRICS))
    outbox_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    boot_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    bearing_serial: str = "B-0001"
    bd_seq: int = 0
    number: int = 0
    prev: bytes = FIRST_PREV

    def topic(self, kind: MessageType, device: bool = False) -> str:
        return str(Topic(self.site_id, kind, self.agent_id, self.asset_id if device else ""))

    def node_birth(self, held: Sequence[tuple[int, int]] = ()) -> tuple[str, bytes]:
        report = HeldReport(self.outbox_id, self.number + 1, tuple(held), self.number)
        birth = NodeBirth(self.bd_seq, self.boot_id, report, "0.1.0", "synchronised", {"bearing": "abc"})
        return self.topic(MessageType.NBIRTH), encode_node_birth(birth, 1_767_600_000_000)

    def device_birth(self, firmware: str = "4.2.0") -> tuple[str, bytes]:
        parts = (ComponentSpec("bearing-1", "bearing", self.bearing_serial, "P-100"),)
        birth = DeviceBirth(self.asset_id, AssetClass.ROBOT, "RX-2", "SN-0001", firmware, parts, self.schema)
        return self.topic(MessageType.DBIRTH, True), encode_device_birth(birth, 1_767_600_000_000, 1)

    def samples(self, at: datetime, values: Sequence[float] = (1.0, 2.0, 3.0)) -> tuple[str, bytes]:
        """One routine batch: ``values`` of vibration and temperature, ten minutes apart, the last at ``at``."""
        end_us = to_us(at)
        times = array("q", [end_us - 600_000_000 * (len(values) - 1 - index) for index in range(len(values))])
        columns = tuple(SampleColumn(spec.name, times, array("d", values)) for spec in self.schema.metrics)
        return self._batch(BatchClass.ROUTINE, end_us, columns=columns)

    def finding(self, at: datetime, state: DetectionState = DetectionState.DEGRADING) -> tuple[str, bytes]:
        evidence = (ChannelEvidence("vibration", "[g]", 1.0, 0.1, 0.01, 0.4),)
        found = Finding(
            finding_id=str(uuid.uuid4()),
            revision=1,
            component="bearing-1",
            state=state,
            score=0.8,
            severity=0.5,
            detected_us=to_us(at),
            onset_us=to_us(at) - 3_600_000_000,
            channels=evidence,
            signature=(1.0, 0.5),
            detectors={"ewma": 0.8},
            indicator_metric="vibration",
            indicator_baseline=0.1,
            indicator_sigma=0.01,
            failure_mode="bearing_spalling",
            mode_confidence=0.7,
        )
        change = StateChange("bearing-1", state, DetectionState.HEALTHY, to_us(at), 0.8, "vibration rose")
        return self._batch(BatchClass.FINDING, to_us(at), findings=(found,), states=(change,))

    def gap(self, at: datetime, first: int, last: int) -> tuple[str, bytes]:
        record = GapRecord(first, last, BatchClass.ROUTINE, "quota", to_us(at) - 1_000_000, to_us(at))
        return self._batch(BatchClass.GAP, to_us(at), gaps=(record,))

    def skip(self) -> None:
        """A batch that never arrives."""
        self.number += 1

    def _batch(self, kind: BatchClass, created_us: int, **content: object) -> tuple[str, bytes]:
        self.number += 1
        batch = Batch(
            outbox_id=self.outbox_id,
            number=self.number,
            boot_id=self.boot_id,
            schema_digest=self.schema.digest,
            prev_digest=self.prev,
            batch_class=kind,
            device_id=self.asset_id,
            created_us=created_us,
            **content,  # type: ignore[arg-type] # the fields of Batch
        )
        self.prev = batch_digest(batch)
        return self.topic(MessageType.DDATA, True), encode_batch(batch, self.schema, self.number % 256)
