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
    MAX_ALTERNATIVES,
    Engineer,
    Ranking,
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
    return replace(asked, **changes)  # fields of the request


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
    asked = request(**changes)  # fields of the request
    plan = rank_windows(asked)
    assert plan.best is None
    assert why_none(plan, asked, "welding", "north").endswith(why)


def test_spans_that_only_touch_do_not_overlap() -> None:
    span = Span(START + 2 * HOUR, START + 4 * HOUR)
    overlapping = [Span(START + a * HOUR, START + b * HOUR) for a, b in ((0, 3), (3, 9), (2, 4), (0, 9), (3, 3.5))]
    apart = [Span(START + a * HOUR, START + b * HOUR) for a, b in ((0, 2), (4, 5), (0, 1))]
    assert all(span.overlaps(other) and other.overlaps(span) for other in overlapping)
    assert not any(span.overlaps(other) or other.overlaps(span) for other in apart)


@pytest.mark.parametrize(
    ("shift", "inside", "outside"),
    [
        (Shift("day", time(6), time(14)), [time(6), time(13, 59)], [time(5, 59), time(14), time(0)]),
        (Shift("night", time(22), time(6)), [time(22), time(0), time(5, 59)], [time(6), time(21, 59)]),
        (Shift("always", time(6), time(6)), [time(6), time(5, 59), time(0)], []),
    ],
)
def test_a_shift_has_its_start_and_not_its_end_also_over_midnight(
    shift: Shift, inside: list[time], outside: list[time]
) -> None:
    assert [shift.covers(local) for local in inside + outside] == [True] * len(inside) + [False] * len(outside)


def test_between_shifts_there_is_none() -> None:
    zone, only = zone_info("Europe/Berlin"), (Shift("early", time(6), time(14)),)
    assert shift_at(only, START + 4 * HOUR, zone) == ""
    assert shift_at(only, START + 5 * HOUR, zone) == "early"  # 06:00 in Berlin
    night = WindowRequest(START, START + 9 * HOUR, HOUR, "Europe/Berlin", {START: 1.0}, only, (), (ANNA,))
    best = rank_windows(night).best
    assert best is not None and (best.shift, best.engineer_name, best.end) == ("", "Anna", START + HOUR)


def test_part_hours_count_as_part_of_their_load() -> None:
    loads = [4.0, 8.0, 16.0, 32.0]
    half_hour = rank_windows(request(loads, duration=timedelta(minutes=30)))
    assert [window.load for window in half_hour.windows] == [2.0, 4.0, 8.0, 16.0]
    longer = rank_windows(request(loads, duration=timedelta(minutes=90)))
    assert [window.load for window in longer.windows] == [8.0, 16.0, 32.0]  # 4 + 8/2, 8 + 16/2, 16 + 32/2
    asked = request(loads, duration=HOUR)
    asked.load[START + HOUR / 2] = 1.0  # one more start, in the middle of an hour
    loads_by_start = {window.start: window.load for window in rank_windows(asked).windows}
    assert loads_by_start[START + HOUR / 2] == 6.0  # half of 4 and half of 8
    fine = rank_windows(request([1.0, 2.0], duration=timedelta(minutes=1, seconds=1)))
    assert [window.load for window in fine.windows] == [0.017, 0.034]


def test_hours_of_equal_load_come_in_order_of_time() -> None:
    plan = rank_windows(request([5, 5, 3, 3, 5], duration=HOUR))
    assert [w.start for w in plan.windows] == [START + n * HOUR for n in (2, 3, 0, 1, 4)]
    assert not plan.first_counts and plan.excluded == {}


def test_what_begins_at_the_last_moment_is_soon_enough() -> None:
    loads = [9, 8, 7, 6, 5]
    soon = rank_windows(request(loads, duration=HOUR, soon_until=START + 2 * HOUR))
    assert [w.start for w in soon.windows] == [START + n * HOUR for n in (2, 1, 0)]
    assert soon.excluded == {"later_than_needed": 2} and not soon.first_counts
    all_soon = rank_windows(request(loads, duration=HOUR, soon_until=START + 4 * HOUR))
    assert len(all_soon.windows) == 5 and "later_than_needed" not in all_soon.excluded


