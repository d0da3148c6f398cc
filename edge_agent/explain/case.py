"""The case to be explained, put together from a component's trace: all that the sentence and the picture need. Pure.

The moment explained is that of the finding's most severe revision; without a finding it is the moment of the highest
evidence since the baseline was learnt. The healthy band of a channel is its expected course plus and minus
``HEALTHY_SIGMAS`` healthy sigmas; its calibrated limit stands around the band. The trace itself tells how many units
one sigma is, and whether a deviation of the channel adds to the expected course or multiplies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.arrays import RealArray
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.trace.memory import Trace
from edge_agent.detection.trace.records import LearntFrom, Marker, Shot, Ticks, ToldFinding
from fleet_core.errors import BadInput
from fleet_core.telemetry import Finding

MAX_PANELS = 4
MAX_PANELS_BESIDE_WAVEFORMS = 3
LEAST_PANELS, LEAST_SHARE = 2, 0.04
"""From the third on, a channel below this share of the deviation gets no panel of its own."""
HEALTHY_SIGMAS = 3.0
DEFAULT_LIMIT = 4.0
NOW_TICKS = 5
ZOOM_BELOW = 1 / 12
"""The channels are drawn over a part of the life when onset to now is a smaller share of the life than this."""
MIN_BAND_TICKS = 8


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel's name and UCUM unit. The unit is None where a recording does not tell it."""

    name: str
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of the picture. Times are given since ``origin_us``, or in UTC when it is None."""

    title: str
    channels: tuple[Channel, ...]
    origin_us: int | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One channel's course ``values`` (n,), its healthy ``band`` and its calibrated ``limits`` (n, 2: low and high).

    Unknown values are NaN. ``sigmas`` is the channel's deviation at the moment explained, ``worst`` the largest since
    the onset, both in healthy sigmas.
    """

    channel: Channel
    values: RealArray
    low: RealArray
    high: RealArray
    expected: RealArray
    band: RealArray
    limits: RealArray
    sigmas: float
    worst: float


@dataclass(frozen=True, slots=True)
class Pair:
    """A waveform vital's healthy burst and a later one; either may be missing. ``word`` describes the later burst."""

    metric: str
    healthy: Shot | None
    now: Shot | None
    word: str = "at its worst"


@dataclass(frozen=True, slots=True)
class Case:
    """All that the explanation says. Shares are 0..1, votes are ratios to the detector's calibrated limit, times in us.

    The panels show ``ticks``: single ticks, or means of ``means_of`` ticks where the slow plane, which sees slow
    drifts, led to the finding. ``life`` is the whole life in single ticks, ``slow`` the same life in the slow plane's
    means. The channels are drawn over ``window_us``. ``which`` says which finding of how many this is.
    """

    subject: Subject
    settings: DetectionSettings
    ticks: Ticks
    life: Ticks
    slow: Ticks
    means_of: int
    panels: tuple[Panel, ...]
    contributions: tuple[tuple[Channel, float], ...]
    votes: tuple[tuple[str, float], ...]
    evidence_now: float
    now_us: int
    onset_us: int | None
    detected_us: int | None
    finding: Finding | None
    markers: tuple[Marker, ...]
    learnt: LearntFrom | None
    waveforms: Pair | None
    window_us: tuple[int, int]
    which: str = ""

    @property
    def zoomed(self) -> bool:
        """Are the channels drawn over a part of the life only?"""
        return self.window_us != (int(self.life.first_us[0]), int(self.life.last_us[-1]))


