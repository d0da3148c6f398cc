"""Which failure mode the evidence speaks for, and why; ``unknown`` when it speaks for none.

Channels are grouped into families by what they measure (``family``), a family stands for its worst channel in each
direction, and a table of rules names the modes of ISO 14224 (``fleet_core.assets``) that such a picture is typical of.
Directions count: a flow, pressure, capacity or speed that falls is evidence as a vibration that rises is. Every rule
that fits is an opinion with reasons; the most confident one wins. A mode the component's type does not have is never
named, except bearing damage when its own line in the envelope is seen: motors, fans and pumps turn in bearings.

Confidences are plain judgement, ordered by how specific the evidence is (a defect's own line > two families that agree
> one family), not frequencies. Pure; channels of any name or unit are legal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fleet_core.assets import COMPONENT_TYPES, UNKNOWN_FAILURE_MODE, failure_mode
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

_QUANTITIES = (
    (re.compile(r"vibrat|accel|velocity_rms"), "vibration_level"),
    (re.compile(r"temp|thermo|heat"), "temperature"),
    (re.compile(r"current(?!_pending)|voltage|power(?!_on|_cycle)|torque"), "current"),  # SMART counters are not
    (re.compile(r"rpm|speed|rotation"), "speed"),
    (re.compile(r"pressure"), "pressure"),
    (re.compile(r"flow(?!ed)"), "flow"),
    (re.compile(r"capacity|charge"), "capacity"),
    (re.compile(r"bearing"), "vibration_level"),  # what a bearing's vital says when nothing else is said
)
_BY_UNIT = {
    "[g]": "vibration_level", "m/s2": "vibration_level", "mm/s": "vibration_level", "Cel": "temperature",
    "A": "current", "V": "current", "W": "current", "/min": "speed", "bar": "pressure", "L/min": "flow",
    "A.h": "capacity",
}  # fmt: skip
_STRENGTH = re.compile(r"(?:^|_)(?:rms|energy|e\d+_\d+k\d*)(?:_|$)")
"""Strengths of something that is not named: in practice of a vibration, in all or in a band of kilohertz."""
_WORDS = {
    "vibration_level": "vibration", "vibration_shape": "impulsiveness", "vibration_spectrum": "vibration spectrum",
    "other": "another vital",
}  # fmt: skip


class Likely(NamedTuple):
    """A failure mode of ``fleet_core.assets``, how sure 0..1, and what speaks for it."""

    mode: str
    confidence: float
    reasons: tuple[str, ...]


class Picture:
    """Families and lines that stand out: ``up`` and ``down`` map them to their worst deviation in limits."""

    def __init__(self, channels: Sequence[MetricSpec], deviations: Sequence[float], notable: float) -> None:
        self.up: dict[str, float] = {}
        self.down: dict[str, float] = {}
        self.lines: dict[str, float] = {}
        for channel, deviation in zip(channels, deviations, strict=True):
            if not abs(deviation) >= notable:
                continue
            side, name = (self.up if deviation > 0 else self.down), family(channel)
            side[name] = max(side.get(name, 0.0), abs(deviation))
            line = _last_word(channel.name)
            if line in LINES and deviation > 0:
                self.lines[line] = max(self.lines.get(line, 0.0), deviation)

    def vibrating(self) -> bool:
        return "vibration_level" in self.up

    def why(self, *names: str) -> tuple[str, ...]:
        """The named families, as far as they stand out, in words."""
        return tuple(
            f"{_WORDS.get(name, name)} {word} ({side[name]:.1f} times its limit)"
            for name in names
            for side, word in ((self.up, "high"), (self.down, "low"))
            if name in side
        )


Rule = Callable[[Picture, str], Iterator[Likely]]


def family(metric: MetricSpec) -> str:
    """What a vital measures, by its name's words and its unit: one of ``evidence.FAMILIES``."""
    name = metric.name.lower()
    quantity = next((found for words, found in _QUANTITIES if words.search(name)), "")
    quantity = _BY_UNIT.get(metric.unit) or quantity
    last = _last_word(name)
    if quantity in ("", "vibration_level"):
        if any(last.endswith(word) for word in SHAPES):
            return "vibration_spectrum" if last == "envelope_peak" else "vibration_shape"
        if any(last.startswith(word) for word in (*SPECTRAL, "band_")):
            return "vibration_spectrum"
    return quantity or "other"


def harms_rising(channels: Sequence[MetricSpec]) -> list[bool]:
    """Which of a component's channels tell how strong or rough the vibration of a bearing is: wear makes them rise.

    What falls there has run in or is asked less. So it is where a bearing is named or shapes of a vibration (kurtosis,
    crest) are among the channels; an accelerometer among a plant's vitals may tell of a flow that fails.
    """
    kinds = [family(each) for each in channels]
    watched = "vibration_shape" in kinds
    found = []
    for metric, kind in zip(channels, kinds, strict=True):
        name = metric.name.lower()
        strong = kind in ("vibration_level", "vibration_shape") or _last_word(name).startswith("band_")
        strong |= kind == "other" and _STRENGTH.search(name) is not None
        found.append(strong and (watched or "bearing" in name))
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
    kind = COMPONENT_TYPES.get(component_type)
    possible = kind.failure_modes if kind is not None else ()
    opinions = [
        opinion
        for rule in RULES
        for opinion in rule(picture, component_type)
        if kind is None or opinion.mode in possible or (opinion.mode == "bearing_spalling" and picture.lines)
    ]
    best = max(opinions, key=lambda each: each.confidence, default=None)
    if best is None:
        standing = picture.why(*dict.fromkeys((*picture.up, *picture.down)))[:MAX_REASONS]
        return Likely(UNKNOWN_FAILURE_MODE, 0.0, standing)
    share = (1.0 if kind is not None else UNTYPED_SHARE) * (FAINT_SHARE if faint else 1.0)
    return Likely(best.mode, round(min(0.95, best.confidence) * share, 4), best.reasons[:MAX_REASONS])


