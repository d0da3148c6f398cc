"""An ended case whose outcome turns out to be another: the engineer's later word replaces the first, and is scored.

The course that joined the library with the first word stays as it is, for prognoses rest on it. Runs on the caller's
connection and transaction (worker role). Raises NotFound, BadInput or ForbiddenTransition and changes nothing then.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from fleet_core.assets import FAILURE_MODES
from fleet_core.clock import Clock
from fleet_core.errors import BadInput
from fleet_server.prognosis.live_calibration import score_case
from fleet_server.resolution.records import change_case, lock_case, note
from fleet_server.resolution.states import CaseState, ForbiddenTransition
from fleet_server.store.pool import Connection

_ENDED = (CaseState.CLOSED, CaseState.FALSE_ALARM)


class Correction(BaseModel):
    """What is known now. ``failed_at`` is when the component failed; empty: as its indicator tells."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    failed: bool
    failed_at: AwareDatetime | None = None
    failure_mode: str = Field(default="unknown", max_length=64)
    note: str = Field(default="", max_length=2000)


async def correct_outcome(
    conn: Connection, clock: Clock, actor: str, case_id: uuid.UUID | str, correction: Correction
) -> int:
    """Correct the outcome of an ended case; returns how many of its forecasts are scored anew."""
    if correction.failure_mode not in FAILURE_MODES:
        raise BadInput("failure_mode", f"{correction.failure_mode!r} is not one of {', '.join(FAILURE_MODES)}")
    case = await lock_case(conn, uuid.UUID(str(case_id)))
    if case.state not in _ENDED:
        raise ForbiddenTransition(f"the outcome of a case that is {case.state} is not known, so not corrected")
    _check(correction.failed_at, correction.failed, clock.now())
    before = case.outcome or {}
    said = correction.model_dump(mode="json", exclude_none=True)
    first = {"failed": before.get("failed"), "failure_mode": before.get("failure_mode")}
    outcome = {**before, "failed_at": None, **said, "corrected_at": clock.now().isoformat(), "corrected_by": actor}
    case = await change_case(conn, replace(case, outcome=outcome))
    scored = await score_case(conn, clock, case.case_id)
    text = f"Outcome corrected: {'failed' if correction.failed else 'had not failed'}, {correction.failure_mode}"
    detail = {**said, "before": first, "scored_anew": scored}
    await note(conn, clock, case, "outcome_corrected", text, detail, actor=actor)
    return scored


def _check(failed_at: datetime | None, failed: bool, now: datetime) -> None:
    if failed_at is None:
        return
    if not failed:
        raise BadInput("failed_at", "a component that had not failed has no time of failure")
    if failed_at > now:
        raise BadInput("failed_at", f"{failed_at.isoformat()} is still to come")
