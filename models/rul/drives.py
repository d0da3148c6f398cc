"""Drives of a data centre, split by time: the engine learns from all data before a calendar cut and forecasts 30 days.

Every history ends at the cut: a drive that failed later counts as still running, and the test rows are the same rows
without their future. There are two splits: the same drives at a later time (``time_split``), and other drives, from
which nothing was learned, at a later time (``other_drives``). A drive that left the records within the 30 days without
a failure is weighed into the others (inverse probability of being watched). The Brier score is compared with that of a
forecast of the test's own base rate for every drive, which is known only afterwards. The top 1 % is taken at each cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.histories import Floats, Histories, Unit
from fleet_server.prognosis.rul.intervals import IntervalHazard, interval_channel
from fleet_server.prognosis.rul.tables import read_table
from fleet_server.prognosis.survival import product_limit

FILE = Path("drives") / "smart_history.csv.gz"
HORIZON_H = 720.0
CUT_SHARES = (0.45, 0.7, 0.95)
"""Calendar cuts, as shares of the time from the first record to the last day that leaves 30 days to forecast."""
TOP_SHARE = 0.01
BOOTSTRAPS = 400
RELIABILITY_BINS = 6
_DAY_H = 24.0
_KNOWN_AT_END = ("n_fails", "n_records", "max_date", "max_hours")
"""Columns that tell the end of a drive; they are removed, whether or not the search for leaks would find them."""


@dataclass(frozen=True)
class DriveForecasts:
    """Forecasts of one cut: ``said`` (n,), ``came`` (n,) and ``weight`` (n,); 0 where the outcome was not seen."""

    drive: npt.NDArray[np.int64]
    said: Floats
    came: Floats
    weight: Floats
    top: npt.NDArray[np.bool_]


def evaluate_drives(folder: Path, seed: int = 0, cuts: tuple[float, ...] = CUT_SHARES) -> dict[str, Any]:
    """Judge the hazard on the recorded drives below ``folder``; takes some minutes. Raises BadInput, OSError."""
    histories, _ = read_table(folder / FILE, "serial_number", "tstop", "fails")
    return evaluate_histories(histories, seed, cuts)


def evaluate_histories(histories: Histories, seed: int = 0, cuts: tuple[float, ...] = CUT_SHARES) -> dict[str, Any]:
    """The same for drives that are read already: channels ``tstart``, ``min_date`` and ``min_hours`` are needed."""
    drives = _Drives.of(histories)
    first_day, last_day = float(drives.seen_day.min()), float(np.quantile(drives.last_day, 0.99)) - HORIZON_H / _DAY_H
    moments = [first_day + share * (last_day - first_day) for share in cuts]
    half = np.random.default_rng(seed).random(len(drives.histories)) < 0.5
    same = [_judge(drives, day, np.ones_like(half), np.ones_like(half), seed) for day in moments]
    other = [_judge(drives, day, half, ~half, seed) for day in moments]
    return {
        "drives": len(drives.histories),
        "horizon_h": HORIZON_H,
        "cut_days": [round(day, 1) for day in moments],
        "time_split": figures(same, seed),
        "other_drives": figures(other, seed),
    }


def figures(judged: list[DriveForecasts], seed: int = 0) -> dict[str, Any]:
    """Pooled figures with 90 % bootstrap intervals over drives, figures of each cut, and a reliability table."""
    everyone = _pooled(judged)
    rng = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {}
    drives = int(everyone.drive.max()) + 1
    for _ in range(BOOTSTRAPS):
        times = np.bincount(rng.integers(0, drives, drives), minlength=drives)[everyone.drive]
        for name, value in _figures(everyone, everyone.weight * times).items():
            draws.setdefault(name, []).append(value)
    pooled = _figures(everyone, everyone.weight)
    intervals = {
        name: [_told(np.nanquantile(draws[name], share)) for share in (0.05, 0.95)]
        for name in ("skill", "observed_expected_top1", "lift_top1")
    }
    return {
        **{name: _told(value) for name, value in pooled.items()},
        "interval_90": intervals,
        "n": int((everyone.weight > 0).sum()),
        "lost": int((everyone.weight == 0).sum()),
        "failed": int(everyone.came.sum()),
        "failed_in_top1": int(everyone.came[everyone.top].sum()),
        "cuts": [{name: _told(value) for name, value in _figures(each, each.weight).items()} for each in judged],
        "reliability": _reliability(everyone),
    }


@dataclass(frozen=True)
class _Drives:
    """Histories without columns that are known only at the end, and the calendar days of each drive's first and last
    hour."""

    histories: Histories
    channel: str
    seen_day: Floats
    seen_hours: Floats
    last_day: Floats

    @classmethod
    def of(cls, histories: Histories) -> _Drives:
        missing = {"min_date", "min_hours"} - set(histories.channels)
        channel = interval_channel(histories)
        if missing or channel is None:
            raise BadInput("drives", f"not the drives' table: no {', '.join(sorted(missing)) or 'start of intervals'}")
        first = np.array([unit.values[0] for unit in histories])
        day, hours = (first[:, histories.channels.index(name)] for name in ("min_date", "min_hours"))
        kept = [index for index, name in enumerate(histories.channels) if name not in _KNOWN_AT_END]
        units = tuple(Unit(unit.name, unit.times, unit.values[:, kept], unit.failed) for unit in histories)
        slim = Histories(units, tuple(histories.channels[index] for index in kept))
        ends = np.array([unit.times[-1] for unit in histories])
        return cls(slim, channel, day, hours, day + (ends - hours) / _DAY_H)

    def hours_at(self, day: float) -> Floats:
        """Power-on hours (drives,) of each drive at a calendar day, as if it ran all the time."""
        return self.seen_hours + (day - self.seen_day) * _DAY_H


def ended_at(unit: Unit, start: int, moment: float) -> Unit | None:
    """The life as it was known at ``moment``, which ends its last interval; None when it had not begun."""
    rows = int(np.searchsorted(unit.values[:, start], moment, side="left"))
    if not rows:
        return None
    if moment >= unit.times[-1]:
        return unit
    times = unit.times[:rows].copy()
    times[-1] = min(times[-1], moment)
    return Unit(unit.name, times, unit.values[:rows], False)


def _judge(
    drives: _Drives, day: float, learned: npt.NDArray[np.bool_], tested: npt.NDArray[np.bool_], seed: int
) -> DriveForecasts:
    """Learn from the ``learned`` drives as known at the cut, and forecast the ``tested`` drives that still ran then."""
    units, start = drives.histories.units, drives.histories.channels.index(drives.channel)
    at_cut = drives.hours_at(day)
    known = [ended_at(unit, start, moment) for unit, moment in zip(units, at_cut.tolist(), strict=True)]
    training = tuple(unit for unit, use in zip(known, learned, strict=True) if unit is not None and use)
    hazard = IntervalHazard.fit(Histories(training, drives.histories.channels), drives.channel, (HORIZON_H,), seed)
    running = [
        index
        for index, unit in enumerate(known)
        if tested[index] and unit is not None and units[index].times[-1] > at_cut[index]
    ]
    said = hazard.p_fail([unit for index in running if (unit := known[index]) is not None])[:, 0]
    remaining = np.array([units[index].times[-1] - at_cut[index] for index in running])
    failed = np.array([units[index].failed for index in running])
    came = failed & (remaining <= HORIZON_H)
    top = np.zeros(said.size, dtype=bool)
    top[np.argsort(-said, kind="stable")[: max(1, round(TOP_SHARE * said.size))]] = True
    return DriveForecasts(np.array(running), said, came.astype(float), watched_weights(remaining, failed), top)


def watched_weights(remaining: Floats, failed: npt.NDArray[np.bool_], horizon: float = HORIZON_H) -> Floats:
    """Weights (n,) by which drives with a known outcome stand for drives that left before; the latter have 0."""
    left = ~failed & (remaining < horizon)
    came = failed & (remaining <= horizon)
    if not left.any():
        return np.ones(remaining.size)
    moments, staying = product_limit(np.minimum(remaining, horizon), left, np.ones(remaining.size))
    until = np.where(came, remaining, horizon)
    place = np.searchsorted(moments, until, side="left") - 1  # drives that left before the outcome
    probability = np.where(place >= 0, staying[np.maximum(place, 0)], 1.0)
    return np.asarray(np.where(left, 0.0, 1.0 / np.maximum(probability, 0.05)))


def _pooled(judged: list[DriveForecasts]) -> DriveForecasts:
    def joined(name: str) -> Any:
        return np.concatenate([getattr(each, name) for each in judged])

    return DriveForecasts(joined("drive"), joined("said"), joined("came"), joined("weight"), joined("top"))


def _figures(judged: DriveForecasts, weight: Floats) -> dict[str, float]:
    """Brier score against the base rate's, and in the top 1 %: observed over expected failures, lift, share caught."""
    base = float(np.average(judged.came, weights=weight))
    brier = float(np.average((judged.said - judged.came) ** 2, weights=weight))
    top = weight * judged.top
    observed, expected = float((top * judged.came).sum()), float((top * judged.said).sum())
    return {
        "brier": brier,
        "base_brier": base * (1.0 - base),
        "skill": 1.0 - _ratio(brier, base * (1.0 - base)),
        "base_rate": base,
        "observed_expected": _ratio(base, float(np.average(judged.said, weights=weight))),
        "observed_expected_top1": _ratio(observed, expected),
        "lift_top1": _ratio(_ratio(observed, float(top.sum())), base),
        "caught_top1": _ratio(observed, float((weight * judged.came).sum())),
    }


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else float("nan")


def _told(value: float) -> float | None:
    """Rounded for JSON; None where there is no figure."""
    return round(float(value), 5) if np.isfinite(value) else None


def _reliability(judged: DriveForecasts) -> list[dict[str, float]]:
    """Forecast probability against observed share, in bins with equally many expected failures."""
    order = np.argsort(judged.said, kind="stable")
    expected = np.cumsum(judged.weight[order] * judged.said[order])
    number = np.minimum((expected / expected[-1] * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    table = []
    for each in range(RELIABILITY_BINS):
        members = order[number == each]
        weight = judged.weight[members]
        if weight.sum() > 0:
            said, came = (float(np.average(column[members], weights=weight)) for column in (judged.said, judged.came))
            table.append({"forecasts": int(members.size), "said": round(said, 5), "happened": round(came, 5)})
    return table
