"""The search over windows: the same answer as a plain scan, whatever the filter, the order or the strategy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_core.errors import BadInput
from fleet_server.prognosis.search import ANYWHERE, Found, SignatureIndex, Where, files
from fleet_server.prognosis.search import index as index_module
from fleet_server.prognosis.search.blocks import BLOCK_ROWS

DIMS = 6


@pytest.fixture
def short_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks even for small libraries, and few rows only when they are few indeed."""
    monkeypatch.setattr(index_module, "TAIL_ROWS", 300)
    monkeypatch.setattr(index_module, "FEW_ROWS", 40)


def windows(count: int, seed: int = 0, per_unit: int = 8, step: float | None = None) -> dict[str, Any]:
    """Random walks of units; with ``step`` rounded to a grid, so that there are ties."""
    rng = np.random.default_rng(seed)
    vectors = np.cumsum(rng.standard_normal((count, DIMS)), axis=0) * 0.2 + rng.standard_normal((count, DIMS))
    units = np.arange(count) // per_unit
    of_unit = rng.integers(0, (3, 4, 70, 5), (count, 4))[units]
    vectors = np.round(vectors / step) * step if step else vectors
    return {"ids": np.arange(count), "units": units, "vectors": vectors.astype(np.float32), "attributes": of_unit}


def index_of(data: dict[str, Any], parts: int = 1, dtype: str = "float32") -> SignatureIndex:
    index = SignatureIndex(DIMS, dtype)
    for part in np.array_split(np.arange(len(data["ids"])), parts):
        index.add(**{name: values[part] for name, values in data.items()})
    return index


def scanned(
    data: dict[str, Any], query: Any, k: int, fits: Any, dims: Any = slice(None)
) -> list[tuple[int, int, float]]:
    """(id, unit, distance) of the k nearest units, in double precision; ties by id."""
    apart = data["vectors"].astype(np.float64)[:, dims] - np.asarray(query, dtype=np.float64)[dims]
    distance = np.sqrt((apart**2).mean(axis=1))
    best: dict[int, tuple[int, int, float]] = {}
    for row in np.lexsort((data["ids"], distance)):
        unit = int(data["units"][row])
        if fits[row] and unit not in best:
            best[unit] = (int(data["ids"][row]), unit, float(distance[row]))
    return list(best.values())[:k]


def check(found: Found, expected: list[tuple[int, int, float]]) -> None:
    assert found.ids.tolist() == [row[0] for row in expected]
    assert found.units.tolist() == [row[1] for row in expected]
    assert found.distances == pytest.approx([row[2] for row in expected], rel=1e-4, abs=1e-6)
    assert found.exact


@pytest.mark.usefixtures("short_tail")
@pytest.mark.parametrize(
    "where",
    [
        ANYWHERE,
        Where(component=(1,)),
        Where(asset_class=(0, 2), component=(3,)),
        Where(region=(1, 65)),  # the same number modulo 64
        Where(jurisdiction=(2,), component=(0, 1, 2)),
        Where(region=(7,), jurisdiction=(1,)),  # few rows
        Where(component=(99,)),
        Where(component=()),
    ],
)
def test_the_answer_is_that_of_a_plain_scan(where: Where) -> None:
    data = windows(3_000)
    index = index_of(data)
    fits = np.ones(3_000, dtype=bool)
    for column, values in enumerate(where.columns):
        fits &= np.isin(data["attributes"][:, column], list(values)) if values is not None else True
    for query in windows(12, seed=5, per_unit=1)["vectors"]:
        check(index.search(query, 10, where), scanned(data, query, 10, fits))


@pytest.mark.usefixtures("short_tail")
@pytest.mark.parametrize("parts", [1, 3, 17])
def test_neither_batches_nor_order_nor_ties_change_the_answer(parts: int) -> None:
    data = windows(1_500, step=0.5)
    shuffle = np.random.default_rng(3).permutation(1_500)
    mixed = {name: values[shuffle] for name, values in data.items()}
    one, other = index_of(data), index_of(mixed, parts)
    for query in windows(10, seed=8, per_unit=1, step=0.5)["vectors"]:
        expected = scanned(data, query, 20, np.ones(1_500, dtype=bool))
        for found in (one.search(query, 20), other.search(query, 20)):
            check(found, expected)
        assert one.search(query, 20).distances.tobytes() == other.search(query, 20).distances.tobytes()


@pytest.mark.usefixtures("short_tail")
@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(0, 900),
    k=st.integers(1, 150),
    compared=st.lists(st.booleans(), min_size=DIMS, max_size=DIMS).filter(any),
    seed=st.integers(0, 1000),
)
def test_any_size_any_number_of_units_any_dimensions(count: int, k: int, compared: list[bool], seed: int) -> None:
    index_module.TAIL_ROWS, before = 100, index_module.TAIL_ROWS
    try:
        data = windows(count, seed=seed, step=0.25)
        query = np.where(compared, 0.125, np.nan)
        found = index_of(data).search(query, k, compared=np.array(compared))
    finally:
        index_module.TAIL_ROWS = before
    check(found, scanned(data, query, k, np.ones(count, dtype=bool), np.flatnonzero(compared)))


