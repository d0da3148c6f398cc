"""The library of past degradation trajectories, and the search for the nearest of them.

A trajectory is one physical unit's course from new (or from its baseline) to failure or censoring. The living course
is compared with every past unit at every alignment point from the unit's onset on; each unit then counts once, by its
best alignment: what it still had to live there (a geometric mean over alignments nearly as good) is what is returned.

Invariants: pure; the unit under judgement is never among its own neighbours (``exclude_serials``; asserted on the
result); only what a unit had shown up to the alignment point is compared; the same library (``digest``) and the same
course give the same neighbours in the same order (ties by id). Hours are operating hours. A large library is searched
through an exact index (``search.py``): the neighbours, to the last bit, are those of the full comparison.

Test rigs that fail within hours keep their real hours; nothing is scaled to look alike. So that they do not pass for
neighbours of a unit which has just begun to wear (every course is flat there), a past unit must have lived as long
in all as the living course is old, up to a day: accelerated tests serve only courses that are as fast as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fleet_core.errors import BadInput
from fleet_server.prognosis.search import SignatureIndex
from fleet_server.prognosis.search.blocks import ATTRIBUTES
from fleet_server.prognosis.signatures import BINS, Flags, Floats, signatures
from fleet_server.prognosis.survival import MIN_HOURS

MAX_POINTS = 100_000
MAX_HOURS = 200_000.0
MAX_ALIGNMENTS = 64
MAX_NEIGHBOURS = 80
INDEXED_FROM = 50_000
"""Alignment points from which a library is searched through an index; about 800 units."""
FULL_DAY_H = 24.0
FLAT_RATIO = 0.03
HIGHEST_NOISE = 0.15
"""Less than three per cent above healthy is no course to compare; more than fifteen is one, however noisy."""

# How far apart two signatures may be in each bin and still be alike: now counts most, the far past least.
_TOLERANCE = np.array([0.2, 0.25, 0.4, 0.6, 1.0, 1.5])
_BANDWIDTH_RANK = 24
_LEAST_BANDWIDTH = 0.5
Ints = npt.NDArray[np.int64]
_SERIAL = re.compile(r"[^\x00-\x1f\x7f]{1,128}\Z")


@dataclass(frozen=True)
class Trajectory:
    """One unit's history. ``hours`` ascend; ``ratio`` is the indicator over the unit's own healthy baseline.

    ``failed`` false means censored: replaced, or still running at the end. ``jurisdiction`` and ``asset_class`` empty
    mean "any"; ``tenant_id`` empty means public or simulated. Raises BadInput when it is not usable.
    """

    trajectory_id: str
    component_type: str
    unit_serial: str
    source: str
    failure_mode: str
    failed: bool
    hours: Floats
    ratio: Floats
    asset_class: str = ""
    jurisdiction: str = ""
    tenant_id: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("trajectory_id", "component_type", "unit_serial", "source", "failure_mode"):
            if not _SERIAL.match(getattr(self, name)):
                raise BadInput("trajectory", f"{name}: 1 to 128 printable characters expected")
        if not 2 <= self.hours.size <= MAX_POINTS or self.hours.shape != self.ratio.shape:
            raise BadInput("trajectory", f"{self.unit_serial}: between 2 and {MAX_POINTS} points expected")
        if not (np.isfinite(self.hours).all() and np.isfinite(self.ratio).all() and (self.ratio >= 0).all()):
            raise BadInput("trajectory", f"{self.unit_serial}: hours and ratios must be finite, ratios not negative")
        if (np.diff(self.hours) <= 0).any() or self.hours[-1] - self.hours[0] > MAX_HOURS:
            raise BadInput("trajectory", f"{self.unit_serial}: hours must ascend, over at most {MAX_HOURS:.0f} h")

    @cached_property
    def digest(self) -> str:
        """Content digest: whatever enters a comparison or its explanation."""
        parts = (self.component_type, self.asset_class, self.jurisdiction, self.tenant_id, self.unit_serial)
        texts = (*parts, self.source, self.failure_mode, str(self.failed))
        content = hashlib.sha256("\x1f".join(texts).encode())
        content.update(np.ascontiguousarray(self.hours, dtype="<f8").tobytes())
        content.update(np.ascontiguousarray(self.ratio, dtype="<f8").tobytes())
        return content.hexdigest()

    @cached_property
    def alignments(self) -> Alignments:
        """The unit's alignment points, computed once."""
        return _align(self)


