"""Owed answers, parking and rate limits: pure, bounded."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from fleet_core.commands import MAX_REFUSED, decode_command
from fleet_server.ingest.session import AckBook, ParkingLot, RateLimit

NODE = ("acme-berlin", "agent-1")


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


def test_rate_limit_by_key_and_period() -> None:
    limit = RateLimit(10.0, events=2, max_keys=2)
    assert [limit.allows("a", now) for now in (0.0, 1.0, 2.0, 10.0)] == [True, True, False, True]
    assert limit.allows("b", 2.0)
    assert limit.allows("c", 2.0)  # the oldest key is forgotten, memory stays bounded
