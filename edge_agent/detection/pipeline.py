"""Detection of one asset: samples and waveforms in, states, findings and derived vitals out.

Each slot that has vitals of its own is judged on its own; vitals of the whole asset (slot "") are the regime the
others are normalised by, or, when no slot has any, the one component ``asset``. A waveform vital is not judged itself
but by its features, which also leave as derived vitals. Everything is pure and follows the samples' own time.

Unknown vitals, late samples and waveforms out of bounds are counted in ``counts`` and dropped; nothing raises.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.detection import restored, snapshot
from edge_agent.detection.api import AssetDetection, Block, ComponentView, Event, Outcome, Verdicts
from edge_agent.detection.block_rows import BlockRows
from edge_agent.detection.healthy.model import absent_detectors, build_detectors
from edge_agent.detection.input.maintenance import Declared
from edge_agent.detection.input.readings import only_reading, only_readings
from edge_agent.detection.input.regimes import choose_regimes
from edge_agent.detection.input.waves import Waves
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.slot import Slot
from edge_agent.detection.subject import Subject
from edge_agent.detection.trace.keeper import TraceKeeper
from fleet_core.assets import AssetClass, may_stand_still
from fleet_core.errors import BadConfig, BadInput
from fleet_core.plugins import parse_config
from fleet_core.telemetry import MAX_CHANNELS, MAX_WAVEFORM_SAMPLES, MetricSpec, Sample, Waveform

if TYPE_CHECKING:  # the description only; detection itself stays free of clocks and tasks
    from edge_agent.acquisition.api import AssetDescription

WHOLE_ASSET = "asset"
NEWS = 0.8
"""Novelty at and above this is worth a flag of its own."""


def build_detection(
    description: AssetDescription, settings: DetectionSettings | Mapping[str, Any] | None = None
) -> AssetDetection:
    """Detection for an asset as described. ``settings`` may be the configuration's table. Raises BadConfig."""
    if not isinstance(settings, DetectionSettings):
        settings = parse_config(DetectionSettings, settings or {}, "asset.detection")
    for tables in (settings.detectors, settings.slow_detectors):
        build_detectors(tables, 1)  # a wrong detector table is found at the start, not when learning ends
    return _AssetDetection(description, settings)


def retrace(detection: AssetDetection, spans: int) -> dict[str, TraceKeeper]:
    """Trace every component of a detection anew, in so many spans: a picture may want more than a device can afford."""
    assert isinstance(detection, _AssetDetection)
    return detection.retrace(spans)


