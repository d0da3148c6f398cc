"""Windows: feasible, ranked, explained, and true on the days the clocks change."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.errors import BadConfig
from fleet_server.resolution.window_choice import (
    HOUR,
    Engineer,
    Shift,
    Span,
    WindowRequest,
    load_by_shift,
    rank_windows,
    shift_at,
    why_none,
    zone_info,
)

START = datetime(2026, 3, 28, 0, tzinfo=UTC)  # Berlin goes to summer time in the night to the 29th
SHIFTS = (Shift("early", time(6), time(14)), Shift("late", time(14), time(22)), Shift("night", time(22), time(6)))
ANNA, BEN = Engineer("anna", "Anna"), Engineer("ben", "Ben")


def request(loads: list[float] | None = None, **changes: object) -> WindowRequest:
    loads = loads or [10, 9, 8, 7, 1, 2, 9, 9, 9, 9, 9, 9]
    asked = WindowRequest(
        earliest=START,
        latest_end=START + len(loads) * HOUR,
        duration=2 * HOUR,
        time_zone="Europe/Berlin",
        load={START + n * HOUR: load for n, load in enumerate(loads)},
        shifts=SHIFTS,
        taken=(),
        engineers=(ANNA, BEN),
    )
    return replace(asked, **changes)  # type: ignore[arg-type] # fields of the request


def test_the_quietest_window_that_fits_comes_first() -> None:
    plan = rank_windows(request())
    assert plan.best is not None
    assert (plan.best.start, plan.best.load, plan.best.load_rank) == (START + 4 * HOUR, 3.0, 1)
    assert (plan.best.engineer_id, plan.best.shift) == ("anna", "night")
    assert [w.load_rank for w in plan.windows] == list(range(1, len(plan.windows) + 1))
    assert plan.excluded == {"after_deadline": 1} and plan.considered == 12


def test_each_reason_excludes_and_is_counted() -> None:
    busy = Engineer("anna", "Anna", (Span(START + 4 * HOUR, START + 6 * HOUR),))
    plan = rank_windows(
        request(
            earliest=START + 2 * HOUR,
            latest_end=START + 10 * HOUR,
            taken=(Span(START + 9 * HOUR, START + 10 * HOUR),),
            engineers=(busy,),
            refused=frozenset({START + 2 * HOUR}),
        )
    )
    assert plan.excluded == {
        "before_part_or_notice": 2, "after_deadline": 3, "equipment_taken": 1, "no_engineer": 3, "refused_before": 1,
    }  # fmt: skip
    assert [w.start for w in plan.windows] == [START + 6 * HOUR, START + 7 * HOUR]


def test_another_engineer_takes_a_window_the_first_cannot() -> None:
    plan = rank_windows(request(refused_pairs=frozenset({(START + 4 * HOUR, "anna")})))
    assert plan.best is not None and plan.best.engineer_id == "ben"
    assert rank_windows(request(engineers=())).excluded["no_qualified_engineer"] == 11


def test_unknown_loads_are_no_low_loads() -> None:
    gap = request()
    del gap.load[START + 5 * HOUR]
    assert all(not (w.start <= START + 5 * HOUR < w.end) for w in rank_windows(gap).windows)
    odd = request([5, math.nan, 5, math.inf, 5, 5])
    assert [w.start for w in rank_windows(odd).windows] == [START + 4 * HOUR]


def test_the_clock_change_moves_no_window() -> None:
    days = request([5.0] * 72)
    plan = rank_windows(days)
    assert all(w.end - w.start == 2 * HOUR for w in plan.windows)
    zone = zone_info("Europe/Berlin")
    assert shift_at(SHIFTS, datetime(2026, 3, 29, 0, 59, tzinfo=UTC), zone) == "night"  # 01:59 before the change
    assert shift_at(SHIFTS, datetime(2026, 3, 29, 4, 0, tzinfo=UTC), zone) == "early"  # 06:00 after it
    totals = load_by_shift(days.load, SHIFTS, "Europe/Berlin")
    assert totals["2026-03-28 night"] == 7 * 5.0  # the short night has seven hours
    assert totals["2026-03-29 night"] == 8 * 5.0


def test_an_unknown_time_zone_is_named() -> None:
    for name in ("Mars/Olympus", "../../etc/passwd", ""):
        with pytest.raises(BadConfig):
            rank_windows(request(time_zone=name))


@given(
    loads=st.lists(st.floats(0, 1e6), min_size=3, max_size=60),
    earliest=st.integers(0, 40),
    minutes=st.integers(15, 300),
    busy=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=4),
)
def test_every_window_fits(loads: list[float], earliest: int, minutes: int, busy: list[tuple[int, int]]) -> None:
    spans = tuple(Span(START + a * HOUR, START + (a + n) * HOUR) for a, n in busy)
    asked = request(
        loads, earliest=START + earliest * HOUR, duration=timedelta(minutes=minutes), taken=spans, engineers=(ANNA,)
    )
    plan = rank_windows(asked)
    assert sum(plan.excluded.values()) + len(plan.windows) == len(loads)
    for window in plan.windows:
        span = Span(window.start, window.end)
        assert asked.earliest <= span.start and span.end <= asked.latest_end
        assert not any(span.overlaps(taken) for taken in spans)
    assert list(plan.windows) == sorted(plan.windows, key=lambda w: (w.load, w.start))


def test_what_is_late_anyway_comes_soon() -> None:
    loads = [9, 9, 5, 5, 9, 9, 9, 1, 1, 1]
    soon = rank_windows(request(loads, soon_until=START + 4 * HOUR))
    assert soon.best is not None and (soon.best.start, soon.best.load_rank) == (START + 2 * HOUR, 1)
    assert soon.excluded["later_than_needed"] == 4 and not soon.first_counts
    busy = (Span(START, START + 5 * HOUR),)
    first = rank_windows(request(loads, soon_until=START + 4 * HOUR, taken=busy))
    assert first.best is not None and first.first_counts
    assert (first.best.start, first.best.load_rank) == (START + 5 * HOUR, 4)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"engineers": ()}, "no engineer with skill welding is registered for region north"),
        ({"engineers": (Engineer("anna", "Anna", (Span(START, START + 99 * HOUR),)),)},
         "11 of the 11 starts in time do not fit because every engineer with skill welding for region north is booked"),
        ({"taken": (Span(START, START + 99 * HOUR),)},
         "11 of the 11 starts in time do not fit because the equipment is taken by other bookings"),
        ({"earliest": START + 11 * HOUR}, "2 h would end after 2026-03-28 12:00 UTC"),
        ({"load": {}}, "the WMS gives no load for the time in question"),
    ],
)  # fmt: skip
def test_why_nothing_fits_is_said_in_words(changes: dict[str, object], why: str) -> None:
    asked = request(**changes)  # type: ignore[arg-type] # fields of the request
    plan = rank_windows(asked)
    assert plan.best is None
    assert why_none(plan, asked, "welding", "north").endswith(why)
