"""Where the alarm limit is made, for a sudden fault and for a slow drift alike.

Each plane of a component (ticks; means over many ticks, where a slow drift shows) has limits of its own, learnt from
its own healthy life. There are two layers of limits. ``alarm_limit`` multiplies both:

    limit of a statistic    = tail x wander x scarcity x stretches
    limit of the evidence   = tail x median(wander x scarcity), kept within LEAST_EVIDENCE_LIMIT..1,
                              x experience later

* ``tail``: where the tail of healthy rows, judged out of sample, is met at the stated rate of false alarms
  (``healthy/calibrate.py``, ``tail_threshold``); on a plane that sees days, never below ``PlaneTuning.beyond_seen``
  times what healthy rows reached. The rate comes from ``Learner._fit``; the outputs of a detector share it.
* ``wander``: room for a channel that will stray further than it did while learning, over ``settings.horizon`` times the
  learning period and at most ``FARTHEST_US`` (``healthy/fitting.py``, ``healthy/calibrate.py``).
* ``scarcity``: room for a channel that showed few different values (``healthy/calibrate.py``).
  A detector with one statistic over all channels (``aakr``, ``pca``) gets a wander of 1 and the median scarcity;
  ``pca`` takes the wander into its covariance instead.
* ``stretches``: room for a slow statistic that few stretches of the learning period could show (``Detector.room``);
  on a plane that sees days only.
* ``experience``: room for what rose and subsided by itself since then (``EpisodeTracker.room_asked`` in
  ``healthy/experience.py``); it may take the limit of the evidence beyond 1. A later fit makes the limit anew, without
  it.

``healthy/fitting.py`` multiplies when a plane has learnt, ``HealthyModel.widen`` when experience asks for room. The
statistics are divided by their limits, joined to one evidence (``fusion``) and accumulated; the evidence is divided by
its own limit. Evidence 1 is *the calibrated limit*.

An alarm asks for evidence of ``settings.alarm`` (1 by default) that is sustained: ``sustained.py``.
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