class _AssetDetection:
    """See ``AssetDetection``."""

    def __init__(self, description: AssetDescription, settings: DetectionSettings) -> None:
        self.counts: Counter[str] = Counter()
        self._settings = settings
        floats = [each for each in description.metrics if each.kind == "float"]
        self.waves = Waves(description.metrics, settings)
        judged = [*floats, *self.waves.derived]
        slots = list(dict.fromkeys(each.component for each in judged if each.component))
        regimes = [each for each in floats if not each.component] if slots else []
        self._regime_of = {each.name: i for i, each in enumerate(choose_regimes(regimes, settings))}
        self._regime = np.full(len(self._regime_of), np.nan)
        components = {each.slot: each for each in description.components}
        self._slots: dict[str, Slot] = {}
        for slot in slots or ([WHOLE_ASSET] if judged else []):
            channels = tuple(each for each in judged if (each.component or WHOLE_ASSET) == slot)[:MAX_CHANNELS]
            known = components.get(slot)
            subject = Subject(
                description.device_id, slot, known.type if known else "", known.serial if known else "", channels
            )
            stands = description.asset_class is not AssetClass.SERVER and may_stand_still(subject.type)
            self._slots[slot] = Slot(subject, tuple(self._regime_of), settings, self._count, stands)
        self._slot_of = {name: slot for slot in self._slots.values() for name in slot.channel_of}
        self._identity = _digest(description.device_id, self._slots.values(), self._regime_of, settings)

    @property
    def absent(self) -> dict[str, str]:
        return absent_detectors(self._settings.detectors) | absent_detectors(self._settings.slow_detectors)

    def derived_metrics(self) -> tuple[MetricSpec, ...]:
        return self.waves.derived

    def on_samples(self, samples: Sequence[Sample]) -> Outcome:
        self.waves.see(samples)
        whole = self._whole_row(samples)
        if whole is not None:
            return Outcome(tuple(whole))
        events: list[Event] = []
        # regimes first at equal times, so that a row is judged under its own regime
        for sample in sorted(samples, key=lambda each: (each.time_us, each.metric not in self._regime_of)):
            events.extend(self._take(sample))
        return Outcome(tuple(events))

    def on_block(self, names: Sequence[str], times_us: np.ndarray, values: np.ndarray) -> Block:
        values = only_readings(values)
        events: list[Event] = []
        column = {name: index for index, name in enumerate(names)}
        self.counts["metric_unknown"] += len(times_us) * len(
            column.keys() - self._slot_of.keys() - self._regime_of.keys()
        )
        regimes = np.repeat(self._regime[None], len(times_us), axis=0)
        for name, place in self._regime_of.items():
            if name in column:
                regimes[:, place] = values[:, column[name]]
        if len(times_us):
            self._regime = regimes[-1].copy()
        verdicts: dict[str, Verdicts] = {}
        for slot_name, slot in self._slots.items():
            table = np.full((len(times_us), len(slot.channel_of)), np.nan)
            for name, place in slot.channel_of.items():
                if name in column:
                    table[:, place] = values[:, column[name]]
            shown = BlockRows(list(slot.channel_of), slot.view(), slot.top_channel(slot.judge.fast), len(times_us))
            events.extend(slot.run(times_us, table, regimes, shown))
            shown.fill(len(times_us))
            score = _below_news(shown.evidence_score)
            if slot.novelty is not None:
                score = np.maximum(score, slot.novelty.run(times_us, slot.passing.without(table)))
            verdicts[slot_name] = Verdicts(score, shown.states, shown.tops)
        return Block(tuple(events), verdicts)

    def on_waveform(self, waveform: Waveform) -> Outcome:
        known = waveform.metric in self.waves
        if not known or len(waveform.values) > MAX_WAVEFORM_SAMPLES:
            self.counts["waveform_size" if known else "waveform_unknown"] += 1
            return Outcome()
        derived = tuple(
            Sample(name, waveform.time_us, value)
            for name, value in self.waves.features(waveform).items()
            if name in self._slot_of
        )
        events: list[Event] = []
        for slot in {id(each): each for each in (self._slot_of[sample.metric] for sample in derived)}.values():
            slot.note_waveform(waveform)
        for sample in derived:
            events.extend(self._take(sample))
        return Outcome(tuple(events), derived)

    def retrace(self, spans: int) -> dict[str, TraceKeeper]:
        return {name: slot.retrace(spans) for name, slot in self._slots.items()}

    def component_replaced(self, component: str, serial: str, time_us: int) -> Outcome:
        slot = self._slots.get(component)
        if slot is None or slot.subject.serial == serial:
            return Outcome()
        return Outcome(tuple(slot.replaced(serial, time_us)))

    def declare(self, declared: Declared, time_us: int) -> Outcome:
        events: list[Event] = []
        for name, slot in self._slots.items():
            slot.passing.windows = tuple(each for each in declared.windows if each.component in ("", name))
            for relearn in declared.relearns:
                if relearn.component in ("", name):
                    events.extend(slot.relearn(relearn.at_us, time_us))
        return Outcome(tuple(events))

    def views(self) -> tuple[ComponentView, ...]:
        return tuple(slot.view() for slot in self._slots.values())

    def snapshot(self) -> bytes:
        slots = {name: slot.state() for name, slot in self._slots.items()}
        return snapshot.dump({
            "version": snapshot.VERSION,
            "identity": self._identity,
            "regime": self._regime,
            "slots": slots,
            "speeds": self.waves.state(),
            "counts": dict(self.counts),
            "settings": _told_settings(self._settings),
        })  # fmt: skip

    def restore(self, snapshot: bytes) -> None:
        tree = _load_snapshot(snapshot, self._identity)
        try:
            regime = restored.readings(tree["regime"], len(self._regime_of))
            counts = {name: restored.whole(count) for name, count in restored.record(tree["counts"]).items()}
            for name, slot in self._slots.items():
                slot.load(tree["slots"][name])
            self.waves.load(tree["speeds"])  # the last that may be refused
        except (*restored.DAMAGED, BadConfig, BadInput):
            for slot in self._slots.values():
                slot.start_over()
            raise BadInput("snapshot", "its content does not fit this version") from None
        self._regime, self.counts = regime, Counter(counts)

    def _count(self, what: str, rows: int) -> None:
        if rows:
            self.counts[what] += rows

    def _whole_row(self, samples: Sequence[Sample]) -> list[Event] | None:
        """The short way for a lone component all of whose channels are read at once, the most common case."""
        if len(self._slots) != 1 or self._regime_of:
            return None
        (slot,) = self._slots.values()
        values = {sample.metric: sample.value for sample in samples if sample.time_us == samples[0].time_us}
        if len(values) != len(samples) or values.keys() != slot.channel_of.keys():
            return None
        frame = slot.life.aligner.add_row(samples[0].time_us, [values[name] for name in slot.channel_of])
        return None if frame is None else slot.tick(frame, self._regime)

    def _take(self, sample: Sample) -> list[Event]:
        regime = self._regime_of.get(sample.metric)
        if regime is not None:
            self._regime[regime] = only_reading(sample.value)
            return []
        slot = self._slot_of.get(sample.metric)
        if slot is None:
            self.counts["metric_unknown"] += 1
            return []
        events: list[Event] = []
        for frame in slot.life.aligner.add(slot.channel_of[sample.metric], sample.time_us, sample.value):
            events.extend(slot.tick(frame, self._regime))
        return events


def _below_news(scores: np.ndarray) -> np.ndarray:
    """Scores of standing evidence, the upper half squeezed below what novelty flags: only what is new goes higher."""
    return np.where(scores <= 0.5, scores, 0.5 + (scores - 0.5) * (NEWS - 0.01 - 0.5) / 0.5)


def _digest(device_id: str, slots: Any, regimes: Mapping[str, int], settings: DetectionSettings) -> str:
    usable = [sorted(build_detectors(tables, 1)) for tables in (settings.detectors, settings.slow_detectors)]
    content = [device_id, {slot.subject.slot: list(slot.channel_of) for slot in slots}, list(regimes), usable]
    text = json.dumps([content, _told_settings(settings)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _told_settings(settings: DetectionSettings) -> dict[str, Any]:
    """The settings that what was learnt depends on: not the class's prior, nor waveforms nothing is said of."""
    told = dataclasses.asdict(settings)
    del told["prior"]
    if not told["waveforms"]:
        del told["waveforms"]
    return told


def _load_snapshot(data: bytes, identity: str) -> dict[str, Any]:
    tree = snapshot.read(data)
    if tree.get("identity") != identity:
        raise BadInput("snapshot", "it belongs to another version, asset or configuration")
    return tree
