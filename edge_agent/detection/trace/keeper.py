"""Keeps the traces of one component while it is judged: one of its ticks, one of the means its slow plane sees.

Judging is many times a second, looking is rare: what a tick showed is put aside as it is, and expected courses are
worked out for many ticks together, when there are ``FLUSH_ROWS`` or somebody asks. Each tick is shown beside the
baseline it was judged by. Pure; nothing here changes a verdict, and nothing raises on odd numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.api import Event
from edge_agent.detection.healthy.baseline import lag
from edge_agent.detection.healthy.decisions import FITS
from edge_agent.detection.healthy.model import HealthyModel, JudgedRows, channel_limits
from edge_agent.detection.judging.plane import Plane
from edge_agent.detection.judging.segment import JudgedMeans, Segment
from edge_agent.detection.restored import DAMAGED, readings
from edge_agent.detection.trace.memory import Trace, load_trace
from edge_agent.detection.trace.records import STATES, LearntFrom, MarkerKind
from fleet_core.errors import BadInput
from fleet_core.telemetry import DetectionState, Finding, MetricSpec, Waveform, check_name

FLUSH_ROWS = 256
RECENT, WHOLE = 256, 384
CODES = {state: code for code, state in enumerate(STATES)}


class Planes(NamedTuple):
    """Both planes of a component."""

    fast: Plane
    slow: Plane


class _Aside(NamedTuple):
    """Rows of a plane as they were judged: tables (n, columns); ``deviation`` and ``votes`` None while learning."""

    times_us: IntArray
    rows: FloatArray
    regimes: FloatArray
    evidence: FloatArray
    code: int
    deviation: FloatArray | None
    votes: FloatArray | None


class _PlaneTrace:
    """One plane's trace and what is put aside for it."""

    def __init__(self, channels: int, regimes: int, recent: int, whole: int) -> None:
        self.trace = Trace(channels, recent, whole)
        self._aside: list[_Aside] = []
        self._count = 0
        self._model: HealthyModel | None = None
        self._lagged = np.full(regimes, np.nan)
        self._decided = 0

    def take(self, aside: _Aside, plane: Plane) -> None:
        self._aside.append(aside)
        self._count += len(aside.times_us)
        # a fit ends its segment, so what was put aside was judged by the model before it
        if self._count >= FLUSH_ROWS or plane.model is not self._model or plane.learner.decided != self._decided:
            self.flush()
            self.follow(plane)

    def follow(self, plane: Plane) -> None:
        """Mark what the plane decided since: fits, trials, experience."""
        learner = plane.learner
        unread, self._decided = learner.decided - self._decided, learner.decided
        news = learner.decisions[-unread:] if unread > 0 else []
        fitted, self._model = plane.model is not self._model, plane.model
        for decision in news:
            kind = MarkerKind(decision.kind.value)
            if plane.model is not None and fitted and decision.kind in FITS:
                limits = channel_limits(plane.model).astype(np.float32)
                learnt = LearntFrom(learner.learnt_rows, *learner.learnt_us, learner.digest, limits)
                self.trace.note_learnt(decision.at_us, kind, learnt, plane.model.names, decision.text)
            else:
                self.trace.mark(decision.at_us, kind, decision.text)

    def resume(self, plane: Plane) -> None:
        """Go on beside a plane that was loaded."""
        self._model, self._decided = plane.model, plane.learner.decided

    def flush(self) -> None:
        """Add to the trace what was put aside."""
        aside, self._aside, self._count = self._aside, [], 0
        if not aside:
            return
        times_us, rows, regimes, evidence = (np.concatenate(parts) for parts in list(zip(*aside, strict=True))[:4])
        lengths = [len(each.times_us) for each in aside]
        codes = np.repeat([each.code for each in aside], lengths)
        lagged = regimes
        if regimes.shape[1]:
            lagged = lag(regimes, self._lagged)
            self._lagged = lagged[-1]
        expected = np.full(rows.shape, np.nan)
        if self._model is not None:
            expected = self._model.baseline.expected(regimes, lagged, times_us)
        deviation = _joined([each.deviation for each in aside], lengths, rows.shape[1])
        deviation[np.isnan(rows)] = np.nan
        votes = _joined([each.votes for each in aside], lengths, len(self.trace.detectors))
        self.trace.add(times_us, rows, expected, deviation, evidence, codes, np.nan_to_num(votes))

    def state(self) -> dict[str, Any]:
        return {"trace": self.trace.state(), "lagged": self._lagged}

    def load(self, state: Mapping[str, Any], plane: Plane) -> None:
        lagged = readings(state["lagged"], *self._lagged.shape)
        self.trace, self._lagged = load_trace(state["trace"], like=self.trace), lagged
        self.resume(plane)


