"""The parts of the picture, one function for every part. A function draws into the axes it is given.

The colours are those of Okabe and Ito. No meaning rests on a colour alone: a word or the form of a line says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.arrays import RealArray
from edge_agent.detection.trace.records import STATES, MarkerKind
from edge_agent.explain import words
from edge_agent.explain.case import Case, Panel

DATA, HEALTHY, BEYOND, INK, GREY = "#0072B2", "#009E73", "#D55E00", "#222222", "#777777"
STATE_COLOURS = ("#d9d9d9", "#bfe3d6", "#F0E442", "#E69F00", "#a8325a")
MAX_BARS = 8
LEAST_BAR = 0.005
LETTER = 0.0105
"""The width of a letter as a share of the left column's width."""
MAX_CHANGES = 10
HEADROOM = 0.45
"""How far the axis of a channel reaches beyond its values until the moment explained; later values may be cut off."""
VOTE_LIMIT = 16.0


@dataclass(frozen=True)
class TimeScale:
    """Times in microseconds on an axis: ``place`` converts them, ``dress`` sets locator, formatter and label."""

    place: Callable[[Any], Any]
    dress: Callable[[Any], None]


def time_scale(case: Case) -> TimeScale:
    """The time axis of a case: UTC dates, or time since the recording's start."""
    from matplotlib import dates
    from matplotlib.ticker import MaxNLocator

    origin_us = case.subject.origin_us
    if origin_us is not None:
        size_s, unit = words.scale_of((int(case.life.last_us[-1]) - int(case.life.first_us[0])) / 1e6)

        def count(axis: Any) -> None:
            axis.xaxis.set_major_locator(MaxNLocator(8))
            axis.set_xlabel(f"{unit} since the recording's start", labelpad=2)

        return TimeScale(lambda times: (np.asarray(times) - origin_us) / (1e6 * size_s), count)

    def dress(axis: Any) -> None:
        locator = dates.AutoDateLocator(minticks=4, maxticks=9)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        axis.xaxis.get_offset_text().set_size(7)
        axis.set_xlabel("time (UTC)", labelpad=2)

    return TimeScale(lambda times: np.asarray(times) / 86_400e6, dress)


