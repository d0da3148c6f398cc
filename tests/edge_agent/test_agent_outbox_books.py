"""The outbox's books: what is held, stored, refused or lost, to the number and byte, and how losses are declared."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from edge_agent.drafts import Draft, gap_draft
from edge_agent.outbox import Outbox, OutboxStats, OutboxUnavailable, check_outbox, room
from edge_agent.outbox import outbox as outbox_module
from edge_agent.outbox.file import _set_aside, fill_reserve
from fleet_core.batches import EMPTY_SCHEMA, Batch, GapRecord, SampleColumn, Schema, WaveformFragment, decode_batch
from fleet_core.clock import SimulatedClock
from fleet_core.telemetry import BatchClass, DetectionState, MetricSpec, StateChange, to_us

BOOT = "6fa459ea-ee8a-3ca4-894e-db77e160355e"
T0 = 1_790_000_000_000_000
DAY_S = 86_400.0
QUOTA = 1 << 20
ALL = tuple(BatchClass)
FOREVER = 1 << 62
SCHEMA = Schema((MetricSpec("speed_rpm", "/min"), MetricSpec("vibration", "[g]", "bearing", 0.0, "waveform")))
STATE = StateChange("bearing", DetectionState.WATCH, DetectionState.HEALTHY, T0, 0.5, "rose")


def routine(samples: int = 2, at_us: int = T0) -> Draft:
    times = array("q", range(at_us, at_us + samples))
    return Draft(
        BatchClass.ROUTINE, "robot-1", SCHEMA, (SampleColumn("speed_rpm", times, array("d", [1.5] * samples)),)
    )


def waveform(at_us: int = T0, samples: int = 12_000) -> Draft:
    wave = WaveformFragment("vibration", at_us, 25600.0, "[g]", 0, 1, array("f", [0.5] * samples))
    return Draft(BatchClass.WAVEFORM, "robot-1", SCHEMA, waveform=wave)


def finding(at_us: int = T0) -> Draft:
    return Draft(BatchClass.FINDING, "robot-1", SCHEMA, states=(replace(STATE, time_us=at_us),))


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def outbox(tmp_path: Path, clock: SimulatedClock) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "outbox.sqlite", QUOTA, clock, BOOT)
    yield opened
    opened.close()


def batch_of(outbox: Outbox, number: int) -> Batch:
    leased = outbox.fetch((outbox.outbox_id, number))
    assert leased is not None
    return decode_batch(leased.body, SCHEMA, leased.device_id)


def declared(outbox: Outbox) -> tuple[GapRecord, ...]:
    """What the next gap batch declares."""
    return batch_of(outbox, outbox.declare_gaps()).gaps


def held(outbox: Outbox) -> list[int]:
    return [number for first, last in outbox.held().ranges for number in range(first, last + 1)]


def lost(first: int, last: int, kind: BatchClass = BatchClass.ROUTINE, reason: str = "undeliverable",
         start_us: int = T0, end_us: int = T0 + 1) -> GapRecord:  # fmt: skip
    return GapRecord(first, last, kind, reason, start_us, end_us)


def test_a_batch_is_its_draft_with_number_boot_and_moment(outbox: Outbox, clock: SimulatedClock) -> None:
    clock.shift(5.0)
    gap = gap_draft("robot-1", SCHEMA, BatchClass.ROUTINE, "disk_full", T0, T0 + 5)
    drafts = [replace(routine(), historical=True), waveform(), finding(), gap]
    assert [appended.number for appended in outbox.append(drafts)] == [1, 2, 3, 4]
    for number, draft in enumerate(drafts, 1):
        batch = batch_of(outbox, number)
        assert (batch.batch_class, batch.device_id, batch.historical) == (
            draft.batch_class,
            "robot-1",
            draft.historical,
        )
        assert (batch.columns, batch.waveform) == (draft.columns, draft.waveform)
        assert (batch.findings, batch.states, batch.gaps) == (draft.findings, draft.states, draft.gaps)
        assert (batch.boot_id, batch.created_us, batch.outbox_id) == (BOOT, to_us(clock.now()), outbox.outbox_id)
        assert batch.schema_digest == (SCHEMA if number < 3 else EMPTY_SCHEMA).digest


def test_the_books_are_kept_to_the_byte(outbox: Outbox) -> None:
    outbox.append([routine(), waveform(), finding(), routine()])
    sizes = {leased.key[1]: len(leased.body) + 256 for leased in outbox.lease(0, FOREVER, ALL, 10)}
    assert outbox.stats() == OutboxStats(4, 0, 0, sum(sizes.values()), QUOTA, 5, 0)
    outbox.settle_stored(outbox.outbox_id, [(1, 1)])
    assert outbox.stats() == OutboxStats(3, 1, 0, sum(sizes.values()), QUOTA, 5, 0)
    outbox.settle_refused(outbox.outbox_id, [3])
    outbox.give_up([(outbox.outbox_id, 2)])
    assert outbox.stats() == OutboxStats(1, 1, 1, sizes[1] + sizes[4], QUOTA, 5, 1)
    assert outbox.give_up([]) == outbox.settle_refused(outbox.outbox_id, []) == 0


def test_the_books_are_the_same_after_a_restart(outbox: Outbox, clock: SimulatedClock) -> None:
    outbox.append([routine(), routine(), finding()])
    outbox.settle_stored(outbox.outbox_id, [(1, 1)])
    before = outbox.stats()
    outbox.close()
    again = Outbox(outbox.path, QUOTA, clock, BOOT)
    assert (again.stats(), again.outbox_id, held(again)) == (before, outbox.outbox_id, [2, 3])
    again.close()


def test_a_quota_is_a_mebibyte_at_least(tmp_path: Path, clock: SimulatedClock) -> None:
    for quota, used in ((5, 1 << 20), (1 << 21, 1 << 21)):
        opened = Outbox(tmp_path / "small.sqlite", quota, clock, BOOT)
        assert opened.stats().quota_bytes == opened.quota_bytes == used
        opened.close()


def test_what_is_held_is_leased_between_ids_by_class_oldest_first(outbox: Outbox) -> None:
    outbox.append([routine(), finding(), waveform(), routine(), finding()])
    every = outbox.lease(0, FOREVER, ALL, 10)
    assert [leased.key for leased in every] == [(outbox.outbox_id, number) for number in range(1, 6)]
    assert {leased.device_id for leased in every} == {"robot-1"}
    ids = [leased.id for leased in every]
    assert [leased.id for leased in outbox.lease(ids[0], ids[4], ALL, 10)] == ids[1:4]
    assert [leased.id for leased in outbox.lease(0, FOREVER, (BatchClass.FINDING,), 10)] == [ids[1], ids[4]]
    both = (BatchClass.FINDING, BatchClass.ROUTINE)
    assert [leased.id for leased in outbox.lease(0, FOREVER, both, 3)] == [ids[0], ids[1], ids[3]]
    assert outbox.lease(0, FOREVER, (), 10) == outbox.lease(0, FOREVER, ALL, 0) == []
    outbox.settle_stored(outbox.outbox_id, [(1, 1)])
    assert ids[0] not in [leased.id for leased in outbox.lease(0, FOREVER, ALL, 10)]
    assert outbox.fetch((outbox.outbox_id, 1)) is None
    assert outbox.fetch((outbox.outbox_id, 2)) == every[1]
    assert outbox.fetch(("another", 2)) is None and outbox.fetch((outbox.outbox_id, 9)) is None


def test_ids_count_on_whatever_leaves(outbox: Outbox) -> None:
    assert outbox.next_id() == 1
    outbox.append([routine(), routine()])
    assert outbox.next_id() == 3
    outbox.settle_refused(outbox.outbox_id, [1, 2])
    assert outbox.next_id() == 3
    outbox.append([routine()])
    assert [leased.id for leased in outbox.lease(0, FOREVER, ALL, 10)] == [3]


def test_what_is_held_is_told_in_ranges(outbox: Outbox) -> None:
    assert outbox.held().ranges == () and outbox.held().next_number == 1
    outbox.append([routine() for _ in range(6)])
    outbox.settle_stored(outbox.outbox_id, [(3, 4)])
    report = outbox.held()
    assert (report.outbox_id, report.next_number, report.ranges) == (outbox.outbox_id, 7, ((1, 2), (5, 6)))


def test_settling_counts_what_was_held_of_this_outbox_in_the_range(outbox: Outbox) -> None:
    outbox.append([routine() for _ in range(6)])
    assert outbox.settle_stored("another", [(1, 6)]) == outbox.settle_refused("another", [1]) == 0
    assert outbox.settle_stored(outbox.outbox_id, [(2, 3), (5, 5)]) == 3
    assert held(outbox) == [1, 4, 6]
    assert outbox.settle_refused(outbox.outbox_id, [1, 2, 4]) == 2  # 2 is stored: it stays
    assert (held(outbox), outbox.stats().stored) == ([6], 3)
    assert outbox.give_up([(outbox.outbox_id, 3), ("another", 6)]) == 0
    assert outbox.resend("another", [(1, 9)]) == 0
    assert outbox.resend(outbox.outbox_id, [(3, 4), (5, 9)]) == 2
    assert (held(outbox), outbox.stats().stored) == ([3, 5, 6], 1)


def test_a_loss_is_declared_once_with_all_that_is_known_of_it(outbox: Outbox) -> None:
    assert outbox.declare_gaps() == 0
    outbox.append([routine(5, T0 + 100), finding(T0 + 50), routine()])
    outbox.give_up([(outbox.outbox_id, 1)])
    outbox.give_up([(outbox.outbox_id, 2)], "too_large")
    assert outbox.stats().undeclared_gaps == 2
    assert declared(outbox) == (
        lost(1, 1, start_us=T0 + 100, end_us=T0 + 104),
        lost(2, 2, BatchClass.FINDING, "too_large", T0 + 50, T0 + 50),
    )
    assert outbox.stats().undeclared_gaps == 0
    assert outbox.declare_gaps() == 0  # said, and so deleted: not said again
    assert held(outbox) == [3, 4]


def test_losses_next_to_each_other_become_one(outbox: Outbox) -> None:
    outbox.append([routine(2, T0 + 10 * number) for number in range(8)] + [finding(), routine()])
    for number in (1, 3, 4, 6, 5):  # 5 follows 4, but 6 came before it
        outbox.give_up([(outbox.outbox_id, number)])
    outbox.give_up([(outbox.outbox_id, 7)], "other")
    outbox.give_up([(outbox.outbox_id, 9)])
    outbox.give_up([(outbox.outbox_id, 10)])
    assert declared(outbox) == (
        lost(1, 1, start_us=T0, end_us=T0 + 1),
        lost(3, 5, start_us=T0 + 20, end_us=T0 + 41),
        lost(6, 6, start_us=T0 + 50, end_us=T0 + 51),
        lost(7, 7, reason="other", start_us=T0 + 60, end_us=T0 + 61),
        lost(9, 9, BatchClass.FINDING, end_us=T0),
        lost(10, 10),
    )


def test_a_span_that_grows_keeps_its_earliest_and_latest_moment(outbox: Outbox) -> None:
    outbox.append([routine(2, T0 + 100), routine(200, T0), routine(2, T0 + 50)])
    outbox.give_up([(outbox.outbox_id, number) for number in (1, 2, 3)])
    assert declared(outbox) == (lost(1, 3, start_us=T0, end_us=T0 + 199),)


def test_losses_without_numbers_are_joined_with_their_like_only(outbox: Outbox, clock: SimulatedClock) -> None:
    """Of another outbox's batches, whose numbers mean nothing here; also not with the first number of this one."""
    outbox.append([routine(), routine(), finding()])
    outbox._put_meta(inode="of another file")
    outbox.close()
    restored = Outbox(outbox.path, QUOTA, clock, BOOT)
    restored.append([routine(), routine()])
    restored.give_up([(outbox.outbox_id, number) for number in (1, 2, 3)] + [(restored.outbox_id, 1)])
    assert declared(restored) == (lost(0, 0), lost(0, 0, BatchClass.FINDING, end_us=T0), lost(1, 1))
    restored.close()


