"""The explanation in words that a meeting understands: the title, the line below it, the footer. Pure."""

from __future__ import annotations

import math
import re
from typing import Any

from edge_agent.explain.case import HEALTHY_SIGMAS, Case, Channel, Panel, index_at
from fleet_core import __version__
from fleet_core.assets import UNKNOWN_FAILURE_MODE, failure_mode, unit_label
from fleet_core.telemetry import from_us

AS_RECORDED = "as recorded"
SHORT_S = 3 * 3600.0
"""In a course shorter than this, times have seconds."""
DETECTORS = {
    "aakr": "healthy neighbours",
    "autoencoder": "shape",
    "cusum": "accumulated drift",
    "ewma": "slow mean",
    "level": "level now",
    "pca": "joint pattern",
    "spectral": "rhythm",
    "virtual": "virtual sensor",
}
LEGEND = (
    "Green band: expected course ± 3 healthy sigma; dotted green: calibrated limit; orange: beyond the band;"
    " circle: the moment explained; dotted black: onset; solid black: detection; thin grey: state changes and fits."
)
CREEPING = "Seen in means of {ticks} ticks, which show what creeps below the noise of single ticks (grey)."
MAX_REASONS = 2
LIKELY = 0.5
"""From this confidence on a failure mode is called likely, below it possible."""
JOINT = ("aakr", "pca", "virtual")
"""Detectors that judge how the channels move together."""


def spoken(name: str) -> str:
    """A vital's name as words: ``bearing_temperature.rms`` is ``bearing temperature RMS``; camel case is parted."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " ").replace(".", " "))
    words = re.sub(r"band (\d)\b", r"band \1", re.sub(r" +", " ", words).strip())
    return re.sub(r"\brms\b", "RMS", words, flags=re.IGNORECASE)


def named(channel: Channel) -> str:
    """A channel's name as words, without a unit at its end: the axis shows the unit."""
    words = spoken(channel.name)
    units = {"".join(filter(str.isalpha, unit)).lower() for unit in (channel.unit or "", unit_of(channel)) if unit}
    rest, _, last = words.rpartition(" ")
    return rest if rest and last.lower() in units else words


def unit_of(channel: Channel) -> str:
    """A channel's unit for an axis: ``as recorded`` where a recording does not tell it, ``ratio`` for pure numbers."""
    return AS_RECORDED if channel.unit is None else unit_label(channel.unit) or "ratio"


def voter(name: str) -> str:
    """A detector's name for people, followed by its name in the settings."""
    return f"{DETECTORS[name]} ({name})" if name in DETECTORS else spoken(name)


def scale_of(span_s: float) -> tuple[float, str]:
    """The time unit for a course of this length: its seconds and its name."""
    for size_s, unit, least in ((86_400.0, "days", 4.0), (3600.0, "h", 2.0), (60.0, "min", 5.0)):
        if span_s >= least * size_s:
            return size_s, unit
    return 1.0, "s"


def moment(case: Case, time_us: int, dated: bool = True) -> str:
    """A time for people: in UTC, or since the recording's start where the recording has no dates.

    ``dated`` adds the day.
    """
    span_us = int(case.life.last_us[-1]) - int(case.life.first_us[0])
    origin_us = case.subject.origin_us
    if origin_us is not None:
        size_s, unit = scale_of(span_us / 1e6)
        return f"{(time_us - origin_us) / 1e6 / size_s:,.{0 if unit == 's' else 2}f} {unit}"
    when = from_us(int(time_us))
    clock = f"{when:%H:%M:%S}" if span_us < SHORT_S * 1e6 else f"{when:%H:%M}"
    if dated:
        return f"{when.day} {when:%b %Y} {clock}"
    return clock if span_us < 86_400e6 else f"{when.day} {when:%b} {clock}"


def number(value: float, sigma: float = 0.0) -> str:
    """A value rounded to two digits of its sigma where that is a sensible number of digits, else to three digits."""
    if not math.isfinite(value):
        return "unknown"
    if sigma > 0 and math.isfinite(sigma):
        decimals = 1 - math.floor(math.log10(sigma))
        if -3 <= decimals <= 5 and abs(value) < 1e7:
            return f"{value:,.{max(0, decimals)}f}".replace("-", "−")
    return (f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}").replace("-", "−")


