"""How surprising is a row, given all rows before it? A score in 0..1 that is news: high at a surprise, then damped.

Two questions are asked of each channel: has it *jumped* (against a mean of the last few rows), and has its *level*
moved (that of the last dozen rows against that of some hundred)? Each answer is divided by the channel's own spread
and ranked against the channel's own past (decades of rarity, with a Pareto tail beyond what was seen), so neither units
nor distributions matter. The row's evidence is that of its most surprising channel. Three things make it news:

- evidence below what was seen shortly before is none (a memory that fades by ``FADE`` decades a row);
- evidence is ranked against earlier *events*, rises above that memory, rather than rows: where bursts are usual, a
  burst is no news;
- what has just been reported tires (``FATIGUE``); only the clearly stronger is reported again.

0.8 and more means "would flag". A channel that stops moving for longer than it ever has is an event as well.

Invariants: causal, deterministic, scale free, memory fixed by the number of channels (some 5 kB each). What is learnt
takes effect at rows counted from the first, so a block gives what its rows one by one would (to rounding).
A missing value (NaN, infinite or beyond ``HUGE``) repeats the channel's last one: it is never a surprise itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.arrays import FloatArray
from fleet_core.errors import BadInput

SPAN, FIRST_SPAN, FIRST_ROWS = 64, 32, 256
"""Rows between two refreshments of what is learnt; at the start they are closer."""
HUGE = 1e150
MEAN_WEIGHTS = (0.3, 0.15)
"""Weight of the newest row in the mean a jump and a level are taken from."""
LEVEL_MEMORY_ROWS = 250.0
SPREAD_MEMORY_ROWS = 3300.0
RANK_MEMORY_ROWS = 50_000.0
SPREAD_FLOOR = 1e-3
"""Of a channel's larger spread: no smaller spread is believed."""

RANK_BINS, RANK_BINS_PER_OCTAVE, RANK_TAIL = 64, 3.0, 2.5
"""Histogram of log2(1 + deviation / spread); its tail's exponent."""
EVENT_BINS, EVENT_BINS_PER_DECADE, EVENT_TAIL = 64, 10.0, 1.0
FADE = 0.01
RISE = 0.3
"""Decades above the memory that make a full event."""
RARITY_EXPONENT = 0.55
RARITY_ROWS = 300.0
FATIGUE, FATIGUE_FROM, FATIGUE_FADE = 1.5, 2.0, 0.98
MOST_TIRED = 1 / (1 - FATIGUE_FADE)
FLAG_AT, STEEPNESS = 2.02, 4.0
STILL = 0.05
"""A channel moving by less than this share of its spread stands still."""
STILL_EVIDENCE = 4.0
STILL_ROWS = 100.0
"""No shorter standing still is an event."""
MATURE_ROWS = 256

_MIDDLE = FLAG_AT - math.log(4.0) / STEEPNESS
_IDLE = 1.0 / (1.0 + math.exp(STEEPNESS * _MIDDLE))


def _mean_kernels() -> tuple[list[FloatArray], list[FloatArray]]:
    """Per number of rows m: (2, m, m) that turns rows into running means, and (2, m, 1) for the mean before them."""
    age = np.arange(SPAN)[:, None] - np.arange(SPAN)[None]
    whole = np.stack([np.where(age >= 0, w * (1 - w) ** np.maximum(age, 0), 0.0) for w in MEAN_WEIGHTS])
    fade = np.stack([(1 - w) ** np.arange(1.0, SPAN + 1) for w in MEAN_WEIGHTS])[:, :, None]
    return [whole[:, :m, :m].copy() for m in range(SPAN + 1)], [fade[:, :m].copy() for m in range(SPAN + 1)]


def _survival_kernel(bins: int, fade: float) -> FloatArray:
    """(bins, bins) that turns counts (.., bins) into the number beyond each bin; those below it fade by the bin."""
    below = np.arange(bins)[:, None] - np.arange(bins)[None]
    return np.where(below >= 0, fade ** np.maximum(below, 0), 1.0).T.copy()


_KERNELS, _FADES = _mean_kernels()
_RANK = _survival_kernel(RANK_BINS, 2.0 ** (-RANK_TAIL / RANK_BINS_PER_OCTAVE))
_EVENT = _survival_kernel(EVENT_BINS, 10.0 ** (-EVENT_TAIL / EVENT_BINS_PER_DECADE))
_PRIOR = 0.3 * _EVENT[0]
_LINE = np.arange(64.0)
_OCTAVES = RANK_BINS_PER_OCTAVE / math.log(2.0)
_WEIGHTS: FloatArray = np.array(MEAN_WEIGHTS)[:, None]


