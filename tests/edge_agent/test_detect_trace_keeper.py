"""What a component's tracer keeps while it is judged: what the judge saw, whatever the blocks, and over restarts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from edge_agent.acquisition.api import AssetDescription
from edge_agent.detection.api import AssetDetection
from edge_agent.detection.pipeline import build_detection, retrace
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.snapshot import dump, load
from edge_agent.detection.trace.keeper import Kept, TraceKeeper, load_kept
from edge_agent.detection.trace.memory import Trace
from edge_agent.detection.trace.records import STATES
from fleet_core.assets import AssetClass
from fleet_core.errors import BadInput
from fleet_core.telemetry import DetectionState, Finding, MetricSpec

START_US, TICK_US = 1_790_000_000_000_000, 1_000_000
NAMES = ("load", "current", "temperature")
METRICS = (MetricSpec("load", "%"), MetricSpec("current", "A"), MetricSpec("temperature", "Cel"))
ROWS, ONSET = 700, 450


def course() -> np.ndarray:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(ROWS, 3)) + np.array((50, 10, 40))
    rows[:, 1] += 0.5 * (rows[:, 0] - 50)
    rows[ONSET:, 2] += 0.1 * np.arange(ROWS - ONSET)
    rows[::50, 1] = np.nan
    return rows


TIMES_US = START_US + TICK_US * np.arange(ROWS)
TABLE = course()


def traced(sizes: Iterator[int], restart_after: int = ROWS) -> tuple[TraceKeeper, list[Finding]]:
    """The table judged in blocks of these sizes, with a restart in between; the component's tracer, its findings."""
    asset = AssetDescription("a", AssetClass.ROBOT, "m", "s", METRICS)
    settings = DetectionSettings(learn_span_h=0.0, slow_ticks=2)
    detection = build_detection(asset, settings)
    start, findings = 0, []
    while start < ROWS:
        stop = min(ROWS, start + next(sizes))
        stop = restart_after if start < restart_after < stop else stop
        block = detection.on_block(NAMES, TIMES_US[start:stop], TABLE[start:stop])
        findings += [event for event in block.events if isinstance(event, Finding)]
        if stop == restart_after:
            restarted = build_detection(asset, settings)
            restarted.restore(detection.snapshot())
            detection = restarted
        start = stop
    return detection._slots["asset"].trace, findings  # what it keeps is the subject


@pytest.fixture(scope="module")
def whole() -> tuple[TraceKeeper, list[Finding]]:
    return traced(itertools.repeat(64))


def test_ticks_stand_beside_what_was_expected_of_them(whole: tuple[TraceKeeper, list[Finding]]) -> None:
    tracer, findings = whole
    recent = tracer.ticks.recent()
    np.testing.assert_array_equal(recent.first_us, TIMES_US[-256:])
    np.testing.assert_allclose(recent.values, TABLE[-256:], rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(recent.deviation), np.isnan(TABLE[-256:]))
    # the current follows the load, and so does what is expected of it
    assert np.corrcoef(recent.expected[:, 1], TABLE[-256:, 0])[0, 1] > 0.95
    calm, late = recent.deviation[:5], recent.deviation[-5:]
    assert np.nanmax(np.abs(calm)) < 5 and np.nanmin(late[:, 2]) > 10
    assert STATES[recent.states[-1]] is DetectionState.CRITICAL and recent.evidence[-1] > 6
    assert findings and set(tracer.ticks.findings) == {each.finding_id for each in findings}


def test_what_was_learnt_and_decided_is_marked(whole: tuple[TraceKeeper, list[Finding]]) -> None:
    ticks, means = whole[0].ticks, whole[0].means
    kinds = [mark.kind for mark in ticks.markers]
    assert kinds[0] in ("learnt", "state") and {"learnt", "refit", "state", "finding"} <= set(kinds)
    assert ticks.learnt is not None and ticks.learnt.rows >= 144 and ticks.learnt.limits.shape == (3,)
    assert means.learnt is not None and means.learnt.rows == 144
    assert "aakr" in ticks.detectors and "aakr" in means.detectors and "cusum" not in means.detectors


def test_means_are_those_of_the_ticks(whole: tuple[TraceKeeper, list[Finding]]) -> None:
    means = whole[0].means.recent()
    at = np.searchsorted(TIMES_US, means.first_us)
    np.testing.assert_array_equal(TIMES_US[at], means.first_us)
    pairs = np.stack((TABLE[at - 1], TABLE[at]))
    np.testing.assert_allclose(means.values[:, 2], pairs.mean(axis=0)[:, 2], rtol=1e-5)


