"""Every level that shapes an alarm, with its unit and its reason. What an owner may set stands in ``settings`` instead.

The levels are in the order in which a reading meets them. How those of the limit are multiplied: ``alarm_limit``.
Where they are used stand, instead: how a baseline is fitted (``healthy/baseline.py``, ``healthy/season.py``) and what
each detector looks at (its ``Config``), which say what is expected and seen, not from where on it is an alarm; and
constants that shape no alarm: bounds of memory, numerics, what novelty flags, the confidence of a failure mode.
"""

from __future__ import annotations

from dataclasses import dataclass

US_PER_HOUR = 3_600_000_000
DAY_US = 24 * US_PER_HOUR
MONTH_US = 30.44 * DAY_US

# ---- sensors that are left out rather than judged (input/sensor_health.py)

STUCK_FACTOR = 4
"""A channel is stuck when it stands still so many times longer than it ever did while learning."""
STUCK_LEAST_TICKS = 12
"""Ticks; no shorter standing still is a stuck sensor: coarse sensors repeat a value by chance."""
STILL_SHARE = 0.25
"""A channel that stood still for so large a share of the learning period is known to rest: it never counts as stuck."""
SPIKE_FACTOR = 3.0
"""A step so many times as wide as the 99.5 % step of healthy life is a spike, until a second reading confirms it."""
LEAST_STEPS = 64
"""Steps a channel must have shown before a spike is told from a step."""

# ---- standing still is no fault (input/standstill.py)

STANDSTILL_SHARE = 0.05
"""An activity (load, speed) below this share of its running level is near nothing."""
STANDSTILL_CLEAR = 2.0
"""An activity tells running from standing if it stayed this many times above that while learning."""
WITNESS_FALLEN = 0.5
"""A witness (current, vibration) confirms a standstill below this share of the least it showed while learning."""
SETTLE_US = 4 * US_PER_HOUR
"""After a standstill as many rows are passed over as it lasted, at most these hours: the machine warms up."""
SETTLE_PER_DAY_US = 6 * US_PER_HOUR
"""Of a day's running rows no more are passed over, however often the machine stops: it must be judged some time."""

# ---- deviations from healthy, in robust sigmas (healthy/baseline.py, slot.py)

WINSORISED_SIGMAS = 4.0
"""Healthy rows are cut off here before a detector is fitted: an outlier must not widen what healthy is."""
DEVIATION_LIMIT = 1e3
"""Sigmas; what is farther is as wrong."""
FALL_SHARE = 1 / 3
"""Of a deviation below healthy, where wear makes a channel rise: a vibration that falls has run in or is asked less. A
sensor that came loose still shows, by falling far."""
UNSEEN_MARGIN = 0.1
"""Of the range a regime showed while learning: beyond range and margin its deviations count for less."""
RESOLUTION = 1e-4
"""Of its own level: no channel is trusted to resolve less, so that a constant one does not shout at its last digit."""

# ---- the limit of each statistic and of the evidence (alarm_limit.py, healthy/calibrate.py, healthy/fitting.py)

FOLDS = 6
"""Stretches of the learning period, each judged by a model fitted to the others."""
TAIL_QUANTILE = 0.65
"""The healthy tail begins here: low enough that one odd stretch (running in, a disturbance) is one cluster of
exceedances among several, not the whole tail."""
CLUSTER_GAP = 5
"""Rows; exceedances that are closer are one event."""
SCARCITY = 2.0
"""How fast the room for a channel grows that showed few different values: twice as wide at four values, by a fifth at a
hundred."""
FEW_STRETCHES = 1.0
"""How fast the room for a slow mean grows whose memory spans only few independent stretches of the rows learnt from."""
FARTHEST_US = 28 * DAY_US
"""A wandering channel is given room for so far ahead: by then experience has given it."""
LEAST_EVIDENCE_LIMIT = 0.8
"""The limit of the fused evidence is between this and 1: the detectors' separate limits are never far too wide."""
RATE_RANGE = (1e-7, 1e-3)
"""False alarms per row: below the first no tail of a few hundred rows says anything; above the second all is alarm."""
KNOWN_VALUES = 128
"""Values a channel that appeared in the later half of the learning period needs to be judged."""

# ---- many statistics, one evidence (fusion.py)

MOST_EVIDENCE = 16.0
"""Evidence is bounded, so that recovery takes ticks and not days."""
AGREEING = 3
"""The mean of so many highest detectors counts: they must agree, or one be far beyond its limit."""

