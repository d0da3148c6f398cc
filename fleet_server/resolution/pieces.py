"""What a worker does piece by piece, and which pieces of each kind are put off.

A piece that fails stays alone with its fault: it is left alone for a while, counted by its kind in
``forestall_worker_failures_total``, and logged once with the reason and once when it is done. The other pieces and
the worker go on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial

from fleet_core.put_off import FIRST_PAUSE_S, MOST_PAUSE_S, PutOff
from fleet_server.resolution.metrics import FAILURES
from fleet_server.store.alone import KNOWN

log = logging.getLogger(__name__)


MOST_PAUSE_OF_A_CASE_S = 10.0
"""A case has a plan and people who wait for it: it is tried again soon after it was mended."""


def _kind(task: str, begins: str, over: str, most_s: float = MOST_PAUSE_S) -> PutOff:
    begins += f", it is tried again after {FIRST_PAUSE_S:g} s and at last every {most_s:g} s"
    return PutOff(log, begins, over, most_s=most_s, known=KNOWN, on_failure=FAILURES.labels(task).inc)


@dataclass
class Pieces:
    """One ``PutOff`` for each kind of work of this worker."""

    cases: PutOff = field(
        default_factory=partial(
            _kind, "advance_case", "case {} cannot be advanced", "case {} is advanced again", MOST_PAUSE_OF_A_CASE_S
        )
    )
    timers: PutOff = field(
        default_factory=partial(_kind, "timer", "timer {} cannot be handled", "timer {} was handled")
    )
    rests: PutOff = field(
        default_factory=partial(_kind, "rest_check", "case {} cannot be checked", "case {} was checked again")
    )
    reminders: PutOff = field(
        default_factory=partial(
            _kind, "reminder", "escalation {} cannot be reminded of", "escalation {} was reminded of"
        )
    )
    assets: PutOff = field(
        default_factory=partial(
            _kind, "health_of_asset", "the health of asset {} cannot be told", "the health of asset {} is told again"
        )
    )
    maintenances: PutOff = field(
        default_factory=partial(
            _kind, "maintenance_window", "the maintenance of asset {} cannot be ended",
            "the maintenance of asset {} was ended",
        )
    )  # fmt: skip
    running: PutOff = field(
        default_factory=partial(
            _kind, "running_state", "whether asset {} runs cannot be told", "whether asset {} runs is told again"
        )
    )
    jobs: PutOff = field(
        default_factory=partial(_kind, "stalled_job", "job {} cannot be taken up again", "job {} was taken up again")
    )