@dataclass(frozen=True)
class Alignments:
    """Where a unit can be laid beside a living course: signatures (n, BINS) and remaining hours (n,) there."""

    signatures: Floats
    remaining_h: Floats


@dataclass(frozen=True)
class Neighbours:
    """The nearest past units, nearest first; all arrays have one entry for each unit."""

    units: Sequence[Trajectory]
    distance: Floats
    weight: Floats
    remaining_h: Floats
    failed: Flags

    @property
    def effective_units(self) -> float:
        """Kish's effective number: how many equally weighted units would tell as much."""
        total = float(self.weight.sum())
        return total**2 / float((self.weight**2).sum()) if total > 0 else 0.0


class Library:
    """Trajectories of one component type prepared for the search; immutable."""

    def __init__(self, trajectories: Iterable[Trajectory]) -> None:
        usable = sorted(trajectories, key=lambda item: item.trajectory_id)
        joined = hashlib.sha256("".join(f"{item.trajectory_id}\x1f{item.digest}\n" for item in usable).encode())
        self.digest = joined.hexdigest()
        self.units = [item for item in usable if item.alignments.remaining_h.size]
        sizes = [item.alignments.remaining_h.size for item in self.units]
        rows = [item.alignments.signatures for item in self.units]
        scaled = np.concatenate(rows) / _TOLERANCE if rows else np.empty((0, BINS))
        self._index = _indexed(scaled, sizes) if len(scaled) > INDEXED_FROM else None
        self._every = _Points(() if self._index else self.units)
        self._life_h = np.array([item.hours[-1] - item.hours[0] for item in self.units], dtype=np.float64)
        self._failed = np.array([item.failed for item in self.units], dtype=bool)
        self._numbers: dict[str, list[int]] = {}
        for number, item in enumerate(self.units):
            self._numbers.setdefault(item.unit_serial, []).append(number)

    def __len__(self) -> int:
        return len(self.units)

    def nearest(
        self, signature: Floats, covered: Flags, lived_h: float, exclude_serials: Collection[str]
    ) -> Neighbours:
        """The nearest past units to a signature (BINS,), compared in the ``covered`` bins, at most 80.

        ``lived_h`` is how long the living course is, hours.
        """
        allowed = self._life_h >= min(lived_h, FULL_DAY_H)
        for serial in exclude_serials:
            allowed[self._numbers.get(serial, [])] = False
        numbers, points = self._compared(signature, covered, allowed)
        kept = np.flatnonzero(allowed[numbers])
        if not kept.size:
            empty = np.empty(0)
            return Neighbours([], empty, empty, empty, np.empty(0, dtype=bool))
        distance = points.distances(signature, covered)
        best = np.minimum.reduceat(distance, points.starts)
        chosen = kept[np.argsort(best[kept], kind="stable")][:MAX_NEIGHBOURS]
        units = [self.units[number] for number in numbers[chosen]]
        assert not any(unit.unit_serial in exclude_serials for unit in units), "a unit was judged against itself"
        width = max(float(best[chosen][min(_BANDWIDTH_RANK, chosen.size) - 1]), _LEAST_BANDWIDTH)
        return Neighbours(
            units=units,
            distance=best[chosen],
            weight=np.exp(-0.5 * (best[chosen] / width) ** 2),
            remaining_h=points.remaining_h(distance, best, width)[chosen],
            failed=self._failed[numbers[chosen]],
        )

    def _compared(self, signature: Floats, covered: Flags, allowed: Flags) -> tuple[Ints, _Points]:
        """Which units (numbers ascending) are compared in full: all, or the nearest that the index finds."""
        if self._index is None:
            return np.arange(len(self.units)), self._every
        scaled = signature / _TOLERANCE
        found = self._index.search(scaled, MAX_NEIGHBOURS, compared=covered, allowed_units=allowed)
        numbers = np.sort(found.units)
        return numbers, _Points([self.units[number] for number in numbers])