def test_where_nothing_is_soon_enough_the_first_comes_first_and_keeps_its_rank_by_load() -> None:
    late = rank_windows(request([9, 8, 7], duration=HOUR, soon_until=START - HOUR))
    assert late.first_counts and late.excluded == {}
    assert [(w.start, w.load_rank) for w in late.windows] == [(START + n * HOUR, 3 - n) for n in range(3)]
    nothing = rank_windows(request([9, 8], duration=HOUR, soon_until=START - HOUR, engineers=()))
    assert not nothing.first_counts and nothing.best is None


def test_a_window_may_begin_and_end_at_the_very_limits() -> None:
    plan = rank_windows(request([1, 1, 1, 1], earliest=START + HOUR, latest_end=START + 3 * HOUR))
    assert [w.start for w in plan.windows] == [START + HOUR]
    assert list(plan.excluded.items()) == [("after_deadline", 2), ("before_part_or_notice", 1)]


def test_an_engineer_who_refused_one_start_is_asked_for_others() -> None:
    asked = request([1, 1, 1], duration=HOUR, engineers=(ANNA,), refused_pairs=frozenset({(START, "anna")}))
    plan = rank_windows(asked)
    assert [w.start for w in plan.windows] == [START + HOUR, START + 2 * HOUR]
    assert plan.excluded == {"no_engineer": 1} and plan.considered == 3


def test_an_engineer_is_free_before_and_after_what_he_does() -> None:
    busy = Engineer("anna", "Anna", (Span(START, START + HOUR), Span(START + 3 * HOUR, START + 4 * HOUR)))
    assert busy.free(Span(START + HOUR, START + 3 * HOUR))
    assert not busy.free(Span(START + 2 * HOUR, START + 3.5 * HOUR))
    assert not busy.free(Span(START, START + 2 * HOUR))


def test_the_load_of_a_shift_is_that_of_the_day_it_began() -> None:
    day = datetime(2026, 5, 4, 18, tzinfo=UTC)  # 20:00 in Berlin
    load = {day + n * HOUR: 1.0 + n for n in range(12)}
    totals = load_by_shift(
        load, (Shift("late", time(14), time(22)), Shift("night", time(23), time(5))), "Europe/Berlin"
    )
    assert list(totals.items()) == [
        ("2026-05-04 late", 1.0 + 2.0),
        ("2026-05-04 night", 4.0 + 5.0 + 6.0 + 7.0 + 8.0 + 9.0),  # none of the hours between the shifts
    ]
    backwards = dict(reversed(load.items()))
    assert list(load_by_shift(backwards, SHIFTS, "Europe/Berlin")) == ["2026-05-04 late", "2026-05-04 night",
                                                                     "2026-05-05 early"]  # fmt: skip


def test_a_shift_round_the_clock_begins_its_day_at_its_first_hour() -> None:
    around = (Shift("day", time(6), time(6)),)
    first = datetime(2026, 5, 4, 4, tzinfo=UTC)  # 06:00 in Berlin
    load = {first - HOUR: 1.0, first: 2.0}
    assert load_by_shift(load, around, "Europe/Berlin") == {"2026-05-03 day": 1.0, "2026-05-04 day": 2.0}


def test_a_ranking_of_nothing_says_that_nothing_was_there_to_rank() -> None:
    assert why_none(Ranking(()), request(), "", "") == "the WMS gives no load for the time in question"
    assert (Ranking(()).excluded, Ranking(()).best, Ranking(()).first_counts) == ({}, None, False)


def test_a_folder_of_time_zones_is_none() -> None:
    with pytest.raises(BadConfig, match="time zone 'Europe' is not an IANA name"):
        zone_info("Europe")


def test_eight_other_windows_are_offered_at_most() -> None:
    assert MAX_ALTERNATIVES == 8