class Novelty:
    """The running novelty of rows of ``channels`` vitals."""

    def __init__(self, channels: int) -> None:
        if channels < 1:
            raise ValueError("at least one channel")
        self._channels = channels
        self._seen = np.zeros(channels, dtype=np.bool_)
        self._all_seen = False
        self._origin = np.zeros(channels)  # the first value; rows are kept relative to it
        self._last = np.zeros(channels)
        self._means = np.zeros((2, channels))
        self._level = np.zeros(channels)
        self._age_rows = np.zeros(channels)
        self._spread = np.zeros((2, channels))  # mean root deviation, squared when used
        self._ranks = np.zeros((2, channels, RANK_BINS))
        self._ranked_rows = np.zeros(channels)
        self._still_rows = np.zeros(channels)
        self._longest_still = np.zeros(channels)
        self._events = np.zeros(EVENT_BINS)
        self._judged_rows = 0.0
        self._memory = 0.0
        self._tired = 0.0
        self._still = 0.0
        # the span under way
        self._filled = 0
        self._rows = np.zeros((SPAN, channels))
        self._deviations = np.zeros((2, SPAN, channels))
        self._risen = np.zeros((2, SPAN))  # evidence, and how much of an event it was
        self._offsets = (np.arange(2 * channels) * RANK_BINS).reshape(2, 1, channels)
        self._slope = np.zeros((2, channels, RANK_BINS))
        self._base = np.zeros((2, channels, RANK_BINS))
        self._refresh()

    def run(self, times_us: NDArray[np.int64], rows: FloatArray) -> FloatArray:
        """Take rows (n, channels) in order of time, with NaN where missing; return their novelty (n,) in 0..1.

        ``times_us`` (n,) belongs to the rows; no question asked reads it. Raises ValueError when the shapes do not fit.
        """
        count = len(rows)
        if rows.shape != (count, self._channels) or len(times_us) != count:
            raise ValueError(f"rows {rows.shape} and {len(times_us)} times, expected (n, {self._channels}) and n")
        if not count:
            return np.zeros(0)
        if not (self._all_seen and np.vdot(rows, rows) <= HUGE * HUGE):  # one call; false where a value is missing
            born_at = self._next_birth(rows)
            if born_at:
                parts = (slice(born_at), slice(born_at, None))
                return np.concatenate([self.run(times_us[part], rows[part]) for part in parts])
            rows = self._fill(rows)
        values = rows - self._origin
        self._last = values[-1]
        if count == 1:
            return np.array(self._piece(values))
        scores: list[float] = []
        start = 0
        while start < count:
            stop = min(count, start + self._span - self._filled)
            scores += self._piece(values[start:stop])
            start = stop
        return np.array(scores)

    def _next_birth(self, rows: FloatArray) -> int:
        """The row, after the first, where a channel has its first value; 0 when there is none."""
        known = np.abs(rows) <= HUGE
        births = (known & ~(self._seen | known[0])).any(axis=1)
        return int(births.argmax())

    def _fill(self, rows: FloatArray) -> FloatArray:
        """The rows with missing values replaced; channels born in the first row start there."""
        known = np.abs(rows) <= HUGE
        born = known[0] & ~self._seen
        if born.any():
            self._origin[born] = rows[0, born]
            self._seen |= born
            self._all_seen = bool(self._seen.all())
        latest = np.where(known, np.arange(len(rows))[:, None], -1)
        np.maximum.accumulate(latest, axis=0, out=latest)
        held = np.take_along_axis(rows, np.maximum(latest, 0), axis=0)
        return np.where(latest >= 0, held, self._origin + self._last)

    def _piece(self, values: FloatArray) -> list[float]:
        """Judge rows (m, channels) that do not reach beyond the span under way; refresh when they complete it."""
        m, filled = len(values), self._filled
        deviations = self._deviations[:, filled : filled + m]
        if m == 1:
            self._means = means = self._means + _WEIGHTS * (values - self._means)
            np.subtract(values, means[0], out=deviations[0])
            np.subtract(means[1], self._level, out=deviations[1])
        else:
            means = _KERNELS[m] @ values + _FADES[m] * self._means[:, None]
            self._means = means[:, -1]
            np.subtract(values, means[0], out=deviations[0])
            np.subtract(means[1], self._level, out=deviations[1])
        np.abs(deviations, out=deviations)
        self._rows[filled : filled + m] = values
        self._filled += m
        if not self._judged_rows:
            scores = [0.0] * m
        else:
            places = _places(deviations, self._per_spread)
            index = places.astype(np.intp)
            index += self._offsets
            rarity = self._base.take(index)
            places *= self._slope.take(index)
            rarity += places
            rarity *= rarity
            scores = self._news(np.maximum.reduce(np.add.reduce(rarity, axis=0), axis=1).tolist())
        if self._filled == self._span:
            self._learn()
        return scores

    def _news(self, squares: list[float]) -> list[float]:
        """Novelty of rows by squared evidence: it must rise above the memory, be rare, and not be reported just now."""
        memory, tired, at = self._memory, self._tired, self._filled - len(squares)
        scores = []
        for square in squares:
            evidence = math.sqrt(square)
            if self._still:
                evidence, self._still = max(evidence, self._still), 0.0
            memory = max(memory - FADE, 0.0)
            rise = (evidence - memory) / RISE
            score = 0.0
            if rise > 0.0:
                memory = evidence
                place = min(evidence * EVENT_BINS_PER_DECADE, EVENT_BINS - 1.001)
                rarity = self._event_base[int(place)] + self._event_slope[int(place)] * place
                rarity = (rarity - FATIGUE * tired) * min(2.0 * rise, 1.0)
                score = max(0.0, (1.0 / (1.0 + math.exp(STEEPNESS * (_MIDDLE - rarity))) - _IDLE) / (1.0 - _IDLE))
                tired = tired * FATIGUE_FADE + min(max(5.0 * (rarity - FATIGUE_FROM), 0.0), 1.0)
                self._risen[0, at], self._risen[1, at] = place, min(rise, 1.0)
            else:
                tired *= FATIGUE_FADE
            at += 1
            scores.append(score)
        self._memory, self._tired = memory, tired
        return scores

    def _learn(self) -> None:
        """Take the completed span into what is known."""
        rows, self._filled = self._span, 0
        deviations = self._deviations[:, :rows]
        grown = self._age_rows > 0
        if self._judged_rows:
            keep = (1 - 1 / RANK_MEMORY_ROWS) ** rows
            places = _places(deviations, self._per_spread)
            _count(self._ranks, places, grown, self._offsets, keep)
            self._ranked_rows = self._ranked_rows * keep + rows * grown
            _count(self._events, self._risen[0], self._risen[1], 0, keep)
            self._risen[:] = 0.0
            self._judged_rows *= keep
        self._judged_rows += rows
        moved = np.add.reduce(np.sqrt(deviations), axis=1) / rows
        if self._judged_rows > MATURE_ROWS:
            self._notice_stillness(moved[0], rows)
        self._age_rows += rows * self._seen
        young = rows / np.maximum(self._age_rows, rows)
        self._spread += np.maximum(rows / SPREAD_MEMORY_ROWS, young) * (moved - self._spread)
        level_weight = np.maximum(1 - math.exp(-rows / LEVEL_MEMORY_ROWS), young)
        self._level = self._level + level_weight * (np.add.reduce(self._rows[:rows], axis=0) / rows - self._level)
        self._refresh()

    def _notice_stillness(self, moved: FloatArray, rows: int) -> None:
        """A channel that has stood still for twice as long as ever before is evidence for the next row."""
        still = (moved < STILL * self._spread[0]) & (self._age_rows >= MATURE_ROWS)
        if not (still.any() or self._still_rows.any()):
            return
        ended = np.where(still, 0.0, self._still_rows)
        self._longest_still = np.maximum(self._longest_still, ended)
        before, self._still_rows = self._still_rows, np.where(still, self._still_rows + rows, 0.0)
        limit = 2 * self._longest_still + STILL_ROWS
        if ((self._still_rows >= limit) & (before < limit)).any():
            self._still = STILL_EVIDENCE

    def _refresh(self) -> None:
        """Derive the tables rows are judged by."""
        self._span = FIRST_SPAN if self._judged_rows < FIRST_ROWS else SPAN
        squares = self._spread * self._spread
        floor = SPREAD_FLOOR * np.maximum(squares[0], squares[1]) + 1e-12 * np.abs(self._origin + self._level) + 1e-200
        self._per_spread = ((self._age_rows > 0) / (squares + floor))[:, None]
        if self._ranked_rows.any():
            share = (self._ranks @ _RANK + 1e-12) / np.maximum(self._ranked_rows, 1e-12)[:, None]
            np.log10(share, out=share)
            share[:, self._ranked_rows == 0] = 0.0
            np.subtract(share[..., :-1], share[..., 1:], out=self._slope[..., :-1])
            np.negative(share, out=self._base)
            self._base -= self._slope * _LINE
        if self._judged_rows:
            common = RARITY_EXPONENT * math.log10((self._judged_rows + RARITY_ROWS) / 1000)
            rate = -np.log10((self._events @ _EVENT + _PRIOR) / (self._judged_rows + 1)) - common
            slopes = rate[1:] - rate[:-1]
            self._event_slope: list[float] = slopes.tolist()
            self._event_base: list[float] = (rate[:-1] - slopes * _LINE[:-1]).tolist()

    def state(self) -> dict[str, Any]:
        """All that was learnt, as arrays and numbers."""
        return {name: np.array(getattr(self, name), dtype=np.float64) for name in _STATE}

    def load(self, state: dict[str, Any]) -> None:
        """Take a state back. Raises BadInput when it does not fit; the state is then as before."""
        taken = {}
        for name in _STATE:
            have = np.asarray(getattr(self, name))
            try:
                value = np.array(state[name], dtype=np.float64)
            except (KeyError, TypeError, ValueError, OverflowError):
                raise BadInput("novelty", f"{name} is missing or damaged") from None
            if value.shape != have.shape or not np.isfinite(value).all():
                raise BadInput("novelty", f"{name} does not fit {self._channels} channels")
            taken[name] = value.astype(have.dtype) if have.ndim else have.dtype.type(value).item()
        span = FIRST_SPAN if taken["_judged_rows"] < FIRST_ROWS else SPAN
        if not 0 <= taken["_filled"] < span or any((np.asarray(taken[name]) < 0).any() for name in _COUNTED):
            raise BadInput("novelty", "the counts are out of range")
        if any((np.abs(taken[name]) > 10 * HUGE).any() for name in _STATE) or taken["_tired"] > MOST_TIRED:
            raise BadInput("novelty", "values are out of range")
        if np.sum(taken["_events"]) > taken["_judged_rows"] + SPAN or (taken["_risen"][0] > EVENT_BINS - 1.001).any():
            raise BadInput("novelty", "more events than rows")
        for name, value in taken.items():
            setattr(self, name, value)
        self._all_seen = bool(self._seen.all())
        self._refresh()


