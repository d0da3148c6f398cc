"""Snapshots of the second layout, which kept much of its state by position, translated into the present one.

This is the only file that knows the second layout. What a plane had decided was kept as a sentence, so here, and
nowhere else, a decision's kind is read from the beginnings of the sentences that version wrote.

A tree that does not have the second layout raises one of ``DAMAGED``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_agent.detection.restored import DAMAGED

LEVELS = ("watch", "alarm", "critical")
_SENTENCES = (
    ("learnt from", "learnt"),
    ("refitted", "refit"),
    ("deviation soon after learning stood still", "relearnt"),
    ("what rose and subsided by itself is learnt", "experience"),
    ("what rose and subsided by itself is experience", "widened"),
    ("baseline fixed", "fixed"),
    ("deviation soon after learning grows", "fault"),
)


def translated(tree: Mapping[str, Any], version: int) -> dict[str, Any]:
    """A whole snapshot as one of another version, the present one."""
    speeds = tree.get("speeds", {})
    return {
        "version": version,
        "identity": tree["identity"],
        "regime": tree["regime"],
        "slots": {name: _slot(slot) for name, slot in tree["slots"].items()},
        "speeds": {name: {"time_us": time_us, "value": value} for name, (time_us, value) in speeds.items()},
        "counts": tree["counts"],
        "settings": tree.get("settings", {}),
    }


def translated_trace(kept: Mapping[str, Any]) -> dict[str, Any]:
    """A component's traces."""
    return {
        "channels": [{"name": name, "unit": unit} for name, unit in kept["channels"]],
        **{name: {"trace": _trace(kept[name]["trace"]), "lagged": kept[name]["lagged"]} for name in ("ticks", "means")},
    }


def _slot(slot: Mapping[str, Any]) -> dict[str, Any]:
    passing = slot.get("passing", {})
    standstill = passing.get("standstill")
    by_class = slot.get("class")
    try:
        trace: dict[str, Any] | None = translated_trace(slot["trace"])
    except DAMAGED:
        trace = None  # it is a picture's memory: losing it must not cost what detection has learnt
    return {
        "serial": slot["serial"],
        "aligner": slot["aligner"],
        "judge": _judge(slot["judge"]),
        "waiting": [{"time_us": time_us, "row": row, "regime": regime} for time_us, row, regime in slot["waiting"]],
        "ticked_us": 0,
        "memory": slot["course"],
        "trace": trace,
        "novelty": slot["novelty"],
        "passing": {
            "standstill": None if standstill is None else _standstill(standstill),
            "maintained": passing.get("maintained", False),
        },
        "relearnt_us": slot.get("relearnt_us", 0),
        "prior": None if by_class is None else {"judge": _prior_judge(by_class["judge"]), "memory": by_class["told"]},
    }


def _judge(judge: Mapping[str, Any]) -> dict[str, Any]:
    state, counters, raise_ticks = judge["tracker"]
    evidence, believed = judge["crept"].tolist()
    pending = judge["pending"]
    rows, regimes, times_us = (np.concatenate(parts) for parts in zip(*pending, strict=True)) if pending else [None] * 3
    return {
        "tracker": {
            "state": state,
            "raise_ticks": raise_ticks,
            "above": dict(zip(LEVELS, counters[:3], strict=True)),
            "below": dict(zip(LEVELS, counters[3:], strict=True)),
        },
        "health": judge["health"],
        "fast": _plane(judge["fast"]),
        "slow": _plane(judge["slow"]),
        "evidence": judge["evidence"],
        "crept": {"evidence": evidence, "believed": believed},
        "pending": {"rows": rows, "regimes": regimes, "times_us": times_us},
    }


