"""One line of JSON for each figure a benchmark measures: name, value, unit, and how it compares with a peer."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from typing import TextIO


def report(
    name: str,
    value: float | None,
    unit: str,
    *,
    peer: str = "",
    peer_value: float | None = None,
    stream: TextIO | None = None,
) -> None:
    """Print one figure. ``ratio`` is ours over the peer's (a named alternative doing the same work), else null.

    ``value`` is None (null) when it could not be measured; the caller says why on standard error.
    """
    ratio = None if value is None or not peer_value else round(value / peer_value, 4)
    value = None if value is None else round(value, 6)
    figure = {"name": name, "value": value, "unit": unit, "peer": peer or None, "ratio": ratio}
    print(json.dumps(figure), file=stream or sys.stdout, flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0..1) of the values lie; of one value, that value."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=1000, method="inclusive")[min(998, max(0, round(share * 1000) - 1))]
