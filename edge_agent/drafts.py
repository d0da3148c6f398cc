"""Turns samples, events and waveforms into drafts of batches. Pure.

A draft is a batch before it has a number. An encoded draft stays below about 16 KiB, well below the wire's bound,
because small brokers cut the link at larger messages. The collector of an asset holds at most ``DRAFT_SAMPLES``
samples; its owner takes a draft when the collector is full or the samples are old enough.

Failure: samples that the schema or a bound does not allow are counted in ``rejected`` by reason, never silently lost.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet_core.batches import GapRecord, SampleColumn, Schema, WaveformFragment
from fleet_core.telemetry import (
    EARLIEST_US,
    LATEST_US,
    MAX_WAVEFORM_SAMPLES,
    BatchClass,
    Finding,
    Sample,
    StateChange,
    Waveform,
)

DRAFT_SAMPLES = 600
DRAFT_FRAGMENT_SAMPLES = 3840
"""Samples of a waveform in one draft: of 4 bytes each, so 15 KiB."""

Event = Finding | StateChange


@dataclass(frozen=True, slots=True)
class Draft:
    """A batch that has no number, no place in the hash chain and no time of making yet."""

    batch_class: BatchClass
    device_id: str
    schema: Schema
    columns: tuple[SampleColumn, ...] = ()
    waveform: WaveformFragment | None = None
    findings: tuple[Finding, ...] = ()
    states: tuple[StateChange, ...] = ()
    gaps: tuple[GapRecord, ...] = ()
    historical: bool = False

    @property
    def time_range_us(self) -> tuple[int, int]:
        """The first and the last device time of the content, in microseconds."""
        times = [time_us for column in self.columns for time_us in (min(column.times_us), max(column.times_us))]
        if self.waveform is not None:
            times.append(self.waveform.time_us)
        times += [finding.detected_us for finding in self.findings] + [state.time_us for state in self.states]
        times += [time_us for gap in self.gaps for time_us in (gap.start_us, gap.end_us)]
        return min(times), max(times)


def gap_draft(device_id: str, schema: Schema, kind: BatchClass, reason: str, start_us: int, end_us: int) -> Draft:
    """The draft that declares a loss before the outbox, by time range."""
    start_us, end_us = (min(max(time_us, EARLIEST_US), LATEST_US) for time_us in sorted((start_us, end_us)))
    record = GapRecord(0, 0, kind, reason[:128], start_us, end_us)
    return Draft(BatchClass.GAP, device_id, schema, gaps=(record,))


def event_drafts(device_id: str, schema: Schema, events: Iterable[Event], historical: bool) -> list[Draft]:
    """One draft for every finding, since a finding may be long, and one for every 32 state changes."""
    events = list(events)
    states = tuple(event for event in events if isinstance(event, StateChange))
    drafts = [
        Draft(BatchClass.FINDING, device_id, schema, states=states[start : start + 32], historical=historical)
        for start in range(0, len(states), 32)
    ]
    findings = [event for event in events if isinstance(event, Finding)]
    drafts += [Draft(BatchClass.FINDING, device_id, schema, findings=(f,), historical=historical) for f in findings]
    return drafts


def waveform_drafts(device_id: str, schema: Schema, waveform: Waveform, historical: bool) -> list[Draft]:
    """The waveform cut into drafts of at most ``DRAFT_FRAGMENT_SAMPLES`` samples."""
    values = waveform.values
    starts = range(0, len(values), DRAFT_FRAGMENT_SAMPLES)
    return [
        Draft(
            BatchClass.WAVEFORM,
            device_id,
            schema,
            waveform=WaveformFragment(
                metric=waveform.metric,
                time_us=waveform.time_us,
                sample_rate_hz=waveform.sample_rate_hz,
                unit=waveform.unit,
                index=index,
                count=len(starts),
                values=values[start : start + DRAFT_FRAGMENT_SAMPLES],
            ),
            historical=historical,
        )
        for index, start in enumerate(starts)
    ]


class Collector:
    """Collects the samples of one asset for routine batches; back-fill and live samples are kept apart."""

    def __init__(self, device_id: str, schema: Schema) -> None:
        self.schema = schema
        self.rejected: Counter[str] = Counter()
        self._device_id = device_id
        self._columns: dict[bool, dict[str, SampleColumn]] = {False: {}, True: {}}
        self._counts = {False: 0, True: 0}

    def accepts(self, sample: Sample) -> bool:
        """Whether the schema and the bounds allow the sample. A refusal is counted in ``rejected`` by reason."""
        if sample.metric not in self.schema:
            self.rejected["unknown_metric"] += 1
        elif not EARLIEST_US <= sample.time_us <= LATEST_US:
            self.rejected["time"] += 1
        else:
            return True
        return False

    def accepts_waveform(self, waveform: Waveform) -> bool:
        """Whether the schema and the bounds allow the waveform. A refusal is counted in ``rejected`` by reason."""
        if waveform.metric not in self.schema or waveform.values.typecode != "f":
            self.rejected["unknown_metric"] += 1
        elif not EARLIEST_US <= waveform.time_us <= LATEST_US:
            self.rejected["time"] += 1
        elif not (0 < len(waveform.values) <= MAX_WAVEFORM_SAMPLES and 0 < waveform.sample_rate_hz <= 1e9):
            self.rejected["waveform"] += 1
        else:
            return True
        return False

    def add(self, samples: Sequence[Sample], historical: bool) -> list[Draft]:
        """Collect samples that ``accepts`` allowed. Returns the drafts that became full by it."""
        full: list[Draft] = []
        columns = self._columns[historical]
        for sample in samples:
            column = columns.get(sample.metric)
            if column is None:
                column = columns[sample.metric] = SampleColumn(sample.metric, array("q"), array("d"))
            column.times_us.append(sample.time_us)
            column.values.append(sample.value)
            self._counts[historical] += 1
            if self._counts[historical] >= DRAFT_SAMPLES:
                full += self._take(historical)
                columns = self._columns[historical]
        return full

    def take(self) -> list[Draft]:
        """The collected samples as drafts; the collector is empty afterwards."""
        return self._take(False) + self._take(True)

    def __len__(self) -> int:
        return self._counts[False] + self._counts[True]

    def _take(self, historical: bool) -> list[Draft]:
        columns = tuple(self._columns[historical].values())
        self._columns[historical], self._counts[historical] = {}, 0
        if not columns:
            return []
        return [Draft(BatchClass.ROUTINE, self._device_id, self.schema, columns, historical=historical)]