class _Points:
    """The alignment points of some units, one unit after the other from ``starts`` on."""

    def __init__(self, units: Sequence[Trajectory]) -> None:
        sizes = [item.alignments.remaining_h.size for item in units]
        self.starts = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64) if sizes else np.empty(0, np.int64)
        self._owner = np.repeat(np.arange(len(sizes)), sizes)
        rows = [item.alignments.signatures for item in units]
        scaled = np.concatenate(rows) / _TOLERANCE if rows else np.empty((0, BINS))
        self._columns = np.ascontiguousarray(scaled.T, dtype=np.float64)
        remaining_h = np.concatenate([item.alignments.remaining_h for item in units]) if rows else np.empty(0)
        self._log_remaining_h = np.log(np.maximum(remaining_h, MIN_HOURS))

    def distances(self, signature: Floats, covered: Flags) -> Floats:
        """Root mean square distance of every point over the covered bins."""
        total = np.zeros(self._columns.shape[1])
        for index in np.flatnonzero(covered):
            total += (self._columns[index] - signature[index] / _TOLERANCE[index]) ** 2
        return np.asarray(np.sqrt(total / covered.sum()))

    def remaining_h(self, distance: Floats, best: Floats, width: float) -> Floats:
        """What each unit still had to live at its best alignment and those nearly as good, hours."""
        likeness = np.exp(-0.5 * (distance**2 - best[self._owner] ** 2) / width**2)
        log_h = np.add.reduceat(likeness * self._log_remaining_h, self.starts)
        return np.asarray(np.exp(log_h / np.add.reduceat(likeness, self.starts)))


def _indexed(scaled: Floats, sizes: Sequence[int]) -> SignatureIndex:
    """All alignment points in double precision; a point's id is its place, so that ties go as in the comparison."""
    index = SignatureIndex(BINS, "float64")
    units = np.repeat(np.arange(len(sizes)), sizes)
    index.add(np.arange(len(scaled)), units, scaled, np.zeros((len(scaled), ATTRIBUTES), dtype=np.int64))
    index.sorted_count()  # sorts it now, before anyone searches
    return index


def _align(unit: Trajectory) -> Alignments:
    """Alignment points from the onset on: half of them even in time, half geometric towards the end."""
    onset = _onset(unit.ratio)
    last = unit.hours.size - 1
    if onset is None:
        return Alignments(np.empty((0, BINS)), np.empty(0))
    span_h = float(unit.hours[last] - unit.hours[onset])
    even = unit.hours[onset] + np.linspace(0.0, 1.0, MAX_ALIGNMENTS // 2) * span_h
    late = unit.hours[last] - span_h * np.geomspace(1.0, 1e-3, MAX_ALIGNMENTS // 2)
    wanted = np.concatenate((even, late))
    index = np.unique(np.clip(np.searchsorted(unit.hours, wanted), onset, last))
    index = index[index < last] if unit.failed else index
    at_h = unit.hours[index]
    remaining_h = unit.hours[last] - at_h
    return Alignments(signatures(unit.hours, unit.ratio, at_h), remaining_h)


def _onset(ratio: Floats) -> int | None:
    """First point from which the next stretch stays above healthy: an outlier or a busy shift is no onset."""
    early = ratio[: max(12, ratio.size // 10)]
    above = ratio > 1.0 + float(np.clip(2.0 * early.std(), FLAT_RATIO, HIGHEST_NOISE))
    stretch = max(1, min(6, above.size // 20))
    run = np.convolve(above, np.ones(stretch), mode="full")[: above.size]
    lasting = np.flatnonzero(run >= stretch)
    return int(lasting[0]) if lasting.size else None
