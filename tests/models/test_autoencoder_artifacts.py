"""The published autoencoder: digests, sizes, the parity gate measured again, the device's copy, the card."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from edge_agent.detection.detectors import _windows, autoencoder
from edge_agent.detection.detectors.autoencoder import INPUT_LIMIT, Judge
from models.autoencoder import card, cli, data, export, parity
from models.autoencoder.train import Trained

FILES = (export.INT8_MODEL, export.FLOAT_MODEL)


def manifest() -> dict:  # type: ignore[type-arg]  # JSON
    return json.loads((export.ARTIFACT / export.MANIFEST).read_text(encoding="utf-8"))


def test_digests_and_sizes_are_those_of_the_manifest() -> None:
    told = manifest()
    for name in FILES:
        content = (export.ARTIFACT / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == told["sha256"][name]
        assert len(content) == told["bytes"][name] <= export.MAX_FILE_BYTES


def test_the_device_carries_the_published_network() -> None:
    names = {autoencoder.MODEL: export.INT8_MODEL, autoencoder.MANIFEST: export.MANIFEST}
    for carried, published in names.items():
        assert (export.DEVICE / carried).read_bytes() == (export.ARTIFACT / published).read_bytes()


def test_the_card_is_the_manifest_s() -> None:
    assert card.CARD.read_text(encoding="utf-8") == card.render(manifest())


def test_the_input_is_calibrated_by_true_extremes() -> None:
    scale, zero = manifest()["quantisation"]["input"]
    assert scale * 255 == pytest.approx(2 * INPUT_LIMIT, rel=1e-5)
    assert (-128 - zero) * scale == pytest.approx(-INPUT_LIMIT, abs=scale)


def test_parity_holds_on_both_files(monkeypatch: pytest.MonkeyPatch) -> None:
    small, exact, told = parity.load(export.ARTIFACT)
    measured = parity.parity(small, exact, told["seed"])
    assert measured.passed and measured.windows > 5000
    assert measured.correlation == pytest.approx(told["parity"]["correlation"], abs=1e-3)
    monkeypatch.setattr(parity, "CHANNELS", 24)
    other = parity.parity(small, exact, told["seed"] + 1)
    assert other.passed


def test_a_clipped_comparison_would_hide_the_fault() -> None:
    small, exact, _ = parity.load(export.ARTIFACT)
    view = np.zeros((1, _windows.WIDTH))
    view[0, :32] = 16.0
    hidden = np.clip(view, -INPUT_LIMIT, INPUT_LIMIT)
    residual = hidden - small.network.run(view)
    against_clipped = float(np.sqrt((residual**2 * small.weights).sum()))
    assert small.scores(view)[0] > 3 * against_clipped
    assert small.scores(view)[0] == pytest.approx(exact.scores(view)[0], rel=0.02)
    before = small.saturated
    small.scores(view)
    assert small.saturated - before == 32


def test_it_adds_where_movement_changes() -> None:
    small, _, told = parity.load(export.ARTIFACT)
    value = parity.value(small, told["seed"])
    for fault in ("bursting", "sticking", "sluggish", "nervous"):
        row = value[fault]
        assert row["autoencoder"] > max(row["level"], row["mean"], row["power"]) + 0.02, fault
        assert row == pytest.approx(told["value"][fault], abs=0.01)


def test_check_tells_figures_and_refuses_a_poor_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "CHANNELS", 24)
    run = CliRunner()
    told = json.loads(run.invoke(cli.app, ["check", "--json"]).stdout)
    assert told["parity"]["correlation"] >= parity.LEAST_CORRELATION
    missing = run.invoke(cli.app, ["check", str(tmp_path)])
    assert missing.exit_code == 2 and "train first" in missing.output
    monkeypatch.setattr(parity, "LEAST_CORRELATION", 1.1)
    assert run.invoke(cli.app, ["check", "--json"]).exit_code == 1


def test_publication_is_refused_below_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [(export.ARTIFACT / name).read_bytes() for name in (export.FLOAT_MODEL, export.INT8_MODEL)]
    spread = np.array(manifest()["contract"]["least_spread"])
    monkeypatch.setattr(parity, "CHANNELS", 24)
    monkeypatch.setattr(cli, "train", lambda seed, epochs: Trained(None, np.zeros((0, _windows.WIDTH)), spread))
    monkeypatch.setattr(export, "convert", lambda trained: contents)
    monkeypatch.setattr(export, "tensorflow", lambda: SimpleNamespace(__version__="none"))
    monkeypatch.setattr(parity, "LEAST_CORRELATION", 1.1)
    out = tmp_path / "out"
    refused = CliRunner().invoke(cli.app, ["train", "--out", str(out)])
    assert refused.exit_code == 1 and "refused" in refused.output and not out.exists()
    monkeypatch.setattr(parity, "LEAST_CORRELATION", 0.995)
    assert CliRunner().invoke(cli.app, ["train", "--out", str(out), "--seed", "5"]).exit_code == 0
    small, _, told = parity.load(out)
    assert told["seed"] == 5 and "--seed 5" in told["command"]
    export.ship(out, tmp_path)
    carried = (tmp_path / autoencoder.MODEL).read_bytes(), (tmp_path / autoencoder.MANIFEST).read_text()
    assert np.array_equal(autoencoder.load_judge(*carried).weights, small.weights)


def test_training_without_tensorflow_names_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    refused = CliRunner().invoke(cli.app, ["train", "--out", str(tmp_path / "out")])
    assert refused.exit_code == 2 and ("tensorflow-cpu" in refused.output or "LiteRT" in refused.output)
    assert not (tmp_path / "out").exists()


def test_courses_are_reproducible_standardised_and_faulty_from_the_onset_only() -> None:
    one, two = (data.healthy(20, 144, 200, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(one.rows, two.rows)
    assert np.abs(np.median(one.rows[:144], axis=0)).max() < 1e-9
    for fault in data.FAULTS:
        changed = data.faulty(one, fault, 200, np.random.default_rng(5))
        assert np.array_equal(changed.rows[:200], one.rows[:200]) and not np.array_equal(changed.rows, one.rows)
        assert np.isfinite(changed.rows).all()


def test_scores_use_the_weights() -> None:
    class Mute:
        def run(self, rows: np.ndarray) -> np.ndarray:
            return np.zeros_like(rows)

    weights = np.zeros(_windows.WIDTH)
    weights[3] = 0.25
    judge = Judge(Mute(), weights, np.ones(len(_windows.SHAPES)))  # stands in for a network
    assert judge.scores(np.full((1, _windows.WIDTH), 4.0))[0] == pytest.approx(2.0)
