"""What a plane decided about its baseline, when, and in words for people. Code asks the kind, never the words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DecisionKind(StrEnum):
    """What was decided."""

    LEARNT = "learnt"
    """The learning period ended with a first baseline."""
    REFITTED = "refit"
    """The baseline was fitted again, to more rows."""
    RELEARNT = "relearnt"
    """The asset settled elsewhere soon after learning: another baseline took the first one's place."""
    EXPERIENCE = "experience"
    """Something rose and subsided by itself: its rows are learnt from."""
    WIDENED = "widened"
    """Something new rose and subsided by itself on a grown baseline: the alarm limit was given room."""
    FIXED = "fixed"
    """Something suspicious stands: nothing more is learnt."""
    FAULT = "fault"
    """What rose soon after learning grows: it is a fault, not an asset that settles."""


FITS = frozenset({DecisionKind.LEARNT, DecisionKind.REFITTED, DecisionKind.RELEARNT})
"""Decisions after which another model judges."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision; ``at_us`` is the time of the row it was made at, ``text`` is for people only."""

    kind: DecisionKind
    at_us: int
    text: str
