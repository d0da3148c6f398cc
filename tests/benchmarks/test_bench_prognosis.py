"""The search benchmark's own arithmetic: its windows, its truth, its lines."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import bench_prognosis
from benchmarks.prognosis import windows
from benchmarks.prognosis.engines import Engine, Ours, Scan
from benchmarks.prognosis.truth import Truth
from benchmarks.prognosis.windows import batches, queries, unit_signatures
from fleet_server.prognosis.signatures import BINS, signatures


def test_signatures_at_once_are_those_of_the_library() -> None:
    rng = np.random.default_rng(1)
    hours = np.linspace(0.0, 1.0, 240)[None, :] * np.array([[30.0], [400.0]])
    ratio = 1.0 + np.cumsum(rng.random(hours.shape), axis=1) / 20
    at = np.array([[3, 120, 238], [1, 77, 239]])
    at_once = unit_signatures(hours, ratio, at)
    for number in range(2):
        one = signatures(hours[number], ratio[number], hours[number][at[number]])
        assert at_once[number] == pytest.approx(one, rel=1e-9, abs=1e-9)


def test_windows_are_reproducible_whole_and_not_uniform() -> None:
    made, again = list(batches(90_000, 2, 5)), list(batches(90_000, 2, 5))
    vectors = np.concatenate([batch.vectors for batch in made])
    assert vectors.tobytes() == np.concatenate([batch.vectors for batch in again]).tobytes()
    assert vectors.shape == (90_000, 2 * BINS)
    assert np.isfinite(vectors).all()
    units = np.concatenate([batch.units for batch in made])
    assert (np.unique(units, return_counts=True)[1][:-1] == windows.WINDOWS_PER_UNIT).all()
    attributes = np.concatenate([batch.attributes for batch in made])
    assert (attributes[:, 2] // windows.REGIONS_EACH == attributes[:, 3]).all()
    assert np.bincount(attributes[:, 1]).max() > 2 * np.bincount(attributes[:, 1]).min()
    spread = np.linalg.svd(vectors[:, :BINS] - vectors[:, :BINS].mean(axis=0), compute_uv=False)
    assert spread[0] ** 2 > 0.9 * (spread**2).sum()  # along one direction mostly


def test_queries_are_of_other_units_and_of_the_other_simulator() -> None:
    asked, library = queries(200, 1, 9), next(iter(batches(2_000, 1, 5)))
    assert asked.vectors.shape == (200, BINS)
    assert not (asked.vectors[:, None, :] == library.vectors[None, :, :]).all(axis=2).any()
    assert queries(200, 3, 9).vectors.shape == (200, 3 * BINS)


def test_truth_is_that_of_exact_engines_and_counts_what_was_missed() -> None:
    task = bench_prognosis.make_task(50_000, 1, 3, 100)
    for batch in task.windows():
        task.plain.compare(batch)
        task.filtered.compare(batch)
    engines: tuple[Engine, ...] = (Ours(BINS), Scan(BINS))
    for engine in engines:
        figures = bench_prognosis.measure(engine, task)
        assert figures.recall == pytest.approx(1.0, abs=0.002)  # the order of additions may swap equals
        assert figures.recall_filtered == pytest.approx(1.0, abs=0.002)
        assert figures.index_mb == 0 or figures.index_mb > 1
    assert task.plain.recall([[]] * 100) == 0.0


def test_recall_counts_by_what_there_is() -> None:
    batch = next(iter(batches(120, 1, 1)))  # three units
    truth = Truth(batch.vectors[:1], [{}], 10)
    truth.compare(batch)
    assert truth.recall([[0, 1, 2]]) == 1.0
    assert truth.recall([[0, 7]]) == pytest.approx(1 / 3)


def test_a_small_run_prints_every_figure(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_prognosis, "P99_FLOOR_MS", 1e6)  # this machine may be busy
    argv = ["--windows", "4000", "--queries", "100", "--channels", "1,2", "--peers", "scan"]
    assert bench_prognosis.main(argv) == 0
    figures = {line["name"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    for name in ("recall_at_10", "recall_at_10_filtered", "search_p99_ms", "index_mb"):
        assert figures[name]["peer"] == "numpy scan"
        assert figures[name]["ratio"] is not None
        assert figures[f"{name}_12d"]["peer"] is None
    assert figures["recall_at_10"]["value"] == 1.0
    monkeypatch.setattr(bench_prognosis, "P99_FLOOR_MS", 0.0)
    assert bench_prognosis.main(["--windows", "4000", "--queries", "100", "--channels", "1", "--peers", "none"]) == 1


@pytest.mark.parametrize(
    "argv", [["--windows", "0"], ["--queries", "1"], ["--peers", "other"], ["--channels", "0"], ["--channels", ""]]
)
def test_wrong_arguments_are_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench_prognosis.main(argv)
    assert ended.value.code == 2
    assert "--" in capsys.readouterr().err
