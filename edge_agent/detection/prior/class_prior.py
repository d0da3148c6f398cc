"""A class's prior as data: what its file holds, checked. What is done with it stands in ``prior``; no numpy here."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field

from fleet_core.errors import BadConfig
from fleet_core.plugins import parse_config

FORMAT = "forestall-prior-1"
MAX_COMPONENTS = 32
MAX_PRIOR_CHANNELS = 64


@dataclass(frozen=True, slots=True)
class ChannelPrior:
    """One vital of healthy assets, in its unit; see the module."""

    centre: float
    between: float
    within: float
    low: float
    high: float
    low_limit: float
    high_limit: float
    unit: str = ""

    def __post_init__(self) -> None:
        rising = (self.low_limit, self.low, self.centre, self.high, self.high_limit)
        if not all(map(math.isfinite, (*rising, self.between, self.within))) or min(self.between, self.within) < 0:
            raise BadConfig("numbers must be finite, between and within not below 0")
        if sorted(rising) != list(rising) or not self.low_limit < self.centre < self.high_limit:
            raise BadConfig("low_limit <= low <= centre <= high <= high_limit must hold, and the limits surround it")


@dataclass(frozen=True, slots=True)
class ComponentPrior:
    """What healthy components of one type are like. ``assets``: how many it was made from."""

    assets: int
    exceeds: float
    channels: dict[str, ChannelPrior]

    def __post_init__(self) -> None:
        if not 1 <= len(self.channels) <= MAX_PRIOR_CHANNELS:
            raise BadConfig(f"a component has 1..{MAX_PRIOR_CHANNELS} channels")
        if not 1 <= self.assets <= 1_000_000 or not 0 <= self.exceeds <= 1:
            raise BadConfig("assets must be 1..1000000, exceeds 0..1")

    def digest(self) -> str:
        """SHA-256 (hex) of its content."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ClassPrior:
    """The components of a class of assets, by component type. Empty: nothing is known."""

    format: str = FORMAT
    components: dict[str, ComponentPrior] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format != FORMAT or len(self.components) > MAX_COMPONENTS:
            raise BadConfig(f"format must be {FORMAT!r}, with at most {MAX_COMPONENTS} components")

    def of(self, component_type: str) -> ComponentPrior | None:
        """The prior of a component type; of one nobody named the type of, the only one there is."""
        if not component_type and len(self.components) == 1:
            return next(iter(self.components.values()))
        return self.components.get(component_type)


def prior_from_json(text: str) -> ClassPrior:
    """A prior from its file's text. Raises BadConfig."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        raise BadConfig("not JSON") from None
    return parse_config(ClassPrior, table, "prior")


def prior_to_json(prior: ClassPrior) -> str:
    """A prior as its file's text."""
    return json.dumps(asdict(prior), indent=1, sort_keys=True) + "\n"
