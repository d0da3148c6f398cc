"""Which vitals are the regime the others are normalised by: what an asset is asked to do, and the weather. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edge_agent.detection.settings import DetectionSettings
from fleet_core.errors import BadConfig
from fleet_core.telemetry import MetricSpec

MAX_REGIMES = 4
CONTEXT_WORDS = frozenset((
    "load", "speed", "rpm", "setpoint", "target", "command", "demand", "duty", "throttle", "ambient", "outdoor",
    "weather", "requests", "setting", "recipe",
))  # fmt: skip
"""Context is judged as well, but first of all it explains the other channels."""


def is_context(name: str) -> bool:
    """Does a vital's name say that it tells what the asset is asked to do, or the weather it does it in?"""
    return any(word in CONTEXT_WORDS for word in re.split(r"[^a-z]+", name.lower()))


def choose_regimes(candidates: Sequence[MetricSpec], settings: DetectionSettings) -> list[MetricSpec]:
    """The vitals of the whole asset to normalise by, at most ``MAX_REGIMES``. Raises BadConfig."""
    if not settings.regime:
        return list(candidates)[:MAX_REGIMES]
    known = {each.name: each for each in candidates}
    unknown = [name for name in settings.regime if name not in known]
    if unknown:
        raise BadConfig(f"asset.detection.regime: {unknown[0]!r} is not a vital of the whole asset")
    return [known[name] for name in settings.regime][:MAX_REGIMES]