def test_why_nothing_fits_is_what_keeps_most_of_the_starts_away() -> None:
    taken = (Span(START, START + HOUR),)
    asked = request([1, 1, math.nan, math.nan, math.nan, 1], duration=HOUR, taken=taken, engineers=(BEN,),
                    refused=frozenset({START + HOUR, START + 5 * HOUR}))  # fmt: skip
    plan = rank_windows(asked)
    assert plan.excluded == {"equipment_taken": 1, "load_unknown": 3, "refused_before": 2}
    assert why_none(plan, asked, "", "") == (
        "3 of the 6 starts in time do not fit because the WMS gives no load for them"
    )
    refused = replace(asked, refused=frozenset({START + n * HOUR for n in range(6)}))
    assert why_none(rank_windows(refused), refused, "", "") == (
        "6 of the 6 starts in time do not fit because they were turned down before"
    )


def test_why_nothing_fits_names_the_engineer_who_is_missing() -> None:
    nobody = request(engineers=())
    assert why_none(rank_windows(nobody), nobody, "", "north") == (
        "no engineer with skill of any kind is registered for region north"
    )


def test_why_nothing_fits_names_the_hours_it_would_have_to_fit_between() -> None:
    late = request(earliest=START + 11 * HOUR, duration=timedelta(minutes=90))
    assert why_none(rank_windows(late), late, "welding", "north") == (
        "from 2026-03-28 11:00 UTC, when part and notice allow it, 1.5 h would end after 2026-03-28 12:00 UTC"
    )


# -- hours that do not begin where those of UTC do


@pytest.mark.parametrize(
    ("zone", "minutes"),
    [("Asia/Kolkata", 30), ("Asia/Kathmandu", 15), ("Australia/Eucla", 15), ("Europe/Amsterdam", 0)],
)
def test_local_hours_of_a_wms_are_counted_where_they_begin(zone: str, minutes: int) -> None:
    first = START + timedelta(minutes=minutes)
    load = {first + n * HOUR: value for n, value in enumerate([10.0, 9, 8, 7, 1, 2, 9, 9])}
    plan = rank_windows(request(time_zone=zone, load=load, latest_end=first + 8 * HOUR))
    assert plan.best is not None
    assert (plan.best.start, plan.best.load) == (first + 4 * HOUR, 3.0)
    assert "load_unknown" not in plan.excluded


def test_half_an_hour_of_summer_time_leaves_no_gap_and_counts_nothing_twice() -> None:
    """Lord Howe goes back by half an hour on 2026-04-05 at 15:00 UTC: the local hour from 14:00 UTC lasts 90 minutes;
    on 2026-10-03 at 15:30 UTC it goes forward, and the local hour that begins then lasts 30 minutes."""
    longer = [
        datetime(2026, 4, 5, h, m, tzinfo=UTC) for h, m in ((12, 0), (13, 0), (14, 0), (15, 30), (16, 30), (17, 30))
    ]
    shorter = [datetime(2026, 10, 3, h, m, tzinfo=UTC) for h, m in ((13, 30), (14, 30), (15, 30), (16, 0), (17, 0))]
    for hours in (longer, shorter):
        end = hours[-1] + HOUR
        load = dict.fromkeys(hours, 6.0)
        plan = rank_windows(
            request(
                time_zone="Australia/Lord_Howe", load=load, earliest=hours[0], latest_end=end, duration=end - hours[0]
            )
        )
        assert plan.best is not None, plan.excluded
        assert plan.best.load == pytest.approx(6.0 * len(hours))


def test_amsterdams_days_of_23_and_25_hours_have_every_hour_once() -> None:
    for day in (datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)):
        load = {day - HOUR + n * HOUR: 1.0 for n in range(26)}
        whole = request(
            time_zone="Europe/Amsterdam", load=load, earliest=day, latest_end=day + 24 * HOUR, duration=24 * HOUR
        )
        plan = rank_windows(whole)
        assert plan.best is not None and plan.best.load == 24.0


def test_a_gap_in_the_load_is_named_with_its_time() -> None:
    load = {START + n * HOUR: 1.0 for n in (0, 2, 4, 6)}
    asked = request(load=load, latest_end=START + 8 * HOUR)
    plan = rank_windows(asked)
    assert plan.best is None
    text = why_none(plan, asked, "drive-mechanics", "west")
    assert "gives no load" in text and "2026-03-28 02:00 Europe/Berlin" in text
