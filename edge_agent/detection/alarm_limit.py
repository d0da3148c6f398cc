"""Where the alarm limit is made, for a sudden fault and for a slow drift alike.

Each plane of a component (ticks; means over many ticks, where a slow drift shows) has limits of its own, learnt from
its own healthy life. There are two layers of them, and both are this product:

    limit = tail x wander x scarcity x stretches x experience

* ``tail``: where the tail of healthy rows, judged out of sample, is met at the stated rate of false alarms
  (``calibrate.tail_threshold``); on a plane that sees days, never below ``beyond_seen`` times what they reached.
* ``wander``: room for a channel that strays further in months than it did while learning (``calibrate.wander``).
* ``scarcity``: room for a channel that showed few different values (``calibrate.scarcity``).
* ``stretches``: room for a slow statistic that few stretches of the learning period could show (``Detector.room``);
  on a plane that sees days only.
* ``experience``: room for what rose and subsided by itself since then (``EpisodeTracker.room_asked``).

The first layer holds the limits of every detector's statistics; they are divided by them, joined to one evidence
(``fusion``) and accumulated. The second layer is the limit of that evidence, between ``LEAST_EVIDENCE_LIMIT`` and 1
when it is learnt; evidence is divided by it. What is then at 1 is at *the calibrated limit*.

An alarm asks for evidence of ``settings.alarm`` (1 by default), believed (``Plane``) and sustained for
``raise_ticks`` ticks (``StateTracker``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import numpy as np

from edge_agent.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class Threshold:
    """``typical`` is the healthy median of each statistic, ``limit`` where it is met at the stated rate."""

    typical: FloatArray
    limit: FloatArray

    def ratio(self, statistics: FloatArray) -> FloatArray:
        """0 at the healthy median or below, 1 at the limit, linear beyond."""
        return np.maximum(0.0, (statistics - self.typical) / (self.limit - self.typical))


@overload
def alarm_limit(
    tail: float,
    wander: FloatArray | float = ...,
    scarcity: FloatArray | float = ...,
    *,
    experience: float = ...,
) -> float: ...
@overload
def alarm_limit(
    tail: FloatArray,
    wander: FloatArray | float = ...,
    scarcity: FloatArray | float = ...,
    stretches: FloatArray | float = ...,
    experience: float = ...,
) -> FloatArray: ...
def alarm_limit(
    tail: FloatArray | float,
    wander: FloatArray | float = 1.0,
    scarcity: FloatArray | float = 1.0,
    stretches: FloatArray | float = 1.0,
    experience: float = 1.0,
) -> FloatArray | float:
    """The limit of statistics (outputs,), or of the evidence, from the factors above.

    ``wander``, ``scarcity`` and ``stretches`` are (outputs,) or a number, all at least 1. The evidence (a single
    ``tail``) has no channel of its own: it is given the room of the middle one of the channels.
    """
    room = wander * scarcity
    if isinstance(tail, float):
        return tail * float(np.median(room)) * experience
    return tail * (room * stretches) * experience