def duration(span_us: int) -> str:
    """A length of time in a fitting unit, as in ``35 min`` or ``6.2 h``."""
    size_s, unit = scale_of(span_us / 1e6)
    return f"{span_us / 1e6 / size_s:.{0 if unit == 's' else 1}f} {unit}"


def sentence(case: Case) -> str:
    """The title: which vital left its healthy band, when, how far it went, and what that likely means."""
    panel, finding = case.panels[0], case.finding
    name = named(panel.channel)
    if finding is None and case.learnt is None:
        return f"{case.subject.title}: no finding, what is healthy is still being learnt"
    if finding is None:
        return (
            f"{case.subject.title}: no finding. The evidence was highest, {case.evidence_now:.2f}"
            f" (alarm from {case.settings.alarm:g}), {_when(case, case.now_us)}; {name} deviated most,"
            f" {signed(panel.sigmas)} sigma"
        )
    mode = failure_mode(finding.failure_mode)
    word = "likely" if finding.mode_confidence >= LIKELY else "possibly"
    likely = (
        "failure mode not known"
        if finding.failure_mode == UNKNOWN_FAILURE_MODE
        else f"{word} {mode.label.lower()} (ISO 14224 {mode.iso_mode}, mechanism {mode.iso_mechanism})"
    )
    since = _when(case, case.onset_us or case.now_us)
    return f"{case.subject.title}: {name} {_left(case, panel)} {since}; {signed(panel.worst)} sigma at worst; {likely}"


def _left(case: Case, panel: Panel) -> str:
    if abs(panel.worst) >= HEALTHY_SIGMAS:
        return "rose above its healthy band" if panel.worst > 0 else "fell below its healthy band"
    # The channel is inside its own band and still the worst: its course broke, or how the vitals move together.
    if case.votes and case.votes[0][0] in JOINT and len(case.subject.channels) > 1:
        return "no longer goes with the other vitals"
    return "changed its course within its healthy band"


def _when(case: Case, time_us: int) -> str:
    return (
        f"{moment(case, time_us)} into the recording"
        if case.subject.origin_us is not None
        else (f"on {moment(case, time_us)}")
    )


def signed(sigmas: float) -> str:
    """``+8.4`` or ``−8.4``."""
    return f"{sigmas:+.1f}".replace("-", "−")


def below(case: Case) -> str:
    """The line below the title: how soon after the onset the finding was raised, and how severe it is."""
    finding = case.finding
    if finding is None and case.learnt is None:
        return "Nothing is judged while learning; --learn-ticks, or learn_span_h in the settings, shortens it."
    if finding is None:
        return "Highest evidence since the baseline was learnt; an alarm begins at 1 and must last."
    detected_us = case.detected_us or finding.detected_us
    which = f"{case.which.capitalize()}, detected" if case.which else "Detected"
    seen = f"{which} {_when(case, detected_us)}, {duration(max(0, detected_us - finding.onset_us))} after the onset"
    worst = "then" if case.now_us == detected_us else _when(case, case.now_us)
    confidence = f", failure mode with {finding.mode_confidence:.0%} confidence" if finding.mode_confidence else ""
    creeping = f" {CREEPING.format(ticks=case.means_of)}" if case.means_of else ""
    return (
        f"{seen}. Most severe {worst}: {finding.state.value}, evidence {case.evidence_now:.1f}"
        f" (alarm from {case.settings.alarm:g}), severity {finding.severity:.0%}{confidence}{_why(case)}.{creeping}"
    )


def _why(case: Case) -> str:
    """The finding's strongest reasons for its failure mode."""
    reasons = case.finding.extra.get("mode_reasons", ()) if case.finding else ()
    if not isinstance(reasons, list | tuple) or not reasons:
        return ""
    named = case.finding is not None and case.finding.mode_confidence > 0
    return (": " if named else "; standing out: ") + ", ".join(str(reason)[:120] for reason in reasons[:MAX_REASONS])


