"""Statistics in which each life weighs one, however many rows it has. Pure."""

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
    """(n,) one over the rows of the row's own life."""
    _, inverse, counts = np.unique(unit, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / counts[inverse])


def quantile_of_lives(
    values: Floats, unit: Units, ended: Flags, share: float, *, low: bool = False, lives: int | None = None
) -> float:
    """What the next life stays below with ``share`` (``low``: above), each life weighing one, by finitely many lives.

    ``lives``: how many teach in all, where these are only those at hand (None: these). A value of a life that has not
    ended is known only to be exceeded. Infinite when nothing can be said.
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


def pinball(off: Floats, share: float) -> Floats:
    """(n,) pinball loss of truths that lie ``off`` above a predicted ``share`` quantile."""
    return np.maximum(share * off, (share - 1.0) * off)


def student(share: float, freedom: int) -> float:
    """Student's t quantile: exact for 1 and 2 degrees of freedom, else Hill's expansion (4 digits from 3 on)."""
    if freedom == 1:
        return math.tan(math.pi * (share - 0.5))
    if freedom == 2:
        return (2.0 * share - 1.0) / math.sqrt(2.0 * share * (1.0 - share))
    z = NormalDist().inv_cdf(share)
    one = (z**3 + z) / 4.0
    two = (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0
    three = (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0
    return z + one / freedom + two / freedom**2 + three / freedom**3
