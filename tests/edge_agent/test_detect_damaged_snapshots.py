"""A snapshot is good or refused: what restore takes, detection goes on from; all else raises BadInput.

Real snapshots, of this version and the one before, are damaged at one place at a time, seeded.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from support.old_snapshots import CASES, Case, kept

from edge_agent.detection import snapshot
from edge_agent.detection.api import AssetDetection
from fleet_core.errors import BadInput
from fleet_core.telemetry import Sample

TICKS, BY_SAMPLES = 300, 24
MUTANTS = 6
"""Of each snapshot, by the test's seed."""
VALUES = (
    None, [], {}, "x", "1990", True, -1, 0, -5.5, 1e308, 10**30, float("inf"), float("nan"), [[1]],
    {"__array__": "", "shape": [0]}, {"__array__": "AAAAAAAA8D8=", "shape": [1]},
    {"__array__": "AAAAAAAA8D8=", "shape": [1, 1]}, {"__array__": "AAAAAAAA+H8=", "shape": [1]},
)  # fmt: skip
Tree = dict[str, Any]


def packed(tree: Tree) -> bytes:
    return zlib.compress(json.dumps(tree).encode(), 1)


@cache
def trees(name: str) -> tuple[Tree, Tree]:
    """A case's snapshot in the second layout and in this one, as JSON values."""
    content = kept(name)[0]
    detection = CASES[name].build()
    detection.restore(content)
    return json.loads(zlib.decompress(content)), json.loads(zlib.decompress(detection.snapshot()))


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a tree; of a long list the first few."""
    if path:
        yield path
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree[:6]) if isinstance(tree, list) else ()
    for key, value in parts:
        yield from places(value, (*path, key))


def damaged(tree: Tree, path: tuple[Any, ...], value: Any) -> Tree:
    """A copy with one value in another's place; without it where the value is ``...``."""
    found = copy.deepcopy(tree)
    node: Any = found
    for key in path[:-1]:
        node = node[key]
    if value is ... and isinstance(node, dict):
        del node[path[-1]]
    else:
        node[path[-1]] = None if value is ... else value
    return found


def go_on(case: Case, detection: AssetDetection, name: str) -> None:
    """Judge ``TICKS`` rows, the first few sample by sample, show what there is and save it."""
    inputs = kept(name)[1]
    step_us = int(inputs.times_us[1] - inputs.times_us[0])
    times_us = inputs.times_us[0] + np.arange(TICKS) * step_us
    values = inputs.values[np.arange(TICKS) % len(inputs.values)]
    for time_us, row in zip(times_us[:BY_SAMPLES].tolist(), values[:BY_SAMPLES].tolist(), strict=True):
        detection.on_samples([Sample(n, time_us, v) for n, v in zip(case.names, row, strict=True) if v == v])
        detection.views()
    detection.snapshot()
    detection.on_block(case.names, times_us[BY_SAMPLES:], values[BY_SAMPLES:])
    detection.views()
    again = case.build()
    again.restore(detection.snapshot())


def check(name: str, tree: Tree) -> bool:
    """Restore a tree and go on; was it taken?"""
    case = CASES[name]
    detection = case.build()
    try:
        detection.restore(packed(tree))
    except BadInput:
        return False
    go_on(case, detection, name)
    return True


# A damaged number may be a wild one, and numpy's warnings of what is wild are no exceptions in an agent.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_a_damaged_snapshot_is_refused_or_detection_goes_on(name: str, version: int) -> None:
    tree = trees(name)[version - 2]
    rng = random.Random(f"{name} {version}")
    everywhere = list(places(tree))
    taken = [check(name, damaged(tree, rng.choice(everywhere), rng.choice((..., *VALUES)))) for _ in range(MUTANTS)]
    assert not all(taken)


