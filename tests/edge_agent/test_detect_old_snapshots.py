"""A snapshot of an earlier version goes on as that version would have gone on."""

from __future__ import annotations

from typing import Any

import pytest
from support.old_snapshots import CASES, kept

from edge_agent.detection.pipeline import build_detection

TOLERANCE = 1e-9


def same(said: Any, expected: Any) -> bool:
    """The same verdicts: numbers within ``TOLERANCE``, all else equal."""
    if isinstance(expected, dict):
        return said.keys() == expected.keys() and all(same(said[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(said) == len(expected) and all(map(same, said, expected))
    if isinstance(expected, float) and isinstance(said, float):
        return abs(said - expected) <= TOLERANCE * max(1.0, abs(expected))
    return bool(said == expected)


@pytest.mark.parametrize("name", CASES)
def test_a_snapshot_of_the_second_layout_goes_on_with_the_same_verdicts(name: str) -> None:
    case = CASES[name]
    if absent := build_detection(case.asset, case.settings).absent:
        pytest.skip(f"written where {', '.join(absent)} could run")
    content, inputs, expected = kept(name)
    detection = case.build()
    detection.restore(content)
    if case.declared is not None:
        detection.declare(case.declared, int(inputs.times_us[0]))
    said = case.play(detection, inputs)
    differing = [place for place, (new, old) in enumerate(zip(said, expected, strict=True)) if not same(new, old)]
    assert differing == []


@pytest.mark.parametrize("name", ["waiting", "trial", "young_episode"])
def test_a_snapshot_of_this_version_goes_on_as_if_nothing_had_been(name: str) -> None:
    """With ticks that wait, too: they are judged together with the same ones."""
    case = CASES[name]
    through, again = case.build(), case.build()
    case.play(through, case.before())
    again.restore(through.snapshot())
    assert case.play(again, case.after()) == case.play(through, case.after())


def test_the_snapshots_hold_what_they_are_kept_for() -> None:
    """Alarms that stand and change, findings revised, seasons, rows that wait: else the comparison says little."""
    said = {name: kept(name)[2] for name in CASES}
    events = {name: [event for row in rows for event in row[0]] for name, rows in said.items()}
    assert all(events[name] for name in ("seasons", "waiting", "young_episode", "alarm", "trial", "waveforms"))
    assert any(isinstance(event, dict) and event["revision"] > 4 for event in events["alarm"])
    assert any(isinstance(event, dict) and event["waveform_us"] for event in events["waveforms"])
