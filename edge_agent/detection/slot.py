"""One component of an asset: its channels, their alignment, its judge, what its class says, and its findings. Pure.

Rows inside declared maintenance, and those at which the machine merely stands still, are passed over (``passing``) as
if nothing had been read. The state told is the judge's, but for an alarm by the class's prior, which stands until the
judge's own is as high.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection import fusion, restored
from edge_agent.detection.api import ComponentView, Event
from edge_agent.detection.block_rows import BlockRows
from edge_agent.detection.findings import evidence
from edge_agent.detection.findings.description import in_words
from edge_agent.detection.findings.evidence import FindingMemory
from edge_agent.detection.findings.failure_mode import harms_rising
from edge_agent.detection.input.align import Aligner, Frame
from edge_agent.detection.input.passing import Passing
from edge_agent.detection.input.regimes import MAX_REGIMES, is_context
from edge_agent.detection.judging.judge import ComponentJudge
from edge_agent.detection.judging.novelty import Novelty
from edge_agent.detection.judging.plane import Plane
from edge_agent.detection.judging.segment import Segment
from edge_agent.detection.judging.states import ALARMS, UNALARMED, StateTracker
from edge_agent.detection.prior.finding import (
    VOTE,
    PriorFindingMemory,
    judged_by,
    load_prior_memory,
    prior_finding,
    worst_in_words,
)
from edge_agent.detection.prior.judge import PriorJudge, usable_prior
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.subject import Subject
from edge_agent.detection.trace.keeper import Planes, TraceKeeper
from edge_agent.detection.tuning import FALL_SHARE
from fleet_core.telemetry import DetectionState, Finding, StateChange, Waveform

GROUP_TICKS = 16
GROUP_US = 900_000_000
GROUP_STEP_US = 120_000_000
"""Live ticks that are close are judged together, at most so many over at most so long; at once while an alarm stands,
when one jumps, and where ticks are rare."""
KEPT_WAVEFORMS = 3
MAX_TOLD_REASON = 256


class Waiting(NamedTuple):
    """A tick that waits to be judged with others: its row (channels,) and the asset's regime (regimes,)."""

    time_us: int
    row: FloatArray
    regime: FloatArray


@dataclass
class Life:
    """All that is known of the component that stands in a slot now; another one begins with a new life.

    ``state`` is the one told; ``prior`` judges by the class, None where nothing is known of it; ``ticked_us`` is the
    time of the newest tick.
    """

    aligner: Aligner
    judge: ComponentJudge
    prior: PriorJudge | None
    trace: TraceKeeper
    memory: FindingMemory
    state: DetectionState
    prior_memory: PriorFindingMemory = field(default_factory=PriorFindingMemory)
    waiting: list[Waiting] = field(default_factory=list)
    ticked_us: int = 0


