"""False alarms per asset and month, on rows that are known to be healthy, and the time until drifts are found.

An alarm is counted at its onset, so an alarm that stands for a day is one alarm. Simulated assets are drawn anew for
each seed and live 61 days; the first day is learnt from. The floors are stated for reference assets. Assets that do not
show their load, machines and servers (weather, wander over hours, weekly plans) are the harder cases, with fewer
months. Drifts begin on day 28. An asset that is already in alarm then is counted apart, because its alarm says nothing
about the drift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from models.detection_evaluation.baselines import BASELINES
from models.detection_evaluation.judging import FloatArray
from models.detection_evaluation.report import Floor, Table
from models.detection_evaluation.tasks import DAYS_PER_MONTH, OURS, Simulated, Task, TaskResult
from models.fleet_simulation import CHANNELS, Drift, Kind

ASSET_DAYS = 61.0
DRIFT_START_DAY = 28.0
DRIFTS = {"drift 1 sigma a day": (1.0, 7.0, 2.0), "drift 1 sigma a week": (1.0 / 7.0, 21.0, 7.0)}
"""By name of a drift: sigma per day, the days it lasts, and the days within which it must be found."""
FLOOR_KIND = "reference"
KINDS: dict[str, tuple[Kind, bool, float]] = {
    FLOOR_KIND: ("reference", True, 1.0),
    "reference, load not shown": ("reference", False, 0.05),
    "machine": ("machine", True, 0.05),
    "server": ("server", True, 0.05),
}
"""Groups of simulated assets: kind, whether the load is shown, and the group's share of the months."""
DRIFTED_SHARE = 1.0 / 15.0
MIN_ASSETS, MIN_DRIFTED = 2, 4
FALSE_ALARMS_FLOOR = 0.1
COMPARED_ASSETS = 1
"""Number of simulated assets of a kind on which the plain detectors run, too (half-space trees take long)."""


def tasks(months: int, seed: int) -> list[Task]:
    """Healthy reference assets for ``months`` (30 days each) of judging, a share of that of the harder kinds, and
    drifting assets of each."""
    found: list[Task] = []
    for place, (name, (kind, load_visible, share)) in enumerate(KINDS.items() if months else ()):
        first = seed + 10_000_000 * place
        assets = max(MIN_ASSETS, math.ceil(share * months * DAYS_PER_MONTH / (ASSET_DAYS - 1.0)))
        for index in range(assets):
            how = Simulated(first + index, ASSET_DAYS, kind, load_visible)
            found.append(_task(f"simulated {name}", index, how))
        drifted = max(MIN_DRIFTED, round(DRIFTED_SHARE * months * (share if share == 1.0 else 4.0 * share)))
        for offset, (drift_name, (sigma_per_day, days, _)) in enumerate(DRIFTS.items(), start=1):
            for index in range(drifted):
                # Channel 0 is the load, which the operator changes: a drift of it is no fault.
                drift = Drift(1 + index % (CHANNELS - 1), DRIFT_START_DAY, sigma_per_day)
                how = Simulated(first + 1_000_000 * offset + index, DRIFT_START_DAY + days, kind, load_visible, drift)
                found.append(_task(f"{drift_name}, {name}", index, how))
    return found


def floors(judged: Sequence[TaskResult]) -> list[Floor]:
    """The floors for reference assets, with the figures that were measured."""
    done = [each for each in judged if each.recording is not None]
    found: list[Floor] = []
    healthy = [false_alarms(each, OURS) for each in done if each.task.group == f"simulated {FLOOR_KIND}"]
    if months := sum(each[0] for each in healthy):
        rate = sum(each[1] for each in healthy) / months
        found.append(
            Floor(f"false alarms per asset-month, {months:.0f} asset-months", rate, FALSE_ALARMS_FLOOR, at_most=True)
        )
    for name, (_, _, within_days) in DRIFTS.items():
        members = [each for each in done if each.task.group == f"{name}, {FLOOR_KIND}"]
        delays = np.array(
            [each for each in (delay_days(m, OURS, DRIFT_START_DAY) for m in members) if each is not None]
        )
        if len(delays):
            share = 100.0 * float((delays <= within_days).mean())
            found.append(Floor(f"{name}: found within {within_days:g} days, % of {len(delays)} assets", share, 100.0))
    return found


