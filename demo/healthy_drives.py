"""Healthy recordings of simulated drives, from which the shipped prior of their class is made.

    python -m demo.healthy_drives --out DIR
    fleet-models prior fit DIR/bearing-*.csv --component bearing --units ... --out models/artifacts/priors/drive.json
    fleet-models prior fit DIR/motor-*.csv --component motor --units ... --out models/artifacts/priors/drive.json

Every drive is another one of its kind (``varied``), long before its wear begins. There is one file for every drive and
component, with the vitals named as the device names them. The demo plays with other seeds. The same seeds give the same
files.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from firmware_bridge.devices.drive_model import DriveModel, DriveParams, varied
from fleet_core.assets import BEARING, MOTOR

DRIVES = 12
HOURS = 96.0
STEP_S = 600.0
FIRST_SEED = 700_000
START = datetime(2026, 1, 5, tzinfo=UTC)
COMPONENTS = {
    BEARING: ("bearing_temperature_cel", "vibration_rms_g"),
    MOTOR: ("motor_current_a", "motor_temperature_cel"),
}


def main(argv: list[str] | None = None) -> int:
    """Write the recordings; 0, or 2 with one line when they cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m demo.healthy_drives", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write them")
    parser.add_argument("--drives", type=int, default=DRIVES, metavar="N", help=f"how many drives (default {DRIVES})")
    parser.add_argument("--hours", type=float, default=HOURS, metavar="H", help=f"length (default {HOURS:g})")
    arguments = parser.parse_args(argv)
    if arguments.drives < 1 or not 0 < arguments.hours <= 10_000:
        parser.error("--drives must be at least 1, --hours above 0 and at most 10000")
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        for drive in range(arguments.drives):
            write_drive(arguments.out, FIRST_SEED + drive, arguments.hours)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def write_drive(directory: Path, seed: int, hours: float) -> None:
    """One healthy drive's files, ``COMPONENT-SEED.csv``, a row every ``STEP_S``. Raises OSError."""
    rng = np.random.default_rng(seed)
    params = replace(varied(DriveParams(), rng), healthy_h=10 * hours)
    model = DriveModel(params, rng)
    readings = []
    for _ in range(round(hours * 3600 / STEP_S)):
        readings.append(model.vitals())
        model.step(STEP_S / 3600)
    for component, vitals in COMPONENTS.items():
        with (directory / f"{component}-{seed}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("time", *vitals))
            for row, each in enumerate(readings):
                time = (START + timedelta(seconds=row * STEP_S)).isoformat()
                writer.writerow((time, *(f"{getattr(each, name):.6g}" for name in vitals)))


if __name__ == "__main__":
    sys.exit(main())
