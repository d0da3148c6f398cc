"""The uplink's rules: window, lanes, resends, back-off, rebirths."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.uplink.session import (
    ANSWER_TIMEOUT_S,
    BACKOFF_FIRST_S,
    BACKOFF_MOST_S,
    END_OF_TIME,
    FIRST_WINDOW,
    LANE_CLASSES,
    MAX_DELIVERIES,
    MAX_WINDOW,
    PROBE_WINDOW,
    REBIRTH_PAUSE_S,
    SETTLED_AFTER_S,
    SUSPECT_PAUSE_S,
    URGENT_ROOM,
    Lane,
    RebirthLimit,
    SendWindow,
)
from fleet_core.service import Backoff
from fleet_core.telemetry import BatchClass


class Unlucky(random.Random):
    """Draws the longest of all pauses; ``least`` remembers the shortest it might have drawn."""

    least = 0.0

    def uniform(self, a: float, b: float) -> float:
        self.least = a
        return b


class Lucky(random.Random):
    """Draws the shortest of all pauses."""

    def uniform(self, a: float, b: float) -> float:
        return a


def make(next_id: int = 100) -> SendWindow:
    window = SendWindow(random.Random(1))
    window.connected(next_id)
    return window


def test_the_window_grows_with_answers_and_halves_when_one_is_late() -> None:
    window = make()
    for number in range(16):
        window.sent(("o", number), number, 0.0)
    assert window.room(Lane.LIVE) == 0
    assert window.room(Lane.URGENT) == URGENT_ROOM  # findings do not wait for vitals
    assert window.settled("o", [(0, 9)]) == 10
    grown = window.window
    assert FIRST_WINDOW < grown < FIRST_WINDOW + 1
    again, hopeless = window.due(10 * ANSWER_TIMEOUT_S)
    assert (len(again), hopeless) == (6, [])
    assert window.window == grown / 2
    window.due(10 * ANSWER_TIMEOUT_S + 0.1)
    assert window.window == grown / 2  # once per answer time


def test_resends_back_off_exponentially() -> None:
    window = make()
    window.sent(("o", 1), 1, 0.0)
    now_s, pauses = 0.0, []
    for _ in range(5):
        due_s = window.next_due_s()
        assert due_s is not None
        pauses.append(due_s - now_s)
        now_s = due_s
        assert window.due(now_s) == ([("o", 1)], [])
        window.sent(("o", 1), 1, now_s)
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(pauses))


def deliver(window: SendWindow, key: tuple[str, int], times: int) -> float:
    now_s = 0.0
    for _ in range(times):
        window.sent(key, key[1], now_s)
        now_s = window.next_due_s() or 0.0
    return now_s


def test_a_batch_is_hopeless_only_while_later_ones_pass() -> None:
    silent = make()
    now_s = deliver(silent, ("o", 1), MAX_DELIVERIES)
    assert silent.due(now_s) == ([("o", 1)], [])  # nobody answers anything: not the batch's fault
    window = make()
    now_s = deliver(window, ("o", 1), MAX_DELIVERIES)
    window.sent(("o", 2), 2, now_s - 1.0)
    window.settled("o", [(2, 2)])
    assert window.due(now_s) == ([], [("o", 1)])


def test_live_goes_before_backfill_and_each_lane_remembers() -> None:
    window = make(next_id=100)
    assert window.bounds(Lane.URGENT) == (0, END_OF_TIME)
    assert window.bounds(Lane.LIVE) == (99, END_OF_TIME)
    assert window.bounds(Lane.BACKFILL) == (0, 100)
    window.read(Lane.BACKFILL, 40)
    window.read(Lane.LIVE, 105)
    assert (window.bounds(Lane.BACKFILL), window.bounds(Lane.LIVE)) == ((40, 100), (105, END_OF_TIME))
    assert window.is_late(99)
    assert not window.is_late(100)
    window.connected(110)
    assert window.bounds(Lane.BACKFILL) == (0, 110)
    assert list(Lane) == [Lane.URGENT, Lane.LIVE, Lane.BACKFILL]


def test_a_host_said_to_be_offline_is_only_probed() -> None:
    window = make()
    window.host_online = False
    assert window.room(Lane.LIVE) == PROBE_WINDOW


def test_what_another_outbox_numbered_is_not_settled() -> None:
    window = make()
    window.sent(("o", 1), 1, 0.0)
    assert window.settled("p", [(1, 1)]) == 0
    assert window.is_in_flight(("o", 1))
    window.forget(("o", 1))
    assert window.in_flight == 0


@given(st.lists(st.tuples(st.sampled_from("sad"), st.integers(1, 50), st.floats(0, 100)), max_size=200))
def test_the_window_stays_in_bounds_whatever_happens(steps: list) -> None:
    window, now_s = make(), 0.0
    for what, number, passed_s in steps:
        now_s += passed_s
        if what == "s":
            window.sent(("o", number), number, now_s)
        elif what == "a":
            window.settled("o", [(number, number + 3)])
        else:
            again, hopeless = window.due(now_s)
            assert not set(again) & set(hopeless)
        assert 1.0 <= window.window <= MAX_WINDOW
        assert all(window.room(lane) >= 0 for lane in Lane)


def test_connects_are_paused_with_full_jitter_also_after_a_kick() -> None:
    backoff = Backoff(BACKOFF_FIRST_S, BACKOFF_MOST_S, settled_after_s=SETTLED_AFTER_S, rng=random.Random(3))
    pauses = [backoff.pause_s(0.1) for _ in range(60)]
    assert max(pauses) <= BACKOFF_MOST_S
    assert max(pauses[20:]) > BACKOFF_MOST_S / 2
    assert min(pauses[20:]) < BACKOFF_MOST_S / 4
    assert 0.0 <= backoff.pause_s(SETTLED_AFTER_S) <= 1.0


def test_rebirths_on_command_are_limited_but_not_lost() -> None:
    limit = RebirthLimit()
    assert not limit.grant(0.0)
    limit.ask()
    assert limit.grant(0.0)
    limit.ask()
    assert not limit.grant(1.0)
    assert limit.grant(REBIRTH_PAUSE_S)
    assert not limit.grant(100.0)


def test_a_batch_the_link_breaks_at_does_not_block_the_others() -> None:
    window, now_s = make(), 0.0
    for _ in range(2):  # two short connections: now batches go one at a time
        window.sent(("o", 1), 1, now_s)
        window.sent(("o", 2), 2, now_s)
        assert window.lost(now_s, 0.1) is None
        window.connected(100)
    assert window.one_at_a_time
    assert window.room(Lane.URGENT) == 1
    window.sent(("o", 1), 1, now_s)
    assert window.room(Lane.URGENT) == window.room(Lane.LIVE) == 0
    assert window.lost(now_s, 0.1) == ("o", 1)
    window.connected(100)
    assert window.is_suspect(("o", 1))
    window.sent(("o", 2), 2, now_s)  # the others pass
    window.settled("o", [(2, 2)])
    assert not window.one_at_a_time
    assert window.suspect_due(now_s) is None
    assert window.suspect_due(now_s + SUSPECT_PAUSE_S) == ("o", 1)  # tried again alone, and this time it passes
    window.sent(("o", 1), 1, now_s + SUSPECT_PAUSE_S)
    window.settled("o", [(1, 1)])
    assert window.suspects == 0


def test_a_long_connection_or_an_idle_one_makes_nobody_suspect() -> None:
    window = make()
    for lasted_s, keys in ((60.0, [("o", 1)]), (0.1, []), (60.0, [("o", 1)])):
        for key in keys:
            window.sent(key, key[1], 0.0)
        assert window.lost(0.0, lasted_s) is None
        assert not window.one_at_a_time
        window.connected(100)


def fill(window: SendWindow, *numbers: int, at_s: float = 0.0) -> None:
    for number in numbers:
        window.sent(("o", number), number, at_s)


def doubting() -> SendWindow:
    """A window whose link broke twice, soon, with two batches on their way."""
    window = SendWindow(Lucky())
    window.connected(100)
    for _ in range(2):
        fill(window, 1, 2)
        window.lost(0.0, 0.1)
        window.connected(100)
    return window


def test_findings_and_gaps_are_urgent_and_the_rest_is_live_or_backfill() -> None:
    rest = (BatchClass.ROUTINE, BatchClass.WAVEFORM)
    urgent = (BatchClass.FINDING, BatchClass.GAP)
    assert {Lane.URGENT: urgent, Lane.LIVE: rest, Lane.BACKFILL: rest} == LANE_CLASSES


def test_before_any_connection_nothing_is_on_its_way_and_nothing_late() -> None:
    window = SendWindow(random.Random(1))
    assert (window.in_flight, window.suspects, window.resends, window.next_due_s()) == (0, 0, 0, None)
    assert window.host_online and not window.one_at_a_time and not window.is_late(0)
    assert (window.bounds(Lane.LIVE), window.bounds(Lane.BACKFILL)) == ((0, 1 << 62), (0, 0))


def test_sixteen_batches_go_at_first_and_sixteen_findings_more() -> None:
    window = make()
    assert (window.room(Lane.LIVE), window.room(Lane.BACKFILL), window.room(Lane.URGENT)) == (16, 16, 32)
    fill(window, *range(20))
    assert (window.room(Lane.LIVE), window.room(Lane.URGENT)) == (0, 12)


def test_a_host_said_to_be_offline_gets_two_batches_or_as_few_as_the_window_holds() -> None:
    window = make()
    window.host_online = False
    assert (window.room(Lane.LIVE), window.room(Lane.URGENT)) == (2, 18)
    window.window = 1.5
    assert window.room(Lane.LIVE) == 1


def test_every_answer_widens_the_window_by_its_share_up_to_256() -> None:
    window = make()
    fill(window, 1)
    assert window.settled("o", [(1, 1)]) == 1
    assert window.window == 16.0 + 1.0 / 16.0
    window.window = 255.999
    fill(window, 2)
    window.settled("o", [(2, 2)])
    assert window.window == 256.0


def test_only_what_is_in_a_range_is_settled_its_ends_included() -> None:
    window = make()
    fill(window, 1, 2, 3, 4, 5, 6)
    assert window.settled("o", iter([(2, 3), (5, 5)])) == 3
    assert [number for number in range(1, 7) if window.is_in_flight(("o", number))] == [1, 4, 6]
    assert window.settled("o", [(2, 3)]) == 0


def test_a_new_connection_sends_all_again_through_a_window_not_wider_than_at_first() -> None:
    window = make()
    fill(window, 1, 2)
    window.window = 40.0
    window.read(Lane.URGENT, 30)
    window.connected(50)
    assert (window.in_flight, window.window, window.bounds(Lane.URGENT)) == (0, 16.0, (0, 1 << 62))
    window.window = 4.0
    window.connected(60)
    assert (window.window, window.bounds(Lane.BACKFILL), window.bounds(Lane.LIVE)) == (4.0, (0, 60), (59, 1 << 62))


def test_what_the_server_lost_is_read_from_the_start_again() -> None:
    window = make()
    for lane in Lane:
        window.read(lane, 70)
    window.rewind(90)
    assert [window.bounds(lane)[0] for lane in Lane] == [0, 89, 0]
    assert window.is_late(89) and not window.is_late(90)


def test_a_lane_never_reads_backwards() -> None:
    window = make()
    window.read(Lane.BACKFILL, 40)
    window.read(Lane.BACKFILL, 10)
    assert window.bounds(Lane.BACKFILL)[0] == 40


def test_an_answer_is_awaited_three_seconds_then_twice_as_long_up_to_a_minute_and_a_quarter_more() -> None:
    for rng, jitter in ((Lucky(), 1.0), (Unlucky(), 1.25)):
        window, now_s, pauses = SendWindow(rng), 100.0, []
        window.connected(1)
        for sent in range(7):
            fill(window, 1, at_s=now_s)
            assert (window.in_flight, window.resends) == (1, sent)
            pauses.append((window.next_due_s() or 0.0) - now_s)
            now_s += pauses[-1]
        assert pauses == pytest.approx([jitter * each for each in (3.0, 6.0, 12.0, 24.0, 48.0, 60.0, 60.0)])


def test_only_what_is_late_goes_again_and_the_next_to_be_late_is_known() -> None:
    window = SendWindow(Lucky())
    window.connected(1)
    fill(window, 1)
    fill(window, 2, at_s=1.0)
    assert window.next_due_s() == 3.0
    assert window.due(2.9) == ([], []) and window.window == 16.0
    assert window.due(3.0) == ([("o", 1)], [])
    assert window.window == 8.0


def test_being_late_halves_the_window_once_in_three_seconds_down_to_one() -> None:
    window = SendWindow(Lucky())
    window.connected(1)
    fill(window, *range(30))
    widths = []
    for now_s in (10.0, 12.9, 13.0, 16.0, 19.0, 22.0, 25.0):
        again, hopeless = window.due(now_s)
        widths.append(window.window)
        assert (len(again), hopeless) == (int(window.window), [])  # no more at once than the window holds
    assert widths == [8.0, 8.0, 4.0, 2.0, 1.0, 1.0, 1.0]


def hopeless_after(deliveries: int, answered_sent_s: float) -> bool:
    """Is a batch given up that went out so often, the first time at 0, while one sent then was answered?"""
    window = SendWindow(Lucky())
    window.connected(1)
    now_s = deliver(window, ("o", 1), deliveries)
    fill(window, 2, at_s=answered_sent_s)
    window.settled("o", [(2, 2)])
    again, hopeless = window.due(now_s)
    assert again + hopeless == [("o", 1)]
    return bool(hopeless)


def test_a_batch_is_undeliverable_at_the_eighth_delivery_when_one_sent_after_it_was_answered() -> None:
    assert [hopeless_after(deliveries, 1.0) for deliveries in (6, 7, 8, 9)] == [False, False, True, True]
    assert not hopeless_after(8, 0.0)  # sent at the same moment, which says nothing
    assert not hopeless_after(8, -1.0)


def test_one_late_answer_does_not_hide_that_a_later_batch_was_answered() -> None:
    window = SendWindow(Lucky())
    window.connected(1)
    now_s = deliver(window, ("o", 1), 8)
    fill(window, 2, at_s=-5.0)
    fill(window, 3, at_s=1.0)
    window.settled("o", [(3, 3)])
    window.settled("o", [(2, 2)])
    assert window.due(now_s) == ([], [("o", 1)])


def test_two_short_losses_in_a_row_make_batches_go_one_at_a_time() -> None:
    window = make()
    fill(window, 1, 2)
    assert window.lost(0.0, 4.9) is None and not window.one_at_a_time
    window.connected(100)
    assert window.window == 16.0
    fill(window, 1, 2)
    assert window.lost(0.0, 4.9) is None and window.one_at_a_time
    window.connected(100)
    assert (window.window, window.room(Lane.LIVE), window.room(Lane.URGENT)) == (1.0, 1, 1)


def test_a_connection_of_five_seconds_or_with_nothing_on_its_way_ends_the_doubt() -> None:
    for lasted_s, numbers in ((5.0, (1,)), (0.1, ())):
        window = doubting()
        assert window.one_at_a_time
        fill(window, *numbers)
        assert window.lost(0.0, lasted_s) is None
        assert not window.one_at_a_time and window.suspects == 0
        window.connected(100)
        fill(window, 7)  # alone on its way, but nobody is in doubt
        assert window.lost(0.0, 0.1) is None and not window.one_at_a_time  # it takes two again
        fill(window, 1, 2)
        assert window.lost(0.0, 0.1) is None and window.one_at_a_time


def test_an_answer_ends_the_doubt() -> None:
    window = doubting()
    fill(window, 3)
    window.settled("o", [(3, 3)])
    for doubt in (False, True):
        fill(window, 1, 2)
        window.lost(0.0, 0.1)
        assert window.one_at_a_time is doubt


def test_a_batch_is_suspect_only_when_it_was_alone_on_its_way() -> None:
    window = doubting()
    fill(window, 1, 2)
    assert window.lost(0.0, 0.1) is None and window.suspects == 0
    window.connected(100)
    fill(window, 7)
    assert window.lost(0.0, 0.1) == ("o", 7)
    assert (window.suspects, window.is_suspect(("o", 7)), window.is_suspect(("o", 1))) == (1, True, False)


def test_a_suspect_is_tried_alone_after_pauses_of_half_a_minute_and_four_times_as_long_up_to_an_hour() -> None:
    window, pauses = doubting(), []
    for _ in range(6):
        fill(window, 7, at_s=1000.0)
        assert window.suspect_due(1e9) is None  # something is on its way
        assert window.lost(1000.0, 0.1) == ("o", 7)
        window.connected(100)
        pause_s = next(s for s in (30.0, 120.0, 480.0, 1920.0, 3600.0, 7200.0) if window.suspect_due(1000.0 + s))
        assert window.suspect_due(1000.0 + pause_s - 0.1) is None
        pauses.append(pause_s)
    assert pauses == [30.0, 120.0, 480.0, 1920.0, 3600.0, 3600.0]


def test_at_most_1024_batches_are_suspect_and_those_remain_so() -> None:
    window = doubting()
    for number in range(1025):
        fill(window, number)
        assert window.lost(0.0, 0.1) == ("o", number)
        window.connected(100)
    assert window.suspects == 1024
    assert window.is_suspect(("o", 1023)) and not window.is_suspect(("o", 1024))
    fill(window, 3)
    window.lost(500.0, 0.1)
    window.connected(100)
    assert window.suspects == 1024
    for number in [*range(3), *range(4, 1024)]:
        window.forget(("o", number))
    assert window.suspect_due(500.0 + 119.9) is None  # counted once more, although the list is full
    assert window.suspect_due(500.0 + 120.0) == ("o", 3)


def test_a_batch_that_left_the_outbox_is_neither_on_its_way_nor_suspect() -> None:
    window = doubting()
    fill(window, 7)
    window.lost(0.0, 0.1)
    fill(window, 7)
    window.forget(("o", 7))
    assert (window.in_flight, window.suspects, window.suspect_due(1e9)) == (0, 0, None)
    window.forget(("o", 7))  # again, and nothing happens


def test_pauses_between_connects_double_from_a_second_to_half_a_minute_and_begin_anew_after_a_settled_connection() -> (
    None
):
    rng = Unlucky()
    backoff = Backoff(BACKOFF_FIRST_S, BACKOFF_MOST_S, settled_after_s=SETTLED_AFTER_S, rng=rng)
    assert [backoff.pause_s(0.0) for _ in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert rng.least == 0.0
    assert [backoff.pause_s(lasted_s) for lasted_s in (29.9, 30.0, 29.9)] == [30.0, 1.0, 2.0]
    assert {backoff.pause_s(0.0) for _ in range(2000)} <= {4.0, 8.0, 16.0, 30.0}


def test_a_rebirth_is_granted_every_five_seconds_at_most() -> None:
    limit = RebirthLimit()
    limit.ask()
    assert limit.grant(1000.0)
    limit.ask()
    assert [limit.grant(now_s) for now_s in (1000.0, 1004.9, 1005.0, 1010.0)] == [False, False, True, False]