def put_together(
    subject: Subject,
    trace: Trace,
    told: ToldFinding | None,
    settings: DetectionSettings,
    waveforms: Sequence[Pair] = (),
    which: str = "",
    means: Trace | None = None,
) -> Case:
    """The case of one component. ``told`` is the finding to explain, or None; ``means`` is the slow plane's trace.

    Raises BadInput when detection judged no tick at all.
    """
    life = joined(trace)
    if not len(life):
        raise BadInput("trace", f"{subject.title}: nothing was judged yet")
    finding = told.finding if told else None
    seen = means if means is not None and _creeping(trace, told, means) else trace
    ticks = joined(seen)
    now_us = finding.detected_us if finding else seen.peak.time_us if seen.peak else int(ticks.last_us[-1])
    at, life_at = index_at(ticks, now_us), index_at(life, now_us)
    deviation = _now(ticks.deviation[: at + 1])
    limits = np.full(len(subject.channels), DEFAULT_LIMIT) if seen.learnt is None else seen.learnt.limits
    contributions = _contributions(subject, finding, deviation / np.maximum(limits, 1e-9))
    room = MAX_PANELS_BESIDE_WAVEFORMS if waveforms else MAX_PANELS
    shown = [
        channel
        for place, (channel, share) in enumerate(contributions[:room])
        if place < LEAST_PANELS or share >= LEAST_SHARE
    ]
    since = int(np.searchsorted(ticks.last_us, told.finding.onset_us)) if told else at
    worst = _worst(ticks.deviation[min(since, at) : at + 1], deviation)
    votes = _votes(seen, finding)
    onset_us = finding.onset_us if finding else None
    detected_us = told.detected_us if told else None
    pairs = sorted(waveforms, key=lambda pair: -_share_of(pair.metric, contributions))
    return Case(
        subject=subject,
        settings=settings,
        ticks=ticks,
        life=life,
        slow=joined(means) if means is not None else life,
        means_of=settings.slow_ticks if seen is not trace else 0,
        panels=tuple(
            _panel(channel, ticks, i, float(limits[i]), float(deviation[i]), float(worst[i]))
            for channel in shown
            for i in (subject.channels.index(channel),)
        ),
        contributions=contributions,
        votes=votes,
        evidence_now=float(max(life.peak[life_at], ticks.peak[at])),
        now_us=now_us,
        onset_us=onset_us,
        detected_us=detected_us,
        finding=finding,
        markers=tuple(trace.markers),
        learnt=seen.learnt,
        waveforms=pairs[0] if pairs else None,
        window_us=_window(life, onset_us, now_us),
        which=which,
    )


def index_at(ticks: Ticks, time_us: int) -> int:
    """The index of the tick at ``time_us``."""
    return max(0, int(np.searchsorted(ticks.first_us, time_us, side="right")) - 1)


def _creeping(trace: Trace, told: ToldFinding | None, means: Trace) -> bool:
    """Did the slow plane lead to the finding?"""
    if means.learnt is None or not len(means.recent()):
        return False
    if told is not None:
        return told.slow
    return means.peak is not None and (trace.peak is None or means.peak.evidence >= 0.999 * trace.peak.evidence)


def joined(trace: Trace) -> Ticks:
    """The whole life in one course: older ticks as spans, the newest tick by tick."""
    whole, recent = trace.whole(), trace.recent()
    if not len(recent) or whole.ticks_each == 1:
        return whole
    older = whole.last_us < recent.first_us[0]
    names = [name for name in Ticks.__slots__ if name != "ticks_each"]
    courses = [np.concatenate((getattr(whole, name)[older], getattr(recent, name))) for name in names]
    return Ticks(whole.ticks_each, *courses)


def band(ticks: Ticks, channel: int, sigmas: float) -> RealArray:
    """A channel's expected course minus and plus ``sigmas`` healthy sigmas (n, 2), in the channel's unit.

    NaN when the trace holds too few ticks to tell the size of a sigma.
    """
    value, expected, deviation = (getattr(ticks, name)[:, channel] for name in ("values", "expected", "deviation"))
    value, expected = value.astype(np.float64), expected.astype(np.float64)
    usable = np.isfinite(value) & np.isfinite(expected) & (np.abs(deviation) > 0.3) & (np.abs(deviation) < 100)
    if usable.sum() < MIN_BAND_TICKS:
        return np.full((len(ticks), 2), np.nan)
    added = (value[usable] - expected[usable]) / deviation[usable]
    positive = usable & (value > 0) & (expected > 0)
    multiplied = np.log(value[positive] / expected[positive]) / deviation[positive]
    if positive.sum() >= MIN_BAND_TICKS and _unsteadiness(multiplied) < 0.8 * _unsteadiness(added):
        factor = np.exp(min(50.0, sigmas * abs(float(np.median(multiplied)))))
        return np.column_stack((expected / factor, expected * factor))
    width = sigmas * abs(float(np.median(added)))
    return np.column_stack((expected - width, expected + width))


