"""From evidence to a state.

States move along one table, one step at a time; what is not listed fails. A step up needs the evidence to stay above
the next state's level for some ticks, a step down to stay below a fraction of the present one's: persistence against
flicker, hysteresis against chatter.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.restored import whole
from edge_agent.detection.settings import DetectionSettings
from fleet_core.errors import BadInput
from fleet_core.telemetry import DetectionState

UNALARMED = (DetectionState.HEALTHY, DetectionState.WATCH)
ALARMS = (DetectionState.DEGRADING, DetectionState.CRITICAL)
LEVELS = ("watch", "alarm", "critical")
"""Levels of the evidence, as the settings name them."""


class Signal(StrEnum):
    """What may move a state."""

    LEARNED = "learned"
    RAISED = "raised"
    SUBSIDED = "subsided"
    FORGOTTEN = "forgotten"


_STATE = DetectionState

TRANSITIONS: dict[tuple[DetectionState, Signal], DetectionState] = {
    (_STATE.LEARNING, Signal.LEARNED): _STATE.HEALTHY,
    (_STATE.HEALTHY, Signal.RAISED): _STATE.WATCH,
    (_STATE.WATCH, Signal.RAISED): _STATE.DEGRADING,
    (_STATE.DEGRADING, Signal.RAISED): _STATE.CRITICAL,
    (_STATE.CRITICAL, Signal.SUBSIDED): _STATE.DEGRADING,
    (_STATE.DEGRADING, Signal.SUBSIDED): _STATE.WATCH,
    (_STATE.WATCH, Signal.SUBSIDED): _STATE.HEALTHY,
    (_STATE.LEARNING, Signal.FORGOTTEN): _STATE.LEARNING,
    (_STATE.HEALTHY, Signal.FORGOTTEN): _STATE.LEARNING,
    (_STATE.WATCH, Signal.FORGOTTEN): _STATE.LEARNING,
    (_STATE.DEGRADING, Signal.FORGOTTEN): _STATE.LEARNING,
    (_STATE.CRITICAL, Signal.FORGOTTEN): _STATE.LEARNING,
}
"""The detection state machine. ``FORGOTTEN``: the baseline was dropped, because the component was replaced or declared
maintenance asks for learning anew."""


def advance(state: DetectionState, signal: Signal) -> DetectionState:
    """The next state. Raises BadInput for a transition that is not in the table."""
    try:
        return TRANSITIONS[state, signal]
    except KeyError:
        raise BadInput("transition", f"{signal} does not apply to {state}") from None


class StateTracker:
    """Persistence and hysteresis around the table. One tick in, at most one step per level out."""

    def __init__(self, settings: DetectionSettings) -> None:
        self.state = DetectionState.LEARNING
        self._watch = settings.watch
        self._levels = np.array((settings.watch, settings.alarm, settings.critical))
        self._releases = self._levels * settings.release
        self._release_ticks = settings.release_ticks
        self.raise_ticks = settings.raise_ticks
        self._counters = [0] * 2 * len(self._levels)

    def learned(self) -> None:
        self.state = advance(self.state, Signal.LEARNED)

    def forget(self) -> None:
        self.state = advance(self.state, Signal.FORGOTTEN)
        self.calm()

    def take(self, evidence: float) -> list[DetectionState]:
        """Take one tick's evidence; the states passed through, in order, the last being the present one."""
        self._counters = self._counted(np.array([evidence]))[-1].tolist()
        passed: list[DetectionState] = []
        while (signal := self._signal()) is not None:
            self.state = advance(self.state, signal)
            passed.append(self.state)
        return passed

    def steady(self, evidence: FloatArray) -> int:
        """Take ticks (n,) as long as the state stays; how many were taken. 0 while an alarm stands."""
        if not len(evidence) or self.state not in UNALARMED:
            return 0
        if self.quiet(float(evidence.max())):
            self.calm()
            return len(evidence)
        counted = self._counted(evidence)
        raising, releasing = _PLACES[self.state]
        moves = counted[:, raising] >= self.raise_ticks
        if releasing is not None:
            moves |= counted[:, releasing] >= self._release_ticks
        steady = int(moves.argmax()) if moves.any() else len(moves)
        if steady:
            self._counters = counted[steady - 1].tolist()
        return steady

    def quiet(self, evidence: float) -> bool:
        """Is this evidence, in the present state, no news at all?"""
        return self.state is DetectionState.HEALTHY and evidence < self._watch

    def calm(self) -> None:
        """What quiet ticks do to the counters."""
        self._counters = [0] * 2 * len(self._levels)

    def counters(self) -> list[int]:
        """Ticks since the evidence was last below each level, then since it was last above what releases each."""
        return list(self._counters)

    def memory(self) -> dict[str, Any]:
        """For a snapshot: the counters by level, ``above`` what raises and ``below`` what releases."""
        count = len(self._levels)
        return {
            "state": self.state.value,
            "raise_ticks": self.raise_ticks,
            "above": dict(zip(LEVELS, self._counters[:count], strict=True)),
            "below": dict(zip(LEVELS, self._counters[count:], strict=True)),
        }

    def load(self, memory: Mapping[str, Any]) -> None:
        """Continue from a ``memory``. Raises ValueError, TypeError, KeyError when it is none."""
        self.state, self.raise_ticks = DetectionState(memory["state"]), whole(memory["raise_ticks"], 1)
        self._counters = [whole(memory[side][level]) for side in ("above", "below") for level in LEVELS]

    def _counted(self, evidence: FloatArray) -> IntArray:
        """The counters (n, 2 * levels) after each tick (n,), were the state to stay."""
        column = evidence[:, None]
        counts = np.concatenate((column >= self._levels, column < self._releases), axis=1)
        if self.state is DetectionState.HEALTHY:
            counts &= column >= self._watch  # quiet ticks calm every counter
        index = np.arange(len(evidence))[:, None]
        last = np.maximum.accumulate(np.where(counts, -1, index), axis=0)
        counted: IntArray = index - last + np.where(last < 0, self._counters, 0)
        return counted

    def _signal(self) -> Signal | None:
        raising, releasing = _PLACES.get(self.state, (None, None))
        if raising is not None and self._counters[raising] >= self.raise_ticks:
            return Signal.RAISED
        if releasing is not None and self._counters[releasing] >= self._release_ticks:
            return Signal.SUBSIDED
        return None


_PLACES: dict[DetectionState, tuple[int | None, int | None]] = {
    _STATE.HEALTHY: (0, None),
    _STATE.WATCH: (1, 3),
    _STATE.DEGRADING: (2, 4),
    _STATE.CRITICAL: (None, 5),
}
"""Which counter raises a state, and which lets it subside."""
