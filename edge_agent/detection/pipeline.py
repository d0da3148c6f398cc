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
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.detection import evidence, fuse, snapshot
from edge_agent.detection.align import Aligner, Frame
from edge_agent.detection.api import AssetDetection, Block, ComponentView, Event, Outcome, Verdicts
from edge_agent.detection.evidence import Course, Subject
from edge_agent.detection.judge import ALARMS, ComponentJudge
from edge_agent.detection.learn import absent_detectors, build_detectors
from edge_agent.detection.novelty import Novelty
from edge_agent.detection.plane import Plane
from edge_agent.detection.seen import Seen
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.tracer import Tracer
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
SNAPSHOT_VERSION = 2
KEPT_WAVEFORMS = 3
GROUP_TICKS = 8
GROUP_US = 480_000_000
"""Quiet live ticks are judged together, at most so many over at most so long; what jumps is judged at once."""
NEWS = 0.8
"""Novelty at and above this is worth a flag of its own."""
CONTEXT_WORDS = frozenset((
    "load", "speed", "rpm", "setpoint", "target", "command", "demand", "duty", "throttle", "ambient", "outdoor",
    "weather", "requests", "setting", "recipe",
))  # fmt: skip
"""Context is judged as well, but first of all it explains the other channels."""


def build_detection(
    description: AssetDescription, settings: DetectionSettings | Mapping[str, Any] | None = None
) -> AssetDetection:
    """Detection for an asset as described. ``settings`` may be the configuration's table. Raises BadConfig."""
    if not isinstance(settings, DetectionSettings):
        settings = parse_config(DetectionSettings, settings or {}, "asset.detection")
    for tables in (settings.detectors, settings.slow_detectors):
        build_detectors(tables, 1)  # a wrong detector table is found at the start, not when learning ends
    return _AssetDetection(description, settings)


def retrace(detection: AssetDetection, spans: int) -> dict[str, Tracer]:
    """Trace every component of a detection anew, in so many spans: a picture may want more than a device can afford."""
    assert isinstance(detection, _AssetDetection)
    return detection.retrace(spans)