def _plane(plane: Mapping[str, Any]) -> dict[str, Any]:
    period_rows, since_learnt_rows, relearns, alarm_rows, learnt_rows = plane["numbers"]
    first_us, now_us, below_alarm_us, began_us, calm_rows, daily, convicted, peak, room = plane["ages"]
    trial, judged = plane["trial"], plane["judged"]
    return {
        "learner": {
            "model": None if plane["model"] is None else _model(plane["model"]),
            "digest": plane["digest"],
            "learnt_rows": learnt_rows,
            "learnt_first_us": plane["learnt_us"][0],
            "learnt_last_us": plane["learnt_us"][1],
            "kept": _rows(plane["rows"]),
            "lagged": plane["lagged"],
            "first_us": first_us,
            "period_rows": period_rows,
            "since_learnt_rows": since_learnt_rows,
            "daily": daily,
            "relearns": relearns,
            "decisions": [{"kind": _kind(text), "at_us": at_us, "text": text} for at_us, text in plane["notes"]],
        },
        "episode": {
            "rows": _rows(plane["episode"]),
            "began_us": began_us,
            "calm_rows": calm_rows,
            "peak": peak,
            "convicted": convicted,
            "room": room,
        },
        "probation": {
            "alarm_rows": alarm_rows,
            "trial": None if trial is None else {"rows": _rows(trial[0]), "norms": trial[1], "settled_at": trial[2]},
        },
        "evidence": plane["evidence"],
        "now_us": now_us,
        "below_alarm_us": below_alarm_us,
        "judged": None
        if judged is None
        else dict(zip(("evidence", "detectors", "channels", "deviation"), judged, strict=True)),
    }


def _model(model: Mapping[str, Any]) -> dict[str, Any]:
    thresholds = {name: {"typical": typical, "limit": limit} for name, (typical, limit) in model["thresholds"].items()}
    return {**model, "thresholds": thresholds, "evidence_limit": model["gain"]}


def _rows(rows: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(("rows", "regimes", "times_us"), rows, strict=True))


def _kind(sentence: str) -> str:
    for beginning, kind in _SENTENCES:
        if sentence.startswith(beginning):
            return kind
    raise ValueError("a note of no known beginning")


def _standstill(standstill: Mapping[str, Any]) -> dict[str, Any]:
    names = ("keeps_every", "skipped", "since_us", "running_us", "told_us", "settled_day", "settled_us", "last_us")
    return {
        **{name: standstill[name] for name in ("limit", "fallen", "kept")},
        **dict(zip(names, standstill["numbers"], strict=True)),
    }


def _prior_judge(judge: Mapping[str, Any]) -> dict[str, Any]:
    names = ("evidence", "alarm", "unlike", "since_us", "above_rows", "below_rows")
    keeps_every, skipped = judge["every"]
    return {
        **{name: judge[name] for name in ("digest", "level", "last", "kept")},
        **dict(zip(names, judge["numbers"], strict=True)),
        "keeps_every": keeps_every,
        "skipped": skipped,
    }


def _trace(trace: Mapping[str, Any]) -> dict[str, Any]:
    learnt, peak = trace["learnt"], trace["peak"]
    return {
        **trace,
        "shape": dict(zip(("channels", "recent", "whole"), trace["shape"], strict=True)),
        "spans": _spans(trace["spans"]),
        "learnt": None
        if learnt is None
        else dict(zip(("rows", "first_us", "last_us", "digest", "limits"), learnt, strict=True)),
        "peak": None if peak is None else dict(zip(("time_us", "evidence", "deviation", "votes"), peak, strict=True)),
        "markers": [
            {"time_us": time_us, "kind": _kind(text) if kind == "note" else kind, "text": text}
            for time_us, kind, text in trace["markers"]
        ],
        "findings": [
            dict(zip(("detected_us", "finding", "slow"), finding, strict=True)) for finding in trace["findings"]
        ],
        "waveforms": {
            metric: {
                when: dict(zip(("time_us", "sample_rate_hz", "unit", "values"), shot, strict=True))
                for when, shot in shots.items()
            }
            for metric, shots in trace["waveforms"].items()
        },
    }


def _spans(spans: Mapping[str, Any]) -> dict[str, Any]:
    names = ("sums", "known", "low", "high", "peak", "state", "first_us", "last_us")
    opened = spans["open"]
    return {
        **{name: value for name, value in spans.items() if name != "numbers"},
        **dict(zip(("used", "stride", "filled"), spans["numbers"], strict=True)),
        "open": None if opened is None else dict(zip(names, opened, strict=True)),
    }