def tables(judged: Sequence[TaskResult]) -> list[Table]:
    """False alarms on all healthy stretches of all corpora; delays of the simulated drifts."""
    done = [each for each in judged if each.recording is not None]
    healthy = [each for each in done if each.task.healthy_share > 0]
    drifted = [each for each in done if isinstance(each.task.source, Simulated) and each.task.source.drift]
    found = []
    if healthy:
        alarms_note = "Alarm onsets on rows known to be healthy, after learning. Calm: assets without any alarm."
        counts = ("assets", "asset-months", "alarms", "per asset-month", "calm %", "in alarm %")
        healthy_columns = ("healthy rows", "detector", *counts)
        found.append(Table("False alarms", healthy_columns, _false_alarms(healthy), alarms_note))
    if drifted:
        note = (
            "From the drift's begin to the next alarm onset. Already: in alarm when it began (left out). "
            "In time: 1 sigma a day within 2 days, 1 sigma a week within 7."
        )
        measures = ("found", "in time %", "median days", "p90 days", "median sigma")
        columns = ("drift", "detector", "assets", "already", *measures)
        found.append(Table("Detection delay", columns, _delays(drifted), note))
    return found


def false_alarms(judged: TaskResult, detector: str) -> tuple[float, int, float]:
    """Months judged, alarm onsets and share of rows in alarm, on the healthy rows after learning."""
    verdict = judged.verdicts[detector]
    end = int(judged.task.healthy_share * len(verdict.alarm))
    onsets = verdict.onsets()
    months = judged.days(min(verdict.learned, end), end) / DAYS_PER_MONTH
    alarm = verdict.alarm[verdict.learned : end]
    return months, int(((onsets >= verdict.learned) & (onsets < end)).sum()), float(alarm.mean()) if len(alarm) else 0.0


def delay_days(judged: TaskResult, detector: str, start_day: float) -> float | None:
    """Days from the beginning of the drift to the next alarm onset.

    It is infinite when no alarm came, and None when the asset was already in alarm.
    """
    assert judged.recording is not None
    since_us = judged.recording.times_us - judged.recording.times_us[0]
    start = int(np.searchsorted(since_us, start_day * 86_400e6))
    verdict = judged.verdicts[detector]
    if verdict.alarm[min(start, len(verdict.alarm) - 1)]:
        return None
    later = verdict.onsets()
    later = later[later >= start]
    return float(since_us[later[0]] / 86_400e6 - start_day) if len(later) else float("inf")


def _false_alarms(healthy: Sequence[TaskResult]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for group in dict.fromkeys(each.task.group for each in healthy):
        members = [each for each in healthy if each.task.group == group]
        for detector in dict.fromkeys(name for each in members for name in each.verdicts):
            counted = [false_alarms(each, detector) for each in members if detector in each.verdicts]
            months, alarms = sum(each[0] for each in counted), sum(each[1] for each in counted)
            calm = 100.0 * sum(each[1] == 0 for each in counted) / len(counted)
            share = 100.0 * sum(each[0] * each[2] for each in counted) / months if months else 0.0
            each_month = round(alarms / months, 2) if months else None
            counts = (len(counted), round(months, 3), alarms, each_month)
            rows.append((group, detector, *counts, round(calm, 1), round(share, 2)))
    return rows


def _delays(drifted: Sequence[TaskResult]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for group in dict.fromkeys(each.task.group for each in drifted):
        sigma_per_day, _, within_days = DRIFTS[group.split(",")[0]]
        members = [each for each in drifted if each.task.group == group]
        for detector in dict.fromkeys(name for each in members for name in each.verdicts):
            measured = [delay_days(each, detector, DRIFT_START_DAY) for each in members if detector in each.verdicts]
            delays = np.array([each for each in measured if each is not None])
            shown = _quantiles(delays, sigma_per_day, within_days)
            rows.append((group, detector, len(measured), measured.count(None), *shown))
    return rows


def _quantiles(delays: FloatArray, sigma_per_day: float, within_days: float) -> tuple[object, ...]:
    if not len(delays):
        return 0, None, None, None, None
    median, p90 = (float(np.quantile(delays, share, method="higher")) for share in (0.5, 0.9))
    shown = [round(each, 2) if np.isfinite(each) else None for each in (median, p90, median * sigma_per_day)]
    in_time = round(100.0 * float((delays <= within_days).mean()), 1)
    return int(np.isfinite(delays).sum()), in_time, *shown


def _task(group: str, index: int, how: Simulated) -> Task:
    compared = tuple(BASELINES) if index < COMPARED_ASSETS else ()
    healthy = 1.0 if how.drift is None else 0.0
    return Task("fleet", group, f"{group} {index}", how, healthy_share=healthy, baselines=compared)
