"""What healthy assets of the class are like: coarse limits from the first minutes on, until an own baseline stands.

A prior is made from healthy recordings of several assets (``fleet-models prior fit``). For each vital it holds where
assets stand (``centre``, and how far they stand ``between`` each other and move ``within``), the ``low``est and
``high``est level any of them reached, and ``low_limit`` and ``high_limit`` clearly beyond. ``exceeds`` is the chance
that one more healthy asset of the class goes beyond the room its limits are made from (see ``models.prior.fitting``).

* While a component learns, levels (medians of ``LEVEL_ROWS`` rows, so that no single reading counts) are compared with
  the limits; what stands beyond one for ``PRIOR_RAISE_ROWS`` rows is an alarm.
* When its own baseline stands, the prior asks once whether that normal is like the class's: where a vital's median lies
  beyond what any healthy asset reached, or an alarm stands still, the baseline was learnt on a sick asset, and the
  component keeps the alarm until it learns anew. Otherwise the prior is silent from then on.

Vitals are matched by name, and by unit where both are known. Pure; a block gives what its rows one by one would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection.prior.class_prior import ChannelPrior, ClassPrior, ComponentPrior
from edge_agent.detection.restored import evidence, flag, readings, time_us, whole
from edge_agent.detection.tuning import (
    LEAST_LEVEL_ROWS,
    LEVEL_ROWS,
    MOST_EVIDENCE,
    PRIOR_RAISE_ROWS,
    PRIOR_RELEASE,
    PRIOR_RELEASE_ROWS,
)
from fleet_core.telemetry import MetricSpec

KEPT_LEVELS = 512
"""Levels kept for the median of the learning period: every second one is dropped when so many are there."""
ANY_UNIT = ("", "1")


def levels(rows: FloatArray, before: FloatArray) -> FloatArray:
    """Running medians (n, channels) of ``LEVEL_ROWS`` rows, of which ``before`` (LEVEL_ROWS - 1, channels) went first;
    NaN where fewer than ``LEAST_LEVEL_ROWS`` were read."""
    joined = np.concatenate((before, rows))
    windows = np.lib.stride_tricks.sliding_window_view(joined, LEVEL_ROWS, axis=0)
    seen = (~np.isnan(windows)).sum(axis=2)
    filled = np.where((seen >= LEAST_LEVEL_ROWS)[:, :, None], windows, 0.0)
    medians: FloatArray = np.where(seen >= LEAST_LEVEL_ROWS, np.nanmedian(filled, axis=2), np.nan)
    return medians


class PriorJudge:
    """Judges one component by its class's prior. ``evidence`` is 1 at the limit, ``alarm`` whether one stands."""

    def __init__(self, prior: ComponentPrior, channels: Sequence[MetricSpec]) -> None:
        nowhere = ChannelPrior(0.0, 0.0, 0.0, -1.0, 1.0, -1.0, 1.0)
        known = [prior.channels.get(each.name) for each in channels]
        fitting = [
            own is not None and (own.unit == each.unit or own.unit in ANY_UNIT or each.unit in ANY_UNIT)
            for own, each in zip(known, channels, strict=True)
        ]
        self.known = np.array(fitting, dtype=bool)
        chosen = [own if own is not None and fits else nowhere for own, fits in zip(known, fitting, strict=True)]
        self.of_channel = tuple(chosen)
        self.assets, self.digest = prior.assets, prior.digest()
        self.centre, self._low, self._high, self._low_limit, self._high_limit = (
            np.array([getattr(own, name) for own in chosen])
            for name in ("centre", "low", "high", "low_limit", "high_limit")
        )
        self.evidence, self.alarm, self.unlike = 0.0, False, False
        self.level: FloatArray = np.full(len(self.known), np.nan)
        self.since_us = 0
        self._last: FloatArray = np.full((LEVEL_ROWS - 1, len(self.known)), np.nan)
        self._above = self._below = 0
        self._kept: list[FloatArray] = []
        self._every, self._skipped = 1, 0

    @property
    def ratios(self) -> FloatArray:
        """How far each channel (channels,) stands from the class's centre, signed, 1 at its limit; 0 where unknown."""
        return self._ratios(self.level, self._low_limit, self._high_limit)

    def take(self, row: FloatArray, time_us: int) -> None:
        """Judge one row (channels,) of the learning period."""
        self.level = levels(row[None], self._last)[0]
        self._last = np.concatenate((self._last[1:], row[None]))
        self._keep(self.level)
        self.evidence = min(MOST_EVIDENCE, float(np.abs(self.ratios).max(initial=0.0)))
        above, below = self.evidence >= 1.0, self.evidence < PRIOR_RELEASE
        if above and not self._above and not self.alarm:
            self.since_us = time_us
        self._above, self._below = (self._above + 1) * above, (self._below + 1) * below
        if self._above >= PRIOR_RAISE_ROWS:
            self.alarm = True
        elif self._below >= PRIOR_RELEASE_ROWS:
            self.alarm = False

    def learnt(self, time_us: int) -> None:
        """The component's own baseline stands from now on: is it like the class's?"""
        if self._kept:
            table = np.stack(self._kept)
            with_values = ~np.isnan(table).all(axis=0)
            middle = np.full(table.shape[1], np.nan)
            middle[with_values] = np.nanmedian(table[:, with_values], axis=0)
            beyond = np.abs(self._ratios(middle, self._low, self._high))
            if (beyond > 1.0).any() and not self.alarm:
                self.unlike, self.since_us, self.level = True, time_us, middle
        self.unlike = self.unlike or self.alarm
        self.alarm = self.unlike
        self.evidence = max(1.0, self.evidence) if self.unlike else 0.0
        self._kept = []

    def state(self) -> dict[str, Any]:
        """Everything, for a snapshot."""
        return {
            "digest": self.digest,
            "evidence": self.evidence,
            "alarm": self.alarm,
            "unlike": self.unlike,
            "since_us": self.since_us,
            "above_rows": self._above,
            "below_rows": self._below,
            "level": self.level,
            "last": self._last,
            "kept": np.stack(self._kept) if self._kept else np.zeros((0, len(self.known))),
            "keeps_every": self._every,
            "skipped": self._skipped,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state``, before anything was taken; one that was judged by another prior is left out.
        Raises ValueError, TypeError, KeyError when it is of other channels, or is none."""
        if state["digest"] != self.digest:
            return
        channels = len(self.known)
        self.evidence, self.since_us = evidence(state["evidence"]), time_us(state["since_us"])
        self.alarm, self.unlike = flag(state["alarm"]), flag(state["unlike"])
        self._above, self._below = whole(state["above_rows"]), whole(state["below_rows"])
        self.level = readings(state["level"], channels)
        self._last = readings(state["last"], LEVEL_ROWS - 1, channels)
        self._kept = list(readings(state["kept"], None, channels))
        self._every, self._skipped = whole(state["keeps_every"], 1), whole(state["skipped"])

    def _keep(self, level: FloatArray) -> None:
        """Keep levels evenly over the learning period, however long it is."""
        self._skipped = (self._skipped + 1) % self._every
        if self._skipped or np.isnan(level).all():
            return
        self._kept.append(level)
        if len(self._kept) > KEPT_LEVELS:
            self._kept, self._every, self._skipped = self._kept[1::2], 2 * self._every, 0

    def _ratios(self, level: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
        """Signed distance from the centre as a share of that of ``low`` or ``high``."""
        away = level - self.centre
        reach = np.maximum(np.where(away >= 0, high - self.centre, self.centre - low), 1e-300)
        ratios = np.where(self.known & np.isfinite(away), away / reach, 0.0)
        bounded: FloatArray = np.clip(ratios, -MOST_EVIDENCE, MOST_EVIDENCE)
        return bounded


def usable_prior(prior: ClassPrior, component_type: str, channels: Sequence[MetricSpec]) -> PriorJudge | None:
    """The judge by the class's prior; None where it knows nothing of this component's vitals."""
    own = prior.of(component_type)
    judge = PriorJudge(own, channels) if own is not None else None
    return judge if judge is not None and judge.known.any() else None
