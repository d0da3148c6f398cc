"""What makes evidence sustained, so that a finding is raised.

Evidence must pass two waits before the component's state rises to *degrading*. How long each of them lasts is decided
here; whether a plane is young, in an episode that was found to be a fault, or on trial is decided in
``judging/plane.py``.

1. **Believed** (``believed``, applied by ``judging/plane.py`` on each plane). Evidence above the alarm level counts for
   less than the level as long as

   * a step soon after learning is on trial (``healthy/probation.py``),
   * the plane is young and the evidence belongs to an episode: then only evidence ``PlaneTuning.far_beyond`` times the
     alarm level counts, or an episode that was found to be a fault (``Plane._weigh``; never before ``PATIENCE_US``,
     and only while the learner still keeps rows),
   * it has not stood for ``PlaneTuning.stand_h`` hours: all of these hours at the alarm level, none from
     ``CLEARLY_BEYOND`` times the level on, in proportion between. Slow plane: 16 hours. Fast plane: none.

2. **Ticks in a row** (``raise_ticks``, counted by ``judging/states.py``). Believed evidence must stay above the next
   state's level for ``raise_ticks`` ticks: as many as healthy evidence stays correlated with itself, not fewer than
   ``settings.raise_ticks``, not more than ``MOST_PERSISTENCE`` times that; where the component learns days, at least
   ``LEAST_ALARM_US``. The fast plane's number holds for evidence of both planes, since states are counted in ticks.

Known limit: the first episode of a young plane that is found to be a fault fixes the baseline, and the learner keeps no
rows from then on (nor after its last fit). A later episode is not weighed any more: its evidence below ``far_beyond``
times the alarm level is held until the plane is no longer young.
"""

from __future__ import annotations

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.tuning import CLEARLY_BEYOND, HELD_BELOW, LEAST_ALARM_US, MOST_PERSISTENCE, US_PER_HOUR


def believed(
    course: FloatArray,
    times_us: IntArray,
    below_alarm_us: int,
    alarm: float,
    *,
    on_trial: bool,
    far_beyond: float | None,
    stand_h: float,
) -> tuple[FloatArray, int]:
    """The evidence (n,) that may raise an alarm, and the time of the newest row below the alarm level.

    ``course``: evidence (n,) at ``times_us`` (n,). ``below_alarm_us``: the newest row before these that was below the
    level. ``far_beyond``: times the alarm level that a young plane asks for; None when the plane is not young or the
    evidence belongs to no episode. Evidence that is not believed is held just below the alarm level.
    """
    below = course < alarm
    if below.all():
        return course, int(times_us[-1])
    since_us = np.maximum.accumulate(np.where(below, times_us, below_alarm_us))
    if on_trial:
        held = ~below
    elif far_beyond is not None:
        held = course < far_beyond * alarm
    else:
        share = (CLEARLY_BEYOND * alarm - course) / ((CLEARLY_BEYOND - 1) * alarm)
        held = times_us - since_us < stand_h * US_PER_HOUR * share
    return np.where(held, np.minimum(course, HELD_BELOW * alarm), course), int(since_us[-1])


def raise_ticks(healthy_course: FloatArray, configured: int) -> int:
    """Ticks that evidence must stay above a level, from the evidence (n,) of healthy rows judged out of sample."""
    return min(MOST_PERSISTENCE * configured, max(configured, persistence(healthy_course)))


def raise_ticks_of_days(ticks: int, step_us: float) -> int:
    """``ticks``, or as many as ``LEAST_ALARM_US`` has where a tick lasts ``step_us``, if that is more."""
    return max(ticks, round(LEAST_ALARM_US / max(1.0, step_us)))


def persistence(course: FloatArray) -> int:
    """Ticks over which an evidence course (n,) stays correlated with itself (down to 1/e)."""
    centred = course - course.mean()
    power = float(centred @ centred)
    for lag in range(1, len(course) // 4):
        if float(centred[lag:] @ centred[:-lag]) <= power / np.e:
            return lag
    return max(1, len(course) // 4)
