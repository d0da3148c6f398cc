"""Pictures of an evaluation. matplotlib comes with the extra ``evaluate``; without it BadConfig."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.detection_evaluation.baselines import optional
from models.rul.evaluation.cuts import Cuts
from models.rul.metrics import Estimate, Floats, reliability

FANS = 6


def plot_last(path: Path, title: str, cuts: Cuts, cap: float) -> None:
    """Truth, forecast and 80 % interval of each unit at its last moment, in order of the truth, capped."""
    figure, axis = _figure()
    said = cuts.said
    order = np.argsort(np.minimum(said.remaining, cap) + said.remaining * 1e-6)
    place = np.arange(len(order))
    low, high, mean, truth = (np.minimum(each[order], cap) for each in (said.p10, said.p90, said.mean, said.remaining))
    axis.vlines(place, low, high, color="tab:blue", alpha=0.4, linewidth=2, label="80 % interval")
    axis.plot(place, mean, ".", color="tab:blue", label="forecast")
    axis.plot(place, truth, color="black", linewidth=1, label="truth")
    axis.set(title=title, xlabel="units by remaining life", ylabel=f"remaining, capped at {cap:g}")
    axis.legend()
    figure.savefig(path, dpi=90)


def plot_fans(path: Path, title: str, lives: Sequence[Cuts], alpha: float) -> None:
    """Forecast and interval over a few lives, with the truth and the cone of ``alpha`` around it."""
    picked = lives[:: max(1, len(lives) // FANS)][:FANS]
    columns = 3
    figure = optional("matplotlib.figure").Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(-(-len(picked) // columns), columns, squeeze=False).ravel()
    for axis, life in zip(axes, picked, strict=False):
        axis.fill_between(
            life.time, life.p10, life.p90, color="tab:blue", alpha=0.25, linewidth=0, label="80 % interval"
        )
        axis.plot(life.time, life.p50, color="tab:blue", linewidth=1.2, label="median forecast")
        axis.plot(life.time, life.remaining, color="black", linewidth=1, label="truth")
        for side, label in ((1 - alpha, None), (1 + alpha, f"within {alpha:.0%} of the truth")):
            axis.plot(life.time, side * life.remaining, color="tab:green", linestyle=":", linewidth=1, label=label)
        axis.set(xlabel="time", ylabel="remaining", ylim=(0.0, 2.0 * life.remaining[0]))  # a far end is cut off
    for axis in axes[len(picked) :]:
        axis.set_axis_off()
    figure.suptitle(title)
    if picked:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=80)


def plot_reliability(path: Path, title: str, curves: Mapping[str, tuple[Floats, Floats]]) -> None:
    """Forecast probability against observed share, a line for each set; larger points stand for more forecasts."""
    figure, axis = _figure((6.5, 6.5))
    axis.plot((0, 1), (0, 1), color="grey", linestyle=":")
    for name, (said, came) in curves.items():
        table = reliability(said, came)
        points = np.array([(line["said"], line["happened"], line["forecasts"]) for line in table]).reshape(-1, 3)
        (line,) = axis.plot(points[:, 0], points[:, 1], linewidth=1, label=f"{name} ({len(said)} forecasts)")
        sizes = 10 + 300 * points[:, 2] / max(1, len(said))
        axis.scatter(points[:, 0], points[:, 1], sizes, color=line.get_color(), alpha=0.7, linewidth=0)
    axis.set(title=title, xlabel="said", ylabel="happened", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    axis.legend(loc="upper left")
    figure.savefig(path, dpi=90)


def plot_coverage(path: Path, sets: Mapping[str, Mapping[str, Estimate]], level: float) -> None:
    """Coverage with its 95 % interval, by phase, per set; a colour per set."""
    figure, axis = _figure((9.0, 1.5 + 0.32 * sum(map(len, sets.values()))))
    labels: list[str] = []
    for place, (name, phases) in enumerate(sets.items()):
        for phase, share in phases.items():
            axis.plot((share.low, share.high), (len(labels),) * 2, color=f"C{place}", linewidth=2)
            axis.plot(share.value, len(labels), "o", color=f"C{place}")
            labels.append(f"{name}, {phase}")
    axis.axvline(level, color="grey", linestyle=":")
    axis.set_yticks(range(len(labels)), labels)
    axis.set(
        title=f"What the {level:.0%} interval holds, over lives not learned from",
        xlim=(-0.01, 1.01),
        xlabel="share of truths inside, with its 95 % confidence interval over units",
    )
    axis.grid(axis="x", alpha=0.3)
    axis.invert_yaxis()
    figure.savefig(path, dpi=90)


def _figure(size: tuple[float, float] = (10.0, 5.5)) -> tuple[Any, Any]:
    figure = optional("matplotlib.figure").Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()
