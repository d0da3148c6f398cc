"""The plain sentence and the shape of a prognosis: counted literally, in right grammar, whatever was stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_server.api.reads.prognoses import likeness, thinned, usual_shape


def units(*ends: tuple[float, bool], mode: str = "bearing_seizure") -> list[dict[str, Any]]:
    return [{"remaining_h": hours, "failed": failed, "failure_mode": mode} for hours, failed in ends]


@pytest.mark.parametrize(
    ("component_type", "neighbours", "said"),
    [
        ("bearing", [], ""),
        ("bearing", units((61, True)), "1 past bearing looked like this; it seized after 61 h."),
        (
            "battery",
            units((200, False)),
            "1 past battery looked like this; it was replaced or still ran 8 days later.",
        ),
        ("bearing", units((5, True), (61, True)), "2 past bearings looked like this; both seized within 61 h."),
        (
            "bearing",
            units((5, True), (9.25, True), (300, False)),
            "3 past bearings looked like this; half of them seized within 9.2 h.",
        ),
        (
            "bearing",
            units((5, True), (10, False), (90, False)),
            "3 past bearings looked like this; 1 of them seized within 5.0 h, the other 2 were replaced in time or"
            " still ran.",
        ),
        (
            "battery",
            units((5, False), (90, False)),
            "2 past batteries looked like this; none of them failed within the 90 h they were watched.",
        ),
        (
            "no such thing",
            units((5, True), (6, True), (7, True)) + units((8, True), mode="unknown"),
            "4 past units looked like this; half of them failed within 6.0 h.",
        ),
        ("fan", units(*[(n, True) for n in range(1, 41)]), "The 40 past fans most like this one: half of them seized"
         " within 20 h."),
        ("fan", [{"remaining_h": None}, {"remaining_h": float("nan")}, {"remaining_h": True}, {}], ""),
    ],
)  # fmt: skip
def test_the_sentence(component_type: str, neighbours: list[dict[str, Any]], said: str) -> None:
    assert likeness(component_type, neighbours) == said


@given(
    lengths=st.lists(st.integers(2, 30), min_size=3, max_size=6),
    now_ratio=st.floats(0.1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_usual_way_starts_now_and_never_falls(lengths: list[int], now_ratio: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ended = []
    for length in lengths:
        hours = np.cumsum(rng.uniform(0.1, 10, length))
        ended.append((hours - hours[0], rng.uniform(0, 9, length), float(hours[-1] - hours[0])))
    shape = usual_shape(ended, now_ratio)
    shares, ratios = zip(*shape, strict=True)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert ratios[0] == pytest.approx(now_ratio, abs=1e-4)
    assert all(np.diff(ratios) >= 0) and ratios[-1] >= 1.25 * now_ratio - 1e-3


def test_few_failures_have_no_usual_way() -> None:
    course = (np.array([0.0, 5.0]), np.array([1.0, 3.0]), 5.0)
    assert usual_shape([course, course], 2.0) == []


@given(size=st.integers(1, 500), most=st.integers(2, 60), since=st.floats(-10, 600))
def test_a_thinned_course_keeps_its_end_and_its_bound(size: int, most: int, since: float) -> None:
    hours = np.arange(size, dtype=np.float64)
    points = thinned(hours, hours * 2, since, most)
    assert len(points) <= most
    if since <= size - 1:
        assert points[-1] == (size - 1, 2 * (size - 1))
        assert [h for h, _ in points] == sorted({h for h, _ in points})
    else:
        assert points == []
