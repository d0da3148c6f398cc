"""Pieces of work that fail alone: left alone for longer and longer, logged once, always counted. No test waits."""

from __future__ import annotations

import logging

import pytest

from fleet_core import put_off
from fleet_core.errors import Permanent
from fleet_core.put_off import PutOff

log = logging.getLogger("test")


class Bench:
    """Pieces that are put off, at a time that passes by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.failures = 0
        self.pieces = PutOff(
            log, "timer {} fails", "timer {} rings again", first_s=10.0, most_s=60.0, known=(Permanent,),
            on_failure=self.count, now_s=lambda: self.now_s,
        )  # fmt: skip

    def count(self) -> None:
        self.failures += 1


def test_a_piece_that_fails_waits_for_longer_and_longer_up_to_a_bound() -> None:
    bench = Bench()
    assert not bench.pieces.waits("a")
    for pause_s in (10.0, 20.0, 40.0, 60.0, 60.0):
        assert bench.pieces.failed("a", KeyError("x")) == pause_s
        bench.now_s += pause_s - 0.1
        assert bench.pieces.waits("a") and not bench.pieces.waits("b")
        bench.now_s += 0.1
        assert not bench.pieces.waits("a")
    assert bench.failures == 5


def test_the_first_failure_and_the_success_after_it_are_logged_with_piece_and_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.pieces.succeeded("a")
    for _ in range(3):
        bench.pieces.failed("a", KeyError("x"))
    bench.pieces.failed("b", Permanent("no such case"))
    bench.now_s = 70.0
    bench.pieces.succeeded("a")
    bench.pieces.succeeded("a")
    assert [record.getMessage() for record in caplog.records] == [
        "timer a fails: KeyError: 'x'",
        "timer b fails: no such case",
        "timer a rings again after 70.0 s, 3 failures",
    ]
    assert [bool(record.exc_info) for record in caplog.records] == [True, False, False]
    assert len(bench.pieces) == 1


def test_a_success_ends_the_pause_and_the_next_failure_begins_with_the_first_one() -> None:
    bench = Bench()
    bench.pieces.failed("a", KeyError("x"))
    bench.pieces.failed("a", KeyError("x"))
    bench.pieces.succeeded("a")
    assert not bench.pieces.waits("a")
    assert bench.pieces.failed("a", KeyError("x")) == 10.0


def test_of_very_many_pieces_the_one_that_failed_longest_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(put_off, "MOST_KEPT", 3)
    bench = Bench()
    for piece in ("a", "b", "c", "a", "d"):
        bench.pieces.failed(piece, KeyError(piece))
    assert [bench.pieces.waits(piece) for piece in "abcd"] == [True, False, True, True]
    assert bench.pieces.waiting() == ["c", "a", "d"]
    bench.now_s = 10.0
    assert bench.pieces.waiting() == ["a"]
    assert len(bench.pieces) == 3
