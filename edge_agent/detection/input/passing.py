"""Which rows of a component are passed over: inside declared maintenance, or while the machine stands still. Pure.

What is passed over is neither judged nor learnt, and is counted by its reason; where it begins and ends is news.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge_agent.detection.input.maintenance import Window, covered
from edge_agent.detection.input.standstill import Standstill, is_activity, is_witness
from edge_agent.detection.restored import flag
from edge_agent.detection.subject import Subject
from fleet_core.telemetry import from_us

News = dict[int, list[str]]


class Passing:
    """Of one component. ``regimes`` names the vitals of the whole asset; ``stands``: may it be meant to stand still?

    What runs is told by vitals of the whole asset; a component's own count only where the asset has no parts.
    """

    def __init__(self, subject: Subject, regimes: Sequence[str], stands: bool) -> None:
        names = [each.name for each in subject.channels]
        asked = regimes or ([] if subject.type else names)
        self._slot = subject.slot
        self._asset_wide = bool(regimes)
        self._asked = [index for index, name in enumerate(asked) if is_activity(name)] if stands else []
        self._witnesses = [index for index, name in enumerate(names) if is_witness(name)]
        self._activities = [asked[index] for index in self._asked]
        self._standstill = Standstill(self._activities, len(self._witnesses))
        self.windows: tuple[Window, ...] = ()
        self._maintained = False
        self._done = 0
        self._rows: np.ndarray = np.zeros(0, dtype=bool)

    def start_over(self) -> None:
        """Learn anew what standing still is."""
        self._standstill = Standstill(self._activities, len(self._witnesses))

    def forget(self) -> None:
        """Know nothing, of maintenance that goes on either."""
        self.start_over()
        self._maintained = False

    @property
    def needed(self) -> bool:
        """Could any row be passed over?"""
        return bool(self.windows) or self._maintained or self._standstill.possible

    @property
    def learning(self) -> bool:
        """Does it still learn what standing still is?"""
        return self._standstill.learning

    @property
    def standstill_since_us(self) -> int:
        """Since when the machine stands still; 0 while it is judged."""
        return self._standstill.since_us

    def begin(self, rows: int) -> None:
        """A block of so many rows comes, in one or more runs."""
        self._rows, self._done = np.zeros(rows, dtype=bool), 0

    def without(self, rows: np.ndarray) -> np.ndarray:
        """The rows (n, channels) of the last block with those passed over made missing."""
        if not self.needed or not self._rows.any():
            return rows
        return np.where(self._rows[:, None], np.nan, rows)

    def run(
        self, times_us: np.ndarray, rows: np.ndarray, regimes: np.ndarray, count: Callable[[str, int], None]
    ) -> tuple[np.ndarray, News]:
        """Which rows (n, channels) of the block are passed over (n,), and what is to be said at which of them."""
        maintained = covered(self.windows, self._slot, times_us)
        still, stood = self._standstill.run(times_us, *self._read(rows, regimes))
        held: np.ndarray = maintained | still
        count("maintenance_rows", int(maintained.sum()))
        count("standstill_rows", int((still & ~maintained).sum()))
        news: News = {}
        for row in np.flatnonzero(np.diff(maintained, prepend=self._maintained)).tolist():
            news[row] = [self._notice(int(times_us[row]), bool(maintained[row]))]
        for row, text in stood.items():
            news.setdefault(row, []).append(text)
        self._maintained = bool(maintained[-1])
        self._rows[self._done : self._done + len(rows)] = held
        self._done += len(rows)
        return held, news

    def learn(self, row: np.ndarray, regimes: np.ndarray, over: bool) -> None:
        """A row (channels,) of the learning period; ``over``: the last one of it."""
        activity, witness = self._read(row[None], regimes[None])
        self._standstill.take(activity[0], witness[0])
        if over:
            self._standstill.learnt()

    def state(self) -> dict[str, Any]:
        """Everything, for a snapshot."""
        standstill = self._standstill.state() if self._standstill.possible else None
        return {"standstill": standstill, "maintained": self._maintained}

    def load(self, tree: Mapping[str, Any]) -> None:
        """Continue from a ``state``; without a standstill it is learnt from the rows to come. Raises ValueError,
        KeyError."""
        self.start_over()
        if tree["standstill"] is not None:
            self._standstill.load(tree["standstill"])
        self._maintained = flag(tree["maintained"])

    def _read(self, rows: np.ndarray, regimes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (regimes if self._asset_wide else rows)[:, self._asked], rows[:, self._witnesses]

    def _notice(self, time_us: int, begins: bool) -> str:
        if not begins:
            return "maintenance is over: judged again"
        inside = [each for each in self.windows if each.start_us <= time_us < each.end_us]
        window = max(inside, key=lambda each: each.end_us)
        until = from_us(window.end_us).strftime("%Y-%m-%d %H:%M")
        return f"maintenance until {until} UTC at most, not judged" + (f": {window.reason}" if window.reason else "")
