"""The reference WMS itself: its load curve, its bookings over a restart, its faults."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.reference_wms.curve import HOUR, Curve, read_recording
from demo.reference_wms.faults import Fault, FaultKind, Faults
from demo.reference_wms.store import BookingStore, Taken

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def test_the_curve_is_the_same_for_the_same_seed_and_has_a_rhythm() -> None:
    one, same, other = Curve(1, "Europe/Berlin"), Curve(1, "Europe/Berlin"), Curve(2, "Europe/Berlin")
    week = [MONDAY + n * HOUR for n in range(168)]
    orders = [one.orders("hamburg", hour) for hour in week]
    assert orders == [same.orders("hamburg", hour) for hour in week]
    assert orders != [other.orders("hamburg", hour) for hour in week]
    assert all(load > 0 for load in orders)
    assert sum(orders[:24]) > sum(orders[144:])  # Monday is busier than Sunday
    assert min(orders[:24]) == min(orders[:6])  # the quietest hours are at night


def test_a_recorded_curve_repeats_its_weeks(recorded_data: Path) -> None:
    recorded = read_recording(recorded_data / "volume" / "hourly_demand.csv")
    assert len(recorded) % 168 == 0 and len(recorded) > 90 * 168
    curve = Curve(1, "UTC", recorded)
    assert curve.orders("any", MONDAY) in recorded


def test_bookings_survive_a_restart(tmp_path: Path) -> None:
    store = BookingStore(tmp_path / "wms.db")
    booked, made = store.book("key-1", "w", "eq", MONDAY, MONDAY + HOUR, "repair", MONDAY)
    store.close()
    again = BookingStore(tmp_path / "wms.db")
    assert made and again.by_key("key-1") == booked
    assert again.book("key-1", "w", "eq", MONDAY, MONDAY + HOUR, "repair", MONDAY) == (booked, False)
    with pytest.raises(Taken):
        again.book("key-2", "w", "eq", MONDAY, MONDAY + HOUR, "repair", MONDAY)
    again.cancel("key-1", "w", MONDAY)
    again.book("key-2", "w", "eq", MONDAY, MONDAY + HOUR, "repair", MONDAY)
    assert again.counts() == {"booked": 1, "cancelled": 1}
    assert again.of_equipment("w", "eq", MONDAY, MONDAY + timedelta(days=1))[0]["idempotency_key"] == "key-2"
    again.close()


def test_faults_strike_as_often_as_armed_and_the_same_for_the_same_seed() -> None:
    faults = Faults()
    faults.arm(Fault(kind=FaultKind.REFUSE, target="book", count=2))
    assert [faults.draw(op) is not None for op in ("load", "book", "book", "book")] == [False, True, True, False]

    def drawn(seed: int) -> list[bool]:
        flaky = Faults((Fault(kind=FaultKind.ERROR_500, target="any", count=100, rate=0.3),), seed)
        return [flaky.draw("load") is not None for _ in range(100)]

    assert drawn(7) == drawn(7) != drawn(8)
    assert 15 < sum(drawn(7)) < 45
