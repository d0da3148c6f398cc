"""What each row of a block showed of one component: gathered from segments, for recordings. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_agent.detection import fusion
from edge_agent.detection.api import ComponentView
from edge_agent.detection.judging.segment import Segment
from fleet_core.telemetry import DetectionState


class BlockRows:
    """What each row of a block showed of one component, the rows passed over showing what stood before."""

    def __init__(self, names: Sequence[str], view: ComponentView, top: str, rows: int) -> None:
        self._names = list(names)
        self._last = (view.score, view.state, top)
        self._next = 0
        self.evidence_score = np.empty(rows)
        self.states: list[DetectionState] = []
        self.tops: list[str] = []

    def add(self, segment: Segment, state: DetectionState) -> None:
        """Take the next segment; ``state`` after it."""
        self.fill(segment.start)
        count = len(segment.times_us)
        scores = fusion.score(segment.shown)
        self.evidence_score[segment.start : segment.start + count] = scores
        self.states += [state] * count
        tops = [self._last[2]] * count
        if segment.channels is not None:
            standing = np.asarray((segment.channels > 0).any(axis=1)).tolist()
            most = np.argmax(segment.channels.round(9), axis=1).tolist()  # a tie is a tie in any block
            tops = [self._names[index] if some else "" for index, some in zip(most, standing, strict=True)]
        self.tops += tops
        self._last = (float(scores[-1]), state, tops[-1])
        self._next = segment.start + count

    def fill(self, stop: int) -> None:
        """Rows up to ``stop`` show what the last one did."""
        count = stop - self._next
        if count > 0:
            self.evidence_score[self._next : stop] = self._last[0]
            self.states += [self._last[1]] * count
            self.tops += [self._last[2]] * count
            self._next = stop