def _bearing_line(picture: Picture, component_type: str) -> Iterator[Likely]:
    """A defect's own frequency in the envelope: the most specific evidence there is."""
    if picture.lines:
        line, height = max(picture.lines.items(), key=lambda each: each[1])
        reasons = (f"{LINES[line]} {height:.1f} times its limit", *picture.why("vibration_level", "vibration_shape"))
        yield Likely("bearing_spalling", 0.65 + 0.1 * min(1.0, height) + 0.1 * picture.vibrating(), reasons)


def _bearing_wear(picture: Picture, component_type: str) -> Iterator[Likely]:
    if component_type not in ("bearing", ""):
        return
    impulsive, hot = "vibration_shape" in picture.up, "temperature" in picture.up
    altered = "vibration_spectrum" in picture.up or "vibration_spectrum" in picture.down
    reasons = picture.why("vibration_level", "vibration_shape", "temperature", "vibration_spectrum")
    if picture.vibrating() or impulsive:
        yield Likely("bearing_seizure", 0.5 + 0.15 * impulsive + 0.2 * hot, reasons)
    elif altered:
        yield Likely("bearing_seizure", 0.4, reasons)


def _overheating(picture: Picture, component_type: str) -> Iterator[Likely]:
    """Hot without shaking; a current that is high as well says where the heat comes from."""
    if "temperature" not in picture.up or picture.vibrating():
        return
    kind = COMPONENT_TYPES.get(component_type)
    reasons = picture.why("temperature", "current", "speed")
    for mode in kind.failure_modes if kind is not None else ():
        if failure_mode(mode).iso_mode == "OHE":
            yield Likely(mode, 0.7 + 0.1 * ("current" in picture.up) + 0.1 * ("speed" in picture.down), reasons)


def _fan(picture: Picture, component_type: str) -> Iterator[Likely]:
    if component_type != "fan":
        return
    slow, reasons = "speed" in picture.down, picture.why("speed", "vibration_level", "temperature", "current")
    if slow or picture.vibrating():
        yield Likely("fan_degradation", 0.6 + 0.15 * (slow and len(reasons) > 1) + 0.1 * slow, reasons)
    elif "temperature" in picture.up or "current" in picture.up or "speed" in picture.up:
        yield Likely("fan_degradation", 0.4, reasons)


def _disk(picture: Picture, component_type: str) -> Iterator[Likely]:
    if component_type == "disk" and ("other" in picture.up or "other" in picture.down):
        yield Likely("disk_failure", 0.6, ("its own error counters moved", *picture.why("temperature")))


def _battery(picture: Picture, component_type: str) -> Iterator[Likely]:
    faded = "capacity" in picture.down
    reasons = picture.why("capacity", "current", "temperature")
    if faded and component_type in ("battery", ""):
        yield Likely("battery_fade", 0.75 + 0.1 * (len(reasons) > 1), reasons)
    elif component_type == "battery" and ("current" in picture.down or "temperature" in picture.up):
        yield Likely("battery_fade", 0.5, reasons)


def _pump(picture: Picture, component_type: str) -> Iterator[Likely]:
    """Too little flow, and what goes with it: shaking is cavitation, effort a blockage, neither a leak."""
    if component_type not in ("pump", ""):
        return
    low_flow, low_pressure = "flow" in picture.down, "pressure" in picture.down
    effort = "current" in picture.up or "pressure" in picture.up
    rough = picture.vibrating() or "vibration_shape" in picture.up or "vibration_spectrum" in picture.up
    reasons = picture.why("flow", "pressure", "vibration_level", "vibration_shape", "current")
    if low_flow and effort:
        yield Likely("pump_blockage", 0.75, reasons)
    elif (low_flow or low_pressure) and rough:
        yield Likely("pump_cavitation", 0.75, reasons)
    elif low_pressure and not effort:
        yield Likely("pump_leakage", 0.45 + 0.15 * ("flow" in picture.up or low_flow), reasons)
    elif low_flow:
        yield Likely("pump_blockage", 0.4, reasons)
    elif rough and component_type == "pump":
        yield Likely("pump_cavitation", 0.45, reasons)


RULES: tuple[Rule, ...] = (_bearing_line, _bearing_wear, _overheating, _fan, _disk, _battery, _pump)


def _last_word(name: str) -> str:
    """The feature of a derived vital (``vibration.bpfo``), else the name itself."""
    return re.split(r"[.\s]", name.lower())[-1]
