"""River's HalfSpaceTrees on eight channels, in river's own environment: prints one JSON document.

The same work as ours: every sample is scored, then learnt; default settings, scaled to 0..1 as it asks for. River has
no thresholds, states, findings or snapshots of its own, so this is the smallest program that could use it.
"""

from __future__ import annotations

import gc
import importlib
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from benchmarks.edge.memory import process_memory

CHANNELS = 8
ROWS = 4096
ROUNDS, SAMPLES = 20, 100


def main() -> int:
    anomaly, preprocessing = (importlib.import_module(f"river.{name}") for name in ("anomaly", "preprocessing"))
    model = preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(seed=1)
    rows = healthy(random.Random(1))
    for _ in range(ROWS):
        judge(model, next(rows))
    gc.collect()
    used = process_memory()
    taken_s = []
    for _ in range(ROUNDS):
        stretch = [next(rows) for _ in range(SAMPLES)]
        started_s = time.process_time()
        for row in stretch:
            judge(model, row)
        taken_s.append(time.process_time() - started_s)
    sample_us = statistics.median(taken_s) / SAMPLES * 1e6
    json.dump({"version": version("river"), "memory": asdict(used), "sample_us": sample_us}, sys.stdout)
    return 0


def judge(model: Any, row: dict[str, float]) -> float:
    """Score a row, then learn it."""
    score: float = model.score_one(row)
    model.learn_one(row)
    return score


def healthy(rng: random.Random) -> Iterator[dict[str, float]]:
    """Autocorrelated noise around 10, without end."""
    noise = [0.0] * CHANNELS
    while True:
        noise = [0.6 * value + 0.8 * rng.gauss(0.0, 1.0) for value in noise]
        yield {f"channel_{index}": 10.0 + value for index, value in enumerate(noise)}


if __name__ == "__main__":
    sys.exit(main())