_STATE = (
    "_seen", "_origin", "_last", "_means", "_level", "_age_rows", "_spread", "_ranks", "_ranked_rows", "_still_rows",
    "_longest_still", "_events", "_judged_rows", "_memory", "_tired", "_still", "_filled", "_rows", "_deviations",
    "_risen",
)  # fmt: skip


_COUNTED = (
    "_age_rows", "_spread", "_ranks", "_ranked_rows", "_still_rows", "_longest_still", "_events", "_judged_rows",
    "_memory", "_tired", "_still", "_deviations", "_risen",
)  # fmt: skip
"""Of it, what is never negative."""


def _places(deviations: FloatArray, per_spread: FloatArray) -> FloatArray:
    """Where deviations (2, m, channels) stand in the histogram of ranks: a bin and the way to the next one."""
    places: FloatArray = deviations * per_spread
    np.log1p(places, out=places)
    places *= _OCTAVES
    np.minimum(places, RANK_BINS - 1.001, out=places)
    return places


def _count(
    counts: FloatArray, places: FloatArray, weights: NDArray[Any], offsets: NDArray[np.intp] | int, keep: float
) -> None:
    """Fade the counts, then add places to them, each shared between its bin and the next."""
    below = places.astype(np.intp)
    share = (places - below) * weights
    index = (below + offsets).ravel()
    flat = counts.reshape(-1)
    flat *= keep
    flat += np.bincount(index, (weights - share).ravel(), flat.size)
    flat += np.bincount(index + 1, share.ravel(), flat.size)
