"""Signs and rules: how evidence speaks for a failure mode of a component type.

A vital belongs to a family by what it measures. A *sign* is a family that stands out in one direction: vibration that
rises, a flow that falls. A rule names a failure mode, the signs it asks for and how sure they make it. Rules are data
and stand with their component type in ``fleet_core/assets.py``; the device reads them in
``edge_agent/detection/findings/failure_mode.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Direction(StrEnum):
    """Which way a vital moves."""

    RISES = "rises"
    FALLS = "falls"


class Family(StrEnum):
    """What a vital measures. A finding's signature has its places in this order."""

    VIBRATION_LEVEL = "vibration_level"
    VIBRATION_SHAPE = "vibration_shape"
    VIBRATION_SPECTRUM = "vibration_spectrum"
    TEMPERATURE = "temperature"
    CURRENT = "current"
    SPEED = "speed"
    PRESSURE = "pressure"
    FLOW = "flow"
    CAPACITY = "capacity"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Sign:
    """A family of vitals that stands out in one direction."""

    family: Family
    direction: Direction


Signs = tuple[Sign, ...]
"""Alternatives: one of the signs is enough."""


def rises(*families: Family) -> Signs:
    """Any of these families stands out above its healthy level."""
    return tuple(Sign(family, Direction.RISES) for family in families)


def falls(*families: Family) -> Signs:
    """Any of these families stands out below its healthy level."""
    return tuple(Sign(family, Direction.FALLS) for family in families)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Signs that make a rule's mode surer: ``worth`` is added to its confidence when any of them is seen."""

    signs: Signs
    worth: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeRule:
    """One picture of evidence that is typical of a failure mode.

    The rule applies when every group of ``when`` shows at least one of its signs and no sign of ``unless`` is seen. It
    then names its mode with ``confidence`` 0..1 plus the worth of its confirmations. ``because`` is the rule's own
    sentence for people; after it the families of ``reasons`` are named, as far as they stand out. ``corroborated`` is
    added to the confidence when two or more of these families stand out. An ``untyped`` rule applies, at less
    confidence, also when the component's type is unknown: its evidence hardly fits another type.
    """

    mode: str
    confidence: float
    when: tuple[Signs, ...]
    unless: Signs = ()
    confirmed_by: tuple[Confirmation, ...] = ()
    corroborated: float = 0.0
    reasons: tuple[Family, ...]
    because: str = ""
    untyped: bool = False
