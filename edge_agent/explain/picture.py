"""The picture: one landscape page that shows the finding and how the device came to it.

On the left stand the states, the worst channels beside their healthy bands, and the evidence over the whole life with
its levels. On the right stand the channels' contributions and the detectors' votes. Below, where the asset gives
waveforms, stand a healthy burst, the burst at the moment explained, and both spectra. The same case gives the same
file, byte for byte, with the same matplotlib.

matplotlib (the extra ``explain``) is imported when a picture is drawn, and only then.
"""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import Any

from edge_agent.explain import words
from edge_agent.explain.case import Case
from fleet_core import __version__
from fleet_core.errors import BadConfig
from fleet_core.files import write_atomic

ENDINGS = (".svg", ".png")
WIDTH_IN, HEIGHT_IN = 11.69, 8.27
PNG_DPI = 150
LEFT_TEXT, LEFT, LEFT_WIDTH = 0.05, 0.085, 0.552
EVIDENCE_SHARE = 1.15
"""The height of the evidence's panel; a channel's panel has the height 1."""
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#8a8a8a",
    "axes.grid": True,
    "axes.labelcolor": "#333333",
    "axes.labelsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "lines.linewidth": 0.9,
    "svg.hashsalt": "forestall",
    "text.color": "#222222",
    "xtick.color": "#555555",
    "xtick.labelsize": 7,
    "ytick.color": "#555555",
    "ytick.labelsize": 7,
}


def check_out(path: Path) -> None:
    """Check that a picture can be drawn into ``path``, before the work is begun. Raises BadConfig with the remedy."""
    if path.suffix.lower() not in ENDINGS:
        raise BadConfig(f"--out {path}: a picture's name ends in {' or '.join(ENDINGS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise BadConfig(
            "pictures need matplotlib: pip install 'forestall[explain]'; without --out the explanation is words"
        ) from None


def draw(case: Case, path: Path) -> None:
    """Draw a case into ``path`` (SVG or PNG by its ending). Raises BadConfig, OSError."""
    check_out(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, render(case, path.suffix.lower().lstrip(".")))


def render(case: Case, kind: str) -> bytes:
    """The picture as bytes; ``kind`` is svg or png."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The style starts from matplotlib's defaults: the user's own matplotlibrc must not change the picture.
    style: dict[Any, Any] = {**matplotlib.rcParamsDefault, **STYLE, "backend": "Agg"}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), facecolor="white")
        FigureCanvasAgg(figure)
        _compose(figure, case)
        buffer = io.BytesIO()
        metadata = {"Date": None, "Creator": f"forestall {__version__}"} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=PNG_DPI, metadata=metadata)
    return buffer.getvalue()


def _compose(figure: Any, case: Case) -> None:
    from edge_agent.explain import evidence_panel, panels, waves

    title = textwrap.wrap(words.sentence(case), 100)[:3]
    figure.text(LEFT_TEXT, 0.965, "\n".join(title), fontsize=12.5, fontweight="bold", va="top", linespacing=1.25)
    below = textwrap.wrap(words.below(case), 165)[:3]
    below_y = 0.963 - 0.0298 * len(title)
    figure.text(LEFT_TEXT, below_y, "\n".join(below), fontsize=8.5, va="top", color="#444444", linespacing=1.3)
    footer = [words.LEGEND, *textwrap.wrap(words.footer(case), 200)[:2]]
    figure.text(LEFT_TEXT, 0.014, "\n".join(footer), fontsize=6.5, color="#666666", va="bottom", linespacing=1.45)

    pair = case.waveforms if case.waveforms and case.waveforms.now is not None else None
    shown = case.panels
    top, floor = below_y - 0.064 - 0.02 * len(below), 0.305 if pair else 0.102
    # Left column: the states, the channels one below the other, and the evidence under them.
    strip = figure.add_axes((LEFT, top, LEFT_WIDTH, 0.02))
    *boxes, lowest = _stacked(top - 0.006, floor, len(shown))
    axes = [figure.add_axes(box, sharex=strip) for box in boxes]
    scale = panels.time_scale(case)
    panels.states(strip, case, scale)
    for axis, panel in zip(axes, shown, strict=True):
        panels.channel(axis, case, panel, scale, last=axis is axes[-1])
    evidence_panel.evidence(figure.add_axes(lowest), case, scale)
    bars = figure.add_gridspec(2, 1, left=0.812, right=0.962, top=top, bottom=floor, hspace=0.36)
    panels.contributions(figure.add_subplot(bars[0]), case)
    panels.votes(figure.add_subplot(bars[1]), case)
    if pair:
        lower = figure.add_gridspec(1, 4, left=LEFT, right=0.962, top=0.222, bottom=0.108, wspace=0.3)
        waves.bursts([figure.add_subplot(lower[index]) for index in range(4)], case, pair)


def _stacked(top: float, floor: float, channels: int) -> list[tuple[float, float, float, float]]:
    """Boxes (left, bottom, width, height) of so many channels and, lowest, the evidence; gaps hold titles and times."""
    gap, last_gap = 0.031, 0.078
    room = top - floor - gap * channels - last_gap
    height = room / (channels + EVIDENCE_SHARE)
    boxes, y = [], top
    for _ in range(channels):
        y -= gap + height
        boxes.append((LEFT, y, LEFT_WIDTH, height))
    return [*boxes, (LEFT, floor, LEFT_WIDTH, y - last_gap - floor)]
