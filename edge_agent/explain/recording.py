"""The cases of a recording: the device's own detection runs over the file, as in ``edge-agent detect``, and keeps a
trace, from which the case is made."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent.acquisition._tables import RELATIVE_EPOCH_S, Snapshots, open_snapshots
from edge_agent.detection.pipeline import retrace
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.trace.keeper import TraceKeeper
from edge_agent.detection.trace.memory import MAX_SHOT_SAMPLES
from edge_agent.detection.trace.records import Shot
from edge_agent.explain.case import Case, Channel, Pair, Subject, put_together
from edge_agent.explain.choice import Choice, choose
from edge_agent.recorded import offline
from edge_agent.recorded.options import settings_of
from fleet_core.errors import BadInput

SPANS = 8192
"""The most spans in the trace of a recording: more than the memory of a device allows."""


@dataclass
class Watched:
    """A recording after the run: its components' traces, its vitals, and the origin of its times (None: UTC)."""

    tracers: dict[str, TraceKeeper]
    vitals: list[str]
    origin_us: int | None


def case_of(args: argparse.Namespace) -> Case:
    """Run detection over ``args.file`` and put the chosen case together. Raises BadInput, BadConfig, OSError."""
    settings = settings_of(args)
    watched = watch(args, settings)
    choices = [
        Choice(slot, tracer.ticks, told)
        for slot, tracer in watched.tracers.items()
        for told in (*tracer.ticks.findings.values(), None)
    ]
    chosen = choose(choices, args.finding)
    tracer = watched.tracers[chosen.slot]
    bursts = args.file.suffix.lower() == ".npz"
    # The columns of a table tell no unit; the features of waveforms have one.
    channels = tuple(Channel(channel.name, channel.unit if bursts else None) for channel in tracer.channels)
    subject = Subject(title_of(args.file), channels, watched.origin_us)
    pairs = _pairs(open_snapshots(args.file), watched.vitals, chosen) if bursts else []
    return put_together(subject, tracer.ticks, chosen.told, settings, pairs, chosen.which, tracer.means)


def watch(args: argparse.Namespace, settings: DetectionSettings) -> Watched:
    """Run detection over all rows of the recording. Raises BadInput, BadConfig, OSError."""
    summary = offline.Summary()
    recording = offline.open_recording(args, settings, summary)
    tracers = retrace(recording.detection, SPANS)
    rows, origin_us = 0, None
    for texts, times_us, values in recording.blocks():
        if not rows:
            origin_us = _origin_us(args, texts[0], int(times_us[0]))
        rows += len(texts)
        recording.detection.on_block(recording.names, times_us, values)
    if not rows:
        raise BadInput("rows", f"{args.file}: no usable row; {summary.first_skipped}; {offline.ROWS_MEND}")
    return Watched(tracers, summary.vitals, origin_us)


def title_of(path: Path) -> str:
    """The name of a recording with its folder, as in ``valve1/0.csv``."""
    return "/".join(path.absolute().parts[-2:]).lstrip("/")


def _origin_us(args: argparse.Namespace, text: str, time_us: int) -> int | None:
    """The origin of the times of a recording without dates; None for a recording with dates."""
    if args.file.suffix.lower() == ".npz":
        return time_us
    try:
        counted = args.step_s is not None or abs(time_us / 1e6 - RELATIVE_EPOCH_S - float(text)) < 1.0
    except ValueError:
        return None
    return RELATIVE_EPOCH_S * 1_000_000 if counted else None


def _pairs(shots: Snapshots, vitals: list[str], chosen: Choice) -> list[Pair]:
    """For every waveform vital the burst at the moment explained, and one from the middle of the learning period."""
    trace = chosen.trace
    now_us = chosen.told.finding.detected_us if chosen.told else trace.peak.time_us if trace.peak else None
    healthy_us = None if trace.learnt is None else (trace.learnt.first_us + trace.learnt.last_us) // 2
    return [
        Pair(name, _shot(shots, channel, healthy_us), _shot(shots, channel, now_us))
        for channel, name in enumerate(vitals)
    ]


def _shot(shots: Snapshots, channel: int, time_us: int | None) -> Shot | None:
    if time_us is None:
        return None
    index = min(len(shots.times_us) - 1, int(np.searchsorted(shots.times_us, time_us)))
    values = shots.values[index, :MAX_SHOT_SAMPLES, channel]
    return Shot(int(shots.times_us[index]), shots.sample_rate_hz, "[g]", values)
