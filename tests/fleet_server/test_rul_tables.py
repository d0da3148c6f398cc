"""Hostile tables: what is bad is dropped and counted, what is good is kept."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.tables import read_table


def test_good_rows_are_kept_and_bad_ones_counted(tmp_path: Path) -> None:
    path = tmp_path / "lives.csv.gz"
    text = (
        "id;t;x;maker;note;dead\n"
        "a;1;0,5;ACME;n1;0\na;3;0.5;Bolt;n2;1\na;2;inf;ACME;n3;0\na;2;7;ACME;n4;0\n"
        "b;soon;1;ACME;n5;0\n;1;1;ACME;n6;0\nb;1;1\nc;5;4;;n7;0\n"
        + "".join(f"d;{i};{i};ACME;m{i};0\n" for i in range(20))
    )
    path.write_bytes(gzip.compress(text.encode()))
    lives, notes = read_table(path, "id", "t", "dead")
    assert [unit.name for unit in lives] == ["a", "c", "d"]
    first = lives.units[0]
    assert first.failed
    assert not lives.units[1].failed
    assert first.times.tolist() == [1.0, 2.0, 3.0]
    assert lives.channels == ("x", "maker")
    np.testing.assert_array_equal(first.values, [[0.5, 0.0], [7.0, 0.0], [0.5, 1.0]])
    assert np.isnan(lives.units[1].values[0, 1])
    assert notes.categories == {"maker": ("ACME", "Bolt")}
    assert "note" in notes.ignored
    assert notes.refused == {"b": "no row with a readable time"}
    assert sum(notes.dropped.values()) == 4
    assert notes.unordered_units == 1
    assert notes.messages


def test_a_model_s_categories_and_channels_hold(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,t,maker,x\na,1,Bolt,1\na,2,Unknown,2\n")
    lives, _ = read_table(path, "id", "t", channels=("x", "maker"), categories={"maker": ("ACME", "Bolt")})
    np.testing.assert_array_equal(lives.units[0].values, [[1.0, 1.0], [2.0, np.nan]])
    with pytest.raises(BadInput, match="no column y"):
        read_table(path, "id", "t", channels=("y",), categories={})
    lives, _ = read_table(path, "id", "t", channels=("x", "y"), categories={}, optional=("y",))
    np.testing.assert_array_equal(lives.units[0].values, [[1.0, np.nan], [2.0, np.nan]])


BODY = "id,t,x,dead\na,1,0.5,0\na,2,1.5,1\nb,1,0.5,0\nb,3,2.5,0\n"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_tables_as_they_are_exported(tmp_path: Path, separator: str, encoding: str) -> None:
    path = tmp_path / "t.csv"
    text = BODY.replace("x", "Größe").replace(",", separator)
    path.write_bytes((text if separator == "," else text.replace(".", ",")).encode(encoding))
    lives, notes = read_table(path, "id", "t", "dead")
    assert lives.channels == ("Größe",) and lives.units[1].values.ravel().tolist() == [0.5, 2.5]
    assert [unit.failed for unit in lives] == [True, False]
    assert any("Latin-1" in each for each in notes.messages) is (encoding == "latin-1")


@pytest.mark.parametrize("form", ["2026-02-0{}", "2026/02/0{}", "2026-02-0{} 00:00:00", "2026-02-0{}T00:00Z"])
def test_dates_are_counted_in_hours_and_that_is_said(tmp_path: Path, form: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,t,x\n" + "".join(f"a,{form.format(day)},{day}\n" for day in (1, 2, 4)))
    lives, notes = read_table(path, "id", "t")
    assert np.diff(lives.units[0].times).tolist() == [24.0, 48.0]
    assert "column t holds dates: all answers are in hours" in notes.messages


@pytest.mark.parametrize(("yes", "no"), [("1.00", "0.00"), ("Y", "N"), ("failed", "ok"), ("True", ""), ("1", "-")])
def test_ways_to_say_that_a_unit_failed(tmp_path: Path, yes: str, no: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"id,t,x,dead\na,1,1,{no}\na,2,2,{yes}\nb,1,1,{no}\n")
    lives, notes = read_table(path, "id", "t", "dead")
    assert [unit.failed for unit in lives] == [True, False] and not notes.messages


@pytest.mark.parametrize(("yes", "no"), [("2", "1"), ("broken", "fine")])
def test_a_fate_in_other_words_is_asked_for(tmp_path: Path, yes: str, no: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"id,t,x,dead\na,1,1,{no}\na,2,2,{yes}\n")
    with pytest.raises(BadInput, match="1 or 0, yes or no"):
        read_table(path, "id", "t", "dead")
    path.write_text("id,t,x,dead\n" + "".join(f"a,{i},1,0\n" for i in range(30)) + "a,30,1,eh\n")
    lives, notes = read_table(path, "id", "t", "dead")
    assert not lives.units[0].failed and "such as eh: taken as no" in notes.messages[0]


def test_marks_of_missing_readings_do_not_make_a_column_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    marks = ["N/A", "-", "?", "null", "#N/A", "1e300", "-inf"]
    rows = [f"a,{i},{marks[i // 6 % len(marks)] if i % 6 == 0 else i}\n" for i in range(100)]
    path.write_text("id,t,x\n" + "".join(rows))
    lives, notes = read_table(path, "id", "t")
    assert lives.channels == ("x",) and not notes.ignored and np.nanmax(lives.units[0].values) == 99.0
    assert notes.unreadable == {"x": 4}


def test_numbers_written_in_two_ways_are_two_units_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,t,x\n1,1,1\n1.0,1,2\n")
    lives, notes = read_table(path, "id", "t")
    assert len(lives) == 2 and notes.messages == ("column id holds 1 and 1.0: taken as two units",)


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("", "columns"),
        ("id,t\n", "no row"),
        ("id,id\n1,2\n", "rename"),
        ("id,x\n1,2\n", "--time"),
        ("id,t\n1,2\n", "beside"),
        ("id,t,x\n1,soon,1\n", "numbers or dates"),
    ],
)
def test_what_is_no_table_says_so(tmp_path: Path, text: str, mend: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=mend):
        read_table(path, "id", "t")


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("t.csv", "t.csv.gz"):
        path = folder / name
        path.write_bytes(b"id,t,x\n" + body)
        try:
            lives, _ = read_table(path, "id", "t")
        except BadInput:
            continue
        assert lives.rows <= body.count(b"\n") + body.count(b"\r") + 1