class _Slot:
    """One component: its channels, their alignment, its judge and its findings."""

    def __init__(self, subject: Subject, regimes: int, settings: DetectionSettings) -> None:
        self.subject = subject
        self.channel_of = {channel.name: index for index, channel in enumerate(subject.channels)}
        context = [index for index, each in enumerate(subject.channels) if is_context(each.name)]
        # a component of context alone is judged as any other
        self._context = context[:MAX_REGIMES] if len(context) < len(subject.channels) else []
        self.judge = ComponentJudge(len(subject.channels), (*([-1] * regimes), *self._context), settings)
        self._settings = settings
        self._regimes = regimes + len(self._context)
        self.novelty = Novelty(len(subject.channels)) if settings.novelty else None
        self.forget()

    def forget(self) -> None:
        channels = len(self.subject.channels)
        min_tick_us = int(self._settings.least_tick_s * 1_000_000)
        self.aligner = Aligner(channels, min_tick_us)
        self._waiting: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.judge.forget()
        self._state = self.judge.tracker.state
        self.course = Course(np.zeros(channels), np.zeros(channels))
        self.tracer = Tracer(self.subject.channels, self._regimes)

    def retrace(self, spans: int) -> Tracer:
        """Trace anew, in so many spans."""
        self.tracer = Tracer(self.subject.channels, self._regimes, whole=spans)
        return self.tracer

    def tick(self, frame: Frame, regime: np.ndarray) -> list[Event]:
        """Judge a tick, or keep it for a few more: while all is quiet they are judged together, for less effort."""
        self._waiting.append((frame.time_us, frame.row, regime.copy()))
        first_us, first_row, _ = self._waiting[0]
        if (
            len(self._waiting) < GROUP_TICKS
            and frame.time_us - first_us < GROUP_US
            and self._state is DetectionState.HEALTHY
            and not self.judge.health.jumped(first_row, frame.row)
        ):
            return []
        times_us, rows, regimes = zip(*self._waiting, strict=True)
        self._waiting = []
        return self.run(np.array(times_us, dtype=np.int64), np.array(rows), np.array(regimes))

    def run(self, times_us: np.ndarray, rows: np.ndarray, regimes: np.ndarray, seen: Seen | None = None) -> list[Event]:
        """Judge aligned rows (n, channels); what happened. ``seen`` takes what each row showed."""
        events: list[Event] = []
        if self._context:
            regimes = np.concatenate((regimes, rows[:, self._context]), axis=1)
        for segment in self.judge.run(times_us, rows, regimes):
            before = self._state
            self._state = self.judge.tracker.state
            evidence.track(self.course, segment, self._state, self._settings)
            self.tracer.take(segment, self.judge, times_us, regimes, self._state)
            time_us = int(segment.times_us[-1])
            told = len(events)
            for state in segment.passed:
                events.append(self._change(state, before, time_us, self._reason(state)))
                before = state
            if self._state in ALARMS:
                found = evidence.finding(self.subject, self.course, self.judge, time_us, self._settings)
                if found is not None:
                    events.append(found)
            if len(events) > told:
                self.tracer.tell(events[told:], self.judge)
            if seen is not None:
                seen.add(segment, self._state)
        return events

    def waiting(self) -> list[list[Any]]:
        """The ticks that wait, for a snapshot."""
        return [[time_us, row, regime] for time_us, row, regime in self._waiting]

    def load(self, judge: dict[str, Any], waiting: list[list[Any]]) -> None:
        self.judge.load(judge)
        self._waiting = [(int(time_us), row, regime) for time_us, row, regime in waiting]
        self._state = self.judge.tracker.state

    def replaced(self, serial: str, time_us: int) -> list[Event]:
        before = self.judge.tracker.state
        self.forget()
        self.judge.tracker.forget()
        self._state = self.judge.tracker.state
        old, self.subject = self.subject.serial, dataclasses.replace(self.subject, serial=serial)
        return [self._change(DetectionState.LEARNING, before, time_us, f"replaced: {old or 'unknown'} by {serial}")]

    def top_channel(self, plane: Plane | None = None) -> str:
        """The channel that stands out on a plane, else on the leading one."""
        judged = (plane or self.judge.leading).judged
        if judged is None or not judged.channels[-1].any():
            return ""
        return self.subject.channels[int(np.argmax(judged.channels[-1]))].name

    def view(self) -> ComponentView:
        judge = self.judge
        return ComponentView(
            component=self.subject.slot,
            state=judge.tracker.state,
            score=fuse.score(judge.evidence),
            top_channel=self.top_channel(),
            learned_fraction=judge.learned_fraction,
            detectors=evidence.votes(judge),
        )

    def _change(self, state: DetectionState, before: DetectionState, time_us: int, reason: str) -> StateChange:
        return StateChange(self.subject.slot, state, before, time_us, fuse.score(self.judge.evidence), reason[:256])

    def _reason(self, state: DetectionState) -> str:
        top, model = self.top_channel(), self.judge.model
        if model is None or not top:
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
        self._settings = settings
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

    @property
    def absent(self) -> dict[str, str]:
        return absent_detectors(self._settings.detectors) | absent_detectors(self._settings.slow_detectors)

    def derived_metrics(self) -> tuple[MetricSpec, ...]:
        return self._derived

    def on_samples(self, samples: Sequence[Sample]) -> Outcome:
        whole = self._whole_row(samples)
        if whole is not None:
            return Outcome(tuple(whole))
        events: list[Event] = []
        # regimes first at equal times, so that a row is judged under its own regime
        for sample in sorted(samples, key=lambda each: (each.time_us, each.metric not in self._regime_of)):
            events.extend(self._take(sample))
        return Outcome(tuple(events))

    def on_block(self, names: Sequence[str], times_us: np.ndarray, values: np.ndarray) -> Block:
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
            table[np.isinf(table)] = np.nan
            seen = Seen(list(slot.channel_of), slot.view(), slot.top_channel(slot.judge.fast), len(times_us))
            events.extend(slot.run(times_us, table, regimes, seen))
            seen.fill(len(times_us))
            score = _below_news(seen.evidence_score)
            if slot.novelty is not None:
                score = np.maximum(score, slot.novelty.run(times_us, table))
            verdicts[slot_name] = Verdicts(score, seen.states, seen.tops)
        return Block(tuple(events), verdicts)

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
        for slot in {id(each): each for each in (self._slot_of[sample.metric] for sample in derived)}.values():
            slot.tracer.note_waveform(waveform, slot.judge)
        for sample in derived:
            course = self._slot_of[sample.metric].course
            if not course.waveforms_us or course.waveforms_us[-1] != waveform.time_us:
                course.waveforms_us = [*course.waveforms_us[-KEPT_WAVEFORMS + 1 :], waveform.time_us]
            events.extend(self._take(sample))
        return Outcome(tuple(events), derived)

    def retrace(self, spans: int) -> dict[str, Tracer]:
        return {name: slot.retrace(spans) for name, slot in self._slots.items()}

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
                "waiting": slot.waiting(),
                "course": slot.course.state_tree(),
                "trace": slot.tracer.state(),
                "novelty": None if slot.novelty is None else slot.novelty.state(),
            }
            for name, slot in self._slots.items()
        }
        tree = {"version": SNAPSHOT_VERSION, "identity": self._identity, "regime": self._regime, "slots": slots}
        return snapshot.dump({**tree, "counts": dict(self.counts), "settings": dataclasses.asdict(self._settings)})

    def restore(self, snapshot: bytes) -> None:
        tree = _load_snapshot(snapshot, self._identity)
        try:
            for name, slot in self._slots.items():
                state = tree["slots"][name]
                slot.subject = dataclasses.replace(slot.subject, serial=state["serial"])
                slot.aligner.load(state["aligner"])
                slot.load(state["judge"], state["waiting"])
                slot.course = Course(**state["course"])
                slot.tracer.load(state.get("trace"), slot.judge)
                if slot.novelty is not None:
                    slot.novelty.load(state["novelty"])
            self._regime = tree["regime"]
            self.counts = Counter(tree["counts"])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, BadConfig):
            for slot in self._slots.values():
                slot.forget()
            raise BadInput("snapshot", "its content does not fit this version") from None

    def _whole_row(self, samples: Sequence[Sample]) -> list[Event] | None:
        """The short way for a lone component all of whose channels are read at once, the most common case."""
        if len(self._slots) != 1 or self._regime_of:
            return None
        (slot,) = self._slots.values()
        values = {sample.metric: sample.value for sample in samples if sample.time_us == samples[0].time_us}
        if len(values) != len(samples) or values.keys() != slot.channel_of.keys():
            return None
        frame = slot.aligner.add_row(samples[0].time_us, [values[name] for name in slot.channel_of])
        return None if frame is None else slot.tick(frame, self._regime)

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
            events.extend(slot.tick(frame, self._regime))
        return events


def _below_news(scores: np.ndarray) -> np.ndarray:
    """Scores of standing evidence, the upper half squeezed below what novelty flags: only what is new goes higher."""
    return np.where(scores <= 0.5, scores, 0.5 + (scores - 0.5) * (NEWS - 0.01 - 0.5) / 0.5)


def is_context(name: str) -> bool:
    """Does a vital's name say that it tells what the asset is asked to do, or the weather it does it in?"""
    return any(word in CONTEXT_WORDS for word in re.split(r"[^a-z]+", name.lower()))


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
    usable = [sorted(build_detectors(tables, 1)) for tables in (settings.detectors, settings.slow_detectors)]
    content = [device_id, {slot.subject.slot: list(slot.channel_of) for slot in slots}, list(regimes), usable]
    text = json.dumps([content, dataclasses.asdict(settings)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _load_snapshot(data: bytes, identity: str) -> dict[str, Any]:
    tree = snapshot.load(data)
    if tree.get("version") != SNAPSHOT_VERSION or tree.get("identity") != identity:
        raise BadInput("snapshot", "it belongs to another version, asset or configuration")
    return tree
