"""Pieces of work that fail alone: each that fails is left alone for a while, and the others go on.

A loop that does many pieces of one kind (timers, assets, partitions) must not end, and must not begin again from the
first, because of one it can never do. ``PutOff`` keeps which pieces failed, for how long each is left alone, and what
the log was told of it; the loop asks it and goes on.

What is put off is not forgotten: each failure is counted, the first is logged with the piece and the reason, and so is
the success that follows. Nothing is kept beyond the process: one that starts anew tries every piece at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable

from fleet_core.service import Backoff, Errors, Outage

FIRST_PAUSE_S = 10.0
"""What passes by itself (two that waited for each other) is over by then."""
MOST_PAUSE_S = 600.0
"""What failed so often waits for people, who are not to wait long once they have mended it."""
MOST_KEPT = 1000


class PutOff:
    """The pieces of one kind that failed when they were last tried.

    ``begins`` and ``over`` are for the log, with ``{}`` in the place of the piece. The pauses between the tries of one
    piece double from ``first_s`` to ``most_s`` (real seconds). Errors in ``known`` are logged in one line, the others
    with their traceback. ``on_failure`` is called at each failure, for a counter. At most ``MOST_KEPT`` pieces are
    kept: beyond them the one whose failure is oldest counts as new, which costs a try and a line in the log.
    """

    def __init__(
        self,
        log: logging.Logger,
        begins: str,
        over: str,
        *,
        first_s: float = FIRST_PAUSE_S,
        most_s: float = MOST_PAUSE_S,
        known: Errors = (),
        on_failure: Callable[[], object] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._begins, self._over = begins, over
        self._first_s, self._most_s = first_s, most_s
        self._known = known
        self._on_failure = on_failure
        self._now_s = now_s
        self._pieces: dict[Hashable, _Piece] = {}

    def __len__(self) -> int:
        return len(self._pieces)

    def waits(self, piece: Hashable) -> bool:
        """Whether the pause of a piece that failed is not over yet."""
        failed = self._pieces.get(piece)
        return failed is not None and self._now_s() < failed.until_s

    def waiting(self) -> list[Hashable]:
        """The pieces whose pause is not over yet, the one that failed longest ago first."""
        return [piece for piece in self._pieces if self.waits(piece)]

    def failed(self, piece: Hashable, error: Exception) -> float:
        """A try failed. Returns the pause until the next one, in real seconds."""
        failed = self._pieces.pop(piece, None) or self._new(piece)
        self._pieces[piece] = failed  # behind all others: the first is the one that failed longest ago
        if len(self._pieces) > MOST_KEPT:
            del self._pieces[next(iter(self._pieces))]
        failed.outage.failed(error)
        pause_s = failed.backoff.pause_s()
        failed.until_s = self._now_s() + pause_s
        return pause_s

    def succeeded(self, piece: Hashable) -> None:
        """A try succeeded: logged when the one before it failed."""
        failed = self._pieces.pop(piece, None)
        if failed is not None:
            failed.outage.succeeded()

    def _new(self, piece: Hashable) -> _Piece:
        outage = Outage(
            self._log,
            self._begins.format(piece),
            self._over.format(piece),
            known=self._known,
            on_failure=self._on_failure,
            now_s=self._now_s,
        )
        return _Piece(outage, Backoff(self._first_s, self._most_s))


class _Piece:
    """What is kept of a piece that failed."""

    def __init__(self, outage: Outage, backoff: Backoff) -> None:
        self.outage = outage
        self.backoff = backoff
        self.until_s = 0.0