class Slot:
    """One place of an asset where a component stands.

    ``regimes`` names the vitals of the whole asset it is normalised by; ``count`` is told of rows passed over, by
    reason; ``stands``: may the asset be meant to stand still?
    """

    def __init__(
        self,
        subject: Subject,
        regimes: Sequence[str],
        settings: DetectionSettings,
        count: Callable[[str, int], None],
        stands: bool = False,
    ) -> None:
        self.subject = self._described = subject
        self.channel_of = {channel.name: index for index, channel in enumerate(subject.channels)}
        context = [index for index, each in enumerate(subject.channels) if is_context(each.name)]
        # a component of context alone is judged as any other
        self._context = context[:MAX_REGIMES] if len(context) < len(subject.channels) else []
        self._fall_share = np.where(harms_rising(subject.channels), FALL_SHARE, 1.0)
        self._regimes = len(regimes)
        self._itself = (*([-1] * len(regimes)), *self._context)
        self._settings = settings
        self._count = count
        self.novelty = Novelty(len(subject.channels)) if settings.novelty else None
        self.passing = Passing(subject, regimes, stands)
        self.relearnt_us = 0
        """Which request to learn anew was followed last, by its time."""
        self.life = self._begin()

    @property
    def judge(self) -> ComponentJudge:
        """The judge of the component that stands here."""
        return self.life.judge

    @property
    def trace(self) -> TraceKeeper:
        """What it went through."""
        return self.life.trace

    def start_over(self) -> None:
        """Know nothing of the component, as when it was described."""
        self.subject = self._described
        self.life = self._begin()
        self.novelty = Novelty(len(self.subject.channels)) if self._settings.novelty else None
        self.passing.forget()
        self.relearnt_us = 0

    def retrace(self, spans: int) -> TraceKeeper:
        """Trace anew, in so many spans."""
        self.life.trace = TraceKeeper(self.subject.channels, len(self._itself), whole=spans)
        return self.life.trace

    def tick(self, frame: Frame, regime: FloatArray) -> list[Event]:
        """Judge a tick, or keep it for a few more: while all is quiet they are judged together, for less effort."""
        life = self.life
        life.waiting.append(Waiting(frame.time_us, frame.row, regime.copy()))
        first = life.waiting[0]
        step_us, life.ticked_us = frame.time_us - life.ticked_us, frame.time_us
        if (
            len(life.waiting) < GROUP_TICKS
            and step_us <= GROUP_STEP_US
            and frame.time_us - first.time_us < GROUP_US
            and life.state in UNALARMED
            and not life.judge.health.jumped(first.row, frame.row)
        ):
            return []
        times_us, rows, regimes = zip(*life.waiting, strict=True)
        life.waiting = []
        return self.run(np.array(times_us, dtype=np.int64), np.array(rows), np.array(regimes))

    def run(
        self, times_us: IntArray, rows: FloatArray, regimes: FloatArray, shown: BlockRows | None = None
    ) -> list[Event]:
        """Judge aligned rows (n, channels); what happened. ``shown`` takes what each row showed."""
        if not self.passing.needed:
            return self._judge(times_us, rows, regimes, shown, 0)
        self.passing.begin(len(rows))
        events: list[Event] = []
        start = 0
        while start < len(rows):
            # row by row while learning: from the row after the one it ends at, standstill is known
            stop = start + 1 if self.passing.learning else len(rows)
            each = slice(start, stop)
            events += self._run(times_us[each], rows[each], regimes[each], shown, start)
            start = stop
        return events

    def note_waveform(self, waveform: Waveform) -> None:
        """Remember a burst, whose features are judged, for findings and the picture."""
        self.life.trace.note_waveform(waveform, learning=self.judge.model is None)
        memory = self.life.memory
        if not memory.waveforms_us or memory.waveforms_us[-1] != waveform.time_us:
            memory.waveforms_us = [*memory.waveforms_us[-KEPT_WAVEFORMS + 1 :], waveform.time_us]

    def replaced(self, serial: str, time_us: int) -> list[Event]:
        """Another one was fitted: learn anew."""
        old, self.subject = self.subject.serial, dataclasses.replace(self.subject, serial=serial)
        return self._anew(f"replaced: {old or 'unknown'} by {serial}", time_us)

    def relearn(self, asked_us: int, time_us: int) -> list[Event]:
        """It was repaired: learn anew, once for each time this is asked for."""
        if asked_us <= self.relearnt_us:
            return []
        self.relearnt_us = asked_us
        if not self.judge.learned_fraction:
            return []
        return self._anew("learns anew after declared maintenance", time_us)

    def top_channel(self, plane: Plane | None = None) -> str:
        """The channel that stands out on a plane, else on the leading one; while learning, beside its class."""
        prior = self.life.prior
        if prior is not None and prior.alarm and self.judge.model is None:
            return self.subject.channels[int(np.abs(prior.ratios).argmax())].name
        judged = (plane or self.judge.leading).judged
        if judged is None or not judged.channels[-1].any():
            return ""
        return self.subject.channels[int(np.argmax(judged.channels[-1]))].name

    def view(self) -> ComponentView:
        """How the component stands, for people."""
        judge, prior, standing = self.judge, self.life.prior, self.judge.standing()
        votes = {} if standing is None else standing.votes()
        if prior is not None and (judge.model is None or prior.alarm):
            votes[VOTE] = prior.evidence
        return ComponentView(
            component=self.subject.slot,
            state=self.life.state,
            score=self._score(),
            top_channel=self.top_channel(),
            learned_fraction=judge.learned_fraction,
            detectors=votes,
            standstill_since_us=self.passing.standstill_since_us,
        )

    def state(self) -> dict[str, Any]:
        """Everything, for a snapshot."""
        life = self.life
        tree: dict[str, Any] = {
            "serial": self.subject.serial,
            "aligner": life.aligner.state(),
            "judge": life.judge.state(),
            "waiting": [waiting._asdict() for waiting in life.waiting],
            "ticked_us": life.ticked_us,
            "memory": life.memory.state_tree(),
            "trace": life.trace.state(),
            "novelty": None if self.novelty is None else self.novelty.state(),
            "passing": self.passing.state(),
            "relearnt_us": self.relearnt_us,
        }
        if life.prior is not None:
            tree["prior"] = {"judge": life.prior.state(), "memory": dataclasses.asdict(life.prior_memory)}
        return tree

    def load(self, tree: Mapping[str, Any]) -> None:
        """Continue from a ``state``. Raises one of ``DAMAGED``, BadInput or BadConfig when it does not fit; start over
        then."""
        channels = len(self.subject.channels)
        self.subject = dataclasses.replace(self.subject, serial=restored.text(tree["serial"]))
        life = self._begin()
        life.aligner.load(tree["aligner"])
        life.judge.load(tree["judge"])
        life.waiting = [self._load_waiting(each) for each in restored.items(tree["waiting"])]
        life.ticked_us = restored.time_us(tree["ticked_us"])
        life.memory = evidence.load_memory(tree["memory"], channels)
        life.trace.load(tree.get("trace"), Planes(life.judge.fast, life.judge.slow))
        if self.novelty is not None:
            self.novelty.load(tree["novelty"])
        if life.prior is not None and (by_class := tree.get("prior")) is not None:
            life.prior.load(by_class["judge"])
            if life.prior.alarm:
                life.prior_memory = load_prior_memory(by_class["memory"])
        self.passing.load(tree["passing"])
        self.relearnt_us = restored.time_us(tree["relearnt_us"])
        self.life = life
        life.state = self._overlaid(life.judge.tracker.state)

    def _load_waiting(self, state: Mapping[str, Any]) -> Waiting:
        row = restored.readings(state["row"], len(self.subject.channels))
        return Waiting(restored.time_us(state["time_us"]), row, restored.readings(state["regime"], self._regimes))

    def _begin(self, tracker: StateTracker | None = None) -> Life:
        """A life of which nothing is known yet; ``tracker``: the state it goes on with."""
        channels, settings = self.subject.channels, self._settings
        judge = ComponentJudge(len(channels), self._itself, settings, self._fall_share, tracker)
        return Life(
            aligner=Aligner(len(channels), int(settings.least_tick_s * 1_000_000)),
            judge=judge,
            prior=usable_prior(settings.prior, self.subject.type, channels),
            trace=TraceKeeper(channels, len(self._itself)),
            memory=FindingMemory(np.zeros(len(channels)), np.zeros(len(channels))),
            state=judge.tracker.state,
        )

    def _anew(self, reason: str, time_us: int) -> list[Event]:
        before, tracker = self.life.state, self.judge.tracker
        tracker.forget()
        self.life = self._begin(tracker)
        self.passing.start_over()
        return [self._change(DetectionState.LEARNING, before, time_us, reason)]

    def _run(
        self, times_us: IntArray, rows: FloatArray, regimes: FloatArray, shown: BlockRows | None, offset: int
    ) -> list[Event]:
        """Judge rows, of which the first stands at ``offset`` in its block, but for those passed over."""
        held, news = self.passing.run(times_us, rows, regimes, self._count)
        judged = np.where(held[:, None], np.nan, rows)
        events: list[Event] = []
        for start, stop in itertools.pairwise(sorted({0, *news, len(rows)})):
            # said as a state that stays
            state = self.life.state
            events += [self._change(state, state, int(times_us[start]), text) for text in news.get(start, ())]
            each = slice(start, stop)
            events += self._judge(times_us[each], judged[each], regimes[each], shown, offset + start)
        if self.passing.learning and not held[-1]:
            self.passing.learn(rows[-1], regimes[-1], over=self.judge.model is not None)
        return events

    def _judge(
        self, times_us: IntArray, rows: FloatArray, regimes: FloatArray, shown: BlockRows | None, offset: int
    ) -> list[Event]:
        """Judge rows, of which the first stands at ``offset`` in its block."""
        events: list[Event] = []
        life = self.life
        judge = life.judge
        if self._context:
            regimes = np.concatenate((regimes, rows[:, self._context]), axis=1)
        for segment in judge.run(times_us, rows, regimes):
            before, state = life.state, judge.tracker.state
            time_us = int(segment.times_us[-1])
            if life.prior is not None:
                segment = self._ask_class(segment, life.prior)
            life.state = self._overlaid(state)
            evidence.track(life.memory, segment, state, self._settings)
            life.trace.take(segment, Planes(judge.fast, judge.slow), judge.means, times_us, regimes, state)
            told = len(events)
            for passed in map(self._overlaid, segment.passed):
                if passed is not before:
                    events.append(self._change(passed, before, time_us, self._reason(passed)))
                before = passed
            if life.state is not before:  # by the class's prior
                events.append(self._change(life.state, before, time_us, self._reason(life.state)))
            events += self._findings(segment, state, time_us)
            if len(events) > told:
                life.trace.tell(events[told:], creeps=judge.leading is judge.slow)
            if shown is not None:
                shown.add(dataclasses.replace(segment, start=segment.start + offset), life.state)
        return events

    def _ask_class(self, segment: Segment, prior: PriorJudge) -> Segment:
        """The segment with what the class's prior shows in it. While learning a segment is a single row."""
        if segment.deviation is not None:
            return segment if not prior.alarm else _at_least(segment, prior.evidence)
        for row, time_us in zip(segment.rows, segment.times_us.tolist(), strict=True):
            prior.take(row, time_us)
        if self.judge.model is not None:
            prior.learnt(int(segment.times_us[-1]))
        standing = np.abs(prior.ratios) * (prior.alarm and self.judge.model is None)
        channels = np.repeat(standing[None], len(segment.rows), axis=0)
        return dataclasses.replace(_at_least(segment, prior.evidence), channels=channels)

    def _overlaid(self, state: DetectionState) -> DetectionState:
        """The judge's state, or the class's alarm where that is more."""
        prior = self.life.prior
        by_class = prior is not None and prior.alarm and state not in ALARMS
        return DetectionState.DEGRADING if by_class else state

    def _findings(self, segment: Segment, state: DetectionState, time_us: int) -> list[Event]:
        life = self.life
        found: list[Finding | None] = []
        if life.prior is not None and segment.deviation is None:
            fraction = self.judge.learned_fraction
            found.append(prior_finding(self.subject, life.prior, life.prior_memory, fraction, time_us, self._settings))
        if state in ALARMS and (standing := self.judge.standing()) is not None:
            found.append(evidence.finding(self.subject, life.memory, standing, time_us, self._settings))
        return [each for each in found if each is not None]

    def _score(self) -> float:
        by_class = self.life.prior.evidence if self.life.prior is not None else 0.0
        return fusion.score(max(self.judge.evidence, by_class))

    def _change(self, state: DetectionState, before: DetectionState, time_us: int, reason: str) -> StateChange:
        return StateChange(self.subject.slot, state, before, time_us, self._score(), reason[:MAX_TOLD_REASON])

    def _reason(self, state: DetectionState) -> str:
        """Why the component is in this state, in words."""
        prior, judge = self.life.prior, self.judge
        if prior is not None and prior.alarm and judge.tracker.state not in ALARMS:
            return f"{judged_by(prior, judge.learned_fraction)}; {worst_in_words(self.subject, prior)}"
        top, model = self.top_channel(), judge.model
        if model is None or not top:
            return "baseline learnt" if state is DetectionState.HEALTHY else ""
        index = self.channel_of[top]
        healthy, sigma = evidence.healthy_level(model, index)
        now = float(model.baseline.physical(self.life.memory.fast)[index])
        unit = self.subject.channels[index].unit
        return f"evidence {judge.evidence:.2f}; {in_words(top, unit, now, healthy, sigma)}"


def _at_least(segment: Segment, shown: float) -> Segment:
    return dataclasses.replace(segment, shown=np.maximum(segment.shown, shown))
