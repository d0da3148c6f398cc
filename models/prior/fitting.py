"""The class's prior from healthy recordings of several assets. Pure; what it means stands in ``edge_agent``.

For each vital the fit takes every asset's median, its own spread, and the lowest and highest level (running median)
that the asset reached. ``centre`` is the median of the medians. The reach on either side is that of the asset that went
farthest.

The room beyond the reach has a conformal meaning over assets (jackknife). Each of the n assets is left out in turn and
measured against a prior of the others: how far it went, on the vital on which it went farthest, in reaches of the
others. An exchangeable healthy asset goes beyond the largest of these n numbers with a probability of about 1 / (n +
1), in a recording of the same length and over all vitals at once (about, because every asset was measured against n - 1
assets only). Alarm limits lie farther out by ``CLEARLY``, because an alarm on the first day must be worth it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_agent.detection.prior.class_prior import ChannelPrior, ComponentPrior
from edge_agent.detection.prior.judge import levels
from edge_agent.detection.tuning import LEVEL_ROWS
from fleet_core.errors import BadInput

Floats = npt.NDArray[np.float64]

CLEARLY = 1.25
LEAST_ASSETS = 3
LEAST_ROWS = 24
TO_SIGMA = 1.4826
LEAST_SHARE = 1e-3
"""Least spread of a channel, as a share of its level: no level is known more exactly, however still the channel is."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One healthy recording: ``values`` (n, channels) of the named vitals in order of time, NaN where missing."""

    name: str
    channels: tuple[str, ...]
    values: Floats


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prior; ``farthest`` says, by name of asset, how far the asset went, in reaches of the others."""

    prior: ComponentPrior
    room: float
    farthest: dict[str, float]
    left_out: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Reached:
    """Median, spread and extreme levels of one vital, with an entry for each asset (assets,)."""

    middle: Floats
    spread: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class _Class:
    """The class's levels of one vital: its centre, and how far the farthest asset went on either side."""

    centre: float
    between: float
    within: float
    up: float
    down: float


def fit_prior(assets: Sequence[Asset], units: Mapping[str, str] | None = None) -> Fitted:
    """The prior of the vitals that all assets have. Raises BadInput when there are too few assets or vitals."""
    if len(assets) < LEAST_ASSETS:
        raise BadInput("prior", f"{len(assets)} healthy asset(s), at least {LEAST_ASSETS} are needed")
    shared, left_out = _shared(assets)
    reached = {name: reach for name in shared if (reach := _reached(assets, name)) is not None}
    left_out |= {name: f"fewer than {LEAST_ROWS} readings in some recording" for name in shared if name not in reached}
    if not reached:
        raise BadInput("prior", "no vital that all recordings have with enough readings")
    everyone = np.arange(len(assets))
    farthest = np.array([_farthest(reached, everyone != index, int(index)) for index in everyone])
    room = max(1.0, float(farthest.max()))
    channels = {
        name: _channel(_class_of(each, everyone), room, (units or {}).get(name, ""))
        for name, each in sorted(reached.items())
    }
    prior = ComponentPrior(len(assets), round(1.0 / (len(assets) + 1), 6), channels)
    told = {asset.name: round(float(value), 3) for asset, value in zip(assets, farthest, strict=True)}
    return Fitted(prior, room, told, left_out)


def _shared(assets: Sequence[Asset]) -> tuple[list[str], dict[str, str]]:
    names = list(dict.fromkeys(name for asset in assets for name in asset.channels))
    shared = [name for name in names if all(name in asset.channels for asset in assets)]
    return shared, {name: "not in all recordings" for name in names if name not in shared}


def _reached(assets: Sequence[Asset], name: str) -> _Reached | None:
    rows: list[tuple[float, float, float, float]] = []
    for asset in assets:
        column = asset.values[:, [asset.channels.index(name)]]
        values = column[np.isfinite(column)]
        if values.size < LEAST_ROWS:
            return None
        middle = float(np.median(values))
        level = levels(np.where(np.isfinite(column), column, np.nan), np.full((LEVEL_ROWS - 1, 1), np.nan))
        if np.isnan(level).all():
            return None
        spread = TO_SIGMA * float(np.median(np.abs(values - middle)))
        rows.append((middle, spread, float(np.nanmin(level)), float(np.nanmax(level))))
    return _Reached(*np.array(rows).T)


def _class_of(reached: _Reached, chosen: npt.NDArray[np.generic]) -> _Class:
    """The class's levels of one vital, from the ``chosen`` assets alone."""
    middles = reached.middle[chosen]
    centre = float(np.median(middles))
    between = TO_SIGMA * float(np.median(np.abs(middles - centre)))
    within = float(np.median(reached.spread[chosen]))
    least = max(float(np.hypot(between, within)), LEAST_SHARE * abs(centre), 1e-9)
    up = max(float(reached.high[chosen].max()) - centre, least)
    down = max(centre - float(reached.low[chosen].min()), least)
    return _Class(centre, between, within, up, down)


def _farthest(reached: Mapping[str, _Reached], others: npt.NDArray[np.bool_], index: int) -> float:
    """How far an asset went on the vital where it went farthest, in reaches of the others."""
    shares = [0.0]
    for each in reached.values():
        own = _class_of(each, others)
        shares += [(each.high[index] - own.centre) / own.up, (own.centre - each.low[index]) / own.down]
    return float(max(shares))


def _channel(own: _Class, room: float, unit: str) -> ChannelPrior:
    return ChannelPrior(
        centre=own.centre,
        between=own.between,
        within=own.within,
        low=own.centre - own.down,
        high=own.centre + own.up,
        low_limit=own.centre - own.down * room * CLEARLY,
        high_limit=own.centre + own.up * room * CLEARLY,
        unit=unit,
    )