# ---- what makes evidence sustained, so that it raises an alarm (sustained.py)

MOST_PERSISTENCE = 2
"""An alarm waits for the evidence's own correlation time, at most this many times ``settings.raise_ticks``."""
LEAST_ALARM_US = US_PER_HOUR
"""Where a day is learnt, evidence must stay above the alarm level for an hour at least: shorter is a nightly job."""
CLEARLY_BEYOND = 1.35
"""Times the alarm level; evidence at the limit must stand for ``PlaneTuning.stand_h``, from here on not at all."""
HELD_BELOW = 0.99
"""Times the alarm level: where evidence is held that is not yet believed. It may show as a watch, never as an alarm."""
LEAST_TRIMMED = 8
"""Readings in a mean of the slow plane from which on highest and lowest are left out: a spike does not creep."""


@dataclass(frozen=True, slots=True)
class PlaneTuning:
    """Where the two planes differ.

    ``young_days``: how long a plane that sees days is young. While it is, only evidence ``far_beyond`` times the alarm
    level is believed at once. ``beyond_seen``: no limit of a plane that sees days lies below so many times what healthy
    rows reached. ``alone``: the share of a single detector's ratio that counts though no other agrees.
    ``probation``: is a step soon after learning put on trial? ``stand_h``: hours that evidence at the limit must stand.
    """

    young_days: float = 14.0
    far_beyond: float = 4.0
    beyond_seen: float = 1.5
    alone: float = 0.75
    probation: bool = True
    stand_h: float = 0.0


FAST_PLANE = PlaneTuning()
"""Judges every tick, for what happens. Two weeks have shown it weekends."""
SLOW_PLANE = PlaneTuning(
    young_days=23.0,  # by then it has been fitted to three weeks
    far_beyond=8.0,  # its means scatter so little that a nightly job lies far beyond the limit
    beyond_seen=1.05,  # means over many ticks have shown nearly all they will
    alone=1.0,  # what creeps is seen by one detector first
    probation=False,  # a step is the fast plane's business
    stand_h=16.0,  # what creeps is still there after a night; a warm afternoon is not
)
"""Judges means over ``settings.slow_ticks`` ticks, for what creeps."""

# ---- what is learnt from later, and what is not (healthy/learner.py, healthy/experience.py, healthy/probation.py)

REFITS = (2, 4, 7, 14)
"""Times the learning period at which the model is fitted again while nothing suspicious stands."""
MAX_RELEARNS = 2
"""How often what stood still is taken for the new normal; a third step is a fault."""
SPOILED_BY = 0.5
"""Evidence from which on rows are an episode and not learnt from, while learning goes on."""
ROOM_FROM = 0.8
"""The same when learning is over; and the least peak of an episode for which a grown baseline makes room."""
ROOM_BEYOND = 1.25
"""The limit is moved to so many times the peak of what came and went, so that it alarms once at most."""
MOST_ROOM = 3.0
"""All episodes together make the limit at most so many times as wide: a drift in steps must show in the end."""
SUBSIDED_ROWS = 16
"""Calm rows after which an episode is over."""
PATIENCE_US = 60 * US_PER_HOUR
"""How long an episode may stand in the first weeks before it must be a fault or the new normal: a weekend passes."""
LEAST_EPISODE_ROWS = 24
"""Rows from which on it can be said whether an episode grows."""
GROWING = 1.3
"""A deviation grows when its last third stands so many times as far from healthy as its middle third."""
STEADILY_GROWING = 1.15
"""The same from quarter to quarter, where each stands farther than the one before."""
LEAST_TRIAL_ROWS = 12
TRIAL_SHARE = 0.25
"""A trial looks first after this share of the learning period, after ``LEAST_TRIAL_ROWS`` at least."""
BROKEN_OUT = 2.0
"""What went so many times as far as where it had settled was no settling."""

# ---- the class's prior, before an own baseline stands (prior/judge.py)

LEVEL_ROWS = 5
"""Rows whose median is a level: no single reading counts."""
LEAST_LEVEL_ROWS = 3
"""Readings among them from which there is a level."""
PRIOR_RAISE_ROWS, PRIOR_RELEASE_ROWS = 3, 5
"""Rows beyond the class's limit that raise the alarm, rows back inside that end it."""
PRIOR_RELEASE = 0.8
"""Times the class's limit: from there down a level is back inside."""
