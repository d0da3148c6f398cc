"""Which failure mode the evidence speaks for, and why; ``unknown`` when it speaks for none.

Channels are grouped into families by what they measure (``family``), and a family stands for its worst channel in each
direction. The rules of the component's type (``fleet_core/assets.py``) say which failure mode such a picture is typical
of. Every rule that fits is an opinion with reasons; the most confident one wins, of equals the first. A mode the
component's type does not have is never named, except bearing damage when its own line in the envelope is seen: motors,
fans and pumps turn in bearings. No component type is known here by name.

Confidences are plain judgement, ordered by how specific the evidence is (a defect's own line > two families that agree
> one family), not frequencies. Pure; channels of any name or unit are legal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fleet_core.assets import COMPONENT_TYPES, DEFECT_LINE_MODE, UNKNOWN_FAILURE_MODE, rules_for
from fleet_core.failure_rules import Direction, Family, ModeRule, Signs
from fleet_core.quantities import quantity
from fleet_core.telemetry import MetricSpec

NOTABLE = 0.5
"""Of a channel's calibrated limit: from here a deviation counts as evidence."""
FAINT = 0.2
"""When no channel is notable, channels together may still have raised the alarm: then the worst of them, from here
on, and all of half its size count, for ``FAINT_SHARE`` of the confidence."""
FAINT_SHARE = 0.7
UNTYPED_SHARE = 0.7
"""Confidence left when nobody said what the component is."""
MAX_REASONS = 4

LINES = {
    "bpfo": "outer race defect line",
    "bpfi": "inner race defect line",
    "bsf": "rolling element defect line",
    "ftf": "cage defect line",
}
SHAPES = ("kurtosis", "crest", "peak", "impulse")
SPECTRAL = ("centroid", "envelope_peak", "order_", *LINES)

_BEARING = re.compile(r"bearing")
_STRENGTH = re.compile(r"(?:^|_)(?:rms|energy|e\d+_\d+k\d*)(?:_|$)")
"""Strengths of something that is not named: in practice of a vibration, in all or in a band of kilohertz."""
_WORDS = {
    Family.VIBRATION_LEVEL: "vibration", Family.VIBRATION_SHAPE: "impulsiveness",
    Family.VIBRATION_SPECTRUM: "vibration spectrum", Family.OTHER: "another vital",
}  # fmt: skip


class Likely(NamedTuple):
    """A failure mode of ``fleet_core.assets``, how sure 0..1, and what speaks for it."""

    mode: str
    confidence: float
    reasons: tuple[str, ...]


class Picture:
    """Families and lines that stand out: ``up`` and ``down`` map them to their worst deviation in limits."""

    def __init__(self, channels: Sequence[MetricSpec], deviations: Sequence[float], notable: float) -> None:
        self.up: dict[Family, float] = {}
        self.down: dict[Family, float] = {}
        self.lines: dict[str, float] = {}
        for channel, deviation in zip(channels, deviations, strict=True):
            if not abs(deviation) >= notable:
                continue
            side, name = (self.up if deviation > 0 else self.down), family(channel)
            side[name] = max(side.get(name, 0.0), abs(deviation))
            line = _last_word(channel.name)
            if line in LINES and deviation > 0:
                self.lines[line] = max(self.lines.get(line, 0.0), deviation)

    def shows(self, signs: Signs) -> bool:
        """Is any of these signs seen?"""
        return any(sign.family in (self.up if sign.direction is Direction.RISES else self.down) for sign in signs)

    def why(self, *families: Family) -> tuple[str, ...]:
        """The families, as far as they stand out, in words."""
        return tuple(
            f"{_WORDS.get(name, name)} {word} ({side[name]:.1f} times its limit)"
            for name in families
            for side, word in ((self.up, "high"), (self.down, "low"))
            if name in side
        )


