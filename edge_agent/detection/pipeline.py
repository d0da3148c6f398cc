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
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.detection import evidence, fuse, snapshot
from edge_agent.detection.align import Aligner, Frame
from edge_agent.detection.api import AssetDetection, ComponentView, Event, Outcome
from edge_agent.detection.evidence import Course, Subject
from edge_agent.detection.judge import ComponentJudge
from edge_agent.detection.learn import build_detectors
from edge_agent.detection.settings import DetectionSettings
from edge_agent.features.waveform import FEATURES, waveform_features
from fleet_core.errors import BadConfig, BadInput
from fleet_core.plugins import parse_config
from fleet_core.telemetry import (
    MAX_CHANNELS,
    MAX_WAVEFORM_SAMPLES,
    DetectionState,
    MetricSpec,
    Sample,
    StateChange,
    Waveform,
)

if TYPE_CHECKING:  # the description only; detection itself stays free of clocks and tasks
    from edge_agent.acquisition.api import AssetDescription

WHOLE_ASSET = "asset"
MAX_REGIMES = 4
TICKS_PER_SPAN = 1024
SNAPSHOT_VERSION = 1
KEPT_WAVEFORMS = 3


def build_detection(
    description: AssetDescription, settings: DetectionSettings | Mapping[str, Any] | None = None
) -> AssetDetection:
    """Detection for an asset as described. ``settings`` may be the configuration's table. Raises BadConfig."""
    if not isinstance(settings, DetectionSettings):
        settings = parse_config(DetectionSettings, settings or {}, "asset.detection")
    build_detectors(settings, 1)  # a wrong detector table is found at the start, not when learning ends
    return _AssetDetection(description, settings)


class _Slot:
    """One component: its channels, their alignment, its judge and its findings."""

    def __init__(self, subject: Subject, regimes: int, settings: DetectionSettings) -> None:
        self.subject = subject
        self.channel_of = {channel.name: index for index, channel in enumerate(subject.channels)}
        self.judge = ComponentJudge(len(subject.channels), regimes, settings)
        self._settings = settings
        self.forget()

    def forget(self) -> None:
        channels = len(self.subject.channels)
        min_tick_us = int(self._settings.learn_span_h * 3_600_000_000 / TICKS_PER_SPAN)
        self.aligner = Aligner(channels, min_tick_us)
        self.judge.forget()
        self.course = Course(np.zeros(channels), np.zeros(channels))

    def tick(self, frame: Frame, regime: np.ndarray) -> list[Event]:
        before = self.judge.tracker.state
        events: list[Event] = []
        passed = self.judge.tick(frame.time_us, frame.row, regime)
        if self.judge.reading is not None:
            evidence.track(self.course, self.judge, frame.time_us, self._settings)
        for state in passed:
            events.append(self._change(state, before, frame.time_us, self._reason(state)))
            before = state
        found = evidence.finding(self.subject, self.course, self.judge, frame.time_us, self._settings)
        return [*events, found] if found is not None else events

    def replaced(self, serial: str, time_us: int) -> list[Event]:
        before = self.judge.tracker.state
        self.forget()
        self.judge.tracker.forget()
        old, self.subject = self.subject.serial, dataclasses.replace(self.subject, serial=serial)
        return [self._change(DetectionState.LEARNING, before, time_us, f"replaced: {old or 'unknown'} by {serial}")]

    def top_channel(self) -> str:
        reading = self.judge.reading
        if reading is None or not reading.channels.any():
            return ""
        return self.subject.channels[int(np.argmax(reading.channels))].name

    def view(self) -> ComponentView:
        judge = self.judge
        return ComponentView(
            component=self.subject.slot,
            state=judge.tracker.state,
            score=fuse.score(judge.evidence),
            top_channel=self.top_channel(),
            learned_fraction=judge.learned_fraction,
            detectors=dict(judge.reading.detectors) if judge.reading is not None else {},
        )

    def _change(self, state: DetectionState, before: DetectionState, time_us: int, reason: str) -> StateChange:
        return StateChange(self.subject.slot, state, before, time_us, fuse.score(self.judge.evidence), reason[:256])

    def _reason(self, state: DetectionState) -> str:
        top, model = self.top_channel(), self.judge.model
        if model is None or self.judge.reading is None or not top:
            return "baseline learnt" if state is DetectionState.HEALTHY else ""
        index = self.channel_of[top]
        healthy, sigma = evidence.healthy_level(model, index)
        now = float(model.baseline.physical(self.course.fast)[index])
        unit = self.subject.channels[index].unit
        return f"evidence {self.judge.evidence:.2f}; {evidence.in_words(top, unit, now, healthy, sigma)}"


