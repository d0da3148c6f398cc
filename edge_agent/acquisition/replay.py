"""A recording played as if the asset were here: rows before the cut at once as history, the others live.

The cut (``history_until``) is the row that falls at the moment the source starts. ``cut_at`` fixes that moment instead,
so that a restarted source goes on where it was. Rows before the cut are handed over as historical; later rows follow
when the injected clock reaches them, until ``stop_at``. ``time_scale`` stretches the recorded time: with 6 one recorded
second lasts six domain seconds.

Reads delimited text (``[columns."Bearing 1"]`` maps a column to a vital; other columns belong to other assets) and
``.npz`` waveform snapshots (``waveforms`` names the vitals of its channels). A row that cannot be read is skipped,
counted and declared as a gap; a file that cannot be read is BadConfig. The source ends when the recording does.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from array import array
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from edge_agent.acquisition._tables import BadRow, Row, Snapshots, open_snapshots, open_table
from edge_agent.acquisition._times import parse_time_us
from edge_agent.acquisition.api import Sink, SourceDeps
from fleet_core.clock import Clock
from fleet_core.errors import BadConfig, BadInput
from fleet_core.telemetry import MetricSpec, Sample, Waveform, from_us, to_us

SAMPLE = """\
path = "recording.csv"
history_until = 0.4
stop_at = 0.9

