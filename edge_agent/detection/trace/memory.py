"""What one component went through, in bounded memory: for the picture that ``edge-agent explain`` draws.

Two resolutions. The newest ticks are kept as they were; the whole life is kept as at most ``whole`` spans of equally
many ticks each (means, and the extremes of values and evidence), and when these are full, neighbours are joined and
each span from then on covers twice as many. Beside them stand the markers (learnt, state changes, findings), what the
baseline was learnt from, the worst moment since, and a healthy and the newest waveform of each waveform vital.

Pure; a block of ticks leaves what its ticks one by one would (to float32). Values that are missing or not finite are
NaN and left out of the means. Nothing here raises on odd numbers: a picture must never stop a judgement.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_agent.arrays import RealArray
from edge_agent.detection.restored import DAMAGED
from edge_agent.detection.trace.records import LearntFrom, Marker, MarkerKind, Peak, Shot, Ticks, ToldFinding
from edge_agent.detection.trace.spans import Spans
from fleet_core.errors import BadInput
from fleet_core.telemetry import EARLIEST_US, LATEST_US, MAX_CHANNELS, Finding, Waveform

FOLD_TICKS = 128
MAX_LENGTH = 65_536
MAX_MARKERS = 128
MAX_FINDINGS = 8
MAX_TEXT = 256
MAX_WAVEFORM_VITALS = 4
MAX_SHOT_SAMPLES = 4096


class Trace:
    """See the module. ``recent`` and ``whole`` are rounded up to what the folding needs."""

    def __init__(self, channels: int, recent: int = 256, whole: int = 384) -> None:
        if channels < 1 or recent < 1 or whole < 4:
            raise BadInput("trace", "needs a channel, a recent tick and four spans at least")
        self.channels = channels
        self._recent = -(-recent // FOLD_TICKS) * FOLD_TICKS
        self._whole = whole + whole % 2
        columns = 3 * channels + 1
        self.detectors: tuple[str, ...] = ()
        self.learnt: LearntFrom | None = None
        self.peak: Peak | None = None
        self.markers: deque[Marker] = deque(maxlen=MAX_MARKERS)
        self.findings: dict[str, ToldFinding] = {}
        self.waveforms: dict[str, dict[str, Shot]] = {}
        self._ring = np.full((self._recent, columns), np.nan, dtype=np.float32)
        self._ring_times = np.zeros(self._recent, dtype=np.int64)
        self._ring_states = np.zeros(self._recent, dtype=np.uint8)
        self._votes = np.zeros((self._recent, len(self.detectors)), dtype=np.float32)
        self._count = 0
        self._pending = 0
        self._spans = Spans(self._whole, columns, channels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, newest ticks kept, spans."""
        return self.channels, self._recent, self._whole

    # -- what the engine calls

    def add(
        self,
        times_us: NDArray[np.int64],
        values: RealArray,
        expected: RealArray,
        deviation: RealArray,
        evidence: RealArray,
        state_codes: ArrayLike,
        votes: RealArray | None = None,
    ) -> None:
        """Take ticks: times (n,), three tables (n, channels) (NaN where unknown), evidence and state codes (n,).

        ``votes`` (n, detectors): each detector's ratio to its calibrated limit, in the order of ``detectors``.
        """
        count = len(times_us)
        if count == 1 and self._pending < FOLD_TICKS - 1:  # the live agent's way, without the loop's slicing
            tables = (values, expected, deviation)
            self._put(self._count % self._recent, 1, times_us, tables, evidence, state_codes, votes)
            return
        codes = np.asarray(state_codes)
        start = 0
        while start < count:
            at = self._count % self._recent
            stop = min(count, start + min(FOLD_TICKS - self._pending, self._recent - at))
            part = slice(start, stop)
            tables = (values[part], expected[part], deviation[part])
            its_votes = None if votes is None else votes[part]
            self._put(at, stop - start, times_us[part], tables, evidence[part], codes[part], its_votes)
            if self._pending >= FOLD_TICKS:
                self._fold()
            start = stop

    def note_learnt(
        self, time_us: int, kind: MarkerKind, learnt: LearntFrom, detectors: Sequence[str] = (), text: str = ""
    ) -> None:
        """A baseline was fitted (``kind`` says which fit it was); ``detectors`` names the votes from now on."""
        self._fold()
        self.learnt = learnt
        if kind is not MarkerKind.REFITTED:
            self.peak = None
        if tuple(detectors) != self.detectors:
            self.detectors = tuple(detectors)
            self._votes = np.zeros((self._recent, len(self.detectors)), dtype=np.float32)
        self.mark(time_us, kind, text or f"from {learnt.rows} rows")

    def mark(self, time_us: int, kind: MarkerKind, text: str) -> None:
        """Remember that something happened; the oldest of ``MAX_MARKERS`` is dropped."""
        self.markers.append(Marker(int(time_us), kind, text[:MAX_TEXT]))

    def note_finding(self, finding: Finding, slow: bool = False) -> None:
        """Remember a finding's revision: the most severe one counts, the oldest of ``MAX_FINDINGS`` is dropped."""
        told = self.findings.get(finding.finding_id)
        if told is None:
            self.mark(finding.detected_us, MarkerKind.FINDING, finding.finding_id)
            self.findings[finding.finding_id] = ToldFinding(finding.detected_us, finding, slow)
            while len(self.findings) > MAX_FINDINGS:
                del self.findings[next(iter(self.findings))]
        elif finding.severity >= told.finding.severity:
            self.findings[finding.finding_id] = ToldFinding(told.detected_us, finding, slow)

    def note_waveform(self, waveform: Waveform, learning: bool) -> None:
        """Remember a burst: the last one of the learning period is the healthy one, the newest one is ``now``."""
        if waveform.metric not in self.waveforms and len(self.waveforms) >= MAX_WAVEFORM_VITALS:
            return
        values = np.array(waveform.values[:MAX_SHOT_SAMPLES], dtype=np.float32)
        kept = self.waveforms.setdefault(waveform.metric, {})
        shot = Shot(waveform.time_us, waveform.sample_rate_hz, waveform.unit, values)
        kept["now"] = shot
        if learning or "healthy" not in kept:
            kept["healthy"] = shot

    # -- what the picture reads

    def recent(self) -> Ticks:
        """The newest ticks as they were."""
        known = min(self._count, self._recent)
        places = (self._count - known + np.arange(known)) % self._recent
        c, rows, times = self.channels, _known(self._ring[places]), self._ring_times[places]
        values, evidence = rows[:, :c], rows[:, -1]
        parts = (values, values, values, rows[:, c : 2 * c], rows[:, 2 * c : 3 * c], evidence, evidence)
        return Ticks(1, times, times, *parts, self._ring_states[places])

    def whole(self) -> Ticks:
        """The whole life in spans of equally many ticks; the last one may be shorter."""
        self._fold()
        c, view = self.channels, self._spans.view()
        means = view["means"]
        return Ticks(
            ticks_each=self._spans.stride,
            first_us=view["first_us"],
            last_us=view["last_us"],
            values=means[:, :c],
            low=view["low"],
            high=view["high"],
            expected=means[:, c : 2 * c],
            deviation=means[:, 2 * c : 3 * c],
            evidence=means[:, -1],
            peak=view["peak"],
            states=view["state"],
        )

    def newest_votes(self) -> RealArray:
        """The newest tick's vote of each detector (detectors,)."""
        return self._votes[(self._count - 1) % self._recent].copy()

    def times_us(self) -> Iterator[int]:
        """The times of all that is remembered, in no order."""
        courses = (self.recent(), self.whole())
        for course in (array for each in courses for array in (each.first_us, each.last_us) if len(array)):
            yield from (int(course.min()), int(course.max()))
        if self.learnt is not None:
            yield from (self.learnt.first_us, self.learnt.last_us)
        if self.peak is not None:
            yield self.peak.time_us
        yield from (mark.time_us for mark in self.markers)
        yield from (told.detected_us for told in self.findings.values())
        yield from (shot.time_us for shots in self.waveforms.values() for shot in shots.values())

    # -- over a restart

    def state(self) -> dict[str, Any]:
        """Everything, as arrays, numbers, texts, and lists and dicts of them."""
        self._fold()
        known = min(self._count, self._recent)
        places = (self._count - known + np.arange(known)) % self._recent
        return {
            "shape": {"channels": self.channels, "recent": self._recent, "whole": self._whole},
            "detectors": list(self.detectors),
            "ring": self._ring[places],
            "ring_times_us": self._ring_times[places],
            "ring_states": self._ring_states[places],
            "votes": self._votes[places],
            "spans": self._spans.dump(),
            "learnt": None if self.learnt is None else _by_name(self.learnt),
            "peak": None if self.peak is None else _by_name(self.peak),
            "markers": [{**_by_name(marker), "kind": marker.kind.value} for marker in self.markers],
            "findings": [{**_by_name(told), "finding": told.finding.to_json()} for told in self.findings.values()],
            "waveforms": {
                metric: {when: _by_name(shot) for when, shot in shots.items()}
                for metric, shots in self.waveforms.items()
            },
        }

    # -- inside

    def _put(
        self,
        at: int,
        count: int,
        times_us: NDArray[np.int64],
        tables: tuple[RealArray, RealArray, RealArray],
        evidence: RealArray,
        codes: ArrayLike,
        votes: RealArray | None,
    ) -> None:
        c, to = self.channels, at + count
        rows = self._ring[at:to]
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and infinite is missing
            rows[:, :c], rows[:, c : 2 * c], rows[:, 2 * c : 3 * c] = tables
            rows[:, -1] = evidence
        self._ring_times[at:to] = times_us
        self._ring_states[at:to] = codes
        if votes is not None and self.detectors:
            self._votes[at:to] = votes
        self._count += count
        self._pending += count

    def _fold(self) -> None:
        """Fold what came since the last time into the spans, and remember the worst moment."""
        if not self._pending:
            return
        places = np.arange(self._count - self._pending, self._count) % self._recent
        self._pending = 0
        rows, times = _known(self._ring[places]), self._ring_times[places]
        self._spans.fold(times, rows, self._ring_states[places])
        evidence = np.nan_to_num(rows[:, -1])
        worst = int(evidence.argmax())
        if self.learnt is not None and (self.peak is None or evidence[worst] > self.peak.evidence):
            c = self.channels
            deviation, votes = rows[worst, 2 * c : 3 * c].copy(), self._votes[places[worst]].copy()
            self.peak = Peak(int(times[worst]), float(evidence[worst]), deviation, votes)

    def _load(self, state: Mapping[str, Any]) -> None:
        self.detectors = tuple(str(name) for name in state["detectors"])
        known = len(state["ring_times_us"])
        self._votes = np.zeros((self._recent, len(self.detectors)), dtype=np.float32)
        for name, array in (
            ("ring", self._ring),
            ("ring_times_us", self._ring_times),
            ("ring_states", self._ring_states),
            ("votes", self._votes),
        ):
            array[:known] = np.asarray(state[name]).reshape(known, *array.shape[1:])
        self._count = known
        self._spans.load(state["spans"])
        if (learnt := state["learnt"]) is not None:
            self.learnt = LearntFrom(
                rows=int(learnt["rows"]),
                first_us=int(learnt["first_us"]),
                last_us=int(learnt["last_us"]),
                digest=str(learnt["digest"]),
                limits=_vector(learnt["limits"], self.channels),
            )
        if (peak := state["peak"]) is not None:
            self.peak = Peak(
                time_us=int(peak["time_us"]),
                evidence=float(peak["evidence"]),
                deviation=_vector(peak["deviation"], self.channels),
                votes=_vector(peak["votes"], len(self.detectors)),
            )
        self.markers.extend(
            Marker(int(mark["time_us"]), MarkerKind(mark["kind"]), str(mark["text"])) for mark in state["markers"]
        )
        for told in state["findings"][-MAX_FINDINGS:]:
            finding = Finding.from_json(told["finding"])
            self.findings[finding.finding_id] = ToldFinding(int(told["detected_us"]), finding, bool(told["slow"]))
        for metric, shots in list(state["waveforms"].items())[:MAX_WAVEFORM_VITALS]:
            self.waveforms[metric] = {when: _shot(shot) for when, shot in shots.items()}


