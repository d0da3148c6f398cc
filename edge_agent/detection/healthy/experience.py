"""Episodes: what rises and subsides by itself, what stands, and what grows. Pure.

* A baseline never follows a drift that shows: rows are learnt from only while nothing suspicious stands.
* Where days are within reach (a day takes no more rows than may be learnt from at first), the baseline is young
  until it has seen some weeks: what rises and subsides by itself within days (a nightly job, the first hot noon, a
  weekend) is experience and is learnt from; what stands and grows is not.
* What stands longer than patience lasts is a fault if it grows, and the new normal if it stands still.

Where days are not within reach, a step soon after learning goes on trial instead: ``probation``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_agent.detection import restored
from edge_agent.detection.healthy.rows import KeptRows, load_rows
from edge_agent.detection.tuning import MOST_ROOM, PATIENCE_US, ROOM_BEYOND, ROOM_FROM, SUBSIDED_ROWS


@dataclass
class EpisodeTracker:
    """The episode under way, if there is one.

    ``began_us``: since when it stands, 0 without one. ``rows``: its rows, kept while it may still be learnt from.
    ``calm_rows``: rows since it was last suspicious. ``peak``: its highest evidence. ``convicted``: was it found to be
    a fault while the plane was young? ``room``: how many times as wide all that came and went has made the limit of the
    evidence; a later fit makes the limit anew, without it, and leaves ``room``.
    """

    rows: KeptRows = field(default_factory=KeptRows)
    began_us: int = 0
    calm_rows: int = 0
    peak: float = 0.0
    convicted: bool = False
    room: float = 1.0

    @property
    def stands(self) -> bool:
        """Is there an episode?"""
        return self.began_us != 0

    def see(self, suspicious: bool, highest: float, rows: int, now_us: int) -> bool:
        """Take note of so many more rows, whose evidence reached ``highest``; did an episode subside with them?"""
        if suspicious:
            self.peak = max(self.peak, highest) if self.began_us else highest
            self.began_us = self.began_us or now_us
            self.calm_rows = 0
        elif self.began_us:
            self.calm_rows += rows
        if not self.began_us or self.calm_rows < SUBSIDED_ROWS:
            return False
        self.began_us = 0
        self.convicted = False
        return True

    @property
    def patient_until_us(self) -> int:
        """Until then it is too early to say whether it grows or stands still."""
        return self.began_us + PATIENCE_US

    def drop_rows(self) -> None:
        """Keep none of its rows: they are not learnt from."""
        self.rows = KeptRows()

    def end(self) -> None:
        """Forget the episode: another baseline judges from now on."""
        self.rows = KeptRows()
        self.began_us = self.calm_rows = 0

    def room_asked(self, far_beyond: float) -> float:
        """How many times wider the evidence's limit must become for what subsided to stay below it; 1 when it stays.

        What came near the limit is given room to a quarter beyond its peak; what went ``far_beyond`` is not: that is
        no experience. All episodes together make the limit at most ``MOST_ROOM`` times as wide.
        """
        if not ROOM_FROM <= self.peak < far_beyond:
            return 1.0
        room = min(ROOM_BEYOND * self.peak, MOST_ROOM / self.room)
        return room if room > 1.01 else 1.0

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {
            "rows": self.rows.state(),
            "began_us": self.began_us,
            "calm_rows": self.calm_rows,
            "peak": self.peak,
            "convicted": self.convicted,
            "room": self.room,
        }


def load_episodes(state: Mapping[str, Any], channels: int, regimes: int) -> EpisodeTracker:
    """A tracker from its ``state``. Raises ValueError, TypeError, KeyError when it is of other channels, or is none."""
    episode = EpisodeTracker(
        rows=load_rows(state["rows"], channels, regimes),
        began_us=restored.time_us(state["began_us"]),
        calm_rows=restored.whole(state["calm_rows"]),
        peak=restored.evidence(state["peak"]),
        convicted=restored.flag(state["convicted"]),
        room=restored.number(state["room"], 1.0, MOST_ROOM * 1.01),
    )
    if episode.stands and episode.calm_rows >= SUBSIDED_ROWS:
        raise ValueError("an episode that stands and has subsided")
    return episode