def test_many_losses_are_declared_in_several_batches(outbox: Outbox) -> None:
    outbox.append([routine() for _ in range(2 * 300)])
    outbox.give_up([(outbox.outbox_id, number) for number in range(1, 601, 2)])
    first, second = declared(outbox), declared(outbox)
    assert (len(first), len(second), outbox.declare_gaps()) == (256, 44, 0)
    assert [gap.first_batch for gap in first + second] == list(range(1, 601, 2))


def test_a_loss_stays_to_be_declared_when_there_is_no_room(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox.append([routine(), routine()])
    outbox.give_up([(outbox.outbox_id, 1)])
    with monkeypatch.context() as full:
        full.setattr(room.Room, "make", lambda self, size, worth: False)
        assert outbox.declare_gaps() == 0
    assert outbox.stats().undeclared_gaps == 1
    assert declared(outbox) == (lost(1, 1),)


def test_beyond_their_bound_the_oldest_numbered_losses_become_one(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert room.MAX_GAP_ROWS == 1024
    monkeypatch.setattr(room, "MAX_GAP_ROWS", 3)
    outbox.append([routine(2, T0 + 10 * number) for number in range(9)])
    with outbox._transaction():
        outbox._room.add_gap(GapRecord(0, 0, BatchClass.FINDING, "disk_full", T0 - 9, T0 - 5))
    outbox.give_up([(outbox.outbox_id, number) for number in (5, 3)])
    assert outbox.stats().undeclared_gaps == 3
    outbox.give_up([(outbox.outbox_id, 8)])
    assert declared(outbox) == (
        GapRecord(0, 0, BatchClass.FINDING, "disk_full", T0 - 9, T0 - 5),
        lost(3, 5, reason="coalesced", start_us=T0 + 20, end_us=T0 + 41),
        lost(8, 8, start_us=T0 + 70, end_us=T0 + 71),
    )


def test_a_declared_loss_that_is_given_up_is_to_be_declared_again(outbox: Outbox) -> None:
    outbox.append([routine(), finding()])
    outbox.give_up([(outbox.outbox_id, 1)])
    number = outbox.declare_gaps()
    outbox.give_up([(outbox.outbox_id, number)])
    records = declared(outbox)
    assert lost(1, 1) in records
    assert [(gap.first_batch, gap.last_batch) for gap in records if gap.batch_class is BatchClass.GAP] == [(3, 3)]


def fill(outbox: Outbox, make: Callable[[], Draft]) -> None:
    """Append until one more would have to evict."""
    while True:
        (before, evicted) = outbox.stats().used_bytes, outbox.stats().evicted
        outbox.append([make()])
        size = outbox.stats().used_bytes - before
        assert outbox.stats().evicted == evicted
        if outbox.stats().used_bytes + size > QUOTA - room.GAP_ROOM_BYTES:
            return


def test_what_leaves_first_is_stored_then_a_waveform_then_routine_then_a_finding(outbox: Outbox) -> None:
    outbox.append([finding(), routine(), waveform(), finding(), routine()])
    outbox.settle_stored(outbox.outbox_id, [(1, 1)])
    fill(outbox, lambda: routine(2000))
    last = outbox.held().next_number - 1

    def evicted_by(draft: Draft) -> list[int]:
        before = held(outbox)
        (appended,) = outbox.append([draft])
        assert appended.number
        return sorted(set(before) - set(held(outbox)))

    assert evicted_by(routine(2000)) == [3]  # the stored one was too small, the waveform is enough
    assert outbox.stats().stored == 0
    assert evicted_by(routine(2000)) == [2, *range(5, 20)][:16]  # sixteen at a time
    while outbox.stats().used_bytes < QUOTA - room.GAP_ROOM_BYTES - 60_000:
        outbox.append([routine(2000)])
    outbox.append([routine(2000) for _ in range(60)])
    assert {1, 2, 3} & set(held(outbox)) == set() and 4 in held(outbox)  # a finding is worth more than routine
    assert last < outbox.held().next_number


def test_a_draft_without_room_is_refused_and_takes_no_number(outbox: Outbox) -> None:
    small = [finding(T0 + number) for number in range(400)]
    while outbox.stats().evicted == 0:
        outbox.append(small)
    number = outbox.stats().next_number
    refused = outbox.append([waveform(), routine(), finding()])
    assert [(appended.number, appended.reason) for appended in refused] == [(0, "no_room")] * 2 + [(number, "")]
    assert outbox.stats().used_bytes <= QUOTA - room.GAP_ROOM_BYTES


def test_room_is_used_to_the_last_byte_and_no_further(outbox: Outbox) -> None:
    books = outbox._room
    limit = QUOTA - 256 * 1024
    assert [books.make(size, 2) for size in (limit, limit + 1)] == [True, False]
    assert [books.make(size, 3) for size in (QUOTA, QUOTA + 1)] == [True, False]
    outbox.append([routine()])
    used = outbox.stats().used_bytes
    assert books.make(limit - used, 0) and held(outbox) == [1]
    assert not books.make(limit - used + 1, 0) and held(outbox) == [1]  # a waveform evicts no vitals
    with outbox._transaction():
        assert books.make(limit - used + 1, 1) and books.used_bytes == 0
    assert held(outbox) == [] and outbox.stats().evicted == 1


def test_what_fits_to_the_byte_after_an_eviction_evicts_no_more(outbox: Outbox) -> None:
    outbox.append([routine() for _ in range(40)])
    (sixteen,) = outbox._db.execute("SELECT SUM(size) FROM batches WHERE id <= 16").fetchone()
    with outbox._transaction():
        assert outbox._room.make(QUOTA - 256 * 1024 - outbox.stats().used_bytes + sixteen, 1)
    assert held(outbox) == list(range(17, 41))


def test_stored_batches_leave_without_a_trace(outbox: Outbox) -> None:
    outbox.append([routine()])
    outbox.settle_stored(outbox.outbox_id, [(1, 1)])
    with outbox._transaction():
        assert outbox._room.make(QUOTA - 256 * 1024, 0)
    assert outbox.stats() == OutboxStats(0, 0, 0, 0, QUOTA, 2, 0)


def test_what_is_stored_is_kept_for_a_day_to_the_microsecond(outbox: Outbox, clock: SimulatedClock) -> None:
    outbox.append([routine(), routine(), routine()])
    outbox.settle_stored(outbox.outbox_id, [(1, 1)])
    clock.shift(DAY_S)
    outbox.settle_stored(outbox.outbox_id, [(2, 2)])
    assert outbox.stats().stored == 2
    clock.shift(600.0)
    outbox.settle_stored(outbox.outbox_id, [(3, 3)])
    assert outbox.stats().stored == 2 and outbox.stats().undeclared_gaps == 0
    assert outbox.resend(outbox.outbox_id, [(1, 3)]) == 2


def test_stored_batches_are_looked_through_every_ten_minutes(outbox: Outbox, clock: SimulatedClock) -> None:
    outbox.append([routine() for _ in range(5)])
    for number, shift_s in ((1, 0.0), (2, DAY_S + 1.0), (3, 599.0), (4, 1.0)):
        clock.shift(shift_s)
        outbox.settle_stored(outbox.outbox_id, [(number, number)])
    assert outbox.stats().stored == 3  # the first left at its day's end, nothing since is old enough
    clock.shift(-2 * DAY_S)
    outbox.settle_stored(outbox.outbox_id, [(5, 5)])  # a clock set back is no reason never to look again
    assert outbox._forgot_us == to_us(clock.now())


def test_a_share_of_what_is_old_leaves_at_each_settlement_until_none_is_left(
    outbox: Outbox, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outbox_module.FORGET_ROWS == 512
    monkeypatch.setattr(outbox_module, "FORGET_ROWS", 2)
    outbox.append([routine() for _ in range(5)])
    outbox.settle_stored(outbox.outbox_id, [(1, 5)])
    clock.shift(DAY_S + 1.0)
    left = []
    for _ in range(3):
        outbox.settle_stored(outbox.outbox_id, [])
        left.append(outbox.stats().stored)
    assert left == [3, 1, 0]


def test_how_long_is_a_setting(tmp_path: Path, clock: SimulatedClock) -> None:
    brief = Outbox(tmp_path / "brief.sqlite", QUOTA, clock, BOOT, keep_stored_s=0.5)
    brief.append([routine(), routine()])
    brief.settle_stored(brief.outbox_id, [(1, 1)])
    clock.shift(601.0)
    brief.settle_stored(brief.outbox_id, [(2, 2)])
    assert brief.stats().stored == 1
    brief.close()


def test_schemas_of_a_device_are_told_while_batches_need_them(outbox: Outbox) -> None:
    other = Schema((MetricSpec("speed_rpm", "/min"), MetricSpec("torque")))
    outbox.append([routine(), replace(routine(), device_id="robot-2"), replace(routine(), schema=other), finding()])
    assert outbox.former_schemas("robot-1", other.digest) == [SCHEMA]
    assert outbox.former_schemas("robot-1", SCHEMA.digest) == [other]
    assert outbox.former_schemas("robot-2", SCHEMA.digest) == outbox.former_schemas("robot-3", "") == []
    outbox.settle_stored(outbox.outbox_id, [(1, 1)])
    assert outbox.former_schemas("robot-1", other.digest) == []


@pytest.mark.parametrize(
    ("error", "seen"), [(RuntimeError("no disk's fault"), RuntimeError), (OSError(28, "full"), OutboxUnavailable)]
)
def test_after_a_failure_everything_is_as_it_was(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, error: Exception, seen: type[Exception]
) -> None:
    outbox.append([routine(), routine()])
    before = outbox.stats()

    def fail(point: str) -> None:
        if point == "outbox.before_commit":
            raise error

    reserve = outbox.path.with_suffix(".reserve")
    assert reserve.stat().st_size == 512 * 1024
    with monkeypatch.context() as broken:
        broken.setattr(outbox_module, "fault_point", fail)
        with pytest.raises(seen):
            outbox.append([routine(), *[waveform()] * 20])
    assert outbox.stats() == before
    assert reserve.exists() is (seen is RuntimeError)  # its room is needed only when the disk is full
    assert outbox.append([routine()])[0].number == 3
    assert outbox.recover_room() and reserve.stat().st_size == 512 * 1024


def test_an_error_that_is_not_the_disk_s_is_not_hidden(outbox: Outbox) -> None:
    outbox._db.execute("DROP TABLE schemas")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        outbox.append([routine()])
    assert outbox.path.with_suffix(".reserve").exists() and not outbox._db.in_transaction


def test_the_points_where_power_may_fail_come_in_order(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bool]] = []
    monkeypatch.setattr(outbox_module, "fault_point", lambda point: seen.append((point, outbox._db.in_transaction)))
    outbox.append([routine()])
    assert seen == [("outbox.before_append", False), ("outbox.before_commit", True), ("outbox.after_commit", False)]


def test_losses_that_become_one_span_all_their_time_and_a_loss_of_number_1_extends_none(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MAX_GAP_ROWS", 3)
    with outbox._transaction():
        for number, start_us, end_us in ((1, T0 + 5, T0 + 90), (3, T0, T0 + 20), (5, T0, T0 + 1), (7, T0, T0 + 1)):
            outbox._room.add_gap(lost(number, number, start_us=start_us, end_us=end_us))
    assert declared(outbox) == (
        lost(1, 3, reason="coalesced", start_us=T0, end_us=T0 + 90), lost(5, 5), lost(7, 7)
    )  # fmt: skip
    with outbox._transaction():
        outbox._room.add_gap(GapRecord(0, 0, BatchClass.ROUTINE, "undeliverable", T0, T0 + 1))
        outbox._room.add_gap(lost(1, 1))
        outbox._room.add_gap(lost(1, 1))
    assert outbox.stats().undeclared_gaps == 3


def test_what_is_set_aside_leaves_no_index_of_its_journal_behind(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).write_bytes(b"x")
    _set_aside(path, ValueError("of another time"))
    assert {each.name for each in tmp_path.iterdir()} == {"outbox.sqlite.damaged", "outbox.sqlite.damaged-wal"}


def test_an_outbox_that_cannot_be_read_now_says_so_and_lets_go_of_its_file(
    tmp_path: Path, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "outbox.sqlite"
    with monkeypatch.context() as broken:
        broken.setattr(Outbox, "_adopt", Mock(side_effect=sqlite3.OperationalError("disk I/O error")))
        with pytest.raises(OutboxUnavailable, match=r"cannot use .*: disk I/O error"):
            Outbox(path, QUOTA, clock, BOOT)
    again = Outbox(path, QUOTA, clock, BOOT)
    assert again.append([routine()])[0].number == 1
    again.close()


def test_a_file_of_another_format_is_set_aside_with_its_journal(outbox: Outbox, clock: SimulatedClock) -> None:
    outbox.append([routine()])
    outbox._db.execute("UPDATE meta SET value = 2 WHERE key = 'format'")
    outbox.close()
    for suffix in ("-wal", "-shm"):
        outbox.path.with_name(outbox.path.name + suffix).write_bytes(b"")
    new = Outbox(outbox.path, QUOTA, clock, BOOT)
    assert new.outbox_id != outbox.outbox_id and new.stats().held == 0
    new.close()
    damaged = outbox.path.with_name(outbox.path.name + ".damaged")
    with sqlite3.connect(damaged) as old:
        assert old.execute("SELECT COUNT(*) FROM batches").fetchone() == (1,)
    old.close()


def test_a_folder_that_cannot_be_is_unavailable(tmp_path: Path, clock: SimulatedClock) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutboxUnavailable):
        Outbox(tmp_path / "file" / "outbox.sqlite", QUOTA, clock, BOOT)
    deep = Outbox(tmp_path / "made" / "when" / "needed.sqlite", QUOTA, clock, BOOT)
    deep.close()
    assert check_outbox(deep.path) == "ok"
    assert check_outbox(tmp_path / "nothing.sqlite") != "ok" and not (tmp_path / "nothing.sqlite").exists()


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        (sqlite3.SQLITE_FULL, OutboxUnavailable),
        (sqlite3.SQLITE_IOERR, OutboxUnavailable),
        (sqlite3.SQLITE_IOERR_WRITE, OutboxUnavailable),
        (sqlite3.SQLITE_READONLY, OutboxUnavailable),
        (sqlite3.SQLITE_CANTOPEN, OutboxUnavailable),
        (sqlite3.SQLITE_BUSY, OutboxUnavailable),
        (sqlite3.SQLITE_ERROR, sqlite3.OperationalError),
        (sqlite3.SQLITE_SCHEMA, sqlite3.OperationalError),
    ],
)
def test_a_disk_that_is_full_broken_or_locked_is_unavailable_and_other_errors_are_not_hidden(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, code: int, seen: type[Exception]
) -> None:
    def fail(point: str) -> None:
        if point == "outbox.before_commit":
            error = sqlite3.OperationalError("of sqlite")
            error.sqlite_errorcode = code
            raise error

    with monkeypatch.context() as broken:
        broken.setattr(outbox_module, "fault_point", fail)
        with pytest.raises(seen):
            outbox.append([routine()])
    assert outbox.append([routine()])[0].number == 1


def test_a_file_is_set_aside_with_the_journal_that_may_hold_the_newest(outbox: Outbox, clock: SimulatedClock) -> None:
    outbox.append([routine()])
    outbox.close()
    holder = sqlite3.connect(outbox.path)  # somebody looks into the file, so that its journal stays
    holder.execute("UPDATE meta SET value = 2 WHERE key = 'format'")
    holder.commit()
    journal = outbox.path.with_name("outbox.sqlite-wal").read_bytes()
    assert journal
    Outbox(outbox.path, QUOTA, clock, BOOT).close()
    assert outbox.path.with_name("outbox.sqlite.damaged-wal").read_bytes() == journal
    holder.close()


def test_the_file_is_set_to_survive_power_cuts_and_to_stay_small(outbox: Outbox) -> None:
    settings = {"journal_mode": "wal", "synchronous": 2, "journal_size_limit": 4194304, "cache_size": -256,
                "busy_timeout": 5000}  # fmt: skip
    assert {name: outbox._db.execute(f"PRAGMA {name}").fetchone()[0] for name in settings} == settings
    assert outbox._db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone() == (1,)
    assert outbox._db.isolation_level is None


def test_one_thread_after_another_may_use_it(outbox: Outbox) -> None:
    with ThreadPoolExecutor(1) as elsewhere:
        assert elsewhere.submit(outbox.append, [routine()]).result()[0].number == 1


def test_a_reserve_that_finds_no_room_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not fill_reserve(tmp_path / "no folder" / "reserve")

    def full(file: int) -> None:
        raise OSError(28, "full")

    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", full)
        assert not fill_reserve(tmp_path / "reserve") and not (tmp_path / "reserve").exists()
    assert fill_reserve(tmp_path / "reserve") and fill_reserve(tmp_path / "reserve")
