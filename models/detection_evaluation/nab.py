"""The Numenta Anomaly Benchmark's score of a detector over labelled series, by its published rules.

A labelled window is worth up to ``A_TP``: only the earliest detection in it counts, weighted by how early it comes. A
window without a detection costs ``A_FN``. Each detected row outside the windows costs up to ``A_FP``: little just after
a window, all of it far from one or before the first. The first 15 % of the rows, 750 at most, are probation: nothing
counts there. One threshold serves the whole corpus, the one that gives the highest score for the profile; the score is
then scaled so that a detector that never fires has 0 and a perfect one 100 (it may be negative).

After Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms", 2015. Pure; raises ValueError on malformed
series. A score that is not a number never counts as a detection.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PROBATION_SHARE = 0.15
PROBATION_ROWS_MAX = 0.15 * 5000
NEVER = np.inf
"""The threshold that no score reaches: the detector never flags."""

Window = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class Profile:
    """The weights of a profile: for a window found early, a window missed and a false row."""

    a_tp: float
    a_fn: float
    a_fp: float


PROFILES = {
    "standard": Profile(a_tp=1.0, a_fn=1.0, a_fp=0.11),
    "reward_low_FP": Profile(a_tp=1.0, a_fn=1.0, a_fp=0.22),
    "reward_low_FN": Profile(a_tp=1.0, a_fn=2.0, a_fp=0.11),
}


@dataclass(frozen=True, slots=True)
class Series:
    """A judged series: times (n,) ascending, scores (n,), windows as first and last time in them, both inclusive.

    ``alarms`` (n,) tells per row whether an alarm stood; only ``score_alarms`` reads it.
    """

    times: Sequence[Any] | NDArray[Any]
    scores: Sequence[float] | NDArray[np.float64]
    windows: Sequence[Window]
    alarms: Sequence[bool] | NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class SeriesScore:
    """One series at the threshold: raw score with its bounds, windows found and missed, false rows."""

    raw: float
    null: float
    perfect: float
    tp: int
    fp: int
    fn: int


@dataclass(frozen=True)
class Result:
    """The corpus under one profile: normalised score, threshold, windows found and missed, false rows."""

    score: float
    threshold: float
    tp: int
    fp: int
    fn: int
    series: Mapping[str, SeriesScore]

    def of(self, names: Iterable[str]) -> float:
        """The normalised score of some of the series (a group), with the corpus's threshold. NaN without windows."""
        return _normalised([self.series[name] for name in names])


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The rows of one series that count: score, window index (-1 outside), value of a detection (unweighted)."""

    scores: NDArray[np.float64]
    window: NDArray[np.int64]
    value: NDArray[np.float64]
    windows: int


def score_corpus(series: Mapping[str, Series]) -> dict[str, Result]:
    """Per profile the corpus's score at its best threshold. Raises ValueError."""
    prepared = {name: _prepare(name, item, item.scores) for name, item in series.items()}
    return {
        name: _result(prepared, profile, _best_threshold(list(prepared.values()), profile))
        for name, profile in PROFILES.items()
    }


def score_at(series: Mapping[str, Series], threshold: float) -> dict[str, Result]:
    """Per profile the corpus's score when the rows at or above a given threshold are the detections."""
    prepared = {name: _prepare(name, item, item.scores) for name, item in series.items()}
    return {name: _result(prepared, profile, threshold) for name, profile in PROFILES.items()}


def score_alarms(series: Mapping[str, Series]) -> dict[str, Result]:
    """Per profile the corpus's score when the detections are the onsets of ``alarms``. Raises ValueError."""
    prepared = {}
    for name, item in series.items():
        if item.alarms is None:
            raise ValueError(f"{name}: no alarms")
        alarms = np.asarray(item.alarms, dtype=np.bool_)
        onsets = alarms & ~np.concatenate(([False], alarms[:-1]))
        prepared[name] = _prepare(name, item, onsets.astype(np.float64))
    return {name: _result(prepared, profile, 1.0) for name, profile in PROFILES.items()}


def read_windows(path: Path) -> dict[str, list[Window]]:
    """Windows (datetime64[us]) per series from ``combined_windows.json``. Raises OSError, ValueError."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: [(np.datetime64(first, "us"), np.datetime64(last, "us")) for first, last in windows]
        for name, windows in tree.items()
    }


def probation_rows(rows: int) -> int:
    """Number of rows at the start of a series that do not count."""
    return int(min(np.floor(PROBATION_SHARE * rows), PROBATION_ROWS_MAX))


def scaled_sigmoid(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Value of a detection by its position in window widths: -1 is the window's start, 0 its end; -1 from 3 on."""
    near = 2.0 / (1.0 + np.exp(5.0 * np.minimum(position, 3.0))) - 1.0
    return np.where(position >= 3.0, -1.0, near)


