"""Priors made from recordings of healthy assets: what they hold, and that a further healthy asset keeps to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edge_agent.detection.prior.class_prior import prior_from_json
from edge_agent.detection.prior.judge import levels
from edge_agent.detection.tuning import LEVEL_ROWS
from fleet_core.errors import BadInput
from models.cli import app
from models.prior.fitting import Asset, fit_prior


def asset(seed: int, rows: int = 300) -> Asset:
    rng = np.random.default_rng(seed)
    own = np.array([0.1, 40.0]) * (1 + 0.1 * rng.normal(size=2))
    return Asset(f"a{seed}", ("vibration", "temperature"), own + np.array([0.005, 1.0]) * rng.normal(size=(rows, 2)))


def highest_share(each: Asset, fitted_from: list[Asset], limit: str) -> float:
    """How far an asset goes, in shares of a side's ``limit``."""
    prior = fit_prior(fitted_from).prior
    shares = []
    for place, name in enumerate(each.channels):
        own, level = prior.channels[name], levels(each.values[:, [place]], np.full((LEVEL_ROWS - 1, 1), np.nan))
        shares.append((np.nanmax(level) - own.centre) / (getattr(own, f"high{limit}") - own.centre))
        shares.append((own.centre - np.nanmin(level)) / (own.centre - getattr(own, f"low{limit}")))
    return float(max(shares))


def test_one_more_healthy_asset_keeps_to_the_limits() -> None:
    """With nine assets a tenth may go beyond the room; clearly beyond it hardly any."""
    beyond = sum(highest_share(asset(900 + n), [asset(10 * n + i) for i in range(9)], "_limit") > 1 for n in range(60))
    assert beyond <= 60 / 10


def test_limits_surround_what_any_asset_reached() -> None:
    assets = [asset(seed) for seed in range(8)]
    fitted = fit_prior(assets, {"vibration": "[g]"})
    own = fitted.prior.channels["vibration"]
    assert own.unit == "[g]" and fitted.prior.exceeds == pytest.approx(1 / 9, abs=1e-5)
    assert own.low_limit < own.low < own.centre < own.high < own.high_limit
    assert own.between == pytest.approx(0.01, rel=0.9) and own.within == pytest.approx(0.005, rel=0.2)
    assert fitted.room >= 1 and set(fitted.farthest) == {each.name for each in assets}
    assert max(highest_share(each, assets, "_limit") for each in assets) < 1


def test_too_few_assets_or_readings_are_refused() -> None:
    with pytest.raises(BadInput, match="at least 3"):
        fit_prior([asset(1), asset(2)])
    with pytest.raises(BadInput, match="enough readings"):
        fit_prior([asset(seed, rows=10) for seed in range(4)])


def test_a_vital_that_is_not_everywhere_is_left_out() -> None:
    odd = asset(4)
    fitted = fit_prior([asset(1), asset(2), asset(3), Asset("odd", ("vibration",), odd.values[:, :1])])
    assert list(fitted.prior.channels) == ["vibration"] and "temperature" in fitted.left_out


def write(path: Path, each: Asset) -> Path:
    lines = [f"{1_790_000_000 + 600 * i},{a:.6f},{b:.4f}" for i, (a, b) in enumerate(each.values)]
    path.write_text("time,Vib,temperature\n" + "\n".join(lines) + "\n")
    return path


def test_the_command_makes_a_prior_adds_to_it_and_shows_it(tmp_path: Path) -> None:
    files = [str(write(tmp_path / f"r{seed}.csv", asset(seed, 60))) for seed in range(4)]
    out = tmp_path / "prior.json"
    run = CliRunner().invoke
    made = run(app, ["prior", "fit", *files, "--component", "bearing", "--out", str(out), "--rename", "Vib=vibration"])
    assert made.exit_code == 0, made.output
    again = run(app, ["prior", "fit", files[0], files[1], "--component", "motor", "--out", str(out),
                      "--each-column", "level", "--healthy", "0.8"])  # fmt: skip
    assert again.exit_code == 0, again.output
    prior = prior_from_json(out.read_text())
    assert list(prior.components["bearing"].channels) == ["temperature", "vibration"]
    assert prior.components["motor"].assets == 4
    shown = run(app, ["prior", "show", str(out)])
    assert shown.exit_code == 0 and "4 healthy assets" in shown.output


@pytest.mark.parametrize(
    "options", [["--component", "wheel"], ["--component", "motor", "--rename", "x"], ["--component", "motor"]]
)
def test_the_command_refuses_in_one_line(tmp_path: Path, options: list[str]) -> None:
    file = str(write(tmp_path / "r.csv", asset(1, 60)))
    result = CliRunner().invoke(app, ["prior", "fit", file, "--out", str(tmp_path / "p.json"), *options])
    assert result.exit_code == 2 and "Traceback" not in result.output
