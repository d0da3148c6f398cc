"""Joining batches into ranges loses nothing and depends on nothing but the batches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleet_core.commands import decode_command
from fleet_server.ingest.compaction import Piece, join
from fleet_server.ingest.session import resend_requests

START = datetime(2026, 1, 1, tzinfo=UTC)
BROKEN = 7
"""Every batch whose number divides by it does not continue the chain."""


def key(number: int) -> Piece:
    prev = b"elsewhere" if number % BROKEN == 0 else str(number - 1).encode()
    at = START + timedelta(seconds=number)
    return Piece(number, number, number, at if number % 3 else None, at, prev, str(number).encode())


def told(pieces: list[Piece]) -> tuple[set[int], int]:
    return {number for one in pieces for number in range(one.first, one.last + 1)}, sum(one.samples for one in pieces)


@given(st.sets(st.integers(1, 60)), st.data(), st.integers(1, 70))
def test_any_order_of_folding_tells_the_same(numbers: set[int], data: st.DataObject, most: int) -> None:
    pieces: list[Piece] = []
    waiting = data.draw(st.permutations(sorted(numbers)))
    while waiting:
        size = data.draw(st.integers(1, len(waiting)))
        pieces = join([*pieces, *(key(number) for number in waiting[:size])], most)
        waiting = waiting[size:]
    assert told(pieces) == (numbers, sum(numbers))
    assert all(one.size <= most for one in pieces)
    assert join(pieces, most) == pieces
    for one in pieces:
        inside = range(one.first, one.last + 1)
        assert one.broken_links == sum(number % BROKEN == 0 for number in inside if number > one.first)
        assert one.first_at == min((START + timedelta(seconds=n) for n in inside if n % 3), default=None)
        assert one.recorded_at == START + timedelta(seconds=one.first)
        assert (one.first_prev, one.last_digest) == (key(one.first).first_prev, key(one.last).last_digest)


@given(st.sets(st.integers(1, 60)))
def test_without_a_bound_there_are_as_few_ranges_as_runs(numbers: set[int]) -> None:
    assert len(join(map(key, numbers))) == sum(number - 1 not in numbers for number in numbers)


def test_missing_batches_are_asked_for_at_their_agent() -> None:
    outbox_id = "6b9a7a4e-2f0f-4b0e-8a49-16d1d9d1c001"
    ((topic, payload),) = resend_requests({(("acme-berlin", "agent-1"), outbox_id): [(3, 5), (9, 9)]})
    assert topic == "spBv1.0/acme-berlin/NCMD/agent-1"
    command = decode_command(payload)
    assert (command.outbox_id, command.resend) == (outbox_id, ((3, 5), (9, 9)))
