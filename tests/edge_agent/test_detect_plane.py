"""One plane: when it learns, what it learns from later, what it believes, and what it writes down of that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edge_agent.arrays import FloatArray
from edge_agent.detection import snapshot
from edge_agent.detection.healthy.decisions import Decision, DecisionKind
from edge_agent.detection.healthy.learner import KEPT_DECISIONS
from edge_agent.detection.healthy.plane_settings import PlaneEvidence, PlaneSettings, PlaneSetup
from edge_agent.detection.healthy.rows import growing
from edge_agent.detection.judging.plane import Plane, load_plane
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.tuning import CLEARLY_BEYOND, PlaneTuning

START_US = 1_790_000_000_000_000
TEN_MINUTES_US = 600_000_000
SECOND_US = 1_000_000
A_DAY = 144
DETECTORS: dict[str, dict[str, Any]] = {"cusum": {}, "ewma": {}, "level": {}, "pca": {}}


def setup(learn_rows: int = 60, span_h: float = 24.0, **levels: Any) -> PlaneSetup:
    settings = DetectionSettings(learn_ticks=learn_rows, learn_span_h=span_h)
    return PlaneSetup(2, (), PlaneSettings(DETECTORS, learn_rows, span_h, 1500, PlaneTuning(**levels)), settings)


def plane(**levels: Any) -> Plane:
    return Plane(setup(**levels))


def noise(rows: int, seed: int = 1) -> FloatArray:
    return np.random.default_rng(seed).normal(10, 1, (rows, 2))


def parts(judged: Plane, rows: FloatArray, step_us: int, after: int = 0) -> Iterator[PlaneEvidence]:
    times_us = START_US + (after + np.arange(len(rows), dtype=np.int64)) * step_us
    done = 0
    while done < len(rows):
        course = judged.run(rows[done:], np.zeros((len(rows) - done, 0)), times_us[done:])
        assert 1 <= len(course.evidence) == len(course.believed) == len(course.channels) <= len(rows) - done
        yield course
        done += len(course.evidence)


def play(judged: Plane, rows: FloatArray, step_us: int, after: int = 0) -> tuple[FloatArray, FloatArray]:
    """Evidence and what is believed of it."""
    courses = list(parts(judged, rows, step_us, after))
    return np.concatenate([each.evidence for each in courses]), np.concatenate([each.believed for each in courses])


def notes(judged: Plane) -> str:
    return "; ".join(decision.text for decision in judged.learner.decisions)


def test_a_day_is_learnt_where_it_is_within_reach() -> None:
    judged = plane()
    play(judged, noise(A_DAY - 1), TEN_MINUTES_US)
    assert judged.model is None and 0.9 < judged.learner.learned_fraction < 1
    play(judged, noise(1), TEN_MINUTES_US, A_DAY - 1)
    assert judged.learner.learned_fraction == 1 and judged.learner.learnt_rows == A_DAY and judged.young
    assert judged.learner.learnt_us == (START_US, START_US + (A_DAY - 1) * TEN_MINUTES_US)


def test_where_it_is_not_rows_are_counted() -> None:
    judged = plane()
    play(judged, noise(60), SECOND_US)
    assert judged.learner.learned_fraction == 1 and judged.learner.learnt_rows == 60 and not judged.young
    assert judged.learner.decisions == [Decision(DecisionKind.LEARNT, START_US + 59 * SECOND_US, "learnt from 60 rows")]


def test_it_is_fitted_again_on_more_rows_while_nothing_stands() -> None:
    judged = plane()
    evidence, believed = play(judged, noise(60 * 15), SECOND_US)
    assert [decision.text for decision in judged.learner.decisions] == [
        "learnt from 60 rows",
        *(f"refitted from {60 * times} rows" for times in (2, 4, 7, 14)),
    ]
    assert evidence.max() < 1 and np.array_equal(evidence, believed)


def test_a_digest_names_what_was_fitted() -> None:
    one, two = plane(), plane()
    play(one, noise(60), SECOND_US)
    play(two, noise(60), SECOND_US)
    first = one.learner.digest
    assert first and first == two.learner.digest
    play(one, noise(61, 2), SECOND_US, 60)
    assert one.learner.digest != first


def test_suspicious_rows_are_not_learnt_from() -> None:
    judged = plane()
    play(judged, noise(130), SECOND_US)
    rows = noise(300, 3)
    rows[:, 0] += np.linspace(0, 30, 300)
    _, believed = play(judged, rows, SECOND_US, 130)
    assert believed[-1] > 4 and judged.learner.learnt_rows <= 240
    assert "baseline fixed: suspicious rows are not learnt from" in notes(judged)


def test_a_step_soon_after_learning_that_stands_still_is_learnt_anew() -> None:
    judged = plane()
    rows = noise(200)
    rows[80:] += 12.0
    _, believed = play(judged, rows, SECOND_US)
    # an alarm takes so many rows; when they are full it is put on trial
    assert judged.model is not None and np.count_nonzero(believed >= 1) < judged.model.raise_ticks
    assert "deviation soon after learning stood still: learnt anew" in notes(judged)
    evidence, _ = play(judged, noise(100, 5) + 12.0, SECOND_US, 200)
    assert evidence.max() < 1


def test_a_step_soon_after_learning_that_grows_is_a_fault() -> None:
    judged = plane()
    rows = noise(200)
    rows[80:, 0] += 6 * np.exp(np.arange(120) / 30)
    _, believed = play(judged, rows, SECOND_US)
    assert believed[-1] > 4 and "deviation soon after learning grows: a fault" in notes(judged)


def test_without_probation_a_step_is_believed_at_once() -> None:
    judged = plane(probation=False)
    rows = noise(120)
    rows[80:] += 12.0
    _, believed = play(judged, rows, SECOND_US)
    assert believed[85:].min() > 1


def test_what_rises_and_subsides_while_young_is_experience() -> None:
    judged = plane()
    days = noise(6 * A_DAY)
    days[400:430, 0] += 2.0
    evidence, believed = play(judged, days, TEN_MINUTES_US)
    assert 1 < evidence[400:430].max() < 4 and believed.max() < 1
    assert "what rose and subsided by itself is learnt as experience" in notes(judged)
    # the second time it is known
    again = noise(2 * A_DAY, 6)
    again[100:130, 0] += 2.0
    later, _ = play(judged, again, TEN_MINUTES_US, 6 * A_DAY)
    assert later.max() < evidence.max()


def test_what_is_far_beyond_is_believed_also_while_young() -> None:
    judged = plane()
    days = noise(3 * A_DAY)
    days[400:, 0] += 60.0
    _, believed = play(judged, days, TEN_MINUTES_US)
    assert believed[:400].max() < 1 and believed[-1] > 4 and judged.young


def test_what_grows_beyond_patience_is_believed_and_what_stands_still_becomes_healthy() -> None:
    growth = np.linspace(0, 1, 5 * A_DAY)
    for wear, note in ((1 + 9 * growth, "baseline fixed"), (0.8 + 0 * growth, "what stood still through")):
        judged = plane()
        play(judged, noise(2 * A_DAY), TEN_MINUTES_US)
        days = noise(len(growth), 7)
        days[:, 0] += wear
        _, believed = play(judged, days, TEN_MINUTES_US, 2 * A_DAY)
        assert note in notes(judged)
        assert (believed[-1] > 1) == (believed.max() > 1) == (note == "baseline fixed")


def test_a_grown_baseline_gives_room_once_to_what_came_and_went() -> None:
    judged = plane()
    play(judged, noise(15 * A_DAY), TEN_MINUTES_US)
    assert not judged.young and judged.episode.room == 1
    rows = noise(A_DAY, 8)
    rows[40:70, 0] += 1.3
    evidence, _ = play(judged, rows, TEN_MINUTES_US, 15 * A_DAY)
    assert evidence.max() > 0.8 and 1 < judged.episode.room <= 3 and "limits" in notes(judged)
    again, believed = play(judged, rows, TEN_MINUTES_US, 16 * A_DAY)
    assert believed.max() < 1 and again.max() < evidence.max()


def test_evidence_must_stand_where_that_is_asked() -> None:
    impatient, patient = plane(probation=False), plane(probation=False, stand_h=100 / 3600)
    rows = noise(300)
    rows[200:, 0] += 3.2
    both = [play(each, rows, SECOND_US) for each in (impatient, patient)]
    np.testing.assert_array_equal(both[0][0], both[1][0])
    over = both[0][0] >= 1
    held = over & (both[0][0] < CLEARLY_BEYOND)
    assert held[200:].any(), "the step is meant to lie between the limit and what is clearly beyond it"
    assert (both[1][1][held] < 1).all() and np.array_equal(both[1][1][~over], both[0][1][~over])


def test_the_further_beyond_the_limit_the_shorter_must_evidence_stand() -> None:
    rows, stood = noise(500), []
    for step in (1.3, 1.5, 1.7):
        rows[200:, 0] = rows[:200, 0].mean() + step
        evidence, believed = play(plane(probation=False, stand_h=60 / 3600), rows, SECOND_US)
        over, alarm = (int(np.flatnonzero(each[200:] >= 1)[0]) for each in (evidence, believed))
        assert evidence[200 + alarm] < CLEARLY_BEYOND and (believed[200 + over : 200 + alarm] < 1).all()
        stood.append(alarm - over)
    assert 60 > stood[0] > stood[1] > stood[2] > 0


@pytest.mark.parametrize("stop", [30, 60, 85, 100, 130, 170])
def test_a_state_carries_everything_over_a_restart(stop: int) -> None:
    rows = noise(260)
    rows[80:] += 12.0
    rows[200:, 1] += np.linspace(0, 40, 60)
    one = plane()
    play(one, rows[:stop], SECOND_US)
    two = load_plane(setup(), snapshot.load(snapshot.dump(one.state())))
    assert play(two, rows[stop:], SECOND_US, stop)[1].tolist() == play(one, rows[stop:], SECOND_US, stop)[1].tolist()
    mine, its = one.learner, two.learner
    assert (its.decisions, its.digest, its.learnt_us) == (mine.decisions, mine.digest, mine.learnt_us)


def test_decisions_are_bounded_and_carried_over_a_restart() -> None:
    judged = plane()
    days = noise(13 * A_DAY)
    new_ways = np.array([(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)])
    for nth, start in enumerate(range(300, len(days) - 60, 60)):  # each goes further than what was learnt from before
        days[start : start + 12] += (2.5 + 0.05 * nth) * new_ways[nth % 8]
    play(judged, days, TEN_MINUTES_US)
    assert judged.learner.decided > KEPT_DECISIONS and len(judged.learner.decisions) == KEPT_DECISIONS
    again = load_plane(setup(), snapshot.load(snapshot.dump(judged.state())))
    assert again.learner.decisions == judged.learner.decisions


def test_a_settled_step_is_told_from_a_growing_fault() -> None:
    rng = np.random.default_rng(6)
    step = (10 + rng.normal(0, 0.5, 36)).tolist()
    growth = (10 * np.exp(np.arange(36) / 30) + rng.normal(0, 0.3, 36)).tolist()
    assert not growing(step)
    assert growing(growth)