def _prepare(name: str, series: Series, scores: Sequence[float] | NDArray[np.float64]) -> _Prepared:
    times, judged = np.asarray(series.times), np.asarray(scores, dtype=np.float64)
    if times.ndim != 1 or times.shape != judged.shape:
        raise ValueError(f"{name}: {times.shape} times and {judged.shape} scores")
    if (times[1:] < times[:-1]).any():
        raise ValueError(f"{name}: times step back")
    rows = np.arange(len(times))
    window = np.full(len(times), -1)
    position = np.full(len(times), 3.0)
    free, counted, start = 0, 0, probation_rows(len(times))
    for first, last in sorted(series.windows):
        low, high = int(np.searchsorted(times, first, "left")), int(np.searchsorted(times, last, "right"))
        if low < free:
            raise ValueError(f"{name}: windows overlap")
        if high <= max(low, start):
            continue  # no row of it counts
        width = int(high - low)
        window[low:high] = counted
        position[low:high] = -(high - rows[low:high]) / width
        position[high:] = (rows[high:] - (high - 1)) / max(width - 1, 1)
        free, counted = high, counted + 1
    value = scaled_sigmoid(position)
    inside = window >= 0
    value[inside] /= scaled_sigmoid(np.array(-1.0))
    judged = np.where(np.isnan(judged), -np.inf, judged)
    return _Prepared(judged[start:], window[start:], value[start:], counted)


def _best_threshold(corpus: Sequence[_Prepared], profile: Profile) -> float:
    """The score at or above which rows are detections so that the corpus's raw score is highest."""
    scores, gains = [np.zeros(0)], [np.zeros(0)]
    for item in corpus:
        outside = item.window < 0
        scores.append(item.scores[outside])
        gains.append(item.value[outside] * profile.a_fp)
        for index in range(item.windows):
            inside = item.window == index
            order = np.argsort(-item.scores[inside], kind="stable")
            best = np.maximum.accumulate(item.value[inside][order]) * profile.a_tp
            scores.append(item.scores[inside][order])
            gains.append(np.diff(best, prepend=-profile.a_fn))
    level, gain = np.concatenate(scores), np.concatenate(gains)
    fires = level > -np.inf
    level, gain = level[fires], gain[fires]
    order = np.argsort(-level, kind="stable")
    level, total = level[order], np.cumsum(gain[order])
    ends = np.flatnonzero(np.diff(level, append=-np.inf) < 0)
    if not len(ends) or total[ends].max() <= 0:
        return NEVER
    return float(level[ends[np.argmax(total[ends])]])


def _result(corpus: Mapping[str, _Prepared], profile: Profile, threshold: float) -> Result:
    series = {name: _score(item, profile, threshold) for name, item in corpus.items()}
    parts = list(series.values())
    return Result(
        score=_normalised(parts),
        threshold=threshold,
        tp=sum(part.tp for part in parts),
        fp=sum(part.fp for part in parts),
        fn=sum(part.fn for part in parts),
        series=series,
    )


def _score(item: _Prepared, profile: Profile, threshold: float) -> SeriesScore:
    fires = (item.scores >= threshold) & (item.scores > -np.inf)
    false = fires & (item.window < 0)
    found = [item.value[fires & (item.window == index)].max(initial=-np.inf) for index in range(item.windows)]
    hits = [value for value in found if value > -np.inf]
    missed = item.windows - len(hits)
    raw = profile.a_tp * sum(hits) - profile.a_fn * missed + profile.a_fp * float(item.value[false].sum())
    return SeriesScore(
        raw=float(raw),
        null=-profile.a_fn * item.windows,
        perfect=profile.a_tp * item.windows,
        tp=len(hits),
        fp=int(false.sum()),
        fn=missed,
    )


def _normalised(parts: Sequence[SeriesScore]) -> float:
    null, perfect = sum(part.null for part in parts), sum(part.perfect for part in parts)
    if perfect == null:
        return float("nan")
    return 100.0 * (sum(part.raw for part in parts) - null) / (perfect - null)