def family(metric: MetricSpec) -> Family:
    """What a vital measures, by its name's words and its unit."""
    name = metric.name.lower()
    measured = quantity(name, metric.unit)
    last = _last_word(name)
    if measured in (None, Family.VIBRATION_LEVEL):
        if any(last.endswith(word) for word in SHAPES):
            return Family.VIBRATION_SPECTRUM if last == "envelope_peak" else Family.VIBRATION_SHAPE
        if any(last.startswith(word) for word in (*SPECTRAL, "band_")):
            return Family.VIBRATION_SPECTRUM
    return measured or Family.OTHER


def harms_rising(channels: Sequence[MetricSpec]) -> list[bool]:
    """Which of a component's channels tell how strong or rough the vibration of a bearing is: wear makes them rise.

    What falls there has run in or is asked less. So it is where a bearing is named or shapes of a vibration (kurtosis,
    crest) are among the channels; an accelerometer among a plant's vitals may tell of a flow that fails.
    """
    kinds = [family(each) for each in channels]
    watched = Family.VIBRATION_SHAPE in kinds
    found = []
    for metric, kind in zip(channels, kinds, strict=True):
        name = metric.name.lower()
        strong = kind in (Family.VIBRATION_LEVEL, Family.VIBRATION_SHAPE) or _last_word(name).startswith("band_")
        strong |= kind is Family.OTHER and _STRENGTH.search(name) is not None
        found.append(strong and (watched or _BEARING.search(name) is not None))
    return found


def likely_mode(component_type: str, channels: Sequence[MetricSpec], deviations: ArrayLike) -> Likely:
    """The likeliest failure mode of a component whose channels stand ``deviations`` (channels,) from healthy.

    Deviations are signed and in calibrated limits (1 is the limit); NaN is missing. ``component_type`` is a code of
    ``COMPONENT_TYPES`` or "" when not known: the evidence then has to do alone, at less confidence.
    """
    relative = np.nan_to_num(np.asarray(deviations, dtype=np.float64))
    largest = float(np.abs(relative).max(initial=0.0))
    faint = FAINT <= largest < NOTABLE
    picture = Picture(channels, relative.tolist(), NOTABLE if not faint else largest / 2)
    opinions = [
        *_defect_line(picture),
        *(_opinion(rule, picture) for rule in rules_for(component_type) if _fits(rule, picture)),
    ]
    best = max(opinions, key=lambda each: each.confidence, default=None)
    if best is None:
        standing = picture.why(*dict.fromkeys((*picture.up, *picture.down)))[:MAX_REASONS]
        return Likely(UNKNOWN_FAILURE_MODE, 0.0, standing)
    share = (1.0 if component_type in COMPONENT_TYPES else UNTYPED_SHARE) * (FAINT_SHARE if faint else 1.0)
    return Likely(best.mode, round(min(0.95, best.confidence) * share, 4), best.reasons[:MAX_REASONS])


def _defect_line(picture: Picture) -> Iterator[Likely]:
    """A defect's own frequency in the envelope: the most specific evidence there is."""
    if picture.lines:
        line, height = max(picture.lines.items(), key=lambda each: each[1])
        shaking = Family.VIBRATION_LEVEL in picture.up
        reasons = (
            f"{LINES[line]} {height:.1f} times its limit",
            *picture.why(Family.VIBRATION_LEVEL, Family.VIBRATION_SHAPE),
        )
        yield Likely(DEFECT_LINE_MODE, 0.65 + 0.1 * min(1.0, height) + 0.1 * shaking, reasons)


def _fits(rule: ModeRule, picture: Picture) -> bool:
    return all(picture.shows(signs) for signs in rule.when) and not picture.shows(rule.unless)


def _opinion(rule: ModeRule, picture: Picture) -> Likely:
    reasons = picture.why(*rule.reasons)
    confidence = rule.confidence
    for each in rule.confirmed_by:
        confidence += each.worth * picture.shows(each.signs)
    confidence += rule.corroborated * (len(reasons) > 1)
    return Likely(rule.mode, confidence, (rule.because, *reasons) if rule.because else reasons)


def _last_word(name: str) -> str:
    """The feature of a derived vital (``vibration.bpfo``), else the name itself."""
    return re.split(r"[.\s]", name.lower())[-1]