@pytest.mark.usefixtures("short_tail")
def test_units_can_be_left_out() -> None:
    data = windows(2_000)
    index, query = index_of(data), data["vectors"][800]
    assert index.search(query, 1).units.tolist() == [100]
    allowed = np.ones(250, dtype=bool)
    allowed[[100, 101]] = False
    check(index.search(query, 10, allowed_units=allowed), scanned(data, query, 10, allowed[data["units"]]))


@pytest.mark.usefixtures("short_tail")
def test_windows_added_later_are_found_at_once() -> None:
    data = windows(1_000)
    index = index_of(data)
    query = np.full(DIMS, 9.0, dtype=np.float32)
    index.search(query, 1)
    index.add(np.array([77_777]), np.array([5_000]), query[None, :], np.array([[9, 9, 9, 9]]))
    assert index.search(query, 1).ids.tolist() == [77_777]
    assert index.search(query, 1, Where(region=(9,), component=(9,))).units.tolist() == [5_000]
    assert index.sorted_count() == 1_000
    assert len(index) == 1_001


@pytest.mark.usefixtures("short_tail")
def test_a_bounded_search_says_that_it_was() -> None:
    data = windows(20_000, per_unit=20_000)  # one unit: no k units are ever found
    found = index_of(data).search(data["vectors"][0], 10, most_rows=BLOCK_ROWS)
    assert not found.exact
    assert found.units.tolist() == [0]
    assert found.visited < 2_000


def test_a_small_library_is_a_plain_scan() -> None:
    index = index_of(windows(400))
    assert index.sorted_count() == 0
    assert index.search(np.zeros(DIMS), 3).visited == 400


def test_an_empty_index_answers_nothing() -> None:
    found = SignatureIndex(DIMS).search(np.zeros(DIMS), 10)
    assert (found.ids.size, found.exact, found.visited) == (0, True, 0)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("units", np.array([-1, 0])),
        ("units", np.array([0.5, 1.0])),
        ("units", np.array([0, 2**40])),
        ("attributes", np.array([[0, 0, 0, -1]] * 2)),
        ("attributes", np.zeros((2, 3), dtype=np.int64)),
        ("vectors", np.array([[0.0] * 5 + [np.nan]] * 2)),
        ("vectors", np.full((2, DIMS), 1e300)),
        ("vectors", np.zeros((2, DIMS + 1))),
        ("ids", np.arange(3)),
    ],
)
def test_hostile_windows_are_refused_whole(name: str, values: Any) -> None:
    index, data = SignatureIndex(DIMS), windows(2)
    with pytest.raises(BadInput):
        index.add(**{**data, name: values})
    assert len(index) == 0


@pytest.mark.parametrize("query", [np.zeros(5), np.full(DIMS, np.inf), np.zeros((1, DIMS))])
def test_hostile_queries_are_refused(query: Any) -> None:
    with pytest.raises(BadInput):
        index_of(windows(10)).search(query, 3)
    with pytest.raises(BadInput):
        index_of(windows(10)).search(np.zeros(DIMS), 0)


def test_dimensions_and_precision_are_bounded() -> None:
    for arguments in ((0,), (10_000,), (DIMS, "int8")):
        with pytest.raises(BadInput):
            SignatureIndex(*arguments)


def test_combinations_of_attributes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "MAX_KINDS", 10)
    with pytest.raises(BadInput):
        index_of(windows(400))


@pytest.mark.usefixtures("short_tail")
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_saved_index_answers_the_same_bits(tmp_path: Path, mapped: bool, dtype: str) -> None:
    data = windows(1_000)
    index = index_of(data, dtype=dtype)
    index.search(data["vectors"][0], 1)
    extra = windows(50, seed=4)
    index.add(extra["ids"] + 5_000, extra["units"] + 5_000, extra["vectors"], extra["attributes"])
    digest = files.save(index, tmp_path / "index")
    assert files.save(index, tmp_path / "index") == digest
    again = files.load(tmp_path / "index", mapped=mapped)
    assert (len(again), again.sorted_count(), again.dtype) == (1_050, 1_000, dtype)
    for query in windows(10, seed=5)["vectors"]:
        for where in (ANYWHERE, Where(component=(1,), region=(3, 4))):
            one, other = index.search(query, 10, where), again.search(query, 10, where)
            assert one.ids.tobytes() == other.ids.tobytes()
            assert one.distances.tobytes() == other.distances.tobytes()
    again.add(np.array([1]), np.array([9_999]), np.full((1, DIMS), 50.0), np.zeros((1, 4), dtype=np.int64))
    assert again.search(np.full(DIMS, 50.0), 1).units.tolist() == [9_999]


def test_an_index_that_was_altered_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with pytest.raises(BadInput, match="cannot be read"):
        files.load(folder)
    files.save(index_of(windows(100)), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    vectors = folder / "vectors.npy"
    content = vectors.read_bytes()
    vectors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BadInput, match="not as it was saved"):
        files.load(folder)
    vectors.write_bytes(content)
    wrong: Any
    for wrong in ([], {"format": "other"}, {**manifest, "sorted": 10**6}, {**manifest, "sorted": "1"}):
        (folder / "manifest.json").write_text(json.dumps(wrong))
        with pytest.raises(BadInput):
            files.load(folder)