def _unsteadiness(values: RealArray) -> float:
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    return float((high - low) / max(abs(middle), 1e-12))


def _panel(channel: Channel, ticks: Ticks, index: int, limit: float, sigmas: float, worst: float) -> Panel:
    return Panel(
        channel=channel,
        values=ticks.values[:, index],
        low=ticks.low[:, index],
        high=ticks.high[:, index],
        expected=ticks.expected[:, index],
        band=band(ticks, index, min(limit, HEALTHY_SIGMAS)),
        limits=band(ticks, index, limit),
        sigmas=sigmas,
        worst=worst,
    )


def _now(deviation: RealArray) -> RealArray:
    """For every channel the median of its newest known deviations (channels,), in sigmas; 0 where none is known."""
    result = np.zeros(deviation.shape[1])
    for index, column in enumerate(deviation[-8 * NOW_TICKS :].T):
        known = column[np.isfinite(column)][-NOW_TICKS:]
        result[index] = float(np.median(known)) if known.size else 0.0
    return result


def _worst(deviation: RealArray, now: RealArray) -> RealArray:
    """For every channel its largest deviation (channels,), in sigmas; a median of three leaves out one wild tick."""
    known = np.where(np.isfinite(deviation), deviation, 0.0)
    if len(known) < 3:
        return now
    calm = np.median(np.stack((known[:-2], known[1:-1], known[2:])), axis=0)
    furthest = np.take_along_axis(calm, np.abs(calm).argmax(axis=0)[None], axis=0)[0]
    return np.where(np.abs(furthest) > np.abs(now), furthest, now)


def _contributions(subject: Subject, finding: Finding | None, relative: RealArray) -> tuple[tuple[Channel, float], ...]:
    """Channels and their shares of the deviation, the largest first: the finding's, else by the size of deviations."""
    if finding is not None:
        by_name = {channel.name: channel for channel in subject.channels}
        return tuple(
            (by_name[channel.metric], channel.contribution) for channel in finding.channels if channel.metric in by_name
        ) or ((subject.channels[0], 0.0),)
    sizes = relative * relative
    total = float(sizes.sum()) or 1.0
    order = np.argsort(-sizes, kind="stable")
    return tuple((subject.channels[i], float(sizes[i]) / total) for i in order)


def _votes(trace: Trace, finding: Finding | None) -> tuple[tuple[str, float], ...]:
    if finding is not None:
        votes = dict(finding.detectors)
    else:
        ratios = trace.peak.votes if trace.peak is not None else trace.newest_votes()
        votes = {name: float(ratio) for name, ratio in zip(trace.detectors, ratios, strict=True)}
    return tuple(sorted(votes.items(), key=lambda vote: -vote[1]))


def _share_of(metric: str, contributions: Sequence[tuple[Channel, float]]) -> float:
    return sum(share for channel, share in contributions if channel.name.startswith(f"{metric}."))


def _window(ticks: Ticks, onset_us: int | None, now_us: int) -> tuple[int, int]:
    first, last = int(ticks.first_us[0]), int(ticks.last_us[-1])
    start = onset_us if onset_us is not None else now_us
    tick_us = max(1, (last - first) // max(1, len(ticks)))
    length = max(now_us - start, 8 * tick_us)
    if length >= ZOOM_BELOW * (last - first):
        return first, last
    return max(first, start - 6 * length), min(last, now_us + 3 * length)
