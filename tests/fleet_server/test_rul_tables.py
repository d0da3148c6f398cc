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
    np.testing.assert_array_equal(first.values, [[np.nan, 0.0], [7.0, 0.0], [0.5, 1.0]])
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


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("", "columns"),
        ("id,t\n", "no row"),
        ("id,id\n1,2\n", "rename"),
        ("id,x\n1,2\n", "--time"),
        ("id,t\n1,2\n", "beside"),
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