def states(axis: Any, case: Case, scale: TimeScale) -> None:
    """Draw the detection states over the window as a strip, with the onset and the detection named above it."""
    ticks, (start, stop) = case.life, case.window_us
    edges = np.flatnonzero(np.diff(ticks.states.astype(int))) + 1
    begins = [int(ticks.first_us[i]) for i in (0, *edges)]
    low, high = float(scale.place(start)), float(scale.place(stop))
    high = high if high > low else low + 1
    for index, (begin, end) in enumerate(zip(begins, [*begins[1:], int(ticks.last_us[-1])], strict=True)):
        code = int(ticks.states[0 if index == 0 else edges[index - 1]])
        left, right = max(low, float(scale.place(begin))), min(high, float(scale.place(end)))
        if right <= left:
            continue
        axis.axvspan(left, right, color=STATE_COLOURS[code], lw=0)
        if (right - left) > 0.0115 * (len(STATES[code]) + 1) * (high - low):
            dark = STATES[code] == "critical"
            axis.text(
                (left + right) / 2,
                0.48,
                STATES[code].value,
                transform=axis.get_xaxis_transform(),
                ha="center",
                va="center",
                fontsize=6.5,
                color="white" if dark else INK,
            )
    axis.set_xlim(low, high)
    axis.set_yticks([])
    axis.grid(False)
    axis.tick_params(bottom=False, labelbottom=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    for text, time_us, side in (("onset", case.onset_us, "right"), ("detected", case.detected_us, "left")):
        if time_us is None or not start <= time_us <= stop:
            continue
        place = float(scale.place(time_us))
        fraction = (place - low) / (high - low)
        # The onset is written to the left of its line, the detection to the right, unless there is no room.
        row = 0
        text = f"{text} {words.moment(case, time_us, dated=False)}"
        needed = LETTER * len(text)
        if fraction < needed and side == "right":
            side, row = "left", 1
        elif fraction > 1 - needed and side == "left":
            side, row = "right", 1
        gap = {"left": 3, "right": -3}[side]
        axis.annotate(
            text,
            (place, 1),
            (gap, 3 + 9 * row),
            ha=side,
            xycoords=axis.get_xaxis_transform(),
            textcoords="offset points",
            fontsize=7.5,
            va="bottom",
            fontweight="bold" if time_us == case.detected_us else "normal",
            annotation_clip=False,
        )
    lines(axis, case, scale)


def channel(axis: Any, case: Case, panel: Panel, scale: TimeScale, last: bool) -> None:
    """Draw one channel's course beside its healthy band; values beyond the band have another colour and are thicker."""
    start, stop = case.window_us
    inside = (case.ticks.last_us >= start) & (case.ticks.first_us <= stop)
    times = scale.place((case.ticks.first_us[inside] + case.ticks.last_us[inside]) // 2)
    values, low, high = (part[inside].astype(float) for part in (panel.values, panel.low, panel.high))
    band, limits = panel.band[inside].T, panel.limits[inside].T
    axis.fill_between(times, *band, color=HEALTHY, alpha=0.22, lw=0)
    for edge in limits:
        axis.plot(times, edge, color=HEALTHY, lw=0.7, ls=(0, (1, 1.5)))
    axis.plot(times, panel.expected[inside], color=HEALTHY, lw=0.7, ls=(0, (4, 2)))
    if case.means_of:
        _single_ticks(axis, case, panel, scale)
    if case.ticks.ticks_each > 1:
        axis.fill_between(times, low, high, color=DATA, alpha=0.25, lw=0)
    axis.plot(times, values, color=DATA, lw=0.8)
    with np.errstate(invalid="ignore"):
        beyond = (values < band[0]) | (values > band[1])
    axis.plot(times, np.where(beyond, values, np.nan), color=BEYOND, lw=1.1, marker=".", ms=1.8)
    at = words.now_index(case)
    until = case.ticks.first_us[inside] <= case.ticks.last_us[at]
    _limits(axis, np.concatenate((values[until], low[until], high[until])), values, band.ravel())
    lines(axis, case, scale)
    now = float(scale.place((case.ticks.first_us[at] + case.ticks.last_us[at]) // 2))
    axis.plot([now], [panel.values[at]], "o", ms=4.5, mfc="white", mec=BEYOND, mew=1.2, zorder=5)
    name = words.named(panel.channel)
    axis.set_title(shortened(name, 48), loc="left", fontsize=8.5, fontweight="bold", pad=3)
    axis.set_title(f"○ {words.state_of(panel, at)}", loc="right", fontsize=7.5, color=BEYOND, pad=3)
    axis.set_ylabel(words.unit_of(panel.channel))
    axis.yaxis.set_label_coords(-0.085, 0.5)
    scale.dress(axis)
    if not last:
        axis.tick_params(labelbottom=False)
        axis.set_xlabel("")
        axis.xaxis.get_offset_text().set_visible(False)


def _single_ticks(axis: Any, case: Case, panel: Panel, scale: TimeScale) -> None:
    """Draw the single ticks faintly behind the means that were made of them."""
    start, stop = case.window_us
    inside = (case.life.last_us >= start) & (case.life.first_us <= stop)
    index = case.subject.channels.index(panel.channel)
    times = scale.place((case.life.first_us[inside] + case.life.last_us[inside]) // 2)
    low, high = case.life.low[inside, index], case.life.high[inside, index]
    if case.life.ticks_each > 1:
        axis.fill_between(times, low, high, color=GREY, alpha=0.18, lw=0, zorder=1)
    else:
        axis.plot(times, low, color=GREY, alpha=0.35, lw=0.4, zorder=1)


def contributions(axis: Any, case: Case) -> None:
    """Draw every channel's share of the deviation, the largest first; small shares are drawn together."""
    seen = [pair for pair in case.contributions if pair[1] >= LEAST_BAR] or case.contributions[:1]
    bars = [(shortened(words.named(each), 22), share) for each, share in seen[:MAX_BARS]]
    if rest := seen[MAX_BARS:]:
        bars.append((f"{len(rest)} others", sum(share for _, share in rest)))
    _bars(axis, bars, [f"{share:.0%}" for _, share in bars], len(case.panels))
    axis.set_title("Contribution by channel", loc="left", fontsize=8.5, fontweight="bold", pad=5)
    axis.set_xlabel("share of the deviation", labelpad=2)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.set_xlim(0, 1.18 * max(0.1, *(share for _, share in bars)))


def votes(axis: Any, case: Case) -> None:
    """Draw every detector's statistic as a ratio to its own calibrated limit."""
    if not case.votes:
        axis.set_axis_off()
        axis.text(0.5, 0.5, "no votes were kept", ha="center", va="center", color=GREY)
        return
    bars = [(shortened(words.voter(name), 27), min(ratio, VOTE_LIMIT)) for name, ratio in case.votes[:MAX_BARS]]
    labels = [f"{ratio:.2g}" if ratio < VOTE_LIMIT else f"≥ {VOTE_LIMIT:g}" for _, ratio in case.votes[:MAX_BARS]]
    _bars(axis, bars, labels, sum(ratio >= 1 for _, ratio in bars))
    axis.axvline(1, color=INK, lw=0.9, ls=(0, (6, 2)))
    axis.set_title("Votes by detector", loc="left", fontsize=8.5, fontweight="bold", pad=5)
    axis.set_xlabel("ratio to its limit (dashed: 1)", labelpad=2)
    axis.set_xlim(0, 1.18 * max(1.3, *(ratio for _, ratio in bars)))


def lines(axis: Any, case: Case, scale: TimeScale, everywhere: bool = False) -> None:
    """Draw lines at the onset (dotted), the detection (solid), and the window's other state changes and fits (thin)."""
    start, stop = case.window_us
    changes = [
        mark.time_us for mark in case.markers if mark.kind is not MarkerKind.FINDING and start <= mark.time_us <= stop
    ]
    if len(changes) <= MAX_CHANGES and not everywhere:
        for time_us in changes:
            axis.axvline(float(scale.place(time_us)), color="#bbbbbb", lw=0.5, zorder=0.5)
    for event_us, style in ((case.onset_us, (0, (1.2, 1.6))), (case.detected_us, "-")):
        if event_us is not None and (everywhere or start <= event_us <= stop):
            axis.axvline(float(scale.place(event_us)), color=INK, lw=1.0, ls=style)


def _bars(axis: Any, bars: Sequence[tuple[str, float]], labels: Sequence[str], strong: int) -> None:
    places, paper = np.arange(len(bars)), {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
    colours = [BEYOND if index < strong else "#b9c7d1" for index in range(len(bars))]
    axis.barh(places, [size for _, size in bars], color=colours, height=0.62)
    for place, (_, size), label in zip(places, bars, labels, strict=True):
        axis.annotate(label, (size, place), (3, 0), textcoords="offset points", va="center", fontsize=7, bbox=paper)
    axis.set_yticks(places, [name for name, _ in bars])
    axis.set_ylim(max(5, len(bars)) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)


def _limits(axis: Any, until: RealArray, values: RealArray, band: RealArray) -> None:
    """Set the axis so that the course until the moment explained, its band and some of the later course have room.

    A course that rises to many times its band gets a logarithmic axis.
    """
    shown, known, later = (each[np.isfinite(each)] for each in (until, band, values))
    if not shown.size:
        return
    bottom, top = float(shown.min()), float(shown.max())
    if later.size:
        more = HEADROOM * (top - bottom)
        bottom, top = max(bottom - more, min(bottom, float(later.min()))), min(top + more, max(top, float(later.max())))
    if known.size:
        bottom, top = min(bottom, float(np.quantile(known, 0.02))), max(top, float(np.quantile(known, 0.98)))
        if bottom > 0 and top > 40 * float(np.median(known)):
            axis.set_yscale("log")
            axis.set_ylim(bottom / 1.3, top * 1.3)
            return
    room = 0.06 * (top - bottom) or 0.05 * abs(top) or 1.0
    axis.set_ylim(bottom - room, top + room)


def shortened(text: str, limit: int) -> str:
    """``text``, with its end left out when it is longer than ``limit`` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"
