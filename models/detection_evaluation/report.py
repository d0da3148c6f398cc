"""Tables as console, Markdown and JSON; a picture per series and one summary. matplotlib comes with ``evaluate``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from models.detection_evaluation.baselines import filled, optional
from models.detection_evaluation.judging import DetectorRun, FloatArray, Recording

MAX_POINTS = 4000
MAX_LINES = 12


@dataclass(frozen=True, slots=True)
class Table:
    """Figures: a title, column names, one tuple per row (None: no figure) and what must be known to read them."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[object, ...]]
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """As a JSON object; rows are objects by column."""
        rows = [dict(zip(self.columns, map(_plain, row), strict=True)) for row in self.rows]
        return {"title": self.title, "note": self.note, "rows": rows}

    def as_markdown(self) -> str:
        """As Markdown with a heading."""
        lines = [f"## {self.title}", "", *([self.note, ""] if self.note else [])]
        lines += ["| " + " | ".join(self.columns) + " |", "|" + " --- |" * len(self.columns)]
        lines += ["| " + " | ".join(shown(value).replace("|", "/") for value in row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Floor:
    """A figure that must not fall below ``floor`` (``at_most``: not rise above it); no figure is a miss."""

    name: str
    value: float | None
    floor: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Does the figure hold?"""
        if self.value is None or not math.isfinite(self.value):
            return False
        return self.value <= self.floor if self.at_most else self.value >= self.floor

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        bound = "at most" if self.at_most else "at least"
        return {"name": self.name, "value": _plain(self.value), "bound": bound, "floor": self.floor, "met": self.met}


@dataclass(frozen=True, slots=True)
class Report:
    """All tables, and what must hold."""

    tables: Sequence[Table]
    floors: Sequence[Floor]

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"floors": [each.as_json() for each in self.floors], "tables": [each.as_json() for each in self.tables]}

    def all_tables(self) -> list[Table]:
        """The floors as a table, then the others."""
        rows = [
            (each.name, None if each.value is None else round(each.value, 3), f"{bound} {each.floor:g}", each.met)
            for each in self.floors
            for bound in (each.as_json()["bound"],)
        ]
        return [*([Table("Floors", ("figure", "value", "floor", "met"), rows)] if rows else []), *self.tables]


def show(tables: Sequence[Table], console: Console) -> None:
    """Print the tables."""
    for each in tables:
        table = RichTable(title=each.title, caption=each.note or None)
        for column in each.columns:
            table.add_column(column, overflow="fold")
        for row in each.rows:
            table.add_row(*map(shown, row))
        console.print(table)


def shown(value: object) -> str:
    """A figure as text; ``-`` where there is none."""
    plain = _plain(value)
    if isinstance(plain, bool):
        return "yes" if plain else "no"
    return "-" if plain is None else f"{plain:g}" if isinstance(plain, float) else str(plain)


def file_name(name: str) -> str:
    """A series' name as the name of its picture."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name) + ".png"


def plot_series(
    path: Path,
    title: str,
    recording: Recording,
    verdicts: dict[str, DetectorRun],
    windows: Sequence[tuple[int, int]],
    ours: str,
) -> None:
    """Values (several: each by its own spread), our score with alarms shaded, the others' alarms. Raises BadConfig."""
    figure_module = optional("matplotlib.figure")
    figure = figure_module.Figure(figsize=(12, 6.5), layout="constrained")
    values_axis, score_axis, alarm_axis = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 0.8))
    hours = (recording.times_us - recording.times_us[0]) / 3.6e9
    picked = slice(None, None, max(1, len(hours) // MAX_POINTS))
    _plot_values(values_axis, hours[picked], recording.names, filled(recording.values)[picked])
    values_axis.set_title(title)
    # the highest of each stretch of rows, so that a short peak is not lost between the points drawn
    starts = np.arange(len(hours))[picked]
    score_axis.plot(hours[picked], np.maximum.reduceat(verdicts[ours].score, starts), color="tab:red", linewidth=0.8)
    score_axis.set(ylabel="score", ylim=(0, 1.02))
    score_axis.fill_between(hours, 0, 1, where=verdicts[ours].alarm, color="tab:red", alpha=0.2, linewidth=0)
    score_axis.axvline(hours[min(verdicts[ours].learned, len(hours) - 1)], color="grey", linestyle=":")
    for place, verdict in enumerate(verdicts.values()):
        flagged = hours[verdict.alarm]
        alarm_axis.plot(flagged, np.full(len(flagged), -place), "|", markersize=6)
    alarm_axis.set(ylim=(-len(verdicts) + 0.4, 0.6), xlabel="hours")
    alarm_axis.set_yticks(-np.arange(len(verdicts)), list(verdicts), fontsize=7)
    for axis in (values_axis, score_axis):
        for first, last in windows:
            begin, end = ((each - recording.times_us[0]) / 3.6e9 for each in (first, last))
            axis.axvspan(begin, end, color="tab:green", alpha=0.2)
    figure.savefig(path, dpi=80)


def plot_summary(path: Path, tables: Sequence[Table]) -> None:
    """One bar chart per table that compares detectors, by its first figure. Raises BadConfig."""
    charts = [
        (table, column)
        for table in tables
        for column in ("standard", "F1", "per asset-month", "median first alarm %", "median days")
        if column in table.columns and "detector" in table.columns
    ]
    if not charts:
        return
    sizes = [len(table.rows) + 3 for table, _ in charts]
    figure = optional("matplotlib.figure").Figure(figsize=(11, sum(sizes) / 4), layout="constrained")
    axes = figure.subplots(len(charts), 1, squeeze=False, height_ratios=sizes)[:, 0]
    for axis, (table, column) in zip(axes, charts, strict=True):
        place, who = table.columns.index(column), table.columns.index("detector")
        labels = [", ".join(str(each) for each in row[: who + 1]) for row in table.rows]
        figures = [_plain(row[place]) for row in table.rows]
        heights = [float(figure) if isinstance(figure, int | float) else 0.0 for figure in figures]
        bars = axis.barh(range(len(labels)), heights)
        axis.bar_label(bars, [shown(row[place]) for row in table.rows], fontsize=6)
        axis.set_yticks(range(len(labels)), labels, fontsize=6)
        axis.invert_yaxis()
        if column == "per asset-month":  # from none to tens of thousands
            axis.set_xscale("symlog", linthresh=0.1)
        axis.set_title(f"{table.title}: {column}", fontsize=9)
    figure.savefig(path, dpi=90)


def _plot_values(axis: Any, hours: FloatArray, names: Sequence[str], values: FloatArray) -> None:
    """One channel in its own unit; several below each other, each by its own spread."""
    if values.shape[1] == 1:
        axis.plot(hours, values[:, 0], linewidth=0.6)
        axis.set_ylabel(names[0])
        return
    low, high = np.quantile(values, (0.01, 0.99), axis=0)
    lanes = np.clip((values - low) / np.maximum(high - low, 1e-12), -0.5, 1.5)[:, :MAX_LINES]
    places = -1.2 * np.arange(lanes.shape[1])
    axis.plot(hours, lanes + places, linewidth=0.6)
    axis.set_yticks(places + 0.5, names[: lanes.shape[1]], fontsize=7)


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
