"""The library of past degradation trajectories, and the search for the nearest of them.

A trajectory is the course of one physical unit, from new (or from its baseline) to failure or censoring. The search
compares the living course with every past unit at the unit's alignment points: up to 64 moments from the onset of its
degradation on. Each past unit then counts once, by its best alignment, and answers with the life that remained to it
there (a geometric mean over alignments that fit nearly as well).

Invariants: pure. The unit under judgement is never among its own neighbours (``exclude_serials``; asserted on the
result). Only what a past unit had shown up to the alignment point is compared. The same library (``digest``) and the
same course give the same neighbours in the same order (ties by id). Hours are operating hours. A large library is
searched through an exact index (``search``), which finds the same neighbours, to the last bit, as the full comparison.

Trajectories from test rigs that fail within hours keep their real hours; no time axis is scaled. Every course is flat
at its beginning, so an accelerated test could pass for a neighbour of a unit that has just begun to wear. Therefore a
past unit is compared only when its whole life was at least as long as the living course (or a day, where the living
course is longer): accelerated tests are neighbours of equally fast courses only.
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
"""A library with more alignment points than this (about 800 units) is searched through an index."""
FULL_DAY_H = 24.0
FLAT_RATIO = 0.03
"""A unit whose indicator stays within 3 % of its healthy level has no course that could be compared."""
HIGHEST_NOISE = 0.15
"""An indicator more than 15 % above its healthy level is a course of degradation, however noisy the healthy level."""

# Distance in each bin at which two signatures are still alike, in units of height. The recent bins count most, so they
# have the smallest tolerance.
_TOLERANCE = np.array([0.2, 0.25, 0.4, 0.6, 1.0, 1.5])
_BANDWIDTH_RANK = 24
_LEAST_BANDWIDTH = 0.5
Ints = npt.NDArray[np.int64]
_SERIAL = re.compile(r"[^\x00-\x1f\x7f]{1,128}\Z")


@dataclass(frozen=True)
class Trajectory:
    """The history of one unit.

    ``hours`` (n,) are operating hours, strictly ascending; ``ratio`` (n,) is the indicator over the unit's own healthy
    baseline. ``failed`` false means censored: replaced, or still running when last seen. An empty ``jurisdiction`` or
    ``asset_class`` means any; an empty ``tenant_id`` means a public or simulated unit.

    Raises:
        BadInput: ``trajectory`` when a text, the number of points, a value or the order of the hours is not usable.
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
        """SHA-256 over everything that enters a comparison or its explanation."""
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
    """The moments at which a past unit is compared: signatures (n, BINS) and remaining hours (n,) at these moments."""

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
        """Kish's effective sample size: the number of equally weighted units that would tell as much."""
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
        """The past units nearest to a ``signature`` (BINS,), at most ``MAX_NEIGHBOURS``, nearest first.

        Only the bins that are ``covered`` (BINS,) are compared. ``lived_h`` is the length of the living course in
        hours; past units with shorter lives are left out (up to a day), as are those with a serial number in
        ``exclude_serials``. Without comparable units the result is empty.
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
        """Numbers (ascending) and points of the units that are compared in full: all, or those the index finds."""
        if self._index is None:
            return np.arange(len(self.units)), self._every
        scaled = signature / _TOLERANCE
        found = self._index.search(scaled, MAX_NEIGHBOURS, compared=covered, allowed_units=allowed)
        numbers = np.sort(found.units)
        return numbers, _Points([self.units[number] for number in numbers])


class _Points:
    """The alignment points of some units, one unit after the other; unit i begins at ``starts[i]``."""

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
        """Distance (n,) of every alignment point to a signature: root mean square over the covered bins."""
        total = np.zeros(self._columns.shape[1])
        for index in np.flatnonzero(covered):
            total += (self._columns[index] - signature[index] / _TOLERANCE[index]) ** 2
        return np.asarray(np.sqrt(total / covered.sum()))

    def remaining_h(self, distance: Floats, best: Floats, width: float) -> Floats:
        """Remaining hours (units,) of every unit at its best alignment and at alignments that fit nearly as well."""
        likeness = np.exp(-0.5 * (distance**2 - best[self._owner] ** 2) / width**2)
        log_h = np.add.reduceat(likeness * self._log_remaining_h, self.starts)
        return np.asarray(np.exp(log_h / np.add.reduceat(likeness, self.starts)))


def _indexed(scaled: Floats, sizes: Sequence[int]) -> SignatureIndex:
    """An index of all alignment points in double precision.

    The id of a point is its place among the points, so that ties are broken as in the full comparison.
    """
    index = SignatureIndex(BINS, "float64")
    units = np.repeat(np.arange(len(sizes)), sizes)
    index.add(np.arange(len(scaled)), units, scaled, np.zeros((len(scaled), ATTRIBUTES), dtype=np.int64))
    index.sorted_count()  # asking for the count sorts the index now, before several threads search it
    return index


def _align(unit: Trajectory) -> Alignments:
    """Alignment points of a unit from its onset on: half of them even in time, half geometric towards its end."""
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
    """Index of the first point from which a whole stretch stays above healthy; None when there is no such stretch.

    A single outlier or a busy shift is no onset.
    """
    early = ratio[: max(12, ratio.size // 10)]
    above = ratio > 1.0 + float(np.clip(2.0 * early.std(), FLAT_RATIO, HIGHEST_NOISE))
    stretch = max(1, min(6, above.size // 20))
    run = np.convolve(above, np.ones(stretch), mode="full")[: above.size]
    lasting = np.flatnonzero(run >= stretch)
    return int(lasting[0]) if lasting.size else None
