"""The library: hostile trajectories, the unit itself left out, determinism."""

import numpy as np
import pytest

from fleet_core.errors import BadInput
from fleet_server.prognosis.library import MAX_NEIGHBOURS, Library, Trajectory
from fleet_server.prognosis.signatures import BINS

ALL = np.ones(BINS, dtype=bool)


def unit(serial: str, life_h: float = 100.0, end: float = 6.0, failed: bool = True, step_h: float = 1.0) -> Trajectory:
    hours = np.arange(0.0, life_h, step_h)
    return Trajectory(
        trajectory_id=f"t:{serial}",
        component_type="bearing",
        unit_serial=serial,
        source="simulated",
        failure_mode="bearing_spalling",
        failed=failed,
        hours=hours,
        ratio=1.0 + (end - 1.0) * (hours / hours[-1]) ** 3,
    )


def test_a_unit_is_never_its_own_neighbour() -> None:
    library = Library(unit(f"U{n}", 60.0 + 5 * n) for n in range(20))
    for each in library.units:
        signature = each.alignments.signatures[10]
        assert library.nearest(signature, ALL, 100.0, set()).units[0].unit_serial == each.unit_serial
        left = library.nearest(signature, ALL, 100.0, {each.unit_serial})
        assert each.unit_serial not in {item.unit_serial for item in left.units}
        assert len(left.units) == 19


def test_all_records_of_a_serial_are_left_out() -> None:
    first, again = unit("SAME", 80.0), unit("SAME", 90.0)
    object.__setattr__(again, "trajectory_id", "t:again")
    library = Library([first, again, unit("OTHER")])
    near = library.nearest(first.alignments.signatures[0], ALL, 10.0, {"SAME"})
    assert [item.unit_serial for item in near.units] == ["OTHER"]


def test_remaining_life_is_that_of_the_best_alignment() -> None:
    library = Library([unit("A", 100.0)])
    points = library.units[0].alignments
    for index in (0, 20, 40):
        near = library.nearest(points.signatures[index], ALL, 100.0, set())
        assert near.distance[0] == pytest.approx(0.0, abs=1e-9)
        assert near.remaining_h[0] == pytest.approx(points.remaining_h[index], rel=0.5, abs=2.0)


def test_accelerated_tests_serve_only_courses_as_fast_as_they_are() -> None:
    library = Library([unit("FAST", 3.0, step_h=0.01), unit("SLOW", 200.0)])
    signature = library.units[0].alignments.signatures[5]
    assert {item.unit_serial for item in library.nearest(signature, ALL, 2.0, set()).units} == {"FAST", "SLOW"}
    assert {item.unit_serial for item in library.nearest(signature, ALL, 150.0, set()).units} == {"SLOW"}


def test_order_of_loading_does_not_matter_and_content_does() -> None:
    units = [unit(f"U{n}", 60.0 + n) for n in range(MAX_NEIGHBOURS + 20)]
    one, other = Library(units), Library(reversed(units))
    assert one.digest == other.digest
    signature = units[3].alignments.signatures[7]
    near, again = (library.nearest(signature, ALL, 100.0, {"U3"}) for library in (one, other))
    assert [item.unit_serial for item in near.units] == [item.unit_serial for item in again.units]
    assert np.array_equal(near.weight, again.weight)
    assert len(near.units) == MAX_NEIGHBOURS
    assert Library([*units[1:], unit("U0", 61.0)]).digest != one.digest


def test_a_unit_that_never_rose_is_no_neighbour() -> None:
    flat = Trajectory("t:flat", "bearing", "F", "case", "unknown", False, np.arange(50.0), np.ones(50))
    library = Library([flat])
    assert len(library) == 0
    assert library.nearest(np.ones(BINS), ALL, 10.0, set()).units == []


@pytest.mark.parametrize(
    "fault",
    [
        {"hours": np.array([0.0, 2.0, 1.0])},
        {"hours": np.array([0.0, 1.0, np.nan])},
        {"ratio": np.array([1.0, np.inf, 1.0])},
        {"ratio": np.array([1.0, -1.0, 1.0])},
        {"ratio": np.array([1.0, 1.0])},
        {"hours": np.array([0.0]), "ratio": np.array([1.0])},
        {"unit_serial": "x" * 200},
        {"unit_serial": "bad\x00serial"},
        {"unit_serial": ""},
        {"hours": np.array([0.0, 1.0, 1e9])},
    ],
)
def test_a_hostile_trajectory_is_refused(fault: dict) -> None:
    good = {"hours": np.array([0.0, 1.0, 2.0]), "ratio": np.array([1.0, 1.1, 1.2]), "unit_serial": "U"}
    with pytest.raises(BadInput):
        Trajectory(
            trajectory_id="t",
            component_type="bearing",
            source="case",
            failure_mode="unknown",
            failed=True,
            **(good | fault),
        )
