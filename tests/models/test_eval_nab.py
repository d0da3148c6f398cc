"""The benchmark's score against cases worked out by hand, and its fixed points: silent 0, perfect 100."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from models.detection_evaluation.nab import (
    NEVER,
    PROFILES,
    Series,
    probation_rows,
    read_windows,
    scaled_sigmoid,
    score_alarms,
    score_at,
    score_corpus,
)


def value(position: float) -> float:
    return 2 / (1 + math.exp(5 * position)) - 1


def fired(rows: int, *at: int, windows: tuple[tuple[int, int], ...] = ((50, 59),)) -> Series:
    scores = np.zeros(rows)
    scores[list(at)] = 1.0
    return Series(np.arange(rows), scores, windows)


def raw(series: Series, profile: str = "standard") -> float:
    return score_at({"one": series}, 0.5)[profile].series["one"].raw


def test_probation_is_a_share_of_the_rows_and_bounded() -> None:
    assert [probation_rows(rows) for rows in (0, 10, 1000, 5000, 20_000)] == [0, 1, 150, 750, 750]


def test_the_sigmoid_at_its_published_points() -> None:
    points = scaled_sigmoid(np.array([-1.0, -0.5, 0.0, 1.0, 3.0, 9.0]))
    assert points == pytest.approx([0.98661, 0.84828, 0.0, -0.98661, -1.0, -1.0], abs=1e-5)


def test_a_silent_detector_has_0_in_every_profile() -> None:
    for result in score_at({"one": fired(100)}, 0.5).values():
        assert (result.score, result.tp, result.fp, result.fn) == (0.0, 0, 0, 1)


def test_a_perfect_detector_has_100_in_every_profile() -> None:
    corpus = {"one": fired(100, 50), "two": fired(200, 60, 150, windows=((60, 79), (150, 180))), "none": fired(30)}
    corpus["none"] = fired(30, windows=())
    for result in score_corpus(corpus).values():
        assert result.score == pytest.approx(100.0)
        assert (result.threshold, result.tp, result.fp, result.fn) == (1.0, 3, 0, 0)


def test_only_the_earliest_detection_in_a_window_counts_and_by_its_position() -> None:
    # row 55 of the window 50..59: (60 - 55) / 10 of the window lies ahead
    assert raw(fired(100, 55)) == pytest.approx(value(-0.5) / value(-1.0))
    assert raw(fired(100, 55, 56, 59)) == raw(fired(100, 55))
    assert raw(fired(100, 59)) == pytest.approx(value(-0.1) / value(-1.0))


def test_false_rows_cost_by_their_distance_after_the_window_before() -> None:
    missed = -1.0
    assert raw(fired(100, 30)) == pytest.approx(missed - 0.11)
    assert raw(fired(100, 63)) == pytest.approx(missed + 0.11 * value(4 / 9))
    assert raw(fired(100, 60, 63)) == pytest.approx(missed + 0.11 * (value(1 / 9) + value(4 / 9)))
    assert raw(fired(100, 99)) == pytest.approx(missed - 0.11)
    assert raw(fired(100, 30), "reward_low_FP") == pytest.approx(missed - 0.22)
    assert raw(fired(100, 30), "reward_low_FN") == pytest.approx(2 * missed - 0.11)


def test_nothing_counts_during_probation() -> None:
    assert raw(fired(100, *range(15))) == raw(fired(100))
    # a window that reaches out of probation counts, with its rows after it only; one inside it does not exist
    assert raw(fired(100, 12, windows=((10, 19),))) == -1.0
    assert raw(fired(100, 15, windows=((10, 19),))) == pytest.approx(value(-0.5) / value(-1.0))
    assert raw(fired(100, windows=((2, 9),))) == 0.0


def test_the_threshold_is_the_corpus_best() -> None:
    rng = np.random.default_rng(5)
    corpus = {}
    for name in "abc":
        scores = np.round(rng.uniform(0, 1, 400), 2)
        scores[rng.integers(100, 400, 3)] += 0.5
        corpus[name] = Series(np.arange(400), scores, ((120, 150), (300, 330)))
    best = score_corpus(corpus)
    levels = np.unique(np.concatenate([np.asarray(item.scores) for item in corpus.values()]))
    for profile in PROFILES:
        swept = [score_at(corpus, float(level))[profile].score for level in levels]
        assert best[profile].score == pytest.approx(max(0.0, *swept))
        assert best[profile].score == score_at(corpus, best[profile].threshold)[profile].score


def test_scores_that_tell_nothing_end_in_silence() -> None:
    noisy = Series(np.arange(1000), np.full(1000, 0.3), ((900, 910),))
    result = score_corpus({"one": noisy})["standard"]
    assert (result.score, result.threshold) == (0.0, NEVER)
    assert score_corpus({"one": Series(np.arange(9), np.full(9, np.nan), ((5, 6),))})["standard"].fn == 1


def test_groups_use_the_threshold_of_the_whole() -> None:
    result = score_corpus({"good": fired(100, 50), "bad": fired(100)})["standard"]
    assert (result.of(["good"]), result.of(["bad"]), result.score) == pytest.approx((100.0, 0.0, 50.0))
    assert math.isnan(result.of([]))


def test_alarms_count_at_their_onsets() -> None:
    alarms = np.zeros(100, dtype=bool)
    alarms[30:40] = alarms[50:70] = True
    result = score_alarms({"one": Series(np.arange(100), np.zeros(100), ((50, 59),), alarms)})["standard"]
    assert (result.tp, result.fp, result.fn) == (1, 1, 0)
    assert result.series["one"].raw == pytest.approx(1.0 - 0.11)


def test_malformed_series_are_refused() -> None:
    with pytest.raises(ValueError, match="step back"):
        score_corpus({"one": Series([2, 1], [0.0, 0.0], ())})
    with pytest.raises(ValueError, match="scores"):
        score_corpus({"one": Series([1, 2], [0.0], ())})
    with pytest.raises(ValueError, match="overlap"):
        score_corpus({"one": fired(100, windows=((50, 60), (55, 70)))})
    with pytest.raises(ValueError, match="no alarms"):
        score_alarms({"one": fired(100)})


def test_labels_are_read(tmp_path: Path) -> None:
    path = tmp_path / "combined_windows.json"
    path.write_text(json.dumps({"a.csv": [["2015-03-03 04:37:53.000000", "2015-03-04 13:37:53.000000"]], "b.csv": []}))
    windows = read_windows(path)
    assert windows["a.csv"] == [(np.datetime64("2015-03-03T04:37:53"), np.datetime64("2015-03-04T13:37:53"))]
    assert windows["b.csv"] == []
