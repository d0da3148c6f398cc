"""The outbox against a plain model, and its bad days: full disk, damage, copies, eviction."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from array import array
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_agent.drafts import Draft, gap_draft, waveform_drafts
from edge_agent.outbox import Outbox, OutboxUnavailable, check_outbox, room
from edge_agent.outbox import outbox as outbox_module
from edge_agent.outbox.room import GAP_ROOM_BYTES
from fleet_core.batches import EMPTY_SCHEMA, FIRST_PREV, SampleColumn, Schema, batch_digest, batch_header, decode_batch
from fleet_core.clock import SimulatedClock
from fleet_core.sparkplug.session import coalesce
from fleet_core.telemetry import BatchClass, DetectionState, MetricSpec, StateChange, Waveform

BOOT = "6fa459ea-ee8a-3ca4-894e-db77e160355e"
T0 = 1_790_000_000_000_000
SCHEMA = Schema((MetricSpec("speed_rpm", "/min"), MetricSpec("vibration", "[g]", "bearing", 0.0, "waveform")))
ALL = tuple(BatchClass)
FOREVER = 1 << 62


def routine(samples: int = 10, at_us: int = T0) -> Draft:
    times = array("q", range(at_us, at_us + samples))
    column = SampleColumn("speed_rpm", times, array("d", [1.5] * samples))
    return Draft(BatchClass.ROUTINE, "robot-1", SCHEMA, (column,))


def waveform(samples: int = 2560) -> Draft:
    wave = Waveform("vibration", T0, 25600.0, array("f", [0.5] * samples))
    return waveform_drafts("robot-1", SCHEMA, wave, False)[0]


def finding() -> Draft:
    state = StateChange("bearing", DetectionState.WATCH, DetectionState.HEALTHY, T0, 0.5, "x" * 200)
    return Draft(BatchClass.FINDING, "robot-1", SCHEMA, states=(state,))


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def outbox(tmp_path: Path, clock: SimulatedClock):
    opened = Outbox(tmp_path / "outbox.sqlite", 1 << 20, clock, BOOT)
    yield opened
    opened.close()


def held_numbers(outbox: Outbox) -> set[int]:
    return {number for first, last in outbox.held().ranges for number in range(first, last + 1)}


def gap_numbers(outbox: Outbox) -> set[int]:
    """Numbers in undeclared rows and in declared batches that are still here."""
    rows = outbox._db.execute("SELECT first, last FROM gaps WHERE first > 0").fetchall()
    bodies = outbox._db.execute("SELECT body, device_id FROM batches WHERE class = 3").fetchall()
    for body, device_id in bodies:
        rows += [(g.first_batch, g.last_batch) for g in decode_batch(body, EMPTY_SCHEMA, device_id).gaps]
    return {number for first, last in rows if first for number in range(first, last + 1)}


def test_batches_are_numbered_chained_and_on_disk(outbox: Outbox) -> None:
    assert [a.number for a in outbox.append([routine(), finding(), waveform()])] == [1, 2, 3]
    leased = outbox.lease(0, FOREVER, ALL, 10)
    previous = FIRST_PREV
    for number, item in enumerate(leased, 1):
        batch = decode_batch(item.body, SCHEMA, item.device_id)
        assert (batch.number, batch.outbox_id, batch.prev_digest) == (number, outbox.outbox_id, previous)
        previous = batch_digest(batch)


def test_a_draft_that_cannot_be_a_batch_is_refused_alone(outbox: Outbox) -> None:
    foreign = Draft(BatchClass.ROUTINE, "robot-1", Schema((MetricSpec("other"),)), routine().columns)
    assert [(a.number, a.reason) for a in outbox.append([routine(), foreign, routine()])] == [
        (1, ""),
        (0, "unknown_metric"),
        (2, ""),
    ]


def test_a_reopened_outbox_continues_the_chain(outbox: Outbox, clock: SimulatedClock) -> None:
    outbox.append([routine()])
    digest = batch_digest(decode_batch(outbox.lease(0, FOREVER, ALL, 1)[0].body, SCHEMA, "robot-1"))
    outbox.close()
    again = Outbox(outbox.path, 1 << 20, clock, BOOT)
    assert again.outbox_id == outbox.outbox_id
    assert again.append([routine()])[0].number == 2
    assert batch_header(again.fetch((again.outbox_id, 2)).body).prev_digest == digest  # type: ignore[union-attr]
    again.close()


def test_a_copied_outbox_gets_a_new_id_and_still_delivers(outbox: Outbox, clock: SimulatedClock) -> None:
    outbox.append([routine(), routine()])
    outbox.close()
    copy = outbox.path.with_name("copy.sqlite")
    shutil.copy(outbox.path, copy)
    restored = Outbox(copy, 1 << 20, clock, BOOT)
    assert restored.outbox_id != outbox.outbox_id
    assert restored.held().ranges == ()
    assert restored.append([routine()])[0].number == 1
    keys = [leased.key for leased in restored.lease(0, FOREVER, ALL, 10)]
    assert keys == [(outbox.outbox_id, 1), (outbox.outbox_id, 2), (restored.outbox_id, 1)]
    assert restored.settle_stored(outbox.outbox_id, [(1, 2)]) == 2
    restored.close()


def test_a_damaged_outbox_is_set_aside(tmp_path: Path, clock: SimulatedClock) -> None:
    path = tmp_path / "outbox.sqlite"
    path.write_bytes(b"not a database at all" * 500)
    outbox = Outbox(path, 1 << 20, clock, BOOT)
    assert outbox.append([routine()])[0].number == 1
    outbox.close()
    assert (tmp_path / "outbox.sqlite.damaged").exists()
    assert check_outbox(path) == "ok"
    assert check_outbox(tmp_path / "outbox.sqlite.damaged") == "file is not a database"


def test_stored_batches_are_kept_a_day_and_can_be_asked_for_again(outbox: Outbox, clock: SimulatedClock) -> None:
    outbox.append([routine(), routine(), routine()])
    assert outbox.settle_stored(outbox.outbox_id, [(1, 2)]) == 2
    assert outbox.settle_stored(outbox.outbox_id, [(1, 2)]) == 0  # acknowledged again
    assert held_numbers(outbox) == {3}
    assert outbox.resend(outbox.outbox_id, [(2, 2)]) == 1
    assert held_numbers(outbox) == {2, 3}
    clock.shift(90_000)
    outbox.settle_stored(outbox.outbox_id, [(3, 3)])
    assert outbox.stats().stored == 1  # the day-old one is gone, the fresh one stays


def test_day_old_batches_leave_together(outbox: Outbox, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "FORGET_ROWS", 2)

    def stored_after(shift_s: float) -> int:
        clock.shift(shift_s)
        (appended,) = outbox.append([routine()])
        outbox.settle_stored(outbox.outbox_id, [(appended.number, appended.number)])
        return outbox.stats().stored

    assert [stored_after(60.0) for _ in range(4)] == [1, 2, 3, 4]
    assert stored_after(86_400.0 - 100.0) == 3  # a full share was old enough: the next settlement looks again
    assert stored_after(0.0) == 4  # nothing more, so not before ten minutes have passed
    assert stored_after(130.0) == 5
    assert stored_after(600.0) == 4


def test_refused_batches_leave(outbox: Outbox) -> None:
    outbox.append([routine(), routine()])
    assert outbox.settle_refused(outbox.outbox_id, [1, 99]) == 1
    assert held_numbers(outbox) == {2}
    assert outbox.declare_gaps() == 0


def test_eviction_spares_the_worthier_and_declares_the_loss(outbox: Outbox) -> None:
    outbox.append([finding(), routine(), waveform(), waveform()])
    while not outbox.stats().evicted:
        outbox.append([routine(500)])
    assert {1, 2} <= held_numbers(outbox)
    assert gap_numbers(outbox) == {3, 4}
    number = outbox.declare_gaps()
    gaps = decode_batch(outbox.fetch((outbox.outbox_id, number)).body, EMPTY_SCHEMA, "").gaps  # type: ignore[union-attr]
    assert [(g.first_batch, g.last_batch, g.batch_class, g.reason) for g in gaps] == [
        (3, 4, BatchClass.WAVEFORM, "quota")
    ]
    for _ in range(400):
        outbox.append([routine(500)])
    assert 1 in held_numbers(outbox)
    assert outbox.append([waveform()])[0].reason == "no_room"  # nothing less worthy is left to evict
    assert outbox.stats().used_bytes <= outbox.quota_bytes


def test_undeliverable_batches_become_gaps(outbox: Outbox) -> None:
    outbox.append([routine(), routine()])
    assert outbox.give_up([(outbox.outbox_id, 1), (outbox.outbox_id, 1)]) == 1
    assert gap_numbers(outbox) == {1}


def test_gap_rows_are_bounded(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_GAP_ROWS", 5)
    outbox.append([routine() for _ in range(40)])
    outbox.give_up([(outbox.outbox_id, n) for n in range(1, 41, 2)])
    assert outbox.stats().undeclared_gaps <= 5
    assert set(range(1, 41, 2)) <= gap_numbers(outbox)


def test_gap_batches_have_reserved_room(outbox: Outbox) -> None:
    while outbox.append([finding()])[0].number and outbox.stats().evicted < 3:
        pass
    used = outbox.stats().used_bytes
    assert used <= outbox.quota_bytes - GAP_ROOM_BYTES
    lost = gap_draft("robot-1", SCHEMA, BatchClass.ROUTINE, "disk_full", T0, T0 + 5)
    assert outbox.append([lost])[0].number
    assert outbox.declare_gaps()


def test_a_full_disk_writes_nothing_and_is_survived(outbox: Outbox) -> None:
    outbox.append([routine()])
    (pages,) = outbox._db.execute("PRAGMA page_count").fetchone()
    outbox._db.execute(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(OutboxUnavailable):
        outbox.append([routine(2000), routine(2000)])
    assert held_numbers(outbox) == {1}
    assert not outbox.path.with_suffix(".reserve").exists()  # its room was given up
    outbox._db.execute("PRAGMA max_page_count = 1000000")
    assert [a.number for a in outbox.append([routine(2000)])] == [2]
    assert outbox.recover_room()
    header = batch_header(outbox.fetch((outbox.outbox_id, 2)).body)  # type: ignore[union-attr]
    first = decode_batch(outbox.fetch((outbox.outbox_id, 1)).body, SCHEMA, "robot-1")  # type: ignore[union-attr]
    assert header.prev_digest == batch_digest(first)


def test_former_schemas_are_kept_while_batches_name_them(outbox: Outbox) -> None:
    outbox.append([routine(), finding()])
    newer = Schema((*SCHEMA.metrics, MetricSpec("torque")))
    assert outbox.former_schemas("robot-1", newer.digest) == [SCHEMA]
    assert outbox.former_schemas("robot-1", SCHEMA.digest) == []
    outbox.settle_stored(outbox.outbox_id, [(1, 9)])
    assert outbox.former_schemas("robot-1", newer.digest) == []


class OutboxAgainstModel(RuleBasedStateMachine):
    """Every number is exactly one of held, stored, refused or lost, whatever happens in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = SimulatedClock()
        self.state: dict[int, str] = {}
        self.kinds: dict[int, BatchClass] = {}
        self.reopen_it()

    def reopen_it(self) -> None:
        self.outbox = Outbox(Path(self.folder.name) / "outbox.sqlite", 1 << 20, self.clock, BOOT)

    def numbers(self, *states: str) -> list[int]:
        return [number for number, state in self.state.items() if state in states]

    @rule(kinds=st.lists(st.sampled_from(["routine", "waveform", "finding", "big"]), min_size=1, max_size=8))
    def append(self, kinds: list[str]) -> None:
        make = {"routine": routine, "waveform": waveform, "finding": finding, "big": lambda: routine(2000)}
        drafts = [make[kind]() for kind in kinds]
        for draft, appended in zip(drafts, self.outbox.append(drafts), strict=True):
            if appended.number:
                assert appended.number == len(self.state) + 1
                self.state[appended.number], self.kinds[appended.number] = "held", draft.batch_class

    @rule(data=st.data())
    @precondition(lambda self: self.state)
    def settle(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.state)), max_size=20))
        refuse = data.draw(st.booleans())
        if refuse:
            self.outbox.settle_refused(self.outbox.outbox_id, chosen)
        else:
            self.outbox.settle_stored(self.outbox.outbox_id, coalesce(chosen))
        for number in chosen:
            if number in self.actually_held or self.state[number] == "held":
                self.state[number] = ("refused" if refuse else "stored") if number in self.actually_held else "lost"

    @rule(data=st.data())
    @precondition(lambda self: self.numbers("held"))
    def give_up(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.numbers("held")))
        self.outbox.give_up([(self.outbox.outbox_id, number)])
        self.state[number] = "lost"

    @rule()
    def declare(self) -> None:
        number = self.outbox.declare_gaps()
        if number:
            assert number == len(self.state) + 1
            self.state[number], self.kinds[number] = "held", BatchClass.GAP

    @rule(hours=st.integers(1, 30))
    def wait(self, hours: int) -> None:
        self.clock.shift(hours * 3600)

    @rule()
    def reopen(self) -> None:
        self.outbox.close()
        self.reopen_it()

    @rule()
    def fail_to_append(self) -> None:
        (pages,) = self.outbox._db.execute("PRAGMA page_count").fetchone()
        self.outbox._db.execute(f"PRAGMA max_page_count = {pages}")
        try:
            for draft in (routine(2000), routine(2000), routine(2000)):
                number = self.outbox.append([draft])[0].number
                if number:
                    self.state[number], self.kinds[number] = "held", BatchClass.ROUTINE
        except OutboxUnavailable:
            pass
        self.outbox._db.execute("PRAGMA max_page_count = 1000000")

    @invariant()
    def the_books_agree(self) -> None:
        held, gone = held_numbers(self.outbox), gap_numbers(self.outbox)
        settled_gaps = self.numbers("stored", "refused")
        for number, state in self.state.items():
            if state == "held" and number not in held:
                # evicted: it must be declared lost, unless the declaration itself was settled by the server
                assert number in gone or any(self.kinds[n] is BatchClass.GAP for n in settled_gaps)
                self.state[number] = "lost"
        assert held == set(self.numbers("held"))
        assert self.outbox.stats().used_bytes <= self.outbox.quota_bytes
        assert self.outbox.stats().next_number == len(self.state) + 1
        self.actually_held = held

    def teardown(self) -> None:
        self.outbox.close()
        self.folder.cleanup()


OutboxAgainstModel.TestCase.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
TestOutboxAgainstModel = OutboxAgainstModel.TestCase


def test_sqlite_is_set_to_survive_power_loss(outbox: Outbox) -> None:
    assert outbox._db.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert outbox._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    with pytest.raises(sqlite3.ProgrammingError):
        outbox.close()
        outbox.stats()
