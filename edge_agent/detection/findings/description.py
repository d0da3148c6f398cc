"""What all findings say alike, whoever raised them: a level in words, the vital that follows best, bounds."""

from __future__ import annotations

import math
import uuid
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection.restored import text
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.subject import Subject
from fleet_core.assets import COMPONENT_TYPES, unit_label

FINDING_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:forestall:finding")
MAX_EVIDENCE_CHANNELS = 16
MAX_REASON = 120
MAX_REVISION = 1_000_000
"""A server takes none beyond it."""


def in_words(name: str, ucum: str, now: float, healthy: float, sigma: float) -> str:
    """``vibration kurtosis 4.97, healthy 3.65 ± 0.23``: rounded to two digits of one sigma, the unit as on a page."""
    decimals = min(9, max(0, 1 - math.floor(math.log10(sigma)))) if sigma > 0 and math.isfinite(sigma) else 2
    unit = f" {label}" if (label := unit_label(ucum)) else ""
    words = name.replace(".", " ").replace("_", " ")
    return f"{words} {now:.{decimals}f}{unit}, healthy {healthy:.{decimals}f} ± {sigma:.{decimals}f}{unit}"


def known_id(value: Any) -> str:
    """A finding's id as a snapshot keeps it, "" where there is none. Raises ValueError, TypeError for anything else."""
    identity = text(value)
    if identity and str(uuid.UUID(identity)) != identity:
        raise ValueError("not the id of a finding")
    return identity


def indicator_index(subject: Subject, blame: FloatArray, settings: DetectionSettings) -> int:
    """The channel that best follows the degradation: configured, else by the component's type, else the worst."""
    names = [channel.name for channel in subject.channels]
    configured = settings.indicator.get(subject.slot)
    if configured in names:
        return names.index(configured)
    kind = COMPONENT_TYPES.get(subject.type)
    if kind is not None:
        fitting = [i for i, each in enumerate(subject.channels) if each.unit == kind.indicator_unit]
        named = [i for i in fitting if kind.indicator in names[i].lower()]
        if best := sorted(named or fitting, key=lambda i: ("rms" not in names[i].lower(), i)):
            return best[0]
    return int(np.argmax(blame))