class _AssetDetection:
    """See ``AssetDetection``."""

    def __init__(self, description: AssetDescription, settings: DetectionSettings) -> None:
        self.counts: Counter[str] = Counter()
        floats = [each for each in description.metrics if each.kind == "float"]
        self._waveforms = {each.name: each for each in description.metrics if each.kind == "waveform"}
        taken = {each.name for each in floats}
        self._derived = tuple(
            MetricSpec(f"{wave.name}.{name}", _feature_unit(name, in_unit, wave.unit), wave.component, wave.period_s)
            for wave in self._waveforms.values()
            for name, in_unit in FEATURES
            if f"{wave.name}.{name}" not in taken
        )
        judged = [*floats, *self._derived]
        slots = list(dict.fromkeys(each.component for each in judged if each.component))
        regimes = [each for each in floats if not each.component] if slots else []
        self._regime_of = {each.name: i for i, each in enumerate(_choose_regimes(regimes, settings))}
        self._regime = np.full(len(self._regime_of), np.nan)
        components = {each.slot: each for each in description.components}
        self._slots: dict[str, _Slot] = {}
        for slot in slots or ([WHOLE_ASSET] if judged else []):
            channels = tuple(each for each in judged if (each.component or WHOLE_ASSET) == slot)[:MAX_CHANNELS]
            known = components.get(slot)
            subject = Subject(
                description.device_id, slot, known.type if known else "", known.serial if known else "", channels
            )
            self._slots[slot] = _Slot(subject, len(self._regime_of), settings)
        self._slot_of = {name: slot for slot in self._slots.values() for name in slot.channel_of}
        self._identity = _digest(description.device_id, self._slots.values(), self._regime_of, settings)

    def derived_metrics(self) -> tuple[MetricSpec, ...]:
        return self._derived

    def on_samples(self, samples: Sequence[Sample]) -> Outcome:
        events: list[Event] = []
        # regimes first at equal times, so that a row is judged under its own regime
        for sample in sorted(samples, key=lambda each: (each.time_us, each.metric not in self._regime_of)):
            events.extend(self._take(sample))
        return Outcome(tuple(events))

    def on_waveform(self, waveform: Waveform) -> Outcome:
        wave = self._waveforms.get(waveform.metric)
        if wave is None or len(waveform.values) > MAX_WAVEFORM_SAMPLES:
            self.counts["waveform_unknown" if wave is None else "waveform_size"] += 1
            return Outcome()
        features = waveform_features(np.asarray(waveform.values), waveform.sample_rate_hz)
        derived = tuple(
            Sample(f"{wave.name}.{name}", waveform.time_us, value)
            for name, value in features.items()
            if f"{wave.name}.{name}" in self._slot_of
        )
        events: list[Event] = []
        for sample in derived:
            course = self._slot_of[sample.metric].course
            if not course.waveforms_us or course.waveforms_us[-1] != waveform.time_us:
                course.waveforms_us = [*course.waveforms_us[-KEPT_WAVEFORMS + 1 :], waveform.time_us]
            events.extend(self._take(sample))
        return Outcome(tuple(events), derived)

    def component_replaced(self, component: str, serial: str, time_us: int) -> Outcome:
        slot = self._slots.get(component)
        if slot is None or slot.subject.serial == serial:
            return Outcome()
        return Outcome(tuple(slot.replaced(serial, time_us)))

    def views(self) -> tuple[ComponentView, ...]:
        return tuple(slot.view() for slot in self._slots.values())

    def snapshot(self) -> bytes:
        slots = {
            name: {
                "serial": slot.subject.serial,
                "aligner": slot.aligner.state(),
                "judge": slot.judge.state(),
                "course": slot.course.state_tree(),
            }
            for name, slot in self._slots.items()
        }
        tree = {"version": SNAPSHOT_VERSION, "identity": self._identity, "regime": self._regime, "slots": slots}
        return snapshot.dump({**tree, "counts": dict(self.counts)})

    def restore(self, snapshot: bytes) -> None:
        tree = _load_snapshot(snapshot, self._identity)
        try:
            for name, slot in self._slots.items():
                state = tree["slots"][name]
                slot.subject = dataclasses.replace(slot.subject, serial=state["serial"])
                slot.aligner.load(state["aligner"])
                slot.judge.load(state["judge"])
                slot.course = Course(**state["course"])
            self._regime = tree["regime"]
            self.counts = Counter(tree["counts"])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, BadConfig):
            for slot in self._slots.values():
                slot.forget()
            raise BadInput("snapshot", "its content does not fit this version") from None

    def _take(self, sample: Sample) -> list[Event]:
        regime = self._regime_of.get(sample.metric)
        if regime is not None:
            self._regime[regime] = sample.value if math.isfinite(sample.value) else math.nan
            return []
        slot = self._slot_of.get(sample.metric)
        if slot is None:
            self.counts["metric_unknown"] += 1
            return []
        events: list[Event] = []
        for frame in slot.aligner.add(slot.channel_of[sample.metric], sample.time_us, sample.value):
            events.extend(slot.tick(frame, self._regime.copy()))
        return events


def _choose_regimes(candidates: Sequence[MetricSpec], settings: DetectionSettings) -> list[MetricSpec]:
    if not settings.regime:
        return list(candidates)[:MAX_REGIMES]
    known = {each.name: each for each in candidates}
    unknown = [name for name in settings.regime if name not in known]
    if unknown:
        raise BadConfig(f"asset.detection.regime: {unknown[0]!r} is not a vital of the whole asset")
    return [known[name] for name in settings.regime][:MAX_REGIMES]


def _feature_unit(name: str, in_unit: bool, unit: str) -> str:
    return unit if in_unit else "Hz" if name == "centroid" else "1"


def _digest(device_id: str, slots: Any, regimes: Mapping[str, int], settings: DetectionSettings) -> str:
    content = [device_id, {slot.subject.slot: list(slot.channel_of) for slot in slots}, list(regimes)]
    text = json.dumps([content, dataclasses.asdict(settings)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _load_snapshot(data: bytes, identity: str) -> dict[str, Any]:
    tree = snapshot.load(data)
    if tree.get("version") != SNAPSHOT_VERSION or tree.get("identity") != identity:
        raise BadInput("snapshot", "it belongs to another version, asset or configuration")
    return tree
