"""Calibration of a library: factors that stretch its survival curves until their intervals hold what they promise.

Method: conformalised quantile regression with the unit as the exchangeable thing. Every unit of the library is judged
at several moments of its life by all the other units (leave one unit out). The *position* of its true end is measured
on an axis on which the raw p10, p50 and p90 are -1, 0 and 1. The 10 % and the 90 % point of the positions, corrected
for the finite number of units, are the factors by which the early and the late side of a curve are stretched about its
median in log time. Every unit weighs the same, however many moments it was judged at. The position of a censored unit
is a lower bound (product-limit estimate). Low, middle and high courses have factors of their own where enough units
failed (Mondrian groups).

Invariants: pure and deterministic; few units give wide factors, never narrow ones. Limit: the promise holds only for
units like those of the library. A library of simulated units says nothing certain about a real unit.
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
"""Moments at which a unit is judged, as shares of its observed course from onset to end."""
MAX_JUDGED_UNITS = 300
_SMALL_GROUP = 25
_FACTOR_RANGE = (1.0, 6.0)  # widened, never narrowed
_HEIGHT_EDGES = (1.5, 3.0)  # ratios of about 1.2 and 2


@dataclass(frozen=True)
class Calibration:
    """Stretch factors of one library, for low, middle and high courses.

    ``early`` (3,) and ``late`` (3,) are factors on log time. A living course whose eighth neighbour is farther than
    ``distance_limit`` is unlike the library. ``units`` is the number of units that were judged.
    """

    early: tuple[float, ...]
    late: tuple[float, ...]
    distance_limit: float
    units: int
    library_digest: str

    def applied(self, curve: SurvivalCurve, signature: Floats) -> SurvivalCurve:
        """The calibrated curve, for a course with this ``signature`` (BINS,)."""
        group = _group(signature)
        return curve.stretched(self.early[group], self.late[group])

    def widened(self, early: float, late: float) -> Calibration:
        """The calibration stretched further by two factors, as the outcomes of a cohort in the field demand."""
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
        """Read a stored calibration. Raises BadInput when the text is not one."""
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
    """One unit judged at one moment by all the other units: the raw curve, and the life that in truth remained.

    ``remaining_h`` is in hours (a lower bound for a censored unit), ``share_of_life`` is 0..1 of the course from onset
    to end, ``eighth_distance`` the distance to the eighth neighbour.
    """

    unit: Trajectory
    signature: Floats
    curve: SurvivalCurve
    remaining_h: float
    share_of_life: float
    eighth_distance: float


def calibrate(library: Library) -> Calibration:
    """Calibrate a library against itself; this takes about a second for 200 units.

    A library in which no unit can be judged by others gets the widest factors.
    """
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
    """Judge units of the library by all the other units, at the moments :data:`CUTS` of their observed courses.

    Of more than ``max_units`` units an even selection is judged.
    """
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
    """The early and the late stretch factor, from the positions of the true ends."""
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
    """Value by which ``share`` of the units have ended; infinite where the units do not reach that share."""
    ended = 1.0 - beyond
    if lower:
        index = int(np.searchsorted(ended, share, side="right")) - 1
        return float(values[index]) if index >= 0 else -np.inf
    index = int(np.searchsorted(ended, share - 1e-12))
    return float(values[index]) if index < values.size else np.inf


def _position(curve: SurvivalCurve, remaining_h: float) -> float:
    """Position of a true end on the axis on which the raw p10, p50 and p90 are -1, 0 and 1."""
    early_h, middle_h, late_h = (max(curve.quantile(share), MIN_HOURS) for share in (0.1, 0.5, 0.9))
    off = np.log(remaining_h / middle_h)
    side = np.log(middle_h / early_h) if off < 0 else np.log(late_h / middle_h)
    return float(off / max(side, 0.05))


def _group(signature: Floats) -> int:
    return int(np.searchsorted(_HEIGHT_EDGES, signature[0]))
