"""Statistics over rows of lives in which every life weighs one, however many rows it has. Pure."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from fleet_server.prognosis.rul.histories import Floats
from fleet_server.prognosis.survival import product_limit

Flags = npt.NDArray[np.bool_]
Units = npt.NDArray[np.int64]


def life_weights(unit: Units) -> Floats:
    """Weights (n,) of rows: one divided by the number of rows of the row's life; ``unit`` (n,) numbers the lives from
    0 on (numbers may be left out)."""
    return np.asarray(1.0 / np.bincount(unit)[unit])


def quantile_of_lives(
    values: Floats, unit: Units, ended: Flags, share: float, *, low: bool = False, lives: float | None = None
) -> float:
    """The bound below which (``low``: above which) a value of the next life lies with probability ``share``.

    ``values`` (n,) are in any unit, ``unit`` (n,) says to which life a value belongs; every life weighs one. A value
    whose ``ended`` (n,) is false is a lower bound (right-censored). The bound is corrected for the finite number of
    ``lives``: by default the lives in ``unit`` that ended; a caller that passes a part of its lives names their number
    (a fraction or infinity is allowed). The bound is infinite when the lives do not suffice.
    """
    lives = lives or len(np.unique(unit[ended]))
    corrected = min(1.0, share * (1.0 + 1.0 / lives)) if lives else 1.0
    if not lives:
        return -math.inf if low else math.inf
    distinct, beyond = product_limit(values, ended, life_weights(unit))
    if low:
        place = int(np.searchsorted(1.0 - beyond, 1.0 - corrected + 1e-12, side="right"))
        return float(distinct[min(place, len(distinct) - 1)])
    place = int(np.searchsorted(1.0 - beyond, corrected - 1e-9))
    return float(distinct[place]) if place < len(distinct) else math.inf


def independent_lives(
    values: Floats, unit: Units, ended: Flags, share: float, lives: int, *, low: bool = False
) -> float:
    """The number of lives with one row that would say as much about a quantile as ``lives`` lives with several rows.

    It is ``lives`` where all rows of a life lie on the same side of the quantile, and more where they do not: the
    design effect of cluster sampling. The factor is the variance between lives of a single row, divided by the variance
    between lives of the share of their rows that lies beyond the quantile.
    """
    values, unit = values[ended], unit[ended]
    if not len(unit):
        return float(lives)
    edge = quantile_of_lives(values, unit, np.ones(len(unit), dtype=bool), share, low=low, lives=math.inf)
    _, inverse, counts = np.unique(unit, return_inverse=True, return_counts=True)
    beyond = np.bincount(inverse, values < edge if low else values > edge) / counts
    between = float(beyond.var(ddof=1)) if len(beyond) > 1 else 0.0
    if between <= 0.0:
        return float(lives)
    return lives * max(1.0, float(beyond.mean() * (1.0 - beyond.mean())) / between)


def pinball(off: Floats, share: float) -> Floats:
    """Pinball loss (n,) of true values that lie ``off`` (n,) above the predicted quantile of ``share``."""
    return np.maximum(share * off, (share - 1.0) * off)


def student(share: float, freedom: int) -> float:
    """Quantile of Student's t distribution with ``freedom`` degrees of freedom.

    Exact for 1 and 2 degrees of freedom, otherwise by Hill's expansion, which is right to 4 digits from 3 on.
    """
    if freedom == 1:
        return math.tan(math.pi * (share - 0.5))
    if freedom == 2:
        return (2.0 * share - 1.0) / math.sqrt(2.0 * share * (1.0 - share))
    z = NormalDist().inv_cdf(share)
    one = (z**3 + z) / 4.0
    two = (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0
    three = (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0
    return z + one / freedom + two / freedom**2 + three / freedom**3
