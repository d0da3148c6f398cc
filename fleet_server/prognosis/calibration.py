"""Honest widths: by how much a library's curves must be stretched so that their intervals keep their promise.

Each unit of the library is judged at several moments of its life against all the others (leave one unit out), and it is
noted where its true end fell: on an axis where -1, 0 and 1 are the raw p10, p50 and p90. The 10 % and 90 % points of
that position, with the correction for a finite number of units, are the factors by which the early and the late side
are stretched about the median in log time (conformalised quantiles). The unit, not the moment, is what is exchangeable:
every unit weighs the same. Units that were replaced are known only to have exceeded their position (product-limit).
Low, middle and high courses have factors of their own when there are enough units (Mondrian groups).

Invariants: pure and deterministic; few units give wide factors, never narrow ones. What it cannot promise: that the
unit judged is like the library's. A library of simulated units says nothing certain about a real one.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

from fleet_core.errors import BadInput
from fleet_server.prognosis.library import Library, Trajectory
from fleet_server.prognosis.signatures import BINS, Floats
from fleet_server.prognosis.survival import MIN_HOURS, SurvivalCurve, kaplan_meier, product_limit

COVERAGE = 0.8
CUTS = (0.05, 0.25, 0.45, 0.65, 0.8, 0.92)
"""Moments of the observed course from onset to end, as shares of its length, at which a unit is judged."""
MAX_JUDGED_UNITS = 300
_SMALL_GROUP = 25
_FACTOR_RANGE = (1.0, 6.0)  # widened, never narrowed
_HEIGHT_EDGES = (1.5, 3.0)  # ratios of about 1.2 and 2


@dataclass(frozen=True)
class Calibration:
    """Stretch factors for low, middle and high courses, and how far the neighbours may be (``distance_limit``)."""

    early: tuple[float, ...]
    late: tuple[float, ...]
    distance_limit: float
    units: int
    library_digest: str

    def applied(self, curve: SurvivalCurve, signature: Floats) -> SurvivalCurve:
        """The curve with its promise kept, for a course of this signature (BINS,)."""
        group = _group(signature)
        return curve.stretched(self.early[group], self.late[group])

    def widened(self, early: float, late: float) -> Calibration:
        """Stretched further: what the outcomes of a cohort showed that the library alone could not."""
        return replace(
            self,
            early=tuple(round(factor * early, 4) for factor in self.early),
            late=tuple(round(factor * late, 4) for factor in self.late),
        )

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Read a stored calibration. Raises BadInput."""
        try:
            record = json.loads(text)
            made = cls(
                early=tuple(float(value) for value in record["early"]),
                late=tuple(float(value) for value in record["late"]),
                distance_limit=float(record["distance_limit"]),
                units=int(record["units"]),
                library_digest=str(record["library_digest"]),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput("calibration", f"not a stored calibration: {error!r}") from None
        if len(made.early) != len(made.late) or len(made.early) != len(_HEIGHT_EDGES) + 1:
            raise BadInput("calibration", "expected one factor for each group")
        return made


@dataclass(frozen=True)
class HeldOut:
    """One unit judged at one moment by all the others: the raw curve, and what was still to come."""

    unit: Trajectory
    signature: Floats
    curve: SurvivalCurve
    remaining_h: float
    share_of_life: float
    eighth_distance: float


def calibrate(library: Library) -> Calibration:
    """Calibrate a library against itself; takes about a second for 200 units."""
    judged = list(leave_one_out(library))
    units = len({item.unit.unit_serial for item in judged})
    wide = _FACTOR_RANGE[1]
    if not judged:
        return Calibration((wide,) * 3, (wide,) * 3, 1.0, 0, library.digest)
    everyone = _factors(judged)
    pairs = []
    for group in range(len(_HEIGHT_EDGES) + 1):
        members = [item for item in judged if _group(item.signature) == group]
        enough = len({item.unit.unit_serial for item in members if item.unit.failed}) >= _SMALL_GROUP
        pairs.append(_factors(members) if enough else everyone)
    return Calibration(
        early=tuple(round(pair[0], 4) for pair in pairs),
        late=tuple(round(pair[1], 4) for pair in pairs),
        distance_limit=round(max(1.0, 1.5 * float(np.quantile([i.eighth_distance for i in judged], 0.99))), 4),
        units=units,
        library_digest=library.digest,
    )


def leave_one_out(library: Library, max_units: int = MAX_JUDGED_UNITS) -> Iterator[HeldOut]:
    """Judge units of the library, evenly chosen, at :data:`CUTS` of their observed courses by all the others."""
    stride = max(1, -(-len(library) // max_units))
    covered = np.ones(BINS, dtype=bool)
    for unit in library.units[::stride]:
        points = unit.alignments
        for share in CUTS:
            index = int(np.argmin(np.abs(points.remaining_h[0] * (1 - share) - points.remaining_h)))
            signature = points.signatures[index]
            lived_h = float(unit.hours[-1] - unit.hours[0] - points.remaining_h[index])
            near = library.nearest(signature, covered, lived_h, {unit.unit_serial})
            if near.failed.any():
                yield HeldOut(
                    unit,
                    signature,
                    kaplan_meier(near.remaining_h, near.failed, near.weight),
                    max(float(points.remaining_h[index]), MIN_HOURS),
                    share,
                    float(near.distance[min(7, near.distance.size - 1)]),
                )


def _factors(judged: list[HeldOut]) -> tuple[float, float]:
    """Early and late factor from the positions of the true ends."""
    positions = np.array([_position(item.curve, item.remaining_h) for item in judged])
    failed = np.array([item.unit.failed for item in judged])
    serials = [item.unit.unit_serial for item in judged]
    counts = Counter(serials)
    weights = np.array([1.0 / counts[serial] for serial in serials])
    units = len({serial for serial, fails in zip(serials, failed, strict=True) if fails})
    if not units:
        return _FACTOR_RANGE[1], _FACTOR_RANGE[1]
    values, beyond = product_limit(positions, failed, weights)
    level = 1.0 - (1.0 - COVERAGE) / 2
    corrected = min(1.0, level * (1.0 + 1.0 / units))
    early = -_quantile(values, beyond, 1.0 - corrected, lower=True)
    late = _quantile(values, beyond, corrected, lower=False)
    return float(np.clip(early, *_FACTOR_RANGE)), float(np.clip(late, *_FACTOR_RANGE))


def _quantile(values: Floats, beyond: Floats, share: float, *, lower: bool) -> float:
    """Value at which ``share`` of the units have ended; infinite on the side that is not known."""
    ended = 1.0 - beyond
    if lower:
        index = int(np.searchsorted(ended, share, side="right")) - 1
        return float(values[index]) if index >= 0 else -np.inf
    index = int(np.searchsorted(ended, share - 1e-12))
    return float(values[index]) if index < values.size else np.inf


def _position(curve: SurvivalCurve, remaining_h: float) -> float:
    """Where an end falls on the axis on which the raw p10, p50 and p90 are -1, 0 and 1."""
    early_h, middle_h, late_h = (max(curve.quantile(share), MIN_HOURS) for share in (0.1, 0.5, 0.9))
    off = np.log(remaining_h / middle_h)
    side = np.log(middle_h / early_h) if off < 0 else np.log(late_h / middle_h)
    return float(off / max(side, 0.05))


def _group(signature: Floats) -> int:
    return int(np.searchsorted(_HEIGHT_EDGES, signature[0]))
