"""Evaluates the forecasts: leave-one-unit-out over a library, and recorded bearings that are not in the library.

Every unit is judged at several moments of its life: whether the 80 % interval holds its true end, how wide the interval
is (p90 over p10), and how good the probability of failure within 72 h is (Brier score, and reliability: forecast
probability against observed share). Intervals are judged on units that failed; probabilities also on censored units
whose fate within the horizon is known.

The calibration is fitted on the same library, where other units judge each unit. With some hundred units this makes the
figures only slightly optimistic, but only the figures of the recorded bearings are independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fleet_server.prognosis.calibration import Calibration, HeldOut, calibrate, leave_one_out
from fleet_server.prognosis.history import read_history
from fleet_server.prognosis.judgement import Evidence, judge
from fleet_server.prognosis.library import Library, Trajectory
from fleet_server.prognosis.signatures import canonical_course

HORIZON_H = 72.0
PHASES = (("early", 0.0, 0.35), ("middle", 0.35, 0.7), ("late", 0.7, 1.0))
RECORDED_CUTS = (540, 600, 700, 800, 900, 950)
RELIABILITY_BINS = 5


@dataclass(frozen=True)
class Forecast:
    """One forecast and its outcome: hours, and the probability of failure within the horizon."""

    share_of_life: float
    p10_h: float
    p50_h: float
    p90_h: float
    p_fail: float
    remaining_h: float
    failed: bool


def evaluate_library(library: Library) -> dict[str, Any]:
    """Figures of a library whose units are judged by each other, one left out at a time."""
    calibration = calibrate(library)
    forecasts = [_forecast(item, calibration) for item in leave_one_out(library)]
    phases = {
        name: figures([item for item in forecasts if low < item.share_of_life <= high]) for name, low, high in PHASES
    }
    return {
        "units": len(library),
        "library_digest": library.digest,
        "calibration": {"early": calibration.early, "late": calibration.late},
        "all": figures(forecasts),
        "phases": phases,
        "reliability": reliability(forecasts),
    }


def evaluate_recorded(units: Sequence[Trajectory], data: Path) -> dict[str, Any]:
    """IMS test 2, bearing 1 at several moments, by a library of ``units``, IMS test 1 and FEMTO (never test 2)."""
    played = next(
        unit for unit in read_history(data / "ims" / "2nd_test.csv").trajectories if unit.unit_serial == "IMS2-B1"
    )
    past = read_history(data / "ims" / "1st_test.csv").trajectories
    for path in sorted((data / "femto" / "features").glob("*.csv")):
        past.extend(read_history(path).trajectories)
    library = Library([*units, *past])
    calibration = calibrate(library)
    rows = [_recorded(played, cut, library, calibration) for cut in RECORDED_CUTS]
    made = [row for row in rows if row["p10_h"] is not None]
    held = [row["p10_h"] <= row["remaining_h"] <= row["p90_h"] for row in made]
    return {"unit": played.unit_serial, "units": len(library), "cuts": rows, "held": sum(held), "made": len(made)}


def figures(forecasts: Sequence[Forecast]) -> dict[str, float]:
    """Coverage of the interval, misses on either side, median width p90/p10, Brier score at the horizon."""
    ended = [item for item in forecasts if item.failed]
    known = [item for item in forecasts if item.failed or item.remaining_h > HORIZON_H]
    if not ended or not known:
        return {"forecasts": len(forecasts)}
    early = np.array([item.remaining_h < item.p10_h for item in ended])
    late = np.array([item.remaining_h > item.p90_h for item in ended])
    said = np.array([item.p_fail for item in known])
    came = np.array([item.failed and item.remaining_h <= HORIZON_H for item in known], dtype=float)
    figures_of = {
        "coverage_80": 1.0 - early.mean() - late.mean(),
        "ended_before_p10": early.mean(),
        "ended_after_p90": late.mean(),
        "median_width": np.median([item.p90_h / max(item.p10_h, 1e-6) for item in ended]),
        "median_error_factor": np.exp(np.median([abs(np.log(item.p50_h / item.remaining_h)) for item in ended])),
        "brier_72h": np.mean((said - came) ** 2),
        "brier_72h_constant": np.mean((came.mean() - came) ** 2),
    }
    return {"forecasts": len(forecasts), **{name: round(float(value), 4) for name, value in figures_of.items()}}


def reliability(forecasts: Sequence[Forecast]) -> list[dict[str, float]]:
    """Forecast probability of failure within 72 h against the observed share, in equal bins of the probability."""
    known = [item for item in forecasts if item.failed or item.remaining_h > HORIZON_H]
    table = []
    for index in range(RELIABILITY_BINS):
        low, high = index / RELIABILITY_BINS, (index + 1) / RELIABILITY_BINS
        members = [item for item in known if low <= item.p_fail < high or (high == 1.0 and item.p_fail == 1.0)]
        if members:
            said = float(np.mean([item.p_fail for item in members]))
            happened = float(np.mean([item.failed and item.remaining_h <= HORIZON_H for item in members]))
            table.append({"forecasts": len(members), "said": round(said, 4), "happened": round(happened, 4)})
    return table


def _forecast(item: HeldOut, calibration: Calibration) -> Forecast:
    curve = calibration.applied(item.curve, item.signature)
    p10_h, p50_h, p90_h = (curve.quantile(share) for share in (0.1, 0.5, 0.9))
    p_fail = curve.p_fail(HORIZON_H)
    return Forecast(item.share_of_life, p10_h, p50_h, p90_h, p_fail, item.remaining_h, item.unit.failed)


def _recorded(unit: Trajectory, cut: int, library: Library, calibration: Calibration) -> dict[str, Any]:
    """One forecast of a recorded unit from its first ``cut`` rows."""
    now_h = float(unit.hours[cut - 1])
    hours_before, ratio = canonical_course(now_h - unit.hours[:cut], unit.ratio[:cut])
    healthy = unit.ratio[: cut // 3]
    answer = judge(
        Evidence(unit.component_type, unit.unit_serial, hours_before, ratio, float(healthy.std())), library, calibration
    )
    return {
        "row": cut,
        "remaining_h": round(float(unit.hours[-1]) - now_h, 2),
        "p10_h": answer.rul_p10_h,
        "p50_h": answer.rul_p50_h,
        "p90_h": answer.rul_p90_h,
        "p_fail_72h": answer.p_fail.get("72"),
        "failure_mode": answer.failure_mode,
        "reason": answer.reason,
    }