def load_trace(state: Any, like: Trace | None = None) -> Trace:
    """A trace from its ``state`` alone, for a reader that does not know its shape. Raises BadInput.

    ``like``: a trace whose shape the state must have; it is then the reader's own, and its times are not doubted.
    """
    try:
        channels, recent, whole = (int(state["shape"][name]) for name in ("channels", "recent", "whole"))
    except DAMAGED:
        raise BadInput("trace", "it is damaged") from None
    if not (1 <= channels <= MAX_CHANNELS and 1 <= recent <= MAX_LENGTH and 4 <= whole <= MAX_LENGTH):
        raise BadInput("trace", "its shape is out of bounds")
    trace = Trace(channels, recent, whole)
    if trace.shape != (channels, recent, whole) or (like is not None and trace.shape != like.shape):
        raise BadInput("trace", "it is of another shape")
    try:
        trace._load(state)
    except (*DAMAGED, BadInput):
        raise BadInput("trace", "it is damaged") from None
    if like is None and not all(EARLIEST_US <= time_us <= LATEST_US for time_us in trace.times_us()):
        raise BadInput("trace", "its times are out of range")
    return trace


def _by_name(record: Any) -> dict[str, Any]:
    """A record's fields."""
    return {name: getattr(record, name) for name in record.__slots__}


def _shot(state: Mapping[str, Any]) -> Shot:
    values = np.asarray(state["values"], dtype=np.float32).ravel()
    return Shot(int(state["time_us"]), float(state["sample_rate_hz"]), str(state["unit"]), values)


def _known(rows: RealArray) -> RealArray:
    return np.where(np.isfinite(rows), rows, np.float32(np.nan))


def _vector(values: Any, size: int) -> RealArray:
    return np.asarray(values, dtype=np.float32).reshape(size)
