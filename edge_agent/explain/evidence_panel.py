"""The picture's course of evidence: the levels, the evidence that raised no alarm, and the baseline's decisions."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_agent.detection.trace.records import STATES, MarkerKind
from edge_agent.explain import panels
from edge_agent.explain.case import Case
from fleet_core.telemetry import DetectionState

LEVEL_COLOURS = {"watch": "#b8a800", "alarm": "#D07E00", "critical": "#a8325a"}
WORDS = {
    MarkerKind.LEARNT: "learnt",
    MarkerKind.RELEARNT: "learnt anew",
    MarkerKind.EXPERIENCE: "experience",
    MarkerKind.FAULT: "a fault",
}
"""The word written at a marker of this kind; other markers have none."""


def evidence(axis: Any, case: Case, scale: panels.TimeScale) -> None:
    """Draw the evidence over the whole life, the levels, and below every level the zone where its state is kept."""
    ticks, settings = case.life, case.settings
    times = scale.place((ticks.first_us + ticks.last_us) // 2)
    top = max(1.6 * settings.alarm, 1.25 * float(np.nanmax(ticks.peak, initial=0.0)))
    axis.set_yscale("symlog", linthresh=settings.alarm, linscale=1.1)
    for name, level in (("watch", settings.watch), ("alarm", settings.alarm), ("critical", settings.critical)):
        if level > top:
            continue
        colour = LEVEL_COLOURS[name]
        axis.axhspan(level * settings.release, level, color=colour, alpha=0.1, lw=0)
        axis.axhline(level, color=colour, lw=0.9, ls=(0, (6, 2)))
        axis.annotate(
            f"{name} {level:g}",
            (1, level),
            (3, 0),
            xycoords=axis.get_yaxis_transform(),
            textcoords="offset points",
            va="center",
            fontsize=6.8,
            color=colour,
            fontweight="bold",
            annotation_clip=False,
        )
    if ticks.ticks_each > 1:
        axis.fill_between(times, ticks.evidence, ticks.peak, color=panels.INK, alpha=0.2, lw=0)
    # Evidence beyond the alarm level that raised no alarm: it is on trial, or has not lasted long enough.
    held = (ticks.evidence >= settings.alarm) & (ticks.states < STATES.index(DetectionState.DEGRADING))
    axis.plot(times, np.where(held, np.nan, ticks.evidence), color=panels.INK, lw=0.9)
    axis.plot(times, np.where(held, ticks.evidence, np.nan), color=panels.INK, lw=1.1, ls=(0, (1, 1)))
    if case.means_of:
        slow_times = scale.place(case.slow.last_us)
        axis.plot(slow_times, case.slow.evidence, color=panels.DATA, lw=1.0, drawstyle="steps-post")
    low, high = float(scale.place(ticks.first_us[0])), float(scale.place(ticks.last_us[-1]))
    axis.set_xlim(low, high if high > low else low + 1)
    axis.set_ylim(0, top)
    marks = [mark for mark in ((0, 0.5, 1, 4, 16) if case.waveforms else (0, 0.5, 1, 2, 4, 8, 16)) if mark <= top]
    axis.set_yticks(marks, [f"{mark:g}" for mark in marks])
    axis.minorticks_off()
    if case.zoomed:
        axis.axvspan(*(float(scale.place(time_us)) for time_us in case.window_us), color=panels.DATA, alpha=0.12, lw=0)
    panels.lines(axis, case, scale, everywhere=True)
    _decisions(axis, case, scale)
    drawn = "; blue zone: the part drawn above" if case.zoomed else ""
    drawn += "; blue: the slow plane's" if case.means_of else ""
    axis.set_title("Evidence", loc="left", fontsize=8.5, fontweight="bold", pad=3)
    axis.set_title(
        f"1 = calibrated limit; a state is left again below its shaded zone; dotted: not yet believed{drawn}",
        loc="right",
        fontsize=6.8,
        color=panels.GREY,
        pad=3,
    )
    axis.set_ylabel("ratio to limit")
    axis.yaxis.set_label_coords(-0.085, 0.5)
    scale.dress(axis)


def _decisions(axis: Any, case: Case, scale: panels.TimeScale) -> None:
    """Mark where the baseline was learnt anew or an episode was taken as experience, with a word if there is room."""
    low, high = axis.get_xlim()
    free = low
    taken = [float(scale.place(time_us)) for time_us in (case.onset_us, case.detected_us) if time_us is not None]
    for mark in case.markers:
        word = WORDS.get(mark.kind, "")
        place = float(scale.place(mark.time_us))
        if not word or not low <= place <= high:
            continue
        axis.axvline(place, color=panels.GREY, lw=0.7, ls=(0, (3, 2)), zorder=0.6)
        end = place + panels.LETTER * len(word) * (high - low)
        if place < free or end > high or any(place <= line <= end for line in taken):
            continue
        axis.annotate(
            word,
            (place, 1),
            (2, -2),
            xycoords=axis.get_xaxis_transform(),
            textcoords="offset points",
            va="top",
            fontsize=6.3,
            color=panels.GREY,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8},
        )
        free = end