class TraceKeeper:
    """See the module. ``ticks`` is the trace of the ticks, ``means`` that of the slow plane's means."""

    def __init__(self, channels: Sequence[MetricSpec], regimes: int, recent: int = RECENT, whole: int = WHOLE) -> None:
        self.channels = tuple(channels)
        self._ticks = _PlaneTrace(len(channels), regimes, recent, whole)
        self._means = _PlaneTrace(len(channels), regimes, recent, whole)
        self._judged: JudgedRows | None = None
        self._place = 0

    @property
    def ticks(self) -> Trace:
        self._ticks.flush()
        return self._ticks.trace

    @property
    def means(self) -> Trace:
        self._means.flush()
        return self._means.trace

    def take(
        self,
        segment: Segment,
        planes: Planes,
        means: deque[JudgedMeans],
        times_us: IntArray,
        regimes: FloatArray,
        state: DetectionState,
    ) -> None:
        """Put a segment aside, and the ``means`` judged until then, which are taken out.

        ``times_us`` (n,) and ``regimes`` (n, regimes) are those of the segment's whole block.
        """
        code, votes, judged = CODES[state], None, planes.fast.judged
        if segment.deviation is not None and judged is not None:
            # the segments of a block come one by one, what was judged of it stands there from the first on
            place = self._place if judged is self._judged else 0
            self._judged, self._place = judged, place + len(segment.times_us)
            votes = judged.detectors[place : self._place]
        if regimes.shape[1] == 0 or len(times_us) == 1:
            regimes = regimes[: len(segment.times_us)]
        else:
            regimes = regimes[np.searchsorted(times_us, segment.times_us).clip(max=len(regimes) - 1)]
        aside = _Aside(segment.times_us, segment.rows, regimes, segment.shown, code, segment.deviation, votes)
        self._ticks.take(aside, planes.fast)
        while means:
            slow = means.popleft()
            seen = (None, None) if slow.judged is None else (slow.judged.deviation, slow.judged.detectors)
            aside = _Aside(slow.times_us, slow.rows, slow.regimes, slow.evidence, code, *seen)
            self._means.take(aside, planes.slow)

    def tell(self, events: Iterable[Event], creeps: bool) -> None:
        """Mark what happened; ``creeps``: does the slow plane lead?"""
        for event in events:
            if isinstance(event, Finding):
                self._ticks.flush()
                self._ticks.trace.note_finding(event, slow=creeps)
            else:
                self._ticks.trace.mark(
                    event.time_us, MarkerKind.STATE, f"{event.state.value}: {event.reason}".rstrip(": ")
                )

    def note_waveform(self, waveform: Waveform, learning: bool) -> None:
        """Keep a burst, and the last one of the learning period."""
        self._ticks.trace.note_waveform(waveform, learning)

    def state(self) -> dict[str, Any]:
        """Everything, for a snapshot, with the channels' names and units."""
        self._ticks.flush()
        self._means.flush()
        channels = [{"name": each.name, "unit": each.unit} for each in self.channels]
        return {"channels": channels, "ticks": self._ticks.state(), "means": self._means.state()}

    def load(self, state: Any, planes: Planes) -> None:
        """Continue from a ``state``, beside planes that were loaded, before anything was taken. What is damaged is
        left out: it is a picture's."""
        for trace, plane, name in ((self._ticks, planes.fast, "ticks"), (self._means, planes.slow, "means")):
            trace.resume(plane)
            try:
                trace.load(state[name], plane)
            except (*DAMAGED, BadInput):
                continue


class Kept(NamedTuple):
    """A component's traces as a snapshot keeps them; ``channels``: names and UCUM units."""

    channels: tuple[tuple[str, str], ...]
    ticks: Trace
    means: Trace


def load_kept(state: Any) -> Kept:
    """What a ``TraceKeeper.state`` holds, for a reader that knows nothing of the asset. Raises BadInput."""
    try:
        channels = tuple(
            (check_name(name), str(unit)[:32])
            for name, unit in ((each["name"], each["unit"]) for each in state["channels"])
        )
        ticks, means = (load_trace(state[name]["trace"]) for name in ("ticks", "means"))
    except DAMAGED:
        raise BadInput("trace", "it is damaged") from None
    if not len(channels) == ticks.channels == means.channels:
        raise BadInput("trace", "its channels' names are not as many as its channels")
    return Kept(channels, ticks, means)


def _joined(parts: Sequence[FloatArray | None], lengths: Sequence[int], columns: int) -> FloatArray:
    """Tables (n, columns) one after the other; NaN for those that are not there or are another model's."""
    return np.concatenate(
        [
            part if part is not None and part.shape == (length, columns) else np.full((length, columns), np.nan)
            for part, length in zip(parts, lengths, strict=True)
        ]
    )