SLOT = ("slots", "asset")
PLACES = [
    (*SLOT, "aligner", "_periods"),
    (*SLOT, "aligner", "_closed_us"),
    (*SLOT, "aligner", "_fast"),
    (*SLOT, "judge", "health", "_raw"),
    (*SLOT, "judge", "health", "spikes"),
    (*SLOT, "judge", "tracker", "state"),
    (*SLOT, "judge", "pending", "rows"),
    (*SLOT, "judge", "fast", "evidence"),
    (*SLOT, "judge", "fast", "now_us"),
    (*SLOT, "judge", "fast", "episode", "room"),
    (*SLOT, "judge", "fast", "learner", "first_us"),
    (*SLOT, "judge", "fast", "learner", "lagged"),
    (*SLOT, "judge", "fast", "learner", "kept", "regimes"),
    (*SLOT, "judge", "fast", "learner", "model", "baseline", "centre"),
    (*SLOT, "judge", "fast", "learner", "model", "baseline", "fall_share"),
    (*SLOT, "judge", "fast", "learner", "model", "detectors", "pca", "weights"),
    (*SLOT, "judge", "fast", "learner", "model", "memories", "ewma"),
    (*SLOT, "judge", "fast", "learner", "model", "thresholds", "level", "limit"),
    (*SLOT, "judge", "slow", "learner", "period_rows"),
    (*SLOT, "waiting", 0, "time_us"),
    (*SLOT, "waiting", 0, "row"),
    (*SLOT, "waiting", 0, "regime"),
    (*SLOT, "memory", "fast"),
    (*SLOT, "memory", "revision"),
    (*SLOT, "relearnt_us"),
    (*SLOT, "ticked_us"),
    ("counts", "metric_unknown"),
    ("regime",),
    ("speeds",),
]


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path[2:] or path)))
def test_what_is_no_state_of_its_place_is_refused(path: tuple[Any, ...]) -> None:
    tree = trees("waiting")[1]
    case = CASES["waiting"]
    for value in ("x", {"a": 1}, [[1]], 10**30, -5.5, {"__array__": "AAAAAAAA8D8=", "shape": [1, 1, 1]}):
        with pytest.raises(BadInput):
            case.build().restore(packed(damaged(tree, path, value)))


def test_states_that_contradict_each_other_are_refused() -> None:
    """Each is well-formed by itself, and detection would stand still or fail by it hours later."""
    tree, case = trees("waiting")[1], CASES["waiting"]
    newest_us = tree["slots"]["asset"]["aligner"]["_newest_us"]
    for path, value in (
        ((*SLOT, "judge", "tracker", "state"), "learning"),
        ((*SLOT, "aligner", "_closed_us"), newest_us + 1),
        ((*SLOT, "aligner", "_newest_us"), newest_us + 1),
        ((*SLOT, "aligner", "_fast"), []),
        ((*SLOT, "aligner", "_fast"), [7]),
        ((*SLOT, "judge", "fast", "episode"), {**tree["slots"]["asset"]["judge"]["fast"]["episode"], "began_us": 1,
                                              "calm_rows": 99}),
        ((*SLOT, "judge", "fast", "learner", "model"), None),
    ):  # fmt: skip
        with pytest.raises(BadInput):
            case.build().restore(packed(damaged(tree, path, value)))


def test_a_refused_snapshot_leaves_nothing_behind() -> None:
    """The second component's state is damaged: the first one's, taken already, is dropped with it."""
    name = "alarm"
    tree, case = trees(name)[1], CASES[name]
    for path in (("slots", "drive_motor", "judge", "health", "_raw"), ("counts",), ("speeds",), ("regime",)):
        detection, fresh = case.build(), case.build()
        renamed = damaged(tree, ("slots", "drive_bearing", "serial"), "another")
        with pytest.raises(BadInput):
            detection.restore(packed(damaged(renamed, path, "x")))
        assert snapshot.load(detection.snapshot()).keys() == snapshot.load(fresh.snapshot()).keys()
        assert detection.snapshot() == fresh.snapshot()


@pytest.mark.parametrize("depth", [200, 400, 480, 600, 900, 50_000])
@pytest.mark.parametrize(("opens", "closes"), [('{"a":', "}"), ("[", "]")])
def test_deep_nesting_is_bad_input(depth: int, opens: str, closes: str) -> None:
    text = f'{{"version":3,"a":{opens * depth}1{closes * depth}}}'
    with contextlib.suppress(BadInput):  # how deep is too deep depends on the stack there is
        snapshot.load(zlib.compress(text.encode()))
    with pytest.raises(BadInput):
        CASES["waiting"].build().restore(zlib.compress(text.encode()))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400, "x", None, [], -5.5])
def test_numbers_of_the_second_layout_that_are_none_are_bad_input(value: Any) -> None:
    tree = trees("waiting")[0]
    for path in ((*SLOT, "relearnt_us"), ("speeds",), (*SLOT, "judge", "fast", "ages"), (*SLOT, "waiting", 0)):
        with pytest.raises(BadInput):
            CASES["waiting"].build().restore(packed(damaged(tree, path, value)))


@pytest.mark.parametrize("shape", [[-7], [2**40, 2**40], [10**30], "x", [1.5], None, [[1]]])
def test_an_array_of_no_possible_shape_is_bad_input(shape: Any) -> None:
    text = json.dumps({"version": 3, "a": {"__array__": "AAAAAAAA8D8=", "shape": shape}})
    with pytest.raises(BadInput, match="array"):
        snapshot.load(zlib.compress(text.encode()))
