"""Keeps the traces of one component while it is judged: one of its ticks, one of the means its slow plane sees.

Judging is many times a second, looking is rare: what a tick showed is put aside as it is, and expected courses are
worked out for many ticks together, when there are ``FLUSH_ROWS`` or somebody asks. Each tick is shown beside the
baseline it was judged by. Pure; nothing here changes a verdict, and nothing raises on odd numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.api import Event
from edge_agent.detection.healthy.baseline import lag
from edge_agent.detection.healthy.model import HealthyModel, Judged, channel_limits
from edge_agent.detection.judging.judge import ComponentJudge, Segment
from edge_agent.detection.judging.plane import Plane
from edge_agent.detection.trace.memory import STATES, Learnt, Trace, load_trace
from fleet_core.errors import BadInput
from fleet_core.telemetry import DetectionState, Finding, MetricSpec, Waveform, check_name

FLUSH_ROWS = 256
RECENT, WHOLE = 256, 384
FITTED = re.compile(r" from \d+ rows$")
"""How a plane's note of a fit ends."""
CODES = {state: code for code, state in enumerate(STATES)}


class _Aside(NamedTuple):
    """Rows of a plane as they were judged: tables (n, columns); ``deviation`` and ``votes`` None while learning."""

    times_us: IntArray
    rows: FloatArray
    regimes: FloatArray
    evidence: FloatArray
    code: int
    deviation: FloatArray | None
    votes: FloatArray | None


class _Course:
    """One plane's trace and what is put aside for it."""

    def __init__(self, channels: int, regimes: int, recent: int, whole: int) -> None:
        self.trace = Trace(channels, recent, whole)
        self._aside: list[_Aside] = []
        self._count = 0
        self._model: HealthyModel | None = None
        self._lagged = np.full(regimes, np.nan)
        self._noted = 0

    def take(self, aside: _Aside, plane: Plane) -> None:
        self._aside.append(aside)
        self._count += len(aside.times_us)
        # a fit ends its segment, so what was put aside was judged by the model before it
        if self._count >= FLUSH_ROWS or plane.model is not self._model or plane.noted != self._noted:
            self.flush()
            self.follow(plane)

    def follow(self, plane: Plane) -> None:
        """Note what the plane decided since: fits, trials, experience."""
        unread, self._noted = plane.noted - self._noted, plane.noted
        news = plane.notes[-unread:] if unread > 0 else []
        fitted, self._model = plane.model is not self._model, plane.model
        for time_us, text in news:
            if plane.model is not None and fitted and FITTED.search(text):
                kind = "refit" if text.startswith("refitted") else "relearnt" if "anew" in text else "learnt"
                limits = channel_limits(plane.model).astype(np.float32)
                learnt = Learnt(plane.learnt_rows, *plane.learnt_us, plane.digest, limits)
                self.trace.note_learnt(time_us, kind, learnt, plane.model.names, text)
            else:
                self.trace.mark(time_us, "note", text)

    def resume(self, plane: Plane) -> None:
        """Go on beside a plane that was loaded."""
        self._model, self._noted = plane.model, plane.noted

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

    def load(self, state: dict[str, Any], plane: Plane) -> None:
        self.trace.load(state["trace"])
        self._lagged = np.asarray(state["lagged"], dtype=np.float64).reshape(self._lagged.shape)
        self.resume(plane)


class Tracer:
    """See the module. ``ticks`` is the trace of the ticks, ``means`` that of the slow plane's means."""

    def __init__(self, channels: Sequence[MetricSpec], regimes: int, recent: int = RECENT, whole: int = WHOLE) -> None:
        self.channels = tuple(channels)
        self._ticks = _Course(len(channels), regimes, recent, whole)
        self._means = _Course(len(channels), regimes, recent, whole)
        self._judged: Judged | None = None
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
        self, segment: Segment, judge: ComponentJudge, times_us: IntArray, regimes: FloatArray, state: DetectionState
    ) -> None:
        """Put a segment aside; ``times_us`` (n,) and ``regimes`` (n, regimes) are its whole block's."""
        code, votes, judged = CODES[state], None, judge.fast.judged
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
        self._ticks.take(aside, judge.fast)
        while judge.slowly:
            slow = judge.slowly.popleft()
            seen = (None, None) if slow.judged is None else (slow.judged.deviation, slow.judged.detectors)
            aside = _Aside(slow.times_us, slow.rows, slow.regimes, slow.evidence, code, *seen)
            self._means.take(aside, judge.slow)

    def tell(self, events: Iterable[Event], judge: ComponentJudge) -> None:
        """Note what happened."""
        for event in events:
            if isinstance(event, Finding):
                self._ticks.flush()
                self._ticks.trace.note_finding(event, slow=judge.leading is judge.slow)
            else:
                self._ticks.trace.mark(event.time_us, "state", f"{event.state.value}: {event.reason}".rstrip(": "))

    def note_waveform(self, waveform: Waveform, judge: ComponentJudge) -> None:
        """Keep a burst, and the last one of the learning period."""
        self._ticks.trace.note_waveform(waveform, learning=judge.fast.model is None)

    def state(self) -> dict[str, Any]:
        """Everything, for a snapshot, with the channels' names and units."""
        self._ticks.flush()
        self._means.flush()
        channels = [[each.name, each.unit] for each in self.channels]
        return {"channels": channels, "ticks": self._ticks.state(), "means": self._means.state()}

    def load(self, state: Any, judge: ComponentJudge) -> None:
        """Continue from a ``state``, beside a judge that was loaded. A damaged one is forgotten: it is a picture's."""
        for course, plane, name in ((self._ticks, judge.fast, "ticks"), (self._means, judge.slow, "means")):
            try:
                course.load(state[name], plane)
            except (KeyError, TypeError, ValueError):
                course.trace.forget()
                course.resume(plane)


class Kept(NamedTuple):
    """A component's traces as a snapshot keeps them; ``channels``: names and UCUM units."""

    channels: tuple[tuple[str, str], ...]
    ticks: Trace
    means: Trace


def load_kept(state: Any) -> Kept:
    """What a ``Tracer.state`` holds, for a reader that knows nothing of the asset. Raises BadInput."""
    try:
        channels = tuple((check_name(name), str(unit)[:32]) for name, unit in state["channels"])
        ticks, means = (load_trace(state[name]["trace"]) for name in ("ticks", "means"))
    except (KeyError, TypeError, ValueError):
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
