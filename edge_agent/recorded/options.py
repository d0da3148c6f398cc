"""What the commands that judge a recording ask for: which file, which columns, which settings."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

from edge_agent.detection.settings import DetectionSettings
from edge_agent.prior_file import with_prior
from edge_agent.recorded.recording import waveform_tables
from fleet_core.errors import BadConfig
from fleet_core.plugins import parse_config


def add_recording_arguments(parser: argparse.ArgumentParser) -> None:
    """How a recording is read and judged."""
    parser.add_argument("--time-column", default="", metavar="NAME", help="the time column (else it is found)")
    parser.add_argument("--step-s", type=float, metavar="S", help="count the rows, S seconds apart; read no times")
    parser.add_argument("--columns", default="", metavar="A,B", help="judge only these columns")
    parser.add_argument("--exclude", default="", metavar="A,B", help="columns to leave out, such as labels")
    parser.add_argument("--settings", type=Path, metavar="TOML", help="settings as in [asset.detection]")
    parser.add_argument("--prior", type=Path, metavar="JSON", help="the class's prior, for while it still learns")
    parser.add_argument("--bearing", default="", metavar="N,D,P,A", help="balls, ball and pitch mm, contact degrees")
    parser.add_argument("--shaft-hz", type=float, metavar="HZ", help="shaft speed of waveforms (.npz)")
    parser.add_argument("--learn-ticks", type=int, metavar="N", help="rows to learn from at least (default 144)")
    parser.add_argument("--false-alarms-per-month", type=float, metavar="R", help="calibrated rate (default 0.1)")


def settings_of(args: argparse.Namespace) -> DetectionSettings:
    """The settings these arguments ask for. Raises BadConfig."""
    table: dict[str, Any] = {}
    if args.settings is not None:
        try:
            table = tomllib.loads(args.settings.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadConfig(f"{args.settings}: {error}") from None
    table.setdefault("novelty", True)
    if args.learn_ticks is not None:
        table["learn_ticks"] = args.learn_ticks
    if args.false_alarms_per_month is not None:
        table["false_alarms_per_month"] = args.false_alarms_per_month
    if args.prior is not None:
        table["prior"] = str(args.prior.absolute())
    if args.bearing or args.shaft_hz is not None:
        table["waveforms"] = waveform_tables(args.file, args.bearing, args.shaft_hz)
    base_dir = args.settings.parent if args.settings is not None else Path()
    return parse_config(DetectionSettings, with_prior(table, base_dir), "settings")


def spare(out: Path, *inputs: Path | None) -> None:
    """Refuse to write over what is read. Raises BadConfig, OSError."""
    for path in inputs:
        if path is not None and out.exists() and out.samefile(path):
            raise BadConfig(f"--out {out} is the file that is read; name another one")
