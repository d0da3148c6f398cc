"""The uplink's rules: window, lanes, resends, back-off, rebirths."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.uplink.session import (
    ANSWER_TIMEOUT_S,
    BACKOFF_CAP_S,
    END_OF_TIME,
    FIRST_WINDOW,
    MAX_DELIVERIES,
    MAX_WINDOW,
    PROBE_WINDOW,
    REBIRTH_PAUSE_S,
    SETTLED_AFTER_S,
    SUSPECT_PAUSE_S,
    URGENT_ROOM,
    Backoff,
    Lane,
    RebirthLimit,
    SendWindow,
)


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
    backoff = Backoff(random.Random(3))
    pauses = [backoff.pause_s(0.1) for _ in range(60)]
    assert max(pauses) <= BACKOFF_CAP_S
    assert max(pauses[20:]) > BACKOFF_CAP_S / 2
    assert min(pauses[20:]) < BACKOFF_CAP_S / 4
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
