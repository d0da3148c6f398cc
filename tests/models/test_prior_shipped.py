"""The shipped prior of the simulated drive: made by its generator, described by its card, true of other drives."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from demo.cast import DRIVE_PRIOR
from demo.healthy_drives import COMPONENTS, main
from edge_agent.detection.prior.class_prior import prior_from_json
from edge_agent.detection.prior.judge import PriorJudge
from firmware_bridge.devices.drive_model import DriveModel, DriveParams, varied
from fleet_core.telemetry import MetricSpec
from models.cli import app

CARD = Path(__file__).parents[2] / "models" / "cards" / "drive-prior.md"
UNITS = {
    "bearing": "bearing_temperature_cel=Cel,vibration_rms_g=[g]",
    "motor": "motor_temperature_cel=Cel,motor_current_a=A",
}


def test_its_generator_makes_it_again_and_its_card_names_it(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    out = tmp_path / "drive.json"
    for component, units in UNITS.items():
        files = sorted(map(str, tmp_path.glob(f"{component}-*.csv")))
        arguments = ["prior", "fit", *files, "--component", component, "--units", units, "--out", str(out)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    made, shipped = (prior_from_json(path.read_text(encoding="utf-8")) for path in (out, DRIVE_PRIOR))
    for component, own in shipped.components.items():
        for name, channel in own.channels.items():
            again = made.components[component].channels[name]
            # other machines may round elsewhere
            assert again.high_limit == pytest.approx(channel.high_limit, rel=1e-3) and again.unit == channel.unit
    assert hashlib.sha256(DRIVE_PRIOR.read_bytes()).hexdigest() in CARD.read_text(encoding="utf-8")


@pytest.mark.parametrize(("left_h", "sick"), [(None, False), (12.0, True)])
def test_it_tells_sick_drives_from_healthy_ones(left_h: float | None, sick: bool) -> None:
    prior = prior_from_json(DRIVE_PRIOR.read_text(encoding="utf-8"))
    vitals = COMPONENTS["bearing"]
    for seed in range(5):
        rng = np.random.default_rng(900_000 + seed)
        params = replace(varied(DriveParams(), rng), healthy_h=1000.0 if left_h is None else 0.0)
        model = DriveModel(params, rng, 0.0 if left_h is None else params.seize_after_onset_h - left_h)
        judge = PriorJudge(prior.components["bearing"], tuple(map(MetricSpec, vitals)))
        alarmed = False
        for tick in range(36):
            reading = model.vitals()
            judge.take(np.array([getattr(reading, name) for name in vitals]), tick + 1)
            alarmed |= judge.alarm
            model.step(1 / 6)
        assert alarmed is sick


def test_the_generator_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
