"""How far to trust each of two answers, from what they said out of fold. Pure."""

from __future__ import annotations

import numpy as np

from fleet_server.prognosis.rul.histories import Floats


def blend_weight(first: Floats, second: Floats, truth: Floats, weight: Floats) -> float:
    """Share of ``second`` (n,) within 0..1 that leaves the least weighted squared error to ``truth`` (n,).

    Zero when both answers are the same or nothing is known.
    """
    known = np.isfinite(first) & np.isfinite(second) & np.isfinite(truth)
    apart = (second - first)[known]
    power = float((weight[known] * apart * apart).sum())
    if power <= 0.0:
        return 0.0
    return float(np.clip((weight[known] * apart * (truth - first)[known]).sum() / power, 0.0, 1.0))