def state_of(panel: Panel, now_index: int) -> str:
    """``0.91, healthy 0.30 to 0.34 (+8.4 σ)``: the channel's value at the moment explained beside its band then."""
    low, high = (float(edge) for edge in panel.band[now_index])
    if not math.isfinite(low):
        return f"{signed(panel.sigmas)} σ"
    width = (high - low) / (2 * HEALTHY_SIGMAS)
    value, low_text, high_text = (number(shown, width) for shown in (float(panel.values[now_index]), low, high))
    return f"{value}, healthy {low_text} to {high_text}  ({signed(panel.sigmas)} σ)"


def footer(case: Case) -> str:
    """The footer: what the baseline was learnt from, the rate it is calibrated to, and the software's version."""
    learnt = case.learnt
    base = "Baseline: not learnt yet"
    if learnt is not None:
        what = f"means of {case.means_of} ticks" if case.means_of else "rows"
        rows = f"{learnt.rows:,} {what}" if learnt.rows else f"{what} of unknown number"
        base = f"Baseline learnt from {rows}"
        if learnt.first_us:
            base += f", {moment(case, learnt.first_us)} to {moment(case, learnt.last_us)}"
    rate = f"limits calibrated to {case.settings.false_alarms_per_month:g} false alarms a month"
    digest = f"model {learnt.digest[:12]}" if learnt is not None and learnt.digest else "no model"
    clock = "times count from the recording's start" if case.subject.origin_us is not None else "times are UTC"
    return f"{base}; {rate}; {digest}; forestall {__version__}; {clock}."


def as_json(case: Case) -> dict[str, Any]:
    """The case as one JSON object: plain numbers, times as integer microseconds since ``time_origin_us``."""
    at = now_index(case)
    return {
        "sentence": sentence(case),
        "detail": below(case),
        "subject": case.subject.title,
        "time_origin_us": case.subject.origin_us,
        "finding_id": case.finding.finding_id if case.finding else None,
        "state": case.finding.state.value if case.finding else None,
        "failure_mode": case.finding.failure_mode if case.finding else None,
        "onset_us": case.onset_us,
        "detected_us": case.detected_us,
        "explained_us": case.now_us,
        "evidence": round(case.evidence_now, 4),
        "means_of_ticks": case.means_of,
        "contributions": {channel.name: round(share, 4) for channel, share in case.contributions},
        "votes": {name: round(ratio, 4) for name, ratio in case.votes},
        "channels": [
            {
                "name": panel.channel.name,
                "unit": panel.channel.unit,
                "sigmas": round(panel.sigmas, 3),
                "worst_sigmas": round(panel.worst, 3),
                "value": _finite(panel.values[at]),
                "healthy": [_finite(edge) for edge in panel.band[at]],
                "limits": [_finite(edge) for edge in panel.limits[at]],
            }
            for panel in case.panels
        ],
        "learnt": None
        if case.learnt is None
        else {
            "rows": case.learnt.rows,
            "first_us": case.learnt.first_us,
            "last_us": case.learnt.last_us,
            "model_digest": case.learnt.digest,
            "false_alarms_per_month": case.settings.false_alarms_per_month,
        },
        "version": __version__,
    }


def now_index(case: Case) -> int:
    """The index of the tick at the moment explained."""
    return index_at(case.ticks, case.now_us)


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def told(case: Case) -> list[str]:
    """The whole explanation as lines of text."""
    at = now_index(case)
    lines = [sentence(case), below(case), ""]
    for panel in case.panels:
        unit = unit_of(panel.channel)
        lines.append(f"  {named(panel.channel)} [{unit}]: {state_of(panel, at)}")
    lines.append("contributions: " + ", ".join(f"{named(c)} {share:.0%}" for c, share in case.contributions[:8]))
    lines.append("votes (1 = calibrated limit): " + ", ".join(f"{name} {ratio:.2g}" for name, ratio in case.votes))
    return [*lines, footer(case)]