@pytest.mark.parametrize(("sizes", "restart_after"), [([1], ROWS), ([7, 64, 3], ROWS), ([64], 300), ([64], 500)])
def test_blocks_and_restarts_change_nothing(
    whole: tuple[TraceKeeper, list[Finding]], sizes: list[int], restart_after: int
) -> None:
    other, findings = traced(itertools.cycle(sizes), restart_after)
    assert [each.finding_id for each in findings] == [each.finding_id for each in whole[1]]
    for mine, its in ((whole[0].ticks, other.ticks), (whole[0].means, other.means)):
        assert mine.markers == its.markers and mine.learnt is not None and its.learnt is not None
        assert mine.learnt.digest == its.learnt.digest and mine.detectors == its.detectors
        one, two = mine.recent(), its.recent()
        for name in ("first_us", "values", "expected", "deviation", "evidence"):
            np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(mine.newest_votes(), its.newest_votes(), rtol=1e-4, atol=1e-5)


def test_a_reader_needs_the_snapshot_only(whole: tuple[TraceKeeper, list[Finding]]) -> None:
    kept = load_kept(load(dump(whole[0].state())))
    assert isinstance(kept, Kept) and kept.channels[1] == ("current", "A")
    assert kept.ticks.findings == whole[0].ticks.findings
    state = whole[0].state()
    for wrong in (
        None,
        {},
        {**state, "channels": [{"name": "a", "unit": "1"}]},
        {**state, "means": {"trace": {"shape": {}}}},
    ):
        with pytest.raises(BadInput):
            load_kept(wrong)


DAMAGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "channels": lambda state: {**state, "shape": {**state["shape"], "channels": len(NAMES) + 1}},
    "shape by position": lambda state: {**state, "shape": list(state["shape"].values())},
    "ring": lambda state: {**state, "ring": np.zeros((4, 4))},
    "spans used": lambda state: {**state, "spans": {**state["spans"], "used": 99_999}},
    "means": lambda state: {**state, "spans": {**state["spans"], "means": np.zeros(3)}},
    "findings": lambda state: {**state, "findings": [{"detected_us": 1, "finding": "no finding", "slow": False}]},
    "learnt": lambda state: {**state, "learnt": [1]},
    "markers": lambda state: {**state, "markers": None},
    "empty": lambda _state: {},
}
"""What may have happened to one trace in a snapshot."""
ASSET = AssetDescription("a", AssetClass.ROBOT, "m", "s", METRICS)
SETTINGS = {"learn_span_h": 0.0, "slow_ticks": 2}


@pytest.fixture(scope="module")
def standing() -> AssetDetection:
    """A detection both of whose planes have learnt."""
    detection = build_detection(ASSET, SETTINGS)
    detection.on_block(NAMES, TIMES_US[:ONSET], TABLE[:ONSET])
    return detection


@pytest.mark.parametrize("plane", ["ticks", "means"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_trace_costs_no_verdict_and_leaves_a_fresh_one(
    standing: AssetDetection, damage: str, plane: str
) -> None:
    tree = load(standing.snapshot())
    kept = tree["slots"]["asset"]["trace"]
    other = "means" if plane == "ticks" else "ticks"
    assert len(getattr(load_kept(kept), plane).recent())
    kept[plane]["trace"] = DAMAGES[damage](kept[plane]["trace"])
    again = build_detection(ASSET, SETTINGS)
    again.restore(dump(tree))
    assert again.views() == standing.views()
    tracer = again._slots["asset"].trace  # what it keeps is the subject
    fresh, whole = getattr(tracer, plane), getattr(tracer, other)
    assert not len(fresh.recent()) and not len(fresh.whole()) and fresh.learnt is None and not fresh.markers
    assert len(whole.recent()) and whole.learnt is not None


def test_a_trace_that_is_no_trace_costs_no_verdict() -> None:
    asset = AssetDescription("a", AssetClass.ROBOT, "m", "s", METRICS)
    detection = build_detection(asset, {"learn_span_h": 0.0})
    detection.on_block(NAMES, TIMES_US[:300], TABLE[:300])
    tree = load(detection.snapshot())
    tree["slots"]["asset"]["trace"] = {"ticks": 5}
    again = build_detection(asset, {"learn_span_h": 0.0})
    again.restore(dump(tree))
    assert again.views() == detection.views()
    again.on_block(NAMES, TIMES_US[300:], TABLE[300:])
    tracer = again._slots["asset"].trace  # what it keeps is the subject
    assert isinstance(tracer.ticks, Trace) and len(tracer.ticks.recent()) == 256


def test_tracing_anew_starts_with_nothing() -> None:
    detection = build_detection(AssetDescription("a", AssetClass.ROBOT, "m", "s", METRICS), {})
    detection.on_block(NAMES, TIMES_US[:10], TABLE[:10])
    (tracer,) = retrace(detection, 512).values()
    assert not len(tracer.ticks.recent())
