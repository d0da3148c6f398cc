"""A library searched through the index gives the same neighbours as the full comparison, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fleet_server.prognosis import library as libraries
from fleet_server.prognosis.library import Library, Neighbours
from fleet_server.prognosis.search import index
from models.simulation import simulate_bearings


def bits(near: Neighbours) -> list[object]:
    numbers = [each.tobytes() for each in (near.distance, near.weight, near.remaining_h, near.failed)]
    return [*numbers, *(unit.trajectory_id for unit in near.units)]


def test_the_index_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    units = simulate_bearings(260, 4)
    twins = [replace(unit, trajectory_id=f"a:{unit.unit_serial}") for unit in units[:20]]  # ties
    compared = Library([*units, *twins])
    monkeypatch.setattr(libraries, "INDEXED_FROM", 1_000)
    monkeypatch.setattr(index, "TAIL_ROWS", 1_000)
    indexed = Library([*units, *twins])
    assert indexed._index is not None and indexed._index.sorted_count() > 5_000
    assert compared._index is None
    rng = np.random.default_rng(1)
    for unit in simulate_bearings(25, 77) + units[:5]:
        points = unit.alignments.signatures
        for bins in (1, 3, 6):
            signature = points[rng.integers(len(points))]
            covered = np.arange(6) < bins
            lived_h = float(rng.uniform(1.0, 100.0))
            excluded = {unit.unit_serial, units[7].unit_serial}
            near = [each.nearest(signature, covered, lived_h, excluded) for each in (compared, indexed)]
            assert bits(near[0]) == bits(near[1])
            assert not excluded & {neighbour.unit_serial for neighbour in near[1].units}


def test_fewer_units_than_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    units = simulate_bearings(30, 4)
    compared = Library(units)
    monkeypatch.setattr(libraries, "INDEXED_FROM", 100)
    indexed = Library(units)
    every = {unit.unit_serial for unit in units}
    signature, covered = units[0].alignments.signatures[3], np.ones(6, dtype=bool)
    for excluded in (set[str](), every - {units[3].unit_serial}, every):
        near = [each.nearest(signature, covered, 10.0, excluded) for each in (compared, indexed)]
        assert bits(near[0]) == bits(near[1])
