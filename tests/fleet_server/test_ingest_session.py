"""Owed answers, parking and rate limits: pure, bounded."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from fleet_core.commands import MAX_REFUSED, decode_command
from fleet_core.sparkplug.session import MAX_RANGES
from fleet_server.ingest.session import AckBook, ParkingLot, RateLimit, resend_requests

NODE = ("acme-berlin", "agent-1")
TOPIC = "spBv1.0/acme-berlin/NCMD/agent-1"
OUTBOX = str(uuid.UUID(int=1))


@given(st.lists(st.integers(1, 20_000), max_size=300))
def test_every_stored_number_is_answered_once_drained(numbers: list[int]) -> None:
    book, outbox = AckBook(), str(uuid.UUID(int=1))
    for number in numbers:
        book.stored(NODE, outbox, number)
    answered: set[int] = set()
    for topic, payload in book.drain():
        assert topic == "spBv1.0/acme-berlin/NCMD/agent-1"
        for first, last in decode_command(payload).stored:
            answered |= set(range(first, last + 1))
    assert answered == set(numbers)
    assert book.drain() == []


def test_many_refusals_are_split_at_the_bound() -> None:
    book, outbox = AckBook(), str(uuid.UUID(int=2))
    for number in range(1, MAX_REFUSED + 11):
        book.refused(NODE, outbox, number, "time")
    commands = [decode_command(payload) for _, payload in book.drain()]
    assert [len(command.refused) for command in commands] == [MAX_REFUSED, 10]


def test_a_refusal_is_said_once_to_its_agent_in_order_of_numbers() -> None:
    book = AckBook()
    for number, reason in ((9, "schema"), (2, "time")):
        book.refused(NODE, OUTBOX, number, reason)
    ((topic, payload),) = book.drain()
    assert (topic, decode_command(payload).refused) == (TOPIC, ((2, "time"), (9, "schema")))
    assert book.drain() == []


def test_many_ranges_are_split_at_the_bound_and_none_is_said_twice() -> None:
    book = AckBook()
    for number in range(1, 4 * MAX_RANGES + 7, 2):
        book.stored(NODE, OUTBOX, number)
    said = [decode_command(payload).stored for _, payload in book.drain()]
    assert [len(ranges) for ranges in said] == [MAX_RANGES, MAX_RANGES, 3]
    assert [first for ranges in said for first, _ in ranges] == list(range(1, 4 * MAX_RANGES + 7, 2))


def test_batches_are_asked_for_again_as_far_as_one_command_reaches() -> None:
    many = [(number, number) for number in range(1, 2 * MAX_RANGES + 3, 2)]
    ((topic, payload),) = resend_requests({(NODE, OUTBOX): many})
    assert topic == TOPIC
    assert decode_command(payload).resend == tuple(many[:MAX_RANGES])


def test_each_outbox_gets_its_own_answer() -> None:
    book = AckBook()
    for seed in (1, 2):
        book.stored(NODE, str(uuid.UUID(int=seed)), seed)
    assert {decode_command(payload).stored for _, payload in book.drain()} == {((1, 1),), ((2, 2),)}


def test_parking_drops_the_oldest_beyond_its_bounds() -> None:
    lot = ParkingLot(max_messages=3, max_bytes=100)
    assert [lot.park("a", number, 10, float(number)) for number in range(4)] == [0, 0, 0, 1]
    assert lot.park("b", "large", 95, 9.0) == 3
    assert lot.waiting_for() == {"b"}
    assert lot.release("b") == ["large"]
    assert len(lot) == 0


def test_parking_releases_by_key_in_order_and_expires() -> None:
    lot = ParkingLot()
    for number, key in enumerate("aba"):
        lot.park(key, number, 1, float(number))
    assert lot.release("a") == [0, 2]
    assert lot.expire(before_s=1.5) == 1
    assert len(lot) == 0


def test_parking_counts_the_bytes_that_wait_and_no_others() -> None:
    lot = ParkingLot(max_bytes=100)
    assert lot.park("a", 1, 100, 0.0) == 0
    assert lot.release("a") == [1]
    assert lot.park("b", 2, 60, 0.0) == lot.park("c", 3, 40, 0.0) == 0  # together as many as may wait
    assert lot.expire(before_s=1.0) == 2
    assert lot.park("d", 4, 100, 1.0) == 0
    assert lot.park("e", 5, 1, 1.0) == 1  # one byte too many
    assert lot.park("f", 6, 99, 1.0) == 0  # what was dropped counts no more


def test_what_was_parked_at_the_moment_itself_does_not_expire() -> None:
    lot = ParkingLot()
    lot.park("a", 1, 1, 5.0)
    assert lot.expire(before_s=5.0) == 0
    assert lot.expire(before_s=5.1) == 1


def test_by_default_two_thousand_messages_or_32_mib_wait() -> None:
    lot, large = ParkingLot(), ParkingLot()
    assert sum(lot.park("a", number, 1, 0.0) for number in range(2000)) == 0
    assert lot.park("a", 2000, 1, 0.0) == 1
    assert large.park("a", 1, 32 * 1024 * 1024, 0.0) == 0
    assert large.park("a", 2, 1, 0.0) == 1


def test_rate_limit_by_key_and_period() -> None:
    limit = RateLimit(10.0, events=2, max_keys=2)
    assert [limit.allows("a", now) for now in (0.0, 1.0, 2.0, 10.0)] == [True, True, False, True]
    assert limit.allows("b", 2.0)
    assert limit.allows("c", 2.0)  # the oldest key is forgotten, memory stays bounded


def test_a_rate_limit_goes_on_limiting_whatever_the_hour() -> None:
    limit = RateLimit(10.0)
    times_s = (1000.0, 1000.1, 1009.9, 1010.0, 1015.0, 1019.9, 1020.0, 1500.0, 1500.0)
    assert [limit.allows("a", now) for now in times_s] == [True, False, False, True, False, False, True, True, False]


@given(st.lists(st.floats(0.0, 8.0), max_size=60), st.integers(1, 4), st.floats(0, 1e6))
def test_no_window_of_a_key_has_more_events_than_allowed(gaps_s: list[float], events: int, start_s: float) -> None:
    limit, now_s = RateLimit(10.0, events), start_s
    begun_s, allowed = now_s, 0
    for gap_s in gaps_s:
        now_s += gap_s
        if now_s - begun_s >= 10.0 or not allowed:  # the first event opens a window
            begun_s, allowed = now_s, 0
        expected = allowed < events
        allowed += expected
        assert limit.allows("a", now_s) is expected


def test_the_key_that_was_silent_longest_is_forgotten_first() -> None:
    limit = RateLimit(10.0, max_keys=2)
    assert limit.allows("a", 0.0) and limit.allows("b", 0.0)
    assert not limit.allows("a", 1.0)
    assert limit.allows("c", 1.0)  # for it b is forgotten
    assert not limit.allows("a", 1.0) and not limit.allows("c", 1.0)
    assert limit.allows("b", 1.0)


def test_ten_thousand_keys_are_remembered_by_default() -> None:
    limit = RateLimit(10.0)
    assert all(limit.allows(key, 0.0) for key in range(10_000))
    assert not limit.allows(0, 1.0)  # the last to be forgotten now
    assert limit.allows("one more", 1.0) and limit.allows(1, 1.0)
    assert not limit.allows(0, 1.0)
