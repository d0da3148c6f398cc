"""Features of every row of a life: causal, comparable between units, and independent of the other rows asked for.

Row ``i`` depends only on rows up to ``i`` of its own unit. Readings are brought to one scale: heavy-tailed channels are
taken by log1p, then every channel is standardised by mean and standard deviation of the early life of the training
units within the same operating regime (regimes.py). The features of a scaled channel are its last value, an
exponentially weighted mean, mean, slope and deviation over windows of rows, and how far and how fast it has moved since
the first rows of its unit (windows.py). A channel that never changes within a unit (a maker, a size) gives its value
only. Channels that never change at all, and channels that give away the end of a unit (leaks.py), are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.counters import counter_channels, counter_features, counter_names
from fleet_server.prognosis.rul.histories import Floats, Histories, Unit, UnitRows
from fleet_server.prognosis.rul.leaks import leaks
from fleet_server.prognosis.rul.regimes import Ints, Regimes, find_regimes
from fleet_server.prognosis.rul.windows import window_features, window_names

WINDOWS = (5, 15, 30, 60)
SINCE_START_ROWS = 30
"""Where lives typically have fewer rows than this, features since the start of the life are left out."""
EARLY_SHARE = 0.3
EARLY_ROWS = 5
HEAVY_TAIL = 20.0
COUNTER_SHARES = (0.02, 0.1, 0.3)
"""Windows over which the movement of counters is taken, as shares of a typical life."""
MISSING_SHARE = 0.02
FIT_ROWS = 200_000
CLIP = 1e6
"""Scaled values are clipped at plus and minus this, so that a wild reading cannot overflow later sums."""


@dataclass(frozen=True)
class FeatureModel:
    """The fitted scales and choices of channels.

    ``moving`` (channels that change within units), ``still`` (constant within units), ``gappy`` (with missing
    readings), ``counting`` (counters) and ``heavy`` (heavy-tailed) are channel indices. ``centre`` and ``spread`` are
    (regimes, channels), ``low`` and ``high`` (moving,) the range of the scaled training readings. ``windows`` are
    numbers of rows, ``counter_windows`` are in the unit of the times. ``names`` has one entry for each feature column,
    ``dropped`` the reason for each channel that is not used.
    """

    channels: tuple[str, ...]
    dropped: dict[str, str]
    moving: Ints
    still: Ints
    gappy: Ints
    counting: Ints
    heavy: Ints
    regimes: Regimes
    centre: Floats
    spread: Floats
    low: Floats
    high: Floats
    windows: tuple[int, ...]
    since_start: bool
    counter_windows: tuple[float, ...]
    with_age: bool
    names: tuple[str, ...]

    @classmethod
    def fit(cls, histories: Histories, *, with_age: bool = True, seed: int = 0) -> FeatureModel:
        """Learn regimes, scales and useful channels from training lives.

        Without ``with_age`` no feature tells the time since a unit's first row. ``seed`` draws the sample of units when
        there are more than ``FIT_ROWS`` rows.

        Raises:
            BadInput: ``no_channels`` when no channel changes.
        """
        rows = UnitRows.of(_sampled(histories, seed))
        dropped = leaks(histories)
        heavy = np.array([c for c in range(rows.values.shape[1]) if _heavy(rows.values[:, c])], dtype=np.int64)
        values = _logged(rows.values, heavy)
        regimes = find_regimes(rows.values, rows.unit, rows.life_share, seed)
        regime = regimes.assign(rows.values)
        centre, spread = _scales(values, regime, rows, len(regimes))
        scaled = _clipped((values - centre[regime]) / spread[regime])
        moving, still = [], []
        for index, name in enumerate(histories.channels):
            if index in regimes.columns:
                dropped[name] = "operating regime"
            elif name not in dropped:
                if _varies(scaled[:, index]) is False:
                    dropped[name] = "never changes"
                elif _fixed_in_units(values[:, index], rows):
                    still.append(index)
                else:
                    moving.append(index)
        if not moving and not still:
            raise BadInput("no_channels", "no channel of the training data changes")
        counts = counter_channels(rows.values, rows.unit)
        spans = [unit.times[-1] - unit.times[0] for unit in histories if len(unit) > 1] or [1.0]
        typical = float(np.median([len(unit) for unit in histories]))
        inside = scaled[:, moving]
        finite = np.isfinite(inside).any(axis=0) if len(moving) else np.zeros(0, dtype=bool)
        low = np.where(finite, np.nanmin(np.where(np.isfinite(inside), inside, np.inf), axis=0), -np.inf)
        high = np.where(finite, np.nanmax(np.where(np.isfinite(inside), inside, -np.inf), axis=0), np.inf)
        model = cls(
            channels=histories.channels,
            dropped=dropped,
            moving=np.array(moving, dtype=np.int64),
            still=np.array(still, dtype=np.int64),
            gappy=np.array([c for c in moving if np.isnan(values[:, c]).mean() > MISSING_SHARE], dtype=np.int64),
            counting=np.array([c for c in moving if counts[c]], dtype=np.int64),
            counter_windows=tuple(share * float(np.median(spans)) for share in COUNTER_SHARES),
            heavy=heavy,
            regimes=regimes,
            centre=centre,
            spread=spread,
            low=low,
            high=high,
            windows=tuple(w for w in WINDOWS if w <= max(typical, WINDOWS[0])),
            since_start=typical >= SINCE_START_ROWS,
            with_age=with_age,
            names=(),
        )
        object.__setattr__(model, "names", model._names())
        return model

    def scaled(self, values: Floats) -> Floats:
        """The moving channels of ``values`` (n, channels) on the training scale (n, moving); NaN where missing."""
        return self._scale(values)[:, self.moving]

    def table(self, unit: Unit) -> Floats:
        """Features (n, features) of the n rows of one unit; NaN where a feature cannot be computed.

        Raises:
            BadInput: ``shape`` when the unit has other channels than training.
        """
        return self.tables([unit])

    def rows(self, units: Sequence[Unit]) -> UnitRows:
        """The rows of the units under each other. Raises BadInput ``shape`` as :meth:`table` does."""
        for unit in units:
            if unit.values.shape[1] != len(self.channels):
                raise BadInput("shape", f"unit {unit.name}: {unit.values.shape[1]} of {len(self.channels)} channels")
        return UnitRows.of(units)

    def tables(self, units: Iterable[Unit]) -> Floats:
        """Features (rows of all units, features) of several units, under each other. Raises as :meth:`table` does."""
        chosen = tuple(units)
        rows = self.rows(chosen)
        scaled = self._scale(rows.values)
        parts = [scaled[:, self.still]]
        if len(self.moving):
            parts += window_features(scaled[:, self.moving], rows, self.windows, self.since_start)
        if len(self.gappy):
            parts.append(np.isnan(rows.values[:, self.gappy]).astype(np.float64))
        if len(self.counting):
            times = np.concatenate([unit.times for unit in chosen])
            counted = counter_features(times, rows.values[:, self.counting], rows.unit, self.counter_windows)
            parts.append(counted[:, self._counters_kept()])
        if self.with_age:
            ages = np.concatenate([unit.times - unit.times[0] for unit in chosen])
            parts.append(np.stack([ages, rows.row.astype(np.float64)], axis=1))
        return np.concatenate(parts, axis=1)

    def _scale(self, values: Floats) -> Floats:
        regime = self.regimes.assign(values)
        return _clipped((_logged(values, self.heavy) - self.centre[regime]) / self.spread[regime])

    def _counters(self) -> tuple[str, ...]:
        return counter_names([self.channels[index] for index in self.counting], self.counter_windows)

    def _counters_kept(self) -> Ints:
        """Indices of the counter features in use.

        How long ago and how often a counter moved tells the age, so a model without age does not use these features.
        """
        ageless = [".level", ".moved_"]
        names = self._counters()
        kept = [i for i, name in enumerate(names) if self.with_age or any(word in name for word in ageless)]
        return np.array(kept, dtype=np.int64)

    def _names(self) -> tuple[str, ...]:
        moving = [self.channels[index] for index in self.moving]
        names = [self.channels[index] for index in self.still]
        if moving:
            names += [
                f"{channel}:{kind}" for kind in window_names(self.windows, self.since_start) for channel in moving
            ]
        names += [f"{self.channels[index]}:missing" for index in self.gappy]
        if len(self.counting):
            names += [self._counters()[index] for index in self._counters_kept()]
        return (*names, *(("age", "rows") if self.with_age else ()))


def _sampled(histories: Histories, seed: int) -> tuple[Unit, ...]:
    """Whole units, drawn by ``seed``, with at most ``FIT_ROWS`` rows together."""
    if histories.rows <= FIT_ROWS:
        return histories.units
    order = np.random.default_rng(seed).permutation(len(histories))
    taken = np.cumsum([len(histories.units[index]) for index in order]) <= FIT_ROWS
    return tuple(histories.units[index] for index in np.sort(order[taken])) or histories.units[:1]


def _heavy(column: Floats) -> bool:
    known = column[np.isfinite(column)]
    if not len(known) or known.min() < 0.0:
        return False
    low, middle, high = np.quantile(known, (0.25, 0.5, 0.75))
    return bool(known.max() - middle > HEAVY_TAIL * (high - low))


def _logged(values: Floats, heavy: Ints) -> Floats:
    logged = values.copy()
    logged[:, heavy] = np.log1p(np.maximum(values[:, heavy], 0.0))
    return logged


def _clipped(values: Floats) -> Floats:
    return np.clip(values, -CLIP, CLIP)


def _scales(values: Floats, regime: Ints, rows: UnitRows, regimes: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the early life in every regime, both (regimes, channels).

    The deviation is 1.0 where a channel does not change.
    """
    early = (rows.row < EARLY_ROWS) | (rows.life_share <= EARLY_SHARE)
    centre = np.zeros((regimes, values.shape[1]))
    spread = np.ones((regimes, values.shape[1]))
    for index in range(regimes):
        inside = regime == index
        for column in range(values.shape[1]):
            series, first = values[inside, column], values[inside & early, column]
            series, first = series[np.isfinite(series)], first[np.isfinite(first)]
            if not len(series):
                continue
            first = first if len(first) > 1 else series
            floor = 1e-9 * max(1.0, float(np.abs(series).max()))
            width = float(first.std()) if first.std() > floor else float(series.std())
            centre[index, column] = first.mean()
            spread[index, column] = width if width > floor else 1.0
    return centre, spread


def _varies(column: Floats) -> bool:
    known = column[np.isfinite(column)]
    return bool(len(known) and np.ptp(known) > 1e-6)


def _fixed_in_units(column: Floats, rows: UnitRows) -> bool:
    same_unit = np.diff(rows.unit) == 0
    before, after = column[:-1][same_unit], column[1:][same_unit]
    return bool(len(before) and ((before == after) | (np.isnan(before) & np.isnan(after))).all())
