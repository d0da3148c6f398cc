"""One component of an asset: its channels, their alignment, its judge, what its class says, and its findings. Pure.

Rows inside declared maintenance, and those at which the machine merely stands still, are passed over (``passing``) as
if nothing had been read. The state told is the judge's, but for an alarm by the class's prior, which stands until the
judge's own is as high.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edge_agent.detection import fusion
from edge_agent.detection.api import ComponentView, Event
from edge_agent.detection.findings import evidence
from edge_agent.detection.findings.evidence import Course
from edge_agent.detection.findings.failure_mode import harms_rising
from edge_agent.detection.input.align import Aligner, Frame
from edge_agent.detection.input.passing import Passing
from edge_agent.detection.input.regimes import MAX_REGIMES, is_context
from edge_agent.detection.judging.judge import ComponentJudge, Segment
from edge_agent.detection.judging.novelty import Novelty
from edge_agent.detection.judging.plane import Plane
from edge_agent.detection.judging.states import ALARMS, UNALARMED
from edge_agent.detection.prior.finding import VOTE, Told, judged_by, prior_finding, worst_in_words
from edge_agent.detection.prior.judge import usable_prior
from edge_agent.detection.seen import Seen
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.subject import Subject
from edge_agent.detection.trace.keeper import Tracer
from fleet_core.telemetry import DetectionState, Finding, StateChange

FALL_SHARE = 1 / 3
"""A vibration that falls has run in or is asked less; a sensor that came loose still shows, by falling far."""
GROUP_TICKS = 16
GROUP_US = 900_000_000
GROUP_STEP_US = 120_000_000
"""Live ticks that are close are judged together, at most so many over at most so long; at once while an alarm stands,
when one jumps, and where ticks are rare."""
MAX_TOLD_REASON = 256


class Slot:
    """One component. ``regimes`` names the vitals of the whole asset it is normalised by; ``count`` is told of rows
    passed over, by reason."""

    def __init__(
        self,
        subject: Subject,
        regimes: Sequence[str],
        settings: DetectionSettings,
        count: Callable[[str, int], None],
        stands: bool = False,
    ) -> None:
        """``stands``: may the asset be meant to stand still?"""
        self.subject = subject
        self.channel_of = {channel.name: index for index, channel in enumerate(subject.channels)}
        context = [index for index, each in enumerate(subject.channels) if is_context(each.name)]
        # a component of context alone is judged as any other
        self._context = context[:MAX_REGIMES] if len(context) < len(subject.channels) else []
        fall_share = np.where(harms_rising(subject.channels), FALL_SHARE, 1.0)
        itself = (*([-1] * len(regimes)), *self._context)
        self.judge = ComponentJudge(len(subject.channels), itself, settings, fall_share)
        self._settings = settings
        self._regimes = len(regimes) + len(self._context)
        self._count = count
        self.novelty = Novelty(len(subject.channels)) if settings.novelty else None
        self._class = usable_prior(settings.prior, subject.type, subject.channels)
        self.passing = Passing(subject, regimes, stands)
        self.relearnt_us = 0
        self.forget()

    def forget(self) -> None:
        channels = len(self.subject.channels)
        min_tick_us = int(self._settings.least_tick_s * 1_000_000)
        self.aligner = Aligner(channels, min_tick_us)
        self._waiting: list[tuple[int, np.ndarray, np.ndarray]] = []
        self._ticked_us = 0
        self.judge.forget()
        self._state = self.judge.tracker.state
        self.course = Course(np.zeros(channels), np.zeros(channels))
        self.tracer = Tracer(self.subject.channels, self._regimes)
        self._told = Told()
        if self._class is not None:
            self._class.forget()
        self.passing.forget()

    def retrace(self, spans: int) -> Tracer:
        """Trace anew, in so many spans."""
        self.tracer = Tracer(self.subject.channels, self._regimes, whole=spans)
        return self.tracer

    def tick(self, frame: Frame, regime: np.ndarray) -> list[Event]:
        """Judge a tick, or keep it for a few more: while all is quiet they are judged together, for less effort."""
        self._waiting.append((frame.time_us, frame.row, regime.copy()))
        first_us, first_row, _ = self._waiting[0]
        step_us, self._ticked_us = frame.time_us - self._ticked_us, frame.time_us
        if (
            len(self._waiting) < GROUP_TICKS
            and step_us <= GROUP_STEP_US
            and frame.time_us - first_us < GROUP_US
            and self._state in UNALARMED
            and not self.judge.health.jumped(first_row, frame.row)
        ):
            return []
        times_us, rows, regimes = zip(*self._waiting, strict=True)
        self._waiting = []
        return self.run(np.array(times_us, dtype=np.int64), np.array(rows), np.array(regimes))

    def run(self, times_us: np.ndarray, rows: np.ndarray, regimes: np.ndarray, seen: Seen | None = None) -> list[Event]:
        """Judge aligned rows (n, channels); what happened. ``seen`` takes what each row showed."""
        if not self.passing.needed:
            return self._judge(times_us, rows, regimes, seen, 0)
        self.passing.begin(len(rows))
        events: list[Event] = []
        start = 0
        while start < len(rows):
            # row by row while learning: from the row after the one it ends at, standstill is known
            stop = start + 1 if self.passing.learning else len(rows)
            each = slice(start, stop)
            events += self._run(times_us[each], rows[each], regimes[each], seen, start)
            start = stop
        return events

    def _run(
        self, times_us: np.ndarray, rows: np.ndarray, regimes: np.ndarray, seen: Seen | None, offset: int
    ) -> list[Event]:
        """Judge rows, of which the first stands at ``offset`` in its block, but for those passed over."""
        held, news = self.passing.run(times_us, rows, regimes, self._count)
        judged = np.where(held[:, None], np.nan, rows)
        events: list[Event] = []
        for start, stop in itertools.pairwise(sorted({0, *news, len(rows)})):
            # said as a state that stays
            events += [
                self._change(self._state, self._state, int(times_us[start]), text) for text in news.get(start, ())
            ]
            each = slice(start, stop)
            events += self._judge(times_us[each], judged[each], regimes[each], seen, offset + start)
        if self.passing.learning and not held[-1]:
            self.passing.learn(rows[-1], regimes[-1], over=self.judge.model is not None)
        return events

    def _judge(
        self, times_us: np.ndarray, rows: np.ndarray, regimes: np.ndarray, seen: Seen | None, offset: int
    ) -> list[Event]:
        """Judge rows, of which the first stands at ``offset`` in its block."""
        events: list[Event] = []
        if self._context:
            regimes = np.concatenate((regimes, rows[:, self._context]), axis=1)
        for segment in self.judge.run(times_us, rows, regimes):
            before, state = self._state, self.judge.tracker.state
            time_us = int(segment.times_us[-1])
            if self._class is not None:
                segment = self._ask_class(segment)
            self._state = self._overlaid(state)
            evidence.track(self.course, segment, state, self._settings)
            self.tracer.take(segment, self.judge, times_us, regimes, state)
            told = len(events)
            for passed in map(self._overlaid, segment.passed):
                if passed is not before:
                    events.append(self._change(passed, before, time_us, self._reason(passed)))
                before = passed
            if self._state is not before:  # by the class's prior
                events.append(self._change(self._state, before, time_us, self._reason(self._state)))
            events += self._findings(segment, state, time_us)
            if len(events) > told:
                self.tracer.tell(events[told:], self.judge)
            if seen is not None:
                seen.add(dataclasses.replace(segment, start=segment.start + offset), self._state)
        return events

    def waiting(self) -> list[list[Any]]:
        """The ticks that wait, for a snapshot."""
        return [[time_us, row, regime] for time_us, row, regime in self._waiting]

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
        if self._class is not None and self._class.alarm and self.judge.model is None:
            return self.subject.channels[int(np.abs(self._class.ratios).argmax())].name
        judged = (plane or self.judge.leading).judged
        if judged is None or not judged.channels[-1].any():
            return ""
        return self.subject.channels[int(np.argmax(judged.channels[-1]))].name

    def view(self) -> ComponentView:
        judge, votes = self.judge, evidence.votes(self.judge)
        if self._class is not None and (judge.model is None or self._class.alarm):
            votes[VOTE] = self._class.evidence
        return ComponentView(
            component=self.subject.slot,
            state=self._state,
            score=self._score(),
            top_channel=self.top_channel(),
            learned_fraction=judge.learned_fraction,
            detectors=votes,
            standstill_since_us=self.passing.standstill_since_us,
        )

    def state(self) -> dict[str, Any]:
        """Everything, for a snapshot."""
        tree: dict[str, Any] = {
            "serial": self.subject.serial,
            "aligner": self.aligner.state(),
            "judge": self.judge.state(),
            "waiting": self.waiting(),
            "course": self.course.state_tree(),
            "trace": self.tracer.state(),
            "novelty": None if self.novelty is None else self.novelty.state(),
        }
        if self._class is not None:
            tree["class"] = {"judge": self._class.state(), "told": dataclasses.asdict(self._told)}
        if passing := self.passing.state():
            tree["passing"] = passing
        if self.relearnt_us:
            tree["relearnt_us"] = self.relearnt_us
        return tree

    def load(self, tree: dict[str, Any]) -> None:
        """Continue from a ``state``."""
        self.subject = dataclasses.replace(self.subject, serial=tree["serial"])
        self.aligner.load(tree["aligner"])
        self.judge.load(tree["judge"])
        self._waiting = [(int(time_us), row, regime) for time_us, row, regime in tree["waiting"]]
        self.course = Course(**tree["course"])
        self.tracer.load(tree.get("trace"), self.judge)
        if self.novelty is not None:
            self.novelty.load(tree["novelty"])
        if self._class is not None:
            by_class = tree.get("class") or {"judge": None, "told": {}}
            self._class.load(by_class["judge"])
            self._told = Told(**by_class["told"]) if self._class.alarm else Told()
        self.passing.load(tree.get("passing", {}))
        self.relearnt_us = int(tree.get("relearnt_us", 0))
        self._state = self._overlaid(self.judge.tracker.state)

    def _anew(self, reason: str, time_us: int) -> list[Event]:
        before = self._state
        self.forget()
        self.judge.tracker.forget()
        self._state = self.judge.tracker.state
        return [self._change(DetectionState.LEARNING, before, time_us, reason)]

    def _ask_class(self, segment: Segment) -> Segment:
        """The segment with what the class's prior shows in it. While learning a segment is a single row."""
        assert self._class is not None
        if segment.deviation is not None:
            return segment if not self._class.alarm else _at_least(segment, self._class.evidence)
        for row, time_us in zip(segment.rows, segment.times_us.tolist(), strict=True):
            self._class.take(row, time_us)
        if self.judge.model is not None:
            self._class.learnt(int(segment.times_us[-1]))
        standing = np.abs(self._class.ratios) * (self._class.alarm and self.judge.model is None)
        channels = np.repeat(standing[None], len(segment.rows), axis=0)
        return dataclasses.replace(_at_least(segment, self._class.evidence), channels=channels)

    def _overlaid(self, state: DetectionState) -> DetectionState:
        """The judge's state, or the class's alarm where that is more."""
        by_class = self._class is not None and self._class.alarm and state not in ALARMS
        return DetectionState.DEGRADING if by_class else state

    def _findings(self, segment: Segment, state: DetectionState, time_us: int) -> list[Event]:
        found: list[Finding | None] = []
        if self._class is not None and segment.deviation is None:
            fraction = self.judge.learned_fraction
            found.append(prior_finding(self.subject, self._class, self._told, fraction, time_us, self._settings))
        if state in ALARMS:
            found.append(evidence.finding(self.subject, self.course, self.judge, time_us, self._settings))
        return [each for each in found if each is not None]

    def _score(self) -> float:
        by_class = self._class.evidence if self._class is not None else 0.0
        return fusion.score(max(self.judge.evidence, by_class))

    def _change(self, state: DetectionState, before: DetectionState, time_us: int, reason: str) -> StateChange:
        return StateChange(self.subject.slot, state, before, time_us, self._score(), reason[:MAX_TOLD_REASON])

    def _reason(self, state: DetectionState) -> str:
        if self._class is not None and self._class.alarm and self.judge.tracker.state not in ALARMS:
            return f"{judged_by(self._class, self.judge.learned_fraction)}; {worst_in_words(self.subject, self._class)}"
        top, model = self.top_channel(), self.judge.model
        if model is None or not top:
            return "baseline learnt" if state is DetectionState.HEALTHY else ""
        index = self.channel_of[top]
        healthy, sigma = evidence.healthy_level(model, index)
        now = float(model.baseline.physical(self.course.fast)[index])
        unit = self.subject.channels[index].unit
        return f"evidence {self.judge.evidence:.2f}; {evidence.in_words(top, unit, now, healthy, sigma)}"


def _at_least(segment: Segment, shown: float) -> Segment:
    return dataclasses.replace(segment, shown=np.maximum(segment.shown, shown))