[columns."Bearing 1"]
metric = "vibration_rms_g"
unit = "[g]"
component = "drive_bearing"
"""

MAX_ROWS = 2_000_000
HISTORY_CHUNK = 500

log = logging.getLogger(__name__)

Position = float | int | str


@dataclass(frozen=True, slots=True)
class Column:
    """The vital that a column of the recording becomes."""

    metric: str
    unit: str = "1"
    component: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """``history_until`` and ``stop_at``: a fraction of the rows (0.0..1.0), a row number or a recorded time."""

    path: str
    columns: dict[str, Column] = field(default_factory=dict)
    waveforms: tuple[str, ...] = ()
    waveform_component: str = ""
    waveform_unit: str = "[g]"
    time_column: str = ""
    history_until: Position = 0.0
    stop_at: Position = 1.0
    cut_at: str = ""
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.columns and not self.waveforms:
            raise BadConfig("columns (for delimited text) or waveforms (for .npz) must map the recording to vitals")
        if not 0 < self.time_scale < 1e6:
            raise BadConfig("time_scale must be above 0")


@dataclass(frozen=True, slots=True)
class _Recording:
    """A recording in memory: ``times_us`` (rows,) rising, and ``values`` (rows, vitals) or ``shots``. Before the rows
    whose indexes are in ``bad``, unreadable rows were skipped.
    """

    metrics: tuple[MetricSpec, ...]
    times_us: np.ndarray
    values: np.ndarray
    shots: Snapshots | None
    bad: frozenset[int]


class Replay:
    """See the module. ``skipped`` counts unreadable rows."""

    def __init__(self, config: Config, deps: SourceDeps) -> None:
        self._config = config
        self._deps = deps
        self.skipped = 0

    async def run(self, sink: Sink) -> None:
        recording = await asyncio.to_thread(self._load)
        rows = len(recording.times_us)
        cut = _row_of(self._config.history_until, recording.times_us, "history_until")
        stop = _row_of(self._config.stop_at, recording.times_us, "stop_at")
        due_us = self._due_times(recording.times_us, min(cut, rows - 1))
        await sink.describe(dataclasses.replace(self._deps.asset, metrics=recording.metrics))
        # With a fixed cut, rows that fell due before this start are history as well.
        start_us = to_us(self._deps.clock.now())
        history = max(min(cut, stop), min(stop, int(np.searchsorted(due_us, start_us, side="left"))))
        await self._history(sink, recording, due_us, history)
        for row in range(history, stop):
            await _sleep_until(self._deps.clock, int(due_us[row]))
            await self._hand_over(sink, recording, due_us, row, row + 1, historical=False)

    async def _history(self, sink: Sink, recording: _Recording, due_us: np.ndarray, until: int) -> None:
        step = 1 if recording.shots is not None else max(1, HISTORY_CHUNK // max(1, recording.values.shape[1]))
        for low in range(0, until, step):
            await self._hand_over(sink, recording, due_us, low, min(until, low + step), historical=True)

    async def _hand_over(
        self, sink: Sink, recording: _Recording, due_us: np.ndarray, low: int, high: int, *, historical: bool
    ) -> None:
        for row in range(low, high):
            if row in recording.bad:
                start_us = int(due_us[row - 1]) if row else int(due_us[row])
                await sink.gap(start_us, int(due_us[row]), "unreadable rows in the recording")
        if recording.shots is not None:
            for row in range(low, high):
                for channel, metric in enumerate(recording.metrics):
                    values = array("f", recording.shots.values[row, :, channel].tobytes())
                    rate_hz, unit = recording.shots.sample_rate_hz, metric.unit
                    wave = Waveform(metric.name, int(due_us[row]), rate_hz, values, unit)
                    await sink.waveform(wave, historical=historical)
            return
        samples = [
            Sample(metric.name, int(due_us[row]), float(recording.values[row, column]))
            for row in range(low, high)
            for column, metric in enumerate(recording.metrics)
        ]
        await sink.samples(samples, historical=historical)

    def _due_times(self, times_us: np.ndarray, cut: int) -> np.ndarray:
        anchor_us = to_us(self._deps.clock.now())
        if self._config.cut_at:
            try:
                anchor_us = parse_time_us(self._config.cut_at)
            except BadInput as error:
                raise BadConfig(f"replay: cut_at: {error}") from None
        since_cut = (times_us - times_us[cut]).astype(np.float64) * self._config.time_scale
        due: np.ndarray = anchor_us + np.rint(since_cut).astype(np.int64)
        return due

    def _load(self) -> _Recording:
        path = Path(self._config.path)
        path = path if path.is_absolute() else self._deps.base_dir / path
        try:
            return self._load_shots(path) if path.suffix.lower() == ".npz" else self._load_table(path)
        except BadInput as error:
            raise BadConfig(f"replay: {error}") from None

    def _load_shots(self, path: Path) -> _Recording:
        shots = open_snapshots(path)
        if len(self._config.waveforms) != shots.values.shape[2]:
            raise BadConfig(f"replay: {path} has {shots.values.shape[2]} channels, waveforms names another number")
        period_s = _period_s(shots.times_us) * self._config.time_scale
        metrics = tuple(
            MetricSpec(name, self._config.waveform_unit, self._config.waveform_component, period_s, "waveform")
            for name in self._config.waveforms
        )
        return _Recording(metrics, shots.times_us, np.zeros((len(shots.times_us), 0)), shots, frozenset())

    def _load_table(self, path: Path) -> _Recording:
        table = open_table(path, self._config.time_column)
        numeric = {table.header[index]: place for place, index in enumerate(table.columns)}
        missing = [name for name in self._config.columns if name not in numeric]
        if missing:
            raise BadConfig(
                f"replay: {path} has no numeric column {missing[0]!r}; there are: {', '.join(numeric)[:300]}"
            )
        places = [numeric[name] for name in self._config.columns]
        times: list[int] = []
        values = array("d")
        bad: set[int] = set()
        for row in table.rows():
            if isinstance(row, BadRow) or (times and row.time_us <= times[-1]):
                self._skip(row, bad, len(times))
                continue
            times.append(row.time_us)
            values.extend(row.values[place] for place in places)
            if len(times) > MAX_ROWS:
                raise BadConfig(f"replay: {path} has more than {MAX_ROWS} rows; cut it into parts")
        if not times:
            raise BadConfig(f"replay: {path} has no readable row")
        times_us = np.array(times, dtype=np.int64)
        period_s = _period_s(times_us) * self._config.time_scale
        metrics = tuple(
            MetricSpec(column.metric, column.unit, column.component, period_s)
            for column in self._config.columns.values()
        )
        bad.discard(len(times))  # unreadable rows at the very end leave no gap between samples
        return _Recording(metrics, times_us, np.array(values).reshape(len(times), -1), None, frozenset(bad))

    def _skip(self, row: Row | BadRow, bad: set[int], at: int) -> None:
        if not self.skipped:
            reason = row.reason if isinstance(row, BadRow) else "its time does not follow the row before"
            log.warning(
                "replay of %s: line %d skipped: %s (further ones are counted)", self._config.path, row.line, reason
            )
        self.skipped += 1
        bad.add(at)


def build(config: Config, deps: SourceDeps) -> Replay:
    return Replay(config, deps)


def _row_of(position: Position, times_us: np.ndarray, name: str) -> int:
    """A position as a row index 0..rows. A float is a fraction, an int a row, a text a recorded time."""
    rows = len(times_us)
    if isinstance(position, str):
        try:
            return int(np.searchsorted(times_us, parse_time_us(position)))
        except BadInput as error:
            raise BadConfig(f"replay: {name}: {error}") from None
    if isinstance(position, float):
        if not 0 <= position <= 1:
            raise BadConfig(f"replay: {name} = {position}: a fraction must be 0.0..1.0 (a whole number is a row)")
        return round(position * rows)
    if not 0 <= position <= rows:
        raise BadConfig(f"replay: {name} = {position}: the recording has {rows} rows")
    return position


def _period_s(times_us: np.ndarray) -> float:
    return float(np.median(np.diff(times_us))) / 1e6 if len(times_us) > 1 else 0.0


async def _sleep_until(clock: Clock, time_us: int) -> None:
    moment: datetime = from_us(time_us)
    while (left := moment - clock.now()) > timedelta(0):
        await clock.sleep(left.total_seconds())
